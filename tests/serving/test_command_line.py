"""The behaviour that every command line shares, seen from outside the process."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from maskport.serving.command_line import one_line

PROGRAM = textwrap.dedent(
    """
    import atexit
    import logging
    import os
    import signal
    import sys
    from absl import flags
    from maskport.serving import command_line

    _COUNT = flags.DEFINE_integer("count", 1, "How many.", lower_bound=1)

    class Mistake(Exception):
        pass

    def main(words):
        what = words[0] if words else "nothing"
        if what == "mistake":
            raise Mistake("the file is\\nempty; give another")
        if what == "bug":
            raise TypeError("oops")
        if what == "usage":
            raise command_line.UsageError("one file at a time")
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "missing":
            open("/no/such/file")
        if what == "warn":
            logging.getLogger("maskport.somewhere").warning("scaling: %r is applied twice", "unit")
        if what == "ended":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            finally:
                print("tidied up")
        if what == "late":
            atexit.register(os.kill, os.getpid(), getattr(signal, words[1]))
        if what == "gpus":
            print(os.environ["CUDA_VISIBLE_DEVICES"])
        print("count", _COUNT.value, *words)

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as console scripts do
    command_line.run_app(main, program="mask-try", description="Tries things.\\n\\nmask-try WHAT",
                         user_errors=(Mistake,), needs_gpu=False)
    """
)


@pytest.fixture
def run(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(*words, env=None):
        return subprocess.run([sys.executable, program, *words], capture_output=True, text=True, check=False, env=env)

    return run


def test_arguments_and_flags_reach_main_and_success_is_0(run):
    done = run("--count=3", "a", "b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "count 3 a b\n", "")


def test_a_warning_is_a_line_of_the_command_and_lets_it_go_on(run):
    done = run("warn")
    assert (done.returncode, done.stdout) == (0, "count 1 warn\n")
    assert done.stderr == "mask-try: warning: scaling: 'unit' is applied twice\n"
    assert run("warn", "--verbosity=-2").stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        (["mistake"], 1, "mask-try: the file is empty; give another\n"),
        (["missing"], 1, "mask-try: [Errno 2] No such file or directory: '/no/such/file'\n"),
        (["bug"], 1, "mask-try: internal error: TypeError: oops (--debug shows where)\n"),
        (["usage"], 2, "mask-try: one file at a time (see mask-try --help)\n"),
        (["interrupt"], 130, "mask-try: interrupted\n"),
    ],
)
def test_failures_are_one_line_with_their_exit_code(run, words, code, stderr):
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", stderr)


def test_a_signal_to_end_lets_what_is_under_way_be_tidied_up(run):
    done = run("ended")
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "tidied up\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_when_all_is_done_shows_no_traceback(run, name):
    done = run("late", name)
    assert (done.returncode, done.stderr) == (-getattr(signal, name), "")


@pytest.mark.parametrize("flag", ["--nope", "--count=many", "--count=0"])
def test_bad_flags_are_usage_errors_in_one_line(run, flag):
    done = run(flag)
    assert done.returncode == 2
    assert done.stderr.startswith("mask-try: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("(see mask-try --help)\n")


def test_debug_brings_the_traceback_back(run):
    done = run("--debug", "mistake")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("mask-try: the file is empty; give another\n")


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_goes_to_stdout_and_is_success(run, flag):
    done = run("mistake", flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Tries things.\n\nmask-try WHAT\n\nFlags:\n  --count: How many.")
    assert "--[no]debug" in done.stdout


def test_the_help_of_all_flags_is_success_too(run):
    done = run("--helpfull")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Tries things.")
    assert "--count: How many." in done.stdout
    assert "--verbosity" in done.stdout
    assert run("--helpxml").stdout.startswith("<?xml")


@pytest.mark.parametrize(("given", "seen"), [({}, "-1"), ({"CUDA_VISIBLE_DEVICES": "0"}, "0")])
def test_commands_without_a_gpu_leave_them_alone_unless_told_which_to_use(run, given, seen):
    others = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    assert run("gpus", env={**others, **given}).stdout.splitlines()[0] == seen


def test_an_error_of_a_server_cannot_steer_the_terminal():
    assert one_line(ValueError("a \x1b[31mred\x07\n\tb é 掩")) == "a \ufffd[31mred\ufffd b é 掩"
    assert one_line(ValueError(" \n")) == "ValueError"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("word", ["--help", "--helpfull", "--helpxml", "plain"])
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path, word, buffering):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, program, word],
            env={**os.environ, "PYTHONUNBUFFERED": buffering},
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "mask-try: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "start",
    ["from maskport.serving.entry import client as run; run()",
     "import runpy; runpy.run_module('maskport.serving.client', run_name='__main__')"],
)  # fmt: skip
def test_an_interrupt_before_the_command_runs_shows_no_traceback(start):
    program = textwrap.dedent(
        """
        import os
        import signal
        import sys

        class Interrupt:
            def find_spec(self, name, path=None, target=None):
                if name == "absl":
                    os.kill(os.getpid(), signal.SIGINT)
                    signal.pause()

        sys.meta_path.insert(0, Interrupt())
        """
    )
    done = subprocess.run([sys.executable, "-c", program + start], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
