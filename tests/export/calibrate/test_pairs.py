"""Finding pictures with their masks, and what counts as foreground in a mask file."""

import numpy as np
import pytest
from maskport.export.calibrate.labels import COLOUR
from maskport.export.calibrate.pairs import find_pairs, read_values
from maskport.export.errors import CalibrationError
from PIL import Image


def picture(path, pixels=None, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((2, 3), np.uint8) if pixels is None else pixels
    Image.fromarray(np.asarray(pixels), mode).save(path, **options)
    return path


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_pairs_share_path_and_stem(tmp_path):
    for name in ("images/b.jpg", "images/a.PNG", "images/deep/a.bmp", "images/alone.png"):
        picture(tmp_path / name)
    for name in ("masks/a.png", "masks/b.png", "masks/deep/a.tif", "masks/lost/a.png"):
        picture(tmp_path / name)
    (tmp_path / "images/notes.txt").write_text("b")
    (tmp_path / "images/paper.pdf").write_text("b")
    (tmp_path / "masks/.hidden.png").write_text("b")
    found = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert [pair.name for pair in found.pairs] == ["a", "b", "deep/a"]
    assert names([found.pairs[2].image, found.pairs[2].mask], tmp_path) == ["images/deep/a.bmp", "masks/deep/a.tif"]
    assert found.lossy_masks == []
    assert names(found.unpaired, tmp_path) == ["images/alone.png", "masks/lost/a.png"]


def test_masks_whose_compression_may_count_as_foreground_are_known(tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/a.JPG", "masks/b.png"):
        picture(tmp_path / name)
    assert find_pairs(tmp_path / "images", tmp_path / "masks").lossy_masks == [tmp_path / "masks/a.JPG"]


def test_masks_in_a_folder_within_the_pictures_are_no_pictures(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "masks/a.png")
    found = find_pairs(tmp_path, tmp_path / "masks")
    assert ([pair.name for pair in found.pairs], found.unpaired) == (["a"], [])


@pytest.mark.parametrize(
    ("files", "images", "masks", "message"),
    [
        ([], "images", "masks", "images: no such folder"),
        (["images/a.png"], "images/a.png", "images", "a.png: not a folder"),
        (["images/a.png"], "images", "images", "must lie in a folder of their own"),
        (["images/a.png", "masks/b.png"], "images", "masks", r"no picture in .* \(1 there\) has a mask of its stem"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "images", "masks", "a.jpg and a.png share a stem"),
    ],
)
def test_folders_that_cannot_be_paired_are_refused(tmp_path, files, images, masks, message):
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(CalibrationError, match=message):
        find_pairs(tmp_path / images, tmp_path / masks)


@pytest.mark.parametrize(
    ("mode", "pixels", "values"),
    [
        ("1", [[False, True, True]], [0, 1, 1]),
        ("L", [[0, 1, 255]], [0, 1, 255]),
        ("I;16", [[0, 1, 65535]], [0, 1, 65535]),
        ("I", [[0, -1, 70000]], [0, -1, 70000]),
        ("F", [[0, 1, 255]], [0, 1, 255]),
        ("RGB", [[[0, 0, 0], [0, 0, 1], [9, 9, 9]]], [0, COLOUR + 1, 9]),
        ("RGBA", [[[0, 0, 0, 255], [128, 0, 1, 255], [9, 9, 9, 0]]], [0, COLOUR + 0x800001, 9]),
        ("LA", [[[0, 255], [1, 255], [255, 0]]], [0, 1, 255]),
    ],
)
def test_levels_and_colours_are_read_from_every_kind_of_file(tmp_path, mode, pixels, values):
    dtype = {"1": bool, "I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    image = Image.fromarray(np.array(pixels, dtype))
    assert image.mode == mode
    image.save(tmp_path / "mask.tif")
    assert read_values(tmp_path / "mask.tif", (1, 3)).tolist() == [values]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 0.5]], np.float32), "holds fractions; save whole numbers"),
        (np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8), "differs in its alpha channel only"),
        (np.array([[[7, 0], [7, 255]]], np.uint8), "differs in its alpha channel only"),
    ],
)
def test_masks_that_say_it_in_another_way_are_told_how_to_be_saved(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "mask.tif")
    with pytest.raises(CalibrationError, match=f"mask .*mask.tif: {message}"):
        read_values(tmp_path / "mask.tif", (1, 2))


def test_of_a_palette_the_index_counts_and_not_the_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])  # index 0 is white, 1 is black
    image.save(tmp_path / "mask.png")
    assert read_values(tmp_path / "mask.png", (1, 3)).tolist() == [[0, 1, 2]]


def test_a_mask_is_turned_upright_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right: turn clockwise
    path = picture(tmp_path / "mask.png", np.array([[0, 0, 9], [0, 7, 0]], np.uint8), exif=exif)
    assert read_values(path, (3, 2)).tolist() == [[0, 0], [7, 0], [0, 9]]
    with pytest.raises(CalibrationError, match=r"mask .*mask.png: is 3x2, its upright picture 2x2"):
        read_values(path, (2, 2))


def test_a_mask_that_is_not_turned_with_its_picture_is_told_so(tmp_path):
    path = picture(tmp_path / "mask.png")
    with pytest.raises(CalibrationError, match=r"is 2x3, its upright picture 3x2: the picture is turned by its EXIF"):
        read_values(path, (3, 2))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_mask_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"mask .*mask.png: cannot be read: it is not a picture, or broken"):
        read_values(tmp_path / "mask.png", (2, 3))
