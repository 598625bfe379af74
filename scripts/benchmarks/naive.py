"""Clients such as people write without maskport: float tensors there and back, the mask made by NumPy."""

import abc
import io
import json
from types import TracebackType
from typing import Self

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
_TIMEOUT_S = 120


class _NaiveClient(abc.ABC):
    """Turns a JPEG file into what the model takes, and what it answers into a mask at the picture's size."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    def mask(self, jpeg: bytes) -> npt.NDArray[np.bool_]:
        """Returns the mask, [H, W]."""
        picture = Image.open(io.BytesIO(jpeg)).convert("L" if self._subject.channels == 1 else "RGB")
        edge = self._subject.edge
        resized = picture if edge is None else picture.resize((edge, edge), Image.Resampling.BILINEAR)
        image = np.asarray(resized, np.float32).reshape(resized.height, resized.width, -1) / 255
        if edge is None:
            image = np.pad(image, [(0, -length % _MULTIPLE) for length in image.shape[:2]] + [(0, 0)], "edge")
        probability = self._ask(image[np.newaxis])[0, :, :, 0]
        if edge is None:
            probability = probability[: picture.height, : picture.width]
        elif picture.size != (edge, edge):
            probability = np.asarray(Image.fromarray(probability).resize(picture.size, Image.Resampling.BILINEAR))
        return probability > _THRESHOLD

    @abc.abstractmethod
    def _ask(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the probabilities, [1, H, W, 1]."""


class NaiveGrpc(_NaiveClient):
    """Over gRPC, with the official stubs."""

    def __init__(self, served: Served, subject: Subject) -> None:
        super().__init__(subject)
        limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}", limits)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _ask(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._subject.naive_name
        request.inputs[NAIVE_INPUT].CopyFrom(tf.make_tensor_proto(images))
        return tf.make_ndarray(self._stub.Predict(request, timeout=_TIMEOUT_S).outputs[NAIVE_OUTPUT])


class NaiveRest(_NaiveClient):
    """Over REST, with JSON lists of numbers."""

    def __init__(self, served: Served, subject: Subject) -> None:
        super().__init__(subject)
        self._client = httpx.Client(base_url=served.rest, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _ask(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        body = json.dumps({"instances": images.tolist()})
        answer = self._client.post(f"/v1/models/{self._subject.naive_name}:predict", content=body)
        answer.raise_for_status()
        return np.array(json.loads(answer.text)["predictions"], np.float32)
