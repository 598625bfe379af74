"""Pictures and the masks that were drawn for them: found by name, read as truth."""

import dataclasses
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import CalibrationError
from .labels import COLOUR, Values

_TURNING_ORIENTATIONS = (5, 6, 7, 8)
_JPEG_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")
_PICTURE_ENDINGS = frozenset({
    *_JPEG_ENDINGS, ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".jp2",
    ".npy",
})  # fmt: skip
"""Of what people keep masks in; what an export does not take as a picture is named by its own error."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of a picture and its mask, and the path that both share below their folders, without its ending."""

    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What two folders hold: pairs in the order of their names, and files that have no partner."""

    pairs: list[Pair]
    unpaired: list[Path]

    @property
    def lossy_masks(self) -> list[Path]:
        """JPEG masks: what their compression leaves beside edges is neither zero nor what was drawn."""
        return [pair.mask for pair in self.pairs if pair.mask.suffix.lower() in _JPEG_ENDINGS]


def find_pairs(images_dir: Path, masks_dir: Path) -> Pairing:
    """Pairs the pictures below two folders by path and stem: `a/b.jpg` and `a/b.png` belong together.

    Files whose ending is no picture's are none.

    Raises:
        CalibrationError: a folder is missing, both are one, there are no pairs, or a stem is not unique.
    """
    for folder in (images_dir, masks_dir):
        if not folder.is_dir():
            raise CalibrationError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if images_dir.samefile(masks_dir):
        raise CalibrationError(f"{images_dir}: holds the pictures; the masks must lie in a folder of their own")
    images = _by_stem(images_dir, masks_dir)
    masks = _by_stem(masks_dir, images_dir)
    pairs = [Pair(name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
    if not pairs:
        raise CalibrationError(
            f"no picture in {images_dir} ({len(images)} there) has a mask of its stem in {masks_dir} "
            f"({len(masks)} there); photo.jpg and photo.png would be a pair"
        )
    unpaired = [(images | masks)[name] for name in sorted(images.keys() ^ masks.keys())]
    return Pairing(pairs, unpaired)


def _by_stem(folder: Path, other: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in pictures_below(folder, other):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise CalibrationError(f"{folder}: {found[name].name} and {path.name} share a stem, which has to pair them")
        found[name] = path
    return found


def pictures_below(folder: Path, other: Path | None = None) -> Iterator[Path]:
    """Yields the pictures below a folder in order, but none of another folder that may lie in it."""
    nested = other.resolve() if other and other.resolve().is_relative_to(folder.resolve()) else None
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _PICTURE_ENDINGS or path.name.startswith(".") or not path.is_file():
            continue
        if nested is None or not path.resolve().is_relative_to(nested):
            yield path


def read_values(path: Path, size: tuple[int, int] | None = None, content: bytes | None = None) -> Values:
    """Returns a mask file's values, [H, W], upright.

    A palette's index counts, not its colour; alpha does not count.

    Args:
        path: of any picture that Pillow reads.
        size: (height, width) that it must have.
        content: of a file that lies in a record; `path` is its name, for people.

    Raises:
        CalibrationError: it is no picture, has another size, or says what is foreground in no way that is read here.
    """
    try:
        with warnings.catch_warnings():
            # The size is checked against the picture's before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content)) as picture:
                if size is not None:
                    _check_size(picture, size, path)
                return _values(ImageOps.exif_transpose(picture), path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a picture, or broken"
        raise CalibrationError(f"mask {path}: cannot be read: {reason}") from error


def _check_size(picture: Image.Image, size: tuple[int, int], path: Path) -> None:
    is_turned = picture.getexif().get(ExifTags.Base.Orientation) in _TURNING_ORIENTATIONS
    height, width = picture.size if is_turned else picture.size[::-1]
    if (height, width) != size:
        lies = ": the picture is turned by its EXIF data, and the mask seems not to be"
        why = lies if (width, height) == size else ""
        raise CalibrationError(f"mask {path}: is {height}x{width}, its upright picture {size[0]}x{size[1]}{why}")


def _values(picture: Image.Image, path: Path) -> Values:
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")  # zero is white there, or no black
    pixels = np.asarray(picture)
    if pixels.dtype.kind == "f":
        if not np.array_equal(pixels, np.rint(pixels)):
            raise CalibrationError(f"mask {path}: holds fractions; save whole numbers, such as 0 and 255")
        pixels = pixels.astype(np.int64)
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if np.ptp(alpha) and not np.ptp(pixels, axis=(0, 1)).any():
            raise CalibrationError(f"mask {path}: differs in its alpha channel only; save that as a gray picture")
    if pixels.shape[-1] == 1:
        return pixels[..., 0].astype(np.int64)
    red, green, blue = (pixels[..., index].astype(np.int64) for index in range(3))
    is_gray = (red == green) & (green == blue)
    return np.where(is_gray, red, COLOUR + (red << 16) + (green << 8) + blue)
