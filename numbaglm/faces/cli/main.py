"""The command line. What a command needs is imported when it runs, so that its --help is there at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from numbaglm.faces.cli.beyond import beyond
from numbaglm.faces.cli.bids_options import BIDS, bids_inputs
from numbaglm.faces.cli.completion import completion
from numbaglm.faces.cli.options import CONTRAST, CONTRASTS, TEST
from numbaglm.faces.cli.options import IMAGES as _IMAGES
from numbaglm.faces.cli.power import power
from numbaglm.faces.cli.quality import quality
from numbaglm.faces.shell import PATH, Terminal, examples, grouped, habits

_THREADS = click.option(
    "--threads", "n_workers", type=click.IntRange(min=1), help="Threads to use; all cores by default."
)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote there.")
_OUTPUT = click.option(
    "-o", "--output", type=PATH, required=True, help="Folder to write; it appears when all is in it."
)
_ATLAS = click.option(
    "--atlas",
    multiple=True,
    metavar="FILE",
    help="Names of places for the tables: a label image with its names in a .tsv, .xml or .txt beside it, a "
    ".dlabel.nii, or SIDE=FILE of surfaces (.label.gii, .annot).",
)
_REPORT = click.option(
    "--report/--no-report",
    default=True,
    help="Write a page of everything, to be read in a browser.  [default: write it]",
)
_MAPS = click.argument("maps", nargs=-1, type=PATH, metavar="[MAPS]...")
_LAYERS = click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME=MAPS",
    help="Further maps of the subjects, stored beside the maps: a pattern, 4D file or table, as variance='var/*.nii'.",
)
_MEMORY = click.option(
    "--memory-limit", metavar="SIZE", help="Of the whole process, such as 4GB.  [default: what it may really take]"
)
_BY_ORDER = click.option(
    "--by-order",
    is_flag=True,
    help="Take the rows of tables in the order of the maps, whatever labels they carry.  [default: by label]",
)
_MODEL = grouped(
    click.option(
        "--design",
        "design_matrix",
        type=PATH,
        metavar="FILE",
        help="Whole design matrix (.tsv, .csv), or a formula over the covariates: '~ age + group'.",
    ),
    click.option("--covariates", type=PATH, metavar="FILE", help="Table of a row a subject (.tsv, .csv)."),
    click.option(
        "--model",
        multiple=True,
        metavar="COLUMN",
        help="Column of the covariates to put into the model; repeat it for more. Text makes a column "
        "for each of its values, in the intercept's place.",
    ),
    click.option("--intercept/--no-intercept", default=True, help="Add a column of ones to --model."),
    _BY_ORDER,
)


commands = click.Group()
"""The commands of this face; `numbaglm.faces.commands` makes one program of them and those of the others."""


@commands.command(
    epilog=examples(
        "numbaglm demo",
        "numbaglm demo --surface",
        "numbaglm demo --output tour --n-perm 2000",
        "numbaglm demo --localizer",
    )
)
@click.option("-o", "--output", type=PATH, default="numbaglm-demo", show_default=True, help="Folder to write.")
@click.option("--n-perm", type=click.IntRange(min=1), default=10_000, show_default=True, help="Sign flips.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
@click.option("--surface", is_flag=True, help="On the surfaces of both hemispheres, with clusters and TFCE there.")
@click.option("--localizer", is_flag=True, help="Analyse real maps, which nilearn downloads.")
@_REPORT
@_OVERWRITE
@_THREADS
@habits
def demo(
    terminal: Terminal, output: str, n_workers: int | None, surface: bool, localizer: bool, **options: Any
) -> None:
    """Run a whole group analysis, from maps to corrected p and figures.

    Simulates a left versus right button press of 16 subjects as NIfTI files, converts them to a cohort, fits
    the one-sample model, flips signs, and writes maps, tables, figures and a README into one folder. With --surface
    the maps are GIFTI files on two hemispheres.
    """
    if surface and localizer:
        raise click.UsageError("--localizer has maps of volumes: leave it out, or --surface.")
    with terminal.loading():
        from numbaglm.faces.cli.demo import Pace, run_demo
        from numbaglm.faces.cli.surface_demo import run_surface_demo

    pace = Pace(n_workers, terminal.progress)
    if surface:
        made = run_surface_demo(output, running=pace, **options)
    else:
        made = run_demo(output, running=pace, localizer=localizer, **options)
    page = f"open {made.page} in a browser, or " if made.page else ""
    end = f"Everything is in {output}; {page}start with README.md there."
    terminal.outcome(made.summary, f"{made.text}\n\n{end}")


@commands.command(
    epilog=examples(
        "numbaglm convert sub-*/con_0001.nii.gz --output cohort.zarr --smoothing-fwhm 8",
        "numbaglm convert maps.tsv --mask brain.nii.gz --covariates participants.tsv --output cohort.zarr",
        "numbaglm convert maps.txt --min-coverage 0.95 --output cohort.zarr",
        "numbaglm convert --bids-dir derivatives/fitlins --task rest --contrast yVsN --output cohort.zarr",
        "numbaglm convert --spm-dir first_level --con 1 --output cohort.zarr",
    )
)
@_MAPS
@click.option("-o", "--output", type=PATH, required=True, help="Cohort to write, such as cohort.zarr.")
@_IMAGES
@click.option(
    "--covariates", type=PATH, metavar="FILE", help="Table of a row a subject (.tsv, .csv), stored with the maps."
)
@_BY_ORDER
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="SHARE",
    help="Share of the maps that must hold a voxel, such as 0.95; what the others lack is taken as 0.  [default: 1]",
)
@click.option(
    "--min-subjects",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="How many maps, or which share of them (0.5), must hold a voxel; what the others lack stays missing.",
)
@click.option("--resample", is_flag=True, help="Resample maps on other grids, linearly.  [default: refuse them]")
@_LAYERS
@bids_inputs("--contrast")
@_OVERWRITE
@_THREADS
@_MEMORY
@habits
def convert(terminal: Terminal, maps: tuple[str, ...], output: str, **options: Any) -> None:
    """Convert maps to a cohort: checked, smoothed and masked once, read many times.

    MAPS are NIfTI files, one 4D file, or a table of paths: .txt with a path a line, .tsv or .csv with columns
    subject_label and effects_map_path. Relative paths in a table start at its folder. In their place --bids-dir
    finds the maps in a BIDS derivatives dataset, and --spm-dir those of SPM's first levels. If it is stopped, the same
    command goes on where it was.

    Maps on surfaces (GIFTI, FreeSurfer), whose names say the hemisphere, CIFTI files, and a table of parcels, a row a
    subject, are taken as well.
    """
    with terminal.loading():
        from numbaglm.cohort import Cohort
        from numbaglm.faces.cli.inputs import pop_maps, pop_places, read_covariates, read_layers, without_subjects

    covariates = read_covariates(options.pop("covariates"), options.pop("by_order"))
    layers = without_subjects(read_layers(options.pop("layers")), options["leave_out"])
    listed, table = pop_maps(maps, options)
    options |= {"covariates": table if covariates is None else covariates, "layers": layers}
    options |= pop_places(options)
    least = options["min_subjects"]
    options["min_subjects"] = int(least) if least is not None and least > 1 and least == int(least) else least
    cohort = Cohort.create(output, listed, progress=terminal.progress, **options)
    _show_cohort(terminal, cohort)


@commands.command(
    epilog=examples(
        "numbaglm append cohort.zarr wave2/sub-*/con_0001.nii.gz",
        "numbaglm append cohort.zarr new.tsv --covariates participants.tsv",
    )
)
@click.argument("path", type=PATH, metavar="COHORT")
@_MAPS
@click.option(
    "--covariates", type=PATH, metavar="FILE", help="Table of a row a new subject (.tsv, .csv): the cohort's columns."
)
@_BY_ORDER
@click.option("--resample", is_flag=True, help="Resample maps on other grids, linearly.  [default: refuse them]")
@_LAYERS
@bids_inputs("--contrast")
@_THREADS
@_MEMORY
@habits
def append(terminal: Terminal, path: str, maps: tuple[str, ...], covariates: str | None, **options: Any) -> None:
    """Add subjects to a cohort, which is written anew beside its old data.

    MAPS are those of the new subjects, as for 'numbaglm convert'. Voxels that they lack leave the mask; smoothing and
    the rule of the mask are the cohort's. The old data counts until the new is complete.
    """
    with terminal.loading():
        from numbaglm.cohort import Cohort
        from numbaglm.faces.cli.inputs import pop_maps, read_covariates, read_layers, without_subjects

    given = read_covariates(covariates, options.pop("by_order"))
    options["layers"] = without_subjects(read_layers(options["layers"]), options["leave_out"])
    listed, table = pop_maps(maps, options)
    cohort = Cohort.open(path)
    is_network = all(part.kind == "network" for part in cohort.store.space.parts)
    if len(maps) == 1 and is_network and "effects_map_path" not in listed:
        listed = list(maps)  # one matrix, which a table of paths is not
    cohort.append(listed, table if given is None else given, progress=terminal.progress, **options)
    _show_cohort(terminal, cohort)


@commands.command(epilog=examples("numbaglm info cohort.zarr", "numbaglm info results --json"))
@click.argument("path", type=PATH)
@habits
def info(terminal: Terminal, path: str) -> None:
    """Tell what is in a cohort, or in the folder of a result or of a fit; and how far the run in a --store is."""
    from numbaglm.cohort import Cohort
    from numbaglm.data.cohort.layout import status
    from numbaglm.data.runs.folder import is_run
    from numbaglm.data.storage.files import parse_json
    from numbaglm.data.storage.places import Place
    from numbaglm.errors import MissingFileError, StoreError
    from numbaglm.results.bids.results import kept_fit, kept_results
    from numbaglm.results.record import MARKER
    from numbaglm.results.result import PermutationResult

    found = None if "://" in path else Path(path).expanduser()
    places = [] if found is None else kept_results(found) or [found] * (found / MARKER).is_file()
    if places:
        from numbaglm.results.reporting import words

        results = [PermutationResult.load(place) for place in places]
        told = {name: words.summarise(one) for name, one in zip(words.names_of(results), results, strict=True)}
        only = next(iter(told.values())) if len(told) == 1 else {"contrasts": told}
        terminal.outcome(only, "\n\n".join(map(words.describe, results)))
    elif found and (fitted := kept_fit(found)):
        from numbaglm.faces.cli import output

        try:
            summary = parse_json(fitted.read_text(encoding="utf-8"))
            text = output.describe_fit(summary)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{fitted} is not what numbaglm fit wrote ({error!r}). Make it again.") from error
        terminal.outcome(summary, text)
    elif is_run(place := Place.parse(path)):
        from numbaglm.inference.run_state import tell_run

        run = tell_run(place)
        terminal.outcome(run.summarise(), run.describe())
    elif status(path) in ("nothing", "other"):
        raise MissingFileError(
            f"{path} is neither a cohort, a result nor a run. Name what numbaglm convert, permute or fit wrote, or a "
            "--store."
        )
    else:
        _show_cohort(terminal, Cohort.open(path))


@commands.command(epilog=examples("numbaglm verify cohort.zarr"))
@click.argument("path", type=PATH, metavar="COHORT")
@_THREADS
@habits
def verify(terminal: Terminal, path: str, n_workers: int | None) -> None:
    """Read a whole cohort again and compare it with its hashes."""
    from numbaglm.cohort import Cohort

    cohort = Cohort.open(path)
    cohort.verify(progress=terminal.progress, n_workers=n_workers)
    summary = {
        "location": path,
        "intact": True,
        "n_subjects": cohort.n_subjects,
        "fingerprint": cohort.fingerprint,
    }
    terminal.outcome(summary, f"{path} is intact: {cohort.n_subjects} subjects are what was stored.")


@commands.command(
    epilog=examples(
        "numbaglm fit cohort.zarr --output fit",
        "numbaglm fit sub-*.nii.gz --covariates participants.tsv --model age --contrast age --output age",
        "numbaglm fit cohort.zarr --design design.tsv --contrast 'patient - control' --output groups",
        "numbaglm fit --bids-dir derivatives/fitlins --first-level-contrast yVsN --model age --bids --output age",
    )
)
@_MAPS
@bids_inputs()
@_MODEL
@CONTRAST
@_IMAGES
@_OUTPUT
@BIDS
@_OVERWRITE
@_THREADS
@habits
def fit(terminal: Terminal, maps: tuple[str, ...], output: str, overwrite: bool, bids: bool, **options: Any) -> None:
    """Fit the parametric model, and write statistic, z, p, effect and variance of a contrast.

    MAPS are a cohort, NIfTI files, one 4D file, or a table of paths as for 'numbaglm convert'; or --bids-dir finds
    them. Without --design and --model it is the one-sample test.
    """
    with terminal.loading():
        from numbaglm.data.storage.folders import check_free
        from numbaglm.faces.cli import output as faces
        from numbaglm.faces.cli.inputs import Question

    target = faces.Target(output, overwrite, bids)
    check_free(output, target.marker(faces.FIT_MARKER), overwrite)
    question = Question.pop(maps, options, terminal.progress)
    target.check(question.contrast)
    summary, text = faces.save_fit(question, target, terminal.progress, options["n_workers"])
    terminal.outcome({"output": output, **summary}, f"{text}\n\nMaps, figures and a README are in {output}.")


@commands.command(
    epilog=examples(
        "numbaglm permute cohort.zarr --output results",
        "numbaglm permute sub-*.nii.gz --covariates participants.tsv --model age --tfce --output age",
        "numbaglm permute cohort.zarr --model group --contrast 'patient - control' --output groups",
        "numbaglm permute cohort.zarr --design '~ age + sex' --contrast age --contrast 'any=age; sex' --output both",
        "numbaglm permute cohort.zarr --cluster-forming-threshold z:3.1 --one-sided --output z31",
        "numbaglm permute cohort.zarr --model age --tfce --memory-limit 4GB --store run --output age",
        "numbaglm permute con-*.nii.gz --layer 'variance=var-*.nii.gz' --weights variance --output meta",
        "numbaglm permute thickness=a.zarr area=b.zarr --model age --combine fisher --output age",
        "numbaglm permute --bids-dir derivatives/fitlins --first-level-contrast yVsN --model age --bids --output age",
    )
)
@_MAPS
@bids_inputs()
@_MODEL
@CONTRASTS
@click.option(
    "--within-modalities", is_flag=True, help="With --combine-contrasts: the contrasts of each modality for itself."
)
@_IMAGES
@_LAYERS
@TEST
@click.option(
    "--memory-limit", metavar="SIZE", help="Of a whole process, such as 8GB.  [default: half of what is free]"
)
@click.option(
    "--store",
    type=PATH,
    metavar="FOLDER",
    help="Keep what is done in a folder or at a URL: the same command goes on from there, whatever stopped it.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, with memory, disk and time; run nothing.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster, such as tcp://node1:8786.")
@_REPORT
@_ATLAS
@_OUTPUT
@BIDS
@_OVERWRITE
@_THREADS
@habits
def permute(
    terminal: Terminal,
    maps: tuple[str, ...],
    output: str,
    overwrite: bool,
    bids: bool,
    report: bool,
    atlas: tuple[str, ...],
    **options: Any,
) -> None:
    """Test contrasts by shuffling, with p corrected for family-wise error.

    MAPS are a cohort, NIfTI files, one 4D file, or a table of paths as for 'numbaglm convert'; or --bids-dir finds
    them. Without --design and --model it is the one-sample test, by sign flips. Writes maps, tables, figures, a report
    (one HTML page) and a README of what is what; prints the summary and the largest clusters. Several contrasts have a
    folder each in it.

    Of several modalities of the same subjects MAPS are NAME=MAPS, each a cohort, a file or a pattern. p are corrected
    over them, and each has a folder; or --combine makes one test of them. left=MAPS and right=MAPS of files are the
    hemispheres of one test.
    """
    with terminal.loading():
        from numbaglm.data.images.atlases import read_atlas
        from numbaglm.data.storage.folders import check_apart, check_free
        from numbaglm.engine.progress import preparing
        from numbaglm.faces.cli import output as faces
        from numbaglm.faces.cli.inputs import (
            Labels,
            Question,
            by_side,
            connected,
            have_names,
            parse_threshold,
            read_named,
            read_names,
            read_weights,
            read_weights_by_name,
            rows_of,
        )
        from numbaglm.inference.arguments import WITHIN
        from numbaglm.inference.permutation_test import permutation_test
        from numbaglm.results.record import MARKER

    several = len(options["contrast"]) > 1
    for option in ("fwe_across_contrasts", "combine_contrasts"):
        if options[option] and not several:
            name = option.replace("_", "-")
            raise click.UsageError(f"--{name} takes several contrasts: repeat --contrast, or leave it out.")
    if options.pop("within_modalities"):
        if not options["combine_contrasts"]:
            raise click.UsageError("--within-modalities is for --combine-contrasts: add it, or leave it out.")
        options["combine_contrasts"] = WITHIN
    options["combine_weights"] = read_weights_by_name(options["combine_weights"])
    if options["modality_contrast"] is not None:
        allowed = "a modality, or an expression over modalities"
        options["modality_contrast"] = rows_of(options["modality_contrast"], "modality_contrast", allowed)
    apart = have_names(maps) and (options["combine"] is None or options["combine_contrasts"] == WITHIN)
    if apart and bids:
        raise click.UsageError("--bids has no names for modalities: --combine them, or leave it out.")
    folders = apart or (several and not options["combine_contrasts"])
    target = faces.Target(output, overwrite, bids, several=folders, report=report)
    check_free(output, target.marker(MARKER), overwrite)
    check_apart(output, options["store"])
    options["cluster_forming_threshold"] = parse_threshold(options["cluster_forming_threshold"])
    blocks = Labels.read(options.pop("exchangeability_blocks"), "--blocks")
    groups = Labels.read(options.pop("variance_groups"), "--variance-groups", word="auto")
    weights = read_weights(options.pop("weights"))
    of_maps = {name: Labels.read(options.pop(name), f"--{name}") for name in ("visits", "groups")}
    subjects = Labels.read(options.pop("subjects"), "--subjects")
    options["effects"] = None if options["effects"] is None else read_names(options["effects"])
    options["between"] = 0 if options["between"] == "0" else options["between"]
    scheduler, regressors = options.pop("scheduler"), read_named(options.pop("regressors"))
    with preparing():
        question = Question.pop(maps, options, terminal.progress)
    target.check(question.contrast)
    names = by_side(atlas)
    if names is not None:
        read_atlas(names).regions(question.cohort.store.space)  # what can't name its elements is refused now
    with connected(scheduler) as client:
        made = permutation_test(
            question.data,
            question.design,
            question.contrast,
            exchangeability_blocks=blocks.of(question),
            variance_groups=groups.of(question),
            regressors=regressors,
            weights=weights.of(question),
            **{name: labels.of(question) for name, labels in of_maps.items()},
            subjects=subjects.of(question),
            client=client,
            progress=terminal.progress,
            **options,
        )
        by_name = faces.flattened(made)
        if options["dry_run"]:
            terminal.outcome(*faces.tell_plans(by_name))
            return
        examined = {name: options[name] for name in ("memory_limit", "n_workers")}
        results = list(by_name.values())
        if question.modalities is None:
            results = faces.with_quality(
                results, question.cohort, client=client, progress=terminal.progress, **examined
            )
    results = faces.with_regions(results, names)
    faces.save_results(results, target, question.cohort, names)
    terminal.outcome(*faces.tell_results(results, target))


commands.add_command(completion)
commands.add_command(quality)
commands.add_command(power)
commands.add_command(beyond)


@commands.command(epilog=examples("numbaglm report results", "numbaglm report results --output group.html"))
@click.argument("folder", type=PATH, metavar="RESULT")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Page to write.  [default: report.html among the results]"
)
@click.option(
    "--background",
    multiple=True,
    metavar="FILE",
    help="Anatomy beneath the maps of a volume, in their space; SIDE=FILE of surfaces, such as left=L.sulc.shape.gii.  "
    "[default: the MNI template where maps are in MNI space and nilearn is installed]",
)
@click.option(
    "--surface", multiple=True, metavar="SIDE=FILE", help="Mesh to draw surfaces on, such as left=L.inflated.surf.gii."
)
@_ATLAS
@_OVERWRITE
@habits
def report(
    terminal: Terminal,
    folder: str,
    output: str | None,
    background: tuple[str, ...],
    surface: tuple[str, ...],
    atlas: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Write a saved result onto one HTML page: maps to click through, tables, a methods paragraph.

    RESULT is the folder that numbaglm permute wrote. The page needs no network and no other file. Of several
    contrasts each has a page of its own, and report.html lists them.
    """
    from numbaglm.errors import InputError, invalid
    from numbaglm.faces.cli.inputs import by_side
    from numbaglm.results.bids.results import kept_results
    from numbaglm.results.report import PAGE, write_reports
    from numbaglm.results.reporting.words import counted, names_of
    from numbaglm.results.result import PermutationResult

    above = Path(folder).expanduser()
    places = kept_results(above)
    look = {"background": by_side(background), "surface": by_side(surface), "atlas": by_side(atlas)}
    if len(places) < 2:
        result = PermutationResult.load(places[0] if places else above)
        written = result.report(output or above / PAGE, overwrite, **look)
        terminal.outcome({"output": str(written)}, f"The report is {written}; open it in a browser.")
        return
    if output is not None:
        allowed = f"no file where {folder} holds {len(places)} results: each has a report beside it"
        raise InputError(invalid("output", output, allowed, f"Or name one of {', '.join(map(str, places))}."))
    results = [PermutationResult.load(place) for place in places]
    index, *pages = write_reports(results, places, above, overwrite, **look)
    told = {"output": str(index), "contrasts": dict(zip(names_of(results), map(str, pages), strict=True))}
    terminal.outcome(told, f"The reports of {counted(results)} are listed in {index}; open it in a browser.")


def _show_cohort(terminal: Terminal, cohort: Any) -> None:
    from numbaglm.engine.memory import free_memory, n_cores

    room, cores = free_memory(), n_cores()
    facts = {**cohort.info(), "memory_here": {"bytes": room.n_bytes, "source": room.source}, "cores_here": cores}
    nouns, where = cohort.store.space.nouns, facts.get("space")
    if where is None:
        grid = " x ".join(str(length) for length in facts["grid"])
        where = f"a grid of {grid}, each {' x '.join(f'{size:g}' for size in facts['voxel_sizes_mm'])} mm"
    fwhm = facts["smoothing_fwhm"]
    share = facts["min_coverage"]
    given = "as given" if facts["mask_rule"] == "given" else ""
    held = f"the {nouns} that at least {share:.3g} of the maps hold" if share < 1 else ""
    lines = {
        "subjects": f"{facts['n_subjects']:,}",
        nouns: f"{facts['n_voxels']:,} of {where}",
        "smoothing": "none" if fwhm is None else f"{fwhm} mm",
        "mask": ", ".join(filter(None, (given, held))) or f"the {nouns} that all maps hold",
        "covariates": ", ".join(facts["covariates"]) or "none",
        "on disk": f"{facts['bytes_on_disk'] / 1e6:,.1f} MB",
        "fingerprint": facts["fingerprint"],
        "here": f"{room.n_bytes / 1e6:,.0f} MB of memory are left by {room.source}, and {cores} core(s)",
    }
    # What the conversion has just told need not be told twice.
    news = [sentence for sentence in facts["report"] if sentence not in terminal.said]
    text = [facts["location"], *(f"  {name:12s}{value}" for name, value in lines.items()), *news]
    terminal.outcome(facts, "\n".join(text))
