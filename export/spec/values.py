"""What a spec's values may be, and how the texts of flags become them."""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ...serving import contract

ALL_SIGNATURES = "all"
"""Of `signatures`: those too that are not made by default."""

_MAX_MODEL_EDGE = 32768


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",")] if value.strip() else []
    return value


def _as_list(value: Any) -> Any:
    value = _split_commas(value)
    return list(value) if isinstance(value, Sequence) else [value]


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _as_channels(value: Any) -> Any:
    # A channel given on the command line as "1" is an index, not a class of that name.
    return [_as_whole(word) for word in _as_list(value)]


def _as_size(value: Any) -> Any:
    if isinstance(value, Mapping | Sides) or (isinstance(value, str) and "=" in value):
        return _as_mapping(value)
    edges = _as_list(re.sub("[x×]", ",", value) if isinstance(value, str) else value)
    return edges * 2 if len(edges) == 1 else edges


def _as_mapping(value: Any) -> Any:
    if value in (None, False, "off", ""):
        return {}
    if isinstance(value, str):
        pairs = [word.partition("=") for word in _split_commas(value)]
        return {key.strip(): number.strip() for key, _, number in pairs}
    return value


def _as_constants(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    constants = {}
    for word in _split_commas(value):
        name, _, text = word.rpartition("=")
        try:
            constants[name.strip()] = json.loads(text)
        except ValueError:
            raise ValueError(f"{word!r}: wanted NAME=NUMBER, or NAME=true or false") from None
    return constants


def _are_numbers(constants: dict[str, Any]) -> dict[str, Any]:
    def is_number(value: Any) -> bool:
        return all(map(is_number, value)) if isinstance(value, list) else isinstance(value, bool | int | float)

    for name, value in constants.items():
        if not is_number(value):
            raise ValueError(f"{name!r}: wanted a number, true or false, or lists of them")
    return constants


def _no_repeats(values: list[Any]) -> list[Any]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"given twice: {', '.join(repeated)}")
    return values


def _background(text: str) -> str:
    if not re.fullmatch(r"black|transparent|#[0-9a-fA-F]{6}", text):
        raise ValueError("wanted black, transparent or #rrggbb")
    return text


def _known_signatures(names: list[str]) -> list[str]:
    known = (*contract.SIGNATURES, ALL_SIGNATURES)
    for name in names:
        if name not in known:
            raise ValueError(f"no signature {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}")
    return names


def did_you_mean(word: str, choices: Any) -> str:
    """Returns a hint at the choice that is close to a word; an empty one where none is."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


Numbers = Annotated[list[float], BeforeValidator(_as_list), Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
LocalPath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
Names = Annotated[list[Text], BeforeValidator(_split_commas), AfterValidator(_no_repeats)]
Edge = Annotated[int, Field(ge=1, le=_MAX_MODEL_EDGE)]
Signatures = Annotated[list[str], BeforeValidator(_as_list), AfterValidator(_known_signatures), Field(min_length=1)]
Constants = Annotated[
    dict[Text, Any], BeforeValidator(_as_constants), AfterValidator(_are_numbers), Field(min_length=1)
]
Bits = Annotated[Literal[1, 8], BeforeValidator(_as_whole)]
Background = Annotated[str, AfterValidator(_background)]
Formats = Annotated[
    list[Literal["jpeg", "png", "bmp", "webp"]],
    BeforeValidator(_as_list),
    AfterValidator(_no_repeats),
    Field(min_length=1),
]
Channels = Annotated[
    list[pydantic.NonNegativeInt | str],
    BeforeValidator(_as_channels),
    AfterValidator(_no_repeats),
    Field(min_length=1),
]


class Clean(pydantic.BaseModel):
    """Radii of a morphological opening and closing of the mask, in image pixels; 0 is off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    open: Annotated[int, Field(ge=0, le=50)] = 0
    close: Annotated[int, Field(ge=0, le=50)] = 0


CleanRadii = Annotated[Clean, BeforeValidator(_as_mapping)]


class Sides(pydantic.BaseModel):
    """A size that follows the picture's shape: how long its shorter side becomes, or its longer one, in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shortest: Edge | None = None  # the shorter side becomes so long
    longest: Edge | None = None  # the longer side does; beside `shortest`, it is so long at most
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1  # each side is rounded to the nearest one
    only: Literal["enlarge", "shrink"] | None = None  # pictures that would need the other stay as they are

    @model_validator(mode="after")
    def _has_a_side(self) -> Self:
        if self.shortest is None and self.longest is None:
            raise ValueError("give shortest or longest, or HEIGHT,WIDTH")
        return self

    def __str__(self) -> str:
        """Returns it as it is given on the command line."""
        given = self.model_dump(exclude_defaults=True)
        return ",".join(f"{name}={value}" for name, value in given.items())


Size = Annotated[
    Annotated[tuple[Edge, Edge], pydantic.Tag("size")] | Annotated[Sides, pydantic.Tag("sides")],
    pydantic.Discriminator(lambda value: "sides" if isinstance(value, Mapping | Sides) else "size"),
    BeforeValidator(_as_size),
]
