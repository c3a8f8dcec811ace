"""What is known of columns, and that a new metric needs one record and one function."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lnqtools.cli.compare import directions
from lnqtools.comparison.summaries import summary_rows
from lnqtools.comparison.tables import align, fill, read_model
from lnqtools.comparison.text import summary_text
from lnqtools.figures import charts
from lnqtools.images.grid import Grid
from lnqtools.metrics import masks
from lnqtools.metrics.columns import COLUMNS, Column, column_of, column_with
from lnqtools.metrics.summaries import fill_undefined, ratio, summarize
from lnqtools.report.contents import Definitions, Entry, Looks, Report, compare_case
from lnqtools.report.page import hidden_columns, render
from tests.cli.helpers import rows_of
from tests.conftest import ROOT, save
from tests.suite import command


@pytest.mark.parametrize(
    ("name", "heading", "better", "worst", "text"),
    [
        ("dice", "Dice", "higher", 0, "0.123"),
        ("nsd_2mm", "NSD at 2 mm", "higher", 0, "0.123"),
        ("nsd_0.5mm", "NSD at 0.5 mm", "higher", 0, "0.123"),
        ("nsd_1e-05mm", "NSD at 1e-05 mm", "higher", 0, "0.123"),
        ("assd_mm", "ASSD (mm)", "lower", None, "0.12"),
        ("hd95_pooled_mm", "pooled HD95 (mm)", "lower", None, "0.12"),
        ("volume_prediction_ml", "predicted volume (ml)", None, None, "0.12"),
        ("fp", "FP", "lower", None, "0.123"),
        ("false_discovery_rate", "false discovery rate", "lower", 1, "0.123"),
    ],
)
def test_known_columns(name, heading, better, worst, text):
    column = column_of(name)
    assert (column.name, column.heading) == (name, heading)
    assert (column.better, column.worst) == (better, worst)
    assert column.rounded(0.12345) == text


@pytest.mark.parametrize(
    ("name", "heading", "text"),
    [
        ("diameter_feret_min_mm", "diameter feret min (mm)", "7.65"),
        ("volume_mm3", "volume (mm³)", "7.65"),
        ("labeled_per_total_percent", "labeled per total (%)", "7.65"),
        ("labeled_per_total_percent_mean", "labeled per total mean (%)", "7.65"),
        ("voxels_unknown", "voxels unknown", "8"),
        ("n_dice", "n Dice", "7.654"),
        ("hd95_left_mm", "HD95 left (mm)", "7.65"),
        ("nsd_leftmm", "nsd leftmm", "7.654"),
        ("mm", "mm", "7.654"),
        ("", "", "7.654"),
    ],
)
def test_of_other_columns_their_name_says_what_they_are(name, heading, text):
    column = column_of(name)
    assert (column.name, column.heading, column.rounded(7.6543)) == (name, heading, text)
    assert (column.better, column.worst, column.of_reference) == (None, None, False)


def test_every_record_is_found_by_its_name_and_fractions_have_a_worst_value():
    for name, column in COLUMNS.items():
        one = name.replace("{}", "2")
        found = column_of(one)
        assert (found.name, found.better, found.unit) == (one, column.better, column.unit)
        assert column.worst in {"higher": (0,), "lower": (None, 1), None: (None,)}[column.better]
        assert column.is_fraction <= (not column.unit)


@pytest.mark.parametrize(
    ("name", "better", "worst"),
    [
        ("x", None, None),
        ("x", "higher", 0),
        ("x", "lower", None),
        ("dice", "higher", 0),
        ("dice", "lower", 1),
        ("fdr", "lower", 1),
        ("fdr", "higher", 0),
        ("hd_mm", "higher", 0),
    ],
)
def test_a_direction_that_somebody_says(name, better, worst):
    column = column_with(name, better)
    assert (column.better, column.worst, column.title) == (better, worst, column_of(name).title)


# What stands for undefined values


RATES = [
    {"status": "ok", "fdr": 0.25, "fp": 2, "volume_ml": 7.0},
    {"status": "empty_prediction", "fdr": None, "fp": None, "volume_ml": None},
    {"status": "both_empty", "fdr": None, "fp": None, "volume_ml": None},
]


@pytest.mark.parametrize("policy", ["worst", 115.27])
def test_the_worst_of_a_rate_of_error_is_1(policy):
    filled = fill_undefined(RATES, policy)
    assert [row["fdr"] for row in filled] == [0.25, 1, None]
    assert [row["fp"] for row in filled] == [2, 2, None]  # a count, which no number of mm is
    by_name = {line["metric"]: line for line in summarize(RATES)}
    assert by_name["fdr"]["mean_filled"] == 0.625
    assert by_name["fdr"]["fill"] == 1


def test_nothing_stands_for_a_value_of_which_nobody_knows_the_worst():
    assert [row["volume_ml"] for row in fill_undefined(RATES, "worst")] == [7, None, None]
    volume = next(line for line in summarize(RATES, "worst") if line["metric"] == "volume_ml")
    assert (volume["n_undefined"], volume["n_filled"], volume["fill"]) == (2, 0, None)
    assert volume["mean_filled"] == 7


def test_the_worst_of_an_unbounded_score_is_its_lowest_value(monkeypatch):
    monkeypatch.setitem(COLUMNS, "psnr", Column("psnr", "PSNR", "dB", "higher", digits=1))
    rows = [{"status": "ok", "psnr": v} for v in (31.5, 28.0)]
    rows.append({"status": "empty_prediction", "psnr": None})
    assert [row["psnr"] for row in fill_undefined(rows, "worst")] == [31.5, 28, 28]


@pytest.mark.parametrize(("option", "better"), [("higher", "higher"), ("lower", "lower")])
def test_the_manual_of_lnq_compare_lists_the_known_directions(option, better):
    page = (ROOT / "man/man1/lnq-compare.1").read_text()
    entry = page.partition(f".It Fl -{option}-better Ar COLUMN\n")[2]
    listed = re.search(r"Known without it for (.+?)\.$", entry, re.DOTALL | re.MULTILINE)
    names = re.split(r",\s+|\s+and\s+", listed[1])
    known = {name.replace("{}", "N") for name, c in COLUMNS.items() if c.better == better}
    assert set(names) == known


# Where does a new metric go?


def test_a_new_metric_is_a_record_and_a_function(monkeypatch, tmp_path, capfd):
    """One record and one function: tables, summaries, comparisons, pages and figures have it."""
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(COLUMNS, "miss_rate", Column("miss_rate", "miss rate", "", "lower", 1.0, 1))
    monkeypatch.setitem(
        masks.MEASURES,
        "miss_rate",
        lambda pair: ratio(pair.true.voxels - pair.common_voxels, pair.true.voxels),
    )
    reference, prediction = np.zeros((2, 4, 6, 6), np.uint8)
    reference[1:3, 1:3, 1:5], prediction[1:3, 1:3, 1:3] = 1, 1
    for name, predicted, true in (("a", prediction, reference), ("b", prediction, prediction)):
        save(tmp_path / "pred" / f"{name}.nii.gz", predicted)
        save(tmp_path / "truth" / f"{name}.nii.gz", true)
    images = [str(tmp_path / "pred" / f"{name}.nii.gz") for name in "ab"]
    call = [*images, "--reference", str(tmp_path / "truth")]

    def told(*options: str) -> list[dict]:
        run_here("lnq-metrics", *call, *options)
        return rows_of(capfd.readouterr().out)

    assert [row["miss_rate"] for row in told()] == ["0.5", "0"]
    (line,) = (row for row in told("--summary") if row["metric"] == "miss_rate")
    assert line["mean"] == "0.25"

    assert directions(["miss_rate"], [], []) == {"miss_rate": "lower"}
    rows = [
        {"case": name, "status": "ok" if name == "a" else "empty_prediction", "miss_rate": value}
        for name, value in (("a", 0.5), ("b", None))
    ]
    aligned = align({"A": read_model(rows, ["miss_rate"])}, "miss_rate", better="lower")
    assert fill(aligned, "worst").values.tolist() == [[0.5, 1]]
    text = summary_text(summary_rows(aligned), {"miss_rate": "lower"})
    assert text[0][:2] == ["model", "miss rate ↓ mean ± SD (n - 1)"]
    assert text[1][2] == "0.5"

    axes = charts.scores([aligned]).axes[0]
    assert axes.get_ylabel() == "miss rate"
    assert axes.get_ylim() == (-0.03, 1.03)

    hu, grid = np.zeros(reference.shape, np.int16), Grid.of_slices(reference.shape, (1, 1, 1))
    content = compare_case("a", prediction, reference, hu, grid, Definitions(), Looks())
    assert content.row["miss_rate"] == 0.5
    entries = [Entry("a", "0001", content)]
    page = render("compared", entries, Report("t", Definitions()))
    (hidden,) = (one for one in hidden_columns(entries) if one["name"] == "miss_rate")
    assert hidden == {"name": "miss_rate", "heading": "miss rate", "cells": [["0.5", "0.5"]]}
    assert '<th scope="row" class="name" data-value="miss_rate">miss rate</th>' in page


def run_here(tool: str, *arguments: str) -> None:
    """Run a tool in this process, where the metric is known."""
    with command(tool).make_context(tool, list(arguments)) as context:
        command(tool).invoke(context)
