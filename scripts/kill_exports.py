"""Kills exports with SIGKILL at random moments, and checks that each leaves a whole version or none.

.venv/bin/python scripts/kill_exports.py [--kills=100] [--seed=0]

An export and the processes in which it checks what it wrote are forks of this one, which has TensorFlow's modules and
runs nothing of it: started anew they would import TensorFlow most of the time, and write nothing then.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import tensorflow as tf
from children import end_with_parent, interrupt_on_sigterm
from maskport.export.exporter import export_spec
from maskport.export.publish import saved_check
from maskport.export.publish.versions import list_versions
from maskport.export.spec import make_spec
from rich.progress import track

WHOLE = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "batching_params.pbtxt"}


class ForkedProcess:
    """A checking process of an export, in the place of `subprocess.Popen`."""

    def __init__(self, _: object, *, stderr: IO[str], env: Mapping[str, str], **__: object) -> None:
        (task, self_task), (self_answer, answer) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            for place, file in enumerate((task, answer, stderr.fileno())):
                os.dup2(file, place)
            sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
            os.environ.update(env)
            os.close(self_task)
            try:
                saved_check.main()
            finally:
                os._exit(1)
        os.close(task)
        os.close(answer)
        self.stdin, self.stdout = open(self_task, "w"), open(self_answer)  # noqa: SIM115

    def kill(self) -> None:
        """Ends it."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Returns its exit code, once it has ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    communicate = wait


def start(work: Callable[[], object]) -> int:
    """Does something in a process that has TensorFlow's modules, but in which nothing of it has run: its number."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()  # so that its checking processes end with it
        end_with_parent(parent)
        work()
    except BaseException as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def write_model(folder: Path) -> None:
    """Writes a small model: the smaller it is, the more of the time something is written."""

    class Brightness(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, -1, keepdims=True)

    model = Brightness()
    tf.saved_model.save(model, str(folder), signatures=model.__call__)


def export(model: Path, base_path: Path) -> None:
    saved_check.subprocess.Popen = ForkedProcess  # type: ignore[attr-defined, misc, assignment]
    fields = {"source": str(model), "output_dir": str(base_path), "keep": 3, "scaling": "unit", "signatures": ["mask"]}
    export_spec(make_spec(fields))


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
        model, base_path = Path(folder, "model"), Path(folder, "exported")
        wait(start(lambda: write_model(model)))
        started = time.monotonic()
        if wait(start(lambda: export(model, base_path))) != 0:
            raise SystemExit("an export that nobody killed failed")
        duration = time.monotonic() - started
        killed = finished = 0
        newest = check_whole(base_path)
        with contextlib.suppress(KeyboardInterrupt):
            for _ in track(range(options.kills), "Killing exports"):
                process = start(lambda: export(model, base_path))
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
        if wait(start(lambda: export(model, base_path))) != 0:
            raise SystemExit("the export after the last kill failed")
        left = [entry.name for entry in base_path.iterdir() if entry.name.startswith(".maskport-staging")]
        print(
            f"{killed} exports killed, {finished} had finished before; every version was whole, none was lost, "
            f"the next export succeeded, {len(left)} staging directories left"
        )


if __name__ == "__main__":
    main()
