"""`mask-serve`: the embedded server's command line, with the flags of `tensorflow_model_server`."""

import importlib.metadata
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from ..command_line import EXIT_OK, EXIT_USAGE, UsageError, import_quietly, run_app
from . import unsupported_flags  # noqa: F401  (defines them)
from .log_limit import LogLimit, native_output_limited

if TYPE_CHECKING:
    from grpc import ServerCredentials

    from .inference.batching_settings import BatchingSettings, PoolSettings
    from .models.versions import ModelSettings
    from .server import ModelServer, ServerSettings

_PROGRAM = "mask-serve"
_DESCRIPTION = """\
Serves models as TensorFlow Serving does, on this machine: the same directories, flags, and answers.

    mask-serve --model_name=coins --model_base_path=/models/coins --port=8500 --rest_api_port=8501

With --rest_api_port, browsers get a page there on which one drops a picture and sees its mask.
It binds to loopback unless --host says otherwise, and serves until SIGTERM or Ctrl-C."""

FLAGS = flags.FLAGS
_THREADS = 4 * (os.cpu_count() or 1)

flags.DEFINE_string("host", "127.0.0.1", "Address to bind; 0.0.0.0 serves every network this machine is in.")
flags.DEFINE_integer("port", 8500, "Port for gRPC; 0 is off.", lower_bound=0, upper_bound=65535)
flags.DEFINE_integer("rest_api_port", 0, "Port for REST; 0 is off.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("grpc_socket_path", "", "Unix socket for gRPC, beside --port.")
flags.DEFINE_integer(
    "grpc_max_threads",
    None,
    "gRPC requests answered at a time, and one thread that listens; others are refused at once. Unless it is given, "
    "they wait for one of 4 threads per processor.",
    lower_bound=1,
)
flags.DEFINE_string(
    "grpc_channel_arguments", "", "For gRPC, such as grpc.max_connection_age_ms=2000; separated by commas."
)
flags.DEFINE_integer("rest_api_num_threads", _THREADS, "REST requests answered at a time.", lower_bound=1)
flags.DEFINE_integer(
    "rest_api_timeout_in_ms", 30000, "How long a REST request may run, in milliseconds; 0 or less: no limit."
)
flags.DEFINE_boolean("rest_api_enable_cors_support", False, "Let web pages of other origins read the answers.")
flags.DEFINE_boolean("playground", True, "Show browsers a page at the REST port, to drop pictures on.")
flags.DEFINE_string("model_name", "default", "Name of the one model.")
flags.DEFINE_string(
    "model_base_path",
    "",
    "Absolute path of the directory that holds the one model's versions; or a version directory, served alone.",
)
flags.DEFINE_string(
    "model_config_file",
    "",
    "Text file with a ModelServerConfig, for several models; --model_name and --model_base_path do not count then.",
)
flags.DEFINE_integer(
    "model_config_file_poll_wait_seconds", 0, "Seconds between two looks at that file; 0 reads it once."
)
flags.DEFINE_integer("file_system_poll_wait_seconds", 1, "Seconds between two looks for new versions; 0 looks once.")
flags.DEFINE_integer("num_load_threads", 0, "Versions loaded at a time once the server runs; 0 is 1.", lower_bound=0)
flags.DEFINE_integer("num_unload_threads", 0, "Accepted; unloading never waits here.", lower_bound=0)
flags.DEFINE_integer(
    "max_num_load_retries", 5, "Attempts at loading a version after a first one that failed.", lower_bound=0
)
flags.DEFINE_integer("load_retry_interval_micros", 60_000_000, "Microseconds between two attempts; below 0 is no wait.")
flags.DEFINE_boolean(
    "allow_version_labels_for_unavailable_models", False, "Let new labels name versions that are not there."
)
flags.DEFINE_string("saved_model_tags", "serve", "Tags of the graph to load, separated by commas.")
flags.DEFINE_boolean("enable_batching", False, "Merge requests of several callers.")
flags.DEFINE_string("batching_parameters_file", "", "Text file with BatchingParameters: how requests are merged.")
flags.DEFINE_boolean(
    "enable_per_model_batching_parameters",
    False,
    "Read them from batching_params.pbtxt in each version directory instead; those without are not batched.",
)
flags.DEFINE_boolean("enable_model_warmup", True, "Replay a version's warm-up requests before it is served.")
flags.DEFINE_integer("num_request_iterations_for_warmup", 0, "How often each warm-up request is made, where above 0.")
flags.DEFINE_string(
    "monitoring_config_file", "", "Text file with a MonitoringConfig: where Prometheus finds the metrics."
)
flags.DEFINE_string("ssl_config_file", "", "Text file with an SSLConfig: the keys with which gRPC is served over TLS.")
flags.DEFINE_boolean(
    "enable_signature_method_name_check", False, "Let classify and regress only take signatures made for it."
)
flags.DEFINE_boolean("enable_serialization_as_tensor_content", False, "Answer gRPC requests in tensor_content.")
flags.DEFINE_boolean("remove_unused_fields_from_bundle_metagraph", True, "Accepted; they never stay here.")
flags.DEFINE_boolean("enable_grpc_healthcheck_service", False, "Serve gRPC's own health service.")
flags.DEFINE_integer(
    "tensorflow_session_parallelism", 0, "Sets the two others; 0 lets TensorFlow choose.", lower_bound=0
)
flags.DEFINE_integer(
    "tensorflow_intra_op_parallelism", 0, "Threads per operation; 0 lets TensorFlow choose.", lower_bound=0
)
flags.DEFINE_integer(
    "tensorflow_inter_op_parallelism", 0, "Operations at a time; 0 lets TensorFlow choose.", lower_bound=0
)
flags.DEFINE_integer(
    "max_request_bytes",
    256 * 1024 * 1024,
    "Largest request, over REST its body, over gRPC unpacked.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer("max_request_rows", 4096, "Pictures or texts in a request; 0 is no limit.", lower_bound=0)
flags.DEFINE_integer(
    "max_waiting_requests",
    512,
    "Requests that may wait for a thread, of gRPC and of REST each; others are refused at once.",
    lower_bound=0,
)
flags.DEFINE_integer("max_connections", 1000, "Connections at one time, of gRPC and of REST each.", lower_bound=1)
flags.DEFINE_integer(
    "grpc_timeout_in_ms",
    300_000,
    "How long a gRPC request may run, but for a reload, where its caller waits longer; 0 or less: no limit.",
)
flags.DEFINE_float(
    "drain_timeout_s", 10, "Seconds that requests under way may take at the end.", lower_bound=0, upper_bound=1e9
)
flags.DEFINE_boolean(
    "allow_reload_outside_roots",
    False,
    "Let HandleReloadConfigRequest name base paths that neither lie under nor beside those of the start.",
)
flags.DEFINE_boolean("version", False, "Print the versions and end.")

_WORD = re.compile(r"--?(?P<name>[A-Za-z_]\w*)(?:=.*)?", re.DOTALL)


def run() -> None:
    """Runs the command: the console entry point."""
    _refuse_unknown_flags(sys.argv[1:])
    from .errors import ServerError

    run_app(_main, program=_PROGRAM, description=_DESCRIPTION, user_errors=(ServerError,), extra="server")


def _refuse_unknown_flags(words: Sequence[str]) -> None:
    known = set(FLAGS) | {"help", "h", "helpshort", "helpfull", "helpxml", "flagfile", "undefok"}
    for word in words:
        match = _WORD.fullmatch(word)
        if match and match["name"] not in known and match["name"].removeprefix("no") not in known:
            print(f"{_PROGRAM}: unknown flag --{match['name']} (see {_PROGRAM} --help)", file=sys.stderr)
            sys.exit(EXIT_USAGE)


def _main(arguments: Sequence[str]) -> int:
    if arguments:
        raise UsageError(f"unexpected argument {arguments[0]!r}: everything is given by flags")
    if FLAGS.version:
        print(f"TensorFlow ModelServer: maskport embedded server {importlib.metadata.version('maskport')}")
        print(f"TensorFlow Library: {importlib.metadata.version('tensorflow')}")
        return EXIT_OK
    ending = _Ending()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    handler: Any = logging.getLogger().handlers[0]
    handler.addFilter(LogLimit())
    # gRPC would write a line for each stranger that does not speak TLS.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from .errors import ConfigError

    try:
        server = server_from_flags()
        try:
            if server.start(ending.is_set):
                with native_output_limited(handler):
                    ending.wait()
                logging.info("Ending; requests under way have %g s", FLAGS.drain_timeout_s)
        finally:
            server.stop()
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return EXIT_OK


def server_from_flags() -> "ModelServer":
    """Returns the server that the flags describe, not started yet.

    Raises:
        UsageError: the flags make no sense.
        ConfigError: a file that they name makes none.
    """
    if not FLAGS.model_base_path and not FLAGS.model_config_file:
        raise UsageError("what to serve? Give --model_base_path or --model_config_file")
    if not FLAGS.port and not FLAGS.grpc_socket_path:
        raise UsageError("at least one of --port and --grpc_socket_path must be set")
    if FLAGS.batching_parameters_file and not FLAGS.enable_batching:
        raise UsageError("--batching_parameters_file needs --enable_batching")
    if FLAGS.port and FLAGS.port == FLAGS.rest_api_port:
        raise UsageError("--rest_api_port cannot be the same as --port")
    # It lies within any bounds.
    if math.isnan(FLAGS.drain_timeout_s):
        raise UsageError("--drain_timeout_s must be a number of seconds, not nan")
    # What is wrong with the files is said before TensorFlow, which takes its time, is loaded.
    models, settings = _models(), _settings()
    from .server import ModelServer

    return ModelServer(models, settings)


def _models() -> "list[ModelSettings]":
    from tensorflow_serving.config import model_server_config_pb2

    from .errors import ConfigError, RequestError
    from .models.model_config import check_platforms, read_models, read_text_proto
    from .models.versions import model_in

    base_path = FLAGS.model_base_path
    if FLAGS.model_config_file:
        config = read_text_proto(FLAGS.model_config_file, model_server_config_pb2.ModelServerConfig)
    else:
        model = model_in(os.path.abspath(base_path), FLAGS.model_name)
        if model.only_version is not None:
            return [model]
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.config.add(name=FLAGS.model_name, base_path=base_path, model_platform="tensorflow")
    try:
        models = read_models(config.model_config_list)
        check_platforms(config.model_config_list)
        return models
    except RequestError as error:
        hint = f"; write --model_base_path={os.path.abspath(base_path)}" if os.path.isdir(base_path) else ""
        raise ConfigError(f"{error.message}{hint}") from error


def _settings() -> "ServerSettings":
    from .models.text_configs import read_metrics_path

    monitoring = FLAGS.monitoring_config_file
    metrics_path = read_metrics_path(monitoring) if monitoring else None
    batching, batching_pool = _batching()
    credentials = _credentials()
    channel_arguments = _channel_arguments()
    import_quietly("tensorflow")
    from .fronts.grpc_front import GrpcSettings
    from .fronts.http_server import Limits
    from .fronts.rest_front import RestSettings
    from .inference.saved_model import SessionSettings
    from .models.loading import LoadSettings
    from .models.repository import RepositorySettings
    from .server import ServerSettings

    intra, inter = FLAGS.tensorflow_intra_op_parallelism, FLAGS.tensorflow_inter_op_parallelism
    if not intra and not inter:
        intra = inter = FLAGS.tensorflow_session_parallelism
    timeout_ms, grpc_timeout_ms = FLAGS.rest_api_timeout_in_ms, FLAGS.grpc_timeout_in_ms
    return ServerSettings(
        host=FLAGS.host,
        grpc_port=FLAGS.port,
        rest_port=FLAGS.rest_api_port,
        grpc_socket_path=FLAGS.grpc_socket_path,
        rest_threads=FLAGS.rest_api_num_threads,
        grpc=GrpcSettings(
            threads=FLAGS.grpc_max_threads or _THREADS,
            refuses=FLAGS.grpc_max_threads is not None,
            answers_as_content=FLAGS.enable_serialization_as_tensor_content,
            channel_arguments=channel_arguments,
            max_request_bytes=FLAGS.max_request_bytes,
            max_connections=FLAGS.max_connections,
            max_waiting=FLAGS.max_waiting_requests,
            timeout_s=grpc_timeout_ms / 1000 if grpc_timeout_ms > 0 else None,
            has_health_service=FLAGS.enable_grpc_healthcheck_service,
        ),
        grpc_credentials=credentials,
        rest=RestSettings(
            timeout_s=timeout_ms / 1000 if timeout_ms > 0 else None,
            has_cors=FLAGS.rest_api_enable_cors_support,
            metrics_path=metrics_path,
            has_playground=FLAGS.playground,
        ),
        limits=Limits(
            body_bytes=FLAGS.max_request_bytes,
            connections=FLAGS.max_connections,
            waiting=FLAGS.max_waiting_requests,
        ),
        load=LoadSettings(
            session=SessionSettings(
                tags=frozenset(FLAGS.saved_model_tags.split(",")),
                intra_op_threads=intra,
                inter_op_threads=inter,
            ),
            checks_method_names=FLAGS.enable_signature_method_name_check,
            batching=batching,
            batching_pool=batching_pool,
            reads_batching_files=FLAGS.enable_per_model_batching_parameters,
            warms_up=FLAGS.enable_model_warmup,
            warmup_iterations=max(FLAGS.num_request_iterations_for_warmup, 1),
            max_request_rows=FLAGS.max_request_rows or None,
        ),
        repository=RepositorySettings(
            poll_wait_s=FLAGS.file_system_poll_wait_seconds,
            load_threads=FLAGS.num_load_threads,
            max_load_retries=FLAGS.max_num_load_retries,
            retry_interval_s=FLAGS.load_retry_interval_micros / 1e6,
            allows_labels_for_unavailable=FLAGS.allow_version_labels_for_unavailable_models,
        ),
        config_file=FLAGS.model_config_file,
        config_poll_wait_s=FLAGS.model_config_file_poll_wait_seconds,
        drain_timeout_s=FLAGS.drain_timeout_s,
        allows_reload_outside_roots=FLAGS.allow_reload_outside_roots,
    )


def _batching() -> "tuple[BatchingSettings | None, PoolSettings]":
    from .inference.batching_settings import BatchingSettings, PoolSettings
    from .models.text_configs import read_batching

    if not FLAGS.enable_batching:
        return None, PoolSettings()
    if not FLAGS.batching_parameters_file:
        return BatchingSettings(), PoolSettings(name="model_server_batch_threads")
    return read_batching(FLAGS.batching_parameters_file)


def _channel_arguments() -> tuple[tuple[str, int | str], ...]:
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, FLAGS.grpc_channel_arguments.split(",")):
        name, separator, value = part.partition("=")
        if not separator:
            raise UsageError(f"--grpc_channel_arguments: {part!r} should be NAME=VALUE")
        if not re.fullmatch(r"-?[0-9]+", value):
            arguments.append((name, value))
        elif len(value) <= len(str(-(2**31))) and -(2**31) <= int(value) < 2**31:
            arguments.append((name, int(value)))
        else:
            raise UsageError(f"--grpc_channel_arguments: {name} must lie between {-(2**31)} and {2**31 - 1}")
    return tuple(arguments)


def _credentials() -> "ServerCredentials | None":
    if not FLAGS.ssl_config_file:
        return None
    import grpc

    from .models.text_configs import check_tls, read_tls

    key, certificate, authority, verifies_clients = read_tls(FLAGS.ssl_config_file)
    check_tls(FLAGS.ssl_config_file, key, certificate, authority)
    return grpc.ssl_server_credentials([(key, certificate)], authority, verifies_clients)


class _Ending:
    """Whether a signal has asked for the end; a second one ends the process at once.

    Waited for by a pipe: a threading.Event's lock could be held by the very code that a handler interrupts.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._read_end, self._write_end = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, number: int, _: object) -> None:
        if self._is_asked:
            os._exit(128 + number)
        self._is_asked = True
        os.write(self._write_end, b"!")

    def is_set(self) -> bool:
        """Returns whether a signal has come."""
        return self._is_asked

    def wait(self) -> None:
        """Waits for one."""
        os.read(self._read_end, 1)
