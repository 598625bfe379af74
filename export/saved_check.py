"""Checks and measures a written version directory in a process of its own, `python -m maskport.export.saved_check DIR`.

A fresh process has neither the model's Python objects nor Keras, like the server that will load it. Every
golden request must get its recorded answer. Problems go to stdout, one a line; the exit code is 1 if any.
"""

import os
import subprocess
import sys
from pathlib import Path

from ..serving import contract
from .errors import VerificationError

_TIMEOUT_S = 900


def check_in_fresh_process(version_dir: Path) -> None:
    """Loads a version directory in a fresh process and replays its golden requests.

    Raises:
        VerificationError: it does not load, or answers differently.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(version_dir)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        env=environment,
    )
    if done.returncode != 0:
        problems = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-1:]
        raise VerificationError(
            f"what was written does not answer as the model does: {'; '.join(problems[:4]) or 'it crashed'}"
        )


def examine(version_dir: Path) -> list[str]:
    """Returns what is wrong with a version directory, for people.

    Where nothing is, the batching parameters are measured and written into it.
    """
    import tensorflow as tf

    from ..serving.agreement import compare
    from . import golden
    from .batching_parameters import measure_batching

    loaded = tf.saved_model.load(str(version_dir))
    problems = []
    requests = {}
    for record in golden.read_goldens(version_dir / contract.ASSETS_DIR / contract.GOLDEN_DIR):
        name = record.signature.name
        requests[name] = golden.tensors_of(record.request)
        if name not in loaded.signatures:
            problems.append(f"signature {name} is missing")
            continue
        answers = golden.run(loaded.signatures[name], record.signature, requests[name])
        for output, expected in golden.tensors_of(record.response).items():
            agreement = compare(expected, answers[output], record.tolerances[output])
            if not agreement.holds:
                problems.append(f"signature {name}, output {output}: {agreement.problem}")
    if not problems:
        # Here the model is loaded as a server loads it, and nothing else runs.
        parameters = measure_batching(loaded.signatures, requests)
        (version_dir / contract.BATCHING_FILE).write_text(parameters, encoding="utf-8")
    return problems


if __name__ == "__main__":
    sys.modules["keras"] = None  # type: ignore[assignment]  # whatever imports it fails from here on
    found = examine(Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
