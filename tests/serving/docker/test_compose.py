"""The compose file, as the Compose tool understands it."""

import re
from pathlib import Path

import pytest
from serving_artefacts import CONFIGS, DOCKER, compose, composed

ALL = ("cpu", "gpu", "monitoring")
REAL_FLAGS = (Path(__file__).parents[1] / "server/tensorflow_model_server_flags.txt").read_text().split()


@pytest.fixture(scope="module")
def everything():
    return composed(*ALL)


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        (("cpu",), {"serving", "proxy"}),
        (("gpu",), {"serving-gpu", "proxy-gpu"}),
        (("cpu", "monitoring"), {"serving", "proxy", "prometheus", "grafana"}),
        (("gpu", "monitoring"), {"serving-gpu", "proxy-gpu", "prometheus", "grafana"}),
    ],
)
def test_profiles_choose_services(profiles, services):
    # Compose 1 shows services of other profiles too.
    shown = composed(*profiles)["services"]
    assert {name for name, service in shown.items() if set(service["profiles"]) & set(profiles)} == services


def test_the_tool_would_refuse_nonsense(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("stop_signal: SIGQUIT", "stop_signals: SIGQUIT"))
    assert compose("-f", wrong, "--profile", "cpu", "config").returncode != 0


def test_every_service_is_hardened_limited_and_pinned(everything):
    services = everything["services"]
    assert len(services) == 6
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert service["mem_limit"], name
        # Docker refuses more than there are; 0 is as many as there are.
        assert float(service["cpus"]) <= 1, name
        assert re.search(r":v?\d+\.\d+", service["image"]), name


def test_the_server_is_reached_through_the_proxy_only(everything):
    services = everything["services"]
    assert everything["networks"]["inside"]["internal"] is True
    for name in ("serving", "serving-gpu"):
        assert "ports" not in services[name]
        assert set(services[name]["networks"]) == {"inside"}
        assert services[name]["networks"]["inside"]["aliases"] == ["serving"]
    assert "ports" not in services["prometheus"]
    for name in ("proxy", "proxy-gpu", "grafana"):
        assert all(str(port).startswith("127.0.0.1:") or _host(port) == "127.0.0.1" for port in services[name]["ports"])


def _host(port):
    return port.get("host_ip") if isinstance(port, dict) else None


def test_the_proxy_waits_for_the_model_and_is_stopped_first(everything):
    for proxy, server in (("proxy", "serving"), ("proxy-gpu", "serving-gpu")):
        # What depends on another is started after it, and stopped before it.
        assert everything["services"][proxy]["depends_on"][server]["condition"] == "service_healthy"
        assert everything["services"][proxy]["stop_signal"] == "SIGQUIT"
        assert everything["services"][server]["init"] is True
        assert "model_is_available 8501" in everything["services"][server]["healthcheck"]["test"][-1]


def test_a_gpu_is_asked_for_in_its_profile_only(everything):
    devices = everything["services"]["serving-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]
    assert "deploy" not in everything["services"]["serving"]
    assert everything["services"]["serving-gpu"]["image"].endswith("-gpu")


def test_flags_are_tensorflow_servings_and_their_files_are_mounted(everything):
    for name in ("serving", "serving-gpu"):
        service = everything["services"][name]
        for flag in service["command"]:
            key, value = re.fullmatch(r"--(\w+)(?:=(.*))?", flag).groups()
            assert key in REAL_FLAGS
            if value and value.startswith("/configs/"):
                assert (CONFIGS / value.removeprefix("/configs/")).is_file()
        assert mounts(service)["/configs"] == str(CONFIGS)
        assert all(is_read_only(volume) for volume in service["volumes"])


def test_many_callers_find_a_thread_of_grpc_and_the_container_may_have_so_many(everything):
    for name in ("serving", "serving-gpu"):
        service = everything["services"][name]
        (threads,) = (flag.partition("=")[2] for flag in service["command"] if flag.startswith("--grpc_max_threads"))
        assert 64 < int(threads) < int(service["pids_limit"]) / 2
    chosen = composed("cpu", GRPC_MAX_THREADS="300")["services"]["serving"]["command"]
    assert "--grpc_max_threads=300" in chosen


def test_mounted_files_are_there(everything):
    for service in everything["services"].values():
        for target, source in mounts(service).items():
            if source.startswith("/") and target != "/models/coins":
                assert Path(source).exists(), source


def mounts(service):
    """Source by target of a service's volumes, in the short form or the long one."""
    found = {}
    for volume in service["volumes"]:
        source, target = (volume["source"], volume["target"]) if isinstance(volume, dict) else volume.split(":")[:2]
        found[target] = source
    return found


def is_read_only(volume):
    return volume["read_only"] if isinstance(volume, dict) else volume.endswith(":ro")


def test_variables_choose_the_model():
    service = composed("cpu", EXPORT_BASE="/srv/people", MODEL_NAME="people", CONFIG_DIR=str(CONFIGS))["services"][
        "serving"
    ]
    assert mounts(service)["/models/people"] == "/srv/people"
    assert service["environment"]["MODEL_NAME"] == "people"
