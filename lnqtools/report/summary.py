"""What all cases of a report say together: numbers with intervals, and a drawing of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from lnqtools.components.sizes import STRATA
from lnqtools.files.tables import Row, cell_text
from lnqtools.labels.cohorts import DataSets, data_set_rows, voxel_rows
from lnqtools.metrics.lesions import pool_detection
from lnqtools.metrics.summaries import summarize
from lnqtools.report.chart import dot_plot
from lnqtools.report.contents import CaseContent, Definitions, Entry, Report
from lnqtools.report.markup import UNDEFINED, Cell, heading, rounded, table


def with_intervals(
    rows: Sequence[Mapping[str, Any]], level: float, *, resamples: int, seed: int
) -> list[Row]:
    """Summarize a table as `metrics.summaries.summarize` does, with intervals of the means.

    Parameters
    ----------
    rows : sequence of mapping
        One per case.
    level, resamples, seed
        Of the bootstrap, see `lnqtools.comparison.intervals.bootstrap_interval`.

    Returns
    -------
    list of dict
        As `summarize`, each with ``ci_low`` and ``ci_high`` after its mean; None where they are
        undefined.
    """
    from lnqtools.comparison.intervals import bootstrap_interval

    lines = []
    for line in summarize(rows):
        values = [row.get(line["metric"]) for row in rows]
        defined = np.array([v for v in values if v is not None and np.isfinite(v)], float)
        low, high = bootstrap_interval(defined, level, resamples=resamples, seed=seed)
        name, mean, *others = line.items()
        lines.append(dict([name, mean, ("ci_low", low), ("ci_high", high), *others]))
    return lines


def pooled_detection(contents: Sequence[CaseContent]) -> list[Row]:
    """Return found, missed and false lesions of all cases together, one row per range of sizes."""
    rows = [row for content in contents for row in content.detection]
    return [
        {"stratum": stratum, **pool_detection(_of_stratum(rows, stratum))} for stratum in STRATA
    ]


def _of_stratum(rows: Sequence[Row], stratum: str) -> list[Row]:
    return [row for row in rows if row["stratum"] == stratum]


# As HTML


def compared_summary(entries: Sequence[Entry], report: Report) -> str:
    """Return what all cases together say of predictions, of each model if there are several."""
    level = f"{100 * report.level:g} %"
    if not report.models:
        parts = [_compared_parts(entries, report, level)]
    else:
        of = {model: [e for e in entries if e.model == model] for model in report.models}
        parts = [_models_table(of, report, level)]
        for model, its in of.items():
            if any(entry.content for entry in its):
                inside = _compared_parts(its, report, level)
                parts.append(f"<details><summary>{escape(model)}</summary>{inside}</details>")
    return "".join([*parts, folds_table(report.folds), _definitions(report, level)])


def _compared_parts(entries: Sequence[Entry], report: Report, level: str) -> str:
    """Return tiles, drawing and tables of one model."""
    contents = [entry.content for entry in entries if entry.content]
    lines = _lines(contents, report)
    of = {line["metric"]: line for line in lines}
    pooled = pooled_detection(contents)
    tiles = [_case_tile(entries)]
    tiles += [_mean_tile(name, of[name], level) for name in ("dice", "assd_mm") if name in of]
    tiles += _lesion_tiles(pooled[0], len(contents))
    dice = [d for content in contents if (d := content.row["dice"]) is not None]
    return "".join(
        [
            _tiles(tiles),
            dot_plot("dice", dice, of["dice"]) if dice else "",
            table("Metrics over the cases", _spread_rows(lines, level)),
            table("Lesions of all cases, by diameter", [_detection_row(row) for row in pooled]),
        ]
    )


COMPARED_MEANS = ("dice", "precision", "recall", "assd_mm", "hd95_mm")


def _models_table(of: Mapping[str, Sequence[Entry]], report: Report, level: str) -> str:
    """Return the models side by side: means, and lesions of all cases together."""
    rows = []
    for model, entries in of.items():
        contents = [entry.content for entry in entries if entry.content]
        lines = {line["metric"]: line for line in _lines(contents, report)} if contents else {}
        row: dict[str, Cell] = {"model": (model, model), "cases": _plain_cell(len(contents))}
        for name in COMPARED_MEANS:
            if line := lines.get(name):
                interval = _from_to(name, line["ci_low"], line["ci_high"])
                text = f"{rounded(name, line['mean'])} ({interval})"
                row[heading(name)] = (text, cell_text(line["mean"]))
        pooled = pooled_detection(contents)[0]
        row |= {
            title: _plain_cell(pooled[name]) for name, title in (("tp", "found"), ("fn", "missed"))
        }
        row["false"] = _plain_cell(pooled["fp"])
        rows.append(row)
    titles = dict.fromkeys(title for row in rows for title in row)
    nothing = (UNDEFINED, "")
    what = f"Models: means with {level} intervals, and the lesions of all cases"
    return table(what, [{title: row.get(title, nothing) for title in titles} for row in rows])


def _plain_cell(value: int) -> Cell:
    return str(value), str(value)


def folds_table(rows: Sequence[Row]) -> str:
    """Return the cross-validation of the model: a row per fold, and all folds together.

    ``rows`` are those of ``cross-validation.tsv``, one per case.
    """
    if not rows:
        return ""
    names = [name for name in rows[0] if name.endswith("_annotated") and "voxels" not in name]
    folds = {fold: [r for r in rows if r["fold"] == fold] for fold in _folds_of(rows)}
    lines = []
    for fold, of_fold in {**folds, "all": list(rows)}.items():
        row: dict[str, Cell] = {"fold": (fold, fold), "cases": _plain_cell(len(of_fold))}
        for name in names:
            values = [float(r[name]) for r in of_fold if r[name] is not None]
            mean = float(np.mean(values)) if values else None
            row[f"mean {heading(name.removesuffix('_annotated'))}"] = (
                rounded(name, mean),
                cell_text(mean),
            )
        empty = sum(r[names[0]] is None for r in of_fold)
        row["undefined"] = _plain_cell(empty)
        lines.append(row)
    return table("The model's cross-validation, over annotated voxels alone", lines)


def _folds_of(rows: Sequence[Row]) -> list[str]:
    return sorted({str(row["fold"]) for row in rows}, key=lambda fold: (len(fold), fold))


def predicted_summary(entries: Sequence[Entry], report: Report) -> str:
    """Return what all cases together say of predictions without references."""
    level = f"{100 * report.level:g} %"
    parts = []
    for model in report.models or [""]:
        its = [entry for entry in entries if entry.model == model]
        contents = [entry.content for entry in its if entry.content]
        if not contents:
            continue
        total = {
            name: sum(content.row[name] for content in contents)
            for name in ("components", "components_enlarged")
        }
        tiles = [
            _case_tile(its),
            ("predicted nodes", str(total["components"]), ""),
            _enlarged_tile(total, report),
        ]
        title = f"<h3>{escape(model)}</h3>" if model else ""
        spread = table("All cases", _spread_rows(_lines(contents, report), level))
        parts.append(title + _tiles(tiles) + spread)
    return "".join([*parts, folds_table(report.folds), _diameters_and_intervals(report)])


def _enlarged_tile(total: Mapping[str, int], report: Report) -> tuple[str, str, str]:
    small = f"of at least {report.definitions.enlarged_mm:g} mm"
    return "enlarged nodes", str(total["components_enlarged"]), small


def _diameters_and_intervals(report: Report) -> str:
    return f"<p>{escape(_diameter_sentence(report.definitions))} {escape(_interval(report))}</p>"


def label_summary(entries: Sequence[Entry], report: Report) -> str:
    """Return what all cases together say of labels."""
    sets: dict[str, dict] = {}
    for entry in entries:
        if entry.content and entry.content.label:
            sets.setdefault(entry.data_set, {})[entry.name] = entry.content.label
    found: DataSets = sets
    rows = data_set_rows(found, report.definitions.enlarged_mm)
    counts = (
        *("volumes", "components", "components_enlarged", "volumes_fully_labeled"),
        *("components_lost", "components_cut"),
    )
    total = {name: sum(row[name] for row in rows) for name in counts}
    lines = _lines([entry.content for entry in entries if entry.content], report)
    level = f"{100 * report.level:g} %"
    fully = f"{total['volumes_fully_labeled']} of {total['volumes']}"
    tiles = [
        _case_tile(entries),
        ("nodes", str(total["components"]), ""),
        _enlarged_tile(total, report),
        ("fully labeled", fully, "no voxel is unknown"),
        *_lost_tile(total),
    ]
    return "".join(
        [
            _tiles(tiles),
            table("Nodes of each data set", _readable(rows)),
            table("Voxels of each data set", _readable(voxel_rows(found))),
            table("All cases", _spread_rows(lines, level)),
            folds_table(report.folds),
            _diameters_and_intervals(report),
        ]
    )


def _lines(contents: Sequence[CaseContent], report: Report) -> list[Row]:
    """Summarize the cases' rows, with the report's intervals."""
    rows = [content.row for content in contents]
    return with_intervals(rows, report.level, resamples=report.resamples, seed=report.seed)


def _case_tile(entries: Sequence[Entry]) -> tuple[str, str, str]:
    failed = sum(entry.error is not None for entry in entries)
    return "cases", str(len(entries) - failed), f"{failed} failed" if failed else ""


def _lost_tile(total: Row) -> list[tuple[str, str, str]]:
    """Return the tile of drawn nodes that a crop lost, if there are any."""
    lost, cut = total["components_lost"], total["components_cut"]
    if not lost + cut:
        return []
    return [("lost nodes", str(lost), f"drawn outside the labels; {cut} more are cut")]


def _mean_tile(name: str, line: Row, level: str) -> tuple[str, str, str]:
    """Return title, value and small print of a mean."""
    interval = _from_to(name, line["ci_low"], line["ci_high"])
    undefined = f", undefined in {line['n_undefined']}" if line["n_undefined"] else ""
    small = f"{level} interval {interval}; n = {line['n']}{undefined}"
    return f"mean {heading(name)}", rounded(name, line["mean"]), small


def _lesion_tiles(pooled: Row, cases: int) -> list[tuple[str, str, str]]:
    """Return the tiles of found and of false lesions."""
    sensitivity = rounded("sensitivity", pooled["sensitivity"])
    found = f"{pooled['tp']} of {pooled['components_reference']}"
    per_case = rounded("fp_per_case", pooled["fp"] / cases)
    return [
        ("lesions found", found, f"sensitivity {sensitivity}"),
        ("false lesions", str(pooled["fp"]), f"{per_case} per case"),
    ]


def _tiles(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Return a few numbers in large type; titles may hold markup."""
    parts = [
        f"<div><dt>{title}</dt><dd>{escape(value)}<small>{escape(small)}</small></dd></div>"
        for title, value, small in tiles
    ]
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def _from_to(name: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return UNDEFINED
    return f"{rounded(name, low)} to {rounded(name, high)}"


SPREAD = {
    "mean": "mean",
    "sd": "SD",
    "median": "median",
    "min": "min",
    "max": "max",
    "n": "n",
    "n_undefined": "undefined",
    "mean_filled": "mean, worst for undefined",
}
"""Columns of a summary and their headings."""


def _spread_rows(lines: Sequence[Row], level: str) -> list[dict[str, Cell]]:
    """Return the summary of each metric with headings."""
    return [_spread_row(line, level) for line in lines]


def _spread_row(line: Row, level: str) -> dict[str, Cell]:
    """Return the summary of one metric, the interval after the mean."""
    name = line["metric"]
    mean, *others = (
        (title, (rounded(name, line[key]), cell_text(line[key]))) for key, title in SPREAD.items()
    )
    ends = [line["ci_low"], line["ci_high"]]
    interval = _from_to(name, *ends), " ".join(map(cell_text, ends))
    return dict([("metric", (heading(name), name)), mean, (f"{level} interval", interval), *others])


def _detection_row(row: Row) -> dict[str, Cell]:
    """Return found, missed and false lesions of a range of sizes with headings."""
    names = {
        "stratum": "diameter",
        "components_reference": "in the references",
        "components_prediction": "predicted",
        "tp": "found",
        "fn": "missed",
        "fp": "false",
        **{name: heading(name) for name in ("sensitivity", "precision", "f1", "pq")},
    }
    return {
        title: (rounded(name, row[name]), cell_text(row[name])) for name, title in names.items()
    }


def _definitions(report: Report, level: str) -> str:
    """Say how the numbers are defined."""
    chosen = report.definitions
    how = (
        f"as --preset {chosen.preset} of lnq-metrics computes and names them"
        if chosen.preset
        else f"those of lnq-metrics (man lnq-metrics defines them), with --edge {chosen.edge}"
    )
    hit = (
        f"its IoU with its partner is at least {chosen.least_iou:g} (--hit {chosen.least_iou:g})"
        if chosen.least_iou
        else "one voxel of it is covered (--hit voxel)"
    )
    lesions = f"components of {chosen.connectivity}-connected voxels"
    if chosen.instances:
        lesions = f"the numbered nodes of a mask, of one that is not numbered the {lesions}"
    sentences = [
        f"Metrics are {how}.",
        f"Lesions are {lesions}; one is found, or true, if {hit}.",
        _diameter_sentence(chosen),
        _interval(report),
        "Undefined values, of an empty mask, are left out of means; the last column has the worst "
        "in their place, of fractions the worst there can be, of distances the largest.",
    ]
    return f'<p class="soft">{escape(" ".join(sentences))}</p>'


def _diameter_sentence(chosen: Definitions) -> str:
    return f"Diameters are shortest ones, --metric {chosen.metric} of lnq-filter-diameter."


def _interval(report: Report) -> str:
    return (
        "Intervals are of means, by the bootstrap (BCa, of fewer than 10 cases percentiles; "
        f"{report.resamples} samples of cases, seed {report.seed})."
    )


def _readable(rows: Sequence[Row]) -> list[dict[str, Cell]]:
    """Return any rows with headings."""
    return [
        {heading(name): (rounded(name, value), cell_text(value)) for name, value in row.items()}
        for row in rows
    ]
