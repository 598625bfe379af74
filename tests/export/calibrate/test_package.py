"""The package's names."""

import importlib

import pytest
from maskport.export import calibrate


def test_every_name_that_is_listed_is_there():
    assert calibrate.__all__ == sorted(calibrate.__all__)
    for name in calibrate.__all__:
        assert getattr(calibrate, name).__name__ == name
    assert dir(calibrate) == calibrate.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        importlib.import_module("maskport.export.calibrate").nonsense  # noqa: B018
