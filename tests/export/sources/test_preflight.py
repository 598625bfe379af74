"""What is said of a source before TensorFlow starts."""

import sys

import h5py
import pytest
import toy_models
from maskport.export import ExportError, SourceError
from maskport.export.sources.preflight import check_keras_backend, check_source
from maskport.export.spec import make_spec
from reference import Toy


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    toy_models.keras_model(Toy.make(3, 1)).save(folder / "good.keras")
    (folder / "zipped.h5").write_bytes((folder / "good.keras").read_bytes())
    for name in ("hdf5.keras", "only.weights.h5"):
        h5py.File(folder / name, "w").close()
    for name in ("empty.h5", "empty.onnx", "saved_model.pb"):
        (folder / name).touch()
    for name in ("text.keras", "text.h5"):
        (folder / name).write_text("text")
    (folder / "base/12").mkdir(parents=True)
    (folder / "chunks").mkdir()
    (folder / "chunks/saved_model.cpb").touch()
    pointer = "version https://git-lfs.github.com/spec/v1"
    for name, files in {
        "preset": {"config.json": "{}", "task.json": "{}", "model.weights.h5": ""},
        "backbone": {"config.json": "{}", "metadata.json": '{"keras_hub_version": "0.2"}', "model.weights.h5": ""},
        "bodypix": {"model-stride16.json": "{}", "model-stride8.json": "{}", "group1-shard1of1.bin": ""},
        "cloned": {"config.json": "{}", "metadata.json": "{}", "model.weights.h5": pointer},
    }.items():
        (folder / name).mkdir()
        for file, text in files.items():
            (folder / name / file).write_text(text)
    (folder / "mine.py").write_text("raise RuntimeError('it was imported')")
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "none.keras"}, "source none.keras: no such file or directory"),
        ({"source": "saved_model.pb"}, "source saved_model.pb: give its directory, ."),
        ({"source": "empty.onnx"}, "source empty.onnx: it is empty"),
        ({"source": "base"}, "source base: a directory without saved_model.pb; did you mean base/12?"),
        ({"source": "chunks"}, "source chunks: saved_model.cpb, a graph in chunks, is not read; save it in one piece"),
        ({"source": "preset"}, "source preset: a keras-hub preset; give a function that returns keras_hub.models."),
        ({"source": "backbone"}, "source backbone: a keras-hub preset; give a function that returns keras_hub.models."),
        (
            {"source": "bodypix"},
            "source bodypix: a folder of TensorFlow.js without a model.json; give one of its files: "
            "model-stride16.json, model-stride8.json",
        ),
        ({"source": "cloned"}, "source cloned: Keras cannot load it: it is a pointer of Git LFS"),
        (
            {"source": "https://host/net.keras"},
            "source https://host/net.keras: is not fetched; download it first (curl",
        ),
        ({"source": "hf://owner/net"}, "source hf://owner/net: is not fetched; download it first (curl"),
        ({"source": "mine:build", "weights": "https://host/a.h5"}, "weights https://host/a.h5: is not fetched;"),
        ({"source": "empty.h5"}, "source empty.h5: Keras cannot load it: it is empty"),
        ({"source": "text.keras"}, "source text.keras: Keras cannot load it: it is no .keras file, or a broken one"),
        ({"source": "text.h5"}, "source text.h5: Keras cannot load it: it is no HDF5 file, or a broken one"),
        ({"source": "hdf5.keras"}, "source hdf5.keras: Keras cannot load it: it is an HDF5 file; rename it to .h5"),
        ({"source": "zipped.h5"}, "source zipped.h5: Keras cannot load it: it is a .keras file; rename it so"),
        ({"source": "only.weights.h5"}, "source only.weights.h5: it holds weights only; give a builder function"),
        ({"source": "nowhere:build", "weights": "a.h5"}, "source: no module 'nowhere', neither installed nor in"),
        ({"source": "mine:build", "weights": "a.h5"}, "weights a.h5: no such file"),
        ({"source": "mine:build", "weights": "base"}, "weights base: neither a Keras weights file nor a TensorFlow"),
        ({"source": "good.keras", "custom_objects": "nowhere"}, "custom_objects: no module 'nowhere'"),
    ],
)
def test_what_is_not_there_is_named(sources, monkeypatch, fields, message):
    monkeypatch.chdir(sources)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SourceError) as caught:
        check_source(make_spec({"output_dir": "out", **fields}))
    assert str(caught.value).startswith(message)


def test_what_can_be_loaded_is_let_through(sources, monkeypatch):
    monkeypatch.chdir(sources)
    monkeypatch.setattr(sys, "path", [*sys.path])
    check_source(make_spec({"output_dir": "out", "source": "good.keras", "custom_objects": "mine"}))
    check_source(make_spec({"output_dir": "out", "source": "mine:build", "weights": "only.weights.h5"}))
    check_source(make_spec({"output_dir": "out", "source": "gs://bucket/seen/later.keras"}))


@pytest.mark.parametrize(
    ("variable", "in_file", "message"),
    [
        ("jax", "tensorflow", r"^KERAS_BACKEND=jax, and .*: unset it, or set it to tensorflow"),
        ("", "torch", r'/keras.json has "backend": "torch", and .*: change it, or set KERAS_BACKEND=tensorflow'),
        ("tensorflow", "torch", None),
        ("", "tensorflow", None),
    ],
)
def test_another_backend_of_keras_is_named_with_where_it_is_set(tmp_path, monkeypatch, variable, in_file, message):
    (tmp_path / "keras.json").write_text(f'{{"backend": "{in_file}"}}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", variable)
    check_keras_backend()  # Keras runs on TensorFlow here, whatever is set since
    monkeypatch.delitem(sys.modules, "keras")
    if message is None:
        check_keras_backend()
    else:
        with pytest.raises(ExportError, match=message):
            check_keras_backend()
