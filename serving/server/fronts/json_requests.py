"""Turns REST request bodies into tensors and examples.

A body is parsed by orjson and its lists become arrays in one step. Whatever that way cannot do surely as
TensorFlow Serving does it (a value of the wrong type, lists of unequal length, a member given twice, a number
that JSON doesn't know) is done over, value by value, from the exact reader's result; that way also words
the errors.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import input_pb2

from ..errors import RequestError, invalid_argument
from ..inference.tensors import Array
from . import collector, json_reader
from .json_arrays import (
    INSTANCES,
    INTEGER_RANGES,
    ExactArrays,
    FastArrays,
    UnsureError,
    decode_base64,
    format_error,
    is_base64,
)
from .json_reader import JsonValue, kind_of

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


@dataclasses.dataclass(frozen=True)
class ExamplesBody:
    """A classify or regress request's content."""

    signature_name: str
    examples: input_pb2.Input


def read_predict(body: bytes, input_types: InputTypes) -> PredictBody:
    """Reads the body of a predict request.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    with collector.paused():
        try:
            return _read_predict(_parse_fast(body), input_types, FastArrays(body))
        except (UnsureError, RequestError):
            return _read_predict(_parse_exactly(body), input_types, ExactArrays())


def read_examples(body: bytes) -> ExamplesBody:
    """Reads the body of a classify or regress request.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    try:
        return _read_examples(_parse_fast(body))
    except (UnsureError, RequestError):
        return _read_examples(_parse_exactly(body))


def _parse_fast(body: bytes) -> JsonValue:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnsureError from error
    if not isinstance(document, dict):
        raise UnsureError
    colons = body.count(b":")
    if colons not in (len(document), _count_members(document) if colons > len(document) else -1):
        # A member given twice, or a colon in a string.
        raise UnsureError
    return document


def _count_members(document: dict[str, JsonValue]) -> int:
    """Counts the members of a document's objects, as deep as requests nest them."""
    count = len(document)
    for value in document.values():
        if isinstance(value, dict):
            count += _count_members(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    count += _count_members(item)
    return count


def _parse_exactly(body: bytes) -> JsonValue:
    document = json_reader.parse(body)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def _signature_name(document: dict[str, JsonValue]) -> str:
    name = document.get(_SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise format_error(document, f"not formatted correctly. '{_SIGNATURE_NAME}' key must be a string value.")
    return name


# ---------------------------------------------------------------------- predict


def _read_predict(
    document: dict[str, JsonValue], input_types: InputTypes, arrays: FastArrays | ExactArrays
) -> PredictBody:
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


def _from_columns(value: JsonValue, types: Mapping[str, int], arrays: FastArrays | ExactArrays) -> dict[str, Array]:
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


# ---------------------------------------------------------------------- classify and regress


def _read_examples(document: dict[str, JsonValue]) -> ExamplesBody:
    signature_name = _signature_name(document)
    result = input_pb2.Input()
    has_context = _CONTEXT in document
    if has_context:
        result.example_list_with_context.context.CopyFrom(_example(document[_CONTEXT]))
    if _EXAMPLES not in document:
        raise format_error(document, f"When method is classify, key '{_EXAMPLES}' is expected and was not found")
    listed = document[_EXAMPLES]
    if not isinstance(listed, list):
        raise format_error(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not listed:
        raise format_error(document, f"'{_EXAMPLES}' value is an empty array")
    target = result.example_list_with_context if has_context else result.example_list
    target.examples.extend(_example(value) for value in listed)
    return ExamplesBody(signature_name, result)


def _example(value: JsonValue) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {kind_of(value)}")
    example = example_pb2.Example()
    # Of several features with one name the last counts, other than elsewhere.
    for name, content in getattr(value, "members", None) or value.items():
        if not _is_utf8(name):
            raise invalid_argument(f"Feature: {name} has a name that is not UTF-8")
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
        example.features.feature[name].CopyFrom(feature)
    return example


def _is_utf8(text: str) -> bool:
    """Whether a text can stand in a message: the exact reader keeps bytes that are not UTF-8 as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _add_to_feature(value: JsonValue, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _list_of(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _list_of(feature, "bytes_list", name).append(value.encode("utf-8", "surrogateescape"))
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
