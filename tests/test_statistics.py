"""Summaries against hand counts."""

import pytest

from lnqtools.statistics import summarise


def test_each_numeric_column_is_summarised_and_undefined_values_are_counted():
    rows = [
        {"case": "a", "status": "ok", "dice": 0.5, "assd_mm": 2.0, "components": 1, "hit": True},
        {"case": "b", "status": "ok", "dice": 1.0, "assd_mm": 4.0, "components": 4, "hit": True},
        {
            "case": "c",
            "status": "empty",
            "dice": 0.0,
            "assd_mm": None,
            "components": 0,
            "hit": False,
        },
        {"case": "d", "status": "ok", "dice": 0.9, "assd_mm": 9.0, "components": 2, "hit": True},
    ]
    dice, assd, components = summarise(rows)
    assert dice == {
        "metric": "dice",
        "mean": pytest.approx(0.6),
        "sd": pytest.approx((0.62 / 3) ** 0.5),  # deviations -.1, .4, -.6, .3
        "median": pytest.approx(0.7),
        "min": 0.0,
        "max": 1.0,
        "n": 4,
        "n_undefined": 0,
    }
    assert assd == {
        "metric": "assd_mm",
        "mean": 5.0,
        "sd": pytest.approx(13**0.5),  # deviations -3, -1, 4
        "median": 4.0,
        "min": 2.0,
        "max": 9.0,
        "n": 3,
        "n_undefined": 1,
    }
    assert (components["metric"], components["mean"]) == ("components", 1.75)


def test_a_column_without_a_value_keeps_its_row():
    rows = [{"dice": None}, {"dice": float("nan")}]
    (dice,) = summarise(rows)
    assert (dice["n"], dice["n_undefined"]) == (0, 2)
    assert [dice[key] for key in ("mean", "sd", "median", "min", "max")] == [None] * 5


def test_one_value_has_no_spread_and_an_absent_column_is_undefined():
    dice, nsd = summarise([{"dice": 0.25}, {"nsd_1mm": 0.5}])
    assert (dice["mean"], dice["sd"], dice["n"], dice["n_undefined"]) == (0.25, None, 1, 1)
    assert (nsd["metric"], nsd["n_undefined"]) == ("nsd_1mm", 1)


def test_no_rows_have_no_summary():
    assert summarise([]) == []
