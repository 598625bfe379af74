"""`python -m maskport.export` is `mask-export`."""

from ..serving.entry import export

if __name__ == "__main__":
    export()
