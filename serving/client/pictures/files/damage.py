"""Errors of libraries that meet damaged pictures, as errors that name the picture."""

import contextlib
from collections.abc import Iterator

from ...errors import InvalidImageError, MaskServingError


@contextlib.contextmanager
def decoding(what: str, hint: str = "") -> Iterator[None]:
    """Says of which picture it is what goes wrong inside a library; only the system's own errors pass."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except MaskServingError:
        raise
    except (MemoryError, OverflowError) as error:
        raise InvalidImageError(f"{what} is too large to be read at once", hint="use segment_large()") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        words = f"it is damaged, or of an unknown kind ({str(error) or type(error).__name__})"
        if isinstance(error, UnidentifiedImageError):  # its own words name a buffer
            words = "it is damaged, or no picture that Pillow knows"
        raise InvalidImageError(f"{what} cannot be decoded: {words}", hint=hint) from error
