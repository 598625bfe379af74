"""Golden requests that hold a user's own pictures beside the drawn ones."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import SpecError
from maskport.export.exporter import Plan
from maskport.export.publish import golden
from maskport.export.publish.golden import _spread
from maskport.export.publish.saved_check import examine
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from maskport.serving.agreement import Tolerance, compare
from maskport.serving.verify import read_golden
from PIL import Image
from reference import Pipeline, Toy
from skimage import data
from tensorflow_serving.apis import prediction_log_pb2


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


def test_cut_outs_with_soft_edges_may_begin_to_show_on_either_side(tmp_path):
    """Where alpha is rounded to 0, its colours are 0 at once."""
    kernel = Toy.make(3, 1, gain=14, seed=3)
    fields = {"background": "transparent", "edge": "soft", "signatures": "masked_image_png", "warmup": False}
    model = toy_models.keras_model(kernel)
    spec = make_spec({"source": "m", "output_dir": "o", "activation": "sigmoid", "scaling": "unit", **fields})
    plan = Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)
    samples = golden.make_samples(plan.module)
    outputs = [plan.module.forward(sample.model_input).numpy() for sample in samples]
    requests = golden.make_requests(plan.functions, plan.module)
    answers = golden.answer(plan.functions, requests)
    tolerance = 3e-3
    undecided = golden.find_undecided(plan.module, samples, outputs, tolerance)
    (record,) = golden.make_goldens(requests, answers, spec, undecided, tolerance)
    asked = answers["masked_image_png"]["masked_image_bytes"]
    # As another processor may answer: all probabilities 0.002 more, so that what was hidden is shown.
    moved = []
    for file in asked:
        pixels = np.asarray(Image.open(io.BytesIO(file))).copy() if file else None
        if file:
            hidden = pixels[..., 3] == 0
            assert hidden.any()
            pixels[hidden] = (200, 100, 50, 1)
        moved.append(encoded(pixels, "PNG") if file else b"")
    allowed = record.tolerances["masked_image_bytes"]
    assert compare(asked, np.array(moved, object), allowed).holds
    assert not compare(asked, np.array(moved, object), dataclasses.replace(allowed, undecided=None)).holds
    shown = [encoded(np.asarray(Image.open(io.BytesIO(one)))[..., :3], "PNG") if one else b"" for one in moved]
    shown = [encoded(np.asarray(Image.open(io.BytesIO(one)).convert("RGBA")), "PNG") if one else b"" for one in shown]
    assert not compare(asked, np.array(shown, object), allowed).holds


@pytest.mark.parametrize(
    ("fields", "signatures"),
    [
        ({"max_model_pixels": 150_000}, "mask,mask_png"),
        ({"max_image_pixels": 4096}, "mask,mask_png"),
        ({"model_size": "shortest=1750"}, "mask_png"),
        ({"max_image_pixels": 100_000, "bad_image": "fail", "model_size": 512}, "mask_png"),
    ],
)
def test_warm_up_and_golden_pictures_keep_to_the_limits(tmp_path, fields, signatures):
    """A server would not load a version whose warm-up requests are refused."""
    model = toy_models.keras_model(Toy.make(3, 1, gain=4))
    spec = make_spec({
        "source": "m", "output_dir": "o", "activation": "sigmoid", "scaling": "unit", "signatures": signatures, **fields
    })  # fmt: skip
    plan = Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)
    plan.write(tmp_path)
    records = [
        prediction_log_pb2.PredictionLog.FromString(one.numpy()).predict_log.request
        for one in tf.data.TFRecordDataset(str(tmp_path / "assets.extra/tf_serving_warmup_requests"))
    ]
    assert len(records) == len(signatures.split(","))
    for request in records:
        signature = golden.contract.SIGNATURES[request.model_spec.signature_name]
        outputs = golden.run(plan.functions[signature.name], signature, golden.tensors_of(request))
        assert not any(outputs.get("error", []))
    assert examine(str(tmp_path)) == []
