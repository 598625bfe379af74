"""An example call of each signature, to be pasted into a shell or a Python file as it is.

Pictures in a file are sent as they are. The pixel signatures' curl and grpcurl calls make their pixels
themselves, since a shell has no way to decode a picture.
"""

import dataclasses
import json
import shlex
import urllib.parse
from pathlib import Path
from typing import Any

from ...serving import contract
from .record import ExportRecord

CURL, PYTHON, GRPCURL = "curl", "python", "grpcurl"
WAYS = (CURL, PYTHON, GRPCURL)
"""The kinds of calls."""

PROTOSET = "tensorflow_serving.protoset"
"""The file that grpcurl needs to know the messages, since TensorFlow Serving does not tell them."""

_PIXELS_SIZE = (96, 128)
"""Height and width of the pixels that a call makes: the exporter has tried the model at that size."""
_IMAGE = "@image"
"""Stands in a request for what the shell puts there."""
_RESULTS = {
    contract.MASK: "result.mask.shape, result.area",
    **dict.fromkeys(contract.MASKED_IMAGES, "result.masked_image.shape"),
    contract.PROBABILITY: "result.probability.max()",
    contract.CLASS_MAP: "result.class_map.max()",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the calls go.

    Attributes:
        model: its name on the server.
        rest_address: `http://HOST:PORT` or `https://…`.
        grpc_address: `grpc://HOST:PORT` or `grpcs://…`.
        picture: path of the file to send; empty makes up a name.
    """

    model: str
    rest_address: str = "http://localhost:8501"
    grpc_address: str = "grpc://localhost:8500"
    picture: str = ""


def example_calls(name: str, record: ExportRecord, target: Target) -> dict[str, str]:
    """Returns a call of a signature for each of `WAYS`; a comment where there can be none."""
    signature = contract.SIGNATURES[name]
    if not target.picture:
        photo = f"photo.{record.formats[0].replace('jpeg', 'jpg')}"
        target = dataclasses.replace(target, picture="bands.tif" if record.model.takes_bands else photo)
    return {
        CURL: _curl(signature, record, target),
        PYTHON: _python(signature, record, target),
        GRPCURL: _grpcurl(signature, record, target),
    }


def _curl(signature: contract.Signature, record: ExportRecord, target: Target) -> str:
    values: dict[str, Any] = {
        contract.IMAGE: [_IMAGE],
        contract.IMAGE_BYTES: [{"b64": _IMAGE}],
        contract.THRESHOLD: [record.threshold],
        contract.QUERY: [""],
    }
    request = {"signature_name": signature.name, "inputs": {name: values[name] for name in signature.inputs}}
    url = shlex.quote(f"{target.rest_address}/v1/models/{urllib.parse.quote(target.model, safe='')}:predict")
    answers_uint16 = signature.product == contract.CLASS_MAP and record.model.output_channels > 256
    if contract.IMAGE in signature.inputs and (record.image_dtype == "uint16" or answers_uint16):
        encoded = contract.signature_name(signature.product, encoded=True, at_threshold=signature.takes_threshold)
        instead = "gRPC" if record.model.takes_bands else f"{encoded} (16-bit PNG), or gRPC"
        return f"# TensorFlow Serving's REST API has no uint16 numbers: use {instead}"
    maker = _maker(signature, request, "[[{pixel} for x in range({width})] for y in range({height})]", record, target)
    if not maker:
        return f"curl -sS -d {shlex.quote(json.dumps(request))} {url}"
    answer = f"{signature.name}.json"
    call = f"{maker} |\n  curl -sS -d @- {url} -o {answer}"
    # The answer to an encoded picture holds one, in base64.
    file = f"{signature.name}.{_ending(signature, record)}"
    picture = rf"""sed -n 's/.*"b64": *"\([^"]*\)".*/\1/p' {answer} | base64 --decode > {file}"""
    return f"{call}\n{picture}" if signature.is_encoded else call


def _grpcurl(signature: contract.Signature, record: ExportRecord, target: Target) -> str:
    data_type = f"DT_{record.image_dtype.upper().replace('FLOAT32', 'FLOAT')}"
    field = "float_val" if data_type == "DT_FLOAT" else "int_val"
    shape = (1, *_PIXELS_SIZE, record.model.channels)
    values = {
        contract.IMAGE: _tensor(data_type, shape, field, _IMAGE),
        contract.IMAGE_BYTES: _tensor("DT_STRING", (1,), "string_val", [_IMAGE]),
        contract.THRESHOLD: _tensor("DT_FLOAT", (1,), "float_val", [record.threshold]),
        contract.QUERY: _tensor("DT_STRING", (1,), "string_val", [""]),
    }
    request = {
        "model_spec": {"name": target.model, "signature_name": signature.name},
        "inputs": {name: values[name] for name in signature.inputs},
    }
    values_in_order = "[value for y in range({height}) for x in range({width}) for value in {pixel}]"
    maker = _maker(signature, request, values_in_order, record, target)
    scheme, _, host = target.grpc_address.rpartition("://")
    plain = "" if scheme == "grpcs" else "-plaintext "
    data = "@" if maker else shlex.quote(json.dumps(request))
    method = "tensorflow.serving.PredictionService/Predict"
    post = f"grpcurl {plain}-protoset {PROTOSET} -d {data} {shlex.quote(host)} {method}"
    return f"{maker} |\n  {post}" if maker else post


def _tensor(data_type: str, shape: tuple[int, ...], field: str, values: Any) -> dict[str, Any]:
    return {"dtype": data_type, "tensor_shape": {"dim": [{"size": size} for size in shape]}, field: values}


def _maker(signature: contract.Signature, request: Any, pattern: str, record: ExportRecord, target: Target) -> str:
    """Returns a shell command that prints a request with an image in it; nothing where the request takes none."""
    if signature.is_encoded:
        # A file's base64, whatever the file's size.
        before, after = (shlex.quote(part) for part in json.dumps(request).split(_IMAGE))
        encode = f"base64 < {shlex.quote(target.picture)} | tr -d '\\n'"
        return f"{{ printf %s {before}; {encode}; printf %s {after}; }}"
    if contract.IMAGE not in signature.inputs:
        return ""
    # A slope of gray, colour, or bands.
    height, width = _PIXELS_SIZE
    count = record.model.channels
    bands = ("x", "y", "128", "x + y")
    channels = {1: bands[3:], 4: ("x", "y", "128", "255")}.get(count, [bands[at % 4] for at in range(count)])
    pixel = f"[{', '.join(_scaled(value, record) for value in channels)}]"
    image = pattern.format(pixel=pixel, width=width, height=height)
    literal = json.dumps(request).replace(json.dumps(_IMAGE), "image")
    program = f"import json\nimage = {image}\nprint(json.dumps({literal}))"
    return f"python3 -c {shlex.quote(program)}"


def _scaled(value: str, record: ExportRecord) -> str:
    """Returns an expression of a pixel value, 0 to 255, in the export's own range."""
    if record.full_scale == 255 and record.image_dtype != "float32":
        return value
    scaled = f"({value}) * {record.full_scale:g} / 255" if " " in value else f"{value} * {record.full_scale:g} / 255"
    return scaled if record.image_dtype == "float32" else f"round({scaled})"


def _python(signature: contract.Signature, record: ExportRecord, target: Target) -> str:
    client = "from maskport.serving.client import MaskClient"
    connect = f"with MaskClient({target.grpc_address!r}, model={target.model!r}) as client:"
    if signature.product == contract.INFO:
        return f"{client}\n\n{connect}\n    print(client.info()['spec'])"
    takes_bands = record.model.takes_bands
    if signature.is_encoded or takes_bands:
        threshold = f", threshold={record.threshold!r}" if signature.takes_threshold else ""
        outputs = "" if signature.product == contract.MASK else f", outputs=({signature.product!r},)"
        return (
            f"{client}\n\n{connect}\n"
            f"    result = client.segment({target.picture!r}{threshold}{outputs})\n"
            f"    print({_RESULTS[signature.product]})\n"
            f"    result.save('{signature.name}.{_ending(signature, record)}', product={signature.product!r})"
        )
    threshold = f", '{contract.THRESHOLD}': [{record.threshold!r}]" if signature.takes_threshold else ""
    inputs = f"{{'{contract.IMAGE}': image[np.newaxis]{threshold}}}"
    return (
        f"import numpy as np\n{client}\nfrom PIL import Image\n\n"
        f"image = {_array(record, target.picture)}\n{connect}\n"
        f"    answer = client.predict({signature.name!r}, {inputs})\n"
        f"    print(answer[{signature.product!r}].shape)"
    )


def _ending(signature: contract.Signature, record: ExportRecord) -> str:
    """Returns that of a file to keep an answer in: of bands a TIFF, which keeps all, and their place on Earth."""
    if record.model.takes_bands:
        return "tif"
    return "jpg" if signature.product == contract.MASKED_IMAGE_JPEG else "png"


def _array(record: ExportRecord, picture: str) -> str:
    """Returns an expression of a picture's pixels, [H, W, C], as the export takes them."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[record.model.channels]
    array = f"np.asarray(Image.open({picture!r}).convert({mode!r}))"
    if mode == "L":
        array += "[..., np.newaxis]"
    if record.image_dtype == "float32":
        return f"({array} * {record.full_scale / 255!r}).astype(np.float32)"
    if record.full_scale != 255 or record.image_dtype != "uint8":
        return f"np.round({array} * {record.full_scale / 255!r}).astype(np.{record.image_dtype})"
    return array


def write_protoset(path: Path) -> None:
    """Writes PredictionService and all that it needs, for grpcurl and its like: a serialised FileDescriptorSet."""
    from google.protobuf import descriptor_pb2
    from tensorflow_serving.apis import prediction_service_pb2

    found: dict[str, Any] = {}

    def collect(file: Any) -> None:
        """Adds a file after all that it imports."""
        for imported in file.dependencies:
            if imported.name not in found:
                collect(imported)
        found[file.name] = file

    collect(prediction_service_pb2.DESCRIPTOR)
    files = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    path.write_bytes(files.SerializeToString(deterministic=True))
