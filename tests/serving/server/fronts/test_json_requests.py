"""REST bodies become tensors. The oracle for numbers is NumPy's conversion of the very list."""

import base64

import numpy as np
import orjson
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from maskport.serving.server.errors import RequestError
from maskport.serving.server.fronts.json_requests import Layout, read_examples, read_predict
from maskport.serving.status_codes import StatusCode
from tensorflow.core.framework import types_pb2

FLOAT, INT32, UINT8, BOOL, STRING = (
    types_pb2.DT_FLOAT,
    types_pb2.DT_INT32,
    types_pb2.DT_UINT8,
    types_pb2.DT_BOOL,
    types_pb2.DT_STRING,
)


DTYPES = {
    FLOAT: np.float32,
    INT32: np.int32,
    UINT8: np.uint8,
    BOOL: np.bool_,
    STRING: object,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT64: np.uint64,
    types_pb2.DT_HALF: np.float16,
}


def read(body, **types):
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_predict(text, lambda name: types)


_SCALARS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.sampled_from([0, 1, 255, 256, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.binary(max_size=4).map(lambda data: {"b64": base64.b64encode(data).decode()}),
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
_BODIES = st.one_of(
    st.builds(lambda value: {"instances": value}, st.lists(_VALUES, max_size=4)),
    st.builds(
        lambda rows: {"instances": rows},
        st.lists(st.dictionaries(st.sampled_from("xyz"), _VALUES, max_size=3), max_size=4),
    ),
    st.builds(lambda value: {"inputs": value}, _VALUES | st.dictionaries(st.sampled_from("xyz"), _VALUES)),
    st.builds(lambda value: {"instances": [value] * 3, "signature_name": "s"}, _VALUES),
)
_TYPES = st.dictionaries(
    st.sampled_from("xy"),
    st.sampled_from([FLOAT, INT32, UINT8, BOOL, STRING, types_pb2.DT_INT64, types_pb2.DT_UINT64, types_pb2.DT_HALF]),
    min_size=1,
)


@settings(max_examples=600, deadline=None)
@given(body=_BODIES, types=_TYPES)
def test_any_body_is_tensors_of_the_wanted_types_or_refused(body, types):
    try:
        inputs = read(body, **types).inputs
    except RequestError:
        return
    for name, array in inputs.items():
        assert array.dtype == DTYPES[types[name]]
        source = body.get("instances", body.get("inputs"))
        if isinstance(source, list) and not any(isinstance(item, dict) for item in source):
            assert array.shape == np.array(source, object).shape
            if types[name] != STRING:
                # Small integers wrap around; NumPy refuses to do that in one step.
                wide = np.int64 if types[name] == UINT8 else array.dtype
                with np.errstate(over="ignore"):
                    np.testing.assert_array_equal(array, np.array(source, object).astype(wide).astype(array.dtype))


@settings(max_examples=100, deadline=None)
@given(
    array=arrays.arrays(
        st.sampled_from([np.int32, np.int64, np.uint64, np.float32, np.float64]),
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=3),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    layout=st.sampled_from(Layout),
)
def test_numbers_come_through_to_the_bit(array, layout):
    dtype = next(number for number, kind in DTYPES.items() if kind == array.dtype)
    read_back = read({layout.value: array.tolist()}, x=dtype).inputs["x"]
    assert (read_back.dtype, read_back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read_back, array)


def test_rows_are_stacked():
    body = read({"instances": [[1, 2], [3, 4]]}, x=FLOAT)
    assert body.layout is Layout.ROWS
    assert body.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert body.inputs["x"].dtype == np.float32


def test_columns_are_taken_as_they_are():
    body = read({"inputs": {"x": 7, "y": [1, 2]}, "signature_name": "s"}, x=INT32, y=FLOAT)
    assert (body.layout, body.signature_name) == (Layout.COLUMNS, "s")
    assert body.inputs["x"].shape == ()
    assert body.inputs["y"].tolist() == [1, 2]


def test_words_for_what_is_no_number_are_numbers():
    values = read(b'{"instances":[NaN, Infinity, -Inf]}', x=FLOAT).inputs["x"]
    assert np.isnan(values[0])
    assert values[1:].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("aGk=", b"hi"),
        ("aGk", b"hi"),
        ("aG k=\n", b"hi"),
        ("aGk.", None),
        ("aGk==", None),
        ("a", None),
        ("_-8=", None),
        ("aGk=aGk=", None),
        ("", b""),
    ],
)
def test_base64_is_read_with_white_space_and_without_padding(text, data):
    if data is None:
        with pytest.raises(RequestError, match="Unable to base64 decode"):
            read({"inputs": {"b64": text}}, x=STRING)
    else:
        assert read({"inputs": {"b64": text}}, x=STRING).inputs["x"].item() == data


@pytest.mark.parametrize(
    ("body", "types", "text"),
    [
        (
            {"instances": [1, [2]]},
            {"x": FLOAT},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [] "
            "but got: [1]",
        ),
        (
            {"instances": [[[1, 2]], [[1], [2]]]},
            {"x": FLOAT},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [1,2] "
            "but got: [2,1]",
        ),
        (
            {"instances": [{"x": 1}, {"b64": "aGk="}]},
            {"x": FLOAT},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [1, {"x": 1}]},
            {"x": FLOAT},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"inputs": [1, [2]]},
            {"x": FLOAT},
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            {"inputs": [{"b64": 5}]},
            {"x": STRING},
            'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data',
        ),
        ({"inputs": {}}, {"x": FLOAT, "y": FLOAT}, "Missing named input: x in 'inputs' object."),
        ({"instances": []}, {"x": FLOAT}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ({"inputs": 1}, {}, "Failed to get input map for signature: DEFAULT"),
    ],
)
def test_wrong_bodies_are_refused_in_tensorflow_servings_words(body, types, text):
    with pytest.raises(RequestError) as failure:
        read(body, **types)
    assert (failure.value.code, failure.value.message) == (StatusCode.INVALID_ARGUMENT, text)


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_lists_in_more_lists_than_an_array_can_have_are_refused(depth):
    with pytest.raises(RequestError) as failure:
        read(b'{"inputs":' + b"[" * depth + b"]" * depth + b"}", x=FLOAT)
    assert failure.value.code == StatusCode.INVALID_ARGUMENT


def test_type_that_json_has_no_form_for_is_unimplemented():
    with pytest.raises(RequestError) as failure:
        read({"inputs": [1.5]}, x=types_pb2.DT_HALF)
    assert str(failure.value) == "UNIMPLEMENTED: Conversion of JSON Value: 1.5 to type: half"


def test_examples_take_each_kind_of_feature():
    signature_name, examples = read_examples(
        orjson.dumps(
            {
                "signature_name": "s",
                "context": {"c": 1},
                "examples": [{"f": [1.5, 2.5], "i": 3, "b": True, "s": "a", "d": {"b64": "aGk="}}],
            }
        )
    )
    listed = examples.example_list_with_context
    assert signature_name == "s"
    assert listed.context.features.feature["c"].int64_list.value == [1]
    feature = listed.examples[0].features.feature
    assert feature["f"].float_list.value == [1.5, 2.5]
    assert feature["i"].int64_list.value == [3]
    assert feature["b"].int64_list.value == [1]
    assert feature["s"].bytes_list.value == [b"a"]
    assert feature["d"].bytes_list.value == [b"hi"]


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        ([{"x": [1, 2.5]}], "Unexpected element type in feature: x expecting type: int64"),
        ([{"x": None}], "Feature: x has element with unexpected JSON type: Null"),
        ([{"x": 2**63}], "Feature: x has uint64_t element. Only int64_t is supported."),
        ([5], "Example must be JSON object but got JSON Number"),
    ],
)
def test_wrong_examples_are_refused_in_tensorflow_servings_words(examples, text):
    with pytest.raises(RequestError) as failure:
        read_examples(orjson.dumps({"examples": examples}))
    assert failure.value.message == text


@pytest.mark.parametrize("letters", ["", "u" * 50 + "l" * 50, "ul" * 1500], ids=["none", "some", "many"])
@pytest.mark.parametrize("boolean", [True, False])
def test_a_boolean_among_numbers_is_found_whatever_else_stands_in_the_body(letters, boolean):
    with pytest.raises(RequestError, match=f"JSON Value: {str(boolean).lower()} Type: {boolean} is not of expected"):
        read({"inputs": {"name": letters, "x": [1, 2, boolean]}}, name=STRING, x=FLOAT)
    inputs = read({"inputs": {"name": letters, "x": [1, 2, 3]}}, name=STRING, x=FLOAT).inputs
    assert inputs["x"].tolist() == [1, 2, 3]
