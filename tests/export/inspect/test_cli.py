"""`mask-inspect` as people type it."""

import json
import subprocess
import sys

import pytest


def mask_inspect(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "maskport.export.inspect", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip


def test_json_and_a_page_in_one_go(medical, photo, tmp_path):
    words = (medical.base_path, "--json", "--html=page.html", f"--image={photo}", "--runs=1", "--model_name=ct")
    done = mask_inspect(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "mask-inspect: wrote page.html\n")
    found = json.loads(done.stdout)
    assert list(found["signatures"]) == ["mask", "mask_png"]
    assert found["signatures"]["mask"]["milliseconds"] > 0
    assert f"base64 < {photo}" in found["signatures"]["mask_png"]["calls"]["curl"]
    assert "model='ct'" in found["signatures"]["mask_png"]["calls"]["python"]
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "photo.png, 90 × 120 pixels" in page


def test_text_for_a_saved_model_of_others_and_the_protoset(foreign, tmp_path):
    done = mask_inspect(foreign, "--protoset=set", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("adder\n")
    assert b"tensorflow_serving/apis/predict.proto" in (tmp_path / "set").read_bytes()


def test_help_answers_at_once():
    done = mask_inspect("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("json", "html", "image", "runs", "calls", "model_name", "rest_address", "grpc_address", "protoset"):
        assert f"--{name}:" in done.stdout or f"--[no]{name}:" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give a version directory, or a base path"),
        (["a", "b"], 2, "one directory at a time; got a b"),
        (["a", "--runs=-1"], 2, "flag --runs=-1"),
        (["a", "--rest_address=localhost:8501"], 2, "--rest_address=localhost:8501: wanted http://HOST:PORT or https"),
        (["a", "--grpc_address=http://a"], 2, "--grpc_address=http://a: wanted grpc://HOST:PORT or grpcs://"),
        (["nowhere"], 1, "nowhere: no such directory"),
    ],
)
def test_mistakes_end_with_one_line_and_their_exit_code(tmp_path, words, code, message):
    done = mask_inspect(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"mask-inspect: {message}")
    assert done.stderr.count("\n") == 1


def test_an_unknown_name_of_a_call_is_a_mistake_too(medical):
    done = mask_inspect(medical.path, "--calls=mask_pgn", "--runs=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mask-inspect: --calls: there is no call of 'mask_pgn'; there are: mask, mask_png")
