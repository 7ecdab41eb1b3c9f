"""`numbaglm palm`: the command line of PALM, so that a script runs with one word changed.

`numbaglm.faces.palm.request` and what follows it do the work, and are imported when it runs.
"""

from __future__ import annotations

from typing import Any

import click

from numbaglm.faces.palm.flags import FLAGS, REFUSED, Typed, read_words
from numbaglm.faces.shell import Terminal, examples, habits


class _AsTyped(click.Command):
    """A command whose words are read as PALM reads them: flags of one dash, with any number of words behind them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the words as they are; declared options are for help, completion and messages."""
        if not args or {"--help", "-help", "-h"} & set(args):
            return super().parse_args(ctx, ["--help"])
        try:
            ctx.params = {"typed": read_words(args)}
        except click.UsageError as error:  # it tells the command's usage as well
            error.ctx = ctx
            raise
        return []


def _declared() -> list[click.Parameter]:
    return [
        click.Option(
            [flag.name, flag.parameter or flag.name.replace("-", "_").lower() + "_flag"],
            is_flag=not flag.metavar,
            metavar=flag.metavar or None,
            multiple=flag.several,
            help=flag.text,
        )
        for flag in FLAGS.values()
    ]


@click.command(
    cls=_AsTyped,
    params=_declared(),
    epilog=f"Refused are {', '.join(REFUSED)}.\n\n"
    + examples(
        "numbaglm palm -i maps.nii.gz -m mask.nii.gz -d design.mat -t design.con -n 5000 -C 3.1 -T -logp -o out",
        "numbaglm palm -i thickness.mgz -s lh.white -d design.csv -t contrasts.csv -T -tfce2D -twotail -o lh",
        "numbaglm palm -i gm.nii -i fa.nii -m mask.nii -d design.csv -t contrasts.csv -npc -corrcon -fdr -o joint",
    ),
)
def palm(typed: Typed) -> None:
    """Run as PALM does: its flags, its files, its names of outputs.

    Writes PREFIX_vox_tstat, PREFIX_vox_tstat_uncp, PREFIX_vox_tstat_fwep and so on, in the format of the input; with
    _m1, _d1 and _c1 where there are several inputs, designs or contrasts. Where nothing was tested p is 1 (PALM
    writes 0). Outputs of an earlier run are overwritten. What is not supported is refused by name.
    """
    _run(
        as_json="--json" in typed,
        quiet="-quiet" in typed or "--quiet" in typed,
        verbose="--verbose" in typed,
        typed=typed,
    )


@habits
def _run(terminal: Terminal, **options: Any) -> None:
    with terminal.loading():
        from numbaglm.faces.palm.request import Request
        from numbaglm.faces.palm.run import run_request

    terminal.outcome(*run_request(Request.parse(options["typed"]), terminal.progress))
