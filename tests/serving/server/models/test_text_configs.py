"""Configuration files in text form: what they mean, and what is said when they mean nothing."""

import datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from maskport.serving.server.errors import ConfigError, RequestError
from maskport.serving.server.models.text_configs import (
    BatchingSettings,
    PoolSettings,
    check_tls,
    read_batching,
    read_metrics_path,
    read_tls,
)


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "config"
        path.write_text(text)
        return str(path)

    return write


def test_batching_parameters_are_read(written):
    settings, pool = read_batching(
        written(
            """
            max_batch_size { value: 128 }
            batch_timeout_micros { value: 1500 }
            max_enqueued_batches { value: 1000000 }
            num_batch_threads { value: 8 }
            thread_pool_name { value: 'pool' }
            allowed_batch_sizes: [32, 128]
            pad_variable_length_inputs: true
            """
        )
    )
    assert settings == BatchingSettings(128, 0.0015, 1000000, (32, 128), pads_lengths=True)
    assert pool == PoolSettings(8, "pool")


def test_batching_parameters_have_tensorflow_servings_defaults(written):
    settings, _ = read_batching(written("# nothing\npad_variable_length_inputs: false"))
    assert settings == BatchingSettings(1000, 0, 10, (), pads_lengths=False)


@pytest.mark.parametrize(
    ("text", "split_size"),
    [
        ("", 0),
        ("max_execution_batch_size { value: 16 }", 0),
        ("enable_large_batch_splitting { value: true }", 64),
        ("enable_large_batch_splitting { value: true } max_execution_batch_size { value: 16 }", 16),
    ],
)
def test_requests_are_split_where_the_file_says_so(written, text, split_size):
    settings, _ = read_batching(written("max_batch_size { value: 64 }" + text))
    assert (settings.max_batch_size, settings.split_size) == (64, split_size)


def test_batch_larger_than_a_request_may_be_is_refused():
    with pytest.raises(RequestError, match="max_execution_batch_size; they are 4 and 8"):
        BatchingSettings(max_batch_size=4, split_size=8).check()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size is 0; it must be at least 1"),
        ("num_batch_threads { value: -1 }", "num_batch_threads is -1; it must be at least 1"),
        ("allowed_batch_sizes: [4, 2]", r"allowed_batch_sizes \[4, 2\] must be positive and ascending"),
        ("max_batch_size { value: x }", "config:1:25.*it should hold a BatchingParameters in text form"),
        ("max_bach_size { value: 1 }", 'config:1:1.*no field named "max_bach_size"'),
        ("  ", "the file is empty"),
    ],
)
def test_batching_parameters_that_make_no_sense_are_named(written, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_batching(written(text))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { enable: true path: '/m' }", "/m"),
        ("prometheus_config { path: '/m' }", None),
        ("prometheus_config { }", None),
    ],
)
def test_metrics_are_where_the_monitoring_file_says(written, text, path):
    assert read_metrics_path(written(text)) == path


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: No such file or directory"):
        read_metrics_path(str(tmp_path / "nowhere"))


def test_tls_keys_are_in_the_file_itself(written):
    text = "server_key: 'K' server_cert: 'C' custom_ca: 'A' client_verify: true"
    assert read_tls(written(text)) == (b"K", b"C", b"A", True)
    assert read_tls(written("server_key: 'K' server_cert: 'C'")) == (b"K", b"C", None, False)


def test_texts_that_are_no_keys_and_certificates_are_named():
    one, other = trustme.CA().issue_cert("a.example"), trustme.CA().issue_cert("a.example")
    key, certificate = one.private_key_pem.bytes(), one.cert_chain_pems[0].bytes()
    check_tls("tls.txt", key, certificate, certificate)
    foreign = other.private_key_pem.bytes()
    junk = b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    for texts, complaint in (
        ((key, b"C", None), "server_cert is no PEM text of a certificate"),
        ((key, junk, None), "server_cert is no PEM text of a certificate"),
        ((key, certificate, b"\xff"), "custom_ca is no PEM text of a certificate"),
        ((b"K", certificate, None), "server_key is no PEM text of the private key that server_cert belongs to"),
        ((foreign, certificate, None), "server_key is no PEM text of the private key that server_cert belongs to"),
    ):
        with pytest.raises(ConfigError, match=f"^tls.txt: {complaint}"):
            check_tls("tls.txt", *texts)


def test_keys_of_a_kind_that_grpc_does_not_take_are_named():
    key = ec.generate_private_key(ec.SECP256K1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(ConfigError, match=r"^tls.txt: server_key and server_cert are of a kind .* P-256"):
        check_tls("tls.txt", pem, certificate, None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server_key: 'K'", "server_cert is missing"),
        ("server_key: 'K' server_cert: 'C' client_verify: true", "client_verify needs custom_ca"),
    ],
)
def test_incomplete_tls_is_named(written, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_tls(written(text))
