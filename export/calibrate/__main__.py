"""`python -m maskport.export.calibrate` is `mask-calibrate`."""

from .cli import run

run()
