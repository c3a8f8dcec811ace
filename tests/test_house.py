"""The rooms of the package: who may import whom, and that the map of CONTRIBUTING shows them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = {
    "errors": set(),
    "choices": set(),
    "memory": {"errors"},
    "files": {"errors"},
    "images": {"errors", "choices", "memory", "files"},
    "components": {"errors", "choices", "files", "images"},
    "anatomy": {"errors", "files", "images"},
    "labels": {"errors", "files", "images", "components"},
    "metrics": {"errors", "choices", "images", "components", "labels"},
    "comparison": {"errors", "choices", "files", "metrics"},
    "phantom": {"errors", "images", "components"},
    "figures": {"errors", "files", "images", "components", "labels", "metrics", "comparison"},
    "report": {
        *("errors", "files", "images", "components", "anatomy", "labels", "metrics"),
        "comparison",
    },
    "nnunet": {"errors", "choices", "memory", "files", "images", "labels", "metrics", "figures"},
    "models": {"errors", "files", "nnunet"},
    "totalseg": {"errors", "memory", "files", "images", "nnunet"},
    "dicom": {"errors", "files", "images", "components", "labels"},
    "integrity": {"errors", "files", "images", "nnunet", "dicom"},
    "cli": {
        *("errors", "choices", "files", "images", "components", "anatomy", "labels", "metrics"),
        *("comparison", "phantom", "figures", "report", "nnunet", "models", "totalseg", "dicom"),
        "integrity",
    },
}
"""Each room, a package or a module below lnqtools, and those that it may import; the lowest first.

An import counts wherever it stands: in a function or for annotations alone, too.
"""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the dotted name of each module of the package, and its file."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "lnqtools").rglob("*.py"))
    }


MODULES = modules()


def room_of(module: str) -> str:
    """Return the room that a module is in; '' for the package itself."""
    return module.removeprefix("lnqtools").strip(".").partition(".")[0]


def imported(tree: ast.AST, *, typed: bool = True) -> Iterator[str]:
    """Yield the names of modules that a piece of code imports; without ``typed`` as it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typed:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module or "" for name in names)
        yield from imported(node, typed=typed)


def edges(*, typed: bool = True) -> set[tuple[str, str]]:
    """Return which module imports which."""
    return {
        (module, name)
        for module, path in MODULES.items()
        for name in imported(ast.parse(path.read_text()), typed=typed)
        if name in MODULES
    }


def test_every_module_is_in_a_room():
    assert {room_of(module) for module in MODULES} - {""} == set(ROOMS)


def test_rooms_import_what_they_may_and_all_of_that():
    between = {(room_of(a), room_of(b)) for a, b in edges() if room_of(a) and room_of(b)}
    found = {room: {b for a, b in between if a == room != b} for room in ROOMS}
    assert found == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_stands_above_all_that_it_imports(room):
    rooms = list(ROOMS)
    assert ROOMS[room] <= set(rooms[: rooms.index(room)])


def test_no_module_leads_back_to_itself():
    after: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, name in edges(typed=False):
        after[module].add(name)
    while free := [module for module, names in after.items() if not names & after.keys()]:
        for module in free:
            del after[module]
    assert after == {}  # what is left imports in a circle


def test_an_import_is_seen_wherever_it_stands():
    code = (
        "import lnqtools.errors\n"
        "if TYPE_CHECKING:\n"
        "    from lnqtools.images.grid import Grid\n"
        "def f():\n"
        "    with x:\n"
        "        from lnqtools.files import atomic, tables\n"
    )
    at_work = ["lnqtools.errors", "lnqtools.files.atomic", "lnqtools.files.tables"]
    assert list(imported(ast.parse(code), typed=False)) == at_work
    assert "lnqtools.images.grid" in imported(ast.parse(code))


# The map


def rows_of_the_map() -> dict[str, str]:
    """Return each room and what CONTRIBUTING.md says of it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `lnqtools/(\w+)(?:/|\.py)` \| (.+) \|$", text, re.MULTILINE)
    return dict(rows)


def test_the_map_has_the_rooms_in_their_order():
    assert list(rows_of_the_map()) == list(ROOMS)


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / "lnqtools" / room).is_dir()])
def test_the_map_names_the_modules_of_a_room(room):
    there = {path.name for path in (ROOT / "lnqtools" / room).glob("*.py")} - {"__init__.py"}
    if room == "cli":  # each tool has a module
        there = {name for name in there if name.startswith("_")}
    assert set(re.findall(r"`(\w+\.py)`", rows_of_the_map()[room])) == there


def test_what_contributing_names_is_there():
    """Files and folders in its tables of where things go; ``x`` stands for a tool to come."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("\n## Where does a new X go\n")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:lnqtools|tests|man|bin)/[\w./-]+)`", table)
    to_come = {"lnqtools/cli/x.py", "bin/lnq-x", "man/man1/lnq-x.1", "tests/cli/test_x.py"}
    assert len(named) > 20
    assert {name for name in named if not (ROOT / name).exists()} == to_come
