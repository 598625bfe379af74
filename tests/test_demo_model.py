"""The committed demo model on the real photograph, and whether its card tells the truth about it."""

import hashlib
import io
import json
from pathlib import Path

import evaluate_demo_model as evaluation
import keras
import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parent.parent / "models" / "coins"


@pytest.fixture(scope="module")
def model():
    return keras.saving.load_model(FOLDER / "coins.keras")


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / "model_card.json").read_text())


@pytest.fixture(scope="module")
def agreements(model):
    return evaluation.evaluate_sizes(model)


@pytest.mark.parametrize(("size", "least_iou"), [("original", 0.95), ("half", 0.90), ("double", 0.90)])
def test_every_coin_of_the_photograph_is_found_and_nothing_else(agreements, size, least_iou):
    assert agreements[size]
    for how, agreement in agreements[size].items():
        assert agreement.iou >= least_iou, how
        assert agreement.coins == agreement.coins_found == agreement.components == 24, how
        assert agreement.false_components == 0, how


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_no_coin_is_lost_and_none_made_up_at_other_thresholds(model, threshold):
    for by_filter in evaluation.evaluate_sizes(model, threshold).values():
        for how, agreement in by_filter.items():
            assert (agreement.coins_found, agreement.false_components) == (24, 0), how


def compressed(photograph):
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    ("change", "change_place"),
    [
        (lambda photograph: photograph // 2, None),
        (lambda photograph: np.minimum(photograph * 1.3, 255).astype(np.uint8), None),
        (compressed, None),
        (np.rot90, np.rot90),
        (np.fliplr, np.fliplr),
        (np.transpose, np.transpose),
    ],
    ids=["darker", "brighter", "JPEG", "turned", "mirrored", "transposed"],
)
def test_other_light_other_places_and_jpeg_change_little(model, change, change_place):
    photograph = evaluation.coins_photograph()
    truth = evaluation.reference_mask(photograph)
    found = evaluation.predict(model, change(photograph)) > evaluation.THRESHOLD
    agreement = evaluation.compare(found, change_place(truth) if change_place else truth)
    assert agreement.iou >= 0.95
    assert (agreement.coins_found, agreement.false_components) == (24, 0)


@pytest.mark.parametrize("cut", [(0, 0), (7, 3), (15, 1), (40, 61)])
def test_padding_to_a_multiple_of_16_adds_no_coin(model, cut):
    photograph = evaluation.coins_photograph()
    height, width = photograph.shape[0] - cut[0], photograph.shape[1] - cut[1]
    truth = evaluation.reference_mask(photograph)[:height, :width]
    found = evaluation.predict(model, photograph[:height, :width]) > evaluation.THRESHOLD
    agreement = evaluation.compare(found, truth)
    assert agreement.iou >= 0.95
    assert agreement.false_components == 0


def test_a_batch_gives_what_its_pictures_give_alone(model):
    pictures = np.random.default_rng(0).random((3, 32, 48, 1), np.float32)
    together = np.asarray(model(pictures, training=False))
    assert together.shape == pictures.shape
    assert together.dtype == np.float32
    for picture, expected in zip(pictures, together, strict=True):
        np.testing.assert_allclose(model(picture[np.newaxis], training=False)[0], expected, atol=1e-5)


def test_the_card_is_about_this_file(model, card):
    content = (FOLDER / card["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert len(content) == card["bytes"] < 2_000_000
    assert model.count_params() == card["parameters"] < 500_000


def test_the_card_states_the_figures_that_are_measured(agreements, card):
    for size, by_filter in agreements.items():
        stated = card["evaluation"]["worst_of_filters"][size]
        worst = min(by_filter.values(), key=lambda agreement: agreement.iou)
        assert stated["iou"] == pytest.approx(worst.iou, abs=0.002)
        assert stated["precision"] == pytest.approx(worst.precision, abs=0.004)
        assert stated["recall"] == pytest.approx(worst.recall, abs=0.004)
        assert (stated["coins_found"], stated["false_components"]) == (24, 0)


def test_the_card_admits_what_is_wrongly_marked_elsewhere(model, card):
    measured = evaluation.marked_without_coins(model)
    assert card["evaluation"]["marked_where_no_coin_is"] == pytest.approx(measured, abs=0.01)


def test_the_reference_sees_the_24_coins_of_the_photograph():
    photograph = evaluation.coins_photograph()
    reference = evaluation.reference_mask(photograph)
    # Places read off the photograph by eye: middles of coins, and table between them and in its corners.
    for row, column in [(54, 44), (52, 355), (120, 270), (190, 345), (255, 172), (267, 358)]:
        assert reference[row, column]
    for row, column in [(0, 0), (0, 383), (302, 383), (85, 130), (160, 190), (225, 60)]:
        assert not reference[row, column]
    assert evaluation.compare(reference, reference).coins == 24


def test_comparison_counts_pixels_and_components():
    truth = np.zeros((6, 12), bool)
    truth[1:3, 1:5] = True  # 8 pixels, of which 6 are marked
    truth[1:5, 7:11] = True  # 16 pixels, of which 4 are marked: not found
    mask = np.zeros_like(truth)
    mask[1:3, 2:5] = True
    mask[1:2, 7:11] = True
    mask[5, 0:2] = True  # a false component of 2 pixels
    assert evaluation.compare(mask, truth) == evaluation.Agreement(
        iou=10 / 26,
        precision=10 / 12,
        recall=10 / 24,
        coins=2,
        coins_found=1,
        components=3,
        false_components=1,
    )


def test_the_readme_repeats_the_figures_of_the_card(card):
    readme = (FOLDER / "README.md").read_text()
    assert f"{card['parameters']:,} parameters" in readme
    assert f"{card['training']['recipe']['steps']:,} steps" in readme
    assert f"{card['training']['effort']['cpu_seconds']:.0f} s of processor time" in readme
    for row, size in (("as it is", "original"), ("half size", "half"), ("double size", "double")):
        figures = card["evaluation"]["worst_of_filters"][size]
        numbers = " | ".join(f"{figures[name]:.3f}" for name in ("iou", "precision", "recall"))
        found = f"{figures['coins_found']} of {figures['coins']} | {figures['false_components']} |"
        assert f"| {row} | {numbers} | {found}" in readme
    for name in ("coffee", "astronaut", "immunohistochemistry"):
        assert f"{card['evaluation']['marked_where_no_coin_is'][name]:.0%}".replace("%", " %") in readme
