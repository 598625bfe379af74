"""What whoever sends something can reach: no code, and no files."""

import ast
import json
import socket
import sys
import threading
from pathlib import Path

import grpc
import pytest
from maskport.serving.server import EmbeddedServer, ServerSettings
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.server import ANY_PORT
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("export", "serving") for path in (ROOT / top).rglob("*.py"))

# Modules whose files are code, or that run what they are given.
CODE = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "code", "pty"}
RUNS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & CODE
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.partition(".")[0] not in CODE
        if not isinstance(node, ast.Call):
            continue
        words = {keyword.arg: keyword.value for keyword in node.keywords}
        for unsafe in ("allow_pickle", "shell"):
            assert unsafe not in words or not getattr(words[unsafe], "value", True), ast.unparse(node)
        if isinstance(node.func, ast.Name):
            assert node.func.id not in RUNS, ast.unparse(node)
            continue
        name = getattr(node.func, "attr", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        assert (owner, name) not in {("os", "system"), ("os", "popen")}, ast.unparse(node)
        if owner == "yaml" and name.endswith(("load", "load_all")) and not name.startswith("safe"):
            loader = ast.unparse(words.get("Loader") or node.args[1])
            assert "Safe" in loader or is_safe_loader(path, loader), ast.unparse(node)
        if name == "load_model":  # Keras'
            assert getattr(words["safe_mode"], "value", None) is not False, ast.unparse(node)
        if name == "model_from_json":  # which has no safe mode
            assert "refuse_code(" in path.read_text()


def is_safe_loader(path, name):
    """Whether a class of a module derives from yaml's safe loader."""
    classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    return any(node.name == name and "Safe" in ast.unparse(ast.Tuple(node.bases)) for node in classes)


NAMES = [
    "../../../../etc/passwd", "/etc/passwd", "coins/../../secret", "..", ".", "coins/1", "coins/1/assets.extra",
    "..%2f..%2fetc%2fpasswd", "%2e%2e/secret", "%252e%252e%252fsecret", "..\\..\\secret", "file:///etc/passwd", "~",
    "~root", "coins\0.png", "$HOME", "`id`", "$(id)", "{{7*7}}", "*", "con", "ｃoins", "x" * 5000,
]  # fmt: skip


def test_no_name_in_a_request_is_a_path(coins_export):
    touched = []
    watching = [False]

    def watch(event, words):
        is_of_files = event == "open" or event.split(".")[0] in ("os", "shutil", "glob", "subprocess", "pathlib")
        # Servers look for new versions meanwhile: this one, and those of other tests in this process.
        if watching[0] and is_of_files and threading.current_thread().name != "model-poller":
            touched.append((event, words))

    sys.addaudithook(watch)  # for good; it does nothing once the test is over
    settings = ServerSettings(grpc_port=ANY_PORT, load=LoadSettings(warms_up=False), drain_timeout_s=2)
    with (
        EmbeddedServer(coins_export, settings=settings) as server,
        grpc.insecure_channel(server.grpc_address[7:]) as channel,
    ):
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "coins"
        models, predictions = model_service_pb2_grpc.ModelServiceStub(channel), PredictionServiceStub(channel)
        models.GetModelStatus(status)
        answers = []
        watching[0] = True
        try:
            for name in NAMES:
                for field in ("name", "version_label", "signature_name"):
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name = "coins"
                    setattr(request.model_spec, field, name)
                    answers.append(code_of(lambda request=request: predictions.Predict(request, timeout=60)))
                quoted = name.replace("\0", "%00").replace("ｃ", "%EF%BD%83")
                for path in (
                    f"/v1/models/{quoted}",
                    f"/v1/models/coins/labels/{quoted}/metadata",
                    f"/{quoted}",
                    quoted,
                ):
                    answers.append(raw_status(server.rest_address, path))
                body = json.dumps({"signature_name": name, "instances": [{"b64": name}]}).encode()
                answers.append(raw_status(server.rest_address, "/v1/models/coins:predict", body))
        finally:
            watching[0] = False
    assert "OK" not in answers
    assert 200 not in answers
    assert not touched


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def raw_status(address, path, body=None):
    """The status of a request whose path is sent as it is, which libraries would mend."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        return int(connection.recv(64).split()[1])
