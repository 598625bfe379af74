"""Masks of any number of pictures by Apache Beam: a transform, and the job that `mask-batch` runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
