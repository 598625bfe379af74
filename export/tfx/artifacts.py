"""What the components' artifacts hold, in TFX's own conventions where it has one."""

import os
from typing import Any

import tensorflow as tf
from tfx.types.artifact import Artifact

from ..errors import EvaluationError
from ..evaluate import LabelledPictures, labelled_in_folders, labelled_in_records
from ..sources.paths.trained import SERVING_FOLDER

BLESSED, MESSAGE = "blessed", "blessing_message"
"""Custom properties, as TFX's Pusher, its resolver and its Evaluator name them."""

REPORT_FILE, EVALUATION_FILE = "report.html", "evaluation.json"
IMAGES_FOLDER, MASKS_FOLDER = "images", "masks"
"""Of an `Examples` artifact that is a folder of pictures."""


class MaskReport(Artifact):
    """A page for people about an evaluation: `report.html`, which needs nothing else."""

    TYPE_NAME = "maskport.MaskReport"  # as Kubeflow wants the names of types


def serving_dir(model: Any) -> str:
    """Returns the version directory in a `Model` artifact."""
    return os.path.join(model.uri, SERVING_FOLDER)


def write_file(artifact: Any, name: str, text: str) -> None:
    """Writes a file of an artifact, wherever that lies."""
    tf.io.gfile.makedirs(artifact.uri)
    with tf.io.gfile.GFile(os.path.join(artifact.uri, name), "w") as file:
        file.write(text)


def bless(blessing: Any, reasons: list[str], prefix: str = "") -> None:
    """Marks a blessing: positive without reasons.

    TFX reads the custom property; the file, whose name is TFX's too, holds what people want to know.

    Args:
        blessing: a `ModelBlessing` or an `InfraBlessing`.
        reasons: what speaks against the model.
        prefix: of the file's name: INFRA_ of an `InfraBlessing`.
    """
    blessing.set_int_custom_property(BLESSED, 0 if reasons else 1)
    blessing.set_string_custom_property(MESSAGE, "; ".join(reasons))
    write_file(blessing, f"{prefix}NOT_BLESSED" if reasons else f"{prefix}BLESSED", "\n".join(reasons))


def refusal_of(blessing: Any, kind: str) -> list[str]:
    """Returns why a blessing, maskport's or another's, is none; nothing where it is one."""
    if blessing.get_int_custom_property(BLESSED) == 1:
        return []
    return [f"the {kind} is negative: {blessing.get_string_custom_property(MESSAGE) or 'no reason is given'}"]


def labelled_of(examples: Any, split: str) -> LabelledPictures:
    """Returns the labelled pictures of an `Examples` artifact.

    Args:
        examples: TFRecord files in `Split-NAME`, as ExampleGen writes them, or in the artifact's folder itself; or
            two folders there, `images` and `masks`.
        split: which one is measured, where there are splits.

    Raises:
        EvaluationError: there is no such split, or the payload is no tf.Example.
    """
    uri = examples.uri
    images, masks = (os.path.join(uri, folder) for folder in (IMAGES_FOLDER, MASKS_FOLDER))
    if tf.io.gfile.isdir(images) and tf.io.gfile.isdir(masks):
        if "://" in uri:
            raise EvaluationError(f"{uri}: folders of pictures are read from disk only; wanted TFRecords behind a URL")
        return labelled_in_folders(images, masks)
    payload = examples.get_string_custom_property("payload_format") or "FORMAT_TF_EXAMPLE"
    if payload != "FORMAT_TF_EXAMPLE":
        raise EvaluationError(f"{uri}: wanted tf.Examples (FORMAT_TF_EXAMPLE), got {payload}")
    splits = sorted(
        os.path.basename(path.rstrip("/")).removeprefix("Split-")
        for path in tf.io.gfile.glob(os.path.join(uri, "Split-*"))
    )
    if not splits:
        return labelled_in_records(os.path.join(uri, "*"))
    if split not in splits:
        raise EvaluationError(f"{uri}: has no split {split!r}; there are: {', '.join(splits)}: give split=")
    return labelled_in_records(os.path.join(uri, f"Split-{split}", "*"))
