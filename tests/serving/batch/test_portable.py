"""The job on a runner that is another process, by Beam's portable protocol, as Flink, Spark and Prism have it."""

import subprocess
import sys

import pytest
from fake_serving import RefusedError
from maskport.serving.batch.job import _reason
from maskport.serving.batch.watching import Watch
from maskport.serving.client import InvalidRequestError, ServerFaultError
from processes import running
from waiting import wait_until


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """Beam's flags for its own job server; the workers are in this process."""
    folder = tmp_path_factory.mktemp("job_server")
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    command += [f"--port_file={folder}/port", f"--staging_dir={folder}/staging"]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: process.poll() is not None or ((folder / "port").exists() and (folder / "port").read_text()))
        endpoint = f"127.0.0.1:{(folder / 'port').read_text()}"
        yield ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]


def test_a_portable_runner_leaves_what_the_direct_one_does(run, photos, runner, asked, tmp_path):
    photos.write_many(24)
    run()
    wanted, _ = photos.files(), photos.masks.rename(tmp_path / "direct")
    asked()
    summary = run(words=runner)
    assert (summary.masked, summary.failed, summary.pictures, asked()) == (23, 1, 24, 23)
    assert photos.files() == wanted
    summary = run(words=runner)
    assert (summary.masked, summary.skipped, summary.failed, asked()) == (0, 23, 1, 0)
    assert photos.files() == wanted


def test_what_a_portable_runner_fails_with_is_one_line(photos, run, serving, runner, caplog, capsys):
    photos.write("x.png")
    serving.behaviours.append(_refuse)
    with pytest.raises(ServerFaultError, match=r"^.*out of order.*$"):
        run(words=runner)
    assert not caplog.messages
    assert capsys.readouterr() == ("", "")
    with pytest.raises(InvalidRequestError, match="there is no image"):
        run([f"{photos.folder}/*.jpg"], words=runner)


def _refuse(signature, inputs):
    raise RefusedError("INTERNAL", "out of order")


def test_of_a_workers_traceback_the_last_line_is_told():
    text = "Traceback (most recent call last):\n  File x\nValueError: what was wrong\n\n"
    assert str(_reason(RuntimeError(text), Watch())) == "ValueError: what was wrong"
