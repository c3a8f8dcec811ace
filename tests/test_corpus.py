"""Every tool on the corpus of odd inputs in one call, and what the fuzzer once found."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnqtools.cli._models import read_text
from lnqtools.comparison.tables import read_model
from lnqtools.errors import LnqError
from lnqtools.files.tables import read_table
from lnqtools.nnunet.recipes import find_recipe
from tests.conftest import ROOT
from tests.corpus import images, tables
from tests.corpus.images import KINDS, odd_images
from tests.corpus.models import MODELS, TRAP, write_models
from tests.corpus.targets import FINDINGS, TARGETS
from torture.inputs import at_once, uses

LIGHT = [use for use in uses(Path("models")) if not (use.heavy or use.beside or use.single)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    images.write_images(folder)
    return folder


@pytest.mark.parametrize("use", LIGHT, ids=lambda use: use.where)
def test_a_tool_names_exactly_the_bad_ones_and_does_the_good_ones(use, corpus, tmp_path):
    call = at_once(use, corpus, odd_images(use.kind), tmp_path / "run")
    assert list(call.complaints()) == []


def test_two_processes_write_the_same_corpus(tmp_path):
    digests = []
    for name in ("once", "again"):
        command = [sys.executable, "-m", "tests.corpus", "--no-models", str(tmp_path / name)]
        subprocess.run(command, check=True, cwd=ROOT)
        (tmp_path / name).rename(tmp_path / "corpus")
        digests.append(digest_of(tmp_path / "corpus"))
        (tmp_path / "corpus").rename(tmp_path / name)
    assert digests[0] == digests[1]


def digest_of(folder: Path) -> str:
    """Return a hash of all that is below a folder: names, kinds, permissions, contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        digest.update(os.fsencode(path.relative_to(folder)) + f"\0{status.st_mode}\0".encode())
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_every_promise_of_a_kind_is_met_by_some_files():
    for kind in KINDS:
        promises = [images.promise(kind, odd) for odd in odd_images(kind)]
        assert min(promises.count(None), len(set(promises))) > 15


@pytest.mark.parametrize("odd", tables.metrics_tables(), ids=lambda odd: odd.name)
def test_a_table_gives_its_values_or_a_reason(odd, tmp_path):
    if odd.name == "unreadable.tsv":
        pytest.skip("root may read everything; torture gives up that privilege")
    path = odd.write(tmp_path)
    if odd.error is None:
        table = read_model(read_table(read_text(str(path))), ["dice"])
        np.testing.assert_array_equal([row["dice"] for row in table.values.values()], odd.dice)
        return
    with pytest.raises(LnqError) as caught:
        read_model(read_table(read_text(str(path))), ["dice"])
    assert re.search(odd.error, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", tables.recipes(), ids=lambda odd: odd.name)
def test_a_recipe_is_read_or_refused(odd, tmp_path):
    path = odd.write(tmp_path)
    if odd.error is None:
        assert find_recipe(str(path)).name == path.stem
        return
    with pytest.raises(LnqError) as caught:
        find_recipe(str(path))
    assert re.search(odd.error, str(caught.value).replace(str(path), ""))


@pytest.mark.slow
def test_an_odd_model_is_refused_and_runs_no_code(tmp_path):
    pytest.importorskip("nnunetv2")
    from lnqtools.nnunet.model_folder import open_model
    from lnqtools.nnunet.predict import Predictor
    from tests.nnunet_data import volume

    write_models(tmp_path / "models")
    for odd in MODELS:
        refusal = None
        try:
            with open_model(tmp_path / "models" / odd.name) as model:
                predictor = Predictor(model, device="cpu", threads=1, mirroring=False)
                mask = predictor.predict(volume(KINDS["ct"], (1.25, 0.75, 0.75))).mask
        except LnqError as error:
            refusal = str(error)
        if odd.error is None:
            assert refusal is None, odd.name
            assert mask.shape == KINDS["ct"].shape
        else:
            assert re.search(odd.error, refusal or "runs"), f"{odd.name}: {refusal}"
            assert "\n" not in (refusal or "")
    assert not (tmp_path / "models" / TRAP).exists()


@pytest.mark.parametrize("path", sorted(FINDINGS.iterdir()), ids=lambda path: path.name)
def test_what_the_fuzzer_found_stays_mended(path):
    target, _ = TARGETS[path.name.partition("-")[0]]
    target(path.read_bytes())
