"""How good masks are at every threshold, counted over any number of pictures in constant memory.

A mask is `probability > threshold`. So each probability needs only be put in its place between the thresholds
of a grid, and two histograms, of what is foreground and of what is not, tell all scores at once.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

AVERAGES = ("pixels", "pictures")
"""Over what scores are taken: all pixels as of one picture, or the mean of the pictures' own."""

STEPS = 1000
THRESHOLDS: npt.NDArray[np.float32] = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
"""0 to 1; float32, as the exported graph compares them."""


_CHUNK = 1 << 20
"""Pixels that are counted at once: places take twice the room of probabilities."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Scores at each of `THRESHOLDS`, float64. Nothing out of nothing counts as 1.

    Attributes:
        iou: intersection over union.
        dice: twice the intersection over the sum of both areas (F1).
        precision: how much of what is found is right.
        recall: how much of what is right is found.
    """

    iou: Scores
    dice: Scores
    precision: Scores
    recall: Scores

    @classmethod
    def of_counts(cls, found: Counts, wrong: Counts, missed: Counts) -> "Curves":
        """Makes scores of true positives, false positives and false negatives, each at every threshold."""

        def share(part: Counts, whole: Counts) -> Scores:
            return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))

        return cls(
            iou=share(found, found + wrong + missed),
            dice=share(2 * found, 2 * found + wrong + missed),
            precision=share(found, found + wrong),
            recall=share(found, found + missed),
        )


TITLES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}
"""Of the scores, for people."""


class Tally:
    """Counts pictures one after another.

    Attributes:
        pictures: how many were added.
    """

    def __init__(self) -> None:
        self.pictures = 0
        self._foreground: Counts = np.zeros(STEPS + 2, np.int64)
        self._background: Counts = np.zeros(STEPS + 2, np.int64)
        self._sums = {field.name: np.zeros(STEPS + 1) for field in dataclasses.fields(Curves)}

    def add(self, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> None:
        """Adds the pixels that count of one picture: probabilities, 0 to 1 (NaN is background), and the truth."""
        foreground, background = _histograms(probability.ravel(), truth.ravel())
        self._foreground += foreground
        self._background += background
        own = Curves.of_counts(*_counts(foreground, background))
        for name, total in self._sums.items():
            np.add(total, getattr(own, name), out=total)
        self.pictures += 1

    @property
    def pixels(self) -> int:
        """How many there were in all pictures."""
        return int(self._foreground.sum() + self._background.sum())

    @property
    def foreground_pixels(self) -> int:
        """How many of them are foreground in truth."""
        return int(self._foreground.sum())

    @property
    def counts(self) -> tuple[Counts, Counts, Counts]:
        """True positives, false positives and false negatives in all pictures, at each threshold."""
        return _counts(self._foreground, self._background)

    def curves(self, average: str) -> Curves:
        """Returns the scores of all pixels together, or the mean of the pictures' own: one of `AVERAGES`."""
        if average == "pixels":
            return Curves.of_counts(*self.counts)
        return Curves(**{name: total / max(self.pictures, 1) for name, total in self._sums.items()})


def _histograms(probability: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Counts foreground and background by how many thresholds their probability is above."""
    foreground, background = np.zeros(STEPS + 2, np.int64), np.zeros(STEPS + 2, np.int64)
    for start in range(0, probability.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        # `left` leaves out the threshold that a probability equals.
        places = np.searchsorted(THRESHOLDS, np.nan_to_num(probability[part], nan=0.0), side="left")
        inside = np.bincount(places[truth[part]], minlength=STEPS + 2)
        foreground += inside
        background += np.bincount(places, minlength=STEPS + 2) - inside
    return foreground, background


def _counts(foreground: Counts, background: Counts) -> tuple[Counts, Counts, Counts]:
    # Of a histogram, how many values are above each threshold.
    found, wrong = (np.cumsum(histogram[::-1])[::-1][1:] for histogram in (foreground, background))
    return found, wrong, foreground.sum() - found
