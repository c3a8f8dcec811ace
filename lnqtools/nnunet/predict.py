"""Running a trained nnU-Net v2 model on arrays in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import SPACING_RANGE_MM, Grid
from lnqtools.images.orientation import turned
from lnqtools.images.volume import Volume
from lnqtools.memory import require_memory
from lnqtools.nnunet.checkpoint import load_checkpoint
from lnqtools.nnunet.environment import (
    chatter_to,
    choose_device,
    is_out_of_memory,
    require_nnunet,
    torch_threads,
)
from lnqtools.nnunet.loading import FILES_WAY_ON, build_network, nnunet_reads
from lnqtools.nnunet.model_folder import METADATA, find_checkpoints, read_metadata
from lnqtools.nnunet.model_keys import BY_OWN_VALUES, check_values, unknown_keys
from lnqtools.nnunet.node_label import NodeLabel, doubts, find_node_label
from lnqtools.nnunet.trust import check_network_classes
from lnqtools.nnunet.view import AUTO, model_orientation, seen_as
from lnqtools.nnunet.window import predict_patches

if TYPE_CHECKING:
    import torch
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

LINEAR_RESAMPLERS = {"resample_data_or_seg_to_shape": 3, "resample_torch_fornnunet": 1}
"""The resamplers that are linear if their order is 1, and their order if plans.json gives none."""


@dataclass(frozen=True)
class Prediction:
    """Where a model sees lymph nodes.

    Parameters
    ----------
    mask : (z, y, x) ndarray of uint8
        1 where the probability is above the threshold.
    probability : (z, y, x) ndarray of float32 or None
    """

    mask: np.ndarray
    probability: np.ndarray | None = None


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


@dataclass(frozen=True)
class _Fold:
    """A trained fold: its name, where it was read, and what matters of it."""

    name: str
    checkpoint: str
    weights: dict[str, Any]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...] | None


class Predictor:
    """A model, loaded once, for any number of images.

    Parameters
    ----------
    model : Path
    folds : sequence of str, optional
    checkpoint : str, optional
        Which files make up the model: as in :func:`lnqtools.nnunet.model_folder.
        find_checkpoints`. ``plans.json`` and ``dataset.json`` may lie beside ``fold_*`` or one
        level up.
    step_size : float
        Of the sliding window, in patch lengths, above 0 and at most 1.
    mirroring : bool
        Average over the mirrored images, too, on the axes that the model was trained with.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
    threads : int, optional
        CPU threads of torch; its own choice if None. nnU-Net uses at most 8.
    label : sequence of str, optional
        Labels or regions that are lymph nodes: their union. Without it the one that is called so,
        or the only one.
    label_elsewhere : bool
        Other models may have those of ``label`` that this one lacks, but for one at least.
    trust : bool
        Read checkpoints that could run code, and build a network of any class that plans.json
        names.
    orientation : str
        ``auto``, or, instead of what the model says, the orientation in which it sees images: as
        in :func:`lnqtools.nnunet.view.model_orientation`.
    chatter : text stream, optional
        Where what nnU-Net prints goes.

    Attributes
    ----------
    notes : tuple of str
        What the user should know about the model.
    checkpoints : tuple of str
        Those in use, relative to the folder of the folds.
    node : NodeLabel
        What of its outputs are lymph nodes.
    evaluations_per_patch : int
        How often the network runs on each patch: folds times mirrored versions.
    normalises_by_image : bool
        Whether each image is normalised by its own values, so that what is cut off counts.

    Raises
    ------
    LnqError
        If the folder is no complete model for one CT channel with a lymph node label.
    MissingExtraError
        Without torch and nnunetv2.
    """

    def __init__(
        self,
        model: Path,
        *,
        folds: Sequence[str] | None = None,
        checkpoint: str | None = None,
        step_size: float = 0.5,
        mirroring: bool = True,
        device: str = "auto",
        threads: int | None = None,
        label: Sequence[str] | None = None,
        label_elsewhere: bool = False,
        trust: bool = False,
        orientation: str = AUTO,
        chatter: TextIO | None = None,
    ):
        require_nnunet()
        if not 0 < step_size <= 1:
            raise LnqError(f"a step size lies above 0 and is at most 1, not {step_size:g}")
        self._device = choose_device(device)
        self._threads = threads
        self._chatter = chatter
        paths = find_checkpoints(model, folds, checkpoint)
        folder = paths[0].parent.parent
        plans, dataset = (read_metadata(folder, name) for name in METADATA)
        self._orientation = model_orientation(plans, dataset, orientation)
        loaded = [_load_fold(path, trust) for path in paths]
        self.checkpoints = tuple(f"{fold.name}/{fold.checkpoint}" for fold in loaded)
        with chatter_to(chatter), nnunet_reads("the model"):
            wanted = partial(find_node_label, wanted=label, elsewhere=label_elsewhere)
            self._load(plans, dataset, loaded, wanted, step_size, mirroring, trust)
        axes = self._predictor.allowed_mirroring_axes if mirroring else None
        self.evaluations_per_patch = len(loaded) * 2 ** len(axes or ())

    def _load(
        self,
        plans: dict[str, Any],
        dataset: dict[str, Any],
        folds: Sequence[_Fold],
        find_node: Callable[[dict[str, Any], LabelManager], NodeLabel],
        step_size: float,
        mirroring: bool,
        trust: bool,
    ) -> None:
        """Build the network and hand all to nnU-Net's predictor."""
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        first = folds[0]
        if any(fold.configuration != first.configuration for fold in folds):
            raise LnqError("its folds were trained in different configurations")
        with nnunet_reads("plans.json and dataset.json", FILES_WAY_ON):
            self._plans = PlansManager(plans)
            self._configuration = _configuration(self._plans, first.configuration, dataset)
            check_values(plans, self._configuration.configuration)
            self._labels = _label_manager(self._plans, dataset)
            self.node = find_node(dataset["labels"], self._labels)
            _check_lengths(self._configuration)
            if not trust:
                check_network_classes(self._configuration)
        network, notes = build_network(
            self._plans,
            self._configuration,
            self.node.outputs,
            first.trainer,
            {fold.name: fold.weights for fold in folds},
        )
        unknown = unknown_keys(plans, self._configuration.configuration)
        self.notes = (*notes, *doubts(dataset, self.node), *_unheeded(unknown))
        self.normalises_by_image = self._configuration.normalization_schemes[0] in BY_OWN_VALUES
        self._predictor = nnUNetPredictor(
            tile_step_size=step_size,
            use_mirroring=mirroring,
            device=self._device,
            allow_tqdm=False,
        )
        self._predictor.manual_initialization(
            network,
            self._plans,
            self._configuration,
            [fold.weights for fold in folds],
            dataset,
            first.trainer,
            first.mirror_axes,
        )
        self._preprocessor = self._configuration.preprocessor_class(verbose=False)
        self._dataset = dataset

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
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
        from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

        seen = self.seen(grid)
        shape = [seen.shape[axis] for axis in self._plans.transpose_forward]
        size = [int(n) for n in compute_new_shape(shape, *self._spacings(seen.spacing))]
        patch = self._configuration.patch_size
        across = 3 - len(patch)  # a 2-D network goes slice by slice
        padded = [max(n, p) for n, p in zip(size[across:], patch, strict=True)]
        steps = compute_steps_for_sliding_window(padded, patch, self._predictor.tile_step_size)
        return math.prod(size[:across]) * math.prod(map(len, steps))

    def workload(self, grid: Grid) -> Workload:
        """Return what an image on a grid takes at most."""
        patches = self.patch_count(grid)
        passes = patches * self.evaluations_per_patch
        return Workload(patches, passes, passes * math.prod(self._configuration.patch_size))

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
        _check_threshold(threshold)
        seen = turned(image, self.seen(image.grid))
        found = self._predict(seen.array, seen.spacing, threshold, with_probability, progress)

        def back(array: np.ndarray) -> np.ndarray:
            return turned(Volume(array, seen.grid), image.grid).array

        probability = None if found.probability is None else back(found.probability)
        return Prediction(back(found.mask), probability)

    def _predict(
        self,
        image: np.ndarray,
        spacing: Sequence[float],
        threshold: float | None,
        with_probability: bool,
        progress: Callable[[int], None] | None,
    ) -> Prediction:
        """Segment an image (z, y, x) that is turned as the network wants it."""
        box = bounding_box(image)  # nnU-Net cuts off what is 0 on all sides
        if box is None:
            empty = np.zeros(image.shape, np.float32) if with_probability else None
            return Prediction(np.zeros(image.shape, np.uint8), empty)
        with chatter_to(self._chatter), torch_threads(self._threads):
            self._report_to(progress)
            try:
                self._check_extent(box, spacing)
                logits, properties = self._logits(image, spacing)
                export = self._export if self._is_simple(properties) else self._export_resampled
                return export(logits, properties, threshold, with_probability)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                on_cpu = self._device.type == "cpu"
                less = "crop the image" if on_cpu else "crop the image, or use --device cpu"
                raise LnqError(f"memory ran out ({self._device}): {less}") from None

    def _report_to(self, progress: Callable[[int], None] | None) -> None:
        """Let nnU-Net's predictor work in this thread and tell of each patch."""
        axes = self._predictor.allowed_mirroring_axes if self._predictor.use_mirroring else None
        voxels = 2 ** len(axes or ()) * math.prod(self._configuration.patch_size)

        def on_patch() -> None:
            if progress is not None:
                progress(voxels)

        self._predictor._internal_predict_sliding_window_return_logits = partial(
            predict_patches, self._predictor, on_patch
        )

    def _logits(
        self, image: np.ndarray, spacing: Sequence[float]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the network's logits (class, z, y, x) on its own grid, and what undoes that."""
        import torch

        data, _, properties = self._preprocessor.run_case_npy(
            image[np.newaxis],
            None,
            {"spacing": [float(s) for s in spacing]},
            self._plans,
            self._configuration,
            self._dataset,
        )
        tensor = torch.from_numpy(np.ascontiguousarray(data))
        logits = self._predictor.predict_logits_from_preprocessed_data(tensor).cpu()
        if any(of_class.isnan().any() for of_class in logits):  # which would pass for no node
            raise LnqError(
                "the network answers with what is no number: its training diverged, or its weights "
                "are damaged"
            )
        return logits, properties

    def _check_extent(self, box: Box, spacing: Sequence[float]) -> None:
        """Refuse a box of an image of which nothing is left on the network's grid, or too much.

        nnU-Net rounds the number of voxels that are left.
        """
        lengths = [box.shape[axis] for axis in self._plans.transpose_forward]
        before, after = self._spacings(spacing)
        sizes = [round(n * a / b) for n, a, b in zip(lengths, before, after, strict=True)]
        if min(sizes) < 1:
            raise LnqError(
                "is too small for the network, whose voxels measure "
                f"{after[sizes.index(min(sizes))]:.3g} mm along an axis: less than half of one is "
                "not 0"
            )
        # At least: the image in float32, and in half precision the logits and their weights.
        require_memory(sizes, 4 + 2 * self._labels.num_segmentation_heads + 2)

    def _spacings(self, spacing: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the image's and the network's spacing, both with the network's axes."""
        before = [float(spacing[axis]) for axis in self._plans.transpose_forward]
        after = list(self._configuration.spacing)
        if self._configuration.configuration["resampling_fn_data"] == "no_resampling_hack":
            return before, before
        return before, before[: 3 - len(after)] + after  # a 2-D network keeps the slices

    def _is_simple(self, properties: dict[str, Any]) -> bool:
        """Tell whether the logits' difference can be resampled instead of each class.

        With two classes, softmax is a function of the logits' difference, and linear
        resampling commutes with the difference. Where slices are thick nnU-Net resamples
        them separately; then its own function is used.
        """
        from nnunetv2.configuration import ANISO_THRESHOLD
        from nnunetv2.preprocessing.resampling.default_resampling import (
            determine_do_sep_z_and_axis,
        )

        settings = self._configuration.configuration
        how = settings["resampling_fn_probabilities_kwargs"]
        two_classes = not self.node.regions and self.node.outputs == 2
        resampler = settings["resampling_fn_probabilities"]
        linear = how.get("order", LINEAR_RESAMPLERS.get(resampler)) == 1
        if not (two_classes and linear and resampler in LINEAR_RESAMPLERS):
            return False
        before, after = self._spacings(properties["spacing"])
        threshold = how.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
        force = how.get("force_separate_z")
        separate, _ = determine_do_sep_z_and_axis(force, after, before, threshold)
        return not separate

    def _export(
        self,
        logits: torch.Tensor,
        properties: dict[str, Any],
        threshold: float | None,
        with_probability: bool,
    ) -> Prediction:
        """Bring two classes' logits to the image's grid through their difference."""
        import torch

        difference = logits[1].float() - logits[0].float()
        shape = tuple(int(n) for n in properties["shape_after_cropping_and_before_resampling"])
        if difference.shape != shape:
            difference = torch.nn.functional.interpolate(
                difference[None, None], shape, mode="trilinear", align_corners=False
            )[0, 0]
        probability = difference.sigmoid_().numpy()
        mask = _above(probability, threshold)
        return self._prediction(mask, probability if with_probability else None, properties)

    def _uncropped(self, array: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        """Put an array back into the image's frame, with the image's axes; 0 around it."""
        whole = np.zeros(properties["shape_before_cropping"], array.dtype)
        box = tuple(slice(start, stop) for start, stop in properties["bbox_used_for_cropping"])
        whole[box] = array
        return np.ascontiguousarray(whole.transpose(self._plans.transpose_backward))

    def _export_resampled(
        self,
        logits: torch.Tensor,
        properties: dict[str, Any],
        threshold: float | None,
        with_probability: bool,
    ) -> Prediction:
        """Bring the logits to the image's grid with nnU-Net's own function."""
        before, after = self._spacings(properties["spacing"])
        shape = properties["shape_after_cropping_and_before_resampling"]
        resample = self._configuration.resampling_fn_probabilities
        resampled = resample(self.node.needed(logits), shape, after, before)
        by_rank = threshold is None and self.node.most_probable_wins
        if by_rank and not with_probability:
            return self._prediction(self.node.most_probable(resampled), None, properties)
        probabilities = self._labels.apply_inference_nonlin(resampled)
        probability = self.node.probability(probabilities).numpy()
        mask = self.node.most_probable(resampled) if by_rank else _above(probability, threshold)
        return self._prediction(mask, probability if with_probability else None, properties)

    def _prediction(
        self, mask: np.ndarray, probability: np.ndarray | None, properties: dict[str, Any]
    ) -> Prediction:
        """Put what was found back into the image's frame."""
        return Prediction(
            self._uncropped(mask.astype(np.uint8), properties),
            None if probability is None else self._uncropped(probability, properties),
        )


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

    def assumed_orientation(self, grid: Grid) -> str | None:
        """Return what :meth:`Predictor.assumed_orientation` does for the first model with one."""
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
        """Segment the lymph nodes of an image; parameters as in :meth:`Predictor.predict`.

        With several models the mask is where the mean probability of lymph node is above
        ``threshold``, ½ without one, whatever other labels there are.
        """
        if len(self.models) == 1:
            return self.models[0].predict(
                image,
                threshold=threshold,
                with_probability=with_probability,
                progress=progress,
            )
        _check_threshold(threshold)
        mean = np.zeros(image.array.shape, np.float32)
        for model in self.models:
            found = model.predict(image, with_probability=True, progress=progress)
            mean += np.asarray(found.probability)
        mean /= len(self.models)
        return Prediction(
            _above(mean, threshold).astype(np.uint8), mean if with_probability else None
        )


def _above(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return where a probability is above a threshold, both as the map of it is written."""
    return probability > np.float32(0.5 if threshold is None else threshold)


def _check_threshold(threshold: float | None) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise LnqError(f"a threshold lies between 0 and 1, not at {threshold:g}")


def _load_fold(path: Path, trust: bool) -> _Fold:
    """Read the weights of a fold."""
    content = load_checkpoint(path, trust)
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return _Fold(
            name=path.parent.name,
            checkpoint=path.name,
            weights=content["network_weights"],
            configuration=content["init_args"]["configuration"],
            trainer=content["trainer_name"],
            mirror_axes=tuple(axes) if axes else None,
        )
    except (KeyError, AttributeError, TypeError):
        raise LnqError(f"{path.parent.name}/{path.name} is not an nnU-Net v2 checkpoint") from None


def _label_manager(plans: PlansManager, dataset: dict[str, Any]) -> LabelManager:
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if len(channels) != 1:
        names = ", ".join(map(str, channels.values())) or "none"
        raise LnqError(f"the model takes {len(channels)} input channels ({names}), not one CT")
    labels = dataset["labels"]
    if labels and all(str(key).isdecimal() for key in labels):
        raise LnqError(
            "dataset.json is one of nnU-Net v1, which has names by numbers: write its labels as "
            + json.dumps({n: int(v) for v, n in labels.items()}, ensure_ascii=False)
        )
    return plans.get_label_manager(dataset)


def _unheeded(keys: Sequence[str]) -> tuple[str, ...]:
    """Return a note about keys of plans.json that nothing reads, if there are any."""
    return (f"nnU-Net heeds nothing that plans.json says of {', '.join(keys)}",) if keys else ()


def _configuration(plans: PlansManager, name: str, dataset: dict[str, Any]) -> Any:
    """Return the configuration of the plans that the model was trained in."""
    if name not in plans.available_configurations:
        raise LnqError(f"plans.json lacks the configuration {name} that the folds name")
    configuration = plans.get_configuration(name)
    if configuration.previous_stage_name is not None:
        raise LnqError("the model is the second stage of a cascade, which this tool does not run")
    return configuration


def _check_lengths(configuration: Any) -> None:
    """Raise LnqError for voxels and patches of sizes that cannot be."""
    low, high = SPACING_RANGE_MM
    if not all(low <= float(step) <= high for step in configuration.spacing):
        raise LnqError(f"plans.json gives the spacing {configuration.spacing} mm")
    if not all(int(length) >= 1 for length in configuration.patch_size):
        raise LnqError(f"plans.json gives patches of {configuration.patch_size} voxels")
