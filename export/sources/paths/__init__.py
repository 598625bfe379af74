"""What lies at a path: on this machine or elsewhere, a file by its first bytes, a training's folder."""
