"""The batch contract, once for every tool: which cases, what becomes of each, what is kept."""

from __future__ import annotations

import os
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools import __version__
from lnqtools.cli._names import (
    STREAM,
    files_by_case,
    is_one_file,
    name_of,
    naming_hint,
    near_names,
    same_name,
)
from lnqtools.cli._parallel import WorkerLostError, in_children
from lnqtools.cli._plan import Case
from lnqtools.cli._tool import (
    accident,
    after_ctrl_c,
    again_with,
    clear_progress,
    emit,
    say,
    show_progress,
    show_traceback,
    stop_if_interrupted,
)
from lnqtools.errors import LnqError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume

STANDARD_OUTPUTS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
INPUT = "input"
"""What the record of an image calls the content of its input."""

Contents = dict[str, dict[str, str]]
"""Digests of what a case is made from: `INPUT` or the name of an option → place → digest."""


@dataclass
class Outcome:
    """What became of one case; travels from a worker to the parent."""

    rows: list[dict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    traceback: str | None = None
    unproven: bool = False


class _Notes(threading.local):
    """What a thread has seen of the case that it is working on: its oddities and its contents."""

    def __init__(self):
        self.warnings: list[str] = []
        self.contents: Contents = {}

    def taken(self) -> tuple[list[str], Contents]:
        """Return what was seen so far, and begin anew."""
        taken = self.warnings, self.contents
        self.warnings, self.contents = [], {}
        return taken

    def add(self, warnings: list[str], contents: Contents) -> None:
        """Add what another thread has seen of the case."""
        self.warnings += warnings
        self.contents |= contents


@dataclass
class Batch:
    """The cases of one run and the rules they are run by.

    Parameters
    ----------
    tool : str
        Name of the tool, for messages and records.
    sources : list of str
        Inputs as given, ``-`` for standard input.
    output, output_dir : str, optional
        One file (``-``: standard output) for one input, or a directory for many.
    options : dict
        The options that make the result what it is; recorded in every image, and compared by -s.
    at_default : frozenset of str
        Those that nobody gave. An image whose record does not know one was made with it so.
    made_with : dict
        Versions of what else had a part in the result; recorded, but not compared.
    contents : dict
        Digests of what every case is made from, as a model; recorded, and compared by -s.
    case_pattern : re.Pattern, optional
        Finds the name of a case in a path.
    may_be_input : frozenset of str
        Options whose companion may be the input itself, because its other values count.
    reads_files : bool
        Whether the sources are files; those of lnq-phantom are names alone.
    other_shards : tuple of str
        Inputs that belong to other shards.
    same_names : bool
        Whether inputs may have the same case name, where no images are written.
    assume_orientation : str, optional
        How the axes of images run whose headers do not say it, as ``LPS``.
    """

    tool: str
    sources: list[str]
    output: str | None = None
    output_dir: str | None = None
    nii: bool = False
    force: bool = False
    skip: bool = False
    jobs: int = 1
    null: bool = False
    quiet: bool = False
    verbose: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    at_default: frozenset[str] = frozenset()
    made_with: dict[str, Any] = field(default_factory=dict)
    contents: Contents = field(default_factory=dict)
    case_pattern: re.Pattern[str] | None = None
    may_be_input: frozenset[str] = frozenset()
    reads_files: bool = True
    also_into: tuple[str, ...] = ()
    other_shards: tuple[str, ...] = ()
    same_names: bool = False
    assume_orientation: str | None = None
    _notes: _Notes = field(default_factory=lambda: _Notes())

    def __post_init__(self) -> None:
        """Raise click.UsageError for options that exclude each other."""
        if self.force and self.skip:
            raise click.UsageError("-f and -s exclude each other")

    # Cases and their outputs

    @cached_property
    def cases(self) -> list[Case]:
        """The cases in input order, without those of other shards.

        Raises
        ------
        click.UsageError
            If two inputs, of whatever shards, would write the same output, or an output is one of
            the inputs, or --case-pattern does not name each.
        """
        named = [(self.name_of(source), source) for source in (*self.sources, *self.other_shards)]
        cases = [Case(name, source, self._targets(name)) for name, source in named]
        own = cases[: len(self.sources)]  # each shard has another --output
        owners: dict[str, str] = {}
        inputs = {os.path.realpath(case.source) for case in cases}
        for case in cases:
            if not case.targets and not self.same_names:
                if case.name in owners:
                    hint = naming_hint(owners[case.name], case.source)
                    raise click.UsageError(
                        f"{owners[case.name]} and {case.source} are both named {case.name}{hint}"
                    )
                owners[case.name] = case.source
            for target in case.targets:
                if target == STREAM or (target == self.output and case not in own):
                    continue
                real = os.path.realpath(target)
                if real in inputs:
                    raise click.UsageError(f"{target} is an input and would be overwritten")
                if real in owners:
                    hint = naming_hint(owners[real], case.source)
                    raise click.UsageError(
                        f"{owners[real]} and {case.source} would both write {target}{hint}"
                    )
                owners[real] = case.source
        return own

    @cached_property
    def _names(self) -> frozenset[str]:
        """The names of the cases, each in one spelling."""
        return frozenset(same_name(case.name) for case in self.cases)

    def name_of(self, source: str) -> str:
        """Return what the case of an input is called."""
        return name_of(source, self.case_pattern)

    def check_outputs(self) -> None:
        """Raise for outputs that cannot be, before anything is made.

        Raises
        ------
        click.UsageError
            As :attr:`cases`, and if an output directory is a file.
        LnqError
            If an output directory cannot be made or written to.
        """
        _ = self.cases
        for folder in self._folders:
            _check_directory(folder)
        if self.output not in (None, STREAM):
            _check_writable(Path(self.output).parent)

    @property
    def _folders(self) -> list[Path]:
        """The output directories."""
        return [Path(f) for f in (self.output_dir, *self.also_into) if f is not None]

    def _targets(self, name: str) -> tuple[str, ...]:
        if self.output is not None:
            main = self.output
        elif self.output_dir is not None:
            main = str(Path(self.output_dir) / self._file_name(name))
        else:
            return ()
        return (main, *(str(Path(folder) / self._file_name(name)) for folder in self.also_into))

    def _file_name(self, name: str) -> str:
        return name + (".nii" if self.nii else ".nii.gz")

    @property
    def _contents(self) -> Contents:
        """What the case at work is made from, as far as it was read."""
        return self.contents | self._notes.contents

    @property
    def record(self) -> dict:
        """What an image that is written now says about its making."""
        found = {name: list(of.values()) for name, of in self._contents.items()}
        return {
            "tool": self.tool,
            "version": __version__,
            "options": self.options,
            **({"made_with": self.made_with} if self.made_with else {}),
            **({"made_from": {n: d if d[1:] else d[0] for n, d in found.items()}} if found else {}),
        }

    def write(
        self, case: Case, volume: Volume, number: int = 0, facts: Mapping[str, Any] | None = None
    ) -> bool:
        """Write a case's output, the first or one of those that go elsewhere as well.

        Parameters
        ----------
        case : Case
        volume : Volume
        number : int
            Of the case's targets.
        facts : mapping, optional
            What the record says of this image alone, beside how all are made; -s does not compare
            it.

        Returns
        -------
        bool
            Whether it was written; if not, one that may be kept is there.

        Raises
        ------
        LnqError
            If it cannot be written, another process made one that may not be kept, or the one that
            is kept for a table is another image.
        """
        from lnqtools.images.volume import write_volume

        target = case.targets[number]
        if case.kept:
            _check_kept(volume, target)
            return False
        try:
            record = self.record | dict(facts or {})
            write_volume(volume, target, record, replace=case.replaces, follow=self.force)
        except FileExistsError:
            why = self._made_otherwise(case, target) if self.skip else "exists"
            if why and case.source == STREAM and self.skip:
                raise LnqError(f"{target} exists and {why}; -f replaces it") from None
            if why:
                raise LnqError(f"{target} {why}: another process made it meanwhile") from None
            return False
        return True

    def warn(self, message: str) -> None:
        """Keep a warning about the case at work; it is shown when the case is done."""
        self._notes.warnings.append(message)

    def say(self, message: str) -> None:
        """Tell something that is not about one case."""
        if not self.quiet:
            say(self.tool, message)

    def warn_of_unmatched(self, place: str, option: str, lacking: str) -> str | None:
        """Warn of companions in a directory that belong to no input; return the warning."""
        from lnqtools.errors import listed

        if self.other_shards or not Path(place).is_dir():
            return None
        files = files_by_case(place, self.case_pattern)
        names = sorted(files.keys() - self._names)
        if not names:
            return None
        warning = f"{option} {place} has {len(names)} without {lacking}: {listed(names)}"
        self.say(f"warning: {warning}")
        return warning

    # Inputs and their companions

    def read(self, case: Case, reader: Callable[[str], Volume]) -> Volume:
        """Read a case's own image and pass on what is odd about it."""
        volume = reader(case.source).assuming(self.assume_orientation)
        self._notes.warnings.extend(volume.notes)
        self._note(INPUT, case.source, volume.content)
        return volume

    def _note(self, name: str, place: str, digest: str) -> None:
        """Keep the digest of what the case at work is made from."""
        self._notes.contents.setdefault(name, {})[place] = digest

    def read_companion(
        self,
        case: Case,
        place: str,
        option: str,
        reader: Callable[[Path], Volume],
        grid: Grid | None = None,
    ) -> Volume:
        """Read the image that belongs to a case, and bring it onto the case's grid.

        That changes no voxel: its axes may be permuted and mirrored, and its voxels lie up to half
        a voxel off, with a warning.

        Raises
        ------
        LnqError
            If there is none or more than one, it cannot be read, or it lies on another grid.
        """
        path = self.companion(case, place, option)
        volume = self._read_named(path, place, option, reader)
        if grid is None:
            return volume
        from lnqtools.images.grid import CLOSE_VOXELS, difference, one_to_one

        with about(f"{option} {path}"):
            way = one_to_one(volume.grid, grid, CLOSE_VOXELS)
        if way is None:
            how = difference(grid, volume.grid)
            raise LnqError(
                f"does not lie on the grid of {option} {path}: {how}; "
                f"{_way_onto(case, path, option)}"
            )
        if way.oddity:
            self.warn(f"{option} {path}: {way.oddity}")
        return replace(volume, array=way.turned(volume.array), grid=grid)

    def _read_named(
        self, path: Path, place: str, option: str, reader: Callable[[Path], Volume]
    ) -> Volume:
        """Read an image that an option names; its errors and oddities carry its path."""
        with about(path):
            volume = reader(path).assuming(self.assume_orientation)
        self._notes.warnings.extend(f"{path}: {note}" for note in volume.notes)
        self._note(_parameter(option), place, volume.content)
        return volume

    def read_companion_grid(self, case: Case, place: str, option: str) -> Grid:
        """Read where the image that belongs to a case lies, and pass on what is odd about that.

        A file may be the input itself, which then stays where it is.
        """
        from lnqtools.images.content import grid_digest
        from lnqtools.images.volume import assumed, read_geometry

        path = self._find(case, place, option)
        if is_one_file(path, case.source):
            self.warn(f"{option} {path} is the input itself")
        with about(path):
            grid, notes = read_geometry(path)
        self._note(_parameter(option), place, grid_digest(grid))
        if letters := self.assume_orientation:
            grid, notes = grid.assuming(letters), assumed(notes, letters)
        self._notes.warnings.extend(f"{path}: {note}" for note in notes)
        return grid

    def read_covering(
        self,
        case: Case,
        place: str,
        option: str,
        reader: Callable[[Path], Volume],
        grid: Grid,
    ) -> tuple[Volume, np.ndarray]:
        """Read a companion on a grid of the same lattice, as large or larger.

        Lattices are the same as :meth:`read_companion` says.

        Returns
        -------
        whole : Volume
            The companion as it is.
        part : (z, y, x) ndarray
            Its values on ``grid``.

        Raises
        ------
        LnqError
            As :meth:`read_companion`, and if it does not cover ``grid``.
        """
        from lnqtools.images.grid import CLOSE_VOXELS, OtherLatticeError, cut_out, lattice_map

        path = self.companion(case, place, option)
        whole = self._read_named(path, place, option, reader)
        with about(f"{option} {path}"):
            try:
                part = cut_out(whole.array, whole.grid, grid)
            except OtherLatticeError as error:
                raise LnqError(f"{error}; {_way_onto(case, path, option)}") from None
        way = lattice_map(whole.grid, grid, CLOSE_VOXELS)
        if way is not None and way.oddity:
            self.warn(f"{option} {path}: {way.oddity}")
        return whole, part

    def companion(self, case: Case, place: str, option: str) -> Path:
        """Return the path of the image that belongs to a case.

        Parameters
        ----------
        case : Case
        place : str
            A file, which belongs to every case, or a directory with one file a case.
        option : str
            The option that named the place, for messages.

        Raises
        ------
        LnqError
            If there is none or more than one, it is the case's own image, or it would be
            overwritten.
        """
        found = self._find(case, place, option)
        if is_one_file(found, case.source) and _parameter(option) not in self.may_be_input:
            raise LnqError(f"{option} {found} is the input itself: a companion is another image")
        return found

    def _find(self, case: Case, place: str, option: str) -> Path:
        """Return the path of a companion; a file that is named may be the case's own image."""
        if Path(place).is_dir():
            found = self._find_in(case, place, option)
        elif Path(place).exists():
            found = Path(place)
        else:
            raise LnqError(f"{option} {place}: no such file or directory")
        if _outputs_among([found], case):
            raise LnqError(f"its output would overwrite {option} {found}")
        return found

    def _find_in(self, case: Case, place: str, option: str) -> Path:
        """Return the image of a directory that belongs to a case, and is not the case's own."""
        files = files_by_case(place, self.case_pattern)
        named = files.get(same_name(case.name), [])
        found = [path for path in named if not is_one_file(path, case.source)]
        if _parameter(option) in self.may_be_input:
            found = found or named
        if not found:
            itself = ": the only image of that name there is the input itself" if named else ""
            why = f"{itself}{self._names_meant(case, files)}"
            raise LnqError(f"has no companion named {case.name} in {option} {place}{why}")
        if len(found) > 1:  # an output is there from the second run on
            outputs = _outputs_among(found, case)
            found = [path for path in found if path not in outputs] or found
        if len(found) > 1:
            both = " and ".join(str(path.relative_to(place)) for path in found[:2])
            hint = "; --case-pattern must fit one of them alone" if self.case_pattern else ""
            raise LnqError(f"has more than one companion in {option} {place}: {both}{hint}")
        return found[0]

    def _names_meant(self, case: Case, files: dict[str, list[Path]]) -> str:
        """Ask whether one of the other names in a directory was meant."""
        others = files.keys() - self._names
        near = near_names(same_name(case.name), sorted(others))
        how = "" if self.case_pattern else " --case-pattern says what of a path is the name"
        return f" (did you mean {' or '.join(near)}?{how})" if near else ""

    # Running

    def run(
        self,
        process: Callable[..., list[dict] | None],
        *,
        load: Callable[[Case], Any] | None = None,
        keep: Callable[[Case], None] | None = None,
        table: str | None = None,
        form: str = "tsv",
        columns: tuple[str, ...] = (),
        collapse: Callable[[list[dict]], list[dict]] | None = None,
        lines: Callable[[list[dict]], Iterable[str]] | None = None,
    ) -> None:
        """Do the work on every case, tell what was made, and end with the right status.

        Parameters
        ----------
        process : callable
            Takes a case (and what ``load`` made of it), writes its outputs through
            :meth:`write`, and may return rows for a table.
        load : callable, optional
            First part of the work; runs for the next case while one is processed.
        keep : callable, optional
            Takes a case whose outputs are kept, for what else belongs to them.
        table : str, optional
            File for the rows (``-``: standard output).
        form : str
            ``tsv``, ``csv`` or ``jsonl``.
        columns : tuple of str
            Names of the columns, for a table that may have no rows.
        collapse : callable, optional
            Makes other rows of all rows, for a summary.
        lines : callable, optional
            Makes the table's lines of all rows, for another form of table.

        Raises
        ------
        click.exceptions.Exit
            With status 1 if any case failed.
        """
        from lnqtools.files.atomic import remove_stale_temporaries

        self.check_table(table)
        self.check_outputs()
        for folder in self._folders:
            _make_directory(folder)
        if self.output not in (None, STREAM):
            remove_stale_temporaries(Path(self.output).parent)
        done = self.work_through(process, load=load, keep=keep, table=table)
        rows = [row for _, outcome in done for row in outcome.rows]
        if collapse is not None:
            rows = collapse(rows)
        rules = {"replace": self.force or self.skip, "follow": self.force}
        if table is not None and lines is not None:
            write_lines(lines(rows), table, **rules)
        elif table is not None:
            write_table(rows, table, form, columns, **rules)
        end_as(done)

    def work_through(
        self,
        process: Callable[..., list[dict] | None],
        *,
        load: Callable[[Case], Any] | None = None,
        keep: Callable[[Case], None] | None = None,
        table: str | None = None,
    ) -> list[tuple[Case, Outcome]]:
        """Do the work on every case and tell of each; return what became of them.

        Parameters are those of :meth:`run`.
        """
        done: list[tuple[Case, Outcome]] = []
        with after_ctrl_c(self.tool, lambda: self._way_on(done), self.quiet):
            for case, outcome in self._outcomes(process, load, keep, table):
                stop_if_interrupted()
                done.append((case, outcome))
                self._report(case, outcome, paths=table != STREAM)
                if not self.quiet and len(done) < len(self.cases):
                    show_progress(f"{self.tool}: {len(done)} of {len(self.cases)} done")
        clear_progress()
        if unproven := sum(outcome.unproven for _, outcome in done):
            self.say(
                f"warning: {unproven} of the outputs that were kept do not say what content they "
                "were made from, as older versions made them: -f makes them anew"
            )
        return done

    def _way_on(self, done: Iterable[tuple[Case, Outcome]]) -> str | None:
        """Say how a run that was broken off goes on; None if it leaves no output."""
        made = sum(
            outcome.error is None and case.targets not in ((), (STREAM,)) for case, outcome in done
        )
        ways = f"{made} of {len(self.cases)} done, {again_with(self.force)} goes on"
        return ways if made else None

    def check_table(self, table: str | None) -> None:
        """Refuse, before any work, a table that could not be written or would destroy an image."""
        if table is None:
            return
        if table == STREAM and self.output == STREAM:
            raise click.UsageError("an image and a table cannot both go to standard output")
        check_table_place(table, self.sources, replace=self.force or self.skip)

    def _outcomes(self, process, load, keep, table) -> Iterator[tuple[Case, Outcome]]:
        """Yield the cases in input order, each with what became of it."""

        def work(case: Case, outcome: Outcome | None, *loaded: Callable[[], Any]) -> Outcome:
            if outcome is None and case.kept and table is None:
                outcome = self._attempt(case, keep) if keep else Outcome()
            elif outcome is None:
                outcome = self._attempt(case, process, *loaded)
            return replace(outcome, unproven=case.unproven)

        def plan_and_work(case: Case) -> Outcome:
            return work(*self._planned(case))

        if load is not None:
            outcomes = self._prefetched(work, load)
        elif self.jobs > 1 and len(self.cases) > 1:
            outcomes = in_children(plan_and_work, self.cases, self.jobs)
        else:
            outcomes = map(plan_and_work, self.cases)
        for case, outcome in zip(self.cases, outcomes, strict=True):
            lost = isinstance(outcome, WorkerLostError)
            yield case, Outcome(error=str(outcome)) if lost else outcome

    def _planned(self, case: Case) -> tuple[Case, Outcome | None]:
        """Say for a case whether to make or keep its outputs, or why it cannot be done."""
        existing = [t for t in case.targets if t != STREAM and os.path.lexists(t)]
        if self.force:  # also what another process makes meanwhile
            return replace(case, replaces=True), None
        if not existing:
            return case, None
        if not self.skip:
            return case, Outcome(error=f"{existing[0]} exists; -f replaces it, -s keeps it")
        self._notes.taken()
        try:
            for target in existing:
                if why := self._made_otherwise(case, target):
                    return case, Outcome(error=f"{target} exists and {why}; -f replaces it")
        except LnqError as error:
            return case, Outcome(error=str(error))
        except OSError as error:  # as of a name that is too long
            return case, Outcome(error=accident(error))
        if case.source == STREAM:
            return case, None  # what it is made from is known when it has been read
        if len(existing) < len(case.targets):
            return replace(case, replaces=True), None  # interrupted: it is made again
        unproven = self.reads_files and INPUT not in self._notes.contents
        return replace(case, kept=True, unproven=unproven), None

    def _made_otherwise(self, case: Case, target: str) -> str | None:
        """Say how an existing output was made differently, or return None.

        Raises
        ------
        LnqError
            If that cannot be said, because an image is missing or damaged.
        """
        from lnqtools.images.nifti import read_provenance

        try:
            record = read_provenance(target)
        except LnqError as error:
            return f"cannot be kept: {error}"
        if record is None:
            return "does not say how it was made"
        if record.get("tool") != self.tool:
            return f"was made by {record.get('tool')}"
        then, now = record.get("options", {}), self.options
        made_from = record.get("made_from", {})
        if not made_from:  # of an older version, which may have had others
            then = {name: then[name] for name in then.keys() & now.keys()}
        changed = [
            f"--{name.replace('_', '-')} {_shown(then.get(name))}, now {_shown(now.get(name))}"
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name) and (name in then or name not in self.at_default)
        ]
        if changed:
            return f"was made with {'; '.join(changed)}"
        other = self._other_content(case, made_from)
        return other and f"was made from another {other}"

    def _other_content(self, case: Case, made_from: dict[str, Any]) -> str | None:
        """Name the input, companion or model that has another content than a record says."""
        from lnqtools.images.content import has_content

        for name, recorded in made_from.items():
            digests = recorded if isinstance(recorded, list) else [recorded]
            for place, digest in zip(self._places(case, name), map(str, digests), strict=False):
                seen = self._contents.get(name, {}).get(place)
                if seen is None and place == STREAM:
                    continue
                option, path = f"--{name.replace('_', '-')}", Path(place)
                if name != INPUT and name not in self.contents:
                    path = self._find(case, place, option)
                with nullcontext() if name == INPUT else about(path):
                    same = seen == digest if seen else has_content(path, digest)
                if not same:
                    return name if name == INPUT else f"{option} {path}"
                if seen is None:  # what is known of every case would hide the other models
                    self._note(name, place, digest)
        return None

    def _places(self, case: Case, name: str) -> list[str]:
        """Return where what a record calls by a name is now."""
        if name == INPUT:
            return [case.source]
        if name in self.contents:
            return list(self.contents[name])
        value = self.options.get(name)
        places = value if isinstance(value, list) else [value]
        return [place for place in places if isinstance(place, str)]

    def _attempt(self, case: Case, process, *loaded: Callable[[], Any]) -> Outcome:
        """Do one case; whatever goes wrong with it becomes a message."""
        outcome = Outcome()
        self._notes.taken()
        try:
            outcome.rows = process(case, *(get() for get in loaded)) or []
        except BrokenPipeError:
            raise
        except LnqError as error:
            outcome.error = str(error)
        except MemoryError:
            outcome.error = "out of memory"
        except Exception as error:  # noqa: BLE001  a case's accident must not stop the others
            outcome.error = accident(error)
            outcome.traceback = traceback.format_exc()
        outcome.warnings, _ = self._notes.taken()
        return outcome

    def _prefetched(self, work, load) -> Iterator[Outcome]:
        """Run the cases one after the other, reading one ahead."""

        def read(case: Case) -> tuple[Any, tuple[list[str], Contents]]:
            self._notes.taken()
            return load(case), self._notes.taken()

        def begun() -> Iterator[tuple[Case, Outcome | None, Future | None]]:
            for case, outcome in map(self._planned, self.cases):
                done = case.kept or outcome is not None
                yield case, outcome, None if done else reader.submit(read, case)

        def content(future: Future) -> Any:
            loaded, notes = future.result()
            self._notes.add(*notes)
            return loaded

        reader = ThreadPoolExecutor(max_workers=1)
        try:
            ahead = begun()
            current = next(ahead, None)
            while current is not None:
                following = next(ahead, None)
                case, outcome, future = current
                yield work(case, outcome, *([partial(content, future)] if future else []))
                current = following
        finally:
            reader.shutdown(wait=False, cancel_futures=True)  # a signal waits for no slow file

    def _report(self, case: Case, outcome: Outcome, paths: bool) -> None:
        if not self.quiet:
            for warning in outcome.warnings:
                say(self.tool, f"warning: {warning}", case.source)
        if outcome.error is not None:
            say(self.tool, outcome.error, case.source)
            if self.verbose and outcome.traceback:
                show_traceback(outcome.traceback)
        elif paths and case.targets and case.targets[0] != STREAM:
            emit(case.targets[0], b"\0" if self.null else b"\n")


def end_as(done: Iterable[tuple[Case, Outcome]]) -> None:
    """Raise click.exceptions.Exit with status 1 if any case failed."""
    if any(outcome.error is not None for _, outcome in done):
        raise click.exceptions.Exit(1)


class about:  # noqa: N801  reads as a phrase: with about(path)
    """Put a path in front of the message of an error about that file."""

    def __init__(self, path: str | Path):
        self.path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind, error, trace) -> None:
        """Name the file in an LnqError."""
        if isinstance(error, LnqError) and not isinstance(error, MissingExtraError):
            raise LnqError(f"{self.path}: {error}") from None


def _way_onto(case: Case, path: Path, option: str) -> str:
    """Say how to bring a companion onto a case's grid."""
    label = "" if option in ("--ct", "--teacher") else "--label "
    return f"lnq-crop {label}--like {case.source} {path} -o FILE interpolates it onto that"


def check_table_place(table: str, inputs: Iterable[str], *, replace: bool) -> None:
    """Refuse a file for a table that is an input, exists, or cannot be written."""
    if table == STREAM:
        return
    from lnqtools.files.atomic import is_pipe

    if table in STANDARD_OUTPUTS:
        raise click.UsageError(f"{table}: say - for standard output")
    if is_pipe(table):
        return
    if os.path.realpath(table) in map(os.path.realpath, inputs):
        raise click.UsageError(f"{table} is an input and would be overwritten")
    if not Path(table).parent.is_dir():
        raise click.UsageError(f"{table}: there is no such directory")
    if os.path.lexists(table) and not replace:
        raise click.UsageError(f"{table} exists; -f replaces it")
    _check_writable(Path(table).parent)


def write_table(
    rows: Iterable[dict],
    path: str,
    form: str = "tsv",
    columns: tuple[str, ...] = (),
    **rules: bool,
) -> None:
    """Write rows to a file, whole or not at all, or to standard output; see :func:`write_lines`."""
    from lnqtools.files.tables import table_lines

    write_lines(table_lines(rows, form, columns), path, **rules)


def write_lines(lines: Iterable[str], path: str, *, replace: bool, follow: bool) -> None:
    """Write lines to a file, whole or not at all, or to standard output.

    Raises
    ------
    LnqError
        It cannot be written, or, without ``replace``, exists by now.
    """
    if path == STREAM:
        for line in lines:
            emit(line, cells=True)
        return
    content = b"".join(os.fsencode(line) + b"\n" for line in lines)
    write_file(content, path, replace=replace, follow=follow)


def write_file(content: bytes, path: str, *, replace: bool, follow: bool) -> None:
    """Write a file, whole or not at all, or into a pipe.

    Raises
    ------
    LnqError
        It cannot be written, or, without ``replace``, exists by now.
    """
    from lnqtools.files.atomic import (
        atomic_output,
        is_pipe,
        remove_stale_temporaries,
        write_into_pipe,
    )

    if is_pipe(path):
        write_into_pipe(content, path)
        return
    remove_stale_temporaries(Path(path).parent)
    try:
        with atomic_output(path, replace=replace, follow=follow) as file:
            file.write(content)
    except FileExistsError:
        raise LnqError(f"{path} was made by another process meanwhile") from None


def _check_kept(volume: Volume, target: str) -> None:
    """Raise LnqError if a file that is kept holds another image than a table would tell of."""
    import numpy as np

    from lnqtools.images.grid import difference
    from lnqtools.images.volume import read_volume

    with about(target):
        kept = read_volume(target)
    if difference(kept.grid, volume.grid) or not np.array_equal(kept.array, volume.array):
        raise LnqError(
            f"{target} exists and is not what is made now, which the table would tell of; "
            "-f replaces it"
        )


def _check_directory(folder: Path) -> None:
    """Raise unless a directory is there or can be made, and can be written to."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise click.UsageError(f"{place} is not a directory")
    _check_writable(place)


def _make_directory(folder: Path) -> None:
    from lnqtools.files.atomic import remove_stale_temporaries

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LnqError(f"cannot make {folder}: {error.strerror or error}") from None
    remove_stale_temporaries(folder)


def _check_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise LnqError(f"{folder}: there is no such directory")
    if not os.access(folder, os.W_OK):
        raise LnqError(f"{folder} cannot be written to")


def _outputs_among(paths: Iterable[Path], case: Case) -> list[Path]:
    """Return those of some paths that are outputs of a case."""
    targets = {os.path.realpath(target) for target in case.targets}
    return [path for path in paths if os.path.realpath(path) in targets]


def _parameter(option: str) -> str:
    """Return what an option is called in records: ``keep_anatomy`` for ``--keep-anatomy``."""
    return option.lstrip("-").replace("-", "_")


def _shown(value: Any) -> str:
    """Return an option's recorded value as a person would write it."""
    if isinstance(value, list):
        return ",".join(_shown(v) for v in value) or "unset"
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else str(value)
