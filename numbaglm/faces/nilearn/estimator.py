"""scikit-learn's protocol of estimators, without scikit-learn."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from numbaglm.errors import InputError, invalid


class Estimator:
    """A model whose parameters are the arguments that it is made with."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Parameters
        ----------
        deep
            Whether to give the parameters of a masker among them too, as ``mask_img__smoothing_fwhm``.

        Examples
        --------
        >>> import numbaglm as ng
        >>> ng.SecondLevelModel(smoothing_fwhm=8.0).get_params()["smoothing_fwhm"]
        8.0
        """
        params = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        if deep:
            for name, value in list(params.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    params |= {f"{name}__{inner}": given for inner, given in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; they count from the next `fit` on.

        Examples
        --------
        >>> import numbaglm as ng
        >>> ng.SecondLevelModel().set_params(smoothing_fwhm=8.0)
        SecondLevelModel(smoothing_fwhm=8.0)
        """
        names = list(self.get_params(deep=False))
        for name, value in params.items():
            own, _, inner = name.partition("__")
            if own not in names or (inner and not hasattr(getattr(self, own), "set_params")):
                raise InputError(invalid("set_params", name, f"names among {names}"))
            if inner:
                getattr(self, own).set_params(**{inner: value})
            else:
                setattr(self, own, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params(deep=False).items() if v is not defaults[k].default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of an estimator; only it and nilearn ask for it."""
        from sklearn.utils import Tags, TargetTags

        given = _input_tags()(two_d_array=False)
        return Tags(estimator_type="glm", target_tags=TargetTags(required=False), input_tags=given)

    def _more_tags(self) -> Any:
        """The same, by the name that nilearn's estimators have for it."""
        return self.__sklearn_tags__()


@cache
def _input_tags() -> Any:
    """scikit-learn's words for the input, and those that nilearn adds."""
    import sklearn.utils

    @dataclass
    class InputTags(sklearn.utils.InputTags):
        niimg_like: bool = True
        surf_img: bool = True

    return InputTags
