"""Reads JSON, and words what is wrong with it.

As TensorFlow Serving's parser does, it lets pass more than the standard: NaN and Infinity (also Inf), a byte order
mark, anything after the first document.
"""

import contextlib
import gc
import json
import math
import re
import threading
from collections.abc import Iterator
from typing import Any

import orjson

from ..errors import RequestError, invalid_argument

JsonValue = Any
"""None, bool, int, float, str, list or dict. Larger ints than 64 bits become floats."""

_BARE_NAN = re.compile(rb"[\s:,\[]-?NaN")
_STRING_OR_INF = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|\bInf\b')
_MAX_INT_CHARACTERS = len(str(-(2**63)))
_DESCRIBED_CHARACTERS = 256
_INDENT = "    "
_KINDS = {dict: "Object", list: "Array", str: "String"}


class _Pauses:
    """How many blocks hold the collector off, which there is one of in a process, and whether it ran before them."""

    lock = threading.Lock()
    count = 0
    was_enabled = False


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps Python's garbage collector from looking through a large document during the block.

    A picture as JSON is a quarter of a million small lists. While they are made the collector runs again and again
    over all objects of the process, TensorFlow's included, and takes ten times as long as the parser. Lists of
    numbers cannot be garbage in cycles, so it is held off until they are an array. Blocks of several threads may
    overlap: it runs again after the last of them.
    """
    with _Pauses.lock:
        if not _Pauses.count:
            _Pauses.was_enabled = gc.isenabled()
            gc.disable()
        _Pauses.count += 1
    try:
        yield
    finally:
        with _Pauses.lock:
            _Pauses.count -= 1
            if not _Pauses.count and _Pauses.was_enabled:
                gc.enable()


def parse_object(document: bytes) -> dict[str, JsonValue]:
    """Returns the first value of a document; RequestError where it is no JSON, or no object."""
    value = _UNREAD
    # Which the fast parser would find at the end of its work; in base64 the letters come about by chance.
    if b"NaN" not in document or not _BARE_NAN.search(document):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(document)
    if value is _UNREAD:
        value = _parse_leniently(document)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return value


def _parse_leniently(document: bytes) -> JsonValue:
    if not document.strip():
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        text = document.decode("utf-8-sig").lstrip(" \n\r\t")
        if "Inf" in text:
            text = _STRING_OR_INF.sub(lambda found: found[0] if found[0][0] == '"' else "Infinity", text)
        value, _ = (_CAREFUL if _may_have_large_numbers(document) else _QUICK).raw_decode(text)
        if "\\u" in text:
            # Half of a surrogate pair is no character.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from None
    return value


def _may_have_large_numbers(document: bytes) -> bool:
    """Returns whether a document may hold integers beyond 64 bits, or numbers beyond float64's.

    A single NaN takes a document from the fast parser, and Python's is quick only where it calls nobody back.
    """
    forms = document.translate(_NUMBER_FORMS, delete=b"+")
    return b"0" * len(str(2**63)) in forms or b"e000" in forms


def _integer(text: str) -> int | float:
    # Python refuses to read thousands of digits.
    if len(text) <= _MAX_INT_CHARACTERS and -(2**63) <= int(text) < 2**64:
        return int(text)
    return _finite(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number too big to be stored in double.")
    return number


_UNREAD = object()
_CAREFUL, _QUICK = json.JSONDecoder(parse_int=_integer, parse_float=_finite), json.JSONDecoder()
_NUMBER_FORMS = bytes(
    ord("0" if chr(byte) in "0123456789" else "e" if chr(byte) in "eE" else " ") for byte in range(256)
)
"""Makes any digit a 0, and all that stands in no number a space."""


def format_error(value: JsonValue, complaint: str) -> RequestError:
    """Returns the error of a value of the wrong form."""
    return invalid_argument(f"JSON Value: {describe(value)} {complaint}")


def kind_of(value: JsonValue) -> str:
    """Returns the word for a value's type in error texts."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return next((word for kind, word in _KINDS.items() if isinstance(value, kind)), "Number")


def describe(value: JsonValue) -> str:
    """Returns a value as it stands in error texts: indented, lists on one line, cut after some 256 characters."""
    described = ""
    for piece in _pieces(value, ""):
        described += piece
        if len(described) >= _DESCRIBED_CHARACTERS:
            break
    return described


def _pieces(value: JsonValue, prefix: str, indent: str = "") -> Iterator[str]:
    inner = indent + _INDENT
    if isinstance(value, list):
        yield prefix + "["
        for index, item in enumerate(value):
            yield from _pieces(item, ", " if index else "", inner)
        yield "]"
    elif isinstance(value, dict):
        yield prefix + "{"
        for index, (name, item) in enumerate(value.items()):
            yield ("," if index else "") + f"\n{inner}{_text(name)}"
            yield from _pieces(item, ": ", inner)
        yield f"\n{indent}}}" if value else "}"
    else:
        yield prefix + _text(value)


def _text(scalar: JsonValue) -> str:
    return json.dumps(scalar, ensure_ascii=False)
