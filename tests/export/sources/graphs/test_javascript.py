"""Graph models of TensorFlow.js: weights in shards, quantised; ops that are fused, or are no TensorFlow's."""

import base64
import gzip
import json

import numpy as np
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.publish.manifest import hash_source
from maskport.export.sources import load_source
from maskport.export.sources.preflight import check_source
from maskport.export.spec import make_spec

RANDOM = np.random.default_rng(0)
# By name: shape, and how it is stored.
WEIGHTS = {
    "first/kernel": ((3, 3, 3, 4), "uint8"),
    "first/bias": ((4,), "float16"),
    "second/kernel": ((3, 3, 4, 1), "uint16"),
    "second/bias": ((4,), None),
    "second/slopes": ((1, 1, 4), None),
    "third/kernel": ((1, 1, 4, 4), None),
    "third/bias": ((4,), "uint8"),
    "slopes": ((4,), None),
    "fourth/kernel": ((4, 2), "float16"),
    "fourth/bias": ((2,), None),
}


def text(value):
    return {"s": base64.b64encode(value.encode()).decode()}


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def fused(name, op, value, *fused_ops, more=(), **attributes):
    names = [f"{name}/{part}" for part in ("kernel", "bias", *more)]
    ops = {"fused_ops": {"list": {"s": [text(one)["s"] for one in fused_ops]}}, "T": {"type": "DT_FLOAT"}}
    return node(name, op, value, *names, num_args={"i": str(len(names) - 1)}, **ops, **attributes)


def convolution(stride=1):
    strides = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
    dilations = {"list": {"i": ["1", "1", "1", "1"]}}
    return {
        **{"strides": strides, "dilations": dilations, "padding": text("SAME"), "data_format": text("NHWC")},
        "explicit_paddings": {"list": {}},
    }


@pytest.fixture
def model(tmp_path):
    """A folder with a model, and the weights as TensorFlow.js computes with them."""
    entries, stored, weights = [], [], {}
    for name, (shape, kind) in WEIGHTS.items():
        values = RANDOM.normal(0, 1, shape)
        entry = {"name": name, "shape": shape, "dtype": "float32"}
        if kind is None or kind == "float16":
            raw = values.astype(kind or np.float32)
            weights[name] = raw.astype(np.float32)
            entry |= {"quantization": {"dtype": "float16", "original_dtype": "float32"}} if kind else {}
        else:
            least, scale = float(values.min()), float(np.ptp(values)) / np.iinfo(kind).max
            raw = np.round((values - least) / scale).astype(kind)
            weights[name] = (raw * scale + least).astype(np.float32)
            entry |= {"quantization": {"dtype": kind, "min": least, "scale": scale, "original_dtype": "float32"}}
        entries.append(entry)
        stored.append(raw.tobytes())
    groups = [slice(0, 4), slice(4, None)]
    manifest = []
    for number, group in enumerate(groups):
        content, paths = b"".join(stored[group]), [f"group{number}-shard{shard}of2.bin" for shard in (1, 2)]
        middle = len(content) // 2 + 1  # of a number
        for path, part in zip(paths, (content[:middle], content[middle:]), strict=True):
            (tmp_path / path).write_bytes(part)
        manifest.append({"paths": paths, "weights": entries[group]})
    constants = [
        node(name, "Const", dtype={"type": "DT_FLOAT"}, value={"tensor": {"dtype": "DT_FLOAT", "tensorShape": {}}})
        for name in WEIGHTS
    ]
    size = {"shape": {"dim": [{"size": edge} for edge in ("-1", "16", "24", "3")]}}
    rows, back = (
        node(name, "Const", dtype={"type": "DT_INT32"}, value={
            "tensor": {"dtype": "DT_INT32", "tensorShape": {"dim": [{"size": str(len(shape))}]}, "intVal": shape}
        }) for name, shape in (("rows", [-1, 4]), ("back", [-1, 8, 12, 2]))
    )  # fmt: skip
    kind = {"T": {"type": "DT_FLOAT"}}
    nodes = [
        *constants, rows, back,
        node("image", "Placeholder", dtype={"type": "DT_FLOAT"}, shape=size),
        fused("first", "_FusedConv2D", "image", "BiasAdd", "Relu6", **convolution(2)),
        fused("second", "FusedDepthwiseConv2dNative", "first", "BiasAdd", "Prelu", more=["slopes"], **convolution()),
        fused("third", "_FusedConv2D", "second", "BiasAdd", "LeakyRelu", leakyrelu_alpha={"f": 0.3}, **convolution()),
        node("steeper", "Prelu", "third", "slopes"),
        node("as_rows", "Reshape", "steeper", "rows", **kind, Tshape={"type": "DT_INT32"}),
        fused("fourth", "_FusedMatMul", "as_rows", "BiasAdd"),
        node("map", "Reshape", "fourth", "back", **kind, Tshape={"type": "DT_INT32"}),
        node("other", "Identity", "map", **kind),
    ]  # fmt: skip
    document = {
        "format": "graph-model",
        "signature": {"outputs": {"segments:0": {"name": "map:0"}}},
        "modelTopology": {"node": nodes, "library": {}, "versions": {}},
        "weightsManifest": manifest,
    }
    (tmp_path / "model.json").write_text(json.dumps(document))
    return tmp_path, weights, document


def load(path, **fields):
    spec = make_spec({"source": str(path), "output_dir": "served", **fields})
    check_source(spec)
    return load_source(spec)


def compute(weights, images):
    def biased(name, function, x, *options):
        return function(x, weights[f"{name}/kernel"], *options) + weights[f"{name}/bias"]

    def bend(x, slopes):
        return np.where(x > 0, x, x * slopes)

    x = np.clip(biased("first", tf.nn.conv2d, images, 2, "SAME"), 0, 6)
    x = bend(biased("second", tf.nn.depthwise_conv2d, x, [1, 1, 1, 1], "SAME"), weights["second/slopes"])
    x = bend(biased("third", tf.nn.conv2d, x, 1, "SAME"), 0.3)
    return bend(x, weights["slopes"]) @ weights["fourth/kernel"] + weights["fourth/bias"]


def test_a_graph_model_is_read_from_its_folder_or_its_document(model):
    folder, weights, _ = model
    images = RANDOM.random((2, 16, 24, 3)).astype(np.float32)
    for source in (folder, folder / "model.json"):
        loaded = load(source)
        assert loaded.description == f"TensorFlow.js model, {sum(one.size for one in weights.values())} parameters"
        assert (loaded.size, loaded.batch, loaded.output_channels) == ((16, 24), None, 2)
        np.testing.assert_allclose(loaded.forward(tf.constant(images)), compute(weights, images), rtol=1e-4, atol=1e-4)
    for name in ("segments", "map", "other"):
        assert load(folder, source_output=name).output_channels == 2
    with pytest.raises(SourceError, match=r"has no output 'none'; it has: 'segments' float32\[-1, 8, 12, 2\]"):
        load(folder, source_output="none")


@pytest.mark.parametrize("how", ["lists of bytes", "gzip", "strings"])
def test_other_ways_to_write_the_same(model, how):
    folder, weights, document = model
    if how == "lists of bytes":
        for one in document["modelTopology"]["node"]:
            if "padding" in one["attr"]:
                one["attr"]["padding"]["s"] = list(base64.b64decode(one["attr"]["padding"]["s"]))
                one["attr"]["T"] = {"type": 1}
        (folder / "model.json").write_text(json.dumps(document))
    if how == "gzip":
        for path in folder.iterdir():
            path.write_bytes(gzip.compress(path.read_bytes()))
    if how == "strings":
        first = document["weightsManifest"][0]
        first["weights"].insert(0, {"name": "labels", "shape": [2], "dtype": "string"})
        path = folder / first["paths"][0]
        path.write_bytes(b"\3\0\0\0cat" + b"\0\0\0\0" + path.read_bytes())
        (folder / "model.json").write_text(json.dumps(document))
    images = RANDOM.random((2, 16, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(
        load(folder).forward(tf.constant(images)), compute(weights, images), rtol=1e-4, atol=1e-4
    )
    if how == "gzip":
        (folder / "model.json").write_bytes(gzip.compress(b"{}")[:-9])
        with pytest.raises(SourceError, match="it is broken or truncated"):
            load(folder)


def small(folder, weights, *nodes):
    """A model of float32 weights, of a picture without a fixed size; its last node is the output."""
    constants = [
        node(name, "Const", dtype={"type": kind}, value={"tensor": {"dtype": kind, "tensorShape": {}}})
        for name, (_, kind) in weights.items()
    ]
    size = {"shape": {"dim": [{"size": edge} for edge in ("-1", "-1", "-1", "3")]}}
    image = node("image", "Placeholder", dtype={"type": "DT_FLOAT"}, shape=size)
    entries = [
        {"name": name, "shape": value.shape, "dtype": "float32" if value.dtype.kind == "f" else "int32"}
        for name, (value, _) in weights.items()
    ]
    content = b"".join(
        value.astype(entry["dtype"]).tobytes() for entry, (value, _) in zip(entries, weights.values(), strict=True)
    )
    (folder / "shard.bin").write_bytes(content)
    topology = {"node": [*constants, image, *nodes], "library": {}, "versions": {}}
    manifest = [{"paths": ["shard.bin"], "weights": entries}]
    (folder / "model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": manifest}))
    return folder


IMAGES = RANDOM.random((2, 13, 18, 3)).astype(np.float32)
KERNEL = RANDOM.normal(0, 1, (3, 3, 3, 2)).astype(np.float32)


def dilated(*steps):
    return {**convolution(), "dilations": {"list": {"i": [str(step) for step in steps]}}}


@pytest.mark.parametrize("is_fused", [True, False])
def test_a_depthwise_convolution_is_dilated(tmp_path, is_fused):
    attributes = {**dilated(1, 2, 2, 1), "T": {"type": "DT_FLOAT"}}
    name = "map/kernel"
    ops = {"fused_ops": {"list": {"s": [text(one)["s"] for one in ("NoOp", "Relu6")]}}, "num_args": {"i": "0"}}
    last = (
        node("map", "FusedDepthwiseConv2dNative", "image", name, **ops, **attributes)
        if is_fused
        else node("map", "DepthwiseConv2dNative", "image", name, **attributes)
    )
    loaded = load(small(tmp_path, {name: (KERNEL, "DT_FLOAT")}, last))
    wanted = tf.nn.depthwise_conv2d(IMAGES, KERNEL, [1, 1, 1, 1], "SAME", dilations=[2, 2])
    wanted = tf.nn.relu6(wanted) if is_fused else wanted
    np.testing.assert_allclose(loaded.forward(tf.constant(IMAGES)), wanted, atol=1e-4)


def test_dilations_of_an_early_converter(tmp_path):
    last = node("map", "Conv2D", "image", "map/kernel", **dilated(2, 2, 1, 1), T={"type": "DT_FLOAT"})
    loaded = load(small(tmp_path, {"map/kernel": (KERNEL, "DT_FLOAT")}, last))
    wanted = tf.nn.conv2d(IMAGES, KERNEL, 1, "SAME", dilations=2)
    np.testing.assert_allclose(loaded.forward(tf.constant(IMAGES)), wanted, atol=1e-4)


def test_constants_have_the_dtype_of_the_graph(tmp_path):
    """Files know no int64."""
    pads = np.array([[0, 0], [1, 2], [3, 0], [0, 0]], np.int64)
    kinds = {"T": {"type": "DT_FLOAT"}, "Tpaddings": {"type": "DT_INT64"}}
    loaded = load(small(tmp_path, {"pads": (pads, "DT_INT64")}, node("map", "Pad", "image", "pads", **kinds)))
    np.testing.assert_array_equal(loaded.forward(tf.constant(IMAGES)), np.pad(IMAGES, pads))


def test_a_constant_without_a_weight_is_told(tmp_path):
    last = node("map", "BiasAdd", "image", "bias", T={"type": "DT_FLOAT"}, data_format=text("NHWC"))
    folder = small(tmp_path, {"bias": (np.ones(3, np.float32), "DT_FLOAT")}, last)
    document = json.loads((folder / "model.json").read_text())
    document["weightsManifest"][0]["weights"][0]["name"] = "other"
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match="its constant 'bias' has no weight"):
        load(folder)


def test_the_shards_count_for_the_hash_of_a_model(model):
    spec = make_spec({"source": str(model[0] / "model.json"), "output_dir": "served"})
    before = hash_source(spec)
    shard = model[0] / "group0-shard2of2.bin"
    shard.write_bytes(shard.read_bytes()[::-1])
    assert hash_source(spec) != before


def test_what_is_no_graph_model_is_told_in_one_line(model):
    folder, _, _ = model
    (folder / "group1-shard2of2.bin").write_bytes(b"")
    with pytest.raises(SourceError, match="its weights are not whole: 'third/kernel' is beyond the end"):
        load(folder)
    (folder / "group1-shard2of2.bin").unlink()
    with pytest.raises(SourceError, match=r"its weights are not beside it: there is no .*group1-shard2of2.bin"):
        load(folder)
    for content, told in (
        ('{"class_name": "Functional", "config": {}}', "the architecture of a Keras model, without weights"),
        ('{"a": 1}', "it is no model of TensorFlow.js"),
        ("[1]", "it is no model of TensorFlow.js"),
        ("{", "it is no JSON, or a broken or truncated one"),
    ):
        (folder / "model.json").write_text(content)
        with pytest.raises(SourceError, match=told) as caught:
            load(folder)
        assert "\n" not in str(caught.value)
