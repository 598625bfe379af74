"""Every kind of model file, loaded into one form: a `SegmentationModel`."""

from .loading import adapt_keras_model, load_source
from .model import SegmentationModel

__all__ = ["SegmentationModel", "adapt_keras_model", "load_source"]
