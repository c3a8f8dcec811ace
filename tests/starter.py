"""Tools started without waiting for their imports: a process that has made them forks each call.

A call is a process of its own, with its own standard streams, status and end by signal, and runs
the installed launcher. Most of its time it would otherwise spend on importing numpy and scipy (a
second) or torch and nnU-Net (ten). What a start itself does is tested with real starts.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

BIN = Path(sys.executable).parent
LIGHT = (
    *("nibabel", "scipy.ndimage", "scipy.spatial", "scipy.stats", "cc3d", "isal.igzip"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("PIL.JpegImagePlugin", "lnqtools.cli._batch", "lnqtools.images.volume"),
)
HEAVY = (*LIGHT, "lnqtools.nnunet.trainer", "lnqtools.nnunet.predict", "lnqtools.nnunet.train")
DICOM = (*LIGHT, "highdicom")
BEFORE = {"lnq-infer": HEAVY, "lnq-train": HEAVY, "lnq-dicom": DICOM}
"""What is loaded before a tool is forked, if it is more than `LIGHT`."""


WORKER = ["-P", "-m", "lnqtools.totalseg.worker"]
"""How a tool starts the process in which TotalSegmentator runs: by Python."""
STAND_IN = "stand-in-for-python"
LAUNCHER = """\
#!{python} -IS
import json, os, socket, sys
if {only!r} and (sys.argv[1:4] != {only!r} or not os.path.exists({socket!r})):
    os.execv({tool!r}, [{tool!r}, *sys.argv[1:]])
there = socket.socket(socket.AF_UNIX)
there.connect({socket!r})
request = os.memfd_create("request")
command = [{tool!r}, *sys.argv[1:]]
os.write(request, json.dumps([command, os.getcwd(), dict(os.environ)]).encode())
socket.send_fds(there, [b"!"], [request, 0, 1, 2])
code = os.waitstatus_to_exitcode(int.from_bytes(there.recv(4)))
os._exit(code if code >= 0 else 128 - code)
"""
"""A stand-in for a tool's launcher, for scripts; a signal to it does not reach the tool.

Of Python it is one for what begins with certain arguments only.
"""


def write_launchers(folder: Path, sockets: dict[tuple[str, ...], Path]) -> None:
    """Write a launcher of each installed tool that has it forked, by what listens at a socket."""
    for tool in BIN.glob("lnq-*"):
        path = sockets.get(libraries(tool.name), sockets[LIGHT])
        _write_launcher(folder / tool.name, str(tool), path)


def write_stand_in(folder: Path, path: Path) -> None:
    """Write what forks TotalSegmentator's process, if something listens at a socket."""
    _write_launcher(folder / STAND_IN, sys.executable, path, WORKER)


def _write_launcher(launcher: Path, tool: str, path: Path, only: Sequence[str] = ()) -> None:
    words = {"python": sys.executable, "socket": str(path), "tool": tool, "only": list(only)}
    launcher.write_text(LAUNCHER.format(**words))
    launcher.chmod(0o755)


def libraries(tool: str) -> tuple[str, ...]:
    """Return the modules that are loaded before a tool is forked."""
    return BEFORE.get(tool, LIGHT)


def listen(
    modules: tuple[str, ...], path: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that loads libraries, and forks the tools that are asked for at a socket."""
    pipe = subprocess.PIPE  # as what a tool gets: what cannot be rewound
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        return subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno()), *modules],
            pass_fds=[listener.fileno()],
            stdin=pipe,
            stdout=pipe,
            env=environment,
            cwd="/",
        )


class Starter:
    """Starts tools, one after the other, by the process that listens at a socket."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def run(
        self, command: list[str], stdin: bytes, cwd: Path | None, variables: dict[str, str] | None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run an installed tool to its end, with variables of its own if there are any."""
        request = os.memfd_create("request")
        os.write(request, json.dumps([command, os.fspath(cwd or Path.cwd()), variables]).encode())
        pipes = [os.pipe() for _ in range(3)]
        ours = [os.fdopen(pipes[0][1], "wb"), *(os.fdopen(end, "rb") for end, _ in pipes[1:])]
        theirs = [request, pipes[0][0], pipes[1][1], pipes[2][1]]
        socket.send_fds(self._socket, [b"!"], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        said = [b"", b""]

        def feed() -> None:
            with suppress(BrokenPipeError), ours[0] as stream:
                stream.write(stdin)

        def read(number: int) -> None:
            with ours[1 + number] as stream:
                said[number] = stream.read()

        threads = [
            threading.Thread(target=feed),
            *(threading.Thread(target=read, args=(n,)) for n in (0, 1)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status = self._socket.recv(4)
        assert status, "the process that starts tools is gone"
        code = os.waitstatus_to_exitcode(int.from_bytes(status))
        return subprocess.CompletedProcess(command, code, *said)

    def close(self) -> None:
        """Ask for no more tools."""
        self._socket.close()


def _serve(connection: socket.socket) -> list[str]:
    """Fork a process for each request; return in it, with the command that it is to run."""
    while True:
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not descriptors:
            os._exit(0)
        child = os.fork()
        if child == 0:
            connection.close()
            return _become(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        with suppress(BrokenPipeError):  # who asked was killed
            connection.sendall(status.to_bytes(4))


def _serve_all(listener: socket.socket) -> list[str]:
    """Do as `_serve` for any number of others at a time, each of one request."""
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _serve(connection)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(descriptors: list[int]) -> list[str]:
    """Take over the streams, folder and variables of a request; return its command."""
    with os.fdopen(descriptors[0], "rb") as request:
        request.seek(0)
        command, cwd, variables = json.load(request)
    for number, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    if variables is not None:
        os.environ.clear()
        os.environ.update(variables)
        tempfile.tempdir = None  # TMPDIR may be another
    return command


def _work_for_totalsegmentator() -> None:
    """Run its process: nnU-Net and it read their settings when they are imported, so anew."""
    for name in list(sys.modules):
        if name.startswith(("nnunetv2", "lnqtools.nnunet")) or sys.modules[name] is None:
            del sys.modules[name]
    sys.executable = sys.argv[0]
    del sys.argv[1 : 1 + len(WORKER)]
    runpy.run_module(WORKER[-1], run_name="__main__", alter_sys=True)


def _status_of(command: list[str]) -> int:
    """Run a launcher, or TotalSegmentator's process, in this one."""
    try:
        if command[1 : 1 + len(WORKER)] == WORKER:
            _work_for_totalsegmentator()
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:  # noqa: BLE001  as the interpreter does at its end
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End as an interpreter does, but for taking every imported module apart (0.2 s)."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _main() -> NoReturn:
    """Import what tools do, then start them."""
    from lnqtools.cli._tool import _hide_pydicom
    from lnqtools.dicom import packages
    from lnqtools.nnunet.environment import compiler_cache

    number, *modules = sys.argv[1:]
    _hide_pydicom()
    with warnings.catch_warnings(), compiler_cache():
        warnings.simplefilter("ignore")
        for module in modules:
            (packages.load if module == "highdicom" else import_module)(module)
    gc.collect()
    gc.freeze()
    listener = socket.socket(fileno=int(number))
    sys.executable = str(Path(listener.getsockname()).with_name(STAND_IN))
    sys.argv = _serve_all(listener)
    _end(_status_of(sys.argv))


if __name__ == "__main__":
    _main()
