"""`mask-client`."""

from . import command

run = command("maskport.serving.client.cli")
