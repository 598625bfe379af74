"""A journal, wherever the process that writes it ends."""

import contextlib
import dataclasses

import pytest
from maskport.serving.batch.bookkeeping import files
from maskport.serving.batch.bookkeeping.journal import Journal, read_entries
from maskport.serving.batch.bookkeeping.records import Record
from maskport.serving.batch.watching import watching
from maskport.serving.client import CallCancelledError


class KilledError(BaseException):
    """In place of the process' end."""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "masks [1]"  # which reads like a pattern


@pytest.fixture
def records(output):
    """Two pictures that were masked, one that failed."""
    good = [
        Record(f"photos/{name}.jpg", f"{output}/{name}.png", 5, 1.5, "00", "m", 1, 0.5, "o", content=name.encode() * 9)
        for name in ("a", "b/c")
    ]
    return [*good, dataclasses.replace(good[0], uri="photos/bad.jpg", mask=None, content=None, error="is bad")]


def _masks(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.png")}


def test_masks_and_their_records_are_there_and_nothing_else(output, records):
    journal = Journal(str(output))
    assert journal.write(records) == records
    assert _masks(output) == {"a.png": b"a" * 9, "b/c.png": b"b/c" * 9}
    (path,) = journal.record_files()
    assert [entry.record for entry in read_entries(path)] == [record.without_content() for record in records]
    assert not list(output.rglob("*.tmp"))
    journal.remove([path])
    assert {item.name for item in output.iterdir()} == {"a.png", "b"}


@pytest.mark.parametrize("steps", range(6))  # two masks, their records, the records' name, the masks' names; and all
def test_killed_at_any_step_a_mask_that_is_there_has_its_record_and_is_whole(output, records, monkeypatch, steps):
    journal, left = Journal(str(output)), [steps]

    def dying(function):
        def step(*args):
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return function(*args)

        return step

    with monkeypatch.context() as patched, pytest.raises(KilledError) if steps < 5 else contextlib.nullcontext():
        patched.setattr(files, "write", dying(files.write))
        patched.setattr(files, "rename", dying(files.rename))
        journal.write(records)
    again = Journal(str(output))
    recorded = {entry.record.mask for path in again.record_files() for entry in read_entries(path)}
    assert {f"{output}/{name}" for name in _masks(output)} <= recorded
    again.recover()
    assert not list(output.rglob("*.tmp"))
    assert _masks(output) == ({"a.png": b"a" * 9, "b/c.png": b"b/c" * 9} if recorded else {})
    assert bool(recorded) == (steps >= 4)


def test_the_latest_record_of_a_mask_gives_it_its_name(output, records, monkeypatch):
    journal = Journal(str(output))
    journal.write(records[:1])
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_name", lambda *_: (_ for _ in ()).throw(KilledError()))
        for content in (b"second", b"third"):
            with pytest.raises(KilledError):
                journal.write([dataclasses.replace(records[0], content=content)])
    assert _masks(output) == {"a.png": b"a" * 9}
    journal.recover()
    assert _masks(output) == {"a.png": b"third"}


def test_once_its_job_is_stopped_nothing_is_written(output, records):
    with pytest.raises(KilledError), watching("some job", lambda *_: None):
        raise KilledError
    with pytest.raises(CallCancelledError, match="stopped"):
        Journal(str(output), "some job").write(records)
    assert not output.exists()
    assert Journal(str(output), "another").write(records) == records
