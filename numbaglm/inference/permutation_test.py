"""The call that composes everything below: `permutation_test`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from numbaglm.cohort import Cohort, as_cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.labels import warn_of_visits
from numbaglm.data.storage.places import Place
from numbaglm.engine import progress
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import RunResult, Smallest, Spec
from numbaglm.engine.permutation.smallest import LISTED_TO, listed_of, lists_on_its_way, n_learned, with_listing
from numbaglm.engine.permutation.voxels import observe_untested
from numbaglm.errors import InputError, MaskError, invalid, term
from numbaglm.inference.arguments import (
    LEAST_PRESENT,
    N_PERM,
    Options,
    as_modalities,
    check_layers,
    check_space,
    default_threshold,
    layers_of,
    listed_subjects,
    names_of_variables,
    read_conventions,
    read_design,
    read_modality_contrast,
    read_regressors,
    shared_covariates,
)
from numbaglm.inference.assembly import Tests, assemble, observed_p
from numbaglm.inference.running import Running, plan_tests, run_name
from numbaglm.results.provenance import versions
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import ALPHA, map_of
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.corrected import TAILS, useful_tail
from numbaglm.stats.discoveries import ARI, Calibration, Learned, Lists, Way, calibrate_together
from numbaglm.stats.families.family import REASON, Family
from numbaglm.stats.methods import OF_P
from numbaglm.stats.model.design import Contrast, ContrastLike, Design, parse_contrasts, warn_of_lacking_mean
from numbaglm.stats.model.joint import make_joint
from numbaglm.stats.model.setup import ClusterThreshold as ClusterThreshold
from numbaglm.stats.model.setup import (
    build_hypothesis,
    make_correlation,
    make_gls,
    make_incomplete,
    make_pseudo,
    make_weighted,
    read_threshold,
    smallest_p,
)
from numbaglm.stats.variance.covariance import FEW_CLUSTERS

if TYPE_CHECKING:
    from numbaglm.inference.stopping import Stopped

log = logging.getLogger("numbaglm")


@overload
def permutation_test(
    maps: Any,
    design_matrix: Any = ...,
    contrast: ContrastLike | None = ...,
    mask: Any = ...,
    *,
    dry_run: Literal[True],
    **options: Any,
) -> Plan: ...


@overload
def permutation_test(
    maps: Any, design_matrix: Any = ..., contrast: ContrastLike | None = ..., mask: Any = ..., **options: Any
) -> PermutationResult: ...


@overload
def permutation_test(
    maps: Any, design_matrix: Any, contrast: Mapping[str, ContrastLike], mask: Any = ..., **options: Any
) -> dict[str, PermutationResult]: ...


@progress.in_one_bar
def permutation_test(
    maps: Any,
    design_matrix: Any = None,
    contrast: ContrastLike | Mapping[str, ContrastLike] | None = None,
    mask: Any = None,
    n_perm: int = N_PERM,
    two_sided: bool = True,
    cluster_forming_threshold: ClusterThreshold | Literal["auto"] | None = "auto",
    tfce: bool = False,
    seed: int = 0,
    *,
    smoothing_fwhm: Any = None,
    layers: Mapping[str, Any] | None = None,
    errors: str | None = None,
    exchangeability_blocks: ArrayLike | None = None,
    block_scheme: str = "within",
    variance_groups: ArrayLike | str | None = None,
    variance_smoothing_fwhm: float | None = None,
    weights: str | ArrayLike | None = None,
    between: str | int = "reml",
    test: str = "knapp-hartung",
    method: str = "freedman-lane",
    missing: str = "leave",
    covariance: str | None = None,
    adjustment: str = "C2",
    dof: str = "satterthwaite",
    estimator: str = "classic",
    visits: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    effects: Sequence[str] | None = None,
    subjects: Any = None,
    kinship: Any = None,
    component_bins: int = 20,
    component_interval: float | None = None,
    fwe_across_contrasts: bool = False,
    tail: str = "counts",
    p_interval: float | None = None,
    conventions: str | Conventions = "numbaglm",
    tfce_uncorrected: bool = False,
    discoveries: str = "ari",
    stop: str | None = None,
    alpha: float = 0.05,
    store: Any = None,
    memory_limit: int | str | None = None,
    client: Any = None,
    n_workers: int | None = None,
    progress: bool = False,
    dry_run: bool = False,
    surfaces: Any = None,
    areas: Any = None,
    space: Any = None,
    nodes: Any = None,
    regressors: Any = None,
    combine: str | None = None,
    combine_contrasts: bool | str = False,
    concordant: bool = False,
    combine_weights: ArrayLike | None = None,
    modality_contrast: Any = None,
    shufflings: Any = None,
    correlation: bool = False,
    **overrides: Any,
) -> Any:
    """Test a contrast of a general linear model by shuffling, with family-wise error control.

    Parameters
    ----------
    maps
        A `Cohort`, or anything that `Cohort.from_maps` takes: paths, images, one 4D image, nilearn's DataFrame; maps on
        surfaces, CIFTI files, a table of parcels, networks. Or cohorts of the same subjects by modality
        (``{"thickness": a, "area": b}``), matched by label: each is tested under the same shufflings, and p are
        corrected over modalities as well (``p_fwe_voxel_modalities`` and so on); or see ``combine``.
    design_matrix
        DataFrame, array (n_subjects, n_regressors), the path of a .tsv or .csv file, or a formula over the cohort's
        covariates (``"~ age + group"``); by default a column of ones named "intercept".
    contrast
        Name of a column, an expression over column names (``"patient - control"``), a vector (t), a matrix or
        a list of expressions (F), or a mapping from names to any of these.
    mask, smoothing_fwhm, layers
        As in `Cohort.from_maps`; a `Cohort` has its own.
    n_perm
        Random shufflings beside the observed one. Where the distinct shufflings, the observed among them, are no more
        than n_perm + 1, all of them are enumerated instead. 0 gives the parametric maps alone.
    two_sided
        Whether effects of both signs count (t contrasts). Clusters of each sign are formed apart; each null
        holds the maximum over both. F and statistics of several variables have no sign: effects of any direction
        count, whatever this says.
    cluster_forming_threshold
        p of the statistic's own distribution (halved if two-sided), or ``("t", 3.1)``, ``("z", 3.1)``,
        ``("f", 6.0)``; None for no cluster inference. By default 0.001 for maps of a volume, None for others.
    tfce
        Whether to compute threshold-free cluster enhancement: the exact integral with E = 0.5 and H = 2; on surfaces
        with E = 1 (of mm2), in networks with E = 0.4 (of edges) and H = 3.
    seed
        Shuffling i depends on the seed and i alone.
    errors
        "ee" (exchangeable: permutations), "ise" (independent and symmetric: sign flips) or "both". By default sign
        flips where the contrast tests a mean, that is where the design holds a constant that its nuisance does not,
        or where permutations would bring maps of one variance group to another, and permutations otherwise; a constant
        among the nuisance never brings flips on. Flips do not hold their level on skewed data (8.5 % measured at 5 %,
        n = 16).
    exchangeability_blocks, block_scheme
        Labels (n_subjects,), in the order of the maps, of blocks within which ("within"), as wholes ("whole") or both
        ("both") subjects are shuffled; or a multi-level tree (n_subjects, n_levels) in PALM's form. Here, and for other
        labels and weights of maps, a Series by their labels, or a table with a column of these, may be in any order; a
        text is the name of a covariate.
    variance_groups
        Labels (n_subjects,) of groups with variances of their own, or "auto" for the exchangeability blocks: the
        statistic is then Aspin-Welch's v, or G for F contrasts, and its null that of the z of the same p (degrees of
        freedom differ between voxels). Under permutations G does not hold its level (6.5 % measured at 5 %, groups of
        6, 8 and 14; 5.6 %, three of 12). ``errors="ise"`` comes closer: 5.5 and 4.9 %.
    variance_smoothing_fwhm
        Width in mm of a Gaussian that smooths the variances of each shuffling, inside the mask: the statistic is then
        pseudo-t (in ``maps["t"]``), for small samples. z, parametric p and a threshold given as p take it for t.
    weights
        "variance", or another layer of the maps: the variance that each value has of its own (squared standard errors,
        FSL's varcopes), for a random-effects analysis of first-level estimates, or a meta-analysis of studies. Or
        weights (n_subjects,), in the order of the maps, such as the sizes of studies. Voxels with a variance that is 0
        or negative are left out, with a count. Weights of maps go with ``covariance="sandwich"`` too, as in a
        meta-analysis of several effects a study.
    between
        How the variance between subjects is estimated, which adds to each value's own: "reml", "ml", "dl" (moments of
        DerSimonian and Laird), "he" (unweighted moments of Hedges), or 0 for fixed effects. Effect, standard error,
        interval and ``effect_p`` (of both tails, as the interval), ``tau2``, ``i2`` and ``cochran_q`` are those of the
        whole model; the statistic, which is shuffled, takes tau2 of the model without what is tested, which flips leave
        as it is.
    test
        What effects are held against: "knapp-hartung" (the residuals, t), "ad-hoc" (the same, but no less than known
        variances say), "t" or "z" (known variances). Permutations don't hold their level where variances have to do
        with what is tested (7.1 % measured at 5 %, two groups of 6 whose variances differ fourfold; under
        ``errors="ise"`` 5.4 %).
    method
        How nuisance is dealt with: "freedman-lane", "draper-stoneman", "dekker", "still-white", "kennedy", "manly",
        "ter-braak" or "huh-jhun" (`numbaglm.stats.methods.METHODS`). "still-white" and "kennedy" do not hold their
        level (6 % measured at 5 %, with 1 confound and 20 subjects; 14 % with 12 and 30).
    missing
        What becomes of voxels that some subjects lack: "leave" leaves them out; "element" tests each with the subjects
        that it has, where half of them or more do (of a `Cohort`: where it keeps the voxel, see ``min_subjects`` of
        `Cohort.create`). Their degrees of freedom differ (``maps["dof"]``, ``maps["n_subjects"]``): the null is that of
        the largest z, and clusters and TFCE are made of z. t, F, v and G, by the method "freedman-lane", also with
        ``weights``, and without these with a classic ``covariance="sandwich"``, whose degrees of freedom are rounded
        down to steps of a hundredth.
    covariance
        None for errors that are independent of each other, or "sandwich" for maps that depend on each other within
        the ``exchangeability_blocks`` (visits of a person, siblings, scans of a site), whatever the size of the blocks
        and whatever varies within and between them: t, or F, has the variance that the residuals of these clusters
        tell. Clusters change sign as wholes (``errors="ise"``, ``block_scheme="whole"`` are implied), which supposes
        that they are independent of each other and symmetric. Without blocks each map is a cluster of its own: the test
        that holds where variances differ. Or "binned-gls", a mixed model: generalised least squares with the covariance
        that ``effects`` make up, in shares that are estimated at each voxel. Its clusters, the blocks, change sign as
        wholes too. It finds more where covariates change within blocks, or these differ in size; where the covariance
        is of another form it finds less, and its parametric p and standard errors are wrong.
    adjustment
        How residuals, which are smaller than errors, are corrected for a sandwich variance: "none", "n/(n-p)", "HC2",
        "HC3" by the leverage of each map, "C2" (CR2), "C3" by that of each cluster
        (`numbaglm.stats.variance.covariance.ADJUSTMENTS`). HC3 without blocks is that of MacKinnon and White.
    dof
        Degrees of freedom of the z and the parametric p of a sandwich variance: "satterthwaite", or "naive", the
        clusters less the regressors that are constant within them.
    estimator
        What residuals tell of a sandwich variance: "classic", of every cluster its own covariance, or "modified", the
        covariance of ``visits`` that all clusters share, or those of a group, which supposes that they do. It came no
        closer to its level (of t 4.5 to 7.4 % measured at 5 %, 16 people, and 4.8 to 7.2 %, 50). Visits that some lack
        are rescaled by the variances of all who have them, and what is then no covariance loses its negative roots.
    visits, groups
        With ``estimator="modified"``: labels (n_subjects,), in the order of the maps, of visits, each once in a cluster
        and meaning the same in all, and of groups of clusters with covariances of their own (None for one group).
    effects, subjects, kinship
        With "binned-gls": what the variance is a sum of, names in `numbaglm.stats.variance.covariance.EFFECTS`:
        "family", what all maps of an exchangeability block share; "subject", what those of a subject share, with
        ``subjects``, the labels (n_subjects,) of the persons; "kinship", what maps share by a known matrix, with
        ``kinship``; and "error". By default those that there is something for. ``kinship`` is a matrix of the maps in
        their order (twice the kinship coefficients, or these: it is brought to a mean diagonal of 1), or a DataFrame,
        or the path of a table, by the labels of maps or of ``subjects``; or a dict of such matrices by block. Between
        blocks it must be 0. ``maps["share_family"]`` and so on are the shares of the variance: heritability, or
        intraclass correlation.
    component_bins
        How many bins each of these shares has: voxels of one bin are fitted with one covariance. More cost time and
        hardly gain power; no number of them makes a test invalid.
    component_interval
        Coverage, such as 0.95, of intervals of the shares (``share_family_lower``, ``share_family_upper``): percentiles
        over 1,000 samples of the blocks. None for none.
    fwe_across_contrasts
        Whether p are corrected over all contrasts as well (``p_fwe_voxel_contrasts`` and so on): contrasts then share
        their shufflings, and each null is the maximum over them, voxels on the scale of z.
    tail
        How p below 0.1 are refined beyond what counts can tell, with some hundred shufflings in place of many
        thousand: "counts" (not at all); "pareto", a generalised Pareto distribution fitted to the tail of each null
        of a maximum, and of each voxel's own for p_unc; "gamma", a gamma distribution of the moments of each null of
        a maximum (not for p_unc, where heavy tails make it wrong by orders of magnitude). Where a fit fails the test
        of its goodness, p stay counted (``source_*`` among the maps); where all shufflings are enumerated they are
        exact, and are left alone. p_unc of pseudo-t and cluster p of ``conventions="nilearn"`` stay counted.
    p_interval
        Coverage, such as 0.95, of Clopper-Pearson intervals of counted p (``p_unc_lower``, ``p_unc_upper`` and so on;
        for clusters in the table): how far random shufflings leave p open. None for none.
    conventions
        "numbaglm": clusters of 26 neighbours, ``>=`` the threshold, mass = sum of the statistic, TFCE of 6;
        "nilearn": 6, ``>``, sum above the threshold, stepped TFCE, and its way to count cluster p. "palm": all on
        the scale of z, both signs merged if two-sided, TFCE in 100 steps, adaptive FDR. "randomise": TFCE in 100
        steps. "spm": clusters of 18 neighbours, ``>`` the threshold, TFCE of 26 (as SPM's toolbox for it).
        See `numbaglm.stats.conventions.Conventions`.
    tfce_uncorrected
        Whether to count TFCE at each voxel as well (``p_unc_tfce``, ``p_fdr_tfce``); brings TFCE on, and costs a tenth
        more than TFCE alone.
    discoveries
        What bounds true discoveries (``tdp`` of clusters, `PermutationResult.true_discoveries` and so on): "ari",
        parametric p, which holds under positive dependence; or a template that shufflings calibrate at alpha 0.05,
        which holds where they do and finds more in smooth maps: "simes" a line, "shifted" a line from the 27th smallest
        p on ("shifted-100" from another), "beta", or "learned" from shufflings that calibrate nothing. With
        "-step-down" ("simes-step-down", "beta-step-down", "learned-step-down") elements that are found one by one are
        left out of the shufflings, which finds a little more. The 1,000 smallest p of 1,000 shufflings are listed on
        the way, of 500 more to learn from; of all where they are enumerated or ``shufflings``, which then are learned
        from as well. With ``fwe_across_contrasts`` bounds of all contrasts hold together.
    stop, alpha
        "decided" shuffles in rounds, 100 at first and then as many again, until next to no corrected p is open against
        ``alpha`` (1 % of those rejected may be), or n_perm are made. ``p_fwe_*`` are then anytime p, which hold
        whenever one stops: compare them with alpha, no other level (they are never below half of it). ``p_unc`` and
        ``p_fdr`` are as counted until then. Where all shufflings are enumerated, all are made. An interrupt (Ctrl-C, or
        a notebook's stop) returns what was known at the last look, which is as valid; of several contrasts, the
        results of those that were begun. With ``progress`` in a notebook, maps and table of each look stand beneath
        the bar.
    store
        Folder, or URL such as ``s3://bucket/run``, that makes the call durable: what each task found is kept there
        before it counts, and the same call goes on from there after whatever stopped it, to the same bits. It is
        refused for a call that differs. Its ``log.txt`` says what was done when. The whole maps of a TFCE in work
        (``dry_run`` tells how large) go there too.
    memory_limit
        Bytes, or a string like "8GB", that this process, or each worker of a cluster, may hold in all; by default
        half of the memory that is free, or that a worker may take.
    client, n_workers
        A `distributed` client (by default the active one; in a task of a worker none is), or threads (all cores by
        default). Workers read the cohort themselves; without a store, what they leave is kept beside the cohort until
        the call ends.
    progress
        Whether to show a progress bar: one, with one estimate of the time that is left, whatever the call does.
    dry_run
        Whether to return the plan instead, with the memory, disk and time that it predicts, and the memory that there
        is and what says so, and run nothing.
    surfaces, areas, space, nodes
        As in `Cohort.from_maps`; a `Cohort` has its own. Of maps on anything but a volume the statistic and its p are
        there, uncorrected and corrected by the largest; clusters and TFCE too where it is known which elements touch.
    regressors
        Regressors that each element has for itself, beside the design that all share: a dict from names to layers of
        the cohort, ``{"gm": "grey_matter"}``, or to the product of a column of the design with a layer,
        ``{"gm": "grey_matter", "age:gm": "age:grey_matter"}``. Contrasts call them by name, and they come last where
        weights are given; those that a contrast leaves out are nuisance. Each costs a degree of freedom. Elements at
        which one is constant, or follows from other regressors, leave with a warning (statistic 0, p 1). It goes with
        the methods "freedman-lane" and "manly", of t also "dekker" and "draper-stoneman"; not with variance groups,
        smoothed variances or weights. With ``missing="element"`` (and "freedman-lane") a subject that lacks data or a
        layer at an element has no part there; under permutations, which bring others to its row, that row has the mean
        of the layer over those who are there. p of what an element's own regressor says are as exact as
        those of any regressor with nuisance; the maps that regressors come from count as known.
    combine
        Makes one test of the modalities, at the elements that all have. Of the p of their tests, each under the same
        shufflings: "fisher", "stouffer", "tippett", "edgington", "mudholkar-george", "winer", or "conjunction" (the
        largest p). Of their values together: "hotelling" (contrasts of one row), "wilks", "pillai",
        "lawley-hotelling", "roy" (the largest root of H E^-1), "roy-theta" (of H (E + H)^-1), "cca" (the canonical
        correlation with what is tested; "cca2" the second), "pls" (partial least squares: the largest singular value of
        the correlations between modalities and the contrast's columns, nuisance apart; "pls2" the second). Clusters and
        TFCE are of the z of the parametric p, which orders and scales alone. PLS has no parametric p: they are of
        Fisher's transform of it, a threshold ``("z", height)`` is one of that, and without one there are no clusters.
        Of ``two_sided`` tests p of both sides are combined, whatever the signs of the modalities; statistics of values
        have no sign. With these come loadings, a map a modality (``loading_thickness``): its correlation, nuisance
        apart, with the sum of the modalities that goes with what is tested (the first discriminant, or the variate of
        the canonical correlation or of PLS). That sum grows with a contrast of one row; of several rows the largest
        loading at each element is positive.
    combine_contrasts
        With ``combine`` of p: whether the contrasts, of one cohort or of several modalities, become one test as well,
        under shufflings that they share. "within" combines the contrasts of each modality alone, and p are corrected
        over modalities.
    concordant
        With ``combine`` of p and ``two_sided``: only effects of one sign in all modalities and contrasts count.
    combine_weights
        A number a modality, for "stouffer"; or a contrast, where contrasts alone are combined.
    modality_contrast
        With ``combine`` of values: what of several maps of a subject in one space is tested, such as visits or tasks,
        in the place of the maps themselves: an expression over names of modalities (``"after - before"``), weights in
        their order, or a list or matrix of several rows: M of repeated-measures MANOVA, whose hypothesis is C B M' = 0.
        With a design of ones and rows of differences it asks whether the maps differ at all (``"hotelling"``); with a
        contrast of groups, whether groups differ in their differences. Rows that span the same say the same, but for
        "pls". Loadings are then of its rows (``loading_row1``).
    shufflings
        Shufflings of your own in place of random ones: whole numbers (n_shufflings, n_subjects), a shuffling a row, as
        PALM writes them: v at place i makes row i of the design sign(v) times row abs(v), rows counting from 1 (the
        data move by the inverse). An array, in the order of the maps (of a `Cohort`: that of its subjects), a DataFrame
        whose columns are labels of the subjects, or the path of a .npy, .npz, .csv, .tsv or .txt file of either. The
        data as they are count as one of them: the first row that changes nothing, else they are put before the others.
        A row that comes again counts again. ``errors`` follows from the rows; those that leave the
        ``exchangeability_blocks`` are refused. They give a valid test where they are a group, or drawn from one at
        random. All contrasts are tested by them. Not with ``n_perm``, ``stop``, ``p_interval`` or "huh-jhun".
    correlation
        Whether the statistic is a correlation in the place of t: r, the part correlation of the data about their mean
        with what the contrast tests, or R2 in the place of F. Nuisance is taken off what is tested, not off the data:
        with any but a constant it does not hold its level (5.8 % measured at 5 %, with 1 confound and 20 subjects; 13 %
        with 12 and 30), and parametric p and z are those of no nuisance. Without, p are those of t. Permutations alone,
        of designs with a constant.
    overrides
        Single options of the conventions: ``cluster_connectivity``, ``tfce_connectivity`` (6, 18, 26), ``mass``
        ("sum", "excess", "area"), ``structures`` ("merged", "apart"), ``tfce_E``, ``tfce_H``, ``tfce_dh`` and the
        other fields of `Conventions`.

    Returns
    -------
    `PermutationResult`; a dict of them for a mapping of contrasts that are not combined. `Plan` with ``dry_run``. For
    modalities that are not combined a dict of these, by modality.

    Raises
    ------
    DesignError, ContrastError, ShufflingError, InputError
        The design, contrast, blocks or an option can't be used.
    ImageError, GridError, MaskError, MissingFileError
        The maps can't be used, see `Cohort.from_maps`.
    OutputExistsError, OutputError, StoreError
        The store holds something else, is in use or can't be written; workers were lost for good; data is damaged.

    Notes
    -----
    p = #{null >= observed} / n_shufflings, the observed among the shufflings, so that p is never 0. Statistics
    closer than the arithmetic can tell apart count as equal (`numbaglm.stats.scales.TIE_TOLERANCE`).

    It differs from nilearn's `non_parametric_inference` in that every contrast is tested as it is in the parametric
    model; that sign flips follow from what the contrast tests, never from a constant among the confounds; that
    results don't depend on the number of workers; that voxels with missing data leave the mask; and in the
    conventions above.

    References
    ----------
    Winkler et al. (2014), NeuroImage 92:381-397. Freedman and Lane (1983), J. Bus. Econ. Stat. 1(4):292-298.
    Nichols and Holmes (2002), Human Brain Mapping 15:1-25. Smith and Nichols (2009), NeuroImage 44:83-98.
    Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9(1):39. Guillaume et al. (2014), NeuroImage 94:287-302, and
    Pustejovsky and Tipton (2018), J. Bus. Econ. Stat. 36:672-683, for sandwich variances. Haseman and Elston
    (1972), Behavior Genetics 2:3-19, for moments of components, and Parekh et al. (2024), Hum. Brain Mapp. 45:e26579,
    for their bins. Knijnenburg et al. (2009), Bioinformatics 25:i161-i168 and Winkler et al. (2016), NeuroImage
    141:502-516, for tails. Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511, for several modalities.

    Examples
    --------
    >>> import pandas as pd, numbaglm as ng
    >>> maps = ng.simulate_button_press("maps", n_subjects=12, voxel_size=10.0).maps
    >>> result = ng.permutation_test(maps, n_perm=999, seed=1)  # the mean, by sign flips
    >>> bool(result.maps["p_fwe_voxel"].min() <= 0.05), result.h0["max_t"].shape
    (True, (1000,))

    A design, and a contrast of its columns:

    >>> design = pd.DataFrame({"age": range(12), "intercept": 1.0})
    >>> result = ng.permutation_test(maps, design, "age", n_perm=999, cluster_forming_threshold=("z", 3.1))
    >>> result.provenance["errors"]
    'ee'
    """
    where: dict[str, Any] = {"surfaces": surfaces, "areas": areas, "space": space, "nodes": nodes}
    threshold, record = cluster_forming_threshold, read_conventions(conventions, overrides)
    if threshold == "auto":
        threshold = default_threshold(maps, space, combine, record)
    options = Options.parse(
        n_perm=n_perm,
        two_sided=two_sided,
        cluster_forming_threshold=threshold,
        tfce=tfce,
        seed=seed,
        mask=mask,
        smoothing_fwhm=smoothing_fwhm,
        layers=layers,
        errors=errors,
        exchangeability_blocks=exchangeability_blocks,
        block_scheme=block_scheme,
        variance_groups=variance_groups,
        variance_smoothing_fwhm=variance_smoothing_fwhm,
        weights=weights,
        between=between,
        test=test,
        method=method,
        missing=missing,
        covariance=covariance,
        adjustment=adjustment,
        dof=dof,
        estimator=estimator,
        visits=visits,
        groups=groups,
        effects=effects,
        subjects=subjects,
        kinship=kinship,
        component_bins=component_bins,
        component_interval=component_interval,
        fwe_across_contrasts=fwe_across_contrasts,
        tail=tail,
        p_interval=p_interval,
        conventions=record,
        tfce_uncorrected=tfce_uncorrected,
        discoveries=discoveries,
        stop=stop,
        alpha=alpha,
        combine=combine,
        combine_contrasts=combine_contrasts,
        concordant=concordant,
        combine_weights=combine_weights,
        modality_contrast=modality_contrast,
        shufflings=shufflings,
        correlation=correlation,
        store=store,
        memory_limit=memory_limit,
        client=client,
        n_workers=n_workers,
        progress=progress,
        dry_run=dry_run,
        regressors=read_regressors(regressors),
        **where,
    )
    several = as_modalities(maps)
    if several is None:
        if options.combine is not None and not options.combine_contrasts:
            fix = f"Give several, by name: {{'a': a, 'b': b}}; or several contrasts, with {term('combine_contrasts')}."
            raise InputError(invalid("combine", options.combine, "None for one cohort", fix))
        return _named([_test(maps, design_matrix, contrast, options)], contrast, options)[0]
    from numbaglm.data.cohort.joined import align, join

    if options.missing == "leave":
        several = {name: _complete(cohort) for name, cohort in several.items()}
    stores = {name: cohort.store for name, cohort in several.items()}
    covariates = shared_covariates(several, design_matrix)
    for name, cohort in several.items():  # before the first of them is tested
        try:
            check_layers(cohort, options, cohort.covariates)
            check_space(cohort.store.space, options)
        except InputError as error:
            told = error.refusal
            raise InputError(f"Modality {name!r}: {error if told is None else told.template}") from error
    if options.combines_modalities:
        modalities = tuple(several)
        options = replace(options, modality_contrast=read_modality_contrast(modality_contrast, modalities))
        return _named([_test(Cohort(join(stores)), design_matrix, contrast, options, modalities)], contrast, options)[0]
    if options.stop is not None:
        raise InputError(invalid("stop", options.stop, "None where modalities share a null, or combine="))
    tests = []
    for name, aligned in align(stores).items():
        place = None if options.store is None else Place.parse(options.store, "store") / name
        tests.append(
            _test(Cohort(aligned), design_matrix, contrast, replace(options, store=place), (name,), covariates)
        )
    return dict(zip(several, _named(tests, contrast, options), strict=True))


def _test(
    maps: Any,
    design_matrix: Any,
    contrast: ContrastLike | Mapping[str, ContrastLike] | None,
    options: Options,
    modalities: tuple[str, ...] = (),
    shared: pd.DataFrame | None = None,
) -> tuple[Tests, list[Plan]]:
    """Test the contrasts of one cohort, or plan it: plans then. ``shared`` are covariates of all modalities."""
    where = {name: getattr(options, name) for name in ("surfaces", "areas", "space", "nodes")}
    running = Running.parse(options.memory_limit, options.client, options.n_workers, options.progress, options.store)
    named, covariates = listed_subjects(maps, **where)
    covariates = covariates if shared is None else shared
    check_layers(maps, options, covariates)
    design = Design.parse(read_design(design_matrix, named, covariates), len(named.labels), options.regressors)
    options = options.with_columns(covariates, layers_of(maps, options)).in_order(named, covariates)
    if options.exchangeability_blocks is None and options.shufflings is None:
        warn_of_visits(named.labels, covariates)
    warn_of_lacking_mean(design.matrix)
    contrasts = parse_contrasts(contrast, design)
    groups = [contrasts] if options.combine_contrasts else [[one] for one in contrasts]
    if options.combine is not None and len(groups[0]) * max(1, len(modalities)) < 2:
        fix = "Give a dict of contrasts, by name, or of cohorts."
        received = f"the contrast {contrasts[0].name!r} of one cohort"
        raise InputError(invalid("combine", received, "several contrasts or cohorts to make one test of", fix))
    specs = [_specify(design, group, contrasts, options, modalities) for group in groups]
    way = options.way
    if way is not None:
        _require_enough(specs, way)
    preparing = {name: getattr(options, name) for name in ("smoothing_fwhm", "layers", "progress", "n_workers")} | where
    if options.missing == "element" and not isinstance(maps, Cohort):
        preparing["min_subjects"] = LEAST_PRESENT
    with progress.preparing():
        cohort = as_cohort(maps, mask=options.mask, **preparing)
    if options.missing == "leave":
        cohort = _complete(cohort)
    elif not cohort.store.header.keeps_missing:
        log.warning(
            "The cohort was made without min_subjects=: what some subjects lack is not in it, or counts as 0, so that "
            "missing='element' tests what 'leave' does."
        )
    check_space(cohort.store.space, options)
    if way is not None:
        specs = _listing(specs, way, cohort.n_voxels)
    on_its_way = [lists_on_its_way(spec) and options.stop is None for spec in specs]
    asked = options.asked(modalities, {one.name: len(one.matrix) for one in groups[0]})
    tests = Tests(cohort, [spec.hypothesis.contrast.name for spec in specs], asked)
    if options.dry_run:
        return tests, plan_tests(cohort.store, running, specs)
    for spec in specs:
        _require_elements(cohort.store, spec)
    found: list[tuple[Spec, RunResult, Smallest]] = []
    with running.opened(cohort.store, lambda: _identity(cohort, design, contrasts, options), len(specs)) as run:
        run.expect(specs)
        for number, spec in enumerate(specs):
            run.note(f"{spec.hypothesis.contrast.name}: {spec.shufflings.reason}")
            made = spec if on_its_way[number] else replace(spec, listing=None)
            ended: Stopped | None = None
            if options.stop is None:
                raw = run.test(made, run_name(number))
            else:
                from numbaglm.inference.live import show
                from numbaglm.inference.stopping import until_decided

                try:
                    look = partial(show, tests)
                    made, raw, ended = until_decided(cohort, run, made, run_name(number), options.alpha, look)
                except KeyboardInterrupt:
                    if not tests.outcomes:
                        raise
                    break
            tests.outcomes.append((made, raw))
            tests.ends.append(None if ended is None else ended.as_kept())
            _warn(made, raw, cohort.store.space.nouns, _few_clusters(options))
            if way is not None:
                found.append((spec, raw, raw.smallest or run.smallest(spec, run_name(number))))
            if ended is not None and ended.interrupted:
                break
    if left := tests.names[len(tests.outcomes) :]:
        log.warning("Interrupted before anything was known of %s: there is no result of it.", ", ".join(left))
        del tests.names[len(tests.outcomes) :]
    if way is not None:
        together = [found] if options.fwe_across_contrasts else [[one] for one in found]
        tests.calibrations.extend(one for its in together for one in _calibrated(its, way))
    return tests, []


def _complete(cohort: Cohort) -> Cohort:
    """Return the elements that every subject has; say what is left out."""
    whole = cohort.complete()
    if whole.n_voxels == cohort.n_voxels:
        return cohort
    log.info(whole.report[-1])
    return whole


def _named(tests: Sequence[tuple[Tests, list[Plan]]], contrast: Any, options: Options) -> list[Any]:
    """Results, or plans, of each cohort: one, or a dict by contrast where contrasts were named."""
    made, plans = zip(*tests, strict=True)
    found: Sequence[Sequence[Any]] = plans
    if not options.dry_run:
        found = assemble(made, joint=options.fwe_across_contrasts, p_interval=options.p_interval)
    if not isinstance(contrast, Mapping) or options.combine_contrasts:
        return [its[0] for its in found]
    return [dict(zip(one.names, its, strict=True)) for one, its in zip(made, found, strict=True)]


def _specify(
    design: Design,
    group: Sequence[Contrast],
    contrasts: Sequence[Contrast],
    options: Options,
    modalities: tuple[str, ...],
) -> Spec:
    """Decide how one contrast is tested, or a group of them that is combined."""
    shuffling = {
        "n_perm": options.n_perm,
        "seed": options.seed,
        "errors": options.errors,
        "blocks": options.exchangeability_blocks,
        "block_scheme": options.block_scheme,
    }
    if options.components is not None:
        shuffling["why"] = "as a mixed model asks for"
    fwhm = options.variance_smoothing_fwhm
    variance = {
        "variance_groups": options.variance_groups,
        "v_dof_factor": options.conventions.v_dof_factor,
        "sandwich": options.sandwich,
        "visits": (options.visits, options.groups),
    }
    weights = options.read_weights()
    if options.sandwich is not None and not isinstance(weights, str):
        variance["weights"], weights = weights, None
    tested = contrasts if options.fwe_across_contrasts else group
    own = options.shufflings
    built = [build_hypothesis(design, one, tested, options.method, shuffling, variance, own) for one in group]
    shufflings, hypothesis = built[0]
    if fwhm is not None:
        hypothesis = make_pseudo(hypothesis, fwhm)
    lacks = options.missing == "element"
    if lacks and weights is None:
        hypothesis = make_incomplete(hypothesis, shufflings, options.sandwich)
    if options.correlation:
        hypothesis = make_correlation(hypothesis, shufflings)
    if options.components is not None and options.binned is not None:
        hypothesis = make_gls(hypothesis, options.components, options.binned, options.seed)
    if weights is not None:
        hypothesis = make_weighted(hypothesis, shufflings, weights, options.between, options.test, lacks)
    if options.combine is not None:
        hypothesis = make_joint(
            [one for _, one in built],
            options.combine,
            modalities[1:],
            options.two_sided,
            options.concordant,
            options.weights_of(modalities, [one.name for one in group]),
            options.conventions,
            names_of_variables(modalities, options.modality_contrast),
            options.modality_contrast,
        )
    # What is enumerated, and what a user lists, is full of statistics that are equal on paper.
    enough = "float32" if own is None and not shufflings.exhaustive else "float64"
    two_sided = options.two_sided and hypothesis.is_t and options.combine is None
    signed = all(one.is_t for one in group)
    if not (options.two_sided or (signed and options.combine in (None, *OF_P))):
        told = "%s: %s has no sign, so that effects of any direction count: two_sided=False changes nothing."
        log.info(told, ", ".join(one.name for one in group), map_of(hypothesis.statistic_name).label)
    return Spec(
        hypothesis=hypothesis,
        shufflings=shufflings,
        conventions=options.conventions,
        two_sided=two_sided,
        threshold=read_threshold(options.cluster_forming_threshold, hypothesis, two_sided),
        tfce=options.tfce or options.tfce_uncorrected,
        precision=hypothesis.family.precision or enough,
        tail=useful_tail(options.tail, shufflings),
        tfce_counts=options.tfce_uncorrected,
    )


def _require_enough(specs: Sequence[Spec], way: Way) -> None:
    """Refuse to calibrate by fewer shufflings than can err at 5 %, beside as many to learn from."""
    for spec in specs:
        least, n = math.ceil(1 / ALPHA), spec.shufflings.n_shufflings
        if way.template is None and spec.shufflings.sampled:
            least = next(k for k in range(least, 3 * least) if k - n_learned(k) >= least)
        if n < least:
            fix = f"Use discoveries={ARI!r}, or more shufflings where there are more."
            received = f"{way.name!r} with {n} shufflings"
            raise InputError(invalid("discoveries", received, f"a template with {least} shufflings or more", fix))


def _listing(specs: Sequence[Spec], way: Way, n_voxels: int) -> list[Spec]:
    """Let tests list what the calibration takes."""
    if way.shift >= listed_of(n_voxels):
        allowed = f"a shift below {listed_of(n_voxels)}, as many p of each shuffling as are listed of so few elements"
        raise InputError(invalid("discoveries", way.name, allowed))
    return [with_listing(spec, n_voxels, way.template is None, way.steps_down) for spec in specs]


def _calibrated(found: Sequence[tuple[Spec, RunResult, Smallest]], way: Way) -> list[Calibration]:
    """Calibrate a template by the smallest p of the shufflings of tests whose bounds are to hold together."""
    return calibrate_together([_lists(*one, way) for one in found], found[0][1].z.size, ALPHA, tie=LISTED_TO)


def _lists(spec: Spec, raw: RunResult, smallest: Smallest, way: Way) -> Lists:
    """What a test is calibrated by: the first shuffling has the data's own p, in full precision."""
    p, voxel = smallest.p, smallest.voxel
    height = np.where(raw.degenerate, -np.inf, spec.height(raw.z))
    some = np.argpartition(height, -p.shape[1])[-p.shape[1] :]
    observed = observed_p(spec, raw, some)
    order = np.argsort(observed, kind="stable")
    p[0], some = observed[order], some[order]
    assert spec.listing is not None
    n_calibrating = len(p) - spec.listing.n_learned
    template = way.template
    if template is None:
        template = Learned.learn(p[n_calibrating:] if n_calibrating < len(p) else p)
    if voxel is None:
        return Lists(p[:n_calibrating], template)
    voxel[0] = some
    return Lists(p[:n_calibrating], template, voxel)


def _identity(cohort: Cohort, design: Design, contrasts: Sequence[Contrast], options: Options) -> dict[str, Any]:
    """All that determines the records of a run, in words of the call."""
    return {
        "cohort": cohort.fingerprint,
        "design columns": list(design.columns),
        "design rows": design.matrix,
        "contrasts": {one.name: one.matrix for one in contrasts},
        **options.identity(),
        "versions": {
            name: text for name, text in versions().items() if name in ("numbaglm", "numba", "numpy", "scipy")
        },
    }


def _few_clusters(options: Options) -> tuple[str, int, str] | None:
    """What the covariance that is asked for supposes many clusters for, how many, and what was measured with fewer."""
    if options.covariance == "sandwich":
        return "are few for a sandwich variance", *FEW_CLUSTERS[options.estimator]
    if options.covariance == "binned-gls":
        return "are few for a mixed model", *FEW_CLUSTERS[options.covariance]
    return None


def _untested(reason: NDArray[Any], degenerate: NDArray[np.bool_], family: Family, nouns: str) -> list[str]:
    """Say how many elements are not tested, and why."""
    why = {text: int(np.count_nonzero(reason == number)) for number, text in enumerate(family.reasons, 1)}
    why["vary with the nuisance alone"] = int(np.count_nonzero(degenerate & (reason == 0)))
    return [f"{count:,} {nouns} {text}" for text, count in why.items() if count]


def _require_elements(store: CohortStore, spec: Spec) -> None:
    """Refuse, before it is shuffled, what leaves nothing to test.

    Raises
    ------
    MaskError
    """
    found = observe_untested(store, spec)
    if found is not None and found[0].any():
        untested = _untested(*found, spec.family, store.space.nouns)
        raise MaskError(f"There is nothing to test: {', and '.join(untested)}. Look at what was given there.")


def _warn(spec: Spec, raw: RunResult, nouns: str, few: tuple[str, int, str] | None) -> None:
    """Say what a reader of the result should know."""
    n_shufflings, family = spec.shufflings.n_shufflings, spec.family
    smallest = smallest_p(spec.hypothesis, spec.shufflings, spec.two_sided)
    reason = np.zeros(raw.degenerate.size)
    if raw.more is not None and REASON in family.more:
        reason = raw.more[family.more.index(REASON)]
    for told in _untested(reason, raw.degenerate, family, nouns):
        log.warning("%s: statistic 0 and p 1 there.", told)
    undefined = np.zeros(1) if raw.undefined is None else raw.undefined[reason == 0]  # the others are told of already
    if undefined.any():
        log.warning(
            "At %s %s some shufflings, %.2g of all at most, %s: they score 0.",
            f"{int(np.count_nonzero(undefined)):,}",
            nouns,
            undefined.max() / n_shufflings,
            " or ".join(family.undefined),
        )
    clusters = spec.hypothesis.clusters
    if few is not None and clusters is not None and n_shufflings > 1 and len(spec.hypothesis.nuisance):
        what, least, measured = few
        if (n_clusters := int(clusters.max()) + 1) < least:
            told = "%d clusters %s beside nuisance: at 5 %%, error rates of t %s."
            log.warning(told, n_clusters, what, measured)
    if n_shufflings > 1 and smallest > 0.05:
        log.warning("With %d shufflings the smallest p that can be reached is %.3g.", n_shufflings, smallest)
    if 1 < n_shufflings <= TAILS[spec.tail]:
        log.warning("A %s tail takes %d shufflings or more: p stay counted.", spec.tail, TAILS[spec.tail])
