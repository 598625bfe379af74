"""Labelled masks on the page: scores and colours, by NumPy's count."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from playing import BRIGHT, PHOTO, bright, downloaded, give, move_threshold, png


def test_a_labelled_mask_is_compared_at_every_threshold(page):
    rows, columns = np.mgrid[0:60, 0:84]
    label = ((rows - 30) ** 2 + (columns - 40) ** 2 < 500).astype(np.uint8) * 255
    give(page, png(label, "label.png"), label=True)
    page.wait_for_selector("#label-result:not([hidden])")
    assert page.is_checked("#view-compare")
    for threshold in (0.5, 0.33):
        move_threshold(page, threshold)
        mask, truth = bright(threshold), label > 0
        both, either = np.count_nonzero(mask & truth), np.count_nonzero(mask | truth)
        assert page.inner_text("#iou") == f"{both / either:.4f}"
        assert page.inner_text("#dice") == f"{2 * both / (both + either):.4f}"
        assert page.inner_text("#differing") == f"{either - both:,}"
    compared = np.asarray(downloaded(page)[0])[..., :3].astype(int)
    for wrong, colour in ((mask & ~truth, (255, 176, 0)), (~mask & truth, (220, 38, 127))):
        assert wrong.any()
        assert (compared[wrong] == colour).all()
    levels = np.rint(BRIGHT)
    ious = [(t / 100, *(np.count_nonzero(f(levels > t * 655.35, truth)) for f in (np.logical_and, np.logical_or)))
            for t in range(100)]  # fmt: skip
    best = max(ious, key=lambda one: one[1] / one[2])
    assert page.inner_text("#best") == f"Best here: IoU {best[1] / best[2]:.4f} at {best[0]:g}"
    page.click("#label-remove")
    assert page.is_checked("#view-mask")


def test_values_of_a_label_are_chosen_and_void_ones_do_not_count(page, tmp_path):
    label = np.zeros((60, 84), np.uint8)
    label[:, 20:50], label[:, 50:80], label[:10] = 1, 2, 255
    picture = Image.fromarray(label).convert("P")
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, *[99] * 759])
    file = io.BytesIO()
    picture.save(file, "PNG", bits=8)
    give(page, {"name": "voc.png", "mimeType": "image/png", "buffer": file.getvalue()}, label=True)
    page.wait_for_selector("#label-result:not([hidden])")
    mask = bright(0.5)
    for choice, truth in (("all", (label == 1) | (label == 2)), ("2", label == 2)):
        page.select_option("#label-values", choice)
        counted = label != 255
        iou = np.count_nonzero(mask & truth & counted) / np.count_nonzero((mask | truth) & counted)
        assert page.inner_text("#iou") == f"{iou:.4f}"
        (tmp_path / "voc.png").write_bytes(file.getvalue())
        (tmp_path / "photo.png").write_bytes(png(PHOTO)["buffer"])
        page.click("#tab-python")
        command = [sys.executable, "-c", page.inner_text("#code-text")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert f"{float(done.stdout):.4f}" == f"{iou:.4f}"


def test_a_label_that_is_still_read_when_the_next_picture_comes_is_not_for_that(page):
    page.evaluate("""() => {
        const read = Blob.prototype.arrayBuffer;
        Blob.prototype.arrayBuffer = async function () {
            if (this.name === "late.png") await new Promise((done) => (window.goOn = done));
            return read.call(this);
        };
    }""")
    page.set_input_files("#label-file", [png(np.eye(60, 84, dtype=np.uint8), "late.png")])
    page.wait_for_function("() => window.goOn")
    give(page, png(PHOTO[::-1], "next.png"))
    page.evaluate("goOn()")
    page.wait_for_timeout(300)
    assert page.is_hidden("#label-result")
    assert page.is_checked("#view-mask")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (png(np.zeros((60, 83), np.uint8), "small.png"), "small.png is 83 × 60, the picture 84 × 60"),
        ({"name": "no.png", "mimeType": "image/png", "buffer": b"nonsense"}, "no.png cannot be read as a picture."),
    ],
)
def test_a_label_that_does_not_fit_is_named(page, file, words):
    give(page, file, label=True)
    page.wait_for_selector("#label-problem:not([hidden])")
    assert page.inner_text("#label-problem").startswith(words)
