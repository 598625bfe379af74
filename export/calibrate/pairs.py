"""Pictures and the masks that were drawn for them: found by name, read as truth."""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .errors import CalibrationError

_TURNING_ORIENTATIONS = (5, 6, 7, 8)
_ORIENTATION_TAG = 0x0112
_JPEG_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif")
_PICTURE_ENDINGS = frozenset(
    (*_JPEG_ENDINGS, ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".jp2")
)
"""Of what people keep masks in; what an export does not take as a picture is named by its own error."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Attributes:
        name: the path that both share below their folders, without its ending.
        image: file.
        mask: file.
    """

    name: str
    image: Path
    mask: Path


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What two folders hold.

    Attributes:
        pairs: in the order of their names.
        unpaired: pictures without a mask and masks without a picture.
    """

    pairs: list[Pair]
    unpaired: list[Path]

    @property
    def lossy_masks(self) -> list[Path]:
        """JPEG masks: what their compression leaves beside edges is not zero, so it counts as foreground."""
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
    for path in _pictures_below(folder, other):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise CalibrationError(f"{folder}: {found[name].name} and {path.name} share a stem, which has to pair them")
        found[name] = path
    return found


def _pictures_below(folder: Path, other: Path) -> Iterator[Path]:
    # One of the folders may lie in the other.
    nested = other.resolve() if other.resolve().is_relative_to(folder.resolve()) else None
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _PICTURE_ENDINGS or path.name.startswith(".") or not path.is_file():
            continue
        if nested is None or not path.resolve().is_relative_to(nested):
            yield path


def read_truth(path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Returns a mask file as bool [H, W], upright: true where it is not zero.

    A palette's index counts, not its colour; of colours any channel but alpha counts.

    Args:
        path: of any picture that Pillow reads.
        size: (height, width) that it must have.

    Raises:
        CalibrationError: it is no picture, or has another size.
    """
    try:
        with warnings.catch_warnings():
            # The size is checked against the picture's before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _check_size(picture, size, path)
                return _is_nonzero(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a picture, or broken"
        raise CalibrationError(f"mask {path}: cannot be read: {reason}") from error


def _check_size(picture: Image.Image, size: tuple[int, int], path: Path) -> None:
    is_turned = picture.getexif().get(_ORIENTATION_TAG) in _TURNING_ORIENTATIONS
    height, width = picture.size if is_turned else picture.size[::-1]
    if (height, width) != size:
        raise CalibrationError(f"mask {path}: is {height}x{width}, its upright picture {size[0]}x{size[1]}")


def _is_nonzero(picture: Image.Image) -> npt.NDArray[np.bool_]:
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")  # zero is white there
    values = np.asarray(picture)
    if values.ndim == 2:
        return values != 0
    without_alpha = values[..., :-1] if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") else values
    return np.any(without_alpha != 0, axis=-1)
