"""What nilearn's permutation tests take and return, turned into ours and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import load_mask
from numbaglm.errors import (
    ContrastError,
    DesignError,
    InputError,
    InputTypeError,
    NumbaglmFutureWarning,
    invalid,
    warn,
)
from numbaglm.results.result import PermutationResult
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import SurfaceMask, is_surface
from numbaglm.stats.model.design import Contrast, Design, orthonormal
from numbaglm.stats.model.estimable import GroupDesign
from numbaglm.stats.pvalues import statistic_threshold

# Of permuted_ols, in its order.
KEYS = (
    *("t", "logp_max_t", "h0_max_t", "tfce", "h0_max_tfce", "logp_max_tfce"),
    *("size", "logp_max_size", "h0_max_size", "mass", "logp_max_mass", "h0_max_mass"),
)
_NOTHING_LEFT = 1e-12  # of a column's length: what confounds leave of it by rounding alone
_VOXELS_AT_ONCE = 8192


def check_compatibility(compatibility: str | None) -> None:
    """Refuse another one than nilearn's."""
    if compatibility not in (None, "nilearn"):
        raise InputError(invalid("compatibility", compatibility, "None or 'nilearn'"))


def check_flags(**given: Any) -> None:
    """Refuse what is neither True nor False."""
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise InputTypeError(invalid(name, value, "True or False"))


def seed_of(random_state: Any) -> int:
    """Turn what nilearn takes as random_state into a seed.

    Raises
    ------
    InputError
        It is neither a whole number >= 0, nor a NumPy generator, nor None.
    """
    if random_state is None or random_state is np.random:
        return int(np.random.randint(2**31 - 1))  # noqa: NPY002 - scikit-learn's meaning of None
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    wrong = InputError if isinstance(random_state, int | np.integer) else InputTypeError
    raise wrong(invalid("random_state", random_state, "a whole number >= 0, a NumPy generator, or None"))


def check_n_perm(n_perm: Any) -> int:
    """A whole number of permutations; below 0 is none, as in nilearn."""
    if isinstance(n_perm, bool) or not isinstance(n_perm, int | np.integer):
        raise InputTypeError(f"'n_perm' must be of type int: got {n_perm!r}. Allowed: a whole number, 0 for none.")
    return max(0, int(n_perm))


def warn_of_few(n_perm: int, n_workers: int | None) -> None:
    """Warn where there are no more permutations than threads."""
    if n_workers is not None and 0 < n_perm <= n_workers:
        warn(
            f"The specified number of permutations is {n_perm}, for {n_workers} threads: p can't be below "
            f"1 / {n_perm + 1}. You may want to perform more permutations."
        )


def is_legacy(output_type: Any, tfce: bool, threshold: Any) -> bool:
    """Whether a tuple is to be returned, which nilearn deprecated."""
    if output_type not in ("dict", "legacy"):
        raise InputError(f"'output_type' must be one of 'dict' or 'legacy': got {output_type!r}.")
    if output_type == "dict":
        return False
    if tfce or threshold is not None:
        why = "If 'threshold' is not None" if threshold is not None else "If 'tfce' is True"
        warn(f"{why}, a tuple (output_type='legacy') has no place for the results: a dict is returned. Overriding.")
        return False
    message = "'output_type' is deprecated in nilearn, and will be removed in version 0.15 of it. Use 'dict'."
    warn(message, NumbaglmFutureWarning)
    return True


@dataclass(frozen=True, eq=False)
class PermutedModel:
    """The model that a permutation test of nilearn's kind fits.

    Attributes
    ----------
    frame, weights
        Design matrix and contrast.
    errors
        As in `permutation_test`.
    saturated
        Whether the model that was asked for leaves no residuals: this one then stands in for it, to be fitted to
        `emptied` data.
    """

    frame: pd.DataFrame
    weights: Doubles
    errors: str | None = None
    saturated: bool = False


def permuted_model(group: GroupDesign, given: Any, model_intercept: bool, as_nilearn: bool) -> PermutedModel:
    """Make the model of a contrast.

    Parameters
    ----------
    group, given
        Design, and contrast as the user wrote it.
    model_intercept
        Whether a constant is added where the design holds none.
    as_nilearn
        Whether to reproduce nilearn's model (`non_parametric_inference`, compatibility).

    Notes
    -----
    Without residual degrees of freedom nothing can be tested: a warning says so, and p will be 1.
    """
    contrast = group.contrast(given)
    if group.dof > 0 or not contrast.is_t:  # an F without degrees of freedom is refused here
        model = _as_nilearn if as_nilearn else _with_intercept
        made = model(group.design, contrast, model_intercept)
        if made.frame.shape[1] < len(made.frame) or not contrast.is_t:
            return made
    n = len(group.matrix)
    warn(
        f"The design, with the intercept that is added, has rank {n} for {n} maps: no degrees of freedom are left, and "
        "nothing can be tested. The statistic is 0 and p is 1 everywhere. Use more subjects or fewer columns."
    )
    return PermutedModel(pd.DataFrame({"intercept": np.ones(n)}), np.ones((1, 1)), saturated=True)


def emptied(cohort: Cohort) -> Cohort:
    """A cohort of the same voxels with 0 everywhere."""
    zeros = np.zeros((cohort.n_subjects, cohort.n_voxels), dtype=np.float32)
    return Cohort(CohortStore.from_array(zeros, cohort.store.space))


def _with_intercept(design: Design, contrast: Contrast, model_intercept: bool) -> PermutedModel:
    """Add a constant to a design, unless its columns span one, and a weight of 0 to the contrast."""
    frame, M = design.to_frame(), orthonormal(design.matrix)
    ones = np.ones(design.n_subjects)
    if not model_intercept or np.allclose(M @ (M.T @ ones), ones):
        return PermutedModel(frame, contrast.matrix)
    name = "intercept" if "intercept" not in frame else "constant intercept"
    return PermutedModel(frame.assign(**{name: 1.0}), np.pad(contrast.matrix, ((0, 0), (0, 1))))


def _as_nilearn(design: Design, contrast: Contrast, model_intercept: bool) -> PermutedModel:
    """nilearn's model of a contrast, the tested column first, and the errors it assumes (None: as we do)."""
    if not contrast.is_t:
        raise ContrastError(invalid("compatibility", "nilearn", "None for an F contrast", "nilearn has none."))
    weights = contrast.matrix[0]
    frame = design.to_frame().loc[:, weights == 0]
    tested = design.matrix @ weights
    constant = np.ptp(frame.to_numpy(), axis=0) == 0
    errors = None
    if np.ptp(tested) == 0:
        frame = frame.loc[:, ~constant]
    elif constant.any():
        errors = "ise"
    elif model_intercept:
        frame = frame.assign(**{"added intercept": 1.0})
    frame.insert(0, "tested", tested)
    return PermutedModel(frame, np.eye(1, frame.shape[1]), errors)


def check_arrays(tested: Any, targets: Any, confounds: Any) -> tuple[Doubles, NDArray[Any], Doubles | None]:
    """Check the arrays of `permuted_ols` and give them two dimensions."""
    targets = np.asarray(targets)
    if targets.ndim != 2 or targets.shape[1] == 0:
        raise InputError(f"'target_vars' should be a 2D array. It has shape {targets.shape}: (n_samples, n_voxels).")
    if targets.dtype.kind not in "biuf":
        raise InputTypeError(f"'target_vars' must contain numerical or boolean values: got {targets.dtype}.")
    tables: list[Doubles | None] = []
    for name, given in (("tested_vars", tested), ("confounding_vars", confounds)):
        values = None if given is None else np.asarray(given)
        if values is not None and values.ndim == 1:
            values = values[:, None]
        if values is not None and values.dtype.kind not in "biuf":
            raise InputTypeError(f"'{name}' must contain numerical or boolean values: got {values.dtype}.")
        if values is not None and (values.ndim != 2 or len(values) != len(targets)):
            allowed = f"one or two dimensions, {len(targets)} rows as target_vars has"
            raise InputError(invalid(name, f"shape {values.shape}", allowed))
        if values is not None and not np.isfinite(values).all():
            raise InputError(invalid(name, "NaN or infinity", "finite values", "Leave those samples out."))
        tables.append(None if values is None else values.astype(np.float64))
    X, Z = tables
    if X is None or X.shape[1] == 0:
        raise InputError(invalid("tested_vars", tested, "at least one regressor"))
    n_constant = 0 if Z is None else int(np.sum(np.ptp(Z, axis=0) == 0))
    if n_constant > 1 or (n_constant and X.shape[1] == 1 and np.ptp(X) == 0):
        warn("Multiple columns across 'tested_vars' and 'confounding_vars' are constant: they count once.")
    return X, targets, Z


def voxels_of(masker: Any, n_voxels: int, tfce: bool, threshold: Any) -> Space:
    """Where voxels or vertices lie; where nobody asks about neighbours they may be mere columns."""
    neighbours = tfce or threshold is not None
    if masker is None and neighbours:
        argument = "'tfce' is True" if tfce else "'threshold' is not None"
        raise InputError(
            f"If {argument}, masker must be defined as well. A masker must be provided to tell where the voxels lie."
        )
    mask = getattr(masker, "mask_img_", None)
    if neighbours and mask is None:
        raise InputError(
            invalid("masker", type(masker).__name__, "a fitted masker with mask_img_", "Call its fit first.")
        )
    if mask is None or (is_surface(mask) and not neighbours):
        return Space.of(Parcels(tuple(map(str, range(n_voxels)))))
    geometry = None if is_surface(mask) else load_mask(mask)
    space = Space(SurfaceMask.of_image(mask, mask).parts) if geometry is None else Space.of(geometry)
    if space.n != n_voxels:
        allowed = f"{space.n} columns, one for each {space.noun} of the masker"
        raise InputError(invalid("target_vars", f"{n_voxels} columns", allowed))
    return space


def nuisance_of(x: Doubles, confounds: Doubles | None, model_intercept: bool, as_nilearn: bool) -> Doubles:
    """Orthonormal confounds (n_samples, rank) of a tested regressor; to nilearn zeros are a constant."""
    Z = np.empty((x.size, 0)) if confounds is None else confounds
    constant = np.ptp(Z, axis=0) == 0
    if np.ptp(x) == 0:
        Z = Z[:, ~constant]
    elif model_intercept and not (constant & ((Z[0] != 0) | as_nilearn)).any():
        Z = np.column_stack([Z, np.ones(x.size)])
    lengths = np.linalg.norm(Z, axis=0)
    return orthonormal(Z[:, lengths > 0] / lengths[lengths > 0])


def unit_residuals(targets: NDArray[Any], Z: Doubles) -> NDArray[np.float32]:
    """Residuals on orthonormal Z, of unit length; 0 where nothing is left.

    They have the t and the null of the data (Freedman-Lane sees nothing else). Taken in double precision they
    keep what rounding the data itself to float32 would lose where their mean is large.
    """
    residuals = np.empty(targets.shape, dtype=np.float32)
    n_empty = 0
    for start in range(0, targets.shape[1], _VOXELS_AT_ONCE):
        Y = targets[:, start : start + _VOXELS_AT_ONCE].astype(np.float64)
        if not np.isfinite(Y).all():
            raise InputError(invalid("target_vars", "NaN or infinity", "finite values", "Leave those voxels out."))
        E = Y - Z @ (Z.T @ Y)
        length, total = np.linalg.norm(E, axis=0), np.linalg.norm(Y, axis=0)
        empty = length <= _NOTHING_LEFT * total
        n_empty += int(empty.sum())
        residuals[:, start : start + _VOXELS_AT_ONCE] = E * np.where(empty, 0.0, 1 / np.where(empty, 1.0, length))
    if n_empty:
        warn(
            f"{n_empty:,} columns of target_vars have zeros across all samples, or are explained by the "
            "confounds alone: t is 0 and p is 1 there."
        )
    return residuals


def check_threshold(threshold: Any) -> None:
    """Refuse what is no cluster-forming p; None and what has its own kind are left to the test."""
    if threshold is None or isinstance(threshold, tuple):
        return
    number = isinstance(threshold, float | int | np.floating)
    if not number or not 0 < threshold < 1:
        hint = "A value such as 3.1 is a statistic: write it as ('t', 3.1)."
        raise (InputError if number else InputTypeError)(
            invalid("threshold", threshold, "a p between 0 and 1, or ('t', value)", hint)
        )


def t_threshold(threshold: Any, two_sided: bool, dof: int) -> Any:
    """Turn a cluster-forming p into ("t", value); leave None and what has its own kind as they are."""
    if threshold is None or isinstance(threshold, tuple):
        return threshold
    if dof < 1:
        raise DesignError(f"n_samples - n_regressors - n_confounds is {dof}: a threshold needs at least 1.")
    return "t", statistic_threshold("p", float(threshold), dof, None, two_sided)


def named_maps(result: PermutationResult) -> dict[str, NDArray[Any]]:
    """nilearn's maps of a result, by its names."""
    statistic, maps = result.statistic, result.maps
    names = {
        statistic: statistic,
        f"logp_max_{statistic}": "logp_fwe_voxel",
        "tfce": "tfce",
        "logp_max_tfce": "logp_fwe_tfce",
        "size": "size",
        "logp_max_size": "logp_fwe_size",
        "mass": "mass",
        "logp_max_mass": "logp_fwe_mass",
    }
    found = {theirs: np.asarray(maps[ours]) for theirs, ours in names.items() if ours in set(maps)}
    if "size" in found and result.space.is_volume:  # in voxels; on surfaces in mm2
        found["size"] = found["size"].astype(np.int64)
    return found


def stack_rows(values: list[NDArray[Any]]) -> NDArray[Any]:
    """Stack a row a regressor; shorter ones (nulls of fewer distinct shufflings) are filled up with NaN."""
    most = max(row.size for row in values)
    if all(row.size == most for row in values):
        return np.stack(values)
    return np.stack([np.pad(row, (0, most - row.size), constant_values=np.nan) for row in values])
