"""`python -m maskport.serving.batch` is `mask-batch`."""

from .cli import run

if __name__ == "__main__":
    run()
