"""lnq-infer: CTs → lymph node masks, by a trained nnU-Net model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import ORIENTATIONS
from lnqtools.cli._batch import Batch, about
from lnqtools.cli._contract import image_tool
from lnqtools.cli._forecast import Forecast
from lnqtools.cli._lungs import lung_finder
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    LUNGS_OPTION,
    MARGIN_OPTION,
    REPLACE_NAN_OPTION,
    TRUST_HU_OPTION,
)
from lnqtools.cli._plan import Case
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command, show_progress
from lnqtools.cli._totalseg import (
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
    nothing_to_do,
)
from lnqtools.cli._values import PATH, FiniteRange, Listed, Orientation
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.nnunet.predict import Ensemble


@command("lnq-infer")
@option(
    "-m",
    "--model",
    "models",
    type=PATH,
    metavar="DIR|ZIP",
    required=True,
    multiple=True,
    help="An nnU-Net v2 results folder (fold_*, plans.json, dataset.json), or a zip archive of "
    "one; given again: the mean of the models' probabilities.",
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
@THREADS_OPTION
@option(
    "--trust-model",
    is_flag=True,
    help="Read a model that could run any code while it is read.",
)
@image_tool("models", "probabilities", "trust_hu", "trust_model", *RUNNING, parallel=False)
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
    threads: int | None,
    trust_model: bool,
) -> None:
    """Segment lymph nodes in CTs.

    Each IMAGE is a CT. The model runs on the box of the lungs; the mask written lies on the
    CT's own grid and is 0 outside that box.
    """
    import numpy as np

    from lnqtools.images.box import Box
    from lnqtools.images.hounsfield import read_ct
    from lnqtools.images.volume import Volume
    from lnqtools.nnunet.environment import compiler_cache

    batch.also_into = tuple(place for place in (probabilities, keep_anatomy) if place is not None)
    _check_models(models)
    if orientation == "auto":  # as before there was the option: -s keeps what was made then
        del batch.options["orientation"]
    batch.check_outputs()
    unpacked = ExitStack()
    forecast = Forecast()
    numbers = {case.name: number for number, case in enumerate(batch.cases, start=1)}

    @cache
    def ensemble() -> Ensemble:
        loaded = _load_models(
            batch,
            models,
            folders,
            folds=folds,
            checkpoint=checkpoint,
            label=label,
            step_size=step_size,
            mirroring=mirror,
            device=device,
            threads=threads,
            trust=trust_model,
            orientation=orientation,
            cropped=lungs != "none",
        )
        unpacked.close()  # the weights stay mapped; a killed run leaves no archive's contents
        return loaded

    def load(case: Case, find: Callable[[Case, Volume], Box]) -> tuple[Volume, Box | None]:
        """Read a CT and find the box to work in, unless that would take the network's device."""
        ct = batch.read(case, partial(read_ct, replace_nan=replace_nan, trust_hu=trust_hu))
        ct.grid.require_axes()
        return ct, None if lungs == TOTALSEGMENTATOR else find(case, ct)

    def segment(
        case: Case,
        loaded: tuple[Volume, Box | None],
        find: Callable[[Case, Volume], Box],
    ) -> None:
        """Predict within the box and write the result on the CT's grid."""
        ct, found = loaded
        box = found or find(case, ct)
        part = Volume(ct.array[box], ct.grid.cropped(box))
        work = ensemble().workload(part.grid)

        def show() -> None:
            if not batch.quiet:
                show_progress(
                    f"{batch.tool}: {numbers[case.name]} of {len(numbers)}: {case.name}: "
                    f"{work.patches} patches, {work.passes} passes: {forecast}"
                )

        def progress(voxels: int) -> None:
            forecast.advance(voxels)
            show()

        forecast.begin(work.voxels)
        show()
        result = ensemble().predict(
            part,
            threshold=threshold,
            with_probability=probabilities is not None,
            progress=progress,
        )
        facts = {}
        if (seen := ensemble().assumed_orientation(ct.grid)) is not None:
            stored = ct.grid.letters
            facts = {"turned": f"{stored} to {seen}"}
            batch.warn(
                f"its axes are stored as {stored}, and the model does not say how those that it "
                f"was trained on were: it sees them as {seen}, slices last (see --orientation)"
            )
        for number, values in enumerate((result.mask, result.probability)):
            if values is not None:
                whole = np.zeros(ct.array.shape, values.dtype)
                whole[box] = values
                batch.write(case, Volume(whole, ct.grid), number, facts)

    with compiler_cache(), unpacked:
        folders = [unpacked.enter_context(_opened(model, folds, checkpoint)) for model in models]
        batch.options["model"] = _digests(models, folders, folds, checkpoint)
        batch.contents["model"] = _metadata_digests(models, folders)
        with lung_finder(
            batch,
            lungs,
            classes,
            margin,
            keep_anatomy=keep_anatomy,
            download=download,
            device=device,
            threads=threads,
        ) as find:
            if not nothing_to_do(batch):
                ensemble()  # a model that cannot be loaded fails once, not once a case
            batch.run(partial(segment, find=find), load=partial(load, find=find))


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
    **settings: Any,
) -> Ensemble:
    """Load all models and tell what is doubtful about them, on CTs that are cropped or not."""
    from lnqtools.nnunet.checkpoint import UntrustedModelError
    from lnqtools.nnunet.environment import choose_device, require_nnunet
    from lnqtools.nnunet.predict import Ensemble, Predictor

    require_nnunet()
    choose_device(device)  # what is wrong with it is not about a model
    settings |= {"label": label, "label_elsewhere": len(models) > 1, "device": device}
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
        if cropped and loaded[-1].normalises_by_image:
            batch.say(
                f"warning: {model}: normalises each image by its own values, here those of the "
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
