"""`mask-client`: the client on the command line."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from ... import contract
from ...command_line import EXIT_FAILED, UsageError, printable, run_app
from .. import errors
from ..calling.operations import explain_closed_port
from ..calling.retries import NO_RETRIES, RetryPolicy
from ..client import MaskClient
from ..pictures.channels import as_choice
from ..transport.calls import Target
from ..transport.signatures import ModelState
from . import connection_flags
from .bench import BenchReport, run_bench
from .connection_flags import LABEL, MODEL, TIMEOUT, TOKEN_FILE, VERSION, check_connection_flags, client_options
from .inputs import STANDARD, find_inputs, read
from .segment_command import FORMATS, PRODUCTS, SegmentJob, plan_work, segment_files

_PROGRAM = "mask-client"
_NAMED = 5
_DESCRIPTION = """\
Calls a served segmentation model: TensorFlow Serving, or mask-serve.

    mask-client segment PATH… --address=grpc://HOST:8500 --model=NAME --out=FILE_OR_FOLDER
    mask-client status   --address=… --model=NAME [--wait=SECONDS]
    mask-client metadata --address=… --model=NAME
    mask-client bench PATH… --address=… --model=NAME [--seconds=10 --concurrency=8]
    mask-client playground --address=… [--model=NAME,NAME] [--port=PORT]

segment writes one file for each picture. A PATH is a file, a folder (its files with an image's ending), a
pattern ('photos/**/*.jpg') or - for standard input; --out is a file for one picture, - for standard output, or
a folder, which gets RELATIVE/NAME.png. What is in the folder already is left as it is: run it again to go on
where it was stopped. A picture that fails is named on stderr, and the others go on. Of a GeoTIFF, a .tif lies at the
same place. TIFF files that hold several pictures or other channels than the model takes need --page or --bands.

playground shows a page on this machine, on which one drops a picture and sees its mask, until Ctrl-C. Without
--model it asks for the model's name.

Exit codes: 0 all done, 1 something failed, 2 the command line makes no sense."""

_ADDRESS = flags.DEFINE_list(
    "address",
    ["grpc://localhost:8500"],
    "grpc://HOST:8500, grpcs://, http://HOST:8501, https:// or unix:///PATH; several, with commas, share the calls.",
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "0 to 1; the one of the export unless it is given.")
_PRODUCT = flags.DEFINE_enum("product", contract.MASK, PRODUCTS, "What to make of each picture.")
_OUT = flags.DEFINE_string("out", None, "segment: where the answers go; a file, a folder, or -.")
_PAGE = flags.DEFINE_integer("page", None, "segment: of files that hold several pictures; from 1.", lower_bound=1)
_BANDS = flags.DEFINE_list(
    "bands", None, "segment: channels to take of TIFF files, from 1, in the model's order; such as 4,3,2."
)
_FORMAT = flags.DEFINE_enum("format", "png", FORMATS, "segment: form of the files in a folder, or of -.")
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "segment: make files again that are in the folder already.")
_CONCURRENCY = flags.DEFINE_integer("concurrency", 8, "Calls at one time.", lower_bound=1, upper_bound=1024)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "segment: pictures to a call, where they are small.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 10.0, "bench: how long to measure.", lower_bound=0.01)
_REQUESTS = flags.DEFINE_integer("requests", None, "bench: how many calls, in place of a time.", lower_bound=1)
_WAIT = flags.DEFINE_float(
    "wait",
    None,
    "Wait so many seconds for the model to be ready; ports open once all models are warmed up.",
    lower_bound=0.001,
)
_JSON = flags.DEFINE_boolean("json", False, "status, metadata, bench: print JSON.")
_PORT = flags.DEFINE_integer(
    "port", 0, "playground: port of 127.0.0.1; 0 is a free one.", lower_bound=0, upper_bound=65535
)
_COMPRESSION = flags.DEFINE_enum("compression", None, ["gzip"], "Compress requests; pictures are already.")
flags.adopt_module_key_flags(connection_flags)


def run() -> None:
    """Runs `mask-client` with the process' arguments, and ends the process."""
    run_app(_main, program=_PROGRAM, description=_DESCRIPTION, user_errors=(errors.MaskServingError,))


def _main(words: Sequence[str]) -> int:
    commands = {
        "segment": _segment,
        "status": _status,
        "metadata": _show_metadata,
        "bench": _bench,
        "playground": _playground,
    }
    name, *rest = words or [""]
    if name not in commands:
        given = f" {name!r}" if words else ""
        raise UsageError(f"no command{given}: it is one of {', '.join(commands)}")
    takes_images = name in ("segment", "bench")
    if takes_images and not rest:
        raise UsageError(f"{name} needs at least one image")
    if rest and not takes_images:
        raise UsageError(f"{name} takes no {rest[0]!r}")
    return commands[name](rest)


def _segment(words: Sequence[str]) -> int:
    if _OUT.value is None:
        raise UsageError("segment needs --out")
    job = SegmentJob(
        out=_OUT.value,
        product=_PRODUCT.value,
        threshold=_checked_threshold(),
        concurrency=_CONCURRENCY.value,
        batch_size=_BATCH_SIZE.value,
        format=_FORMAT.value,
        overwrite=_OVERWRITE.value,
        timeout_s=TIMEOUT.value,
        page=_PAGE.value,
        bands=_bands(),
    )
    inputs, problems, left_out = find_inputs(words, _OUT.value)
    try:
        work = plan_work(inputs, problems, words, job)
    except (errors.InvalidRequestError, errors.InvalidImageError) as error:
        raise UsageError(str(error)) from error
    with _client() as client:
        tally = segment_files(client, work, job, _report)
        refusals = client.refusals
    if _OUT.value != STANDARD:
        print(f"{tally} → {_OUT.value}")
    if refusals:
        _report(_refused(refusals))
    if left_out:
        _report(_left_out(left_out))
    return EXIT_FAILED if tally.failed else 0


def _left_out(paths: Sequence[str]) -> str:
    """Returns which files were no pictures by their names, in a line."""
    files = "1 file whose ending is" if len(paths) == 1 else f"{len(paths)} files whose endings are"
    more = f", and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"left out {files} no picture's: {', '.join(paths[:_NAMED])}{more}"


def _status(_: Sequence[str]) -> int:
    with _client() as client:
        try:
            statuses = client.status()
        except errors.ServerUnavailableError as error:
            explain_closed_port(error, ": --wait=SECONDS waits for that")
            raise
    rows = [dataclasses.asdict(status) | {"state": status.state.name} for status in statuses]
    if _JSON.value:
        print(json.dumps(rows))
        return 0
    print(f"{'version':>8}  state")
    for row in rows:
        is_coming = row["state"] in (ModelState.START.name, ModelState.LOADING.name)
        text = row["error_message"] or ("is loaded and warmed up; --wait=SECONDS waits for it" if is_coming else "")
        print(printable(f"{row['version']:>8}  {row['state']:<10} {text}".rstrip()))
    return 0


def _show_metadata(_: Sequence[str]) -> int:
    with _client() as client:
        metadata = client.metadata()
    if _JSON.value:
        print(json.dumps(dataclasses.asdict(metadata)))
        return 0
    version = f" version {metadata.version}" if metadata.version is not None else ""
    print(f"{metadata.model}{version}")
    for signature in metadata.signatures.values():
        print(f"\n{printable(signature.name)}")
        for title, specs in (("takes", signature.inputs), ("gives", signature.outputs)):
            for name, spec in specs.items():
                print(printable(f"  {title} {name:<20} {spec}"))
    return 0


def _bench(words: Sequence[str]) -> int:
    product = _PRODUCT.value
    if product not in contract.PRODUCTS:
        raise UsageError(f"--product={product} is made by the client: bench measures what servers make")
    inputs, problems, _ = find_inputs(words)
    if problems:
        raise errors.InvalidRequestError(problems[0])
    images = [read(one.path) for one in inputs[:1000]]
    with _client() as client:
        report = run_bench(
            client,
            images,
            seconds=_SECONDS.value,
            requests=_REQUESTS.value,
            concurrency=_CONCURRENCY.value,
            outputs=(product,),
            threshold=_checked_threshold(),
        )
    print(json.dumps(dataclasses.asdict(report)) if _JSON.value else _table(report))
    return EXIT_FAILED if report.errors else 0


def _playground(_: Sequence[str]) -> int:
    check_connection_flags(needs_model=False)
    # Loaded by this command alone.
    from ...playground.site import Served
    from .playground_command import PlaygroundServer

    def connect(target: Target) -> MaskClient:
        return _make_client(target, NO_RETRIES)  # the page has a button for that

    with _of_flags(), connect(Target("any")) as client:  # what is wrong with the flags is said now
        address = client.addresses[0]
    models = [name for name in (MODEL.value or "").split(",") if name]
    served = Served(address, models, VERSION.value, LABEL.value, address, needs_token=TOKEN_FILE.value is not None)
    with PlaygroundServer(_PORT.value, served, connect) as server:
        print(f"Playground of {address}: {server.url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _table(report: BenchReport) -> str:
    rows: list[tuple[str, Any]] = [
        ("images", f"{report.images} in {report.seconds:.1f} s, {report.concurrency} at one time"),
        ("rate", f"{report.images_per_s:.1f} images/s"),
        ("p50", f"{report.p50_ms:.1f} ms"),
        ("p90", f"{report.p90_ms:.1f} ms"),
        ("p99", f"{report.p99_ms:.1f} ms"),
        ("slowest", f"{report.max_ms:.1f} ms"),
        ("sent", f"{report.sent_bytes:,} bytes an image"),
        ("received", f"{report.received_bytes:,} bytes an image"),
    ]
    rows += [(name, f"{count} calls") for name, count in report.errors.items()]
    if report.refusals:
        rows.append(("busy", _refused(report.refusals)))
    return "\n".join(f"{name:<10}{value}" for name, value in rows)


def _refused(count: int) -> str:
    return (
        f"the server's threads were busy {count} times, so calls waited and fewer were made at one time: raise "
        "--grpc_max_threads of tensorflow_model_server, or lower --concurrency"
    )


def _client() -> MaskClient:
    check_connection_flags()
    with _of_flags():
        client = _make_client(Target(MODEL.value, VERSION.value, LABEL.value))
    if _WAIT.value is not None:
        _wait_until_ready(client)
    return client


def _make_client(target: Target, retries: RetryPolicy | None = None) -> MaskClient:
    options = {"compression": _COMPRESSION.value, "retries": retries, **client_options()}
    return MaskClient(_ADDRESS.value, target.model, target.version, target.label, **options)


@contextlib.contextmanager
def _of_flags() -> Iterator[None]:
    """Makes what a client finds wrong with its arguments a mistake of the command line."""
    try:
        yield
    except errors.InvalidAddressError as error:
        raise UsageError(f"--address: {error}") from error
    except errors.InvalidRequestError as error:
        raise UsageError(str(error)) from error


def _wait_until_ready(client: MaskClient) -> None:
    """Waits, and says what for."""
    started = time.monotonic()
    waited_for = []

    def report(text: str) -> None:
        waited_for.append(text)
        _report(f"{text} ({time.monotonic() - started:.0f} s)")

    client.wait_until_ready(_WAIT.value, on_wait=report)
    if waited_for:
        _report(f"ready after {time.monotonic() - started:.0f} s")


def _checked_threshold() -> float | None:
    threshold: float | None = _THRESHOLD.value
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold={threshold} is not from 0 to 1")
    if threshold is not None and _PRODUCT.value in (contract.PROBABILITY, contract.CLASS_MAP):
        raise UsageError(f"--threshold has no meaning for --product={_PRODUCT.value}")
    return threshold


def _bands() -> tuple[int, ...] | None:
    if _BANDS.value is None:
        return None
    try:
        bands = tuple(int(word) for word in _BANDS.value)
        as_choice(None, bands)
    except (ValueError, errors.InvalidRequestError) as error:
        raise UsageError(f"--bands={','.join(_BANDS.value)} is no list of whole numbers from 1 on") from error
    return bands


def _report(line: str) -> None:
    print(f"{_PROGRAM}: {line}", file=sys.stderr, flush=True)
