"""A made-up table in the layout of the LNQ2023 challenge's, with the published mean ranks.

One row per case and team, columns named otherwise than ours, NA for the distance of an empty
prediction. The values are invented; what is true of them is in which order they put the teams.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

MEAN_RANKS = {
    "Skeleton Suns": 2.075,
    "IMR": 2.640,
    "CompAI": 2.945,
    "HiLab": 3.855,
    "sofija_engelson": 3.925,
    "SKJP": 5.495,
}
"""Over 100 cases and two metrics; equal values share the best rank."""
WORST_MM = 115.27
CASES = 100
EMPTY_CASES = 6
"""Cases in which two teams predict nothing: they share rank 5 in both metrics."""


def rankings() -> list[dict[str, int]]:
    """Return the ranks 1 to 6 of the teams, of each metric in each case, with the published sums.

    In the first 2 EMPTY_CASES + 1 the teams of rank 5 and 6 are alike: both count as 5.
    """
    drawn = random.Random(0)
    teams = list(MEAN_RANKS)
    tied = 2 * EMPTY_CASES + 1
    ranks = [dict(zip(drawn.sample(teams, 6), range(1, 7), strict=True)) for _ in range(2 * CASES)]
    for first in range(0, 2 * EMPTY_CASES, 2):  # the same two teams in both metrics
        ranks[first + 1] = dict(ranks[first])
    off = {
        team: sum(min(of[team], 5) if k < tied else of[team] for k, of in enumerate(ranks))
        - round(2 * CASES * mean)
        for team, mean in MEAN_RANKS.items()
    }
    while any(off.values()):
        low, high = min(off, key=off.__getitem__), max(off, key=off.__getitem__)
        of = drawn.choice(ranks[tied:])
        by_rank = {rank: team for team, rank in of.items()}
        step = next(t for t in (of[high] - 1, of[high]) if t >= 1)
        other = by_rank[step]
        if other != high and off[other] < off[high]:
            of[high], of[other] = step, of[high]
            off[high] -= 1
            off[other] += 1
        elif low != by_rank[6]:
            other = by_rank[of[low] + 1]
            of[low], of[other] = of[low] + 1, of[low]
            off[low] += 1
            off[other] -= 1
    return ranks


def write_challenge(path: Path) -> Path:
    """Write the table as CSV, in an order in which neither teams nor cases lie together."""
    ranks = rankings()
    rows = []
    for case in range(CASES):
        by_dice, by_distance = ranks[2 * case], ranks[2 * case + 1]
        easy = 0.5 + 0.3 * case / CASES
        for team in MEAN_RANKS:
            empty = case < EMPTY_CASES and by_dice[team] >= 5
            alike = case == EMPTY_CASES and by_dice[team] >= 5
            dice = 0 if empty else 0.1 if alike else round(easy - 0.08 * by_dice[team], 4)
            distance = f"{10 * (1 - easy) + 2 * by_distance[team]:.3f}"
            if case == CASES - 1 and by_distance[team] == 6:
                distance = f"{WORST_MM}"
            rows.append([f"case {case + 1}", dice, "NA" if empty else distance, team])
    random.Random(1).shuffle(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Case", "Dice", "ASSD", "Team"], *rows])
    return path
