"""Models in archives: what is unpacked, what is refused, what is left behind."""

from __future__ import annotations

import stat
import tempfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet import model_folder
from lnqtools.nnunet.model_folder import find_checkpoints, open_model

MODEL = "Dataset007_LN/nnUNetTrainer__nnUNetPlans__3d_fullres"
OTHER = "Dataset007_LN/nnUNetTrainer__nnUNetPlans__2d"


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch) -> Path:
    """Let temporary folders be made where the test can see what is left of them."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def archive(path: Path, *names: str, contents: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in names:
            opened.writestr(name, contents)
    return path


def exported(path: Path, *models: str) -> Path:
    """Write what nnUNetv2_export_model_to_zip writes, with folds 0 and 1."""
    parts = ("debug.json", "checkpoint_final.pth", "progress.png", "validation/summary.json")
    names = [f"{m}/fold_{fold}/{part}" for m in models for fold in (0, 1) for part in parts]
    metadata = ("plans.json", "dataset_fingerprint.json", "dataset.json")
    return archive(path, *names, *(f"{m}/{name}" for m in models for name in metadata))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_is_given_as_it_is(tmp_path, scratch):
    with open_model(tmp_path / "model") as folder:
        assert folder == tmp_path / "model"
        assert list(scratch.iterdir()) == []


def test_of_an_archive_only_what_runs_the_model_is_unpacked(tmp_path, scratch):
    with open_model(exported(tmp_path / "m.zip", MODEL)) as folder:
        assert folder.parent == scratch
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert files(folder) == [
            f"{MODEL}/dataset.json",
            *(f"{MODEL}/fold_{fold}/checkpoint_final.pth" for fold in (0, 1)),
            f"{MODEL}/plans.json",
        ]
        assert [path.parent.name for path in find_checkpoints(folder)] == ["fold_0", "fold_1"]
    assert list(scratch.iterdir()) == []


def test_only_the_folds_and_checkpoints_asked_for_are_unpacked(tmp_path):
    names = [f"m/fold_{f}/checkpoint_{c}.pth" for f in (0, 1) for c in ("final", "best", "mine")]
    source = archive(tmp_path / "m.zip", *names)
    with open_model(source, ["1"]) as folder:
        assert files(folder) == [f"m/fold_1/checkpoint_{c}.pth" for c in ("best", "final")]
    with open_model(source, None, "checkpoint_mine.pth") as folder:
        assert files(folder) == [f"m/fold_{f}/checkpoint_mine.pth" for f in (0, 1)]


def test_nothing_is_left_after_an_error(tmp_path, scratch):
    with pytest.raises(ZeroDivisionError), open_model(exported(tmp_path / "m.zip", MODEL)):
        raise ZeroDivisionError
    assert list(scratch.iterdir()) == []


def test_one_of_several_models_is_named_by_its_path(tmp_path):
    source = exported(tmp_path / "m.zip", MODEL, OTHER)
    with open_model(source) as folder, pytest.raises(LnqError, match=f"add /{OTHER} or {MODEL} to"):
        find_checkpoints(folder)
    with open_model(source / OTHER) as folder:
        assert find_checkpoints(folder)[0].parts[-3] == "nnUNetTrainer__nnUNetPlans__2d"
    with open_model(source / "Dataset008") as folder, pytest.raises(LnqError, match="no such"):
        find_checkpoints(folder)


ESCAPES = (
    "/etc/plans.json",
    "../plans.json",
    "m/../../plans.json",
    "..",
    "..\\plans.json",
    "C:/plans.json",
    "//server/share/plans.json",
)


@pytest.mark.parametrize("name", ESCAPES)
def test_members_that_could_leave_the_folder_are_refused(tmp_path, scratch, name):
    good = ("m/fold_0/checkpoint_final.pth", "m/plans.json")
    source = archive(tmp_path / "m.zip", *good, name)
    with pytest.raises(LnqError, match="could leave its folder: do not trust"), open_model(source):
        pass
    assert files(tmp_path) == ["m.zip"]
    assert list(scratch.iterdir()) == []


def test_links_are_refused(tmp_path, scratch):
    link = zipfile.ZipInfo("m/fold_0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as opened:
        opened.writestr(link, str(tmp_path))
        opened.writestr("m/fold_0/checkpoint_final.pth", b"x")
    with pytest.raises(LnqError, match="'m/fold_0', a link"), open_model(tmp_path / "m.zip"):
        pass
    assert files(tmp_path) == ["m.zip"]


@given(st.text(alphabet="./\\:aC ", min_size=1, max_size=12))
def test_whatever_a_member_is_called_it_is_refused_or_stays_inside(name):
    member = zipfile.ZipInfo("a")
    member.filename = name
    try:
        path = model_folder.path_within(member)
    except LnqError:
        assert name.startswith("/") or ".." in name or "\\" in name or ":" in name
        return
    assert (Path("/inside") / path).resolve().is_relative_to("/inside")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path):
    with (
        pytest.raises(LnqError, match=r"holds plans\.json twice"),
        open_model(archive(tmp_path / "m.zip", "m/plans.json", "m/plans.json")),
    ):
        pass


def test_damaged_archives_are_told(tmp_path):
    whole = exported(tmp_path / "m.zip", MODEL).read_bytes()
    (tmp_path / "torn.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("not found\n")
    stored = tmp_path / "flipped.zip"
    with zipfile.ZipFile(stored, "w") as opened:
        opened.writestr("m/plans.json", b"plans" * 20)
    stored.write_bytes(stored.read_bytes().replace(b"plansplans", b"plansPlans", 1))
    for name in ("torn", "text", "flipped"):
        with (
            pytest.raises(LnqError, match="neither a folder nor a whole zip archive"),
            open_model(tmp_path / f"{name}.zip"),
        ):
            pass


def test_an_encrypted_archive_is_told(tmp_path):
    source = archive(tmp_path / "m.zip", "m/plans.json")
    content = bytearray(source.read_bytes())
    content[6] |= 1  # the flag in the member's header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    source.write_bytes(content)
    with pytest.raises(LnqError, match=r"cannot be unpacked: .*encrypted"), open_model(source):
        pass


def test_an_archive_larger_than_the_disk_is_refused_before_it_fills_it(
    tmp_path, scratch, monkeypatch
):
    source = archive(tmp_path / "m.zip", "m/plans.json", contents=bytes(3_000_000))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(model_folder.shutil, "disk_usage", lambda folder: usage(2_000_000))
    with pytest.raises(LnqError, match=rf"0\.0 GB, more than {scratch}.*set TMPDIR"):
        open_model(source).__enter__()
    assert files(scratch) == []


# Near a model


def refusal(path: Path) -> str:
    with pytest.raises(LnqError) as caught, open_model(path) as folder:
        find_checkpoints(folder)
    return str(caught.value)


def test_a_part_of_a_model_says_which_folder_to_give(tmp_path, monkeypatch):
    fold = tmp_path / "m" / "fold_2"
    fold.mkdir(parents=True)
    for name in ("m/plans.json", "m/fold_2/checkpoint_best.pth"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    alone = "is a fold of a model: give the folder above (--folds 2 for it alone)"
    assert refusal(fold) == alone
    above = "is one file of a model: give the folder above fold_2"
    assert refusal(fold / "checkpoint_best.pth") == above
    assert refusal(tmp_path / "m" / "plans.json").endswith("give the folder that holds fold_*")
    monkeypatch.chdir(fold)
    assert refusal(Path()) == alone
    assert refusal(Path("checkpoint_best.pth")) == above


@pytest.mark.parametrize("level", ["", "nnUNetTrainerV2__nnUNetPlansv2.1/"])
@pytest.mark.parametrize("fold", ["fold_0", "all"])
def test_a_model_of_nnunet_v1_is_told(tmp_path, level, fold):
    files = [f"{level}plans.pkl", f"{level}{fold}/model_final_checkpoint.model"]
    for name in files:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"x")
    assert refusal(tmp_path / "m").startswith("is a model of nnU-Net v1 (plans.pkl, *.model)")
    assert refusal(archive(tmp_path / "m.zip", *files)).startswith("is a model of nnU-Net v1")
