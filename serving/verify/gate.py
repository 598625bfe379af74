"""Replays golden requests against running servers, and judges what comes back."""

import contextlib
import dataclasses
import statistics
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .. import contract
from ..agreement import NOTABLE, compare
from ..client import MaskClient, MaskServingError, ModelMetadata, ObservedCall, Observer, RetryPolicy
from ..client.transport.addresses import parse_address
from .diagnosis import BUSY, Facts, find_causes
from .errors import VerificationError
from .goldens import Expected, Record, Tensors
from .identity import is_other_source, manifest_differences, metadata_problem, unexported_signatures
from .reports import AddressReport, OutputReport, SignatureReport, VerificationReport

_MEBIBYTE = 1 << 20
# A gate must not hide that a server fails now and then, nor wait a whole time-out for one that is not there.
# A busy server's refusals are no failures: it did not begin.
_RETRIES = RetryPolicy(max_attempts=4, counts_refusals=False)
_NO_RETRIES = RetryPolicy(max_attempts=1, counts_refusals=False)
# The one type of an export's pixels and class maps for which TensorFlow Serving's JSON has no numbers.
_NOT_IN_JSON = np.dtype(np.uint16)


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """How a verification is made.

    Attributes:
        version: to ask for; None leaves it to the server, or to `label`.
        label: to ask for, in place of a number.
        signatures: those to check; empty for all that were recorded.
        repeats: lone calls of each signature; the latency is their median.
        concurrency: further calls of each signature, all at one time, so that a server that batches merges them;
            0 for none.
        message_mib: size of one large request that must arrive, in MiB; 0 for none. It costs the model nothing:
            `export_info` ignores its query, and the encoded signatures refuse what is no picture.
        wait_s: seconds to wait for the model to be ready, before anything is asked; 0 does not wait.
    """

    version: int | None = None
    label: str | None = None
    signatures: tuple[str, ...] = ()
    repeats: int = 3
    concurrency: int = 4
    message_mib: float = 5.0
    wait_s: float = 0.0


def verify(
    addresses: Sequence[str],
    model: str,
    expected: Expected,
    options: VerifyOptions | None = None,
    **client_options: Any,
) -> VerificationReport:
    """Checks that a deployed model answers as the exported one did, at each address.

    Args:
        addresses: `grpc://HOST:8500`, `http://HOST:8501` and the client's other forms; each is checked by itself.
        model: its name on the servers.
        expected: what it must answer: from `read_export` or `read_golden`.
        options: how.
        **client_options: `MaskClient`'s, such as `timeout`, `token` and `tls`.

    Returns:
        The report; whatever is wrong with the servers is in it.

    Raises:
        VerificationError: the options make no sense.
        InvalidRequestError: an address or a client's option makes none.
    """
    options = options or VerifyOptions()
    known = [record.signature for record in expected.records]
    for name in options.signatures:
        if name not in known:
            raise VerificationError(f"no golden request for signature {name!r}; there are: {', '.join(known)}")
    records = [one for one in expected.records if one.signature in (options.signatures or known)]
    reports = []
    for address in addresses:
        meter = _Meter()
        with (
            MaskClient(
                address, model, options.version, options.label, retries=_RETRIES, observers=[meter], **client_options
            ) as client,
            # The states of all versions tell more than those of the one that is asked for.
            MaskClient(address, model, retries=_NO_RETRIES, **client_options) as any_version,
        ):
            reports.append(_AddressCheck(address, client, any_version, meter, expected, records, options).run())
    return VerificationReport(model, expected.source, tuple(reports))


class _Meter(Observer):
    """Remembers the last call of each thread: how long it took and how large it was."""

    def __init__(self) -> None:
        self.local = threading.local()

    def call_ended(self, call: ObservedCall) -> None:
        self.local.last = call


@dataclasses.dataclass
class _AddressCheck:
    """The check of one address, and what it has found so far; `run` makes it once."""

    address: str
    client: MaskClient
    any_version: MaskClient
    meter: _Meter
    expected: Expected
    records: Sequence[Record]
    options: VerifyOptions
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        version, label = self.options.version, self.options.label
        asked_for = f"version {version}" if version is not None else ""
        self.facts = Facts(
            asked_for=f"label {label!r}" if label is not None else asked_for,
            expected_source=self.expected.source,
            expected_version=self.expected.version,
            exported_with=self.expected.manifest.get("versions", {}).get("tensorflow", ""),
        )

    def run(self) -> AddressReport:
        if self.options.wait_s:
            self._try("", lambda: self.client.wait_until_ready(self.options.wait_s))
        metadata = None if self.facts.errors else self._try("", self.client.metadata)
        signatures: tuple[SignatureReport, ...] = ()
        if metadata is not None:
            self._check_identity(metadata)
            signatures = tuple(self._check_signature(record, metadata) for record in self.records)
            names = [one.signature for one in signatures if one.left_out]
            if names:
                self.notes.append(f"left out, not callable over REST ({_NOT_IN_JSON}): {', '.join(names)}")
            if names and len(names) == len(signatures):
                self.problems.append(
                    f"no signature to check is callable over REST ({_NOT_IN_JSON}): check it over gRPC"
                )
            self._check_message_size(metadata)
            later = self._try("", self.client.metadata)
            if later is not None and later.version != metadata.version:
                self.problems.append(
                    f"version {metadata.version} answered at first, version {later.version} at the end: the model was "
                    "exchanged meanwhile, so verify again"
                )
        version = None if metadata is None else metadata.version
        self._add_notes(version)
        report = AddressReport(self.address, version, signatures, tuple(self.problems), notes=tuple(self.notes))
        if report.holds:
            return report
        self.facts.served_version, self.facts.signatures = version, signatures
        with contextlib.suppress(MaskServingError):
            self.facts.statuses = self.any_version.status()
        return dataclasses.replace(report, causes=tuple(find_causes(self.facts)))

    def _try(self, what: str, call: Callable[[], Any]) -> Any:
        """Returns what a call returns; None where it fails, which then is a problem."""
        try:
            return call()
        except MaskServingError as error:
            self.facts.errors.append(error)
            self.problems.append(f"{what}{error}")
            return None

    def _check_identity(self, metadata: ModelMetadata) -> None:
        wanted = self.expected.manifest
        if wanted and contract.EXPORT_INFO in metadata.signatures:
            info = self._try("what the model says of itself: ", self.client.info)
            if info is not None:
                self.facts.differences = manifest_differences(wanted, info)
                self.facts.is_other_source = is_other_source(wanted, info)
        if self.facts.differences:
            self.problems.append(f"the served model is not the exported one: {self.facts.differences[0]}")
        strangers = unexported_signatures(metadata, self.expected)
        if strangers:
            self.problems.append(f"signatures are served that were not exported: {', '.join(strangers)}")

    def _check_signature(self, record: Record, metadata: ModelMetadata) -> SignatureReport:
        name = record.signature
        report = SignatureReport(name, metadata_problem=metadata_problem(name, metadata, self.expected, record))
        if name not in metadata.signatures:
            return report
        arrays = (*record.inputs.values(), *record.outputs.values())
        if parse_address(self.address).is_rest and any(array.dtype == _NOT_IN_JSON for array in arrays):
            return dataclasses.replace(report, left_out=f"not callable over REST: {_NOT_IN_JSON}")
        seconds: list[float] = []
        answers: list[Tensors] = []
        last: ObservedCall | None = None
        try:
            for _ in range(self.options.repeats):
                answers.append(self.client.predict(name, record.inputs))
                last = self.meter.local.last
                seconds.append(last.seconds)
            if self.options.concurrency:
                with ThreadPoolExecutor(self.options.concurrency) as threads:
                    running = [
                        threads.submit(self.client.predict, name, record.inputs)
                        for _ in range(self.options.concurrency)
                    ]
                answers += [one.result() for one in running]
        except MaskServingError as error:
            self.facts.errors.append(error)
            report = dataclasses.replace(report, failure=str(error))
        return dataclasses.replace(
            report,
            outputs=tuple(_judge(record, output, answers) for output in record.outputs) if answers else (),
            latency_ms=statistics.median(seconds) * 1000 if seconds else None,
            request_bytes=last.request_bytes if last else 0,
            response_bytes=last.response_bytes if last else 0,
        )

    def _check_message_size(self, metadata: ModelMetadata) -> None:
        size = int(self.options.message_mib * _MEBIBYTE)
        if not size:
            return
        encoded = [
            one.name
            for name, one in contract.SIGNATURES.items()
            if name in metadata.signatures and one.is_encoded and not one.takes_threshold
        ]
        filler = np.array([b"x" * size], object)
        if contract.EXPORT_INFO in metadata.signatures:
            name, inputs = contract.EXPORT_INFO, {contract.QUERY: filler}
        elif encoded and self.expected.manifest.get("spec", {}).get("bad_image") == "report":
            name, inputs = encoded[0], {contract.IMAGE_BYTES: filler}
        else:
            self.notes.append("no signature takes a large request without work: message size not checked")
            return
        known = len(self.facts.errors)
        self._try(f"a request of {self.options.message_mib:g} MiB: ", lambda: self.client.predict(name, inputs))
        self.facts.size_error = self.facts.errors.pop() if len(self.facts.errors) > known else None

    def _add_notes(self, version: int | None) -> None:
        wanted = self.expected.version
        if None not in (version, wanted) and version != wanted:
            self.notes.append(f"served as version {version}, exported as version {wanted}")
        tolerance = self.expected.manifest.get("reproducibility", {}).get("tolerance", 0.0)
        if tolerance > NOTABLE:
            self.notes.append(
                f"probabilities may differ by {tolerance:.2g}, and masks where they are so near to the threshold: so "
                "far this model's own answers move with how TensorFlow optimizes its graph"
            )
        if self.client.refusals:
            self.notes.append(
                f"the server refused {self.client.refusals} calls at first, as {BUSY}; they were made again"
            )


def _judge(record: Record, output: str, answers: Sequence[Tensors]) -> OutputReport:
    """Compares all answers to a record with it; returns the worst."""
    reports = []
    for answer in answers:
        if output not in answer:
            return OutputReport(output, False, float("inf"), None, "it is missing in the answer")
        agreement = compare(record.outputs[output], answer[output], record.tolerances[output])
        reports.append(OutputReport(output, **dataclasses.asdict(agreement)))
    return min(reports, key=lambda one: (one.holds, -one.largest_difference))
