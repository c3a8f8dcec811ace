"""What torch finds on this machine, as JSON, and the sentence about it that heads a table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "triton", "nnunetv2", "TotalSegmentator", "numpy")
ASKED = """
import json, torch
there = torch.cuda.is_available()
print(json.dumps({
    "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] * there,
    "cuda": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version() if there else None,
}))
"""
"""In a process of its own: this one opens no GPU, and starts others that do."""


@cache
def found() -> dict[str, Any]:
    """Return the names of the GPUs, and the versions that torch has of CUDA and cuDNN."""
    told = subprocess.run([sys.executable, "-c", ASKED], stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)


def circumstances() -> str:
    """Return date, device, driver and versions."""
    facts = found()
    if facts["gpus"]:
        cuda = f"driver {_driver()}, CUDA {facts['cuda']}, cuDNN {facts['cudnn']}"
        device = f"{len(facts['gpus'])} × {facts['gpus'][0]}, {cuda}"
    else:
        device = "no GPU"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {device}, {len(os.sched_getaffinity(0))} cores "
        f"({platform.machine()}), Python {platform.python_version()}, "
        + ", ".join(f"{name} {_installed(name)}" for name in PACKAGES)
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
