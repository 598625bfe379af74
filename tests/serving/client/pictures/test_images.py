import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from maskport.serving.client import InvalidImageError, InvalidResponseError
from maskport.serving.client.pictures.channels import Choice, ModelInput
from maskport.serving.client.pictures.files.headers import read_header
from maskport.serving.client.pictures.files.jpeg import decode_jpeg
from maskport.serving.client.pictures.files.png import PNG_END, decode_png, encode_png, read_png_header
from maskport.serving.client.pictures.images import read_picture
from PIL import Image, ImageOps
from processes import running

CORPUS = Path(__file__).parents[3] / "corpus"
UINT8, UINT16 = ModelInput(np.dtype(np.uint8)), ModelInput(np.dtype(np.uint16))


def _saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@given(st.data())
def test_what_is_sent_as_png_is_read_back_by_pillow(data):
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, bool]))
    channels = data.draw(st.sampled_from([(), (1,), (2,), (3,), (4,)] if dtype is not bool else [()]))
    shape = data.draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    array = data.draw(hnp.arrays(dtype, (*shape, *channels)))
    decoded = decode_png(encode_png(array))
    assert decoded.dtype == array.dtype
    if dtype is bool:
        assert decoded.view(np.uint8).max() <= 1
    np.testing.assert_array_equal(decode_png(encode_png(array)).reshape(array.shape), array)
    if dtype is np.uint16 and channels not in ((), (1,)):
        return  # of these Pillow keeps 8 bits only
    with Image.open(io.BytesIO(encode_png(array))) as picture:
        picture.load()
        np.testing.assert_array_equal(np.array(picture), array.squeeze(axis=2) if channels == (1,) else array)


@pytest.mark.parametrize("width", [1, 8, 13, 640])
def test_one_bit_is_read_as_pillow_wrote_it_and_a_damaged_header_is_found(width):
    mask = np.add.outer(np.arange(70), np.arange(width)) // 5 % 3 > 0
    data = _saved(Image.fromarray(mask), "PNG")
    assert read_png_header(data).bits == 1
    np.testing.assert_array_equal(decode_png(data), mask)
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        decode_png(data[:32] + bytes([data[32] ^ 1]) + data[33:])
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        decode_png(data[:-30])


@pytest.mark.parametrize("first", [(17, 23, 1), (17, 23, 8)])
@pytest.mark.parametrize("second", [(60000, 60000, 8, 2), (23, 17, 8, 2), (17, 23, 8, 0), (23, 17, 16, 6)], ids=str)
def test_a_png_of_two_headers_is_refused_before_the_second_ones_pixels_take_memory(first, second):
    height, width, bits = first
    mask = np.add.outer(np.arange(height), np.arange(width)) % 3 > 0
    data = encode_png(mask if bits == 1 else mask.astype(np.uint8))
    chunk = b"IHDR" + struct.pack(">IIBBBBB", *second, 0, 0, 0)
    data = data[:33] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        decode_png(data)


def test_a_jpeg_of_two_frames_is_refused_before_the_second_ones_pixels_take_memory():
    data = _saved(Image.new("RGB", (23, 17)), "JPEG")
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 19]
    for size in ((60000, 60000), (17, 24)):
        second = frame[:5] + struct.pack(">HH", *size) + frame[9:]
        with pytest.raises(InvalidResponseError, match="cannot be decoded"):
            decode_jpeg(data[: at + 19] + second + data[at + 19 :])
    assert decode_jpeg(data).shape == (17, 23, 3)


def test_sixteen_bit_colour_is_written_as_sixteen_bits():
    import tensorflow as tf

    array = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3001
    np.testing.assert_array_equal(tf.io.decode_png(encode_png(array), dtype=tf.uint16).numpy(), array)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colour_of_tensorflow_is_read_at_all_its_bits(channels):
    import tensorflow as tf

    rng = np.random.default_rng(channels)
    rows, columns = np.mgrid[:90, :120]
    kinds = set()
    for noise in (0, 30, 3000, 60000):
        waves = 30000 + 20000 * np.sin(rows / 9 + columns / 17)[..., None] * np.arange(1, channels + 1) / channels
        array = np.clip(waves + rng.integers(-noise, noise + 1, waves.shape), 0, 65535).astype(np.uint16)
        data = tf.io.encode_png(array).numpy()
        np.testing.assert_array_equal(decode_png(data), array)
        raw = zlib.decompress(b"".join(_idat(data)))
        kinds |= set(raw[:: 1 + 120 * channels * 2])
    assert kinds >= {1, 2, 3, 4} or channels == 2


def _interlaced(array):
    """An interlaced PNG [H, W, C] written by hand: every filter in turn."""
    step = array.shape[2] * array.dtype.itemsize
    raw = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        part = array[top::down, left::across]
        if not part.size:
            continue
        rows = np.frombuffer(part.astype(array.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(len(part), -1)
        padded = np.pad(rows.astype(int), ((1, 0), (step, 0)))
        left_of, above, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
        guess = left_of + above - corner
        nearest = np.argmin([abs(guess - left_of), abs(guess - above), abs(guess - corner)], axis=0)
        paeth = np.choose(nearest, [left_of, above, corner])
        guesses = [0 * rows, left_of, above, (left_of + above) // 2, paeth]
        for index, row in enumerate(rows):
            raw += bytes([index % 5]) + (row - guesses[index % 5][index]).astype(np.uint8).tobytes()
    plain = bytearray(encode_png(array))
    plain[28] = 1
    plain[29:33] = zlib.crc32(plain[12:29]).to_bytes(4, "big")
    body = b"IDAT" + zlib.compress(raw)
    return bytes(plain[:33]) + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + PNG_END


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 9), (41, 30)])
def test_interlaced_sixteen_bits_are_read_as_imagecodecs_reads_them(shape, channels):
    rng = np.random.default_rng(channels)
    array = rng.integers(0, 65536, (*shape, channels)).astype(np.uint16)
    data = _interlaced(array)
    np.testing.assert_array_equal(imagecodecs.png_decode(data).reshape(array.shape), array)
    np.testing.assert_array_equal(decode_png(data).reshape(array.shape), array)


@pytest.mark.parametrize("orientation", [1, 6])
def test_files_of_sixteen_bits_keep_them_all_for_pixel_signatures(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    colours = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) * 1091
    data = encode_png(colours)
    data = data[:33] + (len(block) - 4).to_bytes(4, "big") + block + zlib.crc32(block).to_bytes(4, "big") + data[33:]
    upright = np.rot90(colours, -1) if orientation == 6 else colours
    picture = read_picture(data)
    assert picture.size == upright.shape[:2]
    np.testing.assert_array_equal(picture.pixels(np.dtype(np.uint16), 3), upright)
    np.testing.assert_array_equal(picture.pixels(np.dtype(np.uint8), 3), upright >> 8)
    np.testing.assert_array_equal(np.array(picture.picture()), upright >> 8)


def _idat(data):
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += 12 + length


@given(st.data())
def test_damaged_sixteen_bit_colour_is_an_invalid_response_or_read(data):
    png = bytearray(encode_png(np.arange(60, dtype=np.uint16).reshape(4, 5, 3)))
    for _ in range(data.draw(st.integers(1, 4))):
        png[data.draw(st.integers(33, len(png) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidResponseError):
        assert decode_png(bytes(png[: data.draw(st.integers(40, len(png)))])).shape == (4, 5, 3)


def test_views_and_foreign_byte_orders_are_written_right():
    array = np.arange(24, dtype=np.uint16).reshape(4, 6) * 999
    for view in (array.T, array[::-1], array[:, ::2], array.astype(">u2")):
        np.testing.assert_array_equal(decode_png(encode_png(view)), view)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF"])
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_size_in_a_header_is_pillows(kind, width, height):
    header = read_header(_saved(Image.new("RGB", (width, height)), kind))
    assert header.size == (height, width)
    assert header.format == kind.lower()


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 10, "exact": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_in_every_kind_of_webp_is_pillows(mode, options):
    data = _saved(Image.new(mode, (301, 17), 77), "WEBP", **options)
    assert read_header(data).size == (17, 301)


@pytest.mark.parametrize("orientation", range(0, 10))
@pytest.mark.parametrize("progressive", [False, True])
def test_the_size_of_a_turned_jpeg_is_the_upright_ones(orientation, progressive):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    data = _saved(picture, "JPEG", exif=exif, progressive=progressive)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert read_header(data).size == (upright.height, upright.width)


def test_exif_of_the_other_byte_order_is_read_too():
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\x00\x00\x00\x00"
    block = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    data = _saved(Image.new("RGB", (40, 20)), "JPEG")
    turned = data[:2] + segment + data[2:]
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))
    assert read_header(turned).size == (upright.height, upright.width) == (40, 20)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"]))
def test_headers_of_anything_are_read_without_fault(data, magic):
    read_header(magic + data)


@given(st.data())
def test_damaged_jpegs_are_read_without_fault(data):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    damaged = bytearray(_saved(picture, "JPEG", exif=exif))
    for _ in range(data.draw(st.integers(0, 5))):
        damaged[data.draw(st.integers(3, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read_header(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def test_sources_of_every_kind_are_read(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    data = _saved(Image.fromarray(array), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        picture = read_picture(source)
        assert picture.encoded() == data
        assert picture.size == (2, 4)
    assert read_picture(path).name == str(path)
    with path.open("rb") as file:
        assert read_picture(file).name == str(path)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(decode_png(read_picture(opened).encoded()), array)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("CMYK", "RGB")],
)
def test_pillow_pictures_of_every_mode_are_sent(mode, wanted):
    picture = Image.linear_gradient("L").resize((9, 5)).convert("RGB" if mode == "P" else "L").convert(mode)
    sent = Image.open(io.BytesIO(read_picture(picture).encoded()))
    assert sent.mode == wanted
    assert sent.size == (9, 5)
    np.testing.assert_array_equal(np.array(sent), np.array(picture.convert(wanted)))


def test_pillow_pictures_of_sixteen_bits_keep_them():
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    for picture in (Image.fromarray(array), Image.fromarray(array.astype(np.int32))):
        np.testing.assert_array_equal(decode_png(read_picture(picture).encoded()), array)
    with pytest.raises(InvalidImageError, match="outside 0"):
        read_picture(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_formats_that_servers_do_not_read_are_sent_as_png():
    picture = Image.linear_gradient("L").resize((9, 5))
    for kind in ("GIF", "TIFF"):
        sent = read_picture(_saved(picture, kind))
        assert sent.size == (5, 9)
        with Image.open(io.BytesIO(sent.encoded())) as png:
            assert png.format == "PNG"
            np.testing.assert_array_equal(np.array(png.convert("L")), np.array(picture))


def test_several_pictures_in_one_file_are_refused():
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    data = _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImageError, match="holds 2 pictures"):
        read_picture(data)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "is empty"),
        (np.zeros((20, 20, 17), np.uint8), "shape .* is no image; an array is uint8 or uint16"),
        (np.zeros((2,), np.uint8), "is no image"),
        (np.zeros((0, 2), np.uint8), "is no image"),
        (np.zeros((2, 2), np.int64), "an array of int64 is no image"),
        (np.zeros((2, 2), bool), "an array of bool is no image"),
        (io.StringIO("text"), "open for reading text"),
        (17, "int is no image; give a path"),
    ],
)
def test_what_is_no_image_is_refused(source, words):
    with pytest.raises(InvalidImageError, match=words):
        read_picture(source)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 5), 200), r"int64 is no image; it holds 200 to 200: array\.astype\(numpy\.uint8\) is one"),
        (np.full((4, 5), 999), r"it holds 999 to 999: array\.astype\(numpy\.uint16\) is one"),
        (np.full((4, 5), -1), "it holds -1 to -1: scale it"),
        (np.ones((4, 5), bool), r"bool is no image; array\.astype\(numpy\.uint8\) \* 255"),
        (np.ones((4, 5), complex), r"complex128 is no image; take its numpy\.abs\(\)"),
        (np.array([[1, None]]), "object is no image; it holds Python objects"),
        (np.ones((3, 40, 50), np.uint8), r"its channels come first: give numpy\.moveaxis\(array, 0, -1\)"),
        (np.ones((40, 50, 19), np.uint8), "choose of more channels with bands="),
    ],
)
def test_arrays_that_are_no_pictures_are_told_how_to_become_some(array, words):
    with pytest.raises(InvalidImageError, match=words):
        read_picture(array)


_ARRAY = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
_FROZEN = _ARRAY.copy()
_FROZEN.setflags(write=False)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (_ARRAY[::-1, ::2], _ARRAY[::-1, ::2]),
        (np.asfortranarray(_ARRAY), _ARRAY),
        (_FROZEN, _ARRAY),
        (np.moveaxis(np.moveaxis(_ARRAY, 2, 0).copy(), 0, -1), _ARRAY),
        (np.broadcast_to(_ARRAY[:1], (4, 5, 3)), np.repeat(_ARRAY[:1], 4, axis=0)),
        (np.ma.MaskedArray(_ARRAY, False), _ARRAY),
        ((_ARRAY.astype(np.uint16) * 999).astype(">u2"), _ARRAY.astype(np.uint16) * 999),
    ],
)
def test_arrays_of_any_layout_are_sent_as_they_are(given, wanted):
    np.testing.assert_array_equal(decode_png(read_picture(given).encoded()), wanted)


def test_masked_pixels_and_numbers_that_are_none_are_missing():
    masked = np.ma.MaskedArray(_ARRAY, _ARRAY % 7 == 3)
    picture = read_picture(masked)
    missing = (_ARRAY % 7 == 3).any(axis=2)
    np.testing.assert_array_equal(decode_png(picture.encoded()), np.where(missing[..., None], 0, _ARRAY))
    np.testing.assert_array_equal(picture.missing, missing)
    floats = np.array([[0.5, np.nan], [np.inf, 1]], np.float32)
    picture = read_picture(floats)
    assert picture.pixels(np.dtype(np.float32), 1)[..., 0].tolist() == [[0.5, 0], [0, 1]]
    assert picture.missing.tolist() == [[False, True], [True, False]]


def test_sixteen_bits_that_eight_would_lose_are_refused():
    dark = np.full((4, 5), 4000, np.uint16)
    np.testing.assert_array_equal(decode_png(read_picture(dark).encoded(ModelInput(np.dtype(np.uint16)))), dark)
    with pytest.raises(InvalidImageError, match="up to 4000 of 65535: black to the model, which takes 8 bits"):
        read_picture(dark).encoded(ModelInput(np.dtype(np.uint8)))
    for fine in (np.zeros((4, 5), np.uint16), np.full((4, 5), 5000, np.uint16)):
        np.testing.assert_array_equal(decode_png(read_picture(fine).encoded(ModelInput(np.dtype(np.uint8)))), fine)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [200, 4000, 60000, 0])
def test_files_of_sixteen_bits_that_eight_would_lose_are_refused(channels, top):
    deep = np.full((4, 5, channels), 65535, np.uint16)
    deep[..., : channels - (channels in (2, 4))] = top
    data = encode_png(deep)
    assert read_picture(data).encoded(UINT16) == read_picture(data).encoded() == data
    picture = read_picture(data)
    if top in (200, 4000):
        for call in (lambda: picture.encoded(UINT8), lambda: picture.pixels(np.dtype(np.uint8), 3)):
            with pytest.raises(InvalidImageError, match=f"up to {200 if top == 200 else '4[0-9]*'} of 65535: black to"):
                call()
    else:
        assert picture.encoded(UINT8) == data
    damaged = data[:-30]
    assert read_picture(damaged).encoded(UINT8) == damaged


def _claims(width, height, colour):
    """A PNG of 16 bits of about a hundred bytes that says it is of any size."""
    data = encode_png(np.full((1, 1), 60000, np.uint16))
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


HUGE = [_claims(2_000_000_000, 1, 0), _claims(2**31 - 1, 2**31 - 1, 2)]


@pytest.mark.parametrize("data", [*HUGE, HUGE[0][:30]], ids=["gray", "colour", "cut"])
def test_a_file_that_no_memory_holds_is_an_invalid_image_where_its_pixels_are_needed_and_else_the_servers(data):
    picture = read_picture(data)
    assert picture.encoded(UINT8) == data
    for call in (lambda: picture.pixels(np.dtype(np.uint8), 3), picture.picture):
        with pytest.raises(InvalidImageError, match=r"the image (is too large to be read at once|cannot be decoded: )"):
            call()


@pytest.mark.parametrize(("most", "is_sent"), [(20, False), (19, True), (None, False)])
def test_what_the_model_refuses_by_its_size_is_not_decoded(most, is_sent):
    data = encode_png(np.full((4, 5), 200, np.uint16))
    expected = contextlib.nullcontext() if is_sent else pytest.raises(InvalidImageError, match="black to the model")
    with expected:
        assert read_picture(data).encoded(ModelInput(np.dtype(np.uint8), max_pixels=most)) == data


def test_integers_of_pillow_are_taken_by_their_values():
    values = np.arange(20, dtype=np.int32).reshape(4, 5)
    small = Image.fromarray(values * 10)
    assert small.mode == "I"
    for dtype in (np.uint8, np.uint16):
        sent = decode_png(read_picture(small).encoded(ModelInput(np.dtype(dtype))))
        assert sent.dtype == dtype
        np.testing.assert_array_equal(sent, values * 10)


def test_what_pillow_has_dropped_already_is_refused(tmp_path):
    deep = np.dstack([_ARRAY[..., :1].astype(np.uint16) * 1000] * 3)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    four = np.dstack([_ARRAY, _ARRAY[..., :1]])
    tifffile.imwrite(tmp_path / "four.tif", four, photometric="rgb", extrasamples=["unspecified"])
    with Image.open(tmp_path / "deep.tif") as opened, pytest.raises(InvalidImageError, match="8 of the 16 bits of "):
        read_picture(opened).encoded(ModelInput(np.dtype(np.uint16)))
    with Image.open(tmp_path / "four.tif") as opened, pytest.raises(InvalidImageError, match="leaves out bands"):
        read_picture(opened)


def test_a_frame_of_a_gif_is_chosen():
    frames = [Image.new("L", (4, 3), value) for value in (0, 255)]
    data = _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for page, value in ((1, 0), (2, 255)):
        assert set(decode_png(read_picture(data, Choice(page=page)).encoded()).reshape(-1).tolist()) <= {value, 255}
        assert read_picture(data, Choice(page=page)).picture().getpixel((1, 1))[0] == value
    with pytest.raises(InvalidImageError, match="is one picture"):
        read_picture(_saved(frames[0], "PNG"), Choice(page=2))


def test_avif_is_sent_as_png_upright():
    picture, exif = _marked(6)
    data = _saved(picture, "AVIF", exif=exif, quality=100, subsampling="4:4:4")
    with Image.open(io.BytesIO(data)) as opened:
        wanted = np.array(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(decode_png(read_picture(data).encoded()), wanted)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF"])
def test_errors_of_damaged_files_name_them_and_no_buffer(kind, tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(_saved(Image.new("L", (40, 30)), kind)[:32])
    with pytest.raises(InvalidImageError, match="broken cannot be decoded") as caught:
        read_picture(path)
    assert "BytesIO" not in str(caught.value)


def test_a_missing_file_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        read_picture("/no/such/file.png")


def test_a_named_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with running(["sh", "-c", f"printf abc > {pipe}"]):
        assert read_picture(pipe).encoded() == b"abc"


@pytest.mark.parametrize(
    ("dtype", "channels", "shape"), [(np.uint8, 3, (2, 4, 3)), (np.uint8, 1, (2, 4, 1)), (np.uint8, 4, (2, 4, 4))]
)
def test_files_become_the_pixels_a_model_wants(dtype, channels, shape):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pixels = read_picture(_saved(Image.fromarray(array), "PNG")).pixels(np.dtype(dtype), channels)
    assert (pixels.dtype, pixels.shape) == (dtype, shape)


def test_eight_bits_become_sixteen_at_full_scale():
    data = _saved(Image.fromarray(np.array([[0, 255]], np.uint8)), "PNG")
    assert read_picture(data).pixels(np.dtype(np.uint16), 1).reshape(-1).tolist() == [0, 65535]


def test_a_file_is_not_guessed_into_floats():
    data = _saved(Image.new("L", (2, 2)), "PNG")
    with pytest.raises(InvalidImageError, match="decode and scale it"):
        read_picture(data).pixels(np.dtype(np.float32), 1)


def test_a_png_is_known_by_its_header_alone():
    header = read_png_header(encode_png(np.zeros((3, 5, 4), np.uint16)))
    assert (header.size, header.bits, header.channels) == ((3, 5), 16, 4)
    for bad in (b"", b"\x89PNG\r\n\x1a\n", b"x" * 40):
        with pytest.raises(InvalidResponseError, match="no PNG"):
            read_png_header(bad)


def test_a_damaged_png_is_an_invalid_response():
    data = bytearray(encode_png(np.arange(255, dtype=np.uint8).reshape(15, 17)))
    data[45] ^= 0xFF
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        decode_png(bytes(data))
    with pytest.raises(InvalidResponseError, match="cannot be decoded"):
        decode_png(bytes(data[:50]))


def _marked(orientation):
    """A picture whose corners differ, and Exif that says how to turn it."""
    picture = Image.new("RGB", (48, 32), "black")
    picture.paste((255, 0, 0), (0, 0, 24, 16))
    picture.paste((0, 0, 255), (24, 16, 48, 32))
    exif = picture.getexif()
    exif[0x0112] = orientation
    return picture, exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "WEBP", "lossless": True}, {"format": "JPEG"}])
def test_a_turned_file_is_upright_here_as_on_the_server(orientation, options):
    picture, exif = _marked(orientation)
    buffer = io.BytesIO()
    picture.save(buffer, exif=exif, **options)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    read = read_picture(buffer.getvalue())
    assert read.size == (wanted.height, wanted.width)
    np.testing.assert_array_equal(np.array(read.picture()), np.array(wanted))
    np.testing.assert_array_equal(read.pixels(np.dtype(np.uint8), 3), np.array(wanted))


def test_orientation_behind_a_pngs_pixels_does_not_count_as_on_the_server():
    picture, exif = _marked(6)
    data = _saved(picture, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    read = read_picture(moved)
    assert read.size == (32, 48)
    np.testing.assert_array_equal(np.array(read.picture()), np.array(picture))


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_the_exporters_graph_turns_a_file_by_the_same_orientation(kind, orientation):
    from maskport.export.graph.files import headers

    picture, exif = _marked(orientation)
    data = _saved(picture, kind, exif=exif)
    assert int(headers.read_header(data).orientation) == read_header(data).orientation == orientation


def test_the_first_picture_of_an_mpo_is_the_photograph():
    first, second = Image.new("RGB", (9, 6), (200, 0, 0)), Image.new("RGB", (9, 6), (0, 0, 200))
    data = _saved(first, "MPO", save_all=True, append_images=[second])
    read = read_picture(data)
    assert read.picture().size == (9, 6)
    assert read.picture().getpixel((4, 3))[0] > 150


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4"])
def test_arrays_of_either_byte_order_are_pictures(dtype):
    array = (np.arange(12).reshape(3, 4) * 1000).astype(dtype)
    pixels = read_picture(array).pixels(array.dtype.newbyteorder("="), None)
    np.testing.assert_array_equal(pixels[:, :, 0], array)
    assert pixels.dtype.isnative


@pytest.mark.parametrize(("chunks", "orientation"), [(500, 6), (600, 1)])
def test_no_more_chunks_are_looked_at_than_by_the_exporters_graph(chunks, orientation):
    from maskport.export.graph.files import headers

    picture, exif = _marked(6)
    data = _saved(picture, "PNG", exif=exif)
    empty = b"\0\0\0\0teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    crowded = data[:33] + empty * chunks + data[33:]
    assert read_header(crowded).orientation == orientation == int(headers.read_header(crowded).orientation)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "corpus").glob("exif*")), ids=lambda path: path.name
)
def test_orientations_that_are_none_are_what_pillow_makes_of_them(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
    assert read_header(path.read_bytes()).size == (upright.height, upright.width)
