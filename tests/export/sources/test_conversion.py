"""Means over many pixels, against sums in float64."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.sources.conversion import mean


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [[1, 2], [-2, 1], [3], []])
def test_is_that_of_float64(axes, keepdims):
    values = np.random.default_rng(0).normal(-6, 20, (2, 360, 480, 4)).astype(np.float32)
    found = mean(tf.constant(values), axes, keepdims).numpy()
    expected = values.mean(tuple(axes), np.float64, keepdims=keepdims)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)  # both axes at once are off by several times that


def test_of_whole_numbers_is_whole():
    assert mean(tf.constant([[1, 2], [4, 4]]), [0, 1]).numpy() == tf.reduce_mean(tf.constant([[1, 2], [4, 4]])).numpy()
