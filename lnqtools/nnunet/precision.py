"""In which floating-point numbers a network computes.

Weights, sums and losses stay in single precision; in 16 bits are the products of its layers, by
torch's autocast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError
from lnqtools.nnunet.environment import on_device

if TYPE_CHECKING:
    import torch

AUTO, SINGLE, BFLOAT, HALF = "auto", "fp32", "bf16", "fp16"

BFLOAT_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Names in /proc/cpuinfo of what multiplies bfloat16, on x86 and (the last) on ARM."""


def check_precision(precision: str, device: torch.device) -> None:
    """Raise LnqError if a device does not compute in a precision itself.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16", "fp16"}
    device : torch.device
    """
    import torch

    if precision == HALF and device.type == "cpu":
        raise LnqError("--precision fp16: CPUs do not compute in it; use bf16 or fp32")
    if precision != BFLOAT:
        return
    if device.type == "cpu" and not BFLOAT_INSTRUCTIONS & processor_flags():
        raise LnqError(
            f"--precision bf16: this processor has no instructions for it ({_names()}): it would "
            "be slower than fp32; use that"
        )
    if device.type == "cuda":
        with on_device(device):  # torch asks the current one
            has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        if not has_it:
            raise LnqError("--precision bf16: this GPU does not compute in it; use fp16 or fp32")


def _names() -> str:
    return " or ".join(sorted(BFLOAT_INSTRUCTIONS - {"bf16"}))


def processor_flags(told: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return what the kernel says that this machine's processor can do; nothing if it does not."""
    try:
        lines = told.read_text().splitlines()
    except OSError:
        return set()
    kinds = ("flags", "Features")
    return {flag for line in lines if line.startswith(kinds) for flag in line.split(":")[1].split()}


def computing_in(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the block in which a network computes in a precision.

    ``auto`` leaves it to what surrounds the block: nnU-Net has fp16 on CUDA and fp32 elsewhere.
    """
    import torch

    if precision == AUTO:
        return contextlib.nullcontext()
    if precision == SINGLE:
        return torch.autocast(device.type, enabled=False)
    kind = {BFLOAT: torch.bfloat16, HALF: torch.float16}[precision]
    return torch.autocast(device.type, dtype=kind)


def computes_in(
    forward: Callable[[torch.Tensor], Any], precision: str, device: torch.device
) -> Callable[[torch.Tensor], Any]:
    """Return a network's function that computes in a precision; what it returns is in fp32."""

    def computed(patches: torch.Tensor) -> Any:
        with computing_in(precision, device):
            outputs = forward(patches)
        if isinstance(outputs, list | tuple):  # of each level, with deep supervision
            return [output.float() for output in outputs]
        return outputs.float()

    if precision == SINGLE and device.type == "cuda":
        _whole_products()
    return forward if precision == AUTO else computed


def _whole_products() -> None:
    """Let this process's GPUs multiply single precision as it is.

    By itself torch lets cuDNN round what a convolution multiplies to 10 bits (TF32), as many as
    half precision has.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
