"""TotalSegmentator's weights, and where its maps lie. Runs of it: tests/cli/test_anatomy.py."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lnqtools.errors import LnqError
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, carry_box

pytest.importorskip("totalsegmentator")

from lnqtools.images.volume import Volume
from lnqtools.totalseg import weights
from lnqtools.totalseg.segmenter import Segmenter, _lattice_of_map
from tests.conftest import left_by_a_killed_run

FAST = "Dataset297_TotalSegmentator_total_3mm_1559subj"
MODEL = "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"
FAST_MODEL = {297: Path(FAST, MODEL)}
STRAIGHT = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of weights."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    return tmp_path / "weights"


def write_model(place: Path) -> Path:
    """Write files that look like a whole model; return the checkpoint."""
    model = place / FAST / MODEL
    (model / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (model / name).write_text("{}")
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("data.pkl", b"x" * 1000)
    return checkpoint


def test_weights_lie_where_the_package_looks(monkeypatch, tmp_path):
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.delenv("TOTALSEG_HOME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.weights_folder() == tmp_path / ".totalsegmentator" / "nnunet" / "results"
    monkeypatch.setenv("HOME", "/")
    assert weights.weights_folder() == Path("/tmp/.totalsegmentator/nnunet/results")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    assert weights.weights_folder() == tmp_path / "home" / "nnunet" / "results"
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "shared"))
    assert weights.weights_folder() == tmp_path / "shared"


@pytest.mark.parametrize(
    ("task", "fast", "models"),
    [
        ("total", True, (297,)),
        ("total", False, (291, 292, 293, 294, 295)),
        ("lung_vessels", False, (297, 117)),
        ("trunk_cavities", False, (343,)),
    ],
)
def test_models_of_the_tasks(task, fast, models):
    assert tuple(weights.models_of(task, fast)) == models


def test_a_model_is_the_folder_that_the_package_reads():
    assert weights.models_of("total", fast=True) == {297: Path(FAST, MODEL)}
    trained = {number: path.parts[1] for number, path in weights.models_of("total", False).items()}
    assert set(trained.values()) == {"nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"}
    assert weights.models_of("lung_vessels", fast=False) == {
        297: Path(FAST, MODEL),
        117: Path(
            "Dataset117_lung_airways_arteries_veins_282subj",
            "nnUNetTrainerSkeletonRecall__nnUNetPlans__3d_fullres",
        ),
    }


def test_only_total_is_fast():
    with pytest.raises(LnqError, match="lung_vessels has no fast variant"):
        weights.models_of("lung_vessels", fast=True)


def test_whole_weights_pass(place):
    write_model(place)
    assert weights.missing_weights(FAST_MODEL) == {}
    weights.require_weights("total", fast=True)


def test_missing_weights_are_named_with_the_place_and_the_way_on(place):
    with pytest.raises(LnqError) as error:
        weights.require_weights("total", fast=True)
    assert str(error.value) == (
        f"TotalSegmentator's weights in {place} are not whole: {FAST} is missing; on a machine "
        "with a network totalseg_download_weights -t total_fast fetches them "
        "($TOTALSEG_WEIGHTS_PATH names another place)"
    )


def test_each_missing_model_is_named(place):
    write_model(place)
    with pytest.raises(
        LnqError, match=r"Dataset291.* is missing; .*Dataset295.* is missing; on a "
    ):
        weights.require_weights("total", fast=False)
    with pytest.raises(LnqError, match=r"Dataset117.* -t lung_vessels fetches them \("):
        weights.require_weights("lung_vessels", fast=False)
    (place / FAST / MODEL / "plans.json").unlink()
    with pytest.raises(
        LnqError, match=r"-t lung_vessels && .* -t total_fast fetches them, once such fol"
    ):
        weights.require_weights("lung_vessels", fast=False)
    with pytest.raises(LnqError, match="totalseg_download_weights -t trunk_cavities "):
        weights.require_weights("trunk_cavities", fast=False)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("plans.json", "lacks plans.json (an interrupted download?)"),
        ("dataset.json", "lacks dataset.json (an interrupted download?)"),
        ("fold_0/checkpoint_final.pth", "lacks checkpoint_final.pth (an interrupted download?)"),
    ],
)
def test_a_half_unzipped_model_is_not_whole(place, file, sentence):
    write_model(place)
    (place / FAST / MODEL / file).unlink()
    assert weights.missing_weights(FAST_MODEL) == {297: f"{FAST} {sentence}"}


def test_a_folder_alone_is_not_whole(place):
    (place / FAST).mkdir(parents=True)
    assert weights.missing_weights(FAST_MODEL) == {
        297: f"{FAST} lacks {MODEL} (an interrupted download?)"
    }


@pytest.mark.parametrize("file", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("content", [b"", b'{"configurations": {"3d', b"[]", b"\0" * 100])
def test_half_a_json_file_is_not_whole(place, file, content):
    write_model(place)
    (place / FAST / MODEL / file).write_bytes(content)
    assert weights.missing_weights(FAST_MODEL) == {
        297: f"{FAST} holds a truncated {file} (an interrupted download?)"
    }


def test_files_of_another_trainer_are_not_looked_at(place):
    """TotalSegmentator reads one folder; what lies beside it does not help."""
    write_model(place)
    other = place / FAST / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    other.mkdir()
    (place / FAST / MODEL / "plans.json").rename(other / "plans.json")
    assert weights.missing_weights(FAST_MODEL) == {
        297: f"{FAST} lacks plans.json (an interrupted download?)"
    }
    (other / "plans.json").rename(place / FAST / MODEL / "plans.json")
    other.rmdir()
    (place / FAST / MODEL).rename(other)
    assert weights.missing_weights(FAST_MODEL) == {
        297: f"{FAST} lacks {MODEL} (an interrupted download?)"
    }


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_not_whole(place, share):
    checkpoint = write_model(place)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert list(weights.missing_weights(FAST_MODEL)) == [297]
    assert "truncated checkpoint_final.pth" in weights.missing_weights(FAST_MODEL)[297]


def downloader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let the package's download, in its own process, get this instead of what it asks for."""
    (tmp_path / "served.zip").write_bytes(content)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"""
import pathlib
import requests

class Answer:
    headers = {{}}
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def raise_for_status(self): pass
    def iter_content(self, chunk_size):
        yield pathlib.Path({str(tmp_path / "served.zip")!r}).read_bytes()

requests.get = lambda url, **options: Answer()
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def zipped(tmp_path: Path) -> bytes:
    """Return a release of the fast model."""
    checkpoint = write_model(tmp_path / "release")
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        for path in sorted((tmp_path / "release").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "release"))
    assert checkpoint.is_file()
    return (tmp_path / "release.zip").read_bytes()


@pytest.mark.slow
def test_a_download_replaces_what_an_interrupted_one_left(place, tmp_path, monkeypatch):
    write_model(place).unlink()
    (place / FAST / "half").write_text("of it")
    left_by_a_killed_run(place / "lnq-download.x").mkdir()
    downloader(tmp_path, monkeypatch, zipped(tmp_path))
    weights.fetch_weights("total", fast=True)
    assert weights.missing_weights(FAST_MODEL) == {}
    assert not (place / FAST / "half").exists()
    assert [path.name for path in place.iterdir()] == [FAST], "no temporary folder is left"


@pytest.mark.slow
def test_a_download_that_fails_changes_nothing(place, tmp_path, monkeypatch):
    write_model(place).unlink()
    downloader(tmp_path, monkeypatch, zipped(tmp_path)[:300])
    with pytest.raises(LnqError, match=r"the download of TotalSegmentator's weights failed: .*zip"):
        weights.fetch_weights("total", fast=True)
    assert [path.name for path in place.iterdir()] == [FAST]
    assert (place / FAST / MODEL / "plans.json").is_file()


def test_whole_weights_are_not_fetched_again(place, monkeypatch):
    write_model(place)
    monkeypatch.setattr(weights, "_run_download", lambda *arguments: pytest.fail("it downloads"))
    weights.fetch_weights("total", fast=True)


# Lattices


def test_a_low_resolution_map_reaches_from_the_first_to_the_last_voxel_of_the_ct():
    """Its header says 3 mm from the first voxel on, which is 3.8 mm short at the far end."""
    ct = Grid((101, 200, 500), (2.5, 0.9, 0.7), (10.0, 20.0, -30.0), STRAIGHT)
    header = Grid((84, 60, 117), (3.0, 3.0, 3.0), ct.origin, STRAIGHT)
    found = _lattice_of_map(header, ct)
    np.testing.assert_allclose(found.world([0, 0, 0]), ct.world([0, 0, 0]))
    np.testing.assert_allclose(found.world([83, 59, 116]), ct.world([100, 199, 499]))
    assert np.abs(header.world([83, 59, 116]) - ct.world([100, 199, 499])).max() > 1


def test_a_map_of_the_cts_size_lies_on_its_grid():
    ct = Grid((10, 20, 30), (2.5, 0.9, 0.7), (1.0, 2.0, 3.0), STRAIGHT)
    assert _lattice_of_map(ct, ct) == ct


def test_a_map_elsewhere_is_refused():
    ct = Grid((10, 20, 30), (2.5, 0.9, 0.7), (1.0, 2.0, 3.0), STRAIGHT)
    moved = Grid(ct.shape, ct.spacing, (1.0, 2.0, 53.0), STRAIGHT)
    with pytest.raises(LnqError, match="lies 50 mm away"):
        _lattice_of_map(moved, ct)


@pytest.mark.parametrize(("fast", "size"), [(True, "10000 × 20000"), (False, "20000 × 40000")])
def test_a_ct_that_memory_does_not_hold_is_refused_before_anything_starts(fast, size, monkeypatch):
    """Voxels of a meter, for which a header in meters is read."""
    monkeypatch.setattr("lnqtools.totalseg.segmenter._furnish", lambda home, weights: None)
    grid = Grid((30, 60, 60), (1000.0, 1000.0, 1000.0), (0.0, 0.0, 0.0), STRAIGHT)
    with (
        Segmenter("total", fast=fast) as segmenter,
        pytest.raises(LnqError, match=f"would measure {size}.* voxels .* more than this machine"),
    ):
        segmenter.segment(Volume(np.zeros(grid.shape, np.int16), grid))


def test_a_ct_thinner_than_half_a_voxel_is_refused(monkeypatch):
    """0.74 mm rounds to no voxel of 1.5 mm, as in TotalSegmentator's resampling."""
    monkeypatch.setattr("lnqtools.totalseg.segmenter._furnish", lambda home, weights: None)
    grid = Grid((9, 9, 1), (2.0, 2.0, 0.74), (0.0, 0.0, 0.0), STRAIGHT)
    with (
        Segmenter("total") as segmenter,
        pytest.raises(
            LnqError, match=r"is thinner than half a voxel of TotalSegmentator's 1\.5 mm"
        ),
    ):
        segmenter.segment(Volume(np.zeros(grid.shape, np.int16), grid))


def test_a_box_holds_the_voxels_whose_centers_lie_in_it():
    """Voxels 1 and 2 of 3 mm reach from 1.5 to 7.5 mm; of 1 mm, centers 2 to 7 lie there."""
    coarse = Grid((4, 4, 4), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), STRAIGHT)
    fine = Grid((12, 12, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), STRAIGHT)
    box = Box.of((1, 0, 2), (3, 4, 4))
    assert carry_box(box, coarse, fine) == (slice(2, 8), slice(0, 11), slice(5, 9))
    assert carry_box(box, coarse, coarse) == box


def test_a_box_is_carried_onto_mirrored_axes():
    coarse = Grid((4, 4, 4), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), STRAIGHT)
    mirrored = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    other = Grid((10, 10, 10), (1.0, 1.0, 1.0), (9.0, 0.0, 0.0), mirrored)
    box = Box.of((0, 1, 1), (1, 2, 2))
    assert carry_box(box, coarse, other) == (slice(0, 2), slice(2, 5), slice(5, 8))


def test_the_settings_of_the_private_home_send_nothing(place, tmp_path, monkeypatch):
    """The user's license comes along, and nothing else of theirs."""
    from lnqtools.totalseg.segmenter import Segmenter

    write_model(place)
    home = tmp_path / "user"
    home.mkdir()
    user = {"totalseg_id": "x", "send_usage_stats": True, "license_number": "aca_123"}
    (home / "config.json").write_text(json.dumps(user))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    with Segmenter("total", fast=True) as segmenter:
        private = Path(segmenter._home.name)
        settings = json.loads((private / "config.json").read_text())
        assert settings["send_usage_stats"] is False
        assert (settings["totalseg_id"], settings["license_number"]) == ("", "aca_123")
        assert [path.name for path in (private / "weights").iterdir()] == [FAST]
    assert not private.exists()
    assert json.loads((home / "config.json").read_text()) == user
