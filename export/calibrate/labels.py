"""What the values in mask files mean: foreground, background, or nothing that counts."""

import collections
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from ..errors import CalibrationError as CalibrationError  # noqa: PLC0414  (a stub names only its own package)

Values = npt.NDArray[np.int64]
"""Levels, a palette's indices, or colours: `COLOUR` + 0xRRGGBB. A gray is its level, so black is 0 everywhere."""
Mask = npt.NDArray[np.bool_]
ValueLike = int | str
"""A level (255), a range of levels ("1-3"), or a colour ("#ff0000")."""

COLOUR = 1 << 24
_VOIDS = (255, 65535)
"""What data sets write where nobody knows: the largest level."""
_FEW = 16
"""So many values or fewer are drawn; more may be what resampling or compression leaves beside edges."""
_SHOWN = 12
_MOST = 1 << 17
"""Twice as many as there are levels of 16 bits; more are colours of photographs, and would fill the memory."""
_VALUE = re.compile(r"(?P<first>-?\d+)(?:-(?P<last>\d+))?|#(?P<colour>[0-9a-fA-F]{6})")


def parse_values(values: ValueLike | Iterable[ValueLike]) -> tuple[range, ...]:
    """Returns the values that a user names, one or several, as ranges; CalibrationError where one is no value."""
    if isinstance(values, int | str):
        values = [values]
    ranges = []
    for value in values:
        match = _VALUE.fullmatch(str(value).strip())
        if match is None:
            raise CalibrationError(
                f"{value!r} is no value of a mask: give levels (255), ranges (1-3) or colours (#ff0000)"
            )
        if match["colour"]:
            colour = COLOUR + int(match["colour"], 16)
            red, green, blue = (colour >> shift & 255 for shift in (16, 8, 0))
            level = red if red == green == blue else colour
            ranges.append(range(level, level + 1))
        else:
            first = int(match["first"])
            ranges.append(range(first, int(match["last"] or first) + 1))
    return tuple(ranges)


@dataclasses.dataclass(frozen=True)
class LabelMeaning:
    """What counts as foreground."""

    foreground: tuple[range, ...] | None = None  # values; None is all but 0
    ignored: tuple[range, ...] = ()  # values of pixels that count as nothing, neither right nor wrong

    def counts(self, values: Values) -> Mask:
        """Returns which pixels count at all."""
        return ~_is_in(values, self.ignored)

    def is_foreground(self, values: Values) -> Mask:
        """Returns which pixels are foreground, if they count."""
        return values != 0 if self.foreground is None else _is_in(values, self.foreground)


def _is_in(values: Values, ranges: Sequence[range]) -> Mask:
    inside = np.zeros(values.shape, bool)
    for one in ranges:
        inside |= (values >= one.start) & (values < one.stop)
    return inside


def format_value(value: int) -> str:
    """Returns a value as users write it."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


class LabelCounts:
    """How many pixels of all masks have each value, and which but 0 share a mask with another that counts (`mixed`)."""

    def __init__(self, meaning: LabelMeaning) -> None:
        self.meaning = meaning
        self.pixels: collections.Counter[int] = collections.Counter()
        self.mixed: set[int] = set()

    def add_all(self, readers: Iterable[Callable[[], Values]]) -> Self:
        """Adds those of masks, but for those whose reading fails (CalibrationError); returns itself.

        Masks are read in no time; what the model says of hundreds of pictures would be waited for in vain.

        Raises:
            CalibrationError: they hold more values than any labels do.
        """
        for read in readers:
            with contextlib.suppress(CalibrationError):  # which is told when the picture is measured
                self.add(read())
            if len(self.pixels) > _MOST:
                raise CalibrationError(
                    f"the masks hold more than {_MOST:,} values, as photographs do: are pictures and masks swapped?"
                )
        return self

    def add(self, values: Values) -> None:
        """Adds one mask's."""
        found, counts = np.unique(values, return_counts=True)
        self.pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        drawn = found[(found != 0) & self.meaning.counts(found)].tolist()
        if len(drawn) > 1:
            self.mixed.update(drawn)

    @property
    def has_foreground(self) -> bool:
        """Whether some pixel is foreground, and counts."""
        found = np.array(sorted(self.pixels))
        return bool((self.meaning.is_foreground(found) & self.meaning.counts(found)).any())

    def summarize(self, with_meaning: bool = False) -> str:
        """Returns the most frequent values with their shares, such as `0 (81.2 %), 1 (18.8 %)`."""
        total = self.pixels.total()
        shown = sorted(value for value, _ in self.pixels.most_common(_SHOWN))
        texts = []
        for value in shown:
            word = f", {self._describe(value)}" if with_meaning else ""
            texts.append(f"{format_value(value)} ({100 * self.pixels[value] / total:.1f} %{word})")
        if len(self.pixels) > _SHOWN:
            texts.append(f"{len(self.pixels) - _SHOWN} others")
        return ", ".join(texts)

    def _describe(self, value: int) -> str:
        alone = np.array([value])
        if not self.meaning.counts(alone)[0]:
            return "ignored"
        return "foreground" if self.meaning.is_foreground(alone)[0] else "background"

    def check(self, classes: int, foreground: Sequence[int]) -> str | None:
        """Checks that the values are told apart as far as they must be.

        Args:
            classes: how many output channels the model has.
            foreground: those that the spec's mask is of.

        Returns:
            What is doubtful, but may be meant; None for nothing.

        Raises:
            CalibrationError: they are probably not what they are taken for.
        """
        found = np.array(sorted(self.pixels))
        counted = found[self.meaning.counts(found)]
        if counted.size and self.meaning.is_foreground(counted).all():
            raise CalibrationError(
                f"every pixel of the masks is foreground; they hold {self.summarize()}: name what is foreground by "
                "--foreground_values, and what is unknown by --ignore_value (of a trimap with 1, 2 and 3: 1, and 3)"
            )
        if self.meaning.foreground is not None:
            return None
        drawn = [int(value) for value in counted if value]
        indices = len(drawn) > 1 or drawn[:1] > [1]
        if indices and max(drawn) < classes and set(drawn) != set(foreground):
            raise CalibrationError(
                f"the masks hold {self.summarize()}, which look like indices of the model's {classes} classes, and the "
                f"spec's foreground is {_listed(foreground)}: give --foreground_values={_listed(foreground)}, or those "
                "that are foreground"
            )
        if not self.mixed:
            return None
        if self._has_soft_edges():
            return (
                f"the masks hold {self.summarize()}: levels between, as soft, resampled or compressed edges have, "
                "count as foreground; --foreground_values=128-255 takes the upper half"
            )
        # Numbers of objects may pass it.
        unknown = next((void for void in _VOIDS if void in self.mixed and void - 1 not in self.mixed), None)
        if unknown is not None:
            others = _listed(value for value in drawn if value != unknown)
            raise CalibrationError(
                f"the masks hold {self.summarize()}: {unknown} beside other values mostly means void, which is no "
                f"foreground; give --ignore_value={unknown}, or all that is foreground, such as "
                f"--foreground_values={others}"
            )
        if max(self.mixed) >= COLOUR:
            raise CalibrationError(
                f"the masks hold several colours, {self.summarize()}: name those that are foreground, such as "
                f"--foreground_values={format_value(max(self.mixed))}"
            )
        return None

    def _has_soft_edges(self) -> bool:
        """Whether the values are those of one that is drawn and of what is beside its edges, rather than of labels."""
        levels = [value for value in self.mixed if value < COLOUR]
        between = [value for value in levels if 32 <= value < 224]
        # Labels are numbered from 1 without gaps; what is meant to be 255 and is not quite comes from compression.
        if any(224 <= value < 255 for value in levels) and len(levels) < max(levels):
            return True
        largest = max(self.pixels[value] for value in self.mixed)
        others = sum(self.pixels[value] for value in self.mixed) - largest
        is_spread = len(between) >= 4 or len(levels) < len(self.mixed)
        return is_spread and len(self.mixed) > _FEW and 2 * others < largest


def _listed(values: Iterable[int]) -> str:
    texts = [format_value(value) for value in values]
    return ",".join(texts[:_SHOWN])
