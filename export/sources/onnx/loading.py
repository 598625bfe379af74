"""From an ONNX file to a `RawModel`."""

import dataclasses
from typing import Any

import tensorflow as tf

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import RawModel
from ...model.tracing import find_data_format, trace, with_size
from ...spec import ExportSpec
from ..choosing import choose_inputs, choose_output
from ..weights import Weights
from .files import read_model
from .folding import fold
from .graph import Graph, names_used, read_graph, sort
from .reference import make_reference
from .running import run
from .values import Tensor, as_plain, natural


def load_onnx(spec: ExportSpec) -> RawModel:
    """Reads an ONNX file; SourceError where it is none, has unknown operators, or input or output is unclear."""
    where = f"source {spec.source}"
    content = tf.io.gfile.GFile(spec.source, "rb").read() if "://" in spec.source else None
    proto = read_model(spec.source, content)
    try:
        graph = fold(read_graph(proto, where))
    except SourceError:
        raise
    except Exception as error:  # whatever a broken file, or one against the standard, leads to
        raise SourceError(f"{where}: its graph cannot be read: {cause_of(error)}") from error
    graph = _only_needed(graph, [spec.source_output] if spec.source_output in graph.outputs else graph.outputs, where)
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
        return {name: as_plain(result) for name, result in zip(graph.outputs, results, strict=True)}

    traced = trace(outputs_of, _with_known_size(image, spec, where), where).structured_outputs
    output_name = choose_output(spec.source_output, traced, where)
    graph = _only_needed(graph, [output_name], where)
    by = f" of {proto.producer_name} {proto.producer_version}".rstrip() if proto.producer_name else ""
    parameter_count = sum(array.size for array in graph.constants.values() if array.ndim and array.dtype.kind == "f")
    return RawModel(
        call=lambda images: outputs_of(images)[output_name],
        trackable=weights,
        input=image,
        description=f"ONNX model{by}, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        reference=make_reference(spec.source, content, chosen, output_name),
    )


def _with_known_size(image: tf.TensorSpec, spec: ExportSpec, where: str) -> tf.TensorSpec:
    if image.shape.rank != 4 or spec.fixed_size is None:
        return image
    return with_size(image, spec.data_format or find_data_format(image.shape, where), spec.fixed_size)


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
