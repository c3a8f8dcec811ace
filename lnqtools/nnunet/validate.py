"""Cross-validation: predictions of a fold's validation cases, judged on annotated voxels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnqtools import __version__
from lnqtools.files.atomic import atomic_output
from lnqtools.files.json_files import read_json
from lnqtools.files.tables import Row, read_table, table_lines
from lnqtools.images.nifti import read_provenance
from lnqtools.images.volume import Volume, read_label, write_volume
from lnqtools.labels.training import NODE, UNKNOWN
from lnqtools.metrics.masks import overlap
from lnqtools.nnunet.checkpoint import FINAL, checkpoint_digest
from lnqtools.nnunet.dataset import Status, TrainingCase, no_status, read_case
from lnqtools.nnunet.prepare import SPLITS

if TYPE_CHECKING:
    from lnqtools.nnunet.predict import Predictor

PREDICTIONS = "validation"
FOLD_TABLE = "validation.tsv"
TABLE = "cross-validation.tsv"


def annotated_overlap(
    prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float]
) -> dict[str, Any]:
    """Compare a prediction with a training label, where the label knows.

    Voxels labeled 2 (unknown) count for neither mask. Over the others
    `lnqtools.metrics.masks.overlap` defines the values, and what stands for undefined ones. Of a
    case without unknown voxels they are those of `lnq-metrics`; of another they do not measure
    the whole case: a wrong voxel where nothing is annotated is not counted, nor is a right one.

    Parameters
    ----------
    prediction : (z, y, x) ndarray
        Every value but 0 is lymph node.
    label : (z, y, x) ndarray
        0 background, 1 lymph node, 2 unknown.
    spacing : (z, y, x), mm

    Returns
    -------
    dict
        ``status``, ``annotated_percent`` (of voxels), ``dice_annotated``,
        ``precision_annotated``, ``recall_annotated``, ``voxels_prediction_annotated``,
        ``voxels_reference``, ``voxels_overlap``, ``voxels_prediction_unknown``.
    """
    annotated = label != UNKNOWN
    found = overlap((prediction != 0) & annotated, label == NODE, spacing)
    return {
        "status": found["status"],
        "annotated_percent": 100 * float(annotated.mean()),
        "dice_annotated": found["dice"],
        "precision_annotated": found["precision"],
        "recall_annotated": found["recall"],
        "voxels_prediction_annotated": found["voxels_prediction"],
        "voxels_reference": found["voxels_reference"],
        "voxels_overlap": found["voxels_overlap"],
        "voxels_prediction_unknown": int(np.count_nonzero((prediction != 0) & ~annotated)),
    }


def validate_fold(
    cases: Sequence[TrainingCase],
    model: Path,
    fold: str,
    predictor: Callable[[], Predictor],
    status: Status = no_status,
) -> list[Row]:
    """Predict the cases that a trained fold validates, and write its table.

    Predictions go to ``fold_N/validation``; those that the same weights have made are kept. The
    table is ``fold_N/validation.tsv``; `gather_tables` puts those of all folds together.

    Parameters
    ----------
    cases : sequence of TrainingCase
        At least those of the fold.
    model : Path
    fold : str
    predictor : callable
        Gives the model, which is loaded only if something is to be predicted.
    status : callable, optional
        Told after each case.

    Returns
    -------
    list of dict
        The fold's rows: ``case``, ``cohort``, ``fold``, and those of `annotated_overlap`.
    """
    folder = model / f"fold_{fold}"
    by_name = {case.name: case for case in cases}
    names = read_json(model / SPLITS)[int(fold)]["val"]
    made = {
        "tool": "lnq-train",
        "version": __version__,
        "fold": fold,
        "weights": checkpoint_digest([folder / FINAL]),
    }
    rows: list[Row] = []
    loaded: list[Predictor] = []
    for done, name in enumerate(names, 1):
        image, label = read_case(by_name[name])
        path = folder / PREDICTIONS / f"{name}.nii.gz"
        if path.is_file() and read_provenance(path) == made:
            mask = read_label(path).array
        else:
            loaded = loaded or [predictor()]
            mask = loaded[0].predict(image).mask
            path.parent.mkdir(exist_ok=True)
            write_volume(Volume(mask, image.grid), path, made)
        facts = annotated_overlap(mask, label.array, label.spacing)
        rows.append({"case": name, "cohort": by_name[name].cohort, "fold": fold, **facts})
        status("validating", done, len(names))
    _write_table(rows, folder / FOLD_TABLE)
    return rows


def gather_tables(model: Path) -> None:
    """Write ``cross-validation.tsv``: the tables of all folds that have been validated.

    Without validated folds nothing is written. Nobody but the caller may change the model.
    """
    tables = sorted(model.glob(f"fold_*/{FOLD_TABLE}"), key=lambda p: p.parent.name)
    texts = [path.read_text() for path in tables]
    rows = [row for text in texts if text.strip() for row in read_table(text)]
    if rows:
        _write_table(rows, model / TABLE)
    else:
        (model / TABLE).unlink(missing_ok=True)


def _write_table(rows: Sequence[Row], path: Path) -> None:
    with atomic_output(path) as file:
        file.write(("\n".join(table_lines(rows)) + "\n").encode())
