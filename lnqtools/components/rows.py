"""Components as rows of tables: what columns are called, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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


LONGEST = {
    "long_axis_mm": "long-axis",
    "long_axis_slice": "long-axis-slice",
    "max_diameter_mm": "feret-max",
}
"""Columns of the longest diameters → what they hold, of `lnqtools.components.diameters.LENGTHS`."""


def component_table(
    components: Components, metrics: Sequence[str] = METRICS, *, longest: bool = True
) -> list[dict[str, Any]]:
    """Describe each component in one row.

    Parameters
    ----------
    components : Components
        Components of a mask.
    metrics : sequence of str
        Shortest diameters to measure, out of `lnqtools.choices.METRICS`.
    longest : bool
        Whether the columns of `LONGEST` are there.

    Returns
    -------
    list of dict
        Keys: ``id`` (see `Components`), ``voxels``, ``volume_mm3``, one
        ``diameter_<metric>_mm`` per metric, those of `LONGEST` (what is measured in axial slices
        is None where these are unknown), ``centroid`` (z, y, x index) and ``box`` (a `Box`).
    """
    columns = {column_name(metric): metric for metric in metrics} | (LONGEST if longest else {})
    measured = diameters_by_metric(components, list(columns.values()))
    diameters = {
        name: _numbers(measured[metric], whole=metric == "long-axis-slice")
        for name, metric in columns.items()
    }
    volumes = components.volumes_mm3
    return [
        {
            "id": int(components.ids[k]),
            "voxels": int(components.voxel_counts[k]),
            "volume_mm3": float(volumes[k]),
            **{name: values[k] for name, values in diameters.items()},
            "centroid": tuple(components.centroids[k].tolist()),
            "box": components.box_of(k + 1),
        }
        for k in range(components.count)
    ]


def _numbers(values: npt.NDArray[np.float64], whole: bool) -> list[float | int | None]:
    """Return measured values as cells; NaN is None."""
    kind = int if whole else float
    return [None if np.isnan(value) else kind(value) for value in values.tolist()]
