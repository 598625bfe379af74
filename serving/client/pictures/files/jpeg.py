"""JPEG files that are answered."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InvalidResponseError
from .headers import read_header

_END = b"\xff\xd9"


def read_jpeg_size(data: bytes) -> tuple[int, int]:
    """Returns the height and width of a whole JPEG, or raises `InvalidResponseError`; nothing is decoded."""
    header = read_header(data)
    if header is None or header.format != "jpeg" or header.size is None:
        raise InvalidResponseError("a picture in the answer is no JPEG")
    if not data.endswith(_END):
        raise InvalidResponseError("a picture in the answer is a JPEG that is cut off")
    return header.size


def decode_jpeg(data: bytes) -> npt.NDArray[Any]:
    """Returns a JPEG's samples, uint8 [H, W] or [H, W, 3]; its size must have been checked before."""
    from PIL import JpegImagePlugin

    size = read_jpeg_size(data)
    try:
        # Not Image.open, which has its own opinion of what is too large.
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
            if sorted(picture.size) != sorted(size):  # which could be gigabytes, too
                raise ValueError("its header is followed by another one, of another size")
            return np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidResponseError(f"a picture in the answer cannot be decoded: {error}") from error
