"""Clusters themselves are tested in test_run.py, as files."""

import numpy as np
import pandas as pd

from numbaglm.faces.glmfit.clusters import _kept
from numbaglm.faces.glmfit.request import Permutations


class Result:
    clusters = pd.DataFrame(
        {
            "cluster": [1, 2, 3],
            "size": [30.0, 20.0, 10.0],
            "size_elements": [3, 2, 1],
            "p_fwe_size": [0.02, 0.01, 0.2],
            "p_fwe_size_lower": [0.01, 0.0, 0.1],
            "p_fwe_size_upper": [0.03, 0.02, 0.3],
        }
    )


def test_the_least_p_comes_first_and_large_ones_are_left_out():
    kept = _kept(Result(), Permutations(99, 2.0, "abs", "perm", 0.05, 2, False))
    assert list(kept["cluster"]) == [2, 1]
    np.testing.assert_allclose(kept["cwp"], [1 - 0.99**2, 1 - 0.98**2])
    assert list(kept["area"]) == [20.0, 30.0]
