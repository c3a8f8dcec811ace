"""Gather the wheels that a machine without network lacks: python -m tests.gpu.wheels DIR.

The versions are those installed here, of all that lnqtools[nnunet,totalsegmentator] and the tests
on a GPU need but torch, torchvision and what these bring along; with a wheel of lnqtools as it is.
They go into DIR/part-1, part-2, … of at most so many MB, to be carried one by one. On that machine
`make gpu-test WHEELS=DIR` installs them in an environment of their own, which sees PYTHON's torch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OURS = "lnq-tools"
WANTED = (f"{OURS}[nnunet,totalsegmentator]", "pytest", "hypothesis", "nibabel")
THERE = ("torch", "torchvision")
LEFT_OUT = ("fury",)
"""TotalSegmentator draws previews with it, and with VTK's hundred MB; here it draws none."""
PLATFORMS = ("manylinux1", "manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 24, 27, 28)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.wheels", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    running = "{}.{}".format(*sys.version_info)
    parser.add_argument("--python", default=running, help=f"of the machine (default: {running})")
    parser.add_argument("--machine", default="x86_64", help="its architecture (default: x86_64)")
    parser.add_argument("--part-mb", type=float, default=59, help="at most (default: 59)")
    parser.add_argument(
        "--have", type=Path, metavar="FILE", help="more that is there: a name a line, as pip freeze"
    )
    asked = parser.parse_args()
    if list(asked.folder.glob("part-*")):
        parser.error(f"{asked.folder} has parts already: name another folder, or remove them")
    have = asked.have.read_text().splitlines() if asked.have else ()
    lacking = missing(WANTED, have, asked.python)
    with tempfile.TemporaryDirectory() as place:
        found = gathered(lacking, Path(place), asked.python, asked.machine)
        sizes = {path: path.stat().st_size for path in found}
        for number, part in enumerate(parts(sizes, round(asked.part_mb * 1e6)), 1):
            into = asked.folder / f"part-{number}"
            into.mkdir(parents=True)
            for path in part:
                (into / path.name).write_bytes(path.read_bytes())
            size_mb = sum(sizes[path] for path in part) / 1e6
            sys.stdout.write(f"{into}\t{len(part)} wheels\t{size_mb:.1f} MB\n")


def missing(wanted: Iterable[str], have: Iterable[str], python: str) -> list[str]:
    """Return NAME==VERSION of all that is wanted, without what is there or comes with torch."""
    there = {canonicalize_name(line.partition("=")[0].split("@")[0].strip()) for line in have}
    lacking = set(closure(wanted, python)) - set(closure(THERE, python)) - there - {OURS}
    return sorted(f"{name}=={version(name)}" for name in lacking)


def closure(wanted: Iterable[str], python: str) -> Iterator[str]:
    """Yield the names of packages and of all that they need, as those installed here say."""
    left, seen = [Requirement(one) for one in wanted], set()
    while left:
        one = left.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen or name in LEFT_OUT:
            continue
        seen.add((name, extras))
        yield name
        try:
            needs = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue  # of the other machine alone
        there = {"python_version": python, "python_full_version": f"{python}.0"}
        for need in needs:
            chosen = [there | {"extra": extra} for extra in (extras or {""})]
            if need.marker is None or any(map(need.marker.evaluate, chosen)):
                left.append(need)


def gathered(lacking: Iterable[str], place: Path, python: str, machine: str) -> list[Path]:
    """Return the wheels of packages, downloaded or, where there is a source alone, built."""
    platforms = [f"--platform={name}_{machine}" for name in PLATFORMS]
    target = (f"--python-version={python}", "--implementation=cp", *platforms)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    download = ("download", "--no-deps", "--prefer-binary", "--dest", place)
    subprocess.run(list(map(str, (*pip, *download, *target, *lacking))), check=True)
    sources = [path for path in place.iterdir() if path.suffix != ".whl"]
    build = ("wheel", "--no-deps", "--wheel-dir", place)
    subprocess.run(list(map(str, (*pip, *build, *sources, ROOT))), check=True)
    for path in sources:
        path.unlink()
    return sorted(place.iterdir())


def parts(sizes: Mapping[Path, int], most: int) -> list[list[Path]]:
    """Return files in as few parts of at most so many bytes as the largest first give."""
    found: list[list[Path]] = []
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        if sizes[path] > most:
            sys.exit(f"{path.name} has {sizes[path] / 1e6:.1f} MB: raise --part-mb")
        fits = (part for part in found if sum(map(sizes.get, part)) + sizes[path] <= most)
        part = next(fits, None)
        if part is None:
            found.append(part := [])
        part.append(path)
    return found


if __name__ == "__main__":
    main()
