"""Tensors as JSON: what a parser reads back is what the model gave."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from maskport.serving.server.errors import RequestError, invalid_argument
from maskport.serving.server.fronts.json_answers import write_error, write_outputs
from maskport.serving.server.fronts.json_requests import Layout


def columns(**outputs):
    return json.loads(write_outputs(outputs, Layout.COLUMNS))["outputs"]


def rows(**outputs):
    return json.loads(write_outputs(outputs, Layout.ROWS))["predictions"]


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@settings(max_examples=200, deadline=None)
@given(
    array=arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_numbers_are_read_back_as_they_were(array):
    back = np.array(columns(x=array), array.dtype).reshape(array.shape)
    np.testing.assert_array_equal(back, array)


@settings(max_examples=200, deadline=None)
@given(
    shape=arrays.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=3),
    channels=st.sampled_from([(), (1,), (1, 1)]),
)
def test_lists_are_nested_as_the_axes_are(shape, channels):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, *channels) - 1.5
    assert write_outputs({"x": array}, Layout.COLUMNS) == b'{\n    "outputs": %b\n}' % _compact(array)
    array[..., -1] = np.nan
    np.testing.assert_array_equal(np.array(rows(x=array), np.float32), array)


def _compact(array):
    return json.dumps(array.tolist(), separators=(",", ":")).encode()


def test_what_is_no_number_has_tensorflow_servings_words():
    body = write_outputs({"x": np.array([np.nan, np.inf, -np.inf, 1], np.float32)}, Layout.ROWS)
    assert b"[NaN,Infinity,-Infinity,1.0]" in body


def test_float32_is_written_with_no_more_digits_than_it_has():
    assert b"0.1," in write_outputs({"x": np.array([0.1, 1], np.float32)}, Layout.COLUMNS)


def test_one_output_stands_alone_several_by_name():
    x, y = np.array([[1], [2]], np.int32), np.array([3.5, 4.5], np.float32)
    assert rows(x=x) == [[1], [2]]
    assert rows(x=x, y=y) == [{"x": [1], "y": 3.5}, {"x": [2], "y": 4.5}]
    assert columns(x=x, y=y) == {"x": [[1], [2]], "y": [3.5, 4.5]}


def test_scalar_stands_without_brackets():
    assert columns(x=np.float32(3).reshape(())) == 3.0
    text = np.empty((), object)
    text[()] = b"alone"
    assert columns(x=text) == "alone"


def test_bytes_are_base64_where_the_name_says_so():
    assert columns(x_bytes=objects(b"hi")) == [{"b64": "aGk="}]
    assert columns(x=objects(b"hi", "é".encode(), b"\0")) == ["hi", "é", "\0"]


def test_strings_that_are_not_utf8_are_base64_too():
    assert columns(x=objects(b"ok", b"\xff")) == ["ok", {"b64": "/w=="}]


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"x": np.float32(1).reshape(())}, "Tensor name: x has no shape information "),
        (
            {"x": np.ones(2, np.float32), "y": np.ones(3, np.float32)},
            "Tensor name: y has inconsistent batch size: 3 expecting: 2",
        ),
        ({"x": np.ones(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({}, "Cannot convert empty tensor map to JSON"),
    ],
)
def test_outputs_that_rows_cannot_hold_are_refused(outputs, text):
    with pytest.raises(RequestError) as failure:
        write_outputs(outputs, Layout.ROWS)
    assert failure.value.message == text


@pytest.mark.parametrize("text", ['a "quoted" line\n', "é"])
def test_error_text_is_valid_json(text):
    assert json.loads(write_error(invalid_argument(text))) == {"error": text}
