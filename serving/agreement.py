"""Comparing a served answer with the one that was recorded when the model was exported.

Used by the exporter on what it has just written, and by the verification gate on a running server, so that
both mean the same by "agrees". NumPy and Pillow only.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

NEAR_THRESHOLD = 1e-3
"""How far a probability may always be from the recorded one: processors round differently."""
NOTABLE = 0.01
"""Of a probability: people are told where so much must be allowed."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far an output may be from the recorded one."""

    atol: float = 0.0  # largest difference of a value, in its own units
    # One for each value (in the order of memory), true where it may be anything; None where there are none.
    undecided: npt.NDArray[np.bool_] | None = None
    # Tells people how much agrees: intersection over union of masks, or the share of equal values of class maps.
    share: Literal["", "iou", "equal"] = ""
    is_png: bool = False  # whether the tensor holds PNG files
    is_jpeg: bool = False  # whether it holds JPEG files

    def to_json(self) -> dict[str, Any]:
        """Returns a form for JSON."""
        fields = {**dataclasses.asdict(self), "undecided": None}
        if self.undecided is not None and self.undecided.any():
            fields["undecided"] = base64.b64encode(np.packbits(self.undecided).tobytes()).decode()
            fields["undecided_count"] = int(self.undecided.size)
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Tolerance":
        """Reads what `to_json` wrote."""
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in fields.items() if name in known}
        if fields.get("undecided"):
            bits = np.frombuffer(base64.b64decode(fields["undecided"]), np.uint8)
            values["undecided"] = np.unpackbits(bits, count=int(fields["undecided_count"])).astype(bool)
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The result of a comparison."""

    holds: bool  # whether the answer is within the tolerance
    largest_difference: float  # between decided values, in their own units; infinite where they cannot be compared
    overlap: float | None  # 0 to 1, as `Tolerance.share` says; None where there is none; decides nothing
    problem: str = ""  # for people; empty where it holds


def compare(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: Tolerance) -> Agreement:
    """Compares one output, numbers or byte strings as an object array, with the recorded one."""
    if expected.shape != got.shape:
        return _incomparable(f"shape {list(got.shape)} instead of {list(expected.shape)}")
    if expected.dtype != got.dtype:
        return _incomparable(f"dtype {got.dtype} instead of {expected.dtype}")
    is_file = tolerance.is_png or tolerance.is_jpeg
    if expected.dtype == object and not is_file:
        for wanted, found in zip(expected.flat, got.flat, strict=True):
            if wanted != found:
                return _incomparable(f"text {_excerpt(found)} instead of {_excerpt(wanted)}")
        return Agreement(True, 0.0, None)
    if is_file:
        return _compare_files(expected, got, tolerance)
    return _compare_values(expected.astype(np.float64), got.astype(np.float64), tolerance)


def _compare_files(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: Tolerance) -> Agreement:
    form: Literal["PNG", "JPEG"] = "JPEG" if tolerance.is_jpeg else "PNG"
    flat_expected, flat_got = [], []
    for position, (one, other) in enumerate(zip(expected.flat, got.flat, strict=True)):
        if bool(one) != bool(other):
            which = "no picture" if one else "a picture"
            return _incomparable(f"{which} at position {position}, unlike the recorded answer")
        if not one:
            continue
        try:
            pixels, other_pixels = (decode_file(file, form) for file in (one, other))
        except (OSError, ValueError) as error:
            return _incomparable(f"no {form} at position {position}: {error}")
        if pixels.shape != other_pixels.shape:
            return _incomparable(f"a picture of {other_pixels.shape} instead of {pixels.shape}")
        flat_expected.append(pixels.ravel())
        flat_got.append(other_pixels.ravel())
    if not flat_expected:
        return Agreement(True, 0.0, None)
    return _compare_values(np.concatenate(flat_expected), np.concatenate(flat_got), tolerance)


def decode_png(data: bytes) -> npt.NDArray[np.float64]:
    """Returns the pixels of a PNG, [H, W] or [H, W, C], those of one bit as 0 and 255; `OSError` where it is none."""
    return decode_file(data, "PNG")


def decode_file(data: bytes, form: Literal["PNG", "JPEG"]) -> npt.NDArray[np.float64]:
    """Returns the pixels of a picture of a form, [H, W] or [H, W, C]; raises `OSError` where it is none."""
    with Image.open(io.BytesIO(data), formats=[form]) as picture:
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture, np.float64)


def _compare_values(expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64], tolerance: Tolerance) -> Agreement:
    expected, got = expected.ravel(), got.ravel()
    same_nan = np.isnan(expected) & np.isnan(got)
    difference = np.where(same_nan | (expected == got), 0.0, np.abs(expected - got))
    difference = np.where(np.isnan(difference), np.inf, difference)
    if tolerance.undecided is not None:
        if tolerance.undecided.size != difference.size:
            return _incomparable(f"{difference.size} values, {tolerance.undecided.size} recorded")
        difference = difference[~tolerance.undecided]
    largest = float(difference.max(initial=0.0))
    overlap = _overlap(expected, got, tolerance.share) if tolerance.share else None
    if largest <= tolerance.atol:
        return Agreement(True, largest, overlap)
    count = int((difference > tolerance.atol).sum())
    problem = f"{count} of {difference.size} values differ, by up to {largest:.4g} ({tolerance.atol:.4g} allowed)"
    return Agreement(False, largest, overlap, problem)


def _overlap(expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64], share: str) -> float:
    if share == "equal":
        return float((expected == got).mean()) if expected.size else 1.0
    union = np.count_nonzero((expected > 0) | (got > 0))
    return float(np.count_nonzero((expected > 0) & (got > 0)) / union) if union else 1.0


def _incomparable(problem: str) -> Agreement:
    return Agreement(False, float("inf"), None, problem)


def _excerpt(text: bytes) -> str:
    return repr(text[:60].decode("ascii", "replace")) + ("…" if len(text) > 60 else "")
