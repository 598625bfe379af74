"""Both clients over both transports against the embedded server, or another, and the demo model."""

import contextlib
import io
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from any_client import KINDS, make_client
from maskport.serving.client import (
    InvalidImageError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelState,
    SignatureNotFoundError,
)
from PIL import Image, ImageOps
from processes import running
from skimage import data
from waiting import PATIENCE_S

MASK_CLIENT = Path(sys.executable).with_name("mask-client")


class _Running:
    """A server that is not this process': its addresses."""

    model_name = "coins"

    def __init__(self, grpc_port, rest_port):
        self.grpc_address = f"grpc://{grpc_port}"
        self.rest_address = f"http://{rest_port}"


@contextlib.contextmanager
def _started(command, base_path):
    """A server's command, started with the demo model."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    flags = [
        f"--port={ports[0]}",
        f"--rest_api_port={ports[1]}",
        "--model_name=coins",
        f"--model_base_path={base_path}",
    ]
    with running([*shlex.split(command), *flags]):
        yield _Running(*(f"127.0.0.1:{port}" for port in ports))


@pytest.fixture(scope="module")
def server(request, coins_export):
    """The embedded server; or, as for tests/conformance, one that runs or is started by a command."""
    if "MASKPORT_TEST_GRPC" in os.environ:
        if os.environ.get("MASKPORT_TEST_SETUP") != "coins":
            pytest.skip("the running server has another set-up than 'coins'")
        yield _Running(os.environ["MASKPORT_TEST_GRPC"], os.environ["MASKPORT_TEST_REST"])
    elif "MASKPORT_TEST_SERVER" in os.environ:
        with _started(os.environ["MASKPORT_TEST_SERVER"], coins_export) as server:
            yield server
    else:
        yield request.getfixturevalue("coins_server")


@pytest.fixture(scope="module", autouse=True)
def is_ready(server):
    with make_client("sync-grpc", server.grpc_address, server.model_name) as client:
        client.wait_until_ready(120)


@pytest.fixture(scope="module")
def probability_of(coins_export):
    """The model itself, loaded by TensorFlow: [H, W] gray pixels to probabilities."""
    loaded = tf.saved_model.load(str(coins_export / "1"))
    signature = loaded.signatures["probability"]

    def probability_of(gray):
        return signature(image=tf.constant(gray[None, :, :, None]))["probability"].numpy()[0, :, :, 0]

    return probability_of


@pytest.fixture(scope="module")
def coins():
    return data.coins()[:160, :200]


@pytest.fixture(params=KINDS)
def client(request, server):
    address = server.grpc_address if request.param.endswith("grpc") else server.rest_address
    with make_client(request.param, address, server.model_name, timeout=PATIENCE_S) as client:
        yield client


def _encoded(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def _same_but_at_the_threshold(mask, probability, threshold):
    """Masks may differ where the probability is within a hair of the threshold: builds round differently."""
    sure = np.abs(probability - threshold) > 1e-3
    np.testing.assert_array_equal(mask[sure], (probability > threshold)[sure])


def test_the_mask_is_the_models(client, coins, probability_of):
    client.wait_until_ready(30)
    probability = probability_of(coins)
    for source in (coins, _encoded(coins), Image.fromarray(coins)):
        _same_but_at_the_threshold(client.segment(source).mask, probability, 0.5)
    _same_but_at_the_threshold(client.segment(coins, threshold=0.9).mask, probability, 0.9)


def test_all_products_at_one_time(client, coins, probability_of):
    result = client.segment(coins, 0.7, outputs=("mask", "masked_image", "probability"))
    probability = probability_of(coins)
    np.testing.assert_allclose(result.probability, probability, atol=2e-4)
    _same_but_at_the_threshold(result.mask, probability, 0.7)
    np.testing.assert_array_equal(result.masked_image[:, :, 0], coins * result.mask)
    assert result.cutout().size == (200, 160)


def test_three_sizes_and_a_bad_one_in_one_call_each_at_its_own(client, coins):
    sources = [coins, _encoded(coins[:64, :48], "JPEG", quality=95), b"\xff\xd8\xffbroken", coins[10:150, 5:42]]
    items = list(client.segment_many(sources, batch_size=4))
    assert [item.result.mask.shape if item.result else None for item in items] == [
        (160, 200), (64, 48), None, (140, 37),
    ]  # fmt: skip
    assert isinstance(items[2].error, InvalidImageError)
    assert items[2].error.server_message.startswith("cannot be decoded")


def test_a_turned_photograph_has_an_upright_mask(client, coins, tmp_path):
    exif = Image.new("L", (1, 1)).getexif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(coins).save(path, quality=95, exif=exif)
    with Image.open(path) as turned:
        upright = np.array(ImageOps.exif_transpose(turned))
        from_pillow = client.segment(turned).mask
    mask = client.segment(path).mask
    assert mask.shape == upright.shape == (200, 160)
    np.testing.assert_array_equal(mask, from_pillow)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"GARBAGE-GARBAGE", "unknown format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "cannot be decoded"),
        (b"\xff\xd8\xff" + bytes(50), "cannot be decoded"),
    ],
)
def test_bad_images_are_named_by_the_servers_words(client, source, words):
    with pytest.raises(InvalidImageError, match=words):
        client.segment(source)


def test_what_the_model_says_of_itself(client):
    assert client.info()["classes"] == ["coin"]
    assert client.info()["threshold"] == 0.5
    assert [(status.version, status.state) for status in client.status()] == [(1, ModelState.AVAILABLE)]
    metadata = client.metadata()
    assert metadata.version == 1
    assert {"mask", "mask_png", "mask_png_at_threshold", "export_info"} <= set(metadata.signatures)


def test_pixels_by_predict(client, coins, probability_of):
    image = coins[None, :48, :64, None]
    outputs = client.predict("mask_at_threshold", {"image": image, "threshold": [0.8]})
    _same_but_at_the_threshold(outputs["mask"][0, :, :, 0] > 0, probability_of(image[0, :, :, 0]), 0.8)


def test_mistakes(client, coins):
    with pytest.raises(SignatureNotFoundError):
        client.predict("depth", {})
    with pytest.raises(InvalidRequestError, match="it takes uint8"):
        client.predict("mask", {"image": np.zeros((1, 4, 4, 1), np.float32)})
    with pytest.raises(SignatureNotFoundError, match="class_map"):
        client.segment(coins, outputs=("class_map",))


def test_an_unknown_model_is_not_found(server, coins):
    for kind in KINDS:
        address = server.grpc_address if kind.endswith("grpc") else server.rest_address
        with make_client(kind, address, "flowers") as client, pytest.raises(ModelNotFoundError, match="flowers"):
            client.segment(coins)


@pytest.mark.parametrize("kind", ["sync-grpc", "async-rest"])
def test_large_pictures_equal_those_of_one_call(kind, server, coins, tmp_path):
    image = np.tile(data.coins(), (1, 2))[:288, :512]
    address = server.grpc_address if kind.endswith("grpc") else server.rest_address
    with make_client(kind, address, "coins", timeout=PATIENCE_S) as client:
        whole = client.predict("probability", {"image": image[None, :, :, None]})["probability"][0, :, :, 0]
        client.segment_large(image, tmp_path / "p.npy", product="probability", tile=256, overlap=96)
    by_tiles = np.load(tmp_path / "p.npy")
    # The model's view is wider than the overlap, so its last digits may differ; its answers may not.
    np.testing.assert_allclose(by_tiles, whole, atol=0.02)
    assert ((by_tiles > 0.5) == (whole > 0.5)).mean() > 0.9995


def test_the_command_line(server, coins, tmp_path, probability_of):
    Image.fromarray(coins).save(tmp_path / "coins.png")
    for address in (server.grpc_address, server.rest_address):
        done = subprocess.run(
            [MASK_CLIENT, "segment", "coins.png", "--out=mask.png", "--model=coins", f"--address={address}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        with Image.open(tmp_path / "mask.png") as mask:
            _same_but_at_the_threshold(np.array(mask) > 0, probability_of(coins), 0.5)
