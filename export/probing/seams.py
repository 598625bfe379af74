"""Where a model's map changes when its input does.

Two pictures are put together at a seam, and their map is held against those of either. Up to where it is that of the
one to the bit, and from where that of the other, tells exactly how the map lies of a network that sees nothing but a
neighbourhood; where it goes over from the one to the other tells it nearly, also where each pixel depends on the whole
picture (as by squeeze and excite).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..graph.scaling import ValueScaling
from ..model import examples
from ..model.segmentation_model import SegmentationModel
from ..spec import ExportSpec

_INNER_SEAMS, _OUTER_SEAMS = (0.2, 0.5, 0.8), (0.3, 0.8)
"""Where seams are, as shares of the input's middle that is as large as the map, and of what lies on either side."""
_MIN_CONTRAST = 0.25
"""How much of what a map shows on either side of a seam must be due to that side."""
NOTHING = 1e-6
"""A share, or a number of pixels, that is taken for none."""

Floats = npt.NDArray[np.float64]
Seams = npt.NDArray[np.float64]
"""[N, 3] along one axis: where a seam is in the input, in pixels; what was found of it in the map; and whether that is
before it by the model's reach (1), behind it (-1), or the seam itself (0)."""


class Fit(NamedTuple):
    """How seams fit a map."""

    step: float  # input pixels that a pixel of the map shows
    start: float  # where the map begins in the input
    error: float  # root mean square of what is left, in pixels of the input
    uncertainty: float  # standard error of `start`

    def snapped_start(self, border: float) -> float | None:
        """Returns where a map that lacks `border` pixels begins: their half if that may be; None is unclear."""
        unit = max(1.0, self.step)
        if self.error < NOTHING:
            measured = round(2 * self.start) / 2
        elif abs(self.start - border / 2) <= 2 * (unit + self.uncertainty):
            return border / 2
        elif self.uncertainty <= unit / 2:
            measured = float(round(self.start))
        else:
            return None
        return measured if 0 <= measured <= border else None


def exact(seams: Seams) -> Seams:
    """Returns how far the map is either picture's to the bit; nothing of models whose pixels see the whole picture."""
    return seams[seams[:, 2] != 0]


def near(seams: Seams) -> Seams:
    """Returns where the map goes over from one picture's to the other's."""
    return seams[seams[:, 2] == 0]


def fit(seams: Seams, step: float, start: float | None = None) -> Fit | None:
    """Fits a map of a step that begins at `start`, or anywhere; None if there are too few seams."""
    values = seams[:, 0] - step * seams[:, 1] - (start or 0.0)
    columns = [np.ones(len(values))] if start is None else []
    if seams[:, 2].any():
        columns.append(seams[:, 2])
    unknowns = len(columns)
    # Too few different ones would fit any step.
    if np.linalg.matrix_rank(np.stack([*columns, seams[:, 1]], 1)) <= unknowns or len(values) < unknowns + 2:
        return None
    if not unknowns:
        return Fit(step, start or 0.0, float(np.sqrt(np.mean(values**2))), 0.0)
    terms = np.stack(columns, 1)
    solution, *_ = np.linalg.lstsq(terms, values)
    error = float(np.sqrt(np.sum((values - terms @ solution) ** 2) / (len(values) - unknowns)))
    uncertainty = error * float(np.linalg.inv(terms.T @ terms)[0, 0]) ** 0.5
    return Fit(step, float(solution[0]) if start is None else start, error, uncertainty)


def find_start(seams: Seams, step: float, border: float) -> float | None:
    """Returns where a map of that step begins, in a border of so many pixels; None if that is not clear."""
    fits = [fit(some, step) for some in (exact(seams), near(seams))]
    starts = [found.snapped_start(border) for found in fits if found] if border else [0.0]
    return next((start for start in starts if start is not None), None)


def measure(
    model: SegmentationModel, spec: ExportSpec, size: tuple[int, int], map_size: tuple[int, int]
) -> Iterator[tuple[Seams, Seams]]:
    """Looks for seams in the map of an input of a size, in more and more pairs of pictures.

    Yields:
        All that were found so far between rows, and between columns.
    """
    scaling = ValueScaling(spec, model)
    images = tf.TensorSpec([1, *size, model.channels], tf.float32)
    is_usual = model.size in (None, size)
    run_scaled = model.traced if is_usual else tf.function(model.forward, autograph=False).get_concrete_function(images)

    def run(picture: npt.NDArray[np.uint8]) -> Floats:
        pixels = examples.as_pixels(picture, model.channels, "float32", spec.full_scale)
        maps = run_scaled(scaling(tf.constant(pixels[np.newaxis]), spec.full_scale))
        return np.nan_to_num(np.asarray(maps[0], np.float64))

    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (*size, 3), np.uint8) for _ in range(2)]
    drawn = [examples.draw_picture(*size, seed=seed) for seed in (0, 1)]
    found: tuple[list[tuple[float, float, float]], ...] = ([], [])
    for one, other in (noise, drawn):
        first, second = run(one), run(other)
        for axis, (edge, length) in enumerate(zip(size, map_size, strict=True)):
            for seam in _places(edge, length):
                is_first = (np.arange(edge) < seam).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
                joined = run(np.where(is_first, one, other))
                # From here on all is [length, width, K], whichever the axis.
                maps = (np.moveaxis(answer, axis, 0) for answer in (joined, first, second))
                found[axis].extend((seam, *place) for place in _find_seam(*maps))
        rows, columns = (np.array(places, np.float64).reshape(-1, 3) for places in found)
        yield rows, columns


def _places(size: int, length: int) -> list[int]:
    shown = min(size, length)
    border = (size - shown) / 2
    wanted = [border + share * shown for share in _INNER_SEAMS]
    for share in _OUTER_SEAMS:
        # A wide border's own middle shows in no map that is smaller than it.
        wanted += [share * min(border, shown), size - share * min(border, shown)]
    # All the places in a group of four, so that what is the same for each group is not taken for exact.
    seams = [int(seam) // 4 * 4 + index % 4 for index, seam in enumerate(wanted)]
    return [seam for seam in seams if 0 < seam < size]


def _find_seam(joined: Floats, first: Floats, second: Floats) -> Iterator[tuple[float, float]]:
    """Yields what a map of two joined pictures shows of their seam, beside the maps of either: `Seams` from 1 on."""
    difference = first - second
    if not difference.any():
        return
    length = len(difference)
    # How many pixels are the first picture's, and from which on they are the second's.
    is_other = [np.flatnonzero((joined != alone).any((1, 2))) for alone in (first, second)]
    before, behind = is_other[0].min(initial=length), is_other[1].max(initial=-1) + 1
    if 0 < before < length:
        yield float(before), 1.0
    if 0 < behind < length:
        yield float(behind), -1.0
    energy = (difference**2).sum((1, 2))
    is_told = energy > NOTHING * energy.max()
    shares = ((joined - second) * difference).sum((1, 2))[is_told] / energy[is_told]
    shares = np.interp(np.arange(length), np.flatnonzero(is_told), shares)
    # What every pixel sees of the whole picture shows at the ends.
    eighth = max(1, length // 8)
    at_first, at_second = np.median(shares[:eighth]), np.median(shares[-eighth:])
    if at_first - at_second >= _MIN_CONTRAST:
        yield float(np.clip((shares - at_second) / (at_first - at_second), 0, 1).sum()), 0.0
