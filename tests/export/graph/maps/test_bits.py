"""Masks of one bit a pixel, against NumPy's bits and SciPy's distances."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from maskport.export.graph.maps import bits
from maskport.export.spec import Clean
from scipy import ndimage

MASKS = [tf.TensorSpec([None, None, None], tf.bool)]


@tf.function(input_signature=MASKS, autograph=False)
def there_and_back(masks):
    packed = bits.pack(masks)
    return packed, bits.unpack(packed, tf.shape(masks)[2])


@settings(max_examples=60, deadline=None, derandomize=True)  # tracing the first call takes seconds
@given(hnp.arrays(bool, st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 40))))
def test_bits_are_in_the_order_of_numpy_and_come_back(masks):
    packed, unpacked = there_and_back(masks)
    np.testing.assert_array_equal(packed, np.packbits(masks, axis=2))
    np.testing.assert_array_equal(unpacked, masks)


def eroded(mask, radius):
    """What is farther than a radius from all that is not in a mask."""
    return mask if mask.all() else np.round(ndimage.distance_transform_edt(mask) ** 2) > radius**2


def dilated(mask, radius):
    return ~eroded(~mask, radius)


@pytest.mark.parametrize("radii", [(1, 0), (2, 3), (0, 50), (50, 12), (9, 10), (11, 0), (0, 25), (31, 0)])
def test_cleaning_is_morphology_with_a_disc_and_nothing_outside(radii):
    opening, closing = radii

    @tf.function(input_signature=MASKS, autograph=False)
    def cleaned(masks):
        width = tf.shape(masks)[2]
        return bits.unpack(bits.clean(bits.pack(masks), width, Clean(open=radii[0], close=radii[1])), width)

    rng = np.random.default_rng(0)
    for shape in [(1, 1), (1, 70), (70, 1), (5, 64), (33, 129), (120, 190), (64, 128)]:
        # Of the middle masks something is left by large discs too; single specks show what discs are made of.
        for share in (0.0005, 0.02, 0.5):
            specks = rng.random((2, *shape)) < share
            specks[0, shape[0] // 2, :: max(shape[1] - 1, 1)] ^= share < 0.001  # at both edges
            masks = specks ^ (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 60 % 2 > 0)
            for mask, got in zip(masks, cleaned(masks).numpy(), strict=True):
                np.testing.assert_array_equal(
                    got, eroded(dilated(dilated(eroded(mask, opening), opening), closing), closing)
                )
