"""Every kind of model file, loaded into one form: a `SegmentationModel`.

Names are loaded on first use, so that looking at a source does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
