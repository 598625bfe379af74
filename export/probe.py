"""Running the model once before it is exported: does it run at all, and are its answers probabilities?"""

import dataclasses

import numpy as np
import tensorflow as tf

from . import examples
from .errors import SourceError, SpecError
from .geometry import make_geometry
from .scaling import ValueScaling
from .sources.model import SegmentationModel
from .spec import ExportSpec

_FREE_SIZES = ((96, 128), (83, 109))
"""(height, width) that a model without a fixed size is tried at: a size that every network takes, and an odd one."""
_ROUNDING = 1e-3
"""By how much a probability may be outside [0, 1], or a sum of them from 1."""


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What the model answered to a few drawn pictures.

    Attributes:
        minimum: smallest output before any activation.
        maximum: largest.
        excludes: whether its outputs are probabilities of classes that exclude each other: they add up to 1.
    """

    minimum: float
    maximum: float
    excludes: bool

    @property
    def looks_like_probabilities(self) -> bool:
        """Whether all outputs are within [0, 1]."""
        return self.minimum >= -_ROUNDING and self.maximum <= 1 + _ROUNDING


def probe(model: SegmentationModel, spec: ExportSpec) -> ProbeResult:
    """Runs the model on drawn pictures, scaled and resized as it will be served.

    Raises:
        SourceError: it does not run at sizes that it must.
        SpecError: `activation: none`, but the outputs are no probabilities.
    """
    outputs = [_answer(model, spec, *size) for size in ([model.size] if model.size else _FREE_SIZES)]
    values = np.concatenate([output.reshape(-1, model.output_channels) for output in outputs])
    if np.isnan(values).all():
        raise SourceError(f"source {spec.source}: the model answers nothing but NaN")
    result = ProbeResult(
        minimum=float(np.nanmin(values)),
        maximum=float(np.nanmax(values)),
        excludes=bool(model.output_channels > 1 and np.abs(values.sum(-1) - 1).max() < _ROUNDING),
    )
    if spec.activation == "none" and not result.looks_like_probabilities:
        advice = "sigmoid" if model.output_channels == 1 else "softmax or sigmoid"
        raise SpecError(
            f"activation: 'none', but the model's outputs reach from {result.minimum:.3g} to {result.maximum:.3g}, "
            f"so they are no probabilities; give {advice}"
        )
    return result


def _answer(model: SegmentationModel, spec: ExportSpec, height: int, width: int) -> np.ndarray:
    pixels = np.stack(
        [
            examples.as_pixels(picture, model.channels, "float32", spec.full_scale)
            for picture in (
                examples.draw_picture(height, width, seed=0),
                examples.draw_picture(height, width, seed=1),
                np.zeros((height, width, 3), np.uint8),
                np.full((height, width, 3), 255, np.uint8),
            )
        ]
    )
    scaling, geometry = ValueScaling(spec, model), make_geometry(spec, model)
    try:
        outputs = model.forward(scaling(geometry.to_model(tf.constant(pixels)), spec.full_scale))
    except Exception as error:
        advice = "" if model.size else "; it may need --pad_to_multiple=32 or a fixed --model_size=HEIGHT,WIDTH"
        text = " ".join(str(error).split())[:240]
        raise SourceError(f"source {spec.source}: fails on a {height}x{width} picture: {text}{advice}") from error
    return np.asarray(outputs)
