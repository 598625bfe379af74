"""PNG: a fast writer for what is sent, and a careful reader for what comes back."""

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidResponseError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE_OF_CHANNELS = {1: 0, 3: 2, 2: 4, 4: 6}
_CHANNELS_OF_COLOUR_TYPE = {colour: channels for channels, colour in _COLOUR_TYPE_OF_CHANNELS.items()}
_FILTER_UP = 2
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""A whole PNG's last bytes."""


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """What a PNG says of itself in its first 33 bytes.

    Attributes:
        size: height and width in pixels.
        bits: of a sample.
        channels: 1 to 4; None where the samples are indices into a palette.
    """

    size: tuple[int, int]
    bits: int
    channels: int | None


def encode_png(pixels: npt.NDArray[Any]) -> bytes:
    """Returns an array as a PNG, written for speed rather than size.

    Run lengths and Huffman codes of row differences take a third of the time of an ordinary fast encoder, and
    photographs become smaller than there.

    Args:
        pixels: uint8 or uint16, [H, W] or [H, W, 1 to 4], neither side 0.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    big_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    samples = big_endian.view(np.uint8).reshape(height, -1)
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = compressor.compress(rows.data) + compressor.flush()
    bits = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPE_OF_CHANNELS[channels], 0, 0, 0)
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", data), PNG_END))


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def read_png_header(data: bytes) -> PngHeader:
    """Returns what a PNG says of itself; nothing is decoded.

    Raises:
        InvalidResponseError: it is no PNG.
    """
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise InvalidResponseError("a picture in the answer is no PNG")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    return PngHeader((height, width), bits, _CHANNELS_OF_COLOUR_TYPE.get(colour))


def decode_png(data: bytes) -> npt.NDArray[Any]:
    """Returns a PNG's samples: uint8 or uint16 as they are in it; [H, W] or [H, W, 2 to 4].

    Its size must have been checked before: a PNG of a few kilobytes can claim gigabytes.

    Raises:
        InvalidResponseError: it cannot be decoded.
    """
    header = read_png_header(data)
    try:
        if header.bits == 16 and header.channels != 1:
            return _decode_deep_colour(data, header)
        from PIL import PngImagePlugin

        # Not Image.open, which has its own opinion of what is too large.
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
            array = np.array(picture)
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise InvalidResponseError(f"a picture in the answer cannot be decoded: {error}") from error
    return array.astype(np.uint16) if header.bits == 16 else array


def _decode_deep_colour(data: bytes, header: PngHeader) -> npt.NDArray[Any]:
    """Returns samples of 16 bits in several channels, of which Pillow keeps 8 bits only."""
    if header.channels is None or data[28]:
        raise ValueError("a palette or interlacing with 16 bits")
    height, width = header.size
    pixel_bytes = 2 * header.channels
    row_bytes = width * pixel_bytes
    wanted = height * (1 + row_bytes)
    raw = zlib.decompressobj().decompress(b"".join(_chunks(data, b"IDAT")), wanted)
    if len(raw) != wanted:
        raise ValueError("it ends before its last row")
    filtered = np.frombuffer(raw, np.uint8).reshape(height, 1 + row_bytes)
    rows = np.zeros((height + 1, row_bytes), np.uint8)
    for index in range(height):
        rows[index + 1] = _unfilter(int(filtered[index, 0]), filtered[index, 1:], rows[index], pixel_bytes)
    samples = np.ascontiguousarray(rows[1:]).view(">u2").astype(np.uint16)
    return samples.reshape(height, width, header.channels)


def _chunks(data: bytes, kind: bytes) -> Iterator[bytes]:
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        content = data[position + 4 : position + 8 + length]
        if zlib.crc32(content) != struct.unpack_from(">I", data, position + 8 + length)[0]:
            raise ValueError("a checksum is wrong")
        if content.startswith(kind):
            yield content[4:]
        position += 12 + length


def _unfilter(kind: int, row: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.uint8]:
    """Returns a row's bytes; each was stored as the difference to a guess from its neighbours.

    Args:
        kind: of the guess.
        row: the differences.
        above: the bytes of the row above.
        step: bytes of a pixel.
    """
    if kind == 0:
        return row
    if kind == 1:  # the byte to the left
        sums: npt.NDArray[np.uint8] = np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        return sums
    if kind == 2:  # the byte above
        return row + above
    if kind not in (3, 4):
        raise ValueError(f"there is no filter {kind}")
    ups = above.tobytes()
    guess = _average if kind == 3 else _paeth
    result = bytearray()
    for index, difference in enumerate(row.tobytes()):
        before = result[index - step] if index >= step else 0
        corner = ups[index - step] if index >= step else 0
        result.append((difference + guess(before, ups[index], corner)) & 0xFF)
    return np.frombuffer(result, np.uint8)


def _average(left: int, up: int, corner: int) -> int:
    return (left + up) // 2


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    to_left, to_up, to_corner = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
