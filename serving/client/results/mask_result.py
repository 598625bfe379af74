"""What a call for a mask gives back."""

import dataclasses
import functools
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import CallContext, InvalidRequestError, InvalidResponseError, OutputNotRequestedError
from ..pictures.picture import Picture
from ..pictures.tiling import Array
from .files import JPEGS, write_picture
from .output import Output, size_text
from .polygons import Polygon, trace_polygons
from .rle import Rle, encode_rle

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]

_SAVED = (contract.MASK, *contract.MASKED_IMAGES, "cutout", "overlay", contract.PROBABILITY, contract.CLASS_MAP)
_WHITE = 65535
_RED: Colour = (255, 40, 40)


class MaskResult:
    """The answer for one picture. Nothing is decoded before it is looked at.

    Attributes:
        source: path of the picture, where it has one.
        address: of the server that answered.
        model: name of the model that answered.
        version: its version; None over REST, which does not say it, unless it was asked for by number, or several
            products were asked for.
        class_names: the model's classes in order, where class maps were asked for and the model names them.
        seconds: from the call to its answer.
        request_bytes: that were sent, over all calls for this picture.
        response_bytes: that came back.
    """

    def __init__(
        self,
        picture: Picture,
        outputs: Mapping[str, Output],
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
        size = size_text(self.size) if self.size else "unknown size"
        return f"<MaskResult of {self.source or 'an image'}, {size}: {', '.join(self._outputs)}>"

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the upright picture."""
        return self._picture.size or next(iter(self._outputs.values())).size

    @functools.cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """The mask: bool [H, W] at the upright picture's own size."""
        plane = _plane(self._array_of(contract.MASK))
        return plane if plane.dtype == bool else plane > 0

    @functools.cached_property
    def probability(self) -> npt.NDArray[np.float32]:
        """The foreground's probability: float32 [H, W], 0 to 1."""
        plane = _plane(self._array_of(contract.PROBABILITY))
        return plane.astype(np.float32, copy=False) / np.float32(_WHITE if plane.dtype == np.uint16 else 1)

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
        return bbox_of(self.mask)

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

        Raises:
            InvalidRequestError: the colour or the opacity is none.
        """
        from PIL import Image

        if len(colour) != 3 or any(part not in range(256) for part in colour):
            raise InvalidRequestError(f"colour={colour!r} is not red, green and blue, whole numbers from 0 to 255")
        if not 0 <= opacity <= 1:
            raise InvalidRequestError(f"opacity={opacity!r} is not from 0 to 1")
        image = self._fitting_image().convert("RGB")
        tint = Image.new("RGB", image.size, tuple(map(int, colour)))
        alpha = Image.fromarray(self.mask.astype(np.uint8) * round(255 * opacity))
        return Image.composite(tint, image, alpha)

    def save(self, path: str | os.PathLike[str], product: str | None = None) -> Path:
        """Writes one product to a file; the file's ending says how.

        Args:
            path: `.npy` is the array itself; `.json` the mask's numbers: size, area, box, RLE; everything
                else a picture in a format of Pillow's. Masks are black and white: a `.png` as the server's is, of
                one bit a pixel or of 8, others 0 and 255. Probabilities are 16-bit gray.
            product: `mask`, `masked_image` (a JPEG as it came, where `masked_image_jpeg` was asked for and the
                ending is `.jpg`), `cutout`, `overlay`, `probability` or `class_map`; None is the
                mask, or the first product that was asked for.

        Returns:
            The path.

        Raises:
            OutputNotRequestedError: the result does not hold that product.
            InvalidImageError: the format cannot hold it.
            OSError: the file cannot be written.
        """
        path = Path(path)
        # Where a disk is full, Pillow leaves a part of some files and says nothing, and NumPy says little.
        path.write_bytes(self.encode(path.suffix, product))
        return path

    def encode(self, ending: str, product: str | None = None) -> bytes:
        """Returns what `save` writes to a file of that ending, such as `.png`; see there."""
        wanted = product or (contract.MASK if contract.MASK in self._outputs else next(iter(self._outputs)))
        if wanted not in _SAVED:
            raise OutputNotRequestedError(f"there is no product {wanted!r}", hint=f"there are: {', '.join(_SAVED)}")
        held = io.BytesIO()
        if wanted == contract.MASKED_IMAGE_JPEG:
            wanted = contract.MASKED_IMAGE
        output = self._output_of(wanted, ending.lower())
        file = {".png": output.png, **dict.fromkeys(JPEGS, output.jpeg)}.get(ending.lower()) if output else b""
        if file and self._picture.missing is None:
            return file
        if ending.lower() == ".npy":
            np.save(held, self._values(wanted))
        elif ending.lower() == ".json":
            held.write(json.dumps(self.as_dict()).encode() + b"\n")
        else:
            write_picture(held, ending, wanted, self._shades(wanted, ending.lower()), self._picture)
        return held.getvalue()

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

    def _array_of(self, product: str) -> Array:
        """Returns a product as it came, but for pixels that the picture has no data for: these are 0."""
        output = self._output_of(product)
        if output is None:
            raise OutputNotRequestedError(
                f"the result holds no {product}",
                hint=f"ask for it: segment(…, outputs={(*self._outputs, product)!r})",
                context=self._context,
            )
        missing = self._picture.missing
        if missing is None:
            return output.array
        array = output.array.copy()
        array[missing] = 0
        return array

    def _output_of(self, product: str, ending: str = "") -> Output | None:
        """Returns a product as it came; of a masked image, what suits an ending where it came as PNG and as JPEG."""
        jpeg = self._outputs.get(contract.MASKED_IMAGE_JPEG)
        if product == contract.MASKED_IMAGE and jpeg and (ending in JPEGS or product not in self._outputs):
            return jpeg
        return self._outputs.get(product)

    def _values(self, product: str) -> Array:
        value = getattr(self, product)
        return np.array(value()) if callable(value) else value

    def _shades(self, product: str, ending: str) -> Array:
        """Returns a product's values as those of a picture in a file of an ending."""
        array = self._values(product)
        if product == contract.PROBABILITY:
            array = np.rint(array * _WHITE).astype(np.uint16)
        # One bit a pixel, as it came, is for PNG.
        if product == contract.MASK and not (ending == ".png" and self._outputs[product].array.dtype == bool):
            array = array.astype(np.uint8) * 255
        return array

    def _fitting_image(self) -> "Image.Image":
        image = self.image()
        if (image.height, image.width) != self.mask.shape:
            raise InvalidResponseError(
                f"the mask is {size_text(self.mask.shape)}, the picture {size_text((image.height, image.width))}",
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


def bbox_of(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Returns the smallest box around a mask [H, W]: left, top, width and height; None if the mask is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def _plane(array: Array) -> Array:
    return array[:, :, 0] if array.ndim == 3 else array
