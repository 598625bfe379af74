"""The page before the embedded server: its masks are the product's own, whatever the picture; looks and speed."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import toy_models
from axe_playwright_python.sync_playwright import Axe
from exporting import export_unchecked
from maskport.serving.client import MaskClient
from maskport.serving.server.fronts.rest_front import RestSettings
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.models.versions import ModelSettings
from maskport.serving.server.server import ANY_PORT, ModelServer, ServerSettings
from PIL import Image
from playing import PHOTO, choose_view, downloaded, exactly, give, move_threshold, png, wait_for_answer, waves
from waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]
ARTEFACTS = ROOT / "test_output"


@pytest.fixture(scope="module")
def real(coins_export, tmp_path_factory):
    """The embedded server with the demo model, and one of a fixed size with classes, cleaning and no background."""
    folder = tmp_path_factory.mktemp("playground") / "scenes"
    network = toy_models.keras_model(reference.Toy.make(3, 3, seed=4, gain=6.0), size=(64, 64))
    wanted = [
        "mask_png",
        "mask_png_at_threshold",
        "masked_image_png",
        "probability_png",
        "class_map_png",
        "export_info",
    ]
    export_unchecked(
        network, folder, signatures=wanted, scaling="unit", activation="softmax", classes=["ground", "tree", "car"],
        foreground=["tree", "car"], threshold=0.435, clean={"open": 1, "close": 2}, background="transparent",
    )  # fmt: skip
    models = [ModelSettings("coins", str(coins_export)), ModelSettings("scenes", str(folder))]
    settings = ServerSettings(
        grpc_port=ANY_PORT, rest_port=ANY_PORT, drain_timeout_s=2, rest=RestSettings(timeout_s=None),
        load=LoadSettings(warms_up=False),
    )  # fmt: skip
    server = ModelServer(models, settings)
    server.start()
    yield f"http://127.0.0.1:{server.rest_port}"
    server.stop()


def test_a_sample_shows_the_mask_that_the_product_answers_and_so_does_each_threshold(open_page, real, tmp_path):
    page = open_page(real)
    page.get_by_role("button", name="Coins").click()
    assert wait_for_answer(page).startswith("Same as the server's own mask: ")
    sample = tmp_path / "coins.jpg"
    sample.write_bytes(page.request.get(f"{real}/playground/samples/coins.jpg").body())
    with MaskClient(real, "coins") as client:
        for threshold in (0.5, 0.2, 0.87):
            said = move_threshold(page, threshold)
            mask = client.segment(sample, threshold=threshold).mask
            assert exactly(mask) in page.inner_text("#area")
            assert said == f"Same as the server's own mask: {exactly(mask)}"
            picture, name = downloaded(page)
            assert np.array_equal(np.asarray(picture, bool), mask)
            assert name == "coins_mask.png"


def test_several_models_with_classes_and_cleaned_masks(open_page, real):
    page = open_page(f"{real}?model=scenes")
    assert page.locator("#model option").all_inner_texts() == ["coins", "scenes"]
    file = png(PHOTO)
    assert give(page, file).startswith("Same as")
    assert page.input_value("#threshold-number") == "0.435"
    assert "tree, car" in page.inner_text("#area")
    assert move_threshold(page, 0.62).startswith("Same as")  # opened and closed by the page as by the graph
    with MaskClient(real, "scenes") as client:
        result = client.segment(file["buffer"], 0.62, outputs=("mask", "class_map"))
    assert exactly(result.mask) in page.inner_text("#area")
    choose_view(page, "classes")
    for name, area in zip(("ground", "tree", "car"), np.bincount(result.class_map.ravel(), minlength=3), strict=True):
        assert f"{name} {100 * area / result.class_map.size:.1f} %" in page.inner_text("#legend")
    assert np.array_equal(np.asarray(downloaded(page)[0]), result.class_map)
    page.select_option("#target", "2")
    choose_view(page, "cutout")
    cut, _ = downloaded(page)
    assert np.array_equal(np.asarray(cut)[..., 3] == 255, result.class_map == 2)
    assert page.is_disabled("#threshold")
    page.select_option("#model", "coins")
    assert wait_for_answer(page).startswith("Same as")
    assert page.is_disabled("#view-classes")
    assert "one class" in page.get_attribute("#view-classes", "aria-label")


def test_the_calls_that_are_shown_give_what_is_shown(open_page, real, tmp_path):
    page = open_page(real)
    Image.fromarray(PHOTO).save(tmp_path / "it's mine.png")
    give(page, tmp_path / "it's mine.png")
    move_threshold(page, 0.31)
    for view in ("mask", "masked", "overlay", "probability"):
        choose_view(page, view)
        shown, name = downloaded(page)
        for language, command in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
            if (view, language) == ("overlay", "curl"):
                continue  # is told that it gets the mask
            page.click(f"#tab-{language}")
            code = page.inner_text("#code-text")
            subprocess.run([*command, code], cwd=tmp_path, check=True, capture_output=True)
            with Image.open(tmp_path / name) as made:
                if view == "overlay":  # halves are rounded otherwise
                    assert np.abs(np.asarray(made, int) - np.asarray(shown.convert("RGB"), int)).max() <= 2
                else:
                    assert np.array_equal(np.asarray(made), np.asarray(shown)), (view, language)
            (tmp_path / name).unlink()
    page.click("#tab-curl")
    choose_view(page, "overlay")
    assert page.inner_text("#code-text").startswith("# The overlay is made of this answer")


def test_a_picture_of_20_megapixels(open_page, real):
    y, x = np.mgrid[0:4000, 0:5000]
    large = np.stack([x * 255 // 4999, y * 255 // 3999, (x + y) % 256], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(large).save(file, "JPEG", quality=80)
    page = open_page(f"{real}?model=scenes")
    said = give(page, {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
    assert said.startswith("Same as the server's own mask")
    with MaskClient(real, "scenes") as client:
        mask = client.segment(file.getvalue(), timeout=PATIENCE_S).mask
    assert mask.shape == (4000, 5000)
    assert exactly(mask) in page.inner_text("#area")
    shown = page.evaluate("(({width, height}) => width * height)(document.querySelector('#result'))")
    assert shown < 5e6  # only what the screen has


@pytest.mark.parametrize("most_pixels", [None, 2000])
def test_a_format_that_the_server_does_not_read_is_mended(open_page, real, most_pixels):
    """Also where the browser's canvas takes less than the picture has: its file is nothing then."""
    page = open_page(f"{real}?model=scenes")
    if most_pixels:
        page.evaluate(
            """most => {
                const real = HTMLCanvasElement.prototype.toBlob;
                HTMLCanvasElement.prototype.toBlob = function (done, ...options) {
                    if (this.width * this.height > most) done(null); else real.call(this, done, ...options);
                };
            }""", most_pixels,
        )  # fmt: skip
    file = io.BytesIO()
    Image.fromarray(PHOTO).quantize().save(file, "GIF")
    page.set_input_files("#file", {"name": "waves.gif", "mimeType": "image/gif", "buffer": file.getvalue()})
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-title") == "That is no picture that this model reads"
    assert "unknown format" in page.inner_text("#problem-said")
    page.get_by_role("button", name="Send it as PNG").click()
    assert wait_for_answer(page).startswith("Same as")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_screenshots_are_kept(open_page, real, width, height, scheme):
    page = open_page(
        real, viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 500,
        reduced_motion="reduce",
    )  # fmt: skip

    def keep(name):
        (ARTEFACTS / "screenshots").mkdir(parents=True, exist_ok=True)
        path = ARTEFACTS / f"screenshots/{width}_{scheme}_{name}.png"
        page.screenshot(path=path, full_page=width < 500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing to scroll to the side
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()

    keep("empty")
    page.get_by_role("button", name="Coins").click()
    wait_for_answer(page)
    keep("mask")
    page.click("#label-sample")
    page.wait_for_selector("#label-result:not([hidden])")
    keep("compare")
    page.select_option("#model", "scenes")
    wait_for_answer(page)
    choose_view(page, "classes")
    keep("classes")
    page.set_input_files("#file", {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
    page.wait_for_selector("#problem:not([hidden])")
    keep("problem")


def test_how_long_it_takes_is_told(open_page, real, capsys):
    """By the browser's own marks; told, not judged, as machines differ."""
    # What looks into a page while it loads takes time: Playwright's script for it is thrice as large as all of ours.
    nobody_looks = {"wait_until": "networkidle"}
    loads = {"first visit": [], "again": []}
    for _ in range(3):
        page = open_page(f"{real}?model=scenes", **nobody_looks)
        loads["first visit"].append(_ready_ms(page))
    for _ in range(3):
        page.reload(**nobody_looks)
        page.wait_for_selector("body[data-ready]")
        loads["again"].append(_ready_ms(page))
    give(page, png(waves(1250, 1600)))
    for step in range(20):
        page.locator("#threshold").fill(f"{0.2 + step / 50:.2f}")
        page.wait_for_function(f"() => performance.getEntriesByName('threshold-painted').length > {step}")
    moves = page.evaluate("performance.getEntriesByName('threshold-painted').map(({ duration }) => duration)")
    figures = {
        **{
            f"load from loopback, {visit}, ms": {
                "median": float(np.median(times)), "slowest": max(times), "wanted": "< 300",
            }
            for visit, times in loads.items()
        },
        "slider moved to painted, 2 megapixels, ms": {
            "median": float(np.median(moves)), "slowest": max(moves), "wanted": "< 50",
        },
    }  # fmt: skip
    ARTEFACTS.mkdir(exist_ok=True)
    (ARTEFACTS / "playground.json").write_text(json.dumps(figures, indent=1) + "\n")
    with capsys.disabled():
        print(f"\n{json.dumps(figures, indent=1)}")


def _ready_ms(page):
    return page.evaluate("performance.getEntriesByName('playground-ready')[0].startTime")
