"""Checks and measures a written version directory in a process of its own.

A fresh process has neither the model's Python objects nor Keras, like the server that will load it. Every
golden request must get its recorded answer.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from ..serving import contract
from .errors import VerificationError

_TIMEOUT_S = 900


class FreshProcess:
    """A process that has nothing of this one, started early: it imports TensorFlow while the model is written.

    Use as a context manager; leaving it ends the process.
    """

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],  # -P: files of the working directory are no modules
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def check(self, version_dir: Path) -> None:
        """Loads a version directory there, replays its golden requests, and writes the batching parameters into it.

        Raises:
            VerificationError: it does not load, or answers differently.
        """
        try:
            answer, complaint = self._process.communicate(f"{version_dir.absolute()}\n", timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise VerificationError(f"the check in a fresh process took over {_TIMEOUT_S} s") from None
        try:
            problems = json.loads(answer)
        except json.JSONDecodeError:
            last_words = complaint.strip().splitlines()[-1:] or [f"exit code {self._process.returncode}"]
            problems = [f"the fresh process crashed: {last_words[0]}"]
        if problems:
            raise VerificationError(f"what was written does not answer as the model does: {'; '.join(problems[:4])}")


def examine(version_dir: Path) -> list[str]:
    """Returns what is wrong with a version directory, for people.

    Where nothing is, the batching parameters are measured and written into it.
    """
    import tensorflow as tf

    from ..serving.agreement import compare
    from . import golden
    from .batching_parameters import measure_batching

    try:
        signatures = tf.saved_model.load(str(version_dir)).signatures
    except Exception as error:
        return [f"it does not load: {' '.join(str(error).split())[:300]}"]
    records = golden.read_goldens(version_dir / contract.ASSETS_DIR / contract.GOLDEN_DIR)

    def replay(record: golden.Golden) -> list[str]:
        name = record.signature.name
        if name not in signatures:
            return [f"signature {name} is missing"]
        try:
            answers = golden.run(signatures[name], record.signature, golden.tensors_of(record.request))
        except Exception as error:
            return [f"signature {name} fails: {' '.join(str(error).split())[:200]}"]
        agreements = {
            output: compare(expected, answers[output], record.tolerances[output])
            for output, expected in golden.tensors_of(record.response).items()
        }
        return [
            f"signature {name}, output {output}: {agreement.problem}"
            for output, agreement in agreements.items()
            if not agreement.holds
        ]

    # Most of the time goes into optimizing each signature's graph on its first run, which one thread does.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [problem for found in pool.map(replay, records) for problem in found]
    if not problems:
        # Here the model is loaded as a server loads it, and nothing else runs.
        requests = {record.signature.name: golden.tensors_of(record.request) for record in records}
        parameters = measure_batching(signatures, requests)
        (version_dir / contract.BATCHING_FILE).write_text(parameters, encoding="utf-8")
    return problems


def _main() -> None:
    sys.modules["keras"] = None  # type: ignore[assignment]  # whatever imports it fails from here on
    import tensorflow  # noqa: F401  (before the directory is known: it takes seconds)

    # What TensorFlow prints must not get between the answer's lines.
    answer, sys.stdout = sys.stdout, sys.stderr
    directory = sys.stdin.readline().strip()
    if directory:
        json.dump(examine(Path(directory)), answer)
        answer.flush()


if __name__ == "__main__":
    _main()
