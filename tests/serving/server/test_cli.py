"""The command mask-serve: flags, files, exit codes, signals."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest
import trustme
from absl import flags
from absl.testing import flagsaver
from maskport.serving.command_line import UsageError
from maskport.serving.server import cli
from maskport.serving.server.errors import ConfigError
from maskport.serving.server.models.text_configs import BatchingSettings, PoolSettings
from maskport.serving.server.unsupported_flags import UNSUPPORTED
from processes import running
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import PATIENCE_S, wait_until

_COMMAND = [sys.executable, "-m", "maskport.serving.server"]
_REAL_FLAGS = pathlib.Path(__file__).with_name("tensorflow_model_server_flags.txt").read_text().split()
"""All flags of tensorflow_model_server, from its main.cc."""


def run(*arguments):
    return subprocess.run([*_COMMAND, *arguments], capture_output=True, text=True, check=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """mask-serve, running."""

    def __init__(self, *arguments, log):
        self.port = free_port()
        self.log = log
        with log.open("w") as output:
            self.kept = running(
                [*_COMMAND, f"--rest_api_port={self.port}", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            )
            self.process = self.kept.__enter__()

    def wait_until_served(self):
        def serves():
            assert self.process.poll() is None, self.log.read_text()
            return self.is_open()

        wait_until(serves, self.log.read_text)

    def is_open(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ask(self, path, body=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=PATIENCE_S) as response:
            return json.loads(response.read())


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def start_process(*arguments):
            process = Process(*arguments, log=tmp_path / "log")
            stack.push(process.kept)
            return process

        yield start_process


# ------------------------------------------------------------------ without TensorFlow


def test_help_answers_without_tensorflow():
    code = (
        "import sys\n"
        "from maskport.serving.server import cli\n"
        "sys.argv = ['mask-serve', '--help']\n"
        "try:\n"
        "    cli.run()\n"
        "except SystemExit as end:\n"
        "    print('code', end.code, [n for n in ('tensorflow', 'grpc', 'numpy') if n in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Serves models as TensorFlow Serving does")
    assert "--model_base_path" in answer.stdout
    assert "--enable_profiler" not in answer.stdout
    assert answer.stdout.endswith("code 0 []\n")


def test_version_is_printed():
    answer = run("--version")
    assert re.fullmatch(r"TensorFlow ModelServer: .+\nTensorFlow Library: 2\.\d+\.\d+\n", answer.stdout)
    assert answer.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope=1"], "unknown flag --nope"),
        (["--nonope"], "unknown flag --nonope"),
        (["--port=abc", "--model_base_path=/m"], "--port"),
        (["--port=70000", "--model_base_path=/m"], "--port"),
        (["--enable_batching=maybe", "--model_base_path=/m"], "--enable_batching"),
        (["--model_base_path=/m", "stray"], "unexpected argument 'stray'"),
        ([], "--model_base_path or --model_config_file"),
        (["--model_base_path=/m", "--port=0"], "--port and --grpc_socket_path"),
        (["--model_base_path=/m", "--port=9", "--rest_api_port=9"], "--rest_api_port cannot be the same"),
        (["--model_base_path=/m", "--batching_parameters_file=/x"], "--enable_batching"),
        (["--model_base_path=/m", "--drain_timeout_s=nan"], "--drain_timeout_s must be a number of seconds"),
        (["--model_base_path=/m", "--drain_timeout_s=inf"], "--drain_timeout_s"),
        (
            ["--model_base_path=/m", "--grpc_channel_arguments=grpc.max_connection_age_ms=99999999999999"],
            "--grpc_channel_arguments: grpc.max_connection_age_ms must lie between -2147483648 and 2147483647",
        ),
        (["--enable_profiler"], "not supported by the embedded server; use TensorFlow Serving"),
        (["--platform_config_file=/x"], "not supported by the embedded server; use TensorFlow Serving"),
    ],
)
def test_command_line_that_makes_no_sense_is_one_line_and_exit_2(arguments, text):
    answer = run(*arguments)
    assert answer.returncode == 2
    assert text in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stderr.startswith("mask-serve: ")


def test_every_flag_of_tensorflow_serving_is_taken_or_named_as_not_supported():
    assert set(_REAL_FLAGS) <= set(flags.FLAGS)
    assert set(_REAL_FLAGS) >= UNSUPPORTED
    supported = set(_REAL_FLAGS) - UNSUPPORTED
    documented = (pathlib.Path(__file__).parents[3] / "docs" / "embedded_server.md").read_text()
    assert all(f"--{name}" in documented for name in UNSUPPORTED)
    assert len(supported) == 34


# ------------------------------------------------------------------ what flags and files mean


@contextlib.contextmanager
def flags_given(*arguments):
    with flagsaver.flagsaver():
        flags.FLAGS(["mask-serve", *arguments])
        yield


def test_a_version_directory_is_served_alone(publish, monkeypatch):
    version = publish("arithmetic/1", "half/7")
    publish("arithmetic/1", "half/8")
    monkeypatch.chdir(version.parent.parent)
    for path in (version, f"{version}/", "half/7"):
        (model,) = models_of(f"--model_base_path={path}", "--model_name=half")
        assert (model.name, model.find_wanted()) == ("half", {7: str(version)})
    (model,) = models_of(f"--model_base_path={version.parent}")
    assert (model.name, list(model.find_wanted())) == ("default", [8])


def test_a_relative_base_path_is_told_what_to_write(publish, monkeypatch):
    base_path = publish("arithmetic/1", "half/7").parent
    monkeypatch.chdir(base_path.parent)
    with pytest.raises(ConfigError, match=f"absolute path .*=half; write --model_base_path={base_path}$"):
        models_of("--model_base_path=half")


def settings_of(*arguments):
    with flags_given("--model_base_path=/m", *arguments):
        return cli.server_from_flags()._settings


def test_flags_become_settings(tmp_path):
    monitoring = tmp_path / "monitoring"
    monitoring.write_text("prometheus_config { enable: true path: '/m' }")
    batching = tmp_path / "batching"
    batching.write_text("max_batch_size { value: 3 } num_batch_threads { value: 5 }")
    settings = settings_of(
        "--host=0.0.0.0",
        "--port=1",
        "--rest_api_port=2",
        "--grpc_socket_path=/s",
        "--grpc_max_threads=3",
        "--rest_api_num_threads=4",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.x=y",
        "--rest_api_timeout_in_ms=-1",
        "--rest_api_enable_cors_support",
        "--noplayground",
        "--file_system_poll_wait_seconds=7",
        "--num_load_threads=2",
        "--num_unload_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=500000",
        "--allow_version_labels_for_unavailable_models=true",
        "--saved_model_tags=serve,tpu",
        "--enable_signature_method_name_check",
        "--enable_serialization_as_tensor_content",
        "--enable_grpc_healthcheck_service",
        "--remove_unused_fields_from_bundle_metagraph=false",
        "--tensorflow_session_parallelism=6",
        "--enable_batching",
        f"--batching_parameters_file={batching}",
        "--enable_per_model_batching_parameters",
        "--enable_model_warmup=false",
        "--num_request_iterations_for_warmup=9",
        f"--monitoring_config_file={monitoring}",
        "--drain_timeout_s=1.5",
        "--allow_reload_outside_roots",
        "--max_request_bytes=1000",
        "--max_request_rows=20",
        "--max_waiting_requests=30",
        "--max_connections=40",
        "--grpc_timeout_in_ms=500",
    )
    assert (settings.host, settings.grpc_port, settings.rest_port) == ("0.0.0.0", 1, 2)
    assert settings.grpc_socket_path == "/s"
    assert (settings.grpc.threads, settings.grpc.refuses) == (3, True)
    assert settings.grpc.channel_arguments == (("grpc.max_connection_age_ms", 2000), ("grpc.x", "y"))
    assert settings.grpc.answers_as_content
    assert settings.grpc.has_health_service
    assert settings.rest_threads == 4
    assert not settings.rest.has_playground
    assert (settings.rest.timeout_s, settings.rest.has_cors, settings.rest.metrics_path) == (None, True, "/m")
    repository = settings.repository
    assert (repository.poll_wait_s, repository.load_threads) == (7, 2)
    assert (repository.max_load_retries, repository.retry_interval_s) == (1, 0.5)
    assert repository.allows_labels_for_unavailable
    load = settings.load
    assert load.session.tags == {"serve", "tpu"}
    assert (load.session.intra_op_threads, load.session.inter_op_threads) == (6, 6)
    assert load.checks_method_names
    assert (load.batching, load.batching_pool) == (BatchingSettings(3), PoolSettings(5))
    assert load.reads_batching_files
    assert (load.warms_up, load.warmup_iterations) == (False, 9)
    assert (settings.drain_timeout_s, settings.allows_reload_outside_roots) == (1.5, True)
    grpc_limits = settings.grpc
    assert (settings.limits.body_bytes, grpc_limits.max_request_bytes, load.max_request_rows) == (1000, 1000, 20)
    assert (settings.limits.waiting, grpc_limits.max_waiting) == (30, 30)
    assert (settings.limits.connections, grpc_limits.max_connections) == (40, 40)
    assert grpc_limits.timeout_s == 0.5


def test_limits_are_on_unless_they_are_switched_off():
    settings = settings_of()
    assert (settings.limits.body_bytes, settings.grpc.max_request_bytes) == (1 << 28, 1 << 28)
    assert (settings.load.max_request_rows, settings.grpc.timeout_s, settings.rest.timeout_s) == (4096, 300, 30)
    assert (settings.limits.waiting, settings.grpc.max_waiting) == (512, 512)
    assert (settings.limits.connections, settings.grpc.max_connections) == (1000, 1000)
    off = settings_of("--max_request_rows=0", "--grpc_timeout_in_ms=0", "--rest_api_timeout_in_ms=0")
    assert (off.load.max_request_rows, off.grpc.timeout_s, off.rest.timeout_s) == (None, None, None)


def test_defaults_are_tensorflow_servings():
    settings = settings_of()
    assert (settings.grpc_port, settings.rest_port, settings.rest.timeout_s) == (8500, 0, 30)
    assert settings.rest.metrics_path is None
    assert settings.rest.has_playground
    assert not settings.grpc.refuses
    assert settings.repository.poll_wait_s == 1
    assert (settings.repository.max_load_retries, settings.repository.retry_interval_s) == (5, 60)
    assert settings.load.batching is None
    assert settings.load.warms_up
    assert settings.grpc_credentials is None
    assert settings_of("--enable_batching").load.batching == BatchingSettings(1000, 0, 10)


def test_one_of_the_two_parallelisms_leaves_the_other_to_tensorflow():
    session = settings_of("--tensorflow_intra_op_parallelism=3", "--tensorflow_session_parallelism=9").load.session
    assert (session.intra_op_threads, session.inter_op_threads) == (3, 0)


def models_of(*arguments):
    with flags_given(*arguments):
        return cli.server_from_flags()._models


def test_single_model_is_named_default(tmp_path):
    (model,) = models_of(f"--model_base_path={tmp_path}")
    assert (model.name, model.base_path, model.policy.latest) == ("default", str(tmp_path), 1)


def test_models_config_file_wins_over_the_single_model(tmp_path):
    config = tmp_path / "models"
    config.write_text(
        """
        model_config_list {
          config {
            name: 'm' base_path: '/a' model_platform: 'tensorflow'
            model_version_policy { specific { versions: 3 versions: 1 } }
            version_labels { key: 'stable' value: 1 }
          }
          config { name: 'n' base_path: '/b' model_platform: 'tensorflow' model_version_policy { all {} } }
        }
        """
    )
    m, n = models_of(f"--model_config_file={config}", "--model_name=x", "--model_base_path=/x")
    assert (m.name, m.policy.specific, m.labels) == ("m", (3, 1), {"stable": 1})
    assert (n.policy.latest, n.policy.specific) == (None, None)


def test_empty_list_of_models_is_served(tmp_path):
    (tmp_path / "models").write_text("model_config_list { }")
    assert models_of(f"--model_config_file={tmp_path / 'models'}") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file is empty"),
        ("model_config_list { config {", "models:1:"),
        ("model_config_list { config { nam: 'm' } }", 'no field named "nam"'),
        (
            "model_config_list { config { name: 'm' base_path: 'a' model_platform: 'tensorflow' } }",
            "Expected model m to have an absolute path",
        ),
        ("model_config_list { config { name: 'm' base_path: '/a' } }", "Illegal setting neither"),
        (
            "model_config_list { config { name: 'm' base_path: '/a' model_platform: 'pytorch' } }",
            "requests unsupported platform pytorch",
        ),
    ],
)
def test_models_config_file_that_makes_no_sense_is_named(tmp_path, text, complaint):
    (tmp_path / "models").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        models_of(f"--model_config_file={tmp_path / 'models'}")


def test_channel_argument_without_value_is_named():
    with pytest.raises(UsageError, match="'x' should be NAME=VALUE"):
        settings_of("--grpc_channel_arguments=x")


@pytest.mark.parametrize("value", [str(2**31), str(-(2**31) - 1), "9" * 5000], ids=["above", "below", "long"])
def test_channel_argument_that_grpc_cannot_take_is_named(value):
    with pytest.raises(UsageError, match=r"grpc_channel_arguments: grpc\.a must lie between"):
        settings_of(f"--grpc_channel_arguments=grpc.a={value}")


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_channel_argument_may_have_32_bits(value):
    assert settings_of(f"--grpc_channel_arguments=grpc.a={value}").grpc.channel_arguments == (("grpc.a", value),)


# ------------------------------------------------------------------ as a process


def test_missing_file_is_one_line_and_exit_2(tmp_path):
    answer = run(f"--model_config_file={tmp_path}/nowhere")
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1)
    assert f"{tmp_path}/nowhere: No such file or directory" in answer.stderr


def test_taken_port_is_one_line_and_exit_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = run(f"--model_base_path={tmp_path}", f"--port={port}")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == (f"mask-serve: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_missing_base_path_is_waited_for_and_a_signal_ends_the_wait(start, tmp_path):
    process = start(f"--model_base_path={tmp_path / 'nowhere'}", f"--port={free_port()}")
    wait_until(lambda: "Could not find base path" in process.log.read_text(), process.log.read_text)
    with pytest.raises(OSError, match="refused"):
        process.ask("/v1/models/default")
    time.sleep(2.5)
    assert process.log.read_text().count("Could not find base path") == 1
    process.process.terminate()
    assert process.process.wait() == 0


def test_process_serves_logs_and_drains(start, publish):
    base = publish("failing/1", "m/1").parent
    grpc_port = free_port()
    process = start("--model_name=m", f"--model_base_path={base}", f"--port={grpc_port}")
    process.wait_until_served()
    wanted = [
        "Adding/updating models: m",
        "Loading servable version {name: m version: 1}",
        "Successfully loaded servable version {name: m version: 1}",
        f"Running gRPC ModelServer at 127.0.0.1:{grpc_port} ...",
        f"Exporting HTTP/REST API at:127.0.0.1:{process.port} ...",
    ]
    wait_until(lambda: wanted[-1] in process.log.read_text(), process.log.read_text)
    log = process.log.read_text()
    positions = [log.index(line) for line in wanted]
    assert positions == sorted(positions)
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING)", line) for line in log.splitlines())
    answers = []
    slow = threading.Thread(
        target=lambda: answers.append(
            process.ask("/v1/models/m:predict", b'{"signature_name": "busy", "instances": [5]}')
        )
    )
    slow.start()
    time.sleep(2)
    process.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not process.is_open(), "the end of listening")
    slow.join()
    assert answers == [{"predictions": [5.0]}]
    assert process.process.wait() == 0
    assert process.log.read_text().count("Traceback") == 0


def test_second_signal_ends_the_process_at_once(start, publish):
    base = publish("failing/1", "m/1").parent
    process = start("--model_name=m", f"--model_base_path={base}", f"--port={free_port()}", "--drain_timeout_s=60")
    process.wait_until_served()
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE_S)
    connection.request("POST", "/v1/models/m:predict", b'{"signature_name": "busy", "instances": [60]}')
    time.sleep(2)
    process.process.send_signal(signal.SIGINT)
    wait_until(lambda: not process.is_open(), "the end of listening")
    assert process.process.poll() is None
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(45) == 128 + signal.SIGINT
    connection.close()


def test_ssl_config_file_makes_grpc_secure(publish, tmp_path):
    authority = trustme.CA()
    key = authority.issue_cert("localhost")
    chain = b"".join(part.bytes() for part in key.cert_chain_pems)
    config = tmp_path / "ssl"
    config.write_text(
        f"server_key: {json.dumps(key.private_key_pem.bytes().decode())}\nserver_cert: {json.dumps(chain.decode())}\n"
    )
    base, port = publish("arithmetic/1", "m/1").parent, free_port()
    with flags_given(f"--model_base_path={base}", f"--port={port}", f"--ssl_config_file={config}"):
        server = cli.server_from_flags()
    try:
        server.start()
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "default"
            request.inputs["x"].dtype = 1
            request.inputs["x"].tensor_shape.dim.add(size=1)
            request.inputs["x"].float_val.append(1)
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert list(stub.Predict(request, timeout=PATIENCE_S).outputs["y"].float_val) == [3]
    finally:
        server.stop(0)
