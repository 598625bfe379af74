"""The pictures that the demo model is trained on, and that training gives the same model twice."""

import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from coin_scenes import Scene, draw_scene
from train_demo_model import Recipe, make_batches

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


def scene(*seed: int, size: int = 96):
    return draw_scene(np.random.default_rng(seed), size)


@pytest.mark.parametrize("size", [64, 97])
def test_a_picture_and_its_truth_are_of_the_asked_size(size):
    drawn = scene(1, size=size)
    for plane in (drawn.image, drawn.coverage):
        assert plane.shape == (size, size)
        assert plane.dtype == np.uint8


def test_a_picture_depends_on_its_seed_alone():
    first, again, other = scene(2, 7), scene(2, 7), scene(2, 8)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.coverage, again.coverage)
    assert (first.image != other.image).mean() > 0.5


def test_pictures_vary_in_brightness_and_in_how_much_is_coin():
    drawn = [scene(3, number) for number in range(40)]
    shares = [float((picture.coverage > 127).mean()) for picture in drawn]
    levels = [float(picture.image.mean()) for picture in drawn]
    assert min(shares) == 0  # some tables are empty
    assert max(shares) > 0.4
    assert min(levels) < 60
    assert max(levels) > 150


def test_coins_differ_from_the_table_around_them():
    # Not in every picture: some coins are as bright as the table, and seen by their relief only.
    differences = []
    for number in range(40):
        drawn = scene(4, number)
        coin = drawn.coverage == 255
        if coin.any() and (drawn.coverage == 0).any():
            image = drawn.image.astype(float)
            differences.append(image[coin].mean() - image[drawn.coverage == 0].mean())
    lighter = np.array(differences) > 10
    assert lighter.mean() > 0.5
    assert (np.array(differences) < -10).any()


def test_batches_leave_out_of_the_loss_what_nobody_can_know():
    recipe = Recipe(seed=5, batch_size=4, crop_size=64)
    scenes = [scene(5, number) for number in range(6)]
    has_padding = False
    for images, labels, masks in itertools.islice(make_batches(recipe, scenes), 12):
        assert images.shape == labels.shape == masks.shape == (4, 64, 64, 1)
        assert images.min() >= 0
        assert images.max() <= 1
        assert set(np.unique(labels)) <= {0, 1}
        assert set(np.unique(masks)) <= {0, 1}
        for image, mask in zip(images[..., 0], masks[..., 0], strict=True):
            if not mask[-1].any():
                has_padding = True
                last = np.flatnonzero(mask.any(axis=1))[-1]
                repeated = image[last + 1 :]
                np.testing.assert_array_equal(repeated, np.broadcast_to(image[last], repeated.shape))
    assert has_padding


def test_batches_show_every_picture_before_any_again():
    recipe = Recipe(seed=6, batch_size=2, crop_size=16)
    planes = [np.zeros((16, 16), np.uint8) for _ in range(4)]
    for number, plane in enumerate(planes):
        plane[: 4 * number] = 255  # told apart by how much of them is coin
    scenes = [Scene(image=plane, coverage=plane) for plane in planes]
    first_round = [labels.mean(axis=(1, 2, 3)) for _, labels, _ in itertools.islice(make_batches(recipe, scenes), 2)]
    assert sorted(np.concatenate(first_round).tolist()) == [0, 0.25, 0.5, 0.75]


# In a process of its own, as training makes TensorFlow deterministic for good.
TRAIN_A_LITTLE = """
    import hashlib
    import sys
    import numpy as np
    from coin_scenes import draw_scene
    from train_demo_model import Recipe, train
    for seed in map(int, sys.argv[1:]):
        recipe = Recipe(seed=seed, scene_size=48, crop_size=48, batch_size=2, steps=3, channels=(4, 6, 8))
        scenes = [draw_scene(np.random.default_rng([seed, n]), recipe.scene_size) for n in range(4)]
        words = []
        model = train(recipe, scenes, words.append)
        assert len(words) == recipe.steps, words
        print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


def test_training_gives_the_same_weights_for_the_same_seed():
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRAIN_A_LITTLE), "1", "1", "2"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "TF_CPP_MIN_LOG_LEVEL": "3"},
    ).stdout
    first, again, other = output.split()
    assert first == again
    assert first != other
