"""Small exports to look at: one with every signature, some with few, and a SavedModel that maskport did not make."""

import dataclasses
from pathlib import Path

import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export.inspect import inspect_version
from PIL import Image
from reference import Pipeline, Toy
from skimage import data

CLASSES = ["sky", "<b>cat</b>", "sea & shore"]


@dataclasses.dataclass
class Exported:
    """A version directory, and what it must answer."""

    path: Path
    pipeline: Pipeline
    threshold: float

    @property
    def base_path(self):
        return self.path.parent


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Every signature, three classes, a threshold and a cleaning that show."""
    folder = tmp_path_factory.mktemp("exported")
    network = Toy.make(3, 3, gain=4, seed=4)
    toy_models.keras_model(network).save(folder / "toy.keras")
    path = export_unchecked(
        folder / "toy.keras",
        folder / "toy",
        activation="softmax",
        scaling="unit",
        model_size=[48, 64],
        classes=CLASSES,
        foreground=[CLASSES[1]],
        threshold=0.4,
        clean={"open": 1},
        background="transparent",
    )
    pipeline = Pipeline(network, 3, "softmax", "unit", model_size=(48, 64), foreground=(1,), adds=True, clean_open=1)
    return Exported(path, pipeline, 0.4)


@pytest.fixture(scope="session")
def inspection(exported, photo):
    """All that can be found out about it."""
    return inspect_version(exported.base_path, runs=2, with_picture=True, picture=photo)


@pytest.fixture(scope="session")
def medical(tmp_path_factory):
    """Gray values of 12 bits, no encoded signature but the mask's, no warm-up, no probability."""
    folder = tmp_path_factory.mktemp("medical")
    network = Toy.make(1, 1, gain=6, seed=3)
    toy_models.keras_model(network).save(folder / "scan.keras")
    fields = {"image_dtype": "uint16", "input_max": 4095, "formats": ["png"], "warmup": False}
    fields |= {"activation": "sigmoid", "scaling": "unit", "signatures": ["mask", "mask_png"]}
    path = export_unchecked(folder / "scan.keras", folder / "scan", **fields)
    return Exported(path, Pipeline(network, 1, "sigmoid", "unit", full_scale=4095.0, input_max=4095.0), 0.5)


@pytest.fixture(scope="session")
def pixels_only(tmp_path_factory):
    """RGBA as floats from 0 to 1, pixel signatures alone."""
    folder = tmp_path_factory.mktemp("pixels")
    network = Toy.make(4, 1, gain=4, seed=2)
    toy_models.keras_model(network).save(folder / "layers.keras")
    fields = {"image_dtype": "float32", "activation": "sigmoid", "scaling": "unit"}
    fields |= {"signatures": ["mask_at_threshold", "mask", "masked_image", "probability"]}
    path = export_unchecked(folder / "layers.keras", folder / "layers", **fields)
    return Exported(path, Pipeline(network, 4, "sigmoid", "unit", full_scale=1.0, input_max=1.0), 0.5)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A SavedModel as people have them."""
    path = tmp_path_factory.mktemp("foreign") / "adder"

    class Adder(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.ones([2, 3]))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32, name="x")])
        def add(self, x):
            return {"y": tf.cast(x, tf.float32) + self.weights[0], "anything": tf.reshape(x, tf.shape(x)[:1])}

    module = Adder()
    tf.saved_model.save(module, str(path), signatures={"add": module.add})
    return path


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A photograph's file, 90 pixels high and 120 wide."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(data.astronaut()).resize((120, 90), Image.Resampling.LANCZOS).save(path)
    return path
