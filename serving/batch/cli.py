"""`mask-batch`: masks of any number of pictures, as an Apache Beam job."""

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags, logging

from ..client import errors
from ..client.commands import connection_flags
from ..client.commands.connection_flags import LABEL, MODEL, VERSION, check_connection_flags, client_options
from ..client.commands.segment_command import FORMATS, PRODUCTS
from ..command_line import EXIT_FAILED, EXIT_OK, UsageError, check_installed, run_app
from ..contract import MASK

_PROGRAM = "mask-batch"
_DESCRIPTION = """\
Masks any number of pictures as an Apache Beam job: here, or on Flink, Spark and Dataflow.

    mask-batch --input='photos/**/*.jpg' --output=masks/ --address=grpc://HOST:8500 --model=NAME
    mask-batch --input='photos/**/*.jpg' --output=masks/ --model=served/NAME/3
    mask-batch --input='gs://photos/**/*.jpg' --output=gs://masks/ --model=gs://models/NAME \\
        --runner=DataflowRunner --region=europe-west4 --temp_location=gs://…

With --address the model is one on a server; without, --model is the directory of a SavedModel, which each worker
loads. --input is any pattern that Beam reads, or a folder; it may be repeated. --output gets RELATIVE/NAME.png for each
picture, manifest.parquet with a row for each, and dead_letters.parquet with those that failed, which stop nothing.
Run it again to go on where it was stopped: what is there and unchanged is left as it is. Flags that are Beam's
(--runner, --direct_num_workers, …) go to Beam; any words after -- do too.

Exit codes: 0 all done, 1 something failed, 2 the command line makes no sense."""

_INPUT = flags.DEFINE_multi_string("input", [], "Pattern of pictures, such as 'photos/**/*.jpg'; may be repeated.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for masks, manifest and dead letters.")
_ADDRESS = flags.DEFINE_list(
    "address",
    None,
    "grpc://HOST:8500, grpcs://, http://HOST:8501, https:// or unix:///PATH of a server; several, with commas, share "
    "the calls. Without it --model is a SavedModel's directory.",
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "0 to 1; the one of the export unless it is given.")
_PRODUCT = flags.DEFINE_enum("product", MASK, PRODUCTS, "What to make of each picture.")
_FORMAT = flags.DEFINE_enum("format", "png", FORMATS, "Form of the files.")
_PAGE = flags.DEFINE_integer("page", None, "Of files that hold several pictures; from 1.", lower_bound=1)
_BANDS = flags.DEFINE_list(
    "bands", None, "Channels to take of TIFF files, from 1, in the model's order; such as 4,3,2."
)
_COCO = flags.DEFINE_string(
    "coco",
    None,
    "Path of a JSON file in COCO's form to write too, of the masks that are made so, such as masks/coco.json.",
)
_SHARDS = flags.DEFINE_integer(
    "shards", 1, "Files that the tables are spread over, where there are millions of pictures.", lower_bound=1
)
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Make masks again that are there already.")
_CONCURRENCY = flags.DEFINE_integer(
    "concurrency",
    None,
    "Pictures that each worker process works on at one time; 8 with --address, else one more than there are cores.",
    lower_bound=1,
    upper_bound=1024,
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Pictures that Beam hands to a worker together.", lower_bound=1)
_CALL_SIZE = flags.DEFINE_integer("call_size", 1, "Pictures to a call, where they are small.", lower_bound=1)
_COMPRESSION = flags.DEFINE_enum("compression", None, ["gzip"], "Compress requests; pictures are already.")
flags.adopt_module_key_flags(connection_flags)


def run() -> None:
    """Runs `mask-batch` with the process' arguments, and ends the process."""
    try:
        run_app(
            _main,
            program=_PROGRAM,
            description=_DESCRIPTION,
            user_errors=(errors.MaskServingError,),
            extra="batch",
            verbosity=logging.ERROR,  # Beam and its workers warn of what is theirs
            argv=[sys.argv[0], *_with_separator(sys.argv[1:])],
        )
    except SystemExit as ended:
        if "apache_beam" not in sys.modules:
            raise
        # Beam leaves threads in gRPC's native code, of which one can abort the process, with all work done, as Python
        # takes itself apart. So that is left out, as in the processes of `multiprocessing`.
        atexit._run_exitfuncs()
        sys.stderr.flush()  # standard output is, as it could fail
        os._exit(ended.code if isinstance(ended.code, int) else EXIT_OK)


def _with_separator(words: Sequence[str]) -> list[str]:
    """Returns the words with those that are Beam's at the end, after `--`."""
    own = [*words[: words.index("--")]] if "--" in words else list(words)
    rest = list(words[len(own) + 1 :])
    unknown = [word for word in own if word.startswith("--") and not _is_own(word)]
    if not unknown:
        return [*own, "--", *rest]
    theirs: list[str] = []
    from .runner_flags import runner_flags

    names = runner_flags()
    for word in unknown:
        name, has_value, _ = word.partition("=")
        if name not in names:
            continue  # a mistake, of which absl tells
        position = own.index(word)
        takes_next = names[name] and not has_value and position + 1 < len(own)
        theirs += own[position : position + 1 + takes_next]
        del own[position : position + 1 + takes_next]
    return [*own, "--", *theirs, *rest]


def _is_own(word: str) -> bool:
    name = word[2:].partition("=")[0].replace("-", "_")
    return (
        name in flags.FLAGS or name.removeprefix("no") in flags.FLAGS or name in ("help", "helpshort", "helpfull", "h")
    )


def _main(words: Sequence[str]) -> int:
    patterns = [pattern for pattern in _INPUT.value if pattern]
    for flag, value in (("input", patterns), ("output", _OUTPUT.value), ("model", MODEL.value)):
        if not value:
            raise UsageError(f"--{flag} is missing")
    check_installed("pyarrow")
    check_installed("apache_beam")
    from .bookkeeping.records import MaskOptions
    from .job import BatchError, BatchJob, run_job
    from .mask_images import check_options

    options = MaskOptions(_PRODUCT.value, _THRESHOLD.value, _FORMAT.value, _PAGE.value, _bands())
    try:
        check_options(options)
    except errors.MaskServingError as error:
        raise UsageError(str(error)) from error
    sizes = {"concurrency": _CONCURRENCY.value, "batch_size": _BATCH_SIZE.value, "call_size": _CALL_SIZE.value}
    job = BatchJob(
        patterns,
        _OUTPUT.value,
        _model(),
        {**vars(options), **sizes},
        coco=_COCO.value,
        shards=_SHARDS.value,
        overwrites=_OVERWRITE.value,
    )
    try:
        with _progress() as tell:
            summary = run_job(job, list(words), tell)
    except BatchError as error:
        _report(str(error))
        return EXIT_FAILED
    print(f"{summary} → {_OUTPUT.value}")
    if summary.failed:
        from .bookkeeping.tables import first_failure

        count = f"{summary.failed} of {summary.pictures} pictures failed"
        _report(f"{count}, such as {first_failure(job.output)}; the dead letters in {job.output} have them all")
    return EXIT_FAILED if summary.failed else EXIT_OK


def _model() -> Any:
    from .models import LocalModel, ServedModel

    if _ADDRESS.value is None:
        if VERSION.value is not None or LABEL.value is not None:
            raise UsageError(
                "--version and --label are a server's: name the version's directory with --model, or --address"
            )
        return LocalModel(MODEL.value)
    check_connection_flags()
    given = {**client_options(), "compression": _COMPRESSION.value}
    model = ServedModel(",".join(_ADDRESS.value), MODEL.value, VERSION.value, LABEL.value, given)
    try:
        model.connect().close()
    except errors.InvalidAddressError as error:
        raise UsageError(f"--address: {error}") from error
    except errors.InvalidRequestError as error:
        raise UsageError(str(error)) from error
    return model


def _bands() -> tuple[int, ...] | None:
    try:
        return None if _BANDS.value is None else tuple(int(word) for word in _BANDS.value)
    except ValueError as error:
        raise UsageError(f"--bands={','.join(_BANDS.value)} is no list of whole numbers from 1 on") from error


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Shows a bar on stderr where a person watches."""
    if not sys.stderr.isatty():
        yield lambda what, count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .watching import DONE, PLANNED

    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, TextColumn("{task.fields[rate]}"), console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("masking", total=0, rate="")
        started = time.monotonic()

        def tell(what: str, count: int) -> None:
            row = progress.tasks[0]
            if what == PLANNED:
                progress.update(task, total=(row.total or 0) + count)
            elif what == DONE:
                rate = (row.completed + count) / max(time.monotonic() - started, 1e-3)
                progress.update(task, advance=count, rate=f"{rate:.1f} images/s")

        yield tell


def _report(line: str) -> None:
    print(f"{_PROGRAM}: {line}", file=sys.stderr, flush=True)
