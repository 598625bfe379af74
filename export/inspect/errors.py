"""What can go wrong in an inspection."""

from ..errors import ExportError


class InspectError(ExportError):
    """A directory that cannot be inspected, or a picture that cannot be used. The text is one line."""
