"""What of make gpu-test shows without a GPU: its one line, and which wheels are carried how."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from tests.gpu.conftest import pytest_ignore_collect
from tests.gpu.wheels import missing, parts


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch):
    if find_spec("torch") is None:
        pytest.skip("takes torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    said = "gpu-test: torch sees no GPU: nothing was tested (DEVICE=cpu rehearses it)\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize(("device", "ignored"), [(None, True), ("cpu", None), ("cuda", None)])
def test_its_tests_are_left_to_it(device, ignored):
    config = SimpleNamespace(getoption=lambda name, default: device)
    assert pytest_ignore_collect(config) is ignored


def test_wheels_are_spread_over_few_parts_of_a_size():
    sizes = {Path("a"): 10, Path("b"): 55, Path("c"): 30, Path("d"): 30, Path("e"): 5}
    names = [[path.name for path in part] for part in parts(sizes, 60)]
    assert names == [["b", "e"], ["c", "d"], ["a"]]
    with pytest.raises(SystemExit, match=r"b has 0\.0 MB: raise --part-mb"):
        parts(sizes, 54)


def test_what_comes_with_torch_and_what_is_there_is_not_carried():
    if not all(map(find_spec, ("torch", "torchvision", "nnunetv2"))):
        pytest.skip("takes the extra nnunet")
    lacking = {line.partition("==")[0]: line for line in missing(["lnq-tools[nnunet]"], (), "3.12")}
    assert {"nnunetv2", "scipy", "click", "connected-components-3d"} <= lacking.keys()
    assert not {"torch", "torchvision", "sympy", "lnq-tools"} & lacking.keys()
    have = ["scipy==1.0", "click @ file:///tmp/click.whl", "Connected_Components-3D==3"]
    rest = missing(["lnq-tools[nnunet]"], have, "3.12")
    left = {"scipy", "click", "connected-components-3d"}
    assert rest == sorted(line for name, line in lacking.items() if name not in left)
