"""Python modules that run with TensorFlow imported already: in forks of a process that has done nothing else.

An import takes seconds of processor time, and every export starts two processes that begin with it. What `command`
returns does what `python -m MODULE` does, in the directory and the environment, and with the standard streams, of who
calls it; but for what TensorFlow reads as it is imported: whether oneDNN is on, for which there is a process each.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_MOST = 1 << 16


def start(name):
    """Starts the two processes that are forked from; they import TensorFlow when they are first asked."""
    from children import bound

    started = []
    for kind in "01":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0{name}.{kind}")
            listening.listen(64)
            number = listening.fileno()
            started.append(
                subprocess.Popen(
                    bound([sys.executable, "-P", __file__, number]), pass_fds=[number], start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env={**os.environ, ONEDNN: kind, "TF_CPP_MIN_LOG_LEVEL": "3"},
                )
            )  # fmt: skip
    return started


def command(name, module):
    """What to start in place of `python -m MODULE`: it ends as that does."""
    return [sys.executable, "-IS", "-c", _ASK, name, module]


# Without what Python imports at its start: this is started for each. It ends with what runs there, which ends with it
# if it reads to the end of its input.
_ASK = f"""
import json, os, socket, sys
name, *words = sys.argv[1:]
asked = socket.socket(socket.AF_UNIX)
asked.connect("\\0" + name + "." + os.environ.get("{ONEDNN}", "1"))
socket.send_fds(asked, [json.dumps([os.getcwd(), dict(os.environ), words]).encode()], [0, 1, 2])
asked.shutdown(socket.SHUT_WR)
for stream in range(3):
    os.close(stream)
sys.exit(int(asked.recv(9) or 1))
"""


def _serve(listening):
    while True:
        connection, _ = listening.accept()
        from maskport.serving.command_line import without_collection

        with without_collection():
            import tensorflow  # noqa: F401  (once, and only here)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            _run(connection)
        connection.close()


def _run(connection):
    request, streams, _, _ = socket.recv_fds(connection, _MOST, 3)
    request += connection.makefile("rb").read()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    directory, environment, (module, *words) = json.loads(request)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *words]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.send(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
