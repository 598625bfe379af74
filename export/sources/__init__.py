"""Every kind of model file, loaded into one form: a `SegmentationModel`.

Names are loaded on first use, so that looking at a source does not load TensorFlow.
"""

from typing import TYPE_CHECKING

from ...serving.lazy_names import lazy_names

if TYPE_CHECKING:
    from .loading import adapt_keras_model, load_source

__all__ = ["adapt_keras_model", "load_source"]

_HOMES = {"adapt_keras_model": "loading", "load_source": "loading"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
