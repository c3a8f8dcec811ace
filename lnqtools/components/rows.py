"""Components as rows of tables: what columns are called, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lnqtools.choices import METRICS
from lnqtools.components.diameters import diameters_by_metric
from lnqtools.components.labeling import Components
from lnqtools.files.tables import Row
from lnqtools.images.grid import Grid


def in_world(row: Row, grid: Grid) -> Row:
    """Return a component's row with its centroid in world mm and its box as six columns.

    The centroid is None where it is unknown how the image lies.

    Parameters
    ----------
    row : dict
        With ``centroid``, an index (z, y, x), and perhaps ``box``, a `Box`.
    grid : Grid
        Grid of the image that the component lies in.
    """
    flat: Row = {}
    for key, value in row.items():
        if key == "centroid":
            world = grid.world(np.array(value)).tolist() if grid.oriented else [None] * 3
            flat |= {f"centroid_{axis}_mm": v for axis, v in zip("xyz", world, strict=True)}
        elif key == "box":
            flat |= value.columns()
        else:
            flat[key] = value
    return flat


def column_name(metric: str) -> str:
    """Name a diameter's column in a table: ``diameter_ellipsoid_corrected_mm``."""
    return f"diameter_{metric.replace('-', '_')}_mm"


def component_table(
    components: Components, metrics: Sequence[str] = METRICS
) -> list[dict[str, Any]]:
    """Describe each component in one row.

    Parameters
    ----------
    components : Components
        Components of a mask.
    metrics : sequence of str
        Diameters to measure, out of `lnqtools.choices.METRICS`.

    Returns
    -------
    list of dict
        Keys: ``id`` (see `Components`), ``voxels``, ``volume_mm3``, one
        ``diameter_<metric>_mm`` per metric (None for `lnqtools.components.diameters.AXIAL_METRICS`
        where the axial axis is unknown), ``centroid`` (z, y, x index) and ``box`` (a `Box`).
    """
    diameters = {
        column_name(metric): values
        for metric, values in diameters_by_metric(components, metrics).items()
    }
    volumes = components.volumes_mm3
    return [
        {
            "id": int(components.ids[k]),
            "voxels": int(components.voxel_counts[k]),
            "volume_mm3": float(volumes[k]),
            **{name: _number(values[k]) for name, values in diameters.items()},
            "centroid": tuple(components.centroids[k].tolist()),
            "box": components.box_of(k + 1),
        }
        for k in range(components.count)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
