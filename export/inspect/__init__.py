"""Looking at a version directory: what it holds, how fast it is here, and how it is called.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Target
    from .errors import InspectError
    from .inspection import Inspection, inspect_version
    from .page import format_page
    from .text import format_inspection

__all__ = [
    "InspectError",
    "Inspection",
    "Target",
    "format_inspection",
    "format_page",
    "inspect_version",
]

_HOMES = {
    "InspectError": "errors",
    "Inspection": "inspection",
    "Target": "calls",
    "format_inspection": "text",
    "format_page": "page",
    "inspect_version": "inspection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
