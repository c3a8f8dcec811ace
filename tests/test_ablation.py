"""The ablation study's workflow: its plan, its table, and a run of it on phantoms."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from lnqtools.images.grid import Grid
from lnqtools.images.names import label_table
from lnqtools.images.volume import Volume, write_volume
from tests.cli.helpers import rows_of
from tests.conftest import ROOT, Result, load, shell, succeed

ABLATION = ROOT / "examples" / "ablation"
STEPS = ROOT / "examples" / "slurm" / "steps.sh"
RECIPE = """\
epochs = 2
iterations = 4
validation_iterations = 1
learning_rate = 1e-2
full_share = 0.5
save_every = 1
patch = [32, 32, 16]
batch = 2
features = [4, 8]
convolutions = 1
gpu_memory_gb = 1
"""


def script(name: str) -> ModuleType:
    """Import a Python file of the workflow, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"ablation_{name}", ABLATION / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(ABLATION))  # as for a script that is run
plan = script("plan")
claims = script("claims")
results = script("results")


def config(name: str = "config.yaml") -> dict:
    return yaml.safe_load((ABLATION / name).read_text())


# The plan


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict:
    """Lay out empty files where config.yaml says that data are; return that configuration."""
    monkeypatch.chdir(tmp_path)
    study = config()
    for cohort, data in study["cohorts"].items():
        folders = {labels["annotations"] for labels in data["labels"].values()}
        for folder in (data["ct"], *folders):
            touch(folder, f"{cohort}1", f"{cohort}2", f"{cohort}10")
    touch(study["test"]["ct"], "a", "b", "c")
    touch(study["test"]["truth"], "a", "b", "c")
    return study


def touch(folder: str, *cases: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for case in cases:
        (Path(folder) / f"{case}.nii.gz").touch()


def test_the_models_are_the_papers(study):
    """Section 3.2: what each model is trained on, and how the weak labels are made."""
    read = plan.Plan(study)
    standard, refined = ("full", "standard"), ("full", "refined")
    anatomy = ("weak", "mask+anatomy")
    assert {name: list(row.items()) for name, row in read.models.items()} == {
        "1": [standard],
        "2": [standard, ("weak", "noisy")],
        "3": [standard, ("weak", "mask")],
        "4": [standard, ("weak", "coat")],
        "5": [standard, anatomy],
        "6": [refined, anatomy],
        "7": [refined, anatomy, ("tumour", "none+anatomy")],
    }
    assert [read.fills(*labels) for labels in (anatomy, ("weak", "coat"), standard)] == [
        True,
        False,
        False,
    ]
    strategies = {
        name: labels["weaklabel"].split()[1]
        for data in study["cohorts"].values()
        for name, labels in data["labels"].items()
    }
    assert strategies == {
        **dict.fromkeys(("standard", "refined"), "full"),
        **dict.fromkeys(("mask", "mask+anatomy", "none+anatomy"), "mask"),
        "noisy": "noisy",
        "coat": "coat",
    }


def test_the_miniature_has_the_papers_models_and_an_oracle():
    models = config("miniature/config.yaml")["models"]
    assert models["oracle"] == {"full": "refined", "weak": "truth"}
    assert {name: models[name] for name in config()["models"]} == config()["models"]


def test_each_claim_is_of_models_of_the_miniature():
    models = config("miniature/config.yaml")["models"]
    stated = study_claims()
    assert {name for claim in stated for name in (claim.first, claim.second)} == set(models)
    assert len({claim.name for claim in stated}) == len(stated)


def test_the_teams_models_are_two_more(study):
    """As snakemake joins the two files; the paper's seven stay as they are."""
    teams = config("teams.yaml")
    labels = teams["cohorts"]["weak"]["labels"]
    study["cohorts"]["weak"]["labels"] |= labels
    study["models"] |= teams["models"]
    read = plan.Plan(study)
    assert list(read.models) == [*map(str, range(1, 8)), "winner", "runner-up"]
    assert all(read.fills("weak", name) for name in labels)
    anatomy = ["--anatomy", "data/lnq2023/anatomy"]
    assert read.known_structures("weak", "winner") == anatomy
    assert read.known_structures("weak", "mask+anatomy") == anatomy
    assert read.known_structures("weak", "runner-up") == []


def test_the_teams_rows_are_the_options_of_their_scripts():
    for team, how in config("teams.yaml")["cohorts"]["weak"]["labels"].items():
        said = (ROOT / "examples" / f"{team}-labels.sh").read_text().replace("\\\n", " ")
        given = " ".join(said.split()).replace('"$probabilities"', "data/lnq2023/probabilities")
        assert f"-T - {how['weaklabel']} -s" in given
        assert f"{how['pseudolabel']} -s" in given
        assert how["annotations"] == "data/lnq2023/annotations"


def test_papers_numbers_are_those_of_table_3():
    rows = rows_of((ABLATION / "paper.tsv").read_text())
    assert [(float(row["dice"]), float(row["assd"])) for row in rows] == [
        *((0.172, 48.95), (0.343, 18.46), (0.552, 9.37), (0.548, 12.19)),
        *((0.601, 7.08), (0.665, 4.47), (0.663, 3.97)),
    ]


def test_cases_are_listed_by_name_and_shared_by_jobs(study):
    study["jobs"]["crop"]["cases"] = 2
    read = plan.Plan(study)
    folder = study["cohorts"]["weak"]["ct"]
    expected = [f"{folder}/weak{n}.nii.gz" for n in (1, 10, 2)]
    assert read.lists["weak/ct"] == expected
    assert read.shards("weak/ct", "crop") == 2
    assert read.shards("weak/ct", "weaklabel") == 1


def test_a_fingerprint_tells_lists_apart(study):
    before = plan.Plan(study)
    touch(study["test"]["ct"], "d")
    touch(study["test"]["truth"], "d")
    after = plan.Plan(study)
    changed = {name for name in before.lists if before.fingerprint(name) != after.fingerprint(name)}
    assert changed == {"test/ct"}


def test_excluded_cases_are_in_no_list(study):
    study["cohorts"]["full"]["exclude"] = ["full10"]
    (Path(study["cohorts"]["full"]["labels"]["refined"]["annotations"]) / "full10.nii.gz").unlink()
    read = plan.Plan(study)
    for name in ("full/ct", "full/standard", "full/refined"):
        assert [Path(path).name for path in read.lists[name]] == ["full1.nii.gz", "full2.nii.gz"]


@pytest.mark.parametrize(
    ("excluded", "sentence"),
    [
        (["full10.nii.gz"], "exclude: there is no case full10.nii.gz"),
        ([10], "exclude: write 10 in quotes"),  # YAML reads 0012 as ten
        (["full1", "full2", "full10"], "all cases are excluded"),
    ],
)
def test_exclusions_that_exclude_nothing_or_all_are_refused(study, excluded, sentence):
    study["cohorts"]["full"]["exclude"] = excluded
    with pytest.raises(plan.PlanError, match=f"^cohort full: {sentence}"):
        plan.Plan(study)


def test_a_model_may_have_options_of_its_own(study):
    study |= {"train": "--device cpu", "train_of": {5: "--set unknown=0.1"}}
    read = plan.Plan(study)
    assert read.train_options("5") == "--device cpu --set unknown=0.1"
    assert read.train_options("6") == "--device cpu"
    study["train_of"] = {"55": "--lr 1"}
    with pytest.raises(plan.PlanError, match="train_of: there is no model 55"):
        plan.Plan(study)


def test_a_cohort_without_cts_is_refused(study):
    del study["cohorts"]["full"]["ct"]
    with pytest.raises(plan.PlanError, match="lacks 'ct'"):
        plan.Plan(study)


def test_only_some_models(study):
    study |= {"only": [5, "1"], "overlap": ["5", "6"]}
    read = plan.Plan(study)
    assert list(read.models) == ["5", "1"]
    assert read.overlap == ["5"]
    assert set(read.lists) == {
        *("full/ct", "full/standard", "weak/ct", "weak/mask+anatomy", "test/ct")
    }


def without(*keys: str):
    def change(study: dict) -> None:
        for key in keys[:-1]:
            study = study[key]
        del study[keys[-1]]

    return change


def having(value, *keys: str):
    def change(study: dict) -> None:
        for key in keys[:-1]:
            study = study[key]
        study[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("lungs"), "the configuration lacks 'lungs'"),
        (without("jobs", "infer"), "the configuration lacks 'infer'"),
        (having({"cases": 1}, "jobs", "crop"), "the configuration is not of its form: .*cores"),
        (having({}, "models"), "there is no model"),
        (having(["9"], "only"), "only: there is no model 9"),
        (having([], "seeds"), "seeds and folds must name at least one each"),
        (having({"other": "mask"}, "models", "8"), "model 8: there is no cohort other"),
        (having({"weak": "none"}, "models", "8"), "model 8: cohort weak has no labels none"),
        (having("nowhere", "test", "ct"), "nowhere: no such folder"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(study, change, message):
    changed = copy.deepcopy(study)
    change(changed)
    with pytest.raises(plan.PlanError, match=f"^{message}"):
        plan.Plan(changed)


def test_cts_and_annotations_without_each_other_are_named(study):
    touch(study["cohorts"]["weak"]["ct"], *(f"x{n}" for n in range(7)))
    with pytest.raises(plan.PlanError) as caught:
        plan.Plan(study)
    assert str(caught.value) == (
        "cohort weak, labels coat: CTs without annotation: x0, x1, x2, x3, x4 and 2 more; "
        "exclude them, or add what is missing"
    )


def test_two_images_of_a_case_are_refused(tmp_path):
    touch(str(tmp_path), "a", "a_0000")
    with pytest.raises(plan.PlanError, match="more than one image of case a"):
        plan.images_by_case(str(tmp_path))


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\\b", "a\udce9b"])
def test_names_that_a_list_cannot_hold_are_refused(name, tmp_path):
    touch(str(tmp_path), name)
    with pytest.raises(plan.PlanError, match="line ends"):
        plan.images_by_case(str(tmp_path))


# The table


def table_of(path: Path, *values: tuple[str, str]) -> Path:
    lines = ["case\tdice\tassd_mm", *(f"{n}\t{d}\t{a}" for n, (d, a) in enumerate(values))]
    path.write_text("\n".join(lines) + "\n")
    return path


def table3(folder: Path, *arguments) -> Result:
    words = " ".join(f"'{argument}'" for argument in arguments)
    return shell(f"'{sys.executable}' '{ABLATION / 'table3.py'}' {words}", folder)


def test_table3_takes_all_seeds_together(tmp_path):
    first = table_of(tmp_path / "a.tsv", ("0.5", "3"), ("0", ""))
    second = table_of(tmp_path / "b.tsv", ("0.6", "5"), ("0.1", "10"))
    done = table3(tmp_path, "--paper", ABLATION / "paper.tsv", f"5={first}", f"5={second}")
    (row,) = rows_of(done.out)
    assert row == {
        "model": "5",
        "dice_mean": "0.3000",
        "dice_sd": f"{statistics.stdev([0.5, 0, 0.6, 0.1]):.4f}",
        "assd_mean": "6.0000",
        "assd_sd": f"{statistics.stdev([3, 5, 10]):.4f}",
        "n": "4",
        "n_undefined": "1",
        "seeds": "2",
        "paper_dice": "0.601",
        "paper_assd": "7.08",
    }


def test_table3_leaves_blank_what_is_not_there(tmp_path):
    table = table_of(tmp_path / "a.tsv", ("0", ""))
    (row,) = rows_of(table3(tmp_path, f"oracle={table}").out)
    blank = ("dice_sd", "assd_mean", "assd_sd", "paper_dice", "paper_assd")
    assert [row[name] for name in blank] == [""] * 5
    assert (row["dice_mean"], row["n_undefined"]) == ("0.0000", "1")


@pytest.mark.parametrize("argument", ["nowhere.tsv", "1=nowhere.tsv"])
def test_table3_says_what_is_wrong(tmp_path, argument):
    done = table3(tmp_path, argument)
    assert done.status != 0
    assert done.out == ""
    assert "nowhere.tsv" in done.err
    assert "Traceback" not in done.err


def mean_of_seeds(folder: Path, *files: Path) -> Result:
    words = " ".join(f"'{file}'" for file in files)
    return shell(f"'{sys.executable}' '{ABLATION / 'mean_of_seeds.py'}' {words}", folder)


def test_a_case_gets_the_mean_over_its_seeds(tmp_path):
    """A distance that one seed lacks is the mean of the others."""
    first = table_of(tmp_path / "a.tsv", ("0.5", "3"), ("0", ""), ("0", ""))
    second = table_of(tmp_path / "b.tsv", ("0.6", "5"), ("0.1", "10"), ("0", ""))
    rows = rows_of(mean_of_seeds(tmp_path, first, second).out)
    assert [(row["case"], row["dice"], row["assd_mm"]) for row in rows] == [
        ("0", "0.55", "4"),
        ("1", "0.05", "10"),
        ("2", "0", ""),
    ]


def test_seeds_of_other_cases_have_no_mean(tmp_path):
    first = table_of(tmp_path / "a.tsv", ("0.5", "3"))
    second = table_of(tmp_path / "b.tsv", ("0.6", "5"), ("0.1", "10"))
    done = mean_of_seeds(tmp_path, first, second)
    assert (done.status, done.out) == (1, "")
    assert done.err == "mean_of_seeds.py: the tables are not of the same cases\n"


# The plain version


def test_steps_counts_its_tasks(tmp_path):
    """Seven models and five folds; 20 shards, as settings.sh says."""
    settings = STEPS.parent / "settings.sh"
    counts = [
        shell(f"'{STEPS}' '{settings}' tasks {step}", tmp_path).out.strip()
        for step in ("crop", "labels", "train", "infer")
    ]
    assert counts == ["20", "20", "35", "140"]


@pytest.mark.parametrize("arguments", ["train 35", "train -1", "train x", "other", "tasks other"])
def test_steps_refuses_what_is_no_task(tmp_path, arguments):
    done = shell(f"'{STEPS}' '{STEPS.parent / 'settings.sh'}' {arguments}", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("usage: ")


def test_steps_trains_on_the_same_labels_as_the_workflow(tmp_path):
    """The tables of settings.sh and of config.yaml say the same."""
    lines = shell(
        f"source '{STEPS.parent / 'settings.sh'}'; printf '%s%s' \"$labels\" \"$models\"", tmp_path
    ).lines
    labels = {
        (words[0], words[1]): (words[3] == "fill", words[4:])
        for words in map(str.split, lines)
        if words and "/" not in words[1]
    }
    study = config()
    assert {key: (fill, options[:2]) for key, (fill, options) in labels.items()} == {
        (cohort, name): ("pseudolabel" in how, how["weaklabel"].split()[:2])
        for cohort, data in study["cohorts"].items()
        for name, how in data["labels"].items()
    }
    models = {
        words[0]: dict(kind.split("/") for kind in words[1:])
        for words in map(str.split, lines)
        if words and "/" in words[1]
    }
    assert models == study["models"]


# The whole


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of all images and all that is in the models."""
    files = [*folder.rglob("*.nii.gz"), *folder.rglob("models/**/*.*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


# The claims


def write_study(folder: Path, scores: dict[str, list[list[float]]]) -> Path:
    """Lay out tables of cases: model → seed → Dice of each case; 0 has no distance."""
    for model, seeds in scores.items():
        for seed, dices in enumerate(seeds):
            path = folder / model / f"seed{seed}" / "cases.tsv"
            path.parent.mkdir(parents=True)
            rows = [f"c{n}\t{d:.6f}\t{10 * (1 - d) if d else ''}" for n, d in enumerate(dices)]
            path.write_text("\n".join(["case\tdice\tassd_mm", *rows]) + "\n")
    return folder


def study_claims() -> list:
    return claims.read_claims(str(ABLATION / "miniature" / "claims.tsv"))


def write_claims(path: Path, *rows: str) -> Path:
    path.write_text(
        "\n".join(["claim metric first second effect within", *rows]).replace(" ", "\t")
    )
    return path


def judge(tmp_path: Path) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, ABLATION / "claims.py", tmp_path / "claims.tsv", tmp_path / "study"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return rows_of(done.stdout)


def test_verdicts_are_those_of_the_protocol(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, 40)
    noise = rng.normal(0, 0.02, (4, 3, 40))
    write_study(
        tmp_path / "study",
        {
            "1": (base + noise[0]).tolist(),
            "2": (base + 0.1 + noise[1]).tolist(),
            "3": (base + 0.1 + noise[2]).tolist(),
            "4": (base + 0.11 + noise[3]).tolist(),
        },
    )
    write_claims(
        tmp_path / "claims.tsv",
        *("up dice 1 2 .05 ", "down dice 1 2 -.05 ", "more dice 1 2 .2 ", "alike dice 2 3 0 .02"),
        *("apart dice 1 2 0 .02", "near assd_mm 1 2 -.5 "),
    )
    rows = {row["claim"]: row for row in judge(tmp_path)}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        **{"up": "shown", "down": "contradicted", "more": "not shown", "alike": "shown"},
        **{"apart": "contradicted", "near": "shown"},
    }
    up = rows["up"]
    expected = float((0.1 + noise[1] - noise[0]).mean())
    assert float(up["difference"]) == pytest.approx(expected, abs=1e-4)
    assert float(up["low"]) < expected < float(up["high"])
    assert (up["n"], up["seeds"]) == ("40", "3")
    assert float(rows["near"]["difference"]) == pytest.approx(-10 * expected, abs=1e-3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_interval_is_that_of_drawing_seeds_and_cases_one_after_the_other(seeds):
    differences = np.random.default_rng(2).normal(0.05, 0.2, (seeds, 60))
    generator = np.random.default_rng(0)
    of_seeds = generator.integers(seeds, size=(claims.RESAMPLES, seeds))
    of_cases = generator.integers(60, size=(claims.RESAMPLES, 60))
    means = [differences[of][:, cs].mean() for of, cs in zip(of_seeds, of_cases, strict=True)]
    expected = np.percentile(means, [2.5, 97.5])
    assert claims.interval(differences) == pytest.approx(expected, abs=1e-13)


def test_an_interval_over_seeds_is_wider_than_over_cases_alone():
    """Two seeds that differ by more than their cases say little, however many cases there are."""
    cases = np.random.default_rng(1).normal(0.05, 0.01, 500)
    low, high = claims.interval(np.stack([cases - 0.04, cases + 0.04]))
    assert low == pytest.approx(0.01, abs=0.003)
    assert high == pytest.approx(0.09, abs=0.003)
    low, high = claims.interval(np.stack([cases, cases]))
    assert high - low < 0.003


def test_an_empty_prediction_has_the_distance_of_the_protocol(tmp_path):
    write_study(tmp_path / "study", {"1": [[0.0, 0.5]], "2": [[0.5, 0.5]]})
    write_claims(tmp_path / "claims.tsv", "near assd_mm 1 2 -1 ")
    (row,) = judge(tmp_path)
    assert float(row["difference"]) == pytest.approx((5 - claims.EMPTY_MM + 0) / 2)


def test_overlap_is_the_mean_of_a_cases_true_nodes(tmp_path):
    for model, overlaps in {"1": (0.2, 0.4, 0.0), "2": (0.6, 0.5, 1.0)}.items():
        folder = tmp_path / "study" / model / "seed0"
        folder.mkdir(parents=True)
        rows = ["case\tside\tdiameter_ellipsoid_mm\toverlap", "a\tprediction\t5\t0.9"]
        nodes = zip("aab", (9.9, 10, 12), overlaps, strict=True)
        rows += [f"{case}\treference\t{mm}\t{overlap}" for case, mm, overlap in nodes]
        (folder / "lesions.tsv").write_text("\n".join(rows) + "\n")
    write_claims(tmp_path / "claims.tsv", "all overlap 1 2 .1 ", "small overlap_small 1 2 .1 ")
    every, small = judge(tmp_path)
    assert (every["n"], float(every["difference"])) == ("2", pytest.approx((0.25 + 1) / 2))
    assert (small["n"], float(small["difference"])) == ("1", pytest.approx(0.4))


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ([[0.5]], "1 and 2 have different cases"),
        ([[0.5, 0.5]] * 2, "1 and 2 have different seeds"),
        ([], "no table of dice in it"),
    ],
)
def test_models_that_cannot_be_paired_are_refused(second, sentence, tmp_path):
    write_study(tmp_path / "study", {"1": [[0.1, 0.5]], "2": second})
    write_claims(tmp_path / "claims.tsv", "up dice 1 2 .05 ")
    done = subprocess.run(
        [sys.executable, ABLATION / "claims.py", tmp_path / "claims.tsv", tmp_path / "study"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


# The page of results


def test_models_are_in_the_order_of_the_study():
    names = ["oracle", "10-sure", "9b", "12", "9", "1"]
    assert sorted(names, key=results.natural) == ["1", "9", "9b", "10-sure", "12", "oracle"]


def write_results(folder: Path) -> None:
    """Two models of two seeds and two cases, one of which model 1 does not see at all."""
    head = "case\tdice\tassd_mm\tprecision\trecall"
    nodes = "case\tside\tdiameter_ellipsoid_mm\toverlap"
    for model, dices in {"1": (0.2, 0.0), "2": (0.6, 0.4)}.items():
        for seed, more in enumerate((0.0, 0.1)):
            path = folder / model / f"seed{seed}"
            path.mkdir(parents=True)
            first, second = (dice + more if dice else 0 for dice in dices)
            end = f"{second}\t5\t1\t.5" if second else "0\t\t\t0"
            rows = [head, f"a\t{first}\t7\t.5\t.1", f"b\t{end}"]
            (path / "cases.tsv").write_text("\n".join(rows) + "\n")
            rows = [nodes, "a\treference\t9\t.2", "a\treference\t15\t.8", "b\tprediction\t9\t1"]
            (path / "lesions.tsv").write_text("\n".join(rows) + "\n")


def cells(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines()]


def test_the_pages_tables_are_means_over_cases_and_seeds(tmp_path):
    write_results(tmp_path)
    models = [tmp_path / "1", tmp_path / "2"]
    paper = {"2": {"dice": "0.343", "assd": "18.46"}}
    _, _, first, second = cells(results.scores_table(models, paper))
    assert first[1].startswith(".125 ± ")  # of .2, .3, 0, 0
    assert first[3:] == ["53.5", "2", ".500", ".050", "–", "–"]  # 7 mm, and 100 where empty
    assert second[1].startswith(".550 ± ")
    assert second[3:] == ["6.0", "0", ".750", ".300", ".343", "18.5"]
    assert cells(results.seeds_table(models)) == [
        ["model", "seed 0", "seed 1"],
        ["---", "---:", "---:"],
        ["1", ".100", ".150"],
        ["2", ".500", ".600"],
    ]
    by_phase = cells(results.phases_table(models, {"a": "none", "b": "weak"}))
    assert by_phase[0] == ["model", "none (1)", "weak (1)"]
    assert by_phase[3] == ["2", ".650", ".450"]
    by_size = cells(results.sizes_table(models))
    assert by_size[0] == ["model", "0–5 mm (0)", "5–10 mm (1)", "10–15 mm (0)", "≥ 15 mm (1)"]
    assert by_size[2] == ["1", "–", ".200", "–", ".800"]


def test_places_that_have_most_come_first(tmp_path):
    table = tmp_path / "places.tsv"
    rows = ["1 0 heart 1.0", "1 1 heart 3.0", "1 0 tumor 5.0", "2 0 tumor 0.5"]
    table.write_text("\n".join(["model seed place ml", *rows]).replace(" ", "\t") + "\n")
    assert cells(results.places_table(str(table)))[::2] == [
        ["model", "ml in all", "tumor", "heart", "others"],
        ["1", "4.5", "2.5", "2.0", "0.0"],
    ]


def test_false_positives_are_counted_where_they_lie(tmp_path):
    """One row of six voxels of 1 ml: a node, a tumor in the heart, the heart, nothing."""
    grid = Grid.of_spacing((6, 1, 1), (10.0, 10.0, 10.0))
    rows = {
        "truth": [1, 0, 0, 0, 0, 0],
        "tumour": [0, 1, 0, 0, 0, 0],
        "anatomy": [7, 7, 7, 7, 0, 0],
        "seen": [1, 1, 1, 0, 1, 0],
    }
    for name, values in rows.items():
        folder = tmp_path / ("predicted/5/seed0" if name == "seen" else f"test/{name}")
        folder.mkdir(parents=True)
        array = np.array(values, np.uint8).reshape(6, 1, 1)
        extensions = (label_table({7: "heart"}),) if name == "anatomy" else ()
        write_volume(Volume(array, grid, extensions=extensions), folder / "a.nii.gz")
    done = subprocess.run(
        [
            *(sys.executable, ABLATION / "false_positives.py"),
            *(tmp_path / "predicted", tmp_path / "test"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {row["place"]: float(row["ml"]) for row in rows_of(done.stdout)}
    assert found == {"tumor": 1.0, "heart": 1.0, "elsewhere": 1.0}


def write_machine(folder: Path, models: Iterable[str], dice: float) -> None:
    """Lay out what run.sh leaves of models of seed 0 on a machine, for two cases to test."""
    grid = Grid.of_spacing((6, 1, 1), (10.0, 10.0, 10.0))
    arrays = {"truth": [1, 0, 0, 0, 0, 0], "seen": [1, 1, 0, 0, 0, 0], "none": [0] * 6}
    places = [("truth", "phantoms/test/truth"), ("none", "phantoms/test/anatomy")]
    places += [("none", "phantoms/test/tumour")]
    places += [("seen", f"made/predicted/{model}/seed0") for model in models]
    for name, place in places:
        (folder / place).mkdir(parents=True)
        for case in "ab":
            array = np.array(arrays[name], np.uint8).reshape(6, 1, 1)
            write_volume(Volume(array, grid), folder / place / f"{case}.nii.gz")
    (folder / "phantoms/test.tsv").write_text("case\tphase\na\thigh\na\thigh\nb\tnone\n")
    for model in models:
        tables = folder / "made/metrics" / model / "seed0"
        tables.mkdir(parents=True)
        scores = [f"{case}\t{dice}\t5\t.5\t.5" for case in "ab"]
        (tables / "cases.tsv").write_text(
            "\n".join(["case\tdice\tassd_mm\tprecision\trecall", *scores]) + "\n"
        )
        nodes = [f"{case}\treference\t6\t{dice}" for case in "ab"]
        (tables / "lesions.tsv").write_text(
            "\n".join(["case\tside\tdiameter_ellipsoid_mm\toverlap", *nodes]) + "\n"
        )


def test_machines_share_a_study(tmp_path):
    """The second has the models that the first lacks; verdicts wait for it, and nothing is lost."""
    stated = study_claims()
    every = {model for claim in stated for model in (claim.first, claim.second)}
    write_machine(tmp_path / "one", every - {"12"}, 0.5)
    write_machine(tmp_path / "two", {"12"}, 0.25)
    collect = f"'{ABLATION / 'miniature' / 'collect.sh'}'"
    assert shell(f"{collect} one study", tmp_path).status == 0
    assert not (tmp_path / "study/claims.tsv").exists()
    assert shell(f"{collect} two study", tmp_path).status == 0
    verdicts = rows_of((tmp_path / "study/claims.tsv").read_text())
    assert len(verdicts) == len(stated)
    assert {row["difference"] for row in verdicts if row["second"] == "12"} == {"-0.2500"}
    assert {row["verdict"] for row in verdicts} == {"waits"}  # for the protocol's five seeds
    places = rows_of((tmp_path / "study/false-positives.tsv").read_text())
    assert {row["model"] for row in places} == every
    assert {row["ml"] for row in places} == {"1.0000"}
    assert "| 12 | .250 ± .000 |" in (tmp_path / "study/tables.md").read_text()
    packed = shell("tar -tJf study/seed0.tar.xz", tmp_path).out.splitlines()
    assert {path.split("/")[1] for path in packed} == every


def run_miniature(folder: Path, cases: str, *options: str) -> Result:
    command = f"'{ABLATION / 'miniature' / 'run.sh'}' -r recipe.toml -c {cases} -m 1,5 -s 1 out"
    return shell(f"OMP_NUM_THREADS=1 {command} {' '.join(options)}", folder, forked=True)


def planned(done: Result) -> dict[str, int]:
    """Return how often each rule would run, of a dry run."""
    assert done.status == 0, done.err
    if "Nothing to be done" in done.err + done.out:
        return {}
    lines = (done.out + done.err).partition("Job stats:\n")[2].partition("\n\n")[0].splitlines()
    return {rule: int(count) for rule, count in map(str.split, lines[2:])}


def dry_run(configuration: dict) -> dict[str, int]:
    """Return how often each rule would run in the working folder."""
    if not shutil.which("snakemake", path=Path(sys.executable).parent):
        pytest.skip("snakemake is not installed: the workflow was not planned")
    Path("my.yaml").write_text(yaml.safe_dump(configuration))
    options = f"--configfile my.yaml --profile '{ABLATION / 'profiles' / 'local'}'"
    command = f"snakemake --snakefile '{ABLATION / 'Snakefile'}' {options} -n --quiet rules"
    return planned(shell(command, Path.cwd()))


def test_the_papers_study_is_planned(study):
    """Seven models of five folds; labels that models share are made once."""
    assert dry_run(study) == {
        "all": 1,
        "cases": 11,  # CTs of three cohorts and of the test, seven kinds of labels
        "comparison": 1,
        "comparison_of_means": 1,
        "crop": 3,
        "figures": 1,
        "infer": 7,
        "mean_of_seeds": 7,
        "metrics": 7,
        "model": 7,
        "pseudolabel": 2,
        "summary": 1,
        "table3": 1,
        "train": 35,
        "training_set": 7,
        "weaklabel": 7,
        "total": 99,
    }


def test_seeds_shards_and_missing_maps_are_planned(study):
    study |= {"only": ["5"], "seeds": [0, 1], "folds": ["all"]}
    del study["cohorts"]["weak"]["anatomy"]
    for step in study["jobs"].values():
        step["cases"] = 2
    jobs = dry_run(study)
    counts = [jobs[rule] for rule in ("anatomy", "crop", "weaklabel", "pseudolabel")]
    assert counts == [2, 4, 4, 2]
    assert [jobs[rule] for rule in ("train", "infer", "metrics", "summary")] == [2, 4, 2, 2]
    assert "comparison" not in jobs


@pytest.mark.slow
def test_the_workflow_makes_the_table_and_no_work_twice(tmp_path):
    """Two models on phantoms; then a test case more, which trains nothing again."""
    pytest.importorskip("nnunetv2")
    if not shutil.which("snakemake", path=Path(sys.executable).parent):
        pytest.skip("snakemake is not installed: the workflow was not run")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = run_miniature(tmp_path, "2,3,1,2")
    assert done.status == 0, done.err
    out = tmp_path / "out"
    made = out / "made"
    rows = rows_of((made / "results" / "table3.tsv").read_text())
    assert [(row["model"], row["n"], row["seeds"]) for row in rows] == [
        ("1", "2", "1"),
        ("5", "2", "1"),
    ]
    assert [row["paper_dice"] for row in rows] == ["0.172", "0.601"]
    for row in rows:
        cases = rows_of((made / "metrics" / row["model"] / "seed0" / "cases.tsv").read_text())
        dice = statistics.fmean(float(case["dice"]) for case in cases)
        assert float(row["dice_mean"]) == pytest.approx(dice, abs=5e-5)
    for figure in ("scores.png", "overlap.png"):
        assert (made / "results" / "seed0" / figure).read_bytes().startswith(b"\x89PNG")
    for labels, values, count in (
        ("full/standard", {0, 1}, 2),
        ("weak/mask+anatomy", {0, 1, 2}, 3),
    ):
        folder = made / "sets" / labels
        names = sorted(path.name for path in (folder / "labels").iterdir())
        assert names == sorted(path.name for path in (folder / "images").iterdir())
        assert len(names) == count
        for name in names:
            assert set(np.unique(load(folder / "labels" / name))) == values
            assert load(folder / "images" / name).shape == load(folder / "labels" / name).shape
    record = json.loads((made / "models" / "5" / "seed0" / "lnq-train.json").read_text())
    assert record["runs"][-1]["recipe"]["iterations"] == 4

    before = stamps(out)
    for path in (made / "done").rglob("*.sha256"):
        path.touch()  # contents count, not times
    assert planned(run_miniature(tmp_path, "2,3,1,2", "-n")) == {}
    (listed,) = (made / "done" / "train" / "5").rglob("*.sha256")
    aside = listed.rename(tmp_path / "aside")  # as after a training that was refused
    again = planned(run_miniature(tmp_path, "2,3,1,2", "-n"))
    assert {rule: again[rule] for rule in ("train", "infer", "metrics", "table3")} == {
        **dict.fromkeys(("train", "infer", "metrics", "table3"), 1)
    }
    aside.rename(listed)
    one_more = {"cases": 1, "infer": 2, "metrics": 2, "figures": 1, "table3": 1}
    one_more |= {"summary": 1, "comparison": 1, "mean_of_seeds": 2, "comparison_of_means": 1}
    dry = planned(run_miniature(tmp_path, "2,3,1,3", "-n", "--quiet", "rules"))
    assert {rule: dry[rule] for rule in dry.keys() - {"all", "total"}} == one_more
    done = run_miniature(tmp_path, "2,3,1,3")
    assert done.status == 0, done.err
    after = stamps(out)
    assert {path: after[path] for path in before} == before
    new = {path.relative_to(out).parts[1] for path in after.keys() - before.keys()}
    assert new == {"test", "predicted"}
    rows = rows_of((made / "results" / "table3.tsv").read_text())
    assert [row["n"] for row in rows] == ["3", "3"]


@pytest.mark.slow
def test_steps_by_xargs_make_the_same_table(tmp_path):
    """One model by parallel.sh: more shards than cases, then again, which makes nothing."""
    pytest.importorskip("nnunetv2")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    data = tmp_path / "data"
    for seed, (cohort, count) in enumerate({"full": 2, "weak": 2, "test": 1}.items()):
        succeed("lnq-phantom", "-n", count, "--seed", seed, "-q", "-O", data / cohort)
    (data / "full" / "truth").rename(data / "full" / "bouget")
    (data / "weak" / "weak").rename(data / "weak" / "annotations")
    (tmp_path / "settings.sh").write_text(
        f"source '{STEPS.parent / 'settings.sh'}'\n"
        "lungs=hu recipe=recipe.toml folds=(all) shards=3 cores=1 infer_options=(--no-mirror)\n"
        "labels='full refined bouget - --strategy full\n"
        "weak mask+anatomy annotations fill --strategy mask'\n"
        "models='6 full/refined weak/mask+anatomy'\n"
    )
    command = f"'{ROOT / 'examples' / 'parallel.sh'}' settings.sh"
    done = shell(command, tmp_path, forked=True)
    assert done.status == 0, done.err
    assert done.lines[-1] == "ablation/results/table3.tsv"
    (row,) = rows_of((tmp_path / "ablation" / "results" / "table3.tsv").read_text())
    assert (row["model"], row["n"], row["paper_dice"]) == ("6", "1", "0.665")
    (label,) = {path.parent for path in (tmp_path / "ablation").rglob("filled/*.nii.gz")}
    assert len(list(label.iterdir())) == 2
    before = stamps(tmp_path / "ablation")
    assert len(before) > 10
    assert shell(command, tmp_path, forked=True).status == 0
    assert stamps(tmp_path / "ablation") == before
