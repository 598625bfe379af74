"""How far a model's answers are from those of what its file is made for."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import SourceError
from ..model.causes import cause_of
from ..model.segmentation_model import SegmentationModel
from ..model.tracing import without_graph_optimization

logger = logging.getLogger(__name__)

_NOTABLE = 0.01
_WRONG = 0.05
"""Of the answers' range: by how much one of them, and all of them on average, may differ."""
_MILLIONTH = 1e-6
"""Of the input's range: by how much it is moved to see how far the other runtime's own answers go with it."""
_AMPLIFIED = 3
"""How many times as far a network's answers may differ: deep ones that are quantized dynamically amplify roundings."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came out of running a model by two runtimes."""

    reference: str  # the other one's name and release
    largest: float  # difference between two answers
    answers_range: float  # of the other one's answers, from the smallest to the largest

    def __str__(self) -> str:
        return f"{self.reference}: answers differ by {self.largest:.2g} at most, of a range of {self.answers_range:.3g}"


@without_graph_optimization()
def compare(model: SegmentationModel, images: tf.Tensor, where: str) -> Comparison | None:
    """Runs a model by TensorFlow and by what its file is made for, where that is installed.

    Args:
        model: to be compared.
        images: float32 [B, h, w, channels], as the model takes them.
        where: what model, for people.

    Returns:
        None where there is nothing to compare with; that it fails is warned of.

    Raises:
        SourceError: the answers have little to do with each other.
    """
    if model.reference is None:
        return None
    reference = model.reference
    try:
        wanted = _arrays(reference.call(images))
    except Exception as error:
        cause = cause_of(error)
        logger.warning("%s cannot run the model, so that its answers are not compared: %s", reference.name, cause)
        return None
    run = tf.function(reference.counterpart, autograph=False) if reference.counterpart else model.traced
    found = _arrays(run(images))

    def move(part: int) -> float:
        """Returns by how much the other's answers move on average where its input does by a millionth."""
        pixels = np.asarray(images)
        noise = np.random.default_rng(0).uniform(-1, 1, pixels.shape) * _MILLIONTH * np.ptp(pixels)
        moved = _arrays(reference.call(tf.constant(pixels + noise, tf.float32)))[part]
        with np.errstate(invalid="ignore"):
            return float(np.nan_to_num(np.abs(moved - wanted[part]), posinf=0.0).mean())

    compared = [
        _compare(*pair, functools.partial(move, part), reference.name, where)
        for part, pair in enumerate(zip(found, wanted, strict=True))
    ]
    return max(compared, key=lambda one: one.largest / (one.answers_range or 1))


def _arrays(answer: Any) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(part, np.float64) for part in (answer if isinstance(answer, tuple) else (answer,))]


def _compare(
    found: npt.NDArray[np.float64],
    wanted: npt.NDArray[np.float64],
    own_movement: Callable[[], float],
    name: str,
    where: str,
) -> Comparison:
    """Compares one array with the other runtime's, whose own movement is asked for where they differ."""
    if found.shape != wanted.shape:
        raise SourceError(f"{where}: answers {found.shape}, and by {name} {wanted.shape}: {_ADVICE}")
    with np.errstate(invalid="ignore"):
        differences = np.abs(found - wanted)
    differences[(found == wanted) | (np.isnan(found) & np.isnan(wanted))] = 0  # infinities, too
    numbers = wanted[np.isfinite(wanted)]
    extent = float(np.ptp(numbers)) if numbers.size else 0.0
    scale = max(extent, 1e-3 * float(np.abs(numbers).max(initial=0)), 1e-6)
    allowed = _WRONG * scale
    if not differences.mean() <= allowed:
        allowed = max(allowed, _AMPLIFIED * own_movement())
    if not differences.mean() <= allowed:
        raise SourceError(
            f"{where}: its answers differ from those of {name} by {differences.mean():.2g} on average, of a range of "
            f"{extent:.3g}: {_ADVICE}"
        )
    comparison = Comparison(name, float(differences.max()), extent)
    if comparison.largest > _NOTABLE * scale:
        logger.warning("%s; compare masks of your own pictures", comparison)
    return comparison


_ADVICE = "one of its operators is read wrongly here, which is a fault to report; nothing is exported"
