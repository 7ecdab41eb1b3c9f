"""`numbaglm 3dttest++` and `numbaglm 3dMVM`: the command lines of AFNI's group analyses.

The flags are declared here; `numbaglm.faces.afni.ttest`, `mvm` and `run` do the work, and are imported when it runs.
"""

from __future__ import annotations

import math

import click

from numbaglm.faces.flags import Flag, FlagCommand, Given
from numbaglm.faces.shell import Terminal, examples, habits

_CLUSTERS = "clusters are tested by -Clustsim, at the threshold of -pthr"
_ONE_AT_A_TIME = "run it once for each sub-brick: file+tlrc[3]"

_RUN = (
    Flag("-prefix", "prefix", "Name of the results; .nii.gz is added.", 1, 1, "NAME"),
    Flag("-overwrite", "overwrite", "Replace results that are there."),
    Flag("-mask", "mask", "Where to test.  [default: wherever maps vary]", 1, 1, "FILE"),
    Flag("-seed", "seed", "Of the shufflings.  [default: 0]", 1, 2, "N"),
    Flag("-pthr", "pthr", "Cluster-forming p, of both sides.  [default: 0.001]", 1, 1, "P"),
    Flag("-NN", "nn", "Neighbours that clusters have: 1 faces, 2 edges, 3 corners.  [default: 1]", 1, 1, "1|2|3"),
    Flag("-perm", "perm", "How many shufflings.  [default: 10000 with -Clustsim, else none]", 1, 1, "N"),
)

TTEST = (
    Flag("-setA", "set_a", "Maps, or a name and pairs of label and map.", 1, math.inf, "MAP ...", ("-set2",)),
    Flag("-setB", "set_b", "Those of a second set: A - B is tested.", 1, math.inf, "MAP ...", ("-set1",)),
    Flag("-labelA", "label_a", "Name of the first set.", 1, 1, "NAME"),
    Flag("-labelB", "label_b", "Name of the second set.", 1, 1, "NAME"),
    Flag("-covariates", "covariates", "Table of labels and numbers, perhaps file[0,2..4].", 1, 1, "FILE"),
    Flag("-center", "center", "Means that are taken off covariates.  [default: DIFF]", 1, 1, "NONE|DIFF|SAME"),
    Flag("-cmeth", "cmeth", "What a mean is.  [default: MEAN]", 1, 1, "MEAN|MEDIAN"),
    Flag("-paired", "paired", "Test differences of pairs."),
    Flag("-unpooled", "unpooled", "Let each set have a variance of its own; gives z."),
    Flag("-AminusB", "a_minus_b", "Test A - B, the default."),
    Flag("-BminusA", "b_minus_a", "Test B - A."),
    Flag("-toz", "toz", "Write z instead of t."),
    Flag("-zskip", "zskip", "Leave zeros out where so many have a value, of one set.  [default: 5]", 0, 1, "[N]"),
    Flag("-no1sam", "no1sam", "Don't test each set by itself."),
    Flag("-nomeans", "nomeans", "Write no means and slopes."),
    Flag("-notests", "notests", "Write no statistics."),
    Flag("-Clustsim", "clustsim", "Shuffle: p of voxels and clusters, corrected.", 0, 1, "[JOBS]"),
    *_RUN,
    *(
        Flag(name, "without_effect", "No effect.", 0, n)
        for name, n in (("-dupe_ok", 0), ("-debug", 0), ("-tempdir", 1), ("-prefix_clustsim", 1), ("-no5percent", 0))
    ),
)
TTEST_REFUSED = tuple(
    Flag.refused(*one)
    for one in (
        ("-singletonA", "one map has no variance to be tested with"),
        ("-singleton_variance_ratio", "one map has no variance to be tested with"),
        ("-rankize", "ranks of maps are not made"),
        ("-brickwise", _ONE_AT_A_TIME),
        ("-exblur", "smooth the maps before, with 3dBlurInMask"),
        ("-resid", "residuals are not written"),
        ("-ACF", "the smoothness of residuals is not needed by shufflings"),
        ("-nocov", "slopes are written; leave them aside"),
        ("-randomsign", "-Clustsim shuffles by itself what the design lets it"),
        ("-permute", "-Clustsim shuffles by itself what the design lets it"),
        ("-nopermute", "-Clustsim shuffles by itself what the design lets it"),
        ("-ETAC", _CLUSTERS),
        ("-ETAC_mem", _CLUSTERS),
        ("-ETAC_blur", _CLUSTERS),
        ("-ETAC_opt", _CLUSTERS),
        ("-ETAC_arg", _CLUSTERS),
    )
)
MVM = (
    Flag("-bsVars", "bs_vars", "Model between subjects, such as group*sex+age.", 1, 1, "FORMULA", ("-model",)),
    Flag("-wsVars", "ws_vars", "Factors within subjects, crossed: condition*emotion.", 1, 1, "FORMULA"),
    Flag("-qVars", "q_vars", "Which variables are numbers.", 1, 1, "NAME,NAME"),
    Flag("-qVarCenters", "q_centers", "What is taken off them.  [default: their means]", 1, 1, "VALUE,VALUE"),
    Flag("-num_glt", "num_glt", "How many tests follow.", 1, 1, "N", ("-num_glt_t",)),
    Flag("-gltLabel", "glt_label", "Number and name of a test.", 2, 2, "K NAME"),
    Flag("-gltCode", "glt_code", "Number and weights of a test: 'group : 1*a -1*b'.", 2, math.inf, "K CODE"),
    Flag(
        "-dataTable", "table", "Subj, variables and InputFile, or @FILE; comes last.", 1, metavar="...", takes_rest=True
    ),
    *_RUN,
    *(
        Flag(name, "without_effect", "No effect.", 0, n)
        for name, n in (("-jobs", 1), ("-cio", 0), ("-Rio", 0), ("-verb", 1))
    ),
)
_F_GLT = "tests of several rows are not written as codes: take the F of a term"
MVM_REFUSED = tuple(
    Flag.refused(*one)
    for one in (
        ("-vVars", "a map of each subject as covariate: numbaglm permute --regressor"),
        ("-vVarCenters", "a map of each subject as covariate: numbaglm permute --regressor"),
        ("-mVar", "several maps of each subject as one outcome: permutation_test(..., combine='wilks')"),
        ("-wsMVT", "several maps of each subject as one outcome: permutation_test(..., combine='wilks')"),
        ("-SC", "degrees of freedom are not corrected for sphericity; p by -perm don't suppose it"),
        ("-GES", "effect sizes of terms are not written"),
        ("-robust", "estimates are those of least squares"),
        ("-resid", "residuals are not written"),
        ("-num_glf", _F_GLT),
        ("-glfLabel", _F_GLT),
        ("-glfCode", _F_GLT),
        ("-show_allowed_options", "see --help"),
    )
)


@click.command(
    "3dttest++",
    cls=FlagCommand,
    flags=(*TTEST, *TTEST_REFUSED),
    peer="3dttest++",
    epilog=f"Refused by name are {', '.join(flag.name for flag in TTEST_REFUSED)}.\n\n"
    + examples("numbaglm 3dttest++ -setA 'A*+tlrc.HEAD[1]' -setB 'B*+tlrc.HEAD[1]' -mask m+tlrc -Clustsim -prefix out"),
)
@habits
def ttest(terminal: Terminal, given: Given) -> None:
    """Test sets of maps as AFNI's 3dttest++ does: its flags, its data sets, its labels; NIfTI comes out.

    Writes PREFIX.nii.gz, whose volumes are labelled as AFNI shows them: SetA-SetB_mean, SetA-SetB_Tstat, the slopes of
    covariates, and the tests of each set. With -Clustsim there are -log10 p corrected by shuffling beside each, of
    voxels (_logpVoxel) and of clusters by size (_logpCluster), and tables of clusters, PREFIX.LABEL_clusters.tsv.
    """
    with terminal.loading():
        from numbaglm.faces.afni.run import run_tests
        from numbaglm.faces.afni.ttest import parse_ttest

    terminal.outcome(*run_tests(parse_ttest(given), terminal.progress))


@click.command(
    "3dMVM",
    cls=FlagCommand,
    flags=(*MVM, *MVM_REFUSED),
    peer="3dMVM",
    epilog=f"Refused by name are {', '.join(flag.name for flag in MVM_REFUSED)}.\n\n"
    + examples(
        "numbaglm 3dMVM -prefix out -bsVars 'group*sex+age' -qVars age -mask m.nii -perm 5000 -dataTable @t.txt"
    ),
)
@habits
def mvm(terminal: Terminal, given: Given) -> None:
    """Test the terms of a model as AFNI's 3dMVM does, from its -dataTable; NIfTI comes out.

    F of each term has type III sums of squares; those within subjects suppose sphericity. -gltCode gives an effect and
    its t, each against the error of its own combination of maps.
    """
    with terminal.loading():
        from numbaglm.faces.afni.mvm import parse_mvm
        from numbaglm.faces.afni.run import run_tests

    terminal.outcome(*run_tests(parse_mvm(given), terminal.progress))
