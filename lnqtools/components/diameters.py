"""Diameters of components, in mm: the shortest by several definitions, and the longest."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.choices import METRICS
from lnqtools.components.labeling import Components, components_of, sum_by_component
from lnqtools.errors import LnqError, require_choice
from lnqtools.images.grid import UNKNOWN_AXES, Grid

AXIAL_METRICS = frozenset({"recist", "recist-caliper"})
"""Metrics that are measured in an axial slice."""

LENGTHS = ("long-axis", "long-axis-slice", "feret-max")
"""What is measured of the longest diameter, beside `lnqtools.choices.METRICS`."""

ONE_BY_ONE = AXIAL_METRICS | {"inscribed", "feret-min", *LENGTHS}
"""Measures that take a component by itself, and most of the time."""

_AXIAL = (*sorted(AXIAL_METRICS), "long-axis", "long-axis-slice")
_FERETS = ("feret-min", "feret-max")

# Lengths that differ by less than this fraction are taken as equal, so that a tie between two
# diagonals is not settled by rounding.
_TIE = 1e-9

# A least variance below this fraction of a voxel's squared side means: no thickness at all.
_FLAT = 1e-10

# Directions in which the extents of a slice are taken to bound its diameter, within 2 %.
_LIMIT_DIRECTIONS = 8

# A box of this many times a component's voxels may hold several pieces of it, far apart.
_SPARSE = 8

# Numbers held at once when the widths of a hull are computed: 1 MB, which a cache can hold.
_WIDTHS_AT_ONCE = 131_072


def diameters_mm(components: Components, metric: str) -> npt.NDArray[np.float64]:
    """Measure the shortest diameter of each component.

    ==================== =======================================================================
    metric               definition
    ==================== =======================================================================
    ellipsoid            least axis of the ellipsoid with the component's second moments about
                         voxel centers, ``sqrt(20 * least eigenvalue of the covariance)``. This
                         is skimage's ``axis_minor_length`` with spacing,
                         ``sqrt(10 * (-e0 + e1 + e2))`` over the inertia eigenvalues, used by
                         the paper. 0 where all voxel centers lie in one plane.
    ellipsoid-corrected  the same, with ``spacing**2 / 12`` added to the variances: a voxel is a
                         box, not a point. Unbiased for small nodes, and above 0 for flat ones.
    recist               in the axial slice where the distance between two voxel corners is
                         longest: the component's extent perpendicular to that longest axis
                         (RECIST 1.1 short axis). Of equally long axes, the one with the larger
                         perpendicular counts.
    recist-caliper       least distance of two parallel lines around that axial slice.
    inscribed            twice the largest distance from a voxel's center to the nearest voxel
                         center outside; what lies beyond the image edge is outside.
    feret-min            least distance of two parallel planes around the voxels' corners.
    sphere               diameter of the sphere of equal volume, ``(6 V / pi) ** (1 / 3)``.
    ==================== =======================================================================

    Parameters
    ----------
    components : Components
        Components of a mask; their grid makes the result mm and says which slices are axial.
    metric : str
        One of `lnqtools.choices.METRICS`.

    Returns
    -------
    (n,) ndarray of float
        Diameter of each component in mm; no row for an empty mask.

    Raises
    ------
    LnqError
        If the metric is unknown, or is of axial slices where these are unknown.

    Examples
    --------
    >>> from lnqtools import find_components
    >>> mask = np.zeros((4, 6, 6), np.uint8)
    >>> mask[1:3, 1:3, 1:5] = 1
    >>> node = find_components(mask, (2.5, 1.0, 1.0))
    >>> diameters_mm(node, "feret-min").tolist(), diameters_mm(node, "sphere").round(2).tolist()
    ([2.0], [4.24])
    """
    check_axial(metric, components.grid)
    return diameters_by_metric(components, [metric])[metric]


def check_axial(metric: str, grid: Grid) -> None:
    """Raise LnqError for a metric of axial slices where it is unknown which these are."""
    if metric in AXIAL_METRICS and grid.axial_axis is None:
        raise LnqError(f"{metric} is measured in axial slices, and {UNKNOWN_AXES}")


def diameters_by_metric(
    components: Components, metrics: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure several diameters, or what `LENGTHS` names; what is alike shares the work.

    ================ ===========================================================================
    length           definition
    ================ ===========================================================================
    long-axis        longest distance of two voxel corners in one axial slice (RECIST 1.1 longest
                     diameter); ``recist`` is the extent perpendicular to it
    long-axis-slice  index of that slice, along the axis of the array that is axial; of several
                     slices with equally long axes the one with the larger ``recist``, else the
                     one nearer to the feet
    feret-max        longest distance of two voxel corners (maximum Feret diameter)
    ================ ===========================================================================

    What lies in axial slices is NaN where these are unknown.
    """
    for metric in metrics:
        require_choice("diameter", metric, (*METRICS, *LENGTHS))
    together = _of_all(components, [m for m in metrics if m not in ONE_BY_ONE])
    singly = _of_shapes(components, [m for m in metrics if m in ONE_BY_ONE])
    return {metric: (singly if metric in singly else together)[metric] for metric in metrics}


def _of_shapes(
    components: Components, metrics: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure each shape once: of thousands of specks most are alike."""
    if not metrics:
        return {}
    first, same = components.by_shape()
    measured = _of_all(components.only(first), metrics)
    found = {metric: of[same] for metric, of in measured.items()}
    if "long-axis-slice" in found and components.axial_axis is not None:
        start = components.boxes[:, components.axial_axis, 0]
        found["long-axis-slice"] += start - start[first][same]
    return found


def _of_all(components: Components, metrics: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    together: dict[str, npt.NDArray[np.float64]] = {}
    if not set(_AXIAL).isdisjoint(metrics):
        together = dict(zip(_AXIAL, _axial_lengths(components).T, strict=True))
    if not set(_FERETS).isdisjoint(metrics):
        ferets = _ferets_mm(components, [metric in metrics for metric in _FERETS])
        together |= dict(zip(_FERETS, ferets.T, strict=True))
    return {
        metric: together[metric] if metric in together else _MEASURES[metric](components)
        for metric in metrics
    }


def degenerate(components: Components, metric: str) -> npt.NDArray[np.bool_]:
    """Tell for which components a diameter has no meaning.

    Only ``ellipsoid`` has such: its moments are those of voxel centers, and where these lie in
    one plane (a component one slice thick) the diameter is 0 whatever the size.

    Returns
    -------
    (n,) ndarray of bool
        True where the diameter says nothing.
    """
    require_choice("diameter", metric, METRICS)
    if metric != "ellipsoid":
        return np.zeros(components.count, bool)
    return np.asarray(diameters_mm(components, metric) == 0)


def _covariances(components: Components) -> npt.NDArray[np.float64]:
    """Covariance of each component's voxel centers in mm², (n, 3, 3).

    Summed over runs around the centroid, so that nothing large cancels: a run of L voxels has
    the second moment L (L² - 1) / 12 about its own middle.
    """
    lengths, offsets = components.run_lengths, components.run_offsets
    runs_each = np.diff(offsets)
    middle = np.stack(np.unravel_index(components.run_starts, components.shape)).astype(float)
    middle[2] += (lengths - 1) / 2
    deviation = middle - np.repeat(components.centroids, runs_each, axis=0).T
    covariances = np.empty((components.count, 3, 3))
    for a in range(3):
        for b in range(a + 1):
            moment = lengths * deviation[a] * deviation[b]
            if a == b == 2:
                moment += lengths * (np.square(lengths) - 1) / 12
            mean = sum_by_component(moment, offsets) / components.voxel_counts
            covariances[:, a, b] = covariances[:, b, a] = mean
    return covariances * np.outer(components.spacing, components.spacing)


def _ellipsoid_mm(
    covariances: npt.NDArray[np.float64], spacing: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Least axis of solid ellipsoids with these covariances: variance is axis² / 20."""
    least = np.linalg.eigvalsh(covariances)[:, 0]
    least[least < _FLAT * min(spacing) ** 2] = 0
    axes_mm: npt.NDArray[np.float64] = np.sqrt(20 * least)
    return axes_mm


def _inscribed_mm(components: Components) -> npt.NDArray[np.float64]:
    """Twice the largest distance to the outside of each component."""
    depths_mm = [_depth_mm(components, k + 1) for k in range(components.count)]
    return 2 * np.array(depths_mm, float)


def _depth_mm(components: Components, component: int) -> float:
    """Largest distance to the outside of a component, in its own box.

    Pieces that do not touch, not at corners either, are measured one by one: between two of them
    lies a voxel outside, and their common box may be the whole image.
    """
    from scipy.ndimage import distance_transform_edt

    if components.box_of(component).size > _SPARSE * components.voxel_counts[component - 1]:
        voxels = components.voxels_of(component)
        pieces = components_of(voxels, components.grid, 26)
        if pieces.count > 1:
            return max(_depth_mm(pieces, k + 1) for k in range(pieces.count))
    inside = np.pad(components.crop(component), 1)
    return float(distance_transform_edt(inside, sampling=components.spacing).max())


def _ferets_mm(components: Components, wanted: Sequence[bool]) -> npt.NDArray[np.float64]:
    """Least and greatest width of the convex hull of each component's voxel corners, (n, 2).

    One that is not wanted is NaN. The least width of a polyhedron lies across a face or across two
    edges (Houle and Toussaint 1988), so the least of the widths along the normals of all of these
    is exact. Coordinates are whole voxels; mm come in with the norm.
    """
    from scipy.spatial import ConvexHull

    widths_mm = np.full((components.count, 2), np.nan)
    if not components.count:
        return widths_mm
    corners, offsets = _outer_corners(components)
    for k, (begin, end) in enumerate(pairwise(offsets.tolist())):
        hull = ConvexHull(corners[begin:end] - corners[begin])
        vertices = hull.points[hull.vertices]
        if wanted[0]:
            triangles = hull.points[hull.simplices]
            normals = _width_normals(triangles, hull.neighbors, hull.equations[:, :3])
            widths_mm[k, 0] = _least_width_mm(vertices, normals, components.spacing)
        if wanted[1]:
            widths_mm[k, 1] = _farthest_mm(vertices * components.spacing)
    return widths_mm


def _farthest_mm(points_mm: npt.NDArray[np.float64]) -> float:
    """Longest distance of two points, some at a time of those that are many."""
    step = max(1, _WIDTHS_AT_ONCE // len(points_mm))
    squares = [
        np.square(points_mm[k : k + step, np.newaxis] - points_mm[k:]).sum(axis=-1).max()
        for k in range(0, len(points_mm), step)
    ]
    return float(np.sqrt(max(squares)))


def _width_normals(
    triangles: npt.NDArray[np.float64],
    neighbors: npt.NDArray[np.int32],
    outward: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Find where a hull's width may be least: the normals of its faces and of pairs of its edges.

    The planes that touch a hull in one edge have the normals between those of the edge's two
    faces. Two edges lie in two parallel planes only if the plane along both has such a normal
    for each, which then is perpendicular to the edge and has one face's normal on either side.
    All numbers are whole (as float), so the signs that tell are exact. Of all pairs instead, the
    widths of ten nodes take three times as long (0.16 s, not 0.06), those of one of 110 mm nine.

    Takes the corners (f, 3, 3) of the hull's triangles, the triangle opposite each corner and
    approximate outward normals (f, 3); returns normals (m, 3) of any length, 0 too.
    """
    faces = _cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    faces *= np.sign(np.einsum("ij,ij->i", faces, outward))[:, np.newaxis]
    triangle, corner = np.nonzero(neighbors > np.arange(len(faces))[:, np.newaxis])
    edges = triangles[triangle, (corner + 1) % 3] - triangles[triangle, (corner + 2) % 3]
    left, right = faces[triangle], faces[neighbors[triangle, corner]]
    # A triangle without area hides what lies beyond it: its edges may touch at any normal.
    at_any = np.logical_not(left.any(axis=1) & right.any(axis=1))
    sharp = _cross(left, right).any(axis=1) | at_any
    edges, left, right, at_any = edges[sharp], left[sharp], right[sharp], at_any[sharp]
    normals = [faces]
    step = max(1, _WIDTHS_AT_ONCE // max(1, len(edges)))
    for k in range(0, len(edges), step):
        some = slice(k, k + step)
        pairs = at_any | ((edges[some] @ left.T) * (edges[some] @ right.T) < 0)
        pairs &= at_any[some, np.newaxis] | ((left[some] @ edges.T) * (right[some] @ edges.T) < 0)
        first, second = np.nonzero(np.triu(pairs, k + 1))
        normals.append(_cross(edges[some][first], edges[second]))
    return np.concatenate(normals)


def _cross(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cross products of the rows of two (m, 3) arrays (`numpy.cross` takes twice as long)."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _outer_corners(
    components: Components,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners of voxels that hold the convex hull of each component, (m, 3), and offsets.

    On each line along the last axis on which a component's voxels have corners, the first and
    the last of them. Those of component k are the rows ``offsets[k - 1]:offsets[k]``.
    """
    z, y, x = np.unravel_index(components.run_starts, components.shape)
    owner = np.repeat(np.arange(components.count), np.diff(components.run_offsets))
    size = (components.count, components.shape[0] + 1, components.shape[1] + 1)
    steps = ((0, 0), (0, 1), (1, 0), (1, 1))
    lines = np.concatenate([np.ravel_multi_index((owner, z + i, y + j), size) for i, j in steps])
    order = np.argsort(lines, kind="stable")
    starts = np.flatnonzero(np.diff(lines[order], prepend=-1))
    first = np.minimum.reduceat(np.tile(x, 4)[order], starts)
    last = np.maximum.reduceat(np.tile(x + components.run_lengths, 4)[order], starts)
    owner, z, y = np.unravel_index(lines[order][starts], size)
    corners = np.stack([z, y, first, z, y, last], axis=1).reshape(-1, 3)
    return corners, 2 * np.searchsorted(owner, np.arange(components.count + 1))


class _Slices(NamedTuple):
    """Axial slices of components: points in the plane, slice by slice, component by component."""

    points: npt.NDArray[np.int64]  # (m, 2), voxel indices; hold each slice's hull
    offsets: npt.NDArray[np.int64]  # points of slice s are offsets[s]:offsets[s + 1]
    limits_mm: npt.NDArray[np.float64]  # no diameter of the slice is longer
    places: npt.NDArray[np.int64]  # index of the slice in the array, counted from the feet
    of_component: npt.NDArray[np.int64]  # slices of component k are of_component[k - 1:k + 1]


def recist_axes_mm(
    components: Components,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return RECIST's long and short axis of each component.

    These are ``long-axis`` and ``recist`` of `diameters_by_metric`.
    """
    measured = diameters_by_metric(components, ["long-axis", "recist"])
    return measured["long-axis"], measured["recist"]


def _axial_lengths(components: Components) -> npt.NDArray[np.float64]:
    """Measure each component's axial slice of the longest diameter, (n, 4), as `_AXIAL`."""
    axial = components.axial_axis
    lengths = np.full((components.count, 4), np.nan)
    if not components.count or axial is None:
        return lengths
    in_plane = [axis for axis in range(3) if axis != axial]
    spacing = np.array(components.spacing)[in_plane]
    slices = _axial_slices(components, axial, in_plane, spacing)
    for k, (begin, end) in enumerate(pairwise(slices.of_component.tolist())):
        lengths[k] = _lengths_of_longest(slices, begin, end, spacing)
    if components.grid.direction[2][axial] < 0:  # back to how they are stored
        lengths[:, 3] = components.shape[axial] - 1 - lengths[:, 3]
    return lengths


def _axial_slices(
    components: Components, axial: int, in_plane: list[int], spacing: npt.NDArray[np.float64]
) -> _Slices:
    """Cut components into axial slices."""
    # The ends of runs bound every slice, unless slices cut across the runs.
    if axial == 2:
        voxels, owner = components.voxels, components.labels - 1
    else:
        last = components.run_starts + components.run_lengths - 1
        voxels = np.concatenate([components.run_starts, last])
        owner = np.tile(np.repeat(np.arange(components.count), np.diff(components.run_offsets)), 2)
    position = np.stack(np.unravel_index(voxels, components.shape), axis=1)
    slice_of = owner * components.shape[axial] + position[:, axial]
    order = np.argsort(slice_of, kind="stable")
    points = position[order][:, in_plane]
    starts = np.flatnonzero(np.diff(slice_of[order], prepend=-1))
    of_component = np.searchsorted(owner[order][starts], np.arange(components.count + 1))
    limits_mm = _longest_possible_mm(points, starts, spacing)
    places = position[order][starts, axial]
    if components.grid.direction[2][axial] < 0:
        places = components.shape[axial] - 1 - places
    return _Slices(points, np.append(starts, len(points)), limits_mm, places, of_component)


def _longest_possible_mm(
    points: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Upper bound of the diameter of each group of voxels, from its extents in a few directions.

    A diameter is at most pi / (2 n) off one of n evenly spread directions.
    """
    angles = np.arange(_LIMIT_DIRECTIONS) * np.pi / _LIMIT_DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)])
    along = (points * spacing) @ directions
    extents = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
    extents += spacing @ np.abs(directions)  # voxels are boxes
    return np.asarray(extents.max(axis=1) / np.cos(np.pi / (2 * _LIMIT_DIRECTIONS)))


def _lengths_of_longest(
    slices: _Slices, begin: int, end: int, spacing: npt.NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Measure that slice of begin..end which has the longest diameter, as `_AXIAL`."""
    longest_mm, short_axis_mm, caliper_mm, place = 0.0, 0.0, 0.0, 0.0
    for number in (begin + np.argsort(-slices.limits_mm[begin:end])).tolist():
        if slices.limits_mm[number] < longest_mm * (1 - _TIE):
            break
        points = slices.points[slices.offsets[number] : slices.offsets[number + 1]]
        polygon = _convex_polygon(points)
        length_mm, across_mm = _longest_axis_mm(polygon * spacing)
        if length_mm < longest_mm * (1 - _TIE):
            continue
        if length_mm > longest_mm * (1 + _TIE):
            longest_mm, short_axis_mm, caliper_mm, place = length_mm, 0.0, 0.0, np.inf
        edges = polygon - np.concatenate([polygon[1:], polygon[:1]])
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        if across_mm > short_axis_mm * (1 + _TIE):
            place = np.inf
        if across_mm >= short_axis_mm * (1 - _TIE):
            place = min(place, float(slices.places[number]))
        short_axis_mm = max(short_axis_mm, across_mm)
        caliper_mm = max(caliper_mm, _least_width_mm(polygon, normals, spacing))
    return short_axis_mm, caliper_mm, longest_mm, place


def _longest_axis_mm(vertices_mm: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Longest distance between two vertices, and the extent perpendicular to it."""
    difference = vertices_mm[:, np.newaxis] - vertices_mm
    distance = np.linalg.norm(difference, axis=-1)
    longest = float(distance.max())
    axes = difference[distance >= longest * (1 - _TIE)] / longest
    perpendicular = np.stack([axes[:, 1], -axes[:, 0]])
    return longest, float(np.ptp(vertices_mm @ perpendicular, axis=0).max())


def _convex_polygon(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Vertices of the convex hull of pixels' corners, in order around it."""
    from scipy.spatial import ConvexHull

    steps = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    corners = (pixels[:, np.newaxis] + steps).reshape(-1, 2)
    return np.asarray(corners[ConvexHull(corners).vertices])


def _least_width_mm(
    vertices: np.ndarray,
    normals: np.ndarray,
    spacing: npt.ArrayLike,
) -> float:
    """Least width of points (in voxels) between planes (or lines) with the given normals.

    Planes ``normal . index = a`` and ``= b`` are ``|a - b| / norm(normal / spacing)`` mm apart.
    """
    normals_mm = normals / np.asarray(spacing)
    norms = np.sqrt(np.einsum("ij,ij->i", normals_mm, normals_mm))
    units = normals[norms > 0] / norms[norms > 0, np.newaxis]
    points = vertices.astype(float)
    step = max(1, _WIDTHS_AT_ONCE // len(points))
    return min(
        float(np.ptp(points @ units[k : k + step].T, axis=0).min())
        for k in range(0, len(units), step)
    )


_MEASURES: dict[str, Callable[[Components], npt.NDArray[np.float64]]] = {
    "ellipsoid": lambda components: _ellipsoid_mm(_covariances(components), components.spacing),
    "ellipsoid-corrected": lambda components: _ellipsoid_mm(
        _covariances(components) + np.diag(np.square(components.spacing) / 12), components.spacing
    ),
    "inscribed": _inscribed_mm,
    "sphere": lambda components: np.cbrt(6 * components.volumes_mm3 / np.pi),
}
"""How each diameter is measured, but for those that share work with another."""
