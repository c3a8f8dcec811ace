"""Phantoms, made once for all tests of the tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnqtools.cli._names import files_by_case
from tests.conftest import succeed


@pytest.fixture(autouse=True)
def no_listing_of_another_test() -> None:
    """Forget the folders of tests before, which tools in one process would take for this one's."""
    files_by_case.cache_clear()


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two phantoms and their table of nodes."""
    folder = tmp_path_factory.mktemp("phantoms")
    succeed("lnq-phantom", "-n", 2, "-O", folder, "--table", folder / "nodes.tsv")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained model of small patches."""
    pytest.importorskip("nnunetv2")
    from tests.nnunet_data import random_model

    folder = tmp_path_factory.mktemp("model") / "model"
    return random_model(folder, spacing=(2.0, 1.5, 1.5), patch=(16, 16, 16), eagerness=1.5)
