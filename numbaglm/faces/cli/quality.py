"""`numbaglm quality`: which maps stand out, told, and written down on request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from numbaglm.faces.cli.bids_options import bids_inputs
from numbaglm.faces.cli.options import IMAGES
from numbaglm.faces.shell import PATH, Terminal, examples, habits

if TYPE_CHECKING:
    from numbaglm.engine.quality import Quality

MARKER = "quality.tsv"
"""The file by which a folder of this command is known."""

_MOST_NAMED = 20


@click.command(
    epilog=examples(
        "numbaglm quality cohort.zarr",
        "numbaglm quality sub-*/con_0001.nii.gz --mask brain.nii.gz --output quality",
        "numbaglm quality sub-*_connectome.tsv --network",
    )
)
@click.argument("maps", nargs=-1, type=PATH, metavar="[MAPS]...")
@bids_inputs("--contrast")
@click.option("-o", "--output", type=PATH, help="Folder to write table and picture into.")
@IMAGES
@click.option("--memory-limit", metavar="SIZE", help="Such as 8GB.  [default: a quarter of what is free]")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote there.")
@click.option("--threads", "n_workers", type=click.IntRange(min=1), help="Threads to use; all cores by default.")
@habits
def quality(
    terminal: Terminal,
    maps: tuple[str, ...],
    output: str | None,
    memory_limit: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Look at every map: what it holds, and whether it stands out from the others.

    MAPS are a cohort, NIfTI files, one 4D file, or a table of paths as for 'numbaglm convert'; or --bids-dir finds
    them. A map stands out by its mean, its sd or its correlation with the median map (robust z beyond 3.5), by missing
    voxels (more than 5 %), or when another map holds the same data. Look at such a map before you leave it out.
    """
    from numbaglm.cohort import Cohort, as_cohort
    from numbaglm.data.storage.folders import check_free
    from numbaglm.faces.cli.inputs import is_cohort, pop_maps, pop_places, without_subjects

    if output is not None:
        check_free(output, MARKER, overwrite)
    n_workers = options.pop("n_workers")
    leave_out = options["leave_out"]
    listed, _ = pop_maps(maps, options)
    one = len(maps) == 1 and is_cohort(maps[0])
    options |= pop_places(options)
    cohort = as_cohort(
        without_subjects(Cohort.open(maps[0]), leave_out) if one else listed,
        progress=terminal.progress,
        n_workers=n_workers,
        **options,
    )
    found = cohort.examine(memory_limit=memory_limit, n_workers=n_workers, progress=terminal.progress)
    text = describe(found)
    if output is not None:
        _write(found, text, output, overwrite)
        text += f"\n\nThe table of all maps and a picture are in {output}."
    table = json.loads(found.table.reset_index().to_json(orient="records"))
    n_outliers = int(found.table["outlier"].sum())
    terminal.outcome({"n_subjects": len(table), "n_outliers": n_outliers, "output": output, "maps": table}, text)


def describe(found: Quality) -> str:
    """Say which maps stand out, as a table of them."""
    odd = found.table[found.table["outlier"]]
    if odd.empty:
        return f"None of {len(found.table):,} maps stands out."
    shown = odd.head(_MOST_NAMED)
    columns = {
        "": [str(label) for label in shown.index],
        "mean": [f"{value:.3g}" for value in shown["mean"]],
        "sd": [f"{value:.3g}" for value in shown["sd"]],
        "correlation": [f"{value:.2f}" for value in shown["correlation"]],
        "missing": [f"{value:.1%}" for value in shown["missing"]],
    }
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    rows = zip(*([name, *cells] for name, cells in columns.items()), strict=True)
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    reasons = ["stands out by", *shown["reason"]]
    table = [f"{line}  {reason}" for line, reason in zip(lines, reasons, strict=True)]
    more = [f"... {len(odd) - len(shown)} more"] if len(odd) > len(shown) else []
    head = f"{len(odd)} of {len(found.table):,} maps stand{'s' if len(odd) == 1 else ''} out:"
    return "\n".join([head, *table, *more])


def _write(found: Quality, text: str, output: str, overwrite: bool) -> None:
    from numbaglm import plotting
    from numbaglm.data.storage.folders import whole_folder
    from numbaglm.results.vocabulary import write_readme

    with whole_folder(output, MARKER, overwrite) as part:
        found.table.to_csv(part / MARKER, sep="\t")
        plotting.carpet(found, save=part / "quality.png")
        write_readme(part, "Quality of the maps", f"```text\n{text}\n```")
