"""The files with which shells complete the tools' options: python -m tests.completions DIR."""

from __future__ import annotations

import sys
from pathlib import Path

from lnqtools.choices import SHELLS
from lnqtools.cli.lnq import TOOLS, completion_of

NAMES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
"""What each shell looks for, by the command's name."""


def completion_files() -> dict[str, str]:
    """Return path → content."""
    return {
        f"{shell}/{NAMES[shell].format(tool)}": completion_of(shell, tool)
        for shell in SHELLS
        for tool in ("lnq", *TOOLS)
    }


if __name__ == "__main__":
    for name, content in completion_files().items():
        path = Path(sys.argv[1], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
