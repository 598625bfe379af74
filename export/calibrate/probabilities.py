"""The probabilities that an export would threshold, of pictures on disk, from the model in this process."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...serving import contract
from .. import masking
from ..decoding import Picture
from ..exporter import Plan
from ..module import MaskModule
from ..spec import ExportSpec
from .errors import CalibrationError


class _Probabilities(MaskModule):
    """The export's own module with one function more: what `mask_png` compares with the threshold."""

    def of_file(self, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 [H, W], cleaned, at the upright picture's size, and its error."""
        picture = Picture(*self._decode(data))

        def answer() -> tf.Tensor:
            outputs = self._run_model(self._model_input(picture))
            probability = self._probability_at(outputs, tf.shape(picture.image)[:2])
            return masking.clean(probability, self._spec.clean)[0, :, :, 0]

        nothing = tf.zeros(tf.constant([0, 0]))
        return tf.cond(tf.equal(picture.error, ""), answer, lambda: nothing), picture.error


class ProbabilityReader:
    """Runs the model of a spec on files: decoded, resized, scaled, activated and cleaned as by its export.

    Args:
        spec: of the export; its threshold does not matter.

    Raises:
        ExportError: the source or the spec is not good.
    """

    def __init__(self, spec: ExportSpec):
        # The plan checks spec and model against each other, as mask-export does; its cheapest signature will do.
        plan = Plan.make(spec.model_copy(update={"signatures": [contract.EXPORT_INFO]}))
        foreground = json.loads(plan.manifest)["foreground"]
        adds = foreground["combined_by"] == "sum"
        self.description = plan.model.description
        self._module = _Probabilities(plan.model, spec, foreground["channels"], adds, plan.manifest)
        signature = [tf.TensorSpec([], tf.string)]
        self._of_file = tf.function(self._module.of_file, input_signature=signature, autograph=False)

    def read(self, path: Path) -> npt.NDArray[np.float32]:
        """Returns a picture's probability of foreground, [H, W] at its upright size.

        Raises:
            CalibrationError: it is a bad picture, or the model fails on it.
        """
        try:
            probability, error = self._of_file(tf.constant(path.read_bytes()))
        except OSError as failure:
            raise CalibrationError(f"picture {path}: cannot be read: {failure.strerror}") from failure
        except tf.errors.OpError as failure:
            text = " ".join(failure.message.split())[:240]
            raise CalibrationError(f"picture {path}: the model fails on it: {text}") from failure
        if error.numpy():
            raise CalibrationError(f"picture {path}: {error.numpy().decode()}")
        values: npt.NDArray[np.float32] = probability.numpy()
        return values
