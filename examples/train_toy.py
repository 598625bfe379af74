"""Trains a small network on drawn pictures, in half a minute: it finds bright round things.

Saves model.keras, unless there is one.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # of what TensorFlow says as it starts nothing is of use here

import keras
import numpy as np

FILE = Path("model.keras")
SIDE = 96


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a gray picture [SIDE, SIDE] of 0 to 1 with some discs on uneven ground, and their mask."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), bool)
    for _ in range(random.integers(1, 6)):
        y, x, radius = *random.uniform(0, SIDE, 2), random.uniform(8, 26)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    slope = random.uniform(-0.3, 0.3, 2) / SIDE
    ground = random.uniform(0.1, 0.4) + slope[0] * rows + slope[1] * columns
    texture = random.normal(0, 0.08, (SIDE, SIDE))
    return np.clip(ground + mask * random.uniform(0.2, 0.5) + texture, 0, 1), mask


def main(pictures: int = 256, epochs: int = 6) -> None:
    """Draws, trains and saves."""
    if FILE.exists():
        raise SystemExit(f"{FILE} is there already: take that, or move it away")
    random = np.random.default_rng(0)
    images, masks = (
        np.stack(them)[..., None].astype("float32")
        for them in zip(*(draw(random) for _ in range(pictures)), strict=True)
    )
    image = keras.Input((None, None, 1))
    x = image
    for dilation in (1, 2, 4, 8, 4, 1):
        x = keras.layers.Conv2D(16, 3, padding="same", dilation_rate=dilation, activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy")
    model.fit(images, masks, batch_size=8, epochs=epochs, verbose=0)
    model.save(FILE)
    print(f"saved {FILE}")


if __name__ == "__main__":
    main()
