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


FILLED = """
import resource
import numpy as np
from lnqtools.memory import freed_memory_kept

def page_faults_of_a_fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(%d, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    page_faults_of_a_fill()
    print(max(page_faults_of_a_fill() for _ in range(3)))
"""


def output_of(program: str) -> list[int]:
    """Run it in a process of its own.

    Another one's heap may have room, and after a failed allocation glibc leaves the heap alone.
    """
    done = subprocess.run(
        [sys.executable, "-c", program % BYTES], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


@glibc
def test_memory_that_is_kept_is_not_asked_for_page_by_page_again():
    (page_faults,) = output_of(FILLED)
    assert page_faults < BYTES / (2 << 20)  # fewer than there are huge pages


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
    kept, left = (pages * PAGE for pages in output_of(HELD))
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
