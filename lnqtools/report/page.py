"""The page itself: the table of the cases, and all that stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from lnqtools.files.tables import Row, cell_text
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
from lnqtools.report.summary import compared_summary, label_summary

DETECTED = {"tp": "lesions_found", "fn": "lesions_missed", "fp": "lesions_false"}

MAIN_COLUMNS = (
    *("status", "dice", "precision", "recall", "assd_mm", "hd95_mm"),
    *("volume_reference_ml", "volume_prediction_ml", *DETECTED.values()),
    *("voxels", "labeled_per_total_percent", "components", "components_enlarged", "fully_labeled"),
    "components_lost",
)
"""Columns that are seen at once; the others are a click away."""
NOT_SHOWN = ("case", "preset", "edge")
TEXTS = ("lesion", "which is")

KINDS = {
    "compared": {
        "": "all",
        "failed": "failed",
        "warning": "with warnings",
        "empty": "with an empty mask",
        "missed": "with missed lesions",
        "false": "with false lesions",
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
    "labels": {"node": "node", "background": "background", "unknown": "unknown"},
}
"""What can be shown over the CT, and the color of each alone."""
LEGENDS = {
    "compared": {
        "both": "in both",
        "missed": "in the reference only",
        "false": "in the prediction only",
    },
    "labels": {
        "node": "node (1)",
        "background": "background (0), where others are unknown",
        "unknown": "unknown (2)",
    },
}


def render(mode: str, entries: Sequence[Entry], report: Report) -> str:
    """Return the page.

    Parameters
    ----------
    mode : {'compared', 'labels'}
        Predictions with references, or labels.
    entries : sequence of Entry
        In the table's order; at least one did not fail.
    report : Report
    """
    contents = [entry.content for entry in entries if entry.content is not None]
    summary = compared_summary if mode == "compared" else label_summary
    lesions = COMPARED_LESIONS if mode == "compared" else LABEL_LESIONS
    columns = _columns(contents)
    parts = {"summary": "Summary", "cases": "Cases", "figures": "Figures", "origin": "Origin"}
    if not report.figures:
        del parts["figures"]
    return Template((files("lnqtools.report") / "page.html").read_text("utf-8")).substitute(
        mode=mode,
        title=escape(report.title),
        lead=escape(_lead(mode, entries)),
        contents="".join(f'<a href="#{place}">{name}</a>' for place, name in parts.items()),
        summary=summary(entries, report) + _notices(report.notices),
        kinds="".join(
            f'<option value="{kind}">{text}</option>' for kind, text in KINDS[mode].items()
        ),
        tables=", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in report.tables),
        headings=_headings(columns),
        rows="\n".join(_case_row(entry, columns) for entry in entries),
        layers="".join(_layer(name, color) for name, color in LAYERS[mode].items()),
        legend=" · ".join(_key(color) + text for color, text in LEGENDS[mode].items()),
        caption="Lesions (a click goes to the fullest slice)",
        lesion_headings="".join(
            f'<th scope="col"{classes("text" * (name in TEXTS))}>{escape(name)}</th>'
            for name in (FIRST_OF_LESION, *lesions, LAST_OF_LESION)
        ),
        figures=_figures(report.figures),
        origin=origin(contents, report),
    )


def _lead(mode: str, entries: Sequence[Entry]) -> str:
    """Say what is in the report."""
    what = "predictions and their references" if mode == "compared" else "labels"
    count = f"{len(entries)} case{'s' * (len(entries) != 1)}: {what}, in the CTs they belong to."
    failed = sum(entry.error is not None for entry in entries)
    return count + (f" {failed} failed: the table says why." if failed else "")


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


def _columns(contents: Sequence[CaseContent]) -> list[str]:
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


def _headings(columns: Sequence[str]) -> str:
    """Return the cells of the table's head."""
    cells = ['<th scope="col" class="name">case</th>']
    for name in columns:
        kind = classes("text" * (name == "status"), "more" * (not _is_main(name)))
        cells.append(f'<th scope="col"{kind} data-column="{name}">{heading(name)}</th>')
    return "".join([*cells, '<th scope="col" class="text">notes</th>'])


def _is_main(column: str) -> bool:
    return column in MAIN_COLUMNS


def _case_row(entry: Entry, columns: Sequence[str]) -> str:
    """Return a case's row of the table."""
    cells = _cells(entry.content) if entry.content else {}
    flags = _flags(entry, cells)
    name = escape(entry.name)
    number = ""
    if entry.content:
        number = f' data-number="{entry.number}"'
        link = f"#case/{quote(entry.name, safe=UNESCAPED)}"
        name = f'<a href="{escape(link)}">{name}</a>'
    parts = [f'<th scope="row" class="name" data-value="{escape(entry.name)}">{name}</th>']
    for column in columns:
        if column == "status":
            parts.append(_status_cell(entry, cells))
            continue
        value = cells.get(column)
        kind = classes("more" * (not _is_main(column)))
        parts.append(
            f'<td{kind} data-value="{escape(cell_text(value))}">'
            f"{escape(rounded(column, value))}</td>"
        )
    parts.append(_notes_cell(entry))
    named = f'data-name="{escape(entry.name)}"{number}'
    return f'<tr {named} data-flags="{" ".join(flags)}">{"".join(parts)}</tr>'


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
    return f'<td class="text" data-value="{escape(value)}">{"".join(parts)}</td>'


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
