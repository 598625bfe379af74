"""What a loaded export makes of one picture: probability, mask, masked image, and the threshold's effect."""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageOps

from ...serving import contract
from ..errors import InspectError
from ..graph import masking
from ..model import examples
from ..model.causes import cause_of
from ..model.rasters import read_raster
from ..pages import Shown
from ..publish import golden
from ..spec import FULL_SCALE, Clean
from .record import ExportRecord

Pixels = npt.NDArray[Any]

THRESHOLDS: npt.NDArray[np.float64] = np.arange(201) / 200
_DRAWN_SIZE = (384, 512)
_DRAWN = "a drawn picture"
_STRETCHED = (2, 98)
"""Percentiles of values that are shown as black and white of a raster of bands."""


@dataclasses.dataclass(frozen=True)
class PictureReport:
    """What became of one picture.

    Attributes:
        name: of its file, or what it is.
        height: of the upright picture.
        width: of the upright picture.
        shown: the input and each product that the export has.
        shares: of foreground at each of `THRESHOLDS`; None where the export has no signature for probabilities.
        share: of foreground in the mask that the export answers; None where it answers none.
    """

    name: str
    height: int
    width: int
    shown: list[Shown]
    shares: npt.NDArray[np.float64] | None
    share: float | None


def report_picture(signatures: Mapping[str, Any], record: ExportRecord, path: Path | None) -> PictureReport:
    """Sends a picture through a loaded export (None draws one); InspectError where it is broken, or refused."""
    ask = _ask_bands if record.model.takes_bands else _ask
    asked, shown_as = ask(signatures, record, path)
    name, upright = asked.name, asked.upright
    shown = [Shown.of(shown_as, upright, is_photograph=True)]
    shares = share = None
    probability = asked.product(contract.PROBABILITY)
    if probability is not None:
        shares = _foreground_shares(probability, record)
        shown.append(Shown.of("the probability of foreground: black is 0, white is 1", _image(probability * 255)))
    mask = asked.product(contract.MASK)
    if mask is not None:
        share = float((mask > 0).mean())
        shown.append(Shown.of(f"the mask: above {record.threshold:g}", _image((mask > 0) * 255)))
    masked_image = asked.product(contract.MASKED_IMAGE)
    if masked_image is not None:
        if record.model.takes_bands:
            is_kept = (masked_image != 0).any(-1, keepdims=True)
            masked_image = np.where(is_kept, np.asarray(upright) / FULL_SCALE["uint8"], 0)
        has_alpha = masked_image.ndim == 3 and masked_image.shape[-1] in (2, 4)
        shown.append(Shown.of("the masked image", _image(masked_image * 255), is_photograph=not has_alpha))
    return PictureReport(name, upright.height, upright.width, shown, shares, share)


def _ask(signatures: Mapping[str, Any], record: ExportRecord, path: Path | None) -> "tuple[_Asked, str]":
    """Returns what asks for an encoded picture's products, and what that picture is, for people."""
    name, data = _read(path, record)
    upright = _upright(name, data, record)
    form = record.model.channels, record.image_dtype, record.full_scale
    pixels = examples.as_pixels(np.asarray(upright), *form)
    return _Asked(signatures, record, name, data, pixels, upright), "the picture"


def _ask_bands(signatures: Mapping[str, Any], record: ExportRecord, path: Path | None) -> "tuple[_Asked, str]":
    """Does what `_ask` does, of a raster of bands, which is shown by its first ones."""
    count = record.model.channels
    if path is None:
        drawn = examples.draw_picture(*_drawn_size(record))
        name, pixels = _DRAWN, examples.as_pixels(drawn, count, record.image_dtype, record.full_scale)
    else:
        try:
            name, pixels = path.name, read_raster(path, count, record.image_dtype).pixels
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InspectError(f"picture {path}: {reason}") from error
    some = pixels[..., :3].astype(np.float64) if count >= 3 else np.repeat(pixels[..., :1].astype(np.float64), 3, -1)
    low, high = np.percentile(some, _STRETCHED)
    upright = _image((some - low) / max(high - low, 1e-12) * 255)
    bands = "band 1" if count < 3 else "bands 1, 2 and 3"
    return _Asked(signatures, record, name, b"", pixels, upright), f"the picture: {bands} of {count}, stretched"


def _read(path: Path | None, record: ExportRecord) -> tuple[str, bytes]:
    if path is None:
        return _DRAWN, examples.encode(examples.draw_picture(*_drawn_size(record)), record.formats[0])
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise InspectError(f"picture {path}: cannot be read: {error.strerror}") from error


def _drawn_size(record: ExportRecord) -> tuple[int, int]:
    """Returns the height and width of a drawn picture: the model's, or a usual one, halved as the limits want it."""
    height, width = record.model.size or _DRAWN_SIZE
    limits = [record.spec.get("max_image_pixels"), None if record.model.size else record.spec.get("max_model_pixels")]
    while height * width > min((limit for limit in limits if limit), default=height * width):
        height, width = max(height // 2, 1), max(width // 2, 1)
    return height, width


def _upright(name: str, data: bytes, record: ExportRecord) -> Image.Image:
    """Returns the picture as 8-bit RGB, to be shown."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip rather than scale
                upright = _image(np.asarray(upright) / _full_scale_of_16_bits(record) * 255)
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InspectError(f"picture {name}: it is not a picture, or broken") from error


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Asks for products by the encoded signatures, or by the pixel ones where an export has no others."""

    signatures: Mapping[str, Any]
    record: ExportRecord
    name: str
    data: bytes
    pixels: Pixels
    upright: Image.Image

    def product(self, product: str) -> Pixels | None:
        """Returns a product as float64 [H, W] or [H, W, C], 1 being full scale; None if the export lacks it."""
        for is_encoded in (True, False):
            signature = contract.SIGNATURES[contract.signature_name(product, encoded=is_encoded)]
            if signature.name not in self.signatures:
                continue
            answers = self._call(signature)
            if not is_encoded:
                values = answers[product][0].astype(np.float64)
                scale = self.record.full_scale if product == contract.MASKED_IMAGE else 1.0
                return np.squeeze(values, -1) / scale if values.shape[-1] == 1 else values / scale
            error = answers[contract.ERROR][0]
            if error:
                raise InspectError(f"picture {self.name}: {error.decode('ascii', 'replace')}")
            with Image.open(io.BytesIO(answers[signature.outputs[0]][0])) as picture:
                values = np.asarray(picture)
            if values.dtype == np.uint8:
                return values / FULL_SCALE["uint8"]
            is_picture = product == contract.MASKED_IMAGE
            return values / (_full_scale_of_16_bits(self.record) if is_picture else FULL_SCALE["uint16"])
        return None

    def _call(self, signature: contract.Signature) -> golden.Tensors:
        if signature.is_encoded:
            inputs: golden.Tensors = {contract.IMAGE_BYTES: np.array([self.data], object)}
        else:
            inputs = {contract.IMAGE: self.pixels[np.newaxis]}
        try:
            return golden.run(self.signatures[signature.name], signature, inputs)
        except tf.errors.OpError as error:
            raise InspectError(f"picture {self.name}: the export fails on it: {cause_of(error)}") from error


def _foreground_shares(probability: Pixels, record: ExportRecord) -> npt.NDArray[np.float64]:
    """Returns the share of foreground at each threshold; by the numbers that the export thresholds."""
    maps = tf.constant(probability.astype(np.float32)[np.newaxis, ..., np.newaxis])
    cleaned = np.sort(np.asarray(masking.clean(maps, Clean(**record.spec["clean"]))), axis=None)
    at_most = np.searchsorted(cleaned, THRESHOLDS.astype(np.float32), side="right")
    return np.asarray(1 - at_most / cleaned.size)


def _full_scale_of_16_bits(record: ExportRecord) -> float:
    """Returns the value that means full scale in 16-bit files."""
    return record.full_scale if record.full_scale > FULL_SCALE["uint8"] else FULL_SCALE["uint16"]


def _image(values: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
