"""`mask-verify`."""

from . import command

run = command("maskport.serving.verify.cli")
