"""The page in a real browser: what is on the screen, and how people get about, before a server that is plain NumPy."""

import io

import numpy as np
from PIL import Image
from playing import BRIGHT, PHOTO, bright, choose_view, downloaded, exactly, give, png, wait_for_answer


def test_each_view_is_what_it_says(page):
    mask = bright(0.5)
    assert exactly(mask) in page.inner_text("#area")
    choose_view(page, "probability")
    assert np.array_equal(np.asarray(downloaded(page)[0]), np.rint(BRIGHT))
    choose_view(page, "cutout")
    cut, name = downloaded(page)
    assert (cut.mode, name) == ("RGBA", "photo_cutout.png")
    assert np.array_equal(np.asarray(cut)[..., 3], 255 * mask)
    assert np.array_equal(np.asarray(cut)[mask][:, :3], PHOTO[mask])
    choose_view(page, "masked")
    assert np.array_equal(np.asarray(downloaded(page)[0]), PHOTO * mask[..., np.newaxis])
    page.select_option("#background", "#ffffff")
    assert np.array_equal(np.asarray(downloaded(page)[0])[..., :3], np.where(mask[..., np.newaxis], PHOTO, 255))
    choose_view(page, "overlay")
    tinted = np.where(mask[..., np.newaxis], (PHOTO + np.array([255, 40, 40])) / 2, PHOTO)
    assert np.abs(np.asarray(downloaded(page)[0])[..., :3] - tinted).max() <= 2
    choose_view(page, "classes")
    assert np.array_equal(np.asarray(downloaded(page)[0]), mask)
    page.select_option("#target", "0")
    give(page, png(PHOTO[::-1]))  # what is chosen stays so for the next picture
    assert np.array_equal(np.asarray(downloaded(page)[0]), mask[::-1])
    assert exactly(~mask) in page.inner_text("#area")


def screen(page):
    """What is on the stage: its pixels, the picture's place on it (left, top, scale), and the divider's."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box = page.locator("#pictures").bounding_box()
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")).astype(int)


def test_the_stage_shows_the_mask_beside_the_original_and_the_divider_moves(page):
    mask = bright(0.5)
    height, width = mask.shape

    def place(pixels):
        scale = min((pixels.shape[1] - 24) / width, (pixels.shape[0] - 24) / height, 4)
        left, top = (pixels.shape[1] - width * scale) / 2, (pixels.shape[0] - height * scale) / 2
        rows, columns = np.mgrid[4:height:6, 3:width:5]
        at = (np.rint(top + (rows + 0.5) * scale).astype(int), np.rint(left + (columns + 0.5) * scale).astype(int))
        return rows, columns, at

    for keys, divider in (([], 50), (["ArrowRight"] * 3, 53), (["Home"], 0), (["PageUp"], 10), (["End"], 100)):
        page.focus("#divider")
        for key in keys:
            page.keyboard.press(key)
        assert page.get_attribute("#divider", "aria-valuenow") == str(divider)
        assert f"{divider} % original" in page.get_attribute("#divider", "aria-valuetext")
        pixels = screen(page)
        rows, columns, at = place(pixels)
        line = pixels.shape[1] * divider / 100
        right, left = at[1] > line + 25, at[1] < line - 25
        assert np.array_equal(pixels[at][right] > 127, np.repeat(mask[rows, columns][right], 3).reshape(-1, 3))
        assert np.abs(pixels[at][left] - PHOTO[rows, columns][left]).max(initial=0) <= 12
    box = page.locator("#pictures").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 90, steps=3)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "25"


def test_zoom_and_pan_by_buttons_keys_wheel_and_mouse(page):
    level = lambda: int(page.inner_text("#zoom-level").removesuffix(" %"))  # noqa: E731
    fitted = level()
    page.click("#zoom-in")
    page.wait_for_function(f"() => parseInt(document.querySelector('#zoom-level').textContent) > {fitted}")
    page.focus("#pictures")
    for _ in range(4):
        page.keyboard.press("+")
    before = screen(page)
    page.keyboard.press("ArrowLeft")
    moved = screen(page)
    assert (moved[200:400, 520:700] != before[200:400, 480:660]).mean() < 0.01 < (moved != before).mean()
    page.mouse.move(500, 400)
    page.mouse.down()
    page.mouse.move(540, 400, steps=2)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "50"  # zoomed in, a drag moves the picture
    zoomed = level()
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"() => parseInt(document.querySelector('#zoom-level').textContent) < {zoomed}")
    page.keyboard.press("0")
    page.wait_for_function(f"() => parseInt(document.querySelector('#zoom-level').textContent) == {fitted}")


def test_all_of_it_by_keyboard(open_page, fake_url, serving):
    page = open_page(fake_url)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Astronaut":
            break
    page.keyboard.press("Enter")
    wait_for_answer(page)
    assert page.evaluate("document.activeElement.id") == "pictures"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {
        "divider",
        "threshold",
        "threshold-number",
        "label-choose",
        "download",
        "tab-curl",
        "copy",
        "zoom-in",
    } <= reached
    page.focus("#view-mask")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#result-tag") == "Masked image"
    page.focus("#threshold")
    page.keyboard.press("ArrowRight")
    assert wait_for_answer(page).startswith("Same as")
    assert page.input_value("#threshold-number") == "0.51"
    assert page.inner_text("#live").startswith("Same as the server's own mask")


def test_pictures_are_dropped_and_pasted(page):
    give_file = """([buffer, name, kind]) => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(buffer)], name, { type: "image/png" }));
        const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
            : new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true });
        const target = document.querySelector(name === "label.png" ? "#label-drop" : "#stage");
        target.dispatchEvent(event);
    }"""
    for kind, brightness in (("drop", 200), ("paste", 40)):
        buffer = list(png(np.full((9, 13, 3), brightness, np.uint8))["buffer"])
        page.evaluate(give_file, [buffer, "new.png", kind])
        page.wait_for_function(
            f"() => document.querySelector('#area').textContent.includes('{117 if brightness > 99 else 0} pix')"
        )
    label = np.zeros((9, 13), np.uint8)
    label[2:5, 3:7] = 255
    wait_for_answer(page)
    page.evaluate(give_file, [list(png(label)["buffer"]), "label.png", "drop"])
    page.wait_for_selector("#label-result:not([hidden])")
    assert page.inner_text("#iou") == "0.0000"


def test_an_exif_turned_photograph_is_shown_as_the_server_turns_it(open_page, fake_url, serving):
    page = open_page(fake_url)
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.fromarray(PHOTO).save(file, "JPEG", quality=95, exif=exif)
        give(page, {"name": f"turned{orientation}.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
        height, width = (60, 84) if orientation == 3 else (84, 60)
        assert page.inner_text("#live") != ""
        choose_view(page, "cutout")
        cut, _ = downloaded(page)
        assert cut.size == (width, height)
        choose_view(page, "mask")
        mask = np.asarray(downloaded(page)[0]) > 0
        assert np.array_equal(np.asarray(cut)[..., 3] > 0, mask)
        upright = np.rot90(PHOTO, {3: 2, 6: -1, 8: 1}[orientation])
        assert np.abs(np.asarray(cut)[mask][:, :3].astype(int) - upright[mask]).mean() < 4


def test_an_orientation_that_the_browser_does_not_know_is_said(open_page, fake_url, serving):
    page = open_page(fake_url)
    file = io.BytesIO()
    told = b'<d xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">%s</x:xmpmeta>' % told
    Image.fromarray(PHOTO).save(file, "JPEG", quality=95, xmp=xmp)
    give(page, {"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
    assert page.inner_text("#unfit") == "The browser shows this picture as 84 × 60, the server reads it as 60 × 84."
    assert page.is_disabled("#view-cutout")
    assert downloaded(page)[0].size == (60, 84)
