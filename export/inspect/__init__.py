"""Looking at a version directory: what it holds, how fast it is here, and how it is called.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

from typing import TYPE_CHECKING

from ...serving.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
