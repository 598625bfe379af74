"""What must be answered, read from an export's files; the official messages are the oracle."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from maskport.serving.verify import GoldenError, read_export, read_golden
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2


@pytest.fixture
def copied(true_export, tmp_path):
    """A version directory of one's own."""
    return shutil.copytree(true_export, tmp_path / "toy/3")


def test_records_are_what_the_official_messages_say(true_export):
    golden = true_export / "assets.extra/golden"
    expected = read_golden(golden)
    assert [record.signature for record in expected.records] == [
        entry["signature"] for entry in json.loads((golden / "golden.json").read_text())["records"]
    ]
    for record in expected.records:
        log = prediction_log_pb2.PredictLog.FromString((golden / f"{record.signature}.pb").read_bytes())
        for arrays, tensors in ((record.inputs, log.request.inputs), (record.outputs, log.response.outputs)):
            assert set(arrays) == set(tensors)
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(arrays[name], tf.make_ndarray(tensor))
                assert arrays[name].dtype == tf.make_ndarray(tensor).dtype


def test_signatures_are_what_the_official_message_says(copied):
    expected = read_export(copied)
    graph = saved_model_pb2.SavedModel.FromString((copied / "saved_model.pb").read_bytes()).meta_graphs[0]
    official = {name: one for name, one in graph.signature_def.items() if one.method_name}
    assert set(expected.signatures) == set(official)
    for name, one in official.items():
        for specs, tensors in (
            (expected.signatures[name].inputs, one.inputs),
            (expected.signatures[name].outputs, one.outputs),
        ):
            assert {key: (spec.data_type, spec.shape) for key, spec in specs.items()} == {
                key: (types_pb2.DataType.Name(info.dtype), tuple(dim.size for dim in info.tensor_shape.dim))
                for key, info in tensors.items()
            }


def test_an_export_tells_its_version_and_manifest(copied):
    expected = read_export(copied)
    assert expected.version == 3
    assert expected.manifest == json.loads((copied / "assets.extra/maskport.json").read_text())
    assert expected.manifest["spec"]["scaling"] == "unit"


def test_golden_requests_alone_tell_the_manifest_too(copied):
    expected = read_golden(copied / "assets.extra/golden")
    assert (expected.version, expected.signatures) == (None, None)
    assert expected.manifest == json.loads((copied / "assets.extra/maskport.json").read_text())


def _cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _swap(path):
    """Puts a file where a folder is, or the other way round."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / "saved_model.pb").unlink(), "is no version directory"),
        (lambda path: _cut(path / "saved_model.pb", 0.5), "is no whole SavedModel"),
        (lambda path: (path / "saved_model.pb").write_bytes(b""), "it holds no graph"),
        (lambda path: (path / "saved_model.pb").write_bytes(b"\xff" * 40), "is no whole SavedModel"),
        (lambda path: shutil.rmtree(path / "assets.extra/golden"), "holds no golden requests"),
        (lambda path: _swap(path / "assets.extra/golden"), r"golden/golden\.json cannot be read: Not a directory"),
        (lambda path: _swap(path / "assets.extra/golden/mask.pb"), r"mask\.pb cannot be read: Is a directory"),
        (lambda path: _swap(path / "assets.extra/maskport.json"), r"maskport\.json cannot be read: Is a directory"),
        (lambda path: (path / "assets.extra/maskport.json").unlink(), "was not exported by maskport"),
        (lambda path: (path / "assets.extra/maskport.json").write_text("[]"), "holds no object"),
        (lambda path: (path / "assets.extra/maskport.json").write_text("{"), "is damaged"),
        (lambda path: (path / "assets.extra/golden/mask.pb").unlink(), "mask.pb is missing"),
        (lambda path: _cut(path / "assets.extra/golden/mask.pb", 0.7), "is damaged"),
        (lambda path: _cut(path / "assets.extra/golden/golden.json", 0.7), "is damaged"),
        (lambda path: (path / "assets.extra/golden/golden.json").write_text("{}"), "is damaged"),
        (
            lambda path: (path / "assets.extra/golden/golden.json").write_text('{"schema_version": 9, "records": []}'),
            "is of schema 9",
        ),
        (
            lambda path: (path / "assets.extra/golden/golden.json").write_text('{"schema_version": 2, "records": []}'),
            "names no golden requests",
        ),
    ],
)
def test_damage_is_told_in_one_line(copied, damage, words):
    damage(copied)
    with pytest.raises(GoldenError, match=words) as raised:
        read_export(copied)
    assert "\n" not in str(raised.value)


def test_a_base_path_is_told_from_a_version(copied):
    with pytest.raises(GoldenError, match=r"it holds the versions 3: name one of them"):
        read_export(copied.parent)


def test_the_index_cannot_name_files_elsewhere(copied):
    golden = copied / "assets.extra/golden"
    (golden / "mask.pb").rename(copied / "mask.pb")
    index = json.loads((golden / "golden.json").read_text())
    for record in index["records"]:
        if record["signature"] == "mask":
            record["file"] = "../../mask.pb"
    (golden / "golden.json").write_text(json.dumps(index))
    with pytest.raises(GoldenError, match="is missing"):
        read_export(copied)
