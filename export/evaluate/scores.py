"""Scores of pixels over pictures, with intervals by the bootstrap over pictures."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibrate.tally import Counts, Curves

SCORES = tuple(field.name for field in dataclasses.fields(Curves))
"""iou, dice, precision and recall."""

RESAMPLES = 2000
CONFIDENCE = 0.95
_AT_ONCE = 1 << 22
"""How often pictures are drawn in one go, which bounds the memory."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score of all pixels together, and where it lies in so many other draws of as many pictures."""

    value: float | None  # None where there is nothing to measure: no labelled pixel, or of precision none that is found
    low: float | None = None  # None where there is one picture only, which says nothing of others
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a form for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Returns it for people."""
        if self.value is None:
            return "–"
        return f"{self.value:.4f}" + ("" if self.low is None else f" ({self.low:.4f} to {self.high:.4f})")


Scores = dict[str, Interval]
"""By the names of `SCORES`."""


def count(
    found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], counts: npt.NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Returns true positives, false positives and false negatives among the pixels that count; all [H, W]."""
    found, truth = found & counts, truth & counts
    both = int((found & truth).sum())
    return both, int(found.sum()) - both, int(truth.sum()) - both


def score(
    counts: Counts,
    baseline: Counts | None = None,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[list[Scores], list[Scores], list[Scores]]:
    """Returns the scores of some subjects, those of the baseline's, and how far the former are above the latter.

    Pictures are drawn with replacement, as many as there are; an interval holds the middle of the scores of all draws
    (the percentile method). All see the same draws, so in a difference what is hard about a picture cancels out.

    Args:
        counts: int [pictures, subjects, 3], of `count`.
        baseline: likewise, of the same pictures and of the first of the same subjects; None is of none of them.
        resamples: how many draws.
        confidence: which part of them an interval holds.
        seed: of the draws.
    """
    subjects = counts.shape[1]
    measured = _measure(counts if baseline is None else np.concatenate([counts, baseline], axis=1), resamples, seed)
    own = {name: values[:, :subjects] for name, values in measured.items()}
    other = {name: values[:, subjects:] for name, values in measured.items()}
    differences = {name: own[name][:, : other[name].shape[1]] - other[name] for name in SCORES}
    of_own, of_other, of_differences = (_intervals(one, confidence) for one in (own, other, differences))
    return of_own, of_other, of_differences


def _measure(counts: Counts, resamples: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Returns each score, [1 + resamples, subjects]: of all pictures, then of each draw.

    It is NaN where nothing is labelled as the subject, or of precision where nothing is found.
    """
    pictures, subjects, _ = counts.shape
    flat = counts.reshape(pictures, -1)
    sums = [flat.sum(axis=0, keepdims=True)]
    if pictures > 1:
        random = np.random.default_rng(seed)
        step = max(1, _AT_ONCE // pictures)
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            sums.append(random.multinomial(pictures, np.full(pictures, 1 / pictures), size) @ flat)
    found, wrong, missed = np.moveaxis(np.concatenate(sums).reshape(-1, subjects, 3), -1, 0)
    curves = Curves.of_counts(found, wrong, missed)
    is_there = dict.fromkeys(SCORES, found + missed > 0) | {"precision": (found + missed > 0) & (found + wrong > 0)}
    return {name: np.where(is_there[name], getattr(curves, name), np.nan) for name in SCORES}


def _intervals(measured: dict[str, npt.NDArray[np.float64]], confidence: float) -> list[Scores]:
    """Returns the scores of each subject."""
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]

    def interval(values: npt.NDArray[np.float64]) -> Interval:
        if np.isnan(values[0]):
            return Interval(None)
        draws = values[1:][~np.isnan(values[1:])]
        low, high = map(float, np.quantile(draws, ends)) if draws.size else (None, None)
        return Interval(float(values[0]), low, high)

    subjects = next(iter(measured.values())).shape[1]
    return [{name: interval(values[:, at]) for name, values in measured.items()} for at in range(subjects)]
