"""The page itself: the table of the cases, and all that stands around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote

from lnqtools.files.tables import Row, cell_text
from lnqtools.metrics.columns import column_of
from lnqtools.report.contents import (
    COMPARED_LESIONS,
    FIRST_OF_LESION,
    LABEL_LESIONS,
    LAST_OF_LESION,
    CaseContent,
    Entry,
    Report,
)
from lnqtools.report.markup import classes, heading, rounded
from lnqtools.report.origin import origin
from lnqtools.report.summary import compared_summary, label_summary, predicted_summary

DETECTED = {"tp": "lesions_found", "fn": "lesions_missed", "fp": "lesions_false"}

MAIN_COLUMNS = (
    *("status", "dice", "precision", "recall", "assd_mm", "hd95_mm"),
    *("volume_reference_ml", "volume_prediction_ml", *DETECTED.values()),
    *("voxels", "labeled_per_total_percent", "components", "components_enlarged", "fully_labeled"),
    "components_lost",
)
"""Columns that are seen at once; the others are a click away, in a file of their own."""
NOT_SHOWN = ("case", "model", "preset", "edge")
TEXTS = ("lesion", "verdict")

KINDS = {
    "compared": {
        "": "all",
        "failed": "failed",
        "warning": "with warnings",
        "empty": "with an empty mask",
        "missed": "with missed lesions",
        "false": "with false lesions",
    },
    "predicted": {
        "": "all",
        "failed": "failed",
        "warning": "with warnings",
        "empty": "without a node",
    },
    "labels": {
        "": "all",
        "failed": "failed",
        "warning": "with warnings",
        "empty": "without a node",
        "unknown": "with unknown voxels",
        "lost": "with lost nodes",
    },
}
LAYERS = {
    "compared": {"reference": "missed", "prediction": "false"},
    "predicted": {"prediction": "node"},
    "labels": {"node": "node", "background": "background", "unknown": "unknown"},
}
"""What can be shown over the CT, and the color of each alone."""
LEGENDS = {
    "compared": {
        "both": "in both",
        "missed": "in the reference only",
        "false": "in the prediction only",
    },
    "predicted": {"node": "predicted"},
    "labels": {
        "node": "node (1)",
        "background": "background (0), where others are unknown",
        "unknown": "unknown (2)",
    },
}


WHAT = {
    "compared": "predictions and their references",
    "predicted": "predictions, without references",
    "labels": "labels",
}
SUMMARIES = {
    "compared": compared_summary,
    "predicted": predicted_summary,
    "labels": label_summary,
}


def render(mode: str, entries: Sequence[Entry], report: Report) -> str:
    """Return the page.

    Parameters
    ----------
    mode : {'compared', 'predicted', 'labels'}
        Predictions with references, predictions alone, or labels.
    entries : sequence of Entry
        In the order of the inputs; at least one did not fail. The table has the worst first.
    report : Report
    """
    contents = [entry.content for entry in entries if entry.content is not None]
    lesions = COMPARED_LESIONS if mode == "compared" else LABEL_LESIONS
    columns = [name for name in table_columns(contents) if _is_main(name)]
    parts = {
        **{"cases": "Cases", "summary": "Summary"},
        **({"figures": "Figures"} if report.figures else {}),
        "origin": "How this was made",
    }
    return Template((files("lnqtools.report") / "page.html").read_text("utf-8")).substitute(
        mode=mode,
        title=escape(report.title),
        lead=escape(_lead(mode, entries, report.models)),
        notices=_notices(report.notices),
        contents="".join(f'<a href="#{place}">{name}</a>' for place, name in parts.items()),
        summary=SUMMARIES[mode](entries, report),
        kinds=_choices(KINDS[mode]),
        models=_models_choice(report.models),
        tables=", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in report.tables),
        headings=_headings(columns, bool(report.models), mode == "compared"),
        rows="\n".join(
            _case_row(entry, columns, bool(report.models)) for entry in worst_first(entries)
        ),
        layers="".join(_layer(name, color) for name, color in LAYERS[mode].items()),
        legend=" · ".join(_key(color) + text for color, text in LEGENDS[mode].items()),
        caption=_caption(mode, report),
        lesion_headings="".join(
            f'<th scope="col"{classes("text" * (name in TEXTS))}>{escape(name)}</th>'
            for name in (FIRST_OF_LESION, *lesions, LAST_OF_LESION)
        ),
        figures=_figures(report.figures),
        origin=origin(contents, report),
    )


def worst_first(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries by Dice: failed ones first, then the least; those without one last."""

    def place(entry: Entry) -> tuple[int, float]:
        dice = entry.content.row.get("dice") if entry.content else None
        return (0 if entry.content is None else 2 if dice is None else 1), dice or 0.0

    return sorted(entries, key=place)


def hidden_columns(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the columns that are a click away: name, heading, and a cell for each row.

    A cell is its text and its value; rows are in the table's order.
    """
    contents = [entry.content for entry in entries if entry.content is not None]
    of_rows = [_cells(e.content) if e.content else {} for e in worst_first(entries)]
    return [
        {
            "name": name,
            "heading": column_of(name).heading,
            "cells": [[rounded(name, c.get(name)), cell_text(c.get(name))] for c in of_rows],
        }
        for name in table_columns(contents)
        if not _is_main(name)
    ]


def _lead(mode: str, entries: Sequence[Entry], models: Sequence[str]) -> str:
    """Say what is in the report."""
    count = len(entries) if not models else len({entry.name for entry in entries})
    of = f" of {len(models)} models" if models else ""
    lead = f"{count} case{'s' * (count != 1)}: {WHAT[mode]}{of}, in the CTs they belong to."
    failed = sum(entry.error is not None for entry in entries)
    if mode == "compared":
        lead += " The worst come first."
    return lead + (f" {failed} failed: the table says why." if failed else "")


def _caption(mode: str, report: Report) -> str:
    """Say what the table of a case's lesions is, and by which rule lesions are found."""
    caption = "A click goes to the fullest slice."
    if mode != "compared":
        return f"Nodes. {caption}"
    least = report.definitions.least_iou
    rule, hit = ("IoU with its partner ≥ ", f"{least:g}") if least else ("one ", "voxel")
    covered = "" if least else " covered"
    return (
        f"Lesions. {caption} Found or true: {rule}{hit}{covered} (<code>--hit {hit}</code>). "
        "Overlap: the part that the other mask covers."
    )


def _choices(texts: Mapping[str, str]) -> str:
    return "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in texts.items()
    )


def _models_choice(models: Sequence[str]) -> str:
    """Return the choice of the models whose rows are shown, if there are several."""
    if not models:
        return ""
    choices = _choices({"": "all", **{name: name for name in models}})
    return f'<label>Model <select id="of-model">{choices}</select></label>'


def _notices(notices: Sequence[str]) -> str:
    return "".join(f'<p class="odd">{escape(notice)}</p>' for notice in notices)


def _layer(name: str, color: str) -> str:
    """Return the box that shows or hides a part of the overlay."""
    checked = "" if name == "unknown" else " checked"
    box = f'<input type="checkbox" id="layer-{name}"{checked}>'
    return f"<label>{box} {_key(color)}{name}</label>"


def _key(color: str) -> str:
    return f'<span class="key {color}" aria-hidden="true"></span> '


# The table of cases


def table_columns(contents: Sequence[CaseContent]) -> list[str]:
    """Return the names of the columns between a case's name and the notes."""
    names = dict.fromkeys(name for content in contents for name in _cells(content))
    return ["status", *(name for name in names if name not in ("status", *NOT_SHOWN))]


def _cells(content: CaseContent) -> Row:
    """Return a case's row with its found, missed and false lesions."""
    detected = {
        name: line[count]
        for line in content.detection
        if line["stratum"] == "all"
        for count, name in DETECTED.items()
    }
    return {**content.row, **detected}


def _headings(columns: Sequence[str], models: bool, by_dice: bool) -> str:
    """Return the cells of the table's head."""
    cells = ['<th scope="col" class="name">case</th>']
    cells += ['<th scope="col" class="text">model</th>'] * models
    for name in columns:
        kind = classes("text" * (name == "status"))
        order = ' aria-sort="ascending"' * (by_dice and name == "dice")
        cells.append(f'<th scope="col"{kind}{order} data-column="{name}">{heading(name)}</th>')
    return "".join([*cells, '<th scope="col" class="text">notes</th>'])


def _is_main(column: str) -> bool:
    return column in MAIN_COLUMNS


def _case_row(entry: Entry, columns: Sequence[str], models: bool) -> str:
    """Return a case's row of the table."""
    cells = _cells(entry.content) if entry.content else {}
    name = escape(entry.name)
    data = {"name": entry.name, "flags": " ".join(_flags(entry, cells))}
    if models:
        data["model"] = entry.model
    if entry.content:
        data |= {"number": entry.number, "verdict": _verdict(cells)}
        link = "/".join(quote(part, safe=UNESCAPED) for part in _address(entry, models))
        source = f"cases/{entry.number}.jpg"
        picture = f'<img src="{source}" alt="" loading="lazy" width="64" height="48">'
        name = f'<a href="{escape(f"#case/{link}")}">{picture}<span>{name}</span></a>'
    parts = [f'<th scope="row" class="name" data-value="{escape(entry.name)}">{name}</th>']
    if models:
        model = escape(entry.model)
        parts.append(f'<td class="text" data-value="{model}">{model}</td>')
    for column in columns:
        if column == "status":
            parts.append(_status_cell(entry, cells))
            continue
        value = cells.get(column)
        parts.append(
            f'<td data-value="{escape(cell_text(value))}">{escape(rounded(column, value))}</td>'
        )
    parts.append(_notes_cell(entry))
    named = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    return f"<tr{named}>{''.join(parts)}</tr>"


def _address(entry: Entry, models: bool) -> list[str]:
    return [entry.name, entry.model] if models else [entry.name]


def _verdict(cells: Row) -> str:
    """Return what stands beside a case's name while it is looked at."""
    dice = column_of("dice")
    parts = [f"{dice.title} {rounded('dice', cells['dice'])}"] if "dice" in cells else []
    parts += [f"{cells[name]} {name.split('_')[1]}" for name in DETECTED.values() if name in cells]
    return ", ".join(parts)


UNESCAPED = "!'()*~"
"""What JavaScript's encodeURIComponent leaves as it is, beside what `quote` does."""


def _flags(entry: Entry, cells: Row) -> list[str]:
    """Return what the table can be filtered by."""
    flags = {
        "failed": entry.error is not None,
        "warning": bool(entry.warnings),
        "empty": bool(cells) and _is_empty(cells),
        "missed": bool(cells.get("lesions_missed")),
        "false": bool(cells.get("lesions_false")),
        "unknown": bool(cells.get("voxels_unknown")),
        "lost": bool(cells.get("components_lost") or cells.get("components_cut")),
    }
    return [name for name, is_so in flags.items() if is_so]


def _is_empty(cells: Row) -> bool:
    """Tell whether a mask of a case is empty, or a label without a node."""
    if "status" in cells:
        return cells["status"] != "ok"
    return cells["components"] == 0


def _status_cell(entry: Entry, cells: Row) -> str:
    """Return the cell that says at once whether all is well."""
    if entry.error is not None:
        text, kind = "failed", "bad"
    elif _is_empty(cells):
        text, kind = cells.get("status", "no node").replace("_", " "), "odd"
    else:
        text, kind = "ok", ""
    return f'<td class="text {kind}" data-value="{text}">{text}</td>'


def _notes_cell(entry: Entry) -> str:
    """Return the cell with what went wrong or is odd."""
    count = len(entry.warnings)
    value = entry.error or (f"{count} warnings" if count else "")
    parts = [f'<span class="bad">{escape(entry.error)}</span>'] if entry.error else []
    if count:
        listed = "".join(f"<li>{escape(warning)}</li>" for warning in entry.warnings)
        title = f"{count} warning{'s' * (count != 1)}"
        parts.append(f'<details><summary class="odd">{title}</summary><ul>{listed}</ul></details>')
    return f'<td class="text note" data-value="{escape(value)}">{"".join(parts)}</td>'


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    """Return the pictures that were handed over."""
    if not figures:
        return ""
    shown = "".join(
        f'<figure><img src="{escape(place)}" alt="{escape(name)}" loading="lazy">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for place, name in figures
    )
    return (
        '<section id="figures" aria-labelledby="figures-title">'
        f'<h2 id="figures-title">Figures</h2>{shown}</section>'
    )
