"""Turns REST request bodies into tensors and examples; what is wrong is said in TensorFlow Serving's words."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import input_pb2

from ..errors import invalid_argument
from ..inference.tensors import Array
from .json_arrays import INSTANCES, INTEGER_RANGES, ArrayReader, decode_base64, is_base64
from .json_documents import JsonValue, collector_paused, format_error, kind_of, parse_object

_SIGNATURE_NAME = "signature_name"
_INPUTS = "inputs"
_EXAMPLES = "examples"
_CONTEXT = "context"

InputTypes = Callable[[str], Mapping[str, int]]
"""Gives a signature's inputs and their data types by the signature's name (RequestError: there is none)."""


class Layout(enum.Enum):
    """The two forms of predict requests and answers."""

    ROWS = "instances"
    COLUMNS = "inputs"


@dataclasses.dataclass(frozen=True)
class PredictBody:
    """A predict request's content."""

    signature_name: str
    layout: Layout
    inputs: dict[str, Array]


@collector_paused()
def read_predict(body: bytes, input_types: InputTypes) -> PredictBody:
    """Reads the body of a predict request; RequestError where it makes none."""
    document = parse_object(body)
    arrays = ArrayReader(body)
    signature_name = _signature_name(document)
    types = input_types(signature_name)
    if not types:
        raise invalid_argument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    if INSTANCES in document:
        instances = document[INSTANCES]
        if _INPUTS in document:
            raise format_error(
                document,
                f"Not formatted correctly expecting only one of '{_INPUTS}' or '{INSTANCES}' keys to exist ",
            )
        if not isinstance(instances, list):
            raise format_error(document, f"Expecting '{INSTANCES}' to be an list/array")
        if not instances:
            raise format_error(document, f"No values in '{INSTANCES}' array")
        return PredictBody(signature_name, Layout.ROWS, arrays.from_rows(instances, types))
    if _INPUTS in document:
        return PredictBody(signature_name, Layout.COLUMNS, _from_columns(document[_INPUTS], types, arrays))
    raise invalid_argument(f"Missing '{_INPUTS}' or '{INSTANCES}' key")


def read_examples(body: bytes) -> tuple[str, input_pb2.Input]:
    """Reads a classify or regress request's signature name and examples; RequestError where it has none."""
    document = parse_object(body)
    result = input_pb2.Input()
    target = result.example_list
    if _CONTEXT in document:
        target = result.example_list_with_context
        target.context.CopyFrom(_example(document[_CONTEXT]))
    if _EXAMPLES not in document:
        raise format_error(document, f"When method is classify, key '{_EXAMPLES}' is expected and was not found")
    listed = document[_EXAMPLES]
    if not isinstance(listed, list):
        raise format_error(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not listed:
        raise format_error(document, f"'{_EXAMPLES}' value is an empty array")
    target.examples.extend(_example(value) for value in listed)
    return _signature_name(document), result


def _signature_name(document: dict[str, JsonValue]) -> str:
    name = document.get(_SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise format_error(document, f"not formatted correctly. '{_SIGNATURE_NAME}' key must be a string value.")
    return name


def _from_columns(value: JsonValue, types: Mapping[str, int], arrays: ArrayReader) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(types) > 1:
            raise invalid_argument(
                f"{_INPUTS} is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        ((name, dtype),) = types.items()
        return {name: arrays.from_value(value, dtype)}
    found = {}
    for name in sorted(types):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in '{_INPUTS}' object.")
        found[name] = arrays.from_value(value[name], types[name])
    return found


def _example(value: JsonValue) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {kind_of(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
    return example


def _add_to_feature(value: JsonValue, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _list_of(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _list_of(feature, "bytes_list", name).append(value.encode())
    elif is_base64(value):
        _list_of(feature, "bytes_list", name).append(decode_base64(value))
    elif isinstance(value, float):
        with np.errstate(over="ignore"):
            _list_of(feature, "float_list", name).append(float(np.float32(value)))
    elif isinstance(value, int):
        integers = _list_of(feature, "int64_list", name)
        if value > INTEGER_RANGES[types_pb2.DT_INT64][1]:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        integers.append(value)
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {kind_of(value)}")


def _list_of(feature: feature_pb2.Feature, kind: str, name: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {present.removesuffix('_list')}"
        )
    return getattr(feature, kind).value
