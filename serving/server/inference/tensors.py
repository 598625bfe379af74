"""Converts between TensorProto messages and NumPy arrays, as TensorFlow's own C++ does.

Protobuf's Python lists take one object per number, which for an answer with images costs more than the model. So the
typed fields of large tensors are written in their wire form: a packed field is one run of bytes, which NumPy makes.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow import dtypes
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = npt.NDArray[Any]

_MAX_RANK = 64
"""As many axes as a NumPy array can have; TensorFlow's tensors can have 254."""
_MAX_TENSOR_BYTES = 2**31 - 1
"""As large as a message can be. A larger tensor can only be asked for by repeating a last value."""
_MAX_REPEATED_BYTES = 2**28
"""What may be made of a last value, and of zeros: a request of a few bytes could fill the memory."""
_SMALL = 64
"""Up to so many elements Python's lists are faster than the detour over the wire form."""
_LENGTH_DELIMITED = 2
_MAX_LENGTH_BYTES = 5
"""So long is the varint of a string's length, which has 32 bits in TensorFlow."""


class TensorError(ValueError):
    """A TensorProto that is no tensor."""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How one data type travels in a TensorProto."""

    dtype: np.dtype[Any]  # of the array
    field: str  # the typed field that holds its values
    stored: np.dtype[Any] | None  # of the field's elements on the wire; None where they are varints
    # As whose bits the values stand in the field: uint16 for the 16-bit floats, float32 for the parts of a complex64.
    carrier: np.dtype[Any]


_FIELDS = {
    "float_val": "FLOAT",
    "double_val": "DOUBLE",
    "int_val": "INT32 INT16 INT8 UINT8 UINT16 QINT8 QUINT8 QINT16 QUINT16 QINT32 INT4 UINT4",
    "int64_val": "INT64",
    "uint32_val": "UINT32",
    "uint64_val": "UINT64",
    "bool_val": "BOOL",
    "half_val": "HALF BFLOAT16",
    "scomplex_val": "COMPLEX64",
    "dcomplex_val": "COMPLEX128",
    "float8_val": "FLOAT8_E5M2 FLOAT8_E4M3FN FLOAT8_E4M3FNUZ FLOAT8_E4M3B11FNUZ FLOAT8_E5M2FNUZ",
}
"""The data types whose values each typed field holds."""


def _kinds() -> dict[int, _Kind]:
    fixed = {"float_val": "<f4", "double_val": "<f8", "scomplex_val": "<f4", "dcomplex_val": "<f8"}
    carriers = {"half_val": "<u2", "scomplex_val": "<f4", "dcomplex_val": "<f8"}
    known = types_pb2.DataType.keys()
    kinds = {}
    for field, names in _FIELDS.items():
        for name in names.split():
            if f"DT_{name}" not in known:
                continue  # this TensorFlow is older than the type
            number = types_pb2.DataType.Value(f"DT_{name}")
            dtype = np.dtype(dtypes.as_dtype(number).as_numpy_dtype)
            # A quantized number is a structure of one integer, to NumPy.
            plain = dtype[0] if dtype.fields else dtype
            carrier = np.dtype(carriers[field]) if field in carriers else plain
            stored = np.dtype(fixed[field]) if field in fixed else None
            kinds[number] = _Kind(dtype, field, stored, carrier)
    return kinds


_KINDS = _kinds()
_FOUR_BIT = frozenset(types_pb2.DataType.Value(f"DT_{name}") for name in ("INT4", "UINT4"))
_NUMBERS: dict[np.dtype[Any], int] = {kind.dtype: number for number, kind in _KINDS.items()}
_FIELD_NUMBERS = {field.name: field.number for field in tensor_pb2.TensorProto.DESCRIPTOR.fields}


def dtype_name(number: int) -> str:
    """Returns a data type's name as it stands in TensorFlow's error texts: float, half, int32, string."""
    name: str = types_pb2.DataType.Name(number)
    return name.removeprefix("DT_").lower()


def shape_text(array: Array) -> str:
    """Returns an array's shape as it stands in error texts: [2,3]."""
    return f"[{','.join(map(str, array.shape))}]"


def dtype_number(array: Array) -> int:
    """Returns the number of an array's data type in types.proto; arrays of objects hold bytes."""
    if array.dtype.hasobject:
        return int(types_pb2.DT_STRING)
    return _NUMBERS.get(array.dtype) or int(dtypes.as_dtype(array.dtype).as_datatype_enum)


def numpy_dtype(number: int) -> np.dtype[Any]:
    """Returns the NumPy form of a data type; strings are objects."""
    kind = _KINDS.get(number)
    return kind.dtype if kind else np.dtype(object)


def read_tensor(proto: tensor_pb2.TensorProto) -> Array:
    """Returns the array that a TensorProto holds.

    `tensor_content` wins over the typed field. A typed field with too few values repeats its last, an empty
    one gives zeros, surplus values are passed over. The array may share the message's memory; strings are objects
    of type bytes.

    Raises:
        TensorError: the message is no valid tensor.
    """
    shape = _read_shape(proto)
    count = math.prod(shape)
    if proto.dtype == types_pb2.DT_STRING:
        return _read_strings(proto, count).reshape(shape)
    kind = _KINDS.get(proto.dtype)
    if kind is None:
        raise TensorError(f"no values of type {proto.dtype} can be read")
    if count * kind.dtype.itemsize > _MAX_TENSOR_BYTES:
        raise TensorError(f"{count} elements are more than a message can hold")
    if count and proto.tensor_content:
        return _read_content(proto.tensor_content, kind, count).reshape(shape)
    return _read_field(proto, kind, count).reshape(shape)


def _read_shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    # As TensorFlow does, `unknown_rank` is passed over: a tensor has the sizes that are given.
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise TensorError(f"{shape} is no shape")
    # NumPy multiplies the sizes to bytes even where one of them is 0.
    if math.prod(size for size in shape if size) * numpy_dtype(proto.dtype).itemsize >= 2**63:
        raise TensorError(f"{shape} is more than an array can have")
    return shape


def _read_content(content: bytes, kind: _Kind, count: int) -> Array:
    if len(content) != count * kind.dtype.itemsize:
        raise TensorError(f"{len(content)} bytes for {count} elements of {kind.dtype.itemsize} bytes")
    array = np.frombuffer(content, kind.dtype, count)
    if kind.dtype == np.bool_ and array.view(np.uint8).max() > 1:
        raise TensorError("a boolean is neither 0 nor 1")
    return array


def _read_field(proto: tensor_pb2.TensorProto, kind: _Kind, count: int) -> Array:
    field = getattr(proto, kind.field)
    if isinstance(field, bytes):
        wide: Array = np.frombuffer(field, kind.dtype)
    else:
        integers = np.uint64 if kind.field == "uint64_val" else np.int64
        wide = np.fromiter(field, integers if kind.stored is None else kind.stored, len(field))
    # Narrower integers wrap around, as a C++ conversion does.
    values = wide.astype(kind.carrier, copy=False)
    if kind.carrier != kind.dtype:
        whole = len(values) * kind.carrier.itemsize // kind.dtype.itemsize
        values = values[: whole * kind.dtype.itemsize // kind.carrier.itemsize].view(kind.dtype)
    if len(values) >= count:
        return values[:count]
    _check_repeated((count - len(values)) * kind.dtype.itemsize)
    filled: Array = np.empty(count, kind.dtype)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1] if len(values) else np.zeros((), kind.dtype)
    return filled


def _read_strings(proto: tensor_pb2.TensorProto, count: int) -> Array:
    if count * np.dtype(object).itemsize > _MAX_TENSOR_BYTES:
        raise TensorError(f"{count} strings are more than a message can hold")
    has_content = count and proto.tensor_content
    strings = list(_decode_string_list(proto.tensor_content, count) if has_content else proto.string_val)
    last = strings[-1] if strings else b""
    _check_repeated((count - len(strings)) * (len(last) + np.dtype(object).itemsize))
    array = np.empty(count, object)
    if strings:
        array[: len(strings)] = strings[:count]
        array[len(strings) :] = strings[-1]
    else:
        array[:] = b""
    return array


def _check_repeated(size: int) -> None:
    if size > _MAX_REPEATED_BYTES:
        raise TensorError(f"{size} bytes of a repeated value are more than {_MAX_REPEATED_BYTES}")


def write_tensor(array: Array, proto: tensor_pb2.TensorProto, *, as_content: bool = False) -> None:
    """Fills an empty TensorProto with an array; as its `tensor_content`, or in the typed field.

    The array is of any type that a model can return; strings are objects of type bytes.
    """
    number = dtype_number(array)
    proto.dtype = number
    # Present even where it is empty: a scalar.
    proto.tensor_shape.SetInParent()
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    if not array.size:
        return
    if number == types_pb2.DT_STRING:
        strings = array.ravel().tolist()
        if as_content:
            lengths = (_varint(len(string)) for string in strings)
            proto.tensor_content = b"".join((*lengths, *strings))  # as TensorFlow lists strings
        else:
            proto.string_val.extend(strings)
        return
    kind = _KINDS.get(number)
    if as_content or kind is None:
        proto.tensor_content = array.tobytes()
        return
    if kind.field == "float8_val":
        proto.float8_val = array.tobytes()
        return
    values = np.ascontiguousarray(array).reshape(-1).view(kind.carrier)
    if number in _FOUR_BIT:
        values = values.astype(np.int8)
    if len(values) <= _SMALL:
        getattr(proto, kind.field).extend(values.tolist())
        return
    packed = _encode_varints(values) if kind.stored is None else values.astype(kind.stored, copy=False).tobytes()
    tag = _FIELD_NUMBERS[kind.field] << 3 | _LENGTH_DELIMITED
    proto.MergeFromString(b"".join((_varint(tag), _varint(len(packed)), packed)))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    """Returns the varint that begins at a position, and the position after it; IndexError where the data end."""
    number = 0
    for index in range(_MAX_LENGTH_BYTES):
        byte = data[position + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, position + index + 1
    raise TensorError(f"a length goes on after {_MAX_LENGTH_BYTES} bytes")


def _encode_varints(values: Array) -> bytes:
    if values.dtype == np.bool_:
        return values.tobytes()
    largest = int(values.max())
    rest: Array
    if values.min() < 0:
        # A negative number is written as its 64 bits, ten bytes long.
        largest = 2**64 - 1
        rest = values.astype(np.int64).view(np.uint64)
    else:
        rest = values.astype(np.min_scalar_type(largest), copy=False)
    if largest < 0x80:
        return rest.tobytes()
    longest = -(-largest.bit_length() // 7)
    encoded = np.empty((len(rest), longest), np.uint8)
    is_used = np.ones((len(rest), longest), np.bool_)
    for index in range(longest):
        part = rest.astype(np.uint8) & np.uint8(0x7F)
        rest = rest >> rest.dtype.type(7)
        goes_on = rest != 0
        encoded[:, index] = part | goes_on.view(np.uint8) << np.uint8(7)
        is_used[:, index + 1 : index + 2] = goes_on[:, np.newaxis]
    return encoded[is_used].tobytes()


def _decode_string_list(content: bytes, count: int) -> list[bytes]:
    """Reads TensorFlow's string lists: the lengths of all, then the bytes of all."""
    try:
        lengths = []
        position = 0
        for _ in range(count):
            length, position = _read_length(content, position)
            lengths.append(length)
    except IndexError:
        raise TensorError("a string list ends early") from None
    if position + sum(lengths) != len(content):
        raise TensorError(f"a string list of {len(content)} bytes should have {position + sum(lengths)}")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings
