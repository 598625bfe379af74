"""The command line, `mask-client`."""
