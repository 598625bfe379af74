"""Models that answer class indices: masks and class maps in every way, and nothing that needs probabilities."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import export_unchecked
from maskport.export import SpecError, export_model
from maskport.export.calibrate.probabilities import ProbabilityReader
from maskport.export.errors import CalibrationError
from maskport.export.exporter import Plan
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from PIL import Image
from reference import Toy, open_upright
from skimage import data

TOY = Toy.make(3, 4, seed=3, gain=3)
SIGNATURES = {"serving_default", "export_info"} | {
    product + form for product in ("mask", "masked_image", "class_map") for form in ("", "_png")
}
PHOTO = np.asarray(Image.fromarray(data.chelsea()).resize((90, 60)))
FOREGROUND = [1, 3]


def labels_model(size=(None, None), last=0):
    image = keras.Input((*size, 3))
    convolution = keras.layers.Conv2D(4, 3, padding="same")
    labels = keras.ops.argmax(convolution(image), -1)
    convolution.set_weights([TOY.kernel, TOY.bias])
    return keras.Model(image, keras.ops.where(keras.ops.equal(labels, 2), last, labels) if last else labels)


def as_png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def labels_of(picture):
    return TOY(picture / 255).argmax(-1)


def nearest(labels, size):
    """Pillow's nearest pixel: half-pixel centres, as everything else here."""
    return np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST))


@pytest.fixture(scope="module")
def at_size(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    labels_model().save(folder / "labels.keras")
    spec = {"scaling": "unit", "foreground": FOREGROUND, "classes": ["sky", "cat", "grass", "dog"]}
    return export_unchecked(folder / "labels.keras", folder / "served", **spec)


def make_plan(model, spec):
    return Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)


def answer(version, signature, **inputs):
    function = tf.saved_model.load(str(version)).signatures[signature]
    return {name: value.numpy() for name, value in function(**inputs).items()}


def test_masks_and_class_maps_are_numpys(at_size):
    labels = labels_of(PHOTO)
    assert {0, 1, 3} <= set(np.unique(labels))
    mask = np.isin(labels, FOREGROUND)
    np.testing.assert_array_equal(answer(at_size, "class_map", image=PHOTO[None])["class_map"][0, ..., 0], labels)
    np.testing.assert_array_equal(answer(at_size, "mask", image=PHOTO[None])["mask"][0, ..., 0], mask)
    masked = answer(at_size, "masked_image", image=PHOTO[None])["masked_image"][0]
    np.testing.assert_array_equal(masked, PHOTO * mask[..., np.newaxis])
    files = tf.constant([as_png(PHOTO), b"nothing"])
    for signature, wanted in (("mask_png", mask * 255), ("class_map_png", labels)):
        found = answer(at_size, signature, image_bytes=files)
        np.testing.assert_array_equal(open_upright(found[f"{signature[:-4]}_bytes"][0], "L")[..., 0], wanted)
        assert found["error"][0] == b""
        assert found["error"][1].startswith(b"unknown format")


def test_there_is_nothing_of_probabilities(at_size):
    assert set(tf.saved_model.load(str(at_size)).signatures) == SIGNATURES
    manifest = json.loads((at_size / "assets.extra/maskport.json").read_text())
    assert manifest["model"]["answers_classes"]
    assert set(manifest["signatures"]) == SIGNATURES


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_model_of_another_size_answers_the_nearest_pixels_class(resize):
    size, shape = (37, 47), PHOTO.shape[:2]  # no pixel lies as near to two others
    fields = {"source": "m", "output_dir": "o", "scaling": "unit", "foreground": FOREGROUND, "antialias": False}
    spec = make_spec({**fields, "resize": resize})
    plan = make_plan(labels_model(size), spec)
    given = np.asarray(plan.module.pixels.model_input(tf.constant(PHOTO[None])))[0]
    labels = TOY(given).argmax(-1)
    if resize == "letterbox":
        labels = labels[3:34]  # 90x60 at 47x31
    classes, mask = (
        plan.functions[name](tf.constant(PHOTO[None]))[name].numpy()[0, ..., 0] for name in ("class_map", "mask")
    )
    np.testing.assert_array_equal(classes, nearest(labels, shape))
    np.testing.assert_array_equal(mask, np.isin(nearest(labels, shape), FOREGROUND))


@pytest.mark.parametrize(
    ("last", "dtype", "wanted"), [(255, np.uint8, 255), (300, np.uint16, 300), (-1, np.uint8, 255)]
)
def test_indices_beyond_the_classes_keep_their_value_or_are_void(last, dtype, wanted):
    spec = make_spec({"source": "m", "output_dir": "o", "scaling": "unit", "foreground": [1]})
    plan = make_plan(labels_model(last=last), spec)
    found = plan.functions["class_map"](tf.constant(PHOTO[None]))["class_map"].numpy()[0, ..., 0]
    labels = labels_of(PHOTO)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.where(labels == 2, wanted, labels))


def test_it_is_exported_with_all_checks(tmp_path):
    version = export_model(
        labels_model((32, 32)), tmp_path / "labels", scaling="unit", foreground=[1], clean={"open": 1},
        signatures=["mask", "class_map_png"],
    )  # fmt: skip
    golden = json.loads((version / "assets.extra/golden/golden.json").read_text())
    assert {record["signature"] for record in golden["records"]} == {"mask", "class_map_png"}
    manifest = json.loads((version / "assets.extra/maskport.json").read_text())
    assert manifest["reproducibility"]["plain"] == 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"foreground": None}, "foreground: the model answers class indices; give the mask's: 0 to 65535"),
        ({"classes": ["sky", "cat"]}, "classes: 2 names; the model answered class 3"),
        ({"classes": list("abcd"), "foreground": [4]}, r"foreground: no class 4; the model has: 0 \(a\), 1 \(b\)"),
        ({"threshold": 0.7}, "threshold: 0.7 is for probabilities; the model answers class indices, which have none"),
        ({"activation": "softmax"}, "activation: 'softmax' is for probabilities"),
        ({"edge": "soft"}, "edge: 'soft' is for probabilities"),
        (
            {"signatures": ["probability_png"]},
            "'probability_png' needs probabilities; the model answers class ind",
        ),
        ({"signatures": ["mask_at_threshold"]}, "signatures: 'mask_at_threshold' needs probabilities"),
    ],
)
def test_what_class_indices_do_not_give_is_refused(fields, told):
    spec = make_spec({"source": "m", "output_dir": "o", "scaling": "unit", "foreground": [1], **fields})
    with pytest.raises(SpecError, match=told):
        make_plan(labels_model(), spec)


def test_no_threshold_is_calibrated(tmp_path):
    labels_model().save(tmp_path / "labels.keras")
    spec = make_spec(
        {"source": str(tmp_path / "labels.keras"), "output_dir": "o", "scaling": "unit", "foreground": [1]}
    )
    with pytest.raises(CalibrationError, match="answers class indices; its masks have no threshold to choose"):
        ProbabilityReader(spec)


@pytest.mark.parametrize(
    ("activation", "make", "says"),
    [
        ("byte", lambda p: p * 255, lambda p: p),
        ("tanh", lambda p: 2 * p - 1, lambda p: p),
        ("clip", lambda p: 1.2 * p - 0.1, lambda p: np.clip(1.2 * p - 0.1, 0, 1)),
    ],
)
def test_other_ranges_become_probabilities(activation, make, says):
    image = keras.Input((None, None, 3))
    spec = make_spec({"source": "m", "output_dir": "o", "scaling": "unit", "activation": activation})
    model = keras.Model(image, make(keras.ops.mean(image, -1, keepdims=True)))
    plan = make_plan(model, spec)
    found = plan.functions["probability"](tf.constant(PHOTO[None]))["probability"].numpy()[0]
    np.testing.assert_allclose(found, says((PHOTO / 255).mean(-1, keepdims=True)), atol=1e-6)
