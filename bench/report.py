"""Measure lnq-report on many cases, and its page in Chromium: python -m bench.report [N] [FOLDER].

The CTs are made up: a body, lungs and noise with a grain. The bits that a pixel takes are printed;
the lungs' boxes of two real CTs (LIDC-IDRI-0001, LUNG1-003) take 1.3 and 1.8 at the same quality.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume, write_volume
from tests.conftest import BIN, affine
from tests.report.test_browser import chromium

SHAPE, SPACING = (80, 222, 313), (0.93, 0.93, 3.0)
GRAIN_HU = 80
GRID = Grid.from_affine(SHAPE, affine(SPACING))


def make_cases(folder: Path, count: int) -> None:
    """Write ct, pred and truth of each case."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij")
    hu = np.where((x / 0.98) ** 2 + (y / 0.98) ** 2 < 1, 40, -1000).astype(np.float32)
    for side in (-0.5, 0.5):
        hu[((x - side) / 0.36) ** 2 + (y / 0.75) ** 2 + (z / 1.2) ** 2 < 1] = -850
    hu += 250 * gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), (1, 3, 3)) * (hu > 0)
    grain = gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), (0, 0.7, 0.7))
    hu += GRAIN_HU * grain / grain.std()
    for number in range(count):
        rolled = np.roll(hu, 3 * number, axis=0).astype(np.int16)
        truth, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for _ in range(8):
            center = rng.uniform((-0.7, -0.4, -0.15), (0.7, 0.4, 0.15))
            radius = rng.uniform(0.03, 0.08)
            for mask, moved in ((truth, 0.0), (prediction, 0.3 * radius)):
                away = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2] - moved) ** 2
                mask[away < radius**2] = 1
        for kind, array in (("ct", rolled), ("pred", prediction), ("truth", truth)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array, GRID), folder / kind / f"case{number:03}.nii.gz")


def measure_page(report: Path, profile: Path) -> tuple[float, float, float]:
    """Return seconds until the table works, a case is seen, and another slice is seen."""
    with chromium(profile) as browser:
        start = time.perf_counter()
        browser.open(report)
        browser.find("#table thead button").click()
        table = time.perf_counter()
        browser.all("#table tbody a")[0].click()
        drawn = "const s = document.getElementById('looking'); return !s.hidden"
        browser.until(lambda: browser.script(drawn))
        case = time.perf_counter()
        code = (
            "const key = new KeyboardEvent('keydown', { key: 'ArrowDown' });"
            "const start = performance.now();"
            "for (let k = 0; k < 50; k++) document.getElementById('stage').dispatchEvent(key);"
            "return (performance.now() - start) / 50;"
        )
        return table - start, case - table, browser.script(code) / 1000


def main() -> None:
    """Measure, and print what was found."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as scratch:
        folder = Path(scratch)
        make_cases(folder, count)
        predictions = sorted(map(str, (folder / "pred").iterdir()))
        places = ["--ct", folder / "ct", "--reference", folder / "truth", "-O", folder / "report"]
        start = time.perf_counter()
        tool = [BIN / "lnq-report", *predictions, *places, "--whole", "-j", "2"]
        subprocess.run(tool, check=True)
        took = time.perf_counter() - start
        sizes = {p: p.stat().st_size for p in (folder / "report").rglob("*") if p.is_file()}
        print(f"{count} cases of {SHAPE}: {took:.1f} s, {sum(sizes.values()) / 1e6:.1f} MB")
        for suffix in (".jpg", ".js", ".html"):
            size = sum(size for path, size in sizes.items() if path.suffix == suffix)
            bits = 8 * size / count / np.prod(SHAPE)
            print(f"  {suffix}: {size / 1e6:.2f} MB, {bits:.2f} bits a voxel")
        table, case, step = measure_page(folder / "report", folder / "profile")
        print(f"page usable after {table:.2f} s, a case after {case:.2f} s more")
        print(f"a slice: {1000 * step:.1f} ms")


if __name__ == "__main__":
    main()
