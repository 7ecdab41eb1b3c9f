"""What is asked of `numbaglm palm`: flags read into a record, and checked against each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any

from numbaglm.errors import InputError
from numbaglm.faces.palm.flags import Typed
from numbaglm.stats.methods import METHODS, find_method

COMBINING = MappingProxyType(
    {one.replace("-", ""): one for one in ("tippett", "fisher", "stouffer", "edgington", "mudholkar-george", "winer")}
)
"""Combining functions, by their letters."""

MULTIVARIATE = MappingProxyType(
    {
        "wilks": ("wilks", "mv_wilks"),
        "hotellingtsq": ("hotelling", "mv_hotellingtsq"),
        "lawley": ("lawley-hotelling", "mv_lawley-hotelling"),
        "lawleyhotelling": ("lawley-hotelling", "mv_lawley-hotelling"),
        "pillai": ("pillai", "mv_pillai"),
        "roy": ("roy", "mv_roy-ii"),
        "royii": ("roy", "mv_roy-ii"),
        "royiii": ("roy-theta", "mv_roy-iii"),
    }
)
"""Multivariate statistics by their letters: the library's name, and that in the names of files."""

TAILS = MappingProxyType({"tail": "pareto", "gamma": "gamma"})
"""Accelerations by their names, and what refines p in their place."""

NO_ACCELERATION = MappingProxyType(
    {
        "negbin": "-accel tail refines few shufflings, and numbaglm permute --stop decided ends early",
        "noperm": "-saveparametric writes parametric p; shufflings are fast enough to be made",
        "lowrank": "shufflings are fast enough to be made everywhere",
    }
)


@dataclass(frozen=True)
class Spatial:
    """Spatial inference of univariate, or of joint tests.

    Attributes
    ----------
    threshold
        Cluster-forming z; None for no clusters.
    tfce
        Whether maps are enhanced.
    """

    threshold: float | None
    tfce: bool


@dataclass(frozen=True)
class Own:
    """A regressor of each voxel's own.

    Attributes
    ----------
    column, design
        Where it goes, counted from 1.
    """

    file: str
    column: int
    design: int

    @property
    def name(self) -> str:
        """Of its layer."""
        return f"ev{self.column}d{self.design}"


@dataclass(frozen=True)
class Request:
    """The flags of a call; see `numbaglm.faces.palm.flags` for what each means.

    Attributes
    ----------
    absent, lacking
        Files that tell who is missing in each input, and what in each design.
    joint
        "npc", "mv" or "": what is made of all modalities.
    multivariate
        What -mv names: a key of `MULTIVARIATE`, "cca" or "pls" and a number, or "" for what fits the contrast.
    matrices, of_variables
        Files of contrasts of the regressors and, in their order or one for all, of the variables.
    """

    maps: tuple[str, ...]
    masks: tuple[str, ...]
    surfaces: tuple[tuple[str, ...], ...]
    root: str
    designs: tuple[str, ...]
    contrasts: tuple[str, ...]
    f_tests: tuple[str, ...]
    matrices: str | None
    of_variables: str | None
    f_only: bool
    t_only: bool
    first_number: int
    own: tuple[Own, ...]
    absent: tuple[str, ...]
    lacking: tuple[str, ...]
    demean: bool
    pearson: bool
    n_shufflings: int
    seed: int
    shufflings: tuple[str, ...]
    errors: str
    blocks: str | None
    block_scheme: str
    groups: str | None
    method: str
    guttman: bool
    two_sided: bool
    univariate: Spatial
    of_joint: Spatial
    cluster_kind: str
    tfce_options: dict[str, float]
    over_modalities: bool
    over_contrasts: bool
    combine_modalities: bool
    combine_contrasts: bool
    function: str
    concordant: bool
    multivariate: str | None
    fdr: str | None
    tail: str
    as_z: bool
    log_p: bool
    one_minus_p: bool
    parametric: bool
    glm: bool
    nulls: bool
    save_masks: bool
    dof: bool
    intersection: bool
    no_univariate: bool
    uncorrected: bool
    long_names: bool
    transposed: bool

    @classmethod
    def parse(cls, typed: Typed) -> Request:
        """Read and check what was typed.

        Raises
        ------
        InputError
            Values that are not allowed, flags that exclude or need each other.
        """
        seed = typed.word("-seed") or "0"
        if seed == "twist":
            raise InputError("-seed twist can't be repeated. Allowed: a whole number, such as -seed 1.")
        npc = {"-npc", "-npcmod", "-npccon", "-npcmethod"} & set(typed.given)
        f_and_t = [name for name in ("-t", "-f") if name in typed]
        threshold = _number(typed, "-C", positive=True)
        multivariate = _multivariate(typed) if "-mv" in typed else None
        joint = "-Cmv" if "-mv" in typed else "-Cnpc"
        found = cls(
            maps=typed.files("-i"),
            masks=typed.files("-m"),
            surfaces=tuple(typed.all("-s")),
            root=typed.word("-o") or "palm",
            designs=typed.files("-d"),
            contrasts=typed.files("-t"),
            f_tests=typed.files("-f"),
            matrices=typed.word("-con"),
            of_variables=(*(typed.words("-con") or ()), None, None)[1],
            f_only="-fonly" in typed,
            t_only="-tonly" in typed,
            first_number=1 + (_whole(typed, "-conskipcount", least=0) or 0),
            own=tuple(_own(words) for words in typed.all("-evperdat")),
            absent=typed.files("-imiss"),
            lacking=typed.files("-dmiss"),
            demean="-demean" in typed,
            pearson="-pearson" in typed,
            n_shufflings=_default(_whole(typed, "-n", least=0), 10_000),
            seed=_whole_of("-seed", seed, 0),
            shufflings=typed.files("--shufflings"),
            errors=_errors(typed),
            blocks=typed.word("-eb"),
            block_scheme={(True, True): "both", (True, False): "whole"}.get(
                ("-whole" in typed, "-within" in typed), "within"
            ),
            groups=typed.word("-vg"),
            method=find_method(typed.word("-rmethod") or "Freedman-Lane").name,
            guttman=_partition(typed),
            two_sided="-twotail" in typed,
            univariate=Spatial(
                _default(_number(typed, "-Cuni", positive=True), threshold), bool({"-T", "-Tuni"} & set(typed.given))
            ),
            of_joint=Spatial(
                _default(_number(typed, joint, positive=True), threshold),
                bool({"-T", joint.replace("C", "T")} & set(typed.given)),
            ),
            cluster_kind=_cluster_kind(typed),
            tfce_options=_tfce(typed),
            over_modalities="-corrmod" in typed,
            over_contrasts="-corrcon" in typed,
            combine_modalities=bool(npc) and ("-npccon" not in typed or bool({"-npc", "-npcmod"} & npc)),
            combine_contrasts="-npccon" in typed,
            function=_function(typed),
            concordant="-concordant" in typed,
            multivariate=multivariate,
            fdr=_fdr(typed),
            tail=_tail(typed),
            as_z="-zstat" in typed,
            log_p="-logp" in typed,
            one_minus_p="-save1-p" in typed,
            parametric="-saveparametric" in typed,
            glm="-saveglm" in typed,
            nulls="-savemax" in typed,
            save_masks="-savemask" in typed,
            dof="-savedof" in typed,
            intersection="-forceintersectionmask" in typed,
            no_univariate="-nounivariate" in typed,
            uncorrected="-nouncorrected" not in typed,
            long_names="-verbosefilenames" in typed,
            transposed="-transposedata" in typed,
        )
        found._check(typed, f_and_t)
        return found

    @property
    def combines(self) -> bool:
        """Whether p are combined."""
        return self.combine_modalities or self.combine_contrasts

    @property
    def removes_mean(self) -> bool:
        """Whether the mean is removed: always for correlations."""
        return self.demean or self.pearson or self.correlates

    @property
    def correlates(self) -> bool:
        """Whether sums of variables are correlated with sums of regressors: by canonical correlations, or PLS."""
        return (self.multivariate or "").startswith(("cca", "pls"))

    @property
    def lacks(self) -> bool:
        """Whether subjects are missing."""
        return bool(self.absent or self.lacking)

    @property
    def shares_voxels(self) -> bool:
        """Whether only what all inputs have is tested."""
        return self.intersection or self.combine_modalities or self.multivariate is not None

    @property
    def tests_each(self) -> bool:
        """Whether each modality is tested by itself."""
        return not (self.no_univariate and (self.combines or self.multivariate is not None))

    def _check(self, typed: Typed, f_and_t: list[str]) -> None:
        n = len(self.maps)
        several = self.multivariate is not None or self.combine_modalities
        of_joint = [name for name in ("-Cnpc", "-Tnpc") if name in typed and not self.combines]
        of_joint += [name for name in ("-Cmv", "-Tmv") if name in typed and self.multivariate is None]
        refusals: tuple[tuple[Any, str], ...] = (
            (not n, "-i names no maps: give at least one, such as -i maps.nii.gz"),
            (
                len(self.masks) not in (0, 1, n),
                f"-m is there {len(self.masks)} times for {n} inputs: give one, or one for each -i",
            ),
            (
                len(self.surfaces) not in (0, n),
                f"-s is there {len(self.surfaces)} times for {n} inputs: give one for each -i, in their order",
            ),
            (self.matrices and f_and_t, f"-con stands in the place of -t and -f: leave {' and '.join(f_and_t)} out"),
            (
                self.of_variables and self.multivariate is None,
                "the second file of -con has contrasts of the variables of -mv: add -mv, or leave it out",
            ),
            (len(typed.all("-con")) > 1, "-con is there more than once: all contrasts go into one file"),
            (
                self.own and not self.designs and not any(one.column == 1 for one in self.own),
                "-d names no design, of which -evperdat would be column 1: give one, such as -d design.csv",
            ),
            (self.f_tests and not self.contrasts, "-f joins contrasts: give them by -t contrasts.csv"),
            (
                len(self.contrasts) not in (0, 1, max(1, len(self.designs))),
                f"-t is there {len(self.contrasts)} times for {len(self.designs)} designs: give one for each -d",
            ),
            (
                len(self.f_tests) > len(self.contrasts),
                "-f is there more often than -t: each joins contrasts of the -t before it",
            ),
            (self.f_only and not (self.f_tests or self.matrices), "-fonly needs F tests: add -f ftests.csv"),
            (self.f_only and self.t_only, "-fonly and -tonly exclude each other: leave one out"),
            (self.block_scheme != "within" and self.blocks is None, "-whole needs blocks: add -eb blocks.csv"),
            (self.groups == "auto" and self.blocks is None, "-vg auto follows from blocks: add -eb blocks.csv"),
            (
                self.groups and self.demean,
                "-demean with -vg is not supported: give data and design with a column of ones instead",
            ),
            (
                self.demean and (several or self.combines) and not self.correlates,
                "-demean with -npc and -mv is not supported: give the design with a column of ones instead",
            ),
            (
                self.pearson and (several or self.combines or self.groups or self.own or self.errors != "ee"),
                "-pearson goes with permutations of each input by itself: leave -npc, -mv, -vg, -evperdat and -ise out",
            ),
            (
                self.pearson and (self.as_z or self.glm or self.parametric),
                "-pearson goes without -zstat, -saveglm and -saveparametric: leave them out",
            ),
            (
                self.groups and self.own,
                "-vg with -evperdat is not supported: v and G are not made of voxelwise regressors",
            ),
            (
                self.method != "freedman-lane" and (self.groups or several),
                f"-rmethod {self.method} goes with t and F alone: leave {'-vg' if self.groups else '-npc or -mv'} out",
            ),
            (
                METHODS[self.method].data == "rotated" and self.over_contrasts,
                f"-rmethod {self.method} shuffles each contrast in its own way: leave -corrcon out",
            ),
            *self._of_missing(typed),
            (several and self.own, "-evperdat does not go with -npc and -mv: leave one of them out"),
            (several and self.groups, "-vg does not go with -npc and -mv: leave one of them out"),
            (
                several and n < 2,
                f"{'-mv' if self.multivariate is not None else '-npc'} takes several inputs: give more of -i",
            ),
            (self.multivariate is not None and self.combines, "-mv and -npc exclude each other: leave one out"),
            (self.concordant and not self.combines, "-concordant is of combinations: add -npc"),
            (self.concordant and self.two_sided, "-concordant and -twotail exclude each other: leave one out"),
            (
                self.combine_contrasts and self.over_contrasts,
                "-npccon makes one test of all contrasts, and -corrcon corrects over several: leave one of them out",
            ),
            (
                self.combine_contrasts and (self.groups or self.own or self.demean or self.method != "freedman-lane"),
                "-npccon goes with t and F as they are: leave -vg, -evperdat, -demean and -rmethod out",
            ),
            (len(self.shufflings) > 1 and self.combine_contrasts, "-npccon takes one file of --shufflings"),
            (self.over_modalities and n < 2, "-corrmod takes several inputs: give more of -i"),
            (
                self.no_univariate and not (several or self.combines),
                "-nounivariate leaves nothing: add -npc or -mv, or leave it out",
            ),
            (
                of_joint,
                f"{' and '.join(of_joint)} is of joint tests: add -npc or -mv",
            ),
            (self.tfce_options and not (self.univariate.tfce or self.of_joint.tfce), "-tfce options need -T"),
            (self.log_p and self.one_minus_p, "-logp and -save1-p exclude each other here: leave one out"),
            (self.n_shufflings == 1 and self.shufflings, "--shufflings says how many there are: leave -n out"),
            (
                self.correlates and self.n_shufflings == 1,
                "-n 1 makes parametric maps alone, which -mv CCA and PLS have none of: give more, or 0 for all",
            ),
            (
                self.correlates and self.as_z,
                "-zstat does not go with canonical correlations and PLS, which have no z: leave it out",
            ),
        )
        for refused, why in refusals:
            if refused:
                raise InputError(f"{why}.")

    def _of_missing(self, typed: Typed) -> tuple[tuple[Any, str], ...]:
        """What subjects that are missing don't go with."""
        flags = [name for name in ("-imiss", "-dmiss") if name in typed]
        which = " and ".join(flags)
        apart = {
            "-npc": self.combines,
            "-mv": self.multivariate is not None,
            "-demean": self.demean,
            "-pearson": self.pearson,
            "-evperdat": bool(self.own),
            "-saveglm": self.glm,
            f"-rmethod {self.method}": self.method != "freedman-lane",
        }
        others = " and ".join(name for name, there in apart.items() if there)
        return (
            (
                flags and "-mcar" not in typed,
                f"{which} without -mcar joins a test of who is missing to that of those who are there, which is not "
                "supported: add -mcar, which tests those who are there",
            ),
            ("-mcar" in typed and not flags, "-mcar is of subjects that are missing: name them by -imiss or -dmiss"),
            (
                len(self.absent) not in (0, len(self.maps)),
                f"-imiss is there {len(self.absent)} times for {len(self.maps)} inputs: give one for each -i, in their "
                "order",
            ),
            (
                len(self.lacking) not in (0, len(self.designs)),
                f"-dmiss is there {len(self.lacking)} times for {len(self.designs)} designs: give one for each -d",
            ),
            (flags and others, f"{which} goes with t, F and -vg by Freedman-Lane: leave {others} out"),
            (
                self.lacking and self.shufflings,
                "--shufflings with -dmiss, by which subjects leave, is not supported: leave one of them out",
            ),
        )


def _default(value: Any, other: Any) -> Any:
    return other if value is None else value


def _number(typed: Typed, name: str, *, positive: bool = False) -> float | None:
    word = typed.word(name)
    if word is None:
        return None
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or (positive and value <= 0):
        raise InputError(f"{name} {word}: allowed is a number{' above 0' if positive else ''}.")
    return value


def _whole(typed: Typed, name: str, least: int) -> int | None:
    word = typed.word(name)
    return None if word is None else _whole_of(name, word, least)


def _whole_of(name: str, word: str, least: int) -> int:
    if not word.isdecimal() or int(word) < least:
        raise InputError(f"{name} {word}: allowed is a whole number from {least}.")
    return int(word)


def _own(words: tuple[str, ...]) -> Own:
    column, design = (*(_whole_of("-evperdat", word, 1) for word in words[1:]), 1, 1)[:2]
    return Own(words[0], column, design)


def _letters(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _partition(typed: Typed) -> bool:
    """Whether -pmethodr asks for Guttman's partition, which is ours for some contrasts alone."""
    asked = _letters(typed.word("-pmethodr") or "ridgway")
    if asked not in ("ridgway", "beckmann", "guttman"):
        raise InputError(f"-pmethodr {typed.word('-pmethodr')}: allowed are Ridgway, Beckmann and Guttman.")
    if _letters(typed.word("-pmethodp") or "guttman") != "guttman":
        raise InputError(
            f"-pmethodp {typed.word('-pmethodp')}: shufflings are told apart by the columns that a contrast gives "
            "weight to. Allowed is Guttman, or to leave it out."
        )
    return asked == "guttman"


def _cluster_kind(typed: Typed) -> str:
    kind = (typed.word("-Cstat") or "extent").lower()
    if kind not in ("extent", "mass"):
        raise InputError(f"-Cstat {kind}: allowed are extent and mass.")
    return kind


def _tfce(typed: Typed) -> dict[str, float]:
    found: dict[str, float] = {}
    if "-tfce1D" in typed:
        found = {"tfce_H": 2.0, "tfce_E": 2.0, "tfce_connectivity": 6}
    if "-tfce2D" in typed:
        found = {"tfce_H": 2.0, "tfce_E": 1.0, "tfce_connectivity": 26}
    for name, option in (("-tfce_H", "tfce_H"), ("-tfce_E", "tfce_E")):
        if (value := _number(typed, name)) is not None:
            found[option] = value
    if (step := typed.word("-tfce_dh")) not in (None, "auto", "0"):
        found["tfce_dh"] = _default(_number(typed, "-tfce_dh", positive=True), step)
    if (neighbours := _whole(typed, "-tfce_C", least=6)) is not None:
        found["tfce_connectivity"] = neighbours
    return found


def _function(typed: Typed) -> str:
    words = typed.words("-npcmethod") or ("Fisher",)
    function = COMBINING.get(_letters(words[0]))
    if function is None or len(words) > 1:
        raise InputError(
            f"-npcmethod {' '.join(words)} is not supported. Allowed are Tippett, Fisher, Stouffer, Edgington, "
            "Mudholkar-George and Winer."
        )
    return function


def _multivariate(typed: Typed) -> str:
    words = typed.words("-mv") or ()
    if not words:
        return ""
    name, number = _letters(words[0]), words[1] if len(words) > 1 else ""
    if name in ("cca", "pls") and re.fullmatch("[1-9]?" if name == "cca" else "1?", number):
        return f"{name}{number or 1}"
    if name not in MULTIVARIATE or number:
        raise InputError(
            f"-mv {' '.join(words)} is not supported. Allowed are Wilks, HotellingTsq, Lawley, Pillai, Roy_ii, "
            "Roy_iii, CCA with a number up to 9, and PLS 1."
        )
    return name


def _fdr(typed: Typed) -> str | None:
    if "-fdr" not in typed:
        return None
    name = (typed.word("-fdr") or "BKY").lower()
    if name not in ("bh", "bky"):
        raise InputError(f"-fdr {name}: allowed are BH and BKY.")
    return name


def _errors(typed: Typed) -> str:
    """What is assumed of the errors; the mean of all maps, which no design asks for, is tested by sign flips alone."""
    if "-d" not in typed and "-evperdat" not in typed:
        return "ise"
    return "both" if {"-ee", "-ise"} <= set(typed.given) else "ise" if "-ise" in typed else "ee"


def _tail(typed: Typed) -> str:
    words = typed.words("-accel")
    if words is None:
        return "counts"
    if words[0] in NO_ACCELERATION:
        raise InputError(f"-accel {words[0]} is not supported: {NO_ACCELERATION[words[0]]}.")
    if words[0] not in TAILS or set(words[1:]) - {"out"}:
        raise InputError(
            f"-accel {' '.join(words)} is not supported. Allowed are tail and gamma, and 'out' behind them; p of up "
            "to 0.1 are refined."
        )
    return TAILS[words[0]]
