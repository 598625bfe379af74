"""A real Chromium, and pages in it that may not complain."""

import shutil
import urllib.parse

import pytest
from playing import PHOTO, give, playground, png
from playwright.sync_api import sync_playwright
from waiting import PATIENCE_S


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: scripts/install_system_packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens pages; in the end none has complained, been refused by its policy, or asked another address."""
    contexts, complaints = [], []

    def open_page(url, wait_until="load", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE_S)
        page = context.new_page()
        origin = "{0.scheme}://{0.netloc}/".format(urllib.parse.urlsplit(url))

        def hear(message):
            # What the server refuses is said by the page itself.
            if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
                complaints.append(message.text)

        def look(request):
            if not request.url.startswith((origin, f"blob:{origin}", "data:")):
                complaints.append(f"asked {request.url}")

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", look)
        page.goto(url, wait_until=wait_until)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def fake_url(shared_serving):
    with playground(shared_serving.rest_address, "model") as url:
        yield url


@pytest.fixture
def page(open_page, fake_url, serving):
    """The page before the fake server, whose probability is brightness, with a picture of waves on it."""
    page = open_page(fake_url)
    give(page, png(PHOTO))
    return page
