"""`mask-calibrate` as people type it."""

import csv
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml
from PIL import Image


def mask_calibrate(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "maskport.export.calibrate", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


FOLDERS = ("--spec=spec.yaml", "--images=images", "--masks=masks")


@pytest.fixture
def workplace(labelled, tmp_path):
    shutil.copytree(labelled.folder, tmp_path / "here")
    return tmp_path / "here"


def test_a_calibration_prints_saves_and_writes_what_it_recommends(workplace):
    done = mask_calibrate(*FOLDERS, "--write", "--out=found/out", cwd=workplace)
    assert (done.returncode, done.stderr) == (0, "")
    *others, last = done.stdout.splitlines()
    assert last.startswith("recommended threshold: 0.6")
    threshold = float(last.split()[-1])
    assert others[0].startswith("4 pictures, 0.0 million pixels, ")
    assert others[1].startswith("values in the masks: 0 (")
    assert others[1].endswith("%, foreground)")
    assert others[-1] == "written into spec.yaml"
    before = (workplace / "spec.yaml").read_text()
    assert yaml.safe_load(before)["threshold"] == threshold
    assert before.startswith("# chosen by hand\n")
    with (workplace / "found/out/calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["threshold"] for row in rows] == [f"{index / 1000:.3f}" for index in range(1001)]
    best = max(rows, key=lambda row: float(row["iou"]))
    assert float(best["iou"]) == pytest.approx(float(rows[round(threshold * 1000)]["iou"]), abs=1e-6)
    at_half = rows[500]
    found, wrong, missed = (int(at_half[f"{name}s"]) for name in ("true_positive", "false_positive", "false_negative"))
    assert float(at_half["dice"]) == pytest.approx(2 * found / (2 * found + wrong + missed), abs=1e-6)
    plot = ET.parse(workplace / "found/out/calibration.svg").getroot()
    texts = [element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert {"IoU", "Dice", "precision", "recall", "in the spec: 0.5"} <= set(texts)
    assert any(text.startswith("recommended: 0.6") for text in texts)
    page = (workplace / "found/out/calibration.html").read_text()
    assert f"Recommended threshold: {last.split()[-1]}</h1>" in page
    assert all(f'<td class="number">{score}</td>' in page for score in others[4].split()[1:])
    assert 'class="warning"' not in page
    assert page.count("<svg") == 1
    assert not (workplace / "never_made").exists()


def test_what_cannot_be_used_is_named_and_nothing_is_written(workplace):
    (workplace / "images/lonely.png").write_bytes(b"")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(workplace / "masks/photo3.png")
    before = (workplace / "spec.yaml").read_text()
    done = mask_calibrate(*FOLDERS, "--write", "--out=", cwd=workplace)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "mask-calibrate: images/lonely.png: has no partner, left out",
        "mask-calibrate: mask masks/photo3.png: is 2x2, its upright picture 33x33, left out",
        "mask-calibrate: not written into spec.yaml: mend or remove the bad pair first (there is 1)",
    ]
    assert done.stdout.splitlines()[-1].startswith("recommended threshold: 0.")
    assert (workplace / "spec.yaml").read_text() == before
    assert not (workplace / "calibration").exists()


def test_values_are_named_by_flags_and_nothing_is_written_in_doubt(workplace):
    rng = np.random.default_rng(3)
    for path in (workplace / "masks").iterdir():
        truth = np.asarray(Image.open(path)) > 0
        noise = rng.integers(0, 3, truth.shape, np.uint8)
        Image.fromarray(np.where(truth, 255 - noise, noise)).save(path)
    before = (workplace / "spec.yaml").read_text()
    done = mask_calibrate(*FOLDERS, "--write", "--out=", cwd=workplace)
    assert done.returncode == 1
    first, *_, last = done.stderr.splitlines()
    assert "--foreground_values=128-255 takes the upper half" in first
    assert last.startswith("mask-calibrate: not written into spec.yaml")
    assert (workplace / "spec.yaml").read_text() == before
    named = mask_calibrate(*FOLDERS, "--write", "--out=", "--foreground_values=128-255", cwd=workplace)
    assert (named.returncode, named.stderr) == (0, "")
    assert named.stdout.splitlines()[-1].startswith("recommended threshold: 0.6")
    assert (workplace / "spec.yaml").read_text() != before


def test_flags_override_the_specs_fields_and_choose_the_criterion(workplace):
    words = ("--criterion=precision_at_recall", "--target=0.9", "--average=pictures", "--foreground=0")
    done = mask_calibrate(*FOLDERS, *words, cwd=workplace)
    assert done.returncode == 0
    threshold = float(done.stdout.splitlines()[-1].removeprefix("recommended threshold: "))
    with (workplace / "calibration/calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    reaching = [row for row in rows if float(row["mean_recall"]) >= 0.9 and int(row["true_positives"])]
    best = max(float(row["mean_precision"]) for row in reaching)
    assert float(rows[round(threshold * 1000)]["mean_precision"]) == pytest.approx(best, abs=1e-6)
    # The other class is what is least probable where the foreground is.
    assert threshold < 0.2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give --images=FOLDER"),
        (["--images=images"], 2, "give --masks=FOLDER"),
        (["--images=images", "--masks=masks"], 2, "give --spec=FILE.yaml, or --source"),
        (["--images=images", "--masks=masks", "--source=a", "--write"], 2, "--write needs --spec=FILE.yaml"),
        (["--images=images", "--masks=masks", "--spec=none.yaml"], 2, "spec none.yaml: cannot be read"),
        ([*FOLDERS, "images"], 2, "unexpected argument 'images'"),
        ([*FOLDERS, "--criterion=best"], 2, "flag --criterion=best: value should be one of"),
        ([*FOLDERS, "--ignore_value=void"], 2, "--ignore_value: 'void' is no value of a mask"),
        ([*FOLDERS, "--foreground_values=3-"], 2, "--foreground_values: '3-' is no value of a mask"),
        ([*FOLDERS, "--target=2"], 2, "flag --target=2"),
        ([*FOLDERS, "--foreground=nothing"], 2, "spec spec.yaml: foreground: no class 'nothing'"),
        ([*FOLDERS, "--images=nowhere"], 1, "nowhere: no such folder"),
    ],
)
def test_mistakes_end_with_one_line_and_their_exit_code(labelled, words, code, message):
    done = mask_calibrate(*words, "--verbosity=-2", cwd=labelled.folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"mask-calibrate: {message}")
    assert done.stderr.count("\n") == 1
