"""The whole server: ending, addresses, keys; and the embedded one in Python."""

import datetime
import http.client
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
import trustme
from maskport.serving.server import EmbeddedServer, ServerSettings, StartError
from maskport.serving.server.errors import ConfigError
from maskport.serving.server.fronts.grpc_front import GrpcSettings
from maskport.serving.server.models import warmup
from maskport.serving.server.models.repeating import Repeating
from maskport.serving.server.models.repository import ModelRepository, RepositorySettings
from maskport.serving.server.models.versions import ModelSettings
from maskport.serving.server.server import ANY_PORT, ModelServer
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from waiting import PATIENCE_S, processor_use, wait_until

_FAST_POLLING = RepositorySettings(poll_wait_s=0.05, max_load_retries=0)


def request_for(model, signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def stub_for(address, credentials=None):
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


# ------------------------------------------------------------------ life


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_memory_is_flat_over_many_requests(serve, made_models):
    server = serve(ModelSettings("tensors", str(made_models("tensors/1").parent)))
    call = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}").unary_unary(
        "/tensorflow.serving.PredictionService/Predict"
    )
    request = request_for("tensors", "float32", x=np.ones(10_000, np.float32)).SerializeToString()

    def ask(count):
        for _ in range(count):
            call(request, timeout=PATIENCE_S)

    ask(1500)
    before = resident_mb()
    ask(3000)
    assert resident_mb() - before < 20


# ------------------------------------------------------------------ the end


def test_stopping_answers_what_is_under_way_and_refuses_the_rest(serve, made_models):
    server = serve(ModelSettings("failing", str(made_models("failing/1").parent)), drain_timeout_s=20)
    stub = stub_for(f"127.0.0.1:{server.grpc_port}")
    running = stub.Predict.future(request_for("failing", "busy", seconds=np.array([5.0], np.float32)))
    answers = []

    def ask_rest():
        body = b'{"signature_name": "busy", "instances": [5.0]}'
        address = f"http://127.0.0.1:{server.rest_port}/v1/models/failing:predict"
        answers.append(urllib.request.urlopen(address, body, timeout=PATIENCE_S).status)

    asking = threading.Thread(target=ask_rest)
    asking.start()
    time.sleep(2)
    stopping = threading.Thread(target=server.stop)
    stopping.start()

    def refuses():
        try:
            socket.create_connection(("127.0.0.1", server.rest_port)).close()
        except ConnectionRefusedError:
            return True

    wait_until(refuses, "the end of listening")
    with pytest.raises(grpc.RpcError) as error:
        stub_for(f"127.0.0.1:{server.grpc_port}").Predict(
            request_for("failing", "lookup", index=np.array([1], np.int32)), timeout=5
        )
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert stopping.is_alive()
    assert list(running.result().outputs["done"].float_val) == [5.0]
    asking.join()
    stopping.join()
    assert answers == [200]


def test_stopping_cuts_what_takes_too_long(serve, made_models):
    server = serve(ModelSettings("failing", str(made_models("failing/1").parent)))
    stub = stub_for(f"127.0.0.1:{server.grpc_port}")
    running = stub.Predict.future(request_for("failing", "busy", seconds=np.array([60.0], np.float32)))
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
    connection.request("POST", "/v1/models/failing:predict", '{"signature_name": "busy", "instances": [60]}')
    time.sleep(2)
    begin = time.monotonic()
    server.stop(0.3)
    assert time.monotonic() - begin < 25
    with pytest.raises(grpc.RpcError):
        running.result()
    assert connection.getresponse().status == 503
    connection.close()
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computations")


# ------------------------------------------------------------------ addresses and keys


@pytest.mark.parametrize("side", ["grpc_port", "rest_port"])
def test_taken_port_is_an_error_of_the_start_before_anything_is_loaded(publish, side):
    base = publish("arithmetic/1", "m/1").parent
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"grpc_port": ANY_PORT, "rest_port": ANY_PORT, side: port}
        server = ModelServer([ModelSettings("m", str(base))], ServerSettings(**ports))
        try:
            with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                server.start()
        finally:
            server.stop()


def test_ports_are_closed_until_the_models_are_there(publish, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = tmp_path / "published" / "late"
    server = ModelServer(
        [ModelSettings("m", str(base))],
        ServerSettings(grpc_port=ANY_PORT, rest_port=port, repository=_FAST_POLLING),
    )
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        time.sleep(0.3)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))
        publish("arithmetic/1", "late/1")
        starting.join()
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/m").status == 200
    finally:
        server.stop()


def test_unix_socket_serves_beside_a_port_or_alone(serve, made_models, tmp_path):
    path = str(tmp_path / "s.sock")
    server = serve(
        ModelSettings("m", str(made_models("arithmetic/1")), only_version=1),
        grpc_port=0,
        rest_port=0,
        grpc_socket_path=path,
    )
    assert (server.grpc_port, server.rest_port) == (0, 0)
    assert stub_for(f"unix:{path}").Predict(request_for("m", x=[1.0]), timeout=PATIENCE_S).outputs["y"].float_val == [3]


def test_several_servers_run_in_one_process(serve, made_models):
    servers = [
        serve(ModelSettings("m", str(made_models(f"arithmetic/{version}")), only_version=version)) for version in (1, 2)
    ]
    answers = [
        stub_for(f"127.0.0.1:{server.grpc_port}").Predict(request_for("m", x=[1.0]), timeout=PATIENCE_S)
        for server in servers
    ]
    assert [answer.outputs["y"].float_val[0] for answer in answers] == [3, 2]
    page = servers[0].metrics.page().decode()
    assert "request_count{" in page
    assert ":tensorflow:core:graph_runs{} 1\n" in page


@pytest.fixture
def authority():
    return trustme.CA()


def pem(*blobs):
    return b"".join(blob.bytes() for blob in blobs)


def test_tls_is_served_and_plain_text_is_not(serve, made_models, authority):
    server_key = authority.issue_cert("localhost")
    credentials = grpc.ssl_server_credentials([(server_key.private_key_pem.bytes(), pem(*server_key.cert_chain_pems))])
    server = serve(
        ModelSettings("m", str(made_models("arithmetic/1")), only_version=1), grpc_credentials=credentials, rest_port=0
    )
    trusting = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    stub = stub_for(f"localhost:{server.grpc_port}", trusting)
    assert stub.Predict(request_for("m", x=[1.0]), timeout=PATIENCE_S).outputs["y"].float_val == [3]
    with pytest.raises(grpc.RpcError) as error:
        stub_for(f"127.0.0.1:{server.grpc_port}").Predict(request_for("m", x=[1.0]), timeout=5)
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_clients_must_show_a_certificate_where_that_is_asked_for(serve, made_models, authority):
    server_key, client_key = authority.issue_cert("localhost"), authority.issue_cert("client@example.org")
    stranger = trustme.CA().issue_cert("client@example.org")
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    expired = authority.issue_cert("client@example.org", not_before=past, not_after=past + datetime.timedelta(days=1))
    server = serve(
        ModelSettings("m", str(made_models("arithmetic/1")), only_version=1),
        rest_port=0,
        grpc_credentials=grpc.ssl_server_credentials(
            [(server_key.private_key_pem.bytes(), pem(*server_key.cert_chain_pems))],
            authority.cert_pem.bytes(),
            require_client_auth=True,
        ),
    )

    def answer_to(key):
        shown = (key.private_key_pem.bytes(), pem(*key.cert_chain_pems)) if key else (None, None)
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *shown)
        stub = stub_for(f"localhost:{server.grpc_port}", credentials)
        return stub.Predict(request_for("m", x=[1.0]), timeout=PATIENCE_S).outputs["y"].float_val

    assert answer_to(client_key) == [3]
    for key in (None, stranger, expired):
        with pytest.raises(grpc.RpcError) as refused:
            answer_to(key)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert answer_to(client_key) == [3]


def test_first_configuration_that_makes_no_sense_is_an_error_of_the_start(publish):
    base = publish("arithmetic/1", "m/1").parent
    server = ModelServer([ModelSettings("m", str(base), labels={"stable": 1})], ServerSettings(grpc_port=ANY_PORT))
    try:
        with pytest.raises(ConfigError, match="Request to assign label to version 1 of model m"):
            server.start()
    finally:
        server.stop()


def test_models_config_file_is_followed(serve, publish, tmp_path, caplog):
    one, two = publish("arithmetic/1", "one/1").parent, publish("arithmetic/2", "two/1").parent
    entry = "config {{ name: '{}' base_path: '{}' model_platform: 'tensorflow' }}"
    config = tmp_path / "models.config"

    def write(*entries):
        config.write_text(f"model_config_list {{ {' '.join(entry.format(*e) for e in entries)} }}")

    write(("one", one))
    server = serve(
        ModelSettings("one", str(one)),
        repository=_FAST_POLLING,
        config_file=str(config),
        config_poll_wait_s=0.05,
    )

    def answers(name):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/{name}")
        except OSError:
            return False
        return True

    config.write_text("garbage {")
    wait_until(lambda: any("Models config not applied" in text for text in caplog.messages))
    time.sleep(0.3)
    assert sum("Models config not applied" in text for text in caplog.messages) == 1
    assert answers("one")
    write(("one", one), ("two", two), ("late", tmp_path / "published" / "late"))
    wait_until(lambda: answers("two"))
    assert not answers("late")
    publish("arithmetic/3", "late/1")
    wait_until(lambda: answers("late"))


def test_a_models_config_file_that_changes_while_models_load_is_applied(serve, publish, tmp_path, monkeypatch):
    one, two = publish("arithmetic/1", "one/1").parent, publish("arithmetic/2", "two/1").parent
    entry = "model_config_list {{ config {{ name: 'm' base_path: '{}' model_platform: 'tensorflow' }} }}"
    config = tmp_path / "models.config"
    config.write_text(entry.format(one))
    settled = ModelRepository.wait_until_settled

    def change_meanwhile(repository, *words):
        config.write_text(entry.format(two))
        return settled(repository, *words)

    monkeypatch.setattr(ModelRepository, "wait_until_settled", change_meanwhile)
    server = serve(
        ModelSettings("m", str(one)), repository=_FAST_POLLING, config_file=str(config), config_poll_wait_s=0.05
    )
    wait_until(lambda: server.repository._models["m"].settings.base_path == str(two))


def test_the_end_waits_for_no_warm_up(publish, monkeypatch):
    version_dir = publish("arithmetic/1", "m/1")
    (version_dir / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version_dir / "assets.extra/tf_serving_warmup_requests")) as writer:
        writer.write(prediction_log_pb2.PredictionLog().SerializeToString())
    begun = threading.Event()

    def replay_for_ever(model, record, call):
        begun.set()
        while True:
            call.check()
            time.sleep(0.01)

    monkeypatch.setattr(warmup, "_replay", replay_for_ever)
    server = ModelServer([ModelSettings("m", str(version_dir.parent))], ServerSettings(grpc_port=ANY_PORT))
    started = []
    thread = threading.Thread(target=lambda: started.append(server.start()))
    thread.start()
    assert begun.wait(PATIENCE_S)
    server.stop()
    thread.join()
    assert started == [False]


def test_a_look_that_hangs_or_fails_ends_nothing():
    hangs, looks = threading.Event(), []

    def look():
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("embedded null byte")
        if len(looks) == 3:
            hangs.wait()

    repeating = Repeating(look, 0.01, "test-look")
    repeating.start()
    try:
        wait_until(lambda: len(looks) == 3)
        repeating.stop()
    finally:
        hangs.set()
    assert ModelSettings("m", "/x\0").look()[0] is None


# ------------------------------------------------------------------ EmbeddedServer


def test_embedded_server_serves_a_base_path_on_both_sides(publish):
    base = publish("arithmetic/1", "coins/1").parent
    with EmbeddedServer(base) as server:
        assert server.model_name == "coins"
        assert re.fullmatch(r"grpc://127\.0\.0\.1:\d+", server.grpc_address)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.rest_address)
        answer = stub_for(server.grpc_address.removeprefix("grpc://")).Predict(request_for("coins", x=[1.0]))
        assert answer.outputs["y"].float_val == [3]
        with urllib.request.urlopen(f"{server.rest_address}/v1/models/coins") as response:
            assert response.status == 200
        with urllib.request.urlopen(f"{server.rest_address}/playground/samples/coins.jpg") as response:
            assert response.status == 200
        port = int(server.rest_address.rpartition(":")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


def test_embedded_server_serves_one_version_directory(publish):
    publish("arithmetic/1", "coins/3")
    version = publish("arithmetic/2", "coins/4").parent / "3"
    with EmbeddedServer(f"{version}/", playground=False) as server:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.rest_address}/playground/samples/coins.jpg")
        answer = stub_for(server.grpc_address.removeprefix("grpc://")).Predict(request_for("coins", x=[1.0]))
    assert (answer.model_spec.version.value, answer.outputs["y"].float_val) == (3, [3])


def test_embedded_server_serves_a_directory_that_is_no_number(publish):
    with EmbeddedServer(publish("arithmetic/1", "my_export"), "other_name") as server:
        answer = stub_for(server.grpc_address.removeprefix("grpc://")).Predict(request_for("other_name", x=[1.0]))
    assert answer.model_spec.version.value == 1


def test_embedded_server_follows_new_versions(publish):
    base = publish("arithmetic/1", "m/1").parent
    with EmbeddedServer(base, settings=ServerSettings(grpc_port=ANY_PORT, repository=_FAST_POLLING)) as server:
        stub = stub_for(server.grpc_address.removeprefix("grpc://"))
        publish("arithmetic/2", "m/2")
        wait_until(lambda: stub.Predict(request_for("m", x=[1.0])).model_spec.version.value == 2, "version 2")


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (lambda publish: publish("empty_directory", "m"), "no version found under"),
        (lambda publish: publish("broken", "m/1").parent, "model m version 1 did not load: DATA_LOSS: Can't parse"),
        (lambda publish: "/no/such/place", "base path /no/such/place is no directory"),
    ],
)
def test_embedded_server_says_why_it_does_not_start(tmp_path, prepare, complaint):
    def make(kind, to):
        path = tmp_path / to
        path.mkdir(parents=True)
        if kind == "broken":
            (path / "saved_model.pb").write_bytes(b"\xff\xff")
        return path

    before = set(threading.enumerate())  # servers of other tests may be running
    with pytest.raises(StartError, match=complaint), EmbeddedServer(prepare(make)):
        pass
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "model-poller"]


def test_embedded_server_stops_when_its_block_fails(publish):
    base = publish("arithmetic/1", "m/1").parent
    ports = []

    def fail_inside():
        with EmbeddedServer(base) as server:
            ports.append(int(server.rest_address.rpartition(":")[2]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", ports[0]))


def test_addresses_are_known_inside_the_block_only(publish):
    server = EmbeddedServer(publish("arithmetic/1", "m/1").parent)
    with pytest.raises(StartError, match="inside its with block"):
        _ = server.grpc_address


def test_grpc_arguments_reach_grpc(serve, made_models):
    server = serve(
        ModelSettings("m", str(made_models("arithmetic/1")), only_version=1),
        grpc=GrpcSettings(threads=1, channel_arguments=(("grpc.max_receive_message_length", 100),)),
    )
    with pytest.raises(grpc.RpcError) as error:
        stub_for(f"127.0.0.1:{server.grpc_port}").Predict(request_for("m", x=np.arange(100, dtype=np.float32)))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_embedded_server_is_entered_once(publish):
    server = EmbeddedServer(publish("arithmetic/1", "m/1").parent)
    with server, pytest.raises(StartError, match="this server runs already"):
        server.__enter__()


def test_a_living_servers_socket_is_not_taken_away(publish, tmp_path):
    base = publish("arithmetic/1", "m/1").parent
    path = str(tmp_path / "grpc.sock")
    with EmbeddedServer(base, settings=ServerSettings(grpc_port=ANY_PORT, grpc_socket_path=path)):
        with pytest.raises(StartError, match="another server does"):
            EmbeddedServer(base, settings=ServerSettings(grpc_port=ANY_PORT, grpc_socket_path=path)).__enter__()
        assert stub_for(f"unix:{path}").Predict(request_for("m", x=[1.0])).model_spec.version.value == 1
    with pytest.raises(StartError, match="its folder is missing"):
        EmbeddedServer(
            base, settings=ServerSettings(grpc_port=ANY_PORT, grpc_socket_path=str(tmp_path / "no/x.sock"))
        ).__enter__()


@pytest.mark.parametrize("depth", [64, 65, 500])
def test_deeply_nested_json_is_a_bad_request(publish, depth):
    with EmbeddedServer(publish("arithmetic/1", "m/1").parent) as server:
        body = '{"inputs": ' + "[" * depth + "1" + "]" * depth + "}"
        answer = httpx.post(f"{server.rest_address}/v1/models/m:predict", content=body)
    assert answer.status_code == (200 if depth == 64 else 400)
    if depth > 64:
        assert answer.json() == {"error": f"tensor parsing error: {depth} axes, of at most 64"}
