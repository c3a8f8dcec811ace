"""How a model is trained: the recipes, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lnqtools.errors import LnqError

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is not the data; what is None is left to nnU-Net.

    Parameters
    ----------
    name : str
    epochs : int
    iterations : int
        Training batches in an epoch.
    validation_iterations : int
        Validation batches in an epoch, for the pseudo-Dice.
    learning_rate : float
        At the start; it falls polynomially to 0 at the last epoch.
    momentum : float
        Of the gradient descent. With 0.99 a training of a few hundred batches may never leave
        its start.
    fold : str
        ``0`` to ``4``, or ``all``: all cases, which then are the validation cases too.
    save_every : int
        Epochs between two checkpoints to resume from.
    window_hu : pair of float, optional
        Intensities are clipped to it. Otherwise to the 0.5th and 99.5th percentile of the
        annotated lymph node voxels.
    spacing_mm : (z, y, x), optional
        Voxel size that the network works at. Otherwise the median of the cases.
    patch : (z, y, x), optional
        Patch size in voxels, rounded up to what the network can halve.
    batch : int, optional
        Patches in a batch.
    features : tuple of int, optional
        Feature maps at each level of the U-Net, which also bounds the number of levels.
    convolutions : int, optional
        Convolutions at each level.
    gpu_memory_gb : float
        What nnU-Net's planner may fill with a patch and a batch of its own choice.
    """

    name: str
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    learning_rate: float = 1e-2
    momentum: float = 0.99
    fold: str = "0"
    save_every: int = 10
    window_hu: tuple[float, float] | None = None
    spacing_mm: Spacing | None = None
    patch: Shape | None = None
    batch: int | None = None
    features: tuple[int, ...] | None = None
    convolutions: int | None = None
    gpu_memory_gb: float = 8

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with the given values; those that are None change nothing.

        Raises
        ------
        LnqError
            If a value is out of its range.
        """
        recipe = replace(self, **{key: v for key, v in changes.items() if v is not None})
        recipe._check()
        return recipe

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe for a JSON file."""
        return asdict(self)

    def _check(self) -> None:
        for key in ("epochs", "iterations", "validation_iterations", "save_every", "batch"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise LnqError(f"{key} must be at least 1, not {value}")
        if not 0 < self.learning_rate < 1:
            raise LnqError(f"a learning rate lies between 0 and 1, not at {self.learning_rate:g}")
        if self.fold not in FOLDS:
            raise LnqError(f"fold {self.fold} does not exist: use 0, 1, 2, 3, 4 or all")
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise LnqError("a spacing must be above 0 mm on each axis")
        if self.patch is not None and min(self.patch) < 8:
            raise LnqError("a patch must be at least 8 voxels long on each axis")
        if self.window_hu is not None and self.window_hu[0] >= self.window_hu[1]:
            raise LnqError("the lower end of the window must lie below its upper end")


FOLDS = ("0", "1", "2", "3", "4", "all")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        # nnU-Net's defaults, as the paper's ablation study (section 3.2) used them.
        Recipe("paper"),
        # The submission to LNQ2023: the paper's section 5.
        Recipe("challenge", epochs=2000, learning_rate=1e-3, fold="all", window_hu=(-150, 350)),
        # Shows on a CPU within minutes that everything works; no model for real use.
        Recipe(
            "smoke",
            epochs=8,
            iterations=100,
            learning_rate=3e-2,
            momentum=0.9,
            validation_iterations=4,
            save_every=1,
            patch=(32, 48, 48),
            batch=2,
            features=(8, 16, 32),
            convolutions=1,
            gpu_memory_gb=1,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or raise LnqError with the names there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise LnqError(f"there is no recipe {name!r}: use {', '.join(RECIPES)}") from None
