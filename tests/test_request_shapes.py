"""Requests of wrong rank, and of no pictures, as callers send them to a server that runs the optimized graph."""

import base64
import io
import json
import urllib.error
import urllib.request

import grpc
import keras
import numpy as np
import pytest
from any_client import KINDS, make_client
from exporting import export_unchecked
from maskport.serving import contract
from maskport.serving.client import InvalidRequestError
from maskport.serving.server import EmbeddedServer
from PIL import Image
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import PATIENCE_S

MODELS = ["fixed", "coins"]
"""One that runs at a size of its own, with every signature, and one that runs at the picture's."""
SIGNATURES = sorted(contract.SIGNATURES.values(), key=lambda signature: signature.name)
NAMES = [signature.name for signature in SIGNATURES]
CASES = [
    pytest.param(model, signature, id=f"{model}-{signature.name}")
    for model in MODELS
    for signature in SIGNATURES
    if model == "fixed" or signature.product not in (contract.CLASS_MAP, contract.MASKED_IMAGE_JPEG)
]


def fixed_model():
    """Layers whose kernels fail on no pictures, once TensorFlow has fused them."""
    image = keras.Input((8, 12, 3))
    x = keras.layers.Conv2D(24, 3, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Multiply()([x, keras.layers.GlobalAveragePooling2D(keepdims=True)(x)])
    return keras.Model(image, keras.layers.Conv2D(2, 1, activation="softmax")(x))


@pytest.fixture(scope="module")
def servers(coins_server, tmp_path_factory):
    base_path = tmp_path_factory.mktemp("served") / "fixed"
    export_unchecked(fixed_model(), base_path, scaling="unit", foreground=[1], warmup=False, signatures="all")
    with EmbeddedServer(base_path) as fixed:
        yield {"fixed": fixed, "coins": coins_server}


@pytest.fixture(scope="module")
def by_grpc(servers):
    channels = {
        name: grpc.insecure_channel(server.grpc_address.removeprefix("grpc://")) for name, server in servers.items()
    }

    def predict(model, signature, **inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(make_tensor_proto(value))
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channels[model]).Predict(request, timeout=PATIENCE_S)
        return {name: make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    yield predict
    for channel in channels.values():
        channel.close()


def by_rest(server, signature, **body):
    """The status and the JSON that answer a predict request."""
    request = urllib.request.Request(
        f"{server.rest_address}/v1/models/{server.model_name}:predict",
        json.dumps({"signature_name": signature, **body}).encode(),
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def png():
    file = io.BytesIO()
    Image.fromarray(np.full((6, 7, 3), 90, np.uint8)).save(file, "PNG")
    return file.getvalue()


PIXELS = np.full((1, 6, 7, 3), 90, np.uint8)
GOOD = {contract.IMAGE: PIXELS, contract.IMAGE_BYTES: [png()], contract.THRESHOLD: [0.5], contract.QUERY: ["a"]}
WRONG = {
    contract.IMAGE: [PIXELS[0], PIXELS[0, ..., 0], PIXELS[..., 0], PIXELS[None], PIXELS[0, 0, 0], np.uint8(9)],
    contract.IMAGE_BYTES: [png(), [[png()]]],
    contract.THRESHOLD: [0.5, [[0.5]]],
    contract.QUERY: ["a", [["a"]]],
}
WANTED = {
    contract.IMAGE: "image must be a list of pictures, shape [B, H, W, C], with 1 to 4 channels",
    contract.IMAGE_BYTES: "image_bytes must be a list of encoded pictures, shape [B]",
    contract.THRESHOLD: "threshold must have one value for each image, shape [B]",
    contract.QUERY: "query must be a list of strings, shape [B]",
}


def tensor(name, value):
    return np.asarray(value, np.float32) if name == contract.THRESHOLD else value


def as_json(value):
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [as_json(item) for item in value] if isinstance(value, list) else np.asarray(value).tolist()


def got(value):
    """A shape as TensorFlow writes it at the end of an assertion."""
    return "got shape] [" + " ".join(map(str, np.shape(value))) + "]"


@pytest.mark.parametrize(("model", "signature"), CASES)
def test_an_input_of_another_rank_is_named_with_the_shape_that_is_wanted(servers, by_grpc, model, signature):
    for name in signature.inputs:
        for value in WRONG[name]:
            inputs = {other: tensor(other, GOOD[other]) for other in signature.inputs} | {name: tensor(name, value)}
            with pytest.raises(grpc.RpcError) as error:
                by_grpc(model, signature.name, **inputs)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert WANTED[name] in error.value.details()
            assert got(value) in error.value.details()
            columns = {other: as_json(GOOD[other]) for other in signature.inputs} | {name: as_json(value)}
            status, answer = by_rest(servers[model], signature.name, inputs=columns)
            assert (status, WANTED[name] in answer["error"], got(value) in answer["error"]) == (400, True, True)


@pytest.mark.parametrize("signature", SIGNATURES, ids=NAMES)
def test_a_list_within_a_row_of_rest_is_one_axis_too_many(servers, signature):
    for name in signature.inputs:
        row = {other: as_json(GOOD[other])[0] for other in signature.inputs} | {name: as_json(GOOD[name])}
        status, answer = by_rest(servers["fixed"], signature.name, instances=[row])
        assert (status, WANTED[name] in answer["error"]) == (400, True)
        assert got([GOOD[name]]) in answer["error"]


def test_a_row_without_a_channel_axis_is_told_of_it(servers):
    status, answer = by_rest(servers["fixed"], "mask", instances=[[[1, 2], [3, 4]]])
    assert (status, WANTED[contract.IMAGE] in answer["error"], "[1 2 2]" in answer["error"]) == (400, True, True)


DTYPES = {
    "mask": np.float32, "masked_image": np.uint8, "probability": np.float32, "class_map": np.uint8,
}  # fmt: skip
NO_THRESHOLDS = np.zeros(0, np.float32)


@pytest.mark.parametrize(("model", "signature"), CASES)
def test_no_pictures_are_answered_by_empty_outputs_over_grpc(by_grpc, model, signature):
    images = [PIXELS[:0], np.zeros(0, np.uint8), np.zeros((0, 0, 0, 0), np.uint8)]
    strings = [np.zeros(0, object)]
    for images_of_none in images if contract.IMAGE in signature.inputs else strings:
        inputs = {name: NO_THRESHOLDS if name == contract.THRESHOLD else images_of_none for name in signature.inputs}
        outputs = by_grpc(model, signature.name, **inputs)
        assert set(outputs) == set(signature.outputs)
        for name, output in outputs.items():
            if contract.IMAGE not in signature.inputs:
                assert (output.shape, output.dtype) == ((0,), object)
                continue
            height, width, channels = images_of_none.shape[1:] if images_of_none.ndim == 4 else (1, 1, 1)
            channels = channels if name == "masked_image" else 1
            assert output.shape == (0, max(height, 1), max(width, 1), max(channels, 1))
            assert output.dtype == DTYPES[name]


@pytest.mark.parametrize("kind", KINDS)
def test_no_pictures_are_answered_by_empty_outputs_of_the_client(servers, kind):
    server = servers["fixed"]
    address = server.grpc_address if kind.endswith("grpc") else server.rest_address
    with make_client(kind, address, "fixed", timeout=PATIENCE_S) as client:
        for signature in SIGNATURES:
            for nothing in ([], np.zeros((0, 6, 7, 3), np.uint8)) if contract.IMAGE in signature.inputs else ([],):
                outputs = client.predict(
                    signature.name, {key: [] for key in signature.inputs} | {signature.inputs[0]: nothing}
                )
                for name in signature.outputs:
                    is_map = contract.IMAGE in signature.inputs
                    assert outputs[name].dtype == (DTYPES[name] if is_map else object)
                    assert (outputs[name].ndim, outputs[name].size, len(outputs[name])) == (4 if is_map else 1, 0, 0)
        assert list(client.segment_many([])) == []
        with pytest.raises(InvalidRequestError, match="has the shape"):
            client.predict("mask", {"image": np.zeros((0, 6), np.uint8)[None, None, None]})


def test_the_metadata_says_what_to_send(servers):
    with make_client("sync-grpc", servers["fixed"].grpc_address, "fixed") as client:
        signatures = client.metadata().signatures
    for signature in SIGNATURES:
        for name, spec in signatures[signature.name].inputs.items():
            assert spec.shape == ((-1,) * 4 if name == contract.IMAGE else (-1,))
        for name, spec in signatures[signature.name].outputs.items():
            channels = -1 if name == "masked_image" else 1
            assert spec.shape == ((-1, -1, -1, channels) if contract.IMAGE in signature.inputs else (-1,))
