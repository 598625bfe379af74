"""Files of Keras 2, of all kinds of layers, against the models that tf-keras saved."""

import json
import re
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from maskport.export import SourceError
from maskport.export.sources import adapt_keras_model, load_source
from maskport.export.spec import make_spec
from tf_keras import layers

SHAPE = (32, 48, 3)


def load(path, **fields):
    return load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))


def head(x):
    return layers.Conv2D(2, 1, name="head/logits")(x)


def ordinary():
    """Layers that Keras 3 has, too, with all that it does not know of them, or knows otherwise."""
    image = layers.Input(SHAPE)
    options = {"kernel_initializer": "he_normal", "kernel_regularizer": "l2", "kernel_constraint": "max_norm"}
    x = layers.Conv2D(8, 3, 2, "same", activation="swish", **options)(image)
    x = layers.Conv2D(8, 3, padding="same", groups=2, use_bias=False)(x)
    x = layers.BatchNormalization(axis=[3], epsilon=0.01)(x)
    x = layers.ReLU(6.0)(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Dense(8, activation="hard_sigmoid")(squeezed)])
    x = layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2)(x)
    x = layers.DepthwiseConv2D(3, padding="same", depthwise_initializer="he_uniform")(x)
    x = layers.Add()([x, layers.LeakyReLU(0.2)(x), layers.PReLU(shared_axes=[1, 2])(x), layers.ELU(0.7)(x)])
    x = layers.LayerNormalization()(x)
    x = layers.GroupNormalization(2)(x)
    x = layers.Activation(tf.nn.relu6)(layers.Activation("gelu")(x))
    up = layers.UpSampling2D(interpolation="bilinear")(x)
    x = layers.Conv2DTranspose(4, 3, 2, "same", output_padding=1)(x)
    return tf_keras.Model(image, head(layers.Concatenate()([x, layers.SpatialDropout2D(0.2, name="drop/out")(up)])))


def nested():
    """Models in models, called more than once; branches that differ in nothing but their weights."""
    inside = layers.Input(SHAPE)
    branches = [layers.Conv2D(3, 3, padding="same", name=f"branch{9 - number}") for number in range(4)]
    joined = layers.Concatenate()([branches[2](inside), branches[0](branches[3](inside)), branches[1](inside)])
    inner = tf_keras.Model(inside, layers.Conv2D(3, 1)(joined), name="inner")
    sequence = tf_keras.Sequential([layers.BatchNormalization(), layers.Conv2D(3, 1)], name="sequence")
    image = layers.Input(SHAPE)
    x = sequence(inner(image))
    return tf_keras.Model(image, head(layers.Add()([x, inner(sequence(x))])))


def sequential():
    body = [layers.Conv2D(4, 3, padding="same", input_shape=SHAPE), layers.Dropout(0.3), layers.BatchNormalization()]
    return tf_keras.Sequential([*body, layers.Activation("hard_sigmoid"), layers.Conv2D(2, 1)])


def rows():
    image = layers.Input(SHAPE)
    x = layers.TimeDistributed(layers.Conv2DTranspose(4, 3, padding="same"))(layers.Reshape((2, 16, 48, 3))(image))
    x = layers.Bidirectional(layers.LSTM(12, return_sequences=True))(layers.Reshape((32, 192))(x))
    return tf_keras.Model(image, head(layers.Reshape((32, 24, 1))(x)))


def half():
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        image = layers.Input(SHAPE)
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image))
        return tf_keras.Model(image, layers.Conv2D(2, 1, dtype="float32")(x))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def functions():
    """TensorFlow's functions as layers, a hard swish among them."""
    image = layers.Input((None, None, 3))
    x = tf.nn.relu(layers.Conv2D(4, 3, 2, "same")(image)) * 2 + 1
    x = x * tf.nn.relu6(x + 3.0) * (1 / 6)
    x = tf.image.resize(tf.nn.depth_to_space(x, 2), tf.shape(image)[1:3])[:, :, ::2]
    return tf_keras.Model(image, head(tf.concat([x, x / 3], -1)))


def attention():
    image = layers.Input(SHAPE)
    x = layers.Reshape((-1, 8))(layers.Conv2D(8, 4, 4)(image))
    x = layers.Attention()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return tf_keras.Model(image, head(layers.Reshape((8, 12, 8))(x)))


def unusual():
    """Layers that Keras 3 has not, or has with other weights."""
    image = layers.Input(SHAPE)
    x = layers.LayerNormalization(axis=[1, 2, 3])(layers.Conv2D(4, 1)(image))
    return tf_keras.Model(image, head(layers.ThresholdedReLU(0.1)(x)))


def mobilenet():
    options = {"input_shape": (64, 64, 3), "include_top": False, "weights": None}
    network = tf_keras.applications.MobileNetV3Small(minimalistic=False, **options)
    return tf_keras.Model(network.input, head(layers.UpSampling2D(8)(network.output)))


READ_BY_KERAS_3 = [(ordinary, "h5"), (nested, "h5"), (rows, "h5"), (half, "h5"), (sequential, "h5")]
READ_BY_KERAS_2 = [
    *((kind, "keras") for kind in (ordinary, nested, sequential, half, functions, mobilenet)),
    *((kind, "h5") for kind in (functions, attention, unusual)),
]


def save(model, path):
    """Gives a model random weights, saves it, and returns pictures with what it answers to them."""
    random = np.random.default_rng(0)
    values = [random.normal(0, 0.3, weight.shape) for weight in model.weights]
    named = zip(values, model.weights, strict=True)
    model.set_weights([np.abs(value) + 0.5 if "variance" in weight.name else value for value, weight in named])
    model.save(path)
    size = [edge or trial for edge, trial in zip(model.input_shape[1:], (32, 40, 3), strict=True)]
    images = random.random((2, *size), np.float32)
    return images, model(images, training=False).numpy()


@pytest.mark.filterwarnings("ignore")  # that HDF5 is legacy, and of the formats that tf-keras itself writes
@pytest.mark.parametrize(
    ("kind", "suffix", "by_keras_3"),
    [*((*case, True) for case in READ_BY_KERAS_3), *((*case, False) for case in READ_BY_KERAS_2)],
)
def test_files_of_keras_2_answer_as_keras_2_does(tmp_path, monkeypatch, kind, suffix, by_keras_3):
    path = tmp_path / f"old.{suffix}"
    images, expected = save(kind(), path)
    if by_keras_3:
        monkeypatch.setitem(sys.modules, "tf_keras", None)  # as where it is not installed
    model = load(path)
    np.testing.assert_allclose(model.forward(tf.constant(images)), expected, atol=1e-5 * np.abs(expected).max())
    assert all(isinstance(variable, tf.Variable) for variable in model.trackable)


def rewrite(path, change):
    """Replaces the configuration of the model in a file by what `change` makes of its text."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = change(file.attrs["model_config"])
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content.decode()) if name == "config.json" else content)


@pytest.mark.filterwarnings("ignore")
def test_files_of_older_releases_are_read(tmp_path, monkeypatch):
    images, expected = save(nested(), tmp_path / "old.keras")
    rewrite(tmp_path / "old.keras", lambda text: text.replace("tf_keras.src.", "keras.src."))  # as of Keras 2.15
    np.testing.assert_allclose(load(tmp_path / "old.keras").forward(tf.constant(images)), expected, atol=1e-5)

    def as_of_tensorflow_1(text):
        config = text.replace('"Functional"', '"Model"').replace('"groups": 1, ', "")
        config = config.replace('"BatchNormalization"', '"BatchNormalizationV1"').replace(
            '"momentum"', '"renorm": false, "momentum"'
        )
        scaling = '"class_name": "VarianceScaling", "config": {"distribution": "normal", "dtype": "float32"}'
        return config.replace('"class_name": "GlorotUniform", "config": {"seed": null}', scaling)

    images, expected = save(nested(), tmp_path / "old.h5")
    rewrite(tmp_path / "old.h5", as_of_tensorflow_1)
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        assert "VarianceScaling" in file.attrs["model_config"]
        assert "BatchNormalizationV1" in file.attrs["model_config"]
        file.attrs["keras_version"] = "2.2.4-tf"
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    np.testing.assert_allclose(load(tmp_path / "old.h5").forward(tf.constant(images)), expected, atol=1e-5)


def enlarged():
    image = layers.Input(SHAPE)
    x = layers.Conv2D(3, 3, padding="same")(image)
    return tf_keras.Model(image, layers.UpSampling2D((4, 3), interpolation="bilinear")(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_keras_3", [True, False])
@pytest.mark.parametrize(
    ("version", "is_ragged", "is_older"),
    [("2.2.4", False, True), ("2.3.1", False, True), ("2.1.6-tf", False, True), ("2.2.4-tf", False, True),
     ("2.2.4-tf", True, False), ("2.3.0-tf", True, False), ("2.12.0", True, False)],
)  # fmt: skip
def test_bilinear_upsampling_is_that_of_the_release(tmp_path, monkeypatch, version, is_ragged, is_older, by_keras_3):
    path, model = tmp_path / "old.h5", enlarged()
    images, newer = save(model, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        if not is_ragged:
            del config["config"]["layers"][0]["config"]["ragged"]
        if not by_keras_3:
            config["config"]["layers"][1]["config"]["unknown"] = 1
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
    if by_keras_3:
        monkeypatch.setitem(sys.modules, "tf_keras", None)
    else:
        # In place of what Keras 3 cannot read and Keras 2 can.
        plain = layers.Conv2D.__init__

        def tolerant(self, *words, unknown=0, **more):
            plain(self, *words, **more)

        monkeypatch.setattr(layers.Conv2D, "__init__", tolerant)
    features = tf_keras.Model(model.input, model.layers[1].output)(images)
    older = tf.compat.v1.image.resize_bilinear(features, [4 * images.shape[1], 3 * images.shape[2]])
    assert np.abs(older - newer).max() > 0.1
    answer = load(path).forward(tf.constant(images))
    np.testing.assert_allclose(answer, older if is_older else newer, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_tensorflow_1_wrote_as_arrays_are_numbers(tmp_path, monkeypatch):
    """As MobileNets have them that TensorFlow 1.9 to 1.12 saved; neither Keras reads them so."""
    image = layers.Input(SHAPE)
    x = layers.ReLU(6.0, negative_slope=0.1)(layers.Conv2D(3, 3, padding="same")(image))
    images, wanted = save(tf_keras.Model(image, x), tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        config = file.attrs["model_config"]
        for name in ("max_value", "negative_slope"):
            config = re.sub(rf'"{name}": ([\d.]+)', rf'"{name}": {{"type": "ndarray", "value": \1}}', config)
        assert config.count("ndarray") == 2
        file.attrs["model_config"] = config
        file.attrs["keras_version"] = "2.1.6-tf"
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    np.testing.assert_allclose(load(tmp_path / "old.h5").forward(tf.constant(images)), wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_normalizations_in_models_within_have_their_statistics(tmp_path, monkeypatch):
    inside = layers.Input(SHAPE)
    backbone = tf_keras.Model(inside, layers.Conv2D(4, 3, padding="same")(layers.Normalization()(inside)))
    image = layers.Input(SHAPE)
    model = tf_keras.Model(image, head(backbone(image)))
    images, _ = save(model, tmp_path / "old.h5")
    mean, variance = (weight.numpy() for weight in backbone.layers[1].weights[:2])
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    kernel, bias = (weight.numpy() for weight in backbone.layers[2].weights)
    last, offset = (weight.numpy() for weight in model.layers[-1].weights)
    x = tf.nn.conv2d((images - mean) / np.sqrt(variance), kernel, 1, "SAME") + bias
    np.testing.assert_allclose(
        load(tmp_path / "old.h5").forward(tf.constant(images)), x @ last[0, 0] + offset, atol=1e-4
    )


@pytest.mark.filterwarnings("ignore")
def test_layers_along_several_axes_keep_them(tmp_path):
    image = layers.Input(SHAPE)
    model = tf_keras.Model(image, layers.Softmax(axis=[1, 2])(head(image)))
    images, expected = save(model, tmp_path / "old.h5")
    np.testing.assert_allclose(load(tmp_path / "old.h5").forward(tf.constant(images)), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_without_keras_2_it_is_said_how_to_get_it_and_how_to_do_without(tmp_path, monkeypatch):
    functions().save(tmp_path / "old.h5")
    functions().save(tmp_path / "old.keras")
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    for name, unknown in (("old.h5", "TFOpLambda"), ("old.keras", "Functional")):
        with pytest.raises(SourceError) as caught:
            load(tmp_path / name)
        assert (
            f"saved by Keras {tf_keras.__version__}, and Keras 3 cannot load it: it does not know '{unknown}'"
            in str(caught.value)
        )
        assert "pip install 'maskport[keras2]'" in str(caught.value)
        assert "model.save('DIRECTORY', save_format='tf'); then --source=DIRECTORY" in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_code_is_not_loaded_unless_it_is_trusted(tmp_path, suffix):
    image = layers.Input(SHAPE)
    tf_keras.Model(image, head(tf.nn.relu(layers.Lambda(lambda x: 2 * x)(image)))).save(tmp_path / f"code.{suffix}")
    with pytest.raises(SourceError, match=r"it holds a Lambda layer or other code.*--unsafe_load"):
        load(tmp_path / f"code.{suffix}")
    assert load(tmp_path / f"code.{suffix}", unsafe_load=True).output_channels == 2

    for old, new, told in (
        ('"nn.relu"', '"io.write_file"', "it holds a Lambda layer or other code.*--unsafe_load"),
        (
            '"class_name": "Conv2D"',
            '"module": "posix", "class_name": "system"',
            "it needs 'system', which Keras does not",
        ),
    ):
        tf_keras.Model(image, head(tf.nn.relu(image))).save(tmp_path / f"bad.{suffix}")
        rewrite(tmp_path / f"bad.{suffix}", lambda text, old=old, new=new: text.replace(old, new))
        with pytest.raises(SourceError, match=told):
            load(tmp_path / f"bad.{suffix}")


OWN = """
import tf_keras

class Twice(tf_keras.layers.Layer):
    def call(self, x):
        return 2 * x

def build():
    image = tf_keras.Input((None, None, 3))
    return tf_keras.Model(image, tf_keras.layers.Conv2D(2, 1)(Twice()(image)))
"""


@pytest.mark.filterwarnings("ignore")
def test_own_layers_and_builders_may_be_of_keras_2(tmp_path, monkeypatch):
    (tmp_path / "of_keras_2.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import of_keras_2

    model = of_keras_2.build()
    images, expected = save(model, tmp_path / "own.keras")
    model.save(tmp_path / "own.h5")
    model.save_weights(tmp_path / "own.weights.h5")
    own = {"custom_objects": "of_keras_2"}
    for source, fields in (
        (tmp_path / "own.keras", own),
        (tmp_path / "own.h5", own),
        ("of_keras_2:build", {"weights": str(tmp_path / "own.weights.h5")}),
    ):
        np.testing.assert_allclose(load(source, **fields).forward(tf.constant(images)), expected, atol=1e-5)
    in_memory = adapt_keras_model(model, make_spec({"source": "memory", "output_dir": "served"}))
    np.testing.assert_allclose(in_memory.forward(tf.constant(images)), expected, atol=1e-5)
    for name in ("own.keras", "own.h5"):
        with pytest.raises(SourceError, match="it needs 'Twice', which Keras does not have: give the module that"):
            load(tmp_path / name)
    del sys.modules["of_keras_2"]


class Subclassed(tf_keras.Model):
    """Convolves, as models of a garden or a hub are written."""

    def __init__(self, channels_first=False, **options):
        super().__init__(**options)
        self.channels_first = channels_first
        self.convolution = layers.Conv2D(2, 3, padding="same")

    def call(self, inputs):
        x = inputs["photo"] if isinstance(inputs, dict) else inputs
        return {"logits": self.convolution(tf.transpose(x, [0, 2, 3, 1]) if self.channels_first else x), "loss": None}

    def get_config(self):
        return super().get_config() | {"channels_first": self.channels_first}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("pack", "channels_first"),
    [(lambda x: x, False), (lambda x: {"photo": x}, False), (lambda x: {"photo": x}, True), (None, False)],
    ids=["called", "called with a dict", "channels first", "built"],
)
@pytest.mark.parametrize("is_file", [False, True])
def test_subclassed_models_are_called_as_they_were_built(tmp_path, pack, channels_first, is_file):
    model = Subclassed(channels_first)
    images = np.random.default_rng(0).random((2, 24, 40, 3), np.float32)
    if pack is None:
        model.build((None, None, None, 3))
    else:
        model(pack(tf.zeros([1, 3, 64, 64] if channels_first else [1, 64, 64, 3])))
    expected = tf.nn.conv2d(images, model.convolution.kernel, 1, "SAME")
    if is_file:
        model.save(tmp_path / "own.keras")
        loaded = load(tmp_path / "own.keras", custom_objects=__name__)
    else:
        loaded = adapt_keras_model(model, make_spec({"source": "memory", "output_dir": "served"}))
    assert (loaded.channels, loaded.size, loaded.batch) == (3, None, None)
    np.testing.assert_allclose(loaded.forward(tf.constant(images)), expected, atol=1e-5)
