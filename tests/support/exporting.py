"""Exports for tests that need one, but are not about exporting."""

import os
from pathlib import Path

from maskport.export.exporter import Plan
from maskport.export.publish.versions import VersionWriter
from maskport.export.sources import adapt_keras_model
from maskport.export.spec import make_spec


def export_unchecked(model, output_dir, **fields):
    """Does what `export_model` does without its processes, which are most of what an export costs.

    What is written is not measured (no batching parameters, no movement of its answers) and not replayed: the golden
    answers are those of the graph in memory.
    """
    with VersionWriter(Path(output_dir)) as writer:
        fields = {"output_dir": os.fspath(output_dir), **fields}
        if isinstance(model, str | os.PathLike):
            plan = Plan.make(make_spec({"source": os.fspath(model), **fields}))
        else:
            spec = make_spec({"source": f"keras model {model.name}", **fields})
            plan = Plan.of_model(spec, adapt_keras_model(model, spec), "0" * 64)
        plan.write(writer.staging)
        return writer.publish(plan.spec.version, plan.spec.keep)
