"""Kills exports with SIGKILL at random moments, and checks that each leaves a whole version or none.

.venv/bin/python scripts/kill_exports.py [--kills=100] [--seed=0]

Ctrl-C or SIGTERM ends it early, with what was found until then.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from children import end_with_parent, interrupt_on_sigterm
from maskport.export import load_spec
from maskport.export.exporter import export_spec
from maskport.export.publish.versions import list_versions
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "batching_params.pbtxt"}


def start_export(base_path: Path) -> int:
    """Exports in a process that has TensorFlow's modules, but in which nothing of it has run; returns its number."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()  # so that its checking processes end with it
        end_with_parent(parent)
        fields = {"source": str(ROOT / "models/coins/coins.keras"), "output_dir": str(base_path), "keep": 3}
        export_spec(load_spec(str(ROOT / "configs/export/coins.yaml"), {**fields, "signatures": ["mask_png", "mask"]}))
    except BaseException as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def wait(process: int, seconds: float = float("inf")) -> int | None:
    """Returns the exit code of an export, or None where it goes on after some seconds."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def check_whole(base_path: Path) -> int:
    versions = list_versions(base_path) if base_path.exists() else {}
    for version in versions.values():
        found = {entry.name for entry in version.iterdir()}
        if found != WHOLE or not (version / "assets.extra/golden/golden.json").exists():
            raise SystemExit(f"{version} is not whole: it has {sorted(found)}")
    return max(versions, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    interrupt_on_sigterm()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder, "coins")
        started = time.monotonic()
        wait(start_export(base_path))
        duration = time.monotonic() - started
        killed = finished = 0
        newest = check_whole(base_path)
        with contextlib.suppress(KeyboardInterrupt):
            for _ in track(range(options.kills), "Killing exports"):
                process = start_export(base_path)
                # The end of an export, where it publishes, is where a half could show: half of the kills go there.
                earliest = 0.0 if chance.random() < 0.5 else 0.7 * duration
                try:
                    ended = wait(process, chance.uniform(earliest, 1.1 * duration))
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)
                if ended is None and wait(process) == -signal.SIGKILL:
                    killed += 1
                else:
                    finished += 1
                if check_whole(base_path) < newest:
                    raise SystemExit(f"version {newest} was lost")
                newest = check_whole(base_path)
        if wait(start_export(base_path)) != 0:
            raise SystemExit("the export after the last kill failed")
        left = [entry.name for entry in base_path.iterdir() if entry.name.startswith(".maskport-staging")]
        print(
            f"{killed} exports killed, {finished} had finished before; every version was whole, none was lost, "
            f"the next export succeeded, {len(left)} staging directories left"
        )


if __name__ == "__main__":
    main()
