"""What there is to tell about an inspection, in words that the terminal and the page share."""

import json
from collections.abc import Mapping

from .inspection import Inspection
from .record import ExportRecord


def title(inspection: Inspection) -> str:
    """Returns the model's name and version."""
    version = inspection.directory.version
    return inspection.directory.model_name + (f", version {version}" if version is not None else "")


def summary(inspection: Inspection) -> dict[str, str]:
    """Returns what the model is, by heading."""
    facts = {"directory": str(inspection.directory.path)}
    record = inspection.record
    if record is None:
        facts["exported"] = "not by maskport, so its meaning, example calls and times are not known"
    else:
        facts |= _of_record(record)
    facts["parameters"] = f"{inspection.parameters:,}"
    facts["on disk"] = _sizes(inspection.file_sizes)
    return facts


def _of_record(record: ExportRecord) -> dict[str, str]:
    model = record.model
    size = f"{model.size[0]}×{model.size[1]} pixels (height × width)" if model.size else "the picture's own size"
    batch = f", in batches of {model.batch}" if model.batch else ""
    channels = {1: "gray", 3: "RGB", 4: "RGBA"}[model.channels]
    return {
        "exported": f"by maskport {record.maskport_version} from {record.source.name} "
        f"(SHA-256 {record.source.sha256[:16]}…)",
        "model": record.source.description,
        "runs on": f"{channels} at {size}{batch}",
        **_map(record),
        "mask": _mask(record),
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(record.classes or [])) or "not named",
        "its own answers": _reproducibility(record),
        "made with": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }


def _map(record: ExportRecord) -> dict[str, str]:
    found = record.probe.map
    if found is None:
        return {}
    borders = [f"{axis.before:g} and {axis.after:g}" for axis in (found.rows, found.columns)]
    runs = found.rows.runs * found.columns.runs
    again = f", in {runs} runs of the model" if runs > 1 else ""
    return {
        "map": f"lacks a border (rows {borders[0]}, columns {borders[1]} pixels): pictures are continued by "
        f"reflection{again}"
    }


def _mask(record: ExportRecord) -> str:
    channels = record.foreground.channels
    names = [record.classes[index] if record.classes else f"channel {index}" for index in channels]
    joined = f" ({record.foreground.combined_by} of them)" if len(channels) > 1 else ""
    return f"{', '.join(names)}{joined}, where the probability is above {record.threshold:g}"


def _reproducibility(record: ExportRecord) -> str:
    found = record.reproducibility
    other = "" if found.other_onednn is None else f", by {found.other_onednn:g} with oneDNN switched over"
    return (
        f"move by {found.plain:g} between TensorFlow's plain and its optimized graph{other}; "
        f"{found.tolerance:g} is tolerated"
    )


def _sizes(file_sizes: Mapping[str, int]) -> str:
    groups: dict[str, int] = {}
    for name, size in file_sizes.items():
        groups[name.partition("/")[0]] = groups.get(name.partition("/")[0], 0) + size
    parts = ", ".join(f"{name} {size_text(size)}" for name, size in sorted(groups.items(), key=lambda item: -item[1]))
    return f"{size_text(sum(file_sizes.values()))} in {len(file_sizes)} files: {parts}"


def size_text(count: int) -> str:
    """Returns a number of bytes for people."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def spec_lines(record: ExportRecord) -> dict[str, str]:
    """Returns the fields of the spec as JSON, by name."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in record.spec.items()}


def milliseconds(seconds: float) -> str:
    """Returns a time for people."""
    return f"{1000 * seconds:.1f} ms"
