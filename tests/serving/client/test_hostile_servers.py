"""Servers that answer what no server should: every call ends with an error of the client's, or with a right result."""

import json
import random

import grpc
import numpy as np
import pytest
from any_client import make_client
from fake_serving import FakeModel
from hostile_serving import HostileServing
from maskport.serving.client import InvalidResponseError, MaskServingError, MessageTooLargeError
from storms.mutation import mutated
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2
from waiting import PATIENCE_S

PICTURE = np.full((8, 12, 3), 200, np.uint8)
SEEDS = 60
NOT_NUMBERS = [None, True, -1, 0, 2**70, 1e300, float("nan"), "x", "7", [], [[]], {}, {"a": 1}]


@pytest.fixture
def hostile(shared_serving, serving):
    with HostileServing(serving) as hostile:
        yield hostile


@pytest.fixture(params=["grpc", "rest"])
def calls(request, hostile):
    """Makes a client that has what it knows of the model, and one that has not."""

    def client(**options):
        return make_client(f"sync-{request.param}", hostile, timeout=PATIENCE_S, **options)

    return client


def use(client, tmp_path):
    """Calls all that reads answers; each call may fail, but as calls fail. Returns how many did."""
    failed, texts = 0, []
    steps = (
        client.metadata,
        client.status,
        client.info,
        lambda: look_at(client.segment(PICTURE, outputs=("mask", "class_map", "probability"))),
        lambda: client.segment(PICTURE.astype(np.float32)),
        lambda: client.segment_large(PICTURE, tmp_path / "mask.npy", tile=64, overlap=8),
        lambda: client.predict("double", {"x": [1.0, 2.0]}),
        lambda: client.predict("double", {"x": []}),
    )
    for step in steps:
        try:
            step()
        except MaskServingError as error:
            failed += 1
            texts.append(str(error))
    assert "\n" not in "".join(texts)
    return failed


def look_at(result):
    assert result.size == PICTURE.shape[:2]
    for product in (result.mask, result.probability, result.class_map):
        assert product.shape == PICTURE.shape[:2]


def test_whatever_bytes_an_answer_has_a_call_fails_as_calls_fail(calls, hostile, tmp_path):
    failed = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        # Mostly one kind of answer is changed, so that what comes after it is reached.
        wanted = chance.choice(["GetModelMetadata", "metadata", "Predict", "model:predict", "GetModelStatus", "model"])
        hostile.mangle = lambda method, answer, seed=seed, wanted=wanted: (
            mutated(random.Random(seed), answer) if method == wanted else answer
        )
        with calls() as client:
            failed += use(client, tmp_path)
    assert failed > SEEDS / 4


@pytest.mark.parametrize(
    ("where", "field"),
    [
        *(("threshold", ""), ("classes", ""), ("model", ""), ("spec", ""), ("model", "channels"), ("model", "size")),
        *(("spec", field) for field in ("model_size", "pad_to_multiple", "image_dtype", "clean", "max_model_pixels")),
    ],
)
def test_whatever_a_model_tells_of_itself_a_call_fails_as_calls_fail(calls, monkeypatch, tmp_path, where, field):
    for value in NOT_NUMBERS:
        told = {field: value, "resize": "letterbox"} if field else value
        monkeypatch.setattr(FakeModel, "info", {**FakeModel.info, where: told})
        with calls() as client:
            use(client, tmp_path)


@pytest.mark.parametrize("info", ["[" * 90 + "]" * 90, json.dumps({"a": 1})[:-1], "{" + '"a":{' * 900 + "}" * 901])
def test_info_of_any_depth_is_read_or_refused(calls, hostile, serving, info):
    serving.behaviours.append(lambda *_: {"info": [info.encode()]})
    with calls() as client, pytest.raises(InvalidResponseError, match="the model's info"):
        client.info()


def test_signatures_of_types_that_no_array_has_are_errors(hostile, tmp_path):
    def mangle(method, answer, number=0, size=-1):
        if method != "GetModelMetadata":
            return answer
        response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(answer)
        table = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(table)
        for signature in table.signature_def.values():
            for one in (*signature.inputs.values(), *signature.outputs.values()):
                one.dtype = number
                for dim in one.tensor_shape.dim:
                    dim.size = size
        response.metadata["signature_def"].Pack(table)
        return response.SerializeToString()

    # A resource, a variant, a reference, none at all, and none that there is; and sizes that no array has.
    for number in (20, 21, 101, 0, 999):
        hostile.mangle = lambda method, answer, number=number: mangle(method, answer, number)
        with make_client("sync-grpc", hostile, timeout=PATIENCE_S) as client:
            assert use(client, tmp_path) >= 4
    hostile.mangle = lambda method, answer: mangle(method, answer, 1, 2**62)
    with make_client("sync-grpc", hostile, timeout=PATIENCE_S) as client:
        assert use(client, tmp_path) >= 4


@pytest.mark.parametrize("shape", [[1, 20_000, 20_000, 1], [300_000_000], [2**31, 2**31, 2**31]])
def test_a_tensor_of_a_few_bytes_does_not_fill_the_memory(hostile, shape):
    response = predict_pb2.PredictResponse()
    for name in ("y", "name_bytes"):
        tensor = response.outputs[name]
        tensor.dtype = 1 if name == "y" else 7
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.append(1.0)
    hostile.mangle = lambda method, answer: response.SerializeToString() if method == "Predict" else answer
    with (
        make_client("sync-grpc", hostile, timeout=PATIENCE_S) as client,
        pytest.raises(InvalidResponseError, match=r"too few to be meant|larger than"),
    ):
        client.predict("double", {"x": [1.0]})


@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_answer_beyond_the_limit_is_refused_over_grpc(serving, is_compressed):
    with HostileServing(serving, grpc.Compression.Gzip if is_compressed else None) as hostile:
        hostile.mangle = lambda method, answer: bytes(4 << 20) if method == "GetModelStatus" else answer
        with make_client("sync-grpc", hostile, timeout=PATIENCE_S, max_answer_bytes=1 << 20) as client:
            with pytest.raises(MessageTooLargeError, match=r"larger than max.*max_answer_bytes"):
                client.status()
            assert client.segment(PICTURE).mask.all()


@pytest.mark.parametrize("kind", ["sync-rest", "async-rest"])
def test_an_answer_without_an_end_is_given_up_at_the_limit(hostile, kind):
    sent = []

    def endless():
        while True:
            sent.append(1 << 16)
            yield bytes(1 << 16)

    hostile.mangle = lambda method, answer: endless() if method == "model" else answer
    with make_client(kind, hostile, timeout=PATIENCE_S, max_answer_bytes=1 << 20) as client:
        with pytest.raises(MessageTooLargeError, match=r"the answer is larger than 1048576 bytes.*max_answer_bytes"):
            client.status()
        assert client.segment(PICTURE).mask.all()
    assert sum(sent) < 64 << 20  # what the system's buffers hold beside


@pytest.mark.parametrize("value", [0, -1, 2**31, True, 1.5, None])
def test_a_limit_that_is_none_is_refused(value):
    with pytest.raises(MaskServingError, match=r"max_answer_bytes=.* is no whole number from 1 to 2147483647"):
        make_client("sync-grpc", "grpc://localhost:1", max_answer_bytes=value)
