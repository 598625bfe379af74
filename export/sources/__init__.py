"""Every kind of model file, loaded into one form: a `SegmentationModel`."""

from .loading import load_source
from .model import SegmentationModel

__all__ = ["SegmentationModel", "load_source"]
