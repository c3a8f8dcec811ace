"""lnq-infer: CTs → lymph node masks, by a trained nnU-Net model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import ORIENTATIONS
from lnqtools.cli._batch import Batch, Later, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._forecast import Forecast, Teller
from lnqtools.cli._lungs import lung_finder
from lnqtools.cli._nnunet import DEVICE_OPTION, PRECISION_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    LUNGS_OPTION,
    MARGIN_OPTION,
    REPLACE_NAN_OPTION,
    TRUST_HU_OPTION,
)
from lnqtools.cli._plan import IMAGE
from lnqtools.cli._rules import option
from lnqtools.cli._series import read_series
from lnqtools.cli._tool import about, command
from lnqtools.cli._totalseg import (
    ANATOMY,
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
    Running,
    nothing_to_do,
)
from lnqtools.cli._values import PATH, FiniteRange, Listed, Orientation
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.images.box import Box
    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume
    from lnqtools.nnunet.predict import Ensemble, Prepared, Workload
    from lnqtools.nnunet.prediction import Prediction

PROBABILITY = "probability"
"""The output that --probabilities asks for."""


@command("lnq-infer", example="lnq-infer ct/*.nii.gz -m model -O predicted")
@option(
    "-m",
    "--model",
    "models",
    type=PATH,
    metavar="DIR|ZIP|NAME",
    required=True,
    multiple=True,
    help="An nnU-Net v2 results folder (fold_*, plans.json, dataset.json), a zip archive of one, "
    "or the name of a model that lnq-model fetched; given again: the mean of the models' "
    "probabilities.",
)
@LUNGS_OPTION
@option("--no-crop", "lungs", flag_value="none", help="The same as --lungs none.")
@CLASSES_OPTION.but(not_with="--lungs totalsegmentator")
@MARGIN_OPTION
@option(
    "--folds",
    type=Listed("N,...|all", "like 0,1,2, nor all", lambda fold: fold == "all" or fold.isdecimal()),
    help="Folds whose mean is taken; 'all' is the fold trained on all cases.  "
    "[default: every numbered fold that is there, else all]",
)
@option(
    "--checkpoint",
    metavar="NAME",
    help="Checkpoint file in each fold.  [default: the final one, else best, else latest]",
)
@option(
    "--label",
    type=Listed("NAME,...", "of names with commas between"),
    help="Labels or regions of the model that are lymph nodes: their union.  [default: the one "
    "that is called so, or the only one]",
)
@option(
    "--step-size",
    type=FiniteRange(0, 1, min_open=True),
    default=0.5,
    metavar="S",
    help="Step of the sliding window, in patch lengths.",
)
@option("--mirror/--no-mirror", default=True, help="Average over mirrored images (8 × the time).")
@option(
    "--orientation",
    type=Orientation(*ORIENTATIONS),
    default="auto",
    help="In which orientation the model was trained, such as LPS; stored: it sees the axes as "
    "they are stored; auto: as the model says, and else slices last.",
)
@option(
    "--threshold",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Probability above which a voxel is lymph node.  [default: as nnU-Net decides: 0.5, or "
    "the most probable of several labels]",
)
@option(
    "--probabilities",
    type=PATH,
    metavar="DIR",
    not_with="-o -",
    help="Write probability maps (float32) there, too.",
)
@REPLACE_NAN_OPTION
@TRUST_HU_OPTION
@KEEP_ANATOMY_OPTION.but(only_with="--lungs totalsegmentator")
@DOWNLOAD_OPTION.but(only_with="--lungs totalsegmentator")
@DEVICE_OPTION
@PRECISION_OPTION
@THREADS_OPTION
@option(
    "--trust-model",
    is_flag=True,
    help="Read a model that could run any code while it is read.",
)
@image_tool(
    *("models", "probabilities", "trust_hu", "trust_model", *RUNNING),
    parallel=False,
    segmentations=True,
    more_outputs={PROBABILITY: "probabilities", ANATOMY: "keep_anatomy"},
)
def main(
    batch: Batch,
    models: tuple[str, ...],
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    folds: tuple[str, ...] | None,
    checkpoint: str | None,
    label: tuple[str, ...] | None,
    step_size: float,
    mirror: bool,
    orientation: str,
    threshold: float | None,
    probabilities: str | None,
    replace_nan: float | None,
    trust_hu: bool,
    keep_anatomy: str | None,
    download: bool,
    device: str,
    precision: str,
    threads: int | None,
    trust_model: bool,
) -> None:
    """Segment lymph nodes in CTs.

    Each IMAGE is a CT. The model runs on the box of the lungs; the mask written lies on the
    CT's own grid and is 0 outside that box.
    """
    from lnqtools.images.hounsfield import read_ct
    from lnqtools.models.store import resolve
    from lnqtools.nnunet.environment import compiler_cache

    _check_models(models)
    batch.plan.check_outputs()
    models = tuple(map(resolve, models))
    making = batch.making
    for name, value in (("orientation", orientation), ("precision", precision)):
        if value == "auto":  # as before there was the option: -s keeps what was made then
            making = making.without(name)
    settings: dict[str, Any] = {
        "folds": folds,
        "checkpoint": checkpoint,
        "label": label,
        "step_size": step_size,
        "mirroring": mirror,
        "device": device,
        "precision": precision,
        "threads": threads,
        "trust": trust_model,
        "orientation": orientation,
    }
    unpacked = ExitStack()

    @cache
    def ensemble() -> Ensemble:
        loaded = _load_models(batch, models, folders, cropped=lungs != "none", **settings)
        unpacked.close()  # the weights stay mapped; a killed run leaves no archive's contents
        return loaded

    with compiler_cache(), unpacked:
        folders = [unpacked.enter_context(_opened(model, folds, checkpoint)) for model in models]
        making = making.adding(
            options={"model": _digests(models, folders, folds, checkpoint)},
            contents={"model": _metadata_digests(models, folders)},
        )
        batch = replace(batch, making=making)
        running = Running(device, threads, download)
        with lung_finder(batch, lungs, classes, margin, running) as (batch, find):
            if not nothing_to_do(batch):
                ensemble()  # a model that cannot be loaded fails once, not once a case
            inference = Inference(
                ensemble,
                find,
                reader=partial(read_ct, replace_nan=replace_nan, trust_hu=trust_hu),
                series=partial(read_series, trust_hu=trust_hu),
                find_first=lungs != TOTALSEGMENTATOR,
                threshold=threshold,
                progress=Progress(batch),
            )
            end(batch.run(inference.segment, load=inference.load))


@dataclass(frozen=True)
class Inference:
    """What is done with each CT: its box is found, and the models run within.

    Parameters
    ----------
    ensemble : callable
        Returns the models, which it loads once.
    find : callable
        Returns the box of the lungs in a CT.
    reader, series : callable
        Read a CT from a file, and from a folder of DICOM files.
    find_first : bool
        Whether a case may be prepared while the network is at work on another one, because to find
        its box does not take the network's device.
    threshold : float or None
    progress : Progress
    """

    ensemble: Callable[[], Ensemble]
    find: Callable[[Case, Volume], Box]
    reader: Callable[[str], Volume]
    series: Callable[[str], Volume]
    find_first: bool
    threshold: float | None
    progress: Progress

    def load(self, case: Case) -> Loaded | Volume:
        """Read a CT and make it what the networks see; or the CT, if its box is found later."""
        ct = case.read(self.reader, self.series)
        ct.grid.require_axes()
        return self._prepared(case, ct) if self.find_first else ct

    def _prepared(self, case: Case, ct: Volume) -> Loaded:
        from lnqtools.images.volume import Volume

        box = self.find(case, ct)
        part = Volume(ct.array[box], ct.grid.cropped(box))
        return Loaded(ct.grid, box, part.grid, self.ensemble().prepare(part))

    def segment(self, case: Case, loaded: Loaded | Volume) -> Later[None] | None:
        """Predict within the box, and write the result on the CT's grid.

        Beside another device than the CPU it is written while the next case is predicted.
        """
        ready = loaded if isinstance(loaded, Loaded) else self._prepared(case, loaded)
        ensemble = self.ensemble()
        result = ensemble.predict_prepared(
            ready.prepared,
            threshold=self.threshold,
            with_probability=PROBABILITY in case.planned.outputs,
            progress=self.progress.begin(case, ensemble.workload(ready.part)),
        )
        for note in result.notes:
            case.warn(note)
        facts = _turned(case, ready.grid, ensemble)
        write = partial(_write, result=result, grid=ready.grid, box=ready.box, facts=facts)
        return write(case) if ensemble.device.type == "cpu" else Later(write)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What is known of a CT before a network sees it; the CT itself is no longer needed.

    Parameters
    ----------
    grid : Grid
        Of the CT.
    box : Box
        Of the lungs.
    part : Grid
        Of the box.
    prepared : sequence of Prepared
        For each model.
    """

    grid: Grid
    box: Box
    part: Grid
    prepared: Sequence[Prepared]


def _write(
    case: Case, *, result: Prediction, grid: Grid, box: Box, facts: Mapping[str, Any]
) -> None:
    """Write what was found within a box on the grid of the CT."""
    import numpy as np

    from lnqtools.images.volume import Volume

    for what, values in ((IMAGE, result.mask), (PROBABILITY, result.probability)):
        if values is not None:
            whole = np.zeros(grid.shape, values.dtype)
            whole[box] = values
            case.write(Volume(whole, grid), what, facts)


class Progress:
    """Shows how far the case at work is, and when it will be done."""

    def __init__(self, batch: Batch):
        self._teller = Teller(batch.tool, quiet=batch.quiet)
        self._numbers = {case.name: number for number, case in enumerate(batch.cases, start=1)}
        self._forecast = Forecast()

    def begin(self, case: Case, work: Workload) -> Callable[[int], None]:
        """Show that a case begins; return what is told of voxels that are done."""

        def show() -> None:
            self._teller.tell(
                f"{self._numbers[case.name]} of {len(self._numbers)}: {case.name}: "
                f"{work.patches} patches, {work.passes} passes: {self._forecast}"
            )

        def advance(voxels: int) -> None:
            self._forecast.advance(voxels)
            show()

        self._forecast.begin(work.voxels)
        show()
        return advance


def _turned(case: Case, grid: Grid, ensemble: Ensemble) -> dict[str, str]:
    """Return what the record says where models see the axes in an order that is assumed."""
    seen = ensemble.assumed_orientation(grid)
    if seen is None:
        return {}
    case.warn(
        f"its axes are stored as {grid.letters}, and the model does not say how those that it "
        f"was trained on were: it sees them as {seen}, slices last (see --orientation)"
    )
    return {"turned": f"{grid.letters} to {seen}"}


def _check_models(models: Sequence[str]) -> None:
    """Raise click.UsageError if a model is given twice."""
    seen: set[str] = set()
    for model in models:
        real = os.path.realpath(model)
        if real in seen:
            raise click.UsageError(f"-m {model} is given twice")
        seen.add(real)


@contextmanager
def _opened(model: str, folds: Sequence[str] | None, checkpoint: str | None) -> Iterator[Path]:
    """Give a model's folder; errors about it carry the path that the user gave."""
    from lnqtools.nnunet.model_folder import open_model

    with ExitStack() as stack:
        with about(model):
            folder = stack.enter_context(open_model(Path(model), folds, checkpoint))
        yield folder


def _load_models(
    batch: Batch,
    models: Sequence[str],
    folders: Sequence[Path],
    *,
    cropped: bool,
    label: Sequence[str] | None,
    device: str,
    precision: str,
    **settings: Any,
) -> Ensemble:
    """Load all models and tell what is doubtful about them, on CTs that are cropped or not."""
    from lnqtools.nnunet.checkpoint import UntrustedModelError
    from lnqtools.nnunet.environment import choose_device, require_nnunet
    from lnqtools.nnunet.precision import check_precision
    from lnqtools.nnunet.predict import Ensemble, Predictor

    require_nnunet()
    check_precision(precision, choose_device(device))  # what is wrong is not about a model
    settings |= {"label": label, "label_elsewhere": len(models) > 1}
    settings |= {"device": device, "precision": precision}
    chatter = sys.stderr if batch.verbose else None
    loaded = []
    for model, folder in zip(models, folders, strict=True):
        with about(model):
            try:
                loaded.append(Predictor(folder, chatter=chatter, **settings))
            except UntrustedModelError as error:
                hint = "only if you trust its maker, use --trust-model"
                raise LnqError(f"{error}: {hint}") from None
        for note in loaded[-1].notes:
            batch.say(f"warning: {model}: {note}")
        if cropped and loaded[-1].normalizes_by_image:
            batch.say(
                f"warning: {model}: normalizes each image by its own values, here those of the "
                "lungs' box; a model that was trained on whole CTs needs --lungs none"
            )
    for name in label or ():
        if not any(name in one.node.names for one in loaded):
            raise LnqError(f"--label {name}: none of the models has such a label")
    return Ensemble(loaded)


def _digests(
    models: Sequence[str],
    folders: Sequence[Path],
    folds: Sequence[str] | None,
    checkpoint: str | None,
) -> str | list[str]:
    """Return what tells weights apart, whatever their folders are called; one, or a list."""
    from lnqtools.nnunet.checkpoint import checkpoint_digest
    from lnqtools.nnunet.model_folder import find_checkpoints

    found = []
    for model, folder in zip(models, folders, strict=True):
        with about(model):
            found.append(checkpoint_digest(find_checkpoints(folder, folds, checkpoint)))
    return found[0] if len(found) == 1 else found


def _metadata_digests(models: Sequence[str], folders: Sequence[Path]) -> dict[str, str]:
    """Return for each model what tells its plans and its labels from others."""
    from lnqtools.nnunet.model_folder import metadata_digest

    found = {}
    for model, folder in zip(models, folders, strict=True):
        with about(model):
            found[model] = metadata_digest(folder)
    return found
