"""What the maps of a result are called in PALM's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import special

from numbaglm.arrays import Doubles, Floats
from numbaglm.faces.palm.model import Swings
from numbaglm.faces.palm.request import Request, Spatial
from numbaglm.results.result import PermutationResult
from numbaglm.stats import pvalues
from numbaglm.stats.families.combined import COMBINING
from numbaglm.stats.families.multivariate import STATISTICS, Roots

KINDS = MappingProxyType({"vox": "voxel", "clustere": "size", "clusterm": "mass", "tfce": "tfce"})
"""Ends of our maps by the units of PALM's."""

OVER = MappingProxyType({"": "", "_contrasts": "c", "_modalities": "m", "_modalities_contrasts": "mc"})
"""What stands before "fwep" and "fdrp", by what p are corrected over."""

UNIVARIATE = MappingProxyType({"t": "tstat", "f": "fstat", "v": "vstat", "g": "gstat", "r": "rstat", "r2": "rsqstat"})


@dataclass(frozen=True, eq=False)
class Wanted:
    """A map of a result under PALM's name.

    Attributes
    ----------
    stem, kind
        What stands before and behind the numbers of modality, design and contrast are put: "vox_tstat" and "uncp".
    values
        (n_elements,).
    is_p
        Whether these are p.
    """

    stem: str
    kind: str
    values: Floats
    is_p: bool = False


def suffix(request: Request, counts: Mapping[str, int], numbers: Mapping[str, int | None]) -> str:
    """End of a name: numbers of modality ("m"), design ("d") and contrast ("c") where there are several.

    Parameters
    ----------
    counts, numbers
        How many there are, and which it is; None where a map is of all.
    """
    return "".join(
        f"_{letter}{number}"
        for letter, number in numbers.items()
        if number is not None and (counts[letter] > 1 or request.long_names)
    )


@dataclass(frozen=True)
class Demeaned:
    """What PALM makes of -demean: a degree of freedom more than there is, as the mean that was removed takes none.

    Attributes
    ----------
    dof
        That there are.
    n_rows
        Of F; None for t.
    """

    dof: int
    n_rows: int | None

    @classmethod
    def of(cls, dof: int, is_f: bool, n_rows: int) -> Demeaned:
        """Of a test."""
        return cls(dof, n_rows if is_f else None)

    @property
    def gain(self) -> float:
        """What F, or the square of t, is multiplied with."""
        return (self.dof + 1) / self.dof

    def statistic(self, values: Doubles) -> Doubles:
        """Statistic of PALM's."""
        return values * (self.gain if self.n_rows else np.sqrt(self.gain))

    def z(self, values: Doubles) -> Doubles:
        """z of our statistic."""
        return pvalues.to_z(self.statistic(values), self.dof + 1, self.n_rows)

    def threshold(self, z: float) -> float:
        """Our z of a z of PALM's."""
        theirs = pvalues.statistic_threshold("z", z, self.dof + 1, self.n_rows, False)
        ours = theirs / float(self.statistic(np.array(1.0)))
        return float(pvalues.to_z(np.array(ours), self.dof, self.n_rows))

    def of_maps(self, values: Doubles, statistic: str) -> dict[str, Doubles]:
        """Maps that differ, by the values and the name of our statistic."""
        z = self.z(values)
        return {statistic: self.statistic(values), "z": z, "p_parametric": pvalues.of_z(z)}


@dataclass(frozen=True)
class Pearson:
    """Where PALM looks for clusters and maxima of correlations: on artanh r, or the probit of R2; ours is z of t or F.

    Attributes
    ----------
    dof, n_rows
        Of the residuals, and of F; None for t.
    """

    dof: int
    n_rows: int | None

    @classmethod
    def of(cls, dof: int, is_f: bool, n_rows: int) -> Pearson:
        """Of a test."""
        return cls(dof, n_rows if is_f else None)

    def threshold(self, value: float) -> float:
        """Our z of a value of PALM's."""
        if self.n_rows is None:
            return float(pvalues.to_z(np.sinh(np.array(value)) * np.sqrt(self.dof), self.dof))
        share = float(pvalues.of_z(np.array(-value)))
        return float(pvalues.to_z(np.array(share / (1 - share) * self.dof / self.n_rows), self.dof, self.n_rows))

    def z(self, z: Doubles) -> Doubles:
        """Value of PALM's of our z, for maxima."""
        own = [pvalues.statistic_threshold("z", float(one), self.dof, self.n_rows, False) for one in z]
        if self.n_rows is None:
            return np.asarray(np.arcsinh(np.array(own) / np.sqrt(self.dof)))
        gain = np.array(own) * self.n_rows
        return np.asarray(special.ndtri(gain / (gain + self.dof)))


def maps_of(
    request: Request,
    result: PermutationResult,
    unit: str,
    stat: str,
    spatial: Spatial,
    joint: bool,
    demeaned: Demeaned | None,
) -> list[Wanted]:
    """Maps that are asked for.

    Parameters
    ----------
    unit, stat
        Of the elements, such as "vox", and of the statistic, such as "tstat" or "npc_fisher".
    spatial
        What spatial inference is asked for.
    joint
        Whether the test is of several modalities.
    demeaned
        What becomes of maps where the mean was removed.
    """
    maps: Mapping[str, Floats] = result.maps
    if demeaned is not None:
        maps = {**maps, **demeaned.of_maps(np.asarray(maps[result.statistic], np.float64), result.statistic)}
    name = f"{'z' if request.as_z else ''}{stat}"
    found = [Wanted(f"{unit}_{name}", "", maps["z"] if request.as_z else maps[result.statistic])]

    def corrected(stem: str, kind: str) -> None:
        for over, letters in OVER.items():
            if f"p_fwe_{kind}{over}" in maps:
                found.append(Wanted(stem, f"{letters}fwep", maps[f"p_fwe_{kind}{over}"], True))

    def uncorrected(stem: str, end: str) -> None:
        if request.uncorrected and f"p_unc{end}" in maps:
            found.append(Wanted(stem, "uncp", maps[f"p_unc{end}"], True))
        for over, letters in OVER.items():
            if request.fdr is not None and f"p_fdr{end}{over}" in maps:
                found.append(Wanted(stem, f"{letters}fdrp", maps[f"p_fdr{end}{over}"], True))

    uncorrected(f"{unit}_{name}", "")
    corrected(f"{unit}_{name}", "voxel")
    if request.parametric and "p_parametric" in maps and stat != "mv_roy-iii":
        found.append(Wanted(f"{unit}_{name}", "uncparap", maps["p_parametric"], True))
        if request.fdr is not None and not joint:
            found.append(Wanted(f"{unit}_{name}", "fdrparap", maps["p_fdr_parametric"], True))
    if spatial.threshold is not None and "size" in maps:
        cluster = "clustere" if request.cluster_kind == "extent" else "clusterm"
        found.append(Wanted(f"{cluster}_{name}", "", maps[KINDS[cluster]]))
        corrected(f"{cluster}_{name}", KINDS[cluster])
    if spatial.tfce and "tfce" in maps:
        found.append(Wanted(f"tfce_{name}", "", maps["tfce"]))
        uncorrected(f"tfce_{name}", "_tfce")
        corrected(f"tfce_{name}", "tfce")
    return found


def glm_maps(result: PermutationResult, unit: str, swings: Swings | None, demeaned: Demeaned | None) -> list[Wanted]:
    """Effect, its variance, Cohen's d and its inverse, of a t contrast.

    Parameters
    ----------
    swings
        Of the contrast; None where each voxel has a design of its own, and values are ours.
    """
    effect, d = np.asarray(result.maps["effect"]), np.asarray(result.maps["cohens_d"])
    variance = np.asarray(result.maps["effect_se"]) ** 2
    if swings is not None:  # PALM pools variances, whatever groups there are
        sigma = np.divide(effect * swings.ours, d, out=np.zeros(d.shape), where=d != 0)
        variance, d = sigma**2 * swings.unit, d * swings.palm / swings.ours
    gain = 1.0 if demeaned is None else demeaned.gain
    variance, d = variance / gain, d * np.sqrt(gain)
    inverse = np.divide(1.0, d, out=np.zeros(d.shape), where=d != 0)
    maps = {"cope": effect, "varcope": variance, "cohen": d, "cfvar": inverse}
    return [Wanted(f"{unit}_{name}", "", values) for name, values in maps.items()]


@dataclass(frozen=True)
class Joint:
    """A statistic of several variables, whose maxima PALM writes as they are.

    Attributes
    ----------
    function
        As `numbaglm.permutation_test` calls it.
    n
        Variables.
    n_rows, dof
        Of the contrast and of the residuals.
    concordant
        Whether one sign counts.
    """

    function: str
    n: int
    n_rows: int
    dof: int
    concordant: bool

    def of_z(self, z: Doubles) -> Doubles:
        """Statistic of a z, for maxima."""
        if self.function in COMBINING:
            of = COMBINING[self.function]
            p = pvalues.of_z(z)
            p = p / (1.0 + np.sqrt(1.0 - p)) if self.concordant else p
            return np.asarray(of.value(np.array([of.of_p(float(one), self.n) for one in p]), self.n))
        if self.function.startswith(("cca", "pls")):
            return np.asarray(np.tanh(z))
        scale = Roots(self.function, self.n, self.n_rows, self.dof)
        score = np.array([scale.to_score("z", float(one), False) for one in z])
        return np.asarray(STATISTICS[self.function].value(score, self.dof))


def nulls_of(
    request: Request,
    result: PermutationResult,
    unit: str,
    stat: str,
    spatial: Spatial,
    joint: Joint | None,
    adjusted: Demeaned | Pearson | None,
) -> dict[str, Doubles]:
    """Nulls of maxima (n_shufflings,) by what stands before the numbers in PALM's names."""
    name = f"{'z' if request.as_z else ''}{stat}"
    z = np.asarray(result.h0["max_z"], np.float64)
    if isinstance(adjusted, Demeaned):
        z = adjusted.z(np.asarray(result.h0[f"max_{result.statistic}"], np.float64))
    elif adjusted is not None:
        z = adjusted.z(z)
    found = {f"{unit}_{name}": z if joint is None or request.as_z else joint.of_z(z)}
    if spatial.threshold is not None:
        cluster = "clustere" if request.cluster_kind == "extent" else "clusterm"
        found[f"{cluster}_{name}"] = np.asarray(result.h0[f"max_{KINDS[cluster]}"], np.float64)
    if spatial.tfce:
        found[f"tfce_{name}"] = np.asarray(result.h0["max_tfce"], np.float64)
    return found
