"""`numbaglm power`: how often a test of other numbers of subjects would find an effect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from numbaglm.faces.shell import PATH, Terminal, examples, habits

if TYPE_CHECKING:
    from numbaglm.results.result import PermutationResult


@click.command(
    epilog=examples(
        "numbaglm power results cohort.zarr -n 20,40,80",
        "numbaglm power results cohort.zarr -n 40 --effect 0.5 --region motor.nii.gz --by tfce --output power",
    )
)
@click.argument("folder", type=PATH, metavar="RESULT")
@click.argument("cohort", type=PATH, metavar="COHORT")
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
def power(terminal: Terminal, folder: str, cohort: str, output: str | None, overwrite: bool, **options: Any) -> None:
    """Say how often a study of other numbers of subjects would find an effect.

    RESULT is the folder of a pilot that numbaglm permute wrote, COHORT what it analysed. Studies are drawn, with the
    pilot's noise and the effect, and each is tested by shuffling as the pilot was.
    """
    with terminal.loading():
        from numbaglm.cohort import Cohort
        from numbaglm.data.storage.files import check_free
        from numbaglm.inference.power import MARKER
        from numbaglm.inference.power import power as told_power

    if output is not None:
        check_free(output, MARKER, overwrite)
    sizes = _numbers(",".join(options.pop("n")), int)
    if sizes is None:
        raise click.UsageError("-n: write numbers of subjects with commas between, such as 20,40,80.")
    effect = options.pop("effect")
    numbers = None if effect is None else _numbers(effect, float)
    if numbers is not None:
        effect = numbers if len(numbers) > 1 else numbers[0]
    found = told_power(
        _pilot(folder), sizes, cohort=Cohort.open(cohort), effect=effect, progress=terminal.progress, **options
    )
    text = found.in_words()
    if output is not None:
        found.save(output, overwrite)
        text += f"\n\nThe table, its picture and a map for each number of subjects are in {output}."
    rows = found.curve.to_dict("records")
    asked = {"by": found.by, "alpha": found.alpha, "n_cohorts": found.n_cohorts, "n_perm": found.n_perm}
    terminal.outcome(asked | {"needed": found.needed(), "output": output, "curve": rows}, text)


def _numbers(text: str, kind: type[int] | type[float]) -> list[Any] | None:
    """Read numbers with commas between; None for anything else."""
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        return None


def _pilot(folder: str) -> PermutationResult:
    """Load the one result in a folder."""
    from numbaglm.errors import InputError, invalid
    from numbaglm.results.bids.results import kept_results
    from numbaglm.results.result import PermutationResult

    above = Path(folder).expanduser()
    places = kept_results(above)
    if len(places) > 1:
        named = ", ".join(map(str, places))
        raise InputError(invalid("folder", f"{folder}, which holds {len(places)} results", f"one of {named}"))
    return PermutationResult.load(places[0] if places else above)
