"""Models that scale their pictures themselves, and specs that do it once more."""

import logging

import keras
import pytest
import tensorflow as tf
from maskport.export.probing.probe import warn_of_double_scaling
from maskport.export.sources import adapt_keras_model, load_source
from maskport.export.spec import make_spec

APPLICATIONS = keras.applications
BEGINNINGS = {
    "nothing": lambda x: x,
    "unit": keras.layers.Rescaling(1 / 255),
    "signed": APPLICATIONS.mobilenet_v2.preprocess_input,
    "caffe": APPLICATIONS.resnet50.preprocess_input,
    "torch": APPLICATIONS.densenet.preprocess_input,
    "normalization": keras.layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0] * 3),
    "resized": lambda x: keras.layers.Rescaling(1 / 127.5, -1.0)(keras.layers.Resizing(16, 16)(x)),
    "skip": lambda x: keras.layers.Concatenate()([x * 0.5, x]),
    "fractions to imagenet": keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05] * 3),
}
SPEC = {"source": "m", "output_dir": "o"}


def make_model(begin):
    image = keras.Input((24, 32, 3))
    outputs = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.ReLU(6.0)(begin(image)))
    return keras.Model(image, outputs)


def warnings_of(model, caplog, **fields):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_double_scaling(model, make_spec({**SPEC, **fields}))
    return [record.getMessage() for record in caplog.records if "scales its pictures itself" in record.getMessage()]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_scaling_twice_is_warned_of(beginning, caplog):
    model = adapt_keras_model(make_model(BEGINNINGS[beginning]), make_spec(SPEC))
    is_made_for_bytes = beginning not in ("nothing", "skip", "fractions to imagenet")
    for scaling in ("unit", "signed", "imagenet"):
        found = warnings_of(model, caplog, scaling=scaling)
        assert len(found) == is_made_for_bytes, (scaling, found)
    assert len(warnings_of(model, caplog, mean=0.5, std=0.25)) == is_made_for_bytes
    assert not warnings_of(model, caplog, scaling="none")


def test_it_is_seen_in_a_saved_model_too(tmp_path, caplog):
    make_model(BEGINNINGS["signed"]).export(tmp_path / "m", verbose=False)
    model = load_source(make_spec({**SPEC, "source": str(tmp_path / "m")}))
    (message,) = warnings_of(model, caplog, scaling="unit")
    assert message.startswith("scaling: 'unit', but the model scales its pictures itself")
    assert "(-1 to -0.9922); is it 'none'?" in message


@pytest.mark.parametrize(("make", "scales"), [
    (APPLICATIONS.MobileNetV3Small, True), (APPLICATIONS.MobileNetV2, False),
])  # fmt: skip
def test_published_backbones_are_told_apart(make, scales, caplog):
    backbone = make(weights=None, include_top=False, input_shape=(64, 64, 3))
    model = adapt_keras_model(
        keras.Model(backbone.input, keras.layers.Conv2D(1, 1)(backbone.output)), make_spec({**SPEC, "model_size": 64})
    )
    assert bool(warnings_of(model, caplog, scaling="signed")) == scales
    tf.keras.backend.clear_session()


class Deep(keras.layers.Layer):
    """As many operators, one after the other, as a large backbone has."""

    def call(self, x):
        for _ in range(1200):
            x = tf.nn.relu(x)
        return x


def test_a_deep_network_that_takes_its_picture_once_more_at_its_end_is_looked_through(caplog):
    image = keras.Input((24, 32, 3))
    ends = keras.layers.Concatenate()([Deep()(image), keras.layers.Rescaling(1 / 255)(image)])
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(ends))
    spec = make_spec(SPEC)
    assert len(warnings_of(adapt_keras_model(model, spec), caplog, scaling="unit")) == 1
