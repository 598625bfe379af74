"""What can be sent: anything that holds a picture becomes one."""

import contextlib
import io
import os
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError, MaskServingError, UnsupportedCallError
from .arrays import ArrayPicture
from .channels import ALL, Choice, choose_page
from .files.damage import decoding
from .files.headers import ImageHeader, read_header
from .picture import FilePicture, Picture, PixelPicture, array_of
from .tiff_tags import HOW_TO_INSTALL, geo_of_pillow
from .tiffs import TiffImage
from .tiling import whole

if TYPE_CHECKING:
    from PIL import Image

    ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[Any] | Image.Image
    """A path, an encoded picture's bytes, a file open for reading bytes, an array, or a Pillow picture."""
else:
    ImageSource = Any

# Formats that servers do not read, but Pillow does: these are sent as PNG.
_NPY = b"\x93NUMPY"
_CONVERTED = frozenset({"gif", "avif"})
# Pillow loads a picture when it is first used, which two threads cannot do at one time.
_PILLOW_LOCK = threading.Lock()


def read_picture(source: "ImageSource", choice: Choice = ALL) -> Picture:
    """Returns a picture from whatever holds it; a file of a format that servers read is not decoded.

    Text is a path. A Pillow picture is turned upright; arrays are taken as they are. Besides `InvalidImageError`,
    there are `UnsupportedCallError` of a TIFF that needs the extra `large`, and `OSError`.
    """
    try:
        return _read(source, choice)
    except (MaskServingError, OSError):
        raise
    except Exception as error:  # a closed file, a path with a null byte, a damaged picture inside Pillow
        raise InvalidImageError(f"{name_of(source) or 'the image'} cannot be read: {error}") from error


def try_picture(source: "ImageSource", choice: Choice) -> Picture | Exception:
    """Returns the picture that `read_picture` does, or why there is none."""
    try:
        return read_picture(source, choice)
    except (MaskServingError, OSError) as error:
        return error


def _read(source: "ImageSource", choice: Choice) -> Picture:
    if isinstance(source, str | os.PathLike):
        return _of_file(Path(source).read_bytes(), os.fspath(source), choice)
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_file(bytes(source), None, choice)
    if isinstance(source, np.ndarray):
        if choice.page is not None:
            raise InvalidImageError("an array has no pages", hint="index it")
        array = source if isinstance(source, np.ma.MaskedArray) else np.asarray(source)  # of matrices, too
        return PixelPicture(ArrayPicture(array, choice), None, choice)
    other: Any = source
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        return _of_pillow(other, choice)
    if callable(getattr(source, "read", None)):
        data = other.read()
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
    header = read_header(data) or ImageHeader("", None)
    form = header.format
    if form == "tiff":
        with contextlib.suppress(UnsupportedCallError):  # the extra `large` is missing
            return _of_tiff(data, name, choice)
        return _of_converted(data, name, choice, "TIFF")
    if data.startswith(_NPY):
        return _of_npy(data, name, choice)
    if form == "heic":
        raise InvalidImageError(
            f"{what} is HEIC, which is not read here",
            hint="convert it to JPEG, as by heif-convert, or open it by the package pillow-heif and give its picture",
        )
    if form in _CONVERTED:
        return _of_converted(data, name, choice, form.upper())
    if choice != ALL and (choice.bands is not None or (choice.page or 1) != 1):
        raise InvalidImageError(
            f"{what} is one picture" if choice.bands is None else f"{what} has no bands to choose from",
            hint="pages are chosen of TIFF and GIF files, bands of TIFF files and arrays",
        )
    return FilePicture(data, name, header)


def _of_npy(data: bytes, name: str | None, choice: Choice) -> Picture:
    if choice.page is not None:
        raise InvalidImageError(f"{name or 'an array'} has no pages")
    array = np.load(io.BytesIO(data), allow_pickle=False)
    return PixelPicture(ArrayPicture(array, choice, name or "an array"), name, choice)


def _of_tiff(data: bytes, name: str | None, choice: Choice) -> Picture:
    what = name or "the TIFF"
    with contextlib.closing(TiffImage(data, what, choice)) as tiff:
        pixels = tiff.read(whole(*tiff.shape[:2]))
    means: dict[str, Any] = {"channels": tiff.channels, "full_scale": tiff.full_scale, "geo": tiff.geo}
    return PixelPicture(ArrayPicture(pixels, choice, what, **means, is_decoded=True), name, choice)


def _of_converted(data: bytes, name: str | None, choice: Choice, form: str) -> Picture:
    from PIL import Image, ImageOps, features

    what = name or "the image"
    if form == "AVIF" and not features.check("avif"):
        raise InvalidImageError(f"{what} is AVIF, which this Pillow does not read", hint="pip install 'Pillow>=11.3'")
    hint = f"tifffile and imagecodecs read more kinds of TIFF: {HOW_TO_INSTALL}" if form == "TIFF" else ""
    with decoding(what, hint), Image.open(io.BytesIO(data), formats=(form,)) as opened:
        picture: Any = opened
        geo = geo_of_pillow(picture, what) if form == "TIFF" else None
        labels = [f"{picture.height}×{picture.width}"] * getattr(picture, "n_frames", 1)
        picture.seek(choose_page(labels, choice, what))
        upright = ImageOps.exif_transpose(picture)
        return PixelPicture(ArrayPicture(array_of(upright), choice, what, geo=geo, is_decoded=True), name, choice)


def _of_pillow(picture: "Image.Image", choice: Choice) -> Picture:
    from PIL import ImageOps

    name = name_of(picture)
    what = name or "the image"
    raw_mode = _raw_mode(picture)
    if picture.format == "TIFF" and "X" in raw_mode:
        raise InvalidImageError(
            f"Pillow leaves out bands of {name or 'the TIFF'}", hint="give its path or bytes in place of the picture"
        )
    lacks_bits = ";16" in raw_mode and not picture.mode.startswith("I")
    with decoding(what):
        with _PILLOW_LOCK:
            picture.load()
            picture.getexif()
        pixels = array_of(ImageOps.exif_transpose(picture))
        return PixelPicture(ArrayPicture(pixels, choice, what, is_decoded=True), name, choice, lacks_bits=lacks_bits)


def _raw_mode(picture: "Image.Image") -> str:
    """Returns how Pillow unpacks a picture that it has not loaded yet, such as `RGB;16B`; else nothing."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
