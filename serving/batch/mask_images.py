"""The transform: pictures in, masks out, in anyone's pipeline."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference
from apache_beam.utils.windowed_value import WindowedValue

from ..client.commands.segment_command import FORMATS, PRODUCTS
from ..client.errors import InvalidRequestError
from ..client.pictures.channels import as_choice
from ..client.results.files import check_file_form
from ..client.segmenting.plans import check_threshold
from ..contract import CLASS_MAP, MASK, PROBABILITY
from .bookkeeping.journal import Journal
from .bookkeeping.naming import Naming
from .bookkeeping.records import MaskOptions, Record
from .inference import MaskHandler, Wanted, default_concurrency
from .models import Model
from .watching import DONE, watch_of

BATCH_SIZE = 16
_FAILED = "failed"
_WRITTEN_BYTES = 16 << 20
"""Masks held back together are no more than this, and one."""


class MaskedImages(NamedTuple):
    """What comes out of `MaskImages`: `Record`s of pictures that were masked, and of those that failed."""

    masks: Any
    failed: Any


class MaskImages(beam.PTransform):  # type: ignore[misc]
    """Masks pictures, given by their paths on any file system that Beam knows.

    Elements are paths, or what `apache_beam.io.fileio.MatchFiles` finds. A picture that cannot be masked comes out
    under `failed` and stops nothing. The model runs in Beam's own `RunInference`: loaded, or connected to, once per
    worker process, on batches that Beam forms. Elements keep their windows and times.

    Args:
        model: `ServedModel` or `LocalModel`.
        output: the folder for the masks' files, each of which appears when it is whole, as `NAME.EXT.png` below the
            picture's folder seen from `base`; None leaves them in the records, as `content`.
        base: the folder that pictures' paths are seen from; empty for their whole paths.
        product: what to make of each picture; see `MaskOptions`.
        threshold: likewise.
        format: likewise.
        page: likewise.
        bands: likewise.
        concurrency: pictures that each worker process works on at one time; None is 8 for a served model, and one
            more than there are cores for one that is loaded.
        batch_size: pictures that Beam hands on together.
        call_size: pictures that go to the model in one call, where they are small.
        job: name of the job that this is a part of: records are kept beside the masks until it ends; see `Journal`.

    Raises:
        InvalidRequestError: an argument makes no sense.
    """

    def __init__(
        self,
        model: Model,
        output: str | None = None,
        *,
        base: str = "",
        product: str = MASK,
        threshold: float | None = None,
        format: str = "png",  # noqa: A002
        page: int | None = None,
        bands: Sequence[int] | None = None,
        concurrency: int | None = None,
        batch_size: int = BATCH_SIZE,
        call_size: int = 1,
        job: str = "",
    ):
        super().__init__()
        self.options = MaskOptions(product, threshold, format, page, None if bands is None else tuple(bands))
        check_options(self.options)
        self._output, self._job = output, job
        self._naming = Naming([f"{base.rstrip('/')}/" if base else ""], output or "", f".{format}")
        self._handler = MaskHandler(
            model,
            self.options,
            concurrency=concurrency or default_concurrency(model),
            batch_size=batch_size,
            call_size=call_size,
            job=job,
        )

    def expand(self, pictures: Any) -> Any:
        """Masks paths, `FileMetadata` or `Wanted`; gives `MaskedImages`."""
        records = pictures | beam.Map(self._wanted) | RunInference(self._handler)
        commit = beam.ParDo(_Commit(self._output, self._job)).with_outputs(_FAILED, main="masks")
        done = records | "write" >> commit
        return MaskedImages(done["masks"], done[_FAILED])

    def _wanted(self, picture: Any) -> Wanted:
        if isinstance(picture, Wanted):
            return picture
        uri, size, modified = picture, 0, 0.0
        if isinstance(picture, FileMetadata):
            uri, size = picture.path, picture.size_in_bytes
            modified = picture.last_updated_in_seconds
        target = (
            f"{self._output.rstrip('/')}/{self._naming.relative(uri)}.{self.options.format}" if self._output else None
        )
        return Wanted(uri, target, size, modified)


def check_options(options: MaskOptions) -> None:
    """Raises `InvalidRequestError` or `InvalidImageError` where options make no sense, alone or together."""
    for name, value, known in (("product", options.product, PRODUCTS), ("format", options.format, FORMATS)):
        if value not in known:
            raise InvalidRequestError(f"there is no {name} {value!r}", hint=f"there are: {', '.join(known)}")
    if options.threshold is not None:
        check_threshold(options.threshold)
        if options.product in (PROBABILITY, CLASS_MAP):
            raise InvalidRequestError(f"a threshold has no meaning for {options.product}")
    as_choice(options.page, options.bands)
    check_file_form(f".{options.format}", options.product)
    if options.format == "json" and options.product in (PROBABILITY, CLASS_MAP, "masked_image"):
        raise InvalidRequestError(f"a .json file holds what a mask comes to, which a {options.product} has none of")


class _Commit(beam.DoFn):  # type: ignore[misc]
    """Writes masks and their records, some at a time, and counts them."""

    def __init__(self, output: str | None, job: str):
        super().__init__()
        self._journal = Journal(output, job, keeps=bool(job)) if output else None
        self._job = job
        self._held: list[tuple[Record, Any, Any]] = []
        self._counts = {name: Metrics.counter("maskport", name) for name in ("masked", "failed", "unchanged")}
        names = ("picture_bytes", "mask_bytes", "milliseconds", "foreground_percent")
        self._spreads = {name: Metrics.distribution("maskport", name) for name in names}

    def start_bundle(self) -> None:
        self._held = []

    def process(
        self, record: Record, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        self._held.append((record, timestamp, window))
        size = sum(len(held.content or b"") for held, _, _ in self._held)
        return self._flush() if len(self._held) >= BATCH_SIZE or size > _WRITTEN_BYTES else ()

    def finish_bundle(self) -> Iterable[Any]:
        return self._flush()

    def _flush(self) -> Iterator[Any]:
        held, self._held = self._held, []
        records = [record for record, _, _ in held]
        if self._journal is not None and records:
            try:
                records = self._journal.write(records)
            except OSError as error:
                raise watch_of(self._job).fail(error) from error
        for record, (_, timestamp, window) in zip(records, held, strict=True):
            self._count(record)
            kept = record if self._journal is None else record.without_content()
            value = WindowedValue(kept, timestamp, (window,))
            yield value if record.error is None else beam.pvalue.TaggedOutput(_FAILED, value)
        watch_of(self._job).tell(DONE, len(records))

    def _count(self, record: Record) -> None:
        if record.error is not None:
            self._counts["failed"].inc()
            return
        if record.content is None:
            self._counts["unchanged"].inc()
            return
        self._counts["masked"].inc()
        self._spreads["picture_bytes"].update(record.size)
        self._spreads["mask_bytes"].update(record.mask_size or 0)
        self._spreads["milliseconds"].update(round(record.milliseconds or 0))
        if record.foreground_share is not None:
            self._spreads["foreground_percent"].update(round(100 * record.foreground_share))
