"""`mask-calibrate`."""

from . import command

run = command("maskport.export.calibrate.cli")
