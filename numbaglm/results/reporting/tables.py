"""Tables of a report: clusters, their peaks, the nulls, and the quality of the maps.

A part of `numbaglm.results.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # its spatial is loaded where it is used
from numpy.typing import NDArray
from scipy import ndimage

from numbaglm.arrays import Floats
from numbaglm.display.maps.projection import decimals
from numbaglm.engine.quality import Quality
from numbaglm.results.discoveries import discovery_map
from numbaglm.results.record import Record
from numbaglm.results.vocabulary import COLUMNS, OVER, is_loading, label_of_null, map_of
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry
from numbaglm.stats import pvalues
from numbaglm.stats.pvalues import critical_value

_MOST_ROWS = 50  # of what is not significant or does not stand out: tables are for reading, not for keeping
_MOST_PEAKS = 3
_MOST_COVERAGES = 12  # rows of the table of coverage
_APART_MM = 8.0  # on a grid of 16 cm or more; on a smaller one a twentieth of its length


@dataclass(frozen=True)
class Cell:
    """One cell: what to read, what to sort by, whether it is a significant p, and what to add in small print."""

    text: str
    value: float | str
    significant: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Cells, and where the row leads: to a place in mm, with the number of the map shown there, or to an element."""

    cells: tuple[Cell, ...]
    mm: tuple[float, ...] = ()
    volume: int | None = None
    element: int | None = None


@dataclass(frozen=True)
class Table:
    """A table: names of its columns with what they mean, and rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    n_more: int = 0


def number(value: float, digits: int = 2) -> str:
    """Write a number as it is read: thousands apart, a true minus."""
    return f"{value:,.{digits}f}".replace("-", "\u2212")


def short(value: float) -> str:
    """Write a number of any size with three digits, a true minus."""
    return f"{value:.3g}".replace("-", "\u2212")


def cubic(mm3: float) -> str:
    """Write a volume in cubic mm, which is less than 1 in small animals."""
    return number(mm3, 0) if mm3 >= 10 else short(mm3)


def times(values: Iterable[float]) -> str:
    """Write lengths as a product."""
    return " \u00d7 ".join(f"{value:.3g}" for value in values)


def short_p(p: float) -> str:
    """Write a p with four digits after the point, or as a power of ten where that would be 0."""
    return f"{p:.4f}" if p >= 5e-5 else f"{p:.0e}".replace("-", "\u2212") if p > 0 else "0"


def p_cell(p: float, alpha: float, bounds: tuple[float, float] | None = None) -> Cell:
    """Make the cell of a corrected p, which is marked where it is alpha or less."""
    note = "" if bounds is None else f"[{short_p(bounds[0])}, {short_p(bounds[1])}]"
    return Cell(short_p(p), p, p <= alpha, note)


def cluster_table(result: Record) -> Table:
    """Tabulate the clusters: all that are significant, and the largest of the others."""
    clusters = result.clusters
    columns = (
        *headed("cluster", "sign", "peak_x", "peak_y", "peak_z"),
        _peak_column(result),
        *headed("p_fwe_voxel", "size_voxels", "size_mm3", "p_fwe_size", "mass", "p_fwe_mass"),
        *headed(*over_more(result)),
        *(headed("tdp") if "tdp" in clusters else ()),
        *headed(*loadings_of(clusters)),
    )
    rows, digits = [], decimals(result.geometry.voxel_sizes)
    for one in clusters[shown_clusters(result)].to_dict("records"):
        p_size, p_mass, *over = (
            p_cell(
                one[name],
                result.alpha,
                (one[f"{name}_lower"], one[f"{name}_upper"]) if f"{name}_lower" in clusters.columns else None,
            )
            for name in ("p_fwe_size", "p_fwe_mass", *over_more(result))
        )
        mm = one["peak_x"], one["peak_y"], one["peak_z"]
        cells = (
            Cell(str(one["cluster"]), one["cluster"]),
            Cell("\u2212" if one["sign"] == "-" else "+", one["sign"]),
            *xyz_cells(mm, digits),
            Cell(number(one["peak_stat"]), one["peak_stat"]),
            p_cell(one["p_fwe_voxel"], result.alpha),
            Cell(number(one["size_voxels"], 0), one["size_voxels"]),
            Cell(cubic(one["size_mm3"]), one["size_mm3"]),
            p_size,
            Cell(number(one["mass"], 1), one["mass"]),
            p_mass,
            *over,
            *((Cell(number(one["tdp"]), one["tdp"]),) if "tdp" in clusters else ()),
            *(Cell(number(one[name]), one[name]) for name in loadings_of(clusters)),
        )
        rows.append(Row(cells, mm))
    return Table(columns, tuple(rows), len(clusters) - len(rows))


def cluster_text(clusters: pd.DataFrame, statistic: str, n_rows: int = 10, digits: int = 0) -> str:
    """Lay the first rows of a table of clusters out to be read.

    Parameters
    ----------
    clusters
        As in `PermutationResult.clusters`.
    statistic
        "t" or "f".
    n_rows
        How many rows to show.
    digits
        Of a peak's mm, after the point.
    """
    if clusters.empty:
        return "No cluster at this threshold."
    shown = clusters.head(n_rows)
    peaks = shown[["peak_x", "peak_y", "peak_z"]].round(digits) + 0.0  # no negative zero
    columns = {
        "cluster": [str(number) for number in shown["cluster"]],
        "peak (mm)": [" ".join(f"{mm:4.{digits}f}" for mm in peak) for peak in peaks.itertuples(index=False)],
        statistic: [f"{value:.2f}" for value in shown["peak_stat"]],
        "p(peak)": [plain_p(p) for p in shown["p_fwe_voxel"]],
        "voxels": [f"{n:,}" for n in shown["size_voxels"]],
        "mm3": [cubic(size) for size in shown["size_mm3"]],
        "p(size)": [plain_p(p) for p in shown["p_fwe_size"]],
        "mass": [f"{mass:,.1f}" for mass in shown["mass"]],
        "p(mass)": [plain_p(p) for p in shown["p_fwe_mass"]],
        **({"TDP": [f"{share:.2f}" for share in shown["tdp"]]} if "tdp" in shown else {}),
        **named_regions(shown),
    }
    return laid_out(columns, len(clusters) - len(shown))


def named_regions(clusters: pd.DataFrame) -> dict[str, list[str]]:
    """The column of regions of a table as text, where an atlas named them."""
    return {"region": [name or "-" for name in clusters["region"]]} if "region" in clusters else {}


def laid_out(columns: Mapping[str, Sequence[str]], more: int) -> str:
    """Lay the columns of a table of clusters out below each other, and say how many rows are left out."""
    lines = [[name, *cells] for name, cells in columns.items()]
    widths = [max(map(len, cells)) for cells in lines]
    rows = zip(*lines, strict=True)
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    heading = "Clusters, p corrected for family-wise error"
    if "TDP" in columns:
        heading += "; TDP, the share that has an effect, at least"
    return "\n".join([f"{heading}:", *table, *([f"... {more} more"] if more else [])])


def plain_p(p: float) -> str:
    """As `short_p`, for a terminal: some have no minus but the hyphen."""
    return f"{p:.4f}" if p >= 5e-5 else f"{p:.0e}"


def peak_distance(geometry: Geometry) -> float:
    """Least distance of two peaks of a cluster, mm."""
    return min(_APART_MM, float((geometry.voxel_sizes * geometry.shape).max()) / 20)


def shown_clusters(result: Record) -> NDArray[np.bool_]:
    """(n_clusters,) which clusters have a place in the table."""
    p = result.clusters[["p_fwe_size", "p_fwe_mass", "p_fwe_voxel"]].to_numpy(float)
    return np.asarray((p <= result.alpha).any(axis=1) | (np.arange(len(p)) < _MOST_ROWS))


def peak_table(result: Record) -> Table:
    """Tabulate up to three peaks a cluster, `peak_distance` apart or more, the highest first.

    Without a cluster-forming threshold, the clusters are those of voxels with a significant corrected p.
    """
    maps = [name for name in (*corrected(result), "p_unc") if name in result.maps]
    columns = (
        ("cluster", "the cluster in which the peak lies"),
        *XYZ,
        _peak_column(result, result.drawn),
        *((one.title, one.sentence) for one in map(map_of, maps)),
    )
    rows, digits = [], decimals(result.geometry.voxel_sizes)
    for cluster, voxel in find_peaks(result):
        mm = tuple(float(x) for x in result.geometry.coordinates(np.array([voxel]))[0])
        value = float(result.maps[result.drawn][voxel])
        values = [float(result.maps[name][voxel]) for name in maps]
        # An uncorrected p is not marked: it tells nothing of the map.
        marked = [
            Cell(short_p(x), x) if name == "p_unc" else p_cell(x, result.alpha)
            for name, x in zip(maps, values, strict=True)
        ]
        cells = (Cell(str(cluster), cluster), *xyz_cells(mm, digits), Cell(number(value), value), *marked)
        rows.append(Row(cells, mm))
    return Table(columns, tuple(rows))


def corrected(result: Record) -> list[str]:
    """Names of corrected p of elements: over the map, and over as much as they are."""
    return [f"p_fwe_{kind}{end}" for end in dict.fromkeys(["", result.widest]) for kind in ("voxel", "tfce")]


def null_table(result: Record) -> Table:
    """Tabulate the nulls: what was observed, and what it had to reach."""
    columns = (
        ("null", "the largest value over the map, of each shuffling"),
        ("observed", "of the data as they are"),
        ("critical value", f"the least value of the null whose corrected p is {result.alpha:g} or less"),
        ("p", "corrected for family-wise error, of the observed maximum"),
    )
    rows = []
    for name, given in result.h0.items():
        null = upward(name, given)
        critical = critical_value(null, result.counted_level(name, result.alpha))
        label = null_label(result, name)
        p = float(_p_of_null(result, name).min())  # as it was counted, ties and all, or refined
        out_of_reach = "none: too few shufflings"
        cells = (
            Cell(label, label),
            Cell(f"{null[0]:,.5g}", float(null[0])),
            Cell(f"{critical:,.5g}" if np.isfinite(critical) else out_of_reach, critical),
            p_cell(p, result.alpha),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


def upward(name: str, null: Floats) -> Floats:
    """(n_shufflings,) a null whose large values are the rare ones: -log10 of the least p over domains."""
    return pvalues.logp(np.asarray(null, np.float64)) if name.startswith("min_p_") else null


def null_label(result: Record, name: str) -> str:
    """What figures and tables call a null, with the unit that extents have in this space."""
    label = label_of_null(name)
    if name.startswith("min_p_"):
        return f"\u2212log10 {label}"
    units = {part.domain: part.unit for part in result.space.parts}
    unit = next(iter(units.values())) if len(units) == 1 else ""
    wanted = "voxels" if result.space.is_volume else {"mm2": "mm\u00b2"}.get(unit, result.space.nouns)
    return label.replace("(voxels)", f"({wanted})")


def _p_of_null(result: Record, name: str) -> Floats:
    """Corrected p that are of a null, of the elements that it is of."""
    over = max((one for one in OVER if name.endswith(one)), key=len, default="")
    kind, _, domain = name.removesuffix(over).partition("_")[2].removeprefix("p_").partition("_")
    if kind in ("t", "f", "z"):
        return result.maps[f"p_fwe_voxel{over}"]
    if not domain:
        return result.maps[f"p_fwe_{kind}{over}"]
    inside = np.zeros(result.space.n, bool)
    for part, where in zip(result.space.parts, result.space.slices, strict=True):
        inside[where] = part.domain == domain
    return result.maps[f"p_fwe_{kind}_domain{over}"][inside]


def quality_table(found: Quality) -> Table:
    """Tabulate the maps: those that stand out first, then the others as far as there is room."""
    columns = (
        ("subject", "label of the map"),
        ("stands out by", "what is far from that of the other maps"),
        ("mean", "over the voxels of the mask"),
        ("sd", "over the voxels of the mask"),
        ("least", "smallest value in the mask"),
        ("greatest", "largest value in the mask"),
        ("correlation", "with the median of all maps, over voxels"),
        ("missing", "voxels that the map lacks, though not all maps do: outside the mask, or 0 in it"),
        ("% missing", "the same as a share of the mask and of what the map lacks outside it"),
    )
    odd = {name: measure.odd for name, measure in found.measures.items()}
    table = found.table.assign(
        n=pd.to_numeric(found.table["n_missing_voxels"]).fillna(0).astype(np.int64) + found.table["n_empty_voxels"],
        row=range(len(found.table)),
    ).sort_values("outlier", ascending=False, kind="stable")
    rows: list[Row] = []
    for label, one in zip(table.index, table.to_dict("records"), strict=True):
        if not one["outlier"] and len(rows) >= _MOST_ROWS:
            break
        marked = {name: bool(which[one["row"]]) for name, which in odd.items()}
        cells = (
            Cell(str(label), str(label)),
            Cell(one["reason"], one["reason"]),
            Cell(short(one["mean"]), one["mean"], marked["mean"]),
            Cell(short(one["sd"]), one["sd"], marked["sd"]),
            Cell(short(one["min"]), one["min"]),
            Cell(short(one["max"]), one["max"]),
            Cell(number(one["correlation"]), one["correlation"], marked["correlation"]),
            Cell(number(one["n"], 0), one["n"]),
            Cell(number(100 * one["missing"], 1), one["missing"], marked["missing"]),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows), len(table) - len(rows))


def discovery_table(result: Record, tdp: float = 0.7) -> Table | None:
    """Tabulate the largest clusters of which a share has an effect, at least; None where there is none, or no bound."""
    if "tdp" not in result.maps or not (result.maps["tdp"] >= tdp).any():
        return None
    found, space = discovery_map(result, tdp).clusters, result.space
    placed = bool(np.isfinite(found["peak_x"].to_numpy(float)).any())
    statistic = map_of(result.statistic).label
    columns = (
        ("cluster", "in the order of their sizes; not those of the table of clusters"),
        *headed("sign", *(() if space.is_volume else ("peak",))),
        *(XYZ if placed else ()),
        (statistic, f"{statistic} at the peak"),
        (space.nouns, f"{space.nouns} of the cluster"),
        ("at least", f"{space.nouns} of the cluster that have an effect, at least"),
        *headed("tdp"),
        ("z", "the threshold at which it is a cluster"),
    )
    digits = decimals(space.volume.voxel_sizes) if space.is_volume else 0
    rows = []
    for one in found.head(_MOST_ROWS).to_dict("records"):
        mm = (one["peak_x"], one["peak_y"], one["peak_z"])
        cells = (
            Cell(str(one["cluster"]), one["cluster"]),
            Cell("\u2212" if one["sign"] == "-" else "+", one["sign"]),
            *(() if space.is_volume else (Cell(one["peak"], one["peak"]),)),
            *(xyz_cells(mm, digits) if placed else ()),
            Cell(number(one["peak_stat"]), one["peak_stat"]),
            Cell(number(one["n_elements"], 0), one["n_elements"]),
            Cell(number(one["n_true"], 0), one["n_true"]),
            Cell(number(one["tdp"]), one["tdp"]),
            Cell(number(one["threshold"]), one["threshold"]),
        )
        rows.append(Row(cells, *leads(result, int(one["peak_element"]))))
    return Table(columns, tuple(rows), len(found) - len(rows))


def leads(result: Record, element: int) -> tuple[tuple[float, ...], int | None, int | None]:
    """Return where a row leads: the place in mm for slices, or the vertex for surfaces; no map of its own."""
    (part,) = (result.space.parts[k] for k in result.space.part_of(np.array([element])))
    if isinstance(part, Geometry | Structures):
        return tuple(result.space.coordinates(np.array([element]))[0].tolist()), None, None
    return (), None, element if isinstance(part, Surface) and part.mesh is not None else None


def coverage_table(result: Record) -> Table | None:
    """Tabulate how many elements have how many subjects; None where all have all of them, or tests left such out."""
    maps, whole = result.maps, result.asked.n_subjects
    if result.asked.missing != "element" or (maps["n_subjects"] == whole).all():
        return None
    n, dof, nouns = maps["n_subjects"], maps["dof"], result.space.nouns
    untested = maps["reason"] > 0 if "reason" in maps else np.zeros(n.size, bool)
    columns = (
        ("subjects", f"who have a value at the {nouns}"),
        (nouns, f"{nouns} with so many subjects"),
        (f"% of {nouns}", f"the same as a share of all {nouns}"),
        ("degrees of freedom", f"of the test at these {nouns}, where it was made"),
        ("not tested", f"{nouns} that have too few subjects, or none that tell the design's columns apart"),
    )
    rows = []
    for least, most in _ranges(np.unique(n)):
        those = (n >= least) & (n <= most)
        free = dof[those & ~untested]
        n_such, n_untested = int(np.count_nonzero(those)), int(np.count_nonzero(those & untested))
        span = "" if not free.size else _span(short(float(free.min())), short(float(free.max())))
        share = 100 * n_such / n.size
        cells = (
            Cell(_span(str(least), str(most)), least),
            Cell(number(n_such, 0), n_such),
            Cell(number(share, 1), share),
            Cell(span, float(free.max()) if free.size else 0.0),
            Cell(number(n_untested, 0), n_untested),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows))


def _ranges(counts: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Numbers of subjects (ascending) from the most to the least: each, or a few ranges of them where they are many."""
    first, rest = counts[-1:], counts[-2::-1]
    parts = [first, *np.array_split(rest, min(len(rest), _MOST_COVERAGES - 1))] if len(rest) else [first]
    return [(int(one[-1]), int(one[0])) for one in parts]


def _span(least: str, most: str) -> str:
    """Write a range, or the one number that it is."""
    return least if least == most else f"{least} to {most}"


def find_peaks(result: Record) -> list[tuple[int, int]]:
    """Cluster and in-mask voxel of each peak."""
    geometry, found = result.geometry, []
    statistic, distance = (
        geometry.unmask(np.asarray(result.maps[result.drawn], np.float64)),
        peak_distance(geometry),
    )
    for sign, label in _labels(result):
        heights = np.where(label > 0, sign * statistic, -np.inf)
        highest = np.argwhere((label > 0) & (heights == ndimage.maximum_filter(heights, 3)))
        highest = highest[np.argsort(-heights[tuple(highest.T)], kind="stable")]
        for cluster in np.unique(label[tuple(highest.T)]):
            among = highest[label[tuple(highest.T)] == cluster]
            found += [(int(cluster), ijk) for ijk in _apart(among, geometry.affine, distance)]
    voxel_at = geometry.unmask(np.arange(geometry.n_voxels))
    return [(cluster, int(voxel_at[ijk])) for cluster, ijk in sorted(found, key=lambda one: one[0])]


def _labels(result: Record) -> list[tuple[int, NDArray[np.intp]]]:
    """Of each sign, the volume of the numbers that its clusters have in their table; 0 elsewhere.

    Signs are looked at apart, as conventions that merge them have peaks of both in one cluster.
    """
    maps, geometry = result.maps, result.geometry
    if "clusters" in maps:
        shown = np.append(False, shown_clusters(result))
        number_of = geometry.unmask(np.where(shown[maps["clusters"]], maps["clusters"], 0))
    else:
        number_of = _significant_groups(result)
    positive = maps[result.drawn] > 0
    sides = [(1, geometry.unmask(positive)), (-1, geometry.unmask(~positive))]
    return [(sign, np.where(side, number_of, 0)) for sign, side in sides]


def _significant_groups(result: Record) -> NDArray[np.intp]:
    """Number the groups of significant neighbours, where no clusters were formed."""
    geometry, conventions = result.geometry, result.asked.conventions
    found, positive = significant(result), result.maps[result.drawn] > 0
    number_of, n_before = np.zeros(geometry.shape, np.intp), 0
    for group in [found] if conventions["merge_signs"] else [found & positive, found & ~positive]:
        label, n_labels = geometry.groups(group, conventions["cluster_connectivity"])
        number_of += np.where(label > 0, label + n_before, 0)
        n_before += n_labels
    return number_of


def significant(result: Record) -> NDArray[np.bool_]:
    """(n_voxels,) where a corrected p of a voxel, by maximum statistic or TFCE, is the level of the test or less."""
    found = np.zeros(result.geometry.n_voxels, bool)
    for name in ("p_fwe_voxel", "p_fwe_tfce"):
        if name in result.maps:
            found |= result.maps[name] <= result.alpha
    return found


def _apart(ijk: NDArray[np.intp], affine: NDArray[np.float64], distance: float) -> list[tuple[int, ...]]:
    """The first voxels of some, each a good way from those before it."""
    xyz = ijk @ affine[:3, :3].T
    kept: list[int] = []
    for k in range(len(xyz)):
        if not kept or scipy.spatial.distance.cdist(xyz[kept], xyz[k : k + 1]).min() >= distance:
            kept.append(k)
            if len(kept) == _MOST_PEAKS:
                break
    return [tuple(int(n) for n in ijk[k]) for k in kept]


def over_more(result: Record) -> list[str]:
    """p of clusters that are corrected over more than the map, over as much as there is."""
    names = (f"p_fwe_{kind}{result.widest}" for kind in ("size", "mass") if result.widest)
    return [name for name in names if name in result.clusters.columns]


def loadings_of(clusters: pd.DataFrame) -> list[str]:
    """Columns of the loadings of modalities, at the peaks."""
    return [name for name in map(str, clusters) if is_loading(name)]


def headed(*names: str) -> list[tuple[str, str]]:
    """Columns of the table of clusters: heading, and what it means."""
    return [(COLUMNS[name].title, COLUMNS[name].sentence) for name in names]


XYZ = tuple(headed("peak_x", "peak_y", "peak_z"))
"""Columns of a place."""


def _peak_column(result: Record, name: str | None = None) -> tuple[str, str]:
    statistic = map_of(name or result.statistic).label
    return statistic, f"{statistic} at the peak"


def xyz_cells(mm: Sequence[float], digits: int) -> tuple[Cell, ...]:
    """Write a place in mm, with so many digits after the point."""
    return tuple(Cell(number(round(x, digits) + 0.0, digits), x) for x in mm)


def weight_rows(columns: Sequence[str], rows: Sequence[Sequence[float]]) -> list[tuple[str, list[str]]]:
    """Each regressor with its weight in every row of a contrast, or of several."""
    return [(name, [f"{row[k]:g}".replace("-", "\u2212") for row in rows]) for k, name in enumerate(columns)]
