"""NumPy arrays to TensorProtos and back.

NumPy is the only currency: bfloat16, which it lacks, is read as float32 (exactly), and written from an array
whose dtype calls itself bfloat16 (ml_dtypes' does) or on request, rounded to nearest even. Quantised integers
are read as the plain integers that they are stored in. 8-bit floats, integers below 8 bits, resources and
variants are refused.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .messages import DataType, TensorProto, TensorShapeProto

MAX_TENSOR_BYTES = (1 << 31) - 1
"""What a tensor may take in memory: a message cannot be larger, but a repeated last value could be."""

Array = npt.NDArray[Any]


class TensorError(ValueError):
    """An array that cannot be sent, or a TensorProto that makes no sense."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the elements of a data type are laid out.

    Attributes:
        dtype: of the array, little-endian as `tensor_content` is.
        field: of TensorProto, for elements one by one.
        field_dtype: of the numbers in that field.
    """

    dtype: np.dtype[Any]
    field: str
    field_dtype: np.dtype[Any]


_OBJECT = np.dtype(object)
_BFLOAT16 = DataType.Value("DT_BFLOAT16")
_STRING = DataType.Value("DT_STRING")

# data type: (dtype, field, dtype of the field's numbers)
_TABLE: dict[str, tuple[str, str, str]] = {
    "DT_FLOAT": ("<f4", "float_val", "<f4"),
    "DT_DOUBLE": ("<f8", "double_val", "<f8"),
    "DT_HALF": ("<f2", "half_val", "<i4"),
    "DT_BFLOAT16": ("<u2", "half_val", "<i4"),
    "DT_INT8": ("<i1", "int_val", "<i4"),
    "DT_INT16": ("<i2", "int_val", "<i4"),
    "DT_INT32": ("<i4", "int_val", "<i4"),
    "DT_INT64": ("<i8", "int64_val", "<i8"),
    "DT_UINT8": ("<u1", "int_val", "<i4"),
    "DT_UINT16": ("<u2", "int_val", "<i4"),
    "DT_UINT32": ("<u4", "uint32_val", "<u4"),
    "DT_UINT64": ("<u8", "uint64_val", "<u8"),
    "DT_QINT8": ("<i1", "int_val", "<i4"),
    "DT_QINT16": ("<i2", "int_val", "<i4"),
    "DT_QINT32": ("<i4", "int_val", "<i4"),
    "DT_QUINT8": ("<u1", "int_val", "<i4"),
    "DT_QUINT16": ("<u2", "int_val", "<i4"),
    "DT_BOOL": ("?", "bool_val", "?"),
    "DT_COMPLEX64": ("<c8", "scomplex_val", "<f4"),
    "DT_COMPLEX128": ("<c16", "dcomplex_val", "<f8"),
    "DT_STRING": ("O", "string_val", "O"),
}
_LAYOUTS: Mapping[int, _Layout] = MappingProxyType(
    {
        DataType.Value(name): _Layout(np.dtype(dtype), field, np.dtype(field_dtype))
        for name, (dtype, field, field_dtype) in _TABLE.items()
    }
)
# bfloat16's and the quantised types' layouts are the bits of other types, which those dtypes mean.
_DATA_TYPES: Mapping[np.dtype[Any], int] = MappingProxyType(
    {
        _LAYOUTS[DataType.Value(name)].dtype: DataType.Value(name)
        for name in _TABLE
        if name != "DT_BFLOAT16" and not name.startswith("DT_Q")
    }
)


def dtype_of(data_type: int) -> np.dtype[Any]:
    """Returns the dtype of the arrays that `to_array` makes of a data type; object stands for strings.

    Raises:
        TensorError: there is none.
    """
    return np.dtype(np.float32) if data_type == _BFLOAT16 else _layout(data_type).dtype


def data_type_of(dtype: npt.DTypeLike) -> int:
    """Returns the data type that arrays of a dtype are sent as.

    Raises:
        TensorError: there is none.
    """
    wanted = np.dtype(dtype)
    if wanted.name == "bfloat16":
        return _BFLOAT16
    if wanted.kind in "SUO":
        return _STRING
    found = _DATA_TYPES.get(wanted.newbyteorder("<"))
    if found is None:
        raise TensorError(f"arrays of dtype {wanted} cannot be sent")
    return found


def as_array(value: Any) -> Array:
    """Returns a value as an array that can be sent; strings become an object array of bytes.

    Args:
        value: an array, a number, a string, bytes, or a regular nesting of lists of those.

    Raises:
        TensorError: the lists are ragged, or hold something else.
    """
    array = value if isinstance(value, np.ndarray) else _array_of_values(value)
    if array.dtype.kind not in "SUO":
        return array
    strings = np.empty(array.shape, dtype=object)
    for index, element in enumerate(array.flat):
        strings.flat[index] = _as_bytes(element)
    return strings


def to_tensor(value: Any, data_type: int | None = None) -> TensorProto:
    """Returns a TensorProto of an array.

    Args:
        value: anything that `as_array` takes.
        data_type: to send it as; None is the array's own. Other values are cast only where nothing can be
            lost but precision: to a wider type, or between floating-point types.

    Raises:
        TensorError: it cannot be sent, or not as that data type.
    """
    tensor = TensorProto()
    write_tensor(tensor, value, data_type)
    return tensor


def write_tensor(tensor: TensorProto, value: Any, data_type: int | None = None) -> None:
    """Makes an empty TensorProto that of an array; like `to_tensor`, without a copy to where it belongs."""
    array = as_array(value)
    own = data_type_of(array.dtype)
    wanted = own if data_type is None else data_type
    layout = _layout(wanted)
    tensor.dtype = _as_data_type(wanted)
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if wanted == _STRING and own == _STRING:
        tensor.string_val.extend(array.reshape(-1).tolist())
    elif wanted == _BFLOAT16:
        tensor.tensor_content = _bfloat16_bits(array).tobytes()
    else:
        if array.dtype != layout.dtype:
            _check_cast(array.dtype, layout.dtype, wanted)
            array = array.astype(layout.dtype)
        tensor.tensor_content = array.tobytes()


def to_array(tensor: TensorProto) -> Array:
    """Returns the array that a TensorProto holds, whichever of its fields the values are in.

    Returns:
        A writable array of its own memory: `dtype_of(tensor.dtype)` in the tensor's shape.

    Raises:
        TensorError: the dtype, the shape and the values do not fit each other.
    """
    layout = _layout(tensor.dtype)
    shape = _from_shape(tensor.tensor_shape)
    size = math.prod(shape)
    if size * layout.dtype.itemsize > MAX_TENSOR_BYTES:
        raise TensorError(f"a tensor of shape {list(shape)} is larger than {MAX_TENSOR_BYTES} bytes")
    if tensor.dtype == _STRING:
        return _strings(tensor, size).reshape(shape)
    if tensor.tensor_content:
        flat = _from_content(tensor.tensor_content, layout, size)
    else:
        flat = _from_field(tensor, layout, size)
    if tensor.dtype == _BFLOAT16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def _layout(data_type: int) -> _Layout:
    layout = _LAYOUTS.get(data_type)
    if layout is None:
        try:
            name = DataType.Name(_as_data_type(data_type))
        except ValueError:
            name = str(data_type)
        raise TensorError(f"tensors of data type {name} cannot be read or sent here")
    return layout


def _as_data_type(number: int) -> DataType:
    # An enum's values are plain integers at run time; only the type stubs tell them apart.
    value: Any = number
    return value  # type: ignore[no-any-return]


def _array_of_values(value: Any) -> Array:
    first = value
    while isinstance(first, Sequence) and not isinstance(first, str | bytes) and len(first):
        first = first[0]
    # NumPy's own dtype for bytes cannot hold a trailing zero byte.
    is_text = isinstance(first, str | bytes | bytearray | memoryview)
    try:
        if is_text and first is value:
            array = np.empty((), dtype=object)
            array[()] = value
            return array
        return np.array(value, dtype=object) if is_text else np.asarray(value)
    except ValueError as error:
        raise TensorError(f"not a regular array: {error}") from error


def _as_bytes(element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise TensorError(f"an array of objects must hold strings or bytes, not {type(element).__name__}")


def _check_cast(source: np.dtype[Any], target: np.dtype[Any], data_type: int) -> None:
    if source.kind in "SUO" or target.kind == "O":
        allowed = False
    else:
        allowed = np.can_cast(source, target, "safe") or (source.kind == "f" and target.kind == "f")
    if not allowed:
        name = DataType.Name(_as_data_type(data_type))
        raise TensorError(f"an array of dtype {source} cannot be sent as {name} without loss: convert it first")


def _bfloat16_bits(array: Array) -> Array:
    """Returns the upper halves of float32 values, rounded to nearest even."""
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    _check_cast(array.dtype, np.dtype(np.float32), _BFLOAT16)
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could carry a NaN's payload into an infinity.
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2")


def _from_shape(shape: TensorShapeProto) -> tuple[int, ...]:
    sizes = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or any(size < 0 for size in sizes):
        raise TensorError("a tensor's shape is not fully known")
    return sizes


def _from_content(content: bytes, layout: _Layout, size: int) -> Array:
    expected = size * layout.dtype.itemsize
    if len(content) != expected:
        raise TensorError(f"a tensor's content has {len(content)} bytes where its shape needs {expected}")
    return np.frombuffer(content, dtype=layout.dtype).copy()


def _from_field(tensor: TensorProto, layout: _Layout, size: int) -> Array:
    """Returns the elements of the dtype's own field; the last stands for all that are missing."""
    values = np.array(getattr(tensor, layout.field), dtype=layout.field_dtype)
    if layout.dtype.kind == "c":
        if values.size % 2:
            raise TensorError("a complex tensor's last number has no imaginary part")
        values = values.view(layout.dtype)
    elif tensor.dtype in (_BFLOAT16, DataType.Value("DT_HALF")):
        values = values.astype(np.uint16).view(layout.dtype)
    else:
        values = values.astype(layout.dtype, copy=False)
    return _filled(values, size)


def _filled(values: Array, size: int) -> Array:
    if values.size == size:
        return values
    if values.size > size:
        raise TensorError(f"a tensor has {values.size} values where its shape needs {size}")
    flat = np.zeros(size, dtype=values.dtype)
    if values.size:
        flat[: values.size] = values
        flat[values.size :] = values[-1]
    return flat


def _strings(tensor: TensorProto, size: int) -> Array:
    strings = _split_strings(tensor.tensor_content, size) if tensor.tensor_content else list(tensor.string_val)
    if len(strings) > size:
        raise TensorError(f"a tensor has {len(strings)} strings where its shape needs {size}")
    flat = np.empty(size, dtype=object)
    flat[: len(strings)] = strings
    flat[len(strings) :] = strings[-1] if strings else b""
    return flat


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Splits a string tensor's content: the lengths of all strings as varints, then all their bytes."""
    lengths: list[int] = []
    position = 0
    try:
        for _ in range(count):
            length = shift = 0
            while True:
                byte = content[position]
                position += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if shift > 35:  # lengths have 32 bits
                    raise IndexError
                if byte < 0x80:
                    break
            lengths.append(length)
    except IndexError:
        raise TensorError(f"a string tensor's content does not begin with {count} lengths") from None
    if position + sum(lengths) != len(content):
        raise TensorError("a string tensor's content does not have the length that its strings need")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings
