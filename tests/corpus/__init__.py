"""Bad and odd inputs of every kind, each with what the tools promise to make of it."""

from collections.abc import Callable
from pathlib import Path

Content = bytes | Callable[[Path], object]
"""What a file holds, or what makes the thing at its path, as a folder or a link."""


def write_content(path: Path, content: Content) -> None:
    """Make a file, or whatever the content makes at the path."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
