"""Every kind of source, size policy, activation and class count, exported, loaded in a fresh process without
Keras, and compared with the reference in NumPy on real photographs, signature by signature.
"""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.serving import contract
from PIL import Image, ImageColor
from processes import running
from reference import Pipeline, Toy
from skimage import data

NEAR = 1e-5
"""Within this of the threshold, a float32 network and the float64 reference may disagree."""
THRESHOLDS = np.array([0.35, 0.6], np.float32)
PHOTOS = [data.astronaut(), data.chelsea(), data.coffee()]
SIZES = [(61, 90), (48, 64), (75, 50)]
"""(height, width) of the encoded pictures; pixel requests are two of the first."""


@dataclasses.dataclass
class Case:
    name: str
    pipeline: Pipeline
    save: object
    fields: dict
    threshold: float = 0.5

    @property
    def background(self):
        return self.fields.get("background", "black")


def photo(index, size, channels):
    """A real photograph, uint8 [H, W, channels]."""
    picture = Image.fromarray(PHOTOS[index]).resize(size[::-1], Image.Resampling.LANCZOS)
    if channels == 4:
        picture.putalpha(Image.fromarray(data.camera()).resize(picture.size))
    pixels = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    return pixels.reshape(*size, channels)


def save_keras(model, suffix=".keras"):
    def save(folder):
        path = folder / f"model{suffix}"
        model.save(path)
        return {"source": str(path)}

    return save


def save_keras_export(model):
    def save(folder):
        model.export(folder / "saved", verbose=False)
        return {"source": str(folder / "saved")}

    return save


def save_module(module, **signatures):
    def save(folder):
        named = {name: getattr(module, method) for name, method in signatures.items()}
        tf.saved_model.save(module, str(folder / "saved"), signatures=named or None)
        return {"source": str(folder / "saved")}

    return save


def save_builder(model, body, weights):
    """A module with a builder function in a folder of its own, and the weights beside it."""

    def save(folder):
        name = f"builder_of_{folder.name.replace('-', '_')}"
        (folder / f"{name}.py").write_text(body)
        sys.path.append(str(folder))
        path = folder / weights
        if weights.endswith(".h5"):
            model.save_weights(path)
        else:
            tf.train.Checkpoint(model=model).write(str(path))
        return {"source": f"{name}:build", "weights": str(path)}

    return save


BUILDER = """
import keras

def build():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(2, 3, 2, "same", name="toy_convolution")(image))
"""
MODULE_BUILDER = """
import tensorflow as tf

class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.normal([3, 3, 3, 4]))
        self.bias = tf.Variable(tf.zeros([4]))

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 40, 3], tf.float32)])
    def __call__(self, x):
        return {"map": tf.nn.conv2d(x, self.kernel, 1, "SAME") + self.bias}

def build():
    return Net()
"""


class CheckpointedNet(tf.Module):
    def __init__(self, network):
        super().__init__()
        self.kernel = tf.Variable(network.kernel)
        self.bias = tf.Variable(network.bias)


def make_cases():
    rgb, gray, rgba = Toy.make(3, 1, gain=4), Toy.make(1, 1, gain=6, seed=3), Toy.make(4, 1, gain=4, seed=2)
    three, four, two = Toy.make(3, 3, gain=4, seed=4), Toy.make(3, 4, gain=4, seed=5), Toy.make(3, 2, 2, gain=4, seed=6)
    centred = dataclasses.replace(rgb, bias=np.array([0.3], np.float32))
    small = dataclasses.replace(three, kernel=three.kernel / 60, bias=three.bias / 60)
    module_builder = CheckpointedNet(four)
    first = toy_models.ToyModule(dataclasses.replace(small, bias=small.bias - 2.0), [1, 3, 40, 48], channels_first=True)
    return [
        Case(
            "keras file at the image's size, its own sigmoid",
            Pipeline(rgb, 3, "sigmoid", "unit"),
            save_keras(toy_models.keras_model(rgb, activation="sigmoid")),
            {"scaling": "unit", "activation": "none"},
        ),
        Case(
            "h5 file, stretched, imagenet",
            Pipeline(centred, 3, "sigmoid", "imagenet", model_size=(40, 56)),
            save_keras(toy_models.keras_model(centred), ".h5"),
            {"scaling": "imagenet", "activation": "sigmoid", "model_size": [40, 56], "mask_dtype": "uint8"},
        ),
        Case(
            "keras export, letterboxed, three softmax classes by name, coloured background",
            Pipeline(three, 3, "softmax", "signed", model_size=(48, 48), letterbox=True, foreground=(1,)),
            save_keras_export(toy_models.keras_model(three)),
            {
                "scaling": "signed",
                "activation": "softmax",
                "model_size": 48,
                "resize": "letterbox",
                "classes": ["sky", "cat", "floor"],
                "foreground": ["cat"],
                "background": "#20a0ff",
            },
            threshold=0.4,
        ),
        Case(
            "channels-first tf.Module with a fixed batch of 1, bgr, the largest of two sigmoid classes",
            Pipeline(
                Toy(small.kernel, small.bias - 2.0), 3, "sigmoid", "caffe", bgr=True, model_size=(40, 48),
                foreground=(0, 2), antialias=False,
            ),
            save_module(first, serving_default="run"),
            {
                "scaling": "caffe",
                "channel_order": "bgr",
                "activation": "sigmoid",
                "foreground": "0,2",
                "antialias": False,
                "edge": "soft",
            },
        ),
        Case(
            "TensorFlow 1 SavedModel, gray",
            Pipeline(gray, 1, "sigmoid", "unit", model_size=(48, 64), clean_open=1, clean_close=2),
            lambda folder: toy_models.save_tf1(gray, folder / "saved", (48, 64)) or {"source": str(folder / "saved")},
            {"scaling": "unit", "activation": "sigmoid", "clean": {"open": 1, "close": 2}},
        ),
        Case(
            "builder with Keras weights, half resolution, padded to 16",
            Pipeline(two, 3, "softmax", "unit", pad_to_multiple=16, foreground=(1,)),
            save_builder(toy_models.keras_model(two), BUILDER, "net.weights.h5"),
            {"scaling": "unit", "activation": "softmax", "pad_to_multiple": 16, "foreground": 1},
        ),
        Case(
            "builder with a checkpoint, the sum of two softmax classes, transparent",
            Pipeline(four, 3, "softmax", "unit", model_size=(32, 40), foreground=(1, 3), adds=True),
            save_builder(module_builder, MODULE_BUILDER, "net"),
            {
                "scaling": "unit",
                "activation": "softmax",
                "foreground": [1, 3],
                "background": "transparent",
                "mask_dtype": "bool",
                "mask_png_bits": 8,
            },
        ),
        Case(
            "12-bit gray with own mean and deviation",
            Pipeline(gray, 1, "sigmoid", full_scale=4095, mean=(0.1,), std=(0.9,)),
            save_keras(toy_models.keras_model(gray)),
            {"image_dtype": "uint16", "input_max": 4095, "mean": 0.1, "std": 0.9, "activation": "sigmoid"},
        ),
        Case(
            "RGBA float images",
            Pipeline(rgba, 4, "sigmoid", "none", full_scale=1.0, input_max=1.0, model_size=(40, 40)),
            save_module(toy_models.ToyModule(rgba, [None, None, None, 4], form="tuple"), segment="run"),
            {"image_dtype": "float32", "activation": "sigmoid", "model_size": 40},
        ),
    ]  # fmt: skip


CASES = make_cases()


def pixel_batch(case):
    """What the case's pixel signatures get: the same photographs in the spec's dtype and range."""
    pictures = np.stack([photo(i, SIZES[0], case.pipeline.channels) for i in range(2)])
    dtype, full_scale = case.fields.get("image_dtype", "uint8"), case.pipeline.full_scale
    if dtype == "uint8":
        return pictures
    values = pictures * (full_scale / 255)
    return values.astype(np.float32) if dtype == "float32" else np.round(values).astype(dtype)


def encode(pixels, image_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, image_format)
    return file.getvalue()


def encoded_batch(case):
    return [photo(i, size, case.pipeline.channels) for i, size in enumerate(SIZES)]


def requests_of(case):
    channels_in_file = case.pipeline.channels
    files = [encode(pixels) for pixels in encoded_batch(case)]
    if channels_in_file == 3:
        files[1] = encode(encoded_batch(case)[1], "BMP")  # lossless too
    for name, signature in contract.SIGNATURES.items():
        if signature.product == contract.CLASS_MAP and case.pipeline.network.kernel.shape[3] == 1:
            continue
        if signature.product == contract.MASKED_IMAGE_JPEG:  # which is not made by default
            continue
        tensors = {}
        if contract.IMAGE in signature.inputs:
            tensors[contract.IMAGE] = pixel_batch(case)
        if contract.IMAGE_BYTES in signature.inputs:
            tensors[contract.IMAGE_BYTES] = np.array([*files, b"broken"], object)
        if signature.takes_threshold:
            count = len(next(iter(tensors.values())))
            tensors[contract.THRESHOLD] = np.resize(THRESHOLDS, count)
        if contract.QUERY in signature.inputs:
            tensors[contract.QUERY] = np.array([b"", b"x"], object)
        yield name, tensors


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def runner():
    """A fresh process that runs exports, one after the other."""
    program = Path(__file__).parents[2] / "support" / "run_exports.py"
    with running([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture(scope="module")
def answers(case, runner, tmp_path_factory):
    """All answers of the case's export, by (signature, output), from a fresh process."""
    folder = tmp_path_factory.mktemp("export")
    fields = {**case.save(folder), **case.fields, "threshold": case.threshold, "warmup": False}
    keras.utils.clear_session(free_memory=False)
    version_dir = export_unchecked(fields.pop("source"), folder / "served", **fields)
    requests = {f"0/{name}/{tensor}": value for name, tensors in requests_of(case) for tensor, value in tensors.items()}
    np.savez(folder / "requests.npz", **requests)
    print(json.dumps([str(folder / "requests.npz"), str(folder / "answers.npz"), str(version_dir)]), file=runner.stdin)
    runner.stdin.flush()
    assert runner.stdout.readline() == "done\n"
    loaded = np.load(folder / "answers.npz", allow_pickle=True)
    return {tuple(key.split("/")[1:]): loaded[key] for key in loaded.files}


def png(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def assert_mask(mask, probability, threshold):
    expected = probability > threshold
    decided = np.abs(probability - threshold) > NEAR
    assert 0.02 < expected.mean() < 0.98, "a test in which everything or nothing is foreground proves little"
    assert mask.shape == expected.shape
    np.testing.assert_array_equal(mask[decided], expected[decided])


def thresholds_of(name, case, count):
    signature = contract.SIGNATURES[name]
    return np.resize(THRESHOLDS, count) if signature.takes_threshold else np.full(count, np.float32(case.threshold))


@pytest.mark.parametrize("name", ["serving_default", "mask", "mask_at_threshold"])
def test_masks_of_pixels(case, answers, name):
    masks = answers[name, "mask"]
    assert masks.dtype == np.dtype(case.fields.get("mask_dtype", "float32"))
    assert masks.shape == (2, *SIZES[0], 1)
    assert set(np.unique(masks)) <= {0, 1}
    for mask, image, threshold in zip(masks, pixel_batch(case), thresholds_of(name, case, 2), strict=True):
        assert_mask(mask[..., 0].astype(bool), case.pipeline.cleaned(image), threshold)


@pytest.mark.parametrize("name", ["mask_png", "mask_png_at_threshold"])
def test_masks_of_files(case, answers, name):
    files = answers[name, "mask_bytes"]
    pipeline = dataclasses.replace(case.pipeline, full_scale=255.0)
    for file, image, threshold in zip(files, encoded_batch(case), thresholds_of(name, case, 3), strict=False):
        mask = png(file)
        assert mask.dtype == (bool if case.fields.get("mask_png_bits", 1) == 1 else np.uint8)
        assert set(np.unique(tf.io.decode_png(file))) <= {0, 255}
        assert_mask(mask > 0, pipeline.cleaned(image), threshold)


def test_probabilities(case, answers):
    pixels = answers["probability", "probability"]
    assert pixels.dtype == np.float32
    for got, image in zip(pixels, pixel_batch(case), strict=True):
        np.testing.assert_allclose(got[..., 0], np.clip(case.pipeline.probability(image), 0, 1), atol=NEAR)
    pipeline = dataclasses.replace(case.pipeline, full_scale=255.0)
    files = answers["probability_png", "probability_bytes"]
    for file, image in zip(files, encoded_batch(case), strict=False):
        assert Image.open(io.BytesIO(file)).mode.startswith("I")
        np.testing.assert_allclose(png(file) / 65535, pipeline.probability(image), atol=NEAR + 0.5 / 65535)


def background_of(case, image):
    """The background's colour in the channels and range of an image."""
    if case.background in ("black", "transparent"):
        return np.zeros(image.shape[2])
    red_green_blue = np.array(ImageColor.getrgb(case.background))
    return red_green_blue / 255 * case.pipeline.full_scale


def assert_masked(got, image, probability, threshold, case):
    if case.fields.get("edge") == "soft":
        expected = image * probability[..., np.newaxis]
        np.testing.assert_allclose(got, expected, atol=0.5 + 255 * NEAR)
        return
    decided = np.abs(probability - threshold) > NEAR
    is_foreground = (probability > threshold)[..., np.newaxis]
    expected = np.where(is_foreground, image, np.round(background_of(case, image)).astype(image.dtype))
    np.testing.assert_array_equal(got[decided], expected[decided])


@pytest.mark.parametrize("name", ["masked_image", "masked_image_at_threshold"])
def test_masked_images_of_pixels(case, answers, name):
    masked = answers[name, "masked_image"]
    images = pixel_batch(case)
    assert masked.dtype == images.dtype
    for got, image, threshold in zip(masked, images, thresholds_of(name, case, 2), strict=True):
        assert_masked(got, image, case.pipeline.cleaned(image), threshold, case)


@pytest.mark.parametrize("name", ["masked_image_png", "masked_image_png_at_threshold"])
def test_masked_images_of_files(case, answers, name):
    files = answers[name, "masked_image_bytes"]
    pipeline = dataclasses.replace(case.pipeline, full_scale=255.0)
    for file, image, threshold in zip(files, encoded_batch(case), thresholds_of(name, case, 3), strict=False):
        got, probability = png(file), pipeline.cleaned(image)
        if case.background == "transparent":
            assert got.shape == (*image.shape[:2], 4)
            assert_mask(got[..., 3] == 255, probability, threshold)
            assert set(np.unique(got[..., 3])) <= {0, 255}
            np.testing.assert_array_equal(got[..., :3], np.where(got[..., 3:] > 0, image[..., :3], 0))
        else:
            assert_masked(got.reshape(image.shape), image, probability, threshold, case)


def test_class_maps(case, answers):
    if case.pipeline.network.kernel.shape[3] == 1:
        assert ("class_map", "class_map") not in answers
        return
    pixels = answers["class_map", "class_map"]
    assert (pixels.dtype, pixels.shape) == (np.uint8, (2, *SIZES[0], 1))
    files = [png(file) for file in answers["class_map_png", "class_map_bytes"][:3]]
    pairs = [*zip(pixels[..., 0], pixel_batch(case), strict=True), *zip(files, encoded_batch(case), strict=True)]
    for got, image in pairs:
        probabilities = case.pipeline.class_probabilities(image)
        best, second = np.sort(probabilities, -1)[..., [-1, -2]].transpose(2, 0, 1)
        decided = best - second > NEAR
        np.testing.assert_array_equal(got[decided], probabilities.argmax(-1)[decided])
        assert len(np.unique(got)) > 1


def test_the_bad_file_among_good_ones_is_reported_in_its_own_place(case, answers):
    for name, signature in contract.SIGNATURES.items():
        if signature.is_encoded and (name, "error") in answers:
            assert [bool(error) for error in answers[name, "error"]] == [False, False, False, True]
            assert answers[name, "error"][3].startswith(b"unknown format")
            assert answers[name, signature.outputs[0]][3] == b""


def test_masks_from_pixels_and_from_files_of_the_same_picture_are_identical(case, answers):
    if case.fields.get("image_dtype", "uint8") != "uint8":
        return
    pixels = answers["mask", "mask"][0, ..., 0]
    np.testing.assert_array_equal(png(answers["mask_png", "mask_bytes"][0]) > 0, pixels > 0)


def test_export_info_answers_every_query(case, answers):
    info = answers["export_info", "info"]
    assert info.shape == (2,)
    assert b'"schema_version": 1' in info[1]
