"""Measures the demo model on a real photograph of coins, which it has never been trained on.

    python scripts/evaluate_demo_model.py                      models/coins/coins.keras
    python scripts/evaluate_demo_model.py --pictures=/tmp/see  writes what it found, to be looked at
    python scripts/evaluate_demo_model.py --card=models/coins/model_card.json  measures again for the card

The truth is found without the model: by a watershed of the photograph's edges from certain seeds.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage import data, filters, measure, segmentation

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "coins" / "coins.keras"
THRESHOLD = 0.5
PAD_TO_MULTIPLE = 16

Gray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SCALES = {"original": 1.0, "half": 0.5, "double": 2.0}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Ways to change a photograph's size; the model must not depend on which one somebody used."""

OTHER_PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)
"""Of scikit-image; there is no coin in any of them, so all that the model marks there is wrong."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a mask compares with the truth.

    Attributes:
        iou: shared area by joint area.
        precision: part of the marked area that is coin.
        recall: part of the coins' area that is marked.
        coins: connected components of the truth.
        coins_found: those of them of which at least half is marked.
        components: connected components of the mask.
        false_components: those of them that touch no coin.
    """

    iou: float
    precision: float
    recall: float
    coins: int
    coins_found: int
    components: int
    false_components: int


def coins_photograph() -> Gray:
    """Returns the photograph of 24 Greek coins, [303, 384]."""
    return np.asarray(data.coins())


def reference_mask(photograph: Gray) -> Mask:
    """Returns where the coins are, found by flooding the photograph's edges.

    What is darker than 30 is certainly table and what is brighter than 150 certainly coin; from there the two
    spread until they meet, at the steepest edge between them. Holes are filled, and specks that no coin could
    be are dropped.
    """
    seeds = np.zeros(photograph.shape, np.int32)
    seeds[photograph < 30] = 1
    seeds[photograph > 150] = 2
    coins = segmentation.watershed(filters.sobel(photograph), seeds) == 2
    coins = ndimage.binary_fill_holes(coins)
    components = measure.label(coins)
    areas = np.bincount(components.ravel())
    return (areas >= 200)[components] & coins


def resized(pixels: Gray, scale: float, how: Image.Resampling) -> Gray:
    """Returns the picture at another size."""
    height, width = (round(length * scale) for length in pixels.shape)
    return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def predict(model: Any, photograph: Gray) -> npt.NDArray[np.float32]:
    """Returns the probability of coin, [height, width]; padded for the model as the exporter pads."""
    height, width = photograph.shape
    padding = ((0, -height % PAD_TO_MULTIPLE), (0, -width % PAD_TO_MULTIPLE))
    pixels = np.pad(photograph.astype(np.float32) / 255, padding, mode="edge")
    return np.asarray(model(pixels[np.newaxis, ..., np.newaxis], training=False))[0, :height, :width, 0]


def compare(mask: Mask, truth: Mask) -> Agreement:
    """Compares a mask with the truth, pixel by pixel and coin by coin."""
    shared, joint = int((mask & truth).sum()), int((mask | truth).sum())
    marked, true = measure.label(mask), measure.label(truth)
    touching = np.unique(marked[truth & mask])
    covered = np.bincount(true[mask], minlength=true.max() + 1) / np.bincount(true.ravel())
    return Agreement(
        iou=shared / max(joint, 1),
        precision=shared / max(int(mask.sum()), 1),
        recall=shared / max(int(truth.sum()), 1),
        coins=int(true.max()),
        coins_found=int((covered[1:] >= 0.5).sum()),
        components=int(marked.max()),
        false_components=int(marked.max()) - len(touching),
    )


def evaluate_sizes(model: Any, threshold: float = THRESHOLD) -> dict[str, dict[str, Agreement]]:
    """Compares model and truth on the photograph at each of `SCALES`, with each of `FILTERS`."""
    photograph = coins_photograph()
    truth = reference_mask(photograph).astype(np.uint8) * 255
    agreements: dict[str, dict[str, Agreement]] = {}
    for size, scale in SCALES.items():
        wanted = resized(truth, scale, Image.Resampling.BILINEAR) > 127
        agreements[size] = {}
        for name, how in FILTERS.items() if scale != 1 else [("as it is", Image.Resampling.NEAREST)]:
            probability = predict(model, resized(photograph, scale, how))
            agreements[size][name] = compare(probability > threshold, wanted)
    return agreements


def marked_without_coins(model: Any) -> dict[str, float]:
    """Returns the part of each other photograph that the model takes for coins."""
    marked = {}
    for name in OTHER_PHOTOGRAPHS:
        gray = Image.fromarray(getattr(data, name)()).convert("L")
        gray.thumbnail((512, 512))
        marked[name] = float((predict(model, np.asarray(gray)) > THRESHOLD).mean())
    return marked


def forward_milliseconds(model: Any, repeats: int = 15) -> float:
    """Returns the median time of one run on the photograph."""
    import tensorflow as tf

    run = tf.function(lambda x: model(x, training=False), autograph=False)
    pixels = tf.zeros([1, 304, 384, 1])
    run(pixels)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run(pixels).numpy()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def evaluate(model: Any) -> dict[str, Any]:
    """Returns all figures, ready for JSON; of the filters, the worst one's for each size."""
    worst = {
        size: {
            **dataclasses.asdict(min(by_filter.values(), key=lambda agreement: agreement.iou)),
            "coins_found": min(agreement.coins_found for agreement in by_filter.values()),
            "false_components": max(agreement.false_components for agreement in by_filter.values()),
        }
        for size, by_filter in evaluate_sizes(model).items()
    }
    return {
        "photograph": "scikit-image: data.coins(), 303×384",
        "reference": "watershed of the photograph's edges, holes filled, specks dropped",
        "threshold": THRESHOLD,
        "resized_with": list(FILTERS),
        "worst_of_filters": {size: _rounded(figures) for size, figures in worst.items()},
        "marked_where_no_coin_is": _rounded(marked_without_coins(model)),
        "forward_ms_304x384": round(forward_milliseconds(model), 1),
    }


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def draw_findings(model: Any, folder: Path) -> None:
    """Writes, for each size, the photograph with the mask's outline in red, and the probability."""
    folder.mkdir(parents=True, exist_ok=True)
    for size, scale in SCALES.items():
        photograph = resized(coins_photograph(), scale, Image.Resampling.BICUBIC)
        probability = predict(model, photograph)
        outlined = segmentation.mark_boundaries(
            photograph, (probability > THRESHOLD).astype(int), color=(1, 0, 0), mode="inner"
        )
        Image.fromarray((outlined * 255).astype(np.uint8)).save(folder / f"{size}_outlined.png")
        Image.fromarray((probability * 255).astype(np.uint8)).save(folder / f"{size}_probability.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the demo model on a real photograph of coins.")
    parser.add_argument("model", nargs="?", type=Path, default=DEFAULT_MODEL, help="a .keras file")
    parser.add_argument("--pictures", type=Path, help="folder to write pictures of what was found to")
    parser.add_argument("--card", type=Path, help="a model card whose evaluation is to be written anew")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    model = keras.saving.load_model(options.model)
    print(f"{'size':<10}{'filter':<10}{'IoU':>8}{'precision':>11}{'recall':>8}{'found':>9}{'false':>7}")
    for size, by_filter in evaluate_sizes(model).items():
        for name, found in by_filter.items():
            print(
                f"{size:<10}{name:<10}{found.iou:>8.4f}{found.precision:>11.4f}{found.recall:>8.4f}"
                f"{f'{found.coins_found}/{found.coins}':>9}{found.false_components:>7}"
            )
    print("\nTaken for coins in photographs that show none:")
    for name, part in sorted(marked_without_coins(model).items(), key=lambda item: item[1]):
        print(f"  {name:<22}{part:>7.1%}")
    print(f"\nOne run at 304×384: {forward_milliseconds(model):.1f} ms; {model.count_params()} parameters")
    if options.card:
        card = json.loads(options.card.read_text())
        card["evaluation"] = evaluate(model)
        options.card.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        print(f"Figures written to {options.card}")
    if options.pictures:
        draw_findings(model, options.pictures)
        print(f"Pictures: {options.pictures}")


if __name__ == "__main__":
    main()
