"""Put the installed tools through bad inputs, faults and load: python -m torture [NAME]...

Writes a page, docs/reliability.md by default, with what was tried and what came of it: a section a
torture, written as soon as it is over; those of tortures that do not run now stay as they are. Exit
status 1 says that something was lost or wrong; each such time is named on stderr and on the page.
NAME may be the beginning of several.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from lnqtools import __version__
from tests.suite import TOOLS
from torture import faults, fuzz, inputs, load, security
from torture.rows import Row, Torture, guarded

TORTURES: dict[str, tuple[str, Torture]] = {
    "inputs": ("Bad and odd inputs", inputs.torture),
    "fuzz": ("Fuzzing", fuzz.torture),
    "kills": ("Killed at a hundred moments", faults.kills),
    "faults": ("Signals, full disks, clocks and neighbors", faults.torture),
    "load": ("A thousand cases, one in twenty bad", load.torture),
    "security": ("Names, data and machines that are hostile", security.torture),
}
"""Name → heading on the page, and what runs."""
BY_TOOL = ("inputs", "kills", "faults")
"""Those that can be done to some of the tools."""

HEAD = """\
# What the tools were put through

Made by `make torture`; NAMES=NAME makes a section anew. A row says what was done, how often, and
what came of it. Wrong is what the tools promise never to do: to lose or damage an output, to give a
wrong result without a word, to end in a traceback, or to leave a temporary file.
"""
MADE = (
    "`{call}` on {date}, {minutes:.0f} minutes, Python {python}, {cores} cores, lnqtools {version}."
)
NOT_TRIED = re.compile(r"[^\\]\| 0 \| .* \| 0 \|$")
COLUMNS = "| what was done | where | times | what came of it | wrong |\n|---|---|---:|---|---:|"


def plain(text: str) -> str:
    """Return text as one line that Markdown shows as it is."""
    return " ".join(text.split()).replace("<", "&lt;")


def markdown(row: Row) -> str:
    """Return a row of the page's table."""
    cells = (row.what, row.where, f"{row.tried:,}", row.outcome, str(len(row.wrong)))
    return "| " + " | ".join(plain(cell).replace("|", "\\|") for cell in cells) + " |"


def section(heading: str, made: str, rows: Sequence[Row], before: str = "") -> str:
    """Return a torture's section of the page.

    ``before`` is an older section: its rows stay where none is of the same and at the same place,
    and what was wrong at places that are now none.
    """
    new = [markdown(row) for row in rows]
    places = {cells_of(line) for line in new}
    lines = before.splitlines()
    old = [line for line in lines if line.startswith("| ") and line not in COLUMNS]
    table = [line for line in old if cells_of(line) not in places] + new
    done = tuple(f"- {row.where}{mark}" for row in rows for mark in (":", " on "))
    wrong = [line for line in lines if line.startswith("- ") and not line.startswith(done)]
    wrong += [f"- {plain(sentence)}" for row in rows for sentence in row.wrong]
    found = "Wrong:\n\n" + "\n".join(wrong) if wrong else "Lost, damaged or wrong: nothing."
    if untried := sum(NOT_TRIED.search(line) is not None for line in table):
        found += f"\n\nNot tried: {untried}."
    calls = [line for line in lines if line.startswith("`python -m torture ")]
    every = "\n\n".join(dict.fromkeys([*calls, made]))
    return "\n".join([f"## {heading}\n\n{every}\n", COLUMNS, *table, f"\n{found}\n"])


def cells_of(row: str) -> tuple[str, ...]:
    """Return the first two cells of a row of a table: what was done, and where."""
    return tuple(re.split(r"(?<!\\)\|", row)[1:3])


def sections_of(page: str) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    return {part.partition("\n")[0]: f"## {part}" for part in page.split("\n## ")[1:]}


def with_section(page: str, name: str, text: str) -> str:
    """Return a page in which a torture's section is new; the others stay, in their order."""
    sections = sections_of(page)
    headings = [heading for heading, _ in TORTURES.values()]
    sections[TORTURES[name][0]] = text
    kept = [sections[heading].rstrip() + "\n" for heading in headings if heading in sections]
    return "\n".join([HEAD, *kept])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="how much is tried (default: 1)")
    parser.add_argument(
        "--tool",
        action="append",
        choices=TOOLS,
        default=[],
        metavar="TOOL",
        help=f"of {', '.join(BY_TOOL)}: this tool alone, whose rows on the page are made anew; "
        "may be given several times",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/reliability.md"))
    given = parser.parse_args()
    wanted = tuple(given.names)
    if not given.output.parent.is_dir():
        parser.error(f"{given.output}: there is no such folder")
    for name in wanted:
        if not any(known.startswith(name) for known in TORTURES):
            parser.error(f"{name} is not one of {', '.join(TORTURES)}")
    picked = [name for name in TORTURES if not wanted or name.startswith(wanted)]
    if given.tool and (others := [name for name in picked if name not in BY_TOOL]):
        parser.error(f"{', '.join(others)}: --tool is for {', '.join(BY_TOOL)}")
    bad = False
    options = [f"--tool {tool}" for tool in given.tool]
    of_tools = [given.tool] if given.tool else []
    for name, (heading, torture) in TORTURES.items():
        if name not in picked:
            continue
        start, rows = time.monotonic(), []
        with tempfile.TemporaryDirectory(prefix="lnq-torture.") as folder:
            for row in guarded(name, torture(Path(folder), given.scale, *of_tools)):
                rows.append(row)
                print(markdown(row), flush=True)
                for sentence in row.wrong:
                    print(f"wrong: {sentence}", file=sys.stderr, flush=True)
        made = MADE.format(
            call=" ".join([f"python -m torture {name} --scale {given.scale:g}", *options]),
            date=datetime.now(UTC).date(),
            minutes=(time.monotonic() - start) / 60,
            python=platform.python_version(),
            cores=os.cpu_count(),
            version=__version__,
        )
        page = given.output.read_text() if given.output.exists() else ""
        before = sections_of(page).get(heading, "") if given.tool else ""
        given.output.write_text(with_section(page, name, section(heading, made, rows, before)))
        bad |= any(row.wrong for row in rows)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
