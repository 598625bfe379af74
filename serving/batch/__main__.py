"""`python -m maskport.serving.batch` is `mask-batch`."""

from ..entry import batch

if __name__ == "__main__":
    batch()
