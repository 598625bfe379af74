"""Two exports of three classes, and pictures that are labelled with numbers of classes."""

import dataclasses
import functools

import numpy as np
import pytest
import toy_models
from exporting import export_unchecked
from maskport.export.evaluate import evaluation
from PIL import Image
from reference import Pipeline, Toy
from skimage import data

VOID, THRESHOLD = 255, 0.6
CLASSES = ["sky", "tree", "roof"]
SIZES = [(48, 64), (61, 47), (40, 90), (33, 33), (50, 50)]


@dataclasses.dataclass
class Measured:
    """What is measured.

    Attributes:
        folder: with `images` and `masks`.
        version_dir: of the export; foreground is the classes 1 and 2.
        baseline_dir: of another network's.
        pipelines: what the two must answer, by their version directories.
    pictures: RGB pixels and label, by stem.
    """

    folder: object
    version_dir: str
    baseline_dir: str
    pipelines: dict
    pictures: dict
    classes = CLASSES

    def counts(self, version_dir):
        """True positives, false positives and false negatives by the reference: [pictures, mask and classes, 3]."""
        pipeline = self.pipelines[version_dir]
        return np.array([self.count(pipeline, *picture) for picture in self.pictures.values()])

    def count(self, pipeline, pixels, label):
        pixels, known = pixels.astype(float), label != VOID
        best = pipeline.class_probabilities(pixels).argmax(-1)
        found = [pipeline.probability(pixels) > THRESHOLD, *(best == at for at in range(3))]
        truth = [(label == 1) | (label == 2), *(label == at for at in range(3))]
        pairs = [(one[known], other[known]) for one, other in zip(found, truth, strict=True)]
        return [[(f & t).sum(), (f & ~t).sum(), (~f & t).sum()] for f, t in pairs]


@pytest.fixture(scope="session", autouse=True)
def _each_export_is_loaded_once():
    """To load one, and to call its signatures for the first time, takes longer than to measure it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluation, "ExportedModel", functools.cache(evaluation.ExportedModel))
        yield


@pytest.fixture(scope="session")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    fields = {
        "activation": "softmax", "scaling": "unit", "foreground": [1, 2], "classes": CLASSES,
        "threshold": THRESHOLD, "warmup": False,
        "signatures": ["mask_png", "probability_png", "class_map_png"],
    }  # fmt: skip
    pipelines, places = {}, []
    for name, seed in (("new", 6), ("old", 9)):
        network = Toy.make(3, 3, gain=4, seed=seed)
        version_dir = str(export_unchecked(toy_models.keras_model(network), folder / name, **fields))
        pipelines[version_dir] = Pipeline(network, 3, "softmax", "unit", foreground=(1, 2), adds=True)
        places.append(version_dir)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    random = np.random.default_rng(1)
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.astronaut()[::-1]]
    pictures = {}
    for index, (height, width) in enumerate(SIZES):
        pixels = np.asarray(Image.fromarray(photos[index]).resize((width, height), Image.Resampling.LANCZOS))
        # Truth is what the new model says, with mistakes, and pixels that nobody knows.
        label = pipelines[places[0]].class_probabilities(pixels.astype(float)).argmax(-1)
        wrong = random.random(label.shape) < 0.1 * (index + 1)
        label = np.where(wrong, random.integers(0, 3, label.shape), label).astype(np.uint8)
        label[random.random(label.shape) < 0.05] = VOID
        Image.fromarray(pixels).save(folder / f"images/photo{index}.png")
        Image.fromarray(label).save(folder / f"masks/photo{index}.png")
        pictures[f"photo{index}"] = pixels, label
    return Measured(folder, *places, pipelines, pictures)
