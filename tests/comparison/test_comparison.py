"""Comparisons of models: by hand, by enumeration, and against scipy and R."""

from __future__ import annotations

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from lnqtools.choices import ADJUSTMENTS, METHODS, RANKINGS, ZEROS
from lnqtools.comparison.intervals import bootstrap_interval, interval_method
from lnqtools.comparison.paired import (
    adjust_p_values,
    hodges_lehmann,
    matrix_rows,
    pair_rows,
    paired_differences,
    signed_rank_test,
)
from lnqtools.comparison.ranking import _kendall_tau, rank_rows
from lnqtools.comparison.summaries import summary_rows
from lnqtools.comparison.tables import (
    Scores,
    align,
    differing_references,
    fill,
    missing_cases,
    read_model,
    same_cases,
    select_rows,
    undefined_counts,
)
from lnqtools.errors import LnqError, listed
from lnqtools.metrics import summaries
from lnqtools.metrics.columns import column_of

NAN = math.nan


def scores(*values, metric="dice", better="higher", not_judged=None) -> Scores:
    """Return the scores of models A, B, C, ... on cases 0, 1, 2, ..."""
    array = np.array(values, float)
    empty = np.zeros(array.shape, bool) if not_judged is None else np.array(not_judged)
    return Scores(
        metric,
        better,
        tuple("ABCDEFGH"[: len(array)]),
        tuple(map(str, range(array.shape[1]))),
        array,
        empty,
    )


def table(metric="dice", **values):
    """Return a model's table of one metric by case."""
    return read_model([{"case": case, metric: value} for case, value in values.items()], [metric])


# What is better


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("dice", "higher"),
        ("recall", "higher"),
        ("nsd_0.5mm", "higher"),
        ("assd_mm", "lower"),
        ("hd95_pooled_mm", "lower"),
        *((name, "higher") for name in ("f1", "pq", "sq", "rq", "sensitivity", "precision")),
        *((name, "lower") for name in ("fp", "fn", "fp_volume_ml", "fn_volume_ml")),
        ("tp", None),
        ("volume_error_ml", None),
        ("components_prediction", None),
        ("assd", None),
    ],
)
def test_directions_of_columns(metric, better):
    assert column_of(metric).better == better


# Reading


def test_cells_are_numbers_text_or_undefined():
    rows = [
        {"case": "a", "assd_mm": "1.5"},
        {"case": "b", "assd_mm": 2},
        {"case": "c", "assd_mm": None},
        {"case": "d", "assd_mm": "nan"},
        {"case": "e", "assd_mm": math.inf},
        {"case": 7, "assd_mm": "-1e-3"},
    ]
    found = read_model(rows, ["assd_mm"]).values
    assert list(found) == ["a", "b", "c", "d", "e", "7"]
    values = [value["assd_mm"] for value in found.values()]
    assert values == pytest.approx([1.5, 2, NAN, NAN, NAN, -0.001], nan_ok=True)


def test_what_else_a_table_tells():
    rows = [
        {"case": "a", "status": "both_empty", "dice": None, "volume_reference_ml": "0"},
        {"case": "b", "status": "ok", "dice": 1, "volume_reference_ml": 2.5, "preset": "medpy"},
    ]
    rows[1]["edge"] = "surface"
    found = read_model(rows, ["dice"])
    assert found.not_judged == {("a", "dice")}
    assert found.reference_ml == {"a": 0, "b": 2.5}
    assert found.presets == {" ", "medpy surface"}


def test_where_nothing_is_and_nothing_is_found():
    counts = {"a": (0, 0), "b": (0, 2), "c": (2, 0), "d": ("0", "0"), "e": (None, None)}
    rows = [
        {"case": case, "f1": None, "components_reference": true, "components_prediction": found}
        for case, (true, found) in counts.items()
    ]
    assert read_model(rows, ["f1"]).not_judged == {("a", "f1"), ("d", "f1")}


def test_without_a_reference_there_is_nothing_to_miss():
    rows = [
        {"case": "a", "status": "empty_reference", "recall": None, "nsd_2mm": None},
        {"case": "b", "status": "empty_prediction", "recall": 0.0, "nsd_2mm": None},
        {"case": "c", "status": "ok", "recall": 1.0, "nsd_2mm": 1.0},
    ]
    table = {"A": read_model(rows, ["recall", "nsd_2mm"])}
    recall = fill(align(table, "recall", better="higher"), "worst").values[0]
    assert recall == pytest.approx([NAN, 0, 1], nan_ok=True)
    assert fill(align(table, "nsd_2mm", better="higher"), "worst").values[0].tolist() == [0, 0, 1]


def test_rows_are_selected_by_the_text_of_their_cells():
    rows = [
        {"case": "a", "stratum": "all", "limit": 10},
        {"case": "a", "stratum": "small", "limit": 10.0},
        {"case": "b", "stratum": "all", "limit": "2.5"},
        {"case": "c", "stratum": None},
    ]
    assert select_rows(rows, []) == rows
    assert select_rows(rows, [("stratum", "all")]) == [rows[0], rows[2]]
    assert select_rows(rows, [("limit", "10")]) == rows[:2]
    assert select_rows(rows, [("stratum", "all"), ("limit", "2.5")]) == [rows[2]]
    assert select_rows(rows, [("stratum", "")]) == [rows[3]]
    with pytest.raises(LnqError, match=r"^has no column named size; it has case, stratum, limit$"):
        select_rows(rows, [("size", "all")])
    with pytest.raises(LnqError, match=r"^has no row of stratum=small and limit=2\.5$"):
        select_rows(rows, [("stratum", "small"), ("limit", "2.5")])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "a", "dice": 1}], "no column named case; one row per case is needed"),
        ([{"case": "a", "iou": 1, "status": "ok"}], "no column named dice; it has iou$"),
        ([{"case": "a"}], "no column named dice; it has no other$"),
        ([{"case": "a", "dice": 1}] * 2, "more than one row of case a; .* --where stratum=all"),
        ([{"case": None, "dice": 1}], "a row without a case name"),
        ([{"case": "a", "dice": "0,5"}], "case a: dice is '0,5', not a number"),
        ([{"case": "a", "dice": [1]}], "case a: dice is .1., not a number"),
        ([{"case": "a", "dice": 10**400}], "not a number"),
    ],
)
def test_tables_that_are_refused(rows, message):
    with pytest.raises(LnqError, match=message):
        read_model(rows, ["dice"])


# Pairing


def test_cases_are_paired_by_name_whatever_their_order():
    paired = align({"A": table(x=0.1, y=0.2), "B": table(y=0.3, x=0.4)}, "dice")
    assert (paired.models, paired.cases) == (("A", "B"), ("x", "y"))
    assert paired.values.tolist() == [[0.1, 0.2], [0.4, 0.3]]


def test_unpaired_cases_are_named():
    tables = {"A": table(x=1, y=1), "B": table(y=1, z=1), "C": table(x=1, y=1, z=1)}
    assert missing_cases(tables) == {"A": ["z"], "B": ["x"]}
    with pytest.raises(LnqError, match="A has no row of z; B has no row of x; --missing drop"):
        align(tables, "dice")
    paired = align(tables, "dice", missing="drop")
    assert (paired.cases, paired.values.tolist()) == (("y",), [[1], [1], [1]])


def test_many_unpaired_cases_are_counted():
    assert listed([str(n) for n in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed([str(n) for n in range(13)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"


def test_no_case_in_common():
    with pytest.raises(LnqError, match="no case in common"):
        align({"A": table(x=1), "B": table(y=1)}, "dice", missing="drop")


def test_references_that_differ_are_found():
    def of(volume):
        return read_model([{"case": "x", "dice": 1, "volume_reference_ml": volume}], ["dice"])

    assert differing_references({"A": of(2.0), "B": of(2.0000001), "C": of(None)}) == []
    assert differing_references({"A": of(2.0), "B": of(2.001)}) == ["x"]
    assert differing_references({"A": of(0), "B": of(0)}) == []
    assert differing_references({"A": of(0), "B": of(1e-3)}) == ["x"]


# Undefined values

DISTANCES = scores(
    [1, NAN, 3],
    [9, 2, NAN],
    metric="assd_mm",
    better="lower",
    not_judged=[[0, 0, 0], [0, 0, 1]],
)


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        ("drop", [1, NAN, 3], [9, 2, NAN]),
        ("worst", [1, 9, 3], [9, 2, NAN]),  # the worst of both models
        (115.27, [1, 115.27, 3], [9, 2, NAN]),
    ],
)
def test_undefined_distances(rule, first, second):
    filled = fill(DISTANCES, rule).values
    assert filled[0] == pytest.approx(first, nan_ok=True)
    assert filled[1] == pytest.approx(second, nan_ok=True)


@pytest.mark.parametrize("rule", ["worst", 115.27])
def test_undefined_fractions_are_filled_with_0(rule):
    assert fill(scores([NAN, 0.5]), rule).values.tolist() == [[0, 0.5]]


def test_nothing_defined_leaves_nothing_to_fill_with():
    assert np.isnan(fill(scores([NAN], metric="assd_mm", better="lower"), "worst").values).all()


def test_undefined_values_are_counted_and_the_cases_compared():
    same = scores([1, NAN, NAN], [2, NAN, NAN])
    assert (undefined_counts(same), same_cases(same)) == ({"A": 2, "B": 2}, True)
    apart = scores([1, NAN, 3], [NAN, 2, 3], [1, 2, 3])
    assert (undefined_counts(apart), same_cases(apart)) == ({"A": 1, "B": 1}, False)
    assert same_cases(fill(apart, "worst"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signed_rank_test(np.ones(3), method="exakt"), "method 'exakt' is not one of"),
        (lambda: signed_rank_test(np.ones(3), zeros="x"), "treatment of zeros 'x' is not one of"),
        (lambda: adjust_p_values(np.ones(3), "holmm"), "adjustment 'holmm' is not one of none"),
        (lambda: rank_rows(scores([1], [2]), by="sum"), "ranking 'sum' is not one of mean"),
    ],
)
def test_unknown_words_are_refused(call, message):
    with pytest.raises(LnqError, match=message):
        call()


def test_filling_needs_a_direction():
    unknown = scores([1, NAN], metric="x", better=None)
    assert fill(unknown, "drop") is unknown
    with pytest.raises(LnqError, match="which values of x are better"):
        fill(unknown, "worst")


STATUSES = ("ok", "empty_prediction", "empty_reference", "both_empty")


@given(
    st.lists(
        st.tuples(st.sampled_from(STATUSES), st.none() | st.floats(0, 1e3)), min_size=1, max_size=8
    ),
    st.sampled_from(["assd_mm", "nsd_1mm", "recall"]),
    st.sampled_from(["worst", 115.27]),
)
def test_one_table_is_filled_as_lnq_metrics_does(cells, metric, rule):
    rows = [
        {"case": str(number), "status": status, metric: value}
        for number, (status, value) in enumerate(cells)
    ]
    ours = align({"A": read_model(rows, [metric])}, metric, better=column_of(metric).better)
    theirs = [row[metric] for row in summaries.fill_undefined(rows, rule)]
    expected = [NAN if value is None else value for value in theirs]
    assert fill(ours, rule).values[0] == pytest.approx(expected, nan_ok=True)


def test_the_worst_of_a_rate_of_error_is_1_whatever_the_models_have():
    rates = scores([0.25, NAN], [0.5, 0.75], metric="fdr", better="lower")
    for rule in ("worst", 115.27):
        np.testing.assert_array_equal(fill(rates, rule).values, [[0.25, 1], [0.5, 0.75]])
    said = scores([0.25, NAN], [0.5, 0.75], metric="x", better="lower")  # perhaps no fraction
    np.testing.assert_array_equal(fill(said, "worst").values, [[0.25, 0.75], [0.5, 0.75]])


# Summaries


def test_summary_by_hand():
    first, second = summary_rows(DISTANCES)
    assert first == {
        **{"metric": "assd_mm", "model": "A", "mean": 2, "sd": math.sqrt(2), "median": 2},
        **{"n": 2, "n_undefined": 1, "n_filled": 1, "mean_dropped": 2, "mean_filled": 13 / 3},
        "n_missing": 0,
    }
    # of B, a case has nothing to find and is filled with nothing
    assert second == {
        **{"metric": "assd_mm", "model": "B", "mean": 5.5, "sd": pytest.approx(math.sqrt(24.5))},
        **{"median": 5.5, "n": 2, "n_undefined": 1, "n_filled": 0},
        **{"mean_dropped": 5.5, "mean_filled": 5.5, "n_missing": 0},
    }


def test_summary_with_undefined_values_filled():
    first, _ = summary_rows(DISTANCES, 14.0)
    assert (first["mean"], first["median"]) == (6, 3)
    assert (first["mean_dropped"], first["mean_filled"]) == (2, 6)
    assert (first["n"], first["n_undefined"], first["n_filled"]) == (2, 1, 1)


def test_the_papers_mean_of_96_cases_and_the_challenges_of_100():
    values = [5.8] * 96 + [NAN] * 4
    (row,) = summary_rows(scores(values, metric="assd_mm", better="lower"), 115.27)
    assert row["mean_dropped"] == pytest.approx(5.8)
    assert row["mean_filled"] == pytest.approx(10.1788)
    assert (row["n"], row["n_undefined"]) == (96, 4)


def test_nothing_is_filled_where_the_direction_is_not_known():
    full, lacking = summary_rows(scores([1, 2], [1, NAN], better=None))
    assert (full["mean_filled"], full["n_filled"]) == (1.5, 0)
    assert (lacking["mean_filled"], lacking["n_filled"], lacking["n_undefined"]) == (None, 0, 1)


def test_a_model_without_values():
    row, _ = summary_rows(scores([NAN, NAN], [1, 2], better=None), level=0.9)
    empty = ("mean", "sd", "median", "ci_low", "ci_high", "mean_dropped", "mean_filled")
    assert {key: row[key] for key in empty} == dict.fromkeys(empty)
    assert row["n"] == 0


@given(st.lists(st.none() | st.floats(0, 1e3), min_size=1, max_size=8))
def test_one_table_is_summarized_as_lnq_metrics_does(values):
    values = [None if v is None else round(v, 6) for v in values]
    (theirs,) = summaries.summarize([{"assd_mm": value} for value in [*values, 1.0]])
    given_ = [NAN if value is None else value for value in [*values, 1.0]]
    (ours,) = summary_rows(scores(given_, metric="assd_mm", better="lower"))
    shared = ours.keys() & theirs.keys()
    assert len(shared) == 9
    assert {key: ours[key] for key in shared} == pytest.approx({k: theirs[k] for k in shared})


# Bootstrap intervals


def bca_interval(values, level, resamples, seed):
    """Compute Efron's BCa interval of a mean the long way."""
    normal = scipy.stats.norm
    values = np.asarray(values)
    n = len(values)
    drawn = np.random.RandomState(seed).randint(0, n, (resamples, n))
    means = values[drawn].mean(axis=1)
    below = ((means < values.mean()).mean() + (means <= values.mean()).mean()) / 2
    bias = normal.ppf(below)
    left_out = np.array([np.delete(values, k).mean() for k in range(n)])
    apart = left_out.mean() - left_out
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)

    def bound(fraction):
        z = bias + normal.ppf(fraction)
        return np.quantile(means, normal.cdf(bias + z / (1 - acceleration * z)))

    return bound((1 - level) / 2), bound((1 + level) / 2)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_is_efrons(level):
    values = np.random.default_rng(1).exponential(5, 40)
    ours = bootstrap_interval(values, level, resamples=50000, seed=0)
    # percentiles without Efron's corrections are off by 0.3 and 0.8 at a level of 0.95
    assert ours == pytest.approx(bca_interval(values, level, 50000, 2), abs=0.1)


def test_interval_is_scipys():
    values = np.random.default_rng(2).random(30)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=500, random_state=np.random.default_rng(3)
    ).confidence_interval
    ours = bootstrap_interval(values, 0.95, resamples=500, seed=3)
    assert ours == tuple(round(limit, 3) for limit in theirs)


def test_interval_of_normal_values_is_students():
    values = np.random.default_rng(4).normal(10, 2, 400)
    expected = scipy.stats.t.interval(0.95, 399, values.mean(), scipy.stats.sem(values))
    ours = bootstrap_interval(values, 0.95, resamples=20000, seed=0)
    assert ours == pytest.approx(expected, abs=0.01)


def test_a_seed_makes_the_same_interval_again_and_another_another():
    values = np.random.default_rng(5).random(20)
    first, again, other = (
        bootstrap_interval(values, 0.9, resamples=999, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_an_interval_does_not_depend_on_the_other_models():
    values = np.random.default_rng(6).random((3, 20))
    alone = summary_rows(scores(values[2]), level=0.9, resamples=99)[0]
    together = summary_rows(scores(*values), level=0.9, resamples=99)[2]
    assert alone["ci_low"] == together["ci_low"]


def test_large_samples_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr("lnqtools.comparison.intervals.RESAMPLED_VALUES", 30)
    values = np.random.default_rng(7).normal(0, 1, 40)
    low, high = bootstrap_interval(values, 0.95, resamples=2000, seed=0)
    assert (low, high) == pytest.approx(bca_interval(values, 0.95, 2000, 1), abs=0.05)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (None, None)), ([1.0], (None, None)), ([2.0, 2.0, 2.0], (2, 2)), ([0.0, 1.0], (0, 1))],
)
def test_intervals_of_few_or_equal_values(values, expected):
    assert bootstrap_interval(np.array(values), 0.95, resamples=999, seed=0) == expected


@pytest.mark.parametrize("n", [4, 12])
def test_values_that_differ_by_rounding_are_their_own_interval(n, recwarn):
    values = np.array([0.3] * (n - 1) + [math.nextafter(0.3, 1)])
    assert bootstrap_interval(values, 0.95, resamples=999, seed=0) == (0.3, 0.3)
    assert not recwarn


@pytest.mark.parametrize(("resamples", "known"), [(1, False), (39, False), (40, True)])
def test_too_few_samples_make_no_interval(resamples, known):
    values = np.random.default_rng(3).random(20)
    low, high = bootstrap_interval(values, 0.95, resamples=resamples, seed=0)
    assert ((low is not None), (high is not None)) == (known, known)


def test_below_ten_cases_limits_are_percentiles_and_the_method_is_said():
    values = np.random.default_rng(4).exponential(3, 10)
    for n, method in ((9, "percentile"), (10, "BCa")):
        theirs = scipy.stats.bootstrap(
            (values[:n],), np.mean, n_resamples=20000, method=method, random_state=1
        ).confidence_interval
        ours = bootstrap_interval(values[:n], 0.95, resamples=20000, seed=0)
        assert ours == pytest.approx(tuple(theirs), abs=0.05)
        assert interval_method(values[:n]) == method.lower()
        (row,) = summary_rows(scores(values[:n]), level=0.9, resamples=99)
        assert row["ci_method"] == method.lower()
    apart = scipy.stats.bootstrap(
        (values[:9],), np.mean, n_resamples=20000, method="BCa", random_state=1
    ).confidence_interval
    nine = bootstrap_interval(values[:9], 0.95, resamples=20000, seed=0)
    assert abs(nine[1] - apart.high) > 0.2  # or this test could not tell them apart


@pytest.mark.parametrize("resamples", [200, 5000])
def test_limits_have_the_digits_that_another_seed_would_confirm(resamples):
    """What seeds make of a limit is a few units of its last digit: less would be noise."""
    values = np.random.default_rng(5).normal(0, 1, 30)
    limits = np.array(
        [bootstrap_interval(values, 0.95, resamples=resamples, seed=seed) for seed in range(60)]
    )
    decimals = [len(f"{limit:.12f}".rstrip("0").partition(".")[2]) for limit in limits.ravel()]
    digits = int(np.median(decimals))
    spread = limits.std(axis=0) * 10**digits
    assert ((spread > 0.3) & (spread < 20)).all()
    assert digits == {200: 2, 5000: 3}[resamples]


# The signed-rank test


def test_the_least_p_value_of_100_cases_is_the_papers():
    found = signed_rank_test(np.arange(1.0, 101))
    assert found.statistic == 0
    assert found.p == pytest.approx(3.897e-18, rel=1e-4)
    z = 2525 / math.sqrt(100 * 101 * 201 / 24)
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-12)


def test_exact_p_of_5_of_5():
    assert signed_rank_test(np.arange(1.0, 6), method="exact").p == 2 / 2**5 == 0.0625


def test_exact_p_of_100_of_100():
    assert signed_rank_test(np.arange(1.0, 101), method="exact").p == 2.0**-99


def test_hollander_and_wolfes_depression_scores():
    """R: wilcox.test(x, y, paired = TRUE, conf.int = TRUE): V = 40, p = 0.03906, 0.46."""
    x = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    y = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    differences = paired_differences(x, y)
    found = signed_rank_test(differences, method="exact")
    assert found.statistic == 9 * 10 / 2 - 40
    assert found.p == pytest.approx(0.0390625)
    assert found.rank_biserial == pytest.approx((40 - 5) / 45)
    assert hodges_lehmann(differences) == pytest.approx(0.46)


def by_enumeration(differences, zeros: str) -> tuple[float, float]:
    """Return W and the exact p value by all assignments of signs."""
    differences = np.asarray(differences)
    ranked = differences[differences != 0] if zeros == "wilcox" else differences
    ranks = scipy.stats.rankdata(np.abs(ranked))[ranked != 0]
    signs = np.sign(ranked[ranked != 0])
    observed = abs((ranks * signs).sum())
    sums = [abs(np.dot(ranks, flips)) for flips in product((-1, 1), repeat=len(ranks))]
    return (ranks.sum() - observed) / 2, np.mean([s >= observed - 1e-9 for s in sums])


few_differences = st.lists(st.integers(-4, 4), min_size=1, max_size=9).map(
    lambda values: np.array(values) / 8
)


@given(few_differences, st.sampled_from(ZEROS))
def test_exact_with_ties_and_zeros_is_that_of_all_signs(differences, zeros):
    found = signed_rank_test(differences, method="exact", zeros=zeros)
    statistic, p = by_enumeration(differences, zeros)
    assert found.n_zero == (differences == 0).sum()
    assert (found.statistic, found.p) == pytest.approx((statistic, p))


@pytest.mark.parametrize("n", [1, 2, 7, 30, 200])
def test_exact_without_ties_is_scipys(n):
    differences = np.random.default_rng(n).normal(0.1, 1, n)
    expected = scipy.stats.wilcoxon(differences, method="exact")
    found = signed_rank_test(differences, method="exact")
    assert (found.statistic, found.p) == pytest.approx(tuple(expected), rel=1e-9)


@given(
    st.lists(st.integers(-5, 5), min_size=2, max_size=60).filter(any),
    st.sampled_from(ZEROS),
)
def test_approximation_is_scipys(values, zeros):
    differences = np.array(values, float)
    expected = scipy.stats.wilcoxon(
        differences, zero_method=zeros, correction=False, method="approx"
    )
    found = signed_rank_test(differences, zeros=zeros)
    assert (found.statistic, found.p) == pytest.approx(tuple(expected), rel=1e-9)


def test_exact_and_approximation_agree_for_many_cases():
    differences = np.random.default_rng(0).normal(0.2, 1, 300)
    exact, approximate = (signed_rank_test(differences, method=m).p for m in METHODS)
    assert exact == pytest.approx(approximate, rel=0.02)


def test_rank_biserial_by_hand():
    # ranks 1 2 3 4 with signs + + - +
    assert signed_rank_test(np.array([0.1, 0.2, -0.3, 0.4])).rank_biserial == (7 - 3) / 10


def test_zero_differences_by_hand():
    differences = np.array([0, 0, 1, 2, -3.0])
    dropped, ranked = (signed_rank_test(differences, zeros=z) for z in ("wilcox", "pratt"))
    assert (dropped.statistic, ranked.statistic) == (3, 5)
    assert (dropped.rank_biserial, ranked.rank_biserial) == (0, pytest.approx((7 - 5) / 12))
    assert dropped.n_zero == ranked.n_zero == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("zeros", ZEROS)
def test_models_that_never_differ(method, zeros):
    assert signed_rank_test(np.zeros(4), method=method, zeros=zeros) == (4, 0, 1, 0)


def test_differences_of_decimal_numbers_tie():
    first, second = np.array([0.3, 0.2, 0.7, 0.9]), np.array([0.2, 0.1, 0.7, NAN])
    assert (first - second)[0] != (first - second)[1]
    assert paired_differences(first, second).tolist() == [0.1, 0.1, 0]
    assert paired_differences(1000 * first, 1000 * second).tolist() == [100, 100, 0]


def test_small_differences_are_kept():
    first, second = np.array([500 + 1e-8, 3e-9]), np.array([500, 1e-9])
    assert paired_differences(first, second).tolist() == pytest.approx([1e-8, 2e-9], rel=0.06)
    assert paired_differences(np.array([2e-9]), np.array([1e-9])).tolist() == [1e-9]
    assert paired_differences(np.zeros(2), np.zeros(2)).tolist() == [0, 0]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_hodges_lehmann_is_the_median_of_walsh_averages(values):
    averages = [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]
    assert hodges_lehmann(np.array(values)) == pytest.approx(np.median(averages))


# Adjustment


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("none", [0.01, 0.04, 0.03, 0.005]),
        ("bonferroni", [0.04, 0.16, 0.12, 0.02]),
        ("holm", [0.03, 0.06, 0.06, 0.02]),
        ("bh", [0.02, 0.04, 0.04, 0.02]),
    ],
)
def test_adjustment_by_hand(method, expected):
    assert adjust_p_values(np.array([0.01, 0.04, 0.03, 0.005]), method) == pytest.approx(expected)


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_what_was_not_tested_is_not_counted(method):
    with_gap = adjust_p_values(np.array([0.01, NAN, 0.04]), method)
    assert with_gap[[0, 2]] == pytest.approx(adjust_p_values(np.array([0.01, 0.04]), method))
    assert np.isnan(with_gap[1])
    assert np.isnan(adjust_p_values(np.array([NAN]), method)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_values_are_larger_and_in_the_same_order(p_values):
    p = np.array(p_values)
    adjusted = {method: adjust_p_values(p, method) for method in ADJUSTMENTS}
    order = np.argsort(p)
    for values in adjusted.values():
        assert (values >= p - 1e-15).all()
        assert (values <= 1).all()
        assert all(a <= b + 1e-15 for a, b in pairwise(values[order]))
    assert (adjusted["bh"] <= adjusted["holm"] + 1e-15).all()
    assert (adjusted["holm"] <= adjusted["bonferroni"] + 1e-15).all()


# Pairs and matrices


def test_pairs_by_hand():
    pairs = pair_rows(
        scores([1, 2, 3, 4], [2, 2, 5, NAN], [1, 3, 4, 9], better="lower"), method="exact"
    )
    assert [row["model_a"] + row["model_b"] for row in pairs] == ["AB", "AC", "BC"]
    # differences -1 0 -2: A is the better twice, as lower is better
    assert pairs[0] == {
        **{"metric": "dice", "model_a": "A", "model_b": "B", "n": 3, "n_undefined": 1},
        **{"mean_difference": -1, "median_difference": -1, "hodges_lehmann": -1},
        **{"n_zero": 1, "rank_biserial": 1, "w": 0, "p": 0.5, "p_adjusted": 0.5},
        "p_superior": pytest.approx(2.5 / 3),
    }
    # differences 0 -1 -1 -5
    assert pairs[1]["mean_difference"] == -1.75
    assert pairs[1]["n_undefined"] == 0
    assert (pairs[1]["n_zero"], pairs[1]["p"]) == (1, 0.25)
    # differences 1 -1 1, all of rank 2
    assert pairs[2]["rank_biserial"] == pytest.approx(-1 / 3)


def test_pairs_without_a_common_defined_case():
    (row,) = pair_rows(scores([1, NAN], [NAN, 1]), adjust="holm", level=0.9)
    blank = {"mean_difference", "ci_low", "ci_high", "median_difference", "hodges_lehmann"}
    blank |= {"n_zero", "rank_biserial", "w", "p", "p_adjusted"}
    blank |= {"ci_method", "p_superior", "p_superior_low", "p_superior_high"}
    assert {key for key, value in row.items() if value is None} == blank
    assert (row["n"], row["n_undefined"]) == (0, 2)


def test_which_is_better_may_be_unknown_to_a_test():
    (row,) = pair_rows(scores([1, 2, 4], [0, 0, 0], better=None), method="exact")
    assert (row["rank_biserial"], row["p"]) == (None, 0.25)


def test_interval_of_the_mean_difference():
    values = np.random.default_rng(0).normal(0, 1, (2, 50))
    (row,) = pair_rows(scores(*values), level=0.9, resamples=500, seed=4)
    expected = bootstrap_interval(values[0] - values[1], 0.9, resamples=500, seed=4)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)


def test_adjustment_is_over_the_pairs_of_a_metric():
    pairs = pair_rows(scores([1, 2, 3], [0, 0, 0], [9, 9, 9]), method="exact", adjust="bonferroni")
    assert [(row["p"], row["p_adjusted"]) for row in pairs] == [(0.25, 0.75)] * 3


value_matrices = st.integers(2, 4).flatmap(
    lambda models: st.lists(
        st.lists(st.sampled_from([NAN, 0, 0.25, 0.5, 1]), min_size=models, max_size=models),
        min_size=1,
        max_size=8,
    )
)


@given(value_matrices, st.sampled_from(METHODS), st.sampled_from(ADJUSTMENTS))
def test_matrices_are_symmetric_and_do_not_depend_on_the_order(cases, method, adjust):
    values = np.array(cases, float).T
    matrices = []
    for given_ in (scores(*values), scores(*values[::-1])):
        pairs = pair_rows(given_, method=method, adjust=adjust)
        matrices.append(
            [
                np.array([[row[m] for m in given_.models] for row in rows], float)
                for rows in (
                    matrix_rows(pairs, "p_adjusted"),
                    matrix_rows(pairs, "rank_biserial", mirrored=-1),
                )
            ]
        )
    (p, effect), (p_turned, effect_turned) = matrices
    assert np.isnan(p.diagonal()).all()
    np.testing.assert_allclose(p, p.T)
    np.testing.assert_allclose(effect, -effect.T)
    np.testing.assert_allclose(p_turned[::-1, ::-1], p)
    np.testing.assert_allclose(effect_turned[::-1, ::-1], effect)
    assert (np.abs(effect[~np.isnan(effect)]) <= 1).all()


def test_matrix_by_hand():
    pairs = [
        {"metric": "dice", "model_a": "A", "model_b": "B", "x": 0.5},
        {"metric": "dice", "model_a": "A", "model_b": "C", "x": None},
        {"metric": "dice", "model_a": "B", "model_b": "C", "x": 0.0},
    ]
    assert matrix_rows(pairs, "x", mirrored=-1) == [
        {"metric": "dice", "model": "A", "A": None, "B": 0.5, "C": None},
        {"metric": "dice", "model": "B", "A": -0.5, "B": None, "C": 0},
        {"metric": "dice", "model": "C", "A": None, "B": 0, "C": None},
    ]


# Rankings


def ranking(rows) -> dict[str, int]:
    return {row["model"]: row["rank"] for row in rows}


def test_ranks_by_mean_median_and_ranks():
    values = [[1, 1, 10], [2, 2, 2], [3, 3, 0]]
    expected = {
        "mean": ({"A": 3, "B": 1, "C": 1}, [2, 2, 4]),
        "median": ({"A": 1, "B": 2, "C": 3}, [1, 2, 3]),
        # within the cases A 1 1 3, B 2 2 2, C 3 3 1
        "ranks": ({"A": 1, "B": 2, "C": 3}, [5 / 3, 2, 7 / 3]),
    }
    for by, (ranks, found) in expected.items():
        rows = rank_rows(scores(*values, better="lower"), by=by, resamples=9)
        assert ranking(rows) == ranks
        assert [row["value"] for row in rows] == pytest.approx(found)


def test_higher_or_lower_is_better():
    assert ranking(rank_rows(scores([1, 2], [3, 4]))) == {"B": 1, "A": 2}
    assert ranking(rank_rows(scores([1, 2], [3, 4], better="lower"))) == {"A": 1, "B": 2}
    (first, _) = rank_rows(scores([1, 2], [3, 4]))
    assert first["value"] == 3.5


@pytest.mark.parametrize(
    ("ties", "expected"),
    [("min", {"A": 1, "B": 1.5, "C": 2.5}), ("average", {"A": 1.25, "B": 2, "C": 2.75})],
)
def test_ties_within_cases_share_the_best_or_the_mean_rank(ties, expected):
    rows = rank_rows(scores([1, 1], [1, 0], [0, 0]), by="ranks", ties=ties, resamples=9)
    assert {row["model"]: row["value"] for row in rows} == expected


def test_a_case_counts_for_all_models_or_for_none():
    """B's mean of its own defined cases is the best; of the cases of all, A's is."""
    rows = rank_rows(scores([1, 1, 9], [2, 2, NAN], better="lower"), resamples=9)
    assert ranking(rows) == {"A": 1, "B": 2}
    assert [(row["value"], row["n"], row["n_undefined"]) for row in rows] == [(1, 2, 1), (2, 2, 1)]


def test_a_model_that_always_wins_always_ranks_first():
    rows = rank_rows(scores([0.9, 0.8, 0.7], [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]), resamples=200)
    first = rows[0]
    assert (first["model"], first["rank_1"], first["rank_2"], first["rank_mean"]) == ("A", 1, 0, 1)
    assert (first["rank_low"], first["rank_high"]) == (1, 1)


def test_stability_of_two_cases_by_enumeration():
    """Samples: both the first (1/4): A; both the second (1/4) or one of each (1/2): B."""
    rows = rank_rows(scores([1, 0], [0, 3]), resamples=20000)
    a = next(row for row in rows if row["model"] == "A")
    assert a["rank"] == 2
    assert a["rank_1"] == pytest.approx(0.25, abs=0.015)
    assert a["rank_1"] + a["rank_2"] == pytest.approx(1)
    assert a["rank_mean"] == pytest.approx(1.75, abs=0.015)
    assert (a["rank_low"], a["rank_high"]) == (1, 2)
    assert a["kendall_tau"] == pytest.approx(0.5, abs=0.03)


def test_equal_models_share_the_first_rank():
    rows = rank_rows(scores([1, 2], [1, 2]), resamples=50)
    assert ranking(rows) == {"A": 1, "B": 1}
    assert [row["rank_1"] for row in rows] == [1, 1]
    assert rows[0]["kendall_tau"] is None


def test_equal_means_of_other_cases_tie_in_spite_of_rounding():
    values = np.random.default_rng(0).random(7)
    rows = rank_rows(scores(values, values[::-1]), resamples=1)
    assert ranking(rows) == {"A": 1, "B": 1}


def test_a_seed_makes_the_same_stability_again_and_another_another():
    values = np.random.default_rng(0).random((3, 12))
    first, again, other = (rank_rows(scores(*values), resamples=99, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_samples_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr("lnqtools.comparison.intervals.RESAMPLED_VALUES", 7)
    rows = rank_rows(scores([1, 0], [0, 3]), resamples=5001)
    a = next(row for row in rows if row["model"] == "A")
    assert a["rank_1"] == pytest.approx(0.25, abs=0.03)
    assert a["rank_1"] + a["rank_2"] == pytest.approx(1)


@pytest.mark.parametrize("by", RANKINGS)
@given(value_matrices)
def test_ranks_are_those_of_a_competition(by, cases):
    values = np.array(cases, float).T
    assume(not np.isnan(values).any(axis=0).all())
    rows = rank_rows(scores(*values), by=by, resamples=20)
    ranks = [row["rank"] for row in rows]
    assert ranks == sorted(ranks)
    assert ranks == [1 + sum(other < rank for other in ranks) for rank in ranks]
    assert sorted(row["model"] for row in rows) == sorted("ABCD"[: len(values)])
    for row in rows:
        assert sum(row[f"rank_{k + 1}"] for k in range(len(rows))) == pytest.approx(1)
        assert row["rank_low"] <= row["rank_high"]


@given(st.permutations(range(4)))
def test_distinct_values_give_a_permutation(order):
    rows = rank_rows(scores(*[[value, value] for value in order]), resamples=5)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [order["ABCD".index(row["model"])] for row in rows] == [3, 2, 1, 0]


def test_kendalls_tau_is_scipys():
    rankings = np.array([[1, 2, 3, 4], [1, 1, 3, 3], *permutations([1, 2, 2, 4])])
    reference = np.array([1, 1, 3, 4])
    expected = [scipy.stats.kendalltau(r, reference).statistic for r in rankings]
    assert _kendall_tau(rankings, reference) == pytest.approx(expected)


def test_ranking_needs_a_direction_and_a_common_case():
    with pytest.raises(LnqError, match="which values of x are better"):
        rank_rows(scores([1], [2], metric="x", better=None))
    with pytest.raises(LnqError, match="no case has dice of every model"):
        rank_rows(scores([1, NAN], [NAN, 1]))
