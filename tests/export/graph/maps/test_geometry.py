"""Maps at the picture's size, against the reference in NumPy; and their bits, which are made in strips."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.maps import geometry
from reference import resize

NEAR = 1e-5
MAP = [20, 26]
SIZES = [(1, 1), (20, 26), (3, 400), (400, 3), (19, 31), (61, 90), (157, 203), (40, 52), (11, 13), (300, 17)]


def letterbox_box(size):
    scale = min(MAP[0] / size[0], MAP[1] / size[1])
    inner = [max(1, min(edge, round(length * scale))) for edge, length in zip(MAP, size, strict=True)]
    return [(edge - length) // 2 for edge, length in zip(MAP, inner, strict=True)], inner


def wanted(kind, maps, size):
    """[H, W] of [h, w], in float64."""
    if kind == "letterbox":
        (top, left), (height, width) = letterbox_box(size)
        maps = maps[top : top + height, left : left + width]
    if kind == "at image size":
        padded = [-(-length // 8) * 8 for length in size]
        return resize(maps[..., np.newaxis], padded)[: size[0], : size[1], 0]
    return resize(maps[..., np.newaxis], size)[..., 0]


GEOMETRIES = {
    "stretch": geometry.Stretch((MAP[0], MAP[1]), True),
    "letterbox": geometry.Letterbox((MAP[0], MAP[1]), True),
    "at image size": geometry.AtImageSize(8, 10**9),
}


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_bits_in_strips_are_those_of_the_whole_map(kind, monkeypatch):
    places = GEOMETRIES[kind]
    maps_of = tf.TensorSpec([None, None, None, 1], tf.float32)
    size_of = tf.TensorSpec([2], tf.int32)

    def bits(maps, size):
        return places.bits_above(maps, size, tf.constant(0.5))

    whole = tf.function(bits, [maps_of, size_of], autograph=False)
    whole.get_concrete_function()
    monkeypatch.setattr(geometry, "_WHOLE_PIXELS", 0)
    monkeypatch.setattr(geometry, "_STRIP_PIXELS", 1000)
    in_strips = tf.function(bits, [maps_of, size_of], autograph=False)
    rng = np.random.default_rng(0)
    for size in SIZES:
        # A model that runs at the picture's size may answer at half of it.
        edges = [-(-length // 8) * 4 for length in size] if kind == "at image size" else MAP
        maps = rng.random((2, *edges, 1)).astype(np.float32)
        maps[0, 0, 0] = np.nan
        enlarged = places.to_image(tf.constant(maps), tf.constant(size)).numpy()
        expected = np.stack([wanted(kind, one[..., 0].astype(float), size) for one in maps])
        np.testing.assert_allclose(enlarged[1, ..., 0], expected[1], atol=NEAR)
        packed = np.packbits(enlarged[..., 0] > 0.5, axis=2)
        np.testing.assert_array_equal(whole(maps, size), packed)
        np.testing.assert_array_equal(in_strips(maps, size), packed)


def test_enlarging_in_two_steps_is_enlarging_in_one():
    rng = np.random.default_rng(1)
    maps = rng.random((2, *MAP, 3)).astype(np.float32)
    for size in SIZES:
        enlarged = GEOMETRIES["stretch"].to_image(tf.constant(maps), tf.constant(size))
        np.testing.assert_array_equal(enlarged, tf.image.resize(maps, size))
