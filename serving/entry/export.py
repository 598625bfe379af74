"""`mask-export`."""

from . import command

run = command("maskport.export.cli")
