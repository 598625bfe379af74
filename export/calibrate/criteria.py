"""Which threshold is best, by a criterion that fits the use."""

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from ..errors import CalibrationError
from .tally import STEPS, Curves, Scores

Flags = npt.NDArray[np.bool_]

CRITERIA = ("iou", "dice", "precision_at_recall", "recall_at_precision")
"""The largest IoU; the largest Dice; the best precision among thresholds that reach a recall; the reverse."""
DEFAULT_TARGET = 0.95
_NEARLY = 0.005
"""A score that is less than this from the best one is as good, in practice."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """A threshold: its index into `THRESHOLDS`, its score, and from and to which index all are nearly as good."""

    index: int
    score: float
    nearly_from: int
    nearly_to: int

    @property
    def threshold(self) -> float:
        """0 to 1, in steps of 0.001."""
        return threshold_at(self.index)


def threshold_at(index: int) -> float:
    """Returns a threshold of the grid, as people write it."""
    return round(index / STEPS, 3)


def recommend(curves: Curves, finds: Flags, criterion: str, target: float = DEFAULT_TARGET) -> Recommendation:
    """Returns the best threshold.

    Often a whole range is best: then its middle, which is farthest from doing worse.

    Args:
        curves: of the data.
        finds: bool, at which thresholds any foreground is found.
        criterion: one of `CRITERIA`.
        target: the recall or precision that the last two need at least.

    Raises:
        CalibrationError: no threshold finds anything, or none reaches the target.
    """
    if not finds.any():
        raise CalibrationError(
            "at no threshold is any foreground found: does the spec name the right model and foreground, and do "
            "the masks belong to these pictures?"
        )
    score = {
        "iou": curves.iou,
        "dice": curves.dice,
        "precision_at_recall": curves.precision,
        "recall_at_precision": curves.recall,
    }[criterion]
    # Without anything found there is no mask to be recommended, however precise it may be called.
    is_eligible = finds.copy()
    if criterion == "precision_at_recall":
        is_eligible &= _reaching(curves.recall, target, "recall", is_eligible)
    elif criterion == "recall_at_precision":
        is_eligible &= _reaching(curves.precision, target, "precision", is_eligible)
    eligible = np.where(is_eligible, score, -1.0)
    best = float(eligible.max())
    longest = max(_runs(eligible >= best), key=len)
    # Thresholds from the first up to, but without, the one after the last give these very masks.
    index = (longest[0] + longest[-1] + 1) // 2
    nearly = next(run for run in _runs(eligible >= best - _NEARLY) if index in run)
    return Recommendation(index, best, nearly[0], nearly[-1])


def _reaching(score: Scores, target: float, name: str, among: Flags) -> Flags:
    reached = score >= target
    if not (reached & among).any():
        index = int(np.where(among, score, -1.0).argmax())
        raise CalibrationError(
            f"no threshold reaches a {name} of {target:g}; the highest is {score[index]:.3f}, at {threshold_at(index)}"
        )
    return reached


def _runs(is_in: Flags) -> list[list[int]]:
    """Returns the indices of true values, parted into runs of neighbours."""
    parted = itertools.groupby(range(is_in.size), key=is_in.__getitem__)
    return [list(indices) for is_true, indices in parted if is_true]
