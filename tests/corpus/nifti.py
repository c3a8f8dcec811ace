"""Odd NIfTI files, each by name with what reading it must give.

Headers and damage are made with nibabel, struct and gzip, so that nothing here trusts the code
under test. Each function takes the voxels that its files hold: a CT's by default.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.corpus import Content, write_content

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
    """A file and what reading it must give: an error (a pattern), or voxels, affine and notes.

    ``content`` may be a function that makes what is not a plain file. ``too_long`` says that no
    image can be written under the file's own case name. Of a file that is not ``oriented`` the
    affine is the one that nibabel makes up.
    """

    name: str
    content: Content = field(repr=False)
    error: str | None = None
    array: np.ndarray = field(default_factory=lambda: BASE, repr=False)
    affine: np.ndarray = field(default_factory=lambda: AFFINE, repr=False)
    notes: tuple[str, ...] = ()
    file_name: str | None = None
    too_long: bool = False
    oriented: bool = True

    @property
    def file(self) -> str:
        """What the file is called."""
        return self.file_name or f"{self.name}.nii.gz"

    @property
    def case(self) -> str:
        """The file's name without the suffix of an image."""
        return re.sub(r"(?i)(?<=.)\.(nii\.gz|nii|nrrd|nhdr|mha|mhd)$", "", self.file)

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        write_content(path, self.content)
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


def pack(content: bytes, level: int = 9) -> bytes:
    """Return gzipped bytes, the same at any time."""
    return gzip.compress(content, level, mtime=0)


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


def straight(affine: np.ndarray) -> np.ndarray:
    """Return the affine with the nearest axes at right angles, by nibabel's reckoning."""
    header = nib.Nifti1Header()
    header.set_qform(affine, 1, strip_shears=True)
    return header.get_qform()


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


UNKNOWN_CLASSES = b"".join(
    b'<Label Key="%d" Red="1" Green="1" Blue="1" Alpha="1"><![CDATA[no such organ]]></Label>' % key
    for key in (1, 2, 52, 255)
)
"""Names of a map's numbers, as TotalSegmentator writes them, that it gives to none."""
NOT_GZIP = ("what follows the compressed data is not gzip, and was ignored",)
NO_AXES = (
    "its header does not say how its axes lie in the patient (sform and qform codes are 0): only "
    "its voxel size of 0.75 × 0.75 × 1.25 mm was taken"
)
ALL_ORIENTATIONS = [
    np.stack([np.array(order), np.array(flips)], axis=1)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
"""Of the axes x, y, z, as nibabel writes an orientation."""
UNKNOWN_NAMES = "names unknown classes"
PLAIN = nifti()
PACKED = pack(PLAIN)


def _scaled(array: np.ndarray, slope: float, inter: float) -> bytes:
    return patch(nifti(array), SLOPE, "2f", slope, inter)


def _dims(content: bytes, count: int, *sizes: int) -> bytes:
    return patch(content, DIM, "8h", count, *(*sizes, 1, 1, 1, 1)[:7])


def forms(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return files that differ in where they say their voxels lie."""
    odd, make = partial(Odd, array=voxels), partial(nifti, voxels)
    plain = make()
    far = moved(AFFINE, 10)
    oblique = turned(turned(AFFINE, rotation(15)), rotation(12, axis=0))
    left_handed = np.diag([-1, 1, 1, 1]) @ AFFINE
    flat = AFFINE[:, [0, 0, 2, 3]]
    meter, micron = (AFFINE @ np.diag([*[mm / 0.75] * 3, 1]) for mm in (590.0, 0.0015))
    no_sform = make(codes=(0, 1))
    no_qform = make(codes=(1, 0))
    nowhere = "does not say where its voxels lie"
    no_codes = make(codes=(0, 0))
    gantry = "right angles, by .* a tilted gantry: convert the series with dcm2niix"
    not_mm = ("lengths were converted to mm",)
    pixdim = ("pixdim disagrees with the affine, the affine was taken",)
    return [
        odd("plain", plain),
        odd("sform alone, code 2", make(codes=(2, 0))),
        odd("qform alone", no_sform),
        odd("qform alone, no handedness", patch(no_sform, PIXDIM, "f", 0)),
        odd("qform alone, negative pixdim", patch(no_sform, PIXDIM, "2f", 1, -0.75), nowhere),
        odd("qform alone, no quaternion", patch(no_sform, QUATERNION, "3f", 1, 1, 1), nowhere),
        odd("quaternion a hair too long", patch(no_sform, QUATERNION, "3f", 0, 0, 1.000009)),
        odd("quaternion too long", patch(no_sform, QUATERNION, "3f", 0, 0, 1.00002), nowhere),
        odd(
            "neither form",
            no_codes,
            affine=nib.Nifti1Image.from_bytes(no_codes).affine,
            notes=(NO_AXES,),
            oriented=False,
        ),
        odd("neither form nor spacing", patch(no_codes, PIXDIM, "4f", 1, 0, 0, 0), "measure 0 × 0"),
        odd(
            "forms 10 mm apart",
            make(affine=far, qform=AFFINE, codes=(4, 1)),
            affine=far,
            notes=("sform and qform differ by up to 10.0 mm, the sform was taken",),
        ),
        odd(
            "forms 0.25 mm apart",
            make(affine=moved(AFFINE, 0.25), qform=AFFINE),
            affine=moved(AFFINE, 0.25),
        ),
        odd(
            "sform NaN",
            patch(plain, SROW, "4f", *[NAN] * 4),
            notes=("the sform is not usable, the qform was taken",),
        ),
        odd("sform NaN and alone", patch(no_qform, SROW, "4f", *[NAN] * 4), nowhere),
        odd("sform zero and alone", patch(no_qform, SROW, "12f", *[0] * 12), nowhere),
        odd("left-handed", make(affine=left_handed), affine=left_handed),
        odd("oblique", make(affine=oblique), affine=oblique),
        odd("oblique, qform alone", make(affine=oblique, codes=(0, 1)), affine=oblique),
        odd(
            "tilted gantry",
            make(affine=sheared(AFFINE, 0.2)),
            gantry,
        ),
        odd(
            "sheared by 0.05 mm",
            make(affine=sheared(AFFINE, 0.01), codes=(1, 0)),
            affine=straight(sheared(AFFINE, 0.01)),
        ),
        odd("pixdim differs", patch(no_qform, PIXDIM, "4f", 1, 2, 2, 2), notes=pixdim),
        odd("pixdim zero", patch(no_qform, PIXDIM, "4f", 1, 0, 0, 0), notes=pixdim),
        odd("pixdim infinite", patch(plain, PIXDIM, "4f", 1, INF, 1, 1), notes=pixdim),
        odd("units unknown", make(units=None)),
        odd(
            "units micron",
            make(affine=np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE, units="micron"),
            notes=not_mm,
        ),
        odd(
            "units meter",
            make(affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, units="meter"),
            notes=not_mm,
        ),
        odd("singular", make(affine=flat, codes=(1, 0)), nowhere),
        odd("spacing NaN alone", patch(no_sform, PIXDIM, "2f", 1, NAN), nowhere),
        odd("spacing 0 alone", patch(no_sform, PIXDIM, "2f", 1, 0), nowhere),
        odd("spacing 1e-9 alone", patch(no_sform, PIXDIM, "2f", 1, 1e-9), "measure 1e-09 × 0.75"),
        odd("voxels of 1 m", make(affine=meter), affine=meter),
        odd("voxels of 1 µm", make(affine=micron), affine=micron),
        odd("voxels of 5 m", make(affine=np.diag([5000, 1, 1, 1])), r"measure 5e\+03 × 1 × 1 mm"),
        odd("voxels of 1 nm", make(affine=np.diag([1, 1, 1e-6, 1])), "measure 1 × 1 × 1e-06 mm"),
    ]


def scalings() -> list[Odd]:
    """Return files with a slope and an intercept, of a CT's voxels."""
    stored = (BASE + 1024).astype(np.uint16)
    high = np.full(BASE.shape, 65535, np.uint16)
    most = np.full(BASE.shape, 2**31 - 1, np.int32)
    huge = np.full(BASE.shape, 2**62 + 1, np.int64)
    mask = (BASE > 0).astype(np.uint8)
    real = BASE.astype(np.float32)
    double = BASE + 1e-9
    of_255 = mask * np.uint8(254) * np.float32(1 / 255)
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
        Odd("slope 0", _scaled(BASE, 0, 5)),
        Odd("254 of 255", _scaled(mask * np.uint8(254), 1 / 255, 0), array=of_255),
        Odd("slope NaN", _scaled(BASE, NAN, NAN), notes=(f"scl_slope is nan: {as_they_are}",)),
        Odd("slope infinite", _scaled(BASE, INF, 0), notes=(f"scl_slope is inf: {as_they_are}",)),
        Odd("intercept NaN", _scaled(BASE, 1, NAN), notes=("scl_inter is nan: taken as 0",)),
        Odd("slope 1", _scaled(mask, 1, 0), array=mask),
    ]


def contents(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return files whose voxels are not plain numbers, or whose dimensions are not three."""
    odd = partial(Odd, array=voxels)

    def make(array: np.ndarray = voxels, **rest) -> bytes:
        return nifti(array, **rest)

    plain = make()
    colors = np.zeros(voxels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    holes = voxels.astype(np.float32)
    holes[1, 1, 1], holes[2, 2, 2] = NAN, INF
    not_plain = "not a plain number"
    impossible = "impossible dimensions"
    return [
        odd("NaN and infinity", make(holes), "^2 voxels are NaN or infinite"),
        odd("complex", make(voxels.astype(np.complex64)), not_plain),
        odd("complex128", make(voxels.astype(np.complex128)), not_plain),
        odd("complex256", patch(plain, DATATYPE, "2h", 2048, 256), not_plain),
        odd("colors", make(colors), not_plain),
        odd("colors and opacity", patch(plain, DATATYPE, "2h", 2304, 32), not_plain),
        odd("one bit", patch(plain, DATATYPE, "2h", 1, 1), not_plain),
        odd("float128", patch(plain, DATATYPE, "h", 1536), not_plain),
        odd("unknown type", patch(plain, DATATYPE, "h", 9999), not_plain),
        odd("no type", patch(plain, DATATYPE, "h", 0), not_plain),
        odd("4-D, one frame", make(voxels[None])),
        odd("5-D, one frame", make(voxels[None, None])),
        odd(
            "4-D, two frames", make(np.stack([voxels, voxels])), "3-D volume, it is 3 × 4 × 5 × 2$"
        ),
        odd("vectors", make(np.stack([voxels[None]] * 3)), "it is 3 × 4 × 5 × 1 × 3$"),
        odd("2-D", make(voxels[0]), "must be one 3-D volume, it is 3 × 4$"),
        odd("one slice", make(voxels[:1]), array=voxels[:1]),
        odd("one column", make(voxels[:, :1, :1]), array=voxels[:, :1, :1]),
        odd("one voxel", make(voxels[:1, :1, :1]), array=voxels[:1, :1, :1]),
        odd("no slices", _dims(plain, 3, 3, 4, 0), impossible),
        odd("negative", _dims(plain, 3, 3, 4, -5), impossible),
        odd("no dimensions", _dims(plain, 0, 3, 4, 5), impossible),
        odd("4-D, of size 0", _dims(plain, 4, 3, 4, 5, 0)),
        odd("5-D, of sizes 1 and 0", _dims(plain, 5, 3, 4, 5, 1, 0)),
        odd("4-D, of size -1", _dims(plain, 4, 3, 4, 5, -1), impossible),
        odd("8 dimensions", _dims(plain, 8, 3, 4, 5), impossible),
        odd("768 dimensions", _dims(plain, 3 << 8, 3, 4, 5), impossible),  # 3, were it big-endian
        odd("NIfTI-2", make(kind=nib.Nifti2Image)),
        odd("big-endian", make(endianness=">")),
        odd("big-endian NIfTI-2", make(kind=nib.Nifti2Image, endianness=">")),
        odd(
            "big-endian, float64",
            make(voxels.astype(np.float64), endianness=">"),
            array=voxels.astype(np.float64),
        ),
        odd("extensions", with_extensions(plain, extension(6, b"a note"), extension(44, b"x"))),
        odd(UNKNOWN_NAMES, with_extensions(plain, extension(3, UNKNOWN_CLASSES))),
        odd(
            "extension too long",
            with_extensions(plain, struct.pack("<2i", 4000, 6) + bytes(8)),
        ),
        odd("voxels at 0", patch(plain, VOX_OFFSET, "f", 0), "voxels cannot begin at byte 0"),
        odd("voxels at 1e9", patch(plain, VOX_OFFSET, "f", 1e9), "cannot begin at byte 1e.09"),
        odd("voxels at 352.5", patch(plain, VOX_OFFSET, "f", 352.5), "begin at byte 352.5"),
        odd("voxels at NaN", patch(plain, VOX_OFFSET, "f", NAN), "begin at byte nan"),
        odd("voxels past the end", patch(plain, VOX_OFFSET, "f", 1024), "more than|ends early"),
    ]


def records(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return whole files with header extensions that look like lnqtools' records of their making.

    They say what no tool writes, so that none was made by one.
    """
    deep = '{"tool": "lnq-weaklabel", "options": %s}' % ("[" * 600 + "]" * 600)
    below = '{"tool": "lnq-weaklabel", "options": {"x": %s}}' % ("[" * 600 + "]" * 600)
    hostile = "</script><script>alert(1)</script>"
    texts = {
        "options a list": {"tool": "lnq-weaklabel", "options": [1]},
        "options a text": {"tool": "lnq-weaklabel", "options": "x"},
        "options a number": {"tool": "lnq-weaklabel", "options": 5},
        "options none": {"tool": "lnq-weaklabel", "options": None},
        "options deep": deep,
        "an option deep": below,
        "tool a number": {"tool": 7, "options": {}},
        "tool a list": {"tool": [{}], "options": {}},
        "hostile": {"tool": hostile, "version": hostile, "options": {hostile: hostile}},
        "made from a list": {"tool": "lnq-weaklabel", "options": {}, "made_from": ["input"]},
        "made from a text": {"tool": "lnq-weaklabel", "options": {}, "made_from": "input"},
        **{
            f"made from {what}": {
                "tool": "lnq-weaklabel",
                "options": {"strategy": "mask"},
                "made_from": {"input": digest},
            }
            for what, digest in {
                "a content that none has": "00000000-0",
                "a number": 5,
                "a tree": {"a": [{}]},
                "too much": f"00000000-{'9' * 5000}",
                "no digest": "../../etc/passwd",
                "a grid that none has": "grid-",
                "a table of names": "00000000-0+00000000-0",
            }.items()
        },
        "command a text": {"tool": "lnq-crop", "options": {}, "command": "x", "made_with": [1]},
        "version a list": {
            "tool": "lnq-crop",
            "version": [],
            "options": {},
            "made_with": {"a": {}},
        },
    }
    return [
        Odd(
            f"record, {name}",
            with_extensions(
                nifti(voxels),
                extension(6, (text if isinstance(text, str) else json.dumps(text)).encode()),
            ),
            array=voxels,
        )
        for name, text in texts.items()
    ]


def containers(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return files that are not what their name says, damaged, or too large to be true."""
    odd, make = partial(Odd, array=voxels), partial(nifti, voxels)
    plain = make()
    packed = pack(plain)
    half = len(plain) // 2
    huge = _dims(plain, 3, 32767, 32767, 32767)
    huge_2 = patch(make(kind=nib.Nifti2Image), 16, "8q", 3, *[2**60] * 3, 1, 1, 1, 1)
    gigabytes = _dims(plain, 3, 1024, 1024, 4000)
    bomb = pack(plain + bytes(40 << 20), 6)
    pair = plain[:MAGIC] + b"ni1\0" + plain[348:]
    text = b"hello world\n" * 100
    cut = "ends early"
    damaged = "compressed data are damaged"
    other = "is not a NIfTI image"
    half_a_pair = r"is half of an \.hdr/\.img pair: make one file of it \(nib-convert"
    too_much = "more than the file can hold"
    return [
        odd("gzip", packed),
        odd("not packed but named so", plain),
        odd("packed but not named so", packed, file_name="packed.nii"),
        odd("no suffix", packed, file_name="image"),
        odd("capitals", packed, file_name="UPPER.NII.GZ"),
        odd("spaces", packed, file_name="sp ace\nünïcode.nii.gz"),
        odd("zeros after gzip", packed + bytes(512)),
        odd("two members", pack(plain[:half]) + pack(plain[half:])),
        odd("empty member", packed + pack(b"")),
        odd("garbage after gzip", packed + b"GARBAGE" * 10, notes=NOT_GZIP),
        odd("a byte after gzip", packed + b"!", notes=NOT_GZIP),
        odd("zeros and garbage after gzip", packed + bytes(300_000) + b"GARBAGE", notes=NOT_GZIP),
        odd("garbage after half", pack(plain[: half + 200]) + b"GARBAGE", cut),
        odd("half a second member", packed[:-1] + packed[-1:] + packed[:20], cut),
        odd("gzip half", packed[: len(packed) // 2], cut),
        odd("gzip without trailer", packed[:-8], cut),
        odd("wrong CRC", flip(packed, len(packed) - 5), damaged),
        odd("wrong length", flip(packed, len(packed) - 1), damaged),
        odd("half in whole gzip", pack(plain[: half + 200]), cut),
        odd("header alone", pack(plain[:348]), cut),
        odd("half", plain[: half + 200], cut),
        odd("tenth", plain[:360], cut),
        odd(
            "bytes after the voxels",
            pack(plain + b"\1" * 1000),
            notes=("1000 bytes after the voxels were ignored",),
        ),
        odd("40 MiB after the voxels", bomb, "far more data than its header says"),
        odd("claims 64 TiB", huge, too_much),
        odd("claims 64 TiB, packed", pack(huge), too_much),
        odd("claims 2e51 bytes", pack(huge_2), too_much),
        odd("claims 8 GB", gigabytes, too_much),
        odd("claims 8 GB, packed", pack(gigabytes), too_much),
        odd("empty", b"", "^is empty$"),
        odd("empty, not packed", b"", "^is empty$", file_name="empty, not packed.nii"),
        odd("one byte", b"\x1f", cut),
        odd("text", text, other),
        odd("text, packed", pack(text), other),
        odd("header of a pair", pair, half_a_pair),
        odd("header of a pair, packed", pack(pair), half_a_pair),
        odd("Analyze", plain[:MAGIC] + bytes(4) + plain[348:], half_a_pair),
    ]


def foreign(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return files of other kinds under the name of a NIfTI image."""
    plain = nifti(voxels)
    packed = pack(plain)
    first = b"\x08\0\x08\0CS\x16\0ORIGINAL\\PRIMARY\\AXIAL " + bytes(400)
    meta_group = b"\2\0\0\0UL\4\0\xbe\0\0\0"
    pipe = r"unpack it, or pipe it in \({0} -dc FILE \| lnq-… -\)"
    contents = {
        "DICOM": (bytes(128) + b"DICM" + meta_group + bytes(600), "is a DICOM .* lnq-dicom"),
        "DICOM without preamble": (meta_group + bytes(600), "is a DICOM .* lnq-dicom"),
        "DICOM without header": (first, "is a DICOM .* lnq-dicom"),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed by zstd: " + pipe.format("zstd")),
        "xz": (lzma.compress(plain), "compressed by xz: " + pipe.format("xz")),
        "bzip2": (bz2.compress(plain), "compressed by bzip2: " + pipe.format("bzip2")),
        "lz4": (b"\x04\x22\x4d\x18" + bytes(600), "compressed by lz4: " + pipe.format("lz4")),
        "gzip twice": (pack(packed), "compressed by gzip: " + pipe.format("gzip")),
        "NRRD": (b"NRRD0004\ntype: short\n" + bytes(600), "is a NRRD file: call it .nrrd"),
        "MetaImage": (
            b"ObjectType = Image\nNDims = 3\n" + bytes(600),
            "is a MetaImage file: call it .mha",
        ),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "is an HDF5 or netCDF .* MINC"),
        "netCDF": (b"CDF\x01" + bytes(600), "is an HDF5 or netCDF .* MINC"),
        "zip": (b"PK\3\4" + bytes(600), "is a ZIP archive: unpack it"),
        "tar": (b"x.nii".ljust(257, b"\0") + b"ustar\0" + bytes(300), "is a tar archive: unpack"),
        "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(600), "is a picture"),
        "web page": (b"\n<!DOCTYPE html>\n<html>" + bytes(600), "is a web page"),
        "LFS": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "is a pointer of Git LFS, .*: git lfs pull",
        ),
        "annex": (b"/annex/objects/MD5E-s9--0.nii.gz\n", "of git-annex: git annex get"),
    }
    return [
        *(Odd(name, content, error, array=voxels) for name, (content, error) in contents.items()),
        Odd("tar, packed", pack(contents["tar"][0]), contents["tar"][1], array=voxels),
    ]


def cuts(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return files cut at every kind of place, packed and not, and packed ones with a bit wrong."""
    plain = with_extensions(nifti(voxels), extension(6, b"a note"))
    packed = pack(plain)
    last = len(plain) - 1
    in_plain = {"length": 2, "dims": 44, "sform": 300, "magic": 346, "extension": 358, "end": last}
    in_packed = {"first byte": 1, "flags": 3, "header": 9, "body": 12, "CRC": -6, "length": -1}
    error = "ends early|more than the file can hold"
    return [
        *(Odd(f"cut in {at}", plain[:n], error) for at, n in in_plain.items()),
        *(Odd(f"packed, cut in {at}", packed[:n], error) for at, n in in_packed.items()),
        *(
            Odd(f"cut in {at}, then packed whole", pack(plain[:n]), error)
            for at, n in in_plain.items()
        ),
        Odd("bit wrong in the body", flip(packed, len(packed) // 2, 3), "damaged|ends early"),
        Odd("no gzip after two bytes", b"\x1f\x8b" + bytes(98), "damaged"),
        Odd("second member damaged", packed + flip(packed, 60), "damaged|ends early"),
    ]


def specials(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return what is not a plain file, or another kind of file, or has an awkward name."""
    odd, packed = partial(Odd, array=voxels), pack(nifti(voxels))
    names = (
        "-begins with dash",
        "'single' \"double\" `back`",
        "$HOME;*?[a]{b}|&<>",
        "ünï çødé 漢字 🫁",
    )
    names += ("tab\tand\nend", "x" * 248, "dots..in..name", "a.nii", "%s%n%x", " ")
    not_utf_8 = os.fsdecode(b"not utf-8 \xff\xfe")

    def unreadable(path: Path) -> None:
        path.write_bytes(packed)
        path.chmod(0)

    def link(target: str) -> Callable[[Path], object]:
        return lambda path: path.symlink_to(target)

    return [
        odd("directory", Path.mkdir, "^is a directory( without images .*)?$"),
        odd("FIFO", os.mkfifo, "^is a pipe: give it on standard input, with - as IMAGE"),
        odd("device", link("/dev/zero"), "^is not a regular file$"),
        odd("unreadable", unreadable, "cannot be read: Permission denied"),
        odd("dangling link", link("nowhere"), "cannot be read: No such file"),
        odd("link to itself", link("link to itself.nii.gz"), "cannot be read: Too many levels"),
        odd("zeros", bytes(4096), "is not a NIfTI image"),
        odd("zeros, packed", pack(bytes(4096)), "is not a NIfTI image"),
        odd("wrong magic", patch(nifti(voxels), MAGIC, "4B", *b"n+9\0"), "is not a NIfTI image"),
        *(odd(name, packed) for name in (*names, not_utf_8)),
        odd("longest name", packed, file_name=f"{'y' * 251}.nii", too_long=True),
    ]


def values() -> list[Odd]:
    """Return files with values that only some kinds of image may hold."""
    ones, shape = np.ones(BASE.shape, np.uint8), BASE.shape
    arrays = {
        "all 0": ones * 0,
        "all 1": ones,
        "all 2": ones * 2,
        "one 1": np.eye(1, ones.size, 31, dtype=np.uint8).reshape(shape),
        "0 and 255": (BASE > 0) * np.uint8(255),
        "0, 1 and 3": (BASE > 0) * np.uint8(2) + (BASE > 500),
        "whole float64": (BASE > 0).astype(np.float64),
        "-1": (BASE > 0).astype(np.int8) - np.int8(1),
        "70 000": (BASE > 0) * np.int32(70000),
        "2^40": (BASE > 0) * np.int64(1 << 40),
        "0 and 1, one 0.5": np.where(np.arange(ones.size).reshape(shape) == 7, 0.5, ones),
        "all 0.0": np.zeros(shape, np.float32),
        "1.0000153": (BASE > 0) * np.float32(1.0000153),
        "0.9999999": (BASE > 0) * np.float32(0.9999999),
        "1.01": (BASE > 0) * 1.01,
        "1.02": (BASE > 0) * 1.02,
        "-1e-7": (BASE > 0) - 1e-7,
        "all 1.0": np.ones(shape, np.float32),
        "just above 1": np.full(shape, np.nextafter(np.float32(1), np.float32(2))),
        "logits": (BASE / 100).astype(np.float32),
        "all -3024": np.full(shape, -3024, np.int16),
        "some -3024": np.where(BASE < 0, np.int16(-3024), BASE),
        "all 32767": np.full(shape, 32767, np.int16),
        "1e38": np.full(shape, 1e38, np.float32),
        "denormal": np.full(shape, 1e-42, np.float32),
        **{
            f"type {t}": (BASE > 0).astype(t)
            for t in ["u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
        },
    }
    types = [np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")]
    ends = {  # the least and the largest, where most bytes differ, among small ones
        t.str[1:]: np.where(
            BASE > 1500,
            np.iinfo(t).max if t.kind in "iu" else np.pi,
            np.iinfo(t).min + 1 if t.kind in "iu" else -1e9,
        ).astype(t)
        for t in types
    }
    holes = {"all NaN": NAN, "all infinite": INF}
    return [
        *(Odd(name, nifti(array), array=array) for name, array in arrays.items()),
        *(
            Odd(f"{order}-endian, {name}", nifti(array, endianness=sign), array=array)
            for name, array in ends.items()
            for order, sign in (("big", ">"), ("little", "<"))
        ),
        *(
            Odd(name, nifti(np.full(shape, value, np.float32)), "^60 voxels are NaN or infinite")
            for name, value in holes.items()
        ),
    ]


def files(voxels: np.ndarray = BASE) -> list[Odd]:
    """Return all odd files that hold these voxels, and those that hold their own."""
    of_voxels = (forms, contents, records, containers, foreign, cuts, specials)
    return [*(odd for make in of_voxels for odd in make(voxels)), *scalings(), *values()]


ALL = files()
READABLE = [odd for odd in ALL if odd.error is None]
REFUSED = [odd for odd in ALL if odd.error is not None]
