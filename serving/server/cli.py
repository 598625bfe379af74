"""`mask-serve`: the embedded server's command line, with the flags of `tensorflow_model_server`."""

import importlib.metadata
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from ..command_line import EXIT_OK, EXIT_USAGE, UsageError, run_app
from . import unsupported_flags  # noqa: F401  (defines them)
from .from_flags import server_from_flags
from .log_limit import LogLimit, native_output_limited

_PROGRAM = "mask-serve"
_DESCRIPTION = """\
Serves models as TensorFlow Serving does, on this machine: the same directories, flags, and answers.

    mask-serve --model_name=coins --model_base_path=/models/coins --port=8500 --rest_api_port=8501

With --rest_api_port, browsers get a page there on which one drops a picture and sees its mask.
It binds to loopback unless --host says otherwise, and serves until SIGTERM or Ctrl-C."""

FLAGS = flags.FLAGS

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
flags.DEFINE_integer(
    "rest_api_num_threads", None, "REST requests answered at a time; 4 per processor unless it is given.", lower_bound=1
)
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
