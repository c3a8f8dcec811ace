"""Which cases validate which fold: nnU-Net's split, by patient and cohort, stable as cases come."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnqtools.errors import LnqError

FOLD_COUNT = 5
SPLIT_SEED = 12345
"""nnU-Net's own, so that the folds are those that nnU-Net would make."""

Splits = list[dict[str, list[str]]]
"""nnU-Net's ``splits_final.json``: of each fold the cases to train on and to validate on."""


@dataclass(frozen=True)
class Folds:
    """How cases are split.

    Parameters
    ----------
    count : int
    group_regex : str, optional
        Finds the patient in a case's name: its first group, or all of the match. Cases of one
        patient are never in two folds. Without it each case is a patient.
    kept : list of dict, optional
        An earlier split. Its cases keep their folds; a patient that it does not have goes to
        the fold with the fewest cases of its cohort.
    """

    count: int = FOLD_COUNT
    group_regex: str | None = None
    kept: Splits | None = None


def patients(names: Sequence[str], group_regex: str | None) -> dict[str, list[str]]:
    """Return the cases of each patient, both in order of their names.

    Raises
    ------
    LnqError
        If the regular expression is not one, or does not match a name.
    """
    if group_regex is None:
        return {name: [name] for name in sorted(names)}
    try:
        pattern = re.compile(group_regex)
    except re.error as error:
        raise LnqError(
            f"--group-regex {group_regex!r} is not a regular expression: {error}"
        ) from None
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        match = pattern.search(name)
        if match is None:
            raise LnqError(f"--group-regex {group_regex!r} does not match the case name {name}")
        patient = match[1] if pattern.groups and match[1] is not None else match[0]
        found.setdefault(patient, []).append(name)
    return dict(sorted(found.items()))


def make_splits(
    names: Sequence[str], folds: Folds | None = None, cohorts: Mapping[str, str] | None = None
) -> Splits:
    """Split cases into folds.

    Of one cohort, without a group and an earlier split, these are nnU-Net's own folds. Several
    cohorts are each spread evenly over the folds: by chance all completely annotated cases, if
    they are few, could fall into one.

    Parameters
    ----------
    names : sequence of str
    folds : Folds, optional
    cohorts : mapping, optional
        Case → cohort; a patient is of the cohort of the first of its cases.

    Raises
    ------
    LnqError
        If there are fewer patients than folds, or the earlier split does not fit.
    """
    folds = folds or Folds()
    groups = patients(names, folds.group_regex)
    if len(groups) < folds.count:
        kind = "patient" if folds.group_regex else "case"
        raise LnqError(
            f"{len(groups)} {kind}s are fewer than {folds.count} folds: use --folds "
            f"{len(groups)}, or --fold all"
            if len(groups) > 1
            else f"a single {kind} cannot be split into folds: use --fold all"
        )
    cohort_of = {patient: (cohorts or {}).get(cases[0], "") for patient, cases in groups.items()}
    if folds.kept is not None:
        fold_of = _spread(sorted(groups), groups, cohort_of, _kept(groups, folds), folds.count)
    elif len(set(cohort_of.values())) > 1:
        shuffled = random.Random(SPLIT_SEED).sample(sorted(groups), len(groups))
        fold_of = _spread(shuffled, groups, cohort_of, {}, folds.count)
    else:
        fold_of = _split_as_nnunet(groups, folds.count)
    validated: list[list[str]] = [[] for _ in range(folds.count)]
    for patient, cases in groups.items():
        validated[fold_of[patient]] += cases
    if not all(validated):
        raise LnqError(f"fold {validated.index([])} has no case: give --splits another file")
    return [{"train": sorted(set(names) - set(part)), "val": sorted(part)} for part in validated]


def _split_as_nnunet(groups: Mapping[str, Sequence[str]], count: int) -> dict[str, int]:
    """Return the fold of each patient, as nnU-Net splits cases."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    splits = generate_crossval_split(list(groups), seed=SPLIT_SEED, n_splits=count)
    return {str(name): fold for fold, split in enumerate(splits) for name in split["val"]}


def _spread(
    order: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    cohort_of: Mapping[str, str],
    known: Mapping[str, int],
    count: int,
) -> dict[str, int]:
    """Return the fold of each patient: the known one, or that with the fewest of its cohort.

    Of several such folds it is the one with the fewest cases of all.
    """
    fold_of = dict(known)
    sizes: Counter[tuple[int, str | None]] = Counter()  # None: of all cohorts

    def put(patient: str, fold: int) -> None:
        fold_of[patient] = fold
        for cohort in (cohort_of[patient], None):
            sizes[fold, cohort] += len(groups[patient])

    for patient, fold in known.items():
        put(patient, fold)
    for patient in order:
        if patient not in known:
            cohort = cohort_of[patient]
            put(patient, min(range(count), key=lambda k: (sizes[k, cohort], sizes[k, None])))
    return fold_of


def _kept(groups: Mapping[str, Sequence[str]], folds: Folds) -> dict[str, int]:
    """Return the earlier fold of each patient that has one."""
    earlier = _earlier_folds(folds)
    fold_of: dict[str, int] = {}
    for patient, cases in groups.items():
        known = sorted({earlier[case] for case in cases if case in earlier})
        if len(known) > 1:
            raise LnqError(
                f"the cases of patient {patient} are in folds {known[0]} and {known[1]} of --splits"
            )
        if known:
            fold_of[patient] = known[0]
    return fold_of


def _earlier_folds(folds: Folds) -> dict[str, int]:
    """Return the fold that validates each case of the earlier split."""
    assert folds.kept is not None
    if len(folds.kept) != folds.count:
        raise LnqError(f"--splits has {len(folds.kept)} folds, not {folds.count}")
    return {case: fold for fold, split in enumerate(folds.kept) for case in split["val"]}


def checked_splits(content: Any) -> Splits:
    """Return what a ``splits_final.json`` holds.

    Raises
    ------
    LnqError
        If it is not such a file, or a case is validated in two folds.
    """
    is_split = isinstance(content, list) and all(
        isinstance(part, dict)
        and isinstance(part.get("val"), list)
        and all(isinstance(name, str) for name in part["val"])
        for part in content
    )
    if not is_split or not content:
        raise LnqError("is not a splits_final.json of nnU-Net: a list of {train: […], val: […]}")
    names = [name for part in content for name in part["val"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LnqError(f"validates the case {twice[0]} in two folds")
    return content
