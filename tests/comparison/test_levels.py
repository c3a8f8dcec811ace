"""Two levels, as seeds and cases: intervals, ranks and power, against loops and simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools.comparison.intervals import bootstrap_interval, resampled_means
from lnqtools.comparison.paired import pair_rows, significance_rows, superiority
from lnqtools.comparison.power import (
    chance_to_find,
    detectable,
    power_rows,
    spreads,
    standard_error,
)
from lnqtools.comparison.ranking import case_ranks, rank_rows
from lnqtools.comparison.summaries import summary_rows
from lnqtools.comparison.tables import Scores, align, fill, grouped, read_model, split_rows
from lnqtools.comparison.text import power_text, rank_text, summary_text, verdict_text
from lnqtools.errors import LnqError
from lnqtools.files.tables import cell_text

NAN = math.nan


def scores(values, metric="dice", better="higher") -> Scores:
    """Return scores of models A, B, ... from (models, cases) or (groups, models, cases)."""
    array = np.array(values, float)
    models, cases = array.shape[-2:]
    return Scores(
        *(metric, better, tuple("ABCDEFGH"[:models]), tuple(map(str, range(cases)))),
        *(array, np.zeros(array.shape, bool)),
    )


def means_the_long_way(levels, resamples, seed):
    """Draw groups and cases and average them, one sample after the other."""
    generator = np.random.default_rng(seed)
    groups, cases = levels.shape
    drawn_groups = generator.integers(groups, size=(resamples, groups))
    drawn_cases = generator.integers(cases, size=(resamples, cases))
    return [levels[of][:, cs].mean() for of, cs in zip(drawn_groups, drawn_cases, strict=True)]


# Intervals


@pytest.mark.parametrize("at_once", [1, 70, 2**21])
def test_samples_are_of_groups_and_cases_together(at_once, monkeypatch):
    monkeypatch.setattr("lnqtools.comparison.intervals.RESAMPLED_VALUES", at_once)
    levels = np.random.default_rng(0).random((3, 7))
    ours = resampled_means(levels, resamples=50, seed=5)
    assert ours == pytest.approx(means_the_long_way(levels, 50, 5), abs=1e-14)


def test_an_interval_over_groups_is_that_of_the_long_way():
    levels = np.random.default_rng(1).random((4, 30))
    ours = bootstrap_interval(levels, 0.9, resamples=3000, seed=2)
    theirs = np.percentile(means_the_long_way(levels, 3000, 2), [5, 95])
    assert ours == pytest.approx(theirs, abs=0.001)


def test_groups_that_differ_by_more_than_their_cases_widen_the_interval():
    cases = np.random.default_rng(1).normal(0.05, 0.01, 500)
    apart = scores([[cases - 0.04], [cases + 0.04]])
    alike = scores([[cases], [cases]])
    (row,) = summary_rows(apart, level=0.95, resamples=2000)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.01, 0.09), abs=0.003)
    assert row["ci_method"] == "percentile"
    assert row["sd_groups"] == pytest.approx(0.04 * math.sqrt(2))
    (row,) = summary_rows(alike, level=0.95, resamples=2000)
    assert row["ci_high"] - row["ci_low"] < 0.003
    assert row["sd_groups"] == 0


def test_a_summary_of_groups_is_of_the_means_of_cases():
    both = scores([[[0.2, 0.4, NAN]], [[0.4, 0.8, 0.5]]])
    (row,) = summary_rows(both)
    assert (row["mean"], row["n"], row["n_undefined"]) == (pytest.approx(0.45), 2, 1)
    assert row["sd"] == pytest.approx(np.std([0.3, 0.6], ddof=1))
    filled = fill(both, "worst")
    assert filled.of_cases.tolist() == [pytest.approx([0.3, 0.6, 0.25])]


def test_groups_are_parted_in_the_order_of_the_models_within_each():
    flat = Scores(
        *("dice", "higher", ("A 0", "B 0", "A 1", "B 1"), ("x", "y")),
        *(np.arange(8.0).reshape(4, 2), np.zeros((4, 2), bool), {"B 0": 1, "B 1": 2}),
    )
    parted = grouped(flat, ["A", "B"], ["0", "1"])
    assert parted.of_cases.tolist() == [[2, 3], [4, 5]]
    assert (parted.models, parted.missing) == (("A", "B"), {"B": 3})


@pytest.mark.parametrize(("spread", "column"), [("sample", "sd"), ("population", "sd_population")])
def test_the_column_says_which_standard_deviation_it_is(spread, column):
    values = [0.1, 0.4, 0.7, 0.9]
    (row,) = summary_rows(scores([values]), spread=spread)
    assert row[column] == pytest.approx(np.std(values, ddof=spread == "sample"))
    assert {"sd", "sd_population"} & row.keys() == {column}
    (row,) = summary_rows(scores([[0.5]]), spread=spread)
    assert row[column] == {"sample": None, "population": 0}[spread]


def test_samples_on_one_side_of_the_mean_make_no_interval():
    """Of so few samples BCa's bias is infinite now and then: then there is no limit, not NaN."""
    values = np.random.default_rng(9).random(12)
    limits = [bootstrap_interval(values, 0.05, resamples=3, seed=seed) for seed in range(40)]
    known = [low is not None for low, _ in limits]
    assert 5 < sum(known) < 40
    assert not any(math.isnan(limit) for pair in limits for limit in pair if limit is not None)


# Missing cases


def table(metric="dice", **values):
    """Return a model's table of one metric by case; a case may be empty of a reference."""
    rows = [
        {"case": case, metric: value, "status": "ok" if value is not None else "empty_reference"}
        for case, value in values.items()
    ]
    return read_model(rows, [metric])


@pytest.mark.parametrize(
    ("metric", "better", "empty", "expected"),
    [
        ("dice", "higher", "drop", 0),
        ("assd_mm", "lower", "drop", 0.9),
        ("assd_mm", "lower", 115.27, 115.27),
        ("psnr", "higher", "worst", 0),
    ],
)
def test_the_worst_value_stands_for_a_case_that_a_model_lacks(metric, better, empty, expected):
    tables = {"A": table(metric, x=0.5, y=0.9), "B": table(metric, x=0.7)}
    found = align(tables, metric, better=better, missing="worst", empty=empty)
    assert found.values.tolist() == [[0.5, 0.9], [0.7, expected]]
    assert found.missing == {"B": 1}
    dropped = align(tables, metric, missing="drop")
    assert (dropped.values.tolist(), dropped.missing) == ([[0.5], [0.7]], {"B": 1})
    with pytest.raises(LnqError, match="B has no row of y; --missing drop"):
        align(tables, metric)
    with pytest.raises(LnqError, match="B has no row of y; so"):
        align(tables, metric, way_on="so")


def test_nothing_stands_for_what_nobody_can_be_judged_by():
    tables = {"A": table("recall", x=0.5, y=None), "B": table("recall", x=0.7)}
    found = align(tables, "recall", better="higher", missing="worst")
    np.testing.assert_array_equal(found.values, [[0.5, NAN], [0.7, NAN]])
    lost = {"A": table("assd_mm", x=None), "B": table("assd_mm", y=None)}
    found = align(lost, "assd_mm", better="lower", missing="worst")
    assert np.isnan(found.values).all()  # no distance at all: there is no worst one
    with pytest.raises(LnqError, match="which values of x are better is not known"):
        align({"A": table("x", a=1), "B": table("x", b=1)}, "x", missing="worst")


def test_groups_and_missing_cases_are_shown_for_a_paper():
    tables = {name: table(x=0.5, y=0.9) for name in ("A 0", "B 0", "A 1")} | {"B 1": table(x=0.7)}
    flat = align(tables, "dice", better="higher", missing="worst")
    both = grouped(flat, ["A", "B"], ["0", "1"])
    (head, a, b) = summary_text(summary_rows(both), {"dice": "higher"})
    assert head[3:] == ["Dice SD of groups", "Dice n", "Dice missing"]
    assert (a[-3:], b[-3:]) == (["0.000", "2", "0"], ["0.247", "2", "1"])
    head, first, second = rank_text(rank_rows(both, resamples=40), "higher", "mean")
    assert [(row[0], row[head.index("missing")]) for row in (first, second)] == [
        ("A", "0"),
        ("B", "1"),
    ]


# Pairs


def test_superiority_is_the_mann_whitney_effect_of_paired_cases():
    differences = np.array([0.1, 0.2, 0, -0.3])
    assert superiority(differences, "higher").tolist() == [1, 1, 0.5, 0]
    assert superiority(differences, "lower").tolist() == [0, 0, 0.5, 1]


def test_superiority_is_over_groups_and_cases():
    a, b = [[0.5, 0.6, 0.7], [0.5, 0.9, 0.2]], [[0.4, 0.6, 0.8], [0.1, 0.2, 0.1]]
    (row,) = pair_rows(scores([[a[0], b[0]], [a[1], b[1]]]), level=0.9, resamples=500)
    wins = [
        1 if x > y else 0.5 if x == y else 0
        for of_a, of_b in zip(a, b, strict=True)
        for x, y in zip(of_a, of_b, strict=True)
    ]
    assert row["p_superior"] == pytest.approx(sum(wins) / 6)
    assert row["p_superior_low"] < row["p_superior"] < row["p_superior_high"]
    assert row["mean_difference"] == pytest.approx(np.mean(a) - np.mean(b))


def test_the_test_of_groups_is_of_the_means_of_cases():
    values = np.random.default_rng(3).random((4, 2, 25))
    (row,) = pair_rows(scores(values), resamples=9)
    differences = values.mean(axis=0)[0] - values.mean(axis=0)[1]
    expected = scipy.stats.wilcoxon(differences, correction=False, method="approx")
    assert (row["w"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))


# Ranks over metrics


def ranks_the_long_way(dice, assd):
    """Rank as LNQ2023: 1 + the number of teams that are better, the mean of both, over cases."""
    totals = np.zeros(len(dice))
    for case in range(dice.shape[1]):
        for team in range(len(dice)):
            better = sum(other > dice[team, case] for other in dice[:, case])
            nearer = sum(other < assd[team, case] for other in assd[:, case])
            totals[team] += ((1 + better) + (1 + nearer)) / 2
    return totals / dice.shape[1]


def test_ranks_within_cases_over_two_metrics_are_the_challenges():
    random = np.random.default_rng(4)
    dice, assd = random.integers(0, 5, (5, 40)) / 4, random.integers(1, 6, (5, 40)) * 1.5
    together = case_ranks([scores(dice), scores(assd, "assd_mm", "lower")])
    expected = ranks_the_long_way(dice, assd)
    assert together.of_cases.mean(axis=1) == pytest.approx(expected)
    assert together.metric == "mean_rank(dice,assd_mm)"
    assert together.column.title == "mean rank (Dice, ASSD)"
    rows = rank_rows(together, resamples=200)
    assert {row["model"]: row["value"] for row in rows} == pytest.approx(
        dict(zip("ABCDE", expected, strict=True))
    )
    assert [row["value"] for row in rows] == sorted(expected)


def test_a_value_of_0_has_no_sign():
    rows = rank_rows(scores([[0, 0], [0.5, 0.5]]), resamples=40)
    assert [str(rows[1][name]) for name in ("value", "value_low", "value_high")] == ["0.0"] * 3


def test_tied_ranks_may_be_averaged():
    tied = scores([[1, 1], [1, 0], [0, 0]])
    assert case_ranks([tied], "min").of_cases.tolist() == [[1, 1], [1, 2], [3, 2]]
    assert case_ranks([tied], "average").of_cases.tolist() == [[1.5, 1], [1.5, 2.5], [3, 2.5]]
    with pytest.raises(LnqError, match="rank of ties 'max' is not one of min, average"):
        case_ranks([tied], "max")


def test_a_case_that_one_model_lacks_a_value_of_ranks_nobody():
    together = case_ranks(
        [scores([[1, 0], [0, 1]]), scores([[1, NAN], [2, 3]], "assd_mm", "lower")]
    )
    np.testing.assert_array_equal(together.of_cases, [[1, NAN], [2, NAN]])


def test_the_stability_of_a_combined_rank_is_that_of_a_loop():
    random = np.random.default_rng(5)
    dice, assd = random.random((4, 30)).round(2), random.random((4, 30)).round(2)
    together = case_ranks([scores(dice), scores(assd, "assd_mm", "lower")])
    rows = rank_rows(together, resamples=400, seed=7)
    ranks = together.of_cases
    order = scipy.stats.rankdata(ranks.mean(axis=1).round(12), method="min")
    drawn = np.random.default_rng(7).integers(30, size=(400, 30))
    samples = np.array([ranks[:, cases].mean(axis=1) for cases in drawn])
    sampled = np.array([scipy.stats.rankdata(of.round(12), method="min") for of in samples])
    tau = [scipy.stats.kendalltau(of, order).statistic for of in sampled]
    for row in rows:
        k = "ABCD".index(row["model"])
        assert row["rank"] == order[k]
        assert row["rank_mean"] == pytest.approx(sampled[:, k].mean())
        assert row["rank_1"] == pytest.approx((sampled[:, k] == 1).mean())
        limits = np.quantile(samples[:, k], [0.025, 0.975])
        assert (row["value_low"], row["value_high"]) == pytest.approx(limits, abs=0.06)
        assert row["kendall_tau"] == pytest.approx(np.mean(tau))
    by_model = dict(zip("ABCD", ranks, strict=True))
    for row, following in pairwise(rows):
        apart = (by_model[row["model"]] - by_model[following["model"]]).round(12)
        expected = scipy.stats.wilcoxon(apart, correction=False, method="approx").pvalue
        assert row["p_next"] == pytest.approx(expected)
    assert rows[-1]["p_next"] is None


def test_groups_count_in_the_stability_of_a_rank():
    """B wins by cases in all seeds but one: the rank is as unsure as that seed is likely."""
    good, bad = np.full(50, 0.9), np.full(50, 0.1)
    values = np.array([[good, good - 0.1]] * 2 + [[bad, bad + 0.9]])
    rows = rank_rows(scores(values), resamples=4000)
    a = next(row for row in rows if row["model"] == "A")
    # seed 3 makes 0.9 of a difference, the others 0.1: A wins if it is not drawn (8 of 27)
    assert a["rank_1"] == pytest.approx(8 / 27, abs=0.02)


# Power


def test_the_protocols_power_by_hand():
    """.18/√100 and .024·√2/√5 together .0235; 80 % at .05 takes 2.8 of that."""
    error = standard_error(
        spreads(np.zeros((1, 2)))._replace(cases=0.18, groups=0.024 * 2**0.5), 100, 5
    )
    assert error == pytest.approx(math.hypot(0.018, 0.024 * math.sqrt(2 / 5)))
    assert detectable(error) == pytest.approx(0.066, abs=5e-4)
    assert chance_to_find(detectable(error), error) == pytest.approx(0.8, abs=1e-6)
    assert chance_to_find(0, error) == pytest.approx(0.05)
    assert chance_to_find(0.1, 0) == 1


def test_spreads_are_those_that_were_simulated():
    random = np.random.default_rng(6)
    found = [
        spreads(
            0.1
            + random.normal(0, 0.3, 40)
            + random.normal(0, 0.2, (6, 1))
            + random.normal(0, 0.1, (6, 40))
        )
        for _ in range(400)
    ]
    squares = np.mean([(f.cases**2, f.groups**2, f.rest**2) for f in found], axis=0)
    assert squares == pytest.approx([0.09, 0.04, 0.01], rel=0.1)


def test_power_is_how_often_a_simulated_study_finds_the_difference():
    random = np.random.default_rng(7)
    cases, groups, difference = 60, 4, 0.25
    error = math.sqrt(0.3**2 / cases + 0.15**2 / groups + 0.2**2 / (cases * groups))
    means = [
        (
            difference
            + random.normal(0, 0.3, cases)
            + random.normal(0, 0.15, (groups, 1))
            + random.normal(0, 0.2, (groups, cases))
        ).mean()
        for _ in range(4000)
    ]
    found = np.mean(np.abs(means) > scipy.stats.norm.ppf(0.975) * error)
    assert chance_to_find(difference, error) == pytest.approx(found, abs=0.02)


def test_power_rows_plan_another_study():
    values = np.random.default_rng(8).random((3, 2, 20))
    (row,) = power_rows(scores(values), n_cases=80, n_groups=6, difference=0.1)
    found = spreads(values[:, 0] - values[:, 1])
    error = math.sqrt(found.cases**2 / 80 + found.groups**2 / 6 + found.rest**2 / 480)
    assert row["standard_error"] == pytest.approx(error)
    assert (row["n_cases"], row["n_groups"], row["n"]) == (80, 6, 20)
    assert row["power"] == pytest.approx(chance_to_find(0.1, error))
    (row,) = power_rows(scores(values[0]))
    sd = np.std(values[0, 0] - values[0, 1], ddof=1)
    assert (row["sd_cases"], row["sd_groups"], row["sd_rest"]) == (pytest.approx(sd), None, None)
    assert row["standard_error"] == pytest.approx(sd / math.sqrt(20))
    with pytest.raises(LnqError, match="how seeds differ is not known"):
        power_rows(scores(values[0]), n_groups=2)
    (row,) = power_rows(scores([[0.1, NAN], [0.2, 0.3]]), difference=0.1)
    assert (row["standard_error"], row["detectable"], row["power"]) == (None, None, None)


# What holds of any tables

few = settings(max_examples=40, deadline=None)
cells = st.none() | st.integers(-2, 2) | st.floats(-1, 1) | st.text(max_size=2)


@given(
    st.lists(
        st.fixed_dictionaries({"a": cells.filter(lambda c: c is not None), "b": cells}), min_size=1
    )
)
@few
def test_the_parts_of_a_table_are_all_its_rows_in_their_order(rows):
    parts = split_rows(rows, "a")
    assert sorted(map(id, rows)) == sorted(id(row) for part in parts.values() for row in part)
    at = {id(row): k for k, row in enumerate(rows)}
    for part in parts.values():
        numbers = [at[id(row)] for row in part]
        assert numbers == sorted(numbers)
        assert len({cell_text(row["a"]) for row in part}) == 1
    with pytest.raises(LnqError, match="has no column named c"):
        split_rows(rows, "c")
    with pytest.raises(LnqError, match="row 1 has nothing in the column a"):
        split_rows([{"a": None}, *rows], "a")


@st.composite
def many_levels(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(1, 6)))
    values = draw(hnp.arrays(float, shape, elements=st.sampled_from([NAN, 0, 0.25, 0.5, 1])))
    return scores(values, better=draw(st.sampled_from(["higher", "lower"])))


@given(many_levels())
@few
def test_groups_parted_and_put_together_are_the_same(levels):
    groups, models, cases = levels.values.shape
    names = tuple(f"{model} {k}" for k in range(groups) for model in levels.models)
    values = levels.values.reshape(-1, cases)
    flat = Scores("dice", "higher", names, levels.cases, values, np.isnan(values))
    parted = grouped(flat, levels.models, [str(k) for k in range(groups)])
    np.testing.assert_array_equal(parted.values, levels.values)
    assert parted.of_cases.shape == (models, cases)


@given(many_levels(), st.sampled_from([0.05, 0.5]))
@few
def test_a_significance_map_mirrors_itself_and_agrees_with_the_tests(levels, alpha):
    pairs = pair_rows(levels, resamples=9)
    order = levels.models[::-1]
    rows = significance_rows(pairs, order, alpha)
    assert [row["model"] for row in rows] == list(order)
    cells = {(row["model"], other): row[other] for row in rows for other in order}
    for pair in pairs:
        a, b = pair["model_a"], pair["model_b"]
        if pair["p"] is None:
            assert cells[a, b] is cells[b, a] is None
            continue
        assert cells[a, b] == -cells[b, a]
        assert (cells[a, b] != 0) == (pair["p_adjusted"] < alpha)
        assert {cells[a, b], cells[b, a]} in ({0}, {-1, 1})
    words = {verdict_text(cell) for cell in cells.values()}
    assert words <= {"better", "worse", "=", "–"}
    assert all(verdict_text(cells[model, model]) == "–" for model in order)


@given(
    hnp.arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 8)), elements=st.floats(-1, 1)),
    st.floats(0.1, 10),
)
@few
def test_more_cases_and_groups_never_find_less(levels, factor):
    found = spreads(levels)
    error = standard_error(found, 10, 3)
    for more in (standard_error(found, 20, 3), standard_error(found, 10, 4)):
        assert more <= error
    scaled = standard_error(spreads(levels * factor), 10, 3)
    assert scaled == pytest.approx(error * factor, abs=1e-9)
    if error > 1e-6:
        assert chance_to_find(detectable(error), error) == pytest.approx(0.8, abs=1e-4)
        assert chance_to_find(0.1, error) <= chance_to_find(0.2, error)


@given(many_levels())
@few
def test_any_plan_is_set_as_a_table(levels):
    rows = power_rows(levels, n_cases=50, difference=0.1)
    assert len(rows) == math.comb(len(levels.models), 2)
    text = power_text(rows, levels.better)
    assert {len(line) for line in text} == {9}
    assert not any(cell in ("nan", "None") for line in text for cell in line)
