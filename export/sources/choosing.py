"""Choosing one of several tensors or signatures, or asking the user to."""

import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from ..errors import SourceError


def choose(kind: str, key: str, wanted: str | None, choices: Mapping[str, Any], where: str) -> str:
    """Returns the wanted name, or the only one.

    Args:
        kind: what is chosen, for people: "output".
        key: the spec's field that chooses.
        wanted: the field's value; None where it is not given.
        choices: what there is, by name.
        where: in what, for people.

    Raises:
        SourceError: there is no such name, or it is ambiguous. Lists the choices.
    """
    listed = _list(choices)
    if wanted is not None:
        if wanted not in choices:
            raise SourceError(f"{key}: {where} has no {kind} {wanted!r}; it has: {listed or 'none'}")
        return wanted
    if not choices:
        raise SourceError(f"{where} has no {kind} that could be used")
    if len(choices) > 1:
        raise SourceError(f"{where} has {len(choices)} {kind}s; choose one by {key}: {listed}")
    return next(iter(choices))


def choose_image(wanted: str | None, inputs: Mapping[str, tf.TensorSpec], where: str) -> str:
    """Returns the name of the input that takes the image; SourceError where there are others, or it is not there."""
    if len(inputs) > 1:
        raise SourceError(
            f"{where} takes {len(inputs)} inputs; an export has one, the image: {_list(inputs)}; "
            "wrap it in a builder function that sets the others"
        )
    return choose("input", "source_input", wanted, inputs, where)


def choose_output(wanted: str | None, outputs: Mapping[str, Any], where: str) -> str:
    """Returns the wanted output, or the only one that can be a segmentation; SourceError where there is none.

    Probabilities and logits come before class indices, and what has height and width before pixels in one row.
    """
    maps: Mapping[str, Any] = {}
    for ranks in ((None, 3, 4), (2,)):
        for of_kind in (is_scores, is_classes):
            named = {name: one for name, one in outputs.items() if of_kind(one.dtype) and one.shape.rank in ranks}
            maps = maps or named
    if wanted is None and not maps:
        raise SourceError(f"{where} gives no map [B, H, W, classes] or [B, H, W]; its outputs: {_list(outputs)}")
    name = choose("output", "source_output", wanted, outputs if wanted is not None else maps, where)
    output = outputs[name]
    if not (is_scores(output.dtype) or is_classes(output.dtype)) or output.shape.rank not in (None, 2, 3, 4):
        raise SourceError(
            f"source_output: {name!r} of {where} is {output.dtype.name} of shape {output.shape}; [B, H, W, classes] of "
            "floats or [B, H, W] of class indices is needed"
        )
    return name


def is_scores(dtype: tf.DType) -> bool:
    """Whether numbers of a dtype can be probabilities or logits."""
    return dtype.is_floating


def is_classes(dtype: tf.DType) -> bool:
    """Whether numbers of a dtype can be class indices."""
    return dtype.is_integer or dtype == tf.bool


def _list(choices: Mapping[str, Any]) -> str:
    """Returns names with the dtype and shape of what they stand for, where that is a tensor."""
    texts = []
    for name, choice in choices.items():
        shape = tf.TensorShape(getattr(choice, "shape", None))
        sizes = "" if shape.rank is None else [-1 if edge is None else edge for edge in shape]
        texts.append(f"{name!r} {choice.dtype.name}{sizes}" if hasattr(choice, "shape") else repr(name))
    return ", ".join(texts)


def flatten_named(outputs: Any) -> dict[str, Any]:
    """Returns a model's outputs by name: keys and positions, joined by "/" where they are nested; else "0".

    A list of one is what it holds: Keras gives back either. What is None is no output.
    """
    while isinstance(outputs, list | tuple) and len(outputs) == 1:
        (outputs,) = outputs
    if isinstance(outputs, Mapping):
        items = [(str(key), value) for key, value in outputs.items()]
    elif isinstance(outputs, list | tuple):
        items = [(str(position), value) for position, value in enumerate(outputs)]
    else:
        items = [("0", outputs)]
    named: dict[str, Any] = {}
    for name, value in items:
        if isinstance(value, Mapping | list | tuple):
            named |= {f"{name}/{inner}": output for inner, output in flatten_named(value).items()}
        elif value is not None:
            named[name] = value
    return named


def in_natural_order(named: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a SavedModel holds in no order by name, and numbers in names by value: output_2, output_10."""
    # Texts and numbers take turns, so that no two of one kind meet another.
    parts = {name: re.split(r"(\d+)", name) for name in named}
    keys = {name: [int(part) if at % 2 else part for at, part in enumerate(split)] for name, split in parts.items()}
    return {name: named[name] for name in sorted(named, key=keys.__getitem__)}
