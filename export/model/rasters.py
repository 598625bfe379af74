"""Rasters on disk, plain TIFF and .npy files, as the pixel signatures take them."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...serving import contract

ENDINGS = (".tif", ".tiff", ".npy")
"""Of files that are read here, in small letters."""

_ORIENTATION, _GEO_KEYS, _NODATA = 274, 34735, 42113
_ALPHAS = (1, 2)


class Raster(NamedTuple):
    """Pixels, and where there are none."""

    pixels: npt.NDArray[Any]  # [H, W, C]
    missing: npt.NDArray[np.bool_]  # [H, W]; the pixels are 0 there


def read_raster(path: Path, channels: int, dtype: str) -> Raster:
    """Reads pixels of a dtype for a model of so many channels; what is for pictures may have 1 to 4.

    Raises:
        ValueError: the file holds something else: what, and what is wanted.
        OSError: it cannot be read.
    """
    is_npy = path.suffix.lower() == ".npy"
    pixels, missing = _read_npy(path) if is_npy else _read_tiff(path, channels)
    count, wanted = pixels.shape[2], np.dtype(dtype)
    if (count > 4) if channels in contract.IMAGE_CHANNELS else (count != channels):
        raise ValueError(f"holds {count} channels, the model takes {channels}")
    if pixels.dtype.kind == "f":
        missing |= ~np.isfinite(pixels).all(axis=2)
    pixels = np.where(missing[..., np.newaxis], pixels.dtype.type(0), pixels)
    low, top = pixels.min(), pixels.max()
    # Signed and wider integers mean their values; 8 bits in place of 16, and fractions, mean another scale.
    is_value = pixels.dtype.kind in "iu" and pixels.dtype not in (np.uint8, np.uint16) and wanted.kind == "u"
    if pixels.dtype.kind == wanted.kind == "f" or (is_value and low >= 0 and top <= np.iinfo(wanted).max):
        pixels = pixels.astype(wanted)
    if pixels.dtype != wanted:
        raise ValueError(f"holds {pixels.dtype} from {low:g} to {top:g}, the model takes {wanted}: convert it")
    return Raster(pixels, missing)


def _read_npy(path: Path) -> Raster:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.dtype.kind not in "iuf" or not array.size:
        raise ValueError("holds no picture: wanted one array of numbers, [H, W] or [H, W, C]")
    return Raster(array.reshape(*array.shape[:2], -1), np.zeros(array.shape[:2], bool))


def _read_tiff(path: Path, channels: int) -> Raster:
    try:
        import imagecodecs  # noqa: F401  (what tifffile decodes by)
        import tifffile
    except ImportError:
        raise ValueError("TIFF files need tifffile and imagecodecs: pip install 'maskport[large]'") from None
    try:
        with tifffile.TiffFile(path) as file:
            len(file.pages)  # or directories that lead in a circle have no end
            series, page = file.series[0], file.series[0].keyframe
            axes = {axis: count for axis, count in zip(series.axes, series.shape, strict=True) if count > 1}
            kind = getattr(page.photometric, "name", "unknown")
            alphas = [int(extra) in _ALPHAS for extra in page.extrasamples]
            tags = {code: page.tags[code].value for code in (_ORIENTATION, _GEO_KEYS, _NODATA) if code in page.tags}
            others = [axis for axis in axes if axis not in "YX"]
            if kind not in ("MINISBLACK", "RGB") or len(others) > 1:
                raise ValueError(f"is a TIFF of the kind {kind.lower()} {series.axes}: save it as plain bands")
            if tags.get(_ORIENTATION, 1) != 1 and _GEO_KEYS not in tags:
                raise ValueError("is turned by its orientation tag: save it upright")
            stored = np.asarray(series.asarray())
    except ValueError:
        raise
    except Exception as error:  # whatever a broken file leads tifffile and its decoders to
        raise ValueError(f"cannot be read: {error}") from error
    place = {axis: at for at, axis in enumerate(series.axes)}
    order = [place[axis] for axis in ("Y", "X", *others)]
    stored = stored.transpose(*order, *(at for at in range(stored.ndim) if at not in order))
    pixels = stored.reshape(*stored.shape[:2], -1)
    if sum(alphas) and pixels.shape[2] - sum(alphas) == channels:
        is_band = [True] * (pixels.shape[2] - len(alphas)) + [not is_alpha for is_alpha in alphas]
        pixels = pixels[..., is_band]
    missing = np.zeros(pixels.shape[:2], bool)
    if _NODATA in tags:
        nodata = float(str(tags[_NODATA]).strip("\0 ") or "nan")
        missing = (np.isnan(pixels) if math.isnan(nodata) else pixels == nodata).all(axis=2)
    return Raster(pixels, missing)
