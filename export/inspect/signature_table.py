"""The signatures of any SavedModel, read from its file without running it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from ..errors import InspectError
from ..model.causes import cause_of
from ..model.model_graph import count_constants

_INIT_SIGNATURE = "__saved_model_init_op"
_BOOKKEEPING = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")


@dataclasses.dataclass(frozen=True)
class TensorForm:
    """Form of an input or output: TensorFlow's name of its dtype, and sizes, None for any (or all of them)."""

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "…" if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} [{sizes}]"


@dataclasses.dataclass(frozen=True)
class SignatureForm:
    """A signature's inputs and outputs, by name."""

    inputs: Mapping[str, TensorForm]
    outputs: Mapping[str, TensorForm]


def read_signatures(version_dir: Path) -> dict[str, SignatureForm]:
    """Returns the signatures of a SavedModel in the order of their names; InspectError where its file is broken."""
    try:
        meta_graphs = parse_saved_model(str(version_dir)).meta_graphs
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InspectError(f"{version_dir}: its saved_model.pb cannot be read: {cause_of(error)}") from error
    served = [graph for graph in meta_graphs if tf.saved_model.SERVING in graph.meta_info_def.tags]
    if not served:
        raise InspectError(f"{version_dir}: no graph in it has the tag 'serve', by which it would be served")
    signatures = served[0].signature_def
    return {
        name: SignatureForm(_forms(signatures[name].inputs), _forms(signatures[name].outputs))
        for name in sorted(signatures)
        if name != _INIT_SIGNATURE
    }


def count_weights(version_dir: Path) -> int:
    """Returns how many numbers the variables of a SavedModel hold, or its constants where it has none."""
    prefix = version_dir / "variables" / "variables"
    count = 0
    if prefix.with_suffix(".index").is_file():
        shapes = tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()
        weights = [shape for name, shape in shapes.items() if name.partition("/")[0] not in _BOOKKEEPING]
        count = sum(tf.TensorShape(shape).num_elements() or 0 for shape in weights)
    return count or count_constants(parse_saved_model(str(version_dir)).meta_graphs[0].graph_def)


def _forms(tensors: Mapping[str, Any]) -> dict[str, TensorForm]:
    forms = {}
    for name, info in sorted(tensors.items()):
        sizes = tuple(None if axis.size < 0 else axis.size for axis in info.tensor_shape.dim)
        forms[name] = TensorForm(tf.as_dtype(info.dtype).name, None if info.tensor_shape.unknown_rank else sizes)
    return forms
