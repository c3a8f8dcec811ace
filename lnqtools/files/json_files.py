"""JSON files, read and written whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lnqtools.files.atomic import atomic_output


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; raise OSError or ValueError."""
    try:
        return json.loads(path.read_text())
    except RecursionError:
        raise ValueError("it nests too deep") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one go, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
