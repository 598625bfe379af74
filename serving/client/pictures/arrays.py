"""Arrays as pictures, in memory or mapped: which may be one, and their pixels by pieces."""

import contextlib
import math
import mmap
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import InvalidImageError
from .channels import Choice, channels_of_array
from .tiff_tags import GeoTags
from .tiling import Array, Tile

_MOST_CHANNELS = max(contract.BAND_CHANNELS)
_WANTED = "an array is uint8 or uint16 (or float for models that take it), [H, W] or [H, W, channels]"
_CHOOSE = "; choose of more channels with bands="
_MAPPED_ROWS = 64


class ArrayPicture:
    """An array [H, W] or [H, W, C] that is read by pieces: anything with `shape`, `dtype` and slices.

    It is masked where pixels are missing. Attributes are as `TiffImage` has them.
    """

    def __init__(
        self,
        array: Any,
        choice: Choice,
        what: str = "an array",
        *,
        channels: Sequence[str] | None = None,  # None is as for any array
        full_scale: int | None = None,  # None is the dtype's
        geo: GeoTags | None = None,
        is_decoded: bool = False,  # it comes from a file or Pillow's picture, and may be of any integers
    ):
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        _check_shape(array, what, is_any_depth=is_decoded or choice.bands is not None)
        is_usual = self.dtype.kind == "f" or self.dtype in (np.uint8, np.uint16)
        if not is_usual and not (is_decoded and self.dtype.kind in "iu"):
            raise InvalidImageError(f"{what} of {self.dtype} is no image", hint=_how_to_convert(array, self.dtype))
        self.shape: tuple[int, ...] = (*array.shape[:2], math.prod(array.shape[2:]))
        self.channels = tuple(channels or channels_of_array(self.shape[2]))
        self.full_scale, self.is_decoded = full_scale, is_decoded
        self.geo = geo or MappingProxyType({})
        self.has_missing = isinstance(array, np.ma.MaskedArray) or self.dtype.kind == "f"
        self._array, self._map = array, map_of(array)

    def read(self, tile: Tile) -> Array:
        """Returns a piece, [h, w, C]; a view where it lies in memory."""
        shape = (*tile.shape, self.shape[2])
        if self._map is None or isinstance(self._array, np.ma.MaskedArray):
            piece = self._array[tile.box]
            piece = piece if isinstance(piece, np.ma.MaskedArray) else np.asarray(piece)
            return piece.astype(self.dtype, copy=False).reshape(shape)
        copied = np.empty(shape, self.dtype)
        for strip in strips(tile.rows, self._map):
            rows = slice(strip.start - tile.rows.start, strip.stop - tile.rows.start)
            copied[rows] = self._array[Tile(strip, tile.columns).box].reshape(-1, *shape[1:])
        return copied

    def close(self) -> None:
        """Does nothing: who gave the array closes it."""


def _check_shape(array: Any, what: str, *, is_any_depth: bool) -> None:
    shape = tuple(array.shape)
    hint = _WANTED
    if len(shape) in (2, 3) and 0 not in shape:
        if len(shape) == 2 or shape[2] <= _MOST_CHANNELS or is_any_depth:
            return
        is_channels_first = shape[0] <= _MOST_CHANNELS
        hint = "its channels come first: give numpy.moveaxis(array, 0, -1)" if is_channels_first else f"{hint}{_CHOOSE}"
    raise InvalidImageError(f"{what} of shape {list(shape)} is no image", hint=hint)


def _how_to_convert(array: Any, dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "array.astype(numpy.uint8) * 255 is one"
    if dtype.kind == "c":
        return "take its numpy.abs(), scaled to 0..255 as uint8"
    if dtype.kind == "O":
        return "it holds Python objects: make it one array of numbers"
    if dtype.kind not in "iu" or not isinstance(array, np.ndarray):
        return _WANTED
    low, top = int(array.min()), int(array.max())
    fitting = f"array.astype(numpy.{'uint8' if top <= 0xFF else 'uint16'}) is one"
    return f"it holds {low} to {top}: {fitting if low >= 0 and top <= 0xFFFF else 'scale it to 0..255 as uint8'}"


def split_missing(array: Array) -> tuple[Array, npt.NDArray[np.bool_] | None]:
    """Returns pixels [H, W, C] with 0 where there are none, and where that is: [H, W], None if nowhere.

    Masked arrays say it by their mask, floats by NaN and infinity; a pixel that lacks one channel lacks all.
    """
    missing: Array = np.zeros(array.shape[:2], bool)
    if isinstance(array, np.ma.MaskedArray):
        missing |= np.ma.getmaskarray(array).any(axis=2)
        array = np.asarray(array.data)
    if array.dtype.kind == "f":
        missing |= ~np.isfinite(array).all(axis=2)
    if not missing.any():
        return array, None
    return np.where(missing[..., np.newaxis], array.dtype.type(0), array), missing


def map_of(array: Any) -> mmap.mmap | None:
    """Returns the mapped file that an array lies in; None if it lies in memory.

    So does what was written to a private map: with its memory it would be lost.
    """
    owner = None
    while array is not None and not isinstance(array, mmap.mmap):
        owner, array = array, getattr(array, "base", None)
    is_writeable = isinstance(owner, np.ndarray) and owner.flags.writeable
    return None if is_writeable and getattr(owner, "mode", None) not in ("r+", "w+") else array


def strips(rows: range, mapped: mmap.mmap | None) -> Iterator[range]:
    """Yields rows in strips: of a mapped file few, as the system maps far more around each than is asked for.

    The memory of a mapped file's pages is given back after each; what was written to them is in the system's cache.
    """
    step = len(rows) if mapped is None else _MAPPED_ROWS
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
        if mapped is not None:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                mapped.madvise(mmap.MADV_DONTNEED)
