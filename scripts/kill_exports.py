"""Kills exports with SIGKILL at random moments, and checks that each leaves a whole version or none.

.venv/bin/python scripts/kill_exports.py [--kills=100]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from children import bound
from maskport.export.publish.versions import list_versions
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "batching_params.pbtxt"}


def start_export(base_path: Path) -> subprocess.Popen[bytes]:
    words = [f"--spec={ROOT / 'configs/export/coins.yaml'}", f"--output_dir={base_path}", "--keep=3"]
    command = [sys.executable, "-m", "maskport.export", *words, "--signatures=mask_png,mask", "--verbosity=-2"]
    # In a session of its own, so that its checking process ends with it.
    return subprocess.Popen(bound(command), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def check_whole(base_path: Path) -> int:
    versions = list_versions(base_path) if base_path.exists() else {}
    for version in versions.values():
        found = {entry.name for entry in version.iterdir()}
        if found != WHOLE or not (version / "assets.extra/golden/golden.json").exists():
            raise SystemExit(f"{version} is not whole: it has {sorted(found)}")
    return len(versions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder, "coins")
        started = time.monotonic()
        start_export(base_path).wait()
        duration = time.monotonic() - started
        finished = 0
        for _ in track(range(kills), "Killing exports"):
            process = start_export(base_path)
            # The end of an export, where it publishes, is where a half could show: half of the kills go there.
            earliest = 0.0 if chance.random() < 0.5 else 0.7 * duration
            try:
                process.wait(chance.uniform(earliest, 1.1 * duration))
                finished += 1
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            check_whole(base_path)
        if start_export(base_path).wait() != 0:
            raise SystemExit("the export after the last kill failed")
        left = [entry.name for entry in base_path.iterdir() if entry.name.startswith(".maskport-staging")]
        print(
            f"{kills - finished} exports killed, {finished} had finished before; every version was whole, "
            f"the next export succeeded, {len(left)} staging directories left"
        )


if __name__ == "__main__":
    main()
