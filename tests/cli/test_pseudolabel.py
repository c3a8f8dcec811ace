"""lnq-pseudolabel: which unknown voxels known anatomy and teachers fill."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools.anatomy.maps import class_names
from tests.cli.helpers import columns_of, numbers, rows_of, usage_error, values_where, with_names
from tests.conftest import affine, load, matrix_of, run, save, succeed

SHAPE = (5, 9, 10)
MATRIX = affine((1, 1, 3), (4, 5, 6))
SPLEEN, LOBE, HEART, AORTA, RIB_1, RIB_2 = 1, 10, 51, 52, 92, 93
STERNUM = 116
CT_IS_FOR = (
    "--ct is for --anatomy totalsegmentator, --vessels totalsegmentator, --lung-hu-max or "
    "--lungs hu"
)
V2 = class_names("v2")
OF_REGION = ("voxels_region_background", "voxels_node_outside", "node_outside_mm")
OF_TEACHERS = (
    *("voxels_teacher_foreground", "voxels_teacher_background"),
    *("voxels_teacher_small", "voxels_teacher_vetoed"),
)


def training_label() -> np.ndarray:
    """Return a label with two nodes and some background; the rest is unknown."""
    label = np.full(SHAPE, 2, np.uint8)
    label[1, 1:4, 1:4] = 1
    label[3, 7, 7] = 1
    label[4] = 0
    return label


def version_2_map() -> np.ndarray:
    """Return columns of structures, nothing in the last ones."""
    anatomy = np.zeros(SHAPE, np.uint8)
    columns = (SPLEEN, LOBE, HEART, AORTA, RIB_1, RIB_2, STERNUM)
    for x, structure in enumerate(columns):
        anatomy[:, :, x] = structure
    return anatomy


@pytest.fixture
def label(tmp_path: Path) -> Path:
    return save(tmp_path / "label.nii.gz", training_label(), MATRIX)


@pytest.fixture
def anatomy(tmp_path: Path) -> Path:
    return save_map(tmp_path / "anatomy.nii.gz", version_2_map())


def save_map(path: Path, array: np.ndarray, matrix: np.ndarray = MATRIX) -> Path:
    """Write a map that names the classes of version 2."""
    return with_names(save(path, array, matrix), V2)


def check(label: Path, structures: np.ndarray, anatomy: Path, *options) -> None:
    """Check that background grows by unknown voxels in some structures and nowhere else."""
    out = label.with_name("out.nii")
    succeed("lnq-pseudolabel", label, "--anatomy", anatomy, *options, "-q", "-f", "-o", out)
    before = load(label)
    expected = np.where(structures & (before == 2), 0, before)
    assert (expected != before).any()
    np.testing.assert_array_equal(load(out), expected)
    assert load(out).dtype == np.uint8


# Structures


def test_every_structure_is_background_by_default(label, anatomy, tmp_path):
    check(label, version_2_map() != 0, anatomy)
    np.testing.assert_allclose(matrix_of(tmp_path / "out.nii"), MATRIX)
    with_names(anatomy, {0: "background", **V2})
    check(label, version_2_map() != 0, anatomy)
    check(label, ~np.isin(version_2_map(), (0, AORTA)), anatomy, "--structures=-aorta")
    assert version_2_map().max() == STERNUM, "a number that version 1 does not have"


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("heart,aorta", (HEART, AORTA)),
        ("rib_*,spleen", (RIB_1, RIB_2, SPLEEN)),
        ("-heart,-rib_*", (SPLEEN, LOBE, AORTA, STERNUM)),
        ("all,-all,aorta", (AORTA,)),
        ("@list", (LOBE, RIB_2)),
    ],
)
def test_structures_are_chosen_by_name(label, anatomy, wanted, chosen, tmp_path):
    listing = tmp_path / "list"
    listing.write_text(
        "# the list\nlung_upper_lobe_left\n\nrib_*  # all of them, but\n-rib_left_1\n"
    )
    wanted = wanted.replace("@list", f"@{listing}")
    check(label, np.isin(version_2_map(), chosen), anatomy, "--structures", wanted)


def test_an_unknown_structure_fails_with_a_hint(label, anatomy, tmp_path):
    arguments = ["--anatomy", anatomy, "--structures", "hearth", "-o", tmp_path / "out.nii"]
    result = run("lnq-pseudolabel", label, *arguments)
    assert result.status == 1
    assert result.err == (
        f"lnq-pseudolabel: {label}: --anatomy {anatomy}: has no structure named hearth; "
        "did you mean heart?\n"
    )
    assert not (tmp_path / "out.nii").exists()


def test_a_list_that_is_not_there_is_a_usage_error(label, anatomy, tmp_path):
    arguments = ["--anatomy", anatomy, "--structures", "@nowhere", "-o", tmp_path / "out.nii"]
    assert "cannot read @nowhere" in usage_error("lnq-pseudolabel", label, *arguments)


def test_a_changed_list_is_another_option(label, anatomy, tmp_path):
    listing, out = tmp_path / "list.txt", tmp_path / "out.nii"
    listing.write_text("aorta\n# not the heart\n")
    arguments = [label, "--anatomy", anatomy, "--structures", f"@{listing}", "-o", out]
    succeed("lnq-pseudolabel", *arguments)
    listing.write_text("heart  # and no other\n")
    result = run("lnq-pseudolabel", *arguments, "-s")
    assert result.status == 1
    assert "--structures aorta, now heart" in result.err


def test_a_name_beside_a_map_that_changed_is_another_content(label, tmp_path):
    """The map is the same; which of its structures is the aorta is another."""
    place = save(
        tmp_path / "map.nii.gz", np.where(version_2_map() == HEART, 1, 2).astype(np.uint8), MATRIX
    )
    names = tmp_path / "map.tsv"
    names.write_text("index\tname\tvoxels\n1\taorta\t1\n2\tspleen\t1\n")
    arguments = [label, "--anatomy", place, "--structures", "aorta", "-o", tmp_path / "out.nii"]
    succeed("lnq-pseudolabel", *arguments)
    assert succeed("lnq-pseudolabel", *arguments, "-s").err == ""
    names.write_text("index\tname\tvoxels\n2\taorta\t1\n1\tspleen\t1\n")
    result = run("lnq-pseudolabel", *arguments, "-s")
    assert result.status == 1
    assert f"was made from another --anatomy {place}; -f replaces it" in result.err


# Versions


def test_the_same_numbers_mean_others_in_the_other_version(label, tmp_path):
    numbers_ = np.zeros(SHAPE, np.uint8)
    numbers_[:, :4] = 44  # version 1: heart_myocardium; version 2: a vertebra
    numbers_[:, 5:] = 51  # version 1: an artery of the pelvis; version 2: heart
    place = save(tmp_path / "anatomy.nii.gz", numbers_, MATRIX)
    check(label, numbers_ == 44, place, "--structures", "heart*", "--classes", "v1")
    check(label, numbers_ == 51, place, "--structures", "heart*", "--classes", "v2")
    with_names(place, {44: "aorta", 51: "heart", 60: "trachea"})
    check(label, numbers_ == 44, place, "--structures", "aorta,trachea")
    result = run(
        *("lnq-pseudolabel", label, "--anatomy", place, "--classes", "v1"),
        *("-o", tmp_path / "other.nii"),
    )
    assert result.status == 1
    assert result.err == (
        f"lnq-pseudolabel: {label}: --anatomy {place}: names its label 44 aorta, which in v1 is "
        "heart_myocardium\n"
    )
    assert not (tmp_path / "other.nii").exists()


@pytest.mark.parametrize("structures", [(), ("--structures", "heart")], ids=["all", "heart"])
def test_a_map_that_does_not_say_its_version_is_refused(label, tmp_path, structures):
    """Even for all: what is given as a map may be another label by mistake."""
    place = save(tmp_path / "anatomy.nii.gz", np.full(SHAPE, 51, np.uint8), MATRIX)
    arguments = ["--anatomy", place, *structures, "-o", tmp_path / "out.nii"]
    result = run("lnq-pseudolabel", label, *arguments)
    assert result.status == 1
    assert result.err == (
        f"lnq-pseudolabel: {label}: --anatomy {place}: does not name its structures, and numbers "
        "mean something else in each version of TotalSegmentator; say --classes v1 or v2\n"
    )


# Grids


def test_a_map_of_the_whole_scan_fits_a_cropped_label(label, tmp_path):
    """Its lattice is the same, but it is larger, and its axes are swapped and mirrored."""
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 3, np.add(SHAPE, (3, 4, 5))).astype(np.uint8)
    corner = affine((1, 1, 3), (4 + 2, 5 + 1, 6 - 3))  # 2, 1 and 1 voxels before the label's
    image = nib.Nifti1Image(whole.transpose(2, 1, 0), corner)
    turned = tmp_path / "turned.nii.gz"
    nib.save(image.as_reoriented([[2, 1], [1, -1], [0, -1]]), turned)
    with_names(turned, V2)
    structures = values_where(turned, label) != 0
    np.testing.assert_array_equal(structures, whole[1:6, 1:10, 2:12] != 0)
    check(label, structures, turned)


def test_a_map_that_does_not_cover_the_label_is_refused(label, tmp_path):
    place = save(tmp_path / "part.nii.gz", version_2_map()[1:], affine((1, 1, 3), (4, 5, 9)))
    result = run("lnq-pseudolabel", label, "--anatomy", place, "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert result.err == (
        f"lnq-pseudolabel: {label}: --anatomy {place}: does not cover the image\n"
    )
    assert not (tmp_path / "out.nii").exists()


# Dense lung and erosion


def test_dense_lung_is_not_used_but_other_structures_are(label, anatomy, tmp_path):
    hu = np.full(np.add(SHAPE, (0, 0, 1)), 60, np.float32)  # larger than the label
    hu[:, 3:] = -299
    hu[:, 5:] = -300
    hu[2, 5, 1] = np.nan
    ct = save(tmp_path / "ct.nii.gz", hu, MATRIX)
    options = ["--lung-hu-max", -300, "--ct", ct]
    result = run("lnq-pseudolabel", label, "--anatomy", anatomy, *options, "-o", tmp_path / "x.nii")
    assert result.status == 1
    assert f"{label}: {ct}: 1 voxels are NaN" in result.err
    structures = version_2_map() != 0
    structures[:, :5, 1] = False  # the lobe where it is dense
    check(label, structures, anatomy, *options, "--replace-nan", -300)
    structures[2, 5, 1] = False
    check(label, structures, anatomy, *options, "--replace-nan", 0)


def test_dense_lung_and_structures_go_together(label, anatomy, tmp_path):
    ct = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16), MATRIX)
    options = ["--structures", "aorta,lung_*", "--lung-hu-max", -300, "--ct", ct]
    check(label, version_2_map() == AORTA, anatomy, *options)


def test_erosion_shrinks_the_union_by_mm(label, tmp_path):
    union = np.zeros(SHAPE, np.uint8)
    union[:, 1:8, :4] = 10
    union[:, 1:8, 4:8] = 52  # touches: nothing is lost between the two
    place = save_map(tmp_path / "anatomy.nii.gz", union)
    eroded = np.zeros(SHAPE, bool)
    # 2 voxels of 1 mm, but not at the image's edge; the slices, 3 mm apart, do not count.
    eroded[:, 3:6, :6] = True
    check(label, eroded, place, "--erode", 2)


# Vessels


def test_every_vessel_is_background_too(label, anatomy, tmp_path):
    vessels = np.zeros(SHAPE, np.uint8)
    vessels[:, 5, 8:] = 3
    place = save(tmp_path / "vessels.nii.gz", vessels, MATRIX)
    options = ("--structures", "aorta", "--vessels", place)
    result = run("lnq-pseudolabel", label, "--anatomy", anatomy, *options, "-o", tmp_path / "o.nii")
    assert result.status == 1, "it could be any label"
    assert f"--vessels {place}: does not name its structures" in result.err
    assert "--classes" not in result.err, "that is for --anatomy"
    with_names(place, {1: "lung_airways", 3: "lung_arteries"})
    check(label, (version_2_map() == AORTA) | (vessels == 3), anatomy, *options)
    vessels[:, 6, 8:] = 2  # has no name
    with_names(save(place, vessels, MATRIX), {1: "lung_airways", 3: "lung_arteries"})
    check(label, (version_2_map() == AORTA) | (vessels == 3), anatomy, *options)


CAVITIES = {1: "abdominal_cavity", 2: "thoracic_cavity", 3: "pericardium", 4: "mediastinum"}


@pytest.mark.parametrize(
    ("option", "names", "looks_like"),
    [
        ("--anatomy", {1: "lymph_node", 2: "unknown"}, "a training label (it names lymph_node)"),
        ("--anatomy", CAVITIES, "a map of the task trunk_cavities (it names abdominal_cavity)"),
        ("--anatomy", {1: "lung_airways"}, "a map of the task lung_vessels (it names lung_airwa"),
        ("--vessels", {1: "lymph_node", 2: "unknown"}, "a training label (it names lymph_node)"),
        ("--vessels", CAVITIES, "a map of the task trunk_cavities (it names abdominal_cavity)"),
        ("--vessels", V2, "a map of the task total (it names spleen)"),
    ],
)
def test_a_map_of_another_kind_makes_nothing_background(
    label, anatomy, tmp_path, option, names, looks_like
):
    """Its unknown voxels, its cavities or its bones would all be background."""
    fields = np.minimum(version_2_map(), max(names))
    other = with_names(save(tmp_path / "other.nii.gz", fields, MATRIX), names)
    places = {"--anatomy": anatomy} | {option: other}
    arguments = [text for place in places.items() for text in place]
    result = run("lnq-pseudolabel", label, *arguments, "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert result.err.startswith(f"lnq-pseudolabel: {label}: {option} {other}: is {looks_like}")
    assert not (tmp_path / "out.nii").exists()


def test_no_label_is_its_own_anatomy(tmp_path):
    mask = save(tmp_path / "mask.nii.gz", (training_label() == 1).astype(np.uint8), MATRIX)
    label = tmp_path / "label.nii.gz"
    succeed("lnq-weaklabel", mask, "--strategy", "mask", "-o", label)
    other = shutil.copy(label, tmp_path / "other.nii.gz")
    said = {label: "is the input itself", other: "lymph_node"}
    for place, options in product(said, [(), ("--classes", "v2")]):
        arguments = ["--anatomy", place, *options, "-o", tmp_path / "out.nii"]
        result = run("lnq-pseudolabel", label, *arguments)
        assert result.status == 1
        assert said[place] in result.err
        assert not (tmp_path / "out.nii").exists()


def test_maps_are_read_without_totalsegmentator(label, anatomy, tmp_path, monkeypatch):
    """Both kinds of map, and the message of what does need it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('totalsegmentator', 'torch', 'nnunetv2'):\n"
        "    sys.modules[name] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    veins = np.zeros(SHAPE, np.uint8)
    veins[:, 5, 8:] = 4
    place = save(tmp_path / "vessels.nii.gz", veins, MATRIX)
    with_names(place, {4: "lung_veins"})
    options = ("--structures", "mediastinum", "--vessels", place)
    check(label, np.isin(version_2_map(), (HEART, AORTA)) | (veins == 4), anatomy, *options)
    made = ("--anatomy", "totalsegmentator", "--ct", label, "-O", tmp_path / "o")
    result = run("lnq-pseudolabel", label, *made)
    assert result.status == 1
    assert result.err == (
        "lnq-pseudolabel: totalsegmentator is not installed; pip install '.[totalsegmentator]' in "
        "the checkout of lnqtools brings it\n"
    )
    assert not (tmp_path / "o").exists()


def test_names_may_lie_in_the_table_beside_the_map(label, tmp_path):
    """Programs that rewrite a map drop its header extensions; lnq-anatomy's table stays."""
    place = save(tmp_path / "anatomy.nii.gz", version_2_map(), MATRIX)
    table = tmp_path / "anatomy.tsv"
    table.write_text("index\tname\tvoxels\n0\tnothing\t9\n51\theart\t5\n116\tsternum\t5\n")
    check(label, version_2_map() == HEART, place, "--structures", "heart")
    check(label, np.isin(version_2_map(), (HEART, STERNUM)), place)
    table.write_text("case\tdice\nx\t1\n")
    result = run("lnq-pseudolabel", label, "--anatomy", place, "-o", tmp_path / "o.nii")
    assert "does not name its structures" in result.err


# Nodes, tables, refusals


def test_structures_say_how_much_of_the_nodes_they_cover(label, anatomy, tmp_path):
    table = tmp_path / "table.tsv"
    arguments = ["--anatomy", anatomy, "--structures", "heart", "--table", table, "--by-structure"]
    succeed("lnq-pseudolabel", label, *arguments, "-o", tmp_path / "out.nii")
    rows = {row.pop("structure"): row for row in rows_of(table.read_text())}
    assert list(rows) == [
        V2[n] for n in sorted((SPLEEN, LOBE, HEART, AORTA, RIB_1, RIB_2, STERNUM))
    ]
    # ten node voxels: 3 × 3 in columns 1 to 3, which are lobe, heart and aorta, and one elsewhere
    assert {row["case"] for row in rows.values()} == {"label"}
    columns = ("index", "voxels", "voxels_unknown", "voxels_node", "node_fraction")
    assert numbers(rows["heart"], *columns) == [51, 45, 33, 3, 0.3]
    assert numbers(rows["spleen"], *columns) == [1, 45, 36, 0, 0]


def test_covered_nodes_stay_and_are_counted(label, anatomy, tmp_path):
    table = tmp_path / "table.tsv"
    arguments = ["--anatomy", anatomy, "--structures", "heart,rib_left_2", "--table", table]
    result = succeed("lnq-pseudolabel", label, *arguments, "-o", tmp_path / "out.nii")
    assert result.err == (
        f"lnq-pseudolabel: {label}: warning: the anatomy covers 3 node voxels; they stay nodes\n"
    )
    assert columns_of(table.read_text()) == [
        *("case", "voxels_unknown_before", "voxels_node_covered"),
        *OF_REGION,
        *OF_TEACHERS,
        *("voxels_foreground", "voxels_background", "voxels_unknown"),
        *("labeled_per_unlabeled_percent", "labeled_per_total_percent"),
    ]
    (row,) = rows_of(table.read_text())
    assert row.pop("case") == "label"
    assert [row.pop(name) for name in OF_REGION] == [""] * 3, "no region is given"
    assert [row.pop(name) for name in OF_TEACHERS] == [""] * 4, "there is no teacher"
    before, plane = 4 * 90 - 10, 4 * 9  # four unknown slices; a structure's voxels in them
    unknown = before - 2 * plane + 3
    known = 450 - unknown
    assert numbers(row, *row) == pytest.approx(
        [before, 3, 10, known - 10, unknown, 100 * known / unknown, 100 * known / 450]
    )


def test_no_training_label_is_refused(anatomy, tmp_path):
    array = training_label()
    array[0, 0, 0] = 3
    source = save(tmp_path / "label.nii.gz", array, MATRIX)
    result = run("lnq-pseudolabel", source, "--anatomy", anatomy, "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert f"{source}: holds the value 3; a training label holds 0 background" in result.err
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--lung-hu-max", -300), "--lung-hu-max needs --ct"),
        (("--ct", "ct.nii.gz"), CT_IS_FOR),
        (("--vessels", "totalsegmentator"), "--vessels totalsegmentator needs --ct"),
        (("--fast",), "--fast is for --anatomy totalsegmentator"),
        (("--device", "cpu"), "--device is for --anatomy totalsegmentator or --vessels total"),
        (("--download",), "--download is for --anatomy totalsegmentator or --vessels t"),
        (
            ("--vessels", "totalsegmentator", "--ct", "ct.nii.gz", "--keep-anatomy", "maps"),
            "--keep-anatomy is for --anatomy totalsegmentator",
        ),
        (("--by-structure",), "--by-structure is for --table"),
        (("--replace-nan", 0), "--replace-nan is for --ct"),
        (("--erode", -1), "-1.0 is not in the range x>=0"),
        (("--erode", "nan"), "'nan' is not a finite number"),
        (("--classes", "v3"), "'v3' is not one of 'auto', 'v1', 'v2'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(options, sentence):
    arguments = ["label.nii.gz", "--anatomy", "anatomy.nii.gz", *options, "-o", "out.nii"]
    assert sentence in usage_error("lnq-pseudolabel", *arguments)


def test_something_must_fill_the_unknown():
    arguments = ["label.nii.gz", "-o", "out.nii"]
    assert usage_error("lnq-pseudolabel", *arguments) == (
        "say what fills unknown voxels: --anatomy, --outside, --teacher or several of them"
    )


# Regions

LEFT, RIGHT = 10, 12  # lobes


def lung_map() -> np.ndarray:
    """Return two lungs of 3 slices, 4 rows and 2 columns, 4 columns apart, beside a rib."""
    anatomy = np.zeros(SHAPE, np.uint8)
    anatomy[1:4, 2:6, 1:3] = RIGHT
    anatomy[1:4, 2:6, 7:9] = LEFT
    anatomy[:, 8] = RIB_1
    return anatomy


def inside(margin: int = 0, ends: int = 0) -> np.ndarray:
    """Return a region: the hull widened by voxels in its slices, and whole slices at its ends."""
    region = np.zeros(SHAPE, bool)
    region[1:4, 2 - margin : 6 + margin, 1 - margin : 9 + margin] = True
    region[1 - ends : 1] = region[4 : 4 + ends] = True
    return region


@pytest.fixture
def lungs(tmp_path: Path) -> Path:
    return save_map(tmp_path / "lungs.nii.gz", lung_map())


def outside_is_background(label: Path, region: np.ndarray, *options) -> dict[str, str]:
    """Check that what is unknown and outside a region becomes background; return the row."""
    result, row = filled(label, *options)
    before = load(label)
    np.testing.assert_array_equal(result, np.where(~region & (before == 2), 0, before))
    by_region, nodes = numbers(row, *OF_REGION[:2])
    assert by_region == np.count_nonzero((before == 2) & ~region) > 0
    assert nodes == np.count_nonzero((before == 1) & ~region)
    return row


@pytest.mark.parametrize(
    ("options", "margin", "ends"),
    [
        (("--margin-mm", 0, "--ends-mm", 0), 0, 0),
        (("--margin-mm", 1, "--ends-mm", 2.9), 1, 0),
        (("--margin-mm", 1.5, "--ends-mm", 3), 1, 1),
    ],
)
def test_outside_the_hull_of_the_lungs_is_background(label, lungs, options, margin, ends):
    """Voxels are 3 × 1 × 1 mm; the lungs are lobes of a map, or that map as one of lungs."""
    region = inside(margin, ends)
    outside_is_background(label, region, "--outside", "hull", "--lungs", lungs, *options)
    ribs = ("--anatomy", lungs, "--structures", "rib_*")
    result, row = filled(label, *ribs, "--outside", "hull", *options)
    before = load(label)
    expected = np.where((lung_map() == RIB_1) | ~region, 0, before)
    expected[before == 1] = 1
    np.testing.assert_array_equal(result, expected)
    left = (before == 2) & (lung_map() != RIB_1)
    assert int(row["voxels_region_background"]) == np.count_nonzero(left & ~region)


def test_the_default_margins_are_5_and_50_mm(label, lungs):
    """Wider than these images in their slices; a label of 21 slices of 3 mm reaches the ends."""
    tall = np.full((41, *SHAPE[1:]), 2, np.uint8)
    save(label, tall, MATRIX)
    anatomy = np.zeros_like(tall)
    anatomy[19:22] = lung_map()[1:4]
    save_map(lungs, anatomy)
    region = np.zeros(tall.shape, bool)
    region[19 - 16 : 22 + 16] = True
    row = outside_is_background(label, region, "--outside", "hull", "--lungs", lungs)
    assert row["voxels_node_covered"] == "", "there is no anatomy"
    wide = np.full((*tall.shape[:2], 18), 2, np.uint8)
    save(label, wide, MATRIX)
    save_map(lungs, np.pad(anatomy, ((0, 0), (0, 0), (0, 8))))
    region = np.ones(wide.shape, bool)
    region[19:22, :, 9 + 5 :] = False
    region[:3] = region[38:] = False
    outside_is_background(label, region, "--outside", "hull", "--lungs", lungs)


def test_lungs_may_be_a_plain_mask_and_larger_than_the_label(label, tmp_path):
    """One that reaches beyond a cropped label has a hull of its own extent."""
    larger = np.pad(lung_map() % RIB_1 != 0, ((0, 2), (0, 1), (0, 3))).astype(np.uint8)
    larger[4:] = larger[3]
    place = save(tmp_path / "mask.nii.gz", larger, MATRIX)
    region = inside()
    region[4] = region[3]
    options = ("--lungs", place, "--margin-mm", 0, "--ends-mm", 0)
    outside_is_background(label, region, "--outside", "hull", *options)


def test_drawn_nodes_outside_stay_and_are_told_by_voxels_and_mm(label, lungs, tmp_path):
    """Of the one node, 3 × 3 voxels in rows 1 to 3, a row; the other, alone, is 2 rows away."""
    arguments = ["--outside", "hull", "--lungs", lungs, "--margin-mm", 0, "--ends-mm", 0]
    table, out = tmp_path / "t.tsv", tmp_path / "out.nii"
    result = succeed("lnq-pseudolabel", label, *arguments, "--table", table, "-o", out)
    assert result.err == (
        f"lnq-pseudolabel: {label}: warning: 4 drawn node voxels lie outside the region, up to "
        "2.0 mm from it; they stay nodes\n"
    )
    (row,) = rows_of(table.read_text())
    assert numbers(row, *OF_REGION[1:], "voxels_foreground") == [4, 2.0, 10]
    by_structure = [*arguments, "--anatomy", lungs, "--table", "-", "--by-structure", "-f", "-q"]
    rows = rows_of(succeed("lnq-pseudolabel", label, *by_structure, "-o", out).out)
    assert [row["structure"] for row in rows] == [V2[LEFT], V2[RIGHT], V2[RIB_1], "outside"]
    assert rows[-1]["index"] == ""
    columns = ("voxels", "voxels_unknown", "voxels_node", "node_fraction")
    voxels = 450 - inside().sum()
    assert numbers(rows[-1], *columns) == [voxels, voxels - 90 - 4, 4, 0.4]


def test_what_a_teacher_sees_outside_is_not_node(label, teacher, lungs):
    """The sure block lies inside in slices 2 and 3, the sure voxel above the lungs."""
    hull = ("--outside", "hull", "--lungs", lungs, "--margin-mm", 0, "--ends-mm", 0)
    result, row = filled(label, *hull, "--teacher", teacher, *SURE)
    assert result[0, 0, 9] == 0
    assert (result[2:4, 4:6, 2:4] == 1).all()
    assert numbers(row, "voxels_teacher_foreground", "voxels_teacher_vetoed") == [8, 1]


@pytest.mark.parametrize("names", [{}, {1: "abdominal_cavity", 4: "mediastinum"}])
def test_a_mask_or_a_map_of_cavities_is_a_region(label, tmp_path, names):
    """By folder; what it names has rows of its own."""
    cavities = np.zeros(SHAPE, np.uint8)
    cavities[0, :5], cavities[1:3, 1:4] = 1, 4
    place = save(tmp_path / "region" / "label.nii.gz", cavities, MATRIX)
    if names:
        with_names(place, names)
    outside_is_background(label, cavities != 0, "--outside", place.parent)
    arguments = ["--outside", place, "--table", "-", "--by-structure", "-q", "-f"]
    out = succeed("lnq-pseudolabel", label, *arguments, "-o", tmp_path / "out.nii").out
    assert [row["structure"] for row in rows_of(out)] == [*names.values(), "outside"]


@pytest.mark.parametrize(
    ("region", "names", "sentence"),
    [
        (np.zeros, {}, "is 0 wherever the image lies: all of it would be background"),
        (np.ones, {1: "spleen"}, "is a map of the task total (it names spleen), not a region"),
        (np.ones, {1: "lymph_node"}, "is a training label (it names lymph_node), not a region"),
    ],
)
def test_what_cannot_be_a_region_is_refused(label, tmp_path, region, names, sentence):
    place = save(tmp_path / "region.nii.gz", region(SHAPE, np.uint8), MATRIX)
    if names:
        with_names(place, names)
    result = run("lnq-pseudolabel", label, "--outside", place, "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert result.err == f"lnq-pseudolabel: {label}: --outside {place}: {sentence}\n"
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.where(lung_map() == LEFT, 0, lung_map()), "shows one lung alone, whose hull leaves"),
        (np.where(lung_map() == RIB_1, RIB_1, 0), "no lungs found: the lung mask is empty"),
    ],
    ids=["one lung", "no lung"],
)
@pytest.mark.parametrize("option", ["--lungs", "--anatomy"])
def test_without_two_lungs_there_is_no_hull(label, tmp_path, array, sentence, option):
    place = save_map(tmp_path / "map.nii.gz", array.astype(np.uint8))
    given = (option, place, "--outside", "hull", "-o", tmp_path / "out.nii")
    result = run("lnq-pseudolabel", label, *given)
    assert result.status == 1
    assert result.err.startswith(f"lnq-pseudolabel: {label}: {option} {place}: {sentence}")
    assert not (tmp_path / "out.nii").exists()


def test_a_label_far_from_the_lungs_is_refused(label, tmp_path):
    """As a crop of the abdomen would be: all of it would be background."""
    tall = np.zeros((40, *SHAPE[1:]), np.uint8)
    tall[36:39] = lung_map()[1:4]
    place = save_map(tmp_path / "map.nii.gz", tall)
    given = ("--lungs", place, "--outside", "hull", "-o", tmp_path / "out.nii")
    result = run("lnq-pseudolabel", label, *given)
    assert result.status == 1
    assert f"--lungs {place}: shows no lung near the image" in result.err


def test_lungs_from_the_hu_of_a_ct(tmp_path):
    """Two lungs of air in a body, on blocks of 3 mm: as the hull of what was put there."""
    ct = np.full((80, 60, 80), -1000, np.int16)
    ct[:, 5:-5, 5:-5] = 40
    lungs = np.zeros(ct.shape, bool)
    lungs[10:-10, 12:-12, 12:35] = lungs[10:-10, 12:-12, 45:-12] = True
    ct[lungs] = -850
    matrix = affine((3, 3, 3), (0, 0, 0))
    cts = save(tmp_path / "ct" / "a.nii.gz", ct, matrix)
    region = np.zeros(ct.shape, bool)
    region[10:-10, 12:-12, 12:-12] = True
    crop = (slice(4, None), slice(10, 50), slice(10, 70))
    label = save(
        tmp_path / "a.nii.gz",
        np.full(region[crop].shape, 2, np.uint8),
        affine((3, 3, 3), (-30, -30, 12)),
    )
    hull = ("--outside", "hull", "--lungs", "hu", "--margin-mm", 0, "--ends-mm", 0)
    outside_is_background(label, region[crop], *hull, "--ct", cts.parent)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--outside", "hull"), "--outside hull needs --anatomy or --lungs"),
        (("--outside", "hull", "--lungs", "hu"), "--lungs hu needs --ct"),
        (("--outside", "mask.nii", "--lungs", "l"), "--lungs is for --outside hull"),
        (("--outside", "mask.nii", "--margin-mm", 1), "--margin-mm is for --outside hull"),
        (("--anatomy", "ts", "--ends-mm", 1), "--ends-mm is for --outside hull"),
        (("--outside", "mask.nii", "--ct", "ct.nii"), CT_IS_FOR),
        (("--outside", "mask.nii", "--by-structure"), "--by-structure is for --table"),
        (("--outside", "hull", "--lungs", "l", "--margin-mm", -1), "-1.0 is not in the range"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_a_region_needs_and_what_is_for_one(options, sentence):
    arguments = ["label.nii.gz", *options, "-o", "out.nii"]
    assert sentence in usage_error("lnq-pseudolabel", *arguments)


# Teachers


def probabilities() -> np.ndarray:
    """Return a map that is unsure but for one voxel, a block of 8 voxels, and two rows."""
    map_ = np.full(SHAPE, 0.5, np.float32)
    map_[0, 0, 9] = 0.95
    map_[2:4, 4:6, 2:4] = 0.95  # 2 × 2 × 2, in the columns of heart and aorta
    map_[:, 8, :] = 0.05  # 10 voxels in each of five slices; the last slice is background
    map_[1, 1, 1:4] = 0.05  # drawn
    map_[4, 0, :] = 0.95  # known background
    return map_


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save(tmp_path / "probabilities" / "label.nii.gz", probabilities(), MATRIX)


SURE = ("--fg", 0.9, "--bg", 0.1)


def filled(label: Path, *options) -> tuple[np.ndarray, dict[str, str]]:
    """Return the label that the options make of one, and its row of the table."""
    out, table = label.with_name("out.nii"), label.with_name("table.tsv")
    arguments = [*options, "-q", "-f", "-o", out, "--table", table]
    succeed("lnq-pseudolabel", label, *arguments)
    (row,) = rows_of(table.read_text())
    assert load(out).dtype == np.uint8
    return load(out), row


def test_a_teacher_fills_unknown_voxels_and_no_others(label, teacher):
    """By its folder: the map is the file of the case's name."""
    expected = training_label()
    expected[0, 0, 9] = 1
    expected[2:4, 4:6, 2:4] = 1
    expected[:4, 8] = 0
    result, row = filled(label, "--teacher", teacher.parent, *SURE)
    np.testing.assert_array_equal(result, expected)
    assert row["voxels_node_covered"] == row["voxels_teacher_vetoed"] == "", "there is no anatomy"
    counted = ("voxels_unknown_before", *OF_TEACHERS[:3], "voxels_foreground", "voxels_unknown")
    assert numbers(row, *counted) == [350, 9, 40, 0, 10 + 9, 350 - 9 - 40]


@pytest.mark.parametrize(
    ("limit", "value", "counts"), [(("--fg", 0.9), 1, [9, 0]), (("--bg", 0.1), 0, [0, 40])]
)
def test_one_limit_fills_one_kind(label, teacher, limit, value, counts):
    result, row = filled(label, "--teacher", teacher, *limit)
    assert set(result[result != training_label()]) == {value}
    assert numbers(row, *OF_TEACHERS[:2]) == counts


def test_small_new_nodes_stay_unknown(label, teacher):
    """The block measures 2 × 2 × 2 voxels of 3 × 1 × 1 mm; its slices' diagonals are √ 8 mm."""
    options = ("--teacher", teacher, *SURE, "--metric", "recist", "--min-diameter")
    for diameter, kept in ((1.4, 9), (2.82, 8), (2.83, 0)):
        result, row = filled(label, *options, diameter)
        assert numbers(row, *OF_TEACHERS[:3]) == [kept, 40, 9 - kept]
        assert result[0, 0, 9] == (1 if kept == 9 else 2)
        assert (result[2:4, 4:6, 2:4] == (1 if kept else 2)).all()
    result, row = filled(label, "--teacher", teacher, *SURE, "--min-volume", 24)
    assert numbers(row, *OF_TEACHERS[:3]) == [8, 40, 1]


def test_what_touches_a_drawn_node_is_judged_with_it(label, tmp_path):
    """One voxel beside the drawn 3 × 3 of one slice, and one beside the drawn voxel."""
    map_ = np.full(SHAPE, 0.5, np.float32)
    map_[1, 2, 4] = map_[3, 7, 8] = 1
    place = save(tmp_path / "p.nii", map_, MATRIX)
    result, row = filled(label, "--teacher", place, "--fg", 0.5, "--min-volume", 30)
    assert (result[1, 2, 4], result[3, 7, 8]) == (1, 2)
    assert numbers(row, *OF_TEACHERS[:3]) == [1, 0, 1]


def test_structures_become_background_and_never_node(label, teacher, anatomy):
    """The heart and the aorta are columns 2 and 3."""
    options = ("--anatomy", anatomy, "--structures", "heart", "--teacher", teacher, *SURE)
    expected = training_label()
    expected[0, 0, 9] = 1
    expected[2:4, 4:6, 3] = 1
    expected[:4, 8] = 0
    expected[:, :, 2][expected[:, :, 2] == 2] = 0
    result, row = filled(label, *options)
    np.testing.assert_array_equal(result, expected)
    # The heart's column makes 33 of the 350 unknown voxels background, 4 of the row among them.
    assert numbers(row, *OF_TEACHERS) == [5, 40 - 4, 0, 4]
    assert numbers(row, "voxels_unknown_before", "voxels_unknown") == [350, 350 - 33 - 5 - 36]


def test_the_rim_of_a_shrunk_structure_stays_closed_to_nodes(label, teacher, tmp_path):
    whole = np.zeros(SHAPE, np.uint8)
    whole[:, :, :4] = HEART
    place = save_map(tmp_path / "anatomy.nii.gz", whole)
    options = ("--anatomy", place, "--erode", 1, "--teacher", teacher, *SURE)
    result, row = filled(label, *options)
    rim = result[:, :, 3]
    assert (rim[2:4, 4:6] == 2).all(), "the teacher takes it for node"
    assert (rim[:4, 8] == 0).all(), "the teacher takes it for background"
    assert numbers(row, "voxels_teacher_vetoed") == [8]
    np.testing.assert_array_equal(result[:, :, :3] == 2, False)


def test_dense_lung_is_open_to_nodes(label, teacher, tmp_path):
    lobe = np.full(SHAPE, LOBE, np.uint8)
    place = save_map(tmp_path / "anatomy.nii.gz", lobe)
    hu = np.full(SHAPE, -800, np.int16)
    hu[2, 4:6, 2:4] = 40
    ct = save(tmp_path / "ct.nii.gz", hu, MATRIX)
    options = ("--anatomy", place, "--lung-hu-max", -300, "--ct", ct, "--teacher", teacher, *SURE)
    result, row = filled(label, *options)
    expected = np.where(training_label() == 1, 1, 0)
    expected[2, 4:6, 2:4] = 1
    np.testing.assert_array_equal(result, expected)
    assert numbers(row, *OF_TEACHERS) == [4, 0, 0, 1 + 4]


@pytest.mark.parametrize(
    ("agree", "node", "background"),
    [((), (0,), (3,)), (("--agree", 2), (0, 1), (2, 3)), (("--agree", 1), (0,), (3,))],
    ids=["all", "2", "1"],
)
def test_teachers_must_agree(label, tmp_path, agree, node, background):
    """Columns: all say node; two node, one the contrary; two background, one not; all."""
    options: list = []
    for number, columns in enumerate([(0.9, 0.9, 0.1, 0), (1, 0.9, 0.9, 0), (1, 0, 0, 0.1)]):
        map_ = np.full(SHAPE, 0.5, np.float32)
        map_[0, 0, :4] = columns
        options += ["--teacher", save(tmp_path / f"teacher{number}.nii.gz", map_, MATRIX)]
    result, _ = filled(label, *options, "--fg", 0.8, "--bg", 0.2, *agree)
    expected = training_label()
    for columns, value in ((node, 1), (background, 0)):
        for column in columns:
            expected[0, 0, column] = value
    np.testing.assert_array_equal(result, expected)


def test_the_teacher_that_changed_is_named(label, tmp_path):
    teachers = [save(tmp_path / f"t{k}.nii.gz", probabilities(), MATRIX) for k in range(3)]
    options = [part for path in teachers for part in ("--teacher", path)]
    arguments = [label, *options, *SURE, "-o", tmp_path / "out.nii"]
    succeed("lnq-pseudolabel", *arguments)
    assert succeed("lnq-pseudolabel", *arguments, "-s").err == ""
    save(teachers[1], probabilities() / 2, MATRIX)
    result = run("lnq-pseudolabel", *arguments, "-s")
    assert result.status == 1
    assert result.err == (
        f"lnq-pseudolabel: {label}: {tmp_path}/out.nii exists and was made from another --teacher "
        f"{teachers[1]}; -f replaces it\n"
    )


def test_a_map_of_the_whole_scan_teaches_a_cropped_label(label, tmp_path):
    larger = np.full(np.add(SHAPE, (2, 3, 4)), 0.5, np.float32)
    larger[1:6, 1:10, 2:12] = probabilities()
    place = save(tmp_path / "p.nii.gz", larger, affine((1, 1, 3), (4 + 2, 5 + 1, 6 - 3)))
    result, _ = filled(label, "--teacher", place, *SURE)
    assert (result[2:4, 4:6, 2:4] == 1).all()
    assert (result != training_label()).sum() == 49


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (-3.0, "holds values from -3 to 0.95; probabilities lie between 0 and 1"),
        (7.25, "holds values from 0.05 to 7.25; probabilities lie between 0 and 1"),
        (np.nan, "1 voxels are NaN or infinite"),
    ],
)
def test_logits_are_refused(label, tmp_path, value, sentence):
    """Also where the label does not reach."""
    larger = np.full(np.add(SHAPE, (1, 0, 0)), 0.5, np.float32)
    larger[:5] = probabilities()
    larger[5, 0, 0] = value
    place = save(tmp_path / "p.nii.gz", larger, MATRIX)
    out = tmp_path / "out.nii"
    result = run("lnq-pseudolabel", label, "--teacher", place, *SURE, "-o", out)
    assert result.status == 1
    assert result.err.startswith(f"lnq-pseudolabel: {label}: {place}: {sentence}")
    assert result.err.count("\n") == 1
    assert not out.exists()


def test_a_mask_is_no_teacher(label, tmp_path):
    place = save(tmp_path / "mask.nii.gz", (probabilities() > 0.5).astype(np.uint8), MATRIX)
    arguments = ["--teacher", place, *SURE, "-o", tmp_path / "out.nii"]
    result = run("lnq-pseudolabel", label, *arguments)
    assert result.status == 1
    assert f"{place}: holds whole numbers, as a mask does" in result.err


def test_other_limits_and_other_teachers_are_other_options(label, teacher, tmp_path):
    arguments = [label, "-o", tmp_path / "out.nii", "-s", "--bg", 0.1]
    succeed("lnq-pseudolabel", *arguments, "--teacher", teacher, "--fg", 0.9)
    succeed(
        "lnq-pseudolabel", *arguments, "--teacher", f"{teacher.parent}/./label.nii.gz", "--fg", 0.9
    )
    result = run("lnq-pseudolabel", *arguments, "--teacher", teacher.parent, "--fg", 0.8)
    assert result.status == 1
    assert "--fg 0.9, now 0.8" in result.err
    assert f"--teacher {teacher}, now {teacher.parent}" in result.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "--teacher fills nothing without --fg P or --bg P"),
        (("--fg", 0.2, "--bg", 0.3), "--bg 0.3 is above --fg 0.2"),
        (("--fg", 1.1), "1.1 is not in the range 0<=x<=1"),
        (("--bg", 0.1, "--agree", 2), "--agree 2: there are 1 teachers"),
        (("--bg", 0.1, "--teacher", "./p"), "a --teacher is named twice"),
        (("--bg", 0.1, "--teacher", ""), "a path is empty"),
        (("--fg", 0.9, "--metric", "recist"), "--metric is for --min-diameter"),
        (("--fg", 0.9, "--erode", 1), "--erode is for --anatomy"),
        (("--fg", 0.9, "--structures", "aorta"), "--structures is for --anatomy"),
        (("--fg", 0.9, "--vessels", "v"), "--vessels is for --anatomy"),
        (("--fg", 0.9, "--ct", "ct.nii.gz"), CT_IS_FOR),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_a_teacher_cannot_do_is_a_usage_error(options, sentence):
    arguments = ["label.nii.gz", "--teacher", "p", *options, "-o", "out.nii"]
    assert sentence in usage_error("lnq-pseudolabel", *arguments)


@pytest.mark.parametrize("option", ["--fg", "--bg", "--agree", "--min-diameter", "--min-volume"])
def test_what_is_for_teachers_needs_one(option):
    arguments = ["label.nii.gz", "--anatomy", "ts", option, "1", "-o", "out.nii"]
    assert usage_error("lnq-pseudolabel", *arguments) == f"{option} is for --teacher"
