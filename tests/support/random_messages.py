"""Fills protobuf messages of any kind with random content, driven by their descriptors alone."""

import random
import struct
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_MAX_DEPTH = 6

_INTEGER_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (True, 32),
    FieldDescriptor.CPPTYPE_INT64: (True, 64),
    FieldDescriptor.CPPTYPE_UINT32: (False, 32),
    FieldDescriptor.CPPTYPE_UINT64: (False, 64),
}


def random_message(message_class: type[M], rng: random.Random) -> M:
    """Returns a message whose every field is set, left out or repeated at random, at every depth."""
    message = message_class()
    fill(message, rng)
    return message


def fill(message: Message, rng: random.Random, depth: int = 0) -> None:
    """Sets random fields of a message to random values; of a oneof, at most one."""
    descriptor: Descriptor = message.DESCRIPTOR
    chosen = {oneof.name: rng.choice([None, *oneof.fields]) for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and chosen[oneof.name] is not field:
            continue
        if oneof is None and rng.random() < 0.3:
            continue
        _fill_field(message, field, rng, depth)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _fill_field(message: Message, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    target: Any = getattr(message, field.name)
    if field.message_type is not None and depth >= _MAX_DEPTH:
        return
    if _is_map(field):
        key, value = field.message_type.fields
        for _ in range(rng.randrange(3)):
            name = _scalar(key, rng)
            if value.message_type is not None:
                fill(target[name], rng, depth + 1)
            else:
                target[name] = _scalar(value, rng)
    elif field.is_repeated:
        for _ in range(rng.randrange(4)):
            if field.message_type is not None:
                fill(target.add(), rng, depth + 1)
            else:
                target.append(_scalar(field, rng))
    elif field.message_type is not None:
        target.SetInParent()
        fill(target, rng, depth + 1)
    else:
        setattr(message, field.name, _scalar(field, rng))


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind in _INTEGER_BITS:
        signed, bits = _INTEGER_BITS[kind]
        value = rng.getrandbits(rng.choice([1, 7, 8, bits - 1, bits]))
        return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return rng.choice([rng.uniform(-1, 1), float("inf"), float("-inf"), -0.0])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.randrange(20))
    return "".join(chr(rng.choice([0x20, 0x41, 0xE9, 0x20AC, 0x1F600]) + rng.randrange(8)) for _ in range(4))
