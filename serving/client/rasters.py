"""Large pictures, read and written piece by piece: arrays, .npy files, and TIFF by the extra `large`."""

import contextlib
import math
import mmap
import os
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidImageError, UnsupportedCallError
from .tiling import Span, Tile

Array = npt.NDArray[Any]

_TIFF_ENDINGS = frozenset({".tif", ".tiff"})
_CACHED_BYTES = 32 << 20
_TIFF_TILE = 256
_MAPPED_ROWS = 64


class Source(Protocol):
    """A picture that is read by pieces."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

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


def open_source(source: Any) -> Source:
    """Returns a picture to read by pieces.

    Args:
        source: an array, a memory-mapped one, anything with `shape`, `dtype` and slices (zarr, h5py), or the
            path of a .npy or TIFF file.

    Raises:
        InvalidImageError: it is none of these.
        UnsupportedCallError: the extra `large` is missing.
        OSError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.suffix.lower() == ".npy":
            return _NpySource(path)
        if path.suffix.lower() in _TIFF_ENDINGS:
            return _TiffSource(path)
        raise InvalidImageError(
            f"{path} cannot be read by pieces", hint="it must be a .npy or .tif file; smaller pictures go by segment()"
        )
    if all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
        return _ArraySource(source)
    raise InvalidImageError(f"{type(source).__name__} cannot be read by pieces", hint="give an array or a path")


def open_sink(sink: Any, shape: tuple[int, int], dtype: npt.DTypeLike) -> Sink:
    """Returns a plane to write by pieces.

    Args:
        sink: an array of the shape and dtype, memory-mapped perhaps, or the path of a .npy or TIFF file, which
            appears when all is written.
        shape: height and width.
        dtype: uint8 or float32.

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
            return _TiffSink(path, shape, np.dtype(dtype))
        raise InvalidImageError(f"{path} cannot be written by pieces", hint="it must be a .npy or .tif file")
    if not hasattr(sink, "__setitem__"):
        raise InvalidImageError(f"{type(sink).__name__} cannot be written by pieces", hint="give an array or a path")
    if tuple(sink.shape) != shape or sink.dtype != dtype:
        raise InvalidImageError(
            f"an array {list(sink.shape)} of {sink.dtype} was given to write to",
            hint=f"it must be {list(shape)} of {np.dtype(dtype)}",
        )
    return _ArraySink(sink)


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and not 1 <= shape[2] <= 4):
        raise InvalidImageError(f"{what} of shape {list(shape)} is no image", hint="it is [H, W] or [H, W, 1 to 4]")
    if dtype.kind != "f" and dtype not in (np.uint8, np.uint16):
        raise InvalidImageError(f"{what} of {dtype} is no image", hint="it is uint8, uint16 or float")


class _ArraySource:
    def __init__(self, array: Any):
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        _check(self.shape, self.dtype, "an array")
        self._array = array
        self._map = _map_of(array)

    def read(self, tile: Tile) -> Array:
        rows, columns = tile.rows, tile.columns
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

    def __init__(self, path: Path):
        mapped = np.load(path, mmap_mode="r")
        self.shape, self.dtype = tuple(mapped.shape), mapped.dtype
        _check(self.shape, self.dtype, str(path))
        if not mapped.flags.c_contiguous:
            raise InvalidImageError(f"{path} is stored by columns", hint="save it in C order")
        self._offset = mapped.offset
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


class _TiffSource:
    """Reads the tiles or strips of a TIFF's first page, keeping a few that were decoded."""

    def __init__(self, path: Path):
        self._file = _import_tifffile().TiffFile(path)
        try:
            self._page: Any = self._file.pages[0]
            if self._page.axes not in ("YX", "YXS"):
                raise InvalidImageError(
                    f"{path} holds {self._page.axes} of shape {list(self._page.shape)}",
                    hint="rows and columns, with the channels of a pixel together, can be read",
                )
            self.shape, self.dtype = tuple(self._page.shape), np.dtype(self._page.dtype)
            _check(self.shape, self.dtype, str(path))
        except BaseException:
            self._file.close()
            raise
        page = self._page
        self._piece = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.shape[1])
        self._across = -(-self.shape[1] // self._piece[1])
        self._pieces: OrderedDict[int, Array] = OrderedDict()

    def read(self, tile: Tile) -> Array:
        rows, columns = tile.rows, tile.columns
        result = np.zeros((rows.length, columns.length, *self.shape[2:]), self.dtype)
        high, wide = self._piece
        for down in range(rows.start // high, -(-rows.stop // high)):
            for along in range(columns.start // wide, -(-columns.stop // wide)):
                piece = self._decoded(down * self._across + along)
                top, left = down * high, along * wide
                first_row, first_column = max(rows.start, top), max(columns.start, left)
                last_row = min(rows.stop, top + piece.shape[0])
                last_column = min(columns.stop, left + piece.shape[1])
                result[
                    first_row - rows.start : last_row - rows.start,
                    first_column - columns.start : last_column - columns.start,
                ] = piece[first_row - top : last_row - top, first_column - left : last_column - left]
        return result

    def _decoded(self, index: int) -> Array:
        if index in self._pieces:
            self._pieces.move_to_end(index)
            return self._pieces[index]
        page = self._page
        file = self._file.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        try:
            decoded, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
        except (ValueError, RuntimeError, zlib.error) as error:
            raise InvalidImageError(f"a piece of the TIFF cannot be decoded: {error}") from error
        if decoded is None:  # a piece that was never written
            decoded = np.zeros((1, *shape[1:3], *self.shape[2:]), self.dtype)
        piece: Array = decoded[0] if len(self.shape) == 3 else decoded[0, :, :, 0]
        self._pieces[index] = piece
        while sum(kept.nbytes for kept in self._pieces.values()) > _CACHED_BYTES and len(self._pieces) > 1:
            self._pieces.popitem(last=False)
        return piece

    def close(self) -> None:
        self._file.close()


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

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any]):
        self._tifffile = _import_tifffile()
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


def _import_tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise UnsupportedCallError(
            "TIFF files need the package tifffile", hint="install it with: pip install 'maskport[large]'"
        ) from error
    return tifffile
