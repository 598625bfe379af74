"""Looking at files of Keras models, without TensorFlow."""

import contextlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ..paths.contents import HEAD_BYTES, check_content

KERAS_FILES = (".keras", ".h5", ".hdf5")
CONFIG_MEMBER, CONFIG_ATTRIBUTE = "config.json", "model_config"
"""Where the configuration of a model is in a .keras and in an HDF5 file."""
WEIGHTS_MEMBER = "model.weights.h5"
"""Where the weights are in a .keras file; a folder that holds both is such a file, not zipped."""
SHARDED_WEIGHTS = ".weights.json"
"""How the name of a file ends that says in which others the weights are."""


def check_keras_file(path: str, where: str = "") -> None:
    """SourceError where a file cannot be a whole model of Keras: empty, of the other kind, broken, or weights only.

    Of a folder only the weights are looked at. `where` is in what, for people, if that is not the path.
    """
    import h5py

    where = where or f"source {path}"
    is_folder = os.path.isdir(path)
    with Path(path, WEIGHTS_MEMBER if is_folder else "").open("rb") as file:
        check_content(file.read(HEAD_BYTES), f"{where}: Keras cannot load it")
    if is_folder:
        return
    is_zip, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
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
    return _read(path, CONFIG_MEMBER, CONFIG_ATTRIBUTE)


def keras_2_version(path: str) -> str | None:
    """Returns the release of Keras 1 or 2 that saved a file; None where that is not known, or it was a later one."""
    version = _read(path, "metadata.json", "keras_version")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        version = json.loads(version)["keras_version"]  # of a .keras file
    return version if version.startswith(("1.", "2.")) else None


def shards_of_weights(index: bytes, path: str) -> list[str]:
    """Returns the paths of the files with the weights that a `.weights.json`, of this content and path, names."""
    try:
        places = json.loads(index)["weight_map"].values()
        names = {os.path.basename(name) for place in places for name in ([place] if isinstance(place, str) else place)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"weights {path}: it names no files with weights ({error!r})") from error
    return [os.path.join(os.path.dirname(path), name) for name in sorted(names)]


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
