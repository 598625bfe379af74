"""Looking at TensorFlow Lite files, without TensorFlow, so that what is no model is said before it starts."""

from pathlib import Path

from ...errors import SourceError
from ..paths.contents import HEAD_BYTES, check_content

SUFFIX = ".tflite"
MARK = b"TFL3"


def check_tflite_file(path: str) -> None:
    """SourceError where a file on this machine is no TensorFlow Lite model."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"source {path}: cannot be read: {error.strerror}") from error
    check_head(head, f"source {path}")


def check_head(head: bytes, where: str) -> None:
    """SourceError where the first bytes of a file are not those of a TensorFlow Lite model."""
    check_content(head, where)
    if head[4:8] != MARK:
        raise SourceError(f"{where}: it is no TensorFlow Lite model (its bytes 4 to 8 are not {MARK.decode()})")
