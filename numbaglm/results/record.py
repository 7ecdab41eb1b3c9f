"""What a permutation test returns: frozen, with its provenance, saved and loaded whole."""

from __future__ import annotations

import importlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.images import outside, save_maps, to_image
from numbaglm.data.storage import files
from numbaglm.errors import InputError, MissingFileError, StoreError, UnknownNameError, invalid
from numbaglm.results.cluster_table import typed
from numbaglm.spaces.volume import Geometry
from numbaglm.stats import pvalues
from numbaglm.stats.pvalues import LogpMaps

Floats = NDArray[np.floating[Any]]

MARKER = "result.npz"
"""The file by which a saved result is known."""


@dataclass(frozen=True, eq=False)
class PermutationResult:
    """The outcome of a permutation test of one contrast.

    Attributes
    ----------
    maps
        Name -> (n_voxels,) values in C order of the mask: ``t`` or ``f`` (``v`` or ``g`` with variance groups), ``z``
        (of the same parametric p), ``effect`` (contrast of the parameter estimates; (n_rows, n_voxels) for F),
        ``p_parametric``, ``p_unc``, ``p_fdr``, ``p_fwe_voxel`` and, where asked for, ``size``, ``mass``,
        ``p_fwe_size``, ``p_fwe_mass`` of the voxel's cluster, ``tfce``, ``p_fwe_tfce``, ``p_unc_tfce``, ``p_fdr_tfce``,
        and any ``p_fwe_x_contrasts``. ``p_fdr_parametric`` and ``p_bonferroni`` correct ``p_parametric``.

        ``effect_se``, ``effect_lower``, ``effect_upper`` (95 %, parametric), ``cohens_d``, ``hedges_g`` and
        ``partial_r2`` tell how large a t contrast is, ``partial_r2`` alone an F contrast; `numbaglm.stats.effects`
        defines them. With variance groups ``effect_se`` is that of v, there is no interval, and d, g and R^2 take the
        variance pooled over groups. With pseudo-t all are those of t.

        With a ``tail``, ``source_x`` tells where ``p_x`` comes from: 0 from counts, 1 from the tail, 2 from counts as
        no fit of the tail passed. Counted p stay in ``p_unc_counted``; those of corrected p follow from ``h0``. With
        ``p_interval``, ``p_x_lower`` and ``p_x_upper`` are the interval of the counted p.

        ``maps["logp_x"]`` is -log10 of any ``p_x`` but the bounds of intervals, which can be 0.
    h0
        Name -> (n_shufflings,) null of the maximum over the map, the observed first: ``max_t`` (``max_f``; ``max_z``
        with variance groups, and beside it where clusters are formed on z), ``max_size`` (voxels), ``max_mass``,
        ``max_tfce``; over all contrasts ``max_z_contrasts``, ``max_size_contrasts`` and so on.
    clusters
        A row a cluster: sign, peak in mm and its statistic, extent, mass, corrected p (those over contrasts too, as
        ``p_fwe_size_contrasts`` and so on) and, where asked for, intervals of those by extent and mass.
    geometry
        The voxels that were analysed.
    provenance
        What was asked, of what data, with which versions, and how tails were fitted; JSON types only.

    Examples
    --------
    >>> import numbaglm as ng
    >>> maps = ng.simulate_button_press("maps", n_subjects=12, voxel_size=10.0).maps
    >>> result = ng.permutation_test(maps, n_perm=999)
    >>> result.maps["t"].shape, list(result.h0)
    ((1207,), ['max_t', 'max_size', 'max_mass'])
    >>> result.provenance["versions"]["numbaglm"] == ng.__version__
    True
    """

    maps: Mapping[str, Floats]
    h0: Mapping[str, Floats]
    clusters: pd.DataFrame
    geometry: Geometry
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", LogpMaps(_frozen(self.maps)))
        object.__setattr__(self, "h0", MappingProxyType(_frozen(self.h0)))
        plain = json.loads(json.dumps(dict(self.provenance), default=_plain))
        object.__setattr__(self, "provenance", MappingProxyType(plain))

    def __reduce__(self) -> tuple[Any, ...]:
        maps = {name: self.maps[name] for name in self.maps if not name.startswith("logp_")}
        return type(self), (maps, dict(self.h0), self.clusters, self.geometry, dict(self.provenance))

    @property
    def statistic(self) -> str:
        """Name of the statistic's map, "t" or "f" ("v" or "g" with variance groups)."""
        return next(name for name in ("t", "f", "v", "g") if name in self.maps)

    @property
    def max_statistic(self) -> str:
        """Name of the voxelwise null, "max_t" or "max_f" ("max_z" with variance groups)."""
        return next(name for name in ("max_t", "max_f", "max_z") if name in self.h0)

    def to_nifti(self, name: str) -> Any:
        """One of the maps as a nibabel image (float32; 4D for the effect of an F contrast).

        Outside the mask p maps are 1, all others 0.

        Raises
        ------
        UnknownNameError
            There is no such map.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.permutation_test(maps, n_perm=255).to_nifti("logp_fwe_voxel").shape
        (19, 22, 18)
        """
        return to_image(self.geometry, self.maps[name], fill=outside(name))

    def critical(self, name: str, alpha: float = 0.05) -> float:
        """Value that a statistic must exceed, by a null such as "max_t", for a corrected p of at most alpha.

        p are counted. Infinity if no value could reach alpha (too few shufflings).

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
        if not 0 < alpha < 1:
            raise InputError(invalid("alpha", alpha, "a probability between 0 and 1"))
        if name not in self.h0:
            raise UnknownNameError(f"There is no null {name!r}. There are {list(self.h0)}.")
        return pvalues.critical_value(self.h0[name], alpha)

    @property
    def over_contrasts(self) -> bool:
        """Whether there are p that are corrected over contrasts too, ``p_fwe_voxel_contrasts`` and so on."""
        return "p_fwe_voxel_contrasts" in self.maps

    def plot(self, save: str | os.PathLike[str] | None = None) -> Any:
        """Draw the corrected -log10 p maps side by side as glass brains; a matplotlib figure.

        Where p are corrected over contrasts too, these are shown. Without shufflings it is the Bonferroni-corrected
        parametric p.

        Parameters
        ----------
        save
            PNG to write as well.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> figure = ng.permutation_test(maps, n_perm=255).plot(save="corrected.png")
        """
        # By name: a convenience that looks up a floor, which the import contract forbids this one to know.
        plotting = importlib.import_module("numbaglm.display.brains")
        names = {"voxel": "max-statistic", "size": "cluster size", "mass": "cluster mass", "tfce": "TFCE"}
        end, over = ("_contrasts", ", all contrasts") if self.over_contrasts else ("", "")
        names = {f"logp_fwe_{kind}{end}": f"{title}{over}" for kind, title in names.items()}
        if not self.h0:
            names = {"logp_bonferroni": "Bonferroni, parametric"}
        panels = {f"-log10 p, FWE: {title}": self.maps[name] for name, title in names.items() if name in self.maps}
        return plotting.logp_panel(self.geometry, panels, save=save)

    def report(self, path: str | os.PathLike[str], overwrite: bool = False, cohort: Any = None) -> Path:
        """Write everything onto one HTML page that needs nothing else: maps to click through, tables, methods.

        Parameters
        ----------
        path
            File to write (.html); it appears whole or not at all.
        overwrite
            Whether a report that is there is replaced. Nothing but a report is ever replaced.
        cohort
            The `Cohort` that was analysed, for a look at the quality of its maps.

        Raises
        ------
        InputError, OutputExistsError, OutputError
            The file has another ending, exists, or can't be written; the cohort is another one.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.permutation_test(maps, n_perm=255).report("report.html").name
        'report.html'
        """
        written: Path = importlib.import_module("numbaglm.results.report").write_report(self, path, overwrite, cohort)
        return written

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
        n_shufflings = self.provenance["n_shufflings"]
        first = (
            f"{self.provenance['contrast']['name']}: {self.geometry.n_voxels:,} voxels, "
            f"{self.provenance['n_subjects']} subjects"
        )
        if not self.h0:
            return f"{first}\nparametric maps alone"
        critical = self.critical(self.max_statistic)
        reached = f"{self.max_statistic[4:]} > {critical:.3f}" if np.isfinite(critical) else "out of reach"
        lines = [
            f"{first}, {n_shufflings:,} shufflings",
            self.provenance["shuffling"],
            f"voxels with FWE p <= 0.05: {int(np.sum(self.maps['p_fwe_voxel'] <= 0.05)):,} ({reached})",
        ]
        for kind in ("size", "mass"):
            if f"max_{kind}" in self.h0:
                n = int(np.sum(self.clusters[f"p_fwe_{kind}"] <= 0.05))
                lines.append(f"clusters with FWE p <= 0.05 by {kind}: {n} of {len(self.clusters)}")
        if "p_fwe_tfce" in self.maps:
            lines.append(f"voxels with FWE p <= 0.05 by TFCE: {int(np.sum(self.maps['p_fwe_tfce'] <= 0.05)):,}")
        if self.over_contrasts:
            lines.append(f"with FWE p <= 0.05 over all contrasts: {', '.join(self.found_over_contrasts())}")
        return "\n".join(lines)

    def found_over_contrasts(self, alpha: float = 0.05) -> list[str]:
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
        found = []
        kinds: dict[str, tuple[Any, str]] = {
            "voxel": (self.maps, "voxels"),
            "size": (self.clusters, "clusters by size"),
            "mass": (self.clusters, "clusters by mass"),
            "tfce": (self.maps, "voxels by TFCE"),
        }
        for kind, (where, noun) in kinds.items():
            if (name := f"p_fwe_{kind}_contrasts") in where:
                found.append(f"{int(np.sum(where[name] <= alpha)):,} {noun}")
        return found

    def __repr__(self) -> str:
        return f"<PermutationResult {self.summary()}>"

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
        with files.whole_folder(folder, MARKER, overwrite) as part:
            self.write(part)
            files.write_readme(part, self.provenance["contrast"]["name"], self.markdown())
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
        save_maps(self.geometry, self.maps, folder)
        self.clusters.to_csv(folder / "clusters.tsv", sep="\t", index=False)
        pd.DataFrame(dict(self.h0)).to_csv(folder / "nulls.tsv", sep="\t", index=False)
        design = self.provenance["design"]
        table = pd.DataFrame(design["rows"], self.provenance["subjects"], pd.Index(design["columns"]))
        table.to_csv(folder / "design.tsv", sep="\t", index_label="subject_label")
        (folder / "provenance.json").write_text(json.dumps(dict(self.provenance), indent=2) + "\n")
        arrays: dict[str, Any] = {f"h0_{name}": values for name, values in self.h0.items()}
        arrays |= {f"map_{name}": self.maps[name] for name in self.maps if not name.startswith("logp_")}
        # Not compressed: that would take longer than all images, for half the size.
        np.savez(folder / MARKER, mask=self.geometry.mask, affine=self.geometry.affine, **arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> PermutationResult:
        """Read back what `save` wrote, to the last bit.

        Raises
        ------
        MissingFileError, StoreError
            There is no result in the folder, or it is damaged.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=255)
        >>> again = ng.PermutationResult.load(result.save("results"))
        >>> bool((again.maps["p_fwe_voxel"] == result.maps["p_fwe_voxel"]).all())
        True
        """
        source = Path(folder).expanduser()
        if not (source / MARKER).is_file():
            raise MissingFileError(f"There is no result in {source}: result.npz is missing. Name a saved result.")
        try:
            # Opened here: np.load leaves the file of a damaged archive open.
            with (source / MARKER).open("rb") as file, np.load(file) as arrays:
                values = dict(arrays)
            geometry = Geometry(values["mask"], values["affine"])
            clusters = typed(pd.read_csv(source / "clusters.tsv", sep="\t", dtype=str))
            provenance = json.loads((source / "provenance.json").read_text())
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise StoreError(f"The result in {source} is damaged ({error}). Make it again.") from error
        return cls(
            maps={name[4:]: array for name, array in values.items() if name.startswith("map_")},
            h0={name[3:]: array for name, array in values.items() if name.startswith("h0_")},
            clusters=clusters,
            geometry=geometry,
            provenance=provenance,
        )


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
