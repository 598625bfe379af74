"""`python -m maskport.serving.verify` is `mask-verify`."""

from .cli import run

if __name__ == "__main__":
    run()
