"""Golden requests (each with the answer it must get) and warm-up requests, as TensorFlow Serving's messages."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ...serving import contract
from ...serving.agreement import Tolerance, decode_file
from ..model import examples
from ..spec import FULL_SCALE, ExportSpec

if TYPE_CHECKING:  # the process that checks what was saved replays goldens, and has no Keras
    from ..graph.module import MaskModule

Tensors = dict[str, npt.NDArray[Any]]
SignatureFunction = Callable[..., Mapping[str, tf.Tensor]]

_GOLDEN_SIZES = ((64, 80), (61, 47))
_WARMUP_SIZE = (384, 512)
_SCHEMA_VERSION = 2

_JPEG_BLOCK, _JPEG_REACH = 16, 2
"""Pixels along a block that is encoded together, and how far beyond it its colours reach."""
_JPEG_COARSEST = 121.0
"""The coarsest step of brightness at quality 50 (ITU-T T.81, table K.1)."""


class Sample(NamedTuple):
    """Pictures of the golden requests, as the model gets them; or one of them, in each way that it is decoded."""

    model_input: npt.NDArray[np.float32]  # float32 [B, h, w, C]
    size: tuple[int, int]  # height and width of the pictures themselves
    is_encoded: bool  # whether they are of the encoded signatures


class Undecided(NamedTuple):
    """Where an answer may be another one on another processor: bool, one for each pixel of the golden pictures."""

    foreground: npt.NDArray[np.bool_]  # the probability is too near to the threshold
    classes: npt.NDArray[np.bool_]  # two classes are too nearly as probable
    opacity: npt.NDArray[np.bool_]  # with soft edges, the probability is too near to where a cut-out begins to show


@dataclasses.dataclass(frozen=True)
class Golden:
    """A request with the answer it must get."""

    signature: contract.Signature
    request: predict_pb2.PredictRequest
    response: predict_pb2.PredictResponse
    tolerances: dict[str, Tolerance]


def make_samples(module: "MaskModule", pictures: Sequence[bytes] = ()) -> list[Sample]:
    """Returns the pictures of the golden requests to a module; `pictures` are encoded ones beside those drawn here."""
    names = [contract.signature_name(contract.MASK, encoded=is_encoded) for is_encoded in (False, True)]
    of_pixels, of_files = (_golden_inputs(contract.SIGNATURES[name], module, pictures) for name in names)
    pixels = of_pixels[contract.IMAGE]
    files = () if module.takes_bands else of_files[contract.IMAGE_BYTES]
    return [
        Sample(module.pixels.model_input(tf.constant(pixels)).numpy(), pixels.shape[1:3], is_encoded=False),
        *(
            Sample(model_input.numpy(), size, is_encoded=True)
            for model_input, size in (module.pictures.model_input(tf.constant(file)) for file in files if file)
        ),
    ]


def find_undecided(
    module: "MaskModule", samples: Sequence[Sample], outputs: Sequence[npt.NDArray[np.float32]], tolerance: float
) -> dict[bool, Undecided]:
    """Finds the pixels that a probability's tolerance may move to the other side; of class indices, those at borders.

    Args:
        module: of the export.
        samples: the pictures of the golden requests.
        outputs: of the model for each of them, [B, h', w', K].
        tolerance: how far a probability may be from that of these outputs.

    Returns:
        Them, by whether they are of the encoded signatures, if there are such.
    """
    found = {}
    for is_encoded in (False, True):
        near, close, faint = [], [], []
        for sample, output in zip(samples, outputs, strict=True):
            if sample.is_encoded != is_encoded:
                continue
            if module.answers.are_classes:
                borders = module.answers.class_borders(output, sample.size).numpy()
                near.append(borders)
                close.append(borders)
                faint.append(borders)
            else:
                foreground, classes = (
                    np.asarray(one, np.float64) for one in module.answers.probabilities(output, sample.size)
                )
                near.append(np.abs(foreground - module.spec.threshold) <= tolerance)
                margins = np.diff(np.sort(classes, axis=-1)[..., -2:], axis=-1)  # none where there is one class
                close.append(margins <= 2 * tolerance)
                depths = ("uint8", "uint16") if module.spec.decodes_16_bits else ("uint8",)
                faint.append(np.any([np.abs(foreground - 0.5 / FULL_SCALE[of]) <= tolerance for of in depths], 0))
        kinds = [near, close, faint]
        if is_encoded:  # in whichever way a picture is decoded
            kinds = [[one.any(0) for one in ones] for ones in kinds]
        if near:
            found[is_encoded] = Undecided(*(np.concatenate([one.ravel() for one in ones]) for ones in kinds))
    return found


def make_requests(names: Iterable[str], module: "MaskModule", pictures: Sequence[bytes] = ()) -> list[Golden]:
    """Makes a small request for each of a module's signatures, with no answer yet."""
    signatures = (contract.SIGNATURES[name] for name in names)
    return [
        Golden(one, _request(one, _golden_inputs(one, module, pictures)), predict_pb2.PredictResponse(), {})
        for one in signatures
    ]


def answer(functions: Mapping[str, SignatureFunction], requests: Iterable[Golden]) -> dict[str, Tensors]:
    """Returns what signatures answer to requests, by their names."""
    return {
        one.signature.name: run(functions[one.signature.name], one.signature, tensors_of(one.request))
        for one in requests
    }


def make_goldens(
    requests: Iterable[Golden],
    answers: Mapping[str, Tensors],
    spec: ExportSpec,
    undecided: Mapping[bool, Undecided],
    tolerance: float,
) -> list[Golden]:
    """Returns requests with what `answer` and `find_undecided` returned for them; `tolerance` is of a probability."""
    goldens = []
    for request in requests:
        signature, outputs = request.signature, answers[request.signature.name]
        tolerances = {
            output: Tolerance()
            if output in (contract.ERROR, contract.INFO)
            else _tolerance(signature, value, undecided[signature.is_encoded], spec, tolerance)
            for output, value in outputs.items()
        }
        goldens.append(dataclasses.replace(with_answers(request, outputs), tolerances=tolerances))
    return goldens


def with_answers(golden: Golden, outputs: Tensors) -> Golden:
    """Returns a golden request with its answers, or others."""
    return dataclasses.replace(golden, response=_response(golden.signature, outputs))


def run(function: SignatureFunction, signature: contract.Signature, inputs: Tensors) -> Tensors:
    """Calls a signature with NumPy arrays and returns its outputs as such."""
    answers = function(**{name: tf.constant(inputs[name]) for name in signature.inputs})
    return {name: np.asarray(answers[name].numpy()) for name in signature.outputs}


def write_goldens(goldens: Iterable[Golden], directory: Path) -> None:
    """Writes `NAME.pb` for each record and the index into a directory, over what is there."""
    directory.mkdir(exist_ok=True)
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


def write_warmup(signatures: Iterable[str], module: "MaskModule", path: Path) -> None:
    """Writes a TFRecord file of one request for each signature, of a real picture's size, which servers replay."""
    picture = examples.draw_picture(*module.fit(*(module.size or _WARMUP_SIZE)))
    file = examples.encode(picture, module.spec.formats[0])
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in signatures:
            signature = contract.SIGNATURES[name]
            log = prediction_log_pb2.PredictLog(
                request=_request(signature, _inputs(signature, [picture], [file], module))
            )
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _golden_inputs(signature: contract.Signature, module: "MaskModule", pictures: Sequence[bytes]) -> Tensors:
    spec = module.spec
    # One batch of pixels has one size.
    sizes = [module.fit(*size) for size in (_GOLDEN_SIZES if signature.is_encoded else (_GOLDEN_SIZES[0],) * 2)]
    drawn = [examples.draw_picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    files = [examples.encode(picture, spec.formats[at % len(spec.formats)]) for at, picture in enumerate(drawn)]
    files += pictures
    if spec.bad_image == "report":
        files.append(b"")  # a bad one, to see that it is reported in its own place
    return _inputs(signature, drawn, files, module)


def _inputs(
    signature: contract.Signature, pictures: list[npt.NDArray[np.uint8]], files: list[bytes], module: "MaskModule"
) -> Tensors:
    spec, count = module.spec, len(files) if signature.is_encoded else len(pictures)
    makers: dict[str, Callable[[], npt.NDArray[Any]]] = {
        contract.IMAGE: lambda: np.stack(
            [examples.as_pixels(one, module.channels, spec.image_dtype, spec.full_scale) for one in pictures]
        ),
        contract.IMAGE_BYTES: lambda: np.array(files, object),
        contract.THRESHOLD: lambda: np.full(count, spec.threshold, np.float32),
        contract.QUERY: lambda: np.array([b""], object),
    }
    return {name: makers[name]() for name in signature.inputs}


def _request(signature: contract.Signature, inputs: Tensors) -> predict_pb2.PredictRequest:
    tensors = {name: tf.make_tensor_proto(value) for name, value in inputs.items()}
    return predict_pb2.PredictRequest(model_spec={"signature_name": signature.name}, inputs=tensors)


def _response(signature: contract.Signature, outputs: Tensors) -> predict_pb2.PredictResponse:
    tensors = {name: tf.make_tensor_proto(value) for name, value in outputs.items()}
    return predict_pb2.PredictResponse(model_spec={"signature_name": signature.name}, outputs=tensors)


def _tolerance(
    signature: contract.Signature, answer: npt.NDArray[Any], undecided: Undecided, spec: ExportSpec, tolerance: float
) -> Tolerance:
    is_jpeg = signature.product == contract.MASKED_IMAGE_JPEG
    is_png = signature.is_encoded and not is_jpeg
    if signature.product == contract.CLASS_MAP:
        return Tolerance(undecided=undecided.classes, share="equal", is_png=is_png)
    if signature.product == contract.PROBABILITY:
        return Tolerance(atol=tolerance * (FULL_SCALE["uint16"] if is_png else 1.0), is_png=is_png)
    if signature.product == contract.MASK:
        return Tolerance(undecided=undecided.foreground, share="iou", is_png=is_png)
    if spec.edge == "soft" and is_jpeg:
        return Tolerance(atol=tolerance * FULL_SCALE["uint8"] + 1.0 + _coarsest_step(spec.jpeg_quality), is_jpeg=True)
    form: Literal["JPEG", "PNG"] = "JPEG" if is_jpeg else "PNG"
    pictures = [decode_file(file, form) for file in answer if file] if signature.is_encoded else list(answer)
    sizes = [picture.shape[0] * picture.shape[1] for picture in pictures]
    if spec.edge == "soft":
        scale = spec.full_scale
        if is_png and all(picture.max(initial=0) <= FULL_SCALE["uint8"] for picture in pictures):
            scale = FULL_SCALE["uint8"]
        elif is_png and spec.background == "transparent":
            scale = FULL_SCALE["uint16"]  # of alpha
        soft = Tolerance(atol=tolerance * scale + 1.0, is_png=is_png)
        if spec.background != "transparent" or not is_png:
            return soft
        # Where a cut-out's alpha becomes 0, its colours do at once; alpha itself is as near as elsewhere.
        colours = undecided.opacity[:, np.newaxis] & np.array([True, True, True, False])
        return dataclasses.replace(soft, undecided=colours.ravel())
    # A masked picture has as many channels as the picture: all of them are undecided where the mask is.
    parted = np.split(undecided.foreground, np.cumsum(sizes)[:-1])
    if is_jpeg:
        parted = [_spread(part.reshape(one.shape[:2])) for part, one in zip(parted, pictures, strict=True)]
    repeated = [np.repeat(part, one.size // part.size) for part, one in zip(parted, pictures, strict=True)]
    return Tolerance(atol=float(is_jpeg), undecided=np.concatenate(repeated), is_png=is_png, is_jpeg=is_jpeg)


def _spread(undecided: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns where a JPEG's pixels may be others, bool [H, W], for where the picture's may be.

    That is in all of a block, and beside it, since colours are stored at half the size and interpolated.
    """
    height, width = undecided.shape
    padded = np.pad(undecided, [(0, -height % _JPEG_BLOCK), (0, -width % _JPEG_BLOCK)])
    blocks = np.any(padded.reshape(len(padded) // _JPEG_BLOCK, _JPEG_BLOCK, -1, _JPEG_BLOCK), (1, 3))
    near = np.pad(blocks.repeat(_JPEG_BLOCK, 0).repeat(_JPEG_BLOCK, 1), _JPEG_REACH)
    windows = np.lib.stride_tricks.sliding_window_view(near, [2 * _JPEG_REACH + 1] * 2)
    return np.asarray(windows.any((2, 3)))[:height, :width]


def _coarsest_step(quality: int) -> float:
    """Returns how far a value may move where a JPEG's coefficient is rounded to the other side: its coarsest step."""
    return min(_JPEG_COARSEST * (50 / quality if quality < 50 else 2 - quality / 50), FULL_SCALE["uint8"])
