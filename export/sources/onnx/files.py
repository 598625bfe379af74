"""Reading ONNX files. Only those behind URLs need TensorFlow, so that what is no model is said before it starts."""

import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceError
from ..paths.contents import check_content

SUFFIX = ".onnx"
OLDEST_OPSET = 7


def check_onnx_file(path: str) -> None:
    """SourceError where a file on this machine cannot be read as an ONNX model, or what reads it is not installed."""
    read_model(path, with_weights=False)


def read_model(path: str, with_weights: bool = True) -> Any:
    """Returns the `ModelProto` of a file, with weights that lie beside it.

    Args:
        path: of the file, or its URL.
        with_weights: whether to read what lies in other files.

    Raises:
        SourceError: `onnx` is not installed, or the file holds no whole model.
    """
    where = f"source {path}"
    if importlib.util.find_spec("onnx") is None:
        raise SourceError(f"{where}: reading ONNX needs the extra onnx: pip install 'maskport[onnx]'")
    try:
        key = _key_of(path)
        model = _looked_at.pop(key, None)
        if model is None:
            with _open(path) as file:
                model = _parse(file.read(), where)
    except OSError as error:
        raise SourceError(f"{where}: cannot be read: {error.strerror}") from error
    _beside[key] = _names_beside(model.graph)
    if with_weights:
        _read_weights(model, path, where)
    else:
        _looked_at.clear()
        _looked_at[key] = model
    return model


def _open(path: str) -> Any:
    return _gfile().GFile(path, "rb") if "://" in path else Path(path).open("rb")


def _gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile


_looked_at: dict[Any, Any] = {}
"""The model that was read last without its weights: reading it with them needs no second parsing."""
_beside: dict[Any, list[str]] = {}
"""The names of the files beside those that were read."""


def _key_of(path: str) -> tuple[str, int]:
    if "://" in path:
        return path, _gfile().stat(path).mtime_nsec
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


def weights_beside(path: str) -> list[str]:
    """Returns the files that hold weights of a model, other than its own; in order, whether they are there or not.

    Args:
        path: of the model's file, or its URL.
    """
    key = _key_of(path)
    if key not in _beside:
        read_model(path, with_weights=False)
    return [os.path.join(os.path.dirname(path), name) for name in _beside[key] if _is_below(name)]


def _is_below(name: str) -> bool:
    pure = PurePosixPath(name)
    return not pure.is_absolute() and ".." not in pure.parts


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

    places: dict[str, str] = {}
    for name in _names_beside(model.graph):
        places[name] = os.path.join(os.path.dirname(path), name)
        is_there = _gfile().exists if "://" in path else functools.partial(_is_file_beside, path)
        if not _is_below(name) or not is_there(places[name]):
            raise SourceError(f"{where}: its weights lie in {name!r}, which is not beside it")
    for tensor in _tensors(model.graph):
        if not tensor.external_data:
            continue
        try:
            info = ExternalDataInfo(tensor)
            with _open(places[info.location]) as file:
                file.seek(info.offset or 0)
                tensor.raw_data = file.read(-1 if info.length is None else info.length)
        except Exception as error:  # of a file system, or of what numbers a broken file gives
            raise SourceError(f"{where}: its weights beside it cannot be read: {error}") from error
        if info.length is not None and len(tensor.raw_data) < info.length:
            raise SourceError(f"{where}: its weights in {info.location} are cut off")
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _is_file_beside(path: str, weights: str) -> bool:
    """Whether weights are in the folder of a model, or it is a link: caches keep both behind links, also elsewhere."""
    place, folder = Path(weights).resolve(), Path(os.path.abspath(path)).parent.resolve()
    return place.is_file() and (os.path.islink(path) or place.is_relative_to(folder))
