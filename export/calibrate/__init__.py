"""Choosing the threshold of an export from labelled pictures.

Names are loaded on first use, so that `--help` does not load TensorFlow.
"""

from typing import TYPE_CHECKING

from ...serving.lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
