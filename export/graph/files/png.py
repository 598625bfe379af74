"""PNG files made inside a graph."""

import struct
import zlib

import numpy as np
import tensorflow as tf

from ...spec import FULL_SCALE

_UINT16_MAX = FULL_SCALE["uint16"]

# zlib's level. TensorFlow's default is 6; of 512×512 pixels, encoding took and the file was
#                 level 1          level 3          level 4          level 6
#   a mask        1.0 ms,   9 kB   1.1 ms,   8 kB   1.3 ms,   7 kB   1.7 ms,   6 kB
#   a photograph  12 ms,  464 kB   18 ms,  456 kB   29 ms,  423 kB   53 ms,  423 kB
_LEVEL = 1
# Of one bit a pixel, masks of seven photographs took together, and were of the bytes of 8 bits a pixel, in the median
#   level 1: 4.7 ms, 0.66   level 2: 4.6 ms, 0.63   level 3: 5.7 ms, 0.58   level 4: 6.1 ms, 0.57   level 6: 12 ms, 0.49
_LEVEL_OF_BITS = 2

_BEFORE_SIZE = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
_AFTER_SIZE = bytes([1, 0, 0, 0, 0])  # bits, gray, and the only methods there are
_HEADER_LENGTH = len(_BEFORE_SIZE) + 8 + len(_AFTER_SIZE) + 4


def _checksum(size: bytes) -> int:
    return zlib.crc32(b"IHDR" + size + _AFTER_SIZE)


# A checksum of the header is that for a size of 0, and for each byte of the size one of 256 values, by exclusive or.
_EMPTY_CHECKSUM = np.uint32(_checksum(bytes(8))).astype(np.int32)
_CHECKSUMS = (
    np.array(
        [_checksum(bytes(at) + bytes([byte]) + bytes(7 - at)) for at in range(8) for byte in range(256)], np.uint32
    ).astype(np.int32)
    ^ _EMPTY_CHECKSUM
)
_ROWS_OF_CHECKSUMS = np.arange(8, dtype=np.int32).reshape(2, 2, 2) * 256
_BYTES = np.array([bytes([byte]) for byte in range(256)], object)


def encode(image: tf.Tensor) -> tf.Tensor:
    """Returns the PNG (string scalar) of an image, uint8 or uint16 [H, W, 1 to 4]."""
    return tf.io.encode_png(image, compression=_LEVEL)


def encode_bits(packed: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the PNG of a mask, gray of one bit a pixel: of uint8 [H, width/8, rounded up], as `bits.pack` does it.

    PNG filters and compresses bytes, whatever pixels they hold: all but the header is that of a picture of 8 bits.
    """
    inner = tf.io.encode_png(packed[..., tf.newaxis], compression=_LEVEL_OF_BITS)
    size = _big_endian(tf.stack([width, tf.shape(packed)[0]]))
    parts = tf.gather(_CHECKSUMS, size + _ROWS_OF_CHECKSUMS)
    while parts.shape.rank:
        parts = tf.bitwise.bitwise_xor(*tf.unstack(parts))
    checksum = _big_endian(tf.bitwise.bitwise_xor(_EMPTY_CHECKSUM, parts))
    pixels = tf.strings.substr(inner, _HEADER_LENGTH, tf.strings.length(inner))
    return tf.strings.join([_BEFORE_SIZE, _as_text(size), _AFTER_SIZE, _as_text(checksum), pixels])


def _big_endian(numbers: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of 1 or 2 int32 numbers, highest first, as int32 [2, 2] or [2, 2, 2]."""
    highest_last = tf.bitcast(numbers, tf.uint8)
    return tf.cast(tf.reshape(tf.reverse(highest_last, [-1]), [2] * (2 + numbers.shape.rank)), tf.int32)


def _as_text(values: tf.Tensor) -> tf.Tensor:
    """Returns bytes, int32 of any shape, as a string."""
    return tf.strings.reduce_join(tf.gather(_BYTES, values))


def encode_like(image: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
    """Returns the PNG of an image; of uint16 with 16 bits where the float32 scalar `full_scale` is above 255."""
    if image.dtype == tf.uint8:
        return encode(image)
    return tf.cond(full_scale > FULL_SCALE["uint8"], lambda: encode(image), lambda: encode(tf.cast(image, tf.uint8)))


def probability_as_uint16(probability: tf.Tensor) -> tf.Tensor:
    """Returns float32 [0, 1] over the whole range of uint16, rounded; NaN as 0."""
    known = tf.where(tf.math.is_nan(probability), 0.0, probability)
    return tf.cast(tf.round(known * _UINT16_MAX), tf.uint16)
