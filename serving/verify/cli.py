"""`mask-verify`: the deployment gate on the command line."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ..client import InvalidRequestError
from ..client.commands import connection_flags
from ..client.commands.connection_flags import LABEL, MODEL, VERSION, check_connection_flags, client_options
from ..command_line import EXIT_FAILED, EXIT_OK, UsageError, run_app
from .errors import VerificationError
from .gate import VerifyOptions, verify
from .goldens import read_export, read_golden

_PROGRAM = "mask-verify"
_DESCRIPTION = """\
Proves that a deployed model answers what the exported one did: replays the requests that the exporter recorded,
and compares the answers.

    mask-verify --address=grpc://HOST:8500 --address=http://HOST:8501 --model=NAME --export_dir=served/NAME/3

It works on TensorFlow Serving and on mask-serve. For each signature it prints agreement (the largest difference,
the overlap of masks), latency, bytes, and whether the metadata match; what is wrong goes to stderr, with what most
likely is behind it.

Exit codes: 0 everything agrees, 1 something does not, or no server answers, 2 the command line makes no sense."""

_ADDRESS = flags.DEFINE_multi_string(
    "address", [], "grpc://HOST:8500, http://HOST:8501, grpcs://, https:// or unix:///PATH; repeat it: each is checked."
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "The exported version directory, such as served/coins/3: what must be answered."
)
_GOLDEN = flags.DEFINE_string("golden", None, "In its place, a copy of its folder assets.extra/golden.")
_SIGNATURES = flags.DEFINE_list(
    "signatures", [], "Check only these. On a server that batches, a pixel signature disturbs callers of other sizes."
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 3, "Calls of each signature, one by one; the latency is their median.", lower_bound=1
)
_CONCURRENCY = flags.DEFINE_integer(
    "concurrency", 4, "Further calls at one time, so that batching merges them; 0: none.", lower_bound=0, upper_bound=64
)
_MESSAGE_MIB = flags.DEFINE_float(
    "message_mib", 5.0, "Size of one large request that must arrive, in MiB; 0: none.", lower_bound=0, upper_bound=1024
)
_WAIT = flags.DEFINE_float("wait", 0.0, "Wait so many seconds for the model to be ready.", lower_bound=0)
_JSON = flags.DEFINE_boolean("json", False, "Print JSON in place of the table.")
_JUNIT = flags.DEFINE_string("junit", None, "File to write JUnit XML to.")
flags.adopt_module_key_flags(connection_flags)


def run() -> None:
    """Runs `mask-verify` with the process' arguments, and ends the process."""
    run_app(_main, program=_PROGRAM, description=_DESCRIPTION)


def _main(words: Sequence[str]) -> int:
    if words:
        raise UsageError(f"unexpected argument {words[0]!r}: everything is given by flags")
    if not _ADDRESS.value:
        raise UsageError("--address is missing")
    check_connection_flags()
    if (_EXPORT_DIR.value is None) == (_GOLDEN.value is None):
        raise UsageError("exactly one of --export_dir and --golden is needed: what must be answered")
    options = VerifyOptions(
        version=VERSION.value,
        label=LABEL.value,
        signatures=tuple(_SIGNATURES.value),
        repeats=_REPEATS.value,
        concurrency=_CONCURRENCY.value,
        message_mib=_MESSAGE_MIB.value,
        wait_s=_WAIT.value,
    )
    try:
        expected = read_export(Path(_EXPORT_DIR.value)) if _EXPORT_DIR.value else read_golden(Path(_GOLDEN.value))
        report = verify(_ADDRESS.value, MODEL.value, expected, options, **client_options())
    except (VerificationError, InvalidRequestError) as error:
        # Nothing was checked, which is not the same as a model that fails: servers' refusals are in the report.
        raise UsageError(str(error)) from error
    print(json.dumps(report.to_json(), allow_nan=False) if _JSON.value else report.table())
    if _JUNIT.value:
        Path(_JUNIT.value).write_text(report.to_junit(), encoding="utf-8")
    sys.stdout.flush()
    for address in report.addresses:
        for line in [*address.all_problems(), *(f"likely cause: {cause}" for cause in address.causes)]:
            print(f"{_PROGRAM}: {address.address}: {line}", file=sys.stderr)
    return EXIT_OK if report.holds else EXIT_FAILED
