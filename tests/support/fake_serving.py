"""A small server with TensorFlow Serving's two faces, for tests of the client.

The model is plain NumPy and Pillow; the messages are the official ones. `behaviours` is a list of functions
that each take one call in place of the model: they raise `RefusedError`, sleep, or return outputs that are wrong.
"""

import base64
import contextlib
import io
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import grpc
import numpy as np
from PIL import Image, ImageOps
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

FLOAT, UINT8, STRING = "DT_FLOAT", "DT_UINT8", "DT_STRING"
_DATA_TYPES = {FLOAT: 1, UINT8: 4, STRING: 7}
_HTTP_STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


class RefusedError(Exception):
    """Ends a call with a gRPC code, or what TensorFlow Serving makes of it over HTTP."""

    def __init__(self, code: str, words: str = "refused", http_status: int | None = None):
        super().__init__(words)
        self.code = code
        self.words = words
        self.http_status = http_status or _HTTP_STATUSES.get(code, 500)


def _jpeg(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=97)
    return file.getvalue()


def _png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def probability_of(picture):
    """The fake model: the probability of a pixel is its mean brightness."""
    array = np.asarray(picture, dtype=np.float32) / 255
    return array if array.ndim == 2 else array[:, :, :3].mean(axis=2)


class FakeModel:
    """Masks what is brighter than the threshold; `threshold` is the one it was "exported" with."""

    threshold = 0.5
    signatures: ClassVar = {
        "mask_png": (
            {"image_bytes": (STRING, [-1])},
            {"mask_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "mask_png_at_threshold": (
            {"image_bytes": (STRING, [-1]), "threshold": (FLOAT, [-1])},
            {"mask_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "masked_image_png": (
            {"image_bytes": (STRING, [-1])},
            {"masked_image_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "masked_image_png_at_threshold": (
            {"image_bytes": (STRING, [-1]), "threshold": (FLOAT, [-1])},
            {"masked_image_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "masked_image_jpeg": (
            {"image_bytes": (STRING, [-1])},
            {"masked_image_jpeg_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "probability_png": (
            {"image_bytes": (STRING, [-1])},
            {"probability_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "class_map_png": (
            {"image_bytes": (STRING, [-1])},
            {"class_map_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "mask": ({"image": (UINT8, [-1, -1, -1, 3])}, {"mask": (FLOAT, [-1, -1, -1, 1])}),
        "export_info": ({"query": (STRING, [-1])}, {"info": (STRING, [-1])}),
        "double": ({"x": (FLOAT, [-1])}, {"y": (FLOAT, [-1]), "name_bytes": (STRING, [-1])}),
    }
    info: ClassVar = {"classes": ["dark", "bright"], "threshold": 0.5}

    def predict(self, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if signature == "export_info":
            return {"info": [json.dumps(self.info).encode()] * len(inputs["query"])}
        if signature == "double":
            return {
                "y": np.asarray(inputs["x"], np.float32) * 2,
                "name_bytes": [bytes([int(x)]) for x in inputs["x"]],
            }
        if signature == "mask":
            means = np.asarray(inputs["image"], np.float32).mean(axis=3, keepdims=True) / 255
            return {"mask": (means > self.threshold).astype(np.float32)}
        product = re.sub("_png.*", "", signature)
        count = len(inputs["image_bytes"])
        thresholds = np.asarray(inputs.get("threshold", [self.threshold] * count), np.float32)
        assert len(thresholds) == count
        files, errors = [], []
        for data, threshold in zip(inputs["image_bytes"], thresholds, strict=True):
            try:
                picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
                array = self._product(product, picture, threshold)
                files.append(_jpeg(array) if product == "masked_image_jpeg" else _png(array))
                errors.append(b"")
            except OSError:
                files.append(b"")
                errors.append(b"cannot be decoded" if len(data) > 4 else b"unknown format")
        return {f"{product}_bytes": files, "error": errors}

    def _product(self, product, picture, threshold):
        probability = probability_of(picture)
        mask = probability > threshold
        if product == "mask":
            return mask.astype(np.uint8) * 255
        if product == "probability":
            return np.rint(probability * 65535).astype(np.uint16)
        if product == "class_map":
            return (probability > 0.5).astype(np.uint8)
        array = np.asarray(picture)
        return array * (mask if array.ndim == 2 else mask[:, :, None])


class FakeServing:
    """Serves one `FakeModel` as `model` over gRPC and REST on free ports, until closed."""

    def __init__(self, model: FakeModel | None = None, *, grpc_address: str = "127.0.0.1:0", tls=None):
        self.model = model or FakeModel()
        self.version = 7
        self.statuses = [(7, 30, 0, "")]
        self.most_at_once = 0
        self.grpc_threads: int | None = None  # calls beyond are refused before anything, as by gRPC's C++ server
        self.refusal = "Server Threadpool Exhausted"
        self._at_once = 0
        self.behaviours: list[Callable[[str, dict[str, Any]], Any]] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.reloads: list[Any] = []
        self._lock = threading.Lock()
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(32),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        self._grpc.add_generic_rpc_handlers((_GrpcFace(self),))
        if tls is None:
            self.grpc_port = self._grpc.add_insecure_port(grpc_address)
        else:
            self.grpc_port = self._grpc.add_secure_port(grpc_address, tls)
        if not self.grpc_port:
            raise OSError(f"cannot listen on {grpc_address}")
        self._grpc.start()
        self._http = _HttpServer(("127.0.0.1", 0), _rest_face(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    grpc_address = property(lambda self: f"grpc://127.0.0.1:{self.grpc_port}")
    rest_address = property(lambda self: f"http://127.0.0.1:{self._http.server_address[1]}")

    def address(self, transport: str) -> str:
        return self.grpc_address if transport == "grpc" else self.rest_address

    def wrap_tls(self, context) -> None:
        """Makes the REST face speak TLS."""
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def close(self) -> None:
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @contextlib.contextmanager
    def grpc_thread(self):
        """Holds one of the threads that there are."""
        with self._lock:
            if self.grpc_threads is not None and self._at_once >= self.grpc_threads:
                raise RefusedError("RESOURCE_EXHAUSTED", self.refusal)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    # ---- what both faces do ----

    def note(self, method: str, headers: dict[str, str]) -> None:
        with self._lock:
            self.calls.append((method, headers))

    def check_target(self, name: str, version: int | None) -> None:
        if name != "model":
            raise RefusedError("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if version not in (None, self.version):
            raise RefusedError("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")

    def predict(self, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.requests.append((signature, inputs))
            behaviour = self.behaviours.pop(0) if self.behaviours else None
        if behaviour is not None:
            outputs = behaviour(signature, inputs)
            if outputs is not None:
                return outputs
        if signature not in self.model.signatures:
            raise RefusedError("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        return self.model.predict(signature, inputs)


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that leaves early is what some tests are about


class _GrpcFace(grpc.GenericRpcHandler):
    def __init__(self, serving: FakeServing):
        self._serving = serving

    def service(self, details):
        methods = {
            "/tensorflow.serving.PredictionService/Predict": (predict_pb2.PredictRequest, self._predict),
            "/tensorflow.serving.PredictionService/GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                self._metadata,
            ),
            "/tensorflow.serving.ModelService/GetModelStatus": (
                get_model_status_pb2.GetModelStatusRequest,
                self._status,
            ),
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest": (
                model_management_pb2.ReloadConfigRequest,
                self._reload,
            ),
        }
        if details.method not in methods:
            return None
        request_class, handle = methods[details.method]

        def answer(request, context):
            headers = dict(context.invocation_metadata())
            try:
                with self._serving.grpc_thread():
                    self._serving.note(details.method.rpartition("/")[2], headers)
                    return handle(request)
            except RefusedError as refusal:
                context.abort(getattr(grpc.StatusCode, refusal.code), refusal.words)

        return grpc.unary_unary_rpc_method_handler(
            answer, request_class.FromString, lambda message: message.SerializeToString()
        )

    def _check(self, spec):
        self._serving.check_target(spec.name, spec.version.value if spec.HasField("version") else None)
        if spec.version_label not in ("", "stable"):
            raise RefusedError("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")

    def _predict(self, request):
        self._check(request.model_spec)
        inputs = {name: make_ndarray(tensor) for name, tensor in request.inputs.items()}
        signature = request.model_spec.signature_name or "serving_default"
        outputs = self._serving.predict(signature, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self._serving.version
        for name, value in outputs.items():
            if not request.output_filter or name in request.output_filter:
                response.outputs[name].CopyFrom(make_tensor_proto(value))
        return response

    def _metadata(self, request):
        self._check(request.model_spec)
        table = get_model_metadata_pb2.SignatureDefMap()
        table.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "NoOp"
        for name, (inputs, outputs) in self._serving.model.signatures.items():
            signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
            for target, specs in ((signature.inputs, inputs), (signature.outputs, outputs)):
                for key, (data_type, shape) in specs.items():
                    target[key].dtype = _DATA_TYPES[data_type]
                    for size in shape:
                        target[key].tensor_shape.dim.add(size=size)
            table.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = "model"
        response.model_spec.version.value = self._serving.version
        response.metadata["signature_def"].Pack(table)
        return response

    def _status(self, request):
        if request.model_spec.name != "model":
            raise RefusedError("NOT_FOUND", f"Could not find any versions of model {request.model_spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state, code, words in self._serving.statuses:
            status = response.model_version_status.add(version=version, state=state)
            status.status.error_code = code
            status.status.error_message = words
        return response

    def _reload(self, request):
        self._serving.reloads.append(request)
        return model_management_pb2.ReloadConfigResponse()


def _rest_face(serving: FakeServing):
    class Face(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def log_message(self, *_):
            pass

        def do_GET(self):
            self._answer("")

        def do_POST(self):
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            self._answer(body)

        def _answer(self, body):
            headers = {key.lower(): value for key, value in self.headers.items()}
            try:
                answer, status = self._route(body, headers), 200
            except RefusedError as refusal:
                answer, status = {"error": refusal.words}, refusal.http_status
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _route(self, body, headers):
            match = re.fullmatch(
                r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)?", self.path
            )
            if match is None:
                raise RefusedError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
            name, version, label, verb = match.groups()
            name = urllib.parse.unquote(name)
            method = {None: "GetModelStatus", "/metadata": "GetModelMetadata"}.get(verb, "Predict")
            serving.note(method, headers)
            if method == "GetModelStatus":
                return self._status(name)
            serving.check_target(name, int(version) if version else None)
            if label not in (None, "stable"):
                raise RefusedError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            return self._metadata() if method == "GetModelMetadata" else self._predict(json.loads(body))

        def _status(self, name):
            if name != "model":
                raise RefusedError("NOT_FOUND", f"Could not find any versions of model {name}")
            states = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
            return {
                "model_version_status": [
                    {
                        "version": str(version),
                        "state": states[state],
                        "status": {"error_code": "OK" if not code else "UNKNOWN", "error_message": words},
                    }
                    for version, state, code, words in serving.statuses
                ]
            }

        def _metadata(self):
            def specs(entries):
                return {
                    key: {
                        "name": f"{key}:0",
                        "dtype": data_type,
                        "tensor_shape": {
                            "dim": [{"size": str(size), "name": ""} for size in shape],
                            "unknown_rank": False,
                        },
                    }
                    for key, (data_type, shape) in entries.items()
                }

            table = {
                name: {
                    "inputs": specs(inputs),
                    "outputs": specs(outputs),
                    "method_name": "tensorflow/serving/predict",
                    "defaults": {},
                }
                for name, (inputs, outputs) in serving.model.signatures.items()
            }
            table["__saved_model_init_op"] = {"inputs": {}, "outputs": {}, "method_name": "", "defaults": {}}
            return {
                "model_spec": {"name": "model", "version": str(serving.version), "signature_name": ""},
                "metadata": {"signature_def": {"signature_def": table}},
            }

        def _predict(self, request):
            def decode(value):
                if isinstance(value, dict):
                    return base64.b64decode(value["b64"])
                return [decode(element) for element in value] if isinstance(value, list) else value

            inputs = {name: decode(value) for name, value in request["inputs"].items()}
            outputs = serving.predict(request.get("signature_name", "serving_default"), inputs)

            def encode(name, value):
                if isinstance(value, bytes):
                    if name.endswith("_bytes"):
                        return {"b64": base64.b64encode(value).decode()}
                    return value.decode()
                if isinstance(value, list):
                    return [encode(name, element) for element in value]
                return value.tolist() if isinstance(value, np.ndarray | np.generic) else value

            answer = {name: encode(name, value) for name, value in outputs.items()}
            return {"outputs": answer if len(answer) > 1 else next(iter(answer.values()))}

    return Face


def slow(seconds: float) -> Callable[[str, dict[str, Any]], None]:
    """A behaviour: answers right, but late."""

    def behave(signature, inputs):
        time.sleep(seconds)

    return behave


def refuse(code: str, words: str = "refused", http_status: int | None = None):
    """A behaviour: refuses the call."""

    def behave(signature, inputs):
        raise RefusedError(code, words, http_status)

    return behave
