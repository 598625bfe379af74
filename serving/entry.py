"""What the console scripts call: a command, and no traceback where Ctrl-C comes before it runs.

Loading a command takes half a second, in which Python would show where in an import it was interrupted. Until
`command_line` can answer, Ctrl-C ends the process as the operating system does.
"""

import importlib
import signal
from collections.abc import Callable


def _command(module: str) -> Callable[[], None]:
    """Returns a function that loads a command's module and runs it."""

    def run() -> None:
        # Where Ctrl-C is ignored, as in the background of a shell, it stays so.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        importlib.import_module(module).run()

    return run


batch = _command("maskport.serving.batch.cli")
calibrate = _command("maskport.export.calibrate.cli")
client = _command("maskport.serving.client.commands.cli")
export = _command("maskport.export.cli")
inspect = _command("maskport.export.inspect.cli")
serve = _command("maskport.serving.server.cli")
verify = _command("maskport.serving.verify.cli")
