"""One picture on its way to a model: a file that travels as it is, or pixels."""

import functools
import io
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import contract
from ..errors import InvalidImageError, InvalidResponseError
from .arrays import ArrayPicture, split_missing
from .channels import ALL, UNKNOWN, Choice, ModelInput, needs_model
from .files.damage import decoding
from .files.headers import ImageHeader
from .files.png import decode_png, encode_png
from .source import Source, check_not_black
from .tiff_tags import GeoTags
from .tiling import Array, turn, whole

if TYPE_CHECKING:
    from PIL import Image


class FilePicture:
    """A file of a format that servers read, or of one that is not known here: it travels as it is."""

    name: str | None  # its path, where it has one
    size: tuple[int, int] | None  # height and width when upright; None where only the server can tell
    missing: Array | None = None  # bool [H, W], where it has no data, known once it was sent; None: nowhere
    geo: GeoTags = MappingProxyType({})  # its place on Earth
    byte_count: int  # that it takes here; on the wire at most about as many
    needs_dtype = False  # whether what is sent of it depends on the dtype that the model takes
    needs_channels = False  # whether it depends on how many channels the model takes
    is_float = False  # whether it is an array of floats, which only float models take
    are_bands = False  # whether its channels mean no colours

    def __init__(self, data: bytes, name: str | None, header: ImageHeader):
        self._data, self.name, self.byte_count = data, name, len(data)
        self._what = name or "the image"
        self._format, self.size, self._orientation = header.format, header.size, header.orientation
        # PNG of 16 bits.
        self.needs_dtype = self._format == "png" and data[24:25] == b"\x10"

    def encoded(self, model: ModelInput = UNKNOWN) -> bytes:
        """Returns it as a file that servers read, or raises `InvalidImageError`."""
        # What the model refuses by its size is the server's to refuse: it would take memory for nothing.
        is_taken = self.size is None or model.max_pixels is None or math.prod(self.size) <= model.max_pixels
        if model.dtype == np.uint8 and is_taken:
            self._check_seen()
        return self._data

    def pixels(self, dtype: np.dtype[Any], channels: int | None, model: ModelInput = UNKNOWN) -> Array:
        """Returns it as an array [H, W, C], or raises `InvalidImageError` where that means loss or guesses.

        Channels are as many as the model wants; None leaves them as they are.
        """
        if ModelInput(dtype, channels or model.channels).takes_bands:
            raise InvalidImageError(
                f"{self._what} is an encoded picture, and the model takes {channels or model.channels} bands",
                hint="send a TIFF that holds them, or an array [H, W, bands]",
            )
        if dtype.kind == "f":
            raise InvalidImageError(
                f"{self._what} is an encoded picture, and the model takes {dtype} pixels only",
                hint="decode and scale it as the model wants it, and send the array",
            )
        if dtype == np.uint8:
            self._check_seen()
        return _of_channels(self._upright, dtype, channels)

    def picture(self) -> "Image.Image":
        """Returns it upright, in 8 bits, to look at."""
        array = self._upright
        # Colours of 16 bits as Pillow shows them; gray ones are stretched to what is there.
        is_deep_colour = array.dtype == np.uint16 and array.ndim == 3
        return _for_display((array >> 8).astype(np.uint8) if is_deep_colour else array)

    def _check_seen(self) -> None:
        """Makes sure that a model of 8 bits sees something in 16; a damaged file is the server's to refuse."""
        if not self.needs_dtype:
            return
        try:
            array = self._upright
        except InvalidImageError:
            return
        colours = array[..., :-1] if array.shape[-1] in (2, 4) and array.ndim == 3 else array
        check_not_black(int(colours.max()), self._what)

    @functools.cached_property
    def _upright(self) -> Array:
        """The samples, with all their bits; by the orientation that exported models see, where Pillow sees others."""
        from PIL import Image

        if self.needs_dtype:
            with decoding(self._what):
                try:
                    return turn(decode_png(self._data), self._orientation)
                except InvalidResponseError as error:  # which speaks of an answer
                    raise error.__cause__ or ValueError("it is cut off") from None
        with decoding(self._what), Image.open(io.BytesIO(self._data)) as picture:
            count = getattr(picture, "n_frames", 1)
            # Cameras put previews and depth maps behind a JPEG (MPO); the first picture is the photograph.
            if count > 1 and self._format != "jpeg":
                raise InvalidImageError(f"{self._what} holds {count} pictures", hint="send them one by one")
            return turn(array_of(picture), self._orientation)


class PixelPicture:
    """Pixels: an array, or what was decoded here; that is converted to what the model takes, as nobody knows better.

    With `lacks_bits`, Pillow has dropped the lower 8 of their 16 bits. Attributes and methods are as `FilePicture`'s.
    """

    missing: Array | None = None

    def __init__(self, raw: ArrayPicture, name: str | None = None, choice: Choice = ALL, *, lacks_bits: bool = False):
        self._raw, self.name, self._choice, self._lacks_bits = raw, name, choice, lacks_bits
        self._whole = whole(*raw.shape[:2])
        self._what = name or ("the image" if raw.is_decoded else f"an array of {raw.dtype}")
        self._described = f"{self._what} of {raw.dtype}" if name or raw.is_decoded else self._what
        self._sent: tuple[ModelInput, Array] | None = None
        self.size, self.geo = (raw.shape[0], raw.shape[1]), raw.geo
        self.byte_count = math.prod(raw.shape) * raw.dtype.itemsize
        self.is_float = raw.dtype.kind == "f"
        self.needs_dtype = raw.dtype != np.uint8
        self.needs_channels = needs_model(raw.channels, choice)
        if raw.is_decoded and not self.needs_channels:
            self._for(UNKNOWN)  # which finds what no model takes

    def encoded(self, model: ModelInput = UNKNOWN) -> bytes:
        """See `FilePicture`."""
        if self.is_float:
            raise InvalidImageError(
                f"{self._described} was given, and the model takes integer pixels",
                hint=f"{self._range()}: scale it to 0..255 as uint8, or export the model with image_dtype: float32",
            )
        if self._lacks_bits and model.dtype == np.uint16:
            raise InvalidImageError(
                f"Pillow keeps 8 of the 16 bits of {self._what}, and the model takes 16",
                hint="give the file's path or bytes in place of Pillow's picture",
            )
        return encode_png(self._for(model))

    def pixels(self, dtype: np.dtype[Any], channels: int | None, model: ModelInput = UNKNOWN) -> Array:
        """See `FilePicture`."""
        is_same_kind = (dtype.kind == "f") == self.is_float
        if is_same_kind:
            array = self._for(ModelInput(dtype, channels or model.channels))
            if self._raw.is_decoded and not self.is_float and channels in (None, *contract.IMAGE_CHANNELS):
                return _of_channels(array, dtype, channels)
        if not is_same_kind or (not self.is_float and dtype != array.dtype):
            raise InvalidImageError(
                f"{self._described} was given, and the model takes {dtype} pixels",
                hint=f"{self._range()}: convert it, and mind the scale",
            )
        if channels is not None and array.shape[2] != channels:
            raise InvalidImageError(f"an array of {array.shape[2]} channels was given, and the model takes {channels}")
        return array

    @property
    def are_bands(self) -> bool:
        """See `FilePicture`; known once it was sent."""
        takes_bands = self._sent is not None and self._sent[0].takes_bands
        return takes_bands or (self._raw.is_decoded and self.needs_channels and self._choice.bands is None)

    def picture(self) -> "Image.Image":
        """See `FilePicture`."""
        array = self._sent[1] if self._sent is not None else self._values()
        # The second of two bands, and the fourth of four, is no alpha.
        return _for_display(array[:, :, : 3 if array.shape[2] > 2 else 1] if self.are_bands else array)

    def _values(self) -> Array:
        return split_missing(self._raw.read(self._whole))[0]

    def _range(self) -> str:
        values = self._values()
        return f"it holds {values.min():g} to {values.max():g}"

    def _for(self, model: ModelInput) -> Array:
        """Returns what to send to a model: [H, W, C]."""
        if self._sent is None or self._sent[0] != model:
            source = Source(self._raw, self._what, self._choice, model)
            pixels, self.missing = source.read(self._whole)
            source.check_all_read()
            self._sent = model, pixels
        return self._sent[1]


Picture = FilePicture | PixelPicture
"""One picture on its way to a model."""


def picture_of_tile(pixels: Array) -> Picture:
    """Returns a piece of a large picture, [h, w, C], of which what a model takes was seen to already."""
    picture = PixelPicture(ArrayPicture(pixels, ALL))
    picture.needs_dtype = picture.needs_channels = False
    return picture


def array_of(picture: "Image.Image") -> Array:
    """Returns a Pillow picture's pixels: uint8, uint16, int32 or float32."""
    mode = picture.mode
    if mode.startswith("I") or mode in ("F", "L", "LA", "RGB", "RGBA"):
        return np.array(picture)
    plain = {"1": "L", "La": "LA"}.get(mode)
    return np.array(picture.convert(plain or ("RGBA" if picture.has_transparency_data else "RGB")))


def _of_channels(array: Array, dtype: np.dtype[Any], channels: int | None) -> Array:
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
        return np.asarray(np.rint(luma)[..., np.newaxis], dtype)
    if channels >= 3 and colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    if channels == 4:
        alpha = np.full((*array.shape[:2], 1), np.iinfo(dtype).max, dtype) if alpha is None else alpha
        return np.concatenate([colours, alpha], axis=2)
    return colours


def _for_display(array: Array) -> "Image.Image":
    """Returns pixels [H, W] or [H, W, C] as RGB or RGBA of 8 bits; what is no uint8 is stretched to what is there."""
    from PIL import Image

    array = array.reshape(*array.shape[:2], -1)
    array = array[:, :, :3] if array.shape[2] > 4 else array
    if array.dtype != np.uint8:
        array = (np.clip(array / (float(array.max()) or 1.0), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
