"""Large pictures by tiles: equal to one call on the whole, in bounded memory."""

import asyncio
import errno
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from typing import ClassVar

import numpy as np
import pytest
import rasterio
import rasterio.transform
import tifffile
from any_client import make_client
from fake_serving import FLOAT, STRING, UINT8, FakeModel, FakeServing, refuse
from hypothesis import given, strategies as st
from maskport.serving.client import (
    AsyncMaskClient,
    InvalidImageError,
    InvalidRequestError,
    MaskServingError,
    ModelNotFoundError,
    ServerFaultError,
    SignatureNotFoundError,
)
from maskport.serving.client.pictures.rasters import open_sink
from maskport.serving.client.pictures.tiling import Mosaic, Tile, cut


def local_probability(pixels, radius):
    """A model that looks `radius` pixels far, and treats its input's edges as models do: beyond them is 0.

    Sums are made in the same order for every pixel, so that the same surroundings give the same float.
    """
    plane = np.asarray(pixels, np.float32).mean(axis=-1, dtype=np.float32) / np.float32(255)
    padded = np.pad(plane, radius)
    total = np.zeros_like(plane)
    height, width = plane.shape
    for down in range(2 * radius + 1):
        for along in range(2 * radius + 1):
            weight = np.float32(1 + (down * 7 + along * 3) % 5)
            total += weight * padded[down : down + height, along : along + width]
    return total / np.float32(3 * (2 * radius + 1) ** 2 + 2)


class LocalModel(FakeModel):
    """Gives probabilities of `local_probability`."""

    radius = 3
    signatures: ClassVar = {
        "probability": ({"image": (UINT8, [-1, -1, -1, 3])}, {"probability": (FLOAT, [-1, -1, -1, 1])}),
        "probability_png": (
            {"image_bytes": (STRING, [-1])},
            {"probability_bytes": (STRING, [-1]), "error": (STRING, [-1])},
        ),
        "export_info": ({"query": (STRING, [-1])}, {"info": (STRING, [-1])}),
    }

    def __init__(self):
        self.info = {
            "threshold": 0.5,
            "spec": {"model_size": None, "resize": "stretch", "pad_to_multiple": 16, "clean": {"open": 0, "close": 0}},
            "model": {"size": None},
        }

    def predict(self, signature, inputs):
        if signature == "probability":
            images = np.asarray(inputs["image"], np.uint8)
            return {"probability": np.stack([local_probability(i, self.radius) for i in images])[..., None]}
        return super().predict(signature, inputs)


@pytest.fixture(scope="module")
def large_serving():
    with FakeServing(LocalModel()) as serving:
        yield serving


@pytest.fixture
def local(large_serving):
    large_serving.model = LocalModel()
    large_serving.requests.clear()
    large_serving.behaviours.clear()
    large_serving.version = 7
    return large_serving


@pytest.fixture
def image():
    """230×310 pixels of smooth blobs and noise, about half of them bright."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[:230, :310]
    waves = 127 + 90 * np.sin(rows / 9)[..., None] * np.cos(columns / 13)[..., None]
    return np.clip(waves + rng.normal(0, 30, (230, 310, 3)), 0, 255).astype(np.uint8)


@given(length=st.integers(1, 700), tile=st.integers(10, 200), overlap=st.integers(0, 60))
def test_tiles_cover_a_side_and_share_what_they_should(length, tile, overlap):
    overlap = min(overlap, (tile - 1) // 2)
    spans = cut(length, tile, overlap)
    assert (spans[0].start, spans[-1].stop) == (0, length)
    assert all(len(span) <= tile for span in spans)
    for earlier, later in itertools.pairwise(spans):
        assert len(earlier) == tile
        assert earlier.stop - later.start == 2 * overlap
        assert len(later) > 2 * overlap


def _put_together(shape, overlap, given):
    """The plane of tiles; every pixel of it must be given exactly once."""
    mosaic = Mosaic(shape, overlap)
    plane, times = np.full(shape, np.nan, np.float32), np.zeros(shape, int)
    for tile, values in given:
        piece, finished = mosaic.add(tile, values)
        where = np.s_[piece.rows.start : piece.rows.stop, piece.columns.start : piece.columns.stop]
        plane[where] = finished
        times[where] += 1
    assert (times == 1).all()
    return plane


@given(height=st.integers(1, 90), width=st.integers(1, 90), tile=st.integers(8, 40), overlap=st.integers(0, 19))
def test_tiles_of_one_plane_give_it_back_exactly(height, width, tile, overlap):
    overlap = min(overlap, (tile - 1) // 2)
    plane = np.random.default_rng(height * width).random((height, width), np.float32)
    given = [
        (Tile(row, column), plane[row.start : row.stop, column.start : column.stop])
        for row in cut(height, tile, overlap)
        for column in cut(width, tile, overlap)
    ]
    np.testing.assert_array_equal(_put_together((height, width), overlap, given), plane)


def test_what_tiles_disagree_on_is_blended_without_a_step():
    overlap, tile = 16, 64
    for shape in ((5, 150), (150, 5)):
        places = [Tile(row, column) for row in cut(shape[0], tile, overlap) for column in cut(shape[1], tile, overlap)]
        given = [
            (place, np.full((len(place.rows), len(place.columns)), index, np.float32))
            for index, place in enumerate(places)
        ]
        line = _put_together(shape, overlap, given).max(axis=int(np.argmin(shape)))
        steps = np.diff(line)
        assert (line[0], line[-1]) == (0, len(places) - 1)
        assert len(places) > 3
        assert steps.min() >= 0
        assert steps.max() <= 1 / overlap + 1e-6


def test_the_edges_of_tiles_where_models_are_wrong_do_not_count():
    overlap, tile = 16, 64
    given = []
    for row in cut(160, tile, overlap):
        for column in cut(160, tile, overlap):
            wrong = np.ones((len(row), len(column)), np.float32)
            half = overlap // 2
            wrong[
                (half if row.start else 0) : len(row) - (half if row.stop < 160 else 0),
                (half if column.start else 0) : len(column) - (half if column.stop < 160 else 0),
            ] = 0
            given.append((Tile(row, column), wrong))
    assert not _put_together((160, 160), overlap, given).any()


@pytest.mark.parametrize("kind", ["sync-grpc", "async-grpc", "sync-rest"])
def test_the_result_is_that_of_one_call(kind, local, image, tmp_path):
    if kind.endswith("rest"):
        image = image[:130, :150]  # numbers in JSON take their time
    wanted = local_probability(image, LocalModel.radius)
    assert 0.1 < (wanted > 0.5).mean() < 0.9
    with make_client(kind, local) as client:
        for options in ({"tile": 96, "overlap": 32}, {"tile": 128, "overlap": 32, "concurrency": 1}):
            result = client.segment_large(image, tmp_path / "p.npy", product="probability", **options)
            np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), wanted)
            assert (result.shape, result.threshold, result.area) == (image.shape[:2], None, None)
            assert result.tiles > 3
        for threshold in (None, 0.62):
            result = client.segment_large(image, tmp_path / "m.npy", threshold, tile=96, overlap=32)
            mask = np.load(tmp_path / "m.npy")
            np.testing.assert_array_equal(mask, (wanted > np.float32(threshold or 0.5)) * np.uint8(255))
            assert (result.area, result.threshold) == (np.count_nonzero(mask), threshold or 0.5)
    assert {signature for signature, _ in local.requests} == {"export_info", "probability"}


def test_a_model_that_looks_as_far_as_the_overlap_is_still_exact(local, image, tmp_path):
    local.model.radius = 15  # a field of 31 pixels, below the overlap of 32
    with make_client("sync-grpc", local) as client:
        client.segment_large(image, tmp_path / "p.npy", product="probability", tile=160, overlap=32)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), local_probability(image, 15))


def test_the_tiles_lie_on_the_grid_that_the_model_wants(local, image, tmp_path):
    local.model.info["spec"]["pad_to_multiple"] = 24
    with make_client("sync-grpc", local) as client:
        client.segment_large(image, tmp_path / "m.npy", tile=200, overlap=10)
    sent = [inputs["image"].shape[1:3] for signature, inputs in local.requests if signature == "probability"]
    # 96 is the least common multiple of 24 and 32: tiles of three times that, each twice that from the last.
    assert sorted(sent) == [(230, 118), (230, 288)]


@pytest.fixture(params=["array", "memmap", "changed memmap", "npy", "tiled tif", "strips tif", "deflated tif"])
def source(request, image, tmp_path):
    if request.param == "array":
        return image
    if request.param == "npy":
        np.save(tmp_path / "image.npy", image)
        return tmp_path / "image.npy"
    if request.param == "changed memmap":  # which the file knows nothing of, and which stays to the caller
        np.memmap(tmp_path / "image.raw", np.uint8, "w+", shape=image.shape).flush()
        mapped = np.memmap(tmp_path / "image.raw", np.uint8, "c", shape=image.shape)
        mapped[:] = image
        return mapped
    if request.param == "memmap":
        mapped = np.memmap(tmp_path / "image.raw", np.uint8, "w+", shape=image.shape)
        mapped[:] = image
        return mapped
    options = {
        "tiled tif": {"tile": (64, 48)},
        "strips tif": {"rowsperstrip": 7},
        "deflated tif": {"tile": (64, 64), "compression": "zlib", "predictor": False},
    }[request.param]
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb", **options)
    return tmp_path / "image.tif"


def test_pictures_come_from_files_and_arrays(source, local, image, tmp_path):
    wanted = (local_probability(image, LocalModel.radius) > 0.5) * np.uint8(255)
    with make_client("sync-grpc", local) as client:
        client.segment_large(source, tmp_path / "mask.npy", tile=96, overlap=32)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), wanted)
    if isinstance(source, np.ndarray):
        np.testing.assert_array_equal(source, image)


@pytest.mark.parametrize("product", ["mask", "probability"])
def test_results_go_to_files_and_arrays(product, local, image, tmp_path):
    probability = local_probability(image, LocalModel.radius)
    wanted = (probability > 0.5) * np.uint8(255) if product == "mask" else probability
    mapped = np.memmap(tmp_path / "out.raw", wanted.dtype, "w+", shape=wanted.shape)
    with make_client("sync-grpc", local) as client:
        for out in (tmp_path / "out.tif", tmp_path / "out.npy", np.empty_like(wanted), mapped):
            result = client.segment_large(image, out, product=product, tile=96, overlap=32)
            assert result.out is out
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), wanted)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.pages[0].is_tiled
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)
    np.testing.assert_array_equal(np.memmap(tmp_path / "out.raw", wanted.dtype, "r", shape=wanted.shape), wanted)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_gray_tiles_go_encoded_to_a_model_of_colour(local, image, tmp_path):
    gray = image[:, :, 0]
    with make_client("sync-grpc", local) as client:
        client.segment_large(gray, tmp_path / "p.npy", product="probability", tile=96, overlap=32)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), gray / 255, atol=1 / 65535)
    assert {signature for signature, _ in local.requests} == {"export_info", "probability_png"}


def test_a_server_that_batches_gets_encoded_tiles(local, image, tmp_path):
    words = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
    with make_client("sync-grpc", local) as client:
        local.behaviours += [_as_it_is, refuse("FAILED_PRECONDITION", words)]
        client.segment_large(image, tmp_path / "p.npy", product="probability", tile=400)
    assert [signature for signature, _ in local.requests][-2:] == ["probability", "probability_png"]


def test_progress_is_told(local, image, tmp_path):
    told = []
    with make_client("sync-grpc", local) as client:
        client.segment_large(
            image, tmp_path / "m.npy", tile=128, overlap=32, progress=lambda done, total: told.append((done, total))
        )
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


def test_a_letterbox_model_gets_whole_tiles_of_its_own_size(local, image, tmp_path):
    local.model.info["spec"] |= {"model_size": [96, 128], "resize": "letterbox"}
    with make_client("sync-grpc", local) as client:
        client.segment_large(image, tmp_path / "p.npy", product="probability", overlap=16)
    sizes = {inputs["image"].shape for signature, inputs in local.requests if signature == "probability"}
    assert sizes == {(1, 96, 128, 3)}
    inner = np.s_[:180, :250]
    wanted = local_probability(image, LocalModel.radius)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy")[inner], wanted[inner])


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ({"model_size": [96, 96]}, {}, "stretches every picture to one size"),
        ({"model_size": {"shortest": 96, "longest": None}}, {}, "resizes every picture by its sides"),
        ({"clean": {"open": 2, "close": 0}}, {}, "cleans its masks"),
        ({"max_model_pixels": 10_000}, {"tile": 128, "overlap": 16}, "larger than the model's 10000 pixels"),
        ({}, {"tile": 64, "overlap": 32}, "nothing but overlap"),
        ({}, {"tile": 0}, "tile=0"),
        ({}, {"overlap": -1}, "overlap=-1"),
        ({}, {"concurrency": 0}, "concurrency=0"),
        ({}, {"product": "masked_image"}, "no product 'masked_image' of large pictures"),
        ({}, {"threshold": 2}, "not from 0 to 1"),
        ({}, {"threshold": 0.5, "product": "probability"}, "has no meaning"),
    ],
)
@pytest.mark.parametrize("kind", ["sync-grpc", "async-rest"])
def test_what_makes_no_sense_is_refused(kind, local, image, tmp_path, spec, options, words):
    local.model.info["spec"] |= spec
    with make_client(kind, local) as client, pytest.raises(InvalidRequestError, match=words):
        client.segment_large(image, tmp_path / "m.npy", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_was_not_exported_by_us_is_refused(local, image, tmp_path):
    local.model.signatures = {"probability": LocalModel.signatures["probability"]}
    with make_client("sync-grpc", local) as client, pytest.raises(SignatureNotFoundError, match="maskport export"):
        client.segment_large(image, tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("photo.png", "m.npy", "photo.png cannot be read by pieces"),
        (np.zeros((4, 4), np.int64), "m.npy", "int64 is no image"),
        (np.zeros((4, 4, 19), np.uint8), "m.npy", "is no image"),
        (np.zeros((4, 4, 9), np.uint8), "m.npy", "holds 9 channels .*, and the model takes 3; choose them"),
        (17, "m.npy", "int cannot be read by pieces"),
        (np.zeros((4, 4), np.uint8), "m.png", "m.png cannot be written by pieces"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), r"it must be \[4, 4\] of uint8"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), r"\[4, 4\] of bool"),
        (np.zeros((4, 4), np.uint8), None, "NoneType cannot be written"),
    ],
)
def test_sources_and_outputs_that_do_not_fit_are_refused(local, tmp_path, monkeypatch, source, out, words):
    monkeypatch.chdir(tmp_path)
    with make_client("sync-grpc", local) as client, pytest.raises(InvalidImageError, match=words):
        client.segment_large(source, out)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_not_written_over(local, image, tmp_path):
    np.save(tmp_path / "image.npy", image)
    with make_client("sync-grpc", local) as client, pytest.raises(InvalidRequestError, match="the picture itself"):
        client.segment_large(tmp_path / "image.npy", tmp_path / "image.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), image)


def _as_it_is(signature, inputs):
    """A behaviour: none."""


@pytest.mark.parametrize("kind", ["sync-grpc", "async-rest"])
def test_each_picture_is_masked_as_the_version_of_its_time_wants(kind, local, image, tmp_path):
    image = image[:100, :120]
    with make_client(kind, local) as client:
        for version, threshold in ((7, 0.5), (8, 0.2)):
            local.version = version
            local.model.info["threshold"] = threshold
            result = client.segment_large(image, tmp_path / "m.npy", tile=96, overlap=32)
            assert result.threshold == threshold
            wanted = local_probability(image, LocalModel.radius) > threshold
            np.testing.assert_array_equal(np.load(tmp_path / "m.npy") > 0, wanted)


@pytest.mark.parametrize("kind", ["sync-grpc", "async-rest"])
def test_tiles_are_never_of_two_versions(kind, local, image, tmp_path):
    def swap(signature, inputs):
        local.version = 8

    with make_client(kind, local) as client:
        local.behaviours += [_as_it_is, _as_it_is, swap]
        with pytest.raises(ModelNotFoundError, match="all tiles by the one that is there"):
            client.segment_large(image[:130, :150], tmp_path / "m.npy", tile=96, overlap=32, concurrency=1)
        assert list(tmp_path.iterdir()) == []
        client.segment_large(image[:130, :150], tmp_path / "m.npy", tile=96, overlap=32)


def test_cancelled_while_it_opens_its_files_it_leaves_none_of_them(monkeypatch, local, image, tmp_path):
    begun, goes_on = threading.Event(), threading.Event()

    def open_late(*args, **options):
        begun.set()
        goes_on.wait()
        return open_sink(*args, **options)

    monkeypatch.setattr("maskport.serving.client.segmenting.large.open_sink", open_late)

    async def run():
        async with AsyncMaskClient(local.grpc_address, "model") as client:
            task = asyncio.create_task(client.segment_large(image, tmp_path / "m.npy", tile=96, overlap=32))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, goes_on.set)
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sync-grpc", "async-grpc"])
@pytest.mark.parametrize("ending", ["npy", "tif"])
def test_a_failure_in_the_middle_leaves_nothing_behind(kind, local, image, tmp_path, ending):
    with make_client(kind, local) as client:
        local.behaviours += [_as_it_is] * 5 + [refuse("INTERNAL", "out of order")]
        with pytest.raises(ServerFaultError, match="out of order"):
            client.segment_large(image, tmp_path / f"m.{ending}", tile=96, overlap=32)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_of_another_size_is_refused(local, image, tmp_path):
    with make_client("sync-grpc", local) as client:
        wrong = {"probability": np.zeros((1, 2, 2, 1), np.float32)}
        local.behaviours += [_as_it_is, lambda signature, inputs: wrong]  # after the model's info
        with pytest.raises(MaskServingError, match="no probability of shape"):
            client.segment_large(image, tmp_path / "m.npy", tile=96, overlap=32)


def test_a_damaged_tiff_is_an_invalid_image(local, image, tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[3]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    with make_client("sync-grpc", local) as client, pytest.raises(InvalidImageError, match="cannot be decoded"):
        client.segment_large(path, tmp_path / "m.npy", tile=96, overlap=32)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # inside rasterio
@pytest.mark.parametrize("product", ["mask", "probability"])
def test_what_is_made_of_a_geotiff_lies_at_its_place_and_has_no_data_where_that_has_none(
    product, local, image, tmp_path
):
    image[:40, :60] = 0
    with rasterio.open(
        tmp_path / "image.tif", "w", driver="GTiff", height=230, width=310, count=3, dtype="uint8", nodata=0,
        crs="EPSG:32633", transform=rasterio.transform.from_origin(500_000, 5_000_000, 10, 10), tiled=True,
        blockxsize=64, blockysize=64,
    ) as written:  # fmt: skip
        written.write(np.moveaxis(image, 2, 0))
    with make_client("sync-grpc", local) as client:
        client.segment_large(
            tmp_path / "image.tif", tmp_path / "out.tif", 0.0 if product == "mask" else None,
            product=product, tile=96, overlap=32,
        )  # fmt: skip
    probability = local_probability(image, LocalModel.radius)
    wanted = (probability > 0) * np.uint8(255) if product == "mask" else probability
    missing = (image == 0).all(axis=2)
    assert missing.sum() >= 2400
    assert wanted[missing].any()
    with rasterio.open(tmp_path / "image.tif") as given, rasterio.open(tmp_path / "out.tif") as made:
        assert (made.crs, made.transform, made.bounds) == (given.crs, given.transform, given.bounds)
        assert made.nodata == 0
        np.testing.assert_array_equal(made.read(1), np.where(missing, 0, wanted))


def test_pages_and_bands_are_chosen(local, image, tmp_path):
    local.model.info["model"]["channels"] = 3
    stack = np.stack([255 - image, image])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="rgb")
    six = np.dstack([image[..., ::-1], 255 - image])
    tifffile.imwrite(tmp_path / "six.tif", six, photometric="minisblack", planarconfig="contig")
    wanted = local_probability(image, LocalModel.radius)
    with make_client("sync-grpc", local) as client:
        options = {"product": "probability", "tile": 96, "overlap": 32}
        for source, choice in (
            (tmp_path / "stack.tif", {"page": 2}),
            (tmp_path / "six.tif", {"bands": (3, 2, 1)}),
            (six, {"bands": [3, 2, 1]}),
        ):
            client.segment_large(source, tmp_path / "p.npy", **options, **choice)
            np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), wanted)
        with pytest.raises(InvalidImageError, match=r"holds 2 pictures: 1: 230×310 of 3 × 8 bits, 2: .*page="):
            client.segment_large(tmp_path / "stack.tif", tmp_path / "no.npy")
        with pytest.raises(InvalidImageError, match=r"6 channels .* the model takes 3; .* bands=\(1, 2, 3\)"):
            client.segment_large(tmp_path / "six.tif", tmp_path / "no.npy")
        with pytest.raises(InvalidRequestError, match="counted from 1"):
            client.segment_large(tmp_path / "six.tif", tmp_path / "no.npy", bands=(0, 1, 2))
    assert not (tmp_path / "no.npy").exists()


@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.uint32])
def test_integers_of_any_width_are_taken_by_their_values(dtype, local, image, tmp_path):
    tifffile.imwrite(tmp_path / "wide.tif", image.astype(dtype), photometric="rgb", rowsperstrip=50)
    with make_client("sync-grpc", local) as client:
        client.segment_large(tmp_path / "wide.tif", tmp_path / "p.npy", product="probability", tile=96, overlap=32)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), local_probability(image, LocalModel.radius))


def test_masked_pixels_are_not_foreground(local, image, tmp_path):
    masked = np.ma.MaskedArray(image, np.zeros(image.shape, bool))
    masked[100:160, 90:200] = np.ma.masked
    sent = masked.filled(0)
    wanted = (local_probability(sent, LocalModel.radius) > 0.3) & ~masked.mask[..., 0]
    with make_client("sync-grpc", local) as client:
        client.segment_large(masked, tmp_path / "m.npy", 0.3, tile=96, overlap=32)
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy") > 0, wanted)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((80, 90), 300, np.uint16), "up to 300 of 65535: black to the model, which takes 8 bits"),
        (np.full((80, 90), 0.5, np.float32), "holds float32, and the model takes uint8 pixels; scale it"),
        (np.full((80, 90), 70_000, np.int32), "int32 .*70000.*outside 0..65535|int32 is no image"),
    ],
)
@pytest.mark.parametrize("form", ["array", "tif"])
def test_values_that_the_model_would_see_as_black_are_refused(array, words, form, local, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", array)
    source = array if form == "array" else tmp_path / "image.tif"
    with make_client("sync-grpc", local) as client, pytest.raises(InvalidImageError, match=words):
        client.segment_large(source, tmp_path / "m.npy")
    assert not (tmp_path / "m.npy").exists()


def test_pieces_are_written_whole_where_the_disk_takes_them_in_parts(monkeypatch, local, image, tmp_path):
    """A disk that fills up takes a part of a write, and says how much."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[: max(1, len(data) // 3)], at))
    with make_client("sync-grpc", local) as client:
        for ending in ("npy", "tif"):
            client.segment_large(image, tmp_path / f"p.{ending}", product="probability", tile=96, overlap=32)
    wanted = local_probability(image, LocalModel.radius)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), wanted)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "p.tif"), wanted)


def test_a_full_disk_is_said_and_leaves_nothing(monkeypatch, local, image, tmp_path):
    def refuse_to_write(file, data, at):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse_to_write)
    with make_client("sync-grpc", local) as client, pytest.raises(OSError, match="No space left"):
        client.segment_large(image, tmp_path / "m.npy", tile=96, overlap=32)
    assert list(tmp_path.iterdir()) == []


_WIDE = """
import sys
import numpy as np
from maskport.serving.client import MaskClient

address, folder, form = sys.argv[1:]
out = f"{folder}/out.{'tif' if form == 'tif' else 'npy'}"
source = np.load(f"{folder}/wide.npy", mmap_mode="r") if form == "array" else f"{folder}/wide.{form}"
with MaskClient(address, "model") as client:
    result = client.segment_large(source, out, timeout=300)
# Not ru_maxrss, which remembers the parent's memory from before exec.
with open("/proc/self/status") as status:
    print(int(status.read().partition("VmHWM:")[2].split()[0]) / 1024)
"""


class _QuickModel(LocalModel):
    """Costs next to nothing: the answer is the first channel."""

    def predict(self, signature, inputs):
        if signature == "probability":
            return {"probability": np.asarray(inputs["image"], np.float32)[..., :1] / np.float32(255)}
        return super().predict(signature, inputs)


@pytest.mark.parametrize("form", ["array", "npy", "tif"])
def test_memory_is_bounded_by_a_row_of_tiles(local, tmp_path, form):
    """20,000 pixels wide; how high it is does not matter, as only one row of tiles is held."""
    local.model = _QuickModel()
    height, width = 1800, 20_000
    wide = np.lib.format.open_memmap(tmp_path / "wide.npy", "w+", np.uint8, (height, width, 3))
    wide[::2] = 255
    wide.flush()
    if form == "tif":
        has_nodata = (42113, 2, None, "0", True)
        tifffile.imwrite(
            tmp_path / "wide.tif", wide, photometric="rgb", tile=(256, 256), compression="zlib", extratags=[has_nodata]
        )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_WIDE), local.grpc_address, str(tmp_path), form],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = tifffile.imread(tmp_path / "out.tif") if form == "tif" else np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(made, np.asarray(wide[:, :, 0]))
    assert float(done.stdout) < 300
    print("peak MB:", done.stdout)
