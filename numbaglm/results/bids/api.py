"""BIDS derivatives, in and out: `bids_maps` finds maps of subjects, `save_bids` writes results.

Names follow BIDS extension proposal 41 (results of statistical models), as far as FitLins and nilearn's
`save_glm_to_bids` write it: BIDS itself does not have these files yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from numbaglm.data.storage.folders import whole_folder
from numbaglm.errors import InputError, invalid
from numbaglm.results.bids.maps import find_maps
from numbaglm.results.bids.results import MARKER, check_entities, write_results
from numbaglm.results.result import PermutationResult


def bids_maps(derivatives: str | os.PathLike[str], **entities: Any) -> pd.DataFrame:
    """Find a map for each subject in a BIDS derivatives dataset, and its covariates.

    Names are such as ``sub-01_task-rest_contrast-yVsN_stat-effect_statmap.nii.gz``; folders count where they hold
    entities too (``node-subjectLevel``). Covariates come from participants.tsv, of the dataset or of the raw dataset
    whose derivatives it is.

    Parameters
    ----------
    derivatives
        Folder of the dataset, with its dataset_description.json.
    **entities
        What to pick: ``task="rest"``, ``space=...``, ``session=...``, ``run=1``, ``contrast=...`` and any other entity
        of the names, short or in full. A list allows several labels; None takes the maps without that entity.
        ``stat`` is "effect" unless given, and ``suffix`` "statmap"; of another suffix any stat is taken.

    Returns
    -------
    DataFrame, a row a subject: ``subject_label``, ``effects_map_path``, then the columns of participants.tsv. It can be
    passed as the maps of any call, and a formula of `permutation_test` knows its columns; leave out rows of it, such
    as ``maps.dropna(subset="score")``, and these subjects are left out.

    Raises
    ------
    MissingFileError, InputError
        There is no such dataset, it is a raw one, no map is left, or more than one for a subject.

    Examples
    --------
    >>> import pathlib, shutil, numbaglm as ng
    >>> simulated = ng.simulate_button_press("simulated", n_subjects=8, voxel_size=10.0)
    >>> dataset = pathlib.Path("derivatives")
    >>> for label, path in zip(simulated.subjects, simulated.maps, strict=True):
    ...     (dataset / label).mkdir(parents=True)
    ...     _ = shutil.copy(path, dataset / label / f"{label}_task-press_contrast-lVsR_stat-effect_statmap.nii.gz")
    >>> _ = (dataset / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    >>> maps = ng.bids_maps(dataset, task="press", contrast="lVsR")
    >>> result = ng.permutation_test(maps, n_perm=255)
    """
    wanted = {key: None if label is None else _labels(key, label) for key, label in entities.items()}
    return find_maps(derivatives, wanted, lambda key, label: f"{key}={label!r}")


def save_bids(
    results: PermutationResult | Mapping[str, PermutationResult],
    folder: str | os.PathLike[str],
    entities: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write results as a BIDS derivatives dataset.

    Maps are ``group/contrast-age_stat-t_statmap.nii.gz``, ``group/contrast-age_stat-p_desc-fweVoxel_statmap.nii.gz``
    and so on, each with a JSON sidecar; clusters, nulls and design are tables with a data dictionary. The folder
    ``numbaglm/contrast-age`` holds what `PermutationResult.load` reads back.

    Parameters
    ----------
    results
        A result, or several by name, as `permutation_test` returns them.
    folder
        Appears whole or not at all.
    entities
        What the maps that went in share, for the names: ``{"task": "rest", "space": "MNI152NLin2009cAsym"}``; allowed
        are task, acq, dir, hemi, space, res and den. "contrast" and "stat" of the input are noted in the sidecars.
    overwrite
        Whether a dataset that this wrote is replaced. Nothing else is ever replaced.

    Raises
    ------
    ContrastError
        Two contrasts have the same label once letters and digits alone are left.
    InputError, OutputExistsError, OutputError
        An entity is not allowed, the folder exists, or can't be written.

    Examples
    --------
    >>> import numbaglm as ng
    >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
    >>> result = ng.permutation_test(maps, n_perm=255)
    >>> folder = ng.save_bids(result, "group", entities={"task": "press"})
    >>> (folder / "group" / "task-press_contrast-intercept_stat-t_statmap.nii.gz").exists()
    True
    """
    shared = check_entities(entities or {})
    several = [results] if isinstance(results, PermutationResult) else list(results.values())
    with whole_folder(folder, MARKER, overwrite) as part:
        write_results(several, part, shared)
    return Path(folder).expanduser()


def _labels(key: str, label: Any) -> list[str]:
    several = [label] if isinstance(label, str | int) else label
    if not isinstance(several, list | tuple | set) or not several:
        raise InputError(invalid(key, label, "a label, a list of labels, or None for maps without that entity"))
    return [str(one) for one in several]
