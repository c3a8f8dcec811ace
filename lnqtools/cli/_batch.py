"""A run over cases, in order or at once: each is reported, and a bad one does not stop the rest."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from lnqtools.cli._case import Case, Rules
from lnqtools.cli._forecast import Forecast, Teller
from lnqtools.cli._names import STREAM, same_name
from lnqtools.cli._output import check_table_place, write_lines, write_table
from lnqtools.cli._parallel import WorkerLostError, in_children
from lnqtools.cli._plan import Plan, Planned
from lnqtools.cli._tool import (
    accident,
    after_ctrl_c,
    again_with,
    clear_progress,
    emit,
    say,
    show_traceback,
    stop_if_interrupted,
)
from lnqtools.errors import LnqError, listed

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


@dataclass(frozen=True)
class Later(Generic[T]):
    """The rest of the work on a case, to be done in a thread while the next one is processed.

    Parameters
    ----------
    work : callable
        Takes the `Case`, and returns what the tool made of it.
    """

    work: Callable[[Case], T]


@dataclass(frozen=True)
class Done(Generic[T]):
    """What became of one case; travels from a worker to the parent.

    Parameters
    ----------
    case : Planned
    result : object, optional
        What the tool made of it; None of a case that failed, or that is kept.
    warnings : list of str
    error, traceback : str, optional
        Why it failed, and where, if that was an accident.
    unproven : bool
        It is kept though nothing says what content it was made from.
    kept : bool
        Its outputs were there.
    """

    case: Planned
    result: T | None = None
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    traceback: str | None = None
    unproven: bool = False
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch(Rules):
    """The cases of one run, and how they are worked through.

    Parameters
    ----------
    plan : Plan
    jobs : int
        Cases at once.
    null, quiet, verbose : bool
        How paths end, and what is told.
    """

    plan: Plan
    jobs: int = 1
    null: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def tool(self) -> str:
        """Name of the tool."""
        return self.making.tool

    @property
    def cases(self) -> tuple[Planned, ...]:
        """The cases in input order, without those of other shards."""
        return self.plan.cases

    @property
    def sources(self) -> list[str]:
        """Their inputs."""
        return [case.source for case in self.cases]

    def made_with(self, **versions: Any) -> Batch:
        """Return this with what else has a part in the images."""
        return replace(self, making=self.making.adding(made_with=versions))

    def allowing_input_as(self, parameter: str) -> Batch:
        """Return this where the companion of a parameter may be the input itself."""
        return replace(
            self, companions=replace(self.companions, may_be_input=frozenset({parameter}))
        )

    # What it says

    def say(self, message: str) -> None:
        """Tell something that is not about one case."""
        if not self.quiet:
            say(self.tool, message)

    def unmatched(self, place: str) -> dict[str, list[Path]]:
        """Return the images of a directory that belong to no input, of any shard, by case name.

        Of several shards the one with the first input has them, so that each is told once.
        """
        of_shard = [(case.source, case.name) for case in self.plan.cases]
        sources, names = zip(*of_shard, *self.plan.elsewhere, strict=True)
        if min(sources) not in self.sources:
            return {}
        found = self.companions.in_directory(place)
        return {name: found[name] for name in sorted(found.keys() - set(map(same_name, names)))}

    def only(self, cases: Iterable[Planned]) -> Batch:
        """Return this with other cases."""
        return replace(self, plan=replace(self.plan, cases=tuple(cases)))

    def warn_of_unmatched(self, place: str, option: str, lacking: str) -> str | None:
        """Warn of the images of a directory that belong to no input; return the warning."""
        if not (found := self.unmatched(place)):
            return None
        warning = unmatched_told(found, place, option, lacking)
        self.say(f"warning: {warning}")
        return warning

    # Running

    def run(
        self,
        process: Callable[..., T],
        *,
        load: Callable[[Case], Any] | None = None,
        keep: Callable[[Case], None] | None = None,
        table: str | None = None,
        watched: bool = False,
    ) -> list[Done[T]]:
        """Do the work on every case and tell of each.

        Parameters
        ----------
        process : callable
            Takes a `Case` (and what ``load`` made of it), and writes its outputs. With ``load``
            it may return `Later`.
        load : callable, optional
            First part of the work; runs for the next case while one is processed.
        keep : callable, optional
            Takes a case whose outputs are kept, for what else belongs to them.
        table : str, optional
            Where a table of the results will go (``-``: standard output, which then gets no
            paths). For it cases are done again whose outputs are kept.
        watched : bool
            Whether a case takes so long that how far the run is is told in logs, too.

        Returns
        -------
        list of Done
            In input order.
        """
        self.check_table(table)
        self.plan.check_outputs()
        self.plan.make_room()
        done: list[Done[T]] = []
        teller, forecast = Teller(self.tool, quiet=self.quiet), Forecast()
        forecast.begin(len(self.cases), timed=True)
        with after_ctrl_c(self.tool, lambda: self._way_on(done), self.quiet):
            for one in self._worked_through(process, load, keep, again=table is not None):
                stop_if_interrupted()
                done.append(one)
                self._report(one, paths=table != STREAM)
                forecast.advance(1, timed=not one.kept)
                if len(done) < len(self.cases) and (watched or teller.replaces):
                    teller.tell(f"{len(done)} of {len(self.cases)} done{forecast.left}")
        clear_progress()
        if unproven := sum(one.unproven for one in done):
            self.say(
                f"warning: {unproven} of the outputs that were kept do not say what content they "
                "were made from, as older versions made them: -f makes them anew"
            )
        return done

    def _worked_through(self, process, load, keep, *, again: bool) -> Iterator[Done]:
        """Yield what became of the cases, in input order."""

        def work(planned: Planned) -> Done:
            case = Case(planned, self)
            why = case.why_not()
            return _attempt(case, why, keep if case.kept and not again else process)

        found: Iterable[Done | WorkerLostError]
        if load is not None:
            found = self._reading_ahead(process, load, keep)
        elif self.jobs > 1 and len(self.cases) > 1:
            found = in_children(work, self.cases, self.jobs)
        else:
            found = map(work, self.cases)
        for planned, one in zip(self.cases, found, strict=True):
            yield Done(planned, error=str(one)) if isinstance(one, WorkerLostError) else one

    def _reading_ahead(self, process, load, keep) -> Iterator[Done]:
        """Run the cases one after the other, loading one ahead, and ending one behind.

        So no more than three are in memory at once.
        """
        from concurrent.futures import ThreadPoolExecutor, wait

        def begun() -> Iterator[tuple[Case, str | None, Future | None]]:
            for planned in self.cases:
                case = Case(planned, self)
                why = case.why_not()
                idle = case.kept or why is not None
                yield case, why, None if idle else reader.submit(load, case)

        reader, writer = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
        behind: Future[Done] | None = None
        try:
            ahead = begun()
            current = next(ahead, None)
            while current is not None:
                following = next(ahead, None)
                case, why, future = current
                if behind is not None and future is not None:
                    wait([future])  # meanwhile that may be done
                    if behind.done():
                        yield behind.result()
                        behind = None
                if future is None:
                    one = _attempt(case, why, keep)
                else:
                    one = _attempt(case, why, process, future.result)
                if behind is not None:
                    yield behind.result()
                    behind = None
                if isinstance(one.result, Later):
                    behind = writer.submit(_attempt, case, None, one.result.work)
                else:
                    yield one
                current = following
            if behind is not None:
                yield behind.result()
        finally:  # a signal waits for no slow file
            for pool in (reader, writer):
                pool.shutdown(wait=False, cancel_futures=True)

    def _way_on(self, done: Iterable[Done]) -> str | None:
        """Say how a run that was broken off goes on; None if it leaves no output."""
        made = sum(one.error is None and one.case.targets not in ([], [STREAM]) for one in done)
        ways = f"{made} of {len(self.cases)} done, {again_with(self.force)} goes on"
        return ways if made else None

    def _report(self, done: Done, paths: bool) -> None:
        case = done.case
        if not self.quiet:
            for warning in done.warnings:
                say(self.tool, f"warning: {warning}", case.source)
        if done.error is not None:
            say(self.tool, done.error, case.source)
            if self.verbose and done.traceback:
                show_traceback(done.traceback)
        elif paths and case.targets and case.targets[0] != STREAM:
            emit(case.targets[0], b"\0" if self.null else b"\n")

    # What is made of all cases

    def check_table(self, table: str | None) -> None:
        """Refuse, before any work, a table that could not be written or would destroy an image."""
        if table is None:
            return
        if table == STREAM and self.plan.output == STREAM:
            raise click.UsageError("an image and a table cannot both go to standard output")
        check_table_place(table, self.sources, replace=self.force or self.skip)

    def write_table(
        self,
        rows: Iterable[dict],
        table: str | None,
        form: str = "tsv",
        columns: tuple[str, ...] = (),
    ) -> None:
        """Write a table, if one is wanted; ``columns`` are those of one that may have no rows."""
        if table is not None:
            write_table(rows, table, form, columns, **self._table_rules)

    def write_lines(self, lines: Iterable[str], table: str) -> None:
        """Write a table of another form."""
        write_lines(lines, table, **self._table_rules)

    @property
    def _table_rules(self) -> dict[str, bool]:
        return {"replace": self.force or self.skip, "follow": self.force}


def _attempt(
    case: Case, why: str | None, work: Callable | None, *loaded: Callable[[], Any]
) -> Done:
    """Do one case, unless there is a reason why not; what goes wrong becomes a message."""
    result = where = None
    try:
        if why is None and work is not None:
            result = work(case, *(get() for get in loaded))
    except BrokenPipeError:
        raise
    except LnqError as error:
        why = str(error)
    except MemoryError:
        why = "out of memory"
    except Exception as error:  # noqa: BLE001  a case's accident must not stop the others
        why = accident(error)
        where = traceback.format_exc()
    return Done(case.planned, result, case.warnings, why, where, case.unproven, case.kept)


def unmatched_told(found: Mapping[str, list[Path]], place: str, option: str, lacking: str) -> str:
    """Say which images of a directory, as `Batch.unmatched` returns them, belong to no input."""
    return f"{option} {place} has {len(found)} without {lacking}: {listed(list(found))}"


def rows_of(done: Iterable[Done[list[dict]]]) -> list[dict]:
    """Return the rows that cases gave, in input order."""
    return [row for one in done for row in one.result or []]


def end(done: Iterable[Done]) -> None:
    """Raise click.exceptions.Exit with status 1 if any case failed."""
    if any(one.error is not None for one in done):
        raise click.exceptions.Exit(1)
