"""JSON is read as RapidJSON reads it: what it lets pass, what it refuses, and in which words."""

import contextlib
import json
import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maskport.serving.server.errors import RequestError
from maskport.serving.server.fronts import json_reader

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@settings(deadline=None)
@given(value=_JSON)
def test_valid_json_is_read_as_other_parsers_read_it(value):
    for text in (orjson.dumps(value), json.dumps(value, indent=1).encode()):
        assert json_reader.parse(text) == json.loads(text)


@settings(deadline=None)
@given(text=st.binary(max_size=40) | st.text(alphabet='[]{}:,"\\u0123e+-.NaIinfty tr', max_size=30).map(str.encode))
def test_any_bytes_are_a_value_or_an_error_of_the_request(text):
    with contextlib.suppress(RequestError):
        json_reader.parse(text)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b'{"a":1} rest', {"a": 1}),
        (b"[1][2]", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"[Infinity, -Infinity, Inf, -Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
        (b'{"a":1,"a":2}', {"a": 1}),
        (b"[-0]", [0]),
        (b"[18446744073709551615, 18446744073709551616]", [2**64 - 1, 1.8446744073709552e19]),
        (b"[-9223372036854775808, -9223372036854775809]", [-(2**63), -9.223372036854775808e18]),
        (b"[1e-400]", [0.0]),
        (b"[1e-" + b"9" * 5000 + b"]", [0.0]),
        (b"[1e" + b"0" * 5000 + b"2]", [100.0]),
        (b'["\\ud83d\\ude00\\u0000"]', ["😀\0"]),
        (b'["\xff"]', ["\udcff"]),
    ],
)
def test_what_rapidjson_lets_pass_is_let_pass(document, value):
    assert json_reader.parse(document) == value


def test_nan_is_a_number():
    assert math.isnan(json_reader.parse(b"[NaN]")[0])


def test_members_keep_their_order_and_their_repetitions():
    assert json_reader.parse(b'{"b":1,"a":2,"b":3}').members == [("b", 1), ("a", 2), ("b", 3)]


def test_nesting_has_no_limit():
    value = json_reader.parse(b"[" * 100_000 + b"]" * 100_000)
    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 99_999


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"]", "The document is empty. at offset: 0"),
        (b"hello", "Invalid value. at offset: 0"),
        (b"tru", "Invalid value. at offset: 3"),
        (b"nul ", "Invalid value. at offset: 3"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[,1]", "Invalid value. at offset: 1"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b"{1:2}", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":}', "Invalid value. at offset: 5"),
        (b'{"a":1 "b"}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\nb"]', "Invalid encoding in string. at offset: 3"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\udc00\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[5.]", "Miss fraction part in number. at offset: 3"),
        (b"[5e]", "Miss exponent in number. at offset: 3"),
        (b"[5e+]", "Miss exponent in number. at offset: 4"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"-", "Invalid value. at offset: 1"),
        (b"[nan]", "Invalid value. at offset: 2"),
        (b"[Nan]", "Invalid value. at offset: 3"),
        (b"[Infin]", "Invalid value. at offset: 6"),
        (b"[1e309]", "Number too big to be stored in double. at offset: 1"),
        (b"[0e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[1e" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[0.00e310]", None),
    ],
)
def test_what_rapidjson_refuses_is_refused_in_its_words(document, complaint):
    if complaint is None:
        json_reader.parse(document)
        return
    with pytest.raises(RequestError) as failure:
        json_reader.parse(document)
    assert failure.value.message == f"JSON Parse error: {complaint}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (2.0, "2.0"),
        (1.5, "1.5"),
        (1e21, "1e21"),
        (1e20, "100000000000000000000.0"),
        (123456.789, "123456.789"),
        (1e-6, "0.000001"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
        ('a"\\\n\x01é', '"a\\"\\\\\\n\\u0001é"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2, 3]], "[1, [2, 3]]"),
        ({"a": [1, {"b": 2}]}, '{\n    "a": [1, {\n            "b": 2\n        }]\n}'),
    ],
)
def test_values_stand_in_error_texts_as_rapidjson_writes_them(value, text):
    assert json_reader.describe(value) == text


def test_long_value_is_cut_in_error_texts():
    assert json_reader.describe(list(range(1000))).endswith(", 66")
    assert len(json_reader.describe("x" * 1000)) == 1002
