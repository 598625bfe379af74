"""How every command line of maskport runs: absl flags, one-line errors, exit codes.

0: all done. 1: something failed, and is named on stderr in one line. 2: usage. 130: interrupted.
A traceback is shown only under `--debug`. The commands of `export` use this too: it is light and
imports nothing of serving.
"""

import contextlib
import gc
import importlib
import importlib.util
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from logging import Formatter, LogRecord, getLogger
from types import FrameType, ModuleType
from typing import NoReturn

from absl import app, flags, logging

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT

_HELP_FLAGS = {
    f"{dashes}{name}": name for dashes in ("-", "--") for name in ("help", "h", "helpshort", "helpfull", "helpxml")
}

_DEBUG = flags.DEFINE_boolean("debug", False, "Show the traceback of an error.")


class UsageError(Exception):
    """The command line makes no sense: the command ends with `EXIT_USAGE`."""


def one_line(error: BaseException) -> str:
    """Returns an error's text on one line; its class' name where it has none."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Returns a text with what is no printable character replaced.

    Servers and files have a say in what commands print, but not in what a terminal does.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def run_app(
    main: Callable[[Sequence[str]], int | None],
    *,
    program: str,
    description: str,
    user_errors: tuple[type[Exception], ...] = (),
    extra: str = "",
    needs_gpu: bool = True,
    verbosity: int = logging.WARNING,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parses the flags, runs `main`, and ends the process.

    Args:
        main: gets the positional arguments (without the program) and returns an exit code, None being 0.
        program: the command's name, as users type it.
        description: what the command does and how it is called; `--help` begins with it.
        user_errors: like `OSError`, a user's mistake, shown as it is; any other is shown as an internal error.
        extra: the distribution's extra that holds what the command imports.
        needs_gpu: whether TensorFlow takes the machine's GPUs, unless `CUDA_VISIBLE_DEVICES` is set.
        verbosity: what is logged where `--verbosity` does not say.
        argv: in place of `sys.argv`; the first word is the program.
    """
    if not needs_gpu:  # a busy one may have no memory left
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not all terminals know all letters

    def fail(message: str, exit_code: int) -> NoReturn:
        try:
            _flush_output()
        except OSError:
            _discard_output()
        print(f"{program}: {message}", file=sys.stderr)
        sys.exit(exit_code)

    def parse(words: Sequence[str]) -> list[str]:
        before_separator = words[: words.index("--")] if "--" in words else words
        asked = [_HELP_FLAGS[word] for word in before_separator if word in _HELP_FLAGS]
        if asked:
            try:
                print(_help(asked[0], description, main.__module__))
                _flush_output()
            except BrokenPipeError:
                _discard_output()
            except OSError as error:
                fail(one_line(error), EXIT_FAILED)
            sys.exit(EXIT_OK)
        try:
            return list(flags.FLAGS(list(words)))
        except flags.Error as error:
            fail(f"{one_line(error)} (see {program} --help)", EXIT_USAGE)

    def verdict(error: BaseException) -> tuple[str, int]:
        """Returns what to say of an error, and the exit code."""
        if isinstance(error, UsageError):
            return f"{one_line(error)} (see {program} --help)", EXIT_USAGE
        if isinstance(error, KeyboardInterrupt):
            return "interrupted", EXIT_INTERRUPTED
        if isinstance(error, ModuleNotFoundError):
            return _missing_package(error, extra), EXIT_FAILED
        if isinstance(error, (OSError, *user_errors)):
            return one_line(error), EXIT_FAILED
        return f"internal error: {type(error).__name__}: {one_line(error)} (--debug shows where)", EXIT_FAILED

    def guarded(words: Sequence[str]) -> int:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(verbosity)
        logging.get_absl_handler().setFormatter(_LogLines(program))
        try:
            with _signals_end_as_errors():
                exit_code = main(words[1:]) or EXIT_OK
                _flush_output()  # at Python's own end nobody could say what went wrong
            return exit_code
        except BrokenPipeError:
            _discard_output()  # the reader (head, less) has gone: nothing to tell it
            return EXIT_FAILED
        except (Exception, KeyboardInterrupt) as error:
            if _DEBUG.value:
                traceback.print_exc()
            fail(*verdict(error))

    app.run(guarded, argv=list(argv) if argv is not None else None, flags_parser=parse)
    raise AssertionError("app.run always ends the process")


def _help(asked: str, description: str, module: str) -> str:
    """Returns what a flag of help shows."""
    if asked == "helpxml":
        written = io.StringIO()
        flags.FLAGS.write_help_in_xml_format(written)
        return written.getvalue()
    if asked == "helpfull":
        return f"{description.strip()}\n\nFlags:\n{flags.FLAGS.get_help()}"
    # module_help opens with the module's own name, which users have no use for.
    own = flags.FLAGS.module_help(module).partition(":")[2].strip(os.linesep)
    return (
        f"{description.strip()}\n\nFlags:\n{own}\n  --[no]debug: Show the traceback of an error.\n"
        "  --helpfull: All flags, absl's own included."
    )


@contextlib.contextmanager
def _signals_end_as_errors() -> Iterator[None]:
    """Has Ctrl-C and SIGTERM end the block as an error would, so that files that are being written are removed.

    Outside it, and after a first SIGTERM, they end the process as the operating system does: at Python's own end they
    would show where in it they were caught.
    """
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: _exit_by_signal,
    }
    # As `entry` left them. Who ignores a signal, as a shell's jobs in the background do, goes on to.
    ours = [number for number in handlers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit_by_signal(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


class _LogLines(Formatter):
    """Shows what is logged as the command's own lines, without time and place, which people have no use for."""

    def __init__(self, program: str):
        super().__init__()
        self._program = program

    def format(self, record: LogRecord) -> str:
        return f"{self._program}: {record.levelname.lower()}: {record.getMessage()}"


def _flush_output() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_output() -> None:
    """Gives up what could not be written to standard output: Python must not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def importing(program: str, extra: str) -> Iterator[None]:
    """Ends the process with one line that names the extra, where a command's module imports what is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        print(f"{program}: {_missing_package(error, extra)}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _missing_package(error: ModuleNotFoundError, extra: str) -> str:
    package = str(error.name).partition(".")[0]
    return f"needs {package}, which is not installed: pip install '{f'maskport[{extra}]' if extra else package}'"


def check_installed(package: str) -> None:
    """Raises `ModuleNotFoundError` where a package is not installed, without the time that importing it takes."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Looks for no garbage while it is entered, as TensorFlow is imported.

    That makes half a million objects, all of which stay: to look for some that could go takes a sixth of the time.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_collecting:
            gc.enable()


def import_quietly(module: str) -> ModuleType:
    """Imports a module whose native code greets everybody on stderr, as TensorFlow does.

    What it wrote is shown after all when the import fails.
    """
    # Read by TensorFlow's native code; people who want its log set it themselves.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(sys.stderr.fileno())
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), sys.stderr.fileno())
        try:
            with without_collection():
                imported = importlib.import_module(module)
        except BaseException:
            os.dup2(kept, sys.stderr.fileno())
            written.seek(0)
            sys.stderr.write(written.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, sys.stderr.fileno())
            os.close(kept)
    # Its Python side warns of nothing but its own deprecations.
    getLogger(module).setLevel("ERROR")
    return imported
