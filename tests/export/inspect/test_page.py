"""The page: its structure, and that nothing in it is markup but what the page itself wrote."""

import base64
import dataclasses
import html.parser
import io
import re

import pytest
from maskport.export.inspect import format_page, inspect_version
from PIL import Image

VOID = {"meta", "img"}
SVG_ELEMENTS = {"path", "rect", "use", "g"}


class Page(html.parser.HTMLParser):
    """Reads a page, and insists that every element is closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in SVG_ELEMENTS
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append((self.open[-1] if self.open else "", text))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text_in(self, tag):
        return [text.strip() for name, text in self.texts if name == tag and text.strip()]


@pytest.fixture(scope="module")
def page(inspection):
    return Page(format_page(inspection))


def test_the_page_needs_nothing_else(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert not {"script", "link", "iframe", "object", "form"} & {name for name, _ in page.elements}
    assert not re.search(r"url\(|@import", " ".join(page.text_in("style")))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_the_page_has_a_dark_form_and_one_for_paper(page):
    (style,) = (text for text in page.text_in("style") if ":root" in text)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_four_pictures_stand_in_it_with_their_titles(page, inspection):
    pictures = page.all("img")
    assert [picture["alt"] for picture in pictures] == [shown.title for shown in inspection.picture.shown]
    for picture, shown in zip(pictures, inspection.picture.shown, strict=True):
        kind, _, data = picture["src"].removeprefix("data:").partition(";base64,")
        assert base64.b64decode(data) == shown.data
        assert Image.open(io.BytesIO(shown.data)).get_format_mimetype() == kind
    assert page.text_in("figcaption") == [shown.title for shown in inspection.picture.shown]


def test_the_curve_marks_the_exports_threshold(page):
    assert "this export: 0.4" in page.text_in("text")
    assert [group["id"] for group in page.all("g") if group["id"].startswith("line-")] == ["line-0"]
    assert any("chart" in svg["class"] for svg in page.all("svg"))


def test_every_signature_has_its_row_its_time_and_its_calls(page, inspection):
    rows = page.text_in("code")
    for name, form in inspection.signatures.items():
        assert name in rows
        for tensor, shape in (*form.inputs.items(), *form.outputs.items()):
            assert f"{tensor}: {shape}" in rows
    assert len([text for text in page.text_in("td") if text.endswith(" ms")]) == len(inspection.signatures)
    blocks = page.text_in("pre")
    assert blocks == [call for calls in inspection.calls.values() for call in calls.values()]


def test_names_from_the_export_are_text(page):
    cells = page.text_in("td")
    assert "0 sky, 1 <b>cat</b>, 2 sea & shore" in cells
    assert "<b>cat</b>, where the probability is above 0.4" in cells
    assert not page.all("b")


def test_a_hostile_model_name_stays_a_name(inspection):
    name = "</title><script>alert(1)</script>\"'&"
    directory = dataclasses.replace(inspection.directory, model_name=name)
    picture = dataclasses.replace(inspection.picture, name="<img src=x onerror=alert(1)>")
    page = Page(format_page(dataclasses.replace(inspection, directory=directory, picture=picture)))
    assert page.text_in("h1") == [f"{name}, version 1"]
    assert page.text_in("title")[0] == f"{name}, version 1"
    assert not page.all("script")
    assert any(text.startswith("<img src=x onerror=alert(1)>, 90 × 120 pixels. ") for text in page.text_in("p"))


def test_what_is_not_there_leaves_no_gap(medical, foreign):
    page = Page(format_page(inspect_version(medical.path, runs=0, with_picture=True)))
    assert "The export has no signature for probabilities, so the curve cannot be drawn." in page.text_in("p")
    assert "time" not in page.text_in("th")
    page = Page(format_page(inspect_version(foreign, with_picture=True)))
    assert page.text_in("h2") == ["Signatures", "Files"]
    assert not page.all("img")
