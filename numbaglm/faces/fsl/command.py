"""`numbaglm randomise`: the command line of FSL's randomise, so that a script runs with one word changed.

The flags are declared here; `request` and `run` beside it do the work, and are imported when it runs.
"""

from __future__ import annotations

from typing import Any

import click

from numbaglm.faces.shell import PATH, Terminal, examples, grouped, habits

REFUSED = {
    "-Q": "there is no parallel mode to prepare: all cores are used",
    "--twopass": "clusters are not normalised; leave it out for ordinary cluster inference",
    "--norcmask": "voxels without variance have no statistic, and always leave the mask",
    "--tfce_D": "TFCE takes 100 steps of each map's maximum",
    "--film": "--glm_output writes effects and variances, and 'numbaglm fit' what else a model has",
    "--permout": "shuffled maps are not kept",
    "--multi": "several maps of each subject as one outcome: numbaglm palm -mv, or permutation_test(combine='wilks')",
    "--effective_design": "valid shufflings follow from the design and from -e",
    "--detectNull": "all subjects are shuffled",
    "--debug": "-V prints all there is to know",
}
"""What randomise has and numbaglm has not, and what to do instead."""

_WITH_VALUE = ("--tfce_D", "--multi", "--effective_design")


def _refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        name = parameter.opts[0]
        raise click.UsageError(f"randomise's {name} is not supported: {REFUSED[name]}.", context)


def _positive(option: str, name: str, text: str) -> Any:
    return click.option(option, name, type=click.FloatRange(min=0, min_open=True), metavar="VALUE", help=text)


_REFUSED = grouped(
    *(
        click.option(
            name,
            f"refused_{name.lstrip('-')}",
            is_flag=name not in _WITH_VALUE,
            hidden=True,
            is_eager=True,
            expose_value=False,
            callback=_refuse,
        )
        for name in REFUSED
    )
)
_DATA = grouped(
    click.option("-i", "maps", type=PATH, required=True, metavar="4D", help="Input image, a volume a subject."),
    click.option(
        "-o", "root", type=PATH, required=True, metavar="ROOT", help="What the names of all outputs start with."
    ),
    click.option("-m", "mask", type=PATH, metavar="IMAGE", help="Mask.  [default: voxels that are not 0 in any map]"),
    click.option("-d", "design", type=PATH, metavar="MAT", help="Design matrix."),
    click.option("-t", "contrasts", type=PATH, metavar="CON", help="t contrasts, each tested on one side."),
    click.option("-f", "f_tests", type=PATH, metavar="FTS", help="F tests: which of the t contrasts each joins."),
    click.option("-e", "groups", type=PATH, metavar="GRP", help="Exchangeability blocks."),
    click.option("--permuteBlocks", "permute_blocks", is_flag=True, help="Shuffle blocks as wholes, not within."),
    click.option("-1", "one_sample", is_flag=True, help="Test the mean by sign flips, without -d and -t."),
    click.option("--vxl", "own_columns", metavar="LIST", help="Columns of -d that differ between voxels, such as 3,4."),
    click.option("--vxf", "own_files", metavar="LIST", help="4D images of these, such as gm.nii.gz,lesions.nii.gz."),
    click.option("-D", "demean", is_flag=True, help="Remove the mean from the data and from the design."),
    click.option(
        "-v", "sigma", type=click.FloatRange(min=0, min_open=True), metavar="MM", help="Smooth variances of t."
    ),
)
_TESTS = grouped(
    click.option("-x", "voxel", is_flag=True, help="Corrected p of voxels."),
    _positive("-c", "extent", "Clusters of t above this, by extent."),
    _positive("-C", "mass", "Clusters of t above this, by mass."),
    _positive("-F", "f_extent", "Clusters of F above this, by extent."),
    _positive("-S", "f_mass", "Clusters of F above this, by mass."),
    click.option("-T", "tfce", is_flag=True, help="Threshold-free cluster enhancement."),
    click.option("--T2", "tfce_2d", is_flag=True, help="TFCE for skeletons: H = 2, E = 1, 26 neighbours."),
    click.option("--tfce_H", "tfce_h", type=click.FloatRange(min=0), help="Exponent of height.  [default: 2]"),
    click.option("--tfce_E", "tfce_e", type=click.FloatRange(min=0), help="Exponent of extent.  [default: 0.5]"),
    click.option("--tfce_C", "tfce_c", type=click.Choice(["6", "18", "26"]), help="Neighbours.  [default: 6]"),
    click.option("--fonly", "f_only", is_flag=True, help="F tests alone."),
    click.option(
        "--skipTo",
        "skip_to",
        type=click.IntRange(min=0),
        default=0,
        metavar="NUMBER",
        help="This test alone, F tests counted before t contrasts; 0 for all.",
    ),
    click.option(
        "-U",
        "confound_mode",
        type=click.Choice(["0", "1", "2", "3"]),
        default="1",
        show_default=True,
        help="Nuisance: as Kennedy, Freedman and Lane, Manly, ter Braak.",
    ),
)
_RUN = grouped(
    click.option(
        "-n",
        "n_shufflings",
        type=click.IntRange(min=0),
        default=5000,
        show_default=True,
        help="Shufflings, the observed data among them; 0 for all there are, 1 for raw statistics alone.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shufflings."),
    click.option("-q", "count_only", is_flag=True, help="Tell how many distinct shufflings each test has, no more."),
    click.option("-R", "raw", is_flag=True, help="Raw maps of TFCE and clusters as well."),
    click.option(
        "-P", "vectors", is_flag=True, help="Shufflings as text, a row each, as 'palm --shufflings' reads it."
    ),
    click.option("--glm_output", "glm", is_flag=True, help="Effects of t contrasts, their variances, and sigma^2."),
    click.option("-N", "nulls", is_flag=True, help="Null distributions as text, a maximum a line, the observed first."),
    click.option("--uncorrp", "uncorrected", is_flag=True, help="Uncorrected p of voxels, and of TFCE."),
    click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON."),
    click.option("--quiet", is_flag=True, help="Print the outcome, warnings and errors alone."),
    click.option("-V", "--verbose", is_flag=True, help="Print everything, tracebacks of errors included."),
)


@click.command(
    epilog=f"Refused are {', '.join(REFUSED)}.\n\n"
    + examples(
        "numbaglm randomise -i all_FA -o tbss -d design.mat -t design.con -m mask -n 500 --T2",
        "numbaglm randomise -i maps.nii.gz -o mean -1 -v 5 -x -c 3.1",
    )
)
@_DATA
@_TESTS
@_RUN
@_REFUSED
def randomise(**options: Any) -> None:
    """Run as FSL's randomise does: its flags, its files, its names of outputs.

    Writes ROOT_tstat1 and, as asked for, ROOT_vox_p_tstat1, ROOT_vox_corrp_tstat1, ROOT_tfce_corrp_tstat1,
    ROOT_clustere_corrp_tstat1 and ROOT_clusterm_corrp_tstat1, and the same of fstat: .nii.gz with 1 - p, 0 outside
    the mask; with --glm_output ROOT_glm_cope_tstat1, ROOT_glm_varcope_tstat1, ROOT_glm_sigmasqr_tstat1, and with -P
    ROOT_perm_tstat1.txt. As in randomise, outputs of an earlier run are overwritten, and names of images may lack
    their suffix. What is not supported is refused by name.

    Unlike randomise, whether signs are flipped or subjects permuted follows from each contrast: flips where it tests
    a mean. Designs of dependent columns are fine where the contrasts are estimable.
    """
    _run(**options)


@habits
def _run(terminal: Terminal, **options: Any) -> None:
    with terminal.loading():
        from numbaglm.faces.fsl.request import Request
        from numbaglm.faces.fsl.run import run_request

    terminal.outcome(*run_request(Request.parse(options), terminal.progress))
