"""Mixed traffic on a server for as long as one likes, with a new version every half minute.

.venv/bin/python scripts/soak.py [--minutes=30] [--callers=8] [--output_dir=docs/reliability]

Callers ask for every product, over gRPC and REST, of photographs of many sizes, of arrays, of several at once, and of
files that are none. Every answer must equal the first one to the same question, and every broken file must be refused,
whatever version answers. Beside it the server's memory, open files and threads are read; in the end they are printed
and drawn. Exit code 1 if a call went wrong, or if one of the three still grew in the second half.
"""

import argparse
import hashlib
import io
import itertools
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import pictures
from benchmarks.plots import write_plots
from benchmarks.results import Plot, Series
from benchmarks.servers import Served, serve
from maskport.export import load_spec
from maskport.export.exporter import export_spec
from maskport.export.publish.versions import VersionWriter, list_versions
from maskport.serving.client import InvalidImageError, MaskClient, MaskResult
from PIL import Image
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
MODEL = "coins"
CALLED = ["mask", "mask_png", "mask_png_at_threshold", "masked_image_png", "probability_png"]
SIZES = [(96, 128), (160, 120), (256, 256), (640, 480), (1200, 900)]
SWAP_S = 30.0
SAMPLES = 120
# On a busy machine a first call of a version can take longer than REST's 30 s.
SERVER_FLAGS = ("--file_system_poll_wait_seconds=1", "--rest_api_timeout_in_ms=120000")
MOST_GROWTH = {"memory, MB": 50.0, "open files": 8.0, "threads": 8.0}
"""From the second quarter to the last: callers come and go, and a version may be loading as one looks."""

Question = Callable[[MaskClient], bytes]


def questions() -> list[Question]:
    """Each gives the bytes of an answer, which must be the same whenever it is asked."""
    photos = pictures.variants(20, SIZES)
    small = np.asarray(Image.open(io.BytesIO(photos[0])))

    def digest(result: MaskResult, product: str) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(getattr(result, product)).tobytes()).digest()

    def of(image: Any, product: str, threshold: float | None) -> Question:
        return lambda client: digest(client.segment(image, threshold, [product]), product)

    def of_many(client: MaskClient) -> bytes:
        items = list(client.segment_many([*photos[:5], b"no picture"], batch_size=3))
        if any(item.result is None for item in items[:-1]) or not isinstance(items[-1].error, InvalidImageError):
            raise AssertionError(f"of many: {[item.error for item in items]}")
        return b"".join(digest(item.result, "mask") for item in items if item.result)

    def of_broken(data: bytes) -> Question:
        def ask(client: MaskClient) -> bytes:
            try:
                client.segment(data)
            except InvalidImageError:  # whose text names the address and the version
                return b"refused"
            raise AssertionError("a broken file was masked")

        return ask

    asked = [
        of(photo, product, threshold)
        for photo, (product, threshold) in itertools.product(
            photos, [("mask", None), ("mask", 0.3), ("masked_image", None), ("probability", None)]
        )
    ]
    return [*asked, of(small, "mask", None), of_many, of_broken(photos[1][:300]), of_broken(b"\x89PNG\r\n\x1a\n" * 9)]


class Traffic:
    """Callers in threads, and what came of their calls."""

    def __init__(self, served: Served, callers: int) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._asked = questions()
        self._answers: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call, args=(address, seed))
            for seed, address in zip(range(callers), itertools.cycle([served.grpc, served.rest]), strict=False)
        ]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, address: str, seed: int) -> None:
        chance = random.Random(seed)
        client = MaskClient(address, MODEL, timeout=120)
        while not self._ended.is_set():
            number = chance.randrange(len(self._asked))
            try:
                answer = self._asked[number](client)
            except Exception as error:
                self.failures.append(f"question {number} over {address}: {type(error).__name__}: {error}")
                continue
            with self._lock:
                self.calls += 1
                if self._answers.setdefault(number, answer) != answer:
                    self.failures.append(f"question {number} over {address}: another answer than before")
            if chance.random() < 0.02:  # as callers do that come and go
                client.close()
                client = MaskClient(address, MODEL, timeout=120)
        client.close()


def swap(base_path: Path) -> None:
    """Publishes a copy of the newest version as the next one, which leaves two."""
    versions = list_versions(base_path)
    with VersionWriter(base_path) as writer:
        shutil.copytree(versions[max(versions)], writer.staging, dirs_exist_ok=True)
        writer.publish(None, keep=2)


def look(served: Served) -> tuple[float, float, float]:
    """Returns the server's resident memory in MB, and how many files and threads it has."""
    process = Path(f"/proc/{served.pid}")
    return served.memory_mb, len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--output_dir", type=Path, default=ROOT / "docs/reliability")
    options = parser.parse_args()
    step_s = options.minutes * 60 / SAMPLES
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder, MODEL)
        fields = {"source": str(ROOT / "models/coins/coins.keras"), "output_dir": str(base_path)}
        spec = load_spec(str(ROOT / "configs/export/coins.yaml"), {**fields, "warmup_signatures": CALLED})
        export_spec(spec)
        samples, swaps = [], 0
        command = [str(ROOT / ".venv/bin/mask-serve")]
        with (
            serve(command, {MODEL: base_path}, *SERVER_FLAGS) as served,
            Traffic(served, options.callers) as traffic,
        ):
            began = last = time.monotonic()
            for sample in track(range(SAMPLES), "Traffic"):
                time.sleep(max(0.0, began + (sample + 1) * step_s - time.monotonic()))
                samples.append(look(served))
                if time.monotonic() - last > SWAP_S:
                    swap(base_path)
                    swaps, last = swaps + 1, time.monotonic()
    print(f"{traffic.calls:,} calls in {options.minutes:g} minutes, {swaps} swaps, {len(traffic.failures)} went wrong")
    for failure in traffic.failures[:10]:
        print(f"  {failure}", file=sys.stderr)
    minutes = [(sample + 1) * step_s / 60 for sample in range(SAMPLES)]
    plots, is_flat = [], True
    for (name, most), values in zip(MOST_GROWTH.items(), zip(*samples, strict=True), strict=True):
        quarter = SAMPLES // 4
        before, after = (float(np.median(values[start : start + quarter])) for start in (quarter, SAMPLES - quarter))
        is_flat &= after - before <= most
        print(f"{name}: {before:,.0f} in the second quarter, {after:,.0f} in the last; at most {max(values):,.0f}")
        plot_name = f"soak_{name.split(',')[0].replace(' ', '_')}"
        series = [Series(name, minutes, list(values))]
        plots.append(Plot(plot_name, f"The server under mixed traffic: {name}", "minutes", name, series, False, False))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    write_plots(plots, options.output_dir)
    return 0 if not traffic.failures and is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
