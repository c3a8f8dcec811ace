"""A few tiny cases with everything that the tools take, under awkward names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conftest import affine, save

NAMES = ("plain", "with space", "line\nend")
SHAPE = (12, 14, 16)
MATRIX = affine((1.5, 1.5, 2.0), (10.0, -20.0, 30.0))


@dataclass(frozen=True)
class Tool:
    """How a tool is called on the cohort: the folder of its inputs, and its own options."""

    name: str
    inputs: str
    options: tuple[str, ...] = ()
    companion: tuple[str, str] | None = None  # the option and the folder that it names
    crops: bool = False
    parallel: bool = True


TOOLS = (
    Tool("lnq-crop", "ct", (), ("--lungs", "lungs"), crops=True),
    Tool("lnq-weaklabel", "ann", ("--strategy", "mask"), ("--background", "tumour")),
    Tool("lnq-pseudolabel", "label", ("--classes", "v2"), ("--anatomy", "ts")),
    Tool("lnq-filter-diameter", "ann", ("--min", "2")),
    Tool("lnq-infer", "ct", ("-m", "model", "--no-mirror"), ("--lungs", "lungs"), parallel=False),
)


def make_cohort(folder: Path) -> Path:
    """Write ct, ann, label, tumour, lungs, ts, truth and probability for each name."""
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng(number)
        node = np.zeros(SHAPE, np.uint8)
        node[4:8, 5:9, 6:10] = 1
        node[1, 1, 1 + number] = 1
        tumour = np.zeros(SHAPE, np.uint8)
        tumour[6:10, 7:12, 2:7] = 1
        lungs = np.zeros(SHAPE, np.uint8)
        lungs[2:11, 3:12, 1:15] = 1
        anatomy = np.zeros(SHAPE, np.uint8)
        anatomy[:, :3] = 52  # aorta
        anatomy[lungs != 0] = 10
        label = np.where(node, 1, 2).astype(np.uint8)
        images = {
            "ct": rng.integers(-1000, 1000, SHAPE).astype(np.int16),
            "ann": node,
            "label": label,
            "tumour": tumour,
            "lungs": lungs,
            "ts": anatomy,
            "truth": node,
            "probability": np.where(node, 0.75, 0.25).astype(np.float32),
        }
        for kind, array in images.items():
            save(folder / kind / f"{name}.nii.gz", array, MATRIX)
    return folder
