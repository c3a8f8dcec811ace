"""lnq-check: what was made is compared with what is recorded of it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools import __version__
from lnqtools.cli._inputs import Inputs
from lnqtools.cli.check import COLUMNS, Thing, _checked
from lnqtools.nnunet import record
from lnqtools.nnunet.checkpoint import checkpoint_digest
from lnqtools.nnunet.dataset import TrainingCase
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.recipes import Recipe
from tests.cli.cohort import make_cohort
from tests.cli.helpers import QUIETLY_BY_SIGPIPE, end_without_reader, rows_of, usage_error
from tests.conftest import BIN, WITHOUT_PRIVILEGE, Result, run, succeed

CT, ANN = "ct/plain.nii.gz", "ann/plain.nii.gz"
CROP, PLAIN, SLICER = "cropped/plain.nii.gz", "masked/plain.nii", "small.seg.nrrd"
WEIGHTS, REPORT, LISTED = "model/fold_0/checkpoint_final.pth", "report/index.html", "notes.txt"
COMMAND = ["lnq-train", "--images", "ct", "--labels", "label", "-m", "model"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder of images, a model, a report and a list, made in it from a cohort."""
    folder = tmp_path_factory.mktemp("made")
    make_cohort(folder)
    for path in folder.glob("*/*"):
        if path.name != "plain.nii.gz":
            path.unlink()
    succeed("lnq-crop", CT, "--lungs", "lungs", "-O", "cropped", cwd=folder)
    succeed("lnq-weaklabel", ANN, "--strategy", "mask", "-O", "masked", "--nii", cwd=folder)
    succeed("lnq-filter-diameter", ANN, "--min", 2, "-o", "small.nii.gz", cwd=folder)
    write_segmentation(folder / SLICER)
    options = ["--labels", "--ct", "ct", "-O", "report"]
    succeed("lnq-report", "label/plain.nii.gz", *options, cwd=folder)
    write_model(folder)
    (folder / LISTED).write_text("a file of no kind\n")
    listing = subprocess.run(
        ["sha256sum", LISTED, CROP], cwd=folder, capture_output=True, check=True
    )
    (folder / "done").mkdir()
    (folder / "done" / "all.sha256").write_bytes(listing.stdout)
    return folder


def write_segmentation(path: Path) -> None:
    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume, write_volume

    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 1:4, 2:5] = 1
    grid = Grid.from_affine(mask.shape, np.diag([-1.0, -1, 2, 1]))
    write_volume(Volume(mask, grid), path, {"tool": "lnq-infer", "version": "9"})


def write_model(folder: Path) -> None:
    """Write what a training of one fold leaves, without the training."""
    model = folder / "model"
    case = TrainingCase("plain", folder / CT, folder / "label" / "plain.nii.gz")
    record.begin_record(model, record.made_with([case], Recipe(""), 0, {}, Folds()))
    fold = model / "fold_0"
    fold.mkdir()
    (model / "plans.json").write_text(json.dumps({"patch": [1] * 20}))
    (model / "dataset.json").write_text("{}\n")
    with zipfile.ZipFile(fold / "checkpoint_final.pth", "w") as archive:
        archive.writestr("data", bytes(range(256)))
    (fold / "training.tsv").write_text("epoch\n1\n")
    record.add_run(model, {"fold": "0", "command": COMMAND})
    record.add_sums(model, fold)


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "copy", symlinks=True)


def check(folder: Path, *arguments, status: int = 0) -> dict[str, dict[str, str]]:
    """Return the rows by their paths."""
    done = run("lnq-check", *(arguments or ["."]), cwd=folder)
    assert done.status == status, done.err
    return by_path(done)


def by_path(done: Result) -> dict[str, dict[str, str]]:
    rows = rows_of(done.out)
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


@pytest.fixture(scope="module")
def before(made) -> dict[str, str]:
    """Return the states of all files before anything happens to them."""
    return states(check(made))


def states(rows: dict) -> dict[str, str]:
    return {path: row["state"] for path, row in rows.items()}


# What is whole, and what is not


def test_what_was_not_touched_is_whole(made):
    done = run("lnq-check", ".", cwd=made)
    rows = by_path(done)
    assert done.status == 0
    of_report = {str(path.relative_to(made)) for path in (made / "report").rglob("*.*")}
    of_model = {WEIGHTS, "model/plans.json", "model/dataset.json", "model/fold_0/training.tsv"}
    of_tools = {CROP, PLAIN, SLICER, "small.nii.gz"}
    whole = {*of_tools, *of_report, *of_model, LISTED} - {"report/lnq-report.json"}
    foreign = {str(path.relative_to(made)) for path in made.glob("*/plain.nii.gz")} - whole
    assert states(rows) == {
        **dict.fromkeys(whole, "whole"),
        **dict.fromkeys(foreign, "unknown"),
    }
    assert list(rows) == sorted(rows)
    assert {rows[path]["kind"] for path in of_report - {"report/lnq-report.json"}} == {"report"}
    assert {rows[path]["kind"] for path in of_model} == {"model"}
    assert {rows[path]["kind"] for path in of_tools | foreign} == {"image"}
    assert rows[LISTED]["kind"] == "file"
    made_by = {path: (rows[path]["tool"], rows[path]["version"]) for path in rows}
    assert made_by[CROP] == ("lnq-crop", __version__)
    assert made_by[SLICER] == ("lnq-infer", "9")
    assert made_by[WEIGHTS] == ("lnq-train", __version__)
    assert made_by[REPORT] == ("lnq-report", __version__)
    assert made_by[LISTED] == made_by[CT] == ("", "")
    assert rows[CT]["why"] == "does not say what made it"
    assert {rows[path]["why"] for path in whole} == {""}
    assert done.err == (
        f"lnq-check: {len(whole)} whole, 0 changed, 0 missing, {len(foreign)} unknown\n"
    )


def flip(path: Path, place: int = -40) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit_voxel(path: Path) -> None:
    """Change a voxel as another program does that keeps the header's extensions."""
    image = nib.load(path)
    array = np.asanyarray(image.dataobj).copy()
    array[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(array, None, image.header), path)
    assert len(nib.load(path).header.extensions) == 1


def move(path: Path) -> None:
    """Change where an image lies."""
    image = nib.load(path)
    matrix = image.affine + np.diag([0, 0, 0.5, 0])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), matrix, image.header), path)


def edit_record(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    assert content.count(b'"connectivity": 6') == 1
    path.write_bytes(gzip.compress(content.replace(b'"connectivity": 6', b'"connectivity": 7')))


def edit_segmentation(path: Path) -> None:
    head, end, voxels = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head.replace(b"Name:=lymph node", b"Name:=lymph Node") + end + voxels)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


LIST = "done/all.sha256"


@pytest.mark.parametrize(
    ("path", "change", "why"),
    [
        (PLAIN, flip, f"is not what lnq-weaklabel {__version__} wrote"),
        (PLAIN, cut, f"is not what lnq-weaklabel {__version__} wrote"),
        (CROP, edit_voxel, f"is not what lnq-crop {__version__} wrote; is not what {LIST} says"),
        ("small.nii.gz", move, f"is not what lnq-filter-diameter {__version__} wrote"),
        ("small.nii.gz", edit_record, f"is not what lnq-filter-diameter {__version__} wrote"),
        ("small.nii.gz", flip, "the compressed data are damaged"),
        ("small.nii.gz", cut, "ends early: the file is truncated"),
        (SLICER, edit_segmentation, "is not what lnq-infer 9 wrote"),
        (SLICER, flip, "the compressed data are damaged"),
        (WEIGHTS, flip, "is not what model/lnq-train.json says"),
        ("model/plans.json", flip, "is not what model/lnq-train.json says"),
        (REPORT, flip, "is not what report/lnq-report.json says"),
        (LISTED, cut, f"is not what {LIST} says"),
    ],
)
def test_a_change_is_found_and_nothing_else(before, copy, path, change, why):
    change(copy / path)
    rows = check(copy, status=1)
    assert states(rows) == before | {path: "changed"}
    assert rows[path]["why"].startswith(why)


@pytest.mark.parametrize("path", [WEIGHTS, REPORT, LISTED, CROP])
@pytest.mark.parametrize("name", [None, "another"])
def test_what_is_gone_or_renamed_is_missing(before, copy, path, name):
    whose = {WEIGHTS: "model/lnq-train.json", REPORT: "report/lnq-report.json"}.get(path, LIST)
    expected = before | {path: "missing"}
    if name:
        new = Path(path).with_name(name + "".join(Path(path).suffixes))
        (copy / path).rename(copy / new)
        expected[str(new)] = "whole" if path == CROP else "unknown"
    else:
        (copy / path).unlink()
    rows = check(copy, status=1)
    assert states(rows) == expected
    assert rows[path]["why"] == f"{whose} names it"


@pytest.mark.parametrize(
    ("place", "kind", "why"),
    [
        ("report/cases", "report", "the report's record has no sum of it"),
        ("model/fold_0", "model", "the model's record has no sum of it"),
        ("masked", "file", "no record names it"),
    ],
)
def test_what_no_record_names_is_unknown(copy, place, kind, why):
    (copy / place / "foreign").write_text("x")
    row = check(copy)[f"{place}/foreign"]
    assert (row["kind"], row["state"], row["why"]) == (kind, "unknown", why)
    assert check(copy, ".", "--strict", "--bad", status=1)[f"{place}/foreign"] == row


def test_packing_changes_nothing(copy):
    path = copy / "small.nii.gz"
    (copy / "small.nii").write_bytes(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    assert states(check(copy, "small.nii", "small.nii.gz")) == {
        "small.nii": "whole",
        "small.nii.gz": "whole",
    }


# What older versions made


def test_what_an_older_version_made_is_unknown_unless_it_is_damaged(copy):
    image = nib.load(copy / "small.nii.gz")
    (extension,) = image.header.extensions
    said = json.loads(extension.get_content().rstrip(b"\0"))
    del said["sum"]
    image.header.extensions[:] = [nib.nifti1.Nifti1Extension(6, json.dumps(said).encode())]
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), copy / "old.nii.gz")
    for path, keys in (
        ("model/lnq-train.json", ["sha256"]),
        ("report/lnq-report.json", ["sha256"]),
    ):
        whole = json.loads((copy / path).read_text())
        (copy / path).write_text(json.dumps({k: v for k, v in whole.items() if k not in keys}))
    rows = check(copy)
    whys = {path: rows[path]["why"] for path in ("old.nii.gz", WEIGHTS, REPORT)}
    assert {rows[path]["state"] for path in whys} == {"unknown"}
    assert whys == {
        "old.nii.gz": f"its record has no sum of it: lnq-filter-diameter {__version__} wrote none",
        WEIGHTS: "the model's record has no sum of it",
        REPORT: "report/lnq-report.json has no sum of it: an older version wrote none",
    }
    flip(copy / WEIGHTS, 60)
    flip(copy / "old.nii.gz")
    (copy / REPORT).unlink()
    rows = check(copy, ".", "--bad", status=1)
    assert states(rows) == {"old.nii.gz": "changed", WEIGHTS: "changed", REPORT: "missing"}
    assert rows[WEIGHTS]["why"] == "its part data is damaged"


def test_a_second_fold_leaves_the_sums_of_the_first(copy):
    model, fold = copy / "model", copy / "model" / "fold_1"
    before = record.read_record(model)
    record.begin_record(model, before["made_with"])
    fold.mkdir()
    (fold / "checkpoint_final.pth").write_bytes(b"weights")
    (fold / ".lock").write_text("")
    (model / "plans.json").write_text("[]\n")
    record.add_run(model, {"fold": "1", "command": []})
    record.add_sums(model, fold)
    sums = record.read_record(model)["sha256"]
    assert sums.keys() == {*before["sha256"], "fold_1/checkpoint_final.pth"}
    assert {name for name, of in before["sha256"].items() if sums[name] != of} == {"plans.json"}
    record.begin_record(model, before["made_with"], "0")
    anew = record.read_record(model)["sha256"]
    assert anew.keys() == {name for name in sums if not name.startswith("fold_0/")}


# Records that cannot be used

NO_SUM = "line 1 is not a SHA-256 and a name, as sha256sum writes them"


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("model/lnq-train.json", "{", "is damaged, or not a record of these tools"),
        ("model/lnq-train.json", '{"sha256": []}', "is damaged, or not a record of these tools"),
        ("report/lnq-report.json", "[" * 9999, "is damaged, or not a record of these tools"),
        (
            "report/lnq-report.json",
            '{"tool": "x", "files": ["../notes.txt"]}',
            "is damaged, or not a record of these tools",
        ),
        (
            LIST,
            f"{'0' * 64}  a\0b\n",
            "line 1 is not a SHA-256 and a name, as sha256sum writes them",
        ),
        (LIST, "x\n", "line 1 is not a SHA-256 and a name, as sha256sum writes them"),
        (
            LIST,
            f"{'0' * 64}  a\n\n{'1' * 64}  a\n",
            "line 3 gives a another SHA-256 than a line before",
        ),
    ],
)
def test_a_damaged_record_is_told(copy, path, content, why):
    (copy / path).write_text(content)
    row = check(copy, status=1)[path]
    assert (row["state"], row["why"]) == ("changed", why)
    assert row["kind"] == {"model": "model", "report": "report"}.get(path.split("/")[0], "list")


def test_names_in_lists_are_those_on_disk(tmp_path):
    names = [os.fsencode("with space"), b"line\nend", b"back\\slash", b"\xff\xfe", b"a\rb"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    listing = subprocess.run(
        ["sha256sum", "--", *names], cwd=tmp_path, capture_output=True, check=True
    )
    (tmp_path / "all.sha256").write_bytes(listing.stdout)
    done = run("lnq-check", tmp_path, "--format", "jsonl")
    rows = [json.loads(line) for line in done.lines]
    assert done.status == 0
    assert {row["path"]: row["state"] for row in rows} == {
        f"{tmp_path}/{os.fsdecode(name)}": "whole" for name in names
    }


def test_a_list_is_of_the_place_where_it_was_made(copy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    rows = check(elsewhere, copy / "done")
    assert states(rows) == {f"{copy}/{CROP}": "whole", f"{copy}/{LISTED}": "whole"}
    (copy / CROP).unlink()
    rows = check(elsewhere, copy / "done" / "all.sha256", status=1)
    assert states(rows) == {f"{copy}/{CROP}": "missing", f"{copy}/{LISTED}": "whole"}


# Inputs


def test_what_was_made_from_other_inputs_is_told(copy):
    rows = check(copy)
    assert {path: rows[path]["inputs"] for path in (CROP, PLAIN, WEIGHTS, CT)} == {
        **{CROP: "same", PLAIN: "same", WEIGHTS: "same", CT: ""}
    }
    (copy / "truth" / "plain.nii.gz").unlink()  # what is drawn is the same there
    edit_image(copy / "lungs/plain.nii.gz")
    edit_image(copy / ANN)
    edit_image(copy / "label/plain.nii.gz")
    rows = check(copy)
    told = {path: (rows[path]["state"], rows[path]["inputs"]) for path in (CROP, PLAIN, WEIGHTS)}
    assert told == {
        CROP: ("whole", "changed"),
        PLAIN: ("whole", "not found"),
        WEIGHTS: ("whole", "changed"),
    }
    assert rows[CROP]["why"] == "was made from another --lungs lungs/plain.nii.gz"
    assert rows[WEIGHTS]["why"] == "was made from another image or label of plain"
    told = run("lnq-check", ".", "--inputs", "masked=ann", "--strict", "--bad", cwd=copy)
    assert told.status == 1
    assert told.err.endswith(" unknown, 3 made from what has changed since\n")
    rows = by_path(told)
    assert "small.nii.gz" not in rows  # whose input is ann, too, but nobody says so
    assert rows[PLAIN]["why"] == f"was made from another input than {ANN}"


def edit_image(path: Path) -> None:
    image = nib.load(path)
    array = np.asanyarray(image.dataobj).copy()
    array[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(array, None, image.header), path)


def test_the_model_of_a_prediction_is_known_by_its_content(copy):
    from lnqtools.images.volume import read_volume, write_volume
    from lnqtools.nnunet.model_folder import metadata_digest

    volume = read_volume(copy / ANN)
    weights, plans = checkpoint_digest([copy / WEIGHTS]), metadata_digest(copy / "model")
    said = {
        **{"tool": "lnq-infer", "version": "9", "made_from": {"input": volume.content}},
        "options": {"model": weights, "folds": ["0"], "checkpoint": None},
    }
    said["made_from"]["model"] = plans
    (copy / "predicted").mkdir()
    write_volume(volume, copy / "predicted" / "plain.nii.gz", said)
    assert check(copy)["predicted/plain.nii.gz"]["inputs"] == "same"
    (copy / "model" / "plans.json").write_text('{"a": 1}')
    rows = check(copy, status=1)
    assert rows["predicted/plain.nii.gz"]["inputs"] == "not found"


# Places


def test_links_are_followed_once_and_loops_end(copy):
    (copy / "loop").symlink_to(copy)
    (copy / "again.nii.gz").symlink_to(CROP)
    (copy / "nowhere.nii.gz").symlink_to("gone")
    rows = check(copy, status=1)
    assert "again.nii.gz" not in rows
    assert rows[CROP]["state"] == "whole"
    assert not any(path.startswith("loop") for path in rows)
    broken = rows["nowhere.nii.gz"]
    assert (broken["state"], broken["why"]) == ("missing", "is a link to what is not there")


def test_what_cannot_be_read_is_an_error_and_the_rest_goes_on(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy")
    (copy / CROP).chmod(0)
    (copy / "masked").chmod(0)
    done = subprocess.run(
        [*WITHOUT_PRIVILEGE, BIN / "lnq-check", ".", "--bad"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    (copy / "masked").chmod(0o700)
    assert done.returncode == 1
    assert [row["state"] for row in rows_of(done.stdout)] == ["unknown"]
    assert done.stderr.splitlines()[:-1] == [
        "lnq-check: ./masked: cannot be read: Permission denied",
        f"lnq-check: {CROP}: cannot be read: Permission denied",
    ]


def test_what_is_no_file_is_not_opened(copy):
    os.mkfifo(copy / "pipe.nii.gz")
    os.mkfifo(copy / "pipe.sha256")
    (copy / LISTED).unlink()
    (copy / LISTED).mkdir()
    (copy / "cropped" / "plain.nii.gz").unlink()
    (copy / "cropped").rmdir()
    (copy / "cropped").write_text("a file where a folder was")
    rows = check(copy, status=1)
    assert (rows["pipe.nii.gz"]["state"], rows[LISTED]["state"]) == ("unknown", "changed")
    assert rows[CROP]["state"] == "missing"
    assert rows["pipe.nii.gz"]["why"] == "is not a regular file"


def test_places_without_files_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").write_text("")
    done = run("lnq-check", "none", "empty", "a", cwd=tmp_path)
    assert (done.status, states(by_path(done))) == (1, {"a": "unknown"})
    assert done.err.splitlines()[:-1] == [
        "lnq-check: none: no such file or directory",
        "lnq-check: empty: holds no file to check",
    ]
    assert "a path is empty" in usage_error("lnq-check", tmp_path, "")
    assert "--inputs none: no such directory" in usage_error(
        "lnq-check", tmp_path, "--inputs", f"{tmp_path}=none"
    )


def test_hidden_files_are_passed_over(copy):
    for place in (copy, copy / "model" / ".preprocessed"):
        place.mkdir(exist_ok=True)
        (place / ".hidden.nii.gz").write_text("x")
    (copy / "model" / ".preprocessed" / "x.nii.gz").write_text("x")
    assert not any("hidden" in path or "preprocessed" in path for path in check(copy))


# The table


def test_the_table_is_the_same_for_any_number_of_jobs(copy):
    flip(copy / PLAIN)
    one, two = (run("lnq-check", ".", "-j", jobs, cwd=copy) for jobs in (1, 2))
    assert one == two
    assert one.status == 1
    assert one.lines[0].split("\t") == list(COLUMNS)


def test_bad_leaves_out_what_is_right(made, copy):
    assert run("lnq-check", ".", "--bad", cwd=made).lines == ["\t".join(COLUMNS)]
    flip(copy / PLAIN)
    assert list(check(copy, ".", "--bad", status=1)) == [PLAIN]


def test_quiet_tells_no_counts_and_a_file_takes_the_table(copy):
    done = run("lnq-check", ".", "-q", "-o", "table.jsonl", cwd=copy)
    assert (done.status, done.out, done.err) == (0, "", "")
    rows = [json.loads(line) for line in (copy / "table.jsonl").read_text().splitlines()]
    assert {row["path"] for row in rows} == set(check(copy)) - {"table.jsonl"}
    assert [*rows[0]] == list(COLUMNS)
    refused = run("lnq-check", ".", "-f", "-o", "masked/t.tsv", cwd=copy)
    assert refused.status == 0
    again = run("lnq-check", ".", "-f", "-o", "masked/t.tsv", cwd=copy)
    assert (again.status, again.out) == (2, "")
    assert "masked/t.tsv is an input and would be overwritten" in again.err


def test_no_reader_ends_it_quietly(made):
    assert end_without_reader("lnq-check", ".", "-q", cwd=made) == QUIETLY_BY_SIGPIPE


def test_an_accident_of_one_file_is_told_and_no_more():
    row, unreadable, trace = _checked(Thing(Path("a\0b"), "file"), Inputs([], [], []))
    assert (row["state"], unreadable) == ("unknown", True)
    assert row["why"].startswith("failed unexpectedly (ValueError: ")
    assert "judge" in trace
