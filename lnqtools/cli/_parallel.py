"""Cases at once: forked children, a child a case."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from lnqtools.cli._tool import Interrupted


class WorkerLostError(Exception):
    """A child ended without a result."""


def in_children(work: Callable, items: Sequence, jobs: int) -> Iterator[Any]:
    """Do ``work`` on each item in forked children, at most ``jobs`` at once.

    A child that is killed takes no other item with it, and what the parent has imported costs
    the children nothing.

    Yields
    ------
    object
        What ``work`` returned, in the order of the items; a :class:`WorkerLostError` for a
        child that ended without a result.
    """
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[int, Any]] = {}
    finished: dict[int, Any] = {}
    waiting = iter(enumerate(items))
    try:
        for due in range(len(items)):
            while due not in finished:
                while len(running) < jobs and (upcoming := next(waiting, None)):
                    receiver, sender = context.Pipe(duplex=False)
                    child = context.Process(target=_child, args=(sender, work, upcoming[1]))
                    child.start()
                    sender.close()
                    running[receiver] = upcoming[0], child
                for ready in wait(list(running)):
                    number, child = running.pop(ready)
                    finished[number] = _result(ready, child)
            yield finished.pop(due)
    finally:
        for receiver, (_, child) in running.items():
            child.terminate()
            receiver.close()
        for _, child in running.values():
            child.join()


def _child(sender: Connection, work: Callable, item: Any) -> None:
    try:
        sender.send(work(item))
    except (Interrupted, BrokenPipeError):
        os._exit(1)  # the parent is ending, or gone; temporary files are already removed


def _result(receiver: Any, child: Any) -> Any:
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    receiver.close()
    child.join()
    if result is not None:
        return result
    if child.exitcode < 0:
        return WorkerLostError(f"its worker ended by signal {-child.exitcode} (out of memory?)")
    return WorkerLostError("its worker ended without a result")
