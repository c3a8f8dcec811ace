"""lnq-compare: the paper's tables, from the tables that lnq-metrics writes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import click
import numpy as np
import pytest
import scipy.stats

from tests.cli.helpers import columns_of, numbers, rows_of, usage_error
from tests.conftest import BIN, Result, run, save, shell, succeed
from tests.suite import command

TOOL = "lnq-compare"
SUMMARY = ["metric", "model", "mean", "sd", "median"]
COUNTS = ["n", "n_undefined", "n_filled", "mean_dropped", "mean_filled"]
MISSED = ["n_missing"]


def text_of(form: str = "tsv", **columns) -> str:
    """Return a table of metrics as text."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if form == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    separator = "\t" if form == "tsv" else ","
    lines = [columns, *(["" if c is None else str(c) for c in row.values()] for row in rows)]
    return "".join(f"{separator.join(line)}\n" for line in lines)


@pytest.fixture
def tables(tmp_path: Path):
    """Return a function that writes models' tables and returns the tool's arguments.

    A model is its Dice scores, its distances, or both.
    """

    def write(form: str = "tsv", **models) -> list[str]:
        arguments = []
        for model, columns in models.items():
            length = len(next(iter(columns.values())))
            cases = columns.pop("case", [f"case{n:03}" for n in range(length)])
            path = tmp_path / f"{model}.{form}"
            path.write_text(text_of(form, case=cases, **columns))
            arguments.append(f"{model}={path}")
        return arguments

    return write


@pytest.fixture
def compare(capsysbinary):
    """Return a function that runs the tool without starting a process."""

    def call(*arguments) -> Result:
        tool = command(TOOL)
        status = 0
        try:
            with tool.make_context(TOOL, list(map(str, arguments))) as context:
                tool.invoke(context)
        except click.exceptions.Exit as end:
            status = end.exit_code
        said = capsysbinary.readouterr()
        return Result(status, said.out.decode(), said.err.decode())

    return call


@pytest.fixture
def hundred(tables) -> list[str]:
    """Return the arguments for two models of 100 cases, of which one is always the better."""
    dice = np.arange(1, 101) / 250
    return tables(A={"dice": dice}, B={"dice": dice * 2 + 0.1})


DICE = ("--metric", "dice")


def test_summary_by_hand(tables, compare):
    arguments = tables(
        A={"dice": [0.5, 0.7], "assd_mm": [4, None]},
        B={"dice": [0.6, 0.9], "assd_mm": [1, 3]},
    )
    result = compare(*arguments)
    assert columns_of(result.out) == SUMMARY + COUNTS + MISSED
    rows = rows_of(result.out)
    assert [(row["metric"], row["model"]) for row in rows] == [
        *(("dice", "A"), ("dice", "B")),
        *(("assd_mm", "A"), ("assd_mm", "B")),
    ]
    dice_a, dice_b, assd_a, assd_b = rows
    assert numbers(dice_a, *SUMMARY[2:], *COUNTS) == pytest.approx(
        [0.6, 0.2 / 2**0.5, 0.6, 2, 0, 0, 0.6, 0.6]
    )
    assert numbers(dice_b, "mean", "sd") == pytest.approx([0.75, 0.3 / 2**0.5])
    assert (assd_a["mean"], assd_a["sd"]) == ("4", "")
    assert numbers(assd_a, *COUNTS) == [1, 1, 1, 4, 4]
    assert numbers(assd_b, "mean", *COUNTS) == [2, 2, 0, 0, 2, 2]


def test_undefined_distances_are_filled_on_request(tables, compare):
    arguments = tables(
        A={"assd_mm": [5.8] * 96 + [None] * 4, "status": ["ok"] * 96 + ["empty_prediction"] * 4},
        B={"assd_mm": [20] + [3] * 98 + [None], "status": ["ok"] * 99 + ["both_empty"]},
    )
    for rule, filled in (("worst", 6.368), ("115.27", 10.1788)):
        result = compare(*arguments, "--metric", "assd_mm", "--empty", rule)
        a, b = rows_of(result.out)
        assert numbers(a, "mean", *COUNTS) == pytest.approx([filled, 96, 4, 4, 5.8, filled])
        assert numbers(b, "n", "n_undefined", "n_filled") == [99, 1, 0]


def test_default_metrics_are_the_papers(tables):
    result = run(TOOL, *tables(A={"dice": [1], "masd_mm": [2]}))
    assert result.status == 1
    assert result.err.endswith("has no column named assd_mm; it has dice, masd_mm\n")


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_tables_are_told_by_content(form, tables, compare):
    arguments = tables(form, A={"dice": [0.25, None]}, B={"dice": [0.5, 1]})
    rows = rows_of(compare(*arguments, *DICE).out)
    assert [row["mean"] for row in rows] == ["0.25", "0.75"]
    assert [row["n_undefined"] for row in rows] == ["1", "0"]


def test_tables_of_lnq_metrics_itself(tmp_path):
    truth = np.zeros((4, 5, 6), np.uint8)
    truth[1:3, 1:4, 1:4] = 1
    shifted, none = np.roll(truth, 1, axis=2), np.zeros_like(truth)
    for case in "ab":
        save(tmp_path / "truth" / f"{case}.nii.gz", truth)
        save(tmp_path / "same" / f"{case}.nii.gz", truth)
        save(tmp_path / "worse" / f"{case}.nii.gz", shifted if case == "a" else none)
    line = (
        "lnq-metrics same/*.nii.gz --reference truth --format jsonl > same.jsonl; "
        "lnq-metrics worse/*.nii.gz --reference truth |"
        "lnq-compare same=same.jsonl worse=-"
    )
    result = shell(line, tmp_path)
    assert result.status == 0
    assert result.err == (
        "lnq-compare: warning: assd_mm: 1 of 2 cases of worse is undefined and left out (--empty)\n"
    )
    same, worse, same_assd, worse_assd = rows_of(result.out)
    assert numbers(same, "mean", "n") == [1, 2]
    assert numbers(worse, "mean", "n") == pytest.approx([1 / 3, 2])
    assert numbers(same_assd, "mean", "n_undefined") == [0, 0]
    assert numbers(worse_assd, "n", "n_undefined", "n_filled") == [1, 1, 1]


def test_tables_from_pipes(hundred, tmp_path):
    line = "lnq-compare --metric dice A=<(cat A.tsv) B=- < B.tsv"
    assert shell(line, tmp_path).out == succeed(TOOL, *hundred, *DICE).out


# Intervals


def test_intervals_of_means(tables, compare):
    values = np.round(np.random.default_rng(0).exponential(4, 60), 6)
    arguments = tables(A={"assd_mm": values})
    common = ("--metric", "assd_mm", "--ci", "0.9", "--resamples", 500)
    result = compare(*arguments, *common, "--seed", 3)
    assert columns_of(result.out) == [*SUMMARY, "ci_low", "ci_high", "ci_method", *COUNTS, *MISSED]
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=0.9,
        n_resamples=500,
        random_state=np.random.default_rng(3),
    ).confidence_interval
    assert numbers(rows_of(result.out)[0], "ci_low", "ci_high") == [
        round(limit, 2) for limit in expected
    ]
    assert compare(*arguments, *common, "--seed", 3).out == result.out
    assert compare(*arguments, *common, "--seed", 4).out != result.out


def test_intervals_do_not_depend_on_the_order_of_the_rows(tables, compare):
    values = np.random.default_rng(0).random(20).round(4)
    names = [f"c{n:02}" for n in range(20)]
    forth = tables(A={"case": names, "dice": values})
    first = compare(*forth, *DICE, "--ci", "0.95").out
    back = tables(A={"case": names[::-1], "dice": values[::-1]})
    assert compare(*back, *DICE, "--ci", "0.95").out == first


# Tests


def test_the_papers_least_p_value(hundred):
    result = succeed(TOOL, *hundred, *DICE, "--table", "pvalues")
    assert result.lines == [
        "metric\tmodel\tA\tB",
        "dice\tA\t\t3.896559845e-18",
        "dice\tB\t3.896559845e-18\t",
    ]


def test_exact_p_of_five_cases(tables, compare):
    arguments = tables(A={"dice": [0.1, 0.2, 0.3, 0.4, 0.5]}, B={"dice": [0.2, 0.4, 0.6, 0.8, 1]})
    result = compare(*arguments, *DICE, "--table", "pvalues", "--method", "exact")
    assert rows_of(result.out)[0]["B"] == "0.0625"


def test_pairs_by_hand(tables, compare):
    # a - b: 1 2 0 -3 4
    arguments = tables(A={"assd_mm": [2, 4, 5, 1, 9, None]}, B={"assd_mm": [1, 2, 5, 4, 5, 1]})
    call = (*arguments, "--metric", "assd_mm", "--table", "pairs", "--method", "exact")
    result = compare(*call)
    (row,) = rows_of(result.out)
    assert row == {
        **{"metric": "assd_mm", "model_a": "A", "model_b": "B", "n": "5", "n_undefined": "1"},
        **{"mean_difference": "0.8", "median_difference": "1", "hodges_lehmann": "1"},
        # ranks 1 2 -3 4: A is worse, as lower is better
        **{"n_zero": "1", "rank_biserial": "-0.4", "w": "3", "p": "0.625", "p_adjusted": "0.625"},
        "p_superior": "0.3",  # better once and equal once in five
    }
    (pratt,) = rows_of(compare(*call, "--zeros", "pratt").out)
    assert (pratt["w"], numbers(pratt, "rank_biserial")) == ("4", pytest.approx([-6 / 14]))
    (filled,) = rows_of(compare(*call, "--empty", "worst").out)
    assert (filled["n"], filled["n_undefined"], filled["w"]) == ("6", "0", "3")


@pytest.mark.parametrize(
    ("method", "expected"),
    [("none", 0.25), ("bonferroni", 0.75), ("holm", 0.75), ("bh", 0.25)],
)
def test_adjusted_p_values(method, expected, tables, compare):
    models = {name: {"dice": [shift, shift + 0.1, shift + 0.3]} for shift, name in enumerate("ABC")}
    result = compare(
        *(*tables(**models), *DICE, "--table", "pvalues"),
        *("--method", "exact", "--adjust", method),
    )
    cells = [row[model] for row in rows_of(result.out) for model in "ABC" if row[model]]
    assert cells == [f"{expected:g}"] * 6


def test_effects_favor_the_row(tables, compare):
    arguments = tables(A={"dice": [0.1, 0.2, 0.9]}, B={"dice": [0.2, 0.4, 0.6]})
    a, b = rows_of(compare(*arguments, *DICE, "--table", "effects").out)
    # b - a: 0.1 0.2 -0.3
    assert (a["A"], a["B"], b["A"], b["B"]) == ("", "0", "0", "")
    arguments = tables(A={"dice": [0.1, 0.2, 0.9]}, B={"dice": [0.2, 0.4, 0.8]})
    a, b = rows_of(compare(*arguments, *DICE, "--table", "effects").out)
    # 0.1 0.2 -0.1: ranks 1.5 3 -1.5
    assert (a["B"], b["A"]) == ("-0.5", "0.5")
    turned = ("--lower-better", "dice", "--table", "effects")
    assert rows_of(compare(*arguments, *DICE, *turned).out)[0]["B"] == "0.5"


def test_intervals_of_differences(hundred, compare):
    call = (*hundred, *DICE, "--table", "pairs", "--ci", "0.95")
    (row,) = rows_of(compare(*call).out)
    low, mean, high = numbers(row, "ci_low", "mean_difference", "ci_high")
    # b - a = a + 0.1, of mean 0.302 and standard error 0.0116
    assert (low, mean, high) == pytest.approx((-0.302 - 0.0227, -0.302, -0.302 + 0.0227), abs=2e-3)


# Rankings


def test_ranking_by_hand(tables, compare):
    arguments = tables(
        A={"dice": [0.9, 0.8, 0.7]}, B={"dice": [0.5, 0.4, 0.3]}, C={"dice": [0.95, 0.1, 0.1]}
    )
    result = compare(*arguments, *DICE, "--table", "ranking", "--resamples", 20000)
    first, second, third = rows_of(result.out)
    # Of the 27 samples: C A B where C's good case is drawn three times (1); A C B where it is
    # drawn twice (6), or once and the third case twice (3); A B C in the other 17.
    assert [row["model"] for row in (first, second, third)] == ["A", "B", "C"]
    assert numbers(first, "value", "rank", "rank_1", "rank_2") == pytest.approx(
        [0.8, 1, 26 / 27, 1 / 27], abs=0.01
    )
    assert numbers(second, "rank_2", "rank_3") == pytest.approx([17 / 27, 10 / 27], abs=0.01)
    assert numbers(third, "rank_1", "rank_2", "rank_3") == pytest.approx(
        [1 / 27, 9 / 27, 17 / 27], abs=0.01
    )
    # One exchange of neighbors is a tau of 1/3, two are one of -1/3.
    assert numbers(first, "kendall_tau") == pytest.approx([(17 + 9 / 3 - 1 / 3) / 27], abs=0.01)


@pytest.mark.parametrize(("by", "order"), [("mean", "BA"), ("median", "AB"), ("ranks", "AB")])
def test_what_is_ranked(by, order, tables, compare):
    arguments = tables(A={"assd_mm": [1, 1, 10]}, B={"assd_mm": [2, 2, 2]})
    call = ("--metric", "assd_mm", "--table", "ranking", "--rank-by", by)
    rows = rows_of(compare(*arguments, *call).out)
    assert "".join(row["model"] for row in rows) == order


def test_ranking_of_a_foreign_column(tables, compare):
    arguments = tables(A={"score": [1, 2]}, B={"score": [3, 4]})
    call = (*arguments, "--metric", "score", "--table", "ranking")
    message = "which values of score are better is not known: say --higher-better score or"
    assert usage_error(TOOL, *call).startswith(message)
    for option, best in (("--higher-better", "B"), ("--lower-better", "A")):
        assert rows_of(compare(*call, option, "score").out)[0]["model"] == best


# Forms


@pytest.fixture
def small(tables) -> list[str]:
    return tables(
        **{
            "Model_1": {"dice": [0.5, 0.7, 0.6], "assd_mm": [4, None, 6]},
            "Model 2": {"dice": [0.6, 0.9, 0.6], "assd_mm": [1, 3, 2]},
        }
    )


def test_summary_in_markdown(small, compare):
    result = compare(*small, "--format", "markdown")
    assert result.lines == [
        "| model | Dice ↑ mean ± SD (n - 1) | Dice median | Dice n "
        "| ASSD (mm) ↓ mean ± SD (n - 1) | ASSD median | ASSD n | ASSD undefined "
        "| ASSD dropped | ASSD filled |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Model_1 | 0.600 ± 0.100 | 0.600 | 3 | 5.00 ± 1.41 | 5.00 | 2 | 1 | 5.00 | 5.33 |",
        "| Model 2 | **0.700 ± 0.173** | 0.600 | 3 | 2.00 ± 1.00 | 2.00 | 3 | 0 | 2.00 | 2.00 |",
    ]


def test_best_means_are_bold_only_over_the_same_cases(tables, compare):
    arguments = tables(
        A={"dice": [0.5, 0.5, 0.6], "assd_mm": [1, None, 3]},
        B={"dice": [0.5, 0.9, 0.6], "assd_mm": [None, 4, 5]},
    )
    options = ("--metric", "assd_mm", "--format", "markdown")
    dropped = compare(*arguments, *options).lines[2:]  # two cases each, but not the same two
    assert [line.split(" | ")[1] for line in dropped] == ["2.00 ± 1.41", "4.50 ± 0.71"]
    filled = compare(*arguments, *options, "--empty", "worst").lines[2:]
    assert [line.split(" | ")[1] for line in filled] == ["**3.00 ± 2.00**", "4.67 ± 0.58"]
    shared = tables(A={"assd_mm": [1, None]}, B={"assd_mm": [2, None]})
    assert "| A | **1.00 ± –** |" in compare(*shared, *options).out


def test_undefined_values_that_are_left_out_are_told(tables, compare):
    models = {name: {"dice": [0.5] * 6, "assd_mm": [1] * 6} for name in "ABCD"}
    models["D"]["assd_mm"] = [None, 1, 1, 1, 1, None]
    line = "lnq-compare: warning: assd_mm: 2 of 6 cases of D are undefined and left out (--empty)\n"
    arguments = tables(**models)
    for shown in ("summary", "pairs", "pvalues", "effects", "ranking"):
        call = (*arguments, "--table", shown)
        assert compare(*call).err == line
        assert compare(*call, "-q").err == ""
        assert compare(*call, "--empty", "worst").err == ""
    models = {name: dict(columns) for name, columns in models.items()}
    for columns in models.values():
        columns.pop("case", None)
    models["A"]["dice"] = [None] * 6
    models["B"]["assd_mm"] = [1] * 5 + [None]
    assert compare(*tables(**models)).err == (
        "lnq-compare: warning: dice: 6 of 6 cases of A are undefined and left out (--empty)\n"
        "lnq-compare: warning: assd_mm: 1 of 6 cases of B, 2 of 6 cases of D are undefined and "
        "left out (--empty)\n"
    )


def test_p_values_in_latex(small, compare):
    options = ("--table", "pvalues", "--metric", "dice", "--method", "exact")
    result = compare(*small, *options, "--format", "latex")
    assert result.lines == [
        r"\begin{tabular}{lrrrr}  % \usepackage{booktabs}",
        r"\toprule",
        r"Dice $\uparrow$ & Model\_1 & Model 2 & mean $\pm$ SD (n - 1) & n (undefined) \\",
        r"\midrule",
        r"Model\_1 & -- & 0.5 & 0.600 $\pm$ 0.100 & 3 (0) \\",
        r"Model 2 & 0.5 & -- & 0.700 $\pm$ 0.173 & 3 (0) \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_papers_p_value_as_the_paper_prints_it(hundred, compare):
    call = (*hundred, *DICE, "--table", "pvalues")
    assert "| A | – | 3.9e-18 | " in compare(*call, "--format", "markdown").out
    assert r"A & -- & $3.9 \times 10^{-18}$ & " in compare(*call, "--format", "latex").out


def test_other_tables_in_markdown(small, compare):
    common = ("--format", "markdown")
    pairs = compare(*small, *common, "--table", "pairs", "--method", "exact").lines
    assert pairs[2:4] == [
        "| Model_1 – Model 2 | 3 | 0 | -0.100 | -0.100 | -1.00 | 0.17 | 0.5 | 0.5 |",
        "",
    ]
    assert pairs[-1] == "| Model_1 – Model 2 | 2 | 1 | 3.50 | 3.50 | -1.00 | 0.00 | 0.5 | 0.5 |"
    effects = compare(*small, *common, "--table", "effects").lines
    assert effects[2:4] == ["| Model_1 | – | -1.00 |", "| Model 2 | +1.00 | – |"]
    ranking = compare(*small, *common, "--table", "ranking", *("--metric", "assd_mm")).lines
    assert ranking == [
        "| ASSD (mm) ↓ | rank | mean | 95 % CI | n | undefined | p to next | 95 % of samples "
        "| rank 1 | rank 2 | Kendall's τ |",
        f"| --- |{' ---: |' * 10}",
        "| Model 2 | 1 | 1.50 | 1 to 2 | 2 | 1 | 0.18 | 1 to 1 | 1.00 | 0.00 | 1.00 |",
        "| Model_1 | 2 | 5.00 | 4 to 6 | 2 | 1 | – | 2 to 2 | 0.00 | 1.00 | 1.00 |",
    ]
    complete = compare(*small, *common, "--table", "ranking", *DICE).lines
    assert complete[0].startswith("| Dice ↑ | rank | mean | 95 % CI | n | p to next |")
    assert complete[2].startswith("| Model 2 | 1 | 0.700 | 0.6 to 0.9 | 3 | 0.18 | 1 to ")


def test_a_matrix_says_which_cases_its_means_are_over(small, compare):
    call = (*small, "--metric", "assd_mm", "--table", "pvalues", "--format", "markdown")
    dropped = compare(*call).lines
    assert dropped[0] == "| ASSD (mm) ↓ | Model_1 | Model 2 | mean ± SD (n - 1) | n (undefined) |"
    assert [line.split(" | ")[-2:] for line in dropped[2:]] == [
        ["5.00 ± 1.41", "2 (1) |"],
        ["2.00 ± 1.00", "3 (0) |"],
    ]
    filled = compare(*call, "--empty", "worst").lines
    assert filled[2].endswith(" | 5.33 ± 1.15 | 3 (0) |")


def test_intervals_in_markdown(tables, compare):
    arguments = tables(A={"dice": [0.5] * 4}, B={"dice": [0.25] * 4})
    common = (*arguments, *DICE, "--format", "markdown", "--ci", "0.95")
    summary = compare(*common).lines
    assert summary[0] == (
        "| model | Dice ↑ mean ± SD (n - 1) | Dice median | Dice 95 % CI (percentile) | Dice n |"
    )
    assert summary[2] == "| A | **0.500 ± 0.000** | 0.500 | 0.5 to 0.5 | 4 |"
    assert "| 0.250 | 0.25 to 0.25 |" in compare(*common, "--table", "pairs").lines[2]


def test_json_lines(small, compare):
    rows = rows_of(compare(*small, "--format", "jsonl", "--table", "pvalues").out, "jsonl")
    assert [list(row) for row in rows] == [["metric", "model", "Model_1", "Model 2"]] * 4
    assert rows[0]["Model_1"] is None


# Some rows of a table


def test_tables_of_lesions_found_are_compared_in_a_stratum(tables, compare):
    strata = {"case": ["a", "a", "b", "b"], "stratum": ["all", "small"] * 2}
    arguments = tables(
        A={**strata, "f1": [0.5, 0, 0.7, 1], "fp": [3, 2, 1, 0]},
        B={**strata, "f1": [1, 0.5, 0.5, None], "fp": [0, 0, 2, 1]},
    )
    call = (*arguments, "--metric", "f1", "--metric", "fp")
    refused = compare(*call)
    assert (refused.status, refused.out) == (1, "")
    assert "more than one row of case a; one row per case is needed: --where keeps" in refused.err
    result = compare(*call, "--where", "stratum=all")
    assert [numbers(row, "mean", "n") for row in rows_of(result.out)] == [
        *([pytest.approx(0.6), 2], [0.75, 2], [2, 2], [1, 2])
    ]
    both = compare(*call, "--where", "stratum=all", "--where", "case=b", "--format", "markdown")
    assert both.lines[2].startswith("| A | **0.700 ± –** | 0.700 | 1 | **1.00")


def test_tables_of_lnq_metrics_detection_itself(tmp_path):
    truth = np.zeros((4, 8, 12), np.uint8)
    truth[1:3, 1:3, 1:3] = truth[1:3, 5:7, 8:10] = 1
    half = truth.copy()
    half[:, :, 6:] = 0
    for folder, mask in (("truth", truth), ("same", truth), ("half", half)):
        save(tmp_path / folder / "a.nii.gz", mask)
    line = (
        "for model in same half; do"
        "  lnq-metrics $model/a.nii.gz --reference truth --detection -o $model.tsv; done; "
        "lnq-compare same=same.tsv half=half.tsv --where stratum=all --metric f1 --metric fn"
    )
    result = shell(line, tmp_path)
    assert (result.status, result.err) == (0, "")
    means = [numbers(row, "mean") for row in rows_of(result.out)]
    assert means == [[1], [pytest.approx(2 / 3)], [0], [1]]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("stratum=all", "has no column named stratum; it has case, dice"),
        ("case=x", "has no row of case=x"),
        ("case=", "has no row of case="),
    ],
)
def test_conditions_that_no_row_meets(condition, message, tables, compare):
    (argument,) = tables(A={"dice": [1]})
    result = compare(argument, *DICE, "--where", condition)
    assert (result.status, result.out) == (1, "")
    assert result.err == f"lnq-compare: {argument[2:]}: {message}\n"


# Cases and tables that do not fit together


@pytest.fixture
def unpaired(tables) -> list[str]:
    return tables(
        A={"case": ["a", "b", "c"], "dice": [1, 1, 0.5]},
        B={"case": ["b", "c", "d"], "dice": [0.5, 0, 1]},
    )


def test_unpaired_cases_are_refused(unpaired):
    result = run(TOOL, *unpaired, *DICE)
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "lnq-compare: A has no row of d; B has no row of a; "
        "--missing drop leaves such cases out for all, --missing worst lets the worst value stand "
        "for them\n"
    )


def test_unpaired_cases_are_left_out_on_request(unpaired, compare):
    result = compare(*unpaired, *DICE, "--intersect")
    assert [row["mean"] for row in rows_of(result.out)] == ["0.75", "0.25"]
    assert result.err == (
        "lnq-compare: warning: A has no row of d; B has no row of a; left out for all\n"
    )
    assert compare(*unpaired, *DICE, "--intersect", "-q").err == ""


def test_other_references_are_told(tables, compare):
    arguments = tables(
        A={"dice": [1, 1], "volume_reference_ml": [1.5, 2]},
        B={"dice": [1, 1], "volume_reference_ml": [1.5, 3]},
    )
    result = compare(*arguments, *DICE)
    assert result.err == (
        "lnq-compare: warning: the volume of the reference differs between tables, as if of "
        "different references, in case001\n"
    )


def test_other_presets_are_told(tables, compare):
    arguments = tables(A={"dice": [1], "preset": ["medpy"]}, B={"dice": [1], "preset": ["lnq2023"]})
    assert compare(*arguments, *DICE).err == (
        "lnq-compare: warning: the tables were not made with one --preset and --edge of "
        "lnq-metrics\n"
    )


# Bad inputs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is empty: a table begins with a line of names"),
        ("case\tdice\n", "has names of columns but no row"),
        ("case\tiou\na\t1\n", "has no column named dice; it has iou"),
        ("metric\tmean\ndice\t1\n", "has no column named case; one row per case is needed, as "),
        ("case\tdice\na\tx\n", "case a: dice is 'x', not a number"),
        ("case\tdice\na\t1\na\t2\n", "has more than one row of case a; one row per case is needed"),
        ("case\tdice\na\n", "line 2 has 1 cells instead of 2"),
        ('{"case": "a"\n', "line 1 is not JSON"),
        ("case\tdice\na\0\t1\n", "is not text in UTF-8, as a table is"),
    ],
)
def test_bad_tables_are_named(content, message, tables, tmp_path, compare):
    path = tmp_path / "bad"
    if content is not None:
        path.write_text(content)
    result = compare(*tables(A={"dice": [1]}), f"B={path}", *DICE)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"lnq-compare: {path}: {message}")
    assert result.err.count("\n") == 1


def test_a_directory_is_no_table(tmp_path):
    result = run(TOOL, f"A={tmp_path}")
    assert result.status == 1
    assert result.err == f"lnq-compare: {tmp_path}: cannot be read: Is a directory\n"


def test_every_bad_table_is_named(tmp_path):
    result = run(TOOL, f"A={tmp_path}/a", "B=-", f"C={tmp_path}/c", stdin=b"")
    assert result.status == 1
    starts = [line.split(": ")[1] for line in result.err.splitlines()]
    assert starts == [f"{tmp_path}/a", "standard input", f"{tmp_path}/c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no input: name tables as NAME=FILE"),
        (("a.tsv",), "'a.tsv' is not NAME=FILE"),
        (("=a.tsv",), "'=a.tsv' is not [NAME=]FILE"),
        ((" =a.tsv",), "' =a.tsv' is not [NAME=]FILE"),
        (("A=",), "'A=' is not [NAME=]FILE"),
        (("A=a", "A=b"), "two tables are named A"),
        (("model=a",), "model is the name of a column; give the model another name"),
        (("A=-", "B=-"), "standard input can be read only once"),
        (("A=a", "--table", "pvalues"), "--table pvalues needs at least two models"),
        (("A=a", "--table", "ranking"), "--table ranking needs at least two models"),
        (("A=a", "--adjust", "holm"), "--adjust is for --table pairs|pvalues"),
        (
            ("A=a", "B=b", "--table", "effects", "--method", "exact"),
            "--method is for --table pairs|pvalues",
        ),
        (("A=a", "--seed", "1"), "--seed is for --ci or --table ranking"),
        (
            ("A=a", "B=b", "--table", "ranking", "--ci", "0.9"),
            "--ci is for --table summary|pairs",
        ),
        (("A=a", "--where", "stratum"), "'stratum' is not COLUMN=VALUE"),
        (("A=a", "--where", "=all"), "'=all' is not COLUMN=VALUE"),
        (("A=a", "--lower-better", "x"), "x is not compared: name it with --metric, too"),
        (
            ("A=a", "--metric", "x", "--lower-better", "x", "--higher-better", "x"),
            "--higher-better and --lower-better both name x",
        ),
        (("A=a", "--metric", "x", "--empty", "worst"), "which values of x are better"),
        (("A=a", "--empty", "best"), "'best' is neither drop, worst nor a number ≥ 0"),
        (("A=a", "--empty", "nan"), "'nan' is neither drop, worst nor a number ≥ 0"),
        (("A=a", "--ci", "95"), "95.0 is not in the range 0<x<1"),
        (("A=a.md", "-o", "a.md"), "a.md is an input and would be overwritten"),
        (("A=a", "-o", "x.nii"), "x.nii: a table is named .tsv, .csv, .jsonl, .md or .tex"),
        (("A=a", "-o", "no/t.md"), "no/t.md: there is no such directory"),
    ],
)
def test_wrong_usage(arguments, message):
    assert message in usage_error(TOOL, *arguments)


def test_names_and_paths_may_hold_anything(tmp_path, compare):
    path = tmp_path / "a=b c.tsv"
    path.write_text("case\tdice\nx\t0.5\n")
    result = compare(f"Model 1: the\tfirst={path}", *DICE)
    assert rows_of(result.out)[0]["model"] == r"Model 1: the\tfirst"


def test_files_are_replaced_on_request_only(hundred, tmp_path):
    out = tmp_path / "out.tsv"
    assert succeed(TOOL, *hundred, *DICE, "-o", out).out == ""
    first = out.read_text()
    assert first == succeed(TOOL, *hundred, *DICE).out
    result = run(TOOL, *hundred, *DICE, "-o", out, "--ci", 0.9)
    assert (result.status, out.read_text()) == (2, first)
    assert "exists; -f replaces it" in result.err
    succeed(TOOL, *hundred, *DICE, "-o", out, "--ci", 0.9, "-f")
    assert out.read_text() == succeed(TOOL, *hundred, *DICE, "--ci", 0.9).out != first


def test_head_ends_it_quietly(hundred):
    process = subprocess.Popen(
        [BIN / TOOL, *hundred, *DICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == -signal.SIGPIPE
