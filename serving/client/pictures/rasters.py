"""Large pictures, read and written piece by piece: arrays, .npy files, and TIFF by the extra `large`."""

import contextlib
import math
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError
from .arrays import ArrayPicture, map_of, strips
from .channels import ALL, UNKNOWN, Choice, ModelInput
from .files.headers import read_header
from .source import Source
from .tiff_tags import GeoTags, extra_tags, import_tifffile
from .tiffs import TiffImage
from .tiling import Array, Tile

_TIFF_ENDINGS = frozenset({".tif", ".tiff"})
_TIFF_TILE = 256


def open_source(source: Any, choice: Choice = ALL, model: ModelInput = UNKNOWN) -> Source:
    """Returns a picture to read by pieces.

    It is an array, anything with `shape`, `dtype` and slices (zarr, h5py), or the path of a .npy or TIFF file.
    """
    is_path = isinstance(source, str | os.PathLike)
    name = str(Path(source)) if is_path else "the array"
    raw: ArrayPicture | TiffImage
    if is_path and _is_tiff(Path(source)):
        raw = TiffImage(Path(source), name, choice)
    elif choice.page is not None:
        hint = "pages are chosen of TIFF files" if is_path else "index it"
        raise InvalidImageError(f"{name} has no pages", hint=hint)
    elif is_path:
        raw = ArrayPicture(_map_npy(Path(source)), choice, name)
    elif all(hasattr(source, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        raw = ArrayPicture(source, choice)
    else:
        raise InvalidImageError(f"{type(source).__name__} cannot be read by pieces", hint="give an array or a path")
    try:
        return Source(raw, name, choice, model)
    except BaseException:
        raw.close()
        raise


def _is_tiff(path: Path) -> bool:
    """Returns whether a file is a TIFF, by its name or, as slides have many endings, its first bytes."""
    if path.suffix.lower() in _TIFF_ENDINGS:
        return True
    with contextlib.suppress(OSError), path.open("rb") as file:
        header = read_header(file.read(16))
        return header is not None and header.format == "tiff"
    return False


def _map_npy(path: Path) -> Array:
    if path.suffix.lower() != ".npy":
        raise InvalidImageError(
            f"{path} cannot be read by pieces", hint="it must be a .npy or .tif file; smaller pictures go by segment()"
        )
    try:
        mapped = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InvalidImageError(f"{path} is no .npy file that can be read: {error}") from error
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise InvalidImageError(f"{path} holds several arrays", hint="save one as .npy")
    if not mapped.flags.c_contiguous:
        raise InvalidImageError(f"{path} is stored by columns", hint="save it in C order")
    return mapped


class ArraySink:
    """An array, mapped perhaps, that is written by pieces."""

    def __init__(self, array: Any):
        self._array, self._map = array, map_of(array)

    def write(self, piece: Tile, values: Array) -> None:
        """Writes a piece: [h, w]."""
        top = piece.rows.start
        for strip in strips(piece.rows, self._map):
            self._array[Tile(strip, piece.columns).box] = values[strip.start - top : strip.stop - top]

    def finish(self) -> None:
        """Makes what was written appear as a whole."""
        if self._map is not None:
            self._map.flush()

    def abandon(self) -> None:
        """Does nothing: the array is the caller's."""


class FileSink:
    """A .npy or TIFF file that is written by pieces under another name, and renamed at the end.

    A TIFF is tiled and compressed; it is made at the end of a plain file, as its writer wants the tiles in order.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: npt.DTypeLike, geo: GeoTags, *, has_missing: bool):
        self._path, self._shape, self._dtype = path, shape, np.dtype(dtype)
        self._tifffile = import_tifffile() if path.suffix.lower() in _TIFF_ENDINGS else None
        self._tags = extra_tags(geo, has_missing=has_missing)
        self._temporary = path.parent / f".{secrets.token_hex(8)}{path.suffix}"
        handle = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        if self._tifffile is not None:
            os.close(handle)
            self._plain: Any = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed at the end)
        else:
            self._plain = open(handle, "wb")  # noqa: SIM115 (likewise)
            header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(self._plain, header)
            self._plain.flush()
        self._offset = self._plain.tell()

    def write(self, piece: Tile, values: Array) -> None:
        """Writes a piece: [h, w]."""
        values = np.ascontiguousarray(values, self._dtype)
        for index, row in enumerate(values, piece.rows.start):
            position = self._offset + (index * self._shape[1] + piece.columns.start) * self._dtype.itemsize
            left = row.data.cast("B")
            while left:  # a disk that fills up takes a part, and refuses the next
                written = os.pwrite(self._plain.fileno(), left, position)
                left, position = left[written:], position + written

    def finish(self) -> None:
        """Makes what was written appear as a whole."""
        if self._tifffile is not None:
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
        self._temporary.replace(self._path)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        self._plain.close()
        self._temporary.unlink(missing_ok=True)

    def _tiles(self) -> Iterator[Array]:
        height, width = self._shape
        self._plain.seek(0)
        for top in range(0, height, _TIFF_TILE):
            count = min(_TIFF_TILE, height - top)
            strip = np.frombuffer(self._plain.read(count * width * self._dtype.itemsize), self._dtype)
            padded = np.pad(strip.reshape(count, width), ((0, _TIFF_TILE - count), (0, -width % _TIFF_TILE)))
            yield from np.split(padded, padded.shape[1] // _TIFF_TILE, axis=1)


Sink = ArraySink | FileSink


def open_sink(sink: Any, shape: tuple[int, int], dtype: npt.DTypeLike, geo: GeoTags, *, has_missing: bool) -> Sink:
    """Returns a plane [H, W] of uint8 or float32 to write by pieces.

    It is an array of that shape and dtype, or the path of a .npy or TIFF file, which appears when all is written.
    A TIFF is given its place on Earth, and with `has_missing` says that 0 means no data.
    """
    if isinstance(sink, str | os.PathLike):
        path = Path(sink)
        if path.suffix.lower() not in _TIFF_ENDINGS | {".npy"}:
            raise InvalidImageError(f"{path} cannot be written by pieces", hint="it must be a .npy or .tif file")
        return FileSink(path, shape, dtype, geo, has_missing=has_missing)
    if not hasattr(sink, "__setitem__"):
        raise InvalidImageError(f"{type(sink).__name__} cannot be written by pieces", hint="give an array or a path")
    if tuple(sink.shape) != shape or sink.dtype != dtype:
        raise InvalidImageError(
            f"an array {list(sink.shape)} of {sink.dtype} was given to write to",
            hint=f"it must be {list(shape)} of {np.dtype(dtype)}",
        )
    return ArraySink(sink)
