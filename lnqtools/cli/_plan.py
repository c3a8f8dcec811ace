"""Which cases a run has and which files each of them becomes: settled before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import starmap
from pathlib import Path

import click

from lnqtools.cli._names import STREAM, name_of, naming_hint, not_plain_files
from lnqtools.cli._output import check_directory, check_writable, make_directory

IMAGE = "image"
"""The output that a tool is for, and whose path it prints."""


@dataclass(frozen=True)
class Planned:
    """One input and what is to be made of it.

    Parameters
    ----------
    name : str
        Of the case.
    source : str
        The input as it was given, ``-`` for standard input.
    outputs : mapping
        What is made → the file that it goes to; the first is the one whose path is printed.
    """

    name: str
    source: str
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The files, the first one being the one whose path is printed."""
        return list(self.outputs.values())

    def writes_to(self, paths: Iterable[str | Path]) -> list[str | Path]:
        """Return those of some paths that are outputs of this case."""
        targets = set(map(os.path.realpath, self.targets))
        return [path for path in paths if os.path.realpath(path) in targets]


@dataclass(frozen=True)
class Plan:
    """The cases of a run.

    Parameters
    ----------
    cases : tuple of Planned
        In input order.
    elsewhere : tuple of (str, str)
        Input and name of those of other shards.
    output : str, optional
        The one file that is written (``-``: standard output).
    folders : tuple of Path
        The directories that are written to.
    """

    cases: tuple[Planned, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    output: str | None = None
    folders: tuple[Path, ...] = ()

    def check_outputs(self) -> None:
        """Refuse impossible outputs before anything is made.

        Raises
        ------
        click.UsageError
            If an output directory is a file.
        LnqError
            If an output directory cannot be made or written to.
        """
        for folder in self.folders:
            check_directory(folder)
        if self.output not in (None, STREAM):
            check_writable(Path(self.output).parent)

    def make_room(self) -> None:
        """Make the output directories, and remove what killed runs left there."""
        from lnqtools.files.atomic import remove_stale_temporaries

        for folder in self.folders:
            make_directory(folder)
        if self.output not in (None, STREAM):
            remove_stale_temporaries(Path(self.output).parent)


def make_plan(
    sources: Iterable[str],
    elsewhere: Iterable[str] = (),
    *,
    output: str | None = None,
    folders: Mapping[str, str] | None = None,
    suffix: str = ".nii.gz",
    pattern: re.Pattern[str] | None = None,
    same_names: bool = False,
) -> Plan:
    """Name the cases of a run and their outputs.

    Parameters
    ----------
    sources, elsewhere : iterable of str
        The inputs, and those of other shards.
    output : str, optional
        The file that the image of the one input goes to.
    folders : mapping, optional
        What else is made → the directory where each case has a file of it.
    suffix : str
        Suffix of these files.
    pattern : re.Pattern, optional
        Finds the name of a case in a path.
    same_names : bool
        Whether inputs may have the same case name, where no images are written.

    Raises
    ------
    click.UsageError
        If two inputs, of whatever shards, would write the same output, or an output is one of the
        inputs, or the pattern does not name each.
    """
    folders = folders or {}
    begins = {what: str(Path(folder) / "a")[:-1] for what, folder in folders.items()}

    def planned(source: str, name: str) -> Planned:
        outputs = {} if output is None else {IMAGE: output}
        outputs |= {what: f"{begin}{name}{suffix}" for what, begin in begins.items()}
        return Planned(name, source, outputs)

    own, others = (
        [(source, name_of(source, pattern)) for source in each] for each in (sources, elsewhere)
    )
    cases = tuple(starmap(planned, own))
    plan = Plan(cases, tuple(others), output, tuple(map(Path, folders.values())))
    if pattern is None and _are_apart(plan, same_names):
        others = []
    _refuse_collisions([*cases, *starmap(planned, others)], plan, same_names)
    return plan


def _are_apart(plan: Plan, same_names: bool) -> bool:
    """Tell whether no case of the shard can collide with one of another, by their names.

    That spares a look at each path, seconds of 100 000. Where names differ and no link is about,
    an output can be another's input only if it is there and that file is called as it is.
    """
    if plan.output is not None:
        return False
    sources = [case.source for case in plan.cases]
    if any(map(os.path.lexists, _targets(plan))):
        others = [source for source, _ in plan.elsewhere]
        made = {target.rpartition("/")[2] for target in _targets(plan)}
        if any(source.rpartition("/")[2] in made for source in others):
            return False
        if any(map(_holds_link, plan.folders)):
            return False
        sources += others
    if any(map(os.path.islink, not_plain_files(sources))):
        return False
    names = [*(case.name for case in plan.cases), *(name for _, name in plan.elsewhere)]
    any_name = same_names and not plan.folders
    return any_name or len(set(names)) == len(names)


def _holds_link(folder: Path) -> bool:
    """Tell whether a link lies in a folder, or may: one that is not there yet has none."""
    try:
        return any(file.is_symlink() for file in os.scandir(folder))
    except FileNotFoundError:
        return False
    except OSError:  # what is wrong with the folder is said later
        return True


def _targets(plan: Plan) -> Iterator[str]:
    return (target for case in plan.cases for target in case.targets)


def _real_paths() -> Callable[[str], str]:
    """Return a function that does as `os.path.realpath`, and looks at each folder once."""
    real_folder = cache(os.path.realpath)

    def real_path(path: str) -> str:
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114  of 100 000 paths
            return os.path.realpath(path)
        return os.path.join(real_folder(folder), name)  # noqa: PTH118

    return real_path


def _refuse_collisions(cases: Sequence[Planned], plan: Plan, same_names: bool) -> None:
    """Raise click.UsageError if some of the cases, those of the shard first, collide."""
    owners: dict[str, str] = {}
    real_path = _real_paths()
    inputs = {real_path(case.source) for case in cases}

    def own(what: str, case: Planned, how: str) -> None:
        if what in owners:
            hint = naming_hint(owners[what], case.source)
            raise click.UsageError(f"{owners[what]} and {case.source} {how}{hint}")
        owners[what] = case.source

    for number, case in enumerate(cases):
        if not case.outputs and not same_names:
            own(case.name, case, f"are both named {case.name}")
        for target in case.targets:
            is_elsewhere = number >= len(plan.cases)  # each shard has another --output
            if target == STREAM or (target == plan.output and is_elsewhere):
                continue
            real = real_path(target)
            if real in inputs:
                raise click.UsageError(f"{target} is an input and would be overwritten")
            own(real, case, f"would both write {target}")
