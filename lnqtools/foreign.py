"""What a file is that is not the image its name promises, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path

HEAD_BYTES = 348
"""Of a file, or of what it unpacks to: enough to know it by."""

_PACKERS = {
    "zstd": (b"\x28\xb5\x2f\xfd", "zstd"),
    "xz": (b"\xfd7zXZ\0", "xz"),
    "bzip2": (b"BZh", "bzip2"),
    "lz4": (b"\x04\x22\x4d\x18", "lz4"),
    "gzip once more": (b"\x1f\x8b", "gzip"),
}
_OTHERS = (
    (0, rb"NRRD000", "is a NRRD file: call it .nrrd, or convert it to NIfTI"),
    (
        0,
        rb"(?i)(ObjectType|NDims|ObjectSubType|Comment)[ \t]*=",
        "is a MetaImage: call it .mha (.mhd with its data file beside it), or convert it to NIfTI",
    ),
    (
        0,
        rb"\x89HDF\r\n\x1a\n|CDF[\x01\x02]",
        "is an HDF5 or netCDF file, as MINC's and MATLAB's are: convert it to NIfTI (mnc2nii)",
    ),
    (0, rb"PK\x03\x04", "is a ZIP archive: unpack it"),
    (257, rb"ustar", "is a tar archive: unpack it"),
    (0, rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*", "is a picture (PNG, JPEG, TIFF), not a volume"),
    (0, rb"(?i)\s*<(!doctype html|html)", "is a web page: what was meant was not downloaded"),
    (
        0,
        rb"version https://git-lfs",
        "is a pointer of Git LFS, not what it points to: git lfs pull",
    ),
    (0, rb"(\.\./)*(\.git)?/annex/objects/", "is a pointer of git-annex: git annex get"),
)
"""Where and how contents begin, and the sentence about such a file."""
_DICOM = "is a DICOM file: convert its series to NIfTI, as dcm2niix does"
_DICOM_BEGINS = re.compile(
    rb"\x02\0[\0-\x03]\0(UL|OB)|\x08\0[\0-\x18]\0(UL|CS|DA|UI|[\x02-\x40]\0\0\0)", re.DOTALL
)
"""Its first element, of group 2 or 8, where the preamble was left out."""
PAIR = "is half of an .hdr/.img pair: make one file of it (nib-convert X.hdr X.nii.gz)"


def what_it_is(head: bytes) -> str | None:
    """Say what a file is by how its content begins, and what to do; None if that is not known.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES`, or all of a shorter file.
    """
    if head[128:132] == b"DICM" or _DICOM_BEGINS.match(head):
        return _DICOM
    for packer, (magic, command) in _PACKERS.items():
        if head.startswith(magic):
            return (
                f"is compressed by {packer}: unpack it, or pipe it in "
                f"({command} -dc FILE | lnq-… -)"
            )
    for place, pattern, sentence in _OTHERS:
        if re.match(pattern, head[place:]):
            return sentence
    return None


def is_half_of_a_pair(path: str | Path) -> bool:
    """Tell whether a file is named as the voxels of an .hdr/.img pair, the header beside it."""
    name = str(path)
    stem = re.sub(r"(?i)\.img(\.gz)?$", "", name)
    return stem != name and any(Path(f"{stem}.hdr{packed}").is_file() for packed in ("", ".gz"))
