"""COCO's run-length encoding of masks."""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt


class Rle(TypedDict):
    """A mask as pycocotools knows it.

    `size` is height and width; `counts` the run lengths in COCO's compressed text form.
    """

    size: list[int]
    counts: str


def encode_rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """Returns a mask [H, W] in COCO's run-length encoding."""
    # COCO runs down the columns, and begins with a run of background, of length 0 if need be.
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(changes, prepend=0, append=flat.size) if flat.size else changes
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": _compress(counts)}


def decode_rle(rle: Rle) -> npt.NDArray[np.bool_]:
    """Returns the mask [H, W] of a run-length encoding.

    Raises:
        ValueError: the runs do not fill the size.
    """
    height, width = rle["size"]
    counts = _expand(rle["counts"])
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError(f"runs of {counts.sum()} pixels do not fill {height}×{width}")
    values = np.arange(counts.size) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def _compress(counts: npt.NDArray[np.int64]) -> str:
    """Returns run lengths as text: 5-bit digits, of differences to the run before the last."""
    values: npt.NDArray[Any] = counts.copy()
    values[3:] -= counts[1:-2]
    digits = []
    for count in values.tolist():
        value = count
        while True:
            digit = value & 0x1F
            value >>= 5
            # The fifth bit of the last digit is the sign: more digits follow until it is right.
            more = value != (-1 if digit & 0x10 else 0)
            digits.append(digit | 0x20 if more else digit)
            if not more:
                break
    return bytes(digit + 48 for digit in digits).decode("ascii")


def _expand(text: str) -> npt.NDArray[np.int64]:
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        digit = character - 48
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            if digit & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return np.array(counts, dtype=np.int64)
