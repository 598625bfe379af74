"""Ends every command by Ctrl-C and by SIGTERM at many moments of its start, and checks that none says more than a line.

.venv/bin/python scripts/interrupt_commands.py [--moments=40]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
LONGEST_S = 1.5
"""What is looked at of a start, most of which is importing."""
PYTHON_S = 0.3
"""Until Python itself, and what starts with it, has begun: what it does before is its own."""


def commands(folder: Path) -> dict[str, list[str]]:
    """Returns each command with words by which it has something to do, and nobody to do it with."""
    picture = ROOT / "tests/corpus/exif6.jpg"
    server = "--address=grpc://127.0.0.1:1"
    return {
        "mask-export": [f"--spec={ROOT / 'configs/export/coins.yaml'}", f"--output_dir={folder / 'out'}", "--dry_run"],
        "mask-serve": [
            "--model_name=m",
            f"--model_base_path={folder}",
            "--port=0",
            f"--grpc_socket_path={folder / 's'}",
        ],
        "mask-client": ["segment", str(picture), f"--out={folder / 'mask.png'}", server, "--model=m", "--timeout=20"],
        "mask-verify": [server, "--model=m", f"--export_dir={folder}", "--wait=20"],
        "mask-calibrate": [f"--images={folder}", f"--masks={folder}", f"--spec={ROOT / 'configs/export/coins.yaml'}"],
        "mask-inspect": [str(folder)],
        "mask-batch": [f"--input={picture}", f"--output={folder / 'masks'}", server, "--model=m", "--timeout=20"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=40, help="of each command and signal")
    moments = parser.parse_args().moments
    problems, ended = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [
            (command, words, number, PYTHON_S + (LONGEST_S - PYTHON_S) * moment / moments)
            for command, words in commands(folder).items()
            for number in (signal.SIGINT, signal.SIGTERM)
            for moment in range(moments)
        ]
        for command, words, number, seconds in track(jobs, "Interrupting"):
            process = subprocess.Popen(
                [Path(sys.executable).with_name(command), *words],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True,
            )  # fmt: skip
            time.sleep(seconds)
            process.send_signal(number)
            try:
                _, said = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
                problems.append(f"{command} went on for 60 s after {number.name} at {seconds:.2f} s")
            ended += process.returncode not in (0, 1, 2)
            if "Traceback" in said or said.count("\n") > 2:
                problems.append(f"{command}, {number.name} at {seconds:.2f} s: {said[-400:]!r}")
        left = [path for path in folder.rglob("*") if ".tmp" in path.name or path.name.startswith(".")]
    print(f"{len(jobs)} commands were sent a signal, and {ended} ended by it; {len(problems)} said more than a line")
    if left:
        problems.append(f"left behind: {left}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
