"""The pictures that can be sent, and the forms they are sent in."""

import abc
import functools
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidImageError
from .image_headers import read_header
from .png import encode_png

if TYPE_CHECKING:
    from PIL import Image

    ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[Any] | Image.Image
    """A path, an encoded picture's bytes, a file open for reading bytes, an array, or a Pillow picture."""
else:
    ImageSource = Any

_ARRAYS_WANTED = "an array is uint8 or uint16 (or float for models that take it), [H, W] or [H, W, 1 to 4]"
# Formats that servers do not read, but Pillow does: these are sent as PNG.
_CONVERTED = frozenset({"gif", "tiff"})
# What turns a picture of an orientation upright. It is done by the header as exported models read it, since
# Pillow sees orientations that they do not, such as those behind a PNG's pixels; TIFF it turns by itself.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# Pillow loads a picture when it is first used, which two threads cannot do at one time.
_PILLOW_LOCK = threading.Lock()


class Picture(abc.ABC):
    """One picture on its way to a model.

    Attributes:
        name: its path, where it has one.
        size: height and width of the upright picture; None where only the server can tell.
    """

    name: str | None
    size: tuple[int, int] | None

    @property
    def is_float(self) -> bool:
        """Whether it is an array of floats, which only float models take."""
        return False

    @property
    @abc.abstractmethod
    def byte_count(self) -> int:
        """How many bytes it takes here; on the wire at most about as many."""

    @abc.abstractmethod
    def encoded(self) -> bytes:
        """Returns it as a file that servers read.

        Raises:
            InvalidImageError: it cannot be one.
        """

    @abc.abstractmethod
    def pixels(self, dtype: np.dtype[Any], channels: int | None) -> npt.NDArray[Any]:
        """Returns it as an array.

        Args:
            dtype: uint8, uint16 or float32, as the model wants it.
            channels: 1, 3 or 4 as the model wants it; None leaves them as they are.

        Returns:
            Array [H, W, C].

        Raises:
            InvalidImageError: it cannot be one without loss or guesses.
        """

    @abc.abstractmethod
    def picture(self) -> "Image.Image":
        """Returns it upright, in 8 bits, to look at."""


class _File(Picture):
    def __init__(self, data: bytes, name: str | None):
        self.name = name
        self._data = data
        if not data:
            raise InvalidImageError(f"{name or 'the image'} is empty")
        header = read_header(data)
        self._format = header.format if header else None
        self.size = header.size if header else None
        self._orientation = header.orientation if header else 1
        if self._format in _CONVERTED:
            upright = self._upright
            self.size = (upright.height, upright.width)

    @property
    def byte_count(self) -> int:
        return len(self._data)

    def encoded(self) -> bytes:
        if self._format in _CONVERTED:
            return encode_png(_array_of(self._upright))
        return self._data

    def pixels(self, dtype: np.dtype[Any], channels: int | None) -> npt.NDArray[Any]:
        if dtype.kind == "f":
            raise InvalidImageError(
                f"{self.name or 'the image'} is an encoded picture, and the model takes {dtype} pixels only",
                hint="decode and scale it as the model wants it, and send the array",
            )
        upright = self._upright
        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels or 0)
        if dtype == np.uint16:
            array = _array_of(upright)
            if array.dtype != np.uint16:
                # Full scale stays full scale.
                array = np.array(upright.convert(mode) if mode else upright).astype(np.uint16) * 257
        else:
            array = np.array(upright.convert(mode)) if mode else _array_of(upright)
        return array.reshape(*array.shape[:2], -1)

    def picture(self) -> "Image.Image":
        return _for_display(self._upright)

    @functools.cached_property
    def _upright(self) -> "Image.Image":
        from PIL import Image

        try:
            picture = Image.open(io.BytesIO(self._data))
            # Cameras put previews and depth maps behind a JPEG (MPO); the first picture is the photograph.
            if getattr(picture, "n_frames", 1) > 1 and self._format != "jpeg":
                raise InvalidImageError(
                    f"{self.name or 'the image'} holds {getattr(picture, 'n_frames', 1)} pictures",
                    hint="send them one by one",
                )
            picture.load()
            turn = _TURNS.get(self._orientation)
            return picture.transpose(Image.Transpose[turn]) if turn else picture
        except InvalidImageError:
            raise
        except Exception as error:  # damaged pictures meet any error inside Pillow
            raise InvalidImageError(f"{self.name or 'the image'} cannot be decoded: {error}") from error


class _Array(Picture):
    def __init__(self, array: npt.NDArray[Any], name: str | None = None):
        self.name = name
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4) or not array.size:
            raise InvalidImageError(f"an array of shape {list(array.shape)} is no image", hint=_ARRAYS_WANTED)
        if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
            raise InvalidImageError(f"an array of {array.dtype} is no image", hint=_ARRAYS_WANTED)
        self._array = array
        self.size = (array.shape[0], array.shape[1])

    @property
    def is_float(self) -> bool:
        return self._array.dtype.kind == "f"

    @property
    def byte_count(self) -> int:
        return self._array.nbytes

    def encoded(self) -> bytes:
        if self.is_float:
            raise InvalidImageError(
                f"an array of {self._array.dtype} was given, and the model takes integer pixels",
                hint="scale it to 0..255 as uint8, or export the model with image_dtype: float32",
            )
        return encode_png(self._array)

    def pixels(self, dtype: np.dtype[Any], channels: int | None) -> npt.NDArray[Any]:
        if (dtype.kind == "f") != self.is_float or (not self.is_float and dtype != self._array.dtype):
            raise InvalidImageError(
                f"an array of {self._array.dtype} was given, and the model takes {dtype} pixels",
                hint="convert it, and mind the scale",
            )
        array = self._array.reshape(*self._array.shape[:2], -1)
        if channels is not None and array.shape[2] != channels:
            raise InvalidImageError(f"an array of {array.shape[2]} channels was given, and the model takes {channels}")
        return array.astype(dtype, copy=False)

    def picture(self) -> "Image.Image":
        from PIL import Image

        array = self._array
        if array.dtype != np.uint8:
            # To look at only: stretched to what is there.
            top = float(np.nanmax(array)) or 1.0
            array = (np.nan_to_num(np.clip(array / top, 0, 1)) * 255).astype(np.uint8)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        return _for_display(Image.fromarray(array))


def read_picture(source: "ImageSource") -> Picture:
    """Returns a picture from whatever holds it; a file is read, but not decoded.

    Args:
        source: see `ImageSource`. Text is a path. A Pillow picture is turned upright; arrays are taken as
            they are.

    Raises:
        InvalidImageError: it holds none.
        OSError: a file cannot be read.
    """
    try:
        return _read(source)
    except (InvalidImageError, OSError):
        raise
    except Exception as error:  # a closed file, a path with a null byte, a damaged picture inside Pillow
        raise InvalidImageError(f"{name_of(source) or 'the image'} cannot be read: {error}") from error


def take_picture(source: "ImageSource") -> Picture | None:
    """Returns a picture as its source is now, whatever becomes of that; None for a path, which can wait.

    Raises:
        InvalidImageError: it holds none.
        OSError: a file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return None
    return read_picture(source.copy() if isinstance(source, np.ndarray) else source)


def _read(source: "ImageSource") -> Picture:
    if isinstance(source, str | os.PathLike):
        return _File(Path(source).read_bytes(), os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _File(bytes(source), None)
    if isinstance(source, np.ndarray):
        return _Array(source)
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        picture: Any = source
        return _of_pillow(picture)
    read: Callable[[], Any] | None = getattr(source, "read", None)
    if callable(read):
        data = read()
        if not isinstance(data, bytes | bytearray):
            raise InvalidImageError("the file is open for reading text", hint="open it with mode 'rb'")
        name = getattr(source, "name", None)
        return _File(bytes(data), name if isinstance(name, str) else None)
    raise InvalidImageError(
        f"{type(source).__name__} is no image",
        hint="give a path, bytes, a file open for reading bytes, a NumPy array or a Pillow image",
    )


def name_of(source: "ImageSource") -> str | None:
    """Returns the name that a source is known by before it is read: its path."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return name if isinstance(name, str) and name else None


def _of_pillow(picture: "Image.Image") -> Picture:
    from PIL import ImageOps

    name = name_of(picture)
    try:
        with _PILLOW_LOCK:
            picture.load()
            picture.getexif()
        return _Array(_array_of(ImageOps.exif_transpose(picture)), name)
    except InvalidImageError:
        raise
    except Exception as error:  # damaged pictures meet any error inside Pillow
        raise InvalidImageError(f"{name or 'the image'} cannot be decoded: {error}") from error


def _array_of(picture: "Image.Image") -> npt.NDArray[Any]:
    """Returns a Pillow picture's pixels: uint8, or uint16 for 16-bit gray."""
    mode = picture.mode
    if mode.startswith("I"):
        array = np.array(picture)
        if array.min() < 0 or array.max() > 0xFFFF:
            raise InvalidImageError(
                "a picture of 32-bit integers has values outside 0..65535", hint="scale it, and send uint16"
            )
        return array.astype(np.uint16)
    if mode == "F":
        return np.array(picture)
    if mode in ("L", "LA", "RGB", "RGBA"):
        return np.array(picture)
    if mode == "1":
        return np.array(picture.convert("L"))
    return np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _for_display(picture: "Image.Image") -> "Image.Image":
    if picture.mode.startswith("I") or picture.mode == "F":
        return _Array(np.array(picture).astype(np.float32)).picture()
    if picture.mode in ("RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
