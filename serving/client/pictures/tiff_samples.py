"""What the samples of a TIFF mean, and the pixels that are made of them."""

from typing import Any

import numpy as np

from ..errors import InvalidImageError
from .channels import ALPHA, BLUE, GRAY, GREEN, RED, bands_of_array
from .tiff_tags import EXTRA_SAMPLES
from .tiling import Array

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = (0, 1, 2, 3, 4, 5, 6, 8)
_KNOWN = (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCBCR)
_COLOURS = {RGB: 3, CMYK: 4, YCBCR: 3}
_INK_SET = 332
_ASSOCIATED, _UNASSOCIATED, _CORELS = 1, 2, 999  # kinds of alpha


class Samples:
    """What the samples of tifffile's page mean; with `is_rgb` they are red, green and blue of 8 bits already.

    `channels`, `dtype` and `full_scale` are of the pixels that are made of them.
    """

    def __init__(self, page: Any, name: str, *, is_rgb: bool = False):
        photometric, bits, kind, samples = int(page.photometric), page.bitspersample, page.dtype, page.samplesperpixel
        if is_rgb:
            photometric, bits, kind, samples = RGB, 8, np.dtype(np.uint8), 3
        if kind is None or not isinstance(bits, int) or kind.kind not in "buif":
            words = f"{name} holds samples of {bits} bits as {kind or 'an unknown kind'}"
            raise InvalidImageError(words, hint="convert it to 8 or 16 bits")
        is_unsigned = kind.kind in "bu" and bits <= 16
        are_other_inks = photometric == CMYK and _INK_SET in page.tags and page.tags[_INK_SET].value == 2
        is_float_white = photometric == MIN_IS_WHITE and kind.kind == "f"
        if are_other_inks or is_float_white or samples < _COLOURS.get(photometric, 1):
            photometric = MIN_IS_BLACK
        if photometric not in _KNOWN:
            words = f"{name} holds colours of the kind {photometric_name(page)}"
            raise InvalidImageError(words, hint="convert it to RGB")
        if photometric in (MIN_IS_WHITE, PALETTE, CMYK) and not is_unsigned:
            raise InvalidImageError(f"{name} holds {kind} that mean no plain values", hint="convert it to RGB")
        self._photometric, self._bits = photometric, bits
        extra = samples - _COLOURS.get(photometric, 1)
        self._extra = _extra_of(page, extra) if extra > 0 else ()
        self._palette = _palette_of(page, name) if photometric == PALETTE else None
        # Nodata is stated of values, a palette's indices, or colours as decoded, not of ink.
        self.is_plain = photometric != CMYK
        self.dtype = np.dtype(np.float32) if kind.kind == "f" else np.dtype(kind)
        self.full_scale: int | None = (1 << bits) - 1 if is_unsigned else None
        if self._palette is not None or (is_unsigned and bits <= 8):
            self.dtype, self.full_scale = np.dtype(np.uint8), 255
        is_colour = photometric in (RGB, PALETTE, CMYK, YCBCR)
        colours = (RED, GREEN, BLUE) if is_colour else (GRAY,)
        alphas = [kind in (_ASSOCIATED, _UNASSOCIATED) for kind in self._extra]
        beyond = (ALPHA if is_alpha else f"band {k}" for k, is_alpha in enumerate(alphas, len(colours) + 1))
        self.channels: tuple[str, ...] = (*colours, *beyond)
        if alphas and not any(alphas) and not is_colour:
            # A gray picture has no second gray: all are bands.
            self.channels = bands_of_array(samples)

    def scale(self, raw: Array) -> Array:
        """Returns samples with their full scale as announced."""
        if raw.dtype.kind == "f":
            return raw.astype(np.float32, copy=False)
        if self._bits < 8:
            top = (1 << self._bits) - 1
            return ((raw.astype(np.uint16) * 255 + top // 2) // top).astype(np.uint8)
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)

    def pixels(self, raw: Array) -> Array:
        """Returns the pixels [h, w, C] of samples [h, w, S]."""
        if self._palette is not None:
            colours = self._palette[np.minimum(raw[..., 0], len(self._palette) - 1)]
            return np.concatenate([colours, self.scale(raw[..., 1:])], axis=2) if self._extra else colours
        pixels = self.scale(raw)
        full = self.full_scale or 0
        if self._photometric == MIN_IS_WHITE:
            pixels = np.concatenate([full - pixels[..., :1], pixels[..., 1:]], axis=2)
        if self._photometric == CMYK:
            pixels = np.concatenate([_rgb_of_cmyk(pixels[..., :4], full), pixels[..., 4:]], axis=2)
        if _ASSOCIATED in self._extra and pixels.dtype.kind == "u":
            pixels = _unassociate(pixels, self.channels.index(ALPHA), full or 255)
        return pixels


def photometric_name(page: Any) -> str:
    """Returns what kind of colours a page says that it holds."""
    return str(getattr(page.photometric, "name", page.photometric)).lower()


def _palette_of(page: Any, name: str) -> Array:
    if page.colormap is None:
        raise InvalidImageError(f"{name} has no palette, and its pixels are indices of one")
    palette: Array = np.asarray(page.colormap).T
    # Some writers put 8 bits where 16 belong.
    return (palette >> 8 if palette.max(initial=0) > 255 else palette).astype(np.uint8)


def _extra_of(page: Any, count: int) -> tuple[int, ...]:
    """Returns the kinds of a page's samples beyond its colours."""
    tag = page.tags.get(EXTRA_SAMPLES)
    if tag is None and count == 1 and int(page.photometric) == RGB:
        return (_UNASSOCIATED,)  # which writers of RGBA leave out at times
    kinds = [] if tag is None else [int(kind) for kind in np.atleast_1d(tag.value)]
    return tuple((_UNASSOCIATED if kind == _CORELS else kind) for kind in (kinds + [0] * count)[:count])


def _rgb_of_cmyk(pixels: Array, full: int) -> Array:
    """Returns ink as light, as Pillow does without a colour profile."""
    wide = pixels.astype(np.int64)
    paper = full - wide[..., 3:]
    product = wide[..., :3] * paper + (full + 1) // 2
    # Pillow's rounding of a division by 255.
    inked = (product + (product >> 8)) >> 8 if full == 255 else product // full
    return np.clip(paper - inked, 0, full).astype(pixels.dtype)


def _unassociate(pixels: Array, alpha: int, full: int) -> Array:
    """Returns colours as they were before they were multiplied by alpha."""
    opacity = pixels[..., alpha : alpha + 1].astype(np.int64)
    colours = np.minimum(pixels[..., :alpha].astype(np.int64) * full // np.maximum(opacity, 1), full)
    result = pixels.copy()
    # Where nothing is seen, colours stay as they are.
    result[..., :alpha] = np.where(opacity == 0, pixels[..., :alpha], colours)
    return result
