"""Choosing one of several tensors or signatures, or asking the user to."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import SourceError
from ...spec import ExportSpec


def choose(kind: str, key: str, wanted: str | None, choices: Mapping[str, Any], where: str, other_way: str = "") -> str:
    """Returns the wanted name, or the only one.

    Args:
        kind: what is chosen, for people: "output".
        key: the spec's field that chooses.
        wanted: the field's value; None where it is not given.
        choices: what there is, by name.
        where: in what, for people.
        other_way: what can be done instead of choosing one.

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
        raise SourceError(f"{where} has {len(choices)} {kind}s; choose one by {key}: {listed}{other_way}")
    return next(iter(choices))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a model takes: the image, and constants.

    Attributes:
        image: the name of its input.
        constants: of the other inputs, by name: what each takes, of one picture.
        grows: names of the constants that are repeated for every picture.
    """

    image: str
    constants: Mapping[str, np.ndarray]
    grows: frozenset[str]

    def feed(self, images: Any) -> dict[str, Any]:
        """Returns what all inputs take for images [B, …], by name; constants that do not depend on B are arrays."""
        fed = {self.image: images}
        for name, constant in self.constants.items():
            fed[name] = tf.repeat(constant, tf.shape(images)[0], axis=0) if name in self.grows else constant
        return fed

    def tensors(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the same as `feed`, all of it as tensors."""
        return {name: tf.convert_to_tensor(value) for name, value in self.feed(images).items()}


def choose_inputs(spec: ExportSpec, inputs: Mapping[str, Any], where: str) -> Inputs:
    """Returns which input takes the image, and what the spec gives the others.

    Args:
        spec: of the export.
        inputs: what the model takes, by name: tensors or their specs.
        where: in what, for people.

    Raises:
        SourceError: another input has no value, or one that it cannot take; or there is none for the image.
    """
    given = spec.source_constants or {}
    for name in given:
        if name not in inputs:
            raise SourceError(f"source_constants: {where} takes no input {name!r}; it takes: {_list(inputs)}")
    left = {name: form for name, form in inputs.items() if name not in given}
    if len(left) > 1:
        raise SourceError(
            f"{where} takes {len(left)} inputs; an export has one, the image: {_list(left)}; "
            "give the others values by source_constants (NAME=NUMBER, or a list in a spec file)"
        )
    image = choose("input", "source_input", spec.source_input, left, where)
    constants = {name: _constant(name, value, inputs[name], where) for name, value in given.items()}
    of_one = [name for name, array in constants.items() if array.shape[:1] == (1,)]
    if inputs[image].shape.rank == 3:  # a model of one picture, which has no batch
        of_one = []
    grows = frozenset(name for name in of_one if inputs[name].shape.rank and inputs[name].shape[0] is None)
    return Inputs(image, constants, grows)


def _constant(name: str, value: Any, form: Any, where: str) -> np.ndarray:
    """Returns a value as the array that an input takes, or raises `SourceError`."""
    dtype, shape = form.dtype, form.shape
    problem = f"source_constants: {name!r} of {where} is {dtype.name}{'' if shape.rank is None else list(shape)}"
    try:
        array = np.asarray(value)
    except ValueError:
        raise SourceError(f"{problem}; the lists differ in length") from None
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise SourceError(f"{problem}; only numbers can be given")
    typed = array.astype(dtype.as_numpy_dtype)
    if not dtype.is_floating and not np.array_equal(typed, array):
        raise SourceError(f"{problem}; {value} is no {dtype.name}")
    if not array.ndim and shape.rank:
        return np.full([edge or 1 for edge in shape], typed)
    if not shape.is_compatible_with(array.shape):
        if shape.rank and array.shape == (0,):  # no prompts, say: of one picture, and what else is not known is none
            edges = [shape[0] or 1, *(edge or 0 for edge in shape[1:])]
            if 0 in edges:
                return np.zeros(edges, typed.dtype)
        raise SourceError(f"{problem}; got the shape {list(array.shape)}")
    return typed


def choose_outputs(wanted: str | None, outputs: Mapping[str, Any], where: str) -> list[str]:
    """Returns the wanted output, or the only one that can be a segmentation; or two, whose names a comma is between.

    Probabilities and logits come before class indices, and what has height and width before pixels in one row. Two are
    detections [B, ., .] and the prototypes of their masks [B, ., ., .], in either order.

    Raises:
        SourceError: there is no such output, none or several that can be a segmentation, or more than two are named.
    """
    if wanted is None or wanted in outputs or "," not in wanted:
        return [_choose_output(wanted, outputs, where)]
    names = [choose("output", "source_output", name, outputs, where) for name in names_in(wanted)[1:]]
    if len(names) != 2:
        raise SourceError(
            f"source_output: detections and the prototypes of their masks are two outputs; got {wanted!r}"
        )
    return names


def _choose_output(wanted: str | None, outputs: Mapping[str, Any], where: str) -> str:
    maps: Mapping[str, Any] = {}
    for ranks in ((None, 3, 4), (2,)):
        for of_kind in (is_scores, is_classes):
            named = {name: one for name, one in outputs.items() if of_kind(one.dtype) and one.shape.rank in ranks}
            maps = maps or named
    if wanted is None and not maps:
        raise SourceError(f"{where} gives no map [B, H, W, classes] or [B, H, W]; its outputs: {_list(outputs)}")
    name = choose("output", "source_output", wanted, outputs if wanted is not None else maps, where, _joining(maps))
    output = outputs[name]
    if not (is_scores(output.dtype) or is_classes(output.dtype)) or output.shape.rank not in (None, 2, 3, 4):
        raise SourceError(
            f"source_output: {name!r} of {where} is {output.dtype.name} of shape {output.shape}; [B, H, W, classes] of "
            "floats or [B, H, W] of class indices is needed"
        )
    return name


def _joining(maps: Mapping[str, Any]) -> str:
    """Returns what to say of outputs that look like detections and the prototypes of their masks."""
    rows, prototypes = ([one for one in maps.items() if one[1].shape.rank == rank] for rank in (3, 4))
    if len(rows) != 1 or len(prototypes) != 1:
        return ""
    ((rows_name, row), (prototypes_name, prototype)) = rows[0], prototypes[0]
    # A map has both edges of the other one.
    if not {*row.shape[1:]} - {*prototype.shape[1:]} - {None} or "," in rows_name + prototypes_name:
        return ""
    return f"; or, of detections and the prototypes of their masks, both: {rows_name},{prototypes_name}"


def names_in(wanted: str | None) -> list[str]:
    """Returns the names that a `source_output` can mean: all of it, and what commas are between."""
    return [] if wanted is None else [wanted, *(name.strip() for name in wanted.split(","))]


def pick(outputs: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Returns the output of a name, or those of two as a tuple."""
    return outputs[names[0]] if len(names) == 1 else tuple(outputs[name] for name in names)


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
