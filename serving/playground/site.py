"""The page and its samples, as browsers get them: whichever server shows it, nothing of it may do more than it says.

The page has no script but its own, asks no other address than its own, and may stand in no other page.
"""

import base64
import dataclasses
import functools
import graphlib
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SAMPLES = "/playground/samples/"
_CONTENT_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_SERVED, _STYLE, _SCRIPT = "{{ served }}", "{{ style }}", "{{ script }}"
"""What stands in the page for what is put into it."""
_IMPORT = re.compile(r'^import \{[^}]+\} from "([^"]+)";\n+', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async|class|const|function)", re.MULTILINE)
_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Served:
    """What the page cannot learn from the REST API.

    Attributes:
        server: who answers, in words.
        models: names of the models; empty where they are not known, and the page asks.
        version: the one version to call; None leaves the choice to the page.
        label: a label to call in its place.
        address: where clients find the server; None is where the page is.
        needs_token: whether calls carry a secret, which the page is not told.
    """

    server: str
    models: Sequence[str] = ()
    version: int | None = None
    label: str | None = None
    address: str | None = None
    needs_token: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def answer(path: str, headers: Mapping[str, str], describe: Callable[[], Served]) -> Answer | None:
    """Answers a GET request for the page or one of its samples.

    Args:
        path: of the URL, without a query.
        headers: of the request, by lower-case name.
        describe: what the page is told of the server, asked for with each look at it.

    Returns:
        None where the path is none of the page's. `/` is the page's for browsers only, which accept HTML by name:
        what TensorFlow Serving answers to others there is not changed.
    """
    if path == "/":
        if "text/html" not in headers.get("accept", ""):
            return None
        served = html.escape(json.dumps(dataclasses.asdict(describe())))
        return _answer(_page().replace(_SERVED, served).encode(), "text/html; charset=utf-8", headers)
    sample = _samples().get(path) if path.startswith(_SAMPLES) else None  # other requests touch no file
    return None if sample is None else _answer(sample, _CONTENT_TYPES[Path(path).suffix], headers)


def _answer(body: bytes, content_type: str, asked: Mapping[str, str]) -> Answer:
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    # Asked for again each time, and answered by 304: a new release shows at once.
    headers = {**_headers(), "Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept"}
    if tag in asked.get("if-none-match", ""):
        return Answer(304, headers, b"")
    return Answer(200, {**headers, "Content-Type": content_type}, body)


@functools.cache
def _headers() -> Mapping[str, str]:
    policy = {
        "default-src": "'none'",
        "script-src": _hash(_script()),
        "style-src": _hash(_style()),
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _page() -> str:
    """Returns the page with its style and its script in it.

    Asked for by themselves, one by one as modules are, these took a third of the time until the page was ready.
    """
    page = (_FOLDER / "index.html").read_text(encoding="utf-8")
    return page.replace(_STYLE, _style()).replace(_SCRIPT, _script())


@functools.cache
def _style() -> str:
    return (_FOLDER / "style.css").read_text(encoding="utf-8")


@functools.cache
def _script() -> str:
    """Returns the scripts, which are ES modules, as one, each after those that it imports.

    They import by the names that are exported, and no two of them name a thing alike, so without these lines they say
    the same.
    """
    folder = _FOLDER / "scripts"
    modules = {file: file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*.js"))}
    imported = {
        file: [Path(os.path.normpath(file.parent / path)) for path in _IMPORT.findall(text)]
        for file, text in modules.items()
    }
    ordered = graphlib.TopologicalSorter(imported).static_order()
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", modules[file])) for file in ordered)


@functools.cache
def _samples() -> Mapping[str, bytes]:
    """Returns the pictures by their paths in URLs."""
    files = (_FOLDER / "samples").iterdir()
    return {f"{_SAMPLES}{file.name}": file.read_bytes() for file in files if file.suffix in _CONTENT_TYPES}
