"""numbaglm: group-level fMRI/VBM inference that is exact, fast and bigger than RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numbaglm.version import __version__

if TYPE_CHECKING:
    from numbaglm import spaces as spaces
    from numbaglm.cohort import Cohort
    from numbaglm.datasets.localizer import fetch_localizer
    from numbaglm.datasets.simulated import simulate_button_press
    from numbaglm.datasets.surfaces import simulate_surface_cohort
    from numbaglm.faces.nilearn.cluster_level import cluster_level_inference
    from numbaglm.faces.nilearn.designs import make_second_level_design_matrix
    from numbaglm.faces.nilearn.permuted import non_parametric_inference, permuted_ols
    from numbaglm.faces.nilearn.second_level import SecondLevelModel
    from numbaglm.faces.nilearn.thresholds import get_clusters_table, threshold_stats_img
    from numbaglm.inference.permutation_test import permutation_test
    from numbaglm.inference.power import power
    from numbaglm.results.bids.api import bids_maps, save_bids
    from numbaglm.results.result import PermutationResult


__all__ = [
    "Cohort",
    "PermutationResult",
    "SecondLevelModel",
    "__version__",
    "bids_maps",
    "cluster_level_inference",
    "fetch_localizer",
    "get_clusters_table",
    "make_second_level_design_matrix",
    "non_parametric_inference",
    "permutation_test",
    "permuted_ols",
    "power",
    "save_bids",
    "simulate_button_press",
    "simulate_surface_cohort",
    "threshold_stats_img",
]


def __getattr__(name: str) -> Any:
    # Names are looked up when they are first used: importing numbaglm loads none of its dependencies.
    found: Any
    match name:
        case "Cohort":
            from numbaglm.cohort import Cohort as found
        case "PermutationResult":
            from numbaglm.results.result import PermutationResult as found
        case "SecondLevelModel":
            from numbaglm.faces.nilearn.second_level import SecondLevelModel as found
        case "bids_maps":
            from numbaglm.results.bids.api import bids_maps as found
        case "cluster_level_inference":
            from numbaglm.faces.nilearn.cluster_level import cluster_level_inference as found
        case "errors":
            import numbaglm.errors as found
        case "fetch_localizer":
            from numbaglm.datasets.localizer import fetch_localizer as found
        case "get_clusters_table":
            from numbaglm.faces.nilearn.thresholds import get_clusters_table as found
        case "make_second_level_design_matrix":
            from numbaglm.faces.nilearn.designs import make_second_level_design_matrix as found
        case "non_parametric_inference":
            from numbaglm.faces.nilearn.permuted import non_parametric_inference as found
        case "permutation_test":
            from numbaglm.inference.permutation_test import permutation_test as found
        case "permuted_ols":
            from numbaglm.faces.nilearn.permuted import permuted_ols as found
        case "power":
            from numbaglm.inference.power import power as found
        case "save_bids":
            from numbaglm.results.bids.api import save_bids as found
        case "simulate_button_press":
            from numbaglm.datasets.simulated import simulate_button_press as found
        case "simulate_surface_cohort":
            from numbaglm.datasets.surfaces import simulate_surface_cohort as found
        case "spaces":
            import numbaglm.spaces as found
        case "threshold_stats_img":
            from numbaglm.faces.nilearn.thresholds import threshold_stats_img as found
        case _:
            raise AttributeError(f"module 'numbaglm' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "errors", "spaces"])
