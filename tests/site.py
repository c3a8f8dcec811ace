"""The pages that the site is made of: python -m tests.site DIR, then mkdocs build (make docs)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import lnqtools
from tests.conftest import ROOT

ELSEWHERE = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)]*)\)")


def page(text: str, folder: Path, pages: Path) -> str:
    """Return a page whose links lead to other pages; what is not on the site is named only."""

    def link(match: re.Match) -> str:
        path, hash_sign, anchor = match[2].partition("#")
        target = (folder / path).resolve()
        for base in (ROOT / "docs", ROOT):
            if target.is_relative_to(base) and (pages / target.relative_to(base)).is_file():
                return f"[{match[1]}]({target.relative_to(base)}{hash_sign}{anchor})"
        return match[1]

    return ELSEWHERE.sub(link, text)


PARTS = {
    "Tutorial": ["guide"],
    "How to": [
        "your-data",
        "dicom",
        "models",
        "training",
        "totalsegmentator",
        "self-training",
        "cluster",
        "report",
    ],
    "Reference": ["man/lnqtools.7", "man/index", "python", "api", "CHANGELOG"],
    "Explanation": ["faq", "results", "speed", "gpu", "reliability", "runs", "limits", "licenses"],
}
"""What the site's menu has, beside the README."""


def menu(title: str, names: list[str]) -> str:
    """Return a part of the menu."""
    return "\n".join(["```{toctree}", f":caption: {title}", ":hidden:", "", *names, "```"])


def write_pages(pages: Path) -> None:
    """Put together README, docs, man pages, and the list of functions."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages)
    (pages / "man").mkdir()
    for manual in sorted((ROOT / "man").glob("man*/*")):
        made = subprocess.run(
            ["mandoc", "-T", "html", "-O", "fragment,man=%N.html", manual],
            capture_output=True,
            text=True,
            check=True,
        )
        name = manual.name.removesuffix(".1")
        text = re.sub(r'<table class="(head|foot)">.*?</table>', "", made.stdout, flags=re.DOTALL)
        text = text.replace('href="lnqtools.html"', 'href="lnqtools.7.html"')
        (pages / "man" / f"{name}.md").write_text(f"# {name}\n\n```{{raw}} html\n{text}\n```\n")
    tools = sorted(path.stem for path in (ROOT / "man" / "man1").glob("*.1"))
    listed = "\n".join(["```{toctree}", *tools, "```"])
    (pages / "man" / "index.md").write_text(f"# Tools\n\n{listed}\n")
    shutil.copy(ROOT / "CHANGELOG.md", pages)
    classes = {name for name in lnqtools.__all__ if isinstance(getattr(lnqtools, name), type)}
    entries = "\n".join(
        f".. autoclass:: lnqtools.{name}\n   :members:\n"
        if name in classes
        else f".. autofunction:: lnqtools.{name}\n"
        for name in sorted(lnqtools.__all__)
    )
    (pages / "api.rst").write_text(f"Functions\n=========\n\n{entries}")
    for source in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        name = "index.md" if source.name == "README.md" else source.name
        text = page(source.read_text(), source.parent, pages)
        if name == "index.md":
            text += "\n" + "\n\n".join(menu(*part) for part in PARTS.items()) + "\n"
        (pages / name).write_text(text)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
