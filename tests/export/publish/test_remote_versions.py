"""Publishing where only tf.io.gfile reaches: on TensorFlow's own ram:// file system."""

import uuid

import pytest
import tensorflow as tf
from maskport.export import PublishError
from maskport.export.publish.remote_versions import RemoteVersionWriter


@pytest.fixture
def base_path():
    path = f"ram://{uuid.uuid4().hex}/model"
    yield path
    if tf.io.gfile.exists(path):
        tf.io.gfile.rmtree(path)


def publish(base_path, version=None, keep=None):
    with RemoteVersionWriter(base_path) as writer:
        (writer.staging / "variables").mkdir()
        for name in ("saved_model.pb", "variables/variables.index", "zz_last_by_name"):
            (writer.staging / name).write_text(name)
        return writer.publish(version, keep)


def listing(path):
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))


def test_versions_count_up_and_hold_every_file(base_path):
    assert publish(base_path) == f"{base_path}/1"
    assert publish(base_path) == f"{base_path}/2"
    assert listing(f"{base_path}/2") == ["saved_model.pb", "variables", "zz_last_by_name"]
    with tf.io.gfile.GFile(f"{base_path}/2/variables/variables.index") as file:
        assert file.read() == "variables/variables.index"


def test_the_file_without_which_nothing_loads_is_copied_last(base_path, monkeypatch):
    copied = []
    copy = tf.io.gfile.copy
    monkeypatch.setattr(tf.io.gfile, "copy", lambda source, target: (copied.append(target), copy(source, target)))
    publish(base_path)
    assert len(copied) == 3
    assert copied[-1] == f"{base_path}/1/saved_model.pb"


def test_what_was_copied_is_removed_when_the_copying_fails(base_path, monkeypatch):
    publish(base_path)
    copy = tf.io.gfile.copy

    def fail_at_the_end(source, target):
        if target.endswith("saved_model.pb"):
            raise tf.errors.ResourceExhaustedError(None, None, "quota exceeded")
        copy(source, target)

    monkeypatch.setattr(tf.io.gfile, "copy", fail_at_the_end)
    with pytest.raises(PublishError, match=r"output_dir ram://.*: quota exceeded"):
        publish(base_path)
    assert listing(base_path) == ["1"]


def test_a_taken_version_is_refused(base_path):
    publish(base_path, version=7)
    with pytest.raises(PublishError, match=r"version 7 exists already in ram://.* \(as 7\); the next free one is 8"):
        publish(base_path, version=7)


def test_keep_removes_the_oldest(base_path):
    for _ in range(3):
        publish(base_path)
    publish(base_path, keep=2)
    assert listing(base_path) == ["3", "4"]


def test_a_scheme_that_nobody_knows_is_one_line():
    with pytest.raises(PublishError, match="output_dir nowhere://x/y: "):
        publish("nowhere://x/y")


def test_what_a_killed_export_left_is_no_version_to_keep(tmp_path):
    base_path = str(tmp_path)  # ram:// takes assets.extra for a part of assets
    for _ in range(2):
        publish(base_path)
    for file in ("3/assets.extra/maskport.json", "2024/pictures"):
        tf.io.gfile.makedirs(f"{base_path}/{file.rpartition('/')[0]}")
        with tf.io.gfile.GFile(f"{base_path}/{file}", "w") as opened:
            opened.write("x")
    publish(base_path, version=4, keep=2)
    assert listing(base_path) == ["2", "2024", "4"]
