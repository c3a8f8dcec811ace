"""Images whose headers leave something open, pipes, and lists of other systems, through tools."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools.images.nifti import read_provenance
from tests.cli.cohort import MATRIX, SHAPE, make_cohort
from tests.cli.helpers import indices_of, numbers, rows_of, usage_error
from tests.conftest import load, matrix_of, run, save, shell, succeed

NO_AXES = "does not say how its axes lie in the patient (sform and qform codes are 0)"
SPACING_TAKEN = f"its header {NO_AXES}: only its voxel size of 1.5 × 1.5 × 2 mm was taken"
ASSUMED = f"its header {NO_AXES}: {{}} was assumed"
LPS = ("--assume-orientation", "LPS")
KINDS = ("ct", "ann", "label", "tumour", "lungs", "ts", "truth", "probability")


def without_codes(path: Path) -> Path:
    """Take from a header what it says of axes and place, but not the spacing."""
    image = nib.load(path)
    header = nib.Nifti1Header()
    header.set_data_dtype(image.get_data_dtype())
    header.set_data_shape(image.shape)
    header.set_zooms(image.header.get_zooms())
    bare = nib.Nifti1Image(np.asanyarray(image.dataobj), None, header)
    nib.save(bare, path)
    assert codes_of(path) == (0, 0)
    return path


def codes_of(path: Path) -> tuple[int, int]:
    header = nib.load(path).header
    return int(header["sform_code"]), int(header["qform_code"])


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return make_cohort(tmp_path)


@pytest.fixture
def bare(cohort: Path) -> Path:
    """Return a cohort of which the case 'plain' has no codes in any header."""
    for kind in KINDS:
        without_codes(cohort / kind / "plain.nii.gz")
    return cohort


def of(folder: Path, kind: str) -> Path:
    return folder / kind / "plain.nii.gz"


# Tools that need the spacing alone


def test_components_are_listed_without_what_needs_directions(bare, tmp_path):
    listed = succeed("lnq-filter-diameter", "--list", of(bare, "ann"))
    assert listed.err == (f"lnq-filter-diameter: {of(bare, 'ann')}: warning: {SPACING_TAKEN}\n")
    known = succeed("lnq-filter-diameter", "--list", bare / "ann" / "with space.nii.gz")
    for row, other in zip(rows_of(listed.out), rows_of(known.out), strict=True):
        unknown = {name for name, cell in row.items() if cell == ""}
        assert unknown == {
            *("diameter_recist_mm", "diameter_recist_caliper_mm"),
            *("long_axis_mm", "long_axis_slice"),
            *(f"centroid_{axis}_mm" for axis in "xyz"),
        }
        assert "" not in other.values()
    sizes = ("voxels", "volume_mm3", "diameter_ellipsoid_mm", "diameter_feret_min_mm")
    one, other = (rows_of(result.out)[1] for result in (listed, known))
    assert numbers(one, *sizes) == numbers(other, *sizes)
    assert numbers(one, "voxels", "volume_mm3") == [64, 64 * 4.5]
    reason = f"recist is measured in axial slices, and its header {NO_AXES}: --assume-orientation"
    for options in (("--metric", "recist"), ("--degenerate", "recist")):
        result = run("lnq-filter-diameter", of(bare, "ann"), *options, "-O", tmp_path / "out")
        assert (result.status, result.out) == (1, "")
        assert reason in result.err


def test_masks_are_written_as_they_were_without_axes(bare):
    filtered = bare / "filtered.nii.gz"
    succeed("lnq-filter-diameter", of(bare, "ann"), "--min", "3", "-o", filtered)
    assert codes_of(filtered) == (0, 0)
    np.testing.assert_allclose(nib.load(filtered).header.get_zooms(), (1.5, 1.5, 2))
    whole = indices_of(load(of(bare, "ann")))
    assert indices_of(load(filtered)) == whole - {(1, 1, 1)}
    label = bare / "weak.nii.gz"
    succeed(
        *("lnq-weaklabel", of(bare, "ann"), "--strategy", "mask"),
        *("--background", bare / "tumour", "-o", label),
    )
    assert codes_of(label) == (0, 0)
    known = bare / "known.nii.gz"
    for kind in ("ann", "tumour"):
        save(of(bare, kind), load(of(bare, kind)), MATRIX)
    succeed(
        *("lnq-weaklabel", of(bare, "ann"), "--strategy", "mask"),
        *("--background", bare / "tumour", "-o", known),
    )
    np.testing.assert_array_equal(load(label), load(known))


def test_a_label_is_filled_from_a_map_of_its_size(bare):
    options = ("--anatomy", bare / "ts", "--classes", "v2")
    filled = bare / "filled.nii.gz"
    succeed("lnq-pseudolabel", of(bare, "label"), *options, "-o", filled)
    assert codes_of(filled) == (0, 0)
    label, anatomy = load(of(bare, "label")), load(of(bare, "ts"))
    np.testing.assert_array_equal(load(filled), np.where((label == 2) & (anatomy > 0), 0, label))


def test_metrics_of_two_masks_without_axes_are_those_of_two_with(bare):
    save(of(bare, "ann"), np.roll(load(of(bare, "ann")), 1, axis=2), MATRIX)
    known = succeed(
        "lnq-metrics",
        of(bare, "ann"),
        "--reference",
        save(bare / "known.nii.gz", load(of(bare, "truth")), MATRIX),
    )
    without_codes(of(bare, "ann"))
    pair = (of(bare, "ann"), "--reference", bare / "truth", "--missing", "drop")
    result = succeed("lnq-metrics", *pair)
    assert rows_of(result.out) == rows_of(known.out)
    assert 0 < float(rows_of(result.out)[0]["dice"]) < 1
    assert result.err.splitlines()[1:] == [  # the first is of references without prediction
        f"lnq-metrics: {of(bare, 'ann')}: warning: {SPACING_TAKEN}",
        f"lnq-metrics: {of(bare, 'ann')}: warning: {of(bare, 'truth')}: {SPACING_TAKEN}",
    ]
    lesions = succeed("lnq-metrics", *pair, "--lesions")
    for row in rows_of(lesions.out):
        assert row["diameter_recist_mm"] == row["centroid_x_mm"] == ""
        assert row["diameter_ellipsoid_mm"]
    for options in (("--by-diameter", "5"), ("--detection",)):
        succeed("lnq-metrics", *pair, *options)
        refused = run("lnq-metrics", *pair, *options, "--metric", "recist")
        assert refused.status == 1
        assert f"recist is measured in axial slices, and its header {NO_AXES}" in refused.err


def test_other_tables_need_no_axes(bare):
    succeed("lnq-stats", of(bare, "label"), "--table", "cases")
    refused = run("lnq-stats", of(bare, "label"), "--table", "cases", "--metric", "recist")
    assert "recist is measured in axial slices" in refused.err
    succeed("lnq-threshold", of(bare, "probability"), "--reference", bare / "truth")
    spaced = succeed(
        *("lnq-crop", of(bare, "ct"), "--lungs", "none", "--spacing", "3,3,4"),
        *("-o", bare / "coarse.nii.gz", "--boxes", "-"),
    )
    assert {c for c, cell in rows_of(spaced.out)[0].items() if cell == ""} == {
        f"origin_{axis}_mm" for axis in "xyz"
    }
    assert (codes_of(bare / "coarse.nii.gz"), load(bare / "coarse.nii.gz").shape) == (
        (0, 0),
        tuple(n // 2 for n in SHAPE),
    )


# Tools that need directions


NEEDS_AXES = {
    "lnq-crop": "ct/plain.nii.gz -O out",
    "lnq-crop --lungs": "ct/plain.nii.gz --lungs lungs -O out",
    "lnq-report": "ann/plain.nii.gz --reference truth --ct ct -O out",
    "lnq-report --labels": "label/plain.nii.gz --labels --ct ct -O out",
}


@pytest.mark.parametrize("name", NEEDS_AXES)
def test_what_needs_directions_is_refused_with_the_way_on(name, bare):
    tool, line = name.split()[0], NEEDS_AXES[name].replace("--labels", "--labels")
    result = run(tool, *line.split(), cwd=bare)
    assert result.status == 1
    source = line.split()[0]
    assert f"{tool}: {source}: its header {NO_AXES}: --assume-orientation LPS" in result.err
    result = run(tool, *line.split(), *LPS, "-f", cwd=bare)
    assert "--assume-orientation" not in result.err
    if name != "lnq-crop":  # noise holds no lungs
        assert result.status == 0
        assert f"{source}: warning: {ASSUMED.format('LPS')}" in result.err


def test_figures_need_directions(bare):
    row = ("preprocess", "--row", "", "ct/plain.nii.gz", "label/plain.nii.gz", "-o", "x.png")
    result = run("lnq-plot", *row, cwd=bare)
    assert result.status == 1
    assert f"lnq-plot: ct/plain.nii.gz: its header {NO_AXES}: --assume-orientation" in result.err
    result = succeed("lnq-plot", *row, *LPS, cwd=bare)
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [row[3], row[4]]
    save(bare / "part.nii.gz", load(of(bare, "ct"))[2:], None)
    save(bare / "part label.nii.gz", load(of(bare, "label"))[2:], None)
    for name in ("part.nii.gz", "part label.nii.gz"):  # of the same CT, but nobody can know where
        without_codes(bare / name)
    rows = (*row[:5], "--row", "", "part.nii.gz", "part label.nii.gz", "-o", "z.png")
    result = run("lnq-plot", *rows, *LPS, cwd=bare)
    assert "the CTs of rows 1 and 2: neither of the two headers says where" in result.err
    (bare / "m.tsv").write_text("case\tdice\nplain\t0.5\n")
    folders = ("--ct", "ct", "--prediction", "ann", "--reference", "truth")
    cases = ("cases", "m.tsv", *folders, "-o", "y.png")
    result = run("lnq-plot", *cases, cwd=bare)
    assert f"plain: ct/plain.nii.gz: its header {NO_AXES}" in result.err
    succeed("lnq-plot", *cases, *LPS, cwd=bare)


@pytest.mark.slow
def test_networks_need_directions(bare, model):
    arguments = [of(bare, "ct"), "-m", model, "--no-mirror", "--lungs", "none", "--device", "cpu"]
    result = run("lnq-infer", *arguments, "-O", bare / "out")
    assert result.status == 1
    assert f"plain.nii.gz: its header {NO_AXES}: --assume-orientation LPS" in result.err
    succeed("lnq-infer", *arguments, *LPS, "-O", bare / "out")
    save(of(bare, "ct"), load(of(bare, "ct")), MATRIX)
    succeed("lnq-infer", *arguments, "-O", bare / "known")
    np.testing.assert_array_equal(
        load(bare / "out" / "plain.nii.gz"), load(bare / "known" / "plain.nii.gz")
    )


@pytest.mark.slow
def test_training_needs_directions(bare):
    pytest.importorskip("nnunetv2")
    small = ("--recipe", "smoke", "--patch", "16,16,8", "--epochs", "1", "--iterations", "2")
    small += ("--set", "features=4,8", "--fold", "all", "--threads", "1", "--device", "cpu")
    small += ("--allow-no-background",)
    arguments = ("--images", "ct", "--labels", "label", *small, "-m", "model")
    result = run("lnq-train", *arguments, cwd=bare)
    assert result.status == 1
    assert f"lnq-train: ct/plain.nii.gz: its header {NO_AXES}: --assume" in result.err
    assert "with space" not in result.err
    succeed("lnq-train", *arguments, *LPS, cwd=bare)
    again = run("lnq-train", *arguments, "--assume-orientation", "RAS", "-s", cwd=bare)
    assert again.status == 1
    assert "3 cases changed" in again.err


# --assume-orientation


def test_axes_that_are_assumed_make_the_same_of_it_as_axes_that_are_known(bare):
    """The cohort's are LPS, at another place."""
    table = ("lnq-filter-diameter", "--list", of(bare, "ann"))
    found = rows_of(succeed(*table, *LPS).out)
    save(of(bare, "ann"), load(of(bare, "ann")), MATRIX)
    known = rows_of(succeed(*table).out)
    for row, other in zip(found, known, strict=True):
        for axis, start in zip("xyz", (10, -20, 30), strict=True):
            name = f"centroid_{axis}_mm"
            assert float(row.pop(name)) == pytest.approx(float(other.pop(name)) - start)
        assert row == other


def test_an_assumption_is_recorded_and_compared(bare):
    arguments = ("lnq-weaklabel", of(bare, "ann"), "--strategy", "mask", "-O", bare / "out")
    succeed(*arguments)
    written = bare / "out" / "plain.nii.gz"
    assert "assume_orientation" not in read_provenance(written)["options"]
    result = run(*arguments, *LPS, "-s")
    assert result.status == 1
    assert "made with --assume-orientation unset, now LPS" in result.err
    succeed(*arguments, "--assume-orientation", "rai", "-f")
    assert read_provenance(written)["options"]["assume_orientation"] == "RAI"
    assert codes_of(written) == (1, 1)
    assert nib.aff2axcodes(matrix_of(written)) == tuple("RAI")
    np.testing.assert_array_equal(matrix_of(written)[:3, 3], 0)
    succeed(*arguments, "--assume-orientation", "RAI", "-s")


def test_a_grid_whose_axes_were_assumed_is_the_same_grid_the_next_time(bare):
    onto = ("--label", "--like", of(bare, "ct"), *LPS, "-O", bare / "out", "-s")
    first = succeed("lnq-crop", of(bare, "ann"), *onto)
    again = succeed("lnq-crop", of(bare, "ann"), *onto)
    assert first.lines == again.lines == [str(bare / "out" / "plain.nii.gz")]


def test_what_a_header_says_is_not_overruled(cohort):
    out = cohort / "out.nii.gz"
    arguments = ("lnq-weaklabel", of(cohort, "ann"), "--strategy", "mask", "-o", out)
    assert succeed(*arguments, "--assume-orientation", "RAS").err == ""
    np.testing.assert_allclose(matrix_of(out), MATRIX)


@pytest.mark.parametrize("code", ["LP", "LPX", "LRS", "LPSI", "L,P,S", ""])
def test_other_codes_are_refused(code):
    words = ("x.nii", "--assume-orientation", code, "--strategy", "mask", "-O", "out")
    assert "is not an orientation: it has one letter each of L or R, P or A, I or S" in usage_error(
        "lnq-weaklabel", *words
    )


def test_a_mask_without_axes_beside_a_ct_with_them_is_told_what_to_say(cohort):
    """An array that was saved without an affine; the CT may be oblique."""
    tilt = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.2, -0.1, 0.15) @ MATRIX[:3, :3], MATRIX[:3, 3]
    )
    ct = save(of(cohort, "ct"), load(of(cohort, "ct")), tilt)
    lungs = without_codes(of(cohort, "lungs"))
    arguments = ("lnq-crop", ct, "--lungs", lungs, "-o", cohort / "cropped.nii.gz")
    result = run(*arguments)
    assert result.status == 1
    assert result.err.endswith(
        f"lnq-crop: {ct}: --lungs {lungs}: one of the two headers {NO_AXES}; if they run as the "
        "other's, --assume-orientation LPS says so\n"
    )
    succeed(*arguments, *LPS)
    box = np.ix_(range(2, 11), range(3, 12), range(1, 15))
    np.testing.assert_array_equal(load(cohort / "cropped.nii.gz"), load(ct)[box])
    # Stored otherwise, it is turned.
    without_codes(save(lungs, load(lungs)[:, ::-1, ::-1], MATRIX))
    succeed(*arguments, "--assume-orientation", "RAS", "-f")
    np.testing.assert_array_equal(load(cohort / "cropped.nii.gz"), load(ct)[box])
    result = run(
        *("lnq-metrics", of(cohort, "ann"), "--reference", without_codes(of(cohort, "truth")))
    )
    assert result.status == 1
    assert "--assume-orientation LPS says so" in result.err
    assert of(cohort, "truth").name in result.err


def test_a_crop_of_an_image_without_place_is_pasted_back(bare):
    """It lies at 0, where the image is then taken to lie, too."""
    crop, back = bare / "crop.nii.gz", bare / "back.nii.gz"
    succeed("lnq-crop", of(bare, "ct"), "--lungs", bare / "lungs", *LPS, "-o", crop)
    refused = run("lnq-crop", crop, "--like", of(bare, "ct"), "-o", back)
    assert "one of the two headers" in refused.err
    succeed("lnq-crop", crop, "--like", of(bare, "ct"), "--fill", "-5000", *LPS, "-o", back)
    ct = load(of(bare, "ct"))
    kept = load(back) != -5000
    np.testing.assert_array_equal(kept, load(of(bare, "lungs")) != 0)
    np.testing.assert_array_equal(load(back)[kept], ct[kept])
    without_codes(crop)
    for options in ((), LPS):  # where it lies is lost: it would land in the corner
        refused = run("lnq-crop", crop, "--like", of(bare, "ct"), *options, "-o", back, "-f")
        assert refused.status == 1
        assert "neither of the two headers says where its voxels lie" in refused.err


# Grids that are nearly the same


def reoriented(image: nib.Nifti1Image, letters: str) -> nib.Nifti1Image:
    order = nib.orientations.axcodes2ornt(letters)
    stored = nib.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(stored, order))


@pytest.mark.parametrize("letters", ["RAS", "SPL", "IRA", "PLI"])
def test_metrics_do_not_depend_on_how_a_mask_is_stored(letters, cohort):
    place, path = of(cohort, "truth"), of(cohort, "ann")
    save(path, np.roll(load(path), 1, axis=2), MATRIX)
    plain = succeed("lnq-metrics", path, "--reference", place)
    nib.save(reoriented(nib.load(path), letters), path)
    turned = succeed("lnq-metrics", path, "--reference", place)
    assert turned.out == plain.out
    assert re.fullmatch(
        rf"lnq-metrics: {re.escape(str(path))}: warning: is compared voxel by voxel, though its "
        rf"axes are not stored as on the grid of --reference {re.escape(str(place))}: .*\n",
        turned.err,
    )
    option = ("--resample-prediction", "nearest")
    assert succeed("lnq-metrics", path, "--reference", place, *option) == turned


@pytest.mark.parametrize(
    ("tool", "option", "kind"),
    [
        ("lnq-pseudolabel --fg .5 --bg .3", "--teacher", "probability"),
        ("lnq-pseudolabel --anatomy ts --classes v2 --lung-hu-max 0", "--ct", "ct"),
        ("lnq-pseudolabel --anatomy ts --classes v2", "--vessels", "vessels"),
    ],
)
def test_covering_companions_within_half_a_voxel_are_taken(tool, option, kind, cohort):
    """As the contract's test of the others; these may be larger, as by two voxels around."""
    if kind == "vessels":
        names = "index\tname\tvoxels\n1\tlung_vessels\t0\n2\tlung_trachea_bronchia\t0\n"
        save(of(cohort, kind), load(of(cohort, "tumour")), MATRIX)
        (cohort / kind / "plain.tsv").write_text(names)
    arguments = [*tool.split(), "label/plain.nii.gz", option, kind]
    succeed(*arguments, "-o", "plain.nii", cwd=cohort)
    path = of(cohort, kind)
    larger = np.pad(load(path), 2)
    near = MATRIX.copy()
    near[:3, 3] = nib.affines.apply_affine(MATRIX, [-2.4, -2, -1.6])
    image = nib.load(save(path, larger, near))
    nib.save(reoriented(image, "SAR"), path)
    result = succeed(*arguments, "-o", "near.nii", cwd=cohort)
    assert (
        f"lnq-pseudolabel: label/plain.nii.gz: warning: {option} {kind}/plain.nii.gz: its voxels "
        "lie up to 0.4 of a voxel off those of the image and are stored in another order: they "
        "were taken one for one\n"
    ) in result.err
    np.testing.assert_array_equal(load(cohort / "near.nii"), load(cohort / "plain.nii"))
    save(path, larger, near @ np.diag([1.2, 1, 1, 1]))
    result = run(*arguments, "-o", "other.nii", cwd=cohort)
    assert result.status == 1
    label = "" if kind in ("ct", "probability") else "--label "
    assert result.err.endswith(
        f"their spacings are 1.8 × 1.5 × 2 and 1.5 × 1.5 × 2 mm; lnq-crop {label}--like "
        f"label/plain.nii.gz {kind}/plain.nii.gz -o FILE interpolates it onto that\n"
    )
    command = result.err[result.err.index("lnq-crop ") :].partition(" interpolates")[0]
    words = shlex.split(command.replace("FILE", "onto.nii.gz"))
    succeed(*words, cwd=cohort)
    np.testing.assert_allclose(matrix_of(cohort / "onto.nii.gz"), MATRIX)


# Pipes


def test_an_image_in_a_pipe_is_told_to_be_standard_input(cohort):
    tool = "lnq-weaklabel --strategy mask"
    for source in ("<(zcat ann/plain.nii.gz)", "fifo"):
        result = shell(f"mkfifo fifo; {tool} {source} -o out.nii.gz", cohort)
        assert result.status == 1
        assert re.fullmatch(
            r"lnq-weaklabel: (fifo|/dev/fd/\d+): is a pipe: give it on standard input, with - as "
            r"IMAGE; what an option names must be a file\n",
            result.err,
        )
        (cohort / "fifo").unlink()
    result = shell(f"zcat ann/plain.nii.gz | {tool} /dev/stdin -o out.nii.gz", cohort)
    assert "lnq-weaklabel: /dev/stdin: is a pipe: give it on standard input, with - " in result.err
    result = shell(f"{tool} --background <(zcat tumour/plain.nii.gz) ann/plain.nii.gz -O o", cohort)
    assert re.search(r": /dev/fd/\d+: is a pipe: .*what an option names must be a file", result.err)
    shell(f"zcat ann/plain.nii.gz | {tool} - -o out.nii.gz", cohort)
    shell(f"{tool} /dev/stdin -o again.nii.gz <ann/plain.nii.gz", cohort)  # a file
    np.testing.assert_array_equal(load(cohort / "out.nii.gz"), load(cohort / "again.nii.gz"))


@pytest.mark.parametrize("packer", ["zstd", "xz", "bzip2", "gzip"])
def test_what_is_said_of_another_compression_works(packer, cohort):
    plain = gzip.decompress(of(cohort, "ann").read_bytes())
    (cohort / "x.nii").write_bytes(plain)
    shell(f"{packer} -c x.nii >x.nii.packed", cohort)
    if packer == "gzip":  # packed twice: once more, and called as if not
        shell("gzip -c x.nii.packed >y; mv y x.nii.packed", cohort)
    (cohort / "x.nii.packed").rename(cohort / "y.nii.gz")
    result = run("lnq-filter-diameter", "--list", "y.nii.gz", cwd=cohort)
    assert result.status == 1
    assert f"y.nii.gz: is compressed by {packer}: unpack it, or pipe it in" in result.err
    command = result.err.partition("pipe it in (")[2].partition(")")[0]
    command = command.replace("FILE", "y.nii.gz").replace("lnq-…", "lnq-filter-diameter --list")
    piped = shell(command, cohort)
    assert piped.status == 0
    assert [row["voxels"] for row in rows_of(piped.out)] == ["1", "64"]


def test_a_table_goes_into_a_pipe(cohort):
    listed = succeed("lnq-filter-diameter", "--list", of(cohort, "ann")).out
    line = "lnq-filter-diameter ann/plain.nii.gz -O out --min 0"
    result = shell(f"{line} --table >(cat >table.tsv) && sleep .5", cohort)
    assert (result.status, result.lines) == (0, ["out/plain.nii.gz"])
    assert (cohort / "table.tsv").read_text() == listed.replace("\t0\n", "\t1\n")
    result = shell(f"mkfifo fifo; cat fifo >got & {line} -f --table fifo; wait", cohort)
    assert result.status == 0
    assert (cohort / "got").read_text() == (cohort / "table.tsv").read_text()
    assert (cohort / "fifo").is_fifo()
    assert shell(f"{line} -s --table /dev/null", cohort).status == 0
    assert Path("/dev/null").is_char_device()
    for tool in ("lnq-stats label/plain.nii.gz", "lnq-metrics ann/plain.nii.gz --reference truth"):
        plain = shell(tool, cohort).out
        shell(f"{tool} -o >(cat >table.tsv) && sleep .5", cohort)
        assert (cohort / "table.tsv").read_text() == plain
    for name in ("/dev/stdout", "/dev/fd/1"):
        result = shell(f"{line} -f --table {name}", cohort)
        assert result.status == 2
        assert f"{name}: say - for standard output" in result.err


def test_nobody_who_reads_a_table_ends_the_tool_quietly(cohort):
    line = "lnq-filter-diameter ann/plain.nii.gz -O out --table"
    result = shell(f"mkfifo fifo; exec 3<>fifo; {line} fifo; exec 3>&-; echo", cohort)
    assert result.err == ""
    assert result.status == 0


# Lists and tables of other systems


def test_a_list_with_line_ends_of_windows(cohort):
    names = ["ann/plain.nii.gz", "ann/with space.nii.gz"]
    (cohort / "list").write_bytes("".join(f"{name}\r\n" for name in names).encode())
    tool = ("lnq-filter-diameter", "--list", "-T", "list")
    result = succeed(*tool, cwd=cohort)
    assert [row["case"] for row in rows_of(result.out)] == ["plain"] * 2 + ["with space"] * 2
    warning = "lnq-filter-diameter: warning: -T list has Windows line ends, taken as line ends\n"
    assert result.err == warning
    assert succeed(*tool, "-q", cwd=cohort).err == ""
    (cohort / names[0]).rename(cohort / f"{names[0]}\r")  # a name may end so
    (cohort / "list").write_bytes(f"{names[0]}\r\n".encode())
    assert succeed(*tool, cwd=cohort).err == ""
    (cohort / "list").write_bytes(b"nowhere.nii.gz\r\n")
    result = run(*tool, cwd=cohort)
    assert result.err == (
        "lnq-filter-diameter: nowhere.nii.gz\\r: cannot be read: No such file or directory\n"
    )
    (cohort / "list").write_bytes("ann/plain.nii.gz\r\n".encode("utf-16"))
    assert (
        "-T list is UTF-16, as PowerShell writes it: save it as UTF-8" in run(*tool, cwd=cohort).err
    )


@pytest.mark.parametrize(
    "call", ["lnq-compare a=x.csv", "lnq-plot scores a=x.csv --metric dice -o x.svg"]
)
def test_a_table_with_semicolons_is_told(call, tmp_path):
    (tmp_path / "x.csv").write_text("case;dice\na;0,5\n")
    result = run(*call.split(), cwd=tmp_path)
    assert result.status == 1
    assert "x.csv: has ; between its cells: export it with commas or tabs" in result.err
    (tmp_path / "x.csv").write_text("case,dice;x\na,0.5\n")  # a name with one
    assert "between its cells" not in run(*call.split(), cwd=tmp_path).err
