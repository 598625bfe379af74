"""The playground's files: what browsers may do with them, and that they are all there."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import pytest
from maskport.serving.playground import site

FOLDER = Path(site.__file__).parent
FILES = sorted(file for file in FOLDER.rglob("*") if file.suffix in (".html", ".css", ".js", ".jpg", ".png", ".webp"))
COINS = "/playground/samples/coins.jpg"
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


def part(tag):
    """What stands between the tags of the page's only element of a kind."""
    (text,) = re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", answer("/").body.decode(), re.DOTALL)
    return text


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_nothing_but_its_own_may_run_or_be_asked():
    for path in ("/", COINS):
        headers = answer(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'", "script-src": hash_of(part("script")), "style-src": hash_of(part("style")),
            "img-src": "'self' blob: data:", "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
            "frame-ancestors": "'none'",
        }  # fmt: skip
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("path", ["/", COINS])
def test_what_is_unchanged_is_not_sent_again(path):
    first = answer(path)
    again = answer(path, {**BROWSER, "if-none-match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert answer(path, {**BROWSER, "if-none-match": '"another"'}).status == 200
    assert first.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/playground/../site.py", "/playground/site.py", "/playground/", "/style.css", "//", "/playground/style.css",
        "/playground/samples/", "/playground/samples/../style.css", "/playground/scripts/main.js",
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


def test_all_samples_are_there():
    samples = re.findall(r'(?:file|label): "([\w.]+)"', part("script"))
    assert len(samples) == len([file for file in FILES if file.parent.name == "samples"])
    for sample in samples:
        found = answer(f"/playground/samples/{sample}")
        assert (found.status, found.body) == (200, (FOLDER / "samples" / sample).read_bytes())


def test_the_page_asks_for_no_file_of_its_own():
    page = answer("/").body.decode()
    assert (FOLDER / "style.css").read_text() == part("style")
    assert not re.search(r'<link rel="(?!icon)|<script[^>]* src=|\{\{ \w+ \}\}|@import', page)


def test_the_script_is_all_modules_each_behind_those_that_it_imports():
    joined = part("script")
    modules = [file for file in FILES if file.suffix == ".js"]
    places = {file: joined.index(file.read_text().splitlines()[0]) for file in modules}  # each begins with what it is
    declared = []
    for file in modules:
        text = file.read_text()
        for imported in re.findall(r'from "(\.[^"]+)"', text):
            assert places[(file.parent / imported).resolve()] < places[file], (file, imported)
        declared += re.findall(r"^(?:export )?(?:async )?(?:class|const|function|let) (\w+)", text, re.MULTILINE)
    assert len(declared) == len(set(declared)) > 100  # so that none means another module's
    assert not re.search(r"^(?:import|export)\b|<!--|</script|import\.meta", joined, re.MULTILINE)
    assert not any(re.search(r"^import .*( as |\*)", file.read_text(), re.MULTILINE) for file in modules)
    assert len(re.sub(r"\s", "", joined)) > 0.9 * sum(len(re.sub(r"\s", "", file.read_text())) for file in modules)


def test_the_page_is_small_and_names_no_other_address():
    assert sum(file.stat().st_size for file in FILES) < 150_000
    for file in FILES:
        if file.suffix in (".html", ".css", ".js"):
            addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^'\" ]*", file.read_text()))
            assert addresses <= {"http://www.w3.org/2000/svg"}, file
            assert len(file.read_text().splitlines()) <= 350
