"""What "the same answer" means: what may differ, and that nothing else may."""

import io
import json

import numpy as np
import pytest
from maskport.serving.agreement import Tolerance, compare
from PIL import Image

MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8).reshape(1, 2, 3, 1)
UNDECIDED = np.array([0, 0, 1, 0, 0, 0], bool)


def flipped(values, position, to=None):
    changed = values.copy()
    changed.flat[position] = 1 - changed.flat[position] if to is None else to
    return changed


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("position", range(6))
def test_one_pixel_of_a_small_mask_may_differ_where_it_is_undecided_and_nowhere_else(position):
    agreement = compare(MASK, flipped(MASK, position), Tolerance(undecided=UNDECIDED, share="iou"))
    assert agreement.holds == (position == 2)
    assert agreement.overlap == {0: 3 / 4, 1: 2 / 3, 2: 2 / 3, 3: 3 / 4, 4: 3 / 4, 5: 2 / 3}[position]
    assert agreement.problem == ("" if position == 2 else "1 of 5 values differ, by up to 1 (0 allowed)")


def test_a_class_may_be_another_one_only_where_two_are_as_probable():
    classes = np.array([3, 3, 0, 1, 2, 2], np.uint8).reshape(1, 2, 3, 1)
    tolerance = Tolerance(undecided=UNDECIDED, share="equal")
    agreement = compare(classes, flipped(classes, 2, to=7), tolerance)
    assert agreement.holds
    assert agreement.overlap == 5 / 6
    assert not compare(classes, flipped(classes, 3, to=2), tolerance).holds


def test_masks_in_files_are_compared_by_their_pixels():
    one, other = 255 * MASK[0, ..., 0], 255 * flipped(MASK, 2)[0, ..., 0]
    tolerance = Tolerance(undecided=np.concatenate([UNDECIDED, ~UNDECIDED]), share="iou", is_png=True)
    files = np.array([png(one), b"", png(one)], object)
    assert compare(files, np.array([png(other), b"", png(one)], object), tolerance).holds
    assert not compare(files, np.array([png(one), b"", png(other)], object), tolerance).holds
    one_bit = png(MASK[0, ..., 0] > 0)
    assert compare(files, np.array([one_bit, b"", one_bit], object), tolerance).holds
    assert (
        "by up to 255 "
        in compare(np.array([one_bit] * 3, object), np.array([png(other)] * 3, object), Tolerance(is_png=True)).problem
    )
    assert "a picture at position 1" in compare(files, np.array([png(one)] * 3, object), tolerance).problem


@pytest.mark.parametrize(("difference", "holds"), [(0.0099, True), (0.0101, False), (np.nan, False)])
def test_probabilities_may_differ_by_what_is_tolerated(difference, holds):
    values = np.linspace(0.1, 0.9, 6, dtype=np.float32)
    assert compare(values, flipped(values, 4, to=values[4] + difference), Tolerance(atol=0.01)).holds is holds


def test_a_tolerance_survives_its_file():
    tolerance = Tolerance(atol=0.5, undecided=UNDECIDED, share="iou", is_png=True)
    read = Tolerance.from_json(json.loads(json.dumps(tolerance.to_json())))
    np.testing.assert_array_equal(read.undecided, UNDECIDED)
    assert (read.atol, read.share, read.is_png) == (0.5, "iou", True)
