import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from lnqtools import memory
from lnqtools.errors import LnqError
from lnqtools.memory import freed_memory_kept, require_memory, resampled_size

PAGE = resource.getpagesize()
BYTES = 64 << 20

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def page_faults_of_a_fill() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(BYTES, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_memory_that_is_kept_is_not_asked_for_page_by_page_again():
    with freed_memory_kept():
        page_faults_of_a_fill()
        again = [page_faults_of_a_fill() for _ in range(3)]
    assert max(again) < BYTES / PAGE / 100


HELD = """
from pathlib import Path
import numpy as np
from lnqtools.memory import freed_memory_kept

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

with freed_memory_kept():
    np.ones(%d, np.uint8)
    print(pages())
print(pages())
"""


@glibc
def test_what_was_kept_goes_back_to_the_system():
    """In a process of its own: another one's heap may have room for it."""
    done = subprocess.run(
        [sys.executable, "-c", HELD % BYTES], capture_output=True, text=True, check=True
    )
    kept, left = (int(pages) * PAGE for pages in done.stdout.split())
    assert kept - left == pytest.approx(BYTES, rel=0.1)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with freed_memory_kept():
        assert np.ones(3).sum() == 3


def test_sizes_are_rounded_as_nnunet_rounds_them():
    assert resampled_size((10, 11, 3), (1, 0.5, 2), (2, 1, 4)) == [5, 6, 2]


def test_what_cannot_fit_is_refused_with_its_size():
    require_memory((10, 10, 10), 4)
    with pytest.raises(LnqError, match=r"100000 × 100000 × 100000 voxels on .*, 4000000 GB"):
        require_memory((100_000, 100_000, 100_000), 4)
