"""The site of the documentation: it builds strictly, holds every page, and loads nothing from elsewhere."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page loads, and where it links to."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.links, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag in LOADS and attributes.get(LOADS[tag]) and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(attributes[LOADS[tag]])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run([ROOT / "scripts/docs", f"--output={folder}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_the_documentation_is_there_and_found_in_the_menu(site):
    menu = set(re.findall(r'"([^"]+\.md)"', (ROOT / "zensical.toml").read_text()))
    written = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")}
    assert written <= menu
    for page in menu:
        name = page.removesuffix(".md").replace("README", "index")
        assert (site / f"{name}.html").exists(), page


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, (path, address)
            if path.name != "404.html":  # its addresses are of wherever the site stands
                assert (path.parent / unquote(urlsplit(address).path)).exists(), (path, address)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text()), sheet


def test_links_between_the_pages_lead_somewhere(pages):
    for path, page in pages.items():
        for address in page.links if path.name != "404.html" else ():
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), (path, address)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, (path, address)
