import dataclasses
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import __main__ as command, callers, servers
from processes import is_running, running
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "scripts"),
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def start(*words, program=("-m", "benchmarks")):
    return running(
        [sys.executable, *program, *words], cwd=ROOT, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_an_unknown_group_is_refused_in_one_line_that_names_the_groups():
    with start("--only", "latency", "trafic") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"scripts/benchmark: --only: no group 'trafic'; there are: latency, .*, optimize .*\n", err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--onl"], "unrecognized arguments|expected at least one"),
        (["--only"], "expected at least one"),
        (["--quik"], "unrecognized arguments: --quik"),
        (["--server="], "--server: a command is wanted"),
    ],
)
def test_other_mistakes_are_one_line_too(words, told, capsys):
    with pytest.raises(SystemExit) as ended:
        command.parse_arguments(words)
    assert ended.value.code == 2
    assert re.fullmatch(rf"scripts/benchmark: .*({told}).*\n", capsys.readouterr().err)


def test_groups_run_in_their_own_order_whichever_way_they_are_given():
    assert command.parse_arguments(["--only", "load", "latency"]).only == ["latency", "load"]
    assert command.parse_arguments(["--only", "load,latency"]).only == ["latency", "load"]
    assert command.parse_arguments(["--server=docker run x"]).server == ["docker", "run", "x"]


def test_only_a_whole_run_rewrites_the_page():
    assert command.parse_arguments([]).is_official
    for words in (["--quick"], ["--only", "load"], ["--output_dir=elsewhere"]):
        assert not command.parse_arguments(words).is_official


def test_every_group_has_a_module_that_says_how_it_measures():
    modules = {path.stem for path in (ROOT / "scripts/benchmarks/groups").glob("*.py")} - {"__init__"}
    assert modules == set(command.GROUPS)


def test_calls_at_fixed_times_are_even_or_random_at_the_same_rate():
    even = callers.Open("folder", rate=20, seconds=100, is_poisson=False, seed=1)
    assert callers.send_times(even)[:3] == [0, 0.05, 0.1]
    times = callers.send_times(dataclasses.replace(even, is_poisson=True))
    assert len(times) == 2000
    assert times[-1] == pytest.approx(100, rel=0.1)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    # Of exponential gaps a share of 1 − 1/e = 0.632 is shorter than their mean.
    assert sum(gap < 0.05 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.04)
    assert callers.send_times(dataclasses.replace(even, is_poisson=True, seed=2)) != times


def test_a_call_that_waits_behind_others_counts_from_when_it_was_due(monkeypatch):
    # One at a time, 0.1 s each, but one is due every 0.05 s: the last of ten, due at 0.45 s, ends after 1 s or later.
    monkeypatch.setattr(callers, "_MOST_AT_ONCE", 1)
    task = callers.Open("folder", rate=20, seconds=0.5, is_poisson=False, seed=1)
    answered = callers.run_open(lambda file: time.sleep(0.1), [b""], task)
    assert len(answered.latencies) == 9  # the first tenth does not count
    assert max(answered.latencies) >= 0.55


def test_a_perfect_queue_has_the_tail_that_theory_gives():
    from benchmarks.groups.load import perfect_tail

    # Hardly any load: every call takes its own time. Erlang's formula for constant service at a load of 0.8 gives
    # a mean wait of 0.8 / (2 · 0.2) = 2 services; its quantiles follow from the series of M/D/1.
    assert perfect_tail(0.001) == pytest.approx(1, abs=0.01)
    load, services = 0.8, range(60)

    def share_that_waits_at_most(t):
        terms = ((load * (k - t)) ** k / math.factorial(k) * math.exp(-load * (k - t)) for k in services if k <= t)
        return (1 - load) * math.fsum(terms)

    def quantile(q):
        return next(t / 100 for t in range(2000) if share_that_waits_at_most(t / 100) >= q) + 1

    assert perfect_tail(load) == pytest.approx(quantile(0.99) / quantile(0.5), rel=0.05)


def test_closed_callers_share_the_requests_and_report_a_failure():
    seen = []
    answered = callers.run_closed(
        lambda file: (seen.append(file), time.sleep(0.01)), [b"a", b"b"], callers.Closed("", 4, 0, 40)
    )
    assert len(seen) == len(answered.latencies) == 40
    assert seen.count(b"a") == 20
    with pytest.raises(ZeroDivisionError):
        callers.run_closed(lambda file: 1 / 0, [b"a"], callers.Closed("", 2, 0, 10))


def test_a_settled_call_is_the_last_one_of_a_single_caller(monkeypatch):
    tasks = []
    answered = callers.Answered(50, [0.9, 0.5, 0.013])
    monkeypatch.setattr(callers.Callers, "run", lambda self, task: (tasks.append(task), answered)[1])
    assert callers.Callers(None).time_settled("photos", 0.1) == 0.013
    assert tasks == [callers.Closed("photos", callers=1, seconds=0.1)]


def test_the_byte_counter_counts_both_ways():
    import socket

    from benchmarks.byte_counter import count_bytes

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        count_bytes(listener.getsockname()[1]) as counter,
        socket.create_connection(("127.0.0.1", counter.port)) as near,
        listener.accept()[0] as far,
    ):

        def talk():
            near.sendall(b"x" * 1000)
            assert len(far.recv(1000, socket.MSG_WAITALL)) == 1000
            far.sendall(b"y" * 234)
            assert len(near.recv(234, socket.MSG_WAITALL)) == 234

        assert counter.bytes_of(talk) == 1234


WITH_ONE_SIGNATURE = """
import sys
from benchmarks import __main__ as command, models
models.SIGNATURES[:] = ["mask_png"]
sys.exit(command.main(sys.argv[1:]))
"""


def test_traffic_is_what_the_files_and_shapes_say(tmp_path):
    words = ["--quick", "--only", "traffic", f"--output_dir={tmp_path / 'out'}", "--debug"]
    with start(*words, program=["-c", WITH_ONE_SIGNATURE]) as process:  # quicker than with six
        out, err = process.communicate()
    assert process.returncode == 0, err
    results = json.loads((tmp_path / "out/results.json").read_text())
    (group,) = results["groups"]
    lines = {
        line[0]: [float(cell.replace(",", "")) if cell[0] != "–" else None for cell in line[1:6]]
        for line in group["tables"][0]["lines"]
    }
    jpeg, own, floats, own_rest, json_kb = lines["astronaut, 512×512"]
    # There goes the JPEG file, back comes a mask of a few kilobytes; over REST both in base 64.
    assert jpeg < own < jpeg + 20
    assert own_rest == pytest.approx(own * 4 / 3, rel=0.05)
    # Four float32 for each pixel: three there, one back.
    assert floats == pytest.approx(512 * 512 * 4 * 4 / 1000, rel=0.01)
    assert json_kb > 2 * floats
    assert len(lines) == 7
    assert [row["goal"]["number"] for row in group["rows"]] == [0.05, 0.05]
    assert "all 2 goals are met" in out
    page = (tmp_path / "out/BENCHMARKS.md").read_text()
    assert "A quick run" in page
    for private in (str(tmp_path), str(ROOT), os.uname().nodename):
        assert private not in page


def test_ctrl_c_stops_what_was_started_and_ends_with_one_line(tmp_path):
    with start("--quick", "--only", "client", f"--output_dir={tmp_path}") as process:
        started = wait_until(lambda: children(process.pid, "canned_server"), "the server's start")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "scripts/benchmark: interrupted"
    assert "Traceback" not in err
    assert not is_running(started[0])


def children(parent, word):
    """Returns the processes that a process started and whose command holds a word."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in found.stdout.splitlines() if word in line]


def test_a_server_is_stopped_however_the_block_ends(tmp_path):
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    started = []

    def interrupted():
        with servers.serve([str(program)], {}) as served:
            started.append(served.pid)
            assert is_running(served.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_running(started[0])


def test_a_server_that_ends_by_itself_is_told_by_its_last_words(tmp_path):
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho first\necho no such flag >&2\nexit 3\n")
    program.chmod(0o755)
    with (
        pytest.raises(servers.ServerError, match="the server ended with 3: no such flag"),
        servers.serve([str(program)], {"model": tmp_path}),
    ):
        pass
    with (
        pytest.raises(servers.ServerError, match="nowhere cannot be started: No such file or directory"),
        servers.serve(["nowhere"], {}),
    ):
        pass
