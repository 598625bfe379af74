from .calibration import (
    Calibration as Calibration,
    calibrate as calibrate,
)
from .criteria import Recommendation as Recommendation
from .labels import CalibrationError as CalibrationError
from .pairs import (
    Pair as Pair,
    Pairing as Pairing,
    find_pairs as find_pairs,
)
from .spec_file import write_threshold as write_threshold
from .tally import (
    Curves as Curves,
    Tally as Tally,
)
