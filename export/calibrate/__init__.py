"""Choosing the threshold of an export from labelled pictures.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import Calibration, calibrate
    from .criteria import Recommendation
    from .errors import CalibrationError
    from .pairs import Pair, Pairing, find_pairs
    from .spec_file import write_threshold
    from .tally import Curves, Tally

__all__ = [
    "Calibration",
    "CalibrationError",
    "Curves",
    "Pair",
    "Pairing",
    "Recommendation",
    "Tally",
    "calibrate",
    "find_pairs",
    "write_threshold",
]

_HOMES = {
    "Calibration": "calibration",
    "CalibrationError": "errors",
    "Curves": "tally",
    "Pair": "pairs",
    "Pairing": "pairs",
    "Recommendation": "criteria",
    "Tally": "tally",
    "calibrate": "calibration",
    "find_pairs": "pairs",
    "write_threshold": "spec_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
