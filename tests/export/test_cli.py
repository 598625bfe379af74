"""`mask-export` as people type it."""

import os
import subprocess
import sys

import pytest
import toy_models
import yaml
from maskport.export import ExportSpec
from reference import Toy


def mask_export(*words, cwd=None, command="export", **variables):
    return subprocess.run(
        [sys.executable, "-m", f"maskport.{command}", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **variables},
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
    steps = ["Starting", "Loading toy.keras", "Writing 1 signatures", "Its own answers", "Checking it", "Publishing"]
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


@pytest.fixture
def without_tensorflow(tmp_path):
    """Environment variables with which TensorFlow and Keras cannot be imported."""
    for package in ("tensorflow", "keras"):
        (tmp_path / "poison" / package).mkdir(parents=True)
        (tmp_path / "poison" / package / "__init__.py").write_text("raise RuntimeError('it was imported')")
    return {"PYTHONPATH": str(tmp_path / "poison")}


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("export", "--source=none.keras --output_dir=b", "source none.keras: no such file or directory"),
        ("export", "--source=none.keras --output_dir=b --dry_run", "source none.keras: no such file or directory"),
        ("export.calibrate", "--source=none.keras --images=. --masks=poison", "source none.keras: no such file or"),
        ("export.inspect", "none", "none: no such directory"),
    ],
)
def test_what_is_not_there_is_said_before_tensorflow_starts(tmp_path, without_tensorflow, command, words, message):
    done = mask_export(*words.split(), cwd=tmp_path, command=command, **without_tensorflow)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mask-{command.rpartition('.')[2]}: {message}")
    assert done.stderr.count("\n") == 1


def test_another_backend_of_keras_is_named_before_it_is_imported(spec_file, tmp_path, without_tensorflow):
    source = f"--source={spec_file.parent / 'toy.keras'}"
    message = "KERAS_BACKEND=jax, and an export needs Keras to run on TensorFlow: unset it, or set it to tensorflow"
    for command, *words in (("export", "--output_dir=out"), ("export.calibrate", "--images=.", "--masks=poison")):
        done = mask_export(source, *words, cwd=tmp_path, command=command, KERAS_BACKEND="jax", **without_tensorflow)
        assert done.returncode == 1
        assert done.stderr.startswith(f"mask-{command.rpartition('.')[2]}: {message}")
        assert done.stderr.count("\n") == 1
    script = "from maskport.export import export_model; export_model('nowhere.keras', 'out')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax", **without_tensorflow},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(f"maskport.export.errors.ExportError: {message}")
