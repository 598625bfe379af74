"""Reading the headers of encoded pictures inside a graph, without running a decoder.

A header tells the format, the size, how the picture is to be turned upright, and what a decoder would get
wrong. Nothing here can fail on any bytes: positions are clipped and missing bytes read as 0, so that a
hostile picture in a batch cannot fail its neighbours.

Sources: JPEG (ITU-T T.81 B), EXIF 2.3 / TIFF 6.0, PNG 1.2 with APNG's acTL, BMP (BITMAPINFOHEADER), and
the WebP container specification.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

JPEG, PNG, BMP, WEBP = range(4)
FORMAT_NAMES = ("jpeg", "png", "bmp", "webp")
UNKNOWN = len(FORMAT_NAMES)

_EXIF_ENTRIES = 64
"""How many entries of a picture's EXIF directory are looked at; cameras write about 15."""
_MAX_SEGMENTS = 512
"""How many segments or chunks before the pixels are looked at: bounds a hostile file's loop."""
_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_XMP_BYTES = 1 << 16
"""How much of an XMP packet is looked at: all that a JPEG's can hold."""
# Pillow's own pattern, from the packet's first byte on; \C is any byte, as a packet need not be UTF-8.
_XMP_ORIENTATION = r'^\C*?tiff:Orientation(="|>)([0-9])'

_ANY = -1
"""Stands for any byte in a pattern."""
_SIGNATURES = [
    [*start, *[_ANY] * (12 - len(start))]
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", (*b"RIFF", *[_ANY] * 4, *b"WEBP"))
]
"""How a file of each format begins."""
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\x00"
_EXIF_NAME = b"Exif\x00\x00"
_JPEG_MARKS = [
    [0xFF, 0xE1, _ANY, _ANY, *name, *[_ANY] * (len(_XMP_NAME) - len(name))] for name in (_EXIF_NAME, _XMP_NAME)
]
# A text chunk with XMP that is not compressed; what no graph can unpack at ease is left.
_PNG_XMP = b"iTXtXML:com.adobe.xmp\x00\x00"
_PNG_KINDS = [
    [*kind, *[_ANY] * (len(_PNG_XMP) - len(kind))] for kind in (b"IDAT", bytes(4), b"acTL", b"eXIf", _PNG_XMP)
]

# SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
_JPEG_FRAMES = [marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)]
_HAS_LENGTH = -1
_JPEG_ADVANCES = np.full(256, _HAS_LENGTH)
"""How far it is from a marker, by its second byte, to the next; 0 where the walk ends."""
_JPEG_ADVANCES[[*_JPEG_FRAMES, 0xD9, 0xDA]] = 0
_JPEG_ADVANCES[[0x00, 0x01, *range(0xD0, 0xD9)]] = 2  # no marker, and those without a length: TEM, RST0 to RST7, SOI
_JPEG_ADVANCES[0xFF] = 1  # any number of FF may stand before a marker


class Header(NamedTuple):
    """What a picture's header says; scalars."""

    format: tf.Tensor  # int32, index into `FORMAT_NAMES`, `UNKNOWN` for all others
    height: tf.Tensor  # int64, in pixels, as stored (before it is turned upright); 0 where it cannot be read
    width: tf.Tensor  # int64
    orientation: tf.Tensor  # int32, EXIF's 1 to 8; 1 is upright
    bits: tf.Tensor  # int32, per channel
    is_animated: tf.Tensor  # bool
    is_supported: tf.Tensor  # bool; False where a decoder would fail or silently read something else


def read_header(data: tf.Tensor) -> Header:
    """Returns the header of an encoded picture: a string scalar of any bytes."""
    head = bytes_at(data, 0, 32)
    found = _find_format(head)
    branches = {
        JPEG: lambda: _read_jpeg(data),
        PNG: lambda: _read_png(data, head),
        BMP: lambda: _read_bmp(data),
        WEBP: lambda: _read_webp(data, head),
    }
    fields = _Fields(*tf.switch_case(found, branches, default=_fields))
    orientation = tf.cond(fields.exif > 0, lambda: _exif_orientation(data, fields.exif), lambda: tf.constant(-1))
    # Like Pillow: XMP counts where Exif is silent.
    is_in_xmp = (orientation < 0) & (fields.xmp[1] > 0)
    orientation = tf.cond(is_in_xmp, lambda: _xmp_orientation(data, fields.xmp), lambda: orientation)
    orientation = tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)
    return Header(found, fields.height, fields.width, orientation, fields.bits, fields.is_animated, fields.is_supported)


def bytes_at(data: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns int64 [count] bytes from a position on, which is 0 or more; 0 beyond the end."""
    start = tf.minimum(tf.cast(position, tf.int64), tf.cast(tf.strings.length(data), tf.int64))
    found = tf.strings.substr(data, start, tf.constant(count, tf.int64))
    return tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=count), tf.int64)


class _Fields(NamedTuple):
    """What the reader of each format returns: a `Header` but for its format, and where EXIF and XMP begin.

    `exif` is int64, of its TIFF block; `xmp` int64 [2], the packet's begin and length; 0 where there is none.
    """

    height: tf.Tensor
    width: tf.Tensor
    bits: tf.Tensor
    is_animated: tf.Tensor
    is_supported: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor


_FIELDS = _Fields(0, 0, 8, False, True, 0, (0, 0))
_DTYPES = _Fields(tf.int64, tf.int64, tf.int32, tf.bool, tf.bool, tf.int64, tf.int64)


def _fields(**found: tf.Tensor) -> _Fields:
    return _Fields(*(tf.cast(value, dtype) for value, dtype in zip(_FIELDS._replace(**found), _DTYPES, strict=True)))


def _little_endian(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values * tf.constant([256**i for i in range(values.shape[-1])], tf.int64), -1)


def _big_endian(values: tf.Tensor) -> tf.Tensor:
    return _little_endian(values[..., ::-1])


def _match(values: tf.Tensor, pattern: Sequence[int] | Sequence[Sequence[int]]) -> tf.Tensor:
    """Returns whether some bytes begin with a pattern, or with each of several of one length; `_ANY` is any byte."""
    wanted = np.array([*pattern])
    is_same = values[: wanted.shape[-1]] == tf.constant(wanted, tf.int64)
    is_any = wanted == _ANY
    return tf.reduce_all(is_same | is_any if is_any.any() else is_same, -1)


def _walk(step: Callable[..., tuple[tf.Tensor, ...]], start: int, *found: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Goes from segment to segment, and returns the last position and what was found.

    A step takes a position and what was found so far; it gives the next, whether to go on, and what was found.
    """
    position, _, *last = tf.while_loop(
        lambda _, goes_on, *__: goes_on,
        lambda position, _, *so_far: step(position, *so_far),
        (tf.constant(start, tf.int64), tf.constant(True), *found),
        parallel_iterations=1,
        maximum_iterations=_MAX_SEGMENTS,
    )
    return position, *last


def _nowhere() -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where an EXIF block and an XMP packet are that are not there."""
    return tf.constant(0, tf.int64), tf.constant([0, 0], tf.int64)


def _find_format(head: tf.Tensor) -> tf.Tensor:
    matches = tf.cast(_match(head, _SIGNATURES), tf.int32)
    return tf.argmax(tf.concat([matches, [1]], 0), output_type=tf.int32)


def _read_jpeg(data: tf.Tensor) -> _Fields:
    """Walks the segments up to the first frame header; EXIF and XMP stand before it. Decoders skip what is none."""
    size = tf.cast(tf.strings.length(data), tf.int64)

    def step(position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor) -> tuple[tf.Tensor, ...]:
        segment = bytes_at(data, position, len(_JPEG_MARKS[0]))
        length = _big_endian(segment[2:4])
        advance = tf.gather(tf.constant(_JPEG_ADVANCES, tf.int64), segment[1])
        advance = tf.where(advance == _HAS_LENGTH, tf.where(length >= 2, 2 + length, 0), advance)
        advance = tf.where(segment[0] == 0xFF, advance, 1)
        is_exif, is_xmp = tf.unstack(_match(segment, _JPEG_MARKS) & (length >= 2))
        after = position + advance
        text = position + len(_JPEG_MARKS[0])
        return (
            after,
            (advance > 0) & (after < size),
            tf.where(is_exif & (exif == 0), position + 4 + len(_EXIF_NAME), exif),
            tf.where(is_xmp, tf.stack([text, after - text]), xmp),
        )

    end, exif, xmp = _walk(step, 2, *_nowhere())
    # marker (2), length (2), and a frame header's precision (1), height (2), width (2)
    frame = bytes_at(data, end, 9)
    is_frame = (frame[0] == 0xFF) & tf.reduce_any(frame[1] == tf.constant(_JPEG_FRAMES, tf.int64))
    known = tf.cast(is_frame & (_big_endian(frame[2:4]) >= 2), tf.int64)
    height, width = known * _big_endian(frame[5:7]), known * _big_endian(frame[7:9])
    return _fields(height=height, width=width, exif=exif, xmp=xmp)


def _exif_orientation(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Returns int32 from the TIFF block that begins at `tiff`; -1 where it says nothing of it."""
    head = bytes_at(data, tiff, 8)
    is_little = _match(head, b"II")
    is_tiff = is_little | _match(head, b"MM")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little, _little_endian(values), _big_endian(values))

    directory = tiff + number(head[4:8])
    count = number(bytes_at(data, directory, 2))
    entries = tf.reshape(bytes_at(data, directory + 2, 12 * _EXIF_ENTRIES), [_EXIF_ENTRIES, 12])
    is_orientation = (number(entries[:, 0:2]) == _ORIENTATION_TAG) & (tf.range(_EXIF_ENTRIES, dtype=tf.int64) < count)
    kinds = number(entries[:, 2:4])
    longs = tf.where(kinds == _LONG, number(entries[:, 8:12]), 0)
    values = tf.where(kinds == _SHORT, number(entries[:, 8:10]), longs)
    found = tf.reduce_max(tf.where(is_orientation & is_tiff, values, -1))
    return tf.cast(tf.minimum(found, 9), tf.int32)


def _xmp_orientation(data: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """Returns int32 0 to 9 from an XMP packet; another number where it says nothing of it."""
    start = tf.minimum(xmp[0], tf.cast(tf.strings.length(data), tf.int64))
    packet = tf.strings.substr(data, start, tf.minimum(xmp[1], _XMP_BYTES))
    # All up to the digit is replaced by it; where nothing is, the first byte is that of some markup.
    digit = bytes_at(tf.strings.regex_replace(packet, _XMP_ORIENTATION, r"\2", replace_global=False), 0, 1)
    return tf.cast(digit[0] - ord("0"), tf.int32)


def _read_png(data: tf.Tensor, head: tf.Tensor) -> _Fields:
    """Reads the first chunk, then walks on to the pixels, looking for an animation and EXIF."""

    def step(position: tf.Tensor, is_animated: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chunk = bytes_at(data, position, 4 + len(_PNG_XMP))
        length, kind = _big_endian(chunk[:4]), chunk[4:]
        # A kind of zeros is the file's end.
        is_pixels, is_end, is_animation, is_exif, is_xmp = tf.unstack(_match(kind, _PNG_KINDS))
        return (
            position + 12 + length,
            ~(is_pixels | is_end),
            is_animated | is_animation,
            tf.where(is_exif, position + 8, exif),
            tf.where(is_xmp, tf.stack([position + 4 + len(_PNG_XMP), length + 4 - len(_PNG_XMP)]), xmp),
        )

    _, is_animated, exif, xmp = _walk(step, 33, tf.constant(False), *_nowhere())
    return _fields(
        height=_big_endian(head[20:24]),
        width=_big_endian(head[16:20]),
        bits=head[24],
        is_animated=is_animated,
        is_supported=_match(head[12:], b"IHDR"),
        exif=exif,
        xmp=xmp,
    )


def _read_bmp(data: tf.Tensor) -> _Fields:
    head = bytes_at(data, 0, 70)
    header_size = _little_endian(head[14:18])
    edges = _little_endian(tf.reshape(head[18:26], [2, 4]))
    width, height = tf.unstack(tf.where(edges >= 2**31, edges - 2**32, edges))  # signed
    bits, compression = _little_endian(head[28:30]), _little_endian(head[30:34])
    # TensorFlow's decoder takes any pixels for uncompressed B, G, R (A) or indices of 8 bits.
    is_plain = compression == 0
    masks = tf.constant([0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0], tf.int64)
    is_plain_by_masks = (compression == 3) & (bits == 32) & tf.reduce_all(head[54:66] == masks)
    is_supported = (
        (header_size >= 40) & ((bits == 8) | (bits == 24) | (bits == 32)) & (is_plain | is_plain_by_masks) & (width > 0)
    )
    return _fields(height=tf.abs(height), width=width, is_supported=is_supported)


def _read_webp(data: tf.Tensor, head: tf.Tensor) -> _Fields:
    is_lossless, is_extended = _match(head[12:], b"VP8L"), _match(head[12:], b"VP8X")
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
    has_exif, has_xmp, is_animated = flags // 8 % 2 == 1, flags // 4 % 2 == 1, flags // 2 % 2 == 1
    exif, xmp = tf.cond(has_exif | has_xmp, lambda: _webp_exif_and_xmp(data), _nowhere)
    # Chunks that the first does not announce do not count.
    exif, xmp = exif * tf.cast(has_exif, tf.int64), xmp * tf.cast(has_xmp, tf.int64)
    return _fields(height=height, width=width, is_animated=is_animated, exif=exif, xmp=xmp)


def _webp_exif_and_xmp(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the TIFF block of the first EXIF chunk is, and the packet of the first XMP chunk."""

    def step(position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chunk = bytes_at(data, position, 14)
        length = _little_endian(chunk[4:8])
        is_exif, is_xmp, is_end = tf.unstack(_match(chunk, [list(kind) for kind in (b"EXIF", b"XMP ", bytes(4))]))
        # Some writers keep JPEG's name before the TIFF block.
        tiff = position + 8 + len(_EXIF_NAME) * tf.cast(_match(chunk[8:], _EXIF_NAME), tf.int64)
        return (
            position + 8 + length + length % 2,
            ~is_end,
            tf.where(is_exif & (exif == 0), tiff, exif),
            tf.where(is_xmp & (xmp[0] == 0), tf.stack([position + 8, length]), xmp),
        )

    _, exif, xmp = _walk(step, 12, *_nowhere())
    return exif, xmp
