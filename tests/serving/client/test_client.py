"""What both clients do over both transports."""

import asyncio
import contextlib
import copy
import gc
import io
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

import numpy as np
import pytest
from any_client import make_client
from fake_serving import FakeModel, refuse, slow
from maskport.serving.client import (
    AsyncMaskClient,
    CallCancelledError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskClient,
    MixedSizesError,
    ModelNotFoundError,
    ModelState,
    SignatureNotFoundError,
    UnsupportedCallError,
    VersionStatus,
)
from maskport.serving.client.pictures import picture as picture_module
from PIL import Image
from waiting import PATIENCE_S, wait_until


@pytest.fixture
def photo():
    """A small asymmetric picture: brightness rises to the right, with steps at 0.4, 0.5 and 0.8."""
    rows = np.array([[20, 102, 128, 204, 255], [0, 0, 0, 0, 255], [255, 0, 0, 0, 0]], np.uint8)
    return np.repeat(rows[:, :, None], 3, axis=2)


def _encoded(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_an_array_is_masked_at_the_models_own_threshold(client, photo):
    result = client.segment(photo)
    assert result.mask.tolist() == [
        [False, False, True, True, True],
        [False, False, False, False, True],
        [True, False, False, False, False],
    ]
    assert result.mask.dtype == bool


def test_a_threshold_may_be_given_for_the_call(client, photo):
    assert client.segment(photo, threshold=0.3).mask[0].tolist() == [False, True, True, True, True]
    assert client.segment(photo, threshold=0.9).mask[0].tolist() == [False, False, False, False, True]


def test_a_files_bytes_travel_as_they_are(client, serving, photo, tmp_path):
    data = _encoded(photo, "JPEG", quality=95)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), io.BytesIO(data), path.open("rb")):
        with source if hasattr(source, "read") else io.BytesIO():
            client.segment(source)
        signature, inputs = serving.requests[-1]
        assert signature == "mask_png"
        assert list(inputs["image_bytes"]) == [data]


def test_pillow_pictures_are_turned_upright_and_files_are_left_to_the_server(client, photo, tmp_path):
    tall = Image.fromarray(photo)
    exif = tall.getexif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    path = tmp_path / "turned.jpg"
    tall.save(path, quality=100, subsampling=0, exif=exif)
    from_file = client.segment(path).mask
    with Image.open(path) as opened:
        from_pillow = client.segment(opened).mask
    assert from_file.shape == from_pillow.shape == (5, 3)
    np.testing.assert_array_equal(from_file, from_pillow)
    np.testing.assert_array_equal(from_file, np.rot90(client.segment(photo).mask, -1))


def test_products_are_asked_for_at_one_time_and_each_by_its_own_call(client, serving, photo):
    serving.behaviours += [slow(1.5)] * 3
    started = time.monotonic()
    result = client.segment(photo, 0.3, outputs=("mask", "masked_image", "probability"))
    assert time.monotonic() - started < 4  # one after the other they would take 4.5 s
    assert sorted(signature for signature, _ in serving.requests) == [
        "mask_png_at_threshold",
        "masked_image_png_at_threshold",
        "probability_png",
    ]
    np.testing.assert_allclose(result.probability, photo[:, :, 0] / 255, atol=1e-5)
    np.testing.assert_array_equal(result.masked_image, photo * result.mask[:, :, None])
    assert result.probability.dtype == np.float32


def test_a_picture_is_encoded_once_for_all_its_products(serving, photo, monkeypatch):
    encoded = []
    encode = picture_module.encode_png
    monkeypatch.setattr(picture_module, "encode_png", lambda array: encoded.append(1) or encode(array))
    with make_client("sync-grpc", serving) as client:
        client.segment(photo, outputs=("mask", "masked_image", "probability"))
    assert len(encoded) == 1


def test_callers_who_keep_all_threads_busy_keep_none_from_being_answered(serving, photo, monkeypatch):
    monkeypatch.setattr("maskport.serving.client.client._TOGETHER_THREADS", 1)
    goes_on = threading.Event()
    with make_client("sync-grpc", serving, timeout=PATIENCE_S) as client, futures.ThreadPoolExecutor(1) as pool:
        serving.behaviours += [lambda signature, inputs: goes_on.wait() and None] * 2
        first = pool.submit(client.segment, photo, outputs=("mask", "probability"))
        try:
            wait_until(lambda: len(serving.requests) == 2)
            assert client.segment(photo, outputs=("mask", "probability")).mask.shape == (3, 5)
        finally:
            goes_on.set()
        assert first.result().mask.shape == (3, 5)


def test_class_maps_come_with_the_names_of_the_classes(client, photo):
    result = client.segment(photo, outputs=("class_map",))
    assert result.class_map.tolist() == (photo[:, :, 0] > 127).astype(int).tolist()
    assert result.class_names == ("dark", "bright")
    assert result.class_areas() == {"dark": 10, "bright": 5}


def test_the_names_of_the_classes_are_those_of_the_version_that_answers(client, kind, serving, photo, monkeypatch):
    assert client.segment(photo, outputs=("class_map",)).class_names == ("dark", "bright")
    monkeypatch.setattr(type(serving.model), "info", {"classes": ["sky", "sea"]})
    serving.version = 8
    if kind.endswith("rest"):  # which does not say so
        monkeypatch.setattr("maskport.serving.client.calling.operations._KNOWN_S", 0)
    assert client.segment(photo, outputs=("class_map",)).class_names == ("sky", "sea")


def test_results_say_where_they_come_from(client, kind, serving, photo, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(_encoded(photo))
    result = client.segment(path)
    assert (result.source, result.model, result.size) == (str(path), "model", (3, 5))
    assert result.version == (7 if kind.endswith("grpc") else None)
    assert result.request_bytes > path.stat().st_size
    assert result.response_bytes > 0
    assert 0 < result.seconds < 10


def test_a_bad_image_is_an_error_of_its_own(client, serving):
    with pytest.raises(InvalidImageError, match=r"signature 'mask_png' at .*: cannot be decoded") as caught:
        client.segment(b"\x89PNG\r\n\x1a\nnonsense")
    assert caught.value.server_message == "cannot be decoded"
    assert caught.value.model == "model"
    assert caught.value.signature == "mask_png"
    assert caught.value.address.endswith(("8500", serving.grpc_address[-5:], serving.rest_address[-5:]))


def test_predict_takes_and_gives_arrays(client):
    outputs = client.predict("double", {"x": [1, 2.5]})
    assert outputs["y"].tolist() == [2, 5]
    assert outputs["y"].dtype == np.float32
    assert outputs["name_bytes"].tolist() == [b"\x01", b"\x02"]
    assert list(client.predict("double", {"x": [1.0]}, outputs=["y"])) == ["y"]


def test_predict_works_for_pixels(client, photo):
    outputs = client.predict("mask", {"image": photo[None]})
    assert outputs["mask"].shape == (1, 3, 5, 1)
    np.testing.assert_array_equal(outputs["mask"][0, :, :, 0] > 0, client.segment(photo).mask)


@pytest.mark.parametrize(
    ("signature", "inputs", "outputs", "error", "words"),
    [
        ("nope", {}, None, SignatureNotFoundError, "there is no signature 'nope'; it has: 'class_map_png'"),
        ("double", {"z": [1.0]}, None, InvalidRequestError, "no input 'z'; the inputs are: 'x'"),
        ("double", {"x": [[1.0]]}, None, InvalidRequestError, r"shape \[1, 1\]; it takes float \[\?\]"),
        ("double", {"x": ["a"]}, None, InvalidRequestError, "dtype string; it takes float"),
        ("double", {"x": [1j]}, None, InvalidRequestError, "dtype complex128"),
        ("mask", {"image": np.zeros((1, 2, 2, 3))}, None, InvalidRequestError, "dtype float64; it takes uint8"),
        ("mask", {"image": np.zeros((1, 2, 2, 4), np.uint8)}, None, InvalidRequestError, "shape"),
        ("double", {"x": [1.0]}, ["w"], InvalidRequestError, "no output 'w'; the outputs are: 'name_bytes'"),
        ("double", {"x": [1.0]}, ["y", "y"], InvalidRequestError, "twice"),
    ],
)
def test_what_does_not_fit_the_signature_is_found_before_it_is_sent(
    client, serving, signature, inputs, outputs, error, words
):
    client.predict("double", {"x": [1.0]})
    sent = len(serving.requests)
    with pytest.raises(error, match=words) as caught:
        client.predict(signature, inputs, outputs)
    assert len(serving.requests) == sent
    assert str(caught.value).startswith(f"model 'model' version 7, signature '{signature}' at ")


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "high"])
def test_a_threshold_that_is_none_is_found_before_it_is_sent(client, serving, photo, threshold):
    with pytest.raises(InvalidRequestError, match="not from 0 to 1"):
        client.segment(photo, threshold)
    assert serving.calls == []


@pytest.mark.parametrize(
    ("outputs", "threshold", "words"),
    [
        (("depth",), None, "no product 'depth'; there are: mask, masked_image, probability, class_map"),
        ((), None, "is not a list of products"),
        (("mask", "mask"), None, "twice"),
        (("probability",), 0.5, "a threshold has no meaning for probability"),
    ],
)
def test_products_that_make_no_sense_are_found_before_anything_is_sent(
    client, serving, photo, outputs, threshold, words
):
    with pytest.raises(InvalidRequestError, match=words):
        client.segment(photo, threshold, outputs)
    assert serving.calls == []


def test_status_metadata_and_info(client):
    assert client.status() == [VersionStatus(7, ModelState.AVAILABLE)]
    metadata = client.metadata()
    assert (metadata.model, metadata.version) == ("model", 7)
    assert set(metadata.signatures) == set(FakeModel.signatures)
    assert str(metadata.signature("mask").inputs["image"]) == "uint8 [?, ?, ?, 3]"
    assert client.info() == FakeModel.info


@pytest.mark.parametrize(
    "info",
    [
        ["spec"], 7, None,
        {"spec": ["model_size"]}, {"model": "x"}, {"spec": {"clean": [1]}},
        {"spec": {"model_size": 7, "resize": "letterbox"}}, {"spec": {"model_size": [1], "resize": "letterbox"}},
        {"spec": {"pad_to_multiple": "x"}}, {"spec": {"max_model_pixels": []}}, {"threshold": "half"},
    ],
)  # fmt: skip
def test_info_that_makes_no_sense_is_an_invalid_response(client, serving, tmp_path, monkeypatch, info):
    monkeypatch.setattr(FakeModel, "info", info)
    with pytest.raises(InvalidResponseError, match="the model's info"):
        client.segment_large(np.zeros((8, 8, 3), np.uint8), tmp_path / "mask.npy")
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_and_version_and_label_are_not_found(kind, serving, photo):
    for options in ({"model": "other"}, {"version": 3}, {"label": "canary"}):
        with make_client(kind, serving, **options) as client, pytest.raises(ModelNotFoundError) as caught:
            client.segment(photo)
        assert "wait_until_ready" in str(caught.value)


def test_a_version_and_a_label_may_be_chosen(kind, serving, photo):
    for options in ({"version": 7}, {"label": "stable"}):
        with make_client(kind, serving, **options) as client:
            client.wait_until_ready(PATIENCE_S)
            assert client.segment(photo).mask.any()


def test_waiting_ends_when_a_version_becomes_available(client, serving):
    serving.statuses = [(7, 20, 0, "")]
    timer = threading.Timer(0.3, lambda: setattr(serving, "statuses", [(7, 30, 0, "")]))
    timer.start()
    client.wait_until_ready(PATIENCE_S)
    assert serving.statuses == [(7, 30, 0, "")]
    timer.join()


def test_waiting_tells_what_it_waits_for(client, serving):
    serving.statuses = [(7, 10, 0, "")]
    told = []

    def on_wait(text):
        told.append(text)
        serving.statuses = [(7, 30 if len(told) == 2 else 20, 0, "")]

    client.wait_until_ready(PATIENCE_S, on_wait=on_wait)
    assert told == ["version 7 is START", "version 7 is LOADING"]


def test_waiting_for_a_closed_port_says_when_ports_open(kind):
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        scheme = "grpc" if kind.endswith("grpc") else "http"
        address = f"{scheme}://127.0.0.1:{bound.getsockname()[1]}"
        told = []
        with (
            make_client(kind, address) as client,
            pytest.raises(DeadlineExceededError, match="opens its ports only when all its models are loaded") as error,
        ):
            client.wait_until_ready(1.4, on_wait=told.append)
    assert "not ready in time: " in str(error.value)
    assert [text.partition(":")[0] for text in told] == ["not reachable yet"]


def test_waiting_in_vain_says_why(client, serving):
    serving.statuses = [(7, 50, 2, "no such op")]
    client.status()  # so that the time is not that of connecting
    with pytest.raises(DeadlineExceededError, match=r"not ready in time: version 7 is END \(no such op\)"):
        client.wait_until_ready(2)


def test_waiting_for_an_unknown_model_goes_on_until_the_end(kind, serving):
    with make_client(kind, serving, model="other") as client:
        with pytest.raises(ModelNotFoundError):
            client.status()
        with pytest.raises(DeadlineExceededError, match="Could not find any versions of model other"):
            client.wait_until_ready(2)


def test_every_call_has_a_deadline(client, serving, photo):
    client.segment(photo)
    serving.behaviours.append(slow(2.0))
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        client.segment(photo, timeout=0.25)
    assert 0.2 < time.monotonic() - started < 1.9


def test_closing_ends_what_is_on_its_way(kind, serving, photo):
    client = make_client(kind, serving)
    client.segment(photo)
    serving.behaviours.append(slow(3.0))
    caught = []

    def call():
        try:
            client.segment(photo)
        except CallCancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    client.close()
    thread.join()
    assert time.monotonic() - started < 2.5
    assert isinstance(caught[0], ClientClosedError)


@pytest.mark.parametrize("kind", ["sync-grpc", "sync-rest"])
def test_closing_ends_every_call_of_many_threads(kind, serving, photo):
    jpeg = _encoded(photo, "JPEG")
    for round_number in range(20):
        client = make_client(kind, serving)
        ended = []

        def call(client=client, ended=ended):
            try:
                while True:
                    client.segment(jpeg, outputs=("mask", "probability"))
            except ClientClosedError as error:
                ended.append(error)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.01 * (round_number % 5))
        client.close()
        for thread in threads:
            thread.join()
        assert len(ended) == len(threads)


@pytest.mark.parametrize("kind", ["async-grpc", "async-rest"])
def test_calls_that_are_given_up_at_any_moment_leave_room_for_others(kind, serving, photo):
    jpeg = _encoded(photo, "JPEG")

    async def run():
        async with AsyncMaskClient(serving.address(kind.removeprefix("async-")), "model", max_connections=2) as client:
            await client.segment(jpeg)
            begin = time.monotonic()
            await client.segment(jpeg)
            usual_s = time.monotonic() - begin
            for index in range(200):
                call = asyncio.create_task(client.segment(jpeg))
                await asyncio.sleep(usual_s * (0.5 + index / 200))
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
            return await client.segment(jpeg, timeout=PATIENCE_S)

    assert asyncio.run(run()).mask.shape == (3, 5)


def test_a_client_that_is_dropped_without_being_closed_leaves_no_thread(serving, photo):
    before = set(threading.enumerate())
    client = MaskClient(serving.rest_address, "model")
    client.segment(photo)
    own = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("maskport")]
    assert len(own) == 1
    del client
    gc.collect()
    own[0].join()
    assert not own[0].is_alive()


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(kind, serving, photo, monkeypatch):
    for name in ("http_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with make_client(kind, serving) as client:
        assert client.segment(photo).mask.shape == (3, 5)


def test_a_closed_client_says_so(serving, photo):
    for kind in ("sync-grpc", "sync-rest"):
        client = make_client(kind, serving)
        client.close()
        client.close()
        with pytest.raises(ClientClosedError, match="make a new client"):
            client.segment(photo)


@pytest.mark.parametrize("kind", ["sync-grpc", "sync-rest"])
def test_a_child_after_a_fork_is_told_and_can_close_the_client(kind, serving, photo):
    jpeg = _encoded(photo, "JPEG")
    script = f"""
import os
from maskport.serving.client import ClientClosedError, MaskClient
with MaskClient({serving.address(kind.removeprefix("sync-"))!r}, "model") as client:
    client.segment({jpeg!r})
    child = os.fork()
    if child == 0:
        try:
            client.segment({jpeg!r})
        except ClientClosedError:
            client.close()
            os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    client.segment({jpeg!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "7\n", done.stderr


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_copied_to_workers_and_says_what_to_do(kind, serving, copied):
    with make_client(kind, serving) as client:
        inner = getattr(client, "_client", client)
        with pytest.raises(TypeError, match=r"cannot be copied or pickled.*: make one in each worker"):
            copied(inner)
        client.status()


def test_metadata_of_client_and_call_travel_with_every_call(kind, serving, photo):
    with make_client(kind, serving, metadata={"X-Team": "vision"}, token="secret") as client:
        client.segment(photo, metadata={"x-request-id": "17"})
    assert {method for method, _ in serving.calls} == {"GetModelMetadata", "Predict"}
    for _, headers in serving.calls:
        assert headers["x-team"] == "vision"
        assert headers["x-request-id"] == "17"
        assert headers["authorization"] == "Bearer secret"


def test_a_token_may_be_made_for_each_call(kind, serving, photo):
    tokens = iter(["one", "two", "three"])
    with make_client(kind, serving, token=lambda: next(tokens)) as client:
        client.segment(photo)
        client.segment(photo)
    assert [headers["authorization"] for _, headers in serving.calls] == [
        "Bearer one",
        "Bearer two",
        "Bearer three",
    ]


def test_requests_may_be_compressed(kind, serving, photo):
    with make_client(kind, serving, compression="gzip") as client:
        result = client.predict("mask", {"image": np.zeros((1, 200, 200, 3), np.uint8)})
    assert result["mask"].shape == (1, 200, 200, 1)
    if kind.endswith("rest"):
        assert serving.calls[-1][1]["content-encoding"] == "gzip"
        assert int(serving.calls[-1][1]["content-length"]) < 20_000


def test_what_a_server_would_not_unpack_is_sent_as_it_is_over_rest(serving, monkeypatch):
    monkeypatch.setattr("maskport.serving.client.transport.rest_transport._MOST_UNPACKED", 1000)
    with make_client("sync-rest", serving, compression="gzip") as client:
        for side, encoding in ((5, "gzip"), (50, None)):
            client.predict("mask", {"image": np.zeros((1, side, side, 3), np.uint8)})
            assert serving.calls[-1][1].get("content-encoding") == encoding


def test_reload_is_told_over_grpc_only(client, kind, serving):
    if kind.endswith("rest"):
        with pytest.raises(UnsupportedCallError, match="grpc://"):
            client.reload_config({"model": "/models/model"})
        return
    client.reload_config({"model": "/models/model"})
    (config,) = serving.reloads[0].config.model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("model", "/models/model", "tensorflow")


def test_a_new_version_is_noticed_by_its_answers(client, serving, photo):
    client.segment(photo)
    client.segment(photo)
    assert [method for method, _ in serving.calls].count("GetModelMetadata") == 1


def test_new_signatures_of_a_new_version_are_found(client, serving, monkeypatch):
    client.predict("double", {"x": [1.0]})
    table = {**FakeModel.signatures, "treble": FakeModel.signatures["double"]}
    monkeypatch.setattr(serving.model, "signatures", table, raising=False)
    serving.behaviours.append(lambda signature, inputs: {"y": np.ones(1, np.float32), "name_bytes": [b"t"]})
    time.sleep(1.05)  # metadata younger than a second is trusted
    assert client.predict("treble", {"x": [1.0]})["name_bytes"].tolist() == [b"t"]


def test_images_that_met_other_sizes_in_a_batch_are_told_so(client, serving, photo):
    words = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
    serving.behaviours.append(refuse("FAILED_PRECONDITION", words))
    with pytest.raises(MixedSizesError, match="batching merged callers' images of different sizes"):
        client.predict("mask", {"image": photo[None]})


def _png_bytes(array):
    return {"mask_bytes": [_encoded(array)], "error": [b""]}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (_png_bytes(np.zeros((3, 4), np.uint8)), "the mask in the answer is 3×4, the picture 3×5"),
        (_png_bytes(np.zeros((3, 5, 3), np.uint8)), "8 bits, 3 channels"),
        ({"mask_bytes": [b"JFIF"], "error": [b""]}, "no PNG"),
        ({"mask_bytes": [], "error": []}, "holds not 1 pictures"),
        ({"mask_bytes": [b"", b""], "error": [b"", b""]}, "holds not 1 pictures"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(client, serving, photo, outputs, words):
    outputs = {name: value or np.array(value, dtype=object) for name, value in outputs.items()}
    serving.behaviours.append(lambda signature, inputs: outputs)
    with pytest.raises(InvalidResponseError, match=words):
        client.segment(photo)


def test_a_model_with_pixel_signatures_only_is_fed_pixels(kind, serving, photo, monkeypatch, tmp_path):
    monkeypatch.setattr(serving.model, "signatures", {"mask": FakeModel.signatures["mask"]}, raising=False)
    path = tmp_path / "photo.png"
    path.write_bytes(_encoded(photo))
    with make_client(kind, serving) as client:
        for source in (photo, path):
            assert client.segment(source).mask[0].tolist() == [False, False, True, True, True]
        assert serving.requests[-1][0] == "mask"
        with pytest.raises(SignatureNotFoundError, match=r"no signature 'masked_image_png'.*predict"):
            client.segment(photo, outputs=("masked_image",))
        with pytest.raises(InvalidImageError, match="1 channels was given, and the model takes 3"):
            client.segment(photo[:, :, 0])


def test_a_float_array_needs_a_model_of_floats(client, kind, serving, photo, monkeypatch):
    floats = photo.astype(np.float32) / 255
    with pytest.raises(InvalidImageError, match="float32 was given, and the model takes uint8 pixels"):
        client.segment(floats)
    table = {
        **FakeModel.signatures,
        "mask": ({"image": ("DT_FLOAT", [-1, -1, -1, 3])}, {"mask": ("DT_FLOAT", [-1, -1, -1, 1])}),
    }
    monkeypatch.setattr(serving.model, "signatures", table, raising=False)
    serving.behaviours.append(
        lambda signature, inputs: {"mask": (np.asarray(inputs["image"])[..., :1] > 0.5).astype(np.float32)}
    )
    with make_client(kind, serving) as float_client:
        assert float_client.segment(floats).mask[0].tolist() == [False, False, True, True, True]
    assert serving.requests[-1][0] == "mask"


def test_sixteen_bit_arrays_travel_as_sixteen_bits(client, serving):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    serving.behaviours.append(lambda signature, inputs: _png_bytes(np.zeros((3, 4), np.uint8)))
    client.segment(array)
    with Image.open(io.BytesIO(serving.requests[-1][1]["image_bytes"][0])) as sent:
        assert sent.mode == "I;16"
        np.testing.assert_array_equal(np.array(sent), array)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_an_asyncio_client_in_another_loop_says_so(serving, transport):
    async def use(client):
        return await client.segment(np.full((2, 3, 3), 200, np.uint8))

    async def use_and_make():
        client = AsyncMaskClient(serving.address(transport), "model", timeout=PATIENCE_S)
        await use(client)
        with futures.ThreadPoolExecutor(1) as thread:
            # While the first loop lives, another one can neither call nor close.
            for method in (lambda: use(client), client.close):
                with pytest.raises(ClientClosedError, match="belongs to another event loop"):
                    await asyncio.to_thread(lambda call=method: thread.submit(asyncio.run, call()).result())
        assert (await use(client)).mask.all()
        await client._transports[next(iter(client._transports))].close()
        return client

    client = asyncio.run(use_and_make())
    with pytest.raises(ClientClosedError, match="make the client in the loop that uses it"):
        asyncio.run(use(client))
    asyncio.run(client.close())
    with pytest.raises(ClientClosedError, match="the client is closed"):
        asyncio.run(use(client))
