"""Whether a measured model may be served: above a floor, and not worse than the one before."""

import dataclasses
from collections.abc import Mapping

from ..calibrate.tally import TITLES
from ..errors import EvaluationError
from .evaluation import Evaluation
from .scores import SCORES


@dataclasses.dataclass(frozen=True)
class Gate:
    """What is asked of a model.

    Attributes:
        score: which of `SCORES` decides.
        floor: what the mask's score must reach.
        class_floors: what those of classes must, by their names.
        max_drop: how far the score may be below the baseline's, of the mask and of every class that both have.
        max_left_out: which part of the pictures may be left out, since they could not be measured.
    """

    score: str = "iou"
    floor: float = 0.5
    class_floors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_drop: float = 0.01
    max_left_out: float = 0.05

    def __post_init__(self) -> None:
        """Raises EvaluationError where it makes no sense."""
        if self.score not in SCORES:
            raise EvaluationError(f"score: {self.score!r} is none of: {', '.join(SCORES)}")
        floors = {f"the floor of {name}": floor for name, floor in self.class_floors.items()}
        shares = {"floor": self.floor, "max_drop": self.max_drop, "max_left_out": self.max_left_out, **floors}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise EvaluationError(f"{name}: wanted 0 to 1, got {value:g}")


def judge(evaluation: Evaluation, gate: Gate) -> list[str]:
    """Returns what speaks against serving a model, for people; nothing where it may be served.

    Raises:
        EvaluationError: a floor is of a class that was not measured.
    """
    unknown = [name for name in gate.class_floors if name not in evaluation.scores]
    if unknown:
        raise EvaluationError(
            f"class_floors: no class {unknown[0]!r} was measured; there are: {', '.join(evaluation.scores)}"
        )
    title, reasons = TITLES[gate.score], []
    for subject, floor in {evaluation.main_subject: gate.floor, **gate.class_floors}.items():
        found = evaluation.scores[subject][gate.score]
        if found.value is None:
            reasons.append(f"{title} of {subject} cannot be measured: no pixel is labelled as it, or found")
        elif found.value < floor:
            reasons.append(f"{title} of {subject} is {found}, below the floor of {floor:g}")
    for subject, differences in evaluation.differences.items():
        drop = differences[gate.score].value
        # What no pixel is labelled as says nothing of either.
        if drop is not None and drop < -gate.max_drop:
            before = evaluation.baseline[subject][gate.score].value
            reasons.append(
                f"{title} of {subject} is {-drop:.4f} below the baseline's {before:.4f}, "
                f"and {gate.max_drop:g} is allowed"
            )
    left_out = len(evaluation.left_out)
    if left_out > gate.max_left_out * (left_out + evaluation.pictures):
        reasons.append(
            f"{left_out} of {left_out + evaluation.pictures} pictures could not be measured, and "
            f"{100 * gate.max_left_out:g} % may be left out; the first: {evaluation.left_out[0]}"
        )
    return reasons
