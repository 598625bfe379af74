"""The probabilities that an export would threshold, of pictures on disk, from the model in this process."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...serving import contract
from ..exporter import Plan, resolve_foreground
from ..model.causes import cause_of
from ..spec import ExportSpec
from .errors import CalibrationError


class ProbabilityReader:
    """Runs the model of a spec on files: decoded, resized, scaled, activated and cleaned as by its export.

    Args:
        spec: of the export; its threshold does not matter.

    Attributes:
        classes: how many output channels the model has.
        foreground: indices of those that the probability is of.

    Raises:
        ExportError: the source or the spec is not good.
    """

    def __init__(self, spec: ExportSpec):
        # The plan checks spec and model against each other, as mask-export does; its cheapest signature will do.
        plan = Plan.make(spec.model_copy(update={"signatures": [contract.EXPORT_INFO]}))
        self.classes = plan.model.output_channels
        self.foreground = resolve_foreground(spec, plan.model)
        self._probability = tf.function(
            plan.module.cleaned_probability, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
        )
        self._plan = plan  # a bound tf.function does not keep its module alive

    def read(self, path: Path) -> npt.NDArray[np.float32]:
        """Returns a picture's probability of foreground, [H, W] at its upright size.

        Raises:
            CalibrationError: it is a bad picture, or the model fails on it.
        """
        try:
            probability, error = self._probability(tf.constant(path.read_bytes()))
        except OSError as failure:
            raise CalibrationError(f"picture {path}: cannot be read: {failure.strerror}") from failure
        except tf.errors.OpError as failure:
            raise CalibrationError(f"picture {path}: the model fails on it: {cause_of(failure)}") from failure
        if error.numpy():
            raise CalibrationError(f"picture {path}: {error.numpy().decode()}")
        values: npt.NDArray[np.float32] = probability.numpy()
        return values
