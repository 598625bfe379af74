"""Finding out how a model's map lies over its input: from their sizes, and from where it changes when the input does.

A map that is smaller than the input may show all of it more coarsely, or its middle only. Two pictures are put
together at a seam, and their map is held against those of either. Up to where it is that of the one to the bit, and
from where that of the other, tells exactly how the map lies of a network that sees nothing but a neighbourhood; where
it goes over from the one to the other tells it nearly, also where each pixel depends on the whole picture (as by
squeeze and excite).
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import SpecError
from ..graph.scaling import ValueScaling
from ..model import examples
from ..model.graph_optimization import without_graph_optimization
from ..model.segmentation_model import SegmentationModel
from ..spec import CENTRE, STRETCH, ExportSpec
from .alignment import Alignment, AxisAlignment

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
_INNER_SEAMS, _OUTER_SEAMS = (0.2, 0.5, 0.8), (0.3, 0.8)
"""Where seams are, as shares of the input's middle that is as large as the map, and of what lies on either side."""
_STEPS = tuple(2.0**exponent for exponent in range(-4, 7))
"""How many pixels of the input a pixel of a map with a border may show."""
_MIN_CONTRAST = 0.25
"""How much of what a map shows on either side of a seam must be due to that side."""
_NOTHING = 1e-6
"""A share that is taken for none."""
_CLEARLY = 3.0
"""How many times better one reading must fit than the other."""
_PRECISION = 0.1
"""To how many pixels seams are found in the best case."""
_MAX_RUNS = 64
"""How many pieces a picture is cut into at most."""

Floats = npt.NDArray[np.float64]
_Place = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class _Fit:
    """How seams fit a reading of the map.

    Attributes:
        step: input pixels that a pixel of the map shows.
        start: where the map begins in the input.
        error: root mean square of what is left, in pixels of the input.
        uncertainty: standard error of `start`.
    """

    step: float
    start: float
    error: float
    uncertainty: float

    def snapped_start(self, border: float) -> float | None:
        """Returns where the map begins: as measured if that is exact, so that the border is even if that may be.

        None is unclear.

        Args:
            border: how many pixels of the input the map does not show.
        """
        unit = max(1.0, self.step)
        if self.error < _NOTHING:
            measured = round(2 * self.start) / 2
        elif abs(self.start - border / 2) <= 2 * (unit + self.uncertainty):
            return border / 2
        elif self.uncertainty <= unit / 2:
            measured = float(round(self.start))
        else:
            return None
        return measured if 0 <= measured <= border else None


@dataclasses.dataclass(frozen=True)
class _Seams:
    """Seams along one axis, as they were found in the map.

    Attributes:
        places: [N, 3]: where the seam is in the input, in pixels; what was found of it in the map; and whether that is
            before it by the model's reach (1), behind it (-1), or the seam itself (0).
    """

    places: Floats

    def fit(self, step: float, start: float | None = None) -> _Fit | None:
        """Fits a map of a step that begins at `start`, or anywhere; None if there are too few seams."""
        values = self.places[:, 0] - step * self.places[:, 1] - (start or 0.0)
        columns = [np.ones(len(values))] if start is None else []
        if self.places[:, 2].any():
            columns.append(self.places[:, 2])
        unknowns = len(columns)
        # Too few different ones would fit any step.
        if np.linalg.matrix_rank(np.stack([*columns, self.places[:, 1]], 1)) <= unknowns or len(values) < unknowns + 2:
            return None
        if not unknowns:
            return _Fit(step, start or 0.0, float(np.sqrt(np.mean(values**2))), 0.0)
        terms = np.stack(columns, 1)
        solution, *_ = np.linalg.lstsq(terms, values)
        error = float(np.sqrt(np.sum((values - terms @ solution) ** 2) / (len(values) - unknowns)))
        uncertainty = error * float(np.linalg.inv(terms.T @ terms)[0, 0]) ** 0.5
        return _Fit(step, float(solution[0]) if start is None else start, error, uncertainty)


@dataclasses.dataclass(frozen=True)
class _AxisSeams:
    """What seams show along one axis.

    Attributes:
        exact: how far the map is either picture's to the bit; nothing of models whose pixels see the whole picture.
        near: where it goes over from one to the other.
    """

    exact: _Seams
    near: _Seams

    @classmethod
    def of(cls, places: list[_Place]) -> "_AxisSeams":
        """Sorts what was found."""
        all_places = np.array(places, np.float64).reshape(-1, 3)
        is_near = all_places[:, 2] == 0
        return cls(_Seams(all_places[~is_near]), _Seams(all_places[is_near]))

    def start(self, step: float, border: float) -> float | None:
        """Returns where a map of that step begins, in a border of so many pixels; None if that is not clear."""
        if not border:
            return 0.0
        fits = [seams.fit(step) for seams in (self.exact, self.near)]
        starts = (fit.snapped_start(border) for fit in fits if fit)
        return next((start for start in starts if start is not None), None)


def find_alignment(model: SegmentationModel, spec: ExportSpec) -> Alignment | None:
    """Finds out whether a model's map is smaller than its input by a border.

    Args:
        model: as loaded.
        spec: of the export.

    Returns:
        How the map lies; None where it shows the whole of its input, or is to be taken so.

    Raises:
        SpecError: it may be either and `map_alignment` does not say which, or the border is too much of the input.
    """
    if spec.map_alignment == STRETCH:
        return None
    if model.size is not None and _map_size(model, model.size) in (model.size, None):
        return None
    if model.size is None or spec.model_size is not None:
        is_known, alignment = _find_for_any_size(model, spec)
        if is_known or model.size is None:
            return alignment
    return _find_for_fixed_size(model, model.size, spec)


# Models of any size: the sizes of their maps tell that there is a border, and the seams only where.


def _find_for_any_size(model: SegmentationModel, spec: ExportSpec) -> tuple[bool, Alignment | None]:
    """Returns whether the model runs at other sizes than its own, and then how its map lies."""
    multiple = spec.pad_to_multiple
    for free_size in _FREE_SIZES:
        base = _round_up(free_size, multiple)
        map_size = _map_size(model, base)
        if map_size is not None:
            break
    else:
        return False, None
    odd_size = _round_up(_ODD_SIZE, multiple)
    edges = [*zip(base, map_size, strict=True), *zip(odd_size, _map_size(model, odd_size) or odd_size, strict=True)]
    if all(_is_whole(*edge) for edge in edges):
        return True, None
    axes = _find_periods(model, base, multiple)
    if axes is None:
        return True, None
    rows, columns = axes
    size = (rows.input_size(_PROBED_EXTENT), columns.input_size(_PROBED_EXTENT))
    starts: list[float | None] = [None, None]
    for seams in _measure(model, spec, size, (rows.map_length(size[0]), columns.map_length(size[1]))):
        starts = [found.start(axis.step, axis.end) for axis, found in zip(axes, seams, strict=True)]
        if None not in starts:
            break
    for axis, start in zip(axes, starts, strict=True):
        if start is None:
            logger.warning(
                "map_alignment: the map is smaller than its input by %g pixels, and where it lies is not clear; it is "
                "taken to be the middle",
                axis.end,
            )
    rows, columns = (
        dataclasses.replace(axis, start=axis.end / 2 if start is None else start)
        for axis, start in zip(axes, starts, strict=True)
    )
    return True, Alignment(rows, columns)


def _find_periods(
    model: SegmentationModel, base: tuple[int, int], multiple: int
) -> tuple[AxisAlignment, AxisAlignment] | None:
    """Finds the sizes of the input at which the border is smallest, for rows and columns, with the map at their start.

    Returns:
        None where there is no border: the map grows otherwise than the input, or is larger.
    """

    @functools.cache
    def lengths_of(index: int) -> tuple[int, int]:
        return _map_size(model, (base[0] + index * multiple, base[1] + index * multiple)) or (0, 0)

    rows = _find_period(lambda index: lengths_of(index)[0], base[0], multiple)
    columns = _find_period(lambda index: lengths_of(index)[1], base[1], multiple)
    if rows is None or columns is None or min(rows.end, columns.end) < 0:
        return None
    return (
        _smallest(rows, lambda edge: _map_size(model, (edge, columns.size)), 0),
        _smallest(columns, lambda edge: _map_size(model, (rows.size, edge)), 1),
    )


def _find_period(length_of: Callable[[int], int], base: int, multiple: int) -> AxisAlignment | None:
    """Returns the size of an axis at which the border is smallest.

    Args:
        length_of: the map's length by how many multiples the size is above the base; 0 where the model fails.
        base: at which it does not.
        multiple: of the sizes.
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


def _smallest(axis: AxisAlignment, map_size: Callable[[int], tuple[int, int] | None], index: int) -> AxisAlignment:
    """Returns an axis with the smallest input at which its map is as it should be."""
    growth = round(axis.period / axis.step)
    for length in range(axis.length % growth or growth, axis.length, growth):
        size = axis.size - (axis.length - length) // growth * axis.period
        found = map_size(size) if size > 0 else None
        if found is not None and found[index] == length:
            return dataclasses.replace(axis, size=size, length=length)
    return axis


# Models of a fixed size: the seams tell all.


def _find_for_fixed_size(model: SegmentationModel, size: tuple[int, int], spec: ExportSpec) -> Alignment | None:
    map_size = _map_size(model, size) or size
    lengths = list(zip(size, map_size, strict=True))
    judged: list[_Judgement] = []
    for seams in _measure(model, spec, size, map_size):
        judged = [_judge(*edges, found) for edges, found in zip(lengths, seams, strict=True)]
        if all(judgement.axis for judgement in judged):
            break
    axes = [_decide(*edges, judgement, spec) for edges, judgement in zip(lengths, judged, strict=True)]
    rows, columns = axes
    if rows is None or columns is None:
        raise SpecError(
            f"map_alignment: the model answers {map_size[0]}x{map_size[1]} for {size[0]}x{size[1]} pixels, and it is "
            f"not clear whether that is their middle or all of them ({judged[axes.index(None)].found}); give "
            f"{CENTRE} or {STRETCH}"
        )
    if (rows, columns) == (_whole(size[0], map_size[0]), _whole(size[1], map_size[1])):
        return None
    alignment = Alignment(rows, columns)
    if (runs := alignment.runs(size)) > _MAX_RUNS:
        raise SpecError(
            f"map_alignment: the model answers {map_size[0]}x{map_size[1]} for {size[0]}x{size[1]} pixels, their "
            f"middle, so that a picture takes {runs} runs of it (at most {_MAX_RUNS}); make the model larger, or give "
            f"it no fixed size; or give {STRETCH}"
        )
    return alignment


@dataclasses.dataclass(frozen=True)
class _Judgement:
    """What seams say of an axis.

    Attributes:
        axis: how the map lies; None where that is not clear.
        found: for people.
        contradicts_all: whether what is exact speaks against the whole input.
    """

    axis: AxisAlignment | None
    found: str = "no seam in the input shows in the map"
    contradicts_all: bool = False


def _judge(size: int, length: int, seams: _AxisSeams) -> _Judgement:
    if size == length:
        return _Judgement(_whole(size, length))
    exact = _judge_by(size, length, seams, seams.exact)
    if exact.axis is not None:
        return exact
    near = _judge_by(size, length, seams, seams.near)
    if near.axis != _whole(size, length) and _is_usual(size, length):
        # Such a map is far more usual than a border that leaves just a half of the input, or lacks a single pixel.
        return dataclasses.replace(near, axis=None, contradicts_all=exact.contradicts_all)
    return near


def _judge_by(size: int, length: int, seams: _AxisSeams, chosen: _Seams) -> _Judgement:
    stretched = chosen.fit(size / length, start=0.0)
    steps = [step for step in _STEPS if (step < 1) == (length > size) and size - length * step >= step]
    fits = [chosen.fit(step) for step in steps]
    best = min((fit for fit in fits if fit), key=lambda fit: fit.error, default=None)
    if stretched is None or best is None:
        return _Judgement(None)
    shifted = chosen.fit(size / length)
    if shifted and abs(shifted.start) <= _SHIFT * max(1, size / length) and best.error > _NOTHING:
        stretched = min(stretched, shifted, key=lambda fit: fit.error)
    border = size - length * best.step
    found = (
        f"seams between two pictures fit to {stretched.error:.1f} pixels if it is all, to {best.error:.1f} if it lacks "
        f"a border of {border:g} in all"
    )
    if stretched.error > _CLEARLY * max(best.error, _PRECISION) and best.error <= max(2 * best.step, 2.0, border / 4):
        start = seams.start(best.step, border)
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
    length = round(int(length * step) / step)
    return AxisAlignment(size, 0, length, start, step)


# Running the model.


def _round_up(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def _map_size(model: SegmentationModel, size: tuple[int, int]) -> tuple[int, int] | None:
    """Returns height and width of a model's map; None where it fails at that size, or nothing is left."""
    images = tf.TensorSpec([1, *size, model.channels], tf.float32)
    try:
        traced = tf.function(model.forward, autograph=False).get_concrete_function(images)
        shape = traced.structured_outputs.shape
        if shape.rank is None or None in shape.as_list()[1:3]:
            # Fused with its activation, a convolution that leaves nothing answers its input.
            with without_graph_optimization():
                shape = traced(tf.zeros(images.shape)).shape
    except Exception:
        return None
    height, width = (int(edge) for edge in shape[1:3])
    return (height, width) if min(height, width) >= 1 else None


def _measure(
    model: SegmentationModel, spec: ExportSpec, size: tuple[int, int], map_size: tuple[int, int]
) -> Iterator[tuple[_AxisSeams, _AxisSeams]]:
    """Looks for seams in the map, in more and more pairs of pictures.

    Args:
        model: to run.
        spec: says what pixels it takes.
        size: height and width of its input.
        map_size: of its map.

    Yields:
        All seams that were found so far between rows, and between columns.
    """
    scaling = ValueScaling(spec, model)
    images = tf.TensorSpec([1, *size, model.channels], tf.float32)
    run_scaled = tf.function(model.forward, autograph=False).get_concrete_function(images)

    def run(picture: npt.NDArray[np.uint8]) -> Floats:
        pixels = examples.as_pixels(picture, model.channels, "float32", spec.full_scale)
        maps = run_scaled(scaling(tf.constant(pixels[np.newaxis]), spec.full_scale))
        return np.nan_to_num(np.asarray(maps[0], np.float64))

    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(2)]
    drawn = [examples.draw_picture(*size, seed=seed) for seed in (0, 1)]
    found: tuple[list[_Place], list[_Place]] = ([], [])
    for one, other in (noise, drawn):
        first, second = run(one), run(other)
        for axis, (edge, length) in enumerate(zip(size, map_size, strict=True)):
            for seam in _seams(edge, length):
                is_first = (np.arange(edge) < seam).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
                found[axis].extend(_find_seam(seam, run(np.where(is_first, one, other)), first, second, axis))
        yield _AxisSeams.of(found[0]), _AxisSeams.of(found[1])


def _seams(size: int, length: int) -> list[int]:
    shown = min(size, length)
    border = (size - shown) / 2
    wanted = [border + share * shown for share in _INNER_SEAMS]
    for share in _OUTER_SEAMS:
        # A wide border's own middle shows in no map that is smaller than it.
        wanted += [share * min(border, shown), size - share * min(border, shown)]
    # All the places in a group of four, so that what is the same for each group is not taken for exact.
    seams = [int(seam) // 4 * 4 + index % 4 for index, seam in enumerate(wanted)]
    return [seam for seam in seams if 0 < seam < size]


def _find_seam(seam: int, joined: Floats, first: Floats, second: Floats, axis: int) -> Iterator[_Place]:
    """Yields what a map shows of a seam, as `_Seams.places` holds it.

    Args:
        seam: where it is in the input.
        joined: [h, w, K], the answer to two pictures on either side of the seam.
        first: to the one before it alone.
        second: to the one behind it.
        axis: across which the seam lies.
    """
    across = tuple({0, 1, 2} - {axis})
    difference = first - second
    if not difference.any():
        return
    length = len(difference) if axis == 0 else difference.shape[1]
    # How many pixels are the first picture's, and from which on they are the second's.
    is_other = [np.flatnonzero((joined != alone).any(across)) for alone in (first, second)]
    before, behind = is_other[0].min(initial=length), is_other[1].max(initial=-1) + 1
    if 0 < before < length:
        yield seam, float(before), 1.0
    if 0 < behind < length:
        yield seam, float(behind), -1.0
    place = _place_of_change(joined, first, second, across)
    if place is not None:
        yield seam, place, 0.0


def _place_of_change(joined: Floats, first: Floats, second: Floats, across: tuple[int, ...]) -> float | None:
    """Returns where a map goes over from one answer to another; None if it does not."""
    difference = first - second
    energy = (difference**2).sum(across)
    is_told = energy > _NOTHING * energy.max()
    shares = ((joined - second) * difference).sum(across)[is_told] / energy[is_told]
    shares = np.interp(np.arange(len(energy)), np.flatnonzero(is_told), shares)
    # What every pixel sees of the whole picture shows at the ends.
    eighth = max(1, len(shares) // 8)
    before, behind = np.median(shares[:eighth]), np.median(shares[-eighth:])
    if before - behind < _MIN_CONTRAST:
        return None
    return float(np.clip((shares - behind) / (before - behind), 0, 1).sum())
