"""CTs that are not in HU: every tool that relies on CT numbers says what they look like."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from tests.cli.helpers import rows_of, usage_error
from tests.conftest import affine, load, run, save, succeed
from tests.suite import command

SPACING = affine((2.6, 2.6, 3.2))

WAYS = {
    "raw": (lambda a: a + 1024, "the intercept of -1024 is missing; add it"),
    "unit": (lambda a: ((a + 160) / 400).clip(0, 1), "a scaled or normalized CT, or a label"),
    "gray": (lambda a: ((a + 160) / 400 * 255).clip(0, 255).astype(np.uint8), "8-bit gray levels"),
    "twice": (lambda a: a - 1024, "the intercept or the slope was applied twice"),
    "doubled": (lambda a: 2 * a, "the intercept or the slope was applied twice"),
    "window": (lambda a: a.clip(-160, 240), "they were clipped to this window"),
    "z": (lambda a: (a - a.mean()) / a.std(), "a scaled or normalized CT, or a label"),
    "one": (lambda a: np.full_like(a, 40), "all its voxels are 40: not a CT"),
}


@pytest.fixture(scope="module")
def place(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with hu.nii.gz, the same in other ways, and what goes with each."""
    folder = tmp_path_factory.mktemp("hu")
    ct = load(phantoms / "ct" / "phantom0-0000.nii.gz")[20:-20:2, ::2, ::2]
    images = {"hu": ct} | {
        name: change(ct.astype(np.float32)) for name, (change, _) in WAYS.items()
    }
    lobes = np.zeros(ct.shape, np.uint8)
    lobes[5:-5, 5:-5, 5:-5] = 10  # a lobe of the left lung
    label = np.full(ct.shape, 2, np.uint8)
    label[10:14, 20:24, 30:34] = 1
    for name, image in images.items():
        whole = image.dtype.kind == "u" or not np.any(image % 1)
        array = image.astype(np.int16) if whole and image.dtype.kind != "u" else image
        save(folder / "ct" / f"{name}.nii.gz", array, SPACING)
        save(folder / "lungs" / f"{name}.nii.gz", lobes, SPACING)
        save(folder / "label" / f"{name}.nii.gz", label, SPACING)
    return folder


def invoke(tool: str, *arguments) -> int:
    """Run a tool in this process, for what has no need of another; return its status."""
    try:
        with command(tool).make_context(tool, list(map(str, arguments))) as context:
            command(tool).invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def told(err: str) -> dict[str, str]:
    """Return what standard error says of each CT."""
    lines = [line.partition("/ct/")[2] for line in err.splitlines() if "/ct/" in line]
    return {name: words for name, _, words in (line.partition(".nii.gz: ") for line in lines)}


def assert_all_told(said: dict[str, str]) -> None:
    assert list(said) == list(WAYS)
    for name, (_, sentence) in WAYS.items():
        assert sentence in said[name], name
        assert said[name].endswith(", or --trust-hu if they are HU"), name


def cts(place: Path, *names: str) -> list[Path]:
    return [place / "ct" / f"{name}.nii.gz" for name in names or ("hu", *WAYS)]


# Every tool, every way


@pytest.mark.parametrize("lungs", ["hu", "mask"])
def test_crop(lungs, place, tmp_path, capfd):
    option = lungs if lungs == "hu" else place / "lungs"
    options = ("--lungs", option, "--classes", "v2") if lungs == "mask" else ()
    assert invoke("lnq-crop", *cts(place), *options, "-q", "-O", tmp_path) == 1
    out, err = capfd.readouterr()
    assert_all_told(told(err))
    assert out == f"{tmp_path / 'hu.nii.gz'}\n"


@pytest.mark.parametrize("lungs", ["hu", "none", "mask"])
def test_infer(lungs, place, model, tmp_path, capfd):
    bad = cts(place, *WAYS)
    where = {"mask": (place / "lungs", "--classes", "v2")}.get(lungs, (lungs,))
    options = ("-m", model, "--device", "cpu", "--threads", 1, "--no-mirror")
    assert invoke("lnq-infer", *bad, *options, "--lungs", *where, "-q", "-O", tmp_path) == 1
    out, err = capfd.readouterr()
    assert_all_told(told(err))
    assert out == ""


def test_pseudolabel(place, tmp_path, capfd):
    labels = [place / "label" / path.name for path in cts(place)]
    options = ("--anatomy", place / "lungs", "--classes", "v2", "--lung-hu-max", -300, "-q")
    given = (*labels, *options, "--ct", place / "ct", "-O", tmp_path)
    assert invoke("lnq-pseudolabel", *given) == 1
    out, err = capfd.readouterr()
    assert_all_told(told(err))
    assert out == f"{tmp_path / 'hu.nii.gz'}\n"


def test_train_names_all_at_once_before_any_work(place, tmp_path, capfd):
    pytest.importorskip("nnunetv2")
    data = ("--images", place / "ct", "--labels", place / "label")
    quick = ("--recipe", "smoke", "--device", "cpu", "--threads", 1, "-q")
    assert invoke("lnq-train", *data, *quick, "-m", tmp_path / "model") == 1
    said = told(capfd.readouterr().err)
    assert_all_told({name: said[name] for name in WAYS})
    assert len(said) == len(WAYS)
    assert not (tmp_path / "model").exists()


def test_anatomy(place, surrogate_weights, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(surrogate_weights))
    for tool, options in (
        ("lnq-anatomy", ["--fast"]),
        ("lnq-crop", ["--lungs", "totalsegmentator"]),
    ):
        given = (*cts(place, *WAYS), *options, "--device", "cpu", "-q", "-O", tmp_path / tool)
        assert invoke(tool, *given) == 1
        assert_all_told(told(capfd.readouterr().err))


# The installed tools, once each, and the way on


def test_an_installed_tool_tells_and_goes_on_when_trusted(place, tmp_path):
    """Of lungs in a mask the box is the same, whatever the values; they stay as they are."""
    options = ("--lungs", place / "lungs", "--classes", "v2", "-q")
    raw, hu = cts(place, "raw", "hu")
    refused = run("lnq-crop", raw, hu, *options, "-O", tmp_path)
    assert refused.status == 1
    highest = load(raw).max()
    assert refused.err == (
        f"lnq-crop: {raw}: its values lie between 0 and {highest}: the intercept of -1024 is "
        "missing; add it, or --trust-hu if they are HU\n"
    )
    assert refused.lines == [str(tmp_path / "hu.nii.gz")]
    succeed("lnq-crop", raw, *options, "--trust-hu", "-O", tmp_path)
    cropped = load(tmp_path / "raw.nii.gz")
    np.testing.assert_array_equal(cropped, load(tmp_path / "hu.nii.gz") + 1024)


def test_trusting_changes_no_byte_and_is_not_recorded(place, tmp_path):
    (hu,) = cts(place, "hu")
    options = ("--lungs", place / "lungs", "--classes", "v2", "-q")
    succeed("lnq-crop", hu, *options, "-o", tmp_path / "a.nii.gz")
    succeed("lnq-crop", hu, *options, "--trust-hu", "-o", tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    succeed("lnq-crop", hu, *options, "--trust-hu", "-s", "-o", tmp_path / "a.nii.gz")


def test_lungs_are_not_found_in_trusted_values_that_are_not_hu(place, tmp_path):
    (raw,) = cts(place, "raw")
    result = run("lnq-crop", raw, "--trust-hu", "-o", tmp_path / "out.nii.gz")
    assert (result.status, "no lungs found" in result.err) == (1, True)


def test_where_no_lungs_are_sought_any_values_do(place, tmp_path):
    (raw,) = cts(place, "raw")
    succeed("lnq-crop", raw, "--lungs", "none", "--spacing", 6, "-o", tmp_path / "coarse.nii.gz")
    succeed("lnq-crop", raw, "--like", place / "ct" / "hu.nii.gz", "-o", tmp_path / "like.nii.gz")
    label = place / "label" / "raw.nii.gz"
    lungs = ("--lungs", place / "lungs", "--classes", "v2")
    succeed("lnq-crop", label, "--label", *lungs, "-q", "-o", tmp_path / "label.nii.gz")
    for options in (
        ("--lungs", "none", "--spacing", 6),
        ("--label", "--lungs", place / "lungs"),
        ("--like", raw),
    ):
        assert "--trust-hu" in usage_error("lnq-crop", raw, *options, "--trust-hu", "-o", "x.nii")
    label_only = ("--anatomy", place / "lungs", "--trust-hu", "-o", "x.nii")
    assert "--trust-hu is for --ct" in usage_error("lnq-pseudolabel", label, *label_only)


def test_installed_infer_refuses_and_goes_on_when_trusted(place, model, tmp_path):
    raw, hu = (tmp_path / "ct" / path.name for path in cts(place, "raw", "hu"))
    for small in (raw, hu):
        save(small, load(place / "ct" / small.name)[10:28, 20:38, 20:38], SPACING)
    options = ("-m", model, "--device", "cpu", "--threads", 1, "--no-mirror", "--lungs", "none")
    result = run("lnq-infer", raw, hu, *options, "-O", tmp_path)
    assert (result.status, result.lines) == (1, [str(tmp_path / "hu.nii.gz")])
    assert list(told(result.err)) == ["raw"]
    succeed("lnq-infer", raw, *options, "--trust-hu", "-O", tmp_path)
    assert load(tmp_path / "raw.nii.gz").shape == load(raw).shape


def test_installed_pseudolabel_and_its_table(place, tmp_path):
    label = place / "label" / "window.nii.gz"
    options = ("--anatomy", place / "lungs", "--classes", "v2", "--lung-hu-max", -50)
    given = (label, *options, "--ct", place / "ct", "--table", "-", "-O", tmp_path)
    refused = run("lnq-pseudolabel", *given)
    assert refused.status == 1
    assert f"{place / 'ct' / 'window.nii.gz'}: its values lie between -160 and 240" in refused.err
    (row,) = rows_of(succeed("lnq-pseudolabel", *given, "--trust-hu").out)
    assert row["case"] == "window"


def test_installed_train_counts_the_statistics_of_trusted_values(place, tmp_path):
    """nnU-Net's fingerprint is then that of the values as they are."""
    pytest.importorskip("nnunetv2")
    pairs = tmp_path / "pairs"
    lines = []
    for name in ("hu", "raw"):
        for number in range(2):
            for kind in ("ct", "label"):
                copy = tmp_path / kind / f"{name}{number}.nii.gz"
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes((place / kind / f"{name}.nii.gz").read_bytes())
                lines.append(f"{copy}\n")
    pairs.write_text("".join(lines))
    quick = ("--recipe", "smoke", "--patch", "16,16,8", "--set", "features=4,8", "--epochs", 1)
    options = (*quick, "--iterations", 1, "--folds", 2, "--device", "cpu", "--threads", 1)
    refused = run("lnq-train", "-T", pairs, *options, "-m", tmp_path / "model")
    assert (refused.status, list(told(refused.err))) == (1, ["raw0", "raw1"])
    succeed(
        "lnq-train",
        "-T",
        pairs,
        *options,
        "--trust-hu",
        "--allow-no-background",
        "-m",
        tmp_path / "model",
    )
    plans = json.loads((tmp_path / "model" / "plans.json").read_text())
    (found,) = plans["foreground_intensity_properties_per_channel"].values()
    node = load(place / "label" / "hu.nii.gz") == 1
    values = load(place / "ct" / "hu.nii.gz")[node]
    assert found["mean"] == pytest.approx(values.mean() + 512, abs=1)
    assert found["max"] == values.max() + 1024
