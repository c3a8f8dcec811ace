"""The tools joined by pipes, as a user writes them, with spaces and line ends in every path."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Result, load, matrix_of, run, shell, succeed

FOLDERS = {"ct": "ct", "weak": "ann", "anatomy": "ts", "truth": "truth"}
CASES = 3

LABELS = (
    "find ann -name '*.nii.gz' -print0 | lnq-weaklabel -0 -T - --strategy mask -O mask"
    " | lnq-crop -0 -T - --label --like crop -O cropped"
    " | lnq-pseudolabel -0 -T - --anatomy ts -O labels"
)
PREDICTIONS = (
    "find ct -name '*.nii.gz' -print0 | lnq-infer -0 -T - -m model --lungs hu --threads 1 -O pred"
    " | lnq-filter-diameter -0 -T - -O final"
    " | lnq-metrics -0 -T - --reference truth --summary"
)
INFER = "-m model --threads 1 -O pred -s"
PARALLEL = f"find ct -name '*.nii.gz' | xargs -P 2 -n 2 lnq-infer {INFER}"
ODD_PARALLEL = f"find ct -name '*.nii.gz' -print0 | xargs -0 -P 2 -n 1 lnq-infer -0 {INFER}"


def awkward(folder: Path) -> Path:
    folder = folder / "a folder\nof phantoms"
    folder.mkdir()
    return folder


def paths(done: Result) -> list[str]:
    """Return the NUL-ended paths of a tool's output."""
    assert done.status == 0, done.err
    assert done.out.endswith("\0")
    return done.out[:-1].split("\0")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Make phantoms, in folders and files with spaces and line ends in their names."""
    folder = awkward(tmp_path_factory.mktemp("pipe"))
    succeed("lnq-phantom", "-n", CASES, "--seed", 5, "-O", folder / "made")
    for made, name in FOLDERS.items():
        (folder / name).mkdir()
        for number, path in enumerate(sorted((folder / "made" / made).iterdir())):
            path.rename(folder / name / f"case {number}\nof {CASES}.nii.gz")
    cropped = shell("lnq-crop -0 ct/*.nii.gz -O crop", folder)
    assert len(paths(cropped)) == CASES
    return folder


def names(cohort: Path) -> list[str]:
    return sorted(path.name for path in (cohort / "ct").iterdir())


def label_of(cohort: Path, name: str):
    """Return the training label that a case must get, and its grid."""
    from lnqtools.anatomy.lungs import find_lungs
    from lnqtools.images.volume import read_volume

    ct = read_volume(cohort / "ct" / name)
    box = find_lungs(ct, None).box
    drawn, anatomy = (load(cohort / kind / name) != 0 for kind in ("ann", "ts"))
    return np.where(drawn, 1, np.where(anatomy, 0, 2))[box], ct.grid.cropped(box)


def test_annotations_become_training_labels(cohort):
    done = shell(LABELS, cohort)
    made = paths(done)
    assert sorted(made) == [f"labels/{name}" for name in names(cohort)]
    found = shell("find ann -name '*.nii.gz' -print0", cohort)
    assert [Path(path).name for path in made] == [Path(path).name for path in paths(found)]
    for name in names(cohort):
        label, grid = label_of(cohort, name)
        path = cohort / "labels" / name
        assert np.array_equal(load(path), label)
        assert set(np.unique(label)) == {0, 1, 2}
        np.testing.assert_allclose(matrix_of(path), grid.affine, atol=1e-4)
        drawn = np.count_nonzero(load(cohort / "ann" / name))
        assert np.count_nonzero(label == 1) == drawn > 0  # the box holds every node


def test_a_reader_that_leaves_early_ends_the_pipe_quietly(cohort, tmp_path):
    source = "find ann -name '*.nii.gz' -print0 | "
    weak = f"lnq-weaklabel -0 -T - --strategy mask -O '{tmp_path}'"
    done = shell(f"{source}{weak} | head -z -n 1", cohort)
    assert done.status in (141, 0)  # 0 where head is so slow that all is written before it ends
    assert done.err == ""
    (first,) = done.out[:-1].split("\0")
    assert set(np.unique(load(first))) == {1, 2}
    assert all(path.suffix == ".gz" for path in tmp_path.iterdir())
    again = shell(f"{source}{weak} -s", cohort)
    assert len(paths(again)) == CASES
    assert len(list(tmp_path.iterdir())) == CASES


# With a network


@pytest.fixture(scope="module")
def model(cohort) -> Path:
    """Return an untrained model that sees nodes in many places, large ones among them."""
    pytest.importorskip("nnunetv2")
    from tests.nnunet_data import random_model

    return random_model(
        cohort / "model", spacing=(8.0, 8.0, 8.0), patch=(32, 48, 48), eagerness=1.5
    )


@pytest.fixture(scope="module")
def predicted(cohort, model) -> dict[str, np.ndarray]:
    """Return each case's mask, predicted without the tools."""
    from lnqtools.anatomy.lungs import find_lungs
    from lnqtools.images.volume import Volume, read_volume
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(model, device="cpu", threads=1)
    masks = {}
    for name in names(cohort):
        ct = read_volume(cohort / "ct" / name)
        box = find_lungs(ct, None).box
        masks[name] = np.zeros(ct.array.shape, np.uint8)
        masks[name][box] = predictor.predict(Volume(ct.array[box], ct.grid.cropped(box))).mask
    return masks


@pytest.mark.slow
def test_cts_become_a_table(cohort, predicted):
    from lnqtools.components.labeling import find_components, keep
    from lnqtools.components.sizes import large_enough
    from lnqtools.images.volume import read_label
    from lnqtools.metrics import masks as metrics

    done = shell(PREDICTIONS, cohort, forked=True)
    assert done.status == 0, done.err
    expected = []
    for name in names(cohort):
        assert np.array_equal(load(cohort / "pred" / name), predicted[name])
        truth = read_label(cohort / "truth" / name)
        found = find_components(predicted[name], truth.spacing)
        kept = large_enough(found, 9.5)
        assert 0 < np.count_nonzero(kept) < kept.size
        final = keep(found, kept)
        assert np.array_equal(load(cohort / "final" / name), final)
        assert np.array_equal(matrix_of(cohort / "final" / name), matrix_of(cohort / "ct" / name))
        expected.append(metrics.evaluate(final, truth.array, truth.spacing))
    summary = {row["metric"]: row for row in rows(done.out)}
    for metric in ("dice", "assd_mm", "hd95_mm", "volume_error_ml", "components_prediction"):
        values = [row[metric] for row in expected]
        row = summary[metric]
        assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-6)
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), rel=1e-6)
        assert (row["n"], row["n_undefined"]) == (str(CASES), "0")
    each = shell(
        "find final -name '*.nii.gz' -print0 | sort -z | lnq-metrics -0 -T - --reference truth",
        cohort,
    )
    dice = [float(row["dice"]) for row in rows(each.out.replace("\\n", " "))]
    assert dice == pytest.approx([row["dice"] for row in expected], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "stem", "count", "end"),
    [
        (PARALLEL, "case{}", 3, "\n"),  # plain xargs takes no spaces in names
        (ODD_PARALLEL, "case {}\nof many", 2, "\0"),
    ],
    ids=["plain", "odd"],
)
def test_many_processes_share_the_work_and_keep_it(
    cohort, model, predicted, tmp_path, command, stem, count, end
):
    folder = awkward(tmp_path)
    (folder / "ct").mkdir()
    (folder / "model").symlink_to(model)
    expected = {}
    for number in range(count):
        source = names(cohort)[number % CASES]
        name = f"{stem.format(number)}.nii.gz"
        (folder / "ct" / name).symlink_to(cohort / "ct" / source)
        expected[name] = predicted[source]
    states = []
    for _ in range(2):
        done = shell(command, folder, forked=True)
        assert done.status == 0, done.err
        assert sorted(done.out.split(end)) == ["", *sorted(f"pred/{name}" for name in expected)]
        made = sorted((folder / "pred").iterdir())
        states.append([(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in made])
    assert states[0] == states[1]
    assert [path.name for path in made] == sorted(expected)
    for path in made:
        assert np.array_equal(load(path), expected[path.name])


@pytest.mark.slow
def test_a_scan_without_lungs_does_not_stop_a_prediction(cohort, model, predicted, real, tmp_path):
    bad = real / "totalsegmentator" / "example_ct_sm.nii.gz"
    good = cohort / "ct" / names(cohort)[0]
    done = run("lnq-infer", bad, good, "-m", model, "-O", tmp_path, "--threads", 1)
    assert done.status == 1
    assert f"lnq-infer: {bad}: no lungs found" in done.err
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert np.array_equal(load(tmp_path / good.name), predicted[good.name])
