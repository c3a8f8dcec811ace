"""The check of HU: what it calls other values, and that it lets every CT pass."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.images.hounsfield import (
    LEAST_VOXELS,
    SAMPLES_PER_AXIS,
    hu_doubt,
    read_ct,
    require_hu,
)
from lnqtools.images.volume import read_volume
from lnqtools.phantom import PROFILES, make_phantom
from tests.conftest import REAL, save

PHANTOMS = {
    "none": ("realistic", 2),
    "weak": ("realistic", 8),
    "high": ("realistic", 0),
    **{name: (name, 0) for name in PROFILES if name != "realistic"},
}
"""Profile and number of a phantom of each contrast phase, and of each other profile."""
REAL_CTS = (
    "nsclc-radiomics/LUNG1-003_ct.nii.gz",
    "lidc-idri/LIDC-IDRI-0001_ct.nii.gz",
    "cip/ct-64.nrrd",
    "totalsegmentator/ct_cropped.nii.gz",
    "totalsegmentator/example_ct.nii.gz",
    "totalsegmentator/example_ct_sm.nii.gz",
)


def looked_at(ct: np.ndarray) -> np.ndarray:
    """Return the slices that the check looks at; to change the others would only take time."""
    return ct[:: -(-len(ct) // SAMPLES_PER_AXIS)]


@cache
def phantom(name: str) -> np.ndarray:
    """Return the CT of one of the phantoms."""
    profile, index = PHANTOMS[name]
    made = make_phantom(0, index, profile=profile)
    assert made.phase == name or profile != "realistic"
    return made.ct


@cache
def real_ct(name: str) -> np.ndarray:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return read_volume(path).array


def cts():
    """Return every CT of the tests, by a function that makes or reads it."""
    return [
        *(pytest.param(phantom, name, id=f"phantom {name}") for name in PHANTOMS),
        *(pytest.param(real_ct, name, id=name) for name in REAL_CTS),
    ]


def padded(ct: np.ndarray, value: float) -> np.ndarray:
    """Fill what lies outside a circle in each slice, as scanners do."""
    rows, columns = ct.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    outside = (2 * y / rows - 1) ** 2 + (2 * x / columns - 1) ** 2 > 1
    ct = ct.copy()
    ct[:, outside] = value
    return ct


def noise(ct: np.ndarray, sd: float) -> np.ndarray:
    return ct + np.random.default_rng(0).normal(0, sd, ct.shape)


def metal(ct: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(0).random(ct.shape) < 0.01, 30000, ct)


INTERCEPT, TWICE = "the intercept of -1024 is missing; add it", "was applied twice"
SCALED, GRAY = "a scaled or normalized CT, or a label", "8-bit gray levels or labels"
WINDOW = "clipped to this window"

NOT_HU = {
    "0 to 4095": (lambda a: (a + 1024).clip(0, 4095).astype(np.uint16), INTERCEPT),
    "0 to 4095, padded": (lambda a: padded((a + 1024).clip(0), -2000), INTERCEPT),
    "0 to 4095, padded with air": (lambda a: padded((a + 1024).clip(0), -1024), INTERCEPT),
    "without 1000": (lambda a: a + 1000.0, INTERCEPT),
    "0 to 1": (lambda a: ((a + 160) / 400.0).clip(0, 1), SCALED),
    "0 to 1, all": (lambda a: ((a + 1024) / 4095.0).clip(0, 1), SCALED),
    "-1 to 1": (lambda a: (a / 1000.0).clip(-1, 1), SCALED),
    "z-scores": (lambda a: (a - a.mean()) / a.std(), SCALED),
    "nnU-Net's": (lambda a: (a.clip(-300, 300) - 60.0) / 120, SCALED),
    "a label": (lambda a: (a > 0).astype(np.uint8) * 2, SCALED),
    "0 to 255": (lambda a: np.rint(((a + 160) / 400.0).clip(0, 1) * 255), GRAY),
    "0 to 255, all": (lambda a: (((a + 1024) / 4095.0).clip(0, 1) * 255).astype(np.uint8), GRAY),
    "intercept twice": (lambda a: a - 1024.0, TWICE),
    "doubled": (lambda a: 2.0 * a, TWICE),
    "slope twice": (lambda a: 2.0 * (a + 1024.0) - 1024, TWICE),
    "mediastinal window": (lambda a: a.clip(-160, 240), WINDOW),
    "soft tissue window": (lambda a: a.clip(-100, 200), WINDOW),
    "from 0 on": (lambda a: a.clip(0, 2000), "nothing lies below 0"),
    "offset": (lambda a: (a + 32768.0).astype(np.uint16), "an offset was added to all"),
    "one value": (lambda a: np.full_like(a, -1024), "all its voxels are -1024"),
}

HU = {
    "as it is": lambda a: a,
    "float": lambda a: a + np.float32(0.3) * (a % 3),
    "turned": lambda a: a[::-1].transpose(2, 0, 1),
    "clipped to a scanner's range": lambda a: a.clip(-1024, 3071),
    "clipped at 1000": lambda a: a.clip(-1000, 1000),
    "clipped at 400": lambda a: a.clip(-1000, 400),
    "low dose": lambda a: noise(a, 100).clip(-1024, 3071),
    "noise without end": lambda a: noise(a, 150),
    "padded -2000": lambda a: padded(a, -2000),
    "padded -3024": lambda a: padded(a, -3024),
    "padded 0": lambda a: padded(a, 0),
    "padded, then interpolated": lambda a: _halved(padded(a.astype(np.float32), -2000)),
    "metal": metal,
    "the middle": lambda a: a[tuple(slice(n // 4, -n // 4) for n in a.shape)],
    "one slice": lambda a: a[a.shape[0] // 2 :][:1],
}


def _halved(ct: np.ndarray) -> np.ndarray:
    """Interpolate to voxels of twice the size in the plane by cubic splines, which overshoot."""
    from scipy.ndimage import zoom

    return zoom(ct[:20], (1, 0.5, 0.5), order=3)


@pytest.mark.parametrize("how", NOT_HU)
@pytest.mark.parametrize(("read", "name"), cts())
def test_other_values_are_called_what_they_are(read, name, how):
    change, sentence = NOT_HU[how]
    ct = looked_at(read(name)).astype(np.int32)
    assert sentence in (hu_doubt(change(ct)) or "")


@pytest.mark.parametrize("how", HU)
@pytest.mark.parametrize(("read", "name"), cts())
def test_hu_pass(read, name, how):
    assert hu_doubt(HU[how](looked_at(read(name)).astype(np.int32))) is None


@settings(max_examples=200)
@given(st.sampled_from(list(PHANTOMS)), st.data())
def test_no_crop_of_hu_is_doubted(name, data):
    """Lung alone, mediastinum, bone: whatever a box of 16 to 40 voxels a side cuts out."""
    ct = phantom(name)
    box = []
    for length in ct.shape:
        size = data.draw(st.integers(16, 40))
        start = data.draw(st.integers(0, length - size))
        box.append(slice(start, start + size))
    crop = ct[tuple(box)]
    if np.ptp(crop):
        assert hu_doubt(crop) is None


@pytest.mark.parametrize(
    ("mean", "sd"),
    [(0, 2), (10, 6), (35, 12), (60, 10), (150, 15), (300, 25), (-100, 15), (-850, 60)],
)
def test_one_tissue_is_hu(mean, sd):
    """Water, fluid, muscle, liver, blood with little and much contrast, fat, lung."""
    crop = np.rint(np.random.default_rng(0).normal(mean, sd, (20, 30, 30)))
    assert hu_doubt(crop.astype(np.int16)) is None


def test_drawn_images_of_few_values_are_hu():
    drawn = np.full((20, 30, 30), -1000, np.int16)
    drawn[:, 5:25, 5:25] = 40
    drawn[:, 10:20, 10:20] = -850
    assert hu_doubt(drawn) is None


def test_the_message_names_the_range_and_the_way_on():
    raw = phantom("none") + 1024
    with pytest.raises(LnqError) as caught:
        require_hu(raw)
    assert str(caught.value) == (
        f"its values lie between 0 and {raw.max()}: the intercept of -1024 is missing; add it, or "
        "--trust-hu if they are HU"
    )
    with pytest.raises(LnqError) as caught:
        require_hu(np.zeros((16, 16, 16), np.int16))
    assert str(caught.value) == (
        "all its voxels are 0: not a CT; give the CT, or --trust-hu if they are HU"
    )


def test_few_voxels_are_taken_as_they_are():
    few = np.ones((1, LEAST_VOXELS - 1, 1), np.uint8)
    assert hu_doubt(few) is None
    assert hu_doubt(np.ones((1, LEAST_VOXELS, 1), np.uint8)) is not None


def test_a_single_other_voxel_between_those_looked_at_is_told():
    nearly = np.zeros((100, 100, 100), np.int16)
    nearly[1, 1, 1] = 40
    assert (
        hu_doubt(nearly) == "its values lie between 0 and 40: nearly all are one value; give the CT"
    )


def test_reading_a_ct_checks_it_unless_trusted(tmp_path: Path):
    path = save(tmp_path / "raw.nii.gz", phantom("none") + 1024)
    with pytest.raises(LnqError, match="intercept"):
        read_ct(path)
    np.testing.assert_array_equal(read_ct(path, trust_hu=True).array, phantom("none") + 1024)
