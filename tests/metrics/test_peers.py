"""Presets against the packages that they stand for, on pairs of masks that cover the odd cases.

MONAI rounds every distance to float32. Its own code is run here in double precision, by letting
torch's names for single precision mean double, so that definitions are compared and not digits;
that it agrees as it is, to the digits it has, is a test of its own.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.test_masks import by_preset, random_pair, seeds

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.93, 0.93), (0.7, 2.5, 1.3), (0.2, 0.3, 5.0)]
TOLERANCES = (0.51, 1.07, 3.33)
"""No distance on these lattices: a tie is within for us, and a matter of luck for MONAI."""
spacings = st.sampled_from(SPACINGS)
many = settings(max_examples=120)


def boxes(shape, *places):
    """A mask of boxes."""
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


SHAPE = (9, 12, 14)
ODD_PAIRS = {
    "one voxel each, at opposite corners": (
        boxes(SHAPE, np.s_[0, 0, 0]),
        boxes(SHAPE, np.s_[-1, -1, -1]),
    ),
    "cut by the image's edge": (boxes(SHAPE, np.s_[:4, :6, 3:9]), boxes(SHAPE, np.s_[:5, :7, :9])),
    "one fills the image": (np.ones(SHAPE, bool), boxes(SHAPE, np.s_[3:6, 4:8, 5:9])),
    "both fill the image": (np.ones(SHAPE, bool), np.ones(SHAPE, bool)),
    "one found, one missed, one invented": (
        boxes(SHAPE, np.s_[1:4, 1:4, 1:4], np.s_[6:8, 8:11, 1:3]),
        boxes(SHAPE, np.s_[1:4, 2:5, 1:4], np.s_[5:7, 1:3, 10:13]),
    ),
    "a hollow box and its filling": (
        boxes(SHAPE, np.s_[1:8, 1:11, 1:13]) & ~boxes(SHAPE, np.s_[3:6, 3:9, 3:11]),
        boxes(SHAPE, np.s_[3:6, 3:9, 3:11]),
    ),
    "a single slice": (
        boxes((1, 12, 14), np.s_[:, 2:6, 2:9]),
        boxes((1, 12, 14), np.s_[:, 3:7, :]),
    ),
}


def both(pair) -> bool:
    """Whether neither mask is empty: peers raise, or say NaN or infinity, if one is."""
    return bool(pair[0].any() and pair[1].any())


def check(theirs: dict, preset: str, pair, spacing, **options) -> None:
    """Hold a row of a preset, except its first two cells, against a package's values."""
    row = by_preset(preset, *pair, spacing, **options)
    assert (row.pop("preset"), row.pop("status")) == (preset, "ok")
    assert list(row) == list(theirs)
    assert row == pytest.approx(theirs, rel=0, abs=1e-9)


# medpy


def by_medpy(pair, spacing) -> dict:
    binary = pytest.importorskip("medpy.metric.binary")
    distances = ("hd", "hd95", "assd", "asd")
    return {
        "dice": binary.dc(*pair),
        "iou": binary.jc(*pair),
        "precision": binary.precision(*pair),
        "recall": binary.recall(*pair),
        **{f"{name}_mm": getattr(binary, name)(*pair, spacing) for name in distances},
    }


@given(seeds, spacings)
@many
def test_medpy(seed, spacing):
    pair = random_pair(seed)
    if both(pair):
        check(by_medpy(pair, spacing), "medpy", pair, spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("pair", ODD_PAIRS.values(), ids=ODD_PAIRS)
def test_medpy_on_odd_pairs(pair, spacing):
    check(by_medpy(pair, spacing), "medpy", pair, spacing)


# MONAI


def by_monai(pair, spacing) -> dict:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    masks = [torch.from_numpy(mask)[None, None] for mask in pair]
    numbers = [mask.to(torch.get_default_dtype()) for mask in masks]
    common = {"include_background": True, "spacing": list(spacing)}
    found = {
        "dice": monai.compute_dice(*numbers),
        "iou": monai.compute_iou(*numbers),
        "hd_mm": monai.compute_hausdorff_distance(*masks, **common),
        "hd95_mm": monai.compute_hausdorff_distance(*masks, percentile=95, **common),
        "assd_mm": monai.compute_average_surface_distance(*masks, symmetric=True, **common),
        "asd_mm": monai.compute_average_surface_distance(*masks, **common),
    }
    for tolerance in TOLERANCES:
        found[f"nsd_{tolerance:g}mm"] = monai.compute_surface_dice(*masks, [tolerance], **common)
    return {name: value.item() for name, value in found.items()}


@pytest.fixture(scope="class")
def double():
    """Let MONAI compute in double precision."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("monai.metrics")  # before: what it builds on import keeps its types
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch, "float32", torch.float64)
        torch.set_default_dtype(torch.float64)
        yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
class TestMonaiInDouble:
    @given(seeds, spacings)
    @many
    @pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
    def test_monai(self, seed, spacing):
        pair = random_pair(seed)
        if both(pair):
            check(by_monai(pair, spacing), "monai", pair, spacing, tolerances=TOLERANCES)

    @pytest.mark.parametrize("spacing", SPACINGS)
    @pytest.mark.parametrize("pair", ODD_PAIRS.values(), ids=ODD_PAIRS)
    @pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
    def test_monai_on_odd_pairs(self, pair, spacing):
        check(by_monai(pair, spacing), "monai", pair, spacing, tolerances=TOLERANCES)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("pair", ODD_PAIRS.values(), ids=ODD_PAIRS)
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_monai_as_it_is_to_single_precision(pair, spacing):
    torch = pytest.importorskip("torch")
    assert torch.get_default_dtype() == torch.float32 != torch.float64
    theirs = by_monai(pair, spacing)
    ours = by_preset("monai", *pair, spacing, tolerances=TOLERANCES)
    assert [ours[name] for name in theirs] == pytest.approx(list(theirs.values()), rel=3e-7)


# LNQ2023


def by_simpleitk(pair, spacing) -> dict:
    """Compute what the challenge did, with the filters it used: contours and signed distances."""
    import SimpleITK as sitk

    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair]
    for image in images:
        image.SetSpacing([float(side) for side in reversed(spacing)])
    contours = [sitk.LabelContour(image, fullyConnected=False) for image in images]
    away = [
        sitk.GetArrayFromImage(
            sitk.Abs(
                sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
            )
        )
        for contour in contours
    ]
    surfaces = [sitk.GetArrayFromImage(contour) != 0 for contour in contours]
    there, back = away[1][surfaces[0]], away[0][surfaces[1]]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    means = [distances.mean(dtype=float) for distances in (there, back) if distances.size]
    return {
        "dice": overlap.GetDiceCoefficient(),
        "assd_mm": sum(means) / 2 if len(means) == 2 else None,
    }


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("pair", ODD_PAIRS.values(), ids=ODD_PAIRS)
def test_lnq2023_by_simpleitk(pair, spacing):
    """ITK's distances are float32."""
    theirs = by_simpleitk(pair, spacing)
    row = by_preset("lnq2023", *pair, spacing)
    assert list(row) == ["preset", "status", *theirs]
    assert row["dice"] == pytest.approx(theirs["dice"], rel=1e-12)
    assert row["assd_mm"] == (
        theirs["assd_mm"] and pytest.approx(theirs["assd_mm"], rel=1e-6, abs=1e-6)
    )


@given(seeds, spacings)
@settings(max_examples=60)
def test_lnq2023_on_random_pairs(seed, spacing):
    pair = random_pair(seed)
    if both(pair):
        theirs, row = by_simpleitk(pair, spacing), by_preset("lnq2023", *pair, spacing)
        assert row["assd_mm"] == (
            theirs["assd_mm"] and pytest.approx(theirs["assd_mm"], rel=1e-6, abs=1e-6)
        )
