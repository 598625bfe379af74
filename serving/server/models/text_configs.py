"""TensorFlow Serving's text configurations whose messages the official package leaves out.

They are only ever read from text, where a field's number does not matter: so their classes are made here from
a list of fields, in a pool of their own, and cannot meet the real ones.

Whatever reads a file raises ConfigError where it is not there, or makes no sense.
"""

import ssl
import tempfile
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ..errors import ConfigError, RequestError
from ..inference.batching_settings import BatchingSettings, PoolSettings
from ..metrics import DEFAULT_PATH
from .model_config import read_text_proto

_PACKAGE = "maskport.serving.server"
_MESSAGES = {
    # The well-known wrapper types, which tell "not given" from 0.
    "Int64Value": {"value": "int64"},
    "StringValue": {"value": "string"},
    "BoolValue": {"value": "bool"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
}


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="text_configs.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields.items(), 1):
            base = kind.removeprefix("repeated ")
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_OPTIONAL if base == kind else field.LABEL_REPEATED
            if base in _MESSAGES:
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{base}"
            else:
                field.type = field.Type.Value(f"TYPE_{base.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _message_classes()


def read_batching(path: str) -> tuple[BatchingSettings, PoolSettings]:
    """Reads a BatchingParameters file."""
    parameters = read_text_proto(path, _CLASSES["BatchingParameters"])
    defaults, pool = BatchingSettings(), PoolSettings()

    def given(name: str, default: int, smallest: int) -> int:
        if not parameters.HasField(name):
            return default
        value = int(getattr(parameters, name).value)
        if value < smallest:
            raise ConfigError(f"{path}: {name} is {value}; it must be at least {smallest}")
        return value

    sizes = tuple(parameters.allowed_batch_sizes)
    if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
        raise ConfigError(f"{path}: allowed_batch_sizes {list(sizes)} must be positive and ascending")
    max_batch_size = given("max_batch_size", defaults.max_batch_size, 1)
    split_size = given("max_execution_batch_size", max_batch_size, 1)
    settings = BatchingSettings(
        max_batch_size=max_batch_size,
        timeout_s=given("batch_timeout_micros", 0, 0) / 1e6,
        max_enqueued_batches=given("max_enqueued_batches", defaults.max_enqueued_batches, 1),
        allowed_sizes=sizes,
        pads_lengths=parameters.pad_variable_length_inputs,
        split_size=split_size if parameters.enable_large_batch_splitting.value else 0,
    )
    try:
        settings.check()
    except RequestError as error:
        raise ConfigError(f"{path}: {error.message}") from error
    return settings, PoolSettings(
        threads=given("num_batch_threads", pool.threads, 1), name=parameters.thread_pool_name.value
    )


def read_metrics_path(path: str) -> str | None:
    """Reads a MonitoringConfig file and returns where the metrics are; None is nowhere."""
    prometheus = read_text_proto(path, _CLASSES["MonitoringConfig"]).prometheus_config
    return (prometheus.path or DEFAULT_PATH) if prometheus.enable else None


def read_tls(path: str) -> tuple[bytes, bytes, bytes | None, bool]:
    """Reads an SSLConfig file, which holds the keys themselves.

    Returns:
        Private key, certificate chain, the authority that signed the clients' certificates (None: any), and
        whether clients must show one. All in PEM form.
    """
    config = read_text_proto(path, _CLASSES["SSLConfig"])
    for field in ("server_key", "server_cert"):
        if not getattr(config, field):
            raise ConfigError(f"{path}: {field} is missing; it should hold a PEM text")
    if config.client_verify and not config.custom_ca:
        raise ConfigError(f"{path}: client_verify needs custom_ca, the authority of the clients' certificates")
    return (
        config.server_key.encode(),
        config.server_cert.encode(),
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def check_tls(path: str, key: bytes, certificate: bytes, authority: bytes | None) -> None:
    """Checks the PEM texts of an SSLConfig file, named by its path: gRPC would only say that it failed to bind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for field, text in (("server_cert", certificate), ("custom_ca", authority)):
        try:
            if text:
                context.load_verify_locations(cadata=text.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"{path}: {field} is no PEM text of a certificate: {error}") from error
    # Python reads keys from files only.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(file.name, password=lambda: b"")  # rather than ask for one
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"{path}: server_key is no PEM text of the private key that server_cert belongs to, without a "
                f"password: {error}"
            ) from error
    # gRPC's own library takes fewer kinds of keys than Python's.
    trial = grpc.server(futures.ThreadPoolExecutor(1))
    try:
        trial.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)], authority))
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: server_key and server_cert are of a kind that gRPC does not take; make RSA keys of 2048 bits, or "
            "those of P-256, P-384, P-521 or Ed25519"
        ) from error
    finally:
        trial.stop(None)
