"""Scores at every threshold, against counting each mask pixel by pixel."""

import numpy as np
import pytest
from maskport.export.calibrate.tally import THRESHOLDS, Curves, Tally

NAMES = ("iou", "dice", "precision", "recall")


def brute_force(mask, truth):
    both, either = (mask & truth).sum(), (mask | truth).sum()

    def share(part, whole):
        return part / whole if whole else 1.0

    return {
        "iou": share(both, either),
        "dice": share(2 * both, mask.sum() + truth.sum()),
        "precision": share(both, mask.sum()),
        "recall": share(both, truth.sum()),
    }


def pictures(count=5, seed=0):
    random = np.random.default_rng(seed)
    for index in range(count):
        size = tuple(random.integers(3, 30, 2))
        truth = random.random(size) < 0.3 * index  # the first has no foreground at all
        probability = np.clip(random.normal(0.35 + 0.3 * truth, 0.2), 0, 1).astype(np.float32)
        on_grid = random.random(size) < 0.2
        probability[on_grid] = random.choice(THRESHOLDS, on_grid.sum())
        yield probability, truth


@pytest.fixture(scope="module")
def tally():
    tally = Tally()
    for probability, truth in pictures():
        tally.add(probability, truth)
    return tally


@pytest.mark.parametrize("name", NAMES)
def test_scores_over_pixels_are_those_of_one_large_picture(tally, name):
    probability = np.concatenate([p.ravel() for p, _ in pictures()])
    truth = np.concatenate([t.ravel() for _, t in pictures()])
    expected = [brute_force(probability > threshold, truth)[name] for threshold in THRESHOLDS]
    np.testing.assert_allclose(getattr(tally.curves("pixels"), name), expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_scores_over_pictures_are_the_mean_of_each_ones(tally, name):
    expected = [np.mean([brute_force(p > threshold, t)[name] for p, t in pictures()]) for threshold in THRESHOLDS]
    np.testing.assert_allclose(getattr(tally.curves("pictures"), name), expected, rtol=1e-12)


def test_the_counts_are_of_pixels(tally):
    found, wrong, missed = tally.counts
    truth = np.concatenate([t.ravel() for _, t in pictures()])
    probability = np.concatenate([p.ravel() for p, _ in pictures()])
    mask = probability > np.float32(0.4)
    assert (found[400], wrong[400], missed[400]) == ((mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum())
    assert tally.pixels == truth.size
    assert tally.foreground_pixels == truth.sum()
    assert tally.pictures == 5


def test_a_large_picture_is_counted_whole():
    random = np.random.default_rng(3)
    probability, truth = random.random((1100, 2000), np.float32), random.random((1100, 2000)) < 0.3
    tally = Tally()
    tally.add(probability, truth)
    mask = probability > THRESHOLDS[123]
    expected = [(mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum()]
    assert [counts[123] for counts in tally.counts] == expected


def test_a_probability_equal_to_the_threshold_is_background():
    tally = Tally()
    tally.add(np.array([[0.3, 0.3000001]], np.float32), np.array([[True, True]]))
    found = tally.counts[0]
    assert list(found[[299, 300, 301]]) == [2, 1, 0]


def test_not_a_number_is_background_and_1_is_foreground_up_to_1():
    tally = Tally()
    tally.add(np.array([[np.nan, 1.0, 0.0]], np.float32), np.array([[True, True, True]]))
    assert list(tally.counts[0][[0, 999, 1000]]) == [1, 1, 0]


def test_nothing_found_where_nothing_is_counts_as_perfect():
    curves = Curves.of_counts(*np.zeros((3, 1), np.int64))
    assert [getattr(curves, name)[0] for name in NAMES] == [1, 1, 1, 1]
