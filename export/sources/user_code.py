"""Importing modules that a spec names, and what Keras finds in them."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import SourceError
from ..model.causes import cause_of

_LIBRARIES = {"keras", "tensorflow", "tf_keras", "numpy", *sys.stdlib_module_names}


def find_user_module(name: str, key: str) -> None:
    """Makes sure that the module that the field `key` names is there; the working directory is looked in last."""
    here = str(Path.cwd())
    if here not in sys.path:
        # Last: a file of the user's must not take the place of a library.
        sys.path.append(here)
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise SourceError(f"{key}: no module {name!r}, neither installed nor in {here}")


def import_user_module(name: str, key: str) -> ModuleType:
    """Imports a module of the user's; SourceError where there is no such module, or its import fails."""
    find_user_module(name, key)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise SourceError(f"{key}: importing {name!r} fails: {type(error).__name__}: {cause_of(error)}") from error


def own_objects(module: ModuleType) -> dict[str, Any]:
    """Returns the classes and functions that a module of the user's has, or has registered with Keras, by name."""
    import keras

    libraries = [keras, *([sys.modules["tf_keras"]] if "tf_keras" in sys.modules else [])]
    registered = {
        full.rpartition(">")[2]: value
        for library in libraries
        for full, value in library.saving.get_custom_objects().items()
    }
    has = {name: value for name, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)}
    return {
        name: value
        for name, value in (registered | has).items()
        if value.__module__.partition(".")[0] not in _LIBRARIES
    }


def named_as_saved(objects: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Returns objects by the names that a model's configuration has for them, "package>name" among them.

    So it does not matter whether, and in which package, they are or were registered.
    """
    saved = {full: name for full, name in re.findall(r'"([^">]*>([^">]+))"', config) if name in objects}
    return {**objects, **{full: objects[name] for full, name in saved.items()}}
