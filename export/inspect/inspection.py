"""All that an inspection finds out about a version directory."""

import dataclasses
from pathlib import Path
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..errors import InspectError
from ..model.causes import cause_of
from .calls import Target, example_calls
from .pictures import PictureReport, report_picture
from .record import ExportRecord, read_record
from .signature_table import SignatureForm, count_weights, read_signatures
from .timing import recorded_requests, time_signatures
from .version_directory import VersionDirectory, find_version_directory

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        directory: that was inspected.
        record: what the export says about itself; None where maskport did not export it.
        signatures: by name: the contract's in its order, then others.
        file_sizes: in bytes, by path in the directory.
        parameters: number of weights.
        seconds: median time of a call on this machine, by signature; empty where nothing was timed.
        timed: what was timed, for people; empty likewise.
        calls: for each signature of the contract an example call, by kind.
        picture: what became of a picture; None where none was asked for.
    """

    directory: VersionDirectory
    record: ExportRecord | None
    signatures: dict[str, SignatureForm]
    file_sizes: dict[str, int]
    parameters: int
    seconds: dict[str, float]
    timed: str
    calls: dict[str, dict[str, str]]
    picture: PictureReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a form for JSON, without the pictures."""
        record = self.record
        return {
            "schema_version": SCHEMA_VERSION,
            "directory": str(self.directory.path),
            "model_name": self.directory.model_name,
            "version": self.directory.version,
            "exported_by_maskport": record is not None,
            "signatures": {
                name: {
                    **dataclasses.asdict(form),
                    "milliseconds": 1000 * self.seconds[name] if name in self.seconds else None,
                    "calls": self.calls.get(name),
                }
                for name, form in self.signatures.items()
            },
            "timed": self.timed or None,
            "sizes": {
                "parameters": self.parameters,
                "bytes": sum(self.file_sizes.values()),
                "files": self.file_sizes,
            },
            "export": record.model_dump(mode="json") if record else None,
        }


def inspect_version(
    path: Path,
    *,
    target: Target | None = None,
    runs: int = 5,
    with_picture: bool = False,
    picture: Path | None = None,
) -> Inspection:
    """Inspects a version directory, or the highest version of a base path.

    Args:
        path: of the directory.
        target: what the example calls are sent to; None is the model's own name on the usual ports.
        runs: how often each signature is called to be timed; 0 times nothing.
        with_picture: whether to send a picture through the export, if maskport made it.
        picture: its path; None draws one.

    Raises:
        InspectError: there is nothing to inspect, or something in it is broken.
    """
    directory = find_version_directory(path)
    record = read_record(directory.path)
    signatures = _in_order(read_signatures(directory.path))
    calls = {}
    if record is not None:
        target = target or Target(directory.model_name)
        calls = {name: example_calls(name, record, target) for name in signatures if name in contract.SIGNATURES}
    seconds: dict[str, float] = {}
    timed, report = "", None
    if record is not None and (runs > 0 or with_picture):
        loaded = _load(directory)  # to be kept while its signatures are called: it holds their variables
        if runs > 0:
            requests = recorded_requests(directory.path)
            seconds = time_signatures(loaded.signatures, requests.inputs, runs)
            timed = f"{requests.description}, median of up to {runs} calls in this process"
        if with_picture:
            report = report_picture(loaded.signatures, record, picture)
    return Inspection(
        directory=directory,
        record=record,
        signatures=signatures,
        file_sizes=directory.file_sizes(),
        parameters=record.model.parameters if record else count_weights(directory.path),
        seconds=seconds,
        timed=timed,
        calls=calls,
        picture=report,
    )


def _in_order(signatures: dict[str, SignatureForm]) -> dict[str, SignatureForm]:
    """Returns the contract's signatures in its order, with its outputs so too; then others."""
    ordered = {}
    for name, signature in contract.SIGNATURES.items():
        if name in signatures:
            form = signatures[name]
            outputs = {output: form.outputs[output] for output in signature.outputs if output in form.outputs}
            ordered[name] = SignatureForm(form.inputs, outputs | dict(form.outputs))
    return ordered | {name: form for name, form in signatures.items() if name not in ordered}


def _load(directory: VersionDirectory) -> Any:
    try:
        return tf.saved_model.load(str(directory.path))
    except Exception as error:  # TensorFlow raises all kinds for a broken directory
        raise InspectError(f"{directory.path}: TensorFlow cannot load it: {cause_of(error)}") from error
