"""Companions: the images that belong to a case besides its input, such as its reference or CT.

An option names a file, or a directory in which each case has one image of its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lnqtools.cli._making import parameter_of
from lnqtools.cli._names import files_by_case, folders_by_case, is_one_file, near_names, same_name
from lnqtools.cli._plan import Planned
from lnqtools.errors import LnqError

OF_STRUCTURES = frozenset({"anatomy", "lungs", "vessels", "outside"})
"""Parameters whose companion may be a folder with one mask per structure."""


@dataclass(frozen=True)
class Companions:
    """The rules by which companions, images that options name, are found.

    Parameters
    ----------
    cases : frozenset of str
        Names of the run's cases, each in one spelling.
    pattern : re.Pattern, optional
        Finds the name of a case in a path.
    may_be_input : frozenset of str
        Parameters whose companion may be the input itself, because its other values count.
    """

    cases: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    may_be_input: frozenset[str] = frozenset()

    def other_than_input(self, case: Planned, place: str, option: str) -> Path:
        """Return the path of the image that belongs to a case, as `find`.

        Raises
        ------
        LnqError
            As `find`, or if it is the case's own image.
        """
        found = self.find(case, place, option)
        if is_one_file(found, case.source) and parameter_of(option) not in self.may_be_input:
            raise LnqError(f"{option} {found} is the input itself: a companion is another image")
        return found

    def find(self, case: Planned, place: str, option: str) -> Path:
        """Return the path of the image that belongs to a case.

        Parameters
        ----------
        case : Planned
        place : str
            A file, which belongs to every case, and may be its own image, or a directory with one
            file per case.
        option : str
            The option that named the place, for messages.

        Raises
        ------
        LnqError
            If there is none or more than one, or it would be overwritten.
        """
        if Path(place).is_dir():
            found = self._find_in(case, place, option)
        elif Path(place).exists():
            found = Path(place)
        else:
            raise LnqError(f"{option} {place}: no such file or directory")
        if case.writes_to([found]):
            raise LnqError(f"its output would overwrite {option} {found}")
        return found

    def in_directory(self, place: str) -> dict[str, list[Path]]:
        """Return the images of a directory by case name; none of a file."""
        return files_by_case(place, self.pattern) if Path(place).is_dir() else {}

    def has(self, case: str, place: str) -> bool:
        """Tell whether a directory has an image of a case's name; True where it is none."""
        return not Path(place).is_dir() or same_name(case) in self.in_directory(place)

    def _find_in(self, case: Planned, place: str, option: str) -> Path:
        """Return the image of a directory that belongs to a case, and is not the case's own."""
        files = files_by_case(place, self.pattern)
        named = files.get(same_name(case.name), [])
        if parameter_of(option) in OF_STRUCTURES:
            named = _folders_of_structures(case, place, named, self.pattern)
        found = [path for path in named if not is_one_file(path, case.source)]
        if parameter_of(option) in self.may_be_input:
            found = found or named
        if not found:
            itself = ": the only image of that name there is the input itself" if named else ""
            why = f"{itself}{self._names_meant(case, files)}"
            if not (files or self.pattern) and folders_by_case(place):
                why = ", which has no image of its own; --case-pattern searches its folders"
            raise LnqError(f"has no companion named {case.name} in {option} {place}{why}")
        if len(found) > 1:  # an output is there from the second run on
            outputs = case.writes_to(found)
            found = [path for path in found if path not in outputs] or found
        if len(found) > 1:
            both = " and ".join(str(path.relative_to(place)) for path in found[:2])
            hint = "; --case-pattern must fit one of them alone" if self.pattern else ""
            raise LnqError(f"has more than one companion in {option} {place}: {both}{hint}")
        return found[0]

    def _names_meant(self, case: Planned, files: dict[str, list[Path]]) -> str:
        """Ask whether one of the other names in a directory was meant."""
        others = files.keys() - self.cases
        near = near_names(same_name(case.name), sorted(others))
        how = "" if self.pattern else " --case-pattern says what of a path is the name"
        return f" (did you mean {' or '.join(near)}?{how})" if near else ""


def _folders_of_structures(
    case: Planned, place: str, named: list[Path], pattern: re.Pattern[str] | None
) -> list[Path]:
    """Return the files of a case's name, and in place of its structures the folder that has them.

    That is a folder of the case's name; or, where nothing has that name, the place itself, which
    then belongs to every case.
    """
    from lnqtools.anatomy.structures import is_structure_folder

    if len(named) > 1:
        folders = {path.parent for path in named if is_structure_folder(path.parent)}
        named = [*folders, *(path for path in named if path.parent not in folders)]
    if pattern is None:
        of_case = folders_by_case(place).get(same_name(case.name), [])
        named = [*named, *filter(is_structure_folder, of_case)]
    return named or ([Path(place)] if is_structure_folder(place) else [])
