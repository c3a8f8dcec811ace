"""What tests share: running installed tools, writing and reading small images."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

from lnqtools.files.atomic import temporary_suffix
from tests.starter import (
    HEAVY,
    LIGHT,
    Starter,
    libraries,
    listen,
    write_launchers,
    write_stand_in,
)

# The machines that run the tests are shared: a slow example is not a defect. Where a change is to
# land the examples are the same each time; elsewhere they are drawn anew.
settings.register_profile("shared machine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("shared machine")

for _signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_signum) is signal.SIG_IGN:  # by nohup, or by a shell for a job of '&'
        # As before nothing happens here, but what is started here heeds the signal: a handler is
        # not inherited, ignoring it would be.
        signal.signal(_signum, lambda *_: None)

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "real"
WITHOUT_PRIVILEGE = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
)
"""Before a command; root may read and write everything, and then no permission is tested."""


ENVIRONMENT = dict(os.environ)
"""The variables before libraries that tests import set their own."""


def environment() -> dict[str, str]:
    """Return the variables of this process but that which torch, once imported, sets for others."""
    return {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}


@dataclass(frozen=True)
class Result:
    """How a tool ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


_ending = ExitStack()
_before_the_test: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remember the variables, to know those that the test sets."""
    _before_the_test.clear()
    _before_the_test.update(os.environ)


NOT_OF_A_TEST = re.compile("PYTEST_CURRENT_TEST|TORCHINDUCTOR_.*|KMP_.*|ME_DSL_.*")
"""Variables of pytest, and those that torch and blosc2 set once they are imported."""


READ_LATE = {"TMPDIR", "TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH"}
"""Variables that no library reads when it is imported."""


def _set_variables() -> set[str]:
    """Return which variables the test has set, for what it starts."""
    changed = {name for name, _ in _before_the_test.items() ^ os.environ.items()}
    return {name for name in changed if not NOT_OF_A_TEST.fullmatch(name)}


@cache
def _sockets() -> Path:
    """Return a folder for the sockets where tools are asked for."""
    folder = Path(_ending.enter_context(TemporaryDirectory()))  # a socket's path must be short
    write_stand_in(folder, _path_of(folder, HEAVY))
    return folder


def _path_of(folder: Path, modules: tuple[str, ...]) -> Path:
    return folder / f"{len(modules)}.socket"


@cache
def _socket(modules: tuple[str, ...]) -> Path:
    """Start a process that forks tools; return where it listens."""
    path = _path_of(_sockets(), modules)
    server = _ending.enter_context(listen(modules, path, ENVIRONMENT))
    _ending.callback(server.kill)
    return path


@cache
def _starter(modules: tuple[str, ...]) -> Starter:
    starter = Starter(_socket(modules))
    _ending.callback(starter.close)
    return starter


LONG = ("test_readme.py", "test_examples.py", "test_ablation.py")
"""Files of tests that take minutes each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the longest tests, so that no core waits for one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONG, item.path not in slow))


@cache
def _launchers() -> Path:
    """Return a folder of launchers that have tools forked."""
    write_launchers(_sockets(), {modules: _socket(modules) for modules in (LIGHT, HEAVY)})
    return _sockets()


def pytest_unconfigure() -> None:
    """End the processes that start tools."""
    _ending.close()


def run(
    tool: str,
    *arguments,
    stdin: bytes = b"",
    cwd: Path | None = None,
    anew: bool = False,
    variables: dict[str, str] | None = None,
) -> Result:
    """Run an installed tool; its bytes come back as text, undecodable ones escaped.

    The process is forked of one that has the libraries loaded, unless the test has set variables
    that these read, or it is to start ``anew``, as at a shell. ``variables`` of its own are those
    that libraries do not read.
    """
    command = [str(BIN / tool), *map(str, arguments)]
    changed = _set_variables()
    others = {**environment(), **(variables or {})} if changed or variables else None
    if anew or changed - READ_LATE:
        done = subprocess.run(
            command, input=stdin, capture_output=True, cwd=cwd, check=False, env=others
        )
    else:
        if tool == "lnq-anatomy" or "totalsegmentator" in arguments:
            _socket(HEAVY)  # which forks TotalSegmentator's process, too
        done = _starter(libraries(tool)).run(command, stdin, cwd, others)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Result(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def left_by_a_killed_run(target: Path) -> Path:
    """Return the name of the temporary file or folder of a run that has ended on this host."""
    process = subprocess.Popen(["true"])
    process.wait()
    return target.with_name(f".{target.name}{temporary_suffix(process.pid)}")


def succeed(tool: str, *arguments, **rest) -> Result:
    """Run an installed tool that must end with status 0."""
    result = run(tool, *arguments, **rest)
    assert result.status == 0, result.err
    return result


def shell(command: str, cwd: Path, *, forked: bool = False) -> Result:
    """Run a bash line with the installed tools on the PATH; of a long script they may be forked."""
    tools = f"{_launchers()}:{BIN}" if forked else BIN
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'PATH="{tools}:$PATH"; {command}'],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Return an LPS affine, as CTs mostly have, of spacing and origin (x, y, z)."""
    return np.array(
        [
            [-spacing[0], 0, 0, origin[0]],
            [0, -spacing[1], 0, origin[1]],
            [0, 0, spacing[2], origin[2]],
            [0, 0, 0, 1.0],
        ]
    )


def save(path: Path, array: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    """Write an array (z, y, x) with nibabel, so that tests do not trust our writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine() if matrix is None else matrix)
    nib.save(image, path)
    return path


def load(path: Path | str) -> np.ndarray:
    """Read an array (z, y, x) with nibabel."""
    return np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0)


def matrix_of(path: Path | str) -> np.ndarray:
    """Read the affine with nibabel."""
    return nib.load(path).affine


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder of real CTs, or skip."""
    if not REAL.is_dir():
        pytest.skip(f"no real CTs at {REAL}")
    return REAL


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch work in one thread: another number of them may round otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def surrogate_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights for TotalSegmentator's fast model, on which the real package runs."""
    return _write_weights(tmp_path_factory, [297])


@pytest.fixture(scope="session")
def all_surrogate_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights for every model that lnq-anatomy runs."""
    from tests.totalseg_data import TASK_IDS

    return _write_weights(tmp_path_factory, TASK_IDS)


def _write_weights(tmp_path_factory: pytest.TempPathFactory, task_ids: Iterable[int]) -> Path:
    pytest.importorskip("totalsegmentator")
    from tests.totalseg_data import write_surrogate_weights

    folder = tmp_path_factory.mktemp("weights")
    write_surrogate_weights(folder, task_ids)
    return folder
