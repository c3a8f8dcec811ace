"""Models fetched from files and from a server: whole and right, or refused; and by their names."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnqtools.errors import LnqError
from lnqtools.models import store
from lnqtools.models.catalogue import read_catalogue
from lnqtools.models.store import fetch, home, read_fetched, resolve
from tests.models_data import Mirror, mirror_of, pack, served, write_catalogue, write_stand_in

CHECKPOINTS = [f"fold_{fold}/checkpoint_final.pth" for fold in (0, 1)]
FILES = ["dataset.json", *CHECKPOINTS, "plans.json"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Keep models in the test's folder."""
    monkeypatch.setenv("LNQ_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def published(tmp_path) -> Path:
    """Return a folder with a model, its archives, one a fold, and their catalogue."""
    folder = tmp_path / "published"
    model = write_stand_in(folder / "model")
    archives = [pack(folder / "meta.zip", model, "plans.json", "dataset.json")]
    archives += [pack(folder / f"{n}.zip", model, name) for n, name in enumerate(CHECKPOINTS)]
    write_catalogue(folder / "catalogue.json", *map(served, archives))
    return folder


@pytest.fixture
def mirror(published) -> Iterator[Mirror]:
    with mirror_of(published) as server:
        yield server


def get(catalogue: Path | str, **options) -> Path:
    """Fetch the model of a catalogue."""
    (entry,) = read_catalogue(str(catalogue))
    return fetch(entry, lambda number, done: None, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_right(folder: Path, published: Path) -> bool:
    found = contents(folder)
    receipt = json.loads(found.pop("lnq-model.json"))
    assert sorted(receipt["files"]) == FILES
    return found == contents(published / "model") and [
        path.name for path in folder.parent.iterdir()
    ] == [folder.name]


# Whole


def test_archives_in_a_folder_become_a_model(published, place):
    folder = get(published / "catalogue.json")
    assert folder == place / "nodes"
    assert is_right(folder, published)
    assert resolve("nodes") == str(folder)


def test_so_do_archives_and_single_files_on_a_server(published, mirror):
    model = published / "model"
    single = [served(model / name, f"model/{name}", to=name) for name in FILES[:2]]
    rest = pack(published / "rest.zip", model, *FILES[2:])
    write_catalogue(published / "mixed.json", *single, served(rest))
    folder = get(mirror.url("mixed.json"))
    assert is_right(folder, published)
    asked = [path for path, _ in mirror.asked]
    assert asked == ["/mixed.json", *(f"/model/{name}" for name in FILES[:2]), "/rest.zip"]
    assert read_fetched(folder).entry.parts[0].url == mirror.url("model/dataset.json")


def test_what_is_there_and_right_is_not_fetched_again(published, mirror):
    folder = get(mirror.url("catalogue.json"))
    before = folder.stat()
    mirror.asked.clear()
    assert get(mirror.url("catalogue.json")) == folder
    assert mirror.asked == [("/catalogue.json", None)]
    assert folder.stat() == before


# Broken off


@pytest.mark.parametrize("lengths", [True, False])
def test_a_download_that_broke_off_goes_on(published, mirror, place, lengths):
    mirror.lengths = lengths
    mirror.limits["0.zip"] = 1000
    with pytest.raises(LnqError, match=r"0\.zip .*0\.0 of 0\.0 MB are there, and the same command"):
        get(mirror.url("catalogue.json"))
    assert not (place / "nodes").exists()
    assert len(list(place.glob(".nodes.download/*.part"))) == 1
    mirror.asked.clear()
    assert is_right(get(mirror.url("catalogue.json")), published)
    asked = [("/catalogue.json", None), ("/0.zip", "bytes=1000-"), ("/1.zip", None)]
    assert mirror.asked == asked  # meta.zip was there


def test_it_begins_anew_where_the_server_knows_no_ranges(published, mirror):
    mirror.ranges = False
    mirror.limits["0.zip"] = 1000
    with pytest.raises(LnqError):
        get(mirror.url("catalogue.json"))
    assert is_right(get(mirror.url("catalogue.json")), published)


def test_or_where_what_was_there_is_damaged(published, mirror, place):
    mirror.limits["0.zip"] = 1000
    with pytest.raises(LnqError):
        get(mirror.url("catalogue.json"))
    (half,) = place.glob(".nodes.download/*.part")
    half.write_bytes(bytes(1000))
    assert is_right(get(mirror.url("catalogue.json")), published)
    assert [asked for path, asked in mirror.asked if path == "/0.zip"] == [
        *(None, "bytes=1000-", None)
    ]


def test_a_whole_download_under_the_name_of_a_half_one_is_taken(published, mirror, place):
    part = read_catalogue(str(published / "catalogue.json"))[0].parts[1]
    (place / ".nodes.download").mkdir(parents=True)
    shutil.copy(published / "0.zip", place / ".nodes.download" / f"{part.sha256}.part")
    assert is_right(get(mirror.url("catalogue.json")), published)
    assert "/0.zip" not in [path for path, _ in mirror.asked]


# Wrong


def cut(content: bytes) -> bytes:
    return content[:-7]


def longer(content: bytes) -> bytes:
    return content + b"more"


def damaged(content: bytes) -> bytes:
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


@pytest.mark.parametrize("change", [cut, longer, damaged])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_wrong_file_is_refused_and_nothing_of_it_kept(published, mirror, place, change, lengths):
    mirror.lengths = lengths
    right = (published / "1.zip").read_bytes()
    (published / "1.zip").write_bytes(change(right))
    with pytest.raises(LnqError, match=r"1\.zip ") as caught:
        get(mirror.url("catalogue.json"))
    if (change, lengths) == (cut, False):  # as if it had broken off: the next try tells
        with pytest.raises(LnqError, match="fewer than the catalogue says") as caught:
            get(mirror.url("catalogue.json"))
    assert "nothing of it was kept" in str(caught.value)
    assert [p.stat().st_size for p in place.glob(".nodes.download/*.part")] in ([], [0])
    assert not (place / "nodes").exists()
    (published / "1.zip").write_bytes(right)
    assert is_right(get(mirror.url("catalogue.json")), published)


def test_swapped_files_are_refused(published, place):
    one, other = (published / f"{n}.zip" for n in (0, 1))
    content = one.read_bytes()
    assert len(content) == other.stat().st_size
    one.write_bytes(other.read_bytes())
    with pytest.raises(LnqError, match=r"0\.zip is not the file of the catalogue: its SHA-256"):
        get(published / "catalogue.json")
    assert not (place / "nodes").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has 2999 bytes instead of 3000"),
        (lambda path: path.write_bytes(damaged(path.read_bytes())), "its SHA-256 is another"),
        (lambda path: shutil.copy(path.parent.parent / CHECKPOINTS[1], path), "SHA-256 is another"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is missing"),
    ],
    ids=["removed", "cut", "damaged", "swapped", "link"],
)
def test_a_file_that_changed_is_refused_and_repaired_alone(published, mirror, change, words):
    folder = get(mirror.url("catalogue.json"))
    change(folder / CHECKPOINTS[0])
    with pytest.raises(LnqError, match=f"{words}.*: lnq-model fetch nodes repairs it"):
        resolve("nodes")
    mirror.asked.clear()
    assert is_right(get(mirror.url("catalogue.json")), published)
    assert [path for path, _ in mirror.asked] == ["/catalogue.json", "/0.zip"]
    assert resolve("nodes") == str(folder)


def test_a_change_that_hides_is_found_by_reading_all(published):
    folder = get(published / "catalogue.json")
    path = folder / CHECKPOINTS[0]
    before = path.stat()
    path.write_bytes(damaged(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    fetched = read_fetched(folder)
    assert fetched.flaw(thorough=False) is None
    assert "SHA-256" in fetched.flaw(thorough=True)
    assert is_right(get(published / "catalogue.json"), published)


@pytest.mark.parametrize("content", ["", "{}", '{"entry": 1, "catalogue": "", "files": {}}'])
def test_a_damaged_receipt_is_told_and_made_anew(published, content):
    folder = get(published / "catalogue.json")
    (folder / "lnq-model.json").write_text(content)
    with pytest.raises(LnqError, match=r"lnq-model\.json.* repairs it"):
        resolve("nodes")
    assert is_right(get(published / "catalogue.json"), published)


# Another model in its place


def test_another_model_of_the_name_is_replaced_only_if_told(published, tmp_path):
    folder = get(published / "catalogue.json")
    model = write_stand_in(tmp_path / "other", folds=1, size=50)
    archive = pack(tmp_path / "other.zip", model)
    catalogue = write_catalogue(tmp_path / "other.json", served(archive))
    with pytest.raises(LnqError, match=r"another model of that name: .*; -f replaces it"):
        get(catalogue)
    assert is_right(folder, published)
    assert contents(get(catalogue, force=True)).keys() == {
        *("dataset.json", "fold_0/checkpoint_final.pth", "lnq-model.json", "plans.json")
    }


def test_a_folder_of_somebody_else_is_left_alone(published, place):
    write_stand_in(place / "nodes")
    for force in (False, True):
        with pytest.raises(LnqError, match="lnq-model did not make it: move it away"):
            get(published / "catalogue.json", force=force)
    assert sorted(contents(place / "nodes")) == FILES


def test_a_file_that_somebody_laid_into_it_is_not_lost(published, place):
    folder = get(published / "catalogue.json")
    (folder / "notes.txt").write_text("mine")
    (folder / "plans.json").unlink()
    with pytest.raises(LnqError, match="is complete; other files that were in it are now in"):
        get(published / "catalogue.json")
    assert [path.read_text() for path in place.glob(".nodes*/notes.txt")] == ["mine"]
    assert resolve("nodes") == str(folder)


def test_two_at_once_do_not_disturb_each_other(published):
    (entry,) = read_catalogue(str(published / "catalogue.json"))

    def once_more(number: int, done: int) -> None:
        with pytest.raises(LnqError, match="is being fetched by another process"):
            fetch(entry, lambda number, done: None)

    assert is_right(fetch(entry, once_more), published)


# Archives that are no model


def hostile(folder: Path, *names: str, link: bool = False) -> Path:
    """Write a catalogue of an archive with more members than a model's."""
    archive = pack(folder / "hostile.zip", folder / "model")
    with zipfile.ZipFile(archive, "a") as opened:
        for name in names:
            member = zipfile.ZipInfo(name)
            if link:
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            opened.writestr(member, "/etc/passwd")
    return write_catalogue(folder / "hostile.json", served(archive))


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "..\\out", "C:/out"])
def test_an_archive_that_leads_out_is_refused(published, place, name):
    with pytest.raises(LnqError, match=r"hostile\.zip: the archive holds .*do not trust it"):
        get(hostile(published, name))
    assert [path.name for path in place.iterdir()] == [".nodes.download"]
    assert not (published.parent / "out").exists()


def test_an_archive_with_a_link_is_refused(published, place):
    with pytest.raises(LnqError, match="a link or a path that could leave"):
        get(hostile(published, "fold_2", link=True))
    assert not (place / "nodes").exists()


def test_archives_that_hold_a_file_twice_are_refused(published):
    model = published / "model"
    archives = [pack(published / f"{n}.zip", model) for n in "ab"]
    (published / "b.zip").write_bytes((published / "b.zip").read_bytes())
    catalogue = write_catalogue(published / "twice.json", *map(served, archives))
    with pytest.raises(LnqError, match=r"holds .* twice"):
        get(catalogue)


def test_an_archive_of_many_zeros_is_refused(published, monkeypatch):
    monkeypatch.setattr("lnqtools.nnunet.model_folder.SMALL_BYTES", 1 << 16)
    archive = pack(published / "zeros.zip", published / "model")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        for number in range(40):  # each of them alone is small
            opened.writestr(f"{number}.json", bytes(1 << 16))
    with pytest.raises(LnqError, match=r"the archive's content would grow to .* as no model does"):
        get(write_catalogue(published / "zeros.json", served(archive)))


def test_a_receipt_in_an_archive_does_not_count(published):
    (published / "model" / "lnq-model.json").write_text("{}")
    archive = pack(published / "all.zip", published / "model")
    (published / "model" / "lnq-model.json").unlink()
    assert is_right(get(write_catalogue(published / "all.json", served(archive))), published)


def test_what_is_no_model_is_refused(published, place):
    archive = pack(published / "half.zip", published / "model", "plans.json")
    with pytest.raises(LnqError, match="names is no model: is not an nnU-Net results folder"):
        get(write_catalogue(published / "half.json", served(archive)))
    assert not (place / "nodes").exists()


def test_a_disk_that_is_too_small_is_told_before(published, mirror, monkeypatch):
    usage = shutil.disk_usage(published)._replace(free=100)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(LnqError, match="has room for: set LNQ_MODELS to a folder on a larger disk"):
        get(mirror.url("catalogue.json"))
    assert [path for path, _ in mirror.asked] == ["/catalogue.json"]


# Places and names


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LNQ_MODELS": "/a", "XDG_DATA_HOME": "/b"}, "/a"),
        ({"LNQ_MODELS": "", "XDG_DATA_HOME": "/b"}, "/b/lnqtools/models"),
        ({"LNQ_MODELS": "", "XDG_DATA_HOME": "b"}, "/h/.local/share/lnqtools/models"),
        ({"LNQ_MODELS": "", "XDG_DATA_HOME": ""}, "/h/.local/share/lnqtools/models"),
    ],
)
def test_where_models_lie(monkeypatch, variables, expected):
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)
    assert home() == Path(expected)


def test_without_a_home_directory_a_folder_must_be_named(monkeypatch):
    for name, value in {"HOME": "/", "LNQ_MODELS": "", "XDG_DATA_HOME": ""}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LnqError, match="set LNQ_MODELS to a folder"):
        home()


def test_a_path_goes_before_a_name(published, tmp_path, monkeypatch):
    get(published / "catalogue.json")
    monkeypatch.chdir(tmp_path)
    assert resolve("nodes") == str(tmp_path / "models" / "nodes")
    (tmp_path / "nodes").mkdir()
    assert resolve("nodes") == "nodes"
    for path in ("./nodes2", "a/b", ".", "a b", ""):
        assert resolve(path) == path


def test_an_unknown_name_is_told_what_to_do():
    with pytest.raises(LnqError, match="not fetched: lnq-model fetch mediastinal-v1"):
        resolve("mediastinal-v1")
    with pytest.raises(LnqError, match="no fetched model has that name: lnq-model list shows"):
        resolve("mediastinal-v9")
