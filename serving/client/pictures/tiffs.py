"""TIFF files, whole or by pieces, with the meaning of their samples; by the extra `large`."""

import contextlib
import dataclasses
import io
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError, UnsupportedCallError
from .channels import ALPHA, BLUE, GRAY, GREEN, RED, Choice, choose_page
from .image_headers import xmp_orientation
from .tiling import Span, Tile

if TYPE_CHECKING:
    from PIL import TiffImagePlugin

Array = npt.NDArray[Any]
GeoTags = Mapping[int, Any]
"""TIFF tags that say where on Earth a raster lies."""

_CACHED_BYTES = 16 << 20
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _LAB = (0, 1, 2, 3, 4, 5, 6, 8)
_COLOURS = {_RGB: 3, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_REDUCED, _TRANSPARENCY = 1, 4
_OLD_JPEG = 6
_JPEG = (7, 34892, 33007)
_ORIENTATION, _EXTRA_SAMPLES, _INK_SET, _XMP, _NODATA = 274, 338, 332, 700, 42113
_ASCII, _SHORT, _DOUBLE = 2, 3, 12
_GEO_TYPES = {
    33550: _DOUBLE,  # ModelPixelScale
    33920: _DOUBLE,  # Intergraph's matrix
    33922: _DOUBLE,  # ModelTiepoint
    34264: _DOUBLE,  # ModelTransformation
    34735: _SHORT,  # GeoKeyDirectory
    34736: _DOUBLE,  # GeoDoubleParams
    34737: _ASCII,  # GeoAsciiParams
    50844: _DOUBLE,  # rational polynomial coefficients
}
HOW_TO_INSTALL = "install it with: pip install 'maskport[large]'"


class TiffImage:
    """One picture of a TIFF file, read upright and by pieces.

    Palettes, min-is-white, CMYK, YCbCr and Lab become gray or RGB; alpha is made unassociated; fewer than 8 bits
    become 8 at full scale. Samples of no known meaning stay as they are.

    Args:
        file: a path, or the file's bytes.
        name: for errors.
        choice: of the page.

    Attributes:
        shape: height, width and channels of the upright picture.
        dtype: of its pixels.
        full_scale: the value that means white, where the file says how many bits it has; None for floats, signed
            and 32-bit integers.
        channels: what each is: `gray`, `red`, `green`, `blue`, `alpha`, or another name where it has no meaning here.
        geo: its place on Earth, as TIFF tags; empty where it has none. Such a picture is not turned.
        has_missing: whether pixels may be missing: `read` then gives masked arrays.

    Raises:
        InvalidImageError: it cannot be read, or holds several pages and none is chosen.
        UnsupportedCallError: the extra `large` is missing.
        OSError: it cannot be read.
    """

    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    full_scale: int | None

    def __init__(self, file: str | os.PathLike[str] | bytes, name: str, choice: Choice):
        self._name = name
        tifffile = import_tifffile()
        # What it has to say of odd files is said by errors here.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        with _readable(name):
            self._file = tifffile.TiffFile(
                io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file), _multifile=False
            )
        try:
            with _readable(name):
                pages = _pages_of(self._file)
                page = pages[choose_page([page.label for page in pages], choice, name)]
                self._open(page)
        except BaseException:
            self._file.close()
            raise

    def _open(self, page: "_Page") -> None:
        first = page.directories[0].keyframe
        is_subsampled = first.photometric == _YCBCR and first.compression not in _JPEG and first.samplesperpixel > 1
        is_pillows = first.photometric == _LAB or first.compression == _OLD_JPEG or is_subsampled
        self._meaning = _Meaning(first, self._name, is_rgb=is_pillows)
        self._planes: list[_Plane | _PillowPlane]
        if is_pillows:
            self._planes = [_PillowPlane(self._file, first, self._name)]
        else:
            self._planes = [_Plane(self._file, directory, self._name) for directory in page.directories]
        self.geo: GeoTags = {
            code: first.tags[code].value for code in _GEO_TYPES if code in first.tags and first.tags[code].value
        }
        # A georeference is of the raster as it is stored, and who reads it pays no heed to orientation.
        self._orientation = 1 if self.geo or is_pillows else _orientation_of(first)
        self._stored = self._planes[0].shape
        height, width = self._stored[::-1] if self._orientation >= 5 else self._stored
        names = self._meaning.channels
        self.channels = names if len(self._planes) == 1 else tuple(f"channel {k + 1}" for k in range(len(self._planes)))
        self.shape: tuple[int, ...] = (height, width, len(self.channels))
        self.dtype, self.full_scale = self._meaning.dtype, self._meaning.full_scale
        nodata = first.tags.get(_NODATA)
        self._nodata = _number(nodata.value) if nodata is not None and self._meaning.is_plain else None
        self._mask = next((_Plane(self._file, mask, self._name) for mask in page.masks), None)
        self.has_missing = self._nodata is not None or self._mask is not None

    def read(self, tile: Tile) -> Array:
        """Returns a piece: [h, w, C]; a masked array where pixels may be missing.

        Raises:
            InvalidImageError: it is damaged.
        """
        stored = _stored_tile(tile, self._orientation, self.shape[:2])
        with _readable(self._name):
            pieces = [plane.read(stored) for plane in self._planes]
            raw = pieces[0] if len(pieces) == 1 else np.concatenate([piece[..., :1] for piece in pieces], axis=2)
            pixels = self._meaning.apply(raw) if len(pieces) == 1 else self._meaning.scale(raw)
            if self.has_missing:
                missing = np.zeros(pixels.shape[:2], bool)
                if self._nodata is not None:
                    is_nodata = np.isnan(raw) if math.isnan(self._nodata) else raw == self._nodata
                    missing |= is_nodata.all(axis=2)
                if self._mask is not None:
                    missing |= self._mask.read(stored)[..., 0] == 0
                pixels = np.ma.MaskedArray(pixels, np.repeat(missing[..., None], pixels.shape[2], axis=2))
        return turn(pixels, self._orientation)

    def read_all(self) -> Array:
        """Returns the whole picture, as `read` does."""
        return self.read(Tile(Span(0, self.shape[0]), Span(0, self.shape[1])))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def import_tifffile() -> Any:
    """Returns the package tifffile.

    Raises:
        UnsupportedCallError: the extra `large` is missing.
    """
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError as error:
        raise UnsupportedCallError(
            "TIFF files need the packages tifffile and imagecodecs", hint=HOW_TO_INSTALL
        ) from error
    return tifffile


def has_tifffile() -> bool:
    """Returns whether the extra `large` is installed."""
    try:
        import_tifffile()
    except UnsupportedCallError:
        return False
    return True


def check_read_by_pillow(picture: "TiffImagePlugin.TiffImageFile", name: str) -> None:
    """Makes sure that Pillow alone reads a TIFF's very pixels.

    Raises:
        UnsupportedCallError: it would lose some, or not know what is missing.
    """
    tags: Any = picture.tag_v2
    bits, extra = tags.get(258, (1,)), tags.get(_EXTRA_SAMPLES, ())
    photometric = tags.get(262, _MIN_IS_BLACK)
    problem = None
    if max(bits) > 8 and (tuple(bits) != (16,) or photometric != _MIN_IS_BLACK):
        problem = f"{len(bits)} × {max(bits)} bits a pixel"
    elif any(kind not in (1, 2) for kind in extra):
        problem = "bands beyond its colours"
    elif any(kind != 1 for kind in tags.get(339, (1,))):
        problem = "signed or floating-point samples"
    elif tags.get(284, 1) != 1:
        problem = "planes of samples"
    elif getattr(picture, "n_frames", 1) > 1:
        problem = "several directories"
    elif _NODATA in tags:
        problem = "pixels without data"
    if problem is not None:
        raise UnsupportedCallError(
            f"{name} is a TIFF with {problem}, which need the packages tifffile and imagecodecs", hint=HOW_TO_INSTALL
        )


def geo_of_pillow(picture: "TiffImagePlugin.TiffImageFile") -> GeoTags:
    """Returns a TIFF's place on Earth, from its tags as Pillow reads them."""
    tags: Any = picture.tag_v2
    return {code: tags[code] for code in _GEO_TYPES if tags.get(code)}


def pillow_tags(geo: GeoTags, has_missing: bool) -> "TiffImagePlugin.ImageFileDirectory_v2":
    """Returns what Pillow's writer is given for a result to lie where its picture does."""
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for code, kind, value in _tags_to_write(geo, has_missing):
        tags.tagtype[code] = kind
        tags[code] = value
    return tags


def tifffile_tags(geo: GeoTags, has_missing: bool) -> list[tuple[int, int, int | None, Any, bool]]:
    """Returns the same for tifffile's writer."""
    return [
        (code, kind, None if kind == _ASCII else len(value), value, True)
        for code, kind, value in _tags_to_write(geo, has_missing)
    ]


def _tags_to_write(geo: GeoTags, has_missing: bool) -> Iterator[tuple[int, int, Any]]:
    for code, value in sorted(geo.items()):
        kind = _GEO_TYPES[code]
        yield code, kind, value if kind == _ASCII else tuple(np.atleast_1d(value).tolist())
    if has_missing:
        yield _NODATA, _ASCII, "0"


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Says of which file it is what goes wrong inside tifffile, where damaged files meet any error."""
    try:
        yield
    except (InvalidImageError, UnsupportedCallError):
        raise
    except MemoryError as error:
        raise InvalidImageError(f"{name} is too large to be read at once", hint="use segment_large()") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, rather than a decoder's
        words = str(error) or type(error).__name__
        raise InvalidImageError(
            f"{name} cannot be decoded: it is damaged, or of an unknown kind of TIFF ({words})"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Page:
    """One picture of a file: a directory, or several that hold its channels.

    Attributes:
        label: for people.
        directories: tifffile's pages.
        masks: directories that say which of its pixels there are.
    """

    label: str
    directories: Sequence[Any]
    masks: Sequence[Any]


def _pages_of(file: Any) -> list[_Page]:
    """Returns the pictures of a file; overviews and transparency masks are none."""
    masks = [page for page in file.pages if not page.is_frame and _kind_of(page) & _TRANSPARENCY]
    pages: list[_Page] = []
    for series in file.series:
        first = series.keyframe
        # What hangs below another directory is a smaller copy of it.
        if first is None or first.is_subifd or _kind_of(first) & (_REDUCED | _TRANSPARENCY):
            continue
        if first.shaped[1] > 1:
            raise InvalidImageError(f"a volume of depth {first.shaped[1]}", hint="save its slices one by one")
        leading = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        # A series whose axes were left out says too little to tell its channels from its slices.
        count = math.prod(size for _, size in leading)
        order = np.arange(count).reshape([size for _, size in leading])
        names = [axis for axis, _ in leading]
        channels = 1
        if "C" in names and first.samplesperpixel == 1:
            order = np.moveaxis(order, names.index("C"), -1)
            channels = order.shape[-1]
            names.remove("C")
        sizes = order.shape[:-1] if channels > 1 else order.shape
        for row, place in zip(order.reshape(-1, channels), np.ndindex(*sizes), strict=True):
            directories = [series.pages[int(index)] for index in row]
            if any(directory is None for directory in directories):
                raise InvalidImageError("a part of its pictures lies in other files", hint="save it as one file")
            at = " ".join(f"{axis}{k + 1}" for axis, k in zip(names, place, strict=True) if axis in "TZRMHVE")
            pages.append(_Page(_label(series, first, channels, at), directories, _masks_for(directories, masks)))
    return pages


def _kind_of(page: Any) -> int:
    return int(page.subfiletype or 0)


def _label(series: Any, page: Any, channels: int, at: str) -> str:
    kind = "" if series.kind in ("generic", "uniform", "shaped") else str(series.name or "")
    samples = channels if channels > 1 else page.samplesperpixel
    form = f"{page.imagelength}×{page.imagewidth} of {samples} × {page.bitspersample} bits"
    return " ".join(word for word in (kind, at, form) if word)


def _masks_for(directories: Sequence[Any], masks: Sequence[Any]) -> list[Any]:
    first = directories[0].keyframe
    return [
        mask
        for mask in masks
        if not _kind_of(mask) & _REDUCED
        and (mask.imagelength, mask.imagewidth) == (first.imagelength, first.imagewidth)
    ][:1]


class _Meaning:
    """What the samples of a page mean.

    Args:
        page: tifffile's.
        name: of the file, for errors.
        is_rgb: whether they are red, green and blue already, of 8 bits.

    Attributes:
        channels: what is made of them, in order.
        dtype: of what is made.
        full_scale: of what is made.
        is_plain: whether samples are what nodata is stated of: values, a palette's indices, or colours as decoded.
    """

    def __init__(self, page: Any, name: str, *, is_rgb: bool = False):
        self._photometric = int(page.photometric)
        bits, kind = page.bitspersample, page.dtype
        if is_rgb:
            self._photometric, bits, kind = _RGB, 8, np.dtype(np.uint8)
        if kind is None or not isinstance(bits, int) or kind.kind not in "buif":
            raise InvalidImageError(
                f"{name} holds samples of {bits} bits as {kind or 'an unknown kind'}",
                hint="convert it to 8 or 16 bits",
            )
        samples = 3 if is_rgb else page.samplesperpixel
        self._bits = bits
        is_unsigned = kind.kind in "bu" and bits <= 16
        if self._photometric == _CMYK and _INK_SET in page.tags and page.tags[_INK_SET].value == 2:
            self._photometric = _MIN_IS_BLACK  # some other inks
        if self._photometric in _COLOURS and samples < _COLOURS[self._photometric]:
            self._photometric = _MIN_IS_BLACK
        if self._photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR):
            words = str(getattr(page.photometric, "name", page.photometric)).lower()
            raise InvalidImageError(f"{name} holds colours of the kind {words}", hint="convert it to RGB")
        if self._photometric == _MIN_IS_WHITE and kind.kind == "f":
            self._photometric = _MIN_IS_BLACK
        if self._photometric in (_MIN_IS_WHITE, _PALETTE, _CMYK) and not is_unsigned:
            raise InvalidImageError(f"{name} holds {kind} that mean no plain values", hint="convert it to RGB")
        colours = _COLOURS.get(self._photometric, 1)
        self._extra = _extra_of(page, samples - colours) if samples > colours else ()
        self._palette = self._palette_of(page, name) if self._photometric == _PALETTE else None
        self.is_plain = self._photometric != _CMYK
        self.dtype = np.dtype(kind)
        self.full_scale: int | None = (1 << bits) - 1 if is_unsigned else None
        if self._palette is not None or (is_unsigned and bits <= 8):
            self.dtype, self.full_scale = np.dtype(np.uint8), 255
        if self.dtype.kind == "f":
            self.dtype = np.dtype(np.float32)
        is_colour = self._photometric in (_RGB, _PALETTE, _CMYK, _YCBCR)
        self.channels: tuple[str, ...] = (RED, GREEN, BLUE) if is_colour else (GRAY,)
        unknown = 0
        for extra in self._extra:
            unknown += extra not in (1, 2)
            self.channels += (ALPHA if extra in (1, 2) else f"band {len(self.channels) + 1}",)
        if unknown == len(self._extra) and unknown and not is_colour:
            # A gray picture has no second gray: all are bands.
            self.channels = tuple(f"band {k + 1}" for k in range(samples))

    def _palette_of(self, page: Any, name: str) -> Array:
        if page.colormap is None:
            raise InvalidImageError(f"{name} has no palette, and its pixels are indices of one")
        palette = np.asarray(page.colormap).T
        # Some writers put 8 bits where 16 belong.
        return (palette >> 8 if palette.max(initial=0) > 255 else palette).astype(np.uint8)

    def scale(self, raw: Array) -> Array:
        """Returns samples with their full scale as announced."""
        if raw.dtype.kind == "f":
            return raw.astype(np.float32, copy=False)
        if self._bits < 8:
            top = (1 << self._bits) - 1
            scaled: Array = ((raw.astype(np.uint16) * 255 + top // 2) // top).astype(np.uint8)
            return scaled
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)

    def apply(self, raw: Array) -> Array:
        """Returns the pixels [h, w, C] of samples [h, w, S]."""
        if self._palette is not None:
            colours = self._palette[np.minimum(raw[..., 0], len(self._palette) - 1)]
            return np.concatenate([colours, self.scale(raw[..., 1:])], axis=2) if self._extra else colours
        pixels = self.scale(raw)
        if self._photometric == _MIN_IS_WHITE:
            pixels = pixels.copy()
            pixels[..., 0] = (self.full_scale or 0) - pixels[..., 0]
        if self._photometric == _CMYK:
            pixels = np.concatenate([_rgb_of_cmyk(pixels[..., :4], self.full_scale or 255), pixels[..., 4:]], axis=2)
        if 1 in self._extra and pixels.dtype.kind == "u":
            pixels = _unassociate(pixels, self.channels.index(ALPHA), self.full_scale or 255)
        return pixels


def _extra_of(page: Any, count: int) -> tuple[int, ...]:
    """Returns the kinds of a page's samples beyond its colours: 1 and 2 are alpha, associated and not."""
    tag = page.tags.get(_EXTRA_SAMPLES)
    kinds = [] if tag is None else [int(kind) for kind in np.atleast_1d(tag.value)]
    if not kinds and count == 1 and int(page.photometric) == _RGB:
        return (2,)  # which writers of RGBA leave out at times
    kinds = [2 if kind == 999 else kind for kind in kinds]  # Corel's
    return tuple((kinds + [0] * count)[:count])


def _rgb_of_cmyk(pixels: Array, full: int) -> Array:
    """Returns ink as light, as Pillow does without a colour profile."""
    wide = pixels.astype(np.int64)
    paper = full - wide[..., 3:]
    product = wide[..., :3] * paper + (full + 1) // 2
    # Pillow's rounding of a division by 255.
    inked = (product + (product >> 8)) >> 8 if full == 255 else product // full
    return np.clip(paper - inked, 0, full).astype(pixels.dtype)


def _unassociate(pixels: Array, alpha: int, full: int) -> Array:
    """Returns colours as they were before they were multiplied by alpha."""
    opacity = pixels[..., alpha : alpha + 1].astype(np.int64)
    colours = np.minimum(pixels[..., :alpha].astype(np.int64) * full // np.maximum(opacity, 1), full)
    result = pixels.copy()
    # Where nothing is seen, colours stay as they are.
    result[..., :alpha] = np.where(opacity == 0, pixels[..., :alpha], colours)
    return result


class _Plane:
    """Reads the tiles or strips of one directory as they are stored, keeping a few that were decoded."""

    def __init__(self, file: Any, directory: Any, name: str):
        self._file, self._directory, self._name = file.filehandle, directory, name
        page = directory.keyframe
        self._page = page
        self.shape = (int(page.imagelength), int(page.imagewidth))
        if 0 in self.shape or page.dtype is None:
            raise InvalidImageError(f"{name} holds no pixels that can be read")
        self._samples = int(page.samplesperpixel)
        self._planes = self._samples if page.planarconfig == 2 and self._samples > 1 else 1
        self._piece = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.shape[1])
        self._across = -(-self.shape[1] // self._piece[1])
        self._each = -(-self.shape[0] // self._piece[0]) * self._across
        self._pieces: OrderedDict[int, Array] = OrderedDict()
        self._held = 0

    def read(self, tile: Tile) -> Array:
        """Returns samples [h, w, S]."""
        rows, columns = tile.rows, tile.columns
        result = np.zeros((rows.length, columns.length, self._samples), self._page.dtype)
        high, wide = self._piece
        for plane in range(self._planes):
            part = result[..., plane : plane + 1] if self._planes > 1 else result
            for down in range(rows.start // high, -(-rows.stop // high)):
                for along in range(columns.start // wide, -(-columns.stop // wide)):
                    piece = self._decoded(plane * self._each + down * self._across + along)
                    top, left = down * high, along * wide
                    first_row, first_column = max(rows.start, top), max(columns.start, left)
                    last_row = min(rows.stop, top + piece.shape[0])
                    last_column = min(columns.stop, left + piece.shape[1])
                    part[
                        first_row - rows.start : last_row - rows.start,
                        first_column - columns.start : last_column - columns.start,
                    ] = piece[first_row - top : last_row - top, first_column - left : last_column - left]
        return result

    def _decoded(self, index: int) -> Array:
        if index in self._pieces:
            self._pieces.move_to_end(index)
            return self._pieces[index]
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
        piece: Array = decoded[0]
        self._pieces[index] = piece
        self._held += piece.nbytes
        while self._held > _CACHED_BYTES and len(self._pieces) > 1:
            self._held -= self._pieces.popitem(last=False)[1].nbytes
        return piece


class _PillowPlane:
    """A page of a kind that only libtiff knows, decoded whole by Pillow: upright, as RGB."""

    def __init__(self, file: Any, page: Any, name: str):
        from PIL import Image, UnidentifiedImageError

        file.filehandle.seek(0)
        try:
            with Image.open(io.BytesIO(file.filehandle.read()), formats=("TIFF",)) as picture:
                picture.seek(page.index)
                self._pixels = np.array(picture.convert("RGB"))
        except UnidentifiedImageError as error:
            words = str(getattr(page.photometric, "name", page.photometric)).lower()
            raise InvalidImageError(
                f"{name} holds {words} of {page.samplesperpixel} × {page.bitspersample} bits", hint="convert it to RGB"
            ) from error
        self.shape = (self._pixels.shape[0], self._pixels.shape[1])

    def read(self, tile: Tile) -> Array:
        """Returns samples [h, w, 3]."""
        return self._pixels[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]


def _orientation_of(page: Any) -> int:
    """Returns what a page's tag says, or its XMP where it has none: 1 to 8."""
    tag, packet = page.tags.get(_ORIENTATION), page.tags.get(_XMP)
    if tag is not None:
        return int(tag.value) if tag.value in range(1, 9) else 1
    return xmp_orientation(packet.value) if packet is not None and isinstance(packet.value, bytes) else 1


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _stored_tile(tile: Tile, orientation: int, shape: Sequence[int]) -> Tile:
    """Returns where a piece of the upright picture is stored."""
    rows, columns = tile.rows, tile.columns
    if orientation in (3, 4, 7, 8):
        rows = Span(shape[0] - rows.stop, shape[0] - rows.start)
    if orientation in (2, 3, 6, 7):
        columns = Span(shape[1] - columns.stop, shape[1] - columns.start)
    return Tile(columns, rows) if orientation >= 5 else Tile(rows, columns)


def turn(pixels: Array, orientation: int) -> Array:
    """Returns stored pixels, [h, w] or [h, w, C], of an orientation from 1 to 8 upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels
