"""`SecondLevelModel`: the parametric group model behind nilearn's interface."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.fit import ContrastFit, fit_contrast
from numbaglm.errors import ContrastError, DesignError, InputError, NotFittedError, invalid
from numbaglm.inputs.designs import GroupDesign, check_confounds
from numbaglm.inputs.jobs import n_workers_of
from numbaglm.inputs.maps import check_maps, design_of, effect_maps, first_name, read_cohort, several_names
from numbaglm.inputs.maskers import MaskChoice, Masker, SurfaceMasker, choose_for_model
from numbaglm.stats import pvalues
from numbaglm.stats.design import ContrastLike
from numbaglm.stats.regression import Regression

Reading = tuple[Cohort, Masker | SurfaceMasker]

OUTPUT_TYPES = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "all")


class SecondLevelModel:
    """General linear model over subjects, ordinary least squares at every voxel.

    Parameters
    ----------
    mask_img
        Image, its path, or a masker (its mask, grid and smoothing are used, whatever the model says); None takes the
        voxels that are finite and not 0 in every map. Maps on another grid than the mask's are resampled to it.
    target_affine, target_shape
        Grid to resample mask and maps to: (4, 4) or (3, 3), and three lengths; None for the mask's own.
    smoothing_fwhm
        Width in mm of a Gaussian that the maps are smoothed with (surfaces are not).
    memory, memory_level
        Of nilearn's signature: nothing is cached that they could govern, so they change nothing.
    verbose : int, default=0
        Above 0 shows progress.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    minimize_memory
        False gives access to ``residuals_``, ``predicted_`` and ``r_square_`` once a contrast is computed.
    reports
        Of nilearn's signature; no report is made of a model (`PermutationResult.report` makes one of a test).

    Attributes
    ----------
    confounds_
        The confounds that `fit` was given.
    design_matrix_
        DataFrame, as it was given or made.
    labels_, results_
        After `compute_contrast`: ``(n_elements_,)`` zeros, and a dict from 0.0 to the `Regression` of the whole
        design (``theta``, ``residuals``, ``predicted``, ``r_square``, ``SSE``, ``MSE``); None before.
    second_level_input_
        What `fit` was given; a DataFrame sorted by subject_label, a Series as list.
    cohort_
        The maps as a `Cohort`. Of several map names, or first-level models, the maps are read when they are first
        asked for, here the first name's or column's; then this and what follows belong to the latest contrast.
    masker_
        A `Masker`: ``mask_img_``, ``transform``, ``inverse_transform``; not a nilearn object.
    mask_img_, n_elements_
        The voxels that are analysed, as an image, and their number.
    residuals_, predicted_
        4D images, a volume a subject.
    r_square_
        4D image of one volume.

    Notes
    -----
    Effect, variance, t, F, z and p agree with nilearn 0.14.1. It differs in what follows.

    - Without a mask nilearn guesses one from the background's intensity; here it is the voxels that all
      subjects have. Voxels that are NaN or infinite in a map, or equal in all, leave the mask (nilearn takes
      NaN as 0); ``cohort_.report`` tells how many. If all maps are the same everywhere, all results are 0.
    - Where columns of the design depend on each other, contrasts that hinge on how are refused (nilearn gives them
      the shortest of the possible values), and degrees of freedom count the rank (nilearn the columns: its variance
      is too large).
    - Maps that are brought to the mask's grid are smoothed on all of it; nilearn smooths them in the box around the
      mask, as if it were mirrored there.
    - A first column without a name in a .csv or .tsv design is an index, and not a regressor.
    - z comes from the smaller tail, in logarithms, so that it doesn't saturate at either end.

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
        """Return the parameters by name (scikit-learn's protocol; ``deep`` changes nothing).

        Examples
        --------
        >>> import numbaglm as ng
        >>> ng.SecondLevelModel(smoothing_fwhm=8.0).get_params()["smoothing_fwhm"]
        8.0
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> SecondLevelModel:
        """Set parameters by name; they count from the next `fit` on.

        Examples
        --------
        >>> import numbaglm as ng
        >>> ng.SecondLevelModel().set_params(smoothing_fwhm=8.0)
        SecondLevelModel(smoothing_fwhm=8.0)
        """
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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "design_matrix_")

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of an estimator, with the words that nilearn adds; only they ask for it."""
        utils = importlib.import_module("sklearn.utils")

        @dataclass
        class InputTags(utils.InputTags):  # type: ignore[misc,name-defined]
            niimg_like: bool = True
            surf_img: bool = True

        target, given = utils.TargetTags(required=False), InputTags(two_d_array=False)
        return utils.Tags(estimator_type="glm", target_tags=target, input_tags=given)

    def fit(self, second_level_input: Any, confounds: Any = None, design_matrix: Any = None) -> SecondLevelModel:
        """Take the maps and the design; the fitting itself happens contrast by contrast.

        Parameters
        ----------
        second_level_input
            A `Cohort`; a list or Series of two or more 3D images or paths; one 4D image; a list of fitted
            FirstLevelModels; a DataFrame with columns ``subject_label``, ``map_name`` and ``effects_map_path``, which
            is sorted by label; a list of nilearn's SurfaceImages, or one of several maps.
        confounds
            DataFrame with ``subject_label``, used only where no design matrix is given.
        design_matrix
            DataFrame, array, or path (.tsv, .csv) of (n_subjects, n_regressors), its rows in the order of the
            maps (of the sorted labels, for a DataFrame). May be None for a DataFrame, first-level models or a
            `Cohort`: then it is made of the confounds and an intercept.

        Raises
        ------
        InputError, DesignError, MissingFileError
            The maps or the design can't be used, or images come without a design matrix. A wrong type is a TypeError
            as well.

        Examples
        --------
        >>> import pandas as pd, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> design = pd.DataFrame({"age": range(8), "intercept": 1.0})
        >>> model = ng.SecondLevelModel().fit(list(maps), design_matrix=design)
        >>> model.n_elements_
        1207
        """
        n_workers_of(self.n_jobs)
        maps = check_maps(second_level_input)
        check_confounds(confounds)
        frame = design_of(maps, confounds, design_matrix)
        design = GroupDesign.parse(frame, len(maps)) if isinstance(maps, list) else None
        reading = None if several_names(maps) else self._read_maps(effect_maps(maps, None))
        if design is None:
            design = GroupDesign.parse(frame, len(frame) if reading is None else reading[0].n_subjects)
        self._maps, self._design, self._latest = maps, design, reading
        self._readings: dict[str, Reading] = {} if reading is None else {"": reading}
        self.second_level_input_ = maps if isinstance(maps, pd.DataFrame) else second_level_input
        self.confounds_ = confounds
        self.labels_: NDArray[np.float64] | None = None
        self.results_: dict[float, Regression] | None = None
        self.design_matrix_ = frame
        return self

    def _read_maps(self, maps: Any) -> Reading:
        given = MaskChoice(self.mask_img, self.smoothing_fwhm, self.target_affine, self.target_shape)
        progress, n_workers = self.verbose > 0, n_workers_of(self.n_jobs)
        return read_cohort(maps, choose_for_model(given), progress=progress, n_workers=n_workers)

    def _read(self, first_level_contrast: Any) -> Reading:
        """Read the maps of a first-level contrast, once."""
        several = several_names(self._maps)
        key = repr(first_level_contrast) if several else ""
        if key not in self._readings:
            self._readings[key] = self._read_maps(effect_maps(self._maps, first_level_contrast))
        elif not several:
            effect_maps(self._maps, first_level_contrast)  # refuses a name that isn't there
        self._latest = self._readings[key]
        return self._latest

    def _reading(self) -> Reading:
        """The maps of the latest contrast."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This SecondLevelModel is not fitted yet. Call fit, which makes this attribute.")
        return self._latest or self._read(first_name(self._maps))

    @property
    def cohort_(self) -> Cohort:
        """The maps."""
        return self._reading()[0]

    @property
    def masker_(self) -> Masker | SurfaceMasker:
        """The way between voxels and images."""
        return self._reading()[1]

    @property
    def mask_img_(self) -> Any:
        """The voxels that are analysed, as an image."""
        return self.masker_.mask_img_

    @property
    def n_elements_(self) -> int:
        """Number of voxels that are analysed."""
        return self.masker_.n_elements_

    @property
    def residuals_(self) -> Any:
        """4D image of the residuals of the latest contrast's maps, a volume a subject."""
        return self.masker_.inverse_transform(self._regression().residuals)

    @property
    def predicted_(self) -> Any:
        """4D image of the design's prediction, a volume a subject."""
        return self.masker_.inverse_transform(self._regression().predicted)

    @property
    def r_square_(self) -> Any:
        """4D image of one volume: variance of the prediction over that of the data."""
        return self.masker_.inverse_transform(self._regression().r_square[None])

    def _regression(self) -> Regression:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This SecondLevelModel is not fitted yet. Call fit and compute_contrast first.")
        if self.minimize_memory:
            raise NotFittedError(
                "To access voxelwise attributes (residuals_, predicted_, r_square_), make the model with "
                "minimize_memory=False."
            )
        if self.results_ is None:
            raise InputError("The model has no results. Call compute_contrast first.")
        return self.results_[0.0]

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
            Column name, expression, vector (t) or matrix (F); None where the design has one column. Weights that
            are fewer than the columns are filled up with zeros, with a warning.
        first_level_contrast
            Which ``map_name`` of a DataFrame to analyse; may be None where there is just one. The contrast of
            first-level models whose effects are analysed.
        second_level_stat_type
            "t" or "F"; by default t for one row and F for more.
        output_type
            "z_score", "stat", "p_value" (one-sided), "effect_size", "effect_variance", or "all".

        Returns
        -------
        nibabel image (float64), 0 outside the mask; a dict of the five for "all". The effect of an F contrast
        is 4D, whitened by its covariance, and its variance that of the residuals. Maps on surfaces give SurfaceImages.

        Raises
        ------
        ContrastError, InputError
            The contrast or an option can't be used, or `fit` was not called.

        Examples
        --------
        >>> import pandas as pd, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> design = pd.DataFrame({"age": range(8), "intercept": 1.0})
        >>> model = ng.SecondLevelModel().fit(list(maps), design_matrix=design)
        >>> list(model.compute_contrast("age", output_type="all"))
        ['z_score', 'stat', 'p_value', 'effect_size', 'effect_variance']
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This SecondLevelModel is not fitted yet. Call fit before compute_contrast.")
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"'output_type' must be one of {OUTPUT_TYPES}: got {output_type!r}.")
        if second_level_stat_type not in (None, "t", "F"):
            given = f"got second_level_stat_type={second_level_stat_type!r}"
            raise InputError(f"'stat_type' must be one of 't', 'F' or None: {given}.")
        contrast = self._design.contrast(second_level_contrast, short=True)
        if second_level_stat_type == "t" and not contrast.is_t:
            raise ContrastError(f"A t contrast has one row, but {contrast.name} has {len(contrast.matrix)}.")
        cohort, masker = self._read(first_level_contrast)
        design = self._design.design
        if cohort.n_subjects != design.n_subjects:
            raise DesignError(
                f"The design matrix has {design.n_subjects} rows, but there are {cohort.n_subjects} "
                f"maps named {first_level_contrast!r}. It needs one row for each map, in their order."
            )
        is_t = contrast.is_t and second_level_stat_type != "F"
        fit = fit_contrast(
            cohort.store, design, contrast, is_t, n_workers=n_workers_of(self.n_jobs), progress=self.verbose > 0
        )
        self.labels_ = np.zeros(cohort.n_voxels)
        read = partial(cohort.store.read, 0, cohort.n_voxels)
        self.results_ = {0.0: Regression(read, self._design.matrix, design.rank)}
        names = OUTPUT_TYPES[:-1] if output_type == "all" else (output_type,)
        rows = None if is_t else len(contrast.matrix)
        images = {name: masker.inverse_transform(_output(name, fit, design.dof, rows)) for name in names}
        for name, image in images.items():
            if hasattr(image, "header"):
                image.header["descrip"] = f"{name} of contrast {contrast.name}"[:79].encode("ascii", "replace")
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
