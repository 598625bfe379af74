"""From a model to a published version directory: the steps of an export, in order."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ..serving import contract
from . import golden, manifest
from .errors import PublishError, SpecError
from .graph_optimization import without_graph_optimization
from .module import MaskModule
from .optimization import BFLOAT16, Optimized, optimize
from .probe import probe
from .remote_versions import RemoteVersionWriter
from .saved_check import FreshProcess
from .servable_ops import check_servable
from .sources import SegmentationModel, adapt_keras_model, load_source
from .spec import ExportSpec, make_spec
from .versions import VersionWriter

OnStep = Callable[[str], None]


def export_model(model: Any, output_dir: str | os.PathLike[str], **spec_fields: Any) -> Path | str:
    """Exports a segmentation model as a version directory that TensorFlow Serving can load.

    Args:
        model: path of a `.keras` or `.h5` file or of a SavedModel directory, `package.module:function`, or a
            `keras.Model` in memory.
        output_dir: the served model's base path, or a URL that tf.io.gfile knows; the version directory goes into it.
        **spec_fields: fields of `ExportSpec`, such as `scaling="unit"` or `threshold=0.4`.

    Returns:
        The published version directory; a text where `output_dir` is a URL.

    Raises:
        ExportError: whatever is wrong, in one line; nothing is published then.
    """
    if isinstance(model, str | os.PathLike):
        return export_spec(make_spec({"source": os.fspath(model), "output_dir": os.fspath(output_dir), **spec_fields}))
    if not hasattr(model, "get_weights"):
        raise SpecError(f"source: a path or a keras.Model is wanted, got {type(model).__name__}")
    spec = make_spec({"source": f"keras model {model.name}", "output_dir": os.fspath(output_dir), **spec_fields})
    with publishing(spec) as publish:
        loaded = adapt_keras_model(model, spec)
        return publish(Plan.of_model(spec, loaded, manifest.hash_weights(model.get_weights())))


def export_spec(spec: ExportSpec, on_step: OnStep = lambda _: None) -> Path | str:
    """Exports as a spec says; see `export_model`.

    Args:
        spec: of the export.
        on_step: called with a short text before each step.
    """
    with publishing(spec, on_step) as publish:
        on_step(f"Loading {spec.source}")
        return publish(Plan.make(spec))


@contextlib.contextmanager
def publishing(spec: ExportSpec, on_step: OnStep = lambda _: None) -> Iterator[Callable[["Plan"], Path | str]]:
    """Opens what a spec's export goes to, so that what is wrong there is said before its model is loaded.

    Yields:
        A function that writes a plan, checks in a fresh process what was written, and publishes it as a version
        directory, which it returns.
    """
    is_remote = "://" in spec.output_dir
    with (
        RemoteVersionWriter(spec.output_dir) if is_remote else VersionWriter(Path(spec.output_dir)) as writer,
        FreshProcess() as fresh,
    ):
        if spec.version is not None:
            writer.check_free(spec.version)

        def publish(plan: "Plan") -> Path | str:
            if plan.optimized.description:
                on_step(f"Optimized: {plan.optimized.description}")
            on_step(f"Writing {len(plan.functions)} signatures ({plan.model.description})")
            try:
                plan.write(writer.staging)
                on_step("Checking it in a fresh process")
                fresh.check(writer.staging)
                on_step("Publishing")
                return writer.publish(spec.version, spec.keep)
            except (OSError, tf.errors.OpError) as error:
                reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
                raise PublishError(f"output_dir {spec.output_dir}: cannot be written: {reason}") from error

        yield publish


class Plan:
    """A loaded model with its traced signatures, ready to be written.

    Attributes:
        spec: of the export.
        model: in the form that is exported.
        optimized: how that was chosen.
        module: that is saved.
        functions: the signatures, by name.
        manifest: the text of `maskport.json`.
    """

    def __init__(
        self,
        spec: ExportSpec,
        optimized: Optimized,
        module: MaskModule,
        names: list[str],
        manifest_text: str,
    ):
        self.spec = spec
        self.optimized = optimized
        self.model = optimized.model
        self.module = module
        self.functions = module.signatures(names)
        self.manifest = manifest_text

    @classmethod
    def make(cls, spec: ExportSpec) -> "Plan":
        """Loads and probes the source and traces the signatures.

        Raises:
            ExportError: the source or the spec is not good.
        """
        return cls.of_model(spec, load_source(spec), manifest.hash_source(spec))

    @classmethod
    def of_model(cls, spec: ExportSpec, model: SegmentationModel, source_sha256: str) -> "Plan":
        """Probes a loaded model and traces the signatures.

        Args:
            spec: of the export.
            model: as loaded.
            source_sha256: for the manifest.

        Raises:
            ExportError: the model or the spec is not good.
        """
        foreground = resolve_foreground(spec, model)
        if spec.activation == "softmax" and model.output_channels == 1:
            raise SpecError("activation: 'softmax' needs two or more output channels; the model has one: sigmoid")
        if spec.classes and len(spec.classes) != model.output_channels:
            raise SpecError(f"classes: {len(spec.classes)} names for {model.output_channels} output channels")
        probed = probe(model, spec)
        adds = spec.activation == "softmax" or (spec.activation == "none" and probed.excludes)
        names = _choose_signatures(spec, model)

        def make_module(model: SegmentationModel, info: str = "") -> MaskModule:
            return MaskModule(model, spec, foreground, adds, info, probed.min_edge)

        optimized = optimize(model, spec, make_module)
        text = manifest.make_manifest(spec, model, optimized.choice, names, foreground, adds, probed, source_sha256)
        return cls(spec, optimized, make_module(optimized.model, text), names, text)

    def describe(self) -> str:
        """Returns the resolved spec and the signatures, for people."""
        lines = ["spec:"]
        lines += [f"  {name}: {json.dumps(value)}" for name, value in self.spec.model_dump(mode="json").items()]
        lines += ["model:", f"  {self.model.description}"]
        size = "x".join(map(str, self.model.size)) if self.model.size else "the image's"
        lines += [
            f"  size: {size}; channels: {self.model.channels}; output channels: {self.model.output_channels}",
            f"  optimized: {self.optimized.description or self.optimized.choice}",
            "signatures:",
        ]
        for name in self.functions:
            signature = contract.SIGNATURES[name]
            lines.append(f"  {name}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}")
        return "\n".join(lines)

    def write(self, directory: Path) -> None:
        """Writes a whole version into an existing, empty directory.

        Raises:
            UnservableError: the graph holds ops that a stock server cannot or must not run.
        """
        tf.saved_model.save(self.module, str(directory), signatures=self.functions)
        saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
        check_servable(saved.meta_graphs[0].graph_def, self.spec.allow_ops)
        assets = directory / contract.ASSETS_DIR
        assets.mkdir()
        (assets / contract.MANIFEST_FILE).write_text(self.manifest, encoding="utf-8")
        references = {
            name: self.module.trace(signature)
            for name, signature in contract.SIGNATURES.items()
            if signature.takes_threshold
        }
        # In bfloat16 it matters which ops are fused, as those are that a server runs.
        with contextlib.nullcontext() if self.optimized.choice == BFLOAT16 else without_graph_optimization():
            goldens = golden.make_goldens(
                self.functions, references, self.spec, self.model.channels, self.optimized.precision
            )
        golden.write_goldens(goldens, assets / contract.GOLDEN_DIR)
        if self.spec.warmup:
            golden.write_warmup(
                list(self.functions),
                self.spec,
                self.model.channels,
                self.model.size,
                assets / contract.WARMUP_FILE,
            )


def _choose_signatures(spec: ExportSpec, model: SegmentationModel) -> list[str]:
    available = [
        name
        for name, signature in contract.SIGNATURES.items()
        if signature.product != contract.CLASS_MAP or model.output_channels > 1
    ]
    for name in spec.signatures or []:
        if name not in available:
            raise SpecError(f"signatures: {name!r} needs two or more output channels; the model has one")
    return spec.signatures or available


def resolve_foreground(spec: ExportSpec, model: SegmentationModel) -> list[int]:
    """Returns the indices of the output channels that the mask is of.

    Raises:
        SpecError: it must be given, or does not fit the model.
    """
    count = model.output_channels
    named = ", ".join(f"{i} ({name})" for i, name in enumerate(spec.classes or []))
    choices = named or f"0 to {count - 1}"
    if spec.foreground is None:
        if count == 1:
            return [0]
        raise SpecError(f"foreground: the model has {count} output channels; give the mask's: {choices}")
    indices = [
        channel if isinstance(channel, int) else (spec.classes or []).index(channel) for channel in spec.foreground
    ]
    for index in indices:
        if index >= count:
            raise SpecError(f"foreground: no output channel {index}; the model has: {choices}")
    if spec.activation == "softmax" and len(set(indices)) == count:
        raise SpecError("foreground: all of the model's channels: with softmax they add up to 1 everywhere")
    if len(set(indices)) < len(indices):
        raise SpecError(f"foreground: the same channel twice: {spec.foreground}")
    return indices
