"""A thousand small cases, one in twenty of them bad, through the whole chain.

The bad ones are bad anew at each step: what the step before left out comes back cut off, with
NaN, as text, or beside a companion that is missing or lies elsewhere. So each tool has a thousand
cases, and must name exactly its own bad ones, do all others, and do them right: their images are
computed here again, without the tools.
"""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from tests.conftest import load, matrix_of, succeed
from tests.torture.rows import Row
from tests.torture.watch import Watched, watch

CASES, PHANTOMS, BAD_EVERY = 1000, 20, 20
SPACING_MM = 8
LEAST_MM = 12.0
MORE_MB, MORE_SHARE, MORE_FILES = 20.0, 0.05, 10
"""By how much a process may grow from the first half of a run to its second: MB, or a share of what
it has. A file a case left open would be hundreds."""
PAGE_MB, ROW_MB = 100.0, 0.05
"""What a page may take of memory at its end, for its statistics, and for each case: it is written
in one piece."""
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
SEEING = ("--no-mirror", "--threads", 1, "--threshold", 0.05)
"""So little trained, the model is sure of nothing."""
ALONE = ("truncated", "text", "nan")
"""Kinds of bad images."""
BESIDE = ("missing", "elsewhere")
"""Kinds of bad companions."""


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
            ("-m", at / "model", *SEEING),
            prediction_is_right,
            jobs=None,
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
    from lnqtools.lungs import find_lungs
    from lnqtools.volume import read_volume

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
    """Tell whether a mask lies in the lungs' box; of some, what the model says is asked again."""
    made = cohort.folder / "predicted" / name
    box = box_in(cohort.folder / "ct" / name, cohort.folder / "cropped" / name)
    mask = load(made)
    outside = mask.copy()
    outside[box] = 0
    placed = np.array_equal(matrix_of(made), matrix_of(cohort.folder / "ct" / name))
    return placed and not outside.any() and mask.max(initial=0) <= 1


def filter_is_right(cohort: Cohort, name: str) -> bool:
    mask = cohort.load("predicted", name)
    found, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask != 0, found, range(count + 1)) * SPACING_MM**3
    kept = 2 * np.cbrt(sizes * 3 / (4 * np.pi)) >= LEAST_MM
    kept[0] = False
    return np.array_equal(cohort.load("final", name), mask * kept[found])


# What is wrong with a run


def named_in(lines: Sequence[str], tool: str) -> list[str]:
    """Return the paths that a tool's errors are about, warnings aside."""
    pattern = re.compile(rf"{tool}: (.*?\.nii\.gz): (?!warning: )")
    return [found[1] if (found := pattern.match(line)) else line for line in lines]


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
        f"{ran.seconds:.0f} s; the largest process {mb:.0f} MB in the first half, {last_mb:.0f} "
        f"in the second; at most {files} and {last_files} open files; nothing left"
    )


def hidden(folder: Path) -> list[str]:
    """Return what a tool left that it should have removed."""
    return [f"{path} is left" for path in folder.rglob(".*")]


def judged(cohort: Cohort, ran: Watched, tool: str, bad: Sequence[Path]) -> list[str]:
    """Say what is wrong with how a tool ended and what it said and left."""
    wrong = list(ran.left) + hidden(cohort.folder)
    if ran.status != 1:
        wrong.append(f"exit status {ran.status}, not 1")
    errors = [line for line in ran.err if ": warning: " not in line]
    named = named_in(errors, tool)
    if sorted(named) != sorted(map(str, bad)):
        odd = sorted({*named} ^ {*map(str, bad)})[:3]
        wrong.append(f"{len(named)} problems for {len(bad)} bad cases, as {odd}")
    return wrong


def row_of(what: str, where: str, tried: int, outcome: str, wrong: Sequence[str]) -> Row:
    return Row(what, where, tried, outcome, tuple(f"{where}: {sentence}" for sentence in wrong))


def run_step(cohort: Cohort, step: Step) -> Row:
    """Spoil a step's bad cases, run it on all, and judge."""
    spoiled = spoil(cohort, step.inputs, step.companions)
    sources, target = cohort.paths(step.inputs), cohort.folder / step.output
    jobs = () if step.jobs is None else ("-j", step.jobs)
    arguments = ("-0", "-T", "-", *step.options, *jobs, "-O", target)
    ran = watch(step.tool, *arguments, stdin=sources)
    wrong = judged(cohort, ran, step.tool, cohort.paths(step.inputs, cohort.bad)) + grown(ran)
    if ran.out != list(map(str, cohort.paths(step.output, cohort.good))):
        wrong.append(f"{len(ran.out)} paths printed, or not in input order")
    if {path.name for path in target.iterdir()} != set(cohort.good):
        wrong.append("other files than the good cases'")
    false = [
        name for name in cohort.good if not (target / name).exists() or not step.right(cohort, name)
    ]
    wrong += [f"{name} is not right" for name in false]
    where = " ".join([step.tool, *map(str, jobs)])
    return row_of(what(cohort, spoiled), where, len(cohort.names), did(cohort, false, ran), wrong)


def what(cohort: Cohort, spoiled: dict[str, str]) -> str:
    kinds = {"nan": "NaN in it", "missing": "no companion", "elsewhere": "companion elsewhere"}
    said = ", ".join(dict.fromkeys(kinds.get(kind, kind) for kind in spoiled.values()))
    return f"{len(cohort.names):,} cases, {len(cohort.bad)} bad: {said}"


def did(cohort: Cohort, false: Sequence[str], ran: Watched) -> str:
    right = len(cohort.good) - len(false)
    return f"exactly the {len(cohort.bad)} named, status 1; {right} done and right; {took(ran)}"


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
    for bad in (missing, set(cohort.bad) - missing):
        ran = watch("lnq-train", *data, *TINY, "-m", at / "model")
        seconds += ran.seconds
        errors = [line for line in ran.err if ": warning: " not in line]
        named = {Path(path).name for path in named_in(errors, "lnq-train")}
        wrong += [*ran.left, *hidden(at)]
        if ran.status != 1 or named != bad or len(errors) != len(bad) or (at / "model").exists():
            wrong.append(f"status {ran.status}, {len(errors)} problems for {len(bad)} bad cases")
            wrong += [f"{name} ({spoiled.get(name)})" for name in sorted(named ^ bad)[:3]]
        for name in bad:
            for folder in ("cropped", "labels"):
                (at / folder / name).unlink(missing_ok=True)
    outcome = (
        f"exactly the {len(cohort.bad)} named, first the {len(missing)} without label, then the "
        f"others; status 1, no model; {seconds:.0f} s"
    )
    yield row_of(what(cohort, spoiled), "lnq-train", len(cohort.names), outcome, wrong)

    ran = watch("lnq-train", *data, *TINY, "-m", at / "model")
    wrong = list(ran.left) + hidden(at) + ([] if ran.status == 0 else [ran.err[-1]])
    count = len(cohort.good)
    yield row_of(f"the {count} good cases", "lnq-train, tiny", count, took(ran), wrong)


def predicted_again(cohort: Cohort) -> Row:
    """Predict some of the cases alone, in another order: the bytes must be the same."""
    some = cohort.good[:: max(1, len(cohort.good) // 20)][::-1]
    other = cohort.folder / "again"
    options = ("-m", cohort.folder / "model", *SEEING, "-O", other)
    ran = watch("lnq-infer", "-0", "-T", "-", *options, stdin=cohort.paths("ct", some))
    wrong = list(ran.left)
    for name in some:
        first, second = (cohort.folder / kind / name for kind in ("predicted", "again"))
        if not second.exists() or first.read_bytes() != second.read_bytes():
            wrong.append(f"{name} is another mask when it is predicted alone")
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
    wrong = judged(cohort, ran, "lnq-metrics", cohort.paths("final", cohort.bad)) + grown(ran)
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
    wrong = judged(cohort, ran, "lnq-stats", cohort.paths("truth", cohort.bad)) + grown(ran)
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
        named = named_tables(refused.err, tool[0])
        wrong = list(refused.left)
        if refused.status != 1 or target.exists() or named != ["cut.tsv", "other.tsv"]:
            wrong.append(f"status {refused.status}; named were {named}")
        ran = watch(*tool, *good, *options, "-o", target)
        wrong += [*ran.left, *hidden(at)]
        if ran.status != 0 or not target.exists():
            wrong.append(f"status {ran.status} for good tables: {ran.err}")
        elif target is picture:
            wrong += [] if target.read_bytes().startswith(b"<?xml") else ["no picture"]
        else:
            mean = np.mean([float(row["dice"]) for row in rows])
            said = [float(row["mean"]) for row in table_of(target)]
            wrong += [] if np.allclose(said, mean) else [f"mean {said}, not {mean}"]
        outcome = (
            f"the bad tables named, status 1, nothing written; without them right; {took(ran)}"
        )
        tables = f"tables of {len(rows)} cases, one cut off, one of another kind"
        yield row_of(tables, " ".join(tool), 4, outcome, wrong)


def named_tables(lines: Sequence[str], tool: str) -> list[str]:
    """Return the names of the tables that a tool's errors are about."""
    found = [re.match(rf"{tool}: \S*?/([a-z]+\.tsv): ", line) for line in lines]
    return [match[1] for match in found if match]


def report(cohort: Cohort) -> Row:
    """Make the page; it must have each good case, and say of each bad one why it is not there."""
    at = cohort.folder
    spoiled = spoil(cohort, "final", "ct")
    options = ("--ct", at / "ct", "--reference", at / "truth", "-j", 2, "-O", at / "report")
    ran = watch("lnq-report", "-0", "-T", "-", *options, stdin=cohort.paths("final"))
    wrong = judged(cohort, ran, "lnq-report", cohort.paths("final", cohort.bad))
    wrong += grown(ran, MORE_MB + PAGE_MB + ROW_MB * len(cohort.names))
    page = (at / "report" / "index.html").read_text()
    false = [n for n in cohort.good if page.count(f'data-name="{n.removesuffix(".nii.gz")}"') != 1]
    wrong += [f"{name} is not on the page" for name in false]
    shown = len(list((at / "report" / "cases").glob("*.js")))
    if shown != len(cohort.good):
        wrong.append(f"{shown} cases have slices")
    if table_of(at / "report" / "metrics.tsv") != table_of(at / "metrics.tsv"):
        wrong.append("its table is not that of lnq-metrics")
    where = "lnq-report -j 2"
    return row_of(what(cohort, spoiled), where, len(cohort.names), did(cohort, false, ran), wrong)


def torture(folder: Path, scale: float) -> Iterator[Row]:
    """Run the chain."""
    cohort = make_cohort(folder, max(100, round(CASES * scale)))
    for step in steps(cohort):
        if step.tool == "lnq-infer":
            yield from train(cohort)
        yield run_step(cohort, step)
    yield predicted_again(cohort)
    yield measure(cohort)
    yield count_nodes(cohort)
    yield from compare_and_plot(cohort)
    yield report(cohort)
