"""TIFF files of every kind: the pixels that Pillow, tifffile or GDAL read, in one piece and in many."""

import contextlib
import io
import sys

import numpy as np
import pytest
import rasterio
import tifffile
from maskport.serving.client import InvalidImageError, UnsupportedCallError
from maskport.serving.client.pictures.channels import Choice, ModelInput
from maskport.serving.client.pictures.files.png import decode_png
from maskport.serving.client.pictures.images import read_picture
from maskport.serving.client.pictures.rasters import open_source
from maskport.serving.client.pictures.tiling import Tile
from PIL import Image, ImageOps

UINT8, UINT16 = ModelInput(np.dtype(np.uint8)), ModelInput(np.dtype(np.uint16))


@pytest.fixture(scope="module")
def photo():
    """37×53 RGB: smooth, of all colours, and of no symmetry."""
    rows, columns = np.mgrid[:37, :53]
    waves = [127 + 120 * np.sin(rows / a + columns / b) for a, b in ((9, 14), (5, -11), (-16, 7))]
    return np.dstack(waves).astype(np.uint8)


def _read(data, choice=Choice(), model=UINT8):  # noqa: B008
    """What is sent of a TIFF."""
    return decode_png(read_picture(data, choice).encoded(model))


def _read_by_pieces(path, choice=Choice(), model=UINT8):  # noqa: B008
    with contextlib.closing(open_source(path, choice, model)) as source:
        height, width = source.shape[:2]
        whole = np.zeros(source.shape, source.dtype)
        for top in range(0, height, 13):
            for left in range(0, width, 17):
                rows, columns = range(top, min(top + 13, height)), range(left, min(left + 17, width))
                whole[top : rows.stop, left : columns.stop] = source.read(Tile(rows, columns))[0]
        return whole


def _saved_by_pillow(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def _written(*arguments, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, *arguments, **options)
    return buffer.getvalue()


def _check(data, wanted, tmp_path, choice=Choice(), model=UINT8):  # noqa: B008
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    np.testing.assert_array_equal(_read(data, choice, model).squeeze(), wanted)
    np.testing.assert_array_equal(_read_by_pieces(path, choice, model).squeeze(), wanted)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_pillow_writes_is_read_as_pillow_reads_it(mode, compression, photo, tmp_path):
    from PIL import ImageCms

    picture = Image.fromarray(photo)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    else:
        picture = picture.convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(photo[..., 0]))
    data = _saved_by_pillow(picture, compression=compression)
    with Image.open(io.BytesIO(data)) as opened:
        wanted = np.array(opened.convert({"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}.get(mode)))
    _check(data, wanted, tmp_path)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("is_white", [False, True])
def test_few_bits_are_at_full_scale_and_min_is_white_is_inverted(bits, is_white, photo, tmp_path):
    top = (1 << bits) - 1
    levels = np.ascontiguousarray(photo[..., 0] >> (8 - bits))
    data = _packed_by_hand(levels, bits, is_white)
    shown = np.array(Image.open(io.BytesIO(data)).convert("L"))
    np.testing.assert_array_equal(shown, (top - levels if is_white else levels) * (255 // top))
    _check(data, shown, tmp_path)


def _packed_by_hand(levels, bits, is_white):
    """A plain TIFF of any number of bits, of which tifffile writes few."""
    height, width = levels.shape
    each = (levels[..., np.newaxis] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(each.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if is_white else 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(rows))]
    directory = len(tags).to_bytes(2, "little")
    for tag, value in tags:
        directory += b"".join(n.to_bytes(s, "little") for n, s in ((tag, 2), (4, 2), (1, 4), (value, 4)))
    return b"II*\0" + (8 + len(rows)).to_bytes(4, "little") + rows + directory + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_whole_and_in_pieces(orientation, photo, tmp_path):
    data = _written(photo, photometric="rgb", tile=(16, 16), extratags=[(274, 3, 1, orientation, True)])
    plain = Image.fromarray(photo)
    plain.getexif()[0x0112] = orientation
    _check(data, np.array(ImageOps.exif_transpose(plain)), tmp_path)


@pytest.mark.parametrize("tags", [{}, {274: 3}])
def test_orientation_of_xmp_counts_where_no_tag_states_one(tags, photo, tmp_path):
    buffer = io.BytesIO()
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(photo).save(buffer, "TIFF", tiffinfo=tags | {700: packet})
    with Image.open(buffer) as opened:
        wanted = np.array(ImageOps.exif_transpose(opened))
    _check(buffer.getvalue(), wanted, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "tile": (16, 32), "compression": "lzw", "predictor": True},
        {"planarconfig": "contig", "compression": "zstd", "rowsperstrip": 5},
        {"planarconfig": "contig", "compression": "deflate", "predictor": True, "bigtiff": True, "byteorder": ">"},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_all_samples_and_all_bits_come_through(options, dtype, photo, tmp_path):
    """Red, green, blue and near infrared; of 16 bits with a low byte that matters."""
    four = np.dstack([photo, photo[::-1, :, 1]]).astype(dtype)
    if dtype is np.uint16:
        four = four * 257 - (four & 15)
    given = four if options["planarconfig"] == "contig" else np.moveaxis(four, 2, 0)
    data = _written(given, photometric="rgb", extrasamples=["unspecified"], **options)
    _check(data, four, tmp_path, model=ModelInput(np.dtype(dtype), 4))
    _check(data, four[..., [3, 0, 1]], tmp_path, Choice(bands=(4, 1, 2)), ModelInput(np.dtype(dtype), 3))
    with pytest.raises(
        InvalidImageError, match=r"4 channels \(1: red, .* 4: band 4\), and the model takes 3; .*bands="
    ):
        _read(data, model=ModelInput(np.dtype(dtype), 3))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_jpeg_within_is_read_as_gdal_reads_it(photo, tmp_path):
    data = _written(photo, photometric="rgb", compression="jpeg", tile=(16, 16))
    with rasterio.io.MemoryFile(data) as memory, memory.open() as opened:
        wanted = np.moveaxis(opened.read(), 0, 2)
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    for found in (_read(data), _read_by_pieces(path)):
        # Each makes more of half the colour's resolution in its own way.
        assert np.abs(found.astype(int) - wanted).mean() < 3


def test_associated_alpha_is_taken_out_of_colours(photo, tmp_path):
    alpha = photo[..., 1:2] // 2 + 100
    associated = (photo.astype(int) * alpha // 255).astype(np.uint8)
    data = _written(np.dstack([associated, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    _check(data, np.array(Image.open(io.BytesIO(data))), tmp_path)


def test_twelve_bits_stay_for_a_model_of_sixteen_and_fill_one_of_eight(photo, tmp_path):
    twelve = photo[..., 0].astype(np.uint16) * 16 + 5
    data = _packed_by_hand(twelve, 12, False)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), twelve)
    _check(data, twelve, tmp_path, model=UINT16)
    _check(data, (twelve.astype(int) * 255 // 4095).astype(np.uint8), tmp_path)


def test_pages_are_chosen_and_overviews_are_none(photo, tmp_path):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", metadata=None)
        writer.write(photo[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    _check(buffer.getvalue(), photo, tmp_path)
    with tifffile.TiffWriter(buffer := io.BytesIO()) as writer:
        for page in (photo, photo[:20, ::-1, 0]):
            writer.write(page, metadata=None)
    with pytest.raises(InvalidImageError, match=r"holds 2 pictures: 1: 37×53 of 3 × 8 bits, 2: 20×53 of 1 × 8 bits"):
        _read(buffer.getvalue())
    _check(buffer.getvalue(), photo[:20, ::-1, 0], tmp_path, Choice(page=2))
    with pytest.raises(InvalidImageError, match="has no page 3"):
        _read(buffer.getvalue(), Choice(page=3))


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_and_slices_of_microscopes_are_told_apart(kind, photo, tmp_path):
    """Two slices of three channels, each in a directory of its own."""
    planes = np.stack([np.moveaxis(photo, 2, 0), np.moveaxis(255 - photo, 2, 0)])
    data = _written(planes, metadata={"axes": "ZCYX"}, photometric="minisblack", **{kind: True})
    with pytest.raises(InvalidImageError, match=r"holds 2 pictures: .*Z1 37×53 of 3 × 8 bits, .*Z2 .*page="):
        _read(data)
    colour = ModelInput(np.dtype(np.uint8), 3)
    _check(data, 255 - photo, tmp_path, Choice(page=2), colour)
    _check(data, photo[..., 1], tmp_path, Choice(page=1, bands=(2,)), colour)
    with pytest.raises(InvalidImageError, match=r"3 channels \(1: channel 1, .*\), and the model takes 1"):
        _read(data, Choice(page=1), ModelInput(np.dtype(np.uint8), 1))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64])
def test_integers_of_any_width_are_taken_by_their_values(dtype, tmp_path):
    small = np.arange(120).reshape(10, 12).astype(dtype)
    _check(_written(small), small.astype(np.uint8), tmp_path)
    if dtype is not np.int8:
        large = small * 200
        _check(_written(large), large.astype(np.uint16), tmp_path)
    data = _written(small - np.array(1).astype(dtype))
    with pytest.raises(InvalidImageError, match=r"outside 0\.\.65535; scale it: numpy\.interp"):
        _read(data)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_go_to_models_of_floats_only(dtype):
    floats = np.linspace(0, 255, 60).reshape(6, 10).astype(dtype)
    picture = read_picture(_written(floats))
    np.testing.assert_array_equal(picture.pixels(np.dtype(np.float32), None)[..., 0], floats.astype(np.float32))
    with pytest.raises(InvalidImageError, match="takes integer pixels; it holds 0 to 255: scale it"):
        picture.encoded(UINT8)


def test_pixels_without_data_are_known(photo, tmp_path):
    path = tmp_path / "image.tif"
    heights = photo[..., 0].astype(np.int16)
    heights[5:9, 11:30] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", height=37, width=53, count=1, dtype="int16", nodata=-9999, crs="EPSG:4326",
        transform=rasterio.Affine(0.1, 0, 7, 0, -0.1, 50),
    ) as written:  # fmt: skip
        written.write(heights, 1)
    picture = read_picture(path)
    np.testing.assert_array_equal(decode_png(picture.encoded(UINT8)), np.maximum(heights, 0))
    np.testing.assert_array_equal(picture.missing, heights == -9999)
    with contextlib.closing(open_source(path)) as source:
        np.testing.assert_array_equal(source.read(Tile(range(0, 37), range(0, 53)))[1], heights == -9999)


@pytest.mark.parametrize("options", [{"photometric": "palette"}, {"photometric": "ycbcr", "compress": "jpeg"}])
def test_pixels_without_data_of_palettes_and_jpegs_are_known(options, photo):
    is_palette = options["photometric"] == "palette"
    bands = photo[..., :1].copy() if is_palette else np.repeat(photo[..., :1], 3, axis=2) // 2 + 60
    bands[8:24, 16:32] = 0
    with rasterio.io.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=37, width=53, count=bands.shape[2], dtype="uint8", nodata=0,
            transform=rasterio.Affine(1, 0, 3, 0, -1, 9), **options,
        ) as written:  # fmt: skip
            if is_palette:  # before the pixels, or it does not get into the file
                written.write_colormap(1, {index: (255 - index, index, 90, 255) for index in range(256)})
            written.write(np.moveaxis(bands, 2, 0))
        with memory.open() as opened:
            wanted = opened.dataset_mask() == 0
        picture = read_picture(memory.read())
    sent = decode_png(picture.encoded(UINT8))
    assert wanted.sum() > 200
    np.testing.assert_array_equal(picture.missing, wanted)
    assert not sent[wanted].any()
    if is_palette:
        np.testing.assert_array_equal(sent[..., 0], np.where(wanted, 0, 255 - bands[..., 0]))


def test_a_mask_within_says_what_is_missing(photo):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.io.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=37, width=53, count=3, dtype="uint8", transform=rasterio.Affine(1, 0, 3, 0, -1, 9)
        ) as written:
            written.write(np.moveaxis(photo, 2, 0))
            written.write_mask(photo[..., 0] > 100)
        picture = read_picture(memory.read())
    picture.encoded(UINT8)
    np.testing.assert_array_equal(picture.missing, photo[..., 0] <= 100)


@pytest.mark.parametrize("photometric", ["cielab", "ycbcr"])
def test_colours_that_cannot_be_converted_are_named(photometric, photo):
    data = _written(photo.astype(np.uint16) * 257, photometric=photometric, planarconfig="contig")
    with pytest.raises(InvalidImageError, match=f"the TIFF holds {photometric} of 3 × 16 bits; convert it to RGB"):
        read_picture(data)


def test_the_bands_that_are_proposed_are_there(photo):
    data = _written(photo[..., :2], photometric="minisblack", planarconfig="contig")
    with pytest.raises(InvalidImageError, match=r"such as bands=\(1,\)"):
        read_picture(data).encoded(ModelInput(np.dtype(np.uint8), 3))
    assert read_picture(data, Choice(bands=(1,))).encoded(ModelInput(np.dtype(np.uint8), 3))


def test_as_many_channels_as_a_directory_can_name_are_counted(tmp_path):
    pixels = np.arange(6 * 65535, dtype=np.uint8).reshape(2, 3, 65535)
    data = _written(pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(InvalidImageError, match=r"holds 65535 channels \(1: band 1, 2: band 2, .*65535: band 65535\)"):
        read_picture(data).encoded(UINT8)
    _check(data, pixels[..., 40000], tmp_path, Choice(bands=(40001,)))


def test_each_of_many_pictures_has_the_mask_of_its_size(photo, tmp_path):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for rows in (20, 30):
            writer.write(photo[:rows], photometric="rgb", metadata=None)
            writer.write(np.tile(photo[:rows, :, 0] > rows * 4, 1), photometric="mask", subfiletype=4, metadata=None)
    _check(buffer.getvalue(), np.where(photo[:30, :, :1] > 120, photo[:30], 0), tmp_path, Choice(page=2))


@pytest.mark.parametrize("kind", ["cut off", "no directory", "overwritten"])
def test_damaged_files_are_errors_that_name_them(kind, photo, tmp_path):
    data = _written(photo, photometric="rgb", compression="zlib")
    data = {"cut off": data[:-40], "no directory": data[:12], "overwritten": data[:400] + bytes(3000) + data[3400:]}[
        kind
    ]
    path = tmp_path / "broken.tif"
    path.write_bytes(data)
    for read in (read_picture, _read_by_pieces):
        with pytest.raises(InvalidImageError, match=r"broken\.tif ") as caught:
            read(path)
        assert "BytesIO" not in str(caught.value)


def test_directories_that_lead_in_a_circle_have_an_end(photo, tmp_path):
    data = bytearray(_written(photo, photometric="rgb") + bytes(2))
    first = int.from_bytes(data[4:8], "little")
    last = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[last : last + 4] = len(data).to_bytes(4, "little")
    data += data[first:last] + first.to_bytes(4, "little")
    with pytest.raises(InvalidImageError, match="holds 2 pictures"):
        read_picture(bytes(data)).encoded(UINT8)
    _check(bytes(data), photo, tmp_path, Choice(page=0))


def test_without_the_extra_pillow_reads_what_it_reads_rightly(monkeypatch, photo, tmp_path):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
        picture = Image.fromarray(photo).convert(mode)
        wanted = picture.convert({"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode))
        np.testing.assert_array_equal(_read(_saved_by_pillow(picture)), np.array(wanted))
    deep = photo[..., 0].astype(np.uint16) * 257
    np.testing.assert_array_equal(_read(_written(deep), model=UINT16), deep)
    four = np.dstack([photo, photo[..., 0]])
    for data in (
        _written(photo.astype(np.uint16) * 257, photometric="rgb"),
        _written(four, photometric="rgb", extrasamples=["unspecified"]),
        _written(np.stack([photo, photo]), photometric="rgb"),
        _written(deep.astype(np.float32)),
        _written(np.moveaxis(photo, 2, 0), photometric="rgb", planarconfig="separate"),
    ):
        with pytest.raises(UnsupportedCallError, match=r"pip install 'maskport\[large\]'"):
            read_picture(data)
    five = _written(np.dstack([four, photo[..., 1]]), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InvalidImageError, match=r"Pillow knows; tifffile .* pip install 'maskport\[large\]'"):
        read_picture(five)
