"""One vocabulary of what results hold: a record a quantity, which files, columns, figures, names and texts read.

A quantity that is not here can't be saved, loaded, named or drawn: who makes a new one writes it down here first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from numbaglm.data.images import Meaning
from numbaglm.errors import UnknownNameError

if TYPE_CHECKING:
    from numbaglm.spaces.space import Space

README = "README.md"
UNKNOWN = "not described"

ALPHA = 0.05
"""Results with a corrected p of this or less are called significant."""

FWE_KINDS = ("voxel", "size", "mass", "tfce")
"""What a maximum is taken of: p corrected for family-wise error are ``p_fwe_<kind>``."""

Intent = Literal["none", "t test", "f test", "z score", "p value", "log10 p value", "estimate", "label"]


@dataclass(frozen=True)
class Quantity:
    """Something that a result holds.

    Attributes
    ----------
    name
        By which code finds it: a key of ``maps`` or ``h0``, a column of the table of clusters.
    sentence
        What it is, for a README, a sidecar or the title of a column.
    label
        What figures and pages call it.
    heading
        Of a column in a table; the label where it is short enough.
    unit
        Of its values: "" where they have none; "input" for that of the maps that went in.
    stat, desc, suffix
        Parts of its file's name after BIDS; of a map alone.
    intent
        What its header says that the values are, by nibabel's name; of a map alone.
    kind
        Of what its values are: numbers, whole numbers or text.
    falls
        Whether small values are the extreme ones: what is drawn, ranked and held against a threshold is then z.
    """

    name: str
    sentence: str
    label: str
    heading: str = ""
    unit: str = ""
    stat: str = ""
    desc: str = ""
    suffix: str = "statmap"
    intent: Intent = "none"
    kind: type = float
    falls: bool = False

    @property
    def file(self) -> str:
        """Name of its file, of a map."""
        return f"{self.name}.nii.gz"

    @property
    def title(self) -> str:
        """Heading of a column, or the label."""
        return self.heading or self.label


def _by_name(*several: Quantity) -> dict[str, Quantity]:
    return {one.name: one for one in several}


_DONE_BY = {"voxel": "maximum statistic", "size": "cluster extent", "mass": "cluster mass", "tfce": "TFCE"}
_SENTENCES = {
    "voxel": "p corrected for family-wise error by the maximum statistic",
    "size": "p of the voxel's cluster by extent, corrected for family-wise error; 1 outside clusters",
    "mass": "p of the voxel's cluster by mass, corrected for family-wise error; 1 outside clusters",
    "tfce": "p of threshold-free cluster enhancement, corrected for family-wise error",
}
_HEADINGS = {"voxel": "p voxel", "size": "p extent", "mass": "p mass", "tfce": "p TFCE"}


OVER = {
    "_contrasts": "contrasts",
    "_modalities": "modalities",
    "_modalities_contrasts": "modalities and contrasts",
}
"""What p may be corrected over beside the map, by the end of their names."""

_SHORT = {"": "", "_contrasts": "contrasts", "_modalities": "modalities", "_modalities_contrasts": "both"}
"""The same, in labels."""


def _p(name: str, sentence: str, label: str, heading: str = "") -> Quantity:
    return Quantity(name, sentence, label, heading, stat="p", desc=_joined(name[2:]), intent="p value")


def _joined(name: str) -> str:
    """The words of a name as one, as BIDS has them: fwe_voxel is fweVoxel."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


_P = _by_name(
    _p(
        "p_parametric",
        "uncorrected parametric p: of one tail, or of both if the test has two sides",
        "p, uncorrected, parametric",
    ),
    _p("p_unc", "p of each voxel by shuffling, uncorrected", "p, uncorrected", "p uncorrected"),
    _p("p_unc_counted", "p_unc by counts alone, before tails refined it", "p, uncorrected, counted"),
    _p(
        "p_unc_tfce",
        "p of threshold-free cluster enhancement at each voxel by shuffling, uncorrected",
        "p, uncorrected: TFCE",
    ),
    _p("p_fdr_tfce", "p_unc_tfce adjusted to control the false discovery rate", "p, FDR: TFCE"),
    _p("p_fdr", "p_unc adjusted to control the false discovery rate", "p, FDR"),
    *(
        _p(
            f"p_fdr{kind}{over}",
            f"p_unc{kind} adjusted to control the false discovery rate over all {what} together",
            f"p, FDR{': TFCE' if kind else ''}, over {_SHORT[over]}",
        )
        for kind in ("", "_tfce")
        for over, what in OVER.items()
    ),
    _p("p_fdr_parametric", "parametric p adjusted to control the false discovery rate", "p, FDR, parametric"),
    _p("p_bonferroni", "parametric p, Bonferroni-corrected for the number of voxels", "p, Bonferroni"),
    *(_p(f"p_fwe_{kind}", _SENTENCES[kind], f"p, FWE: {_DONE_BY[kind]}", _HEADINGS[kind]) for kind in FWE_KINDS),
    *(
        _p(
            f"p_fwe_{kind}{over}",
            f"{_SENTENCES[kind]}, over all {what} too",
            f"{label}, over {_SHORT[over]}",
            f"{_HEADINGS[kind]}, {_SHORT[over]}",
        )
        for kind in FWE_KINDS
        for label in [f"p, FWE: {_DONE_BY[kind]}"]
        for over, what in OVER.items()
    ),
    *(
        _p(
            f"p_fwe_{kind}_domain{over}",
            f"{_SENTENCES[kind]}, within its domain{f', over all {what} too' if what else ''}",
            f"p, FWE: {_DONE_BY[kind]}, domain{f', over {_SHORT[over]}' if over else ''}",
            f"{_HEADINGS[kind]}, domain" if not over else "",
        )
        for kind in ("size", "mass", "tfce")
        for over, what in {"": "", **OVER}.items()
    ),
)


def _bound(p: Quantity, end: str, which: str) -> Quantity:
    sentence = f"{which} end of the interval of {p.name} by counts: what random shufflings leave open"
    label = f"{p.label}, {which} bound"
    return replace(p, name=f"{p.name}{end}", sentence=sentence, label=label, heading="", desc=p.desc + end[1:].title())


def _logp(p: Quantity) -> Quantity:
    """-log10 of a p."""
    return replace(
        p,
        name=f"log{p.name}",
        sentence=f"-log10 of {p.name}: {p.sentence}",
        label=f"\u2212log10 {p.label}",
        heading="",
        stat="logp",
        intent="log10 p value",
    )


def _source(p: Quantity) -> Quantity:
    """Where a p that a tail may have refined comes from."""
    where = "0 counts, 1 the tail of its null, 2 counts as no fit of the tail passed"
    return replace(
        p,
        name=f"source_{p.name[2:]}",
        sentence=f"where {p.name} comes from: {where}",
        label=f"source of {p.label}",
        heading="",
        stat="source",
        intent="none",
        kind=int,
    )


_SHARES = {
    "family": "what the maps of an exchangeability block share",
    "subject": "what the maps of a subject share",
    "kinship": "kinship: the heritability, where that is of genes",
    "error": "what each map has by itself",
}
"""What shares of the variance are of, by the name of the effect."""


def _share(effect: str, end: str) -> Quantity:
    """A share of the variance, or an end of its interval."""
    of = f"share of the variance that is {_SHARES[effect]}"
    which = end[1:]
    return Quantity(
        f"share_{effect}{end}",
        f"{which} end of the interval of the {of}: percentiles over clusters drawn anew" if which else of,
        f"share of {effect}{f', {which} bound' if which else ''}",
        stat="varianceshare",
        desc=effect + which.title(),
        intent="estimate",
    )


_LOADING = re.compile(r"loading_([\w.+ -]{1,200})")


def is_loading(name: str) -> bool:
    """Whether a map is of the loadings of a modality, which it is named by."""
    return _LOADING.fullmatch(name) is not None


class _AndLoadings(Mapping[str, Quantity]):
    """Maps, or columns, by name, and those of the loadings of modalities, whatever these are called."""

    def __init__(self, known: Mapping[str, Quantity], where: str = "") -> None:
        self._known, self._where = known, where

    def __getitem__(self, name: str) -> Quantity:
        found = None if name in self._known else _LOADING.fullmatch(name)
        if found is None:
            return self._known[name]
        words = re.findall("[0-9a-zA-Z]+", found[1])
        return Quantity(
            name,
            f"loading of {found[1]}: its correlation, nuisance apart, with the sum of the modalities that goes with "
            f"what is tested{self._where}",
            f"loading of {found[1]}",
            stat="loading",
            desc=_joined("_".join(words)),
            intent="estimate",
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


MAPS: Mapping[str, Quantity] = _AndLoadings(
    _by_name(
        Quantity("t", "t statistic", "t", stat="t", intent="t test"),
        Quantity("f", "F statistic", "F", stat="F", intent="f test"),
        Quantity("v", "Aspin-Welch v statistic, t with a variance for each group", "v", stat="v"),
        Quantity("g", "G statistic, F with a variance for each group", "G", stat="G"),
        Quantity("r", "part correlation: of the data about their mean with what the contrast tests", "r", stat="r"),
        Quantity("r2", "share of the variance about the mean that the contrast explains", "R\u00b2", stat="rsquared"),
        Quantity("fisher", "Fisher's combination of the p of several maps", "Fisher", stat="fisher"),
        Quantity("stouffer", "Stouffer's combination of the z of several maps", "Stouffer", stat="stouffer"),
        Quantity("tippett", "the least p of several maps (Tippett)", "Tippett", stat="tippett", falls=True),
        Quantity(
            "edgington", "the sum of the p of several maps (Edgington)", "Edgington", stat="edgington", falls=True
        ),
        Quantity(
            "mudholkar_george",
            "Mudholkar and George's combination of the p of several maps",
            "Mudholkar-George",
            stat="mudholkargeorge",
        ),
        Quantity("winer", "Winer's combination of the t of several maps", "Winer", stat="winer"),
        Quantity("conjunction", "the largest p of several maps", "conjunction", stat="conjunction", falls=True),
        Quantity("t2", "Hotelling's T^2 of several maps", "T\u00b2", stat="hotellingtsq"),
        Quantity("wilks", "Wilks' lambda of several maps", "Wilks", stat="wilks", falls=True),
        Quantity("pillai", "Pillai's trace of several maps", "Pillai", stat="pillai"),
        Quantity("lawley", "the Lawley-Hotelling trace of several maps", "Lawley-Hotelling", stat="lawleyhotelling"),
        Quantity("roy", "Roy's largest root of several maps, of H E^-1", "Roy", stat="roy"),
        Quantity("roy_theta", "Roy's largest root of several maps, of H (E + H)^-1", "Roy theta", stat="roytheta"),
        Quantity("cca", "canonical correlation of several maps with what is tested", "canonical r", stat="cca"),
        Quantity("pls", "singular value of the correlations of several maps with what is tested", "PLS", stat="pls"),
        Quantity(
            "z",
            "z of the same parametric p as the statistic; of PLS, which has none, Fisher's transform of it",
            "z",
            stat="z",
            intent="z score",
        ),
        Quantity(
            "effect",
            "contrast of the parameter estimates; for F one volume a row",
            "effect",
            unit="input",
            stat="effect",
            intent="estimate",
        ),
        Quantity(
            "effect_se",
            "standard error of the effect",
            "standard error",
            unit="input",
            stat="effectSe",
            intent="estimate",
        ),
        Quantity(
            "effect_lower",
            "lower end of the effect's 95 % confidence interval (parametric, uncorrected)",
            "effect, lower 95 % bound",
            unit="input",
            stat="effect",
            desc="lower95",
            intent="estimate",
        ),
        Quantity(
            "effect_upper",
            "upper end of the effect's 95 % confidence interval (parametric, uncorrected)",
            "effect, upper 95 % bound",
            unit="input",
            stat="effect",
            desc="upper95",
            intent="estimate",
        ),
        Quantity(
            "effect_p",
            "parametric p of the effect by its standard error, of both tails; for F of all rows",
            "p, uncorrected, parametric, of the effect",
            stat="p",
            desc="effect",
            intent="p value",
        ),
        Quantity(
            "tau2",
            "variance between subjects or studies, beside what each value has of its own",
            "\u03c4\u00b2",
            unit="input^2",
            stat="tau2",
            intent="estimate",
        ),
        Quantity(
            "i2",
            "I^2: percent of the variance that lies between subjects or studies",
            "I\u00b2",
            unit="%",
            stat="isquared",
            intent="estimate",
        ),
        Quantity(
            "cochran_q",
            "Cochran's Q: the residual sum of squares, weighted by the inverse of the variances",
            "Q",
            stat="cochranq",
            intent="estimate",
        ),
        Quantity(
            "cohens_d",
            "Cohen's d: the effect in residual standard deviations",
            "Cohen's d",
            stat="cohensd",
            intent="estimate",
        ),
        Quantity(
            "hedges_g",
            "Hedges' g: Cohen's d without its bias in small samples",
            "Hedges' g",
            stat="hedgesg",
            intent="estimate",
        ),
        Quantity(
            "partial_r2",
            "partial R^2: the effect's share of the variance that the nuisance leaves",
            "partial R\u00b2",
            stat="partialrsquared",
            intent="estimate",
        ),
        Quantity(
            "variance",
            "variance of the contrast; for F that of the residuals",
            "variance",
            unit="input^2",
            stat="variance",
            intent="estimate",
        ),
        Quantity(
            "n_subjects",
            "how many subjects have a value at the voxel",
            "subjects",
            unit="subjects",
            stat="nsubjects",
            intent="estimate",
            kind=int,
        ),
        Quantity(
            "dof", "residual degrees of freedom at the voxel", "degrees of freedom", stat="dof", intent="estimate"
        ),
        Quantity(
            "reason",
            "why the voxel was not tested, by number in the order of the warnings of the test; 0 where it was",
            "reason",
            stat="reason",
            kind=int,
        ),
        *(_share(effect, end) for end in ("", "_lower", "_upper") for effect in _SHARES),
        Quantity("tfce", "threshold-free cluster enhancement of the statistic", "TFCE", stat="tfce"),
        Quantity(
            "tdp",
            "share of true discoveries, at least, of the best cluster at any threshold that holds the voxel; with 95 % "
            "those of all clusters hold at once (all-resolution inference)",
            "true discoveries, best cluster",
            stat="tdp",
            intent="estimate",
        ),
        Quantity(
            "clusters",
            "number of the voxel's cluster in the table of clusters; 0 outside clusters",
            "cluster",
            desc="clusters",
            suffix="dseg",
            intent="label",
            kind=int,
        ),
        Quantity(
            "size",
            "extent of the voxel's cluster in voxels, or in mm2 where areas are known; 0 outside clusters",
            "cluster extent",
            unit="voxels",
            stat="clustersize",
        ),
        Quantity("mass", "mass of the voxel's cluster; 0 outside clusters", "cluster mass", stat="clustermass"),
        *(_source(one) for one in _P.values() if one.name[2:5] in ("unc", "fwe")),
        *_P.values(),
        *(_bound(one, "_lower", "lower") for one in _P.values()),
        *(_bound(one, "_upper", "upper") for one in _P.values()),
        *(_logp(one) for one in _P.values()),
    )
)
"""Every map that a result, or a parametric fit, may hold; by name, those of loadings too (`is_loading`)."""

_NULLS = _by_name(
    Quantity("max_t", "the largest t over the map", "maximum t"),
    Quantity("max_f", "the largest F over the map", "maximum F"),
    Quantity("max_z", "the largest z over the map", "maximum z"),
    Quantity(
        "max_size", "the extent of the largest cluster of the map", "maximum cluster extent (voxels)", unit="voxels"
    ),
    Quantity("max_mass", "the largest mass of a cluster of the map", "maximum cluster mass"),
    Quantity("max_tfce", "the largest value of threshold-free cluster enhancement over the map", "maximum TFCE"),
)

DOMAINS = {"surface": "surfaces", "volume": "the volume", "network": "the network", "graph": "the graph"}
"""What extents, masses and TFCE are compared within, where a map has several of them, and what texts call it."""


def _of_domains(kind: str) -> Iterator[Quantity]:
    """Nulls of one kind where there are several domains."""
    null = _NULLS[f"max_{kind}"]
    head = null.label.partition(" (voxels)")[0]
    for domain, place in DOMAINS.items():
        unit = {"surface": "mm^2", "volume": "voxels"}.get(domain, "") if kind == "size" else ""
        sentence = null.sentence.replace("the map", place)
        yield Quantity(f"{null.name}_{domain}", sentence, f"{head}, {domain}", unit=unit)
    sentence = f"the least over domains of the p of {null.sentence.replace('the map', 'each')}"
    short = {"size": "extent", "mass": "mass", "tfce": "TFCE"}[kind]
    yield Quantity(f"min_p_{kind}", sentence, f"least p by {short} over domains")


_NULLS |= _by_name(*(one for kind in ("size", "mass", "tfce") for one in _of_domains(kind)))


def _null_over(null: Quantity, over: str, what: str) -> Quantity:
    head, unit, _ = null.label.partition(" (voxels)")
    return replace(
        null,
        name=f"{null.name}{over}",
        sentence=f"{null.sentence}, and over all {what}",
        label=f"{head} over {'all ' if _SHORT[over] == what else ''}{_SHORT[over]}{unit}",
    )


NULLS: Mapping[str, Quantity] = MappingProxyType(
    _NULLS
    | _by_name(
        *(
            _null_over(one, over, what)
            for name, one in _NULLS.items()
            if name not in ("max_t", "max_f")
            for over, what in OVER.items()
        )
    )
)
"""Every null of a maximum that a result may hold, a value a shuffling."""

JOINT = (
    *("fisher", "stouffer", "tippett", "edgington", "mudholkar_george", "winer", "conjunction"),
    *("t2", "wilks", "pillai", "lawley", "roy", "roy_theta", "cca", "pls"),
)
"""Statistics of several variables, by the names of their maps."""

STATISTICS: Mapping[str, str] = MappingProxyType(
    {
        "t": "max_t",
        "f": "max_f",
        "v": "max_z",
        "g": "max_z",
        "r": "max_z",
        "r2": "max_z",
        **dict.fromkeys(JOINT, "max_z"),
    }
)
"""What can be tested, by the name of its map, and the null of its maximum over the map."""

_COLUMNS = _by_name(
    Quantity("cluster", "number, the largest first, as in the map of clusters", "cluster", kind=int),
    Quantity("sign", "sign of the effect", "sign", kind=str),
    Quantity("peak_x", "mm, to the right", "x", unit="mm"),
    Quantity("peak_y", "mm, to the front", "y", unit="mm"),
    Quantity("peak_z", "mm, up", "z", unit="mm"),
    Quantity("peak_stat", "statistic at the peak", "statistic"),
    Quantity("size_voxels", "extent in voxels", "voxels", unit="voxels", kind=int),
    Quantity("size_mm3", "extent in cubic millimetres", "mm\u00b3", unit="mm^3"),
    Quantity("mass", "the statistic summed over the cluster", "mass"),
    Quantity("p_fwe_size", "p of the extent, corrected for family-wise error over clusters", "p extent"),
    Quantity("p_fwe_mass", "p of the mass, corrected for family-wise error over clusters", "p mass"),
    Quantity("p_fwe_voxel", "p of the peak, corrected for family-wise error over voxels", "p peak"),
)
EVERY_TABLE = tuple(_COLUMNS)
"""Columns of every table of clusters in a volume; p over contrasts and intervals of p come behind, where asked for."""

_MORE = _by_name(
    Quantity(
        "tdp",
        "share of the cluster that has an effect, at least; with 95 % those of all clusters hold at once",
        "true discoveries",
        "TDP",
    ),
    Quantity("region", "region of an atlas in which the peak lies", "region", kind=str),
    Quantity("regions", "regions of that atlas, with the shares of the cluster that lie in them", "regions", kind=str),
)
"""Columns that a table of clusters has where there is something to tell."""

_PLACES = _by_name(
    Quantity("domain", "where extents are compared: surface, volume, network or graph", "domain", kind=str),
    Quantity("structure", "hemisphere or structure of the peak", "structure", kind=str),
    Quantity("peak", "vertex, edge, element or structure of the peak", "peak", kind=str),
    Quantity("peak_element", "number of the peak in the maps, from 0", "element", kind=int),
    Quantity("size_elements", "extent in vertices, voxels, edges or elements", "elements", kind=int),
    Quantity("size", "extent as the sum of the measures of its elements", "extent"),
    Quantity("unit", "unit of that extent; nothing where elements are counted", "unit", kind=str),
    Quantity("nodes", "nodes that the edges of the component join", "nodes", kind=str),
)
ELSEWHERE = (
    *("cluster", "sign", "domain", "structure", "peak", "peak_element", "peak_x", "peak_y", "peak_z", "peak_stat"),
    *("size_elements", "size", "unit", "mass", "p_fwe_size", "p_fwe_mass", "p_fwe_voxel", "nodes"),
)
"""Columns of every table of clusters on surfaces, in networks and so on."""

_DOMAIN = _by_name(
    *(
        replace(
            _COLUMNS[f"p_fwe_{kind}"],
            name=f"p_fwe_{kind}_domain",
            sentence=f"{_COLUMNS[f'p_fwe_{kind}'].sentence} of the domain alone",
            label=f"{_COLUMNS[f'p_fwe_{kind}'].label}, domain",
        )
        for kind in ("size", "mass")
    )
)

_TOO = _by_name(
    *(
        replace(
            one, name=f"{name}{over}", sentence=f"{one.sentence} and over {what}", label=f"{one.label}, {_SHORT[over]}"
        )
        for name, one in (_COLUMNS | _DOMAIN).items()
        if name.startswith("p_fwe_")
        for over, what in OVER.items()
    )
)
COLUMNS: Mapping[str, Quantity] = _AndLoadings(
    _COLUMNS
    | _MORE
    | _PLACES
    | _DOMAIN
    | _TOO
    | _by_name(
        *(
            replace(one, name=f"{name}_{end}", sentence=f"{end} end of the interval of {name}, by counts", label=end)
            for name, one in (_COLUMNS | _DOMAIN | _TOO).items()
            if name.startswith(("p_fwe_size", "p_fwe_mass"))
            for end in ("lower", "upper")
        )
    ),
    ", at the peak",
)
"""Every column that a table of clusters may have; by name, those of loadings too (`is_loading`)."""

FILES: Mapping[str, str] = MappingProxyType(
    {
        README: "this page",
        "demo.json": "what was found, in a form for programs",
        "fit.json": "what was asked, and the extremes of the maps",
        "provenance.json": "what was asked, of which data, with which seed and versions",
        "report.html": "everything on one page, with a viewer of the maps; it needs no network",
        "result.npz": "the whole result at full precision: `numbaglm.PermutationResult.load(folder)`",
        "cohort.zarr": "the maps as they are analysed, smoothed and masked: `numbaglm.Cohort.open(folder)`",
        "clusters.tsv": "a row a cluster: sign, peak in mm and its statistic, extent, mass, corrected p",
        "nulls.tsv": "a row a shuffling, the observed data first: the maximum of each statistic over the map",
        "design.tsv": "design matrix, a row a subject",
        "quality.tsv": "a row a subject: what its map holds, how like the others it is, whether and by what it stands "
        "out",
        "quality.json": "the same, and the picture that the report shows of it, in a form for programs",
        "power.tsv": "a row a number of subjects: how often anything is found, how much of the region, and intervals",
        "power_n*": "share of studies with so many subjects that find each voxel",
        "regions.tsv": "true discoveries in each region, at least",
        "discoveries.tsv": "the largest clusters with a stated share of true discoveries, each with its threshold",
        "discoveries*": "numbers of these clusters; 0 where there is none",
        "effect_at_least*": "lower ends of intervals that hold everywhere at once",
        "effect_at_most*": "upper ends of intervals that hold everywhere at once",
        "cohens_d_at_least*": "lower ends of intervals of Cohen's d that hold everywhere at once",
        "cohens_d_at_most*": "upper ends of intervals of Cohen's d that hold everywhere at once",
        "p_sequential_*": "corrected p of Besag and Clifford, of any level whenever the test stopped",
        "absent_*": "1 where the effect, of either sign, is smaller than the size in the name",
        "confidence_set_*": "where the effect is at least the size in the name: 3 surely, 2 by the estimate, 1 at most",
        "clusters_map.tsv": "numbers of clusters, as in clusters.tsv; 0 where there is none",
        "mask.nii.gz": "the voxels that are analysed",
        "space.json": "what vertices, grayordinates, parcels or edges the maps have, in a form for programs",
        "space.npz": "arrays that belong to it, such as meshes",
        "truth.nii.gz": "the effect that was planted, in standard deviations of the noise",
        "hemi-?_truth.func.gii": "the effect that was planted, in standard deviations of the noise",
        "hemi-?_midthickness.surf.gii": "the mesh of a hemisphere",
        "hemi-?_depth.shape.gii": "how deep each vertex lies in a fold, to be drawn behind results",
        "sub-*.nii.gz": "a map for each subject",
        "sub-*.func.gii": "a map for each subject and hemisphere",
        "dataset_description.json": "how the maps were simulated",
    }
)
"""What files hold that are no maps of a result, by name or pattern."""

_ELEMENTS = re.compile(
    r"(?:(?P<side>[lr])h\.)?(?P<name>\w+?|loading_[\w.+ -]+?)(?:_hemi-(?P<hemi>[LR]))?"
    r"\.(?P<ending>func\.gii|mgh|[dp]scalar\.nii|pconn\.nii|tsv)"
)

FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "subjects.png": "each subject's map from above, as it came, at a threshold of 2",
        "z.png": "z, uncorrected p < 0.001",
        "statistic.png": "the statistic, at the cluster-forming threshold",
        "corrected.png": "-log10 of the corrected p that are significant, side by side",
        "nulls.png": "the null of each maximum with its critical value, and what was observed",
        "design.png": "design matrix",
        "intervals.png": "how large the effect is, at least",
        "power.png": "how often anything is found, and how much of the region, by the number of subjects",
        "quality.png": "every map as a row, with the numbers by which it may stand out",
    }
)
"""What the figures show that commands write."""

CONTENTS: Mapping[str, str] = MappingProxyType(
    {**FILES, **{one.file: one.sentence for one in MAPS.values()}, **FIGURES}
)
"""What each file that numbaglm writes into a folder holds, by name or pattern."""


def map_of(name: str) -> Quantity:
    """Return the record of a map.

    Raises
    ------
    UnknownNameError
        There is no such quantity.
    """
    if name not in MAPS:
        raise UnknownNameError(f"There is no quantity {name!r} in `numbaglm.results.vocabulary.MAPS`.")
    return MAPS[name]


def meaning_of(name: str, dof: float | None, n_rows: int | None) -> Meaning:
    """What the header of a map says.

    Parameters
    ----------
    name
        Of the map.
    dof, n_rows
        Residual degrees of freedom, None where they differ between voxels, so that a header can't tell the
        distribution; and rows of an F contrast, None for t.
    """
    one = map_of(name)
    one = replace(one, intent="none") if dof is None and one.intent in ("t test", "f test") else one
    parameters = {"t test": (dof or 0,), "f test": (n_rows or 1, dof or 0)}.get(one.intent, ())
    plain = one.label.replace("\u2212", "-").replace("\u00b2", "^2")  # headers hold ASCII
    return Meaning(one.intent, parameters, plain)


def label_of_null(name: str) -> str:
    """What figures call a null; a name that is not in `NULLS` stands for itself."""
    return NULLS[name].label if name in NULLS else name


def with_log(name: str) -> bool:
    """Whether a map is a p that has a -log10: bounds of intervals can be 0, and have none."""
    return name.startswith("p_") and not name.endswith(("_lower", "_upper"))


def write_readme(folder: Path, title: str, text: str, space: Space | None = None) -> None:
    """Write README.md: a summary, then what each file in the folder holds, after `CONTENTS`.

    Parameters
    ----------
    folder
        Holds everything else already.
    title, text
        Heading, and what comes before the list of files.
    space
        Where maps lie, whose elements are called what they are; voxels by default.
    """
    of_space: Callable[[str], str] = str if space is None or space.is_volume else partial(_of_elements, space)
    (folder / README).touch()
    lines = [f"# {title}", "", text, "", "## What is what", ""]
    listed: dict[str, str] = {}
    for path in sorted(_leaves(folder), key=lambda path: (len(path.parts), path)):
        pattern = next((pattern for pattern in CONTENTS if fnmatch(path.name, pattern)), path.name)
        listed[path.relative_to(folder).with_name(pattern).as_posix()] = CONTENTS.get(pattern) or _of_element(pattern)
    lines += [f"- `{name}`: {of_space(what)}" for name, what in listed.items()]
    (folder / README).write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse_file(file: str) -> tuple[str, str, str] | None:
    """Name of the map, hemisphere ("L", "R" or "") and ending of a file of a map, or of the mask; None of others."""
    if file.endswith(".nii.gz"):
        name, hemisphere, ending = file.removesuffix(".nii.gz"), "", "nii.gz"
    elif found := _ELEMENTS.fullmatch(file):
        name, ending = found["name"].removesuffix("_map"), found["ending"]
        hemisphere = found["hemi"] or (found["side"] or "").upper()
    else:
        return None
    is_map = (name in MAPS and file != "clusters.tsv") or name == "mask"
    return (name, hemisphere, ending) if is_map else None


def _of_element(file: str) -> str:
    """What a file holds that is written in the format of maps on surfaces, of parcels or of networks."""
    found = parse_file(file)
    if found is None:
        return UNKNOWN
    return "what is analysed: 1, others 0" if found[0] == "mask" else MAPS[found[0]].sentence


def _of_elements(space: Space, what: str) -> str:
    """A description with the words of a space for its elements."""
    article = "an" if space.noun[0] in "aeiou" else "a"
    what = re.sub(r"\ba voxel\b", f"{article} {space.noun}", what)
    return re.sub(r"\bvoxel(s?)\b", lambda found: space.nouns if found[1] else space.noun, what)


def _leaves(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.suffix != ".zarr":
            yield from _leaves(path)
        else:
            yield path
