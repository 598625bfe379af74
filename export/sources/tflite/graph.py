"""The graph in a TensorFlow Lite file, by the schema that ships with TensorFlow."""

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from ...errors import SourceError
from .sparse import make_dense

_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.FLOAT64: np.float64,
    schema.TensorType.BOOL: np.bool_,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.UINT16: np.uint16,
    schema.TensorType.UINT32: np.uint32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_CODES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
_SMALL = 127
"""Up to which the older field of an operator's code holds it."""


@dataclasses.dataclass(frozen=True)
class Values:
    """A tensor of the file.

    Attributes:
        name: of it.
        dtype: in the file; quantised values are float32 in this package.
        shape: None for an axis that is free.
        constant: its value, dequantised; None of what is computed.
        scale: of quantised values, with `zero_point`: real = scale * (stored - zero_point); None where there is none.
    """

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int | None, ...]
    constant: npt.NDArray[Any] | None
    scale: npt.NDArray[np.float32] | None
    zero_point: npt.NDArray[np.int64]

    @property
    def limits(self) -> tuple[float, float] | None:
        """The least and the greatest value that quantised ones of 8 bits can have; None of others."""
        if self.scale is None or self.scale.size != 1 or np.dtype(self.dtype).itemsize > 1:
            return None
        kind = np.iinfo(self.dtype)
        least, most = (float(self.scale[0] * (edge - int(self.zero_point[0]))) for edge in (kind.min, kind.max))
        return least, most


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator: its name in capitals, as the schema has it, its options, and the places of its tensors."""

    name: str
    options: Any
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclasses.dataclass(frozen=True)
class LiteGraph:
    """The only graph of a file."""

    tensors: Sequence[Values]
    operators: Sequence[Operator]
    inputs: Sequence[int]
    outputs: Sequence[int]


def read_graph(content: bytes, where: str) -> LiteGraph:
    """Returns the graph of a file's bytes; SourceError where they are damaged, or hold what is not read here."""
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs[:1]
        codes = [_name_of(code) for code in model.operatorCodes]
        operators = [
            Operator(
                codes[one.opcodeIndex],
                one.builtinOptions or one.customOptions,
                _places(one.inputs),
                _places(one.outputs),
            )
            for one in graph.operators
        ]
        tensors = [_read_tensor(tensor, model.buffers[tensor.buffer].data, where) for tensor in graph.tensors]
    except (struct.error, IndexError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise SourceError(f"{where}: it is a broken or truncated TensorFlow Lite model ({error})") from error
    return LiteGraph(tensors, operators, _places(graph.inputs), _places(graph.outputs))


def _places(places: Any) -> list[int]:
    return [] if places is None else [int(place) for place in places]


def _name_of(code: Any) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return str(code.customCode.decode() if isinstance(code.customCode, bytes) else code.customCode)
    return _CODES[number]


def _read_tensor(tensor: Any, data: Any, where: str) -> Values:
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        kind = next((kind for kind, code in vars(schema.TensorType).items() if code == tensor.type), tensor.type)
        raise SourceError(f"{where}: its tensor {name!r} is of {kind}, which is not read here")
    shape = _places(tensor.shape)
    signature = _places(tensor.shapeSignature) or shape
    quantization = tensor.quantization
    scale = None if quantization is None or quantization.scale is None else np.asarray(quantization.scale, np.float32)
    scale = None if scale is None or not scale.size else scale
    zero_point = np.zeros(1, np.int64)
    if scale is not None and quantization.zeroPoint is not None:
        zero_point = np.asarray(quantization.zeroPoint, np.int64)
    constant: npt.NDArray[Any] | None = None
    if data is not None and len(data):
        stored: npt.NDArray[Any] = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype)
        constant = make_dense(stored, shape, tensor.sparsity) if tensor.sparsity else stored.reshape(shape)
        if scale is not None:
            axis = quantization.quantizedDimension
            constant = _dequantised(constant, scale, zero_point, axis)
        elif dtype == np.float16:
            constant = constant.astype(np.float32)
    elif 0 in shape:  # it has no bytes because there are none
        constant = np.zeros(shape, dtype)
    free = tuple(None if edge < 0 else edge for edge in signature)
    return Values(name, dtype, free, constant, scale, zero_point)


def _dequantised(
    stored: npt.NDArray[Any], scale: npt.NDArray[np.float32], zero_point: npt.NDArray[np.int64], axis: int
) -> npt.NDArray[np.float32]:
    """Returns the real values of stored ones, whose scales are one, or one for each place along an axis."""
    along = [-1 if place == axis else 1 for place in range(stored.ndim)]
    scales, zeros = (part.reshape(along) if part.size > 1 else part.reshape(()) for part in (scale, zero_point))
    real: npt.NDArray[np.float32] = ((stored.astype(np.int64) - zeros) * scales.astype(np.float64)).astype(np.float32)
    return real


def input_spec(values: Values) -> tf.TensorSpec:
    """Returns the form of an input: of quantised values the real ones, but for uint8, which are pixels as they are."""
    is_real = values.scale is not None and values.dtype != np.uint8
    return tf.TensorSpec(values.shape, np.float32 if is_real else values.dtype, name=values.name)


def output_spec(values: Values) -> tf.TensorSpec:
    """Returns the form of an output, of an operator's too: of quantised values and of float16 real ones, float32."""
    is_real = values.scale is not None or values.dtype == np.float16
    return tf.TensorSpec(values.shape, np.float32 if is_real else values.dtype, name=values.name)
