"""The command: `scripts/benchmark`."""

import argparse
import contextlib
import importlib
import logging
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from children import interrupt_on_sigterm

if TYPE_CHECKING:
    from .results import Row

ROOT = Path(__file__).resolve().parents[2]
GROUPS = [
    "latency",
    "outputs",
    "camera",
    "decoding",
    "batches",
    "traffic",
    "load",
    "memory",
    "client",
    "batch",
    "export",
    "start",
    "openvino",
    "onnx",
    "optimize",
]
PROGRAM = "scripts/benchmark"
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = f"""\
Measures maskport against the bare model, naive clients and others, all in one run.

The groups: {", ".join(GROUPS)}.

A full run writes BENCHMARKS.md and docs/benchmarks/; with --only, --quick or --output_dir all goes into a folder
instead. Exit code 1 if a goal was missed.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: {message} (see {PROGRAM} --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Returns the options; ends the process with one line where they make no sense."""
    parser = _Parser(PROGRAM, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="GROUP", default=None, help="these groups alone")
    parser.add_argument("--quick", action="store_true", help="few rounds and small tasks: about 3 minutes in all")
    parser.add_argument("--output_dir", type=Path, help="where the files go; default benchmark_output, for a part")
    parser.add_argument(
        "--server",
        default=str(ROOT / ".venv/bin/mask-serve"),
        help="a command that starts a server, with the flags of tensorflow_model_server; default mask-serve",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a group that fails")
    options = parser.parse_args(words)
    wanted = [name for words in options.only or () for name in words.split(",") if name]
    unknown = [name for name in wanted if name not in GROUPS]
    if unknown:
        parser.error(f"--only: no group {unknown[0]!r}; there are: {', '.join(GROUPS)}")
    options.only = [name for name in GROUPS if name in wanted] if options.only else GROUPS
    options.server = shlex.split(options.server)
    if not options.server:
        parser.error("--server: a command is wanted")
    options.is_official = options.only == GROUPS and not options.quick and options.output_dir is None
    return options


def run(options: argparse.Namespace) -> int:
    """Measures, prints as it goes along, and writes what was found; returns the exit code."""
    from maskport.serving.command_line import import_quietly

    tf = import_quietly("tensorflow")
    # Greets on stderr as it first looks for devices; it shall not do so amid the table.
    tf.config.set_visible_devices([], "GPU")
    # What an export warns of is a figure here, such as the IoU of `optimize`.
    logging.getLogger("maskport").setLevel(logging.ERROR)
    from .lab import FULL, QUICK, Lab
    from .machine import describe_machine, load_average
    from .models import Subjects
    from .plots import write_plots
    from .report import NOTES, write_report
    from .results import JSON, Group, Results, Row

    output_dir = ROOT / "docs/benchmarks" if options.is_official else options.output_dir or ROOT / "benchmark_output"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"{PROGRAM}: --output_dir={output_dir}: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    machine = describe_machine()
    machine["server"] = "mask-serve" if options.server[0].endswith("mask-serve") else Path(options.server[0]).name
    machine["load at the start"] = load_average()
    results = Results(machine, options.quick, options.only == GROUPS)
    print(", ".join(f"{name} {fact}" for name, fact in machine.items()), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Every call has its own warm-up; the server's takes time at each of its starts.
        subjects = Subjects(folder / "models", warmup=not options.quick)
        for group_name in options.only:
            module = importlib.import_module(f"benchmarks.groups.{group_name}")
            group = Group(group_name, str(module.__doc__))
            place = folder / group_name
            place.mkdir()
            lab = Lab(subjects, QUICK if options.quick else FULL, options.server, place)
            print(f"\n{group_name}", flush=True)
            started = time.monotonic()
            try:
                with contextlib.closing(module.measure(lab)) as findings:
                    for finding in findings:
                        group.add(finding)
                        if isinstance(finding, Row):
                            print(_line(finding), flush=True)
            except Exception as error:  # whatever it is, the other groups' figures are worth having
                if options.debug:
                    traceback.print_exc()
                group.failure = _one_line(error)
                print(f"  failed: {group.failure}", flush=True)
            group.seconds = round(time.monotonic() - started, 1)
            print(f"  ({group.seconds:.0f} s)", flush=True)
            results.groups.append(group)
    machine["load at the end"] = load_average()

    (output_dir / "results.json").write_bytes(JSON.dump_json(results, indent=1) + b"\n")
    write_plots([plot for group in results.groups for plot in group.plots], output_dir)
    report = ROOT / "BENCHMARKS.md" if options.is_official else output_dir / "BENCHMARKS.md"
    # What was written by hand is about the full run.
    notes = NOTES.read_text(encoding="utf-8") if options.is_official else ""
    write_report(results, report, "docs/benchmarks" if options.is_official else "", notes)
    print(f"\nWritten: {_shown(report)}, results.json and plots in {_shown(output_dir)}")
    failed = [group.name for group in results.groups if group.failure]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if results.missed:
        print(f"missed: {'; '.join(row.name for row in results.missed)}")
    elif not failed:
        print(f"all {len(results.goals)} goals are met")
    return EXIT_FAILED if failed or results.missed else EXIT_OK


def _line(row: "Row") -> str:
    goal = f"  {row.goal.text}: {row.verdict}" if row.goal else ""
    quartiles = f" [{row.quartiles_text}]" if row.quartiles_text else ""
    note = f"\n      {row.note}" if row.note else ""
    return f"  {row.name:<86} {row.value_text}{quartiles}{goal}{note}"


def _one_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in str(error.stderr or "").splitlines() if line.strip()]
        return f"{' '.join(map(str, error.cmd[1:4]))} ended with {error.returncode}: {said[-1] if said else 'no word'}"
    if hasattr(error, "details"):
        return f"{type(error).__name__}: {' '.join(str(error.details()).split())}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(words: Sequence[str]) -> int:
    options = parse_arguments(words)
    interrupt_on_sigterm()
    try:
        return run(options)
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
