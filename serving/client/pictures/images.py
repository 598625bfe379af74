"""The pictures that can be sent, and the forms they are sent in."""

import abc
import contextlib
import functools
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError, InvalidResponseError, MaskServingError
from .channels import (
    ALL,
    UNKNOWN,
    Choice,
    ModelInput,
    channels_of_array,
    check_not_black,
    choose_channels,
    choose_page,
    needs_model,
    split_missing,
    values_as,
)
from .image_headers import ImageHeader, read_header
from .png import decode_png, encode_png
from .tiffs import HOW_TO_INSTALL, GeoTags, TiffImage, check_read_by_pillow, geo_of_pillow, has_tifffile, turn

if TYPE_CHECKING:
    from PIL import Image

    ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[Any] | Image.Image
    """A path, an encoded picture's bytes, a file open for reading bytes, an array, or a Pillow picture."""
else:
    ImageSource = Any

_ARRAYS_WANTED = "an array is uint8 or uint16 (or float for models that take it), [H, W] or [H, W, 1 to 4]"
# Formats that servers do not read, but Pillow does: these are sent as PNG.
_CONVERTED = frozenset({"gif", "avif"})
# What turns a picture of an orientation upright. It is done by the header as exported models read it, since
# Pillow sees orientations that they do not, such as those behind a PNG's pixels.
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
        missing: bool [H, W], where the picture has no data, known once it was sent; None where it has some everywhere.
        geo: its place on Earth, as TIFF tags; empty where it has none.
    """

    name: str | None
    size: tuple[int, int] | None
    missing: npt.NDArray[np.bool_] | None = None
    geo: GeoTags = MappingProxyType({})

    @property
    def needs_dtype(self) -> bool:
        """Whether what is sent of it depends on the dtype that the model takes."""
        return False

    @property
    def needs_channels(self) -> bool:
        """Whether it depends on how many channels the model takes."""
        return False

    @property
    def is_float(self) -> bool:
        """Whether it is an array of floats, which only float models take."""
        return False

    @property
    @abc.abstractmethod
    def byte_count(self) -> int:
        """How many bytes it takes here; on the wire at most about as many."""

    @abc.abstractmethod
    def encoded(self, model: ModelInput = UNKNOWN) -> bytes:
        """Returns it as a file that servers read.

        Args:
            model: what it takes, as far as is known.

        Raises:
            InvalidImageError: it cannot be one.
        """

    @abc.abstractmethod
    def pixels(self, dtype: np.dtype[Any], channels: int | None, model: ModelInput = UNKNOWN) -> npt.NDArray[Any]:
        """Returns it as an array.

        Args:
            dtype: uint8, uint16 or float32, as the model wants it.
            channels: 1, 3 or 4 as the model wants it; None leaves them as they are.
            model: what it takes, as far as is known: what channels without a known meaning are chosen by.

        Returns:
            Array [H, W, C].

        Raises:
            InvalidImageError: it cannot be one without loss or guesses.
        """

    @abc.abstractmethod
    def picture(self) -> "Image.Image":
        """Returns it upright, in 8 bits, to look at."""


class _File(Picture):
    """A file of a format that servers read, or of one that is not known here: it travels as it is."""

    def __init__(self, data: bytes, name: str | None, header: ImageHeader | None):
        self.name = name
        self._data = data
        self._is_jpeg = header is not None and header.format == "jpeg"
        self.size = header.size if header else None
        self._orientation = header.orientation if header else 1
        self._is_deep = header is not None and header.format == "png" and data[24:25] == b"\x10"

    @property
    def needs_dtype(self) -> bool:
        return self._is_deep

    @property
    def byte_count(self) -> int:
        return len(self._data)

    def encoded(self, model: ModelInput = UNKNOWN) -> bytes:
        if self._is_deep and model.dtype == np.uint8:
            self._check_seen()
        return self._data

    def pixels(self, dtype: np.dtype[Any], channels: int | None, model: ModelInput = UNKNOWN) -> npt.NDArray[Any]:
        if dtype.kind == "f":
            raise InvalidImageError(
                f"{self.name or 'the image'} is an encoded picture, and the model takes {dtype} pixels only",
                hint="decode and scale it as the model wants it, and send the array",
            )
        if self._is_deep and dtype == np.uint8:
            self._check_seen()
        return _of_channels(self._decoded, dtype, channels)

    def _check_seen(self) -> None:
        """Makes sure that a model of 8 bits sees something in 16; a damaged file is the server's to refuse."""
        try:
            array = self._decoded
        except InvalidImageError:
            return
        colours = array[..., :-1] if array.ndim == 3 and array.shape[2] in (2, 4) else array
        check_not_black(int(colours.max()), self.name or "the image")

    @functools.cached_property
    def _decoded(self) -> npt.NDArray[Any]:
        """The upright picture's samples, with all their bits."""
        if not self._is_deep:
            return _array_of(self._upright)
        try:
            return turn(decode_png(self._data), self._orientation)
        except InvalidResponseError as error:
            raise InvalidImageError(f"{self.name or 'the image'} cannot be decoded: {error.__cause__}") from error

    def picture(self) -> "Image.Image":
        return _for_display(self._upright)

    @functools.cached_property
    def _upright(self) -> "Image.Image":
        from PIL import Image

        with _decoding(self.name or "the image"):
            picture = Image.open(io.BytesIO(self._data))
            # Cameras put previews and depth maps behind a JPEG (MPO); the first picture is the photograph.
            if getattr(picture, "n_frames", 1) > 1 and not self._is_jpeg:
                raise InvalidImageError(
                    f"{self.name or 'the image'} holds {getattr(picture, 'n_frames', 1)} pictures",
                    hint="send them one by one",
                )
            picture.load()
            turn = _TURNS.get(self._orientation)
            return picture.transpose(Image.Transpose[turn]) if turn else picture


class _Array(Picture):
    """Pixels: an array, or what was decoded here.

    Args:
        array: [H, W] or [H, W, C]; a masked array where pixels are missing.
        name: of the file that it comes from.
        choice: which of its channels to send.
        channels: what each is; None is as for any array.
        full_scale: the value that means white; None is the dtype's.
        geo: its place on Earth.
        is_decoded: whether it comes from a file or Pillow's picture: then it is converted to what the model takes,
            while an array's owner knows better.
        lacks_bits: whether Pillow has dropped the lower 8 of its 16 bits.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        name: str | None = None,
        choice: Choice = ALL,
        *,
        channels: Sequence[str] | None = None,
        full_scale: int | None = None,
        geo: GeoTags | None = None,
        is_decoded: bool = False,
        lacks_bits: bool = False,
    ):
        self.name = name
        array = array if isinstance(array, np.ma.MaskedArray) else np.asarray(array)  # of matrices, too
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        self._what = name or ("the image" if is_decoded else f"an array of {array.dtype}")
        _check_array(array, choice, is_decoded=is_decoded)
        self._array = array.reshape(*array.shape[:2], -1)
        self._choice = choice
        self._channels = channels or channels_of_array(self._array.shape[2])
        self._full_scale = full_scale
        self._is_decoded, self._lacks_bits = is_decoded, lacks_bits
        self._sent: tuple[ModelInput, npt.NDArray[Any]] | None = None
        self.size = (array.shape[0], array.shape[1])
        self.geo = geo or MappingProxyType({})
        if is_decoded and not self.needs_channels:
            self._for(UNKNOWN)  # which finds what no model takes

    @property
    def is_float(self) -> bool:
        return self._array.dtype.kind == "f"

    @property
    def needs_dtype(self) -> bool:
        return self._array.dtype != np.uint8

    @property
    def needs_channels(self) -> bool:
        return needs_model(self._channels, self._choice)

    @property
    def byte_count(self) -> int:
        return self._array.nbytes

    def encoded(self, model: ModelInput = UNKNOWN) -> bytes:
        if self.is_float:
            raise InvalidImageError(
                f"{self._described} was given, and the model takes integer pixels",
                hint=f"{self._range}: scale it to 0..255 as uint8, or export the model with image_dtype: float32",
            )
        if self._lacks_bits and model.dtype == np.uint16:
            raise InvalidImageError(
                f"Pillow keeps 8 of the 16 bits of {self._what}, and the model takes 16",
                hint="give the file's path or bytes in place of Pillow's picture",
            )
        return encode_png(self._for(model))

    def pixels(self, dtype: np.dtype[Any], channels: int | None, model: ModelInput = UNKNOWN) -> npt.NDArray[Any]:
        array = self._for(ModelInput(dtype, channels or model.channels))
        if self._is_decoded and dtype.kind != "f" and array.dtype.kind != "f":
            return _of_channels(array, dtype, channels)
        if (dtype.kind == "f") != self.is_float or (not self.is_float and dtype != array.dtype):
            raise InvalidImageError(
                f"{self._described} was given, and the model takes {dtype} pixels",
                hint=f"{self._range}: convert it, and mind the scale",
            )
        if channels is not None and array.shape[2] != channels:
            raise InvalidImageError(f"an array of {array.shape[2]} channels was given, and the model takes {channels}")
        return array.astype(dtype, copy=False)

    def picture(self) -> "Image.Image":
        from PIL import Image

        array = self._sent[1] if self._sent is not None else split_missing(self._array)[0]
        array = array[:, :, :3] if array.shape[2] > 4 else array
        if array.dtype != np.uint8:
            # To look at only: stretched to what is there.
            top = float(array.max()) or 1.0
            array = (np.clip(array / top, 0, 1) * 255).astype(np.uint8)
        return _for_display(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array))

    @property
    def _described(self) -> str:
        kind = "an array" if self.name is None and not self._is_decoded else self._what
        return f"{kind} of {self._array.dtype}"

    @property
    def _range(self) -> str:
        values = split_missing(self._array)[0]
        return f"it holds {values.min():g} to {values.max():g}"

    def _for(self, model: ModelInput) -> npt.NDArray[Any]:
        """Returns what to send to a model: [H, W, C]."""
        if self._sent is None or self._sent[0] != model:
            chosen = choose_channels(self._channels, self._choice, model, self._what)
            is_all = chosen == list(range(self._array.shape[2]))
            pixels, self.missing = split_missing(self._array if is_all else self._array[:, :, chosen])
            if pixels.dtype.kind != "f":
                pixels = values_as(pixels, model, self._what, self._full_scale)
            self._sent = model, pixels
        return self._sent[1]


class _Tile(_Array):
    """A piece of a large picture, of which what a model takes was seen to already."""

    @property
    def needs_dtype(self) -> bool:
        return False

    @property
    def needs_channels(self) -> bool:
        return False


def picture_of_tile(pixels: npt.NDArray[Any]) -> Picture:
    """Returns a piece of a large picture, [h, w, C], as a picture to send."""
    return _Tile(pixels)


def _check_array(array: npt.NDArray[Any], choice: Choice, *, is_decoded: bool) -> None:
    """Makes sure that an array may be a picture.

    Raises:
        InvalidImageError: it is none.
    """
    most = 4 if choice.bands is None and not is_decoded else array.shape[-1] if array.ndim else 0
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= most) or not array.size:
        hint = _ARRAYS_WANTED
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.size:
            hint = "its channels come first: give numpy.moveaxis(array, 0, -1)"
        elif array.ndim == 3 and array.size:
            hint += "; choose of more channels with bands="
        raise InvalidImageError(f"an array of shape {list(array.shape)} is no image", hint=hint)
    kind = array.dtype.kind
    if kind == "f" or array.dtype in (np.uint8, np.uint16) or (is_decoded and kind in "iu"):
        return
    hint = _ARRAYS_WANTED
    if kind == "b":
        hint = "array.astype(numpy.uint8) * 255 is one"
    elif kind == "c":
        hint = "take its numpy.abs(), scaled to 0..255 as uint8"
    elif kind == "O":
        hint = "it holds Python objects: make it one array of numbers"
    elif kind in "iu":
        low, top = int(array.min()), int(array.max())
        fitting = "uint8" if top <= 0xFF else "uint16"
        hint = f"it holds {low} to {top}: "
        hint += f"array.astype(numpy.{fitting}) is one" if low >= 0 and top <= 0xFFFF else "scale it to 0..255 as uint8"
    raise InvalidImageError(f"an array of {array.dtype} is no image", hint=hint)


def _of_channels(array: npt.NDArray[Any], dtype: np.dtype[Any], channels: int | None) -> npt.NDArray[Any]:
    """Returns uint8 or uint16 pixels [H, W, C] in a model's dtype and number of channels, as exported models do it."""
    array = array.reshape(*array.shape[:2], -1)
    if array.dtype != dtype:
        # Full scale stays full scale.
        array = array.astype(np.uint16) * 257 if dtype == np.uint16 else (array >> 8).astype(np.uint8)
    colours, alpha = (array, None) if array.shape[2] in (1, 3) else (array[..., :-1], array[..., -1:])
    if channels is None:
        return array
    if channels == 1 and colours.shape[2] == 3:
        red, green, blue = np.moveaxis(colours.astype(np.float32), 2, 0)
        luma = green + np.float32(0.299) * (red - green) + np.float32(0.114) * (blue - green)
        gray: npt.NDArray[Any] = np.rint(luma)[..., np.newaxis].astype(dtype)
        return gray
    if channels >= 3 and colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    if channels == 4:
        alpha = np.full((*array.shape[:2], 1), np.iinfo(dtype).max, dtype) if alpha is None else alpha
        return np.concatenate([colours, alpha], axis=2)
    return colours


def read_picture(source: "ImageSource", choice: Choice = ALL) -> Picture:
    """Returns a picture from whatever holds it; a file of a format that servers read is not decoded.

    Args:
        source: see `ImageSource`. Text is a path. A Pillow picture is turned upright; arrays are taken as
            they are.
        choice: what to take of a picture that holds more than a model takes.

    Raises:
        InvalidImageError: it holds none.
        UnsupportedCallError: it is a TIFF that needs the extra `large`.
        OSError: a file cannot be read.
    """
    try:
        return _read(source, choice)
    except (MaskServingError, OSError):
        raise
    except Exception as error:  # a closed file, a path with a null byte, a damaged picture inside Pillow
        raise InvalidImageError(f"{name_of(source) or 'the image'} cannot be read: {error}") from error


def take_picture(source: "ImageSource", choice: Choice = ALL) -> Picture | None:
    """Returns a picture as its source is now, whatever becomes of that; None for a path, which can wait.

    Raises:
        InvalidImageError: it holds none.
        UnsupportedCallError: it is a TIFF that needs the extra `large`.
        OSError: a file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return None
    return read_picture(source.copy() if isinstance(source, np.ndarray) else source, choice)


def _read(source: "ImageSource", choice: Choice) -> Picture:
    if isinstance(source, str | os.PathLike):
        return _of_file(Path(source).read_bytes(), os.fspath(source), choice)
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_file(bytes(source), None, choice)
    if isinstance(source, np.ndarray):
        if choice.page is not None:
            raise InvalidImageError("an array has no pages", hint="index it")
        return _Array(source, None, choice)
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        picture: Any = source
        return _of_pillow(picture, choice)
    read: Callable[[], Any] | None = getattr(source, "read", None)
    if callable(read):
        data = read()
        if not isinstance(data, bytes | bytearray):
            raise InvalidImageError("the file is open for reading text", hint="open it with mode 'rb'")
        name = getattr(source, "name", None)
        return _of_file(bytes(data), name if isinstance(name, str) else None, choice)
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


def _of_file(data: bytes, name: str | None, choice: Choice) -> Picture:
    what = name or "the image"
    if not data:
        raise InvalidImageError(f"{what} is empty")
    header = read_header(data)
    if header is not None and header.format == "tiff":
        return _of_tiff(data, name, choice)
    if header is not None and header.format == "heic":
        raise InvalidImageError(
            f"{what} is HEIC, which is not read here",
            hint="convert it to JPEG, as by heif-convert, or open it by the package pillow-heif and give its picture",
        )
    if header is not None and header.format in _CONVERTED:
        return _of_converted(data, name, choice, header.format.upper())
    if choice != ALL and (choice.bands is not None or (choice.page or 1) != 1):
        raise InvalidImageError(
            f"{what} is one picture" if choice.bands is None else f"{what} has no bands to choose from",
            hint="pages are chosen of TIFF and GIF files, bands of TIFF files and arrays",
        )
    return _File(data, name, header)


def _of_tiff(data: bytes, name: str | None, choice: Choice) -> Picture:
    what = name or "the TIFF"
    if not has_tifffile():
        return _of_converted(data, name, choice, "TIFF")
    with contextlib.closing(TiffImage(data, what, choice)) as tiff:
        pixels = tiff.read_all()
    return _Array(
        pixels, name, choice, channels=tiff.channels, full_scale=tiff.full_scale, geo=tiff.geo, is_decoded=True
    )


def _of_converted(data: bytes, name: str | None, choice: Choice, form: str) -> Picture:
    from PIL import Image, ImageOps, features

    what = name or "the image"
    if form == "AVIF" and not features.check("avif"):
        raise InvalidImageError(f"{what} is AVIF, which this Pillow does not read", hint="pip install 'Pillow>=11.3'")
    hint = f"tifffile and imagecodecs read more kinds of TIFF: {HOW_TO_INSTALL}" if form == "TIFF" else None
    with _decoding(what, hint), Image.open(io.BytesIO(data), formats=(form,)) as opened:
        picture: Any = opened
        geo: GeoTags = {}
        if form == "TIFF":
            check_read_by_pillow(picture, what)
            geo = geo_of_pillow(picture)
        labels = [f"{picture.height}×{picture.width}"] * getattr(picture, "n_frames", 1)
        picture.seek(choose_page(labels, choice, what))
        upright = ImageOps.exif_transpose(picture)
        return _Array(_array_of(upright), name, choice, geo=geo, is_decoded=True)


def _of_pillow(picture: "Image.Image", choice: Choice) -> Picture:
    from PIL import ImageOps

    name = name_of(picture)
    raw_mode = _raw_mode(picture)
    if picture.format == "TIFF" and "X" in raw_mode:
        raise InvalidImageError(
            f"Pillow leaves out bands of {name or 'the TIFF'}", hint="give its path or bytes in place of the picture"
        )
    lacks_bits = ";16" in raw_mode and not picture.mode.startswith("I")
    with _decoding(name or "the image"):
        with _PILLOW_LOCK:
            picture.load()
            picture.getexif()
        upright = ImageOps.exif_transpose(picture)
        return _Array(_array_of(upright), name, choice, is_decoded=True, lacks_bits=lacks_bits)


def _raw_mode(picture: "Image.Image") -> str:
    """Returns how Pillow unpacks a picture that it has not loaded yet, such as `RGB;16B`; else nothing."""
    for tile in getattr(picture, "tile", None) or ():
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return first if isinstance(first, str) else ""
    return ""


@contextlib.contextmanager
def _decoding(what: str, hint: str | None = None) -> Iterator[None]:
    """Says of which picture it is what goes wrong inside Pillow, where damaged ones meet any error."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except MaskServingError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidImageError(
            f"{what} cannot be decoded: it is damaged, or no picture that Pillow knows", hint=hint
        ) from error
    except Exception as error:
        raise InvalidImageError(f"{what} cannot be decoded: {error or type(error).__name__}", hint=hint) from error


def _array_of(picture: "Image.Image") -> npt.NDArray[Any]:
    """Returns a Pillow picture's pixels: uint8, uint16, int32 or float32."""
    mode = picture.mode
    if mode.startswith("I") or mode in ("F", "L", "LA", "RGB", "RGBA"):
        return np.array(picture)
    if mode == "1":
        return np.array(picture.convert("L"))
    if mode == "La":
        return np.array(picture.convert("LA"))
    return np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _for_display(picture: "Image.Image") -> "Image.Image":
    if picture.mode.startswith("I") or picture.mode == "F":
        return _Array(np.array(picture).astype(np.float32)).picture()
    if picture.mode in ("RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
