"""MaskClient, the official stubs and plain curl get the same from the embedded server."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
from maskport.serving.client import MaskClient
from PIL import Image
from skimage import data
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl")


@pytest.fixture(scope="module")
def png():
    buffer = io.BytesIO()
    Image.fromarray(data.coins()[:160, :200]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def by_mask_client(coins_server, png):
    with MaskClient(coins_server.grpc_address, model="coins") as client:
        return client.segment(png).mask


def pixels(encoded):
    return np.array(Image.open(io.BytesIO(encoded))) > 0


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", *arguments], check=True, capture_output=True)
    return json.loads(done.stdout)


def test_mask_client_over_rest(coins_server, png, by_mask_client):
    with MaskClient(coins_server.rest_address, model="coins") as client:
        np.testing.assert_array_equal(client.segment(png).mask, by_mask_client)


def test_official_stubs(coins_server, png, by_mask_client):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "coins"
    request.model_spec.signature_name = "mask_png"
    request.inputs["image_bytes"].CopyFrom(make_tensor_proto([png]))
    with grpc.insecure_channel(coins_server.grpc_address.removeprefix("grpc://")) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=PATIENCE_S)
    assert make_ndarray(response.outputs["error"]).tolist() == [b""]
    encoded = make_ndarray(response.outputs["mask_bytes"])[0]
    np.testing.assert_array_equal(pixels(encoded), by_mask_client)


def test_curl(coins_server, png, by_mask_client, tmp_path):
    body = {"signature_name": "mask_png", "instances": [{"b64": base64.b64encode(png).decode()}]}
    Path(tmp_path / "body.json").write_text(json.dumps(body))
    answer = curl("-d", f"@{tmp_path}/body.json", f"{coins_server.rest_address}/v1/models/coins:predict")
    np.testing.assert_array_equal(
        pixels(base64.b64decode(answer["predictions"][0]["mask_bytes"]["b64"])), by_mask_client
    )
    assert curl(f"{coins_server.rest_address}/v1/models/coins")["model_version_status"][0]["state"] == "AVAILABLE"
