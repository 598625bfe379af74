"""Reading the headers of encoded pictures inside a graph, without running a decoder.

A header tells the format, the size, how the picture is to be turned upright, and what a decoder would get
wrong. Nothing here can fail on any bytes: positions are clipped and missing bytes read as 0, so that a
hostile picture in a batch cannot fail its neighbours.

Sources: JPEG (ITU-T T.81 B), EXIF 2.3 / TIFF 6.0, PNG 1.2 with APNG's acTL, BMP (BITMAPINFOHEADER), and
the WebP container specification.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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

_ANY, _NONE = -1, -2
"""In a pattern: any byte, and none."""
_HEAD_BYTES = 70
"""How much of a file's begin is looked at: up to the masks of a BMP."""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", (*b"RIFF", *[_ANY] * 4, *b"WEBP"))
"""How a file of each format begins."""
_EXIF_NAME, _XMP_NAME = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_PNG_XMP = b"iTXtXML:com.adobe.xmp\x00\x00"
"""A text chunk with XMP that is not compressed; what no graph can unpack at ease is left."""
_PART_BYTES = 4 + len(_XMP_NAME)
"""How much of the begin of a JPEG's segment, or of a chunk of PNG and WebP, tells what it is."""

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


class _Parts(NamedTuple):
    """How a format's segments or chunks are read, so that one loop walks through all formats."""

    start: int = 0
    """Where the first is; 0 where there is none."""
    header: int = 0
    """How many bytes it takes beside those that its length counts."""
    is_padded: int = 0
    """Whether one of an odd length is followed by a byte."""
    least: int = 0
    """The least length of one that counts."""
    exif: int = 0
    """Where in its part the TIFF block begins."""
    takes_last_exif: int = 0
    xmp: int = 0
    """Where in its part the XMP packet begins."""
    xmp_length: int = 0
    """What is to be added to a part's length for the packet's."""
    takes_last_xmp: int = 0


_PARTS = [_Parts()] * (UNKNOWN + 1)
_PARTS[JPEG] = _Parts(
    start=2, header=2, least=2, exif=4 + len(_EXIF_NAME), xmp=_PART_BYTES, xmp_length=2 - _PART_BYTES, takes_last_xmp=1
)
_PARTS[PNG] = _Parts(
    start=33,
    header=12,
    exif=8,
    takes_last_exif=1,
    xmp=4 + len(_PNG_XMP),
    xmp_length=4 - len(_PNG_XMP),
    takes_last_xmp=1,
)
_PARTS[WEBP] = _Parts(start=12, header=8, is_padded=1, exif=8, xmp=8)


def _pattern(*text: int | bytes) -> list[int]:
    """Returns a pattern of a part: bytes, and how many of any stand between them; one that fits none of nothing."""
    pattern = [byte for one in text for byte in ([_ANY] * one if isinstance(one, int) else [*one])]
    return pattern + [_ANY if pattern else _NONE] * (_PART_BYTES - len(pattern))


# What a part is by its first bytes: two kinds that end the walk (zeros are the file's end), one that says that the
# picture moves, or that a JPEG's inks are Adobe's, EXIF, EXIF with JPEG's name before it (as some writers of WebP keep
# it), and XMP.
_KINDS = [[_pattern()] * 6] * (UNKNOWN + 1)
_KINDS[JPEG] = [
    *[_pattern()] * 2,
    _pattern(b"\xff\xee", 2, b"Adobe"),
    _pattern(b"\xff\xe1", 2, _EXIF_NAME),
    _pattern(),
    _pattern(b"\xff\xe1", 2, _XMP_NAME),
]
_KINDS[PNG] = [
    _pattern(4, b"IDAT"),
    _pattern(4, bytes(4)),
    _pattern(4, b"acTL"),
    _pattern(4, b"eXIf"),
    _pattern(),
    _pattern(4, _PNG_XMP),
]
_KINDS[WEBP] = [
    _pattern(bytes(4)),
    _pattern(),
    _pattern(),
    _pattern(b"EXIF"),
    _pattern(b"EXIF", 4, _EXIF_NAME),
    _pattern(b"XMP "),
]


def _big(at: int, count: int, among: int) -> npt.NDArray[np.int64]:
    """Returns the weights, int64 [among], by which bytes add up to the big-endian number of some of them."""
    weights = np.zeros(among, np.int64)
    weights[at : at + count] = [256**i for i in reversed(range(count))]
    return weights


def _little(at: int, count: int, among: int) -> npt.NDArray[np.int64]:
    return _big(among - at - count, count, among)[::-1]


_LENGTHS = np.zeros([UNKNOWN + 1, _PART_BYTES], np.int64)
_LENGTHS[JPEG] = _big(2, 2, _PART_BYTES)
_LENGTHS[PNG] = _big(0, 4, _PART_BYTES)
_LENGTHS[WEBP] = _little(4, 4, _PART_BYTES)


_PART_NUMBERS = np.stack(
    [np.stack([_big(0, 1, _PART_BYTES), _big(1, 1, _PART_BYTES), lengths], -1) for lengths in _LENGTHS]
)
_HEAD_NUMBERS = np.stack(
    [
        *(_big(at, count, _HEAD_BYTES) for at, count in [(20, 4), (16, 4), (24, 1)]),
        *(_little(at, count, _HEAD_BYTES) for at, count in [(14, 4), (22, 4), (18, 4), (28, 2), (30, 4)]),
        *(_little(at, count, _HEAD_BYTES) for at, count in [(27, 3), (24, 3), (21, 4), (28, 2), (26, 2), (20, 1)]),
    ],
    -1,
)
"""Of PNG: height, width, bits. Of BMP: the header's size, height, width, bits, compression. Of WebP: height and width
less 1 (VP8X), both in one (VP8L), height and width (VP8), flags (VP8X)."""
_BMP_MASKS = [0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0]
_FRAME_BYTES = 10
_FRAME_NUMBERS = np.stack([_big(at, n, _FRAME_BYTES) for at, n in [(0, 1), (1, 1), (2, 2), (5, 2), (7, 2), (9, 1)]], -1)
"""Of a JPEG's frame header: FF, marker, length, height, width, channels."""
_TIFF_DIRECTORY = [order(4, 4, 8)[:, np.newaxis] for order in (_little, _big)]
_TIFF_ENTRY = [
    np.stack([order(at, count, 12) for at, count in [(0, 2), (2, 2), (8, 2), (8, 4), (10, 2), (4, 4)]], -1)
    for order in (_little, _big)
]
"""Of an entry: tag, kind, value (of 16 or 32 bits), the number that its last two bytes are; how many values it has."""


def read_header(data: tf.Tensor) -> Header:
    """Returns the header of an encoded picture: a string scalar of any bytes."""
    # Few nodes rather than few steps: a server pays for each node of each signature when it starts. So numbers are read
    # by one product with their weights, those of all formats at once, and one loop walks through the parts of any.
    head = bytes_at(data, 0, _HEAD_BYTES)
    is_format = tf.cast(_matches(head[:12], _SIGNATURES), tf.int32)
    found = tf.argmax(tf.concat([is_format, [1]], 0), output_type=tf.int32)
    is_png, is_bmp, is_webp = found == PNG, found == BMP, found == WEBP
    is_ihdr, is_lossless, is_extended = tf.unstack(_matches(head[12:16], (b"IHDR", b"VP8L", b"VP8X")))
    numbers = _numbers(head, _HEAD_NUMBERS)
    png_size, png_bits = numbers[:2], numbers[2]
    bmp_header, bmp_height, bmp_width, bmp_bits, bmp_compression = numbers[3:8]
    extended_size, lossless_size, lossy_size, flags = numbers[8:10], numbers[10], numbers[11:13], numbers[13]

    # TensorFlow's decoder takes any pixels for uncompressed B, G, R (A) or indices of 8 bits.
    bmp_height, bmp_width = _signed(bmp_height), _signed(bmp_width)
    is_plain = (bmp_compression == 0) & tf.reduce_any(bmp_bits == [8, 24, 32])
    is_plain_by_masks = (bmp_compression == 3) & (bmp_bits == 32) & tf.reduce_all(head[54:66] == _BMP_MASKS)
    is_plain_bmp = (bmp_header >= 40) & (is_plain | is_plain_by_masks) & (bmp_width > 0)

    webp_size = tf.where(
        is_extended,
        tf.stack(extended_size) + 1,
        tf.where(is_lossless, lossless_size // [2**14, 1] % 2**14 + 1, tf.stack(lossy_size) % 2**14),
    )
    has_exif, has_xmp, is_moving_webp = tf.unstack((tf.bitwise.bitwise_and(flags, [8, 4, 2]) > 0) & is_extended)

    end, is_marked, exif, xmp = _walk(data, found)
    # Chunks that the first does not announce do not count.
    exif, xmp = tf.where(~is_webp | has_exif, exif, 0), tf.where(~is_webp | has_xmp, xmp, 0)
    jpeg_size, jpeg_channels = _jpeg_frame(data, end)
    # Of inks that are not Adobe's, TensorFlow's decoder takes 255 for all of it, and Pillow for none.
    is_readable_jpeg = (jpeg_channels != 4) | is_marked
    sizes = [jpeg_size, tf.stack(png_size), tf.stack([tf.abs(bmp_height), bmp_width]), webp_size, [0, 0]]
    height, width = tf.unstack(tf.gather(tf.stack(sizes), found))

    orientation = tf.where(exif > 0, _exif_orientation(data, exif), -1)
    # Like Pillow: XMP counts where Exif is silent.
    is_silent = orientation < 0
    orientation = tf.where(is_silent, _xmp_orientation(data, tf.where(is_silent, xmp, 0)), orientation)
    return Header(
        found,
        height,
        width,
        tf.where((orientation >= 1) & (orientation <= 8), orientation, 1),
        tf.cast(tf.where(is_png, png_bits, 8), tf.int32),
        (is_png & is_marked) | (is_webp & is_moving_webp),
        (~is_png | is_ihdr) & (~is_bmp | is_plain_bmp) & ((found != JPEG) | is_readable_jpeg),
    )


def bytes_at(data: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns int64 [count] bytes from a position on, which is 0 or more; 0 beyond the end."""
    start = tf.minimum(tf.cast(position, tf.int64), _length(data))
    found = tf.strings.substr(data, start, tf.constant(count, tf.int64))
    return tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=count), tf.int64)


def _length(data: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(data), tf.int64)


def _matches(values: tf.Tensor, patterns: Sequence[Sequence[int]]) -> tf.Tensor:
    """Returns which patterns some bytes begin with; shorter ones take any bytes at their end."""
    wanted = np.full([len(patterns), values.shape[0]], _ANY)
    for row, pattern in zip(wanted, patterns, strict=True):
        row[: len(pattern)] = [*pattern]
    return tf.reduce_all((values == wanted) | (wanted == _ANY), -1)


def _numbers(values: tf.Tensor, weights: tf.Tensor | npt.NDArray[np.int64]) -> list[tf.Tensor]:
    """Returns k numbers, int64 scalars, that bytes [n] add up to with weights [n, k]."""
    return tf.unstack(tf.squeeze(tf.matmul(values[tf.newaxis], weights), 0))


def _signed(values: tf.Tensor) -> tf.Tensor:
    """Returns what an unsigned number of 32 bits is as a signed one."""
    return tf.cast(tf.cast(values, tf.int32), tf.int64)


def _walk(data: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Goes from segment to segment, or chunk to chunk, up to the pixels.

    Returns:
        The last position, whether the picture moves (of JPEG: whether its inks are Adobe's), where its TIFF block
        begins, and begin and length of its XMP packet; 0 where there is none.
    """
    size = _length(data)
    is_jpeg = found == JPEG
    kinds, weights = tf.gather(tf.constant(_KINDS, tf.int64), found), tf.gather(_PART_NUMBERS, found)
    is_any = kinds == _ANY
    parts = _Parts(*tf.unstack(tf.gather(tf.constant(_PARTS, tf.int64), found)))
    takes_last_exif, takes_last_xmp = parts.takes_last_exif > 0, parts.takes_last_xmp > 0

    def step(
        position: tf.Tensor, _: tf.Tensor, is_marked: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        part = bytes_at(data, position, _PART_BYTES)
        first, second, length = _numbers(part, weights)
        is_whole = length >= parts.least
        advance = length + parts.header + parts.is_padded * (length % 2)
        # Decoders of JPEG skip what is no marker.
        by_marker = tf.where(first == 0xFF, tf.gather(tf.constant(_JPEG_ADVANCES), second), 1)
        by_marker = tf.where(by_marker == _HAS_LENGTH, tf.where(is_whole, advance, 0), by_marker)
        advance = tf.where(is_jpeg, by_marker, advance)
        is_kind = tf.reduce_all((part == kinds) | is_any, -1) & is_whole
        is_pixels, is_end, marks, is_exif, is_named, is_xmp = tf.unstack(is_kind)
        after = position + advance
        tiff = position + parts.exif + len(_EXIF_NAME) * tf.cast(is_named, tf.int64)
        packet = tf.stack([position + parts.xmp, length + parts.xmp_length])
        return (
            after,
            (advance > 0) & (after < size) & ~(is_pixels | is_end),
            is_marked | marks,
            tf.where(is_exif & (takes_last_exif | (exif == 0)), tiff, exif),
            tf.where(is_xmp & (takes_last_xmp | (xmp[0] == 0)), packet, xmp),
        )

    position, _, *last = tf.while_loop(
        lambda _, goes_on, *__: goes_on,
        step,
        (parts.start, parts.start > 0, tf.constant(False), tf.constant(0, tf.int64), tf.constant([0, 0], tf.int64)),
        parallel_iterations=1,
        maximum_iterations=_MAX_SEGMENTS,
    )
    return position, *last


def _jpeg_frame(data: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns height and width, int64 [2], and channels by the frame header at a position; sizes of 0 without one."""
    first, second, length, height, width, channels = _numbers(bytes_at(data, position, _FRAME_BYTES), _FRAME_NUMBERS)
    is_frame = (first == 0xFF) & tf.reduce_any(second == _JPEG_FRAMES) & (length >= 2)
    frame = tf.stack([height, width, channels]) * tf.cast(is_frame, tf.int64)
    return frame[:2], frame[2]


def _exif_orientation(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """Returns int32 from the TIFF block that begins at `tiff`; -1 where it says nothing of it."""
    head = bytes_at(data, tiff, 8)
    is_order = _matches(head[:2], (b"II", b"MM"))
    is_little = is_order[0]
    (directory,) = _numbers(head, tf.where(is_little, *_TIFF_DIRECTORY))
    # The count of entries stands before them: as the end of an entry.
    start = tf.maximum(tiff + directory - 10, 0)
    rows = tf.reshape(bytes_at(data, start, 12 * (1 + _EXIF_ENTRIES)), [1 + _EXIF_ENTRIES, 12])
    tags, kinds, shorts, longs, counts, lengths = tf.unstack(tf.matmul(rows, tf.where(is_little, *_TIFF_ENTRY)), axis=1)
    index = np.arange(1 + _EXIF_ENTRIES)
    is_entry = (index > 0) & (index <= counts[0]) & tf.reduce_any(is_order)
    is_orientation = (tags == _ORIENTATION_TAG) & (lengths == 1) & is_entry
    values = tf.where(kinds == _SHORT, shorts, tf.where(kinds == _LONG, longs, 0))
    return tf.cast(tf.minimum(tf.reduce_max(tf.where(is_orientation, values, -1)), 9), tf.int32)


def _xmp_orientation(data: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """Returns int32 0 to 9 from an XMP packet; another number where it says nothing of it."""
    packet = tf.strings.substr(data, tf.minimum(xmp[0], _length(data)), tf.clip_by_value(xmp[1], 0, _XMP_BYTES))
    # All up to the digit is replaced by it; where nothing is, the first byte is that of some markup.
    digit = bytes_at(tf.strings.regex_replace(packet, _XMP_ORIENTATION, r"\2", replace_global=False), 0, 1)
    return tf.cast(digit[0] - ord("0"), tf.int32)
