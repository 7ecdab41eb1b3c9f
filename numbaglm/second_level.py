"""`SecondLevelModel`: the parametric group model behind nilearn's interface."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.data.images import to_image
from numbaglm.data.tables import sorted_frame
from numbaglm.engine.fit import ContrastFit, fit_contrast
from numbaglm.errors import ContrastError, DesignError, InputError, invalid
from numbaglm.inputs import Masker, design_of, maps_of, n_workers_of, unwrap_mask
from numbaglm.model import as_cohort
from numbaglm.stats import pvalues
from numbaglm.stats.design import Contrast, ContrastLike, Design

OUTPUT_TYPES = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "all")


class SecondLevelModel:
    """General linear model over subjects, ordinary least squares at every voxel.

    Parameters
    ----------
    mask_img
        Image, its path, or a masker (its mask and smoothing are used); None takes the voxels that are finite
        and not 0 in every map.
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
        What `fit` was given; a DataFrame sorted by subject_label.
    confounds_
        The confounds that `fit` was given.
    cohort_
        The maps as a `Cohort`. A table with several map names is read name by name, when `compute_contrast`
        first asks for one; then this and what follows belong to the latest.
    masker_
        A `Masker`: ``mask_img_``, ``transform``, ``inverse_transform``; not a nilearn object.
    mask_img_, n_elements_
        The voxels that are analysed, as an image, and their number.

    Notes
    -----
    Effect, variance, t, F, z and p agree with nilearn 0.14.1. It differs in what follows.

    - Without a mask nilearn guesses one from the background's intensity; here it is the voxels that all
      subjects have. Voxels that are NaN or infinite in a map, or equal in all, leave the mask (nilearn takes
      NaN as 0); ``cohort_.report`` tells how many.
    - Designs that are rank deficient are refused, and so are contrasts shorter than the design, which nilearn
      fills up with zeros.
    - A first column without a name in a .csv or .tsv design is an index, and not a regressor.
    - z comes from the smaller tail, in logarithms, so that it doesn't saturate at either end.
    - First-level models and surfaces are not taken as input, and the attributes that hold residuals and
      predictions are not there.

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

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name (scikit-learn's protocol; ``deep`` changes nothing)."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> SecondLevelModel:
        """Set parameters by name; they count from the next `fit` on."""
        names = list(self.get_params())
        for name, value in params.items():
            if name not in names:
                raise InputError(invalid("set_params", name, f"names among {names}"))
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v is not defaults[k].default]
        return f"SecondLevelModel({', '.join(changed)})"

    def fit(self, second_level_input: Any, confounds: Any = None, design_matrix: Any = None) -> SecondLevelModel:
        """Take the maps and the design; the fitting itself happens contrast by contrast.

        Parameters
        ----------
        second_level_input
            A `Cohort`, or anything that `Cohort.from_maps` takes: a list or Series of two or more 3D images
            or paths, one 4D image, or a DataFrame with columns ``subject_label``, ``map_name`` and
            ``effects_map_path``, which is sorted by label.
        confounds
            DataFrame with ``subject_label``, used only where no design matrix is given.
        design_matrix
            DataFrame, array, or path (.tsv, .csv) of (n_subjects, n_regressors), its rows in the order of the
            maps (of the sorted labels, for a DataFrame). May be None for a DataFrame or a `Cohort`: then it
            is made of the confounds and an intercept.

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
        n_workers_of(self.n_jobs)
        if isinstance(second_level_input, pd.DataFrame):
            second_level_input = sorted_frame(second_level_input)
        design_matrix = design_of(second_level_input, confounds, design_matrix)
        self.second_level_input_ = second_level_input
        self.confounds_ = confounds
        self._cohorts: dict[Any, Cohort] = {}
        several = isinstance(second_level_input, pd.DataFrame) and (
            second_level_input.get("map_name", pd.Series(dtype=str)).nunique() > 1
        )
        n_subjects = len(design_matrix) if several else self._read(None).n_subjects
        self._design = Design.parse(design_matrix, n_subjects)
        self.design_matrix_ = self._design.to_frame()
        if isinstance(design_matrix, pd.DataFrame):
            self.design_matrix_.index = design_matrix.index
        return self

    def _read(self, first_level_contrast: Any) -> Cohort:
        """Read the maps of a first-level contrast, once."""
        if first_level_contrast not in self._cohorts:
            mask, smoothing_fwhm = unwrap_mask(self.mask_img, self.smoothing_fwhm)
            self._cohorts[first_level_contrast] = as_cohort(
                maps_of(self.second_level_input_, first_level_contrast),
                mask=mask,
                smoothing_fwhm=smoothing_fwhm,
                progress=self.verbose > 0,
                n_workers=n_workers_of(self.n_jobs),
            )
        self.cohort_ = self._cohorts[first_level_contrast]
        self.masker_ = Masker(self.cohort_.geometry, self.cohort_.store.smoothing_fwhm)
        self.mask_img_ = self.masker_.mask_img_
        self.n_elements_ = self.cohort_.n_voxels
        return self.cohort_

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
            Which ``map_name`` of a DataFrame to analyse; may be None where there is just one.
        second_level_stat_type
            "t" or "F"; by default t for one row and F for more.
        output_type
            "z_score", "stat", "p_value" (one-sided), "effect_size", "effect_variance", or "all".

        Returns
        -------
        nibabel image (float64), 0 outside the mask; a dict of the five for "all". The effect of an F contrast
        is 4D, whitened by its covariance, and its variance that of the residuals.

        Raises
        ------
        ContrastError, InputError
            The contrast or an option can't be used, or `fit` was not called.
        """
        if not hasattr(self, "design_matrix_"):
            raise InputError("The model has no data yet. Call fit before compute_contrast.")
        if output_type not in OUTPUT_TYPES:
            raise InputError(invalid("output_type", output_type, f"one of {OUTPUT_TYPES}"))
        if second_level_stat_type not in (None, "t", "F"):
            raise InputError(invalid("second_level_stat_type", second_level_stat_type, "'t', 'F' or None"))
        contrast = Contrast.parse(second_level_contrast, self._design)
        if second_level_stat_type == "t" and not contrast.is_t:
            raise ContrastError(f"A t contrast has one row, but {contrast.name} has {len(contrast.matrix)}.")
        cohort = self._read(first_level_contrast)
        if cohort.n_subjects != self._design.n_subjects:
            raise DesignError(
                f"The design matrix has {self._design.n_subjects} rows, but there are {cohort.n_subjects} "
                f"maps named {first_level_contrast!r}. It needs one row for each map, in their order."
            )
        is_t = contrast.is_t and second_level_stat_type != "F"
        fit = fit_contrast(
            cohort.store,
            self._design,
            contrast,
            is_t,
            n_workers=n_workers_of(self.n_jobs),
            progress=self.verbose > 0,
        )
        names = OUTPUT_TYPES[:-1] if output_type == "all" else (output_type,)
        rows = None if is_t else len(contrast.matrix)
        images = {
            name: to_image(cohort.geometry, _output(name, fit, self._design.dof, rows), dtype=np.float64)
            for name in names
        }
        return images if output_type == "all" else images[output_type]


def _output(name: str, fit: ContrastFit, dof: int, n_rows: int | None) -> NDArray[np.float64]:
    """One kind of map; n_rows is None for t."""
    if name == "z_score":
        return pvalues.to_z(fit.statistic, dof, n_rows)
    if name == "p_value":
        return pvalues.parametric(fit.statistic, dof, n_rows)
    if name == "effect_size":
        return fit.effect if n_rows else fit.effect[0]
    return fit.statistic if name == "stat" else fit.variance
