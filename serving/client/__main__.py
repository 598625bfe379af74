"""`python -m maskport.serving.client`."""

from .cli import run

if __name__ == "__main__":
    run()
