"""Calls as TensorFlow Serving's REST requests, and the JSON that answers them."""

import contextlib
import dataclasses
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format

from ...status_codes import StatusCode
from ...wire import tensors
from ...wire.messages import GetModelStatusResponse, SignatureDefMap
from .. import errors
from .calls import Call, MetadataCall, PredictCall, Prediction, StatusCall, Target
from .refusals import CODES_OF_HTTP, error_of_code
from .signatures import ModelState, TensorSpec, metadata_of_message, statuses_of_message, with_known_rank

try:
    import orjson
except ImportError:  # several times faster; never needed
    orjson = None  # type: ignore[assignment]
try:
    from pybase64 import b64decode, b64encode
except ImportError:  # likewise
    from base64 import b64decode, b64encode  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class RestRequest:
    """A request without the server's address: the path is percent-encoded, the body JSON."""

    method: str
    path: str
    body: bytes = b""


def encode(call: Call) -> RestRequest:
    """Returns the request of a call.

    Raises `UnsupportedCallError` where REST has no such call, `InvalidRequestError` for a dtype without a form in JSON.
    """
    if isinstance(call, PredictCall):
        # Pictures are long: joined once, and not looked through for what JSON must escape.
        pieces = [b'{"signature_name":', _dump(call.signature.name), b',"inputs":{']
        for index, (name, array) in enumerate(call.inputs.items()):
            pieces += [b"," if index else b"", _dump(name), b":", *_to_json(array, name)]
        return RestRequest("POST", f"{_path(call.target)}:predict", b"".join((*pieces, b"}}")))
    if isinstance(call, MetadataCall):
        return RestRequest("GET", f"{_path(call.target)}/metadata")
    if isinstance(call, StatusCall):
        return RestRequest("GET", _path(call.target))
    raise errors.UnsupportedCallError(
        "TensorFlow Serving reloads its configuration over gRPC only", hint="use its grpc:// address"
    )


def decode(call: Call, body: bytes) -> Any:
    """Returns what the body of a 200 answer says (`calls.Reply.value`); `InvalidResponseError` where it is unclear."""
    answer = _load(body)
    if isinstance(call, PredictCall):
        return Prediction(_outputs(call, answer), call.target.version)
    # What is not a prediction is a message of gRPC's, written as JSON.
    what = "metadata" if isinstance(call, MetadataCall) else "status"
    try:
        if isinstance(call, MetadataCall):
            signatures = json_format.ParseDict(
                answer["metadata"]["signature_def"], SignatureDefMap(), ignore_unknown_fields=True
            )
            version = answer["model_spec"].get("version")
            return metadata_of_message(call.target.model, int(version) if version else None, signatures)
        for status in answer["model_version_status"]:
            ModelState[status["state"]]  # what is not known is passed over by json_format
        statuses = json_format.ParseDict(answer, GetModelStatusResponse(), ignore_unknown_fields=True)
        return statuses_of_message(statuses)
    except (json_format.ParseError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise errors.InvalidResponseError(f"the answer is not a model's {what}: {error!r}") from error


def error_of_answer(http_status: int, body: bytes, headers: Mapping[str, str]) -> errors.MaskServingError:
    """Returns the error that an answer other than 200 tells of; the headers' names are in small letters."""
    words: Any = None
    if "json" in headers.get("content-type", ""):
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            words = json.loads(body)["error"]
    if not isinstance(words, str):
        # TensorFlow Serving's own errors are JSON: a proxy, another service or a wrong path speaks here.
        summary = " ".join(body[:200].decode("utf-8", "replace").split())
        if 300 <= http_status < 400 and "location" in headers:
            summary = f"it sends on to {headers['location']}, and redirects are not followed"
        words = f"HTTP {http_status}, not in TensorFlow Serving's form{f': {summary}' if summary else ''}"
    return error_of_code(CODES_OF_HTTP.get(http_status, StatusCode.UNKNOWN), words, http_status)


def _path(target: Target) -> str:
    path = f"/v1/models/{urllib.parse.quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    if target.label is not None:
        return f"{path}/labels/{urllib.parse.quote(target.label, safe='')}"
    return path


def _dump(value: Any) -> bytes:
    is_number = isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")
    is_finite = not is_number or bool(np.isfinite(value).all())
    if orjson is not None and is_finite:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    # TensorFlow Serving reads the bare NaN and Infinity that Python writes.
    return json.dumps(value, separators=(",", ":"), default=np.ndarray.tolist).encode()


def _load(body: bytes) -> Any:
    try:
        if orjson is not None:
            try:
                return orjson.loads(body)
            except orjson.JSONDecodeError:
                # Not strict JSON: NaN and infinities are written bare, and strings may not be UTF-8.
                pass
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidResponseError(f"the answer is not JSON: {error}") from error


def _to_json(array: npt.NDArray[Any], name: str) -> Iterator[bytes]:
    """Yields pieces of an array's JSON."""
    if array.dtype.kind == "O":
        yield from _strings_to_json(array.tolist())
        return
    if array.dtype.kind == "c" or array.dtype == np.float16:
        raise errors.InvalidRequestError(
            f"input {name!r}: {array.dtype} has no form in JSON", hint="use the server's grpc:// address"
        )
    if not array.ndim:  # which NumPy would make a row
        yield _dump(array.item())
        return
    yield _dump(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _strings_to_json(value: Any) -> Iterator[bytes]:
    """Yields pieces of the JSON of nested lists of bytes, each of which is an object with the one key "b64"."""
    if not isinstance(value, list):
        yield from (b'{"b64":"', b64encode(value), b'"}')
        return
    yield b"["
    for index, element in enumerate(value):
        yield b"," if index else b""
        yield from _strings_to_json(element)
    yield b"]"


def _map_nested(value: Any, function: Any) -> Any:
    return [_map_nested(element, function) for element in value] if isinstance(value, list) else function(value)


def _outputs(call: PredictCall, answer: Any) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(answer, dict) or "outputs" not in answer:
        raise errors.InvalidResponseError("the answer holds no outputs")
    found = answer["outputs"]
    specs = call.signature.outputs
    # A lone output comes without its name.
    if len(specs) == 1:
        found = {next(iter(specs)): found}
    if not isinstance(found, Mapping) or set(found) != set(specs):
        raise errors.InvalidResponseError(
            f"the answer's outputs are not those of signature {call.signature.name!r}: {', '.join(specs)}"
        )
    wanted = call.outputs or tuple(specs)
    return {name: _from_json(found[name], specs[name], name) for name in wanted}


def _from_json(value: Any, spec: TensorSpec, name: str) -> npt.NDArray[Any]:
    try:
        if spec.data_type == "DT_STRING":
            array = tensors.as_array(_map_nested(value, _string_from_json))
            array = array if array.size else array.astype(object)
        else:
            with np.errstate(over="raise"):
                array = np.array(value, dtype=spec.dtype)
        return with_known_rank(array, spec)
    except (ValueError, TypeError, KeyError, OverflowError, FloatingPointError, RecursionError) as error:
        raise errors.InvalidResponseError(f"output {name!r} is not {spec}: {error}") from error


def _string_from_json(value: Any) -> bytes:
    if isinstance(value, dict):
        return b64decode(value["b64"], validate=True)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a string")
    return value.encode("utf-8", "surrogatepass")
