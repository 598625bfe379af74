"""`mask-serve`."""

from . import command

run = command("maskport.serving.server.cli")
