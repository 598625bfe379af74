"""What a model takes of a picture: which of its pages and channels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import contract
from ..errors import InvalidImageError, InvalidRequestError

GRAY, RED, GREEN, BLUE, ALPHA = "gray", "red", "green", "blue", "alpha"
_KNOWN = frozenset({GRAY, RED, GREEN, BLUE, ALPHA})
_LISTED = 12


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to take of a picture that holds more than a model takes."""

    page: int | None = None  # from 1; None is the only one
    bands: tuple[int, ...] | None = None  # its channels in the model's order, from 1; None are all


ALL = Choice()


def as_choice(page: int | None, bands: Sequence[int] | None) -> Choice:
    """Returns a caller's choice, or raises `InvalidRequestError`."""
    if bands is not None and (isinstance(bands, str) or not isinstance(bands, Sequence | np.ndarray) or not len(bands)):
        raise InvalidRequestError(f"bands={bands!r} is no list of numbers", hint="such as (4, 3, 2)")
    numbers: list[tuple[str, Any]] = [("bands", band) for band in (() if bands is None else bands)]
    for name, value in numbers if page is None else [("page", page), *numbers]:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InvalidRequestError(f"{name}={value!r} is no whole number: they are counted from 1")
    return Choice(page, None if bands is None else tuple(int(band) for band in bands))


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What a model takes, as far as that is known."""

    dtype: np.dtype[Any] | None = None  # of pixels: uint8, uint16 or float32
    channels: int | None = None  # how many
    max_pixels: int | None = None  # of an encoded picture

    @property
    def takes_bands(self) -> bool:
        """Whether it is known to take rasters of bands, rather than pictures."""
        return self.channels is not None and self.channels not in contract.IMAGE_CHANNELS


UNKNOWN = ModelInput()


def choose_page(labels: Sequence[str], choice: Choice, name: str) -> int:
    """Returns the index of the page to take, of those that `labels` describe, or raises `InvalidImageError`."""
    if not labels:
        raise InvalidImageError(f"{name} holds no picture")
    if choice.page is None and len(labels) > 1:
        raise InvalidImageError(f"{name} holds {len(labels)} pictures: {_listed(labels)}", hint="choose one with page=")
    page = choice.page or 1
    if page > len(labels):
        raise InvalidImageError(f"{name} has no page {page}: it holds {_listed(labels)}")
    return page - 1


def choose_channels(channels: Sequence[str], choice: Choice, model: ModelInput, name: str) -> list[int]:
    """Returns the indexes of the channels to send, or raises `InvalidImageError` where the caller must choose.

    Gray, RGB and alpha are what every model of pictures makes something of. Bands are sent where they are as many
    as the model takes.
    """
    wanted = model.channels or "1, 3 or 4"
    if choice.bands is not None:
        for band in choice.bands:
            if band > len(channels):
                raise InvalidImageError(f"{name} has no band {band}: it holds {_listed(channels)}")
        count = len(choice.bands)
        fitting = (model.channels,) if model.takes_bands else contract.IMAGE_CHANNELS
        if count not in fitting or count not in (1, model.channels or count):
            raise InvalidImageError(f"{count} bands were chosen of {name}, and the model takes {wanted}")
        return [band - 1 for band in choice.bands]
    if set(channels) <= _KNOWN and not model.takes_bands:
        return list(range(len(channels)))
    bands = [index for index, channel in enumerate(channels) if channel != ALPHA]
    if len(bands) not in (contract.IMAGE_CHANNELS if model.channels is None else (model.channels,)):
        proposed = model.channels or 3
        if proposed > len(channels):
            proposed = 0 if model.takes_bands else 1
        some = tuple(range(1, proposed + 1))
        raise InvalidImageError(
            f"{name} holds {len(channels)} channels ({_listed(channels)}), and the model takes {wanted}",
            hint=f"choose them with bands=, such as bands={some}" if some else "give it all of its bands",
        )
    return bands


def needs_model(channels: Sequence[str], choice: Choice) -> bool:
    """Returns whether what is sent depends on how many channels the model takes."""
    return choice.bands is not None or not set(channels) <= _KNOWN


def channels_of_array(count: int) -> tuple[str, ...]:
    """Returns what the channels of an array are taken for."""
    usual = ((), (GRAY,), (GRAY, ALPHA), (RED, GREEN, BLUE), (RED, GREEN, BLUE, ALPHA))
    return usual[count] if count < len(usual) else bands_of_array(count)


def bands_of_array(count: int) -> tuple[str, ...]:
    """Returns what the channels of an array are to a model of bands."""
    return tuple(f"band {index + 1}" for index in range(count))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{number}: {name}" for number, name in enumerate(names[:_LISTED], 1))
    return f"{shown}, … {len(names)}: {names[-1]}" if len(names) > _LISTED else shown
