"""TensorFlow Serving's messages, made at run time from `messages.binpb`.

Generated protobuf code promises to work with the protobuf release that made it and the next one only, and
registers its names with the process. A descriptor set in a pool of its own does neither: the classes here
work with protobuf 5, 6 and 7, and beside the official tensorflow-serving-api. `messages.pyi` says what there
is: every message and enum of `messages.proto` under its own name, and the values of its enums.
"""

import pkgutil
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.internal import enum_type_wrapper


def _message_class(descriptor: Descriptor) -> Any:
    """Returns the class of a message; the classes of those nested in it are its attributes."""
    message_class = message_factory.GetMessageClass(descriptor)
    for name, nested in descriptor.nested_types_by_name.items():
        # The pure Python implementation leaves that to generated code.
        if not nested.GetOptions().map_entry and not hasattr(message_class, name):
            setattr(message_class, name, _message_class(nested))
    return message_class


def _load() -> dict[str, Any]:
    """Returns the messages and enums of the descriptor set by their names."""
    content = pkgutil.get_data(__package__, "messages.binpb")
    if content is None:
        raise ImportError(f"{__package__} lies where its data files cannot be read")
    pool = descriptor_pool.DescriptorPool()
    names: dict[str, Any] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindFileByName(file.name)
        names["DESCRIPTOR"] = descriptor
        for name, message in descriptor.message_types_by_name.items():
            names[name] = _message_class(message)
        for name, enum in descriptor.enum_types_by_name.items():
            names[name] = enum_type_wrapper.EnumTypeWrapper(enum)
            names.update((value.name, value.number) for value in enum.values)
    return names


globals().update(_load())
