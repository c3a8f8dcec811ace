"""What stands for nnU-Net's predictor and its preprocessing gives its very numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.nnunet.test_nnunet import image
from tests.nnunet_data import lps_grid, predictor, random_model

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from lnqtools.nnunet import window  # noqa: E402
from lnqtools.nnunet.predict import Predictor  # noqa: E402
from lnqtools.nnunet.preparing import prepare_image  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SPACING = (2.0, 1.3, 1.0)


def nnunets(folder, *, mirroring):
    """Return nnU-Net's own predictor with a model."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    own = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    own.initialize_from_trained_model_folder(str(folder), ("0",))
    return own


# The window


@pytest.mark.parametrize("shape", [(30, 44, 25), (10, 70, 24), (8, 9, 10)])
@pytest.mark.parametrize("mirroring", [False, True])
def test_logits_are_nnunets_to_the_last_bit(tmp_path, monkeypatch, shape, mirroring):
    monkeypatch.setattr(window, "TOGETHER", 1)  # as nnU-Net
    folder = random_model(tmp_path / "m")
    model = Predictor(folder, device="cpu", threads=1, mirroring=mirroring)
    data = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
    told = []
    with torch.inference_mode():
        found, notes = model._window.logits(data, lambda: told.append(1))
        expected = nnunets(folder, mirroring=mirroring).predict_sliding_window_return_logits(data)
    assert expected.shape == (2, *shape)
    assert expected.std() > 0.1
    assert torch.equal(found, expected)
    assert notes == ()
    assert len(told) == len(window.places(shape, (16, 24, 24), 0.5))


@pytest.mark.parametrize("patch", [(16, 24, 24), (24, 16)], ids=["3-D", "2-D"])
@pytest.mark.parametrize("step_size", [0.5, 0.3, 1.0])
def test_places_are_nnunets_in_its_order(tmp_path, patch, step_size):
    own = nnunets(random_model(tmp_path / "m"), mirroring=False)
    own.tile_step_size = step_size
    own.configuration_manager.configuration["patch_size"] = patch
    shape = (20, 57, 31)
    expected = own._internal_get_sliding_window_slicers(shape)
    found = window.places(shape, patch, step_size)
    assert [(slice(None), *where) for where in found] == expected
    assert len(found) > 4


# Preprocessing


def holed(kind: str) -> np.ndarray:
    """Return an image with zeros where they may mislead."""
    array = image((20, 26, 30)) + 5000  # not 0 anywhere
    if kind == "rim":
        array[:3] = array[:, :2] = array[..., -4:] = 0
    elif kind == "hole":
        array[5:9, 6:12, 7:15] = 0
    elif kind == "hole in what lies in a hole":
        array[2:18, 3:20, 3:25] = 0
        array[6:12, 6:15, 6:20] = 70
        array[8:10, 8:12, 9:15] = 0
    elif kind == "hole that is open":
        array[5:9, 6:12, 7:] = 0
    elif kind == "dust":
        array[np.random.default_rng(0).random(array.shape) < 0.5] = 0
    elif kind == "shell alone":
        array[1:-1, 1:-1, 1:-1] = 0
    elif kind == "two corners":
        array[...] = 0
        array[4, 5, 6], array[15, 20, 25] = 90, 60
    return array - 5000 * (array > 4000)


KINDS = (
    *("rim", "hole", "hole in what lies in a hole", "hole that is open", "dust", "shell alone"),
    *("two corners", "nothing"),
)
NORMALIZED = {
    "CT": ["CTNormalization"],
    "each by itself": ["ZScoreNormalization"],
    "each by what is not 0": ["ZScoreNormalization"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Predictor]:
    def changed(schemes, mask):
        def change(plans):
            configuration = plans["configurations"]["3d_fullres"]
            configuration["normalization_schemes"] = schemes
            configuration["use_mask_for_norm"] = [mask]

        return change

    root = tmp_path_factory.mktemp("normalized")
    return {
        name: predictor(
            random_model(
                root / name,
                transpose=(2, 0, 1),
                change_plans=changed(schemes, name.endswith("not 0")),
            )
        )
        for name, schemes in NORMALIZED.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalized", NORMALIZED)
def test_an_image_is_prepared_as_nnunet_does_it(models, kind, normalized):
    array = holed(kind)
    assert len(np.unique(array)) > 2
    assert_prepared_alike(models[normalized], array)


@given(st.sampled_from(sorted(NORMALIZED)), st.integers(0, 2**32), st.floats(0, 0.99))
@settings(max_examples=20)
def test_any_zeros_in_an_image_change_nothing_of_that(models, normalized, seed, share):
    rng = np.random.default_rng(seed)
    array = np.where(rng.random((9, 12, 14)) < share, 0, rng.integers(-900, 900, (9, 12, 14)))
    array[rng.integers(9), rng.integers(12), :4] = 1, -70, 250, 90
    assert_prepared_alike(models[normalized], array)


def assert_prepared_alike(model: Predictor, array: np.ndarray) -> None:
    own = model._preprocessor.run_case_npy(
        *(array[np.newaxis], None, {"spacing": list(SPACING)}),
        *(model._model.plans, model._model.configuration, model._model.dataset),
    )
    data, properties = prepare_image(model._preprocessor, model._model, array, SPACING)
    np.testing.assert_array_equal(data, own[0])
    assert data.dtype == own[0].dtype
    assert np.isfinite(data).all()
    plain = {key: np.asarray(value).tolist() for key, value in properties.items()}
    assert plain == {key: np.asarray(value).tolist() for key, value in own[2].items()}


def test_another_preprocessor_is_asked(models):
    model = models["CT"]

    class Own(type(model._preprocessor)):
        def run_case_npy(self, *given):
            data, label, properties = super().run_case_npy(*given)
            return data + 1, label, properties

    array = image((20, 26, 30))
    plain, _ = prepare_image(model._preprocessor, model._model, array, SPACING)
    found, _ = prepare_image(Own(verbose=False), model._model, array, SPACING)
    np.testing.assert_array_equal(found, plain + 1)


# The start


def test_a_model_is_loaded_without_what_trains_compiles_or_draws(tmp_path):
    folder = random_model(tmp_path / "m")
    code = (
        "import sys\n"
        "from lnqtools.nnunet.predict import Predictor\n"
        f"Predictor({str(folder)!r}, device='cpu')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    loaded = set(done.stdout.split())
    assert "nnunetv2.utilities.plans_handling.plans_handler" in loaded
    needless = {
        "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
        "nnunetv2.inference.predict_from_raw_data",
        *("torch._dynamo", "matplotlib", "seaborn", "sympy"),
    }
    assert loaded & needless == set()


def test_a_grid_has_as_many_patches_as_places(models):
    model = models["CT"]
    shape = (9, 50, 70)  # with the network's axes (70, 9, 50), of 2 × 1 × 1 mm
    places = window.places((70, 18, 50), (16, 24, 24), 0.5)
    assert model.patch_count(lps_grid(shape, (2.0, 1.0, 2.0))) == len(places)
