"""The signatures of a SavedModel, read from its file without TensorFlow.

Only the two outer levels of `saved_model.pb` are walked by hand; the signatures themselves are messages that
the wire has. The graph, which is most of the file, is passed over.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from ..client.transport.signatures import SignatureInfo, metadata_of_message
from ..wire.messages import SignatureDefMap
from .errors import GoldenError

SAVED_MODEL_FILE = "saved_model.pb"

_META_GRAPHS = 2  # SavedModel.meta_graphs
_SIGNATURE_DEF = 5  # MetaGraphDef.signature_def, a map: the same entries as SignatureDefMap.signature_def
_MAP_TAG = b"\x0a"  # field 1 of SignatureDefMap, of its length
_OF_LENGTH = 2
_FIXED_BYTES = {1: 8, 5: 4}


def read_signatures(path: Path) -> Mapping[str, SignatureInfo]:
    """Returns the signatures of the (first) graph of a `saved_model.pb`, by name.

    Raises:
        GoldenError: it is no SavedModel.
    """
    try:
        graphs = [content for number, content in _fields(path.read_bytes()) if number == _META_GRAPHS]
        if not graphs:
            raise ValueError("it holds no graph")
        entries = [content for number, content in _fields(graphs[0]) if number == _SIGNATURE_DEF]
        message = SignatureDefMap.FromString(b"".join(_MAP_TAG + _varint(len(entry)) + entry for entry in entries))
    except (ValueError, IndexError, DecodeError) as error:
        raise GoldenError(f"{path} is no whole SavedModel: {error}") from error
    return metadata_of_message("", None, message).signatures


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields number and content of a message's fields that have a length; passes over the others."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _OF_LENGTH:
            length, position = _read_varint(message, position)
            if position + length > len(message):
                raise ValueError("it ends in the middle of a field")
            yield number, message[position : position + length]
            position += length
        elif kind == 0:
            _, position = _read_varint(message, position)
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            raise ValueError(f"it holds a field of the unknown kind {kind}")


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("it holds a number of more than 64 bits")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
