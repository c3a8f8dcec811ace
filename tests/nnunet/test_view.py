"""The orientation in which a model sees a CT, however its file stores it; nnU-Net's own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, lattice_map
from lnqtools.images.orientation import oriented, turned
from lnqtools.images.volume import Volume, read_volume
from lnqtools.nnunet import window
from lnqtools.nnunet.cohorts import cohort_rows, stored_oddly
from lnqtools.nnunet.dataset import CaseFacts, TrainingCase, case_facts, read_case, survey_cases
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.validate import validate_fold
from lnqtools.nnunet.view import READERS, RECORD, model_orientation, seen_as
from tests.conftest import affine, load, save
from tests.grids import turned_grids
from tests.images.test_orientation import CODES
from tests.nnunet.test_nnunet import assert_same, image, nnunets_own
from tests.nnunet_data import lps_grid, predictor, random_model, volume, write_bright_nodes

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from lnqtools.nnunet import prepare  # noqa: E402
from lnqtools.nnunet.predict import Ensemble  # noqa: E402
from lnqtools.nnunet.prediction import Prediction  # noqa: E402

SPACING = (2.0, 1.3, 1.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def without_record(reader: str | None = "SimpleITKIO") -> Callable[[dict], None]:
    """Return what makes plans those of another trainer, by nnU-Net's reader of a name."""

    def change(plans: dict) -> None:
        del plans[RECORD]
        plans["image_reader_writer"] = reader

    return change


# What a model says


def test_the_record_counts_before_the_reader_and_what_is_wanted_before_both():
    plans = {"image_reader_writer": "NibabelIOWithReorient"}
    assert model_orientation(plans, {}) == "RAS"
    assert model_orientation(plans | {RECORD: "LPS"}, {}) == "LPS"
    assert model_orientation(plans | {RECORD: "LPS"}, {}, "sal") == "SAL"
    assert model_orientation(plans, {}, "stored") == "stored"
    with pytest.raises(LnqError, match=rf"^plans.json: {RECORD}: 'LPX' is not an orientation"):
        model_orientation({RECORD: "LPX"}, {})


@given(
    st.sampled_from([*READERS, None]),
    st.sampled_from([*CODES, None]),
    st.sampled_from([*CODES, "auto", "stored"]),
    turned_grids(),
)
def test_what_a_model_sees_has_the_voxels_of_the_image(reader, record, wanted, pair):
    plans = {} if reader is None else {"image_reader_writer": reader}
    if record is not None:
        plans[RECORD] = record
    said = model_orientation(plans, {}, wanted)
    assert said == (record or READERS.get(reader) if wanted == "auto" else wanted)
    for grid in pair[:2]:
        seen = seen_as(grid, said)
        assert lattice_map(grid, seen).offset == (0, 0, 0)
        if said in CODES:
            assert seen.letters == said


def test_each_reader_of_this_nnunet_is_known():
    """A new one must be looked at: it may turn what it reads."""
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES

    from lnqtools.nnunet.view import PICTURE_READERS

    assert len(LIST_OF_IO_CLASSES) == 5  # importing it has made them all

    def below(kind: type) -> set[str]:
        return {kind.__name__}.union(*(below(each) for each in kind.__subclasses__()))

    assert below(BaseReaderWriter) - {"BaseReaderWriter"} == {*READERS, *PICTURE_READERS}


def test_dataset_json_stands_in_for_a_reader_that_plans_json_lacks():
    own = {"overwrite_image_reader_writer": "NibabelIOWithReorient"}
    assert model_orientation({}, own) == "RAS"
    assert model_orientation({"image_reader_writer": "SimpleITKIO"}, own) is None
    assert model_orientation({}, {"overwrite_image_reader_writer": "None"}) is None
    assert model_orientation({}, {}) is None


@pytest.mark.parametrize("reader", ["NaturalImage2DIO", "Tiff3DIO"])
@pytest.mark.parametrize("wanted", ["auto", "LPS", "stored"])
def test_models_of_pictures_are_refused_whatever_is_wanted(reader, wanted, tmp_path):
    model = random_model(tmp_path / "m", change_plans=without_record(reader))
    sentence = f"was trained on pictures, not on CTs: plans.json names the reader {reader}"
    with pytest.raises(LnqError, match=f"^{sentence}$"):
        predictor(model, orientation=wanted)


def test_a_reader_that_nnunet_does_not_have_needs_a_word(tmp_path):
    model = random_model(tmp_path / "m", change_plans=without_record("MyIO"))
    with pytest.raises(
        LnqError, match=r"the reader MyIO, which nnU-Net does not have.*such as RAS"
    ):
        predictor(model)
    ct = volume(image((16, 24, 24)), SPACING)
    seen = predictor(model, orientation="RAS").seen(ct.grid)
    assert seen.letters == "RAS"


# 48 ways to store a CT


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [None, (12, -9, 20)], ids=["straight", "oblique"])
def test_all_48_ways_to_store_a_ct_give_one_result(tilt, tmp_path):
    """Axes of three lengths and spacings, resampled, and turned once more by the plans."""
    model = predictor(random_model(tmp_path / "m", transpose=(1, 0, 2)))
    grid = lps_grid((18, 30, 24), SPACING)
    if tilt is not None:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
        grid = Grid.from_affine(grid.shape, matrix @ grid.affine)
    ct = Volume(image(grid.shape), grid)
    expected = model.predict(ct, with_probability=True)
    assert 0.05 < expected.mask.mean() < 0.95
    for code in CODES:
        stored = turned(ct, oriented(grid, code))
        found = model.predict(stored, with_probability=True)
        assert found.mask.shape == stored.array.shape
        assert model.workload(stored.grid) == model.workload(grid)
        for values, wanted in (
            (found.mask, expected.mask),
            (found.probability, expected.probability),
        ):
            np.testing.assert_array_equal(turned(Volume(values, stored.grid), grid).array, wanted)


def test_a_turned_array_is_another_one_to_the_network(tmp_path):
    """Otherwise that all ways give one result would say nothing."""
    model = predictor(random_model(tmp_path / "m"), orientation="stored")
    ct = volume(image((18, 30, 24)), SPACING)
    expected = model.predict(ct).mask
    for code in ("RAS", "PIR"):
        stored = turned(ct, oriented(ct.grid, code))
        found = turned(Volume(model.predict(stored).mask, stored.grid), ct.grid).array
        assert (found != expected).mean() > 0.01


def test_each_model_of_an_ensemble_sees_its_own_orientation(tmp_path):
    of_record = predictor(random_model(tmp_path / "a"))
    ras = without_record("NibabelIOWithReorient")
    of_reader = predictor(random_model(tmp_path / "b", eagerness=0.5, change_plans=ras))
    ct = volume(image((18, 30, 24)), SPACING)
    stored = turned(ct, oriented(ct.grid, "PIR"))
    found = Ensemble([of_record, of_reader]).predict(stored, with_probability=True)
    as_ras = turned(ct, oriented(ct.grid, "RAS"))
    one = of_record.predict(ct, with_probability=True).probability
    other = of_reader.predict(as_ras, with_probability=True).probability
    mean = (one + turned(Volume(other, as_ras.grid), ct.grid).array) / np.float32(2)
    assert np.abs(one - mean).max() > 0.05
    turned_back = turned(Volume(found.probability, stored.grid), ct.grid).array
    np.testing.assert_array_equal(turned_back, mean)


# Models that do not say it


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", None])
def test_a_silent_model_sees_slices_last_as_they_are_stored(reader, tmp_path):
    model = predictor(random_model(tmp_path / "m", change_plans=without_record(reader)))
    array = image((16, 24, 24))
    expected = model.predict(volume(array, SPACING), with_probability=True)
    for code in ("LPS", "RAS", "RPI", "LAI"):
        grid = oriented(lps_grid(array.shape, SPACING), code)
        assert model.seen(grid) == grid
        assert model.assumed_orientation(grid) is None
        found = model.predict(Volume(array, grid), with_probability=True)
        np.testing.assert_array_equal(found.probability, expected.probability)
    segmentation, probabilities = nnunets_own(tmp_path / "m", array, SPACING, False)
    assert_same(expected, segmentation == 1, probabilities[1], tolerance=2e-3)


def test_a_silent_model_sees_other_slices_last_and_nothing_mirrored(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "TOGETHER", 1)  # as nnU-Net: else logits of 60 round otherwise
    model = predictor(random_model(tmp_path / "m", change_plans=without_record()))
    ct = volume(image((18, 30, 24)), SPACING)
    stored = turned(ct, oriented(ct.grid, "PIR"))  # array: left-right, up-down, front-back
    assert model.assumed_orientation(stored.grid) == "RPI"
    assert Ensemble([model]).assumed_orientation(stored.grid) == "RPI"
    assert predictor(tmp_path / "m", orientation="PIR").assumed_orientation(stored.grid) is None
    found = model.predict(stored, with_probability=True)
    array = stored.array.transpose(1, 2, 0)
    segmentation, probabilities = nnunets_own(tmp_path / "m", array, SPACING, False)
    back = (2, 0, 1)
    theirs = segmentation.transpose(back) == 1, probabilities[1].transpose(back)
    assert_same(found, *theirs, tolerance=2e-3)


# nnU-Net's own readers


def stored_as(folder: Path, code: str) -> Path:
    """Write a CT in an orientation, by nibabel."""
    path = save(folder / f"{code}.nii.gz", image((18, 30, 24)), affine(SPACING[::-1], (7, -5, 3)))
    stored = nib.load(path)
    way = ornt_transform(io_orientation(stored.affine), axcodes2ornt(code))
    nib.save(stored.as_reoriented(way), path)
    return path


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_model_sees_what_nnunets_reader_gives_it(reader, code, tmp_path):
    """But for a reader that turns nothing, on slices that are not last."""
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    model = random_model(tmp_path / "m", change_plans=without_record(reader))
    path = stored_as(tmp_path, code)
    found = predictor(model).predict(read_volume(path), with_probability=True)
    io = recursive_find_reader_writer_by_name(reader)()
    data, properties = io.read_images([str(path)])
    segmentation, _ = nnunets_own(model, data[0], properties["spacing"], False)
    io.write_seg(segmentation, str(tmp_path / "theirs.nii.gz"), properties)
    theirs = load(tmp_path / "theirs.nii.gz")
    if READERS[reader] is None and code == "PIR":
        assert (found.mask != theirs).mean() > 0.01
        found = predictor(model, orientation="stored").predict(read_volume(path))
    assert 0.05 < theirs.mean() < 0.95
    assert (found.mask != theirs).mean() < 0.001


def test_seen_grids_by_hand():
    pir = oriented(lps_grid((4, 5, 6), (3.0, 2.0, 1.0)), "PIR")
    assert seen_as(pir, "stored") is pir
    assert seen_as(pir, None).letters == "RPI"
    assert seen_as(pir, None).spacing == seen_as(pir, "LPS").spacing == (3.0, 2.0, 1.0)


# Training


def stored_cases(folder: Path, codes: tuple[str, ...], label_codes=None) -> list[TrainingCase]:
    """Write cases with bright nodes, each with its axes in another orientation."""
    write_bright_nodes(folder, len(codes))
    cases = []
    for number, code in enumerate(codes):
        paths = [folder / kind / f"case {number}.nii.gz" for kind in ("ct", "label")]
        for path, wanted in zip(paths, (code, (label_codes or codes)[number]), strict=True):
            image = nib.load(path)
            way = ornt_transform(io_orientation(image.affine), axcodes2ornt(wanted))
            nib.save(image.as_reoriented(way), path)
        cases.append(TrainingCase(f"case {number}", *paths))
    return cases


def prepared(cases: list[TrainingCase], folder: Path) -> dict[str, bytes]:
    """Return all that is made of cases for a training, file by file; arrays without packing.

    blosc2 packs them with several threads, in an order of its own each time.
    """
    import blosc2

    recipe = find_recipe("smoke")
    prepare.write_plans(survey_cases(cases), recipe, 0, folder, weights={}, splits=[])
    prepare.preprocess(cases, folder)
    return {
        str(path.relative_to(folder)): (
            blosc2.open(str(path))[:].tobytes() if path.suffix == ".b2nd" else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_a_training_is_prepared_alike_however_its_cases_are_stored(tmp_path):
    usual = prepared(stored_cases(tmp_path / "a", ("LPS",) * 3), tmp_path / "A")
    other = prepared(stored_cases(tmp_path / "b", ("PIR", "RAI", "SAL")), tmp_path / "B")
    assert {Path(name).suffix for name in usual} == {".json", ".b2nd", ".pkl"}
    assert usual.keys() == other.keys()
    for name in usual:
        assert usual[name] == other[name], name
    plans = json.loads(usual[next(name for name in usual if name.endswith("nnUNetPlans.json"))])
    assert plans[RECORD] == "LPS"
    configuration = plans["configurations"]["3d_fullres"]
    # the cases' 1.5 × 1 × 1 mm and 36 × 48 × 48 voxels, z first
    assert plans["original_median_spacing_after_transp"] == [1.5, 1.0, 1.0]
    assert configuration["median_image_size_in_voxels"] == [36.0, 48.0, 48.0]


def test_cases_planned_without_a_record_are_prepared_as_they_are_stored(tmp_path):
    """A training that an older version began goes on as it did."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    (case,) = stored_cases(tmp_path, ("RAS",))
    shapes = []
    for change in (lambda plans: None, lambda plans: plans.pop(RECORD)):
        folder = tmp_path / f"prepared {len(shapes)}"
        survey = survey_cases([case])
        prepare.write_plans(survey, find_recipe("smoke"), 0, folder, weights={}, splits=[])
        path = prepare.dataset_folder(folder) / "nnUNetPlans.json"
        plans = json.loads(path.read_text())
        change(plans)
        path.write_text(json.dumps(plans))
        prepare.preprocess([case], folder)
        data = nnUNetDatasetBlosc2(str(path.parent / "nnUNetPlans_3d_fullres"))
        shapes.append(np.asarray(data.load_case(case.name)[0][0]))
    np.testing.assert_array_equal(shapes[0][:, ::-1, ::-1], shapes[1])
    assert (shapes[0] != shapes[1]).any()


def test_a_label_that_is_stored_otherwise_is_turned_and_told(tmp_path):
    (case,) = stored_cases(tmp_path, ("LPS",), ("RAI",))
    image, label = read_case(case)
    assert label.grid == image.grid
    nodes = image.array[label.array == 1]
    assert nodes.min() > 60  # bright, as by their making
    told: list[str] = []
    survey_cases([case], notify=told.append)
    assert told == [
        f"{case.label}: warning: its axes are stored as RAI, those of the image as LPS: it was "
        "turned"
    ]


def test_cases_that_are_stored_oddly_are_counted_and_named():
    def case(name: str, stored: str, cohort: str = "cases") -> CaseFacts:
        box = np.ones((2, 2, 2))
        return case_facts(name, box, box, (1.0, 1.0, 1.0), cohort, stored)

    usual = [case(f"u{k}", "RAS") for k in range(13)]
    assert stored_oddly(usual) is None
    odd = [case("a", "PIR", "other"), case("b", "LPS")]
    assert stored_oddly([*usual, *odd]) == (
        "2 of 15 cases are stored in another orientation than RAS: a (PIR), b (LPS); the network "
        "sees all as LPS"
    )
    many = [case(f"o{k}", "LPS") for k in range(12)]
    assert "12 of 25 cases" in stored_oddly([*usual, *many])
    assert "o9 (LPS) and 2 more; " in stored_oddly([*usual, *many])
    rows = cohort_rows([*usual, *odd], {}, 0, 2)
    assert [row["stored"] for row in rows] == ["RAS:13,LPS:1", "PIR:1"]


@given(st.lists(st.sampled_from(CODES[:3]), min_size=1, max_size=30))
def test_the_usual_orientation_is_that_of_most_cases(stored):
    box = np.ones((1, 1, 1))
    cases = [case_facts(f"c{k}", box, box, (1, 1, 1), "a", code) for k, code in enumerate(stored)]
    odd = len(stored) - max(map(stored.count, stored))
    said = stored_oddly(cases)
    assert (said or "0 of").startswith(f"{odd} of")
    (row,) = cohort_rows(cases, {}, 0, 2)
    counts = dict(part.split(":") for part in row["stored"].split(","))
    assert counts == {code: str(stored.count(code)) for code in stored}


def test_a_validation_lies_on_the_ct_as_it_is_stored(tmp_path):
    (case,) = stored_cases(tmp_path, ("PIR",))
    model = tmp_path / "model"
    (model / "fold_0").mkdir(parents=True)
    (model / "splits_final.json").write_text(json.dumps([{"train": [], "val": [case.name]}]))
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")

    class Bright:
        """Sees all that is bright."""

        def predict(self, ct: Volume) -> Prediction:
            return Prediction((ct.array > 60).astype(np.uint8))

    (row,) = validate_fold([case], model, "0", Bright)
    written = read_volume(model / "fold_0" / "validation" / f"{case.name}.nii.gz")
    ct = read_volume(case.image)
    assert written.grid.letters == "PIR"
    np.testing.assert_array_equal(written.array, ct.array > 60)
    assert row["recall_annotated"] == 1
