"""The command line: commands of all faces in one program. No face knows another; here they are put together."""

from __future__ import annotations

import io
import signal
import sys
from functools import partial

import click

from numbaglm.faces.program import Later, Program
from numbaglm.faces.signals import Signals
from numbaglm.version import __version__

COMMANDS = {
    "3dMVM": "Test the terms of a model as AFNI's 3dMVM does, from its -dataTable; NIfTI comes out.",
    "3dttest++": "Test sets of maps as AFNI's 3dttest++ does: its flags, its data sets, its labels; NIfTI comes out.",
    "append": "Add subjects to a cohort, which is written anew beside its old data.",
    "beyond": "Say how much of an effect there is, how large it is and where it is absent.",
    "completion": "Print the script that makes a shell complete what is typed.",
    "convert": "Convert maps to a cohort: checked, smoothed and masked once, read many times.",
    "demo": "Run a whole group analysis, from maps to corrected p and figures.",
    "fit": "Fit the parametric model, and write statistic, z, p, effect and variance of a contrast.",
    "glmfit": "Fit and test as FreeSurfer's mri_glmfit does: its flags, its files, its names of outputs.",
    "glmfit-sim": "Permute what mri_glmfit, or 'numbaglm glmfit', has fitted: the flags of FreeSurfer's "
    "mri_glmfit-sim.",
    "info": "Tell what is in a cohort, or in the folder of a result or of a fit; and how far the run in a --store is.",
    "palm": "Run as PALM does: its flags, its files, its names of outputs.",
    "permute": "Test contrasts by shuffling, with p corrected for family-wise error.",
    "power": "Say how often a study of other numbers of subjects would find an effect.",
    "quality": "Look at every map: what it holds, and whether it stands out from the others.",
    "randomise": "Run as FSL's randomise does: its flags, its files, its names of outputs.",
    "report": "Write a saved result onto one HTML page: maps to click through, tables, a methods paragraph.",
    "spm": "Test the contrasts of a second-level SPM.mat by shuffling, with p corrected for family-wise error.",
    "verify": "Read a whole cohort again and compare it with its hashes.",
}
"""What the program's help says of each command, as the command itself does: to show it, none is loaded."""


def load(name: str) -> click.Command:
    """Load a command, and no face but its own."""
    found: click.Command
    match name:
        case "3dMVM":
            from numbaglm.faces.afni.command import mvm as found
        case "3dttest++":
            from numbaglm.faces.afni.command import ttest as found
        case "glmfit":
            from numbaglm.faces.glmfit.command import glmfit as found
        case "glmfit-sim":
            from numbaglm.faces.glmfit.command import glmfit_sim as found
        case "palm":
            from numbaglm.faces.palm.command import palm as found
        case "randomise":
            from numbaglm.faces.fsl.command import randomise as found
        case "spm":
            from numbaglm.faces.spm.command import spm as found
        case _:
            from numbaglm.faces.cli.main import commands as of_cli

            found = of_cli.commands[name]
    return found


commands = Program(
    "numbaglm",
    commands=[Later(name, text, partial(load, name)) for name, text in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Group-level fMRI/VBM inference that is exact, fast and bigger than RAM.",
    epilog="'numbaglm COMMAND --help' shows examples; 'numbaglm completion --help' how the shell completes commands. "
    "Exit codes: 0 for done, 1 for what can't be done, 2 for what was typed wrong, 130 after Ctrl-C.",
)
click.version_option(__version__, prog_name="numbaglm")(commands)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a letter that the terminal has not is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with Signals() as signals:
            commands(prog_name="numbaglm", obj=signals)  # see Terminal.alone
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: threads that end would only show a traceback
