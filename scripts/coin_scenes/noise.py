"""Planes of numbers that the pictures are made of: coordinates, smooth noise, drawings."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Plane = npt.NDArray[np.float32]
"""One number per pixel, [height, width]."""

Pen = ImageDraw.ImageDraw


def grid(height: int, width: int) -> Plane:
    """Returns [2, height, width]: the row and the column of every pixel."""
    return np.mgrid[0:height, 0:width].astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float, stretch: float = 1.0) -> Plane:
    """Returns smooth noise of about unit variance.

    Args:
        rng: where it comes from.
        shape: height and width.
        scale: about how wide its features are, in pixels.
        stretch: how many times longer they are than wide.
    """
    height, width = shape
    rows, columns = math.ceil(height / scale) + 3, math.ceil(width / (scale * stretch)) + 3
    coarse = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
    # Starting anywhere within the first cell, so that no grid shows.
    top, left = rng.uniform(0.5, 1.5, 2)
    box = (left, top, left + width / (scale * stretch), top + height / scale)
    return 1.3 * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box=box))


def ink(size: int, draw: Callable[[Pen, int], None]) -> Plane:
    """Returns how much of each pixel a drawing covers; `draw(pen, scale)` draws at `scale` times the size."""
    scale = 3
    canvas = Image.new("L", (size * scale, size * scale))
    draw(ImageDraw.Draw(canvas), scale)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255
