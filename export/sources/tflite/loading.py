"""From a TensorFlow Lite file to a `RawModel`."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import SourceError
from ...model.causes import cause_of
from ...model.segmentation_model import RawModel, Reference
from ...spec import ExportSpec
from ..adapting.choosing import choose_inputs, choose_outputs, pick
from ..conversion import Weights
from ..paths.contents import HEAD_BYTES
from .files import check_head
from .graph import LiteGraph, Operator, Values, input_spec, output_spec, read_graph
from .ops import OPS, Node


def load_tflite(spec: ExportSpec) -> RawModel:
    """Reads a TensorFlow Lite file; SourceError where it is none, has unknown operators, or input or output is unclear.

    Quantised values become real ones: weights once; what flows between operators is kept within the file's limits, and
    not rounded to its steps.
    """
    where = f"source {spec.source}"
    with tf.io.gfile.GFile(spec.source, "rb") as file:
        content = file.read()
    check_head(content[:HEAD_BYTES], where)
    graph = read_graph(content, where)
    inputs = {graph.tensors[place].name: place for place in graph.inputs}
    outputs = {graph.tensors[place].name: place for place in graph.outputs}
    takes = {name: input_spec(graph.tensors[place]) for name, place in inputs.items()}
    gives = {name: output_spec(graph.tensors[place]) for name, place in outputs.items()}
    chosen = choose_inputs(spec, takes, where)
    names = choose_outputs(spec.source_output, gives, where)
    wanted = {name: outputs[name] for name in names}
    operators = _needed(graph, wanted.values())
    missing = sorted({one.name for one in operators} - OPS.keys())
    if missing:
        raise SourceError(f"{where}: holds operators that are not read here: {', '.join(missing)}")
    weights = Weights()
    constants = [one.constant for one in graph.tensors if one.constant is not None]
    count = sum(constant.size for constant in constants if constant.ndim and constant.dtype.kind == "f")
    quantised = ", quantised" if any(one.scale is not None for one in graph.tensors) else ""

    def feed(images: tf.Tensor) -> dict[int, Any]:
        return {inputs[name]: value for name, value in chosen.feed(images).items()}

    def call(images: tf.Tensor) -> Any:
        real = {place: _as_real(value, graph.tensors[place]) for place, value in feed(images).items()}
        values = _run(graph, operators, real, weights, where)
        return pick({name: tf.convert_to_tensor(values[place]) for name, place in wanted.items()}, names)

    return RawModel(
        call=call,
        trackable=weights,
        input=takes[chosen.image],
        description=f"TensorFlow Lite model{quantised}, {count:,} parameters",
        parameter_count=count,
        reference=_make_reference(content, graph, feed, wanted),
        answers_pair=len(names) == 2,
    )


def _needed(graph: LiteGraph, outputs: Iterable[int]) -> list[Operator]:
    """Returns the operators that outputs need, in their order."""
    wanted, needed = {*outputs}, []
    for operator in reversed(graph.operators):
        if wanted & set(operator.outputs):
            needed.append(operator)
            wanted |= set(operator.inputs)
    return needed[::-1]


def _run(
    graph: LiteGraph, operators: list[Operator], fed: dict[int, Any], weights: Weights, where: str
) -> dict[int, Any]:
    """Returns the values of all tensors that are known or computed, by their places."""
    values: dict[int, Any] = {
        place: one.constant for place, one in enumerate(graph.tensors) if one.constant is not None
    } | {-1: None, **fed}
    for operator in operators:
        # Where bias is left out at the end, it may be missing, or be -1.
        inputs = [values[place] for place in operator.inputs]
        try:
            found = OPS[operator.name](
                Node(operator.options, output_spec(graph.tensors[operator.outputs[0]]).dtype, weights), *inputs
            )
        except SourceError:
            raise
        except Exception as error:
            name = graph.tensors[operator.outputs[0]].name
            raise SourceError(f"{where}: {operator.name} {name!r}: {cause_of(error)}") from error
        listed = found if isinstance(found, list | tuple) else [found]
        for place, value in zip(operator.outputs, listed, strict=True):
            limits = graph.tensors[place].limits
            is_real = not isinstance(value, np.ndarray) and value.dtype.is_floating
            values[place] = tf.clip_by_value(value, *limits) if limits and is_real else value
    return values


def _as_real(value: Any, form: Values) -> Any:
    """Returns what a model computes with, of an input as `input_spec` has it."""
    if form.scale is None or tf.as_dtype(value.dtype).is_floating:
        return value
    return (tf.cast(value, tf.float32) - float(form.zero_point[0])) * float(form.scale[0])


def _make_reference(
    content: bytes, graph: LiteGraph, feed: Callable[[tf.Tensor], Mapping[int, Any]], outputs: Mapping[str, int]
) -> Reference:
    """Returns what runs a file's bytes by TensorFlow Lite's interpreter; `feed` gives what each input takes."""

    def call(images: tf.Tensor) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it will move to a package of its own
            plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=plain)
        fed = {place: np.asarray(value) for place, value in feed(images).items()}
        for place, value in fed.items():
            interpreter.resize_tensor_input(place, value.shape)
        interpreter.allocate_tensors()
        for place, value in fed.items():
            taken = graph.tensors[place]
            if taken.scale is not None and np.issubdtype(value.dtype, np.floating):
                kind = np.iinfo(taken.dtype)
                steps = np.round(value / taken.scale[0]) + taken.zero_point[0]
                interpreter.set_tensor(place, np.clip(steps, kind.min, kind.max).astype(taken.dtype))
            else:
                interpreter.set_tensor(place, value.astype(taken.dtype))
        interpreter.invoke()
        answers = {}
        for name, place in outputs.items():
            answer, given = interpreter.get_tensor(place), graph.tensors[place]
            if given.scale is not None:
                answer = (answer.astype(np.float32) - given.zero_point[0]) * given.scale[0]
            answers[name] = tf.constant(answer)
        return pick(answers, list(outputs))

    return Reference(f"TensorFlow Lite {tf.__version__}", call)
