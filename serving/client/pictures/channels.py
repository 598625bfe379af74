"""What a model takes of a picture: which of its pages and channels, and values of which kind."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidImageError, InvalidRequestError

Array = npt.NDArray[Any]

GRAY, RED, GREEN, BLUE, ALPHA = "gray", "red", "green", "blue", "alpha"
_KNOWN = frozenset({GRAY, RED, GREEN, BLUE, ALPHA})
_LISTED = 12
_NEARLY_BLACK = 1 << 12
"""What 16-bit values must reach not to be a sixteenth of white: a model of 8 bits would see nothing in less."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to take of a picture that holds more than a model takes.

    Attributes:
        page: from 1; None is the only one.
        bands: its channels in the model's order, from 1; None are all.

    Raises:
        InvalidRequestError: they are no such numbers.
    """

    page: int | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.page is not None:
            _check_number("page", self.page)
        if self.bands is not None:
            if isinstance(self.bands, str) or not isinstance(self.bands, Sequence) or not self.bands:
                raise InvalidRequestError(f"bands={self.bands!r} is no list of numbers", hint="such as (4, 3, 2)")
            for band in self.bands:
                _check_number("bands", band)
            object.__setattr__(self, "bands", tuple(int(band) for band in self.bands))


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidRequestError(f"{name}={value!r} is no whole number: they are counted from 1")


ALL = Choice()
"""All of a picture."""


def as_choice(page: int | None, bands: Sequence[int] | None) -> Choice:
    """Returns a caller's choice.

    Raises:
        InvalidRequestError: it is none.
    """
    return Choice(page, tuple(bands) if isinstance(bands, list | range | np.ndarray) else bands)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What a model takes.

    Attributes:
        dtype: of pixels: uint8, uint16 or float32; None where that is not known.
        channels: how many; None where that is not known.
    """

    dtype: np.dtype[Any] | None = None
    channels: int | None = None


UNKNOWN = ModelInput()
"""A model of which nothing is known."""


def choose_page(labels: Sequence[str], choice: Choice, name: str) -> int:
    """Returns the index of the page to take.

    Args:
        labels: what each page is.
        choice: the caller's.
        name: of the picture.

    Raises:
        InvalidImageError: there are several and none is chosen, or not that one, or none at all.
    """
    if not labels:
        raise InvalidImageError(f"{name} holds no picture")
    if choice.page is None and len(labels) > 1:
        raise InvalidImageError(f"{name} holds {len(labels)} pictures: {_listed(labels)}", hint="choose one with page=")
    page = choice.page or 1
    if page > len(labels):
        raise InvalidImageError(f"{name} has no page {page}: it holds {_listed(labels)}")
    return page - 1


def choose_channels(channels: Sequence[str], choice: Choice, model: ModelInput, name: str) -> list[int]:
    """Returns the indexes of the channels to send.

    Gray, RGB and alpha are what every model makes something of. Bands of no known meaning are sent where they
    are as many as the model takes.

    Args:
        channels: what each is.
        choice: the caller's.
        model: what it takes.
        name: of the picture.

    Raises:
        InvalidImageError: the caller must choose, or chose what is not there.
    """
    if choice.bands is not None:
        missing = [band for band in choice.bands if band > len(channels)]
        if missing:
            raise InvalidImageError(f"{name} has no band {missing[0]}: it holds {_listed(channels)}")
        if len(choice.bands) not in (1, model.channels or len(choice.bands)) or len(choice.bands) not in (1, 3, 4):
            wanted = model.channels or "1, 3 or 4"
            raise InvalidImageError(f"{len(choice.bands)} bands were chosen of {name}, and the model takes {wanted}")
        return [band - 1 for band in choice.bands]
    bands = [index for index, channel in enumerate(channels) if channel != ALPHA]
    if set(channels) <= _KNOWN:
        return list(range(len(channels)))
    takes = model.channels or (len(bands) if len(bands) in (1, 3, 4) else None)
    if len(bands) != takes:
        raise InvalidImageError(
            f"{name} holds {len(channels)} channels ({_listed(channels)}), and the model takes "
            f"{model.channels or '1, 3 or 4'}",
            hint=f"choose them with bands=, such as bands={_some_of(len(channels), model.channels or 3)}",
        )
    return bands


def needs_model(channels: Sequence[str], choice: Choice) -> bool:
    """Returns whether what is sent depends on how many channels the model takes."""
    return choice.bands is not None or not set(channels) <= _KNOWN


def channels_of_array(count: int) -> tuple[str, ...]:
    """Returns what the channels of an array are taken for."""
    usual = ((), (GRAY,), (GRAY, ALPHA), (RED, GREEN, BLUE), (RED, GREEN, BLUE, ALPHA))
    return usual[count] if count < len(usual) else tuple(f"band {index + 1}" for index in range(count))


def split_missing(array: Array) -> tuple[Array, npt.NDArray[np.bool_] | None]:
    """Returns pixels [H, W, C] with 0 where there are none, and where that is: [H, W], None if nowhere.

    Masked arrays say it by their mask, floats by NaN and infinity; a pixel that lacks one channel lacks all.
    """
    missing: Array | None = None
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            missing = np.ma.getmaskarray(array)
        array = np.asarray(array.data)
    if array.dtype.kind == "f":
        is_number = np.isfinite(array)
        if not is_number.all():
            missing = ~is_number if missing is None else missing | ~is_number
    if missing is None:
        return array, None
    pixels: npt.NDArray[np.bool_] = np.asarray(missing.any(axis=2))
    filled = array.copy()
    filled[pixels] = 0
    return filled, pixels


def values_as(array: Array, model: ModelInput, name: str, full_scale: int | None = None) -> Array:
    """Returns integer pixels as the model can take them: uint8 or uint16.

    Args:
        array: integers, [H, W, C].
        model: what it takes.
        name: of the picture.
        full_scale: the value that means white, where that is known to be another than the dtype's.

    Raises:
        InvalidImageError: the values fit neither.
    """
    if array.dtype == np.uint8:
        return array
    low, top = (int(array.min()), int(array.max())) if array.size else (0, 0)
    dtype = odd_integers_as(low, top, model, name, array.dtype)
    if dtype == np.uint16 and model.dtype == np.uint8:
        if full_scale is not None and full_scale < 0xFFFF:
            return to_8_bits(array, full_scale)
        check_not_black(top, name)
    return array.astype(dtype, copy=False)


def to_8_bits(array: Array, full_scale: int) -> Array:
    """Returns 16-bit pixels as uint8, of which 255 is what was `full_scale`."""
    scaled: Array = (array.astype(np.uint32) * 255 // full_scale).astype(np.uint8)
    return scaled


def odd_integers_as(low: int, top: int, model: ModelInput, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the dtype, uint8 or uint16, that holds some integers' values as the model takes them.

    Raises:
        InvalidImageError: there is none.
    """
    if dtype in (np.uint8, np.uint16):
        return dtype
    if low < 0 or top > 0xFFFF:
        raise InvalidImageError(
            f"{name} holds {dtype} from {low} to {top}, outside 0..65535",
            hint=f"scale it: numpy.interp(a, ({low}, {top}), (0, 255)).astype(numpy.uint8) makes all of it 8 bits",
        )
    return np.dtype(np.uint8 if top <= 0xFF and model.dtype != np.uint16 else np.uint16)


def check_not_black(top: int, name: str) -> None:
    """Makes sure that a model of 8 bits sees something in 16 bits.

    Args:
        top: the greatest value.
        name: of the picture.

    Raises:
        InvalidImageError: it would see black.
    """
    if 0 < top < _NEARLY_BLACK:
        raise InvalidImageError(
            f"{name} holds 16-bit values up to {top} of 65535: black to the model, which takes 8 bits",
            hint=f"scale it: numpy.interp(a, (0, {top}), (0, 255)).astype(numpy.uint8) makes {top} white",
        )


def _some_of(count: int, wanted: int) -> str:
    """Returns a choice that `choose_channels` takes."""
    numbers = range(1, (wanted if wanted <= count else 1) + 1)
    return repr(tuple(numbers))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{number}: {name}" for number, name in enumerate(names[:_LISTED], 1))
    return f"{shown}, … {len(names)}: {names[-1]}" if len(names) > _LISTED else shown
