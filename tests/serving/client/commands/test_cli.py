"""`mask-client` as users run it: from outside the process."""

import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from fake_serving import slow
from maskport.serving.client import InvalidRequestError
from maskport.serving.client.commands.inputs import find_inputs
from PIL import Image
from processes import running
from waiting import PATIENCE_S, wait_until

MASK_CLIENT = Path(sys.executable).with_name("mask-client")


@pytest.fixture
def run(serving, tmp_path):
    def run(*words, transport="grpc", model="model", stdin=None):
        flags = [f"--address={serving.address(transport)}", f"--model={model}"]
        return subprocess.run(
            [MASK_CLIENT, *words, *flags],
            cwd=tmp_path, capture_output=True, text=stdin is None, input=stdin, check=False,
        )  # fmt: skip

    return run


def _write(path, value=200, size=(6, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path, **options)
    return path


def _mask(path):
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.array(picture)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_one_picture_becomes_one_file(run, tmp_path, transport):
    _write(tmp_path / "photo.jpg")
    done = run("segment", "photo.jpg", "--out=mask.png", transport=transport)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"1 written, [\d.]+ images/s → mask\.png\n", done.stdout)
    assert _mask(tmp_path / "mask.png").tolist() == [[255] * 8] * 6


def test_a_folder_becomes_a_folder_of_the_same_shape(run, tmp_path):
    for name in ("a.jpg", "deep/b.png", "deep/er/c.webp", "same.jpg", "same.png"):
        _write(tmp_path / "photos" / name)
    (tmp_path / "photos/notes.txt").write_text("no image")
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.png")) == [
        "a.png", "deep/b.png", "deep/er/c.png", "same.jpg.png", "same.png.png",
    ]  # fmt: skip
    assert [path for path in (tmp_path / "masks").rglob("*") if path.is_file() and path.suffix != ".png"] == []


def test_a_folder_takes_pictures_of_every_ending_and_names_what_it_leaves_out(run, tmp_path):
    kinds = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.TIFF": "TIFF", "d.JPG": "JPEG", "e.apng": "PNG", "f.avif": "AVIF",
             "g.GIF": "GIF"}  # fmt: skip
    for name, kind in kinds.items():
        _write(tmp_path / "photos" / name, format=kind)
    for name in ("notes.txt", "deep/model.pdf", ".hidden"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text("no image")
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name[0] for path in (tmp_path / "masks").iterdir()) == list("abcdefg")
    wanted = "mask-client: left out 2 files whose endings are no picture's: photos/notes.txt, photos/deep/model.pdf\n"
    assert done.stderr == wanted


def test_heic_fails_by_name(run, tmp_path):
    _write(tmp_path / "photos/a.jpg")
    (tmp_path / "photos/b.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 1
    assert re.fullmatch(r"mask-client: photos/b\.HEIC is HEIC, .*; convert it to JPEG.*\n", done.stderr)
    assert "grpc" not in done.stderr


def test_answers_below_the_pictures_are_no_pictures_of_the_next_run(run, tmp_path):
    _write(tmp_path / "photos/a.jpg")
    for words in (("photos",), ("photos/**/*",)):
        for wanted in ("1 written", "1 skipped"):
            done = run("segment", *words, f"--out=photos/masks{len(words[0])}", "--format=npy")
            assert done.stdout.startswith(("0 written, " if wanted != "1 written" else "") + wanted), done
            assert done.returncode == 0


def test_answers_among_the_pictures_of_a_folder_are_not_taken_for_pictures(run, tmp_path):
    _write(tmp_path / "photos/a.jpg")
    assert run("segment", "photos", "--out=photos").stdout.startswith("1 written")
    done = run("segment", "photos", "--out=photos")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "mask-client: photos/a.png is a picture, or the answer of an earlier run to photos/a.jpg"
    )
    assert run("segment", "photos/*.jpg", "--out=photos").stdout.startswith("0 written, 1 skipped")
    assert {path.name for path in (tmp_path / "photos").iterdir()} == {"a.jpg", "a.png"}


def test_pages_and_bands_are_chosen_by_flags(run, tmp_path):
    dark, bright = np.full((6, 8, 3), 10, np.uint8), np.full((6, 8, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([dark, bright]), photometric="rgb")
    tifffile.imwrite(tmp_path / "bands.tif", np.dstack([dark, bright]), photometric="minisblack", planarconfig="contig")
    for name, flag, other in (("pages.tif", "--page=2", "--page=1"), ("bands.tif", "--bands=6,5,4", "--bands=1,2,3")):
        done = run("segment", name, "--out=mask.png")
        assert done.returncode == 1
        assert f"choose {'one' if 'page' in flag else 'them'} with {flag[2:6]}" in done.stderr
        for word, value in ((flag, 255), (other, 0)):
            assert run("segment", name, "--out=mask.png", word).returncode == 0
            assert (_mask(tmp_path / "mask.png") == value).all()
    for word in ("--bands=0", "--bands=a", "--page=0"):
        assert run("segment", "pages.tif", "--out=mask.png", word).returncode == 2


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # inside rasterio
def test_the_mask_of_a_geotiff_lies_at_its_place(run, tmp_path):
    pixels = np.full((3, 6, 8), 200, np.uint8)
    pixels[:, 2:4, 3:] = 255
    with rasterio.open(
        tmp_path / "field.tif", "w", driver="GTiff", height=6, width=8, count=3, dtype="uint8", nodata=255,
        crs="EPSG:25832", transform=rasterio.Affine(0.5, 0, 365_000, 0, -0.5, 5_621_000),
    ) as written:  # fmt: skip
        written.write(pixels)
    for product in ("mask", "probability", "masked_image"):
        done = run("segment", "field.tif", f"--out={product}.tif", f"--product={product}")
        assert done.returncode == 0, done.stderr
        piped = run("segment", "field.tif", "--out=-", "--format=tif", f"--product={product}", stdin=b"")
        assert piped.stdout == (tmp_path / f"{product}.tif").read_bytes()
        with rasterio.open(tmp_path / "field.tif") as given, rasterio.open(tmp_path / f"{product}.tif") as made:
            assert (made.crs, made.transform, made.nodata) == (given.crs, given.transform, 0)
            assert ((made.read() == 0).all(axis=0) == (pixels == 255).all(axis=0)).all()


def test_patterns_are_relative_to_their_fixed_part(run, tmp_path):
    for name in ("x/a.jpg", "y/b.jpg", "y/c.png"):
        _write(tmp_path / "photos" / name)
    done = run("segment", "photos/**/*.jpg", "--out=masks")
    assert done.returncode == 0, done.stderr
    found = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.png"))
    assert found == ["x/a.png", "y/b.png"]


def test_standard_input_and_output(run, tmp_path):
    data = _write(tmp_path / "photo.png").read_bytes()
    done = run("segment", "-", "--out=-", stdin=data)
    assert done.returncode == 0, done.stderr
    assert _mask(io.BytesIO(done.stdout)).shape == (6, 8)


def test_an_answer_to_standard_input_is_made_again(run, tmp_path):
    for value in (200, 20):
        data = _write(tmp_path / "photo.png", value).read_bytes()
        done = run("segment", "-", "--out=mask.png", stdin=data)
        assert done.returncode == 0, done.stderr
        assert _mask(tmp_path / "mask.png").any() == (value == 200)


def test_hidden_folders_are_not_looked_into(run, tmp_path):
    for name in ("a.png", ".thumbnails/a.png", ".venv/deep/b.png", "._a.png"):
        _write(tmp_path / "photos" / name)
    done = run("segment", "photos", "--out=masks")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "masks").rglob("*.*")] == ["a.png"]


@pytest.mark.parametrize(
    ("product", "mode"),
    [("mask", "L"), ("masked_image", "RGB"), ("cutout", "RGBA"), ("overlay", "RGB"), ("probability", "I;16"),
     ("class_map", "L")],
)  # fmt: skip
def test_every_product_can_be_had(run, tmp_path, product, mode):
    _write(tmp_path / "photo.png")
    done = run("segment", "photo.png", f"--product={product}", "--out=out.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.mode, picture.size) == (mode, (8, 6))


def test_masked_images_for_jpeg_files_come_as_such_from_a_model_that_makes_them(run, serving, tmp_path):
    _write(tmp_path / "photos/photo.png")
    sent = (tmp_path / "photos/photo.png").read_bytes()
    (answered,) = serving.model.predict("masked_image_jpeg", {"image_bytes": [sent]})["masked_image_jpeg_bytes"]
    for words, target in ((["--out=out.jpg"], "out.jpg"), (["--out=out", "--format=jpg"], "out/photo.jpg")):
        source = "photos" if "out/" in target else "photos/photo.png"
        done = run("segment", source, "--product=masked_image", *words)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / target).read_bytes() == answered
    # There is none at a threshold here, so the PNG is made a JPEG.
    done = run("segment", "photos/photo.png", "--product=masked_image", "--threshold=0.3", "--out=other.jpg")
    assert done.returncode == 0, done.stderr
    assert serving.requests[-1][0] == "masked_image_png_at_threshold"
    with Image.open(tmp_path / "other.jpg") as other:
        assert (other.format, other.size) == ("JPEG", (8, 6))


def test_the_threshold_may_be_chosen(run, tmp_path):
    _write(tmp_path / "photo.png", 128)
    for threshold, value in ((0.4, 255), (0.6, 0)):
        assert run("segment", "photo.png", "--out=out.png", f"--threshold={threshold}").returncode == 0
        assert (_mask(tmp_path / "out.png") == value).all()


def test_the_form_of_the_files_may_be_chosen(run, tmp_path):
    for name in ("a.png", "b.png"):
        _write(tmp_path / "photos" / name)
    done = run("segment", "photos", "--out=masks", "--format=json", "--batch_size=2", "--concurrency=2")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "masks/a.json").read_text())["area"] == 48


def test_a_bad_picture_is_named_and_the_others_go_on(run, tmp_path):
    _write(tmp_path / "photos/a.png")
    _write(tmp_path / "photos/c.png")
    (tmp_path / "photos/b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "photos/e.png").write_bytes(b"")
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 1
    lines = sorted(done.stderr.splitlines())
    assert len(lines) == 2
    assert re.fullmatch(r"mask-client: .*photos/b\.png: cannot be decoded", lines[0])
    assert re.fullmatch(r"mask-client: photos/e\.png is empty", lines[1])
    assert "2 written, 2 failed" in done.stdout
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "c.png"]


def test_a_missing_picture_is_named_and_the_others_go_on(run, tmp_path):
    _write(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    done = run("segment", "a.png", "missing.png", "empty", "--out=masks")
    assert done.returncode == 1
    assert done.stderr == (
        "mask-client: missing.png: there is no such file or folder\nmask-client: empty: there is no image\n"
    )
    assert "1 written, 2 failed" in done.stdout
    assert (tmp_path / "masks/a.png").exists()


def test_one_picture_that_is_named_is_made_again(run, tmp_path):
    _write(tmp_path / "a.png", 128)
    for threshold, value in ((0.4, 255), (0.6, 0)):
        assert run("segment", "a.png", "--out=masks", f"--threshold={threshold}").returncode == 0
        assert (_mask(tmp_path / "masks/a.png") == value).all()


def test_a_person_who_watches_sees_a_bar(serving, tmp_path):
    for index in range(6):
        _write(tmp_path / f"photos/{index}.png")
    watcher, terminal = os.openpty()
    done = subprocess.run(
        [MASK_CLIENT, "segment", "photos", "--out=masks", "--model=model", f"--address={serving.grpc_address}"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(terminal)
    shown = os.read(watcher, 1 << 16).decode()
    os.close(watcher)
    assert done.returncode == 0, shown
    assert "6/6" in shown
    assert "images/s" in shown
    assert done.stdout.startswith(b"6 written")


def test_a_second_run_does_only_what_is_missing(run, serving, tmp_path):
    for index in range(5):
        _write(tmp_path / f"photos/{index}.png")
    assert run("segment", "photos", "--out=masks").returncode == 0
    (tmp_path / "masks/2.png").unlink()
    (tmp_path / "masks/3.png").write_bytes(b"")
    serving.requests.clear()
    done = run("segment", "photos", "--out=masks")
    assert "2 written, 3 skipped" in done.stdout
    assert len(serving.requests) == 2
    assert "5 written" in run("segment", "photos", "--out=masks", "--overwrite").stdout


def test_a_run_that_is_interrupted_leaves_only_whole_files_and_can_go_on(run, serving, tmp_path):
    for index in range(40):
        _write(tmp_path / f"photos/{index:02}.png")
    serving.behaviours += [slow(0.1)] * 40
    words = [
        MASK_CLIENT, "segment", "photos", "--out=masks", "--concurrency=2", "--model=model",
        f"--address={serving.grpc_address}",
    ]  # fmt: skip
    with running(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(list((tmp_path / "masks").glob("*.png"))) >= 5, "the fifth mask")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == "mask-client: interrupted\n"
    written = list((tmp_path / "masks").iterdir())
    assert 5 <= len(written) < 40
    assert all(_mask(path).shape == (6, 8) for path in written)
    serving.behaviours.clear()
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 0
    assert f"{40 - len(written)} written, {len(written)} skipped" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command: it is one of segment, status, metadata, bench"),
        (["nope"], "no command 'nope'"),
        (["segment"], "segment needs at least one image"),
        (["segment", "a.png"], "segment needs --out"),
        (["segment", "a.png", "--out=b", "--threshold=1.5"], "--threshold=1.5 is not from 0 to 1"),
        (["segment", "a.png", "--out=b", "--threshold=nan"], "--threshold=nan is not from 0 to 1"),
        (["segment", "a.png", "--out=b", "--product=depth"], "--product=depth"),
        (["segment", "a.png", "--out=b", "--product=class_map", "--threshold=0.5"], "has no meaning"),
        (["status", "extra"], "status takes no 'extra'"),
        (["status", "--version=1", "--label=a"], "exclude each other"),
        (["status", "--version=x"], "version"),
        (["status", "--cert_file=a"], "need each other"),
        (["status", "--metadata=novalue"], "is not KEY=VALUE"),
        (["status", "--metadata=two words=x"], "'two words' is no key"),
        (["status", "--metadata=x=é"], "'x' is not ASCII text"),
        (["bench"], "bench needs at least one image"),
        (["bench", "a.png", "--product=overlay"], "made by the client"),
        (["status", "--nope"], "Unknown command line flag 'nope'"),
        (["status", "--timeout=0"], "timeout"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2_in_one_line(run, words, message):
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("(see mask-client --help)\n")


@pytest.mark.parametrize(
    ("words", "message", "exit_code"),
    [
        (["segment", "missing.png", "--out=b"], "missing.png: there is no such file or folder", 1),
        (["segment", "", "--out=b"], "an empty word names no image", 1),
        (["segment", "n" * 300, "--out=b"], "there is no such file or folder", 1),
        (["segment", "empty", "--out=b"], "empty: there is no image", 1),
        (["segment", "empty/*.png", "--out=b"], "empty/*.png: there is no image", 1),
        (["segment", "one", "--out=one"], "one/a.png would be overwritten by its own answer", 2),
        (["segment", "one/a.png", "--out=one/a.png"], "is the image itself", 2),
        (["segment", "one", "two", "--out=file.txt"], "--out=file.txt is a file", 2),
        (["segment", "one/a.png", "two/b.png", "--out=new.png"], "--out=new.png names a file", 2),
        (["segment", "one/a.png", "--out=/dev/null"], "--out=/dev/null is no folder", 2),
        (["segment", "one/**x", "--out=b"], "one/**x: ", 1),
        (["segment", "one/a.png", "two/a.png", "--out=b"], "would both be written to b/a.png", 2),
        (["segment", "one", "two/b.png", "--out=-"], "2 images cannot all go to standard output", 2),
        (["segment", "one/*.png", "--out=new.png"], "and a folder or pattern may hold many images", 2),
        (["segment", "one/a.png", "--out=new.jpg"], "a mask cannot be a .jpg file, which blurs its values", 2),
        (["segment", "one/a.png", "--out=new.JPG", "--product=cutout"], "it has no transparency", 2),
        (["segment", "one", "--out=b", "--format=json", "--product=probability"], "which a probability has none of", 2),
        (["segment", "one/a.png", "--out=b.json", "--product=masked_image"], "which a masked_image has none of", 2),
    ],
)
def test_pictures_that_are_missing_or_do_not_fit_the_output_end_in_one_line(
    run, serving, tmp_path, words, message, exit_code
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    for name in ("one/a.png", "two/a.png", "two/b.png"):
        _write(tmp_path / name)
    done = run(*words)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert serving.requests == []


def test_what_one_may_not_look_at_fails_alone(run, tmp_path):
    _write(tmp_path / "photos/a.png")
    (tmp_path / "photos/b.png").symlink_to("n" * 300)  # looking there is an error for everybody
    for words in (["photos"], ["photos/a.png", "photos/b.png"], ["photos/*.png"]):
        done = run("segment", *words, "--out=masks", "--overwrite")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "photos/b.png" in done.stderr
        assert "1 written" in done.stdout


def test_output_that_knows_few_letters_is_no_reason_to_fail(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    _write(tmp_path / "a.png")
    done = run("segment", "a.png", "--out=masks")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 written" in done.stdout


def test_no_server_is_found_out_soon_and_said_in_one_line(tmp_path):
    _write(tmp_path / "a.png")
    started = time.monotonic()
    done = subprocess.run(
        [MASK_CLIENT, "segment", "a.png", "--out=b.png", "--address=grpc://127.0.0.1:1", "--model=m", "--timeout=100"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - started < 90
    assert done.returncode == 1
    assert re.fullmatch(r"mask-client: model 'm' at grpc://127\.0\.0\.1:1: .*refused.*\n", done.stderr)
    assert "Traceback" not in done.stderr


def test_debug_brings_the_traceback_back(run):
    done = run("status", "--debug", model="other")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ModelNotFoundError" in done.stderr


def test_an_unknown_model_is_said_once_not_for_each_picture(run, tmp_path):
    for index in range(30):
        _write(tmp_path / f"photos/{index}.png")
    done = run("segment", "photos", "--out=masks", model="other")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Servable not found" in done.stderr


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_status_and_metadata_are_shown(run, transport):
    status = run("status", transport=transport)
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.split() == ["version", "state", "7", "AVAILABLE"]
    assert json.loads(run("status", "--json", transport=transport).stdout) == [
        {"version": 7, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}
    ]
    metadata = run("metadata", transport=transport)
    assert metadata.stdout.startswith("model version 7\n")
    assert re.search(r"mask_png\n  takes image_bytes +string \[\?\]\n", metadata.stdout)
    shown = json.loads(run("metadata", "--json", transport=transport).stdout)
    assert shown["signatures"]["mask"]["inputs"]["image"] == {
        "data_type": "DT_UINT8",
        "shape": [-1, -1, -1, 3],
    }


def test_waiting_for_a_model_is_part_of_every_command(run, serving):
    serving.statuses = [(7, 20, 0, "")]
    done = run("status", "--wait=3")
    assert done.returncode == 1
    *waits, last = done.stderr.splitlines()  # on a busy machine a look may fail
    assert any(re.fullmatch(r"mask-client: version 7 is LOADING \(\d s\)", line) for line in waits)
    assert "not ready in time: version 7 is LOADING" in last
    words = [MASK_CLIENT, "status", f"--address={serving.address('grpc')}", "--model=model", f"--wait={PATIENCE_S}"]
    with running(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        lines = iter(waiting.stderr.readline, "")
        assert any(re.fullmatch(r"mask-client: version 7 is LOADING \(\d+ s\)\n", line) for line in lines)
        serving.statuses = [(7, 30, 0, "")]
        assert re.fullmatch(r"mask-client: ready after \d+ s\n", waiting.stderr.readlines()[-1])
        assert waiting.stdout.read().split() == ["version", "state", "7", "AVAILABLE"]
        assert waiting.wait() == 0


def test_status_says_how_to_wait(run, serving):
    serving.statuses = [(7, 20, 0, ""), (6, 30, 0, "")]
    rows = run("status").stdout.splitlines()
    assert rows[1].endswith("LOADING    is loaded and warmed up; --wait=SECONDS waits for it")
    assert rows[2].endswith("AVAILABLE")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"grpc://127.0.0.1:{bound.getsockname()[1]}"
        done = subprocess.run(
            [MASK_CLIENT, "status", f"--address={address}", "--model=model", "--timeout=3"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "opens its ports only when all its models are loaded" in done.stderr
    assert done.stderr.endswith(": --wait=SECONDS waits for that\n")


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_bench_measures_rate_times_and_bytes(run, serving, tmp_path, transport):
    path = _write(tmp_path / "photo.jpg", size=(30, 40))
    words = ("bench", "photo.jpg", "--requests=40", "--concurrency=4")
    done = run(*words, "--json", transport=transport)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["images"] == 40
    assert report["concurrency"] == 4
    assert report["images_per_s"] == pytest.approx(40 / report["seconds"])
    assert 0 < report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"] <= report["max_ms"]
    assert report["sent_bytes"] > path.stat().st_size
    assert report["received_bytes"] > 50
    assert report["errors"] == {}
    table = run(*words, transport=transport).stdout
    assert [line.split()[0] for line in table.splitlines()] == [
        "images", "rate", "p50", "p90", "p99", "slowest", "sent", "received",
    ]  # fmt: skip


@pytest.mark.parametrize("concurrency", [8, 64])
def test_a_server_with_few_threads_answers_every_picture_and_what_to_do_is_said(run, serving, tmp_path, concurrency):
    for number in range(55):
        _write(tmp_path / f"photos/{number}.png")
    serving.grpc_threads = 7
    serving.behaviours += [slow(0.01)] * 200
    done = run("segment", "photos", "--out=masks", f"--concurrency={concurrency}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("55 written, ")
    assert len(list((tmp_path / "masks").glob("*.png"))) == 55
    assert re.fullmatch(r"mask-client: the server's threads were busy \d+ times, .*--grpc_max_threads.*\n", done.stderr)
    done = run("bench", "photos/1.png", "--requests=60", f"--concurrency={concurrency}", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["images"], report["errors"]) == (0, 60, {})
    assert report["refusals"] > 0
    assert "raise --grpc_max_threads" in run("bench", "photos/1.png", "--requests=60", "--concurrency=16").stdout


def test_bench_times_are_the_servers(run, serving, tmp_path):
    _write(tmp_path / "photo.jpg")
    serving.behaviours += [slow(0.05)] * 1000
    report = json.loads(run("bench", "photo.jpg", "--seconds=1", "--concurrency=2", "--json").stdout)
    assert report["p50_ms"] >= 50
    assert report["images_per_s"] <= 40
    assert 1 <= report["seconds"] < 1.5 + report["max_ms"] / 1000  # it ends with the calls that are under way
    # However long calls take on a busy machine, two are always under way (Little's law).
    assert report["images_per_s"] * report["p50_ms"] / 1000 == pytest.approx(2, rel=0.5)


def test_tokens_come_from_a_file(run, serving, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    assert run("status", "--token_file=token", "--metadata=x-team=vision").returncode == 0
    assert serving.calls[-1][1]["authorization"] == "Bearer secret"
    assert serving.calls[-1][1]["x-team"] == "vision"
    _write(tmp_path / "token.png")
    done = run("status", "--token_file=token.png")
    assert (done.returncode, done.stderr) == (
        2, "mask-client: --token_file=token.png is no text (see mask-client --help)\n",
    )  # fmt: skip


def test_closed_standard_input_is_said(serving, tmp_path):
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" <&-', "sh", MASK_CLIENT, "segment", "-", "--out=m.png", "--model=model",
         f"--address={serving.address('grpc')}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "mask-client: standard input is closed\n")


def test_pipes_and_links_in_circles_hold_nobody_up(run, tmp_path):
    _write(tmp_path / "photos/p/a.png")
    (tmp_path / "photos/q").mkdir()
    os.mkfifo(tmp_path / "photos/pipe.png")
    for name in ("p/up", "q/up"):
        (tmp_path / "photos" / name).symlink_to("..")
    for number, word in enumerate(("photos", "photos/**/*.png", "photos/**")):
        done = run("segment", word, f"--out=masks{number}")
        assert (done.returncode, done.stderr) == (0, ""), word
        assert done.stdout.startswith("1 written"), word


def test_a_folder_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    for name in ("a.png", "secret/b.png"):
        _write(tmp_path / "photos" / name)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):  # permissions would not stop the superuser
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found, problems, _ = find_inputs([str(tmp_path / "photos")])
    assert [one.relative.name for one in found] == ["a.png"]
    assert problems == [f"{tmp_path}/photos/secret: Permission denied"]
    with pytest.raises(InvalidRequestError, match=r"secret: Permission denied$"):
        find_inputs([str(tmp_path / "photos/secret")])


def test_help_is_immediate_and_names_every_flag():
    before = os.times()
    done = subprocess.run([MASK_CLIENT, "--help"], capture_output=True, text=True, check=False)
    after = os.times()
    # Of its own work: others may keep it waiting.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 3
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("mask-client segment PATH", "--address", "--threshold", "--product", "--out", "Exit codes"):
        assert words in done.stdout


def test_it_runs_as_a_module_too():
    words = [sys.executable, "-m", "maskport.serving.client", "--help"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_folder_of_an_answers_name_is_not_taken_for_the_answer(run, tmp_path):
    for name in ("a.png", "b.png"):
        _write(tmp_path / "photos" / name)
    (tmp_path / "masks/a.png").mkdir(parents=True)
    done = run("segment", "photos", "--out=masks")
    assert done.returncode == 1
    assert done.stderr == "mask-client: photos/a.png: cannot write masks/a.png: Is a directory\n"
    assert "1 written, 1 failed" in done.stdout
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "b.png"]


def test_a_file_that_cannot_be_written_is_named_and_the_others_go_on(run, tmp_path):
    long, longest = "l" * 250 + ".png", "m" * 251 + ".png"
    for name in (long, longest, "deep/a.png", "z.png"):
        _write(tmp_path / "photos" / name)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/deep").write_text("in the way")
    done = run("segment", "photos", "--out=masks", "--format=json")
    assert done.returncode == 1
    lines = sorted(done.stderr.splitlines())
    assert lines[0].startswith("mask-client: photos/deep/a.png: cannot write masks/deep/a.json: ")
    assert lines[1] == f"mask-client: photos/{longest}: cannot write masks/{'m' * 251}.json: File name too long"
    assert ".tmp" not in done.stderr
    assert (tmp_path / "masks" / ("l" * 250 + ".json")).exists()
    assert "2 written, 2 failed" in done.stdout


def test_the_first_call_is_given_no_longer_than_the_timeout(run, tmp_path):
    _write(tmp_path / "a.png")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        done = subprocess.run(
            [MASK_CLIENT, "segment", "a.png", "--out=b.png", "--model=m", "--timeout=0.3",
             f"--address=http://127.0.0.1:{silent.getsockname()[1]}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert time.monotonic() - started < 9
    assert done.returncode == 1
    assert "0.3 s" in done.stderr or "in time" in done.stderr or "deadline" in done.stderr.lower()


def test_a_signal_to_end_leaves_no_half_of_a_file(serving, tmp_path):
    _write(tmp_path / "photo.png")
    # The signal comes in the middle of writing.
    script = """
import os, signal, sys
from pathlib import Path
from maskport.serving.client import MaskResult
from maskport.serving.client.commands.cli import run

def save(self, path, product):
    Path(path).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()

MaskResult.save = save
run()
"""
    words = ["segment", "photo.png", "--out=masks/", "--model=model", f"--address={serving.address('grpc')}"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert list((tmp_path / "masks").iterdir()) == []
