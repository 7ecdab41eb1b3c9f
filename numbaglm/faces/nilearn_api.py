"""Drop-ins for nilearn's permutation tests: its signatures, keys and conventions on numbaglm's engine.

`permuted_ols` takes arrays, `non_parametric_inference` images. Both say in their notes where they differ from
nilearn 0.14.1 on purpose.
"""

from __future__ import annotations

import logging
import operator
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from numbaglm.cohort import Cohort
from numbaglm.data.geometry import Geometry
from numbaglm.data.images import load_mask, to_image
from numbaglm.data.store import CohortStore
from numbaglm.errors import ContrastError, DesignError, InputError, NumbaglmWarning, invalid
from numbaglm.inputs import design_of, maps_of, n_workers_of, unwrap_mask
from numbaglm.model import as_cohort, permutation_test
from numbaglm.results import PermutationResult
from numbaglm.stats.design import Contrast, Design, orthonormal

log = logging.getLogger("numbaglm")

Floats = NDArray[np.float64]

_NOTHING_LEFT = 1e-12  # of a column's length: what confounds leave of it by rounding alone
_VOXELS_AT_ONCE = 8192


def non_parametric_inference(
    second_level_input: Any,
    confounds: pd.DataFrame | None = None,
    design_matrix: Any = None,
    second_level_contrast: Any = None,
    first_level_contrast: Any = None,
    mask: Any = None,
    smoothing_fwhm: Any = None,
    model_intercept: bool = True,
    n_perm: int = 10000,
    two_sided_test: bool = False,
    random_state: Any = None,
    n_jobs: int = 1,
    verbose: int = 0,
    threshold: float | None = None,
    tfce: bool = False,
    *,
    compatibility: str | None = None,
) -> Any:
    """Test a contrast of a group model by permutation, with nilearn's signature, keys and conventions.

    Parameters
    ----------
    second_level_input, confounds, design_matrix, first_level_contrast
        As in `SecondLevelModel.fit` and `SecondLevelModel.compute_contrast`.
    second_level_contrast
        Column name, expression, vector (t) or matrix (F); None where the design has one column.
    mask
        Image, path, or a masker, of which mask and smoothing are used.
    smoothing_fwhm
        Width in mm of a Gaussian.
    model_intercept
        Whether a constant column is added, where no combination of the design's columns is constant already.
    n_perm
        Number of random permutations or sign flips. 0 gives the statistic alone.
    two_sided_test
        Whether effects of both signs count (False by default, unlike `permuted_ols`).
    random_state
        As in `permuted_ols`.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    verbose
        Above 0 shows progress.
    threshold
        Cluster-forming threshold: p (halved if two-sided), or ``("t", 3.1)``. None for no cluster inference.
    tfce
        Whether to compute threshold-free cluster enhancement.
    compatibility
        "nilearn" reproduces the first two of the differences below.

    Returns
    -------
    The image of -log10 of the corrected p of the voxels if neither ``threshold`` nor ``tfce`` is given; else a
    dict of images: ``t``, ``logp_max_t`` (``f``, ``logp_max_f`` of an F contrast), and ``size``, ``logp_max_size``, ``mass``,
    ``logp_max_mass`` or ``tfce``, ``logp_max_tfce``. With ``n_perm=0`` a dict that holds the statistic.

    Raises
    ------
    InputError, DesignError, ContrastError, ShufflingError, ImageError, MaskError, MissingFileError
        As in `permutation_test`.

    Notes
    -----
    Conventions are those of `permuted_ols`. It differs from nilearn in what follows.

    - A contrast over several columns is tested in the model that was given; nilearn tests the weighted sum of
      those columns beside the others, which is another model.
    - Signs are flipped where the tested columns are constant; nilearn also does so where a constant is among
      the other columns, though the errors need not be symmetric.
    - F contrasts are tested; nilearn raises ValueError.
    - A threshold given as a t value is refused unless it is written ``("t", 3.1)``; nilearn takes it as p.
    - Voxels that are NaN or infinite in a map leave the analysis; nilearn takes them as 0.
    - Where no mask is given, it is the voxels that all subjects have.
    - Where the distinct shufflings are no more than ``n_perm``, all of them are used, each once.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, pandas as pd, numbaglm as ng
    >>> rng = np.random.default_rng(0)
    >>> maps = [nib.Nifti1Image(rng.normal(1, 1, (4, 4, 4)).astype("f4"), np.eye(4)) for _ in range(8)]
    >>> X = pd.DataFrame({"intercept": np.ones(8)})
    >>> ng.non_parametric_inference(maps, design_matrix=X, n_perm=100, random_state=0).shape
    (4, 4, 4)
    >>> sorted(ng.non_parametric_inference(maps, design_matrix=X, n_perm=100, random_state=0, threshold=0.01))
    ['logp_max_mass', 'logp_max_size', 'logp_max_t', 'mass', 'size', 't']
    """
    _check_compatibility(compatibility)
    second_level_input = maps_of(second_level_input, first_level_contrast)
    design_matrix = design_of(second_level_input, confounds, design_matrix)
    mask, smoothing_fwhm = unwrap_mask(mask, smoothing_fwhm)
    n_workers = n_workers_of(n_jobs)
    cohort = as_cohort(
        second_level_input,
        mask=mask,
        smoothing_fwhm=smoothing_fwhm,
        progress=verbose > 0,
        n_workers=n_workers,
    )
    design = Design.parse(design_matrix, cohort.n_subjects)
    contrast = Contrast.parse(second_level_contrast, design)
    errors = None
    if compatibility == "nilearn":
        frame, errors = _as_nilearn_models(design, contrast, model_intercept)
        weights = np.eye(1, frame.shape[1])
    else:
        frame, weights = (
            _with_intercept(design, contrast) if model_intercept else (design.to_frame(), contrast.matrix)
        )
    result = permutation_test(
        cohort,
        frame,
        weights,
        n_perm=n_perm,
        two_sided=two_sided_test,
        cluster_forming_threshold=threshold,
        tfce=tfce,
        seed=seed_of(random_state),
        errors=errors,
        conventions="nilearn",
        n_workers=n_workers,
        progress=verbose > 0,
    )
    maps = _maps(result, two_sided_test)
    images = {name: to_image(result.geometry, values, dtype=np.float64) for name, values in maps.items()}
    return images[f"logp_max_{result.statistic}"] if n_perm and threshold is None and not tfce else images


def permuted_ols(
    tested_vars: ArrayLike,
    target_vars: ArrayLike,
    confounding_vars: ArrayLike | None = None,
    model_intercept: bool = True,
    n_perm: int = 10000,
    two_sided_test: bool = True,
    random_state: Any = None,
    n_jobs: int = 1,
    verbose: int = 0,
    masker: Any = None,
    tfce: bool = False,
    threshold: float | None = None,
    output_type: str = "dict",
    *,
    compatibility: str | None = None,
) -> dict[str, NDArray[Any]]:
    """Test regressors at many voxels by permutation, each beside the confounds (Freedman-Lane).

    Parameters
    ----------
    tested_vars
        (n_samples, n_regressors) or (n_samples,) numbers; each is tested by itself.
    target_vars
        (n_samples, n_voxels) data, finite.
    confounding_vars
        (n_samples, n_confounds), modelled and not tested. Columns may depend on each other.
    model_intercept
        Whether a constant confound is added, where none is there and the tested regressor isn't constant itself.
    n_perm
        Number of random permutations or sign flips. 0 gives the statistic alone.
    two_sided_test
        Whether effects of both signs count (True by default, unlike `non_parametric_inference`).
    random_state
        Whole number, or a NumPy generator to draw one from; None draws from NumPy's global state, which
        `numpy.random.seed` sets. Random numbers are other than nilearn's, whatever the seed.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    verbose
        Above 0 shows progress.
    masker
        Fitted masker, whose ``mask_img_`` tells where the voxels lie: needed for clusters and TFCE.
    tfce
        Whether to compute threshold-free cluster enhancement.
    threshold
        Cluster-forming threshold: p (halved if two-sided), or ``("t", 3.1)``. None for no cluster inference.
    output_type
        "dict". nilearn's deprecated "legacy" is not offered.
    compatibility
        "nilearn" reproduces the first of the differences below.

    Returns
    -------
    dict of arrays, a row a regressor: ``t`` and ``logp_max_t`` (n_regressors, n_voxels), ``h0_max_t``
    (n_regressors, n_perm); with a threshold ``size``, ``logp_max_size``, ``h0_max_size`` and the same of ``mass``;
    with tfce ``tfce``, ``logp_max_tfce``, ``h0_max_tfce``. ``n_perm=0`` gives ``t`` (and ``tfce``).

    Raises
    ------
    InputError, DesignError, ShufflingError
        An argument can't be used, or a tested regressor depends on the confounds.

    Notes
    -----
    As in nilearn: p of voxels and TFCE is (#{null >= observed} + 1) / (n_perm + 1), corrected over voxels for each
    regressor by itself; p of clusters is #{null >= observed} / n_perm kept within [1 / n_perm, 1 - 1 / n_perm],
    the latter also outside clusters. A p threshold becomes t with n_samples - n_regressors - n_confounds degrees of
    freedom. Voxels strictly above it form clusters by their faces (6 neighbours), signs apart; mass is the sum of
    \\|t\\| - threshold. TFCE has E = 0.5, H = 2 and 100 steps of the map's own maximum, the sum not multiplied by the
    step: its scale depends on the map. The null leaves out the observed data.

    It differs from nilearn in what follows.

    - Signs are flipped where the tested regressor is constant, and samples are permuted otherwise; nilearn also
      flips signs where one constant column is among the confounds.
    - Where the distinct shufflings are no more than ``n_perm``, all of them are used, each once: the null has
      their number less one columns. If that differs between regressors, rows are filled up with NaN.
    - Nulls depend on ``random_state`` alone, and not on ``n_jobs``.
    - Confounds that depend on each other are one confound less, with any scaling of the columns.
    - A constant tested beside others is tested by sign flips as if it were alone.
    - t is 0, and not NaN, where the confounds explain all of the data; NaN in the data is refused.
    - Statistics that are equal but for rounding count as equal.

    Examples
    --------
    >>> import numpy as np, numbaglm as ng
    >>> rng = np.random.default_rng(0)
    >>> age, Y = rng.normal(size=20), rng.normal(size=(20, 50))
    >>> out = ng.permuted_ols(age, Y, n_perm=100, random_state=0)
    >>> {name: values.shape for name, values in out.items()}
    {'t': (1, 50), 'logp_max_t': (1, 50), 'h0_max_t': (1, 100)}

    References
    ----------
    Freedman and Lane (1983), J. Bus. Econ. Stat. 1(4):292-298. Winkler et al. (2014), NeuroImage 92:381-397.
    """
    _check_compatibility(compatibility)
    if output_type != "dict":
        raise InputError(
            invalid("output_type", output_type, "'dict'", "Read 'logp_max_t', 't' and 'h0_max_t' there.")
        )
    tested, targets, confounds = _arrays(tested_vars, target_vars, confounding_vars)
    if masker is None and (tfce or threshold is not None):
        raise InputError("A masker is needed for tfce and for a threshold: it tells where the voxels lie.")
    geometry = _geometry(masker, targets.shape[1])
    n_workers, seed = n_workers_of(n_jobs), seed_of(random_state)
    one_constant = confounds is not None and np.sum(np.ptp(confounds, axis=0) == 0) == 1
    errors = "ise" if one_constant and compatibility == "nilearn" else None
    outputs = []
    for x in tested.T:
        Z = _nuisance(confounds, model_intercept, np.ptp(x) == 0, len(x))
        height: Any = threshold
        if threshold is not None and not isinstance(threshold, tuple):
            height = _t_threshold(threshold, two_sided_test, len(x) - tested.shape[1] - Z.shape[1])
        result = permutation_test(
            Cohort(CohortStore.from_array(_unit_residuals(targets, Z), geometry)),
            np.column_stack([x, Z]),
            np.eye(1, 1 + Z.shape[1])[0],
            n_perm=max(operator.index(n_perm), 0),
            two_sided=two_sided_test,
            cluster_forming_threshold=height,
            tfce=tfce,
            seed=seed,
            errors=errors,
            conventions="nilearn",
            n_workers=n_workers,
            progress=verbose > 0,
        )
        nulls = {f"h0_{name}": np.asarray(null[1:], dtype=np.float64) for name, null in result.h0.items()}
        outputs.append(_maps(result, two_sided_test) | nulls)
    return {name: _rows([output[name] for output in outputs]) for name in outputs[0]}


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
    if (
        isinstance(random_state, int | np.integer)
        and not isinstance(random_state, bool)
        and random_state >= 0
    ):
        return int(random_state)
    raise InputError(invalid("random_state", random_state, "a whole number >= 0, a NumPy generator, or None"))


def _check_compatibility(compatibility: str | None) -> None:
    if compatibility not in (None, "nilearn"):
        raise InputError(invalid("compatibility", compatibility, "None or 'nilearn'"))


def _with_intercept(design: Design, contrast: Contrast) -> tuple[pd.DataFrame, Floats]:
    """Add a constant to a design, unless its columns span one, and a weight of 0 to the contrast."""
    frame, M = design.to_frame(), orthonormal(design.matrix)
    ones = np.ones(design.n_subjects)
    if np.allclose(M @ (M.T @ ones), ones):
        return frame, contrast.matrix
    name = "intercept" if "intercept" not in frame else "constant intercept"
    return frame.assign(**{name: 1.0}), np.pad(contrast.matrix, ((0, 0), (0, 1)))


def _as_nilearn_models(
    design: Design, contrast: Contrast, model_intercept: bool
) -> tuple[pd.DataFrame, str | None]:
    """nilearn's model of a contrast, the tested column first, and the errors that it assumes (None: as we do)."""
    if not contrast.is_t:
        raise ContrastError(
            invalid("compatibility", "nilearn", "None for an F contrast", "nilearn has none.")
        )
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
    return frame, errors


def _arrays(tested: Any, targets: Any, confounds: Any) -> tuple[Floats, NDArray[Any], Floats | None]:
    """Check the arrays of `permuted_ols` and give them two dimensions."""
    targets = np.asarray(targets)
    if targets.ndim != 2 or targets.dtype.kind not in "biuf" or targets.shape[1] == 0:
        allowed = "a 2D array of numbers (n_samples, n_voxels)"
        raise InputError(invalid("target_vars", f"{targets.dtype} of shape {targets.shape}", allowed))
    tables: list[Floats | None] = []
    for name, given in (("tested_vars", tested), ("confounding_vars", confounds)):
        values = None if given is None else np.asarray(given)
        if values is not None and values.ndim == 1:
            values = values[:, None]
        if values is not None and (
            values.ndim != 2 or values.dtype.kind not in "biuf" or len(values) != len(targets)
        ):
            allowed = f"numerical or boolean values, {len(targets)} rows as target_vars has"
            raise InputError(invalid(name, f"{values.dtype} of shape {values.shape}", allowed))
        if values is not None and not np.isfinite(values).all():
            raise InputError(invalid(name, "NaN or infinity", "finite values", "Leave those samples out."))
        tables.append(None if values is None else values.astype(np.float64))
    X, Z = tables
    if X is None or X.shape[1] == 0:
        raise InputError(invalid("tested_vars", tested, "at least one regressor"))
    return X, targets, Z


def _geometry(masker: Any, n_voxels: int) -> Geometry:
    """Where voxels lie; without a masker they are a line, and nobody asks about neighbours."""
    if masker is None:
        return Geometry(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))
    geometry = load_mask(getattr(masker, "mask_img_", None))
    if geometry is None:
        raise InputError(
            invalid("masker", type(masker).__name__, "a fitted masker with mask_img_", "Call its fit first.")
        )
    if geometry.n_voxels != n_voxels:
        allowed = f"{geometry.n_voxels} columns, one for each voxel of the masker"
        raise InputError(invalid("target_vars", f"{n_voxels} columns", allowed))
    return geometry


def _nuisance(
    confounds: Floats | None, model_intercept: bool, tests_constant: bool, n_samples: int
) -> Floats:
    """Orthonormal confounds (n_samples, rank) of a regressor."""
    Z = np.empty((n_samples, 0)) if confounds is None else confounds
    constant = np.ptp(Z, axis=0) == 0
    if tests_constant:
        Z = Z[:, ~constant]
    elif model_intercept and not (constant & (Z[0] != 0)).any():
        Z = np.column_stack([Z, np.ones(n_samples)])
    lengths = np.linalg.norm(Z, axis=0)
    return orthonormal(Z[:, lengths > 0] / lengths[lengths > 0])


def _unit_residuals(targets: NDArray[Any], Z: Floats) -> NDArray[np.float32]:
    """Residuals on orthonormal Z, of unit length; 0 where nothing is left.

    They have the t and the null of the data (Freedman-Lane sees nothing else). Taken in double precision they
    keep what rounding the data itself to float32 would lose where their mean is large.
    """
    residuals = np.empty(targets.shape, dtype=np.float32)
    n_empty = 0
    for start in range(0, targets.shape[1], _VOXELS_AT_ONCE):
        Y = targets[:, start : start + _VOXELS_AT_ONCE].astype(np.float64)
        if not np.isfinite(Y).all():
            raise InputError(
                invalid("target_vars", "NaN or infinity", "finite values", "Leave those voxels out.")
            )
        E = Y - Z @ (Z.T @ Y)
        length, total = np.linalg.norm(E, axis=0), np.linalg.norm(Y, axis=0)
        empty = length <= _NOTHING_LEFT * total
        n_empty += int(empty.sum())
        residuals[:, start : start + _VOXELS_AT_ONCE] = E * np.where(
            empty, 0.0, 1 / np.where(empty, 1.0, length)
        )
    if n_empty:
        message = (
            f"{n_empty:,} columns of target_vars have zeros across all samples, or are explained by the confounds "
            "alone: t is 0 and p is 1 there."
        )
        warnings.warn(message, NumbaglmWarning, stacklevel=3)
    return residuals


def _t_threshold(p: Any, two_sided: bool, dof: int) -> tuple[str, float]:
    """Cluster-forming t of a p."""
    if not isinstance(p, int | float | np.number) or not 0 < p < 1:
        hint = "A value such as 3.1 is a statistic: write it as ('t', 3.1)."
        raise InputError(invalid("threshold", p, "a p between 0 and 1, or ('t', value)", hint))
    if dof < 1:
        raise DesignError(
            f"n_samples - n_regressors - n_confounds is {dof}: no degrees of freedom for a threshold."
        )
    return "t", float(stats.t.isf(p / 2 if two_sided else p, dof))


def _maps(result: PermutationResult, two_sided: bool) -> dict[str, NDArray[Any]]:
    """nilearn's maps, by its names, of a result."""
    name, maps = result.statistic, result.maps
    found: dict[str, NDArray[Any]] = {name: maps[name]}
    if "p_fwe_voxel" in maps:
        found[f"logp_max_{name}"] = maps["logp_fwe_voxel"]
    if "tfce" in maps:
        found["tfce"] = maps["tfce"]
    if "p_fwe_tfce" in maps:
        found["logp_max_tfce"] = maps["logp_fwe_tfce"]
    if "p_fwe_size" in maps:
        size, mass = _cluster_maps(result, two_sided)
        found |= {"size": size, "logp_max_size": maps["logp_fwe_size"]}
        found |= {"mass": mass, "logp_max_mass": maps["logp_fwe_mass"]}
    return found


def _cluster_maps(result: PermutationResult, two_sided: bool) -> tuple[NDArray[np.int64], Floats]:
    """Extent and mass of each voxel's cluster, 0 outside clusters."""
    geometry, threshold = result.geometry, result.provenance["cluster_forming_statistic"]
    statistic = np.asarray(geometry.unmask(result.maps[result.statistic]), dtype=np.float64)
    size, mass = np.zeros(geometry.shape, dtype=np.int64), np.zeros(geometry.shape)
    for sign in (1, -1) if two_sided and result.statistic == "t" else (1,):
        label, n_clusters = ndimage.label(sign * statistic > threshold)
        excess = np.where(label > 0, sign * statistic - threshold, 0.0)
        size += (np.bincount(label.ravel()) * (np.arange(n_clusters + 1) > 0))[label]
        mass += np.bincount(label.ravel(), weights=excess.ravel())[label]
    return size[geometry.mask], mass[geometry.mask]


def _rows(values: list[NDArray[Any]]) -> NDArray[Any]:
    """Stack a row a regressor; shorter ones (nulls of fewer distinct shufflings) are filled up with NaN."""
    most = max(row.size for row in values)
    if all(row.size == most for row in values):
        return np.stack(values)
    return np.stack([np.pad(row, (0, most - row.size), constant_values=np.nan) for row in values])
