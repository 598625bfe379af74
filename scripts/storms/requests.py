"""Requests that no friend sends: messages, JSON, HTTP and connections, each made from a number."""

import base64
import contextlib
import gzip
import json
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from maskport.serving.wire.messages import DataType, PredictRequest

from . import pictures
from .mutation import mutated

MODEL = "storm"
TIMEOUT_S = 120.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METHODS = (
    PREDICT,
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/Regress",
    "/tensorflow.serving.PredictionService/MultiInference",
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/tensorflow.serving.ModelService/GetModelStatus",
    "/tensorflow.serving.PredictionService/Nothing",
)
NAMES = (
    "../../etc/passwd", "/etc/passwd", "..", "", "storm/1", "storm/../storm", "%2e%2e%2f", "..\\storm", "storm\0",
    "$HOME", "storm:predict", "x" * 3000, "\N{FULLWIDTH LATIN SMALL LETTER S}torm", "\ud83d", "*",
)  # fmt: skip
SIGNATURES = (
    "mask_png",
    "mask",
    "probability_png",
    "export_info",
    "serving_default",
    "none",
    "",
    "__saved_model_init_op",
)
_DEFECTS = ("Exception calling application", "Exception serializing", "Traceback")


class DefectError(Exception):
    """The server did what it never should."""


def predict(signature: str, **tensors: Any) -> PredictRequest:
    """Returns a request; a tensor is a list of bytes, or an array."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    for name, value in tensors.items():
        tensor = request.inputs[name]
        if isinstance(value, np.ndarray):
            tensor.dtype = DataType.Value("DT_UINT8" if value.dtype == np.uint8 else "DT_FLOAT")
            tensor.tensor_content = value.tobytes()
            shape = value.shape
        else:
            tensor.dtype = DataType.Value("DT_STRING")
            tensor.string_val.extend(value)
            shape = (len(value),)
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    return request


class Caller:
    """Sends requests to one server, and sees to it that their answers are ones that a server may give."""

    def __init__(self, host: str, grpc_port: int, rest_port: int):
        self.rest = (host, rest_port)
        self._grpc = (host, grpc_port)
        self.channel = grpc.insecure_channel(
            f"{host}:{grpc_port}", [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        )

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    def call(self, method: str, message: bytes) -> bytes | None:
        """Returns the answer's bytes; None where the request was refused, which must be in a way that is meant."""
        try:
            answer: bytes = self.channel.unary_unary(method)(message, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            code, words = error.code(), error.details() or ""
            if any(one in words for one in _DEFECTS) or code in (
                grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE,
            ):  # fmt: skip
                raise DefectError(f"{method} ended with {code.name}: {words[:200]}") from error
            return None
        return answer

    def raw(self, sent: bytes, *, half_closed: bool = False) -> bytes:
        """Returns what REST answers to some bytes, until it closes the connection."""
        with socket.create_connection(self.rest, TIMEOUT_S) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
                if half_closed:
                    with contextlib.suppress(OSError):  # it has been closed meanwhile
                        connection.shutdown(socket.SHUT_WR)
            parts = []
            try:
                while part := connection.recv(1 << 16):
                    parts.append(part)
            except ConnectionError:
                pass
            except TimeoutError as error:
                raise DefectError(f"REST neither answered nor closed the connection after {sent[:80]!r}") from error
        answer = b"".join(parts)
        if answer.startswith(b"HTTP/1.1 500"):
            raise DefectError(f"REST answered {answer[:300]!r} to {sent[:200]!r}")
        return answer

    def post(self, path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
        """Returns what REST answers to a request, whole."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode("utf-8", "surrogatepass")
        return self.raw(head + b"\r\n\r\n" + body)

    def stranger(self, sent: bytes) -> None:
        """Sends the gRPC port bytes that it should not understand, and goes."""
        with contextlib.suppress(OSError), socket.create_connection(self._grpc, TIMEOUT_S) as connection:
            connection.sendall(sent)
            connection.settimeout(0.05)
            connection.recv(1 << 12)


def _good_request(chance: random.Random) -> PredictRequest:
    signature = chance.choice(("mask_png", "probability_png", "mask", "export_info"))
    if signature == "mask":
        return predict(signature, image=np.zeros((1, 4, 5, 3), np.uint8))
    if signature == "export_info":
        return predict(signature, query=[b"info"])
    return predict(signature, image_bytes=[pictures.bases()["rgb.png"]])


def malformed_message(caller: Caller, chance: random.Random) -> None:
    """Sends a message with some bytes changed, or of no form at all, to any method."""
    data = _good_request(chance).SerializeToString()
    data = chance.randbytes(chance.choice((0, 1, 10, 300))) if chance.random() < 0.2 else mutated(chance, data)
    caller.call(chance.choice(METHODS), data)


def odd_tensor(caller: Caller, chance: random.Random) -> None:
    """Sends tensors of wrong types and shapes, with sizes that nothing stands behind, and names of others."""
    request = _good_request(chance)
    for tensor in request.inputs.values():
        for _ in range(chance.randrange(1, 4)):
            kind = chance.randrange(6)
            if kind == 0:
                tensor.dtype = chance.choice(DataType.values())
            elif kind == 1:
                tensor.ClearField("tensor_shape")
                for _ in range(chance.choice((0, 1, 2, 4, 5, 70, 300))):
                    tensor.tensor_shape.dim.add(size=chance.choice((0, 1, 3, -1, 60_000, 2**31, 2**62)))
            elif kind == 2:
                tensor.ClearField("tensor_content")
                tensor.float_val.extend([1.0] * chance.choice((0, 1, 3)))
            elif kind == 3:
                tensor.tensor_content = chance.randbytes(chance.choice((0, 1, 7, 60)))
            elif kind == 4:
                tensor.string_val.extend([b"", chance.randbytes(9)])
            else:
                tensor.tensor_shape.unknown_rank = True
    if chance.random() < 0.3:
        request.inputs[chance.choice(NAMES[:-2])].CopyFrom(next(iter(request.inputs.values())))
    if chance.random() < 0.3:
        request.output_filter.extend(chance.choices(("mask", "mask_bytes", "error", "none", ""), k=3))
    caller.call(PREDICT, request.SerializeToString())


def odd_name(caller: Caller, chance: random.Random) -> None:
    """Asks for models, versions, labels and signatures whose names would be paths elsewhere."""
    name = chance.choice(NAMES)
    request = _good_request(chance)
    field = chance.choice(("name", "signature_name", "version_label"))
    text = name.encode("utf-8", "replace").decode()
    setattr(request.model_spec, field, text)
    caller.call(PREDICT, request.SerializeToString())
    path = chance.choice(
        ("/v1/models/{}", "/v1/models/{}/metadata", "/v1/models/storm/labels/{}", "/{}", "{}", "/v1/models/{}:predict")
    )
    method = chance.choice(("GET", "POST", "HEAD", "OPTIONS", "DELETE", "BREW"))
    caller.post(path.format(name.replace("\0", "%00").replace(" ", "%20")), b"{}", method=method)


def odd_json(caller: Caller, chance: random.Random) -> None:
    """Sends JSON that is deep, wide, of other types, with other numbers, or that is none."""
    encoded = base64.b64encode(pictures.bases()["rgb.png"]).decode()
    image: Any = [[[0, 0, 0]]]
    deep = chance.choice((50, 500, 1100, 20_000))
    values: list[Callable[[], Any]] = [
        lambda: {"signature_name": "mask_png", "instances": [{"b64": encoded}]},
        lambda: {"signature_name": "mask", "instances": [image]},
        lambda: {"signature_name": "mask", "instances": [[[0]], [[[1.5, 2, 3]]]]},
        lambda: {"signature_name": "mask", "inputs": {"image": [image, image]}},
        lambda: {
            "signature_name": chance.choice(SIGNATURES),
            "instances": chance.choice(([], [None], [{}], {}, "x", 7)),
        },
        lambda: {"signature_name": 7, "instances": [1]},
        lambda: {"instances": [{"b64": chance.choice(("", "====", "\ud800", encoded[:-3], {"b64": "x"}))}]},
        lambda: {"inputs": chance.choice((None, True, 1e300, "x", [[]], {"image": {"b64": encoded}}))},
        lambda: {"signature_name": "mask", "instances": [[[[float("nan"), 1e30, -1]]]]},
    ]
    text = json.dumps(chance.choice(values)()).encode()
    kind = chance.randrange(6)
    if kind == 0:
        text = mutated(chance, text)
    elif kind == 1:
        text = b'{"instances":' + b"[" * deep + b"]" * chance.choice((deep, 0)) + b"}"
    elif kind == 2:
        text = b'{"a":' * deep + b"1" + b"}" * deep
    elif kind == 3:
        text = text.replace(b"0", chance.choice((b"1e999", b"-0", b"9" * 400, b"0x1", b"NaN", b"1" * 5000)), 3)
    headers = []
    if chance.random() < 0.2:
        headers.append("Content-Encoding: gzip")
        packed = gzip.compress(chance.choice((text, bytes(5_000_000))))
        text = chance.choice((packed, packed[:-5], packed + b"x", text))
    verb = chance.choice(("predict", "predict", "predict", "classify", "regress", "nothing"))
    caller.post(f"/v1/models/{MODEL}:{verb}", text, *headers)


def odd_http(caller: Caller, chance: random.Random) -> None:
    """Sends HTTP that is none, too much of it, or half of it."""
    get = f"GET /v1/models/{MODEL} HTTP/1.1\r\nHost: localhost\r\n".encode()
    close = b"Connection: close\r\n\r\n"
    sent = chance.choice((
        chance.randbytes(200) + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(100) + b"\r\n\r\n",
        get + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 50) for number in range(chance.choice((50, 3000)))) + close,
        get + b"X: " + b"y" * chance.choice((1000, 200_000)) + b"\r\n" + close,
        get + b"Host: other\r\n" + close,
        b"GET /v1/models/storm HTTP/1.1\r\nHost: evil.example\r\n" + close,
        get + b"Content-Length: -1\r\n" + close,
        get + b"Content-Length: 5\r\nContent-Length: 6\r\n" + close,
        get + b"Content-Length: 99999999999999999999\r\n" + close,
        get + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n" + close + b"zz\r\n\r\n",
        get + b"Transfer-Encoding: chunked\r\n" + close + b"ffffffffffffffff\r\n",
        get + b"Transfer-Encoding: gzip\r\n" + close,
        get + b"Expect: 100-continue\r\nContent-Length: 0\r\n" + close,
        get + b"Upgrade: websocket\r\n" + close,
        (get + b"\r\n") * 30 + get + close,
        mutated(chance, get + close) + b"\r\n\r\n",
        get[: chance.randrange(len(get))],
    ))  # fmt: skip
    # Who never ends a request would be waited for: half-closed, its end is seen.
    caller.raw(sent, half_closed=True)
    if chance.random() < 0.3:
        caller.stranger(
            chance.choice((sent, chance.randbytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chance.randbytes(100)))
        )


def slow_sender(caller: Caller, chance: random.Random) -> None:
    """Begins a request, sends the rest a little at a time, and leaves, or is answered."""
    host, port = caller.rest
    # Pixels would meet those of other sizes in a batch, which fail together, as in TensorFlow Serving.
    encoded = base64.b64encode(pictures.bases()["gray.png"])
    body = b'{"signature_name":"mask_png","instances":[{"b64":"%s"}]}' % encoded
    head = b"POST /v1/models/storm:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with contextlib.suppress(ConnectionError), socket.create_connection((host, port), TIMEOUT_S) as connection:
        cuts = sorted(chance.sample(range(len(whole)), 5))
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            connection.sendall(whole[start:end])
            time.sleep(0.01)
            if chance.random() < 0.1:
                return
        answer = connection.recv(1 << 12)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise DefectError(f"a slow request was answered by {answer[-200:]!r}")


KINDS: dict[Callable[[Caller, random.Random], None], int] = {
    malformed_message: 15,
    odd_tensor: 15,
    odd_name: 8,
    odd_json: 15,
    odd_http: 6,
    slow_sender: 1,
}
"""What a storm is made of, beside pictures, and how much of each."""
