"""Names of the records beside models and reports, and the paths that these may hold."""

import ast

import pytest

from lnqtools.files.records import MODEL_RECORD, REPORT_RECORD, leads_out
from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["a", "a/b.pth", "a..b", "..a/b", ".a", "a/c:", "é"])
def test_what_stays_in_its_folder(name):
    assert not leads_out(name)


@pytest.mark.parametrize(
    "name", ["/a", "//s/a", "..", "../a", "a/../b", "a/..", "c:a", "c:/a", "a\\b", "..\\a", "a\0b"]
)
def test_what_could_lead_out_of_it(name):
    assert leads_out(name)


@pytest.mark.parametrize("record", [MODEL_RECORD, REPORT_RECORD])
def test_a_record_s_name_is_written_once(record):
    """As a text of the code; sentences of users may name it."""
    found = [
        path.relative_to(ROOT)
        for path in (ROOT / "lnqtools").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == record
    ]
    assert list(map(str, found)) == ["lnqtools/files/records.py"]
