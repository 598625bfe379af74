"""How far a model's own answers move with the form of its graph.

TensorFlow's graph optimizer fuses operations, more of them where oneDNN runs them, and what a fused operation computes
is rounded otherwise than what its parts do. Each form repeats itself to the bit, but from layer to layer such
differences grow, in some real networks. Golden answers are those of the optimized graph, which servers run; what they
tolerate is measured here.
"""

import contextlib
import dataclasses
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...serving.agreement import NEAR_THRESHOLD
from ..errors import VerificationError
from ..graph.module import MaskModule
from ..graph.saving import save
from .golden import Sample
from .saved_check import FORWARD_DIR, INPUTS_FILE, FreshProcess, write_arrays

logger = logging.getLogger(__name__)

Outputs = list[npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Movement:
    """The largest differences of a probability, of any class, from what the optimized graph answers.

    Attributes:
        plain: of the graph as it was written.
        other_onednn: of the optimized graph where oneDNN's operations are switched off (or on, if they are off
            here); None where that was not measured.
    """

    plain: float = 0.0
    other_onednn: float | None = None

    @property
    def largest(self) -> float:
        """Of all that were measured."""
        return max(self.plain, self.other_onednn or 0.0)

    def tolerance(self, least: float = NEAR_THRESHOLD) -> float:
        """Returns how far a probability may be from the recorded one: above the movement by what rounding adds."""
        return max(least, round(self.largest + NEAR_THRESHOLD, 6))

    def __str__(self) -> str:
        """Returns it for people."""
        other = "" if self.other_onednn is None else f", {self.other_onednn:.2g} (oneDNN switched)"
        return f"by {self.plain:.2g} (plain graph){other}"


@contextlib.contextmanager
def measuring(
    module: MaskModule, samples: Sequence[Sample], as_served: FreshProcess | None, other_onednn: FreshProcess | None
) -> Iterator[Callable[[Outputs], tuple[Movement, Outputs]]]:
    """Has a module's model run on samples in fresh processes, as a server does, and with oneDNN switched over.

    Yields:
        What waits for the processes. It takes the plain graph's outputs for each sample, [B, h', w', K] before any
        activation, and returns how far the answers move, and the optimized graph's outputs: the plain one's where
        nothing is measured. It raises VerificationError where the model does not run in a fresh process.
    """
    if as_served is None:
        yield lambda plain: (Movement(), plain)
        return
    with tempfile.TemporaryDirectory(prefix="maskport-") as name:
        folder = Path(name)
        save(module.forward_alone(), folder / FORWARD_DIR)
        write_arrays(folder / INPUTS_FILE, [sample.model_input for sample in samples])
        wait_for_served = as_served.start_forward(folder, "as_served.npz")
        wait_for_other = other_onednn.start_forward(folder, "other_onednn.npz") if other_onednn else None

        def finish(plain: Outputs) -> tuple[Movement, Outputs]:
            served, other = wait_for_served(), None
            try:
                other = wait_for_other() if wait_for_other else None
            except VerificationError as error:
                # A model may be made for one setting; what was asked for is served in this one.
                logger.warning("with oneDNN's operations switched over: %s", error)
            expected = _probabilities(module, samples, served)
            return Movement(
                _largest_difference(_probabilities(module, samples, plain), expected),
                None if other is None else _largest_difference(_probabilities(module, samples, other), expected),
            ), served

        yield finish


def _probabilities(module: MaskModule, samples: Sequence[Sample], outputs: Outputs) -> list[npt.NDArray[np.float64]]:
    """Returns what the outputs of one form say at the pictures' size: of each what masks and classes are decided by.

    Nothing of class indices: what they were decided by is not known.
    """
    if module.answers.are_classes:
        return []
    return [
        np.asarray(probability, np.float64)
        for sample, output in zip(samples, outputs, strict=True)
        for probability in module.answers.probabilities(output, sample.size)
    ]


def _largest_difference(one: list[npt.NDArray[np.float64]], other: list[npt.NDArray[np.float64]]) -> float:
    """Returns how far the probabilities of two forms are apart; 1.0 for NaN in one of them."""
    pairs = list(zip(one, other, strict=True))
    if any((np.isnan(a) != np.isnan(b)).any() for a, b in pairs):
        return 1.0
    return _rounded_up(max((float(np.nan_to_num(np.abs(a - b)).max(initial=0.0)) for a, b in pairs), default=0.0))


def _rounded_up(value: float) -> float:
    """Returns two digits of a number, so that the last bits, which may change from run to run, change no file."""
    if value < 1e-7:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / step) * step, 9)
