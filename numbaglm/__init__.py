"""numbaglm: group-level fMRI/VBM inference that is exact, fast and bigger than RAM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numbaglm.cohort import Cohort
    from numbaglm.datasets import fetch_localizer, simulate_button_press
    from numbaglm.faces.bids import bids_maps, save_bids
    from numbaglm.faces.nilearn_api import non_parametric_inference, permuted_ols
    from numbaglm.faces.thresholds import get_clusters_table, threshold_stats_img
    from numbaglm.inputs.designs import make_second_level_design_matrix
    from numbaglm.model import permutation_test
    from numbaglm.results import PermutationResult
    from numbaglm.second_level import SecondLevelModel

__version__ = "0.1.0"

# Names are looked up when they are first used: importing numbaglm loads none of its dependencies.
_HOMES = {
    "Cohort": "numbaglm.cohort",
    "PermutationResult": "numbaglm.results",
    "SecondLevelModel": "numbaglm.second_level",
    "bids_maps": "numbaglm.faces.bids",
    "errors": "numbaglm.errors",
    "fetch_localizer": "numbaglm.datasets",
    "get_clusters_table": "numbaglm.faces.thresholds",
    "make_second_level_design_matrix": "numbaglm.inputs.designs",
    "non_parametric_inference": "numbaglm.faces.nilearn_api",
    "permutation_test": "numbaglm.model",
    "permuted_ols": "numbaglm.faces.nilearn_api",
    "save_bids": "numbaglm.faces.bids",
    "simulate_button_press": "numbaglm.datasets",
    "threshold_stats_img": "numbaglm.faces.thresholds",
}

__all__ = [
    "Cohort",
    "PermutationResult",
    "SecondLevelModel",
    "__version__",
    "bids_maps",
    "fetch_localizer",
    "get_clusters_table",
    "make_second_level_design_matrix",
    "non_parametric_inference",
    "permutation_test",
    "permuted_ols",
    "save_bids",
    "simulate_button_press",
    "threshold_stats_img",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'numbaglm' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    value = module if module.__name__ == f"numbaglm.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
