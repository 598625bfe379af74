"""The demo as a newcomer runs it, up to Ctrl-C; the calls that it prints are run as printed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import running
from skimage import data

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"}


def children_of(process_id):
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process_id)], capture_output=True, text=True, check=False
    )
    return listing.stdout.split()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo that has served, its output directory, and the calls that it printed."""
    output_dir = tmp_path_factory.mktemp("demo") / "demo_output"
    signatures = "--signatures=mask_png,mask_png_at_threshold,masked_image_png"  # quicker than with all of them
    command = [sys.executable, "scripts/demo.py", "--serve", f"--output_dir={output_dir}", "--", signatures]
    with running(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("    print("):
                break
        yield process, output_dir, "".join(lines)


def test_the_account_names_what_was_done(demo):
    _, output_dir, account = demo
    assert "the same over gRPC, over REST and in this process" in " ".join(account.split())
    for heading in ("model", "signatures", "one call", "on the wire"):
        assert f"\n{heading}" in account
    page = (output_dir / "index.html").read_text()
    assert page.count('<figure><img src="data:image/png;base64,') == 4
    assert "@media print" in page


def test_the_pictures_are_of_the_photographs_size_and_kind(demo):
    _, output_dir, _ = demo
    photo, mask = Image.open(output_dir / "photo.png"), Image.open(output_dir / "mask.png")
    np.testing.assert_array_equal(np.asarray(photo), data.coins())
    assert (mask.mode, mask.size) == ("L", photo.size)
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    masked = np.asarray(Image.open(output_dir / "masked_image.png"))
    np.testing.assert_array_equal(masked, np.where(np.asarray(mask) > 0, np.asarray(photo), 0))
    overlay = np.asarray(Image.open(output_dir / "overlay.png").convert("RGB")).astype(int)
    assert overlay.shape == (*mask.size[::-1], 3)
    assert (overlay[..., 0] > overlay[..., 1])[np.asarray(mask) > 0].mean() > 0.95


def test_the_readme_s_picture_is_the_demo_s(demo):
    with Image.open(ROOT / "docs/demo.png") as shown, Image.open(demo[1] / "side_by_side.png") as made:
        assert shown.size == made.size
        differences = np.asarray(shown.convert("RGB")).astype(int) - np.asarray(made.convert("RGB"))
        assert np.mean(np.abs(differences) > 40) < 0.01  # where another processor decides otherwise at an edge


def test_the_printed_calls_work_as_printed(demo):
    _, output_dir, account = demo
    shell, _, python = account.partition("# .venv/bin/python\n")
    commands = [line for line in shell.splitlines() if line.startswith(("curl", ".venv/bin/mask-client"))]
    assert len(commands) == 3
    status, predict, client = (
        subprocess.run(command, shell=True, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        for command in (command.replace(".venv/bin/", "") for command in commands)
    )
    assert '"AVAILABLE"' in status.stdout
    assert '"mask_bytes"' in predict.stdout
    assert client.returncode == 0
    with Image.open(output_dir / "again.png") as again:
        assert again.size == (384, 303)
    done = subprocess.run([sys.executable, "-c", python], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(303, 384) ")


def test_ctrl_c_ends_it_and_leaves_no_process(demo):
    process, _, _ = demo
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 0
    assert process.stdout.read().strip() == "Stopping the server."
    assert process.stderr.read() == ""
    assert children_of(process.pid) == []


def test_a_photograph_of_a_camera_is_masked_at_the_size_of_its_coins(demo, tmp_path):
    small, photo = Image.fromarray(data.coins()), tmp_path / "camera.jpg"
    small.resize((3840, 3030), Image.Resampling.BICUBIC).save(photo)
    words = [f"--image={photo}", f"--output_dir={tmp_path}", "--", "--signatures=mask_png,masked_image_png"]
    command = [sys.executable, "scripts/demo.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A photograph of 12 megapixels: the model sees it at longest=512." in done.stdout
    with Image.open(tmp_path / "mask.png") as mask, Image.open(demo[1] / "mask.png") as of_small:
        assert mask.size == (3840, 3030)
        one, other = np.asarray(mask) > 0, np.asarray(of_small.resize(mask.size)) > 0
    assert (one & other).sum() / (one | other).sum() > 0.95


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--image=nowhere.jpg"], 1, "scripts/demo: [Errno 2] No such file or directory: 'nowhere.jpg'"),
        (["--image=README.md"], 1, "scripts/demo: cannot identify image file"),
        (["photo.jpg"], 2, "scripts/demo: unexpected argument 'photo.jpg'"),
        (["--source=nowhere.keras"], 1, "scripts/demo: source nowhere.keras: no such file or directory"),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, code, message):
    command = [sys.executable, "scripts/demo.py", *words, f"--output_dir={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
