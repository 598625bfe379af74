"""Networks and servers that fail: every call ends by its deadline with the right error, or succeeds by retrying."""

import asyncio
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest
from any_client import make_client
from fake_serving import FakeServing, refuse, slow
from hostile_proxy import HostileProxy
from maskport.serving.client import (
    AsyncMaskClient,
    ClientClosedError,
    DeadlineExceededError,
    InvalidResponseError,
    MaskClient,
    MaskServingError,
    RetryPolicy,
    ServerUnavailableError,
)
from maskport.serving.client.transport.addresses import parse_addresses
from maskport.serving.client.transport.calls import StatusCall, Target
from maskport.serving.client.transport.options import ConnectionOptions
from maskport.serving.client.transport.transports import connect, connect_async
from waiting import PATIENCE_S, wait_until

PICTURE = np.full((40, 50, 3), 200, np.uint8)
TIMEOUT_S = 0.7
GRACE_S = 0.1


@pytest.fixture
def proxy(kind, serving):
    address = serving.address(kind.split("-")[1])
    with HostileProxy(int(address.rpartition(":")[2])) as proxy:
        proxy.address = f"{address.rpartition(':')[0]}:{proxy.port}"
        yield proxy


@pytest.fixture
def client(kind, proxy):
    with make_client(kind, proxy.address, timeout=PATIENCE_S) as client:
        client.segment(PICTURE)
        yield client


def _ends_in_time(call):
    """The error that a call ends with; it must come by the deadline and a tenth of a second.

    Other work on the machine may delay some tries, hardly all.
    """
    for _ in range(10):
        started = time.monotonic()
        with pytest.raises(MaskServingError) as caught:
            call()
        took = time.monotonic() - started
        if took <= TIMEOUT_S + GRACE_S:
            return caught.value
    pytest.fail(f"a call of {TIMEOUT_S} s took {took:.2f} s")


def _ends_in_time_with(kind, client):
    """The error of a kind that a call ends with in time; one that the machine holds up may end by its deadline."""

    def end():
        found = _ends_in_time(lambda: client.segment(PICTURE, timeout=TIMEOUT_S))
        return found if isinstance(found, kind) else None

    return wait_until(end, f"{kind}")


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("black_hole", DeadlineExceededError),
        ("stall", DeadlineExceededError),
        ("drip", DeadlineExceededError),
        ("reset", ServerUnavailableError),
        ("reset_request", ServerUnavailableError),
        ("half_close", ServerUnavailableError),
    ],
)
def test_a_call_through_a_broken_network_ends_in_time_with_the_right_error(client, proxy, mode, error):
    proxy.misbehave(mode)
    found = _ends_in_time_with(error, client)
    assert type(found) is error
    assert str(found.address) == proxy.address


def test_a_refused_connection_ends_in_time_with_the_right_error(client, proxy):
    proxy.refuse()
    found = _ends_in_time_with(ServerUnavailableError, client)
    assert type(found) is ServerUnavailableError
    assert "Connection refused" in str(found)
    # On a busy machine there may be time for one only.
    wait_until(lambda: "attempts" in str(_ends_in_time(lambda: client.segment(PICTURE, timeout=TIMEOUT_S))))


def test_noise_ends_in_time_with_an_error_that_says_so(client, kind, proxy):
    proxy.misbehave("garbage")
    _ends_in_time_with(InvalidResponseError | ServerUnavailableError, client)


def test_a_connection_that_is_never_accepted_ends_in_time(kind):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # Fill the queue: later connections hang in their handshake.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        scheme = "grpc" if kind.endswith("grpc") else "http"
        with make_client(kind, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}") as client:
            found = _ends_in_time(lambda: client.segment(PICTURE, timeout=TIMEOUT_S))
        for filler in fillers:
            filler.close()
    assert isinstance(found, DeadlineExceededError | ServerUnavailableError)


@pytest.mark.parametrize("mode", ["reset", "reset_request", "half_close"])
def test_a_call_that_breaks_off_succeeds_by_being_repeated(client, proxy, serving, mode):
    proxy.misbehave(mode, times=2)
    started = time.monotonic()
    assert client.segment(PICTURE, timeout=PATIENCE_S).mask.all()
    assert time.monotonic() - started < PATIENCE_S / 2
    assert proxy.mode == "pass"


def test_a_call_succeeds_once_the_server_is_back(client, proxy):
    proxy.refuse()
    started = time.monotonic()
    timer = threading.Timer(0.5, proxy.listen)
    timer.start()
    assert client.segment(PICTURE, timeout=PATIENCE_S).mask.all()
    assert 0.4 < time.monotonic() - started < PATIENCE_S / 2
    timer.join()


def test_a_stall_within_the_deadline_is_waited_out(client, proxy):
    proxy.stall_s = 0.5
    proxy.misbehave("stall")
    assert client.segment(PICTURE, timeout=PATIENCE_S).mask.all()


def test_restarts_under_load_fail_no_call(client, kind, proxy, serving):
    errors, done = [], []
    end = time.monotonic() + 2.5

    def work():
        while time.monotonic() < end:
            try:
                done.append(client.segment(PICTURE, timeout=PATIENCE_S).mask.all())
            except MaskServingError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for pause in (0.3, 0.6):
        time.sleep(0.4)
        proxy.refuse()
        time.sleep(pause)
        with FakeServing() as other:  # another process of the server, as far as the client can tell
            proxy.target = int(other.address(kind.split("-")[1]).rpartition(":")[2])
            proxy.listen()
            time.sleep(0.4)
            proxy.refuse()
        proxy.target = int(serving.address(kind.split("-")[1]).rpartition(":")[2])
        proxy.listen()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(done) > 10
    assert all(done)


def test_a_server_that_is_full_is_tried_again_within_the_budget(kind, serving):
    words = "The batch scheduling queue to which this task was submitted is full"
    with make_client(kind, serving) as client:
        client.segment(PICTURE)
        serving.behaviours += [refuse("UNAVAILABLE", words)] * 3
        assert client.segment(PICTURE, timeout=PATIENCE_S).mask.all()
        assert serving.behaviours == []


def test_the_budget_ends_retries_of_all_calls_together(kind, serving):
    with make_client(kind, serving, retries=RetryPolicy(first_delay_s=0.001, budget=5)) as client:
        client.segment(PICTURE)
        serving.requests.clear()
        serving.behaviours += [refuse("UNAVAILABLE", "full")] * 1000
        for _ in range(10):
            with pytest.raises(ServerUnavailableError, match="full"):
                client.segment(PICTURE, timeout=PATIENCE_S)
    # Ten calls, the budget of five repetitions, and what the calls gave back to it.
    assert 15 <= len(serving.requests) <= 10 + 5 + 3


def test_retries_can_be_switched_off_and_bounded(kind, serving):
    for attempts in (1, 3):
        with make_client(kind, serving, retries=RetryPolicy(0.001, max_attempts=attempts)) as client:
            client.segment(PICTURE)
            serving.requests.clear()
            serving.behaviours[:] = [refuse("UNAVAILABLE", "full")] * 10
            with pytest.raises(ServerUnavailableError):
                client.segment(PICTURE)
            assert len(serving.requests) == attempts
            serving.behaviours.clear()


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "INVALID_ARGUMENT", "CANCELLED"])
def test_other_failures_are_not_repeated(kind, serving, code):
    with make_client(kind, serving) as client:
        client.segment(PICTURE)
        serving.requests.clear()
        serving.behaviours.append(refuse(code))
        with pytest.raises(MaskServingError):
            client.segment(PICTURE)
    assert len(serving.requests) == 1


# ---- several addresses ----


def test_addresses_share_the_calls(kind):
    with FakeServing() as one, FakeServing() as two:
        transport = kind.split("-")[1]
        with make_client(kind, [one.address(transport), two.address(transport)]) as client:
            for _ in range(20):
                client.segment(PICTURE)
        counts = [len(server.requests) for server in (one, two)]
    assert sum(counts) == 20
    assert min(counts) >= 8


def test_calls_move_off_a_dead_address_at_once_and_back_when_it_lives(kind, serving):
    transport = kind.split("-")[1]
    address = serving.address(transport)
    with HostileProxy(int(address.rpartition(":")[2])) as proxy:
        proxied = f"{address.rpartition(':')[0]}:{proxy.port}"
        with make_client(kind, [address, proxied], timeout=PATIENCE_S) as client:
            for _ in range(4):
                client.segment(PICTURE)
            proxy.refuse()
            slowest = 0.0
            for _ in range(20):
                started = time.monotonic()
                client.segment(PICTURE)
                slowest = max(slowest, time.monotonic() - started)
            assert slowest < 5
            proxy.listen()
            addresses = set()

            def called_both():
                addresses.add(client.segment(PICTURE).address)
                return addresses == {address, proxied}

            wait_until(called_both, "the return to the address that lives again")


def test_calls_move_off_an_address_that_swallows_them(kind, serving):
    transport = kind.split("-")[1]
    address = serving.address(transport)
    with HostileProxy(int(address.rpartition(":")[2])) as proxy:
        proxied = f"{address.rpartition(':')[0]}:{proxy.port}"
        retries = RetryPolicy(attempt_timeout_s=0.3)
        with make_client(kind, [address, proxied], timeout=PATIENCE_S, retries=retries) as client:
            for _ in range(4):
                client.segment(PICTURE)
            proxy.misbehave("black_hole")
            started = time.monotonic()
            for _ in range(10):
                assert client.segment(PICTURE).mask.all()
            assert time.monotonic() - started < PATIENCE_S / 2


# ---- answers that are wrong ----


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.answer(self)

    def do_POST(self):
        self.server.answer(self)


@pytest.fixture
def http_server():
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _body(content, status=200, content_type="application/json", **headers):
    def answer(handler):
        handler.send_response(status)
        fields = {"content-type": content_type, "content-length": str(len(content))}
        for name, value in {**fields, **{key.replace("_", "-"): value for key, value in headers.items()}}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize("client_kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (_body(b"<html>hello</html>"), InvalidResponseError, "not JSON"),
        (_body(b'{"model_version_status": [{"ver'), InvalidResponseError, "not JSON"),
        (_body(b"[" * 100_000), InvalidResponseError, "not JSON"),
        (_body(b"{}"), InvalidResponseError, "not a model's status"),
        (_body(b'{"model_version_status": [{"version": "1", "state": "FINE"}]}'), InvalidResponseError, "status"),
        (_body(b"null"), InvalidResponseError, "status"),
        (_body(os.urandom(50)), InvalidResponseError, "not JSON"),
        (_body(b"x" * 100, content_encoding="gzip"), InvalidResponseError, r"compressed \(gzip\)"),
        (_body(b"gone", 404, "text/html"), MaskServingError, r"HTTP 404, not in .* form: gone"),
        (_body(b"", 302, location="http://127.0.0.1:1/"), MaskServingError, "HTTP 302.* sends on to .*:1/"),
        (_body(b"too short", content_length="100"), ServerUnavailableError, "broke off"),
    ],
)
def test_wrong_answers_of_an_http_server_are_errors(http_server, client_kind, answer, error, words):
    http_server.answer = answer
    address = f"http://127.0.0.1:{http_server.server_address[1]}"
    with make_client(f"{client_kind}-rest", address) as client, pytest.raises(error, match=words):
        client.status(timeout=1)


@pytest.mark.parametrize(
    "outputs",
    [
        {"other": 1},
        {"mask_bytes": [{"b64": "####"}], "error": [""]},
        {"mask_bytes": [{"c64": ""}], "error": [""]},
        {"mask_bytes": 17, "error": [""]},
        {"mask_bytes": [None], "error": [""]},
        [1, 2],
    ],
)
def test_wrong_outputs_over_rest_are_errors(http_server, serving, outputs):
    with make_client("sync-rest", serving) as real:
        real.metadata()
        metadata = serving  # its metadata is passed on, its predictions are not

    def answer(handler):
        handler.rfile.read(int(handler.headers.get("content-length", 0)))
        if handler.command == "GET":
            import urllib.request

            with urllib.request.urlopen(metadata.rest_address + handler.path) as response:
                _body(response.read())(handler)
        else:
            _body(json.dumps({"outputs": outputs}).encode())(handler)

    http_server.answer = answer
    address = f"http://127.0.0.1:{http_server.server_address[1]}"
    with make_client("sync-rest", address) as client, pytest.raises(InvalidResponseError):
        client.segment(PICTURE)


# ---- processes and threads ----


@pytest.mark.parametrize("kind", ["sync-grpc", "sync-rest"])
def test_many_threads_share_a_client(kind, serving):
    sizes = [(3 + index % 7, 4 + index % 5, 3) for index in range(200)]
    wrong = []

    with make_client(kind, serving, timeout=PATIENCE_S) as client:

        def work(mine):
            for size in mine:
                if client.segment(np.full(size, 200, np.uint8)).mask.shape != size[:2]:
                    wrong.append(size)

        threads = [threading.Thread(target=work, args=(sizes[start::8],)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("transport", ["grpc", "rest"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_client_used_after_a_fork_says_what_to_do(serving, transport):
    client = MaskClient(serving.address(transport), "model")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.segment(PICTURE)
        except ClientClosedError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    words = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    assert "make the client in the process that uses it" in words
    client.segment(PICTURE)
    client.close()


def test_closing_ends_a_wait_between_attempts(kind, proxy):
    client = make_client(kind, proxy.address, retries=RetryPolicy(first_delay_s=20, max_delay_s=20))
    proxy.refuse()
    caught = []

    def call():
        try:
            client.segment(PICTURE, timeout=PATIENCE_S)
        except MaskServingError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    client.close()
    thread.join()
    assert [type(error) for error in caught] == [ClientClosedError]


def test_a_cancelled_task_ends_its_call(serving):
    import asyncio

    from maskport.serving.client import AsyncMaskClient

    async def run(address):
        async with AsyncMaskClient(address, "model") as client:
            await client.segment(PICTURE)
            serving.behaviours.append(slow(4))
            before = len(serving.requests)
            task = asyncio.create_task(client.segment(PICTURE))
            while len(serving.requests) == before:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.segment(PICTURE)).mask.all()

    for address in (serving.grpc_address, serving.rest_address):
        started = time.monotonic()
        asyncio.run(run(address))
        assert time.monotonic() - started < 3.8


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("quiet_s", [0, 0.3], ids=["at-once", "after-a-while"])
def test_keepalive_finds_a_grpc_connection_that_went_silent_long_before_the_deadline(serving, mode, quiet_s):
    """The proxy takes everything and says nothing, as a firewall does that has forgotten the connection.

    Right after a call gRPC has a question of its own open, about the connection's speed; later it has none.
    """

    def send_into_silence(keepalive_s, timeout_s):
        with HostileProxy(serving.grpc_port) as proxy:
            through = parse_addresses(f"grpc://127.0.0.1:{proxy.port}")[0]
            options = ConnectionOptions(keepalive_s=keepalive_s, keepalive_timeout_s=0.3)
            with _Sender(mode, through, options) as send:
                assert send(timeout_s=PATIENCE_S).value
                time.sleep(quiet_s)
                proxy.misbehave("black_hole")
                started = time.monotonic()
                with pytest.raises(MaskServingError) as caught:
                    send(timeout_s=timeout_s)
                return type(caught.value), time.monotonic() - started

    error, seconds = send_into_silence(keepalive_s=0.3, timeout_s=PATIENCE_S)
    assert error is ServerUnavailableError
    assert seconds < PATIENCE_S / 2
    if quiet_s:
        # Without a question for so long, only the deadline ends the call.
        assert send_into_silence(keepalive_s=60, timeout_s=2)[0] is DeadlineExceededError


class _Sender:
    """Sends status calls over a transport of either kind."""

    def __init__(self, mode, address, options):
        self._loop = asyncio.new_event_loop() if mode == "async" else None
        self._address, self._options = address, options

    def __enter__(self):
        self._transport = self._run(self._connect)
        return lambda timeout_s: self._run(lambda: self._transport.send(StatusCall(Target("model")), timeout_s, ()))

    def __exit__(self, *_):
        self._run(self._transport.close)
        if self._loop is not None:
            self._loop.close()

    def _connect(self):
        if self._loop is None:
            return connect(self._address, self._options)

        async def connect_in_loop():
            return connect_async(self._address, self._options)

        return connect_in_loop()

    def _run(self, function):
        return function() if self._loop is None else self._loop.run_until_complete(function())


@pytest.mark.parametrize("client_class", [MaskClient, AsyncMaskClient])
def test_a_client_s_keepalive_reaches_grpc(client_class, monkeypatch):
    seen = {}

    def channel(target, options=()):
        seen.update(options)
        raise RuntimeError("far enough")

    monkeypatch.setattr(grpc, "insecure_channel", channel)
    monkeypatch.setattr(grpc.aio, "insecure_channel", channel)
    client = client_class("grpc://127.0.0.1:1", "model", keepalive=7.5)
    ask = client.status if client_class is MaskClient else lambda: asyncio.run(client.status())
    with pytest.raises(RuntimeError, match="far enough"):
        ask()
    assert seen["grpc.keepalive_time_ms"] == 7500
    assert seen["grpc.keepalive_timeout_ms"] == seen["grpc.http2.ping_timeout_ms"] == 20_000
