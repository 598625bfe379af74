"""Publishing under faults: killed, or refused by the disk, at each single system call; what is on the disk when."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from maskport.export.publish.versions import VersionWriter, list_versions

STRACE = shutil.which("strace")
WRITES = ("openat", "write", "fsync", "mkdir", "rename", "unlinkat", "rmdir", "flock")
FILES = {"saved_model.pb", "variables/data"}
PUBLISHER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from maskport.export import PublishError
    from maskport.export.publish.versions import VersionWriter

    try:
        with VersionWriter(Path(sys.argv[1])) as writer:
            (writer.staging / "variables").mkdir()
            for name in ("variables/data", "saved_model.pb"):
                (writer.staging / name).write_bytes(bytes(20_000))
            writer.publish(None, keep=2)
    except (PublishError, OSError):  # the one of the writer, the other of the lines above
        sys.exit(3)
    """
)


def can_trace():
    words = [STRACE, "-o", "/dev/null", "true"]
    return STRACE is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not here, or must not trace")


def traced(base_path, *options):
    """Publishes a version under strace; the process, and its system calls in order, with the paths that they are of."""
    log = base_path.parent / "calls.log"
    done = subprocess.run(
        [STRACE, "-qq", "-y", "-o", log, "-e", f"trace={','.join(WRITES)}", *options,
         sys.executable, "-c", PUBLISHER, base_path],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done, [line for line in log.read_text().splitlines() if "(" in line]


def make_base_path(path):
    """With two versions, of which a third makes the first one go, and what a killed export left behind."""
    for number in (1, 2):
        (path / f"{number}/variables").mkdir(parents=True)
        for name in FILES:
            (path / f"{number}" / name).write_bytes(bytes(20_000))
    (path / ".maskport-staging-left").mkdir()
    (path / ".maskport-staging-left/some").touch()
    return path


def check_whole(base_path):
    """No version is a half one, and the newest of before is there; the next run works, and leaves nothing behind."""
    versions = list_versions(base_path)
    assert 2 in versions
    for version in versions.values():
        assert {name for name in FILES if (version / name).stat().st_size == 20_000} == FILES
    done = subprocess.run([sys.executable, "-c", PUBLISHER, base_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    newest = max(list_versions(base_path))
    assert {entry.name for entry in base_path.iterdir()} == {".maskport-lock", str(newest - 1), str(newest)}


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """Each system call on the base path: its name, and its number among those of the name in the whole process."""
    base_path = make_base_path(tmp_path_factory.mktemp("counted") / "served")
    done, calls = traced(base_path)
    assert (done.returncode, done.stderr) == (0, "")
    found, counts = [], dict.fromkeys(WRITES, 0)
    for call in calls:
        name = call.partition("(")[0]
        counts[name] += 1
        if str(base_path) in call:
            found.append((name, counts[name]))
    assert len(found) > 30
    return found


@pytest.mark.parametrize(("fault", "lasting"), [("signal=KILL", ""), ("error=EIO", ""), ("error=ENOSPC", "+")])
def test_a_fault_at_any_system_call_leaves_whole_versions_and_loses_none(moments, fault, lasting, tmp_path):
    for index, (name, number) in enumerate(moments):
        base_path = make_base_path(tmp_path / f"{index}" / "served")
        done, calls = traced(base_path, "-e", f"inject={name}:{fault}:when={number}{lasting}")
        assert "Traceback" not in done.stderr
        if fault == "signal=KILL":
            assert done.returncode != 0
            assert "(" in calls[-1]
            assert str(base_path) in calls[-1]
        else:
            assert any("(INJECTED)" in call for call in calls)
            assert done.returncode in (0, 3)
        check_whole(base_path)


def unsynced(calls, base_path):
    """What of a version was not on the disk when it got its name: files and directories, by the calls in order."""
    waiting, renamed = set(), None
    for call in calls:
        name, _, rest = call.partition("(")
        paths = re.findall(r'"(/[^"]*)"|<(/[^>]*)>', rest)
        paths = [Path(quoted or opened) for quoted, opened in paths if base_path.as_posix() in (quoted or opened)]
        if not paths or "= -1" in rest:
            continue
        if name == "rename" and paths[1].name.isdecimal():
            assert renamed is None
            renamed = [path for path in waiting if path.is_relative_to(paths[0])]
            waiting = {paths[1].parent}
        elif name == "fsync":
            waiting.discard(paths[0])
        elif name == "write":
            waiting.add(paths[0])
        elif name == "mkdir" or (name == "openat" and "O_CREAT" in rest):
            waiting |= {paths[-1], paths[-1].parent}
        # What is removed has lost its number before: whether that stays so after a crash is no matter.
    return renamed, base_path in waiting


def test_all_of_a_version_is_on_the_disk_before_it_gets_its_name(tmp_path):
    """So a crash that loses whatever was not synced, at any moment, leaves a whole version or none."""
    base_path = make_base_path(tmp_path / "served")
    _, calls = traced(base_path)
    assert unsynced(calls, base_path) == ([], False)
    without = [call for call in calls if not (call.startswith("fsync") and "saved_model.pb" in call)]
    assert [path.name for path in unsynced(without, base_path)[0]] == ["saved_model.pb"]


def test_neither_files_of_tomorrow_nor_a_clock_moved_back_matter(tmp_path):
    base_path = make_base_path(tmp_path / "served")
    for path in base_path.rglob("*"):
        os.utime(path, (4e9, 4e9))
    with VersionWriter(base_path) as writer:
        (writer.staging / "saved_model.pb").touch()
        os.utime(writer.staging, (0, 0))
        assert writer.publish(None, keep=2).name == "3"
    assert sorted(list_versions(base_path)) == [2, 3]
