#!/usr/bin/env python3
"""The verdict on each claim of a protocol, from the models' tables of cases.

Usage: claims.py CLAIMS DIR [SEEDS]

CLAIMS is a table (claims.tsv): claim, metric, the two models and the effect that counts, which is
signed as the claim has it; 0 says that the two are alike within the margin of the column `within`.
DIR holds MODEL/seedN/cases.tsv and lesions.tsv of lnq-metrics, the same cases and seeds of each
model. A metric is a column of the former, or `overlap`, the mean over a case's true nodes of how
much of each is predicted, or `overlap_small`, that of nodes below SMALL_MM.

The difference of a case is second - first, a distance that is undefined (an empty prediction)
being EMPTY_MM. Its 95 % interval is that of the mean over a bootstrap of seeds and of cases, both
drawn with replacement, by percentiles. p is two-sided, Wilcoxon's signed ranks of the cases' means
over seeds, and Holm's for all claims of the table together.

    shown         p < .05, the interval on the claim's side of 0, and the mean reaches the effect
    contradicted  p < .05 and the interval on the other side of 0
    not shown     everything else
    alike         is shown by an interval within the margin, contradicted by one outside it
    waits         there are fewer than SEEDS seeds (1)
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np
from table3 import read_rows

from lnqtools.comparison.intervals import resampled_means, without_noise
from lnqtools.comparison.paired import adjust_p_values, signed_rank_test

EMPTY_MM = 100.0
SMALL_MM = 10.0
RESAMPLES = 10_000
LEVEL = 0.05
COLUMNS = (
    *("claim", "metric", "first", "second", "effect", "within", "n", "seeds"),
    *("difference", "low", "high", "sd_cases", "sd_seeds", "p", "p_holm", "verdict"),
)


@dataclass(frozen=True)
class Claim:
    """That the second model differs from the first by at least an effect, or by none."""

    name: str
    metric: str
    first: str
    second: str
    effect: float
    within: float


@dataclass(frozen=True)
class Found:
    """What the cases say of a claim: the mean difference, its interval and p."""

    mean: float
    low: float
    high: float
    p: float


def verdict(claim: Claim, found: Found, p_holm: float) -> str:
    """Return the words of the protocol."""
    if not claim.effect:
        if -claim.within <= found.low and found.high <= claim.within:
            return "shown"
        apart = found.low > claim.within or found.high < -claim.within
        return "contradicted" if apart else "not shown"
    side = np.sign(claim.effect)
    low, high = sorted((found.low * side, found.high * side))
    if p_holm < LEVEL and low > 0 and found.mean * side >= abs(claim.effect):
        return "shown"
    return "contradicted" if p_holm < LEVEL and high < 0 else "not shown"


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (seed, case) differences over seeds and cases."""
    means = resampled_means(differences, resamples=RESAMPLES, seed=0)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def found_of(differences: np.ndarray) -> Found:
    """Return what (seed, case) differences say."""
    of_cases = without_noise(differences.mean(axis=0), differences)
    p = signed_rank_test(of_cases).p
    return Found(float(differences.mean()), *interval(differences), p)


@cache  # a model is in several claims
def values_of(folder: Path, metric: str) -> dict[str, dict[str, float]]:
    """Return seed → case → value of a model."""
    of_nodes = metric in ("overlap", "overlap_small")
    tables = sorted(folder.glob(f"seed*/{'lesions' if of_nodes else 'cases'}.tsv"))
    if not tables:
        sys.exit(f"claims.py: {folder}: no table of {metric} in it")
    values_in = overlaps_in if of_nodes else scores_in
    return {path.parent.name: values_in(path, metric) for path in tables}


def scores_in(path: Path, metric: str) -> dict[str, float]:
    """Return the cases of a table and their values, undefined distances filled."""
    found = {}
    for row in read_rows(str(path)):
        if not row[metric] and not metric.endswith("_mm"):
            sys.exit(f"claims.py: {path}: {metric} of {row['case']} is undefined")
        found[row["case"]] = float(row[metric]) if row[metric] else EMPTY_MM
    return found


def overlaps_in(path: Path, metric: str) -> dict[str, float]:
    """Return the cases of a table of nodes, and how much of their true nodes is predicted."""
    found: dict[str, list[float]] = {}
    for row in read_rows(str(path)):
        counts = metric == "overlap" or float(row["diameter_ellipsoid_mm"]) < SMALL_MM
        if row["side"] == "reference" and counts:
            found.setdefault(row["case"], []).append(float(row["overlap"]))
    return {case: statistics.fmean(values) for case, values in found.items()}


def paired(first: Mapping, second: Mapping, names: str) -> np.ndarray:
    """Return second - first, (seed, case)."""
    if first.keys() != second.keys():
        sys.exit(f"claims.py: {names} have different seeds")
    if len({frozenset(cases) for model in (first, second) for cases in model.values()}) > 1:
        sys.exit(f"claims.py: {names} have different cases")
    some = next(iter(first.values()))
    return np.array([[second[s][case] - first[s][case] for case in some] for s in first])


def read_claims(path: str) -> list[Claim]:
    """Return the claims of a table."""
    return [
        Claim(
            *(row[key] for key in ("claim", "metric", "first", "second")),
            float(row["effect"]),
            float(row["within"] or 0),
        )
        for row in read_rows(path)
    ]


def row_of(
    claim: Claim, differences: np.ndarray, found: Found, p_holm: float, least_seeds: int
) -> list:
    """Return a claim's row of the table."""
    waits = len(differences) < least_seeds
    numbers = (found.mean, found.low, found.high, *spreads(differences))
    return [
        *(claim.name, claim.metric, claim.first, claim.second),
        *(f"{claim.effect:g}", f"{claim.within:g}" if claim.within else ""),
        *reversed(differences.shape),
        *(f"{number:.4f}" for number in numbers),
        *(f"{p:.3g}" for p in (found.p, p_holm)),
        "waits" if waits else verdict(claim, found, p_holm),
    ]


def spreads(differences: np.ndarray) -> tuple[float, float]:
    """Return the standard deviations of the cases' means and of the seeds' means."""
    of_cases, of_seeds = differences.mean(axis=0), differences.mean(axis=1)
    return tuple(
        float(means.std(ddof=1)) if len(means) > 1 else float("nan")
        for means in (of_cases, of_seeds)
    )


def main() -> None:
    """Read the tables and write one row per claim."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: claims.py CLAIMS DIR [SEEDS]")
    models = Path(sys.argv[2])
    try:
        least_seeds = int(*sys.argv[3:]) or 1
        claims = read_claims(sys.argv[1])
        differences = [
            paired(
                values_of(models / claim.first, claim.metric),
                values_of(models / claim.second, claim.metric),
                f"{claim.first} and {claim.second}",
            )
            for claim in claims
        ]
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"claims.py: {error}")
    found = [found_of(of_claim) for of_claim in differences]
    corrected = adjust_p_values(np.array([each.p for each in found]), "holm")
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(row_of, claims, differences, found, corrected, repeat(least_seeds)))


if __name__ == "__main__":
    main()
