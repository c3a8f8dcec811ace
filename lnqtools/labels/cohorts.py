"""Statistics of data sets of labels: their nodes, their voxels, their nodes' diameters.

These are Table 1, Table 2 and Figure 2 of Fischer et al., "Mask the Unknown" (2024). A label says
of each voxel: 0 background, 1 lymph node, 2 unknown. A volume counts once in a mean, whatever its
size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnqtools.components.diameters import degenerate, diameters_mm
from lnqtools.components.labeling import find_components, find_instances
from lnqtools.components.sizes import at_least, bin_columns, bin_numbers
from lnqtools.files.tables import Row, cell_text
from lnqtools.images.grid import Grid
from lnqtools.labels.lost import NOTHING_LOST, LostNodes
from lnqtools.labels.training import NODE, LabelCounts, count_labels


@dataclass(frozen=True, eq=False)
class LabeledVolume:
    """What the label of one CT volume holds.

    Attributes
    ----------
    voxels : LabelCounts
        How many voxels are node, background, unknown.
    diameters_mm : (n,) ndarray of float
        Shortest diameter of each connected component of lymph node; NaN where the metric has no
        meaning (see `lnqtools.components.diameters.degenerate`).
    lost : LostNodes
        What was drawn and lies outside the label.
    """

    voxels: LabelCounts
    diameters_mm: npt.NDArray[np.float64]
    lost: LostNodes = NOTHING_LOST

    @property
    def components(self) -> int:
        """Number of connected components of lymph node."""
        return self.diameters_mm.size

    @property
    def degenerate(self) -> int:
        """Number of components whose diameter has no meaning."""
        return int(np.isnan(self.diameters_mm).sum())

    @property
    def fully_labeled(self) -> bool:
        """Whether no voxel is unknown."""
        return self.voxels.unknown == 0

    def enlarged(self, enlarged_mm: float) -> int:
        """Count the components of at least this shortest diameter (see `at_least`).

        A component whose diameter has no meaning is not enlarged: in the paper it is 0 mm.
        """
        return int(at_least(self.diameters_mm, enlarged_mm).sum())


DataSets = Mapping[str, Mapping[str, LabeledVolume]]
"""Name of a data set, or of a preprocessing step → name of a case → its volume."""


def describe_label(
    label: npt.NDArray,
    grid: Grid | Sequence[float],
    metric: str = "ellipsoid",
    connectivity: int = 6,
    *,
    lost: LostNodes = NOTHING_LOST,
    numbers: npt.NDArray | None = None,
) -> LabeledVolume:
    """Count the voxels of a label and measure its nodes.

    Parameters
    ----------
    label : (z, y, x) ndarray of int
        0 background, 1 lymph node, 2 unknown.
    grid : Grid or sequence of 3 floats
        Of the label, or the size of its voxels; see
        `lnqtools.components.labeling.find_components`.
    metric : str
        Definition of the shortest diameter, one of `lnqtools.choices.METRICS`; the
        paper's is ``ellipsoid``.
    connectivity : {6, 18, 26}
        Neighbors that join voxels to components; the paper's is 6.
    lost : LostNodes
        As the label's header says, see `lnqtools.labels.lost.recorded`.
    numbers : (z, y, x) ndarray of int, optional
        Number of the node that each node voxel belongs to; instead of the connected components.
    """
    if numbers is None:
        nodes = find_components(label == NODE, grid, connectivity)
    else:
        nodes = find_instances(numbers, grid)
    diameters = diameters_mm(nodes, metric)
    without_meaning = degenerate(nodes, metric)
    measured = np.where(without_meaning, np.nan, diameters)
    return LabeledVolume(count_labels(label), measured, lost)


def data_set_rows(data_sets: DataSets, enlarged_mm: float = 10.0) -> list[Row]:
    """Describe data sets as Table 1 of the paper does.

    Parameters
    ----------
    data_sets : mapping
        See `DataSets`.
    enlarged_mm : float
        Least shortest diameter of an enlarged node in mm: 10 in the paper and in RECIST 1.1.

    Returns
    -------
    list of dict
        One row per data set: ``set``, ``volumes``, ``components``, ``components_enlarged``
        (shortest diameter at least `enlarged_mm`), ``components_degenerate`` (the diameter has no
        meaning; among ``components``, never enlarged), ``volumes_fully_labeled`` (no voxel is
        unknown), ``fully_labeled`` (whether all volumes are), ``components_lost`` and
        ``components_cut`` (drawn, but wholly or in part outside the labels). Counts are sums over
        the volumes.
    """
    return [
        {"set": name, **_data_set(list(volumes.values()), enlarged_mm)}
        for name, volumes in data_sets.items()
    ]


def _data_set(volumes: Sequence[LabeledVolume], enlarged_mm: float) -> Row:
    """Describe one data set."""
    fully_labeled = sum(volume.fully_labeled for volume in volumes)
    return {
        "volumes": len(volumes),
        "components": sum(volume.components for volume in volumes),
        "components_enlarged": sum(volume.enlarged(enlarged_mm) for volume in volumes),
        "components_degenerate": sum(volume.degenerate for volume in volumes),
        "volumes_fully_labeled": fully_labeled,
        "fully_labeled": fully_labeled == len(volumes),
        "components_lost": sum(volume.lost.components for volume in volumes),
        "components_cut": sum(volume.lost.cut for volume in volumes),
    }


def voxel_rows(data_sets: DataSets) -> list[Row]:
    """Describe the voxels of data sets, or of preprocessing steps, as Table 2 of the paper does.

    Labeled voxels are those of node and background, unlabeled ones are unknown. A ratio is one
    of a volume, and its mean is over the volumes; it is not the ratio of all voxels together.

    Returns
    -------
    list of dict
        One row per data set: ``set``, ``volumes``, then ``_mean`` and ``_sd`` (n - 1 in the
        denominator; None below two values) of ``voxels``, ``labeled_per_unlabeled_percent``
        (100 × labeled / unlabeled; a volume without unlabeled voxels has none) and
        ``labeled_per_total_percent`` (100 × labeled / all); ``volumes_without_unlabeled`` counts
        the volumes that are not in the mean of the first ratio.
    """
    return [
        {"set": name, **_voxels([volume.voxels for volume in volumes.values()])}
        for name, volumes in data_sets.items()
    ]


def _voxels(volumes: Sequence[LabelCounts]) -> Row:
    """Describe the voxels of one data set."""
    per_unlabeled = [volume.labeled_per_unlabeled_percent for volume in volumes]
    per_total = [volume.labeled_per_total_percent for volume in volumes]
    return {
        "volumes": len(volumes),
        **_mean_and_sd("voxels", [volume.total for volume in volumes]),
        **_mean_and_sd("labeled_per_unlabeled_percent", per_unlabeled),
        **_mean_and_sd("labeled_per_total_percent", per_total),
        "volumes_without_unlabeled": per_unlabeled.count(None),
    }


def _mean_and_sd(name: str, values: Sequence[float | None]) -> Row:
    """Mean and sample standard deviation of the values that are not None, as two columns."""
    defined = np.array([value for value in values if value is not None], float)
    return {
        f"{name}_mean": float(defined.mean()) if defined.size else None,
        f"{name}_sd": float(defined.std(ddof=1)) if defined.size > 1 else None,
    }


def diameter_rows(data_sets: DataSets, bin_mm: float = 2.5) -> list[Row]:
    """Count components by shortest diameter, as Figure 2 of the paper does.

    Parameters
    ----------
    data_sets : mapping
        See `DataSets`.
    bin_mm : float
        Width of a bin in mm.

    Returns
    -------
    list of dict
        One row per bin of each data set: ``set``, ``bin`` ('2.5-5mm'), ``from_mm`` (within the bin,
        see `at_least`), ``to_mm`` (not within it), ``components``; the last bin, 'degenerate',
        holds the components whose diameter has no meaning. All data sets have the same bins: from
        0 to the largest component of all.
    """
    numbers = {
        name: np.concatenate([_bins_of(volume, bin_mm) for volume in volumes.values()])
        for name, volumes in data_sets.items()
    }
    highest = max((int(found.max(initial=-1)) for found in numbers.values()), default=-1)
    return [
        {
            "set": name,
            **bin_columns(number, bin_mm),
            "components": int(np.count_nonzero(found == number)),
        }
        for name, found in numbers.items()
        for number in [*range(highest + 1), -1]
    ]


def _bins_of(volume: LabeledVolume, bin_mm: float) -> npt.NDArray[np.int64]:
    """Bin of each component of a volume, -1 where the diameter has no meaning."""
    without_meaning = np.isnan(volume.diameters_mm)
    return np.where(without_meaning, -1, bin_numbers(np.nan_to_num(volume.diameters_mm), bin_mm))


def case_rows(data_sets: DataSets, enlarged_mm: float = 10.0) -> list[Row]:
    """Describe every volume by itself, for statistics of one's own.

    Returns
    -------
    list of dict
        One row per volume: ``set``, ``case``, ``voxels``, the columns of `LabelCounts.row`, then
        ``components``, ``components_enlarged``, ``components_degenerate`` and ``fully_labeled``
        as in `data_set_rows`, and those of `LostNodes.row`.
    """
    return [
        {
            "set": name,
            "case": case,
            "voxels": volume.voxels.total,
            **volume.voxels.row(),
            "components": volume.components,
            "components_enlarged": volume.enlarged(enlarged_mm),
            "components_degenerate": volume.degenerate,
            "fully_labeled": volume.fully_labeled,
            **volume.lost.row(),
        }
        for name, volumes in data_sets.items()
        for case, volume in volumes.items()
    ]


# As the paper prints them


def data_set_text(rows: Sequence[Row]) -> list[list[str]]:
    """Set `data_set_rows` out as the paper's Table 1, the headings first.

    Components without a diameter, lost and cut ones have a column if there are any.
    """
    headings = ["data set", "volumes", "labeled LNs", "labeled enlarged LNs", "fully labeled"]
    rare = {
        "components_degenerate": "without diameter",
        "components_lost": "lost LNs",
        "components_cut": "cut LNs",
    }
    found = [name for name in rare if any(row[name] for row in rows)]
    lines = [
        [
            *(row["set"], str(row["volumes"]), str(row["components"])),
            *(str(row["components_enlarged"]), _how_many_fully(row)),
            *(str(row[name]) for name in found),
        ]
        for row in rows
    ]
    return [headings + [rare[name] for name in found], *lines]


def _how_many_fully(row: Row) -> str:
    """Say whether all volumes are fully labeled, or how many."""
    fully, volumes = row["volumes_fully_labeled"], row["volumes"]
    if 0 < fully < volumes:
        return f"{fully} of {volumes}"
    return "yes" if fully else "no"


def voxel_text(rows: Sequence[Row]) -> list[list[str]]:
    """Set `voxel_rows` out as the paper's Table 2, with both ratios, the headings first."""
    headings = [
        *("statistics per volume", "total voxels [million]"),
        *("labeled/unlabeled [%]", "labeled/total [%]", "volumes"),
    ]
    lines = [
        [
            row["set"],
            _mean_and_sd_text(row, "voxels", 1, unit=1e6),
            _mean_and_sd_text(row, "labeled_per_unlabeled_percent", 2),
            _mean_and_sd_text(row, "labeled_per_total_percent", 2),
            str(row["volumes"]),
        ]
        for row in rows
    ]
    return [headings, *lines]


def _mean_and_sd_text(row: Row, name: str, decimals: int, unit: float = 1.0) -> str:
    """Round a mean and its standard deviation; a dash stands for what is undefined."""
    both = (row[f"{name}_mean"], row[f"{name}_sd"])
    return " ± ".join("–" if v is None else f"{v / unit:.{decimals}f}" for v in both)


def plain_text(rows: Sequence[Row]) -> list[list[str]]:
    """Set any rows out as they are, the names of the columns first."""
    return [list(rows[0]), *([cell_text(value) for value in row.values()] for row in rows)]
