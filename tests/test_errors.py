import warnings

import pytest

import numbaglm as ng
from numbaglm import errors


def test_warnings_name_the_line_that_called():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ng.threshold_stats_img(threshold=2)
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InputTypeError, TypeError),
        (errors.InputTypeError, ValueError),
        (errors.NotFittedError, AttributeError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.MissingFileError, ValueError),
        (errors.NumbaglmFutureWarning, FutureWarning),
    ],
)
def test_builtins(error, builtin):
    assert issubclass(error, builtin)
    assert str(error("a message")) == "a message"
