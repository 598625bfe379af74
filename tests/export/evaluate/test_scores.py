"""Scores and their intervals, against NumPy and SciPy's own bootstrap."""

import numpy as np
import pytest
from maskport.export.evaluate.scores import CONFIDENCE, count, score
from scipy import stats


def per_picture_counts(pictures=40, seed=3):
    """[pictures, 1, 3]."""
    random = np.random.default_rng(seed)
    found = random.integers(50, 900, pictures)
    return np.stack([found, random.integers(0, 200, pictures), random.integers(0, 300, pictures)], axis=1)[:, None]


def iou(found, wrong, missed, axis=-1):
    return found.sum(axis) / (found.sum(axis) + wrong.sum(axis) + missed.sum(axis))


def recall(found, wrong, missed, axis=-1):
    return found.sum(axis) / (found.sum(axis) + missed.sum(axis))


@pytest.mark.parametrize(("name", "statistic"), [("iou", iou), ("recall", recall)])
def test_intervals_are_those_of_scipy(name, statistic):
    counts = per_picture_counts()
    (scores,), *nothing = score(counts, resamples=20_000)
    assert nothing == [[], []]
    oracle = stats.bootstrap(
        tuple(counts[:, 0].T), statistic, paired=True, vectorized=True, method="percentile",
        n_resamples=20_000, confidence_level=CONFIDENCE, rng=np.random.default_rng(5),
    )  # fmt: skip
    found, width = scores[name], oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.value == pytest.approx(statistic(*counts[:, 0].T), abs=1e-12)
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=0.05 * width)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=0.05 * width)
    assert found.low < found.value < found.high


def test_the_interval_of_a_difference_is_of_pairs():
    counts = per_picture_counts()
    worse = counts + np.array([0, 40, 0])  # on every picture
    other = per_picture_counts(seed=8)  # of a subject that the baseline has not
    (_, of_other), (before,), (differences,) = score(np.concatenate([worse, other], 1), counts, resamples=20_000)
    assert before == score(counts, resamples=20_000)[0][0]
    assert of_other == score(other, resamples=20_000)[0][0]

    def difference(*columns, axis=-1):
        return iou(*columns[:3], axis=axis) - iou(*columns[3:], axis=axis)

    oracle = stats.bootstrap(
        (*worse[:, 0].T, *counts[:, 0].T), difference, paired=True, vectorized=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(5),
    )  # fmt: skip
    found, width = differences["iou"], oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.value == pytest.approx(difference(*worse[:, 0].T, *counts[:, 0].T))
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.05 * width)
    assert found.high < 0
    # Drawn independently, the two would say nothing.
    assert width < 0.5 * (before["iou"].high - before["iou"].low)


def test_the_same_draws_give_the_same_interval_and_memory_bounds_them(monkeypatch):
    counts = per_picture_counts()
    whole = score(counts)
    assert score(counts) == whole
    assert score(counts, seed=1) != whole
    monkeypatch.setattr("maskport.export.evaluate.scores._AT_ONCE", 70 * len(counts))
    parted, whole = score(counts)[0][0]["iou"], whole[0][0]["iou"]
    assert (parted.value, parted.low) == pytest.approx((whole.value, whole.low), abs=0.01)


def test_one_picture_says_nothing_of_others():
    ((scores,), *_) = score(np.array([[[30, 10, 20]]]))
    assert scores["iou"].to_json() == {"value": 0.5, "low": None, "high": None}
    assert scores["precision"].value == 0.75
    assert str(scores["recall"]) == "0.6000"


def test_pixels_that_do_not_count_are_neither_right_nor_wrong():
    random = np.random.default_rng(0)
    found, truth, counts = (random.random((7, 5)) < 0.5 for _ in range(3))
    expected = [
        sum(f == a and t == b for f, t, c in zip(found.flat, truth.flat, counts.flat, strict=True) if c)
        for a, b in ((True, True), (True, False), (False, True))
    ]
    assert list(count(found, truth, counts)) == expected
