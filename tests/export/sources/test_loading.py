"""What is read from a model, and what is asked for where it is ambiguous."""

import importlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import SourceError, UnservableError
from maskport.export.graph.signatures.pictures import _for_each
from maskport.export.sources import adapt_keras_model, load_source
from maskport.export.sources.loading import _in_chunks
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


@pytest.mark.parametrize("size", [(None, None), (20, 24)])
@pytest.mark.parametrize(
    "form",
    [lambda maps: maps, lambda maps: maps[0], lambda maps: maps[..., 0], lambda maps: maps[0, ..., 0],
     lambda maps: tf.compat.v1.placeholder_with_default(maps[..., 0], [None] * 3)],
    ids=["[1, H, W, K]", "[H, W, K]", "[1, H, W]", "[H, W]", "any"],
)  # fmt: skip
def test_a_model_of_one_picture_takes_any_number(tmp_path, form, size):
    """As DeepLab2's SavedModels do."""
    module = tf.Module()
    kernel, bias = tf.Variable(TOY.kernel), tf.Variable(TOY.bias)
    module.kept = kernel, bias

    @tf.function(input_signature=[tf.TensorSpec([*size, 3], tf.uint8, name="input_tensor")])
    def run(picture):
        return {"map": form(tf.nn.conv2d(tf.cast(picture, tf.float32)[tf.newaxis], kernel, 1, "SAME") + bias)}

    module.run = run
    model = load(save_module(tmp_path / "m", module, serve=run))
    assert (model.batch, model.size, model.channels, model.output_channels) == (1, size if size[0] else None, 3, 1)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3)).astype(np.float32)
    answers = tf.function(model.forward)(tf.constant(images))
    np.testing.assert_allclose(answers, np.stack([TOY(image) for image in images]), atol=1e-2)


def test_constants_of_a_model_of_one_picture_are_those_of_one(tmp_path):
    module = tf.Module()

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 3], name="pixels"), tf.TensorSpec([None, 1], name="points")]
    )
    def run(pixels, points):
        return pixels[..., :1] + points

    module.run = run
    model = load(save_module(tmp_path / "m", module, serve=run), source_constants={"points": [[0.25]]})
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(tf.function(model.forward)(tf.constant(images)), images[..., :1] + 0.25, atol=1e-6)


class Halvings(tf.Module):
    """Halves a picture eight times, as a generator of pix2pix does, and so takes multiples of 256 only."""

    def __init__(self, channels=None):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.float32, name="pixels")])
        def run(pixels):
            small = tf.nn.avg_pool2d(pixels, 256, 256, "VALID")
            large = tf.repeat(tf.repeat(small, 256, 1), 256, 2)
            return {"map": (pixels + large) @ self.weights}

        self.weights = tf.Variable(tf.ones([3, 1]))
        self.run = run


@pytest.mark.parametrize("channels", [3, None])
@pytest.mark.parametrize(
    "fields", [{"pad_to_multiple": 256}, {"model_size": "512,256"}, {"model_size": "longest=512,multiple=256"}]
)
def test_models_are_tried_at_sizes_that_they_will_be_served_with(tmp_path, channels, fields):
    module = Halvings(channels)
    path = save_module(tmp_path / "m", module, serve=module.run)
    model = load(path, **fields)
    assert (model.channels, model.output_channels) == (3, 1)
    failure = (
        "takes none of 1 to 16 channels at 284 by 572 pixels" if channels is None else "fails on a 284x572 picture"
    )
    with pytest.raises(
        SourceError, match=f"{failure}.*ncompatible shapes: .* --pad_to_multiple; .* --model_size="
    ) as caught:
        load(path)
    assert ("if it is not channels_last: --data_format" in str(caught.value)) == (channels is None)


@pytest.mark.parametrize("loop", [lambda step: _in_chunks(step, 1), lambda step: lambda x: _for_each(step, 1, x.dtype)])
def test_code_that_makes_ops_in_a_loop_is_run_as_it_stands(loop):
    files = []

    def step(values):
        files.append(sys._getframe().f_code.co_filename)  # of what AutoGraph has rewritten: a temporary file
        return tf.cast(values, tf.float32)

    tf.function(loop(step), autograph=False).get_concrete_function(tf.TensorSpec([None, 4, 4, 3]))
    assert set(files) == {__file__}


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


def test_outputs_of_a_saved_model_are_listed_in_their_order(tmp_path):
    module = tf.Module()
    module.run = tf.function(
        lambda image: [image[..., :1] * factor for factor in range(12)],
        input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")],
    )
    tf.saved_model.save(module, str(tmp_path / "many"), signatures=module.run)
    with pytest.raises(SourceError, match="12 outputs; choose one") as caught:
        load(tmp_path / "many")
    assert re.findall(r"output_\d+", str(caught.value)) == [f"output_{position}" for position in range(12)]


def test_several_maps_are_listed_with_their_shapes(tmp_path):
    toy_models.keras_model(TOY, output_names=("mask", "edges")).save(tmp_path / "two.keras")
    with pytest.raises(SourceError, match=re.escape("2 outputs; choose one by source_output: 'mask' float32[-1, -1")):
        load(tmp_path / "two.keras")
    assert_computes(load(tmp_path / "two.keras", source_output="mask"), TOY, (16, 16))


def test_two_inputs_are_refused_by_name(tmp_path):
    one, two = keras.Input((None, None, 3), name="rgb"), keras.Input((None, None, 1), name="depth")
    keras.Model([one, two], keras.layers.Concatenate()([one, two])).save(tmp_path / "two.keras")
    with pytest.raises(SourceError, match=r"takes 2 inputs; an export has one, the image: 'rgb' .*, 'depth' "):
        load(tmp_path / "two.keras")


@pytest.mark.parametrize(("shape", "message"), [
    ((None, None, None, 17), "takes 17 channels"), ((None, 3, 16, 3), "can be read both ways; give --data_format"),
    ((None, 16, None, 3), "model_size: source .* takes 16 by any pixels"), ((None, 16, 30), "has shape"),
    ((None, 16, 3), "has shape"),  # a batch of rows
])  # fmt: skip
def test_inputs_that_are_no_image_are_named(tmp_path, shape, message):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def run(x):
        return {"map": x}

    module = tf.Module()
    module.run = run
    with pytest.raises(SourceError, match=message):
        load(save_module(tmp_path / "m", module, serve=run))


@pytest.mark.parametrize(
    ("factors", "interpolation"), [((2, 2), "bilinear"), ((4, 3), "bilinear"), ((2, 3), "bicubic"), ((2, 2), "nearest")]
)
def test_smooth_upsampling_takes_any_size(tmp_path, factors, interpolation):
    """Keras itself does so only outside of graphs."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 3, 2, "same")(image)
    model = keras.Model(image, keras.layers.UpSampling2D(factors, interpolation=interpolation)(x))
    model.save(tmp_path / "smooth.keras")
    loaded = load(tmp_path / "smooth.keras")
    assert loaded.size is None
    for shape in ((1, 16, 24, 3), (2, 21, 8, 3)):
        images = np.random.default_rng(0).random(shape).astype(np.float32)
        np.testing.assert_allclose(loaded.forward(tf.constant(images)), model(images), atol=1e-6)


class Doubled(keras.layers.Layer):
    """Multiplies sizes that are known when the graph is made."""

    def call(self, inputs):
        return keras.ops.image.resize(inputs, [2 * edge for edge in inputs.shape[1:3]])

    def compute_output_shape(self, shape):
        return (shape[0], None, None, shape[3])


def test_a_model_that_cannot_have_a_free_size_is_told_to_get_one():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, Doubled()(keras.layers.Conv2D(1, 3, 2, "same")(image)))
    fields = {"source": "keras model", "output_dir": "served"}
    with pytest.raises(SourceError, match="--model_size=HEIGHT,WIDTH") as caught:
        adapt_keras_model(model, make_spec(fields))
    assert "\n" not in str(caught.value)
    assert adapt_keras_model(model, make_spec({**fields, "model_size": "32,48"})).size == (32, 48)


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


OWN_OBJECTS = """
import keras

{registering}
def twice(x):
    return 2 * x

{registering}
class Ones(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    def get_config(self):
        return {{}}

{registering}
class Halve(keras.layers.Layer):
    def call(self, x):
        return x[..., :1] * 0.5

{registering}
class Nest(keras.layers.Layer):
    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {{**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}}

    @classmethod
    def from_config(cls, config):
        return cls(**{{**config, "inner": keras.saving.deserialize_keras_object(config["inner"])}})
"""
FILLING = """
import keras
import defining
keras.saving.get_custom_objects().update(
    {name: getattr(defining, name) for name in ("twice", "Ones", "Halve", "Nest")}
)
del defining
"""


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Modules with one set of Keras objects: undecorated, registered under a package, put among the custom objects."""
    registering = "@keras.saving.register_keras_serializable('theirs')"
    (tmp_path / "defining.py").write_text(OWN_OBJECTS.format(registering=""))
    (tmp_path / "registering.py").write_text(OWN_OBJECTS.format(registering=registering))
    (tmp_path / "filling.py").write_text(FILLING)
    (tmp_path / "lacking.py").write_text("import keras\n\ndef other(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        keras.saving.get_custom_objects().clear()
        for name in ("defining", "registering", "filling", "lacking"):
            sys.modules.pop(name, None)

    yield forget
    forget()


@pytest.mark.parametrize("saved_with", ["defining", "registering"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_own_objects_come_from_a_module_that_has_them_in_any_way(tmp_path, own_modules, saved_with, suffix):
    module = importlib.import_module(saved_with)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3, 1, activation=module.twice, kernel_initializer=module.Ones())(image)
    path = tmp_path / f"own{suffix}"
    keras.Model(image, module.Nest(module.Halve())(x)).save(path)
    for name in ("defining", "registering", "filling"):
        own_modules()
        answer = load(path, custom_objects=name).forward(tf.ones([1, 4, 4, 3]))
        np.testing.assert_allclose(answer, np.full([1, 4, 4, 1], 3.0))
    own_modules()
    with pytest.raises(
        SourceError, match=r"it needs '\w+', which Keras does not have: give .* --custom_objects=MODULE$"
    ):
        load(path)
    with pytest.raises(SourceError, match=r"it needs '\w+', which is not in 'lacking', .*; that has: other$"):
        load(path, custom_objects="lacking")
    with pytest.raises(SourceError, match="custom_objects: no module 'nowhere'"):
        load(path, custom_objects="nowhere")


def test_a_subclassed_model_is_exported_once_it_is_built(tmp_path):
    @keras.saving.register_keras_serializable("test_sources")
    class Subclassed(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.convolution = keras.layers.Conv2D(1, 3, padding="same")

        def call(self, x):
            return self.convolution(x)

    model = Subclassed()
    model(tf.zeros([1, 3, 4, 3]))  # which tells nothing of the layout
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


KERAS_INPUTS = {
    "one": lambda image: image,
    "list": lambda image: [image],
    "tuple": lambda image: (image,),
    "dict": lambda image: {"photo": image},
    "nested": lambda image: {"photos": [image]},
}
KERAS_OUTPUTS = {  # of heads with 1, 2 and 3 channels; by the names that choose each
    "one": (lambda a, b, c: a, {("head1", "0"): 1}),
    "list of one": (lambda a, b, c: [a], {("head1", "0"): 1}),
    "tuple of one": (lambda a, b, c: (a,), {("head1", "0"): 1}),
    "dict of one": (lambda a, b, c: {"m": a}, {("m", "head1"): 1}),
    "list in a list": (lambda a, b, c: [[a]], {("head1", "0"): 1}),
    "list": (lambda a, b, c: [a, b], {("head1", "0"): 1, ("head2", "1"): 2}),
    "tuple": (lambda a, b, c: (a, b), {("head1", "0"): 1, ("head2", "1"): 2}),
    "dict": (lambda a, b, c: {"z": a, "a": b}, {("z", "head1"): 1, ("a", "head2"): 2}),
    "nested": (
        lambda a, b, c: [a, {"deep": (b, c)}],
        {("head1", "0"): 1, ("1/deep/0", "head2"): 2, ("1/deep/1", "head3"): 3},
    ),
}


def classic_model(inputs, outputs):
    """A functional model of three heads, and a function that predicts one of them by its number of channels."""
    image = keras.Input((16, 24, 3), name="photo")
    heads = [keras.layers.Conv2D(count, 3, padding="same", name=f"head{count}") for count in (1, 2, 3)]
    model = keras.Model(KERAS_INPUTS[inputs](image), KERAS_OUTPUTS[outputs][0](*(head(image) for head in heads)))

    def predict(images, channels):
        return keras.Model(image, heads[channels - 1](image)).predict(images, verbose=0)

    return model, predict


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [*(("list", outputs) for outputs in KERAS_OUTPUTS), *((inputs, "list of one") for inputs in KERAS_INPUTS)],
)
def test_every_shape_of_inputs_and_outputs_is_one_image_and_chosen_by_name(tmp_path, inputs, outputs, suffix):
    model, predict = classic_model(inputs, outputs)
    if suffix:
        model.save(tmp_path / f"classic{suffix}")

    def load_output(name=None):
        if suffix:
            return load(tmp_path / f"classic{suffix}", source_output=name)
        spec = make_spec({"source": "memory", "output_dir": "served", "source_output": name})
        return adapt_keras_model(model, spec)

    images = np.random.default_rng(0).random((2, 16, 24, 3), np.float32)
    choices = KERAS_OUTPUTS[outputs][1]
    if len(choices) > 1:
        with pytest.raises(SourceError, match="choose one by source_output: ") as caught:
            load_output()
        assert [f"'{shown}'" in str(caught.value) for shown, _ in choices] == [True] * len(choices)
    for names, channels in choices.items():
        for name in (*names, *([None] if len(choices) == 1 else [])):
            answer = load_output(name).forward(tf.constant(images))
            np.testing.assert_allclose(answer, predict(images, channels), atol=1e-5)


def test_outputs_of_one_layer_are_told_apart_by_position():
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(1, 1, name="shared")
    model = keras.Model(image, [shared(image), shared(-image)])
    images = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    for name, expected in zip("01", model.predict(images, verbose=0), strict=True):
        loaded = adapt_keras_model(model, make_spec({"source": "m", "output_dir": "o", "source_output": name}))
        np.testing.assert_allclose(loaded.forward(tf.constant(images)), expected, atol=1e-5)


@pytest.mark.parametrize("pack", [lambda x: x, lambda x: [x], lambda x: {"photo": x}])
def test_a_subclassed_model_is_called_as_it_was_built(pack):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(2, 1)

        def call(self, x):
            return [self.convolution(keras.tree.flatten(x)[0]), None]

    model = Subclassed()
    images = np.random.default_rng(0).random((2, 16, 24, 3), np.float32)
    expected = model(pack(images))[0]
    loaded = adapt_keras_model(model, make_spec({"source": "m", "output_dir": "o"}))
    assert (loaded.channels, loaded.size, loaded.batch) == (3, None, None)
    np.testing.assert_allclose(loaded.forward(tf.constant(images)), expected, atol=1e-5)


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
