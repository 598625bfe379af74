"""Which masks are written already, so that a job that was stopped, or killed, goes on where it was.

A finished job leaves masks, the manifest and the dead letters. While it runs there is a folder `.mask-batch` beside
them, to which workers add, some pictures at a time:

1. each mask's file under a temporary name,
2. one file of records, a line of JSON for each of these pictures and for those that failed, which appears whole,
3. and only then the masks get their names.

So a mask that is there has a record, however the job ended: killed before step 2, nothing of these pictures is there
but temporary files, and they are done again; killed after it, the next run (or this one's own end) gives the files
that are left their names. A run reads the manifest and all records of runs before it, does what they do not hold,
writes the manifest anew, and last of all removes the folder. One job may write to a folder at one time.
"""

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..watching import watch_of
from . import files
from .records import Record

FOLDER = ".mask-batch"
_RECORDS = ".records.jsonl"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A record as a journal has it."""

    record: Record
    written_at: float  # seconds since 1970; the latest record of a picture counts
    temporary: str | None  # what the mask's file was called before


class Journal:
    """The records of a job that is not finished, beside its masks.

    Args:
        output: the folder of the masks.
        job: name of the job that watches, if one does.
        keeps: whether there are records; else masks just get their names when they are whole.
    """

    def __init__(self, output: str, job: str = "", *, keeps: bool = True):
        self.folder = files.join(output, FOLDER)
        self._output = files.join(output, "")
        self._job, self._keeps = job, keeps

    def write(self, records: Sequence[Record]) -> list[Record]:
        """Writes the masks of pictures and their records; returns the records, of which some may have failed by now.

        Raises `OSError` where no file at all can be written, and `CallCancelledError` where the job was stopped.
        """
        with watch_of(self._job).writing():
            return self._write(records)

    def _write(self, records: Sequence[Record]) -> list[Record]:
        temporaries: dict[str, str] = {}  # by the masks' paths
        lines = []
        for record in records:
            temporary = None
            if record.content is not None and record.mask is not None:
                folder = self.folder if self._keeps else os.path.dirname(record.mask)
                temporary = files.join(folder, f".{uuid.uuid4().hex}{files.TEMPORARY}")
                files.write(temporary, record.content)
                temporaries[record.mask] = temporary
            lines.append(json.dumps({**record.as_row(), "written_at": time.time(), "temporary": temporary}))
        if self._keeps:
            text = "".join(f"{line}\n" for line in lines)
            self._write_whole(files.join(self.folder, f"{uuid.uuid4().hex}{_RECORDS}"), text.encode())
        failed = self._name(temporaries)
        return [_unwritten(record, failed[record.mask]) if record.mask in failed else record for record in records]

    def write_whole(self, path: str, data: bytes) -> None:
        """Writes a file, which appears under its name when it is whole; raises what `write` does."""
        with watch_of(self._job).writing():
            self._write_whole(path, data)

    def _write_whole(self, path: str, data: bytes) -> None:
        # What lies elsewhere may be on another disk, to which nothing can be renamed.
        folder = self.folder if path.startswith(self._output) else os.path.dirname(path)
        temporary = files.join(folder, f".{uuid.uuid4().hex}{files.TEMPORARY}")
        files.write(temporary, data)
        files.rename([temporary], [path])

    def record_files(self) -> list[str]:
        """Returns the files of records."""
        return [one.path for one in files.find(files.join(files.literal(self.folder), f"*{_RECORDS}"))]

    def recover(self) -> None:
        """Gives masks their names whose records are written, and removes what else has temporary names."""
        pattern = files.join(files.literal(self.folder), f"*{files.TEMPORARY}")
        left = {os.path.basename(one.path): one.path for one in files.find(pattern)}
        if not left:
            return
        entries = sorted(_entries(self.record_files()), key=lambda entry: entry.written_at)
        for entry in entries:
            temporary = left.pop(os.path.basename(entry.temporary or ""), None)
            if temporary is not None and entry.record.mask is not None:
                self._name({entry.record.mask: temporary})
        files.remove(list(left.values()))

    def remove(self, record_files: Sequence[str]) -> None:
        """Removes files of records whose pictures are in the manifest, and the folder if nothing else is in it."""
        files.remove(record_files)
        files.remove_empty_folder(self.folder)

    def _name(self, temporaries: dict[str, str]) -> dict[str, OSError]:
        """Gives masks their names; returns what went wrong, by mask."""
        if not temporaries:
            return {}
        try:
            failed = files.rename(list(temporaries.values()), list(temporaries))
        except OSError as error:
            failed = dict.fromkeys(temporaries, error)
        files.remove([temporaries[mask] for mask in failed])
        return failed


def read_entries(path: str) -> Iterator[Entry]:
    """Yields the records that a file of a journal holds."""
    for line in files.read(path).splitlines():
        row: dict[str, Any] = json.loads(line)
        yield Entry(Record.of_row(row), row["written_at"], row["temporary"])


def _entries(paths: Iterable[str]) -> Iterator[Entry]:
    for path in paths:
        yield from read_entries(path)


def _unwritten(record: Record, error: OSError) -> Record:
    text = f"cannot write {record.mask}: {error.strerror or error}"
    return dataclasses.replace(
        record, mask=None, mask_size=None, content=None, error=f"{record.uri}: {text}", error_kind=type(error).__name__
    )
