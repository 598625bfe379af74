import numpy as np
import pytest
from any_client import make_client
from fake_serving import STRING, UINT8, FakeModel, FakeServing, RefusedError, refuse
from maskport.serving.client import (
    InvalidImageError,
    InvalidRequestError,
    MixedVersionsError,
    ModelNotFoundError,
    RetryPolicy,
    ServerFaultError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from maskport.serving.client.calling.operations import Operations
from maskport.serving.client.calling.sending import Caller, Terms
from maskport.serving.client.calling.steps import Compute
from maskport.serving.client.pictures.files.png import encode_png
from maskport.serving.client.segmenting.segmentation import Segmentation
from maskport.serving.client.transport.addresses import parse_addresses
from maskport.serving.client.transport.calls import MetadataCall, Prediction, Reply, Target
from maskport.serving.client.transport.security import Credentials
from maskport.serving.client.transport.signatures import ModelMetadata, SignatureInfo, TensorSpec
from waiting import PATIENCE_S

PICTURE = np.full((2, 3, 3), 200, np.uint8)
LARGE = np.zeros((1000, 1500, 3), np.uint8)  # more than go in one call together
OPERATIONS = "maskport.serving.client.calling.operations"


class _Inverted(FakeModel):
    """A newer version, whose masks and probabilities are those of the negative."""

    def _product(self, product, picture, threshold):
        return super()._product(product, 255 - np.asarray(picture), threshold)


@pytest.fixture
def rollout(kind):
    """A client of two servers, of which one has a newer version already."""
    transport = kind.split("-")[1]
    with FakeServing() as old, FakeServing(_Inverted()) as new:
        new.version = 8
        with make_client(kind, [old.address(transport), new.address(transport)], timeout=PATIENCE_S) as client:
            yield client, (old, new)


def test_products_of_one_result_are_of_one_version_while_servers_have_different_ones(rollout):
    client, _ = rollout
    for _ in range(6):
        result = client.segment(PICTURE, outputs=("mask", "probability"))
        assert result.version in (7, 8)
        assert result.mask.all() == (result.version == 7)
        np.testing.assert_allclose(result.probability, 200 / 255 if result.version == 7 else 55 / 255, atol=1e-4)


def test_where_no_version_answers_for_all_products_that_is_the_error(rollout, monkeypatch):
    monkeypatch.setattr("maskport.serving.client.segmenting.segmentation._PAUSES_S", (0, 0))
    client, servers = rollout

    def know_no_version(name, version):
        if version is not None:
            raise RefusedError("NOT_FOUND", "Servable not found for request")

    for server in servers:
        server.check_target = know_no_version
    with pytest.raises(MixedVersionsError, match=r"no version answered for all products: .* different ones") as caught:
        client.segment(PICTURE, outputs=("mask", "probability"))
    assert isinstance(caught.value.__cause__, ModelNotFoundError)
    assert "not found for request" in caught.value.server_message
    sent = sum(len(server.requests) for server in servers)
    items = list(client.segment_many([PICTURE] * 8, outputs=("mask", "probability"), batch_size=8))
    assert {type(item.error) for item in items} == {MixedVersionsError}
    assert sum(len(server.requests) for server in servers) <= sent + 2  # once of each product, and not for each picture
    assert client.segment(PICTURE, outputs=("probability",)).version in (7, 8, None)


def test_a_version_that_comes_between_two_results_has_both_products_of_the_next(client, serving, monkeypatch):
    assert client.segment(PICTURE, outputs=("mask", "probability")).mask.all()
    monkeypatch.setattr(serving, "model", _Inverted())
    serving.version = 8
    result = client.segment(PICTURE, outputs=("mask", "probability"))
    assert not result.mask.any()
    assert result.probability.max() < 0.5
    assert result.version == 8


def test_a_late_error_of_a_group_leaves_what_was_done_and_what_follows(client, serving):
    client.segment(PICTURE)
    serving.behaviours += [lambda *_: None, refuse("INTERNAL", "out of order")]
    items = list(client.segment_many([LARGE, b"", LARGE, LARGE], batch_size=4, concurrency=1))
    assert [type(item.error) for item in items] == [type(None), InvalidImageError, ServerFaultError, type(None)]
    assert items[0].result.mask.shape == items[3].result.mask.shape == (1000, 1500)


def test_a_group_waits_but_once_for_a_server_that_is_gone(kind):
    with FakeServing() as serving:
        gone = serving.address(kind.split("-")[1])
    with make_client(kind, gone, retries=RetryPolicy(max_attempts=2)) as client:
        items = list(client.segment_many([LARGE] * 3, batch_size=3, concurrency=1))
    assert {type(item.error) for item in items} == {ServerUnavailableError}
    assert len({id(item.error) for item in items}) == 1


def test_a_picture_for_which_there_is_no_signature_fails_alone(client, serving, monkeypatch):
    monkeypatch.setattr(serving.model, "signatures", {"mask_png": FakeModel.signatures["mask_png"]}, raising=False)
    items = list(client.segment_many([PICTURE] * 3, [None, 0.3, None], batch_size=3))
    assert [type(item.error) for item in items] == [type(None), SignatureNotFoundError, type(None)]


def test_each_call_of_a_group_has_all_of_its_time():
    now = 0.0
    caller = Caller(
        parse_addresses("grpc://localhost:1"),
        credentials=Credentials(),
        retries=RetryPolicy(),
        observers=(),
        clock=lambda: now,
    )
    string = TensorSpec("DT_STRING", (-1,))
    signature = SignatureInfo("mask_png", {"image_bytes": string}, {"mask_bytes": string, "error": string})
    allowed = []

    def do(step):
        nonlocal now
        if isinstance(step, Compute):
            return step.function()
        now += 7
        if isinstance(step.call, MetadataCall):
            return Reply(ModelMetadata("m", 1, {"mask_png": signature}), 0, 0)
        allowed.append(step.timeout_s)
        mask = encode_png(np.zeros(LARGE.shape[:2], np.uint8))
        outputs = {"mask_bytes": np.array([mask], object), "error": np.array([b""], object)}
        return Reply(Prediction(outputs, 1), 0, 0)

    def run(script):
        step = next(script)
        while True:
            step = script.send(do(step))

    script = Segmentation(Operations(Target("m"), caller), caller).segment(
        [LARGE] * 3, [None] * 3, ("mask",), Terms(10.0, turn_s=10.0)
    )
    with pytest.raises(StopIteration) as ended:
        run(script)
    assert [result.mask.shape for result in ended.value.value] == [(1000, 1500)] * 3
    assert allowed == [3, 10, 10]


# ---- a version that comes while calls only fail ----


@pytest.fixture
def newer(serving, monkeypatch):
    """Publishes another version of the model."""
    monkeypatch.setattr(f"{OPERATIONS}._METADATA_FRESH_S", -1)

    def publish(**model):
        serving.version += 1
        for name, value in model.items():
            monkeypatch.setattr(serving.model, name, value, raising=False)

    return publish


def test_what_an_older_version_refused_is_sent_to_a_newer_one_that_takes_it(client, newer):
    encoded = {name: signature for name, signature in FakeModel.signatures.items() if name != "mask"}
    newer(signatures=encoded, info={"spec": {"image_dtype": "uint8"}})
    dark = encode_png(np.full((2, 3), 200, np.uint16))
    for _ in range(2):
        with pytest.raises(InvalidImageError, match="black to the model, which takes 8 bits"):
            client.segment(dark)
    newer(info={"spec": {"image_dtype": "uint16"}})
    assert client.segment(dark).size == (2, 3)


def test_a_signature_that_a_newer_version_lacks_is_done_without(client, serving, newer):
    assert client.segment(PICTURE).mask.all()
    newer(signatures={"mask": FakeModel.signatures["mask"]})
    assert client.segment(PICTURE).mask.all()
    assert [signature for signature, _ in serving.requests] == ["mask_png", "mask_png", "mask"]


def test_inputs_of_a_newer_version_are_found_where_the_older_ones_are_refused(client, serving, newer):
    assert client.predict("double", {"x": [1, 2]})["y"].tolist() == [2, 4]
    _, outputs = FakeModel.signatures["double"]
    newer(signatures={"double": ({"x": (UINT8, [-1])}, outputs), "mask_png": ({"x": (STRING, [-1])}, {})})
    serving.behaviours.append(refuse("INVALID_ARGUMENT", "input x has another dtype"))
    assert client.predict("double", {"x": [1, 2]})["y"].tolist() == [2, 4]
    sent = len(serving.requests)
    serving.behaviours.append(refuse("INVALID_ARGUMENT", "the model's own words"))
    with pytest.raises(InvalidRequestError, match="the model's own words"):
        client.predict("double", {"x": [1, 2]})
    assert len(serving.requests) == sent + 1  # as nothing is new


def test_what_another_call_has_learnt_is_not_asked_again(client, serving, newer, monkeypatch):
    """Of several calls that an older version's signatures were chosen for."""
    assert client.segment(PICTURE).mask.all()
    monkeypatch.setattr(f"{OPERATIONS}._METADATA_FRESH_S", 1e9)
    newer(signatures={"mask": FakeModel.signatures["mask"]})

    def learn_and_refuse(*_):
        client.metadata()
        raise RefusedError("INVALID_ARGUMENT", "no signature of this name")

    serving.behaviours.append(learn_and_refuse)
    assert client.segment(PICTURE).mask.all()
    assert [signature for signature, _ in serving.requests] == ["mask_png", "mask_png", "mask"]


def test_a_refusal_is_the_error_where_nothing_else_is_told(client, serving, newer, monkeypatch):
    client.segment(PICTURE)

    def refuse_and_go(*_):
        monkeypatch.setattr(serving, "check_target", refuse("PERMISSION_DENIED", "gone"))
        raise RefusedError("INVALID_ARGUMENT", "the model's own words")

    serving.behaviours.append(refuse_and_go)
    with pytest.raises(InvalidRequestError, match="the model's own words"):
        client.predict("double", {"x": [1, 2]})
