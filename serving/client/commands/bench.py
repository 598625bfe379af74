"""`mask-client bench`: how fast a server answers."""

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..client import MaskClient
from ..errors import MaskServingError
from ..pictures.images import ImageSource

_WARM_UP_CALLS = 3


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """What a measurement found."""

    images: int  # that were answered
    seconds: float
    images_per_s: float
    p50_ms: float  # half of the calls took at most this
    p90_ms: float
    p99_ms: float
    max_ms: float
    sent_bytes: int  # mean of a request
    received_bytes: int  # mean of an answer
    errors: dict[str, int]  # how many calls failed, by the error's class
    refusals: int  # how often a call was refused before it began, as the server's threads were busy, and waited
    concurrency: int
    batch_size: int


def run_bench(
    client: MaskClient,
    images: Sequence[ImageSource],
    *,
    seconds: float,
    requests: int | None,
    concurrency: int,
    outputs: Sequence[str],
    threshold: float | None,
) -> BenchReport:
    """Measures a server with calls of one image each, some at one time, after a few to warm up, whose errors it raises.

    The images (bytes, so that nothing but the call is measured) are sent in turn, for a time or, where it is given, a
    number of requests.
    """
    for image in itertools.islice(itertools.cycle(images), _WARM_UP_CALLS):
        client.segment(image, threshold, outputs)
    sources = itertools.cycle(images)
    left = itertools.count() if requests is None else iter(range(requests))
    lock = threading.Lock()
    answers: list[tuple[float, int, int]] = []  # milliseconds, bytes sent, bytes received
    errors: list[str] = []
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
                errors.append(type(error).__name__)
            else:
                took_ms = (time.perf_counter() - started) * 1000
                answers.append((took_ms, result.request_bytes, result.response_bytes))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    latencies, sent, received = np.array(answers or [(np.nan, 0, 0)]).T
    p50, p90, p99 = np.percentile(latencies, [50, 90, 99]).tolist()
    return BenchReport(
        images=len(answers),
        seconds=took,
        images_per_s=len(answers) / took,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=float(latencies.max()),
        sent_bytes=round(sent.mean()),
        received_bytes=round(received.mean()),
        errors=dict(Counter(errors)),
        refusals=client.refusals - refusals,
        concurrency=concurrency,
        batch_size=1,
    )
