"""From an ONNX file to a `RawModel`."""

import ast
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import CHANNELS_FIRST, RawModel
from ...model.tracing import find_data_format, trace, with_size
from ...spec import ExportSpec
from ..adapting.choosing import choose_inputs, choose_outputs, names_in, pick
from ..conversion import Weights
from .files import read_model
from .folding import fold
from .graph import Graph, names_used, operators, read_graph, sort
from .ops.numbers.random import RANDOM
from .reference import make_reference
from .running import run
from .values import Order, Tensor, as_plain, natural

logger = logging.getLogger(__name__)

_EDGE_OF_AN_EXAMPLE = 64
"""Up to this many pixels a size is hardly one that masks are wanted at."""


def load_onnx(spec: ExportSpec) -> RawModel:
    """Reads an ONNX file; SourceError where it is none, has unknown operators, or input or output is unclear."""
    where = f"source {spec.source}"
    proto = read_model(spec.source)
    try:
        graph = fold(read_graph(proto, where, names_in(spec.source_output)))
    except SourceError:
        raise
    except Exception as error:  # whatever a broken file, or one against the standard, leads to
        raise SourceError(f"{where}: its graph cannot be read: {cause_of(error)}") from error
    graph = _only_needed(graph, graph.outputs, where)
    chosen = choose_inputs(spec, graph.inputs, where)
    image, weights = graph.inputs[chosen.image], Weights()
    if image.shape.rank is None:  # of a file that does not say
        image = tf.TensorSpec([None] * 4, image.dtype, name=image.name)

    def outputs_of(images: tf.Tensor) -> dict[str, Any]:
        fed = {
            name: Tensor(value, natural(value.shape.rank)) if tf.is_tensor(value) else value
            for name, value in chosen.feed(images).items()
        }
        results = run(graph, [fed[name] for name in graph.inputs], weights)
        named = zip(graph.outputs, results, strict=True)
        return {name: as_plain(result) for name, result in named if not isinstance(result, list)}

    image = _with_channels(image, graph)
    data_format = _data_format(image, spec, where)
    known = image if data_format is None else with_size(image, data_format, spec.fixed_size)
    first = 2 if data_format == CHANNELS_FIRST else 1
    edges = image.shape.as_list()[first : first + 2]
    if data_format is not None and None not in edges and max(edges) <= _EDGE_OF_AN_EXAMPLE:
        logger.warning(
            "%s: the file names a size of %dx%d pixels, as one that an example was exported with; if its network takes "
            "any, set it free first (docs/sources.md)", where, *edges,
        )  # fmt: skip
    is_single, traced = _traced(outputs_of, known, where)
    if is_single:
        image = tf.TensorSpec([1, *image.shape[1:]], image.dtype, name=image.name)
    names = choose_outputs(spec.source_output, traced, where)
    graph = _only_needed(graph, names, where)
    if drawn := sorted({*RANDOM} & {*operators(graph.nodes)}):
        logger.warning(
            "%s: its random numbers (%s) are constants here, and others each time to onnxruntime: not compared",
            where,
            ", ".join(drawn),
        )
    by = f" of {proto.producer_name} {proto.producer_version}".rstrip() if proto.producer_name else ""
    parameter_count = sum(array.size for array in graph.constants.values() if array.ndim and array.dtype.kind == "f")
    return RawModel(
        call=lambda images: pick(outputs_of(images), names),
        trackable=weights,
        input=image,
        description=f"ONNX model{by}, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        reference=None if drawn else make_reference(spec.source, chosen, names),
        data_format=data_format,
        named_classes=_named_classes(proto),
        answers_pair=len(names) == 2,
    )


def _named_classes(proto: Any) -> int | None:
    """Returns how many classes a file names, as Ultralytics writes them: a dict of Python's, by number."""
    text = next((one.value for one in proto.metadata_props if one.key == "names"), "")
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return len(names) if isinstance(names, dict) else None


def _traced(function: Callable[[tf.Tensor], Any], images: tf.TensorSpec, where: str) -> tuple[bool, Any]:
    """Returns a model's outputs, traced, and whether it takes one picture at a time.

    It does where their number decides what is computed, such as whether PyTorch's `x.squeeze(0)` leaves an axis out.
    """
    try:
        return False, trace(function, images, where).structured_outputs
    except SourceError as error:
        if images.shape[:1] != [None]:
            raise
        single = tf.TensorSpec([1, *images.shape[1:]], images.dtype, name=images.name)
        try:
            outputs = trace(function, single, where).structured_outputs
        except SourceError:
            raise error from error.__cause__
        reason = error.__cause__ or error
        logger.warning("%s: pictures are run one by one, as their number decides what is done: %s", where, reason)
        return True, outputs


def _data_format(image: tf.TensorSpec, spec: ExportSpec, where: str) -> str | None:
    """Returns where an image has its channels: first, as ONNX has them, where the file does not say; None of none."""
    if image.shape.rank != 4:
        return None
    if spec.data_format is None and image.shape[1] is None and image.shape[3] is None:
        return CHANNELS_FIRST
    return spec.data_format or find_data_format(image.shape, where)


_PREPARING = (
    "Add", "Cast", "Clip", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Identity", "Mul", "Pad",
    "QuantizeLinear", "Resize", "Sub", "Transpose",
)  # fmt: skip
"""What stands between an image and its first convolution, and keeps the number of its channels."""
_WEIGHTS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Which of a convolution's inputs are its weights."""


def _with_channels(image: tf.TensorSpec, graph: Graph) -> tf.TensorSpec:
    """Returns the form of an image, with the channels of its first convolution where the file leaves all sizes free."""
    if image.shape.rank != 4 or image.shape[1] is not None or image.shape[3] is not None:
        return image
    followed: dict[str, Order] = {image.name: natural(4)}  # which axis of the image each axis of a value is
    for node in graph.nodes:
        axes = next((followed[name] for name in node.inputs[:2] if name in followed), None)
        if axes is None:
            continue
        place = _WEIGHTS.get(node.op, len(node.inputs))
        weights = graph.constants.get(node.inputs[place]) if place < len(node.inputs) else None
        if weights is not None:
            edges = image.shape.as_list()
            edges[axes[1]] = weights.shape[1] * node.get("group", 1)
            return tf.TensorSpec(edges, image.dtype, name=image.name)
        if node.op in _PREPARING and node.outputs:
            permutation = node.get("perm", (3, 2, 1, 0)) if node.op == "Transpose" else range(4)
            followed[node.outputs[0]] = tuple(axes[at] for at in permutation)
    return image


def _only_needed(graph: Graph, outputs: list[str], where: str) -> Graph:
    """Returns what of a graph some of its outputs need."""
    nodes = sort(graph.nodes, outputs, where)
    used = {*outputs, *(name for node in nodes for name in names_used(node))}
    return dataclasses.replace(
        graph,
        inputs={name: form for name, form in graph.inputs.items() if name in used},
        outputs=outputs,
        nodes=nodes,
        constants={name: array for name, array in graph.constants.items() if name in used},
    )
