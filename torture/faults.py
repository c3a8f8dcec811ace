"""Faults: kills and signals at random moments, full disks, and whatever else takes files away.

Most of the time goes into starting the tools, and into the disk that each output is synced to:
with TMPDIR=/dev/shm it takes a fraction.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.suite import TOOLS
from torture.rows import Row, guarded
from torture.tools import OUT, TMP, Call, is_lock, is_temporary, left_behind, make_calls

AT_ONCE = 2
OTHERS = 0.3
"""Share of their tries that all but kills get, which would take an hour and more else."""
PATIENCE_SECONDS = 60
"""How long what a kill left over may take to end."""
WRITE_SECONDS = 0.005
"""How far into a write a fault comes at most."""

Tried = tuple[str, tuple[str, ...]]
"""A word for what happened, and what went wrong, in sentences."""


@dataclass(frozen=True)
class Known:
    """A call, and what an undisturbed run of it makes.

    Attributes
    ----------
    call : Call
    expected, old : dict
        Outputs of the call, and of the same with other options; path → content.
    place : Path
        Where the expected outputs lie.
    before : Path
        Where the old ones lie.
    printed : int
        Lines that it prints.
    cpu_seconds, seconds : float
        How long it takes, beside another: of the processor, and by the clock.
    each_seconds : float
        How long it takes from one line to the next; most of a short run is imports.
    """

    call: Call
    expected: dict[str, object]
    old: dict[str, object]
    place: Path
    before: Path
    printed: int
    cpu_seconds: float
    seconds: float
    each_seconds: float

    @property
    def tool(self) -> str:
        return self.call.tool

    def fresh(self, place: Path, with_old: bool = False) -> Path:
        """Make the folder of a run; with what was made before, or without."""
        shutil.rmtree(place, ignore_errors=True)
        (place / TMP).mkdir(parents=True)
        if with_old:
            shutil.copytree(self.before / OUT, place / OUT)
        else:
            (place / OUT).mkdir()
        return place

    def damaged(self, place: Path, with_old: bool = False, failed: bool = False) -> list[str]:
        """Return each output that is neither whole nor absent (nor, with old ones, an old one).

        A table beside images, of a run in which some cases ``failed``, lacks their rows; a report
        tells of them, and lacks theirs.
        """
        there = self.call.outputs(place)
        wrong = []
        for name, content in there.items():
            lacking = failed and name == "nodes.tsv" and _is_part(content, self.expected[name])
            lacking |= failed and self.tool == "lnq-report" and "/cases/" not in name
            is_old = with_old and content == self.old.get(name)
            if content != self.expected.get(name) and not is_old and not lacking:
                wrong.append(f"{name} is damaged")
        # A training begins by removing what it replaces: no part of it fits the new plans.
        old = self.old if with_old and not self.call.weights else ()
        return wrong + [f"{name} is gone" for name in old if name not in there]

    def after_all(self, place: Path, again: str) -> list[str]:
        """Run the tool again; return how its outputs then differ, and what is left behind."""
        status, said = self.call.run(place, again)
        wrong = [] if status == 0 else [f"{again} ended with {status}: {said.strip()[-300:]}"]
        wrong += _differing(self.call.outputs(place), self.expected)
        return wrong + [f"{name} is left" for name in left_behind(place)]


def _is_part(table: object, whole: object) -> bool:
    """Tell whether a table is made of whole lines of another."""
    assert isinstance(table, bytes)
    assert isinstance(whole, bytes)
    return set(table.splitlines(keepends=True)) <= set(whole.splitlines(keepends=True))


def kills(folder: Path, scale: float, tools: Collection[str] = TOOLS) -> Iterator[Row]:
    """Kill every tool at many moments."""
    yield from _killed(_all_known(folder, tools), folder / "run", scale)


def torture(folder: Path, scale: float, tools: Collection[str] = TOOLS) -> Iterator[Row]:
    """Do to every tool what else happens to long runs on shared machines."""
    known = _all_known(folder, tools)
    light = [one for one in known if not one.call.heavy]
    for torture in (
        _signaled,
        _reader_goes,
        _reader_waits,
        _full_output,
        _size_limits,
        _full_disks,
        _calls_fail,
        _read_only,
        _folder_removed,
        _workers_killed,
        _memory_limited,
        _clock_set_back,
        _side_by_side,
    ):
        rows = torture(known, folder / "run", OTHERS * scale)
        yield from guarded(torture.__name__.strip("_"), rows)
    rows = _other_options_side_by_side(light, folder / "run", OTHERS * scale)
    yield from guarded("other options", rows)


def _all_known(folder: Path, tools: Collection[str]) -> list[Known]:
    calls = make_calls(folder / "inputs", tools)
    return [_undisturbed(call, folder / call.tool) for call in calls]


def _undisturbed(call: Call, folder: Path) -> Known:
    """Run a call as it is, twice, and once with other options."""
    place, before = folder / "plain", folder / "before"

    def timed(where: Path, *more: str) -> tuple[int, float, float, float]:
        begin = time.monotonic()
        process = call.start(where, *more, stdout=subprocess.PIPE)
        times = [time.monotonic() for _ in process.stdout]  # type: ignore[union-attr]
        said = process.stderr.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{call.tool}: {said.decode()}"
        took = time.monotonic() - begin
        each = (times[-1] - times[0]) / max(1, len(times) - 1) if times else 0.0
        return len(times), usage.ru_utime + usage.ru_stime, took, each

    timed(folder / "first")  # reads from the disk what the next ones find in memory
    with ThreadPoolExecutor(AT_ONCE) as pool:
        other = pool.submit(timed, before, *call.other)
        plain = pool.submit(timed, place).result()
        other.result()
    return Known(call, call.outputs(place), call.outputs(before), place, before, *plain)


# Many tries of one kind


def _tries(
    what: str,
    known: Sequence[Known],
    count: Callable[[Known], int],
    attempt: Callable[[Known, Path, int, float], Tried],
    place: Path,
    outcome: str,
    needed: Callable[[Known], Sequence[str]] = lambda one: (),
) -> Iterator[Row]:
    """Try something often on each tool, two at a time, and make a row of each.

    ``attempt`` gets the tool, a folder, the number of the try, and a moment as a share of an
    undisturbed run; the moments are spread over it, in an order that is drawn. A row in which
    nothing came of any try that ``needed`` names would say nothing, and is wrong.
    """
    for one in known:
        rng = random.Random(f"{what} {one.tool}")
        total = count(one)
        moments = [(k + rng.random()) / total for k in range(total)]
        rng.shuffle(moments)

        def try_one(number: int, one=one, moments=moments) -> Tried:
            own = place / f"{one.tool}-{number}"
            word, wrong = attempt(one, own, number, moments[number])
            shutil.rmtree(own, ignore_errors=True)
            told = f"{one.tool}: {what}, try {number} at {moments[number]:.0%}"
            return word, tuple(f"{told}: {sentence}" for sentence in wrong)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            tried = list(pool.map(try_one, range(total)))
        words = [word for word, _ in tried if word]
        counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        wrong = tuple(sentence for _, sentences in tried for sentence in sentences)
        some = needed(one)
        if some and not set(some) & set(words):
            wrong += (f"{one.tool}: {what}: no try was {' or '.join(some)}",)
        yield Row(what, one.tool, total, f"{outcome} ({counts})" if counts else outcome, wrong)


def _number(light: int, heavy: int, scale: float) -> Callable[[Known], int]:
    return lambda one: max(1, round((heavy if one.call.heavy else light) * scale))


BEFORE, IN_FIRST = "before the first output", "in the first output"
SOME_DONE, ALL_DONE = "with some done", "with all done"


def _stage(one: Known, place: Path) -> str:
    """Say how far a run had come when it ended."""
    made = one.call.outputs(place)
    unlike = [name for name in one.expected if one.expected[name] != one.old.get(name)]
    new = [name for name in unlike if made.get(name) == one.expected[name]]
    if len(new) == len(unlike):
        return ALL_DONE
    if new:
        return SOME_DONE
    return IN_FIRST if _is_writing(place) else BEFORE


def _is_writing(place: Path) -> bool:
    """Tell whether a temporary file or folder lies below the outputs."""
    with suppress(OSError):  # what is listed goes meanwhile
        names = (path.name for path in (place / OUT).rglob("*"))
        return any(is_temporary(name) and not is_lock(name) for name in names)
    return False


def _ended(process: subprocess.Popen) -> str | None:
    """Wait until a process and all that it started have ended; return what they said.

    All of them hold the pipe of standard error. None: something does not end.
    """
    try:
        return process.communicate(timeout=PATIENCE_SECONDS)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None


def _jobs(one: Known, number: int) -> tuple[str, ...]:
    """Return -j for every other try of a tool that has it."""
    return ("-j", "2") if one.call.parallel and number % 2 else ()


def _start_and_wait(
    one: Known, own: Path, number: int, moment: float, *more: str, **options
) -> subprocess.Popen:
    """Start a tool, and wait for a moment in its run.

    A third of the moments go by lines, of tools that print one an output, and a random part of
    the time to the next; a third by temporary files, for the midst of a write however short; the
    others by the time of the processor, whatever else the machine does. Two tries in a row are of
    a kind: what they do goes by powers of two, and so each of it meets each kind.
    """
    with (own / "printed").open("wb") as printed:
        process = one.call.start(own, *more, **{"stdout": printed} | options)
    rng = random.Random(number)
    kind = number // 2 % 3
    while process.poll() is None:
        if kind == 0 and one.printed > 1:
            if _lines(own) >= moment * (one.printed - 1):
                time.sleep(rng.random() * one.each_seconds)
                break
        elif kind == 1:
            if _is_writing(own):
                time.sleep(rng.choice((0, rng.random() * WRITE_SECONDS)))
                break
        elif _cpu_seconds(process.pid) >= moment * one.cpu_seconds:
            break
        time.sleep(0.0001 if kind == 1 else 0.001)
    return process


def _lines(own: Path) -> int:
    """Return how many lines a tool has printed."""
    return (own / "printed").read_bytes().count(b"\n")


def _cpu_seconds(pid: int) -> float:
    """Return the time of the processor that a process and its children have had."""
    total = 0
    for one in (pid, *_children(pid)):
        with suppress(OSError):  # it ends meanwhile
            for tasks in Path(f"/proc/{one}/task").glob("*/schedstat"):
                total += int(tasks.read_text().split()[0])
    return total / 1e9


# Kills and signals


def _killed(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """SIGKILL, half of the tries over older outputs, half of them the main process alone."""
    count = _number(100, 100, scale)

    def needed(one: Known) -> Sequence[str]:
        # A table is written in less than a millisecond: that one is met is luck.
        return (IN_FIRST, SOME_DONE) if one.printed > 1 and count(one) >= 30 else ()

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        with_old = number % 4 >= 2 or one.call.again == "-f"
        again = "-f" if with_old else one.call.again
        one.fresh(own, with_old)
        process = _start_and_wait(one, own, number, moment, again, *_jobs(one, number))
        if number % 8 < 4:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        said = _ended(process)
        _let_go(own)
        wrong = ["a child did not end"] if said is None else []
        stage = _stage(one, own)
        wrong += one.damaged(own, with_old)
        return stage, (*wrong, *one.after_all(own, again))

    yield from _tries(
        "killed by SIGKILL at a random moment, whole group or main process alone, then run again "
        "(-s, or -f over older outputs)",
        known,
        count,
        attempt,
        place,
        "no damaged output after the kill; after the next run all outputs byte-identical to an "
        "undisturbed run's and nothing else left",
        needed,
    )


def _let_go(own: Path) -> None:
    """Wait for a process of TotalSegmentator, which sees that its tool is gone and tidies up."""
    for _ in range(100):
        if not any((own / TMP).glob(".lnq-totalseg.*")):
            return
        time.sleep(0.1)


def _signaled(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        signum = signals[number % 3]
        with_old = number // 3 % 4 in (1, 2)  # in twelve tries, with each signal to each target
        one.fresh(own, with_old)
        process = _start_and_wait(
            one,
            own,
            number,
            moment,
            "-f" if with_old else one.call.again,
            *_jobs(one, number // 2),
            preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in signals],
        )
        with suppress(ProcessLookupError):
            if number % 2:
                os.killpg(process.pid, signum)  # as Ctrl-C and a closed terminal do
            else:
                process.send_signal(signum)
        if number % 7 == 6:  # somebody who cannot wait
            time.sleep(0.01)
            process.send_signal(signum)
        said = _ended(process)
        wrong = ["a child did not end"] if said is None else []
        if said and signum == signal.SIGINT:
            said = WAY_ON.sub("", said)
        if said and _is_pythons_own(said):
            return "while Python itself started, with its traceback", ()
        if process.returncode not in (-signum, 0):
            wrong.append(f"status {process.returncode} after signal {signum:d}")
        if said:
            wrong.append(f"it said: {said.strip()[-300:]}")
        wrong += one.damaged(own, with_old)
        wrong += [f"{name} is left" for name in left_behind(own) if not _resumable(name)]
        return "done before" if process.returncode == 0 else "ended", tuple(wrong)

    yield from _tries(
        "SIGINT, SIGTERM, SIGHUP at a random moment, to the group or the main process, some twice",
        known,
        _number(40, 20, scale),
        attempt,
        place,
        "ended by that signal, without a word but how to go on after SIGINT, no temporary file, "
        "every output whole",
    )


WAY_ON = re.compile(r"^lnq-[a-z-]+: interrupted: .*-s( instead of -f)? goes on.*\n", re.MULTILINE)
"""What a tool says after Ctrl-C where there is something to go on from."""


def _is_pythons_own(said: str) -> bool:
    """Tell whether a traceback of Ctrl-C comes from before anything of lnqtools was imported."""
    return said.endswith("KeyboardInterrupt\n") and "/lnqtools/" not in said


def _resumable(name: str) -> bool:
    """Tell what lnq-train keeps on purpose, to go on from."""
    return name.split("/")[1:3] == ["model", ".preprocessed"]


# Standard output


def _streams(one: Known) -> list[str]:
    """Return the command line whose results go to standard output."""
    call = one.call
    if call.prints is None or one.tool == "lnq-plot":
        return call.line(call.again)
    return [call.line()[0], *call.prints, "-q"]


def _reader_goes(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        reader, writer = os.pipe()
        gone_before = number == 0
        if gone_before:
            os.close(reader)
        process = one.call.start_line(own, _streams(one), stdout=writer)
        os.close(writer)
        if not gone_before:
            time.sleep(moment * one.seconds)
            os.close(reader)
        said = _ended(process)
        allowed = (-signal.SIGPIPE,) if gone_before else (-signal.SIGPIPE, 0)
        wrong = [] if process.returncode in allowed else [f"status {process.returncode}"]
        wrong += [f"it said: {said.strip()[-300:]}"] if said else []
        wrong += one.damaged(own)
        wrong += [f"{name} is left" for name in left_behind(own) if not _resumable(name)]
        return "ended" if process.returncode else "had no more to print", tuple(wrong)

    yield from _tries(
        "the reader of standard output goes away at a random moment, once before the start",
        known,
        _number(12, 7, scale),
        attempt,
        place,
        "ended by SIGPIPE without a word, no temporary file, every output whole",
    )


def _reader_waits(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """A pipe is full until long after the tool would have been done."""
    import fcntl

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        expected, _ = one.call.start_line(
            own / "plain", _streams(one), stdout=subprocess.PIPE
        ).communicate()
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writer, bytes(4096))
        process = one.call.start_line(own, _streams(one), stdout=writer)
        os.close(writer)
        wrong = []
        waited = False
        try:
            process.wait(2 * one.seconds + 2)
        except subprocess.TimeoutExpired:
            waited = True
        with open(reader, "rb") as stream:  # noqa: PTH123  a descriptor
            text = stream.read()[4096:]
        said = _ended(process)
        if process.returncode or said:
            wrong.append(f"status {process.returncode}: {said}")
        if text != expected:
            wrong.append(f"it printed {len(text)} bytes, else {len(expected)}")
        if waited != bool(expected):
            wrong.append("it did not wait" if expected else "it waited to print nothing")
        if _streams(one) == one.call.line(one.call.again):
            wrong += one.after_all(own, one.call.again)
        return "waited" if waited else "prints nothing", tuple(wrong)

    yield from _tries(
        "standard output is a full pipe that nobody reads until long after",
        known,
        lambda one: 1,
        attempt,
        place,
        "it waits, then prints all, status 0, all outputs as undisturbed",
    )


def _full_output(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
            process = one.call.start_line(own, _streams(one), stdout=full)
        said = _ended(process) or ""
        wrong = _told(said, one.tool, ("cannot write the results: No space left",))
        if process.returncode != 1:
            wrong.append(f"status {process.returncode}")
        wrong += one.damaged(own)
        wrong += [f"{name} is left" for name in left_behind(own)]
        return "", tuple(wrong)

    yield from _tries(
        "standard output is /dev/full",
        known,
        lambda one: 1,
        attempt,
        place,
        "status 1, one line that says that there is no space, every output whole",
    )


def _told(said: str, tool: str, words: Sequence[str], most: int = 1) -> list[str]:
    """Return what is wrong with lines that should each be of the tool and have one of the words.

    What a command of lnq-dicom does at its end, as writing to a full pipe, lnq-dicom says.
    """
    voices = (f"{tool}: ", f"{tool.split()[0]}: ")
    lines = said.splitlines()
    wrong = [f"it said nothing of {words[0]}"] if not lines else []
    if len(lines) > most:
        wrong.append(f"it said {len(lines)} lines, as {lines[0]!r} and {lines[-1]!r}")
    for line in lines:
        if not line.startswith(voices) or not any(word in line for word in words):
            wrong.append(f"it said: {line}")
            break
    return wrong


# Disks

FULL = (
    *("No space left on device", "File too large", "is full", "there is no report"),
    "No usable temporary directory",
)


def _size_limits(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """A limit of the size of a file, at many sizes from nothing on."""
    import resource

    chosen = [one for one in known if one.tool != "lnq-train"]  # torch hides the error's number
    count = _number(16, 6, scale)

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        sizes = sorted(len(content) for content in one.expected.values())  # type: ignore[arg-type]
        limit = round((sizes[-1] - 1) * (number / count(one)) ** 2)
        one.fresh(own)

        def restrict() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        more = (one.call.again, *_jobs(one, number))
        process = one.call.start(own, *more, preexec_fn=restrict)
        said = _ended(process) or ""
        wrong = _told(said, one.tool, FULL, most=len(one.expected))
        if process.returncode != 1:
            wrong.append(f"status {process.returncode} with files limited to {limit} bytes")
        wrong += one.damaged(own, failed=True)
        wrong += [f"{name} is left" for name in left_behind(own)]
        return "", (*wrong, *one.after_all(own, one.call.again))

    yield from _tries(
        "no file may be larger than a limit (RLIMIT_FSIZE), at many limits; then without",
        chosen,
        count,
        attempt,
        place,
        "status 1, a line for each output that names it and the reason, no part of one, no "
        "temporary; then all outputs as undisturbed",
    )


def _full_disks(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """A small file system, of many sizes, half of the tries with older outputs on it."""
    what = "the disk is full (tmpfs of many sizes, by bytes or by files); then there is room"
    place.mkdir(exist_ok=True)
    if not _can_mount(place):
        yield Row(what, "none", 0, "skipped: this user may not mount")
        return
    count = _number(14, 6, scale)

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        disk = _Disk(own / OUT)
        one.fresh(own)
        with_old = number % 2 == 1
        again = "-f" if with_old else one.call.again
        with disk.mounted("size=1g"):
            used = 0
            if with_old:
                shutil.copytree(one.before / OUT, own / OUT, dirs_exist_ok=True)
                used = disk.used_bytes()
            share = (number + 0.5) / count(one)
            if number % 3 == 0:
                files = sum(1 for _ in (own / OUT).rglob("*")) + 1
                disk.remount(f"nr_inodes={files + round(share * len(one.expected))}")
            else:
                need = _disk_bytes(one.place / OUT)
                disk.remount(f"size={used + round(share * need / 4096) * 4096 or 4096}")
            process = one.call.start(own, again, *_jobs(one, number))
            said = _ended(process) or ""
            wrong = []
            if process.returncode:
                wrong += _told(said, one.tool, FULL, most=len(one.expected))
            if process.returncode not in (0, 1):
                wrong.append(f"status {process.returncode}")
            wrong += one.damaged(own, with_old, failed=True)
            left = [name for name in left_behind(own) if not _resumable(name)]
            wrong += [f"{name} is left" for name in left]
            disk.remount("size=1g,nr_inodes=100000")
            if process.returncode == 0:
                return "had room", (*wrong, *one.after_all(own, again))
            return "full", (*wrong, *one.after_all(own, again))

    yield from _tries(
        what,
        known,
        count,
        attempt,
        place,
        "status 1, a line for each output that says that the disk is full, older outputs whole, "
        "no part, no temporary; then all outputs as undisturbed",
        lambda one: ("full",),
    )


NAMING = "fsync,link,linkat,rename,renameat,renameat2,mkdir,mkdirat"
"""System calls that tools make for outputs alone; most of all others hit libraries."""


def _calls_fail(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """The kernel says that the disk is full, to the first system call of a kind, the second, …"""
    what = "the n-th write, or the n-th fsync, link, rename and mkdir, finds the disk full (strace)"
    if not shutil.which("strace"):
        yield Row(what, "none", 0, "skipped: strace is not installed")
        return

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        calls = NAMING if number % 2 else "write,pwrite64"
        inject = f"inject={calls}:error=ENOSPC:when={number // 2 + 1}"
        trace = own / "trace"
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(trace)]
        strace += ["-e", f"trace={calls}", "-e", inject]
        process = one.call.start_line(own, [*strace, *one.call.line(one.call.again)])
        said = _ended(process) or ""
        wrong = one.damaged(own, failed=True)
        if process.returncode == 0:
            wrong += [f"it said: {said}"] if said else []
            wrong += _differing(one.call.outputs(own), one.expected)
        else:
            wrong += _told(said, one.tool, FULL, most=len(one.expected))
        if process.returncode not in (0, 1):
            wrong.append(f"status {process.returncode}")
        wrong += [f"{name} is left" for name in left_behind(own)]
        word = "failed" if process.returncode else "did without"
        hit = trace.exists() and "(INJECTED)" in trace.read_text(errors="replace")
        return word if hit else "not hit", (*wrong, *one.after_all(own, one.call.again))

    yield from _tries(
        what,
        [one for one in known if not one.call.heavy],
        _number(27, 0, scale),
        attempt,
        place,
        "status 1 and a line for each output that says that the disk is full, or all is made; no "
        "part, no temporary; then all outputs as undisturbed",
        lambda one: ("failed",),
    )


def _disk_bytes(folder: Path) -> int:
    """Return what files take on a disk with blocks of 4 KiB."""
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return sum(-(-size // 4096) * 4096 for size in sizes)


def _can_mount(place: Path) -> bool:
    disk = _Disk(place / "try")
    disk.path.mkdir()
    try:
        with disk.mounted("size=64k"):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


class _Disk:
    """A tmpfs on a folder."""

    def __init__(self, path: Path):
        self.path = path

    def mounted(self, options: str) -> _Disk:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "lnq", self.path],
            check=True,
            capture_output=True,
        )
        return self

    def remount(self, options: str) -> None:
        """Change the options; a process that another try just forked may hold a file at first."""
        command = ["mount", "-o", f"remount,{options}", str(self.path)]
        for _ in range(100):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)
        subprocess.run(command, check=True)

    def used_bytes(self) -> int:
        return shutil.disk_usage(self.path).used

    def __enter__(self) -> _Disk:
        return self

    def __exit__(self, *error) -> None:
        subprocess.run(["umount", self.path], check=True)


def _read_only(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """A read-only file system, empty or with older outputs on it."""
    what = "the target is on a read-only file system"
    place.mkdir(exist_ok=True)
    shutil.rmtree(place / "try", ignore_errors=True)
    if not _can_mount(place):
        yield Row(what, "none", 0, "skipped: this user may not mount")
        return

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        with _Disk(own / OUT).mounted("size=1g") as disk:
            with_old = number == 1
            if with_old:
                shutil.copytree(one.before / OUT, own / OUT, dirs_exist_ok=True)
            disk.remount("ro")
            status, said = one.call.run(own, "-f")
            words = ("Read-only file system", "cannot be written to")
            wrong = _told(said, one.tool, words)
            if status != 1:
                wrong.append(f"status {status}")
            wrong += one.damaged(own, with_old)
            wrong += [f"{name} is left" for name in left_behind(own)]
        return "with older outputs" if with_old else "empty", tuple(wrong)

    yield from _tries(
        what,
        known,
        lambda one: 2,
        attempt,
        place,
        "status 1, one line that names it and says so, older outputs whole",
    )


def _folder_removed(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        process = _start_and_wait(one, own, number, moment, one.call.again, *_jobs(one, number))
        stopped = number % 2 == 0
        if stopped:  # what it has made is known, and what it makes later must be there
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.01)
        earlier, printed = one.call.outputs(own), _lines(own)
        while (own / OUT).exists():
            shutil.rmtree(own / OUT, ignore_errors=True)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        said = _ended(process) or ""
        wrong = []
        early = process.returncode == 2 and "there is no such directory" in said
        if process.returncode not in (0, 1) and not early:
            wrong.append(f"status {process.returncode}")
        if process.returncode:
            gone = ("No such file or directory", "there is no such directory", "there is no report")
            wrong += _told(said, one.tool, gone, most=len(one.expected))
            named = OUT in said or "cannot write its slices" in said  # lnq-report: of which case
            wrong += [] if named else [f"it does not name the folder: {said.strip()[-300:]}"]
        (own / OUT).mkdir(exist_ok=True)
        wrong += one.damaged(own, failed=True)
        if stopped:
            lines = (own / "printed").read_text().splitlines()[printed:]
            claimed = {line.removeprefix(f"{OUT}/") for line in lines}
            if process.returncode == 0:
                claimed |= one.expected.keys()
            lost = [
                name for name in sorted(claimed - earlier.keys()) if not (own / OUT / name).exists()
            ]
            wrong += [f"{name} was made after the removal, and is not there" for name in lost]
        word = "failed" if process.returncode else "was done, or made it anew"
        return word, (*wrong, *one.after_all(own, one.call.again))

    yield from _tries(
        "the target folder is removed at a random moment",
        known,
        _number(12, 7, scale),
        attempt,
        place,
        "status 1 and a line for each output that could not be written, or all that is made later "
        "is there; no damaged output; the next run makes all",
    )


# Workers


def _children(pid: int) -> list[int]:
    """Return the children of a process."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
    return []


def _without(one: Known, source: str, own: Path) -> dict[str, object]:
    """Return what a run of the tool should have made, all but one case of which were done."""
    if one.tool == "lnq-report":  # its page tells what became of the case
        number = one.call.arguments.index(source) + 1
        made = one.call.outputs(own)
        pages = {name: made.get(name) for name in one.expected if "/cases/" not in name}
        of_it = f"/cases/{number:04}"
        return {name: one.expected[name] for name in one.expected if of_it not in name} | pages
    if one.tool == "lnq-phantom":  # has no inputs, and names a case by itself
        made = {name: content for name, content in one.expected.items() if source not in name}
        rows = made["nodes.tsv"].splitlines(keepends=True)  # type: ignore[attr-defined]
        begin = f"{source}\t".encode()
        return made | {"nodes.tsv": b"".join(row for row in rows if not row.startswith(begin))}
    if one.tool == "lnq-check":  # has a row for it, which says that it is not known
        row = re.compile(rf"^{re.escape(source)}\timage\t.*$", re.MULTILINE)
        told = row.search(one.call.outputs(own)["table.tsv"].decode())  # type: ignore[attr-defined]
        table = one.expected["table.tsv"].decode()  # type: ignore[attr-defined]
        if told and f"{source}\timage\tunknown\t" in told[0]:
            table = row.sub(lambda _: told[0], table)
        return {"table.tsv": table.encode()}
    rest = tuple(part for part in one.call.arguments if part != source)
    replace(one.call, arguments=rest).run(own / "rest")
    return one.call.outputs(own / "rest")


def _differing(made: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Return how outputs are not those expected."""
    wrong = [f"{name} is missing" for name in expected if name not in made]
    return wrong + [f"{name} differs" for name in made if made[name] != expected.get(name)]


def _workers_killed(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        one.fresh(own)
        process = one.call.start(own, one.call.again, "-j", "2")
        begin = time.monotonic()
        killed = False
        while not killed and process.poll() is None:
            children = _children(process.pid)
            if children and time.monotonic() - begin > moment * one.seconds:
                os.kill(children[number % len(children)], signal.SIGKILL)
                killed = True
            time.sleep(0.002)
        said = _ended(process) or ""
        wrong = []
        named = re.findall(rf"^{one.tool}: (.*): its worker ended by signal 9 ", said, re.M)
        if process.returncode != len(named) or len(said.splitlines()) != len(named):
            wrong.append(f"status {process.returncode}: {said.strip()[-300:]}")
        expected = _without(one, named[0], own) if named else one.expected
        wrong += _differing(one.call.outputs(own), expected)
        word = "in a case" if named else "between cases or at the end" if killed else "too late"
        table = one.call.again == "-f" or one.tool == "lnq-phantom"
        return word, (*wrong, *one.after_all(own, "-f" if table else "-s"))

    yield from _tries(
        "a worker of -j 2 is killed by SIGKILL at a random moment",
        [one for one in known if one.call.parallel],
        _number(16, 0, scale),
        attempt,
        place,
        "that case fails with a line that names it, status 1, the others are done; the next run "
        "makes all",
    )


CGROUP = Path("/sys/fs/cgroup/memory")
BIG_SHAPE = (300, 512, 512)


def _memory_limited(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """One case among small ones is too large for the memory that the kernel allows."""
    import numpy as np

    from tests.cli.cohort import MATRIX
    from tests.conftest import save

    what = "the kernel kills a worker of -j 2 whose case needs more memory than the cgroup has"
    group = CGROUP / f"lnq-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(220 << 20))
    except OSError:
        yield Row(what, "none", 0, "skipped: no memory cgroup (v1) can be made here")
        return
    try:
        big = save(place / "big" / "big.nii.gz", np.zeros(BIG_SHAPE, np.int16), MATRIX)
        names = ("lnq-weaklabel", "lnq-filter-diameter", "lnq-stats")
        for one in (one for one in known if one.tool in names):
            own = one.fresh(place / one.tool)
            line = one.call.line(one.call.again, "-j", "2")
            if "--background" in line:  # the big case has none
                at = line.index("--background")
                del line[at : at + 2]
            one.call.start_line(own / "rest", line).communicate()
            expected = one.call.outputs(own / "rest")
            process = one.call.start_line(
                own,
                [*line[:5], str(big), *line[5:]],
                preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
            )
            said = _ended(process) or ""
            names_it = f"{one.tool}: {big}: its worker ended by signal 9 (out of memory?)\n"
            wrong = [] if said == names_it else [f"{one.tool}: it said {said[-300:]!r}"]
            if process.returncode != 1:
                wrong.append(f"{one.tool}: status {process.returncode}")
            made = one.call.outputs(own)
            wrong += [f"{one.tool}: {sentence}" for sentence in _differing(made, expected)]
            wrong += [f"{one.tool}: {name} is left" for name in left_behind(own)]
            outcome = f"that case fails, {len(made)} of {len(expected)} outputs are made"
            yield Row(what, one.tool, 1, outcome, tuple(wrong))
            shutil.rmtree(own)
    finally:
        time.sleep(0.2)
        group.rmdir()


# The clock

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def _clock_set_back(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """Files are a year ahead; the clock goes back in a run, and for the one after its kill."""
    what = (
        "the clock is set back a year in the run, half of which are killed, and older outputs are "
        "of then"
    )
    if not Path(FAKETIME).exists():
        yield Row(what, "none", 0, "skipped: libfaketime is not installed")
        return

    def faked(clock: Path) -> dict[str, str]:
        return {
            "LD_PRELOAD": FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        is_killed, with_old = number % 2 == 0, number % 4 in (1, 2)
        again = "-f" if with_old else one.call.again
        one.fresh(own, with_old)
        later = time.time() + 365 * 86400
        for path in (own / OUT).rglob("*"):
            os.utime(path, (later, later))
        clock = own / "clock"
        clock.write_text("+0")
        process = _start_and_wait(one, own, number, moment / 2, again, env=faked(clock))
        clock.write_text("-365d")
        if is_killed:
            time.sleep(moment / 2 * one.each_seconds)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said = _ended(process)
        _let_go(own)
        wrong = one.damaged(own, with_old)
        if not is_killed:
            if process.returncode or said:
                wrong.append(f"status {process.returncode}: {said}")
            wrong += _differing(one.call.outputs(own), one.expected)
            wrong += [f"{name} is left" for name in left_behind(own)]
        for path in (own / OUT).rglob("*"):
            if number % 3 == 0 and not path.is_symlink():
                os.utime(path, (later, later))
        word = f"killed {_stage(one, own)}" if is_killed else "not killed"
        return word, (*wrong, *one.after_all(own, again))

    place.mkdir(exist_ok=True)
    clock = place / "clock"
    clock.write_text("-365d")
    told = subprocess.check_output(["date", "+%s"], env=os.environ | faked(clock))
    if not 364 < (time.time() - int(told)) / 86400 < 366:
        yield Row(what, "date", 1, "not done", ("libfaketime does not set the clock back",))
        return
    yield from _tries(
        what,
        known,
        _number(7, 7, scale),
        attempt,
        place,
        "no damaged output; those not killed end with status 0 without a word, all outputs "
        "byte-identical; so are those of the next run, and nothing is left",
    )


# Several processes


def _side_by_side(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """Two and four of the same: with -s, with -f over older outputs, with neither, as shards."""

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        kinds = ["-s", "-f", "", "shard"] if one.call.again == "-s" else ["-f"]
        if one.tool in ("lnq-phantom", "lnq-train"):
            kinds = ["-s"] if one.tool == "lnq-train" else ["-s", "-f"]
        kind = kinds[number % len(kinds)]
        with_old = kind == "-f"
        one.fresh(own, with_old)
        several = 2 if number % 8 < 4 else 4
        more = [
            ["--shard", f"{k}/{several}"] if kind == "shard" else [kind] if kind else []
            for k in range(several)
        ]
        processes = [one.call.start(own, *given) for given in more]
        wrong = _all_ended(one, own, processes, () if kind else ("exists",))
        wrong += one.damaged(own)
        name = {"": "no option", "shard": "--shard"}.get(kind, kind)
        return f"{several} with {name}", tuple(wrong)

    yield from _tries(
        "several processes write the same folder at the same time",
        known,
        _number(16, 4, scale),
        attempt,
        place,
        "every output whole and there, none said anything but that another made it, nothing left",
    )


def _all_ended(
    one: Known, own: Path, processes: Sequence[subprocess.Popen], words: Sequence[str]
) -> list[str]:
    """Wait for processes; return what they should not have said, what is missing, what is left.

    ``words`` are those of one that another was faster than.
    """
    wrong = []
    for process in processes:
        said = _ended(process) or ""
        slower = (*words, "Directory not empty", "is being trained by another process")
        lines = said.splitlines()
        wrong += [f"it said: {line}" for line in lines if not any(word in line for word in slower)]
        if process.returncode != (1 if said else 0):
            wrong.append(f"status {process.returncode}: {said.strip()[-300:]}")
    made = one.call.outputs(own)
    wrong += [f"{name} is missing" for name in one.expected if name not in made]
    return wrong + [f"{name} is left" for name in left_behind(own)]


def _other_options_side_by_side(known: Sequence[Known], place: Path, scale: float) -> Iterator[Row]:
    """Two processes with different options into one folder, both with -f, or both with -s."""

    def attempt(one: Known, own: Path, number: int, moment: float) -> Tried:
        kind = "-f" if number % 2 or one.call.again == "-f" else "-s"
        one.fresh(own)
        processes = [one.call.start(own, kind), one.call.start(own, kind, *one.call.other)]
        wrong = _all_ended(one, own, processes, ("was made with",) if kind == "-s" else ())
        made = one.call.outputs(own)
        for name, content in made.items():
            both = one.expected.get(name), one.old.get(name)
            lacking = name == "nodes.tsv" and any(_is_part(content, whole) for whole in both)
            if content not in both and not lacking:
                wrong.append(f"{name} is neither one's nor the other's")
        return f"with {kind}", tuple(wrong)

    yield from _tries(
        "two processes with other options write the same folder at the same time",
        known,
        _number(12, 4, scale),
        attempt,
        place,
        "every output is one's or the other's, whole; with -s the difference is said",
    )
