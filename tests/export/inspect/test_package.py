"""The package's names."""

import importlib

import pytest
from maskport.export import inspect


def test_every_name_that_is_listed_is_there():
    assert inspect.__all__ == sorted(inspect.__all__)
    for name in inspect.__all__:
        assert getattr(inspect, name).__name__ == name
    assert dir(inspect) == inspect.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        importlib.import_module("maskport.export.inspect").nonsense  # noqa: B018
