"""Code in Keras files, as another Python wrote it."""

import base64
import json
import sys
import zipfile

import h5py
import keras
import pytest
import tf_keras
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec


def code_in(config):
    """Yields the lists and dicts that hold the code of Lambda layers, with the key of it."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if key == "function":
            yield (value, 0) if isinstance(value, list) else (value["config"], "code")
        elif isinstance(value, dict | list):
            yield from code_in(value)


def spoil(text, code):
    config = json.loads(text)
    for holder, key in code_in(config):
        holder[key] = base64.b64encode(code).decode()
    return json.dumps(config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "suffix", "has_keras_2"),
    [(keras, ".keras", False), (keras, ".h5", False), (tf_keras, ".keras", True), (tf_keras, ".h5", True),
     (tf_keras, ".h5", False)],
)  # fmt: skip
def test_bytecode_of_another_python_is_told_from_other_faults(tmp_path, monkeypatch, library, suffix, has_keras_2):
    image = library.Input((16, 16, 3))
    model = library.Model(image, library.layers.Lambda(lambda x: 2 * x, output_shape=(16, 16, 3))(image))
    path = tmp_path / f"code{suffix}"
    model.save(path)
    code = b"\xf2\x05bytecode that this Python does not know"
    if suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = spoil(file.attrs["model_config"], code)
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, spoil(content, code) if name == "config.json" else content)
    if not has_keras_2:
        monkeypatch.setitem(sys.modules, "tf_keras", None)
    spec = {"source": str(path), "output_dir": "o"}
    with pytest.raises(SourceError, match="--unsafe_load"):
        load_source(make_spec(spec))
    with pytest.raises(
        SourceError,
        match=r"its Lambda layers are bytecode, of another .*\(bad marshal data .*\); give a function .*--weights$",
    ):
        load_source(make_spec({**spec, "unsafe_load": True}))
