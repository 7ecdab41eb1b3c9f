"""Tables of maps that are no volume: clusters on surfaces and in networks, their peaks, and the elements themselves.

A part of `numbaglm.results.report`; `numbaglm.results.reporting.tables` has those of volumes, and what both share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy  # its sparse and spatial are loaded where they are used
from numpy.typing import NDArray
from scipy import ndimage

from numbaglm.display.maps.projection import decimals
from numbaglm.results.record import Record
from numbaglm.results.reporting import tables
from numbaglm.results.reporting.tables import Cell, Row, Table, cubic, number, p_cell, short, short_p
from numbaglm.results.vocabulary import COLUMNS, map_of
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.space import Part
from numbaglm.spaces.surface import Mesh, Surface
from numbaglm.spaces.volume import Geometry

_MOST_ROWS = 50
_MOST_PEAKS = 3
_MOST_NODES = 12
_APART_MM = 8.0  # as in volumes
_UNITS = {"mm2": "mm\u00b2", "mm3": "mm\u00b3"}
_P = ("p_fwe_size", "p_fwe_mass", "p_fwe_size_domain", "p_fwe_mass_domain")


def cluster_table(result: Record) -> Table:
    """Tabulate the clusters: all that are significant, and the largest of the others."""
    clusters, space = result.clusters, result.space
    placed = bool(np.isfinite(clusters["peak_x"].to_numpy(float)).any())
    measured, joined = bool((clusters["unit"] != "").any()), bool((clusters["nodes"] != "").any())
    p_names = [name for name in (*_P, *tables.over_more(result)) if name in clusters.columns]
    statistic = map_of(result.statistic).label
    columns = (
        *tables.headed("cluster", "sign", "peak"),
        *(tables.headed("peak_x", "peak_y", "peak_z") if placed else ()),
        (statistic, f"{statistic} at the peak"),
        *tables.headed("p_fwe_voxel"),
        (space.nouns, COLUMNS["size_elements"].sentence),
        *(tables.headed("size") if measured else ()),
        *tables.headed("mass", *p_names, *(("tdp",) if "tdp" in clusters else ()), *tables.loadings_of(clusters)),
        *(tables.headed("nodes") if joined else ()),
    )
    rows, digits = [], _digits(result)
    for one in clusters[tables.shown_clusters(result)].to_dict("records"):
        mm = (one["peak_x"], one["peak_y"], one["peak_z"])
        ends = {name: (one[f"{name}_lower"], one[f"{name}_upper"]) for name in p_names if f"{name}_lower" in one}
        cells = (
            Cell(str(one["cluster"]), one["cluster"]),
            Cell("\u2212" if one["sign"] == "-" else "+", one["sign"]),
            Cell(one["peak"], one["peak"]),
            *(_xyz_cells(mm, digits) if placed else ()),
            Cell(number(one["peak_stat"]), one["peak_stat"]),
            p_cell(one["p_fwe_voxel"], result.alpha),
            Cell(number(one["size_elements"], 0), one["size_elements"]),
            *((Cell(_extent(one["size"], one["unit"]), one["size"]),) if measured else ()),
            Cell(number(one["mass"], 1), one["mass"]),
            *(p_cell(one[name], result.alpha, ends.get(name)) for name in p_names),
            *((Cell(number(one["tdp"]), one["tdp"]),) if "tdp" in clusters else ()),
            *(Cell(number(one[name]), one[name]) for name in tables.loadings_of(clusters)),
            *((Cell(_few_nodes(one["nodes"]), one["nodes"]),) if joined else ()),
        )
        rows.append(Row(cells, *tables.leads(result, int(one["peak_element"]))))
    return Table(columns, tuple(rows), len(clusters) - len(rows))


def cluster_text(clusters: pd.DataFrame, statistic: str, nouns: str, n_rows: int = 10) -> str:
    """Lay the first rows of a table of clusters out to be read, as `results.reporting.tables.cluster_text` does."""
    if clusters.empty:
        return "No cluster at this threshold."
    shown = clusters.head(n_rows)
    columns = {
        "cluster": [str(one) for one in shown["cluster"]],
        "peak": list(shown["peak"]),
        statistic: [f"{value:.2f}" for value in shown["peak_stat"]],
        "p(peak)": [tables.plain_p(p) for p in shown["p_fwe_voxel"]],
        nouns: [f"{n:,}" for n in shown["size_elements"]],
        "extent": [f"{cubic(size)} {unit}".strip() for size, unit in zip(shown["size"], shown["unit"], strict=True)],
        "p(size)": [tables.plain_p(p) for p in shown["p_fwe_size"]],
        "mass": [f"{mass:,.1f}" for mass in shown["mass"]],
        "p(mass)": [tables.plain_p(p) for p in shown["p_fwe_mass"]],
        **({"TDP": [f"{share:.2f}" for share in shown["tdp"]]} if "tdp" in shown else {}),
    }
    if not (shown["unit"] != "").any():
        del columns["extent"]
    if "tdp" in shown:
        columns["TDP"] = [f"{share:.2f}" for share in shown["tdp"]]
    return tables.laid_out(columns | tables.named_regions(shown), len(clusters) - len(shown))


def peak_table(result: Record) -> Table:
    """Tabulate up to three peaks a cluster, the highest first, where elements have places that tell how far apart."""
    names = [name for name in (*tables.corrected(result), "p_unc") if name in result.maps]
    statistic, digits = map_of(result.drawn).label, _digits(result)
    columns = (
        ("cluster", "the cluster in which the peak lies"),
        *tables.headed("peak", "peak_x", "peak_y", "peak_z"),
        (statistic, f"{statistic} at the peak"),
        *_headed_p(result, names),
    )
    rows, found = [], find_peaks(result)
    places = result.space.places(np.array([element for _, element in found], np.intp))
    for (cluster, element), place in zip(found, places, strict=True):
        x, y, z = result.space.coordinates(np.array([element]))[0].tolist()
        value = float(result.maps[result.drawn][element])
        cells = (
            Cell(str(cluster), cluster),
            Cell(place, place),
            *_xyz_cells((x, y, z), digits),
            Cell(number(value), value),
            *_p_cells(result, names, element),
        )
        rows.append(Row(cells, *tables.leads(result, element)))
    return Table(columns, tuple(rows))


def element_table(result: Record) -> Table:
    """Tabulate parcels, edges or elements: those that are significant first, then the largest of the others."""
    maps = result.maps
    names = [
        name
        for name in (*tables.corrected(result), "p_fdr", "p_unc", "p_parametric", "p_bonferroni")
        if name in maps and (not result.h0 or name not in ("p_parametric", "p_bonferroni"))
    ]
    statistic = map_of(result.drawn).label
    with_effect = np.ndim(maps["effect"]) == 1
    columns = (
        (result.space.noun, f"name of the {result.space.noun}"),
        (statistic, map_of(result.drawn).sentence),
        *([(map_of("effect").title, map_of("effect").sentence)] if with_effect else []),
        *_headed_p(result, names),
    )
    height = result.height
    found = significant(result)
    order = np.lexsort((-height, ~found))[: max(_MOST_ROWS, int(found.sum()))]
    places = result.space.places(order)
    rows = []
    for element, place in zip(order.tolist(), places, strict=True):
        value = float(maps[result.drawn][element])
        effect = float(maps["effect"][element]) if with_effect else 0.0
        cells = (
            Cell(place, place),
            Cell(number(value), value),
            *((Cell(short(effect), effect),) if with_effect else ()),
            *_p_cells(result, names, element),
        )
        rows.append(Row(cells))
    return Table(columns, tuple(rows), result.space.n - len(rows))


def significant(result: Record) -> NDArray[np.bool_]:
    """(n,) where a corrected p of an element, by the maximum statistic or TFCE, is the level of the test or less."""
    found = np.zeros(result.space.n, bool)
    for name in ("p_fwe_voxel", "p_fwe_tfce", "p_bonferroni"):
        if name in result.maps and (name != "p_bonferroni" or not result.h0):
            found |= result.maps[name] <= result.alpha
    return found


def has_peaks(result: Record) -> bool:
    """Whether elements have neighbours and places, so that there are peaks to tell apart."""
    return any(_touches(part) for part in result.space.parts)


def peak_distance(result: Record) -> float:
    """Least distance of two peaks of a cluster, mm: in small heads that of the smallest part."""
    return min(_apart_in(part) for part in result.space.parts if _touches(part))


def find_peaks(result: Record) -> list[tuple[int, int]]:
    """Cluster and element of each peak: up to three a cluster, a good way apart; see `peak_distance`."""
    values, distance = np.asarray(result.maps[result.drawn], np.float64), peak_distance(result)
    number_of, found = _numbered(result), []
    for part, where in zip(result.space.parts, result.space.slices, strict=True):
        if not _touches(part):
            continue
        for sign in (1, -1):
            label = np.where(sign * values[where] > 0, number_of[where], 0)
            tops = np.flatnonzero((label > 0) & _is_top(part, np.where(label > 0, sign * values[where], -np.inf)))
            tops = tops[np.argsort(-sign * values[where][tops], kind="stable")]
            xyz = part.coordinates(tops)
            assert xyz is not None  # what touches has a place
            for cluster in np.unique(label[tops]):
                among = label[tops] == cluster
                found += [(int(cluster), where.start + int(k)) for k in tops[among][_apart(xyz[among], distance)]]
    return sorted(found, key=lambda one: (one[0], -abs(values[one[1]])))


def _numbered(result: Record) -> NDArray[np.intp]:
    """(n,) number of each element's cluster in the table; without clusters, of groups of significant neighbours."""
    if "clusters" in result.maps:
        shown = np.append(False, tables.shown_clusters(result))
        numbers = np.asarray(result.maps["clusters"], np.intp)
        return np.where(shown[numbers], numbers, 0)
    found, positive = significant(result), np.asarray(result.maps[result.drawn]) > 0
    numbers, n_before = np.zeros(result.space.n, np.intp), 0
    for part, where in zip(result.space.parts, result.space.slices, strict=True):
        for group in (found[where] & positive[where], found[where] & ~positive[where]):
            if group.any() and _touches(part):
                label, n_labels = _groups(part, group, int(result.asked.conventions["cluster_connectivity"]))
                numbers[where][group] = label[group] + n_before
                n_before += n_labels
    return numbers


def _touches(part: Part) -> bool:
    return isinstance(part, Geometry | Structures) or (isinstance(part, Surface) and part.mesh is not None)


def _grid(part: Part) -> Geometry | None:
    if isinstance(part, Structures):
        return part.volume
    return part if isinstance(part, Geometry) else None


def _edges(surface: Surface, mesh: Mesh) -> NDArray[np.intp]:
    """(n_edges, 2) which of the vertices that are analysed share an edge."""
    number_of = np.full(surface.n_vertices, -1, np.intp)
    number_of[surface.vertices] = np.arange(surface.n)
    edges = number_of[mesh.edges]
    return edges[(edges >= 0).all(axis=1)]


def _is_top(part: Part, heights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which elements of a part are as high as all of their neighbours."""
    if (grid := _grid(part)) is not None:
        volume = np.full(grid.shape, -np.inf)
        volume[grid.mask] = heights
        return np.asarray(heights == ndimage.maximum_filter(volume, 3, mode="constant", cval=-np.inf)[grid.mask])
    assert isinstance(part, Surface)
    assert part.mesh is not None
    highest = heights.copy()
    one, two = _edges(part, part.mesh).T
    np.maximum.at(highest, one, heights[two])
    np.maximum.at(highest, two, heights[one])
    return np.asarray(heights == highest)


def _groups(part: Part, inside: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[np.intp], int]:
    """(n,) numbers from 1 of the connected sets of elements, and how many there are."""
    if (grid := _grid(part)) is not None:
        numbers, n_groups = grid.groups(inside, connectivity)
        return numbers[grid.mask], n_groups
    assert isinstance(part, Surface)
    assert part.mesh is not None
    edges = _edges(part, part.mesh)
    edges = edges[inside[edges].all(axis=1)]
    graph = scipy.sparse.coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(part.n, part.n))
    label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    numbers = np.zeros(part.n, np.intp)
    _, numbers[inside] = np.unique(label[inside], return_inverse=True)
    numbers[inside] += 1
    return numbers, int(numbers.max())


def _apart(xyz: NDArray[np.float64], distance: float) -> list[int]:
    """The first of some places, each a good way from those before it."""
    kept: list[int] = []
    for k in range(len(xyz)):
        if not kept or scipy.spatial.distance.cdist(xyz[kept], xyz[k : k + 1]).min() >= distance:
            kept.append(k)
            if len(kept) == _MOST_PEAKS:
                break
    return kept


def _apart_in(part: Part) -> float:
    grid = _grid(part)
    if grid is not None:
        return tables.peak_distance(grid)
    assert isinstance(part, Surface)
    assert part.mesh is not None
    return min(_APART_MM, float(np.ptp(part.mesh.coordinates, axis=0).max()) / 20)


def _headed_p(result: Record, names: list[str]) -> Iterator[tuple[str, str]]:
    """Headings of p of elements, by what these are called."""
    for one in map(map_of, names):
        yield one.title.replace("voxel", result.space.noun), one.sentence.replace("voxel", result.space.noun)


def _p_cells(result: Record, names: list[str], element: int) -> Iterator[Cell]:
    for name in names:
        p = float(result.maps[name][element])
        # An uncorrected p is not marked: it tells nothing of the map.
        yield Cell(short_p(p), p) if name in ("p_unc", "p_parametric") else p_cell(p, result.alpha)


def _xyz_cells(mm: tuple[float, float, float], digits: int) -> tuple[Cell, ...]:
    if not np.isfinite(mm).all():
        return (Cell("\u2013", 0.0),) * 3
    return tables.xyz_cells(mm, digits)


def _digits(result: Record) -> int:
    grids = [grid for grid in map(_grid, result.space.parts) if grid is not None]
    return max((decimals(grid.voxel_sizes) for grid in grids), default=0)


def _extent(size: float, unit: str) -> str:
    return f"{cubic(size)} {_UNITS.get(unit, unit)}".strip()


def _few_nodes(nodes: str) -> str:
    names = nodes.split(", ")
    return (
        nodes if len(names) <= _MOST_NODES else f"{', '.join(names[:_MOST_NODES])} and {len(names) - _MOST_NODES} more"
    )
