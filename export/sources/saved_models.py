"""SavedModel directories: from Keras, from tf.Module, and from TensorFlow 1."""

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from ..errors import SourceError
from ..model.causes import cause_of
from ..model.model_graph import count_constants
from ..model.segmentation_model import RawModel
from ..spec import ExportSpec
from .adapting.choosing import choose, choose_inputs, choose_outputs, flatten_named, in_natural_order, pick

_DEFAULT_SIGNATURE = "serving_default"
_INIT_SIGNATURE = "__saved_model_init_op"


def load_saved_model(spec: ExportSpec) -> RawModel:
    """Loads a SavedModel directory and finds the function to export; SourceError where that fails, or is unclear."""
    where = f"source {spec.source}"
    try:
        meta_graph = _choose_meta_graph(parse_saved_model(spec.source), where)
        if not meta_graph.HasField("object_graph_def"):
            return _load_frozen(spec, list(meta_graph.meta_info_def.tags), where)
        loaded = tf.saved_model.load(spec.source)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{where}: TensorFlow cannot load it: {cause_of(error)}") from error

    function = _find_function(loaded, spec, where)
    positional, keywords = _inputs_of(function)
    takes = positional | keywords
    chosen = choose_inputs(spec, takes, where)
    image = takes[chosen.image]
    outputs = in_natural_order(flatten_named(function.structured_outputs))
    names = choose_outputs(spec.source_output, outputs, where)

    def call(images: tf.Tensor) -> Any:
        fed = chosen.tensors(images)
        results = function(*map(fed.get, positional), **{name: fed[name] for name in keywords})
        return pick(flatten_named(results), names)

    variables = getattr(loaded, "variables", None) or function.graph.variables
    parameter_count = _count(variables) or count_constants(function.graph.as_graph_def())
    return RawModel(
        call=call,
        trackable=loaded,
        input=tf.TensorSpec(image.shape, image.dtype, name="image"),
        description=f"SavedModel, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        answers_pair=len(names) == 2,
    )


def _choose_meta_graph(saved: saved_model_pb2.SavedModel, where: str) -> meta_graph_pb2.MetaGraphDef:
    """Returns the graph to serve, by its tags: exactly `serve`, else some with it, else none; or the only one."""
    if not saved.meta_graphs or not saved.saved_model_schema_version:
        raise SourceError(
            f"{where}: its saved_model.pb holds no SavedModel; if it is a frozen graph: name it graph.pb and give the "
            "file"
        )
    graphs = {frozenset(graph.meta_info_def.tags): graph for graph in saved.meta_graphs}
    fitting = sorted((tags for tags in graphs if tf.saved_model.SERVING in tags), key=len)
    fitting += [tags for tags in graphs if not tags or len(graphs) == 1]
    if not fitting:
        listed = "; ".join(", ".join(sorted(tags)) for tags in graphs)
        raise SourceError(f"{where}: it holds {len(graphs)} graphs, none of them tagged serve; their tags: {listed}")
    return graphs[fitting[0]]


def _load_frozen(spec: ExportSpec, tags: Sequence[str], where: str) -> RawModel:
    """Loads a SavedModel of TensorFlow 1 with its variables as constants.

    Loaded by TensorFlow 2, its variables would come without their values when they are saved once more.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.loader.load(session, tags, spec.source)
        signature = _choose_signature(dict(meta_graph.signature_def), spec, where)
        outputs = in_natural_order({name: _spec_of(info) for name, info in signature.outputs.items()})
        names = choose_outputs(spec.source_output, outputs, where)
        variables, ends = v1.global_variables(), {name: signature.outputs[name].name for name in names}
        frozen = v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [end.partition(":")[0] for end in ends.values()]
        )
    # What the output does not need, a key that is handed through say, is no input of its.
    kept = {node.name for node in frozen.node}
    needed = {name: info for name, info in signature.inputs.items() if info.name.partition(":")[0] in kept}
    inputs = {name: _spec_of(info) for name, info in needed.items()}
    chosen = choose_inputs(spec, inputs, where)
    starts = [info.name for info in needed.values()]
    wrapped = v1.wrap_function(lambda: tf.graph_util.import_graph_def(frozen, name=""), [])
    element = wrapped.graph.as_graph_element
    function = wrapped.prune(
        [element(start) for start in starts], pick({name: element(end) for name, end in ends.items()}, names)
    )
    parameter_count = _count(variables) or count_constants(frozen)
    return RawModel(
        call=lambda images: function(*map(chosen.tensors(images).get, inputs)),
        trackable=None,
        input=inputs[chosen.image],
        description=f"TensorFlow 1 SavedModel, {parameter_count:,} parameters",
        parameter_count=parameter_count,
        answers_pair=len(names) == 2,
    )


def _count(variables: Iterable[Any]) -> int:
    return sum(int(variable.shape.num_elements() or 0) for variable in variables)


def _spec_of(info: meta_graph_pb2.TensorInfo) -> tf.TensorSpec:
    return tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))


def _choose_signature(signatures: dict[str, Any], spec: ExportSpec, where: str) -> Any:
    named = {name: signature for name, signature in signatures.items() if name != _INIT_SIGNATURE}
    wanted = spec.source_signature
    if wanted is None and _DEFAULT_SIGNATURE in named:
        wanted = _DEFAULT_SIGNATURE  # the one that callers get who name none
    return named[choose("signature", "source_signature", wanted, named, where)]


def _find_function(loaded: Any, spec: ExportSpec, where: str) -> Any:
    if any(name != _INIT_SIGNATURE for name in loaded.signatures):
        return _choose_signature(dict(loaded.signatures), spec, where)
    if spec.source_signature is not None:
        raise SourceError(f"source_signature: {where} has no signatures at all")
    # A tf.Module saved without signatures still has its traced __call__.
    traces = getattr(getattr(loaded, "__call__", None), "concrete_functions", None) or []  # noqa: B004
    if not traces:
        raise SourceError(f"{where} has neither a signature nor a traced __call__; save it with signatures=…")

    def rank(trace: Any) -> tuple[bool, int]:
        """Not for training (made with a Python argument of True); then the most free dimensions serve most images."""
        is_for_training = any(value is True for value in tf.nest.flatten(trace.structured_input_signature))
        shapes = [tensor.shape for tensor in trace.inputs if tensor.dtype != tf.resource]
        return not is_for_training, sum(1 if shape.rank is None else list(shape).count(None) for shape in shapes)

    return max(traces, key=rank)


def _inputs_of(function: Any) -> tuple[dict[str, tf.TensorSpec], dict[str, tf.TensorSpec]]:
    """Returns what a concrete function takes, by name: in order, and by keyword."""
    positional, keywords = function.structured_input_signature
    named = {form.name or str(at): form for at, form in enumerate(positional) if isinstance(form, tf.TensorSpec)}
    return named, {name: form for name, form in keywords.items() if isinstance(form, tf.TensorSpec)}
