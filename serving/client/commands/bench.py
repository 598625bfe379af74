"""`mask-client bench`: how fast a server answers."""

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ... import contract
from ..client import MaskClient
from ..errors import InvalidRequestError, MaskServingError
from ..pictures.images import ImageSource

_WARM_UP_CALLS = 3


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """What a measurement found.

    Attributes:
        images: that were answered.
        seconds: that it took.
        images_per_s: their rate.
        p50_ms: half of the calls took at most this.
        p90_ms: nine in ten did.
        p99_ms: ninety-nine in a hundred did.
        max_ms: the slowest.
        sent_bytes: mean of a request.
        received_bytes: mean of an answer.
        errors: how many calls failed, by the error's class.
        refusals: how often a call was refused before it began, as the server's threads were busy, and waited.
        concurrency: calls at one time.
        batch_size: images to a call.
    """

    images: int
    seconds: float
    images_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    sent_bytes: int
    received_bytes: int
    errors: dict[str, int]
    refusals: int
    concurrency: int
    batch_size: int


def run_bench(
    client: MaskClient,
    images: Sequence[ImageSource],
    *,
    seconds: float = 10.0,
    requests: int | None = None,
    concurrency: int = 8,
    outputs: Sequence[str] = (contract.MASK,),
    threshold: float | None = None,
) -> BenchReport:
    """Measures a server with calls of one image each, some at one time, after a few to warm up.

    Args:
        client: to call.
        images: sent in turn; bytes, so that nothing but the call is measured.
        seconds: to go on for.
        requests: number of calls in place of a time.
        concurrency: calls at one time.
        outputs: products to ask for.
        threshold: for the calls.

    Raises:
        MaskServingError: the first call fails.
    """
    if not images:
        raise InvalidRequestError("there is no image to measure with")
    for image in itertools.islice(itertools.cycle(images), _WARM_UP_CALLS):
        client.segment(image, threshold, outputs)
    sources = itertools.cycle(images)
    lock = threading.Lock()
    left = itertools.count() if requests is None else iter(range(requests))
    latencies: list[float] = []
    sent: list[int] = []
    received: list[int] = []
    errors: Counter[str] = Counter()
    refusals = client.refusals
    began = time.perf_counter()
    end = began + seconds if requests is None else float("inf")

    def work() -> None:
        while time.perf_counter() < end:
            with lock:
                if next(left, None) is None:
                    return
                image = next(sources)
            started = time.perf_counter()
            try:
                result = client.segment(image, threshold, outputs)
            except MaskServingError as error:
                with lock:
                    errors[type(error).__name__] += 1
                continue
            took = time.perf_counter() - started
            with lock:
                latencies.append(took)
                sent.append(result.request_bytes)
                received.append(result.response_bytes)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    milliseconds = np.array(latencies or [np.nan]) * 1000
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99]).tolist()
    return BenchReport(
        images=len(latencies),
        seconds=took,
        images_per_s=len(latencies) / took,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=float(milliseconds.max()),
        sent_bytes=round(float(np.mean(sent))) if sent else 0,
        received_bytes=round(float(np.mean(received))) if received else 0,
        errors=dict(errors),
        refusals=client.refusals - refusals,
        concurrency=concurrency,
        batch_size=1,
    )
