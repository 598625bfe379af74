"""An inspection for the terminal: plain text, so that calls can be copied and lines searched."""

from collections.abc import Collection

from .calls import CURL, GRPCURL, PYTHON, WAYS
from .facts import milliseconds, spec_lines, summary, title
from .inspection import Inspection

_WAY_TITLES = {CURL: "curl", PYTHON: "Python", GRPCURL: "grpcurl"}


def format_inspection(inspection: Inspection, calls_of: Collection[str] | None = None) -> str:
    """Returns all of it. What does not print, such as a name's escape sequence, is replaced.

    Args:
        inspection: to be told.
        calls_of: the signatures whose example calls are wanted; None for all.
    """
    chosen = {name: calls for name, calls in inspection.calls.items() if calls_of is None or name in calls_of}
    parts = [
        title(inspection),
        _aligned(summary(inspection)),
        "",
        *_signatures(inspection),
    ]
    if inspection.record is not None:
        parts += ["", "spec", _aligned(spec_lines(inspection.record))]
    if chosen:
        parts += ["", "calls (grpcurl needs --protoset=FILE of this command first)"]
    for name, calls in chosen.items():
        for way in WAYS:
            parts += ["", f"# {name}, {_WAY_TITLES[way]}", calls[way]]
    return _printable("\n".join(parts))


def _aligned(rows: dict[str, str]) -> str:
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


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
