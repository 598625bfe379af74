"""Reads JSON exactly as TensorFlow Serving's parser (RapidJSON) does, down to its error texts.

It differs from the standard in what it lets pass: NaN and Infinity (also Inf), anything after the first
document, bytes that are not UTF-8, a first one of several members of one name, any depth. It is written for
exactness: `json_requests` takes a fast parser first, and comes here where that one objects or might differ.
"""

import contextlib
import math
import re
from typing import Any

from ..errors import RequestError, invalid_argument

JsonValue = Any
"""None, bool, int, float, str, list, or `JsonObject`. Larger ints than 64 bits become floats."""

_WHITE_SPACE = re.compile(rb"[ \n\r\t]*")
_DIGITS = re.compile(rb"[0-9]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {ord(key): value for key, value in zip('"/\\bfnrt', b'"/\\\b\f\n\r\t', strict=True)}
_LITERALS = {ord("n"): (b"null", None), ord("t"): (b"true", True), ord("f"): (b"false", False)}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LARGEST_UNSIGNED = 2**64 - 1
_SMALLEST_SIGNED = -(2**63)
_MAX_EXPONENT = 308
_MAX_EXPONENT_DIGITS = 20
"""Of any exponent that a text in memory could make up for by digits of its fraction, and more."""
_DESCRIBED_BYTES = 256
_INDENT = "    "
_MAX_PLAIN_EXPONENT = 21
_MIN_PLAIN_EXPONENT = -6


class JsonObject(dict[str, JsonValue]):
    """An object. Of several members with one name the first counts; `members` has them all, in order."""

    def __init__(self, members: list[tuple[str, JsonValue]]) -> None:
        super().__init__(reversed(members))
        self.members = members


def parse(document: bytes) -> JsonValue:
    """Returns the first value of a document.

    Strings keep bytes that are not UTF-8 as surrogates (`surrogateescape`).

    Raises:
        RequestError: it is no JSON.
    """
    if not document:
        raise invalid_argument("JSON Parse error: The document is empty")
    return _Parser(document).parse()


class _Parser:
    """One pass over a document, without recursion: nesting is limited by memory only."""

    def __init__(self, document: bytes) -> None:
        self._text = document
        self._at = len(_BYTE_ORDER_MARK) if document.startswith(_BYTE_ORDER_MARK) else 0

    def parse(self) -> JsonValue:
        self._skip_white_space()
        if self._peek() < 0:
            raise self._error("The document is empty.")
        if self._peek() in b"]},:":
            raise self._error("The document is empty.")
        # Each open container: the list being filled, and for an object the name of its next member.
        containers: list[tuple[list[Any], bool]] = []
        names: list[str] = []
        while True:
            # A value begins here.
            first = self._peek()
            if first == ord("[") or first == ord("{"):
                self._at += 1
                is_object = first == ord("{")
                containers.append(([], is_object))
                self._skip_white_space()
                if self._peek() == (ord("}") if is_object else ord("]")):
                    value = self._close(containers)
                elif is_object:
                    names.append(self._member_name())
                    continue
                else:
                    self._check_value_begins()
                    continue
            else:
                value = self._scalar()
            # A value ended here: put it where it belongs, and close what ends with it.
            while containers:
                items, is_object = containers[-1]
                items.append((names.pop(), value) if is_object else value)
                self._skip_white_space()
                following = self._peek()
                if following == ord(","):
                    self._at += 1
                    self._skip_white_space()
                    if is_object:
                        names.append(self._member_name())
                    else:
                        self._check_value_begins()
                    break
                if following != (ord("}") if is_object else ord("]")):
                    after = "'}' after an object member." if is_object else "']' after an array element."
                    raise self._error(f"Missing a comma or {after}")
                value = self._close(containers)
            else:
                return value

    def _close(self, containers: list[tuple[list[Any], bool]]) -> JsonValue:
        self._at += 1
        items, is_object = containers.pop()
        return JsonObject(items) if is_object else items

    def _check_value_begins(self) -> None:
        first = self._peek()
        if first < 0 or first in b"]},:":
            raise self._error("Invalid value.")

    def _member_name(self) -> str:
        if self._peek() != ord('"'):
            raise self._error("Missing a name for object member.")
        name = self._string()
        self._skip_white_space()
        if self._peek() != ord(":"):
            raise self._error("Missing a colon after a name of object member.")
        self._at += 1
        self._skip_white_space()
        self._check_value_begins()
        return name

    def _scalar(self) -> JsonValue:
        first = self._peek()
        if first == ord('"'):
            return self._string()
        if first in _LITERALS:
            word, value = _LITERALS[first]
            self._at += 1
            for byte in word[1:]:
                if self._peek() != byte:
                    raise self._error("Invalid value.")
                self._at += 1
            return value
        return self._number()

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            plain = _PLAIN.match(self._text, self._at)
            if plain is not None:
                parts.append(plain[0])
                self._at = plain.end()
            byte = self._peek()
            if byte == ord('"'):
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == ord("\\"):
                parts.append(self._escape())
            elif byte < 0:
                raise self._error("Missing a closing quotation mark in string.")
            else:
                raise self._error("Invalid encoding in string.")

    def _escape(self) -> bytes:
        start = self._at
        self._at += 1
        letter = self._peek()
        self._at += 1
        if letter in _ESCAPES:
            return bytes((_ESCAPES[letter],))
        if letter != ord("u"):
            raise self._error("Invalid escape character in string.", start)
        code = self._hex4(start)
        is_surrogate = range(0xD800, 0xE000)
        if code in is_surrogate:
            if code >= 0xDC00 or self._text[self._at : self._at + 2] != b"\\u":
                raise self._error("The surrogate pair in string is invalid.", start)
            self._at += 2
            second = self._hex4(start)
            if second not in is_surrogate or second < 0xDC00:
                raise self._error("The surrogate pair in string is invalid.", start)
            code = ((code - 0xD800) << 10 | (second - 0xDC00)) + 0x10000
        return chr(code).encode()

    def _hex4(self, start: int) -> int:
        digits = _HEX4.match(self._text, self._at)
        if digits is None:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        self._at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> int | float:
        start = self._at
        is_negative = self._take(b"-")
        if self._peek() in (ord("N"), ord("I")):
            return -self._not_finite() if is_negative else self._not_finite()
        if self._take(b"0"):
            pass
        elif not self._digits():
            raise self._error("Invalid value.")
        is_integer = True
        if self._take(b"."):
            is_integer = False
            if not self._digits():
                raise self._error("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            is_integer = False
            exponent_is_negative = not self._take(b"+") and self._take(b"-")
            exponent_at = self._at
            if not self._digits():
                raise self._error("Miss exponent in number.")
            # An exponent is too large by itself, even where the number before it is 0.
            # Python refuses to read thousands of digits.
            exponent = int(self._text[exponent_at : self._at].lstrip(b"0")[:_MAX_EXPONENT_DIGITS] or b"0")
            if not exponent_is_negative and exponent > self._largest_exponent(start):
                raise self._error("Number too big to be stored in double.", start)
        text = self._text[start : self._at]
        if is_integer and len(text) <= len(str(_LARGEST_UNSIGNED)) + 1:
            integer = int(text)
            if _SMALLEST_SIGNED <= integer <= _LARGEST_UNSIGNED:
                return integer
        number = float(text)
        if math.isinf(number):
            raise self._error("Number too big to be stored in double.", start)
        return number

    def _largest_exponent(self, start: int) -> int:
        fraction = re.match(rb"-?[0-9]+(?:\.([0-9]*))?", self._text[start : self._at])
        return _MAX_EXPONENT + len(fraction[1] or b"") if fraction else _MAX_EXPONENT

    def _not_finite(self) -> float:
        for word, number in ((b"NaN", math.nan), (b"Infinity", math.inf), (b"Inf", math.inf)):
            if self._text.startswith(word, self._at):
                self._at += len(word)
                if word == b"Inf" and self._peek() == ord("i"):
                    self._skip_common(b"inity")
                    raise self._error("Invalid value.")
                return number
        self._skip_common(b"NaN" if self._peek() == ord("N") else b"Inf")
        raise self._error("Invalid value.")

    def _skip_common(self, word: bytes) -> None:
        """Goes on to where a word is left, which is where the error is said to be."""
        for byte in word:
            if self._peek() != byte:
                return
            self._at += 1

    def _digits(self) -> bool:
        digits = _DIGITS.match(self._text, self._at)
        if digits is None or not digits[0]:
            return False
        self._at = digits.end()
        return True

    def _take(self, byte: bytes) -> bool:
        if self._peek() == byte[0]:
            self._at += 1
            return True
        return False

    def _peek(self) -> int:
        """Returns the next byte, or -1 at the end; a zero byte ends a document, too."""
        if self._at < len(self._text) and self._text[self._at]:
            return self._text[self._at]
        return -1

    def _skip_white_space(self) -> None:
        space = _WHITE_SPACE.match(self._text, self._at)
        if space is not None:
            self._at = space.end()

    def _error(self, reason: str, offset: int | None = None) -> RequestError:
        at = self._at if offset is None else offset
        return invalid_argument(f"JSON Parse error: {reason} at offset: {at}")


def kind_of(value: JsonValue) -> str:
    """Returns the word for a value's type in error texts."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


class _CutError(Exception):
    """A description ends here, cut."""


def describe(value: JsonValue) -> str:
    """Returns a value as it stands in error texts: indented, lists on one line, cut after some 256 bytes."""
    description = _Description()
    with contextlib.suppress(_CutError):
        description.add(value, 0)
    return "".join(description.parts)


class _Description:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self._length = 0

    def add(self, value: JsonValue, depth: int, prefix: str = "") -> None:
        if isinstance(value, list):
            self._put(prefix + "[")
            for index, item in enumerate(value):
                self.add(item, depth + 1, ", " if index else "")
            self._put("]")
        elif isinstance(value, dict):
            self._put(prefix + "{")
            members = value.members if isinstance(value, JsonObject) else list(value.items())
            for index, (name, member) in enumerate(members):
                self._put(("," if index else "") + "\n" + _INDENT * (depth + 1) + _quoted(name))
                self.add(member, depth + 1, ": ")
            self._put("\n" + _INDENT * depth + "}" if members else "}")
        elif isinstance(value, float) and not math.isfinite(value):
            # RapidJSON's writer stops at what JSON has no word for.
            self._put(prefix)
            raise _CutError
        else:
            self._put(prefix + _scalar_text(value))

    def _put(self, text: str) -> None:
        if self._length >= _DESCRIBED_BYTES:
            raise _CutError
        self.parts.append(text)
        self._length += len(text.encode("utf-8", "surrogateescape"))


def _scalar_text(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    return _float_text(value) if isinstance(value, float) else str(value)


_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPED.get(c) or (c if c >= " " else f"\\u{ord(c):04X}") for c in text) + '"'


def _float_text(number: float) -> str:
    if number == 0:
        return "-0.0" if math.copysign(1, number) < 0 else "0.0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent_text = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The number is 0.DIGITS times ten to this power.
    power = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0") or "0"
    if len(digits) <= power <= _MAX_PLAIN_EXPONENT:
        return sign + digits.ljust(power, "0") + ".0"
    if 0 < power <= _MAX_PLAIN_EXPONENT:
        return f"{sign}{digits[:power]}.{digits[power:]}"
    if _MIN_PLAIN_EXPONENT < power <= 0:
        return f"{sign}0.{'0' * -power}{digits}"
    point = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{point}e{power - 1}"
