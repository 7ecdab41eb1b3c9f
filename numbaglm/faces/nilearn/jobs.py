"""joblib's count of jobs as threads, and nilearn's verbosity as printed lines."""

from __future__ import annotations

import numpy as np

from numbaglm.engine.memory import n_cores
from numbaglm.errors import InputError, InputTypeError


def n_workers_of(n_jobs: int | None) -> int | None:
    """Threads for joblib's count of jobs: -1 is all cores, -2 all but one; None leaves it to the engine."""
    if n_jobs is None:
        return None
    wrong_type = isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer)
    if wrong_type or n_jobs == 0:
        raise (InputTypeError if wrong_type else InputError)(
            f"'n_jobs == {n_jobs!r}' is not a valid choice. Allowed: a number of threads above 0, -1 for all cores, "
            "-2 for all but one. Use 1."
        )
    return int(n_jobs) if n_jobs > 0 else max(1, n_cores() + 1 + int(n_jobs))


def say(where: str, verbose: int, message: str, level: int = 1) -> None:
    """Print a line on stdout, as nilearn does, where verbose is at least the level."""
    if verbose >= level:
        print(f"[{where}] {message}", flush=True)  # noqa: T201 - verbose asks for it
