"""The playground for tests: its page before any server, and what people do with it."""

import contextlib
import io
import threading

import numpy as np
from fake_serving import probability_of
from maskport.serving.client import NO_RETRIES, MaskClient
from maskport.serving.client.commands.playground_command import PlaygroundServer
from maskport.serving.playground.site import Served
from PIL import Image


@contextlib.contextmanager
def playground(address, *models, **told):
    """The page before a server at an address, as `mask-client playground` shows it: gives its URL."""

    def connect(target):
        return MaskClient(address, target.model, target.version, target.label, retries=NO_RETRIES)

    with PlaygroundServer(0, Served(address, models, address=address, **told), connect) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def png(array, name="photo.png", **options):
    """A file as a browser's input takes it."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def waves(height, width):
    """A smooth picture whose corners all differ: uint8 [height, width, 3]."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    channels = (0.5 + 0.5 * np.sin(9 * x + 5 * y), x * y, 0.5 + 0.5 * np.cos(7 * y - 3 * x))
    return np.rint(255 * np.stack(channels, -1)).astype(np.uint8)


PHOTO = waves(60, 84)
BRIGHT = probability_of(Image.fromarray(PHOTO)) * 65535
"""The fake server's probability of it, of 16 bits before rounding."""


def bright(threshold):
    """Its mask."""
    return threshold * 65535 < BRIGHT


def exactly(mask):
    return f"{np.count_nonzero(mask):,} pixels"


ANSWERED = """() => document.querySelector("#panel:not([hidden], [inert])") && document.querySelector("#busy").hidden
    && /good|off/.test(document.querySelector("#check").className)"""


def wait_for_answer(page):
    """Waits until what is shown has been answered and checked; returns what the page says of the check."""
    page.wait_for_function(ANSWERED)
    return page.inner_text("#check")


def give(page, *files, label=False):
    """Chooses a photograph (or a labelled mask), and waits for its answer."""
    page.set_input_files("#label-file" if label else "#file", list(files))
    return wait_for_answer(page)


def choose_view(page, name):
    page.locator(f"#view-{name}").check()
    title = page.inner_text(f"label[for=view-{name}]")
    page.wait_for_selector(f"#result-tag:text-is('{title}')")


def move_threshold(page, threshold):
    """Moves the slider, and waits for the check."""
    page.locator("#threshold").fill(str(threshold))
    return wait_for_answer(page)


def downloaded(page):
    """The picture that the download button gives, and its name."""
    with page.expect_download() as download:
        page.click("#download")
    with Image.open(download.value.path()) as picture:
        picture.load()
        return picture, download.value.suggested_filename
