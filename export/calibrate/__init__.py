"""Choosing the threshold of an export from labelled pictures.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
