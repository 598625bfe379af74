"""The pipeline on the coins in real TFX: one run of the script, and what TFX's own code makes of what it left."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tfx")
pytestmark = pytest.mark.tfx

ROOT = Path(__file__).parents[3]
SCRIPT = [sys.executable, ROOT / "scripts/tfx_pipeline.py"]


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfx") / "out"


@pytest.fixture(scope="module")
def printed(output_dir):
    return subprocess.run(
        [*SCRIPT, f"--output_dir={output_dir}"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()


@pytest.fixture(scope="module")
def store(printed, output_dir):
    from tfx.orchestration import metadata

    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(output_dir / "metadata.sqlite"))) as handle:
        yield handle.store


@pytest.fixture(scope="module")
def artifacts(store):
    """TFX's artifacts by the names of their types, in the order that they were made."""
    from maskport.export.tfx import MaskReport
    from tfx.types import artifact_utils, standard_artifacts

    def read(kind):
        found = []
        for one in sorted(store.get_artifacts_by_type(kind.TYPE_NAME), key=lambda artifact: artifact.id):
            found.append(artifact_utils.deserialize_artifact(store.get_artifact_type(kind.TYPE_NAME), one))
        return found

    names = ("Model", "ModelBlessing", "InfraBlessing", "ModelEvaluation", "PushedModel")
    return {name: read(getattr(standard_artifacts, name)) for name in names} | {"MaskReport": read(MaskReport)}


@pytest.fixture(scope="module")
def exported(artifacts):
    """The exported models: the demo model's, then the one that was trained for a step."""
    return [model for model in artifacts["Model"] if "SegmentationExporter" in model.uri]


@pytest.fixture(scope="module")
def pusher():
    """TFX's own Pusher, whose module wants TFX's model analysis for the type of another component's parameter."""
    names = ("tensorflow_model_analysis", "tensorflow_model_analysis.proto", "tensorflow_model_analysis.sdk")
    with mock.patch.dict(sys.modules, dict.fromkeys(names, mock.MagicMock())):
        from tfx.components.pusher import executor

        yield executor.Executor()


def test_it_runs_is_cached_serves_and_refuses_the_worse_model(printed):
    text = "\n".join(printed)
    line = r" +{} +{} +{}\n"
    run = "".join(
        line.format(name, "{state}", outcome)
        for name, outcome in (
            ("SegmentationExporter", "blessed"),
            ("MaskEvaluator", r"blessed, IoU 0\.9\d+"),
            ("VersionedPusher", "pushed as version 1"),
        )
    )
    served = r"Served:\n" + r"  \w+://127\.0\.0\.1:\d+: version 1 agrees\n" * 2
    reason = r"IoU of coin is 0\.\d+ \(0\.\d+ to 0\.\d+\), below the floor of 0\.9; IoU of coin is 0\.\d+ below .*"
    worse = line.format("SegmentationExporter", "ran", "blessed")
    worse += line.format("MaskEvaluator", "ran", f"not blessed: {reason}")
    worse += line.format("VersionedPusher", "ran", f"not pushed: the model blessing is negative: {reason}").rstrip(
        r"\n"
    )
    expected = (
        "The demo model:\n" + run.format(state="ran") + "Again:\n" + run.format(state="from the cache") + served
        + "A model trained for one step:\n" + worse
    )  # fmt: skip
    assert re.fullmatch(expected, text), text


def test_only_the_good_model_is_pushed_whole(printed, output_dir, exported):
    served = output_dir / "served/coins"
    assert sorted(path.name for path in served.iterdir() if not path.name.startswith(".")) == ["1"]
    files = {path.relative_to(served / "1") for path in (served / "1").rglob("*") if path.is_file()}
    source = Path(exported[0].uri, "Format-Serving")
    assert files == {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert all((served / "1" / file).read_bytes() == (source / file).read_bytes() for file in files)


def test_golden_requests_hold_the_first_labelled_pictures(exported, output_dir):
    import tensorflow as tf
    from maskport.serving.verify import read_export

    (golden,) = (
        one for one in read_export(Path(exported[0].uri, "Format-Serving")).records if one.signature == "mask_png"
    )
    records = tf.data.TFRecordDataset(str(next((output_dir / "examples/Split-eval").iterdir())), "GZIP").take(4)
    pictures = [
        tf.train.Example.FromString(one.numpy()).features.feature["image/encoded"].bytes_list.value[0]
        for one in records
    ]
    assert list(golden.inputs["image_bytes"][2:6]) == pictures


def test_scores_are_those_of_the_model_itself(artifacts, output_dir):
    """Keras' own predictions on the labelled pieces, counted by NumPy."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(ROOT / "models/coins/coins.keras")
    both = either = 0
    for record in tf.data.TFRecordDataset(str(next((output_dir / "examples/Split-eval").iterdir())), "GZIP"):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        pixels, label = (
            np.asarray(Image.open(io.BytesIO(features[key].bytes_list.value[0])))
            for key in ("image/encoded", "image/segmentation/class/encoded")
        )
        height, width = pixels.shape
        padded = np.pad(pixels, ((0, -height % 16), (0, -width % 16)), mode="edge").astype(np.float32) / 255
        mask = model.predict(padded[np.newaxis, ..., np.newaxis], verbose=0)[0, :height, :width, 0] > 0.5
        both, either = both + (mask & (label > 0)).sum(), either + (mask | (label > 0)).sum()
    first, second = artifacts["ModelEvaluation"]
    found = json.loads(Path(first.uri, "evaluation.json").read_text())
    interval = found["scores"]["coin"]["iou"]
    assert interval["value"] == pytest.approx(both / either, abs=5e-4)
    assert interval["low"] < interval["value"] < interval["high"]
    assert first.get_float_custom_property("iou") == pytest.approx(interval["value"])
    assert (found["pictures"], found["left_out"], found["baseline"]) == (12, [], {})
    assert json.loads(Path(second.uri, "evaluation.json").read_text())["baseline"]["coin"]["iou"] == interval


def test_the_reports_are_pages_that_need_nothing_else(artifacts):
    good, bad = (Path(one.uri, "report.html").read_text() for one in artifacts["MaskReport"])
    assert "<h1>May be served</h1>" in good
    assert "<h1>Must not be served</h1>" in bad
    assert "Differences from the baseline" in bad
    assert not re.search(r'(src|href)="(?!data:|#)', good + bad)


def test_blessings_are_written_as_tfx_writes_them(artifacts, exported):
    good, bad = artifacts["ModelBlessing"]
    assert (os.listdir(good.uri), os.listdir(bad.uri)) == (["BLESSED"], ["NOT_BLESSED"])
    assert [os.listdir(one.uri) for one in artifacts["InfraBlessing"]] == [["INFRA_BLESSED"]] * 2
    assert [one.get_int_custom_property("current_model_id") for one in (good, bad)] == [one.id for one in exported]
    assert bad.get_int_custom_property("baseline_model_id") == exported[0].id
    reason = bad.get_string_custom_property("blessing_message")
    assert Path(bad.uri, "NOT_BLESSED").read_text().replace("\n", "; ") == reason
    assert reason.startswith("IoU of coin is ")


@pytest.mark.parametrize("position", [0, 1])
def test_tfx_s_own_pusher_pushes_what_is_blessed_and_nothing_else(artifacts, exported, pusher, tmp_path, position):
    from tfx.components.util import model_utils
    from tfx.types import standard_artifacts

    blessing, infra = artifacts["ModelBlessing"][position], artifacts["InfraBlessing"][position]
    assert model_utils.is_model_blessed(blessing) == (position == 0)
    assert model_utils.is_infra_validated(infra)
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    inputs = {"model": [exported[position]], "model_blessing": [blessing], "infra_blessing": [infra]}
    destination = json.dumps({"filesystem": {"base_directory": str(tmp_path / "base")}})
    pusher.Do(inputs, {"pushed_model": [pushed]}, {"push_destination": destination})
    assert pushed.get_int_custom_property("pushed") == (position == 0)
    if position == 0:
        (version,) = (tmp_path / "base").iterdir()
        assert (version / "saved_model.pb").is_file()
        ours = artifacts["PushedModel"][0]
        for name in ("pushed_destination", "pushed_version"):
            assert ours.has_custom_property(name) == pushed.has_custom_property(name)
        assert set(os.listdir(ours.uri)) == set(os.listdir(pushed.uri))


def test_tfx_s_own_resolver_finds_the_blessed_model(artifacts, exported, store):
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy

    given = {"model": list(artifacts["Model"]), "model_blessing": list(artifacts["ModelBlessing"])}
    found = LatestBlessedModelStrategy().resolve_artifacts(store, given)
    assert [one.id for one in found["model"]] == [exported[0].id]
    assert found["model_blessing"][0].id == artifacts["ModelBlessing"][0].id


def test_a_baseline_is_blessed_and_older(artifacts, exported):
    from maskport.export.tfx import LatestBlessedBeforeStrategy

    def resolve(current):
        given = {"current": [current], "model": artifacts["Model"], "model_blessing": artifacts["ModelBlessing"]}
        return [one.id for one in LatestBlessedBeforeStrategy().resolve_artifacts(None, given)["model"]]

    assert resolve(exported[0]) == []
    assert resolve(exported[1]) == [exported[0].id]


def test_the_same_pipeline_compiles_for_kubeflow(tmp_path):
    """Read by Kubeflow's own messages, which know no field that is not in their schema, and by its SDK."""
    import yaml
    from google.protobuf import json_format
    from kfp import components
    from kfp.pipeline_spec import pipeline_spec_pb2

    path = tmp_path / "pipeline.json"
    subprocess.run([*SCRIPT, f"--output_dir={tmp_path / 'out'}", f"--kubeflow={path}"], check=True)
    compiled = json.loads(path.read_text())
    json_format.ParseDict(compiled, pipeline_spec_pb2.PipelineJob())
    assert components.load_component_from_text(yaml.safe_dump(compiled["pipelineSpec"])).name == "coins"
    spec = json_format.ParseDict(compiled["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    tasks = spec.root.dag.tasks
    assert set(tasks["VersionedPusher"].dependent_tasks) == {"MaskEvaluator", "SegmentationExporter"}
    assert set(tasks["MaskEvaluator"].inputs.artifacts) == {"model", "examples", "baseline_model"}
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    container = deployment.executors["SegmentationExporter_executor"].container
    assert "maskport.export.tfx.components.SegmentationExporterNode_Executor" in container.args
