"""Golden requests that hold a user's own pictures beside the drawn ones."""

import io

import numpy as np
import pytest
import toy_models
from maskport.export import SpecError
from maskport.export.exporter import Plan
from maskport.export.publish.saved_check import examine
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
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
    fields = {"activation": "sigmoid", "scaling": "unit", "warmup": False}
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
    assert examine(str(tmp_path)) == []


@pytest.mark.parametrize("content", [b"", b"GIF89a no such format", encoded(data.camera(), "PNG")[:200]])
def test_a_picture_that_the_export_refuses_is_named(plan, content):
    with pytest.raises(SpecError, match=r"^example picture holiday\.gif: \w"):
        plan.with_pictures({"holiday.gif": content})
