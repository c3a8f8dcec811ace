"""Small models to publish, the archives they are published in, and a server of files."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random


def write_stand_in(folder: Path, folds: int = 2, size: int = 3000) -> Path:
    """Write a results folder whose checkpoints hold nothing that could be run."""
    for fold in range(folds):
        checkpoint = folder / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(Random(fold).randbytes(size))
    (folder / "plans.json").write_text('{"plans_name": "p"}')
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}}
    (folder / "dataset.json").write_text(json.dumps(dataset | {"numTraining": 4}))
    return folder


def pack(archive: Path, folder: Path, *names: str) -> Path:
    """Write files of a folder, or all, into a zip archive."""
    paths = [folder / name for name in names] or sorted(folder.rglob("*"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in filter(Path.is_file, paths):
            opened.write(path, path.relative_to(folder))
    return archive


def served(path: Path, url: str | None = None, to: str | None = None) -> dict:
    """Return what a catalogue beside a file says of it; ``to``: where it is placed."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {"url": url or path.name, "sha256": digest, "size": path.stat().st_size}
    return {**known, **({"path": to} if to else {"unpack": True})}


def write_catalogue(path: Path, *files: dict, name: str = "nodes", **more) -> Path:
    """Write a catalogue of one model."""
    entry = {"name": name, "version": "1.0", "files": list(files), **more}
    path.write_text(json.dumps({"models": [entry]}))
    return path


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and parts of them; breaks off where the server's ``limits`` say so."""

    def do_GET(self):
        """Answer, with what follows the byte that was asked for."""
        self.server.asked.append((self.path, self.headers.get("Range")))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = 0
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = self.server.limits.pop(path.name, None)
        self.wfile.write(content[start:limit])
        if limit is not None and self.server.holds:  # the line, without a word
            self.server.holding.set()
            self.server.released.wait()

    def log_message(self, *_):
        """Say nothing."""


class Mirror(ThreadingHTTPServer):
    """A server of a folder, on this machine."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[tuple[str, str | None]] = []
        self.limits: dict[str, int] = {}
        self.ranges = self.lengths = True
        self.holds = False
        self.holding, self.released = threading.Event(), threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@contextmanager
def mirror_of(folder: Path) -> Iterator[Mirror]:
    """Serve a folder until the block ends."""
    with Mirror(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
