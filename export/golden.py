"""Golden requests (each with the answer it must get) and warm-up requests, as TensorFlow Serving's messages."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ..serving import contract
from ..serving.agreement import MIN_IOU, NEAR_THRESHOLD, Tolerance
from . import examples
from .spec import FULL_SCALE, ExportSpec

Tensors = dict[str, npt.NDArray[Any]]
SignatureFunction = Callable[..., Mapping[str, tf.Tensor]]

_GOLDEN_SIZES = ((64, 80), (61, 47))
_WARMUP_SIZE = (384, 512)
_SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Precision:
    """How far the same graph's answers may be apart on two processors.

    Attributes:
        probability: largest difference of a probability.
        overlap: smallest intersection over union of masks, and share of equal values of class maps.
    """

    probability: float = NEAR_THRESHOLD
    overlap: float = MIN_IOU


@dataclasses.dataclass(frozen=True)
class Golden:
    """A request with the answer it must get."""

    signature: contract.Signature
    request: predict_pb2.PredictRequest
    response: predict_pb2.PredictResponse
    tolerances: dict[str, Tolerance]


def make_goldens(
    functions: Mapping[str, SignatureFunction],
    references: Mapping[str, SignatureFunction],
    spec: ExportSpec,
    channels: int,
    precision: Precision,
) -> list[Golden]:
    """Runs a small request through each signature and records its answer.

    Args:
        functions: the signatures to record, by name.
        references: the `_at_threshold` ones (which `functions` need not hold), to find the pixels that are too
            near to the threshold to be held to.
        spec: of the export.
        channels: that the model takes.
        precision: of the answers.
    """
    goldens = []
    for name, function in functions.items():
        signature = contract.SIGNATURES[name]
        inputs = _golden_inputs(signature, spec, channels)
        outputs = run(function, signature, inputs)
        undecided = _undecided(signature, inputs, references, spec, precision)
        goldens.append(
            Golden(
                signature,
                _request(signature, inputs),
                _response(signature, outputs),
                {
                    output: _tolerance(
                        signature, output, undecided if output != contract.ERROR else None, spec, precision
                    )
                    for output in outputs
                },
            )
        )
    return goldens


def run(function: SignatureFunction, signature: contract.Signature, inputs: Tensors) -> Tensors:
    """Calls a signature with NumPy arrays and returns its outputs as such."""
    answers = function(**{name: tf.constant(inputs[name]) for name in signature.inputs})
    return {name: np.asarray(answers[name].numpy()) for name in signature.outputs}


def write_goldens(goldens: list[Golden], directory: Path) -> None:
    """Writes `NAME.pb` for each record and the index into a new directory."""
    directory.mkdir()
    records = []
    for golden in goldens:
        file = f"{golden.signature.name}.pb"
        log = prediction_log_pb2.PredictLog(request=golden.request, response=golden.response)
        (directory / file).write_bytes(log.SerializeToString(deterministic=True))
        tolerances = {output: tolerance.to_json() for output, tolerance in golden.tolerances.items()}
        records.append({"file": file, "signature": golden.signature.name, "outputs": tolerances})
    index = {"schema_version": _SCHEMA_VERSION, "records": records}
    (directory / contract.GOLDEN_INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def read_goldens(directory: Path) -> list[Golden]:
    """Reads what `write_goldens` wrote."""
    index = json.loads((directory / contract.GOLDEN_INDEX_FILE).read_text(encoding="utf-8"))
    goldens = []
    for record in index["records"]:
        log = prediction_log_pb2.PredictLog.FromString((directory / record["file"]).read_bytes())
        tolerances = {name: Tolerance.from_json(fields) for name, fields in record["outputs"].items()}
        signature = contract.SIGNATURES[record["signature"]]
        goldens.append(Golden(signature, log.request, log.response, tolerances))
    return goldens


def tensors_of(message: predict_pb2.PredictRequest | predict_pb2.PredictResponse) -> Tensors:
    """Returns a request's inputs or a response's outputs as NumPy arrays."""
    named = message.inputs if isinstance(message, predict_pb2.PredictRequest) else message.outputs
    return {name: tf.make_ndarray(tensor) for name, tensor in named.items()}


def write_warmup(signatures: list[str], spec: ExportSpec, channels: int, size: Any, path: Path) -> None:
    """Writes one request for each signature, of a real picture's size, as TensorFlow Serving replays them.

    Args:
        signatures: names.
        spec: of the export.
        channels: that the model takes.
        size: (height, width) that the model runs at, or None.
        path: of the TFRecord file.
    """
    height, width = size or _WARMUP_SIZE
    picture = examples.draw_picture(height, width)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in signatures:
            signature = contract.SIGNATURES[name]
            inputs = _inputs(signature, [picture], [examples.encode(picture, spec.formats[0])], spec, channels)
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=_request(signature, inputs))
            )
            writer.write(log.SerializeToString())


def _golden_inputs(signature: contract.Signature, spec: ExportSpec, channels: int) -> Tensors:
    pictures = [examples.draw_picture(*size, seed=seed) for seed, size in enumerate(_GOLDEN_SIZES)]
    if not signature.is_encoded:
        # One batch of pixels has one size.
        pictures = [examples.draw_picture(*_GOLDEN_SIZES[0], seed=seed) for seed in range(2)]
    files = [
        examples.encode(picture, spec.formats[position % len(spec.formats)])
        for position, picture in enumerate(pictures)
    ]
    if spec.bad_image == "report":
        files.append(b"")  # a bad one, to see that it is reported in its own place
    return _inputs(signature, pictures, files, spec, channels)


def _inputs(
    signature: contract.Signature,
    pictures: list[npt.NDArray[np.uint8]],
    files: list[bytes],
    spec: ExportSpec,
    channels: int,
) -> Tensors:
    count = len(files) if signature.is_encoded else len(pictures)
    makers: dict[str, Callable[[], npt.NDArray[Any]]] = {
        contract.IMAGE: lambda: np.stack(
            [examples.as_pixels(picture, channels, spec.image_dtype, spec.full_scale) for picture in pictures]
        ),
        contract.IMAGE_BYTES: lambda: np.array(files, object),
        contract.THRESHOLD: lambda: np.full(count, spec.threshold, np.float32),
        contract.QUERY: lambda: np.array([b""], object),
    }
    return {name: makers[name]() for name in signature.inputs}


def _request(signature: contract.Signature, inputs: Tensors) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature.name
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _response(signature: contract.Signature, outputs: Tensors) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    response.model_spec.signature_name = signature.name
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def _undecided(
    signature: contract.Signature,
    inputs: Tensors,
    references: Mapping[str, SignatureFunction],
    spec: ExportSpec,
    precision: Precision,
) -> npt.NDArray[np.bool_] | None:
    """Finds the values that another processor may see on the other side of the threshold."""
    if signature.product not in contract.THRESHOLDED_PRODUCTS or (
        spec.edge == "soft" and signature.product != contract.MASK
    ):
        return None
    name = contract.signature_name(signature.product, encoded=signature.is_encoded, at_threshold=True)
    reference = contract.SIGNATURES[name]
    answers = []
    for threshold in (spec.threshold - precision.probability, spec.threshold + precision.probability):
        count = len(next(iter(inputs.values())))
        value = np.full(count, np.clip(threshold, 0, 1), np.float32)
        answers.append(run(references[name], reference, {**inputs, contract.THRESHOLD: value})[reference.outputs[0]])
    if not signature.is_encoded:
        return np.asarray(answers[0] != answers[1]).ravel()
    pixels = [
        np.concatenate([tf.io.decode_png(file, dtype=tf.uint16).numpy().ravel() for file in answer if file])
        for answer in answers
    ]
    return np.asarray(pixels[0] != pixels[1])


def _tolerance(
    signature: contract.Signature,
    output: str,
    undecided: npt.NDArray[np.bool_] | None,
    spec: ExportSpec,
    precision: Precision,
) -> Tolerance:
    if output in (contract.ERROR, contract.INFO):
        return Tolerance()
    is_png = signature.is_encoded
    if signature.product == contract.MASK:
        return Tolerance(undecided=undecided, min_overlap=precision.overlap, is_mask=True, is_png=is_png)
    if signature.product == contract.CLASS_MAP:
        # Where two classes are nearly as probable, another processor may choose the other.
        return Tolerance(atol=float("inf"), min_overlap=precision.overlap, is_png=is_png)
    if signature.product == contract.PROBABILITY:
        return Tolerance(atol=precision.probability * (FULL_SCALE["uint16"] if is_png else 1.0), is_png=is_png)
    if spec.edge == "soft":
        scale = FULL_SCALE["uint8"] if is_png and not spec.decodes_16_bits else spec.full_scale
        return Tolerance(atol=precision.probability * scale + 1.0, is_png=is_png)
    return Tolerance(undecided=undecided, is_png=is_png)
