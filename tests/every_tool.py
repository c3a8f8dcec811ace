"""Every tool of the suite, called once on small images, under whatever names these have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.cohort import make_cohort
from tests.conftest import BIN, environment
from tests.dicom_data import ct_of, write_ct

KINDS = ("ct", "ann", "label", "tumour", "lungs", "ts", "truth", "probability")
CANARY = "canary"
HOSTILE = (
    *(f"$(touch {CANARY})", f"`touch {CANARY}`", f"a;touch {CANARY};", f"a|touch {CANARY}"),
    *(f"a&touch {CANARY}&", f"a>{CANARY}", f"'\";touch {CANARY}#", f"=cmd|'touch {CANARY}'!A1"),
    *("--help", "-rf", "~", "*", "[a-z]", "%s%n{0}", "$HOME", "a\\b", "$x^$", "a b", " "),
    *("line\nend", "tab\tand\rreturn", "a\x1b]0;owned\x07b", "a\x1b[2J", "\u202egpj", "\x9b31m"),
    *("<img src=x onerror=alert(1)>", "x" * 240),
)
"""Names that a shell, a terminal, a format, a page or a spreadsheet may take for something else."""
NOT_TEXT = os.fsdecode(b"\xff\xfe")
"""A name that is not UTF-8; lnq-train refuses it."""
CONTROL = {*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u202e"} - {"\n"}
"""What no line for people may hold."""
TRAINING = (
    *("--recipe", "smoke", "--patch", "16,16,8", "--set", "features=4,8", "--epochs", "1"),
    *("--iterations", "2", "--fold", "all", "--threads", "1", "--device", "cpu"),
    "--allow-no-background",  # the labels of a cohort are drawn nodes alone
)


@dataclass(frozen=True)
class Call:
    """A command line, without a shell; the inputs come on standard input, NUL-ended."""

    tool: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    makes: str | None = None  # the folder that gets a file a case


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    status: int
    out: bytes
    err: str = field(repr=False)


def hostile_cohort(folder: Path, names: Sequence[str]) -> Path:
    """Write the images of a case under each name, and a DICOM series in a folder of that name."""
    plain = make_cohort(folder / "plain cohort")
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(plain / kind / "plain.nii.gz", folder / kind / f"{name}.nii.gz")
    shutil.rmtree(plain)
    for number, name in enumerate(names):
        write_ct(folder / "disc" / name, ct_of((3, 4, 5)), patient=f"P{number}")
    return folder


def light_calls(names: Sequence[str], model: str = "a") -> list[Call]:
    """Return calls of the tools that need neither torch nor TotalSegmentator.

    They run in the folder of a `hostile_cohort`; ``model`` is what tables and models are called.
    """

    def paths(kind: str) -> tuple[str, ...]:
        return tuple(f"{kind}/{name}.nii.gz" for name in names)

    def images(tool: str, kind: str, *options: str, to: str) -> Call:
        arguments = ("-0", "-T", "-", *options, "-O", f"out/{to}")
        return Call(tool, arguments, paths(kind), f"out/{to}")

    def table(tool: str, kind: str, *options: str) -> Call:
        return Call(tool, ("-0", "-T", "-", *options), paths(kind))

    first = names[0]
    drawn = (f"ct/{first}.nii.gz", f"label/{first}.nii.gz")
    metrics = f"{model}=out/metrics.tsv"
    return [
        Call("lnq", ("--json",)),
        Call("lnq-phantom", ("-n", "1", "-O", "out/phantom")),
        Call("lnq-model", ("list",)),
        images("lnq-crop", "ct", "--lungs", "lungs", to="cropped"),
        images("lnq-crop", "ann", "--label", "--like", "out/cropped", to="like"),
        images("lnq-weaklabel", "ann", "--strategy", "mask", "--background", "tumour", to="weak"),
        images("lnq-pseudolabel", "label", "--anatomy", "ts", "--classes", "v2", to="filled"),
        images("lnq-filter-diameter", "ann", "--min", "2", to="filtered"),
        Call("lnq-dicom", ("images", "disc", "-O", "out/series")),
        Call(
            "lnq-dicom",
            ("export", "-0", "-T", "-", "--as", "seg.nrrd", "-O", "out/slicer"),
            paths("ann"),
        ),
        table("lnq-metrics", "ann", "--reference", "truth", "-o", "out/metrics.tsv"),
        table("lnq-metrics", "ann", "--reference", "truth", "--format", "csv", "-o", "out/m.csv"),
        table(
            *("lnq-threshold", "probability", "--reference", "truth"),
            *("--plot", "out/curve.svg", "-o", "out/thresholds.tsv"),
        ),
        Call("lnq-stats", ("--set", f"{model}=label", "--table", "cases", "-o", "out/stats.tsv")),
        Call("lnq-compare", (metrics, "b=out/m.csv", "--metric", "dice", "-o", "out/compared.tsv")),
        Call("lnq-plot", ("scores", metrics, "--metric", "dice", "-o", "out/scores.svg")),
        Call("lnq-plot", ("preprocess", "--row", model, *drawn, "-o", "out/rows.svg")),
        table(
            *("lnq-report", "ann", "--ct", "ct", "--reference", "truth"),
            *("--title", model, "-O", "out/report"),
        ),
        Call("lnq-check", ("ct", "out/cropped", "out/weak", "-o", "out/checked.tsv")),
    ]


def network_calls(names: Sequence[str]) -> list[Call]:
    """Return the calls that train and run a network."""
    inputs = tuple(f"ct/{name}.nii.gz" for name in names)
    options = ("--lungs", "lungs", "--no-mirror", "--threads", "1", "--device", "cpu")
    return [
        Call("lnq-train", ("--images", "ct", "--labels", "label", *TRAINING, "-m", "out/model")),
        Call(
            "lnq-infer",
            ("-0", "-T", "-", "-m", "out/model", *options, "-O", "out/seen"),
            inputs,
            "out/seen",
        ),
    ]


def anatomy_call(names: Sequence[str]) -> Call:
    """Return the call that runs TotalSegmentator."""
    inputs = tuple(f"ct/{name}.nii.gz" for name in names)
    options = ("--fast", "--device", "cpu", "--threads", "1", "-O", "out/anatomy")
    return Call("lnq-anatomy", ("-0", "-T", "-", *options), inputs, "out/anatomy")


def begin(
    call: Call, folder: Path, variables: dict[str, str] | None = None, before: Sequence[str] = ()
) -> Ended:
    """Make a call in a folder; ``before`` is a command that runs another."""
    (folder / "out").mkdir(exist_ok=True)
    done = subprocess.run(
        [*before, str(BIN / call.tool), *call.arguments],
        input=b"".join(os.fsencode(path) + b"\0" for path in call.inputs),
        capture_output=True,
        cwd=folder,
        env={**environment(), "OMP_NUM_THREADS": "1", **(variables or {})},
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace"))


def wrong_with(call: Call, ended: Ended, folder: Path) -> list[str]:
    """Say what a call did that no name may make a tool do."""
    wrong = []
    if ended.status != 0:
        wrong.append(f"status {ended.status}: {ended.err[-300:]!r}")
    if CONTROL & {*ended.err}:
        wrong.append(f"control characters on standard error: {ended.err[:200]!r}")
    if made := [path for path in folder.rglob(CANARY)]:
        wrong.append(f"a name was run as a command: {made[0]}")
    if call.makes and ended.status == 0:
        expected = [f"{call.makes}/{Path(path).name}" for path in call.inputs]
        if ended.out != b"".join(os.fsencode(path) + b"\0" for path in expected):
            wrong.append("other paths printed than were written")
        if missing := [path for path in expected if not (folder / path).is_file()]:
            wrong.append(f"{len(missing)} not written, as {missing[0]!r}")
    return [f"{call.tool} {call.arguments[-1]}: {sentence}" for sentence in wrong]


AUDIT = """\
import sys

def audit(event, arguments):
    asks = event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    reaches = event in ("socket.connect", "socket.sendto", "socket.sendmsg")
    if asks or (reaches and isinstance(arguments[1], tuple)):
        with open(PLACE, "a") as log:
            log.write(f"{event} by {sys.orig_argv}\\n")
        raise PermissionError(f"{event} is refused")

sys.addaudithook(audit)
with open(PLACE, "a") as log:
    log.write("watched\\n")
"""


def refuse_network(folder: Path) -> tuple[dict[str, str], Path]:
    """Return variables by which every Python process refuses and notes calls, and the notes."""
    place = folder / "network"
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(f"PLACE = {json.dumps(str(place))}\n{AUDIT}")
    return {"PYTHONPATH": str(folder / "site")}, place
