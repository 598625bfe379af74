"""`mask-client playground`: what its proxy passes on, to whom, and how it starts and ends."""

import base64
import html
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playing import BRIGHT, PHOTO, bright, playground, png
from processes import running

MASK_CLIENT = Path(sys.executable).with_name("mask-client")
FILE = base64.b64encode(png(PHOTO)["buffer"]).decode()
PREDICT = "/v1/models/model:predict"


def ask(url, method, path, body=None, **headers):
    """Status and JSON; `Host` is the URL's unless it is among the headers."""
    connection = http.client.HTTPConnection(url.split("/")[2])
    body = json.dumps(body) if isinstance(body, dict) else body
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    is_json = response.headers.get("Content-Type") == "application/json"
    return response.status, json.loads(content) if is_json else content


@pytest.fixture(params=["grpc", "rest"])
def url(request, serving):
    with playground(serving.address(request.param), "model") as url:
        yield url


def asking(signature, **inputs):
    return {"signature_name": signature, "inputs": {"image_bytes": [{"b64": FILE}], **inputs}}


def test_predictions_are_passed_on_in_tensorflow_servings_form(url):
    status, answer = ask(url, "POST", PREDICT, asking("mask_png_at_threshold", threshold=[0.3]))
    assert status == 200
    assert answer["outputs"]["error"] == [""]
    (mask,) = answer["outputs"]["mask_bytes"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(mask["b64"])))) > 0, bright(0.3))
    _, answer = ask(url, "POST", "/v1/models/model/versions/7:predict", asking("probability_png"))
    probability = Image.open(io.BytesIO(base64.b64decode(answer["outputs"]["probability_bytes"][0]["b64"])))
    assert np.array_equal(np.asarray(probability), np.rint(BRIGHT))
    # A lone output comes without its name, a string as text, numbers as they are.
    _, answer = ask(url, "POST", PREDICT, {"signature_name": "export_info", "inputs": {"query": ["info"]}})
    assert json.loads(answer["outputs"][0])["classes"] == ["dark", "bright"]
    _, answer = ask(url, "POST", PREDICT, {"signature_name": "double", "inputs": {"x": [1, 2.5]}})
    assert answer["outputs"]["y"] == [2, 5]


def test_states_and_signatures_are_those_that_rest_tells(url, serving):
    for path in ("/v1/models/model", "/v1/models/model/metadata"):
        status, passed = ask(url, "GET", path)
        direct = ask(serving.rest_address, "GET", path)[1]
        assert status == 200
        if path.endswith("/metadata"):
            passed, direct = (one["metadata"]["signature_def"]["signature_def"] for one in (passed, direct))
            direct.pop("__saved_model_init_op", None)
            assert list(passed) == sorted(direct)
            for name, signature in passed.items():
                for side in ("inputs", "outputs"):
                    assert {key: spec["dtype"] for key, spec in signature[side].items()} == {
                        key: spec["dtype"] for key, spec in direct[name][side].items()
                    }
        else:
            versions = [
                [(one["version"], one["state"]) for one in told["model_version_status"]] for told in (passed, direct)
            ]
            assert versions[0] == versions[1]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/models/nobody:predict", asking("mask_png"), 404, "Servable not found"),
        (PREDICT, asking("masks"), 400, "masks"),
        (PREDICT, asking("mask_png", threshold=[0.3]), 400, "threshold"),
        (PREDICT, "no json", 400, "is not understood"),
        (PREDICT, "[]", 400, "is not understood"),
        (PREDICT, '{"instances": [1]}', 400, "is not understood"),
        (PREDICT, '{"inputs": {"image_bytes": [{"b64": "?"}]}}', 400, "is not understood"),
        (f"/v1/models/model/versions/{2**63}:predict", "{}", 400, "more than 64 bits"),
        ("/v1/models/model:classify", "{}", 404, "is not passed on"),
        ("/v1/models/model/metadata", "{}", 404, "is not passed on"),
        ("/anything", "{}", 404, "is not passed on"),
    ],
)
def test_errors_and_other_paths(url, path, body, status, words):
    found, answer = ask(url, "POST", path, body)
    assert found == status
    assert words in answer["error"]


def test_nothing_else_is_passed_on(url, serving):
    for path in ("/v1/models", "/v1/models/", "/monitoring/prometheus/metrics", "/v1/models/model:predict", "/v2"):
        assert ask(url, "GET", path)[0] == 404
    assert ask(url, "PUT", "/v1/models/model")[0] == 501
    assert ask(url, "POST", PREDICT, None, Transfer_Encoding="chunked")[0] == 411  # before the first chunk is sent
    assert ask(url, "POST", PREDICT, b"", Content_Length="999999999999")[0] == 413
    assert serving.calls == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
def test_pages_of_other_names_get_nothing(url, serving, host):
    host = host.format(port=url.rstrip("/").rpartition(":")[2])
    for method, path in (
        ("GET", "/"),
        ("GET", "/v1/models/model"),
        ("POST", PREDICT),
    ):
        status, answer = ask(url, method, path, asking("mask_png") if method == "POST" else None, Host=host)
        assert (status, repr(host) in answer["error"]) == (403, True)
    assert serving.calls == []


def test_other_pages_may_not_ask_and_this_one_may(url, serving):
    for origin in ("http://evil.example", "null", "https://" + url.split("/")[2]):
        assert ask(url, "POST", PREDICT, asking("mask_png"), Origin=origin)[0] == 403
    assert serving.calls == []
    port = url.rstrip("/").rpartition(":")[2]
    for name in ("127.0.0.1", "localhost"):
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert ask(url, "POST", PREDICT, asking("mask_png"), **own)[0] == 200
        assert b"<!doctype html>" in ask(url, "GET", "/", Accept="text/html", Host=own["Host"])[1]


# ---- the command


def start(serving, *words, transport="grpc"):
    command = [MASK_CLIENT, "playground", f"--address={serving.address(transport)}", *words]
    return running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_says_where_it_is_and_ctrl_c_ends_it(serving, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with start(serving, "--model=model,other", "--version=7", f"--token_file={tmp_path / 'token'}") as process:
        line = process.stdout.readline()
        address = re.escape(serving.grpc_address)
        url = re.fullmatch(rf"Playground of {address}: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)[1]
        page = ask(url, "GET", "/", Accept="text/html")[1].decode()
        assert json.loads(html.unescape(re.search('name="served" content="([^"]+)"', page)[1])) == {
            "server": serving.grpc_address, "models": ["model", "other"], "version": 7, "label": None,
            "address": serving.grpc_address, "needs_token": True,
        }  # fmt: skip
        assert ask(url, "POST", PREDICT, asking("mask_png"))[0] == 200
        assert ("Predict", "Bearer secret") in [(name, sent.get("authorization")) for name, sent in serving.calls]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_a_port_in_use_is_one_line(serving):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start(serving, f"--port={port}") as process:
            assert process.wait() == 1
            assert process.stderr.read() == (
                f"mask-client: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port, "
                "or 0 for a free one\n"
            )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--address=host:8501"], "--address: address 'host:8501' has no scheme"),
        (["--port=70000"], "--port"),
        (["photo.jpg"], "playground takes no 'photo.jpg'"),
        (["--version=1", "--label=a"], "--version and --label exclude each other"),
    ],
)
def test_what_makes_no_sense_is_one_line(serving, words, complaint):
    with start(serving, *words) as process:
        assert process.wait() == 2
        lines = process.stderr.read().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mask-client: ")
    assert complaint in lines[0]
