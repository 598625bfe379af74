"""TIFF tags that pictures and results share, and which files Pillow alone reads rightly."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import UnsupportedCallError

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


def geo_of_pillow(picture: Any, name: str) -> GeoTags:
    """Returns the place on Earth of a TIFF that Pillow has opened.

    Raises `UnsupportedCallError` where Pillow alone would lose pixels, or not know which are missing.
    """
    tags = picture.tag_v2
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


def tags_to_write(geo: GeoTags, has_missing: bool) -> Iterator[tuple[int, int, Any]]:
    """Yields code, type and value, a text or a tuple, of the tags by which a result lies where its picture does."""
    for code, value in sorted(geo.items()):
        kind = GEO_TYPES[code]
        yield code, kind, value if kind == _ASCII else tuple(np.atleast_1d(value).tolist())
    if has_missing:
        yield NODATA, _ASCII, "0"


def extra_tags(geo: GeoTags, *, has_missing: bool) -> list[tuple[int, int, int | None, Any, bool]]:
    """Returns the tags of `tags_to_write` as tifffile writes them."""
    return [
        (code, kind, None if isinstance(value, str) else len(value), value, True)
        for code, kind, value in tags_to_write(geo, has_missing)
    ]
