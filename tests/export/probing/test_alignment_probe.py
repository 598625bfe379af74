"""Telling a map that lacks a border from one that is coarse, whatever the weights are."""

import keras
import numpy as np
import pytest
import toy_models
from maskport.export import SpecError
from maskport.export.probing.alignment_probe import find_alignment
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec

layers = keras.layers


def found(model, **fields):
    spec = make_spec({"source": "model", "output_dir": "served", "scaling": "unit", **fields})
    return find_alignment(adapt_keras_model(model, spec), spec)


def borders(model, **fields):
    """What the map lacks above, below, left and right, and its step; None where it shows the whole input."""
    alignment = found(model, **fields)
    if alignment is None:
        return None
    rows, columns = alignment.rows, alignment.columns
    assert rows.step == columns.step
    return rows.start, rows.end, columns.start, columns.end, rows.step


def network(size, *stages):
    """A network of random weights."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((size, size, 3))
    for stage in stages:
        x = stage(x)
    return keras.Model(image, layers.Conv2D(1, 1)(x))


def conv(kernel=3, strides=1, padding="valid"):
    options = {"activation": "relu", "kernel_initializer": "he_normal"}
    return layers.Conv2D(6, kernel, strides, padding, **options)


def gate():
    """Squeeze and excite: each pixel depends on all."""

    def apply(x):
        mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return x * layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(mean)

    return apply


def nothing(x):
    """As of a deep network of random weights, in which the picture is lost."""
    return 0.0 * x


def resized(size, to):
    return network(size, conv(3, 2, "same"), conv(3, 2, "same"), layers.Resizing(to, to))


def attention(x):
    """Patches that look at one another, as in a vision transformer."""
    edge = x.shape[1]
    x = layers.Reshape((edge * edge, x.shape[3]))(x)
    x = x + layers.MultiHeadAttention(2, 4)(layers.LayerNormalization()(x), x)
    return layers.Reshape((edge, edge, x.shape[2]))(x)


WITH_BORDERS = {
    "U-Net 64 to 48": (lambda: toy_models.valid_unet(1, 64), {}, (8, 8, 8, 8, 1)),
    # A half and a third of the input, as of coarse maps.
    "U-Net 80 to 40": (lambda: toy_models.valid_unet(2, 80), {}, (20, 20, 20, 20, 1)),
    "U-Net 132 to 44": (lambda: toy_models.valid_unet(3, 132), {}, (44, 44, 44, 44, 1)),
    "U-Net that squeezes": (lambda: toy_models.valid_unet(2, 100, squeezes=True), {}, (20, 20, 20, 20, 1)),
    "U-Net of any size": (lambda: toy_models.valid_unet(2), {}, (20, 20, 20, 20, 1)),
    "the paper's U-Net of any size": (lambda: toy_models.valid_unet(4), {}, (92, 92, 92, 92, 1)),
    "U-Net of a given size": (lambda: toy_models.valid_unet(1), {"model_size": 70}, (8, 8, 8, 8, 1)),
    "even kernels": (lambda: network(None, conv(2), conv(4)), {}, (2, 2, 2, 2, 1)),
    "one axis": (lambda: network(48, conv((1, 9), 1)), {}, (0, 0, 4, 4, 1)),
    "cut unevenly": (lambda: network(64, conv(), layers.Cropping2D(((0, 9), (4, 5)))), {}, (1, 10, 5, 6, 1)),
    # Pixel i of the first map has its centre in pixel 2 i + 1; the second convolution takes one more.
    "stride": (lambda: network(65, conv(3, 2), conv(), conv()), {}, (4.5, 4.5, 4.5, 4.5, 2)),
    "larger than the input": (lambda: network(48, conv(), layers.UpSampling2D(2)), {}, (1, 1, 1, 1, 0.5)),
    "halves without skips": (
        lambda: network(None, layers.MaxPooling2D(4), layers.UpSampling2D(4)), {}, (0, 0, 0, 0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_BORDERS)
def test_borders_are_found(name):
    make, fields, expected = WITH_BORDERS[name]
    assert borders(make(), **fields) == expected


WHOLE = {
    "as large": lambda: network(48, conv(padding="same")),
    "quarter": lambda: network(96, conv(3, 2, "same"), conv(3, 2, "same"), conv(padding="same")),
    "quarter that squeezes": lambda: network(96, conv(3, 4, "same"), gate(), conv(padding="same"), gate()),
    "eighth of an odd size": lambda: network(129, conv(3, 8, "same"), conv(padding="same")),
    "quarter of any size": lambda: network(None, conv(3, 4, "same")),
    "patches of any size": lambda: network(None, conv(8, 8)),
    "patches": lambda: network(96, conv(16, 16), attention, attention),
    "resized": lambda: network(64, conv(padding="same"), layers.Resizing(50, 50)),
    "enlarged": lambda: network(32, conv(padding="same"), layers.UpSampling2D(2)),
    # What lies between is shifted by its strides, and lacks a pixel by rounding only.
    "resized to a pixel less": lambda: resized(80, 79),
    "resized to a pixel less of an odd size": lambda: resized(65, 64),
    # By way of 2 times 2, which is 64.
    "filled up": lambda: network(50, conv(3, 32, "same"), layers.UpSampling2D(8)),
    "filled up, of which nothing is seen": lambda: network(50, conv(3, 32, "same"), layers.UpSampling2D(8), nothing),
    "filled up to more than the input": lambda: network(50, conv(3, 32, "same"), layers.UpSampling2D(32), nothing),
    "a little larger": lambda: network(None, layers.Conv2DTranspose(2, 4, 2)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_coarse_and_resized_maps_show_the_whole_input(name):
    assert borders(WHOLE[name]()) is None


def test_corners_may_be_asked_for():
    # TensorFlow fills up an odd size alike on both sides: pixel i of the map has its centre in pixel 16 i.
    assert borders(network(193, conv(3, 16, "same")), map_alignment="corners") == (-7.5,) * 4 + (16,)
    assert borders(network(None, conv(3, 16, "same")), map_alignment="corners", model_size=193) == (-7.5,) * 4 + (16,)
    assert borders(network(64, conv(4, 4)), map_alignment="corners") == pytest.approx((-1.6,) * 4 + (4.2,))
    assert borders(network(48, conv(padding="same")), map_alignment="corners") is None
    assert found(resized(128, 112), map_alignment="corners").runs((128, 128)) == 1
    with pytest.raises(
        SpecError, match=r"corners is for maps smaller than the input; the model answers 96x96 for 48x48"
    ):
        found(network(48, layers.UpSampling2D(2)), map_alignment="corners")
    with pytest.raises(SpecError, match=r"^map_alignment: corners is for models of a fixed size; give model_size too$"):
        found(network(None, conv(4, 4)), map_alignment="corners")


def test_a_map_of_one_size_whatever_the_picture_is_asked_about():
    model = network(None, layers.Resizing(64, 64), conv(3, 2, "same"))
    with pytest.raises(
        SpecError, match=r"^model_size: the model answers 32x32 whatever the picture's size, .*model_size"
    ):
        found(model)
    assert borders(model, map_alignment="stretch") is None
    assert borders(model, model_size=64) is None
    assert borders(network(None, conv(3, 64, "same"))) is None


def test_a_trained_unet_is_seen_through():
    """Its answers are nearly all 0 or 1, so that little moves with the input."""
    model = toy_models.valid_unet(1, 64, features=8)
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
    random = np.random.default_rng(0)
    for _ in range(60):
        pictures = random.normal(0.4, 0.1, (8, 64, 64, 3)).astype(np.float32)
        squares = np.zeros((8, 64, 64, 1), np.float32)
        for square in squares:
            top, left, edge = (int(random.integers(*limits)) for limits in ((0, 48), (0, 48), (6, 20)))
            square[top : top + edge, left : left + edge] = 1
        model.train_on_batch(np.clip(pictures + 0.4 * squares, 0, 1), squares[:, 8:-8, 8:-8])
    assert borders(model) == (8, 8, 8, 8, 1)


def test_what_is_not_clear_is_asked_for():
    """Of a model that sees no place in its input, or answers the same whatever it is given."""

    def mean_everywhere(x):
        return layers.UpSampling2D(44)(layers.GlobalAveragePooling2D(keepdims=True)(x))

    for model in (network(64, conv(), mean_everywhere), network(64, lambda x: 0.0 * layers.Cropping2D(10)(x))):
        with pytest.raises(
            SpecError, match=r"^map_alignment: the model answers 44x44 for 64x64 .*; give centre or stretch$"
        ):
            found(model)
        assert borders(model, map_alignment="centre") == (10, 10, 10, 10, 1)
        assert borders(model, map_alignment="stretch") is None
    assert borders(toy_models.valid_unet(1, 64), map_alignment="stretch") is None
    assert borders(network(48, conv(3, 2, "same")), map_alignment="centre") == (12, 12, 12, 12, 1)


def test_a_border_that_leaves_next_to_nothing_is_refused():
    with pytest.raises(SpecError, match=r"^map_alignment: the model answers 6x6 for 64x64 .* 121 runs"):
        found(network(64, conv(59)))
