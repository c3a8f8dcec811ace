#!/usr/bin/env python3
"""The study's tables in Markdown, for its page of results, and the plot of its intervals.

Usage: results.py METRICS [--paper FILE] [--phases FILE] [--places FILE] [--plot FILE]

METRICS holds MODEL/seedN/cases.tsv and lesions.tsv of lnq-metrics, --paper the paper's numbers,
--phases lnq-phantom's table of the test set, --places the table of false_positives.py. Means are
over cases and seeds; intervals are those of claims.py, 2.5 to 97.5 % over both.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from claims import interval, values_of
from table3 import read_rows

SIZES_MM = (0.0, 5.0, 10.0, 15.0, math.inf)
PLACES = 8
"""Places of false positives that have a column; the others are taken together."""


def natural(name: str) -> list:
    """Return a key that sorts 9 before 10, and words after numbers."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose first column is words and whose others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def short(value: float) -> str:
    """Return a share or a Dice with three digits and no leading 0."""
    return f"{value:.3f}".replace("0.", ".", 1)


def array_of(values: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return seed → case → value as (seed, case)."""
    cases = list(next(iter(values.values())))
    return np.array([[of_seed[case] for case in cases] for of_seed in values.values()])


def scores_table(models: Sequence[Path], paper: Mapping[str, Mapping[str, str]]) -> str:
    """Return Table 3: Dice, ASSD, precision and recall, and the paper's beside them."""
    rows = []
    for model in models:
        dice = array_of(values_of(model, "dice"))
        assd = array_of(values_of(model, "assd_mm"))
        low, high = interval(dice)
        cells = [row for path in sorted(model.glob("seed*/cases.tsv")) for row in read_rows(path)]
        theirs = paper.get(model.name, {})
        rows.append(
            [
                model.name,
                f"{short(dice.mean())} ± {short(dice.std(ddof=1))}",
                f"{short(low)} to {short(high)}",
                f"{assd.mean():.1f}",
                f"{sum(not row['assd_mm'] for row in cells)}",
                *(mean_of(cells, name) for name in ("precision", "recall")),
                short(float(theirs["dice"])) if theirs else "–",
                f"{float(theirs['assd']):.1f}" if theirs else "–",
            ]
        )
    head = ("model", "Dice", "95 %", "ASSD mm", "empty", "precision", "recall")
    return table((*head, "paper's Dice", "ASSD mm"), rows)


def mean_of(rows: Sequence[Mapping[str, str]], column: str) -> str:
    """Return the mean of a column where it is defined."""
    return short(statistics.fmean(float(row[column]) for row in rows if row[column]))


def seeds_table(models: Sequence[Path]) -> str:
    """Return the mean Dice of each seed."""
    values = {model.name: values_of(model, "dice") for model in models}
    seeds = sorted({seed for of in values.values() for seed in of}, key=natural)
    rows = (
        [
            name,
            *(short(statistics.fmean(of[seed].values())) if seed in of else "–" for seed in seeds),
        ]
        for name, of in values.items()
    )
    return table(("model", *(seed.replace("seed", "seed ") for seed in seeds)), rows)


def phases_table(models: Sequence[Path], phase_of: Mapping[str, str]) -> str:
    """Return the mean Dice by phase of contrast."""
    phases = list(dict.fromkeys(phase_of.values()))
    rows = []
    for model in models:
        found = defaultdict(list)
        for of_seed in values_of(model, "dice").values():
            for case, dice in of_seed.items():
                found[phase_of[case]].append(dice)
        rows.append([model.name, *(short(statistics.fmean(found[phase])) for phase in phases)])
    counts = [sum(phase == each for each in phase_of.values()) for phase in phases]
    return table(("model", *(f"{p} ({n})" for p, n in zip(phases, counts, strict=True))), rows)


def sizes_table(models: Sequence[Path]) -> str:
    """Return how much of a true node is predicted, by its diameter (Figure 5)."""
    bins = list(pairwise(SIZES_MM))
    rows, counts = [], []
    for model in models:
        tables = [read_rows(path) for path in sorted(model.glob("seed*/lesions.tsv"))]
        nodes = [
            (float(row["diameter_ellipsoid_mm"]), float(row["overlap"]))
            for rows_of_seed in tables
            for row in rows_of_seed
            if row["side"] == "reference"
        ]
        by_size = [[part for mm, part in nodes if low <= mm < high] for low, high in bins]
        counts = [len(parts) // len(tables) for parts in by_size]
        rows.append([model.name, *(short(statistics.fmean(p)) if p else "–" for p in by_size)])
    names = [f"≥ {low:g} mm" if high == math.inf else f"{low:g}–{high:g} mm" for low, high in bins]
    return table(("model", *(f"{n} ({c})" for n, c in zip(names, counts, strict=True))), rows)


def places_table(path: str) -> str:
    """Return ml of false positives per case by place: the places that have most, and the rest."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seeds = defaultdict(set)
    for row in read_rows(path):
        found[row["model"]][row["place"]].append(float(row["ml"]))
        seeds[row["model"]].add(row["seed"])
    totals: dict[str, float] = defaultdict(float)
    for of_place in found.values():
        for place, ml in of_place.items():
            totals[place] += sum(ml)
    places = sorted(totals, key=lambda place: -totals[place])[:PLACES]
    rows = []
    for model in sorted(found, key=natural):
        ml = {place: sum(parts) / len(seeds[model]) for place, parts in found[model].items()}
        of_places = [ml.get(place, 0.0) for place in places]
        total = sum(ml.values())
        rows.append(
            [model, *(f"{value:.1f}" for value in (total, *of_places, total - sum(of_places)))]
        )
    names = (place.replace("_", " ") for place in places)
    return table(("model", "ml in all", *names, "others"), rows)


def plot(models: Sequence[Path], paper: Mapping[str, Mapping[str, str]], target: str) -> None:
    """Draw each model's mean Dice with its interval, and the paper's."""
    from lnqtools.figures.style import BLUE, SINGLE_MM, VERMILION, look, new_figure, picture_bytes

    found = [array_of(values_of(model, "dice")) for model in models]
    means = np.array([dice.mean() for dice in found])
    ends = np.array([interval(dice) for dice in found]).T
    names = [model.name for model in models]
    theirs = [(float(paper[name]["dice"]), row) for row, name in enumerate(names) if name in paper]
    with look():
        figure = new_figure(SINGLE_MM, 10 + 4.5 * len(models))
        axes = figure.add_subplot()
        axes.errorbar(
            *(means, range(len(models))),
            xerr=abs(ends - means),
            fmt="o",
            color=BLUE,
            label="phantoms",
        )
        if theirs:
            axes.plot(*zip(*theirs, strict=True), "D", mfc="none", color=VERMILION, label="paper")
        axes.set(xlabel="Dice", ylabel="model", xlim=(0, 0.8))
        axes.set_yticks(range(len(models)), names)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.legend(loc="lower left")
    Path(target).write_bytes(picture_bytes(figure, "png"))


def main() -> None:
    """Read the tables and write those of the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("metrics", type=Path)
    for option in ("--paper", "--phases", "--places", "--plot"):
        parser.add_argument(option, metavar="FILE")
    given = parser.parse_args()
    models = sorted((path for path in given.metrics.iterdir()), key=lambda path: natural(path.name))
    paper = {row["model"]: row for row in read_rows(given.paper)} if given.paper else {}
    parts = {"Models": scores_table(models, paper), "Dice by seed": seeds_table(models)}
    if given.phases:
        phase_of = {row["case"]: row["phase"] for row in read_rows(given.phases)}
        parts["Dice by phase"] = phases_table(models, phase_of)
    parts["Part of a true node that is predicted, by diameter"] = sizes_table(models)
    if given.places:
        parts["False positives, ml per case"] = places_table(given.places)
    if given.plot:
        plot(models, paper, given.plot)
    sys.stdout.write("".join(f"### {title}\n\n{text}\n\n" for title, text in parts.items()))


if __name__ == "__main__":
    main()
