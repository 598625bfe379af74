"""From a spec and a labelled folder to the threshold that fits it best."""

import dataclasses
from collections.abc import Callable

from ..spec import ExportSpec
from .criteria import CRITERIA, DEFAULT_TARGET, Recommendation, recommend
from .errors import CalibrationError
from .pairs import Pair, Pairing, read_truth
from .probabilities import ProbabilityReader
from .tally import AVERAGES, Tally

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
        failures: for each pair that could not be counted, why.
    """

    tally: Tally
    recommendation: Recommendation
    criterion: str
    target: float
    average: str
    spec_threshold: float
    failures: list[str]

    @property
    def threshold(self) -> float:
        """The recommended threshold."""
        return self.recommendation.threshold


def calibrate(
    spec: ExportSpec,
    pairing: Pairing,
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
        pairing: the pictures with their masks, from `find_pairs`.
        criterion: one of `CRITERIA`.
        target: the least recall or precision, for the criteria that have one.
        average: one of `AVERAGES`.
        on_pair: called before each pair, and after the last, with how many are done and how many there are.

    Raises:
        CalibrationError: no pair that is good, no foreground in any mask, or no threshold fits.
        ExportError: the source or the spec is not good.
    """
    for value, choices in ((criterion, CRITERIA), (average, AVERAGES)):
        if value not in choices:
            raise CalibrationError(f"{value!r} is none of: {', '.join(choices)}")
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
    recommendation = recommend(tally.curves(average), tally.counts[0] > 0, criterion, target)
    return Calibration(tally, recommendation, criterion, target, average, spec.threshold, failures)


def _count(pair: Pair, reader: ProbabilityReader, tally: Tally) -> None:
    probability = reader.read(pair.image)
    height, width = probability.shape
    tally.add(probability, read_truth(pair.mask, (height, width)))
