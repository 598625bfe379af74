import socket
import ssl
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import trustme
from any_client import make_client
from fake_serving import FakeServing
from maskport.serving.client import (
    NO_RETRIES,
    AccessDeniedError,
    AsyncMaskClient,
    InvalidRequestError,
    MaskClient,
    MaskServingError,
    ServerUnavailableError,
    Tls,
)
from maskport.serving.client.transport.addresses import parse_addresses
from maskport.serving.client.transport.grpc_transport import _error_of
from maskport.serving.client.transport.security import Credentials

PICTURE = np.full((4, 5, 3), 200, np.uint8)
TRANSPORTS = ["grpcs", "https"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's certificate for `mask.example`, a client's, and another authority's."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    server, client, stranger = (
        authority.issue_cert("mask.example"),
        authority.issue_cert("client@mask.example"),
        other.issue_cert("client@elsewhere.example"),
    )
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other_ca.pem")
    for name, issued in (("server", server), ("client", client), ("stranger", stranger)):
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mtls"])
def secure(request, certificates):
    """A server that speaks TLS on both faces; with mTLS it asks for the client's certificate."""
    read = lambda name: (certificates / name).read_bytes()  # noqa: E731
    credentials = grpc.ssl_server_credentials(
        [(read("server.key"), read("server.pem"))],
        root_certificates=read("ca.pem") if request.param else None,
        require_client_auth=request.param,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if request.param:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")
    with FakeServing(tls=credentials) as serving:
        serving.wrap_tls(context)
        serving.wants_client = request.param
        yield serving


def _address(secure, scheme):
    plain = secure.grpc_address if scheme == "grpcs" else secure.rest_address
    return f"{scheme}://localhost:{plain.rpartition(':')[2]}"


def _client(secure, certificates, scheme, client="sync", **tls):
    kind = f"{client}-{'grpc' if scheme == 'grpcs' else 'rest'}"
    given = {"ca_file": certificates / "ca.pem", "server_name": "mask.example", **tls}
    return make_client(kind, _address(secure, scheme), tls=Tls(**given), retries=NO_RETRIES, timeout=10)


def _own(certificates, name="client"):
    return {"cert_file": certificates / f"{name}.pem", "key_file": certificates / f"{name}.key"}


@pytest.mark.parametrize("client", ["sync", "async"])
@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_server_of_a_trusted_authority_is_called(secure, certificates, scheme, client):
    own = _own(certificates) if secure.wants_client else {}
    with _client(secure, certificates, scheme, client, **own) as caller:
        assert caller.segment(PICTURE).mask.all()


@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize("wrong", [{"server_name": "other.example"}, {"ca_file": "other_ca.pem"}])
def test_another_name_or_authority_is_refused(secure, certificates, scheme, wrong):
    own = _own(certificates) if secure.wants_client else {}
    if "ca_file" in wrong:
        wrong = {"ca_file": certificates / wrong["ca_file"]}
    received = len(secure.calls)
    with (
        make_client(
            f"sync-{'grpc' if scheme == 'grpcs' else 'rest'}",
            _address(secure, scheme),
            tls=Tls(**{"ca_file": certificates / "ca.pem", "server_name": "mask.example", **own, **wrong}),
        ) as caller,
        pytest.raises(AccessDeniedError, match=r"certificate is not accepted.*check ca_file and server_name"),
    ):
        caller.segment(PICTURE, timeout=5)
    assert len(secure.calls) == received


@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_server_that_asks_for_certificates_gets_the_right_one_or_refuses(secure, certificates, scheme, name):
    if not secure.wants_client:
        own = _own(certificates, name) if name else {}
        with _client(secure, certificates, scheme, **own) as caller:
            assert caller.segment(PICTURE).mask.all()
        return
    own = _own(certificates, name) if name else {}
    with _client(secure, certificates, scheme, **own) as caller, pytest.raises(MaskServingError):
        caller.segment(PICTURE)


def test_a_plain_client_of_a_secure_port_fails(secure):
    caller = make_client("sync-grpc", secure.grpc_address, timeout=2, retries=NO_RETRIES)
    with caller, pytest.raises(MaskServingError):
        caller.segment(PICTURE)


def test_certificates_come_in_pairs(tmp_path):
    with pytest.raises(InvalidRequestError, match="both cert_file and key_file"):
        Tls(cert_file=tmp_path / "a.pem")


def test_keys_do_not_show(tmp_path):
    assert "secret" not in repr(Tls(cert_file="a.pem", key_file="secret.key"))


@pytest.mark.parametrize("address", ["grpc://models.example:8500", "http://models.example"])
@pytest.mark.parametrize("secret", [{"token": "t"}, {"token": lambda: "t"}, {"metadata": {"Authorization": "Basic x"}}])
def test_secrets_do_not_leave_this_machine_unencrypted_unless_allowed(address, secret):
    with pytest.raises(InvalidRequestError, match=r"unencrypted.*allow_plaintext_secrets=True"):
        MaskClient(address, "m", **secret)
    MaskClient(address, "m", allow_plaintext_secrets=True, **secret).close()
    with MaskClient(address, "m") as client, pytest.raises(InvalidRequestError, match="unencrypted"):
        client.status(metadata={"authorization": "Basic x"})


@pytest.mark.parametrize(
    "address", ["grpcs://models.example", "https://models.example", "grpc://localhost:1", "unix:///run/a"]
)
def test_secrets_may_travel_encrypted_or_on_this_machine(address):
    MaskClient(address, "m", token="t").close()


@pytest.mark.parametrize("metadata", [{"a": 1}, {"a": "new\nline"}, {"": "x"}, {"ä": "x"}])
def test_metadata_that_cannot_travel_is_refused(metadata):
    with pytest.raises(InvalidRequestError, match="metadata"):
        MaskClient("grpc://localhost:1", "m", metadata=metadata)


@pytest.mark.parametrize("client", ["sync", "async"])
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_metadata_whose_key_means_bytes_travels_over_both(client, scheme):
    kind = f"{client}-{'grpc' if scheme == 'grpc' else 'rest'}"
    with FakeServing() as serving, make_client(kind, serving, metadata={"x-trace-bin": "abc"}) as caller:
        caller.status(metadata={"x-span-bin": "d"})
        _, headers = serving.calls[-1]
    assert (headers["x-trace-bin"], headers["x-span-bin"]) == (("abc", "d") if scheme == "http" else (b"abc", b"d"))


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ("DNS resolution failed for no-such-host.invalid:443: C-ares status is not ARES_SUCCESS", False),
        ("errors resolving no-such-host.invalid: [UNKNOWN: Domain name not found]", False),
        ("No results from DNS queries", False),
        ("failed to connect to all addresses; last error: Connection refused", False),
        ("Socket closed", True),
    ],
)
def test_what_grpc_says_tells_whether_a_call_was_sent(words, sent):
    refused = SimpleNamespace(code=lambda: grpc.StatusCode.UNAVAILABLE, details=lambda: words)
    assert _error_of(refused).sent == sent


@pytest.mark.parametrize("name", ["", ".", ".mask.example"])
def test_a_server_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidRequestError, match="is no name; leave it out, or give one"):
        Tls(server_name=name)


def test_a_name_that_is_not_known_is_said_in_words(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        MaskClient("http://no-such-host.invalid:1", "m", retries=NO_RETRIES) as client,
        pytest.raises(ServerUnavailableError, match="cannot connect: Name or service not known"),
    ):
        client.status()


@pytest.mark.parametrize("client", ["sync", "async"])
def test_unix_sockets_are_called(tmp_path, client):
    path = tmp_path / "serving.sock"
    with FakeServing(grpc_address=f"unix:{path}"), make_client(f"{client}-grpc", f"unix://{path}") as caller:
        assert caller.segment(PICTURE).mask.all()
        assert caller.status()[0].version == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "no name of a model"),
        ({"version": 1, "label": "a"}, "exclude each other"),
        ({"version": "1"}, "no whole number"),
        ({"version": 2**63}, "version=9223372036854775808 has more than 64 bits"),
        ({"timeout": 0}, "no number of seconds above 0"),
        ({"timeout": float("inf")}, "no number of seconds above 0"),
        ({"compression": "brotli"}, "neither 'gzip' nor None"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InvalidRequestError, match=words):
        MaskClient("grpc://localhost:1", **{"model": "m", **options})


def test_a_client_says_what_it_is_of_without_its_secrets():
    with MaskClient("grpc://localhost:1,grpc://localhost:2", "coins", token="hidden") as client:
        assert repr(client) == "<MaskClient of 'coins' at grpc://localhost:1, grpc://localhost:2>"
        assert client.addresses == ("grpc://localhost:1", "grpc://localhost:2")


@pytest.mark.parametrize("client_class", [MaskClient, AsyncMaskClient])
@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_that_cannot_be_read_is_found_before_the_first_call(
    certificates, tmp_path, client_class, scheme, name
):
    files = {"ca_file": certificates / "ca.pem", **_own(certificates)}
    for path, reason in ((tmp_path / "none.pem", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidRequestError, match=f"^Tls cannot read {name} {path}: {reason}") as caught:
            client_class(f"{scheme}://localhost:1", "m", tls=Tls(**{**files, name: path}))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("client_class", [MaskClient, AsyncMaskClient])
@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize("wrong", ["no authority", "another key"])
def test_a_certificate_that_is_none_is_found_before_the_first_call(certificates, client_class, scheme, wrong):
    own = _own(certificates)
    forms = {
        "another key": {**own, "key_file": certificates / "server.key"},
        "no authority": {"ca_file": own["key_file"]},
    }
    files = forms[wrong]
    assert all(path.exists() for path in files.values())
    named = "ca_file" if wrong == "no authority" else "key_file"
    with pytest.raises(InvalidRequestError, match=rf"^Tls: {named} {files[named]} holds no ") as caught:
        client_class(f"{scheme}://localhost:1", "m", tls=Tls(**files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "two words", "a:b", "x\n", "é", "a/b"])
@pytest.mark.parametrize("client_class", [MaskClient, AsyncMaskClient])
def test_a_key_that_cannot_be_sent_is_refused_at_once(client_class, key):
    with pytest.raises(InvalidRequestError, match="metadata"):
        client_class("grpc://localhost:1", "m", metadata={key: "value"})


@pytest.mark.parametrize("token", ["", "secret\n", "sec ret", "secrét", b"secret"])
def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(token):
    with pytest.raises(InvalidRequestError, match="the token") as caught:
        Credentials(token=token if isinstance(token, str) else lambda: token).for_call(
            parse_addresses("grpc://localhost:1")[0]
        )
    assert "secret" not in str(caught.value)
