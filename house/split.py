"""Splitting of a module by symbols: blocks of text, which one uses which, new files of them."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from rewrite import Edit, Moves, Offsets, Report, Scopes, apply, bindings


@dataclass
class Block:
    """A statement with the comments above it and the string that documents it."""

    node: ast.stmt
    names: tuple[str, ...]
    begin: int
    end: int
    gap: int  # empty lines before it
    section: str  # the comment that stands over it and what follows
    group: int  # constants without empty lines between them have one number
    uses: dict[str, bool] = field(default_factory=dict)  # name → in annotations alone

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


@dataclass(frozen=True)
class Binding:
    """What an import statement binds a name to."""

    local: str
    module: str  # '' for "import x"
    name: str
    typed: bool  # under TYPE_CHECKING

    @property
    def text(self) -> str:
        same = self.name.partition(".")[0] if not self.module else self.name
        alias = "" if self.local == same else f" as {self.local}"
        what = f"import {self.name}{alias}"
        return f"from {self.module} {what}" if self.module else what


class Module:
    """The text of a module, in blocks."""

    def __init__(self, source: bytes, where: str, report: Report):
        self.source, self.where, self.report = source, where, report
        self.tree = ast.parse(source)
        self.offsets = Offsets(source)
        self.scopes = Scopes(source)
        self.imports: list[tuple[ast.stmt, list[Binding]]] = []
        self.typing_block: ast.If | None = None
        self.blocks: list[Block] = []
        self.docstring = ast.get_docstring(self.tree, clean=False)
        self.future = any(
            isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in self.tree.body
        )
        self._parse()
        self._find_uses()

    def _parse(self) -> None:
        lines = self.source.splitlines(keepends=True)
        starts = self.offsets.starts
        last_line, section, group = 0, "", 0
        body = self.tree.body[1:] if self.docstring is not None else self.tree.body
        if self.docstring is not None:
            last_line = self.tree.body[0].end_lineno
        for node in body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            above = [lines[n].decode().strip() for n in range(last_line, first - 1)]
            comments = len(above)
            while comments and above[comments - 1].startswith("#"):
                comments -= 1
            for n, line in enumerate(above[:comments]):
                if line.startswith("#"):
                    section = line if not section or above[n - 1] == "" else f"{section}\n{line}"
            gap = 0
            while gap < comments and above[comments - 1 - gap] == "":
                gap += 1
            begin = starts[last_line + comments]
            end_line = node.end_lineno
            previous = self.blocks[-1] if self.blocks else None
            last_line = end_line
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports.append((node, _bindings(node, typed=False)))
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                self.typing_block = node
                for inner in node.body:
                    if isinstance(inner, ast.Import | ast.ImportFrom):
                        self.imports.append((inner, _bindings(inner, typed=True)))
                    else:
                        self.report.error(self.where, "TYPE_CHECKING holds more than imports")
                continue
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
                and previous is not None
                and not previous.is_definition
                and gap == 0
            ):
                previous.end = starts[end_line]
                continue
            names = _names_of(node)
            if not names:
                self.report.note(self.where, f"stays where it is: {ast.unparse(node)[:70]}")
            # Constants that follow each other without an empty line between belong together.
            is_constant = not isinstance(node, ast.FunctionDef | ast.ClassDef)
            joined = previous is not None and gap == 0 and is_constant and not previous.is_definition
            group += not joined
            self.blocks.append(
                Block(node, names, begin, starts[end_line], gap, section, group)
            )

    def _find_uses(self) -> None:
        module_scopes = [s for s in self.scopes.scopes if type(s).__name__ == "GlobalScope"]
        for scope in module_scopes:
            for assignment in scope.assignments:
                for access in assignment.references:
                    at = self.scopes.begin(access.node)
                    if (block := self.block_at(at)) is not None:
                        only = block.uses.get(assignment.name, True) and access.is_annotation
                        block.uses[assignment.name] = only

    def block_at(self, offset: int) -> Block | None:
        return next((b for b in self.blocks if b.begin <= offset < b.end), None)

    @property
    def symbols(self) -> dict[str, list[Block]]:
        found: dict[str, list[Block]] = {}
        for block in self.blocks:
            for name in block.names:
                found.setdefault(name, []).append(block)
        return found

    def renames(self, names: Mapping[str, str]) -> list[Edit]:
        """Return the edits that give symbols of this module other names."""
        edits: set[Edit] = set()
        for scope in self.scopes.scopes:
            if type(scope).__name__ != "GlobalScope":
                continue
            for assignment in scope.assignments:
                if assignment.name not in names:
                    continue
                new = names[assignment.name]
                node = getattr(assignment, "node", None)
                for found in _name_nodes(node, assignment.name):
                    edits.add((self.scopes.begin(found), self.scopes.end(found), new))
                for access in assignment.references:
                    if isinstance(access.node, cst.Name):
                        edits.add((self.scopes.begin(access.node), self.scopes.end(access.node), new))
                    else:
                        self.report.error(self.where, f"{assignment.name} stands in a string")
        return sorted(edits)


def _name_nodes(node, name: str) -> list[cst.Name]:
    """Return where an assignment's node spells the name that it binds."""
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        return [node.name]
    if isinstance(node, cst.Name):
        return [node]
    return []


def _names_of(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return ()
    return tuple(n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))


def _bindings(node: ast.Import | ast.ImportFrom, *, typed: bool) -> list[Binding]:
    module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    return [
        Binding(a.asname or (a.name if module else a.name.partition(".")[0]), module, a.name, typed)
        for a in node.names
    ]


@dataclass
class Split:
    """What a plan says about one module.

    ``places`` has module → names, the module itself among them; ``docs`` the docstrings of new
    modules, and of old ones that get another (with ``=`` before it a summary, to stand over the
    rest of the docstring of the module that is split). ``says``
    has docstrings for functions and constants (by their new names) that have none. Names that match ``stay`` may stay
    without a place in the plan. ``before`` are changes of the text before it is split, ``patches`` (module, old, new) of what comes out.
    """

    module: str
    places: dict[str, list[str]]
    docs: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    title: str = ""
    before: list[tuple[str, str] | Callable[[str], str]] = field(default_factory=list)
    patches: list[tuple[str, str, str]] = field(default_factory=list)
    says: dict[str, str] = field(default_factory=dict)
    dissolve: bool = True
    stay: str = "$^"


def path_of(root: Path, module: str) -> Path:
    path = root / (module.replace(".", "/") + ".py")
    folder = root / module.replace(".", "/") / "__init__.py"
    return folder if folder.exists() else path


def place_symbols(module: Module, plan: Split, report: Report) -> dict[str, str]:
    """Return symbol → module for every symbol.

    What the plan does not name goes where those that use it are, or what it uses: silently if it is
    a helper (a name with _) of one target, with a note otherwise, and with an error, into the
    module that is split, if that says nothing.
    """
    known = module.symbols
    placed: dict[str, str] = {}
    for home, names in plan.places.items():
        for name in names:
            bare = name.removesuffix("?")
            if bare in placed:
                report.error(module.where, f"{bare} is planned twice")
            elif bare in known:
                placed[bare] = home
            elif bare == name:
                report.note(module.where, f"planned for {home}, but not there (any more): {name}")
    uses: dict[str, set[str]] = {name: set() for name in known}
    for block in module.blocks:
        for name in block.names:
            at_work = {used for used, in_annotation in block.uses.items() if not in_annotation}
            uses[name] |= (at_work & known.keys()) - {name}
    for block in module.blocks:
        for name in block.names:
            if not uses[name]:  # better than nothing
                uses[name] |= (block.uses.keys() & known.keys()) - {name}
    users = {name: {n for n in known if name in uses[n]} for name in known}
    waiting = [name for name in known if name not in placed]
    while waiting:
        # First what all its users are placed of, then what some are, then the rest.
        edges = {
            (placed[name], placed[used])
            for block in module.blocks
            for name in block.names
            for used, in_annotation in block.uses.items()
            if name in placed and used in placed and not in_annotation
        }
        ready = [n for n in waiting if users[n] and users[n] <= placed.keys()]
        ready = ready or [n for n in waiting if users[n] & placed.keys()]
        ready = ready or [n for n in waiting if uses[n] & placed.keys()] or waiting
        name = ready[0]
        waiting.remove(name)
        above = {placed[n] for n in users[name] if n in placed}
        below = {placed[n] for n in uses[name] if n in placed}
        home = _fitting(plan.module, above, below, edges)
        placed[name] = home or plan.module
        by = ", ".join(sorted(f"{n} ({placed.get(n, '?')})" for n in users[name]))
        its = ", ".join(sorted(f"{n} ({placed.get(n, '?')})" for n in uses[name]))
        why = f"used by {by or 'nothing here'}; uses {its or 'nothing here'}"
        if home is None and not re.fullmatch(plan.stay, name):
            report.error(
                module.where,
                f"{name} has no place in the plan: it stays in {plan.module}",
                f"{why}; add it to {plan.module} in plan.py",
            )
        elif home not in (None, plan.module) and not (name.startswith("_") and above == {home}):
            report.note(module.where, f"PLACED BY ITS USE: {name} → {home} ({why})")
    return placed


def _fitting(own: str, above: set[str], below: set[str], edges: set[tuple[str, str]]) -> str | None:
    """Return the home of a symbol between those that use it and those that it uses, or None.

    It must not close a circle. Of those that use it the lowest is taken, else the module that is
    split, else the highest of those that it uses.
    """
    if not above and not below:
        return None

    def leads(a: str, b: str) -> bool:
        return a == b or _leads(edges, a, b)

    def fits(home: str) -> bool:
        more = edges | {(a, home) for a in above if a != home}
        more |= {(home, b) for b in below if b != home}
        return not any(_leads(more, b, a) for a, b in more if a != b)

    lowest_first = sorted(above, key=lambda h: sum(leads(h, x) for x in above))
    highest_first = sorted(below, key=lambda h: -sum(leads(h, x) for x in below))
    candidates = [*lowest_first, own, *highest_first]
    return next((home for home in candidates if fits(home)), None)


def changed_before(source: bytes, plan: Split, report: Report) -> bytes:
    """Return the text of a module with the changes that come before its split."""
    for change in plan.before:
        if callable(change):
            try:
                source = change(source.decode()).encode()
            except (ValueError, StopIteration) as error:
                report.error(plan.module, f"{change.__name__}: {error}", "adapt it in plan.py")
            continue
        old, new = change
        if source.count(old.encode()) == 1:
            source = source.replace(old.encode(), new.encode())
        else:
            report.error(plan.module, f"a change before the split does not fit: {old!r}", "adapt it in plan.py")
    return source


def split_module(root: Path, plan: Split, report: Report) -> tuple[dict[str, bytes], Moves]:
    """Return the new texts of the modules that a split writes, and what moved."""
    where = plan.module
    source = path_of(root, plan.module).read_bytes()
    source = changed_before(source, plan, report)
    module = Module(source, where, report)
    placed = place_symbols(module, plan, report)
    home_of = {id(b): placed[b.names[0]] if b.names else plan.module for b in module.blocks}
    for block in module.blocks:
        if len({placed[n] for n in block.names}) > 1:
            report.error(where, f"one statement binds names of several homes: {block.names}")
    _note_divided_groups(module, home_of, report)

    names = dict(plan.renamed)
    for block in module.blocks:
        for used in block.uses:
            if used in placed and placed[used] != home_of[id(block)] and used.startswith("_"):
                names.setdefault(used, used.lstrip("_"))
    taken = bindings(module.tree, set())
    for old, new in list(names.items()):
        if old not in placed:
            report.note(where, f"to be renamed, but not there (any more): {old}")
            del names[old]
        elif new in taken:
            report.error(
                where,
                f"{old} is shared and would become {new}, which this module binds already",
                "it keeps its name; add another to renamed of the plan",
            )
            del names[old]
    for old, new in sorted(names.items()):
        report.note(where, f"renamed: {old} → {new} in {placed[old]}")
    edits = module.renames(names)
    edits += _docstrings(module, home_of, names, plan, report)

    homes = list(dict.fromkeys([*plan.places, *placed.values()]))
    needs = {h: _needs(module, h, home_of, placed) for h in homes}
    typed = _typed_edges(needs, placed)
    _refuse_circles(needs, placed, typed, where, report)
    texts: dict[str, bytes] = {}
    for home in homes:
        blocks = [b for b in module.blocks if home_of[id(b)] == home]
        if not blocks and home != plan.module:
            continue
        lines = _import_lines(module, home, needs[home], placed, names, typed)
        if home == plan.module:
            if not blocks:
                report.note(where, "nothing is left: the module goes")
                texts[home] = b""
                continue
            text = _remaining(module, blocks, needs[home], lines, edits)
        elif path_of(root, home).exists():
            text = _extended(path_of(root, home).read_bytes(), home, module, blocks, lines, edits, names, report)
        else:
            text = _new_file(module, home, plan, blocks, lines, edits, report)
        if home in plan.docs and (home == plan.module or path_of(root, home).exists()):
            text = _with_docstring(text, _doc(plan, home, module))
        texts[home] = text
    for home, old, new in plan.patches:
        old, new = old.encode(), new.encode()
        if home not in texts or texts[home].count(old) != 1:
            report.error(home, f"a patch does not fit: {old.decode()!r}", "adapt it in plan.py")
        else:
            texts[home] = texts[home].replace(old, new)
    for home, text in texts.items():
        texts[home] = _with_references(text.decode(), home, placed, names).encode()
    symbols = {n: (placed[n], names.get(n, n)) for n in placed}
    moved = {n: h for n, h in symbols.items() if h != (plan.module, n)}
    users = _importers(needs, module, placed)
    moves = Moves(
        symbols={plan.module: moved},
        dissolved={plan.module} if plan.dissolve else set(),
        imported={plan.module: users},
    )
    if texts.get(plan.module) == b"":
        largest = max(homes, key=lambda h: sum(b.end - b.begin for b in module.blocks if home_of[id(b)] == h))
        moves.modules[plan.module] = largest
        moves.new.add(largest)
    return texts, moves


def _docstrings(module: Module, home_of, names, plan: Split, report: Report) -> list[Edit]:
    """Return the docstrings of what the plan documents, and of helpers that become public."""
    edits: list[Edit] = []
    unused = set(plan.says)
    for block in module.blocks:
        name = names.get(block.names[0], block.names[0]) if block.names else ""
        said = plan.says.get(name)
        unused.discard(name)
        if isinstance(block.node, ast.FunctionDef):
            has = ast.get_docstring(block.node) is not None
            if not has and said:
                line = module.offsets.starts[block.node.body[0].lineno - 1]
                edits.append((line, line, f'    """{said}"""\n'))
            elif not has and not name.startswith("_") and block.names[0].startswith("_"):
                report.error(module.where, f"{name} becomes public without a docstring", "says of the plan")
        elif said and block.end == module.offsets.starts[block.node.end_lineno]:
            edits.append((block.end - 1, block.end - 1, f'\n"""{said}"""'))
        elif said:
            report.note(module.where, f"{name} is documented already: says of the plan is not used")
    for name in sorted(unused):
        report.note(module.where, f"says of the plan documents {name}, which is not there")
    return edits


def _with_references(text: str, home: str, placed, names) -> str:
    """Give references in prose the new names, in full where the module does not know them."""
    bound = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)} if text else set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)

    def new(found: re.Match) -> str:
        old = found[1]
        if old not in placed:
            return found[0]
        name = names.get(old, old)
        if placed[old] != home and name not in bound:
            name = f"{placed[old]}.{name}"
        return f"`{name}{found[2]}`"

    def line(old: str) -> str:
        changed = reference.sub(new, old)
        if changed == old or len(changed) <= 100 or not old.lstrip().startswith('"""'):
            return changed
        return re.sub(r":\w+:(?=`)", "", old).replace("`", "``")  # a summary has one line

    reference = re.compile(r"(?<!`)`(_?[A-Za-z]\w*)((?:\.\w+)*)`(?!`)")
    return "\n".join(map(line, text.split("\n")))


def _importers(needs, module: Module, placed) -> dict[str, str]:
    """Return for each name that the module imported the one that does now, '' for several."""
    users: dict[str, set[str]] = {}
    for home, used in needs.items():
        for name in used:
            if name not in placed:
                users.setdefault(name, set()).add(home)
    return {name: next(iter(homes)) if len(homes) == 1 else "" for name, homes in users.items()}


def _note_divided_groups(module: Module, home_of, report: Report) -> None:
    groups: dict[int, list[Block]] = {}
    for block in module.blocks:
        if not block.is_definition:
            groups.setdefault(block.group, []).append(block)
    for blocks in groups.values():
        undocumented: list[Block] = []
        for block in blocks:
            has_doc = block.end > module.offsets.starts[block.node.end_lineno]
            undocumented.append(block)
            if has_doc:
                homes = {home_of[id(b)] for b in undocumented}
                if len(homes) > 1:
                    said = ", ".join(n for b in undocumented for n in b.names)
                    report.note(
                        module.where,
                        f"one string may document {said}, which part; it goes with the last",
                    )
                undocumented = []


def _needs(module: Module, home: str, home_of, placed) -> dict[str, bool]:
    """Return the names that a target uses and does not define → in annotations alone."""
    needs: dict[str, bool] = {}
    for block in module.blocks:
        if home_of[id(block)] != home:
            continue
        for name, annotation in block.uses.items():
            if placed.get(name) != home:
                needs[name] = needs.get(name, True) and annotation
    return needs


def _typed_edges(needs, placed) -> set[tuple[str, str]]:
    """Return (target, symbol) that are imported for annotations alone, where else a circle is."""
    edges = {(t, placed[n]) for t, names in needs.items() for n in names if n in placed}
    typed = set()
    for target, names in needs.items():
        for name, only in names.items():
            if name in placed and only and _leads(edges, placed[name], target):
                typed.add((target, name))
    return typed


def _leads(edges: set[tuple[str, str]], start: str, end: str) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        here = waiting.pop()
        if here == end:
            return True
        seen.add(here)
        waiting += [b for a, b in edges if a == here and b not in seen]
    return False


def _refuse_circles(needs, placed, typed, where: str, report: Report) -> None:
    edges: dict[tuple[str, str], list[str]] = {}
    for target, names in needs.items():
        for name in names:
            if name in placed and (target, name) not in typed:
                edges.setdefault((target, placed[name]), []).append(name)
    for (a, b), names in edges.items():
        if _leads(set(edges), b, a):
            report.error(where, f"circle: {a} imports {', '.join(names)} of {b}, and that leads back")


def _import_lines(module: Module, home: str, needs, placed, names, typed) -> tuple[list[str], list[str]]:
    """Return the import statements of a target: ordinary ones, and those for annotations."""
    plain, under = [], []
    for name in needs:
        if name in placed:
            new = names.get(name, name)
            line = f"from {placed[name]} import {new}"
            (under if (home, name) in typed else plain).append(line)
    for _, found in module.imports:
        for binding in found:
            if binding.local in needs and binding.module != "__future__":
                (under if binding.typed else plain).append(binding.text)
    return list(dict.fromkeys(plain)), list(dict.fromkeys(under))


def _moved(module: Module, block: Block, edits: list[Edit]) -> str:
    inside = [
        (a - block.begin, b - block.begin, t) for a, b, t in edits if block.begin <= a < block.end
    ]
    return apply(module.source[block.begin : block.end], inside).decode()


def _body(module: Module, blocks: list[Block], edits: list[Edit], report: Report | None, where: str) -> str:
    """Set blocks one below the other, with the sections' comments where there is more than one."""
    sections = list(dict.fromkeys(b.section for b in blocks if b.is_definition))
    parts: list[str] = []
    previous: Block | None = None
    for block in blocks:
        neighbours = previous is not None and _is_next(module, previous, block)
        if previous is None:
            empty = 0
        elif neighbours:
            empty = block.gap
        else:
            empty = 2 if block.is_definition or previous.is_definition else 1
        begins = previous is None or previous.section != block.section
        if begins and block.section and len(sections) > 1 and report is None:
            parts.append("\n" * max(empty, 1) + block.section + "\n")
            empty = 2
        elif begins and block.section and report is not None:
            report.note(where, f"section comment left out: {block.section}")
        parts.append("\n" * empty + _moved(module, block, edits))
        previous = block
    return "".join(parts)


def _is_next(module: Module, one: Block, other: Block) -> bool:
    return module.blocks.index(other) == module.blocks.index(one) + 1


def _typing_text(under: list[str]) -> str:
    return "if TYPE_CHECKING:\n" + "".join(f"    {line}\n" for line in under) if under else ""


def _doc(plan: Split, home: str, module: Module) -> str:
    """Return the docstring of a target; one that begins with = has the source's after it."""
    doc = plan.docs.get(home, "")
    if doc.startswith("="):
        _, newline, rest = (module.docstring or "").partition("\n")
        return doc[1:] + newline + rest
    return doc


def _new_file(module, home, plan: Split, blocks, lines, edits, report: Report) -> bytes:
    plain, under = lines
    doc = _doc(plan, home, module)
    if not doc:
        report.error(home, "a new module without a docstring", "give it one in docs of the plan")
    if under and "from typing import TYPE_CHECKING" not in plain:
        plain = [*plain, "from typing import TYPE_CHECKING"]
    quoted = quote(doc) + "\n" if doc else ""
    future = "from __future__ import annotations\n" if module.future else ""
    parts = [quoted, future, "".join(f"{line}\n" for line in plain), _typing_text(under)]
    parts.append(_body(module, blocks, edits, report, home))
    return "\n".join(part for part in parts if part).encode()


def _remaining(module: Module, blocks, needs, lines, edits) -> bytes:
    """Return the module without what moved away, with the imports that it still needs."""
    used = set(needs)
    for block in blocks:
        used |= set(block.names)
    changes: list[Edit] = []
    before = {n for b in module.blocks for n in b.uses}
    under_left: list[str] = []
    plain_nodes = [n for n, f in module.imports if not any(b.typed for b in f)]
    for node, found in module.imports:
        if found and found[0].module == "__future__":
            continue
        gone = [b for b in found if b.local in before and b.local not in needs]
        if found[0].typed:
            under_left += [b.text for b in found if b not in gone]
            continue
        gone = [b for b in gone if b.name != "TYPE_CHECKING"]
        if gone:
            begin, end = module.offsets.span(node)
            left = [b for b in found if b not in gone]
            text = "\n".join(dict.fromkeys(b.text for b in left))
            if not text and module.source[end : end + 1] == b"\n":
                end += 1
            changes.append((begin, end, text))
    plain, under = lines
    own = {b.text for _, found in module.imports for b in found}
    new = [line for line in plain if line not in own]
    under_left += [line for line in under if line not in own]
    if under_left and not any("TYPE_CHECKING" in b.name for _, f in module.imports for b in f):
        new.append("from typing import TYPE_CHECKING")
    if not under_left:
        for node, found in module.imports:
            if any(b.name == "TYPE_CHECKING" for b in found):
                begin, end = module.offsets.span(node)
                left = [b.text for b in found if b.name != "TYPE_CHECKING" and (b.local in needs or b.local not in before)]
                changes = [c for c in changes if c[0] != begin]
                if not left and module.source[end : end + 1] == b"\n":
                    end += 1
                changes.append((begin, end, "\n".join(left)))
    at = module.offsets.span(plain_nodes[-1])[1] if plain_nodes else 0
    at = module.source.find(b"\n", at) + 1
    if module.typing_block is not None:
        begin, end = module.offsets.span(module.typing_block)
        if module.source[end : end + 1] == b"\n":
            end += 1
        changes.append((begin, end, _typing_text(under_left)))
        under_left = []
    more = "".join(f"{line}\n" for line in new)
    changes.append((at, at, more + ("\n" + _typing_text(under_left) if under_left else "")))
    keep = {id(b) for b in blocks}
    has = {s: any(b.section == s for b in blocks) for s in {b.section for b in module.blocks}}
    first_block = min(b.begin for b in module.blocks)
    end_of_head = _before_comments(module, first_block)
    head = apply(module.source[:end_of_head], [c for c in changes if c[0] < end_of_head or c[1] <= end_of_head])
    kept = [b for b in module.blocks if id(b) in keep]
    body = _body(module, kept, edits, None, module.where) if any(has.values()) else ""
    return head.rstrip() + b"\n\n" + ("\n" if kept[0].is_definition else "").encode() + body.encode()


def _before_comments(module: Module, at: int) -> int:
    """Return the end of the last import before the first block."""
    nodes = [n for n, _ in module.imports] + ([module.typing_block] if module.typing_block else [])
    ends = [module.offsets.span(n)[1] for n in nodes]
    if not ends and module.docstring is not None:
        ends = [module.offsets.span(module.tree.body[0])[1]]
    end = max([e for e in ends if e <= at], default=0)
    return module.source.find(b"\n", end) + 1


def _extended(
    source: bytes, home: str, module: Module, blocks, lines, edits, names, report: Report
) -> bytes:
    """Add blocks to a module that is there."""
    target = Module(source, home, Report())
    bound = set(target.symbols) | {b.local for _, f in target.imports for b in f}
    same = []
    for block in blocks:
        for name in (names.get(n, n) for n in block.names):
            if name in bound:
                own = target.symbols.get(name, [None])[0]
                text = _moved(module, block, edits).strip()
                if own is not None and source[own.begin : own.end].decode().strip() == text:
                    same.append(block)
                else:
                    report.error(home, f"{name} comes here and is bound already", "rename one")
    blocks = [b for b in blocks if b not in same]
    own_lines = {b.text for _, f in target.imports for b in f}
    plain = [x for x in lines[0] if x not in own_lines and not x.startswith(f"from {home} ")]
    under = [x for x in lines[1] if x not in own_lines]
    if under and "from typing import TYPE_CHECKING" not in own_lines:
        plain.append("from typing import TYPE_CHECKING")
    changes: list[Edit] = []
    nodes = [n for n, f in target.imports if not any(b.typed for b in f)]
    at = target.offsets.span(nodes[-1])[1] if nodes else target.offsets.span(target.tree.body[0])[1]
    at = source.find(b"\n", at) + 1
    changes.append((at, at, "".join(f"{line}\n" for line in plain)))
    if under and target.typing_block is not None:
        end = target.offsets.span(target.typing_block)[1] + 1
        changes.append((end, end, "".join(f"    {line}\n" for line in under)))
    elif under:
        changes.append((at, at, "\n" + _typing_text(under)))
    defined = {n for b in target.blocks if b.is_definition for n in b.names}
    late = {id(b) for b in blocks if b.is_definition or set(b.uses) & defined}
    constants = [b for b in blocks if id(b) not in late]
    definitions = [b for b in blocks if id(b) in late]
    if constants:
        before = []
        for block in target.blocks:
            if block.is_definition:
                break
            before.append(block)
        place = before[-1].end if before else _before_comments(target, len(source))
        gap = "" if before and constants[0].gap == 0 else "\n"
        changes.append((place, place, gap + _body(module, constants, edits, report, home)))
    if definitions:
        body = _body(module, definitions, edits, report, home)
        changes.append((len(source), len(source), "\n\n" + body))
    ordered = sorted(enumerate(changes), key=lambda c: (c[1][0], c[0]))
    result, last = b"", 0
    for _, (begin, end, text) in ordered:
        result += source[last:begin] + text.encode()
        last = end
    return result + source[last:]


def quote(doc: str, width: int = 100) -> str:
    """Return a module's docstring as code; paragraphs of the plan's are one line each."""
    if "\n    " in doc or doc.endswith("\n"):
        return ("r" if "\\" in doc else "") + f'"""{doc}"""'  # as it was in a file
    first, *others = doc.split("\n\n")
    paragraphs = [first, *(textwrap.fill(p, width, break_long_words=False) for p in others)]
    if len(first) + 3 > width:
        raise SystemExit(f"the summary is too long: {first}")
    return '"""' + "\n\n".join(paragraphs) + ("\n" if others else "") + '"""'


def _with_docstring(text: bytes, doc: str) -> bytes:
    """Give a module another docstring."""
    tree = ast.parse(text)
    quoted = quote(doc)
    if ast.get_docstring(tree) is None:
        return quoted.encode() + b"\n\n" + text
    begin, end = Offsets(text).span(tree.body[0])
    return text[:begin] + quoted.encode() + text[end:]


def uses_table(source: bytes, where: str) -> Iterable[str]:
    """Describe the symbols of a module: size, what they use, for whoever writes a plan."""
    module = Module(source, where, Report())
    known = set(module.symbols)
    for block in module.blocks:
        lines = source[block.begin : block.end].count(b"\n")
        users = [n for b in module.blocks for n in b.names if set(block.names) & set(b.uses)]
        yield f"{', '.join(block.names) or '-'} ({lines}): used by {', '.join(dict.fromkeys(users)) or '-'}"
    _ = known
