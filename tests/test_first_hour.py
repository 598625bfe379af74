"""docs/first_hour.md, typed from top to bottom: a model, an export, a server, masks, a service around it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/first_hour.md").read_text()
SIGNATURES = "serving_default,mask_png,mask_png_at_threshold,export_info"
QUICKER = {
    "python examples/train_toy.py": "PYTHONPATH=examples python -c 'import train_toy; train_toy.main(48, 2)'",
    "mask-export --source=model.keras --scaling=unit --output_dir=served/mine --dry_run\n": "",  # as what follows
    "--output_dir=served/mine\n": f"--output_dir=served/mine --signatures={SIGNATURES}\n",
    "--wait=120": "--wait=600",
    "--retry 20": "--retry 300",
    "uvicorn --app-dir": "MASK_DEADLINE_S=300 uvicorn --app-dir",
}
"""In place of what is typed: the same, with less of it, and time for it on a busy machine."""
BEFORE = ("scripts/install", "source ", "pip install")


def typed(text):
    """What the page has one type, but for what makes an environment."""
    for block in re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL):
        lines = [line for line in block[1].splitlines() if not line.startswith(BEFORE)]
        yield "\n".join(lines if block[0] == "sh" else ["python - <<'END'", *lines, "END"]) + "\n"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_the_readme_has_one_type_the_same():
    (readme,) = re.findall(r"```sh\n(source .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in readme.splitlines():
        assert f"\n{line}\n" in TEXT


def test_everything_that_is_typed_works(tmp_path):
    for name in ("examples", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = "".join(["set -ex\n", "trap 'kill $(jobs -p) && wait' EXIT\n", *typed(TEXT)])
    for shown, quicker in QUICKER.items():
        assert shown in script
        script = script.replace(shown, quicker)
    for shown, port in zip((8500, 8501, 8080), free_ports(3), strict=True):
        script = re.sub(rf"((?:localhost:|port[= ])){shown}\b", rf"\g<1>{port}", script)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert "saved model.keras" in done.stdout
    shown = TEXT.partition('```text\n{"ready"')[2].partition("```")[0].splitlines()[1:]
    for text in ['{"ready":true}', *shown]:
        assert text in done.stdout, (text, done.stdout)
    assert re.search(r"\(303, 384\) \d+", done.stdout)
    with Image.open(tmp_path / "mask.png") as mask, Image.open(tmp_path / "cutout.png") as cutout:
        assert mask.size == cutout.size == (384, 303)
        alpha = np.array(cutout.getchannel("A"))
        np.testing.assert_array_equal(np.array(mask.convert("L")), alpha)
    inside = data.coins()[alpha > 0]
    assert inside.size == 0 or inside.mean() > data.coins().mean()  # bright things, if so little training finds any
