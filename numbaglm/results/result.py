"""What a permutation test returns: its record, and the conveniences that draw it."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from numbaglm.results.record import Record

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
        ``p_fdr_parametric`` and ``p_bonferroni`` correct ``p_parametric``.

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
        ``p_fwe_size_contrasts`` and so on) and, where asked for, intervals of those by extent and mass.
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
        from numbaglm.results import figures  # matplotlib takes longer to load than many a test takes

        return figures.corrected(self, save)

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
        from numbaglm.results.report import write_report

        return write_report(self, path, overwrite, cohort)

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, and the largest clusters."""
        head, *lines = self.summary().splitlines()
        listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
        shown = self.clusters.head(_SHOWN)
        table = "" if shown.empty else shown.to_html(index=False, float_format="{:.4g}".format)
        return f"<div><b>{escape(head)}</b><ul>{listed}</ul>{table}</div>"
