import io
import json
import resource

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from maskport.serving.client import (
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    OutputNotRequestedError,
    decode_rle,
    encode_rle,
)
from maskport.serving.client.errors import CallContext
from maskport.serving.client.pictures.files.png import decode_png, encode_png
from maskport.serving.client.pictures.images import read_picture
from maskport.serving.client.results.mask_result import MaskResult
from maskport.serving.client.results.output import encoded_output, pixel_output
from maskport.serving.client.results.polygons import trace_polygons
from PIL import Image, ImageDraw
from pycocotools import mask as coco

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def _result(image, **products):
    picture = read_picture(image)
    outputs = {name: encoded_output(name, encode_png(array), picture) for name, array in products.items()}
    return MaskResult(picture, outputs, context=CallContext("grpc://h:1", "coins", 3), class_names=("a", "b"))


@pytest.fixture
def image():
    return np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3) * 7


@pytest.fixture
def mask():
    return np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)


@pytest.fixture
def result(image, mask):
    return _result(image, mask=mask.astype(np.uint8) * 255)


def test_a_masked_image_that_came_as_jpeg_is_written_as_it_is_and_read_as_any(image, tmp_path):
    photo = np.tile(image, (8, 8, 1))
    held = io.BytesIO()
    Image.fromarray(photo).save(held, "JPEG", quality=90)
    jpeg, picture = held.getvalue(), read_picture(photo)
    output = encoded_output("masked_image_jpeg", jpeg, picture)
    result = MaskResult(picture, {"masked_image_jpeg": output}, context=CallContext())
    for product in (None, "masked_image", "masked_image_jpeg"):
        assert result.save(tmp_path / "masked.JPG", product).read_bytes() == jpeg
        decoded = np.asarray(Image.open(result.save(tmp_path / "masked.png", product)))
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(held)))
    np.testing.assert_array_equal(result.masked_image, decoded)
    assert output.size == photo.shape[:2]
    outputs = {"masked_image": pixel_output("masked_image", photo, picture), "masked_image_jpeg": output}
    both = MaskResult(picture, outputs, context=CallContext())
    np.testing.assert_array_equal(both.masked_image, photo)
    assert both.encode(".jpg", "masked_image") == jpeg


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda jpeg: b"", "is no JPEG"),
        (lambda jpeg: jpeg[:-2], "is a JPEG that is cut off"),
        (lambda jpeg: encode_png(np.zeros((24, 32, 3), np.uint8)), "is no JPEG"),
        (lambda jpeg: jpeg.replace(b"\0\x18\0\x20", b"\0\x18\0\x21", 1), "is 24×33, the picture 24×32"),
    ],
)
def test_a_jpeg_in_the_answer_is_checked_by_its_header(image, change, problem):
    photo, held = np.tile(image, (8, 8, 1)), io.BytesIO()
    Image.fromarray(photo).save(held, "JPEG")
    with pytest.raises(InvalidResponseError, match=problem):
        encoded_output("masked_image_jpeg", change(held.getvalue()), read_picture(photo))


def test_a_jpeg_bomb_is_refused_where_the_size_that_was_sent_is_not_known(image):
    held = io.BytesIO()
    Image.fromarray(np.tile(image, (8, 8, 1))).save(held, "JPEG")
    bomb = held.getvalue().replace(b"\0\x18\0\x20", b"\xea\x60\xea\x60", 1)
    with pytest.raises(InvalidResponseError, match="claims to be 60000×60000"):
        encoded_output("masked_image_jpeg", bomb, read_picture(b"some new format"))


@pytest.mark.parametrize("full_scale", [1, 255])
def test_pixels_without_data_are_0_in_every_product(image, mask, tmp_path, full_scale):
    missing = np.zeros(mask.shape, bool)
    missing[0, 1] = missing[2, 2] = True
    picture = read_picture(np.ma.MaskedArray(image, np.repeat(missing[..., None], 3, axis=2)))
    picture.encoded()
    given = {
        "mask": mask if full_scale == 1 else mask.astype(np.uint8) * 255,
        "probability": np.full(mask.shape, 50000, np.uint16),
        "masked_image": image + 1,
        "class_map": np.ones(mask.shape, np.uint8),
    }
    outputs = {name: encoded_output(name, encode_png(array), picture) for name, array in given.items()}
    result = MaskResult(picture, outputs, context=CallContext(), class_names=("a", "b"))
    np.testing.assert_array_equal(result.mask, mask & ~missing)
    assert result.area == mask.sum() - 1
    for name, array in given.items():
        saved = decode_png(result.save(tmp_path / f"{name}.png", name).read_bytes())
        assert saved.dtype == array.dtype
        np.testing.assert_array_equal(saved.T, np.where(missing.T, 0, array.T))
    assert result.class_areas() == {"a": 2, "b": 10}


@given(MASKS)
def test_rle_is_what_pycocotools_makes(mask):
    wanted = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": list(wanted["size"]), "counts": wanted["counts"].decode()}
    np.testing.assert_array_equal(decode_rle(ours), mask)
    np.testing.assert_array_equal(coco.decode(ours), mask)


def test_rle_of_large_masks_with_long_and_short_runs_is_what_pycocotools_makes():
    rng = np.random.default_rng(5)
    mask = rng.random((300, 400)) > 0.5
    mask[:, 100:350] = True
    wanted = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == wanted["counts"].decode()
    assert coco.area(encode_rle(mask)) == mask.sum()


def test_rle_that_does_not_fill_its_size_is_refused():
    with pytest.raises(ValueError, match="do not fill 3×3"):
        decode_rle({"size": [3, 3], "counts": encode_rle(np.ones((2, 2), bool))["counts"]})


def _rasterised(polygons, shape):
    """Which pixels' middles lie inside, by Pillow on a grid eight times as fine."""
    fine = 8
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        canvas = Image.new("L", (shape[1] * fine, shape[0] * fine))
        draw = ImageDraw.Draw(canvas)
        draw.polygon([tuple(point * fine) for point in polygon.exterior], fill=1)
        for hole in polygon.holes:
            draw.polygon([tuple(point * fine) for point in hole], fill=0)
        inside |= np.array(canvas)[fine // 2 :: fine, fine // 2 :: fine] > 0
    return inside


@given(MASKS)
def test_polygons_hold_the_middle_of_every_pixel_and_no_other(mask):
    np.testing.assert_array_equal(_rasterised(trace_polygons(mask), mask.shape), mask)


def test_polygons_have_holes_and_come_largest_first():
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:12] = True
    mask[5:8, 5:8] = False
    mask[15:18, 20:22] = True
    ring, dot = trace_polygons(mask)
    assert (len(ring.holes), len(dot.holes)) == (1, 0)
    assert ring.area == pytest.approx(mask[:14].sum(), abs=5)
    assert (dot.exterior.min(axis=0).tolist(), dot.exterior.max(axis=0).tolist()) == ([20, 15], [22, 18])


def test_polygons_name_their_extra_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "contourpy", None)
    with pytest.raises(Exception, match=r"pip install 'maskport\[contours\]'"):
        trace_polygons(np.ones((2, 2), bool))


@given(MASKS)
def test_area_and_box_are_pycocotools(mask):
    result = _result(np.zeros(mask.shape, np.uint8), mask=mask.astype(np.uint8) * 255)
    wanted = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert result.area == coco.area(wanted)
    assert (list(result.bbox) if result.bbox else [0, 0, 0, 0]) == coco.toBbox(wanted).tolist()


def test_a_cutout_is_the_picture_with_the_mask_as_its_transparency(result, image, mask):
    cutout = np.array(result.cutout())
    assert cutout.shape == (3, 4, 4)
    np.testing.assert_array_equal(cutout[:, :, :3], image)
    np.testing.assert_array_equal(cutout[:, :, 3], mask * 255)


def test_an_overlay_tints_the_foreground_alone(result, image, mask):
    overlay = np.array(result.overlay((0, 200, 0), 0.5))
    np.testing.assert_array_equal(overlay[~mask], image[~mask])
    np.testing.assert_allclose(overlay[mask], (image[mask] + np.array([0, 200, 0])) / 2, atol=1.5)
    for opacity, inside in ((0, image[mask]), (1, [[0, 200, 0]] * 3)):
        np.testing.assert_array_equal(np.array(result.overlay(np.array([0, 200, 0]), opacity))[mask], inside)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"opacity": 1.5}, r"opacity=1\.5 is not from 0 to 1"),
        ({"opacity": -0.1}, r"opacity=-0\.1 is not"),
        ({"opacity": float("nan")}, "opacity=nan is not"),
        ({"colour": (0, 0, 256)}, r"colour=\(0, 0, 256\) is not red, green and blue, whole numbers from 0 to 255"),
        ({"colour": (0, 0, 0.5)}, "is not red, green and blue"),
        ({"colour": (0, 0)}, "is not red, green and blue"),
        ({"colour": "red"}, "colour='red' is not red, green and blue"),
    ],
)
def test_an_overlay_of_no_colour_or_opacity_is_refused(result, options, words):
    with pytest.raises(InvalidRequestError, match=words):
        result.overlay(**options)


def test_sixteen_bit_and_gray_pictures_can_be_looked_at(mask):
    for image in (np.full((3, 4), 4095, np.uint16), np.full((3, 4), 9, np.uint8), np.full((3, 4, 1), 1, np.uint8)):
        result = _result(image, mask=mask.astype(np.uint8) * 255)
        assert result.overlay().size == (4, 3)
        assert result.cutout().mode == "RGBA"


def test_nothing_is_decoded_that_is_not_looked_at(image, monkeypatch):
    png = bytearray(encode_png(np.zeros((3, 4), np.uint8)))
    png[45] ^= 0xFF  # the header is whole, the pixels are not
    picture = read_picture(image)
    result = MaskResult(picture, {"mask": encoded_output("mask", bytes(png), picture)}, context=CallContext())
    assert result.size == (3, 4)
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        _ = result.mask


def test_what_was_not_asked_for_is_named_with_how_to_ask(result):
    with pytest.raises(OutputNotRequestedError, match=r"outputs=\('mask', 'probability'\)") as caught:
        _ = result.probability
    assert caught.value.model == "coins"


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("bits", [1, 8])
def test_masks_are_saved_losslessly_in_the_format_of_the_ending(image, mask, tmp_path, ending, bits):
    result = _result(image, mask=mask if bits == 1 else mask.astype(np.uint8) * 255)
    assert (result.mask.dtype, result.area) == (bool, 3)
    path = result.save(tmp_path / f"mask.{ending}")
    with Image.open(path) as saved:
        assert (saved.mode == "1") == (ending == "png" and bits == 1)
        np.testing.assert_array_equal(np.array(saved.convert("L")), mask * 255)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_pngs_are_saved_as_the_server_made_them(image, mask, tmp_path, dtype):
    picture = read_picture(image)
    png = encode_png(mask if dtype is bool else mask.astype(np.uint8) * 255)
    result = MaskResult(picture, {"mask": encoded_output("mask", png, picture)}, context=CallContext())
    assert result.save(tmp_path / "mask.png").read_bytes() == png


def test_arrays_and_numbers_can_be_saved(result, mask, tmp_path):
    np.testing.assert_array_equal(np.load(result.save(tmp_path / "mask.npy")), mask)
    numbers = json.loads(result.save(tmp_path / "mask.json").read_text())
    assert (numbers["area"], numbers["bbox"], numbers["size"]) == (3, [1, 0, 2, 2], [3, 4])
    np.testing.assert_array_equal(coco.decode(numbers["rle"]), mask)


def test_other_products_are_saved_too(image, mask, tmp_path):
    probability = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    result = _result(
        image,
        mask=mask.astype(np.uint8) * 255,
        probability=probability,
        masked_image=image * mask[:, :, None],
        class_map=mask.astype(np.uint8),
    )
    with Image.open(result.save(tmp_path / "p.tif", "probability")) as saved:
        np.testing.assert_array_equal(np.array(saved), probability)
    with Image.open(result.save(tmp_path / "m.bmp", "masked_image")) as saved:
        np.testing.assert_array_equal(np.array(saved), image * mask[:, :, None])
    with Image.open(result.save(tmp_path / "c.png", "cutout")) as saved:
        assert saved.mode == "RGBA"
    with Image.open(result.save(tmp_path / "o.jpg", "overlay")) as saved:
        assert saved.size == (4, 3)
    np.testing.assert_array_equal(np.load(result.save(tmp_path / "k.npy", "class_map")), mask)
    np.testing.assert_allclose(result.probability, probability / 65535, atol=1e-6)


def test_pixels_of_pixel_signatures_are_saved_too(image, tmp_path):
    picture = read_picture(image)
    colours = image.astype(np.uint16) * 257
    outputs = {
        "mask": pixel_output("mask", (image[:, :, :1] > 100).astype(np.float32), picture),
        "masked_image": pixel_output("masked_image", colours, picture),
        "probability": pixel_output("probability", image[:, :, :1].astype(np.float32) / 255, picture),
    }
    result = MaskResult(picture, outputs, context=CallContext())
    with Image.open(result.save(tmp_path / "m.png")) as saved:
        np.testing.assert_array_equal(np.array(saved) > 0, image[:, :, 0] > 100)
    np.testing.assert_array_equal(decode_png(result.save(tmp_path / "i.png", "masked_image").read_bytes()), colours)
    np.testing.assert_array_equal(np.load(result.save(tmp_path / "i.npy", "masked_image")), colours)
    with Image.open(result.save(tmp_path / "p.tif", "probability")) as saved:
        np.testing.assert_allclose(np.array(saved) / 65535, image[:, :, 0] / 255, atol=1e-4)
    with pytest.raises(InvalidImageError, match=r"cannot be saved so; use \.png or \.npy"):
        result.save(tmp_path / "i.tif", "masked_image")
    for name in ("p.webp", "p.GIF"):
        with pytest.raises(InvalidImageError, match=r"a probability of 16 bits cannot be a .* file; use \.png"):
            result.save(tmp_path / name, "probability")


@pytest.mark.parametrize(
    ("name", "product", "error", "words"),
    [
        ("mask.jpg", None, InvalidImageError, "blurs its values; use .png"),
        ("mask.AVIF", None, InvalidImageError, "blurs its values; use .png"),
        ("cutout.jpeg", "cutout", InvalidImageError, "it has no transparency; use .png"),
        ("cutout.ppm", "cutout", InvalidImageError, "it has no transparency; use .png"),
        ("cutout.bmp", "cutout", InvalidImageError, "it has no transparency; use .png"),
        ("mask.mpo", None, InvalidImageError, "blurs its values; use .png"),
        ("mask.ico", None, InvalidImageError, "changes its size; use .png"),
        ("mask.fits", None, InvalidImageError, "unknown file extension"),
        ("mask.nope", None, InvalidImageError, "unknown file extension"),
        ("mask.png", "depth", OutputNotRequestedError, "no product 'depth'"),
        ("mask.png", "probability", OutputNotRequestedError, "holds no probability"),
    ],
)
def test_what_cannot_be_saved_is_refused(result, tmp_path, name, product, error, words):
    with pytest.raises(error, match=words):
        result.save(tmp_path / name, product)


def test_an_unwritable_place_is_an_os_error(result, tmp_path):
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "no" / "such" / "folder.bmp")


@pytest.mark.parametrize("ending", ["png", "npy", "json", "tif", "bmp", "ppm"])
def test_a_disk_without_room_for_the_end_is_an_error(result, tmp_path, ending):
    size = result.save(tmp_path / f"whole.{ending}").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            result.save(tmp_path / f"mask.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("ending", ["png", "npy", "json", "tif", "bmp", "webp", "ppm", "jp2"])
def test_a_full_disk_is_called_so(result, tmp_path, ending):
    (tmp_path / f"mask.{ending}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / f"mask.{ending}")


@pytest.mark.parametrize(
    ("product", "array"),
    [
        ("mask", np.zeros((3, 4, 3), np.uint8)),
        ("mask", np.zeros((3, 4), np.uint16)),
        ("probability", np.zeros((3, 4), np.uint8)),
        ("class_map", np.zeros((3, 4, 4), np.uint8)),
    ],
)
def test_a_png_of_another_kind_is_refused(image, product, array):
    with pytest.raises(InvalidResponseError, match=f"the {product} in the answer is a PNG of"):
        encoded_output(product, encode_png(array), read_picture(image))


def test_a_png_bomb_is_refused_by_its_header(image):
    bomb = bytearray(encode_png(np.zeros((3, 4), np.uint8)))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidResponseError, match="60000×60000, the picture 3×4"):
        encoded_output("mask", bytes(bomb), read_picture(image))
    # Also where the size that was sent is not known here.
    with pytest.raises(InvalidResponseError, match="claims to be 60000×60000"):
        encoded_output("mask", bytes(bomb), read_picture(b"some new format"))


def test_a_png_that_was_cut_off_is_refused_before_it_is_saved(image):
    whole = encode_png(np.zeros((3, 4), np.uint8))
    for length in (33, len(whole) - 12, len(whole) - 1):
        with pytest.raises(InvalidResponseError, match="the mask in the answer is a PNG that is cut off"):
            encoded_output("mask", whole[:length], read_picture(image))


def test_large_masks_of_large_pictures_are_decoded_without_a_warning():
    # Beyond what Pillow's own guard lets pass, as the picture was as large.
    tall = np.zeros((9500, 9500), np.uint8)
    tall[-1, -1] = 255
    picture = read_picture(tall)
    result = MaskResult(picture, {"mask": encoded_output("mask", encode_png(tall), picture)}, context=CallContext())
    assert result.area == 1


def test_pixels_of_another_size_are_refused(image):
    picture = read_picture(image)
    assert pixel_output("mask", np.zeros((3, 4, 1), np.float32), picture)
    with pytest.raises(InvalidResponseError, match="the mask in the answer is 4×3×1, the picture 3×4"):
        pixel_output("mask", np.zeros((4, 3, 1), np.float32), picture)


def test_a_result_reads_well(result):
    assert repr(result) == "<MaskResult of an image, 3×4: mask>"
    assert io.StringIO(str(result)).read()
