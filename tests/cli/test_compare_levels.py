"""lnq-compare: long tables, missing cases, seeds as a level, ranks over metrics, power."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.challenge import MEAN_RANKS, WORST_MM, write_challenge
from tests.cli.helpers import numbers, rows_of, usage_error
from tests.conftest import run, succeed

TOOL = "lnq-compare"
DICE = ("--metric", "dice")


def write(path, header: str, *rows: str):
    """Write a table of words with blanks between; - is an empty cell."""
    lines = ["\t".join("" if w == "-" else w for w in row.split()) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


# Several models in one table


CHALLENGE = (
    *("--by", "Team", "--case-column", "Case", "--metric", "Dice", "--metric", "ASSD"),
    *("--higher-better", "Dice", "--lower-better", "ASSD", "--empty", "worst"),
)


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    return write_challenge(tmp_path_factory.mktemp("challenge") / "lnq2023.csv")


def test_the_challenges_order_and_mean_ranks_come_out_by_one_command(challenge):
    rows = rows_of(
        succeed(TOOL, challenge, *CHALLENGE, "--table", "ranking", "--rank-by", "cases").out
    )
    assert {row["model"]: float(row["value"]) for row in rows} == MEAN_RANKS
    assert [row["model"] for row in rows] == list(MEAN_RANKS)
    assert [row["rank"] for row in rows] == list("123456")
    assert {row["metric"] for row in rows} == {"mean_rank(Dice,ASSD)"}
    assert {row["n"] for row in rows} == {"100"}
    for row in rows:
        low, value, high, tau = numbers(row, "value_low", "value", "value_high", "kendall_tau")
        assert low < value < high
        assert 0.8 < tau < 1
    hilab, sofija = rows[3:5]  # 3.855 and 3.925: nobody knows which is the better
    assert 0.55 < float(hilab["rank_4"]) < 0.8
    assert (hilab["rank_low"], hilab["rank_high"]) == ("4", "5")
    assert float(hilab["p_next"]) > 0.3
    assert float(sofija["p_next"]) < 1e-6


def test_tied_teams_share_the_best_rank_or_the_mean_one(challenge):
    call = (challenge, *CHALLENGE, "--table", "ranking", "--rank-by", "cases", "--resamples", 40)
    averaged = rows_of(succeed(TOOL, *call, "--ties", "average").out)
    values = [float(row["value"]) for row in averaged]
    assert sum(values) == pytest.approx(21)  # 1 + ... + 6
    assert sum(MEAN_RANKS.values()) == pytest.approx(21 - 13 / 200)


def test_na_is_undefined_and_filled_with_the_worst_of_all(challenge):
    options = (
        "--metric",
        "ASSD",
        "--lower-better",
        "ASSD",
        "--by",
        "Team",
        "--case-column",
        "Case",
    )
    dropped = rows_of(succeed(TOOL, challenge, *options).out)
    assert sum(int(row["n_undefined"]) for row in dropped) == 12
    filled = rows_of(succeed(TOOL, challenge, *options, "--empty", "worst").out)
    for without, row in zip(dropped, filled, strict=True):
        n, missing = numbers(without, "n", "n_undefined")
        mean = (n * float(without["mean"]) + missing * WORST_MM) / 100
        assert float(row["mean"]) == pytest.approx(mean)


def test_the_significance_map_is_in_the_order_of_the_ranking(challenge):
    call = (challenge, *CHALLENGE, "--rank-by", "cases", "--adjust", "holm")
    rows = rows_of(succeed(TOOL, *call, "--table", "significance").out)
    teams = list(MEAN_RANKS)
    assert [row["model"] for row in rows] == teams
    assert list(rows[0]) == ["metric", "model", *teams]
    pairs = rows_of(succeed(TOOL, *call, "--table", "pairs").out)
    significant = {
        frozenset((p["model_a"], p["model_b"])): float(p["p_adjusted"]) < 0.05 for p in pairs
    }
    for i, row in enumerate(rows):
        for j, team in enumerate(teams):
            told = (
                ""
                if i == j
                else int(significant[frozenset((teams[i], team))]) * (1 if i < j else -1)
            )
            assert row[team] == str(told)
    assert rows[0]["IMR"] == "1"
    assert rows[3]["sofija_engelson"] == "0"
    strict = rows_of(succeed(TOOL, *call, "--table", "significance", "--alpha", "1e-12").out)
    assert strict[0]["IMR"] == "0"
    text = succeed(TOOL, *call, "--table", "significance", "--format", "markdown").lines
    assert text[2] == "| Skeleton Suns | – | better | better | better | better | better |"


def test_a_table_of_ones_own_stands_beside_the_teams(challenge, tmp_path):
    rows = [f"{n + 1}\t0.99\t0.5" for n in range(100)]
    own = tmp_path / "own.tsv"
    own.write_text("Case\tDice\tASSD\n" + "".join(f"case {row}\n" for row in rows))
    call = (challenge, f"ours={own}", *CHALLENGE, "--table", "ranking", "--rank-by", "cases")
    first, *others = rows_of(succeed(TOOL, *call, "--resamples", 40).out)
    assert (first["model"], first["value"], first["rank_1"]) == ("ours", "1", "1")
    assert [row["model"] for row in others] == list(MEAN_RANKS)
    assert float(others[0]["value"]) == pytest.approx(1 + MEAN_RANKS["Skeleton Suns"])


def test_long_tables_that_do_not_fit_are_told(tmp_path):
    long = write(tmp_path / "long.tsv", "case team dice", "1 A .5", "1 B .6", "2 - .7")
    result = run(TOOL, long, "--by", "team", *DICE)
    assert (result.status, result.err) == (
        1,
        f"lnq-compare: {long}: row 3 has nothing in the column team\n",
    )
    result = run(TOOL, long, "--by", "Team", *DICE)
    assert result.err == (
        f"lnq-compare: {long}: has no column named Team; it has case, team, dice\n"
    )
    result = run(TOOL, f"A={long}", *DICE)
    assert "more than one row of case 1" in result.err
    assert "--by parts a table of several models" in result.err
    result = run(TOOL, long, "--by", "team", "--where", "case=1", "--metric", "none")
    assert result.err == f"lnq-compare: {long}: has no column named none; it has team, dice\n"
    result = run(TOOL, f"A={long}", *DICE, "--case-column", "id")
    assert "has no column named id" in result.err
    assert "it has case, team, dice (--case-column)" in result.err
    twice = (long, f"A={long}", "--by", "team", "--where", "case=1")
    assert "two tables hold a model named A" in run(TOOL, *twice, *DICE).err
    one = (long, "--by", "team", "--where", "team=A", "--table", "ranking", *DICE)
    assert "--table ranking needs at least two models; there is A" in run(TOOL, *one).err
    missing = run(TOOL, tmp_path / "none.tsv", "--by", "team")
    assert (missing.status, len(missing.err.splitlines())) == (1, 1)
    reserved = write(tmp_path / "r.tsv", "case team dice", "1 model .5", "1 B .6")
    assert "model is the name of a column" in usage_error(TOOL, reserved, "--by", "team", *DICE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.tsv",), "'a.tsv' is not NAME=FILE; of a table of several models --by says in which"),
        (("A=a.tsv", "--by", "team"), "--by is for a FILE without NAME=, which holds several"),
        (("A=a", "A=b"), "two tables are named A; with --group they are groups of one model"),
        (
            ("A=a", "--missing", "drop", "--intersect"),
            "--intersect and --missing exclude each other",
        ),
        (("A=a", "B=b", "--ties", "min"), "--ties is for --rank-by ranks|cases"),
        (
            ("A=a", "B=b", "--rank-by", "cases"),
            "--rank-by cases is for --table ranking|significance",
        ),
        (
            ("A=a", "B=b", "--table", "pairs", "--rank-by", "mean"),
            "--rank-by mean is for --table ranking|significance",
        ),
        (("A=a", "B=b", "--cases", "9"), "--cases is for --table power"),
        (("A=a", "B=b", "--sd", "population", "--table", "pairs"), "--sd is for --table summary"),
    ],
)
def test_wrong_usage(arguments, message):
    assert message in usage_error(TOOL, *arguments)


# Cases that a model lacks


@pytest.fixture
def lacking(tmp_path):
    """Return two models: B leaves out the case in which A is bad."""
    a = write(tmp_path / "a.tsv", "case dice assd_mm", "1 .9 1", "2 .8 2", "3 .1 30")
    b = write(tmp_path / "b.tsv", "case dice assd_mm", "1 .9 1", "2 .8 2")
    return f"A={a}", f"B={b}"


def test_a_case_that_a_team_left_out_is_an_error_and_nothing_is_compared(lacking):
    result = run(TOOL, *lacking, "--table", "ranking")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("lnq-compare: B has no row of 3; --missing drop leaves")


def test_a_case_that_a_team_left_out_has_the_worst_value(lacking):
    result = succeed(TOOL, *lacking, "--missing", "worst")
    assert result.err == (
        "lnq-compare: warning: B has no row of 3; the worst value stands for that\n"
    )
    dice_a, dice_b, assd_a, assd_b = rows_of(result.out)
    assert numbers(dice_a, "mean", "n", "n_missing") == pytest.approx([0.6, 3, 0])
    assert numbers(dice_b, "mean", "n", "n_missing") == pytest.approx([1.7 / 3, 3, 1])
    assert numbers(assd_b, "mean", "n_missing") == pytest.approx([11, 1])  # 30 is the worst of all
    assert assd_a["mean"] == "11"
    call = (*lacking, "--missing", "worst", "--empty", "115.27", "--metric", "assd_mm")
    assert numbers(rows_of(succeed(TOOL, *call).out)[1], "mean") == pytest.approx([118.27 / 3])
    first, second = rows_of(
        succeed(TOOL, *lacking, *DICE, "--missing", "worst", "--table", "ranking").out
    )
    assert (first["model"], second["model"], second["n_missing"]) == ("A", "B", "1")


@pytest.mark.parametrize("spelling", [("--missing", "drop"), ("--intersect",)])
def test_a_case_is_left_out_for_all_on_request_and_counted(spelling, lacking):
    result = succeed(TOOL, *lacking, *DICE, *spelling)
    assert result.err == "lnq-compare: warning: B has no row of 3; left out for all\n"
    assert [numbers(row, "mean", "n", "n_missing") for row in rows_of(result.out)] == [
        pytest.approx([0.85, 2, 0]),
        pytest.approx([0.85, 2, 1]),
    ]
    text = succeed(TOOL, *lacking, *DICE, *spelling, "--format", "markdown").lines
    assert text[0].endswith("| Dice n | Dice missing |")
    assert text[3].endswith("| 2 | 1 |")


def test_what_cannot_be_judged_is_not_held_against_a_team(tmp_path):
    """Without a reference nobody has a recall: a team that left the case out has none either."""
    full = write(tmp_path / "a.tsv", "case status recall", "1 ok .5", "2 empty_reference -")
    less = write(tmp_path / "b.tsv", "case status recall", "1 ok .7")
    call = (f"A={full}", f"B={less}", "--metric", "recall", "--missing", "worst", "-q")
    assert [numbers(row, "mean", "n_undefined") for row in rows_of(succeed(TOOL, *call).out)] == [
        [0.5, 1],
        [0.7, 1],
    ]


# Seeds


@pytest.fixture
def seeds(tmp_path):
    """Return values (seeds, models, cases) and the tables of each, one per seed and model."""
    values = np.random.default_rng(0).random((3, 2, 12)).round(3)
    paths = {}
    for seed, of_seed in enumerate(values):
        for model, its in zip("AB", of_seed, strict=True):
            rows = [f"c{n} {seed + 10} {value}" for n, value in enumerate(its)]
            paths[seed, model] = write(tmp_path / f"{model}{seed}.tsv", "case seed dice", *rows)
    return values, paths


def test_seeds_are_a_level_of_their_own(seeds, tmp_path):
    values, paths = seeds
    tables = [f"{model}={path}" for (_, model), path in paths.items()]
    call = (*DICE, "--group", "seed", "--ci", "0.9", "--table", "pairs", "--resamples", 2000)
    result = succeed(TOOL, *tables, *call)
    (row,) = rows_of(result.out)
    differences = values[:, 0] - values[:, 1]
    assert float(row["mean_difference"]) == pytest.approx(differences.mean())
    assert float(row["p_superior"]) == pytest.approx((differences > 0).mean())
    generator = np.random.default_rng(0)
    of_seeds, of_cases = (generator.integers(n, size=(2000, n)) for n in (3, 12))
    means = [differences[of][:, cs].mean() for of, cs in zip(of_seeds, of_cases, strict=True)]
    assert numbers(row, "ci_low", "ci_high") == pytest.approx(
        np.percentile(means, [5, 95]), abs=6e-3
    )
    assert row["ci_method"] == "percentile"
    # the same of one long table
    lines = [path.read_text().splitlines()[1:] for path in paths.values()]
    named = [f"{line}\t{key[1]}" for key, of in zip(paths, lines, strict=True) for line in of]
    long = tmp_path / "long.tsv"
    long.write_text("\n".join(["case\tseed\tdice\tmodel_name", *named]) + "\n")
    assert succeed(TOOL, long, "--by", "model_name", *call).out == result.out


def test_tables_without_the_column_are_seeds_in_their_order(seeds, tmp_path):
    values, paths = seeds
    tables = []
    for (seed, model), path in paths.items():
        bare = tmp_path / f"bare{model}{seed}.tsv"
        cells = [line.split("\t") for line in path.read_text().splitlines()]
        bare.write_text("".join(f"{case}\t{dice}\n" for case, _, dice in cells))
        tables.append(f"{model}={bare}")
    rows = rows_of(succeed(TOOL, *tables, *DICE, "--group", "seed").out)
    for k, row in enumerate(rows):
        assert float(row["mean"]) == pytest.approx(values[:, k].mean())
        assert float(row["sd"]) == pytest.approx(values[:, k].mean(axis=0).std(ddof=1))
        assert float(row["sd_groups"]) == pytest.approx(values[:, k].mean(axis=1).std(ddof=1))
    text = succeed(TOOL, *tables, *DICE, "--group", "seed", "--format", "markdown").lines
    assert "| Dice SD of groups |" in text[0]


def test_seeds_that_do_not_fit_are_told(seeds):
    _, paths = seeds
    tables = [f"{model}={path}" for (_, model), path in paths.items()]
    result = run(TOOL, *tables[:-1], *DICE, "--group", "seed")
    assert result.err == (
        "lnq-compare: A has the seed 10, 11, 12, B 10, 11: models are compared on the same ones\n"
    )
    twice = run(TOOL, *tables, tables[0], *DICE, "--group", "seed")
    assert twice.err.endswith("A: two tables have the seed 10\n")
    alone = run(TOOL, *tables[:2], *DICE, "--group", "run")
    assert "has no column named run, and is the only table of A" in alone.err


def test_a_study_is_planned(seeds):
    _, paths = seeds
    tables = [f"{model}={path}" for (_, model), path in paths.items()]
    call = (*tables, *DICE, "--group", "seed", "--table", "power", "--cases", 100, "--groups", 5)
    (row,) = rows_of(succeed(TOOL, *call, "--difference", "0.1").out)
    spread = numbers(row, "sd_cases", "sd_groups", "sd_rest")
    error = math.sqrt(sum(s**2 / n for s, n in zip(spread, (100, 5, 500), strict=True)))
    assert float(row["standard_error"]) == pytest.approx(error)
    assert float(row["detectable"]) == pytest.approx(2.8016 * error, rel=1e-4)
    assert 0 < float(row["power"]) < 1
    text = succeed(TOOL, *call, "--difference", "0.1", "--format", "markdown").lines
    assert text[0].endswith(
        "| cases planned | groups planned | standard error | detectable | power for 0.100 |"
    )
    one = run(TOOL, *tables[:2], *DICE, "--table", "power", "--groups", 2)
    assert (one.status, one.err) == (
        1,
        "lnq-compare: how seeds differ is not known from one of each model: --group says which "
        "column, or which tables of a model, are several\n",
    )


# Spread


def test_a_population_sd_is_said_in_the_head(tmp_path):
    table = write(tmp_path / "a.tsv", "case dice", "1 .5", "2 .7", "3 .9")
    call = (f"A={table}", *DICE, "--sd", "population")
    (row,) = rows_of(succeed(TOOL, *call).out)
    assert "sd" not in row
    assert float(row["sd_population"]) == pytest.approx(np.std([0.5, 0.7, 0.9]))
    text = succeed(TOOL, *call, "--format", "markdown").lines
    assert text[0] == "| model | Dice ↑ mean ± SD (n) | Dice median | Dice n |"
    assert text[2] == "| A | **0.700 ± 0.163** | 0.700 | 3 |"


# Cross-validation


def test_a_cross_validation_is_compared_as_lnq_train_writes_it(tmp_path):
    from lnqtools.nnunet.validate import TABLE, _write_table, annotated_overlap

    label = np.zeros((4, 6, 6), np.uint8)
    label[1:3, 1:4, 1:4] = 1
    label[:, :, 5] = 2
    rows = []
    for case, wide in (("a", 4), ("b", 5)):
        predicted = np.zeros(label.shape, np.uint8)
        predicted[1:3, 1:4, 1:wide] = 1
        facts = annotated_overlap(predicted, label, (3, 1, 1))
        rows.append({"case": case, "cohort": "lnq", "fold": "0", **facts})
    _write_table(rows, tmp_path / TABLE)
    result = succeed(TOOL, f"cv={tmp_path / TABLE}")
    means = {row["metric"]: float(row["mean"]) for row in rows_of(result.out)}
    assert means == pytest.approx(
        {
            "dice_annotated": np.mean([1, 2 * 18 / (18 + 24)]),
            "precision_annotated": np.mean([1, 18 / 24]),
            "recall_annotated": 1,
        }
    )
    text = succeed(TOOL, f"cv={tmp_path / TABLE}", "--format", "markdown").lines
    assert text[0].startswith("| model | Dice on annotated voxels ↑ mean ± SD (n - 1) |")
    call = (f"cv={tmp_path / TABLE}", f"again={tmp_path / TABLE}", "--table", "ranking")
    assert [row["rank"] for row in rows_of(succeed(TOOL, *call).out)] == ["1"] * 6
