#!/usr/bin/env python3
"""Show that nothing is lost: python verify.py BEFORE AFTER (two checkouts).

Every function, class and constant of lnqtools, tests, torture and bench must be there again, with
the same code but for names of modules, underscores before names that became public, and imports.
Comments are compared as a multiset. Prints what differs; exit status 1 if something does.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

SOURCES: dict[tuple[str, str, str], str] = {}
FOLDERS = ("lnqtools", "tests", "torture", "bench", "examples")


def files(root: Path) -> list[Path]:
    return [p for f in FOLDERS if (root / f).is_dir() for p in sorted((root / f).rglob("*.py"))]


class Plain(ast.NodeTransformer):
    """Take from code what a move may change."""

    def __init__(self, modules: set[str]):
        self.modules = modules

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return ast.Name(node.attr.lstrip("_"), node.ctx)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(node.id.lstrip("_") or "_", node.ctx)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.name = node.name.lstrip("_")
        node.body = [n for n in node.body if not isinstance(n, ast.Import | ast.ImportFrom)]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            return ast.Constant(plain_text(node.value))
        return node


def plain_text(text: str) -> str:
    """Return prose without what names modules, and without line breaks."""
    text = re.sub(r"(from|import) (lnqtools|tests|torture)[\w., ]*( import [\w, ]+)?", "IMPORT", text)
    text = re.sub(r"(lnqtools|tests|torture)(\.\w+)+", lambda m: m[0].rpartition(".")[2], text)
    text = re.sub(r"(lnqtools|tests|torture)(/\w+)+\.py", "FILE", text)
    return re.sub(r"\s+", " ", text.replace("`_", "`")).strip()


def definitions(root: Path) -> Counter:
    found: Counter = Counter()
    for path in files(root):
        tree = ast.parse(path.read_text())
        modules = {
            a.asname or a.name
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and (n.module or "").split(".")[0] in ("lnqtools", "torture", "tests")
            for a in n.names
        }
        kind = path.relative_to(root).parts[0].replace("torture", "tests")
        body = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom | ast.If)]
        for node in body[1:] if ast.get_docstring(tree) is not None else body:
            name = getattr(node, "name", "") or ast.unparse(node)[:50]
            source = ast.unparse(node)
            dump = ast.dump(Plain(modules).visit(node))
            found[kind, name.lstrip("_"), dump] += 1
            SOURCES[kind, name.lstrip("_"), dump] = source
    return found


def comments(root: Path) -> Counter:
    found: Counter = Counter()
    for path in files(root):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.COMMENT:
                found[plain_text(token.string)] += 1
    return found


def main() -> None:
    before, after = Path(sys.argv[1]), Path(sys.argv[2])
    a, b = definitions(before), definitions(after)
    lost, new = a - b, b - a
    print(f"{a.total()} definitions before, {b.total()} after, {(a & b).total()} the same")
    for label, some in (("only before", lost), ("only after", new)):
        for kind, name, _ in sorted(some):
            print(f"  {label}: {kind} {name}")
    texts = [{}, {}]
    for side, some in zip(texts, (lost, new), strict=True):
        for key in some:
            side.setdefault(key[:2], []).append(SOURCES[key])
    for key in sorted(texts[0].keys() & texts[1].keys()):
        for old, now in zip(texts[0][key], texts[1][key], strict=False):
            print(f"  {' '.join(key)[:60]}:")
            lines = difflib.unified_diff(old.split("\n"), now.split("\n"), n=0, lineterm="")
            print("\n".join(f"    {x}" for x in lines if not x.startswith(("---", "+++", "@@"))))
    c, d = comments(before), comments(after)
    print(f"{c.total()} comments before, {d.total()} after")
    for text, n in (c - d).items():
        print(f"  only before ({n}): {text}")
    for text, n in (d - c).items():
        print(f"  only after ({n}): {text}")
    raise SystemExit(bool(lost))


if __name__ == "__main__":
    main()
