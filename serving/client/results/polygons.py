"""The outlines of a mask."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UnsupportedCallError


@dataclasses.dataclass(frozen=True, eq=False)
class Polygon:
    """One connected piece of a mask.

    Points are (x, y) in pixels from the top left corner of the picture: the middle of the first pixel is
    (0.5, 0.5). Rings are not closed: the last point is joined to the first.

    Attributes:
        exterior: the outline, [N, 2] float64.
        holes: outlines of what is cut out of it.
    """

    exterior: npt.NDArray[np.float64]
    holes: tuple[npt.NDArray[np.float64], ...] = ()

    @property
    def area(self) -> float:
        """The area in square pixels, without the holes."""
        return _ring_area(self.exterior) - sum(_ring_area(hole) for hole in self.holes)


def trace_polygons(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Returns the outlines of a mask [H, W], largest first; the middle of every pixel lies on its right side.

    Raises:
        UnsupportedCallError: the extra that traces them is not installed.
    """
    try:
        import contourpy
    except ImportError as error:
        raise UnsupportedCallError(
            "polygons need the package contourpy", hint="install it with: pip install 'maskport[contours]'"
        ) from error
    height, width = mask.shape
    # A border of background closes the outlines of what touches the edge.
    padded = np.zeros((height + 2, width + 2), dtype=np.float32)
    padded[1:-1, 1:-1] = mask
    generator = contourpy.contour_generator(
        x=np.arange(-0.5, width + 1), y=np.arange(-0.5, height + 1), z=padded,
        fill_type=contourpy.FillType.OuterOffset,
    )  # fmt: skip
    filled: Any = generator.filled(0.5, 2.0)
    polygons = []
    for points, offsets in zip(*filled, strict=True):
        rings = [np.clip(points[start : end - 1], 0, (width, height)) for start, end in itertools.pairwise(offsets)]
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return sorted(polygons, key=lambda polygon: -polygon.area)


def _ring_area(ring: npt.NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
