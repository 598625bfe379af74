"""Golden requests that hold a user's own pictures beside the drawn ones."""

import io

import numpy as np
import pytest
import toy_models
from maskport.export import SpecError
from maskport.export.exporter import Plan
from maskport.export.publish.golden import _spread
from maskport.export.publish.saved_check import examine
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from maskport.serving.agreement import Tolerance, compare
from maskport.serving.verify import read_golden
from PIL import Image
from reference import Pipeline, Toy
from skimage import data


def encoded(pixels, form):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def network():
    return Toy.make(1, 1, gain=4, seed=3)


@pytest.fixture(scope="module")
def plan(network):
    model = toy_models.keras_model(network)
    fields = {"activation": "sigmoid", "scaling": "unit", "warmup": False, "signatures": "all"}
    spec = make_spec({"source": "keras model toy", "output_dir": "unused", **fields})
    return Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)


def test_pictures_of_any_size_and_channels_are_asked_and_replayed(plan, network, tmp_path):
    gray, colour = data.camera()[::16, ::11], data.astronaut()[:50:2, :70:2]
    pictures = {"gray": encoded(gray, "PNG"), "colour": encoded(colour, "PNG")}
    plan.with_pictures(pictures).write(tmp_path)
    records = {record.signature: record for record in read_golden(tmp_path / "assets.extra/golden").records}
    asked = records["mask_png"]
    files = list(asked.inputs["image_bytes"])
    assert files[2:] == [*pictures.values(), b""]
    decoded = np.asarray(Image.open(io.BytesIO(pictures["colour"])))
    probability = Pipeline(network, 1, "sigmoid", "unit").probability(decoded.astype(float))
    mask = np.asarray(Image.open(io.BytesIO(asked.outputs["mask_bytes"][3]))) > 0
    assert ((mask != (probability > 0.5)) & (np.abs(probability - 0.5) > 1e-3)).sum() == 0
    masked = [
        np.asarray(Image.open(io.BytesIO(file))).shape
        for file in records["masked_image_png"].outputs["masked_image_bytes"][2:4]
    ]
    assert masked == [gray.shape, colour.shape]  # which is why each picture's channels count
    jpegs = records["masked_image_jpeg"].outputs["masked_image_jpeg_bytes"]
    for shape, file in zip(masked, jpegs[2:4], strict=True):
        assert np.asarray(Image.open(io.BytesIO(file), formats=["JPEG"])).shape == shape
    assert examine(str(tmp_path)) == []


def test_jpegs_are_compared_by_their_pixels_but_where_a_block_is_undecided():
    """What another mask pixel changes of a JPEG lies within what the exporter leaves open around it."""
    photo = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).resize((90, 70)))
    one, other = photo.copy(), photo.copy()
    other[30, 40] = 0

    def jpeg(pixels):
        return np.array([encoded(pixels, "JPEG"), b""], object)

    undecided = np.zeros(photo.shape[:2], bool)
    undecided[30, 40] = True
    tolerance = Tolerance(atol=1.0, is_jpeg=True, undecided=np.repeat(_spread(undecided), 3))
    assert 16 * 16 <= _spread(undecided).sum() <= 20 * 20
    assert compare(jpeg(one), jpeg(other), tolerance).holds
    assert not compare(jpeg(one), jpeg(other), Tolerance(atol=1.0, is_jpeg=True)).holds
    other[50, 40] = 0
    assert not compare(jpeg(one), jpeg(other), tolerance).holds
    assert (
        "no JPEG at position 0" in compare(jpeg(one), np.array([encoded(one, "PNG"), b""], object), tolerance).problem
    )


@pytest.mark.parametrize("content", [b"", b"GIF89a no such format", encoded(data.camera(), "PNG")[:200]])
def test_a_picture_that_the_export_refuses_is_named(plan, content):
    with pytest.raises(SpecError, match=r"^example picture holiday\.gif: \w"):
        plan.with_pictures({"holiday.gif": content})
