"""From a spec and a labelled folder to the threshold that fits it best."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial

from ..errors import CalibrationError
from ..spec import ExportSpec
from .criteria import CRITERIA, DEFAULT_TARGET, Recommendation, recommend
from .labels import LabelCounts, LabelMeaning, ValueLike, parse_values
from .pairs import Pair, Pairing, read_values
from .probabilities import ProbabilityReader
from .tally import AVERAGES, STEPS, Tally

OnPair = Callable[[int, int], None]

_INFORMATIVE = 0.02
"""Of the way from marking anything to marking nothing but foreground, what a mask's precision must have gone."""
_EDGE = 2
"""Thresholds so near to the ends of the grid come from probabilities that do not use its range."""


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
        labels: the values in the masks.
        doubts: what may be meant otherwise than it was taken; a threshold should not be written then.
    """

    tally: Tally
    recommendation: Recommendation
    criterion: str
    target: float
    average: str
    spec_threshold: float
    failures: list[str]
    labels: LabelCounts
    doubts: list[str]

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
    foreground_values: ValueLike | Iterable[ValueLike] | None = None,
    ignore_value: ValueLike | Iterable[ValueLike] = (),
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
        foreground_values: what is foreground in the masks: levels (1, "1-3") and colours ("#ff0000"); None is all
            but 0.
        ignore_value: one or several values of pixels that do not count, such as 255 for void.
        on_pair: called before each pair, and after the last, with how many are done and how many there are.

    Raises:
        CalibrationError: no pair that is good; nothing but foreground or none of it in the masks, or values that are
            probably not what they are taken for; no threshold that fits.
        ExportError: the source or the spec is not good.
    """
    for value, choices in ((criterion, CRITERIA), (average, AVERAGES)):
        if value not in choices:
            raise CalibrationError(f"{value!r} is none of: {', '.join(choices)}")
    meaning = LabelMeaning(
        None if foreground_values is None else parse_values(foreground_values), parse_values(ignore_value)
    )
    reader = ProbabilityReader(spec)
    labels = LabelCounts(meaning).add_all(partial(read_values, pair.mask) for pair in pairing.pairs)
    doubt = labels.check(reader.classes, reader.foreground)
    tally, failures = Tally(), []
    for position, pair in enumerate(pairing.pairs):
        on_pair(position, len(pairing.pairs))
        try:
            _count(pair, reader, meaning, tally)
        except CalibrationError as error:
            failures.append(str(error))
    on_pair(len(pairing.pairs), len(pairing.pairs))
    if not tally.pictures:
        reason = f"the first: {failures[0]}" if failures else "every pixel is ignored"
        raise CalibrationError(f"none of the {len(pairing.pairs)} pairs can be used; {reason}")
    if not tally.foreground_pixels:
        wanted = "a pixel that is not zero" if meaning.foreground is None else "--foreground_values"
        raise CalibrationError(
            f"none of the {tally.pictures} masks has any foreground ({wanted}); they hold {labels.summarize()}"
        )
    best = recommend(tally.curves(average), tally.counts[0] > 0, criterion, target)
    doubts = [*filter(None, (doubt, *find_doubts(tally, best)))]
    return Calibration(tally, best, criterion, target, average, spec.threshold, failures, labels, doubts)


def _count(pair: Pair, reader: ProbabilityReader, meaning: LabelMeaning, tally: Tally) -> None:
    probability = reader.read(pair.image)
    height, width = probability.shape
    values = read_values(pair.mask, (height, width))
    counts = meaning.counts(values)
    if counts.any():
        tally.add(probability[counts], meaning.is_foreground(values[counts]))


def find_doubts(tally: Tally, best: Recommendation) -> list[str]:
    """Returns what speaks against a recommended threshold, for people."""
    return [*filter(None, (_doubt_of_chance(tally, best), _doubt_of_edge(best)))]


def _doubt_of_chance(tally: Tally, recommendation: Recommendation) -> str | None:
    """Returns what is to be said where the best mask finds foreground no better than chance does."""
    found, wrong, _ = (int(counts[recommendation.index]) for counts in tally.counts)
    share, precision = tally.foreground_pixels / tally.pixels, found / (found + wrong)
    if precision - share >= _INFORMATIVE * (1 - share):
        return None
    return (
        f"no threshold tells foreground from the rest: at the best one, {recommendation.threshold}, "
        f"{100 * precision:.1f} % of what is found is foreground, and {100 * share:.1f} % of all pixels are; does the "
        "spec name the right model, scaling and foreground, and do the masks belong to these pictures?"
    )


def _doubt_of_edge(recommendation: Recommendation) -> str | None:
    if _EDGE < recommendation.index < STEPS - _EDGE:
        return None
    return (
        f"the recommended threshold {recommendation.threshold} lies at the edge of the range: do scaling and "
        "activation fit the model, and the masks these pictures?"
    )
