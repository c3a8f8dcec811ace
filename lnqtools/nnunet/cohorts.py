"""The cohorts of a training, as a table: what is in them, and how often patches are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lnqtools.errors import listed
from lnqtools.files.tables import Row, cell_text
from lnqtools.nnunet.dataset import CaseFacts
from lnqtools.nnunet.view import TRAINED

ENLARGED_MM = 10.0
"""Least shortest diameter of an enlarged node, in the paper and in RECIST 1.1."""

LEAST_BACKGROUND = 0.1
"""Share of annotated voxels that are background, below which a cohort hardly shows any.

Drawn nodes alone have none. A coat of one voxel makes half of it around small nodes, and an eighth
around one of 50 voxels' diameter; pseudo-labels by anatomy and complete annotations make 99.9 %.
"""

MIN_SHARE_REPORTED = 0.005
"""Share of batches without a patch of a fully annotated case that is reported: 1 %, rounded."""


def cohort_rows(
    cases: Sequence[CaseFacts],
    weights: Mapping[str, float],
    guaranteed: int,
    batch_size: int,
) -> list[Row]:
    """Describe each cohort.

    Parameters
    ----------
    cases : sequence of CaseFacts
        Those to train on, with their labels described.
    weights : mapping
        Cohort → how often a case of it is drawn, compared with one of weight 1.
    guaranteed : int
        Patches of a batch that come from a fully annotated case.
    batch_size : int

    Returns
    -------
    list of dict
        One row per cohort, in order of appearance: ``cohort``, ``weight``, ``cases``,
        ``cases_full`` (no voxel is unknown), ``patches_percent`` (expected share of the
        patches trained on), ``spacing_mm`` and ``size`` (medians, x,y,z), ``node_percent``,
        ``background_percent``, ``unknown_percent`` (of the voxels of all its cases together),
        ``components``, ``components_enlarged`` (shortest diameter at least 10 mm), ``stored``
        (how many cases are stored in which orientation, such as ``LPS:8,RAS:2``).
    """
    share = patch_shares(cases, weights, guaranteed, batch_size)
    names = list(dict.fromkeys(case.cohort for case in cases))
    return [
        _row(
            name,
            [case for case in cases if case.cohort == name],
            weights.get(name, 1.0),
            sum(share[k] for k, case in enumerate(cases) if case.cohort == name),
        )
        for name in names
    ]


def short_of_background(rows: Sequence[Row]) -> list[str]:
    """Name the cohorts whose annotated voxels are too seldom background.

    Parameters
    ----------
    rows : sequence of dict
        As `cohort_rows` returns them.
    """
    sentences = []
    for row in rows:
        node, background = row["node_percent"], row["background_percent"]
        if node and background < LEAST_BACKGROUND * (node + background):
            sentences.append(
                f"cohort {row['cohort']}: only {background / (node + background):.1%} of its "
                "annotated voxels are background, its patches teach little but lymph node; "
                "lnq-pseudolabel --anatomy or lnq-weaklabel --strategy coat gives it more, and a "
                "cohort of completely annotated cases makes up for it"
            )
    return sentences


def short_of_full_patches(
    cases: Sequence[CaseFacts], weights: Mapping[str, float], batch_size: int
) -> str | None:
    """Say how many batches lack a patch of a fully annotated case; None for few, or no such case.

    Parameters
    ----------
    cases : sequence of CaseFacts
    weights : mapping
        As for `cohort_rows`; no patch is guaranteed.
    batch_size : int
    """
    shares = patch_shares(cases, weights, 0, batch_size)
    weak = sum(share for share, case in zip(shares, cases, strict=True) if not case.full)
    without = weak**batch_size
    if without < MIN_SHARE_REPORTED or not any(case.full for case in cases):
        return None
    return (
        f"{without:.0%} of the batches will have no patch of a fully annotated case; "
        "--set full_share=0.5 guarantees one in two"
    )


def patch_shares(
    cases: Sequence[CaseFacts], weights: Mapping[str, float], guaranteed: int, batch_size: int
) -> np.ndarray:
    """Return the expected share of patches of each case; see `lnqtools.nnunet.sampling.CaseDraw`.

    With g of B patches guaranteed, w a case's weight and f 1 for a fully annotated case, else 0:
    g/B × w f / Σ w f + (1 − g/B) × w / Σ w. Without such a case nothing is guaranteed.
    """
    weight = np.array([weights.get(case.cohort, 1.0) for case in cases])
    share = weight / weight.sum()
    full = weight * [case.full for case in cases]
    if not guaranteed or not full.any():
        return share
    return guaranteed / batch_size * full / full.sum() + (1 - guaranteed / batch_size) * share


def _row(name: str, cases: Sequence[CaseFacts], weight: float, share: float) -> Row:
    labels = [case.label for case in cases if case.label is not None]
    foreground, background, unknown = (
        sum(getattr(label.voxels, kind) for label in labels)
        for kind in ("foreground", "background", "unknown")
    )
    total = foreground + background + unknown
    return {
        "cohort": name,
        "weight": weight,
        "cases": len(cases),
        "cases_full": sum(case.full for case in cases),
        "patches_percent": 100 * share,
        "spacing_mm": _median_xyz([case.spacing for case in cases], "{:.2f}"),
        "size": _median_xyz([case.shape for case in cases], "{:.0f}"),
        "node_percent": 100 * foreground / total,
        "background_percent": 100 * background / total,
        "unknown_percent": 100 * unknown / total,
        "components": sum(label.components for label in labels),
        "components_enlarged": sum(label.enlarged(ENLARGED_MM) for label in labels),
        "stored": ",".join(f"{code}:{count}" for code, count in _orientations(cases)),
    }


def _orientations(cases: Sequence[CaseFacts]) -> list[tuple[str, int]]:
    """Return in which orientations cases are stored, and how many are; the usual one first."""
    return Counter(case.stored for case in cases).most_common()


def stored_oddly(cases: Sequence[CaseFacts]) -> str | None:
    """Name the cases that are stored in another orientation than most; None if there are none."""
    usual, _ = _orientations(cases)[0]
    odd = [f"{case.name} ({case.stored})" for case in cases if case.stored != usual]
    if not odd:
        return None
    return (
        f"{len(odd)} of {len(cases)} cases are stored in another orientation than {usual}: "
        f"{listed(odd)}; the network sees all as {TRAINED}"
    )


def _median_xyz(values: Sequence[Sequence[float]], form: str) -> str:
    """Return the median along each axis, x first."""
    return ",".join(form.format(v) for v in reversed(np.median(values, axis=0)))


def aligned(rows: Sequence[Row]) -> list[str]:
    """Return rows as lines for a person, in columns."""
    cells = [list(rows[0]), *([_short(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else cell_text(value)
