"""From a model to a published version directory: the steps of an export, in order."""

import contextlib
import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ..serving import contract
from ..serving.agreement import NOTABLE
from .errors import PublishError, SourceError, SpecError
from .graph.forms.optimization import BFLOAT16, Optimized, optimize
from .graph.module import MaskModule
from .graph.saving import save
from .model.causes import cause_of
from .model.choices import check_class_indices, choose_signatures, choose_warmup, resolve_foreground
from .model.model_graph import weights_of
from .model.segmentation_model import SegmentationModel
from .model.servable_ops import check_servable
from .model.tracing import without_graph_optimization
from .probing.alignment import Alignment, align
from .probing.comparison import Comparison
from .probing.probe import ProbeResult, probe
from .publish import golden, manifest
from .publish.movement import Movement, measuring
from .publish.saved_check import FreshProcess
from .publish.targets import Writer, open_base_path
from .sources import adapt_keras_model, load_source
from .spec import ExportSpec

logger = logging.getLogger(__name__)

_VOID = 255
"""The index by which pixels of no class are often marked."""

OnStep = Callable[[str], None]


def export_keras_model(model: Any, spec: ExportSpec) -> Path | str:
    """Exports a `keras.Model` in memory; see `export_model`."""
    with publishing(spec) as publish:
        loaded = adapt_keras_model(model, spec)
        return publish(Plan.of_model(spec, loaded, manifest.hash_weights(model.get_weights())))


def export_spec(spec: ExportSpec, on_step: OnStep = lambda _: None) -> Path | str:
    """Exports as a spec says; see `export_model`. `on_step` is called with a short text before each step."""
    with publishing(spec, on_step) as publish:
        on_step(f"Loading {spec.source}")
        return publish(Plan.make(spec))


@contextlib.contextmanager
def publishing(
    spec: ExportSpec, on_step: OnStep = lambda _: None, target: Writer | None = None
) -> Iterator[Callable[["Plan"], Path | str]]:
    """Opens what a spec's export goes to, so that what is wrong there is said before its model is loaded.

    Args:
        spec: of the export.
        on_step: called with a short text before each step.
        target: a writer to another place than the spec's `output_dir`.

    Yields:
        A function that writes a plan, checks in a fresh process what was written, and publishes it as a version
        directory, which it returns.
    """
    with (
        target or open_base_path(spec.output_dir) as writer,
        FreshProcess() as fresh,
        FreshProcess(switches_onednn=True) as other,
    ):
        if spec.version is not None:
            writer.check_free(spec.version)

        def publish(plan: "Plan") -> Path | str:
            if plan.optimized.description:
                on_step(f"Optimized: {plan.optimized.description}")
            if plan.alignment:
                on_step(f"Aligned: {plan.alignment.describe(plan.model.size)}")
            if plan.comparison:
                on_step(f"Compared with {plan.comparison}")
            if plan.without_files:
                on_step(f"Left out: {plan.without_files}")
            on_step(f"Writing {len(plan.signatures)} signatures ({plan.model.description})")
            try:
                movement = plan.write(writer.staging, fresh, other)
                on_step(f"Its own answers move {movement}")
                on_step("Checking it in a fresh process")
                fresh.check(writer.staging)
                on_step("Publishing")
                return writer.publish(spec.version, spec.keep)
            except (OSError, tf.errors.OpError) as error:
                reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
                raise PublishError(f"output_dir {spec.output_dir}: cannot be written: {reason}") from error

        yield publish


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A loaded model with its traced signatures, ready to be written.

    Attributes:
        spec: of the export.
        optimized: the form of the model, and how that was chosen.
        alignment: of the model's map; None where that shows the whole of its input.
        comparison: with what the model's file is made for; None where that is TensorFlow, or not installed.
        module: that is saved.
        signatures: names.
        functions: the signatures but for `export_info`, by name.
        make_manifest: gives the text of `maskport.json`, for how far the model's own answers move.
        pictures: encoded ones that become part of the golden requests, beside those that are drawn.
    """

    spec: ExportSpec
    optimized: Optimized
    alignment: Alignment | None
    comparison: Comparison | None
    module: MaskModule
    signatures: list[str]
    functions: Mapping[str, Any]
    make_manifest: Callable[[Mapping[str, float | None]], str]
    pictures: Sequence[bytes] = ()

    @property
    def model(self) -> SegmentationModel:
        """The model in the form that is exported."""
        return self.optimized.model

    @property
    def without_files(self) -> str:
        """Why there are no signatures for encoded pictures, where nobody chose to have none; else empty."""
        if not self.model.takes_bands or self.spec.signatures is not None:
            return ""
        return (
            f"signatures for encoded pictures, since the model takes {self.model.channels} bands: callers send pixels"
        )

    @classmethod
    def make(cls, spec: ExportSpec) -> "Plan":
        """Loads and probes the source and traces the signatures; ExportError where source or spec are not good."""
        if spec.trust_builder_weights:
            model = load_source(spec)
            return cls.of_model(spec, model, manifest.hash_weights(weights_of(model)))
        before = manifest.state_of_source(spec)
        model = load_source(spec)
        source_sha256 = manifest.hash_source(spec)
        if manifest.state_of_source(spec) != before:
            raise SourceError(f"source {spec.source}: changed while it was read; export it once it is written whole")
        return cls.of_model(spec, model, source_sha256)

    @classmethod
    def of_model(cls, spec: ExportSpec, model: SegmentationModel, source_sha256: str) -> "Plan":
        """Probes a loaded model and traces the signatures; errors as of `make`."""
        if model.answers_classes:
            check_class_indices(spec)
        if spec.activation == "softmax" and model.output_channels == 1:
            raise SpecError("activation: 'softmax' needs two or more output channels; the model has one: sigmoid")
        if spec.classes and not model.answers_classes and len(spec.classes) != model.output_channels:
            raise SpecError(f"classes: {len(spec.classes)} names for {model.output_channels} output channels")
        if model.takes_bands and spec.background != "black":
            raise SpecError(
                f"background: {spec.background!r} is for pictures; the model takes {model.channels} bands: wanted black"
            )
        foreground, probed = _resolve_and_probe(spec, model)
        model = align(model, probed.alignment)
        class_count = model.output_channels
        if model.answers_classes:
            class_count = 1 + max(*foreground, int(probed.maximum), len(spec.classes or []) - 1)
            if spec.classes and len(spec.classes) <= probed.maximum < _VOID:
                raise SpecError(f"classes: {len(spec.classes)} names; the model answered class {probed.maximum:g}")
        adds = spec.activation == "softmax" or (spec.activation == "none" and probed.excludes)
        names = choose_signatures(spec, model)
        choose_warmup(spec, names)  # refuses what is not exported before the model is traced

        def make_module(model: SegmentationModel) -> MaskModule:
            return MaskModule(model, spec, foreground, adds, probed.min_edge, class_count)

        optimized = optimize(model, spec, make_module)
        make_manifest = functools.partial(
            manifest.make_manifest, spec, model, optimized.choice, names, foreground, adds, probed, source_sha256
        )
        module = make_module(optimized.model)
        functions = module.signatures([name for name in names if name != contract.EXPORT_INFO])
        return cls(spec, optimized, probed.alignment, probed.comparison, module, names, functions, make_manifest)

    def with_pictures(self, pictures: Mapping[str, bytes]) -> Self:
        """Returns the plan with encoded pictures, by name, beside the drawn ones in its golden requests.

        Raises:
            SpecError: one of them is none that the export takes.
        """
        if pictures and self.model.takes_bands:
            takes = f"the model takes {self.model.channels} bands"
            raise SpecError(f"example picture {next(iter(pictures))}: is an encoded one, {takes}")
        read = self.module.pictures.reader()
        for name, data in pictures.items():
            try:
                _, error = read(tf.constant(data))
            except tf.errors.OpError as failure:
                raise SpecError(f"example picture {name}: the model fails on it: {cause_of(failure)}") from failure
            if error.numpy():
                raise SpecError(f"example picture {name}: {error.numpy().decode()}")
        return dataclasses.replace(self, pictures=tuple(pictures.values()))

    def describe(self) -> str:
        """Returns the resolved spec and the signatures, for people."""
        lines = ["spec:"]
        lines += [f"  {name}: {json.dumps(value)}" for name, value in self.spec.model_dump(mode="json").items()]
        lines += ["model:", f"  {self.model.description}"]
        size = "x".join(map(str, self.model.size)) if self.model.size else "the image's"
        if self.spec.sides:
            size = f"the image's shape at {self.spec.sides}"
        lines += [
            f"  size: {size}; channels: {self.model.channels}; output channels: {self.model.output_channels}",
            f"  map: {self.alignment.describe(self.model.size) if self.alignment else 'shows the whole input'}",
            f"  optimized: {self.optimized.description or self.optimized.choice}",
            *([f"  compared with {self.comparison}"] if self.comparison else []),
            *([f"  left out: {self.without_files}"] if self.without_files else []),
            "signatures:",
        ]
        for name in self.signatures:
            signature = contract.SIGNATURES[name]
            lines.append(f"  {name}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}")
        return "\n".join(lines)

    def write(
        self, directory: Path, as_served: FreshProcess | None = None, other_onednn: FreshProcess | None = None
    ) -> Movement:
        """Writes a whole version into an existing, empty directory.

        Args:
            directory: to write into.
            as_served: a process that runs the model as a server does; without one its answers are taken not to move.
            other_onednn: one that does so with oneDNN's operations switched over.

        Returns:
            How far the model's own answers move.

        Raises:
            SourceError: the model fails on the pictures of golden requests.
            UnservableError: the graph holds ops that a stock server cannot or must not run.
            VerificationError: the model does not run in a fresh process.
        """
        if self.optimized.choice == BFLOAT16:
            other_onednn = None  # without oneDNN a graph of bfloat16 is another, and a wrong one
        with self._running_golden_pictures():
            samples = golden.make_samples(self.module, self.pictures)
            with measuring(self.module, samples, as_served, other_onednn) as measure:
                movement, outputs = measure([self.module.forward(sample.model_input).numpy() for sample in samples])
        tolerance = movement.tolerance(self.optimized.least_tolerance)

        self.module.info = self.make_manifest({**dataclasses.asdict(movement), "tolerance": tolerance})
        functions = self.module.signatures(self.signatures)
        check_servable(save(self.module, directory, functions), self.spec.allow_ops)
        assets = directory / contract.ASSETS_DIR
        assets.mkdir()
        (assets / contract.MANIFEST_FILE).write_text(self.module.info, encoding="utf-8")
        requests = golden.make_requests(functions, self.module, self.pictures)
        if as_served is not None:
            as_served.start_replay(directory, requests)  # first calls there take as long as those here
        with self._running_golden_pictures():
            answers = golden.answer(functions, requests)
        undecided = golden.find_undecided(self.module, samples, outputs, tolerance)
        golden.write_goldens(
            golden.make_goldens(requests, answers, self.spec, undecided, tolerance), assets / contract.GOLDEN_DIR
        )
        if self.spec.warmup:
            called = choose_warmup(self.spec, self.signatures)
            golden.write_warmup(called, self.module, assets / contract.WARMUP_FILE)
        if movement.largest > NOTABLE:
            logger.warning(
                "the model's own answers move with how TensorFlow runs its graph, %s: so servers' probabilities may "
                "differ by %.2g, and %.0f%% of the golden masks' pixels are too near to the threshold to tell",
                movement, tolerance, 100 * np.concatenate([one.foreground for one in undecided.values()]).mean(),
            )  # fmt: skip
        return movement

    @contextlib.contextmanager
    def _running_golden_pictures(self) -> Iterator[None]:
        try:
            with without_graph_optimization():  # which takes longer than what is run here
                yield
        except tf.errors.OpError as error:
            raise SourceError(
                f"source {self.spec.source}: the model fails on golden pictures: {cause_of(error)}"
            ) from error


def _resolve_and_probe(spec: ExportSpec, model: SegmentationModel) -> tuple[list[int], ProbeResult]:
    """Returns the foreground's channels and what the probe found; what either lacks in the spec is told at one time."""
    foreground, lacking = list[int](), None
    try:
        foreground = resolve_foreground(spec, model)
    except SpecError as error:
        lacking = error
    try:
        found = probe(model, spec)
    except (SpecError, SourceError) as error:
        if lacking is None:
            raise
        raise type(error)(f"{lacking}; {error}") from error
    if lacking is not None:
        raise lacking
    return foreground, found
