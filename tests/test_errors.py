import pickle
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


def test_a_refusal_keeps_its_parts():
    fix = f"Pass {errors.term('resample=True')}."
    error = errors.InputError(errors.invalid("n_perm", -1, "a number >= 0", fix))
    assert str(error) == "Invalid value for 'n_perm': got -1. Allowed: a number >= 0. Pass resample=True."
    told = pickle.loads(pickle.dumps(error)).refusal
    assert (told.parameter, told.received, told.allowed, told.fix) == ("n_perm", "-1", "a number >= 0", fix)
    assert str(error.naming("-n")) == str(error).replace("n_perm", "-n")
    assert type(error.naming("-n")) is errors.InputError


def test_a_face_has_its_own_words_for_terms():
    for error in (errors.GridError, errors.MissingFileError, errors.OutputExistsError):
        made = error(f"{{b}} is there. Pass {errors.term('resample=True')}.")
        assert str(made) == "{b} is there. Pass resample=True."
        assert errors.worded(made.refusal.template, {"resample=True": "--resample"}.get) == (
            "{b} is there. Pass --resample."
        )
    assert errors.InputError("plain").refusal is None


def test_long_values_are_cut():
    assert len(errors.invalid("contrast", list(range(10_000)), "less")) < 400


def test_a_name_that_is_close_is_asked_for():
    assert errors.near("aeg", ["sex", "age"]) == errors.near("AGE", ["age"]) == "Did you mean 'age'?"
    assert errors.near("motion", ["sex", "age", 3]) == errors.near("", []) == ""
