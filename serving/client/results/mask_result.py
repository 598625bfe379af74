"""What a call for a mask gives back."""

import dataclasses
import functools
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import CallContext, InvalidImageError, InvalidResponseError, OutputNotRequestedError
from ..pictures.picture import Picture
from ..pictures.png import PNG_END, decode_png, encode_png, read_png_header
from ..pictures.tiff_tags import pillow_tags
from .polygons import Polygon, trace_polygons
from .rle import Rle, encode_rle

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]
Colour = tuple[int, int, int]

_SAVED = (contract.MASK, contract.MASKED_IMAGE, "cutout", "overlay", contract.PROBABILITY, contract.CLASS_MAP)
_JPEGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
_OPAQUE = _JPEGS | {".bmp", ".dib", ".ppm", ".pnm", ".pgm", ".pbm", ".pfm"}
_LOSSY = _JPEGS | {".avif", ".avifs"}
# Pictures of these have one of a few sizes, and are scaled to it.
_ICONS = frozenset({".ico", ".icns"})
# Pillow cuts values of 16 bits off at 255 there, and says nothing.
_SHALLOW = frozenset({".webp", ".gif"})
# Exact values matter in these: a lossy file would be wrong without looking wrong.
_EXACT = frozenset({contract.MASK, contract.PROBABILITY, contract.CLASS_MAP})
_USE_PNG = "use .png"
_RED: Colour = (255, 40, 40)


def check_file_form(ending: str, product: str) -> None:
    """Makes sure that a form of files can hold a product.

    Args:
        ending: of the files' names, such as `.png`, in small letters.
        product: as for `MaskResult.save`.

    Raises:
        InvalidImageError: it cannot.
    """
    if ending in _LOSSY and product in _EXACT:
        raise InvalidImageError(f"a {product} cannot be a {ending} file, which blurs its values", hint=_USE_PNG)
    if ending in _ICONS:
        raise InvalidImageError(f"a {product} cannot be a {ending} file, which changes its size", hint=_USE_PNG)
    if ending in _OPAQUE and product == "cutout":
        raise InvalidImageError(f"a cutout cannot be a {ending} file: it has no transparency", hint=_USE_PNG)


class _Output:
    """One product: a PNG, decoded when it is looked at, or an array from a pixel signature."""

    def __init__(self, png: bytes | None = None, array: Array | None = None):
        self.png = png
        self._array = array

    @functools.cached_property
    def array(self) -> Array:
        if self._array is not None:
            return self._array
        return decode_png(self.png or b"")


class MaskResult:
    """The answer for one picture. Nothing is decoded before it is looked at.

    Attributes:
        source: path of the picture, where it has one.
        address: of the server that answered.
        model: name of the model that answered.
        version: its version; None over REST, which does not say it, unless it was asked for by number.
        class_names: the model's classes in order, where class maps were asked for and the model names them.
        seconds: from the call to its answer.
        request_bytes: that were sent, over all calls for this picture.
        response_bytes: that came back.
    """

    def __init__(
        self,
        picture: Picture,
        outputs: Mapping[str, _Output],
        *,
        context: CallContext,
        class_names: Sequence[str] | None = None,
        seconds: float = 0.0,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ):
        self._picture = picture
        self._outputs = dict(outputs)
        self._context = context
        self.source = picture.name
        self.address = context.address
        self.model = context.model
        self.version = context.version
        self.class_names = tuple(class_names) if class_names is not None else None
        self.seconds = seconds
        self.request_bytes = request_bytes
        self.response_bytes = response_bytes

    def __repr__(self) -> str:
        size = _size(self.size) if self.size else "unknown size"
        return f"<MaskResult of {self.source or 'an image'}, {size}: {', '.join(self._outputs)}>"

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the upright picture."""
        if self._picture.size is not None:
            return self._picture.size
        output = next(iter(self._outputs.values()))
        return read_png_header(output.png).size if output.png is not None else output.array.shape[:2]

    @functools.cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """The mask: bool [H, W] at the upright picture's own size."""
        return _plane(self._array_of(contract.MASK)) > 0

    @functools.cached_property
    def probability(self) -> npt.NDArray[np.float32]:
        """The foreground's probability: float32 [H, W], 0 to 1."""
        plane = _plane(self._array_of(contract.PROBABILITY))
        if plane.dtype == np.uint16:
            return plane.astype(np.float32) / np.float32(65535)
        return plane.astype(np.float32, copy=False)

    @property
    def masked_image(self) -> Array:
        """The picture with its background blacked out or coloured, as the export chose: [H, W, C]."""
        array = self._array_of(contract.MASKED_IMAGE)
        return array[:, :, np.newaxis] if array.ndim == 2 else array

    @functools.cached_property
    def class_map(self) -> Array:
        """The index of the most probable class: uint8 or uint16 [H, W]."""
        return _plane(self._array_of(contract.CLASS_MAP))

    @property
    def area(self) -> int:
        """How many pixels the mask covers."""
        return int(np.count_nonzero(self.mask))

    @property
    def bbox(self) -> tuple[int, int, int, int] | None:
        """The smallest box around the mask: left, top, width and height; None if the mask is empty."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        if not rows.size:
            return None
        columns = np.flatnonzero(self.mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1

    def rle(self) -> Rle:
        """Returns the mask in COCO's run-length encoding, as pycocotools reads it."""
        return encode_rle(self.mask)

    def polygons(self) -> list[Polygon]:
        """Returns the mask's outlines, largest first.

        Raises:
            UnsupportedCallError: the extra `contours` is not installed.
        """
        return trace_polygons(self.mask)

    def class_areas(self) -> dict[str, int]:
        """Returns how many pixels each class covers, by name (by number where the model names none)."""
        counts = np.bincount(self.class_map.ravel(), minlength=len(self.class_names or ()))
        names = self.class_names or [str(index) for index in range(len(counts))]
        return dict(zip(names, counts.tolist(), strict=False))

    def image(self) -> "Image.Image":
        """Returns the picture that was sent: upright, in 8 bits, RGB or RGBA.

        Raises:
            InvalidImageError: it cannot be decoded here.
        """
        return self._picture.picture()

    def cutout(self) -> "Image.Image":
        """Returns the foreground on a transparent background: RGBA."""
        from PIL import Image, ImageChops

        image = self._fitting_image().convert("RGBA")
        alpha = Image.fromarray(self.mask.astype(np.uint8) * 255)
        image.putalpha(ImageChops.darker(image.getchannel("A"), alpha))
        return image

    def overlay(self, colour: Colour = _RED, opacity: float = 0.5) -> "Image.Image":
        """Returns the picture with its foreground tinted: RGB.

        Args:
            colour: red, green and blue, 0 to 255.
            opacity: 0 leaves the picture as it is, 1 hides it.
        """
        from PIL import Image

        image = self._fitting_image().convert("RGB")
        tint = Image.new("RGB", image.size, tuple(colour))
        alpha = Image.fromarray(self.mask.astype(np.uint8) * round(255 * opacity))
        return Image.composite(tint, image, alpha)

    def save(self, path: str | os.PathLike[str], product: str | None = None) -> Path:
        """Writes one product to a file; the file's ending says how.

        Args:
            path: `.npy` is the array itself; `.json` the mask's numbers: size, area, box, RLE; everything
                else a picture in a format of Pillow's. Masks are 0 and 255, probabilities 16-bit gray.
            product: `mask`, `masked_image`, `cutout`, `overlay`, `probability` or `class_map`; None is the
                mask, or the first product that was asked for.

        Returns:
            The path.

        Raises:
            OutputNotRequestedError: the result does not hold that product.
            InvalidImageError: the format cannot hold it.
            OSError: the file cannot be written.
        """
        path = Path(path)
        wanted = product or (contract.MASK if contract.MASK in self._outputs else next(iter(self._outputs)))
        if wanted not in _SAVED:
            raise OutputNotRequestedError(f"there is no product {wanted!r}", hint=f"there are: {', '.join(_SAVED)}")
        ending = path.suffix.lower()
        if ending == ".npy":
            held = io.BytesIO()  # see _save_picture
            np.save(held, self._array_to_save(wanted))
            path.write_bytes(held.getbuffer())
        elif ending == ".json":
            path.write_text(json.dumps(self.as_dict()) + "\n", encoding="utf-8")
        else:
            check_file_form(ending, wanted)
            output = self._outputs.get(wanted)
            if ending == ".png" and output is not None:
                is_whole = output.png is not None and self._picture.missing is None
                path.write_bytes(output.png or b"" if is_whole else self._encoded(wanted))
            else:
                self._save_picture(path, wanted)
        return path

    def as_dict(self) -> dict[str, Any]:
        """Returns what the mask comes to, ready for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "version": self.version,
            "size": list(self.size) if self.size else None,
            "area": self.area,
            "bbox": list(self.bbox) if self.bbox else None,
            "rle": self.rle(),
        }

    def _output(self, product: str) -> _Output:
        output = self._outputs.get(product)
        if output is None:
            raise OutputNotRequestedError(
                f"the result holds no {product}",
                hint=f"ask for it: segment(…, outputs={(*self._outputs, product)!r})",
                context=self._context,
            )
        return output

    def _array_of(self, product: str) -> Array:
        """Returns a product as it came, but for pixels that the picture has no data for: these are 0."""
        array = self._output(product).array
        missing = self._picture.missing
        if missing is not None:
            array = array.copy()
            array[missing] = 0
        return array

    def _array_to_save(self, product: str) -> Array:
        arrays: dict[str, Callable[[], Array]] = {
            contract.MASK: lambda: self.mask,
            contract.PROBABILITY: lambda: self.probability,
            contract.MASKED_IMAGE: lambda: self.masked_image,
            contract.CLASS_MAP: lambda: self.class_map,
            "cutout": lambda: np.array(self.cutout()),
            "overlay": lambda: np.array(self.overlay()),
        }
        return arrays[product]()

    def _encoded(self, product: str) -> bytes:
        array = self._array_to_save(product)
        if product == contract.PROBABILITY:
            array = np.rint(array * 65535).astype(np.uint16)
        elif product == contract.MASK:
            array = array.astype(np.uint8) * 255
        if array.dtype.kind == "f":
            raise InvalidImageError(f"a {product} of {array.dtype} is no picture", hint="save it as .npy")
        return encode_png(array)

    def _save_picture(self, path: Path, product: str) -> None:
        from PIL import Image

        ending = path.suffix.lower()
        form = Image.registered_extensions().get(ending)
        if form is None or form not in Image.SAVE:
            raise InvalidImageError(f"cannot write a {product} as {path.suffix}: unknown file extension", hint=_USE_PNG)
        picture = self._picture_of(product)
        if picture.mode.startswith("I") and ending in _SHALLOW:
            raise InvalidImageError(f"a {product} of 16 bits cannot be a {path.suffix} file", hint=_USE_PNG)
        # Where a disk is full, Pillow leaves a part of some files and says nothing, and NumPy says little.
        held = io.BytesIO()
        try:
            picture.save(held, form, **self._options_of(form))
        except (ValueError, OSError) as error:
            raise InvalidImageError(f"cannot write a {product} as {path.suffix}: {error}", hint=_USE_PNG) from error
        path.write_bytes(held.getbuffer())

    def _options_of(self, form: str) -> dict[str, Any]:
        if form == "WEBP":  # of these, only WebP is lossy unless told otherwise
            return {"lossless": True}
        sent = self._picture
        if form == "TIFF" and (sent.geo or sent.missing is not None):
            return {"tiffinfo": pillow_tags(sent.geo, has_missing=sent.missing is not None)}
        return {}

    def _picture_of(self, product: str) -> "Image.Image":
        from PIL import Image

        if product == "cutout":
            return self.cutout()
        if product == "overlay":
            return self.overlay()
        if product == contract.MASK:
            return Image.fromarray(self.mask.astype(np.uint8) * 255)
        if product == contract.PROBABILITY:
            return Image.fromarray(np.rint(self.probability * 65535).astype(np.uint16))
        array = self.class_map if product == contract.CLASS_MAP else self.masked_image
        if array.dtype != np.uint8 and (array.dtype != np.uint16 or array.shape[2:] not in ((), (1,))):
            raise InvalidImageError(f"a {product} of {array.dtype} cannot be saved so", hint="use .png or .npy")
        return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)

    def _fitting_image(self) -> "Image.Image":
        image = self.image()
        if (image.height, image.width) != self.mask.shape:
            raise InvalidResponseError(
                f"the mask is {_size(self.mask.shape)}, the picture {_size((image.height, image.width))}",
                context=self._context,
            )
        return image


@dataclasses.dataclass(frozen=True)
class SegmentItem:
    """One picture of many: its result, or why there is none.

    Attributes:
        source: what was given.
        index: its place among the pictures, from 0.
        result: None where there is an error.
        error: None where there is a result.
    """

    source: Any
    index: int
    result: MaskResult | None = None
    error: Exception | None = None


# What a PNG of each product must be: bits of a sample, and channels.
_FORMS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    contract.MASK: ((8,), (1,)),
    contract.PROBABILITY: ((16,), (1,)),
    contract.CLASS_MAP: ((8, 16), (1,)),
    contract.MASKED_IMAGE: ((8, 16), (1, 2, 3, 4)),
}
_LARGEST_UNCHECKED = 1 << 28
"""Pixels that a picture may have in the answer where the sent one's size is not known here."""


def encoded_output(product: str, png: bytes, picture: Picture) -> _Output:
    """Returns a product from a PNG, having looked at its header.

    Raises:
        InvalidResponseError: it is not a PNG of that product, or not of the sent picture's size.
    """
    header = read_png_header(png)
    if not png.endswith(PNG_END):
        raise InvalidResponseError(f"the {product} in the answer is a PNG that is cut off")
    bits, channels = _FORMS[product]
    if header.bits not in bits or header.channels not in channels:
        raise InvalidResponseError(
            f"the {product} in the answer is a PNG of {header.bits} bits, {header.channels or '?'} channels"
        )
    height, width = header.size
    if picture.size is not None and header.size != picture.size:
        raise InvalidResponseError(
            f"the {product} in the answer is {_size(header.size)}, the picture {_size(picture.size)}"
        )
    if picture.size is None and height * width > _LARGEST_UNCHECKED:
        raise InvalidResponseError(f"the {product} in the answer claims to be {_size(header.size)}")
    return _Output(png=png)


def pixel_output(product: str, array: Array, picture: Picture) -> _Output:
    """Returns a product from the array [H, W, C] of a pixel signature.

    Raises:
        InvalidResponseError: it is not of the sent picture's size.
    """
    if array.ndim != 3 or (picture.size is not None and array.shape[:2] != picture.size):
        raise InvalidResponseError(
            f"the {product} in the answer is {_size(array.shape)}, the picture {_size(picture.size or ())}"
        )
    return _Output(array=array)


def _size(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _plane(array: Array) -> Array:
    return array[:, :, 0] if array.ndim == 3 else array
