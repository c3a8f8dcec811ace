"""NIfTI headers: the fields that say how voxels are stored and where they lie.

The layout is that of the standards, ``nifti1.h`` and ``nifti2.h``. nibabel reads the same and is
what the tests compare with; to import it takes half of a small tool's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

LENGTH_1, LENGTH_2 = 348, 540
"""Bytes of a NIfTI-1 and a NIfTI-2 header, which begins with this number."""

FIELDS_1 = {
    "dim": ("8i2", 40),
    "datatype": ("i2", 70),
    "bitpix": ("i2", 72),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("3f4", 256),
    "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280),
}
"""Type and first byte of what is read of a NIfTI-1 header."""

FIELDS_2 = {
    "datatype": ("i2", 12),
    "dim": ("8i8", 16),
    "pixdim": ("8f8", 104),
    "vox_offset": ("i8", 168),
    "scl_slope": ("f8", 176),
    "scl_inter": ("f8", 184),
    "qform_code": ("i4", 344),
    "sform_code": ("i4", 348),
    "quatern": ("3f8", 352),
    "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400),
    "xyzt_units": ("i4", 500),
}
"""The same of a NIfTI-2 header."""

VOXEL_TYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
"""Types of voxels that are plain numbers of at most 8 bytes, by their codes."""

MAX_QUATERNION = 1 + 1.01e-5
"""Greatest length of what a header holds of a quaternion; above 1 by the rounding of writers."""

ROUNDING = 3 * float(np.finfo(np.float32).eps)
"""A square of the missing part of a quaternion, so small that it is rounding, is 0."""

MM = 2
"""Code of the unit of length."""


@dataclass(frozen=True)
class NiftiHeader:
    """A header whose fields are numbers of this machine.

    Parameters
    ----------
    length : int
        Its bytes.
    byte_order : str
        ``<`` or ``>``.
    fields : structured scalar
        With the fields of `FIELDS_1` or `FIELDS_2`.
    """

    length: int
    byte_order: Literal["<", ">"]
    fields: np.void

    @classmethod
    def parse(cls, block: bytes, byte_order: Literal["<", ">"]) -> NiftiHeader:
        """Read a header's bytes."""
        layout = _layout(FIELDS_1 if len(block) == LENGTH_1 else FIELDS_2, len(block), byte_order)
        return cls(len(block), byte_order, np.frombuffer(block, layout)[0])

    @property
    def dim(self) -> list[int]:
        """The number of dimensions, and the voxels along each of seven."""
        return self.fields["dim"].tolist()

    @property
    def voxel_type(self) -> np.dtype | None:
        """The type of the voxels; None if they are not plain numbers of at most 8 bytes."""
        name = VOXEL_TYPES.get(self.code)
        return np.dtype(name).newbyteorder(self.byte_order) if name else None

    @property
    def code(self) -> int:
        """The number of the voxels' type."""
        return int(self.fields["datatype"])

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """The voxel size along x, y, z, in the header's unit."""
        return self.fields["pixdim"][1:4].astype(float)

    @property
    def unit(self) -> int:
        """The code of the unit of length."""
        return int(self.fields["xyzt_units"]) & 7

    @property
    def offset(self) -> float:
        """The byte that the voxels begin at."""
        return float(self.fields["vox_offset"])

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept of the values."""
        return float(self.fields["scl_slope"]), float(self.fields["scl_inter"])

    @property
    def has_sform(self) -> bool:
        """Whether a matrix is said to hold."""
        return bool(self.fields["sform_code"] > 0)

    @property
    def has_qform(self) -> bool:
        """Whether a rotation is said to hold."""
        return bool(self.fields["qform_code"] > 0)

    @cached_property
    def sform(self) -> npt.NDArray[np.float64] | None:
        """The affine that the header gives as a matrix, in its unit; None if it says of none."""
        if not self.has_sform:
            return None
        return _affine(self.fields["srow"][:, :3], self.fields["srow"][:, 3])

    @cached_property
    def qform(self) -> npt.NDArray[np.float64] | None:
        """The affine that the header gives as a rotation; None if it says of none, or if odd.

        What is not -1 of ``pixdim[0]`` means 1, as the standard says.
        """
        quaternion = _whole_quaternion(self.fields["quatern"].astype(float))
        steps = self.spacing
        if not self.has_qform or quaternion is None or (steps < 0).any():
            return None
        if self.fields["pixdim"][0] < 0:
            steps[2] = -steps[2]
        with np.errstate(invalid="ignore"):  # of infinite steps
            return _affine(rotation_of(quaternion) * steps, self.fields["qoffset"])


def _layout(fields: dict[str, tuple[str, int]], length: int, byte_order: str) -> np.dtype[np.void]:
    formats, offsets = zip(*fields.values(), strict=True)
    described = {"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": length}
    return np.dtype(described).newbyteorder(byte_order)  # type: ignore[call-overload]


def _affine(matrix: npt.NDArray, origin: npt.NDArray) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    return affine


def _whole_quaternion(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return (w, x, y, z) of length 1 from the (x, y, z) that a header holds; None if too long."""
    length = math.hypot(*vector)
    if 1 < length <= MAX_QUATERNION:
        vector, length = vector / length, 1.0
    square = 1 - length * length
    if abs(square) < ROUNDING:
        square = 0.0
    return np.array([math.sqrt(square), *vector]) if square >= 0 else None  # neither if NaN


def rotation_of(quaternion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (3, 3) rotation matrix of a quaternion (w, x, y, z) of length 1, as nifti1.h."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (w, x, y, z), w at least 0, of a (3, 3) rotation matrix.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, J. Guid.
    Control Dyn. 23, 2000), which for a matrix that is nearly a rotation is the nearest one's.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    lower_half = np.array(
        [
            [xx + yy + zz, 0, 0, 0],
            [zy - yz, xx - yy - zz, 0, 0],
            [xz - zx, xy + yx, yy - xx - zz, 0],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    largest = np.linalg.eigh(lower_half, UPLO="L")[1][:, -1]
    return -largest if largest[0] < 0 else largest


def nifti_1_bytes(
    shape: Sequence[int],
    dtype: np.dtype,
    spacing: Sequence[float],
    affine: npt.NDArray[np.float64] | None,
    offset: int,
) -> bytes:
    """Return a NIfTI-1 header in this machine's byte order, with matrix and rotation alike.

    Parameters
    ----------
    shape : (x, y, z)
    dtype : dtype
        One of `VOXEL_TYPES`.
    spacing : (x, y, z), mm
    affine : (4, 4) ndarray, optional
        Without it nothing is said of axes and origin.
    offset : int
        The byte that the voxels begin at.

    Raises
    ------
    KeyError
        If NIfTI has no code for the type.
    """
    codes = {np.dtype(name): code for code, name in VOXEL_TYPES.items()}
    header = np.zeros((), _layout(FIELDS_1, LENGTH_1, "="))
    header["datatype"] = codes[dtype]
    header["bitpix"] = 8 * dtype.itemsize
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header["pixdim"] = [1, *spacing, 1, 1, 1, 1]
    header["vox_offset"] = offset
    header["scl_slope"] = 1
    header["xyzt_units"] = MM
    if affine is not None:
        header["sform_code"] = header["qform_code"] = 1  # of the scanner
        header["srow"] = affine[:3]
        header["qoffset"] = affine[:3, 3]
        rotation = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.linalg.det(rotation) < 0:
            header["pixdim"][0] = -1
            rotation[:, 2] = -rotation[:, 2]
        header["quatern"] = quaternion_of(rotation)[1:]
    block = bytearray(header.tobytes())
    block[:4] = LENGTH_1.to_bytes(4, "little" if np.little_endian else "big")
    block[344:348] = b"n+1\0"
    return bytes(block)
