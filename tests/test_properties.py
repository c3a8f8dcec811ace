"""What holds of any image: files, grids, labels, maps of anatomy, lungs."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from lnqtools.anatomy import maps
from lnqtools.anatomy.lungs import find_lungs
from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_folder
from lnqtools.images import nifti, seg_nrrd, views
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import (
    MAX_SHEAR_MM,
    carry_box,
    corner_distance,
    difference,
    lattice_map,
    straightened,
)
from lnqtools.images.itk import read_itk
from lnqtools.images.names import label_table, names_in_header, names_table_path
from lnqtools.images.nifti import provenance_of, read_provenance
from lnqtools.images.volume import (
    Volume,
    as_label,
    read_grid,
    read_label,
    read_volume,
    write_volume,
)
from lnqtools.integrity.verdicts import Verdict as Whole
from lnqtools.integrity.verdicts import judge, made_by
from lnqtools.labels import cohorts
from lnqtools.labels import fill as pseudolabel
from lnqtools.labels.fill import Verdict
from lnqtools.labels.training import LABEL_NAMES, check_label, count_labels, refuse_unknown
from lnqtools.labels.weak import drawn_nodes
from tests.grids import SIGNED_PERMUTATIONS, boxes, grids, make_grid, numbered, turned_grid
from tests.grids import turned_grids as pairs_of_grids

few = settings(max_examples=40, deadline=None)

DTYPES = st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
LABELS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 2))
SPACINGS = st.tuples(*[st.floats(0.5, 4)] * 3)
seeds = st.integers(0, 2**32 - 1)


# Files


@given(grids(), DTYPES, st.sampled_from([".nrrd", ".mha"]), st.booleans(), st.data())
@few
def test_what_itk_writes_is_read_as_it_was(tmp_path_factory, grid, dtype, suffix, packed, data):
    array = data.draw(hnp.arrays(dtype, grid.shape))
    to_lps = np.diag([-1.0, -1.0, 1.0])
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin((to_lps @ grid.origin).tolist())
    image.SetDirection((to_lps @ np.array(grid.direction)[:, ::-1]).ravel().tolist())
    path = tmp_path_factory.mktemp("itk") / f"any{suffix}"
    sitk.WriteImage(image, path, packed)
    voxels, place, notes, *_ = read_itk(path)
    assert voxels.dtype == array.dtype
    np.testing.assert_array_equal(voxels, array)
    assert difference(grid, place, 1e-3) is None
    assert notes == ()
    assert read_grid(path) == place


@given(grids(), SHAPES, DTYPES, st.text(), st.data())
@few
def test_a_written_label_keeps_its_values_and_its_record(
    tmp_path_factory, grid, shape, dtype, text, data
):
    array = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 127)))
    grid = make_grid(shape, grid.spacing, grid.origin, grid.direction)
    record = {"tool": text, "options": {text: [1.5, None]}}
    path = tmp_path_factory.mktemp("label") / "any.nii"
    write_volume(Volume(array, grid, (), (LABEL_NAMES,)), path, record)
    label = read_label(path)
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array, array)
    assert read_grid(path) == label.grid
    assert read_provenance(path) == provenance_of(label.extensions) == record
    assert names_in_header(label) == {1: "lymph_node", 2: "unknown"}
    write_volume(label, path)  # as another tool would, whose record replaces the old one
    assert read_provenance(path) is None
    assert names_in_header(read_volume(path)) == {1: "lymph_node", 2: "unknown"}


@given(SHAPES, st.text(), st.sampled_from([".nii", ".nii.gz", ".seg.nrrd"]), st.data())
@few
def test_a_bit_that_changes_in_an_image_is_found(tmp_path_factory, shape, text, suffix, data):
    array = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    path = tmp_path_factory.mktemp("sum") / f"any{suffix}"
    record = {"tool": text, "options": {text: {"2": 1.5, "10": [None]}}}
    write_volume(Volume(array, make_grid(shape), (), (LABEL_NAMES,)), path, record)
    is_as_written = (nifti if ".nii" in suffix else seg_nrrd).is_as_written
    assert is_as_written(path) is True
    assert judge(path, "image") == Whole("whole", record=record)
    content = bytearray(path.read_bytes())
    voxels = array.nbytes if suffix == ".nii" else 8  # or the end of gzip: checksum and length
    place = data.draw(st.integers(len(content) - voxels, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert judge(path, "image").state == "changed"
    assert made_by(record) == text.strip()


odd_values = st.sampled_from([0, 1, 255, 256, 65535, 65536, 2**31]) | st.sampled_from(
    [-1, 0.5, 2**32, np.nan, np.inf]
)


@given(hnp.arrays(np.float64, (1, 1, 3), elements=odd_values))
def test_a_label_is_of_whole_numbers_in_the_smallest_type_or_refused(array):
    if not np.isin(array, [0, 1, 255, 256, 65535, 65536, 2**31]).all():
        with pytest.raises(LnqError):
            as_label(array)
        return
    label = as_label(array)
    np.testing.assert_array_equal(label, array)
    assert label.dtype == np.min_scalar_type(int(array.max()))


names = st.text("abc.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
contents = st.dictionaries(names, st.binary(max_size=9), max_size=4)


@given(contents, contents, st.booleans())
@few
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path_factory, before, after, fails):
    def fill(content):
        with atomic_folder(target, lambda old: [path.name for path in old.iterdir()]) as folder:
            for name, its in content.items():
                (folder / name).write_bytes(its)
            if content is after and fails:
                raise KeyboardInterrupt

    target = tmp_path_factory.mktemp("any") / "folder"
    fill(before)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            fill(after)
    else:
        fill(after)
    found = {path.name: path.read_bytes() for path in target.iterdir()}
    assert found == (before if fails else after)
    assert list(target.parent.iterdir()) == [target]


# Grids


@given(pairs_of_grids(), st.data())
@few
def test_a_box_carried_to_a_turned_grid_holds_the_same_voxels(case, data):
    source, target, _ = case
    box = data.draw(boxes(source.shape))
    there = carry_box(box, source, target)
    voxels = numbered(source.shape)
    same = lattice_map(source, target).turned(voxels)
    assert set(same[there].ravel()) == set(voxels[box].ravel())
    assert carry_box(there, target, source) == box
    assert carry_box(Box.whole(source.shape), source, target) == Box.whole(target.shape)


@given(grids(), grids(), st.data())
@few
def test_a_carried_box_is_the_least_around_its_edges(source, shape_and_turn, data):
    center = source.world((np.array(source.shape) - 1) / 2)
    target = make_grid(
        shape_and_turn.shape, shape_and_turn.spacing, center, shape_and_turn.direction
    )
    box = data.draw(boxes(source.shape))
    low, high = (np.array([getattr(side, end) for side in box]) for end in ("start", "stop"))
    where = source.index(target.world(np.stack(np.indices(target.shape), axis=-1)))
    inside = ((where > low - 0.5 + 1e-6) & (where < high - 0.5 - 1e-6)).all(axis=-1)
    there = carry_box(box, source, target)
    outside = inside.copy()
    outside[there] = False
    assert not outside.any()
    ends = target.index(source.world(np.array(np.meshgrid(*zip(low, high, strict=True))).T - 0.5))
    for axis, side in enumerate(there):
        assert side.start >= 0
        assert side.stop <= target.shape[axis]
        if side.start < side.stop:
            assert ends[..., axis].min() - 0.02 <= side.start
            assert side.stop - 1 <= ends[..., axis].max() + 0.02


@given(grids(), hnp.arrays(float, (3, 3), elements=st.floats(-0.02, 0.02)))
@few
def test_straightened_axes_are_at_right_angles_and_hardly_moved(grid, shear):
    affine = grid.affine
    np.testing.assert_allclose(straightened(affine, grid.shape), affine, atol=1e-9)
    affine[:3, :3] = (np.eye(3) + shear) @ affine[:3, :3]
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    try:
        straight = straightened(affine, grid.shape)
    except LnqError:
        cosines = (affine[:3, :3] / steps).T @ (affine[:3, :3] / steps) - np.eye(3)
        assert np.abs(cosines).max() > 1e-4
        return
    np.testing.assert_allclose(straight[:3, :3].T @ straight[:3, :3], np.diag(steps**2), atol=1e-9)
    np.testing.assert_array_equal(straight[:, 3], affine[:, 3])
    assert corner_distance(affine, straight, grid.shape) <= MAX_SHEAR_MM


@given(grids(oblique=False))
def test_turned_axes_run_down_backwards_and_to_the_left_by_their_spacing(grid):
    world = grid.world(np.stack(np.indices(grid.shape), axis=-1))
    for axis, step in enumerate(views.turned_grid(grid).spacing):
        down = np.diff(views.turned(world[..., 2 - axis], grid), axis=axis)
        np.testing.assert_allclose(down, -step, rtol=1e-6)


# Labels


@given(st.lists(LABELS, min_size=1, max_size=4), SPACINGS, st.sampled_from([6, 18, 26]))
@few
def test_statistics_of_labels_are_numpys_and_add_up(labels, spacing, connectivity):
    volumes = {
        str(k): cohorts.describe_label(label, spacing, connectivity=connectivity)
        for k, label in enumerate(labels)
    }
    data_sets = {"all": volumes, **{name: {name: its} for name, its in volumes.items()}}
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    cases = cohorts.case_rows({"all": volumes}, 2.0)
    for label, row in zip(labels, cases, strict=True):
        background, foreground, unknown = np.bincount(label.ravel(), minlength=3).tolist()
        assert row["voxels_background"] == background
        assert row["voxels_foreground"] == foreground
        assert row["voxels_unknown"] == unknown
        assert row["components"] == ndimage.label(label == 1, structure)[1]
        assert row["fully_labeled"] == (not unknown)
    together, *apart = cohorts.data_set_rows(data_sets, 2.0)
    for name in together.keys() - {"set", "fully_labeled"}:
        assert together[name] == sum(row[name] for row in apart)
    for name in ("components", "components_enlarged", "components_degenerate"):
        assert together[name] == sum(row[name] for row in cases)
    voxels = cohorts.voxel_rows(data_sets)[0]
    assert voxels["voxels_mean"] == pytest.approx(np.mean([label.size for label in labels]))
    shares = [100 * np.mean(label != 2) for label in labels]
    assert voxels["labeled_per_total_percent_mean"] == pytest.approx(np.mean(shares))
    ratios = [100 * (label != 2).sum() / (label == 2).sum() for label in labels if 2 in label]
    assert voxels["volumes_without_unlabeled"] == len(labels) - len(ratios)
    expected = pytest.approx(np.mean(ratios)) if ratios else None
    assert voxels["labeled_per_unlabeled_percent_mean"] == expected
    for text in (
        cohorts.data_set_text([together, *apart]),
        cohorts.voxel_text(cohorts.voxel_rows(data_sets)),
        cohorts.plain_text(cases),
    ):
        assert {len(line) for line in text} == {len(text[0])}


@given(LABELS, SPACINGS, st.permutations(range(3)), st.sets(st.integers(0, 2)))
@few
def test_a_turned_label_has_the_same_nodes(label, spacing, order, flipped):
    other = np.flip(label.transpose(order), tuple(flipped))
    there = cohorts.describe_label(other, [spacing[axis] for axis in order])
    here = cohorts.describe_label(label, spacing)
    assert there.voxels == here.voxels
    np.testing.assert_allclose(
        np.sort(there.diameters_mm), np.sort(here.diameters_mm), rtol=1e-6, atol=1e-6
    )


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 4)), st.frozensets(st.integers(0, 5)))
def test_labels_are_drawn_counted_and_checked_as_they_are(array, chosen):
    nodes = drawn_nodes(array, chosen)
    assert nodes.tolist() == np.vectorize(lambda v: int(v) in chosen, otypes=[bool])(array).tolist()
    np.testing.assert_array_equal(drawn_nodes(array), array > 0)
    named = Volume(array, make_grid(array.shape), (), (LABEL_NAMES,))
    for is_bad, check, given_ in (
        (array.max() > 2, check_label, array),
        (2 in array, refuse_unknown, named),
        (False, refuse_unknown, Volume(array, named.grid)),
    ):
        if is_bad:
            with pytest.raises(LnqError):
                check(given_)
        else:
            check(given_)
    found = count_labels(array.clip(0, 2))
    assert (found.background, found.foreground) == ((array == 0).sum(), (array == 1).sum())
    assert found.total == array.size


# Anatomy

others = st.sets(st.sampled_from(["aorta", "trachea", "heart", "spleen"]), min_size=1)
structures = st.permutations(range(1, 40)).flatmap(
    lambda numbers: others.map(
        lambda more: dict(zip(numbers, [*maps.LOBES, *sorted(more)], strict=False))
    )
)


def draw_map(data, numbers, shape=(3, 4, 5)) -> np.ndarray:
    return data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, *numbers])))


@given(structures, st.data())
@few
def test_a_table_beside_a_map_names_it_as_its_header_does(tmp_path_factory, names, data):
    array = draw_map(data, names)
    path = tmp_path_factory.mktemp("map") / "any.nii"
    write_volume(Volume(array, make_grid(array.shape)), path)
    table = maps.names_table(names, array)
    counted = [line.split("\t") for line in table.splitlines()[1:]]
    assert {int(n): int(count) for n, _, count in counted} == {n: (array == n).sum() for n in names}
    names_table_path(path).write_text(table)
    named = maps.read_map(path)
    assert maps.structure_names(named) == names
    maps.check_task(names, "total")
    with pytest.raises(LnqError, match="is a map of the task total"):
        maps.check_region(names)
    lobes = [number for number, name in names.items() if name in maps.LOBES]
    np.testing.assert_array_equal(maps.lung_mask(named), np.isin(array, lobes))
    in_header = Volume(array, named.grid, (), (label_table(names),))
    np.testing.assert_array_equal(maps.lung_mask(in_header), np.isin(array, lobes))


@given(st.data(), st.sampled_from([0, 5, 6, 104, 117, 118, 255]), st.sampled_from(["v1", "v2"]))
@few
def test_a_map_without_names_is_a_mask_or_of_the_version_given(data, highest, version):
    others = data.draw(st.sampled_from([st.just(0), st.integers(0, highest)]))
    array = data.draw(hnp.arrays(np.uint8, (2, 3, 4), elements=others))
    array[1, 1, 1] = highest
    volume = Volume(array, make_grid(array.shape))
    if array.max() <= 5 or set(np.unique(array)) <= {0, 255}:
        np.testing.assert_array_equal(maps.lung_mask(volume) != 0, array != 0)
    else:
        with pytest.raises(maps.NamelessMapError):
            maps.lung_mask(volume)
    names = maps.class_names(version)
    if array.max() > len(names):
        with pytest.raises(LnqError, match="is not a class"):
            maps.lung_mask(volume, version)
        return
    expected = [[[names.get(int(v)) in maps.LOBES for v in row] for row in z] for z in array]
    np.testing.assert_array_equal(maps.lung_mask(volume, version), expected)


@given(structures, st.data())
@few
def test_each_covered_voxel_is_counted_for_one_structure(names, data):
    array = draw_map(data, names)
    label = data.draw(hnp.arrays(np.uint8, array.shape, elements=st.integers(0, 2)))
    rows = pseudolabel.structure_overlaps(label, array, names)
    assert [row["index"] for row in rows] == [number for number in names if number in array]
    for row in rows:
        here = array == row["index"]
        assert row["structure"] == names[row["index"]]
        assert row["voxels"] == here.sum()
        assert row["voxels_unknown"] == (label[here] == 2).sum()
        assert row["voxels_node"] == (label[here] == 1).sum()
        share = row["voxels_node"] / (label == 1).sum() if 1 in label else None
        assert row["node_fraction"] == share
    verdict = Verdict(background=array > 0)
    (outcome,) = pseudolabel.fill_unknown(label, [verdict], (1.0, 1.0, 1.0)).outcomes
    assert outcome.covered == sum(row["voxels_node"] for row in rows)


@given(LABELS, st.data(), st.floats(-1000, 1000))
@few
def test_a_veto_keeps_what_it_counts_and_dense_lung_is_no_structure(label, data, hu_max):
    masks = data.draw(hnp.arrays(np.uint8, (3, *label.shape), elements=st.integers(0, 2)))
    node, background, veto = masks == 1, masks == 2, masks[2] > 0
    verdict = Verdict(node[0], background[0])
    free = pseudolabel.fill_unknown(label, [verdict], (1.0, 1.0, 1.0))
    held = pseudolabel.fill_unknown(label, [verdict, Verdict(veto=veto)], (1.0, 1.0, 1.0))
    vetoed = held.outcomes[0].vetoed
    assert free.outcomes[0].node - held.outcomes[0].node == vetoed
    assert np.count_nonzero(free.label != held.label) == vetoed
    columns = pseudolabel.teacher_columns(free.outcomes[0])
    assert columns["voxels_teacher_vetoed"] is None
    filled = free.label[label == 2]
    assert columns["voxels_teacher_foreground"] == np.count_nonzero(filled == 1)
    assert columns["voxels_teacher_background"] == np.count_nonzero(filled == 0)
    ct = data.draw(hnp.arrays(np.int16, label.shape, elements=st.integers(-1000, 1000)))
    left = pseudolabel.without_dense_lung(node[1], veto, ct, hu_max)
    expected = [
        s and not (lobe and hu > hu_max)
        for s, lobe, hu in zip(node[1].ravel(), veto.ravel(), ct.ravel(), strict=True)
    ]
    assert left.ravel().tolist() == expected


# Lungs


@given(pairs_of_grids(), st.data())
@few
def test_the_box_of_a_turned_lung_mask_is_turned(case, data):
    source, target, _ = case
    box = data.draw(boxes(source.shape))
    mask = np.zeros(source.shape, np.uint8)
    mask[box] = 255
    ct = Volume(np.zeros(target.shape, np.int16), target)
    found = find_lungs(ct, Volume(mask, source)).box
    assert found == bounding_box(lattice_map(source, target).turned(mask))
    margin = data.draw(st.tuples(*[st.floats(0, 9)] * 3))
    wide = find_lungs(ct, Volume(mask, source), "auto", margin).box
    for side, inner, step, most, room in zip(
        wide, found, target.spacing, target.in_array_order(margin), target.shape, strict=True
    ):
        voxels = int(np.ceil(most / step - 1e-6))
        assert side == slice(max(0, inner.start - voxels), min(room, inner.stop + voxels))


@st.composite
def thoraxes(draw):
    """Return a CT of two lungs in a body, in voxels too large for blocks of several."""
    shape = (16, 20, 26)
    noise = np.random.default_rng(draw(seeds)).normal(0, 20, shape)
    hu = np.full(shape, -1000.0)
    hu[:, 2:-2, 2:-2] = 40
    for first in (4, 15):
        corner = [draw(st.integers(2, 3)), draw(st.integers(4, 6)), first + draw(st.integers(0, 1))]
        sides = [draw(st.integers(3, most)) for most in (10, 9, 6)]
        box = tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))
        hu[box] = -850
    return np.rint(hu + noise).astype(np.int16)


def two_of_one_size() -> np.ndarray:
    """Return a CT of a long and a short lung, which are as large once their rims are gone."""
    hu = np.full((16, 20, 26), -1000, np.int16)
    hu[:, 2:-2, 2:-2] = 40
    hu[2:12, 4:8, 5:9] = hu[2:6, 4:10, 15:21] = -850
    return hu


@example(two_of_one_size(), np.diag([1.0, 1.0, -1.0]))
@example(two_of_one_size()[..., ::-1], np.diag([1.0, 1.0, -1.0]))
@given(thoraxes(), st.sampled_from(SIGNED_PERMUTATIONS))
@few
def test_a_turned_ct_has_its_lungs_where_they_were(array, way):
    grid = make_grid(array.shape, (12.0, 12.0, 12.0))
    target = turned_grid(grid, way)
    other = np.ascontiguousarray(lattice_map(grid, target).turned(array))
    before = other.copy()
    try:
        here = find_lungs(Volume(array, grid), None)
    except LnqError as error:
        with pytest.raises(type(error)):
            find_lungs(Volume(other, target), None)
        return
    there = find_lungs(Volume(other, target), None)
    np.testing.assert_array_equal(other, before)
    assert there.box == carry_box(here.box, grid, target)
    assert there.volume_ml == pytest.approx(here.volume_ml)
    if not any("only one lung" in sentence for sentence in here.warnings):
        air = np.zeros(array.shape, bool)
        air[:, 2:-2, 2:-2] = array[:, 2:-2, 2:-2] < -400
        assert here.box == bounding_box(air)
