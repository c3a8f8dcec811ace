#!/usr/bin/env python3
"""Table 3 with one's own numbers beside the paper's.

Usage: table3.py [--paper FILE] MODEL=FILE...

FILE is a model's table of lnq-metrics; a model that is named again was trained with another seed.
Mean and standard deviation (n − 1) are over all predictions of a model, of all seeds. A distance
is undefined where prediction or reference is empty; n_undefined counts these, and they are left
out of its mean.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

COLUMNS = (
    *("model", "dice_mean", "dice_sd", "assd_mean", "assd_sd", "n", "n_undefined", "seeds"),
    *("paper_dice", "paper_assd"),
)


def read_rows(path: str) -> list[dict[str, str]]:
    """Return the rows of a TSV file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def spread(values: Sequence[float]) -> tuple[str, str]:
    """Return mean and standard deviation as text, blank where there are too few values."""
    mean = f"{statistics.fmean(values):.4f}" if values else ""
    return mean, f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""


def model_row(name: str, tables: Sequence[list[dict[str, str]]], paper: dict[str, str]) -> list:
    """Return a model's row of the table."""
    rows = [row for table in tables for row in table]
    distances = [float(row["assd_mm"]) for row in rows if row["assd_mm"]]
    return [
        name,
        *spread([float(row["dice"]) for row in rows if row["dice"]]),
        *spread(distances),
        len(rows),
        len(rows) - len(distances),
        len(tables),
        paper.get("dice", ""),
        paper.get("assd", ""),
    ]


def main() -> None:
    """Read the tables and write the one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--paper", help="the paper's numbers: a table of model, dice, assd")
    parser.add_argument("tables", nargs="+", metavar="MODEL=FILE")
    given = parser.parse_args()
    paper = {row["model"]: row for row in read_rows(given.paper)} if given.paper else {}
    models: dict[str, list[list[dict[str, str]]]] = {}
    try:
        for text in given.tables:
            name, equals, path = text.partition("=")
            if not (name and equals and path):
                parser.error(f"{text} is not MODEL=FILE")
            models.setdefault(name, []).append(read_rows(path))
        lines = [model_row(name, found, paper.get(name, {})) for name, found in models.items()]
    except (OSError, KeyError) as error:
        sys.exit(f"table3.py: {error}")
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerows([COLUMNS, *lines])


if __name__ == "__main__":
    main()
