"""`mask-export` as people type it."""

import subprocess
import sys

import pytest
import toy_models
import yaml
from maskport.export import ExportSpec
from reference import Toy


def mask_export(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "maskport.export", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spec")
    toy_models.keras_model(Toy.make(3, 2, gain=4)).save(folder / "toy.keras")
    fields = {
        "source": "toy.keras",
        "output_dir": "served/toy",
        "activation": "softmax",
        "classes": ["sky", "cat"],
        "foreground": "sky",
        "signatures": ["mask"],
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(fields))
    return folder / "toy.yaml"


def test_help_lists_every_field_of_the_spec():
    done = mask_export("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ExportSpec.model_fields:
        assert f"--{name}:" in done.stdout or f"--[no]{name}:" in done.stdout


def test_an_export_prints_the_version_directory_and_its_steps(spec_file):
    done = mask_export("--spec=toy.yaml", "--foreground=cat", "--nowarmup", cwd=spec_file.parent)
    assert (done.returncode, done.stdout) == (0, "served/toy/1\n")
    steps = ["Starting TensorFlow", "Loading toy.keras", "Writing 1 signatures", "Checking it", "Publishing"]
    assert [line.split("✓ ")[1][:7] for line in done.stderr.splitlines()] == [step[:7] for step in steps]
    assert not (spec_file.parent / "served/toy/1/assets.extra/tf_serving_warmup_requests").exists()


def test_verbosity_silences_the_steps(spec_file):
    done = mask_export("--spec=toy.yaml", "--verbosity=-2", "--output_dir=quiet", cwd=spec_file.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "quiet/1\n", "")


def test_a_dry_run_prints_the_resolved_spec_and_writes_nothing(spec_file):
    done = mask_export("--spec=toy.yaml", "--threshold=0.25", "--output_dir=nowhere", "--dry_run", cwd=spec_file.parent)
    assert done.returncode == 0
    assert "  threshold: 0.25\n" in done.stdout
    assert '  foreground: ["sky"]\n' in done.stdout
    assert "  mask: image -> mask" in done.stdout
    assert not (spec_file.parent / "nowhere").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give --spec=FILE.yaml, or --source and --output_dir"),
        (["model.keras"], 2, "unexpected argument 'model.keras'; the model is given by --source"),
        (["--sourse=a"], 2, "Unknown command line flag 'sourse'. Did you mean: source"),
        (["--source=a.keras"], 2, "output_dir: is needed"),
        (["--source=a.keras", "--output_dir=b", "--threshold=2"], 2, "threshold: input should be less than or"),
        (["--spec=none.yaml"], 2, "spec none.yaml: cannot be read: No such file or directory"),
        (["--source=none.keras", "--output_dir=b"], 1, "source none.keras: no such file or directory"),
    ],
)
def test_mistakes_end_with_one_line_and_their_exit_code(tmp_path, words, code, message):
    done = mask_export(*words, "--verbosity=-2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"mask-export: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
