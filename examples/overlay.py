#!/usr/bin/env python3
"""Draw a label over a CT in three views: overlay.py CT LABEL PICTURE [LABEL PICTURE]...

Green is lymph node (1); in training labels blue is background (0) and unknown (2) is left as it
is. A label without unknown voxels is a mask, of which only the nodes are drawn.
"""

import sys

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from lnqtools.grid import place
from lnqtools.volume import Volume, read_label, read_volume

WINDOW_HU = (-160, 240)
NODE_RGBA, BACKGROUND_RGBA = (0.1, 0.9, 0.2, 0.65), (0.15, 0.4, 1.0, 0.3)


def middle_of_largest_slices(nodes: np.ndarray) -> list[int]:
    """Return along each axis the slice with most node, or the middle one without nodes."""
    return [
        int(nodes.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
        if nodes.any()
        else nodes.shape[axis] // 2
        for axis in range(3)
    ]


def colours(label: np.ndarray) -> np.ndarray:
    """Return an RGBA picture of a slice of a label."""
    picture = np.zeros((*label.shape, 4))
    picture[label == 1] = NODE_RGBA
    return picture


def draw(ct: Volume, label: Volume, picture: str) -> None:
    """Write axial, coronal and sagittal views through the most node."""
    values = place(label.array, label.grid, ct.grid, 2 if (label.array == 2).any() else 0)
    is_training_label = bool((values == 2).any())
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), facecolor="black", layout="tight")
    for axis, (panel, at) in enumerate(
        zip(axes, middle_of_largest_slices(values == 1), strict=True)
    ):
        hu, part = ct.array.take(at, axis), values.take(at, axis)
        rows, columns = (s for a, s in enumerate(ct.spacing) if a != axis)
        shown = {"aspect": rows / columns, "origin": "upper" if axis == 0 else "lower"}
        panel.imshow(hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], **shown)
        layer = colours(part)
        if is_training_label:
            layer[part == 0] = BACKGROUND_RGBA
        panel.imshow(layer, interpolation="nearest", **shown)
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
