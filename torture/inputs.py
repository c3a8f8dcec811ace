"""Every tool on every odd image, table and model of tests/corpus, alone and among good ones.

A tool must end with the right status, say one line of each problem and nothing else, leave no part
of an output and no temporary file, and stay within time and memory; what it makes must be right.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from lnqtools.cli._tool import printable
from lnqtools.files.tables import read_table
from lnqtools.nnunet.dataset import LONGEST_NAME
from lnqtools.nnunet.recipes import find_recipe, parse_recipe
from tests.conftest import BIN, WITHOUT_PRIVILEGE, environment
from tests.corpus.images import GOOD, KINDS, beside, is_plain, odd_images, promise, refuses
from tests.corpus.models import MODELS, NO_MEMORY, TRAP, OddModel
from tests.corpus.nifti import AFFINE, UNKNOWN_NAMES, Odd, records
from tests.corpus.tables import OddTable, metrics_tables, recipes, splits
from tests.dicom.test_series import ODD
from tests.suite import TOOLS
from torture.rows import Row

AT_ONCE = 2
MIB, HEAVY_MIB = 500, 2500
"""Most that a tool may take of tiny images; tools that run a network, and the others."""
SECONDS, HEAVY_SECONDS = 60, 600
LONGEST_FILE = 255
"""Bytes of a file's name, on Linux."""


# A process counts the memory of the one that starts it as its own peak until it has loaded its
# program. So a small one starts it, and says how its child ended and what that took.
LAUNCHER = """
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    print(status, used.ru_utime + used.ru_stime, used.ru_maxrss, file=file)
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended, what it said, and what it took."""

    status: int
    out: bytes
    err: str
    seconds: float
    mib: float


def end_of(
    tool: str,
    arguments: Sequence,
    place: Path,
    folder: Path,
    heavy: bool,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run a tool at a place, with a private folder for temporary files; kill it if it hangs."""
    name, *inner = tool.split()
    command = [*WITHOUT_PRIVILEGE, str(BIN / name), *inner, *map(str, arguments)]
    (folder / "tmp").mkdir(parents=True)
    own = {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", **(variables or {})}
    report = folder / "usage"
    command = [sys.executable, "-S", "-c", LAUNCHER, str(report), *command]
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as given,
    ):
        given.write(stdin)
        given.seek(0)
        streams = {"stdin": given, "stdout": out, "stderr": err}
        process = subprocess.Popen(
            command, cwd=place, env={**environment(), **own}, start_new_session=True, **streams
        )
        alarm = threading.Timer(
            HEAVY_SECONDS if heavy else SECONDS, os.killpg, (process.pid, signal.SIGKILL)
        )
        alarm.start()
        process.wait()
        alarm.cancel()
        ended = report.read_text() if report.exists() else f"{-signal.SIGKILL} 0 0"
        status, seconds, kilobytes = map(float, ended.split())
        out.seek(0)
        err.seek(0)
        return Ended(
            int(status),
            out.read(),
            err.read().decode(errors="replace"),
            seconds,
            kilobytes / 1024,
        )


@dataclass(frozen=True, eq=False)
class Use:
    """One way to give a tool an image of a kind.

    Attributes
    ----------
    arguments : callable
        Takes where the good images beside the odd one are (by what they are: a file, or in a call
        of many a directory), the odd image, and where outputs go.
    check : callable
        Takes the file made, the row of the table, and the odd image; raises AssertionError if
        what the tool made is wrong.
    made : str
        The output below the folder for outputs; {case} stands for the case name, "" for none.
    with_it : str
        What stands beside the output, in the same way.
    pair : str
        The good image, ct or label, that is given with each; nothing may be made.
    variables : mapping
        Of the tool's environment.
    single : bool
        The tool draws one picture a call, and takes the image as a value of an option.
    beside : str
        An option's image is the odd one, and the input is this good one beside it.
    also : callable
        Gives a refusal other than that of the kind, or None.
    aside : str
        A pattern of warnings of what an image holds; those of its file are as promised.
    header_alone : bool
        The tool reads no more than where voxels lie, and is given only what is read and not
        warned of.
    spacing_alone : bool
        The tool needs no more of a header than the spacing, and names no other image.
    """

    where: str
    kind: str
    arguments: Callable[[Callable[[str], Path], Path, Path], list]
    check: Callable[[Path, dict, Odd], None]
    made: str = "{case}.nii.gz"
    with_it: str = ""
    pair: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    single: bool = False
    beside: str = ""
    also: Callable[[Odd], str | None] = lambda odd: None
    aside: str = "nothing"
    header_alone: bool = False
    spacing_alone: bool = False
    heavy: bool = False

    @property
    def tool(self) -> str:
        return voice_of(self.where)

    def promise(self, odd: Odd, among: bool = False) -> str | None:
        """Return a pattern of the refusal, alone or among others, or None."""
        of_options = OF_FOLDERS if among else OF_OPTIONS
        if self.beside and odd.name in of_options:
            return of_options[odd.name]
        if not (odd.oriented or self.spacing_alone):
            return "does not say how its axes lie in the patient"
        name = os.fsencode(self.made.format(case=odd.case))
        too_long = "{case}" in self.made and len(name) > LONGEST_FILE
        unwritable = "File name too long" if too_long else None
        return promise(self.kind, odd) or self.also(odd) or unwritable


def voice_of(where: str) -> str:
    """Return what messages begin with: a tool, of lnq-dicom its command, too."""
    words = where.split()
    return " ".join(words[: 2 if words[0] == "lnq-dicom" else 1])


OF_OPTIONS = {
    "directory": "has no companion named",
    "dangling link": "no such file or directory",
    "link to itself": "no such file or directory",
}
"""What an option says, which takes a file or a directory, where an input says it otherwise."""
OF_FOLDERS = {"no suffix": "has no companion named"}
"""What is refused of a folder of odd images that an option names; the others are found there."""
CHECKPOINT = "model/fold_0/checkpoint_final.pth"
NO_REPORT = "no case can be shown: there is no report"
TABLE = "table.tsv"


# What must come out


def equal(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Check an image's voxels and place, by nibabel."""
    image = nib.load(path)
    at_place(np.asanyarray(image.dataobj).T, image.affine, array, affine)


def at_place(
    found: np.ndarray, found_affine: np.ndarray, array: np.ndarray, affine: np.ndarray
) -> None:
    """Check voxels and their place against those that must come out."""
    assert found.shape == array.shape, f"shape {found.shape}, not {array.shape}"
    assert np.array_equal(found, array), "other voxels"
    steps = np.linalg.norm(affine[:3, :3], axis=0).min()
    size = np.abs(affine).max()
    assert np.allclose(found_affine, affine, atol=max(1e-3 * steps, 1e-6 * size)), "another place"


def copied(path: Path, row: dict, odd: Odd) -> None:
    equal(path, odd.array, odd.affine)


def box_of(array: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box of what is not 0."""
    return tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(array))


def cropped(path: Path, row: dict, odd: Odd) -> None:
    """The lungs are a mask's: the image within its bounding box."""
    ct = beside("ct", odd)
    box = box_of(odd.array)
    affine = odd.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(odd.affine, [side.start for side in box[::-1]])
    equal(path, ct[box], affine)


def masked(path: Path, row: dict, odd: Odd) -> None:
    equal(path, np.where(odd.array, 1, 2), odd.affine)


def all_kept(path: Path, row: dict, odd: Odd) -> None:
    equal(path, odd.array != 0, odd.affine)


def without_structures(path: Path, row: dict, odd: Odd) -> None:
    inside = (odd.array == 2) & (beside("anatomy", odd) != 0)
    equal(path, np.where(inside, 0, odd.array), odd.affine)


def on_its_grid(path: Path, row: dict, odd: Odd) -> None:
    """The CT beside it lies on its grid already."""
    equal(path, beside("ct", odd), odd.affine)


def known_background(path: Path, row: dict, odd: Odd) -> None:
    label = beside("label", odd)
    equal(path, np.where(label, 1, np.where(odd.array, 0, 2)), odd.affine)


def without_map(path: Path, row: dict, odd: Odd) -> None:
    label = beside("label", odd)
    equal(path, np.where((label == 2) & (odd.array != 0), 0, label), odd.affine)


def aerated(path: Path, row: dict, odd: Odd) -> None:
    """The lobe beside it becomes background, without what the CT shows to be dense."""
    label = beside("label", odd)
    inside = (label == 2) & (beside("lobe", odd) != 0) & ~(odd.array > HU_MAX)
    equal(path, np.where(inside, 0, label), odd.affine)


def taught(path: Path, row: dict, odd: Odd) -> None:
    label = beside("label", odd)
    filled = np.where(odd.array > 0.8, 1, np.where(odd.array < 0.2, 0, 2))
    equal(path, np.where(label == 2, filled, label), odd.affine)


def dice_of(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the Dice of two masks as it is defined; of two empty ones it is not."""
    a, b = a != 0, b != 0
    return 2 * np.sum(a & b) / (a.sum() + b.sum()) if a.any() or b.any() else None


def scored(path: Path, row: dict, odd: Odd) -> None:
    same(row["dice"], dice_of(odd.array, beside("mask", odd)))


def scored_above_half(path: Path, row: dict, odd: Odd) -> None:
    same(row["dice"], dice_of(odd.array > 0.5, beside("mask", odd)))


def scored_where_known(path: Path, row: dict, odd: Odd) -> None:
    known = odd.array != 2
    same(row["dice"], dice_of(odd.array[known], beside("probability", odd)[known] > 0.5))


def same(text: str | None, value: float | None) -> None:
    """Check a cell against a number; '' is none."""
    assert (text in ("", None)) == (value is None), f"{text!r}, not {value}"
    assert value is None or abs(float(text) - value) < 1e-8, f"{text}, not {value}"


def exported(path: Path, row: dict, odd: Odd) -> None:
    """What SimpleITK reads is the mask, in the directions of NRRD (LPS)."""
    import SimpleITK as sitk

    image = sitk.ReadImage(shutil.copy(path, path.parent.parent / "read.nrrd"))
    affine = np.eye(4)
    turn = np.diag([-1, -1, 1])
    direction = np.reshape(image.GetDirection(), (3, 3))
    affine[:3, :3] = turn @ direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = turn @ image.GetOrigin()
    at_place(sitk.GetArrayFromImage(image), affine, odd.array != 0, odd.affine)


def counted(path: Path, row: dict, odd: Odd) -> None:
    found = [int(row[f"voxels_{name}"]) for name in ("background", "foreground", "unknown")]
    wanted = [int((odd.array == value).sum()) for value in (0, 1, 2)]
    assert found == wanted, f"{found} voxels, not {wanted}"


def shown(path: Path, row: dict, odd: Odd) -> None:
    dice = dice_of(odd.array, beside("mask", odd))
    text = path.read_text(errors="surrogateescape")
    assert f'data-value="{"" if dice is None else f"{dice:.10g}"}"' in text, "another Dice"
    assert "<script>alert" not in text, "a script of an image's record"


def a_page(path: Path, row: dict, odd: Odd) -> None:
    """Check that a page is one; `other_pictures` looks at its slices."""
    text = path.read_text(errors="surrogateescape")
    assert text[:100].lower().startswith("<!doctype html>"), "no page"
    assert "<script>alert" not in text, "a script of an image's record"


def a_picture(path: Path, row: dict, odd: Odd) -> None:
    assert path.read_bytes().startswith(b"\x89PNG"), "no picture"


def as_of_a_good_one(path: Path, odd: Odd) -> None:
    """Check what a network made of a CT that is as the good ones against theirs, if it is there."""
    good = path.with_name(f"{GOOD[0]}.nii.gz")
    if good.exists() and is_plain("ct", odd):
        image = nib.load(good)
        equal(path, np.asanyarray(image.dataobj).T, image.affine)


def a_mask(path: Path, row: dict, odd: Odd) -> None:
    image = nib.load(path)
    values = set(np.unique(np.asanyarray(image.dataobj)).tolist())
    assert image.shape == odd.array.shape[::-1], f"shape {image.shape}"
    assert values <= {0, 1}, f"values {values}"
    equal(path, np.asanyarray(image.dataobj).T, odd.affine)
    as_of_a_good_one(path, odd)


def a_mask_in_lungs(path: Path, row: dict, odd: Odd) -> None:
    """The CT beside it has a mask, which is 0 outside the lungs' box."""
    a_mask(path, row, odd)
    values = np.array(nib.load(path).dataobj).T
    values[box_of(odd.array)] = 0
    assert not values.any(), "nodes outside the lungs' box"


def a_map(path: Path, row: dict, odd: Odd) -> None:
    values = np.asanyarray(nib.load(path).dataobj).T
    assert values.shape == odd.array.shape, f"shape {values.shape}"
    assert values.max() <= 117, f"class {values.max()}"
    equal(path, values, odd.affine)
    as_of_a_good_one(path, odd)


def nothing(path: Path, row: dict, odd: Odd) -> None:
    """Check nothing: a model is of all images together."""


# How the tools are called


def no_lungs(odd: Odd) -> str | None:
    """Return what a lung mask is refused for that another mask is not."""
    if odd.name == UNKNOWN_NAMES:
        return "has no structure named lung"
    if odd.array.max() > 5 and not set(np.unique(odd.array)) <= {0, 255}:
        return "does not name its structures"
    return None if odd.array.any() else "is empty|no lung|lungs"


def on_network(odd: Odd) -> str | None:
    """Return what an image is refused for by lnq-infer; of nothing but 0 it asks no network.

    The network's voxels measure 1.5 × 1.5 × 2 mm (tests.corpus.models.write_models), and of an
    image it takes the box of what is not 0.
    """
    if not odd.array.any():
        return None
    lengths = np.ptp(np.nonzero(odd.array), axis=1) + 1
    return on_grid(odd, lengths, (2, 1.5, 1.5), "is too small for the network")


def in_lungs(odd: Odd) -> str | None:
    """Return what a lung mask is refused for by lnq-infer, or the CT in its box."""
    refused = no_lungs(odd)
    if refused or not odd.array.any():
        return refused
    return on_network(replace(odd, array=beside("ct", odd)[box_of(odd.array)]))


def on_grid(odd: Odd, lengths: np.ndarray, grid: tuple, too_small: str) -> str | None:
    """Return what an image is refused for of which a grid holds nothing, or too much."""
    sizes = lengths * np.linalg.norm(odd.affine[:3, :3], axis=0)[::-1] / grid
    if sizes.min() <= 0.5:
        return too_small
    return "memory" if sizes.prod() > 5e8 else None


def on_map(odd: Odd) -> str | None:
    """Return what an image is refused for by lnq-anatomy --fast, which works at 3 mm."""
    return on_grid(odd, np.array(odd.array.shape), (3, 3, 3), "is thinner than half a voxel")


def is_text(odd: Odd) -> bool:
    """Tell whether a case's name is UTF-8."""
    return os.fsencode(odd.case).decode(errors="ignore") == odd.case


def is_long(odd: Odd) -> bool:
    """Tell whether what nnU-Net makes of a case has no name: it is longer than the case's."""
    return len(os.fsencode(odd.case)) > LONGEST_NAME


def untrainable(odd: Odd) -> str | None:
    """Return what an image is refused for by lnq-train that others read."""
    if not is_text(odd):
        return "it is not UTF-8"
    if is_long(odd):
        return "it is too long"
    return None if odd.array.any() else "nothing but 0"


def no_class(odd: Odd) -> str | None:
    if odd.name == UNKNOWN_NAMES:
        return "names its label 1 no such organ, which in v2 is spleen"
    return "which is not a class of TotalSegmentator" if odd.array.max() > 117 else None


def uses(models: Path) -> list[Use]:
    """Return the ways to give tools images."""
    weights = {"TOTALSEG_WEIGHTS_PATH": str(models.parent / "weights")}
    by_cases = ("--cases", "--thresholds", 0.5, "--min-diameters", 0)
    network = ("-m", models / "plain", "--no-mirror", "--device", "cpu", "--threads", 1)
    return [
        Use("lnq-crop", "ct", lambda at, odd, out: ["--like", at("ct"), "-O", out], copied),
        Use(
            "lnq-crop --lungs hu",
            "ct",
            lambda at, odd, out: ["-O", out],
            copied,
            also=lambda odd: "^no lungs found",
        ),
        Use(
            "lnq-weaklabel",
            "mask",
            lambda at, odd, out: [*MASK, "-O", out],
            masked,
            aside="no node is drawn in it",
            spacing_alone=True,
        ),
        Use(
            "lnq-dicom export",
            "mask",
            lambda at, odd, out: ["--as", "seg.nrrd", "--drawn", "manual", "-O", out],
            exported,
            "{case}.seg.nrrd",
        ),
        Use("lnq-filter-diameter", "mask", lambda at, odd, out: [*ALL, "-O", out], all_kept),
        Use(
            "lnq-pseudolabel",
            "label",
            lambda at, odd, out: [*V2, "--anatomy", at("anatomy"), "-O", out],
            without_structures,
            aside=OF_FILLING,
        ),
        Use(
            "lnq-metrics",
            "mask",
            lambda at, odd, out: ["--reference", at("mask"), "-o", out / TABLE],
            scored,
            TABLE,
        ),
        Use(
            "lnq-threshold",
            "probability",
            lambda at, odd, out: [*by_cases, "--reference", at("mask"), "-o", out / TABLE],
            scored_above_half,
            TABLE,
        ),
        Use(
            "lnq-stats",
            "label",
            lambda at, odd, out: ["--table", "cases", "-o", out / TABLE],
            counted,
            TABLE,
            spacing_alone=True,
        ),
        Use(
            "lnq-report",
            "mask",
            lambda at, odd, out: [*PAGE, at("ct"), "--reference", at("mask"), "-O", out / "page"],
            shown,
            "page/index.html",
        ),
        Use(
            "lnq-infer",
            "ct",
            lambda at, odd, out: [*network, "--lungs", "none", "-O", out],
            a_mask,
            also=on_network,
            heavy=True,
        ),
        Use(
            "lnq-anatomy",
            "ct",
            lambda at, odd, out: ["--fast", "--device", "cpu", "--threads", 1, "-O", out],
            a_map,
            with_it="{case}.tsv",
            also=on_map,
            aside="found none of its structures",
            variables=weights,
            heavy=True,
        ),
        *(
            Use(
                f"lnq-train --{option}",
                kind,
                lambda at, odd, out: ["-m", out / "model", *SMALL],
                nothing,
                made="",
                also=untrainable if kind == "ct" else lambda odd: None,
                pair=pair,
                heavy=True,
            )
            for option, kind, pair in (("images", "ct", "label"), ("labels", "label", "ct"))
        ),
        Use(
            "lnq-crop --like",
            "ct",
            lambda at, odd, out: ["--like", odd, "-O", out],
            on_its_grid,
            beside="ct",
            header_alone=True,
        ),
        Use(
            "lnq-weaklabel --background",
            "mask",
            lambda at, odd, out: [*MASK, "--background", odd, "-O", out],
            known_background,
            beside="label",
        ),
        Use(
            "lnq-pseudolabel --vessels",
            "mask",
            lambda at, odd, out: [*V2, "--anatomy", at("anatomy"), "--vessels", odd, "-O", out],
            nothing,
            beside="label",
            also=lambda odd: "does not name its structures|names no structure of the task",
            aside=OF_FILLING,
        ),
        Use(
            "lnq-pseudolabel --ct",
            "ct",
            lambda at, odd, out: [*V2, "--anatomy", at("lobe"), *DENSE, "--ct", odd, "-O", out],
            aerated,
            beside="label",
            aside=OF_FILLING,
        ),
        Use(
            "lnq-infer --lungs",
            "mask",
            lambda at, odd, out: [*network, "--lungs", odd, "-O", out],
            a_mask_in_lungs,
            beside="ct",
            also=in_lungs,
            aside="the lungs",
            heavy=True,
        ),
        Use(
            "lnq-threshold --reference",
            "label",
            lambda at, odd, out: [*by_cases, "--reference", odd, "-o", out / TABLE],
            scored_where_known,
            TABLE,
            beside="probability",
            aside="which is taken for unknown",
        ),
        Use(
            "lnq-report --reference",
            "mask",
            lambda at, odd, out: [*PAGE, at("ct"), "--reference", odd, "-O", out / "page"],
            shown,
            "page/index.html",
            beside="mask",
        ),
        Use(
            "lnq-crop --lungs",
            "mask",
            lambda at, odd, out: ["--lungs", odd, "-O", out],
            cropped,
            beside="ct",
            also=no_lungs,
            aside="the lungs",
        ),
        Use(
            "lnq-pseudolabel --anatomy",
            "mask",
            lambda at, odd, out: [*V2, "--anatomy", odd, "-O", out],
            without_map,
            beside="label",
            also=no_class,
            aside=OF_FILLING,
        ),
        Use(
            "lnq-pseudolabel --teacher",
            "probability",
            lambda at, odd, out: ["--teacher", odd, "--fg", 0.8, "--bg", 0.2, "-O", out],
            taught,
            beside="label",
            aside=OF_FILLING,
        ),
        Use(
            "lnq-metrics --reference",
            "mask",
            lambda at, odd, out: ["--reference", odd, "-o", out / TABLE],
            scored,
            TABLE,
            beside="mask",
        ),
        Use(
            "lnq-report --ct",
            "ct",
            lambda at, odd, out: [*PAGE, odd, "--reference", at("mask"), "-O", out / "page"],
            a_page,
            "page/index.html",
            beside="mask",
        ),
        *(
            Use(
                f"lnq-plot preprocess, {kind} of a row",
                kind,
                row,
                a_picture,
                "picture.png",
                single=True,
                aside="no label holds a node",
            )
            for kind, row in (
                ("ct", lambda at, odd, out: [*picture(out), odd, at("label")]),
                ("label", lambda at, odd, out: [*picture(out), at("ct"), odd]),
            )
        ),
    ]


def picture(out: Path) -> list:
    """Return the arguments of lnq-plot up to the images of a row."""
    return ["preprocess", "--dpi", 50, "-o", out / "picture.png", "--row", ""]


MASK = ("--strategy", "mask")
SMALL = ("--recipe", "smoke", "--patch", 16, "--iterations", 2, "--epochs", 1, "--fold", 0)
SMALL += ("--threads", 1, "--device", "cpu")
ALL = ("--min", 0, "--metric", "recist", "--degenerate", "keep")
V2 = ("--classes", "v2")
HU_MAX = 0
DENSE = ("--lung-hu-max", HU_MAX)
MANY_VALUES = "--values picks$"
"""End of the warning of a mask of several values."""
OF_FILLING = "the anatomy covers|it has no unknown voxels"
PAGE = ("--resamples", 10, "--ct")


# Judging


@dataclass(frozen=True)
class Call:
    """One call of a tool: on odd images, by the paths that its messages should have."""

    use: Use
    odds: dict[str, Odd]
    ended: Ended
    folder: Path
    among: bool = False

    @property
    def label(self) -> str:
        """Whose complaint it is."""
        names = printable(" ".join(odd.file for odd in self.odds.values()))
        return f"{self.use.where} on {names if len(self.odds) == 1 else 'all at once'}"

    def complaints(self) -> Iterator[str]:
        """Yield what the tool did wrong, a sentence each."""
        use, ended = self.use, self.ended
        yield from general_complaints(use.tool, ended, self.folder, use.heavy)
        refusals = {path: use.promise(odd, self.among) for path, odd in self.odds.items()}
        if ended.status != int(any(refusals.values())):
            yield f"ended with status {ended.status}: {ended.err[-300:]!r}"
        lines = [line for line in ended.err.splitlines() if line.strip()]
        for path, odd in self.odds.items():
            start = f"{use.tool}: {printable(path)}: "
            own = [line.removeprefix(start) for line in lines if line.startswith(start)]
            lines = [line for line in lines if not line.startswith(start)]
            problems = [text for text in own if not text.startswith("warning: ")]
            yield from self._of_messages(odd, refusals[path], problems, own)
        if all(refusals.values()) and use.tool == "lnq-report":
            lines = [line for line in lines if line != f"{use.tool}: {NO_REPORT}"]
        if self.trains:  # it tells of all cases together
            lines = []
        if use.single:  # of one image, which need not be named
            lines = [line for line in lines if not re.search(use.aside, line)]
        yield from (f"says {line!r}" for line in lines)
        yield from self._of_outputs(refusals)

    def _of_messages(
        self, odd: Odd, refused: str | None, problems: list[str], own: list[str]
    ) -> Iterator[str]:
        name = printable(odd.file)
        warnings = [text for text in own if text not in problems]
        aside = f"{self.use.aside}|{MANY_VALUES}"
        warnings = [text for text in warnings if not re.search(aside, text)]
        missing = [note for note in odd.notes if not any(w.endswith(note) for w in warnings)]
        if len(warnings) != len(odd.notes) - len(missing):
            yield f"{name}: warnings {warnings}, not {odd.notes}"
        if refused is None:
            yield from (f"{name}: done, but {text!r}" for text in problems)
            yield from (f"{name}: no warning that {note}" for note in missing)
        elif len(problems) != 1:
            yield f"{name}: {len(problems)} lines of problems, {problems}, not {refused!r}"
        elif not refuses(refused, problems[0]):
            yield f"{name}: {problems[0]!r}, not {refused!r}"
        elif self.use.beside and not self.among and name not in problems[0]:
            yield f"{name}: not named in {problems[0]!r}"

    def _of_outputs(self, refusals: dict[str, str | None]) -> Iterator[str]:
        out = self.folder / "out"
        done = [odd for path, odd in self.odds.items() if refusals[path] is None]
        rows = {}
        if self.use.made == TABLE and (out / TABLE).exists():
            text = (out / TABLE).read_text(errors="surrogateescape")
            rows = {row["case"]: row for row in read_rows(text)}
            if len(rows) != len(done):
                yield f"a table of {len(rows)} cases, not {len(done)}"
        made = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        if "{case}" in self.use.made:
            wanted = [self.use.made.format(case=odd.case) for odd in done]
            both = {*wanted, *(self.use.with_it.format(case=odd.case) for odd in done)} - {""}
            if made != both:
                yield f"made {sorted(made ^ both)} too many or too few"
            if self.ended.out != b"".join(os.fsencode(out / name) + b"\0" for name in wanted):
                yield "told other outputs on standard output than it made"
        elif made - {TABLE} if not done else not self._fits(made):
            yield f"made {sorted(made)}"
        for odd in () if self.use.pair else done:
            try:
                self.use.check(
                    out / self.use.made.format(case=odd.case), rows.get(odd.case, {}), odd
                )
            except (AssertionError, OSError, KeyError, TypeError) as error:
                yield f"{printable(odd.file)}: {error!r}"

    def _fits(self, made: set[str]) -> bool:
        """Tell whether files are what a tool makes of all cases together, and nothing else."""
        if self.use.pair:  # of one image that is refused, no model comes
            return CHECKPOINT in made if self.trains else not made
        place = str(Path(self.use.made).parent)
        others = {name for name in made if not name.startswith(f"{place}/")} - {self.use.made}
        return self.use.made in made and not others

    @property
    def trains(self) -> bool:
        """Whether it is a training of which no image is refused."""
        return bool(self.use.pair) and not any(map(self.use.promise, self.odds.values()))


def read_rows(text: str) -> list[dict]:
    """Return the rows of a table; none if it has names alone."""
    return read_table(text) if text.count("\n") > 1 else []


def general_complaints(tool: str, ended: Ended, folder: Path, heavy: bool) -> Iterator[str]:
    """Yield what no tool may do on any input."""
    if ended.status < 0:
        yield f"died by signal {-ended.status}, perhaps after {SECONDS} s"
    for word in ("Traceback", "failed unexpectedly"):
        if word in ended.err:
            yield f"{word}: {ended.err[-400:]!r}"
    if ended.mib > (HEAVY_MIB if heavy else MIB):
        yield f"took {ended.mib:.0f} MiB"
    voices = (f"{tool}: ", f"{tool.split()[0]}: ")  # lnq-dicom's for what ends all at once
    if any(line and not line.startswith(voices) for line in ended.err.splitlines()):
        yield f"another voice on standard error: {ended.err[:300]!r}"
    left = [path for path in (folder / "tmp").rglob("*")]
    left += [path for path in (folder / "out").rglob(".*")]
    if left:
        yield f"left {sorted(map(str, left))}"


# Running


def alone(use: Use, corpus: Path, odd: Odd, folder: Path) -> Call:
    """Give a tool one odd image."""
    (folder / "out").mkdir(parents=True)
    at = lambda what: corpus / "beside" / what / f"{odd.case}.nii"  # noqa: E731
    place = corpus / use.kind
    source = (
        str(at(use.beside)) if use.beside else str(place / odd.file) if use.single else odd.file
    )
    arguments = use.arguments(at, place / odd.file, folder / "out")
    arguments += ["-0"] if "{case}" in use.made else []
    given = arguments if use.single else [*arguments, "--", source]
    ended = end_of(use.tool, given, place, folder, use.heavy, variables=use.variables)
    return Call(use, {source: odd}, ended, folder)


def given_to(use: Use) -> list[Odd]:
    """Return the odd images for a use; of a label, lnq-train names the image's odd name."""
    odds = [
        odd
        for odd in odd_images(use.kind)
        if use.pair != "ct" or (is_text(odd) and not is_long(odd))
    ]
    if use.header_alone:
        return [odd for odd in odds if not (use.promise(odd) or odd.notes)]
    return odds


def readable_at_once(use: Use) -> list[Odd]:
    """Return those that lnq-train can train on together, at the spacing of most of them."""
    spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)[::-1]
    return [
        odd
        for odd in given_to(use)
        if use.promise(odd) is None
        and on_grid(odd, np.array(odd.array.shape), tuple(spacing), "too small") is None
        and (use.kind != "label" or (odd.array != 2).any())  # or it is left out
        and not is_long(odd)
    ]


def at_once(use: Use, corpus: Path, odds: Iterable[Odd], folder: Path, *more: object) -> Call:
    """Give a tool many odd images in one call, good ones among them, and more arguments.

    An option gets the folder of the odd ones, and the inputs are the good ones beside them.
    """
    (folder / "out").mkdir(parents=True)
    every = [*odds]
    for number, name in enumerate(GOOD):
        every.insert(number * len(every) // 2, Odd(name, b"", array=KINDS[use.kind]))
    place = corpus / use.kind
    arguments = use.arguments(lambda what: corpus / "beside" / what, place, folder / "out")
    if use.pair:  # an image, then its label
        other = [corpus / "beside" / use.pair / f"{odd.case}.nii" for odd in every]
        own = [odd.file for odd in every]
        images, labels = (other, own) if use.pair == "ct" else (own, other)
        paths = [path for pair in zip(images, labels, strict=True) for path in pair]
    elif use.beside:
        own = paths = [str(corpus / "beside" / use.beside / f"{odd.case}.nii") for odd in every]
    else:
        own = paths = [odd.file for odd in every]
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    given = [*arguments, *more, "-0", "-T", "-"]
    ended = end_of(use.tool, given, place, folder, use.heavy, names, use.variables)
    return Call(use, dict(zip(own, every, strict=True)), ended, folder, among=True)


def with_two_jobs(use: Use, corpus: Path, odds: Iterable[Odd], folder: Path) -> Call:
    """Give a tool many odd images in one call, two at once."""
    return at_once(use, corpus, odds, folder, "-j", 2)


def over_existing(corpus: Path, folder: Path) -> Row:
    """Let a tool keep outputs that hold odd records of their making, and make the one missing."""
    odds, out = records(KINDS["mask"]), folder / "out"
    out.mkdir(parents=True)
    before = {odd.write(out): odd.content for odd in odds}
    names = [odd.file for odd in odds] + [f"{GOOD[0]}.nii.gz"]
    given = [*MASK, "-s", "-O", out, "--", *names]
    ended = end_of("lnq-weaklabel", given, corpus / "mask", folder, False)
    wrong = [*general_complaints("lnq-weaklabel", ended, folder, False)]
    if ended.status != 1:
        wrong.append(f"ended with status {ended.status}")
    of_file = {name: [] for name in names}
    for line in ended.err.splitlines():
        of_file.get(line.split(": ")[1], []).append(line)
    for odd in odds:
        said = of_file[odd.file]
        if len(said) != 1 or not refuses("exists and (was made|does not say how)", said[0]):
            wrong.append(f"{odd.file}: {said}, not that it was made otherwise")
    wrong += [f"{path.name}: changed" for path, old in before.items() if path.read_bytes() != old]
    if ended.out.decode().split() != [str(out / names[-1])] or of_file[names[-1]]:
        wrong.append(f"{names[-1]}: not made")
    outcome = f"each of {len(odds)} refused in one line and left as it was; the other made"
    what = "outputs are there, with odd records of their making: run with -s"
    return Row(what, "lnq-weaklabel", len(odds), outcome, tuple(wrong))


def rows_of_calls(what: str, calls: Sequence[Call]) -> Iterator[Row]:
    """Yield a row a use: how many images, how many of them read, the most time and memory."""
    for use in dict.fromkeys(call.use for call in calls):
        of_use = [call for call in calls if call.use is use]
        odds = [odd for call in of_use for odd in call.odds.values()]
        among = of_use[0].among
        refused = sum(use.promise(odd, among) is not None for odd in odds)
        wrong = [f"{call.label}: {text}" for call in of_use for text in call.complaints()]
        wrong += other_pictures(of_use)
        read = "read, with the right result"
        if use.pair:
            read = "trained on" if of_use[0].trains else "read, and no training begun"
        most = max(call.ended.mib for call in of_use), max(call.ended.seconds for call in of_use)
        yield Row(
            what,
            use.where,
            len(odds),
            f"{len(odds) - refused} {read}; {refused} refused in one line each; at most "
            f"{most[0]:.0f} MiB and {most[1]:.1f} s of CPU time",
            tuple(wrong),
        )


def other_pictures(calls: Iterable[Call]) -> Iterator[str]:
    """Yield calls on one image each that drew the same voxels at the same place otherwise."""
    first = None
    for call in calls:
        (odd, *others) = call.odds.values()
        if others or call.use.promise(odd) or not is_plain(call.use.kind, odd):
            continue
        paths = sorted(p for p in (call.folder / "out").rglob("*") if p.suffix in (".png", ".jpg"))
        drawn = [path.read_bytes() for path in paths]
        first = drawn if first is None else first
        if drawn != first:
            yield f"{call.label}: other pictures than of the same voxels elsewhere"


# Tables and models


@dataclass(frozen=True)
class Told:
    """One call of a tool on one odd text or model, and what was promised of it."""

    where: str
    name: str
    path: Path
    refused: str | None
    ended: Ended
    folder: Path
    wrong: Callable[[], str | None]
    heavy: bool = False
    status: int = 1

    def complaints(self) -> Iterator[str]:
        """Yield what the tool did wrong, a sentence each."""
        tool = voice_of(self.where)
        yield from general_complaints(tool, self.ended, self.folder, self.heavy)
        lines = [line for line in self.ended.err.splitlines() if UNDEFINED not in line]
        if self.refused is None:
            if self.ended.status or lines:
                yield f"ended with status {self.ended.status}: {lines}"
            elif wrong := self.wrong():
                yield wrong
            return
        if self.ended.status != self.status or len(lines) != 1:
            yield f"ended with status {self.ended.status} and {len(lines)} lines: {lines}"
        elif str(self.path) not in lines[0]:
            yield f"not named in {lines[0]!r}"
        elif not refuses(self.refused, lines[0].replace(str(self.path), "")):
            yield f"{lines[0]!r}, not {self.refused!r}"
        if any(path.is_file() for path in (self.folder / "out").rglob("*")):
            yield "left a part of an output"


OF_METRICS = {
    "lnq-compare": (["--format", "jsonl", "--metric", "dice", "-o"], "t.jsonl", "m="),
    "lnq-plot scores": (["scores", "--dpi", 50, "-o"], "p.png", "m="),
    "lnq-plot agreement": (["agreement", "--dpi", 50, "-o"], "p.png", "m="),
    "lnq-plot training": (["training", "-o"], "p.png", ""),
    "lnq-plot diameters": (["diameters", "-o"], "p.png", "m="),
    "lnq-plot overlap": (["overlap", "-o"], "p.png", "m="),
}
"""Tool → its arguments, the output, and what stands before a table of metrics."""


def told_of_table(where: str, odd: OddTable, corpus: Path, folder: Path) -> Told:
    """Give a tool an odd table of metrics."""
    (folder / "out").mkdir(parents=True)
    arguments, made, before = OF_METRICS[where]
    path = corpus / "tables" / "metrics" / odd.name
    given = [*arguments, folder / "out" / made, f"{before}{path}"]
    ended = end_of(where.split()[0], given, corpus, folder, False)

    def wrong() -> str | None:
        undefined = bool(np.isnan(odd.dice).any())
        if not where.endswith("agreement") and (UNDEFINED in ended.err) != undefined:
            return f"warned otherwise of undefined values: {ended.err!r}"
        content = (folder / "out" / made).read_bytes()
        if made.endswith(".png"):
            return None if content.startswith(b"\x89PNG") else "drew no picture"
        row = json.loads(content.splitlines()[0])
        values = np.array(odd.dice)
        mean = np.nanmean(values)
        right = row["n"] == np.isfinite(values).sum() and abs(row["mean"] - mean) <= 1e-9 * mean
        return None if right else f"mean {row['mean']} of {row['n']}, not {mean}"

    refused = odd.error
    if where.endswith("agreement") and odd.name in OF_DICE_ALONE:
        refused = OF_DICE_ALONE[odd.name]
    if where in OF_OTHER_TABLES and (odd.error is None or odd.error.startswith(OF_ROWS)):
        refused = "lacks the column"
    return Told(where, odd.name, path, refused, ended, folder, wrong)


UNDEFINED = "cases of m is undefined and left out"
OF_OTHER_TABLES = ("lnq-plot training", "lnq-plot diameters", "lnq-plot overlap")
"""What wants tables of other columns."""
OF_ROWS = ("no column named", "one row of case", "without a case name", "not a number")
"""What is refused for its cells, and can be read as a table."""


OF_DICE_ALONE: dict[str, str | None] = {
    **dict.fromkeys(("word.tsv", "comma.tsv", "hexadecimal.tsv", "no dice.tsv")),
    **dict.fromkeys(("word.jsonl", "nested.jsonl", "large whole.jsonl")),
}
"""What becomes of these tables where the column dice is not asked for."""


def told_of_text(kind: str, odd: OddTable, corpus: Path, folder: Path) -> Told:
    """Give lnq-train an odd recipe or splits; both are looked at before any image."""
    (folder / "out").mkdir(parents=True)
    path = corpus / "tables" / kind / odd.name
    given = ["--recipe", path, "--show-recipe"] if kind == "recipe" else ["--splits", path]
    # The images are good ones, so that nothing else can be refused.
    images = ["--images", corpus / "beside" / "ct", "--labels", corpus / "beside" / "label"]
    given = given if kind == "recipe" else [*given, *images, "-m", folder / "out" / "model"]
    ended = end_of("lnq-train", given, corpus, folder, True)

    def wrong() -> str | None:
        shown = parse_recipe(path.stem, ended.out.decode())
        return None if shown == find_recipe(str(path)) else f"shows another recipe: {shown}"

    where = f"lnq-train --{kind}"
    return Told(where, odd.name, path, odd.error, ended, folder, wrong, heavy=True, status=2)


IN_MORE_LINES = (
    *("MR", "localizer", "two CTs", "two patients", "cut off in its header", "not DICOM"),
)
"""Odd series of which something else can be made or told; tests/cli/test_dicom.py has these."""


def told_of_series(name: str, folder: Path) -> Told:
    """Give lnq-dicom a series that cannot be an image."""
    make, refused = ODD[name]
    (folder / "out").mkdir(parents=True)
    make(folder / "series")
    given = [folder / "series", "-o", folder / "out" / "ct.nii.gz"]
    where = "lnq-dicom images"
    ended = end_of(where, given, folder, folder, False)
    return Told(where, name, folder / "series", refused, ended, folder, lambda: None)


def told_of_model(odd: OddModel, corpus: Path, folder: Path) -> Told:
    """Give lnq-infer an odd model."""
    (folder / "out").mkdir(parents=True)
    path = corpus / "models" / odd.name
    image = corpus / "ct" / "good-1.nii.gz"
    options = ["--lungs", "none", "--no-mirror", "--device", "cpu", "--threads", 1]
    given = ["-m", path, *options, "-O", folder / "out", image]
    ended = end_of("lnq-infer", given, corpus, folder, True)

    def wrong() -> str | None:
        try:
            a_mask(folder / "out" / "good-1.nii.gz", {}, Odd("good-1", b""))
        except (AssertionError, OSError) as error:
            return repr(error)
        return None

    named = image if odd.error == NO_MEMORY else path  # a smaller image might do
    return Told("lnq-infer -m", odd.name, named, odd.error, ended, folder, wrong, heavy=True)


def told(what: str, calls: Sequence[Told]) -> Iterator[Row]:
    """Yield a row a tool."""
    for where in dict.fromkeys(call.where for call in calls):
        of_tool = [call for call in calls if call.where == where]
        refused = sum(call.refused is not None for call in of_tool)
        most = max(call.ended.mib for call in of_tool), max(c.ended.seconds for c in of_tool)
        yield Row(
            what,
            where,
            len(of_tool),
            f"{len(of_tool) - refused} read, with the right result; {refused} refused in one line "
            f"each; at most {most[0]:.0f} MiB and {most[1]:.1f} s of CPU time",
            tuple(f"{where} on {c.name}: {text}" for c in of_tool for text in c.complaints()),
        )


# Running


def write_corpus(folder: Path) -> Path:
    """Write the corpus by its own command: torch, which makes the models, stays out of here."""
    command = [sys.executable, "-m", "tests.corpus", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def write_weights(folder: Path) -> None:
    """Write a stand-in of TotalSegmentator's fast model, out of this process, too."""
    code = "import sys; from tests.totalseg_data import write_surrogate_weights as write; "
    code += "from pathlib import Path; write(Path(sys.argv[1]), [297])"
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def torture(folder: Path, scale: float, tools: Collection[str] = TOOLS) -> Iterator[Row]:
    """Put every tool through the corpus."""
    corpus = write_corpus(folder / "corpus")
    write_weights(corpus / "weights")

    def of(where: str) -> bool:
        return where.split()[0] in tools

    every = [use for use in uses(corpus / "models") if of(use.where)]
    jobs = []
    for use in every:
        share = scale * (1 / 20 if use.heavy else 1 / 4 if use.beside else 1)
        for number, odd in enumerate(() if use.pair else given_to(use)):
            if int((number + 1) * share) > int(number * share) or share >= 1:
                jobs.append((alone, use, corpus, odd))
    singles = list(carried_out(jobs, folder / "alone"))
    yield from rows_of_calls("one odd image alone", singles)
    several = [use for use in every if not use.single]
    what = "all odd images and three good ones in one call"
    jobs = [(at_once, use, corpus, given_to(use)) for use in several]
    yield from rows_of_calls(what, list(carried_out(jobs, folder / "at once")))
    jobs = [(with_two_jobs, use, corpus, given_to(use)) for use in several if not use.heavy]
    yield from rows_of_calls(f"{what}, -j 2", list(carried_out(jobs, folder / "two jobs")))
    jobs = [(at_once, use, corpus, readable_at_once(use)) for use in several if use.pair]
    what = "all odd images that can be read, and three good ones, in one call"
    yield from rows_of_calls(what, list(carried_out(jobs, folder / "trained")))
    if of("lnq-weaklabel"):
        yield over_existing(corpus, folder / "existing")
    tables = [tool for tool in OF_METRICS if of(tool)]
    kinds = {"recipe": recipes(), "splits": splits()} if of("lnq-train") else {}
    texts = [
        *((told_of_table, tool, odd, corpus) for tool in tables for odd in metrics_tables()),
        *((told_of_text, kind, odd, corpus) for kind, odds in kinds.items() for odd in odds),
    ]
    yield from told("one odd text alone", list(carried_out(texts, folder / "texts")))
    series = [(told_of_series, name) for name in ODD if name not in IN_MORE_LINES]
    if of("lnq-dicom"):
        yield from told("one odd DICOM series alone", list(carried_out(series, folder / "series")))
    models = [(told_of_model, odd, corpus) for odd in MODELS if of("lnq-infer")]
    rows = list(told("one odd model alone", list(carried_out(models, folder / "models"))))
    if (corpus / "models" / TRAP).exists():
        rows[0] = replace(rows[0], wrong=(*rows[0].wrong, "ran code from a model"))
    yield from rows


def carried_out(jobs: Sequence[tuple], folder: Path) -> Iterator:
    """Yield what comes of jobs, each in a folder of its own, several at once, in their order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [
            pool.submit(job[0], *job[1:], folder / str(number)) for number, job in enumerate(jobs)
        ]
        yield from (future.result() for future in futures)
