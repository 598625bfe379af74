"""Which pictures are to be masked, and which were: what is there beside what earlier runs wrote."""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow.parquet
from apache_beam.io.filesystem import FileMetadata
from apache_beam.metrics import Metrics

from .bookkeeping import files
from .bookkeeping.journal import Entry, read_entries
from .bookkeeping.naming import Naming
from .bookkeeping.records import Identity, MaskOptions, Record
from .inference import Wanted
from .models import Model, identify
from .watching import PLANNED, watch_of

KEPT = "kept"
_Found = tuple[str, int, float]  # path, size and time
_FROM_MANIFEST = 0.0
"""When a manifest's records were written: before any journal's that there still is."""


class PlanMasks(beam.PTransform):  # type: ignore[misc]
    """Finds pictures, and leaves out those that an earlier run has done: `Wanted`, and under `KEPT` their records.

    A picture is done where its record is of the same file (by size and time, or by its bytes), model, version and
    options, and the mask is there, or the picture itself was bad. Pictures that could want one name get different ones.

    Args:
        model: that is asked.
        options: what to make of the pictures.
        naming: of pictures and masks.
        before: files that hold records: manifests and journals.
        overwrites: whether everything is done again.
        job: name of the job that watches, if one does.
    """

    def __init__(
        self,
        model: Model,
        options: MaskOptions,
        naming: Naming,
        before: list[str],
        *,
        overwrites: bool = False,
        job: str = "",
    ):
        super().__init__()
        self._model, self._options, self._naming = model, options, naming
        self._before, self._overwrites, self._job = before, overwrites, job

    def expand(self, pictures: Any) -> Any:
        """Plans files that were found (`FileMetadata`)."""
        naming = self._naming
        pipeline = pictures.pipeline
        identity = pipeline | "model" >> beam.Create([self._model]) | beam.Map(_identify, self._job)
        listed = (
            pictures
            | beam.Filter(lambda found: naming.is_picture(found.path))
            | "by stem" >> beam.Map(lambda found: (naming.stem(found.path), _as_tuple(found)))
        )
        entries = (
            pipeline
            | "records" >> beam.Create(self._before)
            | "spread" >> beam.Reshuffle()
            | beam.FlatMap(_read_entries)
            | "by their stem" >> beam.Map(lambda entry: (_stem(entry.record, naming), entry))
        )
        plan = _Plan(self._options, naming, self._overwrites, self._job)
        grouped = (listed, entries) | "all" >> beam.Flatten() | "same stem" >> beam.GroupByKey()
        planned = grouped | beam.ParDo(plan, beam.pvalue.AsSingleton(identity)).with_outputs(KEPT, main="wanted")
        # Else all that a worker does would hang on how stems were spread.
        return planned["wanted"] | "balance" >> beam.Reshuffle(), planned[KEPT]


class _Plan(beam.DoFn):  # type: ignore[misc]
    """Decides about the pictures and records of one stem."""

    def __init__(self, options: MaskOptions, naming: Naming, overwrites: bool, job: str):
        super().__init__()
        self._options, self._naming, self._overwrites, self._job = options, naming, overwrites, job
        self._counters = {name: Metrics.counter("maskport", name) for name in ("pictures", "skipped", "failed")}

    def process(self, element: tuple[str, Iterable[_Found | Entry]], identity: Identity) -> Iterator[Any]:
        held = list(element[1])
        found = {one[0]: one[1:] for one in held if isinstance(one, tuple)}
        latest: dict[str, Record] = {}
        owners: dict[str | None, str] = {}
        for entry in sorted((one for one in held if isinstance(one, Entry)), key=lambda entry: entry.written_at):
            latest[entry.record.uri] = entry.record
            owners[entry.record.mask] = entry.record.uri
        # Where masks lie beside their pictures, those of an earlier run are found too.
        answers = self._naming.answers(sorted(found.keys() - owners.keys()))
        for uri, target in answers.items():
            self._counters["pictures"].inc()
            size, modified = found[uri]
            record = latest.pop(uri, None)
            if record is not None and record.mask is not None and owners[record.mask] != uri:
                record = None  # another's mask was written over it
            done = None if record is None or self._overwrites else self._done(record, target, size, identity)
            if done is not None and modified and done.modified == modified:
                self._counters["skipped" if done.error is None else "failed"].inc()
                yield beam.pvalue.TaggedOutput(KEPT, done)
            else:
                watch_of(self._job).tell(PLANNED, 1)
                yield Wanted(uri, target, size, modified, done)
        claimed = set(answers.values())
        for record in latest.values():  # of pictures that were not named this time
            is_there = files.size_of(record.uri) is not None
            if is_there and record.mask not in claimed and (record.mask is None or owners[record.mask] == record.uri):
                yield beam.pvalue.TaggedOutput(KEPT, record)

    def _done(self, record: Record, target: str, size: int, identity: Identity) -> Record | None:
        """Returns a record if it is of the same work, and what was made is there; under the name it should have."""
        is_same = (
            record.size == size
            and (record.model, record.version) == (identity.model, identity.version)
            and record.options == identity.with_options(self._options)
            and record.is_settled
        )
        if not is_same or record.mask is None:
            return record if is_same else None
        if files.size_of(record.mask) != record.mask_size:
            return None
        if record.mask != target:  # pictures came or went that share its stem
            files.rename([record.mask], [target])
        return dataclasses.replace(record, mask=target)


def _identify(model: Model, job: str) -> Identity:
    try:
        return identify(model)
    except Exception as error:
        raise watch_of(job).fail(error) from error


def _read_entries(path: str) -> Iterator[Entry]:
    if path.endswith(".parquet"):
        for row in pyarrow.parquet.read_table(io.BytesIO(files.read(path))).to_pylist():
            yield Entry(Record.of_row(row), _FROM_MANIFEST, None)
    else:
        yield from read_entries(path)


def _stem(record: Record, naming: Naming) -> str:
    return naming.stem(record.uri) if record.mask is None else naming.stem_of_answer(record.mask)


def _as_tuple(found: FileMetadata) -> _Found:
    return found.path, found.size_in_bytes, found.last_updated_in_seconds
