"""Drop-ins for nilearn's permutation tests: its signatures, keys and conventions on numbaglm's engine.

`permuted_ols` takes arrays, `non_parametric_inference` images. Both say in their notes where they differ from
nilearn 0.14.1 on purpose.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.progress import one_bar, preparing
from numbaglm.errors import warn
from numbaglm.faces.nilearn.designs import check_confounds
from numbaglm.faces.nilearn.jobs import n_workers_of, say
from numbaglm.faces.nilearn.maps import check_maps, design_of, effect_maps, read_cohort, warn_of_sorting
from numbaglm.faces.nilearn.maskers import SurfaceMasker, choose_for_test
from numbaglm.faces.nilearn.model.permuted import (
    KEYS,
    check_arrays,
    check_compatibility,
    check_flags,
    check_n_perm,
    check_threshold,
    emptied,
    is_legacy,
    named_maps,
    nuisance_of,
    permuted_model,
    seed_of,
    stack_rows,
    t_threshold,
    unit_residuals,
    voxels_of,
    warn_of_few,
)
from numbaglm.inference.permutation_test import ClusterThreshold, permutation_test
from numbaglm.stats.model.estimable import GroupDesign

_ON_SURFACES = (
    "Clusters and TFCE on surfaces are done here, where nilearn leaves threshold and tfce out: what is returned is a "
    "dict of images, extents are in mm2, and TFCE has E = 1 and H = 2."
)


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
    threshold: ClusterThreshold | None = None,
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
        Image, path, or a masker, of which mask, grid and smoothing are used. Maps on another grid than the mask's are
        resampled to it.
    smoothing_fwhm
        Width in mm of a Gaussian; it goes before the masker's.
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
        Above 0 prints when it begins and how long it took; above 1 also shows progress on stderr.
    threshold
        Cluster-forming threshold: p (halved if two-sided), or ``("t", 3.1)``. None for no cluster inference.
    tfce
        Whether to compute threshold-free cluster enhancement.
    compatibility
        "nilearn" reproduces the first four of the differences below.

    Returns
    -------
    The image of -log10 of the corrected p of the voxels if neither ``threshold`` nor ``tfce`` is given; else
    a dict of images: ``t`` and ``logp_max_t`` (of an F contrast ``f`` and ``logp_max_f``), and with a
    threshold ``size``, ``logp_max_size``, ``mass``, ``logp_max_mass``, with tfce ``tfce``,
    ``logp_max_tfce``. With ``n_perm=0`` a dict that holds the statistic.

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
    - Voxels that are NaN or infinite in a map leave the analysis; nilearn takes them as 0.
    - ``smoothing_fwhm`` counts beside any masker; nilearn leaves it out where the masker has none of its own.
    - F contrasts are tested; nilearn raises ValueError.
    - A threshold given as a t value is refused unless it is written ``("t", 3.1)``; nilearn takes it as p.
    - Where no mask is given, it is the voxels that all subjects have.
    - Where nothing can be tested, as all maps are the same or the model leaves no degrees of freedom, a warning says
      so and p is 1 everywhere; nilearn gives infinite statistics or NaN.
    - Where the distinct shufflings are no more than ``n_perm``, all of them are used, each once.
    - Clusters and TFCE are there on surfaces too, along the edges of the images' mesh, and a warning says so: nilearn
      leaves ``threshold`` and ``tfce`` out there. ``size`` is in mm2, TFCE has E = 1 and H = 2 on mm2, and both
      hemispheres share one null.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, pandas as pd, numbaglm as ng
    >>> rng = np.random.default_rng(0)
    >>> maps = [nib.Nifti1Image(rng.normal(1, 1, (4, 4, 4)).astype("f4"), np.eye(4)) for _ in range(8)]
    >>> X = pd.DataFrame({"intercept": np.ones(8)})
    >>> ng.non_parametric_inference(maps, design_matrix=X, n_perm=100, random_state=0).shape
    (4, 4, 4)
    >>> out = ng.non_parametric_inference(maps, design_matrix=X, n_perm=100, random_state=0, threshold=0.01)
    >>> sorted(out)
    ['logp_max_mass', 'logp_max_size', 'logp_max_t', 'mass', 'size', 't']
    """
    check_compatibility(compatibility)
    check_flags(two_sided_test=two_sided_test, tfce=tfce)
    check_threshold(threshold)
    n_perm, as_nilearn = check_n_perm(n_perm), compatibility == "nilearn"
    began = time.perf_counter()
    say("non_parametric_inference", verbose, "Fitting second level model...")
    maps = check_maps(second_level_input)
    warn_of_sorting(second_level_input, design_matrix)
    check_confounds(confounds)
    table = design_of(maps, confounds, design_matrix)
    group = GroupDesign.parse(table, len(maps) if isinstance(maps, list) else len(table))  # before maps are read
    model = permuted_model(group, second_level_contrast, model_intercept, as_nilearn)
    running: dict[str, Any] = {"n_workers": n_workers_of(n_jobs), "progress": verbose > 1}
    warn_of_few(n_perm, running["n_workers"])
    chosen = choose_for_test(mask, smoothing_fwhm, as_nilearn=as_nilearn)
    chosen_maps = effect_maps(maps, first_level_contrast)
    with one_bar(verbose > 1):
        with preparing():
            cohort, masker = read_cohort(chosen_maps, chosen, fill=as_nilearn, **running)
        if isinstance(masker, SurfaceMasker) and (tfce or threshold is not None):
            warn(_ON_SURFACES)
        result = permutation_test(
            emptied(cohort) if model.saturated else cohort,
            model.frame,
            model.weights,
            n_perm=n_perm,
            two_sided=two_sided_test,
            cluster_forming_threshold=threshold,
            tfce=tfce,
            seed=seed_of(random_state),
            errors=model.errors,
            conventions="nilearn",
            **running,
        )
    images = {name: masker.inverse_transform(values) for name, values in named_maps(result).items()}
    took = time.perf_counter() - began
    say("non_parametric_inference", verbose, f"Computation of second level model done in {took:.2f} seconds.")
    one_map = n_perm > 0 and threshold is None and not tfce
    return images[f"logp_max_{result.statistic}"] if one_map else images


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
    threshold: ClusterThreshold | None = None,
    output_type: str = "dict",
    *,
    compatibility: str | None = None,
) -> Any:
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
        Whether a constant confound is added, where none is there and the tested regressor isn't constant
        itself.
    n_perm
        Number of random permutations or sign flips. 0 gives the statistic alone.
    two_sided_test
        Whether effects of both signs count (True by default, unlike `non_parametric_inference`).
    random_state
        Whole number, or a NumPy generator to draw one from; None draws from NumPy's global state, which
        `numpy.random.seed` sets. Shufflings are other than nilearn's, whatever the seed.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    verbose
        Above 0 shows progress on stderr.
    masker
        Fitted masker, of a volume or of surfaces, whose ``mask_img_`` tells where the voxels lie: needed for clusters
        and TFCE. On surfaces ``size`` is in mm2, and TFCE has E = 1 and H = 2 on mm2.
    tfce
        Whether to compute threshold-free cluster enhancement.
    threshold
        Cluster-forming threshold: p (halved if two-sided), or ``("t", 3.1)``. None for no cluster inference.
    output_type
        "dict", or nilearn's deprecated "legacy": the tuple of ``logp_max_t``, ``t`` and ``h0_max_t``.
    compatibility
        "nilearn" reproduces the first of the differences below.

    Returns
    -------
    dict of arrays, a row a regressor: ``t`` and ``logp_max_t`` (n_regressors, n_voxels), ``h0_max_t``
    (n_regressors, n_perm); with a threshold ``size``, ``logp_max_size``, ``h0_max_size`` and the same of
    ``mass``; with tfce ``tfce``, ``logp_max_tfce``, ``h0_max_tfce``. ``n_perm=0`` gives ``t`` (and ``tfce``).

    Raises
    ------
    InputError, DesignError, ShufflingError
        An argument can't be used, or a tested regressor depends on the confounds.

    Notes
    -----
    As in nilearn: p of voxels and TFCE is (#{null >= observed} + 1) / (n_perm + 1), corrected over the
    voxels of each regressor by itself; p of clusters is #{null >= observed} / n_perm kept within [1 / n_perm,
    1 - 1 / n_perm], the latter also outside clusters. A p threshold becomes t with n_samples - n_regressors -
    n_confounds degrees of freedom. Voxels strictly above it form clusters by their faces (6 neighbours),
    signs apart; mass is the sum of abs(t) - threshold. TFCE has E = 0.5, H = 2 and 100 steps of the map's
    own maximum, the sum not multiplied by the step: its scale depends on the map. The null leaves out the
    observed data.

    It differs from nilearn in what follows.

    - Signs are flipped where the tested regressor is constant, and samples are permuted otherwise; nilearn
      also flips signs where one constant column is among the confounds, and takes a column of zeros for one.
    - Where the distinct shufflings are no more than ``n_perm``, all of them are used, each once: the null has
      their number less one columns. If that differs between regressors, rows are filled up with NaN.
    - Nulls depend on ``random_state`` alone, and not on ``n_jobs``.
    - Degrees of freedom count confounds that depend on each other once, whatever the columns' scale.
    - A constant that is tested beside other regressors is tested by sign flips, as if it were alone.
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
    check_compatibility(compatibility)
    check_flags(two_sided_test=two_sided_test, tfce=tfce)
    check_threshold(threshold)
    n_perm, as_nilearn = check_n_perm(n_perm), compatibility == "nilearn"
    legacy = is_legacy(output_type, tfce, threshold)
    tested, targets, confounds = check_arrays(tested_vars, target_vars, confounding_vars)
    geometry = voxels_of(masker, targets.shape[1], tfce, threshold)
    n_workers, seed = n_workers_of(n_jobs), seed_of(random_state)
    warn_of_few(n_perm, n_workers)
    one_constant = confounds is not None and np.sum(np.ptp(confounds, axis=0) == 0) == 1
    outputs = []
    with one_bar(verbose > 0):
        for x in tested.T:
            Z = nuisance_of(x, confounds, model_intercept, as_nilearn)
            result = permutation_test(
                Cohort(CohortStore.from_array(unit_residuals(targets, Z), geometry)),
                np.column_stack([x, Z]),
                np.eye(1, 1 + Z.shape[1]),
                n_perm=n_perm,
                two_sided=two_sided_test,
                cluster_forming_threshold=t_threshold(threshold, two_sided_test, len(x) - tested.shape[1] - Z.shape[1]),
                tfce=tfce,
                seed=seed,
                errors="ise" if one_constant and as_nilearn else None,
                conventions="nilearn",
                n_workers=n_workers,
                progress=verbose > 0,
            )
            nulls = {f"h0_{name}": np.asarray(null[1:], dtype=np.float64) for name, null in result.h0.items()}
            outputs.append(named_maps(result) | nulls)
    rows = {name: stack_rows([output[name] for output in outputs]) for name in KEYS if name in outputs[0]}
    if legacy:
        return rows.get("logp_max_t", np.empty(0)), rows["t"], rows.get("h0_max_t", np.empty(0))
    return rows
