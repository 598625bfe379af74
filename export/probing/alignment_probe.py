"""Finding out how a model's map lies over its input: from their sizes, and from where it changes when the input does.

A map that is smaller than the input may show all of it more coarsely, or its middle only.
"""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ..errors import SpecError
from ..model.segmentation_model import SegmentationModel
from ..model.tracing import without_graph_optimization
from ..spec import CENTRE, CORNERS, STRETCH, ExportSpec
from .alignment import Alignment, AxisAlignment, with_corners
from .seams import NOTHING, Seams, exact, find_start, fit, measure, near

logger = logging.getLogger(__name__)

_FREE_SIZES = ((96, 128), (284, 316), (572, 604))
"""(height, width) that a model of any size is tried at, until it takes one: a valid U-Net has borders of up to 376."""
_ODD_SIZE = (83, 109)
_PERIODS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 16, 18, 24, 27, 28, 32, 48, 64)
"""After how many pixels the border may be the same again: what a network shrinks its input by."""
_STRIDES = (8, 16, 32, 64)
"""By what networks shrink their input that enlarge it again."""
_SHIFT = 2
"""By how many pixels of its map a network of strides may shift what it shows."""
_PROBED_EXTENT = 96
"""How many pixels of the input the map shows at least where a model of any size is probed."""
_STEPS = tuple(2.0**exponent for exponent in range(-4, 7))
"""How many pixels of the input a pixel of a map with a border may show."""
_CLEARLY = 3.0
"""How many times better one reading must fit than the other."""
_PRECISION = 0.1
"""To how many pixels seams are found in the best case."""
_MAX_RUNS = 64
"""How many pieces a picture is cut into at most."""


@without_graph_optimization()
def find_alignment(model: SegmentationModel, spec: ExportSpec) -> Alignment | None:
    """Finds out whether a loaded model's map is smaller than its input by a border.

    Returns:
        How the map lies; None where it shows the whole of its input, or is to be taken so.

    Raises:
        SpecError: it may be either and `map_alignment` does not say which, the border is too much of the input, or the
            map is of one size whatever the input's.
    """
    if model.joins_detections and spec.map_alignment not in (None, STRETCH):
        raise SpecError(
            f"map_alignment: {spec.map_alignment!r} is for maps that a model answers; one that is put together of "
            "detections shows the whole input"
        )
    if spec.map_alignment == STRETCH or model.joins_detections:
        return None
    if model.size is None:
        if spec.map_alignment == CORNERS:
            raise SpecError(f"map_alignment: {CORNERS} is for models of a fixed size; give model_size too")
        return _find_for_any_size(model, spec)[1]
    map_size = find_map_size(model, model.size)
    if map_size is None or map_size == model.size:
        return None
    if spec.map_alignment == CORNERS:
        if map_size[0] > model.size[0] or map_size[1] > model.size[1]:
            larger = f"the model answers {map_size[0]}x{map_size[1]} for {model.size[0]}x{model.size[1]} pixels"
            raise SpecError(f"map_alignment: {CORNERS} is for maps smaller than the input; {larger}")
        return Alignment(*map(with_corners, model.size, map_size))
    if spec.fixed_size is not None:
        is_known, alignment = _find_for_any_size(model, spec)
        if is_known:
            return alignment
    return _find_for_fixed_size(model, model.size, spec)


# Models of any size: the sizes of their maps tell that there is a border, and the seams only where.


def _find_for_any_size(model: SegmentationModel, spec: ExportSpec) -> tuple[bool, Alignment | None]:
    """Returns whether the model runs at other sizes than its own, and then how its map lies."""
    multiple = spec.pad_to_multiple
    if model.size is None and _runs_to_whole_maps(model, multiple):
        return True, None
    for free_size in _FREE_SIZES:
        base = _round_up(free_size, multiple)
        map_size = find_map_size(model, base)
        if map_size is not None:
            break
    else:
        return False, None
    odd_size = _round_up(_ODD_SIZE, multiple)
    odd_map_size = find_map_size(model, odd_size)
    if model.size is None and map_size == odd_map_size == find_map_size(model, (2 * base[0], 3 * base[1])):
        raise SpecError(
            f"model_size: the model answers {map_size[0]}x{map_size[1]} whatever the picture's size, so it resizes "
            "pictures itself, and may fill them up; give the size that it makes of them as model_size, or "
            f"--map_alignment={STRETCH} if it only stretches them"
        )
    edges = [*zip(base, map_size, strict=True), *zip(odd_size, odd_map_size or odd_size, strict=True)]
    axes = None if all(_is_whole(*edge) for edge in edges) else _find_periods(model, base, multiple)
    if axes is None:
        return True, None
    rows, columns = axes
    size = (rows.input_size(_PROBED_EXTENT), columns.input_size(_PROBED_EXTENT))
    starts: list[float | None] = []
    for seams in measure(model, spec, size, (rows.map_length(size[0]), columns.map_length(size[1]))):
        starts = [find_start(found, axis.step, axis.end) for axis, found in zip(axes, seams, strict=True)]
        if None not in starts:
            break
    aligned = []
    for axis, start in zip(axes, starts, strict=True):
        if start is None:
            logger.warning(
                "map_alignment: the map is smaller than its input by %g pixels, and where it lies is not clear; it is "
                "taken to be the middle",
                axis.end,
            )
        aligned.append(dataclasses.replace(axis, start=axis.end / 2 if start is None else start))
    return True, Alignment(*aligned)


def _runs_to_whole_maps(model: SegmentationModel, multiple: int) -> bool:
    """Whether a model of any size shows two pictures whole: to run it on them takes less than to trace it for them."""
    sizes = [_round_up(size, multiple) for size in (_FREE_SIZES[0], _ODD_SIZE)]
    maps = [run_to_map_size(model, size) for size in sizes]
    if None in maps or maps[0] == maps[1]:
        return False
    pairs = itertools.chain(*(zip(size, found or size, strict=True) for size, found in zip(sizes, maps, strict=True)))
    return all(_is_whole(*edges) for edges in pairs)


def _find_periods(
    model: SegmentationModel, base: tuple[int, int], multiple: int
) -> tuple[AxisAlignment, AxisAlignment] | None:
    """Finds the sizes of the input at which the border is smallest, for rows and columns, with the map at their start.

    None where there is no border: the map grows otherwise than the input, or is larger.
    """

    @functools.cache
    def lengths_of(index: int) -> tuple[int, int]:
        return find_map_size(model, (base[0] + index * multiple, base[1] + index * multiple)) or (0, 0)

    rows = _find_period(lambda index: lengths_of(index)[0], base[0], multiple)
    columns = _find_period(lambda index: lengths_of(index)[1], base[1], multiple)
    if rows is None or columns is None or min(rows.end, columns.end) < 0:
        return None
    return (
        _smallest(rows, lambda edge: (find_map_size(model, (edge, columns.size)) or (0, 0))[0]),
        _smallest(columns, lambda edge: (find_map_size(model, (rows.size, edge)) or (0, 0))[1]),
    )


def _find_period(length_of: Callable[[int], int], base: int, multiple: int) -> AxisAlignment | None:
    """Returns the size of an axis at which the border is smallest.

    `length_of` gives the map's length by how many multiples the size is above the base; 0 where the model fails.
    """
    for count in _PERIODS:
        growth = length_of(count) - length_of(0)
        tried = (0, 1, count // 2, count - 1, count)
        pairs = [(length_of(index), length_of(index + count)) for index in tried] if growth > 0 else []
        if not pairs or any(one and other and other - one != growth for one, other in pairs) or not pairs[-1][1]:
            continue
        step = count * multiple / growth
        if not (step.is_integer() or (1 / step).is_integer()):
            continue
        borders = {
            index: base + index * multiple - length_of(index) * step for index in range(count) if length_of(index)
        }
        best = min(borders, key=lambda index: borders[index])
        return AxisAlignment(base + best * multiple, count * multiple, length_of(best), 0.0, step)
    return None


def _smallest(axis: AxisAlignment, length_of: Callable[[int], int]) -> AxisAlignment:
    """Returns an axis with the smallest input at which its map is as it should be."""
    growth = round(axis.period / axis.step)
    for length in range(axis.length % growth or growth, axis.length, growth):
        size = axis.size - (axis.length - length) // growth * axis.period
        if size > 0 and length_of(size) == length:
            return dataclasses.replace(axis, size=size, length=length)
    return axis


# Models of a fixed size: the seams tell all.


def _find_for_fixed_size(model: SegmentationModel, size: tuple[int, int], spec: ExportSpec) -> Alignment | None:
    map_size = find_map_size(model, size) or size
    lengths = list(zip(size, map_size, strict=True))
    judged: list[_Judgement] = []
    for seams in measure(model, spec, size, map_size):
        judged = [_judge(*edges, found) for edges, found in zip(lengths, seams, strict=True)]
        if all(judgement.axis for judgement in judged):
            break
    answers = f"the model answers {map_size[0]}x{map_size[1]} for {size[0]}x{size[1]} pixels"
    axes = [_decide(*edges, judgement, spec) for edges, judgement in zip(lengths, judged, strict=True)]
    rows, columns = axes
    if rows is None or columns is None:
        raise SpecError(
            f"map_alignment: {answers}, and it is not clear whether that is their middle or all of them "
            f"({judged[axes.index(None)].found}); give {CENTRE} or {STRETCH}"
        )
    if axes == [_whole(*edges) for edges in lengths]:
        return None
    alignment = Alignment(rows, columns)
    if (runs := alignment.runs(size)) > _MAX_RUNS:
        raise SpecError(
            f"map_alignment: {answers}, their middle, so that a picture takes {runs} runs of it (at most {_MAX_RUNS}); "
            f"make the model larger, or give it no fixed size; or give {STRETCH}"
        )
    return alignment


class _Judgement(NamedTuple):
    """What seams say of an axis: how the map lies, if that is clear; it in words; whether it cannot be the whole."""

    axis: AxisAlignment | None
    found: str = "no seam in the input shows in the map"
    contradicts_all: bool = False


def _judge(size: int, length: int, seams: Seams) -> _Judgement:
    if size == length:
        return _Judgement(_whole(size, length))
    by_exact = _judge_by(size, length, seams, exact(seams))
    if by_exact.axis is not None:
        return by_exact
    by_near = _judge_by(size, length, seams, near(seams))
    if by_near.axis != _whole(size, length) and _is_usual(size, length):
        # Such a map is far more usual than a border that leaves just a half of the input, or lacks a single pixel.
        return by_near._replace(axis=None, contradicts_all=by_exact.contradicts_all)
    return by_near


def _judge_by(size: int, length: int, seams: Seams, chosen: Seams) -> _Judgement:
    stretched = fit(chosen, size / length, start=0.0)
    steps = [step for step in _STEPS if (step < 1) == (length > size) and size - length * step >= step]
    fits = [fit(chosen, step) for step in steps]
    best = min((one for one in fits if one), key=lambda one: one.error, default=None)
    if stretched is None or best is None:
        return _Judgement(None)
    shifted = fit(chosen, size / length)
    if shifted and abs(shifted.start) <= _SHIFT * max(1, size / length) and best.error > NOTHING:
        stretched = min(stretched, shifted, key=lambda one: one.error)
    border = size - length * best.step
    found = (
        f"seams between two pictures fit to {stretched.error:.1f} pixels if it is all, to {best.error:.1f} if it lacks "
        f"a border of {border:g} in all"
    )
    if stretched.error > _CLEARLY * max(best.error, _PRECISION) and best.error <= max(2 * best.step, 2.0, border / 4):
        start = find_start(seams, best.step, border)
        return _Judgement(None if start is None else _with_border(size, length, start, best.step), found)
    if best.error > _CLEARLY * max(stretched.error, _PRECISION):
        return _Judgement(_whole(size, length), found)
    return _Judgement(None, found, stretched.error > max(2 * size / length, best.error))


def _decide(size: int, length: int, judgement: _Judgement, spec: ExportSpec) -> AxisAlignment | None:
    """Returns how an axis lies: as was found where that is clear, else as the user says or as its size alone says."""
    whole = _whole(size, length)
    if spec.map_alignment == CENTRE and judgement.axis in (None, whole) and size != length:
        step = 1.0 if length < size else 1 / math.ceil(length / size)
        return _with_border(size, length, (size - length * step) / 2, step)
    if judgement.axis is None and _is_usual(size, length) and not judgement.contradicts_all:
        return whole
    return judgement.axis


def _is_whole(size: int, length: int) -> bool:
    """Whether a map of that length shows its input by some whole number of pixels each, but for less than one of it."""
    step = float(round(size / length)) if length <= size else 1 / round(length / size)
    return abs(size - length * step) < step


def _is_usual(size: int, length: int) -> bool:
    """Whether networks of padded convolutions, of the usual strides, answer a whole input by a map of that length."""
    if _is_whole(size, length) or abs(size - length) <= 1:
        return True
    # Shrunk by more and enlarged again, it shows an input that was filled up: 64 of 250, by way of 8.
    step = 2 ** max(0, math.ceil(math.log2(size / length)))
    return any(length * step == -(-size // stride) * stride for stride in _STRIDES if stride >= step)


def _whole(size: int, length: int) -> AxisAlignment:
    return AxisAlignment(size, 0, length, 0.0, size / length)


def _with_border(size: int, length: int, start: float, step: float) -> AxisAlignment:
    # Pieces are put together at whole pixels of the input.
    return AxisAlignment(size, 0, round(int(length * step) / step), start, step)


def _round_up(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def find_map_size(model: SegmentationModel, size: tuple[int, int]) -> tuple[int, int] | None:
    """Returns height and width of a model's map; None where it fails at that size, or nothing is left."""
    images = tf.TensorSpec([1, *size, model.channels], tf.float32)
    is_own = model.size == size
    try:
        traced = model.traced if is_own else tf.function(model.forward, autograph=False).get_concrete_function(images)
        shape = traced.structured_outputs.shape
        if shape.rank is None or None in shape.as_list()[1:3]:
            shape = traced(tf.zeros(images.shape)).shape
    except Exception:
        return None
    return _edges(shape, model)


def run_to_map_size(model: SegmentationModel, size: tuple[int, int]) -> tuple[int, int] | None:
    """Returns sooner what `find_map_size` does, for a model of any size; not reliably so where nothing is left.

    Where oneDNN runs them, convolutions then answer their input.
    """
    try:
        shape = model.traced(tf.zeros([1, *size, model.channels])).shape
    except Exception:
        return None
    return _edges(shape, model)


def _edges(shape: tf.TensorShape, model: SegmentationModel) -> tuple[int, int] | None:
    _, height, width, channels = shape
    return (height, width) if min(height, width) >= 1 and channels in (None, model.output_channels) else None
