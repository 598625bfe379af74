"""onnxruntime, as far as it is installed: what an ONNX file answers without this package."""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ...model.segmentation_model import Reference
from ..adapting.choosing import Inputs, pick
from ..paths.elsewhere import on_this_machine
from .files import weights_beside

_FATAL = 4
"""The only messages of onnxruntime's log that are let through."""


def make_reference(path: str, inputs: Inputs, outputs: Sequence[str]) -> Reference | None:
    """Returns what runs a model file, or that of a URL, by onnxruntime; None where that is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None

    def call(images: tf.Tensor) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        # Only here: a session holds all of the model's weights.
        with on_this_machine(path, weights_beside(path)) as file:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        fed = inputs.tensors(images)
        typed = {}
        for one in session.get_inputs():
            dtype = tf.as_dtype(_DTYPES.get(one.type, one.type.removeprefix("tensor(").removesuffix(")")))
            # What the output does not need must be given all the same.
            value = fed.get(one.name)
            edges = [edge if isinstance(edge, int) else 1 for edge in one.shape]
            typed[one.name] = (tf.zeros(edges, dtype) if value is None else tf.cast(value, dtype)).numpy()
        answers: list[Any] = session.run(outputs, typed)
        return pick({name: tf.constant(answer) for name, answer in zip(outputs, answers, strict=True)}, outputs)

    return Reference(f"onnxruntime {importlib.metadata.version('onnxruntime')}", call)


_DTYPES = {"tensor(float)": tf.float32, "tensor(double)": tf.float64}
"""What onnxruntime calls otherwise."""
