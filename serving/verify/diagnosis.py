"""From what was seen to what most likely is behind it: the usual faults of a deployment, in words."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from .. import contract
from ..client import MaskServingError, ModelState, VersionStatus, errors
from ..client.transport.refusals import holds_any
from ..texts import shorten
from .reports import SignatureReport


@dataclasses.dataclass
class Facts:
    """What was seen at one address."""

    asked_for: str  # which version, in words: `version 3`, `label 'canary'`; empty if neither
    expected_source: str  # the folder that says what must be answered
    expected_version: int | None = None  # number of the version directory; None where it is not known
    served_version: int | None = None  # that answered; None where none did, or the server does not say
    statuses: Sequence[VersionStatus] = ()  # of the model's versions; empty where they are not known
    errors: list[MaskServingError] = dataclasses.field(default_factory=list)  # of all calls but the next one
    size_error: MaskServingError | None = None  # of the one large request
    differences: Sequence[str] | None = None  # of what the served model says of itself; None where it is not known
    is_other_source: bool = False  # whether these mean other weights
    exported_with: str = ""  # TensorFlow's version at the export; empty where it is not known
    signatures: Sequence[SignatureReport] = ()


# Words of TensorFlow by which an older release says that it does not know what it is to run.
_OLDER_TENSORFLOW = (
    "Op type not registered",
    "NodeDef mentions attr",
    "not in Op<name=",
    "GraphDef was built when GraphDef version",
    "GraphDef min consumer version",
    "No registered '",
)
# Of these it names the op, which may also be one of the model's own.
_UNKNOWN_OP = re.compile(r"Op type not registered '([^']+)'|support Op '([^']+)'|No registered '([^']+)'")
_DAMAGED_FILES = (
    "Can't parse",
    "Data loss",
    "DATA_LOSS",
    "corrupted",
    "checksum",
    "not an sstable",
    "Unable to open table file",
    "not found in checkpoint",
    "Failed to find any matching files",
    "out of range",
    "OUT_OF_RANGE",
    "Read less bytes than requested",
    "does not appear to contain a SavedModel",
)
_MESSAGE_SIZE = (
    "the server, or a proxy before it, refuses messages of this size: raise its limit (nginx: client_max_body_size) "
    "above the largest picture"
)
BUSY = (
    "all of its gRPC threads were busy: raise --grpc_max_threads (4 to a processor unless it is set, one of which "
    "listens) above the number of calls at one time"
)
# What words of TensorFlow Serving's batching mean.
_BATCHING = {
    "larger than maximum input batch size": (
        "batching refuses requests of this many images: raise max_batch_size in the batching parameters"
    ),
    "batch scheduling queue": (
        "the batching queue is full: raise max_enqueued_batches, or verify when there is less traffic"
    ),
    "must have equal 0th-dimension size": (
        "batching needs the same first size of all inputs: switch it off for this model"
    ),
    "must have at least one dimension": (
        "batching refuses inputs without a first dimension: switch it off for this model"
    ),
    "allowed_batch_sizes": "the batching parameters are wrong: the last of allowed_batch_sizes must be max_batch_size",
}
_NO_ANSWER = (
    "nothing answers at this address: the address or port is wrong, the server is down, or it is still loading (its "
    "ports open only then): --wait=SECONDS waits for it"
)
_OTHER_SERVICE = (
    "something else than TensorFlow Serving answers at this address: gRPC is grpc://HOST:8500, REST is http://HOST:8501"
)
# What errors mean, whatever their words.
_MEANINGS: dict[type[MaskServingError], str] = {
    errors.MessageTooLargeError: _MESSAGE_SIZE,
    errors.ServerBusyError: f"the server refuses calls, as {BUSY}; or verify when there is less traffic",
    errors.AccessDeniedError: "the server wants other credentials: see --token_file, --metadata and --ca_file",
    errors.DeadlineExceededError: (
        "the server is too slow or overloaded: allow more by --timeout, and look at its latency metrics"
    ),
    errors.UnsupportedCallError: _OTHER_SERVICE,
    errors.InvalidResponseError: _OTHER_SERVICE,
    errors.MixedSizesError: (
        "the server's batching merges pictures of other sizes, which breaks the pixel signatures: call the *_png ones "
        "and verify those (--signatures), or switch batching off for this model"
    ),
}


def find_causes(facts: Facts) -> list[str]:
    """Returns what most likely is behind the problems, most telling first; empty where nothing is known."""
    return list(dict.fromkeys([*_of_loading(facts), *_of_calls(facts), *_of_identity(facts)]))


def _of_loading(facts: Facts) -> Iterator[str]:
    on_their_way = [one for one in facts.statuses if one.state in (ModelState.START, ModelState.LOADING)]
    available = [one for one in facts.statuses if one.state == ModelState.AVAILABLE]
    for status in facts.statuses:
        if status.error_message and status.state != ModelState.AVAILABLE:
            yield f"version {status.version} did not load: {_what_failed(status.error_message, facts)}"
    if on_their_way:
        numbers = ", ".join(str(one.version) for one in on_their_way)
        yield f"the model is still loading (version {numbers}): try again, or let --wait=SECONDS wait for it"
    not_found = any(isinstance(error, errors.ModelNotFoundError) for error in facts.errors)
    if not_found and facts.asked_for and available:
        numbers = ", ".join(str(one.version) for one in available)
        yield f"{facts.asked_for} is not served; available: version {numbers}"
    elif not_found and not facts.statuses:
        yield "the server serves no model of this name: check --model against the server's model configuration"


def _what_failed(words: str, facts: Facts) -> str:
    made = f" (it was exported with TensorFlow {facts.exported_with})" if facts.exported_with else ""
    older = f"the server's TensorFlow is older than the model needs{made}"
    short = shorten(words)
    if (unknown := _UNKNOWN_OP.search(words)) is not None:
        op = next(filter(None, unknown.groups()))
        return f"{older}, or lacks a custom op: it does not know {op!r}: {short}"
    if holds_any(words, _OLDER_TENSORFLOW):
        return f"{older}: {short}"
    if holds_any(words, _DAMAGED_FILES):
        return f"its files are damaged or incomplete, so publish it again: {short}"
    return short


def _of_calls(facts: Facts) -> Iterator[str]:
    # Who answers everything else and breaks off at a large message may do so without a word.
    if isinstance(facts.size_error, errors.ServerUnavailableError):
        yield _MESSAGE_SIZE
    for error in (*facts.errors, *filter(None, [facts.size_error])):
        words = error.server_message or error.problem
        meaning = next((text for kind, text in _MEANINGS.items() if isinstance(error, kind)), "")
        if meaning != _MESSAGE_SIZE and (
            holds_any(words, _OLDER_TENSORFLOW) or isinstance(error, errors.ModelFaultError)
        ):
            served = f"version {facts.served_version} is" if facts.served_version is not None else "the model is"
            yield f"{served} served, and its calls fail: {_what_failed(words, facts)}"
        elif "status: 413" in words:
            yield _MESSAGE_SIZE
        elif meaning:
            yield meaning
        elif isinstance(error, errors.ServerUnavailableError) and not facts.statuses:
            yield _NO_ANSWER
        yield from (cause for telling, cause in _BATCHING.items() if telling in words)


def _of_identity(facts: Facts) -> Iterator[str]:
    differs = any(not report.holds for report in facts.signatures)
    if facts.differences:
        what = "another model" if facts.is_other_source else "another export of this model"
        # Where the weights are others, what else differs mostly follows from that.
        shown = facts.differences[: 1 if facts.is_other_source else 3]
        more = len(facts.differences) - len(shown)
        yield f"{what} is served: {'; '.join(shown)}" + (f" (and {more} more differences)" if more else "")
    served, expected = facts.served_version, facts.expected_version
    is_other = bool(facts.differences) or (facts.differences is None and differs)
    if is_other and None not in (served, expected) and served != expected:
        by = f" for {facts.asked_for}" if facts.asked_for else ""
        source = f"{facts.expected_source} is version {expected}"
        yield f"the wrong version is served: version {served} answers{by}, and {source}"
    if facts.differences is not None and not facts.differences:
        yield from _of_same_identity(facts)


def _of_same_identity(facts: Facts) -> Iterator[str]:
    """Explains answers that differ though the served model says that it is the exported one."""
    wrong = [report for report in facts.signatures if any(not output.holds for output in report.outputs)]
    if not wrong:
        return
    names = {report.signature for report in wrong}
    encoded = {name for name, one in contract.SIGNATURES.items() if one.is_encoded}
    made = f"TensorFlow {facts.exported_with}" if facts.exported_with else "the TensorFlow of the export"
    pixels_hold = any(
        report.holds and not report.left_out and report.signature not in encoded for report in facts.signatures
    )
    if names <= encoded and pixels_hold:
        yield (
            f"only signatures that take picture files differ: the server decodes them otherwise, as a TensorFlow that "
            f"is older or newer than {made} may"
        )
    else:
        yield (
            "the served model says that it is the exported one, and answers differently: its files (variables/) were "
            f"changed after the export, or the server's TensorFlow is not compatible with {made}"
        )
