"""The model in a folder that a training wrote."""

import re

import pytest
from maskport.export import SourceError
from maskport.export.sources.paths.trained import find_trained


def lay(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Format-Serving/saved_model.pb", "Format-Serving/variables/variables.index"], "Format-Serving"),
        (["saved_model.pb", "fingerprint.pb"], "."),
        (["Format-Serving/model.keras", "logs/events"], "Format-Serving/model.keras"),
        (["unet.h5", "unet.weights.h5", "notes.txt"], "unet.h5"),
        (["Format-Serving/saved_model.pb", "model.keras"], "Format-Serving"),
    ],
)
def test_it_is_found_where_trainers_put_it(tmp_path, names, found):
    assert find_trained(lay(tmp_path, *names)) == str(tmp_path / found)


def test_a_file_is_itself(tmp_path):
    assert find_trained(lay(tmp_path, "a.keras") / "a.keras") == str(tmp_path / "a.keras")


@pytest.mark.parametrize(
    ("name", "found"),
    [("Format-Serving/unet.weights.h5", "Format-Serving/unet.weights.h5"), ("ckpt-3.index", "ckpt-3")],
)
def test_weights_for_a_builder_are_a_file_or_a_checkpoint(tmp_path, name, found):
    assert find_trained(lay(tmp_path, name, "ckpt-3.data-00000-of-00001"), is_weights=True) == str(tmp_path / found)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], r"wanted a SavedModel or a \.keras file in it or in its Format-Serving; it holds nothing"),
        (["Format-Serving/a.onnx"], "it holds Format-Serving"),
        (["a.keras", "b.keras"], r"which model is meant\? It holds a\.keras, b\.keras: leave one of them there"),
    ],
)
def test_what_is_unclear_is_said_in_one_line(tmp_path, names, told):
    with pytest.raises(SourceError) as error:
        find_trained(lay(tmp_path, *names))
    assert re.search(told, str(error.value))
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="no such model"):
        find_trained(tmp_path / "missing")
