"""`python -m maskport.serving.server` is `mask-serve`."""

from ..entry import serve

if __name__ == "__main__":
    serve()
