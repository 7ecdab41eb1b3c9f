"""Options of the command line on BIDS datasets and folders of SPM: where maps come from, how results are named."""

from __future__ import annotations

from collections.abc import Callable

import click

from numbaglm.faces.shell import PATH, Command, grouped

# Option -> the entity in a file's name that it picks.
ENTITY_OF = {
    "first_level_contrast": "contrast",
    "stat": "stat",
    "task": "task",
    "space": "space",
    "session": "ses",
    "run": "run",
}

BIDS = click.option(
    "--bids", is_flag=True, help="Write a BIDS derivatives dataset: its names, JSON sidecars, data dictionaries."
)


def bids_inputs(*contrast: str) -> Callable[[Command], Command]:
    """Options that find MAPS in a BIDS dataset; ``contrast`` are more names of the option on the contrast."""
    return grouped(
        click.option(
            "--bids-dir",
            type=PATH,
            metavar="DERIVATIVES",
            help="BIDS derivatives dataset to take the maps from, in the place of MAPS, and covariates from its "
            "participants.tsv. The options that follow must leave one map a subject.",
        ),
        click.option(
            "--first-level-contrast",
            *contrast,
            "first_level_contrast",
            multiple=True,
            metavar="LABEL",
            help="With --bids-dir: contrast of the subjects' maps, as in contrast-LABEL.",
        ),
        click.option(
            "--stat", multiple=True, metavar="LABEL", help="With --bids-dir: effect, t, z, ...  [default: effect]"
        ),
        *(
            click.option(f"--{name}", multiple=True, metavar="LABEL", help=f"With --bids-dir: {name} of the maps.")
            for name in ("task", "space", "session", "run")
        ),
        click.option(
            "--entity",
            "entities",
            multiple=True,
            metavar="KEY=LABEL",
            help="With --bids-dir: any entity of the names, such as desc=smooth, node=subjectLevel, or suffix=probseg "
            "for other maps than statmap; repeat it for more. 'run=' takes maps without a run.",
        ),
        click.option(
            "--spm-dir",
            type=PATH,
            metavar="FOLDER",
            help="Folder of SPM's first levels, a folder a subject, in the place of MAPS: add --con.",
        ),
        click.option(
            "--con", type=click.IntRange(1, 9999), metavar="N", help="With --spm-dir: number of the contrast, con_000N."
        ),
        click.option(
            "--spm-folder",
            metavar="NAME",
            help="With --spm-dir: folder inside each subject's that holds it, such as stats/nback.  [default: any]",
        ),
        click.option(
            "--leave-out",
            multiple=True,
            metavar="SUBJECT",
            help="A subject whose maps are not taken; repeat it for more.",
        ),
    )
