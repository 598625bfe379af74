"""JSON is read as other parsers read it, with what TensorFlow Serving's lets pass beside."""

import contextlib
import gc
import json
import math

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from maskport.serving.server.errors import RequestError
from maskport.serving.server.fronts import json_documents
from maskport.serving.server.fronts.json_documents import collector_paused, describe, parse_object

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=30,
)


@settings(deadline=None)
@given(value=_JSON, rest=st.sampled_from(["", " \n", "rest", "[1]"]))
def test_valid_json_is_read_as_other_parsers_read_it(value, rest):
    for text in (orjson.dumps({"a": value}), json.dumps({"a": value}, indent=1).encode()):
        assert parse_object(text + rest.encode()) == {"a": value}


@settings(deadline=None)
@given(text=st.binary(max_size=40) | st.text(alphabet='[]{}:,"\\u0123e+-.NaIinfty tr', max_size=30).map(str.encode))
def test_any_bytes_are_a_value_or_an_error_of_the_request(text):
    for document in (text, b'{"a":' + text + b"}"):
        with contextlib.suppress(RequestError):
            parse_object(document)


@pytest.mark.parametrize("text", ["abNaN0", "/NaN", "+NaNInf"])
def test_letters_of_base64_take_no_document_from_the_fast_parser(monkeypatch, text):
    monkeypatch.setattr(json_documents, "_parse_leniently", None)
    assert parse_object(b'{"b64":"%b"}' % text.encode()) == {"b64": text}
    for number in (b'{"a":NaN}', b'{"a":[1,-NaN]}', b'{"a": [NaN]}'):
        with pytest.raises(TypeError):
            parse_object(number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[Infinity, -Infinity, Inf, -Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
        ('["Inf", "a\\"Inf", Inf]', ["Inf", 'a"Inf', math.inf]),
        ("[18446744073709551615, 18446744073709551616]", [2**64 - 1, 1.8446744073709552e19]),
        ("[NaN, 18446744073709551616, -1, 18446744073709551615, 1e-400]", [None, 2.0**64, -1, 2**64 - 1, 0.0]),
        ("[NaN, 1" + "0" * 300 + "]", [None, 1e300]),
        ('["\\ud83d\\ude00\\u0000", Inf]', ["😀\0", math.inf]),
    ],
)
@pytest.mark.parametrize("start", ["", "\ufeff", " \n"])
def test_what_tensorflow_serving_lets_pass_is_let_pass(text, value, start):
    found = parse_object(f'{start}{{"a":{text}}} rest'.encode())["a"]
    assert [None if isinstance(one, float) and math.isnan(one) else one for one in found] == value


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"  ", b"]", b"hello", b"tru", b"{", b"{1:2}", b'{"a":1,}', b'{"a" 1}', b'{"a":}', b"{'a':1}"),
        *(b'{"a":%b}' % text for text in (b"01", b"5.", b"5e", b"-", b"nan", b"Nan", b"Infin", b"Infi", b"0x10")),
        *(b'{"a":%b}' % text for text in (b'"\xff"', b'"a\nb"', b'"\\x"', b'"\\u12g4"', b'"\\ud800"', b'"\\udc00"')),
        *(b'{"a":%b}' % text for text in (b"1e309", b"[NaN,1e309]", b"[NaN,1%b]" % (b"0" * 400), b"1" * 5000)),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda document: document[:20].decode("latin-1"),
)
def test_what_is_no_json_is_refused(document):
    with pytest.raises(RequestError, match=r"^INVALID_ARGUMENT: JSON Parse error: "):
        parse_object(document)


@pytest.mark.parametrize("document", [b"5", b"[1, 2]", b"null", b'"abc"'])
def test_other_values_than_objects_are_refused(document):
    with pytest.raises(RequestError) as failure:
        parse_object(document)
    assert failure.value.message == f"JSON Value: {document.decode()} Is not object"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2.0, "2.0"),
        ('a"\n', '"a\\"\\n"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2, 3]], "[1, [2, 3]]"),
        ({"a": [1, {"b": 2}]}, '{\n    "a": [1, {\n            "b": 2\n        }]\n}'),
    ],
)
def test_values_stand_in_error_texts_as_tensorflow_serving_writes_them(value, text):
    assert describe(value) == text


def test_long_and_deep_values_are_cut_in_error_texts():
    assert describe(list(range(1000))).endswith(", 66")
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert len(describe(deep)) < 300


def test_the_collector_runs_again_after_the_last_of_overlapping_pauses():
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
