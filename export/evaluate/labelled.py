"""Labelled pictures: of two folders, as `mask-calibrate` reads them, or of tf.Examples in TFRecord files."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import tensorflow as tf

from ..calibrate.labels import Values
from ..calibrate.pairs import find_pairs, read_values
from ..errors import CalibrationError, EvaluationError

IMAGE_KEY, LABEL_KEY = "image/encoded", "image/segmentation/class/encoded"
"""Features of a tf.Example, as the data sets of DeepLab and of TensorFlow's model garden name them."""

_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A picture and its label.

    Attributes:
        name: for people.
        read_image: returns the encoded picture; EvaluationError where that fails.
        read_label: returns the label's values, [H, W] upright, of the height and width that it is given if those are
            not None; CalibrationError where that fails.
    """

    name: str
    read_image: Callable[[], bytes]
    read_label: Callable[[tuple[int, int] | None], Values]


@dataclasses.dataclass(frozen=True)
class LabelledPictures:
    """Any number of labelled pictures, to be gone through several times.

    Attributes:
        origin: where they come from, for people.
        walk: starts anew, and gives one after the other.
        unpaired: files that were left out, having no partner.
    """

    origin: str
    walk: Callable[[], Iterator[Labelled]]
    unpaired: Sequence[str] = ()


def labelled_in_folders(images: str, masks: str) -> LabelledPictures:
    """Returns the pairs of two folders; CalibrationError where there are none."""
    pairing = find_pairs(Path(images), Path(masks))

    def walk() -> Iterator[Labelled]:
        for pair in pairing.pairs:
            yield Labelled(pair.name, partial(_read, pair.image), partial(read_values, pair.mask))

    return LabelledPictures(images, walk, [str(path) for path in pairing.unpaired])


def labelled_in_records(pattern: str) -> LabelledPictures:
    """Returns the tf.Examples of TFRecord files, gzipped or not, whose features are `IMAGE_KEY` and `LABEL_KEY`.

    Args:
        pattern: of their paths or URLs, such as `data/Split-eval/*`.

    Raises:
        EvaluationError: there are no such files; also while they are read, where one is damaged.
    """
    files = sorted(file for file in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(file))
    if not files:
        raise EvaluationError(f"{pattern}: there are no TFRecord files")

    def walk() -> Iterator[Labelled]:
        for file in files:
            position = -1
            try:
                for position, record in enumerate(tf.data.TFRecordDataset(file, _compression(file))):
                    yield _labelled(f"{os.path.basename(file)}#{position}", record.numpy())
            except (tf.errors.OpError, OSError) as error:
                reason = getattr(error, "message", None) or str(error)
                where = f"after record {position}" if position >= 0 else "at its first record"
                raise EvaluationError(f"{file}: no TFRecord file, or damaged {where}: {reason}") from error

    return LabelledPictures(pattern, walk)


def _compression(file: str) -> str:
    with tf.io.gfile.GFile(file, "rb") as opened:
        return "GZIP" if opened.read(len(_GZIP)) == _GZIP else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"picture {path}: cannot be read: {error.strerror}") from error


def _labelled(name: str, record: bytes) -> Labelled:
    def feature(key: str, error: type[Exception]) -> bytes:
        try:
            features = tf.train.Example.FromString(record).features.feature
        except Exception as problem:  # protobuf's own, of several releases
            raise error(f"{name}: is no tf.Example") from problem
        values = list(features[key].bytes_list.value) if key in features else []
        if len(values) != 1:
            held = ", ".join(sorted(features)) or "nothing"
            raise error(
                f"{name}: wanted one encoded picture as {key!r}, got {len(values)}; the tf.Example holds {held}"
            )
        return bytes(values[0])

    return Labelled(
        name,
        lambda: feature(IMAGE_KEY, EvaluationError),
        lambda size: read_values(Path(name), size, feature(LABEL_KEY, CalibrationError)),
    )
