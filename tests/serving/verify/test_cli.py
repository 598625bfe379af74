"""`mask-verify` as pipelines run it: from outside the process."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

MASK_VERIFY = Path(sys.executable).with_name("mask-verify")


def run(*words, **options):
    return subprocess.run([MASK_VERIFY, *words], capture_output=True, text=True, check=False, **options)


@pytest.fixture
def both(serve, publish, true_export):
    """The addresses of a server of the true model, as flags."""
    server = serve(publish(v1=true_export))
    return [f"--address={server.grpc_address}", f"--address={server.rest_address}", "--model=toy"]


def test_the_true_model_passes(both, true_export, tmp_path):
    done = run(*both, f"--export_dir={true_export}", "--junit=report.xml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": agrees with ") == 2
    assert "DOES NOT AGREE" not in done.stdout
    suites = ET.parse(tmp_path / "report.xml").getroot().findall("testsuite")
    assert [(suite.get("tests"), suite.get("failures")) for suite in suites] == [("7", "0"), ("7", "0")]


def test_json_is_all_of_the_output(both, true_export, tmp_path):
    done = run(*both, f"--golden={true_export}/assets.extra/golden", "--json", "--signatures=mask_png,mask")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["holds"]
    assert [[one["signature"] for one in address["signatures"]] for address in report["addresses"]] == [
        ["mask", "mask_png"], ["mask", "mask_png"],
    ]  # fmt: skip


def test_another_model_fails_with_what_is_behind_it(both, export, tmp_path):
    done = run(*both, f"--export_dir={export(seed=2)}", "--junit=report.xml", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert not json.loads(done.stdout)["holds"]
    lines = done.stderr.splitlines()
    assert all(line.startswith(("mask-verify: grpc://", "mask-verify: http://")) for line in lines)
    assert sum("likely cause: another model is served: source.sha256" in line for line in lines) == 2
    failures = ET.parse(tmp_path / "report.xml").getroot().findall("testsuite/testcase/failure")
    assert len(failures) == 14


def test_an_unknown_label_fails(both, true_export):
    done = run(*both, f"--export_dir={true_export}", "--label=canary")
    assert done.returncode == 1
    assert "Unrecognized servable version label: canary" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_there_fails(true_export):
    done = run("--address=grpc://127.0.0.1:1", "--model=toy", f"--export_dir={true_export}")
    assert done.returncode == 1
    assert "likely cause: nothing answers at this address" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model=m", "--golden=x"], "--address is missing"),
        (["--address=grpc://h:1", "--golden=x"], "--model is missing"),
        (["--address=grpc://h:1", "--model=m"], "exactly one of --export_dir and --golden"),
        (["--address=grpc://h:1", "--model=m", "--golden=x", "--export_dir=x"], "exactly one of"),
        (["--address=grpc://h:1", "--model=m", "--golden=TRUE", "--version=1", "--label=a"], "exclude each other"),
        (["--address=grpc://h:1", "--model=m", "--golden=/nowhere"], "/nowhere holds no golden requests"),
        (["--address=grpc://h:1", "--model=m", "--export_dir=/nowhere"], "/nowhere is no version directory"),
        (["--address=ftp://h:1", "--model=m", "--golden=TRUE"], "ftp"),
        (["--address=grpc://h:1", "--model=m", "--golden=TRUE", "--signatures=nope"], "no golden request for"),
        (["--address=grpc://h:1", "--model=m", "--golden=TRUE", "--nope"], "nope"),
        (["--address=grpc://h:1", "--model=m", "--golden=TRUE", "--metadata=x"], "--metadata=x is not KEY=VALUE"),
        (["--address=grpc://h:1", "--model=m", "--golden=TRUE/golden.json"], "cannot be read: Not a directory"),
        (
            ["--address=grpc://h:1", "--model=m", "--golden=TRUE", "--token_file=/nowhere"],
            "--token_file=/nowhere cannot be read: No such file or directory",
        ),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(words, complaint, true_export):
    done = run(*(word.replace("TRUE", f"{true_export}/assets.extra/golden") for word in words))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_answers_at_once():
    done = run("--help")
    assert done.returncode == 0
    assert "--export_dir" in done.stdout


def test_the_module_is_the_command(true_export):
    done = subprocess.run(
        [sys.executable, "-m", "maskport.serving.verify", "--model=m"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "mask-verify: --address is missing (see mask-verify --help)\n")
