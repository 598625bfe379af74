"""`mask-export`: one flag for each field of the spec."""

import contextlib
import time
import typing
from collections.abc import Iterator, Sequence

from absl import flags, logging

from ..serving import command_line
from .errors import ExportError, SpecError

with command_line.importing("mask-export", extra="export"):
    from .entry import check_export
    from .sources.preflight import check_source
    from .spec import flags as spec_flags, load_spec

_DESCRIPTION = """
Exports a segmentation model as a SavedModel for TensorFlow Serving.

  mask-export --spec=configs/export/coins.yaml
  mask-export --source=model.keras --scaling=unit --output_dir=models/mine
  mask-export --spec=configs/export/coins.yaml --threshold=0.4 --dry_run

The version directory appears in output_dir whole, or not at all. Exit codes: 0 published, 1 failed, 2 usage.
"""

_SPEC = flags.DEFINE_string("spec", None, "YAML file of the fields below; a flag overrides its field.")
_DRY_RUN = flags.DEFINE_boolean(
    "dry_run", False, "Load the model, print the resolved spec and the signatures, write nothing."
)

_OVERRIDES = spec_flags.define()
flags.adopt_module_key_flags(spec_flags)  # so that --help shows them as this command's


def main(arguments: Sequence[str]) -> int:
    """Translates the flags into one call of the exporter."""
    if arguments:
        raise command_line.UsageError(f"unexpected argument {arguments[0]!r}; the model is given by --source")
    overrides = _OVERRIDES()
    if _SPEC.value is None and not overrides:
        raise command_line.UsageError("give --spec=FILE.yaml, or --source and --output_dir")
    try:
        spec = load_spec(_SPEC.value, overrides)
    except SpecError as error:
        raise command_line.UsageError(str(error)) from error

    command_line.check_installed("tensorflow")
    if _DRY_RUN.value:
        check_source(spec)
    else:
        check_export(spec)
    with _reporting_steps() as on_step:
        on_step("Starting TensorFlow")
        command_line.import_quietly("tensorflow")
        from .exporter import Plan, export_spec

        if _DRY_RUN.value:
            on_step(f"Loading {spec.source}")
            plan = Plan.make(spec)
        else:
            version_dir = export_spec(spec, on_step)
    if _DRY_RUN.value:
        print(plan.describe())
    else:
        print(version_dir)
    return command_line.EXIT_OK


@contextlib.contextmanager
def _reporting_steps() -> Iterator[typing.Callable[[str], None]]:
    """Shows each step and how long it took, on stderr, unless `--verbosity` is below -1 (warnings)."""
    from rich.console import Console

    console = Console(stderr=True, quiet=logging.get_verbosity() < logging.WARNING, highlight=False)
    started: list[tuple[str, float]] = []

    def finish() -> None:
        if started:
            text, since = started.pop()
            console.print(f"  [green]✓[/green] {text} [dim]{time.monotonic() - since:.1f} s[/dim]")

    with console.status("") as status:

        def on_step(text: str) -> None:
            finish()
            started.append((text, time.monotonic()))
            status.update(text)

        yield on_step
        finish()


def run() -> None:
    """The console script's entry point."""
    command_line.run_app(
        main,
        program="mask-export",
        description=_DESCRIPTION,
        user_errors=(ExportError,),
        extra="export",
        needs_gpu=False,
    )
