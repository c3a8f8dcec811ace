"""Components as rows of tables: what columns are called, and what they hold."""

from __future__ import annotations

import numpy as np

from lnqtools.files.tables import Row
from lnqtools.images.grid import Grid


def in_world(row: Row, grid: Grid) -> Row:
    """Return a component's row with its centroid in world mm and its box as six columns.

    The centroid is None where it is unknown how the image lies.

    Parameters
    ----------
    row : dict
        With ``centroid``, an index (z, y, x), and perhaps ``box``, the first index and the one
        past the last along z, y, x.
    grid : Grid
        Of the image that the component lies in.
    """
    flat: Row = {}
    for key, value in row.items():
        if key == "centroid":
            world = grid.world(np.array(value)).tolist() if grid.oriented else [None] * 3
            flat |= {f"centroid_{axis}_mm": v for axis, v in zip("xyz", world, strict=True)}
        elif key == "box":
            for axis, (start, stop) in zip("xyz", reversed(value), strict=True):
                flat |= {f"{axis}_start": start, f"{axis}_stop": stop}
        else:
            flat[key] = value
    return flat
