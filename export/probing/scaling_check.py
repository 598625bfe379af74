"""Whether a model scales its pictures itself, and the spec does so once more."""

import logging

import numpy as np
import tensorflow as tf

from ..graph.scaling import ValueScaling
from ..model.model_graph import after_own_scaling
from ..model.segmentation_model import SegmentationModel
from ..spec import ExportSpec

logger = logging.getLogger(__name__)

_EDGE = 32
_LEAST_CONTRAST = 0.05
"""Between black and white, of what a network is made for: it is 1, 2, some 4.5 or 255."""
_GREATEST_OFFSET = 20
"""How far from 0 such values lie at most, in units of that contrast."""


def warn_of_double_scaling(model: SegmentationModel, spec: ExportSpec) -> None:
    """Warns where, by what a model's graph begins with, black and white become nearly the same to the network.

    Args:
        model: of any source.
        spec: what its `scaling`, `mean` and `std` say is done before the model.
    """
    if spec.scaling == "none" and spec.mean is None and spec.std is None:
        return
    size = model.size or (_EDGE, _EDGE)
    black_and_white = tf.stack([tf.zeros([*size, 3]), tf.fill([*size, 3], spec.full_scale)])
    scaled = ValueScaling(spec, model)(black_and_white, spec.full_scale)
    for values in after_own_scaling(model, scaled):
        black, white = values[: len(values) // 2], values[len(values) // 2 :]
        contrast = float(np.abs(white - black).max())
        if contrast < _LEAST_CONTRAST or float(np.median(np.abs(values))) > _GREATEST_OFFSET * contrast:
            said = f"scaling: {spec.scaling!r}" if spec.scaling != "none" else "mean, std: given"
            logger.warning(
                "%s, but the model scales its pictures itself: what it makes of black and white then differs by %.2g "
                "only (%.4g to %.4g); is it 'none'?",
                said, contrast, float(values.min()), float(values.max()),
            )  # fmt: skip
            return
