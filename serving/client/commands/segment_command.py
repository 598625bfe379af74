"""`mask-client segment`: pictures in, files out."""

import contextlib
import dataclasses
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ... import contract
from ...command_line import one_line
from .. import errors
from ..client import MaskClient
from ..results.files import JPEGS, check_file_form
from ..results.mask_result import MaskResult
from ..segmenting.plans import find_signature
from ..transport.signatures import ModelMetadata
from .inputs import IMAGE_ENDINGS, STANDARD, Input, output_paths, read

DERIVED_PRODUCTS = ("cutout", "overlay")
PRODUCTS = (contract.MASK, contract.MASKED_IMAGE, *DERIVED_PRODUCTS, contract.PROBABILITY, contract.CLASS_MAP)
FORMATS = ("png", "npy", "json", "webp", "tif", "jpg")
_FILE_ENDINGS = (*IMAGE_ENDINGS, *(f".{name}" for name in FORMATS))

# When so many calls in a row fail like this, it is not the pictures' fault.
HOPELESS = 10
HOPELESS_ERRORS = (
    errors.ServerUnavailableError,
    errors.ServerBusyError,
    errors.ModelNotFoundError,
    errors.ModelFaultError,
    errors.AccessDeniedError,
)
_CHECK_S = 5.0


@dataclasses.dataclass(frozen=True)
class SegmentJob:
    """What to do with the pictures."""

    out: str  # a file, a folder, or `-` for standard output
    product: str  # one of `PRODUCTS`
    threshold: float | None
    concurrency: int  # calls at one time
    batch_size: int  # small pictures to a call
    format: str  # of files in a folder, and of standard output
    overwrite: bool  # files that are there already
    timeout_s: float  # that any call may take
    page: int | None  # of files that hold several pictures, from 1
    bands: tuple[int, ...] | None  # channels to take of TIFF files, from 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is asked of any model for the product."""
        return asked_outputs(self.product, (), None)


@dataclasses.dataclass(frozen=True)
class Work:
    """Which pictures become which files."""

    targets: tuple[tuple[Input, Path | None], ...]  # None is standard output
    is_many: bool  # folders, patterns or several pictures were named, rather than one picture
    problems: tuple[str, ...]  # what is wrong with words that name no picture


@dataclasses.dataclass
class Tally:
    """What became of the pictures."""

    written: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return describe_counts(self.written, self.skipped, self.failed, self.seconds)


def describe_counts(written: int, skipped: int, failed: int, seconds: float) -> str:
    """Returns what became of pictures, and how fast, for people."""
    parts = [f"{written} written"]
    if skipped:
        parts.append(f"{skipped} skipped as they are there already (--overwrite makes them again)")
    if failed:
        parts.append(f"{failed} failed")
    if written and seconds > 0:
        parts.append(f"{written / seconds:.1f} images/s")
    return ", ".join(parts)


def segment_files(client: MaskClient, work: Work, job: SegmentJob, report_failure: Callable[[str], None]) -> Tally:
    """Masks pictures and writes a file for each; tells in one line of each picture that failed.

    Files appear under their names only when they are whole, so that a run that was stopped can be run again:
    it does what is missing. Raises `MaskServingError` where no picture can be masked (there is no server, or no such
    model), and `OSError` where standard output cannot be written.
    """
    # What would fail for every picture is found before the first. A busy server has its turn for each of them yet.
    metadata = None
    with contextlib.suppress(errors.ServerBusyError):
        metadata = client.metadata(timeout=min(_CHECK_S, job.timeout_s))
    started = time.monotonic()
    for problem in work.problems:
        report_failure(problem)
    # One picture that is named is always made; of many, a run that was stopped goes on.
    makes_all = job.overwrite or not work.is_many
    todo = [(one, target) for one, target in work.targets if target is None or makes_all or not _is_there(target)]
    tally = Tally(skipped=len(work.targets) - len(todo), failed=len(work.problems))
    in_a_row = 0
    # A generator; the type of `segment_many` promises less.
    items: Any = client.segment_many(
        (read(STANDARD) if one.path == STANDARD else one.path for one, _ in todo),
        job.threshold,
        asked_outputs(job.product, {_ending(target, job) for _, target in todo}, metadata, job.threshold),
        concurrency=job.concurrency,
        batch_size=job.batch_size,
        ordered=False,
        page=job.page,
        bands=job.bands,
    )
    with _progress(len(todo)) as advance, contextlib.closing(items):
        for item in items:
            picture, target = todo[item.index]
            error = item.error or _write(item.result, target, job)
            if error is None:
                tally.written += 1
                in_a_row = 0
            else:
                tally.failed += 1
                report_failure(_failure(picture.path, error))
                in_a_row = in_a_row + 1 if isinstance(error, HOPELESS_ERRORS) else 0
                if in_a_row >= HOPELESS:
                    raise error
            advance()
    tally.seconds = time.monotonic() - started
    return tally


def asked_outputs(
    product: str, endings: Collection[str], metadata: ModelMetadata | None, threshold: float | None = None
) -> tuple[str, ...]:
    """Returns what to ask of a model for a product that is saved in files of some endings.

    A masked image for JPEG files is asked for as such of a model that makes it.
    """
    if product in DERIVED_PRODUCTS:
        return (contract.MASK,)
    if product == contract.MASKED_IMAGE and metadata and endings and set(endings) <= JPEGS:
        at_threshold = threshold is not None
        if find_signature(metadata, contract.MASKED_IMAGE_JPEG, encoded=True, at_threshold=at_threshold):
            return (contract.MASKED_IMAGE_JPEG,)
    return (product,)


def _ending(target: Path | None, job: SegmentJob) -> str:
    return f".{job.format}" if target is None else target.suffix.lower()


def plan_work(inputs: Sequence[Input], problems: Sequence[str], words: Sequence[str], job: SegmentJob) -> Work:
    """Returns which of the pictures that `inputs.find_inputs` found for some words become which files.

    Raises `InvalidRequestError` or `InvalidImageError` where these, the output and the product make no sense together.
    """
    is_many = len(inputs) > 1 or list(words) != [inputs[0].path]
    targets = tuple(_targets(inputs, job, is_many))
    for ending in {_ending(target, job) for _, target in targets}:
        check_file_form(ending, job.product)
        if ending == ".json" and contract.MASK not in job.outputs:
            raise errors.InvalidRequestError(
                f"a .json file holds what a mask comes to, which a {job.product} has none of"
            )
    return Work(targets, is_many, tuple(problems))


def _targets(inputs: Sequence[Input], job: SegmentJob, is_many: bool) -> Iterator[tuple[Input, Path | None]]:
    out = Path(job.out)
    is_marked = job.out.endswith(os.sep)
    not_one = (
        f"and there are {len(inputs)} images" if len(inputs) > 1 else "and a folder or pattern may hold many images"
    )
    if job.out == STANDARD:
        if len(inputs) > 1:
            raise errors.InvalidRequestError(f"{len(inputs)} images cannot all go to standard output")
        yield inputs[0], None
    elif is_many or out.is_dir() or is_marked or not out.suffix:
        if out.exists() and not out.is_dir():
            wanted = f"is a file, {not_one}" if is_many else "is no folder, and has no ending"
            raise errors.InvalidRequestError(f"--out={job.out} {wanted}")
        if out.suffix.lower() in _FILE_ENDINGS and not out.is_dir() and not is_marked:
            raise errors.InvalidRequestError(f"--out={job.out} names a file, {not_one}")
        yield from zip(inputs, output_paths(inputs, out, f".{job.format}"), strict=True)
    elif inputs[0].path != STANDARD and out.exists() and out.samefile(inputs[0].path):
        raise errors.InvalidRequestError(f"--out={job.out} is the image itself")
    else:
        yield inputs[0], out


def _is_there(target: Path) -> bool:
    """Returns whether an earlier run wrote this file; a folder of that name is none."""
    return os.path.isfile(target) and os.path.getsize(target) > 0


def _failure(name: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    text = one_line(error)
    return text if name in text else f"{name}: {text}"


def _write(result: MaskResult, target: Path | None, job: SegmentJob) -> Exception | None:
    """Writes one result; returns what went wrong with this picture alone."""
    try:
        if target is None:
            if sys.stdout is None:
                raise errors.InvalidRequestError("standard output is closed")
            sys.stdout.buffer.write(result.encode(f".{job.format}", job.product))
            sys.stdout.buffer.flush()
        else:
            _save_whole(result, target, job.product)
    except errors.MaskServingError as error:
        return error
    except OSError as error:
        if target is None:
            raise
        return OSError(error.errno, f"cannot write {target}: {error.strerror or error}")
    return None


def _save_whole(result: MaskResult, target: Path, product: str) -> None:
    """Saves a result so that its file is there whole or not at all."""
    # Hidden, so that nobody takes it for a picture; of the same ending, which says how to save; and short, as
    # the file's own name may be as long as names can be.
    # No other process has the name, be it of another machine that shares the folder.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp{target.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        result.save(temporary, product)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar on stderr where a person watches and there is something to wait for."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, TextColumn("{task.fields[rate]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task("masking", total=total, rate="")
        started = time.monotonic()

        def advance() -> None:
            rate = (progress.tasks[0].completed + 1) / max(time.monotonic() - started, 1e-3)
            progress.update(task, advance=1, rate=f"{rate:.1f} images/s")

        yield advance
