"""An export from outside: what is written, what is refused, and what is left behind."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export import (
    ExportError,
    PublishError,
    SourceError,
    SpecError,
    VerificationError,
    export_model,
    exporter,
)
from maskport.export.publish import manifest, saved_check
from maskport.export.publish.golden import read_goldens, write_goldens
from maskport.export.publish.saved_check import FreshProcess
from maskport.export.spec import make_spec
from maskport.serving import contract
from reference import Toy
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

ONE_CLASS = Toy.make(3, 1, gain=4)
THREE_CLASSES = Toy.make(3, 3, gain=4)
SOME_SIGNATURES = ["mask", "mask_at_threshold", "mask_png", "export_info"]
QUICK = {"scaling": "unit", "activation": "sigmoid", "signatures": SOME_SIGNATURES}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy.keras"
    toy_models.keras_model(ONE_CLASS).save(path)
    return path


@pytest.fixture(scope="module")
def version_dir(model_file, tmp_path_factory):
    return export_model(model_file, tmp_path_factory.mktemp("served") / "toy", threshold=0.4, **QUICK)


def test_a_version_directory_holds_what_the_design_says(version_dir):
    files = {str(file.relative_to(version_dir)) for file in version_dir.rglob("*") if file.is_file()}
    golden = {f"assets.extra/golden/{name}.pb" for name in SOME_SIGNATURES}
    assert files == golden | {
        "batching_params.pbtxt",
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets.extra/golden/golden.json",
        "assets.extra/maskport.json",
        "assets.extra/tf_serving_warmup_requests",
    }


def test_the_manifest_tells_about_the_model_and_nothing_about_the_machine(version_dir, model_file):
    text = (version_dir / "assets.extra/maskport.json").read_text()
    manifest = json.loads(text)
    assert manifest["schema_version"] == 1
    assert manifest["threshold"] == 0.4
    assert manifest["model"]["channels"] == 3
    assert list(manifest["signatures"]) == SOME_SIGNATURES
    assert manifest["source"]["name"] == "toy.keras"
    digest = subprocess.run(["sha256sum", model_file], capture_output=True, text=True, check=True).stdout.split()[0]
    assert manifest["source"]["sha256"] == digest
    assert str(model_file.parent) not in text
    answer = tf.saved_model.load(str(version_dir)).signatures["export_info"](query=tf.constant([b""]))
    assert answer["info"].numpy()[0].decode() == text


def test_warm_up_records_call_every_signature_with_a_real_pictures_size(version_dir):
    records = tf.data.TFRecordDataset(str(version_dir / "assets.extra/tf_serving_warmup_requests"))
    requests = [prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    assert [request.model_spec.signature_name for request in requests] == SOME_SIGNATURES
    for request in requests:
        assert set(request.inputs) == set(contract.SIGNATURES[request.model_spec.signature_name].inputs)
    assert tf.make_ndarray(requests[0].inputs["image"]).shape == (1, 384, 512, 3)


def test_warm_up_records_are_of_those_signatures_that_are_called(model_file, tmp_path):
    version_dir = export_unchecked(model_file, tmp_path, **QUICK, warmup_signatures="mask_png")
    (record,) = tf.data.TFRecordDataset(str(version_dir / "assets.extra/tf_serving_warmup_requests"))
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
    assert log.request.model_spec.signature_name == "mask_png"


def check(version_dir):
    with FreshProcess() as fresh:
        fresh.check(version_dir)


def test_the_fresh_process_finds_a_damaged_weight(version_dir, tmp_path):
    damaged = shutil.copytree(version_dir, tmp_path / "damaged")
    file = damaged / "variables/variables.data-00000-of-00001"
    check(damaged)
    file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    with pytest.raises(VerificationError, match=r"does not answer as the model does: it does not load: .*[Cc]hecksum"):
        check(damaged)


def with_another_mask(version_dir, target):
    """A copy of a version directory of which one golden mask is the opposite."""
    changed = shutil.copytree(version_dir, target)
    file = changed / "assets.extra/golden/mask.pb"
    log = prediction_log_pb2.PredictLog.FromString(file.read_bytes())
    mask = 1 - tf.make_ndarray(log.response.outputs["mask"])
    log.response.outputs["mask"].CopyFrom(tf.make_tensor_proto(mask))
    file.write_bytes(log.SerializeToString())
    return changed


def test_the_fresh_process_finds_another_answer(version_dir, tmp_path):
    changed = with_another_mask(version_dir, tmp_path / "changed")
    with pytest.raises(
        VerificationError, match=r"signature mask, output mask: \d+ of \d+ values differ, by up to 1 \(0 "
    ):
        check(changed)


def test_what_was_answered_ahead_is_checked_like_all_else(version_dir, tmp_path):
    good = shutil.copytree(version_dir, tmp_path / "good")
    changed = with_another_mask(version_dir, tmp_path / "changed")
    requests = read_goldens(version_dir / "assets.extra/golden")
    with FreshProcess() as fresh:
        fresh.start_replay(changed, requests)
        with pytest.raises(VerificationError, match="signature mask, output mask: "):
            fresh.check(changed)
        fresh.start_replay(good, requests[:1])
        fresh.check(good)


def test_what_failed_ahead_is_asked_once_more(version_dir, tmp_path):
    """As memory may be short while the exporter runs the model too."""
    requests = read_goldens(version_dir / "assets.extra/golden")
    empty = [dataclasses.replace(one, request=predict_pb2.PredictRequest()) for one in requests]
    write_goldens(empty, tmp_path / "asked")
    copy = str(shutil.copytree(version_dir, tmp_path / "copy"))
    for folder in ("asked", "not there"):
        saved_check.replay(copy, str(tmp_path / folder))
        assert saved_check.examine(copy) == []


def test_a_fresh_process_that_dies_ahead_of_the_check_is_told_of(monkeypatch, tmp_path):
    dies = "import sys; sys.stdin.readline(); sys.exit('no memory left')"
    monkeypatch.setattr(saved_check, "COMMAND", (sys.executable, "-c", dies))
    with FreshProcess() as fresh:
        fresh.start_replay(tmp_path, [])
        with pytest.raises(VerificationError, match=r"^the fresh process crashed: no memory left$"):
            fresh.check(tmp_path)


def test_a_model_in_memory_is_exported_with_its_own_layers(tmp_path, monkeypatch):
    import keras

    class Own(keras.layers.Layer):  # registered nowhere
        def call(self, x):
            return x[..., :1] * 0.5

    image = keras.Input((None, None, 3))
    model = keras.Model(image, Own()(image), name="own")
    (tmp_path / "random.py").write_text("raise RuntimeError('a file of the user stands in for a library')")
    monkeypatch.chdir(tmp_path)
    version = export_model(model, "served/own", scaling="unit", signatures=["mask"])
    manifest = json.loads((version / "assets.extra/maskport.json").read_text())
    assert manifest["source"]["description"] == "Keras model 'own', 0 parameters"


class InThisProcess:
    """What a fresh process does, without the seconds that TensorFlow takes to load."""

    def __init__(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start_replay(self, version_dir, requests):
        pass

    def check(self, version_dir):
        assert saved_check.examine(str(version_dir)) == []

    def start_forward(self, folder, outputs_file):
        assert saved_check.run_forward(folder, outputs_file) == ""
        return lambda: list(np.load(folder / outputs_file).values())


@pytest.fixture
def without_processes(monkeypatch):
    monkeypatch.setattr(exporter, "FreshProcess", InThisProcess)


@pytest.mark.usefixtures("without_processes")
def test_a_models_own_python_is_run_five_times(tmp_path):
    """For its outputs' names, what they are, as what is saved, whether it repeats, and what is the smallest picture."""
    runs = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            runs.append(x.shape)
            return x[..., :1] * 0.5

    image = keras.Input((None, None, 3))
    model = keras.Model(image, Counted()(image))
    del runs[:]
    export_model(model, tmp_path / "served", scaling="unit")
    assert len(runs) == 5


@pytest.mark.usefixtures("without_processes")
def test_a_remote_base_path_gets_the_same_files(model_file, version_dir):
    remote = export_model(model_file, "ram://models/toy", threshold=0.4, **QUICK)
    assert remote == "ram://models/toy/1"
    held = {
        f"{parent.removeprefix(remote)}/{name}".lstrip("/")
        for parent, _, names in tf.io.gfile.walk(remote)
        for name in names
    }
    assert held == {str(file.relative_to(version_dir)) for file in version_dir.rglob("*") if file.is_file()}


def halving(toy):
    """Saves a network that takes pictures of even sides only."""
    image = keras.Input((None, None, 3))
    small = keras.layers.UpSampling2D()(keras.layers.MaxPooling2D()(image))
    return keras.Model(image, toy_models.keras_model(toy)(keras.layers.Add()([small, image]))).save


@pytest.mark.parametrize(
    ("make", "fields", "error", "message"),
    [
        (lambda path: None, {}, SourceError, "no such file or directory"),
        (lambda path: path.write_bytes(b""), {}, SourceError, "Keras cannot load it"),
        (lambda path: path.write_bytes(b"not a model"), {}, SourceError, "Keras cannot load it"),
        (lambda path: path.mkdir(), {}, SourceError, "a directory without saved_model.pb"),
        (lambda path: (path / "3").mkdir(parents=True), {}, SourceError, "did you mean .*/3?"),
        (toy_models.keras_model(ONE_CLASS).save, {"activation": "none"}, SpecError, "so they are no probabilities"),
        (toy_models.keras_model(THREE_CLASSES).save, {}, SpecError, "has 3 output channels; give the mask's: 0 to 2"),
        (
            toy_models.keras_model(THREE_CLASSES).save,
            {"activation": "none"},
            SpecError,
            "give the mask's: 0 to 2; activation: 'none', but the model's outputs .*; give softmax or sigmoid$",
        ),
        (
            halving(THREE_CLASSES),
            {},
            SourceError,
            "give the mask's: 0 to 2; source .*: fails on a drawn 83x109 picture: .*--pad_to_multiple=2$",
        ),
        (toy_models.keras_model(THREE_CLASSES).save, {"foreground": 3}, SpecError, "no output channel 3"),
        (toy_models.keras_model(THREE_CLASSES).save, {"classes": ["a", "b"], "foreground": 0}, SpecError, "2 names"),
        (toy_models.keras_model(ONE_CLASS).save, {"activation": "softmax"}, SpecError, "needs two or more"),
        (toy_models.keras_model(ONE_CLASS).save, {"signatures": ["class_map"]}, SpecError, "needs two or more"),
        (toy_models.keras_model(ONE_CLASS).save, {"warmup_signatures": "class_map"}, SpecError, "is not exported"),
        (
            toy_models.keras_model(ONE_CLASS).save,
            {"scaling": "none", "mean": [1, 2]},
            SpecError,
            "2 values do not fit a model of 3",
        ),
        (
            toy_models.keras_model(ONE_CLASS, size=(32, 48)).save,
            {"model_size": 64},
            SourceError,
            "64,64 does not fit .* which takes 32 by 48 pixels",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line_and_leaves_nothing(tmp_path, make, fields, error, message):
    source = tmp_path / ("model.keras" if "mkdir" not in make.__code__.co_names else "folder")
    make(source)
    with pytest.raises(error, match=message) as caught:
        export_model(source, tmp_path / "served", **{"scaling": "unit", "activation": "sigmoid", **fields})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "served").exists()


def test_a_taken_version_is_refused_before_the_work(tmp_path, version_dir):
    with pytest.raises(PublishError, match="version 1 exists already"):
        export_model(tmp_path / "not there.keras", version_dir.parent, version=1, **QUICK)
    assert sorted(entry.name for entry in version_dir.parent.iterdir()) == [".maskport-lock", "1"]


def test_what_cannot_be_written_to_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match=r"output_dir .*file/served: Not a directory"):
        export_model(tmp_path / "not there.keras", tmp_path / "file" / "served", **QUICK)


@pytest.mark.usefixtures("without_processes")
def test_a_lambda_layer_is_loaded_only_when_the_file_is_trusted(tmp_path):
    import keras

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x[..., :1] * 0.5)(image))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(SourceError, match="if you trust the file: --unsafe_load"):
        export_model(tmp_path / "lambda.keras", tmp_path / "served", scaling="unit")
    fields = {"scaling": "unit", "signatures": ["mask"], "unsafe_load": True}
    assert export_model(tmp_path / "lambda.keras", tmp_path / "served", **fields).name == "1"


def test_a_source_that_changes_while_it_is_read_is_refused(model_file, tmp_path, monkeypatch):
    source = tmp_path / "model.keras"
    shutil.copy(model_file, source)

    def load_while_it_is_written(spec, load=exporter.load_source):
        loaded = load(spec)
        source.write_bytes(source.read_bytes()[:-1])
        return loaded

    monkeypatch.setattr(exporter, "load_source", load_while_it_is_written)
    with pytest.raises(SourceError, match=r"model\.keras: changed while it was read; export it"):
        export_model(source, tmp_path / "served", **QUICK)
    assert not (tmp_path / "served").exists()


def test_random_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "import tensorflow as tf\n"
        "class Net(tf.Module):\n"
        "    def __init__(self):\n"
        "        self.a = tf.Variable(1.0); self.b = tf.Variable(2.0)\n"
        "    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])\n"
        "    def __call__(self, x):\n"
        "        return x[..., :1] * self.a + self.b\n"
        "def build():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    partial = tf.Module()
    partial.a = tf.Variable(0.5)
    tf.train.Checkpoint(model=partial).write(str(tmp_path / "half"))
    with pytest.raises(SourceError, match="does not restore every variable"):
        export_model("nets:build", tmp_path / "served", weights=str(tmp_path / "half"))
    with pytest.raises(SpecError, match="weights: needed with the builder"):
        export_model("nets:build", tmp_path / "served")


def test_a_builder_that_comes_with_its_weights_is_trusted_where_that_is_said(
    model_file, version_dir, tmp_path, monkeypatch
):
    tf.keras.models.load_model(model_file).export(tmp_path / "saved")
    (tmp_path / "wrapping.py").write_text(
        "import keras, tensorflow as tf\n"
        "class Wrapping(tf.Module):\n"
        "    def __init__(self):\n"
        f"        self.loaded = tf.saved_model.load({str(tmp_path / 'saved')!r})\n"
        "    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])\n"
        "    def __call__(self, x):\n"
        "        return self.loaded.serve(x)\n"
        "build = Wrapping\n"
        f"def build_keras(): return keras.saving.load_model({str(model_file)!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fields = {**QUICK, "threshold": 0.4, "signatures": ["mask"], "trust_builder_weights": True}
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), np.uint8)
    wanted = tf.saved_model.load(str(version_dir)).signatures["mask"](tf.constant(image))["mask"].numpy()
    for builder in ("wrapping:build", "wrapping:build_keras"):
        version = export_unchecked(builder, tmp_path / builder[-5:], **fields)
        found = tf.saved_model.load(str(version)).signatures["mask"](tf.constant(image))["mask"].numpy()
        np.testing.assert_array_equal(found, wanted)
        source = json.loads((version / "assets.extra/maskport.json").read_text())["source"]
        assert "0 parameters" not in source["description"]
        assert source["sha256"] != hashlib.sha256().hexdigest()
    with pytest.raises(SpecError, match="if it comes with trained ones, --trust_builder_weights"):
        export_model("wrapping:build", tmp_path / "served")
    with pytest.raises(
        SpecError, match=r"trust_builder_weights: is for a builder .* without weights; weights are given"
    ):
        export_model("wrapping:build", tmp_path / "served", weights="w.weights.h5", trust_builder_weights=True)


def limit_file_size():
    """As a full disk does it: writing beyond it fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_disk_without_room_is_one_line_and_leaves_nothing(model_file, tmp_path):
    words = [f"--source={model_file}", f"--output_dir={tmp_path / 'served'}", "--scaling=unit", "--activation=sigmoid"]
    done = subprocess.run(
        [sys.executable, "-m", "maskport.export", *words],
        capture_output=True, text=True, check=False, preexec_fn=limit_file_size,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"mask-export: output_dir {tmp_path / 'served'}: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "served").exists()


def test_every_error_of_the_export_is_one_family():
    for error in (PublishError, SourceError, SpecError, VerificationError):
        assert issubclass(error, ExportError)


def test_a_model_that_fails_on_golden_pictures_is_no_fault_of_the_output_dir(model_file, tmp_path):
    """All pictures, even square ones, are more than a model of this size may have."""
    with pytest.raises(SourceError, match=r"the model fails on golden pictures: .*max_model_pixels"):
        export_unchecked(model_file, tmp_path / "served", model_size="shortest=2048", **QUICK)


def test_the_hash_of_a_remote_source_is_that_of_its_files(model_file, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    (tmp_path / "weights.index").write_bytes(b"index")
    for path, field in ((model_file, "source"), (tmp_path / "saved", "source"), (tmp_path / "weights", "weights")):
        fields = {"output_dir": "o", "source": "package.module:build"}
        here, there = (make_spec({**fields, field: place}) for place in (str(path), f"file://{path}"))
        assert manifest.hash_source(there) == manifest.hash_source(here) != hashlib.sha256().hexdigest()
        assert len(manifest.state_of_source(there)) == len(manifest.state_of_source(here)) > 0
