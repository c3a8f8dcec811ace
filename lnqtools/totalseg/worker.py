"""The process that TotalSegmentator runs in; `lnqtools.totalseg.segmenter` starts it.

Requests come on standard input and answers go to standard output, a JSON object a line. What
TotalSegmentator and nnU-Net print goes to standard error. The end of standard input ends the
process at once, whatever it is doing, and removes its private folder: nothing outlives the tool.

TotalSegmentator reads its settings when it is imported, so this module imports it in `main`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
from io import RawIOBase
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from lnqtools.nnunet.environment import choose_device, memory_told, network_memory


def main() -> None:
    """Answer requests until standard input ends."""
    settings = json.loads(sys.argv[1])
    # A thread that waits in sys.stdin would hold its lock; a forked child closes it, and hangs.
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    requests: SimpleQueue[dict] = SimpleQueue()
    listener = threading.Thread(
        target=_receive, args=(incoming, requests, settings["home"]), daemon=True
    )
    listener.start()
    _refuse_network()
    try:
        device = _prepare(settings["device"], settings["threads"])
    except Exception as error:  # noqa: BLE001  whatever it is, the tool says it
        _answer(answers, error=_message(error))
        return
    _answer(answers, device=device)
    while True:
        try:
            _segment(requests.get(), device)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            _answer(answers, error=_message(error))
        else:
            _answer(answers)


def _receive(incoming: RawIOBase, requests: SimpleQueue[dict], home: str) -> None:
    """Queue requests; end the process when the tool is gone."""
    for line in incoming:
        requests.put(json.loads(line))
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _answer(answers: TextIO, **content: Any) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _message(error: BaseException) -> str:
    """Return the last line of an error's text, or the one that says what is wrong with a GPU."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if "CUDA error" in line), lines[-1])


def _refuse_network() -> None:
    """Let no Python code in this process ask for another machine's address, or reach one."""
    looks_up = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    reaches = ("socket.connect", "socket.sendto", "socket.sendmsg")

    def audit(event: str, arguments: tuple) -> None:
        if event in looks_up or (event in reaches and isinstance(arguments[1], tuple)):
            raise PermissionError("TotalSegmentator wanted to use the network")

    sys.addaudithook(audit)


def _prepare(device: str, threads: int) -> str:
    """Load TotalSegmentator, fit it to one process for many cases; return the device it uses."""
    chosen = choose_device(device)
    # TotalSegmentator takes as many threads as the machine has cores, allotted or not
    multiprocessing.cpu_count = lambda: threads  # type: ignore[method-assign]

    from totalsegmentator import config, python_api

    config.setup_nnunet()  # before nnU-Net is imported, as TotalSegmentator does
    from totalsegmentator.nnunet import nnUNetPredictor  # which it patches here

    # The weights were checked; this would download, and remove the user's older models.
    python_api.download_pretrained_weights = lambda task_id: None
    _stay_in_this_process(nnUNetPredictor)
    _keep_models(nnUNetPredictor)
    if chosen.type == "cuda":
        return f"gpu:{chosen.index or 0}"
    return chosen.type


def _stay_in_this_process(predictor: type) -> None:
    """Predict without the pools that nnU-Net starts anew for every model and case.

    They cost more than the work; the sequential method gives the same voxels.
    """

    def predict_from_files(
        self,
        source,
        target,
        save_probabilities=False,
        overwrite=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
        folder_with_segs_from_prev_stage=None,
        num_parts=1,
        part_id=0,
        **rest,
    ):
        return self.predict_from_files_sequential(
            _channels_by_image(source, self.dataset_json["file_ending"]),
            target,
            save_probabilities,
            overwrite,
            folder_with_segs_from_prev_stage,
            **rest,
        )

    predictor.predict_from_files = predict_from_files  # type: ignore[attr-defined]


def _channels_by_image(folder: str, ending: str) -> list[list[str]]:
    """List the files ``NAME_0000``, ``NAME_0001`` … of each image.

    Given the folder itself, nnU-Net forks a pool to list it.
    """
    images: dict[str, list[str]] = {}
    for path in sorted(Path(folder).glob(f"*_[0-9][0-9][0-9][0-9]{ending}")):
        name = path.name.removesuffix(ending)
        images.setdefault(name[:-5], []).append(str(path))
    return list(images.values())


def _keep_models(predictor: type) -> None:
    """Load each model once: TotalSegmentator makes a new predictor for every case."""
    from lnqtools.nnunet.trust import refuse_code

    load = predictor.initialize_from_trained_model_folder  # type: ignore[attr-defined]
    loaded: dict[tuple, dict] = {}

    def initialize_from_trained_model_folder(self, folder, use_folds, checkpoint_name):
        key = (folder, str(use_folds), checkpoint_name)
        if key not in loaded:
            refuse_code(Path(folder), use_folds, checkpoint_name)
            before = dict(vars(self))
            load(self, folder, use_folds, checkpoint_name)
            loaded[key] = {k: v for k, v in vars(self).items() if before.get(k) is not v}
        vars(self).update(loaded[key])

    predictor.initialize_from_trained_model_folder = (  # type: ignore[attr-defined]
        initialize_from_trained_model_folder
    )


def _segment(request: dict, device: str) -> None:
    """Run TotalSegmentator on one CT."""
    from totalsegmentator.python_api import totalsegmentator

    with memory_told(device), network_memory(device):
        totalsegmentator(
            Path(request["ct"]),
            Path(request["map"]),
            ml=True,
            task=request["task"],
            fast=request["fast"],
            save_lowres=request["low_resolution"],
            device=device,
            quiet=True,
            nr_thr_resamp=1,
            nr_thr_saving=1,
        )


if __name__ == "__main__":
    main()
