"""The files of the page, as browsers get them: whichever server shows it, nothing of it may do more than it says.

The page has no script but its own, asks no other address than its own, and may stand in no other page.
"""

import dataclasses
import functools
import graphlib
import hashlib
import html
import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PREFIX = "/playground/"
"""Where the files are; the page itself is `/`."""
_PAGE = "index.html"
_SCRIPT = "playground.js"
_SERVED = "{{ served }}"  # in the page
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".webp": "image/webp",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_IMPORT = re.compile(r'^import \{[^}]+\} from "([^"]+)";\n+', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async|class|const|function)", re.MULTILINE)
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Asked for again each time, and answered by 304: a new release shows at once.
_CHANGES = "no-cache"
# The page names its files below a folder of its release's own, where they never change: they are asked for once.
_STAYS = "max-age=31536000, immutable"


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
    """Answers a GET request for the page or one of its files.

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
        page = _files()[_PAGE].decode().replace(PREFIX, f"{PREFIX}{_release()}/").replace(_SERVED, served)
        return _answer(page.encode(), _CONTENT_TYPES[".html"], headers)
    if not path.startswith(PREFIX):
        return None
    named = path.removeprefix(PREFIX)
    name = named.removeprefix(f"{_release()}/")
    found = _files().get(name)
    if found is None:
        return None
    return _answer(found, _CONTENT_TYPES[Path(name).suffix], headers, _CHANGES if name == named else _STAYS)


def _answer(body: bytes, content_type: str, asked: Mapping[str, str], cache: str = _CHANGES) -> Answer:
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = {**_HEADERS, "Cache-Control": cache, "ETag": tag, "Vary": "Accept"}
    if tag in asked.get("if-none-match", ""):
        return Answer(304, headers, b"")
    return Answer(200, {**headers, "Content-Type": content_type}, body)


@functools.cache
def _files() -> Mapping[str, bytes]:
    """Returns the page's files by their paths below `PREFIX`."""
    folder = Path(__file__).parent
    files = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.suffix in _CONTENT_TYPES
    }
    modules = {name: files.pop(name).decode() for name in list(files) if name.endswith(".js")}
    return {**files, _SCRIPT: _joined(modules).encode()}


def _joined(modules: Mapping[str, str]) -> str:
    """Returns ES modules as one, each after those that it imports.

    Asked for one by one, they took two thirds of the time until the page was ready. They import by the names that are
    exported, and no two of them name a thing alike, so without these lines they say the same.
    """
    imported = {
        name: [posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) for path in _IMPORT.findall(text)]
        for name, text in modules.items()
    }
    ordered = graphlib.TopologicalSorter(imported).static_order()
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", modules[name])) for name in ordered)


@functools.cache
def _release() -> str:
    """Returns a name of all the files' contents."""
    return hashlib.sha256(b"".join(_files().values())).hexdigest()[:16]
