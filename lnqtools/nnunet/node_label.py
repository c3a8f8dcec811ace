"""Which of a model's labels is the lymph node."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import torch
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

NODE_NAME = re.compile(
    r"lymph[\W_]*nod(e|al)|(?<![a-z])lns?(?![a-z])|^nodes?$",  # LN_4R, but not ln in Colnum
    re.IGNORECASE,
)
"""By what models call lymph nodes: a name that holds these words, or is one of them."""

LIKELY_NAME = re.compile(r"gtv[\W_]*n|nod(e|al)|lymph", re.IGNORECASE)
"""Names that may mean lymph nodes, as radiotherapy's GTVn: worth a hint, not a guess."""

MOST_NAMED = 20
"""Labels that a message lists; some models have a hundred."""

CT_NAMES = ("ct", "nonorm", "zscore", "rescale_to_0_1")
"""Channel names, in lower case, that name CTs, or a normalization and not a modality."""


@dataclass(frozen=True)
class NodeLabel:
    """The labels or regions of a model that are lymph nodes: their union, if several.

    Parameters
    ----------
    names : tuple of str
    channels : tuple of int
        Their places among the network's outputs.
    outputs : int
        How many outputs the network has.
    regions : bool
        Whether each output is a region with a probability of its own. Otherwise the outputs are
        labels that exclude each other, the background first.
    certain : bool
        Whether the name says that it is lymph node, or the user does.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    outputs: int
    regions: bool
    certain: bool

    @property
    def most_probable_wins(self) -> bool:
        """Whether nnU-Net decides by the largest of several probabilities, not by one above ½."""
        return not self.regions and self.outputs > 2

    def needed(self, logits: torch.Tensor) -> torch.Tensor:
        """Return those of the logits (output, z, y, x) on which the probability depends."""
        return logits[list(self.channels)] if self.regions else logits

    def probability(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return the probability of lymph node, (z, y, x).

        Those of labels that exclude each other add up. Of regions, which may overlap anyhow, the
        largest counts, the least that their union can have: above a threshold it is where one of
        them is.

        Parameters
        ----------
        probabilities : (output, z, y, x) tensor
            Of what `needed` returns.
        """
        if self.regions:
            return probabilities.amax(0)
        first, *others = self.channels
        if not others:
            return probabilities[first]
        return probabilities[list(self.channels)].sum(0).clamp_(max=1)  # of rounding

    def most_probable(self, logits: torch.Tensor) -> torch.Tensor:
        """Return where lymph node is the most probable of all labels, (z, y, x) bool."""
        if logits.device.type == "cpu":  # where numpy is three times as fast
            import torch

            first = torch.from_numpy(logits.numpy().argmax(0))
        else:
            first = logits.argmax(0)
        return functools.reduce(operator.or_, (first == channel for channel in self.channels))


def find_node_label(
    labels: Mapping[str, Any],
    manager: LabelManager,
    wanted: Sequence[str] | None = None,
    *,
    elsewhere: bool = False,
) -> NodeLabel:
    """Find the lymph nodes among a model's labels.

    Parameters
    ----------
    labels : mapping
        Name → value, or values of a region, as in dataset.json.
    manager : LabelManager
        nnU-Net's view of the same.
    wanted : sequence of str, optional
        Names that the user calls lymph nodes. Without them the one label counts that is called
        so, or is the only one.
    elsewhere : bool
        Other models may have those of the names that this one lacks, but for one at least.

    Raises
    ------
    LnqError
        If a name is not one of the labels, none is lymph node by its name, or several are.
    """
    channels = _channels(labels, manager)
    if not channels:
        raise LnqError("the model has no label but the background")
    there = list(channels)
    names = _chosen(there, wanted, elsewhere) if wanted else [_by_name(there)]
    return NodeLabel(
        tuple(names),
        tuple(sorted({channels[name] for name in names})),
        manager.num_segmentation_heads,
        bool(manager.has_regions),
        bool(wanted) or is_node_name(names[0]),
    )


def is_node_name(name: str) -> bool:
    """Tell whether a label's name says that it is lymph node."""
    return NODE_NAME.search(name) is not None


def _channels(labels: Mapping[str, Any], manager: LabelManager) -> dict[str, int]:
    """Return name → place among the network's outputs, without background and ignore label."""
    values = {
        name: [int(v) for v in (value if isinstance(value, list | tuple) else [value])]
        for name, value in labels.items()
        if name not in ("background", "ignore")
    }
    foreground = {name: those for name, those in values.items() if set(those) != {0}}
    if manager.has_regions:
        return {name: number for number, name in enumerate(foreground)}
    outputs = [int(value) for value in manager.all_labels]
    return {name: outputs.index(those[0]) for name, those in foreground.items()}


def _chosen(names: Sequence[str], wanted: Sequence[str], elsewhere: bool) -> list[str]:
    """Return the wanted names that are there, or raise LnqError."""
    there = [name for name in wanted if name in names]
    for name in wanted:
        if name not in names and not (elsewhere and there):
            by_lower_case = {n.lower(): n for n in names}
            near = get_close_matches(name.lower(), by_lower_case, 1)
            meant = f", did you mean {by_lower_case[near[0]]}? Its" if near else "; its"
            raise LnqError(f"has no label {name}{meant} labels are {_listed(names)}")
    return there


def _by_name(names: Sequence[str]) -> str:
    """Return the one name that says lymph node, or the only one; else raise LnqError."""
    nodes = [name for name in names if is_node_name(name)]
    if len(nodes) > 1:
        raise LnqError(
            f"{len(nodes)} of the model's labels could be the lymph nodes: {_listed(nodes)}; say "
            f"which with --label, as --label {nodes[0]} or, for their union, --label "
            f"{','.join(nodes[:MOST_NAMED])}"
        )
    if nodes or len(names) == 1:
        return [*nodes, *names][0]
    likely = next((name for name in names if LIKELY_NAME.search(name)), "NAME")
    raise LnqError(
        f"none of the model's labels is called lymph_node or the like: {_listed(names)}; "
        f"say which it is with --label {likely}"
    )


def _listed(names: Iterable[str]) -> str:
    """Return names, the first of many."""
    names = list(names)
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def doubts(dataset: dict[str, Any], node: NodeLabel) -> tuple[str, ...]:
    """Return what makes it doubtful that a model sees lymph nodes in CTs."""
    notes = []
    (channel,) = (dataset.get("channel_names") or dataset["modality"]).values()
    if str(channel).lower() not in CT_NAMES:
        notes.append(f"its channel is called {channel}, not CT")
    if not node.certain:
        notes.append(f"its only label is called {node.names[0]}; it is taken for lymph nodes")
    return tuple(notes)
