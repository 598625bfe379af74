"""The page before models that answer less than all, and servers that refuse, differ, stop and come back."""

import io
import subprocess
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest
from fake_serving import FakeModel, FakeServing, RefusedError
from PIL import Image
from playing import (
    PHOTO,
    bright,
    choose_view,
    downloaded,
    exactly,
    give,
    move_threshold,
    playground,
    png,
    wait_for_answer,
)
from waiting import wait_until


def only(*names):
    return {name: FakeModel.signatures[name] for name in names}


class Classes(FakeModel):
    """Answers class indices: no probabilities, no thresholds."""

    signatures: ClassVar = only("mask_png", "masked_image_png", "class_map_png", "export_info")
    info: ClassVar = {**FakeModel.info, "model": {"answers_classes": True}}


class WithoutProbability(FakeModel):
    """Was exported without probabilities, and by nobody who tells what it is."""

    signatures: ClassVar = only("mask_png", "mask_png_at_threshold")


def test_a_model_of_class_indices_does_the_rest_and_says_why_not(open_page):
    with FakeServing(Classes()) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        assert give(page, png(PHOTO)) == "The server's own mask"
        mask = bright(0.5)
        assert exactly(mask) in page.inner_text("#area")
        assert page.is_disabled("#threshold")
        assert "no threshold" in page.inner_text("#threshold-note")
        assert page.is_disabled("#view-probability")
        choose_view(page, "cutout")
        assert np.array_equal(np.asarray(downloaded(page)[0])[..., 3] > 0, mask)
        choose_view(page, "classes")
        page.select_option("#target", "1")
        assert exactly(mask) in page.inner_text("#area")


def test_without_probability_the_server_is_asked_for_each_threshold(open_page):
    with FakeServing(WithoutProbability()) as serving, playground(serving.grpc_address, "model") as url:
        page = open_page(url)
        give(page, png(PHOTO))
        assert move_threshold(page, 0.7) == "The server's own mask"
        assert exactly(bright(0.7)) in page.inner_text("#area")


class WithoutThreshold(FakeModel):
    """Answers masks at its own threshold, and probabilities."""

    signatures: ClassVar = only("mask_png", "probability_png", "export_info")


def test_a_mask_that_no_signature_answers_is_made_here(open_page):
    with FakeServing(WithoutThreshold()) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        give(page, png(PHOTO))
        page.locator("#threshold").fill("0.7")
        page.wait_for_function("() => performance.getEntriesByName('threshold-painted').length")
        picture, name = downloaded(page)
        assert name.endswith("_mask.png")
        assert np.array_equal(np.asarray(picture.convert("L")) > 0, bright(0.7))


def ran(page, folder):
    """The picture that the Python shown makes."""
    page.click("#tab-python")
    command = [sys.executable, "-c", page.inner_text("#code-text")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (made,) = set(folder.iterdir()) - {folder / "photo.png"}
    with Image.open(made) as picture:
        picture.load()
    made.unlink()
    return picture


def test_python_makes_of_probabilities_what_no_signature_answers(open_page, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(PHOTO)["buffer"])
    with FakeServing(WithoutThreshold()) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        give(page, png(PHOTO))
        page.locator("#threshold").fill("0.7")
        page.wait_for_function("() => performance.getEntriesByName('threshold-painted').length")
        assert np.array_equal(np.asarray(ran(page, tmp_path)), bright(0.7))
        for view in ("masked", "cutout", "overlay"):
            choose_view(page, view)
            made, shown = ran(page, tmp_path), downloaded(page)[0]
            difference = np.asarray(made.convert("RGBA"), int) - np.asarray(shown.convert("RGBA"), int)
            is_seen = np.asarray(shown.convert("RGBA"))[..., 3] > 0
            assert np.abs(difference[is_seen]).max() <= 2


class SoftCutouts(FakeModel):
    """Shows by its probability, on nothing."""

    info: ClassVar = {**FakeModel.info, "spec": {"edge": "soft", "background": "transparent"}}


def test_python_keeps_soft_edges(open_page, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(PHOTO)["buffer"])
    with FakeServing(SoftCutouts()) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        give(page, png(PHOTO))
        choose_view(page, "cutout")
        assert np.array_equal(np.asarray(ran(page, tmp_path)), np.asarray(downloaded(page)[0]))  # the server's own
        choose_view(page, "masked")
        page.select_option("#background", "own")
        page.locator("#background-colour").fill("#2080ff")
        made, shown = ran(page, tmp_path), downloaded(page)[0]
        assert np.abs(np.asarray(made.convert("RGB"), int) - np.asarray(shown.convert("RGB"), int)).max() <= 2


class ClassMaps(FakeModel):
    """Was exported for nothing else."""

    signatures: ClassVar = only("class_map_png")


def test_an_export_of_class_maps_alone_shows_them(open_page):
    with FakeServing(ClassMaps()) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        page.set_input_files("#file", [png(PHOTO)])
        page.wait_for_selector("#view-classes:checked")
        page.wait_for_selector("#panel:not([hidden], [inert])")
        assert page.is_hidden("#problem")
        assert page.is_disabled("#view-mask")
        assert np.array_equal(np.asarray(downloaded(page)[0]), bright(0.5))


def test_a_picture_that_comes_while_a_model_is_asked_about_is_answered(page, serving):
    serving.statuses = [(6, 30, 0, ""), (7, 30, 0, "")]
    page.reload()
    page.wait_for_selector("#server.ready")
    goes_on = threading.Event()
    serving.behaviours.append(lambda signature, inputs: goes_on.wait() and None)
    try:
        serving.version = 6  # which is there as such, and not the newest
        page.select_option("#version", "6")
        wait_until(lambda: not serving.behaviours)
        page.set_input_files("#file", [png(PHOTO)])
        wait_for_answer(page)
        assert page.is_hidden("#problem")
        assert "/versions/6:predict" in page.inner_text("#code-text")
    finally:
        goes_on.set()


def test_a_model_that_is_chosen_while_a_picture_is_opened_answers_it(page, serving):
    serving.statuses = [(6, 30, 0, ""), (7, 30, 0, "")]
    page.reload()
    page.wait_for_selector("#server.ready")
    page.evaluate("""() => {
        const open = window.createImageBitmap;
        window.createImageBitmap = async (...words) => {
            window.createImageBitmap = open;
            await new Promise((done) => (window.goOn = done));
            return open(...words);
        };
    }""")
    page.set_input_files("#file", [png(PHOTO)])
    page.wait_for_function("() => window.goOn")
    page.select_option("#version", "7")
    wait_for_answer(page)
    page.evaluate("goOn()")
    assert exactly(bright(0.5)) in page.inner_text("#area")


def test_the_last_view_that_was_chosen_counts(page, serving):
    goes_on = threading.Event()
    serving.behaviours.append(lambda signature, inputs: goes_on.wait() and None)
    try:
        page.locator("#view-classes").check()
        wait_until(lambda: not serving.behaviours)
        page.locator("#view-overlay").check()
    finally:
        goes_on.set()
    page.wait_for_selector("#result-tag:text-is('Overlay')")
    page.wait_for_timeout(300)
    assert page.inner_text("#result-tag") == "Overlay"


def test_a_view_that_is_chosen_while_a_class_is_asked_for_is_of_that_class(page, serving):
    goes_on = threading.Event()
    serving.behaviours.append(lambda signature, inputs: goes_on.wait() and None)
    try:
        page.select_option("#target", "0")
        wait_until(lambda: not serving.behaviours)
        page.locator("#view-overlay").check()
    finally:
        goes_on.set()
    page.wait_for_function("() => document.querySelector('#check').innerText.includes('class map')")
    assert page.inner_text("#result-tag") == "Overlay"
    assert exactly(~bright(0.5)) in page.inner_text("#area")


def test_a_model_that_takes_no_files_is_told(open_page):
    model = FakeModel()
    model.signatures = {"mask": FakeModel.signatures["mask"]}
    with FakeServing(model) as serving, playground(serving.rest_address, "model") as url:
        page = open_page(url)
        assert page.inner_text("#problem-title") == "This model takes no photographs as files"


def test_versions_that_are_ready_are_chosen_from_and_named_in_calls(page, serving):
    serving.statuses = [(6, 30, 0, ""), (7, 30, 0, ""), (8, 20, 0, "")]
    page.reload()
    page.wait_for_selector("#server.ready")
    assert page.locator("#version option").all_inner_texts() == ["newest (7)", "7", "6"]
    page.select_option("#version", "7")
    page.wait_for_selector("#server.ready")
    give(page, png(PHOTO))
    assert f"{serving.rest_address}/v1/models/model/versions/7:predict" in page.inner_text("#code-text")
    page.click("#tab-python")
    assert f'MaskClient("{serving.rest_address}", model="model", version=7)' in page.inner_text("#code-text")
    page.select_option("#version", "6")
    page.wait_for_selector("#problem:not([hidden])")
    assert "Specific(model, 6)" in page.inner_text("#problem-said")


def test_a_model_whose_name_is_not_known_is_asked_for(open_page, serving):
    with playground(serving.rest_address) as url:
        page = open_page(url)
        page.fill("#model-name", "nobody")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem-title") == "The server has no such model"
        page.fill("#model-name", "model")
        page.keyboard.press("Enter")
        page.wait_for_selector("#server.ready")
        assert give(page, png(PHOTO)).startswith("Same as")


@pytest.mark.parametrize(
    ("buffer", "title"),
    [
        (b"", "That file is empty"),
        (b"abc", "That is no picture that this model reads"),
        (png(PHOTO)["buffer"][:300], "That picture cannot be decoded"),
    ],
)
def test_a_bad_file_is_named_and_the_next_one_works(page, buffer, title):
    page.set_input_files("#file", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": buffer})
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-title") == title
    assert page.is_hidden("#panel")  # nothing of the picture before
    page.click("#problem-another")
    assert page.get_by_role("button", name="Astronaut").is_visible()
    assert give(page, png(PHOTO)).startswith("Same as")
    assert page.is_hidden("#problem")


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("RESOURCE_EXHAUSTED", "The server is busy"),
        ("DEADLINE_EXCEEDED", "No answer in time"),
        ("INVALID_ARGUMENT", "The server refused that"),
        ("INVALID_ARGUMENT: unknown format: or so,", "That is no picture that this model reads"),
    ],
)
def test_the_servers_errors_are_said_in_plain_words(page, serving, code, title):
    code, _, words = code.partition(":")

    def refuse(*_):
        raise RefusedError(code, f"assertion failed:{words} these are <b>its</b> words")

    serving.behaviours.append(refuse)
    page.set_input_files("#file", png(PHOTO[:30]))
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-title") == title
    assert "these are <b>its</b> words" in page.inner_text("#problem-said")
    page.get_by_role("button", name="Try again").click()
    assert wait_for_answer(page).startswith("Same as")


def test_a_picture_that_is_too_large_is_sent_smaller(page, serving):
    words = "too large: 60x84 is 64x96 for the model > 2500 pixels (max_model_pixels)"
    serving.behaviours.append(lambda *_: {"probability_bytes": [b""], "error": [words.encode()]})
    page.set_input_files("#file", png(PHOTO))
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-title") == "That picture is larger than this model takes"
    assert words in page.inner_text("#problem-said")
    page.get_by_role("button", name="Send it with").click()
    assert wait_for_answer(page).startswith("Same as")
    (sent,) = serving.requests[-1][1]["image_bytes"]
    with Image.open(io.BytesIO(sent)) as smaller:
        assert 2000 < smaller.width * smaller.height < 2500


def test_a_mask_that_differs_is_said_to(page, serving):
    def other(*_):
        mask = np.asarray(bright(0.4))
        mask[:3, :4] ^= True
        return {"mask_bytes": [png(mask)["buffer"]], "error": [b""]}

    serving.behaviours.append(other)
    assert move_threshold(page, 0.4) == "12 pixels differ from the server's own mask"


def test_a_server_that_stops_half_way_and_comes_back(open_page):
    first = FakeServing()
    port = first.grpc_port
    with playground(first.grpc_address, "model") as url:
        page = open_page(url)
        give(page, png(PHOTO))
        first.close()
        said = move_threshold(page, 0.6)  # the page goes on, and says what it could not check
        assert said.startswith("Not checked: The server does not answer.")
        assert exactly(bright(0.6)) in page.inner_text("#area")
        assert page.locator("#server.gone").is_visible()
        page.set_input_files("#file", png(PHOTO[:40]))
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem-title") == "The server does not answer"
        with FakeServing(grpc_address=f"127.0.0.1:{port}"):

            def comes_back():  # gRPC tries again only after a while
                if page.locator("#problem").is_visible():
                    page.get_by_role("button", name="Try again").click()
                page.wait_for_function("() => document.querySelector('#busy').hidden")
                return page.locator("#problem").is_hidden()

            wait_until(comes_back, "the answer of the server that runs again")
            assert wait_for_answer(page).startswith("Same as")
