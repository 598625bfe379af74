"""Runs the batch job over thousands of pictures, of which some are bad, and checks all that it promises.

One run undisturbed; one that is killed half-way and run again; and one over a tenth of the pictures. The first two
must end in the same, nothing may be done twice, every mask must be that of `mask-client segment`, and the memory must
not grow with the number of pictures.

.venv/bin/python scripts/kill_batches.py [--pictures=2000] [--model=served/coins]
"""

import argparse
import contextlib
import io
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from children import bound
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
BAD_EVERY = 20
PADDING = 100_000
"""Bytes behind each picture, which decoders leave: kept in memory, those of 1,800 pictures would be seen."""
MOST_GROWTH_MB = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--model", help="base path of an export; the demo model's, made anew, unless it is given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(options.model).resolve() if options.model else export(folder / "coins")
        good, bad = draw(folder / "photos", options.pictures)
        print(f"{good + bad} pictures, {bad} of them bad", flush=True)

        peak_mb = finish(start(folder, model, "photos", "undisturbed"), good, bad)
        check(folder / "undisturbed", good, bad)

        few, few_bad = draw(folder / "few", options.pictures // 10)
        few_mb = finish(start(folder, model, "few", "few_masks"), few, few_bad)
        print(f"peak memory: {few_mb:.0f} MB over {few + few_bad} pictures, {peak_mb:.0f} MB over {good + bad}")
        expect(peak_mb - few_mb < MOST_GROWTH_MB, "the memory grows with the number of pictures")

        killed = start(folder, model, "photos", "masks")
        while killed.poll() is None and len(masks_of(folder / "masks")) < good // 2:
            time.sleep(0.05)
        killed.kill()
        killed.communicate()
        times = {path: path.stat().st_mtime_ns for path in masks_of(folder / "masks")}
        print(f"killed with {len(times)} masks", flush=True)
        expect(0 < len(times) < good, "it was not killed half-way")
        again = start(folder, model, "photos", "masks")
        words, _ = again.communicate()
        written, skipped = (int(found) for found in re.findall(r"(\d+) (?:written|skipped)", words))
        print(words.strip())
        expect(again.returncode == 1, f"it ended with {again.returncode}")
        expect(written + skipped == good and skipped >= len(times), "pictures were done twice")
        expect({path: path.stat().st_mtime_ns for path in times} == times, "masks were written twice")
        check(folder / "masks", good, bad)
        expect(contents(folder / "masks") == contents(folder / "undisturbed"), "the two ends differ")

        segment(folder, model)
        wanted = {path.relative_to(folder / "client"): path.read_bytes() for path in masks_of(folder / "client")}
        found = {path.relative_to(folder / "masks"): path.read_bytes() for path in masks_of(folder / "masks")}
        expect(found == wanted, "masks differ from those of mask-client segment")
        print(f"all {len(found)} masks are those of mask-client segment")


def export(base_path: Path) -> Path:
    """Exports the demo model."""
    words = [f"--spec={ROOT / 'configs/export/coins.yaml'}", f"--output_dir={base_path}"]
    subprocess.run([BIN / "mask-export", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return base_path


def draw(folder: Path, count: int) -> tuple[int, int]:
    """Writes pictures, and bad ones among them; returns how many of each."""
    random = np.random.default_rng(0)
    bad = 0
    for number in range(count):
        path = folder / f"{number % 7}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(file, "JPEG")
        data = file.getvalue() + b"\0" * PADDING
        if number % BAD_EVERY == BAD_EVERY // 2:
            data = (b"", b"no picture", data[:100], data[:3] + b"\0" * 50)[bad % 4]
            bad += 1
        path.write_bytes(data)
    return count - bad, bad


def start(folder: Path, model: Path, pictures: str, output: str) -> "subprocess.Popen[str]":
    words = [f"--input={pictures}/**/*.jpg", f"--output={output}", f"--model={model}"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(bound([BIN / "mask-batch", *words]), cwd=folder, **pipes)


def finish(process: "subprocess.Popen[str]", good: int, bad: int) -> float:
    """Waits for a run that is to do everything; returns its peak of memory in MB."""
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, TypeError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)  # type: ignore[index]
        time.sleep(0.02)
    words, errors = process.communicate()
    print(words.strip(), flush=True)
    expect(process.returncode == 1 and f"{good} written, {bad} failed" in words, f"it says: {words}{errors}")
    return peak


def check(output: Path, good: int, bad: int) -> None:
    manifest = pyarrow.parquet.read_table(output / "manifest.parquet").to_pylist()
    letters = pyarrow.parquet.read_table(output / "dead_letters.parquet").to_pylist()
    expect(len(masks_of(output)) == good, f"there are {len(masks_of(output))} masks")
    expect(len(manifest) == good + bad and len(letters) == bad, f"{len(manifest)} rows, {len(letters)} dead letters")
    expect(not list(output.rglob(".*")), "something hidden is left")


def contents(output: Path) -> dict[str, Any]:
    """Returns what a run left, but for what the time and the folder's name have a say in."""
    found: dict[str, Any] = {str(path.relative_to(output)): path.read_bytes() for path in masks_of(output)}
    for name in ("manifest", "dead_letters"):
        rows = pyarrow.parquet.read_table(output / f"{name}.parquet").to_pylist()
        for row in rows:
            row |= {"milliseconds": None, "mask": (row.get("mask") or "").removeprefix(f"{output.name}/")}
        found[name] = rows
    return found


def segment(folder: Path, model: Path) -> None:
    """Has `mask-client segment` make the same masks, by a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = bound([BIN / "mask-serve", "--model_name=model", f"--model_base_path={model}", f"--port={port}"])
    flags = [f"--address=grpc://127.0.0.1:{port}", "--model=model", "--out=client", "--wait=120"]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL) as process:
        command = [BIN / "mask-client", "segment", "photos/**/*.jpg", *flags]
        subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.terminate()


def masks_of(folder: Path) -> list[Path]:
    return list(folder.rglob("*.png"))


def expect(holds: bool, problem: str) -> None:
    if not holds:
        raise SystemExit(f"scripts/kill_batches.py: {problem}")


if __name__ == "__main__":
    main()
