"""An inspection as one HTML file that needs nothing else: no script, no font, no other address.

Everything that comes from an export or a file's name is text, never markup.
"""

import base64
import html
from collections.abc import Iterable, Mapping

from ..line_chart import Line, Mark, draw_line_chart
from .calls import CURL, GRPCURL, PROTOSET, PYTHON, WAYS
from .facts import milliseconds, size_text, spec_lines, summary, title
from .inspection import Inspection
from .pictures import THRESHOLDS, PictureReport, Shown

_WAY_TITLES = {CURL: "curl", PYTHON: "Python", GRPCURL: "grpcurl"}
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --dim: #59636e; --line: #d8dee4; --soft: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e6edf3; --dim: #9aa4af; --line: #343b44; --soft: #1e2329; }
}
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 76rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; font-weight: 650; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; font-weight: 650; margin: 2.75rem 0 .75rem; }
p { color: var(--dim); margin: .25rem 0 .9rem; }
.grid { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); }
figure { margin: 0; }
figure img { background: repeating-conic-gradient(#8883 0 25%, #8881 0 50%) 0 0 / 1.2rem 1.2rem;
  border: 1px solid var(--line); border-radius: 6px; display: block; width: 100%; }
figcaption { color: var(--dim); font-size: .9rem; margin-top: .35rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; min-width: 60%; }
th, td { border-top: 1px solid var(--line); padding: .4rem 1.25rem .4rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; }
tbody th { white-space: nowrap; }
td { overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
code, pre { font: .87rem/1.45 ui-monospace, monospace; }
code { white-space: nowrap; }
.tensor { display: block; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; margin: .3rem 0 1rem;
  overflow-x: auto; padding: .75rem 1rem; }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
summary:focus-visible { outline: 2px solid #0072b2; outline-offset: 3px; }
h3 { color: var(--dim); font-size: .85rem; font-weight: 600; margin: .8rem 0 0; }
"""


def format_page(inspection: Inspection) -> str:
    """Returns the whole page."""
    name = html.escape(title(inspection))
    sections = [
        f"<h1>{name}</h1>",
        _rows(summary(inspection)),
        *(_pictures(inspection.picture, inspection) if inspection.picture else []),
        *_signatures(inspection),
        *_calls(inspection),
        *_spec(inspection),
        *_files(inspection.file_sizes),
    ]
    # Were something to slip through after all, it could neither run nor fetch anything.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _rows(rows: Mapping[str, str]) -> str:
    cells = "\n".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items()
    )
    return f'<div class="wide"><table><tbody>\n{cells}\n</tbody></table></div>'


def _pictures(report: PictureReport, inspection: Inspection) -> Iterable[str]:
    yield "<h2>What it makes of a picture</h2>"
    share = f" {100 * report.share:.1f} % of it is foreground." if report.share is not None else ""
    yield f"<p>{html.escape(report.name)}, {report.height} × {report.width} pixels.{share}</p>"
    yield f'<div class="grid">{"".join(map(_figure, report.shown))}</div>'
    yield "<h2>What the threshold does to it</h2>"
    if report.shares is None or inspection.record is None:
        yield "<p>The export has no signature for probabilities, so the curve cannot be drawn.</p>"
        return
    threshold = inspection.record.threshold
    yield "<p>The share of the picture that is foreground, at every threshold.</p>"
    yield '<div class="wide">'
    yield draw_line_chart(
        f"Share of foreground against threshold; the export's threshold is {threshold:g}",
        "share of foreground",
        [Line("share of foreground", THRESHOLDS, report.shares)],
        [Mark(threshold, f"this export: {threshold:g}")],
    )
    yield "</div>"


def _figure(shown: Shown) -> str:
    data = base64.b64encode(shown.data).decode()
    caption = html.escape(shown.title)
    return (
        f'<figure><img src="data:{shown.media_type};base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _signatures(inspection: Inspection) -> Iterable[str]:
    yield "<h2>Signatures</h2>"
    if inspection.timed:
        yield f"<p>Times: {html.escape(inspection.timed)}.</p>"
    time_head = "<th>time</th>" if inspection.timed else ""
    yield f'<div class="wide"><table><thead><tr><th>signature</th><th>takes</th><th>gives</th>{time_head}</tr></thead>'
    for name, form in inspection.signatures.items():
        cells = [
            "".join(
                f'<code class="tensor">{html.escape(tensor)}: {html.escape(str(shape))}</code>'
                for tensor, shape in tensors.items()
            )
            for tensors in (form.inputs, form.outputs)
        ]
        time = milliseconds(inspection.seconds[name]) if name in inspection.seconds else ""
        time_cell = f'<td class="number">{time}</td>' if inspection.timed else ""
        yield (f"<tr><th><code>{html.escape(name)}</code></th><td>{cells[0]}</td><td>{cells[1]}</td>{time_cell}</tr>")
    yield "</table></div>"


def _calls(inspection: Inspection) -> Iterable[str]:
    if not inspection.calls:
        return
    yield "<h2>Calls</h2>"
    yield (
        "<p>To be pasted as they are, once the model is served. grpcurl needs the messages' definitions: "
        f"<code>mask-inspect --protoset={PROTOSET}</code> writes them.</p>"
    )
    for name, calls in inspection.calls.items():
        blocks = "".join(f"<h3>{_WAY_TITLES[way]}</h3><pre>{html.escape(calls[way])}</pre>" for way in WAYS)
        yield f"<details><summary><code>{html.escape(name)}</code></summary>{blocks}</details>"


def _spec(inspection: Inspection) -> Iterable[str]:
    if inspection.record is not None:
        yield "<h2>Spec</h2>"
        yield _rows(spec_lines(inspection.record))


def _files(file_sizes: Mapping[str, int]) -> Iterable[str]:
    yield "<h2>Files</h2>"
    yield _rows({name: size_text(size) for name, size in file_sizes.items()})
