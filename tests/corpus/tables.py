"""Odd tables and other texts that tools read, each with what must come of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.corpus import Content, write_content

NAN = float("nan")
COLUMNS = ("case", "dice", "assd_mm", "volume_prediction_ml", "volume_reference_ml")
ROWS = (("a", 0.5, 2.5, 3, 4), ("b b", 0.75, 1.5, 5, 4), ("ç", 0.875, 0.5, 4, 4))
DICE = tuple(row[1] for row in ROWS)


@dataclass(frozen=True)
class OddTable:
    """A text, and what must come of it: a refusal (a pattern), or values of the column dice."""

    name: str
    content: Content = field(repr=False)
    error: str | None = None
    dice: tuple[float, ...] = DICE

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        write_content(path, self.content)
        return path


def separated(separator: str = "\t", end: str = "\n", columns=COLUMNS, rows=ROWS) -> str:
    """Return a table of separated cells."""
    return "".join(separator.join(map(str, line)) + end for line in (columns, *rows))


def metrics_tables() -> list[OddTable]:
    """Return tables of metrics, one row per case, as lnq-compare and lnq-plot take them."""
    tsv = separated()
    jsonl = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS]
    lines = tsv.splitlines(keepends=True)

    def cell(text: str) -> bytes:
        return tsv.replace("0.75", text).encode()

    def json_cell(text: str) -> bytes:
        return "\n".join(jsonl).replace("0.75", text).encode()

    no_text, no_number = "is not text in UTF-8", "not a number"
    return [
        OddTable("plain.tsv", tsv.encode()),
        OddTable("plain.csv", separated(",", "\r\n").encode()),
        OddTable("plain.jsonl", "\n".join(jsonl).encode()),
        OddTable("csv named so.tsv", separated(",").encode()),
        OddTable("no line end.tsv", tsv.rstrip("\n").encode()),
        OddTable("Windows.tsv", separated(end="\r\n").encode()),
        OddTable("byte order mark.tsv", b"\xef\xbb\xbf" + tsv.encode()),
        OddTable("Latin-1.tsv", tsv.encode("latin-1")),
        OddTable("empty lines.tsv", tsv.replace("\n", "\n\n").encode()),
        OddTable("NaN.tsv", cell("nan"), dice=(0.5, NAN, 0.875)),
        OddTable("infinity.tsv", cell("-inf"), dice=(0.5, NAN, 0.875)),
        OddTable("too large.tsv", cell("1e400"), dice=(0.5, NAN, 0.875)),
        OddTable("empty cell.tsv", cell(""), dice=(0.5, NAN, 0.875)),
        OddTable("null.jsonl", json_cell("null"), dice=(0.5, NAN, 0.875)),
        OddTable("huge.tsv", cell("1e300"), dice=(0.5, 1e300, 0.875)),
        OddTable("tiny.tsv", cell("5e-324"), dice=(0.5, 5e-324, 0.875)),
        OddTable("no file.tsv", lambda path: None, "cannot be read: No such file"),
        OddTable("directory.tsv", Path.mkdir, "cannot be read: Is a directory"),
        OddTable("unreadable.tsv", _unreadable(tsv), "cannot be read: Permission denied"),
        OddTable("dangling.tsv", lambda p: p.symlink_to("nowhere"), "cannot be read: No such file"),
        OddTable("empty.tsv", b"", "is empty"),
        OddTable("blank.tsv", b" \n\n\t\n", "is empty"),
        OddTable("mark alone.tsv", b"\xef\xbb\xbf", "is empty"),
        OddTable("NUL.tsv", tsv.replace("b b", "b\0b").encode(), no_text),
        OddTable("UTF-16.tsv", tsv.encode("utf-16"), no_text),
        OddTable("binary.tsv", np.random.default_rng(3).bytes(4000), no_text),
        OddTable("PNG.tsv", b"\x89PNG\r\n\x1a\n" + bytes(99), no_text),
        OddTable("gzip.tsv", b"\x1f\x8b\x08\0" + bytes(99), no_text),
        OddTable("names alone.tsv", lines[0].encode(), "no row"),
        OddTable("no names.tsv", "".join(lines[1:]).encode(), "no column named case"),
        OddTable("cut in a row.tsv", tsv[:-14].encode(), r"line 4 has \d cells instead of 5"),
        OddTable("a cell too many.tsv", (tsv + "d\t1\t1\t1\t1\t1\n").encode(), "line 5 has 6 cell"),
        OddTable("cut in the names.tsv", tsv[:9].encode(), "no row"),
        OddTable("one column twice.tsv", tsv.replace("assd_mm", "dice").encode(), "two columns"),
        OddTable("no dice.tsv", tsv.replace("dice", "nice").encode(), "no column named dice"),
        OddTable("no case.tsv", tsv.replace("case", "patient").encode(), "no column named case"),
        OddTable("one case twice.tsv", tsv.replace("b b", "a").encode(), "one row of case a"),
        OddTable("nameless case.tsv", tsv.replace("b b", "").encode(), "without a case name"),
        OddTable("word.tsv", cell("high"), no_number),
        OddTable("comma.tsv", cell("0,75"), no_number),
        OddTable("hexadecimal.tsv", cell("0x1p3"), no_number),
        OddTable("open quote.csv", separated(",").replace("b b", '"b b').encode(), "is not CSV"),
        OddTable(
            "long field.csv", separated(",").replace("b b", "b" * 200_000).encode(), "not CSV"
        ),
        OddTable("cut.jsonl", "\n".join(jsonl)[:-9].encode(), "line 3 is not JSON"),
        OddTable("list.jsonl", (jsonl[0] + "\n[1, 2]").encode(), "line 2 is not a JSON object"),
        OddTable("word.jsonl", json_cell('"high"'), no_number),
        OddTable("nested.jsonl", json_cell("[0.75]"), no_number),
        OddTable("large whole.jsonl", json_cell("1" + "0" * 400), no_number),
        OddTable("digits.jsonl", json_cell("1" * 9999), "is not JSON|not a number"),
        OddTable("deep.jsonl", json_cell("[" * 100_000), "nests too deep"),
        OddTable("other columns.jsonl", (jsonl[0] + '\n{"case": "b"}').encode(), None, (0.5, NAN)),
        OddTable("yes.jsonl", json_cell("true"), dice=(0.5, 1.0, 0.875)),
    ]


def _unreadable(text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_text(text)
        path.chmod(0)

    return write


def recipes() -> list[OddTable]:
    """Return bad recipes of lnq-train."""
    return [
        OddTable("directory.toml", Path.mkdir, "cannot be read|no recipe|is a directory"),
        OddTable("empty.toml", b"", None),
        OddTable("binary.toml", bytes(range(256)), "utf-8"),
        OddTable("cut.toml", b'base = "smo', "TOML|line 1"),
        OddTable("unknown key.toml", b"nosuch = 1\n", "nosuch"),
        OddTable("wrong type.toml", b'epochs = "many"\n', "epochs"),
        OddTable("NaN.toml", b"learning_rate = nan\n", "learning_rate"),
        OddTable("negative.toml", b"epochs = -1\n", "epochs"),
        OddTable("huge.toml", b"patch = [100000000, 8, 8]\n"),  # --show-recipe trains nothing
        OddTable("key twice.toml", b"epochs = 1\nepochs = 2\n", "TOML|line 2|epochs"),
        OddTable("deep.toml", b"x = " + b"[" * 5000, "nests too deep"),
    ]


def splits() -> list[OddTable]:
    """Return bad files of --splits."""
    not_json, no_splits = "Expecting|not JSON", "is not a splits_final.json of nnU-Net"
    return [
        OddTable("directory.json", Path.mkdir, "[Ii]s a directory"),
        OddTable("empty.json", b"", not_json),
        OddTable("binary.json", bytes(range(256)), "utf-8|UTF-8|not JSON"),
        OddTable("cut.json", b'[{"train": ["a"]', not_json),
        OddTable("number.json", b"7", no_splits),
        OddTable("no parts.json", b"[]", no_splits),
        OddTable("no val.json", b'[{"train": ["a"]}]', no_splits),
        OddTable("numbers.json", b'[{"train": [1], "val": [2]}]', no_splits),
        OddTable("deep.json", b"[" * 100_000, "nests too deep"),
    ]


KINDS: dict[str, Callable[[], list[OddTable]]] = {
    "metrics": metrics_tables,
    "recipe": recipes,
    "splits": splits,
}


def write_tables(folder: Path) -> None:
    """Write KIND/ for each kind of text."""
    for kind, make in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for odd in make():
            odd.write(folder / kind)


def expected() -> list[dict[str, str]]:
    """Return what is promised of each text, as rows of a table."""
    return [
        {"kind": kind, "file": odd.name, "promise": odd.error or "read"}
        for kind, make in KINDS.items()
        for odd in make()
    ]
