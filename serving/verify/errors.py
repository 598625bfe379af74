"""What keeps a verification from being made at all. That a model fails it is a report, not an error."""


class VerificationError(Exception):
    """The check cannot be made."""


class GoldenError(VerificationError):
    """The golden requests of an export are missing or damaged."""


class LabelError(VerificationError):
    """A label cannot be moved so."""
