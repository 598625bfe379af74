"""Models of 2 to 16 bands, all the way: export, server, client, batch, calibration and inspection.

The oracle is the reference in NumPy; files are written by tifffile, and what is written is read by rasterio.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import rasterio
import tensorflow as tf
import tifffile
import toy_models
from any_client import make_client
from exporting import export_unchecked
from maskport.export.calibrate import calibrate, find_pairs
from maskport.export.errors import ExportError
from maskport.export.exporter import Plan
from maskport.export.inspect import inspect_version
from maskport.export.inspect.calls import PYTHON
from maskport.export.model import examples
from maskport.export.publish import golden
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec
from maskport.serving import contract
from maskport.serving.batch import BatchJob, LocalModel, run_job
from maskport.serving.client import InvalidImageError, MaskClient, UnsupportedCallError
from maskport.serving.server import EmbeddedServer
from PIL import Image
from reference import Pipeline, Toy

BIN = Path(sys.executable).parent
GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True)]
GEO += [(34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True)]
MEAN, STD = (0.1, 0.2, 0.3, 0.4, 0.5), (0.3, 0.25, 0.2, 0.15, 0.1)
FIVE = Toy.make(5, 1, gain=3, seed=2)
PIPELINE = Pipeline(FIVE, 5, "sigmoid", full_scale=10000.0, mean=MEAN, std=STD)
FIELDS = {"image_dtype": "uint16", "input_max": 10000, "mean": list(MEAN), "std": list(STD)}
TWO = Toy.make(2, 3, gain=4, seed=3)
PIPELINE_OF_TWO = Pipeline(TWO, 2, "softmax", full_scale=1.0, input_max=1.0, foreground=(2,), adds=True)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """An export of five bands of 16 bits."""
    folder = tmp_path_factory.mktemp("five")
    toy_models.keras_model(FIVE, activation="sigmoid").save(folder / "five.keras")
    return export_unchecked(folder / "five.keras", folder / "five", **FIELDS)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """An export of two bands of floats, such as radar's, and three classes."""
    output_dir = tmp_path_factory.mktemp("two") / "two"
    fields = {"image_dtype": "float32", "activation": "softmax", "foreground": 2}
    return export_unchecked(toy_models.keras_model(TWO), output_dir, **fields)


@pytest.fixture(scope="module")
def server(five):
    with EmbeddedServer(five.parent) as server:
        yield server


@pytest.fixture
def client(server):
    with MaskClient(server.grpc_address, model="five") as client:
        yield client


@pytest.fixture(scope="module")
def scene():
    """Five bands, 45×58, smooth and with grain, of up to 10000."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:45, :58]
    waves = [np.sin(rows / (5 + band) + columns / (9 - band)) for band in range(5)]
    scene = 5000 + 4000 * np.stack(waves, -1) + random.normal(0, 300, (45, 58, 5))
    return np.clip(scene, 1, 10000).astype(np.uint16)


def agree(mask, probability, threshold=0.5):
    sure = np.abs(probability - threshold) > 1e-5
    assert 0.05 < (probability > threshold).mean() < 0.95
    np.testing.assert_array_equal(np.asarray(mask)[sure], (probability > threshold)[sure])


def test_the_signatures_take_pixels_of_as_many_bands(five, two):
    manifest = json.loads((five / "assets.extra/maskport.json").read_text())
    assert manifest["model"]["channels"] == 5
    assert set(manifest["signatures"]) == {
        name for name, one in contract.SIGNATURES.items() if not one.is_encoded and one.product != contract.CLASS_MAP
    }
    loaded = tf.saved_model.load(str(two)).signatures["class_map"]
    picture = np.random.default_rng(0).uniform(0, 1, (2, 19, 23, 2)).astype(np.float32)
    classes = loaded(image=tf.constant(picture))["class_map"].numpy()[..., 0]
    for one, found in zip(picture, classes, strict=True):
        np.testing.assert_array_equal(found, PIPELINE_OF_TWO.class_probabilities(one).argmax(-1))
    for wrong in (picture[..., :1], np.zeros((1, 4, 4, 3), np.float32)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"with 2 bands and at least one pixel.*got shape"):
            tf.saved_model.load(str(two)).signatures["mask"](image=tf.constant(wrong))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"signatures": ["mask_png"]}, "signatures: 'mask_png' is for encoded pictures.*takes 5 bands"),
        ({"channel_order": "bgr"}, "channel_order: 'bgr' is for colour, the model takes 5 channels"),
        ({"mean": [0.1, 0.2]}, "mean: 2 values do not fit a model of 5 channels; wanted 1 or 5"),
        ({"scaling": "imagenet"}, "scaling: 'imagenet' is for 3 channels, the model takes 5"),
        ({"background": "#ff0000"}, "background: '#ff0000' is for pictures; the model takes 5 bands"),
    ],
)
def test_what_bands_cannot_have_is_refused_in_one_line(fields, words):
    model = toy_models.keras_model(FIVE, activation="sigmoid")
    spec = make_spec({"source": "model", "output_dir": "nowhere", **fields})
    with pytest.raises(ExportError, match=words) as raised:
        Plan.of_model(spec, adapt_keras_model(model, spec), "0")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "data_format", "channels"),
    [
        ((None, None, 12), "channels_last", 12),
        ((7, None, None), "channels_first", 7),
        ((32, 64, 16), "channels_last", 16),
        ((2, 64, 64), "channels_first", 2),
        ((16, 16, 3), "channels_last", 3),
        ((3, 16, 16), "channels_first", 3),
        ((12, 64, 12), None, None),
        ((None, None, 17), None, None),
    ],
)
def test_where_the_bands_are_is_found_by_the_shape(shape, data_format, channels):
    image = keras.Input(shape)
    axes = 1 if data_format == "channels_first" else -1
    model = keras.Model(image, keras.ops.mean(image, axes, keepdims=True))
    spec = make_spec({"source": "model", "output_dir": "nowhere"})
    if data_format is None:
        with pytest.raises(ExportError, match=r"can be read both ways|takes 17 channels .*wanted 1 to 16"):
            adapt_keras_model(model, spec)
        return
    found = adapt_keras_model(model, spec)
    assert (found.data_format, found.channels) == (data_format, channels)
    assert found.takes_bands == (channels != 3)


def test_drawn_bands_differ_and_keep_black_and_white():
    drawn = examples.draw_picture(20, 30)
    for channels in (2, 5, 16):
        bands = examples.as_pixels(drawn, channels, "float32", 1.0)
        assert bands.shape == (20, 30, channels)
        assert np.abs(np.corrcoef(bands.reshape(-1, channels).T) - np.eye(channels)).max() < 1 - 1e-6
        white = examples.as_pixels(np.full((1, 1, 3), 255, np.uint8), channels, "uint16", 4095)
        assert set(white.ravel()) == {4095}


def test_goldens_are_pixels_and_hold(five):
    records = {one.signature.name: one for one in golden.read_goldens(five / "assets.extra/golden")}
    assert {"mask", "probability", "masked_image_at_threshold"} <= set(records)
    request, response = records["probability"].request, records["probability"].response
    pictures, answers = golden.tensors_of(request)["image"], golden.tensors_of(response)["probability"]
    assert pictures.shape[-1] == 5
    for picture, answer in zip(pictures, answers, strict=True):
        np.testing.assert_allclose(answer[..., 0], PIPELINE.probability(picture), atol=1e-4)


def test_auto_optimizes_a_model_of_bands(tmp_path):
    spec = make_spec({"source": "model", "output_dir": str(tmp_path), "optimize": "freeze", **FIELDS})
    plan = Plan.of_model(spec, adapt_keras_model(toy_models.keras_model(FIVE, activation="sigmoid"), spec), "0")
    assert plan.optimized.comparisons["freeze"].iou == 1.0
    assert "left out: signatures for encoded pictures, since the model takes 5 bands" in plan.describe()


LAYOUTS = [
    {"planarconfig": "contig"},
    {"planarconfig": "separate"},
    {"planarconfig": "contig", "tile": (16, 32), "compression": "zstd", "predictor": True},
    {"planarconfig": "separate", "tile": (16, 16), "bigtiff": True, "byteorder": ">"},
    {"photometric": "rgb", "planarconfig": "contig"},
]


def write(path, scene, options, dtype=None, **more):
    scene = scene if dtype is None else scene.astype(dtype)
    stored = scene if options["planarconfig"] == "contig" else np.moveaxis(scene, 2, 0)
    tifffile.imwrite(path, stored, **{"photometric": "minisblack", **options, **more})


@pytest.mark.parametrize("options", LAYOUTS, ids=" ".join)
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_a_tiff_of_bands_is_sent_as_its_pixels(client, scene, options, dtype, tmp_path):
    write(tmp_path / "scene.tif", scene, options, dtype, extratags=GEO)
    result = client.segment(tmp_path / "scene.tif", outputs=("mask", "probability", "masked_image"))
    np.testing.assert_allclose(result.probability, PIPELINE.probability(scene), atol=1e-5)
    agree(result.mask, PIPELINE.probability(scene))
    np.testing.assert_array_equal(result.masked_image, scene * result.mask[..., np.newaxis])


def test_pages_alpha_and_nodata_of_a_raster(client, scene, tmp_path):
    pages = tmp_path / "pages.tif"
    tifffile.imwrite(pages, np.moveaxis(scene, 2, 0), metadata={"axes": "CYX"})
    wanted = PIPELINE.probability(scene)
    agree(client.segment(pages).mask, wanted)
    with_alpha = np.dstack([scene, np.full(scene.shape[:2], 65535, np.uint16)])
    extras = ["unspecified"] * 4 + ["unassalpha"]
    tifffile.imwrite(tmp_path / "alpha.tif", with_alpha, photometric="minisblack", extrasamples=extras)
    agree(client.segment(tmp_path / "alpha.tif").mask, wanted)
    # Of more bands some are chosen, in the model's order.
    shuffled = np.dstack([scene[..., ::-1], scene[..., :2]])
    tifffile.imwrite(tmp_path / "seven.tif", shuffled, photometric="minisblack", planarconfig="contig")
    with pytest.raises(InvalidImageError, match=r"holds 7 channels .*, and the model takes 5; choose them with bands="):
        client.segment(tmp_path / "seven.tif")
    agree(client.segment(tmp_path / "seven.tif", bands=(5, 4, 3, 2, 1)).mask, wanted)
    holes = scene.copy()
    holes[10:20, 5:30] = 0
    write(tmp_path / "holes.tif", holes, LAYOUTS[0], extratags=[*GEO, (42113, 2, 2, "0", True)])
    result = client.segment(tmp_path / "holes.tif", outputs=("mask", "masked_image"))
    assert not result.mask[10:20, 5:30].any()
    kept = np.abs(PIPELINE.probability(holes) - 0.5) > 1e-5
    kept[10:20, 5:30] = False
    np.testing.assert_array_equal(result.mask[kept], (PIPELINE.probability(holes) > 0.5)[kept])


def test_a_masked_image_is_a_tiff_with_all_bands_in_its_place(client, scene, tmp_path):
    write(tmp_path / "scene.tif", scene, LAYOUTS[1], extratags=GEO)
    result = client.segment(tmp_path / "scene.tif", outputs=("mask", "masked_image"))
    result.save(tmp_path / "masked.tif", "masked_image")
    result.save(tmp_path / "mask.tif", "mask")
    with rasterio.open(tmp_path / "scene.tif") as given, rasterio.open(tmp_path / "masked.tif") as written:
        assert (written.count, written.dtypes[0], written.crs) == (5, "uint16", given.crs)
        assert written.transform == given.transform
        np.testing.assert_array_equal(np.moveaxis(written.read(), 0, -1), scene * result.mask[..., np.newaxis])
        with rasterio.open(tmp_path / "mask.tif") as mask:
            assert (mask.crs, mask.transform) == (given.crs, given.transform)
    result.save(tmp_path / "masked.npy", "masked_image")
    np.testing.assert_array_equal(np.load(tmp_path / "masked.npy"), result.masked_image)
    with pytest.raises(InvalidImageError, match=r"of 5 bands cannot be a \.png file; use \.tif"):
        result.save(tmp_path / "masked.png", "masked_image")
    assert result.overlay().size == (58, 45)
    assert result.cutout().mode == "RGBA"


@pytest.mark.parametrize("kind", ["sync-grpc", "async-grpc"])
def test_arrays_of_bands_are_sent_too(server, scene, kind, tmp_path):
    np.save(tmp_path / "scene.npy", scene)
    with make_client(kind, server.grpc_address, "five") as client:
        for source in (scene, tmp_path / "scene.npy", np.ma.MaskedArray(scene, False)):
            agree(client.segment(source).mask, PIPELINE.probability(scene))


def test_what_holds_no_such_bands_is_refused_in_one_line(client, server, scene, tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "photo.jpg")
    for source, words in (
        (tmp_path / "photo.jpg", "is an encoded picture, and the model takes 5 bands; send a TIFF"),
        (scene[..., :3], r"holds 3 channels .*and the model takes 5; give it all of its bands"),
        (np.moveaxis(scene, 2, 0), r"its channels come first: give numpy\.moveaxis\(array, 0, -1\)"),
        ((scene >> 8).astype(np.uint8), "an array of uint8 was given, and the model takes uint16 pixels"),
        (np.zeros((9, 9, 17), np.uint16), "is no image"),
    ):
        with pytest.raises(InvalidImageError, match=words) as raised:
            client.segment(source)
        assert "\n" not in str(raised.value)
    with (
        MaskClient(server.rest_address, model="five") as rest,
        pytest.raises(UnsupportedCallError, match="REST API reads no such numbers: use its grpc:// address"),
    ):
        rest.segment(scene)


def test_two_bands_of_floats_are_no_gray_with_alpha(two, tmp_path):
    random = np.random.default_rng(1)
    picture = random.uniform(0, 1, (33, 47, 2)).astype(np.float32)
    tifffile.imwrite(tmp_path / "radar.tif", picture, photometric="minisblack", planarconfig="contig", extratags=GEO)
    wanted = PIPELINE_OF_TWO.probability(picture)
    with EmbeddedServer(two.parent) as server:
        for address in (server.grpc_address, server.rest_address):
            with MaskClient(address, model="two") as client:
                for source in (picture, tmp_path / "radar.tif"):
                    result = client.segment(source, outputs=("mask", "class_map", "masked_image"))
                    agree(result.mask, wanted)
                    np.testing.assert_array_equal(
                        result.class_map, PIPELINE_OF_TWO.class_probabilities(picture).argmax(-1)
                    )
        result.save(tmp_path / "masked.tif", "masked_image")
        with rasterio.open(tmp_path / "masked.tif") as written:
            assert (written.count, written.dtypes[1], written.colorinterp[1].name) == (2, "float32", "undefined")
            kept = picture * result.mask[..., np.newaxis]
            np.testing.assert_array_equal(np.moveaxis(written.read(), 0, -1), kept)
        with pytest.raises(InvalidImageError, match=r"of 2 bands cannot be a \.png file"):
            result.save(tmp_path / "masked.png", "masked_image")


def test_a_large_raster_goes_by_tiles(client, tmp_path):
    random = np.random.default_rng(3)
    scene = random.integers(0, 10001, (150, 170, 5)).astype(np.uint16)
    write(tmp_path / "large.tif", scene, LAYOUTS[3], extratags=GEO)
    result = client.segment_large(
        tmp_path / "large.tif", tmp_path / "out.tif", tile=64, overlap=16, product="probability"
    )
    assert result.tiles > 4
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out.tif"), PIPELINE.probability(scene), atol=1e-5)


def test_the_commands_take_them(server, five, scene, tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for index, options in enumerate(LAYOUTS[:2]):
        write(folder / f"{index}.tif", scene[index:], options, extratags=GEO)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "photo.png")
    flags = [f"--address={server.grpc_address}", "--model=five"]
    command = [BIN / "mask-client", "segment", folder, *flags, "--product=masked_image", "--format=tif"]
    done = subprocess.run([*command, f"--out={tmp_path}/masked"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (failure,) = [line for line in done.stderr.splitlines() if "photo.png" in line]
    assert "is an encoded picture, and the model takes 5 bands" in failure
    for index in range(2):
        probability = PIPELINE.probability(scene[index:])
        kept = np.abs(probability - 0.5) > 1e-5
        written = tifffile.imread(tmp_path / f"masked/{index}.tif")
        np.testing.assert_array_equal(written[kept], (scene[index:] * (probability > 0.5)[..., np.newaxis])[kept])
    verify = [BIN / "mask-verify", *flags, f"--export_dir={five}"]
    subprocess.run(verify, capture_output=True, text=True, check=True)
    os.remove(folder / "photo.png")
    job = BatchJob([f"{folder}/*.tif"], str(tmp_path / "batch"), LocalModel(str(five)))
    with contextlib.redirect_stdout(None):
        summary = run_job(job)
    assert (summary.masked, summary.failed) == (2, 0)
    for index in range(2):
        with Image.open(tmp_path / f"batch/{index}.png") as mask:
            agree(np.asarray(mask) > 0, PIPELINE.probability(scene[index:]))


def test_the_threshold_is_calibrated_on_rasters(five, scene, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index, options in enumerate(LAYOUTS[:3]):
        part = np.roll(scene, 11 * index, axis=1)
        truth = PIPELINE.probability(part) > 0.62
        write(tmp_path / f"images/{index}.tif", part, options, np.int32 if index else None)
        Image.fromarray(truth).save(tmp_path / f"masks/{index}.png")
    np.save(tmp_path / "images/3.npy", scene)
    Image.fromarray(PIPELINE.probability(scene) > 0.62).save(tmp_path / "masks/3.png")
    spec = make_spec({"source": str(five.parent.parent / "five.keras"), "output_dir": "nowhere", **FIELDS})
    found = calibrate(spec, find_pairs(tmp_path / "images", tmp_path / "masks"))
    assert found.recommendation.threshold == pytest.approx(0.62, abs=0.01)


def test_the_report_shows_the_first_bands(five, scene, tmp_path):
    write(tmp_path / "scene.tif", scene, LAYOUTS[0])
    inspection = inspect_version(five, runs=1, with_picture=True, picture=tmp_path / "scene.tif")
    report = inspection.picture
    assert (report.height, report.width) == scene.shape[:2]
    assert report.share == pytest.approx((PIPELINE.probability(scene) > 0.5).mean(), abs=1e-3)
    assert "bands 1, 2 and 3 of 5" in report.shown[0].title
    assert len(report.shown) == 4
    assert "client.segment('bands.tif'" in inspection.calls["mask"][PYTHON]
    drawn = inspect_version(five, runs=0, with_picture=True)
    assert drawn.picture.name == "a drawn picture"
