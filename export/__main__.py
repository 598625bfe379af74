"""`python -m maskport.export` is `mask-export`."""

from .cli import run

run()
