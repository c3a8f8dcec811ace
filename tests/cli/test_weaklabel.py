"""lnq-weaklabel: what each strategy makes of an annotation."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools.labels.measured import end_columns
from tests.cli.helpers import OBLIQUE, columns_of, indices_of, numbers, rows_of, usage_error
from tests.conftest import affine, load, matrix_of, run, save, succeed

SHAPE = (7, 8, 9)
NODE = (3, 4, 4)
COLUMNS = [
    "case",
    *("voxels_foreground", "voxels_background", "voxels_unknown"),
    *("labeled_per_unlabeled_percent", "labeled_per_total_percent"),
]


def instances() -> np.ndarray:
    """Return three nodes, numbered 1, 3 and 300."""
    annotation = np.zeros(SHAPE, np.uint16)
    annotation[1, 1, 1:3] = 1
    annotation[NODE] = 3
    annotation[6, 7, 8] = 300
    return annotation


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    return save(tmp_path / "case.nii.gz", instances(), affine((1, 1, 3)))


@pytest.fixture
def voxel(tmp_path: Path) -> Path:
    """Return an annotation of one voxel, of 1 × 1 × 3 mm."""
    array = np.zeros(SHAPE, np.uint8)
    array[NODE] = 1
    return save(tmp_path / "voxel.nii.gz", array, affine((1, 1, 3)))


def labeled(annotation: Path, *options) -> np.ndarray:
    """Return the label that the tool makes."""
    out = annotation.with_name("out.nii")
    succeed("lnq-weaklabel", annotation, *options, "-f", "-o", out)
    return load(out)


def hull_of(voxel: Path, *options) -> np.ndarray:
    """Return where the coat of one voxel lies, from it (z, y, x), all else being as it must."""
    label = labeled(voxel, "--strategy", "coat", *options)
    assert indices_of(label == 1) == {NODE}
    assert set(np.unique(label)) == {0, 1, 2}
    return np.argwhere(label == 0) - NODE


@pytest.mark.parametrize(("strategy", "rest"), [("full", 0), ("noisy", 0), ("mask", 2)])
def test_the_rest_is_background_or_unknown(annotation, strategy, rest):
    label = labeled(annotation, "--strategy", strategy)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, np.where(instances() != 0, 1, rest))


@pytest.mark.parametrize(("connectivity", "squared"), [(None, 1), (6, 1), (18, 2), (26, 3)])
def test_a_coat_of_one_step_reaches_the_neighbors(voxel, connectivity, squared):
    options = [] if connectivity is None else ["--connectivity", connectivity]
    steps = hull_of(voxel, *options)
    assert len(steps) == (connectivity or 6)
    assert np.square(steps).sum(axis=1).max() == squared


def test_a_coat_of_two_steps_counts_voxels_not_mm(voxel):
    steps = hull_of(voxel, "--margin", 2)
    assert len(steps) == 24  # an octahedron of radius 2, but for its middle
    assert np.abs(steps).sum(axis=1).max() == 2


def test_a_coat_in_mm_is_all_that_lies_within(voxel):
    expected = {
        (z, y, x)
        for z in range(-3, 4)
        for y in range(-4, 4)
        for x in range(-4, 5)
        if 0 < 9 * z * z + y * y + x * x <= 10
    }
    assert (1, 0, 1) in expected  # √10 mm away
    assert (1, 1, 1) not in expected
    assert set(map(tuple, hull_of(voxel, "--margin-mm", 10**0.5))) == expected


def test_a_coat_in_mm_reaches_the_next_voxel_of_just_this_spacing(tmp_path):
    """1.1 mm is a little more than 1.1 in a header of single precision."""
    array = np.zeros(SHAPE, np.uint8)
    array[NODE] = 1
    source = save(tmp_path / "voxel.nii.gz", array, affine((1.1, 1.1, 3)))
    assert len(hull_of(source, "--margin-mm", 1.1)) == 4


def test_a_coat_in_mm_that_reaches_nothing_fails(voxel, tmp_path):
    arguments = ["--strategy", "coat", "--margin-mm", 0.9, "-o", tmp_path / "out.nii"]
    result = run("lnq-weaklabel", voxel, *arguments)
    assert result.status == 1
    assert result.err == (
        f"lnq-weaklabel: {voxel}: a coat of 0.9 mm reaches no voxel (the finest spacing is 1 mm)\n"
    )
    assert not (tmp_path / "out.nii").exists()


def test_a_coat_never_covers_another_node(tmp_path):
    array = np.zeros(SHAPE, np.uint8)
    array[3, 4, 2:5:2] = 1  # two nodes, a voxel apart
    source = save(tmp_path / "case.nii.gz", array)
    label = labeled(source, "--strategy", "coat", "--margin", 2)
    assert indices_of(label == 1) == {(3, 4, 2), (3, 4, 4)}
    assert label[3, 4, :8].tolist() == [0, 0, 1, 0, 1, 0, 0, 2]


def test_background_is_known_but_for_drawn_nodes(annotation, tmp_path):
    tumour = np.zeros(SHAPE, np.uint8)
    tumour[1, 1] = 1  # over the node there
    tumour[5] = 7  # any value
    place = save(tmp_path / "tumour.nii.gz", tumour, affine((1, 1, 3)))
    label = labeled(annotation, "--strategy", "mask", "--background", place)
    expected = np.where(instances() != 0, 1, np.where(tumour != 0, 0, 2))
    np.testing.assert_array_equal(label, expected)


def test_chosen_values_alone_are_nodes(annotation):
    label = labeled(annotation, "--strategy", "mask", "--values", "300,1")
    np.testing.assert_array_equal(label == 1, np.isin(instances(), (1, 300)))
    assert label[NODE] == 2


def test_no_node_is_drawn_on_purpose(annotation, tmp_path):
    """A case of which all that is drawn is something else, and known."""
    arguments = ["--strategy", "mask", "--foreground-labels", "none"]
    out = tmp_path / "out.nii"
    result = succeed("lnq-weaklabel", annotation, *arguments, "--background", annotation, "-o", out)
    assert result.err == ""
    np.testing.assert_array_equal(load(out), np.where(instances() != 0, 0, 2))


def test_a_folder_of_tumours_is_its_own_background(annotation, tmp_path):
    """As in the README's recipe: the input is its companion on purpose, also for -s."""
    place = annotation.parent
    arguments = [annotation, "--strategy", "mask", "--foreground-labels", "3"]
    arguments += ["--background", place, "-O", tmp_path / "out"]
    for more in ([], ["-s"], ["-s", "--table", "-"]):
        assert succeed("lnq-weaklabel", *arguments, *more).err == ""
    made = load(tmp_path / "out" / annotation.name)
    values = instances()
    np.testing.assert_array_equal(made, np.select([values == 3, values != 0], [1, 0], 2))
    *_, refused = run("lnq-weaklabel", *arguments[:3], *arguments[5:], "-f").err.splitlines()
    assert "the only image of that name there is the input itself" in refused


def test_a_table_does_not_tell_of_another_label_than_the_one_that_is_kept(annotation, tmp_path):
    """An output that was touched, or that another version made otherwise of the same content."""
    arguments = [annotation, "--strategy", "mask", "-o", tmp_path / "out.nii", "-s", "--table", "-"]
    table = succeed("lnq-weaklabel", *arguments).out
    assert succeed("lnq-weaklabel", *arguments).out == table
    image = nib.load(tmp_path / "out.nii")
    array = np.asanyarray(image.dataobj).copy()
    array[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(array, None, image.header), tmp_path / "out.nii")
    result = run("lnq-weaklabel", *arguments)
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-1] == (
        f"lnq-weaklabel: {annotation}: {tmp_path}/out.nii exists and is not what is made now, "
        "which the table would tell of; -f replaces it"
    )
    assert succeed("lnq-weaklabel", *arguments[:-2]).lines == [f"{tmp_path}/out.nii"]


def test_no_node_is_drawn_by_accident(annotation, tmp_path):
    out = tmp_path / "out.nii"
    arguments = ["--strategy", "coat", "--values", "2", "-o", out]
    result = succeed("lnq-weaklabel", annotation, *arguments)
    assert result.err == f"lnq-weaklabel: {annotation}: warning: no node is drawn in it\n"
    assert set(np.unique(load(out))) == {2}


def test_the_table_counts_what_is_known(annotation, tmp_path):
    other = save(tmp_path / "other.nii.gz", np.ones((2, 5, 5), np.uint8))
    table = tmp_path / "table.tsv"
    arguments = ["--strategy", "coat", "--table", table, "-O", tmp_path / "out"]
    succeed("lnq-weaklabel", annotation, other, *arguments)
    assert columns_of(table.read_text()) == COLUMNS
    row, full = rows_of(table.read_text())
    label = load(tmp_path / "out" / "case.nii.gz")
    nodes, background, unknown = (int((label == value).sum()) for value in (1, 0, 2))
    assert row["case"] == "case"
    assert numbers(row, *COLUMNS[1:4]) == [nodes, background, unknown]
    assert nodes == 4
    assert numbers(row, *COLUMNS[4:]) == pytest.approx(
        [100 * (nodes + background) / unknown, 100 * (nodes + background) / label.size]
    )
    # Nothing is unknown: there is no ratio to it.
    assert list(full.values()) == ["other", "50", "0", "0", "", "100"]


def test_the_table_can_take_standard_output(annotation, tmp_path):
    arguments = ["--strategy", "mask", "--table", "-", "--format", "jsonl"]
    result = succeed("lnq-weaklabel", annotation, *arguments, "-o", tmp_path / "out.nii")
    (row,) = rows_of(result.out, "jsonl")
    assert list(row) == COLUMNS
    total = int(np.prod(SHAPE))
    assert row["voxels_unknown"] == total - 4
    assert row["labeled_per_total_percent"] == pytest.approx(400 / total)


def test_the_label_lies_where_the_annotation_does(tmp_path):
    source = save(tmp_path / "case.nii.gz", instances(), OBLIQUE)
    labeled(source, "--strategy", "noisy")
    np.testing.assert_allclose(matrix_of(tmp_path / "out.nii"), OBLIQUE, atol=1e-5)


# On the grid of a CT

SLAB = np.s_[1:5, 1:6, 0:9]
"""What the annotation of a case covers: two of its three nodes, the larger ones."""
EACH = ("--values", "1,3,300")
"""All values of the annotation, which then need no warning."""
EXTRA = [
    *("voxels_uncovered", "components_drawn", "components_lost", "components_cut"),
    *("voxels_lost", "volume_lost_ml"),
]


def cut_out(path: Path, box, to: Path, turn=((0, 1), (1, 1), (2, 1))) -> Path:
    """Write the part of an image in a box (z, y, x), its axes turned perhaps."""
    to.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.load(path).slicer[box[::-1]].as_reoriented(np.array(turn)), to)
    return to


def two_nodes(annotation: Path) -> Path:
    """Return an annotation without the node that the slab does not hold."""
    array = np.isin(instances(), (1, 3)).astype(np.uint8)
    return save(annotation.with_name("two.nii.gz"), array, affine((1, 1, 3)))


@pytest.fixture
def slab(annotation: Path) -> Path:
    """Return the annotation of a case as dcmqi saves it: smaller than its CT."""
    return cut_out(annotation, SLAB, annotation.parent / "slab" / "case.nii.gz")


@pytest.mark.parametrize("turn", [((0, 1), (1, 1), (2, 1)), ((2, -1), (0, 1), (1, -1))])
@pytest.mark.parametrize("strategy", ["full", "noisy", "mask", "coat"])
def test_what_the_annotation_does_not_cover_is_unknown(annotation, strategy, turn):
    slab = cut_out(annotation, SLAB, annotation.parent / "slab" / "case.nii.gz", turn)
    out = annotation.with_name("like.nii")
    arguments = [slab, "--values", "1,3", "--strategy", strategy, "--like", annotation, "-o", out]
    result = succeed("lnq-weaklabel", *arguments)
    whole = labeled(two_nodes(annotation), "--strategy", strategy)
    expected = np.full(SHAPE, 2, np.uint8)
    expected[SLAB] = whole[SLAB]
    np.testing.assert_array_equal(load(out), expected)
    np.testing.assert_allclose(matrix_of(out), matrix_of(annotation))
    missing = 7 * 8 * 9 - 4 * 5 * 9
    told = (
        f"lnq-weaklabel: {slab}: warning: it covers 35.7 % of the image, the other {missing} "
        "voxels are unknown (--uncovered background if the whole image was annotated)\n"
    )
    assert result.err == (told if strategy in ("full", "noisy") else "")


@pytest.mark.parametrize("strategy", ["full", "noisy", "coat"])
def test_an_annotation_of_the_whole_image_may_be_saved_in_part(annotation, slab, strategy):
    expected = labeled(two_nodes(annotation), "--strategy", strategy)
    options = ["--values", "1,3", "--like", annotation, "--uncovered", "background"]
    out = annotation.with_name("like.nii")
    result = succeed("lnq-weaklabel", slab, "--strategy", strategy, *options, "-o", out)
    assert result.err == ""
    np.testing.assert_array_equal(load(out), expected)


def test_the_table_tells_what_is_not_covered(annotation, slab):
    arguments = [slab, "--strategy", "full", "--like", annotation, "-q", "--table", "-"]
    result = succeed("lnq-weaklabel", *arguments, "-o", annotation.with_name("o.nii"))
    assert columns_of(result.out) == [*COLUMNS, *EXTRA]
    (row,) = rows_of(result.out)
    nodes, missing = 3, 7 * 8 * 9 - 4 * 5 * 9
    assert numbers(row, *COLUMNS[1:4]) == [nodes, 4 * 5 * 9 - nodes, missing]
    assert numbers(row, *EXTRA) == [missing, 2, 0, 0, 0, 0]


def test_nodes_outside_the_image_are_told_and_recorded(annotation, tmp_path):
    ct = cut_out(annotation, np.s_[0:5, 0:8, 2:9], tmp_path / "ct" / "case.nii.gz")
    out = tmp_path / "out.nii.gz"
    arguments = [annotation, *EACH, "--strategy", "mask", "--like", ct.parent, "--table", "-"]
    result = succeed("lnq-weaklabel", *arguments, "-o", out)
    # Of the node of two voxels one is left, of the others one is inside and one is not.
    assert result.err == (
        f"lnq-weaklabel: {annotation}: warning: 2 of 4 drawn voxels (0.006 ml) lie outside the "
        f"grid of --like {ct.parent} (of 3 components, 1 lost, 1 cut)\n"
    )
    (row,) = rows_of(result.out)
    assert numbers(row, "voxels_foreground", *EXTRA) == [2, 0, 3, 1, 1, 2, 0.006]
    assert indices_of(load(out) == 1) == {(1, 1, 0), (3, 4, 2)}
    (record,) = (e for e in nib.load(out).header.extensions if e.get_code() == 6)
    lost = {"components": 1, "cut": 1, "voxels": 2, "volume_ml": 0.006}
    assert json.loads(record.get_content())["lost"] == lost


def test_where_no_node_lies_in_the_image_the_case_fails(annotation, tmp_path):
    ct = cut_out(annotation, np.s_[4:6, 0:8, 0:9], tmp_path / "ct.nii.gz")
    out = tmp_path / "out.nii"
    arguments = ["--strategy", "full", "--like", ct, "-o", out]
    result = run("lnq-weaklabel", annotation, *arguments)
    assert result.status == 1
    assert result.err.endswith("(of 3 components, 3 lost): none is left; --allow-empty goes on\n")
    assert not out.exists()
    succeed("lnq-weaklabel", annotation, *arguments, "--allow-empty")
    assert not load(out).any()
    away = cut_out(annotation, np.s_[0:2, 0:8, 0:9], tmp_path / "away.nii.gz")
    result = run("lnq-weaklabel", away, *arguments, "-f")
    assert (result.status, result.err) == (
        1,
        f"lnq-weaklabel: {away}: lies outside the grid of --like {ct}\n",
    )
    succeed("lnq-weaklabel", away, *arguments, "-f", "--allow-empty")
    assert set(np.unique(load(out))) == {2}


def test_another_lattice_is_refused_with_the_way_on(annotation, tmp_path):
    ct = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16), affine((1, 1, 2)))
    arguments = (annotation, *EACH, "--strategy", "mask", "--like", ct, "-o", "o.nii")
    result = run("lnq-weaklabel", *arguments)
    assert (result.status, result.err) == (
        1,
        f"lnq-weaklabel: {annotation}: is on another lattice than --like {ct}: their spacings are "
        "1 × 1 × 3 and 1 × 1 × 2 mm; lnq-crop --label --like brings it there\n",
    )


def test_background_beside_the_annotation_is_known(annotation, slab, tmp_path):
    """A tumour that lies partly outside the drawn slices, on the CT's grid and on its own."""
    tumour = np.zeros(SHAPE, np.uint8)
    tumour[3:7, 4] = 1  # over a node, too
    whole = save(tmp_path / "tumour.nii.gz", tumour, affine((1, 1, 3)))
    part = cut_out(whole, np.s_[2:7, 3:6, 0:9], tmp_path / "part.nii.gz")
    out = tmp_path / "out.nii"
    for place in (whole, part):
        options = ["--strategy", "mask", "--like", annotation, "--background", place]
        succeed("lnq-weaklabel", slab, *options, "-f", "-o", out)
        nodes = np.isin(instances(), (1, 3))
        expected = np.where(nodes, 1, np.where(tumour == 1, 0, 2))
        np.testing.assert_array_equal(load(out), expected)
    other = save(tmp_path / "other.nii.gz", tumour, affine((1, 1, 2)))
    result = run("lnq-weaklabel", slab, *options[:-1], other, "-f", "-o", out)
    assert result.status == 1
    assert f"--background {other}: the two grids do not share a lattice" in result.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Missing option '--strategy'"),
        (("--strategy", "mask", "--margin", 2), "--margin is for --strategy coat"),
        (("--strategy", "full", "--margin-mm", 2), "--margin-mm is for --strategy coat"),
        (("--strategy", "noisy", "--connectivity", 26), "--connectivity is for --strategy coat"),
        (
            ("--strategy", "coat", "--margin", 2, "--margin-mm", 2),
            "--margin-mm and --margin exclude",
        ),
        (("--strategy", "coat", "--margin", 0), "0 is not in the range 1<=x<=100"),
        (("--strategy", "coat", "--margin-mm", "inf"), "'inf' is not a finite number"),
        (("--strategy", "full", "--values", "0,1"), "'0,1' is not a list like 1,3"),
        (("--strategy", "full", "--values", "x"), "'x' is not a list like 1,3"),
        (("--strategy", "full", "--uncovered", "background"), "--uncovered is for --like"),
        (("--strategy", "full", "--allow-empty"), "--allow-empty is for --like"),
        (("--strategy", "full", "--like", "-"), "'--like': '-' is not a file or a directory"),
        (
            ("--strategy", "mask", "--like", "ct", "--uncovered", "background"),
            "--uncovered background and --strategy mask exclude each other",
        ),
        (
            ("--strategy", "mask", "--measurements", "nodes.tsv", "--like", "ct"),
            "--measurements and --like exclude each other",
        ),
        (("--strategy", "mask", "--measurements", "-"), "'-' is not a file or a directory"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(voxel, options, sentence, tmp_path):
    assert sentence in usage_error("lnq-weaklabel", voxel, *options, "-o", tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def test_a_soft_annotation_is_refused(tmp_path):
    source = save(tmp_path / "soft.nii.gz", np.full(SHAPE, 0.25, np.float32))
    result = run("lnq-weaklabel", source, "--strategy", "mask", "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert "must hold whole numbers" in result.err


def test_a_training_label_is_no_annotation(voxel, tmp_path):
    label = tmp_path / "label.nii.gz"
    succeed("lnq-weaklabel", voxel, "--strategy", "mask", "-o", label)
    result = run("lnq-weaklabel", label, "--strategy", "mask", "-o", tmp_path / "again.nii.gz")
    assert result.status == 1
    assert "is a training label with unknown voxels" in result.err


# Nodes that were measured


@pytest.fixture(scope="module")
def measured(phantoms, tmp_path_factory) -> Path:
    """Return labels of the two phantoms by the diameters of their nodes; nothing is drawn."""
    out = tmp_path_factory.mktemp("measured")
    cts = sorted((phantoms / "ct").iterdir())
    table = ["--measurements", phantoms / "nodes.tsv"]
    arguments = [*cts, "--values", "none", *table, "--strategy", "mask", "-O", out]
    result = succeed("lnq-weaklabel", *arguments)
    assert result.err == ""
    assert result.lines == [str(out / ct.name) for ct in cts]
    return out


def test_the_core_of_each_measured_node_is_node(phantoms, measured):
    """The table of the phantoms has the axes of their nodes."""
    rows = rows_of((phantoms / "nodes.tsv").read_text())
    for path in measured.iterdir():
        label, instances = load(path), load(phantoms / "instances" / path.name)
        np.testing.assert_array_equal(matrix_of(path), matrix_of(phantoms / "ct" / path.name))
        assert set(np.unique(label)) == {1, 2}
        assert (instances[label == 1] > 0).mean() > 0.98
        nodes = [row for row in rows if f"{row['case']}.nii.gz" == path.name]
        for row in nodes:
            middle = np.mean(np.reshape(numbers(row, *end_columns()), (4, 3)), axis=0)
            place = nib.affines.apply_affine(np.linalg.inv(matrix_of(path)), middle)
            assert label[tuple(np.rint(place).astype(int)[::-1])] == 1
        touched = set(np.unique(instances[label == 1])) - {0}
        assert len(touched) >= len(nodes) - 1


def test_a_ct_without_annotation_is_told_the_way(phantoms, tmp_path):
    ct, table = phantoms / "ct" / "phantom0-0000.nii.gz", phantoms / "nodes.tsv"
    arguments = (ct, "--measurements", table, "--strategy", "mask", "-o", tmp_path / "a.nii.gz")
    result = run("lnq-weaklabel", *arguments)
    assert result.status == 1
    assert "cannot hold the negative value -" in result.err
    assert result.err.rstrip().endswith("; with --values none it may be a CT")
    assert list(tmp_path.iterdir()) == []


def test_components_of_masks_compose_with_it(phantoms, tmp_path):
    """As the man page has it: centers and short axes alone."""
    truth, ct = (phantoms / folder / "phantom0-0000.nii.gz" for folder in ("truth", "ct"))
    listed = succeed("lnq-filter-diameter", truth, "--list").out
    table = tmp_path / "nodes.tsv"
    table.write_text(listed.replace("diameter_recist_mm", "short_axis_mm", 1))
    label = labeled_of(ct, tmp_path, "--values", "none", "--measurements", table)
    inside = load(truth)[label == 1]
    assert label.shape == load(ct).shape
    assert inside.size > 50
    assert inside.mean() > 0.95


def labeled_of(image: Path, place: Path, *options, strategy: str = "mask") -> np.ndarray:
    """Return the label that the tool makes of an image, elsewhere than beside it."""
    out = place / "label.nii.gz"
    succeed("lnq-weaklabel", image, "--strategy", strategy, *options, "-f", "-o", out)
    return load(out)


def measurement(path: Path, *ends, case: str = "case", unit: str = "voxel") -> Path:
    """Write a table of one node, of which the ends of the axes (x, y, z) are given."""
    cells = [case, *map(str, np.ravel(ends))]
    path.write_text("\t".join(["case", *end_columns(unit)]) + "\n" + "\t".join(cells) + "\n")
    return path


CROSS = ((3, 4, 3), (7, 4, 3), (5, 2, 3), (5, 6, 3))
"""Axes of 4 mm along x and y about the voxel (5, 4, 3) of 1 × 1 × 3 mm, see `annotation`."""


@pytest.mark.parametrize(("strategy", "rest"), [("full", 0), ("mask", 2)])
def test_measured_nodes_join_those_that_are_drawn(annotation, tmp_path, strategy, rest):
    table = measurement(tmp_path / "nodes.tsv", *CROSS)
    label = labeled(annotation, "--strategy", strategy, "--measurements", table)
    z, y, x = np.indices(SHAPE) - np.array((3, 4, 5))[:, None, None, None]
    squared = (3 * z) ** 2 + y**2 + x**2
    expected = np.where(squared <= 9, 2, rest)
    expected[squared <= 1] = 1
    expected[instances() != 0] = 1
    np.testing.assert_array_equal(label, expected)
    assert (label == 1).sum() == 8  # the core's five, of which one is drawn, and four


def test_the_image_may_lie_anyhow(tmp_path):
    """In mm of the world, through an oblique affine, as in voxels; along y they are longer."""
    image = save(tmp_path / "case.nii.gz", np.full(SHAPE, -1000, np.int16), OBLIQUE)
    ends = (*CROSS[2:], *CROSS[:2])
    by_voxel = measurement(tmp_path / "a.tsv", *ends)
    by_mm = measurement(tmp_path / "b.tsv", nib.affines.apply_affine(OBLIQUE, ends), unit="mm")
    one, other = (
        labeled(image, "--strategy", "mask", "--values", "none", "--measurements", table)
        for table in (by_voxel, by_mm)
    )
    np.testing.assert_array_equal(one, other)
    assert one[3, 4, 5] == 1
    assert set(np.unique(one)) == {1, 2}


def test_a_known_tumor_is_background_within_a_ring_but_not_in_a_core(annotation, tmp_path):
    table = measurement(tmp_path / "nodes.tsv", *CROSS)
    place = save(tmp_path / "tumor.nii.gz", np.ones(SHAPE, np.uint8), affine((1, 1, 3)))
    options = ["--measurements", table, "--background", place]
    label = labeled(annotation, "--strategy", "mask", *options)
    assert (label == 1).sum() == 8
    assert (label == 0).sum() == label.size - 8


def test_a_changed_table_is_another_one_for_s(voxel, tmp_path):
    table = measurement(tmp_path / "nodes.tsv", *CROSS, case="voxel")
    arguments = [voxel, "--strategy", "mask", "--measurements", table]
    arguments += ["-o", tmp_path / "out.nii", "-s"]
    for _ in range(2):
        assert succeed("lnq-weaklabel", *arguments).err == ""
    table.write_text(table.read_text() + "\n")
    refused = run("lnq-weaklabel", *arguments)
    assert refused.status == 1
    assert f"was made from another --measurements {table}; -f replaces it" in refused.err


def test_a_case_without_a_measurement_fails_and_another_case_is_told(voxel, tmp_path):
    table = measurement(tmp_path / "nodes.tsv", *CROSS, case="voxel2")
    result = run(
        *("lnq-weaklabel", voxel, "--strategy", "mask", "--measurements", table),
        *("-o", tmp_path / "out.nii"),
    )
    assert result.status == 1
    assert result.err.splitlines() == [
        f"lnq-weaklabel: warning: --measurements {table} has 1 without an image: voxel2",
        f"lnq-weaklabel: {voxel}: --measurements {table}: has no row of the case voxel "
        "(did you mean voxel2?)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case\tshort_axis_mm\ncase\t5\n", "has no column centroid_x_mm: a node is given by"),
        ("", "is empty: a table begins with a line of names"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_is_none_ends_the_run_before_the_work(annotation, tmp_path, text, message):
    table = tmp_path / "nodes.tsv"
    if text is not None:
        table.write_text(text)
    options = ["--strategy", "mask", "--measurements", table, "-o", tmp_path / "out.nii"]
    result = run("lnq-weaklabel", annotation, *options)
    assert result.status == 1
    assert f"lnq-weaklabel: --measurements {table}: {message}" in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "out.nii").exists()


def test_a_point_outside_the_image_fails_its_case_alone(voxel, tmp_path):
    far = np.add(CROSS, (9, 0, 0))
    table = measurement(tmp_path / "nodes.tsv", far, case="voxel")
    other = save(tmp_path / "wide.nii.gz", np.zeros((7, 8, 20), np.uint8), affine((1, 1, 3)))
    table.write_text(table.read_text() + table.read_text().splitlines()[1].replace("voxel", "wide"))
    options = ["--strategy", "mask", "--measurements", table, "-O", tmp_path / "out"]
    result = run("lnq-weaklabel", voxel, other, *options)
    assert result.status == 1
    assert result.lines == [f"{tmp_path}/out/wide.nii.gz"]
    assert result.err == (
        f"lnq-weaklabel: {voxel}: --measurements {table}: row 1: the point (12, 4, 3) lies "
        "outside the image, in voxels\n"
    )
