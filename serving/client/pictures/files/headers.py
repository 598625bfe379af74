"""What an encoded picture's first bytes say: its format and size, without a decoder.

Pillow reads headers too, but warns of, or refuses, pictures that are large for its own decoders, which have
no part in this; and it is by far the slowest part of a call.
"""

import dataclasses
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What a picture says about itself."""

    format: str  # `jpeg`, `png`, `bmp`, `webp`, `gif`, `tiff`, `avif` or `heic`
    size: tuple[int, int] | None  # height and width of the upright picture; None where the header does not tell
    orientation: int = 1  # Exif's 1 to 8, as exported models turn JPEG, PNG and WebP; 1 is upright


_MAGICS: Mapping[str, bytes | tuple[bytes, ...]] = {
    "jpeg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "bmp": b"BM",
    "webp": b"RIFF",
    "gif": b"GIF8",
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
# Both kinds of HEIF begin alike, and name what they are among several brands.
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"hevc": "heic", b"mif1": "heic"}
_BRANDS_END = 64
# Start-of-frame markers; C4, C8 and CC in between are something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
_EXIF_MARK = b"Exif\0\0"
# Kinds of the segments or chunks that hold Exif and XMP, and what these begin with.
_BLOCKS: Mapping[str, tuple[tuple[int | bytes, bytes], tuple[int | bytes, bytes]]] = {
    "jpeg": ((0xE1, _EXIF_MARK), (0xE1, b"http://ns.adobe.com/xap/1.0/\0")),
    "png": ((b"eXIf", b""), (b"iTXt", b"XML:com.adobe.xmp\0\0")),  # XMP that is not compressed
    "webp": ((b"EXIF", b""), (b"XMP ", b"")),
}
_WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x08, 0x04
_ORIENTATION_TAG = 0x0112
_BYTE_ORDERS: Mapping[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
_SIZES = {3: 2, 4: 4}  # bytes of numbers, by their types in a TIFF
# As Pillow finds it; so much of a packet is looked at.
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_XMP_BYTES = 1 << 16
# Exported models look at so many entries; cameras write about 15.
_EXIF_ENTRIES = 64
# Likewise, of a file made of empty chunks.
_MAX_CHUNKS = 512


def read_header(data: bytes) -> ImageHeader | None:
    """Returns what an encoded picture says about itself; None if it is of no known format."""
    if data[4:8] == b"ftyp":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), _BRANDS_END)]
        for brand, name in _BRANDS.items():
            if brand in brands:
                return ImageHeader(name, None)
    name = next((name for name, magic in _MAGICS.items() if data.startswith(magic)), "")
    if not name or (name == "webp" and data[8:12] != b"WEBP"):
        return None
    try:
        size = _size(data, name)
    except (struct.error, IndexError):
        size = None
    orientation = _orientation_of(data, name) if name in _BLOCKS else 1
    # From 5 on the picture lies on its side.
    return ImageHeader(name, size[::-1] if size and orientation >= 5 else size, orientation)


def _size(data: bytes, name: str) -> tuple[int, int] | None:
    """Returns height and width as stored; None if not known, as of a TIFF, whose directory may be anywhere."""
    kind = data[12:16] if name == "webp" else b""
    width = height = None
    if name == "jpeg":
        for marker, at, _ in _jpeg_segments(data):
            if marker in _JPEG_FRAMES:
                height, width = struct.unpack_from(">HH", data, at + 1)
    elif name == "png":
        width, height = struct.unpack_from(">II", data, 16)
    elif name == "bmp":
        (header_bytes,) = struct.unpack_from("<I", data, 14)  # 12 is OS/2's form
        width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
        height = abs(height)  # negative: the top row comes first
    elif name == "gif":
        width, height = struct.unpack_from("<HH", data, 6)
    elif kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return None if height is None or width is None else (height, width)


def _orientation_of(data: bytes, form: str) -> int:
    """Returns the orientation, 1 to 8, that a JPEG's, PNG's or WebP's Exif states, or else its XMP."""
    (exif_kind, exif_mark), (xmp_kind, xmp_mark) = _BLOCKS[form]
    if form == "webp":  # only what the picture's first chunk announces counts
        flags = data[20] if data[12:16] == b"VP8X" and len(data) > 20 else 0
        exif_kind = exif_kind if flags & _WEBP_HAS_EXIF else b""
        xmp_kind = xmp_kind if flags & _WEBP_HAS_XMP else b""
    exif, xmp = 0, None
    for kind, at, length in _jpeg_segments(data) if form == "jpeg" else _chunks(data, is_png=form == "png"):
        # Of several the first counts, but the last in a PNG, and the last XMP in a JPEG.
        if kind == exif_kind and data.startswith(exif_mark, at) and (not exif or form == "png"):
            exif = at + len(exif_mark)
        elif kind == xmp_kind and data.startswith(xmp_mark, at) and (xmp is None or form != "webp"):
            xmp = data[at + len(xmp_mark) : at + length]
    if form == "webp" and data.startswith(_EXIF_MARK, exif):
        exif += len(_EXIF_MARK)  # which some writers keep before the TIFF block
    found = _exif_orientation(data, exif) if exif else None
    if found is None:
        return xmp_orientation(xmp or b"")
    return found if 1 <= found <= 8 else 1


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


def _chunks(data: bytes, *, is_png: bool) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and length of each chunk of a WebP file, or of a PNG up to the pixels, as servers look."""
    position = 33 if is_png else 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        first, second = data[position : position + 4], data[position + 4 : position + 8]
        kind, length = (second, int.from_bytes(first, "big")) if is_png else (first, int.from_bytes(second, "little"))
        if is_png and kind == b"IDAT":
            return
        yield kind, position + 8, length
        position += 12 + length if is_png else 8 + length + length % 2


def xmp_orientation(packet: bytes) -> int:
    """Returns the orientation that an XMP packet states, 1 to 8; 1 where it states none."""
    match = _XMP_ORIENTATION.search(packet[:_XMP_BYTES])
    found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def _exif_orientation(data: bytes, tiff: int) -> int | None:
    """Returns the number in the TIFF block that begins at `tiff`; None where it states none."""
    order = _BYTE_ORDERS.get(data[tiff : tiff + 2])
    if order is None:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size].ljust(size, b"\0"), order)

    directory = tiff + number(tiff + 4, 4)
    found = None
    for entry in range(min(number(directory, 2), _EXIF_ENTRIES)):
        at = directory + 2 + 12 * entry
        if number(at, 2) == _ORIENTATION_TAG and number(at + 4, 4) == 1:
            found = max(found or 0, number(at + 8, _SIZES.get(number(at + 2, 2), 0)))
    return found
