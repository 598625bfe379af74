"""One product of an answer, as it came: checked by its header, decoded when it is looked at."""

import functools
from collections.abc import Mapping, Sequence

from ... import contract
from ..errors import InvalidResponseError
from ..pictures.files.jpeg import decode_jpeg, read_jpeg_size
from ..pictures.files.png import PNG_END, decode_png, read_png_header
from ..pictures.picture import Picture
from ..pictures.tiling import Array

# What a PNG of each product must be: bits of a sample, and channels.
_FORMS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    contract.MASK: ((1, 8), (1,)),
    contract.PROBABILITY: ((16,), (1,)),
    contract.CLASS_MAP: ((8, 16), (1,)),
    contract.MASKED_IMAGE: ((8, 16), (1, 2, 3, 4)),
}
_LARGEST_UNCHECKED = 1 << 28
"""Pixels that a picture may have in the answer where the sent one's size is not known here."""


class Output:
    """One product: a PNG or a JPEG, decoded when it is looked at, or an array from a pixel signature."""

    def __init__(self, png: bytes = b"", array: Array | None = None, jpeg: bytes = b""):
        self.png, self.jpeg = png, jpeg
        self._array = array

    @functools.cached_property
    def array(self) -> Array:
        """Its values: [H, W] or [H, W, C]."""
        if self._array is not None:
            return self._array
        return decode_jpeg(self.jpeg) if self.jpeg else decode_png(self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; nothing is decoded for it."""
        if self._array is not None:
            return self._array.shape[:2]
        return read_jpeg_size(self.jpeg) if self.jpeg else read_png_header(self.png).size


def encoded_output(product: str, file: bytes, picture: Picture) -> Output:
    """Returns a product from its file, or raises `InvalidResponseError` by its header; nothing is decoded."""
    is_jpeg = product == contract.MASKED_IMAGE_JPEG
    problem = ""
    if is_jpeg:
        size = read_jpeg_size(file)
    else:
        header, (bits, channels) = read_png_header(file), _FORMS[product]
        size = header.size
        if not file.endswith(PNG_END):
            problem = "is a PNG that is cut off"
        elif header.bits not in bits or header.channels not in channels:
            problem = f"is a PNG of {header.bits} bits, {header.channels or '?'} channels"
    problem = problem or _misfit(size, picture)
    if problem:
        raise InvalidResponseError(f"the {product} in the answer {problem}")
    return Output(jpeg=file) if is_jpeg else Output(file)


def _misfit(size: tuple[int, int], picture: Picture) -> str:
    """Returns what is wrong with the size of an answer to a picture; an empty text where nothing is."""
    if picture.size is not None:
        return "" if size == picture.size else f"is {size_text(size)}, the picture {size_text(picture.size)}"
    return f"claims to be {size_text(size)}" if size[0] * size[1] > _LARGEST_UNCHECKED else ""


def pixel_output(product: str, array: Array, picture: Picture) -> Output:
    """Returns a product from the array [H, W, C] of a pixel signature, of the sent picture's size."""
    if array.ndim != 3 or (picture.size is not None and array.shape[:2] != picture.size):
        sizes = f"{size_text(array.shape)}, the picture {size_text(picture.size or ())}"
        raise InvalidResponseError(f"the {product} in the answer is {sizes}")
    return Output(array=array)


def size_text(sizes: Sequence[int]) -> str:
    """Returns a size as people write it, such as 480×640."""
    return "×".join(map(str, sizes))
