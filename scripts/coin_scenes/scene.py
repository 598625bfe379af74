"""A whole picture with its truth, and a sheet of them to look at."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from .camera import photograph
from .coins import lay_coins
from .table import draw_table, uneven_light


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture with its truth.

    Attributes:
        image: uint8 [size, size], as a camera would have written it.
        coverage: uint8 [size, size], how much of each pixel is coin, of 255.
    """

    image: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.uint8]


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draws one picture of size×size pixels."""
    # Photographs are seldom looked at in the size they were taken in.
    zoom = 1.0 if rng.random() < 0.4 else float(2 ** rng.uniform(-1, 1.4))
    drawn_size = math.ceil(size / zoom)
    table = draw_table(rng, drawn_size)
    reflectance, coverage = lay_coins(rng, table, zoom)
    light = uneven_light(rng, drawn_size)
    return Scene(*photograph(rng, reflectance * light, coverage, size))


def contact_sheet(seed: int, *, size: int = 224, columns: int = 6, rows: int = 4) -> Image.Image:
    """Returns a sheet of pictures with the coins' outlines drawn in red."""
    sheet = Image.new("RGB", (columns * (size + 4), rows * (size + 4)), "white")
    for index in range(columns * rows):
        scene = draw_scene(np.random.default_rng([seed, index]), size)
        coin = scene.coverage > 127
        outline = coin & ~ndimage.binary_erosion(coin, border_value=1)
        pixels = np.repeat(scene.image[..., None], 3, axis=-1)
        if index % 2:
            pixels[outline] = (255, 40, 40)
        sheet.paste(Image.fromarray(pixels), (index % columns * (size + 4), index // columns * (size + 4)))
    return sheet
