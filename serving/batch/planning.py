"""Which pictures are to be masked, and which were: what is there beside what earlier runs wrote."""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow.parquet
from apache_beam.io.filesystem import FileMetadata
from apache_beam.metrics import Metrics

from ..client.errors import InvalidImageError
from .bookkeeping import files
from .bookkeeping.journal import Entry, read_entries
from .bookkeeping.naming import Naming, as_utf_8, place
from .bookkeeping.records import Identity, MaskOptions, Record
from .inference import Wanted, failed
from .models import Model, identify
from .watching import PLANNED, watch_of

KEPT, OTHERS = "kept", "others"
_UNNAMED = "unnamed"
_Found = tuple[str, int, float, bool]  # path, size, time, and whether it can be read by that path
_FROM_MANIFEST = 0.0
"""When a manifest's records were written: before any journal's that there still is."""


class PlannedMasks(NamedTuple):
    """What comes out of `PlanMasks`.

    Attributes:
        wanted: pictures to be masked, as `Wanted`.
        kept: records of those that are done, and of bad names.
        others: records of pictures that were not named this time, whose masks were made in another way than this one.
    """

    wanted: Any
    kept: Any
    others: Any


class PlanMasks(beam.PTransform):  # type: ignore[misc]
    """Finds pictures, and leaves out those that an earlier run has done.

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
        """Plans files that were found (`FileMetadata`); gives `PlannedMasks`."""
        naming = self._naming
        pipeline = pictures.pipeline
        identity = beam.pvalue.AsSingleton(
            pipeline | "model" >> beam.Create([self._model]) | beam.Map(_identify, self._job)
        )
        listed = (
            pictures
            | beam.Filter(lambda found: naming.is_picture(found.path))
            | beam.Map(_as_tuple)
            | "by stem" >> beam.Map(lambda found: (naming.stem(found[0]), found))
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
        planned = grouped | beam.ParDo(plan, identity).with_outputs(KEPT, _UNNAMED, main="wanted")
        named = listed | "named" >> beam.MapTuple(lambda stem, found: (_key(found[0]), None))
        records = planned[_UNNAMED] | "unnamed" >> beam.Map(lambda record: (_key(record.uri), record))
        left = (
            (named, records)
            | "both" >> beam.Flatten()
            | "same picture" >> beam.GroupByKey()
            | "left" >> beam.ParDo(_KeepUnnamed(self._options), identity).with_outputs(OTHERS, main=KEPT)
        )
        kept = (planned[KEPT], left[KEPT]) | "all kept" >> beam.Flatten()
        # Else all that a worker does would hang on how stems were spread.
        return PlannedMasks(planned["wanted"] | "balance" >> beam.Reshuffle(), kept, left[OTHERS])


class _Plan(beam.DoFn):  # type: ignore[misc]
    """Decides about the pictures and records of one stem."""

    def __init__(self, options: MaskOptions, naming: Naming, overwrites: bool, job: str):
        super().__init__()
        self._options, self._naming, self._overwrites, self._job = options, naming, overwrites, job
        self._counters = {name: Metrics.counter("maskport", name) for name in ("pictures", "skipped", "failed")}

    def process(self, element: tuple[str, Iterable[_Found | Entry]], identity: Identity) -> Iterator[Any]:
        held = list(element[1])
        # By where the pictures and masks are: their paths may be written in several ways, and otherwise in a later run.
        found = {place(one[0]): one for one in held if isinstance(one, tuple)}
        latest: dict[str, Record] = {}
        owners: dict[str, str] = {}
        for entry in sorted((one for one in held if isinstance(one, Entry)), key=lambda entry: entry.written_at):
            picture = place(entry.record.uri)
            latest[picture] = entry.record
            if entry.record.mask is not None:
                owners[place(entry.record.mask)] = picture
        # Where masks lie beside their pictures, those of an earlier run are found too.
        answers = self._naming.answers(sorted(one[0] for at, one in found.items() if at not in owners))
        for uri, target in answers.items():
            self._counters["pictures"].inc()
            picture = place(uri)
            _, size, modified, is_readable = found[picture]
            if not is_readable:
                self._counters["failed"].inc()
                yield beam.pvalue.TaggedOutput(KEPT, _unreadable(uri, size, modified, identity))
                continue
            record = latest.pop(picture, None)
            if record is not None and record.mask is not None and owners[place(record.mask)] != picture:
                record = None  # another's mask was written over it
            done = None if record is None or self._overwrites else self._done(record, uri, target, size, identity)
            if done is not None and modified and done.modified == modified:
                self._counters["skipped" if done.error is None else "failed"].inc()
                yield beam.pvalue.TaggedOutput(KEPT, done)
            else:
                watch_of(self._job).tell(PLANNED, 1)
                yield Wanted(uri, target, size, modified, done)
        claimed = {place(target) for target in answers.values()}
        for picture, record in latest.items():  # of pictures that were not named this time, by this stem at least
            is_whole = record.mask is None or (
                place(record.mask) not in claimed
                and owners[place(record.mask)] == picture
                and files.size_of(record.mask) == record.mask_size
            )
            if is_whole and files.size_of(record.uri) is not None:
                yield beam.pvalue.TaggedOutput(_UNNAMED, record)

    def _done(self, record: Record, uri: str, target: str, size: int, identity: Identity) -> Record | None:
        """Returns a record if it is of the same work, and what was made is there; under the name it should have."""
        is_same = (
            record.size == size
            and (record.model, record.version) == (identity.model, identity.version)
            and record.options == identity.with_options(self._options)
            and record.is_settled
        )
        if not is_same:
            return None
        if record.mask is None:
            return dataclasses.replace(record, uri=uri)
        if files.size_of(record.mask) != record.mask_size:
            return None
        if place(record.mask) != place(target):  # pictures came or went that share its stem
            files.rename([record.mask], [target])
        return dataclasses.replace(record, uri=uri, mask=target)


class _KeepUnnamed(beam.DoFn):  # type: ignore[misc]
    """Keeps the records of pictures that are really not named this time; of those that are, there is a newer one."""

    def __init__(self, options: MaskOptions):
        super().__init__()
        self._options = options

    def process(self, element: tuple[str, Iterable[Record | None]], identity: Identity) -> Iterator[Any]:
        held = list(element[1])
        records = [record for record in held if record is not None]
        if len(records) == len(held):
            # Of an earlier run that wrote the picture's path in two ways there may be two.
            record = max(records, key=lambda record: record.mask or "")
            is_same = (record.model, record.version) == (identity.model, identity.version)
            is_same &= record.options == identity.with_options(self._options)
            yield record if is_same else beam.pvalue.TaggedOutput(OTHERS, record)


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


def _key(uri: str) -> str:
    """Returns where a picture is, as text that Beam can write; a folder on the way there may have any name."""
    return as_utf_8(place(uri))


def _as_tuple(found: FileMetadata) -> _Found:
    uri = as_utf_8(found.path)
    return uri, found.size_in_bytes, found.last_updated_in_seconds, uri == found.path


def _unreadable(uri: str, size: int, modified: float, identity: Identity) -> Record:
    """Returns the record of a picture whose name no table can hold; it has no options, by which it would be done."""
    record = Record(uri, None, size, modified, "", identity.model, identity.version, None, "")
    return failed(record, InvalidImageError("the file's name is not UTF-8: give it another"))
