"""Rates of the batch job and of the bare signature, in turn, in a process of their own.

`python -m benchmarks.batch_rates VERSION_DIRECTORY FOLDER ROUNDS` prints JSON: pictures a second of each round, by way.
"""

import itertools
import json
import shutil
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import tensorflow as tf
from maskport.serving.batch import BatchJob, LocalModel, run_job

from .measuring import without_collector

_THREADS = 2


def main(version_dir: str, folder: str, rounds: str) -> None:
    paths = sorted(Path(folder).iterdir())
    files = [path.read_bytes() for path in paths]
    signature = tf.saved_model.load(version_dir).signatures["mask_png"]

    def bare() -> float:
        left = iter(files)

        def work(_: int) -> None:
            # Two threads may take from one iterator: the next item is taken at once.
            for data in left:
                signature(image_bytes=tf.constant([data]))["mask_bytes"].numpy()

        started = time.perf_counter()
        with futures.ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(work, range(_THREADS)))
        return len(files) / (time.perf_counter() - started)

    def job() -> float:
        output = tempfile.mkdtemp(dir=Path(folder).parent)
        started = time.perf_counter()
        summary = run_job(BatchJob([folder], output, LocalModel(version_dir)))
        seconds = time.perf_counter() - started
        shutil.rmtree(output)
        if summary.masked != len(files):
            sys.exit(f"{summary} of {len(files)} pictures")
        return len(files) / seconds

    found: dict[str, list[float]] = {"job": [], "bare": []}
    # As a worker does, whose model is loaded once for all of its pictures.
    with LocalModel(version_dir).connect():
        for number in itertools.count():
            with without_collector():
                rates = {"job": job(), "bare": bare()}
            if number:  # the first warms up
                for name, rate in rates.items():
                    found[name].append(rate)
            if number == int(rounds):
                break
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
