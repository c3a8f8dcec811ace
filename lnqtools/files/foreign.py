"""What a file is that is not the image its name promises, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 348
"""Bytes of a file, or of what it unpacks to, that suffice to tell its format."""
PAIR = "is half of an .hdr/.img pair: make one file of it (nib-convert X.hdr X.nii.gz)"

_PACKERS = {
    "zstd": b"\x28\xb5\x2f\xfd",
    "xz": b"\xfd7zXZ\0",
    "bzip2": b"BZh",
    "lz4": b"\x04\x22\x4d\x18",
    "gzip": b"\x1f\x8b",
}
"""Commands that unpack files → how such files begin."""
_DICOM = "is a DICOM file: lnq-dicom images makes NIfTI of its series"
_FORMATS = {
    "NIfTI": (rb"\x5c\x01\0\0|\0\0\x01\x5c|\x1c\x02\0\0|\0\0\x02\x1c", "call it .nii"),
    "NRRD": (rb"NRRD000", "call it .nrrd, or convert it to NIfTI"),
    "MetaImage": (
        rb"(?i)(ObjectType|NDims|ObjectSubType|Comment)[ \t]*=",
        "call it .mha (.mhd with its data file beside it), or convert it to NIfTI",
    ),
}
"""Images that are read → how they begin, and what to do where another one was promised."""
_OTHERS = (
    (rb".{128}DICM", _DICOM),
    # Of a DICOM file without its preamble: the first element, of group 2 or 8.
    (rb"\x02\0[\0-\x03]\0(UL|OB)|\x08\0[\0-\x18]\0(UL|CS|DA|UI|[\x02-\x40]\0\0\0)", _DICOM),
    (
        rb"\x89HDF\r\n\x1a\n|CDF[\x01\x02]",
        "is an HDF5 or netCDF file, as MINC's and MATLAB's are: convert it to NIfTI (mnc2nii)",
    ),
    (rb"PK\x03\x04", "is a ZIP archive: unpack it"),
    (rb".{257}ustar", "is a tar archive: unpack it"),
    (rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*", "is a picture (PNG, JPEG, TIFF), not a volume"),
    (rb"(?i)\s*<(!doctype html|html)", "is a web page: what was meant was not downloaded"),
    (rb"version https://git-lfs", "is a pointer of Git LFS, not what it points to: git lfs pull"),
    (rb"(\.\./)*(\.git)?/annex/objects/", "is a pointer of git-annex: git annex get"),
)


def is_dicom(head: bytes) -> bool:
    """Tell whether the first `HEAD_BYTES` of a file are DICOM's, with its preamble or without."""
    return any(re.match(p, head, re.DOTALL) for p, what in _OTHERS if what == _DICOM)


def what_it_is(head: bytes, *promised: str) -> str | None:
    """Say what a file is by how its content begins, and what to do; None if that is not known.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES`, or all of a shorter file.
    *promised : str
        NIfTI, NRRD, MetaImage: what the file should be, and would be read as.
    """
    for command, magic in _PACKERS.items():
        if head.startswith(magic):
            return (
                f"is compressed by {command}: unpack it, or pipe it in "
                f"({command} -dc FILE | lnq-… -)"
            )
    for name, (pattern, remedy) in _FORMATS.items():
        if re.match(pattern, head) and name not in promised:
            return f"is a {name} file: {remedy}"
    return next((what for pattern, what in _OTHERS if re.match(pattern, head, re.DOTALL)), None)


def is_half_of_a_pair(path: str | Path) -> bool:
    """Tell whether a file is named as the voxels of an .hdr/.img pair, the header beside it."""
    name = str(path)
    stem = re.sub(r"(?i)\.img(\.gz)?$", "", name)
    return stem != name and any(Path(f"{stem}.hdr{packed}").is_file() for packed in ("", ".gz"))
