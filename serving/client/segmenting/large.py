"""Pictures too large for one call: tiles go out, and one seamless plane comes back, in bounded memory."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import InvalidRequestError
from ..pictures.channels import UNKNOWN, Choice, ModelInput
from ..pictures.rasters import Sink, open_sink, open_source
from ..pictures.source import Source
from ..pictures.tiling import Array, Mosaic, Tile, cut
from ..transport.signatures import ModelMetadata, SignatureInfo, dtype_known
from .plans import channels_of, check_threshold, find_signature

DEFAULT_TILE = 1024
DEFAULT_OVERLAP = 128
LARGE_PRODUCTS = (contract.MASK, contract.PROBABILITY)

_MOST_EDGE = 1 << 14
"""No model takes larger pictures; a tile of this size is 800 MB."""

# Tiles begin at multiples of this, so that a model that halves its input a few times sees the same grid.
_GRID = 32

N = TypeVar("N", int, float)
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
    """How a model wants its tiles."""

    tile: tuple[int, int]  # height and width, in pixels
    overlap: int  # how far a tile reaches into each neighbour
    must_be_whole: bool  # whether smaller tiles are filled up to that size: the model would stretch them
    threshold: float  # that the model was exported with
    model: ModelInput = UNKNOWN


def plan_tiles(info: Mapping[str, Any], product: str, tile: int, overlap: int) -> TilePlan:
    """Returns how to cut pictures up for a model, at its own scale, as near to the wanted tile and overlap as can be.

    Raises `InvalidRequestError` where the model has no scale of its own, or the numbers make no sense together.
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
    if isinstance(size, Mapping):
        raise InvalidRequestError(
            "the model resizes every picture by its sides: it has no scale at which tiles could be cut",
            hint="export it without model_size",
        )
    if size is not None:
        if spec.get("resize", "stretch") == "stretch":
            raise InvalidRequestError(
                "the model stretches every picture to one size: it has no scale at which tiles could be cut",
                hint="export it without model_size, or with resize: letterbox",
            )
        height, width = (_told("model_size", int(side), 1, _MOST_EDGE) for side in size)
    else:
        step = math.lcm(_told("pad_to_multiple", int(spec.get("pad_to_multiple") or 1), 1, _MOST_EDGE), _GRID)
        height = width = -(-tile // step) * step
        # Neighbours share twice the overlap, and that must keep the next tile on the grid.
        overlap = -(-2 * overlap // step) * step // 2
        most = spec.get("max_model_pixels")
        if most is not None and height * width > int(most):
            raise InvalidRequestError(
                f"tiles of {height}×{width} are larger than the model's {most} pixels", hint="make tile smaller"
            )
    if min(height, width) <= 2 * overlap:
        raise InvalidRequestError(
            f"tiles of {height}×{width} are nothing but overlap, of {overlap} on each side",
            hint="make tile larger, or overlap smaller",
        )
    threshold = _told("threshold", float(info.get("threshold", 0.5)), 0, 1)
    return TilePlan((height, width), overlap, size is not None, threshold)


def _told(name: str, value: N, least: int, most: int) -> N:
    """Returns what a model tells of itself; raises `ValueError` where nothing can be made of it."""
    if not least <= value <= most:  # neither is NaN
        raise ValueError(f"{name} is {value!r}")
    return value


def tile_signature(metadata: ModelMetadata, shape: tuple[int, ...], dtype: np.dtype[Any]) -> SignatureInfo | None:
    """Returns the pixel signature that takes a picture's tiles as they are; None if they must go encoded.

    Probabilities come from it as floats, and so exactly; an encoded one rounds them to 16 bits.
    """
    signature = find_signature(metadata, contract.PROBABILITY, encoded=False)
    if signature is None:
        return None
    taken = dtype_known(signature.inputs[contract.IMAGE])
    is_same_kind = taken == dtype or (taken is not None and taken.kind == dtype.kind == "f")
    return signature if is_same_kind and channels_of(signature) in (None, shape[2]) else None


class LargeJob:
    """One large picture: what its tiles are, and what is made of the answers. It does no network I/O.

    Arguments are those of `MaskClient.segment_large`, checked, and how to cut.
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
        choice: Choice,
    ):
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
        self._missing: dict[Tile, Array] = {}
        self._done = 0

    def pixels(self, tile: Tile) -> Array:
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
        written: Array = values
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
    """Checks what `segment_large` was asked for, or raises `InvalidRequestError`."""
    if product not in LARGE_PRODUCTS:
        raise InvalidRequestError(f"there is no product {product!r} of large pictures: {', '.join(LARGE_PRODUCTS)}")
    if threshold is not None:
        check_threshold(threshold)
        if product != contract.MASK:
            raise InvalidRequestError(f"a threshold has no meaning for {product}")
