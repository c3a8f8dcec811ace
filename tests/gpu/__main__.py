"""Test on a device: python -m tests.gpu [--device cuda|cpu] [ARGUMENTS OF PYTEST]...

Without a GPU, one line and nothing else; --device cpu rehearses all that a CPU can. What came of it
goes to build/gpu/gpu-test.md, too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.gpu.machine import found

NOTHING = "gpu-test: torch sees no GPU: nothing was tested (DEVICE=cpu rehearses it)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    asked, more = parser.parse_known_args()
    if asked.device == "cuda" and not found()["gpus"]:
        sys.stdout.write(f"{NOTHING}\n")
        return 0
    import pytest

    here = Path(__file__).parent
    return pytest.main(
        [str(here), "-v", "-p", "no:cacheprovider", f"--device={asked.device}", *more]
    )


if __name__ == "__main__":
    sys.exit(main())
