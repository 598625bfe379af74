"""Answers requests with one loaded model: predict, classify, regress, several at once.

The rules and texts are TensorFlow Serving's. Both fronts come here, and so does the warm-up.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from ..metrics import Stopwatch
from .saved_model import Runner
from .tensors import Array, TensorError, dtype_number, read_tensor

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model, as requests see it.

    Attributes:
        runner: runs the graph.
        signatures: the SignatureDef of each signature, by name.
        checks_method_names: whether classify and regress want signatures made for them.
    """

    runner: Runner
    signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    checks_method_names: bool = False


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer to a predict request.

    Attributes:
        signature: the signature that gave it.
        outputs: arrays by name.
    """

    signature: str
    outputs: dict[str, Array]


class Inputs(Mapping[str, Array]):
    """A request's tensors by name, each converted when it is asked for.

    What is wrong with a request is found in TensorFlow Serving's order: names first, then tensors.
    """

    def __init__(self, protos: Mapping[str, object], convert: Callable[[str], Array]) -> None:
        self._names = protos
        self._convert = convert

    def __getitem__(self, name: str) -> Array:
        """Returns a tensor; `RequestError` where it is none."""
        if name not in self._names:
            raise KeyError(name)
        return self._convert(name)

    def __contains__(self, name: object) -> bool:
        """Whether the request gives this tensor."""
        return name in self._names

    def __iter__(self) -> Iterable[str]:  # type: ignore[override]
        """Goes over the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Returns the number of tensors."""
        return len(self._names)


def predict(
    model: Model,
    signature_name: str,
    inputs: Mapping[str, Array],
    output_filter: Sequence[str],
    call: Call,
) -> Prediction:
    """Runs one signature.

    Args:
        model: the model.
        signature_name: empty for the default one.
        inputs: arrays by the signature's names for them; what is left out takes the signature's default.
        output_filter: the outputs to return; all where it is empty.
        call: whom it is for.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    name = signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise RequestError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if model.checks_method_names and signature.method_name not in methods:
        raise RequestError(
            StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
            f"Was: {signature.method_name}",
        )
    _check_number_of_inputs(signature, inputs)
    feeds = _feeds(signature, inputs)
    aliases = _checked_outputs(signature, output_filter)
    fetched = _run(model, feeds, [signature.outputs[alias].name for alias in aliases], call)
    return Prediction(name, dict(zip(aliases, fetched, strict=True)))


def _run(model: Model, feeds: Mapping[str, Array], fetches: Sequence[str], call: Call) -> list[Array]:
    running = Stopwatch()
    try:
        return model.runner.run(feeds, fetches, call)
    finally:
        call.run_s = running.seconds


def _check_number_of_inputs(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Array]) -> None:
    wanted = len(signature.inputs)
    if len(inputs) == wanted or (len(inputs) < wanted and signature.defaults):
        return
    sent, known = set(inputs), set(signature.inputs)
    raise invalid_argument(
        f"input size does not match signature: {len(sent)}!={wanted} len({_braced(sent)}) != "
        f"len({_braced(known)}). Sent extra: {_braced(sent - known)}. "
        f"Missing but required: {_braced(known - sent)}."
    )


def _feeds(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Array]) -> dict[str, Array]:
    feeds = {}
    for alias in sorted(signature.inputs):
        feed_name = signature.inputs[alias].name
        if alias in inputs:
            feeds[feed_name] = inputs[alias]
        elif alias in signature.defaults:
            feeds[feed_name] = read_input(alias, signature.defaults[alias])
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {feed_name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_braced(inputs)}, or default input "
                f"alias set: {','.join(sorted(signature.defaults))}"
            )
    used = set(inputs) & set(signature.inputs)
    if len(used) < len(inputs):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, "
            f"request input: {','.join(sorted(inputs))}"
        )
    return feeds


def read_input(alias: str, proto: object) -> Array:
    """Returns the array of a request's TensorProto; `RequestError` where it is none."""
    try:
        return read_tensor(proto)
    except (TensorError, MemoryError):
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _checked_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    if not output_filter:
        return list(signature.outputs)
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braced(signature.outputs)}."
            )
        if alias in chosen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


@dataclasses.dataclass(frozen=True)
class _Task:
    """A signature with its tensors, found fit for classification or regression."""

    method: str
    signature: meta_graph_pb2.SignatureDef
    feed: str
    fetches: list[str]


def classify(
    model: Model, signature_name: str, examples: input_pb2.Input, call: Call
) -> classification_pb2.ClassificationResult:
    """Runs a signature on tf.Examples and returns classes with scores.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    task = _single_task(model, CLASSIFY_METHOD, signature_name)
    fetched, count = _run_on_examples(model, [task], examples, call)
    return _classifications(task.signature, fetched, count)


def regress(
    model: Model, signature_name: str, examples: input_pb2.Input, call: Call
) -> regression_pb2.RegressionResult:
    """Runs a signature on tf.Examples and returns one number for each.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    task = _single_task(model, REGRESS_METHOD, signature_name)
    fetched, count = _run_on_examples(model, [task], examples, call)
    return _regressions(task.signature, fetched, count)


def multi_inference(
    model: Model,
    tasks: Sequence[inference_pb2.InferenceTask],
    examples: input_pb2.Input,
    call: Call,
) -> list[inference_pb2.InferenceResult]:
    """Runs several classifications and regressions on the same tf.Examples in one go.

    Returns:
        One result for each task, without its model spec.

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
    results = []
    for one in checked:
        if one.method == CLASSIFY_METHOD:
            classes = _classifications(one.signature, fetched, count)
            results.append(inference_pb2.InferenceResult(classification_result=classes))
        else:
            values = _regressions(one.signature, fetched, count)
            results.append(inference_pb2.InferenceResult(regression_result=values))
    return results


def _single_task(model: Model, method: str, signature_name: str) -> _Task:
    name = signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return _task(model, method, model.signatures[name])


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
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {_described(signature)}")
    wanted = (_CLASSES, _SCORES) if is_classify else (_OUTPUTS,)
    fetches = [signature.outputs[alias].name for alias in wanted if alias in signature.outputs]
    if not fetches:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_described(signature)}"
            if is_classify
            else f"No regression outputs found in SignatureDef: {_described(signature)}"
        )
    return _Task(method, signature, signature.inputs[_INPUTS].name, fetches)


def _described(signature: meta_graph_pb2.SignatureDef) -> str:
    return text_format.MessageToString(signature)


def _run_on_examples(
    model: Model, tasks: Sequence[_Task], examples: input_pb2.Input, call: Call
) -> tuple[dict[str, Array], int]:
    """Returns the fetched arrays by tensor name, and the number of examples."""
    serialized = _serialized_examples(examples)
    fetches = sorted({name for task in tasks for name in task.fetches})
    fetched = _run(model, {task.feed: serialized for task in tasks}, fetches, call)
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
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(table)}")
    number = dtype_number(table)
    if number != dtype:
        raise invalid_argument(
            f"Expected {kind} Tensor of {types_pb2.DataType.Name(dtype)}. Got: {types_pb2.DataType.Name(number)}"
        )
    if len(table) != count:
        raise invalid_argument(f"Expected {kind} output batch size of {count}. Got: {len(table)}")


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
    table = classes if classes is not None else scores
    width = table.shape[1] if table is not None else 0
    labels = classes.tolist() if classes is not None else None
    numbers = scores.tolist() if scores is not None else None
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        entry = result.classifications.add()
        for column in range(width):
            one = entry.classes.add()
            if labels is not None:
                one.label = labels[row][column].decode(errors="replace")
            if numbers is not None:
                one.score = numbers[row][column]
    return result


def _regressions(
    signature: meta_graph_pb2.SignatureDef, fetched: Mapping[str, Array], count: int
) -> regression_pb2.RegressionResult:
    values = fetched[signature.outputs[_OUTPUTS].name]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape_text(values)}"
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


def _shape_text(array: Array) -> str:
    return "[" + ",".join(str(size) for size in array.shape) + "]"
