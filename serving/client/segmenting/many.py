"""Many pictures: what `segment_many` of both clients shares."""

import asyncio
import dataclasses
import itertools
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence, Sized

import numpy as np

from ..errors import InvalidRequestError
from ..pictures.channels import ALL, Choice
from ..pictures.files.headers import read_header
from ..pictures.images import ImageSource, try_picture
from ..pictures.picture import Picture
from ..results.mask_result import MaskResult, SegmentItem
from .plans import check_request, check_threshold

Thresholds = float | Iterable[float | None] | None
"""One threshold for all pictures, one for each in the same order, or the export's own."""

_SENT_AS_THEY_ARE = ("jpeg", "png", "bmp", "webp")
# A group may wait for an earlier one to be taken: so many times the concurrency are on their way, or done.
AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One picture of many, and its threshold."""

    index: int  # its place, from 0
    source: ImageSource  # what was given
    picture: ImageSource | Picture | Exception  # a path, or what the source held when it was taken, or why nothing
    threshold: float | None  # None is the export's


class PlannedThresholds:
    """The thresholds of many pictures; `InvalidRequestError` where they are none, or more or fewer than these."""

    def __init__(self, thresholds: Thresholds, images: object):
        self._count: int | None = None
        # Text, and arrays without a dimension, can be iterated or claim so, but are one number.
        is_one = isinstance(thresholds, str | bytes) or getattr(thresholds, "ndim", None) == 0
        if thresholds is None or is_one or not isinstance(thresholds, Iterable):
            threshold = None if thresholds is None else check_threshold(thresholds)
            self._values: Iterator[float | None] = itertools.repeat(threshold)
        else:
            self._values = iter(thresholds)
            self._count = len(thresholds) if isinstance(thresholds, Sized) else None
        if isinstance(images, Sized):
            self.check_count(len(images))

    def next(self, index: int) -> float | None:
        """Returns the next picture's, the `index`th from 0."""
        try:
            return next(self._values)
        except StopIteration:
            raise _miscounted(f"thresholds for {index} pictures only, and more pictures") from None

    def check_count(self, pictures: int) -> None:
        """Checks that there are as many as pictures, where it is known how many there are."""
        if self._count is not None and self._count < pictures:
            raise _miscounted(f"thresholds for {self._count} pictures only, and more pictures")
        if self._count is not None and self._count > pictures:
            raise _miscounted(f"{self._count} thresholds for {pictures} pictures")


def _miscounted(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"there are {what}", hint="give one for all, or one for each")


def check_many(outputs: Sequence[str], concurrency: int, batch_size: int) -> None:
    """Checks the arguments of `segment_many` before anything is read, or raises `InvalidRequestError`."""
    check_request(outputs, None)
    for name, value in (("concurrency", concurrency), ("batch_size", batch_size)):
        # NumPy's whole numbers are not Python's, but as good.
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InvalidRequestError(f"{name}={value!r} is no whole number above 0")


def check_images(images: object) -> None:
    """Checks that there are pictures to iterate over, rather than one of them, or raises `InvalidRequestError`."""
    problem = ""
    is_one = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(images, "read")
    if is_one or not isinstance(images, Iterable | AsyncIterable):
        shown = repr(images) if isinstance(images, str | os.PathLike) else f"one {type(images).__name__}"
        problem = f"{shown} is no list of pictures"
    # Taken for a stack, a picture of [H, W, C] would be one of H narrow pictures. Arrays of objects are lists.
    elif isinstance(images, np.ndarray) and images.ndim != 4 and images.dtype.kind not in "OSU":
        problem = f"one array {list(images.shape)} is no list of pictures, nor a stack of them, which is [N, H, W, C]"
    if problem:
        raise InvalidRequestError(f"images={problem}", hint="put one picture in a list, or call segment()")


def groups(
    images: Iterable[ImageSource], thresholds: PlannedThresholds, batch_size: int, choice: Choice = ALL
) -> Iterator[tuple[Wanted, ...]]:
    """Yields the pictures in groups that are sent together.

    Whatever is not a path is read as it is taken, in this thread: the caller may use the array or file again,
    or close it, before the next picture.
    """

    def numbered() -> Iterator[Wanted]:
        count = 0
        for count, source in enumerate(images, 1):
            yield Wanted(count - 1, source, _take(source, choice), thresholds.next(count - 1))
        thresholds.check_count(count)

    every = numbered()
    while group := tuple(itertools.islice(every, batch_size)):
        yield group


async def async_groups(
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    thresholds: PlannedThresholds,
    batch_size: int,
    choice: Choice = ALL,
) -> AsyncIterator[tuple[Wanted, ...]]:
    """Yields the pictures in groups that are sent together; like `groups`, but reads them in threads."""
    group: list[Wanted] = []
    index = 0
    async for source in images if isinstance(images, AsyncIterable) else _as_async(images):
        threshold = thresholds.next(index)
        picture = _take(source, choice) if _is_quick(source) else await asyncio.to_thread(_take, source, choice)
        group.append(Wanted(index, source, picture, threshold))
        index += 1
        if len(group) == batch_size:
            yield tuple(group)
            group.clear()
    if group:
        yield tuple(group)
    thresholds.check_count(index)


async def _as_async(images: Iterable[ImageSource]) -> AsyncIterator[ImageSource]:
    for source in images:
        yield source


def _is_quick(source: ImageSource) -> bool:
    """Returns whether a source is taken without being read or decoded: a path, or a file that travels as it is."""
    if isinstance(source, bytes):
        header = read_header(source)
        return header is not None and header.format in _SENT_AS_THEY_ARE
    return isinstance(source, str | os.PathLike)


def _take(source: ImageSource, choice: Choice) -> ImageSource | Picture | Exception:
    """Returns a path, which can wait, a picture as its source is now, whatever becomes of that, or why it is none."""
    if isinstance(source, str | os.PathLike):
        return source
    return try_picture(source.copy() if isinstance(source, np.ndarray) else source, choice)


def items_of(group: Sequence[Wanted], results: Sequence[MaskResult | Exception]) -> list[SegmentItem]:
    """Returns the items of a group's results."""
    items = []
    for wanted, given in zip(group, results, strict=True):
        result, error = (None, given) if isinstance(given, Exception) else (given, None)
        items.append(SegmentItem(wanted.source, wanted.index, result, error))
    return items
