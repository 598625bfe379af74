"""The table "I have …" of docs/sources.md: what it says to type works, on a model of each kind."""

import json
import re
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import onnx_networks
import pytest
import tensorflow as tf
import tf_keras
import toy_models
from google.protobuf import json_format
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.sources.preflight import check_source
from maskport.export.sources.strangers import describe_file
from maskport.export.spec import make_spec
from onnx import helper
from reference import Toy

DOCUMENT = Path(__file__).parents[3] / "docs/sources.md"
TOY = Toy.make(3, 2)
CODE = """
import keras
import numpy as np
import tensorflow as tf

@keras.saving.register_keras_serializable("mine")
class Same(keras.layers.Layer):
    def call(self, x):
        return x * 1.0

def build():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(2, 3, padding="same")(image))

class Complete(tf.Module):
    def __init__(self):
        self.wrapped = tf.saved_model.load("saved_model")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def __call__(self, x):
        return self.wrapped.run(x)

def complete():
    return Complete()
"""


def rows():
    table = DOCUMENT.read_text().partition("| I have … |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def ordinary(layer):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 3, padding="same", name="toy")(image)
    model = keras.Model(image, layer(x))
    model.get_layer("toy").set_weights([TOY.kernel, TOY.bias])
    model.save("model.keras")


def of_keras_2():
    image = tf_keras.Input((None, None, 3))
    model = tf_keras.Model(image, tf.concat([tf_keras.layers.Conv2D(2, 3, padding="same")(image)], -1))
    model.set_weights([TOY.kernel, TOY.bias])
    model.save("model.h5")


def of_layers():
    image = tf_keras.Input((None, None, 3))
    model = tf_keras.Model(image, tf_keras.layers.Conv2D(2, 3, padding="same", name="toy")(image))
    named = {"toy/kernel": TOY.kernel, "toy/bias": TOY.bias}
    forms = [{"name": name, "shape": value.shape, "dtype": "float32"} for name, value in named.items()]
    Path("weights.bin").write_bytes(b"".join(value.tobytes() for value in named.values()))
    manifest = [{"paths": ["weights.bin"], "weights": forms}]
    topology = {"model_config": json.loads(model.to_json())}
    Path("model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": manifest}))


def saved_model(*names):
    module = toy_models.ToyModule(TOY, [None, None, None, 3])
    tf.saved_model.save(module, "saved_model", signatures=dict.fromkeys(names, module.run))


def frozen():
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, None, None, 3], name="image")
        tf.add(tf.nn.conv2d(image, TOY.kernel, 1, "SAME"), TOY.bias, name="logits")
    Path("graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    topology = json_format.MessageToDict(graph.as_graph_def())
    Path("model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": []}))


def with_switch():
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image, scale = (
            v1.placeholder(tf.float32, [None, None, None, 3], name="image"),
            v1.placeholder(tf.float32, name="scale"),
        )
        noise = tf.where(v1.placeholder(tf.bool, [], name="is_training"), 1.0, 0.0)
        tf.add(tf.nn.conv2d(image * scale + noise, TOY.kernel, 1, "SAME"), TOY.bias, name="logits")
    Path("graph.pb").write_bytes(graph.as_graph_def().SerializeToString())


def lite():
    module = toy_models.ToyModule(TOY, [1, 16, 24, 3])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    Path("model.tflite").write_bytes(converter.convert())


def onnx():
    net = onnx_networks.Network(13)
    kernel, bias = net.constant(TOY.kernel.transpose(3, 2, 0, 1)), net.constant(TOY.bias)
    y = net.add("Conv", "image", kernel, bias, pads=[1, 1, 1, 1])
    net.save("model.onnx", [("image", ["b", 3, "h", "w"])], [(y, "logits")])


def weights():
    model = code().build()
    model.set_weights([TOY.kernel, TOY.bias])
    model.save_weights("model.weights.h5")


def code():
    import net

    return net


MAKERS = {
    "a file of Keras 3": lambda: ordinary(lambda x: x),
    "a file of Keras 2": of_keras_2,
    "one with layers of my own": lambda: ordinary(code().Same()),
    "one with Lambda layers": lambda: ordinary(keras.layers.Lambda(lambda x: x)),
    "a SavedModel": lambda: saved_model("anything"),
    "one with several signatures": lambda: saved_model("day", "night"),
    "a model with several outputs": lambda: toy_models.keras_model(TOY, output_names=("edges", "mask")).save(
        "model.keras"
    ),
    "a model that takes more than the image": with_switch,
    "a frozen graph of TensorFlow 1": frozen,
    "a graph model of TensorFlow.js": frozen,
    "a layers model of TensorFlow.js": of_layers,
    "a TensorFlow Lite file": lite,
    "an ONNX file": onnx,
    "a PyTorch model": onnx,
    "a PaddlePaddle model": onnx,
    "Keras code": weights,
    "code that brings its weights": lambda: saved_model("anything"),
    "a JAX function": lambda: saved_model("serving_default"),
}
"""By how a row begins: what makes that model, of the toy network."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("net", "mine"):
        (tmp_path / f"{name}.py").write_text(CODE)
    yield tmp_path
    for name in ("net", "mine"):
        sys.modules.pop(name, None)
    keras.saving.get_custom_objects().clear()


@pytest.mark.filterwarnings("ignore")  # tf-keras of HDF5, TensorFlow Lite of its new package
@pytest.mark.parametrize("beginning", MAKERS)
def test_what_the_table_says_to_type_loads_the_model(folder, beginning):
    (row,) = [row for row in rows() if row[0].startswith(beginning)]
    MAKERS[beginning]()
    flags = re.fullmatch(r"`(--[^`]+)`", row[1]).group(1).split()
    fields = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    spec = make_spec({name: value or True for name, value in fields.items()} | {"output_dir": "served"})
    check_source(spec)
    images = np.random.default_rng(0).random((2, 16, 24, 3)).astype(np.float32)
    answer = load_source(spec).forward(tf.constant(images))
    np.testing.assert_allclose(answer, np.stack([TOY(image) for image in images]), atol=1e-5)


def test_every_row_is_tried():
    beginnings = {row[0]: [one for one in MAKERS if row[0].startswith(one)] for row in rows()}
    others = {"a Keras model in memory", "a network that finds instances, such as YOLO's for segmentation"}
    assert {row: len(found) for row, found in beginnings.items() if len(found) != 1} == dict.fromkeys(others, 0)
    assert len(beginnings) == len(MAKERS) + len(others)


NEAR_MISSES = {
    "net.pt": "PyTorch's files hold no graph; in Python: torch.onnx.export(",
    "net.pth": "PyTorch's files hold no graph; in Python: torch.onnx.export(",
    "lightning.ckpt": "PyTorch's files hold no graph; in Python: torch.onnx.export(",
    "model.ckpt": "a part of a TensorFlow checkpoint, which is weights without a model; give a function that makes",
    "model.ckpt.index": "a part of a TensorFlow checkpoint, which is weights without a model; give a function",
    "model.ckpt.data-00000-of-00001": "a part of a TensorFlow checkpoint",
    "model.safetensors": "weights without a model; load them into it and, if it is PyTorch's, in Python: torch.onnx",
    "net.mlmodel": "a Core ML model; export what it was converted from",
    "net.mlpackage/": "a Core ML model; export what it was converted from",
    "net.engine": "a TensorRT engine, made for one GPU; give the ONNX file that it was made of",
    "net.caffemodel": "a Caffe model; convert it to ONNX, then --source=model.onnx",
    "inference.pdmodel": "a PaddlePaddle model; paddle2onnx --model_dir=",
    "inference.json": "a PaddlePaddle model; paddle2onnx --model_dir=",
    "PP-OCRv5_mobile_det_infer/": "a PaddlePaddle model; paddle2onnx --model_dir=",
    "net.xml": "OpenVINO's form of a model; give what it was converted from",
    "settings.json": "it is no model of TensorFlow.js",
    "net.zip": "an archive; unpack it and give what is in it",
    "net.tar.gz": "an archive; unpack it and give what is in it",
    "net.task": "a bundle of MediaPipe; it is a zip file: unpack it and give the .tflite file in it",
    "spec.yaml": "no model; a file of the spec's fields is given by --spec",
    "net.py": "Python code; give a function that returns the model: --source=module:function",
    "net.foo": "not a kind of model that is known; wanted a .keras, .h5, .onnx, .tflite or .pb file, TensorFlow.js'",
    "transformers/": "a checkpoint of Transformers; load it and, if it is PyTorch's, in Python: torch.onnx.export(",
    "training/": "a TensorFlow checkpoint, which is weights without a model; give a function that makes the model",
    "empty/": "a directory without saved_model.pb",
    "segm_lite.tflite.bin": "a TensorFlow Lite file by its content; name it model.tflite",
    "net.ort": "a model in onnxruntime's own form; give the ONNX file that it was made of",
    "9927e74b3a0638d4": "an ONNX file by its content; name it model.onnx",
    "net.model": "an HDF5 file by its content; if Keras saved a model in it, name it model.h5",
    "net.k": "a Keras file by its content; name it model.keras",
    "pointer.keras": "Keras cannot load it: it is a pointer of Git LFS, not the model itself",
}


def put_by_another_name(path):
    """Writes a file whose content says what its name does not."""
    if path.name == "9927e74b3a0638d4":
        graph = helper.make_graph([], "none", [], [])
        path.write_bytes(helper.make_model(graph, producer_name="pytorch").SerializeToString())
    elif path.name == "net.model":
        h5py.File(path, "w").close()
    elif path.name == "net.k":
        toy_models.keras_model(TOY).save(path.with_suffix(".keras"))
        path.with_suffix(".keras").rename(path)
    elif path.name == "inference.json":
        path.write_text('{"base_code":{"magic":"pir","trainable":false,"version":2},"program":{"regions":[]}}')
    elif path.suffix in (".bin", ".ort"):
        path.write_bytes(b"\x1c\0\0\0" + (b"ORTM" if path.suffix == ".ort" else b"TFL3"))


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_no_source_is_told_what_it_is_and_what_to_do(folder, name):
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        held = {
            "transformers/": ("config.json", "model.safetensors"),
            "training/": ("checkpoint",),
            "PP-OCRv5_mobile_det_infer/": ("inference.json", "inference.pdiparams", "inference.yml"),
        }
        for inside in held.get(name, ()):
            (path / inside).touch()
    else:
        path.write_bytes(b"PK\5\6" + bytes(18) if name == "lightning.ckpt" else b'{"a": 1}')
        put_by_another_name(path)
        if name == "pointer.keras":
            path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError) as caught:
        check_source(make_spec({"source": str(path), "output_dir": "served"}))
    message = str(caught.value)
    assert message.startswith(f"source {path}: {NEAR_MISSES[name]}")
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08\x08"])
def test_a_file_too_short_to_tell_is_not_told(tmp_path, content):
    (tmp_path / "net").write_bytes(content)
    assert describe_file(str(tmp_path / "net")) is None
