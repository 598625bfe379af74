"""`batching_params.pbtxt`: how TensorFlow Serving should merge requests to this model, measured on this machine.

Read under `--enable_per_model_batching_parameters`. What is measured is whether the model gains from batches;
how many threads there are is the serving machine's affair, so their number is the one thing to look at again.
"""

import functools
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ...serving import contract
from ..graph.forms.timing import median_seconds

BATCH_SIZES = (1, 2, 4, 8, 16)
_MIN_LIMIT = 16
"""A request over the limit is refused, so the limit is no smaller than what callers send at once."""
_MIN_GAIN = 1.05
_TIME_LIMIT_S = 1.0
_RUNS = 3
_QUEUED_BATCHES = 64


def measure_batching(signatures: Mapping[str, Any], requests: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the text of `batching_params.pbtxt` of loaded signatures, by one request for each, of an image first."""
    encoded = contract.signature_name(contract.MASK, encoded=True)
    names = [encoded, *(name for name in signatures if name != contract.EXPORT_INFO)]
    typical = next((name for name in names if name in signatures), None)
    if typical is None:
        return format_parameters({})
    inputs = {key: np.asarray(value)[:1] for key, value in requests[typical].items()}

    def call(count: int) -> None:
        answers = signatures[typical](**{name: tf.constant(np.repeat(one, count, 0)) for name, one in inputs.items()})
        next(iter(answers.values())).numpy()

    per_image: dict[int, float] = {}
    started = time.perf_counter()
    for size in BATCH_SIZES:  # the larger ones are left out once time is up
        per_image[size] = median_seconds({"call": functools.partial(call, size)}, _RUNS)["call"] / size
        if time.perf_counter() - started > _TIME_LIMIT_S:
            break
    return format_parameters(per_image)


def format_parameters(per_image: Mapping[int, float]) -> str:
    """Returns the parameters for times per image, in seconds, by batch size."""
    single = per_image.get(1, 0.0)
    best = min(per_image, key=lambda size: per_image[size], default=1)
    gain = single / per_image[best] if per_image else 1.0
    gains = gain >= _MIN_GAIN and best > 1
    # Waiting for company pays only where company is faster; a tenth of a run is hardly felt.
    timeout_micros = round(single * 1e6 / 10) if gains else 0
    measured = ", ".join(f"{size}: {1000 * seconds:.1f}" for size, seconds in per_image.items())
    verdict = f"batches of {best} are {gain:.2f} times as fast" if gains else "this model gains nothing from batches"
    return (
        f"# Measured at export, in milliseconds per image by batch size: {measured or 'nothing'}.\n"
        f"# So {verdict}.\n"
        f"max_batch_size {{ value: {max(_MIN_LIMIT, best)} }}\n"
        f"batch_timeout_micros {{ value: {timeout_micros} }}\n"
        f"max_enqueued_batches {{ value: {_QUEUED_BATCHES} }}\n"
        f"# As many as this machine has processors; set it to the serving machine's.\n"
        f"num_batch_threads {{ value: {os.cpu_count() or 1} }}\n"
    )
