"""lnq-report: the page's numbers, its folder, and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lnqtools.cli.report import _as_given as as_given
from tests.cli.helpers import rows_of, usage_error
from tests.conftest import BIN, affine, load, run, save, succeed
from tests.report.test_report import Elements
from tests.report_data import (
    FALSE,
    FOUND,
    HOSTILE,
    MATRIX,
    MISSED,
    SHAPE,
    make_cases,
    marks_of,
    view_of,
)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return make_cases(tmp_path)


def masks(cases: Path, kind: str = "pred") -> list[Path]:
    return sorted((cases / kind).iterdir())


def compare(cases: Path, *options) -> list:
    return [*masks(cases), "--ct", cases / "ct", "--reference", cases / "truth", *options]


def files_in(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def page_of(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def cells_of(report: Path) -> dict[str, dict[str, str]]:
    """Return case → column → the value of its cell, those of the columns a click away, too."""
    text = page_of(report)
    head = text[text.index('<table id="table">') :]
    columns = re.findall(r'data-column="(\w+)"', head)
    rows = re.findall(r'<tr data-name="(.*?)".*?</tr>', head)
    bodies = re.findall(r"<tr data-name=.*?</tr>", head)
    values = [re.findall(r'<t[hd][^>]* data-value="(.*?)"', body) for body in bodies]
    cells = {
        name: dict(zip(columns, line[1:-1], strict=True))
        for name, line in zip(rows, values, strict=True)
    }
    for column in hidden_columns(report):
        for name, (_, value) in zip(rows, column["cells"], strict=True):
            assert column["name"] not in cells[name]
            cells[name][column["name"]] = value
    return cells


def hidden_columns(report: Path) -> list[dict]:
    """Return what the script of the columns that are a click away says."""
    text = (report / "columns.js").read_text(encoding="ascii")
    called = re.fullmatch(r"lnqColumns\((\[.*\])\);\n", text)
    return json.loads(called[1])


# Numbers


def test_the_numbers_are_those_of_lnq_metrics(cases):
    report = cases / "report"
    done = succeed("lnq-report", *compare(cases, "-O", report))
    assert done.lines == [f"{report}/index.html"]
    assert done.err == ""
    pair = [*masks(cases), "--reference", cases / "truth"]
    table = succeed("lnq-metrics", *pair).out
    assert (report / "metrics.tsv").read_text() == table
    lesions = (report / "lesions.tsv").read_text()
    assert lesions == succeed("lnq-metrics", *pair, "--lesions", "--ct", cases / "ct").out
    for row in rows_of(lesions):
        mask = load(
            cases / ("pred" if row["side"] == "prediction" else "truth") / f"{row['case']}.nii.gz"
        )
        (numbers, _) = ndimage.label(mask)
        ct = load(cases / "ct" / f"{row['case']}.nii.gz")
        assert float(row["hu_mean"]) == pytest.approx(ct[numbers == int(row["id"])].mean())
    shown = cells_of(report)
    for row in rows_of(table):
        seen = shown[row.pop("case")]
        assert row.pop("edge") == "surface"
        seen["status"] = seen["status"].replace(" ", "_")
        assert {name: seen[name] for name in row} == row
    found = rows_of(succeed("lnq-metrics", *pair, "--detection").out)
    for row in found:
        if row["stratum"] == "all":
            seen = shown[row["case"]]
            counts = [seen[f"lesions_{name}"] for name in ("found", "missed", "false")]
            assert counts == [row["tp"], row["fn"], row["fp"]]
            assert counts == {"a": ["1", "1", "1"], "b": ["0", "2", "2"]}[row["case"]]


def test_the_summary_is_that_of_lnq_metrics_with_the_intervals_of_lnq_compare(cases):
    report = cases / "report"
    succeed("lnq-report", *compare(cases, "--ci", 0.9, "--seed", 3, "-O", report))
    pair = [*masks(cases), "--reference", cases / "truth"]
    summary = rows_of(succeed("lnq-metrics", *pair, "--summary").out)
    text = page_of(report).partition("Metrics over the cases")[2].partition("</table>")[0]
    lines = re.findall(r"<tr>(<th scope=\"row\".*?)</tr>", text)
    seen = [re.findall(r'data-value="(.*?)"', line) for line in lines]
    names = ("metric", "mean", "sd", "median", "min", "max", "n", "n_undefined", "mean_filled")
    assert [[*line[:2], *line[3:]] for line in seen] == [
        [row[name] for name in names] for row in summary
    ]
    arguments = (f"x={report / 'metrics.tsv'}", "--metric", "dice", "--ci", 0.9, "--seed", 3)
    (compared,) = rows_of(succeed("lnq-compare", *arguments).out)
    assert seen[0][2] == f"{compared['ci_low']} {compared['ci_high']}"
    assert compared["ci_low"] != ""
    assert "90 % interval" in text


@pytest.mark.parametrize("preset", ["lnq2023", "medpy", "monai"])
def test_a_preset_defines_the_metrics(preset, cases):
    succeed("lnq-report", *compare(cases, "--preset", preset, "-O", cases / "r"))
    pair = [*masks(cases), "--reference", cases / "truth", "--preset", preset]
    assert (cases / "r" / "metrics.tsv").read_text() == succeed("lnq-metrics", *pair).out
    assert f"--preset {preset} of lnq-metrics" in page_of(cases / "r")


def test_labels_are_described_as_lnq_stats_does(cases):
    report = cases / "report"
    labels = masks(cases, "label")
    succeed("lnq-report", *labels, "--labels", "--ct", cases / "ct", "-O", report)
    expected = rows_of(succeed("lnq-stats", *labels, "--table", "cases").out)
    for row in expected:
        del row["set"]
    assert rows_of((report / "cases.tsv").read_text()) == expected
    shown = cells_of(report)
    assert {n: shown["a"][n] for n in expected[0] if n != "case"} == {
        n: v for n, v in expected[0].items() if n != "case"
    }
    view = view_of(report)
    marks = marks_of(view)
    label = load(labels[0])[::-1]
    np.testing.assert_array_equal(marks[..., 0], label)
    np.testing.assert_array_equal(marks[..., 1], label == 1)


def test_nodes_that_a_crop_lost_are_on_the_page(cases):
    """The larger node of one label lies outside the crop; of the other nothing is lost."""
    one, two = masks(cases, "truth")
    whole = np.zeros(SHAPE, np.uint8)
    whole[0:2, 0:6, 0:6] = whole[-4:, 2, 2] = 1
    save(cases / "drawn" / one.name, whole, MATRIX)
    part = nib.load(one).slicer[:, :, 3:]
    nib.save(part, cases / "part.nii.gz")
    crop = ["--like", cases / "part.nii.gz", "-q", "-O", cases / "cropped"]
    succeed("lnq-crop", "--label", cases / "drawn" / one.name, two, *crop)
    labels = masks(cases, "cropped")
    succeed("lnq-report", *labels, "--labels", "--ct", cases / "ct", "-O", cases / "r")
    shown = cells_of(cases / "r")
    name, other = (path.name.removesuffix(".nii.gz") for path in labels)
    columns = ("components_lost", "components_cut", "voxels_lost")
    assert [shown[name][column] for column in columns] == ["1", "0", "72"]
    assert [shown[other][column] for column in columns] == ["0", "0", "0"]
    rows = [row for row in Elements(page_of(cases / "r")).named("tr") if "data-name" in row]
    assert ["lost" in row["data-flags"].split() for row in rows] == [True, False]
    page = page_of(cases / "r")
    tile = "<dt>lost nodes</dt><dd>1<small>drawn outside the labels; 0 more are cut</small></dd>"
    assert tile in page
    assert page.count("<strong>lnq-crop") == 1  # what was lost does not tell how images are made
    (row, _) = rows_of((cases / "r" / "cases.tsv").read_text())
    assert row["components_lost"] == "1"


def test_predictions_without_references_are_titled_as_such(cases):
    succeed("lnq-report", *masks(cases), "--ct", cases / "ct", "-O", cases / "r")
    text = page_of(cases / "r")
    assert "<h1>Predicted lymph nodes, without references</h1>" in text
    assert "2 cases: predictions, without references, in the CTs they belong to." in text
    assert "labeled" not in text
    for row in rows_of((cases / "r" / "cases.tsv").read_text()):
        mask = load(cases / "pred" / f"{row['case']}.nii.gz")
        listed = ("lnq-filter-diameter", "--list", cases / "pred" / f"{row['case']}.nii.gz")
        sizes = [float(r["diameter_ellipsoid_mm"]) for r in rows_of(succeed(*listed).out)]
        assert int(row["components"]) == len(sizes) == 2
        assert int(row["components_enlarged"]) == sum(size >= 10 for size in sizes)
        assert float(row["volume_prediction_ml"]) == pytest.approx(mask.sum() * 2.5 / 1000)
    marks = marks_of(view_of(cases / "r"))
    assert not marks[..., 0].any()
    np.testing.assert_array_equal(marks[..., 1] != 0, load(masks(cases)[0])[::-1] != 0)


def test_several_models_are_compared_on_one_page(cases):
    """The second model's masks are the references: each has its own numbers on its own rows."""
    others = ("--name", "net", "--also", f"drawn & done={cases / 'truth'}")
    succeed("lnq-report", *compare(cases, *others, "-O", cases / "r"))
    succeed("lnq-report", *compare(cases, "-O", cases / "alone"))
    rows = rows_of((cases / "r" / "metrics.tsv").read_text())
    assert [(row["case"], row["model"]) for row in rows] == [
        *(("a", "net"), ("a", "drawn & done"), ("b", "net"), ("b", "drawn & done")),
    ]
    alone = rows_of((cases / "alone" / "metrics.tsv").read_text())
    own = [{k: v for k, v in row.items() if k != "model"} for row in rows if row["model"] == "net"]
    assert own == alone
    assert [row["dice"] for row in rows if row["model"] != "net"] == ["1", "1"]
    page = Elements(page_of(cases / "r"))
    listed = [row for row in page.named("tr") if "data-name" in row]
    assert [(row["data-name"], row["data-model"], row["data-number"]) for row in listed] == [
        *(("b", "net", "0002"), ("a", "net", "0001")),
        *(("a", "drawn & done", "0001-m1"), ("b", "drawn & done", "0002-m1")),
    ]
    assert view_of(cases / "r", "0001-m1")["strips"] == view_of(cases / "r")["strips"]
    table = (
        page_of(cases / "r")
        .partition("<h3>Models: means with 95 % intervals")[2]
        .partition("</table>")[0]
    )
    assert re.findall(r'<th scope="row" class="name" data-value="(.*?)"', table) == [
        *("net", "drawn &amp; done"),
    ]
    means = re.findall(r'data-value="(.*?)"', table)
    expected = np.mean([float(row["dice"]) for row in alone])
    assert float(means[2]) == pytest.approx(expected, abs=1e-9)
    assert "prediction of drawn" in page_of(cases / "r").lower()


def test_a_case_that_another_model_lacks_is_shown_without_it(cases):
    shutil.copytree(cases / "truth", cases / "other")
    (cases / "other" / "a.nii.gz").unlink()
    others = ("--also", f"B={cases / 'other'}", "--also", f"C={cases / 'truth'}")
    result = succeed("lnq-report", *compare(cases, *others, "-O", cases / "r"))
    said = f"--also {cases}/other has no prediction of it: it is shown without B"
    assert result.err == f"lnq-report: {masks(cases)[0]}: warning: {said}\n"
    assert said in page_of(cases / "r")
    rows = rows_of((cases / "r" / "metrics.tsv").read_text())
    shown = [("a", "IMAGE"), ("a", "C"), ("b", "IMAGE"), ("b", "B"), ("b", "C")]
    assert [(row["case"], row["model"]) for row in rows] == shown
    assert [row["dice"] for row in rows if row["model"] in "BC"] == ["1"] * 3
    listed = [row for row in Elements(page_of(cases / "r")).named("tr") if "data-name" in row]
    assert {(row["data-name"], row["data-model"]) for row in listed} == {*shown}
    assert view_of(cases / "r", "0001-m1")["strips"] == view_of(cases / "r")["strips"]
    (cases / "other" / "b.nii.gz").unlink()
    result = run("lnq-report", *compare(cases, *others, "-O", cases / "none"))
    assert result.status == 1
    assert f"--also B={cases}/other has no prediction of any case" in result.err
    assert not (cases / "none").exists()
    result = run("lnq-report", *compare(cases, "-q", "--also", f"B={cases / 'pred'}", "-O", "x"))
    assert "the input itself" in result.err


FOLDS = (
    "case\tcohort\tfold\tstatus\tannotated_percent\tdice_annotated\tprecision_annotated\t"
    "recall_annotated",
    "a\tweak\t0\tok\t50\t0.5\t0.25\t1",
    "b\tweak\t0\tok\t50\t0.75\t0.75\t0.75",
    "c\tweak\t1\tboth_empty\t50\t\t\t",
    "d\tweak\t1\tok\t50\t0.25\t0.125\t1",
)


def test_the_folds_of_a_model_are_shown(cases):
    (cases / "model").mkdir()
    (cases / "model" / "lnq-train.json").write_text(json.dumps(MODEL))
    (cases / "model" / "cross-validation.tsv").write_text("\n".join(FOLDS) + "\n")
    succeed("lnq-report", *compare(cases, "-m", cases / "model", "-O", cases / "r"))
    text = page_of(cases / "r").partition("cross-validation, over annotated voxels")[2]
    rows = re.findall(r"<tr>(<th scope=\"row\".*?)</tr>", text.partition("</table>")[0])
    assert [re.findall(r">([^<>]+)<", row) for row in rows] == [
        ["0", "2", "0.625", "0.500", "0.875", "0"],
        ["1", "2", "0.250", "0.125", "1.000", "1"],
        ["all", "4", "0.500", "0.375", "0.917", "1"],
    ]
    for damaged, message in (
        (FOLDS[0].replace("fold", "f"), "lacks the column fold"),
        (FOLDS[0] + "\n" + FOLDS[1].replace("0.5", "x"), "dice_annotated is 'x', not a number"),
    ):
        (cases / "model" / "cross-validation.tsv").write_text(f"{damaged}\n{FOLDS[2]}\n")
        result = run("lnq-report", *compare(cases, "-m", cases / "model", "-O", cases / "s"))
        assert result.status == 1
        assert f"cross-validation.tsv: {message}" in result.err


# Slices


def test_marks_are_the_lesions_of_both_masks(cases):
    succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    view = view_of(cases / "r")
    assert view["size"] == list(SHAPE)
    assert view["stored"] == [[SHAPE[0] - 1, -1], [0, 1], [0, 1]]
    marks = marks_of(view)
    reference, prediction = np.zeros(SHAPE, int), np.zeros(SHAPE, int)
    reference[FOUND], reference[MISSED] = 1, 2
    prediction[load(masks(cases)[0]) != 0], prediction[FALSE] = 1, 2
    np.testing.assert_array_equal(marks[..., 0], reference[::-1])
    np.testing.assert_array_equal(marks[..., 1], prediction[::-1])
    rows = rows_of((cases / "r" / "lesions.tsv").read_text())
    named = [f"{row['side']} {row['id']}" for row in rows if row["case"] == "a"]
    assert [line["cells"][0][0] for line in view["lesions"]] == named
    assert len(named) == 4


def test_a_case_looks_the_same_however_it_is_stored(cases):
    """The axes of every image turned, flipped and reordered: pictures and marks do not change."""
    succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    other = cases / "other"
    for kind in ("ct", "pred", "truth"):
        for path in masks(cases, kind):
            image = nib.load(path)
            turned = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
            (other / kind).mkdir(parents=True, exist_ok=True)
            nib.save(turned, other / kind / path.name)
    succeed("lnq-report", *compare(other, "-O", other / "r"))
    for number in ("0001", "0002"):
        one, two = view_of(cases / "r", number), view_of(other / "r", number)
        for key in ("size", "spacing", "slicesEach", "rowsEach", "strips"):
            assert one[key] == pytest.approx(two[key]) if key == "spacing" else one[key] == two[key]
        drawn = marks_of(one) != 0
        np.testing.assert_array_equal(drawn, marks_of(two) != 0)
        assert drawn.any()
        for name in one["strips"]:
            assert (cases / "r" / name).read_bytes() == (other / "r" / name).read_bytes()


def test_a_ct_may_be_larger_than_the_masks(cases):
    """As that of a training label, which was cropped to the lungs."""
    whole = np.pad(load(cases / "ct" / "a.nii.gz"), 3, constant_values=-1000)
    moved = MATRIX.copy()
    moved[:3, 3] = nib.affines.apply_affine(MATRIX, [-3, -3, -3])
    save(cases / "whole" / "a.nii.gz", whole, moved)
    one = masks(cases)[0]
    shared = ("--reference", cases / "truth", "-O")
    succeed("lnq-report", one, "--ct", cases / "ct", *shared, cases / "r")
    succeed("lnq-report", one, "--ct", cases / "whole", *shared, cases / "s")
    for name in view_of(cases / "r")["strips"]:
        assert (cases / "r" / name).read_bytes() == (cases / "s" / name).read_bytes()


def test_a_full_chest_is_cropped_unless_asked_otherwise(phantoms, tmp_path):
    name = sorted((phantoms / "truth").iterdir())[0]
    same = shutil.copy(name, tmp_path)
    shared = (same, "--ct", phantoms / "ct", "--reference", phantoms / "truth", "-O")
    succeed("lnq-report", *shared, tmp_path / "r")
    succeed("lnq-report", "--whole", *shared, tmp_path / "w")
    shape = load(name).shape
    cropped, whole = view_of(tmp_path / "r"), view_of(tmp_path / "w")
    assert whole["size"] == list(shape)
    assert np.prod(cropped["size"]) < 0.7 * np.prod(shape)
    assert (
        (marks_of(cropped) != 0).sum()
        == (marks_of(whole) != 0).sum()
        == 2 * (load(name) != 0).sum()
    )
    cells = cells_of(tmp_path / "r")[name.name.removesuffix(".nii.gz")]
    assert cells["dice"] == "1"


# Names and text


def test_hostile_names_are_text(tmp_path):
    names = ("plain", HOSTILE, "line\nend", "tab\tback\\slash")
    cases = make_cases(tmp_path, names)
    succeed("lnq-report", *compare(cases, "--title", "</title><b>", "-O", tmp_path / "r"))
    elements = Elements(page_of(tmp_path / "r"))
    rows = [row["data-name"] for row in elements.named("tr") if "data-name" in row]
    assert sorted(rows) == sorted(["plain", HOSTILE, "line\\nend", "tab\\tback\\slash"])
    assert len(elements.named("script")) == 1
    assert elements.named("b") == []
    assert sorted(p.name for p in (tmp_path / "r" / "cases").glob("*.js")) == [
        *(f"000{k}.js" for k in (1, 2, 3, 4)),
    ]


def test_a_name_that_is_not_text_does_no_harm(tmp_path):
    cases = make_cases(tmp_path, ("odd\udcff",))
    succeed("lnq-report", *compare(cases, "-O", tmp_path / "r"))
    assert list(cells_of(tmp_path / "r")) == ["odd\\udcff"]
    assert (tmp_path / "r" / "metrics.tsv").read_bytes().split(b"\n")[1].startswith(b"odd\xff\t")


# What goes wrong


def test_one_bad_case_is_listed_and_does_not_stop_the_rest(cases):
    (cases / "truth" / "a.nii.gz").unlink()
    result = run("lnq-report", *compare(cases, "-O", cases / "r"))
    assert result.status == 1
    assert result.lines == [f"{cases}/r/index.html"]
    error = f"has no companion named a in --reference {cases}/truth"
    assert result.err == f"lnq-report: {cases}/pred/a.nii.gz: {error}\n"
    rows = [row for row in Elements(page_of(cases / "r")).named("tr") if "data-name" in row]
    assert [(row["data-name"], "failed" in row["data-flags"]) for row in rows] == [
        ("a", True),
        ("b", False),
    ]
    assert error in page_of(cases / "r")
    assert len(rows_of((cases / "r" / "metrics.tsv").read_text())) == 1
    assert not (cases / "r" / "cases" / "0001.js").exists()
    assert (cases / "r" / "cases" / "0002.js").exists()


def test_without_any_case_there_is_no_report(cases):
    result = run("lnq-report", *masks(cases), "--ct", "none", "--labels", "-O", cases / "r")
    assert result.status == 1
    assert result.err.splitlines()[-1] == "lnq-report: no case can be shown: there is no report"
    assert sorted(path.name for path in cases.iterdir()) == ["ct", "label", "pred", "truth"]


def test_empty_masks_are_marked(cases):
    for name, kinds in (("a", ["pred"]), ("b", ["pred", "truth"])):
        for kind in kinds:
            save(cases / kind / f"{name}.nii.gz", np.zeros(SHAPE, np.uint8), MATRIX)
    succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    rows = [row for row in Elements(page_of(cases / "r")).named("tr") if "data-name" in row]
    assert [row["data-flags"] for row in rows] == ["empty missed", "empty"]
    shown = cells_of(cases / "r")
    assert [shown[name]["status"] for name in "ab"] == ["empty prediction", "both empty"]
    assert [shown[name]["assd_mm"] for name in "ab"] == ["", ""]


def test_references_without_a_prediction_are_named(cases):
    masks(cases)[1].unlink()
    result = succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    notice = f"--reference {cases}/truth has 1 without a prediction: b"
    assert result.err == f"lnq-report: warning: {notice}\n"
    assert notice in page_of(cases / "r")


def test_warnings_are_in_the_table(cases):
    near = MATRIX.copy()
    near[0, 3] += 0.2
    save(cases / "pred" / "a.nii.gz", load(masks(cases)[0]), near)
    result = succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    warning = "is compared voxel by voxel, though not quite on the grid of --reference"
    assert warning in result.err
    assert warning in page_of(cases / "r")
    rows = [row for row in Elements(page_of(cases / "r")).named("tr") if "data-name" in row]
    flags = {row["data-name"]: row["data-flags"].split()[0] for row in rows}
    assert flags == {"a": "warning", "b": "missed"}


def test_a_label_holds_no_more_than_two(cases):
    save(cases / "label" / "a.nii.gz", np.full(SHAPE, 3, np.uint8), MATRIX)
    arguments = [*masks(cases, "label"), "--labels", "--ct", cases / "ct", "-O", cases / "r"]
    result = run("lnq-report", *arguments)
    assert result.status == 1
    assert "holds the value 3" in result.err
    assert [cells["status"] for cells in cells_of(cases / "r").values()] == ["failed", "ok"]


def test_a_ct_elsewhere_is_an_error(cases):
    save(cases / "ct" / "a.nii.gz", load(cases / "ct" / "a.nii.gz"), affine((1, 1, 3)))
    result = run("lnq-report", *compare(cases, "-O", cases / "r"))
    assert result.status == 1
    assert f"pred/a.nii.gz: --ct {cases}/ct/a.nii.gz: " in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labels", "--reference", "x"), "--labels and --reference exclude each other"),
        (("--labels", "--also", "B=b"), "--also is for predictions, not with --labels"),
        (("--name", "A"), "--name is for --also"),
        (("--also", "B=b", "--also", "B=c"), "two models are named B"),
        (("--also", "IMAGE=b"), "two models are named IMAGE: --name names that of the IMAGEs"),
        (("--also", "b"), "NAME=DIR"),
        (("--hit", "voxel"), "--hit is for --reference"),
        (("--labels", "--edge", "open"), "--edge is for --reference"),
        (("--labels", "--preset", "medpy"), "--preset is for --reference"),
        (("--reference", "x", "--enlarged-mm", "9"), "--enlarged-mm and --reference exclude"),
        (("--reference", "x", "--preset", "monai", "--edge", "open"), "exclude each other"),
        (
            ("--reference", "x", "--preset", "medpy", "--tolerance", "3"),
            "--tolerance and --preset medpy exc",
        ),
        (("--labels", "--window", "40"), "is not two numbers"),
        (("--labels", "--window", "240,-160"), "must be below the second"),
        (("--labels", "--window", "a,b"), "is not a valid float"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, tmp_path):
    error = usage_error("lnq-report", "x.nii.gz", "--ct", "ct", "-O", tmp_path / "r", *options)
    assert message in error


# The folder


def test_the_same_inputs_make_the_same_bytes_for_any_number_of_jobs(cases):
    for name, jobs in (("one", 1), ("two", 2)):
        succeed("lnq-report", *compare(cases, "-j", jobs, "-O", cases / name))
    one, two = files_in(cases / "one"), files_in(cases / "two")
    assert one == two
    assert sorted(one) == [
        *("cases/0001-0.jpg", "cases/0001.jpg", "cases/0001.js"),
        *("cases/0002-0.jpg", "cases/0002.jpg", "cases/0002.js", "columns.js"),
        *("index.html", "lesions.tsv", "lnq-report.json", "metrics.tsv"),
        *("report.css", "report.js"),
    ]
    assert json.loads(one["lnq-report.json"])["files"] == sorted(one)


def test_a_report_is_replaced_only_if_asked(cases):
    arguments = compare(cases, "-O", cases / "r")
    succeed("lnq-report", *arguments)
    before = files_in(cases / "r")
    result = run("lnq-report", *arguments)
    assert (result.status, result.out) == (2, "")
    assert f"{cases}/r exists; -f replaces a report" in result.err
    assert files_in(cases / "r") == before
    masks(cases)[1].unlink()
    succeed("lnq-report", *compare(cases, "-f", "-q", "-O", cases / "r"))
    assert sorted(files_in(cases / "r")) == sorted(
        set(before) - {"cases/0002-0.jpg", "cases/0002.jpg", "cases/0002.js"}
    )


def test_a_folder_of_somebody_else_is_left_alone(cases):
    before = files_in(cases / "pred")
    result = run("lnq-report", *compare(cases, "-f", "-O", cases / "pred"))
    assert result.status == 1
    assert "holds files that lnq-report did not make, as a.nii.gz" in result.err
    assert files_in(cases / "pred") == before
    result = run("lnq-report", *compare(cases, "-f", "-O", masks(cases)[0]))
    assert result.status == 1
    assert "is not a folder" in result.err


def test_an_empty_folder_is_filled(cases):
    (cases / "r").mkdir()
    succeed("lnq-report", *compare(cases, "-O", cases / "r"))
    assert (cases / "r" / "index.html").exists()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(signum, jobs, tmp_path):
    cases = make_cases(tmp_path, tuple(f"c{k}" for k in range(30)))
    before = sorted(path.name for path in cases.iterdir())
    command = [BIN / "lnq-report", *map(str, compare(cases, "-j", jobs, "-O", cases / "r"))]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(cases.glob(".r.*/cases/*.js")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signum, b"", b"")
    assert sorted(path.name for path in cases.iterdir()) == before


# Figures and origin


def test_figures_are_copied(cases):
    picture = cases / "a <b>.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    options = ("--figure", picture, "--figure", picture, "-O", cases / "r")
    succeed("lnq-report", *compare(cases, *options))
    images = Elements(page_of(cases / "r")).named("img")
    small, images = images[:2], images[2:]
    assert [image["src"] for image in small] == ["cases/0002.jpg", "cases/0001.jpg"]
    assert [image["src"] for image in images] == ["figures/1.png", "figures/2.png"]
    assert [image["alt"] for image in images] == ["a <b>.png"] * 2
    assert (cases / "r" / "figures" / "2.png").read_bytes() == picture.read_bytes()


def test_a_bad_figure_is_refused_before_any_work(cases):
    result = run("lnq-report", *compare(cases, "--figure", "no.png", "-O", cases / "r"))
    assert result.status == 1
    assert result.err == "lnq-report: no.png: no such file\n"


def test_the_page_tells_what_made_the_images(cases):
    succeed("lnq-filter-diameter", *masks(cases), "--min", 2.5, "-O", cases / "filtered")
    filtered = masks(cases, "filtered")
    shared = ("--ct", cases / "ct", "--reference", cases / "truth", "-O", cases / "r")
    succeed("lnq-report", *filtered, *shared)
    text = page_of(cases / "r")
    prediction = text.partition("<h3>Prediction</h3>")[2].partition("<h3>Reference</h3>")[0]
    assert "<p>2 cases:</p>" in prediction
    assert "<strong>lnq-filter-diameter " in prediction
    assert "<dt>--min</dt><dd>2.5</dd>" in prediction
    own = text.partition("<h3>This report</h3>")[2].partition("<h3>Prediction</h3>")[0]
    assert "<dt>--seed</dt><dd>0</dd>" in own
    assert "<dt>--hit</dt><dd>0.5</dd>" in own
    assert f"<dt>versions</dt><dd>numpy {np.__version__}, scipy " in own
    assert "2 cases: the files do not say what made them." in text


@pytest.mark.parametrize("tool", ["lnq--tool", "lnq-", "lnq-nothing", "lnq-../x", "nnunet", ""])
def test_options_of_tools_that_are_not_of_this_suite_keep_their_names(tool):
    assert as_given(tool, {"least_iou": 1}) == {"--least-iou": 1}
    assert as_given("lnq-metrics", {"least_iou": 1, "min_mm": 2}) == {"--hit": 1, "--min-mm": 2}


def test_images_made_from_different_files_are_told_once(cases):
    """As examples/data crops CTs: each with --like its own file."""
    for path in masks(cases, "ct"):
        options = ("--like", path, "-O", cases / "cropped")
        succeed("lnq-crop", path, *options)
    shared = ("--ct", cases / "cropped", "--reference", cases / "truth", "-O", cases / "r")
    succeed("lnq-report", *masks(cases), *shared)
    text = page_of(cases / "r").partition("<h3>CT</h3>")[2]
    assert text.count("<strong>lnq-crop") == 1
    both = [f"{cases}/ct/{name}.nii.gz (1 case)" for name in "ab"]
    assert f"<dt>--like</dt><dd>{', '.join(both)}</dd>" in text


MODEL = {
    "made_with": {
        "recipe": {"epochs": 8, "full_share": 0.0, "patch": [48, 48, 32]},
        "seed": 0,
        "cohorts": {"weak": 1.0},
        "folds": {"count": 5},
        "cases": {"a": {"cohort": "weak"}, "b": {"cohort": "weak"}},
    },
    "runs": [
        {"fold": "all", "command": ["lnq-train", "-m", "my model"], "versions": {"torch": "2"}}
    ],
}


def test_a_model_tells_how_it_was_made(cases):
    (cases / "model").mkdir()
    (cases / "model" / "lnq-train.json").write_text(json.dumps(MODEL))
    succeed("lnq-report", *compare(cases, "-m", cases / "model", "-O", cases / "r"))
    text = page_of(cases / "r").partition("<h3>Model</h3>")[2]
    assert "<pre>lnq-train -m &#x27;my model&#x27;</pre>" in text
    for name, value in (
        *(("cases", "2"), ("cohorts", "weak 2 cases"), ("seed", "0"), ("epochs", "8")),
        *(("full-share", "0"), ("patch", "48, 48, 32"), ("versions", "torch 2")),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "only models of lnq-train"),
        ("{", "is not JSON"),
        ("{}", "is not what lnq-train writes"),
    ],
)
def test_a_model_that_says_nothing_is_an_error(content, message, cases):
    (cases / "model").mkdir()
    if content is not None:
        (cases / "model" / "lnq-train.json").write_text(content)
    result = run("lnq-report", *compare(cases, "-m", cases / "model", "-O", cases / "r"))
    assert result.status == 1
    assert message in result.err
    assert not (cases / "r").exists()


def test_it_runs_without_heavy_libraries(cases):
    from tests.test_suite import HEAVY, modules_after

    arguments = [str(argument) for argument in compare(cases, "-O", "r")]
    _, (modules,) = modules_after("lnq-report", arguments, cwd=cases)
    assert modules & set(HEAVY) == set()


def test_without_pillow_it_says_what_to_install(cases):
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from lnqtools.cli.report import main\n"
        f"main({[str(argument) for argument in compare(cases, '-O', cases / 'r')]!r})\n"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "lnq-report: PIL is not installed; pip install '.[report]' in the checkout of lnqtools "
        "brings it\n"
    )
    assert not (cases / "r").exists()
