"""The very commands of the containers, run on the embedded server, and verified."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from maskport.serving.verify import VerifyOptions, read_export, verify
from serving_artefacts import CONFIGS, ROOT, MaskServe, composed, dockerfile_flags, local_configs


def test_compose_runs_the_dockerfile_s_command():
    # But for what renews connections, which the proxy does there.
    flags = composed("cpu")["services"]["serving"]["command"]
    assert flags == [flag for flag in dockerfile_flags() if "grpc_channel_arguments" not in flag]


def test_the_container_s_command_serves_and_passes_verify(coins_export, tmp_path):
    configs = local_configs(tmp_path / "configs", coins_export.parent)
    with MaskServe(dockerfile_flags(), {"/configs": configs}, tmp_path / "grpc.sock") as server:
        report = verify(
            [server.grpc_address, server.rest_address],
            "coins",
            read_export(coins_export / "1"),
            VerifyOptions(repeats=1),
        )
        assert report.holds, [one.all_problems() for one in report.addresses]

        def available(*words):
            return subprocess.run(
                ["/bin/bash", CONFIGS / "model_is_available", *words], capture_output=True, text=True, check=False
            )

        assert available(str(server.rest_port), "coins").returncode == 0
        assert available(str(server.rest_port), "coins/versions/1").returncode == 0
        gone = available(str(server.rest_port), "coins", "coins/versions/9")
        assert (gone.returncode, gone.stdout) == (1, "")
        assert re.search(r"coins/versions/9: HTTP/1\.[01] 404", gone.stderr)
    closed = available(str(server.rest_port), "coins")
    assert closed.returncode == 1
    assert "is closed" in closed.stderr
    assert available("1").returncode == 2


def serve_docker(*words, **variables):
    # Without a home for an engine's socket; where one runs all the same, the test of it below is the one to run.
    return subprocess.run(
        [ROOT / "scripts/serve_docker", *words],
        capture_output=True, text=True, check=False,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock", **variables},
    )  # fmt: skip


def test_without_an_engine_one_line_names_the_embedded_server(coins_export):
    done = serve_docker(str(coins_export), GRPC_PORT="9000")
    assert done.returncode == 1
    assert done.stderr == (
        "serve_docker: no Docker engine answers here; the embedded server serves the same: .venv/bin/mask-serve "
        f"--model_name=coins --model_base_path={coins_export} --port=9000 --rest_api_port=8501\n"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "EXPORT_BASE is missing"),
        (["/nowhere"], "/nowhere is no directory"),
        (["--nope", "x"], "unknown flag --nope"),
        (["TMP"], "holds no version"),
        (["/tmp", "/tmp"], "one EXPORT_BASE, not"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(words, complaint, tmp_path):
    (tmp_path / "coins").mkdir()
    done = serve_docker(*(word.replace("TMP", str(tmp_path / "coins")) for word in words))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def has_engine():
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.docker
@pytest.mark.skipif(not has_engine(), reason="no Docker engine answers here")
@pytest.mark.timeout(900)
def test_tensorflow_serving_in_docker_passes_verify(coins_export, tmp_path):
    variables = {
        **os.environ, "GRPC_PORT": "18500", "REST_PORT": "18501", "XDG_STATE_HOME": str(tmp_path),
    }  # fmt: skip
    try:
        started = subprocess.run(
            [ROOT / "scripts/serve_docker", coins_export], env=variables, capture_output=True, text=True, check=False
        )
        assert started.returncode == 0, started.stderr
        addresses = ["grpc://127.0.0.1:18500", "http://127.0.0.1:18501"]
        report = verify(addresses, "coins", read_export(Path(coins_export) / "1"), VerifyOptions(wait_s=60))
        assert report.holds, [one.all_problems() for one in report.addresses]
    finally:
        compose = ["docker", "compose", "-p", "maskport-coins", "-f", ROOT / "serving/docker/compose.yaml"]
        subprocess.run([*compose, "--profile", "cpu", "down"], env=variables, check=False)
