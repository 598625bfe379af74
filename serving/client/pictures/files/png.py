"""PNG: a fast writer for what is sent, and a careful reader of all bits."""

import dataclasses
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import InvalidResponseError

if TYPE_CHECKING:
    from PIL import PngImagePlugin

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_CHANNELS = {colour: channels for channels, colour in _COLOUR_TYPES.items()}
_FILTER_UP = 2
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""A whole PNG's last bytes."""
# First column and row of each pass of an interlaced picture, and the steps from there.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """What a PNG says of itself in its first 33 bytes."""

    size: tuple[int, int]  # height and width in pixels
    bits: int  # of a sample
    channels: int | None  # 1 to 4; None where the samples are indices into a palette


def encode_png(pixels: npt.NDArray[Any]) -> bytes:
    """Returns an array, bool [H, W] or uint8 or uint16 [H, W] or [H, W, 1 to 4], as a PNG, for speed rather than size.

    Run lengths and Huffman codes of row differences take a third of the time of an ordinary fast encoder, and
    photographs become smaller than there.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits = 1 if pixels.dtype == bool else 8 * pixels.dtype.itemsize
    packed = np.packbits(pixels, axis=1) if bits == 1 else pixels
    big_endian = np.ascontiguousarray(packed, dtype=packed.dtype.newbyteorder(">"))
    samples = big_endian.view(np.uint8).reshape(height, -1)
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    data = compressor.compress(rows.data) + compressor.flush()
    return b"".join((_SIGNATURE, _header_chunk(width, height, bits, channels), _chunk(b"IDAT", data), PNG_END))


def _header_chunk(width: int, height: int, bits: int, channels: int) -> bytes:
    """Returns the first chunk of a PNG that is not interlaced."""
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0))


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def read_png_header(data: bytes) -> PngHeader:
    """Returns what a PNG says of itself, or raises `InvalidResponseError`; nothing is decoded."""
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise InvalidResponseError("a picture in the answer is no PNG")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    return PngHeader((height, width), bits, _CHANNELS.get(colour))


def decode_png(data: bytes) -> npt.NDArray[Any]:
    """Returns a PNG's samples: uint8 or uint16 as they are in it, bool of one bit; [H, W] or [H, W, 2 to 4].

    Its size must have been checked before: a PNG of a few kilobytes can claim gigabytes.
    """
    header = read_png_header(data)
    height, width = header.size
    from PIL import PngImagePlugin

    is_packed = data[8:33] == _header_chunk(width, height, 1, 1)
    columns = -(-width // 8) if is_packed else width
    if is_packed:
        # A PNG's filters work on bytes, so a row of bits is one of an eighth as many bytes, too. NumPy takes these
        # apart in a fraction of the time that Pillow takes.
        data = b"".join((_SIGNATURE, _header_chunk(columns, height, 8, 1), memoryview(data)[33:]))
    try:
        # Not Image.open, which has its own opinion of what is too large.
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as picture:
            if picture.size != (columns, height):  # which could be gigabytes, too
                raise ValueError("its header is followed by another one, of another size")
            if header.bits == 16 and header.channels in (2, 3, 4):
                return _decode_deep_colour(picture, header.channels)
            array = np.array(picture)
            if array.shape[2:] != ((header.channels,) if (header.channels or 1) > 1 else ()):
                raise ValueError("its header is followed by another one")
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise InvalidResponseError(f"a picture in the answer cannot be decoded: {error}") from error
    if is_packed:
        return np.unpackbits(array, axis=1, count=width).view(bool)
    if array.dtype == bool:
        # Pillow's hold 255, which is true but not what NumPy's are.
        bits = array.view(np.uint8)
        np.bitwise_and(bits, 1, out=bits)
    return array.astype(np.uint16) if header.bits == 16 else array


def _decode_deep_colour(picture: "PngImagePlugin.PngImageFile", channels: int) -> npt.NDArray[np.uint16]:
    """Returns samples of 16 bits in several channels, of which Pillow keeps 8 bits only.

    PNG's filters never mix the upper bytes of samples with the lower ones: each are the scanlines of a picture of
    8 bits, which Pillow decodes.
    """
    from PIL import Image

    width, height = picture.size
    is_interlaced = bool(picture.info.get("interlace"))
    blocks = []  # of scanlines: how many, and bytes of each
    for left, top, across, down in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        if left < width and top < height:
            blocks.append((-((top - height) // down), 1 + 2 * channels * -((left - width) // across)))
    wanted = sum(count * length for count, length in blocks)
    picture.load_prepare()
    raw = zlib.decompressobj().decompress(b"".join(iter(lambda: picture.load_read(1 << 20), b"")), wanted)
    if len(raw) != wanted:
        raise ValueError("it ends before its last row")
    halves: tuple[list[bytes], list[bytes]] = ([], [])
    start = 0
    for count, length in blocks:
        lines = np.frombuffer(raw, np.uint8, count * length, start).reshape(count, length)
        start += count * length
        for byte, half in enumerate(halves):
            half.append(np.concatenate([lines[:, :1], lines[:, 1 + byte :: 2]], axis=1).tobytes())
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    upper, lower = (
        np.array(Image.frombytes(mode, picture.size, zlib.compress(b"".join(half), 0), "zip", mode, is_interlaced))
        for half in halves
    )
    samples: npt.NDArray[np.uint16] = upper.astype(np.uint16) << 8 | lower
    return samples
