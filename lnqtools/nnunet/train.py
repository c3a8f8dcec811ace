"""Training a model: from image and label files to an nnU-Net results folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output, remove_stale_temporaries
from lnqtools.files.json_files import read_json, write_json
from lnqtools.files.tables import table_lines
from lnqtools.nnunet.checkpoint import newest_checkpoint
from lnqtools.nnunet.cohorts import (
    aligned,
    cohort_rows,
    short_of_background,
    short_of_full_patches,
    stored_oddly,
)
from lnqtools.nnunet.dataset import Survey, survey_cases
from lnqtools.nnunet.environment import (
    chatter_to,
    choose_device,
    compiler_cache,
    device_words,
    require_nnunet,
    torch_threads,
)
from lnqtools.nnunet.folds import Splits, make_splits, patients
from lnqtools.nnunet.initial import (
    OUTPUTS,
    Start,
    Transfer,
    check_recipe,
    fit_to,
    initial_file,
    make_plans_from,
    opened_start,
    write_initial,
)
from lnqtools.nnunet.losses import weight_of_unknown
from lnqtools.nnunet.model_state import (
    clear,
    explain_full_disk,
    is_done,
    link_results,
    lock_fold,
    lock_model,
    make_folder,
    refuse_mixture,
    tidy_up,
)
from lnqtools.nnunet.precision import check_precision
from lnqtools.nnunet.prepare import (
    PLANS,
    SPLITS,
    cases_with,
    dataset_folder,
    planned_batch,
    planned_cases,
    preprocess,
    write_plans,
)
from lnqtools.nnunet.recipe_keys import ALL
from lnqtools.nnunet.recipes import Recipe, find_recipe
from lnqtools.nnunet.record import add_sums, begin_record, is_same, last_run, made_with
from lnqtools.nnunet.runs import TRAINER, FoldRun, check_gpus, run_fold
from lnqtools.nnunet.sampling import guaranteed_patches
from lnqtools.nnunet.settings import Listeners, RunSettings, TrainingData

if TYPE_CHECKING:
    from lnqtools.nnunet.predict import Predictor

COHORT_TABLE = "cohorts.tsv"

NO_BACKGROUND = (
    "no voxel of a case{} is labeled background: the network would learn to call everything lymph "
    "node; give the labels background (lnq-pseudolabel --anatomy, lnq-weaklabel --strategy coat), "
    "or add completely annotated cases; --allow-no-background trains all the same"
)


@compiler_cache()
def train(
    data: TrainingData,
    folder: str | os.PathLike[str],
    recipe: Recipe | str = "paper",
    run: RunSettings | None = None,
    listeners: Listeners | None = None,
) -> Path:
    """Train one fold of a model, that of the recipe.

    Parameters
    ----------
    data : TrainingData
        Cases, and how they are drawn and split.
    folder : path-like
        Of the model: nnU-Net's results folder, with ``lnq-train.json`` beside ``plans.json`` and
        ``training.tsv`` and ``training.png`` in each fold. It may hold other folds of the model.
    recipe : Recipe or str
        How the model is trained; or the name of a recipe that comes along, or its file.
    run : RunSettings, optional
        Seed, device, validation, and what to do about a fold that is there; by default such a
        fold is refused.
    listeners : Listeners, optional
        Who is told how it goes; by default nobody.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    LnqError
        If cases cannot be used (`lnqtools.nnunet.dataset.InvalidCasesError` then holds
        every problem), if ``run.existing`` forbids, if the recipe or the cases differ from
        those of the model's other folds or checkpoint, or if ``run.init`` does not fit.
    MissingExtraError
        If torch or nnunetv2 is not installed.

    Examples
    --------
    ::

        cases = [TrainingCase(p.name, p, Path("labels", p.name)) for p in Path("cts").iterdir()]
        recipe = find_recipe("paper").with_changes({"fold": "all", "epochs": 500})
        train(TrainingData(cases), "model", recipe, RunSettings(existing="keep", seed=1))
    """
    require_nnunet()
    if not data.cases:
        raise LnqError("there are no cases to train on")
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    settings, listeners = run or RunSettings(), listeners or Listeners()
    model = Path(folder)
    with opened_start(settings.init, recipe.fold, listeners.chatter) as start:
        _train(data, model, recipe, settings, listeners, start)
    return model


def _train(
    data: TrainingData,
    model: Path,
    recipe: Recipe,
    settings: RunSettings,
    listeners: Listeners,
    start: Start | None,
) -> None:
    """Train one fold, from ``start`` if it has not begun."""
    digest = start.digest if start else None
    made = made_with(data.cases, recipe, settings.seed, data.weights, data.folds, digest)
    if start:
        check_recipe(start, recipe)
        _refuse_itself(start, model)
    if settings.validate and recipe.fold == ALL:
        raise LnqError("fold all has no validation cases: train single folds to validate them")
    fold = model / f"fold_{recipe.fold}"
    done = is_done(model, fold, made, settings.existing)
    if done:
        listeners.notify(f"{fold} is trained already: nothing to do")
    else:
        refuse_mixture(model, fold, made)
    device = choose_device(settings.device)
    check_precision(settings.precision, device)
    fold_run = FoldRun(model, recipe, settings, listeners, device)
    if not done:
        check_gpus(fold_run)
        with (
            chatter_to(listeners.chatter),
            torch_threads(settings.threads),
            explain_full_disk(model),
            ExitStack() as held,
        ):
            init = _prepare(data, fold_run, made, start, held)
            run_fold(replace(fold_run, init=init))
    tidy_up(model, settings.keep_preprocessed)
    if settings.validate:
        _validate(data, fold_run)
    if settings.validate or not done:
        with lock_model(model):
            add_sums(model, fold)


def _refuse_itself(start: Start, model: Path) -> None:
    """Raise LnqError for weights of the model that is to be trained: -f would remove them."""
    if start.place.resolve().is_relative_to(model.resolve()):
        raise LnqError(f"--init {start.place} is of the model to be trained: use another -m")


def _prepare(
    data: TrainingData,
    run: FoldRun,
    made: Mapping[str, Any],
    start: Start | None,
    held: ExitStack,
) -> dict[str, Any] | None:
    """Check, plan and preprocess the cases, as far as that has not been done; hold the fold.

    Returns what is to be recorded of the weights that the fold starts from.
    """
    names = planned_cases(run.prepared) if is_same(run.model, made) else None
    survey = None
    if names is None:
        survey = _survey(data, run)
        names = survey.names
    splits = _split(names, data, run.recipe)
    _check_fold(splits, run.recipe.fold)
    _check_cases(survey, names, splits, data, run)
    plans, initial = _start_from(start, survey, data, run)
    if start and initial:
        _tell_start(start, initial, splits, made, run)
    # All that can be refused is behind us: from here on the folder is changed.
    make_folder(run.model)
    with lock_model(run.model):
        held.enter_context(lock_fold(run.fold))
        refuse_mixture(run.model, run.fold, made)  # another fold may have begun meanwhile
        planned = planned_cases(run.prepared)
        if survey and planned and is_same(run.model, made):
            survey = None  # another fold was prepared while this one was waiting
        elif survey is None and planned is None:
            survey = _survey(data, run)  # another fold has tidied up meanwhile
        _begin_fold(run, made, prepared=survey is not None)
        if survey:
            _write_plans(survey, splits, data, run, plans)
        kept = [case for case in data.cases if case.name in names]
        preprocess(kept, run.prepared, run.listeners.status)
        if initial:
            write_initial(initial, initial_file(dataset_folder(run.prepared), run.recipe.fold))
        link_results(run.model, TRAINER)
    _tell_what_begins(names, splits, run)
    return initial.recorded(start) if start and initial else None


def _start_from(
    start: Start | None, survey: Survey | None, data: TrainingData, run: FoldRun
) -> tuple[dict[str, Any] | None, Transfer | None]:
    """Return plans that go with weights, and of these what fits a fold that has not begun."""
    if start is None:
        return None, None
    if survey is None:
        plans = read_json(dataset_folder(run.prepared) / f"{PLANS}.json")
    else:
        plans = make_plans_from(start, survey.cases, run.recipe, run.settings.seed, data.weights)
    goes_on = run.settings.existing != "replace" and newest_checkpoint(run.fold)
    return plans, None if goes_on else fit_to(start, plans, OUTPUTS)


def _tell_start(
    start: Start, initial: Transfer, splits: Splits, made: Mapping[str, Any], run: FoldRun
) -> None:
    """Say what came along of the weights, and where they have seen what validates them."""
    notify, fold = run.listeners.notify, run.recipe.fold
    its = "; network, patch, spacing and intensities are its own, where not asked for otherwise"
    notify(f"starts from {start.source}: {initial}" + (its if start.model else ""))
    validating = [] if fold == ALL else splits[int(fold)]["val"]
    seen = sum(made["cases"][name]["image"] in start.trained_on for name in validating)
    if seen:
        notify(
            f"warning: it was trained on {seen} of the {len(validating)} cases that validate fold "
            f"{fold}, which flatters: --splits with its {SPLITS} keeps them apart"
        )


def _tell_what_begins(names: Sequence[str], splits: Splits, run: FoldRun) -> None:
    """Say what is trained on, on what, and where to see how it goes."""
    fold = run.recipe.fold
    part = {"train": names, "val": names} if fold == ALL else splits[int(fold)]
    run.listeners.notify(
        f"trains on {len(part['train'])} cases and validates on {len(part['val'])}, on "
        f"{device_words(run.device, run.settings.gpus)}; {run.fold / 'training.tsv'} has a line "
        "for each epoch"
    )


def _survey(data: TrainingData, run: FoldRun) -> Survey:
    """Read and check all cases."""
    listeners = run.listeners
    return survey_cases(data.cases, listeners.status, listeners.notify, data.trust_hu)


def _split(names: Sequence[str], data: TrainingData, recipe: Recipe) -> Splits:
    """Return the folds; none if there are too few cases and fold all does not need them."""
    if recipe.fold == ALL and len(patients(names, data.folds.group_regex)) < data.folds.count:
        return []
    return make_splits(names, data.folds, {case.name: case.cohort for case in data.cases})


def _check_fold(splits: Splits, fold: str) -> None:
    """Raise LnqError if there is no such fold."""
    if fold != ALL and int(fold) >= len(splits):
        raise LnqError(f"there is no fold {fold}: there are {len(splits)} folds, from 0")


def _check_cases(
    survey: Survey | None, names: Sequence[str], splits: Splits, data: TrainingData, run: FoldRun
) -> None:
    """Raise LnqError if the fold would learn from the wrong cases; say what is odd about them."""
    recipe, notify = run.recipe, run.listeners.notify
    trained_on = set(names if recipe.fold == ALL else splits[int(recipe.fold)]["train"])
    full = survey.full if survey else cases_with(run.prepared, "full")
    _check_full(full & trained_on, run)
    background = survey.with_background if survey else cases_with(run.prepared, "background")
    is_taught = background & trained_on or weight_of_unknown(recipe.unknown)
    if not is_taught and not data.allow_no_background:
        raise LnqError(NO_BACKGROUND.format(_that_it_trains_on(recipe)))
    if left_out := [case.name for case in data.cases if case.name not in names]:
        notify(f"left out, because all is unknown there: {', '.join(left_out)}")
    if recipe.fold == ALL:
        notify("all cases are training and validation cases: pseudo-Dice flatters")


def _check_full(full: set[str], run: FoldRun) -> None:
    """Say where full_share has no fully annotated case to train on; raise if the user wants it."""
    recipe = run.recipe
    if full or not recipe.full_share:
        return
    why = f"no case{_that_it_trains_on(recipe)} is fully annotated"
    if "full_share" in recipe.asked:
        raise LnqError(
            f"full_share is {recipe.full_share:g}, but {why}; add such cases, or --set "
            "full_share=0 if the others have enough background"
        )
    asked = f"full_share {recipe.full_share:g} of the recipe {recipe.name}"
    run.listeners.notify(f"warning: {asked} has no effect: {why}")


def _that_it_trains_on(recipe: Recipe) -> str:
    return "" if recipe.fold == ALL else f" that fold {recipe.fold} trains on"


def _begin_fold(run: FoldRun, made: Mapping[str, Any], *, prepared: bool) -> None:
    """Make room for the fold and, with ``prepared``, for newly preprocessed cases; record it."""
    anew = run.settings.existing == "replace"
    clear(run.model, run.fold, prepared=prepared, this_fold=anew)
    begin_record(run.model, made, run.recipe.fold if anew else None)
    run.fold.mkdir(exist_ok=True)
    for folder in (run.model, run.fold):
        remove_stale_temporaries(folder)


def _write_plans(
    survey: Survey,
    splits: Splits,
    data: TrainingData,
    run: FoldRun,
    plans: Mapping[str, Any] | None,
) -> None:
    """Write nnU-Net's plans, the folds and the table of cohorts."""
    write_plans(
        survey,
        run.recipe,
        run.settings.seed,
        run.prepared,
        weights=data.weights,
        splits=splits,
        plans=plans,
    )
    write_json(run.model / SPLITS, splits)
    _write_cohorts(survey, data.weights, run)


def _write_cohorts(survey: Survey, weights: Mapping[str, float], run: FoldRun) -> None:
    """Write the table of cohorts, show it, and warn of what is odd about them."""
    notify = run.listeners.notify
    batch_size, _ = planned_batch(run.prepared)
    guaranteed = guaranteed_patches(run.recipe.full_share, batch_size)
    rows = cohort_rows(survey.cases, weights, guaranteed, batch_size)
    with atomic_output(run.model / COHORT_TABLE) as file:
        file.write(("\n".join(table_lines(rows)) + "\n").encode())
    for line in aligned(rows):
        notify(line)
    if odd := stored_oddly(survey.cases):
        notify(f"warning: {odd}")
    if weight_of_unknown(run.recipe.unknown):
        return  # what is unknown teaches background
    for short in short_of_background(rows):
        notify(f"warning: {short}")
    if not guaranteed and (few := short_of_full_patches(survey.cases, weights, batch_size)):
        notify(few)


def _validate(data: TrainingData, run: FoldRun) -> None:
    """Validate the fold and say how it went."""
    from lnqtools.nnunet.predict import Predictor
    from lnqtools.nnunet.validate import TABLE, gather_tables, validate_fold

    model, fold, listeners = run.model, run.recipe.fold, run.listeners
    before = last_run(model, fold)
    threads = run.settings.threads or (before["threads"] if before else None)

    def load() -> Predictor:
        return Predictor(
            model,
            folds=[fold],
            device=str(run.device),
            precision=run.settings.precision,
            threads=threads,
            chatter=listeners.chatter,
        )

    rows = validate_fold(data.cases, model, fold, load, listeners.status)
    with lock_model(model):
        gather_tables(model)
    dice = [row["dice_annotated"] for row in rows if row["dice_annotated"] is not None]
    mean = f"{sum(dice) / len(dice):.3f}" if dice else "undefined"
    listeners.notify(
        f"fold {fold}, annotated voxels only: mean Dice {mean} over {len(dice)} of {len(rows)} "
        f"validation cases; see {model / TABLE}"
    )
