"""Pieces of planes: turned upright, cut with an overlap, and put together again without seams."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Plane = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile of a plane: where it lies from top to bottom, and from left to right."""

    rows: range
    columns: range

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return len(self.rows), len(self.columns)

    @property
    def box(self) -> tuple[slice, slice]:
        """What an array is indexed by."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)


def whole(height: int, width: int) -> Tile:
    """Returns the tile that covers a plane."""
    return Tile(range(height), range(width))


def turn(pixels: Array, orientation: int) -> Array:
    """Returns stored pixels, [h, w] or [h, w, C], of one of Exif's orientations, 1 to 8, upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def stored_tile(tile: Tile, orientation: int, shape: Sequence[int]) -> Tile:
    """Returns where a piece of the upright picture, of height and width `shape`, is stored."""
    rows, columns = tile.rows, tile.columns
    if orientation in (3, 4, 7, 8):
        rows = range(shape[0] - rows.stop, shape[0] - rows.start)
    if orientation in (2, 3, 6, 7):
        columns = range(shape[1] - columns.stop, shape[1] - columns.start)
    return Tile(columns, rows) if orientation >= 5 else Tile(rows, columns)


def cut(length: int, tile: int, overlap: int) -> list[range]:
    """Returns the tiles along a side; the last is shorter.

    Each reaches by the overlap into its neighbours, so that two share twice as much; a tile is longer than that.
    """
    starts = range(0, max(length - 2 * overlap, 1), tile - 2 * overlap)
    return [range(start, min(start + tile, length)) for start in starts]


def _mix(earlier: Plane, later: Plane, weights: Plane) -> Plane:
    """Returns two planes mixed: exactly what both say where they agree, and one alone where the other has no weight."""
    mixed = earlier + weights * (later - earlier)
    return np.where(weights >= 1, later, mixed).astype(np.float32, copy=False)


class Mosaic:
    """Puts the tiles of a plane together, from left to right and from top to bottom, and gives finished pieces.

    What is held in memory is what tiles share with those that are still to come: a few rows of the plane.
    """

    def __init__(self, shape: tuple[int, int], overlap: int):
        self._height, self._width = shape
        self._shared = shared = 2 * overlap
        # How much the later of two tiles counts along the pixels that they share. What lies within half an overlap
        # of a tile's edge may be wrong, as the model saw an edge where there is none: there only the other tile
        # counts. In between the two are mixed, so that what still differs shows no line.
        distance = np.arange(shared, dtype=np.float32) + 0.5
        self._weights = np.clip((distance - shared / 4) / max(shared / 2, 1), 0, 1).astype(np.float32)
        # What the rows of tiles above share with this one, replaced from left to right by what it shares with the
        # next; and what the tile to the left shares with the coming one.
        self._above = np.empty((shared, self._width), np.float32)
        self._left = np.empty((0, shared), np.float32)

    def add(self, tile: Tile, values: Plane) -> tuple[Tile, Plane]:
        """Adds a tile's values, [height, width]; returns the piece that is finished with it, and its values."""
        rows, columns = tile.rows, tile.columns
        shared = self._shared
        values = values.astype(np.float32)
        if columns.start:
            values[:, :shared] = _mix(self._left, values[:, :shared], self._weights)
        if columns.stop < self._width:
            self._left = values[:, values.shape[1] - shared :].copy()
            columns = columns[: len(columns) - shared]
            values = values[:, : len(columns)]
        here = slice(columns.start, columns.stop)
        if rows.start:
            values[:shared] = _mix(self._above[:, here], values[:shared], self._weights[:, np.newaxis])
        if rows.stop < self._height:
            self._above[:, here] = values[len(values) - shared :]
            rows = rows[: len(rows) - shared]
            values = values[: len(rows)]
        return Tile(rows, columns), values
