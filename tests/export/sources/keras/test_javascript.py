"""Layers models of TensorFlow.js, against the models of tf-keras that they were made of."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.sources.preflight import check_source
from maskport.export.spec import make_spec
from tf_keras import layers

RANDOM = np.random.default_rng(0)


def load(path, **fields):
    spec = make_spec({"source": str(path), "output_dir": "served", **fields})
    check_source(spec)
    return load_source(spec)


def write(folder, model, topology):
    """Writes a model as TensorFlow.js's converter does: weights by the layer's name and their own."""
    values = [RANDOM.normal(0, 0.3, weight.shape).astype(np.float32) for weight in model.weights]
    values = [
        np.abs(value) + 0.5 if "variance" in weight.name else value
        for value, weight in zip(values, model.weights, strict=True)
    ]
    model.set_weights(values)
    # In the browser's order: those that are trained first.
    named = {weight.name.removesuffix(":0"): value for weight, value in zip(model.weights, values, strict=True)}
    names = sorted(named, key=lambda name: "moving" in name)
    weights = [{"name": name, "shape": named[name].shape, "dtype": "float32"} for name in names]
    (folder / "group1-shard1of1.bin").write_bytes(b"".join(named[name].tobytes() for name in names))
    manifest = [{"paths": ["group1-shard1of1.bin"], "weights": weights}]
    document = {"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(document))
    return document


def network():
    inside = layers.Input((16, 24, 4))
    inner = tf_keras.Model(inside, layers.SeparableConv2D(4, 3, padding="same")(inside))
    image = layers.Input((16, 24, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="hard_sigmoid")(image))
    x = layers.Concatenate()([inner(x), layers.DepthwiseConv2D(3, padding="same")(x)])
    return tf_keras.Model(image, layers.Conv2DTranspose(2, 2, 2)(x))


@pytest.mark.parametrize("by_converter", [True, False])
def test_a_layers_model_answers_as_the_model_that_it_was_made_of(tmp_path, by_converter):
    model = network()
    config = json.loads(model.to_json())
    write(tmp_path, model, {"model_config": config, "keras_version": "2.15.0"} if by_converter else config)
    images = RANDOM.random((2, 16, 24, 3)).astype(np.float32)
    loaded = load(tmp_path)
    np.testing.assert_allclose(loaded.forward(tf.constant(images)), model(images, training=False), atol=1e-5)


def test_what_does_not_fit_is_told_in_one_line(tmp_path, monkeypatch):
    model = network()
    document = write(tmp_path, model, {"model_config": json.loads(model.to_json())})
    text = json.dumps(document)
    for old, new, told in (
        (
            '"class_name": "DepthwiseConv2D"',
            '"class_name": "Own"',
            r"Keras 2 cannot make its layers: .*--custom_objects",
        ),
        ('"class_name": "DepthwiseConv2D"', '"class_name": "Lambda"', r"it holds a Lambda layer .*--unsafe_load"),
        ("/moving_mean", "/other", r"its weights do not fit its layers: batch_normalization\S*/moving_mean, batch"),
    ):
        (tmp_path / "model.json").write_text(text.replace(old, new))
        with pytest.raises(SourceError, match=told) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "model.json").write_text(text)
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(SourceError, match=r"a layers model of TensorFlow.js, .*: pip install 'maskport\[keras2\]'"):
        load(tmp_path)


def as_the_browser_writes(config):
    """A configuration without what newer releases of Keras 2 add."""
    if isinstance(config, dict):
        left_out = ("module", "registered_name", "build_config")
        return {key: as_the_browser_writes(value) for key, value in config.items() if key not in left_out}
    return [as_the_browser_writes(one) for one in config] if isinstance(config, list) else config


def test_what_the_browser_made_is_enlarged_and_normalized_as_there(tmp_path):
    image = layers.Input((16, 24, 3))
    normalized = layers.Normalization(name="normal")
    model = tf_keras.Model(image, layers.UpSampling2D(3, interpolation="bilinear")(normalized(image)))
    config = as_the_browser_writes(json.loads(model.to_json()))
    document = write(tmp_path, model, {"model_config": config, "keras_version": "tfjs-layers 4.22.0"})
    names = [weight["name"].rpartition("/")[2] for weight in document["weightsManifest"][0]["weights"]]
    values = dict(zip(names, RANDOM.random((3, 3)).astype(np.float32) + 0.5, strict=True))
    values["count"] = np.zeros([])
    (tmp_path / "group1-shard1of1.bin").write_bytes(
        b"".join(values[name].astype(np.float32).tobytes() for name in names)
    )
    images = RANDOM.random((2, 16, 24, 3)).astype(np.float32)
    x = (images - values["mean"]) / np.sqrt(values["variance"])
    wanted = tf.compat.v1.image.resize_bilinear(x, [48, 72])
    np.testing.assert_allclose(load(tmp_path).forward(tf.constant(images)), wanted, atol=1e-5)
