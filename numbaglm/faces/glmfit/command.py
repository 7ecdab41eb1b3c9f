"""`numbaglm glmfit` and `numbaglm glmfit-sim`: the command lines of FreeSurfer's mri_glmfit and mri_glmfit-sim.

The flags are declared here; `numbaglm.faces.glmfit.request` and `run` do the work, and are imported when it runs.
"""

from __future__ import annotations

import click

from numbaglm.faces.flags import Flag, FlagCommand, Given
from numbaglm.faces.shell import Terminal, examples, habits

_NULL = "null distributions are made of permutations and sign flips alone: --perm N THRESH SIGN"
_DTI = "diffusion tensors are fitted to one subject's volumes: mri_glmfit does that"
_KINETIC = "kinetic models are fitted to one subject's frames: mri_glmfit does that"
_SUBSET = "choose the frames before: mri_convert, or mri_concat"
_MAPS = "change the maps before, with mri_convert, fscalc or fslmaths"
_CHECK = "residuals are looked at by 'numbaglm quality', a cohort at a time"
_JOBS = "all cores are used by itself"

DATA = (
    Flag("--y", "maps", "Maps, a frame a subject: .mgh, .mgz, .nii, .nii.gz, of a volume or a surface.", 1, 1, "FILE"),
    Flag(
        "--surf",
        "surfaces",
        "Subject and hemisphere of the mesh that the maps lie on, in SUBJECTS_DIR.  [surface: white]",
        2,
        3,
        "SUBJECT HEMI [NAME]",
        ("--surface",),
    ),
    Flag("--surf-file", "surface_file", "The mesh itself instead: lh.white, or .surf.gii.", 1, 1, "FILE"),
    Flag("--sd", "subjects_dir", "Instead of SUBJECTS_DIR.", 1, 1, "FOLDER"),
    Flag("--mask", "mask", "Where to test: an image, or an overlay.", 1, 1, "FILE"),
    Flag("--label", "label", "Where to test: vertices of a label.", 1, 1, "FILE"),
    Flag("--cortex", "cortex", "Test in ?h.cortex.label of the subject of --surf, which is the default there."),
    Flag("--no-mask", "no_mask", "Test everywhere.", others=("--no-cortex",)),
    Flag("--mask-inv", "mask_inv", "Test outside the mask."),
    Flag("--prune", "prune", "Leave out where any map is 0, which is the default."),
    Flag("--no-prune", "no_prune", "Take 0 as a value."),
    Flag("--fwhm", "smoothing_fwhm", "Smooth maps of a volume by this width.", 1, 1, "MM", ("--smooth",)),
)
MODEL = (
    Flag("--fsgd", "fsgd", "Group descriptor, and how it becomes a design.", 1, 2, "FILE [dods|doss]"),
    Flag("--X", "design_matrix", "Design matrix as text.", 1, 1, "FILE"),
    Flag("--osgm", "osgm", "The mean of all maps."),
    Flag("--C", "contrast", "Contrast as text, one row for t, more for F; repeat it.", 1, 2, "FILE"),
    Flag("--pvr", "regressors", "Maps that are a regressor at each vertex or voxel; repeat it.", 1, 1, "FILE"),
    Flag("--wls", "weights", "Variances of the maps, to weigh them by.", 1, 1, "FILE"),
    Flag("--var-fwhm", "variance_smoothing_fwhm", "Smooth variances in a volume.", 1, 1, "MM", ("--var-smooth",)),
    Flag("--allowsubjrep", "repeats", "Let a subject stand in the FSGD file more than once."),
    Flag("--no-contrasts-ok", "no_contrasts_ok", "Fit without a contrast."),
)
PERMUTATION = (
    Flag(
        "--perm",
        "perm",
        "Permute: how often, the cluster-forming -log10 p, and abs, pos or neg.",
        3,
        3,
        "N THRESH SIGN",
    ),
    Flag("--sim", "sim", "The same, where the kind is perm; with --sim-sign.", 4, 4, "perm N THRESH NAME"),
    Flag("--sim-sign", "sim_sign", "abs, pos or neg, of --sim.", 1, 1, "SIGN"),
    Flag("--base", "base", "What names of results begin with.  [default: perm.thXX.SIGN]", 1, 1, "NAME"),
    Flag("--cwp", "cwp", "Report clusters of this p or less.  [default: 0.05]", 1, 1, "P", ("--cwpvalthresh",)),
    Flag("--2spaces", "two_spaces", "Correct p for two hemispheres as well."),
    Flag("--3spaces", "three_spaces", "Correct p for three spaces as well."),
    Flag("--bonferroni", "bonferroni", "Correct p for so many spaces as well.", 1, 1, "N"),
    Flag("--seed", "seed", "Of the shufflings.  [default: 0]", 1, 1, "N"),
    Flag("--annot", "annot", "Annotation that names places.  [default: aparc]", 1, 1, "NAME"),
    Flag("--a2009s", "a2009s", "Name places by aparc.a2009s."),
    Flag("--no-out-annot", "no_out_annot", "Write no annotation of the clusters."),
    Flag("--no-cluster-mean", "no_cluster_mean", "Write no means of clusters.", others=("--no-y",)),
    Flag("--perm-resid", "perm_resid", "No effect: residuals of the nuisance are shuffled (Freedman and Lane)."),
    Flag("--perm-force", "perm_force", "No effect: designs with covariates are permuted.", others=("--no-perm-force",)),
    Flag("--perm-signflip", "sign_flip", "Flip signs instead of permuting.", others=("--perm-1", "--perm-sign-flip")),
)
OUTPUT = (
    Flag("--glmdir", "glmdir", "Folder of the results.", 1, 1, "FOLDER", ("--o",)),
    Flag("--eres-save", "eres", "Save residuals.", others=("--save-eres",)),
    Flag("--yhat-save", "yhat", "Save fitted values.", others=("--save-yhat",)),
    *(Flag(f"--{one}", f"format_{one.replace('.', '_')}", f"Write .{one}.") for one in ("mgh", "mgz", "nii", "nii.gz")),
)
WITHOUT_EFFECT = tuple(
    Flag(name, "without_effect", "No effect.", 0, n)
    for name, n in (
        *(("--no-est-fwhm", 0), ("--no-fwhm-est", 0), ("--overwrite", 0), ("--rescale-x", 0), ("--no-rescale-x", 0)),
        *(("--illcond", 0), ("--no-illcond", 0), ("--debug", 0), ("--nocheckopts", 0), ("--no-logy", 0)),
        *(("--no-tar1", 0), ("--dontsavewn", 0), ("--pcc", 0), ("--no-pcc", 0), ("--no-bg", 0), ("--bg", 1)),
        *(("--diag", 1), ("--diag-show", 0), ("--diag-verbose", 0), ("--tmp", 1), ("--sleep", 1), ("--nocleanup", 0)),
        *(("--reshape", 0), ("--no-grf-ocn-anat", 0), ("--really-use-average7", 0), ("--log", 1)),
    )
)
REFUSED = tuple(
    Flag.refused(*names_and_why)
    for names_and_why in (
        ("--cache", f"there are no tables of smooth noise; {_NULL}", "--mczsim", "--mcsim"),
        ("--cache-dir", f"there are no tables of smooth noise; {_NULL}", "--mczsim-dir"),
        ("--cache-label", f"there are no tables of smooth noise; {_NULL}", "--mczsim-label"),
        ("--grf", f"there is no random field theory; {_NULL}"),
        ("--uniform", _NULL),
        ("--synth", _NULL),
        ("--sim-done", "the command ends when the simulation is done"),
        ("--sim-thresh-loop", "run it once for each threshold: --perm"),
        ("--sim-thresh-loop-pos", "run it once for each threshold: --perm"),
        ("--no-sim", "nulls are not read again: type --perm with another --cwp"),
        ("--no-perm-resid", "raw maps are not permuted where there is nuisance: its residuals are"),
        ("--perm-nonstatcor", "clusters are not normalised by local smoothness; TFCE ('numbaglm permute --tfce') is"),
        ("--save-fwhm-map", "smoothness is not estimated; mri_glmfit does that"),
        ("--fwhm-map", "smoothness is not estimated; mri_glmfit does that"),
        ("--fwhm-override", "smoothness is not needed by permutations"),
        ("--fwhm-add", "smoothness is not needed by permutations"),
        ("--spatial-sum", "y.ocn.dat holds means; multiply them by NVtxs"),
        ("--centroid", "the summary lists peaks"),
        ("--vol-subject", "the summary lists mm of the maps' own space"),
        ("--subject-override", "name the subject with --surf"),
        ("--grf-ocn-anat", "results stay on the grid of the maps"),
        ("--pbsubmit", _JOBS),
        ("--table", "tables go by themselves: numbaglm permute table.tsv --design ..."),
        ("--yffxvar", "fixed effects: numbaglm permute --layer variance=... --weights variance --between 0 --test z"),
        ("--ffxdof", "fixed effects: numbaglm permute --layer variance=... --weights variance --between 0 --test z"),
        ("--ffxdofdat", "fixed effects: numbaglm permute --layer variance=... --weights variance --between 0 --test z"),
        ("--w", "weights come from variances: --wls"),
        ("--w-inv", "weights come from variances: --wls"),
        ("--w-sqrt", "weights come from variances: --wls"),
        ("--wg", "weights come from variances: --wls"),
        ("--frame-mask", "give maps with NaN where they have no value: numbaglm permute --missing element"),
        ("--selfreg", "take the values with mri_segstats, and put them into the design"),
        ("--prune_thr", "0 alone counts as no value: use --mask"),
        ("--logy", _MAPS),
        ("--rm-spatial-mean", _MAPS),
        ("--fisher", _MAPS),
        ("--distance", _MAPS),
        ("--y-out", "maps are not written again"),
        ("--no-mask-smooth", "smooth the maps before, with mri_fwhm or mri_surf2surf"),
        ("--eres-scm", _CHECK),
        ("--skew", _CHECK),
        ("--kurtosis", _CHECK),
        ("--pca", _CHECK),
        ("--tar1", _CHECK),
        ("--qa", _CHECK),
        ("--save-cond", "--X or --fsgd tell the design, whose rank is checked"),
        ("--voxdump", "read beta, rvar and gamma at the voxel"),
        ("--dti", _DTI),
        ("--dti-X", _DTI),
        ("--mrtm1", _KINETIC),
        ("--mrtm2", _KINETIC),
        ("--asl", _KINETIC),
        ("--asl-rev", _KINETIC),
        ("--rand-exclude", _SUBSET),
        ("--exclude-frame", _SUBSET),
        ("--exclude-frame-file", _SUBSET),
        ("--rand-split", _SUBSET),
        ("--subsample", _SUBSET),
        ("--xonly", "the design is written to Xg.dat of the folder"),
        ("--maxvox", "maxvox.dat is in the folder of each contrast"),
        ("--beta", "it is beta in the folder of --glmdir"),
        ("--rvar", "it is rvar in the folder of --glmdir"),
        ("--yhat", "--yhat-save writes it into the folder of --glmdir"),
        ("--eres", "--eres-save writes it into the folder of --glmdir"),
        ("--fsgd-rescale", "write ReScaleFlag 1 into the FSGD file"),
        ("--allow-zero-dof", "without degrees of freedom there is no variance"),
        ("--no-fix-vertex-area", "areas are those of the mesh, or of ?h.white.avg.area.mgh beside it"),
        ("--dontsave", "results are what it is for"),
        ("--checkopts", "flags are checked before any work is done"),
        ("--diag-cluster", "results are what it is for"),
        ("--profile", "see 'python benchmarks/report.py'"),
        ("--resynthtest", "see 'python benchmarks/report.py'"),
    )
)
"""What FreeSurfer has and numbaglm has not, and what to do instead."""

FLAGS = (*DATA, *MODEL, *PERMUTATION, *OUTPUT, *WITHOUT_EFFECT, *REFUSED)
SIMULATION = (
    *(flag for flag in OUTPUT if flag.name == "--glmdir"),
    *(flag for flag in DATA if flag.name in ("--y", "--sd")),
    *PERMUTATION,
    *WITHOUT_EFFECT,
    *REFUSED,
)


@click.command(
    cls=FlagCommand,
    flags=FLAGS,
    peer="mri_glmfit",
    epilog="Refused by name are "
    + ", ".join(flag.name for flag in REFUSED)
    + ".\n\n"
    + examples(
        "numbaglm glmfit --y lh.thickness.mgh --fsgd g2v1.fsgd --C group.mtx --surf fsaverage lh --glmdir lh.group",
        "numbaglm glmfit --y lh.mgh --osgm --surf fsaverage lh --glmdir lh.mean --perm 5000 3.0 abs --2spaces",
    ),
)
@habits
def glmfit(terminal: Terminal, given: Given) -> None:
    """Fit and test as FreeSurfer's mri_glmfit does: its flags, its files, its names of outputs.

    With --perm it does what mri_glmfit-sim does as well, in the same run; covariates are permuted (Freedman and Lane),
    and weights and regressors of each vertex too.

    Writes beta, rvar, rstd, mask, Xg.dat and so on into --glmdir, and for each contrast into a folder gamma, gammavar,
    F, sig (-log10 p, with the sign of the effect), z, cnr and pcc. With --perm also NAME.sig.cluster, NAME.sig.masked,
    NAME.sig.voxel, NAME.sig.ocn (.annot too), NAME.sig.cluster.summary and NAME.y.ocn.dat, NAME being perm.th30.abs
    for a threshold of 3 and both signs. Outputs of an earlier run are overwritten, as FreeSurfer does.
    """
    with terminal.loading():
        from numbaglm.faces.glmfit.request import Request
        from numbaglm.faces.glmfit.run import run_request

    terminal.outcome(*run_request(Request.parse(given), terminal.progress))


@click.command(
    "glmfit-sim",
    cls=FlagCommand,
    flags=SIMULATION,
    peer="mri_glmfit-sim",
    epilog=examples("numbaglm glmfit-sim --glmdir lh.group --perm 5000 3.0 abs --cwp 0.05 --2spaces"),
)
@habits
def glmfit_sim(terminal: Terminal, given: Given) -> None:
    """Permute what mri_glmfit, or 'numbaglm glmfit', has fitted: the flags of FreeSurfer's mri_glmfit-sim.

    The model is that of the mri_glmfit.log in --glmdir, from the folder in which it was typed; both are run again.
    """
    with terminal.loading():
        from numbaglm.faces.glmfit.request import Request, model_of_log
        from numbaglm.faces.glmfit.run import run_request

    line, cwd = model_of_log(given)
    before = glmfit.make_context("glmfit", line).params["given"]
    terminal.outcome(*run_request(Request.parse(given, before, cwd), terminal.progress))
