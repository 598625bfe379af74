"""`mask-serve`: the embedded server's command line, with the flags of `tensorflow_model_server`."""

import importlib.metadata
import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from ..command_line import EXIT_OK, EXIT_USAGE, UsageError, import_quietly, run_app
from . import unsupported_flags  # noqa: F401  (defines them)

if TYPE_CHECKING:
    from grpc import ServerCredentials

    from .inference.batching_settings import BatchingSettings, PoolSettings
    from .models.versions import ModelSettings
    from .server import ModelServer, ServerSettings

_PROGRAM = "mask-serve"
_DESCRIPTION = """\
Serves models as TensorFlow Serving does, on this machine: the same directories, flags, and answers.

    mask-serve --model_name=coins --model_base_path=/models/coins --port=8500 --rest_api_port=8501

It binds to loopback unless --host says otherwise, and serves until SIGTERM or Ctrl-C."""

_THREADS = 4 * (os.cpu_count() or 1)

_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to bind; 0.0.0.0 serves every network this machine is in.")
_PORT = flags.DEFINE_integer("port", 8500, "Port for gRPC; 0 is off.", lower_bound=0, upper_bound=65535)
_REST_API_PORT = flags.DEFINE_integer("rest_api_port", 0, "Port for REST; 0 is off.", lower_bound=0, upper_bound=65535)
_GRPC_SOCKET_PATH = flags.DEFINE_string("grpc_socket_path", "", "Unix socket for gRPC, beside --port.")
_GRPC_MAX_THREADS = flags.DEFINE_integer(
    "grpc_max_threads",
    None,
    "gRPC requests answered at a time, and one thread that listens; others are refused at once. Unless it is given, "
    "they wait for one of 4 threads per processor.",
    lower_bound=1,
)
_GRPC_CHANNEL_ARGUMENTS = flags.DEFINE_string(
    "grpc_channel_arguments", "", "For gRPC, such as grpc.max_connection_age_ms=2000; separated by commas."
)
_REST_API_NUM_THREADS = flags.DEFINE_integer(
    "rest_api_num_threads", _THREADS, "REST requests answered at a time.", lower_bound=1
)
_REST_API_TIMEOUT_IN_MS = flags.DEFINE_integer(
    "rest_api_timeout_in_ms", 30000, "How long a REST request may run, in milliseconds; 0 or less: no limit."
)
_REST_API_ENABLE_CORS_SUPPORT = flags.DEFINE_boolean(
    "rest_api_enable_cors_support", False, "Let web pages of other origins read the answers."
)
_MODEL_NAME = flags.DEFINE_string("model_name", "default", "Name of the one model.")
_MODEL_BASE_PATH = flags.DEFINE_string(
    "model_base_path",
    "",
    "Absolute path of the directory that holds the one model's versions; or a version directory, served alone.",
)
_MODEL_CONFIG_FILE = flags.DEFINE_string(
    "model_config_file",
    "",
    "Text file with a ModelServerConfig, for several models; --model_name and --model_base_path do not count then.",
)
_MODEL_CONFIG_FILE_POLL_WAIT_SECONDS = flags.DEFINE_integer(
    "model_config_file_poll_wait_seconds", 0, "Seconds between two looks at that file; 0 reads it once."
)
_FILE_SYSTEM_POLL_WAIT_SECONDS = flags.DEFINE_integer(
    "file_system_poll_wait_seconds", 1, "Seconds between two looks for new versions; 0 looks once."
)
_NUM_LOAD_THREADS = flags.DEFINE_integer(
    "num_load_threads", 0, "Versions loaded at a time once the server runs; 0 is 1.", lower_bound=0
)
flags.DEFINE_integer("num_unload_threads", 0, "Accepted; unloading never waits here.", lower_bound=0)
_MAX_NUM_LOAD_RETRIES = flags.DEFINE_integer(
    "max_num_load_retries", 5, "Attempts at loading a version after a first one that failed.", lower_bound=0
)
_LOAD_RETRY_INTERVAL_MICROS = flags.DEFINE_integer(
    "load_retry_interval_micros", 60_000_000, "Microseconds between two attempts; below 0 is no wait."
)
_ALLOW_VERSION_LABELS_FOR_UNAVAILABLE_MODELS = flags.DEFINE_boolean(
    "allow_version_labels_for_unavailable_models", False, "Let new labels name versions that are not there."
)
_SAVED_MODEL_TAGS = flags.DEFINE_string("saved_model_tags", "serve", "Tags of the graph to load, separated by commas.")
_ENABLE_BATCHING = flags.DEFINE_boolean("enable_batching", False, "Merge requests of several callers.")
_BATCHING_PARAMETERS_FILE = flags.DEFINE_string(
    "batching_parameters_file", "", "Text file with BatchingParameters: how requests are merged."
)
_ENABLE_PER_MODEL_BATCHING_PARAMETERS = flags.DEFINE_boolean(
    "enable_per_model_batching_parameters",
    False,
    "Read them from batching_params.pbtxt in each version directory instead; those without are not batched.",
)
_ENABLE_MODEL_WARMUP = flags.DEFINE_boolean(
    "enable_model_warmup", True, "Replay a version's warm-up requests before it is served."
)
_NUM_REQUEST_ITERATIONS_FOR_WARMUP = flags.DEFINE_integer(
    "num_request_iterations_for_warmup", 0, "How often each warm-up request is made, where above 0."
)
_MONITORING_CONFIG_FILE = flags.DEFINE_string(
    "monitoring_config_file", "", "Text file with a MonitoringConfig: where Prometheus finds the metrics."
)
_SSL_CONFIG_FILE = flags.DEFINE_string(
    "ssl_config_file", "", "Text file with an SSLConfig: the keys with which gRPC is served over TLS."
)
_ENABLE_SIGNATURE_METHOD_NAME_CHECK = flags.DEFINE_boolean(
    "enable_signature_method_name_check", False, "Let classify and regress only take signatures made for it."
)
_ENABLE_SERIALIZATION_AS_TENSOR_CONTENT = flags.DEFINE_boolean(
    "enable_serialization_as_tensor_content", False, "Answer gRPC requests in tensor_content."
)
flags.DEFINE_boolean("remove_unused_fields_from_bundle_metagraph", True, "Accepted; they never stay here.")
_ENABLE_GRPC_HEALTHCHECK_SERVICE = flags.DEFINE_boolean(
    "enable_grpc_healthcheck_service", False, "Serve gRPC's own health service."
)
_TENSORFLOW_SESSION_PARALLELISM = flags.DEFINE_integer(
    "tensorflow_session_parallelism", 0, "Sets the two others; 0 lets TensorFlow choose.", lower_bound=0
)
_TENSORFLOW_INTRA_OP_PARALLELISM = flags.DEFINE_integer(
    "tensorflow_intra_op_parallelism", 0, "Threads per operation; 0 lets TensorFlow choose.", lower_bound=0
)
_TENSORFLOW_INTER_OP_PARALLELISM = flags.DEFINE_integer(
    "tensorflow_inter_op_parallelism", 0, "Operations at a time; 0 lets TensorFlow choose.", lower_bound=0
)
_DRAIN_TIMEOUT_S = flags.DEFINE_float(
    "drain_timeout_s", 10, "Seconds that requests under way may take at the end.", lower_bound=0, upper_bound=1e9
)
_ALLOW_RELOAD_OUTSIDE_ROOTS = flags.DEFINE_boolean(
    "allow_reload_outside_roots",
    False,
    "Let HandleReloadConfigRequest name base paths that neither lie under nor beside those of the start.",
)
_VERSION = flags.DEFINE_boolean("version", False, "Print the versions and end.")

_WORD = re.compile(r"--?(?P<name>[A-Za-z_]\w*)(?:=.*)?", re.DOTALL)


def run() -> None:
    """Runs the command: the console entry point."""
    _refuse_unknown_flags(sys.argv[1:])
    from .errors import ServerError

    run_app(_main, program=_PROGRAM, description=_DESCRIPTION, user_errors=(ServerError,), extra="server")


def _refuse_unknown_flags(words: Sequence[str]) -> None:
    known = set(flags.FLAGS) | {"help", "h", "helpshort", "helpfull", "helpxml", "flagfile", "undefok"}
    for word in words:
        match = _WORD.fullmatch(word)
        if match and match["name"] not in known and match["name"].removeprefix("no") not in known:
            print(f"{_PROGRAM}: unknown flag --{match['name']} (see {_PROGRAM} --help)", file=sys.stderr)
            sys.exit(EXIT_USAGE)


def _main(arguments: Sequence[str]) -> int:
    if arguments:
        raise UsageError(f"unexpected argument {arguments[0]!r}: everything is given by flags")
    if _VERSION.value:
        print(f"TensorFlow ModelServer: maskport embedded server {importlib.metadata.version('maskport')}")
        print(f"TensorFlow Library: {importlib.metadata.version('tensorflow')}")
        return EXIT_OK
    ending = _ending()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    from .errors import ConfigError

    try:
        return _serve(server_from_flags(), ending)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def server_from_flags() -> "ModelServer":
    """Returns the server that the flags describe, not started yet.

    Raises:
        UsageError: the flags make no sense.
        ConfigError: a file that they name makes none.
    """
    _check_flags()
    # What is wrong with the files is said before TensorFlow, which takes its time, is loaded.
    models, settings = _models(), _settings()
    from .server import ModelServer

    return ModelServer(models, settings)


def _check_flags() -> None:
    if not _MODEL_BASE_PATH.value and not _MODEL_CONFIG_FILE.value:
        raise UsageError("what to serve? Give --model_base_path or --model_config_file")
    if not _PORT.value and not _GRPC_SOCKET_PATH.value:
        raise UsageError("at least one of --port and --grpc_socket_path must be set")
    if _BATCHING_PARAMETERS_FILE.value and not _ENABLE_BATCHING.value:
        raise UsageError("--batching_parameters_file needs --enable_batching")
    if _PORT.value and _PORT.value == _REST_API_PORT.value:
        raise UsageError("--rest_api_port cannot be the same as --port")
    # It lies within any bounds.
    if math.isnan(_DRAIN_TIMEOUT_S.value):
        raise UsageError("--drain_timeout_s must be a number of seconds, not nan")


def _models() -> "list[ModelSettings]":
    from tensorflow_serving.config import model_server_config_pb2

    from .errors import ConfigError, RequestError
    from .models.model_config import check_platforms, read_models, read_text_proto
    from .models.versions import model_in

    base_path = _MODEL_BASE_PATH.value
    if _MODEL_CONFIG_FILE.value:
        config = read_text_proto(_MODEL_CONFIG_FILE.value, model_server_config_pb2.ModelServerConfig)
    else:
        model = model_in(os.path.abspath(base_path), _MODEL_NAME.value)
        if model.only_version is not None:
            return [model]
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.config.add(name=_MODEL_NAME.value, base_path=base_path, model_platform="tensorflow")
    try:
        models = read_models(config.model_config_list)
        check_platforms(config.model_config_list)
        return models
    except RequestError as error:
        hint = f"; write --model_base_path={os.path.abspath(base_path)}" if os.path.isdir(base_path) else ""
        raise ConfigError(f"{error.message}{hint}") from error


def _settings() -> "ServerSettings":
    from .errors import ConfigError
    from .models.text_configs import read_channel_arguments, read_metrics_path

    monitoring = _MONITORING_CONFIG_FILE.value
    metrics_path = read_metrics_path(monitoring) if monitoring else None
    batching, batching_pool = _batching()
    credentials = _credentials()
    try:
        channel_arguments = read_channel_arguments(_GRPC_CHANNEL_ARGUMENTS.value)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    import_quietly("tensorflow")
    from .fronts.grpc_front import GrpcSettings
    from .fronts.rest_front import RestSettings
    from .inference.saved_model import SessionSettings
    from .models.loading import LoadSettings
    from .models.repository import RepositorySettings
    from .server import ServerSettings

    both = _TENSORFLOW_SESSION_PARALLELISM.value
    intra, inter = _TENSORFLOW_INTRA_OP_PARALLELISM.value, _TENSORFLOW_INTER_OP_PARALLELISM.value
    timeout_ms = _REST_API_TIMEOUT_IN_MS.value
    return ServerSettings(
        host=_HOST.value,
        grpc_port=_PORT.value,
        rest_port=_REST_API_PORT.value,
        grpc_socket_path=_GRPC_SOCKET_PATH.value,
        rest_threads=_REST_API_NUM_THREADS.value,
        grpc=GrpcSettings(
            threads=_GRPC_MAX_THREADS.value or _THREADS,
            refuses=_GRPC_MAX_THREADS.value is not None,
            answers_as_content=_ENABLE_SERIALIZATION_AS_TENSOR_CONTENT.value,
            channel_arguments=channel_arguments,
            has_health_service=_ENABLE_GRPC_HEALTHCHECK_SERVICE.value,
        ),
        grpc_credentials=credentials,
        rest=RestSettings(
            timeout_s=timeout_ms / 1000 if timeout_ms > 0 else None,
            has_cors=_REST_API_ENABLE_CORS_SUPPORT.value,
            metrics_path=metrics_path,
        ),
        load=LoadSettings(
            session=SessionSettings(
                tags=frozenset(_SAVED_MODEL_TAGS.value.split(",")),
                intra_op_threads=intra if intra or inter else both,
                inter_op_threads=inter if intra or inter else both,
            ),
            checks_method_names=_ENABLE_SIGNATURE_METHOD_NAME_CHECK.value,
            batching=batching,
            batching_pool=batching_pool,
            reads_batching_files=_ENABLE_PER_MODEL_BATCHING_PARAMETERS.value,
            warms_up=_ENABLE_MODEL_WARMUP.value,
            warmup_iterations=max(_NUM_REQUEST_ITERATIONS_FOR_WARMUP.value, 1),
        ),
        repository=RepositorySettings(
            poll_wait_s=_FILE_SYSTEM_POLL_WAIT_SECONDS.value,
            load_threads=_NUM_LOAD_THREADS.value,
            max_load_retries=_MAX_NUM_LOAD_RETRIES.value,
            retry_interval_s=_LOAD_RETRY_INTERVAL_MICROS.value / 1e6,
            allows_labels_for_unavailable=_ALLOW_VERSION_LABELS_FOR_UNAVAILABLE_MODELS.value,
        ),
        config_file=_MODEL_CONFIG_FILE.value,
        config_poll_wait_s=_MODEL_CONFIG_FILE_POLL_WAIT_SECONDS.value,
        drain_timeout_s=_DRAIN_TIMEOUT_S.value,
        allows_reload_outside_roots=_ALLOW_RELOAD_OUTSIDE_ROOTS.value,
    )


def _batching() -> "tuple[BatchingSettings | None, PoolSettings]":
    from .inference.batching_settings import BatchingSettings, PoolSettings
    from .models.text_configs import read_batching

    if not _ENABLE_BATCHING.value:
        return None, PoolSettings()
    if not _BATCHING_PARAMETERS_FILE.value:
        return BatchingSettings(), PoolSettings(name="model_server_batch_threads")
    return read_batching(_BATCHING_PARAMETERS_FILE.value)


def _credentials() -> "ServerCredentials | None":
    if not _SSL_CONFIG_FILE.value:
        return None
    import grpc

    from .models.text_configs import check_tls, read_tls

    key, certificate, authority, verifies_clients = read_tls(_SSL_CONFIG_FILE.value)
    check_tls(_SSL_CONFIG_FILE.value, key, certificate, authority)
    return grpc.ssl_server_credentials([(key, certificate)], authority, verifies_clients)


def _ending() -> threading.Event:
    """Returns what is set when a signal asks for the end; a second one ends the process at once."""
    ending = threading.Event()

    def end(number: int, _: object) -> None:
        if ending.is_set():
            os._exit(128 + number)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ending


def _serve(server: "ModelServer", ending: threading.Event) -> int:
    try:
        if server.start(ending.is_set):
            ending.wait()
            logging.info("Ending; requests under way have %g s", _DRAIN_TIMEOUT_S.value)
    finally:
        server.stop()
    return EXIT_OK
