"""A picture as a model takes it, whole or by pieces: its channels, and values of the right kind."""

from typing import Any

import numpy as np

from ..errors import InvalidImageError
from .arrays import ArrayPicture, split_missing
from .channels import Choice, ModelInput, bands_of_array, choose_channels
from .tiffs import TiffImage
from .tiling import Array, Tile

_SCANNED_ROWS = 256
_NEARLY_BLACK = 1 << 12
"""What 16-bit values must reach not to be a sixteenth of white: a model of 8 bits would see nothing in less."""


class Source:
    """A picture, named in errors, that is read by pieces as a model takes it: uint8, uint16 or float."""

    def __init__(self, raw: ArrayPicture | TiffImage, name: str, choice: Choice, model: ModelInput):
        self._raw, self._name, self._model = raw, name, model
        # Nobody has said what the channels of an array mean.
        are_bands = model.takes_bands and isinstance(raw, ArrayPicture) and not raw.is_decoded
        channels = bands_of_array(raw.shape[2]) if are_bands else raw.channels
        chosen = choose_channels(channels, choice, model, name)
        self._chosen = None if chosen == list(range(len(raw.channels))) else chosen
        self.shape = (raw.shape[0], raw.shape[1], len(chosen))
        self.geo, self.has_missing = raw.geo, raw.has_missing
        self._top = 0
        if raw.dtype.kind != "f":
            self.dtype = self._dtype_of_integers()
        elif model.dtype is None or model.dtype.kind == "f":
            self.dtype = model.dtype or np.dtype(np.float32)
        else:
            raise InvalidImageError(
                f"{name} holds {raw.dtype}, and the model takes {model.dtype} pixels",
                hint="scale it to 0..255 as uint8, or export the model with image_dtype: float32",
            )

    def read(self, tile: Tile) -> tuple[Array, Array | None]:
        """Returns a piece, [h, w, C], and where it has no data, [h, w]; None where it has some everywhere."""
        pixels, missing = self._chosen_of(tile)
        if self.dtype == np.uint8 and pixels.dtype == np.uint16:
            pixels = pixels.astype(np.uint32) * 255 // (self._raw.full_scale or 0xFFFF)
        elif self.dtype == np.uint16:
            self._top = max(self._top, int(pixels.max()))
        return pixels.astype(self.dtype, copy=False), missing

    def check_all_read(self) -> None:
        """Makes sure that the pieces that were read were not black to the model."""
        if self._model.dtype == np.uint8 and self.dtype == np.uint16:
            check_not_black(self._top, self._name)

    def close(self) -> None:
        """Closes what was opened."""
        self._raw.close()

    def _chosen_of(self, tile: Tile) -> tuple[Array, Array | None]:
        piece = self._raw.read(tile)
        return split_missing(piece if self._chosen is None else piece[:, :, self._chosen])

    def _dtype_of_integers(self) -> np.dtype[Any]:
        raw, model = self._raw, self._model
        if raw.dtype == np.uint8:
            return raw.dtype
        if raw.dtype == np.uint16:
            is_scaled = raw.full_scale not in (None, 0xFFFF) and model.dtype == np.uint8
            return np.dtype(np.uint8) if is_scaled else raw.dtype
        # What these mean is seen by their values, and all tiles must mean the same.
        low, top = 0, 0
        height, width = self.shape[:2]
        for start in range(0, height, _SCANNED_ROWS):
            pixels, _ = self._chosen_of(Tile(range(start, min(start + _SCANNED_ROWS, height)), range(width)))
            low, top = min(low, int(pixels.min())), max(top, int(pixels.max()))
        if low < 0 or top > 0xFFFF:
            raise InvalidImageError(
                f"{self._name} holds {raw.dtype} from {low} to {top}, outside 0..65535",
                hint=f"scale it: {_interpolated(low, top)} makes all of it 8 bits",
            )
        return np.dtype(np.uint8 if top <= 0xFF and model.dtype != np.uint16 else np.uint16)


def check_not_black(top: int, name: str) -> None:
    """Raises `InvalidImageError` where a model of 8 bits sees but black in 16 bits of which `top` is the greatest."""
    if 0 < top < _NEARLY_BLACK:
        raise InvalidImageError(
            f"{name} holds 16-bit values up to {top} of 65535: black to the model, which takes 8 bits",
            hint=f"scale it: {_interpolated(0, top)} makes {top} white",
        )


def _interpolated(low: int, top: int) -> str:
    return f"numpy.interp(a, ({low}, {top}), (0, 255)).astype(numpy.uint8)"
