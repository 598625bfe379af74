"""`model_size` by a picture's sides: the sizes that other frameworks have, and masks by the reference in NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export.errors import ExportError, SpecError
from maskport.export.exporter import Plan
from maskport.export.graph.maps.geometry import make_geometry
from maskport.export.inspect import format_inspection, inspect_version
from maskport.export.model.segmentation_model import SegmentationModel
from maskport.export.publish import golden
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from maskport.serving.agreement import compare
from PIL import Image
from reference import Pipeline, Toy
from skimage import data

SIZES = [(480, 640), (640, 480), (333, 500), (97, 1999), (3000, 4000), (1, 1), (1, 700), (641, 1), (736, 736), (31, 33)]
SIZES += [tuple(size) for size in np.random.default_rng(0).integers(1, 2500, (40, 2))]


def mmcv(size, long_edge, short_edge):
    """`mmcv.image.rescale_size` with a tuple as its scale."""
    height, width = size
    factor = min(long_edge / max(height, width), short_edge / min(height, width))
    return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)


def segment_anything(size, long_side):
    """`ResizeLongestSide.get_preprocess_shape`."""
    scale = long_side * 1.0 / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def detectron2(size, short_side, longest):
    """`ResizeShortestEdge.get_output_shape`."""
    height, width = size
    scale = short_side * 1.0 / min(height, width)
    new = (short_side, scale * width) if height < width else (scale * height, short_side)
    if max(new) > longest:
        scale = longest * 1.0 / max(new)
        new = (new[0] * scale, new[1] * scale)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def paddle(size, limit, kind):
    """`DetResizeForTest.resize_image_type0`."""
    height, width = size
    ratio = 1.0
    if kind == "min" and min(height, width) < limit:
        ratio = float(limit) / (height if height < width else width)
    if kind == "max" and max(height, width) > limit:
        ratio = float(limit) / (height if height > width else width)
    return tuple(max(int(round(int(edge * ratio) / 32) * 32), 32) for edge in size)


def at_sides(model_size, size, **fields):
    """The size at which a model gets a picture."""
    fields = {"source": "model", "output_dir": "nowhere", "model_size": model_size, **fields}
    spec = make_spec({"max_model_pixels": 10**9, **fields})
    model = SegmentationModel(tf.identity, None, 1, None, None, "", tf.float32, 1, "", 0)
    geometry = make_geometry(spec, model)
    return tuple(int(edge) for edge in geometry._inner(tf.constant(size)))


@pytest.mark.parametrize(
    ("model_size", "framework"),
    [
        ("shortest=800,longest=1333", lambda size: mmcv(size, 1333, 800)),
        ("shortest=800,longest=1333", lambda size: detectron2(size, 800, 1333)),
        ({"longest": 1024}, lambda size: segment_anything(size, 1024)),
        ("shortest=736,multiple=32,only=enlarge", lambda size: paddle(size, 736, "min")),
        ("longest=960,multiple=32,only=shrink", lambda size: paddle(size, 960, "max")),
    ],
    ids=["MMCV", "Detectron2", "Segment Anything", "PaddleOCR min", "PaddleOCR max"],
)
def test_sides_become_what_they_become_elsewhere(model_size, framework):
    for size in SIZES:
        wanted = tuple(max(1, edge) for edge in framework(size))
        found = at_sides(model_size, size)
        # Detectron2 scales twice, and may round otherwise by one.
        slack = 1 if framework.__code__.co_names == ("detectron2",) else 0
        assert np.abs(np.subtract(found, wanted)).max() <= slack, size


NETWORK = Toy.make(3, 3, 2, gain=4, seed=6)
SIDES = {"shortest": 48, "longest": 90}
COMMON = {"activation": "softmax", "scaling": "unit", "foreground": 1, "model_size": SIDES, "pad_to_multiple": 16}
PIPELINE = Pipeline(NETWORK, 3, "softmax", "unit", sides=SIDES, pad_to_multiple=16, foreground=(1,), adds=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Shapes kept at 48 pixels of the shorter side, and padded to 16; at half resolution inside."""
    folder = tmp_path_factory.mktemp("sides")
    fields = {**COMMON, "max_model_pixels": 48 * 96}
    return export_unchecked(toy_models.keras_model(NETWORK), folder / "toy", **fields)


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    yield loaded.signatures
    del loaded


def photo(height, width):
    return np.asarray(Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.LANCZOS))


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def agree(mask, probability):
    sure = np.abs(probability - 0.5) > 1e-5
    np.testing.assert_array_equal((np.asarray(mask) > 0)[sure], (probability > 0.5)[sure])


PICTURES = [(61, 75), (75, 61), (20, 25), (48, 48), (30, 300), (1, 40), (200, 150)]


@pytest.mark.parametrize("size", PICTURES, ids=str)
def test_pixels_get_the_references_answers(signatures, size):
    picture = photo(*size)
    images = tf.constant(np.stack([picture, picture[::-1]]))
    answers = signatures["probability"](image=images)["probability"].numpy()
    classes = signatures["class_map"](image=images)["class_map"].numpy()
    for one, answer, found in zip(images.numpy(), answers, classes, strict=True):
        np.testing.assert_allclose(answer[..., 0], PIPELINE.probability(one), atol=2e-5)
        probabilities = np.sort(PIPELINE.class_probabilities(one), -1)
        sure = probabilities[..., -1] - probabilities[..., -2] > 1e-4
        wanted = PIPELINE.class_probabilities(one).argmax(-1)
        np.testing.assert_array_equal(found[..., 0][sure], wanted[sure])


def test_files_of_all_shapes_in_one_request_and_one_too_large(signatures):
    pictures = [photo(*size) for size in PICTURES]
    files = [encoded(picture) for picture in pictures]
    answers = signatures["mask_png"](image_bytes=tf.constant([*files, b"no picture"]))
    for picture, answer, error in zip(pictures, answers["mask_bytes"].numpy(), answers["error"].numpy(), strict=False):
        assert error == b""
        with Image.open(io.BytesIO(answer)) as mask:
            agree(np.asarray(mask), PIPELINE.probability(picture))
    assert answers["error"].numpy()[-1].startswith(b"unknown format")


def test_a_jpeg_that_is_decoded_at_a_smaller_scale_is_answered_at_its_own_size(signatures):
    picture = photo(300, 401)  # six times the model's size: the model sees a half of it
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    answers = signatures["probability_png"](image_bytes=tf.constant([file.getvalue()]))
    assert answers["error"].numpy() == [b""]
    with Image.open(io.BytesIO(answers["probability_bytes"].numpy()[0])) as png:
        found = np.asarray(png) / 65535
    wanted = PIPELINE.probability(np.asarray(Image.open(file)))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() < 0.01


def test_what_is_too_large_for_the_model_is_refused_alone():
    """Without a longest side a panorama becomes as long as it is."""
    spec = make_spec({**_COMMON_SPEC, "model_size": "shortest=48", "max_model_pixels": 10_000, "signatures": "mask"})
    spec = spec.model_copy(update={"signatures": ["mask", "mask_png"]})
    plan = Plan.of_model(spec, adapt_keras_model(toy_models.keras_model(NETWORK), spec), "0")
    files = [encoded(photo(50, 60)), encoded(photo(2, 100))]
    errors = plan.functions["mask_png"](image_bytes=tf.constant(files))["error"].numpy()
    assert errors[0] == b""
    assert errors[1] == b"too large: 2x100 is 48x2400 for the model > 10000 pixels (max_model_pixels)"
    with pytest.raises(tf.errors.InvalidArgumentError, match="2x100 is 48x2400 for the model > 10000 pixels"):
        plan.functions["mask"](image=tf.constant(photo(2, 100)[np.newaxis]))
    assert "size: the image's shape at shortest=48" in plan.describe()


_COMMON_SPEC = {"source": "model", "output_dir": "nowhere", **COMMON}


def test_class_indices_keep_their_values(tmp_path):
    network = toy_models.keras_model(NETWORK)
    model = toy_models.keras.Model(network.input, toy_models.keras.ops.argmax(network.output, -1))
    fields = {**_COMMON_SPEC, "activation": "none", "model_size": {"longest": 70}, "signatures": ["class_map"]}
    spec = make_spec(fields)
    plan = Plan.of_model(spec, adapt_keras_model(model, spec), "0")
    picture = photo(41, 130)
    found = plan.functions["class_map"](image=tf.constant(picture[np.newaxis]))["class_map"].numpy()[0, ..., 0]
    pipeline = Pipeline(NETWORK, 3, "none", "unit", sides={"longest": 70}, pad_to_multiple=16)
    small = NETWORK(pipeline.model_values(picture)).argmax(-1)
    # A pixel shows what lies at its centre: in 22×70 of 32×80, of which a pixel of the map shows two.
    rows, columns = (((np.arange(edge) + 0.5) / edge * inner).astype(int) // 2 for edge, inner in ((41, 22), (130, 70)))
    wanted = small[rows][:, columns]
    assert (found == wanted).mean() > 0.995  # logits that are nearly alike
    assert set(np.unique(found)) == {0, 1, 2}


def test_the_goldens_hold_and_the_inspection_tells(exported, signatures):
    for record in golden.read_goldens(exported / "assets.extra/golden"):
        inputs, wanted = golden.tensors_of(record.request), golden.tensors_of(record.response)
        found = golden.run(signatures[record.signature.name], record.signature, inputs)
        for name, tolerance in record.tolerances.items():
            assert compare(wanted[name], found[name], tolerance).holds
    text = format_inspection(inspect_version(exported, runs=0))
    assert "RGB at the picture's own shape at shortest=48,longest=90" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_size": {"shorter": 736}}, r"model_size: no key 'shorter'; there are: shortest, longest"),
        ({"model_size": {"multiple": 32}}, "model_size: give shortest or longest, or HEIGHT,WIDTH"),
        ({"model_size": "shortest=0"}, "model_size: input should be greater than or equal to 1"),
        ({"model_size": "longest=many"}, "model_size: input should be a valid integer"),
        ({"model_size": "longest=64,only=both"}, "model_size: input should be 'enlarge' or 'shrink'"),
        (
            {"model_size": "longest=64", "resize": "letterbox"},
            "resize: 'letterbox' is for a model_size of HEIGHT,WIDTH",
        ),
    ],
)
def test_sides_that_make_no_sense_are_refused_in_one_line(fields, words):
    with pytest.raises(SpecError, match=words) as raised:
        make_spec({"source": "model", "output_dir": "nowhere", **fields})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [(32, 40), (32, None)])
def test_a_model_of_a_fixed_size_has_no_sides(size):
    spec = make_spec({"source": "model", "output_dir": "nowhere", "model_size": "longest=64"})
    with pytest.raises(ExportError, match=r"longest=64 is for models of any size; source .* takes 32 by"):
        adapt_keras_model(toy_models.keras_model(NETWORK, size), spec)
