"""nnU-Net's resampling by splines, as a product with one matrix per axis.

A spline's value at a point is linear in the voxels, one axis after another; how each new voxel
depends on the old ones along an axis is read from the function that nnU-Net calls itself. The
numbers are summed in another order, in float64 as there: they differ by the rounding of float64,
which float32 does not show but for a voxel in some millions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

SPLINES = "resample_data_or_seg_to_shape"
"""Name of nnU-Net's function, as plans.json has it, in whose place `resample_splines` stands."""

NEGLIGIBLE = 1e-17
"""A weight that a sum in float64 does not feel: 30 voxels away, with cubic splines."""

BLOCK = 64
"""Rows that are multiplied at once."""


def resample_splines(
    data: npt.NDArray | torch.Tensor,
    new_shape: Sequence[int],
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    is_seg: bool = False,
    order: int = 3,
    order_z: int = 0,
    force_separate_z: bool | None = False,
    separate_z_anisotropy_threshold: float | None = None,
) -> npt.NDArray | torch.Tensor:
    """Return what nnU-Net 2.8.1's ``resample_data_or_seg_to_shape`` does.

    Parameters
    ----------
    data : (channel, z, y, x) ndarray or tensor
        A tensor on a device that computes in float64 is resampled there.
    new_shape : (z, y, x)
    current_spacing, new_spacing : (z, y, x), mm
        They decide whether nnU-Net takes thick slices each for itself.
    is_seg : bool
        A label: left to nnU-Net.
    order : int
        Of the spline, 0 to 5.
    order_z : int
        Of the spline across slices where they are taken each for itself.
    force_separate_z : bool, optional
        Whether they are; None decides by the spacings.
    separate_z_anisotropy_threshold : float, optional
        From which ratio of the largest to the smallest spacing on.

    Returns
    -------
    (channel, z, y, x) ndarray, or tensor on the device of ``data``
        Of the type of ``data``; ``data`` itself if the shape stays.
    """
    from nnunetv2.configuration import ANISO_THRESHOLD
    from nnunetv2.preprocessing.resampling import default_resampling as nnunet

    threshold = separate_z_anisotropy_threshold or ANISO_THRESHOLD
    if is_seg:
        return nnunet.resample_data_or_seg_to_shape(
            data, new_shape, current_spacing, new_spacing,
            is_seg, order, order_z, force_separate_z, threshold,
        )  # fmt: skip
    shape = tuple(int(n) for n in new_shape)
    if not isinstance(data, np.ndarray) and data.device.type in ("cpu", "mps"):  # has no float64
        data = data.cpu().numpy()
    if tuple(data.shape[1:]) == shape:
        return data
    separate, axis = nnunet.determine_do_sep_z_and_axis(
        force_separate_z, current_spacing, new_spacing, threshold
    )
    thick = int(axis) if separate else None
    if not isinstance(data, np.ndarray):
        return resample_there(data, shape, order, order_z, thick)
    new = np.empty((len(data), *shape), data.dtype)
    for channel, target in zip(data, new, strict=True):
        if thick is None:
            _as_a_whole(channel, target, order)
        else:
            source, slices = (np.moveaxis(each, thick, 0) for each in (channel, target))
            _by_slice(source, slices, order, order_z)
    return new


def resample_there(
    data: torch.Tensor, new_shape: Sequence[int], order: int, order_z: int, thick: int | None
) -> torch.Tensor:
    """Do as `resample_splines` on the device of a tensor, which computes in float64.

    Parameters
    ----------
    data : (channel, z, y, x) tensor
    new_shape : (z, y, x)
    order, order_z : int
    thick : int, optional
        The axis across slices that are taken each for itself.
    """
    in_plane = [axis for axis in range(3) if axis != thick]

    def along(values: torch.Tensor, axis: int, matrix: npt.NDArray) -> torch.Tensor:
        lines = values.movedim(axis, 0)
        product = values.new_tensor(matrix) @ lines.flatten(1)
        return product.unflatten(1, lines.shape[1:]).movedim(0, axis)

    new = data.new_empty((len(data), *new_shape))
    for channel, target in zip(data, new, strict=True):
        values = channel.double()
        low, high = (values.amin(in_plane, True), values.amax(in_plane, True))
        for axis in in_plane:
            values = along(values, axis, zoom_matrix(values.shape[axis], new_shape[axis], order))
        values = values.clamp(low, high)
        if thick is not None:
            across = across_slices(values.shape[thick], new_shape[thick], order_z)
            values = along(values, thick, across)
        target.copy_(values)
    return new


def _by_slice(source: npt.NDArray, target: npt.NDArray, order: int, order_z: int) -> None:
    """Resample in each slice, clipped to that slice's range, then across the slices."""
    across = across_slices(len(source), len(target), order_z)
    plane = _operators(source.shape[1:], target.shape[1:], order)
    needed = np.flatnonzero(across.any(axis=0))
    if np.count_nonzero(across) == len(across):  # each new slice is an old one
        origin = across.argmax(axis=1)
        for z in needed:
            target[origin == z] = _resized(source[z], plane)
        return
    slices = np.stack([_resized(source[z], plane) for z in needed])
    target[...] = _across(across[:, needed], slices)


def _as_a_whole(source: npt.NDArray, target: npt.NDArray, order: int) -> None:
    """Resample along all axes, clipped to the range of all voxels."""
    z, *plane = _operators(source.shape, target.shape, order)
    slices = np.stack([_in_plane(layer.astype(np.float64), plane) for layer in source])
    resampled = _across(z, slices)
    target[...] = np.clip(resampled, source.min(), source.max(), out=resampled)


def _operators(shape: Sequence[int], new_shape: Sequence[int], order: int) -> list[Any]:
    """Return the matrix of each axis, as what is quickest to multiply with."""
    from scipy.sparse import csr_array

    lengths = zip(shape, new_shape, strict=True)
    matrices = [zoom_matrix(before, after, order) for before, after in lengths]
    return [csr_array(matrix) if order <= 1 else _Band(matrix) for matrix in matrices]


class _Band:
    """A matrix that is 0, to the rounding of float64, but for a band around its diagonal."""

    def __init__(self, matrix: npt.NDArray):
        self._length = len(matrix)
        self._blocks = []
        for start in range(0, len(matrix), BLOCK):
            rows = slice(start, start + BLOCK)
            needed = np.flatnonzero(np.abs(matrix[rows]).max(axis=0) > NEGLIGIBLE)
            columns = slice(int(needed[0]), int(needed[-1]) + 1)
            self._blocks.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))

    def __matmul__(self, other: npt.NDArray) -> npt.NDArray:
        product = np.empty((self._length, other.shape[1]), other.dtype)
        for rows, columns, block in self._blocks:
            np.matmul(block, other[columns], out=product[rows])
        return product


def _resized(layer: npt.NDArray, plane: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Resample a slice, clipped to its range."""
    values = layer.astype(np.float64)  # in half precision numpy is slow to find the range, too
    resampled = _in_plane(values, plane)
    return np.clip(resampled, values.min(), values.max(), out=resampled)


def _in_plane(layer: npt.NDArray, plane: Sequence[Any]) -> npt.NDArray[np.float64]:
    rows, columns = plane
    return (columns @ (rows @ layer).T).T


def _across(matrix: Any, slices: npt.NDArray) -> npt.NDArray[np.float64]:
    return (matrix @ slices.reshape(len(slices), -1)).reshape(-1, *slices.shape[1:])


@lru_cache(maxsize=32)
def zoom_matrix(length: int, new_length: int, order: int) -> npt.NDArray[np.float64]:
    """Return how the voxels of a line make those of a longer or shorter one in their place.

    Parameters
    ----------
    length, new_length : int
    order : int
        Of the spline.

    Returns
    -------
    (new_length, length) ndarray of float64
        The new line is this times the old one, without the clip to the old one's range.
    """
    if length == new_length:
        return np.eye(length)
    from scipy.ndimage import zoom

    def resized(line: npt.NDArray) -> npt.NDArray:  # as skimage.transform.resize calls it
        return zoom(line, new_length / length, order=order, mode="nearest", grid_mode=True)

    return _matrix(resized, length)


@lru_cache(maxsize=32)
def across_slices(length: int, new_length: int, order: int) -> npt.NDArray[np.float64]:
    """Return `zoom_matrix` for thick slices: nnU-Net reads them with another function of scipy."""
    if length == new_length:
        return np.eye(length)
    from scipy.ndimage import map_coordinates

    places = length / new_length * (np.arange(new_length) + 0.5) - 0.5

    def resampled(line: npt.NDArray) -> npt.NDArray:
        return map_coordinates(line, [places], order=order, mode="nearest")

    return _matrix(resampled, length)


def _matrix(function: Callable[[npt.NDArray], npt.NDArray], length: int) -> npt.NDArray:
    """Return the matrix of a linear function of a line."""
    return np.stack([function(unit) for unit in np.eye(length)], axis=1)


class FastResampling:
    """A configuration of plans.json that resamples images and probabilities by matrices.

    Parameters
    ----------
    configuration : ConfigurationManager
    to_train : bool
        Whether images come with a label; to predict, the empty one that nnU-Net makes is not
        resampled.
    """

    def __init__(self, configuration: Any, *, to_train: bool):
        self._planned = configuration
        self._to_train = to_train

    def __getattr__(self, name: str) -> Any:
        """Return what nnU-Net's own class says of everything else."""
        return getattr(self._planned, name)

    @property
    def resampling_fn_data(self) -> Callable:
        """The function for images."""
        return self._by_matrices("resampling_fn_data")

    @property
    def resampling_fn_probabilities(self) -> Callable:
        """The function for a network's output."""
        return self._by_matrices("resampling_fn_probabilities")

    @property
    def resampling_fn_seg(self) -> Callable:
        """The function for labels."""
        return self._planned.resampling_fn_seg if self._to_train else _empty_label

    def _by_matrices(self, key: str) -> Callable:
        settings = self._planned.configuration
        if settings[key] != SPLINES:
            return getattr(self._planned, key)
        return partial(resample_splines, **settings[f"{key}_kwargs"])


def _empty_label(label: npt.NDArray, new_shape: Sequence[int], *_: Any) -> npt.NDArray[np.int8]:
    return np.zeros((len(label), *map(int, new_shape)), np.int8)
