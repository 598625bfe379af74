"""TIFF tags that pictures and results share, and which files Pillow alone reads rightly."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedCallError

if TYPE_CHECKING:
    from PIL import TiffImagePlugin

GeoTags = Mapping[int, Any]
"""TIFF tags that say where on Earth a raster lies."""

EXTRA_SAMPLES, NODATA = 338, 42113
_ASCII, _SHORT, _DOUBLE = 2, 3, 12
GEO_TYPES = {
    33550: _DOUBLE,  # ModelPixelScale
    33920: _DOUBLE,  # Intergraph's matrix
    33922: _DOUBLE,  # ModelTiepoint
    34264: _DOUBLE,  # ModelTransformation
    34735: _SHORT,  # GeoKeyDirectory
    34736: _DOUBLE,  # GeoDoubleParams
    34737: _ASCII,  # GeoAsciiParams
    50844: _DOUBLE,  # rational polynomial coefficients
}
HOW_TO_INSTALL = "install it with: pip install 'maskport[large]'"


def import_tifffile() -> Any:
    """Returns the package tifffile, or raises `UnsupportedCallError` where the extra `large` is missing."""
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError as error:
        raise UnsupportedCallError(
            "TIFF files need the packages tifffile and imagecodecs", hint=HOW_TO_INSTALL
        ) from error
    return tifffile


def geo_of_pillow(picture: "TiffImagePlugin.TiffImageFile", name: str) -> GeoTags:
    """Returns a TIFF's place on Earth, from its tags as Pillow reads them.

    Raises `UnsupportedCallError` where Pillow alone would lose pixels, or not know which are missing.
    """
    tags: Any = picture.tag_v2
    bits = tuple(tags.get(258, (1,)))
    is_gray = tags.get(262, 1) == 1
    problems = {
        f"{len(bits)} × {max(bits)} bits a pixel": max(bits) > 8 and not (bits == (16,) and is_gray),
        "bands beyond its colours": any(kind not in (1, 2) for kind in tags.get(EXTRA_SAMPLES, ())),
        "signed or floating-point samples": any(kind != 1 for kind in tags.get(339, (1,))),
        "planes of samples": tags.get(284, 1) != 1,
        "several directories": getattr(picture, "n_frames", 1) > 1,
        "pixels without data": NODATA in tags,
    }
    for problem, is_met in problems.items():
        if is_met:
            words = f"{name} is a TIFF with {problem}, which need the packages tifffile and imagecodecs"
            raise UnsupportedCallError(words, hint=HOW_TO_INSTALL)
    return {code: tags[code] for code in GEO_TYPES if tags.get(code)}


def pillow_tags(geo: GeoTags, has_missing: bool) -> "TiffImagePlugin.ImageFileDirectory_v2":
    """Returns what Pillow's writer is given for a result to lie where its picture does."""
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for code, kind, value in _tags_to_write(geo, has_missing):
        tags.tagtype[code] = kind
        tags[code] = value
    return tags


def tifffile_tags(geo: GeoTags, has_missing: bool) -> list[tuple[int, int, int | None, Any, bool]]:
    """Returns the same for tifffile's writer."""
    return [
        (code, kind, None if kind == _ASCII else len(value), value, True)
        for code, kind, value in _tags_to_write(geo, has_missing)
    ]


def _tags_to_write(geo: GeoTags, has_missing: bool) -> Iterator[tuple[int, int, Any]]:
    for code, value in sorted(geo.items()):
        kind = GEO_TYPES[code]
        yield code, kind, value if kind == _ASCII else tuple(np.atleast_1d(value).tolist())
    if has_missing:
        yield NODATA, _ASCII, "0"
