"""The record of a permutation test: data, its summary, and how it is saved and loaded whole.

`numbaglm.results.result` adds what draws it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.data import images  # what is of elements is loaded where it is used
from numbaglm.data.images import Meaning, outside, save_maps, to_image
from numbaglm.data.storage.folders import whole_folder
from numbaglm.errors import InputError, UnknownNameError, invalid, near
from numbaglm.results.provenance import STOPPED, Provenance
from numbaglm.results.saved import CLUSTERS, PROVENANCE, QUALITY, read_saved, write_space
from numbaglm.results.saved import MARKER as MARKER
from numbaglm.results.vocabulary import ALPHA, MAPS, OVER, STATISTICS, map_of, meaning_of, with_log, write_readme
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from numbaglm.stats import pvalues
from numbaglm.stats.anytime import besag_clifford, counted_level
from numbaglm.stats.conventions import is_probability

if TYPE_CHECKING:
    from numbaglm.engine.quality import Quality

_TIE = 1e-5  # relative: maxima of the shufflings are of single precision


class LogpMaps(Mapping[str, NDArray[Any]]):
    """Maps by name; beside each ``p_x`` its ``logp_x`` = -log10 p, made when it is asked for."""

    def __init__(self, stored: Mapping[str, NDArray[Any]]) -> None:
        self.stored = MappingProxyType(dict(stored))

    def __getitem__(self, name: str) -> NDArray[Any]:
        if isinstance(name, str):
            if name in self.stored:
                return self.stored[name]
            p = name.removeprefix("log")
            if p != name and p in self.stored and with_log(p):
                return pvalues.logp(np.asarray(self.stored[p], dtype=np.float64))
        raise _no_such("map", name, self)

    def __iter__(self) -> Iterator[str]:
        yield from self.stored
        yield from (f"log{name}" for name in self.stored if with_log(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"maps {list(self)}"


@dataclass(frozen=True, eq=False)
class Record:
    """The outcome of a permutation test of one contrast; `PermutationResult` tells what it holds."""

    maps: Mapping[str, Floats]
    h0: Mapping[str, Floats]
    clusters: pd.DataFrame
    space: Space
    provenance: Mapping[str, Any]
    quality: Quality | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space.of(self.space))
        object.__setattr__(self, "maps", LogpMaps(_frozen(self.maps)))
        object.__setattr__(self, "h0", MappingProxyType(_frozen(self.h0)))
        plain = json.loads(json.dumps(dict(self.provenance), default=_plain))
        object.__setattr__(self, "provenance", MappingProxyType(plain))

    def __reduce__(self) -> tuple[Any, ...]:
        maps = {name: self.maps[name] for name in self.maps if not name.startswith("logp_")}
        return type(self), (maps, dict(self.h0), self.clusters, self.space, dict(self.provenance), self.quality)

    @cached_property
    def asked(self) -> Provenance:
        """The provenance as a typed record: what code reads; `provenance` is what is kept and shown.

        Raises
        ------
        InputError
            It is not what a test writes.
        """
        return Provenance.parse(dict(self.provenance))

    @property
    def geometry(self) -> Geometry:
        """The voxels that were analysed, where these are one volume; see `Space.volume`."""
        return self.space.volume

    @property
    def statistic(self) -> str:
        """Name of the statistic's map, "t" or "f" ("v" or "g" with variance groups)."""
        return next(name for name in STATISTICS if name in self.maps)

    @property
    def drawn(self) -> str:
        """Name of the map whose large values are the extreme ones: the statistic, or z where its small ones are."""
        return "z" if map_of(self.statistic).falls else self.statistic

    @property
    def height(self) -> NDArray[Any]:
        """(n_elements,) how extreme each is: what is drawn, or its magnitude where both signs count."""
        values = self.maps[self.drawn]
        return np.abs(values) if self.asked.two_sided else np.asarray(values)

    @property
    def max_statistic(self) -> str:
        """Name of the voxelwise null, "max_t" or "max_f"; "max_z" where voxels are compared as z."""
        return "max_z" if self.asked.compares_z else STATISTICS[self.statistic]

    def to_nifti(self, name: str) -> Any:
        """One of the maps as a nibabel image (float32; 4D for the effect of an F contrast).

        Outside the mask p maps are 1, all others 0. `to_image` is for maps of every space.

        Raises
        ------
        UnknownNameError
            There is no such map.
        InputError
            The maps do not lie in a volume.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.permutation_test(maps, n_perm=255).to_nifti("logp_fwe_voxel").shape
        (19, 22, 18)
        """
        values = self.maps[name]
        if not self.space.is_volume:
            raise InputError(f"to_nifti is for maps of a volume, and these lie on {self.space.label}: use to_image.")
        return to_image(self.geometry, values, outside(name), meaning=self._meaning(name) if name in MAPS else None)

    def to_image(self, name: str) -> Any:
        """One of the maps in the format that the maps of the cohort came in.

        Where an element was left out p maps are 1, all others 0.

        Returns
        -------
        `to_nifti` of a volume; GIFTI images, or those of FreeSurfer's overlays, by hemisphere; a CIFTI image on the
        axes of the cohort's; or a DataFrame, of parcels or nodes by nodes.

        Raises
        ------
        UnknownNameError
            There is no such map.

        Examples
        --------
        >>> import numpy as np, pandas as pd, numbaglm as ng
        >>> thickness = np.random.default_rng(0).normal(size=(8, 2))
        >>> table = pd.DataFrame(thickness, columns=["insula", "cuneus"])
        >>> list(ng.permutation_test(table, n_perm=255).to_image("p_fwe_voxel").columns)
        ['insula', 'cuneus']
        """
        if self.space.is_volume:
            return self.to_nifti(name)
        return images.element_image(self.space, self.maps[name], outside(name), name, self._meaning(name).intent)

    def _meaning(self, name: str) -> Meaning:
        """What the header of a map says."""
        return meaning_of(name, None if self.asked.missing == "element" else self.asked.dof, self.asked.n_rows)

    @property
    def alpha(self) -> float:
        """Level that corrected p are held against: the one that the test stopped by (``stop="decided"``), else 0.05."""
        ended = self.provenance.get(STOPPED)
        return ALPHA if ended is None else float(ended["alpha"])

    def critical(self, name: str, alpha: float = ALPHA) -> float:
        """Value that a statistic must exceed, by a null such as "max_t", for a corrected p of at most alpha.

        p are counted; where the test might stop early, they are anytime p, made to be compared with `alpha`. Infinity
        if no value could reach alpha (too few shufflings). Of a null of the least p over domains, "min_p_size" and so
        on, it is the p that one must be below, 0 if none could be.

        Raises
        ------
        InputError, UnknownNameError
            Alpha is no probability, or there is no such null.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=12, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=999)
        >>> reached = abs(result.maps["t"]) > result.critical("max_t", alpha=0.05)
        >>> bool((reached == (result.maps["p_fwe_voxel"] <= 0.05)).all())
        True
        """
        if not is_probability(alpha):
            raise InputError(invalid("alpha", alpha, "a probability between 0 and 1"))
        if not isinstance(name, str) or name not in self.h0:
            raise _no_such("null", name, self.h0)
        alpha = self.counted_level(name, alpha)
        if name.startswith("min_p_"):
            return max(0.0, -pvalues.critical_value(-self.h0[name], alpha))
        return pvalues.critical_value(self.h0[name], alpha)

    def counted_level(self, name: str, alpha: float) -> float:
        """Largest p, counted by a null, that is a corrected p of alpha or less: alpha itself but for anytime p.

        Parameters
        ----------
        name
            Of the null, such as "max_t".
        alpha
            Level of the corrected p.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.permutation_test(maps, n_perm=99).counted_level("max_t", 0.05)
        0.05
        """
        ended = self.provenance.get(STOPPED)
        return alpha if ended is None else counted_level(len(self.h0[name]) - 1, alpha, ended["alpha"])

    def sequential_p(self, kind: str = "voxel", losses: int = 10) -> NDArray[np.float64]:
        """Corrected p of Besag and Clifford: losses over the random shufflings until so many reached what was observed.

        They hold at any level whenever the test was stopped, for every element at once as corrected p do, and wherever
        fewer were lost until then they are above what more shufflings would show. Say the losses before you look.

        Parameters
        ----------
        kind
            "voxel", "size", "mass" or "tfce": what the corrected p are of, as in ``p_fwe_<kind>``.
        losses
            1 or more. More tell large p better, and take more shufflings to tell small ones.

        Returns
        -------
        (n_elements,) p; of clusters those of each element's cluster, 1 outside.

        Raises
        ------
        InputError
            There is no such null over the whole map, or its shufflings are not random: enumerated, or listed.

        References
        ----------
        Besag and Clifford (1991), Biometrika 78:301-304.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=20, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=999, stop="decided")
        >>> p = result.sequential_p("voxel")
        >>> bool((p >= 10 / result.asked.n_shufflings).all())
        True
        """
        if isinstance(losses, bool) or not isinstance(losses, int | np.integer) or losses < 1:
            raise InputError(invalid("losses", losses, "a whole number of 1 or more"))
        named = isinstance(kind, str)
        name = self.max_statistic if named and kind == "voxel" else f"max_{kind}"
        if not named or kind not in ("voxel", "size", "mass", "tfce") or name not in self.h0:
            raise InputError(
                invalid(
                    "kind",
                    kind if named else f"a {type(kind).__name__}",
                    f"one that has a null over the map: {list(self.h0)}",
                )
            )
        if self.asked.exhaustive or self.asked.own_shufflings is not None:
            raise InputError(
                "Sequential p are of random shufflings in the order in which they were made, and these were "
                f"{'all there are' if self.asked.exhaustive else 'listed'}: p_fwe_{kind} are what there is to know."
            )
        observed = np.asarray(self.maps[name.removeprefix("max_")], np.float64)
        if kind == "tfce" or (kind == "voxel" and self.asked.two_sided):
            observed = np.abs(observed)
        p = besag_clifford(observed * (1 - np.sign(observed) * _TIE), np.asarray(self.h0[name][1:], np.float64), losses)
        return p if kind in ("voxel", "tfce") else np.where(self.maps["clusters"] > 0, p, 1.0)

    @property
    def over_contrasts(self) -> bool:
        """Whether there are p that are corrected over contrasts too, ``p_fwe_voxel_contrasts`` and so on."""
        return "p_fwe_voxel_contrasts" in self.maps

    @property
    def widest(self) -> str:
        """What p are corrected over beside the map, as far as they are: an end of their names, see `OVER`; or ""."""
        return next((over for over in reversed(OVER) if f"p_fwe_voxel{over}" in self.maps), "")

    def summary(self) -> str:
        """A few lines on what was found.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> print(ng.permutation_test(maps, cluster_forming_threshold=None).summary())  # doctest: +ELLIPSIS
        intercept: 1,207 voxels, 8 subjects, 256 shufflings
        Shuffling by sign flips (...), since the contrast tests a mean: all 256 distinct shufflings.
        voxels with FWE p <= 0.05: 0 (t > 8.950)
        """
        asked = self.asked
        first = f"{asked.contrast}: {self.space.n:,} {self.space.nouns}, {asked.data}"
        if asked.weighted_by is not None:
            first += f" weighted by {asked.weighted_by if asked.between is not None else 'what was given'}"
        if not self.h0:
            return f"{first}\nparametric maps alone"
        alpha = self.alpha
        critical = self.critical(self.max_statistic, alpha)
        reached = f"{self.max_statistic[4:]} > {critical:.3f}" if np.isfinite(critical) else "out of reach"
        n = int(np.sum(self.maps["p_fwe_voxel"] <= alpha))
        lines = [
            f"{first}, {asked.n_shufflings:,} shufflings",
            asked.shuffling,
            *self._end(),
            f"{self.space.nouns} with FWE p <= {alpha:g}: {n:,} ({reached})",
        ]
        for kind in ("size", "mass"):
            if f"p_fwe_{kind}" in self.maps:
                n = int(np.sum(self.clusters[f"p_fwe_{kind}"] <= alpha))
                lines.append(f"clusters with FWE p <= {alpha:g} by {kind}: {n} of {len(self.clusters)}")
        if "p_fwe_tfce" in self.maps:
            n = int(np.sum(self.maps["p_fwe_tfce"] <= alpha))
            lines.append(f"{self.space.nouns} with FWE p <= {alpha:g} by TFCE: {n:,}")
        lines += [
            f"with FWE p <= 0.05 over all {what}: {', '.join(self.found_over(over))}"
            for over, what in OVER.items()
            if f"p_fwe_voxel{over}" in self.maps
        ]
        return "\n".join(lines)

    def _end(self) -> list[str]:
        """Say how a test ended that might stop early."""
        ended = self.provenance.get(STOPPED)
        if ended is None:
            return []
        what = f"{ended['n_open']:,} corrected p open" if ended["n_open"] else "corrected p decided"
        how = "Interrupted" if ended.get("interrupted") else "Ended"
        return [
            f"{how} after {ended['n_random']:,} of {ended['n_perm']:,} random shufflings, {what} against "
            f"{ended['alpha']:g}: p hold whenever it ends."
        ]

    def found_over_contrasts(self, alpha: float = ALPHA) -> list[str]:
        """Say how many voxels and clusters there are with a p, corrected over contrasts too, of at most alpha.

        Examples
        --------
        >>> import numpy as np, pandas as pd, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=12, voxel_size=10.0).maps
        >>> design = pd.DataFrame({"mean": 1.0, "age": np.arange(-5.5, 6.0)})
        >>> options = {"n_perm": 255, "cluster_forming_threshold": None, "fwe_across_contrasts": True}
        >>> both = ng.permutation_test(maps, design, {"mean": "mean", "age": "age"}, errors="ise", **options)
        >>> both["age"].found_over_contrasts()
        ['0 voxels']
        """
        return self.found_over("_contrasts", alpha)

    def found_over(self, over: str, alpha: float = ALPHA) -> list[str]:
        """Say the same of p whose names have another end, see `numbaglm.results.vocabulary.OVER`.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> one = ng.Cohort.from_maps(maps)
        >>> both = ng.permutation_test({"a": one, "b": one}, cluster_forming_threshold=None)
        >>> both["a"].found_over("_modalities")
        ['0 voxels']
        """
        found = []
        kinds: dict[str, tuple[Any, str]] = {
            "voxel": (self.maps, self.space.nouns),
            "size": (self.clusters, "clusters by size"),
            "mass": (self.clusters, "clusters by mass"),
            "tfce": (self.maps, f"{self.space.nouns} by TFCE"),
        }
        for kind, (where, noun) in kinds.items():
            if (name := f"p_fwe_{kind}{over}") in where:
                found.append(f"{int(np.sum(where[name] <= alpha)):,} {noun}")
        return found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary()}>"

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write everything into a folder: maps as NIfTI, tables as TSV, a README of what is what.

        Parameters
        ----------
        folder
            Appears whole or not at all.
        overwrite
            Whether a result that is there is replaced. Nothing but a result is ever replaced.

        Raises
        ------
        OutputExistsError, OutputError
            The folder exists, or can't be written.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> folder = ng.permutation_test(maps, n_perm=255).save("results")
        >>> sorted(path.name for path in folder.glob("*fwe_voxel*"))
        ['logp_fwe_voxel.nii.gz', 'p_fwe_voxel.nii.gz']
        """
        with whole_folder(folder, MARKER, overwrite) as part:
            self.write(part)
            write_readme(part, self.asked.contrast, self.markdown(), self.space)
        return Path(folder).expanduser()

    def markdown(self) -> str:
        """Return the summary as a list.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> print(ng.permutation_test(maps, n_perm=0).markdown().splitlines()[-1])
        - parametric maps alone
        """
        return "\n".join(f"- {line}" for line in self.summary().splitlines())

    def write(self, folder: Path) -> None:
        """Write maps and tables into a folder that is there: `save` without its care.

        Examples
        --------
        >>> import pathlib, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> (folder := pathlib.Path("results")).mkdir()
        >>> ng.permutation_test(maps, n_perm=255).write(folder)
        >>> sorted(path.name for path in folder.glob("*.tsv"))
        ['clusters.tsv', 'design.tsv', 'nulls.tsv']
        """
        asked = self.asked
        for name in self.maps:
            map_of(name)  # what has no name in the vocabulary may have one that leads out of the folder
        save_maps(self.space, self.maps, folder, self._meaning)
        self.clusters.to_csv(folder / CLUSTERS, sep="\t", index=False)
        pd.DataFrame(dict(self.h0)).to_csv(folder / "nulls.tsv", sep="\t", index=False)
        table = pd.DataFrame(asked.rows, pd.Index(asked.subjects), pd.Index(asked.columns))
        table.to_csv(folder / "design.tsv", sep="\t", index_label="subject_label")
        (folder / PROVENANCE).write_text(json.dumps(dict(self.provenance), indent=2) + "\n")
        if self.quality is not None:
            self.quality.table.to_csv(folder / "quality.tsv", sep="\t")
            (folder / QUALITY).write_text(json.dumps(self.quality.as_json()) + "\n")
        arrays: dict[str, Any] = {f"h0_{name}": values for name, values in self.h0.items()}
        arrays |= {f"map_{name}": self.maps[name] for name in self.maps if not name.startswith("logp_")}
        if self.space.is_volume:
            there = self.geometry
            arrays |= {"mask": there.mask, "affine": there.affine, "codes": np.array(there.codes)}
        else:
            write_space(self.space, folder)
        # Not compressed: that would take longer than all images, for half the size.
        np.savez(folder / MARKER, **arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read back what `save` wrote, to the last bit.

        Raises
        ------
        InputError, MissingFileError, StoreError
            It is no path, there is no result in the folder, or it is damaged.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=255)
        >>> again = ng.PermutationResult.load(result.save("results"))
        >>> bool((again.maps["p_fwe_voxel"] == result.maps["p_fwe_voxel"]).all())
        True
        """
        if not isinstance(folder, str | os.PathLike):
            raise InputError(invalid("folder", f"a {type(folder).__name__}", "the path of a saved result"))
        kept = read_saved(Path(folder).expanduser())
        return cls(kept.maps, kept.h0, kept.clusters, kept.space, kept.provenance, kept.quality)


def _no_such(what: str, name: Any, there: Mapping[str, Any]) -> UnknownNameError:
    """There is no map or null of a name, or what is asked for by is none."""
    if not isinstance(name, str):
        return UnknownNameError(f"A {what} is asked for by its name, not by a {type(name).__name__}: {list(there)}.")
    return UnknownNameError(f"There is no {what} {name!r}. There are {list(there)}. {near(name, there)}".rstrip())


def _plain(value: Any) -> Any:
    """What JSON has for a NumPy number or array."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a provenance")


def _frozen(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    if isinstance(arrays, LogpMaps):
        return dict(arrays.stored)
    frozen = {}
    for name, values in arrays.items():
        values = np.asarray(values).view()
        values.flags.writeable = False
        frozen[name] = values
    return frozen
