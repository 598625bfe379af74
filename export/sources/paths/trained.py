"""Finding the model in the folder that a training wrote, such as a TFX Trainer's `Model`."""

from pathlib import Path

from ...errors import SourceError

SERVING_FOLDER = "Format-Serving"
"""Where a TFX `Model` holds what is to be served."""

_WEIGHTS_ENDINGS = (".weights.h5", ".index")
_MODEL_ENDINGS = (".keras", ".h5", ".hdf5")


def find_trained(path: Path, is_weights: bool = False) -> str:
    """Returns what mask-export takes as `source` (or, with `is_weights`, as `weights`) in a folder.

    That is a SavedModel, or the only Keras file, in the folder itself or in its `Format-Serving`; of weights the only
    `.weights.h5` file or TensorFlow checkpoint. A path of a file is itself.

    Raises:
        SourceError: there is none, or more than one.
    """
    if path.is_file():
        return str(path)
    if not path.is_dir():
        raise SourceError(f"{path}: no such model")
    for folder in (path / SERVING_FOLDER, path):
        if not is_weights and (folder / "saved_model.pb").is_file():
            return str(folder)
        files = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        if is_weights:
            found = [name for name in files if name.endswith(_WEIGHTS_ENDINGS)]
        else:
            found = [name for name in files if name.endswith(_MODEL_ENDINGS) and not name.endswith(_WEIGHTS_ENDINGS)]
        if len(found) > 1:
            raise SourceError(f"{folder}: which model is meant? It holds {', '.join(found)}: leave one of them there")
        if found:
            return str(folder / found[0].removesuffix(".index"))
    held = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    wanted = "a .weights.h5 file or a checkpoint" if is_weights else "a SavedModel or a .keras file"
    raise SourceError(f"{path}: wanted {wanted} in it or in its {SERVING_FOLDER}; it holds {held}")
