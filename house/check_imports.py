#!/usr/bin/env python3
"""Who imports whom between the rooms of lnqtools: python check_imports.py TREE [--modules].

A room is a package or a module directly below lnqtools. Imports count wherever they stand: at the
top, inside functions (lazy), under TYPE_CHECKING (typed). ORDER is the proposed order of the rooms,
the lowest first; an import of a room that comes later is backward.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from pathlib import Path

ORDER = (
    *("errors", "choices", "memory", "files", "images", "components", "anatomy", "labels"),
    *("metrics", "comparison", "phantom", "figures", "report", "nnunet", "totalseg", "dicom"),
    *("cli",),
)


def imports(path: Path) -> list[tuple[str, str, int]]:
    """Return (module, how, line) of each import of lnqtools in a file."""
    found: list[tuple[str, str, int]] = []

    def visit(node: ast.AST, how: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = how
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = "lazy"
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                inner = "typed"
            if isinstance(child, ast.Import):
                found.extend((a.name, how, child.lineno) for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.append((child.module or "", how, child.lineno))
                found.extend((f"{child.module}.{a.name}", how, child.lineno) for a in child.names)
            visit(child, inner)

    visit(ast.parse(path.read_text()), "top")
    return [f for f in found if f[0] == "lnqtools" or f[0].startswith("lnqtools.")]


def modules_of(root: Path) -> dict[str, Path]:
    """Return dotted name → file of each module."""
    return {
        str(p.relative_to(root).with_suffix("")).replace("/", ".").removesuffix(".__init__"): p
        for p in sorted((root / "lnqtools").rglob("*.py"))
    }


def edges(root: Path) -> list[tuple[str, str, str, int]]:
    """Return (importing module, imported module, how, line); names are of their module."""
    modules = modules_of(root)
    found = set()
    for name, path in modules.items():
        for target, how, line in imports(path):
            if target in modules and target != name:
                found.add((name, target, how, line))
    # "from lnqtools.room import module" names the room, too: the module alone counts.
    deeper = {(n, t, line) for n, t, _, line in found}
    return sorted(
        (n, t, how, line)
        for n, t, how, line in found
        if not any(a == n and ln == line and b.startswith(f"{t}.") for a, b, ln in deeper)
    )


def room(module: str) -> str:
    """Return the room of a module; that of the package itself is ''."""
    return (module.split(".") + [""])[1]


def circles(pairs: set[tuple[str, str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node."""
    after = defaultdict(set)
    nodes = {n for pair in pairs for n in pair}
    for a, b in pairs:
        after[a].add(b)

    def reach(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for node in after[waiting.pop()] - seen:
                seen.add(node)
                waiting.append(node)
        return seen

    reached = {n: reach(n) for n in nodes}
    groups = {frozenset(m for m in nodes if m in reached[n] and n in reached[m]) for n in nodes}
    return sorted(sorted(g) for g in groups if len(g) > 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--modules", action="store_true", help="also circles between modules")
    parser.add_argument("--table", action="store_true", help="print the table for test_house.py")
    given = parser.parse_args()
    all_edges = edges(given.tree)
    between = defaultdict(list)
    for a, b, how, line in all_edges:
        if room(a) and room(b) and room(a) != room(b):
            between[room(a), room(b)].append((a, b, how, line))
    rooms = sorted(
        {r for pair in between for r in pair} | {room(m) for m in modules_of(given.tree) if room(m)},
        key=lambda r: ORDER.index(r) if r in ORDER else 99,
    )
    if given.table:
        print("ROOMS = {")
        for r in rooms:
            names = [x for x in rooms if (r, x) in between]
            print(f'    "{r}": {{{", ".join(repr(n).replace(chr(39), chr(34)) for n in names)}}},')
        print("}")
        return
    for r in rooms:
        parts = []
        for x in rooms:
            if (r, x) in between:
                hows = {h for *_, h, _ in between[r, x]}
                mark = "" if "top" in hows else " (lazy)" if "lazy" in hows else " (typed)"
                parts.append(f"{x} {len(between[r, x])}{mark}")
        print(f"{r}: {', '.join(parts) or '-'}")
    pairs = set(between)
    within = {(a, b) for a, b, how, _ in all_edges if how != "typed"}
    module_pairs = {(a, b) for a, b, *_ in all_edges if room(a) and room(b)}
    print(f"\n{len(rooms)} rooms, {len(pairs)} edges between rooms, {len(module_pairs)} between modules")
    print("\nbackward:")
    for (a, b), found in sorted(between.items()):
        unknown = a not in ORDER or b not in ORDER
        if unknown or ORDER.index(b) > ORDER.index(a):
            for x in found:
                print(f"  {a} → {b}: {x[0]}:{x[3]} imports {x[1]} ({x[2]})")
    print("\ncircles between rooms:", circles(pairs) or "none")
    if given.modules:
        print("circles between modules (typed imports left out):", circles(within) or "none")
        typed = {(a, b) for a, b, *_ in all_edges}
        print("circles between modules (all):", circles(typed) or "none")


if __name__ == "__main__":
    main()
