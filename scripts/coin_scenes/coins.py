"""The coins: where they lie, their outlines, their struck faces and their shadows."""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from .noise import Plane, smooth_noise

SMALLEST_RADIUS, LARGEST_RADIUS = 8.0, 66.0
"""Of a coin in the finished picture, in pixels."""


def lay_coins(rng: np.random.Generator, table: Plane, zoom: float) -> tuple[Plane, Plane]:
    """Lays coins on a table.

    Args:
        rng: what decides.
        table: what the table reflects, [size, size].
        zoom: how many times larger the finished picture will be.

    Returns:
        What table and coins reflect, and how much of each pixel is coin (0 to 1).
    """
    light = rng.uniform(0, 2 * math.pi)  # where it comes from
    size = table.shape[0]
    picture, coverage = table.copy(), np.zeros_like(table)
    smallest, largest = SMALLEST_RADIUS / min(zoom, 1.0), LARGEST_RADIUS / max(zoom, 1.0)
    usual = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    alike = rng.uniform(0.02, 0.35)  # coins of one picture are of kindred sizes
    style = _Style.pick(rng)
    placed: list[tuple[float, float, float]] = []
    wanted = rng.integers(1, 3 + int(0.35 * size**2 / usual**2 / math.pi)) if rng.random() > 0.06 else 0
    for _ in range(4 * wanted):
        if len(placed) >= wanted:
            break
        radius = float(np.clip(usual * math.exp(rng.normal(0, alike)), smallest, largest))
        x, y = rng.uniform(-0.4 * radius, size + 0.4 * radius, 2)
        gap = style.gap * radius + 1.5
        if any(math.hypot(x - px, y - py) < radius * 1.06 + r * 1.06 + gap for px, py, r in placed):
            continue
        placed.append((x, y, radius))
        _lay_coin(rng, picture, coverage, (x, y, radius), light, style)
    return np.clip(picture, 0, None), coverage


@dataclasses.dataclass(frozen=True)
class _Style:
    """What the coins of one picture have in common."""

    gap: float  # between coins, in radii
    contrast: float  # how much lighter than the table, as a part of the way to white; below 0 darker
    spread: float  # of that from coin to coin
    relief: float
    irregularity: float
    shadow: float
    shadow_reach: float  # in radii
    shadow_offset: float  # in radii

    @classmethod
    def pick(cls, rng: np.random.Generator) -> "_Style":
        kind = rng.choice(["lighter", "alike", "darker"], p=[0.8, 0.1, 0.1])
        contrast = {
            "lighter": rng.uniform(0.12, 0.75),
            "alike": rng.uniform(-0.08, 0.12),
            "darker": rng.uniform(-0.7, -0.15),
        }[kind]
        return cls(
            gap=rng.uniform(0, 0.5),
            contrast=contrast,
            spread=rng.uniform(0.0, 0.12),
            relief=rng.uniform(0.1, 1.0),
            irregularity=rng.uniform(0.0, 0.05),
            shadow=rng.uniform(0.0, 0.75),
            shadow_reach=rng.uniform(0.04, 0.4),
            shadow_offset=rng.uniform(0, 0.12),
        )


def _lay_coin(
    rng: np.random.Generator,
    picture: Plane,
    coverage: Plane,
    place: tuple[float, float, float],
    light: float,
    style: _Style,
) -> None:
    """Draws one coin, with its shadow, into the picture and the coverage."""
    x, y, radius = place
    reach = math.ceil(radius * (1.25 + style.shadow_offset + 2.2 * style.shadow_reach)) + 3
    size = picture.shape[0]
    x0, y0 = max(math.floor(x) - reach, 0), max(math.floor(y) - reach, 0)
    x1, y1 = min(math.ceil(x) + reach, size), min(math.ceil(y) + reach, size)
    if x1 <= x0 or y1 <= y0:
        return
    window = (slice(y0, y1), slice(x0, x1))
    rows, columns = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    dx, dy = columns + 0.5 - x, rows + 0.5 - y
    inside = _outline_distance(rng, dx, dy, radius, style.irregularity)  # pixels within the outline; < 0 outside
    cover = np.clip(inside + 0.5, 0, 1)

    # The shadow: an offset, blurred copy of the coin, and a narrow dark line where it meets the table.
    toward = (-math.sin(light), -math.cos(light))
    offset = style.shadow_offset * radius
    blur = style.shadow_reach * radius * 0.5 + 0.3
    shade = ndimage.shift(cover, (toward[0] * offset, toward[1] * offset), order=1, mode="nearest")
    shade = ndimage.gaussian_filter(shade, blur)
    contact = np.exp(-np.clip(-inside, 0, None) / max(0.05 * radius, 0.8)) * rng.uniform(0, 0.4)
    ground = picture[window] * (1 - style.shadow * shade) * (1 - contact * style.shadow)

    base = float(np.median(picture[window]))
    contrast = style.contrast + rng.normal(0, style.spread)
    level = base + contrast * (0.95 - base) if contrast > 0 else base * (1 + contrast)
    face = level * _face(rng, inside, dx, dy, radius, light, style.relief)
    picture[window] = ground * (1 - cover) + np.clip(face, 0.01, 1.3) * cover
    np.maximum(coverage[window], cover, out=coverage[window])


def _outline_distance(rng: np.random.Generator, dx: Plane, dy: Plane, radius: float, irregularity: float) -> Plane:
    """Returns how far each pixel lies within the coin's outline, a wavy circle that may lack a piece."""
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    outline = np.full_like(angle, radius)
    for wave in range(2, 9):
        height = rng.normal(0, irregularity * radius / wave**0.8)
        outline += height * np.cos(wave * angle + rng.uniform(0, 2 * math.pi))
    inside = outline - distance
    for _ in range(rng.choice([0, 1, 2], p=[0.8, 0.15, 0.05]) if irregularity > 0.015 else 0):
        toward = rng.uniform(0, 2 * math.pi)
        cut = radius * rng.uniform(0.86, 0.97) + 0.03 * radius * np.sin(distance / radius * rng.uniform(2, 9))
        inside = np.minimum(inside, cut - (dx * math.cos(toward) + dy * math.sin(toward)))
    return inside


def _face(
    rng: np.random.Generator,
    inside: Plane,
    dx: Plane,
    dy: Plane,
    radius: float,
    light: float,
    relief: float,
) -> Plane:
    """Returns how bright the struck face is, about 1."""
    shape = inside.shape
    height = np.zeros(shape, np.float32)
    for part, strength in ((0.5, 0.6), (0.2, 0.8), (0.08, 0.5), (0.04, 0.25)):
        scale = max(part * radius, 1.0)
        height += strength * rng.uniform(0.05, 0.8) * scale * smooth_noise(rng, shape, scale)
    # What is struck stands in the middle, on a flat field.
    figure = np.clip((inside - rng.uniform(0.05, 0.35) * radius) / (0.1 * radius), 0, 1)
    height *= figure * rng.uniform(0.4, 1) + (1 - figure) * rng.uniform(0, 0.5)
    if rng.random() < 0.8:
        height += _figure(rng, dx, dy, radius)
    if rng.random() < 0.5:
        height += _ring(rng, inside, dx, dy, radius)
    # The rim: the edge is rounded, and may stand higher than the field.
    bevel = rng.uniform(0.04, 0.22) * radius
    height += rng.uniform(0.2, 1.4) * bevel * np.sqrt(np.clip(inside / bevel, 0, 1))
    height = ndimage.gaussian_filter(height, max(0.012 * radius, 0.35))

    slope_y, slope_x = np.gradient(height)
    lit = slope_x * math.cos(light) + slope_y * math.sin(light)
    shading = 1 + relief * np.tanh(1.2 * lit) * rng.uniform(0.3, 0.7)
    gloss = relief * rng.uniform(0, 0.5) * np.exp(-((lit - rng.uniform(0.3, 0.9)) ** 2) / 0.05)
    # Dirt stays in the hollows, and wear and tarnish come in patches.
    hollows = np.clip(ndimage.gaussian_filter(height, max(0.06 * radius, 0.6)) - height, 0, None)
    dirt = rng.uniform(0, 0.9) * np.clip(hollows / (0.04 * radius + 0.3), 0, 1)
    tarnish = rng.uniform(0, 0.22) * smooth_noise(rng, shape, rng.uniform(0.2, 0.8) * radius)
    tilt = rng.uniform(0, 0.25) * (dx * math.cos(light) + dy * math.sin(light)) / radius
    return (shading + gloss) * (1 - dirt) * np.clip(1 + tarnish + tilt, 0.3, 1.7)


def _figure(rng: np.random.Generator, dx: Plane, dy: Plane, radius: float) -> Plane:
    """Returns the height of a head or a standing shape, made of a few rounded lumps and lines."""
    height = np.zeros_like(dx)
    for _ in range(rng.integers(2, 10)):
        angle, (cx, cy) = rng.uniform(0, math.pi), rng.normal(0, 0.25 * radius, 2)
        u = (dx - cx) * math.cos(angle) + (dy - cy) * math.sin(angle)
        v = (dy - cy) * math.cos(angle) - (dx - cx) * math.sin(angle)
        long, short = rng.uniform(0.1, 0.6) * radius, rng.uniform(0.05, 0.35) * radius
        lump = np.clip(1 - (u / long) ** 2 - (v / short) ** 2, 0, 1)
        height = np.maximum(height, rng.uniform(0.1, 0.5) * short * np.sqrt(lump))
    return height


def _ring(rng: np.random.Generator, inside: Plane, dx: Plane, dy: Plane, radius: float) -> Plane:
    """Returns the height of a ring along the edge: a line, beads or letters."""
    depth, width = rng.uniform(0.08, 0.25) * radius, max(rng.uniform(0.02, 0.06) * radius, 0.6)
    ring = np.exp(-(((inside - depth) / width) ** 2))
    kind = rng.choice(["line", "beads", "letters"])
    if kind != "line":
        count = rng.integers(20, 60) if kind == "beads" else rng.integers(8, 24)
        around = np.sin(np.arctan2(dy, dx) * count + rng.uniform(0, 6))
        ring = ring * np.clip(around + (0 if kind == "beads" else smooth_noise(rng, dx.shape, 2 * width)), 0, 1)
    return rng.uniform(0.3, 1.2) * width * ring
