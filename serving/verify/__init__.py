"""The deployment gate: does a running server answer what the exported model did? No TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
