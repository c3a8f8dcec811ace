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
import threading
import traceback
import warnings
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
NETWORK = ("lnq-infer", "lnq-train")
"""Tools that import torch."""


LAUNCHER = """\
#!{python} -IS
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect({socket!r})
request = os.memfd_create("request")
command = [{tool!r}, *sys.argv[1:]]
os.write(request, json.dumps([command, os.getcwd(), dict(os.environ)]).encode())
socket.send_fds(there, [b"!"], [request, 0, 1, 2])
code = os.waitstatus_to_exitcode(int.from_bytes(there.recv(4)))
os._exit(code if code >= 0 else 128 - code)
"""
"""A stand-in for a tool's launcher, for scripts; a signal to it does not reach the tool."""


def write_launchers(folder: Path) -> list[subprocess.Popen]:
    """Write a launcher of each installed tool that has it forked, and start what forks them."""
    started = {modules: folder / f"{len(modules)}.socket" for modules in (LIGHT, HEAVY)}
    for tool in BIN.glob("lnq-*"):
        path = started[HEAVY if tool.name in NETWORK else LIGHT]
        launcher = folder / tool.name
        text = LAUNCHER.format(python=sys.executable, socket=str(path), tool=str(tool))
        launcher.write_text(text)
        launcher.chmod(0o755)
    return [_listening(modules, path) for modules, path in started.items()]


def _listening(modules: tuple[str, ...], path: Path) -> subprocess.Popen:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        return subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno()), *modules],
            pass_fds=[listener.fileno()],
            cwd="/",
        )


class Starter:
    """A process that starts the tools of one set of libraries."""

    def __init__(self, modules: tuple[str, ...], environment: dict[str, str]):
        self._socket, theirs = socket.socketpair()
        pipe = subprocess.PIPE  # as what a tool gets: what cannot be rewound
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=pipe,
                stdout=pipe,
                env=environment,
                cwd="/",
            )

    def run(
        self,
        command: list[str],
        stdin: bytes,
        cwd: Path | None,
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run an installed tool to its end, with variables of its own or those of the libraries."""
        request = os.memfd_create("request")
        content = [command, os.fspath(cwd or Path.cwd()), variables]
        os.write(request, json.dumps(content).encode())
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
        """End the process."""
        self._socket.close()
        self._process.communicate()


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
    return command


def _status_of(launcher: str) -> int:
    """Run a launcher in this process."""
    try:
        runpy.run_path(launcher, run_name="__main__")
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
    from lnqtools.nnunet.environment import compiler_cache

    number, *modules = sys.argv[1:]
    _hide_pydicom()
    with warnings.catch_warnings(), compiler_cache():
        warnings.simplefilter("ignore")
        for module in modules:
            import_module(module)
    gc.collect()
    gc.freeze()
    server = socket.socket(fileno=int(number))
    listens = server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    sys.argv = (_serve_all if listens else _serve)(server)
    _end(_status_of(sys.argv[0]))


if __name__ == "__main__":
    _main()
