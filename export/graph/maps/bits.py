"""Masks of one bit a pixel: eight of a row in a byte, the leftmost the highest, as PNG and NumPy's `packbits` do it.

All of it is for little-endian processors, as TensorFlow is built for.
"""

import math

import tensorflow as tf

from ...spec import Clean

_GATHERS_BITS = 0x8040201008040201
"""Bytes of 0 and 1, times this, are as bits in the product's highest byte, the lowest byte's as its highest bit."""
_REPEATS_BYTE = 0x0101010101010101
_ONE_BIT_A_BYTE = 0x0102040810204080
"""The highest bit in the lowest byte, and so on."""
_WORD = 64


def pack(mask: tf.Tensor) -> tf.Tensor:
    """Returns masks, bool [B, H, W], as uint8 [B, H, W/8, rounded up]; beyond the last pixel bits are 0."""
    batch, height, width = tf.unstack(tf.shape(mask))
    count = (width + 7) // 8
    padded = tf.pad(tf.cast(mask, tf.uint8), [[0, 0], [0, 0], [0, 8 * count - width]])
    eights = tf.reshape(padded, [batch, height, count, 8])
    products = tf.bitcast(eights, tf.uint64) * tf.constant(_GATHERS_BITS, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(products, tf.constant(_WORD - 8, tf.uint64)), tf.uint8)


def unpack(packed: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns what `pack` was given."""
    shape = tf.shape(packed)
    repeated = tf.cast(packed, tf.uint64) * tf.constant(_REPEATS_BYTE, tf.uint64)
    single = tf.bitcast(tf.bitwise.bitwise_and(repeated, tf.constant(_ONE_BIT_A_BYTE, tf.uint64)), tf.uint8)
    return tf.reshape(single > 0, [shape[0], shape[1], 8 * shape[2]])[..., :width]


def clean(packed: tf.Tensor, width: tf.Tensor, radii: Clean) -> tf.Tensor:
    """Opens, then closes masks, packed uint8 [B, H, width/8], with discs; what lies outside the picture is neutral.

    Source: Serra, Image Analysis and Mathematical Morphology (1982).
    """
    if not radii.open and not radii.close:
        return packed
    bytes_a_row = tf.shape(packed)[2]
    padded = tf.pad(packed, [[0, 0], [0, 0], [0, -bytes_a_row % 8]])
    shape = tf.shape(padded)
    words = tf.bitcast(tf.reshape(padded, [shape[0], shape[1], shape[2] // 8, 8]), tf.uint64)
    words = _mirror_bytes(words)
    columns = tf.reshape(tf.range(8 * shape[2]) < width, [1, 1, -1])
    inside = _mirror_bytes(tf.bitcast(tf.reshape(pack(columns), [1, 1, -1, 8]), tf.uint64))

    def dilate(words: tf.Tensor, radius: int) -> tf.Tensor:
        return tf.bitwise.bitwise_and(_dilate(words, radius), inside)

    def erode(words: tf.Tensor, radius: int) -> tf.Tensor:
        outer = tf.bitwise.bitwise_and(tf.bitwise.invert(words), inside)
        return tf.bitwise.bitwise_and(tf.bitwise.invert(_dilate(outer, radius)), inside)

    if radii.open:
        words = dilate(erode(words, radii.open), radii.open)
    if radii.close:
        words = erode(dilate(words, radii.close), radii.close)
    return tf.reshape(tf.bitcast(_mirror_bytes(words), tf.uint8), shape)[..., :bytes_a_row]


def _mirror_bytes(words: tf.Tensor) -> tf.Tensor:
    """Returns 64-bit words with the bits of each byte in the other order.

    So a word's pixels stand in one order, from the lowest bit to the highest, and can be moved past the bytes' ends.
    """
    for step, lower in ((4, 0x0F), (2, 0x33), (1, 0x55)):
        mask = tf.constant(int.from_bytes(bytes([lower]) * 8, "little"), tf.uint64)
        count = tf.constant(step, tf.uint64)
        up = tf.bitwise.left_shift(tf.bitwise.bitwise_and(words, mask), count)
        words = tf.bitwise.bitwise_or(up, tf.bitwise.bitwise_and(tf.bitwise.right_shift(words, count), mask))
    return words


def _dilate(words: tf.Tensor, radius: int) -> tf.Tensor:
    """Returns where a disc around a pixel meets a mask, of which uint64 [B, H, W/64] hold 64 pixels of a row each.

    The disc is a pile of rows, from the outermost and shortest to the middle one. The mask, widened by each, is laid
    over what there is, so many rows up and down.
    """
    widenings, rows = (tf.constant(steps) for steps in zip(*_disc(radius), strict=True))
    height = tf.shape(words)[1]

    def step(index: tf.Tensor, wide: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        wide = _widen(wide, tf.cast(widenings[index], tf.uint64))
        away = tf.minimum(rows[index], height)
        moved_down = tf.pad(wide[:, : height - away], [[0, 0], [away, 0], [0, 0]])
        moved_up = tf.pad(wide[:, away:], [[0, 0], [0, away], [0, 0]])
        return index + 1, wide, tf.bitwise.bitwise_or(found, tf.bitwise.bitwise_or(moved_down, moved_up))

    loop = tf.while_loop(
        lambda index, *_: index < tf.size(rows), step, (0, words, tf.zeros_like(words)), parallel_iterations=1
    )
    return loop[2]


def _widen(words: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Returns a mask and itself moved to the left and the right by fewer than 64 pixels."""
    # In two steps: moving a word by all of its bits is not defined.
    rest = tf.constant(_WORD - 1, tf.uint64) - by
    one = tf.constant(1, tf.uint64)
    before = tf.pad(words[:, :, :-1], [[0, 0], [0, 0], [1, 0]])
    after = tf.pad(words[:, :, 1:], [[0, 0], [0, 0], [0, 1]])
    parts = [
        tf.bitwise.left_shift(words, by),
        tf.bitwise.right_shift(tf.bitwise.right_shift(before, rest), one),
        tf.bitwise.right_shift(words, by),
        tf.bitwise.left_shift(tf.bitwise.left_shift(after, rest), one),
    ]
    for part in parts:
        words = tf.bitwise.bitwise_or(words, part)
    return words


def _disc(radius: int) -> list[tuple[int, int]]:
    """Returns how a disc's rows are made of each other: the pixels to widen by, and the row's distance from the middle.

    A run of n pixels could be widened by n at once without gaps. But beside the picture's edge half of it lies outside,
    where nothing is kept: so a run is widened by what is left of it there.
    """
    steps, half = [], 0
    for away in range(radius, -1, -1):
        wanted = math.isqrt(radius**2 - away**2)
        while True:
            by = min(wanted - half, half + 1)
            half += by
            steps.append((by, away))
            if half == wanted:
                break
    return steps
