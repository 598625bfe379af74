"""The package shows what it lists, and loads TensorFlow only when it is used."""

import subprocess
import sys

import maskport.serving.server
import pytest


def test_listed_names_are_there_and_sorted():
    listed = maskport.serving.server.__all__
    assert listed == sorted(listed)
    assert all(getattr(maskport.serving.server, name) for name in listed)


def test_listed_names_are_the_ones_that_are_found():
    assert set(maskport.serving.server._HOMES) == set(maskport.serving.server.__all__)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'ModelServer'"):
        _ = maskport.serving.server.ModelServer


def test_importing_the_package_loads_no_tensorflow():
    code = "import sys, maskport.serving.server; print('tensorflow' in sys.modules, 'grpc' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
