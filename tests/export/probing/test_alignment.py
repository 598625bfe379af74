"""Models whose map lacks a border: exported, they answer the whole picture, and everything in its place."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export.exporter import Plan
from maskport.export.inspect import inspect_version
from maskport.export.inspect.text import summary
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from PIL import Image
from reference import Pipeline
from scipy import ndimage
from skimage import data

PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize((50, 37)))


@dataclasses.dataclass
class Valid:
    """One "valid" convolution in NumPy: what it says of each pixel of a picture that is continued by reflection.

    Args:
        kernel: [k, k, C, K], of an odd edge.
        bias: [K].
        stride: 1, or 2 of a kernel of 3: then it says something of every second pixel, and of others what lies between.
        lost: rows, and columns, that the model cuts off its map, before and behind.
    """

    kernel: np.ndarray
    bias: np.ndarray
    stride: int = 1
    lost: tuple = ((0, 0), (0, 0))

    @classmethod
    def make(cls, edge, channels=3, classes=1, seed=0, **fields):
        random = np.random.default_rng(seed)
        kernel = random.normal(0, 4 / np.sqrt(edge * edge * channels), (edge, edge, channels, classes))
        kernel = kernel.astype(np.float32)
        return cls(kernel, (-0.45 * kernel.sum((0, 1, 2))).astype(np.float32), **fields)

    def keras_model(self, size=(None, None), batch=None):
        image = keras.Input((*size, self.kernel.shape[2]), batch_size=batch, name="picture")
        convolution = keras.layers.Conv2D(self.kernel.shape[3], self.kernel.shape[0], self.stride)
        model = keras.Model(image, keras.layers.Cropping2D(self.lost)(convolution(image)), name="valid")
        convolution.set_weights([self.kernel, self.bias])
        return model

    def __call__(self, image):
        """[h, w, C] to [h, w, K]."""
        reach = self.kernel.shape[0] // 2
        more = 2 * (self.stride - 1)
        padded = np.pad(image, [(reach, reach + more), (reach, reach + more), (0, 0)], mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.kernel.shape[:2], (0, 1))
        maps = np.einsum("yxcij,ijck->yxk", windows, self.kernel.astype(np.float64)) + self.bias
        if self.stride == 2:
            for axis in (0, 1):
                maps = np.moveaxis(maps, axis, 0)
                maps[1:-1:2] = (maps[:-2:2] + maps[2::2])[: len(maps[1:-1:2])] / 2
                maps = np.moveaxis(maps, 0, axis)
        return maps[: image.shape[0], : image.shape[1]]


def plan_of(model, **fields):
    spec = make_spec({"source": "model", "output_dir": "served", "scaling": "unit", **fields})
    return Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = [PHOTO, np.asarray(Image.fromarray(PHOTO).resize((48, 40))), PHOTO[:1, :1], PHOTO[:2, :9], PHOTO[:, :3]]
CASES = {
    "fixed": (Valid.make(9), {"size": (40, 48)}, {}, {}),
    "fixed, more border than map": (Valid.make(27), {"size": (40, 48)}, {}, {}),
    "fixed letterbox": (Valid.make(9), {"size": (40, 40)}, {"resize": "letterbox"}, {"letterbox": True}),
    "fixed batch": (Valid.make(9), {"size": (40, 48), "batch": 3}, {}, {}),
    "uneven border": (Valid.make(5, lost=((0, 9), (3, 1))), {"size": (40, 48)}, {}, {}),
    "any size": (Valid.make(9), {}, {}, {}),
    "any size, uneven": (Valid.make(5, lost=((0, 9), (3, 1))), {}, {}, {}),
    "padded": (Valid.make(9), {}, {"pad_to_multiple": 8}, {"pad_to_multiple": 8}),
    "given size": (Valid.make(9), {}, {"model_size": [40, 48]}, {"model_size": (40, 48)}),
    "stride": (Valid.make(3, stride=2), {}, {}, {}),
    "gray": (Valid.make(5, channels=1), {}, {}, {"channels": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_map_covers_the_whole_picture_in_its_place(name):
    network, shape, fields, oracle = CASES[name]
    signatures = ["probability", "probability_png"]
    plan = plan_of(network.keras_model(**shape), activation="sigmoid", signatures=signatures, **fields)
    oracle = {"channels": 3, "activation": "sigmoid", "scaling": "unit", "model_size": shape.get("size"), **oracle}
    pipeline = Pipeline(network, **oracle)
    pictures = [picture[..., : network.kernel.shape[2]] for picture in PICTURES]
    expected = [pipeline.probability(picture) for picture in pictures]
    for picture, wanted in zip(pictures, expected, strict=True):
        got = plan.functions["probability"](image=tf.constant(np.stack([picture] * 2)))["probability"]
        np.testing.assert_allclose(got[1, ..., 0], wanted, atol=2e-5)
    files = [png(picture if picture.shape[2] > 1 else picture[..., 0]) for picture in pictures]
    answer = plan.functions["probability_png"](image_bytes=tf.constant([*files, b"broken"]))
    assert [bool(error) for error in answer["error"].numpy()] == [False] * len(files) + [True]
    for file, wanted in zip(answer["probability_bytes"].numpy(), expected, strict=False):
        np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(file))) / 65535, wanted, atol=3e-5)


@pytest.mark.parametrize("size", [(None, None), (40, 48)])
def test_class_maps_and_cleaned_masks_are_in_their_place(size):
    network = Valid.make(7, classes=3)
    fields = {"activation": "softmax", "foreground": 1, "clean": {"open": 1, "close": 2}}
    plan = plan_of(network.keras_model(size), signatures=["class_map", "mask"], **fields)
    model_size = None if size == (None, None) else size
    pipeline = Pipeline(
        network, 3, "softmax", "unit", model_size=model_size, foreground=(1,), clean_open=1, clean_close=2
    )
    probabilities = pipeline.class_probabilities(PHOTO)
    best, second = np.sort(probabilities, -1)[..., [-1, -2]].transpose(2, 0, 1)
    classes = plan.functions["class_map"](image=tf.constant(PHOTO[None]))["class_map"][0, ..., 0].numpy()
    is_decided = best - second > 1e-4
    np.testing.assert_array_equal(classes[is_decided], probabilities.argmax(-1)[is_decided])
    cleaned = pipeline.cleaned(PHOTO)
    mask = plan.functions["mask"](image=tf.constant(PHOTO[None]))["mask"][0, ..., 0].numpy()
    is_decided = np.abs(cleaned - 0.5) > 1e-4
    np.testing.assert_array_equal(mask[is_decided], (cleaned > 0.5)[is_decided])


@pytest.mark.parametrize("levels", [1, 2])
def test_a_valid_unet_answers_as_on_a_larger_picture_around(levels):
    """A model of a fixed size, run on pieces, is the same model run once on a larger picture."""
    border, size = {1: (8, 40), 2: (20, 80)}[levels]
    picture = np.asarray(Image.fromarray(data.astronaut()).resize((size, size)))
    around = np.pad(picture, [(border, border)] * 2 + [(0, 0)], mode="reflect")
    any_size = toy_models.valid_unet(levels, features=2)
    expected = any_size.predict(around[None] / np.float32(255), verbose=0)[0]
    for model in (toy_models.valid_unet(levels, size, features=2), any_size):
        plan = plan_of(model, signatures=["probability"])
        got = plan.functions["probability"](image=tf.constant(picture[None]))["probability"][0]
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_a_map_whose_corners_are_its_inputs_is_enlarged_so():
    """A model that answers every 16th pixel, as SciPy's splines of degree 1 go on between them."""
    image = keras.Input((33, 65, 3))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x[:, ::16, ::16, :1])(image))
    plan = plan_of(model, map_alignment="corners", signatures=["probability"])
    assert "map: the map's outermost pixels lie on those of its input (corners)" in plan.describe()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 33, 65, 3), np.uint8)
    got = plan.functions["probability"](image=tf.constant(pictures))["probability"][..., 0]
    places = np.mgrid[:33, :65] / 16
    for picture, answer in zip(pictures, got, strict=True):
        expected = ndimage.map_coordinates(picture[::16, ::16, 0] / 255, places, order=1)
        np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_an_export_says_where_the_map_lies_and_keeps_to_it(tmp_path):
    """Ten convolutions that hand on the red channel; squares in the middle and in corners keep their pixels."""
    image = keras.Input((64, 64, 3))
    convolutions = [keras.layers.Conv2D(1, 1), *(keras.layers.Conv2D(1, 3) for _ in range(10))]
    x = image
    for convolution in convolutions:
        x = convolution(x)
    model = keras.Model(image, x)
    convolutions[0].set_weights([np.array([1, 0, 0], np.float32).reshape(1, 1, 3, 1), np.zeros(1)])
    for convolution in convolutions[1:]:
        convolution.set_weights([np.pad(np.ones((1, 1, 1, 1)), ((1, 1), (1, 1), (0, 0), (0, 0))), np.zeros(1)])
    fields = {"scaling": "unit", "signatures": ["mask", "mask_png"], "warmup": False, "optimize": "freeze"}
    version = export_unchecked(model, tmp_path / "red", **fields)
    picture = np.zeros((64, 64, 3), np.uint8)
    for rows, columns in ((slice(20, 30), slice(20, 30)), (slice(0, 3), slice(0, 2)), (slice(60, 64), slice(0, 64))):
        picture[rows, columns] = 255
    loaded = tf.saved_model.load(str(version))
    mask = loaded.signatures["mask"](image=tf.constant(picture[None]))["mask"][0, ..., 0]
    np.testing.assert_array_equal(mask, picture[..., 0] / 255)
    manifest = json.loads((version / "assets.extra/maskport.json").read_text())
    axis = {"before": 10.0, "after": 10.0, "step": 1.0, "runs": 2}
    assert manifest["probe"]["map"] == {"rows": axis, "columns": axis}
    facts = summary(inspect_version(version, runs=1))
    border = "lacks a border (rows 10 and 10, columns 10 and 10 pixels)"
    assert facts["map"] == f"{border}: pictures are continued by reflection, in 4 runs of the model"
