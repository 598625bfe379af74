"""Fixtures that several packages' tests share."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure():
    """Lets the commands that tests start be interrupted, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # which children inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Silences what TensorFlow says when a conftest.py imports it, as pytest does for files of tests only."""
    # TensorFlow writes to the file descriptor.
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        return (yield)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.fixture(scope="session")
def coins_export(tmp_path_factory):
    """Base path of the demo model, exported by its own spec: `coins/1`."""
    from maskport.export import load_spec
    from maskport.export.exporter import export_spec

    base_path = tmp_path_factory.mktemp("served") / "coins"
    spec = load_spec(
        str(ROOT / "configs/export/coins.yaml"),
        {"source": str(ROOT / "models/coins/coins.keras"), "output_dir": str(base_path)},
    )
    export_spec(spec)
    return base_path
