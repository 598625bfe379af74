"""What can go wrong in an export. Each error's text is one line for the person who runs it.

ExportError
├── SpecError           the spec: unknown key, wrong type, impossible combination
├── SourceError         the model: not found, not loadable, ambiguous, random weights
├── UnservableError     the graph: would not run, or must not run, on a stock TensorFlow Serving
├── VerificationError   what was written does not answer as the model does
├── PublishError        the version directory: not writable, taken, no room
├── CalibrationError    a calibration: no threshold can be recommended, or it cannot be written
├── EvaluationError     an evaluation: nothing to measure, or nothing that it can be measured on
└── InspectError        an inspection: nothing there, or something in it is broken
"""


class ExportError(Exception):
    """Base of all errors of an export."""


class SpecError(ExportError):
    """A spec that cannot be followed. The text names the key."""


class SourceError(ExportError):
    """A model that cannot be loaded, or of which it is unclear what is to be exported."""


class UnservableError(ExportError):
    """A graph that a stock TensorFlow Serving cannot run, or that would touch its host."""


class VerificationError(ExportError):
    """The written SavedModel answers differently from the model in memory."""


class PublishError(ExportError):
    """The version directory cannot be published."""


class CalibrationError(ExportError):
    """No threshold can be recommended, or it cannot be written."""


class EvaluationError(ExportError):
    """A model cannot be measured, or there is nothing that it can be measured on."""


class InspectError(ExportError):
    """There is nothing to inspect, or it is broken."""
