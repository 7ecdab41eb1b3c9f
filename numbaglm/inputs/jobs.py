"""joblib's count of jobs as threads."""

from __future__ import annotations

import numpy as np

from numbaglm.engine.schedule import n_cores
from numbaglm.errors import InputError


def n_workers_of(n_jobs: int | None) -> int | None:
    """Threads for joblib's count of jobs: -1 is all cores, -2 all but one; None leaves it to the engine."""
    if n_jobs is None:
        return None
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise InputError(
            f"'n_jobs == {n_jobs!r}' is not a valid choice. Allowed: a number of threads above 0, -1 for all cores, "
            "-2 for all but one. Use 1."
        )
    return int(n_jobs) if n_jobs > 0 else max(1, n_cores() + 1 + int(n_jobs))
