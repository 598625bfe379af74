"""Pictures too large for one call: tiles go out, and one seamless plane comes back, in bounded memory."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import InvalidRequestError
from ..pictures.channels import ALL, UNKNOWN, Choice, ModelInput
from ..pictures.rasters import Sink, open_sink, open_source
from ..pictures.source import Source
from ..pictures.tiling import Mosaic, Tile, cut
from ..transport.signatures import ModelMetadata, SignatureInfo
from .plans import check_threshold

DEFAULT_TILE = 1024
DEFAULT_OVERLAP = 128
LARGE_PRODUCTS = (contract.MASK, contract.PROBABILITY)

# Tiles begin at multiples of this, so that a model that halves its input a few times sees the same grid.
_GRID = 32

Progress = Callable[[int, int], None]
"""Told how many tiles are done, and of how many."""


@dataclasses.dataclass(frozen=True)
class LargeResult:
    """What became of a large picture.

    Attributes:
        out: what was written to: a path or an array.
        shape: height and width in pixels.
        product: `mask` (uint8, 0 and 255) or `probability` (float32).
        threshold: that the mask was made with; None for a probability.
        area: pixels that the mask covers; None for a probability.
        tiles: how many were sent.
        seconds: that it took.
    """

    out: Any
    shape: tuple[int, int]
    product: str
    threshold: float | None
    area: int | None
    tiles: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """How a model wants its tiles.

    Attributes:
        tile: height and width of a tile, in pixels.
        overlap: how far a tile reaches into each neighbour.
        must_be_whole: whether smaller tiles are filled up to that size: the model would stretch them.
        threshold: that the model was exported with.
        model: what it takes.
    """

    tile: tuple[int, int]
    overlap: int
    must_be_whole: bool
    threshold: float
    model: ModelInput = UNKNOWN


def plan_tiles(info: Mapping[str, Any], product: str, tile: int, overlap: int) -> TilePlan:
    """Returns how to cut pictures up for a model, at its own scale, as near to the wanted tile and overlap as can be.

    Raises:
        InvalidRequestError: the model has no scale of its own, or the numbers make no sense together.
    """
    for name, value, least in (("tile", tile, 1), ("overlap", overlap, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidRequestError(f"{name}={value!r} is no whole number of at least {least}")
    spec, model = info.get("spec") or {}, info.get("model") or {}
    if product == contract.MASK and any((spec.get("clean") or {}).values()):
        raise InvalidRequestError(
            "the model cleans its masks, which cannot be done by tiles", hint="export it without clean"
        )
    size = spec.get("model_size") or model.get("size")
    if size is not None:
        if spec.get("resize", "stretch") == "stretch":
            raise InvalidRequestError(
                "the model stretches every picture to one size: it has no scale at which tiles could be cut",
                hint="export it without model_size, or with resize: letterbox",
            )
        height, width = (int(side) for side in size)
        sizes = (height, width)
    else:
        step = math.lcm(int(spec.get("pad_to_multiple") or 1), _GRID)
        rounded = -(-tile // step) * step
        # Neighbours share twice the overlap, and that must keep the next tile on the grid.
        overlap = -(-2 * overlap // step) * step // 2
        sizes = (rounded, rounded)
        most = spec.get("max_model_pixels")
        if most is not None and rounded * rounded > int(most):
            raise InvalidRequestError(
                f"tiles of {rounded}×{rounded} are larger than the model's {most} pixels", hint="make tile smaller"
            )
    if min(sizes) <= 2 * overlap:
        raise InvalidRequestError(
            f"tiles of {sizes[0]}×{sizes[1]} are nothing but overlap, of {overlap} on each side",
            hint="make tile larger, or overlap smaller",
        )
    return TilePlan(sizes, overlap, size is not None, float(info.get("threshold", 0.5)))


def tile_signature(metadata: ModelMetadata, shape: tuple[int, ...], dtype: np.dtype[Any]) -> SignatureInfo | None:
    """Returns the pixel signature that takes a picture's tiles as they are; None if they must go encoded.

    Probabilities come from it as floats, and so exactly; an encoded one rounds them to 16 bits.
    """
    name = contract.signature_name(contract.PROBABILITY, encoded=False)
    signature = metadata.signatures.get(name)
    if signature is None:
        return None
    spec = signature.inputs[contract.IMAGE]
    channels = shape[2] if len(shape) == 3 else 1
    wanted = spec.shape[3] if spec.shape is not None and len(spec.shape) == 4 else -1
    same_kind = spec.dtype == dtype or (spec.dtype.kind == "f" and dtype.kind == "f")
    return signature if same_kind and wanted in (-1, channels) else None


class LargeJob:
    """One large picture: what its tiles are, and what is made of the answers. It does no network I/O.

    Arguments are those of `MaskClient.segment_large`, and how to cut.

    Attributes:
        source: the picture.
        tiles: of it, in order.

    Raises:
        InvalidRequestError: an argument makes no sense.
        InvalidImageError: the source or the output is none.
        OSError: the source cannot be read, or the output not written.
    """

    def __init__(
        self,
        source: Any,
        out: Any,
        *,
        threshold: float | None,
        product: str,
        plan: TilePlan,
        progress: Progress | None,
        choice: Choice = ALL,
    ):
        check_large(product, threshold)
        are_paths = isinstance(out, str | os.PathLike) and isinstance(source, str | os.PathLike)
        if are_paths and Path(out).exists() and Path(out).samefile(source):
            raise InvalidRequestError(f"{out} is the picture itself")
        self._plan, self._product, self._out, self._progress = plan, product, out, progress
        self._started = time.monotonic()
        self._threshold = plan.threshold if threshold is None else float(threshold)
        self.source: Source = open_source(source, choice, plan.model)
        try:
            height, width = self.source.shape[:2]
            dtype = np.uint8 if product == contract.MASK else np.float32
            has_missing = self.source.has_missing
            self._sink: Sink = open_sink(out, (height, width), dtype, self.source.geo, has_missing=has_missing)
        except BaseException:
            self.source.close()
            raise
        columns = cut(width, plan.tile[1], plan.overlap)
        self.tiles = [Tile(row, column) for row in cut(height, plan.tile[0], plan.overlap) for column in columns]
        self._mosaic = Mosaic((height, width), plan.overlap)
        self._area = 0
        # Of tiles that were sent: where they have no data.
        self._missing: dict[Tile, npt.NDArray[np.bool_]] = {}
        self._done = 0

    def pixels(self, tile: Tile) -> npt.NDArray[Any]:
        """Returns the pixels to send of a tile: [h, w, C], at the size that the model wants."""
        pixels, missing = self.source.read(tile)
        if missing is not None:
            self._missing[tile] = missing
        if self._plan.must_be_whole and pixels.shape[:2] != self._plan.tile:
            short = [(0, want - have) for want, have in zip(self._plan.tile, pixels.shape[:2], strict=True)]
            pixels = np.pad(pixels, [*short, (0, 0)], mode="edge")
        return pixels

    def accept(self, tile: Tile, probability: npt.NDArray[np.float32]) -> None:
        """Takes what the model says of a tile, [h, w]; tiles come in order."""
        probability = probability[: len(tile.rows), : len(tile.columns)]
        piece, values = self._mosaic.add(tile, probability)
        missing = self._missing.pop(tile, None)
        if missing is not None:  # a piece is a part of its tile, from the same corner on
            values[missing[: len(piece.rows), : len(piece.columns)]] = 0
        written: npt.NDArray[Any] = values
        if self._product == contract.MASK:
            written = (values > np.float32(self._threshold)) * np.uint8(255)
            self._area += int(np.count_nonzero(written))
        self._sink.write(piece, written)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, len(self.tiles))

    def finish(self) -> LargeResult:
        """Makes the output appear, and returns what became of it."""
        self.source.check_all_read()
        self._sink.finish()
        self.source.close()
        is_mask = self._product == contract.MASK
        return LargeResult(
            self._out,
            (self.source.shape[0], self.source.shape[1]),
            self._product,
            self._threshold if is_mask else None,
            self._area if is_mask else None,
            len(self.tiles),
            time.monotonic() - self._started,
        )

    def abandon(self) -> None:
        """Leaves nothing of the output behind."""
        self._sink.abandon()
        self.source.close()


def check_large(product: str, threshold: float | None) -> None:
    """Checks what `segment_large` was asked for.

    Raises:
        InvalidRequestError: an unknown product, or a threshold that is none.
    """
    if product not in LARGE_PRODUCTS:
        raise InvalidRequestError(f"there is no product {product!r} of large pictures: {', '.join(LARGE_PRODUCTS)}")
    if threshold is not None:
        check_threshold(threshold)
        if product != contract.MASK:
            raise InvalidRequestError(f"a threshold has no meaning for {product}")
