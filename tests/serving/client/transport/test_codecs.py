"""Whatever comes back, the codecs answer with a value or with an error of the family."""

import base64
import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from maskport.serving.client import (
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    SignatureInfo,
    TensorSpec,
)
from maskport.serving.client.transport import grpc_codec, rest_codec
from maskport.serving.client.transport.calls import MetadataCall, PredictCall, StatusCall, Target
from maskport.serving.client.transport.signatures import check_inputs

TARGET = Target("model")
SIGNATURE = SignatureInfo(
    "mask_png",
    {"image_bytes": TensorSpec("DT_STRING", (-1,))},
    {"mask_bytes": TensorSpec("DT_STRING", (-1,)), "error": TensorSpec("DT_STRING", (-1,))},
)
NUMBERS = SignatureInfo("numbers", {"x": TensorSpec("DT_FLOAT", None)}, {"y": TensorSpec("DT_FLOAT", None)})
CALLS = [
    PredictCall(TARGET, SIGNATURE, {}),
    PredictCall(TARGET, NUMBERS, {}),
    MetadataCall(TARGET),
    StatusCall(TARGET),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["outputs", "mask_bytes", "error", "b64", "model_version_status", "version", "state", "metadata",
             "signature_def", "model_spec", "inputs", "dtype", "tensor_shape", "dim", "size", "x"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.name}-{getattr(call, 'signature', TARGET)}"[:25])
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300)
def test_rest_answers_of_any_kind_raise_nothing_of_their_own(call, body):
    with contextlib.suppress(MaskServingError):
        rest_codec.decode(call, body)
    assert isinstance(rest_codec.error_of_answer(500, body, {"content-type": "application/json"}), MaskServingError)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.name}-{getattr(call, 'signature', TARGET)}"[:25])
@given(message=st.binary(max_size=80))
@settings(max_examples=300)
def test_grpc_answers_of_any_kind_raise_nothing_of_their_own(call, message):
    with contextlib.suppress(MaskServingError):
        grpc_codec.decode(call, message)


def _sent(signature, **inputs):
    request = rest_codec.encode(PredictCall(TARGET, signature, inputs))
    return json.loads(request.body)


def test_bytes_travel_in_base64_and_numbers_as_they_are():
    data = np.empty((2,), object)
    data[:] = [b"\x00\xff", b""]
    assert _sent(SIGNATURE, image_bytes=data) == {
        "signature_name": "mask_png",
        "inputs": {"image_bytes": [{"b64": "AP8="}, {"b64": ""}]},
    }
    assert _sent(NUMBERS, x=np.array([[0.5, 1e30]], np.float32))["inputs"]["x"] == [[0.5, 1e30]]
    assert _sent(NUMBERS, x=np.array(0.5, np.float32))["inputs"]["x"] == 0.5


def test_numbers_that_json_lacks_are_written_as_tensorflow_serving_reads_them():
    request = rest_codec.encode(PredictCall(TARGET, NUMBERS, {"x": np.array([np.nan, np.inf, -np.inf])}))
    assert b"[NaN,Infinity,-Infinity]" in request.body
    request = rest_codec.encode(PredictCall(TARGET, NUMBERS, {"x": np.array(np.nan, np.float32)}))
    assert b'"x":NaN' in request.body
    answer = b'{"outputs": [NaN, Infinity, 2]}'
    got = rest_codec.decode(PredictCall(TARGET, NUMBERS, {}), answer).outputs["y"]
    np.testing.assert_array_equal(got, np.array([np.nan, np.inf, 2], np.float32))


@pytest.mark.parametrize("outputs", [b"1e39", b"[0, 1e39]", b"[[-1e39]]"])
def test_numbers_beyond_the_output_s_type_are_no_answer(outputs):
    with pytest.raises(InvalidResponseError, match=r"output 'y' is not .*overflow"):
        rest_codec.decode(PredictCall(TARGET, NUMBERS, {}), b'{"outputs": %b}' % outputs)


@pytest.mark.parametrize("dtype", [np.complex64, np.float16])
def test_types_that_rest_lacks_are_refused(dtype):
    with pytest.raises(InvalidRequestError, match="no form in JSON; use the server's grpc:// address"):
        rest_codec.encode(PredictCall(TARGET, NUMBERS, {"x": np.zeros(2, dtype)}))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (Target("a b/c"), "/v1/models/a%20b%2Fc"),
        (Target("m", version=3), "/v1/models/m/versions/3"),
        (Target("m", label="ä"), "/v1/models/m/labels/%C3%A4"),
    ],
)
def test_names_are_percent_encoded(target, path):
    assert rest_codec.encode(StatusCall(target)).path == path


def test_without_pybase64_the_same_is_sent_and_read(monkeypatch):
    data = np.array([[b"\x00\xff", b""], [b"abc", b'"}']], object)
    answer = b'{"outputs": {"mask_bytes": [{"b64": "AP8="}], "error": [{"b64": ""}]}}'
    call = PredictCall(TARGET, SIGNATURE, {"image_bytes": data})
    bodies = [rest_codec.encode(call).body]
    for name in ("b64encode", "b64decode"):
        monkeypatch.setattr(rest_codec, name, getattr(base64, name))
    bodies.append(rest_codec.encode(call).body)
    assert bodies[0] == bodies[1]
    sent = json.loads(bodies[0])["inputs"]["image_bytes"]
    assert [[base64.b64decode(one["b64"]) for one in row] for row in sent] == data.tolist()
    assert rest_codec.decode(call, answer).outputs["mask_bytes"].tolist() == [b"\x00\xff"]


def test_without_orjson_the_same_is_sent_and_read(monkeypatch):
    array = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    with_it = rest_codec.encode(PredictCall(TARGET, NUMBERS, {"x": array})).body
    answer = b'{"outputs": [1.5, 2]}'
    monkeypatch.setattr(rest_codec, "orjson", None)
    without = rest_codec.encode(PredictCall(TARGET, NUMBERS, {"x": array})).body
    np.testing.assert_array_equal(
        np.array(json.loads(with_it)["inputs"]["x"], np.float32),
        np.array(json.loads(without)["inputs"]["x"], np.float32),
    )
    assert rest_codec.decode(PredictCall(TARGET, NUMBERS, {}), answer).outputs["y"].tolist() == [1.5, 2]


@pytest.mark.parametrize("size", ["1e999", '"x"', "[]", "{}"])
def test_sizes_that_are_none_are_invalid_responses(size):
    shape = f'{{"dtype": "DT_FLOAT", "tensor_shape": {{"dim": [{{"size": {size}}}]}}}}'
    signatures = f'{{"signature_def": {{"signature_def": {{"mask": {{"inputs": {{"x": {shape}}}}}}}}}}}'
    body = f'{{"model_spec": {{}}, "metadata": {signatures}}}'
    with pytest.raises(InvalidResponseError, match="not a model's metadata"):
        rest_codec.decode(MetadataCall(TARGET), body.encode())
    with pytest.raises(InvalidResponseError, match="not a model's status"):
        rest_codec.decode(StatusCall(TARGET), f'{{"model_version_status": [{{"version": {size}}}]}}'.encode())


@pytest.mark.parametrize("data_type", ["DT_NONSENSE", "DT_RESOURCE", ""])
def test_an_input_of_a_type_that_nobody_knows_is_an_invalid_request(data_type):
    signature = SignatureInfo("mask", {"image": TensorSpec(data_type, (-1,))}, {})
    with pytest.raises(InvalidRequestError, match="input 'image': there is no dtype for"):
        check_inputs(signature, {"image": [1, 2]})


@pytest.mark.parametrize("value", ["[]", "[[], []]"])
def test_an_empty_answer_has_the_dtype_and_axes_of_its_signature(value):
    outputs = {"text": TensorSpec("DT_STRING", (-1,)), "map": TensorSpec("DT_UINT8", (-1, -1, -1, 2))}
    call = PredictCall(TARGET, SignatureInfo("both", {}, outputs), {})
    found = rest_codec.decode(call, f'{{"outputs": {{"text": [], "map": {value}}}}}'.encode()).outputs
    assert (found["text"].dtype, found["text"].shape) == (object, (0,))
    assert (found["map"].dtype, found["map"].shape) == (np.uint8, (0, 1, 1, 2) if value == "[]" else (2, 0, 1, 2))
