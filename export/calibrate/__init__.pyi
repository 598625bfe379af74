from .calibration import (
    Calibration as Calibration,
)
from .calibration import (
    calibrate as calibrate,
)
from .criteria import Recommendation as Recommendation
from .labels import CalibrationError as CalibrationError
from .pairs import (
    Pair as Pair,
)
from .pairs import (
    Pairing as Pairing,
)
from .pairs import (
    find_pairs as find_pairs,
)
from .spec_file import write_threshold as write_threshold
from .tally import (
    Curves as Curves,
)
from .tally import (
    Tally as Tally,
)
