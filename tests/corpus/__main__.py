"""Write the corpus: python -m tests.corpus DIR.

DIR/expected.tsv says what is promised of each image, DIR/tables/expected.tsv of each table and
DIR/models/expected.tsv of each model. All of it is made by this script, the same each time, but
for the models, whose files hold times.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lnqtools.files.tables import table_lines
from tests.corpus import images, models, tables


def write_expected(path: Path, rows: list[dict]) -> None:
    """Write a table of promises."""
    path.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in table_lines(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="is made")
    parser.add_argument("--no-models", action="store_true", help="they need nnU-Net")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    images.write_images(given.folder)
    rows = [row for kind in images.KINDS for row in images.expected(kind)]
    write_expected(given.folder / "expected.tsv", rows)
    tables.write_tables(given.folder / "tables")
    write_expected(given.folder / "tables" / "expected.tsv", tables.expected())
    if not given.no_models:
        models.write_models(given.folder / "models")
        write_expected(given.folder / "models" / "expected.tsv", models.expected())


if __name__ == "__main__":
    main()
