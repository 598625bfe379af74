"""The example specs in configs/export: each is followed, with a toy in the place of the user's model."""

from pathlib import Path

import pytest
import toy_models
import yaml
from maskport.export import load_spec
from maskport.export.exporter import Plan
from reference import Toy

ROOT = Path(__file__).parents[2]
TOYS = {
    "photo_cutout": {"network": Toy.make(3, 1, gain=4), "size": (32, 32), "activation": "sigmoid"},
    "scan_12bit": {"network": Toy.make(1, 1, gain=4)},
    "street_classes": {"network": Toy.make(3, 6, gain=4)},
}
FILES = sorted((ROOT / "configs/export").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_spec_can_be_followed_and_says_only_what_it_means(file, tmp_path):
    overrides = {"output_dir": str(tmp_path / "served")}
    if file.stem in TOYS:
        overrides["source"] = str(tmp_path / "toy.keras")
        toy_models.keras_model(**TOYS[file.stem]).save(overrides["source"])
    else:
        overrides["source"] = str(ROOT / yaml.safe_load(file.read_text())["source"])
    plan = Plan.make(load_spec(str(file), overrides))
    (tmp_path / "version").mkdir()
    plan.write(tmp_path / "version")
    assert (tmp_path / "version/saved_model.pb").exists()
    written = yaml.safe_load(file.read_text())
    for name, value in written.items():
        if name not in overrides:
            assert plan.spec.model_dump(mode="json")[name] == value or name in ("mean", "std")
