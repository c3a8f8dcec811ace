"""Faults put into the domain's code, one at a time, to see whether its room's tests notice.

``make mutants`` tries a sample. A mutant that survives is either the same program in other words,
or a test that is missing.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("components", "labels", "metrics", "images")
PARTS = ("lnqtools", "tests", "torture", "examples", "bin", "man", "pyproject.toml", "setup.cfg")
"""What tests need of a checkout."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And},
}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault."""

    module: str
    line: int
    change: str
    source: str

    @property
    def room(self) -> str:
        return self.module.split("/")[1]


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module: operators exchanged, numbers one more, truths denied."""
    module = ast.parse(path.read_text())
    count = sum(1 for _ in _places(module))
    for number in range(count):
        changed = copy.deepcopy(module)
        node, name, value, line = list(_places(changed))[number]
        before = getattr(node, name)
        setattr(node, name, value)
        change = f"{_spelled(before)} → {_spelled(value)}"
        yield Mutant(str(path.relative_to(ROOT)), line, change, ast.unparse(changed))


def _places(module: ast.Module) -> Iterator[tuple[Any, str, Any, int]]:
    """Yield where a fault can be: node, attribute, its other value, line."""
    for node in ast.walk(module):
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
            yield node, "op", SWAPS[type(node.op)](), node.lineno
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]], node.lineno
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, "value", node.value + 1, node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, "value", not node.value, node.lineno
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node, "test", ast.UnaryOp(ast.Not(), node.test), node.lineno


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_spelled, value))
    if isinstance(value, ast.expr):
        return ast.unparse(value)
    return type(value).__name__ if isinstance(value, ast.AST) else repr(value)


def checkout(folder: Path) -> Path:
    """Copy what tests need into a folder of one's own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


def passes(folder: Path, room: str, limit_s: float | None) -> str:
    """Run a room's tests; return ``passed``, ``failed`` or ``too long``."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", f"tests/{room}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "too long"
    return "failed" if done.returncode else "passed"


def judge(mutant: Mutant, folder: Path, limit_s: float) -> str:
    """Put a mutant into a checkout, run its room's tests, put back what was there."""
    path = folder / mutant.module
    before = path.read_text()
    path.write_text(mutant.source)
    try:
        ended = passes(folder, mutant.room, limit_s)
    finally:
        path.write_text(before)
    return "survived" if ended == "passed" else "killed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("rooms", nargs="*", default=ROOMS, metavar="ROOM", help=" ".join(ROOMS))
    parser.add_argument("-n", type=int, default=60, help="how many mutants (60)")
    parser.add_argument("-j", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("-o", type=Path, default=ROOT / "build" / "mutants", help="build/mutants")
    options = parser.parse_args()
    files = [p for room in options.rooms for p in sorted((ROOT / "lnqtools" / room).glob("*.py"))]
    every = [mutant for path in files for mutant in mutants_of(path)]
    sample = random.Random(options.seed).sample(every, min(options.n, len(every)))
    idle = [checkout(options.o / f"checkout{number}") for number in range(options.j)]
    limits = {}
    for room in {mutant.room for mutant in sample}:
        began = time.monotonic()
        if passes(idle[0], room, None) != "passed":
            sys.exit(f"the tests of {room} fail as they are")
        limits[room] = 3 * (time.monotonic() - began) * options.j + 10

    def try_one(mutant: Mutant) -> str:
        folder = idle.pop()
        try:
            ended = judge(mutant, folder, limits[mutant.room])
        finally:
            idle.append(folder)
        line = f"{ended}\t{mutant.module}:{mutant.line}\t{mutant.change}"
        sys.stderr.write(f"{line}\n")
        return line

    with ThreadPoolExecutor(options.j) as pool:
        lines = list(pool.map(try_one, sample))
    (options.o / "mutants.tsv").write_text("\n".join(["result\tplace\tchange", *lines, ""]))
    killed = sum(line.startswith("killed") for line in lines)
    sys.stdout.write(f"{killed} of {len(lines)} killed; of {len(every)} that there are\n")


if __name__ == "__main__":
    main()
