"""The playground's files: what browsers may do with them, and that they are all there."""

import html
import json
import re
from pathlib import Path

import pytest
from maskport.serving.playground import site

FOLDER = Path(site.__file__).parent
FILES = sorted(file for file in FOLDER.rglob("*") if file.suffix in (".html", ".css", ".js", ".jpg", ".png", ".webp"))
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def answer(path, headers=BROWSER):
    return site.answer(path, headers, lambda: site.Served("a server", ["one", "two"], version=3))


def test_the_page_is_for_browsers_alone():
    page = answer("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<!doctype html>" in page.body
    for accept in ({}, {"accept": "*/*"}, {"accept": "application/json"}):  # curl, and programs
        assert answer("/", accept) is None


def test_nothing_but_its_own_may_run_or_be_asked():
    for path in ("/", "/playground/playground.js"):
        headers = answer(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob: data:",
            "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        }  # fmt: skip
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_an_unchanged_file_is_not_sent_again():
    first = answer("/playground/style.css")
    again = answer("/playground/style.css", {"if-none-match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert answer("/playground/style.css", {"if-none-match": '"another"'}).status == 200
    assert first.headers["Cache-Control"] == "no-cache"


def test_what_the_page_names_is_kept_and_is_of_its_release(monkeypatch):
    named = re.findall(r'(?:href|src)="(/playground/[^"]+)"', answer("/").body.decode())
    assert len(named) == 2
    for path in named:
        kept = answer(path)
        name = re.fullmatch(r"/playground/[0-9a-f]{16}/(.+)", path)[1]
        assert kept.body == answer(f"/playground/{name}").body
        assert kept.headers["Cache-Control"] == "max-age=31536000, immutable"
    assert answer("/playground/style.css").body == (FOLDER / "style.css").read_bytes()
    assert answer("/").headers["Cache-Control"] == "no-cache"
    asked_before = named[0]
    monkeypatch.setattr(site, "_files", lambda: {"index.html": b"", "style.css": b"another release's"})
    site._release.cache_clear()
    assert answer(asked_before) is None  # rather than another release's file, which would be kept for it
    monkeypatch.undo()
    site._release.cache_clear()


@pytest.mark.parametrize(
    "path",
    [
        "/playground/../site.py", "/playground/site.py", "/playground/", "/style.css", "//",
        "/playground/0123456789abcdef/style.css", "/playground/scripts/main.js",
    ],
)  # fmt: skip
def test_no_other_path_is_the_pages(path):
    assert answer(path) is None


def test_what_rest_does_not_tell_is_told():
    hostile = ["one", "\"'><script>alert(1)</script>&amp;"]
    page = site.answer("/", BROWSER, lambda: site.Served("a server", hostile, version=3)).body.decode()
    (told,) = re.findall(r'<meta name="served" content="([^"<>]*)">', page)
    assert json.loads(html.unescape(told)) == {
        "server": "a server", "models": hostile, "version": 3, "label": None, "address": None, "needs_token": False,
    }  # fmt: skip


def test_all_that_is_named_is_there():
    for path in re.findall(r'(?:href|src)="(/playground/[^"]+)"', (FOLDER / "index.html").read_text()):
        assert answer(path).status == 200
    script = answer("/playground/playground.js").body.decode()
    samples = re.findall(r'(?:file|label): "([\w.]+)"', script)
    assert len(samples) == len([file for file in FILES if file.parent.name == "samples"])
    for sample in samples:
        assert answer(f"/playground/samples/{sample}").status == 200


def test_the_script_is_all_modules_each_behind_those_that_it_imports():
    joined = answer("/playground/playground.js").body.decode()
    modules = [file for file in FILES if file.suffix == ".js"]
    places = {file: joined.index(file.read_text().splitlines()[0]) for file in modules}  # each begins with what it is
    declared = []
    for file in modules:
        text = file.read_text()
        for imported in re.findall(r'from "(\.[^"]+)"', text):
            assert places[(file.parent / imported).resolve()] < places[file], (file, imported)
        declared += re.findall(r"^(?:export )?(?:async )?(?:class|const|function|let) (\w+)", text, re.MULTILINE)
    assert len(declared) == len(set(declared)) > 100  # so that none means another module's
    assert not re.search(r"^(?:import|export)\b", joined, re.MULTILINE)
    assert len(re.sub(r"\s", "", joined)) > 0.9 * sum(len(re.sub(r"\s", "", file.read_text())) for file in modules)


def test_the_page_is_small_and_names_no_other_address():
    assert sum(file.stat().st_size for file in FILES) < 150_000
    for file in FILES:
        if file.suffix in (".html", ".css", ".js"):
            addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^'\" ]*", file.read_text()))
            assert addresses <= {"http://www.w3.org/2000/svg"}, file
            assert len(file.read_text().splitlines()) <= 350
