"""What stands in files of Keras models beside the weights, and how Keras 3 is made to read those of Keras 2."""

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SourceError

KERAS_FILES = (".keras", ".h5", ".hdf5")

_IGNORED_KEYS = {
    "Conv2DTranspose": {"groups"},
    "DepthwiseConv2D": {"groups"},
    "SeparableConv2D": {"groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"},
}
"""What Keras 2 wrote for a layer, although it means nothing there, and Keras 3 refuses."""
_NESTED_MODELS = ("Functional", "Model", "Sequential")


def check_keras_file(path: str) -> None:
    """SourceError where a file cannot be a whole model of Keras: empty, of the other kind, broken, or weights only."""
    import h5py

    where = f"source {path}"
    is_zip, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
    if os.path.getsize(path) == 0:
        raise SourceError(f"{where}: Keras cannot load it: it is empty")
    if Path(path).suffix.lower() == ".keras":
        if is_hdf5:
            raise SourceError(f"{where}: Keras cannot load it: it is an HDF5 file; rename it to .h5")
        if not is_zip:
            raise SourceError(f"{where}: Keras cannot load it: it is no .keras file, or a broken one")
    elif is_zip:
        raise SourceError(f"{where}: Keras cannot load it: it is a .keras file; rename it so")
    elif not is_hdf5:
        raise SourceError(f"{where}: Keras cannot load it: it is no HDF5 file, or a broken one")
    elif not read_config(path):
        raise SourceError(
            f"{where}: it holds weights only; give a builder function as source and this file as --weights"
        )


def read_config(path: str) -> str:
    """Returns the configuration of the model in a .keras or HDF5 file, as JSON; an empty text where it has none."""
    return _read(path, "config.json", "model_config")


def keras_2_version(path: str) -> str | None:
    """Returns the release of Keras 1 or 2 that saved a file; None where that is not known, or it was a later one."""
    version = _read(path, "metadata.json", "keras_version")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        version = json.loads(version)["keras_version"]  # of a .keras file
    return version if version.startswith(("1.", "2.")) else None


def _read(path: str, member: str, attribute: str) -> str:
    """Returns a text out of a file: from a .keras file's member, or an HDF5 file's attribute; empty if it has none."""
    import h5py

    text: Any = ""
    with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text = archive.read(member)
        else:
            with h5py.File(path) as file:
                text = file.attrs[attribute]
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


@contextlib.contextmanager
def readable_by_keras_3(path: str) -> Iterator[str]:
    """Yields the path of an HDF5 file with the weights of one of Keras 2, and its configuration in terms of Keras 3."""
    import h5py

    with h5py.File(path) as file, tempfile.TemporaryDirectory() as folder:
        config = json.loads(file.attrs["model_config"])
        _modernize(config)
        readable = Path(folder, Path(path).name)
        with h5py.File(readable, "w") as copy:
            for name, value in file.attrs.items():
                copy.attrs[name] = json.dumps(config) if name == "model_config" else value
            for name in file:
                file.copy(name, copy)
        yield str(readable)


def _modernize(config: Any) -> None:
    """Rewrites the configuration of a layer, or of a model and all in it, in place."""
    inner = config.get("config")
    for key in _IGNORED_KEYS.get(config.get("class_name"), ()):
        inner.pop(key, None)
    layers = inner.get("layers") if isinstance(inner, dict) else inner  # the oldest Sequential is a bare list
    if not isinstance(layers, list):
        if isinstance(inner, dict) and isinstance(inner.get("layer"), dict):  # of a wrapper
            _modernize(inner["layer"])
        return
    models = {layer.get("name"): layer["class_name"] for layer in layers if layer["class_name"] in _NESTED_MODELS}
    for layer in layers:
        _modernize(layer)
        for call in layer.get("inbound_nodes", []):
            for origin in call:
                # Keras 2 counted a model's own making as its first call.
                if isinstance(origin, list) and origin and origin[0] in models:
                    origin[1] -= 1
    ends = inner.get("output_layers", []) if isinstance(inner, dict) else []
    if isinstance(ends, list) and all(isinstance(end, list) for end in ends):
        for end in ends:
            # For the others Keras 3 does so itself, though nowhere else.
            if models.get(end[0]) == "Sequential":
                end[1] -= 1
        if len(ends) == 1:
            # A model with a list of one cannot stand in another one.
            (inner["output_layers"],) = ends
