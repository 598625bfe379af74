"""Small pictures that the exporter makes itself: to probe a model, to warm a server up, and as golden requests.

Drawn, not random noise alone: smooth shading, discs and grain give a segmentation model something to answer.
The same for the same size, on every machine.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...serving import contract


def draw_picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Returns a drawn RGB picture, uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    angle, colours = random.uniform(0, 2 * np.pi), random.uniform(20, 235, (2, 3))
    shade = (rows * np.sin(angle) + columns * np.cos(angle) + 1) / 2
    picture = colours[0] + shade[..., np.newaxis] * (colours[1] - colours[0])
    for _ in range(6):
        row, column, radius = random.uniform(0.1, 0.9), random.uniform(0.1, 0.9), random.uniform(0.05, 0.2)
        distance = np.hypot((rows - row) * height, (columns - column) * width) / (radius * min(height, width))
        disc = np.clip((1 - distance) * 8, 0, 1)[..., np.newaxis]
        colour = random.uniform(0, 255, 3) * (1.1 - 0.4 * np.clip(distance, 0, 1))[..., np.newaxis]
        picture = picture * (1 - disc) + colour * disc
    grain = random.normal(0, 4, (height, width, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def as_pixels(picture: npt.NDArray[np.uint8], channels: int, dtype: str, full_scale: float) -> npt.NDArray[np.generic]:
    """Returns a drawn picture, uint8 [H, W, 3], as the pixel signatures take it: 255 becomes `full_scale`.

    Of other numbers of channels than pictures have, each band is another mixture of the picture's colours.
    """
    if channels in contract.IMAGE_CHANNELS:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        values = np.asarray(Image.fromarray(picture).convert(mode), np.float64).reshape(*picture.shape[:2], channels)
    else:
        mixtures = np.random.default_rng(channels).dirichlet(np.ones(3), channels)
        values = picture.astype(np.float64) @ mixtures.T
    scaled = values * (full_scale / 255)
    return (scaled if dtype == "float32" else np.round(scaled)).astype(dtype)


def encode(picture: npt.NDArray[np.uint8], image_format: str) -> bytes:
    """Returns a drawn picture as a file of one of the spec's formats."""
    file = io.BytesIO()
    options: dict[str, dict[str, Any]] = {"jpeg": {"quality": 90}, "webp": {"lossless": True}}
    Image.fromarray(picture).save(file, image_format.upper(), **options.get(image_format, {}))
    return file.getvalue()
