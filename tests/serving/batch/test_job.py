"""The job by a fake server: what it leaves, and what it does again."""

import json
import os
import pathlib
import tempfile
import threading

import apache_beam as beam
import numpy as np
import pytest
from batch_photos import rows_of, sha256, wanted_mask
from fake_serving import RefusedError, slow
from maskport.serving.batch import BatchJob, LocalModel, MaskImages, ServedModel, run_job
from maskport.serving.client import (
    InvalidRequestError,
    ModelNotFoundError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from maskport.serving.client.commands.inputs import find_inputs, output_paths
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO


def test_every_picture_has_a_mask_and_a_row_and_bad_ones_a_dead_letter(run, photos, asked):
    good, bad = photos.write_many(60)
    (photos.folder / "a/notes.txt").write_text("no picture")
    summary = run()
    assert (summary.masked, summary.failed, summary.skipped, summary.pictures) == (57, 3, 0, 60)
    assert asked() == 59  # the empty one is not sent
    rows = photos.manifest()
    assert set(rows) == {str(path) for path in good + bad}
    for path in good:
        row, wanted = rows[str(path)], wanted_mask(path)
        with Image.open(photos.mask_of(path)) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, wanted)
        assert (row["size"], row["hash"]) == (path.stat().st_size, sha256(path))
        assert (row["model"], row["version"], row["threshold"]) == ("model", 7, 0.5)
        assert (row["height"], row["width"], row["area"]) == (9, 12, wanted.sum())
        assert row["foreground_share"] == pytest.approx(wanted.mean())
        assert row["milliseconds"] > 0
        assert (row["mask"], row["mask_size"]) == (str(photos.mask_of(path)), photos.mask_of(path).stat().st_size)
        assert row["error"] is None
    letters = photos.dead_letters()
    assert set(letters) == {str(path) for path in bad}
    for path, row in letters.items():
        assert path in row["error"]
        assert "\n" not in row["error"]
        assert row["error"] == rows[path]["error"]
        assert rows[path]["mask"] is None
    assert {path.name for path in photos.masks.iterdir()} == {"a", "b", "c", "manifest.parquet", "dead_letters.parquet"}
    assert len(list(photos.masks.rglob("*.png"))) == 57


def test_a_second_run_does_nothing_and_leaves_the_same(run, photos, asked):
    photos.write_many(20)
    run()
    asked()
    before, times = photos.files(), {path: path.stat().st_mtime_ns for path in photos.masks.rglob("*.png")}
    summary = run()
    assert (summary.masked, summary.skipped, summary.failed) == (0, 19, 1)
    assert asked() == 0
    assert photos.files() == before
    assert {path: path.stat().st_mtime_ns for path in photos.masks.rglob("*.png")} == times


CHANGES = {"picture": 1, "touched": 0, "same_size": 1, "mask": 1, "new": 1, "threshold": 11, "version": 11, "all": 11}


@pytest.mark.parametrize("change", CHANGES)
def test_a_second_run_does_what_is_missing_or_changed(run, photos, serving, asked, change):
    good, _ = photos.write_many(12)  # one of them empty
    path = good[1]
    run()
    asked()
    options, fields = {}, {}
    if change == "picture":
        photos.write(str(path.relative_to(photos.folder)), seed=5, size=(20, 9))
    elif change == "touched":
        os.utime(path, (1, 1))
    elif change == "same_size":
        data = bytearray(path.read_bytes())
        data[-2:] = b"xx"
        path.write_bytes(data)
    elif change == "mask":
        photos.mask_of(path).unlink()
    elif change == "new":
        path = photos.write("a/new.jpg")
    elif change == "threshold":
        options = {"threshold": 0.3}
    elif change == "version":
        serving.version = 8
    else:
        fields = {"overwrites": True}
    summary = run(options=options, **fields)
    assert (summary.masked, asked()) == (CHANGES[change], CHANGES[change])
    assert (summary.pictures, summary.failed) == (13 if change == "new" else 12, 1)
    assert summary.masked + summary.skipped + summary.failed == summary.pictures == len(photos.manifest())
    with Image.open(photos.mask_of(path)) as mask:
        np.testing.assert_array_equal(np.asarray(mask) > 0, wanted_mask(path, options.get("threshold", 0.5)))
    row = photos.manifest()[str(path)]
    assert (row["hash"], row["modified"]) == (sha256(path), path.stat().st_mtime)
    assert (row["version"], row["threshold"]) == (serving.version, options.get("threshold", 0.5))


def test_what_failed_by_the_server_is_tried_again_and_what_is_bad_itself_is_not(run, photos, serving, asked):
    photos.write_many(12)
    lock, unlucky = threading.Lock(), []

    def answer(signature, inputs):
        with lock:
            serving.behaviours.append(answer)
            if signature == "mask_png" and not unlucky:
                unlucky.append(1)
                raise RefusedError("INTERNAL", "out of luck")

    serving.behaviours.append(answer)
    summary = run()
    serving.behaviours.clear()
    assert (summary.masked, summary.failed) == (10, 2)
    assert sum("out of luck" in row["error"] for row in photos.dead_letters().values()) == 1
    asked()
    summary = run()
    assert (summary.masked, summary.skipped, summary.failed) == (1, 10, 1)
    assert asked() == 1


def test_masks_are_called_as_the_client_calls_them(run, photos):
    names = ("x.jpg", "x.png", "a/x.jpg", "b/x.jpg", "a/b/deep.webp", "wierd [1] *.png", "t.a.r.jpg", ".hidden.jpg")
    for name in names:
        photos.write(name)
    run([str(photos.folder)])
    inputs, _, _ = find_inputs([str(photos.folder)])
    wanted = output_paths(inputs, photos.masks, ".png")
    assert len(wanted) == 7
    assert set(photos.masks.rglob("*.png")) == set(wanted)
    for one, path in zip(inputs, wanted, strict=True):
        with Image.open(path) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, wanted_mask(one.path))


def test_no_two_pictures_share_a_file(run, photos):
    for name in ("x.jpg", "x.png", "x.jpg.jpg", "x.png.jpg"):
        photos.write(name)
    assert run().masked == 4
    rows = photos.manifest()
    assert len({row["mask"] for row in rows.values()}) == 4
    for path, row in rows.items():
        with Image.open(row["mask"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, wanted_mask(path))


def test_a_mask_moves_when_another_picture_of_its_name_comes(run, photos, asked):
    photos.write("x.jpg")
    run()
    asked()
    photos.write("x.png")
    assert (run().masked, asked()) == (1, 1)
    assert {path.name for path in photos.masks.glob("*.png")} == {"x.jpg.png", "x.png.png"}
    os.remove(photos.folder / "x.png")
    assert (run().masked, asked()) == (0, 0)
    assert (photos.masks / "x.png").read_bytes()
    assert set(photos.manifest()) == {str(photos.folder / "x.jpg")}


def test_several_patterns_share_an_output_and_a_picture_is_done_once(run, photos, asked):
    for name in ("a/x.jpg", "b/x.jpg"):
        photos.write(name)
    run([f"{photos.folder}/a/*.jpg", f"{photos.folder}/b/*.jpg", f"{photos.folder}/*/x.jpg"])
    assert asked() == 2
    assert {str(path.relative_to(photos.masks)) for path in photos.masks.rglob("*.png")} == {"a/x.png", "b/x.png"}


def test_runs_on_parts_keep_each_others_records_and_an_overwritten_mask_is_made_again(run, photos, asked):
    for name in ("a/x.jpg", "a/y.jpg", "b/x.jpg"):
        photos.write(name)
    run([f"{photos.folder}/a/*.jpg"])
    run([f"{photos.folder}/b/*.jpg"])  # whose x.png lies where a's was
    assert {path[-7:] for path in photos.manifest()} == {"a/y.jpg", "b/x.jpg"}
    asked()
    assert (run([f"{photos.folder}/a/*.jpg"]).masked, asked()) == (1, 1)
    with Image.open(photos.masks / "x.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask) > 0, wanted_mask(photos.folder / "a/x.jpg"))


def test_a_picture_has_one_row_by_whatever_pattern_it_was_named_before(run, photos, asked):
    paths = [photos.write(name) for name in ("a/x.jpg", "b/x.jpg")]
    run()
    asked()
    assert (run([f"{photos.folder}/a/*.jpg"]).masked, asked()) == (1, 1)  # into x.png, where it was a/x.png
    masks = {uri: row["mask"] for uri, row in photos.manifest().items()}
    assert masks == {str(paths[0]): f"{photos.masks}/x.png", str(paths[1]): f"{photos.masks}/b/x.png"}


def test_a_second_run_may_write_the_same_paths_otherwise(run, photos, asked, monkeypatch):
    photos.write_many(20)
    run()
    assert asked() == 19
    before = photos.files()
    for pattern, output in (("./photos/**/*.*g", "./masks"), ("photos", "photos/../masks/"), (photos.pattern, "masks")):
        monkeypatch.chdir(photos.folder.parent)
        monkeypatch.setattr(photos, "masks", output)
        summary = run([pattern])
        monkeypatch.undo()
        assert (summary.masked, summary.skipped, summary.failed) == (0, 19, 1)
        assert asked() == 0
        assert len(photos.manifest()) == 20
    monkeypatch.chdir(photos.folder.parent)
    run()
    assert (asked(), photos.files()) == (0, before)


@pytest.mark.parametrize(
    ("patterns", "output", "masks"),
    [
        (["*.jpg"], "../masks", {"x.png"}),
        (["./*.jpg"], "masks [1]", {"x.png"}),
        (["**/*.jpg"], "../masks", {"x.png", "deep/y.png"}),
        (["."], "masks", {"x.png", "deep/y.png", "z.png"}),
        (["*.png", "../photos/*.jpg", "x.jpg"], "../masks", {"z.png", "x.png"}),
    ],
)
def test_pictures_are_found_from_within_their_folder(run, photos, asked, monkeypatch, patterns, output, masks):
    for name in ("x.jpg", "deep/y.jpg", "z.png", ".thumbnails/x.jpg", "._x.jpg"):
        photos.write(name)
    monkeypatch.chdir(photos.folder)
    photos.masks = pathlib.Path(output)
    before = {path: path.read_bytes() for path in photos.folder.rglob("*") if path.is_file()}
    assert run(patterns).masked == asked() == len(masks)
    assert (run(patterns).masked, asked()) == (0, 0)
    assert {str(path.relative_to(photos.masks)) for path in photos.masks.rglob("*.png")} == masks
    assert not (photos.masks / ".mask-batch").exists()
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_on_the_way_may_have_any_name(run, photos, asked, monkeypatch):
    photos.write("x.jpg")
    place = photos.folder.rename(photos.folder.parent / os.fsdecode(b"photos-\xe4"))
    monkeypatch.chdir(place)
    for masked in (1, 0):
        assert (run(["*.jpg"]).masked, asked()) == (masked, masked)


def test_records_of_pictures_that_are_not_named_stay_while_their_masks_do(run, photos):
    paths = [photos.write(name) for name in ("a/x.jpg", "a/y.jpg", "b/z.jpg")]
    run()
    photos.mask_of(paths[0]).unlink()
    photos.mask_of(paths[1]).write_bytes(b"cut")
    run([f"{photos.folder}/*/z.jpg"])
    assert set(photos.manifest()) == {str(paths[2])}


def test_a_name_that_is_not_utf_8_is_a_bad_picture(run, photos, asked):
    photos.write("x.jpg")
    bad = os.fsencode(photos.write("y.jpg").rename(photos.folder / os.fsdecode(b"\xff-\xc3\xa4.jpg")))
    for masked in (1, 0):
        summary = run()
        assert (summary.masked, summary.failed, summary.pictures, asked()) == (masked, 1, 2, masked)
        ((uri, row),) = photos.dead_letters().items()
        assert uri == f"{photos.folder}/\\xff-ä.jpg"
        assert row["error"] == f"{uri}: the file's name is not UTF-8: give it another"
    with pytest.raises(InvalidRequestError, match=r"\\xff-ä.jpg is not UTF-8"):
        run([os.fsdecode(bad)])


def test_masks_of_an_earlier_run_are_no_pictures(run, photos):
    photos.write("x.png")
    photos.write("y.jpg")
    photos.masks = photos.folder / "masks"
    for _ in range(2):
        assert run([f"{photos.folder}/**/*.*g"]).pictures == 2


def test_masks_beside_their_pictures_are_no_pictures_of_the_next_run(run, photos, asked):
    photos.write("x.jpg")
    photos.masks = photos.folder
    for wanted in ((1, 0), (0, 1)):
        summary = run([str(photos.folder)])
        assert (summary.masked, summary.skipped) == wanted
    assert asked() == 1
    assert {path.name for path in photos.folder.glob("*.*g")} == {"x.jpg", "x.png"}


@pytest.mark.parametrize(
    ("options", "file"),
    [({"format": "npy"}, "x.npy"), ({"product": "probability"}, "x.png"), ({"format": "tif"}, "x.tif")],
)
def test_other_products_and_formats(run, photos, options, file):
    path = photos.write("x.png")
    assert run(options=options).masked == 1
    row = photos.manifest()[str(path)]
    pixels = np.asarray(Image.open(path), np.float32).mean(axis=2) / 255
    if options.get("product") == "probability":
        np.testing.assert_allclose(np.asarray(Image.open(photos.masks / file)) / 65535, pixels, atol=1e-4)
        assert (row["area"], row["threshold"]) == (None, None)
    else:
        found = np.load(photos.masks / file) if file.endswith("npy") else np.asarray(Image.open(photos.masks / file))
        np.testing.assert_array_equal(found > 0, pixels > 0.5)
        assert row["area"] == (pixels > 0.5).sum()


@pytest.mark.parametrize("is_second", [False, True])
def test_coco_holds_every_mask(run, photos, is_second, capsys):
    good, _ = photos.write_many(12, bad_every=6)
    if is_second:
        run()
    path = photos.masks / "coco.json"
    run(coco=str(path))
    coco = COCO(str(path))
    capsys.readouterr()
    assert {image["file_name"] for image in coco.dataset["images"]} == {str(p.relative_to(photos.folder)) for p in good}
    for image in coco.dataset["images"]:
        wanted = wanted_mask(photos.folder / image["file_name"])
        (annotation,) = coco.imgToAnns[image["id"]] or [None]
        if annotation is None:
            assert not wanted.any()
            continue
        np.testing.assert_array_equal(coco.annToMask(annotation) > 0, wanted)
        assert annotation["area"] == wanted.sum()
        assert annotation["bbox"] == coco_masks.toBbox(annotation["segmentation"]).tolist()
        assert (image["height"], image["width"]) == wanted.shape


def test_coco_may_lie_on_another_disk(run, photos):
    photos.write("x.jpg")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        run(coco=f"{folder}/coco.json")
        assert os.listdir(folder) == ["coco.json"]
        assert len(json.loads(pathlib.Path(folder, "coco.json").read_text())["images"]) == 1


def test_coco_holds_no_files_that_are_something_else(run, photos):
    """Of pictures that are not named this time: not the values of an array, nor probabilities."""
    for name in ("a/x.jpg", "b/x.jpg", "c/x.jpg"):
        photos.write(name)
    run([f"{photos.folder}/*/x.jpg"], options={"product": "probability"})
    run([f"{photos.folder}/**/b/x.jpg"], options={"format": "npy"})
    run([f"{photos.folder}/**/c/x.jpg"], coco=str(photos.masks / "coco.json"))
    assert len(photos.manifest()) == 3
    coco = json.loads((photos.masks / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["c/x.jpg"]


def test_tables_spread_over_files_hold_the_same(run, photos):
    photos.write_many(12)
    run()
    whole, bad = photos.manifest(), photos.dead_letters()
    assert run(shards=3).masked == 0
    parts = sorted(photos.masks.glob("manifest*.parquet"))
    assert [path.name for path in parts] == [f"manifest-{n:05d}-of-00003.parquet" for n in range(3)]
    assert {uri: row for path in parts for uri, row in rows_of(path).items()} == whole
    letters = photos.masks.glob("dead_letters*.parquet")
    assert {uri: row for path in letters for uri, row in rows_of(path).items()} == bad
    assert run().masked == 0
    assert photos.manifest() == whole


def test_calls_at_one_time_are_bounded(run, photos, serving):
    photos.write_many(30)
    serving.behaviours.extend([slow(0.5)] * 9)
    serving.most_at_once = 0
    run(options={"concurrency": 3})
    assert serving.most_at_once == 3


def test_small_pictures_may_share_a_call(run, photos, serving):
    photos.write_many(16)
    assert run(options={"call_size": 4}).masked == 15
    sizes = [len(inputs["image_bytes"]) for _, inputs in serving.requests if "image_bytes" in inputs]
    assert max(sizes) == 4
    assert sum(sizes) == 15


def test_what_keeps_every_picture_from_being_masked_is_one_error(photos, serving, tmp_path):
    photos.write_many(4)

    def job(pattern=photos.pattern, output=photos.masks, model=None, **fields):
        model = model or ServedModel(serving.grpc_address, "model")
        return run_job(BatchJob([str(pattern)], str(output), model, **fields))

    with pytest.raises(InvalidRequestError, match=r"nowhere/\*\.jpg: there is no image; .*photos"):
        job(tmp_path / "nowhere/*.jpg")
    with pytest.raises(ServerUnavailableError, match="Connection refused"):
        job(model=ServedModel("grpc://127.0.0.1:1", "model", options={"timeout": 1}))
    with pytest.raises(ModelNotFoundError):
        job(model=ServedModel(serving.grpc_address, "other"))
    with pytest.raises(ModelNotFoundError, match=r"photos: there is no SavedModel here"):
        job(model=LocalModel(str(photos.folder)))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"^cannot write to .*file: Not a directory$"):
        job(output=tmp_path / "file")
    with pytest.raises(InvalidRequestError, match="no product 'nonsense'"):
        job(masks={"product": "nonsense"})
    with pytest.raises(InvalidRequestError, match="COCO"):
        job(masks={"format": "npy"}, coco="x.json")
    assert not photos.masks.exists()


def test_a_server_that_goes_away_ends_the_job_and_the_next_run_goes_on(run, photos, serving, asked):
    photos.write_many(40)
    done = []

    def answer(signature, inputs):
        if signature != "export_info":
            done.append(1)
            if len(done) > 20:
                serving.behaviours.append(answer)
                raise RefusedError("UNAVAILABLE", "gone fishing")
        serving.behaviours.append(answer)
        return serving.model.predict(signature, inputs)

    serving.behaviours.append(answer)
    with pytest.raises(ServerUnavailableError, match="gone fishing"):
        run(options={"concurrency": 2})
    serving.behaviours.clear()
    masks = set(photos.masks.rglob("*.png"))
    assert not list(photos.masks.rglob("*.tmp"))
    asked()
    summary = run()
    assert summary.masked == 38 - len(masks)
    assert summary.skipped >= len(masks) > 0
    assert (summary.masked + summary.skipped, summary.failed) == (38, 2)
    assert not (photos.masks / ".mask-batch").exists()


def test_a_mask_that_cannot_be_written_is_its_pictures_failure(run, photos):
    photos.write("a.png")
    photos.write("b.png")
    (photos.masks / "a.png").mkdir(parents=True)
    (photos.masks / "a.png/in_the_way").touch()
    summary = run()
    assert (summary.masked, summary.failed) == (1, 1)
    (row,) = photos.dead_letters().values()
    assert "a.png: cannot write" in row["error"]
    assert not list(photos.masks.rglob("*.tmp"))


def test_the_transform_alone_writes_masks_and_nothing_else(photos, serving):
    good, bad = photos.write_many(12)
    with beam.Pipeline("FnApiRunner") as pipeline:
        masked = (
            pipeline
            | beam.Create([str(path) for path in good + bad])
            | MaskImages(ServedModel(serving.grpc_address, "model"), str(photos.masks), base=str(photos.folder))
        )
        counts = (
            (masked.masks | "masks" >> beam.combiners.Count.Globally()),
            (masked.failed | "failed" >> beam.combiners.Count.Globally()),
        )
        _ = counts | beam.Flatten() | beam.combiners.ToList() | beam.Map(_expect_counts)
    wanted = {f"{path.relative_to(photos.folder)}.png": path for path in good}
    assert set(photos.files()) == set(wanted)
    for name, path in wanted.items():
        with Image.open(photos.masks / name) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, wanted_mask(path))


def _expect_counts(counts):
    assert sorted(counts) == [1, 11]


def test_json_files_say_what_the_mask_comes_to(run, photos):
    path = photos.write("x.png")
    run(options={"format": "json"})
    found = json.loads((photos.masks / "x.json").read_text())
    assert (found["source"], found["area"]) == (str(path), wanted_mask(path).sum())


def test_a_model_without_the_signature_ends_the_job(run, photos, serving):
    photos.write_many(40)
    with pytest.raises(SignatureNotFoundError, match="there is no signature 'mask"):
        _without(serving, "mask_png_at_threshold", lambda: run(options={"threshold": 0.4}))


def _without(serving, signature, call):
    known = serving.model.signatures
    serving.model.signatures = {name: one for name, one in known.items() if name != signature}
    try:
        return call()
    finally:
        del serving.model.signatures
