"""What can be said of a source before TensorFlow is started, which takes seconds."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...serving.model_directories import SAVED_MODEL_FILES, parse_version
from ..errors import ExportError, SourceError
from ..spec import ExportSpec
from .graphs.files import DOCUMENT, SUFFIX as JAVASCRIPT_FILE, check_javascript_model
from .keras.files import (
    CONFIG_MEMBER,
    KERAS_FILES,
    SHARDED_WEIGHTS,
    WEIGHTS_MEMBER,
    check_keras_file,
    shards_of_weights,
)
from .onnx.files import SUFFIX as ONNX_FILE, check_onnx_file
from .strangers import describe_file, describe_folder
from .tflite.files import SUFFIX as LITE_FILE, check_tflite_file
from .user_code import find_user_module

KERAS_WEIGHTS = (SHARDED_WEIGHTS, *KERAS_FILES)

SAVED_MODEL, KERAS, ONNX, LITE, FROZEN = "SavedModel", "Keras", "ONNX", "TensorFlow Lite", "frozen graph"
JAVASCRIPT = "TensorFlow.js"
"""Kinds of sources."""
_KINDS = {
    **dict.fromkeys(KERAS_FILES, KERAS),
    ONNX_FILE: ONNX,
    LITE_FILE: LITE,
    ".pb": FROZEN,
    JAVASCRIPT_FILE: JAVASCRIPT,
}
"""By the ending of a file's name."""
_FILE_CHECKS = {
    KERAS: check_keras_file,
    ONNX: check_onnx_file,
    LITE: check_tflite_file,
    JAVASCRIPT: check_javascript_model,
}

_OF_THE_WEB = ("http://", "https://", "hf://")

LOCAL_FILES = SimpleNamespace(exists=os.path.exists, isdir=os.path.isdir, listdir=os.listdir, GFile=open)
"""This machine's, to be used as tf.io.gfile."""


def check_source(spec: ExportSpec) -> None:
    """Makes sure, without TensorFlow, that a source, its weights and modules are there; ExportError where not."""
    check_keras_backend()
    for key, value in (("source", spec.source), ("weights", spec.weights or "")):
        if value.lower().startswith(_OF_THE_WEB):
            raise SourceError(
                f"{key} {value}: is not fetched; download it first (curl -LO URL, or hf download OWNER/NAME "
                "--local-dir=FOLDER), then give the file or folder"
            )
    if spec.custom_objects:
        find_user_module(spec.custom_objects, "custom_objects")
    if spec.is_builder:
        find_user_module(spec.source.partition(":")[0], "source")
        if spec.weights:
            check_weights(spec.weights)
    elif "://" not in spec.source and (check := _FILE_CHECKS.get(find_kind(spec.source, LOCAL_FILES))):
        check(spec.source)


def find_kind(path: str, files: Any) -> str:
    """Returns the kind of a file, or of a directory; SourceError where it is none that is known, or not there."""
    where = f"source {path}"
    if files.isdir(path):
        for name in SAVED_MODEL_FILES:
            if files.exists(os.path.join(path, name)):
                if name.endswith(".cpb"):
                    raise SourceError(f"{where}: {name}, a graph in chunks, is not read; save it in one piece")
                return SAVED_MODEL
        if files.exists(os.path.join(path, DOCUMENT)):
            return JAVASCRIPT
        names = [name.strip("/") for name in files.listdir(path)]
        versions = {number: name for name in names if (number := parse_version(name)) is not None}
        stranger = describe_folder(path, files)
        if not stranger and {CONFIG_MEMBER, WEIGHTS_MEMBER} <= {*names}:
            return KERAS
        advice = f"; did you mean {os.path.join(path, versions[max(versions)])}?" if versions else ""
        raise SourceError(f"{where}: {stranger or 'a directory without saved_model.pb' + advice}")
    if not files.exists(path):
        raise SourceError(f"{where}: no such file or directory")
    if os.path.basename(path) in SAVED_MODEL_FILES:
        raise SourceError(f"{where}: give its directory, {os.path.dirname(path) or '.'}")
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        stranger = describe_file(path)
        raise SourceError(
            f"{where}: {stranger}"
            if stranger
            else f"{where}: not a kind of model that is known; wanted a .keras, .h5, .onnx, .tflite or .pb file, "
            "TensorFlow.js' model.json, a SavedModel directory or package.module:function"
        )
    return _KINDS[suffix]


def check_weights(weights: str) -> None:
    """Makes sure that the weights for a builder are there; SourceError where not, or where they are something else."""
    if "://" in weights:
        return
    if weights.endswith(KERAS_WEIGHTS):
        if not Path(weights).is_file():
            raise SourceError(f"weights {weights}: no such file")
        if weights.endswith(SHARDED_WEIGHTS):
            for shard in shards_of_weights(Path(weights).read_bytes(), weights):
                if not os.path.isfile(shard):
                    raise SourceError(f"weights {weights}: there is no {shard} beside it")
    else:
        is_checkpoint = (
            Path(weights, "checkpoint").is_file() if os.path.isdir(weights) else Path(f"{weights}.index").is_file()
        )
        if not is_checkpoint:
            raise SourceError(f"weights {weights}: neither a Keras weights file nor a TensorFlow checkpoint")


def check_keras_backend() -> None:
    """Makes sure that Keras runs, or will run, on TensorFlow; ExportError says where something else is set."""
    if "keras" in sys.modules:
        backend = sys.modules["keras"].config.backend()
    else:
        backend = os.environ.get("KERAS_BACKEND") or _configured_backend()
    if backend == "tensorflow":
        return
    if os.environ.get("KERAS_BACKEND"):
        where, advice = f"KERAS_BACKEND={backend}", "unset it, or set it to tensorflow"
    else:
        where, advice = f'{_config_file()} has "backend": "{backend}"', "change it, or set KERAS_BACKEND=tensorflow"
    raise ExportError(
        f"{where}, and an export needs Keras to run on TensorFlow: {advice}, before Keras is imported (model files "
        "are the same for every backend)"
    )


def _config_file() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")


def _configured_backend() -> str:
    try:
        return str(json.loads(_config_file().read_text(encoding="utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"  # as Keras, which takes no notice of a file that it cannot read
