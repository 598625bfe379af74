"""`mask-batch` as users run it: killed, interrupted, run again, and told nonsense."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from batch_photos import Photos
from fake_serving import slow
from processes import running
from waiting import wait_until

MASK_BATCH = Path(sys.executable).with_name("mask-batch")


@pytest.fixture
def command(photos, serving):
    return [
        str(MASK_BATCH), f"--input={photos.pattern}", f"--output={photos.masks}/", f"--address={serving.grpc_address}",
        "--model=model", "--concurrency=2", "--batch_size=4",
    ]  # fmt: skip


def _started(command, photos, serving, pictures=16):
    """The command, once it has written some masks and is far from its end."""
    serving.behaviours.extend([slow(0.5)] * 10_000)
    started = running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = started.__enter__()
    wait_until(lambda: len(list(photos.masks.rglob("*.png"))) >= pictures or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return started, process


ENDING = """
import atexit, sys
import apache_beam
from maskport.serving.batch import cli

class Late:
    def __del__(self):
        print("taken apart", flush=True)

late = Late()
atexit.register(print, "at exit", flush=True)
sys.argv = ["mask-batch", *sys.argv[1:]]
cli.run()
"""


@pytest.mark.parametrize("words", [[], ["--input=photo.png", "--output=masks", "--model=nowhere"]])
def test_it_ends_before_python_takes_apart_what_threads_of_beam_are_in(words, tmp_path):
    code = "from maskport.serving.batch import cli; cli.run()"
    plain = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    done = subprocess.run(
        [sys.executable, "-c", ENDING, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "at exit\n"
    assert done.returncode == plain.returncode != 0
    assert done.stderr.splitlines()[-1].replace("-c:", "") == plain.stderr.splitlines()[-1].replace("-c:", "")


def test_killed_and_run_again_it_leaves_what_one_run_does_and_does_nothing_twice(
    command, photos, serving, asked, run, tmp_path
):
    photos.write_many(60)
    started, process = _started(command, photos, serving)
    process.kill()
    started.__exit__(None, None, None)
    serving.behaviours.clear()
    times = {path: path.stat().st_mtime_ns for path in photos.masks.rglob("*.png")}
    assert 16 <= len(times) < 57
    assert not (photos.masks / "manifest.parquet").exists()
    asked()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = re.fullmatch(
        rf"(\d+) written, (\d+) skipped .*, 3 failed, [\d.]+ images/s → {photos.masks}/\n", done.stdout
    )
    written, skipped = int(found[1]), int(found[2])
    assert written + skipped == 57
    assert skipped >= len(times)  # masks whose records were there and whose names were not, too
    # Of bad pictures that were not seen before, the empty one is not sent.
    assert written <= asked() <= written + 2
    assert {path: path.stat().st_mtime_ns for path in times} == times
    after_kill = photos.files()

    undisturbed = Photos(tmp_path / "other")
    undisturbed.folder.parent.mkdir()
    photos.folder.rename(undisturbed.folder)
    undisturbed.folder.rename(photos.folder)  # the same paths and times
    photos.masks.rename(tmp_path / "kept")
    run()
    assert photos.files() == after_kill
    assert not list(photos.masks.rglob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_half_file_and_goes_on_later(command, photos, serving, asked, number):
    photos.write_many(60)
    started, process = _started(command, photos, serving)
    process.send_signal(number)
    words = process.communicate()
    started.__exit__(None, None, None)
    assert process.returncode == 128 + number
    assert words == ("", "mask-batch: interrupted\n" if number == signal.SIGINT else "")
    serving.behaviours.clear()
    kept = len(list(photos.masks.rglob("*.png")))
    assert not list(photos.masks.rglob("*.tmp"))
    records = [line for path in photos.masks.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert sum('"error": null' in line for line in records) == kept
    asked()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{57 - kept} written, {kept} skipped" in done.stdout
    folder, masks = re.escape(str(photos.folder)), re.escape(str(photos.masks))
    reason, all_of_them = rf"such as .*{folder}/\S+: .+", f"the dead letters in {masks}/ have them all"
    line = rf"mask-batch: 3 of 60 pictures failed, {reason}; {all_of_them}\n"
    assert re.fullmatch(line, done.stderr), done.stderr
    assert done.stderr.count(".jpg") + done.stderr.count(".png") == 1, done.stderr
    assert asked() <= 57 - kept + 2


def test_all_done_it_ends_with_0_whatever_the_threads_and_flags_of_beam(command, photos):
    photos.write_many(4)
    words = ["--direct_num_workers", "1", "--direct_running_mode=in_memory", "--", "--job_name=masks"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("4 written, ")


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["--input=", "--output=m", "--model=m"], 2, "--input is missing .*"),
        (["--input=*.jpg", "--model=m"], 2, "--output is missing .*"),
        (["--input=*.jpg", "--output=m"], 2, "--model is missing .*"),
        (["--input=*.jpg", "--output=m", "--model=m", "--treshold=1"], 2, "Unknown command line flag 'treshold'. .*"),
        (["--input=*.jpg", "--output=m", "--model=m", "--threshold=2"], 2, "the threshold 2.0 is not from 0 to 1 .*"),
        (["--input=*.jpg", "--output=m", "--model=m", "--version=2"], 2, "--version and --label are a server's: .*"),
        (["--input=*.jpg", "--output=m", "--model=m", "--address=nonsense"], 2, "--address: .*no scheme.*"),
        (["--input=*.jpg", "--output=m", "--model=m"], 1, r"\*.jpg: there is no image; .*"),
        (["--input=x.png", "--output=m", "--model=m"], 1, "m: there is no SavedModel here, .*saved_model.pb.*"),
        (["--input=x.png", "--output=file", "--address=ADDRESS", "--model=model"], 1, "cannot write to file: .*"),
        (["--input=x.png", "--output=m", "--address=ADDRESS", "--model=other"], 1, "model 'other' .*check the name.*"),
        (
            ["--input=x.png", "--output=m", "--model=m", "--runner=NoRunner"],
            1,
            "Unexpected pipeline runner: NoRunner.*",
        ),
    ],
)
def test_mistakes_are_one_line(photos, serving, tmp_path, words, status, line):
    photos.write("../x.png")
    (tmp_path / "file").touch()
    words = [word.replace("ADDRESS", serving.grpc_address) for word in words]
    done = subprocess.run([MASK_BATCH, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.fullmatch(f"mask-batch: {line}\n", done.stderr), done.stderr
    assert done.returncode == status
    assert not (tmp_path / "m").exists()
