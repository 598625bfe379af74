"""Coverage-guided fuzzing of what reads bytes of strangers, by atheris; only errors that are meant may come.

.venv/bin/python scripts/fuzz.py [TARGET …] [--seconds=60] [--runs=N] [--corpus_dir=build/fuzz]

Targets, and what each is held against:
  header   the client's look at a picture's first bytes; the size is Pillow's, where Pillow reads the picture
  png      the client's reading of PNG files that are answered; the samples are Pillow's, up to 8 bits
  jpeg     the client's reading of JPEG files that are answered; the samples are Pillow's
  tiff     the client's reading of TIFF files
  rest     JSON that answers the client
  grpc     messages that answer the client
  json     the server's reading of JSON requests
  tensor   the server's reading of TensorProtos; the array is that of TensorFlow's own C++

What was found interesting stays in the corpus directory, a folder for each target, and is where the next run begins. An
input that breaks something is kept there too, and named. Exit code 1 if there is one.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from children import bound
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests/corpus"
MOST_PIXELS = 1 << 20
MOST_BYTES = 4096
"""Of an input; the pictures of the corpus that are larger are left out."""

Target = Callable[[bytes], None]


def _pillow(data: bytes) -> Image.Image | None:
    """Returns a picture that Pillow reads whole; None where it does not, or is not the judge."""
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
        picture = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "BMP", "GIF", "WEBP"])
        if picture.width * picture.height <= MOST_PIXELS:
            picture.load()
            return picture
    return None


def header() -> Target:
    from maskport.serving.client.pictures.files.headers import read_header

    def read(data: bytes) -> None:
        found = read_header(data)
        if found is None:
            return
        assert 1 <= found.orientation <= 8
        picture = _pillow(data)
        if picture is not None and found.size is not None and picture.format == found.format.upper():
            assert sorted(found.size) == sorted(picture.size), (found, picture.size)

    return read


def png() -> Target:
    from maskport.serving.client.errors import InvalidResponseError
    from maskport.serving.client.pictures.files.png import decode_png, read_png_header

    def read(data: bytes) -> None:
        try:
            found = read_png_header(data)
            if found.size[0] * found.size[1] > MOST_PIXELS:
                return
            array = decode_png(data)
        except InvalidResponseError:
            return
        assert array.shape[:2] == found.size
        picture = _pillow(data)
        is_comparable = picture is not None and picture.mode in ("1", "L", "LA", "RGB", "RGBA")
        if is_comparable and found.bits <= 8 and found.channels:
            assert np.array_equal(array, np.asarray(picture)), (array.dtype, picture.mode)

    return read


def jpeg() -> Target:
    from maskport.serving.client.errors import InvalidResponseError
    from maskport.serving.client.pictures.files.jpeg import decode_jpeg, read_jpeg_size

    def read(data: bytes) -> None:
        try:
            size = read_jpeg_size(data)
            if size[0] * size[1] > MOST_PIXELS:
                return
            array = decode_jpeg(data)
        except InvalidResponseError:
            return
        assert array.shape[:2] in (size, size[::-1])  # as it is stored
        picture = _pillow(data)
        assert picture is None or np.array_equal(array, np.asarray(picture))

    return read


def tiff() -> Target:
    from maskport.serving.client.errors import MaskServingError
    from maskport.serving.client.pictures.channels import ALL
    from maskport.serving.client.pictures.tiffs import TiffImage
    from maskport.serving.client.pictures.tiling import whole

    def read(data: bytes) -> None:
        try:
            with contextlib.closing(TiffImage(data, "a picture", ALL)) as picture:
                if np.prod(picture.shape) <= MOST_PIXELS:
                    assert picture.read(whole(*picture.shape[:2])).shape == picture.shape
        except MaskServingError:
            return

    return read


def _answers(decode: Callable[[Any, bytes], Any]) -> Target:
    from maskport.serving.client.errors import MaskServingError
    from maskport.serving.client.transport.calls import MetadataCall, PredictCall, StatusCall, Target
    from maskport.serving.client.transport.signatures import SignatureInfo, TensorSpec

    outputs = {"mask": TensorSpec("DT_FLOAT", (-1, -1, -1, 1)), "error": TensorSpec("DT_STRING", (-1,))}
    model = Target("model")
    calls = (PredictCall(model, SignatureInfo("s", {}, outputs), {}), MetadataCall(model), StatusCall(model))

    def read(data: bytes) -> None:
        for call in calls:
            with contextlib.suppress(MaskServingError):
                decode(call, data)

    return read


def rest() -> Target:
    from maskport.serving.client.transport import rest_codec

    read = _answers(rest_codec.decode)

    def read_all(data: bytes) -> None:
        read(data)
        assert str(rest_codec.error_of_answer(400, data, {"content-type": "application/json"}))

    return read_all


def grpc() -> Target:
    from maskport.serving.client.transport import grpc_codec

    return _answers(grpc_codec.decode)


def json_requests() -> Target:
    from maskport.serving.server.errors import RequestError
    from maskport.serving.server.fronts.json_requests import read_examples, read_predict
    from tensorflow.core.framework import types_pb2

    kinds = [types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_UINT8, types_pb2.DT_BOOL, types_pb2.DT_INT64]

    def read(data: bytes) -> None:
        for types in ({"x": kinds[len(data) % len(kinds)]}, {"image": types_pb2.DT_FLOAT, "s": types_pb2.DT_STRING}):
            with contextlib.suppress(RequestError):
                read_predict(data, lambda _, types=types: types)
        with contextlib.suppress(RequestError):
            read_examples(data)

    return read


def tensor() -> Target:
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from maskport.serving.server.inference.tensors import TensorError, read_tensor
    from tensorflow.core.framework import tensor_pb2

    def read(data: bytes) -> None:
        try:
            proto = tensor_pb2.TensorProto.FromString(data)
            array = read_tensor(proto)
        except (DecodeError, TensorError):
            return
        if array.size > MOST_PIXELS:
            return
        # Raises what is a finding, where TensorFlow takes no such tensor. What is no field of it is protobuf's affair.
        proto.DiscardUnknownFields()
        wanted = np.asarray(
            tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype)).numpy(), array.dtype
        )
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
        if not np.array_equal(array, wanted):  # as NaN is not itself, whatever its bits
            np.testing.assert_array_equal(array.astype(complex), wanted.astype(complex))

    return read


TARGETS: dict[str, Callable[[], Target]] = {
    "header": header, "png": png, "jpeg": jpeg, "tiff": tiff, "rest": rest, "grpc": grpc, "json": json_requests,
    "tensor": tensor,
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Returns inputs that a target takes, to begin with."""
    if name in ("header", "png", "jpeg"):
        files = [path.read_bytes() for path in sorted(PICTURES.iterdir()) if path.suffix != ".md"]
        return [data for data in files if len(data) <= MOST_BYTES]
    if name == "tiff":
        return _tiffs()
    if name == "tensor":
        return _tensors()
    states = [{"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    signature = {"inputs": {}, "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}}}
    if name == "rest":
        answers: list[Any] = [
            {"outputs": {"mask": [[[[0.5]]]], "error": [{"b64": "aGk="}, "text"]}},
            {"model_version_status": states},
            {
                "model_spec": {"name": "m", "version": "7"},
                "metadata": {"signature_def": {"signature_def": {"s": signature}}},
            },
            {"error": "no such model"},
        ]
        return [json.dumps(answer).encode() for answer in answers]
    if name == "json":
        requests: list[Any] = [
            {"signature_name": "s", "inputs": {"image": [[0.5, 1]], "s": [{"b64": "aGk="}]}},
            {"instances": [{"image": [[1e39]], "s": "a"}]},
            {"instances": [[1, 2], [3, -4]]},
            {"inputs": [True, 18446744073709551615]},
            {"examples": [{"a": [1, 2], "b": "c", "d": {"b64": "aGk="}, "e": 0.5}], "context": {"f": 1}},
        ]
        return [json.dumps(request).encode() for request in requests] + [b'{"instances": [NaN, -Infinity, 1e999]}']
    return _messages(states, signature)


def _tiffs() -> list[bytes]:
    import tifffile

    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (gray, {}),
        (gray, {"compression": "zlib", "predictor": True}),
        (gray.astype(np.uint16) * 900, {"tile": (16, 16)}),
        (np.stack([gray] * 3, -1), {"photometric": "rgb", "planarconfig": "separate"}),
        (gray > 20, {}),
        (gray.astype(np.float32), {"extratags": [(42113, "s", 0, "7", True)]}),
    ]
    files = []
    for pixels, options in kinds:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, metadata=None, **options)
        files.append(file.getvalue())
    return files


def _tensors() -> list[bytes]:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2, types_pb2

    kinds = ["float32", "uint8", "int64", "bool", "float16", "bfloat16", "complex64", "uint32"]
    made = [
        tf.make_tensor_proto(np.array([[0, 1], [1, 0]]).astype(tf.dtypes.as_dtype(kind).as_numpy_dtype))
        for kind in kinds
    ]
    made += [tf.make_tensor_proto([b"a", b"bc"]), tf.make_tensor_proto(np.float32(2))]
    for field, dtype in (("float_val", "FLOAT"), ("int_val", "UINT8"), ("half_val", "HALF"), ("bool_val", "BOOL")):
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(f"DT_{dtype}"))
        proto.tensor_shape.dim.add().size = 70  # too many for the short way
        getattr(proto, field).extend([1, 0])
        made.append(proto)
    return [proto.SerializeToString() for proto in made]


def _messages(states: Any, signature: Any) -> list[bytes]:
    from google.protobuf import json_format
    from maskport.serving.wire import messages

    predicted = messages.PredictResponse()
    predicted.model_spec.version.value = 7
    predicted.outputs["mask"].dtype = 1
    predicted.outputs["mask"].tensor_content = bytes(16)
    for size in (1, 2, 2, 1):
        predicted.outputs["mask"].tensor_shape.dim.add().size = size
    predicted.outputs["error"].dtype = 7
    predicted.outputs["error"].string_val.append(b"words")
    described = messages.GetModelMetadataResponse()
    described.metadata["signature_def"].value = json_format.ParseDict(
        {"signature_def": {"s": signature}}, messages.SignatureDefMap()
    ).SerializeToString()
    told = json_format.ParseDict({"model_version_status": states}, messages.GetModelStatusResponse())
    return [message.SerializeToString() for message in (predicted, described, told)]


def fuzz(name: str, folder: Path, limits: Sequence[str]) -> None:
    """Fuzzes one target, and ends this process."""
    import atheris  # in no process that does anything else

    folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds(name)):
        (folder / f"seed_{index}").write_bytes(seed)
    with atheris.instrument_imports(include=["maskport.serving"]):
        target = TARGETS[name]()
    atheris.Setup([name, str(folder), f"-max_len={MOST_BYTES}", f"-artifact_prefix={folder}_", *limits], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all, one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0 is without end")
    parser.add_argument("--runs", type=int, default=-1, help="at most, for each target")
    parser.add_argument("--corpus_dir", type=Path, default=ROOT / "build/fuzz")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target {min(unknown)!r}: there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: scripts/install test (it is made for Linux on x86-64)")
    limits = [f"-max_total_time={options.seconds}", f"-runs={options.runs}", "-timeout=30", "-rss_limit_mb=4096"]
    if options.here:
        fuzz(options.targets[0], options.corpus_dir / options.targets[0], limits)
    failed = []
    for name in options.targets or TARGETS:
        settings = (f"--{key}={getattr(options, key)}" for key in ("seconds", "runs", "corpus_dir"))
        command = [sys.executable, __file__, name, "--here", *settings]
        found = subprocess.run(bound(command), stderr=subprocess.PIPE, text=True, check=False)
        done = [line for line in found.stderr.splitlines() if line.startswith(("Done ", "stat::number_of_executed"))]
        print(f"{name:8}", done[-1] if done and not found.returncode else f"FAILED\n{found.stderr[-3000:]}", flush=True)
        failed += [name] if found.returncode else []
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
