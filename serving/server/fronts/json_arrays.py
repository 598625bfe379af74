"""Turns values of parsed JSON into arrays: NumPy makes one of a whole list.

Where that fails, or may have taken something else for a number, the list is gone through value by value, which finds
the first that does not fit, and names it in TensorFlow Serving's words.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pybase64
from tensorflow.core.framework import types_pb2

from ...status_codes import StatusCode
from ..errors import RequestError, invalid_argument
from ..inference.tensors import Array, dtype_name, numpy_dtype, shape_text
from .json_documents import JsonValue, describe, format_error, kind_of

INSTANCES = "instances"
"""The member that holds rows."""
_BASE64 = "b64"
_BASE64_WHITE_SPACE = re.compile(r"[ \t\n\v\f\r]+", re.ASCII)
_BASE64_TEXT = re.compile(r"([A-Za-z0-9+/]*)(=*)", re.ASCII)
_MAX_AXES = 64
"""NumPy's."""

INTEGER_RANGES = {
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


def is_base64(value: JsonValue) -> bool:
    """Whether a value is an object that stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_BASE64), str)


def decode_base64(value: JsonValue) -> bytes:
    """Returns the bytes of what `is_base64` holds for; white space is passed over, and padding may be left out."""
    text = value[_BASE64]
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        match = _BASE64_TEXT.fullmatch(_BASE64_WHITE_SPACE.sub("", text))
        if not match or len(match[1]) % 4 == 1 or match[2] not in ("", "=" * (-len(match[1]) % 4)):
            raise invalid_argument("Unable to base64 decode") from None
        return pybase64.b64decode(match[1] + "=" * (-len(match[1]) % 4))


class ArrayReader:
    """Makes arrays of a request's values. All methods raise RequestError."""

    def __init__(self, body: bytes) -> None:
        """Reads the values of a body that has been parsed."""
        self._body = body

    @functools.cached_property
    def _may_have_booleans(self) -> bool:
        """Whether there may be booleans, which NumPy takes for numbers where they stand among these."""
        return _holds(self._body, b"true", b"u") or _holds(self._body, b"false", b"l")

    def from_value(self, value: JsonValue, dtype: int) -> Array:
        """Returns a value as an array of a data type."""
        shape = _shape(value)
        if len(shape) > _MAX_AXES:
            raise invalid_argument(f"tensor parsing error: {len(shape)} axes, of at most {_MAX_AXES}")
        if dtype == types_pb2.DT_STRING:
            values = [_string(scalar) for scalar in _scalars(value, shape)]
            strings = np.empty(len(values), object)
            strings[:] = values
            return strings.reshape(shape)
        array = _plain_array(value, shape, dtype)
        if array is None or (array.dtype != np.bool_ and self._may_have_booleans):
            for scalar in _scalars(value, shape):
                _check(scalar, dtype)
            array = np.array(value, np.uint64 if dtype == types_pb2.DT_UINT64 else None)
        with np.errstate(over="ignore"):
            return array.astype(numpy_dtype(dtype))

    def from_rows(self, instances: list[JsonValue], types: Mapping[str, int]) -> dict[str, Array]:
        """Returns arrays of instances, by the names of the inputs."""
        if _is_record(instances[0]):
            for index, instance in enumerate(instances):
                _check_record(index, instance, types)
            return {
                name: self._stacked([instance[name] for instance in instances], types[name], f"key: {name} ")
                for name in instances[0]
            }
        if len(types) > 1 and not isinstance(instances[0], dict):
            raise invalid_argument(
                f"{INSTANCES} is a plain list, but expecting list of objects as multiple input tensors "
                "required as per tensorinfo_map"
            )
        for index, instance in enumerate(instances):
            if _is_record(instance):
                raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        name = min(types)
        return {name: self._stacked(instances, types[name])}

    def _stacked(self, items: list[JsonValue], dtype: int, key: str = "") -> Array:
        try:
            return self.from_value(items, dtype)
        except RequestError:
            self._check_rows(items, dtype, key)
            raise

    def _check_rows(self, items: list[JsonValue], dtype: int, key: str) -> None:
        """Raises the error of the first item that is no array, or of another shape than the first one."""
        first = None
        for index, item in enumerate(items):
            try:
                array = self.from_value(item, dtype)
                first = array if first is None else first
                if array.size != first.size:
                    raise invalid_argument(f"Expecting tensor size: {first.size} but got: {array.size}")
                if array.shape != first.shape:
                    raise invalid_argument(f"Expecting shape {shape_text(first)} but got: {shape_text(array)}")
            except RequestError as error:
                raise invalid_argument(
                    f"Failed to process element: {index} {key}of '{INSTANCES}' list. Error: {error}"
                ) from error


def _holds(body: bytes, word: bytes, letter: bytes) -> bool:
    """Returns whether a word stands in a body.

    It is looked for by a letter of it that numbers do not have: bytes are searched for a single one at the speed
    of memory, and for a word at a twentieth of that.
    """
    at = body.find(letter)
    while at >= 0 and not body.startswith(word, at - word.index(letter)):
        at = body.find(letter, at + 1)
    return at >= 0


def _is_record(value: JsonValue) -> bool:
    """Whether an instance is an object of named tensors, rather than a plain value."""
    return isinstance(value, dict) and not is_base64(value)


def _check_record(index: int, instance: JsonValue, types: Mapping[str, int]) -> None:
    if not _is_record(instance):
        raise invalid_argument(f"Expecting object but got list at item {index} of input list")
    for name in instance:
        if name not in types:
            raise invalid_argument(
                f"Failed to process element: {index} key: {name} of '{INSTANCES}' list. Error: "
                f"{invalid_argument(f'JSON object: does not have named input: {name}')}"
            )
    if instance.keys() != types.keys():
        raise invalid_argument(
            f"Failed to process element: {index} of '{INSTANCES}' list. JSON object: "
            f"{describe(instance)} keys must be equal to: {','.join(sorted(types))}"
        )


def _shape(value: JsonValue) -> tuple[int, ...]:
    """Returns the shape that a value's first elements suggest."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _plain_array(value: JsonValue, shape: tuple[int, ...], dtype: int) -> Array | None:
    """Returns NumPy's array of a value; None where it is not surely what the data type takes."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    if dtype in INTEGER_RANGES and array.dtype.kind in "iu" and array.size:
        smallest, largest = INTEGER_RANGES[dtype]
        fits = smallest <= int(array.min()) and int(array.max()) <= largest
    else:
        fits = (dtype in _FLOATS and array.dtype.kind in "iuf") or (
            dtype == types_pb2.DT_BOOL and array.dtype == np.bool_
        )
    return array if fits and array.shape == shape else None


def _scalars(value: JsonValue, shape: tuple[int, ...], level: int = 0) -> Iterator[Any]:
    """Goes over all that is no list in a value, which must have the shape throughout."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {describe(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        yield value
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        yield from _scalars(item, shape, level + 1)


def _string(value: JsonValue) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if is_base64(value):
        return decode_base64(value)
    if isinstance(value, dict):
        raise format_error(value, "not formatted correctly for base64 data")
    raise _type_error(value, types_pb2.DT_STRING)


def _check(value: JsonValue, dtype: int) -> None:
    """Raises RequestError where a value is no number of a data type, or no boolean."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype in INTEGER_RANGES:
        smallest, largest = INTEGER_RANGES[dtype]
        fits = is_number and isinstance(value, int) and smallest <= value <= largest
    elif dtype in _FLOATS:
        fits = is_number
    elif dtype == types_pb2.DT_BOOL:
        fits = isinstance(value, bool)
    elif isinstance(value, dict):
        fits = False
    else:
        raise RequestError(
            StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {describe(value)} to type: {dtype_name(dtype)}"
        )
    if not fits:
        raise _type_error(value, dtype)


def _type_error(value: JsonValue, dtype: int) -> RequestError:
    return format_error(value, f"Type: {kind_of(value)} is not of expected type: {dtype_name(dtype)}")
