"""Answers requests that give tf.Examples: classify, regress, several of both at once.

The rules and texts are TensorFlow Serving's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from .predictor import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Model, run
from .tensors import Array, dtype_number, shape_text

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"


@dataclasses.dataclass(frozen=True)
class _Task:
    """A signature with its tensors, found fit for classification or regression."""

    method: str
    signature: meta_graph_pb2.SignatureDef
    feed: str
    fetches: list[str]


def infer(
    model: Model, method: str, signature_name: str, examples: input_pb2.Input, call: Call
) -> inference_pb2.InferenceResult:
    """Runs a signature (empty: the default one) on tf.Examples; returns classes with scores, or a number, for each.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    name = signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    task = _task(model, method, model.signatures[name])
    return _result(task, *_run_on_examples(model, [task], examples, call))


def multi_inference(
    model: Model,
    tasks: Sequence[inference_pb2.InferenceTask],
    examples: input_pb2.Input,
    call: Call,
) -> list[inference_pb2.InferenceResult]:
    """Runs several tasks on the same tf.Examples in one go; returns a result, without its model spec, for each.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    checked: list[_Task] = []
    seen: set[str] = set()
    model_name = ""
    for task in tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        model_name = model_name or task.model_spec.name
        if task.model_spec.name != model_name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in model.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise RequestError(StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        checked.append(_task(model, task.method_name, model.signatures[name]))
    fetched, count = _run_on_examples(model, checked, examples, call)
    return [_result(task, fetched, count) for task in checked]


def _task(model: Model, method: str, signature: meta_graph_pb2.SignatureDef) -> _Task:
    is_classify = method == CLASSIFY_METHOD
    kind = "classification" if is_classify else "regression"
    if model.checks_method_names and signature.method_name != method:
        raise invalid_argument(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if is_classify and len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if not is_classify and len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {text_format.MessageToString(signature)}")
    wanted = (_CLASSES, _SCORES) if is_classify else (_OUTPUTS,)
    fetches = [signature.outputs[alias].name for alias in wanted if alias in signature.outputs]
    if not fetches:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {text_format.MessageToString(signature)}"
            if is_classify
            else f"No regression outputs found in SignatureDef: {text_format.MessageToString(signature)}"
        )
    return _Task(method, signature, signature.inputs[_INPUTS].name, fetches)


def _run_on_examples(
    model: Model, tasks: Sequence[_Task], examples: input_pb2.Input, call: Call
) -> tuple[dict[str, Array], int]:
    """Returns the fetched arrays by tensor name, and the number of examples."""
    serialized = _serialized_examples(examples)
    fetches = sorted({name for task in tasks for name in task.fetches})
    fetched = run(model, {task.feed: serialized for task in tasks}, fetches, call)
    return dict(zip(fetches, fetched, strict=True)), len(serialized)


def count_examples(examples: input_pb2.Input) -> int:
    """Returns how many tf.Examples a request has."""
    return len(_listed(examples).examples)


def _listed(examples: input_pb2.Input) -> Any:
    has_context = examples.HasField("example_list_with_context")
    return examples.example_list_with_context if has_context else examples.example_list


def _serialized_examples(examples: input_pb2.Input) -> Array:
    context = b""
    if examples.HasField("example_list_with_context"):
        context = examples.example_list_with_context.context.SerializeToString()
    listed = _listed(examples).examples
    if not listed:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(listed), object)
    # The example's features come second, and so win over the context's.
    array[:] = [context + example.SerializeToString() for example in listed]
    return array


def _checked_table(table: Array, kind: str, dtype: int, count: int) -> None:
    """Checks an output of classification: [examples, classes] of the right type."""
    if table.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(table)}")
    number = dtype_number(table)
    if number != dtype:
        raise invalid_argument(
            f"Expected {kind} Tensor of {types_pb2.DataType.Name(dtype)}. Got: {types_pb2.DataType.Name(number)}"
        )
    if len(table) != count:
        raise invalid_argument(f"Expected {kind} output batch size of {count}. Got: {len(table)}")


def _result(task: _Task, fetched: Mapping[str, Array], count: int) -> inference_pb2.InferenceResult:
    if task.method == CLASSIFY_METHOD:
        return inference_pb2.InferenceResult(classification_result=_classifications(task.signature, fetched, count))
    return inference_pb2.InferenceResult(regression_result=_regressions(task.signature, fetched, count))


def _classifications(
    signature: meta_graph_pb2.SignatureDef, fetched: Mapping[str, Array], count: int
) -> classification_pb2.ClassificationResult:
    classes = fetched[signature.outputs[_CLASSES].name] if _CLASSES in signature.outputs else None
    scores = fetched[signature.outputs[_SCORES].name] if _SCORES in signature.outputs else None
    if classes is not None:
        _checked_table(classes, _CLASSES, types_pb2.DT_STRING, count)
    if scores is not None:
        _checked_table(scores, _SCORES, types_pb2.DT_FLOAT, count)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    shape = next(table.shape for table in (classes, scores) if table is not None)
    labels: Array = np.full(shape, b"") if classes is None else classes
    numbers: Array = np.zeros(shape) if scores is None else scores
    result = classification_pb2.ClassificationResult()
    for row in zip(labels.tolist(), numbers.tolist(), strict=True):
        entry = result.classifications.add()
        for label, number in zip(*row, strict=True):
            entry.classes.add(label=label.decode(errors="replace"), score=number)
    return result


def _regressions(
    signature: meta_graph_pb2.SignatureDef, fetched: Mapping[str, Array], count: int
) -> regression_pb2.RegressionResult:
    values = fetched[signature.outputs[_OUTPUTS].name]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape_text(values)}"
        )
    if len(values) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    number = dtype_number(values)
    if number != types_pb2.DT_FLOAT:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {types_pb2.DataType.Name(number)}")
    result = regression_pb2.RegressionResult()
    for value in values.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result
