"""Turns values of parsed JSON into arrays, in one of two ways.

The fast way makes an array of a whole list in one step, and says where it is not sure to do as TensorFlow Serving
does. The exact way goes value by value, with TensorFlow Serving's checks in its order and its words for errors.
"""

import base64
import binascii
import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from ...status_codes import StatusCode
from ..errors import RequestError, invalid_argument
from ..inference.tensors import Array, dtype_name, numpy_dtype
from .json_reader import JsonValue, describe, kind_of

INSTANCES = "instances"
"""The member that holds rows."""
_BASE64 = "b64"
_RARE = 1000
"""A letter that comes more often is not worth looking for by itself."""

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


class UnsureError(Exception):
    """The fast way does not know what TensorFlow Serving would make of this."""


def format_error(value: JsonValue, complaint: str) -> RequestError:
    """Returns the error of a value of the wrong form."""
    return invalid_argument(f"JSON Value: {describe(value)} {complaint}")


def is_base64(value: JsonValue) -> bool:
    """Whether a value is an object that stands for bytes."""
    return (
        isinstance(value, dict)
        and len(value) == 1
        and len(getattr(value, "members", value)) == 1
        and isinstance(value.get(_BASE64), str)
    )


def _is_record(value: JsonValue) -> bool:
    """Whether an instance is an object of named tensors, rather than a plain value."""
    return isinstance(value, dict) and not is_base64(value)


def _holds(body: bytes, word: bytes, letter: bytes) -> bool:
    """Returns whether a word stands in a body.

    It is looked for by a letter of it that numbers do not have: bytes are searched for a single one at the speed
    of memory, and for a word at a twentieth of that.
    """
    offset = word.index(letter)
    at = -1
    for _ in range(_RARE):
        at = body.find(letter, at + 1)
        if at < 0:
            return False
        if at >= offset and body.startswith(word, at - offset):
            return True
    return word in body


class FastArrays:
    """Makes arrays of whole lists at once, where nothing can go wrong with that; `UnsureError` elsewhere."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @functools.cached_property
    def _may_have_booleans(self) -> bool:
        """Whether there may be booleans in the body, which NumPy takes for numbers where they stand among these."""
        return _holds(self._body, b"true", b"u") or _holds(self._body, b"false", b"l")

    def from_value(self, value: JsonValue, dtype: int) -> Array:
        """Returns a value as an array of a data type."""
        if dtype == types_pb2.DT_STRING:
            return self._strings(value)
        try:
            array = np.array(value)
        except (ValueError, OverflowError) as error:
            raise UnsureError from error
        if array.size == 0:
            return array.astype(numpy_dtype(dtype))
        if dtype == types_pb2.DT_BOOL:
            if array.dtype != np.bool_:
                raise UnsureError
            return array
        if self._may_have_booleans:
            raise UnsureError
        return _narrowed(array, dtype)

    def from_rows(self, instances: list[JsonValue], types: Mapping[str, int]) -> dict[str, Array]:
        """Returns arrays of instances, by the names of the inputs."""
        if not isinstance(instances[0], dict) or is_base64(instances[0]):
            if len(types) > 1:
                raise UnsureError
            ((name, dtype),) = types.items()
            return {name: self.from_value(instances, dtype)}
        for instance in instances:
            if not isinstance(instance, dict) or instance.keys() != types.keys():
                raise UnsureError
        return {
            name: self.from_value([instance[name] for instance in instances], dtype) for name, dtype in types.items()
        }

    def _strings(self, value: JsonValue) -> Array:
        if not isinstance(value, list) or not value:
            raise UnsureError
        array = np.empty(len(value), object)
        for index, item in enumerate(value):
            if isinstance(item, str):
                array[index] = item.encode()
            elif is_base64(item):
                array[index] = decode_base64(item)
            else:
                # Lists of lists of strings are small.
                raise UnsureError
        return array


def _narrowed(array: Array, dtype: int) -> Array:
    if dtype in _FLOATS:
        if array.dtype.kind not in "iuf":
            raise UnsureError
        with np.errstate(over="ignore"):
            return array.astype(numpy_dtype(dtype))
    if dtype in INTEGER_RANGES and array.dtype.kind in "iu":
        smallest, largest = INTEGER_RANGES[dtype]
        if int(array.min()) >= smallest and int(array.max()) <= largest:
            return array.astype(numpy_dtype(dtype))
    raise UnsureError


class ExactArrays:
    """Makes arrays value by value, with TensorFlow Serving's checks in its order."""

    def from_value(self, value: JsonValue, dtype: int) -> Array:
        """Returns a value as an array of a data type."""
        shape = _shape(value)
        values: list[Any] = []
        _collect(value, shape, dtype, values)
        return _array(values, dtype, shape)

    def from_rows(self, instances: list[JsonValue], types: Mapping[str, int]) -> dict[str, Array]:
        """Returns arrays of instances, by the names of the inputs."""
        if not isinstance(instances[0], dict) and len(types) > 1:
            raise invalid_argument(
                f"{INSTANCES} is a plain list, but expecting list of objects as multiple input tensors "
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
                        f"Failed to process element: {index} of '{INSTANCES}' list. Error: {error}"
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
                    f"Failed to process element: {index} key: {name} of '{INSTANCES}' list. Error: {error}"
                ) from error
        if instance.keys() != rows.types.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of '{INSTANCES}' list. JSON object: "
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
        if not is_base64(value):
            raise format_error(value, "not formatted correctly for base64 data")
        return decode_base64(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype in _FLOATS:
        fits = is_number
    elif dtype in INTEGER_RANGES:
        smallest, largest = INTEGER_RANGES[dtype]
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
    if dtype in INTEGER_RANGES:
        wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
        return np.array(values, wide).astype(numpy_dtype(dtype)).reshape(shape)
    with np.errstate(over="ignore"):
        return np.array(values, np.float64 if dtype in _FLOATS else None).astype(numpy_dtype(dtype)).reshape(shape)


_MAX_AXES = 64
"""NumPy's."""
_BASE64_WHITE_SPACE = re.compile(r"[ \t\n\v\f\r]+", re.ASCII)
_BASE64_TEXT = re.compile(r"([A-Za-z0-9+/]*)([=.]*)", re.ASCII)


def decode_base64(value: JsonValue) -> bytes:
    """Returns the bytes of what `is_base64` holds for; white space is passed over, and padding may be left out."""
    text = value[_BASE64]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        match = _BASE64_TEXT.fullmatch(_BASE64_WHITE_SPACE.sub("", text))
        if not match or len(match[1]) % 4 == 1 or match[2] not in ("", "=" * (-len(match[1]) % 4)):
            raise invalid_argument("Unable to base64 decode") from None
        return base64.b64decode(match[1] + "=" * (-len(match[1]) % 4))
