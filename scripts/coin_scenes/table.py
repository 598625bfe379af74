"""The table that the coins lie on: what it reflects, and how it is lit."""

import math

import numpy as np
from PIL import ImageFont
from scipy import ndimage

from .noise import Pen, Plane, grid, ink, smooth_noise


def draw_table(rng: np.random.Generator, size: int) -> Plane:
    """Returns what the table reflects: 0 to 1, [size, size]."""
    level = rng.uniform(0.06, 0.75) ** rng.uniform(1.0, 1.6)
    table = np.full((size, size), level, np.float32)
    table *= 1 + _texture(rng, size)
    for _ in range(rng.poisson(1.1)):
        table = _lay_flat_thing(rng, table)
    for _ in range(rng.poisson(1.5)):
        table = _scratch(rng, table)
    if rng.random() < 0.6:
        table = _dust(rng, table)
    return table


def _texture(rng: np.random.Generator, size: int) -> Plane:
    """Returns relative changes of brightness: patches, grain, fibres or a weave."""
    patches = rng.uniform(0.0, 0.12) * smooth_noise(rng, (size, size), rng.uniform(0.1, 0.5) * size)
    kind = rng.choice(["plain", "fractal", "grain", "fibres", "weave"], p=[0.25, 0.3, 0.2, 0.15, 0.1])
    strength = rng.uniform(0.01, 0.16)
    if kind == "plain":
        return patches
    if kind == "fractal":
        scale = rng.uniform(4, 40)
        octaves = [smooth_noise(rng, (size, size), max(scale / 2**k, 1)) / 1.6**k for k in range(4)]
        return patches + strength * sum(octaves, np.zeros((size, size), np.float32))
    if kind == "grain":
        return patches + strength * smooth_noise(rng, (size, size), rng.uniform(1, 3))
    if kind == "fibres":
        fibres = smooth_noise(rng, (size, size), rng.uniform(1, 3), stretch=rng.uniform(4, 30))
        return patches + strength * (fibres if rng.random() < 0.5 else fibres.T)
    y, x = grid(size, size)
    angle, period = rng.uniform(0, math.pi), rng.uniform(3, 14)
    u = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period)
    v = (y * math.cos(angle) - x * math.sin(angle)) * (2 * math.pi / period)
    return patches + strength * np.sin(u) * np.sin(v)


# How the outline of a flat thing is drawn; `s` is the size of the canvas, and nothing of them is a whole disc.


def _half_plane(rng: np.random.Generator, pen: Pen, s: float) -> None:
    angle = rng.uniform(0, 2 * math.pi)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    corner = rng.uniform(0.02, 0.98, 2) * s
    steps = ((-1, 0), (1, 0), (1, 1), (-1, 1))
    pen.polygon([tuple(corner + 2 * s * (i * along + j * across)) for i, j in steps], fill=255)


def _card(rng: np.random.Generator, pen: Pen, s: float) -> None:
    angle = rng.uniform(0, math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle, half = rng.uniform(0, 1, 2) * s, rng.uniform(0.015, [0.25, 0.15]) * s
    steps = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    pen.polygon([tuple(middle + turn @ (half * step)) for step in steps], fill=255)


def _around_a_tray(rng: np.random.Generator, pen: Pen, s: float) -> None:
    pen.rectangle((0, 0, s, s), fill=255)
    # Often so near the picture's own frame that only the rounded corners show.
    nearness = rng.choice([0.03, 0.3])
    left, top = (rng.uniform(-nearness, nearness / 3, 2)) * s
    right, bottom = (1 - rng.uniform(-nearness, nearness / 3, 2)) * s
    pen.rounded_rectangle((left, top, right, bottom), radius=rng.uniform(0.02, 0.3) * s, fill=0)


def _arc(rng: np.random.Generator, pen: Pen, s: float) -> None:
    (x, y), radius, start = rng.uniform(-0.3, 1.3, 2) * s, rng.uniform(0.1, 1.2) * s, rng.uniform(0, 360)
    box = (x - radius, y - radius, x + radius, y + radius)
    pen.arc(box, start, start + rng.uniform(20, 120), fill=255, width=int(rng.integers(1, 13)))


def _stains(rng: np.random.Generator, pen: Pen, s: float) -> None:
    """Ragged, lobed or drawn-out spots."""
    for _ in range(rng.integers(1, 8)):
        angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
        outline = np.ones(60)
        for wave in range(2, 9):
            outline += rng.normal(0, 0.45 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi))
        outline = np.clip(outline, 0.05, None) * rng.uniform(0.02, 0.16) * s
        x = outline * np.cos(angles) * rng.uniform(0.4, 2.5)
        y = outline * np.sin(angles)
        turn, middle = rng.uniform(0, math.pi), rng.uniform(0, 1, 2) * s
        corners = np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], axis=-1)
        pen.polygon([tuple(corner) for corner in corners + middle], fill=255)


def _writing(rng: np.random.Generator, pen: Pen, s: float) -> None:
    height = float(math.exp(rng.uniform(math.log(0.03), math.log(0.3))) * s)
    font = ImageFont.load_default(size=height)
    y = rng.uniform(-0.2, 0.6) * s
    for _ in range(rng.integers(1, 8)):
        letters = rng.choice(list("abcdeghijklmnopqrstuvwxyzOQCGDABERS0689  "), rng.integers(2, 30))
        pen.text((rng.uniform(-0.1, 0.4) * s, y), "".join(letters), fill=255, font=font)
        y += height * rng.uniform(1, 1.4)


_FLAT_THINGS = {_half_plane: 0.2, _card: 0.2, _around_a_tray: 0.25, _arc: 0.1, _stains: 0.15, _writing: 0.1}


def _lay_flat_thing(rng: np.random.Generator, table: Plane) -> Plane:
    """Lays paper, cards, trays, stains or writing on the table, none of which are coins."""
    size = table.shape[0]
    draw = list(_FLAT_THINGS)[rng.choice(len(_FLAT_THINGS), p=list(_FLAT_THINGS.values()))]
    cover = ink(size, lambda pen, scale: draw(rng, pen, size * scale))
    # Of another brightness, or the table itself seen lighter or darker.
    if draw is _around_a_tray and rng.random() < 0.7:
        other: Plane = np.full_like(table, rng.uniform(0.0, 0.06))
    elif rng.random() < 0.5:
        other = rng.uniform(0.03, 0.9) * (1 + _texture(rng, size))
    else:
        other = table * rng.uniform(0.6, 1.5)
    return table * (1 - cover) + other * cover


def _scratch(rng: np.random.Generator, table: Plane) -> Plane:
    size = table.shape[0]

    def draw(pen: Pen, scale: int) -> None:
        points = rng.uniform(0, size * scale, 2) + np.cumsum(
            rng.normal(0, 0.08 * size * scale, (rng.integers(2, 6), 2)) + rng.normal(0, 0.1 * size * scale, 2),
            axis=0,
        )
        pen.line([tuple(p) for p in points], fill=255, width=int(rng.integers(1, scale + 2)), joint="curve")

    return table * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.5) * ink(size, draw))


def _dust(rng: np.random.Generator, table: Plane) -> Plane:
    size = table.shape[0]
    specks = np.zeros((size, size), np.float32)
    count = rng.integers(1, 40)
    specks[rng.integers(0, size, count), rng.integers(0, size, count)] = rng.uniform(0.3, 1, count)
    width = rng.uniform(0.4, 1.6)
    specks = ndimage.gaussian_filter(specks, width) * (2 * math.pi * width**2) ** 0.7
    return table + specks * (rng.uniform(-0.4, 0.8) if rng.random() < 0.8 else -table)


def uneven_light(rng: np.random.Generator, size: int) -> Plane:
    """Returns how brightly each place is lit, about 1: a slope, a spot and soft shadows."""
    y, x = grid(size, size) / size - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    slope = rng.uniform(0, 0.9) * (x * math.cos(angle) + y * math.sin(angle))
    cx, cy = rng.uniform(-0.6, 0.6, 2)
    spot = rng.uniform(-0.3, 0.6) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.05, 0.6))
    soft = rng.uniform(0, 0.12) * smooth_noise(rng, (size, size), size / 2)
    return np.clip(1 + slope + spot + soft, 0.15, 2.2).astype(np.float32)
