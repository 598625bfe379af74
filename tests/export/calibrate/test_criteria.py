"""Which threshold is recommended, on curves whose best is plain to see."""

import numpy as np
import pytest
from maskport.export.calibrate.criteria import CRITERIA, recommend
from maskport.export.calibrate.tally import STEPS, Curves, Tally
from maskport.export.errors import CalibrationError

T = np.arange(STEPS + 1) / STEPS
EVERYWHERE = np.ones(STEPS + 1, bool)


def hill(top):
    return 1 - np.abs(T - top)


def curves(iou=T * 0, dice=T * 0, precision=T * 0, recall=T * 0):
    return Curves(iou, dice, precision, recall)


def test_each_criterion_takes_its_own_curve():
    data = curves(iou=hill(0.2), dice=hill(0.6), precision=T, recall=1 - T)
    chosen = {name: recommend(data, EVERYWHERE, name, target=0.7).threshold for name in CRITERIA}
    assert chosen == {"iou": 0.2, "dice": 0.6, "precision_at_recall": 0.3, "recall_at_precision": 0.7}


def test_of_a_range_of_best_thresholds_the_middle_is_recommended():
    tally = Tally()
    tally.add(np.array([[0.1, 0.9, 0.9]], np.float32), np.array([[False, True, True]]))
    found = recommend(tally.curves("pixels"), tally.counts[0] > 0, "iou")
    assert (found.threshold, found.score) == (0.5, 1.0)
    assert (found.nearly_from, found.nearly_to) == (100, 899)


def test_of_several_ranges_the_longest_counts():
    iou = np.where((T > 0.1) & (T < 0.2) | (T > 0.5) & (T < 0.9), 0.8, 0.3)
    assert recommend(curves(iou=iou), EVERYWHERE, "iou").threshold == pytest.approx(0.7, abs=0.001)


def test_thresholds_that_find_nothing_are_never_recommended():
    precision = np.where(T > 0.8, 1.0, 0.6)
    found = recommend(curves(precision=precision, recall=EVERYWHERE * 1.0), T < 0.8, "precision_at_recall", 0.5)
    assert found.threshold < 0.8
    with pytest.raises(CalibrationError, match="at no threshold is any foreground found"):
        recommend(curves(iou=T), ~EVERYWHERE, "iou")


def test_a_target_out_of_reach_is_an_error_with_what_can_be_reached():
    message = r"no threshold reaches a recall of 0.95; the highest is 0.900, at 0.0"
    with pytest.raises(CalibrationError, match=message):
        recommend(curves(precision=T, recall=0.9 - T / 2), EVERYWHERE, "precision_at_recall", 0.95)
