"""What is read from a model, and what is asked for where it is ambiguous."""

import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import SourceError, UnservableError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec
from reference import Toy

TOY = Toy.make(3, 1)


def load(source, **fields):
    return load_source(make_spec({"source": str(source), "output_dir": "served", **fields}))


def save_module(path, module, **signatures):
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def assert_computes(model, network, size):
    images = np.random.default_rng(0).random((3, *size, model.channels)).astype(np.float32)
    answers = model.forward(tf.constant(images)).numpy()
    np.testing.assert_allclose(answers, np.stack([network(image) for image in images]), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, None])
def test_a_fixed_batch_is_run_in_chunks(tmp_path, batch):
    module = toy_models.ToyModule(TOY, [batch, 20, 24, 3])
    model = load(save_module(tmp_path / "m", module, serving_default=module.run))
    assert (model.batch, model.size, model.channels, model.output_channels) == (batch, (20, 24), 3, 1)
    assert_computes(model, TOY, (20, 24))


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("form", ["tensor", "dict", "tuple"])
def test_the_map_among_the_outputs_and_the_data_format_are_found(tmp_path, channels_first, form):
    shape = [None, 3, None, None] if channels_first else [None, None, None, 3]
    module = toy_models.ToyModule(TOY, shape, channels_first, form)
    signature = module.run if form != "tuple" else module.run.get_concrete_function()
    model = load(save_module(tmp_path / "m", module, serve=signature))
    assert model.data_format == ("channels_first" if channels_first else "channels_last")
    assert model.size is None
    assert_computes(model, TOY, (20, 24))


def test_a_module_without_signatures_is_called(tmp_path):
    class Callable(toy_models.ToyModule):
        def __call__(self, pixels):
            return self.run(pixels)

    module = Callable(TOY, [None, None, None, 3])
    module.__call__ = module.run
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert_computes(load(tmp_path / "m"), TOY, (16, 18))


def test_a_model_that_takes_bytes_gets_rounded_bytes(tmp_path):
    module = toy_models.ToyModule(TOY, [None, None, None, 3], dtype=tf.uint8)
    model = load(save_module(tmp_path / "m", module, serve=module.run))
    images = np.array([-3.0, 0.4, 0.6, 254.7, 300.0], np.float32).reshape(1, 1, 5, 1).repeat(3, -1)
    rounded = np.array([0, 0, 1, 255, 255], float).reshape(1, 5, 1).repeat(3, -1)
    np.testing.assert_allclose(model.forward(tf.constant(images))[0], TOY(rounded), rtol=1e-5, atol=1e-3)


def test_a_half_precision_keras_model_answers_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        toy_models.keras_model(TOY).save(tmp_path / "half.keras")
        model = load(tmp_path / "half.keras")
        answer = model.forward(tf.random.uniform([1, 8, 8, 3]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert answer.dtype == tf.float32


def test_several_signatures_are_listed_and_serving_default_is_the_default(tmp_path):
    module = toy_models.ToyModule(TOY, [None, None, None, 3])
    two = save_module(tmp_path / "two", module, day=module.run, night=module.run)
    with pytest.raises(SourceError, match=r"has 2 signatures; choose one by source_signature: 'day', 'night'"):
        load(two)
    with pytest.raises(
        SourceError, match=r"source_signature: source .* has no signature 'dusk'; it has: 'day', 'night'"
    ):
        load(two, source_signature="dusk")
    assert load(two, source_signature="night").channels == 3
    assert load(save_module(tmp_path / "d", module, serving_default=module.run, other=module.run)).channels == 3


def test_several_maps_are_listed_with_their_shapes(tmp_path):
    toy_models.keras_model(TOY, output_names=("mask", "edges")).save(tmp_path / "two.keras")
    with pytest.raises(SourceError, match=re.escape("2 outputs; choose one by source_output: 'mask' float32[-1, -1")):
        load(tmp_path / "two.keras")
    assert_computes(load(tmp_path / "two.keras", source_output="mask"), TOY, (16, 16))


def test_class_indices_are_no_probabilities(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def classes(x):
        return {"labels": tf.argmax(x, -1)}

    module = tf.Module()
    module.run = classes
    path = save_module(tmp_path / "m", module, serve=classes)
    with pytest.raises(SourceError, match=r"gives no floating point map .* 'labels' int64"):
        load(path)
    with pytest.raises(SourceError, match=r"'labels' of source .* is int64: probabilities or logits are needed"):
        load(path, source_output="labels")


def test_two_inputs_are_refused_by_name(tmp_path):
    one, two = keras.Input((None, None, 3), name="rgb"), keras.Input((None, None, 1), name="depth")
    keras.Model([one, two], keras.layers.Concatenate()([one, two])).save(tmp_path / "two.keras")
    with pytest.raises(SourceError, match=r"takes 2 inputs; an export has one, the image: 'rgb' .*, 'depth' "):
        load(tmp_path / "two.keras")


@pytest.mark.parametrize(("shape", "message"), [
    ((None, None, None, 7), "takes 7 channels"), ((None, 3, 16, 3), "can be read both ways; give --data_format"),
    ((None, 16, None, 3), "model_size: source .* takes 16 by any pixels"), ((None, 16, 3), "has shape"),
])  # fmt: skip
def test_inputs_that_are_no_image_are_named(tmp_path, shape, message):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def run(x):
        return {"map": x}

    module = tf.Module()
    module.run = run
    with pytest.raises(SourceError, match=message):
        load(save_module(tmp_path / "m", module, serve=run))


def test_a_model_that_cannot_have_a_free_size_is_told_to_get_one(tmp_path):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(1, 3, 2, "same")(image)
    model = keras.Model(image, keras.layers.UpSampling2D(2, interpolation="bilinear")(x))
    model.save(tmp_path / "bilinear.keras")
    with pytest.raises(SourceError, match="--model_size=HEIGHT,WIDTH") as caught:
        load(tmp_path / "bilinear.keras")
    assert "\n" not in str(caught.value)
    assert load(tmp_path / "bilinear.keras", model_size="32,48").size == (32, 48)


@pytest.mark.parametrize(
    ("operation", "op"),
    [(lambda x: (tf.print("seen"), x)[1], "PrintV2"), (lambda x: tf.numpy_function(abs, [x], tf.float32), "PyFunc")],
)
def test_ops_that_no_server_runs_are_named_before_the_model_is_run(tmp_path, capfd, operation, op):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def run(x):
        return {"map": operation(x)}

    module = tf.Module()
    module.run = run
    path = save_module(tmp_path / "m", module, serve=run)
    with pytest.raises(UnservableError, match=rf"{op} \(touches the server's host; in function .*--allow_ops={op}"):
        load(path)
    assert "seen" not in capfd.readouterr().err
    if op == "PrintV2":
        assert load(path, allow_ops=[op]).output_channels == 3


def test_own_layers_come_from_the_module_that_registers_them(tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Halve(keras.layers.Layer):\n"
        "    def call(self, x):\n        return x[..., :1] * 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    image = keras.Input((None, None, 3))
    keras.Model(image, my_layers.Halve()(image)).save(tmp_path / "own.keras")
    keras.saving.get_custom_objects().clear()
    del sys.modules["my_layers"]
    monkeypatch.delitem(sys.modules, "my_layers", raising=False)
    with pytest.raises(SourceError, match=r"needs .*Halve.*: give the module that registers it by --custom_objects"):
        load(tmp_path / "own.keras")
    assert load(tmp_path / "own.keras", custom_objects="my_layers").output_channels == 1
    with pytest.raises(SourceError, match="custom_objects: no module 'nowhere'"):
        load(tmp_path / "own.keras", custom_objects="nowhere")


def test_a_subclassed_model_is_exported_once_it_is_built(tmp_path):
    @keras.saving.register_keras_serializable("test_sources")
    class Subclassed(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.convolution = keras.layers.Conv2D(1, 3, padding="same")

        def call(self, x):
            return self.convolution(x)

    model = Subclassed()
    model(tf.zeros([1, 16, 16, 3]))
    model.save(tmp_path / "sub.keras")
    loaded = load(tmp_path / "sub.keras")
    # The shape that it was built with is no constraint.
    assert (loaded.channels, loaded.output_channels, loaded.size, loaded.batch) == (3, 1, None, None)


def test_weights_alone_are_no_model(tmp_path):
    toy_models.keras_model(TOY).save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(SourceError, match="it holds weights only; give a builder function as source"):
        load(tmp_path / "net.weights.h5")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_sequential_models_are_ordinary_models(tmp_path, suffix):
    convolution = keras.layers.Conv2D(1, 3, padding="same")
    model = keras.Sequential([keras.Input((24, 16, 3)), convolution])
    convolution.set_weights([TOY.kernel, TOY.bias])
    model.save(tmp_path / f"sequential{suffix}")
    loaded = load(tmp_path / f"sequential{suffix}")
    assert loaded.size == (24, 16)
    assert_computes(loaded, TOY, (24, 16))


def test_nested_outputs_are_named_by_their_path(tmp_path):
    image = keras.Input((None, None, 3))
    first, second, third = (keras.layers.Conv2D(n, 1, name=f"head{n}")(image) for n in (1, 2, 3))
    keras.Model(image, {"main": first, "deep": [second, third]}).save(tmp_path / "nested.keras")
    with pytest.raises(SourceError, match=re.escape("choose one by source_output: ")) as caught:
        load(tmp_path / "nested.keras")
    assert "'deep/1'" in str(caught.value)
    assert load(tmp_path / "nested.keras", source_output="deep/1").output_channels == 3


def test_a_trace_for_training_is_not_the_one_that_is_exported(tmp_path):
    class Net(tf.Module):
        @tf.function
        def __call__(self, x, training=False):
            return x[..., :1] * (0.0 if training else 0.5)

    module = Net()
    for training in (True, False):
        module(tf.zeros([1, 8, 8, 3]), training=training)
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert load(tmp_path / "m").forward(tf.ones([1, 8, 8, 3])).numpy().max() == 0.5


def test_a_builder_that_fails_is_a_mistake_of_its_source(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text("def build():\n    raise RuntimeError('no data')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match="source failing:build: the function fails: RuntimeError: no data"):
        load("failing:build", weights="x.weights.h5")
