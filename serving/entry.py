"""What the console scripts call: a command, and no traceback where Ctrl-C comes before it runs.

Loading a command takes half a second, in which Python would show where in an import it was interrupted. Until
`command_line` can answer, Ctrl-C ends the process as the operating system does.
"""

import importlib
import signal


def _run(module: str) -> None:
    # Where Ctrl-C is ignored, as in the background of a shell, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module(module).run()


def mask_calibrate() -> None:
    """Runs `mask-calibrate`."""
    _run("maskport.export.calibrate.cli")


def mask_client() -> None:
    """Runs `mask-client`."""
    _run("maskport.serving.client.cli")


def mask_export() -> None:
    """Runs `mask-export`."""
    _run("maskport.export.cli")


def mask_inspect() -> None:
    """Runs `mask-inspect`."""
    _run("maskport.export.inspect.cli")


def mask_serve() -> None:
    """Runs `mask-serve`."""
    _run("maskport.serving.server.cli")


def mask_verify() -> None:
    """Runs `mask-verify`."""
    _run("maskport.serving.verify.cli")
