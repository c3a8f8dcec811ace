"""lnq-phantom: a cohort on disk, its folders, and what makes a case the same again."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools.labels.measured import end_columns
from tests.cli.helpers import columns_of, numbers, rows_of, usage_error
from tests.conftest import load, matrix_of, run, succeed

FOLDERS = ("ct", "truth", "weak", "anatomy", "instances")
CASES = ("phantom0-0000", "phantom0-0001")


def files(folder: Path) -> dict[str, bytes]:
    """Return the images of a cohort by their names in it."""
    found = (path for name in FOLDERS for path in (folder / name).iterdir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def only(cohort: dict[str, bytes], case: str) -> dict[str, bytes]:
    """Return the images of one case."""
    return {name: content for name, content in cohort.items() if case in name}


def test_folders_hold_a_file_a_case_on_one_grid(phantoms):
    assert sorted(files(phantoms)) == sorted(
        f"{folder}/{case}.nii.gz" for folder in FOLDERS for case in CASES
    )
    types = {"ct": np.int16, "instances": np.uint16}
    for case in CASES:
        paths = {folder: phantoms / folder / f"{case}.nii.gz" for folder in FOLDERS}
        for folder, path in paths.items():
            assert load(path).dtype == types.get(folder, np.uint8)
            assert load(path).shape == load(paths["ct"]).shape
            np.testing.assert_array_equal(matrix_of(path), matrix_of(paths["ct"]))
        truth, weak, instances = (load(paths[name]) for name in ("truth", "weak", "instances"))
        np.testing.assert_array_equal(truth, instances != 0)
        assert 0 < weak.sum() < truth.sum()
        assert truth[weak != 0].all()
        assert not load(paths["anatomy"])[truth != 0].any()


def test_the_map_names_its_classes(phantoms):
    image = nib.load(phantoms / "anatomy" / f"{CASES[0]}.nii.gz")
    tables = [e.get_content() for e in image.header.extensions if e.get_code() == 0]
    assert len(tables) == 1
    assert b'Key="51"' in tables[0]
    assert b"<![CDATA[lung_middle_lobe_right]]>" in tables[0]


def test_the_table_agrees_with_the_images(phantoms):
    table = (phantoms / "nodes.tsv").read_text()
    assert columns_of(table) == [
        *("case", "id", "station", "short_axis_mm", "volume_mm3", "enlarged", "annotated"),
        *("diameter_ellipsoid_mm", "long_axis_mm", "phase", *end_columns()),
    ]
    rows = rows_of(table)
    for case in CASES:
        nodes = [row for row in rows if row["case"] == case]
        path = phantoms / "instances" / f"{case}.nii.gz"
        instances, weak = load(path), load(phantoms / "weak" / f"{case}.nii.gz")
        voxel_mm3 = np.prod(nib.affines.voxel_sizes(matrix_of(path)))
        assert [row["id"] for row in nodes] == [str(n + 1) for n in range(instances.max())]
        for row in nodes:
            node = instances == int(row["id"])
            assert float(row["volume_mm3"]) == pytest.approx(node.sum() * voxel_mm3, rel=1e-5)
            assert set(weak[node]) == {int(row["annotated"])}
            assert int(row["enlarged"]) == (numbers(row, "short_axis_mm")[0] >= 10)
            assert row["enlarged"] == "1" or row["annotated"] == "0"
            long, short = np.diff(np.reshape(numbers(row, *end_columns()), (2, 2, 3)), axis=1)
            assert np.linalg.norm(short) == pytest.approx(float(row["short_axis_mm"]), rel=1e-6)
            assert np.linalg.norm(long) == pytest.approx(float(row["long_axis_mm"]), rel=1e-6)
        assert {row["annotated"] for row in nodes} == {"0", "1"}
    assert {row["case"] for row in rows} == set(CASES)


def test_a_case_depends_on_seed_and_number_alone(phantoms, tmp_path):
    arguments = ["-n", 2, "--first", 1, "--table", tmp_path / "nodes.tsv", "-j", 2]
    result = succeed("lnq-phantom", *arguments, "-O", tmp_path)
    names = (CASES[1], "phantom0-0002")
    assert result.lines == [f"{tmp_path}/ct/{name}.nii.gz" for name in names]
    assert only(files(tmp_path), CASES[1]) == only(files(phantoms), CASES[1])
    assert len(only(files(tmp_path), names[1])) == len(FOLDERS)
    before, after = (
        [row for row in rows_of((folder / "nodes.tsv").read_text()) if row["case"] == CASES[1]]
        for folder in (phantoms, tmp_path)
    )
    assert before == after


def test_another_seed_makes_another_cohort_under_another_name(phantoms, tmp_path):
    result = succeed("lnq-phantom", "-n", 1, "--seed", 7, "--nii", "-0", "-O", tmp_path)
    assert result.out == f"{tmp_path}/ct/phantom7-0000.nii\0"
    other = load(tmp_path / "ct" / "phantom7-0000.nii")
    for case in CASES:
        ct = load(phantoms / "ct" / f"{case}.nii.gz")
        assert ct.shape != other.shape or (ct != other).mean() > 0.5


def test_easy_nodes_are_bright(phantoms, tmp_path):
    succeed("lnq-phantom", "-n", 1, "--profile", "easy", "-O", tmp_path)
    name = f"{CASES[0]}.nii.gz"
    for folder, low, high in ((tmp_path, 200, 260), (phantoms, 0, 150)):
        hu = load(folder / "ct" / name)[load(folder / "truth" / name) != 0]
        assert low < np.median(hu) < high


def test_resuming_makes_what_is_missing_and_keeps_the_rest(phantoms, tmp_path):
    cohort = tmp_path / "cohort"
    shutil.copytree(phantoms, cohort)
    (cohort / "anatomy" / f"{CASES[0]}.nii.gz").unlink()
    kept = cohort / "ct" / f"{CASES[1]}.nii.gz"
    before = kept.stat()
    refused = run("lnq-phantom", "-n", 2, "-O", cohort)
    assert refused.status == 1
    assert f"lnq-phantom: {CASES[0]}: {cohort}/ct/{CASES[0]}.nii.gz exists" in refused.err
    result = succeed("lnq-phantom", "-n", 2, "-O", cohort, "-s")
    assert result.lines == [f"{cohort}/ct/{case}.nii.gz" for case in CASES]
    assert result.err == ""
    assert files(cohort) == files(phantoms)
    assert kept.stat().st_ino == before.st_ino
    other = run("lnq-phantom", "-n", 1, "--profile", "easy", "-O", cohort, "-s")
    assert other.status == 1
    assert "was made with --profile realistic, now easy" in other.err
    assert files(cohort) == files(phantoms)


def test_a_kept_cohort_still_has_its_table(phantoms, tmp_path):
    table = succeed("lnq-phantom", "-n", 2, "-O", phantoms, "-s", "--table", "-").out
    assert table == (phantoms / "nodes.tsv").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("-n", 1), "Missing option '-O'"),
        (("-O", "out"), "Missing option '-n'"),
        (("-n", 0, "-O", "out"), "0 is not in the range x>=1"),
        (("-n", 1, "--seed", -1, "-O", "out"), "-1 is not in the range x>=0"),
        (("-n", 1, "-O", "out", "-f", "-s"), "-s and -f exclude each other"),
        (("-n", 1, "-O", "out", "--tumors", 1.5), "1.5 is not in the range 0<=x<=1"),
        (("-n", 1, "-O", "out", "--phase", "late"), "'late' is not one of 'none', 'weak', 'high'"),
        (("-n", 1, "-O", "out", "--size", "huge"), "'huge' is not one of 'small', 'full'"),
        (
            ("-n", 1, "-O", "out", "--table", "t.nii"),
            "t.nii: a table is named .tsv, .csv",
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in usage_error("lnq-phantom", *options)
    assert not (tmp_path / "out").exists()


COHORTS = {
    "ct-lymph-nodes": {"ct", "truth", "standard", "anatomy", "instances"},
    "lnq2023": {"ct", "truth", "weak", "anatomy", "instances", "tumour"},
    "nsclc": {"ct", "truth", "anatomy", "instances", "tumour"},
}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory) -> Path:
    """Return a folder of two cases of each cohort, with their tables."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name in COHORTS:
        arguments = ["-n", 2, "--seed", 3, "--profile", name, "--table", folder / f"{name}.tsv"]
        succeed("lnq-phantom", *arguments, "-O", folder / name)
    return folder


@pytest.mark.parametrize("name", COHORTS)
def test_a_cohort_has_the_annotation_of_its_data_set(cohorts, name):
    assert {path.name for path in (cohorts / name).iterdir()} == COHORTS[name]
    rows = rows_of((cohorts / f"{name}.tsv").read_text())
    for case in ("phantom3-0000", "phantom3-0001"):
        images = {
            folder: load(cohorts / name / folder / f"{case}.nii.gz") for folder in COHORTS[name]
        }
        nodes = [row for row in rows if row["case"] == case]
        drawn = [int(row["id"]) for row in nodes if row["annotated"] == "1"]
        for folder in {"weak", "standard"} & images.keys():
            np.testing.assert_array_equal(images[folder], np.isin(images["instances"], drawn))
            assert drawn
        if name == "nsclc":
            assert drawn == []
            assert images["tumour"].any()
        if "tumour" in images:
            assert not (images["tumour"] & images["truth"]).any()
            assert not images["anatomy"][images["tumour"] != 0].any()
        assert len({row["phase"] for row in nodes}) == 1
        hu = images["ct"][images["anatomy"] == 52].mean()  # the aorta
        low, high = {"none": (25, 60), "weak": (60, 130), "high": (140, 310)}[nodes[0]["phase"]]
        assert low < hu < high


def test_a_tumor_becomes_known_background_and_the_rest_unknown(cohorts, tmp_path):
    """As in the README's recipe for CTs without a drawn node."""
    tumours = cohorts / "nsclc" / "tumour"
    arguments = ["--values", "none", "--background", tumours, "--strategy", "mask"]
    done = succeed("lnq-weaklabel", *sorted(tumours.iterdir()), *arguments, "-O", tmp_path)
    assert done.err == ""
    for path in tumours.iterdir():
        np.testing.assert_array_equal(load(tmp_path / path.name), np.where(load(path), 0, 2))


def test_phase_and_tumors_can_be_chosen_and_are_recorded(phantoms, tmp_path):
    chosen = ["-n", 1, "--phase", "high", "--tumors", 1, "-O", tmp_path, "--nii"]
    table = succeed("lnq-phantom", *chosen, "--table", "-").out
    assert {row["phase"] for row in rows_of(table)} == {"high"}
    truth, tumor, ct = (
        load(tmp_path / folder / f"{CASES[0]}.nii") for folder in ("truth", "tumour", "ct")
    )
    np.testing.assert_array_equal(truth, load(phantoms / "truth" / f"{CASES[0]}.nii.gz"))
    assert tumor.any()
    assert ct[load(tmp_path / "anatomy" / f"{CASES[0]}.nii") == 52].mean() > 140
    assert succeed("lnq-phantom", *chosen, "-s").err == ""
    other = run("lnq-phantom", "-n", 1, "-O", tmp_path, "--nii", "-s")
    assert "was made with --phase high, now unset; --tumors 1, now unset" in other.err


def test_without_tumors_there_is_no_folder_of_them(phantoms, tmp_path):
    arguments = ["-n", 1, "--profile", "lnq2023", "--tumors", 0, "-O", tmp_path]
    succeed("lnq-phantom", *arguments)
    assert {path.name for path in tmp_path.iterdir()} == COHORTS["lnq2023"] - {"tumour"}
    assert not (phantoms / "tumour").exists()


def test_a_foreign_file_among_the_outputs_is_not_replaced(tmp_path):
    arguments = ["lnq-phantom", "-n", 1, "-O", tmp_path]
    succeed(*arguments)
    (tmp_path / "weak" / "phantom0-0000.nii.gz").unlink()
    foreign = tmp_path / "truth" / "phantom0-0000.nii.gz"
    foreign.write_bytes(b"corrected by hand")
    result = run(*arguments, "-s")
    assert result.status == 1
    assert str(foreign) in result.err
    assert foreign.read_bytes() == b"corrected by hand"
