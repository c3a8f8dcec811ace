"""lnq-infer, whose first case finds too little memory on the device, and the others enough.

On a GPU it is the limit of torch's allocator that a patch's feature maps do not fit in; on a CPU
the network says what torch's allocator would.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lnqtools.cli.infer import main
from lnqtools.nnunet.predict import Predictor

LIMIT_BYTES = (2 << 20) + (64 << 10)
"""One of the pieces that torch takes of a GPU for what is small: weights, and not all maps."""
BY_NAME = Predictor.predict_prepared


@contextmanager
def too_little_memory(predictor: Predictor) -> Iterator[None]:
    network = predictor._model.network
    plain = network.forward
    if predictor.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(LIMIT_BYTES / torch.cuda.mem_get_info()[1])
    else:
        network.forward = no_memory
    try:
        yield
    finally:
        network.forward = plain
        if predictor.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)


def no_memory(_: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def predict_prepared(self: Predictor, *arguments: Any, **options: Any) -> Any:
    if cases:
        return BY_NAME(self, *arguments, **options)
    cases.append(1)
    with too_little_memory(self):
        return BY_NAME(self, *arguments, **options)


cases: list[int] = []
Predictor.predict_prepared = predict_prepared  # type: ignore[method-assign]
sys.exit(main())
