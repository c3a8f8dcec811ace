"""What a model may name without running unknown code."""

from __future__ import annotations

import pydoc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnqtools.files.json_files import read_json
from lnqtools.nnunet.checkpoint import UntrustedModelError, load_checkpoint

NETWORK_PACKAGES = ("dynamic_network_architectures", "torch")
"""Where the classes that make a network come from, unless a model is trusted."""


def refuse_code(folder: Path, folds: str | int | Sequence[str | int], checkpoint: str) -> None:
    """Raise UntrustedModelError if nnU-Net's own loading of a model could run code that it brings.

    Parameters
    ----------
    folder : Path
        With ``plans.json`` and ``fold_*``.
    folds, checkpoint
        As nnU-Net's ``initialize_from_trained_model_folder`` takes them.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    names = [folds] if isinstance(folds, str | int) else folds
    loaded = [load_checkpoint(folder / f"fold_{name}" / checkpoint) for name in names]
    plans = PlansManager(read_json(folder / "plans.json"))
    check_network_classes(plans.get_configuration(loaded[0]["init_args"]["configuration"]))


def check_network_classes(configuration: Any) -> None:
    """Raise UntrustedModelError if plans.json names anything but parts of a network.

    nnU-Net calls whatever is named there, ``torch.hub.load`` or any other function, too.
    """
    arguments = configuration.network_arch_init_kwargs
    parts = [arguments.get(key) for key in configuration.network_arch_init_kwargs_req_import]
    for name in (configuration.network_arch_class_name, *parts):
        if name is not None and not _is_network_part(str(name)):
            raise UntrustedModelError(
                f"plans.json names {name} as part of the network, which is not a class of "
                "nnU-Net's own; calling it could run any code"
            )


def _is_network_part(name: str) -> bool:
    """Tell whether a name is that of a module class of torch or nnU-Net's architectures."""
    import dynamic_network_architectures
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from torch import nn

    if name.partition(".")[0] not in NETWORK_PACKAGES:
        return False  # looking it up would already import it
    found = pydoc.locate(name)
    if found is None:  # nnU-Net then looks for the last part of the name
        package = "dynamic_network_architectures.architectures"
        folder = Path(dynamic_network_architectures.__path__[0]) / "architectures"
        found = recursive_find_python_class(str(folder), name.rpartition(".")[2], package)
    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and found.__module__.partition(".")[0] in NETWORK_PACKAGES
    )
