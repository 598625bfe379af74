"""What the components do, out of artifacts and parameters."""

import io
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image

from ...serving.verify import (
    VerificationError as GateError,
    VerifyOptions,
    move_labels,
    read_export,
    replace_file,
    serve_version,
    verify,
)
from ..calibrate.labels import ValueLike
from ..calibrate.pairs import pictures_below
from ..errors import PublishError, SpecError, VerificationError
from ..evaluate import Gate, LabelledPictures, evaluate, judge, make_page, to_json
from ..exporter import Plan, publishing
from ..publish.remote_versions import copy_tree
from ..publish.targets import FolderWriter, open_base_path, publish_copy
from ..sources.paths.trained import find_trained
from ..sources.preflight import check_source
from ..spec import ExportSpec, is_builder, make_spec
from .artifacts import (
    EVALUATION_FILE,
    REPORT_FILE,
    bless,
    labelled_of,
    refusal_of,
    serving_dir,
    write_file,
)

logger = logging.getLogger(__name__)

EXAMPLE_PICTURES = 4
_EXAMPLE_EDGE = 320
"""In pixels: golden requests and their answers stay small."""
_PLACES = ("source", "output_dir", "version", "keep")
"""Fields of a spec that the pipeline decides."""


def spec_of(given: Mapping[str, Any], find: Callable[[bool], str], output_dir: str) -> ExportSpec:
    """Returns the spec of an export in a pipeline.

    Args:
        given: fields of a spec.
        find: returns the model's path, or with True that of a builder's weights.
        output_dir: for messages.

    Raises:
        SpecError: the fields are not good.
        SourceError: as `find` does.
    """
    source = given.get("source")
    is_built = isinstance(source, str) and is_builder(source)
    places = {"source": source, "weights": find(True)} if is_built else {"source": find(False)}
    fields = {key: value for key, value in given.items() if key not in _PLACES}
    return make_spec({**fields, **places, "output_dir": output_dir})


def export(
    model: Any, examples: Any, exported_model: Any, infra_blessing: Any, *, spec: str, pictures: str, split: str
) -> None:
    """Exports a trained `Model`, and blesses the export where it answers in a fresh process as it does here."""
    target = serving_dir(exported_model)
    reasons = []
    with _local(model.uri) as trained:
        checked = spec_of(json.loads(spec), lambda is_weights: find_trained(Path(trained), is_weights), target)
        check_source(checked)
        golden = _example_pictures(examples, pictures, split)
        try:
            with publishing(checked, logger.info, FolderWriter(target)) as publish:
                publish(Plan.make(checked).with_pictures(golden))
        except VerificationError as error:
            reasons = [str(error)]
            logger.warning("not blessed: %s", error)
    bless(infra_blessing, reasons, prefix="INFRA_")


@contextmanager
def _local(uri: str) -> Iterator[str]:
    """Gives a folder's path here, for what does not read URLs."""
    if "://" not in uri:
        yield uri
        return
    with tempfile.TemporaryDirectory(prefix="maskport-") as folder:
        copy_tree(uri, folder)
        yield folder


def _example_pictures(examples: Any, folder: str, split: str) -> dict[str, bytes]:
    """Returns the first pictures of a folder or an `Examples` artifact, made small where they are large, by name."""
    found: Iterator[tuple[str, bytes]] = iter(())
    if folder:
        found = ((str(path), path.read_bytes()) for path in pictures_below(Path(folder)))
    elif examples is not None:
        found = ((one.name, one.read_image()) for one in labelled_of(examples, split).walk())
    return {name: _small(data, name) for name, data in itertools.islice(found, EXAMPLE_PICTURES)}


def _small(data: bytes, name: str) -> bytes:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if max(picture.size) <= _EXAMPLE_EDGE:
                return data
            form = picture.format
            # Pillow's quick way there takes no 16-bit pixels.
            picture.thumbnail((_EXAMPLE_EDGE, _EXAMPLE_EDGE), reducing_gap=None)
            file = io.BytesIO()
            picture.save(file, form)
            return file.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SpecError(f"example picture {name}: it is not a picture, or broken") from error


def measure(
    model: Any,
    baseline_model: Any,
    pictures: LabelledPictures,
    evaluation: Any,
    blessing: Any,
    report: Any,
    *,
    foreground_values: str,
    ignore_value: str,
    resamples: int,
    gate: Gate,
) -> None:
    """Measures an exported `Model` beside a baseline, blesses it where it passes the gate, and reports."""
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
    if baseline_model is not None:
        blessing.set_string_custom_property("baseline_model", baseline_model.uri)
        blessing.set_int_custom_property("baseline_model_id", baseline_model.id)
    version_dir = serving_dir(model)
    if not tf.io.gfile.exists(os.path.join(version_dir, "saved_model.pb")):
        bless(blessing, [f"{version_dir}: there is nothing to measure; the exporter's InfraBlessing says why"])
        return
    found = evaluate(
        version_dir,
        pictures,
        baseline_dir=None if baseline_model is None else serving_dir(baseline_model),
        foreground_values=_values(foreground_values) or None,
        ignore_value=_values(ignore_value),
        resamples=resamples,
    )
    for line in (*found.left_out, *(f"{path}: has no partner" for path in pictures.unpaired)):
        logger.warning("left out: %s", line)
    reasons = judge(found, gate)
    write_file(evaluation, EVALUATION_FILE, json.dumps(to_json(found, gate, reasons), indent=1) + "\n")
    for name, interval in found.scores[found.main_subject].items():
        if interval.value is not None:
            evaluation.set_float_custom_property(name, interval.value)
    if found.recommendation:
        evaluation.set_float_custom_property("calibrated_threshold", found.recommendation.threshold)
    facts = {"model": model.uri, "pictures": pictures.origin}
    if baseline_model is not None:
        facts["baseline"] = baseline_model.uri
    write_file(report, REPORT_FILE, make_page(found, gate, reasons, facts))
    if reasons:
        logger.warning("not blessed: %s", "; ".join(reasons))
    bless(blessing, reasons)


def _values(text: str) -> list[ValueLike]:
    return [word.strip() for word in text.split(",") if word.strip()]


def push(
    model: Any,
    model_blessing: Any,
    infra_blessing: Any,
    pushed_model: Any,
    *,
    push_destination: str,
    keep: int,
    addresses: str,
    model_name: str,
    label: str,
    model_config_file: str,
    wait_s: float,
) -> None:
    """Publishes an exported `Model` where its blessings hold, verifies what is served, and moves a label to it."""
    kinds = {"model blessing": model_blessing, "infra blessing": infra_blessing}
    refusals = [line for kind, one in kinds.items() if one is not None for line in refusal_of(one, kind)]
    version_dir = serving_dir(model)
    if not refusals:
        published, is_new = publish_copy(version_dir, push_destination)
        version = int(os.path.basename(published))
        config = _Config(model_config_file, model_name)
        try:
            config.serve(version)
            if addresses:
                refusals = _verify(addresses, model_name, version_dir, version, wait_s)
            if label and not refusals:
                config.move(label, version)
        except BaseException as error:
            refusals = [str(error) or type(error).__name__]
            raise
        finally:
            if refusals:
                config.restore()
            if refusals and is_new:
                # A server that takes the latest version would go on with it.
                with open_base_path(push_destination) as writer:
                    writer.withdraw(version)
    pushed_model.set_int_custom_property("pushed", 0 if refusals else 1)
    if refusals:
        pushed_model.set_string_custom_property("push_message", "; ".join(refusals))
        logger.warning("not pushed: %s", "; ".join(refusals))
        return
    with open_base_path(push_destination) as writer:
        writer.prune(version, keep or None)
    copy_tree(version_dir, pushed_model.uri)  # as TFX's Pusher does, for those who look there
    pushed_model.set_string_custom_property("pushed_destination", published)
    pushed_model.set_string_custom_property("pushed_version", str(version))
    logger.info("pushed: %s%s", published, "" if is_new else " (there already)")


class _Config:
    """A model configuration file of a server's, where one is given."""

    def __init__(self, path: str, model: str):
        self._path, self._model = Path(path) if path else None, model
        self._before = self._path.read_text(encoding="utf-8") if self._path else ""

    def serve(self, version: int) -> None:
        if self._path:
            replace_file(self._path, serve_version(self._before, self._model, version))

    def move(self, label: str, version: int) -> None:
        if self._path:
            text = self._path.read_text(encoding="utf-8")
            replace_file(self._path, move_labels(text, self._model, {label: version}))

    def restore(self) -> None:
        if self._path:
            replace_file(self._path, self._before)


def _verify(addresses: str, model_name: str, version_dir: str, version: int, wait_s: float) -> list[str]:
    """Returns what `mask-verify` finds wrong at the servers."""
    with _local(version_dir) as here:
        expected = read_export(Path(here))
        options = VerifyOptions(version=version, wait_s=wait_s)
        try:
            report = verify([one.strip() for one in addresses.split(",")], model_name, expected, options)
        except GateError as error:
            raise PublishError(f"model {model_name!r} cannot be verified: {error}") from error
    return [f"{one.address}: {one.all_problems()[0]}" for one in report.addresses if not one.holds]
