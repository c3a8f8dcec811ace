"""Where a report comes from: what made it, its images and the model, as they recorded it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lnqtools.errors import LnqError
from lnqtools.files.tables import Row
from lnqtools.labels.lost import RECORD
from lnqtools.report.contents import CaseContent, Report
from lnqtools.report.markup import options_list, plainly

NAMED_VALUES = 3
"""Up to so many values in which records differ are all named."""


def origin(contents: Sequence[CaseContent], report: Report) -> str:
    """Say what made the report, its images and the model."""
    parts = ["<h3>This report</h3>", _record([report.made_with])]
    for role in dict.fromkeys(role for content in contents for role in content.records):
        parts.append(f"<h3>{escape(role[0].upper() + role[1:])}</h3>")
        of_role = [content.records[role] for content in contents if role in content.records]
        parts += [_records_of(group) for group in _grouped(of_role)]
    if report.model is not None:
        parts += ["<h3>Model</h3>", model_text(report.model)]
    return "".join(parts)


def _grouped(records: Sequence[Row | None]) -> list[list[Row | None]]:
    """Bring together what one version of one tool made, or what does not say who made it."""
    groups: dict[Any, list[Row | None]] = {}
    for record in records:
        key = json.dumps([record.get("tool"), record.get("version")]) if record else None
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _records_of(records: list[Row | None]) -> str:
    cases = _cases(len(records))
    made = [record for record in records if record is not None]
    if not made:
        return f"<p>{cases}: the files do not say what made them.</p>"
    return f"<p>{cases}:</p>{_record(made)}"


def _cases(count: int) -> str:
    return f"{count} case{'s' * (count != 1)}"


def _record(records: Sequence[Mapping[str, Any]]) -> str:
    """Return tool, version, options and other versions of records that are of one tool.

    Where they differ, as in a companion's file, it is said in how many ways. What content each
    image was made from, and what was lost on the way, is a case's own, and left out.
    """
    first = records[0]
    head = f"{first.get('tool', '')} {first.get('version', '')}"
    return f"<p><strong>{escape(head)}</strong></p>{options_list(_merged(records))}"


def _merged(records: Sequence[Mapping[str, Any]]) -> Row:
    """Return the options and facts of all records, each once."""
    flat = [_flat(record) for record in records]
    names = dict.fromkeys(name for each in flat for name in each)
    return {name: _all_of([each.get(name) for each in flat]) for name in names}


def _flat(record: Mapping[str, Any]) -> Row:
    options = record.get("options", {})
    listed = options if isinstance(options, Mapping) else {"options": options}
    apart = ("tool", "version", "options", "made_from", RECORD)
    return {**listed, **{name: value for name, value in record.items() if name not in apart}}


def _all_of(values: Sequence[Any]) -> Any:
    """Return the value that all have, or say which there are and how many have each."""
    counts = Counter(json.dumps(value, sort_keys=True) for value in values)
    texts = [(plainly(json.loads(text)), count) for text, count in counts.items()]
    if len(texts) == 1:
        return values[0]
    if len(texts) <= NAMED_VALUES:
        return ", ".join(f"{text} ({_cases(count)})" for text, count in texts)
    return f"{texts[0][0]} and {len(texts) - 1} others"


def model_text(record: Mapping[str, Any]) -> str:
    """Return what ``lnq-train.json`` says: recipe, data, and how each fold was trained.

    Raises
    ------
    LnqError
        If it is not what lnq-train writes.
    """
    try:
        return _model_text(record)
    except (AttributeError, KeyError, TypeError):
        raise LnqError("is not what lnq-train writes") from None


def _model_text(record: Mapping[str, Any]) -> str:
    made = record["made_with"]
    cohorts = {name: 0 for name in made["cohorts"]}
    for case in made["cases"].values():
        cohorts[case["cohort"]] = cohorts.get(case["cohort"], 0) + 1
    data = {
        "cases": len(made["cases"]),
        "cohorts": {name: f"{count} cases" for name, count in cohorts.items()},
        "seed": str(made["seed"]),
        "folds": made["folds"]["count"],
    }
    recipe = {str(key).replace("_", "-"): value for key, value in made["recipe"].items()}
    parts = [options_list({**data, **recipe})]
    for run in record["runs"]:
        command = shlex.join(str(word) for word in run["command"])
        parts.append(f"<p>Fold {escape(str(run['fold']))}:</p><pre>{escape(command)}</pre>")
        others = {k: run[k] for k in ("device", "gpus", "threads", "versions", "git") if k in run}
        parts.append(options_list(others))
    return "".join(parts)
