"""Many pictures: what `segment_many` of both clients shares."""

import dataclasses
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from .errors import InvalidRequestError, MaskServingError
from .images import ImageSource
from .plans import check_request
from .results import MaskResult, SegmentItem

Thresholds = float | Iterable[float] | None
"""One threshold for all pictures, one for each in the same order, or the export's own."""

# A group may wait for an earlier one to be taken; so many more are on their way or done meanwhile.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One picture of many, and its threshold."""

    index: int
    source: ImageSource
    threshold: float | None


def check_many(outputs: Sequence[str], concurrency: int, batch_size: int) -> None:
    """Checks the arguments of `segment_many` before anything is read.

    Raises:
        InvalidRequestError: one makes no sense.
    """
    check_request(outputs, None)
    for name, value in (("concurrency", concurrency), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidRequestError(f"{name}={value!r} is no whole number above 0")


def window(concurrency: int) -> int:
    """Returns how many groups may be on their way, or done and not yet taken."""
    return _AHEAD * concurrency


def groups(images: Iterable[ImageSource], thresholds: Thresholds, batch_size: int) -> Iterator[tuple[Wanted, ...]]:
    """Yields the pictures in groups that are sent together.

    Raises:
        InvalidRequestError: there are fewer thresholds than pictures.
    """
    numbered = _numbered(images, _each(thresholds))
    while group := tuple(itertools.islice(numbered, batch_size)):
        yield group


async def async_groups(
    images: AsyncIterable[ImageSource], thresholds: Thresholds, batch_size: int
) -> AsyncIterator[tuple[Wanted, ...]]:
    """Yields the pictures in groups that are sent together; like `groups`."""
    each = _each(thresholds)
    group: list[Wanted] = []
    index = 0
    async for source in images:
        group.append(Wanted(index, source, _next(each, index)))
        index += 1
        if len(group) == batch_size:
            yield tuple(group)
            group.clear()
    if group:
        yield tuple(group)


def items_of(group: Sequence[Wanted], results: Sequence[MaskResult | Exception]) -> list[SegmentItem]:
    """Returns the items of a group's results."""
    return [
        SegmentItem(wanted.source, wanted.index, error=result)
        if isinstance(result, Exception)
        else SegmentItem(wanted.source, wanted.index, result=result)
        for wanted, result in zip(group, results, strict=True)
    ]


def failed_items(group: Sequence[Wanted], error: MaskServingError) -> list[SegmentItem]:
    """Returns the items of a group that failed as a whole."""
    return [SegmentItem(wanted.source, wanted.index, error=error) for wanted in group]


def _each(thresholds: Thresholds) -> Iterator[float | None]:
    if thresholds is None or isinstance(thresholds, int | float):
        return itertools.repeat(thresholds)
    return iter(thresholds)


def _next(thresholds: Iterator[float | None], index: int) -> float | None:
    try:
        return next(thresholds)
    except StopIteration:
        raise InvalidRequestError(f"there are thresholds for {index} pictures only, and more pictures") from None


def _numbered(images: Iterable[Any], thresholds: Iterator[float | None]) -> Iterator[Wanted]:
    for index, source in enumerate(images):
        yield Wanted(index, source, _next(thresholds, index))
