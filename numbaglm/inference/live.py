"""A test as far as it is, shown in a notebook while it runs: `permutation_test(stop="decided", progress=True)`."""

from __future__ import annotations

import base64
from dataclasses import replace
from html import escape

from numbaglm.engine import progress
from numbaglm.engine.permutation.records import RunResult, Spec
from numbaglm.inference.assembly import Tests, assemble
from numbaglm.inference.stopping import Stopped
from numbaglm.results.result import PermutationResult


def show(tests: Tests, spec: Spec, raw: RunResult, ended: Stopped) -> None:
    """Show the maps of corrected p and the table of clusters of a contrast, where a notebook has room for them.

    Parameters
    ----------
    tests
        Of the cohort.
    spec, raw, ended
        The contrast, as it would be had it been stopped now.
    """
    if not progress.has_room():
        return
    name = spec.hypothesis.contrast.name
    one = replace(tests, names=[name], outcomes=[(spec, raw)], calibrations=[], ends=[ended.as_kept()])
    result = assemble([one], joint=False, p_interval=None)[0][0]
    progress.show(in_html(result, ended))


def in_html(result: PermutationResult, ended: Stopped) -> str:
    """Write how far a contrast is, with its maps and its table."""
    from numbaglm.display.canvas import render  # matplotlib takes longer to load than a round may take
    from numbaglm.results.reporting import figures

    goes_on = ended.n_open and ended.n_random < ended.n_perm
    state = f"{ended.n_open:,} corrected p open, goes on" if goes_on else "ended"
    head = f"{result.asked.contrast}: {ended.n_random:,} of {ended.n_perm:,} random shufflings, {state}"
    shown = ""
    if figures.can_draw(result.space):
        png = base64.b64encode(render(figures.corrected(result), "png")).decode("ascii")
        alt = f"Corrected p after {ended.n_random:,} random shufflings."
        shown = f'<img src="data:image/png;base64,{png}" alt="{alt}" style="max-width: 100%">'
    return f"<p><b>{escape(head)}</b></p>{shown}{result._repr_html_()}"
