"""Odd NRRD and MetaImage files, each by name with what reading it must give."""

from __future__ import annotations

import gzip
import zlib
from functools import partial

import numpy as np

from tests.corpus.nifti import AFFINE, BASE, NOT_GZIP, Odd, nifti

NRRD_TYPES = {"i2": "int16", "u1": "uint8", "f4": "float"}
META_TYPES = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "f4": "MET_FLOAT"}
IN_LPS = np.diag([-1, -1, 1, 1]) @ AFFINE
"""These formats count to the left and to the back."""


def nrrd(voxels: np.ndarray, *, data: bytes | None = None, **changed: str | None) -> bytes:
    """Return a NRRD file; ``changed`` fields have another value, or are left out."""
    steps = " ".join(f"({','.join(f'{n:g}' for n in column)})" for column in IN_LPS[:3, :3].T)
    fields = {
        "type": NRRD_TYPES[voxels.dtype.str[1:]],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape[::-1])),
        "space_directions": steps,
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space_origin": "({:g},{:g},{:g})".format(*IN_LPS[:3, 3]),
    } | changed
    lines = [f"{key.replace('_', ' ')}: {value}\n" for key, value in fields.items() if value]
    content = voxels.tobytes() if data is None else data
    return ("NRRD0004\n" + "".join(lines) + "\n").encode() + content


def meta(voxels: np.ndarray, *, data: bytes | None = None, **changed: str | None) -> bytes:
    """Return a MetaImage file; ``changed`` fields have another value, or are left out."""
    steps = np.linalg.norm(IN_LPS[:3, :3], axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": " ".join(f"{n:g}" for n in (IN_LPS[:3, :3] / steps).T.ravel()),
        "Offset": " ".join(f"{n:g}" for n in IN_LPS[:3, 3]),
        "ElementSpacing": " ".join(f"{n:g}" for n in steps),
        "DimSize": " ".join(map(str, voxels.shape[::-1])),
        "ElementType": META_TYPES[voxels.dtype.str[1:]],
    } | changed
    fields["ElementDataFile"] = fields.pop("ElementDataFile", "LOCAL")  # the last one
    lines = [f"{key} = {value}\n" for key, value in fields.items() if value]
    return "".join(lines).encode() + (voxels.tobytes() if data is None else data)


def files(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return odd files that hold these voxels."""
    raw = voxels.tobytes()
    return [
        *_both("nrrd", partial(nrrd, voxels), voxels, sizes="sizes", origin="space_origin"),
        *_both("mha", partial(meta, voxels), voxels, sizes="DimSize", origin="Offset"),
        *_nrrds(partial(nrrd, voxels), voxels, raw),
        *_metas(partial(meta, voxels), voxels, raw),
    ]


def _both(suffix: str, make, voxels: np.ndarray, sizes: str, origin: str) -> list[Odd]:
    """Return what both formats have in common, under the names of their fields."""
    whole = make()
    begin = len(whole) - voxels.nbytes

    def odd(name: str, content, error: str | None = None) -> Odd:
        called = f"{suffix} {name}"
        return Odd(called, content, error, array=voxels, file_name=f"{called}.{suffix}")

    no_image = "cannot be read|ends early|impossible|must be one 3-D|neither a NRRD|measure|large"
    return [
        odd("plain", whole),
        odd("empty", b"", "is empty"),
        odd("zeros", bytes(1000), "neither a NRRD nor a MetaImage"),
        odd("text", b"hello\nworld\n" * 50, "neither a NRRD nor a MetaImage"),
        odd("that is NIfTI", nifti(voxels), "is a NIfTI file: call it .nii"),
        odd("gzipped", gzip.compress(whole, mtime=0), r"by gzip: .* \(gzip -dc FILE \| lnq-… -\)"),
        odd("cut in the first line", whole[:5], "neither a NRRD nor a MetaImage"),
        odd("cut in the header", whole[: begin // 2], no_image),
        odd("without voxels", whole[:begin], "ends early"),
        odd("cut in the voxels", whole[:-1], "ends early"),
        odd("huge", make(**{sizes: "32767 32767 32767"}), "ends early"),
        odd("larger than memory", make(**{sizes: "4000000000 4000000000 4000000000"}), no_image),
        odd("size 0", make(**{sizes: "3 4 0"}), no_image),
        odd("size -5", make(**{sizes: "3 4 -5"}), no_image),
        odd("size NaN", make(**{sizes: "3 4 nan"}), no_image),
        odd("two sizes", make(**{sizes: "3 4"}), no_image),
        odd("no type", make(type=None, ElementType=None), no_image),
        odd("no sizes", make(**{sizes: None}), no_image),
        odd("origin NaN", make(**{origin: "nan nan nan"}), "header is damaged|of its header"),
    ]


def _nrrds(make, voxels: np.ndarray, raw: bytes) -> list[Odd]:
    packed = gzip.compress(raw, mtime=0)
    odd = partial(_odd, "nrrd", voxels)
    return [
        odd("gzip", make(data=packed, encoding="gzip")),
        odd("gzip, then more", make(data=packed + b"more", encoding="gzip"), notes=NOT_GZIP),
        odd("gzip, cut", make(data=packed[:-9], encoding="gzip"), "ends early"),
        odd("gzip, no gzip", make(encoding="gzip"), "damaged|ends early|cannot be read"),
        odd(
            "gzip, too much",
            make(data=gzip.compress(raw * 2, mtime=0), encoding="gzip"),
            "header says",
        ),
        odd("unknown encoding", make(encoding="none such"), "cannot be read"),
        odd("unknown type", make(type="block"), "cannot be read|plain"),
        odd("spacing 0", make(space_directions="(0,0,0) (0,1,0) (0,0,1)"), "cannot be|measure"),
        odd("spacing 1e-9", make(space_directions="(1e-9,0,0) (0,1,0) (0,0,1)"), "measure 1e-09"),
        odd("spacing NaN", make(space_directions="(nan,0,0) (0,1,0) (0,0,1)"), "cannot|measure"),
        odd("no spacing", make(space_directions=None), "how large its voxels are"),
        odd("units cm", make(space_units='"cm" "cm" "cm"'), "not mm"),
        odd("space of a time", make(space="RAST"), "space rast, which is not read"),
        odd("data file missing", make(data=b"", data_file="nowhere.raw"), "nowhere.raw is missing"),
        odd("data file a device", make(data=b"", data_file="/dev/zero"), "/dev/zero is missing"),
        odd(
            "one file per slice", make(data=b"", data_file="x%03d.raw 1 5 1"), "one file per slice"
        ),
        odd(
            "a list of files", make(data=b"", data_file="LIST\na.raw\nb.raw"), "one file per slice"
        ),
    ]


def _metas(make, voxels: np.ndarray, raw: bytes) -> list[Odd]:
    packed = zlib.compress(raw)
    zipped = gzip.compress(raw, mtime=0)
    whole = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    wrong = whole | {"CompressedDataSize": "7"}
    odd = partial(_odd, "mha", voxels)
    return [
        odd("called text", make(BinaryData="False"), "as text"),
        odd("neither text nor not", make(BinaryData=" "), "as text"),
        odd("not called text", make(BinaryData=None)),
        odd("zlib", make(data=packed, **whole)),
        odd("gzip, then more", make(data=zipped + b"more", CompressedData="True"), notes=NOT_GZIP),
        odd("zlib, cut", make(data=packed[:-5], **whole), "ends early|damaged|another length"),
        odd("zlib, no zlib", make(**whole), "damaged|ends early"),
        odd("zlib, wrong size", make(data=packed, **wrong), "another length"),
        odd("unknown type", make(ElementType="MET_OTHER"), "cannot be read|plain"),
        odd("spacing 0", make(ElementSpacing="0 1 1"), "cannot be read|measure"),
        odd("spacing -1", make(ElementSpacing="-1 1 1"), "cannot be read|measure"),
        odd("spacing 1e-9", make(ElementSpacing="1e-9 1 1"), "measure 1e-09"),
        odd("spacing NaN", make(ElementSpacing="nan 1 1"), "cannot be read|measure"),
        odd("no spacing", make(ElementSpacing=None), "how large its voxels are"),
        odd("units cm", make(DistanceUnits="cm"), "not mm"),
        odd("two byte orders", make(ElementByteOrderMSB="True"), "two byte orders"),
        odd("spelled otherwise", make(elementspacing="9 9 9"), "spells the field ElementSpacing"),
        odd("data file missing", make(data=b"", ElementDataFile="nowhere"), "nowhere is missing"),
        odd("data file a device", make(data=b"", ElementDataFile="/dev/zero"), "zero is missing"),
        odd("data file too long", make(data=b"", ElementDataFile="x" * 256), "xx is missing"),
        odd(
            "one file per slice",
            make(data=b"", ElementDataFile="x%03d.raw 1 5 1"),
            "one file per slice",
        ),
        odd(
            "a list of files",
            make(data=b"a.raw\nb.raw\n", ElementDataFile="LIST"),
            "one file per slice",
        ),
        odd("size with another blank", make(DimSize="3 4\xa0 5"), "of its header is damaged"),
        odd("a line that is not a field", make(Comment="x\nObject Image"), "not a field"),
        odd(
            "three numbers per voxel",
            make(data=raw * 3, ElementNumberOfChannels="3"),
            "must be one",
        ),
    ]


def _odd(
    suffix: str, voxels: np.ndarray, name: str, content, error: str | None = None, **rest
) -> Odd:
    called = f"{suffix} {name}"
    return Odd(called, content, error, array=voxels, file_name=f"{called}.{suffix}", **rest)
