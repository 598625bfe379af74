"""Proxies that the environment names: used, passed over, or refused in words."""

import http.server
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from any_client import make_client
from fake_serving import FakeServing
from maskport.serving.client import (
    AccessDeniedError,
    InvalidRequestError,
    MaskServingError,
    ServerUnavailableError,
    Tls,
)
from maskport.serving.client.transport.addresses import parse_address
from maskport.serving.client.transport.proxies import proxy_of
from waiting import PATIENCE_S

ELSEWHERE = "http://192.0.2.1:8501"  # an address of documentation: nobody is there
CLIENTS = ["sync-rest", "async-rest"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """One without proxies, which a test fills."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


class _Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        state = b'{"model_version_status": [{"version": "7", "state": "AVAILABLE"}]}'
        body, form = (b"<p>Go away</p>", "text/html") if "closed" in self.path else (state, "application/json")
        self.send_response(403 if "closed" in self.path else 200)
        self.send_header("content-type", form)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        """Refuses, or passes on to the server whatever the host is."""
        self.server.asked.append(self.path)
        if self.server.refusal:
            self.send_error(self.server.refusal)
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.server.target)) as beyond:
            sides = {self.connection: beyond, beyond: self.connection}
            while True:
                for ready in select.select(list(sides), [], [])[0]:
                    if not (data := ready.recv(1 << 16)):
                        return
                    sides[ready].sendall(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    server.asked, server.refusal = [], None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "http://user:secret@127.0.0.1:{}"])
def test_calls_to_other_machines_go_through_the_proxy(environment, proxy, kind, name, form):
    environment.setenv(name, form.format(proxy.server_port))
    environment.setenv("no_proxy", "localhost, 127.0.0.1 ,[::1],fe80::/10,[,%%,192.0.2.1:9,example.com")
    with make_client(kind, ELSEWHERE, "coins", timeout=10) as client:
        assert client.status()[0].version == 7
    assert proxy.asked == [f"{ELSEWHERE}/v1/models/coins"]
    with (
        make_client(kind, ELSEWHERE, "closed", timeout=10) as client,
        pytest.raises(MaskServingError, match="Go away") as error,
    ):
        client.status()
    assert f"127.0.0.1:{proxy.server_port} of {name})" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (407, AccessDeniedError, "the proxy refuses to connect: 407 Proxy Authentication Required"),
        (403, AccessDeniedError, "the proxy refuses to connect: 403 Forbidden"),
        (405, AccessDeniedError, "the proxy refuses to connect: 405 Method Not Allowed"),
        (502, ServerUnavailableError, "cannot connect: 502 Bad Gateway"),
    ],
)
def test_a_proxy_that_does_not_connect_is_named_and_asked_again_only_where_that_may_help(
    environment, proxy, kind, status, error, words
):
    environment.setenv("https_proxy", f"http://user:secret@127.0.0.1:{proxy.server_port}")
    proxy.refusal = status
    with (
        make_client(kind, "https://192.0.2.1:8501", "coins", timeout=PATIENCE_S if status < 500 else 0.5) as client,
        pytest.raises(error, match=words) as caught,
    ):
        client.status()
    assert f"127.0.0.1:{proxy.server_port} of https_proxy)" in str(caught.value)
    assert "secret" not in str(caught.value)
    if error is AccessDeniedError:
        assert (proxy.asked, caught.value.http_status) == (["192.0.2.1:8501"], status)
    else:
        assert not caught.value.sent


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", ["mask.example", "other.example", None])
def test_the_certificate_bears_the_name_that_tls_gives_behind_a_proxy_too(environment, proxy, tmp_path, kind, name):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mask.example").configure_cert(context)
    environment.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_port}")
    with FakeServing() as serving:
        proxy.target = int(serving.rest_address.rpartition(":")[2])
        serving.wrap_tls(context)
        tls = Tls(ca_file=tmp_path / "ca.pem", server_name=name)
        with make_client(kind, "https://192.0.2.1:8501", tls=tls, timeout=PATIENCE_S) as client:
            if name == "mask.example":
                assert client.segment(np.full((2, 3, 3), 200, np.uint8)).mask.all()
            else:
                with pytest.raises(AccessDeniedError, match="certificate is not accepted"):
                    client.status()
    assert set(proxy.asked) == {"192.0.2.1:8501"}


BAD = [
    ("ALL_PROXY", "socks5://127.0.0.1:9", "needs socksio, which is not installed; pip install 'httpx[socks]'"),
    ("http_proxy", "socks://127.0.0.1:9", "names no proxy that can be used"),
    ("HTTP_PROXY", "http://user:secret@[::1", "names no proxy that can be used"),
    ("http_proxy", "http://:80", "names no proxy that can be used"),
    ("http_proxy", "http://a:b:c", "names no proxy that can be used"),
    ("http_proxy", "http://127.0.0.1:99999", "names no proxy that can be used"),
    ("all_proxy", "ftp://127.0.0.1:9", "names no proxy that can be used"),
]


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(environment, kind, name, value, message):
    environment.setitem(sys.modules, "socksio", None)
    environment.setenv(name, value)
    with (
        make_client(kind, ELSEWHERE, "coins", timeout=5) as client,
        pytest.raises(InvalidRequestError, match=f"{name}.*no_proxy") as error,
    ):
        client.status()
    assert message in str(error.value)
    assert "secret" not in str(error.value)
    environment.setenv("NO_PROXY", "192.0.2.0/24")
    assert proxy_of(parse_address(ELSEWHERE)) is None


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_proxy_that_is_not_there_is_named(environment, kind):
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    message = "called through the proxy http://127.0.0.1:9 of http_proxy"
    with (
        make_client(kind, ELSEWHERE, "coins", timeout=1) as client,
        pytest.raises(ServerUnavailableError, match=message),
    ):
        client.status()


@pytest.mark.parametrize(
    ("entry", "passes_by"),
    [
        ("*", [1, 1, 1]),
        ("192.0.2.1", [1, 0, 0]),
        ("192.0.2.1:8501", [1, 0, 0]),
        ("192.0.2.1:80", [0, 0, 0]),
        ("192.0.0.0/16", [1, 0, 0]),
        ("192.0.2.0/99", [0, 0, 0]),
        ("http://192.0.2.1", [1, 0, 0]),
        ("https://192.0.2.1", [0, 0, 0]),
        ("all://192.0.2.1:8501/", [1, 0, 0]),
        ("2001:db8::1", [0, 1, 0]),
        ("2001:0db8:0:0::1", [0, 1, 0]),
        ("[2001:db8::1]", [0, 1, 0]),
        ("[2001:db8::1]:8501", [0, 1, 0]),
        ("[2001:db8::1]:80", [0, 0, 0]),
        ("2001:db8::/32", [0, 1, 0]),
        ("[2001:db8::]/32", [0, 1, 0]),
        ("[::1]", [0, 0, 0]),
        ("fe80::/10", [0, 0, 0]),
        ("example.com", [0, 0, 1]),
        (".example.com", [0, 0, 1]),
        ("*.Example.com", [0, 0, 1]),
        ("ample.com", [0, 0, 0]),
        ("mask.example.com:8501", [0, 0, 1]),
        ("[", [0, 0, 0]),
        ("a]b[::", [0, 0, 0]),
        (":", [0, 0, 0]),
        ("", [0, 0, 0]),
    ],
)
def test_no_proxy_lists_names_addresses_and_networks(environment, entry, passes_by):
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    environment.setenv("no_proxy", f"localhost,{entry} elsewhere.example")
    hosts = ["192.0.2.1", "[2001:db8::1]", "mask.example.com"]
    found = [proxy_of(parse_address(f"http://{host}:8501")) is None for host in hosts]
    assert found == [bool(passed) for passed in passes_by]


def test_schemes_have_proxies_of_their_own_and_this_machine_has_none(environment):
    environment.setenv("https_proxy", "http://127.0.0.1:9")
    assert proxy_of(parse_address(ELSEWHERE)) is None
    found = proxy_of(parse_address("https://192.0.2.1"))
    assert (found.variable, found.for_httpx().url) == ("https_proxy", httpx.URL("http://127.0.0.1:9"))
    assert proxy_of(parse_address("https://localhost:8501")) is None
    environment.setenv("https_proxy", "")
    assert proxy_of(parse_address("https://192.0.2.1")) is None


def test_the_command_says_it_in_one_line():
    command = Path(sys.executable).with_name("mask-client")
    done = subprocess.run(
        [command, "status", f"--address={ELSEWHERE}", "--model=coins", "--timeout=1"],
        env={**os.environ, "http_proxy": "nonsense://"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "http_proxy names no proxy that can be used" in done.stderr
