"""The package as a script sees it: its names, what importing it loads, the examples in its help."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import lnqtools
from tests.conftest import ROOT
from tests.test_house import MODULES

PUBLIC = {
    *("Grid", "Volume", "read_volume", "read_label", "write_volume"),
    *("find_components", "diameters_mm", "find_lesions", "evaluate"),
    *("weak_label", "fill_unknown", "find_lungs", "make_phantom"),
    *("Predictor", "train", "LnqError"),
}

SCRIPT = """
import json, sys
import lnqtools
from lnqtools import *

case = make_phantom(0, 0, profile="easy")
write_volume(Volume(case.truth, case.grid), "truth.nii.gz")
write_volume(Volume(case.weak, case.grid), "weak.nii.gz")
truth, weak = read_label("truth.nii.gz"), read_label("weak.nii.gz")
nodes = find_components(truth.array, truth.grid)
row = evaluate(weak.array, truth.array, truth.spacing)
lesions = find_lesions(weak.array, truth.array, truth.grid)
try:
    read_volume("none.nii.gz")
except LnqError as error:
    refused = str(error)
print(json.dumps({
    "grids": read_volume("weak.nii.gz").grid == truth.grid,
    "diameters": diameters_mm(nodes, "recist").round(1).tolist(),
    "dice": round(row["dice"], 3),
    "found": lesions.reference.hits(0.5).tolist(),
    "refused": refused,
    "loaded": sorted({"numpy", "torch", "nnunetv2", "click"} & {*sys.modules}),
    "from": lnqtools.__file__,
}))
"""


def python(code: str, folder: Path) -> str:
    """Run Python with the installed package, not the checkout's, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Names


def test_the_public_names_are_these():
    assert set(lnqtools.__all__) == PUBLIC
    assert set(dir(lnqtools)) >= PUBLIC | {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_name_is_what_its_module_defines(name):
    value = getattr(lnqtools, name)
    assert value.__name__ == name
    assert vars(sys.modules[value.__module__])[name] is value


def test_type_checkers_see_the_names_where_they_are_defined():
    tree = ast.parse((ROOT / "lnqtools" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.asname, alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    defined = {(name, name, getattr(lnqtools, name).__module__) for name in PUBLIC}
    assert seen == defined


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'lnqtools' has no attribute 'trained'"):
        lnqtools.trained  # noqa: B018


def test_help_says_what_the_package_is_and_lists_the_names():
    text = pydoc.plain(pydoc.render_doc(lnqtools))
    first, _, rest = text.partition("DESCRIPTION")
    assert "lnqtools - Lymph nodes in chest CTs" in first
    description = rest.partition("PACKAGE CONTENTS")[0]
    assert {name for name in PUBLIC if f"`{name}`" in description} == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_name_is_documented_and_annotated(name):
    value = getattr(lnqtools, name)
    assert len(inspect.getdoc(value) or "") > 40
    if inspect.isfunction(value):
        hints = inspect.get_annotations(value)
        assert set(hints) == {*inspect.signature(value).parameters, "return"}


# What is loaded, and installed


def test_importing_the_package_loads_no_other_module(tmp_path):
    code = "import sys; before = {*sys.modules}; import lnqtools; print(*{*sys.modules} - before)"
    assert python(code, tmp_path) == "lnqtools\n"


def test_a_script_reads_measures_compares_and_writes(tmp_path):
    told = json.loads(python(SCRIPT, tmp_path))
    assert not Path(told.pop("from")).is_relative_to(ROOT / "lnqtools")
    assert told == {
        "grids": True,
        "diameters": [18.3, 16.9, 12.3, 21.8, 14.4, 19.5, 18.6],
        "dice": 0.761,
        "found": [True, True, False, False, True, True, True],
        "refused": "cannot be read: No such file or directory",
        "loaded": ["numpy"],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["truth.nii.gz", "weak.nii.gz"]


def test_type_checkers_of_others_are_told_that_there_are_types(tmp_path):
    code = "import importlib.resources as r; print((r.files('lnqtools') / 'py.typed').is_file())"
    assert python(code, tmp_path) == "True\n"


# Examples in docstrings

WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_are_right(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_most_public_functions_have_an_example():
    functions = [name for name in PUBLIC if inspect.isfunction(getattr(lnqtools, name))]
    without = {name for name in functions if ">>> " not in (getattr(lnqtools, name).__doc__ or "")}
    files = {"read_volume", "read_label", "write_volume"}
    assert without <= files | {"make_phantom", "fill_unknown", "train"}
