import asyncio
import gc
import io
import itertools
import threading
import time
import tracemalloc
from concurrent import futures

import numpy as np
import pytest
from any_client import make_client
from fake_serving import refuse, slow
from maskport.serving.client import (
    AsyncMaskClient,
    ClientClosedError,
    InvalidImageError,
    InvalidRequestError,
    ModelNotFoundError,
    ServerFaultError,
)
from maskport.serving.client.pictures.files.png import encode_png
from maskport.serving.client.segmenting import many
from PIL import Image
from waiting import PATIENCE_S, wait_until


def _picture(value, size=(2, 3)):
    return np.full((*size, 3), value, np.uint8)


def _pictures(count):
    """Pictures that tell their number by their size."""
    return [_picture(200, (1 + index // 10, 1 + index % 10)) for index in range(count)]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_items_come_in_order_each_with_its_own_result(client, batch_size):
    pictures = _pictures(25)
    items = list(client.segment_many(iter(pictures), batch_size=batch_size))
    assert [item.index for item in items] == list(range(25))
    assert [item.result.mask.shape for item in items] == [picture.shape[:2] for picture in pictures]
    assert all(item.source is picture for item, picture in zip(items, pictures, strict=True))


def test_items_may_come_as_they_are_done(client, serving):
    client.segment(_picture(0))
    others_have_come, items = threading.Event(), []
    serving.behaviours.append(lambda *_: others_have_come.wait(PATIENCE_S) and None)
    for item in client.segment_many(_pictures(6), ordered=False, concurrency=2):
        items.append(item)
        if len(items) == 5:
            others_have_come.set()
    assert sorted(item.index for item in items) == list(range(6))
    assert items[-1].index in (0, 1)


def test_a_bad_picture_is_an_error_in_its_own_item(client, tmp_path):
    sources = [_picture(9), b"\x89PNG\r\n\x1a\nbroken", tmp_path / "missing.png", np.zeros(3), _picture(255)]
    for batch_size in (1, 5):
        items = list(client.segment_many(sources, batch_size=batch_size))
        assert [type(item.error) for item in items] == [
            type(None),
            InvalidImageError,
            FileNotFoundError,
            InvalidImageError,
            type(None),
        ]
        assert items[4].result.mask.all()


def test_the_exports_own_limit_tells_which_deep_pictures_are_looked_at(client, serving, monkeypatch):
    monkeypatch.setattr(type(serving.model), "info", {"spec": {"max_image_pixels": 6}})
    deep = [encode_png(np.full(size, 200, np.uint16)) for size in ((2, 3), (2, 4))]
    items = list(client.segment_many([_picture(255), *deep]))
    assert [type(item.error) for item in items] == [type(None), InvalidImageError, type(None)]
    assert items[2].result.size == (2, 4)


def test_a_failed_call_is_the_error_of_its_items(client, serving):
    client.segment(_picture(0))
    serving.behaviours.append(refuse("INTERNAL", "out of order"))
    items = list(client.segment_many(_pictures(6), batch_size=2, concurrency=1))
    assert [type(item.error) for item in items[:2]] == [ServerFaultError] * 2
    assert [item.error for item in items[2:]] == [None] * 4


def test_one_picture_that_makes_a_batch_fail_does_not_take_the_others_with_it(client, serving):
    client.segment(_picture(0))

    def refuse_batches(signature, inputs):
        refuse("INVALID_ARGUMENT", "image 1 cannot be decoded")(signature, inputs)

    serving.behaviours.append(refuse_batches)
    items = list(client.segment_many([_picture(9), b"\x89PNG\r\n\x1a\n...", _picture(255)], batch_size=3))
    assert [type(item.error) for item in items] == [type(None), InvalidImageError, type(None)]


def test_small_pictures_travel_together_and_large_ones_alone(client, serving):
    client.segment(_picture(0))
    serving.requests.clear()
    large = np.zeros((1000, 1500, 3), np.uint8)
    list(client.segment_many([_picture(9)] * 3 + [large] * 2, batch_size=5, concurrency=1))
    assert [len(inputs["image_bytes"]) for _, inputs in serving.requests] == [3, 1, 1]


def test_thresholds_may_be_one_or_one_for_each(client, serving):
    pictures = [_picture(128)] * 3
    for thresholds, wanted in ((0.6, [0, 0, 0]), ([0.1, 0.9, 0.4], [1, 0, 1])):
        for batch_size in (1, 3):
            items = client.segment_many(pictures, thresholds, batch_size=batch_size)
            assert [int(item.result.mask.all()) for item in items] == wanted
    with pytest.raises(InvalidRequestError, match="thresholds for 2 pictures only"):
        list(client.segment_many(pictures, [0.1, 0.2]))


def test_a_bad_threshold_is_the_error_of_its_item(client):
    items = list(client.segment_many([_picture(128)] * 3, [0.1, 7, 0.4]))
    assert [type(item.error) for item in items] == [type(None), InvalidRequestError, type(None)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency=0 is no whole number above 0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"outputs": ("depth",)}, "no product 'depth'"),
    ],
)
def test_arguments_are_checked_at_the_call(client, options, words):
    with pytest.raises(InvalidRequestError, match=words):
        client.segment_many([], **options)


def test_no_more_calls_are_under_way_than_asked_for_and_pictures_are_taken_late(kind, serving):
    under_way, most = 0, 0
    lock = threading.Lock()

    def behave(signature, inputs):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1

    serving.behaviours += [behave] * 40
    taken = 0

    def pictures():
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield _picture(200)

    with make_client(kind, serving) as client:
        for done, _ in enumerate(client.segment_many(pictures(), concurrency=3), start=1):
            assert taken <= done + 2 * 3
    assert 2 <= most <= 3


def test_stopping_early_sends_no_more(client, serving):
    serving.behaviours += [slow(0.02)] * 200
    items = client.segment_many((_picture(200) for _ in itertools.count()), concurrency=2)
    for _ in range(5):
        next(items)
    del items
    gc.collect()

    def has_settled():
        sent = len(serving.requests)
        time.sleep(0.5)
        return len(serving.requests) == sent

    wait_until(has_settled, "the end of the calls")
    assert len(serving.requests) < 20


def test_an_unknown_model_is_the_error_of_every_item(kind, serving):
    with make_client(kind, serving, model="other") as client:
        items = list(client.segment_many(_pictures(3)))
    assert [type(item.error) for item in items] == [ModelNotFoundError] * 3


def test_a_closed_client_ends_the_iteration(kind, serving):
    client = make_client(kind, serving)
    items = client.segment_many(_picture(200) for _ in itertools.count())
    next(items)
    client.close()
    if kind.startswith("sync"):
        with pytest.raises(ClientClosedError):
            list(items)
    else:
        del items


def test_ten_thousand_pictures_run_in_flat_memory(serving):
    """Each picture is 100 kB, so that keeping even one in ten of them would show."""

    def behave(signature, inputs):
        return {"mask_bytes": [mask] * len(inputs["image_bytes"]), "error": [b""] * len(inputs["image_bytes"])}

    mask = encode_png(np.zeros((2, 3), np.uint8))
    serving.behaviours += [behave] * 10_000
    tail = bytes(100_000)
    data = encode_png(_picture(1)) + tail
    with make_client("sync-grpc", serving) as client:
        items = client.segment_many((bytes(data) + b"" for _ in range(10_000)), batch_size=20)
        for _ in range(1000):
            next(items)
        serving.requests.clear()
        gc.collect()
        tracemalloc.start()
        for count, _ in enumerate(items):
            if count % 500 == 0:
                serving.requests.clear()
        serving.requests.clear()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 8999
    assert kept < 10_000_000


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_with_and_without_a_threshold_of_their_own_may_share_a_batch(client, batch_size):
    pictures = [_picture(value) for value in (200, 200, 200, 100)]
    for thresholds, wanted in (([None, 1, 0, None], [1, 0, 1, 0]), ([1, None, None, 0], [0, 1, 1, 1])):
        items = client.segment_many(pictures, thresholds, ("mask", "probability"), batch_size=batch_size)
        assert [int(item.result.mask.all()) for item in items] == wanted


def _saved(kind):
    file = io.BytesIO()
    if kind == "NPY":
        np.save(file, _picture(200))
    else:
        Image.fromarray(_picture(200)).save(file, kind)
    return file.getvalue()


def test_what_is_decoded_is_decoded_beside_the_event_loop(serving, monkeypatch):
    threads = []
    take = many.try_picture
    monkeypatch.setattr(many, "try_picture", lambda *given: threads.append(threading.get_ident()) or take(*given))
    kinds = ["TIFF", "GIF", "NPY", "PNG", "JPEG", "BMP", "WEBP"]

    async def run():
        async with AsyncMaskClient(serving.grpc_address, "model", timeout=PATIENCE_S) as client:
            return [item.error async for item in client.segment_many([_saved(kind) for kind in kinds])]

    assert asyncio.run(run()) == [None] * len(kinds)
    is_here = {kind: thread == threading.get_ident() for kind, thread in zip(kinds, threads, strict=True)}
    assert is_here == {kind: kind not in ("TIFF", "GIF", "NPY") for kind in kinds}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_array_or_file_may_be_used_again_once_the_next_is_taken(client, tmp_path, batch_size):
    path = tmp_path / "picture.png"

    def sources():
        array = np.zeros((2, 3, 3), np.uint8)
        for value in (255, 0, 255):
            array[:] = value
            yield array
        buffer = bytearray(encode_png(_picture(255)))
        yield buffer
        buffer[:] = bytes(len(buffer))
        for value in (255, 0):
            path.write_bytes(encode_png(_picture(value)))
            with open(path, "rb") as file:
                yield file
        frames = io.BytesIO()
        shown = [Image.fromarray(_picture(value)) for value in (0, 255, 0)]
        shown[0].save(frames, "GIF", save_all=True, append_images=shown[1:])
        with Image.open(frames) as animation:
            for number in range(3):
                animation.seek(number)
                yield animation

    items = list(client.segment_many(sources(), batch_size=batch_size))
    assert [item.error for item in items] == [None] * 9
    assert [int(item.result.mask.all()) for item in items] == [1, 0, 1, 1, 1, 0, 0, 1, 0]


def test_one_lazy_pillow_picture_may_be_masked_by_many_threads(serving, tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.full((600, 600, 3), 200, np.uint8)).save(path)
    with (
        make_client("sync-grpc", serving, timeout=PATIENCE_S) as client,
        Image.open(path) as picture,
        futures.ThreadPoolExecutor(8) as threads,
    ):
        results = list(threads.map(client.segment, [picture] * 8))
    assert all(result.mask.all() for result in results)


@pytest.mark.parametrize("threshold", ["0.5", np.float32(0.5), np.array(0.5), np.float64(0.5), 0.5])
def test_one_value_of_any_kind_is_the_threshold_of_all(client, threshold):
    for batch_size in (1, np.int64(3)):
        pictures = [_picture(200), _picture(100), _picture(200)]
        items = client.segment_many(iter(pictures), threshold, concurrency=np.int32(2), batch_size=batch_size)
        assert [int(item.result.mask.all()) for item in items] == [1, 0, 1]
    assert client.segment(_picture(200), threshold).mask.all()


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([0, 0], {"threshold": "half"}, "threshold 'half' is not from 0 to 1"),
        ([0, 0], {"threshold": 2}, "threshold 2 is not from 0 to 1"),
        ([0, 0], {"threshold": [0.1, 0.2, 0.3]}, "3 thresholds for 2 pictures"),
        ([0, 0], {"threshold": [0.1]}, "thresholds for 1 pictures only"),
        ([0, 0], {"outputs": "mask"}, "outputs='mask' is not a list of products"),
        ("photo.png", {}, "images='photo.png' is no list of pictures"),
        (b"data", {}, "one bytes is no list of pictures"),
        (io.BytesIO(), {}, "one BytesIO is no list of pictures"),
        (Image.new("L", (3, 3)), {}, "one Image is no list of pictures"),
        (None, {}, "one NoneType is no list of pictures"),
        (np.zeros((9, 8, 3), np.uint8), {}, r"one array \[9, 8, 3\] is no list of pictures, nor a stack of them"),
        (np.zeros((9, 8), np.uint8), {}, r"one array \[9, 8\] is no list .*; put one picture in a list"),
    ],
)
def test_one_picture_and_thresholds_that_do_not_fit_are_refused_at_the_call(client, images, options, words):
    with pytest.raises(InvalidRequestError, match=words):
        client.segment_many(images, **options)


def test_a_stack_of_pictures_and_an_array_of_objects_are_lists(client):
    stack = np.zeros((2, 6, 7, 3), np.uint8)
    stack[1] = 255
    objects = np.empty(2, object)
    objects[:] = list(stack)
    for images in (stack, objects):
        items = list(client.segment_many(images))
        assert [item.result.size for item in items] == [(6, 7)] * 2
        assert [bool(item.result.mask.all()) for item in items] == [False, True]


def test_thresholds_of_an_iterator_of_pictures_must_fit_too(client):
    with pytest.raises(InvalidRequestError, match="3 thresholds for 2 pictures"):
        list(client.segment_many(iter([_picture(9)] * 2), [0.1, 0.2, 0.3]))
    items = list(client.segment_many(iter([_picture(9)] * 2), itertools.repeat(0.5)))
    assert [item.error for item in items] == [None, None]


@pytest.mark.parametrize("batch_size", [1, 9])
def test_whatever_goes_wrong_with_one_picture_stays_in_its_item(client, batch_size):
    closed = io.BytesIO(b"x")
    closed.close()

    class Odd:
        def read(self):
            raise AttributeError("nothing here")

    broken = io.BytesIO()
    Image.new("RGB", (9, 9)).save(broken, "TIFF")
    sources = [_picture(200), closed, "a\0b.png", Odd(), broken.getvalue()[:30], 5, _picture(200), _picture(200)]
    thresholds = [None] * 6 + [10**400, None]
    items = list(client.segment_many(sources, thresholds, batch_size=batch_size))
    bad = [InvalidImageError] * 5 + [InvalidRequestError]
    assert [type(item.error) for item in items] == [type(None), *bad, type(None)]
    assert all(item.source is source for item, source in zip(items, sources, strict=True))
    for source, threshold, item in zip(sources, thresholds, items, strict=True):
        if item.error is not None:
            with pytest.raises(type(item.error)):
                client.segment(source, threshold)


def test_outputs_of_one_call_are_a_list_too(client):
    with pytest.raises(InvalidRequestError, match="outputs='mask' is not a list of products"):
        client.segment(_picture(200), outputs="mask")
