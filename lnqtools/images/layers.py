"""Masks that are made a layer at a time, because whole ones would fill memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Layers:
    """A mask (z, y, x) of which each layer is made whenever it is asked for.

    It may be gone through again and again. Memory for a whole one has to be fetched from the
    system, which takes longer than to make it.

    Parameters
    ----------
    count : int
        How many layers it has.
    make : callable
        Takes the index of a layer and returns it, as (y, x) bool.

    Examples
    --------
    >>> values = np.array([[[0, 3]], [[5, 0]]])
    >>> [layer.tolist() for layer in Layers(2, lambda z: values[z] > 0)]
    [[[False, True]], [[True, False]]]
    """

    count: int
    make: Callable[[int], npt.NDArray[np.bool_]]

    def __iter__(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Make one layer after the other."""
        return map(self.make, range(self.count))

    def whole(self) -> npt.NDArray[np.bool_]:
        """Return the mask as one array."""
        return np.array(list(self))
