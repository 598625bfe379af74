"""What curl gets over REST that no recorded request shows: time-outs, hosts, metrics, the limits."""

import gzip
import http.client
import json
import time

import pytest
import tensorflow as tf
from conformance import models
from maskport.serving.server.fronts.rest_front import RestSettings
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.models.text_configs import BatchingSettings
from maskport.serving.server.models.versions import ModelSettings
from waiting import PATIENCE_S, processor_use, wait_until


@pytest.fixture
def ask():
    """Sends a request; returns status, headers and body."""
    connections = []

    def send(server, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
        connections.append(connection)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    yield send
    for connection in connections:
        connection.close()


def model(made_models, name):
    return ModelSettings(name, str(made_models(f"{name}/1").parent))


def test_run_that_takes_too_long_is_answered_and_stopped(serve, made_models, ask):
    server = serve(model(made_models, "failing"), rest=RestSettings(timeout_s=0.3))
    body = '{"signature_name": "busy", "instances": [30]}'
    begin = time.monotonic()
    status, _, content = ask(server, "POST", "/v1/models/failing:predict", body)
    assert (status, json.loads(content)) == (504, {"error": "Timed out waiting for notification"})
    assert time.monotonic() - begin < 25
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computation")


def test_no_time_limit_is_no_limit(serve, made_models, ask):
    server = serve(model(made_models, "failing"), rest=RestSettings(timeout_s=None))
    body = '{"signature_name": "busy", "instances": [0.1]}'
    assert ask(server, "POST", "/v1/models/failing:predict", body)[0] == 200


@pytest.mark.parametrize("batching", [None, BatchingSettings()], ids=["alone", "in batches"])
def test_error_of_the_graph_may_quote_bytes_that_are_not_utf_8(serve, tmp_path, ask, batching):
    numbers = models.takes(text=([None], tf.string))(lambda text: {"number": tf.strings.to_number(text)})
    models.save(tmp_path / "numbers" / "1", {"serving_default": numbers})
    server = serve(ModelSettings("numbers", str(tmp_path / "numbers")), load=LoadSettings(batching=batching))
    status, _, body = ask(server, "POST", "/v1/models/numbers:predict", b'{"instances": [{"b64": "//4="}]}')
    assert status == 400
    assert "could not correctly convert string: \ufffd\ufffd\n" in json.loads(body)["error"]


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_body_that_is_not_utf_8_is_refused(serve, made_models, ask, verb):
    server = serve(model(made_models, "examples"))
    body = b'{"signature_name": "\xff", "examples": [{"x": 1.5}]}'
    status, _, content = ask(server, "POST", f"/v1/models/examples:{verb}", body)
    assert status == 400
    assert json.loads(content)["error"].startswith("JSON Parse error: ")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1", "127.0.0.9:1", "[::1]", "[::1]:8501", ""])
def test_hosts_of_this_machine_are_served(serve, made_models, ask, host):
    server = serve(model(made_models, "arithmetic"))
    assert ask(server, "GET", "/v1/models/arithmetic", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"])
def test_other_hosts_are_refused_on_loopback(serve, made_models, ask, host):
    server = serve(model(made_models, "arithmetic"), rest=RestSettings(metrics_path="/metrics"))
    for path in ("/v1/models/arithmetic", "/metrics", "/", "/nope"):
        status, _, body = ask(server, "GET", path, headers={"Host": host})
        assert status == 403
        assert host in json.loads(body)["error"]


def test_any_host_is_served_elsewhere_with_a_warning(serve, made_models, ask, caplog):
    server = serve(model(made_models, "arithmetic"), host="0.0.0.0")
    assert ask(server, "GET", "/v1/models/arithmetic", headers={"Host": "masks.example"})[0] == 200
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "nothing encrypts gRPC and REST at 0.0.0.0, and whoever reaches it may ask anything: "
    )


def test_more_rows_than_a_request_may_have_are_refused(serve, made_models, ask):
    server = serve(model(made_models, "strings"), model(made_models, "images"), load=LoadSettings(max_request_rows=3))

    def status(name, **body):
        code, _, answer = ask(server, "POST", f"/v1/models/{name}:predict", json.dumps(body))
        return code, json.loads(answer).get("error", "")

    assert status("strings", instances=["a"] * 3) == (200, "")
    wanted = (400, "4 rows are more than a request may have here: 3 (--max_request_rows)")
    assert status("strings", instances=["a"] * 4) == wanted
    image = [[[0, 0, 0]]]
    assert status("images", instances=[image] * 3) == (200, "")
    assert status("images", instances=[image] * 4) == wanted


def test_root_is_not_there(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"))
    status, headers, body = ask(server, "GET", "/")
    assert (status, headers["content-type"]) == (404, "text/html")
    assert b"404 Not Found" in body


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_browsers_get_a_page_at_the_root_that_knows_the_models(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"), model(made_models, "failing"))
    status, headers, body = ask(server, "GET", "/", headers=BROWSER)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert b"<!doctype html>" in body
    assert b"&quot;models&quot;: [&quot;arithmetic&quot;, &quot;failing&quot;]" in body
    status, headers, body = ask(server, "GET", "/playground/samples/coins.jpg")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    again = ask(server, "GET", "/playground/samples/coins.jpg", headers={"If-None-Match": headers["etag"]})
    assert (again[0], again[2]) == (304, b"")
    for method, path in (
        ("POST", "/"),
        ("PUT", "/playground/samples/coins.jpg"),
        ("GET", "/playground/site.py"),
        ("GET", "/x"),
    ):
        assert ask(server, method, path, headers=BROWSER)[0] == 404
    assert ask(server, "GET", "/", headers={**BROWSER, "Host": "evil.example"})[0] == 403


def test_without_the_playground_browsers_are_answered_as_by_the_original(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"), rest=RestSettings(has_playground=False))
    for path in ("/", "/playground/samples/coins.jpg"):
        assert ask(server, "GET", path, headers=BROWSER)[0] == 404


def test_requests_are_counted_as_tensorflow_serving_counts_them(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"), rest=RestSettings(metrics_path="/metrics"))
    good = '{"instances": [1]}'
    ask(server, "POST", "/v1/models/arithmetic:predict", good)
    ask(server, "POST", "/v1/models/arithmetic:predict", "nonsense")
    ask(server, "GET", "/v1/models/arithmetic")
    ask(server, "PUT", "/v1/models/arithmetic")
    ask(server, "GET", "/elsewhere")
    status, headers, body = ask(server, "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain")
    counts = [line for line in body.decode().splitlines() if ":request_count{" in line]
    assert sorted(counts) == [
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="arithmetic",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="arithmetic",status="OK"} 2',
    ]
    labels = 'model_name="arithmetic",API="predict",entrypoint="REST"'
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1" in body.decode()


def test_metrics_path_may_be_any(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"), rest=RestSettings(metrics_path="/v1/odd"))
    assert ask(server, "GET", "/v1/odd")[0] == 200
    assert ask(server, "POST", "/v1/odd")[0] == 200
    assert ask(server, "GET", "/v1/odd?x=1")[2] == b"Unexpected path: /v1/odd?x=1. Should be /v1/odd"


def test_picture_as_numbers_is_answered(serve, made_models, ask):
    server = serve(model(made_models, "images"))
    picture = [[[column % 256, row % 256, 200] for column in range(300)] for row in range(200)]
    status, _, body = ask(server, "POST", "/v1/models/images:predict", json.dumps({"instances": [picture, picture]}))
    first, second = json.loads(body)["predictions"]
    assert status == 200
    assert first == second
    wanted = [[[float((column % 256 + row % 256 + 200) / 3 >= 128)] for column in range(300)] for row in range(200)]
    assert first == wanted


def test_inflating_bomb_counts_as_an_empty_body(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"))
    bomb = gzip.compress(b" " * (101 * 1024 * 1024))
    status, _, body = ask(server, "POST", "/v1/models/arithmetic:predict", bomb, {"Content-Encoding": "gzip"})
    assert (status, json.loads(body)["error"]) == (400, "JSON Parse error: The document is empty")


def test_versions_of_any_number_of_digits_are_read(serve, made_models, ask):
    server = serve(model(made_models, "arithmetic"))
    for digits, answer in (("9" * 20, (400, b"")), ("9" * 5000, (400, b""))):
        status, _, body = ask(server, "GET", f"/v1/models/arithmetic/versions/{digits}")
        assert (status, body) == answer
    served = json.loads(ask(server, "GET", "/v1/models/arithmetic")[2])["model_version_status"][0]["version"]
    assert ask(server, "GET", f"/v1/models/arithmetic/versions/{'0' * 5000}{served}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/arithmetic%00:predict",
        "/v1/models/%ff:predict",
        "/v1/models/arithmetic/labels/%F0%9F%92%A9:predict",
        "/v1/models/a/versions/00000000000000000000000000000000000001:predict",
    ],
)
def test_strange_names_are_answered_with_an_error(serve, made_models, ask, path):
    server = serve(model(made_models, "arithmetic"))
    status, _, body = ask(server, "POST", path, '{"instances": [1]}')
    assert status in (400, 404)
    assert json.loads(body)["error"]
