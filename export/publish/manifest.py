"""`maskport.json`: what an export is, for people, clients and the verification gate.

Nothing in it depends on the time or the machine, and nothing tells where files lay: any caller of the model
can read it by `export_info`.
"""

import contextlib
import dataclasses
import glob
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from ...serving import contract
from ..model.segmentation_model import SegmentationModel
from ..probing.probe import ProbeResult
from ..sources.graphs.files import SUFFIX as JAVASCRIPT_FILE, parse_document, shards_of
from ..sources.keras.files import CONFIG_MEMBER, SHARDED_WEIGHTS, WEIGHTS_MEMBER, shards_of_weights
from ..sources.keras.local import MEMBERS
from ..sources.onnx.files import SUFFIX as ONNX_FILE, weights_beside
from ..sources.paths.elsewhere import reading
from ..spec import ExportSpec, is_builder

SCHEMA_VERSION = 1
_LOCAL_FIELDS = {"output_dir", "version", "keep", "source", "weights"}
"""Fields of the spec that are about the machine that exported, not about the model."""


def make_manifest(
    spec: ExportSpec,
    model: SegmentationModel,
    optimization: str,
    signatures: list[str],
    foreground: list[int],
    adds_foreground: bool,
    probed: ProbeResult,
    source_sha256: str,
    reproducibility: Mapping[str, float | None],
) -> str:
    """Returns the text of `maskport.json`."""
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "maskport_version": importlib.metadata.version("maskport"),
        "source": {
            "name": spec.source if is_builder(spec.source) else Path(spec.source.rstrip("/")).name,
            "sha256": source_sha256,
            "description": model.description,
        },
        "spec": spec.model_dump(mode="json", exclude=_LOCAL_FIELDS),
        "model": {
            "channels": model.channels,
            "size": list(model.size) if model.size else None,
            "batch": model.batch,
            "data_format": model.data_format,
            "input_dtype": model.input_dtype.name,
            "output_channels": model.output_channels,
            "answers_classes": model.answers_classes,
            "parameters": model.parameter_count,
            "optimization": optimization,
        },
        "classes": spec.classes,
        "foreground": {"channels": foreground, "combined_by": "sum" if adds_foreground else "maximum"},
        "threshold": spec.threshold,
        "full_scale": spec.full_scale,
        "signatures": {
            name: {
                "inputs": list(contract.SIGNATURES[name].inputs),
                "outputs": list(contract.SIGNATURES[name].outputs),
            }
            for name in signatures
        },
        "probe": {
            **{
                name: value if math.isfinite(value) else None  # which JSON has no number for
                for name, value in (("minimum", probed.minimum), ("maximum", probed.maximum))
            },
            "min_edge": probed.min_edge,
            "outputs_exclude_each_other": probed.excludes,
            "map": probed.alignment.to_json(model.size) if probed.alignment else None,
            "compared": dataclasses.asdict(probed.comparison) if probed.comparison else None,
        },
        "reproducibility": reproducibility,
        "versions": {
            "python": platform.python_version(),
            **{name: _version_of(name) for name in ("tensorflow", "keras", "numpy", "tensorflow-serving-api")},
        },
    }
    return json.dumps(manifest, indent=1, allow_nan=False) + "\n"


def _version_of(name: str) -> str:
    """Returns a package's version; some of other names, such as tensorflow-cpu, give the same modules."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", "unknown"))


def hash_weights(weights: Sequence[npt.NDArray[Any]]) -> str:
    """Returns the SHA-256 of a model's weights, in order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def hash_source(spec: ExportSpec) -> str:
    """Returns the SHA-256 of a model's file with its weights, of a directory's in order, or of a builder's weights."""
    path, digest = _source_path(spec), hashlib.sha256()
    if "://" in path:
        with reading(_named(spec)):
            folder = path if tf.io.gfile.isdir(path) else os.path.dirname(path)
            for file in _remote_files(path):
                name = "" if file == path else file.removeprefix(folder).lstrip("/")
                _add(digest, tf.io.gfile.GFile(file, "rb"), name)
        return digest.hexdigest()
    top = Path(path)
    for one in _source_files(top):
        name = "" if one == top else one.relative_to(top if top.is_dir() else top.parent).as_posix()
        _add(digest, one.open("rb"), name)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", file: Any, name: str) -> None:
    """Adds what a file holds to a digest, and before it the file's name, unless that is empty."""
    if name:
        digest.update(f"{name}\0".encode())
    with file as opened:
        while block := opened.read(1 << 20):
            digest.update(block)


def state_of_source(spec: ExportSpec) -> list[tuple[Path | str, int, int, int]]:
    """Returns what changes when somebody writes a model's files: of each its path, inode, size and time in ns."""
    path, states = _source_path(spec), list[tuple[Path | str, int, int, int]]()
    if "://" in path:
        with reading(_named(spec)):
            found = ((file, tf.io.gfile.stat(file)) for file in _remote_files(path))
            return [(file, 0, stat.length, stat.mtime_nsec) for file, stat in found]
    for file in _source_files(Path(path)):
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            stat = file.stat()
            states.append((file, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return states


def _named(spec: ExportSpec) -> str:
    return f"{'weights' if spec.is_builder else 'source'} {_source_path(spec)}"


def _source_path(spec: ExportSpec) -> str:
    return (spec.weights or "") if spec.is_builder else spec.source


def _remote_files(path: str) -> list[str]:
    """Returns the files of a URL: itself, those below it, or those that it is the prefix of."""
    if tf.io.gfile.isdir(path):
        files = (f"{parent.rstrip('/')}/{name}" for parent, _, names in tf.io.gfile.walk(path) for name in names)
        return sorted(_of_model(path, files), key=lambda file: file.split("/"))
    if not tf.io.gfile.exists(path):
        return sorted(tf.io.gfile.glob(f"{path}.*"))
    return [path, *(file for file in _weights_beside(path) if tf.io.gfile.exists(file))]


def _of_model(folder: str, files: Iterable[str]) -> list[str]:
    """Returns the files of a folder; of one of Keras its own alone, as others lie beside them where it was fetched."""
    names = {file: file.removeprefix(folder).lstrip("/") for file in files}
    if not {CONFIG_MEMBER, WEIGHTS_MEMBER} <= {*names.values()}:
        return list(names)
    return [file for file, name in names.items() if name.startswith(MEMBERS)]


def _source_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = (os.path.join(parent, name) for parent, _, names in os.walk(path) for name in names)
        every = sorted(map(Path, _of_model(str(path), files)))
        return [file for file in every if file.is_file()]  # no pipes, no dangling links
    if path.is_file():
        return [path, *(file for file in map(Path, _weights_beside(str(path))) if file.is_file())]
    # A checkpoint is named by the prefix that its files share.
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))


def _weights_beside(path: str) -> Iterable[str]:
    """Returns the files with the weights of a model that its own file, or URL, names; they need not be there."""
    name = path.lower()
    if name.endswith(ONNX_FILE):
        return weights_beside(path)
    if not name.endswith((SHARDED_WEIGHTS, JAVASCRIPT_FILE)):
        return ()
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if name.endswith(SHARDED_WEIGHTS):
        return shards_of_weights(content, path)
    return shards_of(parse_document(content, f"source {path}"), path)
