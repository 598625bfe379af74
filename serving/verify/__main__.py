"""`python -m maskport.serving.verify` is `mask-verify`."""

from ..entry import verify

if __name__ == "__main__":
    verify()
