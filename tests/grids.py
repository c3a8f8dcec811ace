"""Lattices for tests, and ways to draw them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, place

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The 48 ways to lay three axes along three others."""


def make_grid(shape=(4, 5, 6), spacing=(3.0, 2.0, 1.0), origin=(10.0, -20.0, 30.0), turn=None):
    """Return a grid; ``turn`` has the world directions of z, y, x as columns."""
    turn = np.eye(3)[:, ::-1] if turn is None else turn
    return Grid(shape, spacing, origin, tuple(map(tuple, np.asarray(turn, float).tolist())))


@st.composite
def grids(draw, oblique=True):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    turn = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    if oblique:
        angles = draw(st.tuples(*[st.integers(-1800, 1800)] * 3))  # ITK fails below 1e-308
        turn = Rotation.from_euler("xyz", np.array(angles) / 10, degrees=True).as_matrix() @ turn
    return make_grid(shape, spacing, origin, turn)


@st.composite
def boxes(draw, shape):
    sides = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        sides.append(slice(start, draw(st.integers(start + 1, n))))
    return Box(sides)


@st.composite
def turned_grids(draw):
    """Return a grid, another one of the same lattice turned by any of 48 ways, and the way."""
    source = draw(grids())
    way = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    return source, turned_grid(source, way), way


def turned_grid(source: Grid, way: np.ndarray) -> Grid:
    """Return the same voxels in another order: target axis k is the source's axis in column k."""
    axes = np.abs(way).argmax(axis=0)
    signs = way.sum(axis=0)
    first = np.zeros(3)
    first[axes] = np.where(signs < 0, np.array(source.shape)[axes] - 1, 0)
    return make_grid(
        tuple(source.shape[a] for a in axes),
        tuple(source.spacing[a] for a in axes),
        tuple(source.world(first).tolist()),
        np.array(source.direction)[:, axes] * signs,
    )


def sliced_across(axis: int, shape, spacing=(1.0, 1.0, 1.0)) -> Grid:
    """Return a grid whose axial slices lie across an axis of the array."""
    lps = np.array([[0.0, 0, -1], [0, -1, 0], [1, 0, 0]])
    return make_grid(shape, spacing, turn=np.roll(lps, axis, axis=1))


def stored(array: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return an array as a file of another order of the same voxels holds it."""
    turned = place(array, source, target, 0)
    assert turned.shape == target.shape
    return np.ascontiguousarray(turned)


def numbered(shape) -> np.ndarray:
    """Return an array in which every voxel has another value, from 1 on."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)


def as_stored(grid: Grid) -> Grid:
    """Return a grid as it comes back from a header's 32-bit numbers."""
    return Grid.from_affine(grid.shape, grid.affine.astype(np.float32).astype(float))
