"""`export_model`, which says what can be said before TensorFlow and Keras are imported."""

import os
from pathlib import Path
from typing import Any

from .errors import SpecError
from .publish.versions import VersionWriter
from .sources.preflight import check_keras_backend, check_source
from .spec import ExportSpec, make_spec


def check_export(spec: ExportSpec) -> None:
    """Makes sure, without TensorFlow, that a spec's source is there and its `output_dir` writable; else ExportError."""
    if "://" not in spec.output_dir:
        with VersionWriter(Path(spec.output_dir)) as writer:
            if spec.version is not None:
                writer.check_free(spec.version)
    check_source(spec)


def export_model(model: Any, output_dir: str | os.PathLike[str], **spec_fields: Any) -> Path | str:
    """Exports a segmentation model as a version directory that TensorFlow Serving can load.

    Args:
        model: path of a source (a Keras, ONNX or TensorFlow Lite file, a frozen graph, a TensorFlow.js model, a
            SavedModel directory), `package.module:function`, or a `keras.Model` in memory.
        output_dir: the served model's base path, or a URL that tf.io.gfile knows; the version directory goes into it.
        **spec_fields: fields of `ExportSpec`, such as `scaling="unit"` or `threshold=0.4`.

    Returns:
        The published version directory; a text where `output_dir` is a URL.

    Raises:
        ExportError: whatever is wrong, in one line; nothing is published then.
    """
    fields = {"output_dir": os.fspath(output_dir), **spec_fields}
    if isinstance(model, str | os.PathLike):
        spec = make_spec({"source": os.fspath(model), **fields})
        check_export(spec)
        from .exporter import export_spec

        return export_spec(spec)
    if not hasattr(model, "get_weights"):
        raise SpecError(f"source: a path or a keras.Model is wanted, got {type(model).__name__}")
    check_keras_backend()
    from .exporter import export_keras_model

    return export_keras_model(model, make_spec({"source": f"keras model {model.name}", **fields}))
