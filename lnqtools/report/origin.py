"""Where a report comes from: what made it, its images and the model, as they recorded it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lnqtools.errors import LnqError
from lnqtools.files.tables import Row
from lnqtools.labels.lost import RECORD
from lnqtools.report.contents import CaseContent, Report
from lnqtools.report.markup import options_list


def origin(contents: Sequence[CaseContent], report: Report) -> str:
    """Say what made the report, its images and the model."""
    parts = ["<h3>This report</h3>", _record(report.made_with)]
    for role in dict.fromkeys(role for content in contents for role in content.records):
        parts.append(f"<h3>{escape(role[0].upper() + role[1:])}</h3>")
        parts += [_record_of(*group) for group in _grouped(contents, role)]
    if report.model is not None:
        parts += ["<h3>Model</h3>", model_text(report.model)]
    return "".join(parts)


def _grouped(contents: Sequence[CaseContent], role: str) -> list[tuple[Row | None, int]]:
    """Return each way in which images of a kind were made, and of how many cases.

    What content each was made from is a case's own, and left out.
    """
    counts: dict[str, int] = {}
    for content in contents:
        record = content.records.get(role)
        how = record and {k: v for k, v in record.items() if k not in (RECORD, "made_from")}
        key = json.dumps(how, sort_keys=True)
        counts[key] = counts.get(key, 0) + 1
    return [(json.loads(key), count) for key, count in counts.items()]


def _record_of(record: Row | None, count: int) -> str:
    cases = f"{count} case{'s' * (count != 1)}"
    if record is None:
        return f"<p>{cases}: the files do not say what made them.</p>"
    return f"<p>{cases}:</p>{_record(record)}"


def _record(record: Mapping[str, Any]) -> str:
    """Return tool, version, options and other versions."""
    head = f"{record.get('tool', '')} {record.get('version', '')}"
    rest = {key: record[key] for key in record if key not in ("tool", "version", "options")}
    options = record.get("options", {})
    listed = options if isinstance(options, Mapping) else {"options": options}
    return f"<p><strong>{escape(head)}</strong></p>{options_list({**listed, **rest})}"


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
    parts = [options_list({**data, **made["recipe"]})]
    for run in record["runs"]:
        command = shlex.join(str(word) for word in run["command"])
        parts.append(f"<p>Fold {escape(str(run['fold']))}:</p><pre>{escape(command)}</pre>")
        others = {k: run[k] for k in ("device", "gpus", "threads", "versions", "git") if k in run}
        parts.append(options_list(others))
    return "".join(parts)
