"""The example calls, run as they are printed against a real server."""

import base64
import io
import json
import os
import shlex
import shutil
import subprocess

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from maskport.export.inspect import Target, inspect_version
from maskport.export.inspect.calls import example_calls, write_protoset
from maskport.export.inspect.record import read_record
from maskport.serving import contract
from maskport.serving.client import MaskClient, Observer
from maskport.serving.server import EmbeddedServer
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import PATIENCE_S

# All that are made by default.
NAMES = [name for name, one in contract.SIGNATURES.items() if one.product != contract.MASKED_IMAGE_JPEG]
ENCODED = [name for name in NAMES if contract.SIGNATURES[name].is_encoded]
PIXEL = [name for name in NAMES if contract.IMAGE in contract.SIGNATURES[name].inputs]
SLOPE = np.stack([*np.mgrid[0:96, 0:128][::-1], np.full((96, 128), 128), np.full((96, 128), 255)], -1)
"""The pixels that calls make: x, y, 128, 255."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


class Served:
    """An export with a server, the calls for it, and a client that knows what it answers."""

    def __init__(self, exported, photo, server):
        target = Target(server.model_name, server.rest_address, server.grpc_address, str(photo))
        self.calls = inspect_version(exported.path, target=target, runs=0).calls
        self.server = server
        self.photo = photo
        self.client = MaskClient(server.grpc_address, server.model_name)

    def answer(self, name, **inputs):
        """What a signature answers, by arrays."""
        return self.client.predict(name, inputs)

    def inputs(self, name, image):
        """A signature's inputs for the photograph or some pixels, with the export's threshold."""
        signature = contract.SIGNATURES[name]
        values = {
            contract.IMAGE: image,
            contract.IMAGE_BYTES: [self.photo.read_bytes()],
            contract.THRESHOLD: np.array([0.4], np.float32),
        }
        return {key: values[key] for key in signature.inputs}


@pytest.fixture(scope="module")
def served(exported, photo):
    with EmbeddedServer(exported.base_path) as server:
        found = Served(exported, photo, server)
        yield found
        found.client.close()


def run_in_shell(command, folder, **environment):
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run_python(source, monkeypatch, folder, capsys):
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(source, "example", "exec"), names)
    return names, capsys.readouterr().out


@needs_curl
@pytest.mark.parametrize("name", ENCODED)
def test_curl_sends_a_file_and_saves_the_answers_picture(served, tmp_path, name):
    assert run_in_shell(served.calls[name]["curl"], tmp_path) == ""
    expected = served.answer(name, **served.inputs(name, None))
    product = contract.SIGNATURES[name].outputs[0]
    assert (tmp_path / f"{name}.png").read_bytes() == expected[product][0]
    answer = json.loads((tmp_path / f"{name}.json").read_text())["outputs"]
    assert answer["error"] == [""]


@needs_curl
@pytest.mark.parametrize("name", PIXEL)
def test_curl_sends_pixels_and_saves_the_answers_numbers(served, tmp_path, name):
    assert run_in_shell(served.calls[name]["curl"], tmp_path) == ""
    image = SLOPE[np.newaxis, ..., :3].astype(np.uint8)
    (expected,) = served.answer(name, **served.inputs(name, image)).values()
    answer = np.array(json.loads((tmp_path / f"{name}.json").read_text())["outputs"])
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    assert len(np.unique(answer)) > 1


@needs_curl
def test_curl_asks_for_the_exports_record(served, tmp_path):
    answer = json.loads(run_in_shell(served.calls["export_info"]["curl"], tmp_path))
    assert json.loads(answer["outputs"][0]) == served.client.info()


@pytest.mark.parametrize("name", ENCODED)
def test_python_calls_that_very_signature_and_saves_the_picture(served, tmp_path, monkeypatch, capsys, name):
    called = []

    class Listener(Observer):
        def call_started(self, call):
            called.append(call.context.signature)

    original = MaskClient.__init__

    def with_observer(client, *args, **kwargs):
        original(client, *args, **kwargs, observers=[Listener()])

    monkeypatch.setattr(MaskClient, "__init__", with_observer)
    names, printed = run_python(served.calls[name]["python"], monkeypatch, tmp_path, capsys)
    assert [one for one in called if one not in (None, contract.EXPORT_INFO)] == [name]
    assert printed
    output = contract.SIGNATURES[name].outputs[0]
    expected = Image.open(io.BytesIO(served.answer(name, **served.inputs(name, None))[output][0]))
    saved = Image.open(tmp_path / f"{name}.png")
    assert saved.size == expected.size == (120, 90)
    np.testing.assert_array_equal(np.asarray(saved), np.asarray(expected))
    assert names["result"].model == "toy"


@pytest.mark.parametrize("name", PIXEL)
def test_python_sends_a_pictures_pixels(served, tmp_path, monkeypatch, capsys, name):
    names, printed = run_python(served.calls[name]["python"], monkeypatch, tmp_path, capsys)
    image = np.asarray(Image.open(served.photo))[np.newaxis]
    expected = served.answer(name, **served.inputs(name, image))
    product = contract.SIGNATURES[name].product
    np.testing.assert_array_equal(names["answer"][product], expected[product])
    assert printed == f"{expected[product].shape}\n"


def test_python_asks_for_the_exports_record(served, tmp_path, monkeypatch, capsys):
    _, printed = run_python(served.calls["export_info"]["python"], monkeypatch, tmp_path, capsys)
    assert printed == f"{served.client.info()['spec']}\n"


@pytest.fixture
def grpcurl(tmp_path):
    """A grpcurl that only writes down how it was called."""
    program = tmp_path / "bin/grpcurl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncase " $* " in *" -d @ "*) cat;; esac\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def grpcurl_request(command, folder, grpcurl):
    """Returns grpcurl's words and the request that it would send."""
    printed = run_in_shell(command, folder, **grpcurl)
    words, data = printed.splitlines(), None
    at = words.index("-d") + 1
    if words[at] == "@":
        end = words.index("tensorflow.serving.PredictionService/Predict") + 1
        words, data = words[:end], "\n".join(words[end:])
    else:
        data = words[at]
    return words, json_format.Parse(data, predict_pb2.PredictRequest())


@pytest.mark.parametrize("name", NAMES)
def test_grpcurl_sends_a_request_that_the_server_answers_like_the_client(served, tmp_path, grpcurl, name):
    words, request = grpcurl_request(served.calls[name]["grpcurl"], tmp_path, grpcurl)
    address = served.server.grpc_address.removeprefix("grpc://")
    assert words[:3] == ["-plaintext", "-protoset", "tensorflow_serving.protoset"]
    assert words[-2:] == [address, "tensorflow.serving.PredictionService/Predict"]
    with grpc.insecure_channel(address) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=PATIENCE_S)
    import tensorflow as tf

    inputs = {"query": [b""]} if name == "export_info" else None
    image = SLOPE[np.newaxis, ..., :3].astype(np.uint8)
    expected = served.answer(name, **(inputs or served.inputs(name, image)))
    assert response.model_spec.signature_name == name
    for output, value in expected.items():
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[output]), value)


def test_the_protoset_defines_the_service_that_grpcurl_calls(tmp_path):
    write_protoset(tmp_path / "set")
    files = FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:  # in an order in which each finds what it imports
        pool.Add(file)
    method = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
    assert method.input_type.full_name == "tensorflow.serving.PredictRequest"
    assert method.input_type.fields_by_name["inputs"].message_type.has_options


def test_pixels_of_12_bits_and_gray_are_made_in_their_own_range(medical, tmp_path, photo, monkeypatch, capsys, grpcurl):
    calls = inspect_version(medical.path, runs=0).calls
    assert "base64 < photo.png " in calls["mask_png"]["curl"]  # the only format that it takes
    gray = np.round(np.clip(SLOPE[..., :2].sum(-1), 0, 255) * 4095 / 255)
    _, request = grpcurl_request(calls["mask"]["grpcurl"], tmp_path, grpcurl)
    assert request.inputs["image"].dtype == 17  # DT_UINT16
    np.testing.assert_array_equal(np.reshape(request.inputs["image"].int_val, (96, 128)), gray)
    with EmbeddedServer(medical.base_path) as server:
        target = Target("scan", server.rest_address, server.grpc_address, str(photo))
        calls = inspect_version(medical.path, target=target, runs=0).calls
        names, _ = run_python(calls["mask"]["python"], monkeypatch, tmp_path, capsys)
    assert names["image"].dtype == np.uint16
    luma = np.asarray(Image.open(photo).convert("L"))
    np.testing.assert_array_equal(names["image"][..., 0], np.round(luma * (4095 / 255)))
    expected = medical.pipeline.cleaned(names["image"].astype(float)) > 0.5
    assert (names["answer"]["mask"][0, ..., 0] != expected).mean() < 1e-3
    assert 0.05 < expected.mean() < 0.95


def test_where_rest_has_no_such_numbers_the_call_says_what_to_use(medical):
    curl = inspect_version(medical.path, runs=0).calls["mask"]["curl"]
    assert curl == "# TensorFlow Serving's REST API has no uint16 numbers: use mask_png (16-bit PNG), or gRPC"


def test_pixels_of_floats_and_four_channels_are_made_in_their_own_range(pixels_only, tmp_path, grpcurl, photo):
    record = read_record(pixels_only.path)
    calls = example_calls("mask", record, Target("layers"))
    _, request = grpcurl_request(calls["grpcurl"], tmp_path, grpcurl)
    values = np.reshape(request.inputs["image"].float_val, (96, 128, 4))
    np.testing.assert_allclose(values, SLOPE / 255, rtol=1e-6)
    expression = calls["python"].split("image = ")[1].splitlines()[0].replace("photo.jpg", str(photo))
    image = eval(expression, {"np": np, "Image": Image})
    assert (image.dtype, image.shape) == (np.float32, (90, 120, 4))
    np.testing.assert_allclose(image, np.asarray(Image.open(photo).convert("RGBA")) / 255, rtol=1e-6)


def test_masked_images_as_jpeg_are_saved_as_such(exported):
    calls = example_calls("masked_image_jpeg_at_threshold", read_record(exported.path), Target("toy"))
    assert calls["curl"].endswith("| base64 --decode > masked_image_jpeg_at_threshold.jpg")
    assert "segment('photo.jpg', threshold=0.4, outputs=('masked_image_jpeg',))" in calls["python"]
    assert "result.save('masked_image_jpeg_at_threshold.jpg', product='masked_image_jpeg')" in calls["python"]


def test_names_with_quotes_and_spaces_stay_words(exported, tmp_path, grpcurl):
    record = read_record(exported.path)
    picture = tmp_path / 'it\'s $(touch broken) "here".jpg'
    picture.write_bytes(b"\xff\xd8picture")
    target = Target("my model's", picture=str(picture))
    for name in ("mask_png", "mask", "export_info"):
        calls = example_calls(name, record, target)
        _, request = grpcurl_request(calls["grpcurl"], tmp_path, grpcurl)
        assert request.model_spec.name == "my model's"
        compile(calls["python"], "example", "exec")
        assert "http://localhost:8501/v1/models/my%20model%27s:predict" in calls["curl"]
    printing = example_calls("mask_png", record, target)["curl"].split(" |\n")[0]
    request = json.loads(run_in_shell(printing, tmp_path))
    assert base64.b64decode(request["inputs"]["image_bytes"][0]["b64"]) == b"\xff\xd8picture"
    assert not (tmp_path / "broken").exists()
    assert shlex.quote(str(picture)) in printing
