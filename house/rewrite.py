"""Rewriting of what names a module or a symbol that moves: imports, references, text.

All edits are slices of bytes: what is not named in a move stays as it is, byte for byte.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import (
    ByteSpanPositionProvider,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    ScopeProvider,
)

Edit = tuple[int, int, str]


@dataclass
class Report:
    """What a run found: errors are for a person to decide, notes for one to look at."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, where: str, what: str, hint: str = "") -> None:
        self._add(self.errors, where, what, hint)

    def note(self, where: str, what: str, hint: str = "") -> None:
        self._add(self.notes, where, what, hint)

    @staticmethod
    def _add(to: list[str], where: str, what: str, hint: str) -> None:
        line = f"{where}: {what}" + (f"  [hint: {hint}]" if hint else "")
        if line not in to:
            to.append(line)


@dataclass
class Moves:
    """Where modules and symbols go.

    ``modules`` are moved whole, ``packages`` with all that is in them; of a module in ``symbols``
    single names go elsewhere or are called otherwise. An import of such a module itself becomes
    imports of names where it is in ``dissolved``.
    """

    modules: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    dissolved: set[str] = field(default_factory=set)
    imported: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of a split module: name that it imported → the one module that imports it now, if any."""

    def __post_init__(self) -> None:
        self.new = set(self.modules.values())
        self.new |= {home for names in self.symbols.values() for home, _ in names.values()}

    def module(self, name: str) -> str:
        """Return where a module or package is now."""
        if name in self.modules:
            return self.modules[name]
        for old, new in self.packages.items():
            if name == old or name.startswith(f"{old}."):
                return new + name.removeprefix(old)
        return name

    def affects(self, module: str) -> bool:
        return module in self.symbols or self.module(module) != module

    def home(self, module: str, name: str) -> tuple[str, str]:
        """Return module and name of a symbol now."""
        if name in self.symbols.get(module, {}):
            return self.symbols[module][name]
        return self.module(module), name


def apply(source: bytes, edits: Iterable[Edit]) -> bytes:
    """Apply edits that do not overlap."""
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text.encode() + source[end:]
    return source


class Offsets:
    """Byte offsets of ast's lines and columns."""

    def __init__(self, source: bytes):
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        begin = self.starts[node.lineno - 1] + node.col_offset
        return begin, self.starts[node.end_lineno - 1] + node.end_col_offset


class Scopes:
    """libcst's scopes of a file: who refers to what."""

    def __init__(self, source: bytes):
        self.wrapper = MetadataWrapper(cst.parse_module(source))
        self.spans = self.wrapper.resolve(ByteSpanPositionProvider)
        self.parents = self.wrapper.resolve(ParentNodeProvider)
        self.scopes = {s for s in self.wrapper.resolve(ScopeProvider).values() if s is not None}

    def begin(self, node: cst.CSTNode) -> int:
        return self.spans[node].start

    def end(self, node: cst.CSTNode) -> int:
        return self.spans[node].start + self.spans[node].length

    def of_import(self, begin: int, name: str) -> list:
        """Return the accesses of what an import statement at an offset binds to a name."""
        return [
            access
            for scope in self.scopes
            for assignment in scope.assignments
            if isinstance(assignment, ImportAssignment)
            and assignment.name == name
            and self.begin(assignment.node) == begin
            for access in assignment.references
        ]


def bindings(tree: ast.AST, without: set[ast.AST]) -> set[str]:
    """Return all names that a file binds anywhere, but for some import statements."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in without:
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(a.asname or a.name).partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
    return found


class PythonFile:
    """One file and what moves make of it."""

    def __init__(self, path: str, source: bytes, moves: Moves, report: Report, module: str = ""):
        self.path, self.source, self.moves, self.report = path, source, moves, report
        self.own = module  # where this file is now
        self.tree = ast.parse(source)
        self.offsets = Offsets(source)
        self.edits: list[Edit] = []
        self._scopes: Scopes | None = None
        statements = [n for n in ast.walk(self.tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        self.touched = [n for n in statements if self._is_touched(n)]
        self.bound = bindings(self.tree, set(self.touched))
        self.added: dict[str, tuple[str, str]] = {}
        for node in self.touched:
            for alias in node.names:
                self._reserve(node.module or "", alias)
        self.homes = {  # what untouched imports bind to, so that the same name may be imported twice
            a.asname or a.name: (n.module, a.name)
            for n in statements
            if isinstance(n, ast.ImportFrom) and n not in self.touched
            for a in n.names
        }

    def _reserve(self, module: str, alias: ast.alias) -> None:
        """Keep the names that a touched import goes on binding from others."""
        whole = f"{module}.{alias.name}"
        if whole in self.moves.symbols:
            return
        if self.moves.module(whole) != whole:
            home, _, new = self.moves.module(whole).rpartition(".")
            if whole in self.moves.dissolved and alias.name != new:
                new = alias.name  # stays under its old name until it is dissolved
        else:
            home, new = self.moves.home(module, alias.name)
        if alias.asname or new == alias.name:
            self.added.setdefault(alias.asname or new, (home, new))

    def _is_touched(self, node: ast.Import | ast.ImportFrom) -> bool:
        if isinstance(node, ast.Import):
            return False  # the text names the module whole
        module = node.module or ""
        if module.split(".")[0] not in ("lnqtools", "tests"):
            return False
        return self.moves.affects(module) or any(
            self.moves.affects(f"{module}.{a.name}") for a in node.names
        )

    @property
    def scopes(self) -> Scopes:
        if self._scopes is None:
            self._scopes = Scopes(self.source)
        return self._scopes

    def rewritten(self) -> bytes:
        for node in self.touched:
            self._import_from(node)
        return apply(self.source, self.edits)

    def _import_from(self, node: ast.ImportFrom) -> None:
        begin, end = self.offsets.span(node)
        groups: dict[str, list[str]] = {}

        def add(module: str, name: str, alias: str | None = None) -> None:
            if module == self.own:
                return
            text = name if alias in (None, name) else f"{name} as {alias}"
            if text not in groups.setdefault(module, []):
                groups[module].append(text)

        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if alias.name == "*":
                self.report.error(self.path, f"star import of {node.module}")
                add(self.moves.module(node.module), "*")
            elif whole in self.moves.symbols:
                self._split_module(begin, alias, whole, add)
            elif self.moves.module(whole) != whole:
                self._moved_module(begin, alias, whole, add)
            else:
                self._symbol(begin, alias, node.module, add)
        line = self.source.rfind(b"\n", 0, begin) + 1
        indent = self.source[line:begin].decode()
        statements = [f"from {m} import {', '.join(names)}" for m, names in groups.items()]
        if statements:
            self.edits.append((begin, end, f"\n{indent}".join(statements)))
        else:  # the whole line goes
            line_end = self.source.find(b"\n", end) + 1
            rest = self.source[end:line_end].strip()
            if rest.startswith(b"#"):
                self.report.note(self.path, f"dropped with its import: {rest.decode()}")
            self.edits.append((line, line_end, ""))

    def _symbol(self, begin: int, alias: ast.alias, module: str, add) -> None:
        home, name = self.moves.home(module, alias.name)
        if alias.asname or name == alias.name:
            add(home, name, alias.asname)
        elif self._is_free(name, (home, name)):
            add(home, name)
            self._rename(begin, alias.name, name)
        else:
            self.report.error(
                self.path,
                f"{alias.name} of {module} is now {name}, which is bound in this file already",
                "imported under its old name; give another in RENAMED",
            )
            add(home, name, alias.name)

    def _moved_module(self, begin: int, alias: ast.alias, whole: str, add) -> None:
        package, _, leaf = self.moves.module(whole).rpartition(".")
        if alias.asname or leaf == alias.name or whole in self.moves.dissolved:
            add(package, leaf, alias.asname or alias.name)
        elif self._is_free(leaf, (package, leaf)):
            add(package, leaf)
            self._rename(begin, alias.name, leaf)
        else:
            self.report.note(self.path, f"{leaf} is bound already: imported as {alias.name}")
            add(package, leaf, alias.name)

    def _split_module(self, begin: int, alias: ast.alias, whole: str, add) -> None:
        """Turn ``module.name`` into names, or into names of the modules where they are now."""
        package, _, leaf = whole.rpartition(".")
        local = alias.asname or alias.name
        dissolved = whole in self.moves.dissolved
        for access in self.scopes.of_import(begin, local):
            node, parent = access.node, self.scopes.parents[access.node]
            if isinstance(parent, cst.Attribute) and parent.value is node:
                name = parent.attr.value
                home, new = self.moves.home(whole, name)
                if home == whole and not dissolved:
                    add(package, leaf, alias.asname)
                    continue
                span = self.scopes.begin(node), self.scopes.end(parent)
                self.edits.append((*span, self._reach(home, new, add)))
            elif patched := self._patched(node, parent):
                span, name = patched
                home, new = self.moves.home(whole, name)
                if home == whole and name in self.moves.imported.get(whole, {}):
                    home = self.moves.imported[whole][name]
                    if not home:
                        self.report.error(
                            self.path,
                            f"patches {name} of {whole}, which several modules import now",
                        )
                        home = whole
                if home == whole and not dissolved:
                    add(package, leaf, alias.asname)
                    continue
                self.edits.append((*span, f'"{home}.{new}"'))
            else:
                self.report.error(
                    self.path,
                    f"uses the module {whole} itself (as {local}) at byte {self.scopes.begin(node)}",
                    "by hand: it is split",
                )
                add(package, leaf, alias.asname)

    def _reach(self, home: str, name: str, add) -> str:
        """Import a name, or its module where the name is taken; return how it is spelled."""
        if self._is_free(name, (home, name)):
            add(home, name)
            return name
        package, _, leaf = home.rpartition(".")
        alias = leaf if self._is_free(leaf, (package, leaf)) else f"{package.split('.')[-1]}_{leaf}"
        add(package, leaf, alias)
        self.report.note(self.path, f"{name} is bound already: {alias}.{name} of {home}")
        return f"{alias}.{name}"

    def _is_free(self, name: str, home: tuple[str, str]) -> bool:
        if self.added.setdefault(name, home) != home:
            return False
        return name not in self.bound or self.homes.get(name) == home

    def _patched(self, node, parent) -> tuple[tuple[int, int], str] | None:
        """Return span and name of ``setattr(module, "name", …)``, which becomes one string."""
        if not isinstance(parent, cst.Arg):
            return None
        call = self.scopes.parents[parent]
        if not (isinstance(call, cst.Call) and call.args and call.args[0] is parent):
            return None
        function = call.func
        is_patch = isinstance(function, cst.Attribute) and function.attr.value == "setattr"
        if not is_patch or not isinstance(call.args[1].value, cst.SimpleString):
            return None
        name = call.args[1].value
        return (self.scopes.begin(node), self.scopes.end(name)), ast.literal_eval(name.value)

    def _rename(self, begin: int, old: str, new: str) -> None:
        for access in self.scopes.of_import(begin, old):
            if not isinstance(access.node, cst.Name):
                self.report.error(self.path, f"{old} stands in a string: now {new}")
                continue
            self.edits.append((self.scopes.begin(access.node), self.scopes.end(access.node), new))


DOTTED = re.compile(r"(?<![\w.])((?:lnqtools|tests)(?:\.\w+)+)")
FILE = re.compile(r"(?<![\w/])((?:lnqtools|tests)(?:/\w+)+)\.py\b")
IMPORT = re.compile(r"\bfrom (lnqtools|tests)((?:\.\w+)*) import (\w+(?: as \w+)?(?:, *\w+(?: as \w+)?)*)")


def rewrite_text(path: str, text: str, moves: Moves, report: Report, *, python: bool) -> str:
    """Rewrite names of modules and symbols in prose, strings, comments and commands."""
    real = _import_spans(text) if python else []

    def statement(found: re.Match) -> str:
        if any(begin <= found.start() < end for begin, end in real):
            return found[0]
        groups: dict[str, list[str]] = {}
        module = found[1] + found[2]
        for part in re.split(", *", found[3]):
            name, _, alias = part.partition(" as ")
            whole = f"{module}.{name}"
            if moves.module(whole) != whole:
                home, _, new = moves.module(whole).rpartition(".")
                if new != name and not alias:
                    alias = name
            else:
                home, new = moves.home(module, name)
            groups.setdefault(home, []).append(f"{new} as {alias}" if alias else new)
        statements = [f"from {m} import {', '.join(names)}" for m, names in groups.items()]
        if statements == [found[0]]:
            return found[0]
        report.note(path, f"code in text: {found[0]} → {'; '.join(statements)}")
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        return (f"\n{line}" if not line.strip() else "; ").join(statements)

    def dotted(found: re.Match) -> str:
        if any(begin <= found.start() < end for begin, end in real):
            return found[1]
        parts = found[1].split(".")
        prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        for n, prefix in zip(range(len(parts), 0, -1), prefixes, strict=True):
            rest = parts[n:]
            if prefix in moves.new and prefix not in moves.symbols and prefix not in moves.modules:
                return found[1]
            if rest and prefix in moves.symbols and rest[0] in moves.symbols[prefix]:
                return ".".join([*moves.symbols[prefix][rest[0]], *rest[1:]])
            if prefix in moves.modules or prefix in moves.packages:
                return ".".join([moves.module(prefix), *rest])
        return found[1]

    def file(found: re.Match) -> str:
        return moves.module(found[1].replace("/", ".")).replace(".", "/") + ".py"

    text = IMPORT.sub(statement, text)
    real = _import_spans(text) if python else []
    text = DOTTED.sub(dotted, text)
    text = FILE.sub(file, text)
    for old, new in moves.packages.items():
        folder = old.replace(".", "/")
        text = re.sub(rf"(?<![\w/]){folder}(?![\w])", new.replace(".", "/"), text)
    return text


def _import_spans(text: str) -> list[tuple[int, int]]:
    """Return where the import statements of a Python file are, in characters."""
    source = text.encode()
    offsets = Offsets(source)
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            begin, end = offsets.span(node)
            spans.append((len(source[:begin].decode()), len(source[:end].decode())))
    return spans
