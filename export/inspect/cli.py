"""`mask-inspect`: what a version directory holds, and how it is called."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags, logging
from rich.console import Console

from ...serving import command_line
from ..errors import ExportError
from .version_directory import VersionDirectory, find_version_directory

if TYPE_CHECKING:
    from .inspection import Inspection

_DESCRIPTION = """
Shows what an exported version directory holds: signatures, spec, sizes, times on this machine, and an example
call of each signature by curl, Python and grpcurl.

  mask-inspect served/coins                  the highest version of a base path
  mask-inspect served/coins/3 --json
  mask-inspect served/coins --html=coins.html --image=photo.jpg
  mask-inspect --protoset=tensorflow_serving.protoset

A SavedModel that maskport did not export shows its signatures and sizes. Exit codes: 0 done, 1 failed, 2 usage.
"""

_JSON = flags.DEFINE_boolean("json", False, "Print JSON.")
_HTML = flags.DEFINE_string(
    "html", None, "Write a page too: with pictures, and the share of foreground against the threshold."
)
_IMAGE = flags.DEFINE_string(
    "image", None, "Picture for --html and for the example calls. Default: a drawn one; photo.jpg in the calls."
)
_RUNS = flags.DEFINE_integer(
    "runs", 5, "How often each signature is called to be timed; 0 leaves that out.", lower_bound=0
)
_CALLS = flags.DEFINE_list(
    "calls", None, "Signatures whose example calls are printed. Default: all; empty: none. JSON and page have all."
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", None, "In the example calls: the model's name on the server. Default: the base path's last part."
)
_REST_ADDRESS = flags.DEFINE_string("rest_address", "http://localhost:8501", "In the example calls.")
_GRPC_ADDRESS = flags.DEFINE_string("grpc_address", "grpc://localhost:8500", "In the example calls.")
_PROTOSET = flags.DEFINE_string(
    "protoset", None, "Write the definitions of TensorFlow Serving's messages: a file for grpcurl."
)


def main(arguments: Sequence[str]) -> int:
    """Translates the flags into one inspection, and shows it."""
    if len(arguments) > 1:
        raise command_line.UsageError(f"one directory at a time; got {' '.join(arguments)}")
    if not arguments and _PROTOSET.value is None:
        raise command_line.UsageError("give a version directory, or a base path")
    for holder, schemes in ((_REST_ADDRESS, ("http", "https")), (_GRPC_ADDRESS, ("grpc", "grpcs"))):
        if holder.value.partition("://")[0] not in schemes:
            expected = f"{schemes[0]}://HOST:PORT"
            raise command_line.UsageError(f"--{holder.name}={holder.value}: wanted {expected} or {schemes[1]}://…")
    # Before TensorFlow starts: a misspelt path needs no waiting.
    directory = find_version_directory(Path(arguments[0])) if arguments else None
    console = Console(stderr=True, quiet=logging.get_verbosity() < logging.WARNING)
    with console.status("Inspecting …"):
        command_line.import_quietly("tensorflow")
        if _PROTOSET.value is not None:
            from .calls import write_protoset

            write_protoset(Path(_PROTOSET.value))
        inspection = _inspect(directory) if directory else None
    if inspection is not None:
        _show(inspection)
    return command_line.EXIT_OK


def _inspect(directory: VersionDirectory) -> "Inspection":
    from .calls import Target
    from .inspection import inspect_version

    target = Target(
        model=_MODEL_NAME.value or directory.model_name,
        rest_address=_REST_ADDRESS.value.rstrip("/"),
        grpc_address=_GRPC_ADDRESS.value.rstrip("/"),
        picture=_IMAGE.value or "",
    )
    return inspect_version(
        directory.path,
        target=target,
        runs=_RUNS.value,
        with_picture=_HTML.value is not None,
        picture=Path(_IMAGE.value) if _IMAGE.value else None,
    )


def _show(inspection: "Inspection") -> None:
    for name in _CALLS.value or []:
        if name not in inspection.calls:
            known = ", ".join(inspection.calls) or "none"
            raise command_line.UsageError(f"--calls: there is no call of {name!r}; there are: {known}")
    from .page import format_page
    from .text import format_inspection

    if _HTML.value is not None:
        Path(_HTML.value).write_text(format_page(inspection), encoding="utf-8")
        print(f"mask-inspect: wrote {_HTML.value}", file=sys.stderr)
    if _JSON.value:
        print(json.dumps(inspection.to_json(), indent=1))
    else:
        print(format_inspection(inspection, _CALLS.value))


def run() -> None:
    """The console script's entry point."""
    command_line.run_app(
        main,
        program="mask-inspect",
        description=_DESCRIPTION,
        user_errors=(ExportError,),
        extra="export",
        needs_gpu=False,
    )
