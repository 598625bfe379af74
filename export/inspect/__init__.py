"""Looking at a version directory: what it holds, how fast it is here, and how it is called.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
