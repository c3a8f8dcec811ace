"""What a call into nnU-Net needs around it: packages, variables, a place for its chatter."""

from __future__ import annotations

import contextlib
import os
import shutil
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lnqtools.errors import LnqError, MissingExtraError
from lnqtools.files.atomic import private_folder
from lnqtools.memory import freed_memory_kept, machine_bytes

if TYPE_CHECKING:
    import torch

NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "out of memory", "OutOfMemoryError"),
    *("ALLOC_FAILED", "Unable to find a valid cuDNN algorithm", "unable to find an engine"),
)
"""Words of the errors for lack of memory. The last three are those of cuBLAS and cuDNN: they take
memory past torch's allocator, and cuDNN leaves out what does not fit until nothing is left."""


def require_nnunet() -> None:
    """Raise MissingExtraError unless torch and nnunetv2 are installed."""
    for module in ("torch", "nnunetv2"):
        if find_spec(module) is None:
            raise MissingExtraError("nnunet", module)


def choose_device(name: str) -> torch.device:
    """Return the torch device for ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.

    ``auto`` is the first of cuda, mps and cpu that this machine has.

    Raises
    ------
    LnqError
        If the machine does not have the device.
    """
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in usable.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LnqError(f"there is no device {name!r}: use cpu, cuda, cuda:N, mps or auto") from None
    missing = not usable.get(device.type, device.type == "cpu")
    if missing or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise LnqError(f"torch finds no device {name!r} on this machine; use --device cpu or auto")
    return device


def device_words(device: torch.device, count: int = 1) -> str:
    """Return what a device is called and how much memory it has; of several, of the first.

    Of a GPU whose driver does not say it, only the name is known.
    """
    import torch

    if device.type != "cuda":
        return f"{device} with {machine_bytes() / 2**30:.1f} GiB of memory"
    try:
        found = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):
        return str(device) if count == 1 else f"{count} GPUs"
    name = f"{device} ({found.name})" if count == 1 else f"{count} GPUs ({found.name}), each"
    return f"{name} with {found.total_memory / 2**30:.1f} GiB of memory"


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the block in which a GPU is the current one.

    Where nothing says which, torch takes the current one, and that is the first: nnU-Net's thread
    that pins batches would take memory there, whatever GPU trains.
    """
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def device_names() -> list[str]:
    """Return what `choose_device` may be asked for on this machine."""
    import torch

    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return found + ["mps"] * torch.backends.mps.is_available()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out: on a GPU, in torch's CPU allocator, or in a child process.

    On the CPU and on mps torch raises a plain RuntimeError, and a child's error comes as text.
    """
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def told_of_cpu(device: torch.device, doing: str) -> str:
    """Return the sentence for a step that the CPU did."""
    return f"the memory of {device} ran out while {doing}: the CPU did that"


@contextlib.contextmanager
def memory_told(device: torch.device | str) -> Iterator[None]:
    """Raise LnqError, which says what may help, if memory runs out within the block.

    Parameters
    ----------
    device : torch.device or str
        Whose memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        on_cpu = str(device) == "cpu"
        less = "crop the image" if on_cpu else "crop the image, or use --device cpu"
        raise LnqError(f"memory ran out ({device}): {less}") from None


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block, then restore what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def compiler_cache() -> Iterator[None]:
    """Give torch's compiler a private folder within the block; import torch in it.

    On import torch makes ``torchinductor_USER`` in the folder for temporary files, from which it
    would run what it finds there: anybody can make it first. A folder that the user named,
    ``TORCHINDUCTOR_CACHE_DIR``, stays in force.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    if os.environ.get(name):
        yield
        return
    with private_folder("lnq-torch") as folder, environment({name: folder}):
        yield


def why_not_compiled() -> str | None:
    """Return what torch lacks here to compile a network for a GPU; None if nothing.

    Triton builds its launcher with a C compiler and Python's headers. Where one of these is
    missing, as in slim containers, torch fails in the first batch.
    """
    if find_spec("triton") is None:
        return "triton is not installed"
    if not any(map(shutil.which, (os.environ.get("CC") or "gcc", "clang"))):
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are not installed"
    return None


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads within the block; None leaves its number alone."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def at_most_threads(most: int) -> contextlib.AbstractContextManager[None]:
    """Return the block in which torch uses at most so many CPU threads."""
    import torch

    return torch_threads(min(torch.get_num_threads(), most))


def network_memory(device: str) -> contextlib.AbstractContextManager[None]:
    """Return the block in which a network runs on a kind of device: a CPU keeps what it frees."""
    return freed_memory_kept() if device == "cpu" else contextlib.nullcontext()


@contextlib.contextmanager
def chatter_to(stream: TextIO | None) -> Iterator[None]:
    """Send what libraries print to ``stream``; None drops it, and their warnings too.

    ``sys.stdout`` is exchanged for the whole process while the block runs, so no other thread
    may write results meanwhile.
    """
    with contextlib.ExitStack() as stack:
        if stream is None:
            stream = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        stack.enter_context(contextlib.redirect_stdout(stream))
        yield
