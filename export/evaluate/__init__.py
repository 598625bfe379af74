"""Measuring an exported model on labelled pictures, and deciding whether it may be served.

Names are loaded on first use, so that importing this does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
