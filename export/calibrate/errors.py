"""What can go wrong in a calibration."""

from ..errors import ExportError


class CalibrationError(ExportError):
    """No threshold can be recommended, or it cannot be written. The text is one line for the person who runs it."""
