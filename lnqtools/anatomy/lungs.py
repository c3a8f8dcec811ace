"""Where the lungs are: from the CT numbers alone, or from a lung mask.

The mediastinum lies between the lungs, so the box around both lungs holds all of it. The paper
takes the box of TotalSegmentator's lung lobes; `lungs_from_mask` does so, and `lungs_from_hu`
finds nearly the same box without a network; `lung_mask_from_hu` gives its voxels.

All turn the array to LPS order first (see `lnqtools.images.grid.turn_to`) and what they find back,
so how a file stores its axes changes nothing. Where a spacing stands for a grid, the array is in
that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import cc3d
import numpy as np

from lnqtools.anatomy.maps import lung_mask
from lnqtools.errors import LnqError
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import (
    Grid,
    carry_box,
    grid_of,
    lattice_difference,
    lattice_map,
    outside,
    turn_to,
)
from lnqtools.images.volume import Volume

Spacing = tuple[float, float, float]

DIRECTIONS = ("superior-inferior", "anterior-posterior", "left-right")
USUAL_EXTENT_MM = ((180, 360), (130, 300), (200, 390))
"""Range of the box in each of `DIRECTIONS`, from the lobes of about a thousand chest CTs."""

COARSE_MM = 3.0  # lungs are found on blocks of about this size
LOWEST_HU = -1024
PADDING_HU = -1500  # below it only padding, never noise; taken as `LOWEST_HU`

AIR_HU = -400  # half way between lung and soft tissue
GAS_HU = -930  # air without lung around it: outside the body, in the trachea, in the bowel
PARTLY_LUNG_HU = -250  # a block with a quarter of lung in it

GROWTH_BLOCKS = 4  # reach of the thin recesses at the lungs' rim that the erosion wipes out
TRACHEA_CM2 = 5.0
LEAST_LUNGS_ML = 300.0  # below this the scan holds no more than the lungs' bases
LEAST_COMPONENT_ML = 10.0
LARGE_ML = 800.0  # larger than gas in the bowel
LEAST_SHARE_OF_SECOND_LUNG = 0.15
LEAST_SHARE_OF_LOBE = 0.05
MOST_COMPONENTS = 12

FACES = np.array([[[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)
FACES = FACES[[0, 1, 0]]
"""A voxel and those that share a face with it. Only lungs from HU need scipy.ndimage: its import
takes a third of the time of a crop to a lung mask."""
IN_PLANE = FACES & np.array([False, True, False])[:, None, None]


class NoLungsError(LnqError):
    """The image holds no believable lung."""

    def __init__(self, reason: str):
        super().__init__(f"no lungs found: {reason}")


@dataclass(frozen=True)
class LungBox:
    """The lungs' bounding box.

    Parameters
    ----------
    box : Box
        In voxels, without margin.
    volume_ml : float
        Volume of what was taken as lung.
    warnings : tuple of str
        What makes the box doubtful, one sentence each.
    """

    box: Box
    volume_ml: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Component:
    """An air-filled component on the coarse grid."""

    label: int
    box: Box
    volume_ml: float
    tissue_share: float  # of its surroundings; low for what lies in a table or under a blanket
    hu_percentiles: tuple[float, float]  # 50th and 90th

    @property
    def is_wrapped_in_tissue(self) -> bool:
        return self.tissue_share > 0.5

    @property
    def is_gas(self) -> bool:
        middle, dense = self.hu_percentiles  # even a lung full of emphysema has vessels
        return middle < GAS_HU - 20 and dense < GAS_HU + 30

    @property
    def is_emphysema(self) -> bool:
        middle, _ = self.hu_percentiles
        return self.volume_ml > LARGE_ML and self.tissue_share > 0.8 and middle > GAS_HU - 60

    @property
    def is_lung(self) -> bool:
        return self.is_wrapped_in_tissue and (not self.is_gas or self.is_emphysema)


def lungs_from_hu(array: np.ndarray, grid: Grid | Sequence[float]) -> LungBox:
    """Find the lungs' bounding box from the CT numbers.

    On block means of about 3 mm: air that is neither outside the body nor pure gas, wrapped in
    body tissue, largest component and a second one beside it; grown back to the lungs' rim,
    without the trachea above them. If only one lung holds air, the box is mirrored on the
    body's midline.

    Parameters
    ----------
    array : (z, y, x) ndarray
        CT in HU, any numeric type. It is never copied as a whole.
    grid : Grid or sequence of 3 floats
        Of the CT; or the size of its voxels in mm, of an array in LPS order.

    Returns
    -------
    LungBox
        Rounded outward to whole blocks. The warnings tell of one opaque lung, of lungs cut by
        the image border, and of an unusual extent.

    Raises
    ------
    NoLungsError
        If nothing looks like lung, or less than 300 ml does.
    """
    return _turned(_lungs_from_hu, array, grid)


def _turned(
    find: Callable[[np.ndarray, Spacing], LungBox], array: np.ndarray, grid: Grid | Sequence[float]
) -> LungBox:
    """Find lungs in an array in LPS order, and turn their box back."""
    grid = grid_of(array.shape, grid)
    way = turn_to(grid, "LPS")
    turned = way.turned_grid(grid)
    found = find(way.turned(array), turned.spacing)
    return replace(found, box=carry_box(found.box, turned, grid))


def lung_mask_from_hu(array: np.ndarray, grid: Grid | Sequence[float]) -> np.ndarray:
    """Find the voxels of the lungs from the CT numbers, as `lungs_from_hu` finds their box.

    Parameters
    ----------
    array : (z, y, x) ndarray
        CT in HU, any numeric type. It is never copied as a whole.
    grid : Grid or sequence of 3 floats
        Of the CT; or the size of its voxels in mm, of an array in LPS order.

    Returns
    -------
    (z, y, x) ndarray of bool
        Blocks of about 3 mm, as the array is stored. Lung that holds no air is left out.

    Raises
    ------
    NoLungsError
        If nothing looks like lung, or less than 300 ml does.
    """
    grid = grid_of(array.shape, grid)
    way = turn_to(grid, "LPS")
    found = _lungs_in_blocks(way.turned(array), way.turned_grid(grid).spacing)
    mask = np.empty(array.shape, bool)
    turned = way.turned(mask)
    y, x = (
        np.minimum(np.arange(length) // factor, blocks - 1)
        for length, factor, blocks in zip(
            turned.shape[1:], found.factors[1:], found.lungs.shape[1:], strict=True
        )
    )
    last = len(found.lungs) - 1
    for k, blocks in enumerate(found.lungs):
        end = (k + 1) * found.factors[0] if k < last else len(turned)
        turned[k * found.factors[0] : end] = blocks[y][:, x]
    return mask


@dataclass(frozen=True, eq=False)
class _Blocks:
    """The lungs and the body on the coarse grid, and how many voxels make a block of it."""

    lungs: np.ndarray
    body: np.ndarray
    factors: list[int]
    volume_ml: float


def _lungs_in_blocks(array: np.ndarray, spacing: Spacing) -> _Blocks:
    """Find the lungs on block means, in LPS order."""
    factors = _block_factors(array.shape, spacing)
    spacing_mm = np.array(spacing) * factors
    voxel_ml = float(np.prod(spacing_mm)) / 1000

    hu = np.ascontiguousarray(_block_mean(array, factors))
    outside = _outside_air(hu)
    body = cc3d.largest_k(hu > AIR_HU, k=1, connectivity=6) > 0
    labels = _air_components(hu, outside)
    components = _describe_components(labels, hu, body, voxel_ml)
    core = np.isin(labels, [c.label for c in _choose_lungs(components)])

    lungs = _grow_to_rim(core, (hu < PARTLY_LUNG_HU) & ~outside)
    lungs = _without_trachea(lungs, core, hu, spacing_mm)
    volume_ml = float(np.count_nonzero(lungs)) * voxel_ml
    if volume_ml < LEAST_LUNGS_ML:
        raise NoLungsError(
            f"only {volume_ml:.0f} ml of air-filled lung, as in an image of the abdomen"
        )
    return _Blocks(lungs, body, factors, volume_ml)


def _lungs_from_hu(array: np.ndarray, spacing: Spacing) -> LungBox:
    """Do as `lungs_from_hu` in LPS order."""
    blocks = _lungs_in_blocks(array, spacing)
    found, mirror_warning = _mirrored_if_one_lung(blocks.lungs, blocks.body)
    border_warning = _border_warning(found, blocks.lungs.shape)
    box = _to_full_resolution(found, blocks.factors, array.shape)
    return LungBox(
        box,
        blocks.volume_ml,
        (*_present(mirror_warning, border_warning), *extent_warnings(box, spacing)),
    )


def lungs_from_mask(mask: np.ndarray, grid: Grid | Sequence[float]) -> LungBox:
    """Find the bounding box of a lung mask or of the union of the lung lobes.

    Only the components that make up the lungs count: the largest, and each one of at least a
    twentieth of its volume that shares some of the kept ones' superior-inferior range. So
    specks that a network sees in the table or in the bowel do not inflate the box, while
    lobes that do not touch, or a single lung, are kept.

    Parameters
    ----------
    mask : (z, y, x) ndarray
        Lung is whatever is not zero.
    grid : Grid or sequence of 3 floats
        Of the mask; or the size of its voxels in mm, of an array in LPS order.

    Returns
    -------
    LungBox
        Exact to the voxel.

    Raises
    ------
    NoLungsError
        If the mask is empty.
    """
    return _turned(_lungs_from_mask, mask, grid)


def _lungs_from_mask(mask: np.ndarray, spacing: Spacing) -> LungBox:
    """Do as `lungs_from_mask` in LPS order."""
    around = bounding_box(mask)
    if around is None:
        raise NoLungsError("the lung mask is empty")
    inside = np.ascontiguousarray(mask[around] != 0).view(np.uint8)  # cc3d fails on some bools
    found = cc3d.statistics(cc3d.connected_components(inside, connectivity=26))
    voxels = found["voxel_counts"][1:]
    boxes = [Box(box) for box in found["bounding_boxes"][1:]]
    kept = _components_of_lungs(voxels, boxes)
    box = Box.joined(boxes[k] for k in kept).shifted(around.start)
    volume_ml = float(voxels[kept].sum()) * float(np.prod(spacing)) / 1000
    border_warning = _border_warning(box, mask.shape)
    return LungBox(box, volume_ml, (*_present(border_warning), *extent_warnings(box, spacing)))


def widened_box(
    box: Box, drawn: np.ndarray, source: Grid, grid: Grid, margin_mm: Spacing = (0, 0, 0)
) -> tuple[Box, int]:
    """Widen a box so that it also holds what is drawn in a mask.

    Parameters
    ----------
    box : Box
        In the image's voxels.
    drawn : (z, y, x) ndarray of bool or int
        Not 0 where something is drawn, on ``source``.
    source, grid : Grid
        Of the mask and of the image; of one lattice.
    margin_mm : tuple of float
        Around what is drawn, see `Box.widened`.

    Returns
    -------
    box : Box
        The same if nothing is drawn.
    lost : int
        Drawn voxels that lie outside the image.

    Raises
    ------
    LnqError
        If the lattices differ, or all that is drawn lies outside the image.
    """
    if lattice_map(source, grid) is None:
        raise LnqError(
            f"lies on another lattice: {lattice_difference(source, grid)}; lnq-crop --label --like "
            "puts it onto the image's grid"
        )
    own = bounding_box(drawn)
    if own is None:
        return box, 0
    is_lost = outside(np.nonzero(drawn), source, grid)
    if is_lost.all():
        raise LnqError("what is drawn in it lies outside the image")
    around = carry_box(own, source, grid).widened(margin_mm, grid.spacing, grid.shape)
    return Box.joined([box, around]), int(is_lost.sum())


def extent_warnings(box: Box, spacing: Spacing) -> tuple[str, ...]:
    """Say in which directions a lung box is smaller or larger than lungs usually are.

    Usual are 180-360 mm superior-inferior, 130-300 mm anterior-posterior and 200-390 mm
    left-right: nearly all boxes of the paper's lung lobes lie within.

    Parameters
    ----------
    box : Box
        Without margin, in LPS order.
    spacing : tuple of float
        In mm, one per array axis.

    Returns
    -------
    tuple of str
        One sentence for each unusual direction.
    """
    sentences = []
    for direction, extent_mm, (least, most) in zip(
        DIRECTIONS, box.extent_mm(spacing), USUAL_EXTENT_MM, strict=True
    ):
        if not least <= extent_mm <= most:
            sentences.append(
                f"the lungs extend {extent_mm:.0f} mm {direction}; {least}-{most} mm is usual"
            )
    return tuple(sentences)


def _block_factors(shape: Iterable[int], spacing: Iterable[float]) -> list[int]:
    """Return how many voxels make a block along each axis."""
    return [
        min(max(1, round(COARSE_MM / step)), length)
        for length, step in zip(shape, spacing, strict=True)
    ]


def _block_mean(array: np.ndarray, factors: list[int]) -> np.ndarray:
    """Average over blocks; voxels beyond the last full block are left out."""
    as_stored = np.argsort([-abs(stride) for stride in array.strides], kind="stable")
    coarse = _mean_of_layers(array.transpose(as_stored), [factors[axis] for axis in as_stored])
    return np.ascontiguousarray(coarse.transpose(np.argsort(as_stored)))


def _mean_of_layers(array: np.ndarray, factors: list[int]) -> np.ndarray:
    """Average over blocks, one layer of them at a time along the first axis."""
    nz, ny, nx = (length // f for length, f in zip(array.shape, factors, strict=True))
    fz, fy, fx = factors
    coarse = np.empty((nz, ny, nx), np.float32)
    for z in range(nz):
        layer = array[z * fz : (z + 1) * fz, : ny * fy, : nx * fx].astype(np.float32)
        layer[layer < PADDING_HU] = LOWEST_HU
        rows = layer.sum(axis=0).reshape(ny, fy, nx * fx).sum(axis=1)
        for x in range(1, fx):
            rows[:, ::fx] += rows[:, x::fx]
        coarse[z] = rows[:, ::fx]
    coarse /= fz * fy * fx
    return coarse


def _outside_air(hu: np.ndarray) -> np.ndarray:
    """Mark the gas that is joined, in its axial slice, to the slice's border.

    Slice by slice, because an open airway joins the lungs to the outside in 3-D; and gas only,
    because lungs that a tight field of view cuts touch the border too.
    """
    from scipy import ndimage

    labels, count = ndimage.label(hu < GAS_HU, structure=IN_PLANE)
    is_outside = np.zeros(count + 1, bool)
    for rim in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        is_outside[rim] = True
    is_outside[0] = False
    return np.asarray(is_outside[labels])


def _air_components(hu: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Label the air in the body, eroded to part it from bowel gas and from skin and clothes."""
    from scipy import ndimage

    air = (hu < AIR_HU) & ~outside
    eroded = ndimage.binary_erosion(air, FACES, border_value=1)
    return cc3d.connected_components(eroded, connectivity=6)


def _describe_components(
    labels: np.ndarray, hu: np.ndarray, body: np.ndarray, voxel_ml: float
) -> list[_Component]:
    """Describe the largest components, largest first; of two alike the longer one."""
    found = cc3d.statistics(labels)
    volumes_ml = found["voxel_counts"][1:] * voxel_ml
    boxes = [Box(box) for box in found["bounding_boxes"][1:]]
    lengths = np.array([box.shape[0] for box in boxes])
    components = []
    for number in np.lexsort((-lengths, -volumes_ml))[:MOST_COMPONENTS].tolist():
        if volumes_ml[number] < LEAST_COMPONENT_ML:
            break
        near = boxes[number].grown((3, 3, 3), labels.shape)
        component = labels[near] == number + 1
        middle, dense = np.percentile(hu[near][component], (50, 90))
        components.append(
            _Component(
                number + 1,
                boxes[number],
                float(volumes_ml[number]),
                _tissue_share(component, body[near]),
                (float(middle), float(dense)),
            )
        )
    return components


def _tissue_share(component: np.ndarray, body: np.ndarray) -> float:
    """Return the share of body in a shell around a component, its blurred rim left out."""
    from scipy import ndimage

    rim = ndimage.binary_dilation(component, FACES, iterations=2)
    shell = ndimage.binary_dilation(rim, FACES) & ~rim
    return float(body[shell].mean()) if shell.any() else 0.0


def _choose_lungs(components: list[_Component]) -> list[_Component]:
    """Take the largest lung, and the next one if it lies beside it and is not too small."""
    lungs = [c for c in components if c.is_lung]
    if not lungs:
        raise NoLungsError(_why_no_lung(components))
    first = lungs[0]
    for second in lungs[1:]:
        is_large = second.volume_ml > LEAST_SHARE_OF_SECOND_LUNG * first.volume_ml
        beside = _shared_slices(first.box, second.box) > 0.3 * second.box.shape[0]
        if is_large and beside:
            return [first, second]
    return [first]


def _why_no_lung(components: list[_Component]) -> str:
    """Say what the air in the image is instead."""
    if any(c.is_wrapped_in_tissue for c in components):
        return "the air in the body is pure gas, as in the bowel"
    if components:
        return "the only air is outside the body"
    return "the image shows no air inside a body"


def _grow_to_rim(core: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Undo the erosion, into thin recesses and blocks that are lung only in part."""
    from scipy import ndimage

    box = bounding_box(core)
    assert box is not None  # a chosen component has voxels
    near = box.grown((GROWTH_BLOCKS,) * 3, core.shape)
    lungs = np.zeros_like(core)
    lungs[near] = ndimage.binary_dilation(
        core[near], FACES, iterations=GROWTH_BLOCKS, mask=allowed[near]
    )
    return lungs


def _without_trachea(
    lungs: np.ndarray, core: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray
) -> np.ndarray:
    """Drop the end slices that hold no more than the trachea.

    These have little air, and gas in the middle of it; the equally small slices at the lungs'
    tips and in the recesses behind the diaphragm have not.
    """
    area_cm2 = (lungs & (hu < AIR_HU)).sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2] / 100
    large = np.flatnonzero(area_cm2 >= TRACHEA_CM2)
    if large.size == 0:
        return lungs
    kept = lungs.copy()
    for end in (slice(0, large[0]), slice(large[-1] + 1, None)):
        inner = hu[end][core[end]]
        if inner.size and np.median(inner) < GAS_HU:
            kept[end] = False
    return kept


def _mirrored_if_one_lung(lungs: np.ndarray, body: np.ndarray) -> tuple[Box, str | None]:
    """Return the lungs' box, widened to the other side if one side holds almost no air."""
    box = bounding_box(lungs)
    assert box is not None  # checked by volume before
    columns = np.flatnonzero(body[box[0]].any(axis=(0, 1)))
    both_ends = int(columns[0] + columns[-1] + 1)  # twice the midline
    per_column = lungs.sum(axis=(0, 1))
    twice_center = 2 * np.arange(lungs.shape[2]) + 1
    sides = per_column[twice_center < both_ends].sum(), per_column[twice_center > both_ends].sum()
    if min(sides) >= 0.2 * max(sides):
        return box, None
    first, end = box[2].start, box[2].stop
    wide = slice(min(first, both_ends - end), max(end, both_ends - first))
    mirrored = Box((box[0], box[1], wide)).intersect(Box.whole(lungs.shape))
    return mirrored, "only one lung holds air; its box was mirrored on the body's midline"


def _border_warning(box: Box, shape: tuple[int, ...]) -> str | None:
    """Name the directions in which the lungs reach the image border."""
    cut = [
        direction
        for direction, side, length in zip(DIRECTIONS, box, shape, strict=True)
        if side.start == 0 or side.stop == length
    ]
    if not cut:
        return None
    return f"the lungs reach the image border ({', '.join(cut)}) and may be cut there"


def _to_full_resolution(box: Box, factors: list[int], shape: tuple[int, ...]) -> Box:
    """Turn a box of blocks into one of voxels.

    At the far end the voxels beyond the last full block belong to that block.
    """
    stop = [
        length if last == length // n else last * n
        for last, n, length in zip(box.stop, factors, shape, strict=True)
    ]
    return Box.of(np.multiply(box.start, factors), stop)


def _components_of_lungs(voxels: np.ndarray, boxes: list[Box]) -> list[int]:
    """Return the numbers of the components that make up the lungs, largest first."""
    largest_first = np.argsort(-voxels.astype(np.int64), kind="stable")
    kept = [int(largest_first[0])]
    for k in largest_first[1:]:
        if voxels[k] < LEAST_SHARE_OF_LOBE * voxels[kept[0]]:
            break
        if _shared_slices(boxes[k], Box.joined(boxes[n] for n in kept)) > 0:
            kept.append(int(k))
    return kept


def _shared_slices(a: Box, b: Box) -> int:
    """Return how many axial slices two boxes share."""
    return a.intersect(b).shape[0]


def _present(*sentences: str | None) -> tuple[str, ...]:
    """Leave out what was not said."""
    return tuple(s for s in sentences if s is not None)


def find_lungs(
    ct: Volume, lung_map: Volume | None, classes: str = "auto", margin_mm: Spacing = (0, 0, 0)
) -> LungBox:
    """Find the lungs' box in a CT, from a map of them or, without one, from its HU.

    Parameters
    ----------
    ct : Volume
        In HU. With a map only its grid counts.
    lung_map : Volume or None
        Lung mask or TotalSegmentator map, see `lnqtools.anatomy.maps.lung_mask`. On another
        grid than the CT's, its box is carried over through world coordinates.
    classes : str
        ``auto``, ``v1`` or ``v2``: the map's version.
    margin_mm : tuple of float
        Added at either end superior-inferior, anterior-posterior, left-right, by the array axes
        nearest to these.

    Returns
    -------
    LungBox
        The warnings are about the box without margin.

    Raises
    ------
    LnqError
        If no lungs are found, or the map's version cannot be told.

    Examples
    --------
    >>> from lnqtools import make_phantom
    >>> case = make_phantom(seed=0, index=0, profile="easy")
    >>> lungs = find_lungs(Volume(case.ct, case.grid), None)
    >>> round(lungs.volume_ml), lungs.warnings
    (4736, ())
    """
    if lung_map is None:
        found = lungs_from_hu(ct.array, ct.grid)
    else:
        grid = lung_map.grid
        found = lungs_from_mask(lung_mask(lung_map, classes), grid)
        if grid != ct.grid:
            found = replace(found, box=carry_box(found.box, grid, ct.grid))
    margins = ct.grid.in_array_order(margin_mm)
    return replace(found, box=found.box.widened(margins, ct.spacing, ct.array.shape))
