"""`python -m maskport.export.inspect` is `mask-inspect`."""

from .cli import run

run()
