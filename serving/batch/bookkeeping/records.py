"""What is known of each picture: a row of the manifest, of the dead letters and of the journal."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ...client.errors import InvalidImageError
from ...contract import MASK


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """What to make of the pictures; as `mask-client segment` has it.

    Attributes:
        product: `mask`, `masked_image`, `cutout`, `overlay`, `probability` or `class_map`.
        threshold: 0 to 1; None is the one that the model was exported with.
        format: of the files: `png`, `npy`, `json`, `webp` or `tif`.
        page: of files that hold several pictures, from 1.
        bands: channels to take of TIFF files, from 1, in the model's order.
    """

    product: str = MASK
    threshold: float | None = None
    format: str = "png"
    page: int | None = None
    bands: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which model answers.

    Attributes:
        model: its name.
        version: its number; None where nobody says it.
        threshold: that it was exported with; None where it does not say.
        fingerprint: changes with what the exporter wrote about the model.
    """

    model: str
    version: int | None
    threshold: float | None
    fingerprint: str

    def with_options(self, options: MaskOptions) -> str:
        """Returns a short text that differs where the same picture's file could."""
        text = json.dumps([self.fingerprint, dataclasses.astuple(options)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Record:
    """What became of one picture.

    Attributes:
        uri: the picture's path.
        mask: path of the file that was made of it; None where there is none.
        size: of the picture in bytes.
        modified: when the picture was changed last, in seconds since 1970; 0 where its file system does not say.
        hash: SHA-256 of its bytes, in hexadecimal; empty where it could not be read.
        model: name of the model that was asked.
        version: its version; None where nobody says it.
        threshold: that made the mask; None where it is not known, or the product has none.
        options: a text that differs where the same picture's file could: by the model's export, or what was asked for.
        height: of the upright picture in pixels.
        width: likewise.
        area: pixels that the mask covers; None for products without a mask.
        foreground_share: of all pixels, 0 to 1.
        milliseconds: from the call that held the picture to its answer.
        mask_size: of the file `mask` in bytes.
        error: what was wrong, in one line; None where nothing was.
        error_kind: the error's class.
        content: the file that was made, where it is not written by the pipeline; in no table.
    """

    uri: str
    mask: str | None
    size: int
    modified: float
    hash: str
    model: str
    version: int | None
    threshold: float | None
    options: str
    height: int | None = None
    width: int | None = None
    area: int | None = None
    foreground_share: float | None = None
    milliseconds: float | None = None
    mask_size: int | None = None
    error: str | None = None
    error_kind: str | None = None
    content: bytes | None = None

    @property
    def is_settled(self) -> bool:
        """Whether doing it again would come to the same: it went well, or the picture itself is bad."""
        return self.error is None or self.error_kind == InvalidImageError.__name__

    def as_row(self) -> dict[str, Any]:
        """Returns it as a row of tables."""
        return {name: getattr(self, name) for name in MANIFEST.names}

    def without_content(self) -> "Record":
        """Returns it as it is once its file is written."""
        return dataclasses.replace(self, content=None)

    def packed(self) -> bytes:
        """Returns its row in few bytes, for `table_of`."""
        return json.dumps(list(self.as_row().values()), separators=(",", ":")).encode()

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Record":
        """Returns what a row of a table or a journal says, whatever else may be in it."""
        return cls(**{name: row[name] for name in MANIFEST.names})


_ROWS_AT_ONCE = 512
MANIFEST = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        ("mask", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        ("modified", pa.float64()),
        ("hash", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("threshold", pa.float64()),
        ("options", pa.string()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("area", pa.int64()),
        ("foreground_share", pa.float64()),
        ("milliseconds", pa.float64()),
        ("mask_size", pa.int64()),
        ("error", pa.string()),
        ("error_kind", pa.string()),
    ]
)
"""The columns of the manifest."""
DEAD_LETTERS = ["uri", "error", "error_kind", "size", "modified", "hash", "model", "version"]
"""The columns of the table of bad pictures."""


def table_of(rows: Iterable[bytes]) -> pa.Table:
    """Returns the manifest of packed records, in the order of their pictures' paths.

    Memory holds it as columns; of rows as Python has them, which are ten times as large, no more than some hundred.
    """
    batches = []
    unpacked = map(json.loads, rows)
    while some := list(itertools.islice(unpacked, _ROWS_AT_ONCE)):
        columns = zip(*some, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, MANIFEST, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=MANIFEST))
    return pa.Table.from_batches(batches, schema=MANIFEST).sort_by("uri")
