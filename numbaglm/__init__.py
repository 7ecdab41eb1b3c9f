"""numbaglm: group-level fMRI/VBM inference that is exact, fast and bigger than RAM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numbaglm.cohort import Cohort
    from numbaglm.datasets import fetch_localizer, simulate_button_press
    from numbaglm.model import permutation_test
    from numbaglm.results import PermutationResult
    from numbaglm.second_level import SecondLevelModel, make_second_level_design_matrix

__version__ = "0.1.0"

# Names are looked up when they are first used: importing numbaglm loads none of its dependencies.
_HOMES = {
    "Cohort": "numbaglm.cohort",
    "PermutationResult": "numbaglm.results",
    "SecondLevelModel": "numbaglm.second_level",
    "errors": "numbaglm.errors",
    "fetch_localizer": "numbaglm.datasets",
    "make_second_level_design_matrix": "numbaglm.second_level",
    "permutation_test": "numbaglm.model",
    "simulate_button_press": "numbaglm.datasets",
}

__all__ = [
    "Cohort",
    "PermutationResult",
    "SecondLevelModel",
    "__version__",
    "fetch_localizer",
    "make_second_level_design_matrix",
    "permutation_test",
    "simulate_button_press",
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
