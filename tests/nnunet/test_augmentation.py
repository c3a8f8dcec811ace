"""Augmentation: which of nnU-Net's transforms a recipe keeps, and along which axes it mirrors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nnunetv2")

import torch

from lnqtools.nnunet.augmentation import mirrored_axes
from tests.nnunet_data import trainer_by

pytestmark = pytest.mark.usefixtures("one_thread")
NNUNETS = (
    *("SpatialTransform", "GaussianNoiseTransform", "GaussianBlurTransform"),
    *("MultiplicativeBrightnessTransform", "ContrastTransform", "SimulateLowResolutionTransform"),
    *("GammaTransform", "GammaTransform", "MirrorTransform", "RemoveLabelTransform"),
)
TURNS = ("Rot90Transform", "TransposeAxesTransform")


def pipeline(folder, *settings):
    """Return the trainer's transforms, and the size of the patches that they are given."""
    trainer = trainer_by(folder, "patch=16", "deep_supervision=false", *settings)
    turn, flat, size, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert trainer.inference_allowed_mirroring_axes == (axes or None)
    patch = trainer.configuration_manager.patch_size
    return trainer.get_training_transforms(patch, turn, None, axes, flat, ignore_label=2), size


def names(transforms) -> tuple[str, ...]:
    """Return the names of transforms; of one that happens at random, that of what happens."""
    return tuple(map(name, transforms.transforms))


def name(transform) -> str:
    ours = "Sparse"  # the same, faster
    return type(getattr(transform, "transform", transform)).__name__.removeprefix(ours)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], NNUNETS),
        (["mirror=false"], [each for each in NNUNETS if each != "MirrorTransform"]),
        (
            ["augmentation=intensity"],
            [NNUNETS[k] for k in (1, 3, 4, 8, 9)],
        ),
        (["augmentation=none"], NNUNETS[-2:]),
        (["augmentation=none", "mirror=false"], NNUNETS[-1:]),
    ],
)
def test_transforms_are_those_of_the_recipe(tmp_path, settings, expected):
    transforms, size = pipeline(tmp_path, *settings)
    assert names(transforms) == tuple(expected)
    assert (max(size) > 16) == ("SpatialTransform" in expected)  # room to turn it in
    blurs = [t.transform for t in transforms.transforms if "Blur" in name(t)]
    assert not any(blur.benchmark for blur in blurs)


def test_da5_is_nnunets_but_for_quarter_turns_where_directions_mean_something(tmp_path):
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation import nnUNetTrainerDA5 as da5

    theirs = da5.nnUNetTrainerDA5.get_training_transforms(
        (16,) * 3, (-0.5, 0.5), None, (0, 1, 2), False, ignore_label=2
    )
    all_of_it, size = pipeline(tmp_path, "augmentation=da5")
    assert names(all_of_it) == names(theirs)
    assert set(TURNS) < set(names(theirs))
    for mirror in ("false", "x"):
        some, _ = pipeline(tmp_path, "augmentation=da5", f"mirror={mirror}")
        gone = {*TURNS, *(["MirrorTransform"] if mirror == "false" else [])}
        assert names(some) == tuple(each for each in names(theirs) if each not in gone)
    patch = torch.zeros(1, *map(int, size)), torch.zeros(1, *map(int, size), dtype=torch.int16)
    for _ in range(3):
        changed = all_of_it(image=patch[0], segmentation=patch[1])
        assert changed["image"].shape == changed["segmentation"].shape == (1, 16, 16, 16)


def patch_of_numbers() -> dict[str, torch.Tensor]:
    numbers = torch.arange(16**3, dtype=torch.float32).view(1, 16, 16, 16)
    return {"image": numbers, "segmentation": (numbers % 3).to(torch.int16)}


def test_none_changes_nothing_and_intensity_no_label(tmp_path):
    none, _ = pipeline(tmp_path, "augmentation=none", "mirror=false")
    intensity, _ = pipeline(tmp_path, "augmentation=intensity", "mirror=false")
    same = none(**patch_of_numbers())
    for kind, array in patch_of_numbers().items():
        assert torch.equal(same[kind], array)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  the generators that transforms draw from
    changed = [intensity(**patch_of_numbers()) for _ in range(30)]
    labels = patch_of_numbers()["segmentation"]
    assert all(torch.equal(each["segmentation"], labels) for each in changed)
    images = [each["image"] for each in changed]
    untouched = sum(torch.equal(image, patch_of_numbers()["image"]) for image in images)
    assert untouched == pytest.approx(30 * 0.9 * 0.85 * 0.85, abs=7)


@pytest.mark.parametrize(("mirror", "axis"), [("x", 3), ("y", 2), ("z", 1)])
def test_patches_are_mirrored_along_the_axes_that_are_named(tmp_path, mirror, axis):
    transforms, _ = pipeline(tmp_path, "augmentation=none", f"mirror={mirror}")
    image = patch_of_numbers()["image"]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    seen = [transforms(**patch_of_numbers())["image"] for _ in range(20)]
    kinds = [torch.equal(each, image) for each in seen]
    assert 0 < sum(kinds) < 20
    for each, same in zip(seen, kinds, strict=True):
        assert same or torch.equal(each, image.flip(axis))


@given(st.permutations([0, 1, 2]), st.sets(st.sampled_from("xyz")))
def test_axes_are_those_of_the_image_whatever_the_network_calls_them(transpose, named):
    found = mirrored_axes(sorted(named), transpose)
    assert {"zyx"[transpose[axis]] for axis in found} == named
    assert mirrored_axes(True, transpose) == (0, 1, 2)
    assert mirrored_axes(False, transpose) == ()


def blobs(shape: tuple[int, ...], values: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return a label of regions of some size, one value each."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=shape), 3) for _ in values]
    return torch.from_numpy(np.array(values, np.int16)[np.argmax(fields, axis=0)])[None]


@pytest.mark.parametrize("border", ["constant", "zeros", "border", "reflection"])
@pytest.mark.parametrize("values", [(0,), (0, 1), (0, 1, 2), (-1, 0, 2), (0, 40)])
@pytest.mark.parametrize("patch", [(16, 20, 24), (28, 36, 40), (20, 24)])
def test_labels_are_turned_as_by_the_package_to_the_bit(patch, values, border):
    """The largest patch is as large as the image: turned, it reaches beyond it."""
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    from lnqtools.nnunet.spatial import SparseSpatialTransform

    theirs = SpatialTransform(
        *(patch, 0, False),
        p_rotation=0.8,
        rotation=(-0.6, 0.6),
        p_scaling=0.8,
        scaling=(0.7, 1.4),
        border_mode_seg=border,
        padding_value_seg=-1,
    )
    ours = SparseSpatialTransform.of(theirs)
    np.random.seed(0)  # noqa: NPY002  the generator that it draws from
    changed = False
    for seed in range(4):
        label = blobs((28, 36, 40)[-len(patch) :], values, seed)
        drawn = theirs.get_parameters(image=torch.zeros(label.shape))
        expected = theirs._apply_to_segmentation(label, **drawn)
        changed |= drawn["grid"] is not None
        found = ours._apply_to_segmentation(label, **drawn)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert changed


def test_few_points_of_a_label_are_interpolated(monkeypatch):
    """A cube in the middle: those around its faces, and those within a voxel of the border."""
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    from lnqtools.nnunet.spatial import SparseSpatialTransform

    label = torch.zeros((1, 60, 60, 60), dtype=torch.int16)
    label[0, 25:35, 25:35, 25:35] = 1
    transform = SparseSpatialTransform.of(
        SpatialTransform((32, 32, 32), 0, False, p_rotation=1, rotation=(0.2, 0.2))
    )
    left = []
    plain = SpatialTransform._apply_to_segmentation

    def counted(self, segmentation, **params):
        left.append(params["grid"].numel() // 3)
        return plain(self, segmentation, **params)

    monkeypatch.setattr(SpatialTransform, "_apply_to_segmentation", counted)
    drawn = transform.get_parameters(image=torch.zeros(label.shape))
    found = transform._apply_to_segmentation(label, **drawn)
    assert int(found.sum()) == pytest.approx(1000, rel=0.02)
    # Nearest voxels beside a face, on either side of it, edges and corners included: 12³ - 8³.
    assert left == [pytest.approx(12**3 - 8**3, rel=0.05)]
