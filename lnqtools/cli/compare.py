"""lnq-compare: tables of metrics of several models → summaries, paired tests, rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import (
    ADJUSTMENTS,
    COMPARISONS,
    FORMATS,
    METHODS,
    TIES,
    ZEROS,
)
from lnqtools.cli._compared import check_names, find_models
from lnqtools.cli._contract import FORCE_OPTION, TABLE_OUTPUT_OPTION, VOICE_OPTIONS
from lnqtools.cli._models import (
    EMPTY_OPTION,
    INTERSECT_OPTION,
    MISSING_OPTION,
    RANK_BY_OPTION,
    WHERE_OPTION,
    undefined_words,
    warn,
)
from lnqtools.cli._names import STREAM
from lnqtools.cli._options import (
    CI_OPTION,
    PAPER_FORMAT_OPTION,
    RESAMPLES_OPTION,
    SD_OPTION,
    SEED_OPTION,
)
from lnqtools.cli._output import check_table_place, write_lines, write_table
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command, say
from lnqtools.cli._values import FiniteRange, Pair, Pairs
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.cli._compared import Compared
    from lnqtools.comparison.tables import Scores
    from lnqtools.files.tables import Row

TOOL = "lnq-compare"
RESERVED = ("metric", "model")
"""Columns of the matrices, which also have one column per model."""

PAPER_METRICS = ("dice", "assd_mm")
FOLD_METRICS = ("dice_annotated", "precision_annotated", "recall_annotated")
"""What is compared if --metric names nothing: of tables of lnq-metrics, of cross-validations."""

DRAWN = ("--ci", "--table ranking")
"""What draws samples."""

TESTED = "--table pairs|pvalues|effects|significance|ranking"
ADJUSTED = "--table pairs|pvalues|significance|ranking"


@command(TOOL, example="lnq-compare noisy=noisy.tsv mask=mask.tsv --table pairs")
@click.argument("tables", nargs=-1, metavar="[NAME=]FILE...", type=Pair("[NAME=]FILE"))
@option(
    "--table",
    "shown",
    type=click.Choice(COMPARISONS),
    default="summary",
    help="Which table to write: the values of each model, every two models compared, their p "
    "values or effect sizes alone as a matrix, the models' ranks, which model is significantly "
    "better than which, or what a study of so many cases would find.",
)
@option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="COLUMN",
    help="Column to compare; may be given several times.  [default: dice and assd_mm; of "
    "cross-validations dice_, precision_ and recall_annotated]",
)
@option(
    "--by",
    metavar="COLUMN",
    help="A FILE without NAME= holds several models, whose names are in COLUMN, as a challenge's "
    "teams.",
)
@option(
    "--case-column",
    default="case",
    metavar="COLUMN",
    help="Column of the cases' names.",
)
@option(
    "--group",
    metavar="COLUMN",
    help="Column of groups beside the cases, as seeds of training; or a NAME is given several "
    "times, a table per group. Samples are drawn of both.",
)
@WHERE_OPTION
@option(
    "--higher-better", multiple=True, metavar="COLUMN", help="Higher values of COLUMN are better."
)
@option(
    "--lower-better", multiple=True, metavar="COLUMN", help="Lower values of COLUMN are better."
)
@EMPTY_OPTION
@MISSING_OPTION
@INTERSECT_OPTION.but(not_with="--missing", help="The old spelling of --missing drop.")
@SD_OPTION.but(only_with=("--table summary", "--format markdown|latex"))
@CI_OPTION.but(only_with="--table summary|pairs")
@RESAMPLES_OPTION.but(only_with=DRAWN)
@SEED_OPTION.but(only_with=DRAWN)
@option(
    "--method",
    type=click.Choice(METHODS),
    default="approx",
    only_with=ADJUSTED,
    help="p values of the signed-rank test: normal approximation without correction for "
    "continuity, as the paper's, or exact.",
)
@option(
    "--zeros",
    type=click.Choice(ZEROS),
    default="wilcox",
    only_with=TESTED,
    help="Zero differences in the test: dropped before ranking (wilcox) or after (pratt).",
)
@option(
    "--adjust",
    type=click.Choice(ADJUSTMENTS),
    default="none",
    only_with=ADJUSTED,
    help="Adjustment of p values for the number of pairs of a metric; of a ranking, of neighbors.",
)
@option(
    "--alpha",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    metavar="P",
    only_with="--table significance|power",
    help="Level of significance.",
)
@RANK_BY_OPTION.but(
    only_with={
        "mean": "--table ranking|significance",
        "median": "--table ranking|significance",
        "ranks": "--table ranking|significance|pairs|pvalues|effects",
        "cases": "--table ranking|significance|pairs|pvalues|effects",
    },
)
@option(
    "--ties",
    type=click.Choice(TIES),
    default="min",
    only_with="--rank-by ranks|cases",
    help="Which of their ranks within a case equal values share: the best, or the mean.",
)
@option(
    "--cases",
    "n_cases",
    type=click.IntRange(min=2),
    metavar="N",
    only_with="--table power",
    help="Cases of the study that is planned.  [default: as many as there are]",
)
@option(
    "--groups",
    "n_groups",
    type=click.IntRange(min=1),
    metavar="N",
    only_with="--table power",
    help="Groups, as seeds, of the study that is planned.  [default: as many as there are]",
)
@option(
    "--difference",
    type=FiniteRange(min=0, min_open=True),
    metavar="D",
    only_with="--table power",
    help="A true difference, to say how likely it is found.",
)
@PAPER_FORMAT_OPTION
@TABLE_OUTPUT_OPTION
@FORCE_OPTION
@VOICE_OPTIONS[0]
@VOICE_OPTIONS[1]
def main(
    tables: Pairs,
    shown: str,
    metrics: tuple[str, ...],
    by: str | None,
    case_column: str,
    group: str | None,
    where: Pairs,
    higher_better: tuple[str, ...],
    lower_better: tuple[str, ...],
    empty: str | float,
    missing: str,
    intersect: bool,
    spread: str,
    level: float | None,
    resamples: int,
    seed: int,
    method: str,
    zeros: str,
    adjust: str,
    alpha: float,
    rank_by: str,
    ties: str,
    n_cases: int | None,
    n_groups: int | None,
    difference: float | None,
    form: str,
    table: str,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compare models by the tables that lnq-metrics wrote of them, case by case.

    The same cases are compared for all models; NAME is what a model is called, FILE its table
    (TSV, CSV or JSON lines; '-': standard input).
    """
    check_names(tables, by, group, RESERVED)
    missing = "drop" if intersect else missing
    asked = directions(metrics or PAPER_METRICS, higher_better, lower_better)
    if shown in ("effects", "ranking", "significance") or empty != "drop" or missing == "worst":
        require_directions(asked)
    if shown != "summary" and by is None and len({name for name, _ in tables}) < 2:
        raise click.UsageError(f"--table {shown} needs at least two models")
    check_table_place(table, [path for _, path in tables if path != STREAM], replace=force)

    compared = find_models(TOOL, tables, where=where, by=by, group=group, reserved=RESERVED)
    if shown != "summary" and len(compared.models) < 2:
        raise LnqError(f"--table {shown} needs at least two models; there is {compared.models[0]}")
    better = asked if metrics or not of_folds(compared) else directions(FOLD_METRICS, (), ())
    scores = aligned(
        compared, better, missing=missing, empty=empty, case_column=case_column, quiet=quiet
    )
    if rank_by in ("ranks", "cases"):
        scores = ranked_within(scores, empty, ties, together=rank_by == "cases")
    make = maker(
        shown,
        empty=empty,
        average="median" if rank_by == "median" else "mean",
        spread=spread,
        drawn={"resamples": resamples, "seed": seed},
        tested={"method": method, "zeros": zeros},
        adjust=adjust,
        level=level,
        planned={"n_cases": n_cases, "n_groups": n_groups, "difference": difference},
        alpha=alpha,
    )
    parts = [make(of_metric) for of_metric in scores]
    if form in FORMATS:
        every = [row for rows in parts for row in rows]
        write_table(every, table, form, replace=force, follow=force)
        return

    from lnqtools.files.typeset import typeset_lines

    texts = text_tables(
        shown, parts, scores, empty=empty, level=level, spread=spread, rank_by=rank_by
    )
    write_lines(typeset_lines(texts, form), table, replace=force, follow=force)


def maker(
    shown: str,
    *,
    empty: str | float,
    average: str,
    spread: str,
    drawn: dict[str, Any],
    tested: dict[str, Any],
    adjust: str,
    level: float | None,
    planned: dict[str, Any],
    alpha: float,
) -> Callable[[Scores], list[Row]]:
    """Return what makes the rows of a table of one metric."""
    from lnqtools.comparison.paired import (
        matrix_rows,
        pair_rows,
        signed_rank_test,
        significance_rows,
    )
    from lnqtools.comparison.power import power_rows
    from lnqtools.comparison.ranking import rank_rows
    from lnqtools.comparison.summaries import summary_rows
    from lnqtools.comparison.tables import fill

    def pairs(scores: Scores) -> list[Row]:
        return pair_rows(fill(scores, empty), **tested, adjust=adjust, level=level, **drawn)

    def ranking(scores: Scores) -> list[Row]:
        test = partial(signed_rank_test, **tested)
        return rank_rows(fill(scores, empty), by=average, test=test, adjust=adjust, **drawn)

    def significance(scores: Scores) -> list[Row]:
        order = rank_rows(fill(scores, empty), by=average, resamples=1)
        return significance_rows(pairs(scores), [row["model"] for row in order], alpha)

    makers: dict[str, Callable[[Scores], list[Row]]] = {
        "summary": lambda s: summary_rows(s, empty, spread=spread, level=level, **drawn),
        "pairs": pairs,
        "pvalues": lambda s: matrix_rows(pairs(s), "p_adjusted"),
        "effects": lambda s: matrix_rows(pairs(s), "rank_biserial", mirrored=-1),
        "ranking": ranking,
        "significance": significance,
        "power": lambda s: power_rows(fill(s, empty), **planned, alpha=alpha),
    }
    return makers[shown]


def ranked_within(
    scores: list[Scores], empty: str | float, ties: str, *, together: bool
) -> list[Scores]:
    """Return the models' ranks within each case, of each metric or of all together."""
    from lnqtools.comparison.ranking import case_ranks
    from lnqtools.comparison.tables import fill

    filled = [fill(of_metric, empty) for of_metric in scores]
    metrics = [filled] if together else [[of_metric] for of_metric in filled]
    return [case_ranks(of_metrics, ties) for of_metrics in metrics]


def aligned(
    compared: Compared,
    better: dict[str, str | None],
    *,
    missing: str,
    empty: str | float,
    case_column: str,
    quiet: bool,
) -> list[Scores]:
    """Bring each metric of the models together, and tell what is odd about them."""
    from lnqtools.comparison.tables import align, grouped

    tables = compared.read(TOOL, list(better), case_column)
    if not quiet:
        warn(TOOL, tables, missing)
    scores = [
        align(tables, metric, better=better[metric], missing=missing, empty=empty)
        for metric in better
    ]
    if compared.column is not None:
        scores = [grouped(s, compared.models, compared.groups) for s in scores]
    if not quiet and empty == "drop":
        for of_metric in scores:
            if words := undefined_words(of_metric):
                say(TOOL, f"warning: {words} (--empty)")
    return scores


def of_folds(compared: Compared) -> bool:
    """Tell whether the tables are cross-validations of lnq-train."""
    return compared.have_column(FOLD_METRICS[0]) and not compared.have_column(PAPER_METRICS[0])


def text_tables(
    shown: str,
    parts: list[list[Row]],
    scores: list[Scores],
    *,
    empty: str | float,
    level: float | None,
    spread: str,
    rank_by: str,
) -> list[list[list[str]]]:
    """Set the rows of each metric out as a paper prints them."""
    from lnqtools.comparison import text
    from lnqtools.comparison.summaries import summary_rows
    from lnqtools.comparison.tables import fill, same_cases

    if shown == "summary":
        better = {of_metric.metric: of_metric.better for of_metric in scores}
        apart = [s.metric for s in scores if not same_cases(fill(s, empty))]
        rows = [row for rows in parts for row in rows]
        return [text.summary_text(rows, better, level, apart)]
    setters: dict[str, Callable[[list[Row], Scores], text.Table]] = {
        "pairs": lambda rows, s: text.pair_text(rows, s.better, level),
        "pvalues": lambda rows, s: text.matrix_text(
            rows, text.p_text, s.better, summary_rows(fill(s, empty), spread=spread)
        ),
        "effects": lambda rows, s: text.matrix_text(rows, text.effect_text, s.better),
        "ranking": lambda rows, s: text.rank_text(rows, s.better, rank_by),
        "significance": lambda rows, s: text.matrix_text(rows, text.verdict_text, s.better),
        "power": lambda rows, s: text.power_text(rows, s.better),
    }
    return [setters[shown](rows, s) for rows, s in zip(parts, scores, strict=True)]


def directions(
    metrics: Sequence[str], higher: Sequence[str], lower: Sequence[str]
) -> dict[str, str | None]:
    """Return metric → 'higher' or 'lower', whichever is better, None where that is unknown.

    Raises
    ------
    click.UsageError
        If a direction is given for a column that is not compared, or both for one.
    """
    from lnqtools.metrics.columns import column_of

    for column in (*higher, *lower):
        if column not in metrics:
            raise click.UsageError(f"{column} is not compared: name it with --metric, too")
        if column in higher and column in lower:
            raise click.UsageError(f"--higher-better and --lower-better both name {column}")
    said = dict.fromkeys(higher, "higher") | dict.fromkeys(lower, "lower")
    return {metric: said.get(metric) or column_of(metric).better for metric in metrics}


def require_directions(better: dict[str, str | None]) -> None:
    """Refuse metrics whose better direction is unknown."""
    for metric, direction in better.items():
        if direction is None:
            raise click.UsageError(
                f"which values of {metric} are better is not known: say --higher-better {metric} "
                f"or --lower-better {metric}"
            )
