"""What nilearn's users pass - maskers, tables of maps, designs, jobs - turned into what numbaglm takes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.data.geometry import Geometry
from numbaglm.data.grid import Grid
from numbaglm.data.images import list_maps, mask_image, read_maps, to_image
from numbaglm.data.smoothing import Fwhm, smooth
from numbaglm.data.tables import sorted_frame
from numbaglm.engine.schedule import n_cores
from numbaglm.errors import ContrastError, DesignError, InputError, NumbaglmWarning, invalid
from numbaglm.model import read_design

log = logging.getLogger("numbaglm")


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
    if not isinstance(confounds, pd.DataFrame) or "subject_label" not in confounds or confounds.shape[1] < 2:
        received = list(confounds.columns) if isinstance(confounds, pd.DataFrame) else type(confounds).__name__
        allowed = "a DataFrame with a column 'subject_label' and at least one more"
        raise DesignError(invalid("confounds", received, allowed))
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


def n_workers_of(n_jobs: int | None) -> int | None:
    """Threads for joblib's count of jobs: -1 is all cores, -2 all but one; None leaves it to the engine."""
    if n_jobs is None:
        return None
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise InputError(
            invalid(
                "n_jobs",
                n_jobs,
                "a number of threads above 0, -1 for all cores, -2 for all but one",
                "Use 1.",
            )
        )
    return int(n_jobs) if n_jobs > 0 else max(1, n_cores() + 1 + int(n_jobs))


def unwrap_mask(mask: Any, smoothing_fwhm: Any) -> tuple[Any, Any]:
    """Take mask and smoothing out of a masker; anything else is returned as it is.

    Parameters
    ----------
    mask
        Image or path; or an object with ``mask_img_`` or ``mask_img``, such as nilearn's NiftiMasker.
    smoothing_fwhm
        Goes before the masker's own.

    Raises
    ------
    InputError
        The masker does more than to mask and to smooth.
    """
    if not hasattr(mask, "inverse_transform"):
        return mask, smoothing_fwhm
    for name in ("standardize", "detrend", "low_pass", "high_pass", "target_affine", "target_shape"):
        value = getattr(mask, name, None)
        if value is not None and value is not False:
            fix = "Use a masker without it, and prepare the maps beforehand."
            raise InputError(invalid(f"mask.{name}", value, "None: of a masker its mask and smoothing are used", fix))
    image = getattr(mask, "mask_img_", None)
    image = getattr(mask, "mask_img", None) if image is None else image
    own = getattr(mask, "smoothing_fwhm", None)
    if smoothing_fwhm is not None and own is not None and smoothing_fwhm != own:
        message = f"smoothing_fwhm={smoothing_fwhm} goes before the masker's {own}: its own is overridden."
        warnings.warn(message, NumbaglmWarning, stacklevel=3)
    return image, own if smoothing_fwhm is None else smoothing_fwhm


def maps_of(second_level_input: Any, first_level_contrast: Any) -> Any:
    """Choose the rows of nilearn's table of maps that hold a first-level contrast.

    Parameters
    ----------
    second_level_input
        Returned as it is unless it is a DataFrame.
    first_level_contrast
        A value of ``map_name``; may be None where the table has just one, or no such column.

    Raises
    ------
    ContrastError
        There are several names and none was chosen, or the chosen one isn't there.
    """
    if not isinstance(second_level_input, pd.DataFrame) or "map_name" not in second_level_input:
        if first_level_contrast is not None:
            log.warning("first_level_contrast=%r is not used: no table of maps is given.", first_level_contrast)
        return second_level_input
    names = list(dict.fromkeys(second_level_input["map_name"]))
    if first_level_contrast is None and len(names) == 1:
        first_level_contrast = names[0]
    if first_level_contrast not in names:
        raise ContrastError(invalid("first_level_contrast", first_level_contrast, f"one of the map names {names}"))
    return second_level_input[second_level_input["map_name"] == first_level_contrast]


@dataclass(frozen=True, eq=False)
class Masker:
    """The voxels of a fitted model, and the way between them and images, as nilearn's NiftiMasker offers it.

    Attributes
    ----------
    geometry
        Grid and mask.
    smoothing_fwhm
        In mm; `transform` smooths with it.
    """

    geometry: Geometry
    smoothing_fwhm: Fwhm = None

    @property
    def mask_img_(self) -> Any:
        """The mask as a uint8 image."""
        return mask_image(self.geometry)

    @property
    def n_elements_(self) -> int:
        """Number of voxels in the mask."""
        return self.geometry.n_voxels

    def transform(self, imgs: Any) -> NDArray[np.float32]:
        """Smooth and mask images on this grid: (n_images, n_voxels)."""
        sources, _, _ = list_maps(imgs, minimum=1)
        grid = Grid(self.geometry.shape, self.geometry.affine, "the mask")
        volumes = read_maps(sources, grid)
        return np.stack([smooth(volume, self.smoothing_fwhm, grid.affine)[self.geometry.mask] for volume in volumes])

    def inverse_transform(self, values: NDArray[Any]) -> Any:
        """Make an image of (n_voxels,) values, 4D of (k, n_voxels); 0 outside the mask."""
        return to_image(self.geometry, np.asarray(values), dtype=np.float64)


def design_of(second_level_input: Any, confounds: Any, design_matrix: Any) -> Any:
    """Read the design matrix, or make it of the confounds where the subjects' labels are known."""
    if design_matrix is not None:
        if confounds is not None:
            log.warning("The confounds are not used, as a design_matrix is given: its columns count.")
        return read_design(design_matrix)
    if isinstance(second_level_input, pd.DataFrame):
        labels = dict.fromkeys(sorted_frame(second_level_input)["subject_label"])  # the order of the maps
        return make_second_level_design_matrix(list(labels), confounds)
    if isinstance(second_level_input, Cohort):
        return make_second_level_design_matrix(second_level_input.subjects, confounds)
    raise DesignError(
        f"A design_matrix is needed beside second_level_input of type {type(second_level_input).__name__}: "
        "only a DataFrame of maps and a Cohort have labels to make it of. For the one-sample test give "
        'pd.DataFrame({"intercept": np.ones(n_subjects)}).'
    )
