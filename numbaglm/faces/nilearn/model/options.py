"""What is asked of a report of a model: parsed once, with what has to be said about it.

A part of `numbaglm.faces.nilearn.model.report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numbaglm.errors import InputError, InputTypeError, NumbaglmFutureWarning, invalid, warn
from numbaglm.stats.conventions import is_probability

_TEMPLATE = "MNI152TEMPLATE"  # of the brain: no part of numbaglm

_HEIGHT_CONTROLS = ("fpr", "fdr", "bonferroni", None)
_THRESHOLD = 3.09
_SLICES = ("ortho", "x", "y", "z", "xz", "yx", "yz")
_GLASS = (*_SLICES, "l", "r", "lr", "lzr", "lyr", "lzry", "lyrz")
_MODES = {"slice": _SLICES, "glass": _GLASS}


@dataclass(frozen=True)
class Asked:
    """What is asked of the maps of contrasts.

    Attributes
    ----------
    bg_img
        Anatomy beneath slices; None for the mask.
    threshold
        z, of either sign, only with ``height_control=None``.
    alpha, cluster_threshold, height_control, two_sided, min_distance
        As in `numbaglm.threshold_stats_img` and `numbaglm.get_clusters_table`.
    glass
        Whether maps are projected, and not cut.
    cuts
        Places of slices in mm, or how many; None where the peaks are to choose.
    views
        From where, or along which axes.
    """

    bg_img: Any
    threshold: float | None
    alpha: float
    cluster_threshold: float
    height_control: str | None
    two_sided: bool
    min_distance: float
    glass: bool
    cuts: tuple[float, ...] | int | None
    views: str

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> tuple[Asked, list[str]]:
        """Check the options of `SecondLevelModel.generate_report`.

        Returns
        -------
        What is asked, and what of it can't be done, in sentences.

        Raises
        ------
        InputError, InputTypeError
        """
        control, plot_type = given["height_control"], given["plot_type"]
        if control not in _HEIGHT_CONTROLS:
            raise InputError(f"'height_control' must be one of {_HEIGHT_CONTROLS}: got {control!r}.")
        if plot_type not in _MODES:
            raise InputError(f"'plot_type' must be one of {tuple(_MODES)}: got {plot_type!r}.")
        alpha, size, distance = (_number(name, given[name]) for name in ("alpha", "cluster_threshold", "min_distance"))
        if not is_probability(alpha):
            raise InputError(invalid("alpha", alpha, "a probability between 0 and 1"))
        if size < 0:
            raise InputError(f"'cluster_threshold' must be > 0: got {size:g}. Allowed: a number of voxels, 0 for any.")
        if not distance > 0:
            raise InputError(f"'min_distance' must be > 0: got {distance:g}. Allowed: a distance in mm.")
        notes: list[str] = []
        threshold = _threshold(given["threshold"], control, bool(given["two_sided"]), notes)
        views, cuts = _views(given["display_mode"], plot_type, notes), None
        if plot_type == "slice":
            cuts = _cuts(given["cut_coords"], views)
        elif given["cut_coords"] is not None:
            notes.append(
                f"'cut_coords={given['cut_coords']!r}' is not used with plot_type='glass', but only with 'slice'. "
                "'cut_coords' was set to None."
            )
        plain = given["bg_img"] is None or given["bg_img"] is False or _is_template(given["bg_img"])
        return cls(
            bg_img=None if plain else given["bg_img"],
            threshold=threshold,
            alpha=alpha,
            cluster_threshold=size,
            height_control=control,
            two_sided=bool(given["two_sided"]),
            min_distance=distance,
            glass=plot_type == "glass",
            cuts=cuts,
            views=views,
        ), notes


def contrasts_of(given: Any) -> list[tuple[str | None, Any]]:
    """Read one contrast or several, as nilearn does: name, if it has one, and contrast.

    Parameters
    ----------
    given
        None; a name or an expression; a vector; a list of these, or of matrices; the rows of a matrix; or a dict by
        name.

    Raises
    ------
    InputTypeError
        A name is no text.
    """
    if given is None:
        return []
    if isinstance(given, Mapping):
        odd = [name for name in given if not isinstance(name, str)]
        if odd:
            raise InputTypeError(invalid("contrasts", odd[0], "names that are text, in a dict"))
        return list(given.items())
    rows = list(given) if np.iterable(given) and not isinstance(given, str) else [0.0]
    return [(None, one) for one in rows] if all(np.iterable(one) for one in rows) else [(None, given)]


def _threshold(given: Any, control: str | None, two_sided: bool, notes: list[str]) -> float | None:
    if control is not None:
        if given is not None:
            notes.append(
                f"'threshold={given!r}' is not used with height_control={control!r}: 'threshold' is only used when "
                "height_control=None. 'threshold' was set to 'None'."
            )
        return None
    if given is None:
        warn(
            "From nilearn version>=0.15, the default 'threshold' will be set to 3.0902. It is 3.09 here, as in nilearn "
            "0.14: pass the threshold that you mean.",
            NumbaglmFutureWarning,
        )
        return _THRESHOLD
    threshold = _number("threshold", given)
    if two_sided and threshold < 0:
        raise InputError(
            f"'threshold' should not be a negative value when two_sided=True: got {threshold:g}. "
            "Allowed: 0 or above. Give its absolute value."
        )
    return threshold


def _views(given: Any, plot_type: str, notes: list[str]) -> str:
    if given is None:
        return "xyz" if plot_type == "glass" else "z"
    if given not in _MODES[plot_type]:
        raise InputError(invalid("display_mode", given, f"None or one of {_MODES[plot_type]} with {plot_type!r}"))
    if given == "ortho":
        return "xyz"
    views = "".join(dict.fromkeys(given.replace("l", "x").replace("r", "x")))
    if not set(given) <= set("xyz"):
        notes.append(
            f"display_mode={given!r}: hemispheres are not projected apart, {views!r} takes its place and shows both."
        )
    return views


def _cuts(given: Any, views: str) -> tuple[float, ...] | int | None:
    if given is None:
        return None
    one = len(views) == 1
    allowed = "places in mm, or how many" if one else f"{len(views)} places in mm, of {', '.join(views)}"
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        if not one or given < 1:
            raise InputError(invalid("cut_coords", given, allowed))
        return int(given)
    try:
        places = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputTypeError(invalid("cut_coords", given, allowed)) from None
    fits = places.ndim == 1 and places.size > 0 and (one or places.size == len(views))
    if not fits or not np.isfinite(places).all():
        raise InputError(invalid("cut_coords", given, allowed))
    return tuple(places.tolist())


def _is_template(given: Any) -> bool:
    """Whether this is nilearn's template, by its name or as its object that is loaded when it is needed."""
    return given == _TEMPLATE if isinstance(given, str) else type(given).__name__ == "_MNI152Template"


def _number(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or np.isnan(given):
        raise InputTypeError(invalid(name, given, "a number"))
    return float(given)
