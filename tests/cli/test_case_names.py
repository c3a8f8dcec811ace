"""What cases are called: suffixes, --case-pattern, accents, and what was probably meant."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import SimpleITK as sitk

from lnqtools.cli._names import case_name, near_names
from tests.cli.helpers import rows_of, usage_error
from tests.conftest import affine, load, run, save, succeed

MATRIX = affine((0.8, 0.8, 3.0))
NODE = np.zeros((8, 16, 20), np.uint8)
NODE[2:5, 4:10, 4:10] = 1
BESIDE = np.roll(NODE, 3, axis=2)
"""Half of it is the node: Dice 1/2."""
CT = np.full(NODE.shape, 40, np.int16)
BY_FOLDER = "([^/]+)/[^/]*$"


@pytest.fixture
def folders(tmp_path) -> Path:
    """Return a folder with one for each case, as KiTS and autoPET have."""
    for number, prediction in enumerate((BESIDE, NODE)):
        case = tmp_path / f"case_0000{number}"
        images = {"imaging": CT, "segmentation": NODE, "prediction": prediction}
        for name, array in images.items():
            save(case / f"{name}.nii.gz", array, MATRIX)
    return tmp_path


@pytest.fixture
def challenge(tmp_path) -> Path:
    """Return a folder with all files of a case side by side, as LNQ2023 has."""
    images = {"ct": CT, "seg": NODE, "pred": BESIDE}
    for kind, array in images.items():
        for case in ("p1", "p2"):
            save(tmp_path / f"{case}-{kind}.nii.gz", array, MATRIX)
    return tmp_path


def predictions(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.glob("*/prediction.nii.gz"))]


# Names


def test_the_suffix_of_slicers_segmentations_is_no_part_of_the_name(tmp_path):
    for name, array in (("ct/case1.nrrd", CT), ("seg/case1.seg.nrrd", NODE)):
        (tmp_path / name).parent.mkdir()
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.8, 0.8, 3.0))
        sitk.WriteImage(image, tmp_path / name)
    seg = "seg/case1.seg.nrrd"
    done = succeed("lnq-crop", "--label", "--like", "ct", seg, "-O", "out", cwd=tmp_path)
    assert done.lines == ["out/case1.nii.gz"]
    np.testing.assert_array_equal(load(tmp_path / "out" / "case1.nii.gz"), NODE)
    done = succeed("lnq-crop", "--lungs", "seg", "ct/case1.nrrd", "-q", "-O", "o2", cwd=tmp_path)
    assert done.lines == ["o2/case1.nii.gz"]
    assert load(tmp_path / "o2" / "case1.nii.gz").shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/case1.seg.nrrd", "case1"),
        ("a/case1.SEG.NRRD", "case1"),
        ("case1.seg.nhdr", "case1"),
        ("case1_0000.nii.gz", "case1"),
        ("case1.seg.nii.gz", "case1.seg"),
        (".seg.nrrd", ".seg"),
        ("case1", "case1"),
        ("-", "stdin"),
    ],
)
def test_a_case_is_called_as_its_file(path, name):
    assert case_name(path) == name


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        (r"case_\d+", "kits/case_00003/imaging.nii.gz", "case_00003"),
        (r"case_(\d+)", "kits/case_00003/imaging.nii.gz", "00003"),
        (r"(\w+)-ct|(\w+)-seg", "d/p1-seg.nrrd", "p1"),
        (r"(\w+)/(?P<case>\w+)-", "d/p1-seg.nrrd", "p1"),
        (r"(\d*)x", "x.nii", "x"),  # the first group that matched something, else all of it
        (BY_FOLDER, "a/b/c.nii.gz", "b"),
        (r"case_(\d+)", "kits/other/imaging.nii.gz", ""),
        (r"\w+/\w+", "a/b.nii.gz", ""),  # a name has no slash
        (r"(?P<case>\d*)", "a.nii", ""),
    ],
)
def test_a_pattern_finds_the_name(pattern, path, name):
    assert case_name(path, re.compile(pattern)) == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("case00.seg", ["case00"]),
        ("case00", ["case00-ct", "case00_lesion"]),
        ("case1", []),  # another number is another case
        ("Case_07", ["case_7"]),
        ("scan7", []),
    ],
)
def test_names_that_are_near(name, near):
    others = ["case00", "case00-ct", "case00_lesion", "case10", "case11", "case_7"]
    assert near_names(name, [other for other in others if other != name]) == near


# A folder a case


def test_one_folder_a_case(folders):
    pattern = ("--case-pattern", r"(case_\d+)/(prediction|segmentation)")
    done = succeed("lnq-metrics", *predictions(folders), "--reference", ".", *pattern, cwd=folders)
    rows = [(row["case"], float(row["dice"])) for row in rows_of(done.out)]
    assert rows == [("case_00000", 0.5), ("case_00001", 1.0)]
    assert done.err == ""
    made = succeed("lnq-filter-diameter", *predictions(folders), *pattern, "-O", "out", cwd=folders)
    assert made.lines == ["out/case_00000.nii.gz", "out/case_00001.nii.gz"]


def test_a_folder_of_folders_is_what_the_pattern_fits(folders):
    """Sorted by their paths, as what options name."""
    pattern = ("--case-pattern", r"(case_\d+)/prediction")
    made = succeed("lnq-filter-diameter", ".", *pattern, "-O", "out", cwd=folders)
    assert made.lines == ["out/case_00000.nii.gz", "out/case_00001.nii.gz"]
    other = ("--case-pattern", "x/(y)")
    none = run("lnq-filter-diameter", "case_00000", *other, "--list", cwd=folders)
    assert none.status == 2
    assert "finds no name in case_00000" in none.err
    here = run("lnq-filter-diameter", ".", "--case-pattern", r"^\.$|x/(y)", "--list", cwd=folders)
    assert here.status == 1
    assert here.err.endswith(".: is a directory without an image whose path --case-pattern fits\n")


def test_folders_are_inputs_of_tables_and_pages_too(challenge):
    for kind in ("pred", "seg", "ct"):
        for case in ("p1", "p2"):
            save(challenge / kind / f"{case}_0000.nii.gz", NODE if kind != "ct" else CT, MATRIX)
    table = succeed("lnq-metrics", "pred", "--reference", "seg", cwd=challenge).out
    assert [(row["case"], row["dice"]) for row in rows_of(table)] == [("p1", "1"), ("p2", "1")]
    sets = succeed("lnq-stats", "pred", "--full", "pred", cwd=challenge).out
    assert [row["set"] for row in rows_of(sets)] == ["pred"]
    succeed("lnq-report", "pred", "--reference", "seg", "--ct", "ct", "-O", "page", cwd=challenge)
    assert (challenge / "page" / "index.html").is_file()


def test_inputs_of_one_name_are_told_how_to_be_named_by_their_folders(folders):
    for arguments in (["lnq-filter-diameter", "-O", "out"], ["lnq-metrics", "--reference", "."]):
        tool, *options = arguments
        result = run(tool, *predictions(folders), *options, cwd=folders)
        assert result.status == 2
        hint = f"; --case-pattern '{BY_FOLDER}' names them by their folders (see {tool} --help)\n"
        assert result.err.endswith(hint)
        again = [*predictions(folders), "--case-pattern", BY_FOLDER]
        if tool == "lnq-filter-diameter":
            assert succeed(tool, *again, *options, cwd=folders).lines == [
                "out/case_00000.nii.gz",
                "out/case_00001.nii.gz",
            ]
    stats = ["case_00000/segmentation.nii.gz", "case_00001/segmentation.nii.gz", "--name", "kits"]
    assert BY_FOLDER in run("lnq-stats", *stats, cwd=folders).err
    by_folder = [*stats, "--table", "cases", "--case-pattern", BY_FOLDER]
    rows = rows_of(succeed("lnq-stats", *by_folder, cwd=folders).out)
    assert [row["case"] for row in rows] == ["case_00000", "case_00001"]


def test_a_set_of_folders_holds_what_the_pattern_fits(folders):
    arguments = ["--set", "kits=.", "--case-pattern", r"(case_\d+)/segmentation"]
    cases = succeed("lnq-stats", *arguments, "--table", "cases", cwd=folders)
    assert [row["case"] for row in rows_of(cases.out)] == ["case_00000", "case_00001"]
    arguments[-1] = r"(case_\d+)/other"
    none = run("lnq-stats", *arguments, cwd=folders)
    assert none.status == 2
    assert "--set .: no image in it whose path --case-pattern fits" in none.err


def test_several_companions_of_a_case_are_named(folders):
    arguments = [*predictions(folders), "--reference", ".", "--case-pattern", r"case_\d+"]
    result = run("lnq-metrics", *arguments, cwd=folders)
    assert result.status == 1
    assert result.err.splitlines()[0] == (
        "lnq-metrics: case_00000/prediction.nii.gz: has more than one companion in --reference .: "
        "case_00000/imaging.nii.gz and case_00000/segmentation.nii.gz; --case-pattern must fit "
        "one of them alone"
    )


def test_outputs_in_the_same_folders_are_not_companions(folders):
    """They are there from the second run on, when -s finds the same companions again."""
    arguments = ["case_00000/imaging.nii.gz", "--like", ".", "--case-pattern"]
    arguments += [r"(case_\d+)(/imaging|/segmentation|\.nii)", "-O", "made"]
    arguments[2] = "case_00000"
    first = succeed("lnq-crop", *arguments, cwd=folders)
    arguments[2] = "."
    for more in (["-f"], ["-s"]):
        assert succeed("lnq-crop", *arguments, *more, cwd=folders).lines == first.lines


def test_the_same_shards_with_a_pattern(folders):
    arguments = [*reversed(predictions(folders)), "--case-pattern", r"case_\d+", "-O", "out"]
    for part in (0, 1):
        made = succeed("lnq-filter-diameter", *arguments, "--shard", f"{part}/2", cwd=folders)
        assert made.lines == [f"out/case_0000{part}.nii.gz"]


def test_links_to_folders_are_followed_and_hidden_ones_are_not(folders):
    (folders / "data").mkdir()
    (folders / "case_00000").rename(folders / "store")
    (folders / "data" / "case_00000").symlink_to(folders / "store")
    (folders / "data" / "case_00000" / "again").symlink_to(folders / "data")
    shutil.copytree(folders / "store", folders / "data" / ".trash" / "case_00000", symlinks=True)
    pattern = ("--case-pattern", r"(case_\d+)/(segmentation|[^/]+$)")
    (folders / "store" / "imaging.nii.gz").unlink()
    inputs = ["data/case_00000/prediction.nii.gz", "--reference", "data"]
    (row,) = rows_of(succeed("lnq-metrics", *inputs, *pattern, cwd=folders).out)
    assert (row["case"], row["dice"]) == ("case_00000", "0.5")


# All in one folder


def test_kinds_of_a_case_side_by_side(challenge):
    pattern = ("--case-pattern", "([^/]+)-(pred|seg)")
    arguments = ["p1-pred.nii.gz", "p2-pred.nii.gz", "--reference", ".", *pattern]
    rows = rows_of(succeed("lnq-metrics", *arguments, cwd=challenge).out)
    assert [(row["case"], row["dice"]) for row in rows] == [("p1", "0.5"), ("p2", "0.5")]


def test_without_a_pattern_the_input_is_not_its_reference(challenge):
    result = run("lnq-metrics", "p1-pred.nii.gz", "--reference", ".", "-q", cwd=challenge)
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-1] == (
        "lnq-metrics: p1-pred.nii.gz: has no companion named p1-pred in --reference .: the only "
        "image of that name there is the input itself (did you mean p1-seg? --case-pattern says "
        "what of a path is the name)"
    )


def test_the_page_and_the_figure_go_by_the_pattern(challenge):
    pytest.importorskip("skimage")
    for kind in ("ct", "seg"):
        (challenge / kind).mkdir()
        for path in sorted(challenge.glob(f"*-{kind}.nii.gz")):
            path.rename(challenge / kind / path.name)
    pattern = ("--case-pattern", "([^/]+)-(pred|seg|ct)")
    inputs = ["p1-pred.nii.gz", "p2-pred.nii.gz", "--reference", "seg", *pattern]
    table = succeed("lnq-metrics", *inputs, cwd=challenge).out
    (challenge / "m.tsv").write_text(table)
    succeed("lnq-report", *inputs, "--ct", "ct", "-O", "page", cwd=challenge)
    assert (challenge / "page" / "index.html").is_file()
    (challenge / "pred").mkdir()
    for path in challenge.glob("*-pred.nii.gz"):
        path.rename(challenge / "pred" / path.name)
    places = ["--ct", "ct", "--prediction", "pred", "--reference", "seg"]
    drawn = succeed("lnq-plot", "cases", "m.tsv", *places, *pattern, "-o", "f.png", cwd=challenge)
    assert drawn.lines == ["f.png"]
    places[-1] = "pred"
    refused = run("lnq-plot", "cases", "m.tsv", *places, *pattern, "-o", "g.png", cwd=challenge)
    assert refused.status == 1
    assert "the only image of that name there is the input itself" in refused.err


def test_training_goes_by_the_pattern(challenge):
    from lnqtools.cli.train import find_cases
    from lnqtools.nnunet.dataset import InvalidCasesError

    pattern = re.compile("([^/]+)-(ct|seg)")
    listing = challenge / "pairs"
    listing.write_text(
        "".join(f"{challenge}/{c}-ct.nii.gz\n{challenge}/{c}-seg.nii.gz\n" for c in ("p1", "p2"))
    )
    cases = find_cases(None, None, str(listing), False, (), pattern)
    assert [(case.name, case.label.name) for case in cases] == [
        ("p1", "p1-seg.nii.gz"),
        ("p2", "p2-seg.nii.gz"),
    ]
    with pytest.raises(InvalidCasesError) as caught:
        find_cases(str(challenge), str(challenge), None, False)
    assert len(caught.value.problems) == 6
    assert {message for _, message in caught.value.problems} == {"its label is the image itself"}


# Mistakes


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("case_(", "'case_(' is not a regular expression: missing ), unterminated subpattern"),
        (r"case_\d+", r"--case-pattern case_\d+ finds no name in a/b.nii.gz (a name has no slash)"),
        (r"\w+/\w+", r"--case-pattern \w+/\w+ finds no name in a/b.nii.gz (a name has no slash)"),
        ("", "--case-pattern  finds no name in a/b.nii.gz"),
    ],
)
def test_patterns_that_name_nothing_are_told_before_any_work(pattern, message):
    arguments = ["a/b.nii.gz", "--case-pattern", pattern, "-O", "out"]
    assert message in usage_error("lnq-filter-diameter", *arguments)


def test_a_missing_companion_names_what_was_meant(tmp_path):
    for name in ("case00", "case10"):
        save(tmp_path / "ct" / f"{name}_full.nii.gz", CT, MATRIX)
    source = save(tmp_path / "case00.nii.gz", NODE, MATRIX)
    result = run("lnq-crop", "--label", source, "--like", "ct", "-O", "out", cwd=tmp_path)
    assert result.status == 1
    assert result.err == (
        f"lnq-crop: {source}: has no companion named case00 in --like ct (did you mean "
        "case00_full? --case-pattern says what of a path is the name)\n"
    )


def test_an_accent_may_be_one_letter_or_two(tmp_path):
    one, two = (f"{normalize(form, 'Jérôme')}.nii.gz" for form in ("NFC", "NFD"))
    assert one != two
    source = save(tmp_path / "pred" / one, BESIDE, MATRIX)
    save(tmp_path / "truth" / two, NODE, MATRIX)
    done = succeed("lnq-metrics", source, "--reference", tmp_path / "truth")
    assert done.err == ""
    (row,) = rows_of(done.out)
    assert (row["case"], row["dice"]) == (normalize("NFC", "Jérôme"), "0.5")
