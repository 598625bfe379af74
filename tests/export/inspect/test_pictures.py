"""What the report shows of a picture, against the reference."""

import io

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.inspect import InspectError
from maskport.export.inspect.pictures import THRESHOLDS, report_picture
from maskport.export.inspect.record import read_record
from PIL import Image


@pytest.fixture(scope="module")
def report_of():
    loaded = {}

    def report(exported, path):
        if exported.path not in loaded:
            loaded[exported.path] = tf.saved_model.load(str(exported.path))
        return report_picture(loaded[exported.path].signatures, read_record(exported.path), path)

    return report


@pytest.fixture(scope="module")
def report(inspection):
    return inspection.picture


def pixels(shown):
    return np.asarray(Image.open(io.BytesIO(shown.data)))


def test_the_curve_gives_the_share_of_foreground_at_every_threshold(report, exported, photo):
    cleaned = exported.pipeline.cleaned(np.asarray(Image.open(photo), float))
    for threshold, share in zip(THRESHOLDS[::10], report.shares[::10], strict=True):
        # The probability comes as 16-bit PNG: what is nearer to the threshold than a step may be on either side.
        near = (np.abs(cleaned - threshold) < 1e-4).mean()
        assert share == pytest.approx((cleaned > threshold).mean(), abs=near + 1e-12)
    assert report.shares[0] == 1.0
    assert report.shares[-1] == 0.0


def test_the_curve_meets_the_mask_that_the_export_answers(report, exported):
    at_threshold = report.shares[np.searchsorted(THRESHOLDS, exported.threshold)]
    assert report.share == pytest.approx(at_threshold, abs=1e-3)
    assert 0.05 < report.share < 0.95


def test_pictures_are_shown_in_the_order_of_the_work(report, exported, photo):
    picture, probability, mask, masked_image = report.shown
    image = np.asarray(Image.open(photo))
    assert (report.name, report.height, report.width) == ("photo.png", 90, 120)
    assert np.abs(pixels(picture).astype(int) - image).mean() < 6  # JPEG
    expected = exported.pipeline.probability(image.astype(float))
    np.testing.assert_allclose(pixels(probability), expected * 255, atol=0.51)
    wanted_mask = exported.pipeline.cleaned(image.astype(float)) > exported.threshold
    assert (pixels(mask) != wanted_mask * 255).mean() < 1e-3
    cut_out = pixels(masked_image)
    assert cut_out.shape == (90, 120, 4)  # this export's background is transparent
    np.testing.assert_array_equal(cut_out[..., 3], pixels(mask))
    assert mask.title == "the mask: above 0.4"


def test_without_a_picture_one_is_drawn_at_the_models_size(report_of, exported):
    report = report_of(exported, None)
    assert (report.name, report.height, report.width) == ("a drawn picture", 48, 64)
    assert len(report.shown) == 4


def test_an_export_of_pixel_signatures_is_shown_too(report_of, pixels_only, photo):
    report = report_of(pixels_only, photo)
    image = np.asarray(Image.open(photo).convert("RGBA")) / 255.0
    probability = pixels_only.pipeline.probability(image)
    np.testing.assert_allclose(pixels(report.shown[1]), probability * 255, atol=0.51)
    assert (pixels(report.shown[2]) != (probability > 0.5) * 255).mean() < 1e-3
    assert len(report.shown) == 4


def test_an_export_without_probabilities_shows_what_it_has(report_of, medical, tmp_path):
    values = np.round(np.mgrid[0:40, 0:50].sum(0) * 4095 / 90).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "scan.png")
    report = report_of(medical, tmp_path / "scan.png")
    assert [shown.title for shown in report.shown] == ["the picture", "the mask: above 0.5"]
    assert report.shares is None
    # 12 bits are shown in full range, neither clipped nor black.
    assert np.abs(pixels(report.shown[0])[..., 0] - values / 4095 * 255).max() < 8
    expected = medical.pipeline.cleaned(values[..., np.newaxis].astype(float)) > 0.5
    assert (pixels(report.shown[1]) != expected * 255).mean() < 1e-3


def test_large_pictures_are_reduced_for_the_page(report_of, pixels_only, tmp_path):
    Image.new("RGB", (1600, 400), "red").save(tmp_path / "large.png")
    report = report_of(pixels_only, tmp_path / "large.png")
    assert (report.height, report.width) == (400, 1600)
    assert {pixels(shown).shape[:2] for shown in report.shown} == {(200, 800)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"picture .*bad\.png: cannot be read: No such file"),
        (b"", r"picture bad\.png: it is not a picture, or broken"),
        (b"no picture", r"picture bad\.png: it is not a picture, or broken"),
    ],
)
def test_a_bad_picture_is_one_line(report_of, exported, tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InspectError, match=message):
        report_of(exported, tmp_path / "bad.png")


def test_a_picture_that_the_export_refuses_is_told_in_its_words(report_of, exported, medical, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.gif")
    with pytest.raises(InspectError, match=r"picture a\.gif: unknown format: accepted are jpeg, png, bmp, webp"):
        report_of(exported, tmp_path / "a.gif")
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(InspectError, match=r"picture a\.jpg: unknown format: accepted are png$"):
        report_of(medical, tmp_path / "a.jpg")
