"""Photographs to measure with: scikit-image's own, as JPEG files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

QUALITY = 90


def encode_jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    """Returns a picture as a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def square_jpeg(edge: int) -> bytes:
    """Returns the astronaut, resized to edge × edge pixels."""
    return encode_jpeg(Image.fromarray(data.astronaut()).resize((edge, edge)))


def camera_jpeg(size: tuple[int, int]) -> bytes:
    """Returns a photograph of a camera's size, (width, height), with the grain that its sensor would give it."""
    photo = np.asarray(Image.fromarray(data.coffee()).resize(size, Image.Resampling.LANCZOS))
    grain = np.random.default_rng(0).normal(0, 2, photo.shape).astype(np.float32)
    return encode_jpeg(Image.fromarray(np.clip(np.rint(photo + grain), 0, 255).astype(np.uint8)))


def photographs() -> dict[str, Image.Image]:
    """Returns photographs in colour at their own sizes, by name."""
    sources = (
        data.astronaut, data.chelsea, data.coffee, data.rocket, data.retina, data.hubble_deep_field,
        data.immunohistochemistry,
    )  # fmt: skip
    return {source.__name__: Image.fromarray(source()) for source in sources}


def variants(count: int, sizes: list[tuple[int, int]], seed: int = 3) -> list[bytes]:
    """Returns varied photographs as JPEG files.

    Args:
        count: how many.
        sizes: (width, height) in pixels, taken in turn.
        seed: of what is cropped, turned, mirrored and lit otherwise.
    """
    sources = [Image.fromarray(image) for image in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())]
    sources += [Image.fromarray(image).convert("RGB") for image in (data.coins(), data.camera(), data.page())]
    rng = np.random.default_rng(seed)
    files = []
    for index in range(count):
        source = sources[index % len(sources)]
        side = int(rng.integers(150, min(source.size)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in source.size)
        picture = source.crop((left, top, left + side, top + side)).rotate(90 * int(rng.integers(4)))
        picture = picture.resize(sizes[index % len(sizes)])
        if rng.random() < 0.5:
            picture = ImageOps.mirror(picture)
        picture = ImageEnhance.Brightness(picture).enhance(float(rng.uniform(0.6, 1.4)))
        files.append(encode_jpeg(picture, int(rng.integers(80, 96))))
    return files


def write_files(files: list[bytes], folder: Path) -> Path:
    """Writes JPEG files into a new folder, and returns it."""
    folder.mkdir(parents=True)
    for index, file in enumerate(files):
        (folder / f"{index:04}.jpg").write_bytes(file)
    return folder
