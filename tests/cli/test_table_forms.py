"""The suffix of a table's file is its form, in every tool that makes one."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from lnqtools.cli._tables import PLACES, table_form
from tests.cli.cohort import make_cohort
from tests.cli.helpers import rows_of, usage_error
from tests.conftest import succeed
from tests.dicom_data import write_ct
from tests.suite import COMMANDS, command

CALLS = {
    "lnq-crop": ("--boxes", "ct/plain.nii.gz --lungs lungs -q -O out"),
    "lnq-weaklabel": ("--table", "ann/plain.nii.gz --strategy mask -O out"),
    "lnq-pseudolabel": ("--table", "label/plain.nii.gz --anatomy ts --classes v2 -O out"),
    "lnq-filter-diameter": ("--table", "ann/plain.nii.gz -O out"),
    "lnq-phantom": ("--table", "-n 1 -O out"),
    "lnq-dicom images": ("--table", "dicom"),
    "lnq-metrics": ("-o", "ann/plain.nii.gz --reference truth --missing drop"),
    "lnq-threshold": ("-o", "probability/plain.nii.gz --reference truth --thresholds 0.5 -q"),
    "lnq-stats": ("-o", "label/plain.nii.gz"),
    "lnq-compare": ("-o", "A=a.tsv"),
    "lnq-check": ("-o", "a.tsv ct/plain.nii.gz"),
}
"""The option that says where the table goes, and a call."""
PAPER = ("lnq-stats", "lnq-compare")

each_tool = pytest.mark.parametrize("tool", CALLS)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = make_cohort(tmp_path_factory.mktemp("cohort"))
    write_ct(folder / "dicom")
    (folder / "a.tsv").write_text("case\tdice\tassd_mm\nplain\t0.5\t2\n")
    return folder


def test_these_are_all_tools_that_make_tables():
    of_tables = {
        name for name in COMMANDS if any(option.name == "form" for option in command(name).params)
    }
    assert of_tables == CALLS.keys()
    for name in of_tables:
        assert {option.name for option in command(name).params} & {*PLACES}, name


@each_tool
def test_the_suffix_is_the_form(tool, cohort, tmp_path):
    option, line = CALLS[tool]
    for number, form in enumerate(("tsv", "csv", "jsonl")):
        place = tmp_path / f"a.b.{form.upper() if number else form}"
        call = line.replace("-O out", f"-O {tmp_path}/{form}").split()
        succeed(*tool.split(), *call, option, place, cwd=cohort)
        rows = rows_of(place.read_text(), form)
        if form == "tsv":
            expected = rows
        elif form == "csv":
            assert rows == expected
        else:
            assert [list(row) for row in rows] == [list(row) for row in expected]


@pytest.mark.parametrize("tool", PAPER)
def test_the_suffix_is_the_form_for_papers_too(tool, cohort, tmp_path):
    option, line = CALLS[tool]
    succeed(tool, *line.split(), option, tmp_path / "t.md", cwd=cohort)
    assert (tmp_path / "t.md").read_text().startswith("| ")
    succeed(tool, *line.split(), option, tmp_path / "t.tex", cwd=cohort)
    assert "\\begin{tabular}" in (tmp_path / "t.tex").read_text()


@each_tool
@pytest.mark.parametrize("name", ["t.xlsx", "t.txt", "t", "t.tsv.gz", "csv", "t.json", "t.md"])
def test_other_suffixes_are_refused(tool, name):
    if name == "t.md" and tool in PAPER:
        pytest.skip("writes Markdown")
    option, line = CALLS[tool]
    known = ".tsv, .csv, .jsonl, .md or .tex" if tool in PAPER else ".tsv, .csv or .jsonl"
    assert usage_error(tool, *line.split(), option, name) == f"{name}: a table is named {known}"
    with_form = usage_error(tool, *line.split(), option, name, "--format", "csv")
    assert with_form == f"{name}: a table is named {known}"


@each_tool
def test_another_format_than_the_suffix_is_refused(tool):
    option, line = CALLS[tool]
    for name, form in (("t.csv", "tsv"), ("t.tsv", "jsonl"), ("a/t.jsonl", "csv")):
        said = usage_error(tool, *line.split(), "--format", form, option, name)
        assert said == f"--format {form} contradicts the name of {name}"


@each_tool
def test_standard_output_has_the_format_that_is_asked_for(tool, cohort, tmp_path):
    option, line = CALLS[tool]
    call = line.replace("-O out", f"-O {tmp_path}/out").split()
    more = ["-f"] if "-O" in call else []
    tsv = succeed(*tool.split(), *call, option, "-", cwd=cohort).out
    csv = succeed(*tool.split(), *call, option, "-", "--format", "csv", *more, cwd=cohort).out
    assert rows_of(csv, "csv") == rows_of(tsv, "tsv") != []


def test_what_has_no_name_of_its_own_has_the_format_that_is_asked_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (None, "-", "/dev/stdout", "/dev/fd/63", str(pipe)):
        assert table_form(place, None, ["tsv", "csv"]) == "tsv"
        assert table_form(place, "csv", ["tsv", "csv"]) == "csv"
    for place in (str(tmp_path), str(tmp_path / ("x" * 300))):
        with pytest.raises(click.UsageError, match=r"a table is named \.tsv or \.csv"):
            table_form(place, None, ["tsv", "csv"])
