"""Writes REST answers: tensors, classes, numbers, states, signatures and errors as JSON."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pybase64
from google.protobuf import json_format, message
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, get_model_status_pb2, regression_pb2

from ..errors import RequestError, invalid_argument
from ..inference.tensors import Array, dtype_name, dtype_number
from ..service import SIGNATURE_DEF
from .json_requests import Layout

_BYTES_SUFFIX = "_bytes"
_WRITABLE = frozenset(
    types_pb2.DataType.Value(f"DT_{name}")
    for name in (
        *("FLOAT", "DOUBLE", "STRING", "BOOL"),
        *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT32", "UINT64"),
    )
)
_NULL = re.compile(rb"null")


def write_error(error: RequestError) -> bytes:
    """Returns the body of an error answer."""
    return b'{\n    "error": %b\n}' % _text(error.message)


def write_outputs(outputs: Mapping[str, Array], layout: Layout) -> bytes:
    """Returns the body of an answer with arrays (strings as bytes) by name; RequestError for what JSON has not."""
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    count = _count_rows(outputs) if layout is Layout.ROWS else 0
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        written = _array(name, array)
    elif layout is Layout.ROWS:
        rows = (
            _object({name: _array(name, array[row : row + 1])[1:-1] for name, array in outputs.items()})
            for row in range(count)
        )
        written = b"[%b]" % b", ".join(rows)
    else:
        written = _object({name: _array(name, array) for name, array in outputs.items()})
    return b'{\n    "%b": %b\n}' % (b"predictions" if layout is Layout.ROWS else b"outputs", written)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b", ".join(_text(name) + b": " + value for name, value in members.items())


def _count_rows(outputs: Mapping[str, Array]) -> int:
    count = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(array)):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    return count


def _array(name: str, array: Array) -> bytes:
    number = dtype_number(array)
    if number not in _WRITABLE and array.size:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {dtype_name(number)}")
    if number == types_pb2.DT_STRING:
        return orjson.dumps(_strings(array.tolist(), as_base64=name.endswith(_BYTES_SUFFIX)))
    if array.ndim == 0:
        # orjson takes NumPy's scalars, and arrays with an axis.
        return _array(name, array.reshape(1))[1:-1]
    written = _nested(array)
    if array.dtype.kind == "f":
        not_finite = array[~np.isfinite(array)]
        if len(not_finite):
            words = iter(_not_finite(number) for number in not_finite.tolist())
            written = _NULL.sub(lambda _: next(words), written)
    return written


def _nested(array: Array) -> bytes:
    """Returns an array of numbers, with at least one axis, as nested lists."""
    if array.size and array.ndim > 1 and array.shape[-1] == 1:
        # Masks have one channel, and a list for each number takes far longer to write than the numbers. Without
        # that axis every comma, between numbers as between rows, lacks one closing and one opening bracket.
        return b"[%b]" % _nested(array[..., 0]).replace(b",", b"],[")
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _not_finite(number: float) -> bytes:
    if np.isnan(number):
        return b"NaN"
    return b"Infinity" if number > 0 else b"-Infinity"


def _strings(value: Any, *, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_strings(item, as_base64=as_base64) for item in value]
    if as_base64:
        return {"b64": pybase64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError:
        # JSON has no other way to hold these; TensorFlow Serving writes the bytes as they are, which no
        # parser takes.
        return {"b64": pybase64.b64encode(value).decode()}


def write_classifications(result: classification_pb2.ClassificationResult) -> bytes:
    """Returns the body of an answer to a classify request."""
    rows = [
        b"[%b]" % b", ".join(b"[%b, %b]" % (_text(one.label), _float32(one.score)) for one in row.classes)
        for row in result.classifications
    ]
    if not rows:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    return b'{\n    "results": [%b]\n}' % b", ".join(rows)


def write_regressions(result: regression_pb2.RegressionResult) -> bytes:
    """Returns the body of an answer to a regress request."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = np.array([one.value for one in result.regressions], np.float32)
    return b'{\n    "results": %b\n}' % _array("", values)


def write_status(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """Returns the body of an answer about the state of a model."""
    return _message(response) + b"\n"


def write_metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """Returns the body of an answer about the signatures of a model."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(signatures)
    return b'{\n"model_spec":%b,\n"metadata": {"signature_def": %b}\n}\n' % (
        _message(response.model_spec),
        _message(signatures),
    )


def _message(content: message.Message) -> bytes:
    text: str = json_format.MessageToJson(
        content, indent=1, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return text.encode()


def _text(text: str) -> bytes:
    return orjson.dumps(text)


def _float32(number: float) -> bytes:
    return _array("", np.array([number], np.float32))[1:-1]
