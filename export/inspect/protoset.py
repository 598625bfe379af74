"""The definitions of TensorFlow Serving's messages, as a file for grpcurl and its like."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import prediction_service_pb2


def write_protoset(path: Path) -> None:
    """Writes PredictionService and all that it needs, as a serialised FileDescriptorSet."""
    found: dict[str, Any] = {}
    _collect(prediction_service_pb2.DESCRIPTOR, found)
    files = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    path.write_bytes(files.SerializeToString(deterministic=True))


def _collect(file: Any, found: dict[str, Any]) -> None:
    """Adds a file after all that it imports."""
    for imported in file.dependencies:
        if imported.name not in found:
            _collect(imported, found)
    found[file.name] = file
