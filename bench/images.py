"""The image tools against SimpleITK, nibabel, scipy and scikit-image.

Commands are timed whole, with the start of Python and of what they import. Where a start outweighs
a case, one case and ten in one call are measured. The scene is a phantom of 300 slices of 512 x 512
voxels, an int16 CT with its anatomy and its nodes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.harness import Benchmark, Comparison, compared
from bench.memory import Command

PROGRAMS = Path(sys.executable).parent
SHAPE, SPACING = (300, 512, 512), (1.0, 0.8, 0.8)
TEN = 10


def lesion_mask(
    count: int,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    within: tuple[tuple[int, int, int], ...] = ((60, 150, 130), (240, 360, 380)),
) -> np.ndarray:
    """Return ellipsoids of 3 to 14 mm radius, by default scattered in the volume's middle."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for _ in range(count):
        radii = rng.uniform(3, 14, 3) / spacing
        center = rng.uniform(*within)
        low = np.floor(center - radii).astype(int)
        high = np.ceil(center + radii).astype(int) + 1
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(axes, center, radii, strict=True)) <= 1
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = 1
    return mask


def equal_balls(count: int) -> np.ndarray:
    """Return balls far from each other that have 23 ml together, however many they are."""
    radius_mm = 14 * (2 / count) ** (1 / 3)
    cells = int(np.ceil(count ** (1 / 3)))
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    for cell in rng.permutation(cells**3)[:count]:
        middle = np.array(np.unravel_index(cell, (cells,) * 3)) + 0.5
        center = (middle + rng.uniform(-0.1, 0.1, 3)) * SHAPE / cells
        reach = radius_mm / np.array(SPACING)
        low, high = np.floor(center - reach).astype(int), np.ceil(center + reach).astype(int) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = zip(np.ogrid[box], center, SPACING, strict=True)
        mask[box] |= sum(((g - c) * s) ** 2 for g, c, s in axes) <= radius_mm**2
    return mask


@cache
def scene() -> dict[str, np.ndarray]:
    """Return a CT, its anatomy, lungs and nodes: a phantom's slices, repeated, with new noise."""
    from lnqtools.anatomy.maps import LOBES, class_names
    from lnqtools.phantom import make_phantom

    phantom = make_phantom(0, 0, size="full")
    times = -(-SHAPE[0] // len(phantom.ct))

    def longer(array: np.ndarray) -> np.ndarray:
        return np.repeat(array, times, axis=0)[: SHAPE[0]]

    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    anatomy = longer(phantom.anatomy)
    lobes = [number for number, name in class_names("v2").items() if name in LOBES]
    return {
        "ct": longer(phantom.ct) + np.rint(noise).astype(np.int16),
        "anatomy": anatomy,
        "lungs": np.isin(anatomy, lobes).astype(np.uint8),
        "weak": longer(phantom.weak),
        "balls": equal_balls(200),
    }


def write_scene(folder: Path, count: int = 1) -> dict[str, Path]:
    """Write the scene; with more than one case, a folder of links for each image."""
    from lnqtools.anatomy.maps import class_names
    from lnqtools.images.grid import Grid
    from lnqtools.images.names import label_table
    from lnqtools.images.volume import Volume, write_volume
    from lnqtools.labels.weak import weak_label

    grid = Grid.from_affine(SHAPE, np.diag([*reversed(SPACING), 1.0]))
    arrays = {**scene(), "mask": weak_label(scene()["weak"] != 0, "mask")}
    paths = {}
    for name, array in arrays.items():
        names = (label_table(class_names("v2")),) if name == "anatomy" else ()
        paths[name] = folder / f"{name}.nii.gz"
        write_volume(Volume(array, grid, (), names), paths[name])
        (folder / name).mkdir()
        for case in range(count):
            (folder / name / f"{case}.nii.gz").symlink_to(paths[name])
    return paths


def tool(name: str, *arguments: object) -> Command:
    return Command((str(PROGRAMS / f"lnq-{name}"), *map(str, arguments), "-q", "-f"))


def simpleitk(script: str, *arguments: object) -> Command:
    return Command((sys.executable, "-c", script, *map(str, arguments)))


def same_voxels(ours: Path, theirs: Path) -> Callable:
    """Compare two files, whatever the commands that wrote them print."""
    from lnqtools.images.volume import read_volume

    return lambda a, b: np.array_equal(read_volume(ours).array, read_volume(theirs).array)


# Files


def reading(folder: Path) -> Comparison:
    import nibabel as nib
    import SimpleITK as sitk

    from lnqtools.images.volume import read_volume

    path = write_scene(folder)["ct"]
    return Comparison(
        "read a 512 × 512 × 300 CT (.nii.gz)",
        lambda: read_volume(path).array,
        {
            "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
            "nibabel": lambda: np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0),  # type: ignore[attr-defined]
        },
        np.array_equal,
    )


def writing(folder: Path) -> Comparison:
    import nibabel as nib
    import SimpleITK as sitk

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume, read_volume, write_volume

    array = scene()["ct"]
    affine = np.diag([*reversed(SPACING), 1.0])
    volume = Volume(array, Grid.from_affine(SHAPE, affine))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(list(reversed(SPACING)))
    ours, itk, nibabel = (folder / f"{name}.nii.gz" for name in ("ours", "itk", "nibabel"))

    def back(write: Callable, path: Path) -> Callable:
        def work():
            write()
            return path

        return work

    return Comparison(
        "write a 512 × 512 × 300 CT (.nii.gz)",
        back(lambda: write_volume(volume, ours), ours),
        {
            "SimpleITK": back(lambda: sitk.WriteImage(image, str(itk), True), itk),
            "nibabel": back(
                lambda: nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), nibabel),
                nibabel,
            ),
        },
        lambda a, b: np.array_equal(read_volume(a).array, read_volume(b).array),
    )


# Crop


CROP = """
import sys
import numpy as np, SimpleITK as sitk
ct, mask = map(sitk.ReadImage, sys.argv[1:3])
inside = sitk.GetArrayViewFromImage(mask)
hits = [np.flatnonzero(inside.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
x, y, z = (slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
sitk.WriteImage(ct[x, y, z], sys.argv[3], True)
"""


def crop_mask(folder: Path) -> Comparison:
    paths, ours, theirs = write_scene(folder), folder / "ours.nii.gz", folder / "theirs.nii.gz"
    return Comparison(
        "crop a CT to a lung mask (files)",
        tool("crop", paths["ct"], "--lungs", paths["lungs"], "-o", ours),
        {"SimpleITK": simpleitk(CROP, paths["ct"], paths["lungs"], theirs)},
        same_voxels(ours, theirs),
    )


def crop_hu(folder: Path) -> Comparison:
    """Compare what finding the lungs from HU adds with reading the CT."""
    import SimpleITK as sitk

    from lnqtools.anatomy.lungs import lungs_from_hu
    from lnqtools.images.volume import read_volume

    path = write_scene(folder)["ct"]
    ct = read_volume(path)
    return Comparison(
        "find the lungs in a CT from its HU (array)",
        lambda: len(lungs_from_hu(ct.array, ct.grid).box),
        {"SimpleITK reads the CT": lambda: sitk.ReadImage(str(path)).GetDimension()},
        lambda a, b: a == b,
    )


def crop_jobs(folder: Path) -> Comparison:
    """Compare two cases at once with one after the other; the wall time is what counts."""
    write_scene(folder, TEN)
    cts = sorted((folder / "ct").iterdir())
    return Comparison(
        f"crop {TEN} CTs (files): -j 2, by wall time",
        tool("crop", *cts, "-O", folder / "two", "-j", "2"),
        {"lnqtools with -j 1": tool("crop", *cts, "-O", folder / "one")},
        lambda a, b: a.count(b"\n") == b.count(b"\n") == TEN,
        rounds=3,
    )


# Labels


class Step(NamedTuple):
    """A tool on labels: what of the scene it reads (the first is its input), and its options."""

    title: str
    tool: str
    inputs: tuple[str, ...]
    options: tuple[str, ...]


STEPS = {
    "weaklabel-mask": Step("mask", "weaklabel", ("weak",), ("--strategy", "mask")),
    "weaklabel-coat": Step("coat of a voxel", "weaklabel", ("weak",), ("--strategy", "coat")),
    "pseudolabel": Step(
        "pseudo-labels from a map", "pseudolabel", ("mask", "anatomy"), ("--anatomy", "anatomy")
    ),
    "pseudolabel-hull": Step(
        "pseudo-labels from a map and outside the lungs' hull",
        *("pseudolabel", ("mask", "anatomy"), ("--anatomy", "anatomy", "--outside", "hull")),
    ),
    "pseudolabel-hull-mask": Step(
        "pseudo-labels outside the hull of a lung mask",
        *("pseudolabel", ("mask", "lungs"), ("--outside", "hull", "--lungs", "lungs")),
    ),
    "pseudolabel-hull-hu": Step(
        "pseudo-labels outside the hull of lungs from HU",
        *("pseudolabel", ("mask", "ct"), ("--outside", "hull", "--lungs", "hu", "--ct", "ct")),
    ),
    "filter": Step("drop nodes of 200", "filter-diameter", ("balls",), ("--min", "7")),
    "filter-table": Step(
        "drop nodes of 200, table of every diameter",
        *("filter-diameter", ("balls",), ("--min", "7", "--table", "diameters.tsv")),
    ),
}


def labels(folder: Path, step: Step, count: int) -> Comparison:
    """Compare a tool with SimpleITK that reads the same images and writes the first of them."""
    write_scene(folder, count)
    cases = [folder / step.inputs[0] / f"{case}.nii.gz" for case in range(count)]
    places = ("anatomy", "lungs", "ct", "diameters.tsv")
    options = [folder / word if word in places else word for word in step.options]
    (folder / "theirs").mkdir()
    script = f"""
import SimpleITK as sitk
for case in range({count}):
    images = [sitk.ReadImage(f"{folder}/{{name}}/{{case}}.nii.gz") for name in {step.inputs!r}]
    sitk.WriteImage(images[0], f"{folder}/theirs/{{case}}.nii.gz", True)
    print(case)
"""
    what = "one case" if count == 1 else f"{count} cases in one call"
    return Comparison(
        f"{step.title}, {what} (files)",
        tool(step.tool, *cases, *options, "-O", folder / "ours"),
        {"SimpleITK reads and writes": simpleitk(script)},
        lambda a, b: a.count(b"\n") == b.count(b"\n") == count,
    )


def components(folder: Path) -> Comparison:
    import cc3d
    from skimage.measure import regionprops

    from lnqtools.components.diameters import diameters_mm
    from lnqtools.components.labeling import find_components

    mask = equal_balls(200)

    def ours():
        return np.sort(diameters_mm(find_components(mask, SPACING), "ellipsoid"))

    def scikit_image():
        labels = cc3d.connected_components(mask, connectivity=6)
        regions = regionprops(labels, spacing=SPACING)
        return np.sort([region.axis_minor_length for region in regions])

    def a_component_at_a_time():
        labels, count = cc3d.connected_components(mask, connectivity=6, return_N=True)
        return np.sort(
            [
                regionprops((labels == k).astype(np.uint8), spacing=SPACING)[0].axis_minor_length
                for k in range(1, count + 1)
            ]
        )

    return Comparison(
        "components and their least ellipsoid axis, 200 balls",
        ours,
        {
            "cc3d + skimage": scikit_image,
            "a full-volume pass per component (the paper's code)": a_component_at_a_time,
        },
        lambda a, b: np.allclose(a, b, atol=1e-4),
        once=frozenset({"a full-volume pass per component (the paper's code)"}),
    )


def surface(folder: Path) -> Comparison:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    from lnqtools.metrics.masks import evaluate

    prediction = lesion_mask(10, 3)
    reference = np.roll(prediction, (1, 2, 3), (0, 1, 2)) | lesion_mask(1, 4)

    def ours():
        row = evaluate(prediction, reference, SPACING)
        return row["dice"], row["assd_mm"], row["hd_mm"]

    def scipy():
        p, r = prediction != 0, reference != 0
        dice = 2 * (p & r).sum() / (p.sum() + r.sum())
        borders = [mask & ~binary_erosion(mask) for mask in (p, r)]
        to_r = distance_transform_edt(~borders[1], sampling=SPACING)[borders[0]]
        to_p = distance_transform_edt(~borders[0], sampling=SPACING)[borders[1]]
        both = np.concatenate([to_r, to_p])
        return dice, both.mean(), both.max()

    return Comparison(
        "Dice, ASSD and HD of 512 × 512 × 300 masks in memory",
        ours,
        {"scipy distance transforms": scipy},
        lambda a, b: np.allclose(a, b, rtol=1e-9),
        rounds=3,
    )


# Another spacing


def spacing(folder: Path, interpolation: str, order: int) -> Comparison:
    """Compare with scipy.ndimage.zoom, which counts positions from the outer faces, too."""
    from scipy.ndimage import zoom

    from lnqtools.images.grid import Grid
    from lnqtools.images.resampling import resample

    array = np.ascontiguousarray(scene()["ct"][30:270, 100:420, 56:456])
    source = Grid.from_affine(array.shape, np.diag([0.75, 0.75, 1, 1]))
    target = source.with_spacing((3, 1, 1))
    factors = np.array(target.shape) / array.shape

    def inner(values: np.ndarray) -> np.ndarray:
        return values[4:-4, 4:-4, 4:-4].astype(int)

    return Comparison(
        f"{' × '.join(map(str, reversed(array.shape)))} to 3 × 1 × 1 mm, {interpolation} (array)",
        lambda: resample(array, source, target, interpolation, -1024),
        {
            f"scipy.ndimage.zoom, order {order}": lambda: zoom(
                array, factors, order=order, mode="mirror", grid_mode=True
            )
        },
        # Half way between two voxels each may take another; a spline is rounded once more there.
        lambda a, b: np.mean(np.abs(inner(a) - inner(b)) > 1) < (0.7 if order == 0 else 1e-9),
    )


# Starts


def startup(folder: Path) -> Comparison:
    return Comparison(
        "lnq-crop --help",
        Command((str(PROGRAMS / "lnq-crop"), "--help")),
        {'python -c "import click, numpy"': simpleitk("import click, numpy")},
        lambda a, b: True,
        rounds=9,
    )


def calls(folder: Path) -> Comparison:
    """Compare one call for a hundred small cases with a call for each."""
    count = 100
    made = folder / "phantoms"
    subprocess.run(
        [PROGRAMS / "lnq-phantom", "-n", "1", "-O", made], capture_output=True, check=True
    )
    weak = folder / "weak"
    weak.mkdir()
    for case in range(count):
        (weak / f"{case}.nii.gz").symlink_to(next((made / "weak").iterdir()))
    cases = sorted(weak.iterdir())
    strategy = ("--strategy", "mask", "-O")

    def each() -> bytes:
        commands = [tool("weaklabel", case, *strategy, folder / "each") for case in cases]
        return b"".join(command() for command in commands)

    return Comparison(
        f"lnq-weaklabel on {count} small cases: one call",
        tool("weaklabel", *cases, *strategy, folder / "all"),
        {"lnqtools, a call for each": each},
        lambda a, b: a.count(b"\n") == b.count(b"\n") == count,
        rounds=3,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "startup": compared(startup),
    "calls": compared(calls),
    "reading": compared(reading),
    "writing": compared(writing),
    "crop-mask": compared(crop_mask),
    "crop-hu": compared(crop_hu),
    "crop-jobs": compared(crop_jobs),
    **{
        f"{name}-{count}": compared(partial(labels, step=step, count=count))
        for name, step in STEPS.items()
        for count in (1, TEN)
    },
    "components": compared(components),
    "surface": compared(surface),
    **{
        f"spacing-{interpolation}": compared(
            partial(spacing, interpolation=interpolation, order=order)
        )
        for interpolation, order in (("nearest", 0), ("linear", 1), ("bspline", 3))
    },
}
