"""Cutting a plane into overlapping tiles, and putting what a model says of them together without seams."""

import dataclasses

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Span:
    """Where a tile lies along one side: from `start` up to `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How long it is."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile of a plane.

    Attributes:
        rows: where it lies from top to bottom.
        columns: where it lies from left to right.
    """

    rows: Span
    columns: Span


def cut(length: int, tile: int, overlap: int) -> list[Span]:
    """Returns the tiles along a side.

    Args:
        length: of the side.
        tile: of a tile; the last is shorter. Above twice the overlap.
        overlap: how far a tile reaches into each neighbour: two neighbours share twice as much.
    """
    step = tile - 2 * overlap
    spans = []
    start = 0
    while True:
        stop = min(start + tile, length)
        spans.append(Span(start, stop))
        if stop == length:
            return spans
        start += step


def weights_of_later(shared: int) -> npt.NDArray[np.float32]:
    """Returns how much the later of two tiles counts along the pixels that they share: 0, a ramp, and 1.

    What lies within half an overlap of a tile's edge may be wrong, as the model saw an edge where there is none:
    there only the other tile counts. In between the two are mixed, so that what still differs shows no line.

    Args:
        shared: pixels that they share, twice the overlap.
    """
    distance = np.arange(shared, dtype=np.float32) + 0.5
    ramp: Plane = np.clip((distance - shared / 4) / max(shared / 2, 1), 0, 1).astype(np.float32)
    return ramp


def mix(earlier: Plane, later: Plane, weights: npt.NDArray[np.float32]) -> Plane:
    """Returns two planes mixed: exactly what both say where they agree, and one alone where the other has no weight."""
    mixed = earlier + weights * (later - earlier)
    return np.where(weights >= 1, later, mixed).astype(np.float32, copy=False)


class Mosaic:
    """Puts tiles together, given from left to right and from top to bottom, and gives finished pieces.

    What is held in memory is what tiles share with those that are still to come: a few rows of the plane.

    Args:
        shape: height and width of the plane.
        overlap: of the tiles.
    """

    def __init__(self, shape: tuple[int, int], overlap: int):
        self._height, self._width = shape
        self._shared = 2 * overlap
        self._weights = weights_of_later(self._shared)
        # What the rows of tiles above share with this one, replaced from left to right by what it shares with the
        # next; and what the tile to the left shares with the coming one.
        self._above = np.empty((self._shared, self._width), np.float32)
        self._left: Plane | None = None

    def add(self, tile: Tile, values: Plane) -> tuple[Tile, Plane]:
        """Adds a tile.

        Args:
            tile: where it lies.
            values: of its pixels, [height, width].

        Returns:
            The piece that is finished with it: where it lies, and its values.
        """
        rows, columns = tile.rows, tile.columns
        shared = self._shared
        values = values.astype(np.float32)
        if columns.start and self._left is not None:
            values[:, :shared] = mix(self._left, values[:, :shared], self._weights)
        if columns.stop < self._width:
            self._left = values[:, values.shape[1] - shared :].copy()
            columns = Span(columns.start, columns.stop - shared)
            values = values[:, : columns.length]
        here = slice(columns.start, columns.stop)
        if rows.start:
            values[:shared] = mix(self._above[:, here], values[:shared], self._weights[:, np.newaxis])
        if rows.stop < self._height:
            self._above[:, here] = values[len(values) - shared :]
            rows = Span(rows.start, rows.stop - shared)
            values = values[: rows.length]
        return Tile(rows, columns), values
