"""A pipeline of TensorFlow Extended on a photograph of coins: import, export, evaluate, push; then serve and verify."""

import dataclasses
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging
from maskport.serving import command_line

ROOT = Path(__file__).resolve().parents[1]
NAME = "coins"
COMPONENTS = ("SegmentationExporter", "MaskEvaluator", "VersionedPusher")
DESCRIPTION = """
Runs a pipeline of TensorFlow Extended with its LocalDagRunner, on a well-known photograph of coins:
importer -> SegmentationExporter -> MaskEvaluator -> VersionedPusher.

  scripts/tfx_pipeline                        the demo model twice, then one that was trained for a single step
  scripts/tfx_pipeline --source=YOUR.keras    a model of yours, in place of the last one

The second run comes from the cache; then what was pushed is served and verified. The last run's model is worse, so it
is not blessed and not pushed. Writes tfx_output/: metadata.sqlite, artifacts/ and served/coins/.
"""

_OUTPUT = flags.DEFINE_string("output_dir", "tfx_output", "Where all goes; emptied first.")
_SOURCE = flags.DEFINE_string("source", None, "A Keras file or a SavedModel that takes the last run's place.")
_FLOOR = flags.DEFINE_float("floor", 0.9, "The IoU that a model must reach.", lower_bound=0, upper_bound=1)
_KUBEFLOW = flags.DEFINE_string("kubeflow", None, "Only compile the pipeline for Kubeflow, into this file.")


def write_examples(folder: Path) -> None:
    """Writes the photograph in pieces with their masks, at three sizes, as ExampleGen would: `Split-eval/*.gz`."""
    import tensorflow as tf
    from evaluate_demo_model import coins_photograph, reference_mask
    from PIL import Image

    photograph = coins_photograph()
    truth = reference_mask(photograph).astype("uint8")
    (folder / "Split-eval").mkdir(parents=True)
    path = folder / "Split-eval/data_tfrecord-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for scale in (0.5, 1.0, 1.5):
            size = (round(384 * scale), round(303 * scale))
            whole = Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC)
            label = Image.fromarray(truth).resize(size, Image.Resampling.NEAREST)
            for left, upper in ((0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)):
                box = [round(size[at % 2] * edge) for at, edge in enumerate((left, upper, left + 0.5, upper + 0.5))]
                features = {
                    "image/encoded": _encode(whole.crop(box), "JPEG"),
                    "image/segmentation/class/encoded": _encode(label.crop(box), "PNG"),
                }
                feature = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for key, value in features.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _encode(picture: Any, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def train_for_one_step(path: Path) -> None:
    """Writes a model of the demo model's form that has seen one batch of drawn coins."""
    import keras
    import numpy as np
    from coin_scenes import draw_scene

    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(keras.saving.load_model(ROOT / "models/coins/coins.keras"))
    model.compile("adam", "binary_crossentropy")
    scenes = [draw_scene(np.random.default_rng(seed), 128) for seed in range(4)]
    pictures, coins = (
        np.stack([getattr(scene, name) for scene in scenes])[..., np.newaxis] / np.float32(255)
        for name in ("image", "coverage")
    )
    model.train_on_batch(pictures, coins)
    model.save(path)


def make_pipeline(source: Path, output_dir: Path, floor: float, *, for_kubeflow: bool = False) -> Any:
    """Returns the pipeline; of Kubeflow, which knows TFX's own resolvers only, with one of them."""
    from maskport.export.tfx import (
        MaskEvaluator,
        SegmentationExporter,
        VersionedPusher,
        fingerprint,
        resolve_baseline,
    )
    from tfx.dsl.components.common.importer import Importer
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
    from tfx.orchestration import metadata
    from tfx.orchestration.pipeline import Pipeline
    from tfx.types.channel import Channel
    from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

    def imported(path: Path, kind: Any) -> Any:
        # What has changed under the same name is another artifact.
        properties = {"fingerprint": fingerprint(path)}
        return Importer(source_uri=str(path), artifact_type=kind, custom_properties=properties)

    trained = imported(source, Model).with_id("Trained")
    examples = imported(output_dir / "examples", Examples).with_id("Labelled")
    exporter = SegmentationExporter(
        model=trained.outputs["result"],
        spec=ROOT / "configs/export/coins.yaml",
        examples=examples.outputs["result"],
    )
    exported = exporter.outputs["exported_model"]
    if for_kubeflow:
        baseline = Resolver(
            strategy_class=LatestBlessedModelStrategy,
            model=Channel(type=Model),
            model_blessing=Channel(type=ModelBlessing),
        ).with_id("BaselineResolver")
    else:
        baseline = resolve_baseline(exported)
    evaluator = MaskEvaluator(
        model=exported,
        examples=examples.outputs["result"],
        baseline_model=baseline.outputs["model"],
        floor=floor,
    )
    pusher = VersionedPusher(
        model=exported,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=exporter.outputs["infra_blessing"],
        push_destination=output_dir / "served" / NAME,
    )
    return Pipeline(
        pipeline_name=NAME,
        pipeline_root=str(output_dir / "artifacts"),
        components=[trained, examples, exporter, baseline, evaluator, pusher],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(output_dir / "metadata.sqlite")),
    )


@dataclasses.dataclass(frozen=True)
class Ran:
    """One execution of a component, as ML Metadata tells of it."""

    component: str  # its id
    state: str  # "ran" or "from the cache"
    artifacts: dict[str, Any]  # ML Metadata's artifacts that it gave, by the names of outputs

    def property(self, output: str, name: str) -> Any:
        """Returns a custom property of an output; None where it has none."""
        value = self.artifacts[output].custom_properties.get(name)
        return getattr(value, value.WhichOneof("value")) if value is not None else None


def run_pipeline(source: Path, output_dir: Path, floor: float) -> dict[str, Ran]:
    """Runs the pipeline; returns what its components did, by their ids."""
    from tfx.orchestration import metadata
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    pipeline = make_pipeline(source, output_dir, floor)
    with metadata.Metadata(pipeline.metadata_connection_config) as handle:
        before = {one.id for one in handle.store.get_executions()}
    LocalDagRunner().run(pipeline)
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    with metadata.Metadata(pipeline.metadata_connection_config) as handle:
        store, done = handle.store, {}
        for execution in store.get_executions():
            if execution.id in before:
                continue
            events = [one for one in store.get_events_by_execution_ids([execution.id]) if one.type == mlmd.Event.OUTPUT]
            artifacts = {one.id: one for one in store.get_artifacts_by_id([event.artifact_id for event in events])}
            names = {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
            contexts = store.get_contexts_by_execution(execution.id)
            (component,) = (one.name.partition(".")[2] for one in contexts if one.type == "node")
            is_cached = execution.last_known_state == mlmd.Execution.CACHED
            done[component] = Ran(component, "from the cache" if is_cached else "ran", names)
    return done


def tell(done: dict[str, Ran]) -> None:
    """Prints what a run did, a line for each of maskport's components."""
    for name in COMPONENTS:
        if name in done:
            print(f"  {name:22}{done[name].state:16}{_outcome(done[name])}")


def _outcome(ran: Ran) -> str:
    if ran.component == "VersionedPusher":
        if ran.property("pushed_model", "pushed"):
            return f"pushed as version {ran.property('pushed_model', 'pushed_version')}"
        return f"not pushed: {ran.property('pushed_model', 'push_message')}"
    output = "infra_blessing" if ran.component == "SegmentationExporter" else "blessing"
    if ran.property(output, "blessed") != 1:
        return f"not blessed: {ran.property(output, 'blessing_message')}"
    return "blessed" + (f", IoU {ran.property('evaluation', 'iou'):.4f}" if output == "blessing" else "")


def serve_and_verify(base_path: Path) -> bool:
    """Serves what was pushed by the embedded server, and verifies its latest version over gRPC and REST."""
    from maskport.serving.server import EmbeddedServer
    from maskport.serving.verify import read_export, verify

    latest = max(base_path.glob("[0-9]*"), key=lambda path: int(path.name))
    with EmbeddedServer(base_path) as server:
        report = verify([server.grpc_address, server.rest_address], base_path.name, read_export(latest))
    for address in report.addresses:
        print(f"  {address.address}: version {address.version} {'agrees' if address.holds else 'DOES NOT AGREE'}")
        for problem in address.all_problems():
            print(f"    {problem}")
    return report.holds


def compile_for_kubeflow(output_dir: Path, path: Path, floor: float) -> None:
    """Writes the pipeline as Kubeflow's pipeline specification."""
    from tfx import components
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kubeflow

    # The compiler asks whether a node is one of these; TFX has None in their place where their libraries are missing.
    for name in ("FileBasedExampleGen", "InfraValidator"):
        if getattr(components, name) is None:
            setattr(components, name, type(name, (), {}))
    pipeline = make_pipeline(ROOT / "models/coins/coins.keras", output_dir, floor, for_kubeflow=True)
    config = kubeflow.KubeflowV2DagRunnerConfig(display_name=NAME, default_image="registry.example/maskport-tfx:latest")
    kubeflow.KubeflowV2DagRunner(config, str(path.parent.resolve()), path.name).run(pipeline)


def main(arguments: Sequence[str]) -> int:
    """Runs the pipeline three times, and serves in between."""
    if arguments:
        raise command_line.UsageError(f"unexpected argument {arguments[0]!r}")
    output_dir = Path(_OUTPUT.value).resolve()
    if output_dir.exists():
        shutil.rmtree(output_dir)
    output_dir.mkdir(parents=True)
    command_line.import_quietly("tensorflow")
    write_examples(output_dir / "examples")
    if _KUBEFLOW.value:
        compile_for_kubeflow(output_dir, Path(_KUBEFLOW.value), _FLOOR.value)
        print(_KUBEFLOW.value)
        return command_line.EXIT_OK
    source = ROOT / "models/coins/coins.keras"
    for title in ("The demo model", "Again"):
        print(f"{title}:", flush=True)
        done = run_pipeline(source, output_dir, _FLOOR.value)
        tell(done)
    is_cached = all(done[name].state == "from the cache" for name in COMPONENTS)
    print("Served:", flush=True)
    holds = serve_and_verify(output_dir / "served" / NAME)
    if _SOURCE.value:
        other, title = Path(_SOURCE.value), _SOURCE.value
    else:
        other, title = output_dir / "one_step.keras", "A model trained for one step"
        train_for_one_step(other)
    print(f"{title}:", flush=True)
    tell(run_pipeline(other, output_dir, _FLOOR.value))
    if not (is_cached and holds):
        raise RuntimeError("the second run was not from the cache" if holds else "what is served does not agree")
    return command_line.EXIT_OK


if __name__ == "__main__":
    from maskport.export.errors import ExportError

    command_line.run_app(
        main,
        program="scripts/tfx_pipeline",
        description=DESCRIPTION,
        user_errors=(ExportError,),
        needs_gpu=False,
        verbosity=logging.ERROR,  # TFX warns of what SQLite cannot do; what components say is told by `tell`
    )
