"""The camera: from light to the bytes of a photograph."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from .noise import Plane

Bytes = npt.NDArray[np.uint8]


def photograph(rng: np.random.Generator, picture: Plane, coverage: Plane, size: int) -> tuple[Bytes, Bytes]:
    """Blurs, exposes, adds noise, changes the size and compresses, in the order that it happens to photographs."""
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.0, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.8))
    peak = float(np.percentile(picture, 99))
    exposed = picture / max(peak, 0.05) * rng.uniform(0.45, 1.05)
    exposed = np.clip(exposed, 0, None) ** rng.uniform(0.6, 1.3)
    grain = rng.uniform(0, 0.035) * rng.standard_normal(picture.shape).astype(np.float32)
    if rng.random() < 0.5:
        grain = 1.8 * ndimage.gaussian_filter(grain, rng.uniform(0.5, 1.0))
    exposed = exposed + grain * np.sqrt(np.clip(exposed, 0.05, 1)) * 1.6 + rng.uniform(-0.02, 0.06)

    jpeg_first = rng.random() < 0.5
    image = np.clip(np.rint(exposed * 255), 0, 255).astype(np.uint8)
    if jpeg_first:
        image = _compress(rng, image)
    if image.shape[0] != size:
        how = rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
        image = np.asarray(Image.fromarray(image).resize((size, size), how))
    if not jpeg_first and rng.random() < 0.6:
        image = _compress(rng, image)
    cover = Image.fromarray(np.rint(coverage * 255).astype(np.uint8))
    if cover.height != size:
        cover = cover.resize((size, size), Image.Resampling.BILINEAR)
    return image, np.asarray(cover)


def _compress(rng: np.random.Generator, image: Bytes) -> Bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(40, 97)))
    return np.asarray(Image.open(file))
