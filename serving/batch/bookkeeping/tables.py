"""What a job leaves beside the masks: manifest, dead letters and COCO's JSON, each whole or not at all."""

import dataclasses
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow.compute
import pyarrow.parquet
from apache_beam.transforms.window import GlobalWindows

from ...client.pictures.files.png import decode_png
from ...client.results.mask_result import bbox_of
from ...client.results.rle import encode_rle
from . import files
from .journal import Journal
from .naming import Naming
from .records import DEAD_LETTERS, Record, table_of

MANIFEST_NAME, DEAD_LETTERS_NAME = "manifest", "dead_letters"
_ROWS = 256


class WriteTables(beam.PTransform):  # type: ignore[misc]
    """Writes the manifest of all records, and the dead letters of those that failed, as Parquet files.

    Args:
        output: the folder.
        shards: files that each table is spread over, by the pictures' paths; one is `manifest.parquet`.
        job: name of the job that watches, if one does.
    """

    def __init__(self, output: str, shards: int = 1, job: str = ""):
        super().__init__()
        self._output, self._shards, self._job = output, shards, job

    def expand(self, records: Any) -> Any:
        """Takes `Record`s, or a tuple of several collections of them."""
        output, shards, journal = self._output, self._shards, Journal(self._output, self._job)
        # Tables without a row are written too: they take the place of those before.
        parts = records if isinstance(records, tuple) else (records,)
        every = parts[0].pipeline | "shards" >> beam.Create([(shard, list[bytes]()) for shard in range(shards)])
        packed = [part | f"rows {number}" >> beam.ParDo(_PackRows(shards)) for number, part in enumerate(parts)]
        grouped = [*packed, every] | "all rows" >> beam.Flatten() | "by shard" >> beam.GroupByKey()
        return grouped | "write" >> beam.MapTuple(
            lambda shard, rows: _write(journal, output, shard, shards, itertools.chain.from_iterable(rows))
        )


class _PackRows(beam.DoFn):  # type: ignore[misc]
    """Puts some rows of a shard together: what a runner holds of an element is many times a row's size."""

    def __init__(self, shards: int):
        super().__init__()
        self._shards = shards
        self._held: dict[int, list[bytes]] = {}

    def start_bundle(self) -> None:
        self._held = {}

    def process(self, record: Record) -> Iterator[tuple[int, list[bytes]]]:
        shard = zlib.crc32(record.uri.encode()) % self._shards
        rows = self._held.setdefault(shard, [])
        rows.append(record.packed())
        if len(rows) >= _ROWS:
            yield shard, self._held.pop(shard)

    def finish_bundle(self) -> Iterator[Any]:
        for shard, rows in self._held.items():
            yield GlobalWindows.windowed_value((shard, rows))


def _write(journal: Journal, output: str, shard: int, shards: int, rows: Iterable[bytes]) -> None:
    manifest = table_of(rows)
    bad = manifest.filter(pyarrow.compute.is_valid(manifest["error"])).select(DEAD_LETTERS)
    for name, table in ((MANIFEST_NAME, manifest), (DEAD_LETTERS_NAME, bad)):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer)
        journal.write_whole(files.join(output, table_name(name, shard, shards)), buffer.getvalue())


def table_name(name: str, shard: int, shards: int) -> str:
    """Returns what a table's file is called."""
    return f"{name}.parquet" if shards == 1 else f"{name}-{shard:05d}-of-{shards:05d}.parquet"


def find_tables(output: str, name: str) -> list[str]:
    """Returns the files of a table that an earlier job wrote."""
    folder = files.literal(output)
    patterns = (f"{name}.parquet", f"{name}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].parquet")
    return [one.path for pattern in patterns for one in files.find(files.join(folder, pattern))]


def first_failure(output: str) -> str:
    """Returns the first of the dead letters that a job wrote, which names its picture; empty where there is none."""
    for path in find_tables(output, DEAD_LETTERS_NAME):
        errors = pyarrow.parquet.read_table(io.BytesIO(files.read(path)), columns=["error"])["error"]
        if len(errors):
            return str(errors[0])
    return ""


@dataclasses.dataclass(frozen=True)
class CocoItem:
    """A picture and its mask as COCO's JSON has them."""

    uri: str
    file_name: str
    height: int
    width: int
    annotation: dict[str, Any] | None  # None where the mask is empty


class WriteCoco(beam.PTransform):  # type: ignore[misc]
    """Writes one JSON file in COCO's form: a picture, and an annotation with run lengths where its mask is not empty.

    The file's masks, PNG, are read again by the workers; the JSON is written by one of them.
    """

    def __init__(self, output: str, path: str, naming: Naming, job: str = ""):
        super().__init__()
        self._journal, self._path, self._naming = Journal(output, job), path, naming

    def expand(self, records: Any) -> Any:
        """Takes `Record`s, or a tuple of several collections of them."""
        journal, path, naming = self._journal, self._path, self._naming
        parts = records if isinstance(records, tuple) else (records,)
        with_masks = [
            part | f"with masks {number}" >> beam.Filter(lambda record: record.mask is not None)
            for number, part in enumerate(parts)
        ]
        items = [
            part | f"items {number}" >> beam.Map(lambda record: (None, coco_item(record, naming.relative(record.uri))))
            for number, part in enumerate(with_masks)
        ]
        nothing = parts[0].pipeline | "nothing" >> beam.Create([(None, None)])
        grouped = [*items, nothing] | "all items" >> beam.Flatten() | "in one" >> beam.GroupByKey()
        return grouped | "write" >> beam.MapTuple(
            lambda _, held: journal.write_whole(path, "".join(coco_json(filter(None, held))).encode())
        )


def coco_item(record: Record, file_name: str) -> CocoItem:
    """Returns a picture's part of COCO's JSON; reads its mask."""
    pixels = decode_png(files.read(str(record.mask)))
    height, width = pixels.shape[:2]
    mask: npt.NDArray[np.bool_] = pixels.reshape(height, width) > 0
    box = bbox_of(mask)
    annotation = None
    if box is not None:
        annotation = {
            "category_id": 1,
            "iscrowd": 0,
            "area": int(np.count_nonzero(mask)),
            "bbox": list(box),
            "segmentation": encode_rle(mask),
        }
    return CocoItem(record.uri, file_name, height, width, annotation)


def coco_json(items: Iterable[CocoItem]) -> Iterator[str]:
    """Yields the pieces of COCO's JSON, pictures in the order of their paths and numbered from 1."""
    ordered = sorted(items, key=lambda item: item.uri)
    yield '{"categories": [{"id": 1, "name": "foreground"}], "images": ['
    for number, item in enumerate(ordered, 1):
        image = {"id": number, "file_name": item.file_name, "height": item.height, "width": item.width}
        yield (", " if number > 1 else "") + json.dumps(image)
    yield '], "annotations": ['
    is_first = True
    for number, item in enumerate(ordered, 1):
        if item.annotation is not None:
            annotation: Mapping[str, Any] = {"id": number, "image_id": number, **item.annotation}
            yield ("" if is_first else ", ") + json.dumps(annotation)
            is_first = False
    yield "]}\n"
