"""A labelled folder and the spec of a model whose best threshold is not 0.5."""

import dataclasses
import io

import numpy as np
import pytest
import toy_models
import yaml
from PIL import Image
from reference import Pipeline, Toy
from skimage import data

SIZES = [(48, 64), (61, 47), (40, 90), (33, 33)]


@dataclasses.dataclass
class Labelled:
    """A folder with a spec, `images` and `masks`.

    Attributes:
        folder: of all.
        pipeline: what the spec's export must answer.
        truth: by stem, as drawn.
    """

    folder: object
    pipeline: Pipeline
    truth: dict

    @property
    def spec(self):
        return self.folder / "spec.yaml"

    def upright(self, stem):
        """The picture's upright pixels, [H, W, 3], by Pillow."""
        from PIL import ImageOps

        (path,) = (self.folder / "images").glob(f"{stem}.*")
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def jpeg_lying_on_its_side(pixels):
    """A JPEG whose EXIF says how to turn it upright again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(pixels).copy()).save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    network = Toy.make(3, 2, gain=4, seed=6)
    toy_models.keras_model(network).save(folder / "toy.keras")
    fields = {
        "source": str(folder / "toy.keras"),
        "activation": "softmax",
        "scaling": "unit",
        "model_size": [40, 56],
        "foreground": 1,
        "clean": {"open": 1},
        "threshold": 0.5,
        "output_dir": str(folder / "never_made"),
    }
    (folder / "spec.yaml").write_text("# chosen by hand\n" + yaml.safe_dump(fields, sort_keys=False))
    pipeline = Pipeline(
        network, 3, "softmax", "unit", model_size=(40, 56), foreground=(1,), adds=True, clean_open=1
    )  # fmt: skip
    labels = Labelled(folder, pipeline, {})
    random = np.random.default_rng(1)
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    for index, (height, width) in enumerate(SIZES):
        pixels = np.asarray(Image.fromarray(photos[index]).resize((width, height), Image.Resampling.LANCZOS))
        stem = f"photo{index}"
        if index == 1:
            (folder / f"images/{stem}.jpg").write_bytes(jpeg_lying_on_its_side(pixels))
        else:
            Image.fromarray(pixels).save(folder / f"images/{stem}.png")
        # Truth is what the model says at 0.61, with mistakes that no threshold mends.
        truth = pipeline.cleaned(labels.upright(stem).astype(np.float64)) > 0.61
        truth ^= random.random(truth.shape) < 0.05
        Image.fromarray(truth.astype(np.uint8) * 3).save(folder / f"masks/{stem}.png")
        labels.truth[stem] = truth
    return labels
