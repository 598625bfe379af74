"""Pictures for the batch job, and what must come of them by the fake server."""

import hashlib

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageOps


class Photos:
    """Pictures in a folder, masks in another, and what must come of them."""

    def __init__(self, folder):
        self.folder, self.masks = folder / "photos", folder / "masks"

    def write(self, name, seed=0, size=(12, 9), **options):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).save(path, **options)
        return path

    def write_many(self, count, bad_every=20):
        """Writes pictures into three folders, and bad ones among them; returns the good and the bad ones."""
        good, bad = [], []
        for number in range(count):
            path = self.write(f"{'abc'[number % 3]}/{number:04d}.{'jpg' if number % 2 else 'png'}")
            if number % bad_every == bad_every // 2:
                path.write_bytes((b"", b"no", path.read_bytes()[:40])[number // bad_every % 3])
                bad.append(path)
            else:
                good.append(path)
        return good, bad

    @property
    def pattern(self):
        return f"{self.folder}/**/*.*g"

    def mask_of(self, picture):
        """Where a picture's mask is."""
        return (self.masks / picture.relative_to(self.folder)).with_suffix(".png")

    def manifest(self):
        return rows_of(self.masks / "manifest.parquet")

    def dead_letters(self):
        return rows_of(self.masks / "dead_letters.parquet")

    def files(self):
        """What is in the folder of masks: bytes by name; of tables, what does not change with the time."""
        found = {}
        for path in self.masks.rglob("*"):
            if path.suffix == ".parquet":
                found[path.name] = [{**row, "milliseconds": None} for row in rows_of(path).values()]
            elif path.is_file():
                found[str(path.relative_to(self.masks))] = path.read_bytes()
        return found


def rows_of(path):
    """The rows of a table, by picture."""
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [row["uri"] for row in rows] == sorted({row["uri"] for row in rows})
    return {row["uri"]: row for row in rows}


def wanted_mask(path, threshold=0.5):
    """What the fake model makes of a picture."""
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"), np.float32)
    return (pixels / 255).mean(axis=2) > threshold


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
