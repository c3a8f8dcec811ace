"""Recipes: the files that come along, a user's file, and changes on the command line."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet import record
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.recipe_keys import COUNT, key, one_of
from lnqtools.nnunet.recipes import RECIPES, Recipe, find_recipe, parse_recipe
from tests.conftest import ROOT

KEYS = Recipe.all_keys()


def test_paper_is_nnunets_defaults():
    pytest.importorskip("nnunetv2")
    import inspect

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    paper = find_recipe("paper")
    assert paper == Recipe("paper", 1000, 250, 50, 1e-2, 0.99, 3e-5, 0.33, 0.0, "0")
    source = inspect.getsource(nnUNetTrainer)
    for line in (
        f"self.initial_lr = {paper.learning_rate:.0e}".replace("e-02", "e-2"),
        "self.weight_decay = 3e-5",
        f"self.oversample_foreground_percent = {paper.node_share}",
        f"self.num_iterations_per_epoch = {paper.iterations}",
        f"self.num_val_iterations_per_epoch = {paper.validation_iterations}",
        f"self.num_epochs = {paper.epochs}",
        f"momentum={paper.momentum}",
    ):
        assert line in source


def test_challenge_is_the_papers_section_5():
    challenge, stock = find_recipe("challenge"), find_recipe("challenge-stock")
    assert (challenge.epochs, challenge.learning_rate, challenge.fold) == (2000, 1e-3, "all")
    assert challenge.window_hu == (-150, 350)
    differing = {name for name in KEYS if getattr(challenge, name) != getattr(stock, name)}
    assert differing == {"statistics"}
    assert stock.statistics == "nnunet"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_is_shown_reads_back_as_itself(name):
    recipe = find_recipe(name)
    assert parse_recipe(name, recipe.as_toml()) == recipe
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()
    assert list(recipe.as_dict()) == list(KEYS)


def test_axes_are_x_y_z_in_files_and_z_y_x_inside(tmp_path):
    (tmp_path / "mine.toml").write_text("patch = [96, 80, 32]\nspacing_mm = 2\n")
    recipe = find_recipe(str(tmp_path / "mine.toml"))
    assert recipe.name == "mine"
    assert recipe.patch == (32, 80, 96)
    assert recipe.spacing_mm == (2, 2, 2)
    assert recipe.with_settings(["spacing_mm=0.8,0.9,3"]).spacing_mm == (3, 0.9, 0.8)
    assert recipe.as_dict()["patch"] == [96, 80, 32]


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("epochs=20", "epochs", 20),
        ("fold=all", "fold", "all"),
        ("fold=3", "fold", "3"),
        ("fold=03", "fold", "3"),
        ('fold="03"', "fold", "3"),
        ("network = resenc-m", "network", "resenc-m"),
        ('network="resenc-m"', "network", "resenc-m"),
        ("features=8,16", "features", (8, 16)),
        ("window_hu=[-100.5, 300]", "window_hu", (-100.5, 300)),
        ("gpu_memory_gb=24", "gpu_memory_gb", 24.0),
        ("patch=", "patch", None),
        ("mirror=false", "mirror", False),
        ("mirror=z, x", "mirror", ("x", "z")),
        ('mirror=["y"]', "mirror", ("y",)),
        ("mirror=x,y,z", "mirror", True),
        ("mirror=[]", "mirror", False),
        ("batch_dice=true", "batch_dice", True),
        ("warmup=800", "warmup", 800),
        ("unknown=1", "unknown", 1.0),
        ("unknown=0.25", "unknown", 0.25),
        ("unknown=0", "unknown", "ignore"),
        ("unknown=ignore", "unknown", "ignore"),
    ],
)
def test_settings_are_read_with_and_without_tomls_signs(setting, name, value):
    changed = find_recipe("smoke").with_settings([setting])
    assert getattr(changed, name) == value
    others = [k for k in KEYS if k != name]
    assert [getattr(changed, k) for k in others] == [
        getattr(find_recipe("smoke"), k) for k in others
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=0", "epochs must be a whole number of at least 1, not 0"),
        ("epochs=2.5", "not 2.5"),
        ("epochs=", "epochs must be .*, not nothing"),
        ("learning_rate=1.5", "between 0 and 1"),
        ("learning_rate=nan", "between 0 and 1"),
        ("momentum=1", "below 1"),
        ("full_share=1.1", "from 0 to 1"),
        ("fold=-1", "a number from 0, or all"),
        ("fold=every", "a number from 0, or all"),
        ("patch=4,64,64", r"at least 8, not \[4, 64, 64\]"),
        ("patch=64,64", "three whole numbers"),
        ("spacing_mm=0,1,1", "above 0"),
        ("window_hu=350,-150", "the lower one first"),
        ("features=8", "two or more"),
        ("network=resenc-l", "plain, resenc-m"),
        ("epoch=3", "no key 'epoch', did you mean epochs"),
        ("epochs", "not KEY=VALUE"),
        ("optimizer=lion", "sgd, adamw, adam, not lion"),
        ("schedule=step", "poly, cosine, not step"),
        ("augmentation=all", "nnunet, intensity, none, da5, not all"),
        ("loss=focal", "dice_ce, tversky_ce, not focal"),
        ("mirror=w", "true, false, or some of x, y, z, not w"),
        ("mirror=0,1", r"some of x, y, z, not \[0, 1\]"),
        ("mirror=", "not nothing"),
        ("deep_supervision=1", "deep_supervision must be true or false, not 1"),
        ("batch_dice=yes", "batch_dice must be true or false, not yes"),
        ("unknown=1.5", "ignore, or a number from 0 to 1, not 1.5"),
        ("unknown=mask", "ignore, or a number from 0 to 1, not mask"),
        ("warmup=-1", "at least 0, not -1"),
        ("warmup=250001", "warmup must be at most 250000, the batches of the training"),
        ("alpha=0", "alpha must be a number above 0, at most 1, not 0.0"),
        ("beta=1.2", "beta must be a number above 0, at most 1, not 1.2"),
        ("alpha=0.5", "alpha is of the loss tversky_ce, and the loss is dice_ce"),
    ],
)
def test_values_out_of_range_are_refused_in_words(setting, message):
    with pytest.raises(LnqError, match=message):
        find_recipe("paper").with_settings([setting])


def test_values_that_need_each_other_are_set_together():
    asked = find_recipe("smoke").with_settings(["warmup=1500", "epochs=1"], {"epochs": 20})
    assert (asked.warmup, asked.epochs, asked.asked) == (1500, 20, {"warmup", "epochs"})
    both = find_recipe("paper").with_settings(["alpha=0.5", "loss=tversky_ce"], {"patch": None})
    assert (both.alpha, both.beta, both.loss) == (0.5, 0.7, "tversky_ce")


def test_changes_that_are_none_change_nothing():
    assert find_recipe("paper").with_changes({"epochs": 7, "patch": None}) == Recipe(
        "paper", epochs=7
    )
    with pytest.raises(LnqError, match="patch must be"):
        find_recipe("paper").with_changes({"patch": (4, 64, 64)})


def test_files_that_are_no_recipe_are_refused(tmp_path):
    path = tmp_path / "r.toml"
    for text, message in (
        ("epochs = ", "r.toml: is not TOML"),
        ("epoch = 3", "no key 'epoch'"),
        ("epochs = 'many'", "not many"),
    ):
        path.write_text(text)
        with pytest.raises(LnqError, match=message):
            find_recipe(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LnqError, match="cannot read"):
        find_recipe(str(path))
    with pytest.raises(LnqError, match="no recipe 'papr': use paper, challenge"):
        find_recipe("papr")


def test_help_and_man_page_name_every_recipe_and_key():
    from tests.suite import help_record, options

    option = next(option for option in options("lnq-train") if option.name == "recipe")
    named = help_record("lnq-train", option)[1].partition(", or a file")[0]
    assert named.split(", ") == list(RECIPES)
    page = (ROOT / "man" / "man1" / "lnq-train.1").read_text()
    heads = [line.split()[2:] for line in page.splitlines() if line.startswith(".It Cm ")]
    listed = [word for head in heads for word in head if word != ","]
    assert set(listed) == {*RECIPES, *KEYS}
    assert sorted(
        path.stem for path in (ROOT / "lnqtools" / "data" / "recipes").iterdir()
    ) == sorted(RECIPES)


# What holds of any text and any values

WHOLE = st.integers(1, 10**6)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "epochs": WHOLE,
        "learning_rate": st.floats(1e-9, 0.999),
        "momentum": st.floats(0, 0.999),
        "node_share": st.floats(0, 1),
        "full_share": st.floats(0, 1),
        "fold": st.one_of(st.just("all"), st.integers(0, 99).map(str)),
        "window_hu": st.tuples(st.floats(-3000, -1), st.floats(0, 3000)),
        "spacing_mm": st.tuples(*[st.floats(0.01, 100)] * 3),
        "patch": st.tuples(*[st.integers(8, 512)] * 3),
        "features": st.lists(WHOLE, min_size=2, max_size=8).map(tuple),
        "warmup": st.integers(0, 100),
        "iterations": st.integers(100, 10**6),
        "mirror": st.sampled_from([True, False, ("x",), ("x", "z")]),
        "batch_dice": st.booleans(),
        "unknown": st.one_of(st.just("ignore"), st.floats(0.01, 1)),
    },
)


@given(CHANGES)
def test_any_recipe_reads_back_as_itself(changes):
    recipe = find_recipe("smoke").with_changes(changes)
    assert parse_recipe("smoke", recipe.as_toml()) == recipe


@given(st.text(max_size=80), st.sampled_from(["", "epochs = 3\n", "patch = [", "fold = "]))
def test_any_text_is_a_recipe_or_refused(text, start):
    with suppress(LnqError):  # any other error fails
        assert KEYS["epochs"].takes(parse_recipe("mine", start + text).epochs)


@given(st.sampled_from(list(KEYS)), st.text(max_size=20))
def test_any_setting_is_in_its_range_or_refused(name, text):
    with suppress(LnqError):
        value = getattr(find_recipe("smoke").with_settings([f"{name}={text}"]), name)
        assert KEYS[name].takes(value)


# A new key


@dataclass(frozen=True)
class Wider(Recipe):
    """A recipe with a key to train by, one that is left to nnU-Net, and one of the run alone."""

    restarts: int = key(5, COUNT, "of the learning rate", trainer="restart_count")
    norm: str | None = key(None, one_of("batch", "instance"), "of feature maps")
    log_every: int = key(1, COUNT, "epochs", trainer="log_every", learned=False)


def test_a_field_is_all_that_a_new_key_needs():
    default = Wider("w")
    asked = parse_recipe("w", "restarts = 3\nepochs = 9\n", Wider)
    assert (asked.restarts, asked.epochs, asked.asked) == (3, 9, {"restarts", "epochs"})
    assert default.with_settings(["norm=batch"]).norm == "batch"
    for setting, message in (
        ("restarts=0", "restarts must be a whole number of at least 1, not 0"),
        ("restarts=", "restarts must be a whole number of at least 1, not nothing"),
        ("norm=layer", "norm must be one of batch, instance, not layer"),
        ("restrats=3", "no key 'restrats', did you mean restarts"),
    ):
        with pytest.raises(LnqError, match=message):
            default.with_settings([setting])
    *_, restarts, norm, log_every = default.as_toml().splitlines()
    assert restarts.split("#") == [f"{'restarts = 5':<32}  ", " of the learning rate"]
    assert norm.startswith("# norm = ")
    assert norm.endswith("of feature maps (left to nnU-Net)")
    assert log_every.startswith("log_every = 1 ")


def test_a_new_key_reaches_the_trainer_and_the_record():
    wider, narrow = Wider("w", restarts=3), Recipe("w")
    assert wider.for_trainer(learned=True) == narrow.for_trainer(learned=True) | {
        "restart_count": 3
    }
    assert wider.for_trainer(learned=False) == {"save_every": 10, "log_every": 1}
    assert wider.learned() == narrow.learned() | {"restarts": 3, "norm": None}
    made = [record.made_with([], recipe, 0, {}, Folds()) for recipe in (Wider("w"), wider)]
    assert record.difference(*made) == "restarts 5 there, 3 now"


def test_a_record_from_before_a_key_has_its_default():
    now = record.made_with([], find_recipe("paper"), 0, {}, Folds())
    before = {**now, "recipe": {k: v for k, v in now["recipe"].items() if k != "momentum"}}
    assert record.difference(before, now) == ""
    other = find_recipe("paper").with_settings(["momentum=0.5"])
    changed = record.made_with([], other, 0, {}, Folds())
    assert record.difference(before, changed) == "momentum 0.99 there, 0.5 now"


def test_what_the_user_asked_for_is_told_from_what_a_recipe_brings_along(tmp_path):
    assert find_recipe("resenc").asked == frozenset()
    assert find_recipe("resenc").with_settings(["full_share=0.25"]).asked == {"full_share"}
    changes = {"epochs": 3, "batch": None}
    assert find_recipe("paper").with_settings(["fold=1"]).with_changes(changes).asked == {
        *("fold", "epochs")
    }
    (tmp_path / "own.toml").write_text("full_share = 0.5\n")
    assert find_recipe(str(tmp_path / "own.toml")).asked == {"full_share"}
