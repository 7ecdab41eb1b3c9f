"""numbaglm: group-level fMRI/VBM inference that is exact, fast and bigger than RAM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from numbaglm.version import __version__

if TYPE_CHECKING:
    from numbaglm.cohort import Cohort
    from numbaglm.datasets.localizer import fetch_localizer
    from numbaglm.datasets.simulated import simulate_button_press
    from numbaglm.faces.bids.api import bids_maps, save_bids
    from numbaglm.faces.nilearn.designs import make_second_level_design_matrix
    from numbaglm.faces.nilearn.permuted import non_parametric_inference, permuted_ols
    from numbaglm.faces.nilearn.second_level import SecondLevelModel
    from numbaglm.faces.nilearn.thresholds import get_clusters_table, threshold_stats_img
    from numbaglm.inference.permutation_test import permutation_test
    from numbaglm.results.record import PermutationResult

# Names are looked up when they are first used: importing numbaglm loads none of its dependencies.
_HOMES = {
    "Cohort": "numbaglm.cohort",
    "PermutationResult": "numbaglm.results.record",
    "SecondLevelModel": "numbaglm.faces.nilearn.second_level",
    "bids_maps": "numbaglm.faces.bids.api",
    "errors": "numbaglm.errors",
    "fetch_localizer": "numbaglm.datasets.localizer",
    "get_clusters_table": "numbaglm.faces.nilearn.thresholds",
    "make_second_level_design_matrix": "numbaglm.faces.nilearn.designs",
    "non_parametric_inference": "numbaglm.faces.nilearn.permuted",
    "permutation_test": "numbaglm.inference.permutation_test",
    "permuted_ols": "numbaglm.faces.nilearn.permuted",
    "save_bids": "numbaglm.faces.bids.api",
    "simulate_button_press": "numbaglm.datasets.simulated",
    "threshold_stats_img": "numbaglm.faces.nilearn.thresholds",
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
