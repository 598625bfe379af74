"""What there is to tell about an inspection, and all of it as plain text, so that calls can be copied and searched."""

import json
from collections import Counter
from collections.abc import Collection, Mapping

from .calls import CURL, GRPCURL, PYTHON
from .inspection import Inspection
from .record import ExportRecord

WAY_TITLES = {CURL: "curl", PYTHON: "Python", GRPCURL: "grpcurl"}


def format_inspection(inspection: Inspection, calls_of: Collection[str] | None = None) -> str:
    """Returns all of it. What does not print, such as a name's escape sequence, is replaced.

    Args:
        inspection: to be told.
        calls_of: the signatures whose example calls are wanted; None for all.
    """
    chosen = {name: calls for name, calls in inspection.calls.items() if calls_of is None or name in calls_of}
    parts = [title(inspection), _aligned(summary(inspection)), "", *_signatures(inspection)]
    if inspection.record is not None:
        parts += ["", "spec", _aligned(spec_lines(inspection.record))]
    if chosen:
        parts += ["", "calls (grpcurl needs --protoset=FILE of this command first)"]
    for name, calls in chosen.items():
        for way, call in calls.items():
            parts += ["", f"# {name}, {WAY_TITLES[way]}", call]
    text = "\n".join(parts)
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _aligned(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def _signatures(inspection: Inspection) -> list[str]:
    timed = f" (times: {inspection.timed})" if inspection.timed else ""
    lines = [f"signatures{timed}"]
    tensors = [tensor for form in inspection.signatures.values() for tensor in (*form.inputs, *form.outputs)]
    width = max(map(len, tensors), default=0)
    for name, form in inspection.signatures.items():
        time = milliseconds(inspection.seconds[name]) if name in inspection.seconds else ""
        lines.append(f"  {name:<32}{time:>12}".rstrip())
        lines += [f"    in   {tensor:<{width}}  {shape}" for tensor, shape in form.inputs.items()]
        lines += [f"    out  {tensor:<{width}}  {shape}" for tensor, shape in form.outputs.items()]
    return lines


def title(inspection: Inspection) -> str:
    """Returns the model's name and version."""
    version = inspection.directory.version
    return inspection.directory.model_name + (f", version {version}" if version is not None else "")


def summary(inspection: Inspection) -> dict[str, str]:
    """Returns what the model is, by heading."""
    exported = {"exported": "not by maskport, so its meaning, example calls and times are not known"}
    sizes: Counter[str] = Counter()
    for name, size in inspection.file_sizes.items():
        sizes[name.partition("/")[0]] += size
    parts = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.most_common())
    return {
        "directory": str(inspection.directory.path),
        **(_of_record(inspection.record) if inspection.record is not None else exported),
        "parameters": f"{inspection.parameters:,}",
        "on disk": f"{size_text(sizes.total())} in {len(inspection.file_sizes)} files: {parts}",
    }


def _of_record(record: ExportRecord) -> dict[str, str]:
    model, source, moves = record.model, record.source, record.reproducibility
    size = f"{model.size[0]}×{model.size[1]} pixels (height × width)" if model.size else "the picture's own size"
    if sides := record.sides:
        size = f"the picture's own shape at {sides}"
    batch = f", in batches of {model.batch}" if model.batch else ""
    channels = {1: "gray", 3: "RGB", 4: "RGBA"}.get(model.channels, f"{model.channels} bands")
    foreground = [record.classes[at] if record.classes else f"channel {at}" for at in record.foreground.channels]
    joined = f" ({record.foreground.combined_by} of them)" if len(foreground) > 1 else ""
    other = "" if moves.other_onednn is None else f", by {moves.other_onednn:g} with oneDNN switched over"
    return {
        "exported": f"by maskport {record.maskport_version} from {source.name} (SHA-256 {source.sha256[:16]}…)",
        "model": source.description,
        "runs on": f"{channels} at {size}{batch}",
        **_map(record),
        "mask": f"{', '.join(foreground)}{joined}, where the probability is above {record.threshold:g}",
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(record.classes or [])) or "not named",
        "its own answers": f"move by {moves.plain:g} between TensorFlow's plain and its optimized graph{other}; "
        f"{moves.tolerance:g} is tolerated",
        **_compared(record),
        "made with": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }


def _map(record: ExportRecord) -> dict[str, str]:
    found = record.probe.map
    if found is None:
        return {}
    axes = (found.rows, found.columns)
    if min(axis.before for axis in axes) < 0:
        return {"map": "its outermost pixels lie on those of the input (corners)"}
    borders = [f"{axis.before:g} and {axis.after:g}" for axis in axes]
    runs = axes[0].runs * axes[1].runs
    again = f", in {runs} runs of the model" if runs > 1 else ""
    return {
        "map": f"lacks a border (rows {borders[0]}, columns {borders[1]} pixels): pictures are continued by "
        f"reflection{again}"
    }


def _compared(record: ExportRecord) -> dict[str, str]:
    found = record.probe.compared
    if found is None:
        return {}
    return {
        "compared": f"with {found.reference}, whose answers differ by {found.largest:.2g} at most, of a range of "
        f"{found.answers_range:.3g}"
    }


def size_text(count: int) -> str:
    """Returns a number of bytes for people."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def spec_lines(record: ExportRecord | None) -> dict[str, str]:
    """Returns the fields of the spec as JSON, by name."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in record.spec.items()} if record else {}


def milliseconds(seconds: float) -> str:
    """Returns a time for people."""
    return f"{1000 * seconds:.1f} ms"
