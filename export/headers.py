"""Reading the headers of encoded pictures inside a graph, without running a decoder.

A header tells the format, the size, how the picture is to be turned upright, and what a decoder would get
wrong. Nothing here can fail on any bytes: positions are clipped and missing bytes read as 0, so that a
hostile picture in a batch cannot fail its neighbours.

Sources: JPEG (ITU-T T.81 B), EXIF 2.3 / TIFF 6.0, PNG 1.2 with APNG's acTL, BMP (BITMAPINFOHEADER), and
the WebP container specification.
"""

from typing import NamedTuple

import tensorflow as tf

JPEG, PNG, BMP, WEBP = range(4)
FORMAT_NAMES = ("jpeg", "png", "bmp", "webp")
UNKNOWN = len(FORMAT_NAMES)

_EXIF_ENTRIES = 64
"""How many entries of a picture's EXIF directory are looked at; cameras write about 15."""
_MAX_SEGMENTS = 512
"""How many segments or chunks before the pixels are looked at: bounds a hostile file's loop."""
_ORIENTATION_TAG = 0x0112
_SHORT = 3


class Header(NamedTuple):
    """What a picture's header says; scalars.

    Attributes:
        format: int32, index into `FORMAT_NAMES`, `UNKNOWN` for all others.
        height: int64, in pixels, as stored (before it is turned upright); 0 where it cannot be read.
        width: int64.
        orientation: int32, EXIF's 1 to 8; 1 is upright.
        bits: int32, per channel.
        is_animated: bool.
        is_supported: bool; False where a decoder would fail or silently read something else.
    """

    format: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    orientation: tf.Tensor
    bits: tf.Tensor
    is_animated: tf.Tensor
    is_supported: tf.Tensor


def read_header(data: tf.Tensor) -> Header:
    """Returns the header of an encoded picture.

    Args:
        data: string scalar; any bytes.
    """
    head = bytes_at(data, 0, 32)
    found = _find_format(head)

    def fields(read: Header) -> tuple[tf.Tensor, ...]:
        return tuple(read)[1:]

    branches = {
        JPEG: lambda: fields(_read_jpeg(data)),
        PNG: lambda: fields(_read_png(data, head)),
        BMP: lambda: fields(_read_bmp(data)),
        WEBP: lambda: fields(_read_webp(data, head)),
    }
    return Header(found, *tf.switch_case(found, branches, default=lambda: fields(_header(UNKNOWN))))


def bytes_at(data: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns int64 [count] bytes from a position on; 0 beyond the end."""
    length = tf.strings.length(data)
    start = tf.cast(tf.clip_by_value(tf.cast(position, tf.int64), 0, tf.cast(length, tf.int64)), tf.int32)
    return tf.cast(tf.io.decode_raw(tf.strings.substr(data, start, count), tf.uint8, fixed_length=count), tf.int64)


def _header(
    found: int,
    height: tf.Tensor | int = 0,
    width: tf.Tensor | int = 0,
    orientation: tf.Tensor | int = 1,
    bits: tf.Tensor | int = 8,
    is_animated: tf.Tensor | bool = False,
    is_supported: tf.Tensor | bool = True,
) -> Header:
    return Header(
        tf.constant(found),
        tf.cast(height, tf.int64),
        tf.cast(width, tf.int64),
        tf.cast(orientation, tf.int32),
        tf.cast(bits, tf.int32),
        tf.cast(is_animated, tf.bool),
        tf.cast(is_supported, tf.bool),
    )


def _big_endian(values: tf.Tensor) -> tf.Tensor:
    count = values.shape[-1]
    return tf.reduce_sum(values * tf.constant([256**i for i in reversed(range(count))], tf.int64), -1)


def _little_endian(values: tf.Tensor) -> tf.Tensor:
    count = values.shape[-1]
    return tf.reduce_sum(values * tf.constant([256**i for i in range(count)], tf.int64), -1)


def _equals(values: tf.Tensor, text: bytes) -> tf.Tensor:
    return tf.reduce_all(values[: len(text)] == tf.constant(list(text), tf.int64))


def _find_format(head: tf.Tensor) -> tf.Tensor:
    matches = [
        _equals(head, b"\xff\xd8\xff"),
        _equals(head, b"\x89PNG\r\n\x1a\n"),
        _equals(head, b"BM"),
        _equals(head, b"RIFF") & _equals(head[8:], b"WEBP"),
        tf.constant(True),
    ]
    return tf.argmax(tf.cast(tf.stack(matches), tf.int32), output_type=tf.int32)


def _read_jpeg(data: tf.Tensor) -> Header:
    """Walks the segments up to the first frame header; EXIF stands before it."""
    zero = tf.constant(0, tf.int64)

    def is_frame(marker: tf.Tensor) -> tf.Tensor:
        # SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
        in_range = (marker >= 0xC0) & (marker <= 0xCF)
        return in_range & (marker != 0xC4) & (marker != 0xC8) & (marker != 0xCC)

    def step(
        position: tf.Tensor, _: tf.Tensor, height: tf.Tensor, width: tf.Tensor, orientation: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        # marker (2), length (2), then a frame header's precision (1), height (2), width (2), or "Exif\0\0"
        segment = bytes_at(data, position, 10)
        marker, length = segment[1], _big_endian(segment[2:4])
        is_fill = segment[1] == 0xFF  # any number of FF may stand before a marker
        is_segment = (segment[0] == 0xFF) & ~is_fill & (marker != 0xDA) & (length >= 2)
        frame = is_segment & is_frame(marker)
        is_exif = is_segment & (marker == 0xE1) & _equals(segment[4:], b"Exif\x00\x00")
        orientation = tf.cond(
            is_exif & (orientation == 0), lambda: _exif_orientation(data, position + 10), lambda: orientation
        )
        next_position = tf.where(is_fill, position + 1, position + 2 + length)
        return (
            next_position,
            (is_segment & ~frame) | is_fill,
            tf.where(frame, _big_endian(segment[5:7]), height),
            tf.where(frame, _big_endian(segment[7:9]), width),
            orientation,
        )

    start = (tf.constant(2, tf.int64), tf.constant(True), zero, zero, tf.constant(0))
    _, _, height, width, orientation = tf.while_loop(
        lambda _, go_on, *__: go_on, step, start, parallel_iterations=1, maximum_iterations=_MAX_SEGMENTS
    )
    return _header(JPEG, height, width, tf.maximum(orientation, 1))


def _exif_orientation(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Returns int32 1 to 8 from the TIFF block that begins at `tiff`; 1 where there is none."""
    head = bytes_at(data, tiff, 8)
    is_little = _equals(head, b"II")
    is_tiff = is_little | _equals(head, b"MM")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little, _little_endian(values), _big_endian(values))

    directory = tiff + number(head[4:8])
    count = number(bytes_at(data, directory, 2))
    entries = tf.reshape(bytes_at(data, directory + 2, 12 * _EXIF_ENTRIES), [_EXIF_ENTRIES, 12])
    is_orientation = (
        (number(entries[:, 0:2]) == _ORIENTATION_TAG)
        & (number(entries[:, 2:4]) == _SHORT)
        & (tf.range(_EXIF_ENTRIES, dtype=tf.int64) < count)
    )
    values = number(entries[:, 8:10]) * tf.cast(is_orientation, tf.int64)
    orientation = tf.cast(tf.reduce_max(values), tf.int32)
    return tf.where(is_tiff & (orientation >= 1) & (orientation <= 8), orientation, 1)


def _read_png(data: tf.Tensor, head: tf.Tensor) -> Header:
    """Reads the first chunk, then walks on to the pixels, looking for an animation and EXIF."""

    def step(
        position: tf.Tensor, _: tf.Tensor, is_animated: tf.Tensor, orientation: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        chunk = bytes_at(data, position, 8)
        length, kind = _big_endian(chunk[:4]), chunk[4:]
        at_pixels = _equals(kind, b"IDAT") | tf.reduce_all(kind == 0)
        orientation = tf.cond(
            _equals(kind, b"eXIf"), lambda: _exif_orientation(data, position + 8), lambda: orientation
        )
        return position + 12 + length, ~at_pixels, is_animated | _equals(kind, b"acTL"), orientation

    start = (tf.constant(33, tf.int64), tf.constant(True), tf.constant(False), tf.constant(1))
    _, _, is_animated, orientation = tf.while_loop(
        lambda _, go_on, *__: go_on, step, start, parallel_iterations=1, maximum_iterations=_MAX_SEGMENTS
    )
    return _header(
        PNG,
        height=_big_endian(head[20:24]),
        width=_big_endian(head[16:20]),
        orientation=orientation,
        bits=head[24],
        is_animated=is_animated,
        is_supported=_equals(head[12:], b"IHDR"),
    )


def _read_bmp(data: tf.Tensor) -> Header:
    head = bytes_at(data, 0, 70)
    header_size = _little_endian(head[14:18])
    width, height = _signed(_little_endian(head[18:22])), _signed(_little_endian(head[22:26]))
    bits, compression = _little_endian(head[28:30]), _little_endian(head[30:34])
    # TensorFlow's decoder takes any pixels for uncompressed B, G, R (A) or indices of 8 bits.
    is_plain = compression == 0
    masks = tf.constant([0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0], tf.int64)
    is_plain_by_masks = (compression == 3) & (bits == 32) & tf.reduce_all(head[54:66] == masks)
    is_supported = (
        (header_size >= 40) & ((bits == 8) | (bits == 24) | (bits == 32)) & (is_plain | is_plain_by_masks) & (width > 0)
    )
    return _header(BMP, tf.abs(height), width, is_supported=is_supported)


def _signed(value: tf.Tensor) -> tf.Tensor:
    return tf.where(value >= 2**31, value - 2**32, value)


def _read_webp(data: tf.Tensor, head: tf.Tensor) -> Header:
    is_lossless, is_extended = _equals(head[12:], b"VP8L"), _equals(head[12:], b"VP8X")
    packed = _little_endian(head[21:25])
    height = tf.where(
        is_extended,
        _little_endian(head[27:30]) + 1,
        tf.where(is_lossless, packed // 2**14 % 2**14 + 1, _little_endian(head[28:30]) % 2**14),
    )
    width = tf.where(
        is_extended,
        _little_endian(head[24:27]) + 1,
        tf.where(is_lossless, packed % 2**14 + 1, _little_endian(head[26:28]) % 2**14),
    )
    flags = head[20] * tf.cast(is_extended, tf.int64)
    has_exif, is_animated = flags // 8 % 2 == 1, flags // 2 % 2 == 1
    orientation = tf.cond(has_exif, lambda: _webp_orientation(data), lambda: tf.constant(1))
    return _header(WEBP, height, width, orientation, is_animated=is_animated)


def _webp_orientation(data: tf.Tensor) -> tf.Tensor:
    def step(position: tf.Tensor, _: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chunk = bytes_at(data, position, 14)
        length, is_exif = _little_endian(chunk[4:8]), _equals(chunk, b"EXIF")
        # Some writers keep JPEG's "Exif\0\0" before the TIFF block.
        tiff = position + 8 + 6 * tf.cast(_equals(chunk[8:], b"Exif\x00\x00"), tf.int64)
        orientation = tf.cond(is_exif, lambda: _exif_orientation(data, tiff), lambda: orientation)
        is_end = tf.reduce_all(chunk[:4] == 0)
        return position + 8 + length + length % 2, ~(is_exif | is_end), orientation

    start = (tf.constant(12, tf.int64), tf.constant(True), tf.constant(1))
    _, _, orientation = tf.while_loop(
        lambda _, go_on, *__: go_on, step, start, parallel_iterations=1, maximum_iterations=_MAX_SEGMENTS
    )
    return orientation
