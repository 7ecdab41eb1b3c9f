"""`SecondLevelModel`: the parametric group model behind nilearn's interface."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.cohort import Cohort
from numbaglm.data.images import mask_image, to_image
from numbaglm.engine.fit import fit_contrast
from numbaglm.errors import ContrastError, DesignError, InputError, invalid
from numbaglm.model import as_cohort, read_design
from numbaglm.stats import pvalues
from numbaglm.stats.design import Contrast, ContrastLike, Design

log = logging.getLogger("numbaglm")

OUTPUT_TYPES = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "all")


def make_second_level_design_matrix(
    subjects_label: Sequence[str], confounds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Design matrix of confounds and an intercept.

    Parameters
    ----------
    subjects_label
        (n_subjects,) labels; the rows follow them.
    confounds
        DataFrame with a column ``subject_label`` and at least one more.

    Returns
    -------
    DataFrame (n_subjects, n_confounds + 1), indexed by label, "intercept" last.

    Raises
    ------
    DesignError
        Labels are missing from the confounds or stand there twice, or values are NaN.
    """
    labels = [str(label) for label in subjects_label]
    if confounds is None:
        return pd.DataFrame({"intercept": np.ones(len(labels))}, index=pd.Index(labels, name="subject_label"))
    if not isinstance(confounds, pd.DataFrame) or "subject_label" not in confounds:
        raise DesignError(
            invalid("confounds", type(confounds).__name__, "a DataFrame with a column 'subject_label'")
        )
    table = confounds.assign(subject_label=confounds["subject_label"].astype(str)).set_index("subject_label")
    missing = [label for label in labels if label not in table.index]
    twice = sorted(set(table.index[table.index.duplicated()]))
    if missing or twice:
        what = f"has no rows for {missing}" if missing else f"has more than one row for {twice}"
        raise DesignError(f"The table of confounds {what}. It needs one row for each subject.")
    design = table.loc[labels].assign(intercept=1.0)
    if design.isna().to_numpy().any():
        columns = [str(c) for c in design.columns if design[c].isna().any()]
        raise DesignError(f"The confounds hold NaN in {columns}. Fill them in, or leave those subjects out.")
    return design


class SecondLevelModel:
    """General linear model over subjects, ordinary least squares at every voxel.

    Parameters
    ----------
    mask_img
        Image, or its path; None takes the voxels that are finite and not 0 in every map.
    smoothing_fwhm
        Width in mm of a Gaussian that the maps are smoothed with.
    verbose
        Above 0 shows progress.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    target_affine, target_shape
        Resampling is not done here; anything but None is refused.
    memory, memory_level, minimize_memory, reports
        Of nilearn's signature: nothing is cached or kept that they could govern, so they change nothing.

    Attributes
    ----------
    design_matrix_
        DataFrame, after `fit`.
    second_level_input_
        What `fit` was given.
    cohort_
        The maps as a `Cohort`.
    mask_img_
        The voxels that are analysed, an image.

    Notes
    -----
    Effect, variance, t, F, z and p agree with nilearn 0.14.1. It differs where no mask is given: nilearn guesses a
    mask from the background's intensity and takes NaN as 0; here the mask is the voxels that all subjects have.
    Designs that are rank deficient are refused.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, pandas as pd, numbaglm as ng
    >>> rng = np.random.default_rng(0)
    >>> maps = [nib.Nifti1Image(rng.normal(1, 1, (4, 4, 4)).astype("f4"), np.eye(4)) for _ in range(8)]
    >>> model = ng.SecondLevelModel().fit(maps, design_matrix=pd.DataFrame({"intercept": np.ones(8)}))
    >>> model.compute_contrast("intercept", output_type="z_score").shape
    (4, 4, 4)
    """

    def __init__(
        self,
        mask_img: Any = None,
        target_affine: Any = None,
        target_shape: Any = None,
        smoothing_fwhm: Any = None,
        memory: Any = None,
        memory_level: int = 1,
        verbose: int = 0,
        n_jobs: int = 1,
        minimize_memory: bool = True,
        reports: bool = True,
    ) -> None:
        self.mask_img = mask_img
        self.target_affine = target_affine
        self.target_shape = target_shape
        self.smoothing_fwhm = smoothing_fwhm
        self.memory = memory
        self.memory_level = memory_level
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.minimize_memory = minimize_memory
        self.reports = reports

    def fit(self, second_level_input: Any, confounds: Any = None, design_matrix: Any = None) -> SecondLevelModel:
        """Take the maps and the design; the fitting itself happens contrast by contrast.

        Parameters
        ----------
        second_level_input
            A `Cohort`, or anything that `Cohort.from_maps` takes.
        confounds
            DataFrame with ``subject_label``, used where no design matrix is given.
        design_matrix
            DataFrame, array, or path (.tsv, .csv) of (n_subjects, n_regressors).

        Raises
        ------
        InputError, DesignError
            The maps or the design can't be used, or a list of images comes without a design matrix.
        """
        for name in ("target_affine", "target_shape"):
            if getattr(self, name) is not None:
                raise InputError(
                    invalid(name, getattr(self, name), "None", "Resample the maps first, for example to the mask.")
                )
        has_labels = isinstance(second_level_input, Cohort | pd.DataFrame)
        if design_matrix is None and not has_labels:
            raise DesignError(
                "A design_matrix is needed with a list of maps. For the one-sample test give "
                'pd.DataFrame({"intercept": np.ones(n_subjects)}).'
            )
        cohort = as_cohort(
            second_level_input,
            mask=self.mask_img,
            smoothing_fwhm=self.smoothing_fwhm,
            progress=self.verbose > 0,
            n_workers=self._n_workers,
        )
        design_matrix = read_design(design_matrix)
        if design_matrix is None:
            design_matrix = make_second_level_design_matrix(cohort.subjects, confounds)
        self._design = Design.parse(design_matrix, cohort.n_subjects)
        self.design_matrix_ = self._design.to_frame()
        if isinstance(design_matrix, pd.DataFrame):
            self.design_matrix_.index = design_matrix.index
        self.second_level_input_ = second_level_input
        self.confounds_ = confounds
        self.cohort_ = cohort
        self.mask_img_ = mask_image(cohort.geometry)
        return self

    @property
    def _n_workers(self) -> int | None:
        return self.n_jobs if self.n_jobs and self.n_jobs > 0 else None

    def compute_contrast(
        self,
        second_level_contrast: ContrastLike | None = None,
        first_level_contrast: Any = None,
        second_level_stat_type: str | None = None,
        output_type: str = "z_score",
    ) -> Any:
        """Compute the maps of a contrast.

        Parameters
        ----------
        second_level_contrast
            Column name, expression, vector (t) or matrix (F); None where the design has one column.
        first_level_contrast
            Only for first-level models as input, which are not taken; anything but None is refused.
        second_level_stat_type
            "t" or "F"; by default t for a vector and F for a matrix of more rows.
        output_type
            "z_score", "stat", "p_value" (one-sided), "effect_size", "effect_variance", or "all".

        Returns
        -------
        nibabel image, 0 outside the mask; a dict of the five for "all". The effect of an F contrast is 4D, whitened
        by its covariance, and its variance that of the residuals.

        Raises
        ------
        ContrastError, InputError
            The contrast or an option can't be used, or `fit` was not called.
        """
        if not hasattr(self, "cohort_"):
            raise InputError("The model has no data yet. Call fit before compute_contrast.")
        if first_level_contrast is not None:
            raise InputError(
                invalid("first_level_contrast", first_level_contrast, "None", "Give the contrast maps themselves.")
            )
        if output_type not in OUTPUT_TYPES:
            raise InputError(invalid("output_type", output_type, f"one of {OUTPUT_TYPES}"))
        if second_level_stat_type not in (None, "t", "F"):
            raise InputError(invalid("second_level_stat_type", second_level_stat_type, "'t', 'F' or None"))
        contrast = Contrast.parse(second_level_contrast, self._design)
        if second_level_stat_type == "t" and not contrast.is_t:
            raise ContrastError(f"A t contrast has one row, but {contrast.name} has {len(contrast.matrix)}.")
        is_t = contrast.is_t and second_level_stat_type != "F"
        fit = fit_contrast(
            self.cohort_.store,
            self._design,
            contrast,
            is_t,
            n_workers=self._n_workers,
            progress=self.verbose > 0,
        )
        rows = None if is_t else len(contrast.matrix)
        dof, geometry = self._design.dof, self.cohort_.geometry
        maps = {
            "z_score": lambda: pvalues.to_z(fit.statistic, dof, rows),
            "stat": lambda: fit.statistic,
            "p_value": lambda: pvalues.parametric(fit.statistic, dof, rows),
            "effect_size": lambda: fit.effect[0] if is_t else fit.effect,
            "effect_variance": lambda: fit.variance,
        }
        if output_type == "all":
            return {name: to_image(geometry, make()) for name, make in maps.items()}
        return to_image(geometry, maps[output_type]())
