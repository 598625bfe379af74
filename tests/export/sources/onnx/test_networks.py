"""Whole networks in the habits of exporters, by TensorFlow and by onnxruntime."""

import functools

import numpy as np
import onnx_networks as networks
import onnxruntime
import pytest
import tensorflow as tf
from exporting import export_unchecked
from maskport.export.graph.forms.frozen_graph import freeze
from maskport.export.inspect.record import read_record
from maskport.export.sources import load_source
from maskport.export.spec import make_spec

FIXED = {"size": (32, 48), "batch": 1}
ZOO = {
    "torch_unet_11": (networks.torch_unet, {"source_output": "out"}, [(32, 48), (40, 24)]),
    "torch_unet_18": (functools.partial(networks.torch_unet, opset=18), {"source_output": "side2"}, [(34, 46)]),
    "torch_unet_fixed": (functools.partial(networks.torch_unet, **FIXED), {"source_output": "out"}, [(32, 48)]),
    "torch_deeplab": (networks.torch_deeplab, {}, [(32, 48)]),
    "paddle": (networks.paddle_detector, {}, [(32, 48), (64, 32)]),
    "tf2onnx": (networks.tf2onnx_mobile, {}, [(32, 48), (28, 36)]),
    "tf2onnx_fixed": (functools.partial(networks.tf2onnx_mobile, size=(24, 36)), {}, [(24, 36)]),
    "yolo": (networks.yolo_segmenter, {"source_output": "output1"}, [(32, 32)]),
    "segformer_11": (functools.partial(networks.segformer, opset=11), {"model_size": (32, 48)}, [(32, 48)]),
    "segformer_17": (networks.segformer, {}, [(32, 48), (64, 40)]),
    "quantized": (functools.partial(networks.quantized, scheme="static"), {}, [(20, 24)]),
    "quantized_dynamically": (functools.partial(networks.quantized, scheme="dynamic"), {}, [(20, 24)]),
}  # fmt: skip


def by_onnxruntime(path, images, output=None, channels_first=True):
    """Answers [B, H, W, classes] for images [B, H, W, 3], one by one."""
    session = onnxruntime.InferenceSession(str(path))
    form = session.get_inputs()[0]
    images = images.transpose(0, 3, 1, 2) if channels_first else images
    images = images.astype(np.float16) if form.type == "tensor(float16)" else images
    output = output or session.get_outputs()[0].name
    answers = np.concatenate([session.run([output], {form.name: image[np.newaxis]})[0] for image in images])
    return answers.transpose(0, 2, 3, 1) if channels_first else answers


@pytest.mark.parametrize("name", ZOO)
def test_networks_answer_as_by_onnxruntime(tmp_path, name):
    write, fields, sizes = ZOO[name]
    path = write(tmp_path / f"{name}.onnx")
    model = load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))
    assert model.data_format == ("channels_last" if name.startswith("tf2onnx") else "channels_first")
    forward = tf.function(model.forward, autograph=False)
    for seed, size in enumerate(sizes):
        images = np.random.default_rng(seed).random((3, *size, 3), np.float32)
        answers = forward(tf.constant(images)).numpy()
        wanted = by_onnxruntime(path, images, fields.get("source_output"), not name.startswith("tf2onnx"))
        # A dynamic scale differs by a rounding with the pictures of a batch, which are quantized together.
        if name == "quantized_dynamically":
            answers = np.concatenate([forward(tf.constant(image[np.newaxis])) for image in images])
        np.testing.assert_allclose(answers, wanted, rtol=1e-4, atol=1e-2 if name.startswith("quantized") else 2e-5)
        again = model.reference.call(tf.constant(images[:1])).numpy()
        np.testing.assert_allclose(again, wanted[:1], rtol=1e-4, atol=1e-5)


def test_halves_are_computed_in_full(tmp_path):
    path = networks.torch_unet(tmp_path / "half.onnx", halves=True)
    model = load_source(make_spec({"source": str(path), "output_dir": "served", "source_output": "out"}))
    images = np.random.default_rng(0).random((2, 32, 48, 3), np.float32)
    full = networks.torch_unet(tmp_path / "full.onnx")
    np.testing.assert_allclose(model.forward(tf.constant(images)), by_onnxruntime(full, images), atol=2e-3)
    np.testing.assert_allclose(model.reference.call(tf.constant(images)), by_onnxruntime(path, images), atol=1e-3)


@pytest.mark.parametrize("optimize", ["none", "freeze"])
def test_what_is_exported_needs_nothing_of_onnx(tmp_path, optimize):
    path = networks.torch_deeplab(tmp_path / "net.onnx")
    fields = {"activation": "softmax", "scaling": "unit", "foreground": 1, "optimize": optimize}
    version = export_unchecked(path, tmp_path / "served", **fields)
    record = read_record(version)
    assert record.probe.compared.reference == f"onnxruntime {onnxruntime.__version__}"
    assert record.probe.compared.largest < 1e-5 < record.probe.compared.answers_range
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    loaded = tf.saved_model.load(str(version))
    probability = loaded.signatures["probability"](image=tf.constant(picture))["probability"].numpy()
    logits = by_onnxruntime(path, (picture / 255).astype(np.float32))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probability.squeeze(-1), shares[..., 1], atol=1e-5)


def test_a_scaled_hard_swish_is_not_taken_for_a_plain_one(tmp_path):
    net = networks.Network(11)
    x = net.conv("x", 3, 8, size=1)
    bounded = net.add("Clip", net.add("Add", x, net.constant(3.0)), net.constant(0), net.constant(6))
    x = net.add("Div", net.add("Mul", x, bounded), net.constant(6.0))
    x = net.add("Add", net.add("Mul", net.constant([1.03]), x), net.constant([0.1]))
    x = net.conv(net.add("Mul", net.constant([1.02]), net.add("HardSigmoid", x)), 8, 1)
    path = net.save(tmp_path / "net.onnx", [("x", ["b", 3, 32, 48])], [(x, "y")])
    model = load_source(make_spec({"source": str(path), "output_dir": "served"}))
    images = np.random.default_rng(0).random((2, 32, 48, 3), np.float32)
    frozen = freeze(model).forward()(tf.constant(images))
    np.testing.assert_allclose(np.asarray(frozen).squeeze(), by_onnxruntime(path, images).squeeze(), atol=1e-5)


def test_no_picture_is_transposed_between_channels_last_images_and_masks(tmp_path):
    path = networks.paddle_detector(tmp_path / "net.onnx")
    model = load_source(make_spec({"source": str(path), "output_dir": "served"}))
    traced = tf.function(model.forward, autograph=False).get_concrete_function(tf.TensorSpec([None, 32, 48, 3]))
    transposed = [op for op in traced.graph.get_operations() if op.type == "Transpose"]
    # Into the file's order and back at either end, which TensorFlow's optimizer takes out.
    assert len(transposed) == 4
