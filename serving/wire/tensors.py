"""NumPy arrays to TensorProtos and back.

NumPy is the only currency: bfloat16, which it lacks, is read as float32 (exactly), and written from float32, rounded to
nearest even. Quantised integers are read as the plain integers that they are stored in. 8-bit floats, integers below
8 bits, resources and variants are refused.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .messages import DataType, TensorProto

MAX_TENSOR_BYTES = (1 << 31) - 1
"""What a tensor may take in memory: a message cannot be larger, but a repeated last value could be."""

_MAX_REPEATED_BYTES = 1 << 26
"""What may be made of a last value: a message of a few bytes could fill the memory. TensorFlow writes all values."""

Array = npt.NDArray[Any]
_BUFFERS = str | bytes | bytearray | memoryview


class TensorError(ValueError):
    """An array that cannot be sent, or a TensorProto that makes no sense."""


class _Layout(NamedTuple):
    """How the elements of a data type are laid out: in `tensor_content`, or one by one in a field of TensorProto."""

    dtype: np.dtype[Any]
    field: str
    field_dtype: str


_BFLOAT16 = DataType.Value("DT_BFLOAT16")
_STRING = DataType.Value("DT_STRING")

_LAYOUTS: dict[int, _Layout] = {
    DataType.Value(f"DT_{name}"): _Layout(np.dtype(dtype), field, field_dtype)
    for name, dtype, field, field_dtype in (
        ("FLOAT", "<f4", "float_val", "<f4"),
        ("DOUBLE", "<f8", "double_val", "<f8"),
        ("HALF", "<f2", "half_val", "<i4"),
        ("INT8", "<i1", "int_val", "<i4"),
        ("INT16", "<i2", "int_val", "<i4"),
        ("INT32", "<i4", "int_val", "<i4"),
        ("INT64", "<i8", "int64_val", "<i8"),
        ("UINT8", "<u1", "int_val", "<i4"),
        ("UINT16", "<u2", "int_val", "<i4"),
        ("UINT32", "<u4", "uint32_val", "<u4"),
        ("UINT64", "<u8", "uint64_val", "<u8"),
        ("BOOL", "?", "bool_val", "?"),
        ("COMPLEX64", "<c8", "scomplex_val", "<f4"),
        ("COMPLEX128", "<c16", "dcomplex_val", "<f8"),
        ("STRING", "O", "string_val", "O"),
    )
}
# Laid out as the bits of other types, which their dtypes mean.
_LAYOUTS[_BFLOAT16] = _Layout(np.dtype("<u2"), "half_val", "<i4")
for _name in ("INT8", "INT16", "INT32", "UINT8", "UINT16"):
    _LAYOUTS[DataType.Value(f"DT_Q{_name}")] = _LAYOUTS[DataType.Value(f"DT_{_name}")]


def dtype_of(data_type: int) -> np.dtype[Any]:
    """Returns the dtype of `to_array`'s arrays of a data type, object for strings; raises `TensorError` for others."""
    return np.dtype(np.float32) if data_type == _BFLOAT16 else _layout(data_type).dtype


def as_array(value: Any) -> Array:
    """Returns an array, number, string, bytes, or a regular nesting of lists of those, as an array that can be sent.

    Strings become an object array of bytes. Raises `TensorError` where lists are ragged, or hold something else.
    """
    array = value if isinstance(value, np.ndarray) else _array_of_values(value)
    if array.dtype.kind not in "SUO":
        return array
    strings = np.empty(array.shape, dtype=object)
    for index, element in enumerate(array.flat):
        strings.flat[index] = _as_bytes(element)
    return strings


def write_tensor(tensor: TensorProto, array: Array, data_type: int) -> None:
    """Makes an empty TensorProto what `tensor_pieces` says."""
    tensor.MergeFromString(b"".join(tensor_pieces(array, data_type)))


def tensor_pieces(array: Array, data_type: int) -> list[bytes | memoryview]:
    """Returns, serialised, the TensorProto of an array of `dtype_of(data_type)`, in any order of bytes and of memory.

    It comes in pieces, as copies of pictures into a message and out of it are most of what a call costs here. Raises
    `TensorError` where nothing can be sent as that data type.
    """
    layout = _layout(data_type)
    tensor = TensorProto()
    tensor.dtype = cast("DataType", data_type)  # only type stubs tell an enum's values from integers
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    values: list[bytes | memoryview]
    if data_type == _STRING:
        field, values = "string_val", array.reshape(-1).tolist()
    else:
        field = "tensor_content"
        bits = _bfloat16_bits(array) if data_type == _BFLOAT16 else array.astype(layout.dtype, copy=False)
        values = [np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data] if array.size else []
    number = TensorProto.DESCRIPTOR.fields_by_name[field].number
    pieces: list[bytes | memoryview] = [tensor.SerializeToString()]
    for value in values:
        pieces += [delimiter(number, len(value)), value]
    return pieces


def delimiter(number: int, length: int) -> bytes:
    """Returns what stands before a field of so many bytes in a serialised message."""
    varint = bytearray([number << 3 | 2])
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return bytes(varint)


def to_array(tensor: TensorProto) -> Array:
    """Returns the array that a TensorProto holds, whichever of its fields the values are in.

    It is writable, of its own memory, and `dtype_of(tensor.dtype)` in the tensor's shape. Raises `TensorError` where
    the dtype, the shape and the values do not fit each other.
    """
    layout = _layout(tensor.dtype)
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError("a tensor's shape is not fully known")
    size = math.prod(shape)
    expected = size * layout.dtype.itemsize
    content = tensor.tensor_content
    if expected > MAX_TENSOR_BYTES:
        raise TensorError(f"a tensor of shape {list(shape)} is larger than {MAX_TENSOR_BYTES} bytes")
    if tensor.dtype == _STRING:
        flat = _filled(_split_strings(content, size) if content else list(tensor.string_val), layout.dtype, size)
    elif not content:
        flat = _from_field(tensor, layout, size)
    elif len(content) != expected:
        raise TensorError(f"a tensor's content has {len(content)} bytes where its shape needs {expected}")
    else:
        flat = np.frombuffer(content, layout.dtype).copy()
    if tensor.dtype == _BFLOAT16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def _layout(data_type: int) -> _Layout:
    layout = _LAYOUTS.get(data_type)
    if layout is None:
        names = {number: name for name, number in DataType.items()}
        raise TensorError(f"tensors of data type {names.get(data_type, data_type)} cannot be read or sent here")
    return layout


def _array_of_values(value: Any) -> Array:
    first = value
    while isinstance(first, Sequence) and not isinstance(first, _BUFFERS) and len(first):
        first = first[0]
    try:
        # NumPy's own dtype for bytes cannot hold a trailing zero byte.
        return np.array(_plain(value), dtype=object) if _is_string(first) else np.asarray(value)
    except ValueError as error:
        raise TensorError(f"not a regular array: {error}") from error


def _is_string(value: Any) -> bool:
    """Whether a value is one string to TensorFlow; views of anything but bytes are of numbers."""
    is_bytes = isinstance(value, memoryview) and value.ndim == 1 and value.format in ("B", "c")
    return is_bytes or isinstance(value, str | bytes | bytearray)


def _plain(value: Any) -> Any:
    """Returns strings, or lists of them, without buffers, which NumPy takes for lists of numbers."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    is_list = isinstance(value, Sequence) and not isinstance(value, _BUFFERS)
    return [_plain(element) for element in value] if is_list else value


def _as_bytes(element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise TensorError(f"an array of objects must hold strings or bytes, not {type(element).__name__}")


def _bfloat16_bits(array: Array) -> Array:
    """Returns the upper halves of float32 values, rounded to nearest even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could carry a NaN's payload into an infinity.
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2")


def _from_field(tensor: TensorProto, layout: _Layout, size: int) -> Array:
    values = np.array(getattr(tensor, layout.field), layout.field_dtype)
    if layout.dtype.kind == "c":
        if values.size % 2:
            raise TensorError("a complex tensor's last number has no imaginary part")
        values = values.view(layout.dtype)
    elif layout.field == "half_val":
        values = values.astype(np.uint16).view(layout.dtype)
    if values.size == size:
        return values.astype(layout.dtype, copy=False)
    return _filled(values, layout.dtype, size)


def _filled(values: Any, dtype: np.dtype[Any], size: int) -> Array:
    """Returns an array of all elements; the last value stands for all that are missing."""
    if len(values) > size:
        raise TensorError(f"a tensor has {len(values)} values where its shape needs {size}")
    if (size - len(values)) * dtype.itemsize > _MAX_REPEATED_BYTES:
        raise TensorError(f"a tensor has {len(values)} values for {size} elements, too few to be meant")
    flat = np.full(size, b"", dtype) if dtype.hasobject else np.zeros(size, dtype)
    flat[: len(values)] = values
    if len(values):
        flat[len(values) :] = values[-1]
    return flat


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Splits a string tensor's content: the lengths of all strings as varints, then all their bytes."""
    lengths: list[int] = []
    length = shift = position = 0
    while len(lengths) < count:
        if position == len(content) or shift > 28:  # lengths have 32 bits
            raise TensorError(f"a string tensor's content does not begin with {count} lengths")
        byte = content[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(length)
            length = shift = 0
    ends = list(itertools.accumulate(lengths, initial=position))
    if ends[-1] != len(content):
        raise TensorError("a string tensor's content does not have the length that its strings need")
    return [content[start:end] for start, end in itertools.pairwise(ends)]
