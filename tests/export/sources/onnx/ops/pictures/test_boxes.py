"""Boxes that overlap."""

import itertools

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

CORNERS = np.sort(drawn(2, 2, 40, 2, low=0, high=10), axis=0)
BOXES = np.concatenate([*CORNERS], -1)
"""Of 2 pictures; each lies between its corners."""
CENTERED = np.concatenate([CORNERS.mean(0), np.diff(CORNERS, axis=0)[0]], -1)
SCORES = drawn(2, 3, 40, low=0, high=1)
OVERLAP, LEAST = np.float32(0.4), np.array([0.3], np.float32)


@pytest.mark.parametrize("fed", [1, 2])
def test_boxes_that_overlap_with_a_better_one_are_left_out(fed):
    check(
        *(
            Case("NonMaxSuppression", boxes, SCORES, np.array([most]), OVERLAP, LEAST, fed=fed, center_point_box=kind)
            for (kind, boxes), most in itertools.product([(0, BOXES), (1, CENTERED)], [0, 4, 1000])
        ),
        Case("NonMaxSuppression", BOXES[..., [2, 1, 0, 3]], SCORES, np.int64(9), OVERLAP, fed=fed),
        Case("NonMaxSuppression", BOXES, SCORES, np.int64(9), fed=fed),
        Case("NonMaxSuppression", BOXES, SCORES, fed=fed),
        Case("NonMaxSuppression", BOXES[:, :0], SCORES[..., :0], np.int64(9), OVERLAP, fed=fed),
        Case("NonMaxSuppression", BOXES, SCORES, np.int64(9), OVERLAP, np.float32(2), fed=fed),
        Case(
            "NonMaxSuppression", BOXES[:, :1].repeat(9, 1), SCORES[..., :1].repeat(9, 2), np.int64(9), OVERLAP, fed=fed
        ),
    )
