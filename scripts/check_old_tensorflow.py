"""Replays an export's golden requests in another TensorFlow and compares; see scripts/check_old_tensorflow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from maskport.serving.agreement import compare
from maskport.serving.command_line import import_quietly

import_quietly("tensorflow")

from maskport.export import export_model, load_spec  # noqa: E402
from maskport.export.exporter import export_spec  # noqa: E402
from maskport.export.publish.golden import read_goldens, tensors_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "tests/support/run_exports.py"
SEGMENTER = """
import keras
image = keras.Input((64, 96, 3))
x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(x)).save({path!r})
"""


def main(folder: str, old_python: str) -> int:
    """Returns the number of outputs that do not agree."""
    home = Path(folder)
    exports = [export_spec(load_spec(str(ROOT / "configs/export/coins.yaml"), {"output_dir": str(home / "coins")}))]
    source = home / "classes.keras"
    subprocess.run([sys.executable, "-c", SEGMENTER.format(path=str(source))], check=True, stderr=subprocess.DEVNULL)
    exports.append(
        export_model(
            source, home / "classes", scaling="imagenet", activation="softmax", foreground=[1, 2], resize="letterbox",
            background="transparent", clean="open=1,close=1", edge="soft",
        )
    )  # fmt: skip

    goldens, requests = {}, {}
    for index, version_dir in enumerate(exports):
        for golden in read_goldens(Path(version_dir) / "assets.extra/golden"):
            goldens[index, golden.signature.name] = golden
            for name, value in tensors_of(golden.request).items():
                requests[f"{index}/{golden.signature.name}/{name}"] = value
    np.savez(home / "requests.npz", **requests)
    command = [old_python, RUNNER, home / "requests.npz", home / "answers.npz", *exports]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    answers = np.load(home / "answers.npz", allow_pickle=True)
    failures = 0
    for (index, name), golden in goldens.items():
        for output, expected in tensors_of(golden.response).items():
            agreement = compare(expected, answers[f"{index}/{name}/{output}"], golden.tolerances[output])
            failures += not agreement.holds
            verdict = "agrees" if agreement.holds else f"DIFFERS: {agreement.problem}"
            print(f"{Path(exports[index]).parent.name:8} {name:32} {output:20} {verdict}")
    print(f"{failures} of {len(answers.files)} outputs differ")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
