"""How each tool of the suite is called on many small cases, and what is held against it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.cli.cohort import TOOLS as IMAGE_TOOLS
from tests.cli.cohort import make_cohort
from tests.conftest import BIN, environment, save
from tests.suite import TOOLS

LIGHT_CASES = 60
TABLE_CASES = 24
DICOM_CASES = 12
FEW_CASES = 4
OUT = "out"
TMP = "tmp"
NOT_ALONE = ("lnq", "lnq-model")
"""What starts the others, and what keeps parts of models for its next run (tests/models)."""
HEAVY = ("lnq-infer", "lnq-anatomy", "lnq-train")
"""What runs a network."""
MODEL = (
    *("plans.json", "dataset.json", "dataset_fingerprint.json", "splits_final.json"),
    *("cohorts.tsv", "lnq-train.json", "checkpoint_final.pth"),
)
"""Files of a model that two trainings make alike; the others have times in them."""


@dataclass(frozen=True)
class Call:
    """A tool on its cases; it runs in a folder of its own and writes into ``out`` there.

    Attributes
    ----------
    tool : str
        Its name, with that of its command where messages begin with both.
    arguments : tuple of str
        All but what says which run this is.
    other : tuple of str
        More arguments, with which other outputs of the same names are made.
    again : str
        What the same command needs to run again after it was broken off: -s, or -f.
    prints : tuple of str or None
        Arguments with which something goes to standard output; None: those above do.
    parallel : bool
        Whether it has --jobs.
    heavy : bool
        Whether a run takes seconds, most of them for imports.
    weights : bool
        Whether of the outputs only MODEL is the same each time, and of a checkpoint its weights.
    environment : dict
        Variables that it needs.
    """

    tool: str
    arguments: tuple[str, ...]
    other: tuple[str, ...]
    again: str = "-s"
    prints: tuple[str, ...] | None = None
    parallel: bool = False
    heavy: bool = False
    weights: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def line(self, *more: str) -> list[str]:
        """Return the command line."""
        tool, *command = self.tool.split()
        return [str(BIN / tool), *command, *self.arguments, *more, "-q"]

    def start(self, place: Path, *more: str, **options) -> subprocess.Popen:
        """Start the tool in a folder of its own, as the first of a process group."""
        return self.start_line(place, self.line(*more), **options)

    def start_line(
        self, place: Path, line: list[str], env: dict[str, str] | None = None, **options
    ) -> subprocess.Popen:
        """Start a command line of the tool."""
        for folder in (place, place / OUT, place / TMP):
            folder.mkdir(parents=True, exist_ok=True)
        variables = {**environment(), **self.environment, "TMPDIR": str(place / TMP), **(env or {})}
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(line, cwd=place, env=variables, start_new_session=True, **options)

    def run(self, place: Path, *more: str, **options) -> tuple[int, str]:
        """Run the tool to its end; return its status and what it said."""
        process = self.start(place, *more, **options)
        _, said = process.communicate()
        return process.returncode, said.decode(errors="replace")

    def outputs(self, place: Path) -> dict[str, object]:
        """Return what was made, by its path: bytes, or a digest of weights."""
        made: dict[str, object] = {}
        for path in sorted((place / OUT).rglob("*")):
            if path.is_file() and (not self.weights or path.name in MODEL):
                content = path.read_bytes()
                if path.suffix == ".pth":
                    content = weights_of(path)
                elif self.weights and path.name == "lnq-train.json":
                    content = made_with(content)
                made[str(path.relative_to(place / OUT))] = content
        return {name: content for name, content in made.items() if not is_temporary(name)}


def weights_of(path: Path) -> object:
    """Return a digest of a checkpoint's weights; its times differ from run to run."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    weights = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()


def made_with(record: bytes) -> bytes:
    """Return what a model was made with; its record also tells of each run."""
    try:
        return json.dumps(json.loads(record)["made_with"]).encode()
    except (ValueError, KeyError):  # damaged
        return record


def is_temporary(name: str) -> bool:
    """Tell whether a path below the outputs is not one yet: hidden, or in a hidden folder."""
    return any(part.startswith(".") for part in Path(name).parts)


def is_lock(name: str) -> bool:
    """Tell whether a file is one that lnq-train locks; a killed one leaves it: it does nothing."""
    return name.endswith(".lock")


def left_behind(place: Path) -> list[str]:
    """Return what is left that is not an output: hidden files, and all in the temporary folder."""
    found = [path.relative_to(place) for path in (place / OUT).rglob("*")]
    hidden = [str(p) for p in found if p.name.startswith(".") and not is_lock(p.name)]
    return hidden + [str(path.relative_to(place)) for path in (place / TMP).iterdir()]


# The calls


def make_calls(folder: Path, tools: Collection[str] = TOOLS) -> list[Call]:
    """Write the cases, and return the calls of some tools on them.

    There is none of `NOT_ALONE`.
    """
    cohort = make_cohort(folder / "cohort")
    for kind in cohort.iterdir():
        first = kind / "plain.nii.gz"
        for number in range(LIGHT_CASES):
            shutil.copy(first, kind / f"case{number:02}.nii.gz")
        for path in kind.iterdir():
            if not path.name.startswith("case"):
                path.unlink()
    calls = [*_image_calls(cohort), *_table_calls(cohort, folder), *_dicom_calls(folder)]
    if not set(HEAVY).isdisjoint(tools):
        calls += _heavy_calls(cohort, folder)
    return [call for call in calls if call.tool.split()[0] in tools]


def _inputs(folder: Path, count: int = LIGHT_CASES) -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(folder.iterdir())[:count])


def _image_calls(cohort: Path) -> list[Call]:
    others = {
        "lnq-crop": ("--margin", "3"),
        "lnq-weaklabel": ("--values", "1,2"),
        "lnq-pseudolabel": ("--erode", "3"),
        "lnq-filter-diameter": ("--min-volume", "3"),
    }
    calls = []
    for tool in IMAGE_TOOLS:
        if tool.name == "lnq-infer":
            continue
        companion = (tool.companion[0], str(cohort / tool.companion[1])) if tool.companion else ()
        own = (*tool.options, *companion, "-O", OUT)
        images = _inputs(cohort / tool.inputs)
        calls.append(Call(tool.name, (*images, *own), others[tool.name], parallel=True))
    phantom = ("-n", "3", "-O", OUT, "--table", f"{OUT}/nodes.tsv")
    return [*calls, Call("lnq-phantom", phantom, ("--profile", "easy"), parallel=True)]


def _table_calls(cohort: Path, folder: Path) -> list[Call]:
    reference = ("--reference", str(cohort / "truth"))
    part = ("--missing", "drop")  # predictions of some of the references
    scores = [folder / f"{name}.tsv" for name in ("a", "b")]
    kinds = ("ann", "tumour")
    for path, kind in zip(scores, kinds, strict=True):
        line = [
            BIN / "lnq-metrics",
            *_inputs(cohort / kind, TABLE_CASES),
            *reference,
            *part,
            "-q",
            "-o",
            path,
        ]
        subprocess.run(line, check=True)
    models = tuple(f"{path.stem}={path}" for path in scores)
    tables = [
        Call(
            "lnq-metrics",
            (*_inputs(cohort / "ann", TABLE_CASES), *reference, *part),
            ("--edge", "open"),
            "-f",
        ),
        Call("lnq-stats", _inputs(cohort / "ann", TABLE_CASES), ("--table", "diameters"), "-f"),
        Call("lnq-compare", models, ("--table", "pvalues"), "-f"),
        Call(
            "lnq-threshold",
            (
                *_inputs(cohort / "probability", TABLE_CASES),
                *reference,
                "--thresholds",
                "0.2,0.5,0.7",
            ),
            ("--cases",),
            "-f",
        ),
    ]
    calls = [
        Call(
            call.tool,
            (*call.arguments, "-o", f"{OUT}/table.tsv"),
            call.other,
            "-f",
            prints=call.arguments,
            parallel=call.tool != "lnq-compare",
        )
        for call in tables
    ]
    figure = ("scores", *models, "-o", f"{OUT}/figure.png")
    calls.append(Call("lnq-plot", figure, ("--dpi", "99"), "-f", prints=figure))
    report = ("--ct", str(cohort / "ct"), *reference, "-O", f"{OUT}/report")
    arguments = (*_inputs(cohort / "ann", FEW_CASES), *report)
    calls.append(Call("lnq-report", arguments, ("--title", "other"), "-f", parallel=True))
    return [*calls, _check_call(cohort, folder)]


def _check_call(cohort: Path, folder: Path) -> Call:
    """Return the call that compares images with their records."""
    made = folder / "recorded"
    line = [BIN / "lnq-weaklabel", *_inputs(cohort / "ann", TABLE_CASES), "--strategy", "mask"]
    subprocess.run([*line, "-q", "-O", made], check=True, stdout=subprocess.DEVNULL)
    files = _inputs(made)
    return Call(
        *("lnq-check", (*files, "-o", f"{OUT}/table.tsv"), ("--bad",), "-f"),
        prints=files,
        parallel=True,
    )


def _dicom_calls(folder: Path) -> list[Call]:
    """Return the calls that read and write DICOM, on a disc of small series."""
    from tests.dicom_data import ct_of, matrix_of_series, save_mask, write_ct, write_seg

    hu = ct_of()
    node = hu * 0
    node[2:4, 3:7, 4:9] = 1
    for number in range(DICOM_CASES):
        case = f"case{number:02}"
        slices = write_ct(folder / "disc" / case, hu, patient=case)
        write_seg(folder / "segs" / f"{case}.dcm", slices, {"node": node.astype(np.uint8)})
        save_mask(folder / "masks" / f"{case}.nii.gz", node)
        save(folder / "dicom-ct" / f"{case}.nii.gz", hu, matrix_of_series())
    onto = ("--like", str(folder / "dicom-ct"), "--uncovered", "background", "-O", OUT)
    export = ("--dicom", str(folder / "disc"), "--as", "seg", "--drawn", "manual", "-O", OUT)
    series, segs, masks = (_inputs(folder / kind) for kind in ("disc", "segs", "masks"))
    return [
        Call("lnq-dicom images", (*series, "-O", OUT), ("--resample",), parallel=True),
        Call("lnq-dicom masks", (*segs, *onto), ("--uncovered", "unknown"), parallel=True),
        Call("lnq-dicom export", (*masks, *export), ("--title", "other"), parallel=True),
    ]


def _heavy_calls(cohort: Path, folder: Path) -> list[Call]:
    """Return the calls of what runs a network, on models that are written here."""
    from tests.nnunet_data import random_model, write_bright_nodes
    from tests.totalseg_data import write_surrogate_weights

    model = random_model(folder / "model", spacing=(2.0, 1.5, 1.5), patch=(16, 16, 16))
    write_surrogate_weights(folder / "weights", [297])
    write_bright_nodes(folder / "nodes", 6)
    images = _inputs(cohort / "ct", FEW_CASES)
    infer = (*images, "-m", str(model), "--no-mirror", "--lungs", str(cohort / "lungs"))
    infer += ("--threads", "1", "-O", OUT, "--probabilities", f"{OUT}/p")
    anatomy = (*images, "--fast", "--device", "cpu", "--threads", "1", "-O", OUT)
    train = ("--images", str(folder / "nodes" / "ct"), "--labels", str(folder / "nodes" / "label"))
    train += ("--recipe", "smoke", "--patch", "16", "--iterations", "2", "--threads", "1")
    train += ("--epochs", "3", "--fold", "all", "--device", "cpu", "-m", f"{OUT}/model")
    return [
        Call("lnq-infer", infer, ("--threshold", "0.4"), heavy=True),
        Call(
            "lnq-anatomy",
            anatomy,
            ("--structures", "aorta"),
            heavy=True,
            environment={"TOTALSEG_WEIGHTS_PATH": str(folder / "weights")},
        ),
        Call("lnq-train", train, ("--seed", "1"), heavy=True, weights=True),
    ]
