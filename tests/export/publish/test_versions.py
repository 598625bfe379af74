"""Publishing: whole or not at all, whoever else is publishing and whenever it is killed."""

import os
import random
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from maskport.export import PublishError
from maskport.export.publish.versions import VersionWriter, list_versions
from processes import running


def publish(base_path, text="model", version=None, keep=None):
    with VersionWriter(base_path) as writer:
        (writer.staging / "saved_model.pb").write_text(text)
        return writer.publish(version, keep)


def entries(base_path):
    return sorted(entry.name for entry in base_path.iterdir() if not entry.name.startswith(".maskport-lock"))


def test_versions_count_up_from_the_highest(tmp_path):
    base = tmp_path / "new" / "model"
    assert publish(base) == base / "1"
    (base / "007").mkdir()
    (base / "notes").mkdir()
    assert publish(base) == base / "8"
    assert entries(base) == ["007", "1", "8", "notes"]


def test_a_version_that_exists_is_refused_also_under_another_spelling_or_empty(tmp_path):
    (tmp_path / "007").mkdir()
    with pytest.raises(PublishError, match=r"version 7 exists already in .* \(as 007\); the next free one is 8"):
        publish(tmp_path, version=7)
    assert entries(tmp_path) == ["007"]
    assert list((tmp_path / "007").iterdir()) == []


def test_leaving_without_publishing_leaves_nothing(tmp_path):
    with VersionWriter(tmp_path / "new" / "model") as writer:
        (writer.staging / "half").write_text("x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with VersionWriter(tmp_path / "old" / "model"):
        (tmp_path / "old" / "mine").touch()
    assert entries(tmp_path / "old") == ["mine"]


def test_published_files_are_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        version = publish(tmp_path)
    finally:
        os.umask(before)
    assert version.stat().st_mode & 0o777 == 0o755
    assert (version / "saved_model.pb").stat().st_mode & 0o777 == 0o644


def test_keep_removes_the_oldest_and_never_the_one_just_published(tmp_path):
    for _ in range(4):
        publish(tmp_path)
    publish(tmp_path, keep=2)
    assert entries(tmp_path) == ["4", "5"]
    publish(tmp_path, version=3, keep=1)
    assert entries(tmp_path) == ["3"]


def test_a_file_in_the_way_of_the_base_path_is_named(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(PublishError, match=r"output_dir .*model: "):
        publish(tmp_path / "model")


def test_two_exporters_never_meet(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda number: publish(tmp_path, str(number)), range(40)))
    assert sorted(int(version.name) for version in versions) == list(range(1, 41))
    assert {version.joinpath("saved_model.pb").read_text() for version in versions} == set(map(str, range(40)))


def test_a_living_exporter_is_not_swept_and_a_dead_one_is(tmp_path):
    (tmp_path / ".maskport-staging-left-behind").mkdir()
    with VersionWriter(tmp_path) as writer:
        assert not (tmp_path / ".maskport-staging-left-behind").exists()
        publish(tmp_path)
        assert writer.staging.exists()


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from maskport.export.publish.versions import VersionWriter

    print("ready", flush=True)
    while True:
        with VersionWriter(Path(sys.argv[1])) as writer:
            for name in range(20):
                (writer.staging / str(name)).write_bytes(bytes(20_000))
            (writer.staging / "last").write_text("whole")
            writer.publish(None, keep=3)
    """
)


def test_kill_9_at_any_moment_leaves_a_whole_version_or_none(tmp_path):
    chance = random.Random(0)
    for _ in range(30):
        with running([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
        for version in list_versions(tmp_path).values():
            assert (version / "last").read_text() == "whole"
            assert len(list(version.iterdir())) == 21
    publish(tmp_path, keep=1)
    assert len(entries(tmp_path)) == 1
