"""`SecondLevelModel`: the parametric group model behind nilearn's interface."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.fit import ContrastFit, fit_contrast
from numbaglm.errors import ContrastError, DesignError, InputError, NotFittedError, NumbaglmFutureWarning, warn
from numbaglm.faces.nilearn.designs import check_confounds
from numbaglm.faces.nilearn.estimator import Estimator
from numbaglm.faces.nilearn.jobs import n_workers_of, say
from numbaglm.faces.nilearn.maps import (
    check_maps,
    design_of,
    effect_maps,
    first_name,
    read_cohort,
    several_names,
    warn_of_sorting,
)
from numbaglm.faces.nilearn.maskers import MaskChoice, Masker, SurfaceMasker, choose_for_model
from numbaglm.faces.nilearn.model.record import Fitted, ModelRecord
from numbaglm.stats import pvalues
from numbaglm.stats.model.design import ContrastLike, warn_of_lacking_mean
from numbaglm.stats.model.estimable import GroupDesign
from numbaglm.stats.model.regression import Regression

Reading = tuple[Cohort, Masker | SurfaceMasker]

OUTPUT_TYPES = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "all")
_OF_THE_MAPS = ("cohort_", "masker_", "n_elements_")
_OF_THE_FIT = ("residuals", "predicted", "r_square", "SSE", "MSE")


def _renamed(name: str) -> Any:
    """An attribute by the name that it had until nilearn 0.14."""

    def get(model: SecondLevelModel) -> Any:
        warn(f"'{name[:-1]}' is deprecated in nilearn. Use '{name}' instead.", NumbaglmFutureWarning)
        return getattr(model, name)

    return property(get, doc=f"Deprecated name of `{name}`.")


class SecondLevelModel(Estimator):
    """General linear model over subjects, ordinary least squares at every voxel.

    Parameters
    ----------
    mask_img
        Image, its path, or a masker (its mask, grid and smoothing are used, whatever the model says); None takes the
        voxels that are finite and not 0 in every map. Maps on another grid than the mask's are resampled to it.
    target_affine
        Grid to resample mask and maps to: (4, 4) or (3, 3); None for the mask's own.
    target_shape
        Three lengths of that grid; None for what holds the mask.
    smoothing_fwhm
        Width in mm of a Gaussian that the maps are smoothed with (surfaces are not).
    memory
        Of nilearn's signature: nothing is cached that it could govern, so it changes nothing.
    memory_level
        Likewise.
    verbose : int, default=0
        Above 0 shows progress on stderr and prints what is done; above 1 also which voxels were left out.
    n_jobs
        Threads, -1 for all cores; results don't depend on it.
    minimize_memory
        False gives access to ``residuals_``, ``predicted_`` and ``r_square_`` once a contrast is computed.
    reports
        False brings a warning with `generate_report`, which makes its page all the same, as in nilearn.

    Attributes
    ----------
    cohort_
        The maps as a `Cohort`. Of several map names, or first-level models, the maps are read when they are first
        asked for, here the first name's or column's; then this and what follows belong to the latest contrast.
    confounds_
        The confounds that `fit` was given.
    design_matrix_
        DataFrame, as it was given or made.
    labels_
        After `compute_contrast`: ``(n_elements_,)`` zeros, the key of each voxel in ``results_``; None before.
    masker_
        A `Masker`: ``mask_img_``, ``transform``, ``inverse_transform``; not a nilearn object.
    n_elements_
        Number of voxels that are analysed.
    results_
        After `compute_contrast`: a dict from 0.0 to the `Regression` of the whole design (``theta``, ``residuals``,
        ``predicted``, ``r_square``, ``SSE``, ``MSE``); None before.
    second_level_input_
        What `fit` was given; a DataFrame sorted by subject_label. A 4D image stays one, of which nilearn makes a list.

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
    - Surfaces are not smoothed, with a warning; nilearn smooths them, though it documents that it doesn't.
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

    def __str__(self) -> str:
        return "Second Level Model"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "design_matrix_")

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
        >>> ng.SecondLevelModel().fit(list(maps), design_matrix=pd.DataFrame({"mean": [1.0] * 8})).n_elements_
        1207
        """
        n_workers_of(self.n_jobs)
        tell = partial(say, f"{type(self).__name__}.fit", self.verbose)
        tell("Fitting second level model.")
        began = time.perf_counter()
        maps = check_maps(second_level_input)
        warn_of_sorting(second_level_input, design_matrix)
        check_confounds(confounds)
        frame = design_of(maps, confounds, design_matrix)
        design = GroupDesign.parse(frame, len(maps)) if isinstance(maps, list) else None
        reading = None if several_names(maps) else self._read_maps(effect_maps(maps, None))
        if design is None:
            design = GroupDesign.parse(frame, len(frame) if reading is None else reading[0].n_subjects)
        warn_of_lacking_mean(design.matrix)
        self._maps, self._design = maps, design
        self._readings: dict[str, Reading] = {} if reading is None else {"": reading}
        for name in _OF_THE_MAPS:
            vars(self).pop(name, None)
        if reading is not None:
            cohort, _ = self._take(reading)
            tell(" ".join([f"Extracting region signals: {cohort.n_voxels:,} voxels.", *cohort.report]), level=2)
        self.second_level_input_ = maps if isinstance(maps, pd.DataFrame) else second_level_input
        self.confounds_ = confounds
        self.labels_: NDArray[np.float64] | None = None
        self.results_: dict[float, Regression] | None = None
        self.design_matrix_ = frame
        tell(f"Computation of second level model done in {time.perf_counter() - began:.2f} seconds.")
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
        return self._take(self._readings[key])

    def _take(self, reading: Reading) -> Reading:
        """Show the maps that a contrast is computed of."""
        self.cohort_, self.masker_ = reading
        self.n_elements_ = self.masker_.n_elements_
        return reading

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_THE_MAPS:
            return super().__getattribute__(name)  # to raise its own error, of a property too
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This SecondLevelModel is not fitted yet. Call fit, which makes this attribute.")
        self._read(first_name(self._maps))  # there are several: none was asked for yet
        return vars(self)[name]

    @property
    def mask_img_(self) -> Any:
        """The voxels that are analysed, as an image."""
        return self.masker_.mask_img_

    @property
    def residuals_(self) -> Any:
        """4D image of the residuals of the latest contrast's maps, a volume a subject."""
        return self._get_element_wise_model_attribute("residuals", True)

    @property
    def predicted_(self) -> Any:
        """4D image of the design's prediction, a volume a subject."""
        return self._get_element_wise_model_attribute("predicted", True)

    @property
    def r_square_(self) -> Any:
        """4D image of one volume: variance of the prediction over that of the data."""
        return self._get_element_wise_model_attribute("r_square", False)

    residuals, predicted, r_square = map(_renamed, ("residuals_", "predicted_", "r_square_"))

    def _get_element_wise_model_attribute(self, attribute: str, result_as_time_series: bool) -> Any:
        """4D image of a part of the fit, a volume a subject or one volume; nilearn's users know it by this name."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This SecondLevelModel is not fitted yet. Call fit and compute_contrast first.")
        if attribute not in _OF_THE_FIT:
            raise InputError(f"'attribute' must be one of {_OF_THE_FIT}: got {attribute!r}.")
        if self.minimize_memory:
            raise NotFittedError(
                "To access voxelwise attributes like R-squared, residuals, and predictions, make the model with "
                "minimize_memory=False."
            )
        if self.results_ is None:
            raise InputError("The model has no results. No contrast has been computed yet: call compute_contrast.")
        values = getattr(self.results_[0.0], attribute)
        return self.masker_.inverse_transform(values if result_as_time_series else values[None])

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
        >>> import numbaglm as ng
        >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps)
        >>> list(ng.SecondLevelModel().fit(cohort).compute_contrast("intercept", output_type="all"))
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

    def generate_report(
        self,
        contrasts: Any = None,
        first_level_contrast: Any = None,
        title: str | None = None,
        bg_img: Any = "MNI152TEMPLATE",
        threshold: float | None = None,
        alpha: float = 0.001,
        cluster_threshold: float = 0,
        height_control: str | None = "fpr",
        two_sided: bool = False,
        min_distance: float = 8.0,
        plot_type: str = "slice",
        cut_coords: Any = None,
        display_mode: str | None = None,
        report_dims: tuple[int, int] = (1600, 800),
    ) -> Any:
        """Make an HTML page of the model and the z of contrasts, with what reaches the threshold.

        Parameters
        ----------
        contrasts, first_level_contrast
            As in `compute_contrast`; also a list of contrasts, or a dict by name: there a matrix is F, else its rows t.
        title, report_dims
            Heading of the page; its width and height in a notebook, in pixels.
        bg_img
            Anatomy beneath slices. By default, and for None, it is the mask: no template of the brain comes along.
        threshold, alpha, cluster_threshold, height_control, two_sided, min_distance
            As in `threshold_stats_img` and `get_clusters_table`; with ``height_control=None`` 3.09 by default.
        plot_type, display_mode, cut_coords
            "slice" or "glass"; "x", "y", "z", "xz", "yx", "yz" or "ortho" ("z" by default, of glass "ortho"); where
            slices lie in mm, or of one axis how many: by default at the highest peaks.

        Returns
        -------
        An `HTMLReport`: ``save_as_html``, ``open_in_browser``, ``get_iframe``; a notebook shows it.

        Raises
        ------
        InputError, ContrastError
            An argument can't be used. What is missing (a contrast, a call of `fit`) brings a warning alone.

        Examples
        --------
        >>> import numbaglm as ng
        >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps)
        >>> ng.SecondLevelModel().fit(cohort).generate_report("intercept").save_as_html("report.html")
        """
        from numbaglm.faces.nilearn.model.report import generate_report  # what draws is loaded where it is used

        fitted = None
        if self.__sklearn_is_fitted__():
            z_of = partial(self.compute_contrast, first_level_contrast=first_level_contrast, output_type="z_score")
            fitted = Fitted(self._design, z_of, lambda: (self.cohort_, self.masker_))
        parameters = self.get_params(deep=False)
        model = ModelRecord(type(self).__name__, str(self), parameters, bool(self.reports), fitted)
        options = {
            "bg_img": bg_img,
            "threshold": threshold,
            "alpha": alpha,
            "cluster_threshold": cluster_threshold,
            "height_control": height_control,
            "two_sided": two_sided,
            "min_distance": min_distance,
            "plot_type": plot_type,
            "cut_coords": cut_coords,
            "display_mode": display_mode,
        }
        return generate_report(model, contrasts, title, report_dims, options)


def _output(name: str, fit: ContrastFit, dof: int, n_rows: int | None) -> NDArray[np.float64]:
    """One kind of map; n_rows is None for t."""
    if name == "z_score":
        return pvalues.to_z(fit.statistic, dof, n_rows)
    if name == "p_value":
        return pvalues.parametric(fit.statistic, dof, n_rows)
    if name == "effect_size":
        return fit.effect if n_rows else fit.effect[0]
    return fit.statistic if name == "stat" else fit.variance
