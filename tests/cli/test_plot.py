"""lnq-plot: one figure a command, from the tables and images of the other tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.helpers import usage_error, with_names
from tests.conftest import BIN, affine, run, save, shell, succeed
from tests.suite import command, extra
from tests.test_suite import HEAVY, modules_after

pytest.importorskip("matplotlib")

TOOL = "lnq-plot"
FIGURES = tuple(command(TOOL).commands)

HEADER = "case\tdice\tassd_mm\tvolume_prediction_ml\tvolume_reference_ml\tstatus\tpreset\tedge"
ROWS_A = ("a\t0.2\t9\t12\t10\tok\t\topen", "b\t0.9\t1\t20\t20\tok\t\topen")
ROWS_B = ("a\t0.3\t8\t9\t10\tok\t\topen", "b\t0.8\t\t18\t20\tok\t\topen")
LESIONS = (
    "case\tside\tdiameter_ellipsoid_mm\toverlap",
    "a\treference\t4\t0.5",
    "a\treference\t11\t1",
    "a\tprediction\t0\t1",
)
BINS = (
    "side\tbin\tfrom_mm\tto_mm\tn\tmean\tq1\tmedian\tq3\thits",
    "reference\t0-5mm\t0\t5\t1\t0.5\t0.5\t0.5\t0.5\t1",
    "reference\tdegenerate\t\t\t0\t\t\t\t\t0",
    "prediction\t0-5mm\t0\t5\t0\t\t\t\t\t0",
    "prediction\tdegenerate\t\t\t2\t1\t1\t1\t1\t2",
)
TRAINING = (
    "epoch\tlearning_rate\ttraining_loss\tvalidation_loss\tpseudo_dice_annotated\t"
    "pseudo_dice_annotated_smoothed\tseconds",
    "1\t0.01\t0.5\t0.4\t0.1\t0.1\t1",
    "2\t0.01\t0.1\t0.2\t0.6\t0.15\t1",
)
STATS = (
    "set\tbin\tfrom_mm\tto_mm\tcomponents",
    "train\t0-2.5mm\t0\t2.5\t3",
    "train\tdegenerate\t\t\t1",
    "test\t0-2.5mm\t0\t2.5\t5",
    "test\tdegenerate\t\t\t0",
)
SWEEP = (
    "threshold\tmin_diameter_mm\trecall\tprecision\tlesion_sensitivity\tlesion_precision\t"
    "fp_per_case\tbest",
    "0.25\t0\t0.9\t0.5\t1\t0.5\t2\tfalse",
    "0.25\t5\t0.8\t0.6\t0.9\t0.6\t1\tfalse",
    "0.75\t0\t0.5\t0.9\t0.7\t0.9\t0.5\ttrue",
    "0.75\t5\t0.4\t0.9\t0.6\t0.9\t0.25\tfalse",
)
POINTS = (
    "case\tthreshold\tmin_diameter_mm\tprecision\tvolume_prediction_ml",
    "a\t0.25\t0\t0.5\t10",
    "a\t0.75\t0\t1\t2",
)
CALLS = {
    "preprocess": ["--row", "raw", "ct/a.nii.gz", "label/a.nii.gz"],
    "cases": [
        *("a.tsv", "--ct", "ct", "--prediction", "predicted", "--reference", "truth"),
        *("--anatomy", "anatomy", "--classes", "v2"),
    ],
    "diameters": ["stats.tsv", "list=lesions.tsv"],
    "overlap": ["A=lesions.tsv", "B=bins.tsv", "--bin-mm", "5"],
    "scores": ["A=a.tsv", "B=b.tsv", "--metric", "dice", "--metric", "assd_mm"],
    "rank": ["A=a.tsv", "B=b.tsv", "--metric", "dice", "--resamples", "100"],
    "pr": ["A=sweep.tsv", "--lesions"],
    "froc": ["A=sweep.tsv", "--min-diameter", "5"],
    "calibration": ["A=points.tsv"],
    "agreement": ["A=a.tsv", "B=b.tsv"],
    "training": ["training.tsv"],
}
"""A call of each figure that draws it."""


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Return a folder of all that the figures take."""
    folder = tmp_path_factory.mktemp("cohort")
    write(folder, "a.tsv", HEADER, *ROWS_A)
    write(folder, "b.tsv", HEADER, *ROWS_B)
    write(folder, "lesions.tsv", *LESIONS)
    write(folder, "bins.tsv", *BINS)
    write(folder, "stats.tsv", *STATS)
    write(folder, "training.tsv", *TRAINING)
    write(folder, "sweep.tsv", *SWEEP)
    write(folder, "points.tsv", *POINTS)
    shape, matrix = (12, 20, 24), affine((1.5, 1.5, 3.0))
    for number, name in enumerate("ab"):
        rng = np.random.default_rng(number)
        label = np.full(shape, 2, np.uint8)
        label[4:7, 5:10, 6:12] = 1
        label[:, :3] = 0
        truth = (label == 1).astype(np.uint8)
        images = {
            "ct": rng.integers(-200, 300, shape).astype(np.int16),
            "label": label,
            "truth": truth,
            "predicted": np.roll(truth, 1 + number, axis=2),
            "anatomy": np.where(np.roll(truth, 5, axis=1), 16, 0).astype(np.uint8),  # trachea
        }
        for kind, array in images.items():
            save(folder / kind / f"{name}.nii.gz", array, matrix)
    return folder


@pytest.fixture
def place(cohort, tmp_path, monkeypatch) -> Path:
    """Return a folder of one's own that sees the cohort."""
    for path in cohort.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(*arguments) -> None:
    """Draw a figure in this process, which is faster; a usage error or LnqError is raised."""
    with command(TOOL).make_context(TOOL, list(map(str, arguments))) as context:
        command(TOOL).invoke(context)


def words(path: Path) -> str:
    """Return the text of an SVG that its comments keep beside the shapes."""
    comments = ET.parse(path, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    return " ".join(e.text or "" for e in comments.iter() if e.tag is ET.Comment)


# What every figure does


def test_every_figure_has_a_call():
    assert set(CALLS) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_it_draws_in_each_form_the_same_bytes_again(name, place):
    if name == "cases":
        pytest.importorskip("skimage")
    for form, begin in (("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")):
        target = place / f"figure.{form}"
        draw(name, *CALLS[name], "-o", target, "--dpi", 72)
        first = target.read_bytes()
        assert first.startswith(begin)
        if form == "SVG":  # the installed tool, in a process of its own
            done = succeed(TOOL, name, *CALLS[name], "-f", "-o", target, "--dpi", 72)
            assert done.out == f"{target}\n"
        else:
            draw(name, *CALLS[name], "-f", "-o", target, "--dpi", 72)
        assert target.read_bytes() == first


@pytest.mark.parametrize("name", FIGURES)
def test_an_existing_file_is_kept_without_f(name, place):
    (place / "f.png").write_text("mine")
    message = usage_error(TOOL, name, *CALLS[name], "-o", "f.png")
    assert message == "f.png exists; -f replaces it"
    assert (place / "f.png").read_text() == "mine"


def test_a_usage_error_points_to_the_figures_help(place):
    done = run(TOOL, "training", "training.tsv", "-o", "f.jpg")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "lnq-plot: -o f.jpg: a picture is named .png, .svg or .pdf (see lnq-plot training --help)\n"
    )


@pytest.mark.parametrize("name", FIGURES)
def test_width_is_that_of_a_journals_column(name, place):
    if name == "cases":
        pytest.importorskip("skimage")
    usual = 180 if name in ("preprocess", "cases") else 85
    for option, mm in (((), usual), (("--width", "double"), 180), (("--width", "120"), 120)):
        draw(name, *CALLS[name], "-f", "-o", "f.png", "--dpi", 100, *option, "-q")
        header = (place / "f.png").read_bytes()[16:20]
        assert int.from_bytes(header, "big") == int(mm / 25.4 * 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing option '-o' / '--output'."),
        (["-o", "f.jpg"], "-o f.jpg: a picture is named .png, .svg or .pdf"),
        (["-o", "-"], "-o -: a picture is named .png, .svg or .pdf"),
        (["-o", "no/f.png"], "no/f.png: there is no such directory"),
        (["-o", "f.png", "--width", "5"], "'5' is neither single, double nor 50 to 500 mm"),
        (["-o", "f.png", "--width", "nan"], "'nan' is neither single, double nor 50 to 500 mm"),
        (["-o", "f.png", "--dpi", "5"], "5 is not in the range 50<=x<=1200"),
    ],
)
def test_where_a_figure_cannot_go(options, message, place):
    assert message in usage_error(TOOL, "training", "training.tsv", *options)


def test_an_input_is_never_overwritten(place):
    write(place, "table.svg", *TRAINING)
    write(place, "scores.svg", HEADER, *ROWS_A)
    for call in (["training", "table.svg"], ["scores", "A=scores.svg"]):
        target = call[1].removeprefix("A=")
        message = usage_error(TOOL, *call, "-f", "-o", f"./{target}")
        assert message == f"./{target} is an input and would be overwritten"


def test_an_unknown_or_missing_figure_is_a_usage_error():
    option = ": --nothing" if version("click").startswith("8.1.") else " '--nothing'"
    for arguments, message in (
        ([], "Missing command"),
        (["nothing"], "No such command 'nothing'"),
        (["--nothing"], f"No such option{option}"),
    ):
        done = run(TOOL, *arguments)
        assert (done.status, done.out) == (2, "")
        assert done.err == f"lnq-plot: {message} (see lnq-plot --help)\n"


def test_the_help_lists_every_figure():
    lines = succeed(TOOL, "--help").lines
    after = lines[lines.index("Commands:") + 1 :]
    listed = after[: after.index("")]
    assert [line.split()[0] for line in listed] == sorted(FIGURES)
    assert not [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize("name", ["scores", "preprocess"])
def test_a_figure_loads_matplotlib_alone(name, place):
    _, (modules,) = modules_after(TOOL, [name, *CALLS[name], "-o", "f.png"], cwd=place)
    assert modules & set(HEAVY) == {"matplotlib"}


@pytest.mark.parametrize(("missing", "name"), [("matplotlib", "scores"), ("skimage", "cases")])
def test_a_missing_package_is_named_with_its_extra(missing, name, place):
    """A finder that hides a package stands in for an environment without it."""
    code = (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        f"    None if name == {missing!r} else find(name, *rest))\n"
        "from lnqtools.cli.plot import main\n"
        f"main({[name, *CALLS[name], '-o', 'f.png']!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"lnq-plot: {missing} is not installed; pip install '.[plot]' in the checkout of lnqtools "
        "brings it\n"
    )
    bound = {"matplotlib": "matplotlib>=", "skimage": "scikit-image>="}[missing]
    assert any(needed.startswith(bound) for needed in extra("plot"))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly_and_leaves_nothing(signum, place):
    os.mkfifo(place / "pipe")
    process = subprocess.Popen(
        [BIN / TOOL, "training", "pipe", "-o", "f.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with (place / "pipe").open("w"):  # it is open: the tool waits for what it will say
        time.sleep(0.5)
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (-signum, b"", b"")
    assert not list(place.glob("*.png"))
    assert not list(place.glob(".*.tmp"))


def test_names_of_all_kinds_and_a_folder_for_a_file(place):
    (place / "a dir").mkdir()
    target = place / "a dir" / "new\nline.svg"
    done = succeed(
        TOOL, "scores", "of $x^2$_=a.tsv", "日本=b.tsv", "--metric", "dice", "-o", target
    )
    assert done.out == f"{target}\n"
    assert "of $x^2$_" in words(target).replace("\\", "")
    assert all(line.startswith("lnq-plot: warning: Glyph ") for line in done.err.splitlines())
    assert "Glyph 26085 " in done.err  # a letter that the font does not have
    failed = run(TOOL, "training", "a dir", "-o", "f.png")
    assert (failed.status, failed.out) == (1, "")
    assert failed.err == "lnq-plot: a dir: cannot be read: Is a directory\n"


# Tables


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["training", "a.tsv"], "a.tsv: lacks the columns epoch, training_loss, "),
        (["scores", "A=training.tsv"], "training.tsv: has no column named case; "),
        (["scores", "A=a.tsv", "--metric", "hd_mm"], "a.tsv: has no column named hd_mm; it has "),
        (["agreement", "A=bins.tsv"], "bins.tsv: has no column named case; "),
        (
            ["overlap", "A=a.tsv"],
            "a.tsv: lacks the columns side, from_mm, to_mm, n, mean, q1, q3; ",
        ),
        (["diameters", "a.tsv"], "a.tsv: lacks the column diameter_ellipsoid_mm; "),
        (["cases", "bins.tsv", *CALLS["cases"][1:]], "bins.tsv: has no column named case; "),
        (["training", "nowhere.tsv"], "nowhere.tsv: cannot be read: No such file or directory"),
        (["overlap", "A=lesions.tsv", "B=bins.tsv"], "the tables have bins of 2.5 and 5 mm: "),
        (["pr", "A=a.tsv"], "a.tsv: lacks the columns threshold, min_diameter_mm, recall, "),
        (["froc", "A=sweep.tsv", "--min-diameter", "7"], "sweep.tsv: has no row of min_diameter"),
        (["pr", "A=points.tsv"], "points.tsv: lacks the column recall; lnq-threshold"),
        (["calibration", "A=sweep.tsv"], "sweep.tsv: lacks the columns case, volume_prediction_"),
    ],
)
def test_a_wrong_table_is_one_sentence(call, message, place):
    done = run(TOOL, *call, "-o", "f.png")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"lnq-plot: {message}")
    assert done.err.count("\n") == 1
    assert not (place / "f.png").exists()


def test_every_bad_table_is_named(place):
    done = run(TOOL, "scores", "A=nowhere.tsv", "B=bins.tsv", "C=a.tsv", "-o", "f.png")
    assert done.status == 1
    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["nowhere.tsv", "bins.tsv"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["scores"], "no input: name tables as NAME=FILE"),
        (["scores", "a.tsv"], "'a.tsv' is not NAME=FILE"),
        (["agreement", "A=a.tsv", "A=b.tsv"], "two tables are named A"),
        (["overlap", "A=-", "B=-"], "standard input can be read only once"),
        (["overlap", "A=bins.tsv", "--bin-mm", "5"], "--bin-mm is for tables of lnq-metrics --les"),
        (["diameters"], "no input: name tables as FILE or NAME=FILE"),
        (["diameters", "stats.tsv", "--metric", "recist"], "--metric is for tables of lnq-filter-"),
        (["diameters", "A=stats.tsv"], "stats.tsv names its data sets itself: leave out A="),
        (["diameters", "stats.tsv", "stats.tsv"], "a table is named twice"),
        (["diameters", "stats.tsv", "test=lesions.tsv"], "two data sets are named test"),
        (["diameters", "=lesions.tsv"], "'=lesions.tsv' is not [NAME=]FILE"),
        (["preprocess"], "Missing option '--row'."),
        ([*["preprocess"], *CALLS["preprocess"], "--window", "5"], "'5' is not two numbers"),
        ([*["preprocess"], *CALLS["preprocess"], "--window", "5,5"], "must be below the second"),
        (["cases", *CALLS["cases"][:7], "--classes", "v2"], "--classes is for --anatomy"),
        (["rank", "A=a.tsv"], "to rank models, name two or more tables"),
        (["scores", "A=a.tsv", "--log"], "--log is for distances and volumes, not for dice"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(call, message, place):
    assert message in usage_error(TOOL, *call, "-o", "f.png")


def test_histograms_name_their_sets_and_count(place):
    (place / "x=y.tsv").symlink_to(place / "lesions.tsv")
    draw("diameters", *CALLS["diameters"], "./x=y.tsv", "-o", "f.svg")
    text = words(place / "f.svg")
    for said in ("train", "n = 3", "+ 1 without diameter", "test", "n = 5", "list", "x=y", "n = 2"):
        assert said in text
    assert "shortest diameter (mm)" in text


def test_tables_come_through_pipes(place):
    line = (
        "lnq-stats --set A=label --set B=truth --table diameters --format jsonl | "
        "lnq-plot diameters - -o f.svg && "
        "lnq-metrics predicted/*.nii.gz --reference truth --lesions --format csv | "
        "lnq-plot overlap M=- -o g.svg && "
        "lnq-metrics predicted/*.nii.gz --reference truth | lnq-plot agreement M=- -o h.svg | cat"
    )
    done = shell(line, place)
    assert (done.status, done.out, done.err) == (0, "f.svg\ng.svg\nh.svg\n", "")
    assert "n = 2" in words(place / "f.svg")
    assert "gt_overlap" in words(place / "g.svg")
    assert "+0 ml" in words(place / "h.svg")  # shifted masks have the same volume


def test_what_stands_for_undefined_distances_can_be_said(place):
    for empty, name in (("drop", "n = 1"), ("worst", "n = 2"), ("30", "n = 2")):
        options = ("--metric", "assd_mm", "--empty", empty, "--log", "-o", f"{empty}.svg")
        done = succeed(TOOL, "scores", "A=a.tsv", "B=b.tsv", *options)
        assert ("undefined and left out" in done.err) == (empty == "drop")
        assert words(place / f"{empty}.svg").count(name) == (1 if empty == "drop" else 2)


def test_ranks_are_those_of_lnq_compare(place):
    tables = ("A=a.tsv", "B=b.tsv", "--metric", "dice", "--resamples", "50", "--seed", "3")
    succeed(TOOL, "rank", *tables, "-o", "f.svg")
    told = succeed("lnq-compare", *tables, "--table", "ranking").out.splitlines()
    row = dict(zip(*(line.split("\t") for line in told[:2]), strict=True))
    tau = f"{float(row['kendall_tau']):.2f}" if row["kendall_tau"] else None
    shown = words(place / "f.svg")
    assert (f"τ {tau}" in shown) == (tau is not None)
    assert shown.index(row["model"]) < shown.index("AB".replace(row["model"], ""))


def test_ranks_over_all_metrics_are_one_panel(place):
    tables = ("A=a.tsv", "B=b.tsv", "--metric", "dice", "--metric", "assd_mm", "--empty", "worst")
    more = ("--resamples", "50", "--rank-by")
    for rank_by, panels in (("ranks", 2), ("cases", 1)):
        succeed(TOOL, "rank", *tables, *more, rank_by, "-o", "f.svg", "-f")
        assert words(place / "f.svg").count("(n = 2)") == panels


def test_undefined_values_are_counted_and_told(place):
    done = succeed(TOOL, "scores", "A=a.tsv", "B=b.tsv", "--metric", "assd_mm", "-o", "f.svg")
    assert done.err == ("lnq-plot: warning: assd_mm: 1 of 2 cases of B is undefined and left out\n")
    text = words(place / "f.svg")
    assert "n = 1" in text
    assert "1 undef." in text
    assert "ASSD (mm)" in text
    assert succeed(TOOL, "scores", *CALLS["scores"], "-q", "-o", "g.svg").err == ""


def test_models_that_hardly_belong_together_are_told(place):
    other = [row.replace("open", "surface") for row in (*ROWS_B, "c\t1\t1\t1\t1\tok\t\topen")]
    other[0] = other[0].replace("\t10\t", "\t11\t")
    write(place, "c.tsv", HEADER, *other)
    call = ["agreement", "A=a.tsv", "C=c.tsv", "-o", "f.png"]
    refused = run(TOOL, *call)
    assert refused.status == 1
    assert refused.err.splitlines()[-1] == (
        "lnq-plot: A has no row of c; --intersect compares what all have"
    )
    done = succeed(TOOL, *call, "--intersect")
    assert done.err.splitlines() == [
        "lnq-plot: warning: A has no row of c; left out for all",
        "lnq-plot: warning: the volume of the reference differs between tables, as if of different "
        "references, in a",
        "lnq-plot: warning: the tables were not made with one --preset and --edge of lnq-metrics",
    ]


def test_volumes_agree_as_by_hand(place):
    draw("agreement", "A=a.tsv", "B=b.tsv", "-o", "f.svg")
    text = words(place / "f.svg")
    # A: +2 and 0; B: −1 and −2
    for said in ("+1.00 ml", "+3.77 ml", "−1.77 ml", "−1.50 ml", "−0.114 ml", "−2.89 ml"):
        assert said in text, said
    assert text.count("n = 2") == 2


def test_overlaps_of_different_references_are_told(place):
    write(place, "fewer.tsv", *LESIONS[:2])
    done = succeed(TOOL, "overlap", "A=lesions.tsv", "B=fewer.tsv", "-o", "f.png")
    assert done.err == (
        "lnq-plot: warning: the number of reference components differs between tables, as if "
        "of different cases\n"
    )


# Images


def test_the_cases_are_named_with_their_scores(place):
    pytest.importorskip("skimage")
    draw("cases", *CALLS["cases"], "-o", "f.svg")
    text = words(place / "f.svg")
    for said in ("worst and average: a", "Dice 0.200, ASSD 9.00 mm", "best: b", "Dice 0.900"):
        assert said in text
    assert "trachea" in text


def test_cases_without_a_dice_are_left_out_and_told(place):
    pytest.importorskip("skimage")
    write(place, "c.tsv", "case\tdice", "a\t0.5", "b\t")
    done = succeed(TOOL, "cases", "c.tsv", *CALLS["cases"][1:7], "-o", "f.svg")
    assert done.err == "lnq-plot: warning: dice: 1 of 2 cases is undefined and left out\n"
    text = words(place / "f.svg")
    assert "worst and average and best: a" in text
    assert "ASSD" not in text
    assert "trachea" not in text


def test_images_that_are_missing_or_do_not_fit_are_named(place):
    pytest.importorskip("skimage")
    write(place, "c.tsv", "case\tdice", "x\t0.5")
    call = ["cases", "c.tsv", *CALLS["cases"][1:], "-o", "f.png"]
    done = run(TOOL, *call)
    assert (done.status, done.err) == (
        1,
        "lnq-plot: x: has no companion named x in --ct ct\n",
    )
    (place / "other").mkdir()
    save(place / "other" / "a.nii.gz", np.ones((3, 3, 3), np.uint8))
    write(place, "c.tsv", "case\tdice", "a\t0.5")
    call[call.index("truth")] = "other"
    done = run(TOOL, *call)
    assert done.status == 1
    assert done.err.startswith(
        "lnq-plot: a: --reference other/a.nii.gz does not lie on the grid of the CT: "
    )
    (place / "trained").mkdir()
    (place / "trained" / "a.nii.gz").write_bytes((place / "label" / "a.nii.gz").read_bytes())
    with_names(place / "trained" / "a.nii.gz", {2: "unknown"})
    call[call.index("other")] = "trained"
    done = run(TOOL, *call)
    assert done.status == 1
    assert done.err.startswith("lnq-plot: a: trained/a.nii.gz: ")
    assert "unknown" in done.err


def test_rows_that_cannot_be_drawn(place):
    call = ["preprocess", "--row", "", "ct/a.nii.gz", "nowhere.nii.gz", "-o", "f.png"]
    done = run(TOOL, *call)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("lnq-plot: nowhere.nii.gz: ")
    done = run(TOOL, *call[:4], "a.tsv", *call[5:])
    assert done.status == 1
    assert done.err.startswith("lnq-plot: a.tsv: ")
    done = run(TOOL, *call[:4], "anatomy/a.nii.gz", *call[5:])
    assert (done.status, done.err) == (
        1,
        "lnq-plot: anatomy/a.nii.gz: holds the value 16; 0 is background, 1 node, 2 unknown "
        "(numbered nodes: --instances)\n",
    )
    save(place / "else.nii.gz", np.ones((12, 20, 24), np.uint8), affine((1.5, 1.5, 2.0)))
    done = run(TOOL, *call[:4], "else.nii.gz", *call[5:])
    assert done.status == 1
    assert done.err.startswith("lnq-plot: else.nii.gz: the two grids do not share a lattice")
    save(place / "none.nii.gz", np.zeros((12, 20, 24), np.uint8), affine((1.5, 1.5, 3.0)))
    done = succeed(TOOL, *call[:4], "none.nii.gz", *call[5:])
    assert done.err == (
        "lnq-plot: warning: no label holds a node; the views go through the middle\n"
    )


def test_a_crop_without_the_largest_node_does_not_stop_the_figure(place):
    """A node above the lungs' box is lost; the views go through the one that both rows hold."""
    array = np.zeros((12, 20, 24), np.uint8)
    array[8:12, 4:10, 4:10] = array[2, 12:14, 12:14] = 1
    matrix = affine((1.5, 1.5, 3.0))
    save(place / "whole.nii.gz", array, matrix)
    for source, target in (("ct/a", "crop"), ("whole", "crop-label")):
        nib.save(nib.load(place / f"{source}.nii.gz").slicer[:, :, :8], place / f"{target}.nii.gz")
    rows = ["--row", "full", "ct/a.nii.gz", "whole.nii.gz", "--row", "crop", "crop.nii.gz"]
    call = ["preprocess", *rows, "crop-label.nii.gz", "-o", "f.png", "-f"]
    assert succeed(TOOL, *call, cwd=place).err == ""
    save(place / "crop-label.nii.gz", array[:8] * 0, matrix)
    assert succeed(TOOL, *call, cwd=place).err == ""  # the crop has no node: its CT must show one
    array[2] = 0
    save(place / "whole.nii.gz", array, matrix)
    assert succeed(TOOL, *call, cwd=place).err == (
        "lnq-plot: warning: no node of row 1 (full) is in all rows (row 2 (crop) does not reach "
        "them); each row goes through its own largest node\n"
    )


def test_a_warning_of_an_image_begins_with_its_path(place):
    label = save(place / "odd.nii", np.ones((12, 20, 24), np.uint8), affine((1.5, 1.5, 3.0)))
    content = bytearray(label.read_bytes())
    content[112:116] = b"\0\0\xc0\x7f"  # scl_slope
    label.write_bytes(content)
    call = ["preprocess", "--row", "", "ct/a.nii.gz", "odd.nii", "-o", "f.png"]
    assert succeed(TOOL, *call).err == (
        "lnq-plot: odd.nii: warning: scl_slope is nan: the voxels were taken as they are\n"
    )
    assert succeed(TOOL, *call, "-q", "-f").err == ""
