"""`mask-inspect`."""

from . import command

run = command("maskport.export.inspect.cli")
