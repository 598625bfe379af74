"""The proxy's configuration in a real nginx, before the embedded server."""

import contextlib
import getpass
import re
import signal
import subprocess
import threading

import grpc
import httpx
import pytest
from maskport.serving.client import NO_RETRIES, MaskClient
from maskport.serving.server.inference import predictor
from maskport.serving.verify import VerifyOptions, read_export, verify
from processes import running
from serving_artefacts import CONFIGS, DOCKER, tool
from tensorflow_serving.apis import model_management_pb2
from waiting import PATIENCE_S, wait_until


def free_ports(count):
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def start_proxy(coins_server, tmp_path):
    """Starts nginx with the shipped file; only its ports, its folder for temporary files and the server are others."""
    nginx = tool("nginx")
    stack = contextlib.ExitStack()

    def start():
        grpc_port, rest_port = free_ports(2)
        text = (CONFIGS / "proxy.conf").read_text().replace(" /tmp/", f" {tmp_path}/")
        text = text.replace("listen 8500", f"listen 127.0.0.1:{grpc_port}")
        (tmp_path / "proxy.conf").write_text(text.replace("listen 8501", f"listen 127.0.0.1:{rest_port}"))
        upstreams = (DOCKER / "upstreams.conf").read_text()
        upstreams = upstreams.replace("serving:8500", coins_server.grpc_address.removeprefix("grpc://"))
        upstreams = upstreams.replace("serving:8501", coins_server.rest_address.removeprefix("http://"))
        (tmp_path / "upstreams.conf").write_text(upstreams)
        # Started by root, its workers would be others, who may not write here.
        command = [nginx, "-c", tmp_path / "proxy.conf", "-g", f"daemon off; user {getpass.getuser()};"]
        process = stack.enter_context(running(command, stderr=subprocess.PIPE, text=True))

        def answers():
            assert process.poll() is None, process.stderr.read()
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{rest_port}/")

        wait_until(answers, "nginx's start")
        return process, f"grpc://127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"

    with stack:
        yield start


def test_the_model_is_verified_through_the_proxy(start_proxy, coins_export):
    _, grpc_address, rest_address = start_proxy()
    report = verify([grpc_address, rest_address], "coins", read_export(coins_export / "1"), VerifyOptions(repeats=1))
    assert report.holds, [one.all_problems() for one in report.addresses]


def test_too_large_requests_are_refused_and_the_gate_says_so(start_proxy, coins_export):
    _, grpc_address, rest_address = start_proxy()
    options = VerifyOptions(signatures=("mask_png",), repeats=1, concurrency=0, message_mib=40)
    report = verify([grpc_address, rest_address], "coins", read_export(coins_export / "1"), options)
    for one in report.addresses:
        assert not one.holds
        assert all(signature.holds for signature in one.signatures)
        assert "refuses messages of this size: raise its limit" in "\n".join(one.causes)


def test_reloads_are_kept_from_callers(start_proxy, coins_server):
    _, grpc_address, _ = start_proxy()
    with grpc.insecure_channel(grpc_address.removeprefix("grpc://")) as channel:
        reload = channel.unary_unary(
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            model_management_pb2.ReloadConfigRequest.SerializeToString,
            model_management_pb2.ReloadConfigResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as raised:
            reload(model_management_pb2.ReloadConfigRequest(), timeout=PATIENCE_S)
    assert raised.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "not allowed through the proxy" in raised.value.details()
    with MaskClient(grpc_address, "coins") as client:
        assert [status.state.name for status in client.status()] == ["AVAILABLE"]


@pytest.mark.parametrize("path", ["/", "/monitoring/prometheus/metrics", "/v2/models/coins", "/v1/../monitoring"])
def test_only_models_are_reached_over_rest(start_proxy, path):
    _, _, rest_address = start_proxy()
    assert httpx.get(f"{rest_address}{path}").status_code == 404
    assert httpx.get(f"{rest_address}/v1/models/coins").status_code == 200


def test_stopping_the_proxy_loses_no_request(start_proxy, coins_export, monkeypatch):
    process, grpc_address, rest_address = start_proxy()
    (record,) = [one for one in read_export(coins_export / "1").records if one.signature == "masked_image_png"]
    failures, answered, before_the_end, begun = [], [], threading.Event(), []
    predict = predictor.predict

    def note(*arguments):
        begun.append(arguments)
        return predict(*arguments)

    monkeypatch.setattr(predictor, "predict", note)  # of the server behind, which is in this process

    def call(address):
        with MaskClient(address, "coins", retries=NO_RETRIES) as client:
            client.metadata()
            try:
                client.predict(record.signature, {"image_bytes": [record.inputs["image_bytes"][0]] * 200})
                answered.append(before_the_end.is_set())
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=call, args=[address]) for address in (grpc_address, rest_address)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(begun) == 2, "the calls")
    process.send_signal(signal.SIGQUIT)
    before_the_end.set()
    for thread in threads:
        thread.join()
    assert failures == [], process.stderr.read()
    assert answered == [True, True], "the requests were over before the proxy was stopped: nothing was shown"
    assert process.wait() == 0


def test_the_limits_are_those_that_the_documentation_tells():
    text = (CONFIGS / "proxy.conf").read_text()
    assert re.findall(r"client_max_body_size (\w+);", text) == ["32m"]
    assert "32 MB" in (CONFIGS.parents[1] / "docs/deploy.md").read_text()
