"""Clients such as people write without maskport: float tensors there and back, the mask made by NumPy."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from .models import NAIVE_INPUT, NAIVE_OUTPUT, Subject
from .servers import Served

_THRESHOLD = 0.5
_MULTIPLE = 16
_WHITE = 255
_TIMEOUT_S = 120

Floats = npt.NDArray[np.float32]
Mask = Callable[[bytes], npt.NDArray[np.bool_]]
"""From a JPEG file to its mask, [H, W]."""


def _client(subject: Subject, ask: Callable[[Floats], Floats]) -> Mask:
    """Returns a client, given what answers floats [1, H, W, C] with probabilities [1, H, W, 1]."""

    def mask(jpeg: bytes) -> npt.NDArray[np.bool_]:
        picture = Image.open(io.BytesIO(jpeg)).convert("L" if subject.channels == 1 else "RGB")
        edge = subject.edge
        resized = picture if edge is None else picture.resize((edge, edge), Image.Resampling.BILINEAR)
        image = np.asarray(resized, np.float32).reshape(resized.height, resized.width, -1) / 255
        if edge is None:
            image = np.pad(image, [(0, -length % _MULTIPLE) for length in image.shape[:2]] + [(0, 0)], "edge")
        probability = ask(image[np.newaxis])[0, :, :, 0]
        if edge is None:
            probability = probability[: picture.height, : picture.width]
        elif picture.size != (edge, edge):
            probability = np.asarray(Image.fromarray(probability).resize(picture.size, Image.Resampling.BILINEAR))
        return probability > _THRESHOLD

    return mask


def drafting_client(
    subject: Subject, ask: Callable[[Floats], Floats], *, enlarges_bytes: bool, leaves: int = 1
) -> Mask:
    """Returns a client for large pictures, which has Pillow decode them at a smaller scale; see `_client`.

    Pillow leaves at least `leaves` times the model's edge. What is answered is enlarged as floats, or as bytes, which
    is faster.
    """

    def mask(jpeg: bytes) -> npt.NDArray[np.bool_]:
        picture = Image.open(io.BytesIO(jpeg))
        size, edge = picture.size, subject.edge or 0
        picture.draft("RGB", (leaves * edge, leaves * edge))
        image = np.asarray(picture.resize((edge, edge), Image.Resampling.BILINEAR), np.float32) / _WHITE
        probability = ask(image[np.newaxis])[0, :, :, 0]
        if enlarges_bytes:
            small = Image.fromarray(np.rint(probability * _WHITE).astype(np.uint8))
            return np.asarray(small.resize(size, Image.Resampling.BILINEAR)) > _THRESHOLD * _WHITE
        return np.asarray(Image.fromarray(probability).resize(size, Image.Resampling.BILINEAR)) > _THRESHOLD

    return mask


@contextlib.contextmanager
def floats_over_grpc(served: Served, subject: Subject) -> Iterator[Callable[[Floats], Floats]]:
    """Yields what answers floats, over gRPC with the official stubs."""
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}", limits) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask(images: Floats) -> Floats:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = subject.naive_name
            request.inputs[NAIVE_INPUT].CopyFrom(tf.make_tensor_proto(images))
            return tf.make_ndarray(stub.Predict(request, timeout=_TIMEOUT_S).outputs[NAIVE_OUTPUT])

        yield ask


@contextlib.contextmanager
def naive_grpc(served: Served, subject: Subject) -> Iterator[Mask]:
    """Over gRPC."""
    with floats_over_grpc(served, subject) as ask:
        yield _client(subject, ask)


@contextlib.contextmanager
def naive_rest(served: Served, subject: Subject) -> Iterator[Mask]:
    """Over REST, with JSON lists of numbers."""
    with httpx.Client(base_url=served.rest, timeout=_TIMEOUT_S) as client:

        def ask(images: Floats) -> Floats:
            body = json.dumps({"instances": images.tolist()})
            answer = client.post(f"/v1/models/{subject.naive_name}:predict", content=body).raise_for_status()
            return np.array(json.loads(answer.text)["predictions"], np.float32)

        yield _client(subject, ask)
