"""Running a trained nnU-Net v2 model on arrays in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import Grid
from lnqtools.images.orientation import turned
from lnqtools.images.volume import Volume
from lnqtools.memory import require_memory, resampled_size
from lnqtools.nnunet.environment import (
    at_most_threads,
    chatter_to,
    choose_device,
    memory_told,
    network_memory,
    require_nnunet,
    torch_threads,
)
from lnqtools.nnunet.loading import nnunet_reads
from lnqtools.nnunet.model import load_fold, make_model
from lnqtools.nnunet.model_folder import METADATA, find_checkpoints, read_metadata
from lnqtools.nnunet.node_label import NodeLabel, find_node_label
from lnqtools.nnunet.precision import check_precision, computes_in
from lnqtools.nnunet.prediction import (
    Prediction,
    above,
    check_threshold,
    empty_prediction,
    predict_from_logits,
)
from lnqtools.nnunet.preparing import prepare_image
from lnqtools.nnunet.view import AUTO, model_orientation, seen_as
from lnqtools.nnunet.window import SlidingWindow, places

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Workload:
    """What predicting an image takes.

    Parameters
    ----------
    patches : int
        Positions of the sliding window.
    passes : int
        Runs of a network: patches times folds times mirrored versions.
    voxels : int
        Voxels that go through a network: passes times the size of a patch.
    """

    patches: int
    passes: int
    voxels: int

    def __add__(self, other: Workload) -> Workload:
        """Return the work of both."""
        return Workload(
            self.patches + other.patches, self.passes + other.passes, self.voxels + other.voxels
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network sees it, in the CPU's memory.

    Parameters
    ----------
    grid, seen : Grid
        The image's, and the same voxels with their axes as the network wants them.
    data : (1, z, y, x) tensor, optional
        Normalized, on the network's grid; None if there is nothing in the image.
    properties : dict
        What nnU-Net's preprocessor tells of cropping and resampling.
    """

    grid: Grid
    seen: Grid
    data: torch.Tensor | None
    properties: dict[str, Any]


class Predictor:
    """A trained nnU-Net model, loaded once, that finds the lymph nodes of any number of CTs.

    Parameters
    ----------
    model : path-like
        Its results folder, which holds ``fold_*``, or one up to two levels above a single such
        folder. ``plans.json`` and ``dataset.json`` may lie beside ``fold_*`` or one level up.
    folds : sequence of str, optional
        ``0`` … or ``all``; the mean of their logits counts. Without it all numbered folds that
        are there, else ``fold_all``.
    checkpoint : str, optional
        Name of the file in each fold. Without it the final one, else the best, else the latest.
    label : str or sequence of str, optional
        Labels or regions of the model that are lymph nodes: their union. Without it the one that
        is called so, or the only one.
    label_elsewhere : bool
        Other models of an `Ensemble` may have those of ``label`` that this one lacks, but
        for one at least.
    orientation : str
        In which orientation the model sees images, instead of what it says itself: such as
        ``LPS``, or ``stored``; see `lnqtools.nnunet.view.model_orientation`.
    step_size : float
        Step of the sliding window, in patch lengths, above 0 and at most 1.
    mirroring : bool
        Average over the mirrored images, too, on the axes that the model was trained with.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``, the first of cuda, mps, cpu.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Numbers that the network computes in; ``auto`` as nnU-Net, fp16 on CUDA, else fp32.
    threads : int, optional
        CPU threads of torch; its own choice if None. nnU-Net uses at most 8.
    trust : bool
        Read checkpoints that could run code, and build a network of any class that plans.json
        names.
    chatter : text stream, optional
        Where what nnU-Net prints goes.

    Attributes
    ----------
    notes : tuple of str
        What the user should know about the model.
    device : torch.device
        Where the network runs.
    checkpoints : tuple of str
        Those in use, relative to the folder of the folds.
    node : NodeLabel
        What of its outputs are lymph nodes.
    evaluations_per_patch : int
        How often the network runs on each patch: folds times mirrored versions.
    normalizes_by_image : bool
        Whether each image is normalized by its own values, so that what is cut off counts.

    Raises
    ------
    LnqError
        If the folder is not a complete model for one CT channel with a lymph node label.
    MissingExtraError
        If torch or nnunetv2 is not installed.

    Examples
    --------
    ::

        ct = read_volume("ct.nii.gz")
        found = Predictor("model").predict(ct)
        write_volume(Volume(found.mask, ct.grid), "mask.nii.gz")
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        folds: Sequence[str] | None = None,
        checkpoint: str | None = None,
        label: str | Sequence[str] | None = None,
        label_elsewhere: bool = False,
        orientation: str = AUTO,
        step_size: float = 0.5,
        mirroring: bool = True,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        trust: bool = False,
        chatter: TextIO | None = None,
    ):
        require_nnunet()
        if not 0 < step_size <= 1:
            raise LnqError(f"a step size lies above 0 and is at most 1, not {step_size:g}")
        self.device = choose_device(device)
        check_precision(precision, self.device)
        self._threads = threads
        self._chatter = chatter
        paths = find_checkpoints(Path(model), folds, checkpoint)
        folder = paths[0].parent.parent
        plans, dataset = (read_metadata(folder, name) for name in METADATA)
        self._orientation = model_orientation(plans, dataset, orientation)
        loaded = [load_fold(path, trust) for path in paths]
        names = [label] if isinstance(label, str) else label
        find_node = partial(find_node_label, wanted=names, elsewhere=label_elsewhere)
        with chatter_to(chatter), nnunet_reads("the model"):
            self._model = make_model(plans, dataset, loaded, find_node, trust)
            network = self._model.network
            network.forward = computes_in(network.forward, precision, self.device)
            self._window = SlidingWindow(
                network,
                self._model.labels.num_segmentation_heads,
                tuple(self._model.configuration.patch_size),
                step_size,
                self._model.folds[0].mirror_axes or () if mirroring else (),
                self.device,
                sums_there=self.device.type == "cuda",
            )
            self._preprocessor = self._model.configuration.preprocessor_class(verbose=False)
        self.notes = self._model.notes
        self.checkpoints = tuple(f"{fold.name}/{fold.checkpoint}" for fold in loaded)
        self.node: NodeLabel = self._model.node
        self.evaluations_per_patch = len(loaded) * self._window.versions
        self.normalizes_by_image = self._model.normalizes_by_image

    def seen(self, grid: Grid) -> Grid:
        """Return the grid of the same voxels whose axes lie as the network wants them."""
        return seen_as(grid, self._orientation)

    def assumed_orientation(self, grid: Grid) -> str | None:
        """Return in which orientation an image is seen that is turned without the model's word.

        None where the model, or whoever loaded it, says the orientation, and where the image is
        seen as it is stored.
        """
        seen = self.seen(grid).letters
        return seen if self._orientation is None and seen != grid.letters else None

    def patch_count(self, grid: Grid) -> int:
        """Return how many patches an image takes; fewer if its rim is 0 and is cut off."""
        from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

        seen = self.seen(grid)
        shape = [seen.shape[axis] for axis in self._model.plans.transpose_forward]
        size = [int(n) for n in compute_new_shape(shape, *self._model.spacings(seen.spacing))]
        return len(places(size, self._window.patch, self._window.step_size))

    def workload(self, grid: Grid) -> Workload:
        """Return what an image on a grid takes at most."""
        patches = self.patch_count(grid)
        passes = patches * self.evaluations_per_patch
        return Workload(patches, passes, passes * math.prod(self._window.patch))

    def predict(
        self,
        image: Volume,
        *,
        threshold: float | None = None,
        with_probability: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Prediction:
        """Segment the lymph nodes of an image.

        The network sees the image turned as it was trained, and the result is turned back: how
        the axes are stored does not matter. Several folds are combined as nnU-Net does, by the
        mean of their logits.

        Parameters
        ----------
        image : Volume
            In HU.
        threshold : float, optional
            Probability above which a voxel is lymph node, between 0 and 1. Without it as nnU-Net
            decides: of several labels that exclude each other the most probable one counts; of
            one label, and of a region, a probability above ½.
        with_probability : bool
            Return the probabilities, too.
        progress : callable, optional
            Called after each patch of each fold with the voxels that went through the network
            for it, mirrored versions counted: in sum :attr:`Workload.voxels`, or less.

        Returns
        -------
        Prediction
            On the image's grid.

        Raises
        ------
        LnqError
            If memory runs out. The next image may be tried all the same.
        """
        with chatter_to(self._chatter):
            prepared = self.prepare(image)
            return self.predict_prepared(
                prepared, threshold=threshold, with_probability=with_probability, progress=progress
            )

    def prepare(self, image: Volume) -> Prepared:
        """Turn an image into what the network sees, on the CPU.

        That may be done in another thread while the network is at work.

        Raises
        ------
        LnqError
            If the image is too small or too large for the network, or memory runs out.
        """
        seen = turned(image, self.seen(image.grid))
        box = bounding_box(seen.array)  # nnU-Net cuts off what is 0 on all sides
        if box is None:
            return Prepared(image.grid, seen.grid, None, {})
        self._check_extent(box, seen.spacing)
        with memory_told("cpu"):
            return self._preprocessed(image.grid, seen)

    def _preprocessed(self, grid: Grid, seen: Volume) -> Prepared:
        """Normalize and resample an image as nnU-Net does."""
        import torch

        data, properties = prepare_image(self._preprocessor, self._model, seen.array, seen.spacing)
        tensor = torch.from_numpy(data)
        return Prepared(grid, seen.grid, tensor, properties)

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        threshold: float | None = None,
        with_probability: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Prediction:
        """Segment the lymph nodes of an image from `prepare`; the rest as in `predict`."""
        import torch

        check_threshold(threshold)
        if prepared.data is None:
            return empty_prediction(prepared.grid.shape, with_probability)
        with (
            chatter_to(self._chatter),
            torch_threads(self._threads),
            memory_told(self.device),
            torch.inference_mode(),
        ):
            logits, notes = self._logits(prepared.data, progress)
            found = predict_from_logits(
                self._model, logits, prepared.properties, threshold, with_probability
            )

        def back(array: np.ndarray) -> np.ndarray:
            return turned(Volume(array, prepared.seen), prepared.grid).array

        probability = None if found.probability is None else back(found.probability)
        return Prediction(back(found.mask), probability, (*notes, *found.notes))

    def _logits(
        self, data: torch.Tensor, progress: Callable[[int], None] | None
    ) -> tuple[torch.Tensor, list[str]]:
        """Return the mean of the folds' logits (class, z, y, x) on the network's grid, and notes.

        They stay on the device, unless its memory does not hold them.
        """
        from nnunetv2.configuration import default_num_processes

        voxels = self._window.versions * math.prod(self._window.patch)

        def on_patch() -> None:
            if progress is not None:
                progress(voxels)

        folds = self._model.folds
        notes: list[str] = []
        total: torch.Tensor | None = None
        with network_memory(self.device.type), at_most_threads(default_num_processes):
            for fold in folds:
                if len(folds) > 1:
                    self._model.network.load_state_dict(fold.weights)
                logits, more = self._window.logits(data, on_patch)
                total = logits if total is None else total.to(logits.device).add_(logits)
                notes += more
        assert total is not None
        if len(folds) > 1:
            total /= len(folds)
        if any(of_class.isnan().any() for of_class in total):  # which would pass for no node
            raise LnqError(
                "the network returned NaN: its training diverged, or its weights are damaged"
            )
        return total, notes

    def _check_extent(self, box: Box, spacing: Sequence[float]) -> None:
        """Refuse a box of an image of which nothing is left on the network's grid, or too much."""
        lengths = [box.shape[axis] for axis in self._model.plans.transpose_forward]
        before, after = self._model.spacings(spacing)
        size = resampled_size(lengths, before, after)
        if min(size) < 1:
            raise LnqError(
                "is too small for the network: along an axis it is thinner than half a voxel of "
                f"the network ({after[size.index(min(size))]:.3g} mm)"
            )
        # At least: the image in float32, and in half precision the logits and their weights.
        require_memory(size, 4 + 2 * self._model.labels.num_segmentation_heads + 2)


class Ensemble:
    """Several models, all loaded: the mean of their probabilities.

    A model counts once, however many folds it has, as in ``nnUNetv2_ensemble``. The models may
    differ in spacing, patch, architecture and labels. A single model gives what it gives alone.

    Parameters
    ----------
    models : sequence of Predictor
    """

    def __init__(self, models: Sequence[Predictor]):
        self.models = tuple(models)

    def workload(self, grid: Grid) -> Workload:
        """Return what an image on a grid takes at most, for all models."""
        return sum((m.workload(grid) for m in self.models), Workload(0, 0, 0))

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.models[0].device

    def assumed_orientation(self, grid: Grid) -> str | None:
        """Return what `Predictor.assumed_orientation` does for the first model with one."""
        assumed = (model.assumed_orientation(grid) for model in self.models)
        return next((code for code in assumed if code is not None), None)

    def predict(
        self,
        image: Volume,
        *,
        threshold: float | None = None,
        with_probability: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Prediction:
        """Segment the lymph nodes of an image; parameters as in `Predictor.predict`.

        With several models the mask is where the mean probability of lymph node is above
        ``threshold``, ½ without one, whatever other labels there are.
        """
        return self.predict_prepared(
            (model.prepare(image) for model in self.models),
            threshold=threshold,
            with_probability=with_probability,
            progress=progress,
        )

    def prepare(self, image: Volume) -> list[Prepared]:
        """Return an image as each of the models sees it; see `Predictor.prepare`."""
        return [model.prepare(image) for model in self.models]

    def predict_prepared(
        self,
        prepared: Iterable[Prepared],
        *,
        threshold: float | None = None,
        with_probability: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Prediction:
        """Do as `predict` with an image from `prepare`."""
        check_threshold(threshold)
        if len(self.models) == 1:
            (seen,) = prepared
            return self.models[0].predict_prepared(
                seen, threshold=threshold, with_probability=with_probability, progress=progress
            )
        total: np.ndarray | None = None
        notes: list[str] = []
        for model, seen in zip(self.models, prepared, strict=True):
            found = model.predict_prepared(seen, with_probability=True, progress=progress)
            total = np.zeros(found.mask.shape, np.float32) if total is None else total
            total += np.asarray(found.probability)
            notes += found.notes
        mean = np.asarray(total)
        mean /= len(self.models)
        return Prediction(
            above(mean, threshold).astype(np.uint8),
            mean if with_probability else None,
            tuple(notes),
        )
