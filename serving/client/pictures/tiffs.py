"""TIFF files, whole or by pieces; by the extra `large`."""

import contextlib
import functools
import io
import logging
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidImageError
from .channels import Choice, choose_page
from .files.damage import decoding
from .files.headers import xmp_orientation
from .tiff_samples import LAB, YCBCR, Samples, photometric_name
from .tiff_tags import GEO_TYPES, NODATA, GeoTags, import_tifffile
from .tiling import Array, Tile, stored_tile, turn

_CACHED_BYTES = 16 << 20
_REDUCED, _TRANSPARENCY = 1, 4
_OLD_JPEG = 6
_JPEG = (7, 34892, 33007)
_ORIENTATION, _XMP = 274, 700


class TiffImage:
    """One picture of a TIFF file, read upright and by pieces.

    Palettes, min-is-white, CMYK, YCbCr and Lab become gray or RGB; alpha is made unassociated; fewer than 8 bits
    become 8 at full scale. Samples of no known meaning stay as they are. Where pixels may be missing, `has_missing`
    is true, and masked arrays are read.
    """

    def __init__(self, file: str | os.PathLike[str] | bytes, name: str, choice: Choice):
        self._name = name
        tifffile = import_tifffile()
        # What it has to say of odd files is said by errors here.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        opened = io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file)
        with contextlib.ExitStack() as on_failure, decoding(name):
            self._file = on_failure.enter_context(tifffile.TiffFile(opened, _multifile=False))
            # Counted first: tifffile then sees a directory that leads back to an earlier one. Asked for one by one
            # such directories have no end.
            len(self._file.pages)
            pages = _pages_of(self._file)
            self._open(pages[choose_page([page.label for page in pages], choice, name)])
            on_failure.pop_all()

    def _open(self, page: "_Page") -> None:
        first = page.directories[0].keyframe
        is_subsampled = first.photometric == YCBCR and first.compression not in _JPEG and first.samplesperpixel > 1
        is_pillows = first.photometric == LAB or first.compression == _OLD_JPEG or is_subsampled
        self._samples = Samples(first, self._name, is_rgb=is_pillows)
        self._planes = [] if is_pillows else [_Plane(self._file, one, self._name) for one in page.directories]
        self._decoded = _decode_by_pillow(self._file, first, self._name) if is_pillows else None
        self.geo: GeoTags = {
            code: first.tags[code].value for code in GEO_TYPES if code in first.tags and first.tags[code].value
        }
        # A georeference is of the raster as it is stored, and who reads it pays no heed to orientation.
        self._orientation = 1 if self.geo or is_pillows else _orientation_of(first)
        height, width = self._planes[0].shape if self._decoded is None else self._decoded.shape[:2]
        if self._orientation >= 5:
            height, width = width, height
        self.channels = self._samples.channels  # such as `red`; other names where they have no meaning here
        if len(self._planes) > 1:
            self.channels = tuple(f"channel {k + 1}" for k in range(len(self._planes)))
        self.shape: tuple[int, ...] = (height, width, len(self.channels))
        self.dtype = self._samples.dtype
        self.full_scale = self._samples.full_scale  # None where it is not known: floats, signed and 32-bit integers
        nodata = first.tags.get(NODATA)
        self._nodata = _number(nodata.value) if nodata is not None and self._samples.is_plain else None
        self._mask = next((_Plane(self._file, mask, self._name) for mask in page.masks), None)
        self.has_missing = self._nodata is not None or self._mask is not None

    def read(self, tile: Tile) -> Array:
        """Returns a piece: [h, w, C]; a masked array where pixels may be missing."""
        stored = stored_tile(tile, self._orientation, self.shape)
        with decoding(self._name):
            if self._decoded is not None:
                raw = pixels = self._decoded[stored.box]
            elif len(self._planes) == 1:
                raw = self._planes[0].read(stored)
                pixels = self._samples.pixels(raw)
            else:
                raw = np.concatenate([plane.read(stored)[..., :1] for plane in self._planes], axis=2)
                pixels = self._samples.scale(raw)
            if self.has_missing:
                missing = np.zeros(pixels.shape[:2], bool)
                if self._nodata is not None:
                    missing |= (np.isnan(raw) if math.isnan(self._nodata) else raw == self._nodata).all(axis=2)
                if self._mask is not None:
                    missing |= self._mask.read(stored)[..., 0] == 0
                pixels = np.ma.MaskedArray(pixels, np.repeat(missing[..., None], pixels.shape[2], axis=2))
        return turn(pixels, self._orientation)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _Page(NamedTuple):
    """One picture of a file: a directory, or several that hold its channels, and the mask of its pixels, if any."""

    label: str
    directories: Sequence[Any]
    masks: Sequence[Any]


def _pages_of(file: Any) -> list[_Page]:
    """Returns the pictures of a file; overviews and transparency masks are none."""
    pages: list[_Page] = []
    masks_of_size: dict[tuple[int, int], list[Any]] = {}
    for page in file.pages:
        if not page.is_frame and _kind_of(page) == _TRANSPARENCY:
            masks_of_size.setdefault((page.imagelength, page.imagewidth), []).append(page)
    for series in file.series:
        first = series.keyframe
        # What hangs below another directory is a smaller copy of it.
        if first is None or first.is_subifd or _kind_of(first):
            continue
        if first.shaped[1] > 1:
            raise InvalidImageError(f"a volume of depth {first.shaped[1]}", hint="save its slices one by one")
        masks = masks_of_size.get((first.imagelength, first.imagewidth), [])
        leading = [(axis, count) for axis, count in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        names, counts = [axis for axis, _ in leading], [count for _, count in leading]
        # A series whose axes were left out says too little to tell its channels from its slices.
        order = np.arange(math.prod(counts)).reshape(*counts, 1)
        if "C" in names and first.samplesperpixel == 1:
            order = np.moveaxis(order[..., 0], names.index("C"), -1)
            names.remove("C")
        for place in np.ndindex(order.shape[:-1]):
            directories = [series.pages[int(index)] for index in order[place]]
            if any(directory is None for directory in directories):
                raise InvalidImageError("a part of its pictures lies in other files", hint="save it as one file")
            at = " ".join(f"{axis}{k + 1}" for axis, k in zip(names, place, strict=True) if axis in "TZRMHVE")
            pages.append(_Page(_label(series, first, len(directories), at), directories, masks))
    return pages


def _kind_of(page: Any) -> int:
    return int(page.subfiletype or 0) & (_REDUCED | _TRANSPARENCY)


def _label(series: Any, page: Any, channels: int, at: str) -> str:
    kind = "" if series.kind in ("generic", "uniform", "shaped") else str(series.name or "")
    samples = channels if channels > 1 else page.samplesperpixel
    form = f"{page.imagelength}×{page.imagewidth} of {samples} × {page.bitspersample} bits"
    return " ".join(word for word in (kind, at, form) if word)


class _Plane:
    """Reads the tiles or strips of one directory as they are stored, keeping a few that were decoded."""

    def __init__(self, file: Any, directory: Any, name: str):
        self._file, self._directory, self._name = file.filehandle, directory, name
        self._page = page = directory.keyframe
        self.shape = (int(page.imagelength), int(page.imagewidth))
        if 0 in self.shape or page.dtype is None:
            raise InvalidImageError(f"{name} holds no pixels that can be read")
        self._samples = int(page.samplesperpixel)
        self._planes = self._samples if page.planarconfig == 2 else 1
        self._piece = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.shape[1])
        piece_bytes = math.prod(self._piece) * self._samples // self._planes * page.dtype.itemsize
        self._decoded = functools.lru_cache(max(1, _CACHED_BYTES // piece_bytes))(self._decode)

    def read(self, tile: Tile) -> Array:
        """Returns samples [h, w, S]."""
        result = np.zeros((*tile.shape, self._samples), self._page.dtype)
        high, wide = self._piece
        across, down = -(-self.shape[1] // wide), -(-self.shape[0] // high)
        for plane in range(self._planes):
            part = result[..., plane : plane + 1] if self._planes > 1 else result
            for row in range(tile.rows.start // high, -(-tile.rows.stop // high)):
                for column in range(tile.columns.start // wide, -(-tile.columns.stop // wide)):
                    piece = self._decoded((plane * down + row) * across + column)
                    to_rows, rows = _shared(tile.rows, row * high, piece.shape[0])
                    to_columns, columns = _shared(tile.columns, column * wide, piece.shape[1])
                    part[to_rows, to_columns] = piece[rows, columns]
        return result

    def _decode(self, index: int) -> Array:
        directory, page = self._directory, self._page
        data = None
        if directory.databytecounts[index]:
            self._file.seek(directory.dataoffsets[index])
            data = self._file.read(directory.databytecounts[index])
            if len(data) < directory.databytecounts[index]:
                raise InvalidImageError(f"{self._name} ends before its last pixels: it is cut off")
        decoded, _, shape = page.decode(data, index, jpegtables=directory.jpegtables)
        if decoded is None:  # a piece that was never written
            decoded = np.full(shape, page.nodata, page.dtype)
        return np.asarray(decoded[0])


def _shared(span: range, start: int, length: int) -> tuple[slice, slice]:
    """Returns what a span shares with a piece: as the span counts, and as the piece does."""
    first, last = max(span.start, start), min(span.stop, start + length)
    return slice(first - span.start, last - span.start), slice(first - start, last - start)


def _decode_by_pillow(file: Any, page: Any, name: str) -> Array:
    """Returns a page of a kind that only libtiff knows, upright and as RGB."""
    from PIL import Image, UnidentifiedImageError

    file.filehandle.seek(0)
    try:
        with Image.open(io.BytesIO(file.filehandle.read()), formats=("TIFF",)) as picture:
            picture.seek(page.index)
            return np.array(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        words = f"{name} holds {photometric_name(page)} of {page.samplesperpixel} × {page.bitspersample} bits"
        raise InvalidImageError(words, hint="convert it to RGB") from error


def _orientation_of(page: Any) -> int:
    """Returns what a page's tag says, or its XMP where it has none: 1 to 8."""
    tag, packet = page.tags.get(_ORIENTATION), page.tags.get(_XMP)
    if tag is not None:
        return int(tag.value) if tag.value in range(1, 9) else 1
    return xmp_orientation(packet.value) if packet is not None and isinstance(packet.value, bytes) else 1


def _number(text: Any) -> float | None:
    with contextlib.suppress(ValueError):
        return float(str(text).strip("\0 "))
    return None
