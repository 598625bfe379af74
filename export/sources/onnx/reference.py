"""onnxruntime, as far as it is installed: what an ONNX file answers without this package."""

import contextlib
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from ...model.segmentation_model import Reference
from ..choosing import Inputs
from .files import weights_beside

_FATAL = 4
"""The only messages of onnxruntime's log that are let through."""


def make_reference(path: str, inputs: Inputs, output: str) -> Reference | None:
    """Returns what runs a model file, or that of a URL, by onnxruntime; None where that is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None

    def call(images: tf.Tensor) -> tf.Tensor:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        # Only here: a session holds all of the model's weights.
        with _on_this_machine(path) as file:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        fed = inputs.tensors(images)
        typed = {}
        for one in session.get_inputs():
            dtype = tf.as_dtype(_DTYPES.get(one.type, one.type.removeprefix("tensor(").removesuffix(")")))
            # What the output does not need must be given all the same.
            value = fed.get(one.name)
            edges = [edge if isinstance(edge, int) else 1 for edge in one.shape]
            typed[one.name] = (tf.zeros(edges, dtype) if value is None else tf.cast(value, dtype)).numpy()
        answers: list[Any] = session.run([output], typed)
        return tf.constant(answers[0])

    return Reference(f"onnxruntime {importlib.metadata.version('onnxruntime')}", call)


@contextlib.contextmanager
def _on_this_machine(path: str) -> Iterator[str]:
    """Gives the path of a model's file; of a URL's a copy with its weights, for as long as it is entered."""
    if "://" not in path:
        yield path
        return
    folder = os.path.dirname(path)
    with tempfile.TemporaryDirectory() as copies:
        for file in (path, *weights_beside(path)):
            copy = os.path.join(copies, file.removeprefix(folder).lstrip("/"))
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            tf.io.gfile.copy(file, copy)
        yield os.path.join(copies, os.path.basename(path))


_DTYPES = {"tensor(float)": tf.float32, "tensor(double)": tf.float64}
"""What onnxruntime calls otherwise."""
