"""Finished version directories, published again elsewhere; and folders that have their name already."""

import uuid

import pytest
import tensorflow as tf
from maskport.export import PublishError
from maskport.export.publish.targets import FolderWriter, open_base_path, publish_copy

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"weights", "assets.extra/golden/mask.pb": b"\0\xff"}


@pytest.fixture
def version_dir(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


@pytest.fixture(params=["disk", "url"])
def base_path(request, tmp_path):
    path = str(tmp_path / "served/coins") if request.param == "disk" else f"ram://{uuid.uuid4().hex}/coins"
    yield path
    if "://" in path and tf.io.gfile.exists(path):
        tf.io.gfile.rmtree(path)


def contents(folder):
    return {
        f"{parent}/{name}".removeprefix(f"{folder}/"): tf.io.gfile.GFile(f"{parent}/{name}", "rb").read()
        for parent, _, names in tf.io.gfile.walk(folder)
        for name in names
    }


def test_a_copy_becomes_the_next_version_unless_it_is_the_newest(version_dir, base_path):
    assert publish_copy(str(version_dir), base_path) == (f"{base_path}/1", True)
    assert contents(f"{base_path}/1") == FILES
    assert publish_copy(str(version_dir), base_path) == (f"{base_path}/1", False)
    (version_dir / "variables/variables.index").write_bytes(b"Weights")
    assert publish_copy(str(version_dir), base_path) == (f"{base_path}/2", True)
    (version_dir / "variables/variables.index").write_bytes(b"weights")
    assert publish_copy(str(version_dir), base_path) == (f"{base_path}/3", True)  # what 1 is does not count


def test_versions_are_pruned_and_withdrawn(version_dir, base_path):
    for step in range(4):
        (version_dir / "step").write_text(str(step))
        publish_copy(str(version_dir), base_path)
    with open_base_path(base_path) as writer:
        writer.withdraw(4)
        assert sorted(writer.versions()) == [1, 2, 3]
        writer.prune(1, keep=2)
        assert sorted(writer.versions()) == [1, 3]
    assert contents(f"{base_path}/3") == FILES | {"step": b"2"}


def test_what_is_no_model_is_not_published(tmp_path):
    with pytest.raises(PublishError, match="there is no SavedModel to be published"):
        publish_copy(str(tmp_path), str(tmp_path / "served"))
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize("is_url", [False, True])
def test_a_folder_holds_what_was_written_also_where_the_check_failed(tmp_path, is_url):
    folder = f"ram://{uuid.uuid4().hex}/Format-Serving" if is_url else str(tmp_path / "a/Format-Serving")

    def write():
        with FolderWriter(folder) as writer:
            (writer.staging / "saved_model.pb").write_bytes(b"graph")
            raise RuntimeError("the check failed")

    with pytest.raises(RuntimeError):
        write()
    assert contents(folder) == {"saved_model.pb": b"graph"}
