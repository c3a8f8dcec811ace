"""lnq-compare: tables of metrics of several models → summaries, paired tests, rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lnqtools.choices import (
    ADJUSTMENTS,
    COMPARISONS,
    EMPTY,
    FORMATS,
    METHODS,
    RANKINGS,
    ZEROS,
)
from lnqtools.cli._contract import FORCE_OPTION, TABLE_OUTPUT_OPTION, VOICE_OPTIONS
from lnqtools.cli._models import (
    INTERSECT_OPTION,
    NAMED_TABLES,
    WHERE_OPTION,
    named_tables,
    read_models,
    undefined_words,
    warn,
)
from lnqtools.cli._names import STREAM
from lnqtools.cli._options import (
    CI_OPTION,
    PAPER_FORMAT_OPTION,
    RESAMPLES_OPTION,
    SEED_OPTION,
)
from lnqtools.cli._output import check_table_place, write_lines, write_table
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command, say
from lnqtools.cli._values import Pairs, empty_policy

if TYPE_CHECKING:
    from lnqtools.comparison.tables import Scores

TOOL = "lnq-compare"
RESERVED = ("metric", "model")
"""Columns of the matrices, which also have one column per model."""

DRAWN = ("--ci", "--table ranking")
"""What draws samples."""


@command(TOOL, example="lnq-compare noisy=noisy.tsv mask=mask.tsv --table pairs")
@NAMED_TABLES
@option(
    "--table",
    "shown",
    type=click.Choice(COMPARISONS),
    default="summary",
    help="Which table to write: the values of each model, every two models compared, their p "
    "values or effect sizes alone as a matrix, or the models' ranks.",
)
@option(
    "--metric",
    "metrics",
    multiple=True,
    default=("dice", "assd_mm"),
    metavar="COLUMN",
    help="Column to compare; may be given several times.",
)
@WHERE_OPTION
@option(
    "--higher-better", multiple=True, metavar="COLUMN", help="Higher values of COLUMN are better."
)
@option(
    "--lower-better", multiple=True, metavar="COLUMN", help="Lower values of COLUMN are better."
)
@option(
    "--empty",
    type=empty_policy(EMPTY),
    default="drop",
    help="What stands for distances that are undefined because a mask is empty: nothing (drop), "
    "the largest of any model (worst), or MM; of fractions the worst there can be.",
)
@INTERSECT_OPTION
@CI_OPTION.but(only_with="--table summary|pairs")
@RESAMPLES_OPTION.but(only_with=DRAWN)
@SEED_OPTION.but(only_with=DRAWN)
@option(
    "--method",
    type=click.Choice(METHODS),
    default="approx",
    only_with="--table pairs|pvalues",
    help="p values of the signed-rank test: normal approximation without correction for "
    "continuity, as the paper's, or exact.",
)
@option(
    "--zeros",
    type=click.Choice(ZEROS),
    default="wilcox",
    only_with="--table pairs|pvalues|effects",
    help="Zero differences in the test: dropped before ranking (wilcox) or after (pratt).",
)
@option(
    "--adjust",
    type=click.Choice(ADJUSTMENTS),
    default="none",
    only_with="--table pairs|pvalues",
    help="Adjustment of p values for the number of pairs of a metric.",
)
@option(
    "--rank-by",
    type=click.Choice(RANKINGS),
    default="mean",
    only_with="--table ranking",
    help="What to rank: means, medians, or mean ranks within the cases.",
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
    where: Pairs,
    higher_better: tuple[str, ...],
    lower_better: tuple[str, ...],
    empty: str | float,
    intersect: bool,
    level: float | None,
    resamples: int,
    seed: int,
    method: str,
    zeros: str,
    adjust: str,
    rank_by: str,
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
    paths = named_tables(tables, RESERVED)
    if shown != "summary" and len(paths) < 2:
        raise click.UsageError(f"--table {shown} needs at least two tables")
    check_table_place(table, [path for path in paths.values() if path != STREAM], replace=force)
    better = directions(metrics, higher_better, lower_better)
    if shown in ("effects", "ranking") or empty != "drop":
        require_directions(better)

    from lnqtools.comparison.paired import matrix_rows, pair_rows
    from lnqtools.comparison.ranking import rank_rows
    from lnqtools.comparison.summaries import summary_rows
    from lnqtools.comparison.tables import align, fill

    models = read_models(TOOL, paths, list(better), where)
    if not quiet:
        warn(TOOL, models, intersect)
    scores = [
        align(models, metric, better=better[metric], intersect=intersect) for metric in better
    ]
    if not quiet and empty == "drop":
        for of_metric in scores:
            if words := undefined_words(of_metric):
                say(TOOL, f"warning: {words} (--empty)")
    drawn = {"resamples": resamples, "seed": seed}

    def pairs(of_metric: Scores) -> list[dict]:
        filled = fill(of_metric, empty)
        return pair_rows(filled, method=method, zeros=zeros, adjust=adjust, level=level, **drawn)

    makers = {
        "summary": lambda s: summary_rows(s, empty, level=level, **drawn),
        "pairs": pairs,
        "pvalues": lambda s: matrix_rows(pairs(s), "p_adjusted"),
        "effects": lambda s: matrix_rows(pairs(s), "rank_biserial", mirrored=-1),
        "ranking": lambda s: rank_rows(fill(s, empty), by=rank_by, **drawn),
    }
    parts = [makers[shown](of_metric) for of_metric in scores]
    if form in FORMATS:
        every = [row for rows in parts for row in rows]
        write_table(every, table, form, replace=force, follow=force)
        return

    from lnqtools.files.typeset import typeset_lines

    texts = text_tables(shown, parts, scores, empty=empty, level=level, rank_by=rank_by)
    write_lines(typeset_lines(texts, form), table, replace=force, follow=force)


def text_tables(
    shown: str,
    parts: list[list[dict]],
    scores: list[Scores],
    *,
    empty: str | float,
    level: float | None,
    rank_by: str,
) -> list[list[list[str]]]:
    """Set the rows of each metric out as a paper prints them."""
    from lnqtools.comparison import text
    from lnqtools.comparison.summaries import summary_rows
    from lnqtools.comparison.tables import fill, same_cases

    if shown == "summary":
        better = {of_metric.metric: of_metric.better for of_metric in scores}
        apart = [s.metric for s in scores if not same_cases(fill(s, empty))]
        return [text.summary_text([row for rows in parts for row in rows], better, level, apart)]
    setters = {
        "pairs": lambda rows, s: text.pair_text(rows, s.better, level),
        "pvalues": lambda rows, s: text.matrix_text(
            rows, text.p_text, s.better, summary_rows(fill(s, empty))
        ),
        "effects": lambda rows, s: text.matrix_text(rows, text.effect_text, s.better),
        "ranking": lambda rows, s: text.rank_text(rows, s.better, rank_by),
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
