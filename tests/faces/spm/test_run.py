from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from numbaglm.errors import InputError
from numbaglm.faces.spm import contrasts
from numbaglm.faces.spm.run import FILES, _threshold, file_name

FRAME = pd.DataFrame(np.ones((4, 2)))
T = contrasts.Tested("0001", "t", FRAME, np.ones((1, 2)), False)
SQUARED = contrasts.Tested("0002", "F of one row", FRAME, np.ones((1, 2)), True)
F = contrasts.Tested("0012", "F", FRAME, np.eye(2), True)


def test_files_are_numbered_as_spm_s_and_never_called_so():
    assert [file_name(name, T) for name in FILES][:3] == ["permT_0001.nii", "permTFCE_0001.nii", "lP_0001.nii"]
    assert file_name("perm{stat}", F) == "permF_0012.nii"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.001, [0.001] * 3), (None, [None] * 3), (4.0, [("t", 4.0), ("t", 2.0), ("f", 4.0)])],
)
def test_thresholds_below_1_are_p_and_others_values(value, expected):
    request = SimpleNamespace(threshold=value, unequal_variances=False)
    assert [_threshold(test, request) for test in (T, SQUARED, F)] == expected


def test_values_that_are_neither_are_refused():
    with pytest.raises(InputError, match=r"a p below 0\.5"):
        _threshold(T, SimpleNamespace(threshold=0.6, unequal_variances=False))
    with pytest.raises(InputError, match="degrees of freedom differ"):
        _threshold(T, SimpleNamespace(threshold=3.1, unequal_variances=True))
