"""From a spec and a labelled folder to the threshold that fits it best."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ..spec import ExportSpec
from .criteria import CRITERIA, DEFAULT_TARGET, Recommendation, recommend
from .errors import CalibrationError
from .pairs import Pair, find_pairs, read_truth
from .probabilities import ProbabilityReader
from .tally import Curves, Tally

AVERAGES = ("pixels", "pictures")
"""Over what a criterion's score is taken: all pixels as of one picture, or the mean of the pictures' own."""

OnPair = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was measured, and what follows.

    Attributes:
        tally: the counts.
        recommendation: the best threshold.
        criterion: one of `CRITERIA`.
        target: of the criterion, where it has one.
        average: one of `AVERAGES`.
        spec_threshold: what the spec said before.
        unpaired: files of either folder without a partner in the other.
        failures: for each pair that could not be counted, why.
    """

    tally: Tally
    recommendation: Recommendation
    criterion: str
    target: float
    average: str
    spec_threshold: float
    unpaired: list[Path]
    failures: list[str]

    @property
    def threshold(self) -> float:
        """The recommended threshold."""
        return self.recommendation.threshold


def calibrate(
    spec: ExportSpec,
    images_dir: Path,
    masks_dir: Path,
    *,
    criterion: str = CRITERIA[0],
    target: float = DEFAULT_TARGET,
    average: str = AVERAGES[0],
    on_pair: OnPair = lambda done, count: None,
) -> Calibration:
    """Runs the model of a spec over pictures with masks, and recommends a threshold.

    A pair that cannot be read, or whose sizes differ, is left out and told of; the others count.

    Args:
        spec: of the export; `output_dir` is not touched.
        images_dir: pictures.
        masks_dir: their masks, of the same paths and stems; what is not zero is foreground.
        criterion: one of `CRITERIA`.
        target: the least recall or precision, for the criteria that have one.
        average: one of `AVERAGES`.
        on_pair: called before each pair, and after the last, with how many are done and how many there are.

    Raises:
        CalibrationError: no pairs, none that is good, no foreground in any mask, or no threshold fits.
        ExportError: the source or the spec is not good.
    """
    for value, choices in ((criterion, CRITERIA), (average, AVERAGES)):
        if value not in choices:
            raise CalibrationError(f"{value!r} is none of: {', '.join(choices)}")
    pairing = find_pairs(images_dir, masks_dir)
    reader = ProbabilityReader(spec)
    tally, failures = Tally(), []
    for position, pair in enumerate(pairing.pairs):
        on_pair(position, len(pairing.pairs))
        try:
            _count(pair, reader, tally)
        except CalibrationError as error:
            failures.append(str(error))
    on_pair(len(pairing.pairs), len(pairing.pairs))
    if not tally.pictures:
        raise CalibrationError(f"none of the {len(pairing.pairs)} pairs can be used; the first: {failures[0]}")
    if not tally.foreground_pixels:
        raise CalibrationError(f"none of the {tally.pictures} masks has any foreground (a pixel that is not zero)")
    curves = curves_of(tally, average)
    recommendation = recommend(curves, tally.counts[0] > 0, criterion, target)
    return Calibration(
        tally, recommendation, criterion, target, average, spec.threshold, pairing.unpaired, failures
    )


def curves_of(tally: Tally, average: str) -> Curves:
    """Returns the scores by one of `AVERAGES`."""
    return tally.over_pixels() if average == "pixels" else tally.over_pictures()


def _count(pair: Pair, reader: ProbabilityReader, tally: Tally) -> None:
    probability = reader.read(pair.image)
    height, width = probability.shape
    tally.add(probability, read_truth(pair.mask, (height, width)))
