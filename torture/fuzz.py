"""A fuzzer guided by coverage (atheris) over everything that parses data.

Runs each target of tests/corpus/targets.py in a process of its own. What breaks a promise is kept
in tests/corpus/findings, where tests/test_corpus.py tries it again and again.
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import ROOT
from torture.rows import Row

MINUTES = 10
"""Of all targets together, on two cores, at scale 1."""
AT_ONCE = 2
SHARES = {"nifti": 6, "nrrd": 4, "meta": 4, "table": 3, "recipe": 2, "splits": 1}
MIB, SECONDS = 1024, 10
"""Most memory and time that an input may take."""
LONGEST = 4096
"""Bytes of an input; what a seed has more is cut off."""


def run_target(name: str, seconds: int, folder: Path) -> None:
    """Fuzz a target in this process until the time is over; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["lnqtools"]):
        from tests.corpus.targets import TARGETS
    target, seeds = TARGETS[name]
    (folder / "seeds").mkdir(parents=True)
    for content in seeds():
        (folder / "seeds" / hashlib.sha1(content).hexdigest()).write_bytes(content)
    taken = sum(target(content[:LONGEST]) for content in seeds())
    print(f"seeds taken: {taken}", file=sys.stderr, flush=True)  # libFuzzer ends the process
    limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MIB}", "-timeout=120"]
    places = [f"-artifact_prefix={folder}/found-", str(folder / "seeds")]
    options = [f"-max_len={LONGEST}", "-print_final_stats=1", "-seed=1"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # it kills Python at its end
    atheris.Setup([sys.argv[0], *limits, *options, *places], timed(target))
    atheris.Fuzz()


def timed(target: Callable[[bytes], bool]) -> Callable[[bytes], None]:
    """Let a target fail if it takes long; libFuzzer's own alarm goes by the clock on the wall."""

    def run(content: bytes) -> None:
        begin = time.process_time()
        target(content)
        assert time.process_time() - begin < SECONDS, "takes too long"

    return run


def fuzzed(name: str, seconds: int, folder: Path) -> Row:
    """Fuzz a target in a process of its own; return what came of it."""
    from tests.corpus.targets import FINDINGS

    command = [sys.executable, "-m", "torture.fuzz", name, str(seconds), str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=3 * seconds + 300)
    said = done.stderr.decode(errors="replace")
    wrong = []
    for found in sorted(folder.glob("found-*")):
        content = found.read_bytes()
        kept = FINDINGS / f"{name}-{hashlib.sha1(content).hexdigest()[:12]}"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)
        wrong.append(f"{name}: {kept.relative_to(ROOT)}: {_reason(said)}")
    if done.returncode and not wrong:
        wrong.append(f"{name}: the fuzzer ended with {done.returncode}: {said[-500:]!r}")
    taken = re.search(r"seeds taken: (\d+)", said)
    if not taken or taken[1] == "0":
        wrong.append(f"{name}: no input that it began with was taken, so that it tried nothing")
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    peak = re.search(r"peak_rss_mb: *(\d+)", said)
    coverage = re.findall(r"\bcov: (\d+)", said)
    outcome = (
        f"read as it should be, or refused in a sentence; {taken[1] if taken else 'none'} of the "
        f"inputs it began with taken; {coverage[-1] if coverage else '?'} "
        f"branches reached, at most {peak[1] if peak else '?'} MiB with the fuzzer's own"
    )
    return Row(
        f"{seconds} s of fuzzing", f"reader of {name}", int(runs[1]) if runs else 0, outcome,
        tuple(wrong),
    )  # fmt: skip


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if "Error" in line or "ERROR" in line]
    return lines[0][:200] if lines else "it ended early"


def torture(folder: Path, scale: float) -> Iterator[Row]:
    """Fuzz every target for its share of the time."""
    each = AT_ONCE * MINUTES * 60 * scale / sum(SHARES.values())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(
            lambda item: fuzzed(item[0], max(2, round(each * item[1])), folder / item[0]),
            SHARES.items(),
        )


if __name__ == "__main__":
    run_target(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
