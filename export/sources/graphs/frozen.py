"""Frozen graphs of TensorFlow 1: a GraphDef whose variables are constants."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.model_graph import count_constants
from ...model.segmentation_model import RawModel
from ...spec import ExportSpec
from ..adapting.choosing import choose_inputs, choose_outputs, names_in, pick
from ..paths.contents import HEAD_BYTES, check_content

_WITHOUT_RESULT = {"NoOp", "Assert", "Const", "Placeholder"}
"""Ops whose result is no output, though none takes it."""


def load_frozen_graph(spec: ExportSpec) -> RawModel:
    """Reads a frozen graph; SourceError where it is none, holds variables, or input or output is unclear."""
    where = f"source {spec.source}"
    graph_def = tf.compat.v1.GraphDef()
    with tf.io.gfile.GFile(spec.source, "rb") as file:
        content = file.read()
    check_content(content[:HEAD_BYTES], where)
    try:
        graph_def.ParseFromString(content)
    except DecodeError as error:
        if _is_saved_model(content):
            raise SourceError(
                f"{where}: it is a SavedModel's; name it saved_model.pb, with the folder variables beside it, and give "
                "the directory of both"
            ) from error
        raise SourceError(f"{where}: it is no graph of TensorFlow, or a broken or truncated one") from error
    return wrap_graph(graph_def, spec, "frozen graph", {})


def _is_saved_model(content: bytes) -> bool:
    try:
        return bool(saved_model_pb2.SavedModel.FromString(content).meta_graphs)
    except DecodeError:
        return False


def wrap_graph(graph_def: Any, spec: ExportSpec, kind: str, named: Mapping[str, str]) -> RawModel:
    """Returns a graph as a model; its inputs are the placeholders that the output needs.

    Args:
        graph_def: its values are constants.
        spec: chooses input and output.
        kind: of the model, for people.
        named: the outputs: by name, the name of a tensor. Without any they are what no other op takes.

    Raises:
        SourceError: it is empty, holds variables, or input or output is unclear.
    """
    where = f"source {spec.source}"
    if not graph_def.node:
        raise SourceError(f"{where}: it is no graph of TensorFlow, or one without any ops")
    variables = sorted({node.op for node in graph_def.node if node.op in ("VariableV2", "VarHandleOp", "Variable")})
    if variables:
        raise SourceError(
            f"{where}: the graph is not frozen: the values of its variables are in a checkpoint; save a SavedModel, or "
            "freeze it (tf.compat.v1.graph_util.convert_variables_to_constants)"
        )
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    except Exception as error:
        raise SourceError(f"{where}: TensorFlow cannot load it: {cause_of(error)}") from error
    takes = {node.name: [name.lstrip("^").partition(":")[0] for name in node.input] for node in graph_def.node}
    taken = {name for names in takes.values() for name in names}
    ends = [node.name for node in graph_def.node if node.name not in taken and node.op not in _WITHOUT_RESULT]
    outputs = {name: _tensor(wrapped.graph, tensor) for name, tensor in named.items()}
    outputs = outputs or _results(wrapped.graph, ends)
    wanted = spec.source_output
    for name in names_in(wanted):
        if name not in outputs:  # what others take can be chosen, too
            outputs[name] = _tensor(wrapped.graph, name)
    outputs = {name: tensor for name, tensor in outputs.items() if tensor is not None}
    names = choose_outputs(wanted, outputs, where)
    needed = set().union(*(_needed(takes, outputs[name].op.name) for name in names))
    # A placeholder with a default is set already: a rate of dropout, say.
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder" and node.name in needed]
    inputs = {
        name: tensor
        for name, tensor in _results(wrapped.graph, placeholders).items()
        if tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool
    }
    if not inputs:  # then the image is such a one
        defaults = [node.name for node in graph_def.node if node.op == "PlaceholderWithDefault" and node.name in needed]
        found = _results(wrapped.graph, defaults)
        inputs = {name: tensor for name, tensor in found.items() if tensor.shape.rank in (None, 3, 4)}
    chosen = choose_inputs(spec, inputs, where)
    image = inputs[chosen.image]
    try:
        function = wrapped.prune(list(inputs.values()), pick(outputs, names))
    except Exception as error:  # TensorFlow's own kind is not public
        others = ", ".join(map(repr, sorted(set(placeholders) - set(inputs))))
        cause = f"needs {others} beside pictures, which holds no numbers" if others else cause_of(error)
        raise SourceError(f"{where}: {wanted or names[0]!r} {cause}") from error
    parameter_count = count_constants(function.graph.as_graph_def())
    return RawModel(
        call=lambda images: function(*map(chosen.tensors(images).get, inputs)),
        trackable=None,
        input=tf.TensorSpec(image.shape, image.dtype, name="image"),
        description=f"{kind}, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        answers_pair=len(names) == 2,
    )


def _needed(takes: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """Returns the names of an op, and of all that it needs."""
    needed, open_names = {name}, [name]
    while open_names:
        new = [one for one in takes[open_names.pop()] if one not in needed]
        needed.update(new)
        open_names += new
    return needed


def _results(graph: Any, names: Sequence[str]) -> dict[str, Any]:
    """Returns the tensors that ops of a graph give, by the op's name, with their number where it is not the first."""
    found: dict[str, Any] = {}
    for operation in graph.get_operations():
        if operation.name in names:
            found |= {name.removesuffix(":0"): tensor for tensor in operation.outputs for name in [tensor.name]}
    return found


def _tensor(graph: Any, name: str) -> Any:
    """Returns a tensor by its name, of which the number may be left out; None where there is none."""
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        return None
