"""Decoding in the graph against Pillow, and bytes that no decoder should get to see."""

import io
import itertools
import re

import numpy as np
import pytest
import reference
import tensorflow as tf
from maskport.export.graph.files.decoding import Decoder
from maskport.export.graph.maps.geometry import AtImageSize, Letterbox, Stretch
from maskport.export.spec import make_spec
from maskport.serving.client.pictures.files.headers import read_header
from PIL import Image, ImageOps
from skimage import data


def encode(picture, image_format, **options):
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PHOTO = Image.fromarray(data.astronaut()).resize((90, 61))
GRAY = Image.fromarray(data.coins()).resize((64, 47))
RGBA = PHOTO.copy()
RGBA.putalpha(GRAY.resize(PHOTO.size))
SIXTEEN_BITS = (np.arange(40 * 30, dtype=np.uint16) * 54).reshape(40, 30)

KINDS = {
    "jpeg": encode(PHOTO, "JPEG"),
    "jpeg progressive": encode(PHOTO, "JPEG", progressive=True, quality=95),
    "jpeg 4:4:4": encode(PHOTO, "JPEG", subsampling=0),
    "jpeg 4:2:2": encode(PHOTO, "JPEG", subsampling=1),
    "jpeg gray": encode(GRAY, "JPEG"),
    "jpeg cmyk": encode(PHOTO.convert("CMYK"), "JPEG"),
    "png rgb": encode(PHOTO, "PNG"),
    "png rgba": encode(RGBA, "PNG"),
    "png gray": encode(GRAY, "PNG"),
    "png gray alpha": encode(RGBA.convert("LA"), "PNG"),
    "png 1 bit": encode(GRAY.convert("1"), "PNG"),
    "png palette": encode(PHOTO.convert("P"), "PNG"),
    "png palette 4 bits": encode(PHOTO.quantize(16), "PNG", bits=4),
    "png palette transparency": encode(PHOTO.quantize(16), "PNG", transparency=3),
    "png gray transparency": encode(GRAY, "PNG", transparency=100),
    "png rgb transparency": encode(PHOTO, "PNG", transparency=PHOTO.getpixel((3, 3))),
    "bmp rgb": encode(PHOTO, "BMP"),
    "bmp palette": encode(PHOTO.convert("P"), "BMP"),
    "bmp rgba": encode(RGBA, "BMP"),
    "webp": encode(PHOTO, "WEBP"),
    "webp lossless alpha": encode(RGBA, "WEBP", lossless=True),
}
RAMP = Image.new("P", PHOTO.size)
RAMP.putpalette([level for level in range(16) for _ in range(3)])
# An index that the palette has no colour for.
KINDS |= {
    "bmp short palette": encode(PHOTO.quantize(16), "BMP")[:-40] + bytes([117] * 40),
    "bmp short palette of its own indices": encode(RAMP, "BMP")[:-40] + bytes([117] * 40),
}
KINDS |= {
    f"{name} orientation {value}": encode(PHOTO, name.upper(), exif=with_orientation(value))
    for name in ("jpeg", "png", "webp")
    for value in range(1, 9)
}


def make_decoder(channels=3, max_pixels=50_000_000, edge=None, **fields):
    """Returns a decoder's graph for a model at image size, or for one of edge × edge pixels."""
    spec = make_spec({"source": "model.keras", "output_dir": "models", **fields})
    geometry = Stretch((edge, edge), spec.antialias) if edge else AtImageSize(1, max_pixels)
    decoder = Decoder(spec, channels, geometry)
    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.bool)]
    decode = tf.function(decoder.decode, input_signature=signature, autograph=False)
    return lambda file, is_for_model=True: decode(file, is_for_model)


@pytest.fixture(scope="module")
def decode():
    decoders = {}

    def decode(file, channels=3, **fields):
        key = (channels, *fields.items())
        if key not in decoders:
            decoders[key] = make_decoder(channels, **fields)
        picture = decoders[key](file)
        return picture.image.numpy(), float(picture.full_scale), picture.error.numpy().decode("ascii")

    return decode


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (4, "RGBA")])
def test_every_kind_of_file_has_the_pixels_that_pillow_gives(decode, kind, channels, mode):
    image, full_scale, error = decode(KINDS[kind], channels)
    assert error == ""
    assert full_scale == 255
    np.testing.assert_array_equal(image, reference.open_upright(KINDS[kind], mode))


@pytest.mark.parametrize("kind", KINDS)
def test_gray_models_get_the_file_as_gray_or_as_rgb(decode, kind):
    image, _, error = decode(KINDS[kind], channels=1)
    assert error == ""
    is_gray_file = "gray" in kind or "1 bit" in kind
    mode = "L" if is_gray_file else "RGB"
    expected = reference.open_upright(KINDS[kind], "LA" if "gray alpha" in kind else mode)
    np.testing.assert_array_equal(image, expected[..., :1] if is_gray_file else expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_keeps_its_bits_only_where_input_max_is_above_255(decode, channels):
    file = encode(Image.fromarray(SIXTEEN_BITS), "PNG")
    image, full_scale, error = decode(file, channels, image_dtype="uint16", input_max=4095)
    assert (error, image.dtype, full_scale) == ("", np.uint16, 4095)
    np.testing.assert_array_equal(image[..., 0], SIXTEEN_BITS)
    image, full_scale, error = decode(file, channels)
    assert (error, image.dtype, full_scale) == ("", np.uint8, 255)
    np.testing.assert_array_equal(image[..., 0], SIXTEEN_BITS >> 8)
    image, full_scale, _ = decode(KINDS["png gray"], channels, image_dtype="uint16", input_max=4095)
    assert (image.dtype, full_scale) == (np.uint16, 255)
    np.testing.assert_array_equal(image[..., 0], np.asarray(GRAY))


JPEG, PNG, WEBP = KINDS["jpeg"], KINDS["png rgb"], KINDS["webp"]
TURNED = [PHOTO.rotate(90)]
BAD = {
    "empty": (b"", "empty"),
    "text": (b"not a picture", "unknown format"),
    "gif": (encode(PHOTO, "GIF"), "unknown format"),
    "tiff": (encode(PHOTO, "TIFF"), "unknown format"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "truncated png": (PNG[: len(PNG) // 2], "cannot be decoded"),
    "truncated webp": (WEBP[: len(WEBP) // 2], "cannot be decoded"),
    "truncated bmp": (KINDS["bmp rgb"][:2000], "cannot be decoded"),
    "flipped png": (PNG[:200] + bytes([PNG[200] ^ 255]) + PNG[201:], "cannot be decoded"),
    "jpeg cmyk without adobe's mark": (
        re.sub(rb"\xff\xee\x00\x0eAdobe.{7}", b"", KINDS["jpeg cmyk"], flags=re.DOTALL),
        "cannot be decoded: unsupported kind",
    ),
    "only a jpeg's first bytes": (b"\xff\xd8\xff", "cannot be decoded"),
    "only a png's first bytes": (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
    "only a bmp's first bytes": (b"BM", "cannot be decoded"),
    "only a webp's first bytes": (b"RIFF\0\0\0\0WEBP", "cannot be decoded"),
    "animated png": (encode(PHOTO, "PNG", save_all=True, append_images=TURNED), "cannot be decoded: animated"),
    "animated webp": (encode(PHOTO, "WEBP", save_all=True, append_images=TURNED), "cannot be decoded: animated"),
    "1-bit bmp": (encode(GRAY.convert("1"), "BMP"), "cannot be decoded"),
    "run-length bmp": (
        KINDS["bmp palette"][:30] + (1).to_bytes(4, "little") + KINDS["bmp palette"][34:],
        "cannot be decoded",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_reported_and_give_no_pixels(decode, name):
    file, reason = BAD[name]
    image, _, error = decode(file)
    assert error.startswith(reason)
    assert image.size == 0
    assert decode(file, edge=7)[2] == error


JPEGS = [kind for kind in KINDS if kind.startswith("jpeg")]
RATIOS = {11: 2, 5: 4, 2: 8}
"""By the edge of a model: at which 1/ratio these pictures are decoded, so that twice the edge is left."""


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("edge", RATIOS)
def test_a_jpeg_that_only_a_small_model_sees_is_decoded_at_the_scale_that_pillow_drafts(decode, kind, edge):
    with Image.open(io.BytesIO(KINDS[kind])) as picture:
        whole = max(picture.size)
        picture.draft(None, tuple(length // RATIOS[edge] for length in picture.size))
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert max(expected.shape) == -(-whole // RATIOS[edge])
    image, _, error = decode(KINDS[kind], edge=edge)
    assert error == ""
    np.testing.assert_array_equal(image, expected)


def test_a_jpeg_is_decoded_whole_where_it_is_shown_and_where_the_spec_says_so(decode):
    shown = make_decoder(edge=2)(JPEG, is_for_model=False).image
    for image in (shown, decode(JPEG, edge=2, decode="exact")[0], decode(JPEG, edge=2, antialias=False)[0]):
        np.testing.assert_array_equal(image, reference.open_upright(JPEG, "RGB"))


@pytest.mark.parametrize("kind", ["png rgb", "bmp rgb", "webp"])
def test_what_is_no_jpeg_is_decoded_whole(decode, kind):
    np.testing.assert_array_equal(decode(KINDS[kind], edge=2)[0], reference.open_upright(KINDS[kind], "RGB"))


@pytest.mark.parametrize("edge", [26, 13, 7])
@pytest.mark.parametrize("geometry", [Stretch, Letterbox])
def test_a_jpeg_decoded_at_a_smaller_scale_lies_where_the_whole_one_would(geometry, edge):
    to_model = geometry((edge, edge), antialias=True)
    decoder = Decoder(make_spec({"source": "model.keras", "output_dir": "models"}), 3, to_model)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def read(file):
        picture = decoder.decode(file, tf.constant(True))
        return to_model.to_model(picture.image[tf.newaxis], picture.view)[0], tf.shape(picture.image), picture.view.size

    for size, orientation in itertools.product([(128, 192), (121, 190), (125, 193)], range(1, 9)):
        ramps = np.stack(np.mgrid[: size[0], : size[1]], -1)[..., [0, 1, 1]] / 193 * 255
        picture, exif = Image.fromarray(ramps.round().astype(np.uint8)), with_orientation(orientation)
        file = encode(picture, "JPEG", quality=100, subsampling=0, exif=exif)
        upright = reference.open_upright(file, "RGB")
        got, shape, found_size = (one.numpy() for one in read(file))
        assert shape[0] < upright.shape[0] / 1.9
        assert tuple(found_size) == upright.shape[:2]
        scale = min(edge / length for length in upright.shape[:2])
        inner = [round(length * scale) if geometry is Letterbox else edge for length in upright.shape[:2]]
        rows, columns = (slice((edge - length) // 2, (edge - length) // 2 + length) for length in inner)
        difference = np.abs(got[rows, columns] - reference.resize(upright, inner, antialias=True))
        # A pixel's shift is 1.3. What stands beyond an edge, in the last block, counts a little there.
        assert difference.max() < 4
        assert difference[1:-1, 1:-1].max() < 1
        got[rows, columns] = 0
        assert not got.any()


@pytest.mark.parametrize("between", [b"\xff\xff", b"\0\0\7", b"\xff\0", b"\xff\xd0", b"\xff\1", b"junk" * 20])
def test_what_is_no_segment_of_a_jpeg_is_skipped_as_by_the_decoder(decode, between):
    file = KINDS["jpeg orientation 6"]
    at, parts = 2, []
    while file[at + 1] != 0xDA:
        length = 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        parts.append(file[at : at + length])
        at += length
    marked = file[:2] + between.join([*parts, file[at:]])
    image, _, error = decode(marked)
    assert not error
    np.testing.assert_array_equal(image, decode(file)[0])
    upright = read_header(marked)
    assert (upright.size, upright.orientation) == (image.shape[:2], 6)


def test_formats_that_are_not_accepted_are_unknown(decode):
    assert decode(JPEG, formats=("jpeg",))[2] == ""
    assert decode(PNG, formats=("jpeg",))[2] == "unknown format: accepted are jpeg"


@pytest.mark.parametrize("kind", ["jpeg orientation 6", "png rgb", "bmp rgb", "webp"])
def test_too_large_pictures_are_refused_by_their_upright_size(kind):
    height, width = (90, 61) if "orientation 6" in kind else (61, 90)
    decode = make_decoder(max_pixels=61 * 90)
    assert decode(KINDS[kind]).error.numpy() == b""
    decode = make_decoder(max_pixels=61 * 90 - 1)
    assert decode(KINDS[kind]).error.numpy().decode() == f"too large: {height}x{width} > {61 * 90 - 1} pixels"


def test_a_header_that_lies_about_a_huge_size_is_refused_before_decoding(decode):
    huge = PNG[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + PNG[24:]
    assert decode(huge)[2].startswith("too large: 2147483647x2147483647 > ")


def test_no_bytes_whatever_fail_the_graph(decode):
    random = np.random.default_rng(0)
    originals = [JPEG, KINDS["jpeg orientation 6"], PNG, KINDS["png orientation 6"], KINDS["bmp palette"], WEBP,
                 KINDS["webp orientation 6"]]  # fmt: skip
    for _ in range(400):
        file = bytearray(originals[random.integers(len(originals))])
        for _ in range(random.integers(1, 12)):
            file[random.integers(min(len(file), 120))] = random.integers(256)
        damaged = bytes(file[: random.integers(1, len(file) + 1)])
        image, _, error = decode(damaged)
        assert (image.size == 0) == (error != "")
        assert decode(damaged, edge=7)[2] == error
