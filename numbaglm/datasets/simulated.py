"""Simulated cohorts to try things on, as real NIfTI files."""

from __future__ import annotations

import ast
import hashlib
import json
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.images import mask_image, save_image, to_image
from numbaglm.data.storage.folders import whole_folder
from numbaglm.datasets.phantom import NOISE_FWHM, Blob, noise, signal
from numbaglm.datasets.phantom import brain_geometry as brain_geometry
from numbaglm.datasets.phantom import simulate_maps as simulate_maps
from numbaglm.engine.schedule import run_tasks
from numbaglm.errors import InputError, OutputExistsError, invalid
from numbaglm.spaces.volume import Geometry

# Left minus right press.
_BUTTON_PRESS: tuple[Blob, ...] = (
    ((38.0, -24.0, 58.0), 3.4, 20.0),  # hand knob, contralateral to the left hand
    ((-38.0, -24.0, 58.0), -3.4, 20.0),
    ((-20.0, -52.0, -24.0), 3.0, 17.0),  # cerebellum, ipsilateral to the left hand
    ((20.0, -52.0, -24.0), -3.0, 17.0),
)
_AMPLITUDE_SD = 0.3
_JITTER_SD = 3.0
_DESCRIPTION = "dataset_description.json"
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


@dataclass(frozen=True, eq=False)
class SimulatedStudy:
    """A simulated study on disk.

    Attributes
    ----------
    maps, mask, subjects, geometry
        As in `SimulatedCohort`.
    participants
        The table as a .tsv file, a row a map, its label in the column ``subject_label``.
    truth
        For each effect, by its expression, the image that its value is multiplied with.
    """

    maps: tuple[Path, ...]
    mask: Path
    participants: Path
    truth: Mapping[str, Path]
    subjects: tuple[str, ...]
    geometry: Geometry


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

    Examples
    --------
    >>> import numbaglm as ng
    >>> simulated = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0)
    >>> len(simulated.maps), simulated.mask.name, simulated.geometry.n_voxels
    (8, 'mask.nii.gz', 1207)
    """
    if n_subjects < 2:
        raise InputError(invalid("n_subjects", n_subjects, "2 or more"))
    _check(seed, voxel_size)
    target = Path(folder).absolute()
    width = max(2, len(str(n_subjects)))
    subjects = tuple(f"sub-{i + 1:0{width}d}" for i in range(n_subjects))
    names = [f"{s}_task-buttonpress_contrast-leftVsRight_stat.nii.gz" for s in subjects]
    geometry = brain_geometry(voxel_size)
    maps = tuple(target / name for name in names)
    cohort = SimulatedCohort(maps, target / "mask.nii.gz", target / "truth.nii.gz", subjects, geometry)

    def write(part: Path) -> None:
        save_image(mask_image(geometry), part / cohort.mask.name)
        save_image(to_image(geometry, signal(geometry, _BUTTON_PRESS)), part / cohort.truth.name)
        seeds = np.random.SeedSequence(seed).spawn(n_subjects)
        tasks = [(geometry, seeds[i], part / names[i]) for i in range(n_subjects)]
        run_tasks(_write_subject, tasks, label="Simulating", progress=progress)

    title = "Simulated button presses, left minus right"
    description = describe(title, n_subjects=n_subjects, seed=seed, voxel_size=voxel_size)
    fill(target, description, (*maps, cohort.mask, cohort.truth), write)
    return cohort


def simulate_study(
    folder: str | os.PathLike[str],
    participants: pd.DataFrame,
    effects: Mapping[str, Sequence[Blob]],
    shared: Mapping[str, float] | None = None,
    noise_sd: float | str = 1.0,
    seed: int = 0,
    voxel_size: float = 3.0,
    progress: bool = False,
) -> SimulatedStudy:
    """Simulate a study whose effects are known, and write its maps as NIfTI files beside its table.

    A map is the sum of the effects, each times its value for that row of the table, and of smooth noise (FWHM 8 mm):
    its own, which depends on the seed and its label alone, and what it shares with other rows.

    Parameters
    ----------
    folder, seed, voxel_size, progress
        As in `simulate_button_press`.
    participants
        A row a map, two at least; the index holds the labels ("sub-01", ... where it is merely numbers).
    effects
        An expression over the columns (numbers, words, ``+ - * / **``, comparisons, ``and or not``), such as
        ``"group == 'patient'"``, ``"age - 40"``, or ``"1"`` for all maps alike, and the blobs that its value is
        multiplied with.
    shared
        Column, and standard deviation of the noise that rows with the same value in it have in common: visits of a
        participant, siblings of a family.
    noise_sd
        Standard deviation of a map's own noise: a number, or an expression over the columns.

    Raises
    ------
    InputError, OutputExistsError, OutputError
        As `simulate_button_press`; or an expression or a column can't be used.

    Examples
    --------
    >>> import pandas as pd
    >>> from numbaglm.datasets.simulated import simulate_study
    >>> table = pd.DataFrame({"group": ["control"] * 12 + ["patient"] * 12})
    >>> weaker = {"group == 'patient'": [((38.0, -24.0, 58.0), -1.0, 20.0)]}
    >>> len(simulate_study("study", table, weaker, voxel_size=10.0).maps)
    24
    """
    _check(seed, voxel_size)
    target, table = Path(folder).absolute(), _labelled(participants)
    values = {name: _value(table, name, "effects") for name in effects}
    own = _value(table, str(noise_sd), "noise_sd")
    parts = {"": own} | {name: np.full(len(table), float(sd)) for name, sd in (shared or {}).items()}
    if any(name and name not in table for name in parts) or any(sd < 0 for sd in (shared or {}).values()):
        raise InputError(invalid("shared", shared, f"columns among {list(table)}, and deviations of 0 or more"))
    if (own < 0).any():
        raise InputError(invalid("noise_sd", noise_sd, "0 or more in every row"))
    geometry = brain_geometry(voxel_size)
    maps = tuple(target / f"{label}.nii.gz" for label in table.index)
    truth = {name: target / f"truth-{k}.nii.gz" for k, name in enumerate(effects)}
    mask, rows = target / "mask.nii.gz", target / "participants.tsv"
    study = SimulatedStudy(maps, mask, rows, truth, tuple(table.index), geometry)

    def write(part: Path) -> None:
        save_image(mask_image(geometry), part / study.mask.name)
        table.to_csv(part / study.participants.name, sep="\t")
        planted = [signal(geometry, blobs) for blobs in effects.values()]
        for image, path in zip(planted, truth.values(), strict=True):
            save_image(to_image(geometry, image), part / path.name)
        tasks = []
        for k, label in enumerate(table.index):
            noises = [(_seed(seed, name, table[name].iloc[k] if name else label), sd[k]) for name, sd in parts.items()]
            weights = [value[k] for value in values.values()]
            tasks.append((geometry, list(zip(weights, planted, strict=True)), noises, part / maps[k].name))
        run_tasks(_write_map, tasks, label="Simulating", progress=progress)

    recipe: dict[str, Any] = {"effects": dict(effects), "shared": dict(shared or {}), "noise_sd": noise_sd}
    recipe |= {"seed": seed, "voxel_size": voxel_size, "participants": table.to_csv()}
    # As it comes back from the file: tuples as lists, NumPy's numbers as numbers.
    description = json.loads(json.dumps(describe("Simulated study", **recipe), default=float))
    fill(target, description, (*maps, study.mask, study.participants, *truth.values()), write)
    return study


def _write_subject(geometry: Geometry, seed: np.random.SeedSequence, path: Path) -> None:
    rng = np.random.default_rng(seed)
    amplitude = rng.normal(1.0, _AMPLITUDE_SD)
    jitter = rng.normal(0.0, _JITTER_SD, (len(_BUTTON_PRESS), 3))
    pressed = amplitude * signal(geometry, _BUTTON_PRESS, jitter)
    save_image(to_image(geometry, pressed + noise(geometry, rng, NOISE_FWHM)), path)


def _write_map(
    geometry: Geometry,
    effects: Sequence[tuple[float, NDArray[np.float32]]],
    noises: Sequence[tuple[np.random.SeedSequence, float]],
    path: Path,
) -> None:
    values = np.zeros(geometry.n_voxels, np.float32)
    for value, image in effects:
        values += np.float32(value) * image
    for seed, sd in noises:
        values += np.float32(sd) * noise(geometry, np.random.default_rng(seed), NOISE_FWHM)
    save_image(to_image(geometry, values), path)


def _seed(seed: int, column: str, value: object) -> np.random.SeedSequence:
    """Seed of the noise of all rows that have this value, whichever rows there are."""
    return np.random.SeedSequence([seed, int(hashlib.sha256(f"{column}={value}".encode()).hexdigest(), 16)])


def _labelled(participants: pd.DataFrame) -> pd.DataFrame:
    """The table, its index being labels that can name files."""
    n = len(participants)
    if n < 2:
        raise InputError(invalid("participants", f"{n} rows", "2 or more, a row a map"))
    labels = [str(label) for label in participants.index]
    if pd.api.types.is_numeric_dtype(participants.index.dtype):
        labels = [f"sub-{i + 1:0{max(2, len(str(n)))}d}" for i in range(n)]
    if len({"mask", *labels}) <= n or any(Path(label).name != label or label.startswith("truth-") for label in labels):
        allowed = 'labels that differ, without slashes, and not "mask" or "truth-..."'
        raise InputError(invalid("participants", f"the index {labels}", allowed))
    return participants.set_axis(pd.Index(labels, name="subject_label"))


def _value(table: pd.DataFrame, expression: str, parameter: str) -> NDArray[np.float64]:
    """(n_maps,) value of an expression over the columns."""
    quoted: list[str] = re.findall(r"`([^`]*)`", expression)
    numbers = iter(range(len(quoted)))
    text = re.sub(r"`[^`]*`", lambda _: f"quoted_{next(numbers)}", expression)
    columns = {str(name): table[name] for name in table}
    columns |= {f"quoted_{k}": table[name] for k, name in enumerate(quoted) if name in table}
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused
            found = _computed(ast.parse(text.strip(), mode="eval").body, columns)
        value = np.broadcast_to(np.asarray(found, np.float64), len(table))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        allowed = f"a number for each row: sums, products, powers and comparisons of columns {list(table)}"
        raise InputError(invalid(parameter, expression, allowed, f"{error}.")) from error
    if not np.isfinite(value).all():
        raise InputError(invalid(parameter, expression, "an expression that is finite in every row"))
    return value


_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    **{ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power},
    **{ast.BitAnd: np.logical_and, ast.And: np.logical_and, ast.BitOr: np.logical_or, ast.Or: np.logical_or},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le},
    **{ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.USub: np.negative, ast.UAdd: np.positive, ast.Not: np.logical_not, ast.Invert: np.logical_not},
}


def _computed(node: ast.AST, columns: Mapping[str, Any]) -> Any:
    """Compute a part of an expression: columns, numbers, words and operators. Nothing of it is run as code.

    Raises
    ------
    ValueError, TypeError
    """
    if isinstance(node, ast.Name):
        if node.id not in columns:
            raise ValueError(f"{node.id!r} is no column")
        values = columns[node.id]
        return values.to_numpy(np.float64) if pd.api.types.is_numeric_dtype(values.dtype) else values.to_numpy(object)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value if isinstance(node.value, str) else np.float64(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_number(node.left, columns), _number(node.right, columns))
    if isinstance(node, ast.BoolOp):
        return reduce(_OPERATORS[type(node.op)], [_number(one, columns) for one in node.values])
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_number(node.operand, columns))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
        return _OPERATORS[type(node.ops[0])](_computed(node.left, columns), _computed(node.comparators[0], columns))
    raise ValueError(f"{ast.unparse(node)[:80]!r} can't be part of it")


def _number(node: ast.AST, columns: Mapping[str, Any]) -> Any:
    """As `_computed`, of numbers and truth values alone: words are compared, and no more."""
    return np.asarray(_computed(node, columns), np.float64)


def _check(seed: int, voxel_size: float) -> None:
    if seed < 0:
        raise InputError(invalid("seed", seed, "0 or more"))
    if not 1.0 <= voxel_size <= 10.0:
        raise InputError(invalid("voxel_size", voxel_size, "1 to 10 mm"))


def describe(title: str, **parameters: Any) -> dict[str, Any]:
    """What a folder says of the simulation in it."""
    return {
        "Name": title,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "numbaglm", "Recipe": _RECIPE, "Parameters": parameters}],
    }


def fill(target: Path, description: Mapping[str, Any], files: Sequence[Path], write: Callable[[Path], None]) -> None:
    """Have a folder written, whole or not at all, unless it holds this very simulation."""
    if _holds(target, description, files):
        return
    with whole_folder(target, _DESCRIPTION) as part:
        write(part)
        (part / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def _holds(target: Path, description: Mapping[str, Any], files: Sequence[Path]) -> bool:
    """Whether ``target`` holds this simulation; False where it is free, an error where it is taken."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / _DESCRIPTION).read_text())
    except (OSError, ValueError):
        found = None
    if found == description and all(path.is_file() for path in files):
        return True
    raise OutputExistsError(f"{target} already holds something else. Name a new folder, or remove that one.")
