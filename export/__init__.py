"""From a segmentation model to a SavedModel for TensorFlow Serving.

Names are loaded on first use, so that looking at a spec or at `--help` does not load TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        ExportError,
        PublishError,
        SourceError,
        SpecError,
        UnservableError,
        VerificationError,
    )
    from .exporter import export_model
    from .masks import (
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
    "errors": (
        "ExportError",
        "PublishError",
        "SourceError",
        "SpecError",
        "UnservableError",
        "VerificationError",
    ),
    "exporter": ("export_model",),
    "masks": (
        "ApplyMask",
        "BinaryMask",
        "MaskedLoss",
        "apply_mask_to_image",
        "create_binary_mask",
        "masked_loss",
    ),
    "spec": ("ExportSpec", "load_spec"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
