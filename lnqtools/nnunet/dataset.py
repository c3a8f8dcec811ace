"""Training cases, and what nnU-Net wants to know about them: fingerprint and dataset.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.images.box import bounding_box
from lnqtools.images.grid import difference
from lnqtools.images.hounsfield import read_ct
from lnqtools.images.orientation import oriented, turned
from lnqtools.images.volume import Volume, read_label
from lnqtools.labels.cohorts import LabeledVolume, describe_label
from lnqtools.labels.training import BACKGROUND, NODE, UNKNOWN, check_label
from lnqtools.nnunet.view import TRAINED, seen_as

SAMPLES_PER_CASE = 10_000
LONGEST_NAME = 255 - len("_seg.b2nd")
"""Bytes of a case's name: a file's name has at most 255, and nnU-Net's ends so."""

Status = Callable[[str, int, int], None]
"""Called with the step's name, the cases done and the number of cases."""


def no_status(step: str, done: int, total: int) -> None:
    """Take no notice of how far a step has come."""


def no_notice(message: str) -> None:
    """Take no notice of a message."""


@dataclass(frozen=True)
class TrainingCase:
    """A CT and its training label: 0 background, 1 lymph node, 2 unknown.

    Cases of one kind, such as weakly annotated ones, are a cohort. ``assume_orientation`` says, as
    ``LPS``, how the axes of files run whose headers do not.
    """

    name: str
    image: Path
    label: Path
    cohort: str = "cases"
    assume_orientation: str | None = None


class InvalidCasesError(LnqError):
    """Training cases that cannot be used.

    Parameters
    ----------
    problems : sequence of (Path, str)
        Each file and the sentence about it.
    """

    def __init__(self, problems: Sequence[tuple[Path, str]]):
        super().__init__("\n".join(f"{path}: {message}" for path, message in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class CaseFacts:
    """What the fingerprint needs of one case.

    Parameters
    ----------
    name : str
    spacing : (z, y, x), mm
    shape : (z, y, x)
        Of the box of non-zero voxels, to which nnU-Net crops.
    cropped_share : float
        Voxels of that box over voxels of the image.
    annotated, has_unknown : bool
        Whether the label has a voxel other than 2; one that is 2.
    node_hu : (n,) ndarray
        Sorted intensities of lymph node voxels, at most ``SAMPLES_PER_CASE`` of them.
    above_zero_hu : (n,) ndarray
        The same of all voxels labeled above 0, unknown ones too.
    cohort : str
    label : LabeledVolume, optional
        How many voxels are of which kind, and the components of lymph node.
    stored : str
        The orientation in which the file stores the image.
    """

    name: str
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    cropped_share: float
    annotated: bool
    has_unknown: bool
    node_hu: np.ndarray = field(repr=False)
    above_zero_hu: np.ndarray = field(repr=False, default_factory=lambda: np.empty(0))
    cohort: str = "cases"
    label: LabeledVolume | None = None
    stored: str = TRAINED

    @property
    def full(self) -> bool:
        """Whether every voxel is annotated."""
        return not self.has_unknown


@dataclass(frozen=True)
class Survey:
    """The cases to train on, and the names of those left out because all is unknown in them."""

    cases: tuple[CaseFacts, ...]
    left_out: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the cases to train on, sorted."""
        return sorted(case.name for case in self.cases)

    @property
    def full(self) -> set[str]:
        """Names of the cases without unknown voxels."""
        return {case.name for case in self.cases if case.full}

    @property
    def with_background(self) -> set[str]:
        """Names of the cases with a background voxel."""
        return {case.name for case in self.cases if case.label and case.label.voxels.background}


def read_case(case: TrainingCase, *, trust_hu: bool = True) -> tuple[Volume, Volume]:
    """Read the image and the label of a case, both with the axes of the image's file.

    Raises
    ------
    InvalidCasesError
        If a file is not readable or does not say how its axes lie, the grids differ, a label holds
        other values than 0, 1, 2, or, unless ``trust_hu``, the image seems not to be in HU.
    """
    letters = case.assume_orientation
    image = _read(partial(read_ct, trust_hu=trust_hu), case.image, letters)
    label = _read(read_label, case.label, letters)
    stored, meant = label.grid.letters, image.grid.letters
    if stored != meant:
        note = f"its axes are stored as {stored}, those of the image as {meant}: it was turned"
        label = replace(label, notes=(*label.notes, note))
        label = turned(label, oriented(label.grid, meant))
    differs = difference(image.grid, label.grid)
    if differs:
        raise InvalidCasesError([(case.label, f"not on the grid of {case.image}: {differs}")])
    try:
        check_label(label.array)
    except LnqError as error:
        raise InvalidCasesError([(case.label, str(error))]) from None
    return image, label


def as_seen(volume: Volume, orientation: str = TRAINED) -> Volume:
    """Return an image turned as the network sees it, whatever way it is stored."""
    return turned(volume, seen_as(volume.grid, orientation))


def _read(reader: Callable[[Path], Volume], path: Path, letters: str | None) -> Volume:
    """Read a file of which it is known how its axes lie; an error then names it."""
    try:
        volume = reader(path).assuming(letters)
        volume.grid.require_axes()
        return volume
    except LnqError as error:
        raise InvalidCasesError([(path, str(error))]) from None


def case_facts(
    name: str,
    image: np.ndarray,
    label: np.ndarray,
    spacing: Sequence[float],
    cohort: str = "cases",
    stored: str = TRAINED,
) -> CaseFacts:
    """Gather what the fingerprint and the table of cohorts need of one case.

    Only voxels labeled 1 are lymph node: nnU-Net's own fingerprint counts the unknown ones,
    too (its issue 3055).

    Parameters
    ----------
    name : str
    image, label : (z, y, x) ndarray
    spacing : (z, y, x), mm
    cohort, stored : str
        As in `CaseFacts`.

    Raises
    ------
    LnqError
        If the image is 0 everywhere.
    """
    box = bounding_box(image != 0)
    if box is None:
        raise LnqError("the image holds nothing but 0")
    return CaseFacts(
        name=name,
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        shape=box.shape,
        cropped_share=float(box.size / image.size),
        annotated=bool((label != UNKNOWN).any()),
        has_unknown=bool((label == UNKNOWN).any()),
        node_hu=_evenly_sampled(image[label == NODE]),
        above_zero_hu=_evenly_sampled(image[label > BACKGROUND]),
        cohort=cohort,
        label=describe_label(label, spacing),
        stored=stored,
    )


def _evenly_sampled(values: np.ndarray) -> np.ndarray:
    """Return the sorted values, or as many of them as ``SAMPLES_PER_CASE``, evenly by rank."""
    values = np.sort(values).astype(np.float64)
    if values.size <= SAMPLES_PER_CASE:
        return values
    ranks = np.linspace(0, values.size - 1, SAMPLES_PER_CASE)
    return values[np.rint(ranks).astype(int)]


def survey_cases(
    cases: Sequence[TrainingCase],
    status: Status = no_status,
    notify: Callable[[str], None] = no_notice,
    trust_hu: bool = False,
) -> Survey:
    """Read every case once, check it, and gather what the fingerprint needs.

    Parameters
    ----------
    cases : sequence of TrainingCase
    status : callable, optional
        Told after each case.
    notify : callable, optional
        Told what is odd about a file that is read all the same.
    trust_hu : bool
        Take images whose values do not look like HU, see `lnqtools.images.hounsfield.hu_doubt`.

    Raises
    ------
    InvalidCasesError
        If a case has a problem; it names every problem of every case.
    LnqError
        If no case has a voxel labeled 1.
    """
    problems = _unusable_names(cases)
    facts = []
    for done, case in enumerate(cases, 1):
        try:
            image, label = read_case(case, trust_hu=trust_hu)
            for path, volume in ((case.image, image), (case.label, label)):
                for note in volume.notes:
                    notify(f"{path}: warning: {note}")
            seen, marked = as_seen(image), as_seen(label)
            stored = image.grid.letters
            facts.append(
                case_facts(case.name, seen.array, marked.array, seen.spacing, case.cohort, stored)
            )
        except InvalidCasesError as error:
            problems += error.problems
        except LnqError as error:
            problems.append((case.image, str(error)))
        status("checking", done, len(cases))
    if problems:
        raise InvalidCasesError(problems)
    usable = tuple(case for case in facts if case.annotated)
    if not any(case.node_hu.size for case in usable):
        raise LnqError("no training label has a lymph node voxel (value 1): nothing to learn from")
    return Survey(usable, tuple(case.name for case in facts if not case.annotated))


def _unusable_names(cases: Sequence[TrainingCase]) -> list[tuple[Path, str]]:
    """Return the cases whose names nnU-Net could not keep apart."""
    counts = Counter(case.name for case in cases)
    problems = []
    for case in cases:
        if counts[case.name] > 1:
            problems.append((case.image, f"another case is called {case.name}, too"))
        elif case.name.endswith("_seg"):
            problems.append((case.image, "a case name that ends in _seg confuses nnU-Net"))
        elif not _is_utf8(case.name):
            problems.append((case.image, "nnU-Net cannot name files after it: it is not UTF-8"))
        elif len(case.name.encode()) > LONGEST_NAME:
            problems.append((case.image, "nnU-Net cannot name files after it: it is too long"))
    return problems


def _is_utf8(name: str) -> bool:
    """Tell whether a file name is text; others have surrogates for their odd bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def foreground_hu(cases: Sequence[CaseFacts], statistics: str = "annotated") -> np.ndarray:
    """Return intensities of foreground voxels in which each case that has any weighs the same.

    nnU-Net, too, takes the same number of voxels from each case.

    Parameters
    ----------
    cases : sequence of CaseFacts
    statistics : {"annotated", "nnunet"}
        Take voxels labeled 1; or all labeled above 0, as nnU-Net does, unknown ones too.
    """
    key = {"annotated": "node_hu", "nnunet": "above_zero_hu"}[statistics]
    samples = [values for case in cases if (values := getattr(case, key)).size]
    ranks = (np.arange(SAMPLES_PER_CASE) + 0.5) / SAMPLES_PER_CASE
    return np.concatenate([values[(ranks * values.size).astype(int)] for values in samples])


def intensity_statistics(
    values: np.ndarray, window_hu: tuple[float, float] | None = None
) -> dict[str, float]:
    """Return the statistics by which nnU-Net's CTNormalization clips and standardizes.

    Parameters
    ----------
    values : (n,) ndarray
        Intensities, HU.
    window_hu : (low, high), optional
        Clip to this window; mean and SD are those of the clipped values. Without it nnU-Net
        clips to the 0.5th and 99.5th percentile and uses mean and SD of all values.
    """
    if window_hu is not None:
        values = np.clip(values, *window_hu)
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    if window_hu is not None:
        low, high = window_hu
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "median": float(median),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_00_5": float(low),
        "percentile_99_5": float(high),
    }


def fingerprint(cases: Sequence[CaseFacts], statistics: str = "annotated") -> dict[str, Any]:
    """Return nnU-Net's ``dataset_fingerprint.json``; see `foreground_hu`."""
    intensities = intensity_statistics(foreground_hu(cases, statistics))
    return {
        "spacings": [list(case.spacing) for case in cases],
        "shapes_after_crop": [list(case.shape) for case in cases],
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "median_relative_size_after_cropping": float(
            np.median([case.cropped_share for case in cases])
        ),
    }


def dataset_json(cases: Sequence[CaseFacts]) -> dict[str, Any]:
    """Return nnU-Net's ``dataset.json``; label 2 is its ignore label if a case has any."""
    labels = {"background": BACKGROUND, "lymph_node": NODE}
    if any(case.has_unknown for case in cases):
        labels["ignore"] = UNKNOWN
    return {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
