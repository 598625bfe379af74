"""The server that `mask-serve`'s flags describe: what they say, and the files that they name, as settings."""

import math
import os
import re
from typing import TYPE_CHECKING

from absl import flags

from ..command_line import UsageError, import_quietly

if TYPE_CHECKING:
    from grpc import ServerCredentials

    from .inference.batching_settings import BatchingSettings, PoolSettings
    from .models.versions import ModelSettings
    from .server import ModelServer, ServerSettings

FLAGS = flags.FLAGS


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
    from .server import THREADS, ServerSettings

    intra, inter = FLAGS.tensorflow_intra_op_parallelism, FLAGS.tensorflow_inter_op_parallelism
    if not intra and not inter:
        intra = inter = FLAGS.tensorflow_session_parallelism
    timeout_ms, grpc_timeout_ms = FLAGS.rest_api_timeout_in_ms, FLAGS.grpc_timeout_in_ms
    return ServerSettings(
        host=FLAGS.host,
        grpc_port=FLAGS.port,
        rest_port=FLAGS.rest_api_port,
        grpc_socket_path=FLAGS.grpc_socket_path,
        rest_threads=FLAGS.rest_api_num_threads or THREADS,
        grpc=GrpcSettings(
            threads=FLAGS.grpc_max_threads or THREADS,
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
