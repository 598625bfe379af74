"""`python -m maskport.serving.client` is `mask-client`."""

from ..entry import client

if __name__ == "__main__":
    client()
