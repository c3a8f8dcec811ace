#!/usr/bin/env python3
"""Draw a label over a CT in three views: overlay.py CT LABEL PICTURE [LABEL PICTURE]...

Green is lymph node (1); in training labels blue is background (0) and unknown (2) is left as it
is. A label without unknown voxels is a mask, of which only the nodes are drawn.

However the image is stored: the axial view is seen from the feet, front on top; in the others the
head is on top; the patient's right, or front, is on the left.
"""

import sys

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from lnqtools.grid import place
from lnqtools.views import MEDIASTINAL_WINDOW_HU, fullest_slices, turned, turned_spacing
from lnqtools.volume import Volume, read_label, read_volume

NODE_RGBA, BACKGROUND_RGBA = (0.1, 0.9, 0.2, 0.65), (0.15, 0.4, 1.0, 0.3)


def colours(label: np.ndarray) -> np.ndarray:
    """Return an RGBA picture of a slice of a label."""
    picture = np.zeros((*label.shape, 4))
    picture[label == 1] = NODE_RGBA
    return picture


def draw(ct: Volume, label: Volume, picture: str) -> None:
    """Write axial, coronal and sagittal views through the most node."""
    unknown = bool((label.array == 2).any())
    values = turned(place(label.array, label.grid, ct.grid, 2 if unknown else 0), ct.grid)
    hu = turned(ct.array, ct.grid)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), facecolor="black", layout="tight")
    for axis, (panel, at) in enumerate(zip(axes, fullest_slices(values == 1), strict=True)):
        part = values.take(at, axis)
        rows, columns = (step for a, step in enumerate(turned_spacing(ct.grid)) if a != axis)
        low, high = MEDIASTINAL_WINDOW_HU
        panel.imshow(hu.take(at, axis), cmap="gray", aspect=rows / columns, vmin=low, vmax=high)
        layer = colours(part)
        if unknown:
            layer[part == 0] = BACKGROUND_RGBA
        panel.imshow(layer, interpolation="nearest", aspect=rows / columns)
        panel.axis("off")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main(ct_path: str, *rest: str) -> None:
    """Draw each label over the CT."""
    ct = read_volume(ct_path)
    for label_path, picture in zip(rest[::2], rest[1::2], strict=True):
        draw(ct, read_label(label_path), picture)


if __name__ == "__main__":
    if len(sys.argv) < 4 or len(sys.argv) % 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
