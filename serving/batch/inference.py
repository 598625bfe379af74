"""Beam's RunInference over pictures: the model handler, and the model as a worker process has it."""

import contextlib
import dataclasses
import hashlib
import io
import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from .. import contract
from ..client import errors
from ..client.client import MaskClient
from ..client.commands.segment_command import DERIVED_PRODUCTS, HOPELESS, HOPELESS_ERRORS, asked_outputs
from ..client.results.mask_result import MaskResult
from ..command_line import one_line
from .bookkeeping import files
from .bookkeeping.records import MaskOptions, Record
from .models import LocalModel, Model, identity_of
from .watching import watch_of

_HOPELESS = (*HOPELESS_ERRORS, errors.SignatureNotFoundError)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One picture to be masked.

    Attributes:
        uri: its path.
        target: where its file goes; None where it is only handed on.
        size: in bytes, where it was listed.
        modified: when it was changed last; 0 where that is not known.
        before: what an earlier run made of it, which counts if the picture has still the same bytes.
    """

    uri: str
    target: str | None = None
    size: int = 0
    modified: float = 0.0
    before: Record | None = None


class MaskHandler(ModelHandler[Wanted, Record, "Masker"]):  # type: ignore[misc]
    """Masks pictures by a model that is loaded, or connected to, once per worker process.

    Pictures are read, masked and encoded by a few threads of the process, so that no more than those are in memory at
    one time, however many Beam puts into a batch. A picture that fails has its error in its record.

    Args:
        model: which.
        options: what to make of the pictures.
        concurrency: pictures, or groups of them, that are worked on at one time in a process.
        batch_size: pictures that Beam puts into a batch.
        call_size: small pictures of a batch that go to the model in one call.
        job: name of the job that watches, if one does.
    """

    def __init__(
        self,
        model: Model,
        options: MaskOptions,
        *,
        concurrency: int,
        batch_size: int,
        call_size: int = 1,
        job: str = "",
    ):
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._wanted_model, self._options = model, options
        self._concurrency, self._call_size, self._job = concurrency, call_size, job

    def load_model(self) -> "Masker":
        """Loads or connects to the model."""
        try:
            return Masker(self._wanted_model, self._options, self._concurrency, self._job)
        except (errors.MaskServingError, OSError, ModuleNotFoundError) as error:
            raise watch_of(self._job).fail(error) from error

    def run_inference(
        self, batch: Sequence[Wanted], model: "Masker", inference_args: dict[str, Any] | None = None
    ) -> Iterable[Record]:
        """Returns the records of pictures in their order; raises the error of a server or model that is gone."""
        groups = [batch[start : start + self._call_size] for start in range(0, len(batch), self._call_size)]
        running = [model.submit(group) for group in groups]
        try:
            return [record for future in running for record in future.result()]
        except Exception as error:
            raise watch_of(self._job).fail(error) from error
        finally:
            for future in running:
                future.cancel()

    def get_num_bytes(self, batch: Sequence[Wanted]) -> int:
        """Returns the size of a batch's files, as far as it is known."""
        return sum(wanted.size for wanted in batch)

    def get_metrics_namespace(self) -> str:
        """Returns where Beam's own figures on inference are found."""
        return "maskport"


class Masker:
    """A model in a worker process, and the threads that call it."""

    def __init__(self, model: Model, options: MaskOptions, concurrency: int, job: str):
        self._options, self._job = options, job
        self._client = model.connect()
        try:
            self._identity = identity_of(self._client)
        except BaseException:
            self._client.close()
            raise
        self._fingerprint = self._identity.with_options(options)
        endings = [f".{options.format}"]
        self._outputs = asked_outputs(options.product, endings, self._client.metadata(), options.threshold)
        self._threads = futures.ThreadPoolExecutor(concurrency, "mask-batch")
        self._in_a_row = 0
        self._lock = threading.Lock()
        # Beam lets go of a model without a word.
        weakref.finalize(self, _close, self._threads, self._client)
        watch_of(job).add(self)

    def close(self) -> None:
        """Ends what is on its way."""
        _close(self._threads, self._client)

    def submit(self, group: Sequence[Wanted]) -> "futures.Future[list[Record]]":
        """Begins to mask pictures that are sent together, in one of the threads."""
        return self._threads.submit(self._mask, group)

    def _mask(self, group: Sequence[Wanted]) -> list[Record]:
        watch_of(self._job).check()
        records: dict[int, Record] = {}
        sources: list[Any] = []
        for index, wanted in enumerate(group):
            record, source = self._read(wanted)
            records[index] = record
            if source is not None:
                sources.append((index, source))
        items = self._client.segment_many(
            [source for _, source in sources],
            self._options.threshold,
            self._outputs,
            concurrency=1,
            batch_size=len(group),
            page=self._options.page,
            bands=self._options.bands,
        )
        for item in items:
            index = sources[item.index][0]
            error = item.error
            if item.result is not None:
                try:
                    records[index] = self._answered(records[index], item.result)
                except errors.MaskServingError as found:
                    error = found
                except (OSError, SyntaxError, ValueError, zlib.error) as found:  # of Pillow
                    error = errors.InvalidResponseError(f"the {self._options.product} in the answer: {found}")
            self._count_hopeless(error)
            if error is not None:
                records[index] = failed(records[index], error)
        return [records[index] for index in range(len(group))]

    def _read(self, wanted: Wanted) -> tuple[Record, "_NamedFile | None"]:
        """Returns what is known of a picture that is read, and its file where it is to be masked."""
        record = Record(
            uri=wanted.uri,
            mask=wanted.target,
            size=wanted.size,
            modified=wanted.modified,
            hash="",
            model=self._identity.model,
            version=self._identity.version,
            threshold=self._threshold,
            options=self._fingerprint,
        )
        try:
            data = files.read(wanted.uri)
        except OSError as error:
            return failed(record, files.plain_error(error)), None
        record = dataclasses.replace(record, size=len(data), hash=hashlib.sha256(data).hexdigest())
        if wanted.before is not None and wanted.before.hash == record.hash:
            return dataclasses.replace(wanted.before, modified=wanted.modified), None
        return record, _NamedFile(data, wanted.uri)

    @property
    def _threshold(self) -> float | None:
        if self._options.product not in (*contract.THRESHOLDED_PRODUCTS, *DERIVED_PRODUCTS):
            return None
        return self._identity.threshold if self._options.threshold is None else self._options.threshold

    def _answered(self, record: Record, result: MaskResult) -> Record:
        content = result.encode(f".{self._options.format}", self._options.product)
        height, width = result.size or (None, None)
        area = result.area if self._options.product in (contract.MASK, *DERIVED_PRODUCTS) else None
        return dataclasses.replace(
            record,
            version=record.version if result.version is None else result.version,
            height=height,
            width=width,
            area=area,
            foreground_share=area / (height * width) if area is not None and height and width else None,
            milliseconds=1000 * result.seconds,
            mask_size=len(content),
            content=content,
        )

    def _count_hopeless(self, error: Exception | None) -> None:
        """Raises an error that so many pictures in a row had that it is not theirs."""
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if isinstance(error, _HOPELESS) else 0
            is_hopeless = self._in_a_row >= HOPELESS
        if is_hopeless and error is not None:
            raise error


def failed(record: Record, error: Exception) -> Record:
    """Returns the record of a picture that failed."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    text = text if record.uri in text else f"{record.uri}: {text}"
    return dataclasses.replace(record, mask=None, content=None, error=text, error_kind=type(error).__name__)


class _NamedFile(io.BytesIO):
    """A picture that was read, with the name that errors and results call it by."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


def _close(threads: futures.ThreadPoolExecutor, client: MaskClient) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    with contextlib.suppress(Exception):
        client.close()


def default_concurrency(model: Model) -> int:
    """Returns how many pictures a process works on at one time: one more than there are cores, or some for a server."""
    return (os.cpu_count() or 1) + 1 if isinstance(model, LocalModel) else 8
