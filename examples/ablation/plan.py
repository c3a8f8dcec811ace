"""What the workflow is to do: the configuration, checked before any work is started."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
STEPS = ("crop", "anatomy", "weaklabel", "pseudolabel", "train", "infer", "metrics")
NAMED_CASES = 5
"""Cases that a message names before it only counts."""

UNLISTABLE = re.compile(r"[\n\r\\\udc80-\udcff]")
"""What sha256sum does not print as it is, and the bytes of names that are not UTF-8."""

Config = Mapping[str, Any]


class PlanError(ValueError):
    """The configuration or the folders it names cannot be used; a sentence for a person."""


@dataclass(frozen=True)
class Job:
    """What one job of a step takes: cases, cores, memory at the first try, time, GPUs."""

    cases: int
    cores: int
    memory_mb: int
    minutes: int
    gpus: int


class Plan:
    """The cohorts, the models and the lists of cases.

    Parameters
    ----------
    config : mapping
        As ``config.yaml`` explains it.

    Attributes
    ----------
    models : dict
        Model → cohort → labeling.
    lists : dict
        Name of a list (``cohort/ct``, ``cohort/labeling``, ``test/ct``) → paths, sorted by case.

    Raises
    ------
    PlanError
        For a setting that is missing or unknown, and for CTs without annotation or annotations
        without CT, all of them named.
    """

    def __init__(self, config: Config):
        try:
            self.out: str = config["out"]
            self.lungs: str = config["lungs"]
            self.recipe: str = config["recipe"]
            self.seeds = [int(seed) for seed in config["seeds"]]
            self.folds = [str(fold) for fold in config["folds"]]
            self.cohorts: dict[str, Config] = dict(config["cohorts"])
            self.test: Config = config["test"]
            self.models = _chosen(config["models"], config.get("only"))
            self.jobs = {step: Job(**{"gpus": 0, **config["jobs"][step]}) for step in STEPS}
            self._check_names()
            self.lists = self._find_cases()
        except KeyError as error:
            raise PlanError(f"the configuration lacks {error}") from None
        except TypeError as error:
            raise PlanError(f"the configuration is not of its form: {error}") from None
        self._train_options: str = config.get("train") or ""
        self._own_options = {str(m): text for m, text in (config.get("train_of") or {}).items()}
        for model in self._own_options.keys() - set(map(str, config["models"])):
            raise PlanError(f"train_of: there is no model {model}")
        self.infer_options: str = config.get("infer") or ""
        named = [str(name) for name in config.get("overlap") or ()]
        self.overlap = [name for name in named if name in self.models] or list(self.models)

    def labeling(self, cohort: str, name: str) -> Config:
        """Return how a cohort's labels are made."""
        return self.cohorts[cohort]["labels"][name]

    def train_options(self, model: str) -> str:
        """Return the options of lnq-train for a model: those of all, then its own."""
        return f"{self._train_options} {self._own_options.get(model, '')}".strip()

    def fills(self, cohort: str, name: str) -> bool:
        """Tell whether lnq-pseudolabel fills these labels."""
        return "pseudolabel" in self.labeling(cohort, name)

    def known_structures(self, cohort: str, name: str) -> list[str]:
        """Return the option that makes known anatomy background in these labels, or nothing."""
        has_them = self.labeling(cohort, name).get("structures", True)
        return ["--anatomy", self.anatomy(cohort)] if has_them else []

    def anatomy_is_given(self, cohort: str) -> bool:
        """Tell whether a cohort comes with its TotalSegmentator maps; without, they are made."""
        return bool(self._data(cohort).get("anatomy"))

    def anatomy(self, cohort: str) -> str:
        """Return the folder of a cohort's TotalSegmentator maps."""
        return self._data(cohort).get("anatomy") or f"{self.out}/anatomy/{cohort}"

    def lungs_of(self, cohort: str) -> str:
        """Return what ``--lungs`` is for a cohort."""
        return self.anatomy(cohort) if self.lungs == "anatomy" else self.lungs

    def shards(self, name: str, step: str) -> int:
        """Return how many jobs share a list in a step."""
        return ceil(len(self.lists[name]) / self.jobs[step].cases)

    def fingerprint(self, name: str) -> str:
        """Return what tells a list from one with other cases."""
        return hashlib.sha256("\n".join(self.lists[name]).encode()).hexdigest()[:12]

    def _data(self, cohort: str) -> Config:
        return self.test if cohort == "test" else self.cohorts[cohort]

    def _check_names(self) -> None:
        if not self.models:
            raise PlanError("there is no model")
        if not self.seeds or not self.folds:
            raise PlanError("seeds and folds must name at least one each")
        if "test" in self.cohorts:
            raise PlanError("a cohort cannot be called test")
        for model, row in self.models.items():
            if not row:
                raise PlanError(f"model {model} has no cohort")
            for cohort, labels in row.items():
                if cohort not in self.cohorts:
                    raise PlanError(f"model {model}: there is no cohort {cohort}")
                if labels not in self.cohorts[cohort]["labels"]:
                    raise PlanError(f"model {model}: cohort {cohort} has no labels {labels}")

    def _find_cases(self) -> dict[str, list[str]]:
        """List the cases of the cohorts that models use, and hold the folders to each other."""
        lists = {}
        used = {(cohort, labels) for row in self.models.values() for cohort, labels in row.items()}
        for cohort in sorted({cohort for cohort, _ in used}):
            data = self.cohorts[cohort]
            found = {"ct": images_by_case(data["ct"])}
            for name in sorted(labels for of, labels in used if of == cohort):
                found[name] = images_by_case(self.labeling(cohort, name)["annotations"])
            excluded = _excluded(cohort, data.get("exclude") or (), found.values())
            kept = {name: _without(cases, excluded) for name, cases in found.items()}
            for name, cases in kept.items():
                _check_pairs(f"cohort {cohort}, labels {name}", kept["ct"], cases)
                lists[f"{cohort}/{name}"] = list(cases.values())
            if not kept["ct"]:
                raise PlanError(f"cohort {cohort}: all cases are excluded")
        cts = images_by_case(self.test["ct"])
        _check_pairs("test", cts, images_by_case(self.test["truth"]))
        return lists | {"test/ct": list(cts.values())}


def _chosen(models: Config, only: Iterable[Any] | None) -> dict[str, Config]:
    """Return the rows of the table of models, all or only some."""
    rows = {str(name): dict(row) for name, row in models.items()}
    if only is None:
        return rows
    names = [str(name) for name in only]
    if unknown := [name for name in names if name not in rows]:
        raise PlanError(f"only: there is no model {unknown[0]}")
    return {name: rows[name] for name in names}


def _excluded(cohort: str, named: Iterable[Any], found: Iterable[Mapping[str, str]]) -> set[str]:
    """Return the cases that a cohort does without, or refuse names that no image has."""
    cases = set().union(*found)
    for name in named:
        if not isinstance(name, str):  # YAML takes 001 for a number
            raise PlanError(
                f"cohort {cohort}: exclude: write {name} in quotes, as the case is named"
            )
        if name not in cases:
            raise PlanError(f"cohort {cohort}: exclude: there is no case {name}")
    return set(named)


def _without(cases: Mapping[str, str], excluded: set[str]) -> dict[str, str]:
    return {case: path for case, path in cases.items() if case not in excluded}


def images_by_case(folder: str) -> dict[str, str]:
    """Return case name → path of a folder's images, sorted by case.

    Raises
    ------
    PlanError
        If there is no such folder, it holds no images, two of them are of one case, or one has a
        name that a list of paths cannot hold.
    """
    if not Path(folder).is_dir():
        raise PlanError(f"{folder}: no such folder")
    found: dict[str, str] = {}
    for path in Path(folder).iterdir():
        suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
        if suffix is None or path.name.startswith("."):
            continue
        case = path.name.removesuffix(suffix).removesuffix("_0000")
        if case in found:
            raise PlanError(f"{folder} has more than one image of case {case}")
        if UNLISTABLE.search(str(path)):
            raise PlanError(
                f"{str(path)!r}: the workflow takes no line ends, backslashes, or names that are "
                "not UTF-8"
            )
        found[case] = str(path)
    if not found:
        raise PlanError(f"{folder}: there are no images in it")
    return dict(sorted(found.items()))


def _check_pairs(what: str, cts: Iterable[str], annotations: Iterable[str]) -> None:
    """Refuse CTs without annotation, and annotations without CT."""
    for missing, of, where in (
        (set(cts) - set(annotations), "annotation", "CTs"),
        (set(annotations) - set(cts), "CT", "annotations"),
    ):
        if missing:
            names = sorted(missing)
            more = f" and {len(names) - NAMED_CASES} more" if len(names) > NAMED_CASES else ""
            raise PlanError(
                f"{what}: {where} without {of}: {', '.join(names[:NAMED_CASES])}{more}; "
                "exclude them, or add what is missing"
            )
