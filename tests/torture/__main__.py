"""Put the installed tools through bad inputs, faults and load: python -m tests.torture [NAME]...

Writes a page, docs/reliability.md by default, with what was tried and what came of it. Exit status
1 says that something was lost or wrong; each such time is named on stderr and on the page. NAME may
be the beginning of several.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.torture import faults, fuzz, inputs, load, security
from tests.torture.rows import Row, Torture

TORTURES: dict[str, tuple[str, Torture]] = {
    "inputs": ("Bad and odd inputs", inputs.torture),
    "fuzz": ("Fuzzing", fuzz.torture),
    "faults": ("Kills, signals, full disks, clocks and neighbours", faults.torture),
    "load": ("A thousand cases, one in twenty bad", load.torture),
    "security": ("Names, data and machines that are hostile", security.torture),
}
"""Name → heading on the page, and what runs."""

HEAD = """\
# What the tools were put through

Made by `make torture` on {date}, in {minutes:.0f} minutes, with Python {python} on {cores} cores;
{version}.
A row says what was done, how often, and what came of it. Wrong is what the tools promise never to
do: to lose or damage an output, to give a wrong result without a word, to end in a traceback, or to
leave a temporary file.
"""
COLUMNS = "| what was done | where | times | what came of it | wrong |\n|---|---|---:|---|---:|"


def plain(text: str) -> str:
    """Return text as one line that Markdown shows as it is."""
    return " ".join(text.split()).replace("<", "&lt;")


def markdown(row: Row) -> str:
    """Return a row of the page's table."""
    cells = (row.what, row.where, f"{row.tried:,}", row.outcome, str(len(row.wrong)))
    return "| " + " | ".join(plain(cell).replace("|", "\\|") for cell in cells) + " |"


def page(found: dict[str, list[Row]], seconds: float, version: str) -> str:
    """Return the page."""
    head = HEAD.format(
        date=datetime.now(UTC).date(),
        minutes=seconds / 60,
        python=platform.python_version(),
        cores=os.cpu_count(),
        version=version,
    )
    parts = [head]
    for name, rows in found.items():
        heading, _ = TORTURES[name]
        parts.append(f"## {heading}\n\n{COLUMNS}\n" + "\n".join(map(markdown, rows)) + "\n")
    wrong = [sentence for rows in found.values() for row in rows for sentence in row.wrong]
    if wrong:
        parts.append(
            "## What went wrong\n\n" + "\n".join(f"- {plain(text)}" for text in wrong) + "\n"
        )
    else:
        parts.append("Lost, damaged or silently wrong: nothing.\n")
    return "\n".join(parts)


def guarded(name: str, torture: Torture, folder: Path, scale: float) -> Iterator[Row]:
    """Yield a torture's rows; if it breaks itself, that is a row too, and the others go on."""
    try:
        yield from torture(folder, scale)
    except Exception as error:  # noqa: BLE001  an hour's page is not lost over it
        traceback.print_exc()
        broke = f"{name}: the torture itself broke: {type(error).__name__}: {error}"
        yield Row("what was to come", name, 0, "not done", (broke,))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="how much is tried (default: 1)")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/reliability.md"))
    given = parser.parse_args()
    wanted = tuple(given.names)
    if not given.output.parent.is_dir():
        parser.error(f"{given.output}: there is no such folder")
    for name in wanted:
        if not any(known.startswith(name) for known in TORTURES):
            parser.error(f"{name} is not one of {', '.join(TORTURES)}")
    from lnqtools import __version__

    found: dict[str, list[Row]] = {}
    start = time.monotonic()
    for name, (_, torture) in TORTURES.items():
        if wanted and not name.startswith(wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="lnq-torture.") as folder:
            found[name] = []
            for row in guarded(name, torture, Path(folder), given.scale):
                found[name].append(row)
                print(markdown(row), flush=True)
                for sentence in row.wrong:
                    print(f"wrong: {sentence}", file=sys.stderr, flush=True)
    given.output.write_text(page(found, time.monotonic() - start, f"lnqtools {__version__}"))
    return int(any(row.wrong for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
