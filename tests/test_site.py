"""The site of README, docs, man pages and docstrings is made without a warning."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lnqtools
from tests.site import PARTS, write_pages
from tests.suite import TOOLS


def test_every_page_is_on_the_menu(tmp_path):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed: the man pages were not put on the site")
    write_pages(tmp_path)
    named = {name for names in PARTS.values() for name in names}
    pages = {path.stem for path in tmp_path.glob("*.md")} | {"api"}
    assert pages - {"index"} <= named


@pytest.mark.slow
def test_the_site_is_made_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx is not installed: the site was not made")
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed: the man pages were not put on the site")
    write_pages(tmp_path / "pages")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"),
            *(tmp_path / "pages", tmp_path / "site"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    functions = (tmp_path / "site" / "api.html").read_text()
    assert all(f'id="lnqtools.{name}"' in functions for name in lnqtools.__all__)
    for tool in TOOLS:
        page = (tmp_path / "site" / "man" / f"{tool}.html").read_text()
        assert '<a class="permalink" href="#EXAMPLES">' in page
    targets = [Path(t) for t in re.findall(r'href="([^"#:]+\.html)"', functions)]
    assert targets
    assert all((tmp_path / "site" / target).is_file() for target in targets)
