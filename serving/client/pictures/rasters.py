"""Large pictures, read and written piece by piece: arrays, .npy files, and TIFF by the extra `large`."""

import contextlib
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError
from .channels import (
    ALL,
    UNKNOWN,
    Choice,
    ModelInput,
    channels_of_array,
    check_not_black,
    choose_channels,
    odd_integers_as,
    split_missing,
    to_8_bits,
)
from .image_headers import read_header
from .tiffs import GeoTags, TiffImage, import_tifffile, tifffile_tags
from .tiling import Span, Tile

Array = npt.NDArray[Any]

_TIFF_ENDINGS = frozenset({".tif", ".tiff"})
_TIFF_TILE = 256
_MAPPED_ROWS = 64
_SCANNED_ROWS = 256


class Raw(Protocol):
    """A picture that is read by pieces, as it is stored.

    Attributes:
        shape: [H, W] or [H, W, C].
        dtype: of its pixels.
        channels: what each channel is.
        full_scale: the value that means white; None is the dtype's.
        geo: its place on Earth, as TIFF tags.
        has_missing: whether it may lack pixels: `read` then gives masked arrays.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    full_scale: int | None
    geo: GeoTags
    has_missing: bool

    def read(self, tile: Tile) -> Array:
        """Returns a piece: [h, w] or [h, w, C]."""
        ...

    def close(self) -> None:
        """Closes what was opened."""
        ...


class Sink(Protocol):
    """A plane that is written by pieces."""

    def write(self, piece: Tile, values: Array) -> None:
        """Writes a piece: [h, w]."""
        ...

    def finish(self) -> None:
        """Makes what was written appear as a whole."""
        ...

    def abandon(self) -> None:
        """Leaves nothing behind."""
        ...


class Source:
    """A picture that is read by pieces, as a model takes it.

    Args:
        raw: the picture.
        name: for errors.
        choice: which of its channels to take.
        model: what it takes.

    Attributes:
        shape: height, width and channels.
        dtype: uint8, uint16 or float32.
        geo: its place on Earth, as TIFF tags.
        has_missing: whether it may lack pixels.

    Raises:
        InvalidImageError: the model cannot take it.
    """

    def __init__(self, raw: Raw, name: str, choice: Choice, model: ModelInput):
        self._raw, self._name, self._model = raw, name, model
        chosen = choose_channels(raw.channels, choice, model, name)
        self._chosen = None if chosen == list(range(len(raw.channels))) else chosen
        self.shape = (raw.shape[0], raw.shape[1], len(chosen))
        self.geo, self.has_missing = raw.geo, raw.has_missing
        self._top = 0
        if raw.dtype.kind != "f":
            self.dtype = self._dtype_of_integers()
        elif model.dtype is None or model.dtype.kind == "f":
            self.dtype = np.dtype(np.float32)
        else:
            raise InvalidImageError(
                f"{name} holds {raw.dtype}, and the model takes {model.dtype} pixels",
                hint="scale it to 0..255 as uint8, or export the model with image_dtype: float32",
            )

    def read(self, tile: Tile) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        """Returns a piece, [h, w, C], and where it has no data, [h, w]; None where it has some everywhere."""
        pixels, missing = self._chosen_of(tile)
        if self.dtype == np.uint8 and pixels.dtype == np.uint16 and self._raw.full_scale is not None:
            pixels = to_8_bits(pixels, self._raw.full_scale)
        elif self.dtype == np.uint16:
            self._top = max(self._top, int(pixels.max()))
        return pixels.astype(self.dtype, copy=False), missing

    def check_all_read(self) -> None:
        """Makes sure that the model saw something in the pieces that were read.

        Raises:
            InvalidImageError: they were black to it.
        """
        if self._model.dtype == np.uint8 and self.dtype == np.uint16:
            check_not_black(self._top, self._name)

    def close(self) -> None:
        """Closes what was opened."""
        self._raw.close()

    def _chosen_of(self, tile: Tile) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        piece = self._raw.read(tile)
        piece = piece.reshape(*piece.shape[:2], -1)
        return split_missing(piece if self._chosen is None else piece[:, :, self._chosen])

    def _dtype_of_integers(self) -> np.dtype[Any]:
        raw = self._raw
        if raw.dtype == np.uint8:
            return raw.dtype
        if raw.dtype == np.uint16:
            is_scaled = raw.full_scale not in (None, 0xFFFF) and self._model.dtype == np.uint8
            return np.dtype(np.uint8) if is_scaled else raw.dtype
        # What these mean is seen by their values, and all tiles must mean the same.
        low, top = 0, 0
        for start in range(0, self.shape[0], _SCANNED_ROWS):
            rows = Span(start, min(start + _SCANNED_ROWS, self.shape[0]))
            pixels, _ = self._chosen_of(Tile(rows, Span(0, self.shape[1])))
            low, top = min(low, int(pixels.min())), max(top, int(pixels.max()))
        return odd_integers_as(low, top, self._model, self._name, raw.dtype)


def open_source(source: Any, choice: Choice = ALL, model: ModelInput = UNKNOWN) -> Source:
    """Returns a picture to read by pieces.

    Args:
        source: an array, a memory-mapped one, anything with `shape`, `dtype` and slices (zarr, h5py), or the
            path of a .npy or TIFF file.
        choice: what to take of it.
        model: what it takes.

    Raises:
        InvalidImageError: it is none of these, or nothing that the model takes.
        UnsupportedCallError: the extra `large` is missing.
        OSError: it cannot be read.
    """
    name, raw = _open_raw(source, choice)
    try:
        return Source(raw, name, choice, model)
    except BaseException:
        raw.close()
        raise


def _open_raw(source: Any, choice: Choice) -> tuple[str, Raw]:
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if _is_tiff(path):
            return str(path), TiffImage(path, str(path), choice)
        if choice.page is not None:
            raise InvalidImageError(f"{path} has no pages", hint="pages are chosen of TIFF files")
        if path.suffix.lower() == ".npy":
            return str(path), _NpySource(path, choice)
        raise InvalidImageError(
            f"{path} cannot be read by pieces", hint="it must be a .npy or .tif file; smaller pictures go by segment()"
        )
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        if choice.page is not None:
            raise InvalidImageError("an array has no pages", hint="index it")
        return "the array", _ArraySource(source, choice)
    raise InvalidImageError(f"{type(source).__name__} cannot be read by pieces", hint="give an array or a path")


def _is_tiff(path: Path) -> bool:
    """Returns whether a file is a TIFF, by its name or, as slides have many endings, its first bytes."""
    if path.suffix.lower() in _TIFF_ENDINGS:
        return True
    with contextlib.suppress(OSError), path.open("rb") as file:
        header = read_header(file.read(16))
        return header is not None and header.format == "tiff"
    return False


def open_sink(
    sink: Any, shape: tuple[int, int], dtype: npt.DTypeLike, geo: GeoTags | None = None, *, has_missing: bool = False
) -> Sink:
    """Returns a plane to write by pieces.

    Args:
        sink: an array of the shape and dtype, memory-mapped perhaps, or the path of a .npy or TIFF file, which
            appears when all is written.
        shape: height and width.
        dtype: uint8 or float32.
        geo: the place on Earth that a TIFF is given.
        has_missing: whether 0 in a TIFF means that there is no data.

    Raises:
        InvalidImageError: it is none of these.
        UnsupportedCallError: the extra `large` is missing.
        OSError: it cannot be written.
    """
    if isinstance(sink, str | os.PathLike):
        path = Path(sink)
        if path.suffix.lower() == ".npy":
            return _NpySink(path, shape, np.dtype(dtype))
        if path.suffix.lower() in _TIFF_ENDINGS:
            return _TiffSink(path, shape, np.dtype(dtype), tifffile_tags(geo or {}, has_missing))
        raise InvalidImageError(f"{path} cannot be written by pieces", hint="it must be a .npy or .tif file")
    if not hasattr(sink, "__setitem__"):
        raise InvalidImageError(f"{type(sink).__name__} cannot be written by pieces", hint="give an array or a path")
    if tuple(sink.shape) != shape or sink.dtype != dtype:
        raise InvalidImageError(
            f"an array {list(sink.shape)} of {sink.dtype} was given to write to",
            hint=f"it must be {list(shape)} of {np.dtype(dtype)}",
        )
    return _ArraySink(sink)


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], what: str, choice: Choice) -> None:
    is_too_deep = len(shape) == 3 and shape[2] > 4 and choice.bands is None
    if len(shape) not in (2, 3) or 0 in shape or is_too_deep:
        hint = "it is [H, W] or [H, W, 1 to 4]" + ("; choose of more channels with bands=" if is_too_deep else "")
        raise InvalidImageError(f"{what} of shape {list(shape)} is no image", hint=hint)
    if dtype.kind != "f" and dtype not in (np.uint8, np.uint16):
        raise InvalidImageError(f"{what} of {dtype} is no image", hint="it is uint8, uint16 or float")


class _ArraySource:
    full_scale: int | None = None
    geo: GeoTags = MappingProxyType({})

    def __init__(self, array: Any, choice: Choice):
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        _check(self.shape, self.dtype, "an array", choice)
        self.channels = channels_of_array(math.prod(self.shape[2:]))
        self.has_missing = isinstance(array, np.ma.MaskedArray) or self.dtype.kind == "f"
        self._array = array
        self._map = _map_of(array)

    def read(self, tile: Tile) -> Array:
        rows, columns = tile.rows, tile.columns
        if isinstance(self._array, np.ma.MaskedArray):
            return self._array[rows.start : rows.stop, columns.start : columns.stop]
        piece = np.empty((rows.length, columns.length, *self.shape[2:]), self.dtype)
        for strip in _strips(rows, self._map):
            piece[strip.start - rows.start : strip.stop - rows.start] = self._array[
                strip.start : strip.stop, columns.start : columns.stop
            ]
            _drop_pages(self._map)
        return piece

    def close(self) -> None:
        pass


class _NpySource:
    """Reads runs of bytes: mapped pages would count as this process' memory."""

    full_scale: int | None = None
    geo: GeoTags = MappingProxyType({})

    def __init__(self, path: Path, choice: Choice):
        try:
            mapped = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise InvalidImageError(f"{path} is no .npy file that can be read: {error}") from error
        if not isinstance(mapped, np.ndarray):
            raise InvalidImageError(f"{path} holds several arrays", hint="save one as .npy")
        self.shape, self.dtype = tuple(mapped.shape), mapped.dtype
        _check(self.shape, self.dtype, str(path), choice)
        if not mapped.flags.c_contiguous:
            raise InvalidImageError(f"{path} is stored by columns", hint="save it in C order")
        self.channels = channels_of_array(math.prod(self.shape[2:]))
        self.has_missing = self.dtype.kind == "f"
        self._offset = getattr(mapped, "offset", 0)
        self._pixel_bytes = self.dtype.itemsize * math.prod(self.shape[2:])
        self._file = os.open(path, os.O_RDONLY)

    def read(self, tile: Tile) -> Array:
        rows, columns = tile.rows, tile.columns
        run = columns.length * self._pixel_bytes
        buffer = bytearray(rows.length * run)
        view = memoryview(buffer)
        for index in range(rows.length):
            pixel = (rows.start + index) * self.shape[1] + columns.start
            position = self._offset + pixel * self._pixel_bytes
            if os.preadv(self._file, [view[index * run : (index + 1) * run]], position) != run:
                raise OSError("the file ends before its last row")
        return np.frombuffer(buffer, self.dtype).reshape(rows.length, columns.length, *self.shape[2:])

    def close(self) -> None:
        os.close(self._file)


class _ArraySink:
    def __init__(self, array: Any):
        self._array = array
        self._map = _map_of(array)

    def write(self, piece: Tile, values: Array) -> None:
        rows, columns = piece.rows, piece.columns
        for strip in _strips(rows, self._map):
            self._array[strip.start : strip.stop, columns.start : columns.stop] = values[
                strip.start - rows.start : strip.stop - rows.start
            ]
            _drop_pages(self._map)

    def finish(self) -> None:
        if self._map is not None:
            self._map.flush()

    def abandon(self) -> None:
        pass


class _FileSink:
    """Writes beside the path under another name, and renames at the end."""

    def __init__(self, path: Path):
        self._path = path
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        self._temporary = Path(name)
        self._temporary.chmod(0o644)

    def _publish(self) -> None:
        self._temporary.replace(self._path)

    def abandon(self) -> None:
        self._temporary.unlink(missing_ok=True)


class _NpySink(_FileSink):
    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any]):
        super().__init__(path)
        self._file = self._temporary.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(self._file, header)
        self._file.flush()
        self._offset, self._width, self._dtype = self._file.tell(), shape[1], dtype

    def write(self, piece: Tile, values: Array) -> None:
        _write_piece(self._file.fileno(), self._offset, self._width, piece, values.astype(self._dtype, copy=False))

    def finish(self) -> None:
        self._file.close()
        self._publish()

    def abandon(self) -> None:
        self._file.close()
        super().abandon()


class _TiffSink(_FileSink):
    """A tiled, compressed TIFF: made at the end of a plain file, as its writer wants the tiles in order."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], tags: list[Any]):
        self._tifffile = import_tifffile()
        self._tags = tags
        super().__init__(path)
        self._shape, self._dtype = shape, dtype
        self._plain = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed in finish and abandon)

    def write(self, piece: Tile, values: Array) -> None:
        _write_piece(self._plain.fileno(), 0, self._shape[1], piece, values.astype(self._dtype, copy=False))

    def finish(self) -> None:
        self._tifffile.imwrite(
            self._temporary,
            self._tiles(),
            shape=self._shape,
            dtype=self._dtype,
            tile=(_TIFF_TILE, _TIFF_TILE),
            photometric="minisblack",
            compression="zlib",
            bigtiff=math.prod(self._shape) * self._dtype.itemsize > 1 << 31,
            # Its default, a thread for each processor, takes all tiles into memory first.
            maxworkers=1,
            metadata=None,
            extratags=self._tags,
        )
        self._plain.close()
        self._publish()

    def abandon(self) -> None:
        self._plain.close()
        super().abandon()

    def _tiles(self) -> Iterator[Array]:
        height, width = self._shape
        self._plain.seek(0)
        for top in range(0, height, _TIFF_TILE):
            count = min(_TIFF_TILE, height - top)
            data = self._plain.read(count * width * self._dtype.itemsize)
            strip = np.frombuffer(data, self._dtype).reshape(count, width)
            for left in range(0, width, _TIFF_TILE):
                tile = np.zeros((_TIFF_TILE, _TIFF_TILE), self._dtype)
                piece = strip[:, left : left + _TIFF_TILE]
                tile[: piece.shape[0], : piece.shape[1]] = piece
                yield tile


def _map_of(array: Any) -> mmap.mmap | None:
    """Returns the mapped file that an array lies in; None if it lies in memory."""
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base


def _strips(rows: Span, mapped: mmap.mmap | None) -> list[Span]:
    """Returns rows in strips: of a mapped file few, as the system maps far more around each than is asked for."""
    step = rows.length if mapped is None else _MAPPED_ROWS
    return [Span(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step)]


def _drop_pages(mapped: mmap.mmap | None) -> None:
    """Gives back the memory of a mapped file's pages; what was written to them is in the system's cache."""
    if mapped is not None and hasattr(mapped, "madvise"):
        with contextlib.suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)


def _write_piece(file: int, offset: int, width: int, piece: Tile, values: Array) -> None:
    """Writes a piece of a plane that lies in a file row by row."""
    values = np.ascontiguousarray(values)
    row_bytes = width * values.itemsize
    for index in range(len(values)):
        position = offset + (piece.rows.start + index) * row_bytes + piece.columns.start * values.itemsize
        left = values[index].data.cast("B")
        while left:  # a disk that fills up takes a part, and refuses the next
            written = os.pwrite(file, left, position)
            left, position = left[written:], position + written
