"""Meshes seen from a side, as pixels: which triangle lies in front, which of its corners is near, how light falls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.spaces.surface import Mesh

LOOKS = ("lateral", "medial", "dorsal", "ventral", "anterior", "posterior")
"""From where a surface may be seen."""

_FINER = 2  # pixels are made so many times finer in both directions, and averaged: edges are smooth then
_AT_ONCE = 1 << 21  # pixels of triangles that are looked at together
_THIN = 0.05  # of the longest side: what a view is high at least
_EVEN = 0.5  # spread of heights over their middle: that of a ball, which has no folds


@dataclass(frozen=True, eq=False)
class Relief:
    """What a mesh shows from one side, `_FINER` pixels to a pixel of the picture.

    Attributes
    ----------
    shape
        Height and width of the fine pixels, from the top.
    pixel
        (n_pixels,) which of them show the mesh, by number.
    corners
        (n_pixels, 3) vertices of the triangle that lies there in front.
    weights
        (n_pixels, 3) how near each corner is; they sum to 1.
    light
        (n_pixels,) from 0, where the surface runs along the line of sight, to 1, where it faces the eye.
    size
        Width and height in mm.
    """

    shape: tuple[int, int]
    pixel: NDArray[np.intp]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    light: NDArray[np.float32]
    size: tuple[float, float]

    def blend(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_pixels,) values of vertices (n_vertices,) between which pixels lie."""
        return np.asarray(np.einsum("ij,ij->i", self.weights, values[self.corners]))

    def image(self, colours: NDArray[np.float64]) -> NDArray[np.float32]:
        """(height, width, 4) picture of (n_pixels, 3) colours; transparent where the mesh is not."""
        fine = np.zeros((self.shape[0] * self.shape[1], 4), np.float32)
        fine[self.pixel, :3], fine[self.pixel, 3] = colours, 1.0
        height, width = (length // _FINER for length in self.shape)
        fine = fine.reshape(height, _FINER, width, _FINER, 4)
        mean = np.zeros((height, width, 4), np.float32)
        for down, across in np.ndindex(_FINER, _FINER):
            mean += fine[:, down, :, across] / np.float32(_FINER**2)
        mean[..., :3] /= np.maximum(mean[..., 3:], np.float32(1e-6))  # where it is half transparent, not half black
        return np.asarray(np.clip(mean, 0.0, 1.0), np.float32)


def axes_of(look: str, side: str) -> NDArray[np.float64]:
    """(3, 3) what runs to the right, up and towards the eye.

    Parameters
    ----------
    look
        One of `LOOKS`.
    side
        "left" or "right": of the hemisphere.
    """
    outward = -1.0 if side == "left" else 1.0
    towards = {
        "lateral": (outward, 0.0, 0.0),
        "medial": (-outward, 0.0, 0.0),
        "dorsal": (0.0, 0.0, 1.0),
        "ventral": (0.0, 0.0, -1.0),
        "anterior": (0.0, 1.0, 0.0),
        "posterior": (0.0, -1.0, 0.0),
    }[look]
    up = (0.0, 1.0, 0.0) if look in ("dorsal", "ventral") else (0.0, 0.0, 1.0)
    return np.array([np.cross(up, towards), up, towards])


def extent_of(mesh: Mesh, axes: NDArray[np.float64]) -> tuple[float, float]:
    """Width and height of a mesh in mm, seen along axes as `axes_of` gives them; of a flat one, of some height yet."""
    across = np.ptp(mesh.coordinates @ axes[:2].T, axis=0)
    width, height = np.maximum(across, _THIN * np.ptp(mesh.coordinates, axis=0).max())
    return float(width), float(height)


def see(mesh: Mesh, axes: NDArray[np.float64], mm: float) -> Relief:
    """Look at a mesh.

    Parameters
    ----------
    mesh
        What to look at.
    axes
        From where; see `axes_of`.
    mm
        Length of a pixel of the picture.
    """
    placed = mesh.coordinates @ axes.T
    fine = mm / _FINER
    low, high = placed[:, :2].min(axis=0), placed[:, :2].max(axis=0)
    width, height = (_FINER * max(1, int(np.ceil(length / mm))) for length in high - low)
    x = (placed[:, 0] - (low + high)[0] / 2) / fine + width / 2
    y = height / 2 - (placed[:, 1] - (low + high)[1] / 2) / fine
    triangles = _Triangles.of(np.stack([x, y, placed[:, 2]], axis=1), mesh.faces, (height, width))
    front = _in_front(triangles, height * width)
    pixel = np.flatnonzero(front >= 0)
    which = front[pixel]
    weights = triangles.weights(which, pixel % width, pixel // width)
    corners = triangles.corners[which]
    normals = normals_of(mesh) @ axes[2]
    light = np.abs(np.einsum("ij,ij->i", weights, normals[corners]))
    shape, size = (height, width), (width * fine, height * fine)
    return Relief(shape, pixel, corners, weights.astype(np.float32), light.astype(np.float32), size)


def normals_of(mesh: Mesh) -> NDArray[np.float64]:
    """(n_vertices, 3) directions in which the surface faces, of unit length."""
    a, b, c = (mesh.coordinates[corner] for corner in mesh.faces.T)
    across = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    summed = np.stack([np.bincount(mesh.faces.ravel(), across[:, axis], mesh.n) for axis in range(3)], axis=1)
    return np.asarray(summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12))


def curvature_of(mesh: Mesh, n_steps: int = 4) -> NDArray[np.float64]:
    """(n_vertices,) how far the neighbours of each vertex lie above it, along its normal: above 0 in a sulcus.

    It is smoothed by as many steps to the neighbours' mean, and scaled by its standard deviation; 0 where all is even.
    """
    start, end = mesh.edges.T
    n = np.bincount(start, minlength=mesh.n) + np.bincount(end, minlength=mesh.n)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.bincount(start, values[end], mesh.n) + np.bincount(end, values[start], mesh.n)
        return np.asarray(total / np.maximum(n, 1))

    centre = np.stack([mean(mesh.coordinates[:, axis]) for axis in range(3)], axis=1)
    height = _turn(mesh) * np.einsum("ij,ij->i", centre - mesh.coordinates, normals_of(mesh))
    for _ in range(n_steps):
        height = (height + mean(height)) / 2
    spread, middle = float(np.std(height)), float(np.median(height))
    even = spread <= _EVEN * abs(middle)
    return np.zeros(mesh.n) if even else np.asarray((height - middle) / spread)


def _turn(mesh: Mesh) -> float:
    """1 where triangles turn left, seen from outside, -1 where they turn right."""
    centred = mesh.coordinates - mesh.coordinates.mean(axis=0)
    a, b, c = (centred[corner] for corner in mesh.faces.T)
    return -1.0 if np.einsum("ij,ij->", a, np.cross(b, c)) < 0 else 1.0


@dataclass(frozen=True, eq=False)
class _Triangles:
    """Triangles on a grid of pixels, those that may cover the middle of one.

    Attributes
    ----------
    corners
        (n, 3) vertices.
    planes
        (n, 3, 3) weight of the first corner, that of the second, and nearness to the eye: of each the values by which
        it grows from pixel to pixel to the right and down, and that at the middle of pixel (0, 0).
    first, spans
        (n, 2) the left and upper of the pixels that a triangle may cover, and how many there are either way.
    width
        Of the grid.
    """

    corners: NDArray[np.int32]
    planes: NDArray[np.float64]
    first: NDArray[np.intp]
    spans: NDArray[np.intp]
    width: int

    @classmethod
    def of(cls, points: NDArray[np.float64], corners: NDArray[np.int32], shape: tuple[int, int]) -> _Triangles:
        """Place triangles whose vertices have (n_vertices, 3) x, y in pixels and nearness to the eye."""
        a, b, c = (points[corner] for corner in corners.T)
        twice = (b[:, 1] - c[:, 1]) * (a[:, 0] - c[:, 0]) + (c[:, 0] - b[:, 0]) * (a[:, 1] - c[:, 1])
        xy = np.stack([a[:, :2], b[:, :2], c[:, :2]])
        first = np.maximum(np.ceil(xy.min(axis=0) - 0.5), 0).astype(np.intp)
        last = np.minimum(np.floor(xy.max(axis=0) - 0.5), np.array(shape[::-1]) - 1).astype(np.intp)
        spans = last - first + 1
        keep = (spans > 0).all(axis=1) & (np.abs(twice) > 1e-12)
        a, b, c, twice = a[keep], b[keep], c[keep], twice[keep]
        planes = np.empty((len(a), 3, 3))
        planes[:, 0, 0], planes[:, 0, 1] = (b - c)[:, 1] / twice, (c - b)[:, 0] / twice
        planes[:, 1, 0], planes[:, 1, 1] = (c - a)[:, 1] / twice, (a - c)[:, 0] / twice
        planes[:, :2, 2] = planes[:, :2, 0] * (0.5 - c[:, :1]) + planes[:, :2, 1] * (0.5 - c[:, 1:2])
        planes[:, 2] = planes[:, 0] * (a - c)[:, 2:] + planes[:, 1] * (b - c)[:, 2:]
        planes[:, 2, 2] += c[:, 2]
        return cls(corners[keep], planes, first[keep], spans[keep], shape[1])

    def weights(self, which: NDArray[np.intp], x: NDArray[np.intp], y: NDArray[np.intp]) -> NDArray[np.float64]:
        """(k, 3) weights of the corners of some triangles at the middle of some pixels."""
        plane = self.planes[which, :2]
        two = plane[:, :, 0] * x[:, None] + plane[:, :, 1] * y[:, None] + plane[:, :, 2]
        three = np.column_stack([two, 1.0 - two.sum(axis=1)]).clip(0.0, 1.0)
        return np.asarray(three / three.sum(axis=1, keepdims=True))

    def pieces(self) -> Iterator[slice]:
        """Runs of triangles that span about `_AT_ONCE` pixels together."""
        ends = np.cumsum(self.spans.prod(axis=1))
        start = 0
        while start < len(ends):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE)))
            yield slice(start, stop)
            start = stop


def _in_front(triangles: _Triangles, n_pixels: int) -> NDArray[np.intp]:
    """(n_pixels,) number of the triangle that is nearest to the eye; -1 where there is none."""
    nearest, front = np.full(n_pixels, -np.inf, np.float32), np.full(n_pixels, -1, np.intp)
    for piece in triangles.pieces():
        pixel, near, which = _covered(triangles, piece)
        np.maximum.at(nearest, pixel, near)
        wins = near == nearest[pixel]
        front[pixel[wins]] = which[wins]
    return front


def _covered(triangles: _Triangles, piece: slice) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Pixels that some triangles cover: which, how near to the eye the triangle is there, and its number.

    A triangle covers a run of pixels in each row, which begins and ends where the weight of a corner falls below 0.
    """
    which, row = _runs(triangles.spans[piece, 1])
    which += piece.start
    y = triangles.first[which, 1] + row
    start, stop = triangles.first[which, 0].astype(float), triangles.first[which, 0] + triangles.spans[which, 0] - 1.0
    planes = triangles.planes[which]
    along, rest = planes[:, :, 0], planes[:, :, 1] * y[:, None] + planes[:, :, 2]
    for step, base in (
        (along[:, 0], rest[:, 0]),
        (along[:, 1], rest[:, 1]),
        (-along[:, :2].sum(axis=1), 1.0 - rest[:, :2].sum(axis=1)),
    ):
        level = np.abs(step) < 1e-12
        zero = -base / np.where(level, 1.0, step)
        start = np.where(~level & (step > 0), np.maximum(start, np.ceil(zero - 1e-9)), start)
        stop = np.where(~level & (step < 0), np.minimum(stop, np.floor(zero + 1e-9)), stop)
        stop = np.where(level & (base < -1e-9), start - 1.0, stop)
    run, offset = _runs(np.maximum(stop - start + 1.0, 0.0).astype(np.intp))
    x = start[run].astype(np.intp) + offset
    near = (rest[run, 2] + along[run, 2] * x).astype(np.float32)
    return y[run] * triangles.width + x, near, which[run]


def _runs(lengths: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number of each of some runs, and the places in it, one run after the other."""
    number = np.repeat(np.arange(len(lengths)), lengths)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
