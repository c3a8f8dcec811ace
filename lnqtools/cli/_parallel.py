"""Cases at once: forked children, each of which does one case after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from lnqtools.cli._tool import ENDING_SIGNALS, Interrupted
from lnqtools.files.atomic import remove_unfinished

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class WorkerLostError(Exception):
    """A child ended without a result."""


def in_children(work: Callable, items: Sequence, jobs: int) -> Iterator[Any]:
    """Do ``work`` on each item in forked children, at most ``jobs`` at once.

    A child that is killed takes no other item with it: another one takes its place. What the
    parent has imported costs the children nothing, and what a child imports it imports once.

    Yields
    ------
    object
        What ``work`` returned, in the order of the items; a `WorkerLostError` for an item
        whose child ended without a result.
    """
    from multiprocessing.connection import wait

    waiting = iter(range(len(items)))
    idle: list[_Child] = []
    busy: dict[Any, tuple[int, _Child]] = {}
    finished: dict[int, Any] = {}
    try:
        for due in range(len(items)):
            while due not in finished:
                for number in islice(waiting, jobs - len(busy)):
                    child = idle.pop() if idle else _Child(work, items, list(busy))
                    child.begin(number)
                    busy[child.pipe] = number, child
                for ready in wait(list(busy)):
                    number, child = busy.pop(ready)
                    finished[number] = child.result()
                    if not isinstance(finished[number], WorkerLostError):
                        idle.append(child)
            yield finished.pop(due)
    finally:
        children = [*idle, *(child for _, child in busy.values())]
        for child in children:
            child.process.terminate()
        for child in children:
            child.end()


class _Child:
    """A forked process that waits for numbers of items on a pipe, and answers with results."""

    def __init__(self, work: Callable, items: Sequence, siblings: Iterable[Connection]):
        import multiprocessing

        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        # The parent's ends that a child inherits it closes: an end that stayed open in a sibling
        # would keep a child waiting whose parent is gone.
        inherited = [self.pipe, *siblings]
        # A signal waits until the child can take it, and until the parent knows the child.
        heeded = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            self.process = context.Process(
                target=_serve, args=(theirs, inherited, heeded, work, items)
            )
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
        theirs.close()

    def begin(self, number: int) -> None:
        """Hand over an item."""
        with suppress(BrokenPipeError):  # killed while idle: the missing result says so
            self.pipe.send(number)

    def result(self) -> Any:
        """Return what became of the item."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.end()
        status = self.process.exitcode
        if status is not None and status < 0:
            return WorkerLostError(f"its worker ended by signal {-status} (out of memory?)")
        return WorkerLostError("its worker ended without a result")

    def end(self) -> None:
        """Close the pipe, on which the process ends, and wait for that."""
        self.pipe.close()
        self.process.join()


def _serve(
    pipe: Connection,
    inherited: Iterable[Connection],
    heeded: Iterable[int],
    work: Callable,
    items: Sequence,
) -> None:
    """Do items until the parent closes the pipe, or is gone, or a signal comes."""
    try:
        for end in inherited:
            end.close()
        with suppress(EOFError, Interrupted, BrokenPipeError, ConnectionResetError):
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
            while True:
                pipe.send(work(items[pipe.recv()]))
        remove_unfinished()
    finally:  # even if a second signal comes
        os._exit(1)
