"""Reading a saved result: known names, types and sizes only, and one error for whatever is wrong.

Nothing in such a folder is trusted: it may be damaged, or come from someone else.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.errors import MissingFileError, StoreError
from numbaglm.results.cluster_table import typed
from numbaglm.results.provenance import Provenance
from numbaglm.results.vocabulary import (
    COLUMNS,
    ELSEWHERE,
    EVERY_TABLE,
    MAPS,
    NULLS,
    OVER,
    STATISTICS,
    Quantity,
    is_loading,
)
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import UNKNOWN_SPACE, Geometry
from numbaglm.version import __version__

if TYPE_CHECKING:
    from numbaglm.engine.quality import Quality

MARKER = "result.npz"
"""The file by which a saved result is known."""

PROVENANCE, CLUSTERS, QUALITY = "provenance.json", "clusters.tsv", "quality.json"

SPACE, SPACE_ARRAYS = "space.json", "space.npz"
"""Where elements lie that are no volume's."""

_MOST_LETTERS = 300
_GRID = ("mask", "affine")
_COORDINATES = ["peak_x", "peak_y", "peak_z"]
_ALWAYS = ("z", "effect")
_PARAMETRIC = ("p_parametric", "p_fdr_parametric", "p_bonferroni")
_SHUFFLED = ("p_unc", "p_fdr", "p_fwe_voxel")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Saved:
    """What was read, as `numbaglm.results.record.Record` takes it."""

    maps: Arrays
    h0: Arrays
    clusters: pd.DataFrame
    space: Space
    provenance: dict[str, Any]
    quality: Quality | None


def read_saved(source: Path) -> Saved:
    """Read what `Record.write` wrote.

    Raises
    ------
    MissingFileError
        There is no result.
    StoreError
        Something of it is missing, damaged, unknown, or of another type or size.
    """
    if not (source / MARKER).is_file():
        below = sorted(path.parent for path in (*source.glob(f"*/{MARKER}"), *source.glob(f"*/*/{MARKER}")))
        fix = f"Name one of those below it, such as {below[0]}." if below else "Name a saved result."
        raise MissingFileError(f"There is no result in {source}: {MARKER} is missing. {fix}")
    try:
        return _read(source)
    except Exception as error:  # libraries raise what they like for files that were tampered with
        told = " ".join(str(error).split())[:_MOST_LETTERS] or type(error).__name__
        if newer := _newer(source):
            raise StoreError(
                f"The result in {source} was saved by numbaglm {newer}, and this is {__version__}, which can't read it "
                f"({told}). Update numbaglm."
            ) from error
        raise StoreError(f"The result in {source} is damaged ({told}). Make it again.") from error


def _newer(source: Path) -> str:
    """The version that saved a result, "" where it is no newer one than this, or can't be told."""
    try:
        saved = str(json.loads(_text(source / PROVENANCE))["versions"]["numbaglm"])
        numbers = [tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (saved, __version__)]
    except Exception:  # it is damaged, then
        return ""
    return saved[:_MOST_LETTERS] if numbers[0] > numbers[1] else ""


def _read(source: Path) -> Saved:
    provenance = json.loads(_text(source / PROVENANCE))
    kept_quality = provenance.pop("quality", None) if isinstance(provenance, dict) else None  # where 0.1 had it
    asked = Provenance.parse(provenance)
    is_volume = not (source / SPACE).exists()
    arrays = _arrays(source / MARKER, _GRID if is_volume else ())
    codes = arrays.pop("codes", np.array(UNKNOWN_SPACE))  # which 0.1 did not keep
    space = Space.of(_geometry(arrays.pop("mask"), arrays.pop("affine"), codes)) if is_volume else _space(source)
    _require(space.n == asked.n_voxels, f"the mask holds {space.n} {space.nouns}, not {asked.n_voxels}")
    maps = {name[4:]: values for name, values in arrays.items() if name.startswith("map_")}
    h0 = {name[3:]: values for name, values in arrays.items() if name.startswith("h0_")}
    _check_nulls(h0, asked)
    clusters = _clusters(source / CLUSTERS)
    if "clusters" not in maps and "size" in maps:
        maps["clusters"] = _numbered(maps, clusters, space.volume, asked)
    for name, values in maps.items():
        _check_map(MAPS[name], values, asked)
    _check_whole(maps, h0, clusters, asked)
    if (source / QUALITY).exists():
        kept_quality = json.loads(_text(source / QUALITY))
    return Saved(maps, h0, clusters, space, provenance, None if kept_quality is None else _quality(kept_quality))


def _text(path: Path) -> str:
    _require(path.is_file(), f"{path.name} is missing, or no file")
    return path.read_text(encoding="utf-8")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoreError(otherwise)


def write_space(space: Space, folder: Path) -> None:
    """Write where elements lie that are no volume's: what they are, and arrays."""
    descriptions, arrays = space.describe()
    (folder / SPACE).write_text(json.dumps(descriptions) + "\n")
    named = {name.replace("/", "_", 1): array for name, array in arrays.items()}
    np.savez(folder / SPACE_ARRAYS, **cast(Any, named))


def _space(source: Path) -> Space:
    descriptions = json.loads(_text(source / SPACE))
    with (source / SPACE_ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = {name.replace("_", "/", 1): np.asarray(arrays[name]) for name in arrays.files}
    return Space.build(descriptions, found)


def _arrays(path: Path, needed: tuple[str, ...]) -> Arrays:
    """All arrays by name, once it is known that names are those of a result and bytes are as they were written."""
    known = {
        *_GRID,
        "codes",
        *(f"h0_{name}" for name in NULLS),
        *(f"map_{name}" for name in MAPS if name[:4] != "logp"),
    }
    # Opened here: np.load leaves the file of a damaged archive open.
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        for one in members:
            name = one.filename.removesuffix(".npy")
            _require(name in known or is_loading(name.removeprefix("map_")), f"{path.name} holds {name[:60]!r}")
            # What is packed may unpack to any size.
            _require(one.compress_type == zipfile.ZIP_STORED, f"{one.filename} in {path.name} is compressed")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name]) for name in arrays.files}
    missing = [name for name in needed if name not in found]
    _require(not missing, f"{path.name} has no {missing}")
    return found


def _geometry(mask: NDArray[Any], affine: NDArray[Any], codes: NDArray[Any]) -> Geometry:
    _require(mask.dtype == bool and mask.ndim == 3, f"the mask is {mask.dtype} of shape {mask.shape}")
    _require(affine.dtype.kind == "f" and affine.shape == (4, 4), f"the affine is {affine.dtype} of {affine.shape}")
    sound = bool(np.isfinite(affine).all()) and np.linalg.det(affine[:3, :3]) != 0
    _require(sound, "the affine is none of a grid")
    known = codes.dtype.kind == "i" and codes.shape == (2,) and set(codes.tolist()) <= set(range(6))
    _require(known, f"codes of the space are {codes.dtype} of shape {codes.shape}, or none of NIfTI's")
    return Geometry(mask, affine, (int(codes[0]), int(codes[1])))


def _check_nulls(h0: Mapping[str, NDArray[Any]], asked: Provenance) -> None:
    for name, null in h0.items():
        said = f"the null {name} is {null.dtype} of shape {null.shape}"
        _require(null.dtype.kind in "fiu" and null.shape == (asked.n_shufflings,), said)
        _require(not np.isnan(null).any(), f"the null {name} holds NaN")


def _check_map(one: Quantity, values: NDArray[Any], asked: Provenance) -> None:
    shape: tuple[int, ...] = (asked.n_voxels,)
    if one.name == "effect" and asked.n_effects is not None:
        shape = (asked.n_effects, asked.n_voxels)
    right = values.shape == shape and values.dtype.kind in ("f" if one.kind is float else "iu")
    _require(right, f"the map {one.name} is {values.dtype} of shape {values.shape}")
    if one.kind is float:
        _require(not np.isnan(values).any(), f"the map {one.name} holds NaN")
    if one.stat == "p":
        _require(bool(((values >= 0) & (values <= 1)).all()), f"the map {one.name} holds what is no p")


def _clusters(path: Path) -> pd.DataFrame:
    text = _text(path).splitlines()
    names = text[0].split("\t") if text else []
    whole = set(EVERY_TABLE) <= set(names) or set(ELSEWHERE) <= set(names)
    known = whole and all(name in COLUMNS for name in names) and len(set(names)) == len(names)
    _require(known, f"{path.name} has the columns {names[:20]}")
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if "peak_element" in table:  # not every peak has a place in the head
        table[_COORDINATES] = table[_COORDINATES].replace("", "nan")
    table = typed(table)
    _require(table["cluster"].tolist() == list(range(1, len(table) + 1)), f"{path.name} has clusters out of order")
    _require(set(table["sign"]) <= {"+", "-"}, f"{path.name} has signs that are none")
    numbers = table.select_dtypes("number").drop(columns=_COORDINATES if "peak_element" in table else [])
    _require(not np.isnan(numbers.to_numpy(float)).any(), f"{path.name} holds NaN")
    return table


def _check_whole(
    maps: Mapping[str, NDArray[Any]], h0: Mapping[str, NDArray[Any]], clusters: pd.DataFrame, asked: Provenance
) -> None:
    """Check that what belongs together is there."""
    needed = {asked.statistic, *_ALWAYS, *(_PARAMETRIC if asked.has_parametric_p else ())}
    if h0:
        ends = [f"{kind}{over}" for kind in ("size", "mass", "tfce") for over in ("", *OVER)]
        needed |= {*_SHUFFLED, *(f"p_fwe_{end}" for end in ends if {f"max_{end}", f"min_p_{end}"} & set(h0))}
        own = "max_z" if asked.compares_z else STATISTICS[asked.statistic]
        _require(own in h0, f"there is no null {own}")
    if {"max_size", "min_p_size"} & set(h0):
        needed |= {"size", "mass", "clusters"}
        given = asked.cluster_forming_threshold, asked.cluster_forming_statistic
        _require(None not in given, "no threshold is told that clusters were formed at")
    needed |= {f"p_fwe_voxel{over}" for over in OVER if f"max_z{over}" in h0}
    missing = sorted(needed - set(maps))
    _require(not missing, f"there are no maps {missing}")
    labels = maps.get("clusters", np.zeros(1, np.int32))
    _require(labels.min() >= 0 and labels.max() == len(clusters), "clusters on the map are not those of the table")


def _quality(kept: Any) -> Quality:
    from numbaglm.engine.quality import Quality

    return Quality.from_json(kept)


def _numbered(
    maps: Mapping[str, NDArray[Any]], clusters: pd.DataFrame, geometry: Geometry, asked: Provenance
) -> NDArray[np.int32]:
    """(n_voxels,) numbers of clusters of a result of 0.1, which kept none: of neighbours with an extent, by peaks."""
    xyz = clusters[["peak_x", "peak_y", "peak_z"]].to_numpy(float)
    inverse = np.linalg.inv(geometry.affine)
    peaks = tuple(np.rint(xyz @ inverse[:3, :3].T + inverse[:3, 3]).astype(int).T)
    inside, positive = maps["size"] > 0, maps[asked.statistic] > 0
    merged = asked.conventions["merge_signs"]
    numbers = np.zeros(geometry.shape, np.int32)
    for group in [inside] if merged else [inside & positive, inside & ~positive]:
        label, n_labels = geometry.groups(group, asked.conventions["cluster_connectivity"])
        number_of = np.zeros(n_labels + 1, np.int32)
        number_of[label[peaks]] = clusters["cluster"]
        number_of[0] = 0  # where peaks of the other sign are
        numbers += number_of[label]
    return numbers[geometry.mask]
