"""What a permutation test returns: its record, and the conveniences that draw it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from numbaglm.errors import InputError, invalid
from numbaglm.results.record import Record
from numbaglm.results.vocabulary import ALPHA

if TYPE_CHECKING:
    import pandas as pd

    from numbaglm.cohort import Cohort
    from numbaglm.results.confidence import ConfidenceSet, Intervals
    from numbaglm.results.discoveries import Discoveries
    from numbaglm.stats.discoveries import TrueDiscoveries

_SHOWN = 5  # clusters in a notebook


class PermutationResult(Record):
    """The outcome of a permutation test of one contrast.

    Attributes
    ----------
    maps
        Name -> (n_voxels,) values in C order of the mask: ``t`` or ``f`` (``v`` or ``g`` with variance groups), ``z``
        (of the same parametric p), ``effect`` (contrast of the parameter estimates; (n_rows, n_voxels) for F),
        ``p_parametric``, ``p_unc``, ``p_fdr``, ``p_fwe_voxel`` and, where asked for, ``size``, ``mass``,
        ``p_fwe_size``, ``p_fwe_mass`` of the voxel's cluster, ``tfce``, ``p_fwe_tfce``, ``p_unc_tfce``, ``p_fdr_tfce``,
        and any ``p_fwe_x_contrasts``. ``clusters`` is the number of the voxel's cluster in the table, 0 outside.
        ``p_fdr_parametric`` and ``p_bonferroni`` correct ``p_parametric``. ``tdp`` is, for each voxel, the largest
        share of true discoveries, at least, of any cluster at any threshold that holds it (not with pseudo-t, nor where
        it is not known which elements touch).

        ``effect_se``, ``effect_lower``, ``effect_upper`` (95 %, parametric), ``cohens_d``, ``hedges_g`` and
        ``partial_r2`` tell how large a t contrast is, ``partial_r2`` alone an F contrast; `numbaglm.stats.effects`
        defines them. With variance groups ``effect_se`` is that of v, there is no interval, and d, g and R^2 take the
        variance pooled over groups. With pseudo-t all are those of t. With ``weights`` effect, standard error and
        interval are those of the whole model, beside ``effect_p`` of both tails (of F, of all rows), ``tau2``, ``i2``
        (percent) and ``cochran_q``, where they are variances; d, g and R^2 are not made. ``reason`` is 1 where a
        voxel was left out, and there only if any was.

        With a ``tail``, ``source_x`` tells where ``p_x`` comes from: 0 from counts, 1 from the tail, 2 from counts as
        no fit of the tail passed. Counted p stay in ``p_unc_counted``; those of corrected p follow from ``h0``. With
        ``p_interval``, ``p_x_lower`` and ``p_x_upper`` are the interval of the counted p.

        ``maps["logp_x"]`` is -log10 of any ``p_x`` but the bounds of intervals, which can be 0.
    h0
        Name -> (n_shufflings,) null of the maximum over the map, the observed first: ``max_t`` (``max_f``; ``max_z``
        with variance groups, and beside it where clusters are formed on z), ``max_size`` (voxels), ``max_mass``,
        ``max_tfce``; over all contrasts ``max_z_contrasts``, ``max_size_contrasts`` and so on. Where maps lie in
        several domains (surfaces and a volume), extents, masses and TFCE have a null in each, ``max_size_surface`` and
        so on, and one of the least p over them, ``min_p_size``, of which ``p_fwe_size`` is; ``p_fwe_size_domain`` is
        within its domain.
    clusters
        A row a cluster: sign, peak in mm and its statistic, extent, mass, corrected p (those over contrasts too, as
        ``p_fwe_size_contrasts`` and so on) and, where asked for, intervals of those by extent and mass. ``tdp`` is the
        share of its elements that have an effect, at least: with 95 % those of all clusters hold at once.
    space
        Where the elements that were analysed lie: `numbaglm.spaces.space.Space`.
    geometry
        The voxels that were analysed, where these are one volume.
    provenance
        What was asked, of what data, with which versions, and how tails were fitted; JSON types only.
    quality
        What a look at the maps found, where one was taken (the command line takes one); else None.

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

    def plot(
        self,
        save: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        threshold: float | None = None,
        title: str | None = None,
        surface: Any = None,
        background: Any = None,
        parcellation: Any = None,
        views: Sequence[str] = ("lateral", "medial"),
        alpha: float = 1.0,
        contours: bool = False,
        cmap: Any = None,
        dpi: float | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> Any:
        """Draw the corrected -log10 p maps side by side, or one map; a matplotlib figure.

        Volumes are glass brains, surfaces are seen from several sides with the voxels of CIFTI files in slices beneath
        them, parcels are bars, networks a matrix and a circle. Where p are corrected over contrasts or modalities too,
        these are shown. Without shufflings it is the Bonferroni-corrected parametric p.

        Parameters
        ----------
        save
            File to write as well (.png, .pdf or .svg).
        name
            One map to draw instead, such as "t"; see `maps`.
        threshold
            Smallest magnitude of that map that is coloured; by default what the report shows it at.
        title
            What to write above that map.
        surface
            Meshes to draw surfaces on, ``{"left": "L.inflated.surf.gii", "right": ...}``; by default those that were
            analysed.
        background
            What lies beneath surfaces, larger values darker, such as sulcal depth: files or values by side; by default
            the curvature of the meshes that were analysed. Of a volume an anatomy, over which slices are drawn in place
            of glass brains.
        parcellation
            Of parcels: an atlas that names them, as `regions` takes it, with ``surface`` if it is of surfaces. They are
            drawn where they lie, in place of bars.
        views
            Of surfaces: "lateral", "medial", "dorsal", "ventral", "anterior", "posterior", one or several.
        alpha, contours, cmap, dpi, figsize
            How opaque colours are over the background; whether a line goes around what is coloured of voxels (with
            ``alpha=0`` alone); a colour map of matplotlib, or its name; pixels an inch; width and height in inches.

        Raises
        ------
        UnknownNameError, InputError, OutputError
            There is no such map, a parameter is out of its range, or the file can't be written.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> figure = ng.permutation_test(maps, n_perm=255).plot(save="corrected.png")
        """
        if not isinstance(save, str | os.PathLike | None):
            raise InputError(
                invalid("save", f"a {type(save).__name__}", "the path of a file, or None", "Name a map by name=.")
            )
        from numbaglm.results.reporting import figures  # matplotlib takes longer to load than many a test takes

        look: dict[str, Any] = {"surface": surface, "background": background, "views": views}
        look |= {"parcellation": parcellation, "alpha": alpha, "contours": contours, "cmap": cmap}
        look |= {"dpi": dpi, "figsize": figsize}
        if name is None:
            for parameter, given in (("threshold", threshold), ("title", title)):
                if given is not None:
                    raise InputError(invalid(parameter, given, "None without name=", "Name the map that it is for."))
            return figures.corrected(self, save, **look)
        return figures.one_map(self, name, threshold, title, save, **look)

    def report(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = False,
        cohort: Any = None,
        background: Any = None,
        surface: Any = None,
        atlas: Any = None,
        beyond: Any = (),
    ) -> Path:
        """Write everything onto one HTML page that needs nothing else: maps to click through, tables, methods.

        Parameters
        ----------
        path
            File to write (.html); it appears whole or not at all.
        overwrite
            Whether a report that is there is replaced. Nothing but a report is ever replaced.
        cohort
            The `Cohort` that was analysed, for a look at the quality of its maps.
        background
            What lies beneath the maps: of a volume an anatomy of the same space (an image or its path), seen whole; of
            surfaces sulcal depth or curvature, files or values by side, with an anatomy as ``"volume"`` for the voxels
            of CIFTI files. By default it is the MNI template where maps say that they lie in MNI space and nilearn,
            which ships it, is installed; else the mask; and the curvature of meshes.
        surface
            Meshes to draw surfaces on; see `plot`.
        atlas
            Names of places for the tables; see `regions`.
        beyond
            What else was asked of this result, each told in a part of its own with its picture: what `interval`,
            `confidence_set` and `numbaglm.power` returned, one or several.

        Raises
        ------
        InputError, OutputExistsError, OutputError
            The file has another ending, exists, or can't be written; the cohort, or what is beyond, is of others.
        MissingFileError, ImageError
            The background can't be read.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> ng.permutation_test(maps, n_perm=255).report("report.html").name
        'report.html'
        """
        from numbaglm.results.report import write_report

        return write_report(self, path, overwrite, cohort, background, surface, atlas, beyond)

    def regions(self, atlas: Any) -> pd.DataFrame:
        """Return the table of clusters with the names of the places where they lie.

        Parameters
        ----------
        atlas
            A label image in the space of the maps (.nii, .nii.gz), with the names of its labels in a file beside it
            that is called the same: a .tsv (index, name), FSL's .xml, or FreeSurfer's table as .txt; or a pair of the
            image and that file, or of the image and a dict of label and name. Of surfaces a dict by side of .label.gii
            or .annot files of their mesh (``"volume"`` for the voxels beside them), or a .dlabel.nii.

        Returns
        -------
        `clusters` with two more columns: ``region`` at the peak, and ``regions``, up to three that hold 5 % of the
        cluster or more, with their shares. Voxels get the label that is nearest to their middle.

        Raises
        ------
        InputError, GridError, MissingFileError, ImageError
            The atlas can't be read, or is of another space; or there are no clusters.

        Examples
        --------
        >>> import nibabel, numpy as np, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=255)
        >>> halves = np.where(result.geometry.coordinates(np.arange(result.geometry.n))[:, 0] < 0, 1, 2)
        >>> labels = result.geometry.unmask(halves).astype(np.int16)
        >>> nibabel.save(nibabel.Nifti1Image(labels, result.geometry.affine), "halves.nii.gz")
        >>> set(result.regions(("halves.nii.gz", {1: "left", 2: "right"}))["region"]) <= {"left", "right"}
        True
        """
        from numbaglm.results.regions import cluster_regions, regions_of

        own = self.clusters.drop(columns=["region", "regions"], errors="ignore")  # those of another atlas
        if "clusters" not in self.maps:
            raise InputError("No clusters were formed, so there is no table of them. Pass cluster_forming_threshold.")
        return pd.concat([own, cluster_regions(self, regions_of(self, atlas))], axis=1)

    def with_regions(self, atlas: Any) -> PermutationResult:
        """Return the same result, whose table of clusters has the columns that `regions` adds.

        So they are in what is saved (``clusters.tsv``), in the summary, in tables and reports.

        Parameters
        ----------
        atlas
            As in `regions`, which tells what is refused, too.

        Examples
        --------
        >>> import nibabel, numpy as np, numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=255)
        >>> halves = np.where(result.geometry.coordinates(np.arange(result.geometry.n))[:, 0] < 0, 1, 2)
        >>> labels = result.geometry.unmask(halves).astype(np.int16)
        >>> nibabel.save(nibabel.Nifti1Image(labels, result.geometry.affine), "halves.nii.gz")
        >>> named = result.with_regions(("halves.nii.gz", {1: "left", 2: "right"}))
        >>> list(named.clusters)[-2:]
        ['region', 'regions']
        """
        return replace(self, clusters=self.regions(atlas))

    def true_discoveries(self, region: Any, alpha: float = ALPHA) -> TrueDiscoveries | pd.DataFrame:
        """Say how many elements of a region have an effect, at least, for any region and after any look at the map.

        With probability 1 - alpha the bounds of *all* regions, clusters and thresholds hold at once
        (all-resolution inference), so that none of them needs a correction. They are made of the parametric p of the
        test (``p_parametric``: of both tails if it has two sides), whatever the shufflings, tails or FDR, and hold
        where Simes' inequality does, as under positive dependence; a test with ``discoveries="simes"`` or another
        template has them calibrated by its shufflings instead, at alpha 0.05. They are of this contrast: over k of
        them, ask for alpha / k; those of a template with ``fwe_across_contrasts=True`` are of all.

        Parameters
        ----------
        region
            A mask, or labels such as those of an atlas (0 is outside): an image or its path (on another grid the
            nearest voxels count), an array as images have it, or a vector of the elements as ``maps`` has them; or the
            numbers of some elements. What holds 0 and 1 alone is a mask.
        alpha
            Above 0, below 1.

        Returns
        -------
        `numbaglm.stats.discoveries.TrueDiscoveries` of a mask: ``n_elements``, ``n_true``, ``tdp``. Of labels a
        DataFrame of these, a row a label. What lies outside the analysed elements counts nowhere.

        Raises
        ------
        InputError, ImageError, GridError, MissingFileError
            The region can't be read or used; or the statistic is a pseudo-t, which has no parametric p.

        References
        ----------
        Rosenblatt, Finos, Weeda, Solari and Goeman (2018), NeuroImage 181:786-796.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=16, voxel_size=10.0).maps
        >>> result = ng.permutation_test(maps, n_perm=99, smoothing_fwhm=12.0)
        >>> found = result.true_discoveries(result.maps["z"] > 3)
        >>> found.n_true <= found.n_elements, f"{found.tdp:.1f}" >= "0.1"
        (True, True)
        """
        from numbaglm.results import discoveries  # numba takes longer to load than a result

        return discoveries.true_discoveries(self, region, alpha)

    def discovery_map(self, tdp: float = 0.7, alpha: float = ALPHA) -> Discoveries:
        """Find the largest clusters of which a share has an effect, at least; each has a threshold of its own.

        All clusters at all thresholds are looked through; of those with that share the ones are kept that are part of
        no larger one. With probability 1 - alpha the bounds of all of them hold at once; see `true_discoveries`.

        Parameters
        ----------
        tdp
            Above 0, 1 at most.
        alpha
            Above 0, below 1.

        Returns
        -------
        `numbaglm.results.discoveries.Discoveries`: ``labels`` (n_voxels,), a table ``clusters``, ``to_image()``.

        Raises
        ------
        InputError
            It is not known which elements touch; the statistic is a pseudo-t; tdp or alpha is out of range.

        References
        ----------
        Chen, Goeman, Krebs, Meijer and Weeda (2023), arXiv:2206.13587.

        Examples
        --------
        >>> import numbaglm as ng
        >>> maps = ng.simulate_button_press("maps", n_subjects=16, voxel_size=10.0).maps
        >>> found = ng.permutation_test(maps, n_perm=99, smoothing_fwhm=12.0).discovery_map(tdp=0.7)
        >>> bool((found.clusters["tdp"] >= 0.7).all()), found.to_image().shape
        (True, (19, 22, 18))
        """
        from numbaglm.results import discoveries

        return discoveries.discovery_map(self, tdp, alpha)

    def interval(
        self,
        level: float = 0.95,
        simultaneous: bool = False,
        of: str = "effect",
        *,
        cohort: Cohort | None = None,
        n_flips: int = 1000,
        seed: int = 0,
        **how: Any,
    ) -> Intervals:
        """Give the effect of a t contrast an interval at every voxel, of each by itself or of all at once.

        Pointwise intervals are parametric: at each voxel they hold what is true with that probability. Simultaneous
        ones hold what is true at *all* voxels with that probability, so that any of them may be read after a look at
        the map. They extend by the level's quantile of the largest absolute t over the map of flipped residuals of
        the whole model (ter Braak): a run of its own over the cohort, of ``n_flips`` flips. They are asymptotic; the
        table of error rates has their coverage.

        Parameters
        ----------
        level
            Coverage.
        simultaneous
            Whether for all voxels at once.
        of
            "effect", in the units of the maps, or "cohens_d" (without its bias in small samples), whose standard error
            supposes normal residuals.
        cohort
            The `Cohort` that was analysed, where the intervals are simultaneous.
        n_flips, seed
            Of the residuals: of exchangeability blocks as the test had them.
        how
            client, n_workers, progress: as in `permutation_test`.

        Returns
        -------
        `numbaglm.results.confidence.Intervals`: ``lower`` and ``upper`` (n_voxels,); ``within(size)`` tells where the
        effect is smaller than a size, ``beyond(size)`` where it is larger.

        Raises
        ------
        InputError
            It is an F contrast or one with variance groups; the cohort is missing, or another; an argument is out of
            range; or the effects are not those of ordinary least squares.

        References
        ----------
        ter Braak (1992), in Bootstrapping and Related Techniques, Springer.

        Examples
        --------
        >>> import numbaglm as ng
        >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=16, voxel_size=10.0).maps)
        >>> result = ng.permutation_test(cohort, n_perm=99)
        >>> one, all_of_them = result.interval(0.95), result.interval(0.95, simultaneous=True, cohort=cohort)
        >>> f"{one.reach:.2f}", all_of_them.reach > 2 * one.reach
        ('2.13', True)
        """
        from numbaglm.results import confidence  # what it needs takes longer to load than a result

        return confidence.interval(self, level, simultaneous, of, cohort, n_flips, seed, **how)

    def confidence_set(
        self,
        effect: float,
        level: float = 0.95,
        of: str = "effect",
        *,
        cohort: Cohort | None = None,
        n_flips: int = 1000,
        seed: int = 0,
        **how: Any,
    ) -> ConfidenceSet:
        """Say where the effect is at least so large: where it surely is, and where it may be.

        With probability ``level`` the inner set lies within the true region {effect >= size}, and that within the outer
        set. Between estimate and sets lie as many standard errors as flipped residuals of the whole model reach on the
        boundary of the estimated region, with that probability: a run of its own over the cohort. The sets are
        asymptotic; the table of error rates has their coverage. For a region of effects below 0 test the contrast with
        its sign turned.

        Parameters
        ----------
        effect
            The size, in the units of ``of``.
        level, of, cohort, n_flips, seed, how
            As in `interval`.

        Returns
        -------
        `numbaglm.results.confidence.ConfidenceSet`: ``inner``, ``estimate`` and ``outer`` (n_voxels,) booleans,
        ``shades``, ``to_image()``.

        Raises
        ------
        InputError
            As `interval`; or it is not known which elements lie beside each other.

        References
        ----------
        Sommerfeld, Sain and Schwartzman (2018), J. Am. Stat. Assoc. 113:1327-1340. Bowring et al. (2019), NeuroImage
        203:116187; and (2021), NeuroImage 226:117477, for Cohen's d.

        Examples
        --------
        >>> import numbaglm as ng
        >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=16, voxel_size=10.0).maps)
        >>> found = ng.permutation_test(cohort, n_perm=99).confidence_set(0.8, of="cohens_d", cohort=cohort)
        >>> bool((found.inner <= found.estimate).all() and (found.estimate <= found.outer).all())
        True
        """
        from numbaglm.results import confidence

        return confidence.confidence_set(self, effect, level, of, cohort, n_flips, seed, **how)

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the largest clusters."""
        head, *lines = self.summary().splitlines()
        listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
        shown = self.clusters.head(_SHOWN)
        table = "" if shown.empty else shown.to_html(index=False, float_format="{:.4g}".format)
        return f"<div><b>{escape(head)}</b><ul>{listed}</ul>{table}</div>"
