"""Which files can hold which products, and pictures written as files."""

from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..errors import InvalidImageError
from ..pictures.files.png import encode_png
from ..pictures.picture import Picture
from ..pictures.tiff_tags import extra_tags, import_tifffile, tags_to_write

JPEGS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
"""Endings of JPEG files."""
_OPAQUE = JPEGS | {".bmp", ".dib", ".ppm", ".pnm", ".pgm", ".pbm", ".pfm"}
_LOSSY = JPEGS | {".avif", ".avifs"}
# Pictures of these have one of a few sizes, and are scaled to it.
_ICONS = frozenset({".ico", ".icns"})
# Pillow cuts values of 16 bits off at 255 there, and says nothing.
_SHALLOW = frozenset({".webp", ".gif"})
# Exact values matter in these: a lossy file would be wrong without looking wrong.
_EXACT = frozenset({contract.MASK, contract.PROBABILITY, contract.CLASS_MAP})
_USE_PNG = "use .png"
_TIFFS = frozenset({".tif", ".tiff"})


def check_file_form(ending: str, product: str) -> None:
    """Raises `InvalidImageError` where files of an ending, such as `.png`, in small letters, cannot hold a product."""
    problem = ""
    if ending in _LOSSY and product in _EXACT:
        problem = ", which blurs its values"
    elif ending in _ICONS:
        problem = ", which changes its size"
    elif ending in _OPAQUE and product == "cutout":
        problem = ": it has no transparency"
    if problem:
        raise InvalidImageError(f"a {product} cannot be a {ending} file{problem}", hint=_USE_PNG)


def write_picture(file: IO[bytes], suffix: str, product: str, pixels: npt.NDArray[Any], picture: Picture) -> None:
    """Writes a product's pixels, [H, W] or [H, W, C], in the format of a suffix; a TIFF lies at its picture's place."""
    from PIL import Image, TiffImagePlugin

    ending = suffix.lower()
    check_file_form(ending, product)
    pixels = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
    are_bands = product == contract.MASKED_IMAGE and picture.are_bands
    if are_bands and ending in _TIFFS:
        _write_bands(file, pixels, picture)
        return
    if are_bands and pixels.shape[2:] not in ((), (3,), (4,)):
        words = f"a {product} of {pixels.shape[2]} bands cannot be a {suffix} file"
        raise InvalidImageError(words, hint="use .tif, which keeps its place on Earth, or .npy")
    if ending == ".png" and pixels.dtype.kind != "f":
        file.write(encode_png(pixels))
        return
    form = Image.registered_extensions().get(ending)
    if form not in Image.SAVE:
        raise InvalidImageError(f"cannot write a {product} as {suffix}: unknown file extension", hint=_USE_PNG)
    if pixels.dtype != np.uint8 and (pixels.dtype != np.uint16 or pixels.ndim == 3):
        hint = "save it as .npy" if ending == ".png" else "use .png or .npy"
        raise InvalidImageError(f"a {product} of {pixels.dtype} cannot be saved so", hint=hint)
    if pixels.dtype == np.uint16 and ending in _SHALLOW:
        raise InvalidImageError(f"a {product} of 16 bits cannot be a {suffix} file", hint=_USE_PNG)
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}  # lossy unless told otherwise
    has_missing = picture.missing is not None
    if form == "TIFF" and (picture.geo or has_missing):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        for code, kind, value in tags_to_write(picture.geo, has_missing):
            tags.tagtype[code] = kind
            tags[code] = value
        options = {"tiffinfo": tags}
    try:
        Image.fromarray(pixels).save(file, form, **options)
    except (ValueError, OSError) as error:
        raise InvalidImageError(f"cannot write a {product} as {suffix}: {error}", hint=_USE_PNG) from error


def _write_bands(file: IO[bytes], pixels: npt.NDArray[Any], picture: Picture) -> None:
    """Writes bands, [H, W] or [H, W, C], of any dtype as a TIFF at its picture's place."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    import_tifffile().imwrite(
        file,
        pixels,
        photometric="minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unspecified"] * (channels - 1) or None,
        compression="zlib",
        metadata=None,
        extratags=extra_tags(picture.geo, has_missing=picture.missing is not None),
    )
