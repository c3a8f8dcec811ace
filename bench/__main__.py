"""Measure against other packages, alternately in one run: python -m bench [NAME]...

CPU seconds (all threads, children too), wall time and peak memory, as medians over rounds with the
least and the most, and as ratios to ours. Each comparison checks first that the results agree. NAME
may be the beginning of several: crop stands for crop-hu, crop-mask, and so on. The peak of a call
in memory is beyond what it was given; that of a command is all that its largest process held.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench import anatomy, growth, images, metrics, nnunet, scale
from bench.harness import COLUMNS, MARKDOWN_HEAD, Benchmark, circumstances

BENCHMARKS: dict[str, Benchmark] = {
    **images.BENCHMARKS,
    **growth.BENCHMARKS,
    **metrics.BENCHMARKS,
    **anatomy.BENCHMARKS,
    **nnunet.BENCHMARKS,
    **scale.BENCHMARKS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {known}; all by default")
    parser.add_argument("--rounds", type=int, help="5 by default, fewer of what takes long")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/bench"),
        metavar="DIR",
        help="where bench.tsv and bench.md go (default: build/bench)",
    )
    arguments = parser.parse_args()
    wanted = tuple(arguments.names)
    for name in wanted:
        if not any(known.startswith(name) for known in BENCHMARKS):
            parser.error(f"{name} is not one of {known}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    keep_bytecode(arguments.output / "bytecode")
    about = circumstances()
    table = ["# " + about, "\t".join(COLUMNS)]
    text = [about, "", *MARKDOWN_HEAD]
    print("\n".join(text))
    for name, benchmark in BENCHMARKS.items():
        if wanted and not name.startswith(wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in benchmark(Path(folder), arguments.rounds):
                table.append("\t".join(row.cells(name)))
                text.append(row.markdown())
                print(text[-1], flush=True)
        (arguments.output / "bench.tsv").write_text("\n".join(table) + "\n")
        (arguments.output / "bench.md").write_text("\n".join(text) + "\n")


def keep_bytecode(folder: Path) -> None:
    """Let programs that are started find what Python compiled before, as it does by itself.

    Where it must not write that down, as in some containers, each start would compile anew: ten
    seconds of what nnU-Net loads, in each of its processes.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder.absolute())


if __name__ == "__main__":
    sys.exit(main())
