"""From a segmentation model to a SavedModel for TensorFlow Serving.

Names are loaded on first use, so that looking at a spec or at `--help` does not load TensorFlow.
"""

from typing import TYPE_CHECKING

from ..serving.lazy_names import lazy_names

if TYPE_CHECKING:
    from .entry import export_model
    from .errors import ExportError, PublishError, SourceError, SpecError, UnservableError, VerificationError
    from .masks.operations import (
        ApplyMask,
        BinaryMask,
        MaskedLoss,
        apply_mask_to_image,
        create_binary_mask,
        masked_loss,
    )
    from .spec import ExportSpec, load_spec

__all__ = [
    "ApplyMask",
    "BinaryMask",
    "ExportError",
    "ExportSpec",
    "MaskedLoss",
    "PublishError",
    "SourceError",
    "SpecError",
    "UnservableError",
    "VerificationError",
    "apply_mask_to_image",
    "create_binary_mask",
    "export_model",
    "load_spec",
    "masked_loss",
]

_HOMES = {
    "ApplyMask": "masks",
    "BinaryMask": "masks",
    "ExportError": "errors",
    "ExportSpec": "spec",
    "MaskedLoss": "masks",
    "PublishError": "errors",
    "SourceError": "errors",
    "SpecError": "errors",
    "UnservableError": "errors",
    "VerificationError": "errors",
    "apply_mask_to_image": "masks",
    "create_binary_mask": "masks",
    "export_model": "entry",
    "load_spec": "spec",
    "masked_loss": "masks",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
