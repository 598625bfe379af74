"""Trains the demo model: a small U-Net that finds coins, and has only ever seen drawn ones.

    python scripts/train_demo_model.py                    about 8 minutes on 2 idle cores; writes models/coins/
    python scripts/train_demo_model.py --output=/tmp/try --steps=200

The pictures come from `coin_scenes`, the figures in the model card from `evaluate_demo_model.py`.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from children import end_with_parent
from coin_scenes import Scene, contact_sheet, draw_scene
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "models" / "coins"
PAD_TO_MULTIPLE = 16  # four halvings of height and width
LOSS_WINDOW = 50  # steps that the loss shown is the mean of


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out, on one machine.

    Attributes:
        seed: of the pictures, the first weights and the order of training.
        scenes: how many pictures are drawn.
        scene_size: height and width of a picture.
        crop_size: height and width of what one step sees of it.
        batch_size: pictures in a step.
        steps: of the optimizer.
        learning_rate: at its highest; it rises over the first twentieth and falls along a cosine to 0.
        weight_decay: of AdamW.
        channels: of the U-Net's levels, from full size down to a sixteenth.
    """

    seed: int = 1
    scenes: int = 4000
    scene_size: int = 192
    crop_size: int = 160
    batch_size: int = 8
    steps: int = 2600
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    channels: tuple[int, ...] = (12, 24, 40, 64, 80)


Advance = Callable[[str], None]
"""Called after each piece of work with a word on how it goes."""


def draw_training_scenes(recipe: Recipe, advance: Advance) -> list[Scene]:
    """Draws the pictures, on all cores. Each depends on the seed and its number alone."""
    drawn: list[Scene] = []
    # The pool ends its processes by SIGTERM, once, and waits for them for ever; so they must not inherit a handler,
    # whose exception may come where it is lost.
    own = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Their end of the queue is open in themselves, so that they would wait for ever for a parent that was killed.
    with multiprocessing.Pool(initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        signal.signal(signal.SIGTERM, own)
        for scene in pool.imap(functools.partial(_draw, recipe), range(recipe.scenes), chunksize=16):
            drawn.append(scene)
            advance("")
    return drawn


def _draw(recipe: Recipe, number: int) -> Scene:
    return draw_scene(np.random.default_rng([recipe.seed, number]), recipe.scene_size)


Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Pictures in [0, 1], labels 0 or 1, and the mask of the loss; each [batch, height, width, 1]."""


def make_batches(recipe: Recipe, scenes: list[Scene]) -> Iterator[Batch]:
    """Cuts, turns and re-exposes the pictures, without end."""
    rng = np.random.default_rng([recipe.seed, recipe.scenes])
    order = np.array([], np.int64)
    while True:
        if len(order) < recipe.batch_size:
            order = np.concatenate([order, rng.permutation(len(scenes))])
        chosen, order = order[: recipe.batch_size], order[recipe.batch_size :]
        examples = [_make_example(rng, scenes[index], recipe.crop_size) for index in chosen]
        images, labels, masks = (np.stack(planes)[..., np.newaxis] for planes in zip(*examples, strict=True))
        yield images, labels, masks


def _make_example(rng: np.random.Generator, scene: Scene, size: int) -> Any:
    # Half of the crops keep an edge of the picture, as what lies along one is different.
    room = scene.image.shape[0] - size
    top, left = np.clip(rng.integers(-(room // 2), room + room // 2 + 1, 2), 0, room)
    window = (slice(top, top + size), slice(left, left + size))
    image = scene.image[window].astype(np.float32) / 255
    coverage = scene.coverage[window].astype(np.float32) / 255
    turns, is_mirrored = rng.integers(4), rng.random() < 0.5
    image, coverage = np.rot90(image, turns).copy(), np.rot90(coverage, turns).copy()
    if is_mirrored:
        image, coverage = image[:, ::-1].copy(), coverage[:, ::-1].copy()
    image = np.clip(image * rng.uniform(0.75, 1.25) + rng.uniform(-0.08, 0.08), 0, 1)
    # Nobody can say whose a pixel is that the edge of a coin cuts in half.
    mask = (np.abs(coverage - 0.5) > 0.2).astype(np.float32)
    # Where a picture's size is no multiple of 16, the exporter repeats its last row and column.
    if rng.random() < 0.5:
        rows, columns = rng.integers(0, PAD_TO_MULTIPLE, 2)
        bottom, right = size - rows, size - columns
        image[bottom:] = image[bottom - 1]
        image[:, right:] = image[:, right - 1 : right]
        mask[bottom:] = 0
        mask[:, right:] = 0
    return image, (coverage > 0.5).astype(np.float32), mask


def build_model(channels: tuple[int, ...]) -> Any:
    """Builds a U-Net from gray pictures of any size, a multiple of 16, to the probability of coin.

    Returns:
        Keras model from [batch, height, width, 1] in [0, 1] to the same shape in [0, 1]. Its last layer is the
        sigmoid, the layer before it gives logits.
    """
    import keras

    def convolve(x: Any, width: int) -> Any:
        for _ in range(2):
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = keras.layers.BatchNormalization(momentum=0.98)(x)
            x = keras.layers.ReLU()(x)
        return x

    image = keras.Input([None, None, 1], name="image")
    x, levels = image, []
    for width in channels[:-1]:
        x = convolve(x, width)
        levels.append(x)
        x = keras.layers.MaxPooling2D()(x)
    x = convolve(x, channels[-1])
    for width, level in zip(reversed(channels[:-1]), reversed(levels), strict=True):
        # Nearest: Keras cannot trace a bilinear UpSampling2D where height and width are free.
        x = keras.layers.Conv2D(width, 1, use_bias=False)(x)
        x = keras.layers.UpSampling2D(interpolation="nearest")(x)
        x = convolve(keras.layers.Concatenate()([x, level]), width)
    logits = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, keras.layers.Activation("sigmoid", name="probability")(logits), name="coins")


def train(recipe: Recipe, scenes: list[Scene], advance: Advance) -> Any:
    """Returns the trained model; the same one whenever recipe, machine and libraries are the same."""
    import keras
    import tensorflow as tf
    from maskport.export.masks import MaskedLoss

    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    model = build_model(recipe.channels)
    trainee = keras.Model(model.input, model.get_layer("logits").output)
    rising = max(recipe.steps // 20, 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(recipe.steps - rising, 1), warmup_target=recipe.learning_rate, warmup_steps=rising
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, clipnorm=1.0)
    trainee.compile(optimizer, loss=MaskedLoss(from_logits=True))
    batches = make_batches(recipe, scenes)
    for step in range(recipe.steps):
        if step % LOSS_WINDOW == 0:
            trainee.reset_metrics()
        images, labels, masks = next(batches)
        loss = trainee.train_on_batch(images, labels, sample_weight=masks)
        advance(f"loss {float(loss):.4f}")
    return model


def make_card(path: Path, model: Any, recipe: Recipe, effort: dict[str, Any]) -> dict[str, Any]:
    """Returns the model card: what the file is, how it was made, how good it is on a real photograph."""
    from evaluate_demo_model import evaluate

    content = path.read_bytes()
    return {
        "name": "coins",
        "task": "marks the coins in a gray picture",
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": model.count_params(),
        "licence": "Apache-2.0",
        "input": {
            "shape": [None, None, None, 1],
            "meaning": "batch, height, width, gray; height and width free, multiples of 16",
            "range": [0, 1],
        },
        "output": {"shape": [None, None, None, 1], "meaning": "probability of coin", "range": [0, 1]},
        "export": {"scaling": "unit", "pad_to_multiple": PAD_TO_MULTIPLE, "activation": "none", "threshold": 0.5},
        "training": {
            "script": "scripts/train_demo_model.py",
            "data": "pictures drawn by scripts/coin_scenes; no photograph",
            "loss": "maskport.export.masks.MaskedLoss(from_logits=True)",
            "recipe": dataclasses.asdict(recipe),
            "effort": effort,
            "libraries": {
                name: importlib.metadata.version(name) for name in ("keras", "numpy", "pillow", "scipy", "tensorflow")
            },
        },
        "evaluation": evaluate(model),
    }


def main() -> None:
    defaults = Recipe()
    parser = argparse.ArgumentParser(description="Trains the demo model, which finds coins.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write (default: models/coins)")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps, help=f"default: {defaults.steps}")
    parser.add_argument("--sheet", type=Path, help="only draw a sheet of training pictures, and write it here")
    parser.add_argument("--scenes", type=int, default=defaults.scenes, help=f"default: {defaults.scenes}")
    options = parser.parse_args()
    recipe = Recipe(seed=options.seed, steps=options.steps, scenes=options.scenes)
    if options.sheet:
        contact_sheet(recipe.seed).save(options.sheet)
        return

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began = time.perf_counter()
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        drawing = progress.add_task("Drawing coins", total=recipe.scenes)
        training = progress.add_task("Training", total=recipe.steps)
        scenes = draw_training_scenes(recipe, lambda _: progress.advance(drawing))
        model = train(
            recipe,
            scenes,
            lambda words: progress.update(training, advance=1, description=f"Training, {words}"),
        )
    used = os.times()
    effort = {
        "wall_seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(used.user + used.system + used.children_user + used.children_system, 1),
        "cpu_cores": os.cpu_count(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "coins.keras"
    model.save(path)
    card = make_card(path, model, recipe, effort)
    (options.output / "model_card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(card["evaluation"]["worst_of_filters"], indent=2))
    print(f"{path}: {card['bytes']} bytes, {card['parameters']} parameters, {effort}")


if __name__ == "__main__":
    main()
