"""Simulated cohorts on surfaces, as real GIFTI files: on a cortex of our own, or on any meshes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from numbaglm.data.images import load_meshes, save_mesh, save_vertices
from numbaglm.datasets.simulated import describe, fill
from numbaglm.engine.schedule import run_tasks
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.smoothing import HeatKernel
from numbaglm.spaces.surface import Mesh

Patch = tuple[str, tuple[float, float, float], float, float]
"""Hemisphere, peak (x, y, z) in mm (the nearest vertex counts), amplitude in noise standard deviations, FWHM in mm."""

SIDES = ("left", "right")
NOISE_FWHM = 12.0
# Left minus right press: the hand knobs, and a weaker response in the lateral cortex in front.
BUTTON_PRESS: tuple[Patch, ...] = (
    ("right", (38.0, -24.0, 58.0), 1.6, 24.0),
    ("left", (-38.0, -24.0, 58.0), -1.6, 24.0),
    ("right", (52.0, 6.0, 22.0), 0.9, 18.0),
)
_AMPLITUDE_SD = 0.3
_CENTRE, _HALF_AXES = np.array([34.0, -18.0, 20.0]), np.array([32.0, 68.0, 48.0])
_FOLDS, _DEPTH = 60, 0.05  # waves that fold the cortex, and how deep, of its radius
_N_PROBES = 32
_BLADE = {"left": "L", "right": "R"}


@dataclass(frozen=True, eq=False)
class SimulatedSurfaces:
    """A simulated cohort on the surfaces of both hemispheres, on disk.

    Attributes
    ----------
    maps
        By hemisphere, "left" and "right": a .func.gii file a subject.
    surfaces
        By hemisphere: the mesh, a .surf.gii file.
    depth
        By hemisphere: how deep each vertex lies in a fold (.shape.gii), to be drawn behind results.
    truth
        By hemisphere: the planted effect (.func.gii), in noise standard deviations.
    subjects
        Labels, in the order of the maps.
    """

    maps: Mapping[str, tuple[Path, ...]]
    surfaces: Mapping[str, Path]
    depth: Mapping[str, Path]
    truth: Mapping[str, Path]
    subjects: tuple[str, ...]


def cortex(side: str, n_splits: int = 5) -> tuple[Mesh, NDArray[np.float64]]:
    """Make a folded hemisphere that is nobody's, about where a brain's is in MNI space.

    Parameters
    ----------
    side
        "left" or "right".
    n_splits
        How often the triangles of an icosahedron are split: 5 gives 10,242 vertices.

    Returns
    -------
    The mesh, and (n_vertices,) how deep each vertex lies in a fold, 0 on average.
    """
    points, faces = icosphere(n_splits)
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(_FOLDS, 3)) * 9.0
    depth = np.cos(points @ waves.T + rng.uniform(0, 2 * np.pi, _FOLDS)).sum(axis=1) * np.sqrt(2 / _FOLDS)
    depth -= depth.mean()
    xyz = points * (1 - _DEPTH * depth)[:, None] * _HALF_AXES
    xyz[:, 0] = np.where(xyz[:, 0] < 0, 0.75 * xyz[:, 0], xyz[:, 0])  # flatter where the other hemisphere is
    xyz += _CENTRE
    if side == "left":
        xyz, faces = xyz * [-1.0, 1.0, 1.0], faces[:, ::-1]
    return Mesh(xyz, np.ascontiguousarray(faces), f"the {side} hemisphere"), depth


def icosphere(n_splits: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """(n, 3) points on the unit sphere and the triangles between them, seen anticlockwise from outside."""
    ratio = (1 + np.sqrt(5)) / 2
    corners = [(0.0, a, b * ratio) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([np.roll(corner, k) for corner in corners for k in range(3)])
    points /= np.linalg.norm(points[0])
    faces = ConvexHull(points).simplices.astype(np.int64)
    inward = np.linalg.det(points[faces]) < 0
    faces[inward] = faces[inward][:, ::-1]
    for _ in range(n_splits):
        ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges, number = np.unique(ends, axis=0, return_inverse=True)
        middle = points[edges].mean(axis=1)
        ab, bc, ca = (number.reshape(-1, 3) + len(points)).T
        a, b, c = faces.T
        faces = np.concatenate([np.stack(one, 1) for one in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return points, faces.astype(np.int32)


def simulate_surface_cohort(
    folder: str | os.PathLike[str],
    n_subjects: int = 16,
    seed: int = 0,
    surfaces: Any = None,
    patches: Sequence[Patch] = BUTTON_PRESS,
    fwhm: float = NOISE_FWHM,
    progress: bool = False,
) -> SimulatedSurfaces:
    """Simulate maps on the surfaces of both hemispheres, and write them as GIFTI files beside their meshes.

    Every map is noise of standard deviation 1, smooth along the mesh, plus patches of signal, smooth too, whose
    amplitude varies by 30 % from subject to subject. Subject i depends on ``(seed, i)`` alone.

    Parameters
    ----------
    folder
        Where to write. It appears once everything is written. Where it already holds this very simulation,
        that one is returned.
    n_subjects
        Number of subjects, 2 at least.
    seed
        Seed of everything random.
    surfaces
        ``{"left": ..., "right": ...}``, meshes as in `numbaglm.Cohort.create`; by default a folded cortex of our own of
        10,242 vertices a hemisphere.
    patches
        What to plant: hemisphere, peak (x, y, z) in mm, amplitude in noise standard deviations, FWHM in mm.
    fwhm
        Smoothness of the noise in mm.
    progress
        Show a progress bar.

    Raises
    ------
    InputError, ImageError, MissingFileError
        A parameter is out of its range, or a mesh can't be used.
    OutputExistsError
        The folder holds something else.
    OutputError
        The folder can't be written.

    Examples
    --------
    >>> import numbaglm as ng
    >>> simulated = ng.simulate_surface_cohort("surfaces", n_subjects=8)
    >>> len(simulated.maps["left"]), simulated.surfaces["left"].name
    (8, 'hemi-L_midthickness.surf.gii')
    >>> ng.Cohort.from_maps(simulated.maps, surfaces=simulated.surfaces)
    <Cohort: 8 subjects x 20,484 vertices of left and right surfaces, in memory>
    """
    if n_subjects < 2:
        raise InputError(invalid("n_subjects", n_subjects, "2 or more"))
    if seed < 0:
        raise InputError(invalid("seed", seed, "0 or more"))
    if not fwhm > 0:
        raise InputError(invalid("fwhm", fwhm, "a width in mm above 0"))
    meshes, depths = _meshes(surfaces)
    for patch in patches:
        if len(patch) != 4 or patch[0] not in SIDES or not patch[3] > 0:
            raise InputError(invalid("patches", patch, "('left' or 'right', (x, y, z), amplitude, FWHM above 0)"))
    target = Path(folder).absolute()
    width = max(2, len(str(n_subjects)))
    subjects = tuple(f"sub-{i + 1:0{width}d}" for i in range(n_subjects))
    simulated = SimulatedSurfaces(
        {side: tuple(target / f"{one}_hemi-{_BLADE[side]}_stat.func.gii" for one in subjects) for side in SIDES},
        {side: target / f"hemi-{_BLADE[side]}_midthickness.surf.gii" for side in SIDES},
        {side: target / f"hemi-{_BLADE[side]}_depth.shape.gii" for side in SIDES},
        {side: target / f"hemi-{_BLADE[side]}_truth.func.gii" for side in SIDES},
        subjects,
    )

    def write(part: Path) -> None:
        planted, noises = {}, {}
        for side, mesh in meshes.items():
            planted[side] = planted_effect(mesh, [patch for patch in patches if patch[0] == side])
            noises[side] = SurfaceNoise(mesh, fwhm)
            save_mesh(mesh, side, part / simulated.surfaces[side].name)
            for values, file in ((depths[side], simulated.depth), (planted[side], simulated.truth)):
                save_vertices(values, side, file[side].name.split("_")[1].split(".")[0], part / file[side].name)
        seeds = np.random.SeedSequence(seed).spawn(n_subjects)
        tasks = [
            (planted, noises, seeds[i], {side: part / simulated.maps[side][i].name for side in SIDES})
            for i in range(n_subjects)
        ]
        run_tasks(_write_subject, tasks, label="Simulating", progress=progress)

    recipe: dict[str, Any] = {"n_subjects": n_subjects, "seed": seed, "fwhm": float(fwhm)}
    recipe["patches"] = [[side, [float(one) for one in peak], float(a), float(w)] for side, peak, a, w in patches]
    if surfaces is not None:
        recipe["n_vertices"] = [mesh.n for mesh in meshes.values()]
    files = [*simulated.surfaces.values(), *simulated.depth.values(), *simulated.truth.values()]
    files += [file for side in SIDES for file in simulated.maps[side]]
    fill(target, describe("Simulated maps on surfaces", **recipe), files, write)
    return simulated


def planted_effect(mesh: Mesh, patches: Sequence[Patch]) -> NDArray[np.float64]:
    """(n_vertices,) sum of the patches of one hemisphere, each a Gaussian along the mesh."""
    effect = np.zeros(mesh.n)
    for _, peak, amplitude, fwhm in patches:
        nearest = int(np.argmin(((mesh.coordinates - np.asarray(peak)) ** 2).sum(axis=1)))
        spread = HeatKernel(mesh.coordinates, mesh.faces, fwhm).smooth(np.eye(1, mesh.n, nearest)[0])
        effect += amplitude * spread / spread.max()
    return effect


class SurfaceNoise:
    """Noise on a mesh: white noise per area, smoothed along it, of standard deviation 1 over the mesh.

    Parameters
    ----------
    mesh, fwhm
        Where, and how smooth in mm.
    """

    def __init__(self, mesh: Mesh, fwhm: float) -> None:
        areas = mesh.areas
        self._white = 1 / np.sqrt(np.where(areas > 0, areas, 1.0))
        self._kernel = HeatKernel(mesh.coordinates, mesh.faces, fwhm)
        self._sd = 1.0
        self._sd = float(np.sqrt(np.mean(self.draw(np.random.default_rng(0), _N_PROBES) ** 2)))

    def draw(self, rng: np.random.Generator, n_maps: int = 1) -> NDArray[np.float64]:
        """(n_maps, n_vertices) maps."""
        return self._kernel.smooth(rng.standard_normal((n_maps, self._white.size)) * self._white) / self._sd


def _meshes(surfaces: Any) -> tuple[dict[str, Mesh], dict[str, NDArray[np.float64]]]:
    """Meshes by hemisphere, and how deep their vertices lie: of those that are given along the vertical alone."""
    if surfaces is None:
        made = {side: cortex(side) for side in SIDES}
        return {side: mesh for side, (mesh, _) in made.items()}, {side: depth for side, (_, depth) in made.items()}
    meshes = load_meshes(surfaces, list(SIDES))
    if set(meshes) != set(SIDES):
        raise InputError(invalid("surfaces", sorted(meshes), "a mesh of each hemisphere, 'left' and 'right'"))
    return {side: meshes[side] for side in SIDES}, {side: _depth(meshes[side]) for side in SIDES}


def _depth(mesh: Mesh) -> NDArray[np.float64]:
    """How far each vertex lies below what the mesh is when it is smoothed, along the way outward."""
    smooth = HeatKernel(mesh.coordinates, mesh.faces, 20.0).smooth(mesh.coordinates.T).T
    outward = smooth - smooth.mean(axis=0)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    return np.asarray(((smooth - mesh.coordinates) * outward).sum(axis=1))


def _write_subject(
    planted: Mapping[str, NDArray[np.float64]],
    noises: Mapping[str, SurfaceNoise],
    seed: np.random.SeedSequence,
    files: Mapping[str, Path],
) -> None:
    rng = np.random.default_rng(seed)
    amplitude = rng.normal(1.0, _AMPLITUDE_SD)
    for side in SIDES:
        save_vertices(amplitude * planted[side] + noises[side].draw(rng)[0], side, "stat", files[side])
