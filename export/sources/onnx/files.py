"""Reading ONNX files. Nothing here needs TensorFlow, so that what is no model is said before it starts."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ..contents import check_content

SUFFIX = ".onnx"
OLDEST_OPSET = 7


def check_onnx_file(path: str) -> None:
    """SourceError where a file on this machine cannot be read as an ONNX model, or what reads it is not installed."""
    read_model(path, with_weights=False)


def read_model(path: str, content: bytes | None = None, with_weights: bool = True) -> Any:
    """Returns the `ModelProto` of a file, with weights that lie beside it.

    Args:
        path: of the file.
        content: the file's bytes, where they come from elsewhere; else it is read.
        with_weights: whether to read what lies in other files.

    Raises:
        SourceError: `onnx` is not installed, or the file holds no whole model.
    """
    where = f"source {path}"
    if importlib.util.find_spec("onnx") is None:
        raise SourceError(f"{where}: reading ONNX needs the extra onnx: pip install 'maskport[onnx]'")
    try:
        key = _key_of(path) if content is None else None
        model = _looked_at.pop(key, None) or _parse(Path(path).read_bytes() if content is None else content, where)
    except OSError as error:
        raise SourceError(f"{where}: cannot be read: {error.strerror}") from error
    if key is not None:
        _beside[key] = _names_beside(model.graph)
    if with_weights:
        _read_weights(model, path, where)
    elif key is not None:
        _looked_at.clear()
        _looked_at[key] = model
    return model


_looked_at: dict[Any, Any] = {}
"""The model that was read last without its weights: reading it with them needs no second parsing."""
_beside: dict[Any, list[str]] = {}
"""The names of the files beside those that were read."""


def _key_of(path: str) -> tuple[str, int]:
    return os.path.abspath(path), os.stat(path).st_mtime_ns


def _parse(content: bytes, where: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    check_content(content, where)
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise SourceError(f"{where}: it is no ONNX model, or a broken or truncated one") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise SourceError(f"{where}: it is no ONNX model, or one without any operators")
    return model


def weights_beside(path: str) -> list[Path]:
    """Returns the files that hold weights of a model, other than its own; in order, whether they are there or not."""
    key = _key_of(path)
    if key not in _beside:
        read_model(path, with_weights=False)
    return [Path(path).parent / name for name in _beside[key]]


def _names_beside(graph: Any) -> list[str]:
    names = set()
    for tensor in _tensors(graph):
        names |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return sorted(names)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for part in (attribute.g, *attribute.graphs):
            yield from _tensors(part)


def _read_weights(model: Any, path: str, where: str) -> None:
    from onnx.external_data_helper import ExternalDataInfo

    folder = Path(os.path.abspath(path)).parent
    places: dict[str, Path] = {}
    for name in _names_beside(model.graph):
        # Caches keep both a model and its weights behind links; else what leads elsewhere is nobody's weights.
        places[name] = (folder / name).resolve()
        is_below = Path(os.path.abspath(folder / name)).is_relative_to(folder)
        is_beside = is_below and (os.path.islink(path) or places[name].is_relative_to(folder.resolve()))
        if not is_beside or not places[name].is_file():
            raise SourceError(f"{where}: its weights lie in {name!r}, which is not beside it")
    for tensor in _tensors(model.graph):
        if not tensor.external_data:
            continue
        try:
            info = ExternalDataInfo(tensor)
            with places[info.location].open("rb") as file:
                file.seek(info.offset or 0)
                tensor.raw_data = file.read(-1 if info.length is None else info.length)
        except (OSError, ValueError) as error:
            raise SourceError(f"{where}: its weights beside it cannot be read: {error}") from error
        if info.length is not None and len(tensor.raw_data) < info.length:
            raise SourceError(f"{where}: its weights in {info.location} are cut off")
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]
