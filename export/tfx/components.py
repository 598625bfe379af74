"""The components, as pipelines are written with them.

What is wrong with their arguments is said when a pipeline is written, not when it runs. Files and folders that are no
artifacts are read or fingerprinted then too, since TFX's cache sees nothing but artifacts and parameters.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
)

from ..calibrate.labels import parse_values
from ..errors import EvaluationError, PublishError, SpecError
from ..evaluate import Gate, labelled_in_folders
from ..evaluate.scores import RESAMPLES
from ..spec import parse_spec_fields, read_spec_fields
from . import executors
from .artifacts import MaskReport, labelled_of
from .fingerprints import fingerprint


@component
def SegmentationExporterNode(  # noqa: D103, N802  (a component's class; the functions below are what people call)
    model: InputArtifact[Model],
    exported_model: OutputArtifact[Model],
    infra_blessing: OutputArtifact[InfraBlessing],
    spec: Parameter[str],
    examples: InputArtifact[Examples] = None,
    split: Parameter[str] = "eval",
    pictures: Parameter[str] = "",
    pictures_state: Parameter[str] = "",
) -> None:
    executors.export(model, examples, exported_model, infra_blessing, spec=spec, pictures=pictures, split=split)


@component
def MaskEvaluatorNode(  # noqa: D103, N802
    model: InputArtifact[Model],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
    report: OutputArtifact[MaskReport],
    examples: InputArtifact[Examples] = None,
    baseline_model: InputArtifact[Model] = None,
    split: Parameter[str] = "eval",
    images: Parameter[str] = "",
    masks: Parameter[str] = "",
    pictures_state: Parameter[str] = "",
    foreground_values: Parameter[str] = "",
    ignore_value: Parameter[str] = "",
    score: Parameter[str] = "iou",
    floor: Parameter[float] = 0.5,
    class_floors: Parameter[str] = "{}",
    max_drop: Parameter[float] = 0.01,
    max_left_out: Parameter[float] = 0.05,
    resamples: Parameter[int] = RESAMPLES,
) -> None:
    executors.measure(
        model,
        baseline_model,
        labelled_in_folders(images, masks) if images else labelled_of(examples, split),
        evaluation,
        blessing,
        report,
        foreground_values=foreground_values,
        ignore_value=ignore_value,
        resamples=resamples,
        gate=Gate(score, floor, json.loads(class_floors), max_drop, max_left_out),
    )


@component
def VersionedPusherNode(  # noqa: D103, N802
    model: InputArtifact[Model],
    pushed_model: OutputArtifact[PushedModel],
    push_destination: Parameter[str],
    model_blessing: InputArtifact[ModelBlessing] = None,
    infra_blessing: InputArtifact[InfraBlessing] = None,
    keep: Parameter[int] = 0,
    addresses: Parameter[str] = "",
    model_name: Parameter[str] = "",
    label: Parameter[str] = "",
    model_config_file: Parameter[str] = "",
    wait_s: Parameter[float] = 60.0,
) -> None:
    executors.push(
        model,
        model_blessing,
        infra_blessing,
        pushed_model,
        push_destination=push_destination,
        keep=keep,
        addresses=addresses,
        model_name=model_name,
        label=label,
        model_config_file=model_config_file,
        wait_s=wait_s,
    )


def SegmentationExporter(  # noqa: N802  (TFX's components are written so)
    *,
    model: BaseChannel,
    spec: str | os.PathLike[str] | Mapping[str, Any],
    examples: BaseChannel | None = None,
    split: str = "eval",
    pictures: str | os.PathLike[str] | None = None,
) -> Any:
    """Exports a trained model as a SavedModel for TensorFlow Serving, and replays it in a fresh process.

    Args:
        model: a `Model`, as a Trainer writes it: a SavedModel or the only `.keras` file, in `Format-Serving` or in the
            artifact's own folder. With a spec whose source is a builder: its weights.
        spec: an export spec: a path (`.yaml`, `.yml`, `.json`), a text in YAML, or a mapping. Its `source` is the
            model's, and `output_dir`, `version` and `keep` are the pipeline's: what a file says of them is left aside.
        examples: `Examples`, whose first pictures become part of the golden requests, beside drawn ones. Whoever can
            read the export can see them.
        split: of `examples`.
        pictures: a folder of such pictures, in place of `examples`.

    Returns:
        The component. Its outputs: `exported_model` (`Model`), `infra_blessing` (`InfraBlessing`), which is negative
        where the fresh process answers differently.

    Raises:
        SpecError: the spec is not good, or both kinds of pictures are given.
    """
    if examples is not None and pictures is not None:
        raise SpecError("examples and pictures: one of them is enough")
    given = _read_spec(spec)
    executors.spec_of(given, lambda _: "found later", "found later")
    options: dict[str, Any] = {"examples": examples} if examples is not None else {}
    if pictures is not None:
        options |= {"pictures": os.path.abspath(pictures), "pictures_state": fingerprint(pictures)}
    node = SegmentationExporterNode(model=model, spec=json.dumps(given), split=split, **options)
    return node.with_id("SegmentationExporter")


def MaskEvaluator(  # noqa: N802
    *,
    model: BaseChannel,
    examples: BaseChannel | None = None,
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    baseline_model: BaseChannel | None = None,
    split: str = "eval",
    foreground_values: str = "",
    ignore_value: str = "",
    score: str = "iou",
    floor: float = 0.5,
    class_floors: Mapping[str, float] | None = None,
    max_drop: float = 0.01,
    max_left_out: float = 0.05,
    resamples: int = RESAMPLES,
) -> Any:
    """Measures an exported model on labelled pictures, and blesses it where it is good enough.

    Args:
        model: an exported `Model`.
        examples: `Examples` of labelled pictures: TFRecords with `image/encoded` and
            `image/segmentation/class/encoded`, or the folders `images` and `masks`.
        images: a folder of pictures, with `masks`, in place of `examples`; paired as by mask-calibrate.
        masks: the folder of their masks.
        baseline_model: the exported `Model` to compare with, as `resolve_baseline` gives it. There may be none yet.
        split: of `examples`.
        foreground_values: what is foreground in the labels: levels, ranges and colours, with commas between. By
            default the numbers of the export's foreground channels, and where it has one channel all but 0.
        ignore_value: values of pixels that do not count, such as 255 for void, likewise.
        score: iou, dice, precision or recall: which one decides.
        floor: what it must reach, of the mask.
        class_floors: what it must reach of classes, by their names.
        max_drop: how far it may be below the baseline's, of the mask and of each class.
        max_left_out: which part of the pictures may be unreadable.
        resamples: draws of the bootstrap that the intervals come from.

    Returns:
        The component. Its outputs: `evaluation` (`ModelEvaluation`: evaluation.json), `blessing` (`ModelBlessing`, as
        TFX's own Evaluator marks it), `report` (`MaskReport`: report.html).

    Raises:
        EvaluationError: the arguments make no sense.
        CalibrationError: values of labels that are none.
    """
    if (examples is None) == (images is None) or (images is None) != (masks is None):
        raise EvaluationError("give labelled pictures either as examples, or as images and masks")
    if resamples < 1:
        raise EvaluationError(f"resamples: wanted 1 or more, got {resamples}")
    Gate(score, floor, class_floors or {}, max_drop, max_left_out)
    for values in (foreground_values, ignore_value):
        parse_values([word for word in values.split(",") if word.strip()])
    options: dict[str, Any] = {"baseline_model": baseline_model} if baseline_model is not None else {}
    if images is not None and masks is not None:
        state = f"{fingerprint(images)} {fingerprint(masks)}"
        options |= {"images": os.path.abspath(images), "masks": os.path.abspath(masks), "pictures_state": state}
    else:
        options["examples"] = examples
    return MaskEvaluatorNode(
        model=model,
        split=split,
        foreground_values=foreground_values,
        ignore_value=ignore_value,
        score=score,
        floor=float(floor),
        class_floors=json.dumps(dict(class_floors or {})),
        max_drop=float(max_drop),
        max_left_out=float(max_left_out),
        resamples=resamples,
        **options,
    ).with_id("MaskEvaluator")


def VersionedPusher(  # noqa: N802
    *,
    model: BaseChannel,
    push_destination: str | os.PathLike[str],
    model_blessing: BaseChannel | None = None,
    infra_blessing: BaseChannel | None = None,
    keep: int | None = None,
    addresses: str = "",
    model_name: str = "",
    label: str = "",
    model_config_file: str | os.PathLike[str] = "",
    wait_s: float = 60.0,
) -> Any:
    """Publishes an exported model where its blessings hold: whole, or not at all.

    Args:
        model: an exported `Model`.
        push_destination: base path of the served model; a path, or a URL that tf.io.gfile knows. The model becomes
            its highest version plus 1; where that one holds the very same files already, it stays.
        model_blessing: of a MaskEvaluator, or of TFX's Evaluator.
        infra_blessing: of a SegmentationExporter, or of TFX's InfraValidator. One of both is needed.
        keep: how many versions stay, this one included; None is all. Older ones go once all else is done.
        addresses: of servers that serve the base path, with commas between (`grpc://HOST:8500`): mask-verify is run
            against each of them. Where one does not answer as the export, the version is taken back.
        model_name: on the servers; the base path's name unless it is given.
        label: to be moved to the version after that, in `model_config_file`.
        model_config_file: the servers' --model_config_file, which they poll. A policy that names versions is given
            the new one before it is verified.
        wait_s: how long servers may take to load the version.

    Returns:
        The component. Its output: `pushed_model` (`PushedModel`, as TFX's own Pusher marks it).

    Raises:
        PublishError: the arguments make no sense.
    """
    if model_blessing is None and infra_blessing is None:
        raise PublishError("give model_blessing or infra_blessing: without one, everything would be pushed")
    if keep is not None and keep < 1:
        raise PublishError(f"keep: wanted 1 or more, got {keep}")
    if keep is not None and model_config_file:
        raise PublishError("keep: goes without model_config_file, whose policy and labels may name any version")
    if label and not (addresses and model_config_file):
        raise PublishError("label: is moved in a file once servers are verified: give addresses and model_config_file")
    if model_config_file and not Path(model_config_file).is_file():
        raise PublishError(f"model_config_file {model_config_file}: no such file")
    destination = os.fspath(push_destination)
    blessings = {"model_blessing": model_blessing, "infra_blessing": infra_blessing}
    return VersionedPusherNode(
        model=model,
        push_destination=destination if "://" in destination else os.path.abspath(destination),
        keep=keep or 0,
        addresses=addresses,
        model_name=model_name or os.path.basename(destination.rstrip("/")),
        label=label,
        model_config_file=os.path.abspath(model_config_file) if model_config_file else "",
        wait_s=float(wait_s),
        **{name: one for name, one in blessings.items() if one is not None},
    ).with_id("VersionedPusher")


def _read_spec(spec: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(spec, Mapping):
        return dict(spec)
    if isinstance(spec, os.PathLike) or spec.endswith((".yaml", ".yml", ".json")):
        return read_spec_fields(os.fspath(spec))
    return parse_spec_fields(spec, "of SegmentationExporter")
