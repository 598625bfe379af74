"""The distribution: import names, what the wheel holds, and a working directory that shadows nothing."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import maskport.export
import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]


def folders():
    return sorted(path.parent for top in ("export", "serving") for path in (ROOT / top).rglob("__init__.py"))


def test_every_folder_of_the_house_is_in_the_distribution():
    assert sorted(PACKAGES) == sorted("maskport." + ".".join(f.relative_to(ROOT).parts) for f in folders())


def test_the_wheel_holds_the_very_files_under_maskport(tmp_path):
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what an earlier build left would go into this one
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("maskport-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    suffixes = {".py", ".pyi", ".typed", ".binpb", ".proto", ".html", ".js", ".css", ".j2", ".jpg", ".png", ".webp"}
    expected = {
        f"maskport/{file.relative_to(ROOT)}"
        for top in ("export", "serving")
        for file in (ROOT / top).rglob("*")
        if file.suffix in suffixes or file.name == "py.typed"
    }
    assert held == expected


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_every_package_is_pinned_by_its_hashes(path):
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9][\w.-]*==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]
    assert "://" not in text


@pytest.mark.parametrize("name", ["export.py", "serving.py"])
def test_a_stray_module_in_the_working_directory_changes_nothing(tmp_path, name):
    (tmp_path / name).write_text("raise RuntimeError('shadowed')")
    program = "import maskport.export, maskport.serving.contract; print(maskport.export.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == Path(maskport.export.__file__)


@pytest.mark.parametrize(
    "name",
    [".".join(("maskport", *stub.relative_to(ROOT).parts[:-1])) for stub in sorted(ROOT.glob("[es]*/**/__init__.pyi"))],
)
def test_lazy_packages_give_every_name_they_list(name):
    package = importlib.import_module(name)
    assert package.__all__ == sorted(set(package.__all__)) != []
    for member in package.__all__:
        assert getattr(getattr(package, member), "__name__", member) == member
    with pytest.raises(AttributeError, match="attribute nonsense"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("command", sorted(PYPROJECT["project"]["scripts"]))
def test_help_answers_without_tensorflow(command):
    module, _, function = PYPROJECT["project"]["scripts"][command].partition(":")
    program = (
        f"import sys; sys.argv = ['{command}', '--help']\n"
        f"from {module} import {function} as run\n"
        "try:\n    run()\n"
        "finally:\n    print(sorted({'tensorflow', 'keras'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "Flags:" in done.stdout


@pytest.mark.parametrize(
    ("command", "package", "words"),
    [
        ("mask-export", "pydantic", ["--help"]),
        ("mask-export", "tensorflow", ["--source=a.keras", "--output_dir=b", "--verbosity=-2"]),
        ("mask-calibrate", "yaml", ["--help"]),
        ("mask-serve", "tensorflow", ["--model_base_path=/m", "--port=1"]),
        ("mask-batch", "apache_beam", ["--input=x", "--output=y", "--model=z"]),
        ("mask-batch", "pyarrow", ["--input=x", "--output=y", "--model=z"]),
    ],
)
def test_without_its_extra_a_command_names_it_in_one_line(tmp_path, command, package, words):
    module, _, function = PYPROJECT["project"]["scripts"][command].partition(":")
    program = f"import sys; sys.modules[{package!r}] = None; from {module} import {function} as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    extra = {"mask-serve": "server", "mask-batch": "batch"}.get(command, "export")
    assert done.returncode == 1
    assert done.stderr == f"{command}: needs {package}, which is not installed: pip install 'maskport[{extra}]'\n"
