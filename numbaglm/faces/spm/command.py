"""`numbaglm spm`: the contrasts of a second-level SPM.mat, tested by shuffling.

The options are declared here; `numbaglm.faces.spm.run` does the work, and is imported when it runs.
"""

from __future__ import annotations

from typing import Any

import click

from numbaglm.faces.shell import PATH, Terminal, examples, habits


def _threshold(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A number above 0, or none."""
    if value.strip().casefold() == "none":
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise click.BadParameter(f"{value} is neither a p, nor a value of t or F, nor none.", context, parameter)
    return number


@click.command(
    epilog=examples(
        "numbaglm spm group/SPM.mat",
        "numbaglm spm group/SPM.mat --contrast 1 --contrast 'patients > controls' --tfce",
        "numbaglm spm group --data-dir /data/study --output group/shuffled",
    )
)
@click.argument("spm", type=PATH, metavar="SPM.mat")
@click.option(
    "--contrast",
    multiple=True,
    metavar="NUMBER|NAME",
    help="Contrast to test, as SPM numbers or names it; repeat it for more.  [default: all]",
)
@click.option("-o", "--output", type=PATH, help="Folder to write.  [default: that of SPM.mat]")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run of numbaglm wrote there.")
@click.option(
    "--data-dir",
    type=PATH,
    metavar="FOLDER",
    help="Where the images are now.  [default: where SPM.mat says, or beside it as they were]",
)
@click.option("--mask", type=PATH, metavar="IMAGE", help="Mask in the place of SPM's explicit mask.")
@click.option(
    "--smoothing-fwhm", type=click.FloatRange(min=0, min_open=True), metavar="MM", help="Smooth the images first."
)
@click.option(
    "--n-perm",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Random shufflings beside the data as they are. Where the distinct ones are no more, all are taken.",
)
@click.option(
    "--threshold",
    callback=_threshold,
    default="0.001",
    show_default=True,
    metavar="P|VALUE",
    help="Cluster-forming threshold: below 1 an uncorrected p, else a value of t or F; or none.",
)
@click.option("--tfce", is_flag=True, help="Threshold-free cluster enhancement as well.")
@click.option(
    "--unequal-variances",
    is_flag=True,
    help="Give groups whose variances SPM lets differ a variance at each voxel: Aspin-Welch's v.",
)
@click.option(
    "--block-scheme",
    type=click.Choice(["within", "whole", "both"]),
    help="How images of one person are shuffled.  [default: what each contrast calls for]",
)
@click.option(
    "--errors",
    type=click.Choice(["ee", "ise", "both"]),
    help="ee: permutations; ise: sign flips.  [default: what each contrast calls for]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shufflings.")
@click.option("--threads", "n_workers", type=click.IntRange(min=1), help="Threads to use; all cores by default.")
@click.option("--memory-limit", metavar="SIZE", help="Of the whole process, such as 4GB.")
@click.option("--dry-run", is_flag=True, help="Print the plan, with memory and time; run nothing.")
@habits
def spm(terminal: Terminal, **options: Any) -> None:
    """Test the contrasts of a second-level SPM.mat by shuffling, with p corrected for family-wise error.

    Reads design, contrasts, images, masks and global scaling from SPM.mat (or the folder that holds it); the design
    need not be estimated. T contrasts are tested on one side, as SPM does. Images of one person, by SPM's block
    columns or non-sphericity, are shuffled so that they stay together.

    Writes, for contrast 0001: permT_0001.nii (permF), lP_0001.nii (-log10 of p, uncorrected), lP_FDR_0001.nii, and
    corrected for family-wise error lP_FWE_0001.nii (voxels), lP_FWE_size_0001.nii, lP_FWE_mass_0001.nii (clusters), and
    lP_FWE_TFCE_0001.nii; NaN outside the mask; permClusters_0001.tsv, and numbaglm_spm.json. SPM's own files are never
    written to. 1.301 is p = 0.05. There are no tables with FWHM and resels: they are of random field theory, which
    shuffling does without.
    """
    with terminal.loading():
        from numbaglm.faces.spm.run import Request, run_request

    terminal.outcome(*run_request(Request(**options), terminal.progress))
