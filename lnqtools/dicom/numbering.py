"""Which segments a mask becomes: one of all nodes, or one per node, with their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lnqtools.components.labeling import find_components, find_instances
from lnqtools.images.names import label_table, names_in_header
from lnqtools.images.volume import Volume, as_label

LONGEST_LABEL = 64
"""Characters of a segment's name, as the standard has it (LO)."""
ALL_NODES = "Lymph nodes"


class Node(NamedTuple):
    """One segment: its number, and what it is called."""

    number: int
    name: str


class Numbered(NamedTuple):
    """A mask in which each segment has a number."""

    array: np.ndarray
    nodes: list[Node]


@dataclass(frozen=True)
class Numbering:
    """How the segments of masks are numbered.

    Parameters
    ----------
    per_node : bool
        Whether each node is a segment; else all nodes are one.
    instances : bool
        Whether a mask's values number its nodes; else components are nodes.
    connectivity : int
        Of components.
    """

    per_node: bool
    instances: bool
    connectivity: int

    def numbers(self, mask: Volume) -> Numbered:
        """Return a mask with its segments numbered from 1 on, and their names.

        With ``instances`` nodes are called as the header says; others are called by the number
        that tables of components give them.
        """
        if not self.per_node:
            return Numbered((mask.array != 0).astype(np.uint8), [Node(1, ALL_NODES)])
        if self.instances:
            found, names = find_instances(mask.array, mask.grid), names_in_header(mask)
        else:
            found, names = find_components(mask.array, mask.grid, self.connectivity), {}
        nodes = [
            Node(k, names.get(int(number), f"Lymph node {number}")[:LONGEST_LABEL])
            for k, number in enumerate(found.ids.tolist(), 1)
        ]
        return Numbered(as_label(found.label_map(np.uint16)), nodes)

    def labels(self, mask: Volume) -> Volume:
        """Return the same as a label image, named in its header."""
        array, nodes = self.numbers(mask)
        table = label_table({node.number: node.name for node in nodes})
        return replace(mask, array=array, extensions=(table,))
