"""Processes of their own that run what was written, as a server does.

A fresh process has neither the model's Python objects nor Keras, like the server that will load the version. It runs
TensorFlow's optimized graph; its answers become the golden ones, if they agree with those of the model in memory.
"""

import contextlib
import dataclasses
import gc
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ...serving import contract
from ...serving.command_line import without_collection
from ..errors import VerificationError
from ..model.causes import cause_of

if TYPE_CHECKING:  # it takes TensorFlow, whose import a fresh process is to tell apart
    from . import golden

FORWARD_DIR, INPUTS_FILE = "forward", "inputs.npz"
"""A SavedModel whose `forward` is the model's, and beside it what that is run on."""

COMMAND = (sys.executable, "-P", "-m", __name__)
"""What a fresh process is; -P: files of the working directory are no modules."""

_TIMEOUT_S = 900
_AT_ONCE = 4
"""Signatures that are replayed at one time: each holds what the model computes with."""
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


class FreshProcess:
    """A process that has nothing of this one, started early: it imports TensorFlow while the model is loaded.

    Use as a context manager; leaving it ends the process.

    Args:
        switches_onednn: whether TensorFlow's oneDNN operations are off in it where they are on here, or on where they
            are off.
    """

    def __init__(self, *, switches_onednn: bool = False):
        self._switches_onednn = switches_onednn
        self._asked = self._answered = 0  # how often

    def __enter__(self) -> Self:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        environment["CUDA_VISIBLE_DEVICES"] = "-1"  # a busy one may have no memory left
        if self._switches_onednn:
            environment[_ONEDNN] = "0" if _has_onednn() else "1"
        self._requests = tempfile.TemporaryDirectory(prefix="maskport-")
        self._complaints = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()
        self._requests.cleanup()

    def start_replay(self, version_dir: Path, requests: Sequence["golden.Golden"]) -> None:
        """Has a version directory loaded and asked there, so that `check` finds the answers to these requests ready."""
        from . import golden

        # Not where golden answers belong: those are written meanwhile.
        golden.write_goldens(requests, Path(self._requests.name))
        self._start("replay", version_dir, self._requests.name)

    def check(self, version_dir: Path) -> None:
        """Loads a version directory there, replays its golden requests, and completes it.

        What `start_replay` had answered is not asked again. Where all answers agree with the recorded ones, they take
        their place, being those of the optimized graph, and the batching parameters are measured and written.

        Raises:
            VerificationError: it does not load, or answers differently.
        """
        problems = self._answer(self._start("examine", version_dir))
        if problems:
            raise VerificationError(f"what was written does not answer as the model does: {'; '.join(problems[:4])}")

    def start_forward(self, folder: Path, outputs_file: str) -> Callable[[], list[npt.NDArray[Any]]]:
        """Has a folder's FORWARD_DIR run on each of its INPUTS_FILE, and the answers written into another file there.

        Returns:
            What waits for it and returns the answers. It raises VerificationError where that fails.
        """
        number = self._start("run_forward", folder, outputs_file)

        def finish() -> list[npt.NDArray[Any]]:
            problem = self._answer(number)
            if problem:
                raise VerificationError(f"the model fails in a fresh process: {problem}")
            return _read_arrays(folder / outputs_file)

        return finish

    def _start(self, task: str, *arguments: Any) -> int:
        """Has one of this module's functions run there, after those that were asked for before; returns its number."""
        self._asked += 1
        with contextlib.suppress(OSError):  # it has ended, which the answer will tell
            print(json.dumps([task, *map(str, arguments)]), file=self._process.stdin, flush=True)
        return self._asked

    def _answer(self, number: int) -> Any:
        """Returns the result of the function of a number; nobody may want those before it that were not asked about."""
        started = time.monotonic()
        timer = threading.Timer(_TIMEOUT_S, self._process.kill)
        timer.start()
        line = ""
        try:
            while self._answered < number:
                line = self._process.stdout.readline() if self._process.stdout else ""
                self._answered += 1
        finally:
            timer.cancel()
        if not line and time.monotonic() - started >= _TIMEOUT_S:
            raise VerificationError(
                f"the check in a fresh process took over {_TIMEOUT_S} s; fewer --signatures take less"
            )
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            code = self._process.wait()
            self._complaints.seek(0)
            last_words = self._complaints.read().strip().splitlines()[-1:] or [f"exit code {code}"]
            raise VerificationError(f"the fresh process crashed: {last_words[0]}") from None


def _has_onednn() -> bool:
    """Whether TensorFlow's oneDNN operations are on here: unless one says so, that hangs on the processor."""
    said = os.environ.get(_ONEDNN, "").lower()
    if said:
        return said not in ("0", "false")
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        return True


def write_arrays(path: Path, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Writes arrays of any shapes, in order."""
    np.savez(path, *arrays)


def _read_arrays(path: Path) -> list[npt.NDArray[Any]]:
    """Reads what `write_arrays` wrote."""
    with np.load(path) as arrays:
        return [arrays[f"arr_{position}"] for position in range(len(arrays.files))]


def run_forward(folder: str, outputs_file: str) -> str:
    """Does what `FreshProcess.start_forward` asks for; returns what went wrong, for people, or nothing."""
    import tensorflow as tf

    try:
        saved = tf.saved_model.load(str(Path(folder, FORWARD_DIR)))
        outputs = [saved.forward(tf.constant(one)).numpy() for one in _read_arrays(Path(folder, INPUTS_FILE))]
    except Exception as error:
        return cause_of(error)
    write_arrays(Path(folder, outputs_file), outputs)
    return ""


@dataclasses.dataclass(frozen=True)
class _Version:
    """A version directory's signatures, and what some have answered to their golden requests, by name."""

    signatures: Mapping[str, Any]
    answers: dict[str, "golden.Tensors"] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, directory: str) -> Self:
        import tensorflow as tf

        return cls(tf.saved_model.load(directory).signatures)

    def replay(self, records: Sequence["golden.Golden"]) -> dict[str, str]:
        """Has those signatures answer that have not; returns why some do not, by name."""
        from . import golden

        def answer(record: golden.Golden) -> str:
            name = record.signature.name
            if name not in self.signatures:
                return f"signature {name} is missing"
            try:
                request = golden.tensors_of(record.request)
                self.answers[name] = golden.run(self.signatures[name], record.signature, request)
            except Exception as error:
                return f"signature {name} fails: {cause_of(error)}"
            return ""

        asked = [record for record in records if record.signature.name not in self.answers]
        # Most of the time goes into optimizing each signature's graph on its first run, which one thread does.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _AT_ONCE)) as pool:
            problems = pool.map(answer, asked)
            return {record.signature.name: problem for record, problem in zip(asked, problems, strict=True) if problem}


_replayed: dict[str, _Version] = {}
"""By directory: what `replay` keeps for `examine`."""


def replay(directory: str, requests: str) -> None:
    """Does what `FreshProcess.start_replay` asks for; whatever fails is tried again by `examine`, which tells of it."""
    from . import golden

    with contextlib.suppress(Exception):
        version = _replayed[directory] = _Version.load(directory)
        version.replay(golden.read_goldens(Path(requests)))


def examine(directory: str) -> list[str]:
    """Returns what is wrong with a version directory, for people; see `FreshProcess.check`."""
    from ...serving.agreement import compare
    from . import golden
    from .batching_parameters import measure_batching

    try:
        version = _replayed.pop(directory, None) or _Version.load(directory)
    except Exception as error:
        return [f"it does not load: {cause_of(error)}"]
    goldens = Path(directory, contract.ASSETS_DIR, contract.GOLDEN_DIR)
    records = golden.read_goldens(goldens)
    failures = version.replay(records)
    problems = list(failures.values())
    for record in (one for one in records if one.signature.name not in failures):
        answers = version.answers[record.signature.name]
        for output, expected in golden.tensors_of(record.response).items():
            agreement = compare(expected, answers[output], record.tolerances[output])
            if not agreement.holds:
                problems.append(f"signature {record.signature.name}, output {output}: {agreement.problem}")
    if not problems:
        golden.write_goldens(
            [golden.with_answers(one, version.answers[one.signature.name]) for one in records], goldens
        )
        # Here the model is loaded as a server loads it, and nothing else runs.
        requests = {record.signature.name: golden.tensors_of(record.request) for record in records}
        parameters = measure_batching(version.signatures, requests)
        Path(directory, contract.BATCHING_FILE).write_text(parameters, encoding="utf-8")
    return problems


def _read_lines(lines: "queue.SimpleQueue[str]") -> None:
    """Hands on what is to be done, and ends this process in the middle of it once the exporter has gone."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)


def main() -> None:
    """Does what is asked for on standard input, a line of JSON at a time, until that ends."""
    sys.modules["keras"] = None  # type: ignore[assignment]  # whatever imports it fails from here on
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=[lines], daemon=True).start()
    with without_collection():
        import tensorflow  # noqa: F401  (before it is known what to do: it takes seconds)
    gc.freeze()  # what was loaded need not be looked through later either

    tasks: Mapping[str, Callable[..., Any]] = {"examine": examine, "replay": replay, "run_forward": run_forward}
    # What TensorFlow prints must not get between the answers' lines.
    answers, sys.stdout = sys.stdout, sys.stderr
    while True:
        task, *arguments = json.loads(lines.get())
        print(json.dumps(tasks[task](*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
