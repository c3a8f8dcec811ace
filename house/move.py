#!/usr/bin/env python3
"""Move lnqtools into its rooms: python move.py TREE [A|B|close|all|check] [--commit].

A moves whole files (git mv) and rewrites whatever names them; B splits modules by symbols, one
commit each; close puts the test of the house and the map of CONTRIBUTING.md. Needs libcst; ruff is run from the environment of this Python. What the plan does not
place is left where it is, and listed as an error; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import check_imports
import plan
from rewrite import DOTTED, Moves, PythonFile, Report, rewrite_text
from themap import make_map
from split import Module, Split, changed_before, path_of, place_symbols, split_module

BINARY = (".png", ".gz", ".nii", ".svg", ".npy", ".jpg", ".b2nd", ".nrrd", ".mha", ".raw")
SKIPPED = ("bench/results/", "tests/corpus/findings/")


class Tree:
    """A checkout: its files, and git."""

    def __init__(self, root: Path, report: Report, commit: bool):
        self.root, self.report, self.commits = root, report, commit

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"git {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def files(self) -> list[str]:
        names = self.git("ls-files", "-co", "--exclude-standard", "-z").split("\0")
        return sorted(
            name
            for name in set(names)
            if name
            and (self.root / name).is_file()
            and not name.endswith(BINARY)
            and not name.startswith(SKIPPED)
        )

    def is_python(self, name: str) -> bool:
        return name.endswith(".py") or name.startswith("bin/")

    def move(self, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        self.git("mv", old, new)

    def write(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def ruff(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def tidy(self) -> None:
        """Sort imports and format, and fold what became too long in prose."""
        self.ruff("check", "--select", "I", "--fix", "--quiet", ".")
        self.ruff("format", "--quiet", ".")
        self._fold()
        self.ruff("format", "--quiet", ".")

    def _fold(self) -> None:
        found = self.ruff("check", "--select", "E501", "--output-format", "concise", ".")
        places: dict[str, list[int]] = {}
        for name, line in re.findall(r"^(\S+?):(\d+):\d+: E501", found, re.MULTILINE):
            places.setdefault(name, []).append(int(line))
        for name, lines in places.items():
            path = self.root / name
            text = path.read_text().split("\n")
            for line in sorted(lines, reverse=True):
                fold(text, line - 1, name, self.report)
            path.write_text("\n".join(text))

    def done(self, message: str) -> None:
        if self.commits:
            self.git("add", "-A")
            self.git("commit", "-q", "-m", message)
        print(f"done: {message.splitlines()[0]}")


def fold(lines: list[str], at: int, name: str, report: Report, width: int = 100) -> None:
    """Fold a long line of a docstring or comment into the lines of its paragraph that follow."""
    line = lines[at]
    if line.lstrip().startswith('"""'):  # the summary of a docstring is one line
        lines[at] = DOTTED.sub(lambda found: found[1].removeprefix("lnqtools."), line)
        if len(lines[at]) > width:
            report.error(f"{name}:{at + 1}", f"a summary is too long: {line.strip()}", "by hand")
        return
    indent = line[: len(line) - len(line.lstrip())]
    comment = line.lstrip().startswith("# ")
    lead = f"{indent}# " if comment else indent
    carried: list[str] = []
    k = at
    while True:
        words = [*carried, *lines[k][len(lead) :].split(" ")]
        kept, carried = [], []
        length = len(lead)
        for n, word in enumerate(words):
            length += len(word) + bool(kept)
            if length > width and kept:
                carried = words[n:]
                break
            kept.append(word)
        lines[k] = lead + " ".join(kept)
        if not carried:
            return
        following = lines[k + 1] if k + 1 < len(lines) else ""
        same = following.startswith(lead) and following[len(lead) : len(lead) + 1] not in ("", " ")
        special = following.strip().startswith(('"""', "----", "====", ":", "|", "-"))
        if not same or special:
            closing = " ".join(carried)
            lines.insert(k + 1, lead + closing)
            if len(lines[k + 1]) > width:
                report.note(f"{name}:{k + 2}", "longer than 100 characters")
            return
        k += 1


def module_name(name: str) -> str:
    """Return the dotted name of a Python file of the tree."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def rewrite_tree(tree: Tree, moves: Moves, note_mentions: bool = False) -> None:
    """Rewrite imports, references and text in every file."""
    words = {m.rpartition(".")[2] for m in [*moves.modules, *moves.packages, *moves.symbols]}
    hint = re.compile(r"\b(" + "|".join(map(re.escape, sorted(words))) + r")\b")
    for name in tree.files():
        path = tree.root / name
        try:
            before = path.read_bytes()
            text = before.decode()
        except UnicodeDecodeError:
            continue
        if not hint.search(text):
            continue
        python = tree.is_python(name)
        after = before
        if python:
            after = PythonFile(name, before, moves, tree.report, module_name(name)).rewritten()
        text = rewrite_text(name, after.decode(), moves, tree.report, python=python)
        if text.encode() != before:
            path.write_bytes(text.encode())
        if note_mentions:
            _note_mentions(name, text, moves, tree.report)


def _note_mentions(name: str, text: str, moves: Moves, report: Report) -> None:
    """Note prose that names a module that is split: it may mean what went elsewhere."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*(from|import) ", line) or name.startswith(("CHANGELOG", "CONTRIBUTING")):
            continue
        for found in DOTTED.finditer(line):
            if found[1] in moves.symbols and moves.symbols[found[1]]:
                report.note(f"{name}:{number}", f"names {found[1]}, which is split: {line.strip()}")


def patch(tree: Tree, step: str) -> None:
    for when, name, old, new in plan.PATCHES:
        if when != step:
            continue
        path = tree.root / name
        text = path.read_text() if path.exists() else ""
        if text.count(old) == 1:
            path.write_text(text.replace(old, new))
        elif new not in text:
            tree.report.error(name, f"a patch does not fit: {old!r}", "adapt it in plan.py")


# Step A


def step_a(tree: Tree) -> None:
    root = tree.root
    if (root / "lnqtools" / "files").exists():
        raise SystemExit("lnqtools/files is there: step A was done")
    there = {f"lnqtools.{p.stem}" for p in (root / "lnqtools").glob("*.py") if p.stem != "__init__"}
    for module in sorted(there - set(plan.MODULES)):
        if module.rpartition(".")[2] not in plan.STAY:
            tree.report.error(module, "a new module without a room", "add it to MODULES in plan.py")
    modules = {}
    for old, new in plan.MODULES.items():
        if (root / (old.replace(".", "/") + ".py")).exists():
            modules[old] = new
        else:
            tree.report.note(old, "planned, but not there")
    for old, new in modules.items():
        tree.move(old.replace(".", "/") + ".py", new.replace(".", "/") + ".py")
    for room, doc in plan.ROOMS.items():
        tree.write(f"lnqtools/{room}/__init__.py", f'"""{doc}"""\n')
    split = {split.module for split in plan.SPLITS if split.dissolve}
    dissolved = {old for old, new in modules.items() if new in split}
    rewrite_tree(tree, Moves(modules=modules, dissolved=dissolved))
    _property_lists(tree, Moves(modules=modules))
    tree.tidy()
    tree.done("Into rooms: whole modules move; splits follow")

    tests = {}
    for old, new in plan.TESTS.items():
        if (root / f"tests/{old}.py").exists():
            tests[f"tests.{old}"] = f"tests.{new}"
        else:
            tree.report.note(f"tests/{old}.py", "planned, but not there")
    for path in sorted((root / "tests").glob("test_*.py")):
        if path.stem not in plan.TESTS and path.stem not in plan.TESTS_STAY:
            tree.report.error(f"tests/{path.name}", "a new test without a room", "TESTS in plan.py")
    for old, new in tests.items():
        tree.move(old.replace(".", "/") + ".py", new.replace(".", "/") + ".py")
        package = root / Path(*new.split(".")[:-1])
        if not (package / "__init__.py").exists():
            tree.write(str((package / "__init__.py").relative_to(root)), "")
    rewrite_tree(tree, Moves(modules=tests))
    patch_root(tree, tests.values())
    patch(tree, "A-tests")
    tree.tidy()
    tree.done("Tests move with their rooms")

    for old, new in plan.TEST_PACKAGES.items():
        if (root / old.replace(".", "/")).exists():
            tree.move(old.replace(".", "/"), new.replace(".", "/"))
    rewrite_tree(tree, Moves(packages=dict(plan.TEST_PACKAGES)))
    patch(tree, "A")
    tree.tidy()
    tree.done("The torture is no test: it moves to torture/")


def patch_root(tree: Tree, modules) -> None:
    """Refuse files that found the checkout by their own place, which has changed."""
    for module in modules:
        name = module.replace(".", "/") + ".py"
        text = (tree.root / name).read_text()
        fixed = re.sub(r"Path\(__file__\)(?:\.resolve\(\))?\.parent\.parent\b(?!\.parent)", "ROOT", text)
        if fixed != text:
            text = fixed
            if not re.search(r"^from tests\.conftest import .*\bROOT\b", text, re.MULTILINE):
                found = re.search(r"^from tests\.conftest import ", text, re.MULTILINE)
                at = found.start() if found else re.search(r"^from ", text, re.MULTILINE).start()
                text = f"{text[:at]}from tests.conftest import ROOT\n{text[at:]}"
            (tree.root / name).write_text(text)
            tree.report.note(name, "Path(__file__).parent.parent became ROOT")
        for line in text.splitlines():
            if "__file__" in line:
                tree.report.note(name, f"knows its own place: {line.strip()}")


def _property_lists(tree: Tree, moves: Moves) -> None:
    """Rewrite the lists of test_suite.py that name modules and functions in a short form."""
    name = "tests/test_suite.py"
    path = tree.root / name
    text = path.read_text()
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if not any(getattr(t, "id", "") in ("NO_PROPERTIES", "NO_PROPERTY") for t in targets):
            continue
        for constant in ast.walk(node.value):
            if not (isinstance(constant, ast.Constant) and isinstance(constant.value, str)):
                continue
            old = constant.value
            module, _, symbol = f"lnqtools/{old}".partition(".")
            module = module.replace("/", ".")
            home, new = moves.home(module, symbol) if symbol else (moves.module(module), "")
            short = home.removeprefix("lnqtools.").replace(".", "/") + (f".{new}" if new else "")
            if short != old:
                text = text.replace(f'"{old}"', f'"{short}"')
    path.write_text(text)


def close(tree: Tree) -> None:
    """Hold the house by a test, and make the map of CONTRIBUTING.md."""
    name = "tests/test_house.py"
    if not (tree.root / name).exists():
        tree.write(name, (Path(__file__).parent / "test_house.py").read_text())
    for node in ast.parse((tree.root / name).read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ROOMS":
            rooms = node.value
    table = {k.value: {c.value for c in ast.walk(v) if isinstance(c, ast.Constant)} for k, v in zip(rooms.keys, rooms.values, strict=True)}
    found: dict[str, set[str]] = {}
    for a, b, _, line in check_imports.edges(tree.root):
        one, other = check_imports.room(a), check_imports.room(b)
        if one and other and one != other:
            found.setdefault(one, set()).add(other)
            if other not in table.get(one, set()):
                later = list(table).index(other) > list(table).index(one) if {one, other} <= set(table) else True
                what = "backward" if later else "new"
                tree.report.error(f"{a}:{line}", f"a {what} edge, {one} → {other}: imports {b}", name)
    for one, others in table.items():
        for other in others - found.get(one, set()):
            tree.report.error(name, f"permission not used: {one} → {other}", "strike it out")
    path = tree.root / "CONTRIBUTING.md"
    text = path.read_text()
    begin, end = text.find("| room | what is done there |"), text.find("\nArrays are (z, y, x)")
    if begin < 0 or end < 0:
        tree.report.error("CONTRIBUTING.md", "its map is not found", "themap.py makes it")
    else:
        path.write_text(text[:begin] + make_map(tree.root, list(table)) + text[end:])
    _more_without_properties(tree)
    patch(tree, "close")
    tree.tidy()
    tree.done("The house is held by a test, and the map shows it")


def _more_without_properties(tree: Tree) -> None:
    """Add to test_suite.py's list what was split off from modules that are in it."""
    path = tree.root / "tests/test_suite.py"
    text = path.read_text()
    new = [n for n in plan.NO_PROPERTIES if f'"{n}"' not in text]
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NO_PROPERTIES":
            lines = text.split("\n")
            lines.insert(node.end_lineno - 1, f"    *({', '.join(map(repr, new))}),")
            path.write_text("\n".join(lines))
            return
    tree.report.error("tests/test_suite.py", "NO_PROPERTIES is not found", f"add {new}")


# Step B


def step_b(tree: Tree, only: str | None = None) -> None:
    for split in plan.SPLITS:
        if only and split.module != only:
            continue
        if not path_of(tree.root, split.module).exists():
            tree.report.error(split.module, "is to be split, but is not there", "was step A done?")
            continue
        do_split(tree, split)


def do_split(tree: Tree, split: Split) -> None:
    patch(tree, f"before {split.module}")
    texts, moves = split_module(tree.root, split, tree.report)
    for module, text in texts.items():
        path = path_of(tree.root, module)
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            if not (path.parent / "__init__.py").exists():
                tree.report.error(module, "its folder is no package")
        else:
            tree.git("rm", "-q", "--cached", str(path.relative_to(tree.root)))
            path.unlink()
    rewrite_tree(tree, moves, note_mentions=True)
    _property_lists(tree, moves)
    patch(tree, split.module)
    tree.tidy()
    tree.done(split.title)


def check(tree: Tree) -> None:
    """List what the plan does not place, without changing anything."""
    moved = {new: old for old, new in plan.MODULES.items()}
    for module in sorted(
        f"lnqtools.{p.stem}" for p in (tree.root / "lnqtools").glob("*.py") if p.stem != "__init__"
    ):
        if module not in plan.MODULES and module.rpartition(".")[2] not in plan.STAY:
            tree.report.error(module, "a new module without a room", "MODULES in plan.py")
    for path in sorted((tree.root / "tests").glob("test_*.py")):
        if path.stem not in plan.TESTS and path.stem not in plan.TESTS_STAY:
            tree.report.error(f"tests/{path.name}", "a new test without a room", "TESTS in plan.py")
    for split in plan.SPLITS:
        path = path_of(tree.root, moved.get(split.module, split.module))
        if not path.exists():
            path = path_of(tree.root, split.module)
        if not path.exists():
            tree.report.error(split.module, "is to be split, but is not there")
            continue
        source = changed_before(path.read_bytes(), split, tree.report)
        place_symbols(Module(source, split.module, tree.report), split, tree.report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("step", nargs="?", default="all", choices=["A", "B", "close", "all", "check"])
    parser.add_argument("--only", metavar="MODULE", help="B: split this module alone")
    parser.add_argument("--commit", action="store_true", help="commit each step")
    given = parser.parse_args()
    report = Report()
    tree = Tree(given.tree.resolve(), report, given.commit)
    if given.step == "check":
        check(tree)
    if given.step in ("A", "all"):
        step_a(tree)
    if given.step in ("B", "all"):
        step_b(tree, given.only)
    if given.step in ("close", "all"):
        close(tree)
    print(f"\n{len(report.notes)} notes (look at them):")
    print("\n".join(f"  {line}" for line in report.notes))
    print(f"\n{len(report.errors)} errors (decide, in plan.py or by hand):")
    print("\n".join(f"  {line}" for line in report.errors))
    raise SystemExit(bool(report.errors))


if __name__ == "__main__":
    main()
