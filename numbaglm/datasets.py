"""Cohorts to try things on: simulated ones as real NIfTI files, and the localizer's button presses."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from numbaglm.data.geometry import Geometry
from numbaglm.data.images import mask_image, save_image, to_image
from numbaglm.engine.schedule import run_tasks
from numbaglm.errors import (
    InputError,
    MissingExtraError,
    NumbaglmError,
    OutputError,
    OutputExistsError,
    invalid,
)

FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))

# The box of the MNI152 templates: mm of its first and last voxel on each axis, anterior commissure at 0.
MNI_BOX = ((-90.0, 90.0), (-126.0, 90.0), (-72.0, 108.0))

# (centre mm, half axes mm, exponent) of the superellipsoids that make the brain, on both sides unless x is 0.
_BRAIN = (
    ((27.0, -16.0, 21.0), (34.0, 75.0, 47.0), 2.0),  # hemispheres
    ((42.0, -15.0, -15.0), (17.0, 35.0, 18.0), 2.2),  # temporal lobes
    ((16.0, 31.0, -2.0), (19.0, 25.0, 16.0), 2.2),  # orbitofrontal cortex
    ((17.0, -74.0, 4.0), (21.0, 21.0, 21.0), 2.2),  # occipital poles
    ((21.0, -60.0, -34.0), (26.0, 23.0, 17.0), 2.3),  # cerebellum
    ((0.0, -58.0, -32.0), (14.0, 17.0, 15.0), 2.0),  # vermis
    ((0.0, -16.0, 18.0), (11.0, 65.0, 42.0), 2.0),  # the walls of the fissure
    ((0.0, -23.0, -12.0), (19.0, 28.0, 15.0), 2.0),  # midbrain
    ((0.0, -30.0, -38.0), (10.0, 11.0, 28.0), 3.0),  # brainstem
)

# Left minus right press: (peak mm, amplitude in noise standard deviations, FWHM mm).
_BUTTON_PRESS = (
    ((38.0, -24.0, 58.0), 3.4, 20.0),  # hand knob, contralateral to the left hand
    ((-38.0, -24.0, 58.0), -3.4, 20.0),
    ((-20.0, -52.0, -24.0), 3.0, 17.0),  # cerebellum, ipsilateral to the left hand
    ((20.0, -52.0, -24.0), -3.0, 17.0),
)
_NOISE_FWHM = 8.0
_AMPLITUDE_SD = 0.3
_JITTER_SD = 3.0
_RECIPE = 1  # counts the changes of what a seed means


@dataclass(frozen=True, eq=False)
class SimulatedCohort:
    """A simulated cohort on disk.

    Attributes
    ----------
    maps
        One NIfTI file a subject.
    mask
        The brain mask they share.
    truth
        The planted effect: the mean of the population, before jitter, in noise standard deviations.
    subjects
        Labels, in the order of ``maps``.
    geometry
        The mask as a `Geometry`.
    """

    maps: tuple[Path, ...]
    mask: Path
    truth: Path
    subjects: tuple[str, ...]
    geometry: Geometry


@dataclass(frozen=True)
class LocalizerCohort:
    """The localizer's button presses on disk.

    Attributes
    ----------
    maps
        One contrast map (left minus right press) a subject.
    subjects
        Labels, in the order of ``maps``.
    """

    maps: tuple[Path, ...]
    subjects: tuple[str, ...]


def simulate_button_press(
    folder: str | os.PathLike[str],
    n_subjects: int = 16,
    seed: int = 0,
    voxel_size: float = 3.0,
    progress: bool = False,
) -> SimulatedCohort:
    """Simulate the maps of a left minus right button press, and write them as NIfTI files.

    Every map is smooth noise of standard deviation 1 (FWHM 8 mm) on an MNI-like grid, plus motor cortex
    (positive on the right, negative on the left) and cerebellum (the other way round), whose amplitude
    varies by 30 % and whose place by 3 mm from subject to subject. Subject i depends on ``(seed, i)`` alone.

    Parameters
    ----------
    folder
        Where to write. It appears once everything is written. Where it already holds this very simulation,
        that one is returned.
    n_subjects
        Number of subjects, 2 at least.
    seed
        Seed of everything random.
    voxel_size
        Edge of a voxel in mm, 1 to 10.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        A parameter is out of its range.
    OutputExistsError
        The folder holds something else.
    OutputError
        The folder can't be written.
    """
    if n_subjects < 2:
        raise InputError(invalid("n_subjects", n_subjects, "2 or more"))
    if seed < 0:
        raise InputError(invalid("seed", seed, "0 or more"))
    if not 1.0 <= voxel_size <= 10.0:
        raise InputError(invalid("voxel_size", voxel_size, "1 to 10 mm"))
    target = Path(folder).absolute()
    width = max(2, len(str(n_subjects)))
    subjects = tuple(f"sub-{i + 1:0{width}d}" for i in range(n_subjects))
    names = [f"{s}_task-buttonpress_contrast-leftVsRight_stat.nii.gz" for s in subjects]
    geometry = brain_geometry(voxel_size)
    cohort = SimulatedCohort(
        tuple(target / name for name in names),
        target / "mask.nii.gz",
        target / "truth.nii.gz",
        subjects,
        geometry,
    )
    description = _describe(n_subjects=n_subjects, seed=seed, voxel_size=voxel_size)
    if _holds_cohort(target, cohort, description):
        return cohort
    part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
    try:
        part.mkdir(parents=True)
        save_image(mask_image(geometry), part / cohort.mask.name)
        save_image(to_image(geometry, _button_press(geometry)), part / cohort.truth.name)
        seeds = np.random.SeedSequence(seed).spawn(n_subjects)
        tasks = [(geometry, seeds[i], part / names[i]) for i in range(n_subjects)]
        run_tasks(_write_subject, tasks, label="Simulating", unit="subject", progress=progress)
        (part / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n")
        part.replace(target)
    except OSError as error:
        raise OutputError(f"Can't write the simulated cohort to {target}: {error.strerror or error}.") from error
    finally:
        _remove(part)
    return cohort


def simulate_maps(
    geometry: Geometry, n_subjects: int, seed: int = 0, effect: ArrayLike = 0.0, fwhm: float = _NOISE_FWHM
) -> NDArray[np.float32]:
    """Smooth Gaussian noise of standard deviation 1, plus an effect that all subjects share.

    Parameters
    ----------
    geometry
        Grid and mask.
    n_subjects
        Number of maps.
    seed
        Seed; map i depends on ``(seed, i)`` alone.
    effect
        A number, or (n_voxels,), added to every map.
    fwhm
        Smoothness of the noise in mm; 0 for white noise.

    Returns
    -------
    (n_subjects, n_voxels) float32
    """
    maps = np.empty((n_subjects, geometry.n_voxels), np.float32)
    for row, child in zip(maps, np.random.SeedSequence(seed).spawn(n_subjects), strict=True):
        row[:] = _noise(geometry, np.random.default_rng(child), fwhm) + np.asarray(effect)
    return maps


def brain_geometry(voxel_size: float = 3.0) -> Geometry:
    """Make a brain-shaped mask on the grid of the MNI152 templates.

    Hemispheres, temporal lobes, cerebellum and brainstem are superellipsoids in mm, melted together.

    Parameters
    ----------
    voxel_size
        Edge of a voxel in mm. The anterior commissure, (0, 0, 0) mm, is the centre of a voxel.
    """
    starts = [np.ceil(low / voxel_size) * voxel_size for low, _ in MNI_BOX]
    shape = [int((high - start) // voxel_size) + 1 for start, (_, high) in zip(starts, MNI_BOX, strict=True)]
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    x, y, z = (start + voxel_size * i for start, i in zip(starts, (x, y, z), strict=True))
    inside = np.zeros(shape)
    for (cx, cy, cz), (a, b, c), power in _BRAIN:
        # |x| folds both sides onto one, which also leaves the dent between the hemispheres.
        u, v, w = (np.abs(x) - cx) / a, (y - cy) / b, (z - cz) / c
        inside += np.exp(-8.0 * (np.abs(u) ** power + np.abs(v) ** power + np.abs(w) ** power - 1.0))
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = starts
    return Geometry(inside >= 1.0, affine)


def fetch_localizer(n_subjects: int = 16) -> LocalizerCohort:
    """Fetch real maps of a left minus right button press (Brainomics localizer) through nilearn.

    Parameters
    ----------
    n_subjects
        Number of subjects, 2 to 94.

    Raises
    ------
    MissingExtraError
        nilearn is not installed.
    NumbaglmError
        The maps could not be downloaded.

    References
    ----------
    Pinel et al. 2007, BMC Neuroscience 8:91. Papadopoulos Orfanos et al. 2017, NeuroImage 144:309.
    """
    if not 2 <= n_subjects <= 94:
        raise InputError(invalid("n_subjects", n_subjects, "2 to 94, the subjects of the localizer"))
    try:
        fetchers = import_module("nilearn.datasets")
    except ImportError as error:
        raise MissingExtraError(
            'The localizer comes through nilearn, which is missing. Run: pip install "numbaglm[nilearn]"'
        ) from error
    try:
        bunch = fetchers.fetch_localizer_contrasts(["left vs right button press"], n_subjects=n_subjects, verbose=0)
    except (OSError, ValueError) as error:  # requests' and urllib's errors, or a page that is not the index
        reason = type(error).__name__
    else:
        maps = tuple(Path(path) for path in bunch["cmaps"])
        return LocalizerCohort(maps, tuple(f"sub-{path.parent.name}" for path in maps))
    # Raised out here so that no chain of urllib tracebacks hangs on it.
    raise NumbaglmError(
        f"The localizer maps could not be downloaded ({reason}). Check the network, or use simulate_button_press()."
    )


def _remove(folder: Path) -> None:
    """Remove a folder in which a task that outlived the failure of another may still be writing."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def _write_subject(geometry: Geometry, seed: np.random.SeedSequence, path: Path) -> None:
    rng = np.random.default_rng(seed)
    amplitude = rng.normal(1.0, _AMPLITUDE_SD)
    jitter = rng.normal(0.0, _JITTER_SD, (len(_BUTTON_PRESS), 3))
    signal = amplitude * _button_press(geometry, jitter)
    save_image(to_image(geometry, signal + _noise(geometry, rng, _NOISE_FWHM)), path)


def _button_press(geometry: Geometry, jitter: ArrayLike = 0.0) -> NDArray[np.float32]:
    """(n_voxels,) sum of the Gaussian blobs, their centres moved by ``jitter`` (n_blobs, 3) mm."""
    xyz = geometry.coordinates(np.arange(geometry.n_voxels)).astype(np.float32)
    centres = np.array([centre for centre, _, _ in _BUTTON_PRESS]) + np.asarray(jitter)
    effect = np.zeros(geometry.n_voxels, np.float32)
    for centre, (_, amplitude, fwhm) in zip(centres.astype(np.float32), _BUTTON_PRESS, strict=True):
        distance2 = ((xyz - centre) ** 2).sum(axis=1)
        effect += np.float32(amplitude) * np.exp(distance2 * np.float32(-0.5 / (fwhm * FWHM_TO_SIGMA) ** 2))
    return effect


def _noise(geometry: Geometry, rng: np.random.Generator, fwhm: float) -> NDArray[np.float32]:
    """(n_voxels,) stationary noise of variance 1: the box wraps round."""
    white = rng.standard_normal(geometry.shape, dtype=np.float32)
    sigma = fwhm * FWHM_TO_SIGMA / geometry.voxel_sizes
    smooth = gaussian_filter(white, sigma, mode="wrap")
    impulses = [np.eye(1, n)[0] for n in geometry.shape]
    kernels = [gaussian_filter(e, s, mode="wrap") for e, s in zip(impulses, sigma, strict=True)]
    return smooth[geometry.mask] / np.float32(np.prod([np.linalg.norm(k) for k in kernels]))


def _describe(**parameters: float) -> dict[str, Any]:
    return {
        "Name": "Simulated button presses, left minus right",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "numbaglm", "Recipe": _RECIPE, "Parameters": parameters}],
    }


def _holds_cohort(target: Path, cohort: SimulatedCohort, description: Mapping[str, Any]) -> bool:
    """Whether ``target`` holds this simulation; False where it is free, an error where it is taken."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / "dataset_description.json").read_text())
    except (OSError, ValueError):
        found = None
    if found == description and all(path.is_file() for path in (*cohort.maps, cohort.mask, cohort.truth)):
        return True
    raise OutputExistsError(f"{target} already holds something else. Name a new folder, or remove that one.")
