"""`numbaglm beyond`: how much of an effect there is, how large it is and where it is absent, of a saved result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from numbaglm.faces.shell import PATH, Terminal, examples, habits

if TYPE_CHECKING:
    import pandas as pd

    from numbaglm.results.reporting.finding import Finding
    from numbaglm.results.result import PermutationResult

_MARKER = "report.html"
_SIZE: dict[str, Any] = {"type": float, "multiple": True, "metavar": "SIZE"}


@click.command(
    epilog=examples(
        "numbaglm beyond results --region atlas.nii.gz",
        "numbaglm beyond results --tdp 0.7 --output discoveries",
        "numbaglm beyond results cohort.zarr --intervals --confidence-set 0.5 --absent 0.2 --output sizes",
    )
)
@click.argument("folder", type=PATH, metavar="RESULT")
@click.argument("cohort", type=PATH, metavar="[COHORT]", required=False)
@click.option(
    "--region",
    "regions",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="How many of a mask, or of each region of an atlas, have an effect, at least; repeat it for more.",
)
@click.option("--tdp", type=float, metavar="SHARE", help="The largest clusters of which such a share has an effect.")
@click.option("--intervals", is_flag=True, help="Intervals of the effect that hold everywhere at once.")
@click.option("--confidence-set", "sets", **_SIZE, help="Where the effect is so large: surely, and at most.")
@click.option("--absent", **_SIZE, help="Where the effect, of either sign, is smaller than this.")
@click.option(
    "--sequential-p",
    "sequential",
    type=click.Choice(["voxel", "size", "mass", "tfce"]),
    multiple=True,
    help="Corrected p of Besag and Clifford, of any level whenever the test stopped; repeat it for more.",
)
@click.option(
    "--of",
    type=click.Choice(["effect", "cohens_d"]),
    default="effect",
    show_default=True,
    help="What sizes are of: the effect in the units of the maps, or Cohen's d.",
)
@click.option("--level", type=float, default=0.95, show_default=True, help="How often all of it holds.")
@click.option("--n-flips", type=int, default=1000, show_default=True, help="Of residuals, for what takes COHORT.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of these flips.")
@click.option("-o", "--output", type=PATH, help="Folder to write maps, tables, pictures and a report into.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote there.")
@click.option("--threads", "n_workers", type=click.IntRange(min=1), help="Threads to use; all cores by default.")
@habits
def beyond(
    terminal: Terminal,
    folder: str,
    cohort: str | None,
    regions: tuple[str, ...],
    tdp: float | None,
    intervals: bool,
    sets: tuple[float, ...],
    absent: tuple[float, ...],
    sequential: tuple[str, ...],
    of: str,
    level: float,
    output: str | None,
    overwrite: bool,
    **how: Any,
) -> None:
    """Say how much of an effect there is, how large it is and where it is absent.

    RESULT is the folder that numbaglm permute wrote. COHORT, what it analysed, is needed for intervals, confidence
    sets and absence, whose sizes are those of a t contrast. Each answer says what it promises.
    """
    of_sizes = intervals or bool(sets) or bool(absent)
    if not (of_sizes or regions or sequential or tdp is not None):
        several = "--region, --tdp, --intervals, --confidence-set, --absent or --sequential-p"
        raise click.UsageError(f"Ask for something: {several}.")
    if of_sizes and cohort is None:
        raise click.UsageError("Name the cohort after the result, RESULT COHORT: sizes are of flips of its residuals.")
    with terminal.loading():
        from numbaglm.cohort import Cohort
        from numbaglm.data.storage.folders import check_free
        from numbaglm.faces.cli.inputs import one_result

    if output is not None:
        check_free(output, _MARKER, overwrite)
    result = one_result(folder)
    told, tables, images = _discoveries(result, regions, tdp, round(1 - level, 10))
    for kind in sequential:
        p, alpha = result.sequential_p(kind), round(1 - level, 10)
        images[f"p_sequential_{kind}"], n, nouns = p, int((p <= alpha).sum()), result.space.nouns
        of_p = "They hold at any level, whenever the test stopped."
        told.append(f"Corrected p of Besag and Clifford by {kind}. {of_p} {n:,} {nouns} have one of {alpha:g} or less.")
    found: dict[str, Finding] = {}
    how |= {"of": of, "cohort": None if cohort is None else Cohort.open(cohort), "progress": terminal.progress}
    if intervals or absent:
        every = result.interval(level, simultaneous=True, **how)
        if intervals:
            found["intervals"] = every
            images |= {f"{of}_at_least": every.lower, f"{of}_at_most": every.upper}
        for size in absent:
            one = found[f"absent_{size:g}"] = every.absent(size)
            images[f"absent_{size:g}"] = one.elements
    for size in sets:
        shown = found[f"confidence_set_{size:g}"] = result.confidence_set(size, level, **how)
        images[f"confidence_set_{size:g}"] = shown.shades
    told += [f"{one.title}. {one.promise} {one.found}" for one in found.values()]
    text = "\n\n".join(told)
    if output is not None:
        _write(result, output, overwrite, text, tables, images, found)
        text += f"\n\nMaps, tables, pictures and a report are in {output}."
    asked = {"result": folder, "level": level, "output": output}
    findings = {name: {"title": one.title, "promise": one.promise, "found": one.found} for name, one in found.items()}
    rows = {name: table.to_dict("records") for name, table in tables.items()}
    terminal.outcome(asked | rows | findings, text)


def _discoveries(
    result: PermutationResult, regions: tuple[str, ...], tdp: float | None, alpha: float
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """What is said of true discoveries, and their tables and maps."""
    import pandas as pd

    told, tables, images = [], {}, {}
    if regions:
        parts = []
        for path in regions:
            one = result.true_discoveries(path, alpha)
            if not isinstance(one, pd.DataFrame):
                row = {"n_elements": one.n_elements, "n_true": one.n_true, "tdp": one.tdp}
                one = pd.DataFrame(row, index=[1])
            parts.append(one.rename_axis("label").reset_index().assign(region=Path(path).name))
        tables["regions"] = table = pd.concat(parts, ignore_index=True).set_index("region").reset_index()
        told.append(f"True discoveries in regions, at least\n{_shown(table)}")
    if tdp is not None:
        clusters = result.discovery_map(tdp, alpha)
        tables["discoveries"], images["discoveries"] = clusters.clusters, clusters.labels
        shown = _shown(clusters.clusters.drop(columns="peak_element"))
        told.append(f"The largest clusters of which {tdp:.0%} have an effect, at least\n{shown}")
    if told:
        told.append(f"With {1 - alpha:.0%} the bounds of all regions and clusters hold at once.")
    return told, tables, images


def _shown(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.3f}".format) if len(table) else "none"


def _write(
    result: PermutationResult,
    output: str,
    overwrite: bool,
    text: str,
    tables: dict[str, Any],
    images: dict[str, Any],
    found: dict[str, Finding],
) -> None:
    """Write everything into a folder, which appears whole or not at all."""
    import numpy as np

    from numbaglm.data.images import save_maps
    from numbaglm.data.storage.folders import whole_folder
    from numbaglm.results.vocabulary import write_readme

    with whole_folder(output, _MARKER, overwrite) as part:
        for name, table in tables.items():
            table.to_csv(part / f"{name}.tsv", sep="\t", index=False)
        if images:
            save_maps(result.space, {name: np.asarray(one, np.float64) for name, one in images.items()}, part)
        for name, one in found.items():
            one.plot(save=part / f"{name}.png")
        result.report(part / _MARKER, beyond=list(found.values()))
        write_readme(part, "Beyond p", f"```text\n{text}\n```", result.space)
