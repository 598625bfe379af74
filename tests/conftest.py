"""Fixtures that several packages' tests share."""

import contextlib
import fcntl
import gc
import ipaddress
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import forked
import processes
import pytest

ROOT = Path(__file__).parents[1]
LONGEST = {
    "test_show_rollback.py", "test_signatures.py", "test_recorded_answers.py", "test_deploy_document.py",
    "test_demo.py", "test_benchmark.py", "test_request_shapes.py", "test_exporter.py", "test_first_hour.py",
    "test_guides.py",
}  # fmt: skip
TOGETHER = [
    "tests/export/calibrate", "tests/export/evaluate", "tests/export/inspect", "tests/serving/playground",
    "tests/serving/verify",
]  # fmt: skip
"""Folders whose files share exports, or a browser, that take longer to make than most of their tests."""
FORKED = "MASKPORT_TEST_FORKED"
WORD = f"MASKPORT_TEST_PROCESS_{uuid.uuid4().hex}"


def pytest_configure(config):
    """Lets the commands that tests start be interrupted, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # which children inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    helpers = [processes.start_guard(WORD)]
    if sys.platform == "linux" and FORKED not in os.environ:  # the workers use pytest's own
        helpers += forked.start(name := uuid.uuid4().hex)
        os.environ[FORKED] = name
    os.environ[WORD] = ""

    def end():
        os.environ.pop(WORD)
        processes.kill(WORD)
        for helper in helpers:
            helper.kill()
            helper.wait()

    config.add_cleanup(end)


@pytest.fixture(scope="session", autouse=True)
def _fresh_processes_have_tensorflow():
    from maskport.export.publish import saved_check

    if name := os.environ.get(FORKED):
        saved_check.COMMAND = forked.command(name, saved_check.__name__)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_running():
    yield
    left = processes.find(WORD)
    processes.kill(WORD)
    assert not left, f"tests of this file left processes running: {left}"


_asked = set()


@pytest.fixture(scope="module", autouse=True)
def _no_host_of_the_internet_is_asked():
    """Where there is no internet, some tools wait for minutes before they go on without it."""
    _asked.clear()
    yield
    assert not _asked, f"tests of this file asked hosts elsewhere: {_asked}"


def _note_host(event, words):
    """Sees what this process connects to, for good: hosts that are neither here nor names that nobody has."""
    if event == "socket.getaddrinfo":
        host = words[0]
    elif event == "socket.connect" and isinstance(words[1], tuple):
        host = words[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host or "localhost"
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(host.partition("%")[0]).is_global:
            return
    if "." in host and not host.endswith((".localhost", ".invalid", ".test", ".example", socket.gethostname())):
        _asked.add(host)


sys.addaudithook(_note_host)


def pytest_collection_modifyitems(items):
    """Has the files that take longest run first: one of them at the end would be waited for alone."""
    items.sort(key=lambda item: item.path.name not in LONGEST and unit(item.nodeid) not in TOGETHER)


def unit(nodeid):
    """What is run by one worker: a file's tests, or those of a folder."""
    path = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if path.startswith(f"{folder}/")), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spreads files over the workers, as --dist=loadfile does, but some folders as a whole."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Units(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid)

    return Units(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Silences what TensorFlow says when a conftest.py imports it, as pytest does for files of tests only."""
    # TensorFlow writes to the file descriptor.
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    gc.disable()
    try:
        return (yield)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        # The modules and the tests stay to the end; looking through all of them takes half a second each time.
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def coins_export(tmp_path_factory, worker_id):
    """Base path of the demo model, exported by its own spec: `coins/1`. All workers share it: never change it."""
    from maskport.export import load_spec
    from maskport.export.exporter import export_spec

    own = tmp_path_factory.getbasetemp()
    base_path = (own if worker_id == "master" else own.parent) / "shared/coins"
    base_path.parent.mkdir(exist_ok=True)
    with open(base_path.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base_path / "1").exists():
            fields = {"source": str(ROOT / "models/coins/coins.keras"), "output_dir": str(base_path)}
            # Each of the many servers of it then starts sooner.
            fields["warmup_signatures"] = ["mask_png"]
            export_spec(load_spec(str(ROOT / "configs/export/coins.yaml"), fields))
    return base_path


@pytest.fixture(scope="session")
def coins_server(coins_export):
    """The embedded server of the demo model, in this process: that of all files that only call it."""
    from maskport.serving.server import EmbeddedServer

    with EmbeddedServer(coins_export) as server:
        yield server
