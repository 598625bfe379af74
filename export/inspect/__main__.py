"""`python -m maskport.export.inspect` is `mask-inspect`."""

from ...serving.entry import inspect

if __name__ == "__main__":
    inspect()
