"""Importing modules that a spec names."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from ..errors import SourceError


def import_user_module(name: str, key: str) -> Any:
    """Imports a module of the user's; the working directory is looked in last.

    Args:
        name: dotted.
        key: the spec's field that names it, for the error.

    Raises:
        SourceError: there is no such module, or its import fails.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        # Last: a file of the user's must not take the place of a library.
        sys.path.append(here)
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise SourceError(f"{key}: no module {name!r}, neither installed nor in {here}")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise SourceError(f"{key}: importing {name!r} fails: {type(error).__name__}: {error}") from error
