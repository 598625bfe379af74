"""The models that are measured, in all the forms that are compared: bare, exported, and exported naively."""

import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml
from keras import layers
from maskport.export import export_model

ROOT = Path(__file__).resolve().parents[2]
COINS_SPEC = ROOT / "configs/export/coins.yaml"
SIZE = 512
SIGNATURES = ["mask", "mask_png", "masked_image_png", "masked_image_jpeg", "probability", "probability_png"]
NAIVE_INPUT, NAIVE_OUTPUT = "image", "probability"

_COARSE = 16
"""Pixels along one edge that the map which the masks follow has in one."""
_CONTRAST = 20.0
_SHARE = 0.1
"""Of the network's own logits in the sum: enough to be seen, too little to make noise of the mask."""


class Subject:
    """A model to measure: float32 [B, H, W, C] in [0, 1] to probabilities [B, H, W, 1]."""

    def __init__(self, name: str, keras_model: Any, spec_fields: dict[str, Any], folder: Path) -> None:
        self.name = name
        self.keras_model = keras_model
        self.naive_name = f"{name}_naive"
        self._spec_fields = spec_fields
        self._folder = folder

    @property
    def edge(self) -> int | None:
        """The edge in pixels of what the model takes; None for one that takes pictures at their own size."""
        return self.keras_model.input_shape[1]

    @property
    def channels(self) -> int:
        """How many the model takes."""
        return self.keras_model.input_shape[3]

    @functools.cached_property
    def _input(self) -> tf.TensorSpec:
        return tf.TensorSpec([None, self.edge, self.edge, self.channels], tf.float32, name=NAIVE_INPUT)

    @functools.cached_property
    def forward(self) -> Any:
        """The bare model: a tf.function of a float batch."""
        return tf.function(
            lambda images: self.keras_model(images, training=False), input_signature=[self._input], autograph=False
        )

    @functools.cached_property
    def base_path(self) -> Path:
        """Where the model is exported by maskport."""
        return self.export_with("plain")

    def export_with(self, form: str, **fields: Any) -> Path:
        """Exports the model by maskport in another form, and returns its base path."""
        base_path = self._folder / form / self.name
        export_model(self.keras_model, base_path, **{"signatures": SIGNATURES, **self._spec_fields, **fields})
        return base_path

    @functools.cached_property
    def naive_base_path(self) -> Path:
        """Where the model is exported as people do: floats in, floats out."""
        base_path = self._folder / "naive" / self.name
        archive = keras.export.ExportArchive()
        archive.track(self.keras_model)
        answer = lambda image: {NAIVE_OUTPUT: self.keras_model(image, training=False)}  # noqa: E731
        archive.add_endpoint("serve", answer, input_signature=[self._input])
        archive.write_out(str(base_path / "1"), verbose=False)
        return base_path


class Subjects:
    """All models; each is made when it is first asked for."""

    def __init__(self, folder: Path, **spec_fields: Any) -> None:
        self._folder = folder
        self._spec_fields = spec_fields

    def _subject(self, name: str, keras_model: Any, **spec_fields: Any) -> Subject:
        return Subject(name, keras_model, {**spec_fields, **self._spec_fields}, self._folder)

    @functools.cached_property
    def coins(self) -> Subject:
        """The demo model: gray, at the picture's own size."""
        fields = yaml.safe_load(COINS_SPEC.read_text())
        model = keras.saving.load_model(ROOT / fields.pop("source"))
        del fields["output_dir"]
        return self._subject("coins", model, **fields)

    @functools.cached_property
    def unet(self) -> Subject:
        """A U-Net of 16 base channels at 512×512."""
        return self._subject("unet", make_unet(), scaling="unit")

    @functools.cached_property
    def light(self) -> Subject:
        """A light network at 512×512, of about 13 ms where this was written."""
        return self._subject("light", make_light(), scaling="unit")

    @functools.cached_property
    def small(self) -> Subject:
        """The same at 128×128: so little work that its steps, not the pixels, take the time; batches share them."""
        return self._subject("small", make_light(SIZE // 4), scaling="unit")

    @functools.cached_property
    def classes(self) -> Subject:
        """The light network with a channel for the background, too."""
        light = make_light()
        background = layers.Rescaling(-1.0, 1.0)(light.output)
        model = keras.Model(light.input, layers.Concatenate()([background, light.output]))
        return self._subject("classes", model, scaling="unit", foreground=1)

    @functools.cached_property
    def light_at_image_size(self) -> Subject:
        """The same without a fixed size, for multiples of 16."""
        return self._subject("light_any", make_light(None), scaling="unit", pad_to_multiple=16)

    @property
    def all(self) -> list[Subject]:
        """The three that everything is measured with."""
        return [self.coins, self.unet, self.light]


def make_unet(base: int = 16, levels: int = 4, size: int | None = SIZE) -> Any:
    """Returns a U-Net with two convolutions at each level, normalised."""
    keras.utils.set_random_seed(1)

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    image = x = keras.Input((size, size, 3))
    skips = []
    for level in range(levels):
        x = block(x, base * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, base * 2**levels)
    for level in reversed(range(levels)):
        x = _enlarge(x, 2)
        x = layers.Conv2D(base * 2**level, 2, padding="same")(x)
        x = block(layers.Concatenate()([x, skips[level]]), base * 2**level)
    return _finish(image, layers.Conv2D(1, 1)(x), 1)


def make_light(size: int | None = SIZE, base: int = 32) -> Any:
    """Returns a network of separable convolutions with two skips, at a quarter of the picture's size and below."""
    keras.utils.set_random_seed(2)

    def normalise(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    def separable(x: Any, filters: int, stride: int = 1) -> Any:
        x = normalise(layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x))
        return normalise(layers.Conv2D(filters, 1, use_bias=False)(x))

    image = keras.Input((size, size, 3))
    x = normalise(layers.Conv2D(base, 3, 2, "same", use_bias=False)(image))
    quarter = x = separable(x, 2 * base, 2)
    x = separable(x, 4 * base, 2)
    eighth = x = separable(x, 4 * base)
    x = separable(x, 8 * base, 2)
    for _ in range(3):
        x = separable(x, 8 * base)
    for skip, filters in ((eighth, 4 * base), (quarter, 2 * base)):
        x = _enlarge(x, 2)
        x = separable(layers.Concatenate()([x, skip]), filters)
    return _finish(image, layers.Conv2D(1, 1)(x), 4)


def _enlarge(x: Any, factor: int) -> Any:
    # Keras cannot trace the bilinear kind without a fixed size.
    return layers.UpSampling2D(factor, interpolation="bilinear" if x.shape[1] else "nearest")(x)


def _finish(image: Any, logits: Any, stride: int) -> Any:
    """Gives an untrained network masks such as a trained one has.

    What an untrained network answers is noise, whose PNG file is large, and slow to make. So its logits are added
    to the picture's own brightness, smoothed. And a trained network's normalisations have no means of exactly zero,
    which TensorFlow would remove. The input is [B, H, W, 3], the logits [B, H / stride, W / stride, 1].
    """
    third = keras.initializers.Constant(1 / 3)
    gray = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=third)(image)
    coarse = layers.AveragePooling2D(_COARSE)(gray)
    mean = layers.GlobalAveragePooling2D(keepdims=True)(coarse)
    centred = layers.Rescaling(_CONTRAST)(layers.Subtract()([coarse, mean]))
    smooth = _enlarge(centred, _COARSE // stride)
    mixed = layers.Add()([smooth, layers.Rescaling(_SHARE)(logits)])
    if stride > 1:
        mixed = _enlarge(mixed, stride)
    model = keras.Model(image, layers.Activation("sigmoid")(mixed))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.gamma.shape
            drawn = random.uniform(0.5, 1.5, shape), random.normal(0, 0.2, shape), random.normal(0, 0.2, shape)
            layer.set_weights([*drawn, random.uniform(0.5, 1.5, shape)])
    return model
