"""What an encoded picture's first bytes say: its format and size, without a decoder.

Pillow reads headers too, but warns of, or refuses, pictures that are large for its own decoders, which have
no part in this; and it is by far the slowest part of a call.
"""

import dataclasses
import struct
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What a picture says about itself.

    Attributes:
        format: `jpeg`, `png`, `bmp`, `webp`, `gif`, `tiff`, `avif` or `heic`.
        size: height and width of the upright picture, in pixels; None where the header does not tell.
        orientation: Exif's 1 to 8, as exported models turn JPEG, PNG and WebP; 1 is upright.
    """

    format: str
    size: tuple[int, int] | None
    orientation: int = 1


def read_header(data: bytes) -> ImageHeader | None:
    """Returns what an encoded picture says about itself; None if it is of no known format."""
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), _BRANDS_END)]
        for brand, name in _BRANDS:
            if brand in brands:
                return ImageHeader(name, None)
    for magic, name, read_size in _FORMATS:
        if data.startswith(magic) and (name != "webp" or data[8:12] == b"WEBP"):
            try:
                size = read_size(data)
            except (struct.error, IndexError):
                size = None
            orientation = _ORIENTATIONS[name](data) if name in _ORIENTATIONS else 1
            # From 5 on the picture lies on its side.
            return ImageHeader(name, size[::-1] if size and orientation >= 5 else size, orientation)
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:  # OS/2's form
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), width  # a negative height: the top row comes first


def _gif_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return height, width


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    return None  # a TIFF's directory may be anywhere in the file


# Start-of-frame markers; C4, C8 and CC in between are something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_EXIF = b"Exif\0\0"
_WEBP_HAS_EXIF = 0x08
_ORIENTATION_TAG = 0x0112
_SHORT = 3
# Exported models look at so many entries; cameras write about 15.
_EXIF_ENTRIES = 64
# Likewise, of a file made of empty chunks.
_MAX_CHUNKS = 512
_JPEG_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, at, _ in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 1)
            return height, width
    return None


def _jpeg_orientation(data: bytes) -> int:
    for marker, at, _ in _jpeg_segments(data):
        if marker == 0xE1 and data[at : at + 6] == _JPEG_EXIF:
            return _orientation(data, at + 6)
    return 1


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and length of each segment up to the first frame; like decoders it skips what is none."""
    position = 2
    for _ in range(_MAX_CHUNKS):
        if position + 4 > len(data):
            return
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:  # any number of FF may stand before a marker
            position += 1
            continue
        position += 2
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in (0xD9, 0xDA) or length < 2:
            return
        yield marker, position + 2, length - 2
        if marker in _JPEG_FRAMES:
            return
        position += length


def _png_orientation(data: bytes) -> int:
    """Returns what the last eXIf chunk before the pixels says: servers do not look behind them."""
    position, orientation = 33, 1
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"IDAT":
            break
        if kind == b"eXIf":
            orientation = _orientation(data, position + 8)
        position += 12 + length
    return orientation


def _webp_orientation(data: bytes) -> int:
    """Returns what the EXIF chunk says, where the picture's first chunk announces one."""
    if data[12:16] != b"VP8X" or not data[20:21] or not data[20] & _WEBP_HAS_EXIF:
        return 1
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"EXIF":
            # Some writers keep JPEG's mark before the TIFF block.
            start = position + 8
            return _orientation(data, start + 6 if data[start : start + 6] == _JPEG_EXIF else start)
        position += 8 + length + length % 2
    return 1


def _orientation(data: bytes, tiff: int) -> int:
    """Returns the orientation, 1 to 8, of the Exif block that begins at `tiff`; 1 where it states none."""
    order = {b"II": "<", b"MM": ">"}.get(data[tiff : tiff + 2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, tiff + 4)
        (entries,) = struct.unpack_from(f"{order}H", data, tiff + directory)
        for entry in range(min(entries, _EXIF_ENTRIES)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, tiff + directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG and kind == _SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


# Both kinds of HEIF begin alike, and name what they are among several brands.
_BRANDS = (
    (b"avif", "avif"),
    (b"avis", "avif"),
    (b"heic", "heic"),
    (b"heix", "heic"),
    (b"hevc", "heic"),
    (b"mif1", "heic"),
)
_BRANDS_END = 64
_FORMATS = (
    (b"\xff\xd8\xff", "jpeg", _jpeg_size),
    (b"\x89PNG\r\n\x1a\n", "png", _png_size),
    (b"BM", "bmp", _bmp_size),
    (b"RIFF", "webp", _webp_size),
    (b"GIF8", "gif", _gif_size),
    (b"II*\0", "tiff", _tiff_size),
    (b"MM\0*", "tiff", _tiff_size),
    (b"II+\0", "tiff", _tiff_size),
    (b"MM\0+", "tiff", _tiff_size),
)

_ORIENTATIONS = {"jpeg": _jpeg_orientation, "png": _png_orientation, "webp": _webp_orientation}
