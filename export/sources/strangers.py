"""Files and folders that people have and that are no source: what each is, and what to do with it."""

import os
import zipfile
from collections.abc import Container
from pathlib import Path
from typing import Any

from .paths.contents import HEAD_BYTES
from .tflite.files import MARK

_TORCH = (
    "in Python: torch.onnx.export(model.eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),), 'model.onnx'), "
    "then --source=model.onnx"
)
_BUILDER = "give a function that makes the model, --source=module:function, and --weights"
_ONNX = "convert it to ONNX, then --source=model.onnx"
PADDLE = (
    "a PaddlePaddle model; paddle2onnx --model_dir=FOLDER --model_filename=NAME.json (or NAME.pdmodel) "
    "--params_filename=NAME.pdiparams --save_file=model.onnx, then --source=model.onnx"
)
_UNPACK = "unpack it and give what is in it"

_KINDS: dict[tuple[str, ...], str] = {
    (".pt", ".pth", ".ptl", ".torchscript"): f"PyTorch's files hold no graph; {_TORCH}",
    (".safetensors", ".bin"): f"weights without a model; load them into it and, if it is PyTorch's, {_TORCH}",
    (".index", ".meta", ".data-00000-of-00001"): (
        "a part of a TensorFlow checkpoint, which is weights without a model; "
        f"{_BUILDER}=CHECKPOINT, its path without this ending"
    ),
    (".npz", ".npy", ".msgpack", ".params", ".weights"): f"weights without a model; {_BUILDER}",
    (".mlmodel", ".mlpackage", ".mlmodelc"): "a Core ML model; export what it was converted from",
    (".engine", ".plan", ".trt"): "a TensorRT engine, made for one GPU; give the ONNX file that it was made of",
    (".caffemodel", ".prototxt"): f"a Caffe model; {_ONNX}",
    (".pdmodel", ".pdiparams", ".pdparams"): PADDLE,
    (".xml",): "OpenVINO's form of a model; give what it was converted from",
    (".mnn", ".param", ".ncnn"): "a model for phones; give what it was converted from",
    (".pkl", ".pickle", ".joblib"): f"a pickled object, which is code; {_BUILDER}",
    (".pbtxt",): "a graph as text; save it as a SavedModel",
    (".task",): "a bundle of MediaPipe; it is a zip file: unpack it and give the .tflite file in it",
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"): f"an archive; {_UNPACK}",
    (".yaml", ".yml"): "no model; a file of the spec's fields is given by --spec",
    (".py",): "Python code; give a function that returns the model: --source=module:function",
}
_BY_ENDING = {ending: kind for endings, kind in _KINDS.items() for ending in endings}


def _named_otherwise(path: str) -> str | None:
    """Returns what a file on this machine is by its content, where its name hides that; None of what is not known."""
    if "://" in path or not os.path.isfile(path):
        return None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = {os.path.basename(name) for name in archive.namelist()}
            if {"config.json", "model.weights.h5"} <= names:
                return "a Keras file by its content; name it model.keras"
            return f"PyTorch's files hold no graph; {_TORCH}" if {"data.pkl", "version"} <= names else None
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, zipfile.BadZipFile):
        return None
    if head[4:8] == MARK:
        return "a TensorFlow Lite file by its content; name it model.tflite"
    if head[4:8] == b"ORTM":
        return "a model in onnxruntime's own form; give the ONNX file that it was made of"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 file by its content; if Keras saved a model in it, name it model.h5"
    # Protobuf: the version of ONNX, from 3 on (a SavedModel's is 1), then a producer's name, a graph, or opsets.
    if head[2:3] in (b"\x12", b"\x3a", b"\x42") and head[0] == 8 and 3 <= head[1] < 32:
        return "an ONNX file by its content; name it model.onnx"
    return None


def describe_file(path: str) -> str | None:
    """Returns what a file is, by its content or its name, and what to do with it, in one line; None if not known."""
    if (hidden := _named_otherwise(path)) is not None:
        return hidden
    suffix = Path(path).suffix.lower()
    if suffix == ".ckpt":
        suffix = ".pt" if os.path.isfile(path) and zipfile.is_zipfile(path) else ".index"  # Lightning's, TensorFlow's
    return _BY_ENDING.get(suffix)


def describe_folder(path: str, files: Any) -> str | None:
    """Returns what a folder is that is no SavedModel, and what to do with it; None of what is not known.

    Args:
        path: of the folder.
        files: its file system, as tf.io.gfile.
    """
    if Path(path).suffix.lower() in _BY_ENDING:
        return describe_file(path)
    names = {name.strip("/") for name in files.listdir(path)}
    if "config.json" in names and ("task.json" in names or _is_of_keras_hub(path, names, files)):
        return (
            "a keras-hub preset; give a function that returns keras_hub.models.ImageSegmenter.from_preset("
            f"{path!r}), --source=module:function, with --trust_builder_weights"
        )
    if "config.json" in names and names & {"model.safetensors", "pytorch_model.bin"}:
        return f"a checkpoint of Transformers; load it and, if it is PyTorch's, {_TORCH}"
    if any(name.endswith(".pdiparams") for name in names):
        return PADDLE
    if "checkpoint" in names:
        return f"a TensorFlow checkpoint, which is weights without a model; {_BUILDER}={path}"
    documents = sorted(name for name in names if name.endswith(".json"))
    if documents and any("-shard" in name for name in names):
        return f"a folder of TensorFlow.js without a model.json; give one of its files: {', '.join(documents)}"
    return None


def _is_of_keras_hub(path: str, names: Container[str], files: Any) -> bool:
    if "metadata.json" not in names:
        return False
    with files.GFile(os.path.join(path, "metadata.json"), "rb") as file:
        return b'"keras_hub_version"' in file.read()
