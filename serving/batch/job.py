"""The whole job: from patterns to masks, manifest and dead letters, on whatever runs Beam's pipelines."""

import contextlib
import dataclasses
import io
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.fileio import EmptyMatchTreatment
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineState

from ..client.client import MaskClient
from ..client.commands.segment_command import describe_counts
from ..client.errors import InvalidRequestError, MaskServingError
from ..command_line import one_line
from .bookkeeping import files
from .bookkeeping.journal import Journal
from .bookkeeping.naming import Naming, as_utf_8
from .bookkeeping.tables import DEAD_LETTERS_NAME, MANIFEST_NAME, WriteCoco, WriteTables, find_tables, table_name
from .mask_images import MaskImages
from .models import Model, identity_of
from .planning import PlanMasks
from .watching import Watch, watching

_LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner", "")


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """What to do.

    Attributes:
        patterns: of pictures, as Beam reads them; a folder is all that is in it, and `**/` is any folder or none.
        output: the folder that everything is written to.
        model: that makes the masks.
        masks: the arguments of `MaskImages`, such as `threshold`.
        coco: path of a JSON file in COCO's form, of masks made as this job makes them; None writes none.
        shards: files that each table is spread over.
        overwrites: whether everything is done again.
    """

    patterns: Sequence[str]
    output: str
    model: Model
    masks: dict[str, Any] = dataclasses.field(default_factory=dict)
    coco: str | None = None
    shards: int = 1
    overwrites: bool = False


@dataclasses.dataclass
class Summary:
    """What became of the pictures."""

    masked: int = 0
    skipped: int = 0  # as an earlier run had done them
    failed: int = 0
    pictures: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return describe_counts(self.masked, self.skipped, self.failed, self.seconds)


class BatchError(Exception):
    """A job failed in the runner, which says why."""


def run_job(job: BatchJob, runner_words: Sequence[str] = (), tell: Callable[[str, int], None] | None = None) -> Summary:
    """Runs a job to its end, and returns what became of the pictures.

    Args:
        job: what to do.
        runner_words: options of Beam's, such as `--runner=FlinkRunner`; without a runner it is this process.
        tell: called, where the workers are in this process, when pictures are planned and when they are done.

    Raises:
        InvalidRequestError: there is no picture, or an option makes no sense.
        MaskServingError: the model cannot be reached or loaded, or is gone.
        OSError: what is to be written cannot be.
        BatchError: the runner failed by itself.
    """
    run = _Run(job, runner_words)
    with contextlib.ExitStack() as stack:
        if run.is_local:
            # Held to the end, so that a model that is loaded here is loaded once.
            stack.enter_context(run.check())
        return run.run(tell or (lambda what, count: None))


class _Run:
    """One run of a job."""

    def __init__(self, job: BatchJob, runner_words: Sequence[str]):
        self._job, self._words = job, runner_words
        self._options = PipelineOptions(list(runner_words))
        self.is_local = (self._options.view_as(StandardOptions).runner or "") in _LOCAL_RUNNERS
        if not all(job.patterns):
            raise InvalidRequestError("an empty pattern means no picture")
        for path in (*job.patterns, job.output, job.coco or ""):
            if as_utf_8(path) != path:
                raise InvalidRequestError(f"{as_utf_8(path)} is not UTF-8, which the tables' text is")
        self._patterns = [form for pattern in job.patterns for form in _forms(pattern)]
        self._name = uuid.uuid4().hex
        self._transform = MaskImages(job.model, job.output, **job.masks, job=self._name)
        made = self._transform.options
        if job.coco is not None and (made.product, made.format) != ("mask", "png"):
            raise InvalidRequestError("COCO's JSON is made of masks as PNG files, which are not what is asked for")
        self._naming = Naming(self._patterns, job.output, f".{made.format}")
        self._journal = Journal(job.output)

    def check(self) -> MaskClient:
        """Finds what would fail for every picture; returns a client of the model, which answers."""
        if not any(self._naming.is_picture(one.path) for pattern in self._patterns for one in files.find(pattern)):
            raise _no_picture(self._job.patterns)
        probe = files.join(self._journal.folder, f"probe{files.TEMPORARY}")
        client = self._job.model.connect()
        try:
            identity_of(client)
            files.write(probe, b"")
            files.remove([probe])
        except BaseException as error:
            client.close()
            if isinstance(error, OSError):
                found = files.plain_error(error)
                raise OSError(f"cannot write to {self._job.output}: {found.strerror or found}") from error
            raise
        return client

    def run(self, tell: Callable[[str, int], None]) -> Summary:
        """Runs the pipeline, and tidies up."""
        self._journal.recover()
        before = find_tables(self._job.output, MANIFEST_NAME) + self._journal.record_files()
        try:
            pipeline = beam.Pipeline(runner=self._local_runner() if self.is_local else None, options=self._options)
        except ValueError as error:  # an unknown runner, or options that make no sense for it
            raise InvalidRequestError(str(error)) from error
        self._build(pipeline, before)
        started = time.monotonic()
        try:
            with _quiet_beam(), watching(self._name, tell) as watch:
                try:
                    result = pipeline.run()
                    state = result.wait_until_finish()
                except Exception as error:
                    raise _reason(error, watch) from error
        except BaseException:
            with contextlib.suppress(OSError):
                self._journal.recover()
            raise
        if state not in (PipelineState.DONE, None):
            raise BatchError(f"the runner ended the job as {state}")
        summary = _summary(result, time.monotonic() - started)
        self._clean_up()
        if not summary.pictures and not self.is_local:
            raise _no_picture(self._job.patterns)
        return summary

    def _build(self, pipeline: Any, before: list[str]) -> None:
        job = self._job
        planned = (
            pipeline
            | "patterns" >> beam.Create(self._patterns)
            | "find" >> fileio.MatchAll(EmptyMatchTreatment.ALLOW)
            | "plan"
            >> PlanMasks(
                job.model,
                self._transform.options,
                self._naming,
                before,
                overwrites=job.overwrites,
                job=self._name,
            )
        )
        masked = planned.wanted | "mask" >> self._transform
        records = (masked.masks, masked.failed, planned.kept)
        _ = (*records, planned.others) | "tables" >> WriteTables(job.output, job.shards, self._name)
        if job.coco is not None:
            _ = records | "coco" >> WriteCoco(job.output, job.coco, self._naming, self._name)

    def _local_runner(self) -> FnApiRunner:
        """Returns Beam's runner in this process: Beam's own choice would look for another one on the internet first.

        Unless it is told otherwise, two threads work on bundles: one can read or write while another waits for masks.
        """
        direct = self._options.view_as(DirectOptions)
        if not any(word.startswith(("--direct_num_workers", "--direct_running_mode")) for word in self._words):
            direct.direct_num_workers, direct.direct_running_mode = 2, "multi_threading"
        return FnApiRunner()

    def _clean_up(self) -> None:
        """Removes what the new manifest has taken the place of."""
        self._journal.remove(self._journal.record_files())
        for name in (MANIFEST_NAME, DEAD_LETTERS_NAME):
            now = {table_name(name, shard, self._job.shards) for shard in range(self._job.shards)}
            files.remove([one for one in find_tables(self._job.output, name) if os.path.basename(one) not in now])


def _forms(pattern: str) -> list[str]:
    """Returns the patterns that Beam needs for what a user means by one."""
    forms = [pattern]
    if files.is_local(pattern) and os.path.isdir(pattern):
        forms = [files.join(files.literal(pattern), "**")]
    elif files.is_local(pattern) and os.path.lexists(pattern):  # a name may read like a pattern
        forms = [files.literal(pattern)]
    elif "/**/" in pattern or pattern.startswith("**/"):  # Beam's is at least one folder
        forms.append(pattern.replace("**/", "", 1))
    return [files.rooted(form) for form in forms]


def _no_picture(patterns: Sequence[str]) -> InvalidRequestError:
    return InvalidRequestError(
        f"{', '.join(patterns)}: there is no image", hint="a pattern is such as 'photos/**/*.jpg', in quotation marks"
    )


def _reason(error: Exception, watch: Watch) -> Exception:
    """Returns the error that a job ended with, which Beam shows as a traceback of its worker's."""
    found = watch.error
    if isinstance(found, MaskServingError | OSError | ModuleNotFoundError):
        return found
    lines = [line for line in str(error).splitlines() if line.strip()]
    return BatchError(one_line(Exception(lines[-1] if lines else type(error).__name__)))


def _summary(result: Any, seconds: float) -> Summary:
    found = result.metrics().query(MetricsFilter().with_namespace("maskport"))["counters"]
    counts = {counter.key.metric.name: 0 for counter in found}
    for counter in found:  # of one name, in several steps
        counts[counter.key.metric.name] += int(counter.result or 0)
    return Summary(
        masked=counts.get("masked", 0),
        skipped=counts.get("skipped", 0) + counts.get("unchanged", 0),
        failed=counts.get("failed", 0),
        pictures=counts.get("pictures", 0),
        seconds=seconds,
    )


@contextlib.contextmanager
def _quiet_beam() -> Iterator[None]:
    """Keeps Beam from telling what its workers raise, of which one line is told; after Ctrl-C some still raise."""
    logger, stderr = logging.getLogger("apache_beam"), sys.stderr
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.stderr = _OneVoice(stderr)
    logging.getLogger().addFilter(_is_not_beams)  # some of it speaks as nobody in particular
    error: Exception | None = None
    try:
        yield
    except Exception as found:
        error = found
    sys.stderr = stderr
    logger.setLevel(level)
    logging.getLogger().removeFilter(_is_not_beams)
    if error is not None:
        raise error


def _is_not_beams(record: logging.LogRecord) -> bool:
    return "apache_beam" not in record.pathname


class _OneVoice(io.TextIOBase):
    """Standard error of one thread, this one: Beam's workers print their errors too."""

    def __init__(self, stream: TextIO):
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        """Writes what the thread says, and nothing of others."""
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Returns the stream's descriptor."""
        return self._stream.fileno()
