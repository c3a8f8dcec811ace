"""Real CTs through the installed tools, held against numpy, scipy, skimage and SimpleITK."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from lnqtools.anatomy.maps import class_names
from tests.cli.helpers import rows_of
from tests.conftest import load, matrix_of, run, save, succeed

V2 = {"lung_lower_lobe_left": 11, "lung_lower_lobe_right": 14, "esophagus": 15, "heart": 51}
"""Numbers of TotalSegmentator v2, from its documentation."""


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def numbers(row: dict[str, str], *names: str) -> list[float]:
    return [float(row[name]) for name in names]


def box_of(row: dict[str, str]) -> np.ndarray:
    """Return (first, one past the last) voxel along z, y, x."""
    return np.array([[int(row[f"{a}_start"]), int(row[f"{a}_stop"])] for a in "zyx"])


def extent_of(mask: np.ndarray) -> np.ndarray:
    where = np.argwhere(mask)
    return np.stack([where.min(axis=0), where.max(axis=0) + 1], axis=1)


def within(array: np.ndarray, box: np.ndarray) -> np.ndarray:
    return array[tuple(slice(*side) for side in box)]


def apart_mm(a: np.ndarray, b: np.ndarray, spacing) -> np.ndarray:
    return np.abs(a - b) * np.array(spacing)[:, None]


def assert_same_place(part: Path, whole: Path, box: np.ndarray) -> None:
    """Assert that a cropped file's first voxel lies where it lay."""
    first = matrix_of(whole) @ np.append(box[::-1, 0], 1)
    np.testing.assert_allclose(matrix_of(part)[:3, 3], first[:3], atol=1e-3)
    np.testing.assert_allclose(matrix_of(part)[:3, :3], matrix_of(whole)[:3, :3], atol=1e-6)


@dataclass(frozen=True)
class Lung1:
    """LUNG1-003 and what was made of it."""

    source: Path
    folder: Path
    box: np.ndarray

    def original(self, name: str) -> Path:
        return self.source / f"LUNG1-003_{name}.nii.gz"

    def mask(self, name: str) -> np.ndarray:
        return load(self.original(name)) != 0

    def inside(self, array: np.ndarray) -> np.ndarray:
        return within(array, self.box)

    @property
    def spacing(self) -> tuple[float, float, float]:
        z, y, x = reversed(nib.load(self.original("ct")).header.get_zooms())
        return z, y, x

    @property
    def crop(self) -> Path:
        return self.folder / "crop.nii.gz"

    @property
    def anatomy(self) -> Path:
        return self.folder / "anatomy.nii.gz"


@pytest.fixture(scope="module")
def lung1(real, tmp_path_factory) -> Lung1:
    """Crop LUNG1-003 by its HU, and merge its expert organs into a map of version 2."""
    folder = tmp_path_factory.mktemp("lung1")
    made = succeed(
        *("lnq-crop", real / "nsclc-radiomics" / "LUNG1-003_ct.nii.gz"),
        *("-o", folder / "crop.nii.gz", "--boxes", folder / "boxes.tsv"),
    )
    assert made.err == ""
    (row,) = table((folder / "boxes.tsv").read_text())
    lung1 = Lung1(real / "nsclc-radiomics", folder, box_of(row))
    organs = {
        "lung_lower_lobe_left": "Lung-Left",
        "lung_lower_lobe_right": "Lung-Right",
        "heart": "Heart",
        "esophagus": "Esophagus",
    }
    anatomy = np.zeros(load(lung1.original("ct")).shape, np.uint8)
    for structure, name in organs.items():
        anatomy[lung1.mask(name)] = V2[structure]
    save(lung1.anatomy, anatomy, matrix_of(lung1.original("ct")))
    return lung1


# Lungs


def test_lungs_from_hu_are_the_experts(lung1):
    lungs = lung1.mask("Lung-Left") | lung1.mask("Lung-Right")
    ct = lung1.original("ct")
    path = save(lung1.folder / "lungs.nii.gz", lungs.astype(np.uint8), matrix_of(ct))
    cropped = lung1.folder / "by experts.nii.gz"
    made = succeed("lnq-crop", ct, "--lungs", path, "-o", cropped, "--boxes", "-")
    (row,) = table(made.out)
    assert made.err == ""
    assert box_of(row).tolist() == extent_of(lungs).tolist()
    assert apart_mm(lung1.box, box_of(row), lung1.spacing).max() <= 6
    for part, box in ((lung1.crop, lung1.box), (cropped, box_of(row))):
        assert load(part).dtype == np.int16
        assert np.array_equal(load(part), within(load(ct), box))
        assert_same_place(part, ct, box)


def test_lungs_of_a_contrast_ct(real, tmp_path):
    """Sides are as an independent threshold finds them, but the top, where the trachea is."""
    ct = real / "lidc-idri" / "LIDC-IDRI-0001_ct.nii.gz"
    made = succeed(
        "lnq-crop", ct, "-o", tmp_path / "crop.nii.gz", "--boxes", tmp_path / "boxes.tsv"
    )
    assert made.err == ""
    (row,) = table((tmp_path / "boxes.tsv").read_text())
    box, spacing = box_of(row), (2.5, 0.703125, 0.703125)
    looked_at = np.array([[20, 125], [124, 400], [76, 440]])
    assert apart_mm(box, looked_at, spacing).max() <= 6
    air = load(ct)[:, ::2, ::2] < -500
    labels, _ = ndimage.label(air)
    middle = labels[60, 130, 60]  # in the right lung
    lungs = extent_of(labels == middle) * np.array([1, 2, 2])[:, None]
    off = apart_mm(box, lungs, spacing)
    off[0, 1] = 0
    assert off.max() <= 6
    nodules = extent_of(load(real / "lidc-idri" / "LIDC-IDRI-0001_nodules.nii.gz"))
    assert (nodules[:, 0] >= box[:, 0]).all()
    assert (nodules[:, 1] <= box[:, 1]).all()


def test_scans_without_lungs_are_named_and_left_alone(real, tmp_path):
    folder = real / "totalsegmentator"
    named = [folder / f"{name}.nii.gz" for name in ("ct_cropped", "example_ct_sm", "example_ct")]
    out = tmp_path / "out"
    made = run("lnq-crop", *named, real / "cip" / "ct-64.nrrd", "-O", out, "-j", 2)
    assert made.status == 1
    assert made.lines == [str(out / "ct_cropped.nii.gz"), str(out / "ct-64.nii.gz")]
    assert {path.name for path in out.iterdir()} == {"ct_cropped.nii.gz", "ct-64.nii.gz"}
    failed = [line for line in made.err.splitlines() if "warning" not in line]
    assert [line.split(": ")[1] for line in failed] == [str(path) for path in named[1:]]
    assert all("no lungs found: only 111 ml of air-filled lung" in line for line in failed)
    assert "ct_cropped.nii.gz: warning: the lungs reach the image border" in made.err


def test_an_nrrd_keeps_its_voxels_and_their_places(real, tmp_path):
    import SimpleITK as sitk

    source = real / "cip" / "ct-64.nrrd"
    made = succeed("lnq-crop", source, "-o", tmp_path / "crop.nii.gz", "--boxes", "-")
    box = box_of(table(made.out)[0])
    image = sitk.ReadImage(str(source))
    cropped = load(tmp_path / "crop.nii.gz")
    assert np.array_equal(cropped, within(sitk.GetArrayFromImage(image), box))
    for index in (box[:, 0], box[:, 1] - 1):
        x, y, z = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        here = matrix_of(tmp_path / "crop.nii.gz") @ np.append((index - box[:, 0])[::-1], 1)
        np.testing.assert_allclose(here[:3], (-x, -y, z), atol=1e-3)


# Labels


STRATEGIES = ("mask", "coat")


@dataclass(frozen=True)
class Weak:
    """A weak label as numpy makes it, the tool's, that on the crop's grid, and what was told."""

    expected: np.ndarray
    whole: Path
    cropped: Path
    row: dict[str, str]


@pytest.fixture(scope="module")
def weak(lung1) -> dict[str, Weak]:
    """Take gtv-3 for the drawn nodes and GTV-1 for the tumour, and crop the labels."""
    nodes, tumour = lung1.mask("gtv-3"), lung1.mask("GTV-1")
    mask = np.where(nodes, 1, np.where(tumour, 0, 2))
    coat = mask.copy()
    coat[ndimage.binary_dilation(nodes) & ~nodes] = 0  # scipy's default: by one, over faces
    made = {}
    for strategy, expected in zip(STRATEGIES, (mask, coat), strict=True):
        whole, cropped = (lung1.folder / f"{strategy}{end}.nii.gz" for end in ("", " cropped"))
        told = succeed(
            *("lnq-weaklabel", lung1.original("gtv-3"), "--strategy", strategy, "-o", whole),
            *("--background", lung1.original("GTV-1"), "--table", "-"),
        )
        succeed("lnq-crop", whole, "--label", "--like", lung1.crop, "-o", cropped)
        made[strategy] = Weak(expected, whole, cropped, table(told.out)[0])
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weak_labels_and_their_crops(lung1, weak, strategy):
    label = weak[strategy].expected
    whole, cropped = load(weak[strategy].whole), load(weak[strategy].cropped)
    assert whole.dtype == np.uint8
    assert np.array_equal(whole, label)
    assert np.array_equal(cropped, lung1.inside(label))
    assert np.array_equal(matrix_of(weak[strategy].cropped), matrix_of(lung1.crop))
    assert np.count_nonzero(cropped == 1) == np.count_nonzero(lung1.mask("gtv-3")) == 3056
    nodes, background, unknown = (np.count_nonzero(label == value) for value in (1, 0, 2))
    assert background == {"mask": 12159, "coat": 14238}[strategy]
    columns = [f"voxels_{name}" for name in ("foreground", "background", "unknown")]
    assert numbers(weak[strategy].row, *columns) == [nodes, background, unknown]
    share = numbers(weak[strategy].row, "labeled_per_total_percent")[0]
    assert share == pytest.approx(100 * (nodes + background) / label.size, rel=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_anatomy_becomes_background_and_nodes_stay(lung1, weak, strategy):
    label, out = weak[strategy].expected, lung1.folder / f"{strategy} label.nii.gz"
    options = ("--anatomy", lung1.anatomy, "--classes", "v2", "-o", out)
    made = succeed("lnq-pseudolabel", weak[strategy].cropped, *options)
    known = load(lung1.anatomy) != 0
    assert np.array_equal(load(out), lung1.inside(np.where((label == 2) & known, 0, label)))
    assert np.array_equal(matrix_of(out), matrix_of(lung1.crop))
    covered = np.count_nonzero(known & (label == 1))
    assert covered == 2
    assert f"warning: the anatomy covers {covered} node voxels; they stay nodes" in made.err


def test_counts_of_a_real_map_are_those_by_class_names(real, tmp_path):
    """TotalSegmentator's own result: what it covers, structure by structure."""
    place = real / "totalsegmentator" / "example_seg.nii.gz"
    anatomy = load(place)
    label = np.full(anatomy.shape, 2, np.uint8)
    label[20:40, 30:60, 30:60] = 1
    source = save(tmp_path / "label.nii.gz", label, matrix_of(place))
    options = ("--structures", "all,-vertebrae_*,-rib_*", "--table", "-", "-q")
    arguments = (source, "--anatomy", place, *options, "-f", "-o", tmp_path / "out.nii.gz")
    (row,) = rows_of(succeed("lnq-pseudolabel", *arguments).out)
    wanted = [
        n for n, name in class_names("v2").items() if not name.startswith(("vertebrae_", "rib_"))
    ]
    known = np.isin(anatomy, wanted)
    background = np.count_nonzero(known & (label == 2))
    assert background > 10_000
    assert numbers(row, "voxels_background", "voxels_node_covered") == [
        background,
        np.count_nonzero(known & (label == 1)),
    ]
    assert np.array_equal(load(tmp_path / "out.nii.gz"), np.where(known & (label == 2), 0, label))
    rows = rows_of(succeed("lnq-pseudolabel", *arguments, "--by-structure").out)
    assert {int(row["index"]) for row in rows} == set(np.unique(anatomy).tolist()) - {0}
    for row in rows:
        here = anatomy == next(
            n for n, name in class_names("v2").items() if name == row["structure"]
        )
        counts = (here.sum(), (here & (label == 2)).sum(), (here & (label == 1)).sum())
        assert numbers(row, "voxels", "voxels_unknown", "voxels_node") == list(counts)


def test_structures_lung_density_and_erosion(lung1, weak):
    label, anatomy = lung1.inside(weak["mask"].expected), lung1.inside(load(lung1.anatomy))
    out = lung1.folder / "chosen.nii.gz"
    arguments = ("lnq-pseudolabel", weak["mask"].cropped, "--anatomy", lung1.anatomy, "-o", out)
    chosen = ("--structures", "heart,esophagus")
    unsaid = run(*arguments, *chosen)
    assert unsaid.status == 1
    assert f"--anatomy {lung1.anatomy}: does not name its structures" in unsaid.err
    succeed(*arguments, *chosen, "--classes", "v2")
    known = np.isin(anatomy, (V2["heart"], V2["esophagus"]))
    assert np.array_equal(load(out), np.where((label == 2) & known, 0, label))

    airy = ("--classes", "v2", "--lung-hu-max", -300, "--ct", lung1.original("ct"))
    succeed(*arguments, *airy, "--erode", 3, "-f")
    lobes = np.isin(anatomy, (V2["lung_lower_lobe_left"], V2["lung_lower_lobe_right"]))
    known = (anatomy != 0) & ~(lobes & (load(lung1.crop) > -300))
    deep = ndimage.distance_transform_edt(known, sampling=lung1.spacing) > 3 + 1e-6
    assert np.array_equal(load(out), np.where((label == 2) & deep, 0, label))


@pytest.mark.parametrize("lungs", ["experts", "hu"])
def test_every_node_that_experts_drew_lies_in_the_region(lung1, tmp_path, lungs):
    """Between the lungs (gtv-3), and up to 42 mm above them (gtv-2), where the hull is not wide."""
    both = (lung1.mask("Lung-Left") | lung1.mask("Lung-Right")).astype(np.uint8)
    place = save(tmp_path / "lungs.nii.gz", both, matrix_of(lung1.original("ct")))
    where = {"experts": (place,), "hu": ("hu", "--ct", lung1.original("ct"))}[lungs]
    drawn = [lung1.original(name) for name in ("gtv-2", "gtv-3")]
    made = succeed("lnq-weaklabel", *drawn, "--strategy", "mask", "-O", tmp_path / "weak")
    region = ("--outside", "hull", "--lungs", *where, "--table", tmp_path / "t.tsv")
    done = succeed("lnq-pseudolabel", *made.lines, *region, "-O", tmp_path / "out")
    assert done.err == ""
    rows = rows_of((tmp_path / "t.tsv").read_text())
    assert [numbers(row, "voxels_node_outside") for row in rows] == [[0], [0]]
    assert all(float(row["labeled_per_total_percent"]) > 70 for row in rows)
    for row, name in zip(rows, ("gtv-2", "gtv-3"), strict=True):
        assert int(row["voxels_foreground"]) == np.count_nonzero(lung1.mask(name))


def test_one_lung_of_a_patient_has_no_hull(lung1, weak, tmp_path):
    for side in ("Left", "Right"):
        hull = ("--outside", "hull", "--lungs", lung1.original(f"Lung-{side}"))
        done = run("lnq-pseudolabel", weak["mask"].whole, *hull, "-o", tmp_path / "out.nii.gz")
        assert done.status == 1
        assert "shows one lung alone" in done.err


@dataclass(frozen=True)
class Map:
    """TotalSegmentator's own result for example_ct_sm, with the names in its header."""

    path: Path
    array: np.ndarray
    numbers: dict[str, int]

    def voxels(self, *names: str) -> np.ndarray:
        return np.isin(self.array, [self.numbers[name] for name in names])


@pytest.fixture(scope="module")
def example(real) -> Map:
    path = real / "totalsegmentator" / "example_seg.nii.gz"
    (extension,) = nib.load(path).header.extensions
    text = extension.get_content().rstrip(b"\0").decode()
    labels = ElementTree.fromstring(text).iter("Label")
    return Map(path, load(path), {label.text: int(label.get("Key")) for label in labels})


LOBES = (
    *("lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right"),
    *("lung_middle_lobe_right", "lung_lower_lobe_right"),
)


def test_a_real_map_is_cropped_to_its_lobes(example, tmp_path):
    extent = extent_of(example.voxels(*LOBES))
    lungs = shutil.copy(example.path, tmp_path / "lungs.nii.gz")  # never the input itself
    for name, options in (("example_seg", ["--label"]), ("example_ct_sm", [])):
        source, out = example.path.with_name(f"{name}.nii.gz"), tmp_path / f"{name}.nii.gz"
        made = succeed("lnq-crop", source, *options, "--lungs", lungs, "-o", out)
        assert "the lungs extend 33 mm superior-inferior" in made.err
        assert np.array_equal(load(out), within(load(source), extent))
        assert_same_place(out, source, extent)


@pytest.mark.parametrize(
    ("structures", "chosen"),
    [
        ("all", lambda m: m.array != 0),
        ("-liver", lambda m: (m.array != 0) & ~m.voxels("liver")),
        (
            "lung_*,-lung_upper_lobe_left,stomach,heart",
            lambda m: m.voxels(*LOBES[1:], "stomach", "heart"),
        ),
    ],
)
def test_a_real_maps_structures_by_name(example, tmp_path, structures, chosen):
    label = np.full(example.array.shape, 2, np.uint8)
    label[20:24, 50:54, 60:64] = 1  # between liver and aorta, and in part in the liver
    path = save(tmp_path / "label.nii.gz", label, matrix_of(example.path))
    known = chosen(example)
    made = succeed(
        *("lnq-pseudolabel", path, "--anatomy", example.path, "--structures", structures),
        *("-o", tmp_path / "out.nii.gz", "--table", "-"),
    )
    expected = np.where((label == 2) & known, 0, label)
    assert np.array_equal(load(tmp_path / "out.nii.gz"), expected)
    (row,) = table(made.out)
    counts = [np.count_nonzero(label == 2), np.count_nonzero(known & (label == 1))]
    counts += [np.count_nonzero(expected == value) for value in (1, 0, 2)]
    columns = ("unknown_before", "node_covered", "foreground", "background", "unknown")
    assert numbers(row, *(f"voxels_{column}" for column in columns)) == counts
    assert counts[3] > 8000


# Masks


def test_masks_are_pasted_back_onto_the_ct(lung1):
    ct, like = lung1.original("ct"), ("--like", lung1.original("ct"))
    mask = lung1.mask("Heart") | lung1.mask("gtv-2")  # the one reaches to the box's edge
    part = save(
        lung1.folder / "predicted.nii.gz",
        lung1.inside(mask).astype(np.uint8),
        matrix_of(lung1.crop),
    )
    back = lung1.folder / "back.nii.gz"
    succeed("lnq-crop", part, "--label", *like, "-o", back)
    outside = np.ones(mask.shape, bool)
    lung1.inside(outside)[:] = False
    assert np.array_equal(load(back), mask & ~outside)
    assert (mask & outside).any()
    assert np.array_equal(matrix_of(back), matrix_of(ct))
    succeed("lnq-crop", lung1.crop, *like, "-f", "-o", back)
    assert np.array_equal(load(back), np.where(outside, -1024, load(ct)))
    assert np.array_equal(matrix_of(back), matrix_of(ct))


def test_components_of_the_experts_masks(lung1, tmp_path):
    from skimage.measure import regionprops

    every = ("GTV-1", "gtv-2", "gtv-3")
    masks = {f"LUNG1-003_{name}": lung1.mask(name) for name in every}
    made = succeed(
        *("lnq-filter-diameter", *map(lung1.original, every), "--min", 15),
        *("-O", tmp_path, "--table", tmp_path / "t.tsv"),
    )
    assert len(made.lines) == 3
    rows = table((tmp_path / "t.tsv").read_text())
    assert [row["case"][10:] for row in rows] == ["GTV-1", "gtv-2", "gtv-3", "gtv-3"]
    place = matrix_of(lung1.original("ct"))
    kept = {case: np.zeros_like(mask) for case, mask in masks.items()}
    for row in rows:
        labels, _ = ndimage.label(masks[row["case"]])
        box = box_of(row)
        label = int(row["id"])
        assert extent_of(labels == label).tolist() == box.tolist()
        component = np.pad(within(labels == label, box), 1)
        (props,) = regionprops(component.astype(np.uint8), spacing=lung1.spacing)
        depth = ndimage.distance_transform_edt(component, sampling=lung1.spacing).max()
        center = (place @ np.append((np.argwhere(labels == label).mean(axis=0))[::-1], 1))[:3]
        names = ("voxels", "volume_mm3", "diameter_ellipsoid_mm", "diameter_inscribed_mm")
        assert numbers(row, *names) == pytest.approx(
            [component.sum(), props.area, props.axis_minor_length, 2 * depth], rel=1e-5
        )
        centroid = numbers(row, *(f"centroid_{axis}_mm" for axis in "xyz"))
        assert centroid == pytest.approx(center, abs=1e-3)
        assert row["kept"] == str(int(props.axis_minor_length >= 15))
        if row["kept"] == "1":
            kept[row["case"]] |= labels == label
    assert [row["kept"] for row in rows] == ["1", "1", "1", "0"]
    for case, mask in kept.items():
        assert np.array_equal(load(tmp_path / f"{case}.nii.gz"), mask)


def itk_distances(a: np.ndarray, b: np.ndarray, spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of each mask's border voxels from the other's, by SimpleITK."""
    import SimpleITK as sitk

    borders, maps = [], []
    for mask in (a, b):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing([float(s) for s in reversed(spacing)])
        border = sitk.LabelContour(image)
        borders.append(sitk.GetArrayFromImage(border) != 0)
        away = sitk.SignedMaurerDistanceMap(border, squaredDistance=False, useImageSpacing=True)
        maps.append(np.abs(sitk.GetArrayFromImage(away)))
    return maps[1][borders[0]], maps[0][borders[1]]


def test_metrics_of_the_experts_masks(lung1, tmp_path):
    """A tumour, moved and with a false node, against the tumour and a node that is missed."""
    import SimpleITK as sitk

    tumour, nodes = lung1.mask("GTV-1"), lung1.mask("gtv-3")
    labels, _ = ndimage.label(nodes)
    prediction = np.roll(tumour, (1, -3, 2), axis=(0, 1, 2)) | (labels == 1)
    reference = tumour | (labels == 2)
    place = matrix_of(lung1.original("ct"))
    paths = [
        save(tmp_path / name / "case.nii.gz", mask.astype(np.uint8), place)
        for name, mask in (("p", prediction), ("r", reference))
    ]
    (row,) = table(succeed("lnq-metrics", paths[0], "--reference", tmp_path / "r").out)
    around = extent_of(prediction | reference) + np.array([-2, 2])
    p, r = within(prediction, around), within(reference, around)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (r, p)))
    assert numbers(row, "dice", "iou") == pytest.approx(
        [overlap.GetDiceCoefficient(), overlap.GetJaccardCoefficient()], rel=1e-6
    )
    ours, theirs = itk_distances(p, r, lung1.spacing)
    pooled = np.concatenate([ours, theirs])
    expected = {
        "recall": (p & r).sum() / r.sum(),
        "precision": (p & r).sum() / p.sum(),
        "assd_mm": pooled.mean(),
        "masd_mm": (ours.mean() + theirs.mean()) / 2,
        "hd_mm": pooled.max(),
        "hd95_mm": max(np.percentile(ours, 95), np.percentile(theirs, 95)),
        "hd95_pooled_mm": np.percentile(pooled, 95),
        "nsd_1mm": np.mean(pooled <= 1 + 1e-4),
        "nsd_2mm": np.mean(pooled <= 2 + 1e-4),
        "volume_reference_ml": r.sum() * np.prod(lung1.spacing) / 1000,
        "components_prediction": ndimage.label(p)[1],
        "components_reference": ndimage.label(r)[1],
    }
    assert numbers(row, *expected) == pytest.approx(list(expected.values()), rel=1e-5)

    found = table(succeed("lnq-metrics", paths[0], "--reference", paths[1], "--lesions").out)
    overlaps = []
    for mask, other in ((r, p), (p, r)):
        parts, count = ndimage.label(mask)
        overlaps += [other[parts == k].mean() for k in range(1, count + 1)]
    assert [float(row["overlap"]) for row in found] == pytest.approx(overlaps, rel=1e-6)
    assert [row["hit"] for row in found] == [str(int(overlap > 0)) for overlap in overlaps]
