"""Class maps at the picture's size, made only where classes meet and by strips, against the reference in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.maps import class_maps
from reference import resize

NEAR = 1e-5
INPUTS = [tf.TensorSpec([None] * 4), tf.TensorSpec([2]), tf.TensorSpec([2], tf.int32)]
CASES = [
    ((20, 26), (61, 90)),
    ((20, 26), (7, 9)),
    ((20, 26), (20, 26)),
    ((1, 1), (30, 40)),
    ((5, 1), (17, 300)),
    ((33, 33), (100, 1)),
]


@pytest.mark.parametrize("few", [-1.0, 2.0], ids=["in strips", "at borders"])
@pytest.mark.parametrize("at_once", [500, 10**6])
def test_each_pixel_has_its_most_probable_class(few, at_once, monkeypatch):
    monkeypatch.setattr(class_maps, "_FEW_BORDERS", few)

    @tf.function(input_signature=INPUTS, autograph=False)
    def class_map(maps, scale, size):
        return class_maps.most_probable(maps, scale, size, tf.uint8, at_once)

    rng = np.random.default_rng(0)
    for classes in (2, 21):
        for map_size, size in CASES:
            # Patches of one class, and noise.
            maps = rng.random((3, *map_size, classes)).astype(np.float32)
            maps[0] = resize(rng.random((3, 3, classes)), map_size)
            maps[1] = classes - 1 == np.arange(classes)
            found = class_map(maps, np.divide(size, map_size).astype(np.float32), np.array(size, np.int32)).numpy()
            assert found.shape == (3, *size)
            for one, got in zip(maps, found, strict=True):
                enlarged = resize(one, size)
                margins = np.diff(np.sort(enlarged, -1)[..., -2:], axis=-1)[..., 0]
                decided = margins > NEAR
                np.testing.assert_array_equal(got[decided], enlarged.argmax(-1)[decided])


def test_ties_go_to_the_lower_class():
    maps = np.full((1, 4, 5, 3), 0.25, np.float32)
    maps[..., 0] = 0.1
    found = class_maps.most_probable(tf.constant(maps), tf.constant([3.0, 2.0]), tf.constant([12, 10]), tf.uint8, 1000)
    assert found.shape == (1, 12, 10)
    assert set(np.unique(found)) == {1}
