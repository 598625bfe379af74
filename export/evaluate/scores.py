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

    value: float
    low: float | None = None  # None where there is one picture only, which says nothing of others
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a form for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Returns it for people."""
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
) -> tuple[Scores, Scores]:
    """Returns the scores of one subject, and how far they are above the baseline's on the same pictures.

    Pictures are drawn with replacement, as many as there are; an interval holds the middle of the scores of all draws
    (the percentile method). Both models see the same draws, so what is hard about a picture cancels out.

    Args:
        counts: int [pictures, 3], of `count`.
        baseline: likewise, of the same pictures; without one there are no differences.
        resamples: how many draws.
        confidence: which part of them an interval holds.
        seed: of the draws.
    """
    own = _measure(counts, resamples, seed)
    differences = {}
    if baseline is not None:
        other = _measure(baseline, resamples, seed)
        differences = {name: own[name] - other[name] for name in SCORES}
    return _intervals(own, confidence), _intervals(differences, confidence)


def _measure(counts: Counts, resamples: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Returns each score, [1 + resamples]: of all pictures, then of each draw."""
    pictures = len(counts)
    sums = [counts.sum(axis=0, keepdims=True)]
    if pictures > 1:
        random = np.random.default_rng(seed)
        step = max(1, _AT_ONCE // pictures)
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            sums.append(random.multinomial(pictures, np.full(pictures, 1 / pictures), size) @ counts)
    curves = Curves.of_counts(*np.concatenate(sums).T)
    return {name: getattr(curves, name) for name in SCORES}


def _intervals(measured: dict[str, npt.NDArray[np.float64]], confidence: float) -> Scores:
    intervals = {}
    for name, (value, *drawn) in measured.items():
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]) if drawn else (None, None)
        intervals[name] = Interval(
            float(value), None if low is None else float(low), None if high is None else float(high)
        )
    return intervals
