"""The components one by one: what they refuse when a pipeline is written, and what they do with artifacts."""

import io
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

pytest.importorskip("tfx")
pytestmark = pytest.mark.tfx

import tensorflow as tf  # noqa: E402
import toy_models  # noqa: E402
from exporting import export_unchecked  # noqa: E402
from google.protobuf import text_format  # noqa: E402
from maskport.export.errors import EvaluationError, ExportError, PublishError, SourceError, SpecError  # noqa: E402
from maskport.export.evaluate import Gate  # noqa: E402
from maskport.export.publish.remote_versions import copy_tree  # noqa: E402
from maskport.export.tfx import (  # noqa: E402
    MaskEvaluator,
    MaskReport,
    SegmentationExporter,
    VersionedPusher,
    executors,
    fingerprint,
)
from maskport.export.tfx.artifacts import bless, labelled_of  # noqa: E402
from maskport.serving.client import MaskClient  # noqa: E402
from maskport.serving.server.models.model_config import read_models, read_text_proto  # noqa: E402
from maskport.serving.server.models.repository import RepositorySettings  # noqa: E402
from maskport.serving.server.server import ANY_PORT, ModelServer, ServerSettings  # noqa: E402
from records import example, labelled_example, png, write_records  # noqa: E402
from reference import Toy  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402
from tfx.types.channel import Channel  # noqa: E402
from tfx.types.standard_artifacts import (  # noqa: E402
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
)

ROOT = Path(__file__).parents[3]
CONFIG = """# kept
model_config_list {{
  config {{
    name: "toy"
    base_path: "{base_path}"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 }} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
}}
"""


def artifact(kind, uri):
    made = kind()
    made.uri = str(uri)
    return made


def channel(kind):
    return Channel(type=kind)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """`Model` artifacts of two networks."""
    folder = tmp_path_factory.mktemp("exports")
    for name, seed in (("first", 1), ("second", 2)):
        version_dir = export_unchecked(
            toy_models.keras_model(Toy.make(3, 1, gain=4, seed=seed)), folder / "base" / name, activation="sigmoid",
            scaling="unit", warmup=False, signatures="mask_png,probability_png,export_info",
        )  # fmt: skip
        (folder / name).mkdir()
        (version_dir / "assets").rmdir()  # TensorFlow's ram:// takes assets.extra for part of it
        os.rename(version_dir, folder / name / "Format-Serving")
    return {name: artifact(Model, folder / name) for name in ("first", "second")}


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: SegmentationExporter(model=channel(Model), spec="scalin: unit"), SpecError,
         r"unknown key 'scalin' \(did you mean 'scaling'\?\)"),
        (lambda: SegmentationExporter(model=channel(Model), spec="missing.yaml"), SpecError, "missing.yaml: cannot be"),
        (lambda: SegmentationExporter(model=channel(Model), spec={"source": "nets:build", "weights": 3}), None, ""),
        (lambda: SegmentationExporter(model=channel(Model), spec={}, pictures="nowhere"), ExportError,
         "nowhere: there are no files"),
        (lambda: MaskEvaluator(model=channel(Model)), EvaluationError, "either as examples, or as images and masks"),
        (lambda: MaskEvaluator(model=channel(Model), images="a"), EvaluationError, "either as examples, or as"),
        (lambda: MaskEvaluator(model=channel(Model), examples=channel(Examples), floor=95), EvaluationError,
         "floor: wanted 0 to 1, got 95"),
        (lambda: MaskEvaluator(model=channel(Model), examples=channel(Examples), ignore_value="void"), ExportError,
         "'void' is no value of a mask"),
        (lambda: VersionedPusher(model=channel(Model), push_destination="served/toy"), PublishError,
         "give model_blessing or infra_blessing"),
        (lambda: VersionedPusher(model=channel(Model), push_destination="served/toy", label="stable",
                                 infra_blessing=channel(InfraBlessing)), PublishError,
         "label: is moved in a file once servers are verified: give addresses and model_config_file"),
        (lambda: VersionedPusher(model=channel(Model), push_destination="served/toy", keep=0,
                                 infra_blessing=channel(InfraBlessing)), PublishError, "keep: wanted 1 or more, got 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_when_the_pipeline_is_written(make, error, told):
    if error is None:
        make()
        return
    with pytest.raises(error, match=told) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_spec_file_is_read_when_the_pipeline_is_written_so_that_the_cache_sees_it(tmp_path):
    path = tmp_path / "spec.yaml"
    made = []
    for threshold in (0.3, 0.4):
        path.write_text(f"source: elsewhere.keras\noutput_dir: elsewhere\nscaling: unit\nthreshold: {threshold}\n")
        made.append(SegmentationExporter(model=channel(Model), spec=path).spec.exec_properties["spec"])
    assert made[0] != made[1]
    assert '"threshold": 0.4' in made[1]


def test_a_folder_s_fingerprint_changes_with_its_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"one")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    os.utime(tmp_path / "a/1.png", (1, 1))
    changed = fingerprint(tmp_path)
    (tmp_path / "a/1.png").rename(tmp_path / "a/2.png")
    assert len({before, changed, fingerprint(tmp_path)}) == 3


def test_splits_and_folders_of_examples_are_told_apart(tmp_path):
    pixels = data.astronaut()[:20, :24]
    record = labelled_example(pixels, (pixels[..., 0] > 100).astype(np.uint8))
    for split, count in (("train", 3), ("eval", 2)):
        write_records(tmp_path / f"split/Split-{split}/data.gz", [record] * count, "GZIP")
    examples = artifact(Examples, tmp_path / "split")
    assert [len(list(labelled_of(examples, split).walk())) for split in ("train", "eval")] == [3, 2]
    with pytest.raises(EvaluationError, match="has no split 'test'; there are: eval, train: give split="):
        labelled_of(examples, "test")
    write_records(tmp_path / "flat/data", [record])
    assert len(list(labelled_of(artifact(Examples, tmp_path / "flat"), "eval").walk())) == 1
    for folder in ("images", "masks"):
        (tmp_path / "folders" / folder).mkdir(parents=True)
        (tmp_path / "folders" / folder / "a.png").write_bytes(png(pixels))
    assert [one.name for one in labelled_of(artifact(Examples, tmp_path / "folders"), "eval").walk()] == ["a"]
    examples.set_string_custom_property("payload_format", "FORMAT_PARQUET")
    with pytest.raises(EvaluationError, match=r"wanted tf\.Examples \(FORMAT_TF_EXAMPLE\), got FORMAT_PARQUET"):
        labelled_of(examples, "eval")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Trainer's `Model` whose folder holds a Keras file."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "Format-Serving").mkdir()
    toy_models.keras_model(Toy.make(3, 1, gain=4, seed=1)).save(folder / "Format-Serving/model.keras")
    return artifact(Model, folder)


@pytest.fixture
def remote():
    """A folder that only tf.io.gfile reaches; in this process's memory."""
    return f"ram://{uuid.uuid4().hex}"


def export(trained, folder, spec='{"activation": "sigmoid", "scaling": "unit", "signatures": "mask_png"}', **examples):
    model, blessing = artifact(Model, f"{folder}/exported"), artifact(InfraBlessing, f"{folder}/infra")
    executors.export(
        trained, examples.get("examples"), model, blessing, spec=spec, pictures=examples.get("pictures", ""), split=""
    )
    return model, blessing


def test_a_replay_that_fails_is_a_negative_blessing_that_the_pusher_heeds(trained, remote, tmp_path, monkeypatch):
    from maskport.export.errors import VerificationError
    from maskport.export.publish.saved_check import FreshProcess

    def differ(self, version_dir):
        raise VerificationError("what was written does not answer as the model does: signature mask_png, output mask")

    monkeypatch.setattr(FreshProcess, "check", differ)
    pixels = data.astronaut()[:400:2, :500]  # larger than golden pictures are
    write_records(tmp_path / "examples/data", [example({"image/encoded": png(pixels)})])
    # The pipeline's root may be behind a URL.
    copy_tree(trained.uri, f"{remote}/trained")
    model, blessing = export(
        artifact(Model, f"{remote}/trained"), remote, examples=artifact(Examples, tmp_path / "examples")
    )
    assert blessing.get_int_custom_property("blessed") == 0
    assert tf.io.gfile.listdir(blessing.uri) == ["INFRA_NOT_BLESSED"]
    assert tf.io.gfile.exists(f"{model.uri}/Format-Serving/saved_model.pb")  # to be looked at
    pushed = push(model, tmp_path, infra_blessing=blessing)
    assert pushed.get_int_custom_property("pushed") == 0
    told = pushed.get_string_custom_property("push_message")
    assert told.startswith("the infra blessing is negative: what was written does not answer as the model does: sig")
    assert not (tmp_path / "served").exists()


def test_the_first_pictures_of_a_folder_are_made_small(tmp_path):
    for index in range(6):
        (tmp_path / f"{index}.png").write_bytes(png(data.astronaut()[: 100 + 80 * index, :200]))
    (tmp_path / "notes.txt").write_text("none")
    found = executors._example_pictures(None, str(tmp_path), "eval")
    assert list(found) == [str(tmp_path / f"{index}.png") for index in range(4)]
    sizes = [Image.open(io.BytesIO(one)).size for one in found.values()]
    assert sizes == [(200, 100), (200, 180), (200, 260), (188, 320)]
    assert found[str(tmp_path / "0.png")] == (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(SpecError, match=r"example picture .*0\.png: it is not a picture, or broken"):
        executors._example_pictures(None, str(tmp_path), "eval")


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [('{"activation": "none"}', SpecError, "no probabilities"), ('{"weights": "w"}', SpecError, "only a builder")],
)
def test_a_spec_that_does_not_fit_the_model_is_an_error(trained, tmp_path, spec, error, told):
    with pytest.raises(error, match=told):
        export(trained, tmp_path, spec)


def test_a_model_that_is_none_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"wanted a SavedModel or a \.keras file"):
        export(artifact(Model, tmp_path), tmp_path / "out")


def push(model, folder, *, addresses="", label="", config="", keep=0, wait_s=20.0, **blessings):
    pushed = artifact(PushedModel, folder / f"pushed{len(os.listdir(folder))}")
    if not blessings:
        blessings = {"model_blessing": artifact(ModelBlessing, folder / "blessing")}
        bless(blessings["model_blessing"], [])
    executors.push(
        model, blessings.get("model_blessing"), blessings.get("infra_blessing"), pushed,
        push_destination=str(folder / "served/toy"), keep=keep, addresses=addresses, model_name="toy", label=label,
        model_config_file=str(config), wait_s=wait_s,
    )  # fmt: skip
    return pushed


def test_a_model_behind_a_url_is_measured_beside_another_and_pushed(exports, remote, tmp_path):
    places = {name: artifact(Model, f"{remote}/{name}") for name in exports}
    for name, model in places.items():
        copy_tree(exports[name].uri, model.uri)
        model.mlmd_artifact.id = len(name)
    pixels = data.astronaut()[100:140, 200:260]
    write_records(tmp_path / "data", [labelled_example(pixels, (pixels[..., 0] > 128).astype(np.uint8))] * 2)
    copy_tree(str(tmp_path), f"{remote}/examples/Split-eval")
    blessing, evaluation, report = (
        artifact(kind, f"{remote}/{kind.__name__}") for kind in (ModelBlessing, ModelEvaluation, MaskReport)
    )
    executors.measure(
        places["first"], places["second"], labelled_of(artifact(Examples, f"{remote}/examples"), "eval"), evaluation,
        blessing, report, foreground_values="", ignore_value="", resamples=10, gate=Gate(floor=0, max_drop=1),
    )  # fmt: skip
    found = json.loads(tf.io.gfile.GFile(f"{evaluation.uri}/evaluation.json").read())
    assert (found["pictures"], found["blessed"], list(found["baseline"])) == (2, True, ["mask"])
    assert tf.io.gfile.listdir(blessing.uri) == ["BLESSED"]
    assert "<h1>May be served</h1>" in tf.io.gfile.GFile(f"{report.uri}/report.html").read()
    pushed = push(places["first"], tmp_path, model_blessing=blessing)
    assert pushed.get_string_custom_property("pushed_version") == "1"
    assert (tmp_path / "served/toy/1/saved_model.pb").is_file()


def test_versions_count_up_once_for_each_model_and_old_ones_go(exports, tmp_path):
    for name, version in (("first", "1"), ("first", "1"), ("second", "2"), ("first", "3")):
        pushed = push(exports[name], tmp_path, keep=2)
        assert pushed.get_int_custom_property("pushed") == 1
        assert pushed.get_string_custom_property("pushed_version") == version
        assert pushed.get_string_custom_property("pushed_destination") == str(tmp_path / "served/toy" / version)
        assert Path(pushed.uri, "saved_model.pb").is_file()
    assert sorted(path.name for path in (tmp_path / "served/toy").glob("[0-9]*")) == ["2", "3"]


@pytest.fixture
def live(exports, tmp_path):
    """A server of the first network whose configuration names versions and a label: its address and that file."""
    push(exports["first"], tmp_path)
    config = tmp_path / "models.config"
    config.write_text(CONFIG.format(base_path=tmp_path / "served/toy"))
    models = read_models(read_text_proto(str(config), model_server_config_pb2.ModelServerConfig).model_config_list)
    server = ModelServer(models, ServerSettings(
        grpc_port=ANY_PORT, config_file=str(config), config_poll_wait_s=0.2,
        repository=RepositorySettings(poll_wait_s=0.2, allows_labels_for_unavailable=True),
    ))  # fmt: skip
    server.start()
    yield f"grpc://127.0.0.1:{server.grpc_port}", config
    server.stop()


def labels_of(config):
    read = text_format.Parse(config.read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = read.model_config_list.config
    return list(model.model_version_policy.specific.versions), dict(model.version_labels)


def test_a_label_moves_once_the_live_server_was_verified(exports, live, tmp_path):
    address, config = live
    pushed = push(exports["second"], tmp_path, addresses=address, label="stable", config=config)
    assert pushed.get_string_custom_property("pushed_version") == "2"
    assert labels_of(config) == ([1, 2], {"stable": 2})
    assert config.read_text().startswith("# kept\n")
    with MaskClient(address, "toy", 2) as client:
        client.wait_until_ready(20)


def test_a_version_that_is_not_served_as_exported_is_taken_back(exports, live, tmp_path, monkeypatch):
    """The server gets other files than were exported."""
    address, config = live
    before = config.read_text()
    shutil.copytree(Path(exports["first"].uri, "Format-Serving"), tmp_path / "swapped")
    (tmp_path / "swapped/new").touch()
    publish = executors.publish_copy
    monkeypatch.setattr(executors, "publish_copy", lambda _, base_path: publish(str(tmp_path / "swapped"), base_path))
    pushed = push(exports["second"], tmp_path, addresses=address, label="stable", config=config)
    assert pushed.get_int_custom_property("pushed") == 0
    told = pushed.get_string_custom_property("push_message")
    assert told.startswith(f"{address}: the served model is not the exported one: probe.")
    assert not (tmp_path / "served/toy/2").exists()
    assert config.read_text() == before


def test_a_server_that_is_not_there_takes_the_version_back(exports, tmp_path):
    pushed = push(exports["first"], tmp_path, addresses="grpc://127.0.0.1:9", wait_s=0.5)
    assert pushed.get_int_custom_property("pushed") == 0
    assert pushed.get_string_custom_property("push_message").startswith("grpc://127.0.0.1:9: ")
    assert not list((tmp_path / "served").glob("toy/[0-9]*"))


def test_nothing_to_measure_is_a_negative_blessing(tmp_path):
    model, blessing = artifact(Model, tmp_path / "empty"), artifact(ModelBlessing, tmp_path / "blessing")
    rest = [artifact(kind, tmp_path / kind.__name__) for kind in (ModelEvaluation, MaskReport)]
    executors.measure(
        model, None, None, rest[0], blessing, rest[1], foreground_values="", ignore_value="", resamples=1, gate=Gate()
    )
    assert blessing.get_int_custom_property("blessed") == 0
    assert "the exporter's InfraBlessing says why" in blessing.get_string_custom_property("blessing_message")


def test_the_guide_s_pipeline_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export.yaml").write_text("scaling: unit\nactivation: sigmoid\n")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tfx.md").read_text(), re.DOTALL)
    guide = {}
    for block in blocks:
        exec(block, guide)
    trained = guide["import_model"](str(tmp_path / "export.yaml"))
    importer = SimpleNamespace(outputs={"model": trained.outputs["result"]})
    generator = SimpleNamespace(outputs={"examples": channel(Examples)})
    components = guide["after_training"](importer, generator)
    names = ["SegmentationExporter", "BaselineResolver", "MaskEvaluator", "VersionedPusher"]
    assert [one.id for one in components] == names
    assert components[2].spec.exec_properties["floor"] == 0.8
