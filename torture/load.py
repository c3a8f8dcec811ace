"""A thousand small cases, one in twenty of them bad, through the whole chain.

The bad ones are bad anew at each step: what the step before left out comes back cut off, with
NaN, as text, or beside a companion that is missing or lies elsewhere. So each tool has a thousand
cases, and must name exactly its own bad ones and why, do all others, and do them right: what they
make is computed here again, with nibabel, numpy and scipy. Only the lungs' boxes are lnqtools' own
(tests/anatomy/test_lungs.py holds these), and what networks say is asked again in another order, no
more.
"""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from tests.conftest import load, matrix_of, succeed
from torture.rows import Row
from torture.watch import Watched, watch

CASES, PHANTOMS, BAD_EVERY = 1000, 20, 20
ANATOMIES = 41
"""Cases of lnq-anatomy, which takes a second or two for each: three of them are bad."""
SPACING_MM = 8
LEAST_MM = 12.0
MORE_MB, MORE_SHARE, MORE_FILES = 20.0, 0.05, 10
"""By how much a process may grow from the first half of a run to its second: MB, or a share of what
it has. A file a case left open would be hundreds."""
PAGE_MB, ROW_MB = 100.0, 0.05
"""What a page may take of memory at its end, for its statistics, and for each case: it is written
in one piece."""
TORCH_MB = 100.0
"""What torch takes when lnq-train is past the reading of its cases: 83 MB for 95 cases; of 950 it
takes it in the first half. To keep the prepared images of 950 cases would be 120 MB more."""
LIBRARIES_MB = 100.0
"""What tools take with their libraries, which they load until the middle of a short run: up to
85 MB. To keep 100 kB for each row of two tables of 950 cases would be 190 MB more."""
TINY = (
    *(
        "--recipe",
        "smoke",
        "--spacing",
        SPACING_MM,
        "--patch",
        "48,32,48",
        "--set",
        "features=8,16",
    ),
    *(
        "--epochs",
        2,
        "--iterations",
        25,
        "--batch",
        2,
        "--lr",
        0.01,
        "--fold",
        "all",
        "--threads",
        1,
    ),
)
SURE = 0.05
SEEING = ("--no-mirror", "--threads", 1, "--threshold", SURE)
"""So little trained, the model is sure of nothing."""
ALONE = ("truncated", "text", "nan")
"""Kinds of bad images."""
BESIDE = ("missing", "elsewhere")
"""Kinds of bad companions."""
SAYS = {
    "truncated": "ends early: the file is truncated",
    "text": "is not a NIfTI image",
    "nan": "1 voxels are NaN or infinite",
    "missing": "has no companion named ",
    "elsewhere": "on (another lattice|the grid of)|does not cover the image",
}
"""What a tool must say of each kind."""
SAYS_OF_TABLES = {
    "cut": r"line \d+ has \d+ cells instead of",
    "other": "names of columns but no row",
}
UNEXPECTED = re.compile("failed unexpectedly|Traceback")


@dataclass(frozen=True)
class Cohort:
    """Folders of images, and which of the cases are bad."""

    folder: Path
    names: list[str]

    @property
    def bad(self) -> list[str]:
        return self.names[::BAD_EVERY]

    @property
    def good(self) -> list[str]:
        return [name for name in self.names if name not in set(self.bad)]

    def paths(self, kind: str, names: Sequence[str] | None = None) -> list[Path]:
        return [self.folder / kind / name for name in names or self.names]

    def load(self, kind: str, name: str) -> np.ndarray:
        return load(self.folder / kind / name)


def make_cohort(folder: Path, count: int) -> Cohort:
    """Write ct, weak, truth and anatomy of many cases, no two alike, from a few phantoms."""
    made = folder / "phantoms"
    succeed("lnq-phantom", "-n", PHANTOMS, "--profile", "easy", "-j", 2, "-O", made)
    small = folder / "small"
    for kind in ("ct", "weak", "truth", "anatomy"):
        options = () if kind == "ct" else ("--label",)
        files = sorted((made / kind).iterdir())
        coarse = ("--lungs", "none", "--spacing", SPACING_MM, "-q", "-O", small / kind)
        succeed("lnq-crop", *files, *options, *coarse)
        (folder / kind).mkdir()
    sources = sorted(path.name for path in (small / "ct").iterdir())
    names = [f"case {number:04}.nii.gz" for number in range(count)]
    for number, name in enumerate(names):
        write_case(small, sources[number % PHANTOMS], folder, name, np.random.default_rng(number))
    return Cohort(folder, names)


def write_case(small: Path, source: str, folder: Path, name: str, rng: np.random.Generator) -> None:
    """Write a phantom's images with other noise, and a node more in some place."""
    arrays = {kind: load(small / kind / source) for kind in ("ct", "weak", "truth", "anatomy")}
    tissue = arrays["ct"] > -300
    arrays["ct"][tissue] += rng.integers(-9, 10, int(tissue.sum())).astype(np.int16)
    middle = tuple(int(rng.integers(2 * n // 5, 3 * n // 5)) for n in tissue.shape)
    place = tuple(slice(at, at + 3) for at in middle)
    for kind in ("weak", "truth"):
        arrays[kind][place] = 1
    for kind, array in arrays.items():
        write(folder / kind / name, array, matrix_of(small / kind / source))


def write(path: Path, array: np.ndarray, matrix: np.ndarray) -> None:
    """Write an image with nibabel, compressed a little."""
    image = nib.Nifti1Image(array.transpose(2, 1, 0), matrix)
    path.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))


def spoil(cohort: Cohort, inputs: str, companions: str | None) -> dict[str, str]:
    """Make the bad cases of a step; return what is wrong with each.

    A bad case takes the place of what another, good one has there.
    """
    kinds = (*ALONE, *(BESIDE if companions else ()))
    wrong = {}
    for number, name in enumerate(cohort.bad):
        kind = wrong[name] = kinds[number % len(kinds)]
        whole = cohort.folder / inputs / cohort.good[number]
        target = cohort.folder / inputs / name
        if kind == "truncated":
            target.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        elif kind == "text":
            target.write_text("404: not found\n")
        elif kind == "nan":
            holed = load(whole).astype(np.float32)
            holed[tuple(n // 2 for n in holed.shape)] = np.nan
            write(target, holed, matrix_of(whole))
        else:
            shutil.copy(whole, target)
        if companions:
            spoil_companion(cohort, companions, kind, name, cohort.good[number])
    return wrong


def spoil_companion(cohort: Cohort, companions: str, kind: str, name: str, whole: str) -> None:
    """Write the companion of a bad case, a good one unless it is what is bad."""
    place = cohort.folder / companions
    if kind == "missing":
        (place / name).unlink(missing_ok=True)
    elif kind == "elsewhere":
        matrix = matrix_of(place / whole).copy()
        matrix[:3, 3] += 1.4 * SPACING_MM
        write(place / name, load(place / whole), matrix)
    else:
        shutil.copy(place / whole, place / name)


@dataclass(frozen=True)
class Step:
    """A tool, the folder of its inputs, its options, and what an image must be."""

    tool: str
    inputs: str
    output: str
    options: tuple[str | Path | int | float, ...]
    right: Callable[[Cohort, str], bool]
    companions: str | None = None
    jobs: int | None = 2
    shown: str = "right"


def steps(cohort: Cohort) -> list[Step]:
    """Return the steps that make images, in their order."""
    at = cohort.folder
    return [
        Step("lnq-crop", "ct", "cropped", (), crop_is_right),
        Step("lnq-weaklabel", "weak", "masked", ("--strategy", "mask"), mask_is_right),
        Step(
            "lnq-crop",
            "masked",
            "masked-cropped",
            ("--label", "--like", at / "cropped"),
            partial(same_place, "masked"),
        ),
        Step(
            "lnq-pseudolabel",
            "masked-cropped",
            "labels",
            ("--anatomy", at / "anatomy", "--classes", "v2"),
            filling_is_right,
            companions="anatomy",
        ),
        Step(
            "lnq-infer",
            "ct",
            "predicted",
            ("-m", at / "model", *SEEING, "--probabilities", at / "probabilities"),
            prediction_is_right,
            jobs=None,
            shown="in their place, each the threshold of its probabilities",
        ),
        Step(
            "lnq-filter-diameter",
            "predicted",
            "final",
            ("--min", LEAST_MM, "--metric", "sphere"),
            filter_is_right,
        ),
    ]


# What an image must be


def box_in(whole: Path, part: Path) -> tuple[slice, ...]:
    """Return where an image lies in one that it was cut out of."""
    offset = (np.linalg.inv(matrix_of(whole)) @ matrix_of(part))[:3, 3][::-1]
    first = np.rint(offset).astype(int)
    assert np.abs(offset - first).max() < 1e-3
    return tuple(slice(a, a + n) for a, n in zip(first, load(part).shape, strict=True))


def same_place(source: str, cohort: Cohort, name: str, made: str = "masked-cropped") -> bool:
    """Tell whether an image holds what its source holds in the lungs' box of its own CT."""
    from lnqtools.anatomy.lungs import find_lungs
    from lnqtools.images.volume import read_volume

    box = box_in(cohort.folder / source / name, cohort.folder / made / name)
    lungs = find_lungs(read_volume(cohort.folder / "ct" / name), None).box
    return box == lungs and np.array_equal(
        cohort.load(made, name), cohort.load(source, name)[lungs]
    )


def crop_is_right(cohort: Cohort, name: str) -> bool:
    return same_place("ct", cohort, name, "cropped")


def mask_is_right(cohort: Cohort, name: str) -> bool:
    expected = np.where(cohort.load("weak", name) != 0, 1, 2)
    return np.array_equal(cohort.load("masked", name), expected)


def filling_is_right(cohort: Cohort, name: str) -> bool:
    label = cohort.load("masked-cropped", name)
    box = box_in(cohort.folder / "anatomy" / name, cohort.folder / "masked-cropped" / name)
    known = (cohort.load("anatomy", name)[box] != 0) & (label == 2)
    return known.any() and np.array_equal(cohort.load("labels", name), np.where(known, 0, label))


def prediction_is_right(cohort: Cohort, name: str) -> bool:
    """Tell whether a mask lies in the lungs' box, where the probabilities are above the threshold.

    What the model says of some is asked again (`predicted_again`).
    """
    made = cohort.folder / "predicted" / name
    box = box_in(cohort.folder / "ct" / name, cohort.folder / "cropped" / name)
    mask = load(made)
    outside = mask.copy()
    outside[box] = 0
    placed = np.array_equal(matrix_of(made), matrix_of(cohort.folder / "ct" / name))
    sure = cohort.load("probabilities", name) > np.float32(SURE)
    return placed and not outside.any() and np.array_equal(mask, sure)


def filter_is_right(cohort: Cohort, name: str) -> bool:
    mask = cohort.load("predicted", name)
    found, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask != 0, found, range(count + 1)) * SPACING_MM**3
    kept = 2 * np.cbrt(sizes * 3 / (4 * np.pi)) >= LEAST_MM
    kept[0] = False
    return np.array_equal(cohort.load("final", name), mask * kept[found])


# What is wrong with a run


def complaints(lines: Sequence[str], tool: str, bad: Mapping[str, str]) -> list[str]:
    """Say what is wrong with a tool's errors: each must name a bad path, and what is wrong with it.

    ``bad`` is path → kind. Warnings are not errors; what is unexpected is always wrong.
    """
    wrong = [line for line in lines if UNEXPECTED.search(line)]
    named = []
    for line in lines:
        if ": warning: " in line:
            continue
        found = re.match(rf"{tool}: (.*?\.nii\.gz): (.*)", line)
        path, said = found.groups() if found else (line, "")
        named.append(path)
        if path in bad and not re.search(SAYS[bad[path]], said):
            wrong.append(f"{bad[path]}, but it says: {line}")
    if sorted(named) != sorted(bad):
        odd = sorted({*named} ^ {*bad})[:3]
        wrong.append(f"{len(named)} problems for {len(bad)} bad cases, as {odd}")
    return wrong


def grown(ran: Watched, more_mb: float = MORE_MB) -> list[str]:
    """Say whether a process took more memory or files in the second half of a run."""
    (mb, files), (last_mb, last_files) = ran.most(0.1, 0.5), ran.most(0.5, 1)
    sentences = []
    if last_mb > mb + max(more_mb, MORE_SHARE * mb):
        sentences.append(f"a process grew from {mb:.0f} to {last_mb:.0f} MB")
    if last_files > files + MORE_FILES:
        sentences.append(f"open files grew from {files} to {last_files}")
    return sentences


def took(ran: Watched) -> str:
    (mb, files), (last_mb, last_files) = ran.most(0.1, 0.5), ran.most(0.5, 1)
    return (
        f"{ran.seconds:.0f} s; the largest process has {mb:.0f} MB in the first half, "
        f"{last_mb:.0f} in the second; at most {files} and {last_files} open files; nothing left"
    )


def hidden(folder: Path) -> list[str]:
    """Return what a tool left that it should have removed."""
    return [f"{path} is left" for path in folder.rglob(".*")]


def judged(
    cohort: Cohort, ran: Watched, tool: str, inputs: str, spoiled: Mapping[str, str]
) -> list[str]:
    """Say what is wrong with how a tool ended and what it said and left."""
    wrong = list(ran.left) + hidden(cohort.folder)
    if ran.status != 1:
        wrong.append(f"exit status {ran.status}, not 1")
    bad = {str(cohort.folder / inputs / name): kind for name, kind in spoiled.items()}
    return wrong + complaints(ran.err, tool, bad)


def row_of(what: str, where: str, tried: int, outcome: str, wrong: Sequence[str]) -> Row:
    return Row(what, where, tried, outcome, tuple(f"{where}: {sentence}" for sentence in wrong))


def run_step(cohort: Cohort, step: Step, variables: dict[str, str] | None = None) -> Row:
    """Spoil a step's bad cases, run it on all, and judge."""
    spoiled = spoil(cohort, step.inputs, step.companions)
    sources, target = cohort.paths(step.inputs), cohort.folder / step.output
    jobs = () if step.jobs is None else ("-j", step.jobs)
    arguments = ("-0", "-T", "-", *step.options, *jobs, "-O", target)
    ran = watch(step.tool, *arguments, stdin=sources, variables=variables)
    wrong = judged(cohort, ran, step.tool, step.inputs, spoiled) + grown(ran)
    if ran.out != list(map(str, cohort.paths(step.output, cohort.good))):
        wrong.append(f"{len(ran.out)} paths printed, or not in input order")
    if {path.name for path in target.glob("*.nii.gz")} != set(cohort.good):
        wrong.append("other files than the good cases'")
    false = [
        name for name in cohort.good if not (target / name).exists() or not step.right(cohort, name)
    ]
    wrong += [f"{name} is not right" for name in false]
    where = " ".join([step.tool, *map(str, jobs)])
    outcome = did(cohort, false, ran, step.shown)
    return row_of(what(cohort, spoiled), where, len(cohort.names), outcome, wrong)


def what(cohort: Cohort, spoiled: dict[str, str]) -> str:
    kinds = {"nan": "NaN in it", "missing": "no companion", "elsewhere": "companion elsewhere"}
    said = ", ".join(dict.fromkeys(kinds.get(kind, kind) for kind in spoiled.values()))
    return f"{len(cohort.names):,} cases, {len(cohort.bad)} bad: {said}"


def did(cohort: Cohort, false: Sequence[str], ran: Watched, shown: str = "right") -> str:
    right = len(cohort.good) - len(false)
    named = f"exactly the {len(cohort.bad)} named, each for what is wrong with it, status 1"
    return f"{named}; {right} done and {shown}; {took(ran)}"


# Steps that make other things


def train(cohort: Cohort) -> Iterator[Row]:
    """Train on all cases, which is refused, then on the good ones.

    What has no label is told before any image is read, the rest when it is out of the way.
    """
    spoiled = spoil(cohort, "cropped", "labels")
    at = cohort.folder
    data = ("--images", at / "cropped", "--labels", at / "labels")
    wrong, seconds = [], 0.0
    missing = {name for name, kind in spoiled.items() if kind == "missing"}

    def to_name(bad: set[str]) -> dict[str, str]:
        """Return the paths that errors are about: a label that lies elsewhere is itself bad."""
        kinds = {name: spoiled[name] for name in bad}
        folders = {"elsewhere": at / "labels"}
        return {str(folders.get(k, at / "cropped") / name): k for name, k in kinds.items()}

    for bad in (missing, set(cohort.bad) - missing):
        ran = watch("lnq-train", *data, *TINY, "-m", at / "model")
        seconds += ran.seconds
        wrong += [*ran.left, *hidden(at), *complaints(ran.err, "lnq-train", to_name(bad))]
        if ran.status != 1 or (at / "model").exists():
            wrong.append(f"status {ran.status}, or a model")
        for name in bad:
            for folder in ("cropped", "labels"):
                (at / folder / name).unlink(missing_ok=True)
    outcome = (
        f"exactly the {len(cohort.bad)} named, each for what is wrong with it, first the "
        f"{len(missing)} without label, then the others; status 1, no model; {seconds:.0f} s"
    )
    yield row_of(what(cohort, spoiled), "lnq-train", len(cohort.names), outcome, wrong)

    ran = watch("lnq-train", *data, *TINY, "-m", at / "model")
    wrong = [*ran.left, *hidden(at), *grown(ran, TORCH_MB)]
    wrong += [] if ran.status == 0 else [f"status {ran.status}: {ran.err[-1:]}"]
    count = len(cohort.good)
    yield row_of(f"the {count} good cases", "lnq-train, tiny", count, took(ran), wrong)


def predicted_again(cohort: Cohort) -> Row:
    """Predict some of the cases alone, in another order: the bytes must be the same."""
    some = cohort.good[:: max(1, len(cohort.good) // 20)][::-1]
    other = cohort.folder / "again"
    options = ("-m", cohort.folder / "model", *SEEING, "-O", other)
    ran = watch("lnq-infer", "-0", "-T", "-", *options, stdin=cohort.paths("ct", some))
    wrong = list(ran.left)
    if ran.status != 0:
        wrong.append(f"status {ran.status}: {ran.err[:3]}")
    for name in some:
        first, second = (cohort.folder / kind / name for kind in ("predicted", "again"))
        if second.exists() and first.read_bytes() != second.read_bytes():
            count = np.count_nonzero(load(first) != load(second))
            wrong.append(f"{name} is another file when it is predicted alone: {count} voxels")
    nodes = sum(bool(cohort.load("predicted", name).any()) for name in cohort.good)
    if nodes < len(cohort.good) / 2:
        wrong.append(f"only {nodes} masks have nodes: that shows little")
    said = f"byte-identical; of all masks {nodes} have nodes"
    return row_of("some of them again, in another order", "lnq-infer", len(some), said, wrong)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    both = np.count_nonzero((first != 0) & (second != 0))
    return 2 * both / (np.count_nonzero(first) + np.count_nonzero(second))


def measure(cohort: Cohort) -> Row:
    """Measure the predictions; each Dice is computed again."""
    at = cohort.folder
    spoiled = spoil(cohort, "final", "truth")
    options = ("--reference", at / "truth", "-j", 2, "-o", at / "metrics.tsv")
    ran = watch("lnq-metrics", "-0", "-T", "-", *options, stdin=cohort.paths("final"))
    wrong = judged(cohort, ran, "lnq-metrics", "final", spoiled) + grown(ran)
    rows = {f"{row['case']}.nii.gz": row for row in table_of(at / "metrics.tsv")}
    if list(rows) != cohort.good:
        wrong.append("other rows than the good cases', or in another order")
    masks = ("final", "truth")
    false = [
        name
        for name, row in rows.items()
        if abs(float(row["dice"]) - dice(*(cohort.load(kind, name) for kind in masks))) > 1e-9
    ]
    wrong += [f"the Dice of {name} is not right" for name in false]
    where = "lnq-metrics -j 2"
    return row_of(what(cohort, spoiled), where, len(cohort.names), did(cohort, false, ran), wrong)


def count_nodes(cohort: Cohort) -> Row:
    """Describe the truth; each number of nodes is counted again."""
    at = cohort.folder
    spoiled = spoil(cohort, "truth", None)
    options = ("--name", "all", "--table", "cases", "-j", 2, "-o", at / "nodes.tsv")
    ran = watch("lnq-stats", "-0", "-T", "-", *options, stdin=cohort.paths("truth"))
    wrong = judged(cohort, ran, "lnq-stats", "truth", spoiled) + grown(ran)
    rows = {f"{row['case']}.nii.gz": row for row in table_of(at / "nodes.tsv")}
    if list(rows) != cohort.good:
        wrong.append("other rows than the good cases', or in another order")
    false = [
        name
        for name, row in rows.items()
        if int(row["components"]) != ndimage.label(cohort.load("truth", name))[1]
    ]
    wrong += [f"the nodes of {name} are not right" for name in false]
    where = "lnq-stats -j 2"
    return row_of(what(cohort, spoiled), where, len(cohort.names), did(cohort, false, ran), wrong)


def sweep(cohort: Cohort) -> Row:
    """Sweep the threshold over the probabilities; each Dice of all components is computed again."""
    at = cohort.folder
    spoiled = spoil(cohort, "probabilities", "truth")
    options = ("--reference", at / "truth", "--thresholds", f"{SURE},0.5", "--cases", "-j", 2)
    table = at / "thresholds.tsv"
    sources = cohort.paths("probabilities")
    ran = watch("lnq-threshold", "-0", "-T", "-", *options, "-o", table, stdin=sources)
    wrong = judged(cohort, ran, "lnq-threshold", "probabilities", spoiled) + grown(ran)
    rows = [row for row in table_of(table) if float(row["min_diameter_mm"]) == 0]
    points = [(f"{row['case']}.nii.gz", float(row["threshold"])) for row in rows]
    if sorted(points) != sorted((name, p) for name in cohort.good for p in (SURE, 0.5)):
        wrong.append("other rows than two for each of the good cases")
    false = []
    for (name, threshold), row in zip(points, rows, strict=True):
        mask = cohort.load("probabilities", name) > np.float32(threshold)
        if abs(float(row["dice"]) - dice(mask, cohort.load("truth", name))) > 1e-9:
            false.append(name)
    wrong += [f"the Dice of {name} is not right" for name in false]
    where = "lnq-threshold -j 2"
    return row_of(what(cohort, spoiled), where, len(cohort.names), did(cohort, false, ran), wrong)


def find_anatomy(cohort: Cohort) -> Row:
    """Segment the anatomy of some cases, with stand-ins for TotalSegmentator's weights."""
    from tests.totalseg_data import write_surrogate_weights

    weights, home = cohort.folder / "weights", cohort.folder / "home"
    weights.mkdir()
    home.mkdir()
    write_surrogate_weights(weights, [297])
    variables = {"TOTALSEG_WEIGHTS_PATH": str(weights), "TOTALSEG_HOME_DIR": str(home)}
    options = ("--fast", "--device", "cpu", "--threads", 1)
    shown = "in their place: lungs and bones lie where the stand-in looks for them"
    step = Step("lnq-anatomy", "ct", "found", options, anatomy_is_there, jobs=None, shown=shown)
    return run_step(Cohort(cohort.folder, cohort.names[:ANATOMIES]), step, variables)


def anatomy_is_there(cohort: Cohort, name: str) -> bool:
    """Tell whether a map has most of the bands of HU, which the network sees on a grid of 3 mm."""
    from totalsegmentator.map_to_binary import class_map

    from tests.totalseg_data import BANDS

    ct, found = cohort.load("ct", name), cohort.load("found", name)
    labels = {structure: label for label, structure in class_map["total"].items()}
    lungs, _, bones = BANDS["total"]
    paths = (cohort.folder / kind / name for kind in ("ct", "found"))
    return np.array_equal(*map(matrix_of, paths)) and all(
        dice(found == labels[band.structure], (ct >= band.low) & (ct < band.high)) > 0.5
        for band in (lungs, bones)
    )


def compare_and_plot(cohort: Cohort) -> Iterator[Row]:
    """Compare and draw the table, first beside tables that cannot be compared with it."""
    at = cohort.folder
    rows = table_of(at / "metrics.tsv")
    lines = (at / "metrics.tsv").read_text().splitlines(keepends=True)
    half = len(lines) // 2
    (at / "cut.tsv").write_text("".join(lines[:half]) + lines[half][:20])
    (at / "other.tsv").write_text("<html>404</html>\n")
    bad = [f"cut={at / 'cut.tsv'}", f"other={at / 'other.tsv'}"]
    good = [f"one={at / 'metrics.tsv'}", f"two={at / 'metrics.tsv'}"]
    picture = at / "scores.svg"
    for tool, options, target in (
        (("lnq-compare",), ("--metric", "dice"), at / "summary.tsv"),
        (("lnq-plot", "scores"), ("--metric", "dice"), picture),
    ):
        refused = watch(*tool, *good, *bad, *options, "-o", target)
        expected = [
            f"{tool[0]}: {at}/{name}.tsv: .*{said}" for name, said in SAYS_OF_TABLES.items()
        ]
        said = len(refused.err) == len(expected) and all(map(re.match, expected, refused.err))
        wrong = list(refused.left)
        if refused.status != 1 or target.exists() or not said:
            wrong.append(f"status {refused.status} for bad tables: {refused.err}")
        ran = watch(*tool, *good, *options, "-o", target)
        wrong += [*ran.left, *hidden(at), *grown(ran, LIBRARIES_MB)]
        if ran.status != 0 or not target.exists():
            wrong.append(f"status {ran.status} for good tables: {ran.err}")
        elif target is picture:
            wrong += [] if target.read_bytes().startswith(b"<?xml") else ["no picture"]
        else:
            mean = np.mean([float(row["dice"]) for row in rows])
            means = [float(row["mean"]) for row in table_of(target)]
            wrong += [] if np.allclose(means, mean) else [f"mean {means}, not {mean}"]
        outcome = (
            "the bad tables named, each for what is wrong with it, status 1, nothing written; "
            f"without them right; {took(ran)}"
        )
        tables = f"tables of {len(rows)} cases, one cut off, one of another kind"
        yield row_of(tables, " ".join(tool), 4, outcome, wrong)


def report(cohort: Cohort) -> Row:
    """Make the page; it must have each good case, and say of each bad one why it is not there."""
    at = cohort.folder
    spoiled = spoil(cohort, "final", "ct")
    for number, name in enumerate(cohort.bad):  # what is bad is the CT, not the reference
        shutil.copy(at / "truth" / cohort.good[number], at / "truth" / name)
    options = ("--ct", at / "ct", "--reference", at / "truth", "-j", 2, "-O", at / "report")
    ran = watch("lnq-report", "-0", "-T", "-", *options, stdin=cohort.paths("final"))
    wrong = judged(cohort, ran, "lnq-report", "final", spoiled)
    wrong += grown(ran, MORE_MB + PAGE_MB + ROW_MB * len(cohort.names))
    page = (at / "report" / "index.html").read_text()
    false = [n for n in cohort.good if page.count(f'data-name="{n.removesuffix(".nii.gz")}"') != 1]
    wrong += [f"{name} is not on the page" for name in false]
    shown = len(list((at / "report" / "cases").glob("*.js")))
    if shown != len(cohort.good):
        wrong.append(f"{shown} cases have slices")
    if table_of(at / "report" / "metrics.tsv") != table_of(at / "metrics.tsv"):
        wrong.append("its table is not that of lnq-metrics")
    (mb, _), (last_mb, _) = ran.most(0.1, 0.5), ran.most(0.5, 1)
    each = (last_mb - mb) * 1000 / len(cohort.names)
    outcome = f"{did(cohort, false, ran)}; its memory grows by {each:.0f} kB a case, for the page"
    return row_of(what(cohort, spoiled), "lnq-report -j 2", len(cohort.names), outcome, wrong)


def torture(folder: Path, scale: float) -> Iterator[Row]:
    """Run the chain."""
    cohort = make_cohort(folder, max(100, round(CASES * scale)))
    for step in steps(cohort):
        if step.tool == "lnq-infer":
            yield from train(cohort)
        yield run_step(cohort, step)
    yield predicted_again(cohort)
    yield measure(cohort)
    yield sweep(cohort)
    yield count_nodes(cohort)
    yield find_anatomy(cohort)
    yield from compare_and_plot(cohort)
    yield report(cohort)
