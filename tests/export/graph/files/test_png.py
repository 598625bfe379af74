"""Masks as PNG files, against Pillow, TensorFlow's own decoder, and PNG's rules read once more."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from maskport.export.graph.files import png
from PIL import Image


@tf.function(input_signature=[tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([], tf.int32)], autograph=False)
def encoder(packed, width):
    return png.encode_bits(packed, width)


def encode(mask):
    return encoder(np.packbits(mask, axis=1), mask.shape[1]).numpy()


def check_bits(mask):
    data = encode(mask)
    height, width = mask.shape
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    assert data[8:33] == struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.mode, picture.size) == ("1", (width, height))
        np.testing.assert_array_equal(np.asarray(picture), mask)
    np.testing.assert_array_equal(tf.io.decode_png(data).numpy()[..., 0], mask * 255)


@settings(max_examples=60, deadline=None, derandomize=True)  # tracing the first call takes seconds
@given(hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_masks_of_any_size_are_read_back(mask):
    check_bits(mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 65537), (70000, 1), (257, 60000), (300, 511)])
def test_large_sizes_have_the_right_header(size):
    rows, columns = np.ogrid[: size[0], : size[1]]
    check_bits((rows * 7 + columns * 3) % 11 > 4)


def test_a_bit_a_pixel_takes_fewer_bytes():
    rows, columns = np.ogrid[:512, :512]
    mask = (rows - 250) ** 2 + (columns - 200) ** 2 < 150**2
    assert len(encode(mask)) < 0.65 * len(png.encode(tf.constant(mask[..., np.newaxis] * np.uint8(255))).numpy())
