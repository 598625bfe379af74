"""Many pictures: what `segment_many` of both clients shares."""

import asyncio
import dataclasses
import itertools
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence, Sized

import numpy as np

from ..errors import InvalidRequestError, MaskServingError
from ..pictures.channels import ALL, Choice
from ..pictures.images import ImageSource, read_picture
from ..pictures.picture import Picture
from ..results.mask_result import MaskResult, SegmentItem
from .plans import check_request, check_threshold

Thresholds = float | Iterable[float | None] | None
"""One threshold for all pictures, one for each in the same order, or the export's own."""

# A group may wait for an earlier one to be taken; so many more are on their way or done meanwhile.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One picture of many, and its threshold.

    Attributes:
        index: its place, from 0.
        source: what was given.
        picture: what is sent: a path, or what the source held when it was taken, or why it held nothing.
        threshold: None is the export's.
    """

    index: int
    source: ImageSource
    picture: ImageSource | Picture | Exception
    threshold: float | None


class PlannedThresholds:
    """The thresholds of many pictures.

    Raises:
        InvalidRequestError: they are no thresholds, or more or fewer than the pictures.
    """

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
            raise _too_few(index) from None

    def check_count(self, pictures: int) -> None:
        """Checks that there are as many as pictures, where it is known how many there are."""
        if self._count is not None and self._count < pictures:
            raise _too_few(self._count)
        if self._count is not None and self._count > pictures:
            raise InvalidRequestError(f"there are {self._count} thresholds for {pictures} pictures", hint=_ONE_FOR_EACH)


_ONE_FOR_EACH = "give one for all, or one for each"


def _too_few(count: int) -> InvalidRequestError:
    return InvalidRequestError(f"there are thresholds for {count} pictures only, and more pictures", hint=_ONE_FOR_EACH)


def check_many(outputs: Sequence[str], concurrency: int, batch_size: int) -> None:
    """Checks the arguments of `segment_many` before anything is read.

    Raises:
        InvalidRequestError: one makes no sense.
    """
    check_request(outputs, None)
    for name, value in (("concurrency", concurrency), ("batch_size", batch_size)):
        # NumPy's whole numbers are not Python's, but as good.
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InvalidRequestError(f"{name}={value!r} is no whole number above 0")


def check_images(images: object) -> None:
    """Checks that there are pictures to iterate over, rather than one of them.

    Raises:
        InvalidRequestError: it is one picture, or nothing of the kind.
    """
    is_one = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(images, "read")
    if is_one or not isinstance(images, Iterable | AsyncIterable):
        shown = repr(images) if isinstance(images, str | os.PathLike) else f"one {type(images).__name__}"
        raise InvalidRequestError(
            f"images={shown} is no list of pictures", hint="put one picture in a list, or call segment()"
        )
    # Taken for a stack, a picture of [H, W, C] would be one of H narrow pictures. Arrays of objects are lists.
    if isinstance(images, np.ndarray) and images.ndim != 4 and images.dtype.kind not in "OSU":
        raise InvalidRequestError(
            f"images=one array {list(images.shape)} is no list of pictures, nor a stack of them, which is [N, H, W, C]",
            hint="put one picture in a list, or call segment()",
        )


def window(concurrency: int) -> int:
    """Returns how many groups may be on their way, or done and not yet taken."""
    return _AHEAD * concurrency


def groups(
    images: Iterable[ImageSource], thresholds: PlannedThresholds, batch_size: int, choice: Choice = ALL
) -> Iterator[tuple[Wanted, ...]]:
    """Yields the pictures in groups that are sent together.

    Whatever is not a path is read as it is taken, in this thread: the caller may use the array or file again,
    or close it, before the next picture.

    Raises:
        InvalidRequestError: there are more or fewer thresholds than pictures.
    """

    def numbered() -> Iterator[Wanted]:
        index = 0
        for source in images:
            yield Wanted(index, source, _take(source, choice), thresholds.next(index))
            index += 1
        thresholds.check_count(index)

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
    async for source in _as_async(images):
        threshold = thresholds.next(index)
        is_quick = isinstance(source, str | os.PathLike | bytes)
        picture = _take(source, choice) if is_quick else await asyncio.to_thread(_take, source, choice)
        group.append(Wanted(index, source, picture, threshold))
        index += 1
        if len(group) == batch_size:
            yield tuple(group)
            group.clear()
    if group:
        yield tuple(group)
    thresholds.check_count(index)


async def _as_async(images: Iterable[ImageSource] | AsyncIterable[ImageSource]) -> AsyncIterator[ImageSource]:
    if isinstance(images, AsyncIterable):
        async for source in images:
            yield source
    else:
        for source in images:
            yield source


def _take(source: ImageSource, choice: Choice) -> ImageSource | Picture | Exception:
    """Returns a path, which can wait, a picture as its source is now, whatever becomes of that, or why it is none."""
    if isinstance(source, str | os.PathLike):
        return source
    try:
        return read_picture(source.copy() if isinstance(source, np.ndarray) else source, choice)
    except (MaskServingError, OSError) as error:
        return error


def items_of(group: Sequence[Wanted], results: Sequence[MaskResult | Exception]) -> list[SegmentItem]:
    """Returns the items of a group's results."""
    items = []
    for wanted, given in zip(group, results, strict=True):
        result, error = (None, given) if isinstance(given, Exception) else (given, None)
        items.append(SegmentItem(wanted.source, wanted.index, result, error))
    return items


def failed_items(group: Sequence[Wanted], error: MaskServingError) -> list[SegmentItem]:
    """Returns the items of a group that failed as a whole."""
    return items_of(group, [error] * len(group))
