"""What an export must answer: its golden requests, its identity, its signatures, read from its files."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError

from .. import contract
from ..agreement import Tolerance
from ..client.transport.signatures import SignatureInfo, metadata_of_message
from ..model_directories import parse_version
from ..wire.messages import PredictLog, SavedModel, SignatureDefMap
from ..wire.tensors import TensorError, to_array
from .errors import GoldenError

_SCHEMA_VERSION = 2
_SAVED_MODEL_FILE = "saved_model.pb"

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Record:
    """A request with the answer it must get.

    Attributes:
        signature: its name.
        inputs: arrays by name; strings as object arrays of bytes.
        outputs: as recorded, likewise.
        tolerances: of each output.
    """

    signature: str
    inputs: Tensors
    outputs: Tensors
    tolerances: Mapping[str, Tolerance]


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a server must answer.

    Attributes:
        source: the folder that it was read from, for people.
        records: the golden requests, in the exporter's order.
        manifest: what `maskport.json` says; empty where no record holds it.
        version: number of the version directory; None where only a copy of the goldens is at hand.
        signatures: of the SavedModel itself; None likewise.
    """

    source: str
    records: tuple[Record, ...]
    manifest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int | None = None
    signatures: Mapping[str, SignatureInfo] | None = None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Makes a file that cannot be read a `GoldenError`."""
    try:
        yield
    except OSError as error:
        raise GoldenError(f"{error.filename} cannot be read: {error.strerror}") from error


@_reading()
def read_export(version_dir: Path) -> Expected:
    """Reads what a version directory, as the exporter published it, must answer.

    Raises:
        GoldenError: it is none, or was not exported by maskport, or is damaged, or cannot be read.
    """
    if not (version_dir / _SAVED_MODEL_FILE).is_file():
        versions = sorted(path.name for path in version_dir.glob("*") if parse_version(path.name) is not None)
        advice = f"; it holds the versions {', '.join(versions)}: name one of them" if versions else ""
        raise GoldenError(f"{version_dir} is no version directory (no {_SAVED_MODEL_FILE}){advice}")
    expected = read_golden(version_dir / contract.ASSETS_DIR / contract.GOLDEN_DIR)
    manifest_file = version_dir / contract.ASSETS_DIR / contract.MANIFEST_FILE
    try:
        manifest = _as_manifest(manifest_file.read_bytes(), str(manifest_file))
    except FileNotFoundError as error:
        problem = f"{manifest_file} is missing: the directory was not exported by maskport, or not copied whole"
        raise GoldenError(problem) from error
    name = version_dir.resolve().name
    return dataclasses.replace(
        expected,
        source=str(version_dir),
        manifest=manifest,
        version=parse_version(name),
        signatures=_read_signatures(version_dir / _SAVED_MODEL_FILE),
    )


@_reading()
def read_golden(directory: Path) -> Expected:
    """Reads a folder of golden requests: `assets.extra/golden` of a version directory, or a copy of it.

    Raises:
        GoldenError: it is none, or damaged, or cannot be read.
    """
    index_file = directory / contract.GOLDEN_INDEX_FILE
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        schema_version, entries = index["schema_version"], index["records"]
    except FileNotFoundError as error:
        raise GoldenError(f"{directory} holds no golden requests (no {contract.GOLDEN_INDEX_FILE})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise GoldenError(f"{index_file} is damaged: {error}") from error
    if schema_version != _SCHEMA_VERSION:
        raise GoldenError(
            f"{index_file} is of schema {schema_version}; this release reads {_SCHEMA_VERSION}: export again"
        )
    records = tuple(_read_record(directory, entry) for entry in entries)
    if not records:
        raise GoldenError(f"{index_file} names no golden requests")
    infos = [record.outputs[contract.INFO] for record in records if record.signature == contract.EXPORT_INFO]
    return Expected(str(directory), records, _as_manifest(infos[0].flat[0], contract.EXPORT_INFO) if infos else {})


def _read_record(directory: Path, entry: Mapping[str, Any]) -> Record:
    try:
        # The index names files of its own folder, nothing else.
        file = directory / Path(entry["file"]).name
        log = PredictLog.FromString(file.read_bytes())
        record = Record(
            entry["signature"],
            {name: to_array(tensor) for name, tensor in log.request.inputs.items()},
            {name: to_array(tensor) for name, tensor in log.response.outputs.items()},
            {name: Tolerance.from_json(fields) for name, fields in entry["outputs"].items()},
        )
    except FileNotFoundError as error:
        raise GoldenError(f"{error.filename} is missing, which {contract.GOLDEN_INDEX_FILE} names") from error
    except (DecodeError, TensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise GoldenError(f"{directory}: the golden request {entry!s:.80} is damaged: {error}") from error
    if not record.outputs or set(record.outputs) != set(record.tolerances):
        raise GoldenError(f"{file} holds the outputs {sorted(record.outputs)}, not those that the index names")
    return record


def _read_signatures(path: Path) -> Mapping[str, SignatureInfo]:
    """Returns the signatures of the (first) graph of a `saved_model.pb`, by name."""
    try:
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
    except DecodeError as error:
        raise GoldenError(f"{path} is no whole SavedModel: {error}") from error
    if not graphs:
        raise GoldenError(f"{path} is no whole SavedModel: it holds no graph")
    return metadata_of_message("", None, SignatureDefMap(signature_def=graphs[0].signature_def)).signatures


def _as_manifest(text: bytes, source: str) -> Mapping[str, Any]:
    try:
        manifest = json.loads(text)
        if not isinstance(manifest, dict):
            raise ValueError("it holds no object")
        return manifest
    except ValueError as error:
        raise GoldenError(f"{source} is damaged: {error}") from error
