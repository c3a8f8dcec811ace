"""Odd image files, each by name with what reading it must give.

Headers and damage are made with nibabel, struct and gzip, so that nothing here trusts the code
under test.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, UNITS = 40, 70, 76, 108, 112, 123
QFORM_CODE, QUATERNION, SROW, MAGIC = 252, 256, 280, 344
"""Offsets of fields in a NIfTI-1 header."""

SIZE = (3, 4, 5)
"""x, y, z."""
BASE = np.random.default_rng(1).integers(-1000, 2000, SIZE[::-1]).astype(np.int16)
"""Voxels (z, y, x)."""
AFFINE = np.array(
    [[-0.75, 0, 0, 100.5], [0, -0.75, 0, 120.25], [0, 0, 1.25, -310.75], [0, 0, 0, 1]]
)
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Odd:
    """A file and what reading it must give: an error, or voxels, affine and notes."""

    name: str
    content: bytes = field(repr=False)
    error: str | None = None
    array: np.ndarray = field(default_factory=lambda: BASE, repr=False)
    affine: np.ndarray = field(default_factory=lambda: AFFINE, repr=False)
    notes: tuple[str, ...] = ()
    file_name: str | None = None

    def write(self, folder: Path) -> Path:
        path = folder / (self.file_name or f"{self.name}.nii.gz")
        path.write_bytes(self.content)
        return path


def nifti(
    array: np.ndarray = BASE,
    affine: np.ndarray = AFFINE,
    *,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    units: str | None = "mm",
    kind: type = nib.Nifti1Image,
    endianness: str = "<",
) -> bytes:
    """Return the bytes of an image (…, z, y, x); ``codes`` are those of sform and qform."""
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(array.dtype)
    image = kind(array.T, affine, header)
    image.set_qform(affine if qform is None else qform, codes[1], strip_shears=True)
    image.set_sform(affine, codes[0])
    if units:
        image.header.set_xyzt_units(units)
    return image.to_bytes()


def patch(content: bytes, offset: int, form: str, *values) -> bytes:
    """Return content with values written over it at an offset."""
    new = struct.pack("<" + form, *values)
    return content[:offset] + new + content[offset + len(new) :]


def flip(content: bytes, byte: int, bit: int = 0) -> bytes:
    """Return content with one bit the other way round."""
    return patch(content, byte, "B", content[byte] ^ (1 << bit))


def rotation(degrees: float, axis: int = 2) -> np.ndarray:
    """Return a 3 × 3 rotation about a world axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


def turned(affine: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return an affine whose axes are turned; the first voxel stays."""
    result = affine.copy()
    result[:3, :3] = turn @ affine[:3, :3]
    return result


def moved(affine: np.ndarray, x_mm: float) -> np.ndarray:
    """Return an affine moved to the right."""
    result = affine.copy()
    result[0, 3] += x_mm
    return result


def sheared(affine: np.ndarray, amount: float) -> np.ndarray:
    """Return an affine whose slices slide along y, as of a tilted gantry."""
    result = affine.copy()
    result[1, 2] = amount * affine[2, 2]
    return result


def extension(code: int, content: bytes, order: str = "<") -> bytes:
    """Return a header extension, padded to 16 bytes."""
    size = (len(content) + 8 + 15) // 16 * 16
    return struct.pack(order + "2i", size, code) + content.ljust(size - 8, b"\0")


def with_extensions(content: bytes, *extensions: bytes, order: str = "<") -> bytes:
    """Return a NIfTI-1 file with header extensions."""
    block = b"".join(extensions)
    start = struct.pack(order + "f", 352 + len(block))
    header = content[:VOX_OFFSET] + start + content[VOX_OFFSET + 4 : 348]
    return header + b"\1\0\0\0" + block + content[352:]


PLAIN = nifti()
PACKED = gzip.compress(PLAIN, mtime=0)


def _scaled(array: np.ndarray, slope: float, inter: float) -> bytes:
    return patch(nifti(array), SLOPE, "2f", slope, inter)


def _dims(count: int, *sizes: int) -> bytes:
    return patch(PLAIN, DIM, "8h", count, *(*sizes, 1, 1, 1, 1)[:7])


def forms() -> list[Odd]:
    """Return files that differ in where they say their voxels lie."""
    far = moved(AFFINE, 10)
    oblique = turned(turned(AFFINE, rotation(15)), rotation(12, axis=0))
    left_handed = np.diag([-1, 1, 1, 1]) @ AFFINE
    no_sform = nifti(codes=(0, 1))
    no_qform = nifti(codes=(1, 0))
    nowhere = "does not say where its voxels lie"
    not_mm = ("lengths were converted to mm",)
    pixdim = ("pixdim disagrees with the affine, the affine was taken",)
    return [
        Odd("plain", PLAIN),
        Odd("sform alone, code 2", nifti(codes=(2, 0))),
        Odd("qform alone", no_sform),
        Odd("qform alone, no handedness", patch(no_sform, PIXDIM, "f", 0)),
        Odd("qform alone, negative pixdim", patch(no_sform, PIXDIM, "2f", 1, -0.75), nowhere),
        Odd("qform alone, no quaternion", patch(no_sform, QUATERNION, "3f", 1, 1, 1), nowhere),
        Odd("neither form", nifti(codes=(0, 0)), nowhere),
        Odd(
            "forms 10 mm apart",
            nifti(affine=far, qform=AFFINE, codes=(4, 1)),
            affine=far,
            notes=("sform and qform differ by up to 10.0 mm, the sform was taken",),
        ),
        Odd(
            "forms 0.25 mm apart",
            nifti(affine=moved(AFFINE, 0.25), qform=AFFINE),
            affine=moved(AFFINE, 0.25),
        ),
        Odd(
            "sform NaN",
            patch(PLAIN, SROW, "4f", *[NAN] * 4),
            notes=("the sform is not usable, the qform was taken",),
        ),
        Odd("sform NaN and alone", patch(no_qform, SROW, "4f", *[NAN] * 4), nowhere),
        Odd("sform zero and alone", patch(no_qform, SROW, "12f", *[0] * 12), nowhere),
        Odd("left-handed", nifti(affine=left_handed), affine=left_handed),
        Odd("oblique", nifti(affine=oblique), affine=oblique),
        Odd("oblique, qform alone", nifti(affine=oblique, codes=(0, 1)), affine=oblique),
        Odd("tilted gantry", nifti(affine=sheared(AFFINE, 0.2)), "not at right angles"),
        Odd("pixdim differs", patch(no_qform, PIXDIM, "4f", 1, 2, 2, 2), notes=pixdim),
        Odd("pixdim zero", patch(no_qform, PIXDIM, "4f", 1, 0, 0, 0), notes=pixdim),
        Odd("pixdim infinite", patch(PLAIN, PIXDIM, "4f", 1, INF, 1, 1), notes=pixdim),
        Odd("units unknown", nifti(units=None)),
        Odd(
            "units micron",
            nifti(affine=np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE, units="micron"),
            notes=not_mm,
        ),
        Odd(
            "units metre",
            nifti(affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, units="meter"),
            notes=not_mm,
        ),
        Odd("voxels of 5 m", nifti(affine=np.diag([5000, 1, 1, 1])), r"measure 5e\+03 × 1 × 1 mm"),
        Odd("voxels of 1 nm", nifti(affine=np.diag([1, 1, 1e-6, 1])), "measure 1 × 1 × 1e-06 mm"),
    ]


def scalings() -> list[Odd]:
    """Return files with a slope and an intercept."""
    stored = (BASE + 1024).astype(np.uint16)
    high = np.full(BASE.shape, 65535, np.uint16)
    most = np.full(BASE.shape, 2**31 - 1, np.int32)
    huge = np.full(BASE.shape, 2**62 + 1, np.int64)
    mask = (BASE > 0).astype(np.uint8)
    real = BASE.astype(np.float32)
    double = BASE + 1e-9
    as_they_are = "the voxels were taken as they are"
    return [
        Odd("int16 - 1024", _scaled(stored.astype(np.int16), 1, -1024)),
        Odd("uint16 - 1024", _scaled(stored, 1, -1024)),
        Odd("uint16 to int32", _scaled(high, 1, -1024), array=high.astype(np.int32) - 1024),
        Odd("uint8 + 1", _scaled(mask, 1, 1), array=mask + np.uint8(1)),
        Odd("uint8 × -300", _scaled(mask, -300, 0), array=mask * np.int16(-300)),
        Odd("int32 to int64", _scaled(most, 1, 1), array=most.astype(np.int64) + 1),
        Odd("int64 exactly", _scaled(huge, 1, -1), array=huge - 1),
        Odd("uint64 exactly", _scaled(huge.astype(np.uint64), 1, -2), array=huge - 2),
        Odd("int16 × 1e30", _scaled(BASE, 1e30, 0), "rescaled values are too large"),
        Odd("int16 × 0.5", _scaled(BASE, 0.5, 0), array=real / 2),
        Odd("float32 × 2 + 1", _scaled(real, 2, 1), array=real * 2 + 1),
        Odd("float64 × 2", _scaled(double, 2, 0), array=double * 2),
        Odd("float32 overflows", _scaled(real + 1e30, 1e30, 0), "are NaN or infinite"),
        Odd("slope 0", _scaled(BASE, 0, 5), notes=(f"scl_slope is 0: {as_they_are}",)),
        Odd("slope NaN", _scaled(BASE, NAN, NAN), notes=(f"scl_slope is nan: {as_they_are}",)),
        Odd("slope infinite", _scaled(BASE, INF, 0), notes=(f"scl_slope is inf: {as_they_are}",)),
        Odd("intercept NaN", _scaled(BASE, 1, NAN), notes=("scl_inter is nan: taken as 0",)),
        Odd("slope 1", _scaled(mask, 1, 0), array=mask),
    ]


def contents() -> list[Odd]:
    """Return files whose voxels are not plain numbers, or whose dimensions are not three."""
    colours = np.zeros(BASE.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    holes = BASE.astype(np.float32)
    holes[1, 1, 1], holes[2, 2, 2] = NAN, INF
    not_plain = "not a plain number"
    impossible = "impossible dimensions"
    return [
        Odd("NaN and infinity", nifti(holes), "^2 voxels are NaN or infinite"),
        Odd("complex", nifti(BASE.astype(np.complex64)), not_plain),
        Odd("colours", nifti(colours), not_plain),
        Odd("float128", patch(PLAIN, DATATYPE, "h", 1536), not_plain),
        Odd("unknown type", patch(PLAIN, DATATYPE, "h", 9999), not_plain),
        Odd("no type", patch(PLAIN, DATATYPE, "h", 0), not_plain),
        Odd("4-D, one frame", nifti(BASE[None])),
        Odd("5-D, one frame", nifti(BASE[None, None])),
        Odd("4-D, two frames", nifti(np.stack([BASE, BASE])), "3-D volume, it is 3 × 4 × 5 × 2$"),
        Odd("vectors", nifti(np.stack([BASE[None]] * 3)), "it is 3 × 4 × 5 × 1 × 3$"),
        Odd("2-D", nifti(BASE[0]), "must be one 3-D volume, it is 3 × 4$"),
        Odd("one slice", nifti(BASE[:1]), array=BASE[:1]),
        Odd("no slices", _dims(3, 3, 4, 0), impossible),
        Odd("negative", _dims(3, 3, 4, -5), impossible),
        Odd("no dimensions", _dims(0, 3, 4, 5), impossible),
        Odd("8 dimensions", _dims(8, 3, 4, 5), impossible),
        Odd("768 dimensions", _dims(3 << 8, 3, 4, 5), impossible),  # 3, were it big-endian
        Odd("NIfTI-2", nifti(kind=nib.Nifti2Image)),
        Odd("big-endian", nifti(endianness=">")),
        Odd("big-endian NIfTI-2", nifti(kind=nib.Nifti2Image, endianness=">")),
        Odd(
            "big-endian, float64",
            nifti(BASE.astype(np.float64), endianness=">"),
            array=BASE.astype(np.float64),
        ),
        Odd("extensions", with_extensions(PLAIN, extension(6, b"a note"), extension(44, b"x"))),
        Odd(
            "extension too long",
            with_extensions(PLAIN, struct.pack("<2i", 4000, 6) + bytes(8)),
        ),
        Odd("voxels at 0", patch(PLAIN, VOX_OFFSET, "f", 0), "voxels cannot begin at byte 0"),
        Odd("voxels at 1e9", patch(PLAIN, VOX_OFFSET, "f", 1e9), "cannot begin at byte 1e.09"),
        Odd("voxels at 352.5", patch(PLAIN, VOX_OFFSET, "f", 352.5), "begin at byte 352.5"),
        Odd("voxels at NaN", patch(PLAIN, VOX_OFFSET, "f", NAN), "begin at byte nan"),
        Odd("voxels past the end", patch(PLAIN, VOX_OFFSET, "f", 1024), "more than|ends early"),
    ]


def containers() -> list[Odd]:
    """Return files that are not what their name says, damaged, or too large to be true."""
    half = len(PLAIN) // 2
    huge = _dims(3, 32767, 32767, 32767)
    huge_2 = patch(nifti(kind=nib.Nifti2Image), 16, "8q", 3, *[2**60] * 3, 1, 1, 1, 1)
    gigabytes = _dims(3, 1024, 1024, 4000)
    bomb = gzip.compress(PLAIN + bytes(40 << 20), 6)
    pair = PLAIN[:MAGIC] + b"ni1\0" + PLAIN[348:]
    text = b"hello world\n" * 100
    cut = "ends early"
    damaged = "compressed data are damaged"
    other = "is not a NIfTI image"
    too_much = "more than the file can hold"
    return [
        Odd("gzip", PACKED),
        Odd("not packed but named so", PLAIN),
        Odd("packed but not named so", PACKED, file_name="packed.nii"),
        Odd("no suffix", PACKED, file_name="image"),
        Odd("capitals", PACKED, file_name="UPPER.NII.GZ"),
        Odd("spaces", PACKED, file_name="sp ace\nünïcode.nii.gz"),
        Odd("zeros after gzip", PACKED + bytes(512)),
        Odd("two members", gzip.compress(PLAIN[:half]) + gzip.compress(PLAIN[half:])),
        Odd("empty member", PACKED + gzip.compress(b"")),
        Odd("garbage after gzip", PACKED + b"GARBAGE" * 10, damaged),
        Odd("half a second member", PACKED[:-1] + PACKED[-1:] + PACKED[:20], cut),
        Odd("gzip half", PACKED[: len(PACKED) // 2], cut),
        Odd("gzip without trailer", PACKED[:-8], cut),
        Odd("wrong CRC", flip(PACKED, len(PACKED) - 5), damaged),
        Odd("wrong length", flip(PACKED, len(PACKED) - 1), damaged),
        Odd("half in whole gzip", gzip.compress(PLAIN[: half + 200]), cut),
        Odd("header alone", gzip.compress(PLAIN[:348]), cut),
        Odd("half", PLAIN[: half + 200], cut),
        Odd("tenth", PLAIN[:360], cut),
        Odd(
            "bytes after the voxels",
            gzip.compress(PLAIN + b"\1" * 1000),
            notes=("1000 bytes after the voxels were ignored",),
        ),
        Odd("40 MiB after the voxels", bomb, "far more data than its header says"),
        Odd("claims 64 TiB", huge, too_much),
        Odd("claims 64 TiB, packed", gzip.compress(huge), too_much),
        Odd("claims 2e51 bytes", gzip.compress(huge_2), too_much),
        Odd("claims 8 GB", gigabytes, too_much),
        Odd("claims 8 GB, packed", gzip.compress(gigabytes), too_much),
        Odd("empty", b"", "^is empty$"),
        Odd("empty, not packed", b"", "^is empty$", file_name="empty.nii"),
        Odd("one byte", b"\x1f", cut),
        Odd("text", text, other),
        Odd("text, packed", gzip.compress(text), other),
        Odd("PNG", b"\x89PNG\r\n\x1a\n" + bytes(600), other),
        Odd("header of a pair", pair, "a .hdr/.img pair must be converted"),
        Odd("Analyze", PLAIN[:MAGIC] + bytes(4) + PLAIN[348:], other),
    ]


ALL = [*forms(), *scalings(), *contents(), *containers()]
READABLE = [odd for odd in ALL if odd.error is None]
REFUSED = [odd for odd in ALL if odd.error is not None]
