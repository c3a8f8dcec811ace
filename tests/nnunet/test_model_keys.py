"""Every key of plans.json and dataset.json: what nnU-Net writes is known, what counts is heeded."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet import model_keys as keys
from lnqtools.nnunet.dataset import CaseFacts, dataset_json
from lnqtools.nnunet.model_keys import HONORED, REFUSED
from lnqtools.nnunet.view import RECORD
from tests.nnunet.test_nnunet import assert_same, image, nnunets_own
from tests.nnunet_data import as_before_2_3, predictor, random_model, residual, volume

torch = pytest.importorskip("torch")
nnunetv2 = pytest.importorskip("nnunetv2")

from lnqtools.nnunet import prepare  # noqa: E402
from lnqtools.nnunet.recipes import find_recipe  # noqa: E402

SPACING = (2.4, 1.3, 1.0)
OURS = {RECORD, "lnq_hparams"}


pytestmark = pytest.mark.usefixtures("one_thread")


# All keys are in the tables


def facts(length: int) -> CaseFacts:
    hu = np.linspace(-100.0, 200, 99)
    return CaseFacts("a", (2.0, 1.0, 1.0), (length, length, length), 1.0, True, True, hu)


@pytest.mark.parametrize("network", ["plain", "resenc-m"])
def test_what_nnunets_planners_write_is_in_the_tables(network):
    """Of images so large that there is a cascade."""
    recipe = find_recipe("paper").with_changes({"network": network})
    plans = prepare._nnunet_plans([facts(400)], recipe)
    assert set(plans["configurations"]) == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    configurations = plans["configurations"].values()
    assert set(plans) <= set(keys.PLANS_KEYS)
    assert set().union(*configurations) <= set(keys.CONFIGURATION_KEYS)
    assert [keys.unknown_keys(plans, each) for each in configurations] == [[]] * 4


@pytest.mark.parametrize("change", [lambda plans: None, residual, as_before_2_3])
def test_what_we_write_and_what_nnunet_wrote_before_is_in_the_tables(change):
    plans = prepare.make_plans([facts(60)], find_recipe("smoke"), seed=0)
    change(plans)
    (configuration,) = plans["configurations"].values()
    assert keys.unknown_keys(plans, configuration) == []
    assert set(dataset_json([facts(60)])) <= set(keys.DATASET_KEYS)


def test_what_nnunet_reads_of_a_configuration_is_in_the_tables():
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

    others = {
        "network_arch_class_name",
        "network_arch_init_kwargs",
        "network_arch_init_kwargs_req_import",
        "preprocessor_class",
        "next_stage_names",
        "previous_stage_name",
    }  # of architecture, preprocessor_name, next_stage and previous_stage
    assert _properties(ConfigurationManager) - others <= set(keys.CONFIGURATION_KEYS)
    others = {
        "available_configurations",
        "experiment_planner_class",
        "experiment_planner_name",
        "image_reader_writer_class",
        "label_manager_class",
    }
    assert _properties(PlansManager) - others <= set(keys.PLANS_KEYS)


def _properties(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if isinstance(value, property)}


def test_the_tables_hold_no_key_that_nnunet_does_not_have():
    source = "\n".join(p.read_text() for p in Path(nnunetv2.__path__[0]).rglob("*.py"))
    for table in (keys.PLANS_KEYS, keys.CONFIGURATION_KEYS, keys.DATASET_KEYS):
        for key in set(table) - OURS:
            assert f"'{key}'" in source or f'"{key}"' in source, key


@given(st.sets(st.sampled_from([*keys.PLANS_KEYS, *keys.CONFIGURATION_KEYS, "a", "b"])))
def test_a_key_is_known_where_it_stands(found):
    there = dict.fromkeys(found)
    unknown = sorted(keys.unknown_keys(there, {}))
    assert unknown == sorted(found - set(keys.PLANS_KEYS))
    unknown = sorted(keys.unknown_keys({}, there))
    assert unknown == sorted(found - set(keys.CONFIGURATION_KEYS))


@given(st.permutations(range(3)), st.permutations(range(3)))
def test_axes_must_be_put_back_as_they_were(there, back):
    plans = {
        "transpose_forward": there,
        "transpose_backward": back,
        "foreground_intensity_properties_per_channel": {"0": {}},
    }
    configuration = {
        "normalization_schemes": ["NoNormalization"],
        "use_mask_for_norm": [False],
    }
    if np.array_equal(np.zeros((1, 2, 3)).transpose(there).transpose(back).shape, (1, 2, 3)):
        keys.check_values(plans, configuration)
    else:
        with pytest.raises(LnqError, match="does not undo"):
            keys.check_values(plans, configuration)


def test_a_key_that_nothing_heeds_is_told(tmp_path):
    def change(plans: dict) -> None:
        plans["flip_images"] = True
        plans["configurations"]["3d_fullres"]["sharpen"] = 2

    (note,) = predictor(random_model(tmp_path / "m", change_plans=change)).notes
    assert note == "nnU-Net ignores what plans.json says of flip_images, sharpen"


# What is honored changes the result as it changes nnU-Net's


def other_intensities(plans: dict, key: str = "foreground_intensity_properties_per_channel"):
    properties = plans.pop("foreground_intensity_properties_per_channel")
    plans[key] = {"0": properties["0"] | {"mean": 0.0, "std": 90.0}}


def older_name(plans: dict) -> None:
    other_intensities(plans, "foreground_intensity_properties_by_modality")


def other_axes(plans: dict) -> None:
    plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]


def configured(**changes) -> Callable[[dict], None]:
    return lambda plans: plans["configurations"]["3d_fullres"].update(changes)


def inherited(plans: dict) -> None:
    configurations = plans["configurations"]
    configurations["parent"] = configurations["3d_fullres"] | {"spacing": [2.0, 1.6, 1.0]}
    configurations["3d_fullres"] = {"inherits_from": "parent"}


NO_RESAMPLING = {
    f"resampling_fn_{what}{part}": value
    for what in ("data", "probabilities")
    for part, value in (("", "no_resampling_hack"), ("_kwargs", {}))
}
TORCH = {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {}}
LINEAR = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}

CHANGES: dict[str, tuple[Callable[[dict], None], tuple[str, ...]]] = {
    "intensities": (other_intensities, ("foreground_intensity_properties_per_channel",)),
    "older name": (older_name, ("foreground_intensity_properties_by_modality",)),
    "axes": (other_axes, ("transpose_forward", "transpose_backward")),
    "inherits": (inherited, ("inherits_from", "configurations", "spacing")),
    "patch": (configured(patch_size=[16, 16, 24]), ("patch_size",)),
    "z-score": (
        configured(normalization_schemes=["ZScoreNormalization"]),
        ("normalization_schemes",),
    ),
    "z-score in mask": (
        configured(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]),
        ("use_mask_for_norm",),
    ),
    "unscaled": (configured(normalization_schemes=["RescaleTo01Normalization"]), ()),
    "not resampled": (
        configured(**NO_RESAMPLING),
        ("resampling_fn_data", "resampling_fn_probabilities"),
    ),
    "by torch": (configured(**TORCH), ()),
    "linear": (configured(resampling_fn_data_kwargs=LINEAR), ("resampling_fn_data_kwargs",)),
    "nearest back": (
        configured(resampling_fn_probabilities_kwargs=LINEAR | {"order": 0}),
        ("resampling_fn_probabilities_kwargs",),
    ),
    "cubic back": (configured(resampling_fn_probabilities_kwargs={}), ()),  # nnU-Net's default
    "slices apart": (
        configured(
            resampling_fn_probabilities_kwargs=LINEAR | {"separate_z_anisotropy_threshold": 1.5}
        ),
        (),
    ),
}
"""Changes of plans.json, and the keys that each shows to count."""

SHOWN_ELSEWHERE = {
    "architecture": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "UNet_class_name": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "UNet_base_num_features": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "conv_kernel_sizes": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "n_conv_per_stage_decoder": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "n_conv_per_stage_encoder": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "pool_op_kernel_sizes": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "unet_max_num_features": "test_predict.py::test_other_plans_run_as_in_nnunet",
    "image_reader_writer": "test_view.py::test_a_model_sees_what_nnunets_reader_gives_it",
    RECORD: "test_view.py::test_the_record_counts_before_the_reader_and_what_is_wanted",
    # nnU-Net has one of each:
    "label_manager": "test_model_keys.py::test_what_nnunet_could_not_follow_is_refused",
    "preprocessor_name": "test_model_keys.py::test_what_nnunet_could_not_follow_is_refused",
    "channel_names": "test_nnunet.py::test_models_for_something_else_are_refused",
    "modality": "test_model_keys.py::test_the_older_name_of_the_channel_counts",
    "labels": "test_nnunet.py::test_models_for_something_else_are_refused",
    "regions_class_order": "test_nnunet.py::test_regions_are_predicted_as_nnunet_does",
    "overwrite_image_reader_writer": "test_view.py::test_dataset_json_stands_in_for_a_reader",
}


def test_each_honored_key_is_shown_to_count():
    shown = [key for _, changed in CHANGES.values() for key in changed]
    tables = keys.PLANS_KEYS | keys.CONFIGURATION_KEYS | keys.DATASET_KEYS
    honored = {key for key, what in tables.items() if what == HONORED}
    assert {*shown, *SHOWN_ELSEWHERE} == honored
    assert len(shown) == len(set(shown)) == len(honored) - len(SHOWN_ELSEWHERE)
    for place in SHOWN_ELSEWHERE.values():
        file, name = place.split("::")
        assert f"def {name}" in Path(__file__).with_name(file).read_text(), place


@pytest.fixture(scope="module")
def ct() -> np.ndarray:
    """Return an image with zeros at its rim and in it: nnU-Net's mask of what is not 0 has both."""
    array = image((20, 30, 26))
    array[:, :5] = array[16:] = 0
    array[3:, 20:, 18:] = 0
    return array


@pytest.fixture(scope="module")
def unchanged(ct, tmp_path_factory) -> np.ndarray:
    """Return the probabilities by the plans as they are."""
    model = random_model(tmp_path_factory.mktemp("unchanged") / "m")
    return predictor(model).predict(volume(ct, SPACING), with_probability=True).probability


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_key_changes_the_result_as_it_does_nnunets(name, ct, unchanged, tmp_path):
    change = CHANGES[name][0]
    model = random_model(tmp_path / "m", change_plans=change)
    found = predictor(model)
    passes: list[int] = []
    result = found.predict(volume(ct, SPACING), with_probability=True, progress=passes.append)
    segmentation, probabilities = nnunets_own(model, ct, SPACING, False)
    assert_same(result, segmentation == 1, probabilities[1], tolerance=2e-3)
    assert np.abs(result.probability - unchanged).max() > 0.02
    assert len(passes) <= found.patch_count(volume(ct, SPACING).grid)


def test_the_mask_for_the_norm_is_not_the_image(ct, tmp_path):
    """Otherwise honoring use_mask_for_norm would not be told from ignoring it."""
    found = []
    for masked in (True, False):
        change = configured(
            normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[masked]
        )
        model = predictor(random_model(tmp_path / str(masked), change_plans=change))
        assert model.normalizes_by_image
        found.append(model.predict(volume(ct, SPACING), with_probability=True).probability)
    assert np.abs(found[0] - found[1]).max() > 0.02


def test_the_older_name_of_the_channel_counts(tmp_path):
    model = random_model(tmp_path / "m")
    dataset = json.loads((model / "dataset.json").read_text())
    dataset["modality"] = dataset.pop("channel_names") | {"1": "PET"}
    (model / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(LnqError, match=r"takes 2 input channels \(CT, PET\)"):
        predictor(model)


# What is refused


def test_a_second_stage_is_refused(tmp_path):
    assert [k for k, what in keys.CONFIGURATION_KEYS.items() if what == REFUSED] == [
        "previous_stage"
    ]
    model = random_model(tmp_path / "m", change_plans=configured(previous_stage="3d_lowres"))
    with pytest.raises(LnqError, match="second stage of a cascade"):
        predictor(model)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        *(
            ({key: value}, rf"names the {kind} TheirOwn, which nnU-Net 2\.\d.* does not have")
            for key, kind, value in (
                ("preprocessor_name", "preprocessor", "TheirOwn"),
                ("resampling_fn_data", "resampling", "TheirOwn"),
                ("resampling_fn_seg", "resampling", "TheirOwn"),
                ("resampling_fn_probabilities", "resampling", "TheirOwn"),
                ("label_manager", "label manager", "TheirOwn"),
                ("normalization_schemes", "normalization", ["TheirOwn"]),
            )
        ),
        ({"normalization_schemes": ["RGBTo01Normalization"]}, "color pictures, not on CTs"),
        ({"use_mask_for_norm": ["yes"]}, "use_mask_for_norm is 'yes', neither true nor false"),
        (
            {"transpose_backward": [2, 0, 1], "transpose_forward": [2, 0, 1]},
            r"transpose_backward \[2, 0, 1\] does not undo transpose_forward \[2, 0, 1\]",
        ),
        (
            {"foreground_intensity_properties_per_channel": {"0": {"mean": 1, "std": None}}},
            "per_channel lacks std, percentile_00_5, percentile_99_5",
        ),
        (
            {"foreground_intensity_properties_per_channel": {}},
            "per_channel lacks mean, std, percentile_00_5, percentile_99_5",
        ),
    ],
)
def test_what_nnunet_could_not_follow_is_refused(changes, sentence, tmp_path):
    model = random_model(tmp_path / "m")
    plans = json.loads((model / "plans.json").read_text())
    before = deepcopy(plans)
    for key, value in changes.items():
        place = plans if key in keys.PLANS_KEYS else plans["configurations"]["3d_fullres"]
        place[key] = value
    assert plans != before
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(LnqError, match=sentence) as refused:
        predictor(model)
    assert "\n" not in str(refused.value)
