#!/usr/bin/env python3
"""A model's table of cases with the mean over its seeds: one row per case, as a seed has.

Usage: mean_of_seeds.py FILE...

FILE is a table of lnq-metrics, of the same cases in each. Seeds of a case are not independent of
each other: what tests models against each other on cases takes one value per case. A value that is
undefined for some seeds is the mean of the others; words are those of the first seed.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Sequence

from table3 import read_rows


def mean(values: Sequence[str]) -> str:
    """Return the mean of the numbers among some cells; the first cell if there is none."""
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return values[0]
    return f"{statistics.fmean(numbers):.10g}" if numbers else ""


def main() -> None:
    """Read the tables and write the one."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {__doc__.split('Usage: ')[1].splitlines()[0]}")
    try:
        seeds = [{row["case"]: row for row in read_rows(path)} for path in sys.argv[1:]]
    except (OSError, KeyError) as error:
        sys.exit(f"mean_of_seeds.py: {error}")
    first = seeds[0]
    if any(seed.keys() != first.keys() for seed in seeds):
        sys.exit("mean_of_seeds.py: the tables are not of the same cases")
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerow(next(iter(first.values()), {}))
    for case, row in first.items():
        cells = [mean([seed[case][name] for seed in seeds]) for name in row if name != "case"]
        writer.writerow([case, *cells])


if __name__ == "__main__":
    main()
