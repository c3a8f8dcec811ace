"""What nnU-Net makes of a model's files: classes by their names, the network and its weights.

Whatever nnU-Net raises meanwhile goes through one door, `nnunet_reads`.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

WAY_ON = "install the version or fork of nnU-Net that it was trained with"
FILES_WAY_ON = "take the files, and the version or fork of nnU-Net, that it was trained with"
NNUNETS_OWN = "nnUNetTrainer"
TRAINER_FOLDERS = "nnUNet_extTrainer"
"""nnU-Net's variable: folders of trainers of one's own, whose files it imports."""


@contextmanager
def nnunet_reads(what: str, way_on: str = WAY_ON) -> Iterator[None]:
    """Turn whatever nnU-Net raises within the block into a sentence.

    Parameters
    ----------
    what : str
        What it reads, for the sentence.
    way_on : str
        What to do about it.

    Raises
    ------
    LnqError
        If any other exception is raised, except for lack of memory; a user's file that is imported
        may even raise SystemExit.
    """
    try:
        yield
    except (LnqError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise LnqError(
            f"nnU-Net {version('nnunetv2')} cannot read {what} ({reason(error)}): {way_on}"
        ) from error


def reason(error: BaseException) -> str:
    """Return what went wrong in the first line of an exception's words, and in which own file."""
    words = str(error).strip().splitlines()
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    folders = filter(None, os.environ.get(TRAINER_FOLDERS, "").split(os.pathsep))
    own = [file for folder in folders for file in files if _is_below(file, folder)]
    return ": ".join([type(error).__name__, *words[:1]]) + (f", in {own[-1]}" if own else "")


def _is_below(file: str, folder: str) -> bool:
    return Path(file).resolve().is_relative_to(Path(folder).resolve())


def build_network(
    plans: PlansManager,
    configuration: Any,
    outputs: int,
    trainer: str,
    weights: Mapping[str, Mapping[str, torch.Tensor]],
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Build the network as nnU-Net does, and check that the weights of all folds fit it.

    Parameters
    ----------
    plans, configuration
    outputs : int
    trainer : str
        Name of the class whose method builds the network.
    weights : mapping
        Fold → its weights, by the names of the network's parts.

    Returns
    -------
    network : Module
        With the weights of the first fold.
    notes : tuple of str
        What the user should know about it.

    Raises
    ------
    LnqError
        If the trainer or the network cannot be made, or weights do not fit.
    """
    build, notes = _builder(trainer)
    with nnunet_reads(f"the network of plans.json by the trainer {trainer}"):
        given: tuple[Any, ...] = (plans, configuration)
        if "plans_manager" not in inspect.signature(build).parameters:  # nnU-Net's before 2.8
            given = (
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
            )
        network = build(*given, 1, outputs, enable_deep_supervision=False)
        for fold, own in weights.items():
            _check_weights(network.state_dict(), own, fold, outputs, notes)
        network.load_state_dict(next(iter(weights.values())))
    return network, notes


def _check_weights(
    wanted: Mapping[str, torch.Tensor],
    there: Mapping[str, torch.Tensor],
    fold: str,
    outputs: int,
    notes: tuple[str, ...],
) -> None:
    """Raise LnqError if a fold's weights are not those of a network, and say in what."""
    sizes, own = ({k: tuple(v.shape) for k, v in w.items()} for w in (wanted, there))
    odd = [name for name in {**sizes, **own} if sizes.get(name) != own.get(name)]
    if not odd:
        return
    heads = {
        own[name][0] if own.get(name) and sizes.get(name) == (outputs, *own[name][1:]) else None
        for name in odd
    }
    if len(heads) == 1 and heads != {None}:
        raise LnqError(
            f"the labels of dataset.json make {outputs} outputs of the network, but {fold} has "
            f"{heads.pop()}: take the dataset.json that it was trained with"
        )
    here, planned = (of.get(odd[0], "missing") for of in (own, sizes))
    raise LnqError(
        f"the weights do not fit the network of plans.json: {len(odd)} of its parts differ, "
        f"{odd[0]} is {here} in {fold} and {planned} in the network; "
        + (f"{notes[0]} ({TRAINER_FOLDERS} says where a trainer is)" if notes else FILES_WAY_ON)
    )


def _builder(trainer: str) -> tuple[Callable[..., torch.nn.Module], tuple[str, ...]]:
    """Return what builds a trainer's network, and a note where it is a stand-in."""
    if trainer == NNUNETS_OWN:
        return _as_planned, ()
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

    found = None
    hint = f"install what it needs, or unset {TRAINER_FOLDERS}"
    with nnunet_reads(f"the trainer {trainer}", hint):
        try:
            found = find(trainer)
        except RuntimeError as error:
            if list(traceback.walk_tb(error.__traceback__))[-1][0].f_code is not find.__code__:
                raise  # not that there is none, but what a file in nnUNet_extTrainer raised
    if found is not None:
        return found.build_network_architecture, ()
    note = f"this nnU-Net has no trainer {trainer}: the network of plans.json is used"
    return _as_planned, (note,)


def _as_planned(
    architecture: str,
    options: Mapping[str, Any],
    options_to_import: Sequence[str],
    inputs: int,
    outputs: int,
    enable_deep_supervision: bool,
) -> torch.nn.Module:
    """Build a network as nnU-Net's own trainer does, but for its first weights.

    That class is not asked: to load it takes seconds, for all that training needs.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(
        *(architecture, options, options_to_import, inputs, outputs),
        allow_init=False,
        deep_supervision=enable_deep_supervision,
    )
