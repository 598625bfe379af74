"""Pictures that are good, bad and dangerous, and what Pillow makes of them: the storm's oracle."""

import functools
import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin

WEIGHTS = np.array([0.5, 0.3, 0.2])
"""What the storm's model answers: red, green and blue in these parts, as a probability."""
_SIZE = (23, 17)
_HEADER_BYTES = 700
_HUGE = (60_000, 65_535, 2**31 - 1, 2**32 - 1, 0)
_MOST_PIXELS = 4_000_000


class Sample(NamedTuple):
    """A picture's file, and where it comes from."""

    name: str
    data: bytes


def _pixels(channels: int, dtype: type = np.uint8, seed: int = 0) -> npt.NDArray[np.generic]:
    """Returns a picture whose rows, columns and channels can be told apart."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, channels))
    large = np.kron(small, np.ones((4, 4, 1), int))[: _SIZE[1], : _SIZE[0]]
    scaled = large * (257 if dtype is np.uint16 else 1)
    return np.squeeze(scaled.astype(dtype), -1) if channels == 1 else scaled.astype(dtype)


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    """Returns a PNG of a header that need not be true."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _exif(orientation: int, *, count: int = 1, kind: int = 3, offset: int = 8) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, kind, count, orientation & 0xFFFF, 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", offset) + struct.pack("<H", 1) + entry + bytes(4)


@functools.cache
def bases() -> dict[str, bytes]:
    """Returns good pictures of every kind, by name."""
    rgb, rgba, gray = (Image.fromarray(_pixels(count)) for count in (3, 4, 1))
    deep = _pixels(3, np.uint16)
    deep_rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    frames = {"save_all": True, "append_images": [ImageOps.invert(rgb)], "duration": 40, "loop": 0}
    found = {
        "rgb.png": _saved(rgb, "PNG"),
        "rgba.png": _saved(rgba, "PNG"),
        "gray.png": _saved(gray, "PNG"),
        "gray_alpha.png": _saved(rgba.convert("LA"), "PNG"),
        "palette.png": _saved(rgb.quantize(16), "PNG"),
        "palette_transparent.png": _saved(rgb.quantize(16), "PNG", transparency=3),
        "bits.png": _saved(gray.convert("1"), "PNG"),
        "gray16.png": _saved(Image.fromarray(_pixels(1, np.uint16)), "PNG"),
        "rgb16.png": png(*_SIZE, 16, 2, deep_rows),
        "animated.png": _saved(rgb, "PNG", **frames),
        "rgb.jpg": _saved(rgb, "JPEG", quality=95, subsampling=0),
        "gray.jpg": _saved(gray, "JPEG", quality=95),
        "progressive.jpg": _saved(rgb, "JPEG", quality=95, progressive=True, subsampling=0),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG", quality=95),
        "rgb.bmp": _saved(rgb, "BMP"),
        "gray.bmp": _saved(gray, "BMP"),
        "palette.bmp": _saved(rgb.quantize(16), "BMP"),
        "rgb.webp": _saved(rgb, "WEBP", quality=95),
        "lossless.webp": _saved(rgb, "WEBP", lossless=True),
        "alpha.webp": _saved(rgba, "WEBP", lossless=True, exact=True),
        "animated.webp": _saved(rgb, "WEBP", lossless=True, **frames),
        "rgb.gif": _saved(rgb.quantize(64), "GIF"),
        "animated.gif": _saved(rgb, "GIF", **frames),
        "rgb.tiff": _saved(rgb, "TIFF"),
    }
    for orientation in (*range(1, 10), 0, 255):
        exif = _exif(orientation)
        found[f"exif{orientation}.jpg"] = _saved(rgb, "JPEG", quality=95, subsampling=0, exif=exif)
        if orientation in (3, 6):
            found[f"exif{orientation}.png"] = _saved(rgb, "PNG", exif=exif[6:])
            found[f"exif{orientation}.webp"] = _saved(rgb, "WEBP", lossless=True, exif=exif[6:])
    for name, exif in (
        ("counts", _exif(6, count=2**32 - 1)), ("kind", _exif(6, kind=200)), ("offset", _exif(6, offset=2**32 - 1)),
        ("cut", _exif(6)[:12]), ("loop", _exif(6, offset=0)),
    ):  # fmt: skip
        found[f"exif_{name}.jpg"] = _saved(rgb, "JPEG", quality=95, subsampling=0, exif=exif)
    return found


def truncations() -> Iterator[Sample]:
    """Yields every picture cut off at every byte of its header."""
    for name, data in bases().items():
        for length in range(min(len(data), _HEADER_BYTES)):
            yield Sample(f"{name} cut at {length}", data[:length])


def _with_size(data: bytes, width: int, height: int) -> bytes:
    """Returns a picture that claims another size."""
    changed = bytearray(data)
    if data.startswith(b"\x89PNG"):
        changed[16:24] = struct.pack(">II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif data.startswith(b"BM"):
        changed[18:26] = struct.pack("<II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    elif data.startswith(b"\xff\xd8"):
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = data.find(marker)
            if at > 0:
                changed[at + 5 : at + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif data[8:16] == b"WEBPVP8X":
        changed[24:30] = struct.pack("<I", width & 0xFFFFFF)[:3] + struct.pack("<I", height & 0xFFFFFF)[:3]
    elif data[8:16] == b"WEBPVP8 ":
        changed[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    return bytes(changed)


def bomb(edge: int) -> bytes:
    """Returns a whole PNG of one bit a pixel and so many pixels along each edge, in few bytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (edge + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(edge)) + packer.flush()
    header = struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5, 20))):
        # Headers are where a byte means most.
        at = chance.randrange(min(len(changed), 200) if chance.random() < 0.6 else len(changed)) if changed else 0
        kind = chance.randrange(5)
        if kind < 2:
            changed[at : at + 1] = bytes([chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))])
        elif kind == 2:
            del changed[at : at + chance.choice((1, 2, 4, 30))]
        elif kind == 3:
            changed[at:at] = chance.randbytes(chance.choice((1, 2, 4, 30)))
        else:
            changed[at : at + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff")
            )
    return bytes(changed)


def _mend_png(data: bytes) -> bytes:
    """Returns a PNG whose chunks' sums are right again, so that what was changed in them is read."""
    parts, at = [data[:8]], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + min(length, len(data))]))
        at += 12 + length
    return b"".join(parts)


def _odd(chance: random.Random) -> bytes:
    rows = bytes(200)
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000)))
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))
    made: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: chance.randbytes(chance.choice((1, 4, 100, 5000))),
        lambda: b"<html><body>404</body></html>",
        lambda: b"%PDF-1.7\n",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        lambda: b"GIF89a" + bytes(20),
        lambda: (
            chance.choice((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\xff\xff\xff\xffWEBP"))
            + chance.randbytes(80)
        ),
        lambda: png(
            chance.choice(_HUGE), chance.choice(_HUGE), chance.choice((1, 8, 16)), chance.choice((0, 2, 6)), rows
        ),
        lambda: png(0, 5, 8, 2, rows),
        lambda: png(5, 0, 8, 2, rows),
        lambda: png(9, 9, chance.choice((3, 5, 32)), chance.choice((1, 5, 7)), rows),
        lambda: png(9, 9, 8, 3, rows),  # a palette that is not there
        lambda: png(*_SIZE, 8, 2, bytes(8), profile, text),
        lambda: png(*_SIZE, 8, 2, _flat_rows(), profile),
        lambda: png(*_SIZE, 8, 2, _flat_rows() + bytes(5000)),
        lambda: bases()["rgb.png"] + chance.randbytes(100),
        lambda: bases()["rgb.jpg"] + bases()["gray.jpg"],
        lambda: bases()["rgb.jpg"][:2] + b"\xff\xfe\xff\xff" + bytes(65533) + bases()["rgb.jpg"][2:],
        lambda: bases()["rgb.jpg"][:2] + b"\xff" * 3000 + bases()["rgb.jpg"][2:],
        lambda: bases()["rgb.jpg"][:2] + b"\xff\xe1\0\2" * 1000 + bases()["rgb.jpg"][2:],
    ]
    return chance.choice(made)()


def _flat_rows() -> bytes:
    return (b"\0" + bytes(3 * _SIZE[0])) * _SIZE[1]


def sample(seed: int) -> Sample:
    """Returns the picture of a number: a good one, one with something changed, or one that was never one."""
    chance = random.Random(seed)
    name = chance.choice(list(bases()))
    data = bases()[name]
    kind = chance.choice(
        ("mutated",) * 6 + ("mended",) * 2 + ("cut",) * 2 + ("claims",) * 2 + ("odd",) * 3 + ("good",) * 2
    )
    if kind == "mutated":
        data = _mutated(chance, data)
    elif kind == "mended":
        name, data = next((one, found) for one, found in _pngs(chance))
        data = _mend_png(_mutated(chance, data))
    elif kind == "cut":
        data = data[: chance.randrange(len(data))]
    elif kind == "claims":
        width, height = (chance.choice((*_HUGE, *_SIZE, 1, 2000)) for _ in range(2))
        data = _with_size(data, width, height)
    elif kind == "odd":
        name, data = "odd", _odd(chance)
    return Sample(f"{name}, {kind}, seed {seed}", data)


def _pngs(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    names = [name for name in bases() if name.endswith(".png")]
    while True:
        name = chance.choice(names)
        yield name, bases()[name]


class Decoded(NamedTuple):
    """What Pillow makes of a picture."""

    answer: npt.NDArray[np.float64]  # [H, W], 0 to 1: what the storm's model says of its pixels
    tolerance: float


def decode(data: bytes) -> Decoded | None:
    """Returns what a model must see, upright, by Pillow; None where Pillow does not read it, or it is too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    return None
                form, mode = picture.format, picture.mode
                is_deep_colour = isinstance(picture, PngImagePlugin.PngImageFile) and data[24:26] == b"\x10\x02"
                upright = ImageOps.exif_transpose(picture)
                if mode.startswith("I"):
                    # Of 16 bits the upper 8 are what the storm's model takes.
                    gray = np.clip(np.asarray(upright), 0, 65535) // 256 / 255
                    return Decoded(gray * WEIGHTS.sum(), 0.002)
                array = np.asarray(upright.convert("RGB"), np.float64) / 255
    except Exception:  # whatever it is, Pillow does not read it
        return None
    # Two decoders of JPEG or of lossy WebP may differ by some of 255, at edges more.
    lossy = form in ("JPEG", "MPO") or (form == "WEBP" and b"VP8 " in data[:40])
    return Decoded(array @ WEIGHTS, 0.05 if lossy else 0.005 if is_deep_colour else 0.002)
