"""lnq-stats: data sets and what is said of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.cohort import NAMES, make_cohort
from tests.cli.helpers import (
    QUIETLY_BY_SIGPIPE,
    TURNED,
    boxes,
    columns_of,
    end_without_reader,
    numbers,
    rows_of,
    usage_error,
)
from tests.conftest import load, run, save, shell, succeed

SETS = [
    *("set", "volumes", "components", "components_enlarged", "components_degenerate"),
    *("volumes_fully_labeled", "fully_labeled", "components_lost", "components_cut"),
]
VOXELS = [
    *("set", "volumes", "voxels_mean", "voxels_sd"),
    *("labeled_per_unlabeled_percent_mean", "labeled_per_unlabeled_percent_sd"),
    *("labeled_per_total_percent_mean", "labeled_per_total_percent_sd"),
    "volumes_without_unlabeled",
]
BINS = ["set", "bin", "from_mm", "to_mm", "components"]
CASES = [
    *("set", "case", "voxels", "voxels_foreground", "voxels_background", "voxels_unknown"),
    *("labeled_per_unlabeled_percent", "labeled_per_total_percent"),
    *("components", "components_enlarged", "components_degenerate", "fully_labeled"),
    *("components_lost", "components_cut", "voxels_lost", "volume_lost_ml"),
]

LOST = ["0", "0", "0", "0"]

SHAPE = (20, 20, 20)
LARGE = np.s_[1:10, 1:10, 1:10]
"""9 voxels of 1 mm: centers have a variance of 80/12 along an axis, the ellipsoid 11.5 mm."""
SMALL = np.s_[12:16, 12:16, 12:16]
"""4 voxels: 5 mm."""
FLAT = np.s_[18, 2:8, 2:8]


def label(*nodes: tuple[slice, ...], rest: int = 0) -> np.ndarray:
    """Return a label of nodes, of 1 mm a voxel."""
    return boxes(SHAPE, *nodes, rest=rest)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with full labels in 'full' and weak annotations in 'weak one'."""
    save(tmp_path / "full" / "a.nii.gz", label(LARGE, SMALL, FLAT))
    save(tmp_path / "full" / "b.nii.gz", label(SMALL))
    save(tmp_path / "weak one" / "a.nii.gz", label(LARGE))
    return tmp_path


def cells(out: str) -> list[list[str]]:
    """Return the cells of a TSV table, without the names."""
    return [line.split("\t") for line in out.splitlines()[1:]]


# The tables


def test_nodes_of_each_set_by_hand(place):
    result = succeed("lnq-stats", "--set", "LNQ weak=weak one", "--set", "CTLN=full", cwd=place)
    assert columns_of(result.out) == SETS
    assert cells(result.out) == [
        ["LNQ weak", "1", "1", "1", "0", "1", "1", "0", "0"],
        ["CTLN", "2", "4", "1", "1", "2", "1", "0", "0"],
    ]


def test_a_weak_set_is_not_fully_labeled(place):
    arguments = ["--set", "LNQ=weak one", "--set", "CTLN=full", "--weak", "LNQ"]
    weak, full = rows_of(succeed("lnq-stats", *arguments, cwd=place).out)
    assert [weak[name] for name in SETS[:-2]] == ["LNQ", "1", "1", "1", "0", "0", "0"]
    assert full["fully_labeled"] == "1"


def test_voxels_of_each_step_by_hand(place):
    """Of 8000 voxels 729 are drawn; then 4000 are background as well, some of them drawn."""
    step = label(LARGE, rest=2)
    step[10:] = 0
    save(place / "labels" / "a.nii.gz", step)
    arguments = ["--set", "+ TS PL=labels", "weak one/a.nii.gz", "--weak", "weak one"]
    result = succeed("lnq-stats", "--table", "voxels", *arguments, cwd=place)
    assert columns_of(result.out) == VOXELS
    after, before = rows_of(result.out)
    assert [before["set"], after["set"]] == ["weak one", "+ TS PL"]
    assert numbers(before, *VOXELS[1:3], VOXELS[-1]) == [1, 8000, 0]
    means = [name for name in VOXELS if name.endswith("percent_mean")]
    assert numbers(before, *means) == pytest.approx([100 * 729 / 7271, 100 * 729 / 8000])
    assert numbers(after, *means) == pytest.approx([100 * 4729 / 3271, 100 * 4729 / 8000])
    assert {before[name] for name in VOXELS if name.endswith("_sd")} == {""}


def test_standard_deviations_are_those_of_a_sample(place):
    save(place / "weak one" / "b.nii.gz", label()[:10])
    arguments = ["--set", "w=weak one", "--weak", "w", "--table", "voxels", "--format", "jsonl"]
    (row,) = rows_of(succeed("lnq-stats", *arguments, cwd=place).out, "jsonl")
    assert row["voxels_mean"] == 6000
    assert row["voxels_sd"] == pytest.approx(np.std([8000, 4000], ddof=1))
    ratios = [100 * 729 / 8000, 0]
    assert row["labeled_per_total_percent_sd"] == pytest.approx(np.std(ratios, ddof=1))


def test_full_labels_have_no_ratio_to_unlabeled(place):
    arguments = ["--table", "voxels", "--format", "jsonl", "--set", "full=full"]
    (row,) = rows_of(succeed("lnq-stats", *arguments, cwd=place).out, "jsonl")
    assert row["labeled_per_unlabeled_percent_mean"] is None
    assert (row["labeled_per_total_percent_mean"], row["volumes_without_unlabeled"]) == (100, 2)


def test_histogram_by_hand(place):
    arguments = ["--table", "diameters", "--set", "F=full", "--set", "W=weak one"]
    result = succeed("lnq-stats", *arguments, cwd=place)
    assert columns_of(result.out) == BINS
    bins = [("0", "2.5"), ("2.5", "5"), ("5", "7.5"), ("7.5", "10"), ("10", "12.5")]
    assert cells(result.out) == [
        [name, *row]
        for name, counts in (("F", "00201"), ("W", "00001"))
        for row in [
            *([f"{a}-{b}mm", a, b, n] for (a, b), n in zip(bins, counts, strict=True)),
            ["degenerate", "", "", "1" if name == "F" else "0"],
        ]
    ]
    wide = succeed("lnq-stats", *arguments, "--bin-mm", 10, cwd=place)
    assert [row["components"] for row in rows_of(wide.out)] == list("211010")


def test_a_row_a_case_by_hand(place):
    step = label(SMALL, rest=2)
    step[:5] = 0
    save(place / "labels" / "c_0000.nii.gz", step)
    arguments = ["--set", "F=full", "--set", "L=labels", "--table", "cases"]
    result = succeed("lnq-stats", *arguments, cwd=place)
    assert columns_of(result.out) == CASES
    large_and_small = str(729 + 64 + 36)
    assert cells(result.out) == [
        [*["F", "a", "8000", large_and_small, "7171", "0", "", "100", "3", "1", "1", "1"], *LOST],
        [*["F", "b", "8000", "64", "7936", "0", "", "100", "1", "0", "0", "1"], *LOST],
        [
            *["L", "c", "8000", "64", "2000", "5936", "34.77088949", "25.8", "1", "0", "0", "0"],
            *LOST,
        ],
    ]


def test_nodes_that_a_crop_lost_are_counted(place):
    """A crop without the larger node, whose label goes on to training, and one that cuts it."""
    a, out = "full/a.nii.gz", place / "labels"
    for name, part in (("a", np.s_[11:20, 0:20, 0:20]), ("b", np.s_[3:20, 0:20, 0:20])):
        nib.save(nib.load(place / a).slicer[part[::-1]], place / f"{name}.nii.gz")
        crop = f"lnq-crop --label {a} --like {name}.nii.gz -q -o {name}-crop.nii.gz"
        make = f"lnq-weaklabel {name}-crop.nii.gz --strategy mask -O {out}"
        assert shell(f"{crop} && {make}", place).status == 0
    (row,) = rows_of(succeed("lnq-stats", "--set", "L=labels", cwd=place).out)
    assert numbers(row, "components", "components_lost", "components_cut") == [5, 1, 1]
    rows = rows_of(succeed("lnq-stats", "--set", "L=labels", "--table", "cases", cwd=place).out)
    lost = [numbers(row, *CASES[-4:]) for row in rows]
    assert lost == [[1, 0, 729, 0.729], [0, 1, 2 * 81, 0.162]]
    result = succeed("lnq-stats", "--set", "L=labels", "--format", "markdown", cwd=place)
    assert result.lines[0].endswith("| without diameter | lost LNs | cut LNs |")


def test_markdown_and_latex_are_for_people(place):
    arguments = ["--set", "weak_one=weak one", "--weak", "weak_one", "--set", "F=full"]
    table = succeed("lnq-stats", *arguments, "--format", "markdown", cwd=place)
    assert table.lines == [
        "| data set | volumes | labeled LNs | labeled enlarged LNs | fully labeled | "
        "without diameter |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| weak_one | 1 | 1 | 1 | no | 0 |",
        "| F | 2 | 4 | 1 | yes | 1 |",
    ]
    options = ["--table", "voxels", "--format", "latex", "-o", "table.tex"]
    succeed("lnq-stats", *arguments, *options, cwd=place)
    line = r"weak\_one & 0.0 $\pm$ -- & 10.03 $\pm$ -- & 9.11 $\pm$ -- & 1 \\"
    assert line in (place / "table.tex").read_text().splitlines()


# What counts as a node


def test_metric_connectivity_and_limit_are_what_is_asked_for(tmp_path):
    corner = label(np.s_[1:5, 1:5, 1:5], np.s_[5:9, 5:9, 5:9])
    save(tmp_path / "set" / "corner.nii.gz", corner)
    one = "set/corner.nii.gz"

    def counts(*options) -> list[str]:
        (row,) = rows_of(succeed("lnq-stats", one, *options, cwd=tmp_path).out)
        return [row["components"], row["components_enlarged"]]

    assert counts() == ["2", "0"]
    assert counts("--connectivity", 26) == ["1", "0"]
    assert counts("--enlarged-mm", 5) == ["2", "2"]
    assert counts("--enlarged-mm", 5.001) == ["2", "0"]
    assert counts("--enlarged-mm", 5.6, "--metric", "recist") == ["2", "2"]
    assert counts("--enlarged-mm", 4, "--metric", "feret-min", "--connectivity", 26) == ["1", "1"]


def test_axial_slices_are_those_of_the_patient(tmp_path):
    """The array's y runs to the feet; across it the node is 4 × 3 mm by 8 × 1.5 mm."""
    save(tmp_path / "turned.nii.gz", label(np.s_[2:6, 2:6, 2:10]), TURNED)
    options = ["--metric", "recist-caliper", "--table", "diameters", "--bin-mm", 0.5]
    rows = rows_of(succeed("lnq-stats", tmp_path / "turned.nii.gz", *options).out)
    assert [row["from_mm"] for row in rows if row["components"] == "1"] == ["12"]


def test_numbered_nodes_need_to_be_called_so(place):
    numbered = label(SMALL) * 3
    numbered[LARGE] = 2
    save(place / "my nodes" / "n.nii.gz", numbered)
    refused = run("lnq-stats", "my nodes/n.nii.gz", "full/a.nii.gz", cwd=place)
    assert refused.status == 1
    assert refused.err == (
        "lnq-stats: my nodes/n.nii.gz: holds the value 3; a label holds 0 background, 1 node, 2 "
        "unknown (masks of numbered nodes: --full 'my nodes' if all are drawn, --weak 'my nodes' "
        "if some are)\n"
    )
    assert [row["set"] for row in rows_of(refused.out)] == ["full"]
    for option, fully in (("--full", "1"), ("--weak", "0")):
        (row,) = rows_of(succeed("lnq-stats", "--set", "N=my nodes", option, "N", cwd=place).out)
        assert [row[name] for name in SETS[:-2]] == ["N", "1", "2", "1", "0", fully, fully]


def test_a_training_label_is_no_weak_mask(place):
    succeed("lnq-weaklabel", "full/a.nii.gz", "--strategy", "mask", "-O", "labels", cwd=place)
    result = run("lnq-stats", "--set", "L=labels", "--weak", "L", cwd=place)
    assert result.status == 1
    assert "labels/a.nii.gz: is a training label with unknown voxels" in result.err
    (row,) = rows_of(succeed("lnq-stats", "--set", "L=labels", cwd=place).out)
    assert [row["components"], row["fully_labeled"]] == ["3", "0"]


# Which set an image is in


def test_images_belong_to_the_set_of_their_directory(place):
    save(place / "c.nii.gz", label())
    images = ["./full/a.nii.gz", "weak one/a.nii.gz", "c.nii.gz", "full//b.nii.gz"]
    rows = rows_of(succeed("lnq-stats", *images, "--weak", "weak one/", cwd=place).out)
    assert [(row["set"], row["volumes"]) for row in rows] == [
        *(("full", "2"), ("weak one", "1"), (".", "1"))
    ]
    assert [row["fully_labeled"] for row in rows] == ["1", "0", "1"]


def test_a_name_gathers_images_from_anywhere(place):
    listing = shell("find . -name 'b.nii.gz' -o -path './weak*a.nii.gz'", cwd=place).out
    result = succeed("lnq-stats", "-T", "-", "--name", "all", cwd=place, stdin=listing.encode())
    assert [row[:3] for row in cells(result.out)] == [["all", "2", "2"]]


def test_a_set_names_images_that_are_given_too(place):
    images = ["full/a.nii.gz", place / "full" / "b.nii.gz", "weak one/a.nii.gz"]
    rows = rows_of(succeed("lnq-stats", *images, "--set", "CTLN=full/", cwd=place).out)
    assert [(row["set"], row["volumes"]) for row in rows] == [("CTLN", "2"), ("weak one", "1")]


def test_a_set_may_be_several_places_and_a_file(place):
    save(place / "more" / "x=y.nii.gz", label(SMALL))
    arguments = ["--set", "S=full", "--set", "S=more/x=y.nii.gz", "--set", "T=full/b.nii.gz"]
    rows = rows_of(succeed("lnq-stats", *arguments, cwd=place).out)
    assert [(row["set"], row["volumes"], row["components"]) for row in rows] == [
        *(("S", "3", "5"), ("T", "1", "1"))
    ]


def test_a_file_reached_twice_counts_once(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "linked").symlink_to("full")
    (place / "b.nii.gz").symlink_to("full/b.nii.gz")
    images = ["linked/a.nii.gz", "weak one/../full/b.nii.gz", "b.nii.gz"]
    sets = ["--set", "S=full", "--set", "S=linked", "--set", "S=full/../full/a.nii.gz"]
    result = succeed("lnq-stats", *images[:2], *sets, cwd=place)
    assert [row[:3] for row in cells(result.out)] == [["S", "2", "4"]]
    both = succeed("lnq-stats", "--set", "S=full", "--set", "T=linked", cwd=place)
    assert [row[:3] for row in cells(both.out)] == [["S", "2", "4"], ["T", "2", "4"]]
    (place / "full" / "c.nii.gz").symlink_to("b.nii.gz")
    for arguments in (["--set", "S=full"], ["full/b.nii.gz", "full/c.nii.gz", "--name", "S"]):
        sentence = usage_error("lnq-stats", *arguments)
        assert sentence.startswith("full/b.nii.gz and full/c.nii.gz are one file in the set S")


def test_one_image_may_be_weak_in_a_set_and_full_in_another(place):
    arguments = ["--set", "noisy=weak one", "--set", "mask=weak one", "--weak", "mask"]
    rows = rows_of(succeed("lnq-stats", *arguments, "--full", "noisy", cwd=place).out)
    assert [(row["set"], row["fully_labeled"]) for row in rows] == [("noisy", "1"), ("mask", "0")]


def test_standard_input_is_an_image(place):
    image = (place / "full" / "a.nii.gz").read_bytes()
    (row,) = rows_of(succeed("lnq-stats", "-", "--table", "cases", stdin=image).out)
    assert [row["set"], row["case"], row["components"]] == ["stdin", "stdin", "3"]


def test_hidden_files_and_others_are_no_labels(place):
    (place / "full" / ".a.nii.gz").write_bytes(b"")
    (place / "full" / "notes.txt").write_text("")
    (place / "full" / "folder").mkdir()
    (row,) = rows_of(succeed("lnq-stats", "--set", "F=full", cwd=place).out)
    assert row["volumes"] == "2"


def test_names_with_tabs_and_line_ends_stay_in_their_cell(tmp_path):
    make_cohort(tmp_path)
    arguments = ["--set", "a\tb\n=truth", "--table", "cases", "--format"]
    for form in ("tsv", "jsonl"):
        result = succeed("lnq-stats", *arguments, form, cwd=tmp_path)
        assert len(result.lines) == 3 + (form == "tsv")
    rows = rows_of(result.out, "jsonl")
    assert {row["set"] for row in rows} == {"a\tb\n"}
    assert sorted(row["case"] for row in rows) == sorted(NAMES)


# On phantoms


def test_phantoms_through_the_chain(phantoms, tmp_path):
    """The steps of Table 2, made by the suite's own tools, and recounted with numpy."""
    crop = f"lnq-crop {phantoms}/ct/*.nii.gz -O cropped >/dev/null"
    chain = (
        f"lnq-weaklabel {phantoms}/weak/*.nii.gz --strategy mask -O masked | "
        "lnq-crop -T - --label --like cropped -O masked-cropped | "
        f"lnq-pseudolabel -T - --anatomy {phantoms}/anatomy -O labels >/dev/null"
    )
    made = shell(f"{crop} && {chain}", cwd=tmp_path)
    assert made.status == 0, made.err
    sets = {"raw": phantoms / "weak", "masked": "masked", "crop": "masked-cropped", "TS": "labels"}
    arguments = [word for name, at in sets.items() for word in ("--set", f"{name}={at}")]
    options = ["--weak", "raw", "--table", "voxels", "-j", 2]
    rows = rows_of(succeed("lnq-stats", *arguments, *options, cwd=tmp_path).out)
    raw, masked, cropped, after = rows
    assert {**raw, "set": ""} == {**masked, "set": ""}
    for row, folder in ((cropped, "masked-cropped"), (after, "labels")):
        found = [load(path) for path in (tmp_path / folder).iterdir()]
        unknown = np.array([(array == 2).sum() for array in found])
        total = np.array([array.size for array in found])
        per_unlabeled, per_total = 100 * (total - unknown) / unknown, 100 - 100 * unknown / total
        expected = [
            statistic
            for values in (total, per_unlabeled, per_total)
            for statistic in (values.mean(), values.std(ddof=1))
        ]
        assert numbers(row, *VOXELS[2:-1]) == pytest.approx(expected, rel=1e-8)
    assert float(cropped["voxels_mean"]) < float(raw["voxels_mean"])
    assert 40 < float(after["labeled_per_total_percent_mean"]) < 70  # the paper: 55
    assert float(after["labeled_per_unlabeled_percent_mean"]) > 70


def test_phantoms_have_the_nodes_that_the_filter_lists(phantoms):
    images = sorted((phantoms / "truth").iterdir())
    listed = rows_of(succeed("lnq-filter-diameter", *images, "--list").out)
    diameters = np.array([float(row["diameter_ellipsoid_mm"]) for row in listed])
    (row,) = rows_of(succeed("lnq-stats", *images).out)
    assert numbers(row, *SETS[1:-2]) == [
        *(2, len(listed), (diameters >= 10).sum(), (diameters == 0).sum(), 2, 1)
    ]
    bins = rows_of(succeed("lnq-stats", *images, "--table", "diameters").out)[:-1]
    edges = [float(row["from_mm"]) for row in bins] + [float(bins[-1]["to_mm"])]
    expected = np.histogram(diameters[diameters > 0], edges)[0]
    assert [int(row["components"]) for row in bins] == expected.tolist()


def test_numbered_phantoms_are_the_truth(phantoms):
    """The same nodes, drawn as one mask and numbered."""
    arguments = ["--set", f"N={phantoms}/instances", "--set", f"T={phantoms}/truth", "--full", "N"]
    numbered, truth = rows_of(succeed("lnq-stats", *arguments).out)
    assert {**numbered, "set": ""} == {**truth, "set": ""}
    assert int(truth["components"]) > 4


# Trouble


def test_one_bad_input_does_not_stop_the_rest(place):
    (place / "full" / "bad.nii.gz").write_bytes(b"no image")
    images = ["nowhere.nii.gz", "full", "--set", "F=full", "--set", "W=weak one"]
    result = run("lnq-stats", *images, cwd=place)
    assert result.status == 1
    assert [line.rpartition(": ")[0] for line in result.err.splitlines()] == [
        "lnq-stats: nowhere.nii.gz: cannot be read",
        "lnq-stats: full/bad.nii.gz",
    ]
    assert [row[:3] for row in cells(result.out)] == [["F", "2", "4"], ["W", "1", "1"]]


def test_a_set_without_a_readable_label_has_no_row(place):
    (place / "bad").mkdir()
    (place / "bad" / "bad.nii.gz").write_bytes(b"no image")
    both = run("lnq-stats", "--set", "B=bad", "--set", "F=full", cwd=place)
    assert (both.status, [row[0] for row in cells(both.out)]) == (1, ["F"])
    for form in ("tsv", "markdown"):
        alone = run("lnq-stats", "--set", "B=bad", "--format", form, cwd=place)
        assert (alone.status, alone.out, alone.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("values", [np.array(-1, np.int16), np.array(0.5, np.float32)])
def test_what_is_no_label_is_refused(values, tmp_path):
    save(tmp_path / "odd.nii.gz", np.full(SHAPE, values))
    result = run("lnq-stats", tmp_path / "odd.nii.gz")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"lnq-stats: {tmp_path}/odd.nii.gz: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no input"),
        (["--set", "full"], "'full' is not NAME=DIR|FILE"),
        (["--set", "=full"], "'=full' is not NAME=DIR|FILE"),
        (["--set", "F="], "'F=' is not NAME=DIR|FILE"),
        (["--set", "F=nowhere"], "--set nowhere: no such file or directory"),
        (["--set", "F=empty"], "--set empty: no image in it (its folders are not searched)"),
        (["-T", "/dev/null"], "the list -T /dev/null is empty"),
        (["--set", "F=full", "--weak", "G"], "--weak G: no such set; there are: F"),
        (["full/a.nii.gz", "--full", "F"], "--full F: no such set; there are: full"),
        (["--set", "F=full", "--weak", "F", "--full", "F"], "F is named by --weak and by --full"),
        (["--set", "F=full", "--name", "G"], "--name G is for IMAGEs in no --set"),
        (
            ["full/a.nii.gz", "full/a.nii.gz"],
            "full/a.nii.gz and full/a.nii.gz are both named a in the set full",
        ),
        (
            ["--set", "F=full", "--set", "F=weak one"],
            "full/a.nii.gz and weak one/a.nii.gz are both named a in the set F",
        ),
        (
            ["--set", "F=full", "--table", "voxels", "--metric", "recist"],
            "--metric is for --table data-sets|diameters|cases",
        ),
        (["--set", "F=full", "--bin-mm", "5"], "--bin-mm is for --table diameters"),
        (
            ["--set", "F=full", "--table", "diameters", "--enlarged-mm", "5"],
            "--enlarged-mm is for --table data-sets|cases",
        ),
        (["--set", "F=full", "--enlarged-mm", "0"], "0.0 is not in the range x>0"),
        (["--set", "F=full", "--table", "diameters", "--bin-mm", "0"], "not in the range x>=0.01"),
        (["--set", "F=full", "--table", "sets"], "'sets' is not one of 'data-sets', 'voxels'"),
        (["--set", "F=full", "-o", "a.nii.gz"], "a.nii.gz: a table is named .tsv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_a_usage_error(arguments, sentence, place, monkeypatch):
    (place / "empty").mkdir()
    monkeypatch.chdir(place)
    assert sentence in usage_error("lnq-stats", *arguments)


def test_usage_errors_end_with_status_2(place):
    result = run("lnq-stats", "--set", "F=nowhere", "full/a.nii.gz", cwd=place)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "lnq-stats: --set nowhere: no such file or directory (see lnq-stats --help)\n"
    )


# The batch contract


def test_lists_with_nul_and_jobs_give_the_same_table(tmp_path):
    make_cohort(tmp_path)
    folders = ("truth", "label")
    paths = [tmp_path / folder / f"{name}.nii.gz" for folder in folders for name in NAMES]
    listing = b"".join(bytes(path) + b"\0" for path in paths)
    arguments = ["-0", "-T", "-", "--table", "cases"]
    one, two = (succeed("lnq-stats", *arguments, "-j", j, stdin=listing) for j in (1, 2))
    assert one == two
    rows = rows_of(one.out)
    assert [row["case"] for row in rows] == ["plain", "with space", "line\\nend"] * 2
    assert [row["set"] for row in rows] == [f"{tmp_path}/{f}" for f in folders for _ in NAMES]


def test_shards_share_the_cases_and_know_all_sets(place):
    arguments = ["--set", "W=weak one", "full/b.nii.gz", "full/a.nii.gz", "--weak", "W"]
    options = ["--table", "cases", "--weak", "full"]
    parts = [
        rows_of(succeed("lnq-stats", *arguments, *options, "--shard", f"{k}/3", cwd=place).out)
        for k in range(3)
    ]
    assert [[(row["set"], row["case"]) for row in part] for part in parts] == [
        *([("full", "a")], [("full", "b")], [("W", "a")])
    ]
    assert {row["fully_labeled"] for part in parts for row in part} == {"0"}


def test_a_table_that_exists_is_kept_unless_forced(place):
    (place / "table.tsv").write_text("precious")
    arguments = ["--set", "F=full", "-o", "table.tsv"]
    refused = run("lnq-stats", *arguments, cwd=place)
    assert (refused.status, (place / "table.tsv").read_text()) == (2, "precious")
    assert succeed("lnq-stats", *arguments, "-f", cwd=place).out == ""
    (row,) = rows_of((place / "table.tsv").read_text())
    assert row["components"] == "4"


def test_a_closed_pipe_ends_it_quietly(place):
    assert end_without_reader("lnq-stats", "--set", "F=full", cwd=place) == QUIETLY_BY_SIGPIPE
