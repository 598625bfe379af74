"""From a segmentation model to a SavedModel for TensorFlow Serving.

Names are loaded on first use, so that looking at a spec or at `--help` does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
