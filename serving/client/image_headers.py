"""What an encoded picture's first bytes say: its format and size, without a decoder.

Pillow reads headers too, but warns of, or refuses, pictures that are large for its own decoders, which have
no part in this; and it is by far the slowest part of a call.
"""

import dataclasses
import struct


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What a picture says about itself.

    Attributes:
        format: `jpeg`, `png`, `bmp`, `webp`, `gif` or `tiff`.
        size: height and width of the upright picture, in pixels; None where the header does not tell.
    """

    format: str
    size: tuple[int, int] | None


def read_header(data: bytes) -> ImageHeader | None:
    """Returns what an encoded picture says about itself; None if it is of no known format."""
    for magic, name, read_size in _FORMATS:
        if data.startswith(magic) and (name != "webp" or data[8:12] == b"WEBP"):
            try:
                return ImageHeader(name, read_size(data))
            except (struct.error, IndexError):
                return ImageHeader(name, None)
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
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position, orientation = 2, 1
    while True:
        if data[position] != 0xFF:
            return None
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            # From 5 on the picture lies on its side.
            return (width, height) if orientation >= 5 else (height, width)
        if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _orientation(data[position + 8 : position + length])
        if marker in (0xD9, 0xDA):
            return None
        position += length


def _orientation(tiff: bytes) -> int:
    """Returns the orientation, 1 to 8, that an Exif block states; 1 where it states none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), tiff, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


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
