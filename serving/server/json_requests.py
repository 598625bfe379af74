"""Turns REST request bodies into tensors and examples.

A body is parsed by orjson and its lists become arrays in one step. Whatever that way cannot do surely as
TensorFlow Serving does it (a value of the wrong type, lists of unequal length, a member given twice, a number
that JSON doesn't know) is done over, value by value, from the exact reader's result; that way also words
the errors.
"""

import base64
import binascii
import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import input_pb2

from ..status_codes import StatusCode
from . import collector, json_reader
from .errors import RequestError, invalid_argument
from .json_reader import JsonValue, describe, kind_of
from .tensors import Array, dtype_name, numpy_dtype

_SIGNATURE_NAME = "signature_name"
_INSTANCES = "instances"
_INPUTS = "inputs"
_EXAMPLES = "examples"
_CONTEXT = "context"
_BASE64 = "b64"

_INTEGER_RANGES = {
    types_pb2.DT_INT32: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT16: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_UINT8: (-(2**31), 2**31 - 1),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
"""What integers each type takes. The small types take 32 bits and wrap around, as in TensorFlow Serving."""
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)

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


class _UnsureError(Exception):
    """The fast way does not know what TensorFlow Serving would make of this."""


def read_predict(body: bytes, input_types: InputTypes) -> PredictBody:
    """Reads the body of a predict request.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    with collector.paused():
        try:
            return _read_predict(_parse_fast(body), input_types, _FastArrays(body))
        except (_UnsureError, RequestError):
            return _read_predict(_parse_exactly(body), input_types, _ExactArrays())


def read_examples(body: bytes) -> ExamplesBody:
    """Reads the body of a classify or regress request.

    Raises:
        RequestError: in TensorFlow Serving's words.
    """
    try:
        return _read_examples(_parse_fast(body))
    except (_UnsureError, RequestError):
        return _read_examples(_parse_exactly(body))


def _parse_fast(body: bytes) -> JsonValue:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _UnsureError from error
    if not isinstance(document, dict):
        raise _UnsureError
    colons = body.count(b":")
    if colons not in (len(document), _count_members(document) if colons > len(document) else -1):
        # A member given twice, or a colon in a string.
        raise _UnsureError
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
        raise _format_error(document, "Is not object")
    return document


def _format_error(value: JsonValue, complaint: str) -> RequestError:
    return invalid_argument(f"JSON Value: {describe(value)} {complaint}")


def _signature_name(document: dict[str, JsonValue]) -> str:
    name = document.get(_SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise _format_error(document, f"not formatted correctly. '{_SIGNATURE_NAME}' key must be a string value.")
    return name


# ---------------------------------------------------------------------- predict


def _read_predict(
    document: dict[str, JsonValue], input_types: InputTypes, arrays: "_FastArrays | _ExactArrays"
) -> PredictBody:
    signature_name = _signature_name(document)
    types = input_types(signature_name)
    if not types:
        raise invalid_argument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    if _INSTANCES in document:
        instances = document[_INSTANCES]
        if _INPUTS in document:
            raise _format_error(
                document,
                f"Not formatted correctly expecting only one of '{_INPUTS}' or '{_INSTANCES}' keys to exist ",
            )
        if not isinstance(instances, list):
            raise _format_error(document, f"Expecting '{_INSTANCES}' to be an list/array")
        if not instances:
            raise _format_error(document, f"No values in '{_INSTANCES}' array")
        return PredictBody(signature_name, Layout.ROWS, arrays.from_rows(instances, types))
    if _INPUTS in document:
        return PredictBody(signature_name, Layout.COLUMNS, _from_columns(document[_INPUTS], types, arrays))
    raise invalid_argument(f"Missing '{_INPUTS}' or '{_INSTANCES}' key")


def _from_columns(value: JsonValue, types: Mapping[str, int], arrays: "_FastArrays | _ExactArrays") -> dict[str, Array]:
    if not isinstance(value, dict) or _is_base64(value):
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


def _is_base64(value: JsonValue) -> bool:
    return (
        isinstance(value, dict)
        and len(value) == 1
        and len(getattr(value, "members", value)) == 1
        and isinstance(value.get(_BASE64), str)
    )


def _is_record(value: JsonValue) -> bool:
    """Whether an instance is an object of named tensors, rather than a plain value."""
    return isinstance(value, dict) and not _is_base64(value)


class _FastArrays:
    """Makes arrays of whole lists at once, where nothing can go wrong with that."""

    def __init__(self, body: bytes) -> None:
        # NumPy takes booleans among numbers for numbers.
        self._may_have_booleans = b"true" in body or b"false" in body

    def from_value(self, value: JsonValue, dtype: int) -> Array:
        if dtype == types_pb2.DT_STRING:
            return self._strings(value)
        try:
            array = np.array(value)
        except (ValueError, OverflowError) as error:
            raise _UnsureError from error
        if array.size == 0:
            return array.astype(numpy_dtype(dtype))
        if dtype == types_pb2.DT_BOOL:
            if array.dtype != np.bool_:
                raise _UnsureError
            return array
        if self._may_have_booleans:
            raise _UnsureError
        return _narrowed(array, dtype)

    def from_rows(self, instances: list[JsonValue], types: Mapping[str, int]) -> dict[str, Array]:
        if not isinstance(instances[0], dict) or _is_base64(instances[0]):
            if len(types) > 1:
                raise _UnsureError
            ((name, dtype),) = types.items()
            return {name: self.from_value(instances, dtype)}
        for instance in instances:
            if not isinstance(instance, dict) or instance.keys() != types.keys():
                raise _UnsureError
        return {
            name: self.from_value([instance[name] for instance in instances], dtype) for name, dtype in types.items()
        }

    def _strings(self, value: JsonValue) -> Array:
        if not isinstance(value, list) or not value:
            raise _UnsureError
        array = np.empty(len(value), object)
        for index, item in enumerate(value):
            if isinstance(item, str):
                array[index] = item.encode()
            elif _is_base64(item):
                array[index] = _decode_base64(item[_BASE64])
            else:
                # Lists of lists of strings are small.
                raise _UnsureError
        return array


def _narrowed(array: Array, dtype: int) -> Array:
    if dtype in _FLOATS:
        if array.dtype.kind not in "iuf":
            raise _UnsureError
        with np.errstate(over="ignore"):
            return array.astype(numpy_dtype(dtype))
    if dtype in _INTEGER_RANGES and array.dtype.kind in "iu":
        smallest, largest = _INTEGER_RANGES[dtype]
        if int(array.min()) >= smallest and int(array.max()) <= largest:
            return array.astype(numpy_dtype(dtype))
    raise _UnsureError


class _ExactArrays:
    """Makes arrays value by value, with TensorFlow Serving's checks in its order."""

    def from_value(self, value: JsonValue, dtype: int) -> Array:
        shape = _shape(value)
        values: list[Any] = []
        _collect(value, shape, dtype, values)
        return _array(values, dtype, shape)

    def from_rows(self, instances: list[JsonValue], types: Mapping[str, int]) -> dict[str, Array]:
        if not isinstance(instances[0], dict) and len(types) > 1:
            raise invalid_argument(
                f"{_INSTANCES} is a plain list, but expecting list of objects as multiple input tensors "
                "required as per tensorinfo_map"
            )
        rows = _Rows(types)
        if _is_record(instances[0]):
            for index, instance in enumerate(instances):
                self._add_record(rows, index, instance)
        else:
            name = min(types)
            for index, instance in enumerate(instances):
                if _is_record(instance):
                    raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
                try:
                    rows.add(name, instance)
                except RequestError as error:
                    raise invalid_argument(
                        f"Failed to process element: {index} of '{_INSTANCES}' list. Error: {error}"
                    ) from error
        return rows.arrays(len(instances))

    def _add_record(self, rows: "_Rows", index: int, instance: JsonValue) -> None:
        if not _is_record(instance):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        # The document's order, the first of several members of one name.
        for name in dict.fromkeys(name for name, _ in instance.members):
            try:
                rows.add(name, instance[name])
            except RequestError as error:
                raise invalid_argument(
                    f"Failed to process element: {index} key: {name} of '{_INSTANCES}' list. Error: {error}"
                ) from error
        if instance.keys() != rows.types.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of '{_INSTANCES}' list. JSON object: "
                f"{describe(instance)} keys must be equal to: {','.join(sorted(rows.types))}"
            )


class _Rows:
    """Tensors that grow by one instance at a time; all instances of an input have one shape."""

    def __init__(self, types: Mapping[str, int]) -> None:
        self.types = types
        self._values: dict[str, list[Any]] = {}
        self._shapes: dict[str, list[int]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, name: str, item: JsonValue) -> None:
        if name not in self.types:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        shape = _shape(item)
        values = self._values.setdefault(name, [])
        before = len(values)
        _collect(item, shape, self.types[name], values)
        size = len(values) - before
        if name not in self._sizes:
            self._sizes[name], self._shapes[name] = size, shape
        elif self._sizes[name] != size:
            raise invalid_argument(f"Expecting tensor size: {self._sizes[name]} but got: {size}")
        elif self._shapes[name] != shape:
            raise invalid_argument(f"Expecting shape {_shape_text(self._shapes[name])} but got: {_shape_text(shape)}")

    def arrays(self, count: int) -> dict[str, Array]:
        return {
            name: _array(values, self.types[name], [count, *self._shapes[name]])
            for name, values in self._values.items()
        }


def _shape_text(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _shape(value: JsonValue) -> list[int]:
    """Returns the shape that a value's first elements suggest."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _collect(value: JsonValue, shape: list[int], dtype: int, values: list[Any]) -> None:
    """Appends all numbers or strings in a value, which must have the shape throughout."""
    rank = len(shape)
    # In place of recursion, which Python would not let go as deep as a document may be.
    pending: list[tuple[JsonValue, int]] = [(value, 0)]
    while pending:
        item, level = pending.pop()
        if not isinstance(item, list):
            if level != rank:
                raise invalid_argument(
                    f"JSON Value: {describe(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            values.append(_scalar(item, dtype))
            continue
        if level >= rank:
            raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(item) != shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}"
            )
        pending.extend((element, level + 1) for element in reversed(item))


def _scalar(value: JsonValue, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        if not _is_base64(value):
            raise _format_error(value, "not formatted correctly for base64 data")
        return _decode_base64(value[_BASE64])
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype in _FLOATS:
        fits = is_number
    elif dtype in _INTEGER_RANGES:
        smallest, largest = _INTEGER_RANGES[dtype]
        fits = is_number and isinstance(value, int) and smallest <= value <= largest
    elif dtype == types_pb2.DT_BOOL:
        fits = isinstance(value, bool)
    elif dtype == types_pb2.DT_STRING:
        fits = isinstance(value, str)
    else:
        raise RequestError(
            StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {describe(value)} to type: {dtype_name(dtype)}"
        )
    if not fits:
        raise _type_error(value, dtype)
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _type_error(value: JsonValue, dtype: int) -> RequestError:
    return invalid_argument(
        f"JSON Value: {describe(value)} Type: {kind_of(value)} is not of expected type: {dtype_name(dtype)}"
    )


def _array(values: list[Any], dtype: int, shape: list[int]) -> Array:
    if len(shape) > _MAX_AXES:
        raise invalid_argument(f"tensor parsing error: {len(shape)} axes, of at most {_MAX_AXES}")
    if dtype == types_pb2.DT_STRING:
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings.reshape(shape)
    if dtype in _INTEGER_RANGES:
        wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
        return np.array(values, wide).astype(numpy_dtype(dtype)).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(values, np.float64 if dtype in _FLOATS else None).astype(numpy_dtype(dtype)).reshape(shape)


_MAX_AXES = 64
"""NumPy's."""
_BASE64_WHITE_SPACE = re.compile(r"[ \t\n\v\f\r]+", re.ASCII)
_BASE64_TEXT = re.compile(r"([A-Za-z0-9+/]*)([=.]*)", re.ASCII)


def _decode_base64(text: str) -> bytes:
    """Decodes base64; white space is passed over, and padding may be left out."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        match = _BASE64_TEXT.fullmatch(_BASE64_WHITE_SPACE.sub("", text))
        if not match or len(match[1]) % 4 == 1 or match[2] not in ("", "=" * (-len(match[1]) % 4)):
            raise invalid_argument("Unable to base64 decode") from None
        return base64.b64decode(match[1] + "=" * (-len(match[1]) % 4))


# ---------------------------------------------------------------------- classify and regress


def _read_examples(document: dict[str, JsonValue]) -> ExamplesBody:
    signature_name = _signature_name(document)
    result = input_pb2.Input()
    has_context = _CONTEXT in document
    if has_context:
        result.example_list_with_context.context.CopyFrom(_example(document[_CONTEXT]))
    if _EXAMPLES not in document:
        raise _format_error(document, f"When method is classify, key '{_EXAMPLES}' is expected and was not found")
    listed = document[_EXAMPLES]
    if not isinstance(listed, list):
        raise _format_error(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not listed:
        raise _format_error(document, f"'{_EXAMPLES}' value is an empty array")
    target = result.example_list_with_context if has_context else result.example_list
    target.examples.extend(_example(value) for value in listed)
    return ExamplesBody(signature_name, result)


def _example(value: JsonValue) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {kind_of(value)}")
    example = example_pb2.Example()
    # Of several features with one name the last counts, other than elsewhere.
    for name, content in getattr(value, "members", None) or value.items():
        feature = feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
        example.features.feature[name].CopyFrom(feature)
    return example


def _add_to_feature(value: JsonValue, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, bool):
        _list_of(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _list_of(feature, "bytes_list", name).append(value.encode("utf-8", "surrogateescape"))
    elif _is_base64(value):
        _list_of(feature, "bytes_list", name).append(_decode_base64(value[_BASE64]))
    elif isinstance(value, float):
        with np.errstate(over="ignore"):
            _list_of(feature, "float_list", name).append(float(np.float32(value)))
    elif isinstance(value, int):
        integers = _list_of(feature, "int64_list", name)
        if value > _INTEGER_RANGES[types_pb2.DT_INT64][1]:
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
