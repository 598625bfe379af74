"""What the signatures do with requests that are unusual, or wrong."""

import io

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
import toy_models
from maskport.export import SourceError, SpecError
from maskport.export.exporter import Plan
from maskport.export.spec import make_spec
from PIL import Image
from reference import LUMA, Pipeline, Toy
from skimage import data

RGB, GRAY, RGBA = Toy.make(3, 1, gain=4), Toy.make(1, 1, gain=6, seed=3), Toy.make(4, 1, gain=4, seed=2)
PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize((40, 30)))


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory):
    plans = {}

    def make(network=RGB, size=(None, None), **fields):
        key = repr((network.kernel.tobytes(), size, fields))
        if key not in plans:
            path = tmp_path_factory.mktemp("model") / "toy.keras"
            toy_models.keras_model(network, size).save(path)
            fields = {"scaling": "unit", "activation": "sigmoid", "output_dir": "served", **fields}
            plans[key] = Plan.make(make_spec({"source": str(path), **fields}))
        return plans[key]

    return make


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_pixel_signatures_take_other_channels_than_the_model(plan_of):
    probability = plan_of(RGB, signatures=["probability"]).functions["probability"]
    gray = PHOTO[..., :1]
    with_alpha = np.concatenate([PHOTO, PHOTO[..., :1]], -1)
    repeated = probability(image=tf.constant(np.repeat(gray, 3, -1)[None]))["probability"]
    np.testing.assert_array_equal(probability(image=tf.constant(gray[None]))["probability"], repeated)
    np.testing.assert_array_equal(
        probability(image=tf.constant(with_alpha[None]))["probability"],
        probability(image=tf.constant(PHOTO[None]))["probability"],
    )


def test_gray_models_see_the_luma_of_colour_and_keep_gray_to_the_bit(plan_of):
    probability = plan_of(GRAY, signatures=["probability"]).functions["probability"]
    got = probability(image=tf.constant(PHOTO[None]))["probability"][0, ..., 0]
    reference = Pipeline(GRAY, 1, "sigmoid", "unit")
    np.testing.assert_allclose(got, reference.probability((PHOTO @ LUMA)[..., None]), atol=1e-5)
    gray = PHOTO[..., :1]
    np.testing.assert_array_equal(
        probability(image=tf.constant(gray[None]))["probability"],
        probability(image=tf.constant(np.repeat(gray, 3, -1)[None]))["probability"],
    )


def test_rgba_models_see_opaque_pictures_where_there_is_no_alpha(plan_of):
    probability = plan_of(RGBA, signatures=["probability"]).functions["probability"]
    opaque = np.concatenate([PHOTO, np.full_like(PHOTO[..., :1], 255)], -1)
    np.testing.assert_array_equal(
        probability(image=tf.constant(PHOTO[None]))["probability"],
        probability(image=tf.constant(opaque[None]))["probability"],
    )


@pytest.mark.parametrize("fields", [{}, {"channel_order": "bgr", "scaling": "signed"}])
def test_a_fourth_channel_may_be_zero(plan_of, caplog, fields):
    signatures = ["probability", "probability_png"]
    functions = plan_of(RGBA, signatures=signatures, fourth_channel="zero", **fields).functions
    with_alpha = np.concatenate([PHOTO, PHOTO[..., :1]], -1)
    without = Toy(np.where(np.arange(4)[:, np.newaxis] < 3, RGBA.kernel, 0), RGBA.bias)
    pipeline = Pipeline(without, 4, "sigmoid", fields.get("scaling", "unit"), bgr=bool(fields))
    expected = pipeline.probability(np.concatenate([PHOTO, PHOTO[..., :1]], -1))
    for pixels in (PHOTO, with_alpha):
        got = functions["probability"](image=tf.constant(pixels[None]))["probability"]
        np.testing.assert_allclose(got[0, ..., 0], expected, atol=1e-5)
    files = functions["probability_png"](image_bytes=tf.constant([png(PHOTO), png(with_alpha)]))
    for file in files["probability_bytes"].numpy():
        np.testing.assert_allclose(decoded(file) / 65535, expected, atol=2e-5)
    assert "fourth_channel" not in caplog.text
    plan_of(RGBA, signatures=["mask"], **fields)
    assert "fourth_channel: the model's fourth channel is taken for alpha" in caplog.text
    with pytest.raises(SpecError, match=r"^fourth_channel: is for models of 4 channels; the model takes 3$"):
        plan_of(RGB, fourth_channel="alpha")


@pytest.mark.parametrize(
    ("images", "thresholds", "message"),
    [
        (PHOTO[None], [0.5, 0.5], "threshold must have one value for each image"),
        (PHOTO[None], [1.5], "threshold must be in \\[0, 1\\]"),
        (PHOTO[None], [-0.1], "threshold must be in \\[0, 1\\]"),
        (PHOTO[None], [float("nan")], "threshold must be in \\[0, 1\\]"),
        (np.zeros((1, 4, 4, 5), np.uint8), [0.5], "1 to 4 channels"),
        (np.zeros((1, 0, 4, 3), np.uint8), [0.5], "at least one pixel"),
        (np.zeros((1, 30, 41, 3), np.uint8), [0.5], "at most 1200 pixels"),
    ],
)
def test_wrong_pixel_requests_are_invalid_arguments(plan_of, images, thresholds, message):
    mask = plan_of(max_model_pixels=1200, signatures=["mask_at_threshold"]).functions["mask_at_threshold"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        mask(image=tf.constant(images), threshold=tf.constant(thresholds, tf.float32))


def test_a_bad_threshold_is_the_error_of_its_own_picture(plan_of):
    mask = plan_of(signatures=["mask_png_at_threshold"]).functions["mask_png_at_threshold"]
    files = tf.constant([png(PHOTO)] * 5)
    answer = mask(image_bytes=files, threshold=tf.constant([0.0, 1.0, float("nan"), 1.01, -0.1]))
    errors = [error.decode() for error in answer["error"].numpy()]
    assert errors[:2] == ["", ""]
    assert all(error.startswith("bad threshold: ") and error.endswith("is not in [0, 1]") for error in errors[2:])
    assert [bool(file) for file in answer["mask_bytes"].numpy()] == [True, True, False, False, False]
    with pytest.raises(tf.errors.InvalidArgumentError, match="threshold must have one value for each image"):
        mask(image_bytes=files, threshold=tf.constant([0.5]))


@pytest.mark.parametrize("size", [(None, None), (32, 32)])
def test_no_pictures_at_all_give_no_masks(plan_of, size):
    functions = plan_of(size=size, signatures=["mask_png", "masked_image_png", "mask"]).functions
    answer = functions["masked_image_png"](image_bytes=tf.constant([], tf.string))
    assert answer["masked_image_bytes"].shape == answer["error"].shape == (0,)
    assert functions["mask"](image=tf.zeros([0, 5, 6, 3], tf.uint8))["mask"].shape == (0, 5, 6, 1)


@pytest.mark.parametrize("size", [(None, None), (32, 32)])
def test_too_large_pictures_are_refused_by_the_limit_that_applies(plan_of, size):
    plan = plan_of(size=size, max_model_pixels=500, max_image_pixels=1000, signatures=["mask_png"])
    files = [png(np.zeros((height, 30, 3), np.uint8)) for height in (16, 17, 33, 34)]
    errors = [error.decode() for error in plan.functions["mask_png"](image_bytes=tf.constant(files))["error"].numpy()]
    limit = 1000 if size[0] else 500
    expected = [
        f"too large: {height}x30 > {limit} pixels" if height * 30 > limit else "" for height in (16, 17, 33, 34)
    ]
    assert errors == expected


def test_masks_of_jpegs_are_of_the_whole_or_of_a_smaller_scale_as_the_spec_says(plan_of):
    """A model of 32 × 32 pixels sees a picture of 131 × 163 at half its size, of which the mask is as large as it."""
    file = io.BytesIO()
    Image.fromarray(data.coffee()).resize((163, 131)).save(file, "JPEG", quality=95)
    file = file.getvalue()
    names = ["probability_png", "masked_image_png"]
    exact, fast = (plan_of(size=(32, 32), decode=how, signatures=names).functions for how in ("exact", "fast"))

    def answer(functions, name, file):
        return decoded(next(iter(functions[name](image_bytes=tf.constant([file])).values())).numpy()[0])

    of_whole = answer(exact, "probability_png", file)
    for functions in (exact, fast):
        np.testing.assert_array_equal(answer(functions, "probability_png", png(decoded(file))), of_whole)
    of_half = answer(fast, "probability_png", file)
    assert of_half.shape == (131, 163)
    assert 50 < np.abs(of_half.astype(int) - of_whole).max() < 3000
    np.testing.assert_array_equal(answer(fast, "masked_image_png", file), answer(exact, "masked_image_png", file))


def test_bad_image_fail_fails_the_request_and_names_the_reason(plan_of):
    mask = plan_of(bad_image="fail", signatures=["mask_png"]).functions["mask_png"]
    assert mask(image_bytes=tf.constant([png(PHOTO)]))["error"].numpy() == [b""]
    with pytest.raises(tf.errors.InvalidArgumentError, match="unknown format"):
        mask(image_bytes=tf.constant([png(PHOTO), b"broken"]))


def test_soft_edges_mix_with_a_coloured_background(plan_of):
    plan = plan_of(edge="soft", background="#ff8000", signatures=["masked_image", "masked_image_png"])
    probability = Pipeline(RGB, 3, "sigmoid", "unit").probability(PHOTO)[..., None]
    expected = PHOTO * probability + np.array([255, 128, 0]) * (1 - probability)
    pixels = plan.functions["masked_image"](image=tf.constant(PHOTO[None]))["masked_image"][0]
    np.testing.assert_allclose(pixels, expected, atol=0.51)
    file = plan.functions["masked_image_png"](image_bytes=tf.constant([png(PHOTO)]))["masked_image_bytes"][0].numpy()
    np.testing.assert_array_equal(decoded(file), pixels)


def test_transparent_soft_edges_carry_the_probability_as_alpha(plan_of):
    plan = plan_of(GRAY, edge="soft", background="transparent", signatures=["masked_image_png"])
    gray = np.asarray(Image.fromarray(PHOTO).convert("L"))
    answer = plan.functions["masked_image_png"](image_bytes=tf.constant([png(gray)]))
    rgba = decoded(answer["masked_image_bytes"][0].numpy())
    probability = Pipeline(GRAY, 1, "sigmoid", "unit").probability(gray[..., None])
    assert rgba.shape == (30, 40, 4)
    np.testing.assert_allclose(rgba[..., 3], probability * 255, atol=0.51)
    np.testing.assert_array_equal(rgba[..., :3], np.where(rgba[..., 3:] > 0, np.repeat(gray[..., None], 3, -1), 0))


def test_16_bit_files_give_16_bit_masked_images_and_8_bit_ones_8(plan_of):
    plan = plan_of(GRAY, image_dtype="uint16", input_max=4095, signatures=["masked_image_png"])
    gray = np.asarray(Image.fromarray(PHOTO).convert("L"))
    scan = gray.astype(np.uint16) * 16
    answer = plan.functions["masked_image_png"](image_bytes=tf.constant([png(scan), png(gray)]))
    deep, shallow = (decoded(file) for file in answer["masked_image_bytes"].numpy())
    for image, got, full_scale in ((scan, deep, 4095), (gray, shallow, 255)):
        probability = Pipeline(GRAY, 1, "sigmoid", "unit", full_scale=full_scale).probability(image[..., None])
        decided = np.abs(probability - 0.5) > 1e-5
        np.testing.assert_array_equal(got[decided], np.where(probability > 0.5, image, 0)[decided])
    assert shallow.dtype == np.uint8
    assert deep.max() > 255


@pytest.mark.parametrize("has_alpha", [True, False])
def test_alpha_of_16_bit_files_is_whole_at_65535_whatever_colours_are(plan_of, has_alpha):
    names = ["probability_png", "probability", "masked_image_png", "masked_image_jpeg"]
    plan = plan_of(RGBA, image_dtype="uint16", input_max=4095, background="#2080ff", signatures=names)
    colours = PHOTO.astype(np.uint16) * 16
    opacity = np.linspace(0, 1, 1200).reshape(30, 40, 1) if has_alpha else np.ones((30, 40, 1))
    in_file = np.concatenate([colours, np.round(opacity * 65535).astype(np.uint16)], -1)
    files = tf.io.encode_png(in_file if has_alpha else colours)[None]
    pixels = np.concatenate([colours, np.round(in_file[..., 3:] * (4095 / 65535)).astype(np.uint16)], -1)
    probability = plan.functions["probability"](image=tf.constant(pixels[None]))["probability"][0, ..., 0].numpy()
    answer = plan.functions["probability_png"](image_bytes=files)["probability_bytes"][0].numpy()
    np.testing.assert_allclose(decoded(answer) / 65535, probability, atol=1e-5)
    is_shown = probability[..., None] > 0.5
    answer = plan.functions["masked_image_png"](image_bytes=files)["masked_image_bytes"][0]
    background = np.round(np.array([0x20, 0x80, 0xFF, 0xFF]) / 255 * [4095, 4095, 4095, 65535])
    shown = tf.io.decode_png(answer, dtype=tf.uint16).numpy().astype(int)
    np.testing.assert_allclose(shown, np.where(is_shown, in_file, background), atol=8.5)  # half of 65535/4095
    np.testing.assert_array_equal(shown[..., :3], np.where(is_shown, colours, background[:3]))
    answer = plan.functions["masked_image_jpeg"](image_bytes=files)["masked_image_jpeg_bytes"][0].numpy()
    on_background = colours * (255 / 4095) * opacity * is_shown + np.array([32, 128, 255]) * (1 - opacity * is_shown)
    assert np.abs(decoded(answer).astype(int) - on_background).mean() < 12  # of a JPEG


@pytest.mark.parametrize(
    ("network", "fields"),
    [
        (RGB, {"background": "#2080ff", "jpeg_quality": 70}),
        (RGB, {"edge": "soft", "size": (16, 24)}),
        (GRAY, {}),
        (GRAY, {"image_dtype": "uint16", "input_max": 4095}),
        (RGBA, {"background": "#2080ff"}),
    ],
)
def test_masked_images_as_jpeg_are_those_that_pillow_would_make(plan_of, network, fields):
    size = fields.get("size", (None, None))
    names = ["masked_image_jpeg", "masked_image_jpeg_at_threshold"]
    plan = plan_of(network, signatures=names, **{"size": size, **fields})
    channels, depth = network.kernel.shape[2], fields.get("input_max", 255) / 255
    alpha = np.linspace(0, 255, PHOTO[..., 0].size).reshape(PHOTO.shape[:2])[..., None].round()
    image = {1: (PHOTO @ LUMA)[..., None].round(), 3: PHOTO, 4: np.concatenate([PHOTO, alpha], -1)}[channels]
    sent = np.squeeze(np.round(image * depth).astype(np.uint16 if depth > 1 else np.uint8))
    answer = plan.functions[names[1]](
        image_bytes=tf.constant([png(sent), b"broken"]), threshold=tf.constant([0.4, 0.5])
    )
    files, errors = (value.numpy() for value in answer.values())
    assert (files[1], errors[1][:14], errors[0]) == (b"", b"unknown format", b"")
    options = {"model_size": fields["size"]} if "size" in fields else {}
    pipeline = Pipeline(network, channels, "sigmoid", "unit", full_scale=depth * 255, **options)
    probability = pipeline.probability(sent.reshape(image.shape))
    assert np.abs(probability - 0.4).min() > 1e-5, "an undecided pixel would change a whole block"
    share = probability if fields.get("edge") == "soft" else (probability > 0.4).astype(float)
    share = share[..., None] * (image[..., 3:] / 255 if channels == 4 else 1)
    colour = (32, 128, 255) if "background" in fields else 0
    shown = np.squeeze(np.round(image[..., :3] * share + (1 - share) * colour)).astype(np.uint8)
    expected = io.BytesIO()
    Image.fromarray(shown).save(expected, "JPEG", quality=fields.get("jpeg_quality", 90))
    assert Image.open(io.BytesIO(files[0])).quantization == Image.open(expected).quantization
    difference = np.abs(decoded(files[0]).astype(int) - decoded(expected.getvalue()))
    # A value that is rounded otherwise moves a coefficient at most.
    assert difference.max() <= (24 if share.max() < 1 or channels == 4 else 1)
    assert difference.mean() < 0.5


@pytest.mark.parametrize("size", [(None, None), (32, 32)])
def test_pictures_that_no_jpeg_can_hold_fail_alone(plan_of, size):
    plan = plan_of(size=size, signatures=["masked_image_jpeg"])
    files = [png(np.zeros((1, width, 3), np.uint8)) for width in (65_500, 65_501)]
    answer = plan.functions["masked_image_jpeg"](image_bytes=tf.constant(files))
    first, second = answer["masked_image_jpeg_bytes"].numpy()
    assert (decoded(first).shape, second) == ((1, 65_500, 3), b"")
    assert answer["error"].numpy().tolist() == [b"", b"too large: 65501 > 65500, a JPEG's edge"]


def test_transparent_16_bit_images_are_opaque_where_the_mask_is(plan_of):
    fields = {"image_dtype": "uint16", "input_max": 4095, "background": "transparent"}
    plan = plan_of(GRAY, signatures=["masked_image_png"], **fields)
    gray = np.asarray(Image.fromarray(PHOTO).convert("L"))
    answer = plan.functions["masked_image_png"](image_bytes=tf.constant([png(gray.astype(np.uint16) * 16), png(gray)]))
    for file, opaque in zip(answer["masked_image_bytes"].numpy(), (65535, 255), strict=True):
        alpha = tf.io.decode_png(file, channels=4, dtype=tf.uint16 if opaque > 255 else tf.uint8).numpy()[..., 3]
        assert set(np.unique(alpha)) == {0, opaque}


def test_pictures_too_small_for_the_network_are_padded_for_it(tmp_path):
    """A network that halves its input three times, and one whose "valid" convolution leaves nothing of 4x4."""
    image = keras.Input((None, None, 3))
    halving = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(keras.layers.MaxPooling2D(8)(image)))
    valid = keras.Model(image, keras.layers.Conv2D(1, 5, activation="sigmoid")(image))

    def pad_up(small):
        return np.pad(small, [*((0, max(0, 8 - edge)) for edge in small.shape[:2]), (0, 0)], mode="edge")

    def continue_around(small):
        return np.pad(small, [(2, 2), (2, 2), (0, 0)], mode="reflect")

    for number, (model, pad) in enumerate(((halving, pad_up), (valid, continue_around))):
        model.save(tmp_path / f"{number}.keras")
        fields = {"source": str(tmp_path / f"{number}.keras"), "output_dir": "served", "scaling": "unit"}
        functions = Plan.make(make_spec({**fields, "signatures": ["probability_png", "probability"]})).functions
        for small in (PHOTO[:4, :4], PHOTO[:1, :], PHOTO[:, :1]):
            answer = functions["probability_png"](image_bytes=tf.constant([png(PHOTO), png(small)]))
            assert answer["error"].numpy().tolist() == [b"", b""]
            pixels = functions["probability"](image=tf.constant(small[None]))["probability"][0, ..., 0]
            np.testing.assert_allclose(decoded(answer["probability_bytes"][1].numpy()) / 65535, pixels, atol=1e-5)
            direct = model(pad(small)[None] / np.float32(255)).numpy()[0]
            size = pad_up(small).shape[:2] if pad is pad_up else small.shape[:2]
            expected = reference.resize(direct, size)[: small.shape[0], : small.shape[1], 0]
            np.testing.assert_allclose(pixels, expected, atol=1e-5)


def test_a_picture_that_the_model_fails_on_fails_alone(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def segment(x):
        with tf.control_dependencies([tf.debugging.Assert(tf.shape(x)[1] != 13, ["not this size"])]):
            return {"map": tf.identity(x[..., :1])}

    module = tf.Module()
    module.segment = segment
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": segment})
    spec = make_spec({"source": str(tmp_path / "m"), "output_dir": "served", "scaling": "unit"})
    function = Plan.make(spec).functions["mask_png"]
    answer = function(image_bytes=tf.constant([png(PHOTO), png(PHOTO[:13]), png(PHOTO[:14])]))
    errors = [error.decode() for error in answer["error"].numpy()]
    assert errors == ["", "cannot be decoded: the model fails on a picture of 13x40", ""]
    assert [bool(file) for file in answer["mask_bytes"].numpy()] == [True, False, True]


@pytest.mark.parametrize(
    ("make", "fields", "error", "message"),
    [
        ("flat", {"foreground": 0}, SourceError, r"answers 96x32 for a 32x32 picture, which is no map of it"),
        ("bytes", {"scaling": "unit"}, SpecError, "scaling: gives the model fractions, but it takes uint8"),
        ("free", {"resize": "letterbox"}, SpecError, "resize: 'letterbox' needs a model_size"),
        ("classes", {"activation": "softmax", "foreground": [0, 1]}, SpecError, "foreground: all of the model's"),
    ],
)
def test_combinations_that_cannot_be_meant_are_refused(tmp_path, make, fields, error, message):
    fixed, free = keras.Input((32, 32, 3)), keras.Input((None, None, 3))
    whole = keras.Input((32, 32, 3), dtype="uint8")
    models = {
        "flat": lambda: keras.Model(fixed, keras.layers.Reshape((96, 32))(keras.layers.Conv2D(3, 1)(fixed))),
        "bytes": lambda: keras.Model(whole, keras.layers.Conv2D(1, 1)(keras.layers.Rescaling(1 / 255)(whole))),
        "free": lambda: keras.Model(free, keras.layers.Conv2D(1, 1)(free)),
        "classes": lambda: keras.Model(free, keras.layers.Conv2D(2, 1)(free)),
    }
    models[make]().save(tmp_path / "model.keras")
    spec = {"source": str(tmp_path / "model.keras"), "output_dir": "served", "activation": "sigmoid", **fields}
    with pytest.raises(error, match=message):
        Plan.make(make_spec(spec))


def test_an_activation_that_seems_applied_already_is_warned_of(tmp_path, caplog):
    toy_models.keras_model(RGB, activation="sigmoid").save(tmp_path / "toy.keras")
    fields = {"source": str(tmp_path / "toy.keras"), "output_dir": "served", "scaling": "unit"}
    Plan.make(make_spec({**fields, "signatures": ["mask"]}))
    assert not caplog.records
    Plan.make(make_spec({**fields, "activation": "sigmoid", "signatures": ["mask"]}))
    assert "the model's outputs are within [0, 1] already" in caplog.text


def test_more_than_256_classes_are_uint16(plan_of):
    many = Toy.make(3, 300, gain=4)
    plan = plan_of(many, size=(24, 24), activation="softmax", foreground=7, signatures=["class_map", "class_map_png"])
    pixels = plan.functions["class_map"](image=tf.constant(PHOTO[None]))["class_map"]
    file = plan.functions["class_map_png"](image_bytes=tf.constant([png(PHOTO)]))["class_map_bytes"][0].numpy()
    assert pixels.dtype == tf.uint16
    np.testing.assert_array_equal(decoded(file), pixels[0, ..., 0])
    probabilities = Pipeline(many, 3, "softmax", "unit", model_size=(24, 24)).class_probabilities(PHOTO)
    best, second = np.sort(probabilities, -1)[..., [-1, -2]].transpose(2, 0, 1)
    decided = best - second > 1e-5
    np.testing.assert_array_equal(pixels[0, ..., 0].numpy()[decided], probabilities.argmax(-1)[decided])
    assert pixels.numpy().max() > 255


def test_ties_go_to_the_lower_class(plan_of):
    flat = Toy(np.zeros((3, 3, 3, 3), np.float32), np.array([0.1, 0.7, 0.7], np.float32))
    plan = plan_of(flat, size=(8, 8), activation="sigmoid", foreground=0, signatures=["class_map"])
    assert set(plan.functions["class_map"](image=tf.constant(PHOTO[None]))["class_map"].numpy().ravel()) == {1}


def test_class_maps_in_strips_are_those_of_one_piece(plan_of, monkeypatch):
    from maskport.export.graph.maps import geometry

    three = Toy.make(3, 3, gain=4)
    fields = {"activation": "softmax", "foreground": 0, "signatures": ["class_map"]}
    whole = plan_of(three, size=(16, 24), **fields).functions["class_map"](image=tf.constant(PHOTO[None]))["class_map"]
    monkeypatch.setattr(geometry, "_STRIP_VALUES", 40 * 3 * 7)  # seven rows at a time
    strips = plan_of(three, size=(16, 24), threshold=0.4, **fields).functions["class_map"]
    np.testing.assert_array_equal(strips(image=tf.constant(PHOTO[None]))["class_map"], whole)
