"""`python -m maskport.serving.server`."""

from .cli import run

if __name__ == "__main__":
    run()
