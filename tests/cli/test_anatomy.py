"""lnq-anatomy, and the tools that run TotalSegmentator: the real package on stand-in weights."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lnqtools.anatomy.maps import LOBES, class_names
from tests.cli.helpers import numbers, rows_of
from tests.conftest import BIN, load, matrix_of, run, save, shell, succeed
from tests.nnunet_data import Trap

pytest.importorskip("totalsegmentator")

V2 = class_names("v2")
FAST = "Dataset297_TotalSegmentator_total_3mm_1559subj"
TRAINED = "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"
LOBE_NUMBERS = [number for number, name in V2.items() if name in LOBES]


@pytest.fixture
def weights(surrogate_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the tools find the stand-in weights, and keep their temporary files here."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(surrogate_weights))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return surrogate_weights


@pytest.fixture(scope="session")
def turned(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a phantom in three orientations, ct/ and anatomy/."""
    folder = tmp_path_factory.mktemp("turned")
    for kind in ("ct", "anatomy"):
        (folder / kind).mkdir()
        image = nib.load(phantoms / kind / "phantom0-0000.nii.gz")
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        nib.save(image, folder / kind / "lps.nii.gz")
        nib.save(image.as_reoriented([[2, -1], [0, 1], [1, -1]]), folder / kind / "pir.nii.gz")
        tilted = nib.Nifti1Image(image.dataobj, rotation(12) @ image.affine, image.header)
        nib.save(tilted, folder / kind / "oblique.nii.gz")
    return folder


def rotation(degrees: float) -> np.ndarray:
    """Return a turn about the x and then about the z axis of the world."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    about_z = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return about_z @ about_x


def cts(turned: Path) -> list[Path]:
    return [turned / "ct" / f"{name}.nii.gz" for name in ("lps", "pir", "oblique")]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_behind(tmp_path: Path) -> list[str]:
    return names_in(tmp_path / "tmp")


# lnq-anatomy


@pytest.mark.slow
def test_maps_lie_on_the_cts_and_equal_the_packages_own(weights, turned, tmp_path):
    out = tmp_path / "out"
    result = succeed("lnq-anatomy", *cts(turned), "--fast", "--device", "cpu", "-O", out)
    assert result.lines == [str(out / path.name) for path in cts(turned)]
    assert result.err == ""
    maps = {path.name.split(".")[0]: out / path.name for path in cts(turned)}
    for name, path in maps.items():
        assert load(path).dtype == np.uint8
        np.testing.assert_allclose(matrix_of(path), matrix_of(turned / "ct" / path.name), atol=1e-4)
        counts = np.bincount(load(path).ravel(), minlength=118)
        rows = rows_of((out / f"{name}.tsv").read_text())
        assert {int(row["index"]): row["name"] for row in rows} == V2
        assert numbers({row["index"]: row["voxels"] for row in rows}, *map(str, V2)) == [
            counts[number] for number in V2
        ]
        lung = load(turned / "anatomy" / path.name)
        share = np.isin(load(path), LOBE_NUMBERS)[np.isin(lung, LOBE_NUMBERS)].mean()
        assert share > 0.7, "the lungs are found, not something else"
    np.testing.assert_array_equal(load(maps["oblique"]), load(maps["lps"]))
    from_pir = load(maps["pir"]).transpose(1, 2, 0)[::-1, :, ::-1]
    np.testing.assert_array_equal(from_pir, load(maps["lps"]))
    assert left_behind(tmp_path) == []

    stock = tmp_path / "stock.nii.gz"
    (tmp_path / "home").mkdir()
    # its pools cannot have a long TMPDIR: the paths of their sockets would be too long
    own = {"TOTALSEG_HOME_DIR": str(tmp_path / "home"), "TMPDIR": "/tmp"}
    environment = {**os.environ, **own}
    (tmp_path / "home" / "config.json").write_text(
        '{"totalseg_id": "", "send_usage_stats": false, "prediction_counter": 0, '
        '"statistics_disclaimer_shown": true}'
    )
    command = [BIN / "TotalSegmentator", "-i", cts(turned)[0], "-o", stock]
    options = ["--ml", "-f", "-d", "cpu", "-ns", "1", "-q"]
    subprocess.run([*command, *options], env=environment, check=True, capture_output=True)
    np.testing.assert_array_equal(load(maps["lps"]), load(stock))


@pytest.mark.slow
def test_structures_resume_and_the_users_folders(weights, turned, tmp_path, monkeypatch):
    """Run on two CTs, one of which cannot be read; then again with -s, without any weights."""
    own = tmp_path / "own weights"
    shutil.copytree(weights, own)
    old = own / "Dataset302_vertebrae_body_1559subj"  # TotalSegmentator itself deletes this one
    old.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.json").write_text('{"prediction_counter": 7, "send_usage_stats": true}')
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(own))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    watch_network(tmp_path, monkeypatch)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    good = cts(turned)[0]
    options = ("--fast", "--device", "cpu", "--structures", "lungs,aorta", "-O", tmp_path / "o")
    result = run("lnq-anatomy", bad, good, *options)
    assert result.status == 1
    assert re.fullmatch(rf"lnq-anatomy: {bad}: .*\n", result.err)
    assert result.lines == [str(tmp_path / "o" / good.name)]
    found = load(tmp_path / "o" / good.name)
    assert set(np.unique(found)) == {0, 11, 52}, "no bones, which the stand-in sees as well"
    rows = rows_of((tmp_path / "o" / "lps.tsv").read_text())
    assert {row["name"] for row in rows} == {*LOBES, "aorta"}
    assert old.is_dir()
    assert names_in(home) == ["config.json"]
    assert "7" in (home / "config.json").read_text()
    log = (tmp_path / "network").read_text().splitlines()
    assert "loaded" in log
    assert set(log) == {"loaded"}, "no attempt to reach another machine"

    shutil.rmtree(own)
    before = (tmp_path / "o" / good.name).stat().st_mtime_ns
    for more in (("-s",), ("-s", "--download")):
        kept = succeed("lnq-anatomy", good, *options, *more)
        assert kept.lines == [str(tmp_path / "o" / good.name)]
    assert not own.exists(), "nothing was fetched"
    table = tmp_path / "o" / "lps.tsv"
    whole = table.read_bytes()
    for stale in (None, b"index\tname\tvoxels\n11\taorta\t7\n"):  # the run before was killed
        table.unlink()
        if stale is not None:
            table.write_bytes(stale)
            os.utime(table, ns=(0, before - 1))
        succeed("lnq-anatomy", good, *options, "-s")
        assert table.read_bytes() == whole
    table.write_text("mine\n")
    foreign = run("lnq-anatomy", good, *options, "-s")
    assert foreign.err == (
        f"lnq-anatomy: {good}: {table} exists and is not a table of names; -f replaces it\n"
    )
    assert table.read_text() == "mine\n"
    assert (tmp_path / "o" / good.name).stat().st_mtime_ns == before
    other = run("lnq-anatomy", good, "--fast", "-O", tmp_path / "o", "-s")
    assert "--structures lungs,aorta, now all" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_the_table_of_two_runs_into_one_folder_is_that_of_the_map(weights, turned, tmp_path):
    """Both begin with an empty folder; the one that comes second fails and changes nothing."""
    ct = cts(turned)[0]
    options = ["--fast", "--device", "cpu", "--threads", "1", "-s", "-O", str(tmp_path / "o")]
    runs = [
        subprocess.Popen(
            [BIN / "lnq-anatomy", ct, *options, "--structures", structures],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for structures in ("lungs", "aorta")
    ]
    errors = [tool.communicate(timeout=300)[1] for tool in runs]
    assert sorted(tool.returncode for tool in runs) == [0, 1]
    winner = [tool.returncode for tool in runs].index(0)
    assert errors[winner] == ""
    then, now = ("lungs", "aorta")[winner], ("lungs", "aorta")[1 - winner]
    assert f"was made with --structures {then}, now {now}" in errors[1 - winner]
    rows = rows_of((tmp_path / "o" / "lps.tsv").read_text())
    assert {row["name"] for row in rows} == ({*LOBES}, {"aorta"})[winner]
    assert sum(int(row["voxels"]) for row in rows) == np.count_nonzero(
        load(tmp_path / "o" / ct.name)
    )


def watch_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Note, in every Python process, each attempt to reach another machine."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"""
import sys

def note(what):
    with open({str(tmp_path / "network")!r}, "a") as log:
        log.write(what + "\\n")

def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        note(event)
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        note(event)

sys.addaudithook(audit)
if "lnqtools.totalseg.worker" in " ".join(sys.orig_argv):
    note("loaded")
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


@pytest.mark.slow
def test_the_process_has_the_license_and_no_network(weights, turned, tmp_path, monkeypatch):
    """Asked in the real package's process, while it loads a model."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.json").write_text('{"license_number": "aca_0123456789", "totalseg_id": "me"}')
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    (tmp_path / "site").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "site" / "sitecustomize.py").write_text(
            f"""
import socket
import sys

PLACE = {server.getsockname()!r}

def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

ATTEMPTS = {{
    "connect": lambda: socket.socket().connect(PLACE),
    "connect_ex": lambda: socket.socket().connect_ex(PLACE),
    "sendto": lambda: udp().sendto(b"x", PLACE),
    "sendmsg": lambda: udp().sendmsg([b"x"], [], 0, PLACE),
    "getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "gethostbyname": lambda: socket.gethostbyname("localhost"),
    "gethostbyaddr": lambda: socket.gethostbyaddr("127.0.0.1"),
}}

def ask():
    from totalsegmentator import config
    settings = config.get_config_key
    yield "license", settings("license_number")
    yield "statistics", settings("send_usage_stats")
    yield "id", repr(settings("totalseg_id"))
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError as error:
            yield name, error
        else:
            yield name, "let through"

asked = []

def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith("plans.json") and not asked:
        asked.append(True)
        with open({str(tmp_path / "answers")!r}, "w") as answers:
            answers.writelines(f"{{key}}: {{value}}\\n" for key, value in ask())

if "lnqtools.totalseg.worker" in " ".join(sys.orig_argv):
    sys.addaudithook(audit)
"""
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
        options = ("--fast", "--device", "cpu", "-o", tmp_path / "o.nii.gz")
        succeed("lnq-anatomy", cts(turned)[0], *options)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    refused = "TotalSegmentator wanted to use the network"
    ways = ("connect", "connect_ex", "sendto", "sendmsg")
    names = ("getaddrinfo", "gethostbyname", "gethostbyaddr")
    assert dict(
        line.split(": ", 1) for line in (tmp_path / "answers").read_text().splitlines()
    ) == {
        **{"license": "aca_0123456789", "statistics": "False", "id": "''"},
        **dict.fromkeys((*ways, *names), refused),
    }


@pytest.mark.slow
def test_the_other_tasks(all_surrogate_weights, real, tmp_path, monkeypatch):
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(all_surrogate_weights))
    ct = real / "totalsegmentator" / "ct_cropped.nii.gz"
    for task, structure in (("lung_vessels", "lung_arteries"), ("trunk_cavities", "mediastinum")):
        out = tmp_path / f"{task}.nii.gz"
        succeed("lnq-anatomy", ct, "--task", task, "--device", "cpu", "-o", out)
        rows = {row["name"]: int(row["voxels"]) for row in rows_of(out_table(out).read_text())}
        assert rows[structure] > 10_000
        assert load(out).shape == load(ct).shape
        assert sum(rows.values()) == np.count_nonzero(load(out))


def out_table(path: Path) -> Path:
    return path.with_name(path.name.replace(".nii.gz", ".tsv"))


def test_only_total_is_fast():
    options = ("--task", "lung_vessels", "--fast", "-o", "x.nii")
    result = run("lnq-anatomy", "ct.nii.gz", *options)
    assert result.status == 2
    assert "--fast is for --task total" in result.err


# Refused at once


@pytest.fixture
def not_started(monkeypatch, tmp_path):
    """Let whole weights seem to be there on which no process can run."""
    from tests.totalseg.test_totalseg import write_model

    write_model(tmp_path / "weights")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))


@pytest.mark.parametrize(
    "tool", ["lnq-anatomy", "lnq-pseudolabel --anatomy totalsegmentator --ct ct.nii.gz"]
)
@pytest.mark.parametrize(
    ("structures", "sentence"),
    [
        ("hearth", "has no structure named hearth; did you mean heart?"),
        ("aorta,-aorta", "has no structure left of the selection 'aorta,-aorta'"),
    ],
)
def test_structures_that_the_task_lacks_are_refused_at_once(
    not_started, tmp_path, tool, structures, sentence
):
    """Not after the segmentation of each case."""
    save(tmp_path / "ct.nii.gz", np.zeros((4, 4, 4), np.int16))
    options = ("--fast", "--structures", structures, "-O", "o")
    result = run(*tool.split(), "ct.nii.gz", *options, cwd=tmp_path)
    assert result.status == 2
    assert result.err == (
        f"{tool.split()[0]}: --structures {structures}: the task total {sentence} "
        f"(see {tool.split()[0]} --help)\n"
    )
    assert not (tmp_path / "o").exists()


def test_structures_are_those_of_the_task(not_started, tmp_path):
    options = ("--task", "trunk_cavities", "--structures", "aorta", "-o", tmp_path / "o.nii")
    result = run("lnq-anatomy", "ct.nii.gz", *options)
    assert result.status == 2
    assert "the task trunk_cavities has no structure named aorta" in result.err


@pytest.mark.parametrize(
    ("made", "options", "sentence"),
    [
        ("echo mine >", (), "exists and is not a table of names; -f replaces it"),
        ("mkdir", (), "exists and is not a regular file"),
        ("mkdir", ("-f",), "exists and is not a regular file"),
    ],
)
def test_what_lies_in_the_tables_place_is_refused_before_its_case_runs(
    not_started, tmp_path, made, options, sentence
):
    """With these weights, TotalSegmentator's own error would be shown."""
    ct = save(tmp_path / "ct.nii.gz", np.zeros((4, 4, 4), np.int16))
    table = tmp_path / "o" / "ct.tsv"
    table.parent.mkdir()
    assert shell(f"{made} o/ct.tsv", cwd=tmp_path).status == 0
    result = run("lnq-anatomy", ct, "--fast", "-O", tmp_path / "o", *options)
    assert result.status == 1
    assert result.err == f"lnq-anatomy: {ct}: {table} {sentence}\n"
    assert names_in(tmp_path / "o") == ["ct.tsv"]
    assert table.is_dir() or table.read_text() == "mine\n"


# Weights and failures


@pytest.mark.parametrize(
    ("tool", "options", "way_on"),
    [
        ("lnq-anatomy", ["--fast"], ""),
        ("lnq-pseudolabel", ["--anatomy", "totalsegmentator", "--fast", "--ct", "ct.nii.gz"], ""),
        ("lnq-crop", ["--lungs", "totalsegmentator"], ", and --lungs hu needs none"),
        (
            "lnq-infer",
            ["--lungs", "totalsegmentator", "-m", "model"],
            ", and --lungs hu needs none",
        ),
    ],
)
def test_missing_weights_are_said_at_once(tool, options, way_on, model, tmp_path, monkeypatch):
    """With what the tool's own options offer instead; nothing is made."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    save(tmp_path / "ct.nii.gz", np.zeros((4, 4, 4), np.int16))
    (tmp_path / "model").symlink_to(model)
    run(tool, "--version")  # waits until what forks the tool has loaded torch
    start = time.monotonic()
    result = run(tool, "ct.nii.gz", *options, "-O", tmp_path / "out" / "of", cwd=tmp_path)
    assert time.monotonic() - start < 10, "a loaded machine; alone it takes half a second"
    assert result.status == 1
    assert result.err == (
        f"{tool}: TotalSegmentator's weights in {tmp_path / 'nowhere'} are not whole: {FAST} is "
        "missing; on a machine with a network totalseg_download_weights -t total_fast fetches "
        "them ($TOTALSEG_WEIGHTS_PATH names another place); --download does it for you"
        f"{way_on}\n"
    )
    assert names_in(tmp_path) == ["ct.nii.gz", "model"]


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("rm */fold_0/checkpoint_final.pth", "lacks checkpoint_final.pth"),
        ("truncate -s 100 */plans.json", "holds a truncated plans.json"),
        ("mv * nnUNetTrainer__nnUNetPlans__3d_fullres", f"lacks {TRAINED}"),
    ],
)
def test_a_half_unzipped_model_is_not_started(
    surrogate_weights, tmp_path, monkeypatch, broken, sentence
):
    """TotalSegmentator would fail on it for ever, since its folder is there."""
    own = tmp_path / "weights"
    shutil.copytree(surrogate_weights, own)
    assert shell(broken, cwd=own / FAST).status == 0
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(own))
    ct = save(tmp_path / "ct.nii.gz", np.zeros((4, 4, 4), np.int16))
    result = run("lnq-crop", ct, "--lungs", "totalsegmentator", "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert f"{FAST} {sentence} (an interrupted download?); " in result.err
    assert (
        "totalseg_download_weights -t total_fast fetches them, once such folders are removed"
        in (result.err)
    )


@pytest.mark.slow
def test_a_run_that_fails_is_one_line_a_case(surrogate_weights, turned, tmp_path, monkeypatch):
    own = tmp_path / "weights"
    shutil.copytree(surrogate_weights, own)
    (plans,) = own.rglob("plans.json")
    plans.write_text('{"configurations": {}}')
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(own))
    result = run("lnq-anatomy", *cts(turned)[:2], "--fast", "--device", "cpu", "-O", tmp_path / "o")
    assert result.status == 1
    assert [line.split(": ")[:3] for line in result.err.splitlines()] == [
        ["lnq-anatomy", str(ct), "TotalSegmentator failed"] for ct in cts(turned)[:2]
    ]
    assert names_in(tmp_path / "o") == []


def test_a_device_that_is_not_there_is_an_error(weights, turned, tmp_path):
    """TotalSegmentator itself goes on with the CPU, for hours."""
    result = run(
        "lnq-anatomy", cts(turned)[0], "--fast", "--device", "cuda:7", "-O", tmp_path / "o"
    )
    assert result.status == 1
    assert "torch finds no device 'cuda:7'" in result.err


@pytest.mark.slow
def test_a_process_that_is_killed_fails_its_case_and_the_next_gets_a_new_one(weights, turned):
    from lnqtools.errors import LnqError
    from lnqtools.images.volume import read_volume
    from lnqtools.totalseg.segmenter import Segmenter

    ct = read_volume(cts(turned)[0])
    with Segmenter("total", fast=True, device="cpu") as segmenter:
        first = segmenter.segment(ct, low_resolution=True)
        os.kill(segmenter._worker._process.pid, signal.SIGKILL)
        with pytest.raises(LnqError, match="its process ended by signal 9"):
            segmenter.segment(ct)
        again = segmenter.segment(ct, low_resolution=True)
    np.testing.assert_array_equal(first.array, again.array)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_tool(weights, turned, tmp_path, signum):
    tool = subprocess.Popen(
        [BIN / "lnq-anatomy", *cts(turned), "--fast", "--device", "cpu", "-O", tmp_path / "o"],
        stdout=subprocess.PIPE,
    )
    assert tool.stdout is not None
    assert tool.stdout.readline(), "one is done, the next one is at work"
    workers = children_of(tool.pid)
    assert len(workers) == 1
    tool.send_signal(signum)
    assert tool.wait(timeout=30) == -signum
    deadline = time.monotonic() + 30
    while left_behind(tmp_path) or any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "the process or its folder is still there"
        time.sleep(0.1)
    assert not [name for name in names_in(tmp_path / "o") if name.startswith(".")] or (
        signum == signal.SIGKILL
    )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# Lungs from lobes


@pytest.mark.slow
def test_boxes_are_within_10_mm_of_the_truth(weights, turned, tmp_path, monkeypatch):
    options = ("--lungs", "totalsegmentator", "--device", "cpu", "--boxes", tmp_path / "boxes.tsv")
    places = ("-O", tmp_path / "o", "--keep-anatomy", tmp_path / "maps")
    succeed("lnq-crop", *cts(turned), *options, *places)
    rows = {row["case"]: row for row in rows_of((tmp_path / "boxes.tsv").read_text())}
    for ct in cts(turned):
        name = ct.name.split(".")[0]
        lobes = np.isin(load(turned / "anatomy" / ct.name), LOBE_NUMBERS)
        spacing = np.array(nib.load(ct).header.get_zooms()[::-1])
        for axis, letter in enumerate("zyx"):
            inside = np.flatnonzero(lobes.any(axis=tuple({0, 1, 2} - {axis})))
            start, stop = numbers(rows[name], f"{letter}_start", f"{letter}_stop")
            assert abs(start - inside[0]) * spacing[axis] <= 10
            assert abs(stop - inside[-1] - 1) * spacing[axis] <= 10
        kept = tmp_path / "maps" / ct.name
        assert load(kept).shape == load(ct).shape
        assert load(kept).any()
    # what is kept needs no weights, but a table of it does
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "nowhere"))
    kept = ("--lungs", "totalsegmentator", *places, "-s")
    succeed("lnq-crop", *cts(turned), *kept, "--download")
    refused = run("lnq-crop", *cts(turned), *kept, "--boxes", tmp_path / "again.tsv")
    assert refused.status == 1
    assert refused.err.startswith("lnq-crop: TotalSegmentator's weights in ")
    # the maps that were kept serve other tools: the same box, to half a voxel of the model
    again = ("--lungs", tmp_path / "maps", "-O", tmp_path / "again", "--boxes", "-")
    for row in rows_of(succeed("lnq-crop", *cts(turned), *again, "-q").out):
        for letter in "xyz":
            ends = (f"{letter}_start", f"{letter}_stop")
            difference = np.subtract(numbers(row, *ends), numbers(rows[row["case"]], *ends))
            assert np.abs(difference).max() <= 1, "voxels of about 3 mm"


@pytest.mark.slow
def test_inference_within_the_lobes(weights, turned, model, tmp_path):
    ct = cts(turned)[0]
    options = ("-m", model, "--no-mirror", "--step-size", 1, "--device", "cpu", "--threads", 1)
    places = ("-o", tmp_path / "mask.nii.gz", "--keep-anatomy", tmp_path / "maps")
    succeed("lnq-infer", ct, *options, "--lungs", "totalsegmentator", *places)
    inside = np.isin(load(tmp_path / "maps" / "lps.nii.gz"), LOBE_NUMBERS)
    assert load(tmp_path / "mask.nii.gz").any()
    mask = load(tmp_path / "mask.nii.gz") != 0
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        found, lung = (np.flatnonzero(a.any(axis=others)) for a in (mask, inside))
        assert lung[0] - 1 <= found[0]
        assert found[-1] <= lung[-1] + 1


# Pseudo-labels from a CT alone


@pytest.mark.slow
def test_pseudo_labels_from_a_ct_alone_are_those_from_its_map(weights, phantoms, tmp_path):
    """Two runs at once, from a label cropped out of the scan; a line of shell as users write it."""
    case = "phantom0-0000.nii.gz"
    (tmp_path / "ct").mkdir()
    shutil.copy(phantoms / "ct" / case, tmp_path / "ct" / case)
    succeed("lnq-crop", phantoms / "ct" / case, "-o", tmp_path / "cropped.nii.gz", "-q")
    (tmp_path / "label").mkdir()
    succeed("lnq-weaklabel", phantoms / "weak" / case, "--strategy", "mask", "-o", tmp_path / case)
    like = ("--like", tmp_path / "cropped.nii.gz", "--label")
    succeed("lnq-crop", tmp_path / case, *like, "-o", tmp_path / "label" / case)
    result = shell(
        "lnq-pseudolabel label/*.nii.gz --anatomy totalsegmentator --fast --ct ct --device cpu "
        "--keep-anatomy maps --table made.tsv -O made & "
        "lnq-anatomy ct/*.nii.gz --fast --device cpu -O anatomy; status=$?; "
        "wait $! && exit $status",
        cwd=tmp_path,
    )
    assert result.status == 0, result.err
    np.testing.assert_array_equal(load(tmp_path / "maps" / case), load(tmp_path / "anatomy" / case))
    given = ("--anatomy", tmp_path / "anatomy", "-O", tmp_path / "given", "-q")
    succeed("lnq-pseudolabel", tmp_path / "label" / case, *given)
    made, label = load(tmp_path / "made" / case), load(tmp_path / "label" / case)
    np.testing.assert_array_equal(made, load(tmp_path / "given" / case))
    assert made.shape == label.shape
    changed = made != label
    assert (label[changed] == 2).all()
    assert (made[changed] == 0).all()
    (row,) = rows_of((tmp_path / "made.tsv").read_text())
    assert int(row["voxels_unknown_before"]) - int(row["voxels_unknown"]) == changed.sum() > 1000
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("lnq-crop a.nii --lungs totalsegmentator --classes v1", "--classes and --lungs totalsegm"),
        ("lnq-crop a.nii --keep-anatomy o", "--keep-anatomy is for --lungs totalsegmentator"),
        ("lnq-crop a.nii --threads 2", "--threads is for --lungs totalsegmentator"),
        ("lnq-infer a.nii -m m --download", "--download is for --lungs totalsegmentator"),
        (
            "lnq-pseudolabel a.nii --anatomy totalsegmentator --ct b.nii --classes v2",
            "--classes is for --anatomy FILE|DIR",
        ),
    ],
)
def test_options_without_effect_are_refused_before_anything_is_made(arguments, sentence, tmp_path):
    result = run(*arguments.split(), "-O", tmp_path / "out", cwd=tmp_path)
    assert result.status == 2
    assert sentence in result.err
    assert names_in(tmp_path) == []


def test_jobs_are_refused(tmp_path):
    options = ("--lungs", "totalsegmentator", "-j", 2, "-O", tmp_path / "out")
    result = run("lnq-crop", "a.nii.gz", "b.nii.gz", *options)
    assert result.status == 2
    assert "one case at a time, with all cores: leave out -j" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("what", ["checkpoint", "plans"])
def test_weights_run_no_code(what, weights, turned, tmp_path, monkeypatch):
    """nnU-Net, as TotalSegmentator calls it, trusts every model."""
    import torch

    own = shutil.copytree(weights, tmp_path / "weights")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(own))
    model = own / FAST / TRAINED
    if what == "checkpoint":
        path = model / "fold_0" / "checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        torch.save(content | {"trap": Trap(tmp_path / "sprung")}, path)
    else:
        path = model / "plans.json"
        plans = path.read_text()
        network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
        assert network in plans
        path.write_text(plans.replace(network, "os.mkdir"))
    ct = next((turned / "ct").iterdir())
    result = run("lnq-anatomy", ct, "--fast", "--device", "cpu", "-O", tmp_path / "out")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "could run any code" in result.err
    assert not (tmp_path / "sprung").exists()
