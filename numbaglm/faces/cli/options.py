"""Options that commands share: on images; of `numbaglm permute` and `fit` on contrasts, shufflings, statistics, p."""

from __future__ import annotations

import click

from numbaglm.faces.shell import PATH, grouped
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.methods import METHODS, OF_P, OF_VALUES
from numbaglm.stats.variance.covariance import ADJUSTMENTS, DEGREES_OF_FREEDOM, EFFECTS, ESTIMATORS, MOST_BINS, Binned

_EXPRESSION = "A column, or an expression such as 'patient - control'; several with ';' between them make an F test."
_DEFAULT = "[default: the first --model column, or the intercept alone]"

CONTRAST = click.option("--contrast", metavar="EXPR", help=f"{_EXPRESSION}  {_DEFAULT}")

CONTRASTS = grouped(
    click.option(
        "--contrast",
        multiple=True,
        metavar="[NAME=]EXPR",
        help=f"{_EXPRESSION} Repeat it to test more, each into a folder of its NAME, or of its EXPR where it has none. "
        f" {_DEFAULT}",
    ),
    click.option(
        "--fwe-across-contrasts", is_flag=True, help="With several contrasts: correct p over all of them as well."
    ),
    click.option(
        "--combine-contrasts",
        is_flag=True,
        help="With several contrasts and --combine: make one test of all of them, and of the modalities.",
    ),
)

IMAGES = grouped(
    click.option(
        "--mask",
        type=PATH,
        multiple=True,
        metavar="[SIDE=]FILE",
        help="Image of the voxels to analyse; of surfaces a file a hemisphere, such as left=L.shape.gii.  [default: "
        "what all maps hold]",
    ),
    click.option("--smoothing-fwhm", type=float, metavar="MM", help="Smooth the maps with a Gaussian."),
    click.option(
        "--surface",
        "surfaces",
        multiple=True,
        metavar="SIDE=FILE",
        help="Mesh that maps lie on, such as left=L.surf.gii; FILE alone of one surface.",
    ),
    click.option(
        "--area",
        "areas",
        multiple=True,
        metavar="SIDE=FILE",
        help="mm2 of its vertices, or a number for all.  [default: those of the mesh]",
    ),
    click.option("--network", is_flag=True, help="MAPS are matrices of nodes by nodes, or lists of edges."),
    click.option("--nodes", type=PATH, metavar="FILE", help="Names of the nodes of networks, one a line."),
)

TEST = grouped(
    click.option(
        "--n-perm",
        type=click.IntRange(min=1),
        default=10_000,
        show_default=True,
        help="Random shufflings beside the data as they are. Where the distinct ones are no more, all are taken.",
    ),
    click.option(
        "--shufflings",
        type=PATH,
        metavar="FILE",
        help="Shufflings of your own in place of random ones, a row each: the row of the design that each subject "
        "takes, from 1, with a minus where its sign flips (.npy, .npz, .csv, .tsv, .txt; a first line of labels is "
        "matched).",
    ),
    click.option("--two-sided/--one-sided", default=True, show_default=True, help="Signs of the effect that count."),
    click.option(
        "--cluster-forming-threshold",
        default="auto",
        metavar="P",
        help="An uncorrected p; or t:3.1, z:3.1, f:6; or none.  [default: 0.001 in volumes, none for other maps]",
    ),
    click.option(
        "--structures",
        type=click.Choice(["merged", "apart"]),
        help="Of CIFTI files: whether clusters and TFCE of voxels go across structures that touch.  [default: merged]",
    ),
    click.option(
        "--mass",
        type=click.Choice(["sum", "excess", "area"]),
        help="Of a cluster: the sum of the statistic, of what exceeds the threshold, or weighted by the areas of "
        "vertices.  [default: that of --conventions]",
    ),
    click.option("--tfce", is_flag=True, help="Threshold-free cluster enhancement as well."),
    click.option("--tfce-uncorrected", is_flag=True, help="The same, and its uncorrected p of each voxel."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shufflings."),
    click.option(
        "--errors",
        type=click.Choice(["ee", "ise", "both"]),
        help="ee: permutations; ise: sign flips.  [default: what the contrast calls for]",
    ),
    click.option(
        "--blocks",
        "exchangeability_blocks",
        type=PATH,
        metavar="NAME|FILE",
        help="Exchangeability blocks: a column of the covariates, or a table of one column of labels, or of the levels "
        "of a tree (.tsv, .csv; a file of numbers, as PALM's eb.csv, needs no line of names).",
    ),
    click.option(
        "--block-scheme",
        type=click.Choice(["within", "whole", "both"]),
        default="within",
        show_default=True,
        help="Shuffle within blocks, blocks as wholes, or both.",
    ),
    click.option(
        "--variance-groups",
        type=PATH,
        metavar="NAME|FILE",
        help="Groups with variances of their own: a column of the covariates, a table of one column of labels (.tsv, "
        ".csv), or 'auto' for the blocks. t is then Aspin-Welch's v, and F is G, by sign flips unless --errors says "
        "otherwise.",
    ),
    click.option(
        "--variance-smoothing-fwhm",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MM",
        help="Smooth the variances of t, for small samples: pseudo-t.",
    ),
    click.option(
        "--regressor",
        "regressors",
        multiple=True,
        metavar="NAME=LAYER",
        help="A layer of the cohort as each voxel's own regressor, which --contrast calls NAME; COLUMN:LAYER for its "
        "product with a column of the design. Repeat it for more.",
    ),
    click.option(
        "--weights",
        type=PATH,
        metavar="LAYER|FILE",
        help="Weigh values by the inverse of their variances, a --layer of the maps such as 'variance': random effects "
        "of first-level estimates, or a meta-analysis. Or by a table of one column of weights of subjects (.tsv, "
        ".csv).",
    ),
    click.option(
        "--between",
        type=click.Choice(["reml", "ml", "dl", "he", "0"]),
        default="reml",
        show_default=True,
        help="With a layer of variances: how the variance between subjects is estimated; 0 for fixed effects.",
    ),
    click.option(
        "--test",
        type=click.Choice(["knapp-hartung", "ad-hoc", "t", "z"]),
        default="knapp-hartung",
        show_default=True,
        help="With a layer of variances: what effects are held against; t and z take the variances as known.",
    ),
    click.option(
        "--method",
        type=click.Choice(list(METHODS)),
        default="freedman-lane",
        show_default=True,
        metavar="NAME",
        help=f"How nuisance is dealt with: {', '.join(METHODS)}.",
    ),
    click.option(
        "--combine",
        metavar="NAME",
        help="Make one test of several modalities, or with --combine-contrasts of several contrasts. Of their p: "
        f"{', '.join(OF_P)}; of their values: {', '.join(OF_VALUES)}.",
    ),
    click.option(
        "--concordant", is_flag=True, help="With --combine of p: only effects of one sign in all of them count."
    ),
    click.option(
        "--combine-weight",
        "combine_weights",
        multiple=True,
        metavar="NAME=NUMBER",
        help="What a modality, or a contrast, counts in --combine stouffer; repeat it for all of them.",
    ),
    click.option(
        "--modality-contrast",
        metavar="EXPR[; EXPR]",
        help="With --combine of values: sums of modalities that are tested in their place, such as 'after - before'.",
    ),
    click.option(
        "--missing",
        type=click.Choice(["leave", "element"]),
        default="leave",
        show_default=True,
        help="Voxels that some subjects lack: leave them out, or test each with the subjects that it has.",
    ),
    click.option(
        "--covariance",
        type=click.Choice(["sandwich", "binned-gls"]),
        help="Let maps depend on each other within the --blocks (visits of a person, families), of any size, which "
        "change sign as wholes. sandwich: the variance of t or F is that of their residuals; binned-gls: a mixed model "
        "of --effects.  [default: independent errors]",
    ),
    click.option(
        "--adjustment",
        type=click.Choice(list(ADJUSTMENTS)),
        default="C2",
        show_default=True,
        help="How residuals are corrected for a sandwich variance.",
    ),
    click.option(
        "--dof",
        type=click.Choice(list(DEGREES_OF_FREEDOM)),
        default="satterthwaite",
        show_default=True,
        help="Degrees of freedom of z and the parametric p of a sandwich variance.",
    ),
    click.option(
        "--correlation",
        is_flag=True,
        help="Part correlations r in the place of t, R2 in that of F.",
    ),
    click.option(
        "--estimator",
        type=click.Choice(list(ESTIMATORS)),
        default="classic",
        show_default=True,
        help="Of a sandwich variance: from the residuals of each of the --blocks, or, modified, from covariances of "
        "--visits that they share.",
    ),
    click.option(
        "--visits",
        type=PATH,
        metavar="NAME|FILE",
        help="With --estimator modified: the visit of each map, a column of the covariates or a table of one "
        "column of labels (.tsv, .csv).",
    ),
    click.option(
        "--groups",
        type=PATH,
        metavar="NAME|FILE",
        help="With --estimator modified: groups of --blocks whose visits have covariances of their own, a column of "
        "the covariates or a table of one column of labels (.tsv, .csv).  [default: one group]",
    ),
    click.option(
        "--effects",
        metavar="NAMES",
        help=f"Of binned-gls: what the variance is a sum of, {', '.join(EFFECTS)}, separated by commas.  [default: "
        "those that there is something for]",
    ),
    click.option(
        "--subjects",
        type=PATH,
        metavar="NAME|FILE",
        help="Of binned-gls: the person of each map, a column of the covariates or a table of one column of labels "
        "(.tsv, .csv).",
    ),
    click.option(
        "--kinship",
        type=PATH,
        metavar="FILE",
        help="Of binned-gls: a matrix of kinship, with the labels of the maps or of --subjects as the names of its "
        "columns (.tsv, .csv).",
    ),
    click.option(
        "--component-bins",
        type=click.IntRange(1, MOST_BINS),
        default=Binned().bins,
        show_default=True,
        help="Bins of each share of the variance, whose voxels are fitted with one covariance.",
    ),
    click.option(
        "--component-interval",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="COVERAGE",
        help="Intervals of the shares of the variance, such as 0.95.",
    ),
    click.option(
        "--conventions",
        type=click.Choice(list(CONVENTIONS)),
        default="numbaglm",
        show_default=True,
        help="Whose clusters, TFCE and false discovery rate.",
    ),
    click.option(
        "--tail",
        type=click.Choice(["counts", "pareto", "gamma"]),
        default="counts",
        show_default=True,
        help="Refine small p by a fit to the tail of their null.",
    ),
    click.option(
        "--discoveries",
        default="ari",
        show_default=True,
        metavar="NAME",
        help="What bounds true discoveries (TDP of clusters): parametric p (ari), or a template that shufflings "
        "calibrate: simes, shifted (shifted-100: by another number than 27), beta, learned; -step-down after simes, "
        "beta and learned.",
    ),
    click.option(
        "--stop",
        type=click.Choice(["decided"]),
        help="Stop shuffling once next to no corrected p is open against --alpha; p hold whenever it stops.",
    ),
    click.option(
        "--alpha",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.05,
        show_default=True,
        help="Level that --stop decides against.",
    ),
    click.option(
        "--p-interval",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="COVERAGE",
        help="Intervals of p, such as 0.95: what random shufflings leave open.",
    ),
)
