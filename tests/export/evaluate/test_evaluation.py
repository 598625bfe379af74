"""A whole evaluation, against the reference in NumPy; what gates it; what is shown of it."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export.errors import CalibrationError, EvaluationError
from maskport.export.evaluate import Gate, evaluate, judge, labelled_in_folders, labelled_in_records, make_page, to_json
from PIL import Image, ImageOps
from records import encoded_example, labelled_example, png, write_records
from reference import Toy


def pictures_of(measured):
    return labelled_in_folders(str(measured.folder / "images"), str(measured.folder / "masks"))


@pytest.fixture(scope="module")
def evaluation(measured):
    return evaluate(
        measured.version_dir, pictures_of(measured), baseline_dir=measured.baseline_dir, ignore_value=255, resamples=200
    )


def ratios(counts):
    found, wrong, missed = np.moveaxis(counts.sum(axis=0).astype(float), -1, 0)
    return {
        "iou": found / (found + wrong + missed),
        "dice": 2 * found / (2 * found + wrong + missed),
        "precision": found / (found + wrong),
        "recall": found / (found + missed),
    }


def test_scores_of_mask_and_classes_are_those_of_the_reference(measured, evaluation):
    expected = ratios(measured.counts(measured.version_dir))
    assert list(evaluation.scores) == ["mask", *measured.classes]
    assert evaluation.pictures == len(measured.pictures)
    for name, values in expected.items():
        found = [scores[name].value for scores in evaluation.scores.values()]
        assert found == pytest.approx(values, abs=2e-3)  # a pixel or two lie at the threshold
    assert 0.3 < expected["iou"].min() < expected["iou"].max() < 0.95


def test_the_baseline_is_measured_on_the_same_pictures(measured, evaluation):
    new, old = (ratios(measured.counts(place)) for place in (measured.version_dir, measured.baseline_dir))
    for name in new:
        assert [one[name].value for one in evaluation.baseline.values()] == pytest.approx(old[name], abs=2e-3)
        differences = [one[name].value for one in evaluation.differences.values()]
        assert differences == pytest.approx(new[name] - old[name], abs=4e-3)


def test_the_worst_pictures_are_those_with_most_mistakes(measured, evaluation):
    counts = measured.counts(measured.version_dir)[:, 0]
    order = np.argsort(counts[:, 0] / counts.sum(axis=1))
    assert [one.name for one in evaluation.worst] == [f"photo{index}" for index in order[:4]]
    shown = np.asarray(evaluation.worst[0].shown).astype(int)
    red, blue = shown[..., 0] - shown[..., 2] > 60, shown[..., 2] - shown[..., 0] > 60
    wrong, missed = counts[order[0], 1:]
    assert (red.sum(), blue.sum()) == pytest.approx((wrong, missed), rel=0.1)


def test_records_give_the_same_as_folders(measured, evaluation, tmp_path):
    records = [labelled_example(*picture) for picture in measured.pictures.values()]
    write_records(tmp_path / "Split-eval/data-00000-of-00002.gz", records[:2], "GZIP")
    write_records(tmp_path / "Split-eval/data-00001-of-00002", records[2:])
    pictures = labelled_in_records(str(tmp_path / "Split-eval/*"))
    assert [one.name for one in pictures.walk()][1:3] == ["data-00000-of-00002.gz#1", "data-00001-of-00002#0"]
    found = evaluate(measured.version_dir, pictures, ignore_value=255, resamples=200)
    assert found.scores == evaluation.scores
    assert found.baseline == found.differences == {}


def test_what_cannot_be_measured_is_left_out_and_told(measured, evaluation, tmp_path):
    pixels, label = measured.pictures["photo0"]
    records = [labelled_example(*picture) for picture in measured.pictures.values()]
    records += [
        labelled_example(pixels, label[:-1]),
        labelled_example(pixels, np.full_like(label, 255)),
        labelled_example(pixels, label).replace(png(pixels)[:8], b"notapng!"),
        labelled_example(pixels, label).replace(b"segmentation", b"Segmentation"),
        b"\x07no tf.Example",
    ]
    write_records(tmp_path / "data", records)
    found = evaluate(measured.version_dir, labelled_in_records(str(tmp_path / "data")), ignore_value=255, resamples=200)
    assert found.scores == evaluation.scores
    size, unknown, key, strange = found.left_out
    assert re.fullmatch(r"mask data#5: is 47x64, its upright picture 48x64", size)
    assert found.not_compared == ["data#6: every pixel is ignored"]
    assert re.fullmatch(r"data#7: unknown format.*", unknown)
    assert "'image/segmentation/class/encoded', got 0; the tf.Example holds image/Segmentation/" in key
    assert strange == "data#9: is no tf.Example"
    (reason,) = judge(found, Gate(floor=0))
    assert reason.startswith("4 of 9 pictures could not be measured, and 5 % may be left out; the first: mask data#5")
    assert "<h2>Not compared</h2>" in make_page(found, Gate(floor=0), [])


def test_a_class_that_no_pixel_is_labelled_as_says_nothing(measured, tmp_path):
    """Not even where one of the two models finds some of it."""
    records = [labelled_example(pixels, np.where(label == 2, 1, label)) for pixels, label in measured.pictures.values()]
    write_records(tmp_path / "data", records)
    pictures = labelled_in_records(str(tmp_path / "data"))
    places = measured.version_dir, measured.baseline_dir
    for version_dir, baseline in (places, places[::-1]):
        found = evaluate(version_dir, pictures, baseline_dir=baseline, ignore_value=255, resamples=50)
        assert {found.scores["roof"][name].value for name in ("iou", "dice", "recall")} == {None}
        assert not [line for line in judge(found, Gate(floor=0, max_drop=0)) if "roof" in line]
        (reason,) = judge(found, Gate(floor=0, max_drop=1, class_floors={"roof": 0.1}))
        assert reason == "IoU of roof cannot be measured: no pixel is labelled as it, or found"
        page = make_page(found, Gate(floor=0), [])
        assert '<td class="number">–</td>' in page
        assert to_json(found, Gate(floor=0), [])["scores"]["roof"]["iou"] == {"value": None, "low": None, "high": None}


def test_labels_without_foreground_bless_nothing(measured):
    with pytest.raises(EvaluationError, match=r"no pixel of the labels is foreground; they hold 0 \(.* %, background"):
        evaluate(measured.version_dir, pictures_of(measured), ignore_value=255, foreground_values=7)


def test_labels_that_are_no_classes_are_measured_where_their_foreground_is_given(measured, tmp_path):
    records = [
        labelled_example(pixels, np.where(label == 255, 7, np.isin(label, (1, 2)) * 255).astype(np.uint8))
        for pixels, label in measured.pictures.values()
    ]
    write_records(tmp_path / "data", records)
    pictures = labelled_in_records(str(tmp_path / "data"))
    found = evaluate(measured.version_dir, pictures, foreground_values=255, ignore_value=7, resamples=50)
    assert list(found.scores) == ["mask"]
    expected = ratios(measured.counts(measured.version_dir))["iou"][0]
    assert found.scores["mask"]["iou"].value == pytest.approx(expected, abs=2e-3)
    with pytest.raises(EvaluationError, match="where they are no classes, by foreground_values"):
        evaluate(measured.version_dir, pictures, ignore_value=7)


def test_what_the_baseline_alone_cannot_read_is_not_held_against_the_model(measured, tmp_path):
    old = export_unchecked(
        toy_models.keras_model(Toy.make(3, 3, gain=4, seed=9)), tmp_path / "old", activation="softmax", scaling="unit",
        foreground=[1, 2], classes=measured.classes, warmup=False, formats="jpeg",
        signatures="mask_png,probability_png,class_map_png",
    )  # fmt: skip
    options = {"baseline_dir": str(old), "ignore_value": 255, "resamples": 50}
    found = evaluate(measured.version_dir, pictures_of(measured), **options)
    assert (found.pictures, found.left_out, found.baseline) == (5, [], {})
    assert found.not_compared[0].startswith("by the baseline: photo0: unknown format")
    assert "the baseline could read no picture" in found.doubts[-1]
    records = [labelled_example(*picture) for picture in measured.pictures.values()]
    pixels, label = measured.pictures["photo1"]
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    records.append(encoded_example(jpeg.getvalue(), label))
    write_records(tmp_path / "data", records)
    found = evaluate(measured.version_dir, labelled_in_records(str(tmp_path / "data")), **options)
    assert (found.pictures, len(found.not_compared), len(found.baseline)) == (6, 5, 4)
    write_records(tmp_path / "one", records[-1:])
    alone = evaluate(measured.version_dir, labelled_in_records(str(tmp_path / "one")), **options)
    assert found.differences == alone.differences


def test_a_model_of_class_indices_is_measured_without_thresholds(measured, tmp_path):
    class Best(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def __call__(self, images):
            best = tf.argmax(self.model(images), -1, output_type=tf.int32)
            return {"classes": tf.where(images[..., 0] > 0.9, 255, best)}  # of no class

    module = Best()
    module.model = toy_models.keras_model(Toy.make(3, 3, gain=4, seed=6))
    tf.saved_model.save(module, str(tmp_path / "best"), signatures=module.__call__)
    fields = {"scaling": "unit", "warmup": False, "signatures": "mask_png,class_map_png"}
    version_dir = export_unchecked(
        str(tmp_path / "best"), tmp_path / "served", foreground=[1, 2], classes=measured.classes, **fields
    )
    found = evaluate(str(version_dir), pictures_of(measured), ignore_value=255, resamples=50)
    both = wrong = missed = 0
    for pixels, label in measured.pictures.values():
        best = measured.pipelines[measured.version_dir].class_probabilities(pixels.astype(float)).argmax(-1)
        best = np.where(pixels[..., 0] > 0.9 * 255, 255, best)[label != 255]
        truth = label[label != 255]
        both += np.array([((best == at) & (truth == at)).sum() for at in range(3)])
        wrong += np.array([((best == at) & (truth != at)).sum() for at in range(3)])
        missed += np.array([((best != at) & (truth == at)).sum() for at in range(3)])
    expected = both / (both + wrong + missed)
    assert [found.scores[name]["iou"].value for name in measured.classes] == pytest.approx(expected, abs=2e-3)
    # Without names of classes it is the numbers of the foreground that count, too.
    unnamed = export_unchecked(str(tmp_path / "best"), tmp_path / "unnamed", foreground=[2], **fields)
    scores = evaluate(str(unnamed), pictures_of(measured), ignore_value=255, resamples=50).scores
    assert [one["iou"].value for one in scores.values()] == pytest.approx(expected[2:], abs=2e-3)
    assert (found.tally, found.recommendation) == (None, None)
    page = make_page(found, Gate(floor=0), [])
    assert "The model answers classes, and has no threshold." in page
    assert "<svg" not in page.partition("<h2>The worst pictures</h2>")[0]


def test_a_picture_that_pillow_turns_otherwise_is_drawn_without_its_pixels(measured, tmp_path):
    """EXIF behind the pixels of a PNG, where no graph looks for it."""
    pixels, label = measured.pictures["photo0"]
    data = png(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + block
    end = data.index(b"IEND") - 4
    late = data[:end] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[end:]
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(late))).size == pixels.shape[:2]
    write_records(tmp_path / "data", [encoded_example(late, label)])
    found = evaluate(measured.version_dir, labelled_in_records(str(tmp_path / "data")), ignore_value=255, resamples=50)
    assert found.pictures == 1
    assert found.worst[0].shown.size == pixels.shape[1::-1]


def test_a_threshold_is_recommended_for_the_mask(measured, evaluation):
    probability = [measured.pipelines[measured.version_dir].probability(p.astype(float)) for p, _ in
                   measured.pictures.values()]  # fmt: skip

    def iou(threshold):
        pairs = [
            ((one > threshold)[label != 255], np.isin(label, (1, 2))[label != 255])
            for one, (_, label) in zip(probability, measured.pictures.values(), strict=True)
        ]
        return sum((f & t).sum() for f, t in pairs) / sum((f | t).sum() for f, t in pairs)

    best = max(iou(threshold) for threshold in np.arange(1, 1000) / 1000)
    assert evaluation.recommendation.score == pytest.approx(best, abs=2e-3)
    assert iou(evaluation.recommendation.threshold) == pytest.approx(best, abs=2e-3)


def test_labels_that_are_no_classes_are_refused_with_what_to_say(measured):
    with pytest.raises(EvaluationError, match=r"the classes 0 to 2: values that mean nothing .* ignore_value=255"):
        evaluate(measured.version_dir, pictures_of(measured))
    with pytest.raises(CalibrationError, match="every pixel of the masks is foreground"):
        evaluate(measured.version_dir, pictures_of(measured), ignore_value=255, foreground_values="0-2")


@pytest.mark.parametrize(
    ("gate", "reasons"),
    [
        (Gate(floor=0.3, max_drop=1), []),
        (Gate(floor=0.99, max_drop=1), [r"IoU of mask is 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\), below the floor of 0\.99"]),
        (Gate(score="recall", floor=0, class_floors={"roof": 1.0}, max_drop=1), [r"recall of roof is .* floor of 1"]),
    ],
)
def test_floors(evaluation, gate, reasons):
    found = judge(evaluation, gate)
    assert len(found) == len(reasons)
    assert all(re.fullmatch(pattern, text) for pattern, text in zip(reasons, found, strict=True))


def test_a_drop_is_allowed_as_far_as_it_is_said(measured):
    """Swapped, the better model is the baseline."""
    found = evaluate(
        measured.baseline_dir, pictures_of(measured), baseline_dir=measured.version_dir, ignore_value=255, resamples=50
    )
    drop = -found.differences["mask"]["iou"].value
    assert drop > 0.05
    before = found.baseline["mask"]["iou"].value
    expected = rf"IoU of mask is {drop:.4f} below the baseline's {before:.4f}, and 0\.01 is allowed"
    assert re.fullmatch(expected, judge(found, Gate(floor=0))[0])
    assert not [line for line in judge(found, Gate(floor=0, max_drop=drop + 1e-6)) if "mask" in line]
    assert judge(found, Gate(floor=0, max_drop=1)) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"score": "accuracy"}, "score: 'accuracy' is none of: iou, dice, precision, recall"),
        ({"floor": 95}, "floor: wanted 0 to 1, got 95"),
        ({"class_floors": {"roof": -1}}, "the floor of roof: wanted 0 to 1, got -1"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(fields, told):
    with pytest.raises(EvaluationError, match=re.escape(told)):
        Gate(**fields)


def test_a_floor_of_an_unknown_class_is_refused(evaluation):
    with pytest.raises(EvaluationError, match="no class 'rof' was measured; there are: mask, sky, tree, roof"):
        judge(evaluation, Gate(class_floors={"rof": 0.5}))


def test_the_page_and_the_record_hold_the_verdict(evaluation):
    gate = Gate(floor=0.99)
    reasons = judge(evaluation, gate)
    record = to_json(evaluation, gate, reasons)
    assert (record["blessed"], record["reasons"]) == (False, reasons)
    assert record["scores"]["roof"]["iou"] == evaluation.scores["roof"]["iou"].to_json()
    assert record["threshold"]["exported"] == 0.6
    page = make_page(evaluation, gate, reasons, {"model": "<b>mine</b>"})
    assert "<h1>Must not be served</h1>" in page
    assert f'<p class="warning">{reasons[0].replace(chr(39), "&#39;")}</p>' in page
    assert str(evaluation.scores["roof"]["iou"]).replace(" ", "<br><small>", 1) in page
    assert "&lt;b&gt;mine" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<h1>May be served</h1>" in make_page(evaluation, Gate(floor=0), [])


def test_a_model_of_one_channel_is_measured_under_its_class(measured, tmp_path):
    network = Toy.make(3, 1, gain=4, seed=2)
    version_dir = export_unchecked(
        toy_models.keras_model(network), tmp_path / "one", activation="sigmoid", scaling="unit", classes="coin",
        warmup=False, signatures="mask_png,probability_png",
    )  # fmt: skip
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    pixels, _ = measured.pictures["photo1"]
    Image.fromarray(pixels).save(tmp_path / "images/a.png")
    Image.fromarray((pixels[..., 0] > 128).astype(np.uint8) * 255).save(tmp_path / "masks/a.png")
    pictures = labelled_in_folders(str(tmp_path / "images"), str(tmp_path / "masks"))
    found = evaluate(str(version_dir), pictures)
    assert (list(found.scores), found.scores["coin"]["iou"].low) == (["coin"], None)


def test_what_is_recommended_is_for_masks_that_are_cleaned(measured, tmp_path):
    version_dir = export_unchecked(
        toy_models.keras_model(Toy.make(3, 1, gain=4, seed=2)), tmp_path / "one", activation="sigmoid", scaling="unit",
        classes="coin", warmup=False, signatures="mask_png,probability_png", clean={"close": 3},
    )  # fmt: skip
    pixels, _ = measured.pictures["photo1"]
    noise = np.random.default_rng(0).integers(-90, 90, (*pixels.shape[:2], 1))
    label = (pixels[..., 0] > 128).astype(np.uint8)
    write_records(tmp_path / "data", [labelled_example(np.clip(pixels + noise, 0, 255).astype(np.uint8), label)])
    found = evaluate(str(version_dir), labelled_in_records(str(tmp_path / "data")))
    assert 0 < found.scores["coin"]["iou"].value < 1
    at_threshold = found.tally.curves("pixels").iou[500]
    assert at_threshold == pytest.approx(found.scores["coin"]["iou"].value, abs=2e-3)


def test_a_class_may_be_called_mask(measured, tmp_path):
    version_dir = export_unchecked(
        toy_models.keras_model(Toy.make(3, 2, gain=4, seed=6)), tmp_path / "two", activation="softmax", scaling="unit",
        classes="ground,mask", foreground="mask", warmup=False, signatures="mask_png,probability_png,class_map_png",
    )  # fmt: skip
    pixels, label = measured.pictures["photo1"]
    write_records(tmp_path / "data", [labelled_example(pixels, np.where(label == 1, 1, 0).astype(np.uint8))])
    found = evaluate(str(version_dir), labelled_in_records(str(tmp_path / "data")))
    assert (list(found.scores), found.main_subject) == (["foreground", "ground", "mask"], "foreground")


def test_an_export_that_cannot_be_measured_is_named(measured, tmp_path):
    with pytest.raises(EvaluationError, match=r"is no export of maskport \(maskport.json is missing or damaged\)"):
        evaluate(str(tmp_path), pictures_of(measured))
    version_dir = export_unchecked(
        toy_models.keras_model(Toy.make(3, 1)), tmp_path / "one", activation="sigmoid", scaling="unit", warmup=False,
        signatures="mask_png",
    )  # fmt: skip
    with pytest.raises(EvaluationError, match="has no signature 'probability_png': export the model with it"):
        evaluate(str(version_dir), pictures_of(measured))


def test_records_that_are_none_are_named(tmp_path):
    with pytest.raises(EvaluationError, match="there are no TFRecord files"):
        labelled_in_records(str(tmp_path / "*"))
    write_records(tmp_path / "data", [b"x" * 100, b"y" * 100])
    (tmp_path / "data").write_bytes((tmp_path / "data").read_bytes()[:-50])
    with pytest.raises(EvaluationError, match=r"data: no TFRecord file, or damaged after record 0: "):
        list(labelled_in_records(str(tmp_path / "data")).walk())
