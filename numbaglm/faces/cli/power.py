"""`numbaglm power`: how often a test of other numbers of subjects would find an effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from numbaglm.faces.shell import PATH, Terminal, examples, habits


@click.command(
    epilog=examples(
        "numbaglm power results cohort.zarr -n 20,40,80",
        "numbaglm power results cohort.zarr -n 40 --effect 0.5 --region motor.nii.gz --by tfce --output power",
        "numbaglm power cohens_d.nii.gz -n 20,40,80 --mask brain.nii.gz --noise-fwhm 8",
    )
)
@click.argument("folder", type=PATH, metavar="RESULT|EFFECT")
@click.argument("cohort", type=PATH, metavar="[COHORT]", required=False)
@click.option(
    "-n",
    "--n-subjects",
    "n",
    required=True,
    multiple=True,
    metavar="N[,N]...",
    help="Numbers of subjects, with commas between; or repeat it.",
)
@click.option(
    "--effect",
    metavar="FILE|NUMBER",
    help="Effect of the contrast, in the units of the maps: an image, or a number; of an F contrast a number a row, "
    "with commas between.  [default: what the pilot estimates, noise and all]",
)
@click.option("--mask", type=PATH, metavar="FILE", help="Without a pilot: the voxels that would be analysed.")
@click.option("--noise-fwhm", type=float, metavar="MM", help="Without a pilot: smoothness of the maps.")
@click.option("--region", type=PATH, metavar="FILE", help="Mask of where it is looked for.  [default: everywhere]")
@click.option("--by", default="voxel", show_default=True, metavar="voxel|size|mass|tfce", help="Whose corrected p.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Family-wise error rate.")
@click.option("--n-cohorts", type=int, default=100, show_default=True, help="Studies of each size, 10 or more.")
@click.option("--n-perm", type=int, default=500, show_default=True, help="Shufflings of each study, 99 or more.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of studies and shufflings.")
@click.option("-o", "--output", type=PATH, help="Folder to write table, picture and maps into.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote there.")
@click.option("--threads", "n_workers", type=click.IntRange(min=1), help="Threads to use; all cores by default.")
@habits
def power(
    terminal: Terminal, folder: str, cohort: str | None, output: str | None, overwrite: bool, **options: Any
) -> None:
    """Say how often a study of other numbers of subjects would find an effect.

    RESULT is the folder of a pilot that numbaglm permute wrote, COHORT what it analysed. Studies are drawn, with the
    pilot's noise and the effect, and each is tested by shuffling as the pilot was.

    Without a pilot, EFFECT is an image of Cohen's d, or a number, and there is no COHORT: noise is normal, of the
    smoothness that --noise-fwhm says, and the mean of one sample is tested in --mask.
    """
    with terminal.loading():
        from numbaglm.cohort import Cohort
        from numbaglm.data.storage.folders import check_free
        from numbaglm.faces.cli.inputs import one_result
        from numbaglm.inference.power import MARKER
        from numbaglm.inference.power import power as told_power

    if output is not None:
        check_free(output, MARKER, overwrite)
    sizes = _numbers(",".join(options.pop("n")), int)
    if sizes is None:
        raise click.UsageError("-n: write numbers of subjects with commas between, such as 20,40,80.")
    options["effect"] = _read(options["effect"])
    if cohort is None:
        if not Path(folder).expanduser().is_file() and _numbers(folder, float) is None:
            raise click.UsageError(
                "Name the cohort after the result of a pilot, RESULT COHORT; or without a pilot an image of Cohen's d, "
                "with --mask and --noise-fwhm."
            )
        of, given = _read(folder), None
    else:
        of, given = one_result(folder), Cohort.open(cohort)
    found = told_power(of, sizes, cohort=given, progress=terminal.progress, **options)
    text = found.in_words()
    if output is not None:
        found.save(output, overwrite)
        text += f"\n\nThe table, its picture and a map for each number of subjects are in {output}."
    rows = found.curve.to_dict("records")
    asked = {"by": found.by, "alpha": found.alpha, "n_cohorts": found.n_cohorts, "n_perm": found.n_perm}
    terminal.outcome(asked | {"needed": found.needed(), "output": output, "curve": rows}, text)


def _read(effect: str | None) -> Any:
    """An effect: the file that is named, a number, or several with commas between."""
    numbers = None if effect is None else _numbers(effect, float)
    if numbers is None:
        return effect
    return numbers if len(numbers) > 1 else numbers[0]


def _numbers(text: str, kind: type[int] | type[float]) -> list[Any] | None:
    """Read numbers with commas between; None for anything else."""
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        return None
