"""A whole calibration, against the reference in NumPy and against the masks that an export answers."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from exporting import export_unchecked
from maskport.export import ExportError, load_spec
from maskport.export.calibrate import CalibrationError, calibrate, find_pairs
from maskport.export.calibrate.probabilities import ProbabilityReader
from maskport.export.calibrate.tally import THRESHOLDS
from PIL import Image

NEAR = 1e-5
"""Within this of a threshold the float64 reference and the float32 model may disagree."""


@pytest.fixture(scope="module")
def spec(labelled):
    return load_spec(str(labelled.spec), {})


@pytest.fixture(scope="module")
def calibration(labelled, spec):
    return calibrate(spec, find_pairs(labelled.folder / "images", labelled.folder / "masks"))


def test_scores_are_those_of_the_reference(labelled, calibration):
    probability = {stem: labelled.pipeline.cleaned(labelled.upright(stem).astype(float)) for stem in labelled.truth}
    values = np.concatenate([probability[stem].ravel() for stem in labelled.truth])
    truth = np.concatenate([labelled.truth[stem].ravel() for stem in labelled.truth])
    curves = calibration.tally.curves("pixels")
    undecided = 0
    for index in range(0, len(THRESHOLDS), 50):
        mask = values > THRESHOLDS[index]
        near = int((np.abs(values - THRESHOLDS[index]) < NEAR).sum())
        undecided += near
        assert curves.iou[index] == pytest.approx((mask & truth).sum() / (mask | truth).sum(), abs=near / truth.sum())
        assert curves.recall[index] == pytest.approx((mask & truth).sum() / truth.sum(), abs=near / truth.sum())
    assert undecided < 5
    assert 0.2 < truth.mean() < 0.8


def test_the_recommended_threshold_is_where_the_reference_has_its_best_iou(labelled, calibration):
    probability = {stem: labelled.pipeline.cleaned(labelled.upright(stem).astype(float)) for stem in labelled.truth}

    def iou(threshold):
        masks = {stem: probability[stem] > threshold for stem in labelled.truth}
        both = sum((masks[stem] & labelled.truth[stem]).sum() for stem in masks)
        return both / sum((masks[stem] | labelled.truth[stem]).sum() for stem in masks)

    best = max(iou(threshold) for threshold in np.arange(1, 1000) / 1000)
    assert iou(calibration.threshold) == pytest.approx(best, abs=1e-4)
    assert iou(calibration.threshold) > iou(0.5) + 0.01
    assert calibration.doubts == []
    assert calibration.threshold == pytest.approx(0.61, abs=0.02)


def test_a_spec_that_says_which_signatures_are_warmed_up_is_calibrated_too(labelled, spec):
    reader = ProbabilityReader(spec.model_copy(update={"warmup_signatures": ["mask_png"]}))
    assert reader.read(next((labelled.folder / "images").iterdir())).ndim == 2


@pytest.fixture(scope="module")
def served(labelled, spec, tmp_path_factory):
    fields = spec.model_dump(exclude={"source", "output_dir"})
    fields |= {"signatures": ["mask_png_at_threshold"], "warmup": False}
    version = export_unchecked(spec.source, tmp_path_factory.mktemp("served"), **fields)
    return tf.saved_model.load(str(version)).signatures["mask_png_at_threshold"]


@pytest.mark.parametrize("index", [250, 500, 610, 833])
def test_the_counts_are_those_of_the_masks_that_an_export_answers(labelled, calibration, served, index):
    files = [next((labelled.folder / "images").glob(f"{stem}.*")).read_bytes() for stem in labelled.truth]
    answer = served(image_bytes=tf.constant(files), threshold=tf.fill([len(files)], THRESHOLDS[index]))
    assert set(answer["error"].numpy()) == {b""}
    masks = [tf.io.decode_png(png).numpy()[..., 0] > 0 for png in answer["mask_bytes"].numpy()]
    pairs = list(zip(masks, labelled.truth.values(), strict=True))
    expected = [
        sum((mask & truth).sum() for mask, truth in pairs),
        sum((mask & ~truth).sum() for mask, truth in pairs),
        sum((~mask & truth).sum() for mask, truth in pairs),
    ]
    assert [counts[index] for counts in calibration.tally.counts] == expected


def test_nothing_is_exported(labelled, calibration):
    assert calibration.threshold
    assert not (labelled.folder / "never_made").exists()


@pytest.fixture
def folders(labelled, tmp_path):
    for name in ("images", "masks"):
        shutil.copytree(labelled.folder / name, tmp_path / name)
    return tmp_path / "images", tmp_path / "masks"


def test_bad_pairs_are_named_and_the_others_count(spec, folders, calibration):
    images, masks = folders
    (images / "photo0.png").write_bytes((images / "photo0.png").read_bytes()[:200])
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(masks / "photo2.png")
    (images / "alone.png").write_bytes(b"")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(images / "strange.gif")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(masks / "strange.png")
    calls = []
    pairing = find_pairs(images, masks)
    assert pairing.unpaired == [images / "alone.png"]
    found = calibrate(spec, pairing, on_pair=lambda done, count: calls.append((done, count)))
    assert [line.partition(": ")[0] for line in found.failures] == [
        f"picture {images / 'photo0.png'}",
        f"mask {masks / 'photo2.png'}",
        f"picture {images / 'strange.gif'}",
    ]
    assert "cannot be decoded" in found.failures[0]
    assert "is 5x4, its upright picture 40x90" in found.failures[1]
    assert "unknown format: accepted are jpeg, png, bmp, webp" in found.failures[2]
    assert found.tally.pictures == 2
    assert calls == [(done, 5) for done in range(6)]


def as_voc(folders, labelled):
    """Gives masks a border of void, as Pascal VOC's have, and returns the pixels that count."""
    counting = {}
    for path in sorted(folders[1].iterdir()):
        truth = labelled.truth[path.stem]
        void = np.zeros_like(truth)
        void[:, ::3] = True
        palette = Image.fromarray(np.where(void, 255, truth * 15).astype(np.uint8), "P")
        palette.putpalette([0, 0, 0, 128, 0, 0] * 128)
        palette.save(path)
        counting[path.stem] = ~void
    return counting


def test_ignored_pixels_count_as_nothing(labelled, spec, folders):
    pairing = find_pairs(*folders)
    counting = as_voc(folders, labelled)
    with pytest.raises(CalibrationError, match=r"0 \(.*15 \(.*255 \(33.*void.*--ignore_value=255"):
        calibrate(spec, pairing)
    found = calibrate(spec, pairing, ignore_value=255)
    assert found.tally.pixels == sum(counts.sum() for counts in counting.values())
    assert found.tally.foreground_pixels == sum((labelled.truth[stem] & counting[stem]).sum() for stem in counting)
    assert calibrate(spec, pairing, ignore_value=["255"], foreground_values="15").threshold == found.threshold

    def iou(threshold):
        probability = {stem: labelled.pipeline.cleaned(labelled.upright(stem).astype(float)) for stem in counting}
        pairs = [((probability[stem] > threshold)[c], labelled.truth[stem][c]) for stem, c in counting.items()]
        return sum((m & t).sum() for m, t in pairs) / sum((m | t).sum() for m, t in pairs)

    best = max(iou(threshold) for threshold in np.arange(450, 750, 4) / 1000)
    assert iou(found.threshold) == pytest.approx(best, abs=2e-3)


def test_masks_that_do_not_belong_to_the_pictures_are_doubted(spec, folders):
    random = np.random.default_rng(0)
    for path in folders[1].iterdir():
        with Image.open(path) as mask:
            size = mask.size[::-1]
        Image.fromarray((random.random(size) < 0.4).astype(np.uint8) * 255).save(path)
    (doubt,) = calibrate(spec, find_pairs(*folders)).doubts
    assert doubt.startswith("no threshold tells foreground from the rest: at the best one, ")
    assert doubt.endswith("do the masks belong to these pictures?")


def test_without_one_good_pair_or_any_foreground_there_is_no_recommendation(spec, folders):
    images, masks = folders
    for path in masks.iterdir():
        with Image.open(path) as mask:
            empty = np.zeros(mask.size[::-1], np.uint8)
        Image.fromarray(empty).save(path)
    with pytest.raises(CalibrationError, match="none of the 4 masks has any foreground"):
        calibrate(spec, find_pairs(images, masks))
    for path in images.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CalibrationError, match=r"none of the 4 pairs can be used; the first: picture .*: empty"):
        calibrate(spec, find_pairs(images, masks))


@pytest.mark.parametrize("name", ["criterion", "average"])
def test_unknown_choices_are_refused(spec, folders, name):
    with pytest.raises(CalibrationError, match="'accuracy' is none of: "):
        calibrate(spec, find_pairs(*folders), **{name: "accuracy"})


def test_a_spec_that_does_not_fit_the_model_is_refused_as_by_the_export(spec, folders):
    with pytest.raises(ExportError, match="no output channel 7"):
        calibrate(spec.model_copy(update={"foreground": [7]}), find_pairs(*folders))
